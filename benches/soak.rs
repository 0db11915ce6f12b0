//! Soak: webhooks over keep-alive connections as fast as the real daemon takes them, and what that does to its memory
//! and its store.
//!
//! `cargo bench --bench soak` runs for `PAGESYNCD_SOAK_MINUTES` (1 without it) and prints a line of CSV every few
//! seconds; the last line sets the end beside the first sample. Every delivery comes after an edit of the page now and
//! then, so that marks, staged bodies and settles churn in the store, not marks alone.
#![allow(clippy::unwrap_used, missing_docs, dead_code, reason = "a bench shares the ground of the fire tests")]

#[path = "../tests/fire/disk.rs"]
mod disk;
#[path = "../tests/fire/ground.rs"]
mod ground;
#[path = "../tests/fire/senders.rs"]
mod senders;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

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

#[tokio::main]
async fn main() {
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
