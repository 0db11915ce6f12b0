//! Events on disk: decided in the transaction of what they tell of, kept until the receiver took them.
//!
//! The tree `notices` (its name since release 0.1) has them by a number that grows, so that those of one key lie in the
//! order of their delivery; the rules of a key are [`event::queue`](crate::core::event_queue). Nothing is decided while events are switched off, and
//! switching them off drops what waits. `fields` has a short hash of each field that Spaces holds for a part. It is
//! kept whether events are on or off, so that the first one after switching them on says the truth; where it is
//! unknown (a link's first object, a store that was rebuilt) every field counts as changed.
//!
//! Events are not in the backup_log. A database that is gone takes them with it; every page is then read again, every
//! object written, and each write tells of all fields.
//!
//! An event must not go out before it is durable: a crash would undo its cause. It is the first of its key until it
//! was taken, and while it is on its way nobody else sends it: [`Sending`] is the right to, and gives it back.

use std::collections::BTreeMap;

use super::codec;
use super::engine::Tree;
use super::feed::Change;
use super::state::State;
use super::{OutboxItem, Store, Unavailable};
use crate::core::event::{Event, EventKey, EventKind, EventQueue, EventStep};
use crate::core::fields::{self, Fields};
use crate::core::health::Health;
use crate::core::model::{Generation, LinkKey, PartKey, WallTime};

/// The waiting events, by key.
#[derive(Default)]
pub(super) struct EventQueues {
    on: bool,
    by_key: BTreeMap<EventKey, EventQueue>,
}

impl EventQueues {
    /// What lay on disk, in the order of its numbers.
    pub(super) fn restored(events: impl IntoIterator<Item = (u64, Event)>) -> Self {
        let mut event_queues = EventQueues::default();
        for (number, event) in events {
            event_queues.by_key.entry(event.kind.key()).or_default().restore(number, event);
        }
        event_queues
    }

    /// Takes the place of another whose store was opened again: on or off stays.
    pub(super) fn follow(&mut self, earlier: &EventQueues) {
        self.on = earlier.on;
    }
}

/// The key of an event: its number, so that they lie in order.
pub(super) fn number_of(key: &[u8]) -> Option<u64> {
    key.try_into().ok().map(u64::from_be_bytes)
}

/// How many events wait, and since when the oldest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EventCounts {
    /// How many.
    pub waiting: u64,
    /// Since when.
    pub oldest: Option<WallTime>,
}

impl State {
    /// Adds an event for the platform. Does nothing while events are off.
    pub(super) fn emit(&mut self, kind: EventKind) {
        if !self.event_queues.on {
            return;
        }
        let (number, now) = (self.next_seq(), WallTime::now());
        let id = format!("msg_{}", crate::random::uuid().simple());
        let event_key = kind.key();
        let steps = self
            .event_queues
            .by_key
            .entry(event_key.clone())
            .or_default()
            .push(number, Event { id, at: now, since: now, kind });
        self.publish(Change::Event(event_key));
        self.write_steps(steps);
    }

    /// A link's health changed: is that something to tell?
    pub(super) fn emit_health(&mut self, link: &LinkKey, before: &Health, now: &Health) {
        if let Health::Parked(parked) = now
            && !matches!(before, Health::Parked(earlier) if earlier.why == parked.why)
        {
            self.emit(EventKind::NeedsRelink { link: link.clone(), parked: parked.clone() });
        }
    }

    /// Spaces has the object of this item: notes its fields, and tells of those that changed. A link that is gone has
    /// none; one that has another token than when the write began may have been gone in between.
    pub(super) fn note_fields(&mut self, part: &PartKey, item: &OutboxItem, now: &Fields) {
        let Some(record) = self.record(&part.link) else { return };
        let before = item.before.as_ref().filter(|before| before.generation == record.generation);
        let before = before.and_then(|before| before.fields.as_ref());
        let changed = fields::changed(before, now);
        if before != Some(now) {
            self.write(Tree::Fields, part.to_bytes(), Some(codec::encode(now)));
        }
        if !changed.is_empty() {
            self.emit(EventKind::Updated { link: part.link.clone(), changed });
        }
    }

    fn write_steps(&mut self, steps: impl IntoIterator<Item = EventStep>) {
        for step in steps {
            let (number, value) = match step {
                EventStep::Put(number, event) => (number, Some(codec::encode(&event))),
                EventStep::Remove(number) => (number, None),
            };
            self.write(Tree::Events, number.to_be_bytes().to_vec(), value);
        }
    }

    fn queue<R>(&mut self, event_key: &EventKey, work: impl FnOnce(&mut EventQueue) -> R) -> Option<R> {
        self.event_queues.by_key.get_mut(event_key).map(work)
    }

    /// What waits in a event_key is of no use any more.
    pub(super) fn drop_events_of(&mut self, event_key: &EventKey) {
        let queue = self.event_queues.by_key.remove(event_key).unwrap_or_default();
        self.write_steps(queue.numbers().map(EventStep::Remove));
    }

    fn event_delivered(&mut self, event_key: &EventKey, id: &str) -> bool {
        let step = self.queue(event_key, |queue| queue.delivered(id)).flatten();
        self.write_steps(step);
        if self.event_queues.by_key.get(event_key).is_some_and(EventQueue::is_empty) {
            self.event_queues.by_key.remove(event_key);
        }
        self.event_queues.by_key.contains_key(event_key)
    }
}

/// The fields that Spaces held of a link before a write, and the generation of the link's token then.
#[derive(Debug, Clone)]
pub(super) struct Before {
    pub generation: Generation,
    pub fields: Option<Fields>,
}

/// An event on its way: nobody else sends one of its event_key. Dropping it gives it back.
#[must_use]
pub struct Sending {
    store: Store,
    event_key: EventKey,
    event: Event,
    again: bool,
}

impl Sending {
    /// It was sent before, as far as is known.
    pub fn is_again(&self) -> bool {
        self.again
    }

    /// What goes.
    pub fn event(&self) -> &Event {
        &self.event
    }

    /// The receiver took it. Returns whether another waits in the event_key.
    ///
    /// # Errors
    /// [`Unavailable`] when that could not be made durable; it is then sent again.
    pub async fn delivered(self) -> Result<bool, Unavailable> {
        self.store.commit(|state| state.event_delivered(&self.event_key, &self.event.id)).await
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.store.lock().queue(&self.event_key, |queue| queue.give_back(&self.event.id));
    }
}

/// The answer to [`Store::begin_event`].
pub enum Begun {
    /// Nothing waits in the event_key.
    Nothing,
    /// One of the event_key is on its way.
    Busy,
    /// This one goes.
    Goes(Box<Sending>),
}

impl Store {
    /// Switches events on or off. Off, nothing more is decided; what waits stays until [`Store::drop_events`].
    pub fn switch_events(&self, on: bool) {
        self.lock().event_queues.on = on;
    }

    /// Drops all events that wait, unless they were switched on meanwhile. Returns how many.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn drop_events(&self) -> Result<usize, Unavailable> {
        self.commit(|state| {
            if state.event_queues.on {
                return 0;
            }
            let by_key = std::mem::take(&mut state.event_queues.by_key);
            let numbers: Vec<u64> = by_key.values().flat_map(EventQueue::numbers).collect();
            state.write_steps(numbers.iter().map(|number| EventStep::Remove(*number)));
            numbers.len()
        })
        .await
    }

    /// Every event_key in which something waits.
    pub fn event_keys(&self) -> Vec<EventKey> {
        self.lock().event_queues.by_key.keys().cloned().collect()
    }

    /// How many wait.
    pub fn event_counts(&self) -> EventCounts {
        let state = self.lock();
        let waiting = state.event_queues.by_key.values().map(|queue| queue.len() as u64).sum();
        let oldest = state.event_queues.by_key.values().flat_map(EventQueue::events).map(|event| event.since).min();
        EventCounts { waiting, oldest }
    }

    /// The first of a event_key goes out, once it is durable.
    ///
    /// # Errors
    /// [`Unavailable`] when the store is down.
    pub async fn begin_event(&self, event_key: &EventKey) -> Result<Begun, Unavailable> {
        let begun = self.lock().queue(event_key, |queue| (queue.is_sending(), queue.was_tried(), queue.begin()));
        let (event, again) = match begun {
            Some((true, ..)) => return Ok(Begun::Busy),
            Some((false, again, Some(event))) => (event, again),
            Some((.., None)) | None => return Ok(Begun::Nothing),
        };
        let sending = Sending { store: self.clone(), event_key: event_key.clone(), event, again };
        self.commit(State::wait_for_queue).await?;
        Ok(Begun::Goes(Box::new(sending)))
    }

    /// The fields of an object, as they are on disk.
    pub(super) fn fields(&self, part: &PartKey) -> Result<Option<Fields>, Unavailable> {
        let value = self.read(|engine| engine.get(Tree::Fields, &part.to_bytes()))?;
        Ok(value.and_then(|value| codec::decode(Tree::Fields.name(), &value).ok()))
    }

    /// The fields that Spaces holds of an object, for an item that is about to be written. Everything decided before must
    /// be durable.
    pub(super) fn before(&self, part: &PartKey, generation: Option<Generation>) -> Result<Option<Before>, Unavailable> {
        let Some(generation) = generation else { return Ok(None) };
        Ok(Some(Before { generation, fields: self.fields(part)? }))
    }
}
