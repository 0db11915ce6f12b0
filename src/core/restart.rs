//! What the supervisor answers when an actor dies: start it again after a while, or give up and let the process end.
//! Pure: the history, the moment and the randomness are arguments.
//!
//! A page is one of many and its fault is its own, so it is started again for ever, more and more slowly. The other
//! actors are one each: they come back at once the first time, since the daemon is not whole without them, then with
//! backoff. When one dies more often than its budget allows, the process exits and the service manager starts it anew.
//!
//! A life that lasted long enough forgives what came before. It counts from the end of the wait that was granted, so
//! that a long wait is not taken for a healthy life.
//!
//! Moments are those of the monotonic clock, so that a clock that is set changes no verdict.

use std::collections::VecDeque;
use std::time::Duration;

use crate::core::backoff::Backoff;
use crate::core::model::MonoTime;

/// Which actor died.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ActorKind {
    /// One linked page.
    Page,
    /// The one writer to Spaces.
    Uploader,
    /// The keeper of the app-level webhook subscription.
    Subscriptions,
    /// The one that sends events.
    Notifier,
    /// What is left to do after links are gone.
    Cleanups,
    /// The keeper of the listener's certificate.
    Certificates,
    /// The reader of the store's feed.
    Dispatcher,
    /// A listener for HTTP.
    Listener,
}

impl ActorKind {
    /// All of them.
    pub const ALL: [ActorKind; 8] = [
        ActorKind::Page,
        ActorKind::Uploader,
        ActorKind::Subscriptions,
        ActorKind::Notifier,
        ActorKind::Cleanups,
        ActorKind::Certificates,
        ActorKind::Dispatcher,
        ActorKind::Listener,
    ];

    /// The word in logs and metrics.
    pub fn word(self) -> &'static str {
        match self {
            ActorKind::Page => "page",
            ActorKind::Uploader => "uploader",
            ActorKind::Subscriptions => "subscriptions",
            ActorKind::Notifier => "notifier",
            ActorKind::Cleanups => "cleanups",
            ActorKind::Certificates => "certificates",
            ActorKind::Dispatcher => "dispatcher",
            ActorKind::Listener => "listener",
        }
    }

    /// How this kind is started again.
    pub fn policy(self) -> Policy {
        match self {
            ActorKind::Page => Policy {
                first_at_once: false,
                backoff: Backoff { base: Duration::from_secs(1), cap: Duration::from_secs(5 * 60) },
                forgiven_after: Duration::from_secs(10 * 60),
                budget: None,
            },
            ActorKind::Uploader
            | ActorKind::Subscriptions
            | ActorKind::Notifier
            | ActorKind::Cleanups
            | ActorKind::Certificates
            | ActorKind::Dispatcher
            | ActorKind::Listener => Policy {
                first_at_once: true,
                backoff: Backoff { base: Duration::from_secs(1), cap: Duration::from_secs(30) },
                forgiven_after: Duration::from_secs(10 * 60),
                budget: Some(Budget { failures: 5, window: Duration::from_secs(10 * 60) }),
            },
        }
    }
}

/// How often an actor may die before the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// This many failures within the window are answered by a restart; the next one is one too many.
    pub failures: usize,
    /// How far back failures count.
    pub window: Duration,
}

/// How one kind of actor is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// No wait after the first failure.
    pub first_at_once: bool,
    /// The waits after that, or from the first on.
    pub backoff: Backoff,
    /// A life this long forgives everything before it.
    pub forgiven_after: Duration,
    /// When to give up; `None` for never.
    pub budget: Option<Budget>,
}

/// The answer to one failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Start a new one when this long has passed.
    Restart {
        /// The wait; zero for at once.
        after: Duration,
    },
    /// The budget is spent: drain and exit.
    GiveUp,
}

/// The failures of one actor since it was last forgiven.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    /// Failures in a row, for the backoff.
    failures: u32,
    /// The moments of the latest ones, no more than the budget looks at.
    recent: VecDeque<MonoTime>,
    /// When the present life was due to begin; `None` for the first life.
    began: Option<MonoTime>,
}

impl History {
    /// Failures in a row so far.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Notes a failure at `now` and answers it. `jitter` is a random number from 0 to 1, for the backoff.
    pub fn failed(&mut self, policy: &Policy, now: MonoTime, jitter: f64) -> Verdict {
        if self.began.is_some_and(|began| now.since(began) >= policy.forgiven_after) {
            *self = History::default();
        }
        if self.spends(policy.budget, now) {
            return Verdict::GiveUp;
        }
        let after = match (self.failures, policy.first_at_once) {
            (0, true) => Duration::ZERO,
            (failures, at_once) => policy.backoff.delay(failures - u32::from(at_once), jitter, None),
        };
        self.failures = self.failures.saturating_add(1);
        self.began = Some(now.plus(after));
        Verdict::Restart { after }
    }

    fn spends(&mut self, budget: Option<Budget>, now: MonoTime) -> bool {
        let Some(budget) = budget else { return false };
        self.recent.retain(|at| now.since(*at) < budget.window);
        self.recent.push_back(now);
        while self.recent.len() > budget.failures + 1 {
            self.recent.pop_front();
        }
        self.recent.len() > budget.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Failures at these seconds, each with the wait that is due in seconds; `None` for giving up.
    fn plays(kind: ActorKind, story: &[(u64, Option<u64>)]) {
        let mut history = History::default();
        for (step, (at_secs, wait_secs)) in story.iter().enumerate() {
            let expected = match wait_secs {
                Some(secs) => Verdict::Restart { after: Duration::from_secs(*secs) },
                None => Verdict::GiveUp,
            };
            let verdict = history.failed(&kind.policy(), MonoTime(1_000_000 + at_secs * 1000), 1.0);
            assert_eq!(verdict, expected, "{} at step {step}, second {at_secs}", kind.word());
        }
    }

    #[test]
    fn a_page_comes_back_more_and_more_slowly() {
        plays(
            ActorKind::Page,
            &[(0, Some(1)), (1, Some(2)), (3, Some(4)), (7, Some(8)), (15, Some(16)), (31, Some(32)), (63, Some(64))],
        );
    }

    #[test]
    fn a_page_is_never_given_up() {
        let mut history = History::default();
        let mut now = MonoTime(0);
        for _ in 0..10_000 {
            match history.failed(&ActorKind::Page.policy(), now, 1.0) {
                Verdict::Restart { after } => now = now.plus(after),
                Verdict::GiveUp => panic!("given up"),
            }
        }
        assert_eq!(history.failures(), 10_000);
        assert!(history.recent.is_empty(), "a page's history does not grow");
        let last = history.failed(&ActorKind::Page.policy(), now, 1.0);
        assert_eq!(last, Verdict::Restart { after: Duration::from_secs(300) });
    }

    #[test]
    fn a_healthy_life_forgives_and_a_long_wait_does_not() {
        // The third life begins at second 3 and lasts 600 seconds, less one, or exactly.
        plays(ActorKind::Page, &[(0, Some(1)), (1, Some(2)), (602, Some(4))]);
        plays(ActorKind::Page, &[(0, Some(1)), (1, Some(2)), (603, Some(1)), (604, Some(2))]);
        // Waits of 300 seconds, twice, with lives of one second in between.
        let mut history = History { failures: 20, ..History::default() };
        for at in [0, 301, 602, 903] {
            let verdict = history.failed(&ActorKind::Page.policy(), MonoTime(at * 1000), 1.0);
            assert_eq!(verdict, Verdict::Restart { after: Duration::from_secs(300) });
        }
    }

    #[test]
    fn the_single_ones_come_back_at_once_and_then_spend_their_budget() {
        use ActorKind::*;
        for kind in [Uploader, Subscriptions, Notifier, Cleanups, Certificates, Listener] {
            plays(kind, &[(0, Some(0)), (1, Some(1)), (3, Some(2)), (6, Some(4)), (11, Some(8)), (20, None)]);
        }
    }

    #[test]
    fn only_failures_within_the_window_count() {
        plays(
            ActorKind::Uploader,
            &[
                (0, Some(0)),
                (200, Some(1)),
                (400, Some(2)),
                (550, Some(4)),
                (599, Some(8)),
                // The first has left the window; five remain.
                (608, Some(16)),
                (650, None),
            ],
        );
        plays(ActorKind::Uploader, &[(0, Some(0)), (600, Some(0)), (1200, Some(0)), (1201, Some(1))]);
    }

    #[test]
    fn a_clock_set_back_is_survived() {
        plays(ActorKind::Page, &[(500, Some(1)), (0, Some(2)), (1, Some(4))]);
    }
}
