//! The store key's rotation while the store is in use, and what is left of it when the earlier key is gone.

use super::*;
use crate::store::rotation::Sealing;
use std::time::Duration;

const TTL: Duration = Duration::from_secs(3600);

fn ring(current: u8, previous: &[u8]) -> Keyring {
    Keyring::new([current; 32], previous.iter().map(|key| [*key; 32]).collect())
}

/// Reopened with this key alone.
fn reopen(dir: &Path, store: Store, key: u8) -> Store {
    drop(store);
    Store::open(dir, ring(key, &[])).unwrap()
}

#[tokio::test]
async fn after_a_rotation_nothing_needs_the_earlier_key_not_even_without_the_database() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let user = UserId::random();
    let link = link_one(&store, user, 1).await;
    let session = store.new_session(user, TTL).await.unwrap();
    let login = store.new_login(&session, TTL).await.unwrap();
    let person: AppUserId = "555".parse().unwrap();
    let new =
        NewLink { page: page(2), token: Secret::new("EAAB-of-555"), name: None, facebook_user: Some(person.clone()) };
    let gone = store
        .put_links(store.ticket().await.unwrap(), user, None, vec![new], Cause::Link)
        .await
        .unwrap()
        .links
        .remove(0);
    store.forget_person(&person, "a-code", None).await.unwrap();

    store.set_keyring(ring(8, &[7]));
    assert_eq!(store.sealing().await.unwrap(), Sealing { current: 0, earlier: 2, done: false });
    assert_eq!(store.unopened_by(&ring(8, &[])).await.unwrap(), 2);
    assert_eq!(store.reseal().await.unwrap(), 2);
    assert_eq!(store.sealing().await.unwrap(), Sealing { current: 2, earlier: 0, done: true });
    assert_eq!(store.unopened_by(&ring(8, &[])).await.unwrap(), 0);
    store.close().await;
    let store = reopen(dir.path(), store, 8);
    let opened = store.take_login(login.expose()).await.unwrap().expect("the login link still works");
    assert_eq!(opened.user, user);
    store.close().await;

    // Without a start in between, so that the backup log is as the rotation left it.
    let store = reopen(dir.path(), store, 8);
    store.set_keyring(ring(9, &[8]));
    store.reseal().await.unwrap();
    store.set_keyring(ring(9, &[]));
    store.close().await;
    std::fs::remove_dir_all(dir.path().join("sled")).unwrap();
    let store = reopen(dir.path(), store, 9);
    assert_eq!(store.link(&link).await.unwrap().unwrap().token.unwrap().expose(), "EAAB-token");
    assert_eq!(store.session(session.id.expose()).await.unwrap().map(|s| s.user), Some(user));
    assert_eq!(store.deletion("a-code").await.unwrap().map(|deletion| deletion.open), Some(1));
    assert_eq!(store.outbox_parts().await.unwrap(), [gone.whole()]);
    store.close().await;
}

#[tokio::test]
async fn a_login_link_that_was_taken_is_not_brought_back() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let session = store.new_session(UserId::random(), TTL).await.unwrap();
    let login = store.new_login(&session, TTL).await.unwrap();
    let read_before = store.live_logins().unwrap();
    store.take_login(login.expose()).await.unwrap().unwrap();
    store.set_keyring(ring(8, &[7]));
    assert_eq!(store.reseal_some(&read_before, crate::store::rotation::reseal_login).await.unwrap(), 0);
    assert!(store.take_login(login.expose()).await.unwrap().is_none());
    store.close().await;
    let store = reopen(dir.path(), store, 7);
    assert!(store.take_login(login.expose()).await.unwrap().is_none());
    store.close().await;
}

#[tokio::test]
async fn a_rotation_that_another_overtakes_leaves_the_end_to_that_one() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let link = link_one(&store, UserId::random(), 1).await;
    store.set_keyring(ring(8, &[7]));
    let first = store.clone();
    let (first, ()) = tokio::join!(first.reseal(), async { store.set_keyring(ring(9, &[8, 7])) });
    first.unwrap();
    assert!(!store.sealing().await.unwrap().done);
    assert!(store.unopened_by(&ring(9, &[8])).await.unwrap() > 0, "the first key may not go yet");
    store.reseal().await.unwrap();
    assert!(store.sealing().await.unwrap().done);
    store.close().await;
    let store = reopen(dir.path(), store, 9);
    assert_eq!(store.link(&link).await.unwrap().unwrap().token.unwrap().expose(), "EAAB-token");
    store.close().await;
}
