//! The actors, and who answers for whom.
//!
//! ```text
//! supervisor ─┬─ dispatcher       reads the store's feed, wakes those whom a change concerns
//!             ├─ page × links     reads, webhook state and poll timer of one link
//!             ├─ uploader         serialises writes to Spaces: one at a time per key
//!             ├─ subscriptions    the app-level webhook subscriptions
//!             ├─ cleanups         what is left to do after links are gone
//!             ├─ certificates     the certificate of the public listener, where an authority issues it by ACME
//!             ├─ notifier         delivers events to the platform's receiver
//!             └─ listener × 2–3   the public address, the admin socket and, if asked for, the admin address on loopback
//! ```
//!
//! An actor learns of a decision in the store from the dispatcher alone, which reads the store's feed. It begins with a
//! look into the store, because what was published before it began may have gone to the one before it. An operator's
//! commands come to the supervisor through the channel of the context. So routes, services and the context know no
//! actor.
//!
//! Every actor file keeps one order: what it is for, its messages, its state, its handlers. Three rules hold for all:
//!
//! * A handler never waits for the network or the disk. It starts a task and goes on; the answer comes back as a
//!   message. So a stop, a reload or the panic of a neighbour is dealt with at once. There are two exceptions. The
//!   supervisor waits inside a handler while it ends everything. A handler awaits what the store knows of a link, which
//!   the store has in memory; where the store cannot say, the handler keeps what it was asked and asks again soon.
//! * A handler returns `Err` only to die. Trouble with Graph, Spaces or the store is an outcome, not a failure.
//! * Mailboxes are unbounded, so senders are bounded: changes coalesce in the feed until the dispatcher takes them, a
//!   page that was woken gets no further message before it looked, and actors are sent keys, never bodies.
//!
//! Stopping follows the flow of the work: the listeners accept no more and finish their requests, the dispatcher stops,
//! the pages finish or abandon their reads, the uploader finishes its writes, the notifier what is on its way, the
//! store makes durable what it has. Each step has a limit, and what is left over lies in the store. ractor kills
//! children whose parent ends, so the parent ends last.

pub mod certificates;
pub mod cleanups;
pub mod dispatcher;
mod inquiry;
pub mod listener;
mod news;
pub mod notifier;
pub mod page;
mod peers;
mod registry;
pub mod shared;
pub mod subscriptions;
pub mod supervisor;
#[cfg(test)]
mod tests;
mod timers;
pub mod uploader;

use std::time::Duration;

use ractor::{ActorRef, Message};
use tokio::task::JoinHandle;

use crate::core::model::MonoTime;

/// How long an actor waits until it asks the store again that could not be read.
pub(crate) const STORE_RETRY: Duration = Duration::from_secs(1);

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
