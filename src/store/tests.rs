//! The store on a real disk.

mod absorbing;
mod bucket;
mod catalogue;
mod cleanups;
mod cluster;
mod committer;
mod damage;
mod earlier;
mod erasure;
mod events;
mod feed;
mod folder;
mod grants;
mod lineage;
mod lists;
mod marks;
mod moving;
mod parts;
mod rotation;
mod sessions;
mod shops;
mod stepped;
mod suite;
mod traces;

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::database::Database;
use super::persons::{NewAccount, NewLink};
use super::seal::Keyring;
use super::state::State;
use super::tree::{Tree, Write};
use super::txn::Txn;
use super::unlink::{Revoking, Unlinking};
use super::*;
use crate::core::ledger::{Mark, ObjectOp};
use crate::core::model::{AppUserId, Cause, Generation, LinkKey, PageId, PartKey, Secret, UserId, WallTime};

fn keyring() -> Keyring {
    Keyring::new([7; 32], Vec::new())
}

fn open(dir: &Path) -> Store {
    Store::open(dir, keyring()).unwrap()
}

fn page(n: u64) -> PageId {
    (1000 + n).to_string().parse().unwrap()
}

async fn link_one(store: &Store, user: UserId, n: u64) -> LinkKey {
    let new = NewLink { page: page(n), token: Secret::new("EAAB-token"), name: None, facebook_user: None };
    store.put_links(store.ticket().await.unwrap(), user, None, vec![new], Cause::Link).await.unwrap().links.remove(0)
}

async fn unlink(store: &Store, link: &LinkKey, how: Unlinking) -> Vec<Revoking> {
    let unlinked = store.unlink(std::slice::from_ref(link), how).await.unwrap();
    assert_eq!(unlinked.links, std::slice::from_ref(link));
    unlinked.revoking
}

/// The generation of the token that a link has.
async fn held(store: &Store, link: &LinkKey) -> Generation {
    store.generation(link).await.unwrap().unwrap()
}

async fn begin_read(store: &Store, link: &LinkKey) -> ReadClaim {
    store.claim(link, held(store, link).await).await.unwrap().unwrap()
}

/// The mark of a part that no read answers for.
async fn unclaimed_mark(store: &Store, part: impl Into<PartKey>) -> Option<Mark> {
    store.mark(part).await.unwrap().filter(|standing| !standing.is_claimed).map(|standing| standing.mark)
}

/// The mark of a part, whether or not a read answers for it.
async fn due_mark(store: &Store, part: impl Into<PartKey>) -> Option<Mark> {
    store.mark(part).await.unwrap().map(|standing| standing.mark)
}

async fn update(store: &Store, link: &LinkKey, change: impl FnOnce(&mut LinkRecord)) {
    assert!(store.update_link(link, held(store, link).await, change).await.unwrap());
}

async fn read_and_stage(store: &Store, link: &LinkKey, digest: u8, body: &'static [u8]) -> StageOutcome {
    let claim = begin_read(store, link).await;
    store.stage(claim, [digest; 32], bytes::Bytes::from_static(body), false).await.unwrap()
}

#[tokio::test]
async fn a_link_and_what_it_owes_survive_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let user = UserId::random();
    let link = {
        let store = open(dir.path());
        let link = link_one(&store, user, 1).await;
        assert_eq!(read_and_stage(&store, &link, 1, b"{\"body\":1}").await, StageOutcome::Staged);
        store.mark_pages(&[page(1), page(99)], Cause::Webhook).await.unwrap();
        store.close().await;
        link
    };
    let store = open(dir.path());
    assert_eq!(store.link(&link).await.unwrap().unwrap().token.unwrap().expose(), "EAAB-token");
    assert_eq!(unclaimed_mark(&store, &link).await.unwrap().cause, Cause::Webhook);
    let item = store.outbox_item(&link).await.unwrap().unwrap();
    assert_eq!(item.body.as_ref(), b"{\"body\":1}");
    assert_eq!(store.counts().await.unwrap().due, 1);
    assert!(!store.complete(&link, &item, Some("etag".into()), Left::default()).await.unwrap());
    assert_eq!(store.expectation(&link).await.unwrap().etag.as_deref(), Some("etag"));
    store.close().await;
}

#[tokio::test]
async fn a_long_body_is_cut_and_put_together() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let link = link_one(&store, UserId::random(), 1).await;
    let body: bytes::Bytes = (0..200_000u32).map(|n| n as u8).collect::<Vec<u8>>().into();
    let claim = begin_read(&store, &link).await;
    store.stage(claim, [1; 32], body.clone(), false).await.unwrap();
    assert_eq!(store.outbox_item(&link).await.unwrap().unwrap().body, body);
    let claim = begin_read(&store, &link).await;
    store.stage(claim, [2; 32], bytes::Bytes::from_static(b"short"), false).await.unwrap();
    let left = store.read(|engine| Ok(engine.records(Tree::Bodies).count())).unwrap();
    assert_eq!(left, 1, "the pieces of the replaced body must go");
    store.close().await;
}

#[tokio::test]
async fn another_key_is_refused_by_name_and_a_previous_key_opens() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let link = link_one(&store, UserId::random(), 1).await;
    assert_eq!(store.unopened_by(&Keyring::new([8; 32], Vec::new())).await.unwrap(), 1);
    assert_eq!(store.unopened_by(&Keyring::new([8; 32], vec![[7; 32]])).await.unwrap(), 0);
    store.close().await;
    drop(store);
    let refused = Store::open(dir.path(), Keyring::new([8; 32], Vec::new())).err().unwrap();
    assert!(matches!(refused, OpenError::WrongKey { .. }), "{refused}");
    let store = Store::open(dir.path(), Keyring::new([8; 32], vec![[7; 32]])).unwrap();
    assert_eq!(store.reseal().await.unwrap(), 1);
    store.close().await;
    drop(store);
    let store = Store::open(dir.path(), Keyring::new([8; 32], Vec::new())).unwrap();
    assert_eq!(store.link(&link).await.unwrap().unwrap().token.unwrap().expose(), "EAAB-token");
    store.close().await;
}

#[tokio::test]
async fn a_second_daemon_is_told_that_the_store_is_in_use() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let second = Store::open(dir.path(), keyring()).err().unwrap();
    assert!(matches!(second, OpenError::Locked { .. }), "{second}");
    store.close().await;
}

#[tokio::test]
async fn a_dropped_claim_gives_the_mark_back() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let link = link_one(&store, UserId::random(), 1).await;
    let claim = begin_read(&store, &link).await;
    assert!(unclaimed_mark(&store, &link).await.is_none());
    assert!(due_mark(&store, &link).await.is_some());
    assert_eq!(claim.cause(), Some(Cause::Link));
    drop(claim);
    assert!(unclaimed_mark(&store, &link).await.is_some());
    store.close().await;
}

#[tokio::test]
async fn unlinking_forgets_the_token_and_owes_a_delete() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let (user, person): (_, AppUserId) = (UserId::random(), "77".parse().unwrap());
    let account = NewAccount {
        person: person.clone(),
        name: None,
        token: Secret::new("user-token"),
        granted: Vec::new(),
        expires_at: None,
    };
    let new = |n| NewLink { page: page(n), token: Secret::new("t"), name: None, facebook_user: Some(person.clone()) };
    store
        .put_links(store.ticket().await.unwrap(), user, Some(account), vec![new(1), new(2)], Cause::Link)
        .await
        .unwrap();
    let (one, two) = (LinkKey::new(user, page(1)), LinkKey::new(user, page(2)));
    assert_eq!(unlink(&store, &one, Unlinking::default()).await, []);
    assert!(store.link(&one).await.unwrap().is_none());
    assert!(store.account(user, &person).await.unwrap().is_some());
    assert_eq!(store.outbox_parts().await.unwrap(), vec![one.whole()]);
    let item = store.outbox_item(&one).await.unwrap().unwrap();
    store.complete(&one, &item, None, Left::default()).await.unwrap();
    assert!(store.outbox_parts().await.unwrap().is_empty());
    unlink(&store, &two, Unlinking { keep_objects: true, revoke: false }).await;
    assert!(store.account(user, &person).await.unwrap().is_none(), "the last link takes the login with it");
    assert_eq!(store.counts().await.unwrap(), Counts { cleanups: [("unsubscribe", 2)].into(), ..Counts::default() });
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_deliveries_at_once_are_all_durable() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let user = UserId::random();
    for n in 0..50 {
        let link = link_one(&store, user, n).await;
        read_and_stage(&store, &link, 1, b"x").await;
    }
    let tasks = (0..400u64).map(|n| {
        let store = store.clone();
        tokio::spawn(async move { store.mark_pages(&[page(n % 50)], Cause::Webhook).await })
    });
    for task in tasks.collect::<Vec<_>>() {
        assert_eq!(task.await.unwrap().unwrap().len(), 1);
    }
    store.close().await;
    drop(store);
    assert_eq!(open(dir.path()).counts().await.unwrap().due, 50);
}

#[tokio::test]
async fn a_closed_store_refuses_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    link_one(&store, UserId::random(), 1).await;
    store.close().await;
    let refused = store.mark_pages(&[page(1)], Cause::Webhook).await.unwrap_err();
    assert!(refused.to_string().contains("closed"));
}

#[tokio::test]
async fn news_about_an_old_token_is_not_held_against_a_new_one() {
    use crate::core::health::ParkReason;
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let user = UserId::random();
    let link = link_one(&store, user, 1).await;
    let old = held(&store, &link).await;
    link_one(&store, user, 1).await;
    let new = held(&store, &link).await;
    assert!(new > old);
    assert!(!store.park_link(&link, old, ParkReason::Invalid).await.unwrap());
    let learned = |record: &mut LinkRecord| record.refused_page_fields.add(&["hours".to_owned()]);
    assert!(!store.update_link(&link, old, learned).await.unwrap());
    assert!(
        store.claim(&link, old).await.unwrap().is_none(),
        "the mark of the new token is not answered for with the old one"
    );
    let record = store.view(&link).await.unwrap().unwrap().record;
    assert!(record.health.is_active() && record.refused_page_fields.is_empty());
    assert!(store.park_link(&link, new, ParkReason::Invalid).await.unwrap());
    assert!(!store.view(&link).await.unwrap().unwrap().record.health.is_active());
    store.close().await;
}

#[tokio::test]
async fn a_generation_is_never_handed_out_twice() {
    let dir = tempfile::tempdir().unwrap();
    let user = UserId::random();
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..3 {
        let store = open(dir.path());
        for n in [1, 2] {
            // Nothing but the link itself holds its number when the store is opened again.
            let link = link_one(&store, user, n).await;
            assert_eq!(read_and_stage(&store, &link, 1, b"{}").await, StageOutcome::Staged);
            let item = store.outbox_item(&link).await.unwrap().unwrap();
            store.complete(&link, &item, None, Left::default()).await.unwrap();
            assert!(seen.insert(held(&store, &link).await), "{seen:?}");
            unlink(&store, &link, Unlinking { keep_objects: true, revoke: false }).await;
            let again = link_one(&store, user, n).await;
            assert!(seen.insert(held(&store, &again).await), "{seen:?}");
        }
        store.close().await;
    }
}

#[test]
fn a_link_of_an_earlier_version_reads_forward() {
    let text =
        r#"{"facebook_user":"77","name":null,"linked_at":5,"token":"","health":"active","told_at":1795341600000}"#;
    let record: LinkRecord = serde_json::from_str(text).unwrap();
    assert_eq!((record.generation, record.hint), (Generation(0), Some(1_795_341_600_000)));
    let again: LinkRecord = serde_json::from_slice(&serde_json::to_vec(&record).unwrap()).unwrap();
    assert_eq!(again, record);
    let settled: LinkRecord = serde_json::from_str(r#"{"linked_at":5,"told_at":null}"#).unwrap();
    assert_eq!(settled.hint, None);
}
