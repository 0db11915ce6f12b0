//! What the console may do to the daemon, or to several daemons and their database.

use futures_util::future::BoxFuture;
use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::admin_client::Reply;
use crate::core::model::{PageId, UserId};

/// Is there a daemon?
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum DaemonState {
    /// It runs as this process.
    Running {
        /// Its process id.
        pid: u32,
    },
    /// Its process was stopped by a signal and can continue.
    Paused {
        /// Its process id.
        pid: u32,
    },
    /// It does not run; how it ended, when that is known.
    Stopped {
        /// In words, such as `killed by signal 9`.
        how: String,
    },
}

/// The daemon, as the console uses it. The `sandbox` verb supplies it; failures are texts for the person.
pub trait DaemonControl: Send + Sync {
    /// Does it run?
    fn state(&self) -> DaemonState;
    /// Starts it; nothing to do when it runs.
    fn start(&self) -> BoxFuture<'_, Result<(), String>>;
    /// `kill -9`.
    fn kill(&self) -> BoxFuture<'_, Result<(), String>>;
    /// A document from its admin socket; `None` without a successful answer.
    fn ask<'a>(&'a self, method: Method, path: &'a str, body: &'a str) -> BoxFuture<'a, Option<Value>>;

    /// The beginning of the daemon's answer to this read, whatever its status; `None` without one.
    fn open<'a>(&'a self, _path: &'a str) -> BoxFuture<'a, Option<Reply>> {
        Box::pin(async { None })
    }

    /// The single daemons, where there are several.
    fn fleet(&self) -> Option<&dyn FleetControl> {
        None
    }

    /// What `status --json` prints; `None` when it cannot be asked.
    fn status_json(&self) -> BoxFuture<'_, Option<Value>> {
        self.ask(Method::GET, "/v1/status", "")
    }

    /// What `pages --json` prints; `None` when it cannot be asked.
    fn pages_json(&self) -> BoxFuture<'_, Option<Value>> {
        self.ask(Method::GET, "/v1/pages", "")
    }

    /// What `links --source shopify --json` prints; `None` when it cannot be asked.
    fn shops_json(&self) -> BoxFuture<'_, Option<Value>> {
        self.ask(Method::GET, "/v1/links?source=shopify", "")
    }

    /// A one-time login URL for this user of the platform.
    fn mint_login(&self, user: UserId) -> BoxFuture<'_, Result<String, String>> {
        Box::pin(async move {
            let wish = json!({ "user": user }).to_string();
            let minted = self.ask(Method::POST, "/v1/sessions", &wish).await;
            let url = minted.as_ref().and_then(|m| m["login_url"].as_str()).map(str::to_owned);
            url.ok_or_else(|| "the daemon does not answer; start it first".to_owned())
        })
    }

    /// Has the page read again, as `sync` does.
    fn sync(&self, page: PageId) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async move {
            let asked = self.ask(Method::POST, &format!("/v1/pages/{page}/sync"), "").await;
            asked.map(|_| ()).ok_or_else(|| "the page is not linked, or the daemon does not answer".to_owned())
        })
    }
}

/// What can be done to one of several daemons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemberAction {
    /// Starts it.
    Start,
    /// Stops it in order.
    Stop,
    /// `kill -9`.
    Kill,
    /// `kill -STOP`: its process stands still.
    Pause,
    /// `kill -CONT`.
    Continue,
}

/// One of several daemons.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MemberView {
    /// `store.node`.
    pub name: String,
    /// Its own public address.
    pub address: String,
    /// Does it run?
    #[serde(flatten)]
    pub state: DaemonState,
}

/// The database of several daemons.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DatabaseView {
    /// Its host and port.
    pub address: String,
    /// Its server runs.
    pub runs: bool,
}

/// Several daemons that share a database, and its server.
pub trait FleetControl: Send + Sync {
    /// The daemons, in the order of their names.
    fn members(&self) -> Vec<MemberView>;
    /// Does this to the daemon of this name.
    fn act<'a>(&'a self, daemon: &'a str, action: MemberAction) -> BoxFuture<'a, Result<(), String>>;
    /// The database.
    fn database(&self) -> DatabaseView;
    /// Starts the database, or ends it at once.
    fn switch_database(&self, on: bool) -> BoxFuture<'_, Result<(), String>>;
}
