//! The one gate in front of Graph, shared by every client and kept across reloads.
//!
//! It holds two things: the [`Throttle`] (may this be called at all, and when), and a number of slots (how many calls
//! are under way at once, a [`Turnstile`]). While blocked, callers get an answer at once instead of waiting, so that
//! nothing piles up behind an hour-long block. For slots they wait, prompt work first.
//!
//! In front of it the work on links passes a turnstile of its own with as many turns ([`Gate::work`]): a page begins to
//! work for its link when its turn has come. So no more tasks wait for a slot than there are slots, and what waits
//! beside them is the keys of links. The work gives its turn back with Graph's last answer, so that the turns are no
//! narrower than the slots. While a call waits because its page is paced, its turn is lent to another page's work. The
//! pace of the app lends no turn: it makes every call wait, so that more work could only wait as well.
//!
//! The number of slots may change at any time; when it shrinks, calls under way finish first.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::error::ThrottleScope;
use super::throttle::{Admission, Held, Throttle};
use super::usage::Usage;
use crate::core::model::{AppUserId, MonoTime, PageId};
use crate::core::priority::Priority;
use crate::turnstile::{Turn, Turnstile};

/// The gate's state, for `status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GateStatus {
    /// Calls under way.
    pub in_flight: usize,
    /// How many may be.
    pub max_in_flight: usize,
    /// Prompt work that waits: calls for a slot, and pages for their turn.
    pub waiting_prompt: usize,
    /// Background work that waits.
    pub waiting_background: usize,
    /// The app's usage as Meta last gave it, in percent; 0 when it is below the mark from which it matters.
    pub app_usage_percent: u32,
    /// Seconds until the app may call again, while it may not.
    pub app_blocked_secs: Option<u64>,
    /// Pages that may not be called now.
    pub pages_blocked: usize,
    /// People in whose name nothing may be called now.
    pub people_blocked: usize,
}

/// The gate.
#[derive(Debug)]
pub struct Gate {
    slots: Arc<Turnstile>,
    work: Arc<Turnstile>,
    throttle: Mutex<Throttle>,
    /// How long the app was blocked when Graph blocked it last, and not another daemon's word.
    blocked: watch::Sender<Duration>,
    start: Instant,
}

/// What is behind the lock is plain counting that no panic leaves half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Gate {
    /// A gate with so many slots (at least one).
    pub fn new(max_in_flight: usize) -> Arc<Gate> {
        let (slots, work) = (Turnstile::new(max_in_flight), Turnstile::new(max_in_flight));
        let blocked = watch::Sender::new(Duration::ZERO);
        Arc::new(Gate { slots, work, throttle: Mutex::default(), blocked, start: Instant::now() })
    }

    /// Changes the number of slots, from now on.
    pub fn set_max_in_flight(self: &Arc<Self>, max: usize) {
        self.slots.set_max(max);
        self.work.set_max(max);
    }

    /// So many daemons call in the name of the app, this one among them: each keeps to its part of the pace.
    pub fn set_daemons(&self, daemons: usize) {
        lock(&self.throttle).set_others(u32::try_from(daemons.saturating_sub(1)).unwrap_or(u32::MAX));
    }

    /// Where the work on a link waits for its turn, before it begins.
    pub fn work(&self) -> &Arc<Turnstile> {
        &self.work
    }

    /// Waits for the right to call. The page is the one that the call is charged to.
    ///
    /// # Errors
    /// [`Held`] while the app or the page is blocked, or paced so much that waiting makes no sense.
    pub async fn enter(self: &Arc<Self>, page: Option<&PageId>, priority: Priority) -> Result<Turn, Held> {
        self.enter_for(page, None, priority).await
    }

    /// The same, for a call in this person's name.
    ///
    /// # Errors
    /// As there, and while the person is blocked.
    pub async fn enter_for(
        self: &Arc<Self>,
        page: Option<&PageId>,
        person: Option<&AppUserId>,
        priority: Priority,
    ) -> Result<Turn, Held> {
        let held = |throttle: &Throttle| person.and_then(|person| throttle.held_person(person, self.now()));
        let (admission, app_wait) = {
            let mut throttle = lock(&self.throttle);
            let app_wait = throttle.app_wait(self.now());
            let held = held(&throttle);
            let admission = held.map_or_else(|| throttle.admit(page, priority, self.now()), Admission::Refused);
            (admission, app_wait)
        };
        match admission {
            Admission::Refused(held) => return Err(held),
            Admission::After(wait) if !wait.is_zero() => {
                let _loan = (wait > app_wait).then(|| self.work.lend());
                sleep(wait).await;
            }
            Admission::After(_) => {}
        }
        let turn = self.slots.enter(priority).await;
        // Graph may have refused others while this one waited.
        let held = {
            let throttle = lock(&self.throttle);
            held(&throttle).or_else(|| throttle.held(page, self.now()))
        };
        match held {
            Some(held) => Err(held),
            None => Ok(turn),
        }
    }

    /// An answer came, with these headers; `good` when it was no error.
    pub fn observe(&self, page: Option<&PageId>, usage: &Usage, good: bool) {
        self.and_say(|throttle, now| throttle.observe(page, usage, good, now));
    }

    /// Graph refused a call; answers how long not to call in this scope. `hint` is Graph's own time.
    pub fn refused(&self, scope: ThrottleScope, page: Option<&PageId>, hint: Option<Duration>) -> Duration {
        self.and_say(|throttle, now| throttle.refused(scope, page, hint, now))
    }

    /// Another daemon that calls in the name of the same app says that Graph has blocked it for this time.
    pub fn block_app(&self, time: Duration) {
        lock(&self.throttle).block_app(time, self.now());
    }

    /// How long Graph has blocked the app, each time that it does so or makes it longer.
    pub fn app_blocked(&self) -> watch::Receiver<Duration> {
        self.blocked.subscribe()
    }

    /// Works on the limits. A block of the app that begins with it, or becomes longer, is said to whoever listens.
    fn and_say<T>(&self, work: impl FnOnce(&mut Throttle, MonoTime) -> T) -> T {
        let now = self.now();
        let (answer, before, after) = {
            let mut throttle = lock(&self.throttle);
            let before = throttle.app_block(now);
            let answer = work(&mut throttle, now);
            (answer, before, throttle.app_block(now))
        };
        if after > before {
            self.blocked.send_replace(after);
        }
        answer
    }

    /// Graph refused a call because of the person in whose name it was made; answers how long to leave them alone.
    pub fn refused_person(&self, person: &AppUserId, hint: Option<Duration>) -> Duration {
        lock(&self.throttle).refused_person(person, hint, self.now())
    }

    /// The calls that wait, and the blocks.
    pub fn status(&self) -> GateStatus {
        let now = self.now();
        let throttle = lock(&self.throttle);
        let waiting = |priority| self.slots.waiting(priority) + self.work.waiting(priority);
        GateStatus {
            in_flight: self.slots.taken(),
            max_in_flight: self.slots.max(),
            waiting_prompt: waiting(Priority::Prompt),
            waiting_background: waiting(Priority::Background),
            app_usage_percent: throttle.app_percent(now),
            app_blocked_secs: throttle.held(None, now).map(|held| held.retry_after.as_secs().max(1)),
            pages_blocked: throttle.pages_blocked(now),
            people_blocked: throttle.people_blocked(now),
        }
    }

    /// Time that no clock change moves.
    fn now(&self) -> MonoTime {
        MonoTime(self.start.elapsed().as_millis() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::facebook::graph::usage::PageUsage;
    use futures_util::FutureExt;
    use tokio::task::yield_now;

    async fn complete() {
        for _ in 0..50 {
            yield_now().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_than_the_slots_are_under_way() {
        let gate = Gate::new(2);
        let first = gate.enter(None, Priority::Prompt).await.unwrap();
        let _second = gate.enter(None, Priority::Prompt).await.unwrap();
        let third = tokio::spawn({
            let gate = gate.clone();
            async move { gate.enter(None, Priority::Background).await.unwrap() }
        });
        complete().await;
        let status = gate.status();
        assert_eq!((status.in_flight, status.waiting_background, third.is_finished()), (2, 1, false));
        drop(first);
        let _third = third.await.unwrap();
        assert_eq!(gate.status().in_flight, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn prompt_goes_first_and_background_is_not_starved() {
        let gate = Gate::new(1);
        let held = gate.enter(None, Priority::Prompt).await.unwrap();
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = Vec::new();
        for (priority, count) in [(Priority::Background, 3), (Priority::Prompt, 12)] {
            for _ in 0..count {
                let (gate, order) = (gate.clone(), order.clone());
                tasks.push(tokio::spawn(async move {
                    let permit = gate.enter(None, priority).await.unwrap();
                    lock(&order).push(priority);
                    drop(permit);
                }));
            }
            complete().await;
        }
        drop(held);
        for task in tasks {
            task.await.unwrap();
        }
        let order = lock(&order);
        assert_eq!(order[..8], [Priority::Prompt; 8]);
        assert_eq!(order[8], Priority::Background);
        assert_eq!(order[9..13], [Priority::Prompt; 4]);
        assert_eq!(order[13..], [Priority::Background; 2]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_who_gives_up_leaks_no_slot() {
        let gate = Gate::new(1);
        let held = gate.enter(None, Priority::Prompt).await.unwrap();
        let mut waiting = Vec::new();
        for _ in 0..1000 {
            let gate = gate.clone();
            waiting.push(tokio::spawn(async move { gate.enter(None, Priority::Prompt).await.map(drop) }));
        }
        complete().await;
        assert_eq!(gate.status().waiting_prompt, 1000);
        for task in waiting {
            task.abort();
            assert!(task.await.unwrap_err().is_cancelled());
        }
        // Handed over and abandoned in the same moment.
        let mut late = Box::pin(gate.enter(None, Priority::Prompt));
        assert!(late.as_mut().now_or_never().is_none());
        drop(held);
        drop(late);
        assert_eq!(gate.status().in_flight, 0);
        assert!(gate.enter(None, Priority::Background).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn the_number_of_slots_changes_while_running() {
        let gate = Gate::new(1);
        let first = gate.enter(None, Priority::Prompt).await.unwrap();
        let second = tokio::spawn({
            let gate = gate.clone();
            async move { gate.enter(None, Priority::Prompt).await.unwrap() }
        });
        complete().await;
        gate.set_max_in_flight(2);
        let second = second.await.unwrap();
        gate.set_max_in_flight(0);
        drop(first);
        let status = gate.status();
        assert_eq!((status.max_in_flight, status.in_flight), (1, 1));
        drop(second);
        assert!(gate.enter(None, Priority::Prompt).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_block_answers_at_once_and_reaches_those_who_wait() {
        let gate = Gate::new(1);
        let held = gate.enter(None, Priority::Prompt).await.unwrap();
        let waiting = tokio::spawn({
            let gate = gate.clone();
            async move { gate.enter(None, Priority::Prompt).await.map(drop) }
        });
        complete().await;
        let time = gate.refused(ThrottleScope::App, None, Some(Duration::from_secs(90)));
        drop(held);
        assert_eq!(waiting.await.unwrap().unwrap_err().scope, ThrottleScope::App);
        assert!(gate.enter(None, Priority::Prompt).await.is_err());
        assert_eq!(gate.status().app_blocked_secs, Some(90));
        tokio::time::advance(time).await;
        assert!(gate.enter(None, Priority::Prompt).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn pacing_makes_callers_wait() {
        let gate = Gate::new(4);
        gate.observe(None, &Usage { app: Some(83), page: None }, true);
        let start = Instant::now();
        for _ in 0..3 {
            drop(gate.enter(None, Priority::Prompt).await.unwrap());
        }
        assert_eq!(start.elapsed(), Duration::from_secs(2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_job_whose_page_is_paced_keeps_no_other_from_working() {
        let (gate, page) = (Gate::new(1), "1001".parse::<PageId>().unwrap());
        let percent = PageUsage { percent: 83, regain: Duration::ZERO };
        gate.observe(Some(&page), &Usage { app: None, page: Some(percent) }, true);
        let turn = gate.work().ask(Priority::Prompt, drop).ok().unwrap();
        drop(gate.enter(Some(&page), Priority::Prompt).await.unwrap());
        let mut paced = Box::pin(gate.enter(Some(&page), Priority::Prompt));
        assert!(paced.as_mut().now_or_never().is_none());
        let other = gate.work().ask(Priority::Background, drop).ok().expect("another job works meanwhile");
        drop(paced.await.unwrap());
        drop(other);
        assert!(gate.work().ask(Priority::Background, drop).is_err(), "the job that was paced has its turn");
        drop(turn);
        assert_eq!(gate.work().taken(), 0);
    }

    /// What keeps every call waiting makes no more jobs begin.
    #[tokio::test(start_paused = true)]
    async fn the_pace_of_the_app_lends_no_turn() {
        let gate = Gate::new(1);
        gate.observe(None, &Usage { app: Some(83), page: None }, true);
        let _turn = gate.work().ask(Priority::Prompt, drop).ok().unwrap();
        drop(gate.enter(None, Priority::Prompt).await.unwrap());
        let mut paced = Box::pin(gate.enter(None, Priority::Prompt));
        assert!(paced.as_mut().now_or_never().is_none());
        assert!(gate.work().ask(Priority::Background, drop).is_err());
    }
}
