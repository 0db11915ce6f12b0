//! A database that has become another one under the same address: a copy, another history, an earlier state.

use super::*;
use crate::core::lease::BUCKETS;
use crate::sandbox::postgres::Postgres;
use crate::store::roster::{DaemonView, DatabaseChange};
use crate::store::shared::probe::{Probed, probe};
use crate::store::shared::settings::Settings;

pub(super) const OURS: &str = "pagesyncd";

pub(super) struct Case {
    server: Postgres,
    dir: tempfile::TempDir,
}

impl Case {
    /// `None` without PostgreSQL.
    pub(super) fn start() -> Option<Case> {
        let dir = tempfile::tempdir().unwrap();
        let server = Postgres::for_test(Postgres::fast(&dir.path().join("postgres")))?;
        Some(Case { server, dir })
    }

    pub(super) fn ask(&self, statements: &str) -> String {
        tokio::task::block_in_place(|| self.server.ask(OURS, statements)).unwrap()
    }

    pub(super) fn settings(&self, database: &str) -> Settings {
        let url = self.server.url_at(self.server.port(), database);
        Settings::new(&Secret::new(url), None).unwrap()
    }

    /// The folder of a daemon.
    fn folder(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The settings of a daemon that remembers in this folder what it knows.
    fn remembering(&self, name: &str) -> Settings {
        let mut settings = self.settings(OURS);
        settings.folder = Some(self.folder(name));
        settings
    }

    /// Joins the daemons of a database, and waits for a share of the leases.
    pub(super) async fn join(&self, database: &str) -> Store {
        self.join_with(self.settings(database)).await
    }

    pub(super) async fn join_with(&self, settings: Settings) -> Store {
        let store = tokio::task::block_in_place(|| Store::open_shared(settings, keyring())).unwrap();
        until("it has leases", async || store.leases().held().count() > 0 && me(&store).is_some()).await;
        store
    }

    async fn join_alone(&self, database: &str) -> Store {
        let store = self.join(database).await;
        until("it has all leases", async || store.leases().held().count() == usize::from(BUCKETS)).await;
        store
    }
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while !holds().await {
        assert!(std::time::Instant::now() < deadline, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn me(store: &Store) -> Option<DaemonView> {
    store.cluster().unwrap().daemons.into_iter().find(|daemon| daemon.is_this)
}

pub(super) fn changed(store: &Store) -> Option<DatabaseChange> {
    store.cluster().unwrap().changed
}

fn number(store: &Store) -> u64 {
    store.lock().state.newest_seq()
}

pub(super) async fn is_due(store: &Store, link: &LinkKey) -> bool {
    due_mark(store, link).await.is_some_and(|mark| matches!(mark.cause, Cause::Poll | Cause::Webhook))
}

/// A link whose object is in Spaces.
pub(super) async fn settled(store: &Store, user: UserId, n: u64) -> LinkKey {
    let link = link_one(store, user, n).await;
    read_and_stage(store, &link, 1, b"{\"body\":1}").await;
    let item = store.outbox_item(&link).await.unwrap().unwrap();
    store.complete(&link, &item, Some("etag".into()), Left::default()).await.unwrap();
    assert_eq!(due_mark(store, &link).await, None);
    link
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_copy_of_the_database_every_link_is_due_and_no_number_comes_again() {
    let Some(case) = Case::start() else { return };
    let store = case.join_alone(OURS).await;
    let user = UserId::random();
    let (at_rest, gone) = (settled(&store, user, 1).await, settled(&store, user, 2).await);
    let staged = link_one(&store, user, 3).await;
    read_and_stage(&store, &staged, 1, b"{\"body\":1}").await;
    let asked = link_one(&store, user, 4).await;
    unlink(&store, &gone, Unlinking::default()).await;
    let (born, newest) = (me(&store).unwrap().id, number(&store));
    assert_eq!((changed(&store), store.leases().next_quiet_end()), (None, None));
    store.close().await;
    let copy = "create database copy template pagesyncd owner pagesyncd";
    tokio::task::block_in_place(|| case.server.ask("postgres", copy)).unwrap();

    let store = case.join_alone("copy").await;
    assert!(is_due(&store, &at_rest).await && is_due(&store, &staged).await);
    // Somebody waits for what was staged, and its read is not spread.
    assert_eq!(due_mark(&store, &at_rest).await.unwrap().cause, Cause::Poll);
    assert_eq!(due_mark(&store, &staged).await.unwrap().cause, Cause::Webhook);
    assert_eq!(due_mark(&store, &asked).await.unwrap().cause, Cause::Link, "a person waits for this one");
    assert!(store.link(&gone).await.unwrap().is_none() && store.outbox_item(&staged).await.unwrap().is_none());
    assert_eq!(store.outbox_item(&gone).await.unwrap().unwrap().staged.op, ObjectOp::Delete);
    assert_eq!(store.expectation(&at_rest).await.unwrap().etag.as_deref(), Some("etag"), "it is compared with Spaces");
    assert!(me(&store).unwrap().id >= born + 1000 && number(&store) >= newest + (1 << 32));
    // For as long as an earlier daemon may trust its leases, nobody has them.
    let stand_in =
        tokio::task::block_in_place(|| case.server.ask("copy", "select alive from daemons where name like '(%'"));
    assert_eq!(stand_in.unwrap(), "f");
    assert!(store.leases().next_quiet_end().is_some() && store.leases().may_write(&at_rest).is_none());
    let change = changed(&store).unwrap();
    assert!(change.reason.starts_with("it was system "), "{}", change.reason);
    read_and_stage(&store, &at_rest, 1, b"{\"body\":1}").await;
    let newest = number(&store);
    store.close().await;

    // It is what it is now.
    let store = case.join_alone("copy").await;
    assert_eq!((due_mark(&store, &at_rest).await, changed(&store)), (None, Some(change)));
    assert!(number(&store) < newest + (1 << 32));
    store.close().await;
    // The original has lost nothing.
    let store = case.join_alone(OURS).await;
    assert_eq!((due_mark(&store, &at_rest).await, changed(&store)), (None, None));
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_whose_history_has_ended_is_born_again() {
    let Some(case) = Case::start() else { return };
    let (a, b) = (case.join(OURS).await, case.join(OURS).await);
    let link = link_one(&a, UserId::random(), 1).await;
    let born = [&a, &b].map(|store| me(store).unwrap().id);
    // Another daemon has made the change; every row looks as before.
    case.ask("update meta set history = '2-other', changed_at = now(), changed = 'a test'");
    for (store, born) in [&a, &b].into_iter().zip(born) {
        until("it is born again", async || me(store).is_some_and(|daemon| daemon.id != born)).await;
        until("it works", async || store.mark_links(vec![link.clone()], Cause::Manual).await.is_ok()).await;
        assert_eq!(changed(store).unwrap().reason, "a test");
    }
    a.close().await;
    b.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_goes_back_under_running_daemons_is_noticed() {
    let Some(case) = Case::start() else { return };
    let (a, b) = (case.join(OURS).await, case.join(OURS).await);
    until("each has half", async || [&a, &b].iter().all(|store| store.leases().held().count() == 512)).await;
    let user = UserId::random();
    let mut links = Vec::new();
    for n in 0..4 {
        let link = link_one(&a, user, n).await;
        until("the other one knows it", async || b.link(&link).await.unwrap().is_some()).await;
        let here = if a.leases().holds(&link) { &a } else { &b };
        read_and_stage(here, &link, 1, b"{\"body\":1}").await;
        links.push(link);
    }
    // The last transaction is gone, and no daemon of the time before has it.
    case.ask(
        "begin; select head from meta for update; delete from changes where version = (select head from meta); \
         update meta set head = head - 1; commit",
    );
    for store in [&a, &b] {
        for link in &links {
            until("the link is due", async || is_due(store, link).await).await;
        }
        assert!(changed(store).unwrap().reason.starts_with("it went back"), "{:?}", changed(store));
    }
    a.close().await;
    b.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_does_not_say_which_it_is_works_and_is_recognised_by_its_tables() {
    let Some(case) = Case::start() else { return };
    let may = |what: &str, whom: &str| {
        case.ask(&format!(
            "{what} execute on function pg_control_system() {whom} public; \
             {what} execute on function pg_walfile_name(pg_lsn) {whom} public"
        ));
    };
    let noted = || case.ask("select left(system_id, 2), timeline from meta");
    may("revoke", "from");
    let store = case.join(OURS).await;
    let link = link_one(&store, UserId::random(), 1).await;
    assert_eq!(noted(), "-/|-");
    store.close().await;
    may("grant", "to");
    let store = case.join(OURS).await;
    assert_eq!(noted().split('|').next_back(), Some("00000001"));
    assert_eq!((changed(&store), due_mark(&store, &link).await.unwrap().cause), (None, Cause::Link));
    store.close().await;
    may("revoke", "from");
    let store = case.join(OURS).await;
    assert_eq!((changed(&store), noted().split('|').next_back()), (None, Some("00000001")));
    store.close().await;
}

/// Copies of the tables, as a snapshot of the server's disk has them.
const KEEP: &str = "create schema kept; create table kept.meta as table meta; create table kept.records as table records; \
                    create table kept.changes as table changes; create table kept.daemons as table daemons";
const PUT_BACK: &str = "truncate meta, records, changes, daemons; insert into meta table kept.meta; \
                        insert into records table kept.records; insert into changes table kept.changes; \
                        insert into daemons overriding system value table kept.daemons";

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_went_back_while_no_daemon_ran_is_noticed_by_those_that_have_seen_more() {
    let Some(case) = Case::start() else { return };
    let store = case.join_with(case.remembering("one")).await;
    let user = UserId::random();
    let link = settled(&store, user, 1).await;
    store.close().await;
    std::fs::create_dir(case.folder("earlier")).unwrap();
    std::fs::copy(case.folder("one").join("database.seen"), case.folder("earlier").join("database.seen")).unwrap();
    case.ask(KEEP);
    let store = case.join_with(case.remembering("one")).await;
    assert_eq!((changed(&store), due_mark(&store, &link).await), (None, None));
    let lost = settled(&store, user, 2).await;
    store.close().await;
    case.ask(PUT_BACK);

    let foreseen = async |folder: Option<&str>| {
        let settings = folder.map_or_else(|| case.settings(OURS), |folder| case.remembering(folder));
        let Probed { changed, forgotten, .. } = probe(&settings, &keyring()).await.unwrap();
        (changed.unwrap_or_default(), forgotten)
    };
    assert_eq!(foreseen(None).await, (String::new(), None), "a machine that has seen nothing claims nothing");
    assert_eq!(foreseen(Some("earlier")).await, (String::new(), None), "it has not seen what is lost");
    let before = case.ask("select meta from meta");
    let (reason, _) = foreseen(Some("one")).await;
    assert!(reason.starts_with("it went back to an earlier state"), "{reason}");
    assert_eq!(case.ask("select meta from meta"), before, "a look changes nothing");

    let store = case.join_with(case.remembering("one")).await;
    assert!(is_due(&store, &link).await && store.link(&lost).await.unwrap().is_none());
    assert_eq!(changed(&store).unwrap().reason, reason);
    assert!(store.leases().may_write(&link).is_none() && number(&store) >= 1 << 32);
    read_and_stage(&store, &link, 1, b"{\"body\":1}").await;
    let noticed = changed(&store);
    store.close().await;
    // It is what it is now, to all of them.
    for folder in ["one", "earlier"] {
        let store = case.join_with(case.remembering(folder)).await;
        assert_eq!((changed(&store), due_mark(&store, &link).await), (noticed.clone(), None));
        store.close().await;
    }

    std::fs::write(case.folder("one").join("database.seen"), "{").unwrap();
    let (reason, forgotten) = foreseen(Some("one")).await;
    assert!(reason.is_empty() && forgotten.unwrap().contains("damaged"));
    case.join_with(case.remembering("one")).await.close().await;
    assert_eq!(foreseen(Some("one")).await, (String::new(), None), "it is written anew");
}
