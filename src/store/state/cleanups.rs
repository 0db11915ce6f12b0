//! The cleanups in memory, with an index by person and a count of each kind.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::core::cleanup::Cleanup;
use crate::core::model::{AppUserId, LinkKey};
use crate::store::feed::Change;
use crate::store::records::{CleanupRecord, Sealed};
use crate::store::state::seals::Seals;
use crate::store::tree::Tree;
use crate::store::txn::Txn;

/// The cleanups.
#[derive(Default)]
pub(in crate::store) struct Cleanups {
    records: BTreeMap<Cleanup, Arc<CleanupRecord>>,
    by_person: HashMap<AppUserId, BTreeSet<Cleanup>>,
    words: BTreeMap<&'static str, u64>,
    seals: Seals,
}

impl Cleanups {
    /// As they lie on disk.
    pub(in crate::store) fn restored(records: impl IntoIterator<Item = (Cleanup, CleanupRecord)>) -> Cleanups {
        let mut cleanups = Cleanups::default();
        for (cleanup, record) in records {
            cleanups.insert(cleanup, Arc::new(record));
        }
        cleanups
    }

    pub(in crate::store) fn get(&self, cleanup: &Cleanup) -> Option<&Arc<CleanupRecord>> {
        self.records.get(cleanup)
    }

    pub(in crate::store) fn iter(&self) -> impl Iterator<Item = (&Cleanup, &Arc<CleanupRecord>)> {
        self.records.iter()
    }

    /// The cleanups of a person.
    pub(in crate::store) fn of_person(
        &self,
        person: &AppUserId,
    ) -> impl Iterator<Item = (&Cleanup, &Arc<CleanupRecord>)> {
        let theirs = self.by_person.get(person).into_iter().flatten();
        theirs.filter_map(|cleanup| self.records.get_key_value(cleanup))
    }

    /// The deletes of this link's objects that are to be repeated.
    pub(in crate::store) fn deletes_again<'a>(&'a self, link: &'a LinkKey) -> impl Iterator<Item = &'a Cleanup> {
        let from = self.records.range(Cleanup::DeleteAgain(link.whole())..).map(|(cleanup, _)| cleanup);
        from.take_while(move |cleanup| matches!(cleanup, Cleanup::DeleteAgain(part) if part.link == *link))
    }

    /// The counts of the sealed tokens.
    pub(in crate::store) fn seals(&self) -> &Seals {
        &self.seals
    }

    /// Is a token of this person kept for a cleanup?
    pub(in crate::store) fn has_token_of(&self, person: &AppUserId) -> bool {
        self.of_person(person).any(|(_, record)| record.token != Sealed::default())
    }

    /// Is a page of this person still to be unsubscribed?
    pub(in crate::store) fn has_unsubscribe_of(&self, person: &AppUserId) -> bool {
        self.of_person(person).any(|(cleanup, record)| matches!(cleanup, Cleanup::Unsubscribe(_)) && !record.void)
    }

    /// How many there are of each kind, by its word.
    pub(in crate::store) fn words(&self) -> &BTreeMap<&'static str, u64> {
        &self.words
    }

    /// Writes a cleanup, new or changed.
    pub(in crate::store) fn put(&mut self, txn: &mut Txn, cleanup: Cleanup, record: CleanupRecord) {
        txn.put(Tree::Cleanups, cleanup.to_bytes(), &record);
        txn.publish(Change::Cleanup);
        let token = record.token.clone();
        let before = self.insert(cleanup, Arc::new(record));
        if before.is_some_and(|before| before.token != token && before.token != Sealed::default()) {
            txn.ask_for_erasure();
        }
    }

    /// Removes a cleanup.
    pub(in crate::store) fn remove(&mut self, txn: &mut Txn, cleanup: &Cleanup) {
        let Some(record) = self.records.remove(cleanup) else { return };
        self.leave_index(cleanup, &record);
        txn.remove(Tree::Cleanups, cleanup.to_bytes());
        txn.publish(Change::Cleanup);
    }

    fn insert(&mut self, cleanup: Cleanup, record: Arc<CleanupRecord>) -> Option<Arc<CleanupRecord>> {
        let before = self.records.insert(cleanup.clone(), record.clone());
        if let Some(before) = &before {
            self.leave_index(&cleanup, before);
        }
        *self.words.entry(cleanup.word()).or_default() += 1;
        if record.token != Sealed::default() {
            self.seals.add(&record.token);
        }
        if let Some(person) = &record.person {
            self.by_person.entry(person.clone()).or_default().insert(cleanup);
        }
        before
    }

    fn leave_index(&mut self, cleanup: &Cleanup, record: &CleanupRecord) {
        if let Some(count) = self.words.get_mut(cleanup.word()) {
            *count -= 1;
            if *count == 0 {
                self.words.remove(cleanup.word());
            }
        }
        if record.token != Sealed::default() {
            self.seals.remove(&record.token);
        }
        let Some(person) = &record.person else { return };
        if let Some(theirs) = self.by_person.get_mut(person) {
            theirs.remove(cleanup);
            if theirs.is_empty() {
                self.by_person.remove(person);
            }
        }
    }

    /// Compares counts and the index with a scan.
    #[cfg(test)]
    pub(in crate::store) fn check(&self) {
        let mut scanned = Cleanups::default();
        for (cleanup, record) in &self.records {
            scanned.insert(cleanup.clone(), record.clone());
        }
        assert_eq!((&scanned.words, &scanned.by_person), (&self.words, &self.by_person));
        assert_eq!(scanned.seals, self.seals);
    }
}
