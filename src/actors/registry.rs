//! Who answers for which link at this moment. The supervisor writes it, the doors read it.
//!
//! Each page's handle also carries what was told and not yet looked at, so that a page that knows it is due is not told
//! again: however many webhooks come, one message waits in its mailbox. And it carries the page's status, what the page
//! says of itself, so that a list of all pages asks no actor.
//!
//! A page that died and was not yet started again has no handle; what it is told is lost here and safe in the store,
//! where its successor looks *after* it has its handle.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use ractor::ActorRef;

use super::page::PageMsg;
use crate::core::model::{Cause, LinkKey, MonoTime};

/// What a page says of itself beside what the store knows.
#[derive(Debug, Clone, Default)]
pub struct PageStatus {
    /// The next poll, unless a person must act first.
    pub next_poll_at: Option<MonoTime>,
    /// A transient trouble: the last read's error, until one succeeds.
    pub trouble: Option<String>,
    /// A limit holds the page back until then.
    pub throttled_until: Option<MonoTime>,
    /// Reads that ended, with or without success.
    pub reads: u64,
}

/// A page's handle.
pub struct PageHandle {
    /// Its actor.
    pub actor: ActorRef<PageMsg>,
    reasons: AtomicU8,
    status: Mutex<PageStatus>,
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

impl PageHandle {
    /// A handle for this actor.
    pub fn new(actor: ActorRef<PageMsg>) -> Arc<Self> {
        Arc::new(PageHandle { actor, reasons: AtomicU8::new(0), status: Mutex::default() })
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

    /// Why the page was woken since the last look: the causes, and whether a check is owed.
    pub fn take_reasons(&self) -> (Vec<Cause>, bool) {
        let reasons = self.reasons.swap(0, Ordering::AcqRel);
        let all = [Cause::Webhook, Cause::Poll, Cause::Link, Cause::Manual];
        (all.into_iter().filter(|cause| reasons & bit(*cause) != 0).collect(), reasons & HINT != 0)
    }

    /// What the page says of itself.
    pub fn status(&self) -> PageStatus {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn with_status<T>(&self, look: impl FnOnce(&PageStatus) -> T) -> T {
        look(&self.status.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The page says something else.
    pub fn set_status(&self, change: impl FnOnce(&mut PageStatus)) {
        change(&mut self.status.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// The directory.
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

    /// How many links have a page.
    pub fn count(&self) -> usize {
        self.handles.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// The links whose pages a limit holds back at this moment.
    pub fn throttled(&self, now: MonoTime) -> Vec<LinkKey> {
        let handles = self.handles.read().unwrap_or_else(PoisonError::into_inner);
        let held =
            |handle: &PageHandle| handle.with_status(|status| status.throttled_until.is_some_and(|until| until > now));
        handles.iter().filter(|(_, handle)| held(handle)).map(|(link, _)| link.clone()).collect()
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
