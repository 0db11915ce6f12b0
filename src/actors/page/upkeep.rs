//! The upkeep of a page: its webhook subscription and the checks of its token, made while no read is due.

use std::time::Duration;

use ractor::ActorRef;

use super::reading::{CheckEnd, Job, JobDone, SubscriptionEnd};
use super::{PageMsg, PageState};
use crate::actors::jitter;
use crate::core::backoff::Backoff;
use crate::core::link::schedule;
use crate::core::link::token_bucket::Bucket;
use crate::core::model::MonoTime;
use crate::core::token_check;

const RESUBSCRIBE: Backoff = Backoff { base: Duration::from_secs(5), cap: Duration::from_secs(60 * 60) };
const RECHECK: Backoff = Backoff { base: Duration::from_secs(60), cap: Duration::from_secs(6 * 60 * 60) };
/// How long the subscription is left alone when the page or its permissions refuse it.
const REFUSED_SUBSCRIPTION: Duration = Duration::from_secs(6 * 60 * 60);

/// The page-level webhook subscription: wanted fields confirmed, or when to try again.
#[derive(Debug, Default)]
pub(super) struct Subscription {
    pub(super) due_at: Option<MonoTime>,
    pub(super) failures: u32,
}

/// The daily check of the token, and of the subscription with it.
#[derive(Debug)]
pub(super) struct Check {
    pub(super) due_at: MonoTime,
    pub(super) failures: u32,
    /// Checks that hints may ask for.
    pub(super) hints: Bucket,
    /// The slot of one of those that has not begun.
    pub(super) hinted: Option<MonoTime>,
}

/// Checks of one link's token that hints of changed permissions cause in quick succession, and after that.
const HINTS: u32 = 3;
const HINTS_REFILL: Duration = Duration::from_secs(5 * 60);

impl Check {
    /// The first check then.
    pub(super) fn first(due_at: MonoTime) -> Self {
        Check { due_at, failures: 0, hints: Bucket::new(HINTS, HINTS_REFILL), hinted: None }
    }
}

impl PageState {
    /// Does a hint stand that this page's token is to be checked for?
    pub(super) fn owes_a_check(&self) -> bool {
        let Some(view) = self.context.store.view(&self.link) else { return false };
        view.record.hint.is_some() && self.generation == Some(view.record.generation)
    }

    /// What is done while no read is due: nobody waits for it.
    pub(super) fn perhaps_upkeep(&mut self, me: &ActorRef<PageMsg>) {
        if self.job.is_some() || self.machine.is_parked() || self.context.is_stopping() {
            return;
        }
        let now = MonoTime::now();
        if self.subscription.due_at.is_some_and(|at| at <= now) {
            self.begin(me, Job::Subscribe);
        } else if self.check.due_at <= now {
            match self.throttled_until(now) {
                Some(until) => self.check.due_at = until.plus(RECHECK.base),
                None => {
                    self.check.hinted = None;
                    self.begin(me, Job::Check);
                }
            }
        }
    }

    pub(super) fn throttled_until(&self, now: MonoTime) -> Option<MonoTime> {
        self.context.pages.find(&self.link).and_then(|status| status.throttled_until).filter(|until| *until > now)
    }

    /// A check soon: in a slot of the whole daemon, and not too often for this link. One that has not begun answers for
    /// every hint until then.
    pub(super) fn hinted(&mut self) {
        if self.check.hinted.is_some() {
            return;
        }
        let now = MonoTime::now();
        let soon = self.shared.check_slot().max(self.check.hints.ready_at(now));
        self.check.hints.take(now);
        self.check.hinted = Some(soon);
        self.check.due_at = self.check.due_at.min(soon);
    }

    pub(super) fn note_checked(&mut self, done: &JobDone) {
        let now = MonoTime::now();
        match done.checked {
            None => {}
            Some(CheckEnd::Answered) => {
                let next = schedule::next_check(schedule::offset(&self.link), token_check::EVERY, now);
                // A hint that came during this check is another's to answer for.
                self.check.due_at = self.check.hinted.map_or(next, |soon| soon.min(next));
                self.check.failures = 0;
            }
            Some(CheckEnd::Later(hint)) => {
                self.check.due_at = now.plus(RECHECK.delay(self.check.failures, jitter(), hint));
                self.check.failures = self.check.failures.saturating_add(1);
            }
        }
    }

    pub(super) fn note_subscription(&mut self, done: &JobDone) {
        let now = MonoTime::now();
        match done.subscribed {
            None => {}
            Some(SubscriptionEnd::Good) => self.subscription = Subscription::default(),
            Some(SubscriptionEnd::Refused) => {
                self.subscription.due_at = Some(now.plus(REFUSED_SUBSCRIPTION));
            }
            Some(SubscriptionEnd::Later) => {
                let wait = RESUBSCRIBE.delay(self.subscription.failures, jitter(), None);
                self.subscription.failures = self.subscription.failures.saturating_add(1);
                self.subscription.due_at = Some(now.plus(wait));
            }
        }
    }
}
