//! `run`: starts configuration, log, store, sockets and supervisor, reports READY, waits for signals, and stops them in
//! reverse order.

mod boot;
mod pulse;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use ractor::{Actor, ActorRef};
use signal_hook::consts::signal::{SIGHUP, SIGINT, SIGTERM};
use signal_hook_tokio::Signals;
use tokio::sync::{oneshot, watch};

use self::pulse::{pulse, status_line};
use super::common::{config_failure, database_failure, env, folder_failure};
use crate::actors::supervisor::{
    Sockets, Supervisor, SupervisorArgs, SupervisorMsg, bind_admin, bind_tcp, keyring, stop,
};
use crate::config::{Config, Effective, Finding, Loaded, Severity};
use crate::context::recent::Kind;
use crate::context::{Context, Setup};
use crate::control::Command;
use crate::exit::{self, Failure};
use crate::kept_config::{self, Chosen, Instead, Keeper};
use crate::metrics::Metrics;
use crate::runs::Runs;
use crate::sources::facebook::graph::Gate;
use crate::store::Store;
use crate::store::seal::Keyring;
use crate::store::shared::settings::Settings;
use crate::systemd::{self, Passed};
use crate::telemetry::Telemetry;

const RELOAD: Duration = Duration::from_secs(30);
/// Between two attempts to reach a database that is away.
const DATABASE_AWAY: Duration = Duration::from_secs(1);
const STARTED_AGAIN: &str = "the service manager starts the daemon again; see the log";

/// How a second signal ends the process: as a shell reports a process killed by SIGTERM.
const NOW: i32 = 143;

/// `private` says whether the process's memory is kept from core files.
pub(super) fn run(path: &Path, private: io::Result<()>) -> Result<(), Failure> {
    let serving = AtomicBool::new(false);
    let outcome = boot_and_live(path, private, &serving);
    if !serving.load(Ordering::SeqCst) {
        // Callers are refused rather than left waiting for a daemon that cannot start.
        systemd::drop_kept_socket();
    }
    outcome
}

fn boot_and_live(path: &Path, private: io::Result<()>, serving: &AtomicBool) -> Result<(), Failure> {
    // Before any thread: the passed descriptors are taken once.
    let passed = systemd::take_sockets().map_err(|e| {
        Failure::new(exit::CONFIG, format!("systemd's socket cannot be used: {e}"), "pass one TCP socket")
    })?;
    let chosen =
        kept_config::choose(path, &env, systemd::monotonic_clock()).map_err(|findings| config_failure(&findings))?;
    let telemetry = Telemetry::init(&chosen.loaded.config.log)
        .map_err(|e| Failure::new(exit::CONFIG, format!("log: {e}"), "correct the [log] section"))?;
    if let Err(error) = private {
        tracing::warn!("process: memory cannot be kept from core files ({error}), keep LimitCORE=0 in the unit");
    }
    chosen.loaded.warnings.iter().for_each(report);
    if let Some(instead) = &chosen.instead {
        instead.mistakes.iter().for_each(|mistake| tracing::error!("config: {mistake}"));
        tracing::error!(
            "config: {} is refused, starting with the configuration in force since {}; correct the file and reload",
            path.display(),
            instead.since.rfc3339()
        );
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|e| Failure::new(exit::INTERNAL, format!("no runtime can be made: {e}"), ""))?;
    let log = telemetry.clone();
    let runs = Arc::new(Runs::begin(&chosen.loaded.config.store.path, systemd::monotonic_clock()));
    let outcome = runtime.block_on(live(path, chosen, telemetry, passed, serving, runs.clone()));
    runs.ended(
        outcome.as_ref().err().map(|failure| format!("exit code {}: {}", failure.code, failure.what)).as_deref(),
    );
    // Whatever still hangs on a socket is left behind; everything that counts is closed by now.
    runtime.shutdown_timeout(stop::RUNTIME);
    log.finish();
    outcome
}

/// Opens the store of a configuration for a verb, with an error that names the way out. A shared one is visited: the
/// daemons that share it keep their leases.
pub(super) fn open_store(config: &Config) -> Result<Store, Failure> {
    if let Some(settings) = shared_settings(config)? {
        return Store::visit_shared(settings, keyring_of(config)?).map_err(|error| database_failure(&error));
    }
    Store::open(&config.store.path, keyring_of(config)?).map_err(|error| folder_failure(&error))
}

pub(super) fn keyring_of(config: &Config) -> Result<Keyring, Failure> {
    keyring(config).map_err(|e| Failure::new(exit::CONFIG, e, "`pagesyncd keygen` prints a good key"))
}

/// How to reach the database that the store is in; `None` where it is in a folder.
fn shared_settings(config: &Config) -> Result<Option<Settings>, Failure> {
    Settings::of(config).map_err(|error| {
        let (what, way_out) = error.split_once("; ").unwrap_or((&error, ""));
        Failure::new(exit::CONFIG, what, way_out)
    })
}

/// Opens the store of a daemon. A database that is away is waited for; `None` when a signal ended the wait.
async fn opened(config: &Config, signals: &mut Signals) -> Result<Option<Store>, Failure> {
    let Some(settings) = shared_settings(config)? else { return boot::opening(|| open_store(config)).map(Some) };
    let mut said = String::new();
    loop {
        let (settings, keyring) = (settings.clone(), keyring_of(config)?);
        match boot::opening(|| Store::open_shared(settings, keyring)) {
            Ok(store) => return Ok(Some(store)),
            Err(error) if error.may_pass() => {
                let words = error.to_string();
                if words != said {
                    tracing::warn!("store: {words}; waiting for it");
                    said = words;
                }
            }
            Err(error) => return Err(database_failure(&error)),
        }
        tokio::select! {
            () = tokio::time::sleep(DATABASE_AWAY) => {}
            signal = signals.next() => if let Some(signal) = signal && signal != SIGHUP {
                tracing::info!("run: signal {signal} came while the database was waited for, stopping");
                return Ok(None);
            }
        }
    }
}

async fn bind(config: &Config, passed: Passed) -> Result<Sockets, Failure> {
    let address = |socket: &TcpListener| socket.local_addr().ok();
    let from_systemd = passed.unit.is_some();
    if let Some(unit) = passed.unit.as_ref().and_then(address).filter(|unit| *unit != config.http.listen) {
        let listen = config.http.listen;
        tracing::warn!(
            "systemd: pagesyncd.socket listens on {unit} and wins over http.listen = {listen}; \
             write the address that you mean into both"
        );
    }
    // The address may have changed since the process before this one.
    let was_kept = passed.kept.is_some();
    let kept = passed.kept.filter(|socket| address(socket) == Some(config.http.listen));
    let refused = |key: &str, address, e: io::Error| {
        let what = format!("{key}: cannot listen on {address}: {e}");
        Failure::new(exit::TRY_AGAIN, what, "stop what listens there, or choose another address")
    };
    let public = match passed.unit.or(kept) {
        Some(socket) => socket,
        None => {
            let address = config.http.listen;
            bind_public(address, was_kept).await.map_err(|e| refused("http.listen", address, e))?
        }
    };
    let socket = &config.admin.socket;
    let admin = bind_admin(socket).map_err(|e| {
        let what = format!("admin.socket: cannot listen on {}: {e}", socket.display());
        Failure::new(exit::TRY_AGAIN, what, "stop the other daemon, or give this one an admin.socket it may write")
    })?;
    let admin_tcp =
        config.admin.listen.map(|address| bind_tcp(address).map_err(|e| refused("admin.listen", address, e)));
    let admin_tcp = admin_tcp.transpose()?;
    Ok(Sockets { public: Some(public), from_systemd, admin: (admin, socket.clone()), admin_tcp })
}

/// Binds the public address. Where systemd still holds the socket of another address, which may be in the way (that of
/// one interface, when all are meant now), systemd gets a moment to close it.
async fn bind_public(address: SocketAddr, was_kept: bool) -> io::Result<TcpListener> {
    if was_kept {
        systemd::drop_kept_socket();
    }
    let mut attempts = if was_kept { 40 } else { 1 };
    loop {
        attempts -= 1;
        match bind_tcp(address) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && attempts > 0 => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            outcome => return outcome,
        }
    }
}

async fn live(
    path: &Path,
    Chosen { loaded, instead }: Chosen,
    telemetry: Telemetry,
    passed: Passed,
    serving: &AtomicBool,
    runs: Arc<Runs>,
) -> Result<(), Failure> {
    let mut signals = install_signals()?;
    let config = &loaded.config;
    let Some(store) = opened(config, &mut signals).await? else { return Ok(()) };
    let sockets = bind(config, passed).await?;
    let listening = sockets.public.as_ref().and_then(|socket| socket.local_addr().ok());
    let keep = sockets.public.as_ref().filter(|_| !sockets.from_systemd).and_then(|socket| socket.try_clone().ok());
    let (metrics, gate) = (Arc::new(Metrics::new()), Gate::new(config.facebook.max_in_flight));
    let mut setup = Setup::build(config.clone(), &gate, &metrics)
        .map_err(|e| Failure::new(exit::CONFIG, e, "correct the configuration"))?;
    if let Some(instead) = &instead {
        (setup.loaded_at, setup.kept) = (instead.since, true);
    }
    let context = Context::new(store, setup, gate, metrics, Some(telemetry));
    context.note_reload(instead.as_ref().map(|instead| instead.error.clone()));
    {
        let setup = context.setup();
        let begun = context.tracer.apply(&setup.config.traces, &setup.trust);
        begun.map_err(|e| Failure::new(exit::CONFIG, e, "correct the [traces] section"))?;
    }
    // Everything that a configuration can break is open by now.
    let mut kept = Kept::begin(path, &loaded, instead);
    // The folder is there by now.
    tokio::task::block_in_place(|| runs.keep());
    context.observed.note_runs(runs.past());
    drop(loaded);
    let (given_up, mut verdict) = watch::channel(None);
    let args = SupervisorArgs { context: context.clone(), sockets, given_up };
    let spawned = Actor::spawn(None, Supervisor, args).await;
    let (supervisor, _) =
        spawned.map_err(|e| Failure::new(exit::INTERNAL, format!("the supervisor cannot start: {e}"), ""))?;
    let mut early = Early { reload: false, end: None };
    tokio::select! {
        () = early.hear(&mut signals) => {}
        booted = booted(&supervisor) => early.end = booted.err().map(Err),
    }
    if early.end.is_none() {
        if let Some(address) = listening {
            let links = context.store.counts().await.map_or(0, |counts| counts.links);
            let version = env!("CARGO_PKG_VERSION");
            tracing::info!(%address, links, version, "run: ready on {address} with {links} links, version {version}");
        }
        serving.store(true, Ordering::SeqCst);
        match &keep {
            Some(socket) => systemd::keep_socket(socket),
            None => systemd::drop_kept_socket(),
        }
        systemd::ready(&status_line(&context).await);
    }
    drop(keep);
    let pulse = tokio::spawn(pulse(context.clone(), supervisor.clone(), runs));
    let mut store_gave_up = context.store.given_up();
    let outcome = loop {
        if let Some(end) = early.end.take() {
            break end;
        }
        if std::mem::take(&mut early.reload) {
            reload(path, &context, &mut kept).await;
        }
        tokio::select! {
            signal = signals.next() => match signal {
                Some(SIGHUP) => reload(path, &context, &mut kept).await,
                Some(signal) => {
                    tracing::info!(signal, "run: stopping on signal {signal}");
                    break Ok(());
                }
                None => break Err(Failure::new(exit::INTERNAL, "signals are not delivered any more", "")),
            },
            changed = verdict.changed() => {
                let reason = verdict.borrow().clone().unwrap_or_else(|| "the supervisor is gone".to_owned());
                debug_assert!(changed.is_ok() || !reason.is_empty());
                break Err(Failure::new(exit::INTERNAL, reason, STARTED_AGAIN));
            }
            // The store sends a reason and nothing else, and outlives this loop.
            Ok(_) = store_gave_up.changed() => {
                let reason = store_gave_up.borrow().as_deref().unwrap_or_default().to_owned();
                break Err(Failure::new(exit::INTERNAL, format!("the store gave up: {reason}"), STARTED_AGAIN));
            }
        }
    };
    pulse.abort();
    systemd::stopping("finishing requests, reads and writes");
    if commanded(&context, Command::Stop, stop::DRAIN).await.is_none() {
        tracing::warn!("run: not everything ended in time, the next start resumes the pending work");
    }
    let _ = supervisor.stop_and_wait(None, Some(stop::SUPERVISOR)).await;
    let closing = tokio::time::timeout(stop::STORE, context.store.close());
    let (closed, ()) = tokio::join!(closing, context.tracer.finish(stop::TRACES));
    if closed.is_err() {
        tracing::warn!("store: the disk is slow, the last writes did not end in time; none of them was acknowledged");
    }
    if outcome.is_ok() {
        kept.stopped();
    }
    tracing::info!("run: stopped");
    outcome
}

/// Waits until all actors but the pages are started: that is when the supervisor answers for the first time.
async fn booted(supervisor: &ActorRef<SupervisorMsg>) -> Result<(), Failure> {
    let answer = supervisor.call(SupervisorMsg::Ping, None);
    let failed =
        |what: &str| Failure::new(exit::INTERNAL, what, "the service manager starts the daemon again; see the log");
    match boot::ended(answer, systemd::extend_start).await {
        Some(Ok(ractor::rpc::CallResult::Success(()))) => Ok(()),
        Some(_) => Err(failed("the supervisor died before it had started the other actors")),
        None => Err(failed("the actors do not start")),
    }
}

/// Signals that came before everything was started.
struct Early {
    reload: bool,
    end: Option<Result<(), Failure>>,
}

impl Early {
    /// Ends with the first signal that ends the process. A wish to reload is kept.
    async fn hear(&mut self, signals: &mut Signals) {
        loop {
            match signals.next().await {
                Some(SIGHUP) => self.reload = true,
                Some(signal) => {
                    tracing::info!("run: signal {signal} came before everything was started, stopping");
                    self.end = Some(Ok(()));
                    return;
                }
                // Later: without signals the loop that waits for them ends the process.
                None => return std::future::pending().await,
            }
        }
    }
}

/// A second SIGTERM or SIGINT ends the process at once.
fn install_signals() -> Result<Signals, Failure> {
    let failed = |e: io::Error| Failure::new(exit::INTERNAL, format!("signals cannot be handled: {e}"), "");
    let once = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        signal_hook::flag::register_conditional_shutdown(signal, NOW, once.clone()).map_err(failed)?;
        signal_hook::flag::register(signal, once.clone()).map_err(failed)?;
    }
    Signals::new([SIGHUP, SIGTERM, SIGINT]).map_err(failed)
}

/// The copy of the configuration in force. Where it cannot be written, the daemon goes on without it.
struct Kept(Option<Keeper>);

impl Kept {
    fn begin(path: &Path, loaded: &Loaded, instead: Option<Instead>) -> Kept {
        let mut kept = Kept(None);
        match instead {
            Some(instead) => kept.note(|_| Keeper::go_on(instead, &loaded.config).map(Some)),
            None => kept.applied(path, loaded),
        }
        kept
    }

    fn applied(&mut self, path: &Path, loaded: &Loaded) {
        self.note(|_| {
            let keyring = keyring(&loaded.config).map_err(io::Error::other)?;
            Keeper::keep(path, loaded, &keyring).map(Some)
        });
    }

    fn refused(&mut self, effective: Option<&Effective>, error: &str) {
        self.note(|keeper| keeper.map_or(Ok(()), |keeper| keeper.refused(effective, error)).map(|()| None));
    }

    fn stopped(&mut self) {
        let clock = systemd::monotonic_clock();
        self.note(|keeper| keeper.map_or(Ok(()), |keeper| keeper.stopped(clock)).map(|()| None));
    }

    /// A keeper that `write` returns replaces the present one.
    fn note(&mut self, write: impl FnOnce(Option<&mut Keeper>) -> io::Result<Option<Keeper>>) {
        match tokio::task::block_in_place(|| write(self.0.as_mut())) {
            Ok(None) => {}
            Ok(keeper) => self.0 = keeper,
            Err(error) => tracing::warn!(
                "config: cannot keep a copy of the configuration in force ({error}); \
                 a crash while the file is broken will end with exit code 78"
            ),
        }
    }
}

/// Logs a finding: the key, the mistake and the remedy.
fn report(finding: &Finding) {
    let (key, advice) = (&finding.key, finding.advice());
    match finding.severity {
        Severity::Error => tracing::error!(%key, "config [{key}]: {advice}"),
        Severity::Warning => tracing::warn!(%key, "config [{key}]: {advice}"),
    }
}

async fn reload(path: &Path, context: &Arc<Context>, kept: &mut Kept) {
    systemd::reloading();
    let outcome = match Config::load(path, &env) {
        Err(findings) => {
            findings.0.iter().for_each(report);
            context.metrics.reloaded("refused");
            context.note_reload(Some(findings.summary()));
            kept.refused(None, &findings.summary());
            Err(findings.summary())
        }
        Ok(loaded) => {
            let config = Box::new(loaded.config.clone());
            let outcome = commanded(context, |reply| Command::Reload(config, reply), RELOAD).await;
            let outcome = outcome.unwrap_or_else(|| Err("the supervisor did not answer".to_owned()));
            match &outcome {
                Ok(_) => kept.applied(path, &loaded),
                Err(error) => kept.refused(Some(&loaded.effective), error),
            }
            outcome
        }
    };
    match outcome {
        Ok(changes) => {
            let changed = if changes.keys.is_empty() { "nothing".to_owned() } else { changes.keys.join(", ") };
            tracing::info!(changed = ?changes.keys, "config: reloaded; changed: {changed}");
            context.recent.note(Kind::Config, true, &format!("the configuration was reloaded; changed: {changed}"));
            systemd::ready(&status_line(context).await);
        }
        Err(error) => {
            tracing::error!(
                %error,
                "config: the reload is refused ({error}), the earlier configuration stays in force; correct {} and \
                 reload again",
                path.display()
            );
            context.recent.note(Kind::Config, false, &format!("the reload is refused: {error}"));
            context.note_reload(Some(error));
            systemd::ready(&status_line(context).await);
        }
    }
}

/// Gives a command and waits for its answer; `None` when none comes in time.
async fn commanded<T>(
    context: &Context,
    command: impl FnOnce(oneshot::Sender<T>) -> Command,
    within: Duration,
) -> Option<T> {
    let (reply, answer) = oneshot::channel();
    let asked = async {
        context.command(command(reply)).await.ok()?;
        answer.await.ok()
    };
    tokio::time::timeout(within, asked).await.ok().flatten()
}
