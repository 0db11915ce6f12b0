//! The one writer to Spaces: feeds what happens to the [`queue`](crate::core::upload_queue) and carries out what it
//! decides.
//!
//! The queue holds the keys of parts, never bodies; a write loads its body from the outbox, writes it, and completes
//! it, in a task of its own. Such a task outlives an uploader that dies, and keeps the right to write its object until
//! it ends: the successor finds that right taken and comes back, so that no object is ever written twice at once.
//!
//! The limit of `spaces.max_in_flight` holds for the requests themselves ([`Context::writes`]). A few keys more are in
//! flight in the queue ([`AHEAD`]): the disk reads and completes for those while others are on the way to Spaces, so
//! that Spaces never waits for the disk.
//!
//! An object is written only while the link's [lease](crate::store::leases) is held: it is asked for when the body is
//! loaded and once more right before the request, which is cut off when the right to write ends. A key of another
//! process leaves the queue and stays owed in the store.
//!
//! A write without an answer may take effect after a newer one; [`late_writes`](crate::core::late_writes) decides what
//! follows. A cleanup that it asks for is noted in the transaction that completes the newer write.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use tokio::task::JoinError;

use super::shared::Shared;
use super::{Alarm, Owned, STORE_RETRY, jitter};
use crate::context::Context;
use crate::context::trail::Delivery;
use crate::core::catalogue::{Piece, Row};
use crate::core::fields::Fields;
use crate::core::late_writes::{InDoubt, LateWrites, WriteEnd};
use crate::core::lease::bucket_of;
use crate::core::ledger::ObjectOp;
use crate::core::model::{MonoTime, ObjectKey, PartKey, WallTime};
use crate::core::priority::Priority;
use crate::core::upload_queue::{Outcome, Queue};
use crate::metrics::Question;
use crate::services::shop_index;
use crate::sources;
use crate::spaces::{Erased, SpacesError, SpacesErrorKind};
use crate::store::leases::Holding;
use crate::store::{Left, OutboxItem, Unavailable};
use crate::traces::Kind;

/// How often Spaces is asked for a sign of life when nothing else asks.
const PROBE_WHILE_UP: Duration = Duration::from_secs(5 * 60);
const PROBE_WHILE_DOWN: Duration = Duration::from_secs(15);
/// Failures in a row after which Spaces is asked at once whether it is there at all.
const PROBE_AFTER: u32 = 3;

/// Writes that are prepared or completed while as many as are allowed are under way.
const AHEAD: usize = 8;
/// The same where the store is a database that daemons share: an entry is loaded and completed in turns of some
/// milliseconds, and a turn costs the same for many of them.
const AHEAD_OF_TURNS: usize = 32;
/// A body up to this size is parsed where it is; a longer one on a thread for such work.
const PARSED_IN_PLACE: usize = 64 << 10;

/// Messages to the uploader.
pub enum UploaderMsg {
    /// Something was staged for these parts.
    Staged(Vec<PartKey>),
    /// The alarm of this generation rang.
    Woke(u64),
    /// A write ended.
    Done(PartKey, WriteEnd),
    /// After a start, and when the store is back: take over its outbox.
    Refill,
    /// Other settings hold.
    Reloaded,
    /// Ask Spaces for a sign of life.
    Probe,
    /// Spaces gave one, or did not.
    Probed {
        /// Did it?
        is_up: bool,
    },
    /// Begin nothing more when what is owed is written, and answer then.
    Drain(RpcReplyPort<()>),
    /// Fail, to show that nothing is lost.
    #[cfg(feature = "sandbox")]
    Drill(crate::control::Drill),
    /// Answer: a sign of life.
    Ping(Question),
}

/// What the uploader keeps.
pub struct UploaderState {
    context: Arc<Context>,
    shared: Arc<Shared>,
    queue: Queue,
    alarm: Alarm,
    /// `None` before the first look into the store's outbox. Nothing is written before that.
    late_writes: Option<LateWrites>,
    /// The outbox could not be read when it was to be taken over; the next try is then.
    retry_at: Option<MonoTime>,
    /// The buckets that were worked on here when the outbox was taken over.
    held: Holding,
    /// Some of them may be written from then on.
    quiet_until: Option<MonoTime>,
    draining: Option<RpcReplyPort<()>>,
    /// One at a time: a new one takes the place of the one before.
    probe: Option<Owned>,
    /// The last sign of life did not come.
    is_down: bool,
}

/// The uploader actor.
pub struct Uploader;

impl Actor for Uploader {
    type Msg = UploaderMsg;
    type State = UploaderState;
    type Arguments = (Arc<Context>, Arc<Shared>);

    async fn pre_start(
        &self,
        _me: ActorRef<UploaderMsg>,
        (context, shared): (Arc<Context>, Arc<Shared>),
    ) -> Result<UploaderState, ActorProcessingErr> {
        let queue = Queue::new(begun(&context));
        Ok(UploaderState {
            context,
            shared,
            queue,
            alarm: Alarm::default(),
            late_writes: None,
            retry_at: None,
            held: Holding::default(),
            quiet_until: None,
            draining: None,
            probe: None,
            is_down: false,
        })
    }

    async fn post_start(
        &self,
        me: ActorRef<UploaderMsg>,
        _state: &mut UploaderState,
    ) -> Result<(), ActorProcessingErr> {
        Ok(me.cast(UploaderMsg::Probe)?)
    }

    async fn handle(
        &self,
        me: ActorRef<UploaderMsg>,
        message: UploaderMsg,
        state: &mut UploaderState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            UploaderMsg::Staged(parts) => state.add(parts),
            UploaderMsg::Woke(generation) if !state.alarm.is_current(generation) => return Ok(()),
            UploaderMsg::Ping(question) => {
                question.answer();
                return Ok(());
            }
            UploaderMsg::Woke(_) if state.is_behind() => state.refill().await,
            UploaderMsg::Woke(_) => state.end_quiet_time(),
            UploaderMsg::Done(part, ended) => state.done(&me, &part, &ended),
            UploaderMsg::Refill => state.refill().await,
            UploaderMsg::Reloaded => {
                state.queue.set_limit(begun(&state.context));
                state.queue.retry_now(MonoTime::now());
                me.cast(UploaderMsg::Probe)?;
            }
            UploaderMsg::Probe => {
                if let Some(late_writes) = &mut state.late_writes {
                    late_writes.sweep(MonoTime::now());
                }
                state.probe(&me);
            }
            UploaderMsg::Probed { is_up } => state.probed(is_up),
            UploaderMsg::Drain(reply) => {
                // What was staged since the dispatcher stopped.
                state.refill().await;
                state.draining = Some(reply);
            }
            #[cfg(feature = "sandbox")]
            UploaderMsg::Drill(drill) => drill.play("the uploader").await,
        }
        state.go_on(&me);
        Ok(())
    }
}

impl UploaderState {
    /// Is it time to take over what could not be read?
    fn is_behind(&self) -> bool {
        self.retry_at.is_some_and(|at| at <= MonoTime::now())
    }

    async fn refill(&mut self) {
        let parts = self.context.store.outbox_parts().await;
        self.retry_at = parts.is_err().then(|| MonoTime::now().plus(STORE_RETRY));
        let Ok(parts) = parts else { return };
        let held = self.context.leases.held();
        let (until, gained) = (self.in_doubt_until(), held.gained_since(&self.held));
        let taken_over = parts.iter().filter(|part| gained.contains(&bucket_of(&part.link))).cloned();
        self.late_writes.get_or_insert_default().take_over(taken_over, until);
        (self.held, self.quiet_until) = (held, self.context.leases.next_quiet_end());
        self.add(parts);
    }

    /// Those that are written elsewhere are left to others.
    fn add(&mut self, parts: Vec<PartKey>) {
        let now = MonoTime::now();
        let here = parts.into_iter().filter(|part| self.context.leases.holds(&part.link));
        here.for_each(|part| self.queue.add(part, now));
    }

    /// What waited for a quiet time comes at once when that is over.
    fn end_quiet_time(&mut self) {
        let now = MonoTime::now();
        if self.quiet_until.is_some_and(|until| until <= now) {
            self.quiet_until = self.context.leases.next_quiet_end();
            self.queue.retry_now(now);
        }
    }

    fn go_on(&mut self, me: &ActorRef<UploaderMsg>) {
        let now = MonoTime::now();
        while self.late_writes.is_some()
            && let Some(part) = self.queue.next(now)
        {
            self.write(me, part);
        }
        let wake_at = self.queue.wake_at().filter(|_| self.late_writes.is_some());
        let wake_at = [wake_at, self.retry_at, self.quiet_until].into_iter().flatten().min();
        self.alarm.set(me, wake_at, UploaderMsg::Woke);
        let idle = self.queue.in_flight() == 0 && (self.queue.is_empty() || self.queue.failures_in_row() > 0);
        if let Some(reply) = self.draining.take_if(|_| idle) {
            // The supervisor may have stopped waiting.
            let _ = reply.send(());
        }
    }

    fn write(&mut self, me: &ActorRef<UploaderMsg>, part: PartKey) {
        let (context, shared, me) = (self.context.clone(), self.shared.clone(), me.clone());
        let in_doubt = self.late_writes.as_ref().and_then(|writes| writes.get(&part));
        self.shared.tasks.spawn(async move {
            let ended = match shared.write_permit(&part) {
                Some(permit) => {
                    let ended = AssertUnwindSafe(Box::pin(carry_out(&context, &part, in_doubt))).catch_unwind().await;
                    drop(permit);
                    // A write that panicked gives its place back like any other that failed.
                    ended.unwrap_or(WriteEnd { unanswered: true, ..WriteEnd::of(Outcome::Busy { hint: None }) })
                }
                None => WriteEnd::of(Outcome::Local),
            };
            // An uploader that is gone is followed by one that reads the outbox.
            let _ = me.cast(UploaderMsg::Done(part, ended));
        });
    }

    fn done(&mut self, me: &ActorRef<UploaderMsg>, part: &PartKey, ended: &WriteEnd) {
        let failures = self.queue.failures_in_row();
        self.queue.done(part, ended.outcome, MonoTime::now(), jitter());
        if self.queue.failures_in_row() > failures && self.queue.failures_in_row() == PROBE_AFTER {
            self.probe(me);
        }
        let until = self.in_doubt_until();
        if let Some(late_writes) = &mut self.late_writes {
            late_writes.ended(part, ended, until);
        }
    }

    /// When a write whose answer is lost now must be through.
    fn in_doubt_until(&self) -> MonoTime {
        MonoTime::now().plus(2 * self.context.setup().config.spaces.request_timeout)
    }

    /// A read of an object that does not exist tells a missing bucket, a wrong key and a dead endpoint apart.
    fn probe(&mut self, me: &ActorRef<UploaderMsg>) {
        let (context, me) = (self.context.clone(), me.clone());
        let task = async move {
            let key = ObjectKey::scratch(crate::random::uuid());
            let answer = context.setup().spaces.get(&key).await;
            context.note_spaces(&answer);
            let is_up = answer.is_ok();
            let _ = me.cast(UploaderMsg::Probed { is_up });
            tokio::time::sleep(if is_up { PROBE_WHILE_UP } else { PROBE_WHILE_DOWN }).await;
            let _ = me.cast(UploaderMsg::Probe);
        };
        self.probe = Some(Owned(tokio::spawn(task)));
    }

    /// A sign of life after none ends the waiting, however far the backoff had grown.
    fn probed(&mut self, is_up: bool) {
        let was_down = std::mem::replace(&mut self.is_down, !is_up);
        if is_up && was_down {
            self.queue.retry_now(MonoTime::now());
        }
    }
}

/// Writes that are begun at a time.
fn begun(context: &Context) -> usize {
    let ahead = if context.leases.are_shared() { AHEAD_OF_TURNS } else { AHEAD };
    context.setup().config.spaces.max_in_flight.saturating_add(ahead)
}

async fn carry_out(context: &Arc<Context>, part: &PartKey, in_doubt: Option<InDoubt>) -> WriteEnd {
    let (local, leases) = (WriteEnd::of(Outcome::Local), &context.leases);
    let not_now = || WriteEnd::of(if leases.holds(&part.link) { Outcome::Local } else { Outcome::Elsewhere });
    let Some(work) = leases.may_write(&part.link) else { return not_now() };
    let item = match context.store.outbox_item(part).await {
        Ok(Some(item)) => item,
        Ok(None) => return WriteEnd::of(Outcome::Settled { more: false }),
        Err(_) => return local,
    };
    let Ok(item) = with_index(context, part, item).await else { return local };
    let staged = context.pages.staged(part);
    let mut span = context.tracer.child("write", Kind::Internal, staged.span);
    let turn = context.writes.enter(Priority::Background).await;
    let Some(right) = work.may_write() else { return not_now() };
    let answer = right.within(span.around(Box::pin(write(context, part, &item)))).await;
    let answer = answer.unwrap_or_else(|| Err(SpacesError::timed_out(op_word(item.staged.op))));
    drop(turn);
    context.note_spaces(&answer);
    match answer {
        Ok(Written { etag, versions_unknown }) => {
            context.metrics.mark_to_object(WallTime::now().since(item.staged.marked_at));
            let landing = in_doubt.and_then(|write| write.cleanup_after(item.staged.op, MonoTime::now()));
            let in_doubt_until = landing.map(MonoTime::to_wall);
            let Ok((fields, row)) = looked_at(part, &item).await else { return local };
            let left = Left { in_doubt_until, versions_unknown, fields, row };
            let complete = context.tracer.child("complete", Kind::Internal, span.context());
            let completed = context.store.complete(part, &item, etag, left).await;
            complete.end();
            match completed {
                Ok(more) => {
                    context.pages.forget_staged(part, staged);
                    report(part, &item, staged.delivery);
                    WriteEnd { cleanup: landing.is_some(), ..WriteEnd::of(Outcome::Settled { more }) }
                }
                Err(_) => local,
            }
        }
        Err(error) => {
            span.fail("spaces");
            let ended = failed(part, &error);
            if ended.unanswered {
                // The bucket is not released before this write is through.
                work.linger(2 * context.setup().config.spaces.request_timeout);
            }
            ended
        }
    }
}

/// What Spaces answered to a write.
struct Written {
    /// The tag of the object, where it was put.
    etag: Option<String>,
    /// Older versions of an object that was deleted may be left.
    versions_unknown: bool,
}

async fn write(context: &Context, part: &PartKey, item: &OutboxItem) -> Result<Written, SpacesError> {
    let (spaces, key) = (context.setup().spaces.clone(), part.object_key());
    match item.staged.op {
        ObjectOp::Put(_) => {
            let done = spaces.put(&key, item.body.clone()).await?;
            Ok(Written { etag: Some(done.etag), versions_unknown: false })
        }
        ObjectOp::Delete => {
            let erased = spaces.erase(&key).await?;
            Ok(Written { etag: None, versions_unknown: erased == Erased::PerhapsNotVersions })
        }
    }
}

/// The word of a request in errors.
fn op_word(op: ObjectOp) -> &'static str {
    match op {
        ObjectOp::Put(_) => "put",
        ObjectOp::Delete => "delete",
    }
}

/// The index of a shop is made now, and its digest is that of what is written.
async fn with_index(context: &Context, part: &PartKey, mut item: OutboxItem) -> Result<OutboxItem, Unavailable> {
    if Piece::of(&part.part) == Some(Piece::Index)
        && matches!(item.staged.op, ObjectOp::Put(_))
        && let Some(index) = shop_index::document(context, &part.link).await?
    {
        item.staged.op = ObjectOp::Put(index.digest);
        item.body = index.body;
    }
    Ok(item)
}

/// The fields of an object that was written, or its row in an index. A body may have tens of megabytes, which no async
/// worker should parse.
async fn looked_at(part: &PartKey, item: &OutboxItem) -> Result<(Option<Fields>, Option<Row>), JoinError> {
    if item.staged.op == ObjectOp::Delete {
        return Ok((None, None));
    }
    let (source, piece, body) = (part.link.source(), Piece::of(&part.part), item.body.clone());
    let is_whole = part.part.is_whole();
    let look = move || match piece {
        Some(Piece::Product(_)) => (None, sources::row_of_object(&body)),
        _ => (is_whole.then(|| sources::fields_of_object(source, &body)), None),
    };
    if item.body.len() <= PARSED_IN_PLACE { Ok(look()) } else { tokio::task::spawn_blocking(look).await }
}

/// One line for an object that is true again. Those of a catalogue are many, and the line of its sweep counts them.
fn report(part: &PartKey, item: &OutboxItem, delivery: Option<Delivery>) {
    let link = &part.link;
    let id = delivery.map(|delivery| delivery.id.to_string());
    let after = WallTime::now().since(item.staged.marked_at);
    let seconds = after.as_secs_f64();
    let done = match item.staged.op {
        ObjectOp::Put(_) => "written",
        ObjectOp::Delete => "deleted",
    };
    let since = id.as_ref().map_or_else(|| "it was due".to_owned(), |id| format!("webhook {id}"));
    if part.part.is_whole() {
        tracing::info!(%link, delivery = id, seconds, "spaces [{part}]: {done}, {after:.1?} after {since}");
    } else {
        tracing::debug!(%link, seconds, "spaces [{part}]: {done}, {after:.1?} after {since}");
    }
}

fn failed(part: &PartKey, error: &SpacesError) -> WriteEnd {
    tracing::debug!(link = %part.link, %error, "spaces [{part}]: the write failed ({error}), retrying later");
    let outcome = match error.kind {
        SpacesErrorKind::Misconfigured { .. } | SpacesErrorKind::Clock => Outcome::Misconfigured,
        SpacesErrorKind::Busy | SpacesErrorKind::SlowDown | SpacesErrorKind::Corrupt => {
            Outcome::Busy { hint: error.retry_after }
        }
    };
    WriteEnd { unanswered: error.status.is_none(), ..WriteEnd::of(outcome) }
}
