//! The mark log: its form, damage of every kind, and its relation to the database.

use super::*;
use crate::store::mark_log::{FILE, LoggedMark, MarkLog};
use crate::store::order::{MarkOrder, MarkRequest, Order};

const EARLIER: &str = "marks.log.old";

fn logged(n: u64) -> LoggedMark {
    let user = UserId(uuid::Uuid::from_u128(7));
    let part = LinkKey::new(user, page(n)).whole();
    let cause = [Cause::Webhook, Cause::Poll, Cause::Link, Cause::Manual][n as usize % 4];
    (part, Mark { seq: 100 + n, cause, since: WallTime(1_795_341_600_000 + n) })
}

/// A log with a first frame without marks and so many with one, and its bytes without the zeros behind them.
fn log_of(dir: &Path, frames: u64, closed: bool) -> Vec<u8> {
    let mut log = MarkLog::create(dir, &MarkLog::read(dir).unwrap(), &[]).unwrap();
    (0..frames).for_each(|n| log.append([&logged(n)]).unwrap());
    let bytes = log.bytes() as usize;
    let bytes = if closed {
        log.close().unwrap();
        // As long as the first frame, which holds nothing either.
        bytes + 21
    } else {
        bytes
    };
    std::fs::read(dir.join(FILE)).unwrap()[..bytes].to_vec()
}

/// The marks that a file with these bytes holds, and whether it is damaged.
fn read(dir: &Path, bytes: &[u8]) -> (Vec<LoggedMark>, bool) {
    std::fs::write(dir.join(FILE), bytes).unwrap();
    let replay = MarkLog::read(dir).unwrap();
    let mut marks: Vec<LoggedMark> = replay.marks.into_iter().collect();
    marks.sort_by_key(|(_, mark)| mark.seq);
    (marks, replay.damage.is_some())
}

fn first(count: u64) -> Vec<LoggedMark> {
    (0..count).map(logged).collect()
}

#[test]
fn a_torn_end_costs_nothing_but_the_batch_that_was_torn() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = log_of(dir.path(), 3, false);
    let (blank, frame) = (21, (bytes.len() - 21) / 3);
    for cut in 0..=bytes.len() {
        let whole = cut.saturating_sub(blank) / frame;
        for behind in [vec![], vec![0; 5000]] {
            let torn = [&bytes[..cut], &behind].concat();
            let (marks, damaged) = read(dir.path(), &torn);
            // Without its first frame it is no mark log: that one was durable before the file had its name.
            assert_eq!((marks, damaged), (first(whole as u64), cut < blank), "cut at {cut}");
        }
    }
}

#[test]
fn a_flipped_bit_is_found_and_costs_its_own_batch_alone() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = log_of(dir.path(), 3, true);
    let (blank, frame) = (21, (bytes.len() - 42) / 3);
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << bit;
            let (marks, damaged) = read(dir.path(), &flipped);
            let hit = at.checked_sub(blank).map_or(3, |at| (at / frame) as u64);
            let expected: Vec<LoggedMark> = first(3).into_iter().filter(|(_, mark)| mark.seq != 100 + hit).collect();
            assert_eq!(marks, expected, "bit {bit} of byte {at}");
            let is_last = at >= bytes.len() - blank;
            assert_eq!(damaged, !is_last, "bit {bit} of byte {at}");
        }
    }
}

#[test]
fn a_log_that_is_read_twice_says_the_same_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    log_of(dir.path(), 5, true);
    let replay = MarkLog::read(dir.path()).unwrap();
    let mut marks: Vec<LoggedMark> = replay.marks.clone().into_iter().collect();
    marks.sort_by_key(|(_, mark)| mark.seq);
    assert_eq!(marks, first(5));
    // Copied into a fresh one while the old one stays, as a cut leaves them: a mark in both is one mark.
    let old = std::fs::read(dir.path().join(FILE)).unwrap();
    let mut log = MarkLog::create(dir.path(), &replay, &marks).unwrap();
    std::fs::write(dir.path().join(EARLIER), old).unwrap();
    log.append([&logged(5)]).unwrap();
    let again = MarkLog::read(dir.path()).unwrap();
    assert!(again.damage.is_none());
    assert_eq!(again.marks, first(6).into_iter().collect());
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(std::time::Instant::now() < deadline, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn in_database(store: &Store, link: &LinkKey) -> bool {
    let key = link.whole().to_bytes();
    store.read(|engine| engine.get(Tree::Marks, &key)).unwrap().is_some()
}

fn transactions(store: &Store) -> u64 {
    let batch = store.read(|engine| engine.get(Tree::Meta, b"batch")).unwrap().unwrap();
    codec::decode("meta", &batch).unwrap()
}

async fn due(store: &Store) -> u64 {
    store.counts().await.unwrap().due
}

/// The numbers of the pages, of so many, that are due.
async fn which_due(store: &Store, user: UserId, count: u64) -> Vec<u64> {
    let mut found = Vec::new();
    for n in 0..count {
        if unclaimed_mark(store, &LinkKey::new(user, page(n))).await.is_some() {
            found.push(n);
        }
    }
    found
}

/// A store with so many links that owe nothing.
async fn settled(dir: &Path, count: u64) -> (Store, UserId) {
    let (store, user) = (open(dir), UserId::random());
    for n in 0..count {
        let link = link_one(&store, user, n).await;
        read_and_stage(&store, &link, 1, b"{}").await;
    }
    (store, user)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mark_costs_some_bytes_in_its_log_and_no_transaction() {
    const LINKS: u64 = 64;
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = settled(dir.path(), LINKS).await;
    let bytes = || store.inner.mark_log.lock().unwrap().as_ref().unwrap().bytes();
    let (before, number) = (bytes(), transactions(&store));
    for n in 0..LINKS / 2 {
        store.mark_pages(&[page(n)], Cause::Webhook).await.unwrap();
    }
    // Each alone, with a frame of its own: 21 bytes of frame, 19 of a mark, and the key.
    let alone = (bytes() - before) as f64 / (LINKS as f64 / 2.0);
    assert!(alone <= 62.0 * 1.1, "{alone} bytes a mark");
    let before = bytes();
    let pages: Vec<PageId> = (LINKS / 2..LINKS).map(page).collect();
    store.mark_pages(&pages, Cause::Webhook).await.unwrap();
    let together = (bytes() - before) as f64 / (LINKS as f64 / 2.0);
    assert!(together <= 42.0 * 1.1, "{together} bytes a mark of a batch");
    assert_eq!((transactions(&store), due(&store).await), (number, LINKS));
    store.close().await;
    drop(store);
    assert_eq!(due(&open(dir.path())).await, LINKS);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_has_grown_is_cut_off_when_the_database_has_its_marks() {
    let dir = tempfile::tempdir().unwrap();
    let (store, user) = settled(dir.path(), 5).await;
    let link = |n| LinkKey::new(user, page(n));
    let pages: Vec<PageId> = (0..3).map(page).collect();
    store.mark_pages(&pages, Cause::Webhook).await.unwrap();
    read_and_stage(&store, &link(2), 1, b"{}").await;
    let before = MarkLog::read(dir.path()).unwrap();
    assert_eq!((before.marks.len(), in_database(&store, &link(0))), (3, false));
    store.lock().orders.send(Order::Cut);
    until("the marks are in the database", || in_database(&store, &link(1))).await;
    until("the earlier log is gone", || !dir.path().join(EARLIER).exists()).await;
    assert_eq!(MarkLog::read(dir.path()).unwrap().marks.len(), 0);
    assert!(in_database(&store, &link(0)) && !in_database(&store, &link(2)), "what was read need not come");
    store.mark_pages(&[page(4)], Cause::Webhook).await.unwrap();
    read_and_stage(&store, &link(0), 1, b"{}").await;
    store.close().await;
    drop(store);
    let store = open(dir.path());
    assert_eq!((which_due(&store, user, 5).await, store.mended()), (vec![1, 4], None));
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn marks_are_taken_and_answered_for_while_the_log_is_cut_off() {
    const LINKS: u64 = 40;
    let dir = tempfile::tempdir().unwrap();
    let (store, user) = settled(dir.path(), LINKS).await;
    let work = |n: u64| {
        let store = store.clone();
        tokio::spawn(async move {
            let link = LinkKey::new(user, page(n));
            for round in 0..20 {
                store.mark_pages(&[page(n)], Cause::Webhook).await.unwrap();
                if !(n + round).is_multiple_of(3) {
                    read_and_stage(&store, &link, round as u8, b"{}").await;
                }
            }
        })
    };
    let tasks: Vec<_> = (0..LINKS).map(work).collect();
    while !tasks.iter().all(tokio::task::JoinHandle::is_finished) {
        store.lock().orders.send(Order::Cut);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    for task in tasks {
        task.await.unwrap();
    }
    let before = which_due(&store, user, LINKS).await;
    store.close().await;
    drop(store);
    let store = open(dir.path());
    assert_eq!((which_due(&store, user, LINKS).await, store.mended()), (before, None));
    store.close().await;
}

/// Every state in which a power cut can leave a cut.
#[tokio::test]
async fn an_interrupted_cut_loses_no_mark() {
    let states: [&dyn Fn(&Path); 4] = [
        &|dir| std::fs::write(dir.join("marks.log.new"), b"PSM1").unwrap(),
        &|dir| std::fs::rename(dir.join(FILE), dir.join(EARLIER)).unwrap(),
        &|dir| assert!(std::fs::copy(dir.join(FILE), dir.join(EARLIER)).unwrap() > 0),
        &|dir| {
            let replay = MarkLog::read(dir).unwrap();
            std::fs::copy(dir.join(FILE), dir.join(EARLIER)).unwrap();
            let earlier = std::fs::read(dir.join(EARLIER)).unwrap();
            MarkLog::create(dir, &replay, &[]).unwrap();
            std::fs::write(dir.join(EARLIER), earlier).unwrap();
        },
    ];
    for state in states {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = settled(dir.path(), 3).await;
        store.mark_pages(&[page(0), page(2)], Cause::Webhook).await.unwrap();
        store.close().await;
        drop(store);
        state(dir.path());
        for _ in 0..2 {
            let store = open(dir.path());
            assert_eq!((store.mended(), due(&store).await), (None, 2));
            store.close().await;
        }
        assert!(["marks.log.new", EARLIER].iter().all(|name| !dir.path().join(name).exists()));
    }
}

/// The log before the one in force was durable to its end, so nothing at its end is torn.
#[test]
fn an_earlier_log_that_ends_early_is_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = log_of(dir.path(), 3, true);
    for end in 1..bytes.len() {
        std::fs::write(dir.path().join(EARLIER), &bytes[..end]).unwrap();
        assert!(MarkLog::read(dir.path()).unwrap().damage.is_some(), "after {end} bytes");
    }
    std::fs::write(dir.path().join(EARLIER), &bytes).unwrap();
    assert_eq!(MarkLog::read(dir.path()).unwrap().damage, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mark_that_waited_while_its_link_was_erased_does_not_come_into_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let (store, user) = settled(dir.path(), 2).await;
    let [gone, stays] = [0, 1].map(|n| LinkKey::new(user, page(n)));
    unlink(&store, &gone, Unlinking::default()).await;
    until("the link is erased", || store.erasing_since().is_none()).await;
    let late = |link: &LinkKey| (link.whole(), Mark { seq: 1, cause: Cause::Webhook, since: WallTime(1) });
    let (done, answered) = tokio::sync::oneshot::channel();
    let request = MarkRequest { marks: vec![late(&gone), late(&stays)], changes: Vec::new(), epoch: 0, done };
    store.lock().orders.send_to_marks(MarkOrder::Commit(request));
    answered.await.unwrap().unwrap();
    let marks = MarkLog::read(dir.path()).unwrap().marks;
    assert_eq!(marks.keys().collect::<Vec<_>>(), [&stays.whole()]);
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_closes_during_a_cut_is_not_opened_again() {
    for round in 0..30 {
        let dir = tempfile::tempdir().unwrap();
        let (store, user) = settled(dir.path(), 4).await;
        store.mark_pages(&[page(1), page(3)], Cause::Webhook).await.unwrap();
        store.lock().orders.send(Order::Cut);
        for _ in 0..round {
            tokio::task::yield_now().await;
        }
        store.close().await;
        assert_eq!(*store.condition().borrow(), Condition::Up, "round {round}");
        drop(store);
        let store = open(dir.path());
        assert_eq!((which_due(&store, user, 4).await, store.mended()), (vec![1, 3], None));
        store.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_takes_no_writes_is_begun_anew() {
    let dir = tempfile::tempdir().unwrap();
    let (store, user) = settled(dir.path(), 3).await;
    let link = |n| LinkKey::new(user, page(n));
    store.mark_pages(&[page(0)], Cause::Webhook).await.unwrap();
    for _ in 0..2 {
        store.inner.mark_log.lock().unwrap().as_mut().unwrap().break_off();
        let refused = store.mark_pages(&[page(1)], Cause::Webhook).await.unwrap_err();
        assert!(refused.reason.contains("mark log"), "{refused}");
        until("it is back", || *store.condition().borrow() == Condition::Up).await;
        assert_eq!((due(&store).await, store.mended()), (1, None));
    }
    read_and_stage(&store, &link(0), 1, b"{}").await;
    store.mark_pages(&[page(2)], Cause::Webhook).await.unwrap();
    store.close().await;
    drop(store);
    let store = open(dir.path());
    assert_eq!((which_due(&store, user, 3).await, store.mended()), (vec![2], None));
    store.close().await;
}

fn kept_aside(dir: &Path) -> usize {
    let names = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with("marks.log.damaged-")).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_damaged_or_gone_makes_every_link_due_once() {
    for gone in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let (store, user) = settled(dir.path(), 4).await;
        store.mark_pages(&[page(1)], Cause::Webhook).await.unwrap();
        store.mark_pages(&[page(2)], Cause::Webhook).await.unwrap();
        store.close().await;
        drop(store);
        let path = dir.path().join(FILE);
        if gone {
            std::fs::remove_file(&path).unwrap();
        } else {
            let mut bytes = std::fs::read(&path).unwrap();
            bytes[40] ^= 1;
            std::fs::write(&path, bytes).unwrap();
        }
        let store = open(dir.path());
        assert!(store.mended().unwrap().contains("mark log"), "{:?}", store.mended());
        assert_eq!((due(&store).await, kept_aside(dir.path())), (4, usize::from(!gone)));
        for n in 0..4 {
            read_and_stage(&store, &LinkKey::new(user, page(n)), 1, b"{}").await;
        }
        store.close().await;
        drop(store);
        let store = open(dir.path());
        assert_eq!((store.mended(), due(&store).await), (None, 0));
        store.mark_pages(&[page(3)], Cause::Webhook).await.unwrap();
        store.erase().await.unwrap();
        assert_eq!(kept_aside(dir.path()), 0, "it may hold what is to be erased");
        store.close().await;
        drop(store);
        assert_eq!(due(&open(dir.path())).await, 1);
    }
}

/// The marks of a link that is gone say that this user had this page.
#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_leaves_nothing_of_a_link_in_the_mark_log() {
    let dir = tempfile::tempdir().unwrap();
    let (store, user) = settled(dir.path(), 3).await;
    store.mark_pages(&[page(0), page(1)], Cause::Webhook).await.unwrap();
    let gone = LinkKey::new(user, page(1));
    let shows = || {
        let names = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path());
        let logs = names.filter(|path| path.to_string_lossy().contains("marks.log"));
        let key = gone.to_bytes();
        logs.map(|path| std::fs::read(path).unwrap()).any(|bytes| bytes.windows(key.len()).any(|part| part == key))
    };
    assert!(shows());
    unlink(&store, &gone, Unlinking { keep_objects: true, revoke: false }).await;
    until("it is erased", || store.erasing_since().is_none()).await;
    assert!(!shows());
    store.close().await;
    drop(store);
    let store = open(dir.path());
    assert_eq!(which_due(&store, user, 3).await, [0]);
    store.close().await;
}
