//! A stop in every state ends within its limit, and the next start finishes the work.

use std::time::Duration;

use tokio::sync::oneshot;

use super::clock::{until, until_passing};
use super::harness::{Harness, page};
use super::script::Trouble;
use crate::actors::supervisor::stop;
use crate::control::Command;

/// A stop for which nothing has to be waited.
const AT_ONCE: Duration = Duration::from_millis(500);

#[tokio::test]
async fn an_idle_daemon_stops_at_once() {
    let mut harness = Harness::with_links(2).await;
    assert!(harness.stop().await <= AT_ONCE);
    harness.boot().await;
    assert!(harness.is_complete(), "nothing is owed after a start");
    harness.change(0, "Changed").await;
    harness.until_complete().await;
}

#[tokio::test]
async fn a_daemon_that_stops_within_a_debounce_reads_after_the_next_start() {
    let mut harness = Harness::with_links(2).await;
    harness.change(0, "Changed").await;
    assert!(harness.stop().await <= AT_ONCE);
    harness.boot().await;
    assert!(!harness.is_complete());
    harness.until_complete().await;
}

#[tokio::test]
async fn a_stop_waits_for_a_read_no_longer_than_its_limit() {
    let mut harness = Harness::with_links(2).await;
    let reads = harness.graph.count("read");
    harness.graph.trouble("read", Trouble::Hangs);
    harness.change(0, "Changed").await;
    until_passing("the read is under way", || harness.graph.count("read") > reads).await;
    let took = harness.stop().await;
    assert!(took > AT_ONCE && took <= stop::DRAIN, "{took:?}");
    harness.boot().await;
    harness.until_complete().await;
}

/// A poll finds that the object is gone, and stages when the dispatcher has stopped already.
#[tokio::test]
async fn what_is_staged_during_a_stop_is_written_before_it_ends() {
    let mut harness = Harness::with_links(1).await;
    harness.reload(harness.config("poll_interval = \"30s\"\ndebounce = \"2s\"")).await.unwrap();
    harness.spaces.tamper(&harness.key(0).object_key(), None);
    harness.spaces.hold();
    let compared = harness.requests("head");
    until_passing("the object is compared", || harness.requests("head") > compared).await;
    let (reply, ended) = oneshot::channel();
    harness.context().command(Command::Stop(reply)).await.unwrap();
    until("no work begins any more", || harness.context().is_stopping()).await;
    harness.spaces.release();
    assert!(harness.stopped(ended).await <= AT_ONCE);
    assert_eq!(harness.written(0).as_deref(), Some("Page 0"));
    harness.boot().await;
    harness.until_complete().await;
    assert_eq!(harness.puts(), 2, "nothing was left for the next start");
}

#[tokio::test]
async fn a_stop_waits_for_a_put_no_longer_than_its_limit() {
    let mut harness = Harness::with_links(2).await;
    harness.spaces.hold();
    harness.change(0, "Changed").await;
    until_passing("the put is under way", || harness.puts() == 3).await;
    let took = harness.stop().await;
    assert!(took > AT_ONCE && took <= stop::DRAIN, "{took:?}");
    harness.boot().await;
    assert_eq!(harness.store().counts().await.unwrap().outbox, 1);
    harness.spaces.release();
    harness.until_complete().await;
}

#[tokio::test]
async fn a_put_that_ends_within_the_limit_is_complete_before_the_stop_ends() {
    let mut harness = Harness::with_links(1).await;
    harness.spaces.hold();
    harness.change(0, "Changed").await;
    until_passing("the put is under way", || harness.puts() == 2).await;
    let (reply, ended) = oneshot::channel();
    harness.context().command(Command::Stop(reply)).await.unwrap();
    until("no work begins any more", || harness.context().is_stopping()).await;
    harness.spaces.release();
    assert!(harness.stopped(ended).await <= AT_ONCE);
    assert_eq!(harness.written(0).as_deref(), Some("Changed"));
    harness.boot().await;
    harness.until_complete().await;
    assert_eq!(harness.puts(), 2, "nothing was left for the next start");
}

#[tokio::test]
async fn a_daemon_that_stops_within_a_cleanup_does_it_after_the_next_start() {
    let mut harness = Harness::with_links(1).await;
    until("the page is subscribed", || harness.graph.is_subscribed(&page(0))).await;
    harness.graph.trouble("unsubscribe", Trouble::Hangs);
    harness.unlink(0).await;
    until_passing("the cleanup is under way", || harness.graph.count("unsubscribe") == 1).await;
    assert!(harness.stop().await <= stop::DRAIN);
    harness.boot().await;
    harness.until_complete().await;
    assert!(!harness.graph.is_subscribed(&page(0)));
}

#[tokio::test]
async fn a_daemon_that_stops_with_an_event_under_way_sends_it_after_the_next_start() {
    let mut harness = Harness::with_links(1).await;
    harness.events.trouble(Trouble::Hangs);
    harness.change(0, "Changed").await;
    until_passing("the event is under way", || harness.events.attempts().len() == 3).await;
    assert!(harness.stop().await <= stop::DRAIN);
    harness.boot().await;
    harness.until_complete().await;
    let attempts = harness.events.attempts();
    assert_eq!(attempts[2], attempts[3], "the same event comes again");
    assert_eq!(harness.later_events(0), ["page.updated"]);
}
