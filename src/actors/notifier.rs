//! Delivers events: feeds the keys in which events wait to a [`queue`](crate::core::upload_queue) and carries out what
//! that decides.
//!
//! It knows keys, never events. Each attempt is a task of its own, which takes the first event of its key from the
//! store, sends it, and settles it there or gives it back. Such a task outlives a notifier that dies and keeps the
//! right to its key until it ends, as the uploader's do. Nobody waits for the notifier: the store publishes that events
//! wait, and a receiver that hangs holds up nothing but its own keys, `notify.max_in_flight` of them.
//!
//! A receiver that fails is tried for ever, one event at a time once several failed, more and more slowly; it shows in
//! `status`, in the log when it turns, and not in readiness. What it refuses although it works (a 400, say) holds
//! up that key alone.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};

use super::{Alarm, STORE_RETRY, jitter};
use crate::context::Context;
use crate::core::backoff::Backoff;
use crate::core::event::EventKey;
use crate::core::lease::{SINGLETONS, bucket_of_event};
use crate::core::model::{MonoTime, WallTime};
use crate::core::upload_queue::{Outcome, Pace, Queue};
use crate::events::{Fault, NotTaken};
use crate::metrics::Question;
use crate::store::events::{Begun, Sending};

/// How long events wait after a failure.
const PACE: Pace = Pace {
    busy: Backoff { base: Duration::from_secs(1), cap: Duration::from_secs(2 * 60) },
    misconfigured: Backoff { base: Duration::from_secs(10), cap: Duration::from_secs(10 * 60) },
};

/// Messages to the notifier.
pub enum NotifierMsg {
    /// Events of these keys wait.
    Waiting(Vec<EventKey>),
    /// After a start, and when the store is back: take over what waits there.
    Refill,
    /// The alarm of this generation rang.
    Woke(u64),
    /// An attempt ended.
    Done(EventKey, Outcome),
    /// Other settings hold.
    Reloaded,
    /// Begin nothing more, and answer when what is on its way has ended.
    Drain(RpcReplyPort<()>),
    /// Fail, to show that nothing is lost.
    #[cfg(feature = "sandbox")]
    Drill(crate::control::Drill),
    /// Answer: a sign of life.
    Ping(Question),
}

/// What the notifier keeps.
pub struct NotifierState {
    context: Arc<Context>,
    queue: Queue<EventKey>,
    alarm: Alarm,
    /// The store could not be read when everything that waits was to be taken over; the next try is then.
    retry_at: Option<MonoTime>,
    draining: Option<RpcReplyPort<()>>,
}

/// The notifier actor.
pub struct Notifier;

impl Actor for Notifier {
    type Msg = NotifierMsg;
    type State = NotifierState;
    type Arguments = Arc<Context>;

    async fn pre_start(
        &self,
        _me: ActorRef<NotifierMsg>,
        context: Arc<Context>,
    ) -> Result<NotifierState, ActorProcessingErr> {
        let queue = Queue::paced(context.setup().config.notify.max_in_flight, PACE);
        Ok(NotifierState { context, queue, alarm: Alarm::default(), retry_at: None, draining: None })
    }

    async fn handle(
        &self,
        me: ActorRef<NotifierMsg>,
        message: NotifierMsg,
        state: &mut NotifierState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            NotifierMsg::Waiting(keys) => state.waiting(keys),
            NotifierMsg::Refill => state.take_over().await,
            NotifierMsg::Woke(generation) if !state.alarm.is_current(generation) => return Ok(()),
            NotifierMsg::Ping(question) => {
                question.answer();
                return Ok(());
            }
            NotifierMsg::Woke(_) if state.is_behind() => state.take_over().await,
            NotifierMsg::Woke(_) => {}
            NotifierMsg::Done(key, outcome) => state.queue.done(&key, outcome, MonoTime::now(), jitter()),
            NotifierMsg::Reloaded => {
                state.queue.set_limit(state.context.setup().config.notify.max_in_flight);
                state.take_over().await;
                state.queue.retry_now(MonoTime::now());
            }
            NotifierMsg::Drain(reply) => state.draining = Some(reply),
            #[cfg(feature = "sandbox")]
            NotifierMsg::Drill(drill) => drill.play("the notifier").await,
        }
        state.go_on(&me);
        Ok(())
    }
}

impl NotifierState {
    /// Is it time to take over what could not be read?
    fn is_behind(&self) -> bool {
        self.retry_at.is_some_and(|at| at <= MonoTime::now())
    }

    /// With events off nothing is decided, and what was decided before a reload is dropped by that reload.
    fn waiting(&mut self, keys: Vec<EventKey>) {
        if self.context.setup().receiver.is_some() {
            let (leases, now) = (&self.context.leases, MonoTime::now());
            let here = keys.into_iter().filter(|key| leases.holds_bucket(bucket_of_event(key)));
            here.for_each(|key| self.queue.add(key, now));
        }
    }

    /// Everything that waits with a key of this process is this notifier's to send; or, when events are off, nobody's.
    async fn take_over(&mut self) {
        if self.context.setup().receiver.is_some() {
            let keys = self.context.store.event_keys().await;
            self.retry_at = keys.is_err().then(|| MonoTime::now().plus(STORE_RETRY));
            self.waiting(keys.unwrap_or_default());
            return;
        }
        self.retry_at = None;
        if !self.context.leases.holds_bucket(SINGLETONS) {
            return;
        }
        let context = self.context.clone();
        tokio::spawn(async move {
            match context.store.drop_events().await {
                Ok(0) => {}
                Ok(count) => tracing::warn!(
                    count,
                    "notify: off, because notify.url is not set; dropped the events that waited: {count}"
                ),
                Err(error) => tracing::warn!(
                    %error,
                    "notify: off, because notify.url is not set; the events that wait cannot be dropped yet ({error}), \
                     next try at the next start"
                ),
            }
        });
    }

    fn go_on(&mut self, me: &ActorRef<NotifierMsg>) {
        if let Some(reply) = self.draining.take() {
            if self.queue.in_flight() > 0 {
                self.draining = Some(reply);
            } else {
                // The supervisor may have stopped waiting.
                let _ = reply.send(());
            }
            return;
        }
        if self.context.is_stopping() {
            return;
        }
        let now = MonoTime::now();
        while let Some(key) = self.queue.next(now) {
            self.attempt(me, key);
        }
        let wake_at = [self.queue.wake_at(), self.retry_at].into_iter().flatten().min();
        self.alarm.set(me, wake_at, NotifierMsg::Woke);
    }

    fn attempt(&self, me: &ActorRef<NotifierMsg>, key: EventKey) {
        let (context, me) = (self.context.clone(), me.clone());
        tokio::spawn(async move {
            let ended = AssertUnwindSafe(Box::pin(carry_out(&context, &key))).catch_unwind().await;
            // A notifier that is gone is followed by one that asks the store.
            let _ = me.cast(NotifierMsg::Done(key, ended.unwrap_or(Outcome::Local)));
        });
    }
}

async fn carry_out(context: &Arc<Context>, key: &EventKey) -> Outcome {
    let Some(receiver) = context.setup().receiver.clone() else { return Outcome::Settled { more: false } };
    let bucket = bucket_of_event(key);
    let Some(_work) = context.leases.begin_exclusive_work(bucket) else {
        return if context.leases.holds_bucket(bucket) { Outcome::Local } else { Outcome::Elsewhere };
    };
    let sending = match context.store.begin_event(key).await {
        Ok(Begun::Goes(sending)) => sending,
        Ok(Begun::Nothing) => return Outcome::Settled { more: false },
        Ok(Begun::Busy) | Err(_) => return Outcome::Local,
    };
    let word = sending.event().kind.word();
    match receiver.send(sending.event(), WallTime::now()).await {
        Ok(()) => {
            context.metrics.event(word, "delivered");
            context.notify.answered();
            match sending.delivered().await {
                Ok(more) => Outcome::Settled { more },
                Err(_) => Outcome::Local,
            }
        }
        Err(error) => failed(context, &sending, &error),
    }
}

fn failed(context: &Context, sending: &Sending, error: &NotTaken) -> Outcome {
    let (id, word) = (&sending.event().id, sending.event().kind.word());
    tracing::debug!(
        id,
        kind = word,
        %error,
        "notify [{id}]: the event {word} is not accepted ({error}), retrying later"
    );
    let (outcome, result) = match error.fault {
        Fault::Busy(hint) => (Outcome::Busy { hint }, "failed"),
        Fault::Settings => (Outcome::Misconfigured, "refused"),
        Fault::Event => (Outcome::Refused, "refused"),
    };
    context.metrics.event(word, result);
    match error.fault {
        Fault::Event if sending.is_again() => {}
        Fault::Event => tracing::warn!(
            id,
            kind = word,
            %error,
            "notify [{id}]: the event {word} is refused ({error}), retrying slowly; mend the receiver"
        ),
        Fault::Busy(_) | Fault::Settings => context.notify.failed(&error.text),
    }
    outcome
}
