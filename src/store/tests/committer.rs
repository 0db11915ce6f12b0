//! The thread that writes: it outlives its own panics up to a point, and shows that it is at work.

use std::time::Duration;

use super::*;
use crate::core::event::EventKey;
use crate::store::events::Begun;
use crate::store::inner::Commits;

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while !holds().await {
        assert!(std::time::Instant::now() < deadline, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The next decision's commit panics.
async fn panic_once(store: &Store, n: u64) {
    store.drill();
    let refused = store.mark_pages(&[page(n)], Cause::Manual).await;
    assert!(refused.is_err(), "what was being committed is refused");
}

#[tokio::test]
async fn a_panic_is_a_failed_commit() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let user = UserId::random();
    for n in 0..3 {
        let link = link_one(&store, user, n).await;
        read_and_stage(&store, &link, 1, b"x").await;
    }
    for round in 0..3 {
        panic_once(&store, round).await;
        until("it takes writes again", async || store.new_session(user, Duration::from_secs(60)).await.is_ok()).await;
        assert_eq!(*store.condition().borrow(), Condition::Up);
        store.mark_pages(&[page(round)], Cause::Webhook).await.unwrap();
        link_one(&store, user, 10 + round).await;
    }
    assert_eq!((store.counts().await.unwrap().links, store.mended()), (6, None));
    assert!(store.given_up().borrow().is_none());
    store.close().await;
}

#[test]
fn a_thread_that_makes_nothing_durable_between_panics_is_not_excused_by_the_other() {
    let commits = Commits::default();
    commits.note_database(Duration::ZERO);
    assert!(!commits.is_second_panic_of_database());
    commits.note_marks(Duration::ZERO);
    assert!(commits.is_second_panic_of_database(), "marks alone were made durable");
    commits.note_database(Duration::ZERO);
    assert!(!commits.is_second_panic_of_database());
    assert!(commits.is_second_panic_of_marks(), "nothing was, since the panic of the other thread");
    commits.note_marks(Duration::ZERO);
    assert!(!commits.is_second_panic_of_marks());
}

#[tokio::test]
async fn a_second_panic_without_a_commit_between_gives_up() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let link = link_one(&store, UserId::random(), 1).await;
    read_and_stage(&store, &link, 1, b"x").await;
    let mut given_up = store.given_up();
    panic_once(&store, 1).await;
    until("it is opened again", async || *store.condition().borrow() == Condition::Up).await;
    panic_once(&store, 1).await;
    let reason = given_up.wait_for(Option::is_some).await.unwrap().clone().unwrap();
    assert!(reason.contains("died twice"), "{reason}");
    assert!(!store.has_pulse(Duration::from_secs(5)).await);
    let refused = store.mark_pages(&[page(1)], Cause::Webhook).await.unwrap_err();
    assert!(refused.to_string().contains("died twice"), "{refused}");
    store.close().await;
    drop(store);
    assert_eq!(open(dir.path()).counts().await.unwrap().links, 1);
}

#[tokio::test]
async fn a_store_that_cannot_be_opened_yet_has_a_pulse() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    link_one(&store, UserId::random(), 1).await;
    assert!(store.has_pulse(Duration::from_secs(30)).await);
    let in_the_way = dir.path().join("links.journal.new");
    std::fs::create_dir(&in_the_way).unwrap();
    store.lock().orders.suspect();
    until("it is down", async || *store.condition().borrow() != Condition::Up).await;
    for _ in 0..5 {
        assert!(store.has_pulse(Duration::from_secs(30)).await, "it waits, and does not hang");
        assert!(store.mark_pages(&[page(1)], Cause::Webhook).await.is_err());
    }
    std::fs::remove_dir(&in_the_way).unwrap();
    until("it is back", async || *store.condition().borrow() == Condition::Up).await;
    link_one(&store, UserId::random(), 2).await;
    store.close().await;
    assert!(!store.has_pulse(Duration::from_secs(1)).await, "a closed store has none");
}

#[tokio::test]
async fn a_decision_that_panics_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let user = UserId::random();
    let link = link_one(&store, user, 1).await;
    read_and_stage(&store, &link, 1, b"{}").await;
    let half = store.commit(|state, txn| {
        state.remove_link(txn, &link, true);
        panic!("half-way");
    });
    let refused: Result<(), Unavailable> = half.await;
    assert!(refused.unwrap_err().reason.contains("half-way"));
    until("it is back", async || store.mark_pages(&[page(1)], Cause::Webhook).await.is_ok()).await;
    assert!(store.link(&link).await.unwrap().is_some() && due_mark(&store, &link).await.is_some());
    assert_eq!(store.outbox_item(&link).await.unwrap().unwrap().staged.op, ObjectOp::Put([1; 32]));
    // A later decision commits nothing of it either.
    link_one(&store, user, 2).await;
    store.close().await;
    let again = open(dir.path());
    assert_eq!((again.counts().await.unwrap().links, again.counts().await.unwrap().due), (2, 2));
    again.close().await;
}

async fn first_event(store: &Store, key: &EventKey) -> Option<String> {
    match store.begin_event(key).await.unwrap() {
        Begun::Goes(sending) => Some(sending.event().id.clone()),
        _ => None,
    }
}

#[tokio::test]
async fn events_that_wait_survive_the_loss_of_the_database() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.switch_events(true);
    let user = UserId::random();
    let lanes = [link_one(&store, user, 1).await, link_one(&store, user, 2).await].map(EventKey::Link);
    let Begun::Goes(sending) = store.begin_event(&lanes[1]).await.unwrap() else { panic!("nothing waits") };
    sending.delivered().await.unwrap();
    let id = first_event(&store, &lanes[0]).await;
    assert!(id.is_some());
    store.close().await;
    drop(store);
    for _ in 0..2 {
        std::fs::remove_dir_all(dir.path().join("sled")).unwrap();
        let store = open(dir.path());
        store.switch_events(true);
        assert!(store.mended().is_some());
        assert_eq!(first_event(&store, &lanes[0]).await, id, "the one that waited waits still");
        assert_eq!(first_event(&store, &lanes[1]).await, None, "the one that was taken is not sent again");
        store.close().await;
    }
}

#[tokio::test]
async fn a_backup_log_of_an_earlier_version_is_no_witness_of_missing_events() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.switch_events(true);
    let link = link_one(&store, UserId::random(), 1).await;
    let key = EventKey::Link(link);
    let id = first_event(&store, &key).await;
    store.close().await;
    drop(store);
    backup_log::write_as_before_events(dir.path(), &keyring());
    let (high_water_mark, last) = backup_log::HighWaterMark::open(dir.path()).unwrap();
    high_water_mark.rise(last.batch + 1).unwrap();
    let store = open(dir.path());
    assert!(store.mended().is_some_and(|mended| mended.contains("lost its end")));
    assert_eq!(first_event(&store, &key).await, id);
    store.close().await;
}
