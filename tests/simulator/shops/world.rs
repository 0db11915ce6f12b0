//! The world of the shops: the clock, chance, the outside, and the process that lives between two crashes.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use pagesyncd::core::model::{LinkKey, MonoTime, ShopName, UserId, WallTime};
use pagesyncd::store::Store;
use pagesyncd::store::seal::Keyring;
use pagesyncd::store::stepped::Committer;

use super::bucket::Bucket;
use super::executor::{Executor, OUTSIDE, Sleep};
use super::process::Process;
use super::shopify::{Faults, Shop};
use crate::chance::Chance;
use crate::outside::Spaces;

/// What a run is made of. Times are in milliseconds.
#[derive(Debug, Clone)]
pub struct Plan {
    pub users: usize,
    pub shops: usize,
    pub flavour: Flavour,
    pub debounce: u64,
    pub poll: u64,
    pub sweep: u64,
    /// The longest mean pause of a bulk operation between two products.
    pub bulk_pause: u64,
    /// How long faults go on, and the mean pause between two of them.
    pub faults: u64,
    pub pause: u64,
    /// Percent of writes to Spaces, and of calls to Shopify, whose answer may be lost.
    pub lost: u64,
    /// Parts that a cleanup forgets in one go.
    pub forgets: usize,
}

/// What a run leans to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavour {
    /// Everything.
    All,
    /// Products that come, change and go during sweeps.
    Sweeping,
    /// Links that come and go.
    Relinking,
    /// Hours of refreshes, crashes and installations.
    Tokens,
}

/// Figures of a run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Figures {
    pub steps: u64,
    pub crashes: u64,
    pub reopens: u64,
    pub deliveries: u64,
    pub calls: u64,
    pub refreshes: u64,
    pub installs: u64,
    pub unlinks: u64,
    pub sweeps: u64,
    pub retired: u64,
    pub indexes: u64,
    pub writes: u64,
    pub late: u64,
    pub parked: u64,
    pub virtual_ms: u64,
}

pub struct World {
    pub executor: Executor,
    pub plan: Plan,
    pub chance: RefCell<Chance>,
    pub figures: RefCell<Figures>,
    pub faults_end: Cell<u64>,
    // The outside.
    pub shops: RefCell<Vec<Shop>>,
    pub names: Vec<ShopName>,
    pub links: Vec<LinkKey>,
    pub faults: RefCell<Faults>,
    pub spaces: RefCell<Spaces>,
    pub bucket: RefCell<Bucket>,
    pub disk_bad_until: Cell<u64>,
    pub disk_slow_until: Cell<u64>,
    /// The newest revision of a piece of which a delivery was answered with success, by link and part.
    pub acknowledged: RefCell<BTreeMap<(usize, String), u64>>,
    // The process.
    pub life: Cell<u64>,
    pub process: RefCell<Option<Rc<Process>>>,
    pub store: RefCell<Store>,
    pub committer: RefCell<Option<Committer>>,
    pub committing: Cell<bool>,
    // What is known from outside.
    pub violation: RefCell<Option<String>>,
    pub trace: RefCell<Option<VecDeque<String>>>,
}

impl World {
    pub fn new(plan: Plan, seed: u64) -> Rc<World> {
        let mut chance = Chance::new(seed);
        let now = 1_795_341_600_000 + chance.below(86_400_000);
        let (store, committer) = Store::in_memory(Keyring::new([7; 32], Vec::new()), WallTime(now));
        if chance.percent(50) {
            committer.suspend_behind_blocking_work();
        }
        let name = |shop: usize| format!("shop-{shop}.myshopify.com").parse::<ShopName>().expect("a shop");
        let names: Vec<ShopName> = (0..plan.shops).map(name).collect();
        let user = |user: usize| UserId(uuid::Uuid::from_u128(0x5151 + user as u128));
        let links = (0..plan.users * plan.shops)
            .map(|l| LinkKey::of_shop(user(l / plan.shops), names[l % plan.shops].clone()))
            .collect();
        let world = World {
            executor: Executor::default(),
            chance: RefCell::new(chance),
            figures: RefCell::default(),
            faults_end: Cell::new(now + plan.faults),
            shops: RefCell::new((0..plan.shops).map(|_| Shop::default()).collect()),
            names,
            links,
            plan,
            faults: RefCell::default(),
            spaces: RefCell::default(),
            bucket: RefCell::default(),
            disk_bad_until: Cell::new(0),
            disk_slow_until: Cell::new(0),
            acknowledged: RefCell::default(),
            life: Cell::new(OUTSIDE),
            process: RefCell::new(None),
            store: RefCell::new(store),
            committer: RefCell::new(Some(committer)),
            committing: Cell::new(false),
            violation: RefCell::default(),
            trace: RefCell::default(),
        };
        world.executor.set_now(now);
        Rc::new(world)
    }

    pub fn now(&self) -> u64 {
        self.executor.now()
    }

    pub fn wall(&self) -> WallTime {
        WallTime(self.now())
    }

    /// The monotonic clock, which shows here what the wall clock shows.
    pub fn mono(&self) -> MonoTime {
        MonoTime(self.now())
    }

    pub fn below(&self, n: u64) -> u64 {
        self.chance.borrow_mut().below(n)
    }

    pub fn between(&self, low: u64, high: u64) -> u64 {
        self.chance.borrow_mut().between(low, high.max(low))
    }

    pub fn percent(&self, p: u64) -> bool {
        self.chance.borrow_mut().percent(p)
    }

    pub fn unit(&self) -> f64 {
        self.chance.borrow_mut().unit()
    }

    /// Do faults end?
    pub fn is_quiet(&self) -> bool {
        self.now() >= self.faults_end.get()
    }

    pub async fn sleep(self: &Rc<Self>, ms: u64) {
        Sleep::until(self, self.now() + ms).await;
    }

    /// Begins a task that no process owns.
    pub fn outside(&self, work: impl Future<Output = ()> + 'static) {
        self.executor.spawn(OUTSIDE, work);
    }

    pub fn shop_of(&self, l: usize) -> usize {
        l % self.plan.shops
    }

    pub fn number_of(&self, link: &LinkKey) -> usize {
        self.links.iter().position(|known| known == link).expect("a link of this world")
    }

    pub fn process(&self) -> Option<Rc<Process>> {
        self.process.borrow().clone()
    }

    pub fn fail(&self, what: String) {
        self.violation.borrow_mut().get_or_insert(what);
    }

    pub fn note(&self, what: impl FnOnce() -> String) {
        if let Some(trace) = &mut *self.trace.borrow_mut() {
            if trace.len() == 150 {
                trace.pop_front();
            }
            trace.push_back(format!("{} {}", self.now(), what()));
        }
    }

    /// The next thing happens, no later than `until`. `false` when nothing is left or a promise was broken.
    pub fn step(self: &Rc<Self>, until: u64) -> bool {
        if let Some(committer) = &*self.committer.borrow() {
            committer.set_time(self.wall());
        }
        let happened = self.executor.step(until, |count| self.below(count as u64) as usize);
        self.figures.borrow_mut().steps += u64::from(happened);
        self.commit_next();
        happened && self.violation.borrow().is_none()
    }
}
