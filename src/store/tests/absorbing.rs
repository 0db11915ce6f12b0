//! Deliveries that are answered without the store's lock: exactly while that lock would answer the same.

use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use super::stepped::{START, finish, linked, memory};
use super::*;
use crate::store::stepped::{Committer, poll_once, shown};

fn absorbs(store: &Store) -> bool {
    store.absorbs(&[page(1).as_str().parse().unwrap()])
}

/// A delivery that looks under the lock. Returns whether it was durable at once.
fn deliver(store: &Store) -> bool {
    let pages = [page(1)];
    let mut marking = pin!(store.mark_pages(&pages, Cause::Webhook));
    poll_once(marking.as_mut()).is_some_and(|marked| marked.is_ok())
}

fn claim(store: &Store, committer: &mut Committer, link: &LinkKey) -> ReadClaim {
    finish(committer, begin_read(store, link))
}

fn stage(store: &Store, committer: &mut Committer, claim: ReadClaim, digest: u8) {
    finish(committer, store.stage(claim, [digest; 32], bytes::Bytes::from_static(b"{}"), false)).unwrap();
}

#[test]
fn a_page_absorbs_while_its_mark_is_durable_and_no_read_has_claimed_it() {
    let (store, mut committer) = memory();
    assert!(deliver(&store) && !absorbs(&store), "nobody has linked it");
    let link = linked(&store, &mut committer);
    assert!(!absorbs(&store), "nobody has looked");
    assert!(deliver(&store) && !absorbs(&store), "the first one wakes the page");
    assert!(deliver(&store) && absorbs(&store));
    assert!(!store.absorbs(&[]), "nothing is named");
    assert!(!store.absorbs(&["1001", "7"].map(|id| id.parse().unwrap())), "the other page is not linked");

    let first = claim(&store, &mut committer, &link);
    assert!(!absorbs(&store), "the read may miss what a delivery reports");
    for _ in 0..2 {
        assert!(!deliver(&store) && !absorbs(&store), "the mark is on its way to disk");
    }
    committer.step();
    assert!(deliver(&store) && absorbs(&store));
    stage(&store, &mut committer, first, 1);
    assert!(absorbs(&store), "the read answers for the mark before this one");

    drop(claim(&store, &mut committer, &link));
    assert!(!absorbs(&store), "nobody has looked since the read gave up");
    assert!(deliver(&store) && absorbs(&store));

    let last = claim(&store, &mut committer, &link);
    stage(&store, &mut committer, last, 2);
    assert!(!absorbs(&store) && !deliver(&store), "nothing is owed");
}

#[test]
fn each_link_of_a_page_needs_a_mark() {
    let (store, mut committer) = memory();
    let link = linked(&store, &mut committer);
    assert!(deliver(&store) && !absorbs(&store), "the first one wakes the page");
    assert!(deliver(&store) && absorbs(&store));
    let other = {
        let mut linking = pin!(link_one(&store, UserId::random(), 1));
        while poll_once(linking.as_mut()).is_none() && absorbs(&store) {
            committer.step();
        }
        assert!(!absorbs(&store) && !deliver(&store), "the mark of the new link is on its way to disk");
        finish(&mut committer, linking)
    };
    assert!(deliver(&store) && absorbs(&store));
    let read = claim(&store, &mut committer, &other);
    assert!(!absorbs(&store));
    drop(read);
    assert!(deliver(&store) && absorbs(&store));
    for gone in [other, link] {
        let how = Unlinking { keep_objects: false, revoke: false };
        finish(&mut committer, store.unlink(std::slice::from_ref(&gone), how)).unwrap();
        assert!(!absorbs(&store), "a link is gone");
        assert!(deliver(&store), "the other link's mark stands, or nobody links the page");
    }
    assert!(!absorbs(&store), "nobody links the page");
}

#[test]
fn a_store_that_is_down_or_closed_absorbs_nothing() {
    let (store, mut committer) = memory();
    let link = linked(&store, &mut committer);
    assert!(deliver(&store) && !absorbs(&store), "the first one wakes the page");
    assert!(deliver(&store) && absorbs(&store));
    committer.fail("the disk is full", 0);
    assert!(!absorbs(&store) && !deliver(&store));
    committer.reopen();
    assert!(!absorbs(&store), "nobody has looked since it is up");
    assert!(committer.part_on_disk(&link.whole()).mark.is_some(), "the mark that absorbed is on the disk");
    assert!(deliver(&store) && !absorbs(&store), "the first one wakes the page");
    assert!(deliver(&store) && absorbs(&store));

    let broken = poll_once(pin!(store.commit(|_, _| panic!("drill: a decision"))).as_mut()).unwrap();
    assert!(broken.is_err() && !absorbs(&store) && !deliver(&store));
    committer.step();
    committer.reopen();
    assert!(deliver(&store) && !absorbs(&store), "the first one wakes the page");
    assert!(deliver(&store) && absorbs(&store));

    committer.set_time(WallTime(START.0 + 1));
    let (next, _committer) = committer.crash(0);
    assert!(!absorbs(&store) && !deliver(&store));
    assert!(deliver(&next) && !absorbs(&next), "the first one wakes the page");
    assert!(deliver(&next) && absorbs(&next));
}

/// One thread reads a page again and again, another one changes it and delivers. Whenever no mark stands, the last read
/// has seen every change whose delivery was answered.
#[test]
fn no_read_misses_what_was_absorbed() {
    const ENOUGH: u64 = 300;
    let (store, mut committer) = memory();
    let link = linked(&store, &mut committer);
    let (version, answered) = (AtomicU64::new(0), AtomicU64::new(0));
    let read_on = || {
        for read in 1..=ENOUGH {
            let claim = stepped_elsewhere(begin_read(&store, &link));
            let seen = version.load(Ordering::SeqCst);
            thread::yield_now();
            let staging = store.stage(claim, [read as u8; 32], bytes::Bytes::new(), false);
            stepped_elsewhere(staging).unwrap();
            let answered = answered.load(Ordering::SeqCst);
            if stepped_elsewhere(due_mark(&store, &link)).is_none() {
                assert!(seen >= answered, "change {answered} is lost, the last read has seen change {seen}");
            }
        }
    };
    thread::scope(|scope| {
        let reader = scope.spawn(read_on);
        let (mut change, mut absorbed) = (0, 0);
        while !reader.is_finished() || absorbed < ENOUGH {
            change += 1;
            version.store(change, Ordering::SeqCst);
            if absorbs(&store) {
                absorbed += 1;
            } else {
                finish(&mut committer, store.mark_pages(&[page(1)], Cause::Webhook)).unwrap();
            }
            answered.store(change, Ordering::SeqCst);
            if change % 16 == 0 {
                committer.step();
            }
        }
        reader.join().unwrap();
    });
}

/// Waits for an operation whose commits another thread makes.
fn stepped_elsewhere<R>(operation: impl Future<Output = R>) -> R {
    let mut operation = pin!(operation);
    loop {
        if let Some(answer) = poll_once(operation.as_mut()) {
            return answer;
        }
        thread::yield_now();
    }
}

#[test]
fn a_page_absorbs_nothing_while_an_unlink_is_on_its_way_to_disk() {
    let (store, mut committer) = memory();
    let gone = linked(&store, &mut committer);
    let stays = finish(&mut committer, link_one(&store, UserId::random(), 1));
    let how = Unlinking { keep_objects: true, revoke: false };
    {
        let mut unlinking = pin!(store.unlink(std::slice::from_ref(&gone), how));
        assert!(poll_once(unlinking.as_mut()).is_none());
        assert!(!deliver(&store) && !absorbs(&store), "a power cut would bring the link back without this delivery");
        assert_eq!(finish(&mut committer, unlinking).unwrap().links, std::slice::from_ref(&gone));
    }
    assert!(deliver(&store) && absorbs(&store));
    assert!(finish(&mut committer, due_mark(&store, &stays)).is_some());
}

/// The link's machine asks once in a while whether its page still changes.
#[test]
fn a_delivery_after_a_look_of_the_machine_is_noted() {
    let (store, mut committer) = memory();
    let link = linked(&store, &mut committer);
    assert!(deliver(&store) && !absorbs(&store), "the first one wakes the page");
    assert!(deliver(&store) && absorbs(&store));
    assert!(shown(store.facts(&link)).repeated);
    assert!(!absorbs(&store), "the next delivery is to be noted");
    assert!(!shown(store.facts(&link)).repeated);
    assert!(deliver(&store) && !absorbs(&store), "it is answered at once, and noted under the lock");
    assert!(deliver(&store) && absorbs(&store));
    assert!(shown(store.facts(&link)).repeated);
}
