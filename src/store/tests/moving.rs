//! Moving a store from its folder into a database and back: every record, interrupted anywhere, and never used on both
//! sides.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use super::*;
use crate::sandbox::postgres::Postgres;
use crate::store::mark_log::MarkLog;
use crate::store::move_note;
use crate::store::moving::{MoveError, Moved, Progress, move_in, move_out};
use crate::store::rebuild;
use crate::store::sessions::Session;
use crate::store::shared::connect::{Role, connect};
use crate::store::shared::errors::ConnectError;
use crate::store::shared::settings::Settings;
use crate::store::state::cluster;

const HOUR: Duration = Duration::from_secs(3600);

type Records = BTreeMap<(Tree, Vec<u8>), Vec<u8>>;

/// A store in a folder, and an empty database.
struct Case {
    _server: Postgres,
    dir: tempfile::TempDir,
    settings: Settings,
    runtime: tokio::runtime::Runtime,
}

/// What a person of the store knows, to look for afterwards.
struct Known {
    link: LinkKey,
    session: Session,
    login: Secret,
}

impl Case {
    /// `None` without PostgreSQL.
    fn start() -> Option<Case> {
        let dir = tempfile::tempdir().unwrap();
        let server = Postgres::for_test(Postgres::fast(&dir.path().join("postgres")))?;
        let settings = Settings::new(&Secret::new(server.url()), None).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        Some(Case { _server: server, dir, settings, runtime })
    }

    fn folder(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Makes a store with something in it, marks that lie in the mark log alone among it.
    fn fill(&self, name: &str) -> Known {
        self.runtime.block_on(async {
            let store = open(&self.folder(name));
            let link = link_one(&store, UserId::random(), 1).await;
            read_and_stage(&store, &link, 1, b"{\"body\":1}").await;
            let session = store.new_session(link.user, HOUR).await.unwrap();
            let login = store.new_login(&session, HOUR).await.unwrap();
            let pieces = (0..1100u32).flat_map(|n| {
                let value = |tree| Write { tree, key: n.to_be_bytes().to_vec(), value: Some(codec::wrap(&[7; 900])) };
                [value(Tree::Bodies), value(Tree::Fields)]
            });
            store.commit(move |_, txn| pieces.for_each(|write| txn.write(write))).await.unwrap();
            store.mark_pages(&[page(1)], Cause::Webhook).await.unwrap();
            store.close().await;
            Known { link, session, login }
        })
    }

    /// The records of a folder that move, with the marks of its mark log.
    fn records(&self, name: &str) -> Records {
        let dir = self.folder(name);
        let database = Database::open(&dir, &keyring()).unwrap();
        let mut records = Records::new();
        for tree in Tree::ALL {
            for record in database.records(tree) {
                let (key, value) = record.unwrap();
                if !rebuild::is_of_folder(tree, &key) {
                    records.insert((tree, key.to_vec()), value.to_vec());
                }
            }
        }
        database.close();
        for (part, mark) in MarkLog::read(&dir).unwrap().marks {
            let place = (Tree::Marks, part.to_bytes());
            let earlier = records.get(&place).map(|value| codec::decode::<Mark>("marks", value).unwrap().seq);
            if earlier.is_none_or(|earlier| earlier < mark.seq) {
                records.insert(place, codec::encode(&mark));
            }
        }
        records
    }

    /// The records of the database that move.
    fn shared(&self) -> Records {
        let rows = self.ask("select tree, key, value from records");
        let record = |row: tokio_postgres::Row| {
            let tree = Tree::of(u8::try_from(row.get::<_, i16>(0)).unwrap()).unwrap();
            ((tree, row.get::<_, Vec<u8>>(1)), row.get::<_, Vec<u8>>(2))
        };
        let stays = |key: &[u8]| key == move_note::KEY || key.starts_with(cluster::PREFIX);
        rows.into_iter().map(record).filter(|((tree, key), _)| *tree != Tree::Meta || !stays(key)).collect()
    }

    fn ask(&self, question: &str) -> Vec<tokio_postgres::Row> {
        self.runtime.block_on(async {
            let session = connect(&self.settings, Role::Admin).await.unwrap();
            session.client.query_typed(question, &[]).await.unwrap()
        })
    }

    fn empty(&self) {
        self.ask("drop table if exists changes, daemons, meta, records");
    }

    fn number(&self, question: &str) -> i64 {
        self.ask(question)[0].get(0)
    }

    fn out(&self, name: &str) -> Result<Moved, MoveError> {
        move_out(&self.folder(name), &self.settings, &keyring(), &mut |_| ControlFlow::Continue(()))
    }

    /// No daemon died, so that nothing is waited for.
    fn back(&self, name: &str) -> Result<Moved, MoveError> {
        move_in(&self.folder(name), &self.settings, &keyring(), &mut |progress| {
            assert!(!matches!(progress, Progress::Quiet { .. }), "{progress:?}");
            ControlFlow::Continue(())
        })
    }

    /// A daemon's store in the database.
    fn join(&self) -> Result<Store, ConnectError> {
        Store::open_shared(self.settings.clone(), keyring())
    }

    /// Does a store have what it had?
    fn has(&self, store: &Store, known: &Known) {
        self.runtime.block_on(async {
            assert_eq!(store.link(&known.link).await.unwrap().unwrap().token.unwrap().expose(), "EAAB-token");
            assert_eq!(due_mark(store, &known.link).await.unwrap().cause, Cause::Webhook);
            assert_eq!(store.outbox_item(&known.link).await.unwrap().unwrap().body.as_ref(), b"{\"body\":1}");
            assert!(store.session(known.session.id.expose()).await.unwrap().is_some());
            assert!(store.login_link(known.login.expose()).await.unwrap().is_some());
        });
    }

    fn close(&self, store: Store) {
        self.runtime.block_on(store.close());
    }
}

/// Ends a move ahead of the step with this number; was there one?
fn stopping(at: usize) -> impl FnMut(Progress) -> ControlFlow<()> {
    let mut steps = 0;
    move |_| {
        steps += 1;
        if steps > at { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

/// Copies a folder.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[test]
fn a_store_moves_into_a_database_and_back_byte_for_byte() {
    let Some(case) = Case::start() else { return };
    let known = case.fill("one");
    let before = case.records("one");
    let newest = before.iter().filter(|((tree, _), _)| *tree == Tree::Marks);
    let newest = newest.map(|(_, value)| codec::decode::<Mark>("marks", value).unwrap().seq).max().unwrap();
    assert!(before.len() > 2200 && newest > 0);
    let moved = case.out("one").unwrap();
    assert_eq!(moved, Moved { records: before.len() as u64, already: false });
    assert!(case.shared() == before, "a record changed on its way into the database");
    assert!(case.number("select number from meta") >= newest as i64);
    assert_eq!(case.number("select count(*) from changes"), 0);
    assert!(case.out("one").unwrap().already);
    let refused = Store::open(&case.folder("one"), keyring()).err().unwrap();
    assert!(
        matches!(refused, OpenError::Moved { .. }) && refused.to_string().contains("move-store --from"),
        "{refused}"
    );

    let store = case.join().unwrap();
    case.has(&store, &known);
    case.close(store);
    let shared = case.shared();
    case.back("two").unwrap();
    assert!(case.records("two") == shared, "a record changed on its way back");
    assert!(case.back("two").unwrap().already);
    let refused = case.join().err().unwrap();
    assert!(
        matches!(refused, ConnectError::Moved { .. }) && refused.to_string().contains("move-store --to"),
        "{refused}"
    );
    let store = open(&case.folder("two"));
    assert_eq!(store.mended(), None);
    case.has(&store, &known);
    case.close(store);

    // What an earlier move has left of the same store is replaced, on either side.
    let before = case.records("two");
    case.out("two").unwrap();
    assert!(case.shared() == before);
    case.back("one").unwrap();
    assert!(case.records("one") == before);
    let store = open(&case.folder("one"));
    assert_eq!(store.mended(), None);
    case.has(&store, &known);
    case.close(store);
}

#[test]
fn a_move_that_is_interrupted_anywhere_goes_on_and_is_never_used_by_half() {
    let Some(case) = Case::start() else { return };
    let known = case.fill("kept");
    let before = case.records("kept");
    for at in 0.. {
        let (name, back) = (format!("out-{at}"), format!("in-{at}"));
        copy(&case.folder("kept"), &case.folder(&name));
        case.empty();
        let stopped = move_out(&case.folder(&name), &case.settings, &keyring(), &mut stopping(at));
        let is_whole = stopped.is_ok();
        if let Err(error) = stopped {
            assert!(matches!(error, MoveError::Stopped), "{error}");
            if at > 0 {
                let refused = case.join().err().unwrap();
                assert!(matches!(refused, ConnectError::HalfMoved { .. }), "at {at}: {refused}");
                assert_eq!(case.number("select count(*) from daemons"), 0);
            }
            assert!(!case.out(&name).unwrap().already);
        }
        assert!(case.shared() == before, "interrupted at {at}");
        let stopped = move_in(&case.folder(&back), &case.settings, &keyring(), &mut stopping(at));
        let is_back = stopped.is_ok();
        if let Err(error) = stopped {
            assert!(matches!(error, MoveError::Stopped), "{error}");
            if at > 0 {
                let refused = Store::open(&case.folder(&back), keyring()).err().unwrap();
                assert!(matches!(refused, OpenError::HalfMoved { .. }), "at {at}: {refused}");
            }
            assert!(!case.back(&back).unwrap().already);
        }
        assert!(case.records(&back) == before, "interrupted at {at}");
        let store = open(&case.folder(&back));
        case.has(&store, &known);
        case.close(store);
        if is_whole && is_back {
            assert!(at > 5, "{at} steps");
            break;
        }
        std::fs::remove_dir_all(case.folder(&name)).unwrap();
        std::fs::remove_dir_all(case.folder(&back)).unwrap();
    }
}

#[test]
fn a_store_that_is_used_between_two_attempts_moves_as_it_is_at_the_second() {
    let Some(case) = Case::start() else { return };
    let known = case.fill("one");
    let stopped = move_out(&case.folder("one"), &case.settings, &keyring(), &mut stopping(4));
    assert!(matches!(stopped, Err(MoveError::Stopped)));
    let store = open(&case.folder("one"));
    let user = known.link.user;
    case.runtime.block_on(async {
        unlink(&store, &known.link, Unlinking { keep_objects: false, revoke: false }).await;
        link_one(&store, user, 2).await;
    });
    case.close(store);
    let before = case.records("one");
    case.out("one").unwrap();
    assert!(case.shared() == before);
    // The same of a database: the daemon has the last word.
    let joins = |progress| {
        if matches!(progress, Progress::Records { done, of } if done == of) {
            let store = case.join().unwrap();
            case.runtime.block_on(link_one(&store, user, 3));
            case.close(store);
        }
        ControlFlow::Continue(())
    };
    let overtaken = move_in(&case.folder("two"), &case.settings, &keyring(), &mut { joins });
    assert!(matches!(overtaken, Err(MoveError::Overtaken { .. })), "{overtaken:?}");
    assert!(matches!(Store::open(&case.folder("two"), keyring()), Err(OpenError::HalfMoved { .. })));
    let shared = case.shared();
    case.back("two").unwrap();
    assert!(case.records("two") == shared);
}

#[test]
fn nothing_moves_under_a_daemon_over_another_store_or_with_another_key() {
    let Some(case) = Case::start() else { return };
    assert!(matches!(case.out("none"), Err(MoveError::NoStore { .. })));
    assert!(!case.folder("none").exists());
    assert!(matches!(case.back("none"), Err(MoveError::NothingThere { .. })));
    case.fill("one");
    let other_key = |name, to| {
        let key = Keyring::new([8; 32], Vec::new());
        let moving = if to { move_out } else { move_in };
        moving(&case.folder(name), &case.settings, &key, &mut |_| ControlFlow::Continue(()))
    };
    assert!(matches!(other_key("one", true), Err(MoveError::Folder(OpenError::WrongKey { .. }))));
    let running = open(&case.folder("one"));
    assert!(matches!(case.out("one"), Err(MoveError::Folder(OpenError::Locked { .. }))));
    assert!(matches!(
        case.back("one"),
        Err(MoveError::Folder(OpenError::Locked { .. })) | Err(MoveError::NothingThere { .. })
    ));
    case.close(running);
    // A daemon that found an empty database is in the way while it lives, and no longer.
    let alive = case.join().unwrap();
    assert!(matches!(case.out("one"), Err(MoveError::DaemonAlive { .. })));
    case.close(alive);
    case.out("one").unwrap();
    assert!(matches!(other_key("two", false), Err(MoveError::Database(ConnectError::OtherKey { .. }))));
    let alive = case.join().unwrap();
    let refused = case.back("two").unwrap_err();
    assert!(matches!(refused, MoveError::DaemonAlive { .. }) && refused.to_string().contains("stop"), "{refused}");
    case.close(alive);
    case.fill("two");
    assert!(matches!(case.out("two"), Err(MoveError::DatabaseTaken { .. })));
    assert!(matches!(case.back("two"), Err(MoveError::FolderTaken { .. })));
    let store = open(&case.folder("two"));
    case.close(store);
    case.empty();
    let other = Store::open_shared(case.settings.clone(), Keyring::new([8; 32], Vec::new())).unwrap();
    case.close(other);
    assert!(matches!(case.out("two"), Err(MoveError::Database(ConnectError::OtherKey { .. }))));
}
