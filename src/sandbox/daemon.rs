//! The real daemon as a child process: started, killed, started again, asked through its admin socket. The `sandbox`
//! verb gives it to the console, the tests run theirs with it.
//!
//! The child is this program (or the one that a test names) with `run --config`. When its [`Daemon`] is dropped, it is
//! killed.

use std::fmt;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::Method;
use serde_json::Value;
use signal_hook::consts::signal::{SIGCONT, SIGHUP, SIGSTOP, SIGTERM};
use tokio::process::{Child, Command};
use tokio::sync::{oneshot, watch};

use super::console::{DaemonControl, DaemonState};
use crate::admin_client::{self, Reply};

/// How long a daemon may take until it answers.
const START: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// The end of a log is looked for within so many bytes.
const LAST_BYTES: u64 = 16 << 10;
/// A line of the log is cut after this many characters.
const LONGEST_LINE: usize = 400;

/// Signals that end no daemon.
const LIVED_THROUGH: [i32; 3] = [SIGHUP, SIGSTOP, SIGCONT];

/// Where the daemon and its files are.
#[derive(Debug, Clone)]
pub struct DaemonFiles {
    /// The program.
    pub program: PathBuf,
    /// Its configuration.
    pub config: PathBuf,
    /// Its admin socket, as in the configuration.
    pub socket: PathBuf,
    /// Where its log goes; `None` for this process's standard error.
    pub log: Option<PathBuf>,
    /// More of its environment.
    pub env: Vec<(String, String)>,
}

/// Whether the daemon runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Life {
    /// It was not started yet.
    New,
    /// It runs as this process.
    Running {
        /// Its process id.
        pid: u32,
    },
    /// It ended.
    Ended(Ended),
}

/// How a daemon ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    status: Option<ExitStatus>,
    asked: bool,
}

impl Ended {
    /// Its exit code, where it had one.
    pub fn code(&self) -> Option<i32> {
        self.status.and_then(|status| status.code())
    }

    /// Was it ended through its [`Daemon`]?
    pub fn was_asked(&self) -> bool {
        self.asked
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use std::os::unix::process::ExitStatusExt;
        match self.status.map(|status| (status.code(), status.signal())) {
            Some((Some(code), _)) => write!(f, "exit code {code}"),
            Some((None, Some(signal))) => write!(f, "killed by signal {signal}"),
            _ => f.write_str("ended in an unknown way"),
        }
    }
}

/// A daemon that can be started and ended.
pub struct Daemon {
    files: DaemonFiles,
    /// More of its environment, since it was made.
    env: Mutex<Vec<(String, String)>>,
    held: Option<File>,
    life: watch::Sender<Life>,
    asked: Arc<AtomicBool>,
    kill: Mutex<Option<oneshot::Sender<()>>>,
    starting: tokio::sync::Mutex<()>,
    /// The length of the log when the daemon was started last.
    log_began: AtomicU64,
}

impl Daemon {
    /// A daemon that does not run yet.
    pub fn new(files: DaemonFiles) -> Arc<Self> {
        Self::make(files, None)
    }

    /// A daemon that holds this open file while it runs, in a process group of its own: the terminal's Ctrl-C reaches
    /// only the parent, which then stops the daemon.
    pub fn holding(files: DaemonFiles, held: File) -> Arc<Self> {
        Self::make(files, Some(held))
    }

    fn make(files: DaemonFiles, held: Option<File>) -> Arc<Self> {
        Arc::new(Daemon {
            files,
            env: Mutex::default(),
            held,
            life: watch::Sender::new(Life::New),
            asked: Arc::default(),
            kill: Mutex::default(),
            starting: tokio::sync::Mutex::default(),
            log_began: AtomicU64::new(0),
        })
    }

    fn killer(&self) -> MutexGuard<'_, Option<oneshot::Sender<()>>> {
        self.kill.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a variable to its environment from the next start on.
    pub fn set_env(&self, name: &str, value: &str) {
        self.env.lock().unwrap_or_else(PoisonError::into_inner).push((name.to_owned(), value.to_owned()));
    }

    /// The admin socket.
    pub fn socket(&self) -> &Path {
        &self.files.socket
    }

    /// Whether it runs, and every change of that.
    pub fn life(&self) -> watch::Receiver<Life> {
        self.life.subscribe()
    }

    /// Its process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        match *self.life.borrow() {
            Life::Running { pid } => Some(pid),
            _ => None,
        }
    }

    fn spawn(&self) -> Result<(), String> {
        let mut command = Command::new(&self.files.program);
        command.arg("run").arg("--config").arg(&self.files.config).stdin(Stdio::null()).kill_on_drop(true);
        // The service manager of this process is not the child's.
        ["NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID", "WATCHDOG_USEC"].iter().for_each(|name| {
            command.env_remove(name);
        });
        // As its unit for systemd has it.
        command.env("MALLOC_ARENA_MAX", "1");
        command.envs(self.files.env.iter().map(|(name, value)| (name, value)));
        command.envs(self.env.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|(name, value)| (name, value)));
        if let Some(held) = &self.held {
            command.stdin(held.try_clone().map_err(|e| e.to_string())?).process_group(0);
        }
        if let Some(log) = &self.files.log {
            let opened = std::fs::OpenOptions::new().create(true).append(true).open(log);
            let opened = opened.map_err(|e| format!("{} cannot be written: {e}", log.display()))?;
            self.log_began.store(opened.metadata().map_or(0, |meta| meta.len()), Ordering::Relaxed);
            let twin = opened.try_clone().map_err(|e| e.to_string())?;
            command.stderr(opened).stdout(twin);
        }
        let child = command.spawn().map_err(|e| format!("{} cannot run: {e}", self.files.program.display()))?;
        let (kill, killed) = oneshot::channel();
        *self.killer() = Some(kill);
        self.asked.store(false, Ordering::Relaxed);
        self.life.send_replace(Life::Running { pid: child.id().unwrap_or_default() });
        tokio::spawn(watch_over(child, killed, self.life.clone(), self.asked.clone()));
        Ok(())
    }

    /// Starts it and waits until it answers.
    ///
    /// # Errors
    /// Words: it ended, or does not answer.
    pub async fn start(&self) -> Result<(), String> {
        let _one_at_a_time = self.starting.lock().await;
        if self.pid().is_none() {
            self.spawn()?;
        }
        let ready = async {
            loop {
                if let Some(status) = self.ask(Method::GET, "/v1/status", "").await
                    && self.is_mine(&status)
                {
                    return Ok(());
                }
                if self.pid().is_none() {
                    return Err(format!("the daemon ended: {}", self.how_it_ended()));
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        tokio::time::timeout(START, ready).await.unwrap_or_else(|_| Err("the daemon does not answer".into()))
    }

    /// Another daemon may listen at the socket while this one is about to find that out.
    fn is_mine(&self, status: &Value) -> bool {
        status["pid"].as_u64().is_none_or(|pid| self.pid().map(u64::from) == Some(pid))
    }

    /// How it ended last, as text.
    pub fn how_it_ended(&self) -> String {
        match &*self.life.borrow() {
            Life::New => "not started yet".to_owned(),
            Life::Running { .. } => "it runs".to_owned(),
            Life::Ended(ended) => ended.to_string(),
        }
    }

    /// The last lines that it logged since it was started, at most so many.
    pub fn last_words(&self, most: usize) -> Vec<String> {
        let read = || {
            let mut log = File::open(self.files.log.as_ref()?).ok()?;
            let length = log.metadata().ok()?.len();
            let from = self.log_began.load(Ordering::Relaxed).max(length.saturating_sub(LAST_BYTES));
            log.seek(SeekFrom::Start(from)).ok()?;
            let mut bytes = Vec::new();
            log.take(LAST_BYTES).read_to_end(&mut bytes).ok()?;
            Some(String::from_utf8_lossy(&bytes).into_owned())
        };
        let text = read().unwrap_or_default();
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        let last = &lines[lines.len().saturating_sub(most)..];
        let plain = |c: char| if c.is_control() { ' ' } else { c };
        last.iter().map(|line| line.chars().map(plain).take(LONGEST_LINE).collect()).collect()
    }

    /// Sends it a signal by number.
    ///
    /// # Errors
    /// Words: it does not run.
    pub fn signal(&self, signal: i32) -> Result<(), String> {
        let pid = self.pid().ok_or("the daemon does not run")?;
        let pid = i32::try_from(pid).map_err(|e| e.to_string())?;
        if !LIVED_THROUGH.contains(&signal) {
            self.asked.store(true, Ordering::Relaxed);
        }
        let status = std::process::Command::new("kill").arg(format!("-{signal}")).arg(pid.to_string()).status();
        match status {
            Ok(status) if status.success() => Ok(()),
            Ok(_) => Err("the daemon is gone".into()),
            Err(error) => Err(format!("the signal cannot be sent: {error}")),
        }
    }

    /// Waits until it ended; its exit code, where it had one.
    pub async fn wait(&self) -> Option<i32> {
        let mut life = self.life.subscribe();
        let life = life.wait_for(|life| !matches!(life, Life::Running { .. })).await.ok()?;
        match &*life {
            Life::Ended(ended) => ended.code(),
            _ => None,
        }
    }

    /// `kill -9`, and waits until it is gone.
    pub async fn kill_now(&self) {
        // Gone already is as good.
        drop(self.killer().take());
        self.wait().await;
    }

    /// Asks it to end, and waits; its exit code. One that is paused continues for that.
    pub async fn stop(&self) -> Option<i32> {
        // Gone already shows in the waiting.
        let _ = self.signal(SIGTERM);
        if self.pid().is_some_and(is_paused) {
            let _ = self.signal(SIGCONT);
        }
        self.wait().await
    }

    /// A document from its admin socket; `None` without a successful answer.
    pub async fn ask(&self, method: Method, path: &str, body: &str) -> Option<Value> {
        let (status, value) = admin_client::exchange(&self.files.socket, method, path, body.to_owned()).await.ok()?;
        status.is_success().then_some(value)
    }
}

impl DaemonControl for Daemon {
    fn state(&self) -> DaemonState {
        match self.pid() {
            Some(pid) if is_paused(pid) => DaemonState::Paused { pid },
            Some(pid) => DaemonState::Running { pid },
            None => DaemonState::Stopped { how: self.how_it_ended() },
        }
    }

    fn start(&self) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(Daemon::start(self))
    }

    fn kill(&self) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async {
            self.kill_now().await;
            Ok(())
        })
    }

    fn ask<'a>(&'a self, method: Method, path: &'a str, body: &'a str) -> BoxFuture<'a, Option<Value>> {
        Box::pin(Daemon::ask(self, method, path, body))
    }

    fn open<'a>(&'a self, path: &'a str) -> BoxFuture<'a, Option<Reply>> {
        Box::pin(async move { admin_client::ask(self.socket(), Method::GET, path, "").await.ok() })
    }
}

/// Was this process stopped by a signal, so that it stands still?
fn is_paused(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // Behind the name in parentheses stands the state.
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
}

/// Waits for the end of the child, which comes at once when its keeper kills it or is gone.
async fn watch_over(
    mut child: Child,
    killed: oneshot::Receiver<()>,
    life: watch::Sender<Life>,
    asked: Arc<AtomicBool>,
) {
    let status = tokio::select! {
        status = child.wait() => status,
        _ = killed => {
            asked.store(true, Ordering::Relaxed);
            // Gone already is as good.
            let _ = child.kill().await;
            child.wait().await
        }
    };
    life.send_replace(Life::Ended(Ended { status: status.ok(), asked: asked.load(Ordering::Relaxed) }));
}
