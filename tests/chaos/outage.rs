//! Back from every outage by itself: one thing that the daemon lives on is gone for a while, three hundred links owe
//! something meanwhile, and when it is back all of it is caught up without a restart, without a herd and without a
//! flood in the log.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use pagesyncd::sandbox::World;
use pagesyncd::sandbox::fault::{Fault, Side};
use tokio::sync::broadcast::error::RecvError;

use crate::fixture::{Fixture, within};
use crate::senders::{Book, client};
use crate::wish;

const LINKS: usize = 300;
const PER_DELIVERY: usize = 10;
/// Longer than the longest wait that an outage of less than a minute leads to.
const CATCH_UP: Duration = Duration::from_secs(120);
/// Requests to one side within any second, once it is back: each page twice. All are announced again in that moment,
/// and how many of them fall into one second is the machine's affair; more would mean pages that ask over and over.
const HERD: u64 = 2 * LINKS as u64;
/// The same while it is gone: each page tries again by itself, the first time within the same second or two.
const HERD_MEANWHILE: u64 = 2 * LINKS as u64;
const LOG_LINES: usize = 200;

/// Counts the requests of each side by the second in which they were answered.
#[derive(Default)]
struct Pulse {
    busiest: BTreeMap<Side, Arc<AtomicU64>>,
    total: BTreeMap<Side, Arc<AtomicU64>>,
}

impl Pulse {
    fn feel(world: &World) -> Pulse {
        let mut pulse = Pulse::default();
        for side in [Side::Graph, Side::Spaces] {
            pulse.busiest.entry(side).or_default();
            pulse.total.entry(side).or_default();
        }
        let (busiest, total) = (pulse.busiest.clone(), pulse.total.clone());
        let mut events = world.events();
        tokio::spawn(async move {
            let mut seconds: BTreeMap<(Side, u64), u64> = BTreeMap::new();
            loop {
                let event = match events.recv().await {
                    Ok(event) => event,
                    // More than can be counted is a herd.
                    Err(RecvError::Lagged(_)) => {
                        busiest.values().for_each(|most| most.store(u64::MAX, Ordering::Relaxed));
                        continue;
                    }
                    Err(RecvError::Closed) => return,
                };
                let Some(call) = event.call else { continue };
                let side = if call.is_spaces() { Side::Spaces } else { Side::Graph };
                let count = seconds.entry((side, event.at.0 / 1000)).or_default();
                *count += 1;
                busiest[&side].fetch_max(*count, Ordering::Relaxed);
                total[&side].fetch_add(1, Ordering::Relaxed);
            }
        });
        pulse
    }

    /// The busiest second so far, and from here on anew.
    fn turn(&self) -> [u64; 2] {
        [Side::Graph, Side::Spaces].map(|side| self.busiest[&side].swap(0, Ordering::Relaxed))
    }

    fn total(&self, side: Side) -> u64 {
        self.total[&side].load(Ordering::Relaxed)
    }
}

enum Gone {
    Graph(Fault),
    Spaces(Fault),
    Disk,
}

fn switch(fixture: &Fixture, gone: &Gone, on: bool) {
    match gone {
        Gone::Graph(fault) | Gone::Spaces(fault) => fixture.world().set_fault(*fault, on),
        Gone::Disk if on => fixture.disk.as_ref().unwrap().fill(),
        Gone::Disk => fixture.disk.as_ref().unwrap().relieve(),
    }
}

async fn outage(name: &str, gone: Gone) {
    let mut fixture = Fixture::lay(LINKS, 0, 11, Vec::new()).await;
    if let (Gone::Disk, Err(reason)) = (&gone, &fixture.disk) {
        println!("outage of the disk: skipped, since the store has no disk of its own ({reason})");
        return;
    }
    let (pid, book, http) = (fixture.daemon.pid(), Book::of(&fixture), client());
    let pages = fixture.things();
    fixture.listen();
    let pulse = Pulse::feel(fixture.world());
    switch(&fixture, &gone, true);
    let began = Instant::now();
    let length = Duration::from_secs(wish("PAGESYNCD_CHAOS_OUTAGE_SECS").unwrap_or(20));
    // Each page changes once; who is refused comes again, as Meta does. The store's files have some room inside, so
    // that a full disk shows only after a while.
    while began.elapsed() < length {
        let refused = book.answers.unavailable.load(Ordering::Relaxed) > 0;
        let edited = book.promise(&pages[0]).edited > 0;
        if !edited || (matches!(gone, Gone::Disk) && !refused) {
            for part in pages.chunks(PER_DELIVERY) {
                let numbers = book.edit(part);
                book.tell(&http, part, &numbers).await;
            }
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        book.tell_again(&http).await;
    }
    let refused = book.answers.unavailable.load(Ordering::Relaxed);
    assert_eq!(refused > 0, matches!(gone, Gone::Disk), "{name}: {refused} deliveries were answered 503");
    let status = fixture.status().await.expect("the status is answered during an outage");
    let during = [pulse.total(Side::Graph), pulse.total(Side::Spaces)];
    let busy_meanwhile = pulse.turn();
    let heard = fixture.listen();
    switch(&fixture, &gone, false);
    let back = Instant::now();
    let acknowledged = within(CATCH_UP, async || {
        book.tell_again(&http).await;
        book.unacknowledged().is_empty()
    });
    assert!(acknowledged.await.is_some(), "{name}: the listener stays closed\n{}", fixture.account().await);
    let caught_up = within(CATCH_UP, async || fixture.untrue().is_empty() && fixture.at_rest().await).await;
    if caught_up.is_none() {
        panic!("{name}: {} links are behind\n{}", fixture.untrue().len(), fixture.account().await);
    }
    let busy = pulse.turn();
    let most = [Side::Graph, Side::Spaces].map(|side| fixture.world().most_under_way(side));
    println!(
        "outage of {name}: {}s, owed then {} reads and {} writes, requests meanwhile {during:?}, log lines {}, caught \
         up after {:.1}s, busiest second meanwhile {busy_meanwhile:?} and after {busy:?}, most at once {most:?} \
         (Graph, Spaces)",
        length.as_secs(),
        status["due"],
        status["outbox"],
        heard.lines,
        back.elapsed().as_secs_f64(),
    );
    assert_eq!(fixture.daemon.pid(), pid, "{name}: the daemon was restarted");
    assert!(heard.lines < LOG_LINES, "{name}: {} lines were logged", heard.lines);
    assert_eq!(heard.panics, Vec::<String>::new());
    assert!(busy_meanwhile.iter().all(|n| *n <= HERD_MEANWHILE), "{name}: a herd meanwhile: {busy_meanwhile:?}");
    assert!(busy.iter().all(|n| *n <= HERD), "{name}: a herd afterwards: {busy:?}");
    // Graph takes 32 at a time. Spaces takes 8 writes; pages that compare their objects ask beside them.
    assert!(most[0] <= 32 && most[1] <= 16, "{name}: {most:?} at once");
    assert_eq!(fixture.world().violations(), Vec::<String>::new());
    assert_eq!(fixture.daemon.stop().await, Some(0));
    fixture.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn graph_goes_and_comes_back() {
    outage("Graph", Gone::Graph(Fault::GraphReset)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn spaces_goes_and_comes_back() {
    outage("Spaces", Gone::Spaces(Fault::SpacesRefused)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_disk_fills_up_and_is_relieved() {
    outage("the disk", Gone::Disk).await;
}
