//! The pages that absorb a delivery, findable without the store's lock.
//!
//! In a burst nearly every delivery names a page that is owed a read already. Such a delivery changes nothing, and the
//! proof of that should cost nothing: neither the lock under which all decisions are made, nor a wait behind a scan that
//! holds it. A page *absorbs* while every link of it has a mark that is durable, that no read has claimed, that is noted
//! to have been asked for again and that a person or a webhook asked for, and while the store is up. This is a set of such
//! pages, not of all of them: a page that is missing is looked for under the lock.
//!
//! # Why an answer from here is as good as one under the lock
//!
//! The set changes only under the store's lock, in the critical section of the change that it follows:
//!
//! * A page is entered by a delivery that has found under the lock that the page absorbs ([`State::absorbs`]).
//! * A page leaves with every change to the ledger that leaves the mark of a link in another state: a read claims it, a
//!   stage or an unlink clears it, a new one replaces it. It leaves as well whenever a record of one of its links is
//!   written, since a link that is added has no mark yet. And it leaves when the machine of a link takes its facts, which
//!   begins the note of repeated deliveries anew
//!   ([`Facts::repeated`](crate::core::link::machine::Facts::repeated)): the next delivery is noted under the lock.
//! * All pages leave when the store goes down or is closed. None is entered before it is up again.
//!
//! So at each moment at which a page is in the set, it absorbs. A delivery that finds its page here has looked at such a
//! moment, after it came and before it is answered. It might as well have taken the lock at that moment:
//!
//! * *No read misses it.* A claim removes the page before it returns, and the read begins after that. A delivery that still
//!   finds the page has looked before the claim ended, so that the read begins after the delivery came and sees what it
//!   reports. What was found is a mark that is not claimed, so no read that had begun before answers for it.
//! * *No power cut loses it.* The mark is on the disk, and it leaves the disk in the transaction that stages what such a read
//!   has found.
//! * *No reopening loses it.* When the store goes down, memory is thrown away, and the mark is read from the disk again.
//!   While the store is down, the set is empty, and deliveries are refused as by the lock.
//!
//! An unlink that is on its way to disk takes a mark with it, and a power cut may bring the link back. So no page is
//! entered while there is one.
//!
//! A delivery that names several pages looks at a moment for each. Marks of different pages do not depend on each other.
//!
//! The set has a lock of its own. It is held for one look or one change, and never while another lock is waited for. Its
//! size is bounded by the linked pages.
//!
//! [`State::absorbs`]: super::state::State::absorbs

use std::collections::HashSet;
use std::sync::{PoisonError, RwLock, RwLockWriteGuard};

use crate::core::model::{GraphId, PageId, SourceId};

/// The pages.
#[derive(Default)]
pub(super) struct Absorbing {
    pages: RwLock<HashSet<PageId>>,
}

impl Absorbing {
    /// Do all of these absorb? `false` may only mean that nobody has looked under the store's lock yet.
    pub(super) fn has(&self, pages: &[GraphId]) -> bool {
        let held = self.pages.read().unwrap_or_else(PoisonError::into_inner);
        pages.iter().all(|page| held.contains(page.as_str()))
    }

    /// The page absorbs. Other ids are not asked for.
    pub(super) fn enter(&self, id: &SourceId) {
        if let SourceId::Facebook(page) = id {
            self.write().insert(page.clone());
        }
    }

    /// The page may not absorb any more.
    pub(super) fn leave(&self, id: &SourceId) {
        if let SourceId::Facebook(page) = id {
            self.write().remove(page);
        }
    }

    /// No page absorbs any more.
    pub(super) fn clear(&self) {
        self.write().clear();
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashSet<PageId>> {
        self.pages.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The pages, for a comparison.
    #[cfg(test)]
    pub(super) fn pages(&self) -> Vec<PageId> {
        self.pages.read().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}
