//! Events in the store: decided in the transaction of their cause, kept until the receiver accepted them.
//!
//! The tree `notices` (its name since release 0.1) has them by a growing number, so that those of one key lie in the
//! order of their delivery; [`event_queue`](crate::core::event_queue) has the rules of a key. Nothing is decided while
//! events are switched off, and switching them off drops those that wait. `fields` has a short hash of each field that
//! Spaces holds for a part. It is kept whether events are on or off, so that the first one after switching them on says
//! the truth; where it is unknown (a link's first object, a store that was rebuilt) every field counts as changed.
//!
//! Events that wait are in the backup log too; the fields are not. After the loss of the database every page is read
//! again, every object is written, and each write names all fields.
//!
//! An event must not be sent before it is durable, because a crash would undo its cause. It stays the first of its key
//! until it is accepted. [`Sending`] is the right to send it, held by one sender at a time and given back when dropped.

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
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn event_keys(&self) -> Result<Vec<EventKey>, Unavailable> {
        self.look(|state| state.events.keys().cloned().collect()).await
    }

    /// How many wait.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn event_counts(&self) -> Result<EventCounts, Unavailable> {
        self.look(|state| EventCounts { waiting: state.events.waiting(), oldest: state.events.oldest() }).await
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
