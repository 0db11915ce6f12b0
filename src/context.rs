//! What every actors of the daemon shares: the store, the clients, the directory of pages, the instruments, and
//! how the dependencies health. No behaviour of its own beyond keeping that straight.
//!
//! The settings and the clients made from them are one [`Setup`], swapped whole by a reload; whoever needs them takes
//! the present one at the moment of use. So a reload needs no actor's cooperation to take effect, only to re-time.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use ractor::ActorRef;
use tokio_util::task::TaskTracker;

use crate::actors::registry::PageRegistry;
use crate::actors::supervisor::SupervisorMsg;
use crate::config::{CaFile, Config};
use crate::core::model::{LinkKey, MonoTime, WallTime};
use crate::events::Receiver;
use crate::http_client::Trust;
use crate::metrics::Metrics;
use crate::services::login_progress::Logins;
use crate::sources::facebook::graph::{Gate, GraphClient, GraphError, GraphSettings};
use crate::sources::facebook::oauth::StateSigner;
use crate::spaces::{ObjectStore, S3Store, SpacesError, SpacesSettings};
use crate::store::Store;
use crate::telemetry::Telemetry;

/// The settings in force and what was made from them.
pub struct Setup {
    /// The validated configuration.
    pub config: Config,
    /// Graph.
    pub graph: GraphClient,
    /// Spaces.
    pub spaces: Arc<dyn ObjectStore>,
    /// The receiver of events; `None` when they are off.
    pub receiver: Option<Arc<Receiver>>,
    /// HealthInputs OAuth states.
    pub states: StateSigner,
    /// The system's authorities.
    pub trust: Trust,
    /// When it came into force.
    pub loaded_at: WallTime,
    /// It is the kept configuration of an earlier process, since the file is refused.
    pub kept: bool,
}

impl Setup {
    /// Makes the clients. The gate outlives reloads, so that a block does.
    ///
    /// # Errors
    /// One line that names what cannot be made.
    pub fn build(config: Config, gate: &Arc<Gate>, metrics: &Arc<Metrics>) -> Result<Setup, String> {
        let system = Trust::of_the_system();
        let trust = |file: &Option<CaFile>| file.as_ref().map_or(system.clone(), |f| system.with(&f.certificates));
        let f = &config.facebook;
        let graph = GraphSettings {
            graph_url: f.graph_url.clone(),
            version: f.graph_version.clone(),
            app_id: f.app_id.clone(),
            app_secret: f.app_secret.clone(),
            request_timeout: f.request_timeout,
            max_in_flight: f.max_in_flight,
            trust: system.clone(),
        };
        let graph = GraphClient::new(graph, metrics.clone(), gate.clone()).map_err(|e| format!("facebook: {e}"))?;
        let s = &config.spaces;
        let spaces = SpacesSettings {
            region: s.region.clone(),
            bucket: s.bucket.clone(),
            endpoint: s.endpoint.clone(),
            access_key: s.access_key.clone(),
            secret_key: s.secret_key.clone(),
            path_style: s.path_style,
            request_timeout: s.request_timeout,
            max_in_flight: s.max_in_flight,
            trust: trust(&s.ca_file),
        };
        let spaces = S3Store::new(spaces, metrics.clone()).map_err(|e| format!("spaces: {e}"))?;
        let n = &config.notify;
        let receiver = Receiver::new(n, &trust(&n.ca_file)).map_err(|e| format!("notify: {e}"))?.map(Arc::new);
        let session = &config.session;
        let states = StateSigner::new(&session.state_secret).also_taking(session.previous_state_secret.as_ref());
        let (spaces, loaded_at) = (Arc::new(spaces), WallTime::now());
        Ok(Setup { config, graph, spaces, receiver, states, trust: system, loaded_at, kept: false })
    }
}

/// How a dependency fared last.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct DependencyHealth {
    /// `None` until the first answer.
    pub ok: Option<bool>,
    /// Since when it is so.
    pub since: WallTime,
    /// What went wrong, where something did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Failures since it was last well; a log line stands for all of them.
    pub failures: u64,
    /// When a line was last written about it.
    #[serde(skip)]
    said_at: MonoTime,
    /// Since when it is so, on the monotonic clock.
    #[serde(skip)]
    turned_at: MonoTime,
}

/// One trouble shows in many words (reset, closed, refused); while it lasts, other words are worth a line this often.
const SAY_EVERY: Duration = Duration::from_secs(60);

/// One dependency's health; logs when it turns, and counts in between.
pub struct Dependency {
    name: &'static str,
    health: Mutex<DependencyHealth>,
}

impl Dependency {
    fn new(name: &'static str) -> Self {
        Dependency { name, health: Mutex::default() }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, DependencyHealth> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It answered.
    pub fn answered(&self) {
        let mut health = self.lock();
        if health.ok != Some(true) {
            let back = health.ok == Some(false);
            let earlier = std::mem::take(&mut *health);
            let (now, failures) = (MonoTime::now(), earlier.failures);
            *health = DependencyHealth {
                ok: Some(true),
                since: WallTime::now(),
                turned_at: now,
                ..DependencyHealth::default()
            };
            if back {
                let (component, down) = (self.name, now.since(earlier.turned_at));
                tracing::info!(
                    dependency = component,
                    failures,
                    "{component}: answers again after {down:.1?} and {failures} failed calls"
                );
            }
        }
    }

    /// It failed; `text` holds no secret.
    pub fn failed(&self, text: &str) {
        let mut health = self.lock();
        health.failures += 1;
        let now = MonoTime::now();
        let turned = health.ok != Some(false);
        let other_words = health.error.as_deref() != Some(text);
        if turned || (other_words && now.since(health.said_at) >= SAY_EVERY) {
            let (component, failures) = (self.name, health.failures);
            tracing::warn!(
                dependency = component,
                error = text,
                failures,
                "{component}: failing ({text}), retrying by itself"
            );
            health.said_at = now;
        }
        if turned {
            (health.since, health.turned_at) = (WallTime::now(), now);
        }
        health.ok = Some(false);
        health.error = Some(text.to_owned());
    }

    /// How it fares.
    pub fn health(&self) -> DependencyHealth {
        self.lock().clone()
    }
}

/// Between two checks of tokens that Facebook's hints cause: whatever is told of, and by however many deliveries, Graph
/// is asked no faster than that.
const CHECKS_APART: Duration = Duration::from_millis(50);

/// Addresses of the actors of which there is one; a restart puts the new one in.
#[derive(Default)]
pub struct Addresses {
    /// The supervisor.
    pub supervisor: Option<ActorRef<SupervisorMsg>>,
}

/// The shared context.
pub struct Context {
    /// State on disk.
    pub store: Store,
    /// Instruments.
    pub metrics: Arc<Metrics>,
    /// Who answers for which link.
    pub pages: PageRegistry,
    /// Graph's limits.
    pub gate: Arc<Gate>,
    /// How Graph fares.
    pub graph: Dependency,
    /// How Spaces fares.
    pub spaces: Dependency,
    /// How the receiver of events fares.
    pub notify: Dependency,
    /// When the process started.
    pub started_at: WallTime,
    /// The same moment, for the time that it runs.
    pub started: MonoTime,
    /// Log level and format.
    pub telemetry: Option<Telemetry>,
    /// Reads, writes and logins under way, for an orderly end.
    pub tasks: TaskTracker,
    /// Logins that came back from the dialog.
    pub logins: Logins,
    setup: RwLock<Arc<Setup>>,
    reload_error: Mutex<Option<String>>,
    addresses: RwLock<Addresses>,
    writing: Mutex<HashSet<LinkKey>>,
    /// The latest slot that was given for a check.
    checks: Mutex<MonoTime>,
    stopping: AtomicBool,
}

/// The right to write one link's object; gives it back when dropped.
pub struct WritePermit {
    context: Arc<Context>,
    link: LinkKey,
}

impl Drop for WritePermit {
    fn drop(&mut self) {
        self.context.writing.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.link);
    }
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
        store.switch_events(setup.receiver.is_some());
        Arc::new(Context {
            store,
            metrics,
            pages: PageRegistry::default(),
            gate,
            graph: Dependency::new("graph"),
            spaces: Dependency::new("spaces"),
            notify: Dependency::new("notify"),
            started_at: WallTime::now(),
            started: MonoTime::now(),
            telemetry,
            tasks: TaskTracker::new(),
            logins: Logins::default(),
            setup: RwLock::new(Arc::new(setup)),
            reload_error: Mutex::default(),
            addresses: RwLock::default(),
            writing: Mutex::default(),
            checks: Mutex::default(),
            stopping: AtomicBool::new(false),
        })
    }

    /// The settings and clients in force.
    pub fn setup(&self) -> Arc<Setup> {
        self.setup.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts others in force.
    pub fn set_setup(&self, setup: Setup) {
        self.store.switch_events(setup.receiver.is_some());
        *self.setup.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(setup);
    }

    /// Notes why the last reload was refused, or that it was not.
    pub fn note_reload(&self, error: Option<String>) {
        *self.reload_error.lock().unwrap_or_else(PoisonError::into_inner) = error;
    }

    /// Why the last reload was refused.
    pub fn reload_error(&self) -> Option<String> {
        self.reload_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes the addresses.
    pub fn set_addresses(&self, change: impl FnOnce(&mut Addresses)) {
        change(&mut self.addresses.write().unwrap_or_else(PoisonError::into_inner));
    }

    /// Tells the supervisor; what it must not miss is in the store as well.
    pub fn tell_supervisor(&self, message: SupervisorMsg) {
        let to = self.addresses.read().unwrap_or_else(PoisonError::into_inner).supervisor.clone();
        if let Some(to) = to {
            // A supervisor that is gone means that the process is ending.
            let _ = to.cast(message);
        }
    }

    /// The right to write a link's object: one holder at a time, whoever the uploader is.
    pub fn write_permit(self: &Arc<Self>, link: &LinkKey) -> Option<WritePermit> {
        let mut writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let free = writing.insert(link.clone());
        free.then(|| WritePermit { context: self.clone(), link: link.clone() })
    }

    /// The next free moment for a check that a hint asks for.
    pub fn check_slot(&self) -> MonoTime {
        let mut latest = self.checks.lock().unwrap_or_else(PoisonError::into_inner);
        *latest = latest.plus(CHECKS_APART).max(MonoTime::now());
        *latest
    }

    /// No new read or write begins from here on.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
    }

    /// Is the process ending?
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// Notes a Graph answer for readiness: only what speaks of Graph as a whole counts, not a page's dead token.
    pub fn note_graph<T>(&self, answer: &Result<T, GraphError>) {
        use crate::sources::facebook::graph::{GraphErrorKind, ThrottleScope};
        match answer {
            Ok(_) => self.graph.answered(),
            Err(error) => match &error.kind {
                GraphErrorKind::Transient
                | GraphErrorKind::Misconfigured
                | GraphErrorKind::Throttled { scope: ThrottleScope::App, .. } => self.graph.failed(&error.to_string()),
                _ => {}
            },
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
