//! What must hold: at every step, and at rest.
//!
//! The oracle knows what the daemon cannot: which version of the page a read saw, which version the bytes in the
//! bucket stand for, and what was answered to whom.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use pagesyncd::core::ledger::{Entry, Synced};
use pagesyncd::core::link::machine::{Facts, Input, JobEnd, ReadEnd};
use pagesyncd::core::link::reads::Pace;
use pagesyncd::core::model::{Cause, MonoTime};

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
    entries: HashMap<(L, u64), Body>,
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

    pub fn staged(&mut self, l: L, seq: u64, body: Body) {
        self.entries.insert((l, seq), body);
        self.body_stands_for(body.id, body.version);
    }

    pub fn entry(&self, l: L, seq: u64) -> Option<Body> {
        self.entries.get(&(l, seq)).copied()
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
            Input::Ended(_, JobEnd { read: Some(ReadEnd::Failed(_) | ReadEnd::NotStored { .. }), .. }) => {
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
            ("ledger", self.store.core.ledger.len(), links),
            ("queue", queue, links),
            ("queue's writes", flying, 8),
            ("directory", self.directory.len(), links),
            ("living pages", self.pages.len(), links),
            ("jobs", self.jobs.len(), 8 * links + 24),
            ("writes", self.carrying.len(), 2 * links + 16),
            ("histories", self.histories.len(), links),
            ("bodies on disk", self.store.disk.bodies.len(), self.store.disk.outbox.len()),
            ("committer's queue", self.store.queue.len(), 100 * links + 400),
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
        if self.store.core.down {
            return;
        }
        let claimed = |entry: &Entry| entry.due().is_some() && !entry.wants_reader();
        let reads = |l: L| self.jobs.values().any(|job| job.claims(l));
        let left = self.store.core.ledger.iter().find(|(l, entry)| claimed(entry) && !reads(**l));
        if let Some(l) = left.map(|(l, _)| *l) {
            self.fail(format!("link {l}: its mark is claimed by nobody who reads"));
        }
    }

    /// What was answered survives a power cut at this very moment: a mark on disk, an entry on disk, or the object.
    pub fn check_durable(&mut self) {
        let disk = &self.store.disk;
        let uncovered = self.oracle.acknowledged.iter().find(|(l, version)| {
            let entry = disk.outbox.get(l).and_then(|s| self.oracle.entry(**l, s.seq)).map(|b| b.id);
            let shows = |body: &u64| self.oracle.stands_for.get(body).is_some_and(|shows| shows >= *version);
            let object = self.spaces.objects.get(l).map(|o| o.body.id);
            let late = self.spaces.late.get(l).copied().unwrap_or(false);
            let owed = disk.marks.contains_key(l) || entry.as_ref().is_some_and(shows);
            disk.links.contains_key(l) && !owed && !late && !object.as_ref().is_some_and(shows)
        });
        if let Some((l, version)) = uncovered {
            let what = format!("link {l}: version {version} was answered for, and a power cut now would lose it");
            self.fail(what);
        }
    }

    /// Is nothing owed, under way or missing?
    pub fn restless(&self) -> Option<String> {
        let store = &self.store;
        let committing = store.core.down || !store.queue.is_empty() || !store.batch.is_empty();
        if !self.up || self.uploader.is_none() || committing || !self.jobs.is_empty() || !self.carrying.is_empty() {
            return Some(format!(
                "up {}, store busy {committing}, {} jobs, {} writes",
                self.up,
                self.jobs.len(),
                self.carrying.len()
            ));
        }
        for (l, entry) in &store.core.ledger {
            let parked = store.core.records.get(l).is_some_and(|r| r.parked);
            if entry.due().is_some() && !parked {
                return Some(format!("link {l} is owed a read: {entry:?}"));
            }
            if entry.staged().is_some() {
                return Some(format!("link {l} is owed a write: {entry:?}"));
            }
        }
        if let Some((l, record)) = store.core.records.iter().find(|(_, r)| r.hint.is_some() && !r.parked) {
            return Some(format!("link {l} is owed a check of its token: {record:?}"));
        }
        let alive = |l: &L| self.directory.get(l).is_some_and(|p| self.pages.contains_key(&p.instance));
        let orphan = store.core.records.keys().find(|l| !alive(l));
        orphan.map(|l| format!("link {l} has no page"))
    }

    /// Right after an unlink: what was known of the object belongs to the link that is gone.
    pub fn check_forgotten(&mut self, l: L) {
        let known = self.store.core.ledger.get(&l).map(Entry::synced);
        if known.is_some_and(|known| *known != Synced::default()) {
            self.fail(format!("link {l} is gone and what it knew of Spaces is not"));
        }
    }

    /// When nothing waits to be written, memory is what a start would make of the disk.
    fn differs_from_disk(&self, l: L) -> bool {
        let disk = &self.store.disk;
        let (mark, staged) = (disk.marks.get(&l).cloned(), disk.outbox.get(&l).cloned());
        let restored = Entry::restored(mark, staged, disk.synced.get(&l).cloned().unwrap_or_default());
        let entry = self.store.core.ledger.get(&l).cloned().unwrap_or_default();
        (entry.due(), entry.staged(), entry.synced()) != (restored.due(), restored.staged(), restored.synced())
    }

    /// When nothing is owed: what was answered is in the bucket. With `polled`, every page's poll has passed too, and
    /// the bucket is the truth, whatever stragglers did.
    pub fn check_at_rest(&mut self, polled: bool) {
        for l in 0..self.keys.len() {
            if let Some(wrong) = self.wrong_at_rest(l, polled) {
                self.fail(format!("link {l}: {wrong}"));
            }
            if self.differs_from_disk(l) {
                let (entry, disk) = (self.store.core.ledger.get(&l).cloned(), self.store.disk.synced.get(&l).cloned());
                self.fail(format!("link {l}: in memory {entry:?}, on disk {disk:?}"));
            }
        }
        let zombies = self.pages.len().saturating_sub(self.directory.len());
        if zombies > 0 {
            self.fail(format!("{zombies} pages live that nobody knows"));
        }
        let gone = self.directory.keys().find(|l| !self.store.core.records.contains_key(l));
        if let Some(l) = gone.copied() {
            self.fail(format!("a page lives for link {l}, which is gone"));
        }
    }

    /// A link that is read is subscribed, or about to be.
    fn subscription_at_rest(&self, l: L, polled: bool) -> Option<String> {
        let (record, page) = (self.store.core.records.get(&l)?, self.page_of(l));
        let machine = &self.pages.get(&self.directory.get(&l)?.instance)?.machine;
        let lacks_fields = record.confirmed < self.wanted_fields;
        let soon = self.mono().plus(LONGEST_REPAIR);
        if lacks_fields && machine.wake_at(self.mono()).is_none_or(|at| at > soon) {
            return Some("it lacks webhook fields and nothing is done about that".into());
        }
        let (subscribed, confirmed) = (self.graph.subscribed[page], record.confirmed);
        (polled && subscribed < confirmed).then(|| format!("polled, and subscribed are {subscribed} of {confirmed}"))
    }

    fn wrong_at_rest(&self, l: L, polled: bool) -> Option<String> {
        let object = self.spaces.objects.get(&l).map(|o| o.body);
        let late = self.spaces.late.get(&l).copied().unwrap_or(false);
        let Some(record) = self.store.core.records.get(&l) else {
            let kept = self.store.disk.kept.get(&l).copied().unwrap_or(true);
            let wrong = object.is_some() && !kept && !late;
            return wrong.then(|| "its object outlived the link".into());
        };
        if !self.graph.tokens[record.token] {
            let hinted = self.oracle.doomed.contains(&record.token);
            if hinted && !record.parked {
                return Some("its token is dead, a hint at that was answered, and nobody says so".into());
            }
            return (polled && !record.parked).then(|| "its token is dead and nobody says so".into());
        }
        if record.parked {
            if self.may_be_parked(record) {
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
