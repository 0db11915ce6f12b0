//! Deletions in the store: how far each is, when it was done, and how long its code is known.
//!
//! A deletion is open while one of its objects owes Spaces a delete, or is to be deleted once more because a write may
//! still land; objects of links that were this person's before count as well. With the last of them it is *cleared*, in
//! that same transaction. It is done when the next [`erasure`](super::erasure) after that is carried out; from then on
//! its record names no user and no page, only their number.
//!
//! The code is known for [`KEPT_FOR`] after that, so that the person or Meta can look it up. Of more than [`MOST`] the
//! oldest that are done go first, so that a signed request that is sent again and again does not fill the disk; an
//! event of such a deletion that still waits goes with it.

use super::api::Unavailable;
use super::inner::Store;
use super::state::State;
pub use super::state::deleting::{KEPT_FOR, MOST};
use crate::core::cleanup::Cleanup;
use crate::core::ledger::Entry;
use crate::core::model::{AppUserId, LinkKey, WallTime};

/// How far a deletion is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deletion {
    /// When it was asked for.
    pub asked_at: WallTime,
    /// How many objects there were.
    pub objects: usize,
    /// How many are still to be deleted.
    pub open: usize,
    /// The objects are gone, and the store's own files are still to be erased.
    pub erasing: bool,
    /// When nothing was left.
    pub done_at: Option<WallTime>,
    /// The bucket would not say whether it keeps older versions of them.
    pub versions_unknown: bool,
    /// When Meta wrote the request, where it was one.
    pub issued_at: Option<WallTime>,
    /// The links and logins that it ended.
    pub ended: usize,
    /// The links that stayed, because their grant is newer than the request.
    pub kept: usize,
    /// A login stayed, because it is newer than the request.
    pub kept_login: bool,
}

impl Store {
    /// A deletion by its confirmation code; `None` when the code is not known, or not any more.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn deletion(&self, code: &str) -> Result<Option<Deletion>, Unavailable> {
        self.look(|state| state.deletion(code)).await
    }

    /// Since when the oldest deletion of personal data is owed that is not finished: one that a person or a merchant asked
    /// for, an object of a link that is gone, or what the store's own files still hold of removed data.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn oldest_deletion(&self) -> Result<Option<WallTime>, Unavailable> {
        self.look(|state| state.oldest_deletion()).await
    }

    /// What would go with this person: links, and objects that were written for them; `None` for nobody known.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn known_of(&self, person: &AppUserId) -> Result<Option<(usize, usize)>, Unavailable> {
        self.look(|state| state.known_of(person)).await
    }
}

impl State {
    fn oldest_deletion(&self) -> Option<WallTime> {
        let asked_for = self.deletions.open().into_iter().filter_map(|code| Some(self.deletions.get(&code)?.asked_at));
        let is_deletion = |cleanup: &Cleanup| match cleanup {
            Cleanup::DeleteAgain(_) | Cleanup::ForgetParts(_) | Cleanup::Redact(_) => true,
            Cleanup::Unsubscribe(_) | Cleanup::Revoke(_) | Cleanup::Uninstall(_) => false,
        };
        let standing = self.cleanups.iter().filter(|(cleanup, record)| is_deletion(cleanup) && !record.void);
        let standing = standing.map(|(_, record)| record.asked_at);
        asked_for.chain(standing).chain(self.erasures.owed_since()).min()
    }

    fn deletion(&self, code: &str) -> Option<Deletion> {
        let record = self.deletions.get(code)?;
        let erasing = record.cleared_at.is_some() && record.done_at.is_none();
        // A link that was made again since then has nothing to do with it.
        let open = if erasing { 0 } else { record.links.iter().filter(|link| self.is_open(link)).count() };
        Some(Deletion {
            asked_at: record.asked_at,
            objects: record.count.max(record.links.len()),
            open,
            erasing,
            done_at: record.done_at,
            versions_unknown: record.versions_unknown,
            issued_at: record.issued_at,
            ended: record.ended,
            kept: record.kept,
            kept_login: record.kept_login,
        })
    }

    fn known_of(&self, person: &AppUserId) -> Option<(usize, usize)> {
        let links = self.links.of_person(person);
        let is_written = |entry: &Entry| entry.staged().is_some() || entry.synced().digest.is_some();
        let written = |link: &LinkKey| self.ledger.of_link(link).any(|(_, entry)| is_written(entry));
        let (links, objects) = (links.len(), links.into_iter().filter(written).count());
        let known = links > 0 || self.accounts.of_person(person).next().is_some() || self.cleanups.has_token_of(person);
        known.then_some((links, objects))
    }
}
