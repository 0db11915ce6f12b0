//! One linked page: holds its token and its alarm, and the task of the job that is under way. The link's
//! [`machine`](crate::core::link::machine) decides what that job is; the page shows it the link as the store has it,
//! begins the jobs and reports their ends.
//!
//! The page works at its own pace. It learns *that* something happened, never what; the read that follows shows it.
//! What a job had claimed in the store is given back when its task is dropped.
//!
//! A page that dies is started again from the store. Its successor is entered in the registry first and looks into the
//! store second, so that a mark made in between either wakes it or is found.

mod message;
mod reading;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use ractor::{Actor, ActorProcessingErr, ActorRef};

use super::shared::Shared;
use super::{Alarm, Owned, jitter};
use crate::config::Config;
use crate::context::Context;
use crate::core::disposition::Disposition;
use crate::core::link::job::{Job, ReadEnd};
use crate::core::link::machine::{Facts, Input, Machine, Moment, Parking, Taken};
use crate::core::link::reads::Pace;
use crate::core::link::schedule;
use crate::core::model::{Generation, LinkKey, MonoTime, Secret, WallTime};
use crate::store::LinkRecord;
pub use message::PageMsg;
use reading::{JobDone, wanted_webhook_fields};

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
    /// The one of the machine's generation, where it can be opened.
    token: Option<Secret>,
    machine: Machine,
    alarm: Alarm,
    /// The task of the job that is under way, under the job's number.
    job: Option<(u64, Owned)>,
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

    /// The state of an actor that was stopped goes to its supervisor, which may be busy for a while.
    async fn post_stop(&self, _me: ActorRef<PageMsg>, state: &mut PageState) -> Result<(), ActorProcessingErr> {
        state.job = None;
        state.alarm = Alarm::default();
        Ok(())
    }

    async fn handle(
        &self,
        me: ActorRef<PageMsg>,
        message: PageMsg,
        state: &mut PageState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            PageMsg::Wake => state.woken(&me),
            PageMsg::Look(spread) => state.step(&me, Input::Look(spread)),
            PageMsg::Woke(generation) if state.alarm.is_current(generation) => state.step(&me, Input::Woke),
            PageMsg::Woke(_) => {}
            PageMsg::Done(number, done) => state.done(&me, number, *done),
            // A bug, and the page's own: its successor starts from the store.
            PageMsg::Broke(number) if state.machine.under_way() == Some(number) => {
                return Err("its job panicked".into());
            }
            PageMsg::Broke(_) => {}
            PageMsg::Relinked => state.step(&me, Input::Relinked),
            PageMsg::Reloaded(spread) => state.reloaded(&me, spread),
            PageMsg::Verify(wait) => state.step(&me, Input::Verify(MonoTime::now().plus(wait))),
            PageMsg::Parked => state.step(&me, Input::Parked),
            PageMsg::Check(generation) => state.step(&me, Input::Doubted(generation)),
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
        let read_at = context.store.view(&link).and_then(|view| view.synced.read_at).map(WallTime::to_mono);
        let (taken, token) = take_token(&context, &link, None);
        let machine = Machine::new(pace(&setup.config), offset, read_at, spread, taken.as_ref(), now);
        PageState { context, shared, link, token, machine, alarm: Alarm::default(), job: None }
    }

    /// The link as the store has it.
    fn facts(&self) -> Facts {
        Facts { stopping: self.context.is_stopping(), ..self.context.store.facts(&self.link) }
    }

    /// The machine decides, and what it decided is done.
    fn step(&mut self, me: &ActorRef<PageMsg>, input: Input) {
        let mut next = Some(input);
        while let Some(input) = next.take() {
            let (facts, shared) = (self.facts(), self.shared.clone());
            let check_slot = &mut || shared.check_slot();
            let moment = Moment { now: MonoTime::now(), jitter: jitter(), facts: &facts, check_slot };
            let step = self.machine.step(moment, input);
            if let Some(parking) = step.parking {
                self.note_parked(parking);
            }
            match step.job {
                Some((_, Job::TakeToken)) => next = Some(Input::Took(self.take_token())),
                Some((number, job)) => self.begin(me, number, job),
                None => {}
            }
        }
        self.cut_job();
        self.rearm(me);
    }

    fn woken(&mut self, me: &ActorRef<PageMsg>) {
        let (causes, hinted) = self.shared.pages.find(&self.link).map(|page| page.take_reasons()).unwrap_or_default();
        if hinted {
            self.step(me, Input::Hinted);
        }
        causes.into_iter().for_each(|cause| self.step(me, Input::Due(cause)));
    }

    fn begin(&mut self, me: &ActorRef<PageMsg>, number: u64, job: Job) {
        // The machine begins no job without both.
        let held = self.token.clone().zip(self.machine.generation());
        let Some((token, generation)) = held else { return };
        let (context, link, me) = (self.context.clone(), self.link.clone(), me.clone());
        let task = self.shared.tasks.spawn(async move {
            let held = reading::Held { link: &link, token: &token, generation };
            let work = AssertUnwindSafe(Box::pin(reading::perform(&context, held, job)));
            let message = match work.catch_unwind().await {
                Ok(done) => PageMsg::Done(number, Box::new(done)),
                Err(_) => PageMsg::Broke(number),
            };
            // A page that is gone needs no answer: its successor reads the store.
            let _ = me.cast(message);
        });
        self.job = Some((number, Owned(task)));
    }

    /// A task whose job is not under way any more ends unheard.
    fn cut_job(&mut self) {
        let under_way = self.machine.under_way();
        self.job.take_if(|(number, _)| Some(*number) != under_way);
    }

    /// A job that was cut short may have answered just before.
    fn done(&mut self, me: &ActorRef<PageMsg>, number: u64, done: JobDone) {
        if self.machine.under_way() == Some(number)
            && let Some(read) = done.end.read
        {
            self.context.pages.update(&self.link, |status| {
                status.reads += u64::from(!is_limited(read));
                status.trouble = done.trouble;
            });
        }
        self.step(me, Input::Ended(number, done.end));
    }

    /// Persisted in a task; a crash before that only means that the dead token is tried once more.
    fn note_parked(&self, parking: Parking) {
        let Parking { why, generation, persist } = parking;
        let (health, reason, remedy) = (why.word(), why.reason(), why.remedy());
        tracing::warn!(
            link = %self.link,
            health,
            reason,
            "page [{}]: parked as {health} ({reason}); remedy: {remedy}",
            self.link
        );
        let (context, link) = (self.context.clone(), self.link.clone());
        let Some(generation) = generation.filter(|_| persist) else { return };
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

    fn take_token(&mut self) -> Option<Taken> {
        // Trouble was that of the earlier token.
        self.context.pages.update(&self.link, |status| status.trouble = None);
        // A token that could not be opened is reported once.
        let reported = self.machine.generation().filter(|_| self.machine.lacks_key());
        let (taken, token) = take_token(&self.context, &self.link, reported);
        self.token = token;
        taken
    }

    fn reloaded(&mut self, me: &ActorRef<PageMsg>, spread: Duration) {
        let setup = self.context.setup();
        let view = self.context.store.view(&self.link);
        let lacks_fields = view.is_some_and(|view| lacks_fields(&setup.config, &view.record));
        self.step(me, Input::Reloaded { pace: pace(&setup.config), lacks_fields, spread });
    }

    fn rearm(&mut self, me: &ActorRef<PageMsg>) {
        self.alarm.set(me, self.machine.wake_at(MonoTime::now()), PageMsg::Woke);
        self.context.pages.update(&self.link, |status| {
            status.next_poll_at = self.machine.next_poll_at();
            status.throttled_until = self.machine.throttled_until();
            if self.machine.lacks_key() {
                status.trouble = Some(UNREADABLE.to_owned());
            }
        });
    }
}

/// The link's token, and what the store knows of it. One that cannot be opened is logged, unless it is of the generation
/// that was reported before.
fn take_token(context: &Context, link: &LinkKey, reported: Option<Generation>) -> (Option<Taken>, Option<Secret>) {
    // Before the token: should the link get another one in between, the page is behind and takes it again.
    let Some(generation) = context.store.generation(link) else { return (None, None) };
    match context.store.link(link) {
        Ok(Some(found)) => {
            let record = &found.record;
            let taken = Taken {
                generation: record.generation,
                readable: true,
                active: record.health.is_active(),
                lacks_fields: lacks_fields(&context.setup().config, record),
                checked: record.checked.at.is_some(),
            };
            (Some(taken), Some(found.token))
        }
        Ok(None) => (None, None),
        Err(error) => {
            if reported != Some(generation) {
                tracing::error!(
                    %link,
                    %error,
                    "page [{link}]: its token cannot be opened ({error}); link the page again"
                );
            }
            (Some(Taken::unreadable(generation)), None)
        }
    }
}

/// Are webhook fields wanted that Meta did not confirm?
fn lacks_fields(config: &Config, record: &LinkRecord) -> bool {
    let wanted = wanted_webhook_fields(config, record);
    !wanted.iter().all(|field| record.subscribed.contains(field))
}

fn is_limited(read: ReadEnd) -> bool {
    matches!(read, ReadEnd::Failed(Disposition::RateLimited { .. }))
}

const UNREADABLE: &str =
    "its token was sealed with a key that is not configured; name the key in store.previous_keys, or link again";
