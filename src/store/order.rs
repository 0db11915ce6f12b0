//! Orders to the committer, and the queue of them.

use std::sync::{Arc, mpsc};

use tokio::sync::oneshot;

use super::api::Unavailable;
use super::feed::{Change, Feed};
use super::tree::Write;
use super::txn::Collected;
use crate::core::model::PartKey;

/// A request to the committer.
pub(super) enum Order {
    /// Make these writes durable.
    Commit(Request),
    /// Show that the thread is at work.
    Pulse(oneshot::Sender<()>),
    /// For this reason the store is opened anew, and mended where it is damaged.
    Suspect(Arc<str>),
    /// Panic over the next commit.
    #[cfg(any(test, feature = "sandbox"))]
    Drill,
}

/// The answer to a request.
pub(super) type Answer = oneshot::Receiver<Result<(), Unavailable>>;

/// Writes that go together, and the waiting caller. Without writes it is a barrier: answered when everything queued
/// before it is durable.
pub(super) struct Request {
    pub writes: Vec<Write>,
    pub notes: Vec<(PartKey, u64)>,
    /// Published when it is durable.
    pub changes: Vec<Change>,
    /// The newest erasure that was asked for with it or before it.
    pub erasure: u64,
    pub done: oneshot::Sender<Result<(), Unavailable>>,
}

/// Refuses these requests.
pub(super) fn refuse(requests: impl IntoIterator<Item = Request>, reason: &Arc<str>) {
    for request in requests {
        // The caller may have stopped waiting.
        let _ = request.done.send(Err(Unavailable { reason: reason.clone() }));
    }
}

/// The way to the committer. Decisions are handed over under the same lock under which they are made.
pub(super) struct Orders {
    /// `None` once the store is closed.
    queue: Option<mpsc::Sender<Order>>,
    /// Why nothing can be decided.
    down: Option<Arc<str>>,
    feed: Feed,
}

impl Orders {
    /// An open queue, and its other end.
    pub(super) fn new(feed: Feed) -> (Orders, mpsc::Receiver<Order>) {
        let (queue, orders) = mpsc::channel();
        (Orders { queue: Some(queue), down: None, feed }, orders)
    }

    pub(super) fn writable(&self) -> Result<(), Unavailable> {
        match &self.down {
            None => Ok(()),
            Some(reason) => Err(Unavailable { reason: reason.clone() }),
        }
    }

    /// Refuses decisions from here on; what is queued is still carried out.
    pub(super) fn close(&mut self, reason: &str) {
        self.down = Some(reason.into());
        self.queue = None;
    }

    /// Refuses decisions until the store is back.
    pub(super) fn take_down(&mut self, reason: Arc<str>) {
        self.down = Some(reason);
    }

    /// The store is back, unless it was closed meanwhile.
    pub(super) fn come_up(&mut self) {
        if self.queue.is_some() {
            self.down = None;
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.queue.is_none()
    }

    /// Hands something to the committer.
    pub(super) fn send(&self, order: Order) {
        if let Some(queue) = &self.queue {
            // A committer that is gone drops the order, and with it the sender that its caller waits for.
            let _ = queue.send(order);
        }
    }

    /// A read failed: the committer opens the store again.
    pub(super) fn suspect(&self) {
        self.send(Order::Suspect("a read found what may be damage".into()));
    }

    /// Hands a decision's writes to the committer, and what it publishes with them; `None` when nothing needs waiting
    /// for.
    pub(super) fn submit(&self, collected: Collected, erasure: u64) -> Option<Answer> {
        let Collected { writes, notes, changes, waits } = collected;
        if writes.is_empty() && !waits {
            self.feed.publish(changes);
            return None;
        }
        let (done, answer) = oneshot::channel();
        self.send(Order::Commit(Request { writes, notes, changes, erasure, done }));
        Some(answer)
    }
}
