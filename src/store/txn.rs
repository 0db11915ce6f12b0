//! What one decision collects: its writes, the changes that it publishes when they are durable, and what its caller
//! waits for.
//!
//! A decision is a function of the memory and of a [`Txn`]. The memory changes at once; the [`Txn`] goes to the
//! committer when the decision is made, and is dropped when it panics.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

use super::codec;
use super::feed::Change;
use super::tree::{Tree, Write};
use crate::core::model::{PartKey, WallTime};

/// Numbers for marks, entries, claims, generations and hints: unique as long as the process lives, and above all that
/// lie on disk. They are taken under the store's lock, in the order of the decisions.
#[derive(Clone, Default)]
pub(super) struct Numbers(Arc<AtomicU64>);

impl Numbers {
    /// Goes on above this number.
    pub(super) fn above(highest: u64) -> Numbers {
        Numbers(Arc::new(AtomicU64::new(highest)))
    }

    /// A number above all others.
    pub(super) fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The newest one.
    pub(super) fn newest(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What a decision collects.
pub(super) struct Txn {
    now: WallTime,
    numbers: Numbers,
    writes: Vec<Write>,
    notes: Vec<(PartKey, u64)>,
    changes: Vec<Change>,
    waits: bool,
    erases: bool,
}

/// What a decision has collected.
pub(super) struct Collected {
    pub writes: Vec<Write>,
    /// Marks that are durable with it.
    pub notes: Vec<(PartKey, u64)>,
    /// Published when it is durable.
    pub changes: Vec<Change>,
    /// Writes of others must be waited for.
    pub waits: bool,
}

impl Txn {
    /// A decision begins now.
    pub(super) fn new(now: WallTime, numbers: Numbers) -> Txn {
        Txn { now, numbers, writes: Vec::new(), notes: Vec::new(), changes: Vec::new(), waits: false, erases: false }
    }

    /// The moment of the decision.
    pub(super) fn now(&self) -> WallTime {
        self.now
    }

    /// A new number.
    pub(super) fn next_seq(&self) -> u64 {
        self.numbers.next()
    }

    /// Writes a record.
    pub(super) fn put(&mut self, tree: Tree, key: Vec<u8>, record: &impl Serialize) {
        self.write(Write { tree, key, value: Some(codec::encode(record)) });
    }

    /// Removes a record.
    pub(super) fn remove(&mut self, tree: Tree, key: Vec<u8>) {
        self.write(Write { tree, key, value: None });
    }

    /// Adds a write. One that removes a record about a person requests an erasure.
    pub(super) fn write(&mut self, write: Write) {
        if write.value.is_none() && write.tree.is_about_persons() {
            self.ask_for_erasure();
        }
        self.writes.push(write);
    }

    /// The caller must wait for the writes of decisions before this one.
    pub(super) fn wait_for_queue(&mut self) {
        self.waits = true;
    }

    /// When this decision is durable, the mark with this number is.
    pub(super) fn note_when_durable(&mut self, part: PartKey, seq: u64) {
        self.notes.push((part, seq));
    }

    /// Publishes this when the decision is durable.
    pub(super) fn publish(&mut self, change: Change) {
        self.changes.push(change);
    }

    /// The decision leaves data behind that must not stay readable.
    pub(super) fn ask_for_erasure(&mut self) {
        self.erases = true;
    }

    /// Does it request an erasure?
    pub(super) fn asks_for_erasure(&self) -> bool {
        self.erases
    }

    /// The decision is made.
    pub(super) fn collected(self) -> Collected {
        Collected { writes: self.writes, notes: self.notes, changes: self.changes, waits: self.waits }
    }
}
