//! The page actor and its jobs: `src/actors/page.rs` and `src/actors/page/reading.rs` without Graph, tokio and tokens.

use std::time::Duration;

use pagesyncd::core::ledger::{Claim, Digest, Found, Mark, Stage};
use pagesyncd::core::link::machine::{Ended, Input, Machine, Read};
use pagesyncd::core::link::schedule;
use pagesyncd::core::model::{Cause, MonoTime, WallTime};

use super::chaos::Flavour;
use super::store::{Body, L};
use super::uploader::UploaderMsg;
use super::world::{Event, Staging, Waiter, World};

#[derive(Debug, Clone, PartialEq)]
pub enum PageMsg {
    Told,
    Look(Duration),
    Woke(u64),
    Done(u64, Ended),
    Relinked,
    Reloaded,
    Verify(Duration),
    Park(usize),
}

#[derive(Debug)]
pub struct Page {
    pub link: L,
    pub machine: Machine,
    token: Option<usize>,
    alarm: u64,
    job: Option<u64>,
    job_number: u64,
    last_cause: Cause,
}

#[derive(Debug, Clone, PartialEq)]
pub enum JobStep {
    Begin,
    /// The moment whose content Graph will answer with.
    GraphLooks,
    GraphAnswers,
    HeadAnswers,
}

/// A read under way, in a task of its own.
#[derive(Debug)]
pub struct Job {
    link: L,
    instance: u64,
    number: u64,
    token: usize,
    read: Read,
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
}

impl Page {
    pub fn is_reading(&self) -> bool {
        self.job.is_some()
    }
}

type Expected = (Option<Digest>, Option<String>, bool);

impl World {
    pub fn new_page(&mut self, l: L, spread: Duration) -> u64 {
        let place = schedule::offset(&self.keys[l]);
        let read_at = self.store.core.ledger.get(&l).and_then(|e| e.synced().read_at);
        let poll_at =
            schedule::first_poll(place, self.pace.poll_interval, read_at.map(|at| MonoTime(at.0)), spread, self.mono());
        let machine = Machine::new(self.pace.clone(), place, poll_at);
        let (alarm, job_number) = (0, 0);
        let mut page = Page { link: l, machine, token: None, alarm, job: None, job_number, last_cause: Cause::Poll };
        if !self.load(&mut page) {
            page.machine.step(self.mono(), Input::Parked, 0.0);
        }
        let instance = self.fresh();
        self.oracle.page_began(instance, &self.pace, self.mono());
        self.pages.insert(instance, page);
        instance
    }

    /// Takes the token from the store; `false` when Graph may not be called.
    fn load(&self, page: &mut Page) -> bool {
        let record = self.store.core.records.get(&page.link);
        page.token = record.map(|r| r.token).or(page.token);
        record.is_some_and(|r| !r.parked)
    }

    pub fn page_handles(&mut self, instance: u64, message: PageMsg) {
        let Some(page) = self.pages.get(&instance) else { return };
        let link = page.link;
        match message {
            PageMsg::Told => {
                let causes = self.directory.get_mut(&link).map(|p| std::mem::take(&mut p.causes)).unwrap_or_default();
                for cause in causes {
                    if self.pending_mark(instance).is_none() {
                        self.step_page(instance, Input::Woke);
                        continue;
                    }
                    self.page(instance).last_cause = cause;
                    self.step_page(instance, Input::Due(cause));
                }
            }
            PageMsg::Look(spread) => self.look(instance, spread),
            PageMsg::Woke(alarm) if alarm == page.alarm => self.step_page(instance, Input::Woke),
            PageMsg::Woke(_) => {}
            PageMsg::Done(number, ended) if number == page.job_number => self.done(instance, ended),
            PageMsg::Done(..) => {}
            PageMsg::Relinked if self.has_another_token(instance) => self.relinked(instance),
            PageMsg::Relinked => {}
            PageMsg::Park(token) => self.park(instance, token),
            PageMsg::Reloaded => {
                let pace = self.pace.clone();
                self.step_page(instance, Input::Repaced(pace));
            }
            PageMsg::Verify(wait) => {
                let at = self.mono().plus(wait);
                self.page(instance).machine.verify_by(at);
                self.step_page(instance, Input::Woke);
            }
        }
    }

    fn page(&mut self, instance: u64) -> &mut Page {
        self.pages.get_mut(&instance).expect("a page that handles is alive")
    }

    /// Another linking than this page knows of, or a parking that was never noted.
    fn is_behind(&self, instance: u64) -> bool {
        let page = &self.pages[&instance];
        let Some(record) = self.store.core.records.get(&page.link) else { return false };
        page.machine.is_parked() && !record.parked || self.has_another_token(instance)
    }

    fn has_another_token(&self, instance: u64) -> bool {
        let page = &self.pages[&instance];
        self.store.core.records.get(&page.link).is_some_and(|record| Some(record.token) != page.token)
    }

    /// News about a token: of the page's own, it is believed.
    fn park(&mut self, instance: u64, token: usize) {
        if self.pages[&instance].token != Some(token) && self.has_another_token(instance) {
            self.relinked(instance);
        }
        let page = self.page(instance);
        if page.token != Some(token) {
            return;
        }
        let (link, known) = (page.link, page.machine.is_parked());
        self.cut_job(instance);
        if !known && let Ok((_, writes)) = self.store.decide(|core| core.park(link, Some(token))) {
            self.wait(writes, Waiter::Health);
        }
        self.step_page(instance, Input::Parked);
    }

    fn pending_mark(&self, instance: u64) -> Option<Mark> {
        let page = &self.pages[&instance];
        let core = &self.store.core;
        if page.job.is_none() { core.due_mark(page.link) } else { core.unclaimed_mark(page.link) }
    }

    fn look(&mut self, instance: u64, spread: Duration) {
        if self.is_behind(instance) {
            return self.relinked(instance);
        }
        if let Some(mark) = self.pending_mark(instance) {
            self.page(instance).last_cause = mark.cause;
            let soon = spread < Duration::from_millis(100);
            self.step_page(instance, if soon { Input::Due(mark.cause) } else { Input::DueWithin(spread) });
        }
        self.step_page(instance, Input::Woke);
    }

    fn step_page(&mut self, instance: u64, input: Input) {
        let (now, jitter) = (self.mono(), self.chance.unit());
        self.oracle.page_told(instance, &input, now);
        if let Some(read) = self.page(instance).machine.step(now, input, jitter) {
            if read.prompt
                && let Some((reads, allowed)) = self.oracle.page_reads(instance, now)
            {
                let link = self.page(instance).link;
                self.fail(format!("link {link} is read {reads} times where {allowed} are allowed"));
            }
            self.begin(instance, read);
        }
        let page = self.page(instance);
        page.alarm += 1;
        let alarm = page.alarm;
        if let Some(at) = page.machine.wake_at(now) {
            let wait = (at.since(now).as_millis() as u64).max(1);
            self.soon(wait, Event::Page(instance, PageMsg::Woke(alarm)));
        }
    }

    fn begin(&mut self, instance: u64, read: Read) {
        if self.has_another_token(instance) {
            return self.relinked(instance);
        }
        let (now, jitter, id) = (self.mono(), self.chance.unit(), self.fresh());
        self.cut_job(instance);
        let page = self.page(instance);
        let Some(token) = page.token else {
            let failed = Input::ReadEnded(Ended::Failed { hint: None });
            page.machine.step(now, failed.clone(), jitter);
            self.oracle.page_told(instance, &failed, now);
            return;
        };
        page.job = Some(id);
        let (link, number) = (page.link, page.job_number);
        let (claim, seen, digest, expected, head) = (None, 0, [0; 32], Expected::default(), None);
        let job = Job { link, instance, number, token, read, claim, staging: false, seen, digest, expected, head };
        self.jobs.insert(id, job);
        let wait = self.chance.below(2);
        self.soon(wait, Event::Job(id, JobStep::Begin));
    }

    /// An abort is noticed by its task a little later.
    pub fn cut_job(&mut self, instance: u64) {
        let page = self.page(instance);
        page.job_number += 1;
        if let Some(job) = page.job.take() {
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
        if let Some(Job { link, claim: Some(claim), .. }) = self.jobs.remove(&id)
            && let Some(entry) = self.store.core.ledger.get_mut(&link)
        {
            entry.release(&claim);
        }
    }

    fn done(&mut self, instance: u64, ended: Ended) {
        let page = self.page(instance);
        page.job = None;
        let (link, token) = (page.link, page.token);
        if ended == Ended::Refused
            && let Ok((_, writes)) = self.store.decide(|core| core.park(link, token))
        {
            self.wait(writes, Waiter::Health);
        }
        if ended == Ended::Stored && self.store.core.due_mark(link).is_none() {
            self.page(instance).machine.nothing_is_owed();
        }
        self.step_page(instance, Input::ReadEnded(ended));
    }

    fn relinked(&mut self, instance: u64) {
        self.cut_job(instance);
        let mut page = self.pages.remove(&instance).expect("it handles");
        let usable = self.load(&mut page);
        page.last_cause = Cause::Link;
        self.pages.insert(instance, page);
        self.step_page(instance, if usable { Input::Revived } else { Input::Parked });
    }

    pub fn job_goes_on(&mut self, id: u64, step: JobStep) {
        let Some(mut job) = self.jobs.remove(&id) else { return };
        let ended = match step {
            JobStep::Begin => self.job_begins(id, &mut job),
            JobStep::GraphLooks => {
                job.seen = self.graph.version(self.page_of(job.link));
                None
            }
            JobStep::GraphAnswers => self.graph_answers(id, &mut job),
            JobStep::HeadAnswers if self.now < self.spaces.down_until => Some(Ended::Failed { hint: None }),
            JobStep::HeadAnswers => {
                job.head = self.spaces.objects.get(&job.link).map(|o| o.body.id);
                return self.head_answers(id, job);
            }
        };
        self.keep_or_end(id, job, ended);
    }

    fn keep_or_end(&mut self, id: u64, job: Job, ended: Option<Ended>) {
        match ended {
            None => {
                self.jobs.insert(id, job);
            }
            Some(ended) => self.job_ends(job, ended),
        }
    }

    fn job_ends(&mut self, job: Job, ended: Ended) {
        if let Some(claim) = &job.claim
            && let Some(entry) = self.store.core.ledger.get_mut(&job.link)
        {
            entry.release(claim);
        }
        self.tell_page(job.instance, PageMsg::Done(job.number, ended));
    }

    fn job_begins(&mut self, id: u64, job: &mut Job) -> Option<Ended> {
        let claim = self.store.core.next_seq();
        let superseded = Some(Ended::Failed { hint: None });
        if self.store.core.records.get(&job.link).is_none_or(|record| record.token != job.token) {
            return superseded;
        }
        let Some(entry) = self.store.core.ledger.get_mut(&job.link) else { return superseded };
        job.claim = Some(entry.claim(claim));
        job.seen = self.graph.version(self.page_of(job.link));
        self.figures.reads += 1;
        let now = self.mono();
        self.oracle.read_began(now);
        let slow = self.now < self.graph.slow_until;
        let took = if slow { self.chance.between(1_000, 15_000) } else { self.chance.between(20, 600) };
        let looks = self.chance.below(took + 1);
        self.soon(looks, Event::Job(id, JobStep::GraphLooks));
        self.soon(took, Event::Job(id, JobStep::GraphAnswers));
        None
    }

    fn graph_answers(&mut self, id: u64, job: &mut Job) -> Option<Ended> {
        if self.now < self.graph.down_until || self.chance.percent(3) {
            return Some(Ended::Failed { hint: None });
        }
        if self.now < self.graph.throttled_until {
            let named = self.graph.throttled_until.since(self.now);
            return Some(Ended::Held(if self.chance.percent(50) { named } else { Duration::from_secs(60) }));
        }
        if !self.graph.tokens[job.token] {
            return Some(Ended::Refused);
        }
        let noise = self.chance.next();
        let page = self.page_of(job.link);
        job.digest = self.graph.digest(page, job.seen, noise);
        job.expected = self.expectation(job.link);
        let (digest, _, outbox) = &job.expected;
        let compare = job.read.poll && !outbox && *digest == Some(job.digest);
        let wait = if compare { self.chance.between(5, 300) } else { 0 };
        if compare {
            self.soon(wait, Event::Job(id, JobStep::HeadAnswers));
            return None;
        }
        self.stage(id, job, false)
    }

    fn expectation(&self, l: L) -> Expected {
        let of =
            |e: &pagesyncd::core::ledger::Entry| (e.synced().digest, e.synced().etag.clone(), e.staged().is_some());
        self.store.core.ledger.get(&l).map(of).unwrap_or_default()
    }

    fn head_answers(&mut self, id: u64, mut job: Job) {
        let same = job.head.map(|body| body.to_string()) == job.expected.1;
        let wrong = !same && self.expectation(job.link) == job.expected;
        let ended = self.stage(id, &mut job, wrong);
        self.keep_or_end(id, job, ended);
    }

    /// Decides the stage; the job goes on when that is durable.
    fn stage(&mut self, id: u64, job: &mut Job, force: bool) -> Option<Ended> {
        let claim = job.claim.take()?;
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
        let Ok((outcome, writes)) = decided else { return Some(Ended::Failed { hint: None }) };
        let (outcome, seq) = outcome.unwrap_or((Staging::Superseded, None));
        self.note_staged(link, outcome, seq, body);
        if writes.is_none() {
            return Some(Ended::Failed { hint: None });
        }
        job.staging = true;
        self.wait(writes, Waiter::Staged { job: id, outcome });
        None
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
        let Some(job) = self.jobs.remove(&id) else { return };
        if !ok {
            return self.job_ends(job, Ended::Failed { hint: None });
        }
        if outcome == Staging::Staged {
            self.tell_uploader(UploaderMsg::Staged(job.link));
        }
        self.job_ends(job, Ended::Stored);
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
