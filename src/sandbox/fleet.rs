//! Several daemons that share a database, and the server of that database: each is started, stopped, killed and paused
//! by itself, and any daemon that answers is asked for all.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::{BoxFuture, join_all};
use http::Method;
use serde_json::Value;
use signal_hook::consts::signal::{SIGCONT, SIGSTOP};

use super::console::{DaemonControl, DaemonState, DatabaseView, FleetControl, MemberAction, MemberView};
use super::daemon::Daemon;
use super::postgres::Postgres;
use crate::admin_client::Reply;

/// A daemon that takes longer to answer is passed over.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a start is waited for. A daemon whose database is away goes on waiting by itself.
const START: Duration = Duration::from_secs(10);
const GLANCE: Duration = Duration::from_millis(20);

/// One of the daemons.
pub struct Member {
    /// `store.node`.
    pub name: String,
    /// `http.listen`.
    pub address: SocketAddr,
    /// The process.
    pub daemon: Arc<Daemon>,
}

impl Member {
    fn state(&self) -> DaemonState {
        DaemonControl::state(&*self.daemon)
    }

    async fn act(&self, action: MemberAction) -> Result<(), String> {
        match (action, self.state()) {
            (MemberAction::Start, DaemonState::Stopped { .. }) => {
                tokio::time::timeout(START, self.daemon.start()).await.unwrap_or(Ok(()))
            }
            (MemberAction::Stop, DaemonState::Running { .. } | DaemonState::Paused { .. }) => {
                self.daemon.stop().await;
                Ok(())
            }
            (MemberAction::Kill, _) => {
                self.daemon.kill_now().await;
                Ok(())
            }
            (MemberAction::Pause, DaemonState::Running { .. }) => self.signal(SIGSTOP, true).await,
            (MemberAction::Continue, DaemonState::Paused { .. }) => self.signal(SIGCONT, false).await,
            // It is so already.
            _ => Ok(()),
        }
    }

    /// Sends a signal and waits until it has taken effect.
    async fn signal(&self, signal: i32, pauses: bool) -> Result<(), String> {
        self.daemon.signal(signal)?;
        let done = async {
            while self.daemon.pid().is_some() && matches!(self.state(), DaemonState::Paused { .. }) != pauses {
                tokio::time::sleep(GLANCE).await;
            }
        };
        tokio::time::timeout(PATIENCE, done).await.map_err(|_| "the signal has no effect".to_owned())
    }
}

/// The daemons and their database.
pub struct Fleet {
    members: Vec<Member>,
    database: Arc<Mutex<Postgres>>,
    /// The port of the database.
    port: u16,
}

fn held(database: &Mutex<Postgres>) -> MutexGuard<'_, Postgres> {
    database.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Fleet {
    /// These daemons, of which none runs yet, over a server that does.
    pub fn new(members: Vec<Member>, database: Postgres) -> Arc<Fleet> {
        Arc::new(Fleet { members, port: database.port(), database: Arc::new(Mutex::new(database)) })
    }

    /// The daemons.
    pub fn all(&self) -> &[Member] {
        &self.members
    }

    /// Ends the database in order.
    pub async fn shut_down_database(&self) {
        let database = self.database.clone();
        // A panic there leaves a server that ends when it is dropped.
        let _ = tokio::task::spawn_blocking(move || held(&database).shut_down()).await;
    }
}

impl DaemonControl for Fleet {
    /// That of the first daemon that runs.
    fn state(&self) -> DaemonState {
        let mut states = self.members.iter().map(Member::state);
        let running = states.find(|state| matches!(state, DaemonState::Running { .. }));
        running.unwrap_or_else(|| DaemonState::Stopped { how: "no daemon runs".to_owned() })
    }

    fn start(&self) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async {
            let started = join_all(self.members.iter().map(|member| member.act(MemberAction::Start))).await;
            started.into_iter().collect()
        })
    }

    fn kill(&self) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async {
            join_all(self.members.iter().map(|member| member.daemon.kill_now())).await;
            Ok(())
        })
    }

    /// Any daemon that answers is as good.
    fn ask<'a>(&'a self, method: Method, path: &'a str, body: &'a str) -> BoxFuture<'a, Option<Value>> {
        Box::pin(async move {
            for member in self.members.iter().filter(|member| matches!(member.state(), DaemonState::Running { .. })) {
                let asked = tokio::time::timeout(PATIENCE, member.daemon.ask(method.clone(), path, body));
                if let Ok(Some(answer)) = asked.await {
                    return Some(answer);
                }
            }
            None
        })
    }

    /// Likewise.
    fn open<'a>(&'a self, path: &'a str) -> BoxFuture<'a, Option<Reply>> {
        Box::pin(async move {
            for member in self.members.iter().filter(|member| matches!(member.state(), DaemonState::Running { .. })) {
                let asked = tokio::time::timeout(PATIENCE, DaemonControl::open(&*member.daemon, path));
                if let Ok(Some(reply)) = asked.await {
                    return Some(reply);
                }
            }
            None
        })
    }

    fn fleet(&self) -> Option<&dyn FleetControl> {
        Some(self)
    }
}

impl FleetControl for Fleet {
    fn members(&self) -> Vec<MemberView> {
        let view = |member: &Member| MemberView {
            name: member.name.clone(),
            address: member.address.to_string(),
            state: member.state(),
        };
        self.members.iter().map(view).collect()
    }

    fn act<'a>(&'a self, daemon: &'a str, action: MemberAction) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(async move {
            let member = self.members.iter().find(|member| member.name == daemon);
            member.ok_or_else(|| format!("there is no daemon {daemon}"))?.act(action).await
        })
    }

    fn database(&self) -> DatabaseView {
        // The lock is held while the server is started or ended: it does not run then.
        let runs = self.database.try_lock().is_ok_and(|mut database| database.runs());
        DatabaseView { address: format!("127.0.0.1:{}", self.port), runs }
    }

    fn switch_database(&self, on: bool) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async move {
            let database = self.database.clone();
            let switched = tokio::task::spawn_blocking(move || {
                let mut database = held(&database);
                match (on, database.runs()) {
                    (true, false) => database.start_again(),
                    (false, true) => {
                        database.stop();
                        Ok(())
                    }
                    _ => Ok(()),
                }
            });
            switched.await.map_err(|error| error.to_string())?.map_err(|missing| missing.to_string())
        })
    }
}
