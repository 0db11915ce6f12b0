//! The conformance suite: what the store promises, held on each engine. None of it looks below the operations.

use std::collections::BTreeSet;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::cleanups::{link_as, login, person};
use super::feed::published;
use super::*;
use crate::core::cleanup::Cleanup;
use crate::core::event::{EventKey, EventKind};
use crate::core::grant::Ended;
use crate::core::health::ParkReason;
use crate::sandbox::postgres::Postgres;
use crate::store::cleanups::Ready;
use crate::store::events::{Begun, Sending};
use crate::store::grants::LeftAlone;
use crate::store::shared::settings::Settings;
use crate::store::stepped::Committer;

const HOUR: Duration = Duration::from_secs(3600);

/// A store that can be started again.
trait Stand {
    fn store(&self) -> &Store;

    /// The process ends in order, and the next one begins.
    async fn restart(&mut self);
}

struct OnDisk {
    dir: tempfile::TempDir,
    store: Store,
}

impl OnDisk {
    fn new() -> OnDisk {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        OnDisk { dir, store }
    }
}

impl Stand for OnDisk {
    fn store(&self) -> &Store {
        &self.store
    }

    async fn restart(&mut self) {
        self.store.close().await;
        self.store = open(self.dir.path());
    }
}

/// One daemon over a PostgreSQL.
struct Shared {
    _server: Postgres,
    _dir: tempfile::TempDir,
    settings: Settings,
    store: Store,
}

impl Shared {
    /// `None` where there is no PostgreSQL.
    async fn new() -> Option<Shared> {
        let dir = tempfile::tempdir().unwrap();
        let server = Postgres::for_test(Postgres::fast(&dir.path().join("postgres")))?;
        let settings = Settings::new(&Secret::new(server.url()), None).unwrap();
        let store = join(&settings);
        until("it holds every lease", async || store.leases().held().count() == 1024).await;
        Some(Shared { _server: server, _dir: dir, settings, store })
    }
}

fn join(settings: &Settings) -> Store {
    let (settings, keyring) = (settings.clone(), keyring());
    tokio::task::block_in_place(|| Store::open_shared(settings, keyring)).unwrap()
}

impl Stand for Shared {
    fn store(&self) -> &Store {
        &self.store
    }

    async fn restart(&mut self) {
        self.store.close().await;
        self.store = join(&self.settings);
        until("it holds every lease", async || self.store.leases().held().count() == 1024).await;
    }
}

struct InMemory {
    store: Store,
    committing: Option<(oneshot::Sender<()>, JoinHandle<Committer>)>,
}

impl InMemory {
    fn new() -> InMemory {
        InMemory::begin(Store::in_memory(keyring(), WallTime::now()))
    }

    fn begin((store, mut committer): (Store, Committer)) -> InMemory {
        let (stop, mut stopped) = oneshot::channel();
        let committing = tokio::spawn(async move {
            while stopped.try_recv().is_err() {
                committer.set_time(WallTime::now());
                committer.step();
                committer.erase();
                tokio::task::yield_now().await;
            }
            committer
        });
        InMemory { store, committing: Some((stop, committing)) }
    }
}

impl Stand for InMemory {
    fn store(&self) -> &Store {
        &self.store
    }

    async fn restart(&mut self) {
        let (stop, committing) = self.committing.take().unwrap();
        stop.send(()).unwrap();
        *self = InMemory::begin(committing.await.unwrap().crash(usize::MAX));
    }
}

async fn until(what: &str, holds: impl AsyncFn() -> bool) {
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while !holds().await {
        assert!(std::time::Instant::now() < deadline, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn complete(store: &Store, link: &LinkKey) {
    let item = store.outbox_item(link).await.unwrap().unwrap();
    store.complete(link, &item, Some("etag".into()), Left::default()).await.unwrap();
}

async fn a_mark_stands_until_a_read_that_began_after_it_is_staged(stand: &mut impl Stand) {
    let store = stand.store();
    let link = link_one(store, UserId::random(), 1).await;
    assert_eq!(store.mark_pages(&[page(1), page(9)], Cause::Webhook).await.unwrap(), std::slice::from_ref(&link));
    assert_eq!(due_mark(store, &link).await.unwrap().cause, Cause::Link, "a mark that stands is enough");
    let claim = begin_read(store, &link).await;
    assert!(unclaimed_mark(store, &link).await.is_none());
    store.mark_pages(&[page(1)], Cause::Webhook).await.unwrap();
    store.stage(claim, [1; 32], bytes::Bytes::from_static(b"{}"), false).await.unwrap();
    assert_eq!(
        unclaimed_mark(store, &link).await.unwrap().cause,
        Cause::Webhook,
        "the read may have missed the change"
    );
    stand.restart().await;
    let store = stand.store();
    assert_eq!(
        (unclaimed_mark(store, &link).await.unwrap().cause, store.counts().await.unwrap().due),
        (Cause::Webhook, 1)
    );
    drop(begin_read(store, &link).await);
    assert!(unclaimed_mark(store, &link).await.is_some(), "a read without data gives the mark back");
    assert_eq!(read_and_stage(store, &link, 1, b"{}").await, StageOutcome::Unchanged);
    assert_eq!((due_mark(store, &link).await, store.counts().await.unwrap().due), (None, 0));
}

async fn a_mark_that_was_answered_for_does_not_come_back(stand: &mut impl Stand) {
    let user = UserId::random();
    let link = link_one(stand.store(), user, 1).await;
    for round in 0..4 {
        let store = stand.store();
        read_and_stage(store, &link, round, b"{}").await;
        store.mark_pages(&[page(1)], Cause::Webhook).await.unwrap();
        if round % 2 == 0 {
            stand.restart().await;
        }
        assert_eq!(unclaimed_mark(stand.store(), &link).await.unwrap().cause, Cause::Webhook);
        read_and_stage(stand.store(), &link, round, b"{}").await;
        stand.restart().await;
        assert_eq!(due_mark(stand.store(), &link).await, None);
    }
    // Nor does one of a link that is gone, also when the page is linked again and read.
    stand.store().mark_pages(&[page(1)], Cause::Webhook).await.unwrap();
    unlink(stand.store(), &link, Unlinking { keep_objects: true, revoke: false }).await;
    stand.restart().await;
    assert_eq!((due_mark(stand.store(), &link).await, stand.store().counts().await.unwrap().due), (None, 0));
    link_one(stand.store(), user, 1).await;
    stand.restart().await;
    assert_eq!(unclaimed_mark(stand.store(), &link).await.unwrap().cause, Cause::Link);
    read_and_stage(stand.store(), &link, 9, b"{}").await;
    stand.restart().await;
    assert_eq!(due_mark(stand.store(), &link).await, None);
    stand.store().mark_pages(&[page(1)], Cause::Webhook).await.unwrap();
    stand.restart().await;
    assert_eq!(unclaimed_mark(stand.store(), &link).await.unwrap().cause, Cause::Webhook, "numbers go on");
}

async fn the_newest_reader_wins(stand: &mut impl Stand) {
    let store = stand.store();
    let link = link_one(store, UserId::random(), 1).await;
    let (older, newer) = (begin_read(store, &link).await, begin_read(store, &link).await);
    let stage = |claim, digest| store.stage(claim, [digest; 32], bytes::Bytes::from_static(b"{}"), false);
    assert_eq!(stage(newer, 2).await.unwrap(), StageOutcome::Staged);
    assert_eq!(stage(older, 1).await.unwrap(), StageOutcome::Superseded);
    let item = store.outbox_item(&link).await.unwrap().unwrap();
    assert_eq!(item.staged.op, ObjectOp::Put([2; 32]));
}

async fn an_object_is_owed_until_spaces_has_it(stand: &mut impl Stand) {
    let body: bytes::Bytes = (0..100_000u32).map(|n| n as u8).collect::<Vec<u8>>().into();
    let store = stand.store();
    let link = link_one(store, UserId::random(), 1).await;
    store.stage(begin_read(store, &link).await, [1; 32], body.clone(), false).await.unwrap();
    stand.restart().await;
    let store = stand.store();
    assert_eq!((store.outbox_parts().await.unwrap(), store.counts().await.unwrap().outbox), (vec![link.whole()], 1));
    let first = store.outbox_item(&link).await.unwrap().unwrap();
    assert_eq!(first.body, body);
    assert_eq!(read_and_stage(store, &link, 2, b"{}").await, StageOutcome::Staged);
    assert!(store.complete(&link, &first, Some("one".into()), Left::default()).await.unwrap(), "a newer one waits");
    let expected = store.expectation(&link).await.unwrap();
    assert_eq!((expected.digest, expected.etag.as_deref(), expected.outbox), (Some([1; 32]), Some("one"), true));
    let second = store.outbox_item(&link).await.unwrap().unwrap();
    assert!(!store.complete(&link, &second, Some("two".into()), Left::default()).await.unwrap());
    stand.restart().await;
    let store = stand.store();
    assert!(store.outbox_item(&link).await.unwrap().is_none() && store.outbox_parts().await.unwrap().is_empty());
    assert_eq!(store.expectation(&link).await.unwrap().etag.as_deref(), Some("two"));
    assert_eq!(read_and_stage(store, &link, 2, b"{}").await, StageOutcome::Unchanged);
    let forced = store.stage(begin_read(store, &link).await, [2; 32], bytes::Bytes::from_static(b"{}"), true);
    assert_eq!(forced.await.unwrap(), StageOutcome::Staged, "the object was found missing");
}

async fn what_a_link_that_is_gone_leaves_is_the_delete_of_its_object(stand: &mut impl Stand) {
    let store = stand.store();
    let user = UserId::random();
    let link = link_one(store, user, 1).await;
    read_and_stage(store, &link, 1, b"{}").await;
    let claim = begin_read(store, &link).await;
    unlink(store, &link, Unlinking::default()).await;
    let late = store.stage(claim, [2; 32], bytes::Bytes::from_static(b"{}"), false);
    assert_eq!(late.await.unwrap(), StageOutcome::Superseded);
    stand.restart().await;
    let store = stand.store();
    assert!(store.link(&link).await.unwrap().is_none() && store.links().await.unwrap().is_empty());
    let item = store.outbox_item(&link).await.unwrap().unwrap();
    assert_eq!((item.staged.op, item.body.len()), (ObjectOp::Delete, 0));
    store.complete(&link, &item, None, Left::default()).await.unwrap();
    let kept = link_one(store, user, 2).await;
    unlink(store, &kept, Unlinking { keep_objects: true, revoke: false }).await;
    stand.restart().await;
    assert_eq!((stand.store().counts().await.unwrap().outbox, stand.store().counts().await.unwrap().due), (0, 0));
}

async fn news_of_a_token_is_not_held_against_the_next(stand: &mut impl Stand) {
    let user = UserId::random();
    let link = link_one(stand.store(), user, 1).await;
    let before = held(stand.store(), &link).await;
    stand.restart().await;
    let store = stand.store();
    assert!(store.was_there(before));
    link_one(store, user, 1).await;
    let now = held(store, &link).await;
    assert!(now > before && !store.was_there(now));
    assert!(!store.park_link(&link, before, ParkReason::Invalid).await.unwrap());
    assert!(store.claim(&link, before).await.unwrap().is_none());
    assert!(store.park_link(&link, now, ParkReason::Expired).await.unwrap());
    assert!(store.park_link(&link, now, ParkReason::Invalid).await.unwrap());
    stand.restart().await;
    let store = stand.store();
    let counts = store.counts().await.unwrap();
    assert_eq!((counts.healths(), counts.due, counts.due_parked), ([(ParkReason::Expired.word(), 1)].into(), 0, 1));
    assert_eq!(store.link(&link).await.unwrap().unwrap().token.unwrap().expose(), "EAAB-token");
}

async fn a_person_who_is_forgotten_leaves_nothing_and_does_not_come_back(stand: &mut impl Stand) {
    let store = stand.store();
    let user = UserId::random();
    let links = link_as(store, user, 1, &[1, 2]).await;
    link_as(store, user, 2, &[3]).await;
    let under_way = store.ticket().await.unwrap();
    let gone = store.forget_person(&person(1), "a-code", None).await.unwrap();
    assert_eq!((gone.links.len(), gone.kept), (2, 0));
    assert_eq!(store.known_of(&person(1)).await.unwrap(), None);
    let again = NewLink { page: page(1), token: Secret::new("t"), name: None, facebook_user: Some(person(1)) };
    let stored = store.put_links(under_way, user, Some(login(1)), vec![again], Cause::Link).await.unwrap();
    assert_eq!((&stored.links, stored.left[0].1), (&Vec::new(), LeftAlone::Ended(Ended::Person)));
    stand.restart().await;
    let store = stand.store();
    assert_eq!(store.accounts().await.unwrap(), [(user, person(2))]);
    assert_eq!((store.counts().await.unwrap().links, store.deletion("a-code").await.unwrap().unwrap().open), (1, 2));
    for link in &links {
        complete(store, link).await;
    }
    until("the deletion is done", async || store.deletion("a-code").await.unwrap().unwrap().done_at.is_some()).await;
    until("nothing is left to erase", async || store.erasing_since().is_none()).await;
    stand.restart().await;
    let deletion = stand.store().deletion("a-code").await.unwrap().unwrap();
    assert_eq!((deletion.objects, deletion.open, deletion.erasing), (2, 0, false));
    assert!(deletion.done_at.is_some());
}

async fn cleanups_wait_for_each_other_and_a_linking_makes_them_void(stand: &mut impl Stand) {
    let store = stand.store();
    let user = UserId::random();
    let links = link_as(store, user, 1, &[1]).await;
    let how = Unlinking { keep_objects: true, revoke: true };
    assert_eq!(unlink(store, &links[0], how).await, [Revoking::Asked(person(1))]);
    stand.restart().await;
    let store = stand.store();
    let standing = store.cleanups().await.unwrap();
    let seq = |cleanup: &Cleanup| standing.iter().find(|one| one.cleanup == *cleanup).unwrap().seq;
    let (unsubscribe, revoke) = (Cleanup::Unsubscribe(page(1)), Cleanup::Revoke(person(1)));
    assert_eq!(store.cleanup_token(&revoke, seq(&revoke)).await.unwrap(), Ready::NotYet, "its token would end with it");
    let token = store.cleanup_token(&unsubscribe, seq(&unsubscribe)).await.unwrap();
    assert_eq!(token, Ready::Yes(Secret::new("page-token-1")));
    store.finish_cleanup(&unsubscribe, seq(&unsubscribe)).await.unwrap();
    let token = store.cleanup_token(&revoke, seq(&revoke)).await.unwrap();
    assert_eq!(token, Ready::Yes(Secret::new("user-token")));
    published(store);
    link_as(store, user, 1, &[1]).await;
    assert_eq!(store.cleanup_token(&revoke, seq(&revoke)).await.unwrap(), Ready::NotYet);
    assert!(store.cleanups().await.unwrap()[0].void && published(store).cleanup);
    store.finish_cleanup(&revoke, seq(&revoke)).await.unwrap();
    assert!(published(store).links.contains_key(&links[0]), "the link looks what the cleanup left of its token");
    assert_eq!((store.cleanups().await.unwrap(), store.counts().await.unwrap().cleanups), (Vec::new(), [].into()));
}

async fn what_works_once_works_once(stand: &mut impl Stand) {
    let store = stand.store();
    let session = store.new_session(UserId::random(), HOUR).await.unwrap();
    let secret = store.new_login(&session, HOUR).await.unwrap();
    let later = WallTime::now().plus(HOUR);
    assert!(store.use_state([1; 16], later).await.unwrap());
    stand.restart().await;
    let store = stand.store();
    assert!(!store.use_state([1; 16], later).await.unwrap());
    assert_eq!(store.login_link(secret.expose()).await.unwrap().unwrap().user, session.user);
    let (one, two) = tokio::join!(store.take_login(secret.expose()), store.take_login(secret.expose()));
    let taken: Vec<_> = [one.unwrap(), two.unwrap()].into_iter().flatten().collect();
    assert_eq!(taken.len(), 1);
    assert!(store.login_link(secret.expose()).await.unwrap().is_none());
    stand.restart().await;
    let store = stand.store();
    assert!(store.take_login(secret.expose()).await.unwrap().is_none());
    assert_eq!(store.session(taken[0].id.expose()).await.unwrap().unwrap().user, session.user);
    assert_eq!(store.sweep(later.plus(HOUR)).await.unwrap(), 3);
    assert!(store.session(session.id.expose()).await.unwrap().is_none());
}

async fn begin(store: &Store, key: &EventKey) -> Sending {
    match store.begin_event(key).await.unwrap() {
        Begun::Goes(sending) => *sending,
        _ => panic!("nothing goes"),
    }
}

async fn events_go_in_order_one_at_a_time_until_they_are_taken(stand: &mut impl Stand) {
    let store = stand.store();
    store.switch_events(true);
    let link = link_one(store, UserId::random(), 1).await;
    unlink(store, &link, Unlinking { keep_objects: true, revoke: false }).await;
    link_one(store, link.user, 1).await;
    let key = EventKey::Link(link.clone());
    let lost = begin(store, &key).await;
    assert!(matches!(store.begin_event(&key).await.unwrap(), Begun::Busy));
    let id = lost.event().id.clone();
    drop(lost);
    stand.restart().await;
    let store = stand.store();
    store.switch_events(true);
    assert_eq!(
        (store.event_keys().await.unwrap(), store.event_counts().await.unwrap().waiting),
        (vec![key.clone()], 2)
    );
    let unlinked = begin(store, &key).await;
    assert!(unlinked.is_again() && unlinked.event().id == id);
    assert_eq!(unlinked.event().kind, EventKind::Unlinked { link: link.clone(), kept: true });
    assert!(unlinked.delivered().await.unwrap(), "another waits");
    assert!(!begin(store, &key).await.delivered().await.unwrap());
    assert!(matches!(store.begin_event(&key).await.unwrap(), Begun::Nothing));
    link_one(store, link.user, 2).await;
    store.switch_events(false);
    link_one(store, link.user, 3).await;
    assert_eq!((store.drop_events().await.unwrap(), store.event_counts().await.unwrap()), (1, Default::default()));
}

async fn hints_are_owed_until_a_check_that_began_after_them_has_ended(stand: &mut impl Stand) {
    let user = UserId::random();
    let links = link_as(stand.store(), user, 1, &[1, 2]).await;
    let store = stand.store();
    let at = held(store, &links[1]).await;
    store.park_link(&links[1], at, ParkReason::Expired).await.unwrap();
    published(store);
    assert_eq!(store.hint_persons(&[person(1)]).await.unwrap(), links[..1], "the other waits for a person");
    assert!(published(store).links[&links[0]].token_check);
    stand.restart().await;
    let store = stand.store();
    let generation = held(store, &links[0]).await;
    let hint = store.claim_hint(&links[0], generation).await.unwrap();
    assert!(hint.is_some());
    store.hint_persons(&[person(1)]).await.unwrap();
    let newer = store.claim_hint(&links[0], generation).await.unwrap();
    assert!(newer > hint, "one that comes during the check is another");
    update(store, &links[0], |record| record.hint = None).await;
    assert_eq!(store.claim_hint(&links[0], generation).await.unwrap(), None);
}

async fn another_key_takes_over_while_the_store_is_in_use(stand: &mut impl Stand) {
    let store = stand.store();
    let links = link_as(store, UserId::random(), 1, &[1, 2]).await;
    store.set_keyring(Keyring::new([8; 32], vec![[7; 32]]));
    assert_eq!(store.unopened_by(&Keyring::new([8; 32], Vec::new())).await.unwrap(), 3);
    assert_eq!(store.reseal().await.unwrap(), 3);
    let sealing = store.sealing().await.unwrap();
    assert_eq!((sealing.current, sealing.earlier, sealing.done), (3, 0, true));
    store.set_keyring(Keyring::new([8; 32], Vec::new()));
    let mut tokens = BTreeSet::new();
    for link in &links {
        tokens.insert(store.link(link).await.unwrap().unwrap().token.unwrap().expose().to_owned());
    }
    assert_eq!(tokens, ["page-token-1", "page-token-2"].map(String::from).into());
}

/// Holds each of these promises on each engine.
macro_rules! hold {
    ($($promise:ident),* $(,)?) => {
        mod on_disk {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $promise() {
                let mut stand = super::OnDisk::new();
                super::$promise(&mut stand).await;
                super::Stand::store(&stand).close().await;
            })*
        }

        mod shared {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $promise() {
                let Some(mut stand) = super::Shared::new().await else { return };
                super::$promise(&mut stand).await;
                super::Stand::store(&stand).close().await;
            })*
        }

        mod in_memory {
            $(#[tokio::test]
            async fn $promise() {
                super::$promise(&mut super::InMemory::new()).await;
            })*
        }
    };
}

hold! {
    a_mark_stands_until_a_read_that_began_after_it_is_staged,
    a_mark_that_was_answered_for_does_not_come_back,
    the_newest_reader_wins,
    an_object_is_owed_until_spaces_has_it,
    what_a_link_that_is_gone_leaves_is_the_delete_of_its_object,
    news_of_a_token_is_not_held_against_the_next,
    a_person_who_is_forgotten_leaves_nothing_and_does_not_come_back,
    cleanups_wait_for_each_other_and_a_linking_makes_them_void,
    what_works_once_works_once,
    events_go_in_order_one_at_a_time_until_they_are_taken,
    hints_are_owed_until_a_check_that_began_after_them_has_ended,
    another_key_takes_over_while_the_store_is_in_use,
}
