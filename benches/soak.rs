//! Soak: webhooks over keep-alive connections as fast as the real daemon takes them, and what that does to its memory
//! and its store.
//!
//! `cargo bench --bench soak` runs for `PAGESYNCD_SOAK_MINUTES` (1 without it) and prints a line of CSV every few
//! seconds; the last line sets the end beside the first sample. Every delivery comes after an edit of the page now and
//! then, so that marks, staged bodies and settles churn in the store, not marks alone.
//!
//! With `PAGESYNCD_SOAK_CHURN=N` the store alone is driven instead, without a daemon: N cycles of mark, read, stage and
//! settle over three hundred links, eight at a time, and the sizes of its files as it goes.
#![allow(clippy::unwrap_used, missing_docs, dead_code, reason = "a bench shares the ground of the fire tests")]

#[path = "../tests/fire/disk.rs"]
mod disk;
#[path = "../tests/fire/ground.rs"]
mod ground;
#[path = "../tests/fire/senders.rs"]
mod senders;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use pagesyncd::model::{Cause, LinkKey, Secret, UserId};
use pagesyncd::store::people::NewLink;
use pagesyncd::store::seal::Keyring;
use pagesyncd::store::{Left, Store};

use ground::{Ground, within};
use senders::{Book, client};

const PAGES: usize = 100;
const SENDERS: usize = 8;
const EDIT_EVERY: u64 = 20;

fn wish(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

async fn send(number: usize, book: Arc<Book>, pages: Vec<String>, go: Arc<AtomicBool>, sent: Arc<AtomicU64>) {
    let http = client();
    let mut turn = number as u64;
    while go.load(Ordering::Relaxed) {
        let page = std::slice::from_ref(&pages[turn as usize % pages.len()]);
        let numbers = if turn.is_multiple_of(EDIT_EVERY) { book.edit(page) } else { vec![0] };
        assert!(book.tell(&http, page, &numbers).await, "a delivery was not acknowledged");
        sent.fetch_add(1, Ordering::Relaxed);
        // Prime to the number of pages, so that all get their turn from each sender.
        turn += 7;
    }
}

#[derive(Clone, Copy)]
struct Sample {
    resident: u64,
    store: u64,
}

fn sample(ground: &Ground) -> Sample {
    Sample { resident: ground.resident(), store: ground.store_bytes() }
}

/// One change of one link, all the way through the store.
async fn cycle(store: &Store, link: &LinkKey, number: u64) {
    store.mark_pages(std::slice::from_ref(&link.page), Cause::Webhook).await.unwrap();
    let Some(claim) = store.claim(link) else { return };
    let mut digest = [0; 32];
    digest[..8].copy_from_slice(&number.to_be_bytes());
    let body = format!("{{\"number\":{number},\"text\":\"{}\"}}", "x".repeat(1500));
    store.stage(claim, digest, body.into(), false).await.unwrap();
    if let Some(item) = store.outbox_item(link).await.unwrap() {
        store.settle(link, &item.staged, Some(format!("{number:032x}")), Left::default()).await.unwrap();
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
    let links = store.put_links(user, None, (0..LINKS).map(new).collect(), Cause::Link).await.unwrap();
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

#[tokio::main]
async fn main() {
    let cycles = wish("PAGESYNCD_SOAK_CHURN", 0);
    if cycles > 0 {
        return churn(cycles).await;
    }
    let minutes = wish("PAGESYNCD_SOAK_MINUTES", 1);
    let every = Duration::from_secs(wish("PAGESYNCD_SOAK_EVERY_SECS", 10));
    let mut ground = Ground::lay(PAGES, 0, 5).await;
    let book = Book::of(&ground);
    let (go, sent) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicU64::new(0)));
    let senders: Vec<_> = (0..SENDERS)
        .map(|number| tokio::spawn(send(number, book.clone(), ground.pages.clone(), go.clone(), sent.clone())))
        .collect();
    let began = Instant::now();
    println!("seconds,deliveries,per_second,puts,rss_bytes,store_bytes");
    let puts = |ground: &Ground| ground.links.iter().map(|l| ground.world().puts(&l.object_key())).sum::<u64>();
    let mut first = None;
    let mut before = 0;
    while began.elapsed() < Duration::from_secs(minutes * 60) {
        tokio::time::sleep(every).await;
        let (now, total) = (sample(&ground), sent.load(Ordering::Relaxed));
        let rate = (total - before) as f64 / every.as_secs_f64();
        before = total;
        first.get_or_insert(now);
        let seconds = began.elapsed().as_secs();
        println!("{seconds},{total},{rate:.0},{},{},{}", puts(&ground), now.resident, now.store);
    }
    go.store(false, Ordering::Relaxed);
    for sender in senders {
        sender.await.unwrap();
    }
    let rest = within(Duration::from_secs(60), async || ground.untrue().is_empty() && ground.at_rest().await).await;
    assert!(rest.is_some(), "the daemon does not come to rest: {}", ground.account().await);
    let (first, last) = (first.unwrap(), sample(&ground));
    ground.daemon.stop().await;
    ground.daemon.start().await.unwrap();
    let fresh = sample(&ground);
    println!(
        "soak: deliveries {} puts {} rss {} -> {} store {} -> {}; after a restart rss {} store {}",
        sent.load(Ordering::Relaxed),
        puts(&ground),
        first.resident,
        last.resident,
        first.store,
        last.store,
        fresh.resident,
        fresh.store,
    );
    let heard = ground.listen();
    assert_eq!(heard.panics, Vec::<String>::new());
    ground.daemon.stop().await;
    ground.server.shutdown().await;
}
