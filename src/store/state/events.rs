//! The events that wait, in memory, by key; with their count and the oldest of them.

use std::collections::{BTreeMap, BTreeSet};

use crate::core::event::{Event, EventKey, EventKind, EventQueue, EventStep};
use crate::core::model::WallTime;
use crate::store::feed::Change;
use crate::store::tree::Tree;
use crate::store::txn::Txn;

/// The waiting events.
#[derive(Default)]
pub(in crate::store) struct EventQueues {
    on: bool,
    /// Several daemons send them.
    shared: bool,
    by_key: BTreeMap<EventKey, EventQueue>,
    waiting: u64,
    /// Since when the oldest event of each key waits.
    oldest: BTreeSet<(WallTime, EventKey)>,
}

impl EventQueues {
    /// What lay on disk, in the order of its numbers.
    pub(in crate::store) fn restored(events: impl IntoIterator<Item = (u64, Event)>) -> Self {
        let mut queues = EventQueues::default();
        for (number, event) in events {
            queues.change(&event.kind.key(), |queue| queue.restore(number, event));
        }
        queues
    }

    /// Takes the place of another whose store was opened again: on or off stays.
    pub(in crate::store) fn follow(&mut self, earlier: &EventQueues) {
        self.on = earlier.on;
    }

    pub(in crate::store) fn is_on(&self) -> bool {
        self.on
    }

    /// From here on several daemons send them.
    pub(in crate::store) fn share(&mut self) {
        self.shared = true;
    }

    pub(in crate::store) fn switch(&mut self, on: bool) {
        self.on = on;
    }

    /// Every key with which something waits.
    pub(in crate::store) fn keys(&self) -> impl Iterator<Item = &EventKey> {
        self.by_key.keys()
    }

    /// How many wait.
    pub(in crate::store) fn waiting(&self) -> u64 {
        self.waiting
    }

    /// Since when the oldest waits.
    pub(in crate::store) fn oldest(&self) -> Option<WallTime> {
        self.oldest.first().map(|(since, _)| *since)
    }

    /// Adds an event for the platform. Does nothing while events are off.
    pub(in crate::store) fn emit(&mut self, txn: &mut Txn, kind: EventKind) {
        if !self.on {
            return;
        }
        let (number, now, key) = (txn.next_seq(), txn.now(), kind.key());
        let id = format!("msg_{}", crate::random::uuid().simple());
        let shared = self.shared;
        let steps = self.change(&key, |queue| {
            let steps = queue.push(number, Event { id, at: now, since: now, kind });
            if shared {
                queue.may_be_sent();
            }
            steps
        });
        txn.publish(Change::Event(key));
        write_steps(txn, steps);
    }

    /// Works on the queue of a key that has one.
    pub(in crate::store) fn queue<R>(&mut self, key: &EventKey, work: impl FnOnce(&mut EventQueue) -> R) -> Option<R> {
        self.by_key.contains_key(key).then(|| self.change(key, work))
    }

    /// The receiver took the event with this id. Returns whether another waits with the key.
    pub(in crate::store) fn delivered(&mut self, txn: &mut Txn, key: &EventKey, id: &str) -> bool {
        let step = self.queue(key, |queue| queue.delivered(id)).flatten();
        write_steps(txn, step);
        self.by_key.contains_key(key)
    }

    /// What waits with a key is of no use any more.
    pub(in crate::store) fn drop_key(&mut self, txn: &mut Txn, key: &EventKey) {
        let numbers: Option<Vec<u64>> = self.queue(key, |queue| std::mem::take(queue).numbers().collect());
        write_steps(txn, numbers.into_iter().flatten().map(EventStep::Remove));
    }

    /// Drops all that wait. Returns how many.
    pub(in crate::store) fn drop_all(&mut self, txn: &mut Txn) -> usize {
        let by_key = std::mem::take(&mut self.by_key);
        (self.waiting, self.oldest) = (0, BTreeSet::new());
        let numbers: Vec<u64> = by_key.values().flat_map(EventQueue::numbers).collect();
        write_steps(txn, numbers.iter().map(|number| EventStep::Remove(*number)));
        numbers.len()
    }

    /// Works on the queue of a key, made if need be, and gone when nothing is left in it.
    /// Another daemon added an event, or changed one that waits.
    pub(in crate::store) fn follow_put(&mut self, number: u64, event: Event) {
        self.change(&event.kind.key(), |queue| queue.follow_put(number, event));
    }

    /// Another daemon delivered or dropped an event.
    pub(in crate::store) fn follow_removal(&mut self, number: u64) {
        let holds = |(key, queue): (&EventKey, &EventQueue)| queue.numbers().any(|n| n == number).then(|| key.clone());
        if let Some(key) = self.by_key.iter().find_map(holds) {
            self.change(&key, |queue| queue.follow_removal(number));
        }
    }

    fn change<R>(&mut self, key: &EventKey, work: impl FnOnce(&mut EventQueue) -> R) -> R {
        let queue = self.by_key.entry(key.clone()).or_default();
        let before = (queue.len() as u64, oldest(queue));
        let answer = work(queue);
        let after = (queue.len() as u64, oldest(queue));
        if queue.is_empty() {
            self.by_key.remove(key);
        }
        self.waiting = self.waiting - before.0 + after.0;
        if before.1 != after.1 {
            before.1.map(|since| self.oldest.remove(&(since, key.clone())));
            after.1.map(|since| self.oldest.insert((since, key.clone())));
        }
        answer
    }

    /// Compares the counts with a scan.
    #[cfg(test)]
    pub(in crate::store) fn check(&self) {
        let waiting: u64 = self.by_key.values().map(|queue| queue.len() as u64).sum();
        let each = self.by_key.iter().filter_map(|(key, queue)| Some((oldest(queue)?, key.clone())));
        assert_eq!((waiting, each.collect::<BTreeSet<_>>()), (self.waiting, self.oldest.clone()));
    }
}

fn oldest(queue: &EventQueue) -> Option<WallTime> {
    queue.events().map(|event| event.since).min()
}

fn write_steps(txn: &mut Txn, steps: impl IntoIterator<Item = EventStep>) {
    for step in steps {
        match step {
            EventStep::Put(number, event) => txn.put(Tree::Events, number.to_be_bytes().to_vec(), &event),
            EventStep::Remove(number) => txn.remove(Tree::Events, number.to_be_bytes().to_vec()),
        }
    }
}
