//! The one reader of the store's [`feed`](crate::store::feed): wakes the actors that a change concerns.
//!
//! ```text
//! store ─ feed ─▶ dispatcher ─┬─ Linked, Unlinked ─▶ supervisor: fits the pages to the links
//!                             ├─ Due, TokenCheck, Recheck, Verify, Parked ─▶ page
//!                             ├─ Outbox  ─▶ uploader
//!                             ├─ Cleanup ─▶ cleanups
//!                             ├─ Event   ─▶ notifier
//!                             ├─ Linked  ─▶ subscriptions
//!                             └─ Reset   ─▶ all of them look into the store
//! ```
//!
//! It follows the [leases](crate::store::leases) as well. When other links are worked on here than before, their pages
//! are started or stopped, and the other actors look into the store.
//!
//! Reading goes on in a task of the actor, so that a stop is dealt with at once. A batch is worked off in pieces of
//! some hundred links, and the supervisor answers for each piece before the next one begins: an import of a hundred
//! thousand links fills no mailbox, and what is published meanwhile coalesces in the feed. Actors are sent keys and
//! never bodies.
//!
//! A dispatcher that dies may have taken a batch with it. Its successor therefore begins as after a reset.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::watch;

use super::cleanups::CleanupsMsg;
use super::notifier::NotifierMsg;
use super::page::PageMsg;
use super::peers::Peers;
use super::shared::Shared;
use super::subscriptions::SubscriptionsMsg;
use super::supervisor::SupervisorMsg;
use super::uploader::UploaderMsg;
use super::{Owned, STORE_RETRY, news};
use crate::context::Context;
use crate::core::lease::{BUCKETS, bucket_of};
use crate::core::link::schedule::Spread;
use crate::core::model::{Cause, LinkKey, MonoTime, PartKey};
use crate::store::Unavailable;
use crate::store::feed::{Batch, LinkChanges, Presence};
use crate::store::leases::Holding;

/// Links in one piece of work.
const AT_ONCE: usize = 250;
/// The pages of so many new links are read at once, since a person may wait for them; more are spread. Fewer in tests,
/// for which hundreds of reads take long.
const READ_AT_ONCE: usize = if cfg!(test) { 50 } else { 500 };
/// Links that come closer together than this come from one login or one import.
const TOGETHER: Duration = Duration::from_secs(5);

/// Messages to the dispatcher.
pub enum DispatcherMsg {
    /// The task that reads the feed panicked.
    Broke,
    /// Panic, to show that no change is lost.
    #[cfg(feature = "sandbox")]
    Drill,
}

/// What the dispatcher is started with.
pub struct DispatcherArgs {
    /// The shared context.
    pub context: Arc<Context>,
    /// What the actors share.
    pub shared: Arc<Shared>,
    /// The actors of which there is one each.
    pub peers: watch::Receiver<Peers>,
    /// The supervisor, which starts and stops pages.
    pub supervisor: ActorRef<SupervisorMsg>,
}

/// What the dispatcher keeps.
pub struct DispatcherState {
    reading: Option<Owned>,
}

/// The dispatcher actor.
pub struct Dispatcher;

impl Actor for Dispatcher {
    type Msg = DispatcherMsg;
    type State = DispatcherState;
    type Arguments = DispatcherArgs;

    async fn pre_start(
        &self,
        me: ActorRef<DispatcherMsg>,
        args: DispatcherArgs,
    ) -> Result<DispatcherState, ActorProcessingErr> {
        let reading = async move {
            let mut work = Work { args, burst: Burst::default(), held: Holding::default() };
            let ended = AssertUnwindSafe(Box::pin(work.read())).catch_unwind().await;
            if ended.is_err() {
                let _ = me.cast(DispatcherMsg::Broke);
            }
        };
        Ok(DispatcherState { reading: Some(Owned(tokio::spawn(reading))) })
    }

    /// The state of an actor that was stopped goes to its supervisor, which may be busy with the stop of everything.
    async fn post_stop(
        &self,
        _me: ActorRef<DispatcherMsg>,
        state: &mut DispatcherState,
    ) -> Result<(), ActorProcessingErr> {
        state.reading = None;
        Ok(())
    }

    async fn handle(
        &self,
        _me: ActorRef<DispatcherMsg>,
        message: DispatcherMsg,
        _state: &mut DispatcherState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            DispatcherMsg::Broke => Err("its reading panicked".into()),
            #[cfg(feature = "sandbox")]
            DispatcherMsg::Drill => panic!("drill: the dispatcher was asked to panic"),
        }
    }
}

struct Work {
    args: DispatcherArgs,
    burst: Burst,
    /// The buckets whose links have pages.
    held: Holding,
}

impl Work {
    /// Ends when the supervisor is gone.
    async fn read(&mut self) {
        let (feed, mut moved) = (self.args.context.feed.clone(), self.args.context.leases.changed());
        let shared = self.args.shared.clone();
        let mut blocked = self.args.context.gate.app_blocked();
        let mut living = self.args.context.store.living();
        living.mark_changed();
        let mut going_on = self.pass_on(Batch { reset: true, ..Batch::default() }).await;
        while going_on.is_some() {
            let next = tokio::select! {
                Ok(()) = moved.changed() => None,
                Ok(()) = living.changed() => {
                    self.args.context.divide(*living.borrow_and_update());
                    continue;
                }
                Ok(()) = blocked.changed() => {
                    self.share_block(*blocked.borrow_and_update());
                    continue;
                }
                () = shared.dispatcher_asked.came() => {
                    shared.dispatcher_asked.answer();
                    continue;
                }
                () = hangs(&shared) => std::future::pending().await,
                batch = feed.next() => Some(batch),
            };
            going_on = match next {
                Some(batch) => self.pass_on(batch).await,
                None => self.follow_leases().await,
            };
        }
    }

    /// Graph has blocked the app: the other daemons stop calling as well. A store that is away makes nobody wait here.
    fn share_block(&self, time: Duration) {
        news::of_block(&self.args.context, time);
        let store = self.args.context.store.clone();
        self.args.shared.tasks.spawn(async move {
            if let Err(error) = store.share_app_block(time).await {
                tracing::debug!("graph: the other daemons do not learn of the block of the app ({error}), Graph says it to them itself");
            }
        });
    }

    /// `None` when the supervisor is gone.
    async fn pass_on(&mut self, batch: Batch) -> Option<()> {
        let Batch { links, cleanup, events, app_blocked, reset } = batch;
        if let Some(millis) = app_blocked {
            self.args.context.gate.block_app(Duration::from_millis(millis));
        }
        if reset {
            self.reset().await?;
        }
        news::of_links(&self.args.context, &links).await;
        let mut links = links.into_iter();
        loop {
            let piece: Vec<(LinkKey, LinkChanges)> = links.by_ref().take(AT_ONCE).collect();
            if piece.is_empty() {
                break;
            }
            self.pass_on_links(piece).await?;
        }
        if cleanup {
            self.peers().clean_up(CleanupsMsg::Look);
        }
        if !events.is_empty() {
            self.peers().notify(NotifierMsg::Waiting(events.into_iter().collect()));
        }
        Some(())
    }

    async fn pass_on_links(&mut self, piece: Vec<(LinkKey, LinkChanges)>) -> Option<()> {
        let moved = |(link, changes): &(LinkKey, LinkChanges)| changes.presence.map(|_| link.clone());
        let moved: Vec<LinkKey> = piece.iter().filter_map(moved).collect();
        let is_linked = |changes: &LinkChanges| changes.presence == Some(Presence::Linked);
        let linked = piece.iter().any(|(_, changes)| is_linked(changes));
        if !moved.is_empty() {
            let interval = self.args.context.setup().config.sync.poll_interval;
            let leases = &self.args.context.leases;
            let here = piece.iter().filter(|(link, changes)| is_linked(changes) && leases.holds(link)).count();
            let spread = self.burst.spread(here, MonoTime::now(), interval);
            self.fit(moved, spread, false).await?;
        }
        let staged = |(link, changes): &(LinkKey, LinkChanges)| {
            let link = link.clone();
            changes.outbox.clone().into_iter().map(move |part| PartKey::new(link.clone(), part))
        };
        let outbox: Vec<PartKey> = piece.iter().flat_map(staged).collect();
        let debounce = self.args.context.setup().config.sync.debounce;
        piece.into_iter().for_each(|(link, changes)| self.wake_page(&link, changes, debounce));
        let peers = self.peers();
        if linked {
            peers.subscribe(SubscriptionsMsg::Ensure);
        }
        if !outbox.is_empty() {
            peers.upload(UploaderMsg::Staged(outbox));
        }
        Some(())
    }

    /// A page that died looks into the store when it is back.
    fn wake_page(&self, link: &LinkKey, changes: LinkChanges, debounce: Duration) {
        let Some(page) = self.args.shared.pages.find(link) else { return };
        if changes.parked {
            let _ = page.actor.cast(PageMsg::Parked);
        }
        for cause in changes.causes {
            match cause {
                Cause::Webhook => self.args.shared.hear_webhook(&page, debounce),
                Cause::Poll | Cause::Link | Cause::Manual => page.due(cause),
            }
        }
        if changes.token_check {
            page.check_token();
        }
        if let Some(generation) = changes.recheck {
            let _ = page.actor.cast(PageMsg::Check(generation));
        }
        if changes.verify {
            let _ = page.actor.cast(PageMsg::Verify(Duration::ZERO));
        }
    }

    /// After a start, or after the store refused writes and was opened again: links, marks and outbox may be other ones
    /// than anybody knows. A link or an unlink that was refused may have reached the disk all the same.
    async fn reset(&mut self) -> Option<()> {
        let held = self.args.context.leases.held();
        self.have_others_look();
        let spread = self.spread_of(held.count()).await;
        self.fit_all(spread, |_| true).await?;
        self.held = held;
        self.fit_strays().await
    }

    /// After other links came to be worked on here, or elsewhere. The store's memory is as new as the leases, so that
    /// what is looked at now shows everything that was decided elsewhere before.
    async fn follow_leases(&mut self) -> Option<()> {
        let held = self.args.context.leases.held();
        let (count, gained) = (held.count(), held.gained_since(&self.held));
        let gained_count = gained.len();
        if held != self.held {
            tracing::info!(
                held = count,
                gained = gained_count,
                "store: leases moved, {count} of {BUCKETS} buckets are worked on here, {gained_count} of them anew"
            );
        }
        self.fit_lost().await?;
        if !gained.is_empty() {
            let spread = self.spread_of(gained.len()).await;
            self.fit_all(spread, |bucket| gained.contains(&bucket)).await?;
        }
        self.held = held;
        // Behind the end of the pages: nothing of a bucket that was lost begins any more.
        self.have_others_look();
        self.peers().subscribe(SubscriptionsMsg::Ensure);
        Some(())
    }

    /// The pages of links that are worked on elsewhere.
    async fn fit_lost(&self) -> Option<()> {
        let Context { leases, .. } = &*self.args.context;
        let lost: Vec<LinkKey> =
            self.args.shared.pages.links().into_iter().filter(|link| !leases.holds(link)).collect();
        for links in lost.chunks(AT_ONCE) {
            self.fit(links.to_vec(), Spread::default(), false).await?;
        }
        Some(())
    }

    fn have_others_look(&self) {
        let peers = self.peers();
        peers.upload(UploaderMsg::Refill);
        peers.clean_up(CleanupsMsg::Look);
        peers.notify(NotifierMsg::Refill);
    }

    /// Over how long the reads of all links of so many buckets are spread.
    async fn spread_of(&self, buckets: usize) -> Spread {
        let count = loop {
            match self.args.context.store.counts().await {
                Ok(counts) => break counts.links as usize * buckets / usize::from(BUCKETS),
                Err(error) => self.wait_for_store(&error).await,
            }
        };
        Spread::after_a_start(count, self.args.context.setup().config.sync.poll_interval)
    }

    /// Fits the pages of the links in these buckets.
    async fn fit_all(&self, spread: Spread, is_meant: impl Fn(u16) -> bool) -> Option<()> {
        let mut after = None;
        loop {
            let mut piece = match self.args.context.store.links_after(after.clone(), AT_ONCE).await {
                Ok(piece) => piece,
                Err(error) => {
                    self.wait_for_store(&error).await;
                    continue;
                }
            };
            let Some(last) = piece.last().cloned() else { return Some(()) };
            piece.retain(|link| is_meant(bucket_of(link)));
            if !piece.is_empty() {
                self.fit(piece, spread, true).await?;
            }
            // A thousand pieces of which none is meant would otherwise let nobody else work.
            tokio::task::yield_now().await;
            self.args.shared.dispatcher_asked.answer();
            after = Some(last);
        }
    }

    /// The pages of links that are gone.
    async fn fit_strays(&self) -> Option<()> {
        for links in self.args.shared.pages.links().chunks(AT_ONCE) {
            let mut gone = Vec::new();
            for link in links {
                // One that cannot be looked at is left to the supervisor, which asks again.
                let generation = self.args.context.store.generation(link).await;
                gone.extend((!matches!(generation, Ok(Some(_)))).then(|| link.clone()));
            }
            if !gone.is_empty() {
                self.fit(gone, Spread::default(), false).await?;
            }
            tokio::task::yield_now().await;
            self.args.shared.dispatcher_asked.answer();
        }
        Some(())
    }

    /// The supervisor fits the pages of these links to the store. Repeated while the store cannot be read, which does
    /// no harm: a page that is asked to look once more finds nothing new. Each piece is progress: all links of a start
    /// take longer than a part may be silent.
    async fn fit(&self, links: Vec<LinkKey>, spread: Spread, look: bool) -> Option<()> {
        loop {
            self.args.shared.dispatcher_asked.answer();
            let links = links.clone();
            let message = |done| SupervisorMsg::Fit { links, spread, look, done };
            match self.args.supervisor.call(message, None).await {
                Ok(ractor::rpc::CallResult::Success(Ok(()))) => return Some(()),
                Ok(ractor::rpc::CallResult::Success(Err(error))) => self.wait_for_store(&error).await,
                _ => return None,
            }
        }
    }

    async fn wait_for_store(&self, error: &Unavailable) {
        tracing::debug!(
            %error,
            "actor [dispatcher]: the links cannot be looked at ({error}), asking again in {STORE_RETRY:?}"
        );
        tokio::time::sleep(STORE_RETRY).await;
    }

    fn peers(&self) -> Peers {
        self.args.peers.borrow().clone()
    }
}

/// Ends when a drill asks the reader to hang.
async fn hangs(shared: &Shared) {
    #[cfg(feature = "sandbox")]
    shared.dispatcher_hangs.notified().await;
    #[cfg(not(feature = "sandbox"))]
    {
        let _ = shared;
        std::future::pending::<()>().await;
    }
}

/// New links that come close together.
#[derive(Debug, Default)]
struct Burst {
    count: usize,
    last: Option<MonoTime>,
}

impl Burst {
    /// So many more are new. Returns over how long the first reads of their pages are spread.
    fn spread(&mut self, links: usize, now: MonoTime, interval: Duration) -> Spread {
        if self.last.is_none_or(|last| now.since(last) > TOGETHER) {
            self.count = 0;
        }
        self.count += links;
        self.last = Some(now);
        if self.count > READ_AT_ONCE { Spread::of_an_import(self.count, interval) } else { Spread::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pages_of_a_login_are_read_at_once_and_those_of_a_large_import_are_spread() {
        // Two of them are read at once, three are not.
        const SOME: usize = READ_AT_ONCE * 2 / 5;
        let (mut burst, hour) = (Burst::default(), Duration::from_secs(3600));
        let at = |secs: u64| MonoTime(1_000_000 + secs * 1000);
        assert_eq!(burst.spread(SOME, at(0), hour), Spread::default());
        assert_eq!(burst.spread(SOME, at(1), hour), Spread::default());
        let spread = burst.spread(SOME, at(2), hour);
        assert_eq!(spread, Spread::of_an_import(3 * SOME, hour));
        assert!(burst.spread(SOME, at(3), hour).asked > spread.asked);
        assert_eq!(burst.spread(SOME, at(60), hour), Spread::default());
    }
}
