//! One linked page: holds its token, its webhook state and its poll timer, feeds what happens to the
//! [`machine`](crate::core::link::machine) and carries out what that decides.
//!
//! The page works at its own pace. It learns *that* something happened, never what; the read that follows shows it. One
//! job (a read, or a repair of the page-level subscription) is under way at a time, in a task that ends with the
//! actor; what the job had claimed in the store is given back when the task is dropped.
//!
//! A page that dies is started again from the store. Its successor is entered in the registry first and looks into the
//! store second, so that a mark made in between either wakes it or is found.

mod reading;
mod upkeep;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use ractor::{Actor, ActorProcessingErr, ActorRef};

use super::shared::Shared;
use super::{Alarm, Owned, jitter};
use crate::config::Config;
use crate::context::Context;
use crate::core::health::{Health, ParkReason};
use crate::core::ledger::Mark;
use crate::core::link::machine::{Ended, Input, Machine, Pace, Read};
use crate::core::link::schedule;
use crate::core::model::{Cause, Generation, LinkKey, MonoTime, Secret, WallTime};
use crate::core::priority::Priority;
use crate::core::token_check;
pub(crate) use reading::wanted_webhook_fields;
use reading::{Job, JobDone};
use upkeep::{Check, Subscription};

/// Messages to a page.
pub enum PageMsg {
    /// Reasons wait in the page's handle: take them and step.
    Wake,
    /// Look into the store for a mark that nobody answers for; many may be looking at once, so spread over this.
    Look(Duration),
    /// The alarm of this generation rang.
    Woke(u64),
    /// The job of this number ended.
    Done(u64, Box<JobDone>),
    /// The job of this number panicked.
    Broke(u64),
    /// The link has a new token: take it from the store, unless that was done already.
    Relinked,
    /// Other settings hold; the work this causes may be spread over so long.
    Reloaded(Duration),
    /// Spaces may not hold what was last written: compare after this long. This is about the object, whichever token the
    /// link has: a write that was begun under an earlier one may land on the object of a later one.
    Verify(Duration),
    /// The link was parked by a decision elsewhere: look whether that holds for the token of this page.
    Parked,
    /// Something says that the token of this generation may not be good any more: check it.
    Check(Generation),
    /// Panic, to show that nobody else minds.
    #[cfg(feature = "sandbox")]
    Drill,
}

/// What a page is started with.
pub struct PageArgs {
    /// The shared context.
    pub context: Arc<Context>,
    /// What the actors share.
    pub shared: Arc<Shared>,
    /// Which link.
    pub link: LinkKey,
    /// Over how long a catch-up after a start is spread.
    pub spread: Duration,
}

/// What a page keeps.
pub struct PageState {
    context: Arc<Context>,
    shared: Arc<Shared>,
    link: LinkKey,
    token: Option<Secret>,
    /// The generation of the token that was taken from the store, readable or not: what is found out about it is not
    /// held against a newer one. `None` while the link was not found there.
    generation: Option<Generation>,
    machine: Machine,
    subscription: Subscription,
    check: Check,
    alarm: Alarm,
    job: Option<Owned>,
    job_number: u64,
    /// Why the read that is owed is owed, for reads that no mark stands behind.
    last_cause: Cause,
}

/// The page actor.
pub struct Page;

fn pace(config: &Config) -> Pace {
    Pace {
        debounce: config.sync.debounce,
        burst: u32::try_from(config.sync.burst).unwrap_or(u32::MAX),
        refill: config.sync.refill,
        poll_interval: config.sync.poll_interval,
    }
}

impl Actor for Page {
    type Msg = PageMsg;
    type State = PageState;
    type Arguments = PageArgs;

    /// Instant, and cannot fail: it runs inside the supervisor's handler.
    async fn pre_start(&self, _me: ActorRef<PageMsg>, args: PageArgs) -> Result<PageState, ActorProcessingErr> {
        Ok(PageState::new(args))
    }

    async fn handle(
        &self,
        me: ActorRef<PageMsg>,
        message: PageMsg,
        state: &mut PageState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            PageMsg::Wake => state.woken(&me),
            PageMsg::Look(spread) => state.look(&me, spread),
            PageMsg::Woke(generation) if state.alarm.is_current(generation) => state.step(&me, Input::Woke),
            PageMsg::Woke(_) => {}
            // A job that was cut short may have answered just before.
            PageMsg::Done(number, done) if number == state.job_number => state.done(&me, *done),
            PageMsg::Done(..) => {}
            // A bug, and the page's own: its successor starts from the store.
            PageMsg::Broke(number) if number == state.job_number => return Err("its job panicked".into()),
            PageMsg::Broke(_) => {}
            PageMsg::Relinked if state.has_another_token() => state.relinked(&me),
            // It was taken already, when the page looked or was started.
            PageMsg::Relinked => {}
            PageMsg::Reloaded(spread) => state.reloaded(&me, spread),
            PageMsg::Verify(wait) => {
                state.machine.verify_by(MonoTime::now().plus(wait));
                state.step(&me, Input::Woke);
            }
            PageMsg::Parked => state.parked_elsewhere(&me),
            PageMsg::Check(generation) if state.holds(&me, generation) => {
                state.check.due_at = MonoTime::now();
                state.step(&me, Input::Woke);
            }
            // News about a token that the link does not have any more.
            PageMsg::Check(_) => {}
            #[cfg(feature = "sandbox")]
            PageMsg::Drill => panic!("drill: this page was asked to panic"),
        }
        Ok(())
    }
}

impl PageState {
    fn new(PageArgs { context, shared, link, spread }: PageArgs) -> Self {
        let (now, offset) = (MonoTime::now(), schedule::offset(&link));
        let setup = context.setup();
        let read_at = context.store.view(&link).and_then(|view| view.synced.read_at);
        let poll_at =
            schedule::first_poll(offset, setup.config.sync.poll_interval, read_at.map(WallTime::to_mono), spread, now);
        let machine = Machine::new(pace(&setup.config), offset, poll_at);
        let mut state = PageState {
            context,
            shared,
            link,
            token: None,
            generation: None,
            machine,
            subscription: Subscription::default(),
            check: Check::first(schedule::next_check(offset, token_check::EVERY, now)),
            alarm: Alarm::default(),
            job: None,
            job_number: 0,
            last_cause: Cause::Poll,
        };
        if !state.load(spread) {
            state.machine.step(now, Input::Parked, 0.0);
        }
        state
    }

    /// Takes token, health and webhook state from the store; `false` when Graph may not be called.
    fn load(&mut self, spread: Duration) -> bool {
        let now = MonoTime::now();
        // Before the token: should the link get another one in between, the page is behind and takes it again.
        self.generation = self.context.store.generation(&self.link);
        match self.context.store.link(&self.link) {
            Ok(Some(link)) => {
                self.token = Some(link.token);
                self.generation = Some(link.record.generation);
                let wanted = wanted_webhook_fields(&self.context.setup().config, &link.record);
                let confirmed = link.record.subscribed.iter().cloned().collect();
                let soon = now.plus(spread.mul_f64(schedule::offset(&self.link)));
                self.subscription.due_at = (!wanted.is_subset(&confirmed)).then_some(soon);
                let (offset, checked) = (schedule::offset(&self.link), link.record.checked.at.is_some());
                let due_at = schedule::first_check(offset, token_check::EVERY, checked, spread, now);
                (self.check.due_at, self.check.failures, self.check.hinted) = (due_at, 0, None);
                if link.record.hint.is_some() && link.record.health.is_active() {
                    self.hinted();
                }
                link.record.health.is_active()
            }
            Ok(None) => false,
            Err(error) => {
                tracing::error!(
                    link = %self.link,
                    %error,
                    "page [{}]: its token cannot be opened ({error}); link the page again",
                    self.link
                );
                false
            }
        }
    }

    fn woken(&mut self, me: &ActorRef<PageMsg>) {
        let (causes, hinted) = self.shared.pages.find(&self.link).map(|page| page.take_reasons()).unwrap_or_default();
        if hinted && self.owes_a_check() {
            self.hinted();
            self.step(me, Input::Woke);
        }
        for cause in causes {
            // A read that began after the mark was made answers for it already.
            match self.pending_mark() {
                Some(_) => {
                    self.last_cause = cause;
                    self.step(me, Input::Due(cause));
                }
                None => self.step(me, Input::Woke),
            }
        }
    }

    /// The mark of this link that no read answers for. One that a job holds which was cut off is published when that
    /// job gives it back.
    fn pending_mark(&self) -> Option<Mark> {
        self.context.store.unclaimed_mark(&self.link)
    }

    fn look(&mut self, me: &ActorRef<PageMsg>, spread: Duration) {
        if self.is_behind() {
            return self.relinked(me);
        }
        self.parked_elsewhere(me);
        if self.owes_a_check() {
            self.hinted();
        }
        if let Some(mark) = self.pending_mark() {
            self.last_cause = mark.cause;
            let input =
                if spread < Duration::from_millis(100) { Input::Due(mark.cause) } else { Input::DueWithin(spread) };
            self.step(me, input);
        }
        self.step(me, Input::Woke);
    }

    /// After the store was away: it holds another token than this page, or could not note that the token is dead. Trying
    /// the token once more settles both.
    fn is_behind(&self) -> bool {
        let Some(view) = self.context.store.view(&self.link) else { return false };
        let unnoted = self.machine.is_parked() && self.token.is_some() && view.record.health.is_active();
        unnoted || self.has_another_token()
    }

    /// Does the link have another token than the one that this page holds?
    fn has_another_token(&self) -> bool {
        let standing = self.context.store.generation(&self.link);
        standing.is_some() && standing != self.generation
    }

    /// Is news about the token of this generation news about the page's? A page that has not heard of the link's newest
    /// token yet takes it first.
    fn holds(&mut self, me: &ActorRef<PageMsg>, generation: Generation) -> bool {
        if self.generation != Some(generation) && self.has_another_token() {
            self.relinked(me);
        }
        self.generation == Some(generation)
    }

    fn step(&mut self, me: &ActorRef<PageMsg>, input: Input) {
        // While a job is under way the machine may learn of things, but only its end lets another begin.
        let read = self.machine.step(MonoTime::now(), input, jitter());
        match read {
            Some(read) => self.begin(me, Job::Read { read, fallback: self.last_cause }),
            None => self.perhaps_upkeep(me),
        }
        self.rearm(me);
    }

    fn begin(&mut self, me: &ActorRef<PageMsg>, job: Job) {
        if self.has_another_token() {
            // No call is made any more with a token that the link does not have.
            return self.relinked(me);
        }
        let held = self.token.clone().zip(self.generation).filter(|_| !self.context.is_stopping());
        let Some((token, generation)) = held else {
            self.machine.step(MonoTime::now(), Input::ReadEnded(Ended::Failed { hint: None }), jitter());
            return;
        };
        // A subscription repair may be under way; the read takes over, and sees to the subscription itself.
        self.cut_job();
        let (context, link, me, number) = (self.context.clone(), self.link.clone(), me.clone(), self.job_number);
        let subscribe = self.subscription.due_at.is_some_and(|at| at <= MonoTime::now());
        let task = self.shared.tasks.spawn(async move {
            let held = reading::Held { link: &link, token: &token, generation };
            let work = AssertUnwindSafe(Box::pin(reading::perform(&context, held, job, subscribe)));
            let message = match work.catch_unwind().await {
                Ok(done) => PageMsg::Done(number, Box::new(done)),
                Err(_) => PageMsg::Broke(number),
            };
            // A page that is gone needs no answer: its successor reads the store.
            let _ = me.cast(message);
        });
        self.job = Some(Owned(task));
    }

    fn done(&mut self, me: &ActorRef<PageMsg>, done: JobDone) {
        self.job = None;
        self.note_subscription(&done);
        self.note_checked(&done);
        self.show(&done);
        match (done.ended, done.why) {
            (Some(ended), why) => {
                if let (Ended::Refused, Some(why)) = (&ended, why) {
                    self.note_parked(why);
                }
                if ended == Ended::Stored && self.context.store.due_mark(&self.link).is_none() {
                    // The read also answered for marks that were made between the start of the job and its claim.
                    self.machine.nothing_is_owed();
                }
                self.step(me, Input::ReadEnded(ended));
            }
            (None, Some(why)) => self.park(me, why),
            (None, None) => self.step(me, Input::Woke),
        }
    }

    fn show(&self, done: &JobDone) {
        self.context.pages.update(&self.link, |status| match &done.ended {
            Some(Ended::Stored) => {
                status.trouble = None;
                status.throttled_until = None;
                status.reads += 1;
            }
            Some(Ended::Held(wait)) => {
                status.throttled_until = Some(MonoTime::now().plus(*wait));
                status.trouble = done.trouble.clone();
            }
            Some(_) => {
                status.trouble = done.trouble.clone();
                status.reads += 1;
            }
            None => {}
        });
    }

    fn log_parked(&self, why: ParkReason) {
        let (health, reason, remedy) = (why.word(), why.reason(), why.remedy());
        tracing::warn!(
            link = %self.link,
            health,
            reason,
            "page [{}]: parked as {health} ({reason}); remedy: {remedy}",
            self.link
        );
    }

    /// Noted in a task; a crash before that only means that the dead token is tried once more.
    fn note_parked(&self, why: ParkReason) {
        self.log_parked(why);
        let (context, link, generation) = (self.context.clone(), self.link.clone(), self.generation);
        let Some(generation) = generation else { return };
        self.shared.tasks.spawn(async move {
            if let Err(error) = context.store.park_link(&link, generation, why).await {
                tracing::warn!(
                    %link,
                    %error,
                    "page [{link}]: parked, but this cannot be persisted ({error}), trying the token once more later"
                );
            }
        });
    }

    /// Whatever is under way ends unheard.
    fn cut_job(&mut self) {
        self.job = None;
        self.job_number += 1;
    }

    /// The store has it already.
    fn parked_elsewhere(&mut self, me: &ActorRef<PageMsg>) {
        if self.has_another_token() {
            return self.relinked(me);
        }
        let health = self.context.store.view(&self.link).map(|view| view.record.health.clone());
        if let Some(Health::Parked(parked)) = health
            && !self.machine.is_parked()
        {
            self.cut_job();
            self.log_parked(parked.why);
            self.step(me, Input::Parked);
        }
    }

    fn park(&mut self, me: &ActorRef<PageMsg>, why: ParkReason) {
        self.cut_job();
        if !self.machine.is_parked() {
            self.note_parked(why);
        }
        self.step(me, Input::Parked);
    }

    fn relinked(&mut self, me: &ActorRef<PageMsg>) {
        self.cut_job();
        self.subscription = Subscription::default();
        // Trouble and limits were those of the earlier token.
        self.context.pages.update(&self.link, |status| (status.trouble, status.throttled_until) = (None, None));
        let usable = self.load(Duration::ZERO);
        self.last_cause = Cause::Link;
        self.step(me, if usable { Input::Revived } else { Input::Parked });
    }

    fn reloaded(&mut self, me: &ActorRef<PageMsg>, spread: Duration) {
        let setup = self.context.setup();
        if self.token.is_none() && matches!(self.context.store.link(&self.link), Ok(Some(_))) {
            // The keys in force open the token that those before did not.
            return self.relinked(me);
        }
        if let Some(view) = self.context.store.view(&self.link) {
            let wanted = wanted_webhook_fields(&setup.config, &view.record);
            let confirmed = view.record.subscribed.iter().cloned().collect();
            if !wanted.is_subset(&confirmed) {
                let at = MonoTime::now().plus(spread.mul_f64(schedule::offset(&self.link)));
                self.subscription.due_at = Some(at);
            }
        }
        self.step(me, Input::Repaced(pace(&setup.config)));
    }

    fn rearm(&mut self, me: &ActorRef<PageMsg>) {
        let now = MonoTime::now();
        let read = self.machine.wake_at(now);
        let idle = self.job.is_none() && !self.machine.is_parked() && !self.context.is_stopping();
        let subscribe = self.subscription.due_at.filter(|_| idle);
        let check = idle.then_some(self.check.due_at);
        self.alarm.set(me, [read, subscribe, check].into_iter().flatten().min(), PageMsg::Woke);
        let parked = self.machine.is_parked();
        self.context.pages.update(&self.link, |status| {
            status.next_poll_at = (!parked).then_some(self.machine.poll_at());
            if self.token.is_none() {
                status.trouble = Some(UNREADABLE.to_owned());
            }
        });
    }
}

const UNREADABLE: &str =
    "its token was sealed with a key that is not configured; name the key in store.previous_keys, or link again";

/// How long a throttled page waits where nobody said.
const UNNAMED_THROTTLE: Duration = Duration::from_secs(60);

/// What a throttle means for this page.
fn held(retry_after: Option<Duration>) -> Ended {
    Ended::Held(retry_after.unwrap_or(UNNAMED_THROTTLE))
}

/// Was the read prompted by somebody who waits?
fn priority(read: Read) -> Priority {
    if read.prompt { Priority::Prompt } else { Priority::Background }
}
