//! Brings a database of an earlier format forward when it is opened.
//!
//! | format | what changed |
//! |---|---|
//! | 1 | a link's key is its user's 16 bytes and the page id's digits; marks, outbox, bodies, synced objects and fields are kept by link |
//! | 2 | a link's key has a tag for its source, and those five are kept by part of a link ([`PartKey`](crate::core::model::PartKey)) |
//!
//! Only keys change. Values read forward by themselves, and a sealed token is bound to bytes that did not change, so
//! nothing is sealed anew.
//!
//! The database is copied into a new one beside it, record by record under the keys of today. The number of the format
//! is written last, in the transaction that makes the copy durable. Then the new database replaces the old one. The
//! copy has the number of the same newest transaction, so a database that lost its end is still found. A start that is
//! cut off repeats all of it:
//!
//! | cut after | state of the folder | next start |
//! |---|---|---|
//! | any record | `sled` as it was, and an unfinished `sled.new` | removes the unfinished, copies again |
//! | `sled` is renamed to `sled.old` | no `sled` | renames it back, copies again |
//! | `sled.new` is renamed to `sled` | the new database | removes `sled.old` |
//!
//! The backup log of an earlier release has keys of format 1 until the store is open, and for longer if the start is
//! cut off. So its records are read under the keys of today as well ([`earlier_keys`](super::earlier_keys)).

use std::path::Path;

use super::backup_log::BackupLog;
use super::database::Database;
use super::earlier_keys::key_of_today;
use super::folder;
use super::handle::{Fault, guarded};
use super::open_error::FORMAT;
use super::tree::Tree;

/// The database in the format of today, whichever it has.
pub(super) fn bring_forward(dir: &Path, old: Database) -> Result<Database, Fault> {
    let format = old.format()?;
    if format == FORMAT {
        return Ok(old);
    }
    folder::has_room_for_a_copy(dir, &BackupLog::path(dir))?;
    let fresh = replace(dir, old, &mut || Ok(()))?;
    tracing::info!(
        store = %dir.display(),
        from = format,
        to = FORMAT,
        "store: the database of an earlier release is brought forward from format {format} to {FORMAT}"
    );
    Ok(fresh)
}

/// Replaces the database by a copy of today's format. `before` is called ahead of each step.
fn replace(dir: &Path, old: Database, before: &mut impl FnMut() -> Result<(), Fault>) -> Result<Database, Fault> {
    let fresh = Database::create_bare(dir)?;
    guarded(|| copy(&old, &fresh, before))?;
    // Nothing was written to it, so nothing can be lost when it does not close in order.
    old.close();
    before()?;
    std::fs::rename(dir.join(folder::DATABASE), dir.join(folder::REPLACED))?;
    before()?;
    fresh.rename_into(dir)?;
    before()?;
    folder::remove_folder(&dir.join(folder::REPLACED))?;
    Ok(fresh)
}

fn copy(old: &Database, fresh: &Database, before: &mut impl FnMut() -> Result<(), Fault>) -> Result<(), Fault> {
    for tree in Tree::ALL {
        for record in old.records(tree) {
            let (key, value) = record.map_err(Fault::from)?;
            if !Database::is_format(tree, &key) && !Database::is_number(tree, &key) {
                before()?;
                fresh.put(tree, &key_of_today(tree, &key), &value)?;
            }
        }
    }
    before()?;
    fresh.commit(&[Database::format_record(FORMAT)], old.batch()?)
}

/// Replaces the database in `dir`, and stops ahead of the step with this number. Returns whether it came that far.
#[cfg(test)]
pub(super) fn stop_after(dir: &Path, old: Database, steps: usize) -> bool {
    let mut left = steps;
    let mut before = || {
        left = left.checked_sub(1).ok_or_else(|| Fault::Disk("stopped".into()))?;
        Ok(())
    };
    replace(dir, old, &mut before).is_err()
}
