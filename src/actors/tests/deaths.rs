//! Each actor dies in the midst of its work, comes back, and nothing is lost.

use std::time::Duration;

use super::clock::{pass, passing, until, until_passing};
use super::harness::{Harness, page};
use super::script::Trouble;
use crate::control::{Drill, Target};
use crate::core::model::Cause;

#[tokio::test]
async fn a_page_that_dies_in_a_read_comes_back_and_reads() {
    let harness = Harness::with_links(2).await;
    harness.graph.trouble("read", Trouble::Hangs);
    let reads = harness.graph.count_of("read", &page(0));
    harness.change(0, "Changed").await;
    until_passing("the read is under way", || harness.graph.count_of("read", &page(0)) > reads).await;
    harness.drill(Target::Page(harness.key(0)), "page").await;
    assert!(harness.context().pages.find(&harness.key(0)).is_none(), "a page that is dead says nothing of itself");
    // Its neighbour goes on meanwhile.
    harness.change(1, "Neighbour").await;
    harness.until_complete().await;
    assert_eq!(harness.later_events(0), ["page.updated"]);
}

#[tokio::test]
async fn a_page_that_dies_in_its_debounce_or_dead_is_marked_reads() {
    let harness = Harness::with_links(1).await;
    harness.change(0, "Debounced").await;
    harness.drill(Target::Page(harness.key(0)), "page").await;
    harness.until_complete().await;
    harness.drill(Target::Page(harness.key(0)), "page").await;
    harness.change(0, "Marked while it was dead").await;
    harness.until_complete().await;
    assert_eq!(harness.written(0).as_deref(), Some("Marked while it was dead"));
}

#[tokio::test]
async fn a_page_that_is_unlinked_while_it_is_dead_does_not_come_back() {
    let harness = Harness::with_links(1).await;
    harness.drill(Target::Page(harness.key(0)), "page").await;
    harness.unlink(0).await;
    harness.until_complete().await;
    pass(Duration::from_secs(600)).await;
    assert_eq!((harness.context().pages.count(), harness.spaces.objects().len()), (0, 0));
}

#[tokio::test]
async fn an_uploader_that_dies_in_a_write_is_followed_by_one_that_waits_for_it() {
    let harness = Harness::with_links(2).await;
    harness.spaces.hold();
    let before = harness.puts();
    harness.change(0, "Held").await;
    until_passing("the write is under way", || harness.puts() > before).await;
    harness.drill(Target::Uploader, "uploader").await;
    harness.change(1, "Owed").await;
    until_passing("the successor writes", || harness.puts() > before + 1).await;
    pass(Duration::from_secs(5)).await;
    harness.spaces.release();
    harness.until_complete().await;
    assert_eq!(harness.spaces.most_puts_at_once(), 1);
}

#[tokio::test]
async fn a_dispatcher_that_dies_loses_no_change() {
    let harness = Harness::with_links(3).await;
    let drilled = harness.drill(Target::Dispatcher, "dispatcher");
    let changes = async {
        harness.change(0, "While the dispatcher dies").await;
        harness.unlink(1).await;
        harness.link(&[7]).await;
    };
    tokio::join!(drilled, changes);
    harness.until_complete().await;
    harness.change(0, "Afterwards").await;
    harness.until_complete().await;
    assert_eq!(harness.written(7).as_deref(), Some("Page 7"));
    assert_eq!(harness.later_events(1), ["page.unlinked"]);
    assert!(!harness.graph.is_subscribed(&page(1)));
}

/// A change that a dispatcher took before it died, and did not pass on.
#[tokio::test]
async fn what_a_dispatcher_took_with_it_is_found_in_the_store() {
    let harness = Harness::with_links(1).await;
    harness.drill(Target::Dispatcher, "dispatcher").await;
    harness.change(0, "Taken by nobody").await;
    let batch = harness.store().feed().next().await;
    assert_eq!(batch.links[&harness.key(0)].causes, [Cause::Webhook]);
    assert!(!batch.reset);
    harness.until_complete().await;
}

#[tokio::test]
async fn a_subscriptions_actor_that_dies_in_a_look_is_followed_by_one_that_looks() {
    let harness = Harness::with_links(1).await;
    until("the app is subscribed", || harness.graph.topics() == ["page", "permissions"]).await;
    harness.graph.drop_topics();
    harness.graph.trouble("app", Trouble::Hangs);
    let looks = harness.graph.count("app");
    harness.link(&[1]).await;
    until_passing("a look is under way", || harness.graph.count("app") > looks).await;
    harness.drill(Target::Subscriptions, "subscriptions").await;
    until_passing("the app is subscribed again", || harness.graph.topics() == ["page", "permissions"]).await;
    harness.until_complete().await;
}

#[tokio::test]
async fn a_cleanups_actor_that_dies_in_a_cleanup_is_followed_by_one_that_does_it() {
    let harness = Harness::with_links(1).await;
    until("the page is subscribed", || harness.graph.is_subscribed(&page(0))).await;
    harness.graph.trouble("unsubscribe", Trouble::Hangs);
    harness.unlink(0).await;
    until_passing("the cleanup is under way", || harness.graph.count("unsubscribe") == 1).await;
    harness.drill(Target::Cleanups, "cleanups").await;
    harness.until_complete().await;
    assert!(!harness.graph.is_subscribed(&page(0)));
    assert!(harness.graph.count("unsubscribe") > 1);
}

#[tokio::test]
async fn a_notifier_that_dies_with_an_event_under_way_is_followed_by_one_that_sends_it() {
    let harness = Harness::with_links(1).await;
    harness.events.trouble(Trouble::Hangs);
    harness.change(0, "Changed").await;
    until_passing("the event is under way", || harness.events.attempts().len() == 3).await;
    harness.drill(Target::Notifier, "notifier").await;
    harness.until_complete().await;
    assert_eq!(harness.later_events(0), ["page.updated"]);
    let attempts = harness.events.attempts();
    assert_eq!(attempts[2], attempts[3], "the same event comes again");
}

#[tokio::test]
async fn a_listener_that_dies_refuses_nobody() {
    let harness = Harness::start().await;
    let serves = async || harness.is_healthy().await && harness.answers_operators().await;
    for target in [Target::Listener, Target::AdminListener, Target::AdminTcpListener] {
        assert!(serves().await);
        harness.drill(target, "listener").await;
        assert!(passing(serves()).await, "a caller waits for the successor");
    }
    assert_eq!(harness.restarts("listener"), 3);
}

#[tokio::test]
async fn all_actors_at_once_die_and_come_back() {
    let harness = Harness::with_links(4).await;
    for n in 0..4 {
        harness.change(n, &format!("Round {n}")).await;
    }
    let singles = [
        (Target::Dispatcher, "dispatcher"),
        (Target::Uploader, "uploader"),
        (Target::Notifier, "notifier"),
        (Target::Subscriptions, "subscriptions"),
        (Target::Cleanups, "cleanups"),
        (Target::Certificates, "certificates"),
        (Target::Listener, "listener"),
    ];
    let pages = (0..4).map(|n| (Target::Page(harness.key(n)), "page"));
    let drills = singles.into_iter().chain(pages).map(|(target, word)| harness.drill(target, word));
    futures_util::future::join_all(drills).await;
    until("all are dead", || harness.restarts("page") == 4).await;
    harness.until_complete().await;
    assert!(harness.is_healthy().await);
    assert_eq!(harness.given_up(), None);
    assert_eq!(harness.spaces.most_puts_at_once(), 1);
}

#[tokio::test]
async fn an_actor_that_dies_again_and_again_ends_the_process_and_a_page_does_not() {
    let harness = Harness::with_links(1).await;
    for _ in 0..8 {
        harness.drill(Target::Page(harness.key(0)), "page").await;
        until_passing("the page is back", || harness.context().pages.find(&harness.key(0)).is_some()).await;
    }
    for died in 1..=5 {
        harness.drill(Target::Notifier, "notifier").await;
        assert_eq!(harness.given_up(), None, "after {died} deaths");
        // The successor may need a while.
        pass(Duration::from_secs(40)).await;
    }
    harness.context().command(crate::control::Command::Drill(Target::Notifier, Drill::Panic)).await.unwrap();
    until("the process is to end", || harness.given_up().is_some_and(|reason| reason.contains("notifier"))).await;
}
