//! A store that an earlier release wrote opens with everything in it. `tests/data/store-0.1` is what the program wrote
//! before links were named by their source.

use super::*;
use crate::core::health::Health;

/// The id of a session of Ada.
const SESSION: &str = "sHDU5lOQZqfNX2jYUwPSPg18Ol9wJ0H1o1iQi15Mmg0";
const ADA: &str = "6f9619ff-8b86-4011-b42d-00cf4fc964ff";
const BRUNO: &str = "16763be4-6022-406e-a950-fcd5018633ca";

fn link(user: &str, n: u64) -> LinkKey {
    LinkKey::new(user.parse().unwrap(), page(n))
}

fn person(n: u64) -> AppUserId {
    (7700 + n).to_string().parse().unwrap()
}

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/store-0.1")
}

/// A copy of the folder, since opening it changes it.
fn copy() -> tempfile::TempDir {
    let from = fixture();
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("sled")).unwrap();
    for name in ["sled/db", "sled/conf", "links.journal", "tide"] {
        std::fs::copy(from.join(name), dir.path().join(name)).unwrap();
    }
    dir
}

async fn check_links(store: &Store) {
    let ada = [1, 2, 3, 4].map(|n| link(ADA, n));
    let bruno = [1, 6].map(|n| link(BRUNO, n));
    let mut all = store.links().await.unwrap();
    all.sort();
    let mut wanted = [&ada[..], &bruno[..]].concat();
    wanted.sort();
    assert_eq!(all, wanted);
    for key in &all {
        let opened = store.link(key).await.unwrap().unwrap();
        assert_eq!(
            opened.token.unwrap().expose(),
            format!("page-token-{}", key.id.as_str().parse::<u64>().unwrap() - 1000)
        );
    }
    assert!(matches!(store.view(&ada[3]).await.unwrap().unwrap().record.health, Health::Parked(_)));
    let (account, token) = store.account(ADA.parse().unwrap(), &person(1)).await.unwrap().unwrap();
    assert_eq!((account.name.as_deref(), token.unwrap().expose()), (Some("Person 1"), "user-token-1"));
}

/// Everything that the earlier release wrote.
async fn check_everything(store: &Store) {
    assert_eq!((store.mended(), store.counts().await.unwrap().damaged), (None, 0));
    check_links(store).await;
    // What Spaces has of page 1, what waits for it of page 2, and what is due.
    assert_eq!(store.expectation(&link(ADA, 1)).await.unwrap().etag.as_deref(), Some("etag-1"));
    let staged = store.outbox_item(&link(ADA, 2)).await.unwrap().unwrap();
    assert_eq!((&staged.body[..9], staged.staged.op), (&br#"{"data":["#[..], ObjectOp::Put([2; 32])));
    assert_eq!(due_mark(store, &link(ADA, 3)).await.map(|mark| mark.cause), Some(Cause::Link));
    for gone in [link(ADA, 5), link(BRUNO, 7)] {
        assert_eq!(store.outbox_item(&gone).await.unwrap().unwrap().staged.op, ObjectOp::Delete);
    }
    let deletion = store.deletion("a-code").await.unwrap().unwrap();
    assert_eq!((deletion.objects, deletion.open, deletion.done_at), (1, 1, None));
    let hinted = link(BRUNO, 6);
    assert!(store.view(&hinted).await.unwrap().unwrap().record.hint.is_some());
    let cleanups: Vec<_> = store.cleanups().await.unwrap().iter().map(|one| one.cleanup.word()).collect();
    assert_eq!(cleanups, ["unsubscribe"]);
    assert_eq!(store.session(SESSION).await.unwrap().map(|session| session.user), Some(ADA.parse().unwrap()));
    assert!(!store.use_state([9; 16], WallTime::now().plus(Duration::from_secs(60))).await.unwrap(), "it was used");
    store.switch_events(true);
    let mut waiting = Vec::new();
    for event_key in store.event_keys().await.unwrap() {
        if let super::super::events::Begun::Goes(sending) = store.begin_event(&event_key).await.unwrap() {
            waiting.push(sending.event().kind.word());
        }
    }
    waiting.sort_unstable();
    let linked = ["page.linked"; 6];
    assert_eq!(waiting, [&linked[..], &["page.unlinked"; 2]].concat());
}

#[tokio::test]
async fn a_store_of_release_0_1_opens_with_everything_in_it() {
    let dir = copy();
    for _ in ["the first start", "a second start"] {
        let store = open(dir.path());
        check_everything(&store).await;
        store.close().await;
    }
    let engine = Database::open(dir.path(), &keyring()).unwrap();
    assert_eq!(engine.format().unwrap(), open_error::FORMAT);
    for tree in Tree::ALL {
        for record in engine.records(tree) {
            let (key, _) = record.unwrap();
            assert_eq!(
                earlier_keys::key_of_today(tree, &key),
                key.to_vec(),
                "a key of {} is an earlier one",
                tree.name()
            );
        }
    }
}

#[tokio::test]
async fn a_start_that_is_cut_off_anywhere_loses_nothing() {
    let mut steps = 0;
    loop {
        let dir = copy();
        let earlier = Database::open(dir.path(), &keyring()).unwrap();
        let cut = migration::stop_after(dir.path(), earlier, steps);
        let store = open(dir.path());
        check_everything(&store).await;
        store.close().await;
        assert!(!dir.path().join("sled.new").exists() && !dir.path().join("sled.old").exists());
        if !cut {
            break;
        }
        steps += 1;
    }
    assert!(steps > 30, "{steps} records were copied");
}

#[tokio::test]
async fn what_an_earlier_release_lost_of_its_database_is_restored_under_the_keys_of_today() {
    let dir = copy();
    let log = dir.path().join("sled").join("db");
    let full = std::fs::read(&log).unwrap();
    let written = full.iter().rposition(|b| *b != 0).unwrap();
    for part in [0, 10, 30, 50, 70, 90] {
        std::fs::write(&log, &full[..written * part / 100]).unwrap();
        for name in ["links.journal", "tide"] {
            std::fs::copy(fixture().join(name), dir.path().join(name)).unwrap();
        }
        let store = open(dir.path());
        check_links(&store).await;
        assert_eq!(store.counts().await.unwrap().damaged, 0, "after {part} percent");
        let staged = store.outbox_item(&link(ADA, 2)).await.unwrap();
        assert!(staged.is_none_or(|item| item.staged.op != ObjectOp::Delete), "a page that is linked keeps its object");
        for gone in [link(ADA, 5), link(BRUNO, 7)] {
            assert_eq!(store.outbox_item(&gone).await.unwrap().unwrap().staged.op, ObjectOp::Delete);
        }
        store.close().await;
        drop(store);
        std::fs::remove_dir_all(dir.path().join("sled")).unwrap();
        std::fs::create_dir(dir.path().join("sled")).unwrap();
        std::fs::copy(fixture().join("sled/conf"), dir.path().join("sled/conf")).unwrap();
    }
}

#[tokio::test]
async fn a_format_that_is_not_known_is_refused_and_nothing_is_changed() {
    let dir = copy();
    let store = open(dir.path());
    store.close().await;
    drop(store);
    let engine = Database::open(dir.path(), &keyring()).unwrap();
    let batch = engine.batch().unwrap();
    engine.commit(&[Database::format_record(open_error::FORMAT + 1)], batch).unwrap();
    engine.close();
    let files = || ["links.journal", "tide"].map(|name| std::fs::read(dir.path().join(name)).unwrap());
    let before = files();
    let refused = Store::open(dir.path(), keyring()).err().unwrap();
    assert!(matches!(refused, OpenError::Newer { found, .. } if found == open_error::FORMAT + 1), "{refused}");
    assert!(refused.to_string().contains("run the newer pagesyncd"));
    assert!(files() == before, "the backup log is changed");
}

#[tokio::test]
async fn its_backup_log_alone_brings_back_links_and_logins() {
    let dir = copy();
    std::fs::remove_dir_all(dir.path().join("sled")).unwrap();
    let store = open(dir.path());
    assert!(store.mended().is_some());
    check_links(&store).await;
    store.close().await;
}
