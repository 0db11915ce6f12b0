//! When Graph may be called: pure, with the time as an argument.
//!
//! Each call passes the limiters of the app, of the page, and of the person in whose name it is made. A limiter may be
//! *blocked* until a moment, because Graph refused or because a usage header reached [`STOP_AT`] percent. Calls during
//! a block make it longer, so none is let through. From [`SLOW_AT`] percent on, a limiter is *paced*: each call
//! reserves the next start, and the distance between starts grows with the usage. A caller that would wait too long is
//! refused with the time to retry; background work is refused earlier than prompt work.
//!
//! Meta gives no time for an app-wide refusal, so its blocks double while refusals go on and start small again after
//! the first success. Answers to calls that were on the way when the block began do not count as further refusals.
//!
//! Memory: the limiter of a page or person is dropped once it neither blocks nor paces. The map never holds more than
//! twice the limiters that were in use at the last sweep (or [`SWEEP_FROM`]).

use std::collections::HashMap;
use std::time::Duration;

use super::error::ThrottleScope;
use super::usage::Usage;
use crate::core::model::{AppUserId, MonoTime, PageId};
use crate::core::priority::Priority;

/// From this usage on calls are paced, in percent.
pub const SLOW_AT: u32 = 80;
/// From this usage on nothing is called, in percent.
pub const STOP_AT: u32 = 95;
/// The first block where Graph names no time.
pub const FIRST_BLOCK: Duration = Duration::from_secs(5 * 60);
/// The longest block where Graph names no time.
pub const LONGEST_BLOCK: Duration = Duration::from_secs(60 * 60);
/// The longest block that is believed where Graph names one.
const LONGEST_HINT: Duration = Duration::from_secs(24 * 60 * 60);
/// How long a usage reading is believed: the headers may simply stop.
const USAGE_LASTS: Duration = Duration::from_secs(10 * 60);
/// Added between calls for each percent from [`SLOW_AT`] on.
const GAP_PER_PERCENT: Duration = Duration::from_millis(250);
/// The first sweep happens at this many pages.
pub const SWEEP_FROM: usize = 64;

/// How long a call lets itself be paced before it is refused instead.
fn patience(priority: Priority) -> Duration {
    match priority {
        Priority::Prompt => Duration::from_secs(30),
        Priority::Background => Duration::from_secs(5),
    }
}

/// The answer to "may I call?".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Yes, after this long; zero as a rule. A start is reserved.
    After(Duration),
    /// No.
    Refused(Held),
}

/// Not to be called now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// The budget that is spent.
    pub scope: ThrottleScope,
    /// When asking again makes sense, from now.
    pub retry_after: Duration,
}

#[derive(Debug, Clone, Copy, Default)]
struct Limiter {
    blocked_until: MonoTime,
    percent: u32,
    paced_until: MonoTime,
    next_start: MonoTime,
}

impl Limiter {
    fn alive(&self, now: MonoTime) -> bool {
        self.blocked_until > now || self.paced_until > now
    }

    fn block(&mut self, time: Duration, now: MonoTime) {
        self.blocked_until = self.blocked_until.max(now.plus(time));
    }

    /// The pause between two starts.
    fn gap(&self, now: MonoTime) -> Duration {
        if self.paced_until > now {
            GAP_PER_PERCENT * (self.percent + 1).saturating_sub(SLOW_AT)
        } else {
            Duration::ZERO
        }
    }

    fn wait(&self, now: MonoTime) -> Duration {
        if self.paced_until > now { self.next_start.since(now) } else { Duration::ZERO }
    }

    fn observe(&mut self, percent: u32, regain: Duration, now: MonoTime) {
        self.percent = percent.min(STOP_AT);
        self.paced_until = if percent >= SLOW_AT { now.plus(USAGE_LASTS) } else { now };
        if percent >= STOP_AT || !regain.is_zero() {
            self.block(if regain.is_zero() { FIRST_BLOCK } else { regain.min(LONGEST_HINT) }, now);
        }
    }
}

/// The limiters.
#[derive(Debug, Default)]
pub struct Throttle {
    app: Limiter,
    /// So many other daemons call in the name of the same app.
    others: u32,
    refusals: u32,
    pages: Limiters<PageId>,
    persons: Limiters<AppUserId>,
}

/// The limiters of pages, or of persons, that are in use.
#[derive(Debug)]
struct Limiters<K> {
    by_id: HashMap<K, Limiter>,
    sweep_at: usize,
}

impl<K> Default for Limiters<K> {
    fn default() -> Self {
        Limiters { by_id: HashMap::new(), sweep_at: SWEEP_FROM }
    }
}

impl<K: Eq + std::hash::Hash + Clone> Limiters<K> {
    fn limiter(&mut self, id: &K, now: MonoTime) -> &mut Limiter {
        if self.by_id.len() >= self.sweep_at {
            self.by_id.retain(|_, limiter| limiter.alive(now));
            self.sweep_at = (self.by_id.len() * 2).max(SWEEP_FROM);
        }
        self.by_id.entry(id.clone()).or_default()
    }

    fn block(&mut self, id: &K, hint: Option<Duration>, now: MonoTime) -> Duration {
        let limiter = self.limiter(id, now);
        limiter.block(believed(hint).unwrap_or(FIRST_BLOCK), now);
        limiter.blocked_until.since(now)
    }

    fn blocked(&self, now: MonoTime) -> usize {
        self.by_id.values().filter(|limiter| limiter.blocked_until > now).count()
    }
}

/// A time that Graph named, where it is one.
fn believed(hint: Option<Duration>) -> Option<Duration> {
    hint.filter(|hint| !hint.is_zero()).map(|hint| hint.min(LONGEST_HINT))
}

impl Throttle {
    /// May a call start? A start that must wait is reserved, so ask once and then wait.
    pub fn admit(&mut self, page: Option<&PageId>, priority: Priority, now: MonoTime) -> Admission {
        if let Some(held) = self.held(page, now) {
            return Admission::Refused(held);
        }
        let page_limiter = page.and_then(|page| self.pages.by_id.get_mut(page));
        let app_wait = self.app.wait(now);
        let page_wait = page_limiter.as_ref().map_or(Duration::ZERO, |limiter| limiter.wait(now));
        let wait = app_wait.max(page_wait);
        if wait > patience(priority) {
            let scope = if app_wait >= page_wait { ThrottleScope::App } else { ThrottleScope::Page };
            return Admission::Refused(Held { scope, retry_after: wait });
        }
        let start = now.plus(wait);
        // The usage of the app is that of all daemons together, and so is its pace.
        self.app.next_start = start.plus(self.app.gap(now) * self.others.saturating_add(1));
        if let Some(limiter) = page_limiter {
            limiter.next_start = start.plus(limiter.gap(now));
        }
        Admission::After(wait)
    }

    /// How long the pace of the app makes the next call wait.
    pub fn app_wait(&self, now: MonoTime) -> Duration {
        self.app.wait(now)
    }

    /// What blocks a call now, the longer of two blocks.
    pub fn held(&self, page: Option<&PageId>, now: MonoTime) -> Option<Held> {
        let limiter = page.and_then(|page| self.pages.by_id.get(page));
        let app = Held { scope: ThrottleScope::App, retry_after: self.app.blocked_until.since(now) };
        let page = limiter.map(|l| Held { scope: ThrottleScope::Page, retry_after: l.blocked_until.since(now) });
        let blocks = [Some(app), page].into_iter().flatten().filter(|held| !held.retry_after.is_zero());
        blocks.max_by_key(|held| held.retry_after)
    }

    /// What blocks calls in this person's name now.
    pub fn held_person(&self, person: &AppUserId, now: MonoTime) -> Option<Held> {
        let retry_after = self.persons.by_id.get(person)?.blocked_until.since(now);
        (!retry_after.is_zero()).then_some(Held { scope: ThrottleScope::Person, retry_after })
    }

    /// An answer came, with these headers; `good` when it was no error.
    pub fn observe(&mut self, page: Option<&PageId>, usage: &Usage, good: bool, now: MonoTime) {
        if good && self.app.blocked_until <= now {
            self.refusals = 0;
        }
        if let Some(percent) = usage.app {
            self.app.observe(percent, Duration::ZERO, now);
        }
        if let (Some(page), Some(usage)) = (page, usage.page) {
            let calm = usage.percent < SLOW_AT && usage.regain.is_zero();
            if !calm || self.pages.by_id.contains_key(page) {
                self.pages.limiter(page, now).observe(usage.percent, usage.regain, now);
            }
        }
    }

    /// Graph refused a call. Answers how long the scope stays blocked; `hint` is Graph's own time.
    pub fn refused(
        &mut self,
        scope: ThrottleScope,
        page: Option<&PageId>,
        hint: Option<Duration>,
        now: MonoTime,
    ) -> Duration {
        let hint = believed(hint);
        match (scope, page) {
            (ThrottleScope::App, _) => {
                if self.app.blocked_until <= now {
                    self.refusals = self.refusals.saturating_add(1);
                }
                let doubled = FIRST_BLOCK * 2u32.saturating_pow(self.refusals.saturating_sub(1).min(8));
                self.app.block(hint.unwrap_or(doubled.min(LONGEST_BLOCK)), now);
                self.app.blocked_until.since(now)
            }
            (ThrottleScope::Page, Some(page)) => self.pages.block(page, hint, now),
            _ => hint.unwrap_or(FIRST_BLOCK),
        }
    }

    /// So many other daemons call in the name of the same app.
    pub fn set_others(&mut self, others: u32) {
        self.others = others;
    }

    /// Another daemon says that the app is blocked for this time.
    pub fn block_app(&mut self, time: Duration, now: MonoTime) {
        self.app.block(time.min(LONGEST_HINT), now);
    }

    /// How long the app stays blocked; zero when it is not.
    pub fn app_block(&self, now: MonoTime) -> Duration {
        self.app.blocked_until.since(now)
    }

    /// Graph refused a call because of the person in whose name it was made. Answers how long the person stays blocked.
    pub fn refused_person(&mut self, person: &AppUserId, hint: Option<Duration>, now: MonoTime) -> Duration {
        self.persons.block(person, hint, now)
    }

    /// The app's usage in percent, as last read, 0 when that is old.
    pub fn app_percent(&self, now: MonoTime) -> u32 {
        if self.app.paced_until > now { self.app.percent } else { 0 }
    }

    /// How many pages are blocked.
    pub fn pages_blocked(&self, now: MonoTime) -> usize {
        self.pages.blocked(now)
    }

    /// How many persons are blocked.
    pub fn people_blocked(&self, now: MonoTime) -> usize {
        self.persons.blocked(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::facebook::graph::usage::PageUsage;
    use proptest::prelude::*;

    const NOW: MonoTime = MonoTime(1_000_000);
    const GO: Admission = Admission::After(Duration::ZERO);

    fn page(id: u64) -> PageId {
        id.to_string().parse().unwrap()
    }

    fn app_at(percent: u32) -> Usage {
        Usage { app: Some(percent), page: None }
    }

    fn page_at(percent: u32, minutes: u64) -> Usage {
        Usage { app: None, page: Some(PageUsage { percent, regain: Duration::from_secs(minutes * 60) }) }
    }

    #[test]
    fn nothing_stands_in_the_way_at_first() {
        let mut throttle = Throttle::default();
        for _ in 0..1000 {
            assert_eq!(throttle.admit(Some(&page(1)), Priority::Background, NOW), GO);
        }
        assert!(throttle.pages.by_id.is_empty());
    }

    #[test]
    fn an_app_refusal_stops_everything_and_doubles_while_it_goes_on() {
        let mut throttle = Throttle::default();
        let mut now = NOW;
        let mut blocks = Vec::new();
        for _ in 0..6 {
            let time = throttle.refused(ThrottleScope::App, None, None, now);
            // The answers to calls that were already on the way change nothing.
            assert_eq!(throttle.refused(ThrottleScope::App, None, None, now), time);
            throttle.observe(None, &Usage::default(), true, now);
            blocks.push(time.as_secs() / 60);
            let held = Held { scope: ThrottleScope::App, retry_after: time };
            assert_eq!(throttle.admit(Some(&page(1)), Priority::Prompt, now), Admission::Refused(held));
            now = now.plus(time);
            assert_eq!(throttle.admit(None, Priority::Background, now), GO);
        }
        assert_eq!(blocks, [5, 10, 20, 40, 60, 60]);
        throttle.observe(None, &Usage::default(), true, now);
        assert_eq!(throttle.refused(ThrottleScope::App, None, None, now), FIRST_BLOCK);
    }

    #[test]
    fn one_page_is_blocked_alone_and_as_long_as_graph_says() {
        let mut throttle = Throttle::default();
        let hint = Duration::from_secs(17 * 60);
        assert_eq!(throttle.refused(ThrottleScope::Page, Some(&page(1)), Some(hint), NOW), hint);
        assert_eq!(throttle.admit(Some(&page(2)), Priority::Background, NOW), GO);
        assert_eq!(throttle.held(Some(&page(1)), NOW), Some(Held { scope: ThrottleScope::Page, retry_after: hint }));
        assert_eq!(throttle.held(Some(&page(1)), NOW.plus(hint)), None);
        assert_eq!(throttle.refused(ThrottleScope::Person, None, None, NOW), FIRST_BLOCK);
        assert_eq!(throttle.held(None, NOW), None);
    }

    #[test]
    fn a_person_at_their_limit_stops_their_own_calls_alone() {
        let mut throttle = Throttle::default();
        let (ada, bruno): (AppUserId, AppUserId) = ("101".parse().unwrap(), "102".parse().unwrap());
        assert_eq!(throttle.refused_person(&ada, None, NOW), FIRST_BLOCK);
        let held = Held { scope: ThrottleScope::Person, retry_after: FIRST_BLOCK };
        assert_eq!(throttle.held_person(&ada, NOW), Some(held));
        assert_eq!((throttle.held_person(&bruno, NOW), throttle.people_blocked(NOW)), (None, 1));
        assert_eq!(throttle.admit(Some(&page(1)), Priority::Background, NOW), GO);
        assert_eq!(throttle.held_person(&ada, NOW.plus(FIRST_BLOCK)), None);
    }

    #[test]
    fn usage_paces_from_eighty_and_stops_from_ninety_five() {
        let mut throttle = Throttle::default();
        let step = |throttle: &mut Throttle| match throttle.admit(None, Priority::Prompt, NOW) {
            Admission::After(wait) => wait.as_millis(),
            Admission::Refused(held) => panic!("{held:?}"),
        };
        throttle.observe(None, &app_at(79), true, NOW);
        assert_eq!((step(&mut throttle), step(&mut throttle)), (0, 0));
        throttle.observe(None, &app_at(80), true, NOW);
        assert_eq!((step(&mut throttle), step(&mut throttle), step(&mut throttle)), (0, 250, 500));
        throttle.observe(None, &app_at(90), true, NOW);
        assert_eq!((step(&mut throttle), step(&mut throttle)), (750, 3500));
        throttle.observe(None, &app_at(95), true, NOW);
        assert_eq!(throttle.held(None, NOW).unwrap().retry_after, FIRST_BLOCK);
    }

    #[test]
    fn background_gives_up_before_prompt_does() {
        let mut throttle = Throttle::default();
        throttle.observe(None, &app_at(94), true, NOW);
        for _ in 0..3 {
            throttle.admit(None, Priority::Prompt, NOW);
        }
        let held = Held { scope: ThrottleScope::App, retry_after: Duration::from_millis(11_250) };
        assert_eq!(throttle.admit(None, Priority::Background, NOW), Admission::Refused(held));
        assert_eq!(throttle.admit(None, Priority::Prompt, NOW), Admission::After(held.retry_after));
    }

    #[test]
    fn a_page_at_its_limit_waits_for_the_time_to_regain() {
        let mut throttle = Throttle::default();
        throttle.observe(Some(&page(1)), &page_at(100, 12), true, NOW);
        assert_eq!(throttle.held(Some(&page(1)), NOW).unwrap().retry_after, Duration::from_secs(720));
        throttle.observe(Some(&page(2)), &page_at(97, 0), true, NOW);
        assert_eq!(throttle.held(Some(&page(2)), NOW).unwrap().retry_after, FIRST_BLOCK);
        throttle.observe(Some(&page(3)), &page_at(10, 0), true, NOW);
        assert_eq!((throttle.pages.by_id.len(), throttle.pages_blocked(NOW)), (2, 2));
    }

    #[test]
    fn an_old_reading_is_not_believed() {
        let mut throttle = Throttle::default();
        throttle.observe(None, &app_at(90), true, NOW);
        throttle.admit(None, Priority::Prompt, NOW);
        let later = NOW.plus(USAGE_LASTS);
        assert_eq!((throttle.app_percent(NOW), throttle.app_percent(later)), (90, 0));
        assert_eq!(throttle.admit(None, Priority::Background, later), GO);
    }

    #[test]
    fn pages_whose_block_is_over_are_forgotten() {
        let mut throttle = Throttle::default();
        let mut now = NOW;
        for id in 1..10_000 {
            throttle.refused(ThrottleScope::Page, Some(&page(id)), Some(Duration::from_secs(60)), now);
            now = now.plus(Duration::from_secs(1));
            assert!(throttle.pages.by_id.len() <= 2 * SWEEP_FROM, "{} limiters", throttle.pages.by_id.len());
        }
    }

    proptest! {
        #[test]
        fn while_blocked_nothing_gets_through(hint in 1..10_000u64, at in 0..10_000u64, percent in 0..200u32) {
            let mut throttle = Throttle::default();
            throttle.refused(ThrottleScope::App, None, Some(Duration::from_millis(hint)), NOW);
            throttle.observe(None, &app_at(percent.min(94)), true, NOW);
            let now = NOW.plus(Duration::from_millis(at));
            let through = matches!(throttle.admit(None, Priority::Prompt, now), Admission::After(_));
            prop_assert_eq!(through, at >= hint);
        }
    }
}
