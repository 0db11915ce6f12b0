//! Several stores over one PostgreSQL: what one decides, the others know, and one of them works on each link.

use super::cleanups::{link_as, person};
use super::*;
use crate::core::event::EventKey;
use crate::core::grant::Ended;
use crate::core::lease::{BUCKETS, bucket_of};
use crate::sandbox::postgres::Postgres;
use crate::store::events::Begun;
use crate::store::grants::LeftAlone;
use crate::store::shared::settings::Settings;

struct Cluster {
    server: Postgres,
    _dir: tempfile::TempDir,
    settings: Settings,
    stores: Vec<Store>,
}

impl Cluster {
    /// So many daemons, each with its share of the leases; `None` without PostgreSQL.
    async fn of(daemons: usize) -> Option<Cluster> {
        let dir = tempfile::tempdir().unwrap();
        let server = Postgres::for_test(Postgres::fast(&dir.path().join("postgres")))?;
        let settings = Settings::new(&Secret::new(server.url()), None).unwrap();
        let mut cluster = Cluster { server, _dir: dir, settings, stores: Vec::new() };
        for _ in 0..daemons {
            cluster.join().await;
        }
        Some(cluster)
    }

    async fn join(&mut self) {
        let mut settings = self.settings.clone();
        settings.node = format!("number-{}", self.stores.len());
        let store = tokio::task::block_in_place(|| Store::open_shared(settings, keyring())).unwrap();
        self.stores.push(store);
        // Shares are rounded up, so that the last one may be smaller by so many.
        let least = usize::from(BUCKETS) / self.stores.len() - self.stores.len();
        let held = |store: &Store| store.leases().held().count();
        until("each has its share", async || {
            let all: usize = self.stores.iter().map(held).sum();
            all == usize::from(BUCKETS) && self.stores.iter().all(|store| held(store) >= least)
        })
        .await;
    }

    /// The store that works on this link, and another one.
    fn holder_and_other(&self, link: &LinkKey) -> (&Store, &Store) {
        let (mut here, mut others): (Vec<&Store>, Vec<&Store>) =
            self.stores.iter().partition(|store| store.leases().holds_bucket(bucket_of(link)));
        assert_eq!(here.len(), 1, "one works on each link");
        (here.remove(0), others.remove(0))
    }

    async fn end(self) {
        for store in &self.stores {
            store.close().await;
        }
    }
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while !holds().await {
        assert!(std::time::Instant::now() < deadline, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn knows(store: &Store, link: &LinkKey) {
    until("the link is known", async || store.link(link).await.unwrap().is_some()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_decides_the_others_know() {
    let Some(cluster) = Cluster::of(2).await else { return };
    let [a, b] = &cluster.stores[..] else { unreachable!() };
    let user = UserId::random();
    for n in 0..8 {
        let link = link_one(if n % 2 == 0 { a } else { b }, user, n).await;
        for store in [a, b] {
            knows(store, &link).await;
            assert_eq!(store.link(&link).await.unwrap().unwrap().token.unwrap().expose(), "EAAB-token");
            assert_eq!(due_mark(store, &link).await.unwrap().cause, Cause::Link);
        }
        let (here, other) = cluster.holder_and_other(&link);
        assert!(unclaimed_mark(here, &link).await.is_some(), "the holder reads it");
        assert!(other.claim(&link, held(other, &link).await).await.unwrap().is_none(), "nobody else does");
    }
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_to_another_daemon_during_a_read_is_not_lost() {
    let Some(cluster) = Cluster::of(2).await else { return };
    let link = link_one(&cluster.stores[0], UserId::random(), 1).await;
    knows(&cluster.stores[1], &link).await;
    let (here, other) = cluster.holder_and_other(&link);
    for round in 1..20 {
        let claim = begin_read(here, &link).await;
        assert_eq!(other.mark_pages(&[page(1)], Cause::Webhook).await.unwrap(), std::slice::from_ref(&link));
        here.stage(claim, [round; 32], bytes::Bytes::from_static(b"{}"), false).await.unwrap();
        assert_eq!(unclaimed_mark(here, &link).await.unwrap().cause, Cause::Webhook, "the read may have missed it");
    }
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unlink_on_one_daemon_fences_the_read_on_another() {
    let Some(cluster) = Cluster::of(2).await else { return };
    let link = link_one(&cluster.stores[0], UserId::random(), 1).await;
    knows(&cluster.stores[1], &link).await;
    let (here, other) = cluster.holder_and_other(&link);
    let claim = begin_read(here, &link).await;
    unlink(other, &link, Unlinking::default()).await;
    let staged = here.stage(claim, [1; 32], bytes::Bytes::from_static(b"{}"), false).await.unwrap();
    assert_eq!(staged, StageOutcome::Superseded);
    let item = here.outbox_item(&link).await.unwrap().unwrap();
    assert_eq!(item.staged.op, ObjectOp::Delete);
    here.complete(&link, &item, None, Left::default()).await.unwrap();
    until("the other knows that it is done", async || other.outbox_len().await.unwrap() == 0).await;
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_on_one_daemon_stores_nothing_that_was_ended_on_another() {
    let Some(cluster) = Cluster::of(2).await else { return };
    let [a, b] = &cluster.stores[..] else { unreachable!() };
    let user = UserId::random();
    let links = link_as(a, user, 1, &[1]).await;
    let ticket = a.ticket().await.unwrap();
    b.forget_person(&person(1), "code", None).await.unwrap();
    let new = NewLink { page: page(1), token: Secret::new("late"), name: None, facebook_user: Some(person(1)) };
    let stored = a.put_links(ticket, user, None, vec![new], Cause::Link).await.unwrap();
    assert_eq!(stored.left, [(links[0].clone(), LeftAlone::Ended(Ended::Person))]);
    let ticket = b.ticket().await.unwrap();
    a.end_grants_under_way(&person(2)).await.unwrap();
    let new = NewLink { page: page(2), token: Secret::new("late"), name: None, facebook_user: Some(person(2)) };
    assert!(b.put_links(ticket, user, None, vec![new], Cause::Link).await.unwrap().links.is_empty());
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_works_once_works_once_on_all_daemons_together() {
    let Some(cluster) = Cluster::of(2).await else { return };
    let [a, b] = &cluster.stores[..] else { unreachable!() };
    let hour = Duration::from_secs(3600);
    let (nonce, ends) = ([7; 16], WallTime::now().plus(hour));
    let (first, second) = tokio::join!(a.use_state(nonce, ends), b.use_state(nonce, ends));
    assert!(first.unwrap() != second.unwrap());
    let session = a.new_session(UserId::random(), hour).await.unwrap();
    let secret = b.new_login(&session, hour).await.unwrap();
    let (first, second) = tokio::join!(a.take_login(secret.expose()), b.take_login(secret.expose()));
    assert!(first.unwrap().is_some() != second.unwrap().is_some());
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_stops_leaves_its_links_to_the_others_at_once() {
    let Some(mut cluster) = Cluster::of(3).await else { return };
    let links = link_as(&cluster.stores[0], UserId::random(), 1, &[1, 2, 3, 4, 5, 6]).await;
    cluster.stores.remove(0).close().await;
    until("the others hold everything", async || {
        cluster.stores.iter().map(|store| store.leases().held().count()).sum::<usize>() == usize::from(BUCKETS)
    })
    .await;
    for link in &links {
        let (here, _) = cluster.holder_and_other(link);
        assert!(unclaimed_mark(here, link).await.is_some());
        assert_eq!(here.leases().next_quiet_end(), None, "one that stops in order leaves no write under way");
        until("it may be written", async || here.leases().may_write(link).is_some()).await;
    }
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_declares_the_overdue_dead_and_nobody_else() {
    let Some(cluster) = Cluster::of(1).await else { return };
    let (client, connection) = tokio_postgres::connect(&cluster.server.url(), tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let born = "insert into daemons (name, until, version, alive) values \
                ('overdue', clock_timestamp() - interval '1 second', '1', true), \
                ('living', clock_timestamp() + interval '1 hour', '1', true)";
    client.batch_execute(born).await.unwrap();
    link_one(&cluster.stores[0], UserId::random(), 1).await;
    let rows = client.query("select name from daemons where alive and version = '1'", &[]).await.unwrap();
    let alive: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(alive, ["living"]);
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_visit_decides_and_takes_no_lease() {
    let Some(cluster) = Cluster::of(2).await else { return };
    let (settings, before) = (cluster.settings.clone(), cluster.stores[0].leases().held());
    let visit = tokio::task::block_in_place(|| Store::visit_shared(settings, keyring())).unwrap();
    let link = link_one(&visit, UserId::random(), 1).await;
    knows(&cluster.stores[0], &link).await;
    let (here, other) = cluster.holder_and_other(&link);
    assert!(unclaimed_mark(here, &link).await.is_some(), "it is read by the one that holds its lease");
    unlink(other, &link, Unlinking::default()).await;
    until("the visit follows", async || visit.link(&link).await.unwrap().is_none()).await;
    // A member would be found by the second beat from here on.
    for _ in 0..2 {
        let age = || cluster.stores[0].cluster().unwrap().daemons[0].last_seen;
        let mut earlier = age();
        until("a beat is answered", async || std::mem::replace(&mut earlier, age()) > age()).await;
    }
    for store in &cluster.stores {
        let view = store.cluster().unwrap();
        let leases: Vec<usize> = view.daemons.iter().map(|daemon| daemon.leases).collect();
        assert!(leases.len() == 2 && leases.iter().sum::<usize>() == 1024 && view.answers, "{view:?}");
    }
    assert!(visit.leases().held().count() == 0 && cluster.stores[0].leases().held() == before);
    visit.close().await;
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_permission_change_during_a_check_on_another_daemon_is_checked_as_well() {
    let Some(cluster) = Cluster::of(2).await else { return };
    let link = link_as(&cluster.stores[0], UserId::random(), 1, &[1]).await.remove(0);
    knows(&cluster.stores[1], &link).await;
    let (here, other) = cluster.holder_and_other(&link);
    here.hint_persons(&[person(1)]).await.unwrap();
    until("the other knows", async || other.link(&link).await.unwrap().unwrap().record.hint.is_some()).await;
    let begun = here.claim_hint(&link, held(here, &link).await).await.unwrap().unwrap();
    assert_eq!(other.hint_persons(&[person(1)]).await.unwrap(), std::slice::from_ref(&link));
    // A turn of the daemon that checks has followed the other's.
    here.ticket().await.unwrap();
    let again = here.claim_hint(&link, held(here, &link).await).await.unwrap();
    assert!(again.is_some_and(|hint| hint != begun), "the check that ran may have missed it");
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_is_sent_on_one_daemon_and_changed_on_another_goes_out_as_another_one() {
    let Some(cluster) = Cluster::of(2).await else { return };
    cluster.stores.iter().for_each(|store| store.switch_events(true));
    let [a, b] = &cluster.stores[..] else { unreachable!() };
    let user = UserId::random();
    let link = link_one(b, user, 1).await;
    let key = EventKey::Link(link.clone());
    knows(a, &link).await;
    until("the other knows the event", async || a.event_counts().await.unwrap().waiting == 1).await;
    let Begun::Goes(first) = a.begin_event(&key).await.unwrap() else { panic!("nothing waits") };
    let sent = first.event().id.clone();
    link_one(b, user, 1).await;
    a.ticket().await.unwrap();
    first.delivered().await.unwrap();
    let Begun::Goes(second) = a.begin_event(&key).await.unwrap() else { panic!("the change is not sent") };
    assert_ne!(second.event().id, sent);
    second.delivered().await.unwrap();
    until("nothing waits", async || b.event_counts().await.unwrap().waiting == 0).await;
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_is_too_old_decides_nothing_once_the_tables_are_newer() {
    let Some(cluster) = Cluster::of(1).await else { return };
    let (client, connection) = tokio_postgres::connect(&cluster.server.url(), tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let (store, user) = (&cluster.stores[0], UserId::random());
    link_one(store, user, 1).await;
    // Tables that a newer version has brought forward, and that work with this one.
    client.batch_execute("update meta set schema = schema + 1").await.unwrap();
    store.new_session(user, Duration::from_secs(60)).await.unwrap();
    client.batch_execute("update meta set works_with = schema").await.unwrap();
    let head = async || client.query_one("select head from meta", &[]).await.unwrap().get::<_, i64>(0);
    let before = head().await;
    assert!(store.new_session(user, Duration::from_secs(60)).await.is_err());
    let is_said = || matches!(&*store.condition().borrow(), Condition::Down(why) if why.contains("run the newer"));
    until("the reason is shown", async || is_said()).await;
    assert_eq!(head().await, before);
    client.batch_execute("update meta set schema = schema - 1, works_with = schema - 1").await.unwrap();
    until("it decides again", async || store.new_session(user, Duration::from_secs(60)).await.is_ok()).await;
    cluster.end().await;
}
