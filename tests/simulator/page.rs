//! A page and its jobs: the daemon's own [`Machine`] decides, and the jobs are done here without Graph, tokio and tokens
//! (`src/actors/page.rs`, `src/actors/page/reading.rs`).

use std::time::Duration;

use pagesyncd::core::disposition::Disposition;
use pagesyncd::core::ledger::{Claim, Digest, Found, Stage};
use pagesyncd::core::link::machine::{self, Facts, Input, JobEnd, Machine, Moment, ReadEnd, Taken};
use pagesyncd::core::link::reads::Read;
use pagesyncd::core::link::schedule;
use pagesyncd::core::link::upkeep::{CheckEnd, SubscriptionEnd};
use pagesyncd::core::model::{Generation, MonoTime, WallTime};
use pagesyncd::core::park_reason::ParkReason;
use pagesyncd::core::token_check::Verdict;

use super::chaos::Flavour;
use super::store::{Body, L};
use super::uploader::UploaderMsg;
use super::world::{Event, Staging, Waiter, World};

/// Why every token dies here.
pub const DEAD: ParkReason = ParkReason::Invalid;
/// Between two checks that hints cause, in the whole daemon.
const CHECKS_APART: Duration = Duration::from_millis(50);

#[derive(Debug, Clone, PartialEq)]
pub enum PageMsg {
    Wake,
    Look(Duration),
    Woke(u64),
    Done(u64, JobEnd),
    Relinked,
    Reloaded,
    Verify(Duration),
    Parked,
    Check(usize),
}

#[derive(Debug)]
pub struct Page {
    pub link: L,
    pub machine: Machine,
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

/// A job under way, in a task of its own.
#[derive(Debug)]
pub struct Job {
    link: L,
    instance: u64,
    number: u64,
    token: usize,
    what: machine::Job,
    end: JobEnd,
    hint: Option<u64>,
    claim: Option<Claim>,
    staging: bool,
    seen: usize,
    digest: Digest,
    expected: Expected,
    /// The bucket's object as HEAD showed it.
    head: Option<u64>,
}

impl Job {
    pub fn claims(&self, l: L) -> bool {
        self.link == l && self.claim.is_some()
    }

    fn read(&self) -> Option<Read> {
        match self.what {
            machine::Job::Read { read, .. } => Some(read),
            _ => None,
        }
    }

    fn sees_to_the_subscription(&self) -> bool {
        match self.what {
            machine::Job::Read { read, subscribe, .. } => subscribe || read.poll,
            _ => true,
        }
    }
}

impl Page {
    pub fn is_busy(&self) -> bool {
        self.job.is_some()
    }
}

type Expected = (Option<Digest>, Option<String>, bool);

impl World {
    pub fn new_page(&mut self, l: L, spread: Duration) -> u64 {
        let (offset, now) = (schedule::offset(&self.keys[l]), self.mono());
        let read_at = self.store.core.ledger.get(&l).and_then(|e| e.synced().read_at).map(|at| MonoTime(at.0));
        let token = self.token_of(l);
        let machine = Machine::new(self.pace.clone(), offset, read_at, spread, token.as_ref(), now);
        let instance = self.fresh();
        self.oracle.page_began(instance, &self.pace, now);
        self.pages.insert(instance, Page { link: l, machine, alarm: 0, job: None });
        instance
    }

    fn token_of(&self, l: L) -> Option<Taken> {
        self.store.core.records.get(&l).map(|record| Taken {
            generation: Generation(record.token as u64),
            readable: true,
            active: !record.parked,
            lacks_fields: record.confirmed < self.wanted_fields,
            checked: record.checked,
        })
    }

    fn facts(&self, l: L) -> Facts {
        let (core, record) = (&self.store.core, self.store.core.records.get(&l));
        Facts {
            generation: record.map(|record| Generation(record.token as u64)),
            parked: record.filter(|record| record.parked).map(|_| DEAD),
            hinted: record.is_some_and(|record| record.hint.is_some()),
            unclaimed: core.unclaimed_mark(l).map(|mark| mark.cause),
            due: core.due_mark(l).is_some(),
            stopping: false,
        }
    }

    pub fn page_handles(&mut self, instance: u64, message: PageMsg) {
        let Some(page) = self.pages.get(&instance) else { return };
        let link = page.link;
        let input = match message {
            PageMsg::Wake => {
                let reasons = self.directory.get_mut(&link).map(|place| place.take_reasons());
                let (causes, hinted) = reasons.unwrap_or_default();
                if hinted {
                    self.step_page(instance, Input::Hinted);
                }
                causes.into_iter().for_each(|cause| self.step_page(instance, Input::Due(cause)));
                return;
            }
            PageMsg::Woke(alarm) if alarm != page.alarm => return,
            PageMsg::Woke(_) => Input::Woke,
            PageMsg::Look(spread) => Input::Look(spread),
            PageMsg::Done(number, end) => Input::Ended(number, end),
            PageMsg::Relinked => Input::Relinked,
            PageMsg::Parked => Input::Parked,
            PageMsg::Check(token) => Input::Doubted(Generation(token as u64)),
            PageMsg::Verify(wait) => Input::Verify(self.mono().plus(wait)),
            PageMsg::Reloaded => {
                let record = self.store.core.records.get(&link);
                let lacks_fields = record.is_some_and(|record| record.confirmed < self.wanted_fields);
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
            let (jitter, facts) = (self.chance.unit(), self.facts(link));
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
                self.park(link, parking.generation);
            }
            match step.job {
                Some((_, machine::Job::TakeToken)) => next = Some(Input::Took(self.token_of(link))),
                Some((number, job)) => self.begin(instance, number, job),
                None => {}
            }
        }
        let under_way = self.page(instance).machine.under_way();
        if self.page(instance).job.is_some_and(|(number, _)| Some(number) != under_way) {
            self.cut_job(instance);
        }
        let page = self.page(instance);
        page.alarm += 1;
        let (alarm, at) = (page.alarm, page.machine.wake_at(now));
        if let Some(at) = at {
            let wait = (at.since(now).as_millis() as u64).max(1);
            self.soon(wait, Event::Page(instance, PageMsg::Woke(alarm)));
        }
    }

    fn park(&mut self, l: L, generation: Option<Generation>) {
        let token = generation.map(|generation| generation.0 as usize);
        if let Ok((_, writes)) = self.store.decide(|core| core.park(l, token)) {
            self.wait(writes, Waiter::Noted);
        }
    }

    fn begin(&mut self, instance: u64, number: u64, what: machine::Job) {
        if let machine::Job::Read { read: Read { prompt: true, .. }, .. } = what
            && let Some((reads, allowed)) = self.oracle.page_reads(instance, self.mono())
        {
            let link = self.page(instance).link;
            self.fail(format!("link {link} is read {reads} times where {allowed} are allowed"));
        }
        self.cut_job(instance);
        let id = self.fresh();
        let page = self.page(instance);
        page.job = Some((number, id));
        let (link, token) = (page.link, page.machine.generation().map(|generation| generation.0 as usize));
        let Some(token) = token else { return self.fail(format!("link {link}: a job begins without a token")) };
        if self.store.core.records.get(&link).is_some_and(|record| record.token != token) {
            self.fail(format!("link {link}: a job begins with a token that the link does not have any more"));
        }
        let job = Job {
            link,
            instance,
            number,
            token,
            what,
            end: JobEnd::default(),
            hint: None,
            claim: None,
            staging: false,
            seen: 0,
            digest: [0; 32],
            expected: Expected::default(),
            head: None,
        };
        self.jobs.insert(id, job);
        let wait = self.chance.below(2);
        self.soon(wait, Event::Job(id, JobStep::Begin));
    }

    /// An abort is noticed by its task a little later.
    pub fn cut_job(&mut self, instance: u64) {
        if let Some((_, job)) = self.page(instance).job.take() {
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
        if let Some(Job { link, claim: Some(claim), .. }) = self.jobs.remove(&id) {
            self.release(link, &claim);
        }
    }

    /// A mark that waits now is published.
    fn release(&mut self, l: L, claim: &Claim) {
        if let Some(cause) = self.store.core.ledger.get_mut(&l).and_then(|entry| entry.release(claim)) {
            self.tell(&[l], cause);
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
            JobStep::HeadAnswers if self.now < self.spaces.down_until => job.ends(NOT_STORED),
            JobStep::HeadAnswers => self.head_answers(id, &mut job),
        };
        if is_over {
            self.job_ends(job);
        } else {
            self.jobs.insert(id, job);
        }
    }

    fn job_ends(&mut self, job: Job) {
        if let Some(claim) = &job.claim {
            self.release(job.link, claim);
        }
        self.tell_page(job.instance, PageMsg::Done(job.number, job.end));
    }

    /// Is the link still of the token that the job was begun with?
    fn holds(&self, job: &Job) -> bool {
        self.store.core.records.get(&job.link).is_some_and(|record| record.token == job.token)
    }

    fn graph_takes(&mut self) -> u64 {
        let slow = self.now < self.graph.slow_until;
        if slow { self.chance.between(1_000, 15_000) } else { self.chance.between(20, 600) }
    }

    /// What Graph answers, whatever it is asked.
    fn graph_trouble(&mut self) -> Option<Disposition> {
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
        if job.what != machine::Job::CheckToken {
            return self.look_at_subscription(id, job);
        }
        self.figures.checks += 1;
        job.hint = self.store.core.claim_hint(job.link, job.token);
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
                let (hint, token) = (job.hint, job.token);
                self.note(job.link, |record| {
                    if record.token == token {
                        record.checked = true;
                        record.hint = record.hint.filter(|number| Some(*number) != hint);
                    }
                });
            }
        }
        self.look_at_subscription(id, job)
    }

    /// Changes a link's record for something that was learned.
    fn note(&mut self, l: L, change: impl FnOnce(&mut super::store::Record)) {
        if let Ok((_, writes)) = self.store.decide(|core| core.update(l, change)) {
            self.wait(writes, Waiter::Noted);
        }
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
                self.note(job.link, |record| {
                    if record.token == token {
                        record.confirmed = wanted;
                    }
                });
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
        let claim = self.store.core.next_seq();
        if !self.holds(job) {
            return job.ends(NOT_STORED);
        }
        let Some(entry) = self.store.core.ledger.get_mut(&job.link) else { return job.ends(NOT_STORED) };
        job.claim = Some(entry.claim(claim));
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
        if let Some(trouble) = self.graph_trouble() {
            return job.ends(ReadEnd::Failed(trouble));
        }
        if !self.graph.tokens[job.token] {
            return job.ends(ReadEnd::Failed(Disposition::Park(DEAD)));
        }
        let noise = self.chance.next();
        let page = self.page_of(job.link);
        job.digest = self.graph.digest(page, job.seen, noise);
        job.expected = self.expectation(job.link);
        let (digest, _, outbox) = &job.expected;
        let polls = job.read().is_some_and(|read| read.poll);
        if polls && !outbox && *digest == Some(job.digest) {
            let wait = self.chance.between(5, 300);
            self.soon(wait, Event::Job(id, JobStep::HeadAnswers));
            return false;
        }
        self.stage(id, job, false)
    }

    fn expectation(&self, l: L) -> Expected {
        let of =
            |e: &pagesyncd::core::ledger::Entry| (e.synced().digest, e.synced().etag.clone(), e.staged().is_some());
        self.store.core.ledger.get(&l).map(of).unwrap_or_default()
    }

    fn head_answers(&mut self, id: u64, job: &mut Job) -> bool {
        job.head = self.spaces.objects.get(&job.link).map(|o| o.body.id);
        let same = job.head.map(|body| body.to_string()) == job.expected.1;
        let wrong = !same && self.expectation(job.link) == job.expected;
        self.stage(id, job, wrong)
    }

    /// Decides the stage; the job goes on when that is durable.
    fn stage(&mut self, id: u64, job: &mut Job, force: bool) -> bool {
        let Some(claim) = job.claim.take() else { return job.ends(NOT_STORED) };
        let (link, now, body_id) = (job.link, self.mono(), self.fresh());
        let found = Found { digest: job.digest, body_len: 1 };
        let body = Body { id: body_id, link, version: job.seen };
        let decided = self.store.decide(|core| {
            let seq = core.next_seq();
            let entry = core.ledger.get_mut(&link)?;
            match entry.stage(&claim, &found, force, WallTime(now.0), seq) {
                Stage::Unchanged(changes) => {
                    let coming = entry.staged().map(|s| s.seq);
                    core.apply(link, changes, None);
                    Some((Staging::Unchanged, coming))
                }
                Stage::Staged(seq, changes) => {
                    core.apply(link, changes, Some(body));
                    Some((Staging::Staged, Some(seq)))
                }
                Stage::Superseded => Some((Staging::Superseded, None)),
            }
        });
        let Ok((outcome, writes)) = decided else { return job.ends(NOT_STORED) };
        let (outcome, seq) = outcome.unwrap_or((Staging::Superseded, None));
        self.note_staged(link, outcome, seq, body);
        if writes.is_none() {
            return job.ends(NOT_STORED);
        }
        job.staging = true;
        self.wait(writes, Waiter::Staged { job: id, outcome });
        false
    }

    /// What the oracle learns: which version the bytes that come, or that are there, stand for.
    fn note_staged(&mut self, l: L, outcome: Staging, seq: Option<u64>, body: Body) {
        match (outcome, seq) {
            (Staging::Staged, Some(seq)) => self.oracle.staged(l, seq, body),
            (Staging::Unchanged, coming) => {
                // "Unchanged" is believed only where the bytes that come, or are there, really show the same.
                let there = self.spaces.objects.get(&l).map(|o| o.body);
                let bytes = coming.map_or(there, |seq| self.oracle.entry(l, seq));
                let page = self.page_of(l);
                if let Some(bytes) = bytes.filter(|b| self.graph.same(page, b.version, body.version)) {
                    self.oracle.body_stands_for(bytes.id, body.version);
                }
            }
            _ => {}
        }
    }

    pub fn staged(&mut self, id: u64, outcome: Staging, ok: bool) {
        let Some(mut job) = self.jobs.remove(&id) else { return };
        job.ends(if ok { ReadEnd::Stored } else { NOT_STORED });
        if ok && outcome == Staging::Staged {
            self.tell_uploader(UploaderMsg::Staged(job.link));
        }
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

const NOT_STORED: ReadEnd = ReadEnd::NotStored { retry_after: None };

impl Job {
    /// The read ended so, and the job with it.
    fn ends(&mut self, end: ReadEnd) -> bool {
        self.end.read = Some(end);
        true
    }
}
