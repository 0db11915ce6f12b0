//! The one writer to Spaces: feeds what happens to the [`queue`](crate::upload::queue) and carries out what it
//! decides.
//!
//! The queue holds links, never bodies; a write loads its body from the outbox, writes it, and settles, in a task of
//! its own. Such a task outlives an uploader that dies, and keeps the right to write its object until it ends: the
//! successor finds that right taken and comes back, so that no object is ever written twice at once.
//!
//! A write that ended without an answer may still take effect later, after a newer one. When a later write of that
//! object succeeds, its page is told to compare the object once such a straggler must be through.

use std::collections::HashSet;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};

use super::page::PageMsg;
use super::{Alarm, Owned, jitter};
use crate::house::House;
use crate::ledger::Deed;
use crate::model::{LinkKey, Millis, ObjectKey};
use crate::spaces::{SpacesError, SpacesErrorKind};
use crate::upload::queue::{Outcome, Queue};

/// How often Spaces is asked for a sign of life when nothing else asks.
const PROBE_WELL: Duration = Duration::from_secs(5 * 60);
const PROBE_ILL: Duration = Duration::from_secs(15);
/// Failures in a row after which Spaces is asked at once whether it is there at all.
const PROBE_AFTER: u32 = 3;

/// Messages to the uploader.
pub enum UploaderMsg {
    /// Something was staged for this link.
    Staged(LinkKey),
    /// The alarm of this generation rang.
    Woke(u64),
    /// A write ended.
    Done(LinkKey, Ended),
    /// The store is back: take over its outbox.
    Refill,
    /// Other settings hold.
    Reloaded,
    /// Ask Spaces for a sign of life.
    Probe,
    /// Spaces gave one, or did not.
    Probed {
        /// Did it?
        well: bool,
    },
    /// Begin nothing more when what is owed is written, and answer then.
    Drain(RpcReplyPort<()>),
    /// Panic, to show that nothing is lost.
    #[cfg(feature = "sandbox")]
    Drill,
}

/// How a write ended.
pub struct Ended {
    outcome: Outcome,
    /// No answer came: it may or may not have happened.
    unanswered: bool,
}

/// What the uploader keeps.
pub struct UploaderState {
    house: Arc<House>,
    queue: Queue,
    alarm: Alarm,
    uncertain: HashSet<LinkKey>,
    draining: Option<RpcReplyPort<()>>,
    /// One at a time: a new one takes the place of the one before.
    probe: Option<Owned>,
    /// The last sign of life did not come.
    ill: bool,
}

/// The uploader actor.
pub struct Uploader;

impl Actor for Uploader {
    type Msg = UploaderMsg;
    type State = UploaderState;
    type Arguments = Arc<House>;

    async fn pre_start(
        &self,
        me: ActorRef<UploaderMsg>,
        house: Arc<House>,
    ) -> Result<UploaderState, ActorProcessingErr> {
        let queue = Queue::new(house.setup().config.spaces.max_in_flight);
        house.set_addresses(|addresses| addresses.uploader = Some(me.clone()));
        let (alarm, uncertain) = (Alarm::default(), HashSet::new());
        Ok(UploaderState { house, queue, alarm, uncertain, draining: None, probe: None, ill: false })
    }

    async fn post_start(&self, me: ActorRef<UploaderMsg>, state: &mut UploaderState) -> Result<(), ActorProcessingErr> {
        me.cast(UploaderMsg::Probe)?;
        state.refill();
        state.go_on(&me);
        Ok(())
    }

    async fn handle(
        &self,
        me: ActorRef<UploaderMsg>,
        message: UploaderMsg,
        state: &mut UploaderState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            UploaderMsg::Staged(link) => state.queue.add(link, Millis::steady()),
            UploaderMsg::Woke(generation) if !state.alarm.is_current(generation) => return Ok(()),
            UploaderMsg::Woke(_) => {}
            UploaderMsg::Done(link, ended) => state.done(&me, &link, &ended),
            UploaderMsg::Refill => state.refill(),
            UploaderMsg::Reloaded => {
                state.queue.set_limit(state.house.setup().config.spaces.max_in_flight);
                state.queue.retry_now(Millis::steady());
                me.cast(UploaderMsg::Probe)?;
            }
            UploaderMsg::Probe => {
                // An entry whose stager was cut off before it could tell is found here.
                state.refill();
                state.probe(&me);
            }
            UploaderMsg::Probed { well } => state.probed(well),
            UploaderMsg::Drain(reply) => state.draining = Some(reply),
            #[cfg(feature = "sandbox")]
            UploaderMsg::Drill => panic!("drill: the uploader was asked to panic"),
        }
        state.go_on(&me);
        Ok(())
    }
}

impl UploaderState {
    fn refill(&mut self) {
        let now = Millis::steady();
        self.house.store.outbox_links().into_iter().for_each(|link| self.queue.add(link, now));
    }

    fn go_on(&mut self, me: &ActorRef<UploaderMsg>) {
        let now = Millis::steady();
        while let Some(link) = self.queue.next(now) {
            self.write(me, link);
        }
        self.alarm.set(me, self.queue.wake_at(), UploaderMsg::Woke);
        let idle = self.queue.in_flight() == 0 && (self.queue.is_empty() || self.queue.failures_in_row() > 0);
        if let Some(reply) = self.draining.take_if(|_| idle) {
            // The supervisor may have stopped waiting.
            let _ = reply.send(());
        }
    }

    fn write(&mut self, me: &ActorRef<UploaderMsg>, link: LinkKey) {
        let (house, me) = (self.house.clone(), me.clone());
        self.house.tasks.spawn(async move {
            let ended = match house.write_permit(&link) {
                Some(permit) => {
                    let ended = AssertUnwindSafe(Box::pin(carry_out(&house, &link))).catch_unwind().await;
                    drop(permit);
                    // A write that panicked gives its place back like any other that failed.
                    ended.unwrap_or(Ended { outcome: Outcome::Busy { hint: None }, unanswered: true })
                }
                None => Ended { outcome: Outcome::Local, unanswered: false },
            };
            // An uploader that is gone is followed by one that reads the outbox.
            let _ = me.cast(UploaderMsg::Done(link, ended));
        });
    }

    fn done(&mut self, me: &ActorRef<UploaderMsg>, link: &LinkKey, ended: &Ended) {
        let failures = self.queue.failures_in_row();
        self.queue.done(link, ended.outcome, Millis::steady(), jitter());
        if self.queue.failures_in_row() > failures && self.queue.failures_in_row() == PROBE_AFTER {
            self.probe(me);
        }
        if ended.unanswered {
            self.uncertain.insert(link.clone());
        } else if matches!(ended.outcome, Outcome::Settled { .. }) && self.uncertain.remove(link) {
            let straggler = self.house.setup().config.spaces.request_timeout * 2;
            match self.house.directory.find(link) {
                // A page that is gone compares with its next poll.
                Some(place) => drop(place.actor.cast(PageMsg::Verify(straggler))),
                None => self.delete_again(link, straggler),
            }
        }
    }

    /// The link is gone and its object was deleted, while a write without an answer may still be on its way: once that
    /// must be through, the object is deleted again, unless the page was linked anew.
    fn delete_again(&self, link: &LinkKey, after: Duration) {
        let (house, link) = (self.house.clone(), link.clone());
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            let owes = house.store.outbox_links().contains(&link);
            if owes || house.store.view(&link).is_some() {
                return;
            }
            if let Some(_permit) = house.write_permit(&link)
                && let Err(error) = house.setup().spaces.delete(&link.object_key()).await
            {
                tracing::warn!(%link, %error, "an unlinked object could not be deleted a second time");
            }
        });
    }

    /// A read of an object that does not exist tells a missing bucket, a wrong key and a dead endpoint apart.
    fn probe(&mut self, me: &ActorRef<UploaderMsg>) {
        let (house, me) = (self.house.clone(), me.clone());
        let task = async move {
            let key = ObjectKey::scratch(uuid::Uuid::new_v4());
            let answer = house.setup().spaces.get(&key).await;
            house.note_spaces(&answer);
            let well = answer.is_ok();
            let _ = me.cast(UploaderMsg::Probed { well });
            tokio::time::sleep(if well { PROBE_WELL } else { PROBE_ILL }).await;
            let _ = me.cast(UploaderMsg::Probe);
        };
        self.probe = Some(Owned(tokio::spawn(task)));
    }

    /// A sign of life after none ends the waiting, however far the backoff had grown.
    fn probed(&mut self, well: bool) {
        let was_ill = std::mem::replace(&mut self.ill, !well);
        if well && was_ill {
            self.queue.retry_now(Millis::steady());
        }
    }
}

async fn carry_out(house: &Arc<House>, link: &LinkKey) -> Ended {
    let local = Ended { outcome: Outcome::Local, unanswered: false };
    let item = match house.store.outbox_item(link).await {
        Ok(Some(item)) => item,
        Ok(None) => return Ended { outcome: Outcome::Settled { more: false }, unanswered: false },
        Err(_) => {
            // A damaged entry turned into a mark, of which its page does not know yet.
            if let Some(mark) = house.store.unclaimed_mark(link) {
                house.directory.tell(std::slice::from_ref(link), mark.cause);
            }
            return local;
        }
    };
    let spaces = house.setup().spaces.clone();
    let answer = match item.staged.deed {
        Deed::Put(_) => spaces.put(&link.object_key(), item.body.clone()).await.map(|done| Some(done.etag)),
        Deed::Delete => spaces.delete(&link.object_key()).await.map(|()| None),
    };
    house.note_spaces(&answer);
    match answer {
        Ok(etag) => {
            house.metrics.mark_to_object(Millis::now().since(item.staged.marked_at));
            match house.store.settle(link, &item, etag).await {
                Ok(more) => Ended { outcome: Outcome::Settled { more }, unanswered: false },
                Err(_) => local,
            }
        }
        Err(error) => failed(link, &error),
    }
}

fn failed(link: &LinkKey, error: &SpacesError) -> Ended {
    tracing::debug!(%link, %error, "an object could not be written yet");
    let outcome = match error.kind {
        SpacesErrorKind::Misconfigured { .. } | SpacesErrorKind::Clock => Outcome::Misconfigured,
        SpacesErrorKind::Busy | SpacesErrorKind::SlowDown | SpacesErrorKind::Corrupt => Outcome::Busy { hint: None },
    };
    Ended { outcome, unanswered: error.status.is_none() }
}
