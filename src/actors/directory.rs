//! Who answers for which link at this moment. The supervisor writes it, the doors read it.
//!
//! Each page's place also carries what was told and not yet looked at, so that a page that knows it is due is not told
//! again: however many webhooks come, one message waits in its mailbox. And it carries the page's board, what the page
//! says of itself, so that a list of all pages asks no actor.
//!
//! A page that died and was not yet started again has no place; what it is told is lost here and safe in the store,
//! where its successor looks *after* it has its place.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use ractor::ActorRef;

use super::page::PageMsg;
use crate::model::{Cause, LinkKey, Millis};

/// What a page says of itself beside what the store knows.
#[derive(Debug, Clone, Default)]
pub struct Board {
    /// The next poll, unless a person must act first.
    pub next_poll_at: Option<Millis>,
    /// A transient trouble: the last read's error, until one succeeds.
    pub trouble: Option<String>,
    /// A limit holds the page back until then.
    pub throttled_until: Option<Millis>,
    /// Reads that ended, with or without success.
    pub reads: u64,
}

/// A page's place.
pub struct Place {
    /// Its actor.
    pub actor: ActorRef<PageMsg>,
    told: AtomicU8,
    board: Mutex<Board>,
}

fn bit(cause: Cause) -> u8 {
    match cause {
        Cause::Webhook => 1,
        Cause::Poll => 2,
        Cause::Link => 4,
        Cause::Manual => 8,
    }
}

/// What a page is told beside causes: a check of its token is owed.
const HINT: u8 = 16;

impl Place {
    /// A place for this actor.
    pub fn new(actor: ActorRef<PageMsg>) -> Arc<Self> {
        Arc::new(Place { actor, told: AtomicU8::new(0), board: Mutex::default() })
    }

    /// Tells the page that it is due; a message goes out only if none waits.
    pub fn tell(&self, cause: Cause) {
        self.tell_bit(bit(cause));
    }

    /// Tells the page that a check of its token is owed; a message goes out only if none waits.
    pub fn hint(&self) {
        self.tell_bit(HINT);
    }

    fn tell_bit(&self, bit: u8) {
        if self.told.fetch_or(bit, Ordering::AcqRel) == 0 {
            // A page that died meanwhile finds its mark, or its hint, in the store when it comes back.
            let _ = self.actor.cast(PageMsg::Told);
        }
    }

    /// What was told since the last look: the causes, and whether a check is owed.
    pub fn take_told(&self) -> (Vec<Cause>, bool) {
        let told = self.told.swap(0, Ordering::AcqRel);
        let all = [Cause::Webhook, Cause::Poll, Cause::Link, Cause::Manual];
        (all.into_iter().filter(|cause| told & bit(*cause) != 0).collect(), told & HINT != 0)
    }

    /// What the page says of itself.
    pub fn board(&self) -> Board {
        self.board.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn with_board<T>(&self, look: impl FnOnce(&Board) -> T) -> T {
        look(&self.board.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The page says something else.
    pub fn set_board(&self, change: impl FnOnce(&mut Board)) {
        change(&mut self.board.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// The directory.
#[derive(Default)]
pub struct Directory {
    places: RwLock<HashMap<LinkKey, Arc<Place>>>,
}

impl Directory {
    /// The place of a link's page.
    pub fn find(&self, link: &LinkKey) -> Option<Arc<Place>> {
        self.places.read().unwrap_or_else(PoisonError::into_inner).get(link).cloned()
    }

    /// Tells these links' pages that they are due.
    pub fn tell(&self, links: &[LinkKey], cause: Cause) {
        for link in links {
            if let Some(place) = self.find(link) {
                place.tell(cause);
            }
        }
    }

    /// Every link that has a page.
    pub fn links(&self) -> Vec<LinkKey> {
        self.places.read().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }

    /// How many links have a page.
    pub fn count(&self) -> usize {
        self.places.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// The links whose pages a limit holds back at this moment.
    pub fn throttled(&self, now: Millis) -> Vec<LinkKey> {
        let places = self.places.read().unwrap_or_else(PoisonError::into_inner);
        let held = |place: &Place| place.with_board(|board| board.throttled_until.is_some_and(|until| until > now));
        places.iter().filter(|(_, place)| held(place)).map(|(link, _)| link.clone()).collect()
    }

    /// Every place.
    pub fn all(&self) -> Vec<Arc<Place>> {
        self.places.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    pub(super) fn put(&self, link: LinkKey, place: Arc<Place>) {
        self.places.write().unwrap_or_else(PoisonError::into_inner).insert(link, place);
    }

    pub(super) fn remove(&self, link: &LinkKey) -> Option<Arc<Place>> {
        self.places.write().unwrap_or_else(PoisonError::into_inner).remove(link)
    }
}
