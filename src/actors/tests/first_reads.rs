//! Graph and Spaces are asked once for what one read and one write do: after an import, after a start, in a burst.

use std::time::Duration;

use super::clock::{moment, pass, until, until_passing};
use super::harness::{Harness, page, page_id};
use crate::core::link::schedule;
use crate::core::model::{Cause, MonoTime};
use crate::core::priority::Priority;

const DAY: Duration = Duration::from_secs(24 * 3600);

impl Harness {
    /// The pages whose slot does not come in a while, so that nothing but what is tested reads them.
    fn between_slots(&self, numbers: impl Iterator<Item = u64>) -> Vec<u64> {
        let (now, hour) = (MonoTime::now(), Duration::from_secs(3600));
        let slot = |n: u64| schedule::next_slot(schedule::offset(&self.key(n)), DAY, now);
        numbers.filter(|n| slot(*n) > now.plus(2 * hour)).collect()
    }
}

#[tokio::test]
async fn the_links_of_a_large_import_are_read_and_written_once() {
    let harness = Harness::start().await;
    // More than are read at once.
    let numbers = harness.between_slots(0..100);
    let count = numbers.len();
    assert!(count > 60);
    harness.link(&numbers).await;
    until_passing("all objects are written", || harness.puts() >= count).await;
    harness.until_complete().await;
    // Also when the checks of the tokens are over.
    pass(Duration::from_secs(120)).await;
    assert_eq!((harness.graph.count("read"), harness.puts()), (count, count));
    assert_eq!(harness.graph.count("subscribe"), count, "the subscription is seen to in the same go");
}

#[tokio::test]
async fn marks_that_a_start_finds_are_read_at_once_and_once() {
    let mut harness = Harness::start().await;
    let numbers = harness.between_slots(0..300);
    let count = numbers.len();
    harness.link(&numbers).await;
    harness.until_complete().await;
    harness.stop().await;
    let reads = harness.graph.count("read");
    numbers.iter().for_each(|n| harness.graph.rename(&page(*n), "Changed while it was down"));
    let store = super::harness::open_store(&harness.store_folder(), &harness.usual_config());
    let pages: Vec<_> = numbers.iter().map(|n| page_id(*n)).collect();
    store.mark_pages(&pages, Cause::Webhook).await.unwrap();
    store.close().await;
    drop(store);
    harness.boot().await;
    // While the clock stands, nothing that is spread begins.
    until("all marks are read", || harness.graph.count("read") >= reads + count).await;
    harness.until_complete().await;
    pass(Duration::from_secs(120)).await;
    assert_eq!((harness.graph.count("read"), harness.puts()), (reads + count, 2 * count));
}

/// With the usual settings: a debounce of two seconds, three reads in quick succession, then one a minute.
#[tokio::test]
async fn a_burst_of_deliveries_costs_three_reads_and_its_end_is_written_soon() {
    let harness = Harness::with_links(1).await;
    pass(Duration::from_secs(600)).await;
    let (reads, puts) = (harness.graph.count("read"), harness.puts());
    for n in 0..100 {
        harness.change(0, &format!("Change {n}")).await;
        pass(Duration::from_millis(100)).await;
    }
    let last = MonoTime::now();
    until_passing("the last change is written", || harness.written(0).as_deref() == Some("Change 99")).await;
    let late = MonoTime::now().since(last);
    assert!(late <= Duration::from_secs(10), "{late:?}");
    harness.until_complete().await;
    pass(Duration::from_secs(600)).await;
    let spent = (harness.graph.count("read") - reads, harness.puts() - puts);
    assert!(spent.0 <= 3 && spent.1 <= 3, "{spent:?}");
}

/// A page looks once for a delivery, when its debounce is over. Until then the mark absorbs what is repeated.
#[tokio::test]
async fn a_page_rests_until_the_debounce_of_a_delivery_is_over() {
    let harness = Harness::with_links(1).await;
    pass(Duration::from_secs(600)).await;
    harness.change(0, "Changed").await;
    moment().await;
    harness.change(0, "Changed again").await;
    let absorbs = || harness.store().absorbs(&[page(0).parse().unwrap()]);
    for _ in 0..20 {
        moment().await;
        assert!(absorbs());
    }
    until_passing("the page looks", || !absorbs()).await;
    harness.until_complete().await;
    assert_eq!(harness.written(0).as_deref(), Some("Changed again"));
}

/// While the source takes as many calls as it may, the reads behind them hold nothing: no claim, no task.
#[tokio::test]
async fn a_read_that_waits_for_its_turn_holds_no_claim() {
    let harness = Harness::with_links(3).await;
    harness.context().gate.set_max_in_flight(1);
    let turn = harness.context().gate.work().ask(Priority::Prompt, drop).ok().unwrap();
    for n in 0..3 {
        harness.change(n, "Changed").await;
    }
    until_passing("all wait", || harness.context().gate.status().waiting_prompt == 3).await;
    for n in 0..3 {
        let mark = harness.store().mark(&harness.key(n)).await.unwrap().expect("a mark stands");
        assert!(!mark.is_claimed);
    }
    // One that is gone gives its place up.
    harness.unlink(2).await;
    until("its place is free", || harness.context().gate.status().waiting_prompt == 2).await;
    drop(turn);
    harness.until_complete().await;
    assert_eq!(harness.written(0).as_deref(), Some("Changed"));
    assert_eq!(harness.context().gate.work().taken(), 0);
}

/// A poll lets everything go before it that somebody waits for, but not when its own page changed.
#[tokio::test]
async fn a_poll_that_waits_for_its_turn_goes_with_prompt_reads_once_its_page_changed() {
    let harness = Harness::with_links(1).await;
    // The checks of new tokens are over.
    pass(Duration::from_secs(120)).await;
    harness.reload(harness.config("poll_interval = \"60s\"\ndebounce = \"2s\"")).await.unwrap();
    let gate = &harness.context().gate;
    let waiting = || (gate.status().waiting_prompt, gate.status().waiting_background);
    gate.set_max_in_flight(1);
    let turn = gate.work().ask(Priority::Prompt, drop).ok().unwrap();
    until_passing("the poll waits", || waiting() == (0, 1)).await;
    let reads = harness.graph.count("read");
    harness.change(0, "Changed").await;
    until_passing("the read is prompt", || waiting() == (1, 0)).await;
    drop(turn);
    harness.until_complete().await;
    pass(Duration::from_secs(10)).await;
    assert_eq!((harness.written(0).as_deref(), harness.graph.count("read")), (Some("Changed"), reads + 1));
}

/// The disk may be busy for a few more, and Spaces is asked for no more than is allowed.
#[tokio::test]
async fn spaces_is_asked_for_as_many_writes_at_once_as_it_may_be() {
    let harness = Harness::with_links(20).await;
    let (before, allowed) = (harness.puts(), harness.context().writes.max());
    assert_eq!(allowed, 8);
    harness.spaces.hold();
    for n in 0..20 {
        harness.change(n, "Changed").await;
    }
    until_passing("as many as may be are under way", || harness.puts() == before + allowed).await;
    until("more are prepared", || harness.context().writes.waiting(Priority::Background) > 0).await;
    pass(Duration::from_secs(5)).await;
    assert_eq!(harness.puts(), before + allowed);
    harness.spaces.release();
    harness.until_complete().await;
    assert_eq!(harness.puts(), before + 20);
}
