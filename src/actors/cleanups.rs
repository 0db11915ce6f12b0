//! Does what is left to do after links are gone: feeds the store's cleanups to the
//! [`list`](crate::core::cleanup::CleanupQueue) and carries out what that decides. Why each step is safe stands there.
//!
//! The list is taken from the store at start, when the cleanups there change, and when the store is back; several times
//! a second at most, because all of it is taken each time, and thousands of unlinks are as many reasons to look. A try
//! runs in a task of its own, behind the gate of Graph like every other call; one that outlives this actor does no
//! harm, because each may be repeated.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use ractor::{Actor, ActorProcessingErr, ActorRef};

use super::shared::Shared;
use super::{Alarm, STORE_RETRY, jitter};
use crate::context::{Context, Dependency};
use crate::core::catalogue::Piece;
use crate::core::cleanup::{Cleanup, CleanupEnd, CleanupQueue, CleanupStep, TryEnd};
use crate::core::lease::bucket_of_cleanup;
use crate::core::model::{LinkKey, MonoTime, PartKey, Source};
use crate::metrics::Question;
use crate::services::redaction;
use crate::services::uninstall::{self, Undone};
use crate::sources::api::SourceError;
use crate::spaces::{Listing, SpacesError, SpacesErrorKind};
use crate::store::Unavailable;
use crate::store::cleanups::Ready;
use crate::store::leases::{Guard, Holding};

/// How long a try waits that cannot be made at this moment, for no fault of anybody's.
const SOON: Duration = Duration::from_secs(1);

/// Parts of a link that are forgotten in one go.
const PARTS_AT_ONCE: usize = 200;
/// No more are forgotten while so many of the link wait for Spaces,
const PARTS_WAITING: usize = 1000;
/// or so many of all links.
const ALL_WAITING: u64 = 20_000;

/// Between two looks into the store.
const LOOKS_APART: Duration = Duration::from_millis(250);

/// Messages to the cleanups actor.
pub enum CleanupsMsg {
    /// The store may have other cleanups than before.
    Look,
    /// The alarm of this generation rang.
    Woke(u64),
    /// The try of the cleanup with this number ended.
    TryEnd(Cleanup, u64, TryEnd),
    /// The cleanup with this number was taken from the store, or could not be.
    Closed(Cleanup, u64, Result<(), Unavailable>),
    /// Fail, to show that nothing is left undone.
    #[cfg(feature = "sandbox")]
    Drill(crate::control::Drill),
    /// Answer: a sign of life.
    Ping(Question),
}

/// What the cleanups actor keeps.
pub struct CleanupsState {
    context: Arc<Context>,
    shared: Arc<Shared>,
    list: CleanupQueue,
    alarm: Alarm,
    /// `None` before the first look.
    looked_at: Option<MonoTime>,
    /// The store could not be read then.
    failed_at: Option<MonoTime>,
    /// The store may have other cleanups than at the last look.
    stale: bool,
    /// The buckets that were worked on here at the last look.
    held: Holding,
}

/// The cleanups actor.
pub struct Cleanups;

impl Actor for Cleanups {
    type Msg = CleanupsMsg;
    type State = CleanupsState;
    type Arguments = (Arc<Context>, Arc<Shared>);

    async fn pre_start(
        &self,
        _me: ActorRef<CleanupsMsg>,
        (context, shared): (Arc<Context>, Arc<Shared>),
    ) -> Result<CleanupsState, ActorProcessingErr> {
        Ok(CleanupsState {
            context,
            shared,
            list: CleanupQueue::default(),
            alarm: Alarm::default(),
            looked_at: None,
            failed_at: None,
            stale: false,
            held: Holding::default(),
        })
    }

    async fn post_start(&self, me: ActorRef<CleanupsMsg>, state: &mut CleanupsState) -> Result<(), ActorProcessingErr> {
        state.stale = true;
        state.go_on(&me).await;
        Ok(())
    }

    async fn handle(
        &self,
        me: ActorRef<CleanupsMsg>,
        message: CleanupsMsg,
        state: &mut CleanupsState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            CleanupsMsg::Woke(generation) if !state.alarm.is_current(generation) => return Ok(()),
            CleanupsMsg::Ping(question) => {
                question.answer();
                return Ok(());
            }
            CleanupsMsg::Woke(_) => {}
            CleanupsMsg::Look => state.stale = true,
            CleanupsMsg::TryEnd(cleanup, seq, ended) => {
                let in_doubt = state.in_doubt(&cleanup);
                state.list.ended(&cleanup, seq, ended, in_doubt, MonoTime::now(), jitter());
                state.stale = true;
            }
            CleanupsMsg::Closed(cleanup, seq, closed) => {
                state.list.closed(&cleanup, seq, closed.is_ok(), MonoTime::now());
            }
            #[cfg(feature = "sandbox")]
            CleanupsMsg::Drill(drill) => drill.play("the cleanups actor").await,
        }
        state.go_on(&me).await;
        Ok(())
    }
}

impl CleanupsState {
    fn look_again_at(&self) -> Option<MonoTime> {
        let after_failure = self.failed_at.map(|at| at.plus(STORE_RETRY));
        let after_look = self.looked_at.map(|at| at.plus(LOOKS_APART));
        let earliest = after_failure.or(after_look).unwrap_or_else(MonoTime::now);
        self.stale.then_some(earliest)
    }

    async fn look_if_due(&mut self) {
        if self.look_again_at().is_none_or(|at| at > MonoTime::now()) {
            return;
        }
        let (held, standing) = (self.context.leases.held(), self.context.store.cleanups().await);
        let now = MonoTime::now();
        let Ok(mut standing) = standing else {
            self.failed_at = Some(now);
            return;
        };
        standing.retain(|standing| self.context.leases.holds_bucket(bucket_of_cleanup(&standing.cleanup)));
        // Tries of an earlier actor or of another process may still take effect.
        let has_gained = !held.gained_since(&self.held).is_empty();
        let earlier = if self.looked_at.is_none() || has_gained { self.longest_doubt() } else { Duration::ZERO };
        self.held = held;
        (self.looked_at, self.failed_at, self.stale) = (Some(now), None, false);
        self.list.take_over(standing, earlier, now);
    }

    /// How long a try of this cleanup may take effect after nobody waits for its answer any more.
    fn in_doubt(&self, cleanup: &Cleanup) -> Duration {
        let config = &self.context.setup().config;
        2 * match cleanup {
            Cleanup::Unsubscribe(_) | Cleanup::Revoke(_) => config.facebook.request_timeout,
            Cleanup::Uninstall(_) | Cleanup::Redact(_) => config.shopify.request_timeout,
            Cleanup::DeleteAgain(_) => config.spaces.request_timeout,
            // It asks nobody.
            Cleanup::ForgetParts(_) => Duration::ZERO,
        }
    }

    fn longest_doubt(&self) -> Duration {
        let config = &self.context.setup().config;
        let sources = config.facebook.request_timeout.max(config.shopify.request_timeout);
        2 * sources.max(config.spaces.request_timeout)
    }

    async fn go_on(&mut self, me: &ActorRef<CleanupsMsg>) {
        self.look_if_due().await;
        while !self.context.is_stopping()
            && let Some(step) = self.list.next(MonoTime::now())
        {
            match step {
                CleanupStep::Try(cleanup, seq) => self.begin(me, cleanup, seq),
                CleanupStep::Close(cleanup, seq, why) => self.close(me, cleanup, seq, why),
            }
        }
        let wake_at = [self.list.wake_at(), self.look_again_at()].into_iter().flatten().min();
        let wake_at = wake_at.filter(|_| !self.context.is_stopping());
        self.alarm.set(me, wake_at, CleanupsMsg::Woke);
    }

    fn begin(&self, me: &ActorRef<CleanupsMsg>, cleanup: Cleanup, seq: u64) {
        let (context, shared, me) = (self.context.clone(), self.shared.clone(), me.clone());
        self.shared.tasks.spawn(async move {
            let ended = match context.leases.begin_exclusive_work(bucket_of_cleanup(&cleanup)) {
                Some(work) => {
                    let trying = Box::pin(attempt(&context, &shared, &cleanup, seq, &work));
                    let ended = AssertUnwindSafe(trying).catch_unwind().await;
                    ended.unwrap_or(TryEnd::Later { hint: None, unanswered: true })
                }
                None => TryEnd::Later { hint: Some(SOON), unanswered: false },
            };
            // An actor that is gone is followed by one that reads the store.
            let _ = me.cast(CleanupsMsg::TryEnd(cleanup, seq, ended));
        });
    }

    fn close(&self, me: &ActorRef<CleanupsMsg>, cleanup: Cleanup, seq: u64, why: CleanupEnd) {
        let (word, about, link) = (cleanup.word(), About(&cleanup), link_of(&cleanup));
        match why {
            CleanupEnd::Done => tracing::info!(cleanup = word, %about, link, "cleanup [{word} {about}]: done"),
            CleanupEnd::TooOld => {
                let left = left(&cleanup);
                tracing::warn!(cleanup = word, %about, link, "cleanup [{word} {about}]: given up after seven days; {left}");
            }
            CleanupEnd::Void => {
                tracing::debug!(cleanup = word, %about, link, "cleanup [{word} {about}]: dropped, a newer link overrides it");
            }
            CleanupEnd::Never => {}
        }
        let (context, me) = (self.context.clone(), me.clone());
        self.shared.tasks.spawn(async move {
            let closed = context.store.finish_cleanup(&cleanup, seq).await;
            let _ = me.cast(CleanupsMsg::Closed(cleanup, seq, closed));
        });
    }
}

/// Whom a cleanup is about, for the log.
struct About<'a>(&'a Cleanup);

impl std::fmt::Display for About<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Cleanup::Unsubscribe(page) => page.fmt(f),
            Cleanup::Revoke(person) => person.fmt(f),
            Cleanup::DeleteAgain(part) => part.fmt(f),
            Cleanup::ForgetParts(link) => link.fmt(f),
            Cleanup::Uninstall(shop) | Cleanup::Redact(shop) => shop.fmt(f),
        }
    }
}

/// The link that a cleanup is about, where it is about one, for the log's field.
fn link_of(cleanup: &Cleanup) -> Option<String> {
    match cleanup {
        Cleanup::Unsubscribe(page) => Some(format!("{}:{page}", Source::Facebook.as_str())),
        Cleanup::Revoke(_) => None,
        Cleanup::DeleteAgain(part) => Some(part.to_string()),
        Cleanup::ForgetParts(link) => Some(link.to_string()),
        Cleanup::Uninstall(shop) | Cleanup::Redact(shop) => Some(format!("{}:{shop}", Source::Shopify.as_str())),
    }
}

/// The effect of a cleanup that stays undone, and the remedy where there is one.
fn left(cleanup: &Cleanup) -> &'static str {
    match cleanup {
        Cleanup::Unsubscribe(_) => "deliveries about the page go on and are dropped",
        Cleanup::Revoke(_) => "the person can remove the app in the settings on facebook.com",
        Cleanup::DeleteAgain(_) | Cleanup::ForgetParts(_) => {
            "see whether the object is still in the bucket, and delete it there"
        }
        Cleanup::Uninstall(_) => "the merchant can uninstall the app in the shop's admin",
        Cleanup::Redact(_) => "unlink the shop",
    }
}

async fn attempt(context: &Arc<Context>, shared: &Arc<Shared>, cleanup: &Cleanup, seq: u64, work: &Guard) -> TryEnd {
    match cleanup {
        Cleanup::DeleteAgain(part) => delete_again(context, shared, part, seq, work).await,
        Cleanup::ForgetParts(link) => forget_parts(context, link, seq).await,
        Cleanup::Uninstall(shop) => match uninstall::uninstall(context, shop, seq).await {
            Ok(()) => TryEnd::Done,
            Err(Undone::NotYet) => TryEnd::Later { hint: Some(SOON), unanswered: false },
            Err(Undone::Unreadable) => unreadable(cleanup),
            Err(Undone::Failed(error)) => failed(cleanup, &error),
        },
        Cleanup::Redact(shop) => match redaction::try_again(context, shop, seq).await {
            Ok(()) => TryEnd::Done,
            Err(error) => redact_failed(cleanup, &error),
        },
        Cleanup::Unsubscribe(_) | Cleanup::Revoke(_) => match context.store.cleanup_token(cleanup, seq).await {
            Ok(Ready::Yes(token)) => {
                let answer = context.setup().source(Source::Facebook).clean_up(cleanup, &token).await;
                note(&context.graph, answer.is_ok());
                answer.map_or_else(|error| failed(cleanup, &error), |()| TryEnd::Done)
            }
            Ok(Ready::NotYet) | Err(_) => TryEnd::Later { hint: Some(SOON), unanswered: false },
            Ok(Ready::Never) => unreadable(cleanup),
        },
    }
}

fn unreadable(cleanup: &Cleanup) -> TryEnd {
    let (word, about, left) = (cleanup.word(), About(cleanup), left(cleanup));
    let link = link_of(cleanup);
    tracing::warn!(
        cleanup = word,
        %about,
        link,
        "cleanup [{word} {about}]: left undone, the token for it cannot be opened; {left}"
    );
    TryEnd::Never
}

/// A redact is owed until Shopify can say whether the token works, whatever it says until then.
fn redact_failed(cleanup: &Cleanup, error: &SourceError) -> TryEnd {
    let (word, about, link) = (cleanup.word(), About(cleanup), link_of(cleanup));
    tracing::debug!(cleanup = word, %about, link, %error, "cleanup [{word} {about}]: failed ({error}), retrying later");
    match TryEnd::of(error.disposition, error.answered) {
        TryEnd::Never => TryEnd::Later { hint: None, unanswered: false },
        ended => ended,
    }
}

/// A cleanup that succeeds shows that the other side answers. One that fails shows nothing: it may be tried for days
/// for reasons of its own, and readiness is a matter of reads and writes.
fn note(dependency: &Dependency, succeeded: bool) {
    if succeeded {
        dependency.answered();
    }
}

fn failed(cleanup: &Cleanup, error: &SourceError) -> TryEnd {
    let ended = TryEnd::of(error.disposition, error.answered);
    let (word, about, link) = (cleanup.word(), About(cleanup), link_of(cleanup));
    match (ended, cleanup) {
        (TryEnd::Never, Cleanup::Unsubscribe(_)) => {
            tracing::warn!(
                cleanup = word,
                %about,
                link,
                %error,
                "cleanup [{word} {about}]: the page cannot be unsubscribed with the token it had ({error}); {}",
                left(cleanup)
            );
        }
        (TryEnd::Never, Cleanup::Uninstall(_)) => {
            tracing::warn!(
                cleanup = word,
                %about,
                link,
                %error,
                "cleanup [{word} {about}]: the app cannot be uninstalled from the shop ({error}); {}",
                left(cleanup)
            );
        }
        (TryEnd::Never, _) => {
            tracing::warn!(
                cleanup = word,
                %about,
                link,
                %error,
                "cleanup [{word} {about}]: the app cannot be taken out of the person's account ({error}); {}",
                left(cleanup)
            );
        }
        _ => {
            tracing::debug!(cleanup = word, %about, link, %error, "cleanup [{word} {about}]: failed ({error}), retrying later")
        }
    }
    ended
}

/// The deletes are staged as the uploader carries them out, so that memory does not grow with the parts. While it
/// cannot, the try ends, because other cleanups wait for their turn. At the end the bucket is asked: a store that was
/// rebuilt may not know of all objects.
async fn forget_parts(context: &Context, link: &LinkKey, seq: u64) -> TryEnd {
    match forget_known(context, link, seq).await {
        Ok(true) => forget_listed(context, link, seq).await,
        Ok(false) | Err(_) => TryEnd::Later { hint: Some(SOON), unanswered: false },
    }
}

/// Returns whether nothing is left in the store, and nothing waits for Spaces.
async fn forget_known(context: &Context, link: &LinkKey, seq: u64) -> Result<bool, Unavailable> {
    loop {
        let (of_link, of_all) = (context.store.outbox_of(link).await?, context.store.outbox_len().await?);
        if of_link >= PARTS_WAITING || of_all >= ALL_WAITING {
            return Ok(false);
        }
        if !context.store.forget_parts(link, seq, PARTS_AT_ONCE).await? {
            return Ok(of_link == 0);
        }
    }
}

/// Deletes what the bucket has of the link and the store does not know.
async fn forget_listed(context: &Context, link: &LinkKey, seq: u64) -> TryEnd {
    let mut after: Option<String> = None;
    loop {
        let listed = context.setup().spaces.list(link, after.as_deref()).await;
        note(&context.spaces, listed.is_ok());
        let Listing { objects, next } = match listed {
            Ok(listing) => listing,
            Err(error) if matches!(error.kind, SpacesErrorKind::Misconfigured { .. }) => {
                tracing::warn!(
                    %link,
                    %error,
                    "cleanup [forget_parts {link}]: the bucket cannot be listed ({error}), the objects that the store knew of \
                     are deleted; the access key needs the right to list the bucket"
                );
                return TryEnd::Done;
            }
            Err(error) => return TryEnd::Later { hint: error.retry_after, unanswered: error.status.is_none() },
        };
        let parts = objects.into_iter().filter_map(|(key, _)| key.part());
        let parts: Vec<PartKey> = parts.filter(|part| part.link == *link && Piece::of(&part.part).is_some()).collect();
        let found = !parts.is_empty();
        match context.store.forget_found(link, seq, &parts).await {
            // Kept, or of a link that is back.
            Ok(false) => return TryEnd::Done,
            // They are deleted before the rest is looked at.
            Ok(true) if found => return TryEnd::Later { hint: Some(SOON), unanswered: false },
            Ok(true) if next.is_none() || next <= after => return TryEnd::Done,
            Ok(true) => after = next,
            Err(_) => return TryEnd::Later { hint: Some(SOON), unanswered: false },
        }
    }
}

/// The right to write the object is held from before the look until the delete was answered.
async fn delete_again(context: &Arc<Context>, shared: &Arc<Shared>, part: &PartKey, seq: u64, work: &Guard) -> TryEnd {
    let Some(_permit) = shared.write_permit(part) else {
        return TryEnd::Later { hint: Some(SOON), unanswered: false };
    };
    match context.store.is_left_over(part, seq).await {
        Ok(true) => {}
        Ok(false) => return TryEnd::Done,
        Err(_) => return TryEnd::Later { hint: Some(SOON), unanswered: false },
    }
    let Some(right) = work.may_write() else { return TryEnd::Later { hint: Some(SOON), unanswered: false } };
    let (spaces, key) = (context.setup().spaces.clone(), part.object_key());
    let answer = right.within(spaces.erase(&key)).await;
    let answer = answer.unwrap_or_else(|| Err(SpacesError::timed_out("delete")));
    note(&context.spaces, answer.is_ok());
    match answer {
        Ok(_) => TryEnd::Done,
        Err(error) => {
            tracing::debug!(link = %part.link, %error, "cleanup [delete_again {part}]: failed ({error}), retrying later");
            TryEnd::Later { hint: error.retry_after, unanswered: error.status.is_none() }
        }
    }
}
