//! What one decision collects: its writes, the changes that it publishes when they are durable, and what its caller
//! waits for.
//!
//! A decision is a function of the memory and of a [`Txn`]. The memory changes at once; the [`Txn`] goes to the
//! committer when the decision is made, and is dropped when it panics.
//!
//! A decision that makes marks and writes nothing else goes to the [`mark_log`](super::mark_log) and not into the
//! database. Marks among other writes stay with them, in one transaction.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

use super::codec;
use super::feed::Change;
use super::mark_log::LoggedMark;
use super::tree::{Tree, Write};
use crate::core::ledger::Mark;
use crate::core::model::{PartKey, WallTime};

/// Numbers for marks, entries, claims, generations and hints: unique as long as the process lives, and above all that
/// lie on disk. They are taken under the store's lock, in the order of the decisions.
///
/// Daemons that share a database take theirs from different residue classes, so that no two of them hand out the same
/// number. What a decision numbers is above everything that was decided before it on any of them, because each rises to
/// what the others have used ([`Numbers::rise`]) before it decides.
#[derive(Clone)]
pub(super) struct Numbers {
    newest: Arc<AtomicU64>,
    class: Class,
}

/// A residue class: numbers that leave this remainder when divided by the modulus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Class {
    modulus: u64,
    remainder: u64,
}

impl Class {
    /// Every number.
    pub(super) const ALL: Class = Class { modulus: 1, remainder: 0 };
    /// So many daemons may be born while one lives.
    const MEMBERS: u64 = 1024;

    /// That of a member of a cluster.
    pub(super) fn of_member(id: u64) -> Class {
        Class { modulus: Class::MEMBERS, remainder: id % Class::MEMBERS }
    }

    /// The next of its numbers above this one.
    fn above(self, number: u64) -> u64 {
        let next = number + 1;
        next + (self.remainder + self.modulus - next % self.modulus) % self.modulus
    }
}

impl Numbers {
    /// Goes on above this number.
    pub(super) fn above(highest: u64, class: Class) -> Numbers {
        Numbers { newest: Arc::new(AtomicU64::new(highest)), class }
    }

    /// A number above all others.
    pub(super) fn next(&self) -> u64 {
        let next = |newest| Some(self.class.above(newest));
        // The update never refuses.
        let before = self.newest.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        self.class.above(before.unwrap_or_else(|newest| newest))
    }

    /// Goes on above this number, which another daemon has used.
    pub(super) fn rise(&self, used: u64) {
        self.newest.fetch_max(used, Ordering::Relaxed);
    }

    /// The newest one.
    pub(super) fn newest(&self) -> u64 {
        self.newest.load(Ordering::Relaxed)
    }

    /// The class that they are from.
    pub(super) fn class(&self) -> Class {
        self.class
    }
}

/// What a decision collects.
pub(super) struct Txn {
    now: WallTime,
    numbers: Numbers,
    writes: Vec<Write>,
    /// Marks, as long as there is no other write.
    marks: Vec<LoggedMark>,
    notes: Vec<(PartKey, u64)>,
    changes: Vec<Change>,
    waits: Waits,
    erases: bool,
    /// There is a mark log.
    logs_marks: bool,
}

/// The decisions of others that a caller waits for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Waits {
    /// Those that write to the database.
    pub database: bool,
    /// Those that write to the mark log.
    pub marks: bool,
}

/// What a decision has collected.
pub(super) struct Collected {
    /// For the database.
    pub writes: Vec<Write>,
    /// For the mark log. Either these or the writes are empty.
    pub marks: Vec<LoggedMark>,
    /// Marks among the writes.
    pub notes: Vec<(PartKey, u64)>,
    /// Published when it is durable.
    pub changes: Vec<Change>,
    /// Writes of others must be waited for.
    pub waits: Waits,
}

impl Txn {
    /// A decision begins now. `logs_marks`: marks that are made alone go to the mark log.
    pub(super) fn new(now: WallTime, numbers: Numbers, logs_marks: bool) -> Txn {
        Txn {
            now,
            numbers,
            writes: Vec::new(),
            marks: Vec::new(),
            notes: Vec::new(),
            changes: Vec::new(),
            waits: Waits::default(),
            erases: false,
            logs_marks,
        }
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
        for (part, mark) in std::mem::take(&mut self.marks) {
            self.put_mark_into_database(&part, &mark);
        }
        self.writes.push(write);
    }

    /// Writes a mark.
    pub(super) fn put_mark(&mut self, part: &PartKey, mark: Mark) {
        if self.writes.is_empty() && self.logs_marks {
            self.marks.push((part.clone(), mark));
        } else {
            self.put_mark_into_database(part, &mark);
        }
    }

    /// Writes a mark into the database, whatever else there is to write.
    pub(super) fn put_mark_into_database(&mut self, part: &PartKey, mark: &Mark) {
        self.notes.push((part.clone(), mark.seq));
        let write = Write { tree: Tree::Marks, key: part.to_bytes(), value: Some(codec::encode(mark)) };
        self.writes.push(write);
    }

    /// The caller must wait for what decisions before this one write to the database.
    pub(super) fn wait_for_queue(&mut self) {
        self.waits.database = true;
    }

    /// The caller must wait for all marks that were made before this decision, wherever they are written.
    pub(super) fn wait_for_marks(&mut self) {
        self.waits = Waits { database: true, marks: true };
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
        let Txn { writes, marks, notes, changes, waits, .. } = self;
        Collected { writes, marks, notes, changes, waits }
    }
}
