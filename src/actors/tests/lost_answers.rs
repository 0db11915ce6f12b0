//! What was done and not answered is done again, and ends complete.

use std::time::Duration;

use super::clock::until_passing;
use super::harness::{Harness, page};
use super::script::Trouble;
use crate::core::model::MonoTime;

#[tokio::test]
async fn a_put_whose_answer_is_lost_is_repeated() {
    let harness = Harness::with_links(1).await;
    let before = harness.puts();
    harness.spaces.lose_next_answer("put");
    harness.change(0, "Changed").await;
    harness.until_complete().await;
    assert!(harness.puts() >= before + 2);
    assert_eq!(harness.later_events(0), ["page.updated"]);
}

/// The first put may still land after the delete. A cleanup deletes the object again when it must have.
#[tokio::test]
async fn a_put_without_an_answer_that_lands_after_the_delete_is_deleted_again() {
    let harness = Harness::with_links(1).await;
    harness.spaces.lose_next_answer("put");
    harness.change(0, "Late").await;
    until_passing("the put is lost", || harness.written(0).as_deref() == Some("Late")).await;
    let late = harness.spaces.object(&harness.key(0).object_key());
    harness.unlink(0).await;
    until_passing("the object is deleted", || harness.spaces.objects().is_empty()).await;
    harness.spaces.tamper(&harness.key(0).object_key(), late);
    harness.until_complete().await;
}

#[tokio::test]
async fn a_comparison_whose_answer_is_lost_is_made_again_and_holds_up_no_change() {
    let harness = Harness::with_links(1).await;
    harness.reload(harness.config("poll_interval = \"1h\"\ndebounce = \"2s\"")).await.unwrap();
    harness.spaces.lose_next_answer("head");
    let before = harness.requests("head");
    until_passing("the comparison is lost", || harness.requests("head") > before).await;
    let lost_at = MonoTime::now();
    harness.change(0, "Changed").await;
    harness.until_complete().await;
    assert!(MonoTime::now() < lost_at.plus(Duration::from_secs(30)), "the change waited for the comparison");
    until_passing("the comparison is made", || harness.requests("head") > before + 1).await;
    assert!(MonoTime::now() < lost_at.plus(Duration::from_secs(12 * 60)));
    harness.until_complete().await;
}

#[tokio::test]
async fn a_delete_whose_answer_is_lost_is_repeated() {
    let harness = Harness::with_links(2).await;
    harness.spaces.lose_next_answer("delete");
    harness.unlink(0).await;
    harness.until_complete().await;
    assert_eq!(harness.spaces.objects().len(), 1);
}

#[tokio::test]
async fn a_call_to_graph_whose_answer_is_lost_is_repeated() {
    let harness = Harness::start().await;
    for call in ["read", "subscribed", "subscribe", "app", "subscribe_app"] {
        harness.graph.trouble(call, Trouble::AnswerLost);
    }
    harness.link(&[0]).await;
    harness.until_complete().await;
    until_passing("the page is subscribed", || harness.graph.is_subscribed(&page(0))).await;
    until_passing("the app is subscribed", || harness.graph.topics() == ["page", "permissions"]).await;
    harness.graph.trouble("unsubscribe", Trouble::AnswerLost);
    harness.unlink(0).await;
    harness.until_complete().await;
    assert!(!harness.graph.is_subscribed(&page(0)));
}

#[tokio::test]
async fn a_read_that_is_never_answered_is_repeated() {
    let harness = Harness::with_links(1).await;
    harness.graph.trouble("read", Trouble::Hangs);
    harness.change(0, "Changed").await;
    harness.until_complete().await;
    assert_eq!(harness.written(0).as_deref(), Some("Changed"));
}

#[tokio::test]
async fn an_event_whose_answer_is_lost_comes_again_with_its_id() {
    let harness = Harness::with_links(1).await;
    harness.events.trouble(Trouble::AnswerLost);
    harness.change(0, "Changed").await;
    harness.until_complete().await;
    let attempts = harness.events.attempts();
    assert_eq!(attempts.len(), 4);
    assert_eq!(attempts[2], attempts[3]);
    assert_eq!(harness.later_events(0), ["page.updated"]);
}
