//! The page of each link at this moment. The supervisor writes it, the dispatcher reads it.
//!
//! A page's handle carries the reasons for which it was woken and has not yet looked, so that a page that knows that it
//! is due gets no further message: however many webhooks come, one waits in its mailbox.
//!
//! A page that died and was not yet started again has no handle. What is published for it meanwhile lies in the store,
//! where its successor looks *after* it has its handle.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use ractor::ActorRef;

use super::page::PageMsg;
use crate::core::model::{Cause, LinkKey};

/// A page's handle.
pub struct PageHandle {
    /// Its actor.
    pub actor: ActorRef<PageMsg>,
    reasons: AtomicU8,
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
        Arc::new(PageHandle { actor, reasons: AtomicU8::new(0) })
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
        Reasons(self.reasons.swap(0, Ordering::AcqRel))
    }
}

/// Why a page was woken.
#[derive(Debug, Clone, Copy, Default)]
pub struct Reasons(u8);

impl Reasons {
    /// It is due, for these causes.
    pub fn causes(self) -> impl Iterator<Item = Cause> {
        let all = [Cause::Webhook, Cause::Poll, Cause::Link, Cause::Manual];
        all.into_iter().filter(move |cause| self.0 & bit(*cause) != 0)
    }

    /// A check of its token is owed.
    pub fn is_hinted(self) -> bool {
        self.0 & HINT != 0
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
