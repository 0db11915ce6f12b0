//! The timers of all pages, in one task that sleeps until the earliest of them.
//!
//! A page has one timer and sets it after each step. A task for each timer would cost some hundred bytes for each link at
//! rest, and a spawn for each setting; here a timer is an entry in an ordered map, and setting it to the time that it has
//! does nothing.
//!
//! Pages that rest until the debounce of a webhook is over wait beside the timers. The debounce is the same for all, so
//! that they wait in the order in which they came.
//!
//! A message that lies in a mailbox cannot be called back. It carries the number of the setting that sent it, and
//! counts only while that setting holds ([`PageTimer::rings`]).

use std::collections::{BTreeMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use futures_util::FutureExt;
use ractor::ActorRef;
use tokio::sync::Notify;

use super::Owned;
use super::page::PageMsg;
use super::registry::PageHandle;
use crate::core::model::MonoTime;

/// Timers that ring in one go, before other tasks have their turn.
const AT_ONCE: usize = 256;

/// A setting of a timer: when it rings, and its number.
type Setting = (MonoTime, u64);

/// The timers of all pages.
#[derive(Default)]
pub struct Timers {
    queue: Mutex<Queue>,
    /// The earliest timer is another one than the task sleeps for.
    changed: Arc<Notify>,
}

#[derive(Default)]
struct Queue {
    pages: BTreeMap<Setting, ActorRef<PageMsg>>,
    /// Pages that rest, and until when, in this order.
    resting: VecDeque<(MonoTime, Arc<PageHandle>)>,
    /// The number of the newest setting.
    newest: u64,
    task: Option<Owned>,
}

impl Timers {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets a timer, in place of an earlier setting.
    fn set(self: &Arc<Self>, earlier: Option<Setting>, at: MonoTime, page: &ActorRef<PageMsg>) -> Setting {
        let mut queue = self.lock();
        let page = earlier.and_then(|earlier| queue.pages.remove(&earlier)).unwrap_or_else(|| page.clone());
        queue.newest += 1;
        let setting = (at, queue.newest);
        queue.pages.insert(setting, page);
        if queue.pages.first_key_value().is_some_and(|(first, _)| *first == setting) {
            self.changed.notify_one();
        }
        self.keep_time(&mut queue);
        setting
    }

    /// Ends the rest of this page at this time. Returns `false` where others rest longer, as they do when the debounce was
    /// made shorter: nobody ends it then.
    #[must_use]
    pub(super) fn end_rest_at(self: &Arc<Self>, at: MonoTime, page: Arc<PageHandle>) -> bool {
        let mut queue = self.lock();
        if queue.resting.back().is_some_and(|(last, _)| *last > at) {
            return false;
        }
        if queue.resting.is_empty() {
            self.changed.notify_one();
        }
        queue.resting.push_back((at, page));
        self.keep_time(&mut queue);
        true
    }

    fn keep_time(self: &Arc<Self>, queue: &mut Queue) {
        if queue.task.is_none() {
            queue.task = Some(Owned(tokio::spawn(keep_time(Arc::downgrade(self), self.changed.clone()))));
        }
    }

    fn cancel(&self, setting: Setting) {
        self.lock().pages.remove(&setting);
    }

    /// Sends the messages of timers that are due. Returns when the next one is; `None` where there is none.
    fn ring(&self, now: MonoTime) -> Option<MonoTime> {
        let mut queue = self.lock();
        for _ in 0..AT_ONCE {
            let timer = queue.pages.first_key_value().map(|((at, _), _)| *at);
            let rest = queue.resting.front().map(|(at, _)| *at);
            let Some(at) = timer.into_iter().chain(rest).min() else { break };
            if at > now {
                return Some(at);
            }
            if rest == Some(at) {
                queue.resting.pop_front().iter().for_each(|(_, page)| page.end_rest());
                if queue.resting.is_empty() {
                    queue.resting.shrink_to(AT_ONCE);
                }
            } else if let Some(((_, number), page)) = queue.pages.pop_first() {
                // A page that is gone has no use for it.
                let _ = page.cast(PageMsg::Woke(number));
            }
        }
        (!queue.pages.is_empty() || !queue.resting.is_empty()).then_some(now)
    }
}

/// Ends with the timers.
async fn keep_time(timers: Weak<Timers>, changed: Arc<Notify>) {
    loop {
        let ringing = AssertUnwindSafe(ring_on(&timers, &changed)).catch_unwind().await;
        match ringing {
            Ok(()) => return,
            Err(_) => tracing::error!("page: the timers' task panicked, it goes on with the timers that are set"),
        }
    }
}

async fn ring_on(timers: &Weak<Timers>, changed: &Notify) {
    loop {
        let next = match timers.upgrade() {
            Some(timers) => timers.ring(MonoTime::now()),
            None => return,
        };
        let Some(at) = next else {
            changed.notified().await;
            continue;
        };
        let wait = at.since(MonoTime::now()).max(Duration::from_millis(1));
        // It does not matter which of the two it was.
        let _ = tokio::time::timeout(wait, changed.notified()).await;
    }
}

/// The timer of one page.
pub struct PageTimer {
    timers: Arc<Timers>,
    setting: Option<Setting>,
}

impl PageTimer {
    /// A timer that is not set.
    pub fn new(timers: &Arc<Timers>) -> PageTimer {
        PageTimer { timers: timers.clone(), setting: None }
    }

    /// Sends [`PageMsg::Woke`] at this time; nothing when it is `None`. An earlier setting counts no more.
    pub fn set(&mut self, page: &ActorRef<PageMsg>, at: Option<MonoTime>) {
        if self.setting.map(|(at, _)| at) == at {
            // It will ring, or its message is in the mailbox.
            return;
        }
        match at {
            Some(at) => self.setting = Some(self.timers.set(self.setting, at, page)),
            None => self.cancel(),
        }
    }

    /// A message with this number arrived. Does it count? The timer is not set any more then.
    pub fn rings(&mut self, number: u64) -> bool {
        self.setting.take_if(|(_, current)| *current == number).is_some()
    }

    /// The timer is not set any more.
    pub fn cancel(&mut self) {
        if let Some(setting) = self.setting.take() {
            self.timers.cancel(setting);
        }
    }
}

impl Drop for PageTimer {
    fn drop(&mut self) {
        self.cancel();
    }
}
