//! The store after damage of every kind: it opens, it has all links, it never serves what was not written, and every
//! page whose mark may be lost is read again.

use super::*;
use crate::store::unlink::Unlinking;
use proptest::prelude::*;

const LINKS: u64 = 20;

/// A store with links, a login session, staged bodies, and changes up to its end; closed as a kill would leave it.
async fn filled(dir: &Path) -> UserId {
    let user = UserId::random();
    let store = open(dir);
    for n in 0..LINKS {
        let link = link_one(&store, user, n).await;
        read_and_stage(&store, &link, n as u8, b"{\"some\":\"body\"}").await;
    }
    for n in 0..LINKS / 2 {
        let link = LinkKey::new(user, page(n));
        let item = store.outbox_item(&link).await.unwrap().unwrap();
        store.complete(&link, &item, Some(format!("etag-{n}")), Left::default()).await.unwrap();
    }
    store.mark_pages(&[page(3)], Cause::Webhook).await.unwrap();
    store.close().await;
    user
}

/// All links are there with their tokens; what is owed is due or staged; nothing strange is served.
async fn is_whole(dir: &Path, user: UserId, lost_something: bool) {
    let store = Store::open(dir, keyring()).unwrap();
    assert_eq!(store.counts().await.unwrap().links, LINKS, "mended: {:?}", store.mended());
    for n in 0..LINKS {
        let link = LinkKey::new(user, page(n));
        assert_eq!(store.link(&link).await.unwrap().unwrap().token.unwrap().expose(), "EAAB-token");
        let due = unclaimed_mark(&store, &link).await.is_some();
        let item = store.outbox_item(&link).await.ok().flatten();
        assert!(item.as_ref().is_none_or(|item| item.body.as_ref() == b"{\"some\":\"body\"}"));
        let owed_before = n >= LINKS / 2 || n == 3;
        assert!(!owed_before || due || item.is_some(), "link {n} was owed something and is not");
        assert!(!lost_something || due, "link {n} is not read again");
        let expected = store.expectation(&link).await.unwrap();
        assert!(expected.etag.is_none_or(|etag| etag == format!("etag-{n}")));
    }
    // And it goes on working, and stays whole over another start.
    store.mark_pages(&[page(1)], Cause::Webhook).await.unwrap();
    store.close().await;
    drop(store);
    let again = Store::open(dir, keyring()).unwrap();
    assert_eq!((again.counts().await.unwrap().links, again.mended()), (LINKS, None));
    again.close().await;
}

fn sled_file(dir: &Path, name: &str) -> PathBuf {
    dir.join("sled").join(name)
}

#[tokio::test]
async fn a_snapshot_that_was_never_finished_is_no_damage() {
    let dir = tempfile::tempdir().unwrap();
    let user = filled(dir.path()).await;
    for half in [&b""[..], b"half of a snapshot"] {
        let unfinished = sled_file(dir.path(), "snap.FFFFFFFFFFFFFFFF.generating");
        std::fs::write(&unfinished, half).unwrap();
        let store = open(dir.path());
        assert_eq!(store.mended(), None);
        store.close().await;
        assert!(!unfinished.exists());
    }
    is_whole(dir.path(), user, false).await;
}

#[tokio::test]
async fn nothing_damaged_nothing_mended() {
    let dir = tempfile::tempdir().unwrap();
    let user = filled(dir.path()).await;
    for _ in 0..3 {
        let store = open(dir.path());
        assert_eq!(store.mended(), None);
        store.close().await;
    }
    is_whole(dir.path(), user, false).await;
}

#[tokio::test]
async fn the_whole_database_gone() {
    let dir = tempfile::tempdir().unwrap();
    let user = filled(dir.path()).await;
    std::fs::remove_dir_all(dir.path().join("sled")).unwrap();
    is_whole(dir.path(), user, true).await;
}

#[tokio::test]
async fn the_log_cut_off_anywhere() {
    for part in [0, 1, 5, 20, 50, 80, 95, 99] {
        let dir = tempfile::tempdir().unwrap();
        let user = filled(dir.path()).await;
        let log = sled_file(dir.path(), "db");
        let len = std::fs::metadata(&log).unwrap().len();
        std::fs::File::options().write(true).open(&log).unwrap().set_len(len * part / 100).unwrap();
        is_whole(dir.path(), user, false).await;
    }
}

#[tokio::test]
async fn the_log_overwritten() {
    let junk: [fn(usize) -> u8; 3] = [|_| 0, |_| 255, |n| (n * 31 % 251) as u8];
    for fill in junk {
        let dir = tempfile::tempdir().unwrap();
        let user = filled(dir.path()).await;
        let log = sled_file(dir.path(), "db");
        let len = std::fs::metadata(&log).unwrap().len() as usize;
        std::fs::write(&log, (0..len).map(fill).collect::<Vec<u8>>()).unwrap();
        is_whole(dir.path(), user, true).await;
    }
}

/// Copies the files of a folder.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    let files = std::fs::read_dir(from).unwrap().map(|entry| entry.unwrap());
    for file in files.filter(|file| file.file_type().unwrap().is_file()) {
        std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

/// What sled does to its log where it could not read the last segment.
fn overwrite(database: &Path) {
    let log = database.join("db");
    let len = std::fs::metadata(&log).unwrap().len() as usize;
    std::fs::write(log, vec![0; len]).unwrap();
}

/// Every state in which an opening can be cut off is opened as if nothing had happened.
#[tokio::test]
async fn an_opening_that_was_cut_off_after_sled_overwrote_its_log_is_no_damage() {
    let states: [&dyn Fn(&Path); 4] = [
        &|dir| {
            copy(&dir.join("sled"), &dir.join("sled.before.new"));
            overwrite(&dir.join("sled.before.new"));
        },
        &|dir| {
            copy(&dir.join("sled"), &dir.join("sled.before"));
            overwrite(&dir.join("sled"));
        },
        &|dir| {
            copy(&dir.join("sled"), &dir.join("sled.before"));
            std::fs::rename(dir.join("sled"), dir.join("sled.old")).unwrap();
            overwrite(&dir.join("sled.old"));
        },
        &|dir| {
            copy(&dir.join("sled"), &dir.join("sled.old"));
            overwrite(&dir.join("sled.old"));
        },
    ];
    for state in states {
        let dir = tempfile::tempdir().unwrap();
        let user = filled(dir.path()).await;
        state(dir.path());
        let store = open(dir.path());
        assert_eq!(store.mended(), None);
        assert!(["sled.before.new", "sled.before", "sled.old"].iter().all(|name| !dir.path().join(name).exists()));
        store.close().await;
        drop(store);
        is_whole(dir.path(), user, false).await;
    }
}

/// A database that was not closed in order is copied before it is opened, and looks damaged each time.
#[tokio::test]
async fn damage_after_a_kill_is_still_damage() {
    let dir = tempfile::tempdir().unwrap();
    let user = filled(dir.path()).await;
    let running = open(dir.path());
    let killed = tempfile::tempdir().unwrap();
    let at = killed.path().join("store");
    copy(dir.path(), &at);
    copy(&dir.path().join("sled"), &at.join("sled"));
    running.close().await;
    overwrite(&at.join("sled"));
    let store = open(&at);
    assert!(store.mended().is_some(), "the damage was not noticed");
    assert!(!at.join("sled.before").exists());
    store.close().await;
    drop(store);
    is_whole(&at, user, true).await;
}

#[tokio::test]
async fn the_settings_file_of_sled_gone_or_torn() {
    for content in [None, Some(b"".as_slice()), Some(b"\x00\x01\x02")] {
        let dir = tempfile::tempdir().unwrap();
        let user = filled(dir.path()).await;
        let conf = sled_file(dir.path(), "conf");
        match content {
            None => std::fs::remove_file(conf).unwrap(),
            Some(bytes) => std::fs::write(conf, bytes).unwrap(),
        }
        is_whole(dir.path(), user, false).await;
    }
}

#[tokio::test]
async fn a_left_over_snapshot_file() {
    for name in ["snap.0000000000000000", "snap.00000000000FFFFF", "snap.0000000000000001.generating"] {
        let dir = tempfile::tempdir().unwrap();
        let user = filled(dir.path()).await;
        std::fs::write(sled_file(dir.path(), name), [7u8; 100]).unwrap();
        is_whole(dir.path(), user, false).await;
    }
}

#[tokio::test]
async fn the_backup_log_gone_or_torn_is_written_again() {
    for keep in [0u64, 10, 1000] {
        let dir = tempfile::tempdir().unwrap();
        let user = filled(dir.path()).await;
        let backup_log = std::fs::File::options().write(true).open(dir.path().join("links.journal")).unwrap();
        backup_log.set_len(keep).unwrap();
        let store = open(dir.path());
        assert_eq!(store.mended(), None);
        store.close().await;
        drop(store);
        std::fs::remove_dir_all(dir.path().join("sled")).unwrap();
        is_whole(dir.path(), user, true).await;
    }
}

#[tokio::test]
async fn an_unlinked_page_does_not_come_back_with_an_older_database() {
    let dir = tempfile::tempdir().unwrap();
    let user = filled(dir.path()).await;
    let copy = tempfile::tempdir().unwrap();
    let sled = dir.path().join("sled");
    let files = ["db", "conf"];
    for file in files {
        std::fs::copy(sled.join(file), copy.path().join(file)).unwrap();
    }
    let link = LinkKey::new(user, page(5));
    let store = open(dir.path());
    assert_eq!(store.unlink(std::slice::from_ref(&link), Unlinking::default()).await.unwrap().links.len(), 1);
    store.close().await;
    drop(store);
    std::fs::remove_dir_all(&sled).unwrap();
    std::fs::create_dir(&sled).unwrap();
    for file in files {
        std::fs::copy(copy.path().join(file), sled.join(file)).unwrap();
    }
    let store = open(dir.path());
    assert!(store.mended().unwrap().contains("lost its end"));
    assert!(store.link(&link).await.unwrap().is_none());
    let item = store.outbox_item(&link).await.unwrap().unwrap();
    assert_eq!(item.staged.op, ObjectOp::Delete);
    assert_eq!(store.counts().await.unwrap().due, LINKS - 1);
    store.close().await;
}

#[tokio::test]
async fn a_damaged_record_is_mended_from_the_backup_log() {
    let dir = tempfile::tempdir().unwrap();
    let user = filled(dir.path()).await;
    {
        // Its mark lies in the database, and not in the mark log.
        let store = open(dir.path());
        link_one(&store, user, 6).await;
        store.close().await;
        drop(store);
        let engine = Database::open(dir.path(), &keyring()).unwrap();
        let batch = engine.batch().unwrap();
        let break_it = |tree: Tree, n: u64| {
            let link = LinkKey::new(user, page(n));
            let key = if tree == Tree::Links { link.to_bytes() } else { link.whole().to_bytes() };
            let mut value = engine.get(tree, &key).unwrap().unwrap().to_vec();
            let last = value.len() - 1;
            value[last] ^= 1;
            engine.commit(&[Write { tree, key, value: Some(value) }], batch).unwrap();
        };
        break_it(Tree::Links, 1);
        break_it(Tree::Marks, 6);
        break_it(Tree::Outbox, 15);
        break_it(Tree::Synced, 4);
    }
    let store = open(dir.path());
    for n in [1, 6, 15, 4] {
        assert!(unclaimed_mark(&store, &LinkKey::new(user, page(n))).await.is_some(), "link {n} is not read again");
    }
    store.close().await;
    drop(store);
    is_whole(dir.path(), user, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_database_destroyed_in_mid_run_is_mended_at_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let user = filled(dir.path()).await;
    let store = open(dir.path());
    std::fs::remove_dir_all(dir.path().join("sled")).unwrap();
    store.mark_pages(&[page(7)], Cause::Webhook).await.ok();
    store.close().await;
    drop(store);
    is_whole(dir.path(), user, true).await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn flipped_bits_anywhere_in_the_log(spots in proptest::collection::vec((any::<prop::sample::Index>(), 0u8..8), 1..4)) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let dir = tempfile::tempdir().unwrap();
            let user = filled(dir.path()).await;
            let log = sled_file(dir.path(), "db");
            let mut bytes = std::fs::read(&log).unwrap();
            // Most of a fresh log is empty space; aim at what was written.
            let written = bytes.iter().rposition(|b| *b != 0).unwrap_or(1);
            for (at, bit) in spots {
                bytes[at.index(written)] ^= 1 << bit;
            }
            std::fs::write(&log, bytes).unwrap();
            is_whole(dir.path(), user, false).await;
        });
    }
}
