//! A page and its jobs: the daemon's own [`Machine`] decides, and the jobs are done here without Graph, tokio and
//! tokens (`src/actors/page.rs`, `src/actors/page/reading.rs`).

use std::time::Duration;

use pagesyncd::core::disposition::Disposition;
use pagesyncd::core::ledger::Digest;
use pagesyncd::core::link::job::{self, JobEnd, ReadEnd};
use pagesyncd::core::link::machine::{Input, Machine, Moment, Taken};
use pagesyncd::core::link::reads::Read;
use pagesyncd::core::link::schedule::{self, Spread};
use pagesyncd::core::link::upkeep::{CheckEnd, SubscriptionEnd};
use pagesyncd::core::model::{Generation, MonoTime};
use pagesyncd::core::park_reason::ParkReason;
use pagesyncd::core::token_check::Verdict;
use pagesyncd::core::turns::Ticket;
use pagesyncd::store::stepped::shown;
use pagesyncd::store::{Expectation, LinkRecord, ReadClaim, StageOutcome};

use super::chaos::Flavour;
use super::logins::token_number;
use super::store::{Body, Done, L};
use super::world::{Event, World};

/// Why every token dies here.
pub const DEAD: ParkReason = ParkReason::Invalid;
/// Between two checks that hints cause, in the whole daemon.
const CHECKS_APART: Duration = Duration::from_millis(50);

#[derive(Debug, Clone, PartialEq)]
pub enum PageMsg {
    Wake,
    Look(Spread),
    Woke(u64),
    Done(u64, JobEnd),
    Relinked,
    Reloaded,
    Verify(Duration),
    Parked,
    Check(Generation),
}

#[derive(Debug)]
pub struct Page {
    pub link: L,
    pub machine: Machine,
    token: Option<usize>,
    alarm: u64,
    /// The task of the job under way, by the job's number.
    job: Option<(u64, u64)>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum JobStep {
    Begin,
    TokenAnswers,
    SubscriptionAnswers,
    /// The moment whose content Graph will answer with.
    GraphLooks,
    GraphAnswers,
    HeadAnswers,
}

/// The right of a job to call Graph.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Turn {
    /// Its key waits in the queue.
    Waits(Ticket),
    Has,
    GaveBack,
}

/// A job under way, in a task of its own once its turn has come.
pub struct Job {
    link: L,
    instance: u64,
    number: u64,
    token: usize,
    generation: Generation,
    turn: Turn,
    what: job::Job,
    end: JobEnd,
    hint: Option<u64>,
    claim: Option<ReadClaim>,
    staging: bool,
    seen: usize,
    digest: Digest,
    expected: Expectation,
    /// The bucket's object as HEAD showed it.
    head: Option<u64>,
    /// Spaces could not be asked.
    is_uncompared: bool,
}

impl Job {
    pub fn claims(&self, l: L) -> bool {
        self.link == l && self.claim.is_some()
    }

    fn read(&self) -> Option<Read> {
        match self.what {
            job::Job::Read { read, .. } => Some(read),
            _ => None,
        }
    }

    fn sees_to_the_subscription(&self) -> bool {
        match self.what {
            job::Job::Read { read, subscribe, .. } => subscribe || read.poll,
            _ => true,
        }
    }
}

impl Page {
    pub fn is_busy(&self) -> bool {
        self.job.is_some()
    }
}

impl World {
    pub fn new_page(&mut self, l: L, spread: Spread) -> u64 {
        let (offset, now) = (schedule::offset(&self.keys[l]), self.mono());
        let read_at =
            shown(self.store.view(&self.keys[l])).and_then(|view| view.synced.read_at).map(|at| MonoTime(at.0));
        let (taken, token) = self.take_token(l);
        let machine = Machine::new(self.pace.clone(), offset, read_at, spread.polls, taken.as_ref(), now);
        let instance = self.fresh();
        self.oracle.page_began(instance, &self.pace, now);
        self.pages.insert(instance, Page { link: l, machine, token, alarm: 0, job: None });
        instance
    }

    fn take_token(&mut self, l: L) -> (Option<Taken>, Option<usize>) {
        let Some(link) = shown(self.store.link(&self.keys[l])) else { return (None, None) };
        let taken = Taken {
            generation: link.record.generation,
            readable: true,
            active: link.record.health.is_active(),
            lacks_fields: self.lacks_fields(&link.record),
            checked: link.record.checked.at.is_some(),
        };
        let Ok(token) = link.token.as_ref().map(token_number) else {
            self.fail(format!("link {l}: its token does not open"));
            return (None, None);
        };
        if self.token_of(l, taken.generation) != Some(token) {
            self.fail(format!("link {l}: the store has another token than was put there"));
        }
        (Some(taken), Some(token))
    }

    pub fn lacks_fields(&self, record: &LinkRecord) -> bool {
        record.subscribed.len() < self.wanted_fields as usize
    }

    pub fn page_handles(&mut self, instance: u64, message: PageMsg) {
        let Some(page) = self.pages.get(&instance) else { return };
        let link = page.link;
        let input = match message {
            PageMsg::Wake => {
                let reasons = self.directory.get_mut(&link).map(|place| place.take_reasons());
                let (causes, hinted, heard_at) = reasons.unwrap_or_default();
                if hinted {
                    self.step_page(instance, Input::Hinted);
                }
                causes.into_iter().for_each(|cause| self.step_page(instance, Input::Due(cause)));
                if let Some(heard_at) = heard_at {
                    self.step_page(instance, Input::DueSince(heard_at));
                }
                return;
            }
            PageMsg::Woke(alarm) if alarm != page.alarm => return,
            PageMsg::Woke(_) => Input::Woke,
            PageMsg::Look(spread) => Input::Look(spread),
            PageMsg::Done(number, end) => Input::Ended(number, end),
            PageMsg::Relinked => Input::Relinked,
            PageMsg::Parked => Input::Parked,
            PageMsg::Check(generation) => Input::Doubted(generation),
            PageMsg::Verify(wait) => Input::Verify(self.mono().plus(wait)),
            PageMsg::Reloaded => {
                let view = shown(self.store.view(&self.keys[link]));
                let lacks_fields = view.is_some_and(|view| self.lacks_fields(&view.record));
                let spread = Duration::from_millis(self.chance.below(2_000));
                Input::Reloaded { pace: self.pace.clone(), lacks_fields, spread }
            }
        };
        self.step_page(instance, input);
    }

    fn page(&mut self, instance: u64) -> &mut Page {
        self.pages.get_mut(&instance).expect("a page that handles is alive")
    }

    fn step_page(&mut self, instance: u64, input: Input) {
        let (now, link) = (self.mono(), self.pages[&instance].link);
        let mut next = Some(input);
        while let Some(input) = next.take() {
            let (jitter, facts) = (self.chance.unit(), shown(self.store.facts(&self.keys[link])));
            self.oracle.page_told(instance, &input, &facts, now);
            let slot = &mut self.check_slot;
            let mut check_slot = || {
                *slot = slot.plus(CHECKS_APART).max(now);
                *slot
            };
            let moment = Moment { now, jitter, facts: &facts, check_slot: &mut check_slot };
            let page = self.pages.get_mut(&instance).expect("a page that handles is alive");
            let step = page.machine.step(moment, input);
            if let Some(parking) = step.parking
                && parking.persist
            {
                self.park(link, parking.generation, parking.why);
            }
            match step.job {
                Some((_, job::Job::TakeToken)) => {
                    let (taken, token) = self.take_token(link);
                    self.page(instance).token = token;
                    next = Some(Input::Took(taken));
                }
                Some((number, job)) => self.begin(instance, number, job),
                None => {}
            }
        }
        let under_way = self.page(instance).machine.under_way();
        if self.page(instance).job.is_some_and(|(number, _)| Some(number) != under_way) {
            self.cut_job(instance);
        }
        let plenty_at = self.page(instance).machine.plenty_at();
        if let Some(place) = self.directory.get_mut(&link).filter(|place| place.instance == instance) {
            place.plenty_at = Some(plenty_at);
        }
        let page = self.page(instance);
        page.alarm += 1;
        let (alarm, at) = (page.alarm, page.machine.wake_at(now));
        if let Some(at) = at {
            let wait = (at.since(now).as_millis() as u64).max(1);
            self.soon(wait, Event::Page(instance, PageMsg::Woke(alarm)));
        }
    }

    pub fn park(&mut self, l: L, generation: Option<Generation>, why: ParkReason) {
        let (store, key) = (self.store.clone(), self.keys[l].clone());
        let Some(generation) = generation else { return };
        self.ask(async move {
            // What cannot be persisted is found out again.
            let _ = store.park_link(&key, generation, why).await;
            Done::Noted
        });
    }

    fn begin(&mut self, instance: u64, number: u64, what: job::Job) {
        if let job::Job::Read { read: Read { prompt: true, .. }, .. } = what
            && let Some((reads, allowed)) = self.oracle.page_reads(instance, self.mono())
        {
            let link = self.page(instance).link;
            self.fail(format!("link {link} is read {reads} times where {allowed} are allowed"));
        }
        self.cut_job(instance);
        let id = self.fresh();
        let page = self.page(instance);
        page.job = Some((number, id));
        let (link, held) = (page.link, page.token.zip(page.machine.generation()));
        let Some((token, generation)) = held else { return self.fail(format!("link {link}: a job without a token")) };
        if shown(self.store.generation(&self.keys[link])).is_some_and(|standing| standing != generation) {
            self.fail(format!("link {link}: a job begins with a token that the link does not have any more"));
        }
        let takes = self.turns.take();
        let turn = if takes { Turn::Has } else { Turn::Waits(self.turns.wait(what.priority(), id)) };
        let job = Job {
            link,
            instance,
            number,
            token,
            generation,
            turn,
            what,
            end: JobEnd::default(),
            hint: None,
            claim: None,
            staging: false,
            seen: 0,
            digest: [0; 32],
            expected: Expectation::default(),
            head: None,
            is_uncompared: false,
        };
        self.jobs.insert(id, job);
        if takes {
            let wait = self.chance.below(2);
            self.soon(wait, Event::Job(id, JobStep::Begin));
        }
    }

    /// The turn of a job ends, and those whose turn has come begin.
    fn give_back(&mut self, job: &mut Job) {
        if std::mem::replace(&mut job.turn, Turn::GaveBack) != Turn::Has {
            return;
        }
        self.turns.give_back();
        while let Some(id) = self.turns.admit() {
            match self.jobs.get_mut(&id) {
                Some(job) => {
                    job.turn = Turn::Has;
                    let wait = self.chance.below(2);
                    self.soon(wait, Event::Job(id, JobStep::Begin));
                }
                None => self.turns.give_back(),
            }
        }
    }

    /// An abort is noticed by its task a little later.
    pub fn cut_job(&mut self, instance: u64) {
        if let Some((_, job)) = self.page(instance).job.take() {
            if let Some(Turn::Waits(ticket)) = self.jobs.get(&job).map(|job| job.turn) {
                self.turns.leave(ticket);
                self.jobs.remove(&job);
                return;
            }
            let often = if self.plan.flavour == Flavour::Dying { 30 } else { 8 };
            let wait = if self.chance.percent(often) { self.chance.below(5_000) } else { self.chance.below(4) };
            self.soon(wait, Event::AbortLands(job));
        }
    }

    pub fn abort_lands(&mut self, id: u64) {
        // Staging is a task of its own and goes on.
        if self.jobs.get(&id).is_some_and(|job| job.staging) {
            return;
        }
        // With the claim that it holds.
        if let Some(mut job) = self.jobs.remove(&id) {
            self.give_back(&mut job);
        }
    }

    pub fn job_goes_on(&mut self, id: u64, step: JobStep) {
        let Some(mut job) = self.jobs.remove(&id) else { return };
        let is_over = match step {
            JobStep::Begin => self.job_begins(id, &mut job),
            JobStep::TokenAnswers => self.token_answers(id, &mut job),
            JobStep::SubscriptionAnswers => self.subscription_answers(id, &mut job),
            JobStep::GraphLooks => {
                job.seen = self.graph.version(self.page_of(job.link));
                false
            }
            JobStep::GraphAnswers => self.graph_answers(id, &mut job),
            JobStep::HeadAnswers if self.now < self.spaces.down_until => self.head_fails(id, &mut job),
            JobStep::HeadAnswers => self.head_answers(id, &mut job),
        };
        if is_over {
            self.job_ends(job);
        } else {
            self.jobs.insert(id, job);
        }
    }

    fn job_ends(&mut self, mut job: Job) {
        self.give_back(&mut job);
        self.tell_page(job.instance, PageMsg::Done(job.number, job.end));
    }

    /// Is the link still of the token that the job was begun with?
    fn holds(&self, job: &Job) -> bool {
        shown(self.store.generation(&self.keys[job.link])) == Some(job.generation)
    }

    pub fn graph_takes(&mut self) -> u64 {
        let slow = self.now < self.graph.slow_until;
        if slow { self.chance.between(1_000, 15_000) } else { self.chance.between(20, 600) }
    }

    /// What Graph answers, whatever it is asked.
    pub fn graph_trouble(&mut self) -> Option<Disposition> {
        if self.now < self.graph.down_until || self.chance.percent(3) {
            return Some(Disposition::Retry);
        }
        if self.now < self.graph.throttled_until {
            let named = self.graph.throttled_until.since(self.now);
            return Some(Disposition::RateLimited { retry_after: self.chance.percent(50).then_some(named) });
        }
        None
    }

    fn job_begins(&mut self, id: u64, job: &mut Job) -> bool {
        if job.what != job::Job::CheckToken {
            return self.look_at_subscription(id, job);
        }
        self.figures.checks += 1;
        job.hint = shown(self.store.claim_hint(&self.keys[job.link], job.generation));
        let took = self.graph_takes();
        self.soon(took, Event::Job(id, JobStep::TokenAnswers));
        false
    }

    /// `debug_token`, and the read that decides where it is suspicious.
    fn token_answers(&mut self, id: u64, job: &mut Job) -> bool {
        if let Some(trouble) = self.graph_trouble() {
            job.end.check = Some(CheckEnd::Failed(trouble));
            return self.look_at_subscription(id, job);
        }
        match self.graph.judge(job.token, &mut self.chance) {
            Verdict::Dead(why) => {
                job.end.check = Some(CheckEnd::Dead(why));
                return true;
            }
            Verdict::Unclear => job.end.check = Some(CheckEnd::Failed(Disposition::Retry)),
            Verdict::Sound | Verdict::Suspect(_) => {
                job.end.check = Some(CheckEnd::Answered);
                let (hint, now) = (job.hint, self.now);
                self.note(job, move |record| {
                    record.checked.at = Some(now);
                    record.hint = record.hint.filter(|number| Some(*number) != hint);
                });
            }
        }
        self.look_at_subscription(id, job)
    }

    /// Changes a link's record for something that was learned with the job's token.
    fn note(&mut self, job: &Job, change: impl FnOnce(&mut LinkRecord) + 'static) {
        let (store, key, generation) = (self.store.clone(), self.keys[job.link].clone(), job.generation);
        self.ask(async move {
            // What cannot be persisted is learned again.
            let _ = store.update_link(&key, generation, change).await;
            Done::Noted
        });
    }

    fn look_at_subscription(&mut self, id: u64, job: &mut Job) -> bool {
        if !job.sees_to_the_subscription() {
            return self.begin_read(id, job);
        }
        let took = self.graph_takes();
        self.soon(took, Event::Job(id, JobStep::SubscriptionAnswers));
        false
    }

    fn subscription_answers(&mut self, id: u64, job: &mut Job) -> bool {
        let (page, wanted, token) = (self.page_of(job.link), self.wanted_fields, job.token);
        let end = match self.graph_trouble() {
            Some(trouble) => SubscriptionEnd::Failed(trouble),
            None if !self.holds(job) => SubscriptionEnd::Confirmed,
            None if !self.graph.tokens[token] => SubscriptionEnd::Failed(Disposition::Park(DEAD)),
            None if self.chance.percent(2) => SubscriptionEnd::Failed(Disposition::Rejected),
            None => {
                self.figures.repairs += u64::from(self.graph.subscribed[page] < wanted);
                self.graph.subscribed[page] = self.graph.subscribed[page].max(wanted);
                let confirmed = (0..self.graph.subscribed[page]).map(|field| format!("field{field}")).collect();
                self.note(job, move |record| record.subscribed = confirmed);
                SubscriptionEnd::Confirmed
            }
        };
        job.end.subscription = Some(end);
        if let SubscriptionEnd::Failed(dead @ Disposition::Park(_)) = end {
            job.end.read = job.read().map(|_| ReadEnd::Failed(dead));
            return true;
        }
        self.begin_read(id, job)
    }

    /// The claim comes before Graph is asked.
    fn begin_read(&mut self, id: u64, job: &mut Job) -> bool {
        if job.read().is_none() {
            return true;
        }
        job.claim = shown(self.store.claim(&self.keys[job.link], job.generation));
        if job.claim.is_none() {
            return job.ends(ReadEnd::NotStored);
        }
        job.seen = self.graph.version(self.page_of(job.link));
        self.figures.reads += 1;
        let now = self.mono();
        self.oracle.read_began(now);
        let took = self.graph_takes();
        let looks = self.chance.below(took + 1);
        self.soon(looks, Event::Job(id, JobStep::GraphLooks));
        self.soon(took, Event::Job(id, JobStep::GraphAnswers));
        false
    }

    fn graph_answers(&mut self, id: u64, job: &mut Job) -> bool {
        self.give_back(job);
        if let Some(trouble) = self.graph_trouble() {
            return job.ends(ReadEnd::Failed(trouble));
        }
        if !self.graph.tokens[job.token] {
            return job.ends(ReadEnd::Failed(Disposition::Park(DEAD)));
        }
        let noise = self.chance.next();
        let page = self.page_of(job.link);
        job.digest = self.graph.digest(page, job.seen, noise);
        job.expected = shown(self.store.expectation(&self.keys[job.link]));
        let polls = job.read().is_some_and(|read| read.poll);
        if polls && !job.expected.outbox && job.expected.digest == Some(job.digest) {
            let wait = self.chance.between(5, 300);
            self.soon(wait, Event::Job(id, JobStep::HeadAnswers));
            return false;
        }
        self.stage(id, job, false)
    }

    fn head_answers(&mut self, id: u64, job: &mut Job) -> bool {
        job.head = self.spaces.objects.get(&job.link).map(|o| o.body.id);
        let same = job.head.map(|body| body.to_string()) == job.expected.etag;
        let wrong = !same && shown(self.store.expectation(&self.keys[job.link])) == job.expected;
        self.stage(id, job, wrong)
    }

    /// The comparison is owed; a mark is answered for.
    fn head_fails(&mut self, id: u64, job: &mut Job) -> bool {
        job.is_uncompared = true;
        let is_marked = job.claim.as_ref().is_some_and(|claim| claim.cause().is_some());
        if is_marked { self.stage(id, job, false) } else { job.ends(ReadEnd::NotCompared) }
    }

    /// Decides the stage; the job goes on when that is durable.
    fn stage(&mut self, id: u64, job: &mut Job, force: bool) -> bool {
        let Some(claim) = job.claim.take() else { return job.ends(ReadEnd::NotStored) };
        let body = Body { id: self.fresh(), link: job.link, version: job.seen };
        self.seen(body);
        let (store, digest) = (self.store.clone(), job.digest);
        job.staging = true;
        self.ask(async move {
            let outcome = store.stage(claim, digest, body.to_bytes().into(), force).await.ok();
            Done::Staged { job: id, outcome }
        });
        false
    }

    /// What the oracle learns of a read: which bytes, of those that may be taken for the same, really show the same.
    fn seen(&mut self, body: Body) {
        let (l, page) = (body.link, self.page_of(body.link));
        let key = self.keys[l].whole();
        let on_disk = self.committer().part_on_disk(&key).body.map(|bytes| Body::of(&bytes));
        let there = self.spaces.objects.get(&l).map(|object| object.body);
        let known = [on_disk, there].into_iter().flatten().chain(self.oracle.brought_last(l));
        for bytes in known.filter(|bytes| self.graph.same(page, bytes.version, body.version)) {
            self.oracle.body_stands_for(bytes.id, body.version);
        }
        self.oracle.brought(l, body);
    }

    pub fn staged(&mut self, id: u64, outcome: Option<StageOutcome>) {
        let Some(mut job) = self.jobs.remove(&id) else { return };
        job.ends(match outcome {
            Some(StageOutcome::Staged | StageOutcome::Unchanged) if job.is_uncompared => ReadEnd::NotCompared,
            Some(StageOutcome::Staged | StageOutcome::Unchanged) => ReadEnd::Stored,
            Some(StageOutcome::Superseded) | None => ReadEnd::NotStored,
        });
        self.job_ends(job);
    }

    pub fn page_panics(&mut self, instance: u64) {
        self.cut_job(instance);
        self.figures.panics += 1;
        if let Some(page) = self.pages.remove(&instance) {
            self.oracle.page_ended(instance);
            self.tell_supervisor(super::world::SupervisorMsg::PageDied(page.link, instance));
        }
    }
}

impl Job {
    /// The read ended so, and the job with it.
    fn ends(&mut self, end: ReadEnd) -> bool {
        self.end.read = Some(end);
        true
    }
}
