//! The parts of a link in the store: each is marked, read, staged and written by itself, and all go with the link.

use super::*;
use crate::core::cleanup::Cleanup;
use crate::core::model::{Part, PartKey};
use crate::store::tree::Tree;

/// The whole of a link, and two parts of it.
fn parts(link: &LinkKey) -> [PartKey; 3] {
    let part = |name: &str| PartKey::new(link.clone(), name.parse().unwrap());
    [PartKey::new(link.clone(), Part::whole()), part("products/1"), part("products/12")]
}

async fn stage(store: &Store, part: &PartKey, digest: u8, body: &'static [u8]) -> StageOutcome {
    let claim = store.claim(part, held(store, &part.link).await).await.unwrap().unwrap();
    store.stage(claim, [digest; 32], bytes::Bytes::from_static(body), false).await.unwrap()
}

fn records(store: &Store, tree: Tree) -> usize {
    store.read(|engine| Ok(engine.records(tree).count())).unwrap()
}

#[tokio::test]
async fn parts_of_a_link_do_not_touch_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let link = link_one(&store, UserId::random(), 1).await;
    let [whole, one, two] = parts(&link);
    store.mark_parts(vec![one.clone(), two.clone()], Cause::Webhook).await.unwrap();
    assert_eq!(stage(&store, &one, 1, b"one").await, StageOutcome::Staged);
    let due = async |part: &PartKey| due_mark(&store, part).await.is_some();
    assert_eq!(
        (due(&whole).await, due(&one).await, due(&two).await),
        (true, false, true),
        "one read answers for one part"
    );
    assert_eq!(stage(&store, &two, 1, b"two").await, StageOutcome::Staged, "another part has the same digest");
    let outbox = feed::published(&store).links.remove(&link).unwrap_or_default().outbox;
    assert_eq!(outbox, [one.part.clone(), two.part.clone()].into(), "each waits for the uploader by itself");
    assert_eq!(store.outbox_parts().await.unwrap(), [one.clone(), two.clone()]);
    let item = store.outbox_item(&one).await.unwrap().unwrap();
    store.complete(&one, &item, Some("etag-1".into()), Left::default()).await.unwrap();
    assert_eq!(store.expectation(&one).await.unwrap().etag.as_deref(), Some("etag-1"));
    assert_eq!(store.expectation(&two).await.unwrap().etag, None);
    store.close().await;

    let store = open(dir.path());
    assert_eq!(store.counts().await.unwrap().damaged, 0);
    assert!(store.outbox_item(&whole).await.unwrap().is_none() && store.outbox_item(&one).await.unwrap().is_none());
    assert_eq!(store.outbox_item(&two).await.unwrap().unwrap().body.as_ref(), b"two");
    assert_eq!(store.expectation(&one).await.unwrap().etag.as_deref(), Some("etag-1"));
    assert_eq!(stage(&store, &one, 1, b"one").await, StageOutcome::Unchanged);
    assert!(store.view(&link).await.unwrap().unwrap().owed);
    assert_eq!(store.outbox_parts().await.unwrap(), [two]);
    store.close().await;
}

#[tokio::test]
async fn a_link_that_goes_takes_all_its_parts_and_owes_a_delete_for_each() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let link = link_one(&store, UserId::random(), 1).await;
    let parts = parts(&link);
    store.mark_parts(parts.to_vec(), Cause::Manual).await.unwrap();
    for part in &parts[1..] {
        stage(&store, part, 1, b"{}").await;
    }
    feed::published(&store);
    unlink(&store, &link, Unlinking::default()).await;
    let outbox = feed::published(&store).links.remove(&link).unwrap_or_default().outbox;
    assert_eq!(outbox, parts.iter().map(|part| part.part.clone()).collect());
    for tree in [Tree::Links, Tree::Marks, Tree::Synced, Tree::Fields, Tree::Bodies] {
        assert_eq!(records(&store, tree), 0, "{}", tree.name());
    }
    store.close().await;

    let store = open(dir.path());
    for part in &parts {
        let item = store.outbox_item(part).await.unwrap().unwrap();
        assert_eq!(item.staged.op, ObjectOp::Delete, "{part}");
        store.complete(part, &item, None, Left::default()).await.unwrap();
    }
    assert!(store.outbox_parts().await.unwrap().is_empty() && records(&store, Tree::Outbox) == 0);
    store.close().await;
}

#[tokio::test]
async fn a_deletion_waits_for_the_objects_of_all_parts() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let person: AppUserId = "77".parse().unwrap();
    let new = NewLink { page: page(1), token: Secret::new("t"), name: None, facebook_user: Some(person.clone()) };
    let stored =
        store.put_links(store.ticket().await.unwrap(), UserId::random(), None, vec![new], Cause::Link).await.unwrap();
    let [whole, one, two] = parts(&stored.links[0]);
    store.mark_parts(vec![one.clone(), two.clone()], Cause::Manual).await.unwrap();
    store.forget_person(&person, "code", None).await.unwrap();
    let open = async || store.deletion("code").await.unwrap().unwrap().open;
    for part in [&whole, &two] {
        let item = store.outbox_item(part).await.unwrap().unwrap();
        store.complete(part, &item, None, Left::default()).await.unwrap();
        assert_eq!(open().await, 1, "one part still owes its delete");
    }
    let item = store.outbox_item(&one).await.unwrap().unwrap();
    let left = Left { in_doubt_until: Some(WallTime::now()), ..Left::default() };
    store.complete(&one, &item, None, left).await.unwrap();
    assert_eq!(open().await, 1, "a write of one part may still land");
    let again =
        store.cleanups().await.unwrap().into_iter().find(|c| c.cleanup == Cleanup::DeleteAgain(one.clone())).unwrap();
    assert!(store.is_left_over(&one, again.seq).await.unwrap());
    store.finish_cleanup(&again.cleanup, again.seq).await.unwrap();
    assert_eq!(open().await, 0);
    store.close().await;
}

#[tokio::test]
async fn the_machine_of_a_link_sees_its_whole_alone_and_parts_are_listed() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let link = link_one(&store, UserId::random(), 1).await;
    let [whole, one, _] = parts(&link);
    stage(&store, &whole, 1, b"whole").await;
    let read = async |store: &Store| {
        let facts = store.facts(&link).await.unwrap();
        (facts.generation == Some(held(store, &link).await), facts.unclaimed, facts.due)
    };
    assert_eq!(read(&store).await, (true, None, false));
    store.mark_parts(vec![one.clone()], Cause::Webhook).await.unwrap();
    assert_eq!(read(&store).await, (true, None, false));
    let due = async || {
        store.due_parts(&link, 9, |_, _| true).await.unwrap().into_iter().map(|(part, _)| part).collect::<Vec<_>>()
    };
    assert_eq!(due().await, std::slice::from_ref(&one));
    assert!(store.view(&link).await.unwrap().unwrap().owed);
    let claim = store.claim(&one, held(&store, &link).await).await.unwrap().unwrap();
    assert_eq!(due().await, [], "a read answers for it");
    drop(claim);
    assert_eq!(due().await, [one]);
    unlink(&store, &link, Unlinking::default()).await;
    assert_eq!(store.facts(&link).await.unwrap(), Default::default());
    store.close().await;
}
