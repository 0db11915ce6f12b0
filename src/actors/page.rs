//! One linked page: holds its timer, and the task of the job that is under way. The link's
//! [`machine`](crate::core::link::machine) decides what that job is; the page shows it the link as the store has it,
//! begins the jobs and reports their ends.
//!
//! A job waits for its turn at the source as a message to its page ([`Turnstile`](crate::turnstile::Turnstile)). Its
//! task, its token and its claim come into being when the turn has come, and so the claim is taken after the mark was
//! seen and before the source is asked, however long the wait was. A delivery meanwhile finds the mark unclaimed, and
//! costs no write.
//!
//! The page works at its own pace. It learns *that* something happened, never what; the read that follows shows it.
//! What a job had claimed in the store is given back when its task is dropped.
//!
//! A page that dies is started again from the store. Its successor is entered in the registry first and looks into the
//! store second, so that a mark made in between either wakes it or is found.

mod catalogue;
mod message;
mod reading;
mod shop;

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use tracing::Instrument;

use super::shared::Shared;
use super::timers::PageTimer;
use super::{Owned, STORE_RETRY, jitter};
use crate::config::Config;
use crate::context::Context;
use crate::core::disposition::Disposition;
use crate::core::link::job::{Job, ReadEnd};
use crate::core::link::machine::{Facts, Input, Machine, Moment, Parking, Taken};
use crate::core::link::reads::Pace;
use crate::core::link::schedule::{self, Spread};
use crate::core::model::{Cause, Generation, LinkKey, MonoTime, Source, WallTime};
use crate::core::park_reason::ParkReason;
use crate::store::{Link, LinkRecord, Unavailable};
use crate::turnstile::{Turn, Waiting};
use catalogue::Follower;
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
    /// The link as the store had it a moment ago.
    pub held: HeldLink,
    /// Over how long a catch-up after a start is spread.
    pub spread: Spread,
}

/// What a page keeps.
pub struct PageState {
    context: Arc<Context>,
    shared: Arc<Shared>,
    link: LinkKey,
    machine: Machine,
    timer: PageTimer,
    /// The job that is under way, under its number. In a box like the next one, because a page at rest has neither.
    job: Option<Box<(u64, Stage)>>,
    /// What is still to be decided on, because the store could not say how the link stands.
    #[expect(clippy::box_collection, reason = "a queue without elements is four times as large as no box")]
    unanswered: Option<Box<VecDeque<Pending>>>,
    /// Others have seen its machine.
    is_shown: bool,
    /// Follows the catalogue of a shop. In a box, because a page has none.
    catalogue: Option<Box<Follower>>,
}

/// How far a job is.
enum Stage {
    /// It waits for its turn. The place in the queue is given up when it is dropped.
    Waiting { job: Job, place: Waiting },
    /// A task does it.
    Begun { _task: Owned },
}

/// What a page is to decide on.
enum Pending {
    /// What happened.
    Input(Input),
    /// The token is to be taken from the store.
    TakeToken,
}

/// The page actor.
pub struct Page;

fn pace(config: &Config, source: Source) -> Pace {
    Pace {
        debounce: config.sync.debounce,
        burst: u32::try_from(config.sync.burst).unwrap_or(u32::MAX),
        refill: config.sync.refill,
        poll_interval: match source {
            Source::Facebook => config.sync.poll_interval,
            Source::Shopify => config.shopify.sweep_interval,
        },
    }
}

impl Actor for Page {
    type Msg = PageMsg;
    type State = PageState;
    /// In a box, for the size of the task that they are moved through.
    type Arguments = Box<PageArgs>;

    /// Instant, and cannot fail: it runs inside the supervisor's handler.
    async fn pre_start(&self, _me: ActorRef<PageMsg>, args: Box<PageArgs>) -> Result<PageState, ActorProcessingErr> {
        Ok(PageState::new(*args))
    }

    /// The state of an actor that was stopped goes to its supervisor, which may be busy for a while.
    async fn post_stop(&self, _me: ActorRef<PageMsg>, state: &mut PageState) -> Result<(), ActorProcessingErr> {
        (state.job, state.catalogue) = (None, None);
        state.timer.cancel();
        Ok(())
    }

    /// In a box from the first moment on: the task of a page at rest then holds the place of a pointer, in which
    /// neither the message nor what becomes of it has to fit.
    fn handle(
        &self,
        me: ActorRef<PageMsg>,
        message: PageMsg,
        state: &mut PageState,
    ) -> impl Future<Output = Result<(), ActorProcessingErr>> + Send {
        Box::pin(async move { state.take_in(&me, message).await })
    }

    /// A page supervises nobody. The future of the trait's own answer would take its place in the task of every page.
    fn handle_supervisor_evt(
        &self,
        _me: ActorRef<PageMsg>,
        _event: SupervisionEvent,
        _state: &mut PageState,
    ) -> impl Future<Output = Result<(), ActorProcessingErr>> + Send {
        std::future::ready(Ok(()))
    }
}

impl PageState {
    fn new(PageArgs { context, shared, link, held, spread }: PageArgs) -> Self {
        let (now, offset) = (MonoTime::now(), schedule::offset(&link));
        let HeldLink { taken, read_at } = held;
        let pace = pace(&context.setup().config, link.source());
        let machine = Machine::new(pace, offset, read_at.map(WallTime::to_mono), spread.polls, Some(&taken), now);
        let timer = PageTimer::new(&shared.timers);
        PageState {
            context,
            shared,
            link,
            machine,
            timer,
            job: None,
            unanswered: None,
            is_shown: false,
            catalogue: None,
        }
    }

    async fn take_in(&mut self, me: &ActorRef<PageMsg>, message: PageMsg) -> Result<(), ActorProcessingErr> {
        match message {
            PageMsg::Wake => self.woken(me).await,
            PageMsg::Look(spread) => self.look(me, spread).await,
            PageMsg::Woke(number) if self.timer.rings(number) => self.step(me, [Input::Woke]).await,
            PageMsg::Woke(_) => {}
            PageMsg::Turn(number, turn) => self.take_turn(me, number, turn),
            PageMsg::Done(number, done) => self.done(me, number, *done).await,
            // A bug, and the page's own: its successor starts from the store.
            PageMsg::Broke(number) if self.machine.under_way() == Some(number) => {
                return Err("its job panicked".into());
            }
            PageMsg::Broke(_) => {}
            PageMsg::CatalogueBroke(generation) if self.machine.generation() == Some(generation) => {
                return Err("the task of its catalogue panicked".into());
            }
            PageMsg::CatalogueBroke(_) => {}
            PageMsg::Relinked => self.step(me, [Input::Relinked]).await,
            PageMsg::Reloaded(spread) => self.reloaded(me, spread).await,
            PageMsg::Verify(wait) => self.step(me, [Input::Verify(MonoTime::now().plus(wait))]).await,
            PageMsg::Parked => self.step(me, [Input::Parked]).await,
            PageMsg::Check(generation) => self.step(me, [Input::Doubted(generation)]).await,
            #[cfg(feature = "sandbox")]
            PageMsg::Drill(drill) => drill.play("this page").await,
        }
        Ok(())
    }

    /// The machine decides, and what it decided is done. What cannot be decided without the store waits for it, in its
    /// order.
    async fn step(&mut self, me: &ActorRef<PageMsg>, inputs: impl IntoIterator<Item = Input>) {
        let shown = self.shown();
        let mut pending = self.unanswered.take().map(|waiting| *waiting).unwrap_or_default();
        let mut inputs = inputs.into_iter();
        if !pending.is_empty() {
            for input in inputs.by_ref() {
                // What waits already is decided on with the link as it is then, so once is enough.
                let waits = |known: &Pending| matches!(known, Pending::Input(known) if *known == input);
                if input != Input::Woke && !pending.iter().any(waits) {
                    pending.push_back(Pending::Input(input));
                }
            }
        }
        let mut first = None;
        loop {
            let next = first.take().or_else(|| pending.pop_front()).or_else(|| inputs.next().map(Pending::Input));
            let Some(next) = next else { break };
            let decided = match next {
                Pending::Input(input) => self.decide(me, input).await,
                Pending::TakeToken => self.take_token().await,
            };
            match decided {
                Ok(then) => first = then,
                Err((undone, error)) => {
                    tracing::debug!(
                        link = %self.link,
                        %error,
                        "page [{}]: its link cannot be looked at ({error}), asking again in {STORE_RETRY:?}",
                        self.link
                    );
                    pending.push_front(undone);
                    pending.extend(inputs.by_ref().map(Pending::Input));
                    self.unanswered = Some(Box::new(pending));
                    break;
                }
            }
        }
        self.cut_job();
        self.fit_catalogue(me);
        self.rearm(me);
        self.show(shown);
    }

    /// Decides on one thing that happened. Returns what is to be done first.
    async fn decide(&mut self, me: &ActorRef<PageMsg>, input: Input) -> Result<Option<Pending>, Undecided> {
        let facts = match self.context.store.facts(&self.link).await {
            Ok(facts) => Facts { stopping: self.context.is_stopping(), ..facts },
            Err(error) => return Err((Pending::Input(input), error)),
        };
        let shared = &self.shared;
        let check_slot = &mut || shared.check_slot();
        let moment = Moment { now: MonoTime::now(), jitter: jitter(), facts: &facts, check_slot };
        let step = self.machine.step(moment, input);
        if let Some(parking) = step.parking {
            self.note_parked(parking);
        }
        if let Some(number) = step.raised {
            self.raise(number);
        }
        match step.job {
            Some((_, Job::TakeToken)) => return Ok(Some(Pending::TakeToken)),
            Some((number, job)) => self.begin(me, number, job),
            None => {}
        }
        Ok(None)
    }

    async fn woken(&mut self, me: &ActorRef<PageMsg>) {
        let reasons = self.shared.pages.find(&self.link).map(|page| page.take_reasons()).unwrap_or_default();
        if let Some(catalogue) = &self.catalogue {
            catalogue.wake();
            if reasons.causes().any(|cause| cause == Cause::Manual) {
                catalogue.hurry();
            }
        }
        let hint = reasons.is_hinted().then_some(Input::Hinted);
        let heard = reasons.heard_at.map(Input::DueSince);
        let inputs = hint.into_iter().chain(reasons.causes().map(Input::Due)).chain(heard);
        self.step(me, inputs).await;
    }

    /// The store may hold marks that nobody has announced.
    async fn look(&mut self, me: &ActorRef<PageMsg>, spread: Spread) {
        if let Some(catalogue) = &self.catalogue {
            catalogue.wake();
        }
        self.step(me, [Input::Look(spread)]).await;
    }

    /// The job begins at once, or when its turn has come. An earlier one that waits or goes on has been cut short.
    fn begin(&mut self, me: &ActorRef<PageMsg>, number: u64, job: Job) {
        self.job = None;
        let page = me.clone();
        // A page that is gone leaves the turn to the next.
        let taker = move |turn| drop(page.cast(PageMsg::Turn(number, turn)));
        match self.context.work(self.link.source()).ask(job.priority(), taker) {
            Ok(turn) => self.perform(me, number, job, turn),
            Err(place) => self.job = Some(Box::new((number, Stage::Waiting { job, place }))),
        }
    }

    /// A job that has begun, or whose turn is on its way, stays as it is.
    fn raise(&mut self, number: u64) {
        if let Some((held, Stage::Waiting { job, place })) = self.job.as_deref_mut()
            && *held == number
        {
            job.raise();
            place.raise();
        }
    }

    /// A turn that is not wanted any more goes to the next.
    fn take_turn(&mut self, me: &ActorRef<PageMsg>, number: u64, turn: Turn) {
        let waits = self.job.as_deref().filter(|(held, _)| *held == number && !self.context.is_stopping());
        if let Some((_, Stage::Waiting { job, .. })) = waits {
            let job = *job;
            self.perform(me, number, job, turn);
        }
    }

    fn perform(&mut self, me: &ActorRef<PageMsg>, number: u64, job: Job, turn: Turn) {
        // The machine begins no job without one.
        let Some(generation) = self.machine.generation() else { return };
        let (context, link, me) = (self.context.clone(), self.link.clone(), me.clone());
        let task = self.shared.tasks.spawn(async move {
            // What the job logs from deep within is about the link as well.
            let span = tracing::error_span!("job", %link);
            let work =
                AssertUnwindSafe(Box::pin(shop::perform(&context, &link, generation, job, turn).instrument(span)));
            let message = match work.catch_unwind().await {
                Ok(done) => PageMsg::Done(number, Box::new(done)),
                Err(_) => PageMsg::Broke(number),
            };
            // A page that is gone needs no answer: its successor reads the store.
            let _ = me.cast(message);
        });
        self.job = Some(Box::new((number, Stage::Begun { _task: Owned(task) })));
    }

    /// A job that is not under way any more gives up its place, and its task ends unheard.
    fn cut_job(&mut self) {
        let under_way = self.machine.under_way();
        self.job.take_if(|job| Some(job.0) != under_way);
    }

    /// The catalogue of a shop is followed while the link has a token that may be used.
    fn fit_catalogue(&mut self, me: &ActorRef<PageMsg>) {
        if self.link.shop().is_none() {
            return;
        }
        let is_usable = !self.machine.is_parked() && !self.machine.lacks_key() && !self.context.is_stopping();
        let wanted = self.machine.generation().filter(|_| is_usable);
        if self.catalogue.as_ref().map(|catalogue| catalogue.generation) != wanted {
            let begin = |generation| Follower::begin(&self.context, &self.link, generation, me);
            self.catalogue = wanted.and_then(begin).map(Box::new);
        }
    }

    /// A job that was cut short may have answered just before.
    async fn done(&mut self, me: &ActorRef<PageMsg>, number: u64, done: JobDone) {
        if self.machine.under_way() == Some(number)
            && let Some(read) = done.end.read
        {
            self.context.pages.update(&self.link, |status| {
                status.reads += u64::from(!is_limited(read));
                status.trouble = done.trouble;
            });
        }
        self.step(me, [Input::Ended(number, done.end)]).await;
    }

    /// Persisted in a task; a crash before that only means that the dead token is tried once more.
    fn note_parked(&self, parking: Parking) {
        let Parking { why, generation, persist } = parking;
        let (health, reason, remedy) = (why.word(), why.reason(), why.remedy());
        // An uninstalled app parks every link of its shop, and the line of the shop reports all of them.
        if self.link.shop().is_none() || why != ParkReason::Uninstalled {
            tracing::warn!(
                link = %self.link,
                health,
                reason,
                "page [{}]: parked as {health} ({reason}); remedy: {remedy}",
                self.link
            );
        }
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

    async fn take_token(&mut self) -> Result<Option<Pending>, Undecided> {
        // A token that could not be opened is reported once.
        let reported = self.machine.generation().filter(|_| self.machine.lacks_key());
        let taken = take_token(&self.context, &self.link, reported).await;
        let taken = taken.map_err(|error| (Pending::TakeToken, error))?;
        // Trouble was that of the earlier token.
        self.context.pages.update(&self.link, |status| status.trouble = None);
        Ok(Some(Pending::Input(Input::Took(taken))))
    }

    async fn reloaded(&mut self, me: &ActorRef<PageMsg>, spread: Duration) {
        let setup = self.context.setup();
        // Where the store cannot be read, the next poll looks at the subscription.
        let view = self.context.store.view(&self.link).await.ok().flatten();
        let lacks_fields = view.is_some_and(|view| lacks_fields(&setup.config, self.link.source(), &view.record));
        self.step(me, [Input::Reloaded { pace: pace(&setup.config, self.link.source()), lacks_fields, spread }]).await;
    }

    fn rearm(&mut self, me: &ActorRef<PageMsg>) {
        let now = MonoTime::now();
        let again = self.unanswered.is_some().then(|| now.plus(STORE_RETRY));
        self.timer.set(me, again.or_else(|| self.machine.wake_at(now)));
    }

    /// What others see of its machine.
    fn shown(&self) -> Shown {
        let Self { machine, .. } = self;
        Shown {
            next_poll_at: machine.next_poll_at(),
            throttled_until: machine.throttled_until(),
            plenty_at: machine.plenty_at(),
        }
    }

    /// Shows others its machine after a step before which they saw this. Most steps change nothing of it.
    fn show(&mut self, before: Shown) {
        let shown = self.shown();
        let is_known = std::mem::replace(&mut self.is_shown, true) && before == shown;
        if is_known && !self.machine.lacks_key() {
            return;
        }
        if let Some(page) = self.shared.pages.find(&self.link) {
            page.set_plenty_at(shown.plenty_at);
        }
        self.context.pages.update(&self.link, |status| {
            (status.next_poll_at, status.throttled_until) = (shown.next_poll_at, shown.throttled_until);
            if self.machine.lacks_key() {
                status.trouble = Some(UNREADABLE.to_owned());
            }
        });
    }
}

/// What others see of a page's machine.
#[derive(PartialEq, Eq)]
struct Shown {
    next_poll_at: Option<MonoTime>,
    throttled_until: Option<MonoTime>,
    plenty_at: MonoTime,
}

/// What cannot be decided, and why.
type Undecided = (Pending, Unavailable);

/// A link as the store has it, for a page that is about to begin.
pub struct HeldLink {
    taken: Taken,
    read_at: Option<WallTime>,
}

impl HeldLink {
    /// Takes it from the store; `None` when it is not linked.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn take(context: &Context, link: &LinkKey) -> Result<Option<HeldLink>, Unavailable> {
        let Some(view) = context.store.view(link).await? else { return Ok(None) };
        let taken = take_token(context, link, None).await?;
        Ok(taken.map(|taken| HeldLink { taken, read_at: view.synced.read_at }))
    }
}

/// What the store knows of the link's token, and whether it can be opened; `None` when it is not linked. The token
/// itself is left there, sealed, for the jobs. One that cannot be opened is logged, unless it is of the generation that
/// was reported before.
async fn take_token(
    context: &Context,
    link: &LinkKey,
    reported: Option<Generation>,
) -> Result<Option<Taken>, Unavailable> {
    let Some(Link { record, token, .. }) = context.store.link(link).await? else { return Ok(None) };
    let generation = record.generation;
    match token {
        Ok(_) => Ok(Some(Taken {
            generation,
            readable: true,
            active: record.health.is_active(),
            lacks_fields: lacks_fields(&context.setup().config, link.source(), &record),
            checked: record.checked.at.is_some(),
        })),
        Err(error) => {
            if reported != Some(generation) {
                tracing::error!(
                    %link,
                    %error,
                    "page [{link}]: its token cannot be opened ({error}); link the page again"
                );
            }
            Ok(Some(Taken::unreadable(generation)))
        }
    }
}

/// Are webhook fields wanted that Meta did not confirm?
fn lacks_fields(config: &Config, source: Source, record: &LinkRecord) -> bool {
    let wanted = wanted_webhook_fields(config, source, record);
    !wanted.iter().all(|field| record.subscribed.contains(field))
}

fn is_limited(read: ReadEnd) -> bool {
    matches!(read, ReadEnd::Failed(Disposition::RateLimited { .. }))
}

const UNREADABLE: &str =
    "its token was sealed with a key that is not configured; name the key in store.previous_keys, or link again";
