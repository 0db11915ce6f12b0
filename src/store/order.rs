//! Orders to the committer and to the mark writer, and the two queues of them.

use std::sync::{Arc, mpsc};

use tokio::sync::oneshot;

use super::api::Unavailable;
use super::feed::{Change, Feed};
use super::mark_log::LoggedMark;
use super::tree::{Tree, Write};
use super::turn::Turn;
use super::txn::{Collected, Waits};
use crate::core::model::PartKey;

/// A request to the committer.
pub(super) enum Order {
    /// Make these writes durable.
    Commit(Request),
    /// Show that the thread is at work.
    Pulse(oneshot::Sender<()>),
    /// For this reason the store is opened anew, and mended where it is damaged.
    Suspect(Arc<str>),
    /// The mark log has grown: bring its marks into the database and begin a new one.
    Cut,
    /// For this reason the store cannot go on in this process.
    GiveUp(Arc<str>),
    /// A request to the committer of a shared store.
    Shared(SharedOrder),
}

/// A request to the committer of a shared store.
pub(super) enum SharedOrder {
    /// A caller wants to decide, and waits for its turn.
    Enter(oneshot::Sender<Result<Turn, Unavailable>>),
    /// Other daemons may have decided something.
    Follow,
    /// The members of the cluster, or the links that this daemon may let go, are other ones.
    Rebalance,
}

/// A request to the mark writer.
pub(super) enum MarkOrder {
    /// Make these marks durable.
    Commit(MarkRequest),
    /// Show that the thread is at work.
    Pulse(oneshot::Sender<()>),
}

/// The end of a request.
pub(super) type Done = oneshot::Sender<Result<(), Unavailable>>;

/// The answer to a decision, from one queue or from both.
pub(super) struct Answer {
    database: Option<oneshot::Receiver<Result<(), Unavailable>>>,
    marks: Option<oneshot::Receiver<Result<(), Unavailable>>>,
}

impl Answer {
    /// Waits until everything is durable.
    pub(super) async fn wait(self) -> Result<(), Unavailable> {
        let gone = |_| Err(Unavailable::because("it is closed"));
        if let Some(marks) = self.marks {
            marks.await.unwrap_or_else(gone)?;
        }
        match self.database {
            Some(database) => database.await.unwrap_or_else(gone),
            None => Ok(()),
        }
    }

    /// Are the writes to the database durable? `None` while that is not known.
    pub(super) fn look(&mut self) -> Option<bool> {
        use oneshot::error::TryRecvError::{Closed, Empty};
        match self.database.as_mut()?.try_recv() {
            Ok(result) => Some(result.is_ok()),
            Err(Empty) => None,
            Err(Closed) => Some(false),
        }
    }
}

/// Writes that go together, and the waiting caller. Without writes it is a barrier: answered when everything queued
/// before it is durable.
pub(super) struct Request {
    pub writes: Vec<Write>,
    pub notes: Vec<(PartKey, u64)>,
    /// Published when it is durable.
    pub changes: Vec<Change>,
    /// The newest erasure that was asked for with it or before it.
    pub erasure: u64,
    /// It removes a link.
    pub unlinks: bool,
    pub done: Done,
}

/// Marks that go together, and the waiting caller. Without marks it is a barrier.
pub(super) struct MarkRequest {
    pub marks: Vec<LoggedMark>,
    /// Published when they are durable.
    pub changes: Vec<Change>,
    /// How often the store had been opened again when this was decided.
    pub epoch: u64,
    pub done: Done,
}

/// Refuses these requests.
pub(super) fn refuse(requests: impl IntoIterator<Item = Done>, reason: &Arc<str>) {
    for done in requests {
        // The caller may have stopped waiting.
        let _ = done.send(Err(Unavailable { reason: reason.clone() }));
    }
}

/// The other ends of the queues.
pub(super) struct Queues {
    pub database: mpsc::Receiver<Order>,
    pub marks: mpsc::Receiver<MarkOrder>,
}

/// The way to the committer and to the mark writer. Decisions are handed over under the same lock under which they are
/// made.
pub(super) struct Orders {
    /// `None` once the store is closed. There is no mark writer without a mark log.
    queues: Option<(mpsc::Sender<Order>, Option<mpsc::Sender<MarkOrder>>)>,
    /// Why nothing can be decided.
    down: Option<Arc<str>>,
    /// How often the store was opened again.
    epoch: u64,
    /// Requests on their way that remove links.
    unlinking: u64,
    /// Bytes that the decisions of this turn write.
    of_turn: usize,
    feed: Feed,
}

/// A transaction of a shared database takes no further decisions when those that it has write so many bytes.
const TURN_BYTES: usize = 16 << 20;

impl Orders {
    /// Open queues, and their other ends.
    pub(super) fn new(feed: Feed) -> (Orders, Queues) {
        let ((queue, database), (to_marks, marks)) = (mpsc::channel(), mpsc::channel());
        (
            Orders { queues: Some((queue, Some(to_marks))), down: None, epoch: 0, unlinking: 0, of_turn: 0, feed },
            Queues { database, marks },
        )
    }

    /// An open queue to a committer that writes marks as well, and its other end.
    pub(super) fn without_mark_log(feed: Feed) -> (Orders, mpsc::Receiver<Order>) {
        let (queue, database) = mpsc::channel();
        (Orders { queues: Some((queue, None)), down: None, epoch: 0, unlinking: 0, of_turn: 0, feed }, database)
    }

    /// Is there a mark writer?
    pub(super) fn has_mark_writer(&self) -> bool {
        matches!(&self.queues, Some((_, Some(_))))
    }

    /// Does the committer write marks as well, into a database that other daemons follow?
    fn is_shared(&self) -> bool {
        matches!(&self.queues, Some((_, None)))
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
        self.queues = None;
    }

    /// Refuses decisions until the store is back.
    pub(super) fn take_down(&mut self, reason: Arc<str>) {
        self.down = Some(reason);
    }

    /// The store is back, unless it was closed meanwhile. Marks that were decided before are refused from here on.
    /// Returns how often it came back.
    pub(super) fn come_up(&mut self) -> u64 {
        if self.queues.is_some() {
            self.down = None;
        }
        self.epoch += 1;
        self.unlinking = 0;
        self.epoch
    }

    /// Is a link gone from memory, and may be back after a power cut?
    pub(super) fn is_unlinking(&self) -> bool {
        self.unlinking > 0
    }

    /// This request is durable.
    pub(super) fn is_durable(&mut self, request: &Request) {
        // None is left of those before the store was opened again.
        self.unlinking = self.unlinking.saturating_sub(u64::from(request.unlinks));
    }

    pub(super) fn is_closed(&self) -> bool {
        self.queues.is_none()
    }

    /// The decisions of another turn begin.
    pub(super) fn begin_turn(&mut self) {
        self.of_turn = 0;
    }

    /// May another decision go into the transaction of this turn?
    pub(super) fn takes_more(&self) -> bool {
        self.of_turn < TURN_BYTES
    }

    /// Hands something to the committer.
    pub(super) fn send(&self, order: Order) {
        if let Some((queue, _)) = &self.queues {
            // A committer that is gone drops the order, and with it the sender that its caller waits for.
            let _ = queue.send(order);
        }
    }

    /// Hands something to the mark writer.
    pub(super) fn send_to_marks(&self, order: MarkOrder) {
        if let Some((_, Some(queue))) = &self.queues {
            // As there.
            let _ = queue.send(order);
        }
    }

    /// A read failed: the committer opens the store again.
    pub(super) fn suspect(&self) {
        self.send(Order::Suspect("a read found what may be damage".into()));
    }

    /// Hands a decision's writes to the committer or its marks to the mark writer, and what it publishes with them;
    /// `None` when nothing needs waiting for.
    pub(super) fn submit(&mut self, collected: Collected, erasure: u64) -> Option<Answer> {
        let Collected { writes, marks, notes, changes, mut waits } = collected;
        if self.is_shared() {
            waits.database |= std::mem::take(&mut waits.marks);
            // The other daemons learn of the changes from the database alone.
            waits.database |= !changes.is_empty();
        }
        let to_marks = !marks.is_empty();
        let to_database = !writes.is_empty();
        if !to_marks && !to_database && waits == Waits::default() {
            self.feed.publish(changes);
            return None;
        }
        // The changes go where the writes go.
        let (with_marks, with_writes) = if to_marks { (changes, Vec::new()) } else { (Vec::new(), changes) };
        let mut answer = Answer { database: None, marks: None };
        if to_marks || waits.marks {
            let (done, answered) = oneshot::channel();
            let request = MarkRequest { marks, changes: with_marks, epoch: self.epoch, done };
            self.send_to_marks(MarkOrder::Commit(request));
            answer.marks = Some(answered);
        }
        if to_database || waits.database {
            let (done, answered) = oneshot::channel();
            self.of_turn += writes.iter().map(|write| write.value.as_ref().map_or(0, Vec::len)).sum::<usize>();
            let unlinks = writes.iter().any(|write| write.tree == Tree::Links && write.value.is_none());
            self.unlinking += u64::from(unlinks);
            self.send(Order::Commit(Request { writes, notes, changes: with_writes, erasure, unlinks, done }));
            answer.database = Some(answered);
        }
        Some(answer)
    }
}
