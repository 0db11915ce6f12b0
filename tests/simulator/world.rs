//! The world: virtual time, everything that is going to happen, and the daemon's life between two crashes.
//!
//! What belongs to a life of the process (messages, tasks, timers) ends with it; what belongs to the outside (changes
//! of pages, writes under way to Spaces, persons) does not.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, VecDeque};
use std::time::Duration;

use pagesyncd::core::link::reads::Pace;
use pagesyncd::core::model::{Cause, Generation, LinkKey, MonoTime, UserId, WallTime};
use pagesyncd::core::restart::History;
use pagesyncd::core::turns::Turns;
use pagesyncd::store::Store;
use pagesyncd::store::feed::Batch;
use pagesyncd::store::seal::Keyring;
use pagesyncd::store::stepped::Committer;
use pagesyncd::store::stepped::shown;

use super::chance::Chance;
use super::chaos::Flavour;
use super::cleanups::{Cleanups, CleanupsMsg};
use super::logins::{Grant, Login, Request as SignedRequest};
use super::outside::{Graph, Op, Spaces};
use super::page::{Job, JobStep, Page, PageMsg};
use super::store::{Done, L, Operation};
use super::uploader::{Carried, Uploader, UploaderMsg};

#[derive(Debug)]
pub enum Event {
    // Outside.
    Chaos,
    Change(usize),
    Deliver { page: usize, tries: u32 },
    Applied { l: L, op: Op, life: u64, write: Option<u64>, late: bool },
    SignedRequest(SignedRequest),
    PermissionsChanged { person: usize, tries: u32 },
    Start,
    // Inside: these end with the process.
    Page(u64, PageMsg),
    Uploader(u64, UploaderMsg),
    Supervisor(SupervisorMsg),
    Cleanups(CleanupsMsg),
    Dispatch(u64, Box<Batch>),
    Job(u64, JobStep),
    AbortLands(u64),
    LoginEnds(Box<Login>),
    Tried { l: L, generation: Generation },
    Carried(u64, Carried),
    Committed,
    CommitFailed,
    Reopen,
    Resume(Done),
}

#[derive(Debug, Clone, PartialEq)]
pub enum SupervisorMsg {
    RespawnPage(L),
    RespawnUploader,
    PageDied(L, u64),
    UploaderDied,
}

/// A page's place in the directory.
#[derive(Debug, Clone)]
pub struct Place {
    pub instance: u64,
    pub causes: Vec<Cause>,
    pub hinted: bool,
    /// When the first webhook came that the page has not looked for.
    pub heard_at: Option<MonoTime>,
    /// From here on the page need not look before a debounce is over; `None` before its first step.
    pub plenty_at: Option<MonoTime>,
}

impl Place {
    pub fn new(instance: u64) -> Self {
        Place { instance, causes: Vec::new(), hinted: false, heard_at: None, plenty_at: None }
    }

    /// Why the page was woken since the last look.
    pub fn take_reasons(&mut self) -> (Vec<Cause>, bool, Option<MonoTime>) {
        (std::mem::take(&mut self.causes), std::mem::take(&mut self.hinted), self.heard_at.take())
    }
}

/// What the run is made of.
#[derive(Debug, Clone)]
pub struct Plan {
    pub users: usize,
    pub pages: usize,
    pub poll: Duration,
    /// How long faults go on, and the mean pause between two of them.
    pub faults: Duration,
    pub pause: u64,
    /// How often faults begin again.
    pub phases: u32,
    pub flavour: Flavour,
}

/// Figures of a run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Figures {
    pub steps: u64,
    pub crashes: u64,
    pub reopens: u64,
    pub panics: u64,
    pub deliveries: u64,
    pub logins: u64,
    pub left: u64,
    pub reads: u64,
    pub writes: u64,
    pub late: u64,
    pub tampered: u64,
    pub give_ups: u64,
    pub checks: u64,
    pub hints: u64,
    pub drops: u64,
    pub cleanups: u64,
    pub repairs: u64,
    pub quiet_ms: u64,
    pub virtual_ms: u64,
}

#[derive(Debug)]
struct Due {
    at: WallTime,
    order: u64,
    life: Option<u64>,
    event: Event,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}
impl Eq for Due {}
impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

/// Jobs that may be under way at Graph, as `facebook.max_in_flight` has it by default.
pub const TURNS: usize = 32;

pub struct World {
    pub plan: Plan,
    pub now: WallTime,
    pub chance: Chance,
    pub figures: Figures,
    heap: BinaryHeap<Reverse<Due>>,
    order: u64,
    fifo: HashMap<u64, WallTime>,
    pub faults_end: WallTime,
    // The outside.
    pub keys: Vec<LinkKey>,
    pub numbers: HashMap<LinkKey, L>,
    /// What each token of a link came from.
    pub grants: BTreeMap<(L, Generation), Grant>,
    /// Whether the object of a link was to be kept when it was removed last.
    pub kept: BTreeMap<L, bool>,
    pub graph: Graph,
    pub spaces: Spaces,
    pub disk_bad_until: WallTime,
    pub disk_slow_until: WallTime,
    // The process.
    pub life: u64,
    pub up: bool,
    pub store: Store,
    /// Gone for a moment in a power cut.
    pub committer: Option<Committer>,
    pub committing: bool,
    /// Operations of the store that wait for a commit, in the order in which they began.
    pub operations: Vec<Operation>,
    pub cleanups: Cleanups,
    /// The dispatcher that lives, and whether it is passing on a batch.
    pub dispatcher: u64,
    pub dispatching: bool,
    pub pace: Pace,
    pub limit: usize,
    /// The webhook fields that the settings name.
    pub wanted_fields: u32,
    /// The latest slot that was given for a check.
    pub check_slot: MonoTime,
    pub instances: u64,
    pub pages: BTreeMap<u64, Page>,
    pub directory: BTreeMap<L, Place>,
    pub uploader: Option<(u64, Uploader)>,
    pub histories: BTreeMap<L, History>,
    pub uploader_history: History,
    pub jobs: BTreeMap<u64, Job>,
    /// The turns of jobs at Graph, and the jobs that wait for one.
    pub turns: Turns<u64>,
    pub carrying: BTreeMap<u64, super::uploader::Carry>,
    pub writing: BTreeSet<L>,
    // What is known from outside.
    pub oracle: super::oracle::Oracle,
    pub violation: Option<String>,
    pub trace: Option<VecDeque<String>>,
}

impl World {
    /// The monotonic clock, which shows here what the wall clock shows.
    pub fn mono(&self) -> MonoTime {
        MonoTime(self.now.0)
    }

    pub fn new(plan: Plan, seed: u64) -> Self {
        let mut chance = Chance::new(seed);
        let mut graph = Graph::default();
        (0..plan.pages).for_each(|_| graph.new_page());
        let number = |l: usize| (1_000 + l % plan.pages).to_string().parse().expect("digits");
        let user = |l: usize| UserId(uuid::Uuid::from_u128(0x5151 + (l / plan.pages) as u128));
        let keys: Vec<LinkKey> = (0..plan.users * plan.pages).map(|l| LinkKey::new(user(l), number(l))).collect();
        let numbers = keys.iter().cloned().enumerate().map(|(l, key)| (key, l)).collect();
        let now = WallTime(1_795_341_600_000 + chance.below(86_400_000));
        let (debounce, burst, refill) = match plan.flavour {
            Flavour::Racing => (100, 50, 200),
            Flavour::Dying | Flavour::Relinking | Flavour::Leaving => (100, 3, 1_000),
            Flavour::All | Flavour::Calm => (2_000, 3, 60_000),
        };
        let (debounce, refill) = (Duration::from_millis(debounce), Duration::from_millis(refill));
        let pace = Pace { debounce, burst, refill, poll_interval: plan.poll };
        let (store, committer) = Store::in_memory(Keyring::new([7; 32], Vec::new()), now);
        let mut world = World {
            faults_end: now.plus(plan.faults),
            plan,
            now,
            chance,
            figures: Figures::default(),
            heap: BinaryHeap::new(),
            order: 0,
            fifo: HashMap::new(),
            keys,
            numbers,
            grants: BTreeMap::new(),
            kept: BTreeMap::new(),
            graph,
            spaces: Spaces::default(),
            disk_bad_until: WallTime(0),
            disk_slow_until: WallTime(0),
            life: 0,
            up: false,
            store,
            committer: Some(committer),
            committing: false,
            operations: Vec::new(),
            cleanups: Cleanups::default(),
            dispatcher: 0,
            dispatching: false,
            pace,
            limit: 8,
            wanted_fields: 1,
            check_slot: MonoTime(0),
            instances: 0,
            pages: BTreeMap::new(),
            directory: BTreeMap::new(),
            uploader: None,
            histories: BTreeMap::new(),
            uploader_history: History::default(),
            jobs: BTreeMap::new(),
            turns: Turns::new(TURNS),
            carrying: BTreeMap::new(),
            writing: BTreeSet::new(),
            oracle: super::oracle::Oracle::default(),
            violation: None,
            trace: None,
        };
        world.at(world.now, Event::Start);
        world.at(world.now, Event::Chaos);
        world
    }

    pub fn begin_phase(&mut self) {
        self.faults_end = self.now.plus(self.plan.faults);
        self.at(self.now, Event::Chaos);
    }

    pub fn fail(&mut self, what: String) {
        self.violation.get_or_insert(what);
    }

    pub fn page_of(&self, l: L) -> usize {
        l % self.plan.pages
    }

    pub fn number_of(&self, key: &LinkKey) -> L {
        self.numbers[key]
    }

    pub fn links_of(&self, page: usize) -> Vec<L> {
        let links = shown(self.store.links_of_page(self.keys[page].page().expect("a page")));
        links.iter().map(|key| self.number_of(key)).collect()
    }

    fn push(&mut self, at: WallTime, life: Option<u64>, event: Event) {
        self.order += 1;
        self.heap.push(Reverse(Due { at: at.max(self.now), order: self.order, life, event }));
    }

    /// Something of the outside.
    pub fn at(&mut self, at: WallTime, event: Event) {
        self.push(at, None, event);
    }

    /// Something of this life, in so many milliseconds.
    pub fn soon(&mut self, ms: u64, event: Event) {
        self.push(WallTime(self.now.0 + ms), Some(self.life), event);
    }

    /// A message: a little later, and in order with the others to the same mailbox.
    pub fn send(&mut self, mailbox: u64, event: Event) {
        let at = WallTime(self.now.0 + self.chance.below(3));
        let at = at.max(self.fifo.get(&mailbox).copied().unwrap_or_default());
        self.fifo.insert(mailbox, at);
        self.push(at, Some(self.life), event);
    }

    pub fn tell_page(&mut self, instance: u64, message: PageMsg) {
        self.send(instance, Event::Page(instance, message));
    }

    pub fn tell_uploader(&mut self, message: UploaderMsg) {
        if let Some(instance) = self.uploader.as_ref().map(|(instance, _)| *instance) {
            self.send(instance, Event::Uploader(instance, message));
        }
    }

    pub fn tell_supervisor(&mut self, message: SupervisorMsg) {
        self.send(0, Event::Supervisor(message));
    }

    pub fn next_at(&self) -> Option<WallTime> {
        self.heap.peek().map(|d| d.0.at)
    }

    /// The next thing happens. `false` when nothing is left or a promise was broken.
    pub fn step(&mut self) -> bool {
        let Some(Reverse(due)) = self.heap.pop() else { return false };
        self.now = due.at;
        if due.life.is_some_and(|life| life != self.life) {
            return true;
        }
        self.figures.steps += 1;
        if let Some(trace) = &mut self.trace {
            if trace.len() == 80 {
                trace.pop_front();
            }
            trace.push_back(format!("{} {:?}", due.at.0, due.event));
        }
        let read = matches!(due.event, Event::Job(..) | Event::AbortLands(_) | Event::Resume(..));
        let durable = matches!(due.event, Event::Committed | Event::Reopen);
        self.store_time(self.now);
        self.happen(due.event);
        self.read_feed();
        // Two hundred links are looked at less often.
        if durable && (self.plan.flavour != Flavour::Calm || self.figures.steps.is_multiple_of(50)) {
            (0..self.keys.len()).for_each(|l| self.check_durable(l));
            self.check_grants();
        }
        if read && self.plan.flavour != Flavour::Calm {
            self.check_claims();
        }
        self.check_always();
        self.violation.is_none()
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Chaos => self.chaos(),
            Event::Change(page) => {
                let racing = self.plan.flavour == Flavour::Racing;
                self.graph.change(page, if racing { 75 } else { 35 }, &mut self.chance);
                let wait = self.chance.below(if racing { 300 } else { 3_000 });
                if self.graph.subscribed[page] > 0 && self.chance.percent(85) {
                    self.at(WallTime(self.now.0 + wait), Event::Deliver { page, tries: 0 });
                }
            }
            Event::Deliver { page, tries } => self.deliver(page, tries),
            Event::Applied { l, op, life, write, late } => {
                let unheard = write.is_some_and(|write| !self.carrying.contains_key(&write));
                let late = late || life != self.life || unheard;
                self.figures.late += u64::from(late);
                self.spaces.apply(l, op, late);
                self.check_durable(l);
            }
            Event::PermissionsChanged { person, tries } => self.permissions_changed(person, tries),
            Event::SignedRequest(request) => self.signed_request(request),
            Event::LoginEnds(login) => {
                self.figures.logins += 1;
                self.login_ends(*login);
            }
            Event::Tried { l, generation } => self.tried(l, generation),
            Event::Start => self.start(),
            Event::Page(instance, message) => self.page_handles(instance, message),
            Event::Uploader(instance, message) => self.uploader_handles(instance, message),
            Event::Supervisor(message) => self.supervisor_handles(message),
            Event::Job(job, step) => self.job_goes_on(job, step),
            Event::AbortLands(job) => self.abort_lands(job),
            Event::Carried(write, step) => self.carry_goes_on(write, step),
            Event::Cleanups(message) => self.cleanups_handle(message),
            Event::Dispatch(dispatcher, batch) => self.dispatch(dispatcher, *batch),
            Event::Committed => self.committed(),
            Event::CommitFailed => self.commit_failed(),
            Event::Reopen if self.now < self.disk_bad_until => self.soon(2_000, Event::Reopen),
            Event::Reopen => self.reopen(),
            Event::Resume(done) => self.resume(done),
        }
    }

    /// Meta tells that a page changed; it tries again a few times when the answer is not 200.
    fn deliver(&mut self, page: usize, tries: u32) {
        let version = self.graph.version(page);
        let links = self.links_of(page);
        if !self.up {
            return self.redeliver(page, tries);
        }
        self.figures.deliveries += 1;
        let (store, id) = (self.store.clone(), self.keys[page].page().expect("a page").clone());
        self.ask(async move {
            let named = [id.as_str().parse().expect("a page of this world")];
            let ok = store.absorbs(&named) || store.mark_pages(&[id], Cause::Webhook).await.is_ok();
            Done::Delivered { page, version, links, tries, ok }
        });
    }

    fn redeliver(&mut self, page: usize, tries: u32) {
        if tries < 3 && self.chance.percent(70) {
            let wait = self.chance.between(1_000, 120_000);
            self.at(WallTime(self.now.0 + wait), Event::Deliver { page, tries: tries + 1 });
        }
    }

    /// The page of a link is due. For a webhook it rests until the debounce is over, where it may.
    pub fn tell(&mut self, l: L, cause: Cause) {
        let (now, debounce) = (self.mono(), self.pace.debounce);
        if let Some(place) = self.directory.get_mut(&l)
            && cause == Cause::Webhook
            && place.plenty_at.is_some_and(|at| at <= now.plus(debounce))
        {
            let instance = place.instance;
            if place.heard_at.is_none() {
                place.heard_at = Some(now);
                let wait = (debounce.as_millis() as u64).max(1);
                self.soon(wait, Event::Page(instance, PageMsg::Wake));
            }
            return;
        }
        self.wake(l, |place| {
            if !place.causes.contains(&cause) {
                place.causes.push(cause);
            }
        });
    }

    pub fn wake(&mut self, l: L, reason: impl Fn(&mut Place)) {
        let Some(place) = self.directory.get_mut(&l) else { return };
        let first = place.causes.is_empty() && !place.hinted;
        reason(place);
        let instance = place.instance;
        if first {
            self.tell_page(instance, PageMsg::Wake);
        }
    }

    pub fn tell_page_of(&mut self, l: L, message: PageMsg) {
        if let Some(instance) = self.directory.get(&l).map(|place| place.instance) {
            self.tell_page(instance, message);
        }
    }

    /// This version was acknowledged to somebody.
    pub fn acknowledged(&mut self, l: L, version: usize) {
        self.oracle.acknowledged(l, version);
        self.check_durable(l);
    }

    fn resume(&mut self, done: Done) {
        match done {
            Done::Delivered { version, links, ok: true, .. } => {
                links.into_iter().for_each(|l| self.acknowledged(l, version));
            }
            Done::Delivered { page, tries, .. } => self.redeliver(page, tries),
            Done::Synced { links, ok } => {
                links.into_iter().filter(|_| ok).for_each(|(l, version)| self.acknowledged(l, version));
            }
            Done::Linked(linking, stored) => self.linked(linking, stored),
            Done::Hinted { dead, ok: true, .. } => self.oracle.doomed.extend(dead),
            Done::Hinted { person, tries, .. } => self.hint_again(person, tries),
            Done::Unlinked { orders, ok } => {
                let answered = orders.into_iter().filter(|_| ok);
                answered.for_each(|(l, order)| self.oracle.decisions.unlink_answered(l, order));
            }
            Done::Left { request, left, ok } => self.person_left(request, &left, ok),
            Done::Staged { job, outcome } => self.staged(job, outcome),
            Done::Item { write, item } => self.item_loaded(write, item),
            Done::Completed { write, more } => self.completed(write, more),
            Done::Closed { cleanup, seq, ok } => self.cleanup_closed(&cleanup, seq, ok),
            Done::Noted => {}
        }
    }

    /// The process is gone, and with it all memory; of the writes under way, some may have arrived.
    pub fn crash(&mut self) {
        if !self.up {
            return;
        }
        self.figures.crashes += 1;
        self.jobs.clear();
        self.turns = Turns::new(TURNS);
        self.power_cut();
        self.life += 1;
        self.up = false;
        self.dispatching = false;
        self.fifo.clear();
        self.pages.clear();
        self.directory.clear();
        self.uploader = None;
        self.histories.clear();
        self.uploader_history = History::default();
        self.carrying.clear();
        self.writing.clear();
        self.check_slot = MonoTime(0);
        self.oracle.process_ended();
        let down = self.chance.between(100, 20_000);
        self.at(WallTime(self.now.0 + down), Event::Start);
    }

    pub fn fresh(&mut self) -> u64 {
        self.instances += 1;
        self.instances
    }
}
