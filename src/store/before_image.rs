//! The before-image: a copy of the database from before sled opened it.
//!
//! # Opening a database can destroy it
//!
//! sled takes a read error in its log for the end of the log, and reports nothing. It overwrites the rest of the last
//! segment, or all of the last segment where it could read none of it. A segment has 2 MiB. The error passes, the
//! records are gone, and every later opening finds a database that is damaged, or one that has lost its end.
//! [`folder::read_all`] makes such an error rare, because sled then reads from the page cache. The kernel may drop pages
//! from there at any time.
//!
//! So a database that was not closed in order is copied before sled opens it. The copy goes when the database is open,
//! was read through and has its newest transaction, and before anything is committed to it. In all other cases the copy
//! is put back, and the next opening begins with the bytes that this one has found.
//!
//! | opening is cut off after | state of the folder | next opening |
//! |---|---|---|
//! | any byte of the copy | `sled` as it was, and an unfinished `sled.before.new` | removes the unfinished |
//! | the copy has its name | `sled`, perhaps overwritten, and `sled.before` | puts the copy back |
//! | `sled` is renamed to `sled.old` | no `sled`, and `sled.before` | goes on with putting it back |
//! | the copy is renamed to `sled` | `sled` as it was, and `sled.old`, perhaps overwritten | removes `sled.old` |
//!
//! # No copy is made
//!
//! * of a database that was closed in order, because no write to it has failed and a start should be short;
//! * on a disk without space for a second copy, because the store must open there, too.
//!
//! A read error that sled passes over then costs a rebuild from the backup log.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use super::backup_log::BackupLog;
use super::folder;
use super::open_error::OpenError;

/// The copy. It is whole, and on the disk.
pub(super) const BEFORE: &str = "sled.before";
/// A copy that is being made.
pub(super) const UNFINISHED: &str = "sled.before.new";

/// Copies the database. Returns `false` where the disk has no space for a copy.
pub(super) fn make(dir: &Path) -> io::Result<bool> {
    match folder::has_room_for_a_copy(dir, &BackupLog::path(dir)) {
        Err(error) if error.kind() == io::ErrorKind::StorageFull => {
            tracing::debug!(%error, "store: the database is opened without a copy of it ({error})");
            return Ok(false);
        }
        checked => checked?,
    }
    let unfinished = dir.join(UNFINISHED);
    folder::remove_folder(&unfinished)?;
    copy(&dir.join(folder::DATABASE), &unfinished)?;
    fs::rename(unfinished, dir.join(BEFORE))?;
    folder::sync(dir)?;
    Ok(true)
}

/// Replaces the database by its copy, if there is one; no handle may have the database open. Returns whether there was
/// one.
///
/// # Errors
/// [`OpenError`] for a disk that refuses, and for a handle that is still open. The copy stays, or is in force by then.
pub(super) fn put_back(dir: &Path) -> Result<bool, OpenError> {
    let io = |source| OpenError::Io { path: dir.to_owned(), source };
    folder::remove_folder(&dir.join(UNFINISHED)).map_err(io)?;
    let before = dir.join(BEFORE);
    if !before.try_exists().map_err(io)? {
        return Ok(false);
    }
    let lock = folder::open_alone(dir)?;
    let replace = || {
        let (database, replaced) = (dir.join(folder::DATABASE), dir.join(folder::REPLACED));
        if database.try_exists()? {
            folder::remove_folder(&replaced)?;
            fs::rename(&database, &replaced)?;
        }
        fs::rename(&before, &database)?;
        folder::sync(dir)?;
        folder::remove_folder(&replaced)
    };
    replace().map_err(io)?;
    drop(lock);
    Ok(true)
}

/// Removes the copy, because the database is whole without it.
pub(super) fn remove(dir: &Path) -> io::Result<()> {
    folder::remove_folder(&dir.join(BEFORE))
}

/// Copies a folder and all that is in it, durably.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            let source = File::open(entry.path())?;
            let target = File::options().create_new(true).write(true).mode(0o600).open(target)?;
            folder::copy_bytes(&source, &target)?;
        }
    }
    folder::sync(to)
}
