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
//! is written last, in the transaction that makes the copy durable. Then the new database replaces the old one. The copy
//! has the number of the same newest transaction, so a database that lost its end is still found. A start that is cut
//! off repeats all of it:
//!
//! | cut after | state of the folder | next start |
//! |---|---|---|
//! | any record | `sled` as it was, and an unfinished `sled.new` | removes the unfinished, copies again |
//! | `sled` is renamed to `sled.old` | no `sled` | renames it back, copies again |
//! | `sled.new` is renamed to `sled` | the new database | removes `sled.old` |
//!
//! The backup log of an earlier release has keys of format 1 until the store is open, and for longer if the start is
//! cut off. So its records are read under the keys of today as well. The bytes of a key show which form it has.

use std::path::Path;

use uuid::Uuid;

use super::backup_log::BackupLog;
use super::engine::{Engine, Tree};
use super::folder;
use super::handle::{Fault, guarded};
use super::open_error::FORMAT;
use crate::core::model::{LinkKey, PageId, UserId};

/// Bytes of a user at the beginning of a key.
const USER_BYTES: usize = 16;
/// Behind the part in the key of a body's piece: a separator, the entry's number, the piece's number.
const PIECE_BYTES: usize = 1 + 8 + 4;

/// The key of today for a key of any format.
pub(super) fn key_of_today(tree: Tree, key: &[u8]) -> Vec<u8> {
    let link = |key| earlier_link(key).filter(|(_, rest)| rest.is_empty()).map(|(link, _)| link);
    let today = match tree {
        Tree::Links => link(key).map(|link| link.to_bytes()),
        Tree::Marks | Tree::Outbox | Tree::Synced | Tree::Fields => link(key).map(|link| link.whole().to_bytes()),
        Tree::Bodies => {
            let piece = earlier_link(key).filter(|(_, rest)| rest.len() == PIECE_BYTES && rest[0] == 0);
            piece.map(|(link, rest)| [link.whole().to_bytes().as_slice(), rest].concat())
        }
        Tree::Cleanups => {
            let link = key.strip_prefix(b"d").and_then(link);
            link.map(|link| [b"d".as_slice(), &link.whole().to_bytes()].concat())
        }
        Tree::Meta | Tree::Accounts | Tree::Sessions | Tree::Logins | Tree::States | Tree::Deletions | Tree::Events => {
            None
        }
    };
    today.unwrap_or_else(|| key.to_vec())
}

/// Reads a link at the beginning of a key of format 1. A key of today has a letter where that one has a digit.
fn earlier_link(key: &[u8]) -> Option<(LinkKey, &[u8])> {
    let (user, rest) = key.split_at_checked(USER_BYTES)?;
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (id, rest) = rest.split_at(digits);
    let page: PageId = std::str::from_utf8(id).ok()?.parse().ok()?;
    Some((LinkKey::new(UserId(Uuid::from_slice(user).ok()?), page), rest))
}

/// The database in the format of today, whichever it has.
pub(super) fn bring_forward(dir: &Path, old: Engine) -> Result<Engine, Fault> {
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
fn replace(dir: &Path, old: Engine, before: &mut impl FnMut() -> Result<(), Fault>) -> Result<Engine, Fault> {
    let fresh = Engine::create_bare(dir)?;
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

fn copy(old: &Engine, fresh: &Engine, before: &mut impl FnMut() -> Result<(), Fault>) -> Result<(), Fault> {
    for tree in Tree::ALL {
        for record in old.records(tree) {
            let (key, value) = record.map_err(Fault::from)?;
            if !Engine::is_format(tree, &key) && !Engine::is_number(tree, &key) {
                before()?;
                fresh.put(tree, &key_of_today(tree, &key), &value)?;
            }
        }
    }
    before()?;
    fresh.commit(&[Engine::format_record(FORMAT)], old.batch()?)
}

/// Replaces the database in `dir`, and stops ahead of the step with this number. Returns whether it came that far.
#[cfg(test)]
pub(super) fn stop_after(dir: &Path, old: Engine, steps: usize) -> bool {
    let mut left = steps;
    let mut before = || {
        left = left.checked_sub(1).ok_or_else(|| Fault::Disk("stopped".into()))?;
        Ok(())
    };
    replace(dir, old, &mut before).is_err()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::cleanup::Cleanup;
    use crate::core::model::PartKey;
    use proptest::prelude::*;

    const BY_PART: [Tree; 4] = [Tree::Marks, Tree::Outbox, Tree::Synced, Tree::Fields];

    proptest! {
        #[test]
        fn each_key_of_format_1_has_one_key_of_today(user: u128, page in "[0-9]{1,32}", piece: [u8; 12]) {
            let link = LinkKey::new(UserId(Uuid::from_u128(user)), page.parse().unwrap());
            let earlier = [user.to_be_bytes().as_slice(), page.as_bytes()].concat();
            prop_assert_eq!(LinkKey::from_bytes(&key_of_today(Tree::Links, &earlier)), Some(link.clone()));
            for tree in BY_PART {
                prop_assert_eq!(PartKey::from_bytes(&key_of_today(tree, &earlier)), Some(link.whole()));
            }
            let body = key_of_today(Tree::Bodies, &[earlier.as_slice(), &[0], &piece].concat());
            prop_assert_eq!(body, [link.whole().to_bytes().as_slice(), &[0], &piece].concat());
            let cleanup = key_of_today(Tree::Cleanups, &[b"d", earlier.as_slice()].concat());
            prop_assert_eq!(Cleanup::from_bytes(&cleanup), Some(Cleanup::DeleteAgain(link.whole())));
            prop_assert_eq!(key_of_today(Tree::Accounts, &earlier), earlier);
        }

        #[test]
        fn a_key_of_today_stays_as_it_is(user: [u8; 16], mut key: Vec<u8>, earlier in "[0-9]{0,33}", shape in 0..4) {
            match shape {
                0 => {}
                1 => key = [user.as_slice(), earlier.as_bytes()].concat(),
                2 => key = [b"d", user.as_slice(), earlier.as_bytes()].concat(),
                _ => key = [user.as_slice(), earlier.as_bytes(), &[0; PIECE_BYTES]].concat(),
            }
            for tree in Tree::ALL {
                let today = key_of_today(tree, &key);
                prop_assert_eq!(key_of_today(tree, &today), today);
            }
        }
    }
}
