//! The dispatcher: `src/actors/dispatcher.rs` without ractor. It alone reads the store's own feed.

use std::pin::pin;
use std::time::Duration;

use pagesyncd::core::link::schedule;
use pagesyncd::core::model::LinkKey;
use pagesyncd::store::feed::{Batch, LinkChanges};
use pagesyncd::store::stepped::{poll_once, shown};

use super::cleanups::CleanupsMsg;
use super::page::PageMsg;
use super::uploader::UploaderMsg;
use super::world::{Event, World};

impl World {
    /// Takes what was published, unless a batch is being passed on.
    pub fn read_feed(&mut self) {
        if !self.up || self.dispatching {
            return;
        }
        let feed = self.store.feed().clone();
        if let Some(batch) = poll_once(pin!(feed.next())) {
            self.dispatching = true;
            let ms = self.chance.below(3);
            self.soon(ms, Event::Dispatch(self.dispatcher, Box::new(batch)));
        }
    }

    /// A dispatcher begins as after a reset.
    pub fn new_dispatcher(&mut self, after: u64) {
        self.dispatcher += 1;
        self.dispatching = true;
        let batch = Batch { reset: true, ..Batch::default() };
        self.soon(after, Event::Dispatch(self.dispatcher, Box::new(batch)));
    }

    /// With the batch that it has taken.
    pub fn dispatcher_panics(&mut self) {
        if self.up {
            self.figures.panics += 1;
            let after = self.chance.below(2_000);
            self.new_dispatcher(after);
        }
    }

    pub fn dispatch(&mut self, dispatcher: u64, batch: Batch) {
        if dispatcher != self.dispatcher {
            return;
        }
        self.dispatching = false;
        if batch.reset {
            self.reset();
        }
        for (key, changes) in batch.links {
            self.pass_on(&key, &changes);
        }
        if batch.cleanup {
            self.soon(0, Event::Cleanups(CleanupsMsg::Look));
        }
    }

    fn pass_on(&mut self, key: &LinkKey, changes: &LinkChanges) {
        let l = self.number_of(key);
        if changes.presence.is_some() {
            self.fit(l, Duration::ZERO, false);
        }
        if changes.parked {
            self.tell_page_of(l, PageMsg::Parked);
        }
        changes.causes.iter().for_each(|cause| self.tell(l, *cause));
        if changes.token_check {
            self.wake(l, |place| place.hinted = true);
        }
        if let Some(generation) = changes.recheck {
            self.tell_page_of(l, PageMsg::Check(generation));
        }
        if changes.verify {
            self.tell_page_of(l, PageMsg::Verify(Duration::ZERO));
        }
        if !changes.outbox.is_empty() {
            self.tell_uploader(UploaderMsg::Staged(l));
        }
    }

    fn reset(&mut self) {
        self.tell_uploader(UploaderMsg::Refill);
        self.soon(0, Event::Cleanups(CleanupsMsg::Look));
        let links = shown(self.store.links());
        let spread = schedule::spread(links.len(), self.pace.poll_interval);
        let links: Vec<usize> = links.iter().map(|key| self.number_of(key)).collect();
        let gone: Vec<usize> = self.directory.keys().copied().filter(|l| !links.contains(l)).collect();
        links.into_iter().chain(gone).for_each(|l| self.fit(l, spread, true));
    }
}
