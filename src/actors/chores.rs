//! Does what is left to do after links are gone: feeds the store's chores to the [`list`](crate::chore::List) and
//! carries out what that decides. Why each step is safe stands there.
//!
//! The list is taken from the store at start, when links come or go, when a settle left something, and when the store
//! is back; several times a second at most, because all of it is taken each time, and thousands of unlinks are as many
//! reasons to look. A try runs in a task of its own, behind the gate of Graph like every other call; one that outlives this
//! actor does no harm, because each may be repeated.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use ractor::{Actor, ActorProcessingErr, ActorRef};

use super::page::PageMsg;
use super::{Alarm, jitter};
use crate::chore::{Chore, Ended, List, Step, Why};
use crate::graph::{DeadReason, GraphError, GraphErrorKind};
use crate::house::{Dependency, House};
use crate::model::{Generation, LinkKey, Millis};
use crate::store::Unavailable;
use crate::store::chores::Ready;

/// How long a try waits that cannot be made at this moment, for no fault of anybody's.
const SOON: Duration = Duration::from_secs(1);

/// Between two looks into the store.
const LOOKS_APART: Duration = Duration::from_millis(250);

/// Messages to the chores actor.
pub enum ChoresMsg {
    /// The store may have other chores than before.
    Look,
    /// The alarm of this generation rang.
    Woke(u64),
    /// The try of the chore with this number ended.
    Ended(Chore, u64, Ended),
    /// The chore with this number was taken from the store, or could not be.
    Closed(Chore, u64, Result<Vec<(LinkKey, Generation)>, Unavailable>),
}

/// What the chores actor keeps.
pub struct ChoresState {
    house: Arc<House>,
    list: List,
    alarm: Alarm,
    looked_at: Millis,
    /// The store may have other chores than at the last look.
    stale: bool,
}

/// The chores actor.
pub struct Chores;

impl Actor for Chores {
    type Msg = ChoresMsg;
    type State = ChoresState;
    type Arguments = Arc<House>;

    async fn pre_start(&self, me: ActorRef<ChoresMsg>, house: Arc<House>) -> Result<ChoresState, ActorProcessingErr> {
        house.set_addresses(|addresses| addresses.chores = Some(me));
        Ok(ChoresState {
            house,
            list: List::default(),
            alarm: Alarm::default(),
            looked_at: Millis::steady(),
            stale: false,
        })
    }

    async fn post_start(&self, me: ActorRef<ChoresMsg>, state: &mut ChoresState) -> Result<(), ActorProcessingErr> {
        let standing = state.house.store.chores();
        let earlier = state.longest_straggler();
        state.list.take_over(standing, earlier, Millis::steady());
        state.go_on(&me);
        Ok(())
    }

    async fn handle(
        &self,
        me: ActorRef<ChoresMsg>,
        message: ChoresMsg,
        state: &mut ChoresState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            ChoresMsg::Woke(generation) if !state.alarm.is_current(generation) => return Ok(()),
            ChoresMsg::Woke(_) => {}
            ChoresMsg::Look => state.stale = true,
            ChoresMsg::Ended(chore, seq, ended) => {
                let straggler = state.straggler(&chore);
                state.list.ended(&chore, seq, ended, straggler, Millis::steady(), jitter());
                state.stale = true;
            }
            ChoresMsg::Closed(chore, seq, closed) => state.closed(&chore, seq, closed),
        }
        state.go_on(&me);
        Ok(())
    }
}

impl ChoresState {
    fn look_again_at(&self) -> Option<Millis> {
        self.stale.then(|| self.looked_at.plus(LOOKS_APART))
    }

    fn look_if_due(&mut self) {
        let now = Millis::steady();
        if self.look_again_at().is_some_and(|at| at <= now) {
            (self.looked_at, self.stale) = (now, false);
            self.list.take_over(self.house.store.chores(), Duration::ZERO, now);
        }
    }

    /// How long a try of this chore may take effect after nobody waits for its answer any more.
    fn straggler(&self, chore: &Chore) -> Duration {
        let config = &self.house.setup().config;
        2 * match chore {
            Chore::Unsubscribe(_) | Chore::Revoke(_) => config.facebook.request_timeout,
            Chore::DeleteAgain(_) => config.spaces.request_timeout,
        }
    }

    fn longest_straggler(&self) -> Duration {
        let config = &self.house.setup().config;
        2 * config.facebook.request_timeout.max(config.spaces.request_timeout)
    }

    fn go_on(&mut self, me: &ActorRef<ChoresMsg>) {
        self.look_if_due();
        while !self.house.is_stopping()
            && let Some(step) = self.list.next(Millis::steady())
        {
            match step {
                Step::Try(chore, seq) => self.begin(me, chore, seq),
                Step::Close(chore, seq, why) => self.close(me, chore, seq, why),
            }
        }
        let wake_at = [self.list.wake_at(), self.look_again_at()].into_iter().flatten().min();
        let wake_at = wake_at.filter(|_| !self.house.is_stopping());
        self.alarm.set(me, wake_at, ChoresMsg::Woke);
    }

    fn begin(&self, me: &ActorRef<ChoresMsg>, chore: Chore, seq: u64) {
        let (house, me) = (self.house.clone(), me.clone());
        self.house.tasks.spawn(async move {
            let trying = AssertUnwindSafe(Box::pin(attempt(&house, &chore, seq))).catch_unwind().await;
            let ended = trying.unwrap_or(Ended::Later { hint: None, unanswered: true });
            // An actor that is gone is followed by one that reads the store.
            let _ = me.cast(ChoresMsg::Ended(chore, seq, ended));
        });
    }

    fn close(&self, me: &ActorRef<ChoresMsg>, chore: Chore, seq: u64, why: Why) {
        let (word, about) = (chore.word(), About(&chore));
        match why {
            Why::Done => tracing::info!(chore = word, %about, "cleanup [{word} {about}]: done"),
            Why::TooOld => {
                let left = left(&chore);
                tracing::warn!(chore = word, %about, "cleanup [{word} {about}]: given up after seven days; {left}");
            }
            Why::Void => {
                tracing::debug!(chore = word, %about, "cleanup [{word} {about}]: dropped, a newer link overrides it");
            }
            Why::Never => {}
        }
        let (house, me) = (self.house.clone(), me.clone());
        self.house.tasks.spawn(async move {
            let closed = house.store.finish_chore(&chore, seq).await;
            let _ = me.cast(ChoresMsg::Closed(chore, seq, closed));
        });
    }

    /// Links that were made meanwhile look for themselves what the chore left of their subscription, token or object.
    fn closed(&mut self, chore: &Chore, seq: u64, closed: Result<Vec<(LinkKey, Generation)>, Unavailable>) {
        self.list.closed(chore, seq, closed.is_ok(), Millis::steady());
        for (link, generation) in closed.unwrap_or_default() {
            let Some(place) = self.house.directory.find(&link) else { continue };
            let message = match chore {
                Chore::Unsubscribe(_) | Chore::Revoke(_) => PageMsg::Check(generation),
                Chore::DeleteAgain(_) => PageMsg::Verify(Duration::ZERO),
            };
            // A page that is gone looks when it is back: its subscription was struck, its object waits for the poll.
            let _ = place.actor.cast(message);
        }
    }
}

/// Whom a chore is about, for the log.
struct About<'a>(&'a Chore);

impl std::fmt::Display for About<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Chore::Unsubscribe(page) => page.fmt(f),
            Chore::Revoke(person) => person.fmt(f),
            Chore::DeleteAgain(link) => link.fmt(f),
        }
    }
}

/// The effect of a chore that stays undone, and the remedy where there is one.
fn left(chore: &Chore) -> &'static str {
    match chore {
        Chore::Unsubscribe(_) => "deliveries about the page go on and are dropped",
        Chore::Revoke(_) => "the person can remove the app in the settings on facebook.com",
        Chore::DeleteAgain(_) => "see whether the object is still in the bucket, and delete it there",
    }
}

async fn attempt(house: &Arc<House>, chore: &Chore, seq: u64) -> Ended {
    match chore {
        Chore::DeleteAgain(link) => delete_again(house, link, seq).await,
        Chore::Unsubscribe(_) | Chore::Revoke(_) => match house.store.chore_token(chore, seq) {
            Ready::Yes(token) => {
                let graph = house.setup().graph.clone();
                let answer = match chore {
                    Chore::Unsubscribe(page) => graph.unsubscribe_page(page, &token).await,
                    Chore::Revoke(person) => graph.revoke(person, &token).await,
                    Chore::DeleteAgain(_) => Ok(()),
                };
                note(&house.graph, answer.is_ok());
                answer.map_or_else(|error| failed(chore, &error), |()| Ended::Done)
            }
            Ready::NotYet => Ended::Later { hint: Some(SOON), unanswered: false },
            Ready::Never => {
                let (word, about, left) = (chore.word(), About(chore), left(chore));
                tracing::warn!(
                    chore = word,
                    %about,
                    "cleanup [{word} {about}]: left undone, the token for it cannot be opened; {left}"
                );
                Ended::Never
            }
        },
    }
}

/// A cleanup that succeeds shows that the other side answers. One that fails shows nothing: it may be tried for days for
/// reasons of its own, and readiness is a matter of reads and writes.
fn note(dependency: &Dependency, succeeded: bool) {
    if succeeded {
        dependency.well();
    }
}

fn failed(chore: &Chore, error: &GraphError) -> Ended {
    // With the app removed from the account Facebook has ended both, the tokens and the subscription.
    if matches!(error.kind, GraphErrorKind::TokenDead { reason: DeadReason::AppRemoved }) {
        return Ended::Done;
    }
    let ended = Ended::of(&error.kind, error.status.is_some());
    let (word, about) = (chore.word(), About(chore));
    match (ended, chore) {
        (Ended::Never, Chore::Unsubscribe(_)) => {
            tracing::warn!(
                chore = word,
                %about,
                %error,
                "cleanup [{word} {about}]: the page cannot be unsubscribed with the token it had ({error}); {}",
                left(chore)
            );
        }
        (Ended::Never, _) => {
            tracing::warn!(
                chore = word,
                %about,
                %error,
                "cleanup [{word} {about}]: the app cannot be taken out of the person's account ({error}); {}",
                left(chore)
            );
        }
        _ => {
            tracing::debug!(chore = word, %about, %error, "cleanup [{word} {about}]: failed ({error}), retrying later")
        }
    }
    ended
}

/// The right to write the object is held from before the look until the delete was answered.
async fn delete_again(house: &Arc<House>, link: &LinkKey, seq: u64) -> Ended {
    let Some(_permit) = house.write_permit(link) else { return Ended::Later { hint: Some(SOON), unanswered: false } };
    if !house.store.is_left_over(link, seq) {
        return Ended::Done;
    }
    let answer = house.setup().spaces.erase(&link.object_key()).await;
    note(&house.spaces, answer.is_ok());
    match answer {
        Ok(_) => Ended::Done,
        Err(error) => {
            tracing::debug!(%link, %error, "cleanup [delete_again {link}]: failed ({error}), retrying later");
            Ended::Later { hint: error.retry_after, unanswered: error.status.is_none() }
        }
    }
}
