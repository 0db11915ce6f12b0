//! The catalogue of a shop in the store: resting parts take no memory and are not forgotten, rows follow what Spaces has, and
//! all of it goes with the link.

use super::*;
use crate::core::catalogue::{Piece, Progress, Row};
use crate::core::cleanup::Cleanup;
use crate::core::model::PartKey;
use crate::store::shops::{NewShop, ShopPair};
use crate::store::tree::Tree;

const SHOP: &str = "some-shop.myshopify.com";

fn new_shop() -> NewShop {
    let pair = ShopPair { access: Secret::new("shpat_1"), refresh: Secret::new("shprt_1") };
    let expires_at = WallTime::now().plus(Duration::from_secs(3600));
    NewShop { shop: SHOP.parse().unwrap(), pair, expires_at, refresh_expires_at: None, scopes: Vec::new(), name: None }
}

async fn linked(store: &Store) -> LinkKey {
    let ticket = store.ticket().await.unwrap();
    store.put_shop(ticket, UserId::random(), new_shop(), Cause::Link).await.unwrap().link
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
    assert_eq!(store.due_parts(&link, 9).await.unwrap().len(), 1);
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
    assert!(store.drop_row(&one, held(&store, &link).await).await.unwrap());
    assert!(rows(&store, &link).await.is_empty() && !store.is_complete(&index).await.unwrap());
    assert!(store.outbox_item(&one).await.unwrap().is_none(), "the index still names it");
    assert!(store.mark(&one).await.unwrap().unwrap().is_claimed, "its mark stands until the delete is staged");
    assert_eq!(store.retire(claim).await.unwrap(), StageOutcome::Staged);
    assert!(store.mark(&one).await.unwrap().is_none());
    let item = store.outbox_item(&one).await.unwrap().unwrap();
    assert_eq!(item.staged.op, ObjectOp::Delete);
    store.complete(&one, &item, None, Left::default()).await.unwrap();
    let known = store.expectation(&one).await.unwrap();
    assert!(
        known.read_at.is_some() && known.digest.is_none() && !known.outbox,
        "what was read before is known to be old"
    );
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
    assert!(store.drop_row(&one, generation).await.unwrap());
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
    let again = store.put_shop(store.ticket().await.unwrap(), link.user, new_shop(), Cause::Link).await.unwrap().link;
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
