//! What must hold: at every step, and at rest.
//!
//! The oracle knows what the daemon cannot: which version of the page a read saw, which version the bytes in the
//! bucket stand for, and what was answered to whom.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use pagesyncd::core::ledger::Synced;
use pagesyncd::core::link::job::{JobEnd, ReadEnd};
use pagesyncd::core::link::machine::{Facts, Input};
use pagesyncd::core::link::reads::Pace;
use pagesyncd::core::model::{Cause, MonoTime};
use pagesyncd::store::stepped::shown;

use super::chaos::Flavour;
use super::logins::Decisions;
use super::outside::Op;
use super::store::{Body, L};
use super::world::World;

/// The longest wait between two tries to repair a subscription.
const LONGEST_REPAIR: Duration = Duration::from_secs(6 * 3600);

#[derive(Debug, Default)]
pub struct Oracle {
    /// The page's version when the newest webhook arrived that was answered with success.
    acknowledged: BTreeMap<L, usize>,
    /// The newest version that a body is known to show.
    stands_for: HashMap<u64, usize>,
    /// The bodies that reads have brought last: one of them may be on its way to disk.
    brought: HashMap<L, VecDeque<Body>>,
    pub decisions: Decisions,
    /// Tokens that were dead when a hint at them was answered with success.
    pub doomed: BTreeSet<usize>,
    deaths: VecDeque<MonoTime>,
    reads: Second,
    writes: Second,
    budgets: HashMap<u64, Budget>,
    /// The most reads that began within one second.
    pub herd: usize,
    /// The most writes that began within one second.
    pub herd_of_writes: usize,
}

/// What happened within the last second.
#[derive(Debug, Default)]
struct Second(VecDeque<MonoTime>);

impl Second {
    /// One more; how many there are.
    fn count(&mut self, now: MonoTime) -> usize {
        self.0.push_back(now);
        while self.0.front().is_some_and(|at| now.since(*at) >= Duration::from_secs(1)) {
            self.0.pop_front();
        }
        self.0.len()
    }
}

/// What a page may read: the token bucket as it is promised, apart from how it is made.
#[derive(Debug)]
struct Budget {
    since: MonoTime,
    burst: u64,
    refill: Duration,
    /// Reads that need no token: somebody waits for them, or they were paid for and failed.
    free: u64,
    reads: u64,
}

impl Budget {
    fn new(pace: &Pace, free: u64, now: MonoTime) -> Self {
        Budget { since: now, burst: pace.burst.into(), refill: pace.refill, free, reads: 0 }
    }

    fn allowed(&self, now: MonoTime) -> u64 {
        let refilled = now.since(self.since).as_millis() / self.refill.as_millis().max(1);
        self.burst + refilled as u64 + self.free
    }
}

impl Oracle {
    pub fn acknowledged(&mut self, l: L, version: usize) {
        let known = self.acknowledged.entry(l).or_default();
        *known = version.max(*known);
    }

    pub fn body_stands_for(&mut self, body: u64, version: usize) {
        let known = self.stands_for.entry(body).or_default();
        *known = version.max(*known);
    }

    pub fn brought(&mut self, l: L, body: Body) {
        let brought = self.brought.entry(l).or_default();
        brought.push_back(body);
        if brought.len() > 64 {
            brought.pop_front();
        }
        self.body_stands_for(body.id, body.version);
    }

    pub fn brought_last(&self, l: L) -> Vec<Body> {
        self.brought.get(&l).into_iter().flatten().copied().collect()
    }

    pub fn process_ended(&mut self) {
        self.deaths.clear();
        self.budgets.clear();
    }

    /// Is the budget of five deaths within ten minutes spent?
    pub fn uploader_died(&mut self, now: MonoTime) -> bool {
        self.deaths.push_back(now);
        while self.deaths.front().is_some_and(|at| now.since(*at) >= Duration::from_secs(600)) {
            self.deaths.pop_front();
        }
        self.deaths.len() > 5
    }

    pub fn read_began(&mut self, now: MonoTime) {
        self.herd = self.herd.max(self.reads.count(now));
    }

    pub fn page_began(&mut self, instance: u64, pace: &Pace, now: MonoTime) {
        self.budgets.insert(instance, Budget::new(pace, 0, now));
    }

    /// The effect of an input on the budget of a page.
    pub fn page_told(&mut self, instance: u64, input: &Input, facts: &Facts, now: MonoTime) {
        let Some(budget) = self.budgets.get_mut(&instance) else { return };
        let urgent = matches!(facts.unclaimed, Some(Cause::Link | Cause::Manual));
        match input {
            // A wish that stands from before is still free.
            Input::Reloaded { pace, .. } => *budget = Budget::new(pace, 1, now),
            Input::Due(Cause::Link | Cause::Manual) => budget.free += 1,
            Input::Look(_) if urgent => budget.free += 1,
            Input::Took(Some(_)) => budget.free += 1,
            Input::Ended(_, JobEnd { read: Some(ReadEnd::Failed(_) | ReadEnd::NotStored), .. }) => {
                budget.free += 1;
            }
            _ => {}
        }
    }

    /// A page reads, and no poll: how many reads it has begun where so many are allowed.
    pub fn page_reads(&mut self, instance: u64, now: MonoTime) -> Option<(u64, u64)> {
        let budget = self.budgets.get_mut(&instance)?;
        budget.reads += 1;
        let allowed = budget.allowed(now);
        (budget.reads > allowed).then_some((budget.reads, allowed))
    }

    pub fn page_ended(&mut self, instance: u64) {
        self.budgets.remove(&instance);
    }
}

impl World {
    /// Before a write of an object goes out.
    pub fn write_begins(&mut self, l: L, op: Op) {
        self.figures.writes += 1;
        let second = self.oracle.writes.count(self.mono());
        self.oracle.herd_of_writes = self.oracle.herd_of_writes.max(second);
        if self.carrying.values().any(|c| c.is_writing(l)) {
            self.fail(format!("link {l} is written by two at once"));
        }
        let Op::Put(body) = op else { return };
        if body.link != l {
            self.fail(format!("a body of link {} goes out under link {l}", body.link));
        }
        let newest = self.spaces.newest.entry(l).or_default();
        if body.version < *newest {
            let newest = *newest;
            self.fail(format!("link {l}: version {} goes out after version {newest}", body.version));
        } else {
            *newest = body.version;
        }
    }

    /// After every step: memory is a function of links.
    pub fn check_always(&mut self) {
        let links = self.keys.len();
        let queue = self.uploader.as_ref().map_or(0, |(_, u)| u.queue.len());
        let flying = self.uploader.as_ref().map_or(0, |(_, u)| u.queue.in_flight());
        let sizes = [
            ("outbox", shown(self.store.outbox_parts()).len(), links),
            ("queue", queue, links),
            ("queue's writes", flying, 8),
            ("directory", self.directory.len(), links),
            ("living pages", self.pages.len(), links),
            ("jobs", self.jobs.len(), 8 * links + 24),
            ("writes", self.carrying.len(), 2 * links + 16),
            ("histories", self.histories.len(), links),
            ("operations", self.operations.len(), 100 * links + 400),
        ];
        for (what, size, bound) in sizes {
            if size > bound {
                self.fail(format!("{what}: {size} where at most {bound} are allowed"));
            }
        }
        // Whoever links, or lets pages read fifty times a moment, asks for as many reads.
        if self.plan.flavour == Flavour::All && self.oracle.herd > 5 * links + 10 {
            self.fail(format!("{} reads began within one second", self.oracle.herd));
        }
    }

    /// A mark is claimed only while a read that claimed it goes on; else a burst would write a mark for each delivery.
    pub fn check_claims(&mut self) {
        if self.is_down() {
            return;
        }
        let claimed = |key| shown(self.store.mark(key)).is_some_and(|standing| standing.is_claimed);
        let reads = |l: L| self.jobs.values().any(|job| job.claims(l));
        // What is being staged is claimed until that is decided.
        if let Some(l) = (0..self.keys.len()).find(|l| claimed(&self.keys[*l]) && !reads(*l)) {
            self.fail(format!("link {l}: its mark is claimed by nobody who reads"));
        }
    }

    /// What was answered survives a power cut at this very moment: a mark on disk, an entry on disk, or the object.
    pub fn check_durable(&mut self, l: L) {
        let Some(version) = self.oracle.acknowledged.get(&l).copied() else { return };
        let late = self.spaces.late.get(&l).copied().unwrap_or(false);
        let key = self.keys[l].whole();
        let disk = self.committer().part_on_disk(&key);
        // An entry whose body is damaged becomes a mark.
        let is_damaged = disk.staged.is_some() && disk.body.is_none();
        if !disk.is_linked || disk.mark.is_some() || is_damaged || late {
            return;
        }
        let shows = |body: u64| self.oracle.stands_for.get(&body).is_some_and(|shows| *shows >= version);
        let owed = disk.body.map(|bytes| Body::of(&bytes).id);
        let object = self.spaces.objects.get(&l).map(|o| o.body.id);
        if !owed.is_some_and(shows) && !object.is_some_and(shows) {
            let what = format!("link {l}: version {version} was answered for, and a power cut now would lose it");
            self.fail(what);
        }
    }

    /// Is nothing owed, under way or missing?
    pub fn restless(&self) -> Option<String> {
        let committing = self.is_down() || self.committing || !self.operations.is_empty() || self.dispatching;
        if !self.up || self.uploader.is_none() || committing || !self.jobs.is_empty() || !self.carrying.is_empty() {
            return Some(format!(
                "up {}, store busy {committing}, {} jobs, {} writes",
                self.up,
                self.jobs.len(),
                self.carrying.len()
            ));
        }
        let outbox = shown(self.store.outbox_parts());
        if let Some(part) = outbox.first() {
            return Some(format!("link {} is owed a write", self.number_of(&part.link)));
        }
        for view in shown(self.store.views_after(None, usize::MAX)) {
            let l = self.number_of(&view.key);
            if view.owed {
                return Some(format!("link {l} is owed a read: {:?}", shown(self.store.mark(&view.key))));
            }
            if view.record.hint.is_some() && view.record.health.is_active() {
                return Some(format!("link {l} is owed a check of its token: {:?}", view.record.hint));
            }
            if !self.directory.get(&l).is_some_and(|p| self.pages.contains_key(&p.instance)) {
                return Some(format!("link {l} has no page"));
            }
        }
        None
    }

    /// Right after an unlink: what was known of the object belongs to the link that is gone.
    pub fn check_forgotten(&mut self, l: L) {
        let known = shown(self.store.expectation(&self.keys[l]));
        if known.digest.is_some() || known.etag.is_some() {
            self.fail(format!("link {l} is gone and what it knew of Spaces is not"));
        }
    }

    /// When nothing waits to be written, memory is what a start would make of the disk.
    fn differs_from_disk(&mut self, l: L) -> Option<String> {
        let key = self.keys[l].whole();
        let disk = self.committer().part_on_disk(&key);
        let (mark, view) = (shown(self.store.mark(&self.keys[l])), shown(self.store.view(&self.keys[l])));
        let expected = shown(self.store.expectation(&self.keys[l]));
        let synced = view.as_ref().map_or(Synced::default(), |view| view.synced.clone());
        let same = disk.is_linked == view.is_some()
            && disk.mark == mark.as_ref().map(|standing| standing.mark.clone())
            && disk.staged.is_some() == expected.outbox
            && disk.synced == synced;
        (!same).then(|| format!("in memory {mark:?}, {expected:?}, {synced:?}, on disk {disk:?}"))
    }

    /// When nothing is owed: what was answered is in the bucket. With `polled`, every page's poll has passed too, and
    /// the bucket is the truth, whatever late writes did.
    pub fn check_at_rest(&mut self, polled: bool) {
        for l in 0..self.keys.len() {
            if let Some(wrong) = self.wrong_at_rest(l, polled) {
                self.fail(format!("link {l}: {wrong}"));
            }
            if let Some(wrong) = self.differs_from_disk(l) {
                self.fail(format!("link {l}: {wrong}"));
            }
        }
        let zombies = self.pages.len().saturating_sub(self.directory.len());
        if zombies > 0 {
            self.fail(format!("{zombies} pages live that nobody knows"));
        }
        let gone = self.directory.keys().find(|l| shown(self.store.generation(&self.keys[**l])).is_none());
        if let Some(l) = gone.copied() {
            self.fail(format!("a page lives for link {l}, which is gone"));
        }
    }

    /// A link that is read is subscribed, or about to be.
    fn subscription_at_rest(&self, l: L, polled: bool) -> Option<String> {
        let (view, page) = (shown(self.store.view(&self.keys[l]))?, self.page_of(l));
        let machine = &self.pages.get(&self.directory.get(&l)?.instance)?.machine;
        let lacks_fields = self.lacks_fields(&view.record);
        let soon = self.mono().plus(LONGEST_REPAIR);
        if lacks_fields && machine.wake_at(self.mono()).is_none_or(|at| at > soon) {
            return Some("it lacks webhook fields and nothing is done about that".into());
        }
        let (subscribed, confirmed) = (self.graph.subscribed[page] as usize, view.record.subscribed.len());
        (polled && subscribed < confirmed).then(|| format!("polled, and subscribed are {subscribed} of {confirmed}"))
    }

    fn wrong_at_rest(&self, l: L, polled: bool) -> Option<String> {
        let object = self.spaces.objects.get(&l).map(|o| o.body);
        let late = self.spaces.late.get(&l).copied().unwrap_or(false);
        let Some(grant) = self.grant_of(l) else {
            let kept = self.kept.get(&l).copied().unwrap_or(true);
            let wrong = object.is_some() && !kept && !late;
            return wrong.then(|| "its object outlived the link".into());
        };
        let parked = self.is_parked(l);
        if !self.graph.tokens[grant.token] {
            let hinted = self.oracle.doomed.contains(&grant.token);
            if hinted && !parked {
                return Some("its token is dead, a hint at that was answered, and nobody says so".into());
            }
            return (polled && !parked).then(|| "its token is dead and nobody says so".into());
        }
        if parked {
            if self.may_be_parked(&grant) {
                return None;
            }
            return Some("it is parked with a good token".into());
        }
        if let Some(wrong) = self.subscription_at_rest(l, polled) {
            return Some(wrong);
        }
        if late && !polled {
            return None;
        }
        let page = self.page_of(l);
        let current = self.graph.version(page);
        let owed = self.oracle.acknowledged.get(&l).copied().unwrap_or(0);
        let Some(body) = object else { return Some("it has no object".into()) };
        let shows = self.oracle.stands_for.get(&body.id).copied().unwrap_or(body.version);
        if shows < owed {
            return Some(format!("version {owed} was answered for, the object shows {shows} of {current}"));
        }
        let same = self.graph.same(page, body.version, current);
        (polled && !same).then(|| format!("polled, and the object shows {} of {current}", body.version))
    }
}
