//! The store's folder is for its owner alone.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

use super::*;

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().mode() & 0o7777
}

fn all_below(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(all_below(&path));
        }
        found.push(path);
    }
    found
}

#[track_caller]
fn is_private(dir: &Path) {
    let open: Vec<_> = all_below(dir).into_iter().filter(|path| mode(path) & 0o077 != 0).collect();
    assert_eq!(open, Vec::<PathBuf>::new());
    assert!(all_below(dir).len() > 5, "there is something to look at");
    assert_eq!(mode(dir), 0o700);
}

#[tokio::test(flavor = "multi_thread")]
async fn folder_and_files_are_the_owners_alone() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("store");
    let store = open(&dir);
    let user = UserId::random();
    link_one(&store, user, 1).await;
    is_private(&dir);
    // A renewal makes new ones.
    store.erase().await.unwrap();
    link_one(&store, user, 2).await;
    is_private(&dir);
    store.close().await;
    drop(store);
    // As an earlier version left them, in a folder that was made by hand.
    for path in all_below(&dir).iter().chain([&dir]) {
        let open = if path.is_dir() { 0o755 } else { 0o644 };
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(open)).unwrap();
    }
    let store = open(&dir);
    is_private(&dir);
    assert_eq!(store.counts().await.unwrap().links, 2);
    store.close().await;
}

#[tokio::test]
async fn a_folder_of_another_user_is_refused_by_name() {
    if rustix::process::geteuid().as_raw() != 0 {
        return println!("skipped: only root can give a folder away");
    }
    let dir = tempfile::tempdir().unwrap();
    open(dir.path()).close().await;
    chown(dir.path(), Some(65534), None).unwrap();
    let refused = Store::open(dir.path(), keyring()).err().unwrap();
    assert!(matches!(refused, OpenError::Owner { owner: 65534, ours: 0, .. }), "{refused}");
    let text = refused.to_string();
    assert!(text.contains("65534") && text.contains(&dir.path().display().to_string()), "{text}");
}

/// A process that ends, or a child that has not become its program yet, holds the lock a moment longer.
#[tokio::test]
async fn a_lock_that_is_released_soon_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path()).close().await;
    let holder = std::fs::File::open(dir.path().join("lock")).unwrap();
    holder.lock().unwrap();
    let releasing = std::thread::spawn(move || {
        std::thread::park_timeout(Duration::from_millis(200));
        drop(holder);
    });
    open(dir.path()).close().await;
    releasing.join().unwrap();
}

#[tokio::test]
async fn a_store_that_another_process_keeps_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let refused = Store::open(dir.path(), keyring()).err().unwrap();
    assert!(refused.to_string().contains("is in use by another process"), "{refused}");
    store.close().await;
}
