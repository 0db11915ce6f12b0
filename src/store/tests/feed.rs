//! What the store publishes, and when.

use futures_util::FutureExt;

use super::*;
use crate::core::health::ParkReason;
use crate::core::model::Part;
use crate::store::feed::{Batch, LinkChanges, Presence};
use std::collections::BTreeSet;

/// What was published since this was called last.
pub(super) fn published(store: &Store) -> Batch {
    store.feed().next().now_or_never().unwrap_or_default()
}

/// The causes for which this link was published as due since the last look.
fn due(store: &Store, link: &LinkKey) -> Vec<Cause> {
    published(store).links.remove(link).unwrap_or_default().causes
}

async fn read_once(store: &Store) -> LinkKey {
    let link = link_one(store, UserId::random(), 1).await;
    read_and_stage(store, &link, 1, b"x").await;
    published(store);
    link
}

#[tokio::test]
async fn a_decision_is_published_when_it_is_durable_and_before_its_answer() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.switch_events(true);
    let link = link_one(&store, UserId::random(), 1).await;
    let batch = published(&store);
    let linked = LinkChanges { presence: Some(Presence::Linked), ..LinkChanges::default() };
    assert_eq!((&batch.links[&link], batch.links.len()), (&linked, 1));
    assert_eq!(batch.events, [crate::core::event::EventKey::Link(link.clone())].into());
    assert_eq!(read_and_stage(&store, &link, 1, b"x").await, StageOutcome::Staged);
    assert_eq!(
        published(&store).links[&link],
        LinkChanges { outbox: BTreeSet::from([Part::whole()]), ..LinkChanges::default() }
    );
    store.park_link(&link, held(&store, &link).await, ParkReason::Expired).await.unwrap();
    assert_eq!(published(&store).links[&link], LinkChanges { parked: true, ..LinkChanges::default() });
    unlink(&store, &link, Unlinking::default()).await;
    let batch = published(&store);
    let gone = LinkChanges {
        presence: Some(Presence::Unlinked),
        outbox: BTreeSet::from([Part::whole()]),
        ..LinkChanges::default()
    };
    assert_eq!((&batch.links[&link], batch.cleanup), (&gone, true), "the object and the page's subscription are left");
    store.close().await;
}

#[tokio::test]
async fn what_becomes_durable_after_its_caller_gave_up_is_published() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let link = read_once(&store).await;
    let pages = [page(1)];
    let marking = Box::pin(store.mark_pages(&pages, Cause::Webhook));
    {
        // Until the log is free, the mark is not durable, however quick its writer is.
        let _log = store.inner.mark_log.lock().unwrap();
        // The decision is made with the first poll; then the caller goes, as after a time limit.
        assert!(marking.now_or_never().is_none());
    }
    let batch = tokio::time::timeout(Duration::from_secs(30), store.feed().next()).await.unwrap();
    assert_eq!(batch.links[&link].causes, [Cause::Webhook]);
    assert_eq!(due_mark(&store, &link).await.map(|mark| mark.cause), Some(Cause::Webhook));
    store.close().await;
}

#[tokio::test]
async fn a_commit_that_fails_publishes_nothing_but_the_reset_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let link = read_once(&store).await;
    store.drill();
    store.mark_pages(&[page(1)], Cause::Webhook).await.unwrap_err();
    let batch = tokio::time::timeout(Duration::from_secs(30), store.feed().next()).await.unwrap();
    assert_eq!(batch, Batch { reset: true, ..Batch::default() });
    store.mark_pages(&[page(1)], Cause::Webhook).await.unwrap();
    assert_eq!(due(&store, &link), [Cause::Webhook]);
    store.close().await;
}

/// The reads of such marks may be spread over a long time.
#[tokio::test]
async fn a_webhook_is_published_once_where_a_mark_of_another_cause_stands() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let link = read_once(&store).await;
    store.mark_links(vec![link.clone()], Cause::Poll).await.unwrap();
    assert_eq!(due(&store, &link), [Cause::Poll]);
    store.mark_links(vec![link.clone()], Cause::Poll).await.unwrap();
    assert_eq!(due(&store, &link), []);
    for causes in [vec![Cause::Webhook], vec![], vec![]] {
        store.mark_pages(&[page(1)], Cause::Webhook).await.unwrap();
        assert_eq!(due(&store, &link), causes);
    }
    let imported = link_one(&store, UserId::random(), 2).await;
    published(&store);
    for causes in [vec![Cause::Webhook], vec![]] {
        store.mark_pages(&[page(2)], Cause::Webhook).await.unwrap();
        assert_eq!(due(&store, &imported), causes);
    }
    store.close().await;
    // A mark that a start finds is read with all others that are found.
    let store = open(dir.path());
    store.mark_pages(&[page(1)], Cause::Webhook).await.unwrap();
    assert_eq!(due(&store, &link), [Cause::Webhook]);
    store.close().await;
}

#[tokio::test]
async fn a_mark_that_stands_is_published_again_for_an_urgent_cause_alone() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let link = read_once(&store).await;
    for expected in [&[Cause::Webhook][..], &[], &[]] {
        store.mark_pages(&[page(1)], Cause::Webhook).await.unwrap();
        assert_eq!(due(&store, &link), expected);
    }
    store.mark_links(vec![link.clone()], Cause::Manual).await.unwrap();
    let changes = published(&store).links.remove(&link).unwrap();
    let manual =
        LinkChanges { causes: vec![Cause::Manual], recheck: Some(held(&store, &link).await), ..Default::default() };
    assert_eq!(changes, manual);
    store.close().await;
}

#[tokio::test]
async fn a_mark_whose_read_was_cut_off_is_published_when_the_claim_is_given_back() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let link = read_once(&store).await;
    store.mark_pages(&[page(1)], Cause::Webhook).await.unwrap();
    published(&store);
    drop(begin_read(&store, &link).await);
    assert_eq!(due(&store, &link), [Cause::Webhook]);
    // One that a newer reader fenced off gives nothing back.
    let (old, new) = (begin_read(&store, &link).await, begin_read(&store, &link).await);
    drop(old);
    assert_eq!(due(&store, &link), []);
    drop(new);
    assert_eq!(due(&store, &link), [Cause::Webhook]);
    // A read that is cut off just before it stages gives its claim back, too.
    let claim = begin_read(&store, &link).await;
    drop(store.stage(claim, [2; 32], bytes::Bytes::from_static(b"y"), false));
    assert_eq!(due(&store, &link), [Cause::Webhook]);
    store.close().await;
}
