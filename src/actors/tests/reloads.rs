//! A reload reaches the pages.

use std::time::Duration;

use super::clock::{pass, until_passing};
use super::harness::{Harness, page};
use crate::context::Setup;
use crate::core::model::MonoTime;

#[tokio::test]
async fn a_reload_times_the_pages_anew() {
    let harness = Harness::with_links(2).await;
    // The checks of new tokens are over.
    pass(Duration::from_secs(120)).await;
    let reads = || (harness.graph.count_of("read", &page(0)), harness.graph.count_of("read", &page(1)));
    let before = reads();
    pass(Duration::from_secs(60)).await;
    assert_eq!(reads(), before, "no poll is due");
    harness.reload(harness.config("poll_interval = \"30s\"\ndebounce = \"2s\"")).await.unwrap();
    let soon = MonoTime::now().plus(Duration::from_secs(31));
    until_passing("each page has another poll time", || {
        let next = |n| harness.context().pages.find(&harness.key(n)).and_then(|status| status.next_poll_at);
        [0, 1].into_iter().all(|n| next(n).is_some_and(|at| at <= soon))
    })
    .await;
    until_passing("each page is polled", || reads().0 > before.0 && reads().1 > before.1).await;
    assert!(MonoTime::now() <= soon);
    harness.until_complete().await;
}

#[tokio::test]
async fn a_reload_ends_a_debounce_under_way_by_the_new_settings() {
    let harness = Harness::with_links(1).await;
    harness.change(0, "Changed").await;
    harness.reload(harness.config("poll_interval = \"24h\"\ndebounce = \"10m\"")).await.unwrap();
    harness.until_complete().await;
    harness.change(0, "Changed again").await;
    pass(Duration::from_secs(9 * 60)).await;
    assert!(!harness.is_complete());
    harness.until_complete().await;
}

#[tokio::test]
async fn a_reload_that_is_refused_changes_nothing() {
    let harness = Harness::with_links(1).await;
    let mut config = harness.config("poll_interval = \"30s\"\ndebounce = \"2s\"");
    config.store.path = "/elsewhere".into();
    let before = harness.context().pages.find(&harness.key(0)).and_then(|status| status.next_poll_at);
    let error = harness.reload(config).await.unwrap_err();
    assert!(error.contains("store.path"), "{error}");
    harness.change(0, "Changed").await;
    harness.until_complete().await;
    let after = harness.context().pages.find(&harness.key(0)).and_then(|status| status.next_poll_at);
    assert_eq!((before, harness.context().reload_error()), (after, Some(error)));
}

/// The clients are made before it is known that everything else can be put in force, too.
#[tokio::test]
async fn the_limit_of_calls_changes_when_its_setup_is_put_in_force() {
    let harness = Harness::with_links(1).await;
    let context = harness.context();
    let before = context.gate.status().max_in_flight;
    let mut config = harness.usual_config();
    config.facebook.max_in_flight = before + 3;
    let setup = Setup::build(config, &context.gate, &context.metrics).unwrap();
    assert_eq!(context.gate.status().max_in_flight, before);
    context.set_setup(setup);
    assert_eq!(context.gate.status().max_in_flight, before + 3);
}
