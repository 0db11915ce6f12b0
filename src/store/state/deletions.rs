//! The deletions in memory, with indexes of those that are open, that wait for an erasure, and that are done.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::core::model::{LinkKey, WallTime};
use crate::store::records::DeletionRecord;
use crate::store::tree::Tree;
use crate::store::txn::Txn;

/// The deletions, by their confirmation codes.
#[derive(Default)]
pub(in crate::store) struct Deletions {
    records: BTreeMap<String, DeletionRecord>,
    /// Those that are not done.
    open: BTreeSet<String>,
    /// Those of them that wait for the object of a link.
    awaited: HashMap<LinkKey, BTreeSet<String>>,
    /// Those whose objects are gone, and the erasure that each waits for.
    cleared: BTreeMap<String, u64>,
    /// Those that are done, in the order in which they ended.
    done: BTreeSet<(WallTime, String)>,
}

impl Deletions {
    /// As they lie on disk. Those whose objects are gone wait for the first erasure.
    pub(in crate::store) fn restored(records: impl IntoIterator<Item = (String, DeletionRecord)>) -> Deletions {
        let mut deletions = Deletions::default();
        for (code, record) in records {
            if record.done_at.is_none() && record.cleared_at.is_some() {
                deletions.cleared.insert(code.clone(), 1);
            }
            deletions.insert(code, record);
        }
        deletions
    }

    /// Those whose objects are gone wait for this erasure, whichever it was before the store was opened again.
    pub(in crate::store) fn wait_for(&mut self, erasure: u64) {
        self.cleared.values_mut().for_each(|number| *number = erasure);
    }

    /// Since when one of them waits for an erasure.
    pub(in crate::store) fn cleared_since(&self) -> Option<WallTime> {
        self.cleared.keys().filter_map(|code| self.records.get(code)?.cleared_at).min()
    }

    pub(in crate::store) fn get(&self, code: &str) -> Option<&DeletionRecord> {
        self.records.get(code)
    }

    pub(in crate::store) fn len(&self) -> usize {
        self.records.len()
    }

    /// The codes of those that wait for an object of this link.
    pub(in crate::store) fn awaiting(&self, link: &LinkKey) -> Vec<String> {
        self.awaited.get(link).into_iter().flatten().cloned().collect()
    }

    /// The codes of those that are not done.
    pub(in crate::store) fn open(&self) -> Vec<String> {
        self.open.iter().cloned().collect()
    }

    /// The codes of those that are done, each with the moment when it was, the oldest first.
    pub(in crate::store) fn done(&self) -> impl Iterator<Item = &(WallTime, String)> {
        self.done.iter()
    }

    /// Does one wait for an erasure?
    pub(in crate::store) fn has_cleared(&self) -> bool {
        !self.cleared.is_empty()
    }

    /// Takes out those that waited for an erasure of which this holds.
    pub(in crate::store) fn take_cleared(&mut self, is_over: impl Fn(u64) -> bool) -> Vec<String> {
        let over: Vec<String> =
            self.cleared.iter().filter(|(_, number)| is_over(**number)).map(|(code, _)| code.clone()).collect();
        self.cleared.retain(|_, number| !is_over(*number));
        over
    }

    /// This one waits for that erasure from here on.
    pub(in crate::store) fn clear(&mut self, code: &str, erasure: u64) {
        self.cleared.insert(code.to_owned(), erasure);
    }

    /// Writes a deletion, new or changed.
    pub(in crate::store) fn put(&mut self, txn: &mut Txn, code: String, record: DeletionRecord) {
        txn.put(Tree::Deletions, code.as_bytes().to_vec(), &record);
        self.leave_index(&code);
        self.insert(code, record);
    }

    /// Removes a deletion. Returns whether there was one.
    pub(in crate::store) fn remove(&mut self, txn: &mut Txn, code: &str) -> bool {
        self.leave_index(code);
        let was_there = self.records.remove(code).is_some();
        if was_there {
            txn.remove(Tree::Deletions, code.as_bytes().to_vec());
        }
        was_there
    }

    fn insert(&mut self, code: String, record: DeletionRecord) {
        match record.done_at {
            Some(at) => drop(self.done.insert((at, code.clone()))),
            None => {
                self.open.insert(code.clone());
                for link in &record.links {
                    self.awaited.entry(link.clone()).or_default().insert(code.clone());
                }
            }
        }
        self.records.insert(code, record);
    }

    fn leave_index(&mut self, code: &str) {
        let Some(record) = self.records.get(code) else { return };
        if let Some(at) = record.done_at {
            self.done.remove(&(at, code.to_owned()));
        }
        self.open.remove(code);
        for link in &record.links {
            if let Some(codes) = self.awaited.get_mut(link) {
                codes.remove(code);
                if codes.is_empty() {
                    self.awaited.remove(link);
                }
            }
        }
    }

    /// Compares the indexes with a scan.
    #[cfg(test)]
    pub(in crate::store) fn check(&self) {
        let mut scanned = Deletions::default();
        for (code, record) in &self.records {
            scanned.insert(code.clone(), record.clone());
        }
        assert_eq!((&scanned.open, &scanned.awaited, &scanned.done), (&self.open, &self.awaited, &self.done));
    }
}
