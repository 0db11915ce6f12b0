//! Decisions about deletions: noted, cleared with the last object, done with the next erasure, forgotten.

use std::collections::BTreeSet;
use std::time::Duration;

use super::State;
use crate::core::cleanup::Cleanup;
use crate::core::event::{EventKey, EventKind};
use crate::core::model::{AppUserId, LinkKey, WallTime};
use crate::store::records::DeletionRecord;
use crate::store::txn::Txn;

/// How long the code of a deletion that is done is known.
pub const KEPT_FOR: Duration = Duration::from_secs(2 * 365 * 24 * 60 * 60);
/// Codes known at a time.
pub const MOST: usize = 100_000;

impl State {
    /// Notes the deletion of a person whose links were removed just now; `record` says what was ended and what stayed.
    pub(in crate::store) fn note_deletion(
        &mut self,
        txn: &mut Txn,
        code: &str,
        person: &AppUserId,
        record: DeletionRecord,
    ) {
        let links = self.deletes_owed_to(person);
        let record = DeletionRecord { asked_at: txn.now(), count: links.len(), links, ..record };
        self.deletions.put(txn, code.to_owned(), record);
        self.close_deletion(txn, code);
        let too_many = self.deletions.len().saturating_sub(MOST);
        let oldest: Vec<String> = self.deletions.done().take(too_many).map(|(_, code)| code.clone()).collect();
        oldest.iter().for_each(|code| self.drop_deletion(txn, code));
    }

    /// Links that are gone, and whose objects, once this person's, are still to be deleted.
    fn deletes_owed_to(&self, person: &AppUserId) -> Vec<LinkKey> {
        let again = self.cleanups.of_person(person).filter_map(|(cleanup, _)| match cleanup {
            Cleanup::DeleteAgain(part) => Some(part.link.clone()),
            Cleanup::Unsubscribe(_)
            | Cleanup::Revoke(_)
            | Cleanup::ForgetParts(_)
            | Cleanup::Uninstall(_)
            | Cleanup::Redact(_) => None,
        });
        let mut links: BTreeSet<LinkKey> = self.ledger.deletes_of(person).cloned().collect();
        links.extend(again.filter(|link| !self.links.contains(link)));
        links.into_iter().collect()
    }

    fn drop_deletion(&mut self, txn: &mut Txn, code: &str) {
        if self.deletions.remove(txn, code) {
            self.events.drop_key(txn, &EventKey::Deletion(code.to_owned()));
        }
    }

    /// Is an object of this link still to be deleted? A put that took the place of the delete, because the page was
    /// linked again, has yet to take that of the object.
    pub(in crate::store) fn is_open(&self, link: &LinkKey) -> bool {
        self.ledger.owes_spaces(link) || self.cleanups.deletes_again(link).next().is_some()
    }

    /// A deletion whose last object is gone waits for the erasure of the store's own files, if one is owed.
    fn close_deletion(&mut self, txn: &mut Txn, code: &str) {
        let open = |deletion: &&DeletionRecord| deletion.done_at.is_none() && deletion.cleared_at.is_none();
        let Some(record) = self.deletions.get(code).filter(open).cloned() else { return };
        if record.links.iter().any(|link| self.is_open(link)) {
            return;
        }
        match self.erasures.awaited(txn) {
            None => self.finish_deletion(txn, code, record),
            Some(erasure) => {
                self.deletions.clear(code, erasure);
                let cleared = DeletionRecord { cleared_at: Some(txn.now()), ..record };
                self.deletions.put(txn, code.to_owned(), cleared);
            }
        }
    }

    /// A deletion of which nothing is left is done, and names nobody any more.
    fn finish_deletion(&mut self, txn: &mut Txn, code: &str, record: DeletionRecord) {
        let count = record.count.max(record.links.len());
        self.events.emit(txn, EventKind::Deleted { code: code.to_owned(), links: record.links.clone() });
        let done = DeletionRecord { links: Vec::new(), count, done_at: Some(txn.now()), ..record };
        self.deletions.put(txn, code.to_owned(), done);
    }

    /// The erasures up to this one are carried out: the deletions that waited for them are done.
    pub(in crate::store) fn erased(&mut self, txn: &mut Txn, number: u64) {
        self.erasures.carried_out(number);
        let erasures = &self.erasures;
        for code in self.deletions.take_cleared(|number| erasures.is_done(number)) {
            if let Some(record) = self.deletions.get(&code).filter(|d| d.done_at.is_none()).cloned() {
                self.finish_deletion(txn, &code, record);
            }
        }
    }

    /// Something settled about this link's object.
    pub(in crate::store) fn object_is_settled(&mut self, txn: &mut Txn, link: &LinkKey, versions_unknown: bool) {
        for code in self.deletions.awaiting(link) {
            let news = |deletion: &&DeletionRecord| versions_unknown && !deletion.versions_unknown;
            if let Some(record) = self.deletions.get(&code).filter(news).cloned() {
                let record = DeletionRecord { versions_unknown: true, ..record };
                self.deletions.put(txn, code.clone(), record);
            }
            self.close_deletion(txn, &code);
        }
    }

    /// Closes what an earlier version left open, and forgets codes that were known long enough.
    pub(in crate::store) fn sweep_deletions(&mut self, txn: &mut Txn, now: WallTime) -> usize {
        let over = self.deletions.done().take_while(|(done_at, _)| now.since(*done_at) >= KEPT_FOR);
        let gone: Vec<String> = over.map(|(_, code)| code.clone()).collect();
        gone.iter().for_each(|code| self.drop_deletion(txn, code));
        self.deletions.open().iter().for_each(|code| self.close_deletion(txn, code));
        gone.len()
    }
}
