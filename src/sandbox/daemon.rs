//! The real daemon as a child process: started, killed, started again, asked through its admin socket. The `sandbox`
//! verb gives it to the console, the tests run theirs with it.
//!
//! The child is this very program (or the one that a test names) with `run --config`. It is never killed to be tidy:
//! when its keeper is dropped it is killed, since it has nobody to talk to then.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::Method;
use serde_json::{Value, json};
use tokio::process::{Child, Command};

use super::console::{DaemonControl, DaemonState};
use crate::client;
use crate::model::{PageId, UserId};

/// How long a daemon may take until it answers.
const START: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(20);

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

/// A daemon that can be started and ended.
pub struct Daemon {
    files: DaemonFiles,
    /// More of its environment, since it was made.
    env: Mutex<Vec<(String, String)>>,
    child: Mutex<Option<Child>>,
    ended: Mutex<String>,
}

impl Daemon {
    /// A daemon that does not run yet.
    pub fn new(files: DaemonFiles) -> Arc<Self> {
        let ended = Mutex::new("not started yet".into());
        Arc::new(Daemon { files, env: Mutex::default(), child: Mutex::default(), ended })
    }

    fn child(&self) -> std::sync::MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a variable to its environment from the next start on.
    pub fn set_env(&self, name: &str, value: &str) {
        self.env.lock().unwrap_or_else(PoisonError::into_inner).push((name.to_owned(), value.to_owned()));
    }

    /// The admin socket.
    pub fn socket(&self) -> &Path {
        &self.files.socket
    }

    /// Its process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child().as_ref().and_then(Child::id)
    }

    /// Notices a daemon that ended.
    fn look(&self) {
        let mut child = self.child();
        let ended = child.as_mut().and_then(|c| c.try_wait().ok().flatten());
        if let Some(status) = ended {
            *self.ended.lock().unwrap_or_else(PoisonError::into_inner) = status.to_string();
            *child = None;
        }
    }

    fn spawn(&self) -> Result<(), String> {
        let mut command = Command::new(&self.files.program);
        command.arg("run").arg("--config").arg(&self.files.config).stdin(Stdio::null()).kill_on_drop(true);
        command.envs(self.files.env.iter().map(|(name, value)| (name, value)));
        command.envs(self.env.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|(name, value)| (name, value)));
        // The service manager of whoever runs this is not the child's.
        ["NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID", "WATCHDOG_USEC"].iter().for_each(|name| {
            command.env_remove(name);
        });
        if let Some(log) = &self.files.log {
            let opened = std::fs::OpenOptions::new().create(true).append(true).open(log);
            let opened = opened.map_err(|e| format!("{} cannot be written: {e}", log.display()))?;
            let twin = opened.try_clone().map_err(|e| e.to_string())?;
            command.stderr(opened).stdout(twin);
        }
        let spawned = command.spawn().map_err(|e| format!("{} cannot run: {e}", self.files.program.display()))?;
        *self.child() = Some(spawned);
        Ok(())
    }

    /// Starts it and waits until it answers.
    ///
    /// # Errors
    /// Words: it ended, or does not answer.
    pub async fn start(&self) -> Result<(), String> {
        self.look();
        if self.child().is_none() {
            self.spawn()?;
        }
        let ready = async {
            loop {
                if self.ask(Method::GET, "/v1/status", "").await.is_some() {
                    return Ok(());
                }
                self.look();
                if self.child().is_none() {
                    return Err(format!("the daemon ended: {}", self.how_it_ended()));
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        tokio::time::timeout(START, ready).await.unwrap_or_else(|_| Err("the daemon does not answer".into()))
    }

    /// How it ended last, in words.
    pub fn how_it_ended(&self) -> String {
        self.look();
        self.ended.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sends it a signal by name, like `TERM`.
    ///
    /// # Errors
    /// Words: it does not run.
    pub fn signal(&self, signal: i32) -> Result<(), String> {
        let pid = self.pid().ok_or("the daemon does not run")?;
        let pid = i32::try_from(pid).map_err(|e| e.to_string())?;
        let status = std::process::Command::new("kill").arg(format!("-{signal}")).arg(pid.to_string()).status();
        match status {
            Ok(status) if status.success() => Ok(()),
            Ok(_) => Err("the daemon is gone".into()),
            Err(error) => Err(format!("the signal cannot be sent: {error}")),
        }
    }

    /// Waits until it ended; its exit code, where it had one.
    pub async fn wait(&self) -> Option<i32> {
        let child = self.child().take();
        let mut child = child?;
        let status = child.wait().await.ok()?;
        *self.ended.lock().unwrap_or_else(PoisonError::into_inner) = status.to_string();
        status.code()
    }

    /// `kill -9`, and waits until it is gone.
    pub async fn kill_now(&self) {
        let child = self.child().take();
        if let Some(mut child) = child {
            // Gone already is as good.
            let _ = child.kill().await;
            *self.ended.lock().unwrap_or_else(PoisonError::into_inner) = "killed by signal 9".into();
        }
    }

    /// Asks it to end, and waits; its exit code.
    pub async fn stop(&self) -> Option<i32> {
        // Gone already shows in the waiting.
        let _ = self.signal(signal_hook::consts::SIGTERM);
        self.wait().await
    }

    /// A document from its admin door; `None` when it does not answer well.
    pub async fn ask(&self, method: Method, path: &str, body: &str) -> Option<Value> {
        let (status, value) = client::exchange(&self.files.socket, method, path, body.to_owned()).await.ok()?;
        status.is_success().then_some(value)
    }
}

impl DaemonControl for Daemon {
    fn state(&self) -> DaemonState {
        self.look();
        match self.pid() {
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

    fn status_json(&self) -> BoxFuture<'_, Option<Value>> {
        Box::pin(self.ask(Method::GET, "/v1/status", ""))
    }

    fn pages_json(&self) -> BoxFuture<'_, Option<Value>> {
        Box::pin(self.ask(Method::GET, "/v1/pages", ""))
    }

    fn mint_login(&self, user: UserId) -> BoxFuture<'_, Result<String, String>> {
        Box::pin(async move {
            let wish = json!({ "user": user }).to_string();
            let minted = self.ask(Method::POST, "/v1/sessions", &wish).await;
            let url = minted.as_ref().and_then(|m| m["login_url"].as_str()).map(str::to_owned);
            url.ok_or_else(|| "the daemon does not answer; start it first".to_owned())
        })
    }

    fn sync(&self, page: PageId) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async move {
            let asked = self.ask(Method::POST, &format!("/v1/pages/{page}/sync"), "").await;
            asked.map(|_| ()).ok_or_else(|| "the page is not linked, or the daemon does not answer".to_owned())
        })
    }
}
