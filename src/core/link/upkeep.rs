//! The upkeep of a link: its webhook subscription at the source, and the checks of its token. One part of the link's
//! [`machine`](super::machine). It is made while no read is due, since nobody waits for it.

use std::time::Duration;

use super::schedule;
use super::token_bucket::Bucket;
use crate::core::backoff::Backoff;
use crate::core::disposition::Disposition;
use crate::core::model::MonoTime;
use crate::core::park_reason::ParkReason;
use crate::core::token_check;

const RESUBSCRIBE: Backoff = Backoff { base: Duration::from_secs(5), cap: Duration::from_secs(60 * 60) };
const RECHECK: Backoff = Backoff { base: Duration::from_secs(60), cap: Duration::from_secs(6 * 60 * 60) };
/// How long the subscription is left alone when the source refuses it.
const REFUSED_SUBSCRIPTION: Duration = Duration::from_secs(6 * 60 * 60);

/// Checks of one link's token that hints of changed permissions cause in quick succession, and after that.
const HINTS: u32 = 3;
const HINTS_REFILL: Duration = Duration::from_secs(5 * 60);

/// How a repair of the subscription ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubscriptionEnd {
    /// All wanted fields are confirmed.
    Confirmed,
    /// It failed. It parks the link only when the token is dead: a subscription that is refused says nothing about
    /// reads.
    Failed(Disposition),
}

/// How a check of the token ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckEnd {
    /// The source answered, and the token is good.
    Answered,
    /// The source did not say.
    Failed(Disposition),
    /// The token is of no use to the link.
    Dead(ParkReason),
}

/// The webhook subscription: wanted fields confirmed, or when it is tried again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Subscription {
    due_at: Option<MonoTime>,
    failures: u32,
    /// How often fields were found to be missing, and how often when the repair that is under way began.
    found: u64,
    repairs: u64,
}

impl Subscription {
    /// When it is put right; `None` while nothing is missing.
    pub fn due_at(&self) -> Option<MonoTime> {
        self.due_at
    }

    /// Is it to be put right now?
    pub fn is_due(&self, now: MonoTime) -> bool {
        self.due_at.is_some_and(|at| at <= now)
    }

    /// Wanted fields are not confirmed: it is put right then.
    pub fn lacks_fields(&mut self, at: MonoTime) {
        self.due_at = Some(at);
        self.found += 1;
    }

    /// A job begins that may put it right.
    pub fn begins(&mut self) {
        self.repairs = self.found;
    }

    /// A repair ended, beside a read, beside a check or alone.
    pub fn ended(&mut self, end: SubscriptionEnd, now: MonoTime, jitter: f64) {
        let due_at = match end {
            SubscriptionEnd::Confirmed => {
                self.failures = 0;
                None
            }
            SubscriptionEnd::Failed(Disposition::RateLimited { retry_after }) => {
                Some(self.again_at(now, jitter, retry_after))
            }
            SubscriptionEnd::Failed(Disposition::Retry | Disposition::Misconfigured) => {
                Some(self.again_at(now, jitter, None))
            }
            SubscriptionEnd::Failed(Disposition::Rejected) => Some(now.plus(REFUSED_SUBSCRIPTION)),
            // The link is parked, and its next token begins anew.
            SubscriptionEnd::Failed(Disposition::Park(_)) => return,
        };
        // What other settings asked for during this repair is another's to answer for.
        if self.repairs == self.found {
            self.due_at = due_at;
        }
    }

    fn again_at(&mut self, now: MonoTime, jitter: f64, hint: Option<Duration>) -> MonoTime {
        let wait = RESUBSCRIBE.delay(self.failures, jitter, hint);
        self.failures = self.failures.saturating_add(1);
        now.plus(wait)
    }
}

/// The daily check of the token, and of the subscription with it.
#[derive(Debug, Clone, PartialEq)]
pub struct Check {
    /// The offset of the link within an interval.
    offset: f64,
    due_at: MonoTime,
    failures: u32,
    /// Checks that hints may ask for.
    hints: Bucket,
    /// The slot of one of those that has not begun.
    hinted: Option<MonoTime>,
    /// A check is owed at once, and has not begun.
    owed: bool,
}

impl Check {
    /// The first check comes in its slot.
    pub fn new(offset: f64, now: MonoTime) -> Self {
        let due_at = schedule::next_check(offset, token_check::EVERY, now);
        Check { offset, due_at, failures: 0, hints: Bucket::new(HINTS, HINTS_REFILL), hinted: None, owed: false }
    }

    /// When the token is checked.
    pub fn due_at(&self) -> MonoTime {
        self.due_at
    }

    /// Another token: checked soon if it never was, unless so many links are new that `spread` is long. The budget of
    /// hints is the link's, and what was spent of it stays spent.
    pub fn begin_anew(&mut self, checked: bool, spread: Duration, now: MonoTime) {
        self.due_at = schedule::first_check(self.offset, token_check::EVERY, checked, spread, now);
        self.failures = 0;
        self.hinted = None;
        self.owed = false;
    }

    /// The link is parked for a reason that may pass until the next slot.
    pub fn wait_for_slot(&mut self, now: MonoTime) {
        self.begin_anew(true, Duration::ZERO, now);
    }

    /// A check is to be made now. One that is under way does not answer for this.
    pub fn owe(&mut self, now: MonoTime) {
        self.due_at = now;
        self.owed = true;
    }

    /// A hint asks for a check: soon, in a slot of the whole daemon, and not too often for this link. One that has not
    /// begun answers for every hint until then. `slot` is asked for one slot at most.
    pub fn hint(&mut self, now: MonoTime, slot: impl FnOnce() -> MonoTime) {
        if self.hinted.is_some() {
            return;
        }
        let soon = slot().max(self.hints.ready_at(now));
        self.hints.take(now);
        self.hinted = Some(soon);
        self.due_at = self.due_at.min(soon);
    }

    /// Does a check begin now? Not while the source limits the link's calls: a check is never urgent.
    pub fn begins(&mut self, now: MonoTime, throttled_until: Option<MonoTime>) -> bool {
        if self.due_at > now {
            return false;
        }
        if let Some(until) = throttled_until.filter(|until| *until > now) {
            self.due_at = until.plus(RECHECK.base);
            return false;
        }
        self.hinted = None;
        self.owed = false;
        true
    }

    /// A check ended.
    pub fn ended(&mut self, end: CheckEnd, now: MonoTime, jitter: f64) {
        let retry_after = match end {
            CheckEnd::Answered => {
                let next = schedule::next_check(self.offset, token_check::EVERY, now);
                // A hint or a doubt that came during this check is another's to answer for.
                let asked_for = if self.owed { Some(now) } else { self.hinted };
                self.due_at = asked_for.map_or(next, |soon| soon.min(next));
                self.failures = 0;
                return;
            }
            // The link is parked, and its next token begins anew.
            CheckEnd::Dead(_) => return,
            CheckEnd::Failed(Disposition::RateLimited { retry_after }) => retry_after,
            CheckEnd::Failed(_) => None,
        };
        self.due_at = now.plus(RECHECK.delay(self.failures, jitter, retry_after));
        self.failures = self.failures.saturating_add(1);
    }
}

#[cfg(test)]
mod tests;
