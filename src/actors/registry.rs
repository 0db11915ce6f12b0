//! The page of each link at this moment. The supervisor writes it, the dispatcher reads it.
//!
//! A page's handle carries the reasons for which it was woken and has not yet looked, so that a page that knows that it
//! is due gets no further message: however many webhooks come, one waits in its mailbox.
//!
//! For a webhook a page has nothing to decide before the debounce is over, as long as its bucket holds more than the last
//! token. So it is left alone until then, and looks once for each mark instead of twice ([`PageHandle::rest`]). It reads
//! the time of the webhook and the reasons before it looks into the store. So a webhook that is heard before that look is
//! seen by it, and one that is heard later makes the page look again.
//!
//! A page that died and was not yet started again has no handle. What is published for it meanwhile lies in the store,
//! where its successor looks *after* it has its handle.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use ractor::ActorRef;

use super::page::PageMsg;
use crate::core::model::{Cause, LinkKey, MonoTime};

/// A page's handle.
pub struct PageHandle {
    /// Its actor.
    pub actor: ActorRef<PageMsg>,
    reasons: AtomicU8,
    /// When the first webhook came that the page has not looked for; 0 for none.
    heard_at: AtomicU64,
    /// From here on the page need not look before a debounce is over.
    plenty_at: AtomicU64,
}

/// What is to be done for a page that a webhook concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    /// Wake it when the debounce is over.
    Begins,
    /// Nothing: it will be woken for an earlier webhook.
    Goes,
    /// Wake it now.
    Never,
}

fn bit(cause: Cause) -> u8 {
    match cause {
        Cause::Webhook => 1,
        Cause::Poll => 2,
        Cause::Link => 4,
        Cause::Manual => 8,
    }
}

/// A reason beside the causes: a check of the token is owed.
const HINT: u8 = 16;
/// The debounce of a webhook is over.
const RESTED: u8 = 32;

impl PageHandle {
    /// A handle for this actor.
    pub fn new(actor: ActorRef<PageMsg>) -> Arc<Self> {
        let (reasons, heard_at, plenty_at) = (AtomicU8::new(0), AtomicU64::new(0), AtomicU64::new(u64::MAX));
        Arc::new(PageHandle { actor, reasons, heard_at, plenty_at })
    }

    /// The page need not look before the debounce of a webhook is over, from `at` on.
    pub fn set_plenty_at(&self, at: MonoTime) {
        self.plenty_at.store(at.0, Ordering::Relaxed);
    }

    /// A webhook came now, whose debounce is over at `until`.
    pub fn rest(&self, now: MonoTime, until: MonoTime) -> Rest {
        if self.plenty_at.load(Ordering::Relaxed) > until.0 {
            return Rest::Never;
        }
        match self.heard_at.compare_exchange(0, now.0, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => Rest::Begins,
            Err(_) => Rest::Goes,
        }
    }

    /// Wakes the page because the debounce of a webhook is over, unless it has looked since.
    pub fn end_rest(&self) {
        if self.heard_at.load(Ordering::Acquire) != 0 {
            self.wake(RESTED);
        }
    }

    /// Wakes the page because it is due; a message goes out only if none waits.
    pub fn due(&self, cause: Cause) {
        self.wake(bit(cause));
    }

    /// Wakes the page because a check of its token is owed; a message goes out only if none waits.
    pub fn check_token(&self) {
        self.wake(HINT);
    }

    fn wake(&self, bit: u8) {
        if self.reasons.fetch_or(bit, Ordering::AcqRel) == 0 {
            // A page that died meanwhile finds its mark, or its hint, in the store when it comes back.
            let _ = self.actor.cast(PageMsg::Wake);
        }
    }

    /// Why the page was woken since the last look.
    pub fn take_reasons(&self) -> Reasons {
        let bits = self.reasons.swap(0, Ordering::AcqRel);
        let heard_at = self.heard_at.swap(0, Ordering::AcqRel);
        Reasons { bits, heard_at: (heard_at != 0).then_some(MonoTime(heard_at)) }
    }
}

/// Why a page was woken.
#[derive(Debug, Clone, Copy, Default)]
pub struct Reasons {
    bits: u8,
    /// When the first of the webhooks came for which it was not woken at once.
    pub heard_at: Option<MonoTime>,
}

impl Reasons {
    /// It is due, for these causes.
    pub fn causes(self) -> impl Iterator<Item = Cause> {
        let all = [Cause::Webhook, Cause::Poll, Cause::Link, Cause::Manual];
        all.into_iter().filter(move |cause| self.bits & bit(*cause) != 0)
    }

    /// A check of its token is owed.
    pub fn is_hinted(self) -> bool {
        self.bits & HINT != 0
    }
}

/// The pages by link.
#[derive(Default)]
pub struct PageRegistry {
    handles: RwLock<HashMap<LinkKey, Arc<PageHandle>>>,
}

impl PageRegistry {
    /// The handle of a link's page.
    pub fn find(&self, link: &LinkKey) -> Option<Arc<PageHandle>> {
        self.handles.read().unwrap_or_else(PoisonError::into_inner).get(link).cloned()
    }

    /// Every link that has a page.
    pub fn links(&self) -> Vec<LinkKey> {
        self.handles.read().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }

    /// Every handle.
    pub fn all(&self) -> Vec<Arc<PageHandle>> {
        self.handles.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    pub(super) fn put(&self, link: LinkKey, handle: Arc<PageHandle>) {
        self.handles.write().unwrap_or_else(PoisonError::into_inner).insert(link, handle);
    }

    pub(super) fn remove(&self, link: &LinkKey) -> Option<Arc<PageHandle>> {
        self.handles.write().unwrap_or_else(PoisonError::into_inner).remove(link)
    }
}
