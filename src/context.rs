//! What actors, routes and services share: the store, the settings with the clients made from them, metrics, and the
//! health of the dependencies. It knows no actor. What one part decides, another learns from the store's
//! [`feed`](crate::store::feed); what an operator commands goes through the channel of [`control`]; what a page says of
//! itself is plain data ([`PageStatusMap`]).
//!
//! The settings and the clients are one [`Setup`], swapped whole by a reload; each use takes the present one. So a
//! reload needs no actor's cooperation to take effect, only to re-time.

pub mod dependency;
pub mod failures;
pub mod logins;
pub mod observed;
pub mod page_status;
pub mod recent;
pub mod setup;
pub mod shop_turns;
pub mod trail;
mod trails;
pub mod watchers;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use tokio::sync::mpsc;

use crate::control::{self, Command, Gone};
use crate::core::model::{MonoTime, Source, WallTime};
use crate::metrics::Metrics;
use crate::sources::api::SourceError;
use crate::sources::facebook::graph::{Gate, GraphError};
use crate::sources::shopify::ShopifyError;
use crate::spaces::SpacesError;
use crate::store::Store;
use crate::store::feed::Feed;
use crate::store::leases::Leases;
use crate::telemetry::Telemetry;
use crate::traces::Tracer;
use crate::turnstile::Turnstile;
pub use dependency::{Dependency, DependencyHealth};
use failures::Failures;
use logins::Logins;
use observed::Observed;
pub use page_status::{PageStatus, PageStatusMap};
use recent::{Kind, RecentEvents};
pub use setup::{Setup, spaces_settings};
use shop_turns::ShopTurns;
use watchers::Watchers;

/// The shared context.
pub struct Context {
    /// State on disk.
    pub store: Store,
    /// What the store publishes, for the dispatcher.
    pub feed: Feed,
    /// Which links are worked on here.
    pub leases: Leases,
    /// Instruments.
    pub metrics: Arc<Metrics>,
    /// What the pages say of themselves.
    pub pages: PageStatusMap,
    /// Writes to Spaces that are under way.
    pub writes: Arc<Turnstile>,
    /// Graph's limits.
    pub gate: Arc<Gate>,
    /// Where the work on shops waits for its turn.
    shops: Arc<Turnstile>,
    /// The health of Graph.
    pub graph: Dependency,
    /// The health of Shopify.
    pub shopify: Dependency,
    /// The health of Spaces.
    pub spaces: Dependency,
    /// The health of the receiver of events.
    pub notify: Dependency,
    /// The health of the authority that issues the listener's certificate.
    pub acme: Dependency,
    /// When the process started.
    pub started_at: WallTime,
    /// The same moment, for the time that it runs.
    pub started: MonoTime,
    /// Log level and format.
    pub telemetry: Option<Telemetry>,
    /// Makes spans for the collector.
    pub tracer: Tracer,
    /// Logins that came back from the dialog.
    pub logins: Logins,
    /// Who exchanges the tokens of a shop.
    pub shop_turns: ShopTurns,
    /// Actors that failed.
    pub failures: Failures,
    /// Observations for the list of problems.
    pub observed: Observed,
    /// What happened lately.
    pub recent: RecentEvents,
    /// What watchers of the status page share.
    pub watchers: Watchers,
    setup: RwLock<Arc<Setup>>,
    reload_error: Mutex<Option<String>>,
    commands: mpsc::Sender<Command>,
    /// Until the supervisor takes it.
    waiting: Mutex<Option<mpsc::Receiver<Command>>>,
    stopping: AtomicBool,
    /// Daemons that share the store.
    daemons: AtomicUsize,
}

impl Context {
    /// A context around an open store.
    pub fn new(
        store: Store,
        setup: Setup,
        gate: Arc<Gate>,
        metrics: Arc<Metrics>,
        telemetry: Option<Telemetry>,
    ) -> Arc<Self> {
        let (feed, leases) = (store.feed().clone(), store.leases().clone());
        Context::of(store, (feed, leases), setup, gate, metrics, telemetry)
    }

    /// The same, with a feed and leases that may be others than the store's own: several sets of actors then share a
    /// store.
    pub(crate) fn of(
        store: Store,
        (feed, leases): (Feed, Leases),
        setup: Setup,
        gate: Arc<Gate>,
        metrics: Arc<Metrics>,
        telemetry: Option<Telemetry>,
    ) -> Arc<Self> {
        store.switch_events(setup.receiver.is_some());
        let of_commits = metrics.clone();
        store.observe_commits(move |took| of_commits.committed(took));
        let (commands, waiting) = mpsc::channel(control::WAITING);
        let writes = Turnstile::new(setup.config.spaces.max_in_flight);
        let shops = Turnstile::new(setup.config.shopify.max_in_flight);
        let tracer = Tracer::new(metrics.clone());
        let started_at = WallTime::now();
        let recent = RecentEvents::new(started_at.0);
        recent.note(Kind::Daemon, true, concat!("pagesyncd ", env!("CARGO_PKG_VERSION"), " started"));
        Arc::new(Context {
            store,
            feed,
            leases,
            metrics,
            pages: PageStatusMap::default(),
            writes,
            gate,
            shops,
            graph: Dependency::new("graph", recent.clone()),
            shopify: Dependency::new("shopify", recent.clone()),
            spaces: Dependency::new("spaces", recent.clone()),
            notify: Dependency::new("notify", recent.clone()),
            acme: Dependency::new("acme", recent.clone()),
            started_at,
            started: MonoTime::now(),
            telemetry,
            tracer,
            logins: Logins::default(),
            shop_turns: ShopTurns::default(),
            failures: Failures::default(),
            observed: Observed::default(),
            recent,
            watchers: Watchers::default(),
            setup: RwLock::new(Arc::new(setup)),
            reload_error: Mutex::default(),
            commands,
            waiting: Mutex::new(Some(waiting)),
            stopping: AtomicBool::new(false),
            daemons: AtomicUsize::new(1),
        })
    }

    /// The settings and clients in force.
    pub fn setup(&self) -> Arc<Setup> {
        self.setup.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts others in force.
    pub fn set_setup(&self, setup: Setup) {
        self.store.switch_events(setup.receiver.is_some());
        self.shops.set_max(setup.config.shopify.max_in_flight);
        *self.setup.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(setup);
        self.divide(self.daemons.load(Ordering::Relaxed));
    }

    /// So many daemons live that share the store, this one among them: what all of them may have under way at Graph and
    /// at Spaces together is divided by their number.
    pub fn divide(&self, daemons: usize) {
        let daemons = daemons.max(1);
        let before = self.daemons.swap(daemons, Ordering::Relaxed);
        if daemons != before {
            let text = format!("{daemons} daemons share the store; there were {before} before");
            self.recent.note(Kind::Daemons, daemons > before, &text);
        }
        let setup = self.setup();
        self.writes.set_max(setup.config.spaces.max_in_flight.div_ceil(daemons));
        self.gate.set_max_in_flight(setup.config.facebook.max_in_flight.div_ceil(daemons));
        self.gate.set_daemons(daemons);
    }

    /// Notes why the last reload was refused, or that it was not.
    pub fn note_reload(&self, error: Option<String>) {
        *self.reload_error.lock().unwrap_or_else(PoisonError::into_inner) = error;
    }

    /// Why the last reload was refused.
    pub fn reload_error(&self) -> Option<String> {
        self.reload_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sends an operator's command; waits while many wait before it.
    ///
    /// # Errors
    /// [`Gone`] when the process is ending.
    pub async fn command(&self, command: Command) -> Result<(), Gone> {
        self.commands.send(command).await.map_err(|_| Gone)
    }

    /// The commands, for the supervisor; the first call has them.
    pub fn take_commands(&self) -> Option<mpsc::Receiver<Command>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// No new read or write begins from here on.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
    }

    /// Is the process ending?
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// Where the work on links of a source waits for its turn, before it begins.
    pub fn work(&self, source: Source) -> &Arc<Turnstile> {
        match source {
            Source::Facebook => self.gate.work(),
            Source::Shopify => &self.shops,
        }
    }

    /// Notes a Graph answer for readiness: only what speaks of Graph as a whole counts, not a page's dead token.
    pub fn note_graph<T>(&self, answer: &Result<T, GraphError>) {
        match answer {
            Ok(_) => self.graph.answered(),
            Err(error) if error.kind.is_general() => self.graph.failed(&error.to_string()),
            Err(_) => {}
        }
    }

    /// Notes an answer of Shopify for readiness, in the same way.
    pub fn note_shopify<T>(&self, answer: &Result<T, ShopifyError>) {
        match answer {
            Ok(_) => self.shopify.answered(),
            Err(error) if error.kind.is_general() => self.shopify.failed(&error.to_string()),
            Err(_) => {}
        }
    }

    /// Notes the answer of a source for readiness, in the same way.
    pub fn note_source<T>(&self, source: Source, answer: &Result<T, SourceError>) {
        let dependency = match source {
            Source::Facebook => &self.graph,
            Source::Shopify => &self.shopify,
        };
        match answer {
            Ok(_) => dependency.answered(),
            Err(error) if error.is_general => dependency.failed(&error.text),
            Err(error) if error.is_reached => dependency.answered(),
            Err(_) => {}
        }
    }

    /// Notes a Spaces answer for readiness.
    pub fn note_spaces<T>(&self, answer: &Result<T, SpacesError>) {
        match answer {
            Ok(_) => self.spaces.answered(),
            Err(error) => self.spaces.failed(&error.to_string()),
        }
    }
}
