//! The actors, and who answers for whom.
//!
//! ```text
//! supervisor ─┬─ uploader        the one writer to Spaces
//!             ├─ notifier        tells the platform's receiver what happened
//!             ├─ app             the app-level webhook subscription
//!             ├─ cleanups          what is left to do after links are gone
//!             ├─ page × links    token, webhook state, rhythm of one link
//!             └─ listener × 1–3  the public door; the admin door on its socket and, if asked for, on loopback
//! ```
//!
//! Every actor file keeps one order: what it is for, its messages, its state, its handlers. Three rules hold for all:
//!
//! * A handler never waits for the network or the disk. It starts a task and goes on; the answer comes back as a
//!   message. So a stop, a reload or a panic next door is dealt with at once.
//! * A handler returns `Err` only to die. Trouble with Graph, Spaces or the store is an outcome, not a failure.
//! * Mailboxes are unbounded, so senders are bounded: a page that was told that it is due is not told again before it
//!   looked ([`directory`]); the uploader is sent links, never bodies, and knows each once, and so the notifier's lanes.
//!
//! Stopping follows the flow of the work: the listeners close the door and finish their requests, the pages finish or
//! abandon their reads, the uploader finishes its writes, the notifier what is on its way, the store makes durable what it has; each step has a limit,
//! and what is left over lies in the store. ractor kills children whose parent ends, so the parent ends last.

pub mod cleanups;
pub mod dispatcher;
pub mod listener;
pub mod notifier;
pub mod page;
mod peers;
pub mod registry;
pub mod subscriptions;
pub mod supervisor;
pub mod uploader;

use std::time::Duration;

use ractor::{ActorRef, Message};
use tokio::task::JoinHandle;

use crate::core::model::MonoTime;

/// One timer of an actor. Setting it again forgets the earlier one; its message carries a generation, since a message
/// that was already in the mailbox cannot be called back.
#[derive(Default)]
pub(crate) struct Alarm {
    generation: u64,
    task: Option<JoinHandle<()>>,
}

impl Alarm {
    /// Sends `message(generation)` at `at`; nothing when `at` is `None`.
    pub(crate) fn set<M: Message>(&mut self, to: &ActorRef<M>, at: Option<MonoTime>, message: fn(u64) -> M) {
        self.cancel();
        let Some(at) = at else { return };
        self.generation += 1;
        let (to, generation, wait) = (to.clone(), self.generation, at.since(MonoTime::now()));
        self.task = Some(tokio::spawn(async move {
            tokio::time::sleep(wait.max(Duration::from_millis(1))).await;
            // An actor that is gone has no use for it.
            let _ = to.cast(message(generation));
        }));
    }

    /// Is this the message of the alarm that is set?
    pub(crate) fn is_current(&self, generation: u64) -> bool {
        self.generation == generation
    }

    fn cancel(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        self.cancel();
    }
}

/// A task that ends with its owner.
pub(crate) struct Owned(pub JoinHandle<()>);

impl Drop for Owned {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Randomness for jitter: 0 to 1.
pub(crate) fn jitter() -> f64 {
    crate::random::fraction()
}
