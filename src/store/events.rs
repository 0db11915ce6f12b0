//! Events on disk: decided in the transaction of what they tell of, kept until the receiver took them.
//!
//! The tree `notices` (its name since release 0.1) has them by a number that grows, so that those of one key lie in the
//! order of their delivery; the rules of a key are [`event_queue`](crate::core::event_queue). Nothing is decided while events are switched off, and
//! switching them off drops what waits. `fields` has a short hash of each field that Spaces holds for a part. It is
//! kept whether events are on or off, so that the first one after switching them on says the truth; where it is
//! unknown (a link's first object, a store that was rebuilt) every field counts as changed.
//!
//! Events are not in the backup_log. A database that is gone takes them with it; every page is then read again, every
//! object written, and each write tells of all fields.
//!
//! An event must not go out before it is durable: a crash would undo its cause. It is the first of its key until it
//! was taken, and while it is on its way nobody else sends it: [`Sending`] is the right to, and gives it back.

use super::api::Unavailable;
use super::inner::Store;
use crate::core::event::{Event, EventKey, EventQueue};
use crate::core::model::WallTime;

/// How many events wait, and since when the oldest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EventCounts {
    /// How many.
    pub waiting: u64,
    /// Since when.
    pub oldest: Option<WallTime>,
}

/// An event on its way: nobody else sends one of its key. Dropping it gives it back.
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

    /// The receiver took it. Returns whether another waits with the key.
    ///
    /// # Errors
    /// [`Unavailable`] when that could not be made durable; it is then sent again.
    pub async fn delivered(self) -> Result<bool, Unavailable> {
        self.store.commit(|state, txn| state.events.delivered(txn, &self.event_key, &self.event.id)).await
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.store.lock().state.events.queue(&self.event_key, |queue| queue.give_back(&self.event.id));
    }
}

/// The answer to [`Store::begin_event`].
pub enum Begun {
    /// Nothing waits with the key.
    Nothing,
    /// One of the key is on its way.
    Busy,
    /// This one goes.
    Goes(Box<Sending>),
}

impl Store {
    /// Switches events on or off. Off, nothing more is decided; what waits stays until [`Store::drop_events`].
    pub fn switch_events(&self, on: bool) {
        self.lock().state.events.switch(on);
    }

    /// Drops all events that wait, unless they were switched on meanwhile. Returns how many.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn drop_events(&self) -> Result<usize, Unavailable> {
        self.commit(|state, txn| if state.events.is_on() { 0 } else { state.events.drop_all(txn) }).await
    }

    /// Every key with which something waits.
    pub fn event_keys(&self) -> Vec<EventKey> {
        self.lock().state.events.keys().cloned().collect()
    }

    /// How many wait.
    pub fn event_counts(&self) -> EventCounts {
        let events = &self.lock().state.events;
        EventCounts { waiting: events.waiting(), oldest: events.oldest() }
    }

    /// The first event of a key goes out, once it is durable.
    ///
    /// # Errors
    /// [`Unavailable`] when the store is down.
    pub async fn begin_event(&self, event_key: &EventKey) -> Result<Begun, Unavailable> {
        let begin = |queue: &mut EventQueue| (queue.is_sending(), queue.was_tried(), queue.begin());
        let begun = self.lock().state.events.queue(event_key, begin);
        let (event, again) = match begun {
            Some((true, ..)) => return Ok(Begun::Busy),
            Some((false, again, Some(event))) => (event, again),
            Some((.., None)) | None => return Ok(Begun::Nothing),
        };
        let sending = Sending { store: self.clone(), event_key: event_key.clone(), event, again };
        self.barrier().await?;
        Ok(Begun::Goes(Box::new(sending)))
    }
}
