//! The state of the world behind one lock, and what may be done to it.
//!
//! A [`World`] is a handle: clones share the one world. The servers (Graph, Spaces, the sender of webhooks, the
//! console) hold the lock only for as long as a look or a change takes, never across an await. Everything a test or a
//! person may do to the world is a method here or in `edit`; every change is sent to watchers as a [`WorldEvent`] and
//! recorded in the activity.

mod edit;
mod names;
pub mod state;
pub(crate) mod tokens;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::{Notify, broadcast, watch};

use self::state::{App, Business, Page, Person, State};
use super::DaemonSetup;
use super::activity::{Activity, ActivityKind, Edited, PutRecord, Request, WorldEvent};
use super::fault::{Call, Fault, Scope, Side, Switches};
use super::receiver::Memory;
use super::shopify::Shopify;
use super::spaces::Objects;
use super::webhook::WebhookChange;
use crate::core::model::{UserId, WallTime};

pub use self::edit::EditError;
pub(crate) use self::names::is_page_field;

/// Watchers that fall this far behind lose the oldest events.
const EVENTS: usize = 4096;
/// So many events are kept for later watchers.
const RECENT: usize = 300;

/// What a new world looks like.
#[derive(Debug, Clone)]
pub struct WorldOptions {
    /// Ids, names and tokens grow from it.
    pub seed: u64,
    /// How many pages there are. The first person runs all of them.
    pub pages: usize,
    /// How many shops there are.
    pub shops: usize,
    /// Entries per answer in listings, whatever `limit` asks for.
    pub listing_size: usize,
    /// Every so many answers of a listing is empty and has a `next`; zero for none.
    pub empty_every: usize,
}

impl Default for WorldOptions {
    fn default() -> Self {
        WorldOptions { seed: 7, pages: 6, shops: 2, listing_size: 25, empty_every: 3 }
    }
}

/// What is kept beside the state: it is not saved.
pub(crate) struct Inner {
    pub(crate) state: State,
    pub(crate) activity: Activity,
    pub(crate) switches: Switches,
    pub(crate) changes: VecDeque<WebhookChange>,
    pub(crate) latency: Duration,
    pub(crate) regain_minutes: u32,
    pub(crate) keys: BTreeMap<String, String>,
    /// Changes that were sent and did not get their 200 so far.
    pub(crate) retrying: usize,
    /// The platform's receiver.
    pub(crate) receiver: Memory,
}

struct Shared {
    inner: Mutex<Inner>,
    events: broadcast::Sender<WorldEvent>,
    recent: Mutex<VecDeque<WorldEvent>>,
    setup: Mutex<Option<DaemonSetup>>,
    faults: watch::Sender<u64>,
    change_queued: Notify,
    ticks: AtomicU64,
    held: AtomicU64,
    http: RwLock<reqwest::Client>,
    objects: OnceLock<Objects>,
    shopify: OnceLock<Shopify>,
}

/// A handle on the one world.
#[derive(Clone)]
pub struct World(Arc<Shared>);

impl World {
    /// A new world. The same options make the same world, tokens included.
    pub fn new(options: &WorldOptions) -> Self {
        World::from_state(build(options))
    }

    fn from_state(state: State) -> Self {
        let inner = Inner {
            state,
            activity: Activity::default(),
            switches: Switches::default(),
            changes: VecDeque::new(),
            latency: Duration::from_secs(2),
            regain_minutes: 1,
            keys: BTreeMap::new(),
            retrying: 0,
            receiver: Memory::default(),
        };
        World(Arc::new(Shared {
            inner: Mutex::new(inner),
            events: broadcast::Sender::new(EVENTS),
            recent: Mutex::default(),
            setup: Mutex::default(),
            faults: watch::Sender::new(0),
            change_queued: Notify::new(),
            ticks: AtomicU64::new(0),
            held: AtomicU64::new(0),
            http: RwLock::new(client()),
            objects: OnceLock::new(),
            shopify: OnceLock::new(),
        }))
    }

    /// Writes the state to a file, whole or not at all. Faults, counters and the log are not part of it.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        let text = serde_json::to_vec(&self.lock().state)?;
        let draft = path.with_extension("draft");
        std::fs::write(&draft, text)?;
        std::fs::rename(&draft, path)
    }

    /// The world that [`World::save`] wrote.
    pub fn load(path: &Path) -> io::Result<Self> {
        Ok(World::from_state(serde_json::from_slice(&std::fs::read(path)?)?))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        // A test that panicked while it held the lock leaves a world that is still whole.
        self.0.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A look at the state.
    pub fn look<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.lock().state)
    }

    /// A change of the state that no other method offers. No webhook comes of it.
    pub fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.lock().state)
    }

    /// Everything that happens from here on.
    pub fn events(&self) -> broadcast::Receiver<WorldEvent> {
        self.0.events.subscribe()
    }

    /// The events that happened last, oldest first.
    pub fn recent(&self) -> Vec<WorldEvent> {
        self.recent_events().iter().cloned().collect()
    }

    fn recent_events(&self) -> MutexGuard<'_, VecDeque<WorldEvent>> {
        self.0.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How the daemon in this world was set up last.
    pub fn daemon_setup(&self) -> Option<DaemonSetup> {
        self.0.setup.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_daemon_setup(&self, setup: DaemonSetup) {
        *self.0.setup.lock().unwrap_or_else(PoisonError::into_inner) = Some(setup);
    }

    /// The latest edit of a page.
    pub fn last_edit(&self) -> Option<Edited> {
        self.lock().activity.last_edit()
    }

    pub(crate) fn tell(&self, kind: ActivityKind, page: Option<&str>, ok: bool, text: impl Into<String>) {
        self.publish(kind, page, None, ok, text.into());
    }

    fn publish(&self, kind: ActivityKind, page: Option<&str>, call: Option<Call>, ok: bool, text: String) {
        let mut recent = self.recent_events();
        let seq = recent.back().map_or(0, |last| last.seq) + 1;
        let event = WorldEvent { seq, at: WallTime::now(), kind, text, page: page.map(str::to_owned), call, ok };
        if recent.len() == RECENT {
            recent.pop_front();
        }
        recent.push_back(event.clone());
        // Sent under the lock, so that watchers get the events in the order of their numbers. Nobody watching is no
        // failure.
        let _ = self.0.events.send(event);
    }

    // Faults.

    /// Switches a fault on for everything it touches, or off wherever it is on.
    pub fn set_fault(&self, fault: Fault, on: bool) {
        self.lock().switches.clear(fault);
        if on {
            self.set_fault_for(fault, Scope::default());
        } else {
            self.faults_changed(format!("off: {}", fault.title()), true);
        }
    }

    /// Switches a fault on within a scope; one with `times: Some(0)` switches it off there.
    pub fn set_fault_for(&self, fault: Fault, scope: Scope) {
        self.lock().switches.set(fault, scope);
        self.faults_changed(format!("on: {}", fault.title()), false);
    }

    /// Switches all faults off.
    pub fn clear_faults(&self) {
        self.lock().switches.clear_all();
        self.faults_changed("all faults off".into(), true);
    }

    fn faults_changed(&self, text: String, ok: bool) {
        self.0.faults.send_modify(|n| *n += 1);
        // What was kept back may go now.
        self.0.change_queued.notify_one();
        self.tell(ActivityKind::Fault, None, ok, text);
    }

    /// The faults that are on.
    pub fn faults(&self) -> Vec<(Fault, Scope)> {
        self.lock().switches.list()
    }

    /// Is this fault on anywhere?
    pub fn is_fault_on(&self, fault: Fault) -> bool {
        self.lock().switches.is_on(fault)
    }

    /// Changes whenever a fault is switched.
    pub(crate) fn watch_faults(&self) -> watch::Receiver<u64> {
        self.0.faults.subscribe()
    }

    pub(crate) fn strike(&self, call: Call, page: Option<&str>) -> Vec<Fault> {
        self.lock().switches.strike(call, page)
    }

    /// Waits until answers to requests like this one are not kept back any more.
    pub(crate) async fn hold(&self, call: Call, page: Option<&str>) {
        let mut faults = self.watch_faults();
        self.0.held.fetch_add(1, Ordering::SeqCst);
        let _leaves = Held(self.clone());
        while self.lock().switches.would_strike(Fault::GraphHeld, call, page) && faults.changed().await.is_ok() {}
    }

    /// How many answers [`Fault::GraphHeld`] keeps back.
    pub fn held(&self) -> u64 {
        self.0.held.load(Ordering::SeqCst)
    }

    /// How long answers wait while a slow fault is on. Two seconds at first.
    pub fn set_latency(&self, latency: Duration) {
        self.lock().latency = latency;
    }

    /// The `estimated_time_to_regain_access` while throttled, in minutes. One at first.
    pub fn set_regain_minutes(&self, minutes: u32) {
        self.lock().regain_minutes = minutes;
    }

    /// Moves the world's clock ahead, so that codes and tokens age.
    pub fn advance(&self, by: Duration) {
        self.lock().state.clock_ahead += by.as_secs();
    }

    /// The keys that Spaces takes: access key to secret key, these and no others.
    pub fn set_spaces_keys(&self, keys: impl IntoIterator<Item = (String, String)>) {
        self.lock().keys = keys.into_iter().collect();
    }

    // Activity.

    pub(crate) fn note(&self, call: Call, method: &str, path: &str, page: Option<&str>, outcome: &str) {
        let at = WallTime::now();
        let request =
            Request { at, method: method.to_owned(), path: path.to_owned(), call, outcome: outcome.to_owned() };
        self.lock().activity.note(request, page);
        let kind = match call {
            Call::Dialog => ActivityKind::Login,
            // The receiver reports it with more detail.
            Call::Event => return,
            call if call.is_spaces() => ActivityKind::Spaces,
            _ => ActivityKind::Graph,
        };
        let ok = outcome == "ok";
        let words = call.as_str().replace('_', " ");
        // A fault is named as its switch is, anything else as it was answered.
        let cause = outcome.parse::<Fault>().map_or_else(|_| outcome.to_owned(), Fault::title);
        let text = if ok { call.title().to_owned() } else { format!("{words} failed: {cause}") };
        self.publish(kind, page, Some(call), ok, text);
    }

    /// The latest requests, oldest first.
    pub fn requests(&self) -> Vec<Request> {
        self.lock().activity.requests()
    }

    /// How many requests of this kind came, whatever the answer.
    pub fn calls(&self, call: Call) -> u64 {
        self.lock().activity.calls(call)
    }

    /// All requests ever, counted by call and outcome.
    pub fn outcomes(&self) -> Vec<(Call, String, u64)> {
        self.lock().activity.outcomes()
    }

    /// How many times the page was read, whatever the answer.
    pub fn graph_reads(&self, page: &str) -> u64 {
        self.lock().activity.reads(page)
    }

    /// How many times the object was stored.
    pub fn puts(&self, key: &str) -> u64 {
        self.lock().activity.puts(key)
    }

    /// The latest write of the object, stored or refused.
    pub fn last_put(&self, key: &str) -> Option<PutRecord> {
        self.lock().activity.last_put(key)
    }

    /// The most writes of this object that were ever under way at once.
    pub fn max_concurrent_puts(&self, key: &str) -> u32 {
        self.lock().activity.most_at_once(key)
    }

    /// The most requests to this side that were ever under way at once.
    pub fn most_under_way(&self, side: Side) -> u32 {
        self.lock().activity.most_under_way(side)
    }

    /// Counts a request to this side as under way until the guard is dropped.
    pub(crate) fn enter(&self, side: Side) -> Inside {
        self.lock().activity.enters(side);
        Inside(self.clone(), side)
    }

    /// Violations by the daemon: two writes of an object at once, an object that went back to an older
    /// state of its page, a public ACL, a wrong content type.
    pub fn violations(&self) -> Vec<String> {
        self.lock().activity.violations()
    }

    /// The stored objects, once the Spaces server is set up.
    pub fn objects(&self) -> Option<&Objects> {
        self.0.objects.get()
    }

    pub(crate) fn set_objects(&self, objects: Objects) {
        // A world has one Spaces; the first stays.
        let _ = self.0.objects.set(objects);
    }

    /// The local Shopify, once it is set up.
    pub fn shopify(&self) -> Option<&Shopify> {
        self.0.shopify.get()
    }

    /// What happens at Shopify goes into the activity from here on.
    pub(crate) fn set_shopify(&self, shopify: Shopify) {
        // Each holding the other, neither would ever be dropped.
        let world = Arc::downgrade(&self.0);
        shopify.watch(Box::new(move |kind, ok, text| {
            if let Some(shared) = world.upgrade() {
                World(shared).tell(kind, None, ok, text);
            }
        }));
        // A world has one Shopify; the first stays.
        let _ = self.0.shopify.set(shopify);
    }

    /// The same few users of the platform for the same world, for whom the console logs in.
    pub fn demo_users(&self) -> Vec<UserId> {
        let seed = self.look(|s| s.seed);
        let uuid = |number| {
            let mut bytes = [0; 16];
            bytes.copy_from_slice(&names::dice(seed, number, "user")[..16]);
            UserId(uuid::Builder::from_random_bytes(bytes).into_uuid())
        };
        (0..3).map(uuid).collect()
    }

    // Webhooks on their way.

    pub(crate) fn post(&self, change: WebhookChange) {
        const MOST: usize = 100_000;
        let mut inner = self.lock();
        if inner.changes.len() < MOST {
            inner.changes.push_back(change);
        }
        drop(inner);
        self.0.change_queued.notify_one();
    }

    pub(crate) fn change_queued(&self) -> &Notify {
        &self.0.change_queued
    }

    /// Facebook's own client, for the callbacks.
    pub(crate) fn http(&self) -> reqwest::Client {
        self.0.http.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Facebook calls back with this client from here on: it may trust other authorities and show a certificate.
    pub fn call_with(&self, client: reqwest::Client) {
        *self.0.http.write().unwrap_or_else(PoisonError::into_inner) = client;
    }

    /// A number that differs each time.
    pub(crate) fn tick(&self) -> u64 {
        self.0.ticks.fetch_add(1, Ordering::Relaxed)
    }
}

/// A request that is under way.
pub(crate) struct Inside(World, Side);

impl Drop for Inside {
    fn drop(&mut self) {
        self.0.lock().activity.leaves(self.1);
    }
}

/// An answer that is kept back.
struct Held(World);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.0.held.fetch_sub(1, Ordering::SeqCst);
    }
}

fn client() -> reqwest::Client {
    let builder = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
    builder.build().unwrap_or_default()
}

fn words(list: &[&str]) -> BTreeSet<String> {
    list.iter().map(|word| (*word).to_owned()).collect()
}

fn person(id: &str, name: &str) -> Person {
    Person {
        id: id.into(),
        name: name.into(),
        granted: BTreeSet::new(),
        declined: BTreeSet::new(),
        declines: BTreeSet::new(),
        ticked: BTreeSet::new(),
    }
}

/// The persons of every sandbox. The first runs all pages, the second shares the first three pages, the third may only
/// look at the figures of one, the fourth has none.
const PERSONS: &[(&str, &str)] = &[
    ("2210000000000101", "Ada Winter"),
    ("2210000000000102", "Bruno Costa"),
    ("2210000000000103", "Chidi Anand"),
    ("2210000000000104", "Dora Novak"),
];

fn build(options: &WorldOptions) -> State {
    let secret = hex::encode(&names::dice(options.seed, 0, "app secret")[..16]);
    let app = App {
        id: "1200000000000001".into(),
        secret,
        name: "pagesyncd sandbox".into(),
        redirect_uris: BTreeSet::new(),
        require_proof: false,
        deauthorize_url: None,
        data_deletion_url: None,
        subscription: None,
        permissions: None,
    };
    let mut state = State {
        seed: options.seed,
        minted: 0,
        clock_ahead: 0,
        app,
        persons: PERSONS.iter().map(|(id, name)| ((*id).to_owned(), person(id, name))).collect(),
        pages: BTreeMap::new(),
        businesses: BTreeMap::new(),
        tokens: BTreeMap::new(),
        codes: BTreeMap::new(),
        versions: (21, 26),
        listing_size: options.listing_size.max(1),
        empty_every: options.empty_every,
    };
    for number in 0..options.pages as u64 {
        let page = build_page(options.seed, number);
        state.pages.insert(page.id().to_owned(), page);
    }
    build_business(&mut state);
    state
}

fn build_page(seed: u64, number: u64) -> Page {
    let node = names::page(seed, number);
    let full = words(&["ADVERTISE", "ANALYZE", "CREATE_CONTENT", "MANAGE", "MESSAGING", "MODERATE"]);
    let mut roles = BTreeMap::from([(PERSONS[0].0.to_owned(), full)]);
    if number < 3 {
        roles.insert(PERSONS[1].0.to_owned(), words(&["ANALYZE", "CREATE_CONTENT", "MODERATE"]));
    }
    if number == 0 {
        roles.insert(PERSONS[2].0.to_owned(), words(&["ANALYZE"]));
    }
    Page {
        history: VecDeque::from([(0, node.clone())]),
        node,
        roles,
        // One page in five is held through the portfolio.
        portfolio: number % 5 == 4,
        token_withheld: false,
        unsupported: BTreeSet::new(),
        subscribed: None,
        deleted: false,
        revision: 0,
    }
}

fn build_business(state: &mut State) {
    let held: Vec<String> = state.pages.iter().filter(|(_, p)| p.portfolio).map(|(id, _)| id.clone()).collect();
    let (client, owned): (Vec<_>, Vec<_>) = held.into_iter().enumerate().partition(|(n, _)| n % 3 == 2);
    let ids = |list: Vec<(usize, String)>| list.into_iter().map(|(_, id)| id).collect();
    let business = Business {
        id: "3300000000000001".into(),
        name: "Winter & Daughters".into(),
        persons: words(&[PERSONS[0].0]),
        owned: ids(owned),
        client: ids(client),
    };
    state.businesses.insert(business.id.clone(), business);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_saved_world_comes_back_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("world.json");
        let world = World::new(&WorldOptions { pages: 12, ..WorldOptions::default() });
        world.look(|s| assert_eq!((s.pages.len(), s.businesses.len()), (12, 1)));
        let page = world.look(|s| s.pages.keys().next().cloned()).unwrap();
        world.edit_page(&page, "name", "Café Größe".into()).unwrap();
        world.save(&path).unwrap();
        let again = World::load(&path).unwrap();
        let plain = |w: &World| w.look(|s| serde_json::to_value(s).unwrap());
        assert_eq!(plain(&world), plain(&again));
    }
}
