//! What the actors share beside the context, and what a restart of one of them keeps: the pages' handles, the rights to
//! write an object, the slots of token checks, and the tasks under way.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio_util::task::TaskTracker;

use super::inquiry::Inquiry;
use super::registry::{PageHandle, PageRegistry, Rest};
use super::timers::Timers;
use crate::core::model::{Cause, MonoTime, PartKey};

/// Between two checks of tokens that Facebook's hints cause: however many links are hinted at, and by however many
/// deliveries, Graph is asked no faster than that.
const CHECKS_APART: Duration = Duration::from_millis(50);

/// Shared by all actors of one supervisor.
#[derive(Default)]
pub struct Shared {
    /// The page of each link.
    pub pages: PageRegistry,
    /// The timer of each page.
    pub timers: Arc<Timers>,
    /// Reads, writes and cleanups under way, for an orderly end.
    pub tasks: TaskTracker,
    /// The dispatcher's reader is to give a sign of life.
    pub dispatcher_asked: Inquiry,
    /// The dispatcher's reader is to hang, to show that this is noticed.
    #[cfg(feature = "sandbox")]
    pub dispatcher_hangs: tokio::sync::Notify,
    writing: Mutex<HashSet<PartKey>>,
    /// The latest slot that was given for a check.
    checks: Mutex<MonoTime>,
}

/// The right to write the object of one part; given back when dropped.
pub struct WritePermit {
    shared: Arc<Shared>,
    part: PartKey,
}

impl Drop for WritePermit {
    fn drop(&mut self) {
        self.shared.writing.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.part);
    }
}

impl Shared {
    /// A webhook came for a page. It wakes the page when the debounce is over, or at once where the page may have to
    /// decide something before.
    pub(super) fn hear_webhook(&self, page: &Arc<PageHandle>, debounce: Duration) {
        let now = MonoTime::now();
        let until = now.plus(debounce);
        match page.rest(now, until) {
            Rest::Goes => {}
            Rest::Begins if self.timers.end_rest_at(until, page.clone()) => {}
            Rest::Begins => page.end_rest(),
            Rest::Never => page.due(Cause::Webhook),
        }
    }

    /// The right to write a part's object: one holder at a time, also across a restart of the uploader.
    pub(super) fn write_permit(self: &Arc<Self>, part: &PartKey) -> Option<WritePermit> {
        let mut writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let free = writing.insert(part.clone());
        free.then(|| WritePermit { shared: self.clone(), part: part.clone() })
    }

    /// The next free moment for a check that a hint asks for.
    pub(super) fn check_slot(&self) -> MonoTime {
        let mut latest = self.checks.lock().unwrap_or_else(PoisonError::into_inner);
        *latest = latest.plus(CHECKS_APART).max(MonoTime::now());
        *latest
    }
}
