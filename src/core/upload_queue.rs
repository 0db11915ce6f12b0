//! Which object is written next, and in the same way which event is sent next ([`Queue`] takes any kind of key). Pure:
//! time and randomness are arguments.
//!
//! The queue knows keys, never bodies, so its memory is a function of links and their parts. A key is in flight at most
//! once; what is staged for it meanwhile makes it wait again when the write ends. Nothing is ever dropped: a key leaves
//! only when its write settled and nothing newer waits.
//!
//! Each key backs off by itself. When failures come in a row from Spaces as a whole, the whole queue holds: one write
//! goes out at a time, as a probe, with growing pauses. The first success opens it again, and what waited is spread
//! over a moment instead of coming back as a herd.
//!
//! Writes that were under way together fail together. However many they are, they count as one failure, and the pause
//! grows by one step: otherwise a moment's outage that meets a full queue would be waited out for minutes.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::time::Duration;

use crate::core::backoff::Backoff;
use crate::core::model::{MonoTime, PartKey};

/// How long keys wait after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// The other side is busy or out of reach.
    pub busy: Backoff,
    /// Something that a person must mend: tried slowly.
    pub misconfigured: Backoff,
}

/// The pace of writes to Spaces.
pub const WRITES: Pace = Pace {
    busy: Backoff { base: Duration::from_secs(1), cap: Duration::from_secs(2 * 60) },
    misconfigured: Backoff { base: Duration::from_secs(5), cap: Duration::from_secs(2 * 60) },
};
/// Failures in a row after which the trouble is Spaces', not the key's.
const HOLD_AFTER: u32 = 3;
/// Over how long the waiting keys are spread when Spaces is back, per key.
const SPREAD_PER_KEY: Duration = Duration::from_millis(5);
const LONGEST_SPREAD: Duration = Duration::from_secs(60);

/// How a write ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Spaces has it; `more` when a newer entry waits.
    Settled {
        /// A newer entry waits.
        more: bool,
    },
    /// Spaces is busy or out of reach.
    Busy {
        /// When it wants to be asked again, where it said so.
        hint: Option<Duration>,
    },
    /// A person must mend the settings.
    Misconfigured,
    /// The other side works and refuses this one: this key alone waits, as long as for a misconfiguration.
    Refused,
    /// Not Spaces' fault (the store could not be read or written): try again soon.
    Local,
    /// Another process has come to do it: the key leaves, and that shows nothing of Spaces.
    Elsewhere,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Slot {
    ready_at: MonoTime,
    order: u64,
    failures: u32,
    in_flight: bool,
    again: bool,
    /// How many pauses there had been when its write began.
    pauses: u32,
}

/// The keys that owe something: parts of links to Spaces, unless another kind of key is named.
#[derive(Debug)]
pub struct Queue<K = PartKey> {
    slots: HashMap<K, Slot>,
    waiting: BTreeSet<(MonoTime, u64, K)>,
    pace: Pace,
    limit: usize,
    in_flight: usize,
    failures_in_row: u32,
    /// Pauses of the whole queue since the last success.
    pauses: u32,
    hold_until: MonoTime,
    next_order: u64,
}

impl Queue {
    /// An empty queue that lets `limit` writes go at a time.
    pub fn new(limit: usize) -> Self {
        Queue::paced(limit, WRITES)
    }
}

impl<K: Clone + Ord + Hash> Queue<K> {
    /// An empty queue with a pace of its own.
    pub fn paced(limit: usize, pace: Pace) -> Self {
        Queue {
            slots: HashMap::new(),
            waiting: BTreeSet::new(),
            pace,
            limit: limit.max(1),
            in_flight: 0,
            failures_in_row: 0,
            pauses: 0,
            hold_until: MonoTime(0),
            next_order: 0,
        }
    }

    /// Takes over another limit; writes under way are not disturbed.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit.max(1);
    }

    /// Keys that owe something.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Does nobody owe anything?
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Writes under way.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Failures in a row, of whatever key.
    pub fn failures_in_row(&self) -> u32 {
        self.failures_in_row
    }

    /// Something was staged for this key.
    pub fn add(&mut self, key: K, now: MonoTime) {
        match self.slots.get_mut(&key) {
            Some(slot) => slot.again |= slot.in_flight,
            None => {
                let order = self.fresh_order();
                let slot = Slot { ready_at: now, order, failures: 0, in_flight: false, again: false, pauses: 0 };
                self.waiting.insert((now, order, key.clone()));
                self.slots.insert(key, slot);
            }
        }
    }

    /// The key to write now, if one may go; it is in flight from here on.
    pub fn next(&mut self, now: MonoTime) -> Option<K> {
        if !self.has_room() || now < self.hold_until {
            return None;
        }
        let (ready_at, order, key) = self.waiting.first()?.clone();
        if ready_at > now {
            return None;
        }
        self.waiting.remove(&(ready_at, order, key.clone()));
        if let Some(slot) = self.slots.get_mut(&key) {
            slot.in_flight = true;
            slot.pauses = self.pauses;
        }
        self.in_flight += 1;
        Some(key)
    }

    /// When [`Queue::next`] may have a key; `None` when that depends on the end of a write.
    pub fn wake_at(&self) -> Option<MonoTime> {
        let (ready_at, ..) = self.waiting.first()?;
        self.has_room().then_some((*ready_at).max(self.hold_until))
    }

    /// The write of a key ended. `jitter` is a random number from 0 to 1.
    pub fn done(&mut self, key: &K, outcome: Outcome, now: MonoTime, jitter: f64) {
        let Some(mut slot) = self.slots.get(key).copied().filter(|s| s.in_flight) else { return };
        self.in_flight -= 1;
        slot.in_flight = false;
        let again = std::mem::take(&mut slot.again);
        match outcome {
            Outcome::Settled { more } => {
                self.succeeded(now);
                slot.failures = 0;
                if !(more || again) {
                    self.slots.remove(key);
                    return;
                }
                slot.ready_at = now;
            }
            Outcome::Elsewhere if !again => {
                self.slots.remove(key);
                return;
            }
            // It may be back by now.
            Outcome::Elsewhere => slot.ready_at = now,
            Outcome::Local => {
                slot.ready_at = now.plus(self.pace.busy.delay(slot.failures.min(3), jitter, None));
                slot.failures = slot.failures.saturating_add(1);
            }
            Outcome::Refused => {
                slot.ready_at = now.plus(self.pace.misconfigured.delay(slot.failures, jitter, None));
                slot.failures = slot.failures.saturating_add(1);
            }
            Outcome::Busy { hint } => slot.ready_at = self.failed(&mut slot, self.pace.busy, hint, now, jitter),
            Outcome::Misconfigured => {
                slot.ready_at = self.failed(&mut slot, self.pace.misconfigured, None, now, jitter);
            }
        }
        slot.order = self.fresh_order();
        self.waiting.insert((slot.ready_at, slot.order, key.clone()));
        self.slots.insert(key.clone(), slot);
    }

    /// The settings changed: what waits for a person may go at once.
    pub fn retry_now(&mut self, now: MonoTime) {
        self.hold_until = now;
        self.spread(now);
    }

    fn has_room(&self) -> bool {
        let limit = if self.failures_in_row >= HOLD_AFTER { 1 } else { self.limit };
        self.in_flight < limit
    }

    fn failed(&mut self, slot: &mut Slot, by: Backoff, hint: Option<Duration>, now: MonoTime, jitter: f64) -> MonoTime {
        let again = now.plus(by.delay(slot.failures, jitter, hint));
        slot.failures = slot.failures.saturating_add(1);
        self.failures_in_row = self.failures_in_row.saturating_add(1);
        let news = slot.pauses == self.pauses;
        if self.failures_in_row >= HOLD_AFTER && (news || hint.is_some()) {
            let pause = by.delay(self.pauses, jitter, hint);
            self.hold_until = self.hold_until.max(now.plus(pause));
            self.pauses = self.pauses.saturating_add(u32::from(news));
        }
        again
    }

    fn succeeded(&mut self, now: MonoTime) {
        let was_held = self.failures_in_row >= HOLD_AFTER;
        self.failures_in_row = 0;
        self.pauses = 0;
        self.hold_until = now;
        if was_held {
            self.spread(now);
        }
    }

    /// Whoever waits far ahead comes soon, one after the other in the order in which they waited.
    fn spread(&mut self, now: MonoTime) {
        let all = SPREAD_PER_KEY.saturating_mul(self.waiting.len() as u32).min(LONGEST_SPREAD);
        let step = all.checked_div(self.waiting.len() as u32).unwrap_or_default();
        let mut at = now;
        for (ready_at, order, key) in std::mem::take(&mut self.waiting) {
            let ready_at = ready_at.min(at);
            at = at.plus(step);
            if let Some(slot) = self.slots.get_mut(&key) {
                slot.ready_at = ready_at;
                slot.failures = 0;
            }
            self.waiting.insert((ready_at, order, key));
        }
    }

    fn fresh_order(&mut self) -> u64 {
        self.next_order += 1;
        self.next_order
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::model::{LinkKey, UserId};
    use proptest::prelude::*;
    use std::collections::HashSet;
    use uuid::Uuid;

    fn key(n: u64) -> PartKey {
        LinkKey::new(UserId(Uuid::nil()), n.to_string().parse().unwrap()).whole()
    }

    fn at(secs: u64) -> MonoTime {
        MonoTime(1_000_000 + secs * 1000)
    }

    #[test]
    fn first_come_first_written_up_to_the_limit() {
        let mut queue = Queue::new(2);
        (1..=3).for_each(|n| queue.add(key(n), at(0)));
        assert_eq!(queue.next(at(0)), Some(key(1)));
        assert_eq!(queue.next(at(0)), Some(key(2)));
        assert_eq!(queue.next(at(0)), None);
        assert_eq!(queue.wake_at(), None);
        queue.done(&key(1), Outcome::Settled { more: false }, at(1), 0.5);
        assert_eq!(queue.next(at(1)), Some(key(3)));
    }

    #[test]
    fn a_key_that_is_written_elsewhere_leaves_and_shows_nothing_of_spaces() {
        let mut queue = Queue::new(8);
        (1..=5).for_each(|n| queue.add(key(n), at(0)));
        (1..=3).for_each(|_| drop(queue.next(at(0)).unwrap()));
        (1..=3).for_each(|n| queue.done(&key(n), Outcome::Busy { hint: None }, at(0), 0.5));
        queue.next(at(60)).unwrap();
        queue.add(key(4), at(60));
        queue.done(&key(4), Outcome::Elsewhere, at(60), 0.5);
        assert_eq!((queue.len(), queue.failures_in_row()), (5, 3), "it was added once more meanwhile");
        let next = queue.next(at(60)).unwrap();
        queue.done(&next, Outcome::Elsewhere, at(60), 0.5);
        assert_eq!((queue.len(), queue.in_flight(), queue.failures_in_row()), (4, 0, 3));
    }

    #[test]
    fn what_is_staged_during_a_write_is_written_after_it() {
        let mut queue = Queue::new(8);
        queue.add(key(1), at(0));
        queue.next(at(0)).unwrap();
        queue.add(key(1), at(0));
        assert_eq!(queue.next(at(0)), None, "one write of a key at a time");
        queue.done(&key(1), Outcome::Settled { more: false }, at(1), 0.5);
        assert_eq!(queue.next(at(1)), Some(key(1)));
    }

    #[test]
    fn an_outage_is_probed_one_at_a_time_and_ends_without_a_herd() {
        let mut queue = Queue::new(8);
        (0..100).for_each(|n| queue.add(key(n), at(0)));
        let mut now = at(0);
        for _ in 0..20 {
            while let Some(k) = queue.next(now) {
                queue.done(&k, Outcome::Busy { hint: None }, now, 0.5);
            }
            now = queue.wake_at().unwrap().max(now);
        }
        assert!(queue.failures_in_row() < 40, "{} tries during the outage", queue.failures_in_row());
        let probe = queue.next(now).unwrap();
        assert_eq!(queue.next(now), None, "one probe at a time");
        queue.done(&probe, Outcome::Settled { more: false }, now, 0.5);
        let mut written = 1;
        let start = now;
        while !queue.is_empty() {
            now = queue.wake_at().unwrap().max(now);
            while let Some(k) = queue.next(now) {
                queue.done(&k, Outcome::Settled { more: false }, now, 0.5);
                written += 1;
            }
        }
        assert_eq!(written, 100);
        assert!(now.since(start) <= Duration::from_secs(1));
    }

    #[test]
    fn writes_that_fail_together_are_one_trouble() {
        let mut queue = Queue::new(8);
        (0..30).for_each(|n| queue.add(key(n), at(0)));
        let volley: Vec<PartKey> = std::iter::from_fn(|| queue.next(at(0))).collect();
        assert_eq!(volley.len(), 8);
        volley.iter().for_each(|k| queue.done(k, Outcome::Busy { hint: None }, at(0), 1.0));
        assert_eq!(queue.wake_at(), Some(at(1)), "one step, not six");
        let mut pauses = Vec::new();
        for _ in 0..3 {
            let now = queue.wake_at().unwrap();
            let probe = queue.next(now).unwrap();
            queue.done(&probe, Outcome::Busy { hint: None }, now, 1.0);
            pauses.push(queue.wake_at().unwrap().since(now).as_secs());
        }
        assert_eq!(pauses, [2, 4, 8]);
    }

    #[test]
    fn a_servers_hint_is_obeyed() {
        let mut queue = Queue::new(8);
        queue.add(key(1), at(0));
        queue.next(at(0)).unwrap();
        queue.done(&key(1), Outcome::Busy { hint: Some(Duration::from_secs(40)) }, at(0), 0.0);
        assert_eq!(queue.wake_at(), Some(at(40)));
    }

    #[test]
    fn one_that_is_refused_waits_alone() {
        let mut queue = Queue::new(1);
        queue.add(key(1), at(0));
        let mut now = at(0);
        for _ in 0..10 {
            now = queue.wake_at().unwrap().max(now);
            let refused = queue.next(now).unwrap();
            queue.done(&refused, Outcome::Refused, now, 1.0);
        }
        assert_eq!((queue.failures_in_row(), queue.wake_at()), (0, Some(now.plus(Duration::from_secs(120)))));
        queue.add(key(2), now);
        assert_eq!(queue.next(now), Some(key(2)));
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_nothing_is_written_twice_at_once(
            steps in proptest::collection::vec((0u64..6, 0u8..6, 0u64..4000), 1..200)
        ) {
            let mut queue = Queue::new(3);
            let (mut owed, mut flying): (HashSet<PartKey>, HashSet<PartKey>) = Default::default();
            let mut now = at(0);
            for (n, what, wait) in steps {
                now = now.plus(Duration::from_millis(wait));
                let k = key(n);
                match what {
                    0 | 1 => { queue.add(k.clone(), now); owed.insert(k); }
                    2 => if let Some(next) = queue.next(now) {
                        prop_assert!(flying.insert(next.clone()), "twice at once");
                        owed.remove(&next);
                    },
                    3 => if flying.remove(&k) {
                        queue.done(&k, Outcome::Settled { more: false }, now, 0.5);
                    },
                    4 => if flying.remove(&k) {
                        queue.done(&k, Outcome::Busy { hint: None }, now, 0.5);
                        owed.insert(k);
                    },
                    _ => if flying.remove(&k) {
                        queue.done(&k, Outcome::Misconfigured, now, 0.5);
                        owed.insert(k);
                    },
                }
            }
            for k in flying.drain() {
                queue.done(&k, Outcome::Busy { hint: None }, now, 0.5);
                owed.insert(k);
            }
            let mut written = HashSet::new();
            while !queue.is_empty() {
                now = queue.wake_at().unwrap().max(now);
                while let Some(k) = queue.next(now) {
                    queue.done(&k, Outcome::Settled { more: false }, now, 0.5);
                    written.insert(k);
                }
            }
            prop_assert_eq!(written, owed);
        }
    }
}
