//! Does the test see anything? sled used as the store uses it, beside sled with one of the store's rules broken.
//!
//! The store rests on three: one thread flushes; sled's log is fsynced, because its own flush is no barrier; items stay
//! small against a segment, because larger nodes go to files that nothing fsyncs. Each rule, broken here, has to end in
//! lost or unreadable data or in a writer that hangs, and the same writer that keeps them has to survive.

use std::collections::BTreeSet;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;

use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};
use sled::Transactional;
use sled::transaction::ConflictableTransactionError;

use crate::disk::Workshop;
use crate::log::{Journalist, NOTHING, Words};
use crate::writer::{self, Job};
use crate::{Subject, Trial};

const TREES: [&str; 3] = ["one", "two", "three"];
const KEYS: u32 = 60;
const CALLERS: u32 = 16;
/// Losses that show that a breach is seen.
const ENOUGH: usize = 2;

/// How sled is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Way {
    /// As the store does.
    Kept,
    /// Flushed, and not fsynced.
    NoFsync,
    /// Fsynced, with long values in segments of the usual size.
    LongItems,
    /// Many callers wait for sled's asynchronous flush.
    ManyFlushes,
}

fn open(way: Way, dir: &Path) -> Result<(sled::Db, Vec<sled::Tree>), String> {
    let config = sled::Config::new().path(dir).cache_capacity(64 << 20);
    let config = if way == Way::LongItems { config } else { config.segment_size(2 << 20) };
    let opened = catch_unwind(AssertUnwindSafe(|| {
        let db = config.open()?;
        let trees = TREES.iter().map(|name| db.open_tree(name)).collect::<sled::Result<Vec<_>>>()?;
        Ok::<_, sled::Error>((db, trees))
    }));
    opened.map_err(|_| "it does not open: sled panics".to_owned())?.map_err(|e| format!("it does not open: {e}"))
}

/// A number stands for a value.
fn value(way: Way, number: u64) -> Vec<u8> {
    let mut rng = StdRng::seed_from_u64(number);
    let lengths = match way {
        Way::LongItems => 10 << 10..30 << 10,
        Way::Kept => 100..16 << 10,
        Way::NoFsync | Way::ManyFlushes => 100..3000,
    };
    let mut value = vec![0; rng.random_range(lengths)];
    rng.fill_bytes(&mut value);
    value[..8].copy_from_slice(&number.to_be_bytes());
    value
}

/// The first tree has every number, the second its number alone, the third only even ones.
fn words(number: u64) -> String {
    format!("{number} {number} {}", number.is_multiple_of(2))
}

/// Writes until it is killed.
pub fn write(way: Way, job: &Job, journalist: &'static Journalist) {
    let (db, trees) = open(way, &job.dir).unwrap();
    if way == Way::ManyFlushes {
        return flush_from_many(&db, &trees[0], journalist);
    }
    let log = File::open(job.dir.join("db")).unwrap();
    db.flush().unwrap();
    log.sync_all().unwrap();
    for folder in [job.dir.as_path(), job.dir.parent().unwrap()] {
        File::open(folder).unwrap().sync_all().unwrap();
    }
    let one_at_a_time = Arc::new(Mutex::new((db, trees, log)));
    let threads = (0..job.tasks).map(|task| {
        let (shared, mut rng) = (one_at_a_time.clone(), StdRng::seed_from_u64(job.seed ^ u64::from(task)));
        thread::spawn(move || {
            for _ in 0u64.. {
                let (key, number) = (format!("{task}/{}", rng.random_range(0..KEYS)), rng.random());
                journalist.begin(task, Words::from([(key.clone(), words(number))]));
                let shared = shared.lock().unwrap();
                put(&shared.1, &key, &value(way, number), number);
                shared.0.flush().unwrap();
                if way != Way::NoFsync {
                    shared.2.sync_all().unwrap();
                }
                drop(shared);
                journalist.done(task, Words::new());
            }
        })
    });
    for ended in threads.collect::<Vec<_>>() {
        ended.join().unwrap();
    }
}

fn put(trees: &[sled::Tree], key: &str, value: &[u8], number: u64) {
    let applied = trees.transaction(|trees| {
        trees[0].insert(key, value)?;
        trees[1].insert(key, &number.to_be_bytes())?;
        if number.is_multiple_of(2) {
            trees[2].insert(key, b"even")?
        } else {
            trees[2].remove(key)?
        };
        Ok::<_, ConflictableTransactionError<()>>(())
    });
    applied.unwrap();
}

fn flush_from_many(db: &sled::Db, tree: &sled::Tree, journalist: &'static Journalist) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).build().unwrap();
    runtime.block_on(async {
        let callers = (0..CALLERS).map(|task| {
            let (db, tree) = (db.clone(), tree.clone());
            tokio::spawn(async move {
                for number in 0u64.. {
                    journalist.begin(task, Words::new());
                    tree.insert(format!("{task}/{}", number % u64::from(KEYS)), &number.to_be_bytes()).unwrap();
                    db.flush_async().await.unwrap();
                    journalist.done(task, Words::new());
                }
            })
        });
        for ended in callers.collect::<Vec<_>>() {
            ended.await.unwrap();
        }
    });
}

/// What the trees say of these keys; every tree must be readable to its end.
pub fn look(way: Way, dir: &Path, keys: &BTreeSet<String>) -> Result<Words, String> {
    let (_db, trees) = open(way, dir)?;
    let read = catch_unwind(AssertUnwindSafe(|| {
        trees.iter().try_for_each(|tree| tree.iter().try_for_each(|record| record.map(|_| ())))?;
        keys.iter().map(|key| Ok((key.clone(), words_of(way, &trees, key)?))).collect::<sled::Result<Words>>()
    }));
    read.map_err(|_| "sled panics while reading".to_owned())?.map_err(|e| e.to_string())
}

fn words_of(way: Way, trees: &[sled::Tree], key: &str) -> sled::Result<String> {
    let (one, two, three) = (trees[0].get(key)?, trees[1].get(key)?, trees[2].get(key)?);
    let (Some(one), Some(two)) = (one, two) else { return Ok(NOTHING.into()) };
    let number = |bytes: &[u8]| bytes[..8].try_into().map_or(0, u64::from_be_bytes);
    let (first, second) = (number(&one), number(&two));
    let first = if one == value(way, first) { first.to_string() } else { "damaged".into() };
    Ok(format!("{first} {second} {}", three.is_some()))
}

/// Tries one way of using sled, and prints what came of it.
fn lost(workshop: &Workshop, way: Way, rounds: u64, enough: usize) -> usize {
    let test = "controls::the_rules_of_sled_matter_and_their_breach_is_seen";
    let trial = Trial { workshop, subject: Subject::Sled(way), test, seed: crate::seed(), any_moment: false };
    let outcome = trial.run(rounds, enough);
    println!("{way:?}: {} of {} power cuts not survived", outcome.lost.len(), outcome.rounds);
    outcome.lost.iter().take(5).for_each(|lost| println!("    {lost:.300}"));
    outcome.lost.len()
}

#[test]
fn the_rules_of_sled_matter_and_their_breach_is_seen() {
    writer::write_if_told();
    let Some(workshop) = Workshop::open() else { return };
    let enough = crate::number("PAGESYNCD_CRASH_LOSSES").map_or(ENOUGH, |n| n as usize);
    assert_eq!(lost(&workshop, Way::Kept, 10, 1), 0, "sled as the store uses it");
    // About every second round is lost, so that it never comes to so many.
    assert!(lost(&workshop, Way::NoFsync, 60, enough) > 0, "no fsync, and nothing was lost");
    assert!(lost(&workshop, Way::LongItems, 60, enough) > 0, "long items, and nothing was lost");
    assert!(lost(&workshop, Way::ManyFlushes, 60, 1) > 0, "many flushes at once, and none hung");
}
