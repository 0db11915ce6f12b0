//! Writes to Spaces whose answer was lost, and which may still take effect after a newer write of the same object. Pure:
//! time is an argument.
//!
//! When a later write of that object succeeds while an earlier one is in doubt, a [cleanup](crate::core::cleanup) is
//! noted with it, which deletes or compares the object once more. What the process before this one had under way was
//! answered to nobody; so after a start every pending object is in doubt, and a delete leaves that cleanup. A put does
//! not: the poll compares its object anyway, and a start with a full outbox would read every page once more.

use std::collections::HashMap;

use super::ledger::ObjectOp;
use super::model::{MonoTime, PartKey};
use super::upload_queue::Outcome;

/// How a write ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WriteEnd {
    /// What the upload queue makes of it.
    pub outcome: Outcome,
    /// No answer came: it may or may not have happened.
    pub unanswered: bool,
    /// A cleanup was noted for an earlier write that may still land.
    pub cleanup: bool,
}

impl WriteEnd {
    /// An end with an answer and without a cleanup.
    pub fn of(outcome: Outcome) -> WriteEnd {
        WriteEnd { outcome, unanswered: false, cleanup: false }
    }
}

/// An earlier write of an object may still take effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InDoubt {
    until: MonoTime,
    /// This process lost its answer, rather than that an earlier one may have.
    witnessed: bool,
}

impl InDoubt {
    /// A write of this kind succeeded meanwhile: from when on the cleanup may be made that it leaves. `None` when it
    /// leaves none.
    pub fn cleanup_after(&self, op: ObjectOp, now: MonoTime) -> Option<MonoTime> {
        let leaves = self.until > now && (self.witnessed || op == ObjectOp::Delete);
        leaves.then_some(self.until)
    }
}

/// The objects with a write in doubt.
#[derive(Debug, Default)]
pub struct LateWrites {
    by_part: HashMap<PartKey, InDoubt>,
}

impl LateWrites {
    /// After a start: an earlier process may have begun to write these, and its writes are through by then.
    pub fn after_a_start(parts: impl IntoIterator<Item = PartKey>, until: MonoTime) -> LateWrites {
        let mut writes = LateWrites::default();
        writes.take_over(parts, until);
        writes
    }

    /// These came from another process, which may have begun to write them. Its writes are through by then.
    pub fn take_over(&mut self, parts: impl IntoIterator<Item = PartKey>, until: MonoTime) {
        let in_doubt = InDoubt { until, witnessed: false };
        for part in parts {
            self.by_part.entry(part).or_insert(in_doubt);
        }
    }

    /// The write of this object that is in doubt.
    pub fn get(&self, part: &PartKey) -> Option<InDoubt> {
        self.by_part.get(part).copied()
    }

    /// A write of this object ended. One without an answer is through by `until`.
    pub fn ended(&mut self, part: &PartKey, end: &WriteEnd, until: MonoTime) {
        if end.unanswered {
            self.by_part.insert(part.clone(), InDoubt { until, witnessed: true });
        } else if end.cleanup {
            self.by_part.remove(part);
        }
    }

    /// Forgets the writes that are through.
    pub fn sweep(&mut self, now: MonoTime) {
        self.by_part.retain(|_, in_doubt| in_doubt.until > now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::model::{LinkKey, UserId};

    const PUT: ObjectOp = ObjectOp::Put([1; 32]);
    const DONE: WriteEnd = WriteEnd { outcome: Outcome::Settled { more: false }, unanswered: false, cleanup: false };
    const LOST: WriteEnd = WriteEnd { outcome: Outcome::Busy { hint: None }, unanswered: true, cleanup: false };

    fn part() -> PartKey {
        LinkKey::new(UserId(uuid::Uuid::nil()), "1".parse().unwrap()).whole()
    }

    #[test]
    fn a_lost_answer_is_in_doubt_until_a_cleanup_takes_it_over() {
        let (mut writes, until) = (LateWrites::default(), MonoTime(100));
        assert_eq!(writes.get(&part()), None);
        writes.ended(&part(), &LOST, until);
        for op in [PUT, ObjectOp::Delete] {
            assert_eq!(writes.get(&part()).unwrap().cleanup_after(op, MonoTime(99)), Some(until));
            assert_eq!(writes.get(&part()).unwrap().cleanup_after(op, until), None, "it is through");
        }
        writes.ended(&part(), &DONE, MonoTime(200));
        assert!(writes.get(&part()).is_some(), "a success without a cleanup does not end the doubt");
        writes.ended(&part(), &WriteEnd { cleanup: true, ..DONE }, MonoTime(200));
        assert_eq!(writes.get(&part()), None);
    }

    #[test]
    fn after_a_start_a_delete_leaves_a_cleanup_and_a_put_does_not() {
        let mut writes = LateWrites::after_a_start([part()], MonoTime(100));
        let in_doubt = writes.get(&part()).unwrap();
        assert_eq!(in_doubt.cleanup_after(ObjectOp::Delete, MonoTime(1)), Some(MonoTime(100)));
        assert_eq!(in_doubt.cleanup_after(PUT, MonoTime(1)), None);
        writes.sweep(MonoTime(99));
        assert!(writes.get(&part()).is_some());
        writes.sweep(MonoTime(100));
        assert!(writes.get(&part()).is_none());
    }
}
