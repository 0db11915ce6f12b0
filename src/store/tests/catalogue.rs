//! The catalogue of a shop in the store: resting parts take no memory and are not forgotten, rows follow what Spaces
//! has, and all of it goes with the link.

use super::*;
use crate::core::catalogue::{Piece, Progress, Row};
use crate::core::cleanup::Cleanup;
use crate::core::ledger::OwedCounts;
use crate::core::model::{PartKey, Source};
use crate::core::park_reason::ParkReason;
use crate::store::database::Database;
use crate::store::shops::{NewShop, ShopPair};
use crate::store::tree::{Tree, Write};

const SHOP: &str = "some-shop.myshopify.com";

fn new_shop() -> NewShop {
    let pair = ShopPair { access: Secret::new("shpat_1"), refresh: Secret::new("shprt_1") };
    let expires_at = WallTime::now().plus(Duration::from_secs(3600));
    NewShop { shop: SHOP.parse().unwrap(), pair, expires_at, refresh_expires_at: None, scopes: Vec::new(), name: None }
}

async fn linked(store: &Store) -> LinkKey {
    install(store, UserId::random()).await
}

async fn install(store: &Store, user: UserId) -> LinkKey {
    let ticket = store.ticket().await.unwrap();
    let before = store.pair_number(&SHOP.parse().unwrap()).await.unwrap();
    store.put_shop(ticket, user, &new_shop(), (Cause::Link, before)).await.unwrap().unwrap().link
}

fn product(link: &LinkKey, id: u64) -> PartKey {
    PartKey::new(link.clone(), Piece::Product(id).part())
}

fn index(link: &LinkKey) -> PartKey {
    PartKey::new(link.clone(), Piece::Index.part())
}

fn row(title: &str) -> Row {
    Row { title: title.into(), handle: "h".into(), status: "ACTIVE".into(), updated_at: "t".into(), url: None }
}

async fn stage(store: &Store, part: &PartKey, digest: u8) -> StageOutcome {
    let claim = store.claim(part, held(store, &part.link).await).await.unwrap().unwrap();
    store.stage(claim, [digest; 32], bytes::Bytes::from_static(b"{}"), false).await.unwrap()
}

async fn complete(store: &Store, part: &PartKey, title: &str) {
    let item = store.outbox_item(part).await.unwrap().unwrap();
    let left = Left { row: Some(row(title)), ..Left::default() };
    store.complete(part, &item, Some(format!("etag-{title}")), left).await.unwrap();
}

/// Entries of parts in memory.
fn resident(store: &Store, link: &LinkKey) -> usize {
    store.lock().state.ledger.of_link(link).filter(|(part, _)| !part.part.is_whole()).count()
}

async fn rows(store: &Store, link: &LinkKey) -> Vec<(u64, String)> {
    let list = |rows: &mut dyn Iterator<Item = (u64, Row)>| rows.map(|(id, row)| (id, row.title)).collect();
    store.with_rows(link, list).await.unwrap()
}

#[tokio::test]
async fn what_is_owed_is_counted_for_each_source_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    assert_eq!(store.counts().await.unwrap().owed, [].into());
    let page = link_one(&store, UserId::random(), 1).await;
    let shop = linked(&store).await;
    store.mark_parts(vec![product(&shop, 1), product(&shop, 2)], Cause::Poll).await.unwrap();
    assert_eq!(stage(&store, &product(&shop, 2), 1).await, StageOutcome::Staged);
    assert!(store.park_link(&page, held(&store, &page).await, ParkReason::Expired).await.unwrap());
    let of_pages = OwedCounts { due: 0, due_parked: 1, outbox: 0 };
    // The whole of the shop is due as well.
    let of_shops = OwedCounts { due: 2, due_parked: 0, outbox: 1 };
    for _ in 0..2 {
        let counts = store.counts().await.unwrap();
        assert_eq!(counts.owed, [(Source::Facebook, of_pages), (Source::Shopify, of_shops)].into());
        assert_eq!((counts.due, counts.due_parked, counts.outbox), (2, 1, 1));
        store.close().await;
        store = open(dir.path());
    }
}

#[tokio::test]
async fn a_part_that_rests_takes_no_memory_and_is_compared_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    let link = linked(&store).await;
    for id in [300, 20, 1] {
        assert_eq!(stage(&store, &product(&link, id), 1).await, StageOutcome::Staged);
        complete(&store, &product(&link, id), &id.to_string()).await;
    }
    assert_eq!(resident(&store, &link), 1, "the index is due, and the products rest");
    assert_eq!(rows(&store, &link).await.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [1, 20, 300]);
    for _ in 0..2 {
        assert_eq!(stage(&store, &product(&link, 20), 1).await, StageOutcome::Unchanged);
        assert_eq!(store.expectation(product(&link, 20)).await.unwrap().etag.as_deref(), Some("etag-20"));
        assert_eq!(resident(&store, &link), 1);
        store.close().await;
        store = open(dir.path());
    }
    assert_eq!(stage(&store, &product(&link, 20), 2).await, StageOutcome::Staged);
    complete(&store, &product(&link, 20), "other").await;
    assert_eq!(stage(&store, &product(&link, 20), 2).await, StageOutcome::Unchanged);
    assert_eq!(rows(&store, &link).await[1], (20, "other".to_owned()));
    store.close().await;
}

#[tokio::test]
async fn a_claim_that_is_dropped_leaves_nothing_in_memory() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let link = linked(&store).await;
    let generation = held(&store, &link).await;
    drop(store.claim(product(&link, 7), generation).await.unwrap().unwrap());
    assert_eq!(resident(&store, &link), 0);
    store.mark_parts(vec![product(&link, 7)], Cause::Webhook).await.unwrap();
    drop(store.claim(product(&link, 7), generation).await.unwrap().unwrap());
    assert_eq!(store.due_parts(&link, 9, |_, _| true).await.unwrap().len(), 1);
    store.close().await;
}

#[tokio::test]
async fn the_index_is_due_after_each_product_and_a_product_that_is_gone_leaves_it_first() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let link = linked(&store).await;
    let (one, index) = (product(&link, 1), index(&link));
    stage(&store, &one, 1).await;
    assert!(store.mark(&index).await.unwrap().is_none(), "Spaces has it not yet");
    complete(&store, &one, "one").await;
    assert_eq!(stage(&store, &index, 1).await, StageOutcome::Staged);
    complete(&store, &index, "index").await;
    assert!(store.is_complete(&index).await.unwrap());

    store.mark_parts(vec![one.clone()], Cause::Webhook).await.unwrap();
    let claim = store.claim(&one, held(&store, &link).await).await.unwrap().unwrap();
    assert!(store.drop_row(&claim, held(&store, &link).await).await.unwrap());
    assert!(rows(&store, &link).await.is_empty() && !store.is_complete(&index).await.unwrap());
    assert!(store.outbox_item(&one).await.unwrap().is_none(), "the index still names it");
    assert!(store.mark(&one).await.unwrap().unwrap().is_claimed, "its mark stands until the delete is staged");
    assert_eq!(store.retire(claim).await.unwrap(), StageOutcome::Staged);
    assert!(store.mark(&one).await.unwrap().is_none());
    let item = store.outbox_item(&one).await.unwrap().unwrap();
    assert_eq!(item.staged.op, ObjectOp::Delete);
    store.complete(&one, &item, None, Left::default()).await.unwrap();
    let known = store.expectation(&one).await.unwrap();
    assert!(known.answered > 0 && known.digest.is_none() && !known.outbox, "what was read before is known to be old");
    store.forget_gone(&link, held(&store, &link).await).await.unwrap();
    assert_eq!(store.expectation(&one).await.unwrap(), Default::default());
    store.close().await;
}

#[tokio::test]
async fn a_write_that_ends_after_its_product_went_brings_no_row_back() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let link = linked(&store).await;
    let (one, generation) = (product(&link, 1), held(&store, &link).await);
    stage(&store, &one, 1).await;
    let item = store.outbox_item(&one).await.unwrap().unwrap();
    store.mark_parts(vec![one.clone()], Cause::Webhook).await.unwrap();
    let claim = store.claim(&one, generation).await.unwrap().unwrap();
    assert!(store.drop_row(&claim, generation).await.unwrap());
    assert!(store.outbox_item(&one).await.unwrap().is_none(), "nothing is written of it any more");
    let left = Left { row: Some(row("one")), ..Left::default() };
    store.complete(&one, &item, Some("etag".into()), left).await.unwrap();
    assert_eq!(rows(&store, &link).await, []);
    // If it is there after all, it is written and has its row again.
    drop(claim);
    assert_eq!(stage(&store, &one, 1).await, StageOutcome::Staged);
    complete(&store, &one, "one").await;
    assert_eq!(rows(&store, &link).await.len(), 1);
    store.close().await;
}

#[tokio::test]
async fn a_newer_read_has_the_word_over_one_that_found_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let link = linked(&store).await;
    let one = product(&link, 1);
    store.mark_parts(vec![one.clone()], Cause::Webhook).await.unwrap();
    let early = store.claim(&one, held(&store, &link).await).await.unwrap().unwrap();
    assert_eq!(stage(&store, &one, 1).await, StageOutcome::Staged);
    assert_eq!(store.retire(early).await.unwrap(), StageOutcome::Superseded);
    complete(&store, &one, "one").await;
    assert_eq!(rows(&store, &link).await.len(), 1);
    store.close().await;
}

#[tokio::test]
async fn a_write_that_ends_after_its_product_is_gone_brings_it_back_into_no_index() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let link = linked(&store).await;
    let (one, generation) = (product(&link, 1), held(&store, &link).await);
    stage(&store, &one, 1).await;
    let under_way = store.outbox_item(&one).await.unwrap().unwrap();
    store.mark_parts(vec![one.clone()], Cause::Webhook).await.unwrap();
    let claim = store.claim(&one, generation).await.unwrap().unwrap();
    assert!(store.drop_row(&claim, generation).await.unwrap());
    assert!(store.outbox_item(&one).await.unwrap().is_none(), "what waits is not written any more");
    let left = Left { row: Some(row("one")), ..Left::default() };
    store.complete(&one, &under_way, Some("etag".into()), left.clone()).await.unwrap();
    assert!(rows(&store, &link).await.is_empty());
    assert_eq!(store.retire(claim).await.unwrap(), StageOutcome::Staged);
    store.complete(&one, &under_way, Some("etag".into()), left).await.unwrap();
    assert!(rows(&store, &link).await.is_empty());
    assert_eq!(store.outbox_item(&one).await.unwrap().unwrap().staged.op, ObjectOp::Delete);
    store.close().await;
}

#[tokio::test]
async fn a_product_that_is_there_again_has_its_row_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let link = linked(&store).await;
    let (one, generation) = (product(&link, 1), held(&store, &link).await);
    stage(&store, &one, 1).await;
    complete(&store, &one, "one").await;
    let missed = store.claim(&one, generation).await.unwrap().unwrap();
    assert!(store.drop_row(&missed, generation).await.unwrap());
    assert_eq!(stage(&store, &one, 1).await, StageOutcome::Staged, "the same, and its row is gone");
    assert!(!store.drop_row(&missed, generation).await.unwrap(), "a newer read has the word");
    assert_eq!(store.retire(missed).await.unwrap(), StageOutcome::Superseded);
    complete(&store, &one, "one").await;
    assert_eq!(rows(&store, &link).await.len(), 1);
    store.close().await;
}

#[tokio::test]
async fn parts_that_somebody_waits_for_are_due_before_thousands_of_others() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let link = linked(&store).await;
    let found: Vec<PartKey> = (1..=20).map(|id| product(&link, id)).collect();
    store.mark_parts(found, Cause::Poll).await.unwrap();
    let announced: Vec<PartKey> = (7..=10).map(|id| product(&link, id * 100)).collect();
    store.mark_parts(announced.clone(), Cause::Webhook).await.unwrap();
    store.mark_parts(vec![product(&link, 20)], Cause::Webhook).await.unwrap();
    let due = store.due_parts(&link, 8, |part, _| *part != announced[0]).await.unwrap();
    let urgent = due.iter().filter(|(_, cause)| *cause == Cause::Webhook).count();
    assert_eq!((due.len(), urgent), (8, 4), "{due:?}");
    assert!(due[..4].iter().all(|(_, cause)| *cause == Cause::Webhook));
    let due = store.due_parts(&link, 4, |_, _| true).await.unwrap();
    assert_eq!(due.iter().filter(|(_, cause)| *cause == Cause::Poll).count(), 1, "none waits for ever");
    store.close().await;
}

#[tokio::test]
async fn parts_that_rest_go_with_their_link_and_stay_when_it_is_back() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let link = linked(&store).await;
    for id in 1..=5 {
        stage(&store, &product(&link, id), 1).await;
        complete(&store, &product(&link, id), "p").await;
    }
    store
        .note_progress(&link, held(&store, &link).await, &Progress { failures: 3, ..Progress::default() })
        .await
        .unwrap();
    let forget = async |store: &Store| {
        let all = store.cleanups().await.unwrap();
        let standing = all.into_iter().find(|one| matches!(one.cleanup, Cleanup::ForgetParts(_))).unwrap();
        store.forget_parts(&link, standing.seq, 2).await.unwrap()
    };
    unlink(&store, &link, Unlinking::default()).await;
    assert!(forget(&store).await);
    let again = install(&store, link.user).await;
    assert_eq!(again, link);
    assert!(!forget(&store).await, "the parts are the new link's");
    assert_eq!(rows(&store, &link).await.len(), 3);
    assert_eq!(store.progress(&link).await.unwrap(), Progress::default(), "it is swept first");

    unlink(&store, &link, Unlinking::default()).await;
    while forget(&store).await {}
    let outbox = store.outbox_parts().await.unwrap();
    let deleted = outbox.iter().filter(|part| matches!(Piece::of(&part.part), Some(Piece::Product(_)))).count();
    assert_eq!(deleted, 5);
    for part in outbox {
        let item = store.outbox_item(&part).await.unwrap().unwrap();
        assert_eq!(item.staged.op, ObjectOp::Delete);
        store.complete(&part, &item, None, Left::default()).await.unwrap();
    }
    for tree in [Tree::Products, Tree::Synced, Tree::Catalogues, Tree::Outbox] {
        assert_eq!(store.read(|engine| Ok(engine.records(tree).count())).unwrap(), 0, "{}", tree.name());
    }
    assert_eq!(resident(&store, &link), 0);
    store.close().await;
}

#[tokio::test]
async fn a_product_that_an_unlink_deletes_at_once_leaves_the_index_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let link = linked(&store).await;
    for id in 1..=2 {
        stage(&store, &product(&link, id), 1).await;
        complete(&store, &product(&link, id), "p").await;
    }
    // One rests on disk, and the other waits for a read.
    store.mark_parts(vec![product(&link, 2)], Cause::Poll).await.unwrap();
    unlink(&store, &link, Unlinking::default()).await;
    install(&store, link.user).await;
    let left = rows(&store, &link).await;
    assert_eq!(left.len(), 1, "the index would name an object that is being deleted: {left:?}");
    store.close().await;
}

#[tokio::test]
async fn a_write_that_may_land_late_has_its_product_written_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let link = linked(&store).await;
    let one = product(&link, 1);
    stage(&store, &one, 1).await;
    let item = store.outbox_item(&one).await.unwrap().unwrap();
    let left = Left { in_doubt_until: Some(WallTime::now()), row: Some(row("one")), ..Left::default() };
    store.complete(&one, &item, None, left).await.unwrap();
    let again = store.cleanups().await.unwrap().into_iter().find(|c| c.cleanup == Cleanup::DeleteAgain(one.clone()));
    store.finish_cleanup(&Cleanup::DeleteAgain(one.clone()), again.unwrap().seq).await.unwrap();
    assert!(store.mark(&one).await.unwrap().is_some());
    assert_eq!(stage(&store, &one, 1).await, StageOutcome::Staged, "whatever the read brings");
    store.close().await;
}

#[tokio::test]
async fn a_row_that_is_damaged_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let link = linked(&store).await;
    stage(&store, &product(&link, 1), 1).await;
    complete(&store, &product(&link, 1), "one").await;
    store.close().await;
    drop(store);
    {
        let engine = Database::open(dir.path(), &keyring()).unwrap();
        let (key, batch) = (crate::store::catalogue::row_key(&link, 1), engine.batch().unwrap());
        let mut value = engine.get(Tree::Products, &key).unwrap().unwrap().to_vec();
        let last = value.len() - 1;
        value[last] ^= 1;
        engine.commit(&[Write { tree: Tree::Products, key, value: Some(value) }], batch).unwrap();
    }
    let store = open(dir.path());
    assert!(rows(&store, &link).await.is_empty());
    assert!(store.mark(product(&link, 1)).await.unwrap().is_some());
    assert_eq!(stage(&store, &product(&link, 1), 1).await, StageOutcome::Staged, "its row comes with a write");
    complete(&store, &product(&link, 1), "one").await;
    assert_eq!(rows(&store, &link).await.len(), 1);
    store.close().await;
}

#[tokio::test]
async fn objects_that_only_the_bucket_knows_go_with_their_link_unless_they_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let link = linked(&store).await;
    let found = [product(&link, 7)];
    let seq = async |store: &Store| {
        let all = store.cleanups().await.unwrap();
        all.into_iter().find(|one| matches!(one.cleanup, Cleanup::ForgetParts(_))).unwrap().seq
    };
    unlink(&store, &link, Unlinking { keep_objects: true, revoke: false }).await;
    assert!(!store.forget_found(&link, seq(&store).await, &found).await.unwrap(), "they are kept");
    install(&store, link.user).await;
    assert!(!store.forget_found(&link, seq(&store).await, &found).await.unwrap(), "the link is back");
    unlink(&store, &link, Unlinking::default()).await;
    assert!(!store.forget_found(&link, 1, &found).await.unwrap(), "of an earlier cleanup");
    assert!(store.forget_found(&link, seq(&store).await, &found).await.unwrap());
    assert_eq!(store.outbox_item(&found[0]).await.unwrap().unwrap().staged.op, ObjectOp::Delete);
    store.close().await;
}
