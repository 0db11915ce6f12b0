//! Soak: webhooks over keep-alive connections as fast as the real daemon takes them, and what that does to its memory
//! and its store.
//!
//! `PAGESYNCD_SOAK_DELIVERIES=4320000 cargo bench --bench soak` sends a day of fifty webhooks a second: so many
//! requests, each signed and naming one page. Every twentieth comes after an edit of its page, so that marks, staged
//! bodies and settles churn in the store, not marks alone: 216,000 edits in such a day, where the settings allow a
//! hundred pages 144,000 reads and writes (one a minute each).
//!
//! `PAGESYNCD_SOAK_MINUTES` ends it earlier; without either it lasts a minute. A line of CSV is printed every few
//! seconds (`PAGESYNCD_SOAK_EVERY_SECS`), and a verdict at the end: the sizes when a tenth was done and when all was,
//! the slope between, and what was lost. It fails when a delivery is refused, when an object is not true at the end, or
//! when memory or store grew by more than [`GROWTH`] and [`SLACK`] after the first tenth.
//!
//! With `PAGESYNCD_SOAK_CHURN=N` the store alone is driven instead, without a daemon: N cycles of mark, read, stage and
//! settle over three hundred links, eight at a time, and the sizes of its files as it goes.
#![allow(clippy::unwrap_used, missing_docs, dead_code, reason = "a bench shares the fixture of the fire tests")]

#[path = "../tests/chaos/catalogue.rs"]
mod catalogue;
#[path = "../tests/chaos/disk.rs"]
mod disk;
#[path = "../tests/chaos/fixture.rs"]
mod fixture;
#[path = "../tests/chaos/senders.rs"]
mod senders;
#[path = "../tests/chaos/things.rs"]
mod things;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use pagesyncd::core::model::{Cause, LinkKey, Secret, UserId};
use pagesyncd::store::persons::NewLink;
use pagesyncd::store::seal::Keyring;
use pagesyncd::store::{Left, Store};

use fixture::{Fixture, within};
use senders::{Book, client};
use things::Thing;

const PAGES: usize = 100;
const SENDERS: usize = 8;
const EDIT_EVERY: u64 = 20;
/// What memory and store may grow by after the first tenth, in percent of what they were then.
const GROWTH: u64 = 25;
/// And so many bytes beside that: the store makes room in pieces of megabytes, and so does an allocator.
const SLACK: u64 = 16 << 20;

fn wish(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// How far the senders are, and where they end.
struct Goal {
    deliveries: u64,
    begun: AtomicU64,
    sent: AtomicU64,
    over: AtomicBool,
}

impl Goal {
    /// The number of a delivery to make.
    fn take(&self) -> Option<u64> {
        let turn = self.begun.fetch_add(1, Ordering::Relaxed);
        (turn < self.deliveries && !self.over.load(Ordering::Relaxed)).then_some(turn)
    }

    fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

async fn send(book: Arc<Book>, things: Vec<Thing>, goal: Arc<Goal>) {
    let http = client();
    while let Some(turn) = goal.take() {
        // Seven is prime to the number of things, so that all have their turn; so has each with an edit.
        let thing = std::slice::from_ref(&things[(turn * 7 + turn / EDIT_EVERY) as usize % things.len()]);
        let numbers = if turn.is_multiple_of(EDIT_EVERY) { book.edit(thing) } else { vec![0] };
        if !book.tell(&http, thing, &numbers).await {
            goal.over.store(true, Ordering::Relaxed);
            panic!("a delivery was not acknowledged: {:?}", book.answers);
        }
        goal.sent.fetch_add(1, Ordering::Relaxed);
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Sample {
    deliveries: u64,
    resident: u64,
    store: u64,
}

fn sample(fixture: &Fixture, goal: &Goal) -> Sample {
    Sample { deliveries: goal.sent(), resident: fixture.resident(), store: fixture.store_bytes() }
}

/// Bytes for each million deliveries: the line through the samples that lies nearest to them.
fn slope(samples: &[Sample], of: impl Fn(&Sample) -> u64) -> f64 {
    let points: Vec<(f64, f64)> = samples.iter().map(|s| (s.deliveries as f64 / 1e6, of(s) as f64)).collect();
    let count = points.len() as f64;
    let (x, y) = points.iter().fold((0.0, 0.0), |(x, y), point| (x + point.0 / count, y + point.1 / count));
    let below: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    let above: f64 = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
    if below > 0.0 { above / below } else { 0.0 }
}

/// The links whose objects do not show what was acknowledged, or are not true.
fn lost(fixture: &Fixture, book: &Book) -> usize {
    let kept = |link: &&fixture::Link| fixture.shown(link) >= Some(book.promise(&link.thing).acknowledged);
    fixture.links.len() - fixture.links.iter().filter(kept).count() + fixture.untrue().len()
}

/// One change of one link, all the way through the store.
async fn cycle(store: &Store, link: &LinkKey, number: u64) {
    store.mark_pages(std::slice::from_ref(link.page().unwrap()), Cause::Webhook).await.unwrap();
    let Some(generation) = store.generation(link).await.unwrap() else { return };
    let Some(claim) = store.claim(link, generation).await.unwrap() else { return };
    let mut digest = [0; 32];
    digest[..8].copy_from_slice(&number.to_be_bytes());
    let body = format!("{{\"number\":{number},\"text\":\"{}\"}}", "x".repeat(1500));
    store.stage(claim, digest, body.into(), false).await.unwrap();
    if let Some(item) = store.outbox_item(link).await.unwrap() {
        store.complete(link, &item, Some(format!("{number:032x}")), Left::default()).await.unwrap();
    }
}

fn sizes(dir: &Path) -> String {
    let size = |name: &str| std::fs::metadata(dir.join(name)).map_or(0, |meta| meta.len());
    let blobs = std::fs::read_dir(dir.join("sled/blobs")).map_or(0, Iterator::count);
    format!("{},{},{blobs}", size("sled/db"), size("links.journal"))
}

async fn churn(cycles: u64) {
    const WORKERS: u64 = 8;
    const LINKS: u64 = 304;
    let dir = tempfile::tempdir().unwrap();
    let open = || Store::open(dir.path(), Keyring::new([7; 32], Vec::new())).unwrap();
    let store = open();
    let user = UserId::random();
    let new = |n: u64| NewLink {
        page: (10_000 + n).to_string().parse().unwrap(),
        token: Secret::new("EAAB-token"),
        name: None,
        facebook_user: None,
    };
    let ticket = store.ticket().await.unwrap();
    let links = store.put_links(ticket, user, None, (0..LINKS).map(new).collect(), Cause::Link).await.unwrap().links;
    println!("seconds,cycles,database_bytes,journal_bytes,blobs");
    let began = Instant::now();
    let mut done = 0;
    while done < cycles {
        let workers = (0..WORKERS).map(|worker| {
            let (store, links) = (store.clone(), links.clone());
            tokio::spawn(async move {
                for n in 0..cycles.div_ceil(40 * WORKERS) {
                    // Each worker has links of its own.
                    let link = &links[((n * WORKERS + worker) % LINKS) as usize];
                    cycle(&store, link, done + n * WORKERS + worker + 1).await;
                }
            })
        });
        for worker in workers.collect::<Vec<_>>() {
            worker.await.unwrap();
        }
        done += cycles.div_ceil(40 * WORKERS) * WORKERS;
        println!("{},{done},{}", began.elapsed().as_secs(), sizes(dir.path()));
    }
    store.close().await;
    drop(store);
    let closed = sizes(dir.path());
    let began = Instant::now();
    let store = open();
    println!("churn: {done} cycles; closed {closed}; opened again after {:?} {}", began.elapsed(), sizes(dir.path()));
    store.close().await;
}

/// Samples every few seconds until the senders are done or their time is.
async fn watch(fixture: &Fixture, goal: &Goal, time: Duration) -> Vec<Sample> {
    let every = Duration::from_secs(wish("PAGESYNCD_SOAK_EVERY_SECS", 10));
    let puts = || fixture.links.iter().map(|l| fixture.world().puts(&l.object_key())).sum::<u64>();
    let reads = || fixture.pages.iter().map(|page| fixture.world().graph_reads(page)).sum::<u64>();
    let (began, mut samples) = (Instant::now(), vec![Sample::default()]);
    println!("seconds,deliveries,per_second,reads,puts,rss_bytes,store_bytes");
    let is_over = || goal.sent() == goal.deliveries || goal.over.load(Ordering::Relaxed);
    while !is_over() && began.elapsed() < time {
        let woken = Instant::now();
        within(every, async || is_over()).await;
        let (now, before) = (sample(fixture, goal), samples[samples.len() - 1].deliveries);
        let rate = (now.deliveries - before) as f64 / woken.elapsed().as_secs_f64();
        let (seconds, reads, puts) = (began.elapsed().as_secs(), reads(), puts());
        println!("{seconds},{},{rate:.0},{reads},{puts},{},{}", now.deliveries, now.resident, now.store);
        samples.push(now);
    }
    goal.over.store(true, Ordering::Relaxed);
    samples.split_off(1)
}

/// Says what became of it all; `false` when something grew beyond its bound or was lost.
fn judge(samples: &[Sample], took: Duration, lost: usize) -> bool {
    let last = samples[samples.len() - 1];
    let tenth = samples.iter().find(|s| s.deliveries * 10 >= last.deliveries).unwrap_or(&last);
    let later: Vec<Sample> = samples.iter().filter(|s| s.deliveries >= tenth.deliveries).copied().collect();
    let bound = |early: u64| early + early * GROWTH / 100 + SLACK;
    let good = last.resident <= bound(tenth.resident) && last.store <= bound(tenth.store) && lost == 0;
    println!(
        "soak: deliveries {} ({:.0}/s) lost {lost} rss at 10% {} at the end {} (bound {}, slope {:+.0} bytes/million) \
         store at 10% {} at the end {} (bound {}, slope {:+.0} bytes/million): {}",
        last.deliveries,
        last.deliveries as f64 / took.as_secs_f64(),
        tenth.resident,
        last.resident,
        bound(tenth.resident),
        slope(&later, |s| s.resident),
        tenth.store,
        last.store,
        bound(tenth.store),
        slope(&later, |s| s.store),
        if good { "passed" } else { "FAILED" },
    );
    good
}

#[tokio::main]
async fn main() {
    let cycles = wish("PAGESYNCD_SOAK_CHURN", 0);
    if cycles > 0 {
        return churn(cycles).await;
    }
    let deliveries = wish("PAGESYNCD_SOAK_DELIVERIES", u64::MAX);
    let minutes = wish("PAGESYNCD_SOAK_MINUTES", if deliveries == u64::MAX { 1 } else { 7 * 24 * 60 });
    let mut fixture = Fixture::lay(PAGES, 0, 5, Vec::new()).await;
    let book = Book::of(&fixture);
    let goal = Arc::new(Goal { deliveries, begun: 0.into(), sent: 0.into(), over: false.into() });
    let began = Instant::now();
    let sender = |_| tokio::spawn(send(book.clone(), fixture.things(), goal.clone()));
    let senders: Vec<_> = (0..SENDERS).map(sender).collect();
    let mut samples = watch(&fixture, &goal, Duration::from_secs(minutes * 60)).await;
    for sender in senders {
        sender.await.unwrap();
    }
    let took = began.elapsed();
    let rest = within(Duration::from_secs(120), async || fixture.untrue().is_empty() && fixture.at_rest().await).await;
    if rest.is_none() {
        println!("the daemon does not come to rest: {}", fixture.account().await);
    }
    samples.push(sample(&fixture, &goal));
    let good = judge(&samples, took, lost(&fixture, &book));
    fixture.daemon.stop().await;
    fixture.daemon.start().await.unwrap();
    let fresh = sample(&fixture, &goal);
    println!("after a restart: rss {} store {}", fresh.resident, fresh.store);
    assert_eq!(fixture.listen().panics, Vec::<String>::new());
    assert_eq!(fixture.world().violations(), Vec::<String>::new());
    fixture.daemon.stop().await;
    fixture.server.shutdown().await;
    drop(fixture);
    if !good || rest.is_none() {
        std::process::exit(1);
    }
}
