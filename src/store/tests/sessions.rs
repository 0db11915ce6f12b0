//! Sessions, login links and used states, and the sweep of them.

use std::time::Duration;

use super::*;
use crate::store::sessions::{LINK_SESSION, Session};

const HOUR: Duration = Duration::from_secs(3600);
const MONTH: Duration = Duration::from_secs(30 * 24 * 3600);

async fn labelled(store: &Store, user: UserId, label: &str, ttl: Duration) -> Session {
    let session = Session::fresh(user, Some(label.parse().unwrap()), ttl).unwrap();
    store.put_session(&session).await.unwrap();
    session
}

#[tokio::test]
async fn a_login_link_and_a_state_work_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let user = UserId::random();
    let session = store.new_session(user, HOUR).await.unwrap();
    let login = store.new_login(&session, HOUR).await.unwrap();
    assert_eq!(store.login_link(login.expose()).await.unwrap().unwrap().user, user, "a look uses nothing up");
    assert_eq!(store.take_login(login.expose()).await.unwrap().unwrap().user, user);
    assert!(store.take_login(login.expose()).await.unwrap().is_none());
    assert!(store.login_link(login.expose()).await.unwrap().is_none());
    let later = WallTime::now().plus(HOUR);
    assert!(store.use_state([1; 16], later).await.unwrap());
    assert!(!store.use_state([1; 16], later).await.unwrap());
    let count = store.sweep(later.plus(HOUR)).await.unwrap();
    assert_eq!(count, 3, "both sessions and the state are over");
    assert!(store.session(session.id.expose()).await.unwrap().is_none());
    store.close().await;
}

#[tokio::test]
async fn a_login_link_opens_a_short_session_of_its_own_for_the_same_user() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let user = UserId::random();
    let long = labelled(&store, user, "Fern & Sons", MONTH).await;
    let login = store.new_login(&long, HOUR).await.unwrap();
    let opened = store.take_login(login.expose()).await.unwrap().unwrap();
    assert_ne!(opened.id, long.id);
    assert!(opened.expires_at <= WallTime::now().plus(LINK_SESSION));
    let found = store.session(opened.id.expose()).await.unwrap().unwrap();
    assert_eq!((found.user, found.label.unwrap().as_str()), (user, "Fern & Sons"));
    // A session that ends sooner is not outlived.
    let short = store.new_session(user, Duration::from_secs(60)).await.unwrap();
    let login = store.new_login(&short, HOUR).await.unwrap();
    let opened = store.take_login(login.expose()).await.unwrap().unwrap();
    assert_eq!(opened.expires_at, short.expires_at);
    store.close().await;
    drop(store);
    let store = open(dir.path());
    assert_eq!(store.session(long.id.expose()).await.unwrap().unwrap().label, long.label);
    assert!(store.session(opened.id.expose()).await.unwrap().is_some());
    store.close().await;
}

/// A store that the version before wrote: no label, no moment of issue.
#[tokio::test]
async fn a_session_of_an_earlier_version_opens() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let (user, id) = (UserId::random(), "an-earlier-session");
    let text = format!("{{\"user\":\"{user}\",\"expires_at\":{}}}", WallTime::now().plus(HOUR).0);
    let key = crate::store::sessions::secret_hash(id).to_vec();
    let write = Write { tree: Tree::Sessions, key, value: Some(codec::wrap(text.as_bytes())) };
    store.commit(|_, txn| txn.write(write)).await.unwrap();
    let found = store.session(id).await.unwrap().unwrap();
    assert_eq!((found.user, found.label, found.issued_at), (user, None, WallTime(0)));
    store.close().await;
}

/// More than twice as many as one look gathers.
#[tokio::test(flavor = "multi_thread")]
async fn one_sweep_removes_all_that_is_over() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let session = store.new_session(UserId::random(), HOUR).await.unwrap();
    let over = codec::encode(&WallTime(1));
    for part in 0..21u64 {
        let writes = |_: &mut State, txn: &mut Txn| {
            for n in 0..1000u64 {
                let key = [part.to_be_bytes(), n.to_be_bytes()].concat();
                txn.write(Write { tree: Tree::States, key, value: Some(over.clone()) });
            }
        };
        store.commit(writes).await.unwrap();
    }
    let puts = (0..1100).map(|_| async {
        let over = Session { expires_at: WallTime(1), ..Session::fresh(session.user, None, HOUR).unwrap() };
        store.put_session(&over).await.unwrap();
    });
    futures_util::future::join_all(puts).await;
    assert_eq!(store.sweep(WallTime::now()).await.unwrap(), 22_100);
    let left = |tree| store.read(|engine| Ok(engine.records(tree).count())).unwrap();
    assert_eq!((left(Tree::States), left(Tree::Sessions)), (0, 1));
    assert!(store.session(session.id.expose()).await.unwrap().is_some());
    store.close().await;
}

#[tokio::test]
async fn used_states_are_bounded_and_a_used_one_stays_used() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let later = WallTime::now().plus(HOUR);
    assert!(store.use_state([9; 16], later).await.unwrap());
    store.lock().state.nonces.fill(later);
    let refused = store.use_state([8; 16], later).await.unwrap_err();
    assert!(refused.to_string().contains("too many logins"), "{refused}");
    assert!(!store.use_state([9; 16], later).await.unwrap());
    store.sweep(later).await.unwrap();
    assert!(store.use_state([8; 16], later.plus(HOUR)).await.unwrap());
    store.close().await;
}
