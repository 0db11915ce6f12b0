//! Erasures in memory: their numbers, and the record that says that one is owed.

use crate::core::model::WallTime;
use crate::store::codec;
use crate::store::tree::{Tree, Write};
use crate::store::txn::Txn;

/// Its record in the tree `meta`: since when an erasure is owed.
const OWED: &[u8] = b"erase";

/// The numbers of the erasures that were requested and carried out.
#[derive(Debug, Default)]
pub(in crate::store) struct Erasures {
    wanted: u64,
    done: u64,
    owed_since: Option<WallTime>,
}

impl Erasures {
    /// As recorded in the database.
    pub(in crate::store) fn restored(owed_since: Option<WallTime>) -> Self {
        Erasures { wanted: owed_since.map_or(0, |_| 1), owed_since, ..Erasures::default() }
    }

    /// Goes on with the numbers of the memory that this one replaces after the store was opened again.
    pub(in crate::store) fn follow(&mut self, earlier: &Erasures) {
        // A request that is not on disk was refused, or was carried out.
        let owed = self.are_owed();
        self.wanted = earlier.wanted + u64::from(owed);
        self.done = if owed { earlier.done } else { self.wanted };
    }

    /// Is one owed?
    fn are_owed(&self) -> bool {
        self.wanted > self.done
    }

    /// Since when one is owed.
    pub(in crate::store) fn owed_since(&self) -> Option<WallTime> {
        self.owed_since.filter(|_| self.are_owed())
    }

    /// The number that everything removed so far waits for.
    pub(in crate::store) fn wanted(&self) -> u64 {
        self.wanted
    }

    /// The number that everything removed so far waits for, this decision included; `None` when nothing waits.
    pub(in crate::store) fn awaited(&self, txn: &Txn) -> Option<u64> {
        (txn.asks_for_erasure() || self.are_owed()).then(|| self.number_with(txn))
    }

    /// The newest number once this decision is made.
    pub(in crate::store) fn number_with(&self, txn: &Txn) -> u64 {
        self.wanted + u64::from(txn.asks_for_erasure())
    }

    /// Was this one carried out?
    pub(in crate::store) fn is_done(&self, number: u64) -> bool {
        number <= self.done
    }

    /// The decision is made: its request gets its number, and the record that goes with it.
    pub(in crate::store) fn conclude(&mut self, txn: &mut Txn) {
        if txn.asks_for_erasure() {
            self.wanted += 1;
            self.owed_since.get_or_insert(txn.now());
            txn.write(note_owed(txn.now()));
        }
    }

    /// All up to this number are carried out.
    pub(in crate::store) fn carried_out(&mut self, number: u64) {
        self.done = self.done.max(number);
        if !self.are_owed() {
            self.owed_since = None;
        }
    }
}

/// The write that notes that an erasure is owed.
pub(in crate::store) fn note_owed(since: WallTime) -> Write {
    Write { tree: Tree::Meta, key: OWED.to_vec(), value: Some(codec::encode(&since)) }
}

/// The write that notes that none is owed.
pub(in crate::store) fn note_done() -> Write {
    Write { tree: Tree::Meta, key: OWED.to_vec(), value: None }
}

/// Decodes the record. One that cannot be read is owed, too.
pub(in crate::store) fn owed_since(value: Option<&[u8]>, now: WallTime) -> Option<WallTime> {
    value.map(|value| codec::decode(Tree::Meta.name(), value).unwrap_or(now))
}

/// The key of the record.
pub(in crate::store) fn key() -> &'static [u8] {
    OWED
}
