//! The store cannot be looked at for a while: actors keep what they are asked, and nothing is lost.

use std::time::Duration;

use http::Method;

use super::clock::{pass, until_passing};
use super::harness::{Harness, page};
use crate::admin_client;
use crate::control::Target;
use crate::core::model::Cause;

const A_WHILE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn what_happens_to_a_page_while_the_store_refuses_looks_is_decided_afterwards() {
    let harness = Harness::with_links(3).await;
    harness.store().refuse_looks(true);
    harness.change(0, "Changed").await;
    harness.unlink(1).await;
    let before = harness.graph.count("read");
    pass(A_WHILE).await;
    assert_eq!((harness.graph.count("read"), harness.spaces.objects().len()), (before, 3));
    harness.store().refuse_looks(false);
    harness.until_complete().await;
    assert_eq!(harness.later_events(0), ["page.updated"]);
    assert_eq!((harness.written(1), harness.context().pages.count()), (None, 2));
}

#[tokio::test]
async fn a_read_that_ends_while_the_store_refuses_looks_is_heard_afterwards() {
    let harness = Harness::with_links(1).await;
    let store = harness.store().clone();
    let before = harness.graph.count("read");
    harness.graph.hook("read", move || store.refuse_looks(true));
    harness.change(0, "Changed").await;
    until_passing("the page is read", || harness.graph.count("read") > before).await;
    pass(A_WHILE).await;
    harness.store().refuse_looks(false);
    harness.until_complete().await;
    // The next change is read as well: the page does not take its read for one that is under way.
    harness.change(0, "Changed again").await;
    harness.until_complete().await;
    assert_eq!(harness.written(0).as_deref(), Some("Changed again"));
}

#[tokio::test]
async fn a_page_takes_its_new_token_when_the_store_can_be_looked_at() {
    let harness = Harness::with_links(1).await;
    let ticket = harness.store().ticket().await.unwrap();
    harness.store().refuse_looks(true);
    harness.relink(ticket, 0).await;
    pass(A_WHILE).await;
    harness.store().refuse_looks(false);
    harness.until_complete().await;
    harness.change(0, "Read with the new token").await;
    harness.until_complete().await;
    assert_eq!(harness.written(0).as_deref(), Some("Read with the new token"));
}

#[tokio::test]
async fn actors_that_begin_while_the_store_refuses_looks_take_over_afterwards() {
    let mut harness = Harness::with_links(3).await;
    harness.spaces.hold();
    harness.change(0, "Owed to Spaces").await;
    until_passing("the write is under way", || harness.requests("put") > 3).await;
    harness.unlink(1).await;
    harness.stop().await;
    harness.spaces.release();
    harness.boot_with(|store| store.refuse_looks(true)).await;
    pass(A_WHILE).await;
    assert_eq!(harness.context().pages.count(), 0);
    harness.store().refuse_looks(false);
    harness.until_complete().await;
    assert_eq!(harness.written(0).as_deref(), Some("Owed to Spaces"));
    assert_eq!((harness.written(1), harness.context().pages.count()), (None, 2));
}

#[tokio::test]
async fn actors_that_die_while_the_store_refuses_looks_come_back_to_their_work() {
    let harness = Harness::with_links(2).await;
    let actors = [
        (Target::Dispatcher, "dispatcher"),
        (Target::Uploader, "uploader"),
        (Target::Notifier, "notifier"),
        (Target::Cleanups, "cleanups"),
        (Target::Page(harness.key(0)), "page"),
    ];
    harness.store().refuse_looks(true);
    harness.change(0, "Changed").await;
    for (target, word) in actors {
        harness.drill(target, word).await;
    }
    pass(A_WHILE).await;
    harness.unlink(1).await;
    pass(A_WHILE).await;
    harness.store().refuse_looks(false);
    harness.until_complete().await;
    assert_eq!(harness.given_up(), None);
    assert_eq!((harness.written(0).as_deref(), harness.written(1)), (Some("Changed"), None));
    assert!(!harness.graph.is_subscribed(&page(1)));
}

#[tokio::test]
async fn operators_are_told_that_the_store_cannot_be_looked_at() {
    let harness = Harness::with_links(1).await;
    harness.store().refuse_looks(true);
    let socket = harness.admin_socket();
    let get = async |path: &str| {
        let (status, body) = admin_client::fetch(&socket, Method::GET, path, "").await.unwrap();
        (status.as_u16(), serde_json::from_slice::<serde_json::Value>(&body).unwrap_or_default())
    };
    let (status, shown) = get("/v1/status").await;
    assert_eq!((status, &shown["store"]["ok"], &shown["links"]), (200, &false.into(), &serde_json::Value::Null));
    assert_eq!((get("/v1/pages").await.0, get(&format!("/v1/pages/{}", page(0))).await.0), (503, 503));
    assert_eq!(get("/metrics").await.0, 200);
    assert_eq!(harness.store().mark_links(vec![harness.key(0)], Cause::Manual).await.unwrap().len(), 1);
}
