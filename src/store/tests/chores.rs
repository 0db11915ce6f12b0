//! Chores and deletions: decided with what needs them, durable, and gone without a trace.

use super::*;
use crate::chore::Chore;
use crate::store::chores::Ready;

fn person(n: u64) -> AppUserId {
    (7700 + n).to_string().parse().unwrap()
}

fn login(n: u64) -> NewAccount {
    NewAccount {
        person: person(n),
        name: None,
        token: Secret::new("user-token"),
        granted: Vec::new(),
        expires_at: None,
    }
}

async fn link_as(store: &Store, user: UserId, n: u64, pages: &[u64]) -> Vec<LinkKey> {
    let new = |p: &u64| NewLink {
        page: page(*p),
        token: Secret::new(format!("page-token-{p}")),
        name: None,
        facebook_user: Some(person(n)),
    };
    store.put_links(user, Some(login(n)), pages.iter().map(new).collect(), Cause::Link).await.unwrap()
}

const REVOKE: Unlinking = Unlinking { keep_objects: false, revoke: true };

fn words(store: &Store) -> Vec<(&'static str, bool)> {
    store.chores().iter().map(|one| (one.chore.word(), one.void)).collect()
}

fn seq(store: &Store, chore: &Chore) -> u64 {
    store.chores().iter().find(|one| one.chore == *chore).unwrap().seq
}

#[tokio::test]
async fn an_unlink_leaves_chores_that_survive_and_can_be_done() {
    let dir = tempfile::tempdir().unwrap();
    let (ada, bruno) = (UserId::random(), UserId::random());
    let store = open(dir.path());
    let of_ada = link_as(&store, ada, 1, &[1, 2]).await;
    let of_bruno = link_as(&store, bruno, 1, &[2]).await;
    assert_eq!(unlink(&store, &of_ada[1], REVOKE).await, [Revoking::StillLinked(person(1), 2)]);
    assert_eq!(words(&store), [], "another user's link of the page stays");
    assert_eq!(unlink(&store, &of_ada[0], REVOKE).await, [Revoking::StillLinked(person(1), 1)]);
    assert_eq!(unlink(&store, &of_bruno[0], REVOKE).await, [Revoking::Asked(person(1))]);
    store.close().await;

    let bytes = std::fs::read(dir.path().join("sled/db")).unwrap();
    assert!(!bytes.windows(10).any(|window| window == b"page-token" || window == b"user-token"));
    let store = open(dir.path());
    assert_eq!(words(&store), [("unsubscribe", false), ("unsubscribe", false), ("revoke", false)]);
    let revoke = Chore::Revoke(person(1));
    let ready = |chore: &Chore| store.chore_token(chore, seq(&store, chore));
    assert_eq!(ready(&revoke), Ready::NotYet, "the pages' tokens end with it, so they go first");
    for n in [1, 2] {
        let chore = Chore::Unsubscribe(page(n));
        assert_eq!(ready(&chore), Ready::Yes(Secret::new(format!("page-token-{n}"))));
        assert_eq!(store.finish_chore(&chore, seq(&store, &chore)).await.unwrap(), []);
    }
    assert_eq!(ready(&revoke), Ready::Yes(Secret::new("user-token")));
    store.finish_chore(&revoke, seq(&store, &revoke)).await.unwrap();
    store.close().await;
    let store = open(dir.path());
    assert_eq!(words(&store), []);
    store.close().await;
}

#[tokio::test]
async fn a_login_again_makes_them_void_and_the_links_look_for_themselves() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let user = UserId::random();
    let links = link_as(&store, user, 1, &[1]).await;
    unlink(&store, &links[0], REVOKE).await;
    let (unsubscribe, revoke) = (Chore::Unsubscribe(page(1)), Chore::Revoke(person(1)));
    let first = seq(&store, &unsubscribe);
    link_as(&store, user, 1, &[1]).await;
    assert_eq!(words(&store), [("unsubscribe", true), ("revoke", true)]);
    assert_eq!(store.chore_token(&unsubscribe, first), Ready::NotYet);
    store.update_link(&links[0], |record| record.subscribed = vec!["name".into()]).await.unwrap();
    assert_eq!(store.finish_chore(&unsubscribe, first).await.unwrap(), links);
    assert_eq!(store.view(&links[0]).unwrap().record.subscribed, [""; 0], "it is asked for again, after a restart too");
    assert_eq!(store.finish_chore(&revoke, seq(&store, &revoke)).await.unwrap(), links);
    // And a chore that took the place of another is not taken away by the other's end.
    unlink(&store, &links[0], Unlinking::default()).await;
    assert_eq!(store.finish_chore(&unsubscribe, first).await.unwrap(), []);
    assert_eq!(words(&store), [("unsubscribe", false)]);
    store.close().await;
}

#[tokio::test]
async fn without_a_token_or_a_known_person_the_app_stays() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let user = UserId::random();
    let new = |n, facebook_user| NewLink { page: page(n), token: Secret::new("t"), name: None, facebook_user };
    let imported = vec![new(1, Some(person(1))), new(2, None)];
    let links = store.put_links(user, None, imported, Cause::Link).await.unwrap();
    let unlinked = store.unlink(&links, REVOKE).await.unwrap();
    assert_eq!(unlinked.revoking, [Revoking::NobodyKnown, Revoking::NoToken(person(1))]);
    assert_eq!(words(&store), [("unsubscribe", false), ("unsubscribe", false)]);
    store.close().await;
}

#[tokio::test]
async fn chores_are_resealed_and_survive_the_loss_of_the_database() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let links = link_as(&store, UserId::random(), 1, &[1]).await;
    unlink(&store, &links[0], REVOKE).await;
    let newer = Keyring::new([8; 32], Vec::new());
    assert_eq!(store.unopened_by(&newer).unwrap(), 2);
    store.set_keyring(Keyring::new([8; 32], vec![[7; 32]]));
    assert_eq!(store.reseal().await.unwrap(), 2);
    assert_eq!(store.unopened_by(&newer).unwrap(), 0);
    store.close().await;
    std::fs::remove_dir_all(dir.path().join("sled")).unwrap();
    let store = Store::open(dir.path(), newer).unwrap();
    let chore = Chore::Unsubscribe(page(1));
    assert_eq!(store.chore_token(&chore, seq(&store, &chore)), Ready::Yes(Secret::new("page-token-1")));
    store.close().await;
}

#[tokio::test]
async fn a_forgotten_person_leaves_no_token_and_a_deletion_names_nobody_when_it_is_done() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let links = link_as(&store, UserId::random(), 1, &[1, 2]).await;
    unlink(&store, &links[1], Unlinking::default()).await;
    assert_eq!(store.known_of(&person(1)), Some((1, 0)));
    store.forget_person(&person(1), "code").await.unwrap();
    assert_eq!((words(&store), store.known_of(&person(1))), (vec![], None));
    let open = store.deletion("code").unwrap();
    assert_eq!((open.open, open.objects, open.done_at), (1, 1, None));
    let item = store.outbox_item(&links[0]).await.unwrap().unwrap();
    let left = Left { straggler_until: Some(Millis::now()), versions_unknown: true };
    store.settle(&links[0], &item, None, left).await.unwrap();
    let open = store.deletion("code").unwrap();
    assert_eq!((open.open, open.versions_unknown), (1, true), "a write may still land, and is deleted after that");
    let again = Chore::DeleteAgain(links[0].clone());
    assert!(store.is_left_over(&links[0]));
    store.finish_chore(&again, seq(&store, &again)).await.unwrap();
    let done = store.deletion("code").unwrap();
    assert!(done.open == 0 && done.objects == 1 && done.done_at.is_some());
    let record = store.lock().deletions["code"].clone();
    assert_eq!(record.links, []);
    let later = Millis::now().plus(deletions::KEPT_FOR);
    store.sweep(Millis::now()).await.unwrap();
    assert!(store.deletion("code").is_some());
    store.sweep(later).await.unwrap();
    assert!(store.deletion("code").is_none());
    store.close().await;
}

#[tokio::test]
async fn a_hint_is_owed_until_a_check_that_began_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let links = link_as(&store, UserId::random(), 1, &[1, 2]).await;
    let told = |store: &Store, n: usize| store.view(&links[n]).unwrap().record.told_at;
    assert_eq!(store.hint_people(&[person(1), person(2)]).await.unwrap(), links);
    let first = told(&store, 0).unwrap();
    store.hint_people(&[person(1)]).await.unwrap();
    assert_eq!(told(&store, 0), Some(first), "a check that has not begun answers for both");
    assert_eq!(store.claim_hint(&links[0]), Some(first));
    store.hint_people(&[person(1)]).await.unwrap();
    assert!(told(&store, 0).unwrap() > first, "the check that began may have missed this one");
    store.park_person(&person(1), Why::AppRemoved).await.unwrap();
    assert_eq!(store.hint_people(&[person(1)]).await.unwrap(), [], "who waits for a person is not asked about");
    store.close().await;
    let store = open(dir.path());
    assert!(told(&store, 1).is_some(), "it survives");
    assert_eq!(link_as(&store, UserId::random(), 1, &[3]).await.len(), 1);
    store.hint_people(&[person(1)]).await.unwrap();
    link_as(&store, links[0].user, 1, &[1, 2]).await;
    assert_eq!((told(&store, 0), store.claim_hint(&links[1])), (None, None), "a new token owes nothing");
    store.close().await;
}
