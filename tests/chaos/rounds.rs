//! Rounds of fire. In each, senders pour webhooks in while faults stand (Graph, Shopify, Spaces, the disk) and incidents fall
//! (kills, signals, reloads, panics); then everything is well again, and what was promised must be kept.
//!
//! Everything is chosen by the seed; what the threads of two processes make of it is not. A seed replays the choices.
//!
//! What is asked after each round, in this order: every edit that was acknowledged is in the bucket, *before* anything
//! is announced again that might repair a loss; nothing is owed; then the refused changes are announced again, and all
//! objects are true. The world saw no two writes of an object at once and no object going back, and the log holds no
//! panic but those asked for.
//!
//! The tokens of shops live for minutes or for seconds, so that they are exchanged while all this happens.
//! A pair that is lost would park its shop, so every shop must be active after each round; at the end every shop is
//! changed and read once more with tokens that live for seconds.
//!
//! Products are edited, come and go. In half of the rounds shops are polled and swept every few seconds, so that walks fall
//! into everything else; in the others never, so that no walk repairs what was lost. At the end every shop has changes
//! that nobody announces.
//!
//! The daemon's wall clock is set back and ahead by minutes to two days, and right again at the end of the round, where
//! a clock can be set; deaths fall into such times, so that a process starts by a wrong clock and lives on with a right
//! one. Waits go by the monotonic clock and what was acknowledged by numbers, so nothing may be lost or late. Spaces
//! refuses what is signed by a clock that is fifteen minutes off, which is one more outage of Spaces; so all has to be
//! true only when the clock is right again. (What may be lost by such a clock are the sessions and logins that end with
//! it; no round has any under way.) The world's clock only runs ahead: Facebook's idea of time differs from the
//! daemon's.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use http::Method;
use pagesyncd::core::model::ShopName;
use pagesyncd::sandbox::fault::Scope;
use pagesyncd::sandbox::{ACCESS_KEY, SECRET_KEY};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use signal_hook::consts::SIGHUP;

use crate::clock::Clock;
use crate::faults::{
    DAY, GRAPH, INCIDENTS, Incident, MINUTE, SECONDS_TO_LIVE, SHOPIFY, SHORT_WALKS, SPACES, THROTTLES, TOKEN_LIVES,
    Trouble, WALKS,
};
use crate::fixture::{Fixture, within};
use crate::senders::{Book, Senders, client};
use crate::things::Thing;

/// The most that a round may take to come to rest.
const PATIENCE: Duration = Duration::from_secs(120);
/// What the daemon may take to drain, on a loaded machine.
const DRAIN: Duration = Duration::from_secs(30);
/// Deaths of an actor that a process forgives within ten minutes.
const DEATHS: u32 = 4;

#[derive(Debug, Default)]
pub struct Tally {
    pub rounds: u64,
    pub kills: u64,
    pub stops: u64,
    pub outages: u64,
    pub full_disks: u64,
    pub clock_steps: u64,
    pub lost: u64,
    pub max_resident: u64,
    pub max_store: u64,
    pub slowest: Duration,
}

pub struct Fire {
    fixture: Fixture,
    clock: Result<Clock, String>,
    book: Arc<Book>,
    seed: u64,
    dice: StdRng,
    http: reqwest::Client,
    tally: Tally,
    keys: u32,
    deaths: u32,
    full: bool,
    started: Instant,
}

impl Fire {
    pub async fn light(seed: u64) -> Fire {
        let clock = Clock::find();
        let env = clock.as_ref().map(Clock::env).unwrap_or_default();
        let mut fixture = Fixture::lay(20, 10, seed % 1_000_000, env).await;
        fixture.open_shops(2).await;
        if let Err(reason) = &fixture.disk {
            println!("fire: the disk is never filled, since the store has no disk of its own ({reason})");
        }
        if let Err(reason) = &clock {
            println!("fire: the clock is never set: {reason}");
        }
        let book = Book::of(&fixture);
        let dice = StdRng::seed_from_u64(seed);
        let tally = Tally::default();
        let started = Instant::now();
        Fire { fixture, clock, book, seed, dice, http: client(), tally, keys: 0, deaths: 0, full: false, started }
    }

    fn faults(&mut self) -> Vec<Trouble> {
        let dice = &mut self.dice;
        let mut faults = Vec::new();
        if dice.random_bool(0.45) {
            faults.push(Trouble::Graph(*GRAPH.choose(dice).unwrap()));
        } else if dice.random_bool(0.12) {
            faults.push(Trouble::Throttle(*THROTTLES.choose(dice).unwrap()));
        }
        if dice.random_bool(0.45) {
            faults.push(Trouble::Shopify(*SHOPIFY.choose(dice).unwrap()));
        }
        if dice.random_bool(0.45) {
            faults.push(Trouble::Spaces(*SPACES.choose(dice).unwrap()));
        } else if dice.random_bool(0.15) {
            faults.push(Trouble::Keys);
        }
        if dice.random_bool(0.15) && self.fixture.disk.is_ok() {
            faults.push(Trouble::DiskFull);
        }
        if dice.random_bool(0.25) {
            // By minutes as often as by days, and back as often as ahead.
            let most = *[20 * MINUTE, 2 * DAY].choose(dice).unwrap();
            let off = dice.random_range(-most..=most);
            if self.clock.is_ok() {
                faults.push(Trouble::Clock(off));
            }
        }
        faults
    }

    /// One round.
    pub async fn burn(&mut self) {
        self.tally.rounds += 1;
        let faults = self.faults();
        let incidents: Vec<Incident> =
            (0..self.dice.random_range(0..=2)).map(|_| *INCIDENTS.choose(&mut self.dice).unwrap()).collect();
        let life = *TOKEN_LIVES.choose(&mut self.dice).unwrap();
        self.fixture.shopify().change(|state| state.token_life = life);
        let walks = *WALKS.choose(&mut self.dice).unwrap();
        self.set_walks(walks);
        let scene =
            format!("round {} {faults:?} {incidents:?}, tokens live {life:?}, walks {walks:?}", self.tally.rounds);
        let (senders, seed) = (self.dice.random_range(2..=5), self.dice.random());
        let senders = Senders::begin(&self.book, senders, Duration::from_millis(60), seed);
        self.pause(400).await;
        let graph_is_ill = faults.iter().any(|t| matches!(t, Trouble::Graph(_) | Trouble::Throttle(_)));
        for trouble in &faults {
            self.begin(*trouble, graph_is_ill, &scene).await;
        }
        // Who falls silent before the incident cannot repair a loss by telling of a later edit.
        let silent_early = self.dice.random_bool(0.5);
        let mut senders = Some(senders);
        if silent_early {
            self.pause(600).await;
            senders.take().unwrap().end().await;
        }
        for incident in &incidents {
            self.pause(700).await;
            self.strike(*incident, &scene).await;
        }
        self.pause(700).await;
        for trouble in &faults {
            self.end(*trouble).await;
        }
        if let Some(senders) = senders {
            self.pause(300).await;
            senders.end().await;
        }
        self.judge(&scene).await;
    }

    fn set_walks(&mut self, [poll, sweep]: [&str; 2]) {
        self.fixture.set("shopify.poll_interval", poll);
        self.fixture.set("shopify.sweep_interval", sweep);
        let _ = self.fixture.daemon.signal(SIGHUP);
    }

    async fn pause(&mut self, up_to_millis: u64) {
        tokio::time::sleep(Duration::from_millis(self.dice.random_range(0..=up_to_millis))).await;
    }

    async fn begin(&mut self, trouble: Trouble, graph_is_ill: bool, scene: &str) {
        if let Trouble::Clock(off) = trouble {
            return self.set_clock(off, scene).await;
        }
        self.tally.outages += 1;
        let latency = Duration::from_millis(self.dice.random_range(200..=1500));
        self.fixture.world().set_latency(latency);
        match trouble {
            Trouble::Graph(fault) | Trouble::Spaces(fault) => self.fixture.world().set_fault(fault, true),
            Trouble::Shopify(fault) => self.fixture.shopify().set_fault(fault, true),
            Trouble::Throttle(fault) => {
                let scope = Scope::default().times(self.dice.random_range(1..=5));
                self.fixture.world().set_fault_for(fault, scope);
            }
            Trouble::Keys => {
                self.keys += 1;
                let key = (ACCESS_KEY.to_owned(), format!("{SECRET_KEY}-{}", self.keys));
                self.fixture.world().set_spaces_keys([key]);
            }
            Trouble::DiskFull => {
                self.tally.full_disks += 1;
                self.full = true;
                self.fixture.disk.as_ref().unwrap().fill();
                if !graph_is_ill {
                    self.until_refused(scene).await;
                }
            }
            Trouble::Clock(_) => {}
        }
    }

    /// A disk without space shows at the listener. The store's files have some room inside, so that it takes a while;
    /// and reads must go on meanwhile, since a mark that stands unread is promised already and costs no write.
    async fn until_refused(&self, scene: &str) {
        let before = self.book.answers.unavailable.load(Ordering::Relaxed);
        let pages: Vec<Thing> = self.fixture.pages.iter().cloned().map(Thing::Page).collect();
        let refused = within(Duration::from_secs(60), async || {
            let numbers = self.book.edit(&pages);
            self.book.tell(&self.http, &pages, &numbers).await;
            self.book.answers.unavailable.load(Ordering::Relaxed) > before
        });
        if refused.await.is_none() {
            self.fail(scene, "the disk is full and no delivery was answered 503").await;
        }
    }

    async fn end(&mut self, trouble: Trouble) {
        match trouble {
            Trouble::Graph(fault) | Trouble::Spaces(fault) => self.fixture.world().set_fault(fault, false),
            Trouble::Shopify(fault) => self.fixture.shopify().set_fault(fault, false),
            Trouble::Throttle(fault) => {
                self.fixture.world().set_fault(fault, false);
                // What Graph asked to wait for is forgotten with the process; waiting it out takes minutes.
                self.kill().await;
            }
            Trouble::Keys => {
                self.fixture.set("spaces.secret_key", format!("{SECRET_KEY}-{}", self.keys));
                // One that does not run reads it when it starts.
                let _ = self.fixture.daemon.signal(SIGHUP);
            }
            Trouble::DiskFull => {
                self.fixture.disk.as_ref().unwrap().relieve();
                self.full = false;
            }
            Trouble::Clock(_) => self.set_clock(0, "the end of a wrong clock").await,
        }
    }

    /// Sets the clock, and sees that the daemon goes by it: it stamps what it reloads.
    async fn set_clock(&mut self, off: i64, scene: &str) {
        self.clock.as_ref().unwrap().set(off);
        self.tally.clock_steps += 1;
        let seen = within(PATIENCE, async || {
            if self.fixture.daemon.signal(SIGHUP).is_err() {
                return true;
            }
            let Some(status) = self.fixture.status().await else { return self.fixture.daemon.pid().is_none() };
            let stamp = status["config"]["loaded_at"].as_str().and_then(|at| humantime::parse_rfc3339(at).ok());
            let seconds = |at: SystemTime| at.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() as i64;
            stamp.is_some_and(|at| (seconds(at) - seconds(SystemTime::now()) - off).abs() < MINUTE)
        });
        if seen.await.is_none() {
            self.fail(scene, &format!("the daemon does not go by a clock that is {off} s off")).await;
        }
    }

    async fn strike(&mut self, incident: Incident, scene: &str) {
        match incident {
            Incident::Kill => self.kill().await,
            Incident::KillTwice => {
                self.fixture.daemon.kill_now().await;
                let moment = Duration::from_millis(self.dice.random_range(0..300));
                // Dropped wherever the moment finds it.
                let _ = tokio::time::timeout(moment, self.fixture.daemon.start()).await;
                self.tally.kills += 1;
                self.kill().await;
            }
            Incident::Term => self.stop(scene).await,
            Incident::ReloadGood => {
                let debounce = self.dice.random_range(20..300);
                self.fixture.set("sync.debounce", format!("{debounce}ms"));
                let most: i64 = self.dice.random_range(1..=8);
                self.fixture.set("spaces.max_in_flight", most);
                let _ = self.fixture.daemon.signal(SIGHUP);
            }
            Incident::ReloadBad => {
                let bad = ["[nonsense]\n", "= = =", "[log]\nlevel = 3"];
                self.fixture.write_config(bad.choose(&mut self.dice).unwrap());
                let _ = self.fixture.daemon.signal(SIGHUP);
                let reply = within(PATIENCE, async || {
                    let Some(status) = self.fixture.status().await else { return self.fixture.daemon.pid().is_none() };
                    status["config"]["last_error"].is_string()
                });
                let reply = reply.await;
                self.fixture.write_config("");
                if reply.is_none() {
                    self.fail(scene, "a bad configuration is not shown in the status").await;
                }
            }
            Incident::DrillPage => {
                let page = self.fixture.pages.choose(&mut self.dice).unwrap().clone();
                self.drill(&format!("page/{page}")).await;
            }
            Incident::DrillShop => {
                let shop = self.fixture.shops.choose(&mut self.dice).unwrap().clone();
                self.drill(&format!("shop/{shop}")).await;
            }
            Incident::DrillUploader => self.drill("uploader").await,
            Incident::DrillListener => self.drill("listener").await,
            Incident::WorldClock => self.fixture.world().advance(Duration::from_secs(self.dice.random_range(1..=90))),
        }
    }

    /// One that dies too often ends the process by design, which then is a kill.
    async fn drill(&mut self, which: &str) {
        if self.deaths == DEATHS {
            return self.kill().await;
        }
        self.deaths += 1;
        self.fixture.admin(Method::POST, &format!("/v1/drill/{which}"), "").await;
    }

    async fn kill(&mut self) {
        self.note_size();
        self.fixture.daemon.kill_now().await;
        self.tally.kills += 1;
        self.pause(150).await;
        self.start().await;
    }

    async fn stop(&mut self, scene: &str) {
        self.note_size();
        let was_running = self.fixture.daemon.pid().is_some();
        let stopped = tokio::time::timeout(DRAIN, self.fixture.daemon.stop()).await;
        self.tally.stops += 1;
        match stopped {
            Err(_) => self.fail(scene, "the daemon does not end when asked to").await,
            Ok(code) if was_running && code != Some(0) && !self.full => {
                self.fail(scene, &format!("asked to end, the daemon ended with {code:?}")).await;
            }
            Ok(_) => {}
        }
        self.start().await;
    }

    /// A start on a full disk may fail, and is made good when there is room.
    async fn start(&mut self) {
        self.deaths = 0;
        if let Err(error) = self.fixture.daemon.start().await
            && !self.full
        {
            self.fail("a start", &error).await;
        }
    }

    fn note_size(&mut self) {
        self.tally.max_resident = self.tally.max_resident.max(self.fixture.resident());
        self.tally.max_store = self.tally.max_store.max(self.fixture.store_bytes());
    }

    async fn judge(&mut self, scene: &str) {
        if self.fixture.status().await.is_none() {
            self.start().await;
        }
        let began = Instant::now();
        let kept = within(PATIENCE, async || self.missing().is_empty()).await;
        if kept.is_none() {
            self.tally.lost += self.missing().len() as u64;
            let missing = self.missing();
            self.fail(scene, &format!("acknowledged and not in the bucket: {missing:?}")).await;
        }
        if within(PATIENCE, async || self.fixture.at_rest().await).await.is_none() {
            self.fail(scene, "the daemon does not come to rest").await;
        }
        let reply = within(PATIENCE, async || {
            self.book.tell_again(&self.http).await;
            self.book.is_acknowledged()
        });
        if reply.await.is_none() {
            self.fail(scene, "all is well and deliveries are not acknowledged").await;
        }
        let good = within(PATIENCE, async || self.fixture.untrue().is_empty() && self.fixture.at_rest().await).await;
        if good.is_none() {
            let untrue = self.fixture.untrue();
            self.fail(scene, &format!("not true: {untrue:?}")).await;
        }
        self.tally.slowest = self.tally.slowest.max(began.elapsed());
        self.note_size();
        self.look_for_wrongs(scene).await;
        if std::env::var_os("PAGESYNCD_CHAOS_VERBOSE").is_some() {
            println!("{scene}: at rest after {:?}", began.elapsed());
        }
    }

    fn missing(&self) -> Vec<String> {
        let missing = |link: &crate::fixture::Link| {
            let promised = self.book.promise(&link.thing).acknowledged;
            let shown = self.fixture.shown(link);
            (shown < Some(promised)).then(|| format!("{:?} of {}: {shown:?} < {promised}", link.thing, link.user))
        };
        let links = self.fixture.links.iter().filter_map(missing);
        links.chain(self.book.shelf.missing(&self.fixture)).collect()
    }

    async fn look_for_wrongs(&mut self, scene: &str) {
        let mut wrongs = self.fixture.world().violations();
        wrongs.append(&mut self.book.answers.wrong.lock().unwrap());
        let most = |link: &crate::fixture::Link| self.fixture.world().max_concurrent_puts(&link.object_key());
        wrongs.extend(
            self.fixture.links.iter().filter(|link| most(link) > 1).map(|link| format!("two writes: {link:?}")),
        );
        let heard = self.fixture.listen();
        wrongs.extend(heard.panics);
        // Nothing here damages the store: not even a full disk or a kill may be taken for it.
        wrongs.extend(heard.errors.into_iter().filter(|error| error.contains("damaged")));
        if !wrongs.is_empty() {
            self.fail(scene, &wrongs.join("\n")).await;
        }
    }

    async fn fail(&self, scene: &str, what: &str) {
        let account = self.fixture.account().await;
        panic!("seed {}, {scene}: {what}\n{}\n{account}", self.seed, self);
    }

    /// The tokens of every shop are good for one more change of everything, after a start.
    async fn prove_tokens(&mut self) {
        let scene = "the proof of the tokens";
        self.fixture.shopify().change(|state| state.token_life = SECONDS_TO_LIVE);
        self.kill().await;
        let before = self.fixture.refreshes();
        self.book.edit(&self.fixture.things());
        self.judge(scene).await;
        let after = self.fixture.refreshes();
        // A pair from a time when the clock was ahead is taken for good until it is refused.
        let is_owed = |shop: &&ShopName| before[*shop] == after[*shop] && self.tally.clock_steps == 0;
        if let Some(shop) = self.fixture.shops.iter().find(is_owed) {
            self.fail(scene, &format!("{shop} was read without a fresh token")).await;
        }
    }

    /// What nobody announces is found: changes by polls, deletions by sweeps.
    async fn prove_walks(&mut self) {
        self.set_walks(SHORT_WALKS);
        self.kill().await;
        let (shopify, things) = (self.fixture.shopify().clone(), self.fixture.things());
        for shop in &self.fixture.shops {
            let is_free = |id: &u64| !things.contains(&Thing::Product(shop.clone(), *id));
            let free: Vec<u64> = shopify.products(shop).into_iter().filter(is_free).collect();
            assert!(shopify.delete_product(shop, free[0]));
            assert!(shopify.edit_product(shop, free[1], |product| product.title = "Quietly renamed".into()));
            assert!(shopify.create_product(shop, "Quietly made").is_some());
        }
        self.judge("the proof of the walks").await;
    }

    pub async fn put_out(mut self) {
        self.prove_walks().await;
        self.prove_tokens().await;
        println!("{self}");
        self.stop("the end").await;
        self.fixture.daemon.kill_now().await;
        self.fixture.server.shutdown().await;
    }

    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}

impl fmt::Display for Fire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (tally, answers) = (&self.tally, &self.book.answers);
        let count = |number: &std::sync::atomic::AtomicU64| number.load(Ordering::Relaxed);
        write!(
            f,
            "fire: seed {} rounds {} acknowledged {} (503: {}, unanswered: {}) kills {} stops {} outages {} \
             (disk full: {}) clock {} refreshes {} lost {} max_rss {} store {} slowest_recovery {:.1}s took {:.0}s",
            self.seed,
            tally.rounds,
            count(&answers.acknowledged),
            count(&answers.unavailable),
            count(&answers.unanswered),
            tally.kills,
            tally.stops,
            tally.outages,
            tally.full_disks,
            self.clock.as_ref().map_or("never set".into(), |_| format!("set {} times", tally.clock_steps)),
            self.fixture.refreshes().values().sum::<u64>(),
            tally.lost,
            tally.max_resident,
            tally.max_store,
            tally.slowest.as_secs_f64(),
            self.elapsed().as_secs_f64(),
        )
    }
}
