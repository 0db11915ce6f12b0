//! Cleanups and deletions: decided with what needs them, durable, and gone without a trace.

use super::feed::published;
use super::*;
use crate::core::cleanup::Cleanup;
use crate::core::health::ParkReason;
use crate::store::cleanups::Ready;

pub(super) fn person(n: u64) -> AppUserId {
    (7700 + n).to_string().parse().unwrap()
}

pub(super) fn login(n: u64) -> NewAccount {
    NewAccount {
        person: person(n),
        name: None,
        token: Secret::new("user-token"),
        granted: Vec::new(),
        expires_at: None,
    }
}

pub(super) async fn link_as(store: &Store, user: UserId, n: u64, pages: &[u64]) -> Vec<LinkKey> {
    let new = |p: &u64| NewLink {
        page: page(*p),
        token: Secret::new(format!("page-token-{p}")),
        name: None,
        facebook_user: Some(person(n)),
    };
    let links = pages.iter().map(new).collect();
    store.put_links(store.ticket().await.unwrap(), user, Some(login(n)), links, Cause::Link).await.unwrap().links
}

const REVOKE: Unlinking = Unlinking { keep_objects: false, revoke: true };

async fn complete(store: &Store, link: &LinkKey) {
    let item = store.outbox_item(link).await.unwrap().unwrap();
    store.complete(link, &item, None, Left::default()).await.unwrap();
}

async fn words(store: &Store) -> Vec<(&'static str, bool)> {
    store.cleanups().await.unwrap().iter().map(|one| (one.cleanup.word(), one.void)).collect()
}

/// Finishes a cleanup. Returns the links that are to check their tokens for it.
async fn finish(store: &Store, cleanup: &Cleanup, seq: u64) -> Vec<(LinkKey, Generation)> {
    published(store);
    store.finish_cleanup(cleanup, seq).await.unwrap();
    let links = published(store).links.into_iter();
    links.filter_map(|(link, changes)| Some((link, changes.recheck?))).collect()
}

async fn with_tokens(store: &Store, links: &[LinkKey]) -> Vec<(LinkKey, Generation)> {
    let mut with_tokens = Vec::new();
    for link in links {
        with_tokens.push((link.clone(), held(store, link).await));
    }
    with_tokens
}

async fn seq(store: &Store, cleanup: &Cleanup) -> u64 {
    store.cleanups().await.unwrap().iter().find(|one| one.cleanup == *cleanup).unwrap().seq
}

#[tokio::test]
async fn an_unlink_leaves_cleanups_that_survive_and_can_be_done() {
    let dir = tempfile::tempdir().unwrap();
    let (ada, bruno) = (UserId::random(), UserId::random());
    let store = open(dir.path());
    let of_ada = link_as(&store, ada, 1, &[1, 2]).await;
    let of_bruno = link_as(&store, bruno, 1, &[2]).await;
    assert_eq!(unlink(&store, &of_ada[1], REVOKE).await, [Revoking::StillLinked(person(1), 2)]);
    assert_eq!(words(&store).await, [], "another user's link of the page stays");
    assert_eq!(unlink(&store, &of_ada[0], REVOKE).await, [Revoking::StillLinked(person(1), 1)]);
    assert_eq!(unlink(&store, &of_bruno[0], REVOKE).await, [Revoking::Asked(person(1))]);
    store.close().await;

    let bytes = std::fs::read(dir.path().join("sled/db")).unwrap();
    assert!(!bytes.windows(10).any(|window| window == b"page-token" || window == b"user-token"));
    let store = open(dir.path());
    assert_eq!(words(&store).await, [("unsubscribe", false), ("unsubscribe", false), ("revoke", false)]);
    let revoke = Cleanup::Revoke(person(1));
    let ready = async |cleanup: &Cleanup| store.cleanup_token(cleanup, seq(&store, cleanup).await).await.unwrap();
    assert_eq!(ready(&revoke).await, Ready::NotYet, "the pages' tokens end with it, so they go first");
    for n in [1, 2] {
        let cleanup = Cleanup::Unsubscribe(page(n));
        assert_eq!(ready(&cleanup).await, Ready::Yes(Secret::new(format!("page-token-{n}"))));
        assert_eq!(finish(&store, &cleanup, seq(&store, &cleanup).await).await, []);
    }
    assert_eq!(ready(&revoke).await, Ready::Yes(Secret::new("user-token")));
    store.finish_cleanup(&revoke, seq(&store, &revoke).await).await.unwrap();
    store.close().await;
    let store = open(dir.path());
    assert_eq!(words(&store).await, []);
    store.close().await;
}

#[tokio::test]
async fn a_login_again_makes_them_void_and_the_links_look_for_themselves() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let user = UserId::random();
    let links = link_as(&store, user, 1, &[1]).await;
    unlink(&store, &links[0], REVOKE).await;
    let (unsubscribe, revoke) = (Cleanup::Unsubscribe(page(1)), Cleanup::Revoke(person(1)));
    let first = seq(&store, &unsubscribe).await;
    link_as(&store, user, 1, &[1]).await;
    assert_eq!(words(&store).await, [("unsubscribe", true), ("revoke", true)]);
    assert_eq!(store.cleanup_token(&unsubscribe, first).await.unwrap(), Ready::NotYet);
    update(&store, &links[0], |record| record.subscribed = vec!["name".to_owned()].into()).await;
    assert_eq!(finish(&store, &unsubscribe, first).await, with_tokens(&store, &links).await);
    assert!(
        store.view(&links[0]).await.unwrap().unwrap().record.subscribed.is_empty(),
        "it is asked for again, after a restart too"
    );
    assert_eq!(finish(&store, &revoke, seq(&store, &revoke).await).await, with_tokens(&store, &links).await);
    // And a cleanup that took the place of another is not taken away by the other's end.
    unlink(&store, &links[0], Unlinking::default()).await;
    assert_eq!(finish(&store, &unsubscribe, first).await, []);
    assert_eq!(words(&store).await, [("unsubscribe", false)]);
    store.close().await;
}

#[tokio::test]
async fn without_a_token_or_a_known_person_the_app_stays() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let user = UserId::random();
    let new = |n, facebook_user| NewLink { page: page(n), token: Secret::new("t"), name: None, facebook_user };
    let imported = vec![new(1, Some(person(1))), new(2, None)];
    let links = store.put_links(store.ticket().await.unwrap(), user, None, imported, Cause::Link).await.unwrap().links;
    let unlinked = store.unlink(&links, REVOKE).await.unwrap();
    assert_eq!(unlinked.revoking, [Revoking::NobodyKnown, Revoking::NoToken(person(1))]);
    assert_eq!(words(&store).await, [("unsubscribe", false), ("unsubscribe", false)]);
    store.close().await;
}

#[tokio::test]
async fn cleanups_are_resealed_and_survive_the_loss_of_the_database() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let links = link_as(&store, UserId::random(), 1, &[1]).await;
    unlink(&store, &links[0], REVOKE).await;
    let newer = Keyring::new([8; 32], Vec::new());
    assert_eq!(store.unopened_by(&newer).await.unwrap(), 2);
    store.set_keyring(Keyring::new([8; 32], vec![[7; 32]]));
    assert_eq!(store.reseal().await.unwrap(), 2);
    assert_eq!(store.unopened_by(&newer).await.unwrap(), 0);
    store.close().await;
    std::fs::remove_dir_all(dir.path().join("sled")).unwrap();
    let store = Store::open(dir.path(), newer).unwrap();
    let cleanup = Cleanup::Unsubscribe(page(1));
    assert_eq!(
        store.cleanup_token(&cleanup, seq(&store, &cleanup).await).await.unwrap(),
        Ready::Yes(Secret::new("page-token-1"))
    );
    store.close().await;
}

#[tokio::test]
async fn a_forgotten_person_leaves_no_token_and_a_deletion_names_nobody_when_it_is_done() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let links = link_as(&store, UserId::random(), 1, &[1, 2]).await;
    unlink(&store, &links[1], Unlinking::default()).await;
    assert_eq!(store.known_of(&person(1)).await.unwrap(), Some((1, 0)));
    store.forget_person(&person(1), "code", None).await.unwrap();
    assert_eq!((words(&store).await, store.known_of(&person(1)).await.unwrap()), (vec![("unsubscribe", true)], None));
    complete(&store, &links[1]).await;
    let open = store.deletion("code").await.unwrap().unwrap();
    assert_eq!((open.open, open.objects, open.done_at), (1, 2, None));
    let item = store.outbox_item(&links[0]).await.unwrap().unwrap();
    let left = Left { in_doubt_until: Some(WallTime::now()), versions_unknown: true, ..Left::default() };
    store.complete(&links[0], &item, None, left).await.unwrap();
    let open = store.deletion("code").await.unwrap().unwrap();
    assert_eq!((open.open, open.versions_unknown), (1, true), "a write may still land, and is deleted after that");
    let again = Cleanup::DeleteAgain(links[0].whole());
    assert!(store.is_left_over(&links[0].whole(), seq(&store, &again).await).await.unwrap());
    store.finish_cleanup(&again, seq(&store, &again).await).await.unwrap();
    store.erase().await.unwrap();
    let done = store.deletion("code").await.unwrap().unwrap();
    assert!(done.open == 0 && done.objects == 2 && done.done_at.is_some());
    let record = store.lock().state.deletions.get("code").unwrap().clone();
    assert_eq!(record.links, []);
    let later = WallTime::now().plus(deletions::KEPT_FOR);
    store.sweep(WallTime::now()).await.unwrap();
    assert!(store.deletion("code").await.unwrap().is_some());
    store.sweep(later).await.unwrap();
    assert!(store.deletion("code").await.unwrap().is_none());
    store.close().await;
}

#[tokio::test]
async fn a_deletion_that_is_not_known_any_more_is_not_told_of_either() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.switch_events(true);
    for code in ["a", "b"] {
        store.forget_person(&person(1), code, None).await.unwrap();
    }
    assert_eq!(store.event_counts().await.unwrap().waiting, 2, "nobody takes them");
    store.sweep(WallTime::now().plus(deletions::KEPT_FOR)).await.unwrap();
    assert_eq!(store.event_counts().await.unwrap().waiting, 0);
    store.close().await;
    let store = open(dir.path());
    assert_eq!(store.event_counts().await.unwrap().waiting, 0);
    store.close().await;
}

/// A link that is unlinked for good, with an earlier write that may still land.
async fn unlinked_with_a_straggler(store: &Store, link: &LinkKey) -> Cleanup {
    unlink(store, link, Unlinking::default()).await;
    let item = store.outbox_item(link).await.unwrap().unwrap();
    let left = Left { in_doubt_until: Some(WallTime::now()), ..Left::default() };
    store.complete(link, &item, None, left).await.unwrap();
    Cleanup::DeleteAgain(link.whole())
}

#[tokio::test]
async fn an_object_that_is_to_be_kept_is_not_deleted_a_second_time() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let user = UserId::random();
    let links = link_as(&store, user, 1, &[1]).await;
    let again = unlinked_with_a_straggler(&store, &links[0]).await;
    let first = seq(&store, &again).await;
    assert!(store.is_left_over(&links[0].whole(), first).await.unwrap());
    link_as(&store, user, 1, &[1]).await;
    unlink(&store, &links[0], Unlinking { keep_objects: true, revoke: false }).await;
    assert!(!store.is_left_over(&links[0].whole(), first).await.unwrap(), "a try that began earlier looks here");
    assert!(!words(&store).await.contains(&("delete_again", false)));
    store.close().await;
}

#[tokio::test]
async fn a_deletion_waits_for_what_was_owed_for_that_person_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    let links = link_as(&store, UserId::random(), 1, &[1, 2, 3]).await;
    let others = link_as(&store, UserId::random(), 2, &[4]).await;
    let again = unlinked_with_a_straggler(&store, &links[2]).await;
    unlink(&store, &others[0], Unlinking::default()).await;
    unlink(&store, &links[1], Unlinking::default()).await;
    store.forget_person(&person(1), "first", None).await.unwrap();
    store.close().await;
    store = open(dir.path());
    store.forget_person(&person(1), "second", None).await.unwrap();
    let open_of = async |store: &Store, code: &str| {
        store.deletion(code).await.unwrap().map(|d| (d.open, d.done_at.is_some())).unwrap()
    };
    for code in ["first", "second"] {
        assert_eq!(open_of(&store, code).await, (3, false), "{code}");
    }
    assert_eq!(store.known_of(&person(1)).await.unwrap(), None, "nothing of theirs is left to forget");
    store.finish_cleanup(&again, seq(&store, &again).await).await.unwrap();
    for link in &links[..2] {
        complete(&store, link).await;
    }
    store.erase().await.unwrap();
    for code in ["first", "second"] {
        assert_eq!(open_of(&store, code).await, (0, true), "{code}");
    }
    store.close().await;
}

#[tokio::test]
async fn a_deletion_of_a_page_that_is_linked_again_waits_until_its_object_is_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let user = UserId::random();
    let links = link_as(&store, user, 1, &[1]).await;
    store.forget_person(&person(1), "code", None).await.unwrap();
    link_as(&store, user, 2, &[1]).await;
    read_and_stage(&store, &links[0], 1, b"{}").await;
    assert!(store.deletion("code").await.unwrap().unwrap().done_at.is_none(), "the bucket has what it had");
    complete(&store, &links[0]).await;
    store.erase().await.unwrap();
    assert!(store.deletion("code").await.unwrap().unwrap().done_at.is_some());
    store.close().await;
}

#[tokio::test]
async fn an_unsubscription_under_way_leaves_its_mark_although_its_token_is_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let links = link_as(&store, UserId::random(), 1, &[1]).await;
    unlink(&store, &links[0], Unlinking::default()).await;
    let cleanup = Cleanup::Unsubscribe(page(1));
    let first = seq(&store, &cleanup).await;
    store.forget_person(&person(1), "code", None).await.unwrap();
    assert_eq!((words(&store).await, store.known_of(&person(1)).await.unwrap()), (vec![("unsubscribe", true)], None));
    assert_eq!(store.lock().state.count_sealed(|_| true), 0);
    let anew = link_as(&store, UserId::random(), 2, &[1]).await;
    update(&store, &anew[0], |record| record.subscribed = vec!["name".to_owned()].into()).await;
    let concerned = finish(&store, &cleanup, first).await;
    assert_eq!(concerned, with_tokens(&store, &anew).await, "they look whether it took effect");
    store.close().await;
}

#[tokio::test]
async fn a_hint_is_owed_until_a_check_that_began_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let links = link_as(&store, UserId::random(), 1, &[1, 2]).await;
    let hint = async |store: &Store, n: usize| store.view(&links[n]).await.unwrap().unwrap().record.hint;
    assert_eq!(store.hint_persons(&[person(1), person(2)]).await.unwrap(), links);
    let first = hint(&store, 0).await.unwrap();
    store.hint_persons(&[person(1)]).await.unwrap();
    assert_eq!(hint(&store, 0).await, Some(first), "a check that has not begun answers for both");
    assert_eq!(store.claim_hint(&links[0], held(&store, &links[0]).await).await.unwrap(), Some(first));
    store.hint_persons(&[person(1)]).await.unwrap();
    assert!(hint(&store, 0).await.unwrap() > first, "the check that began may have missed this one");
    store.park_person(&person(1), ParkReason::AppRemoved, None).await.unwrap();
    assert_eq!(store.hint_persons(&[person(1)]).await.unwrap(), [], "who waits for a person is not asked about");
    store.close().await;
    let store = open(dir.path());
    assert!(hint(&store, 1).await.is_some(), "it survives");
    assert_eq!(link_as(&store, UserId::random(), 1, &[3]).await.len(), 1);
    store.hint_persons(&[person(1)]).await.unwrap();
    let old = held(&store, &links[0]).await;
    link_as(&store, links[0].user, 1, &[1, 2]).await;
    assert_eq!(hint(&store, 0).await, None, "a new token owes nothing");
    store.hint_persons(&[person(1)]).await.unwrap();
    assert_eq!(
        store.claim_hint(&links[0], old).await.unwrap(),
        None,
        "a check of the old token answers for no hint about the new one"
    );
    assert!(store.claim_hint(&links[0], held(&store, &links[0]).await).await.unwrap().is_some());
    store.close().await;
}
