//! Calls to a running daemon through its admin socket.

use std::fmt::Display;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::runtime::Runtime;
use tokio::time::timeout;

use super::common::{config_failure, env, small_runtime};
use super::output::note;
use crate::admin_client::{self, ClientError, Reply};
use crate::config::Config;
use crate::core::problem::Code;
use crate::exit::{self, Failure};

/// How long a daemon that works takes at most to begin an answer, or to go on with one. What changes something takes
/// the time that it takes, because others are asked for it; after each such while the daemon is asked how it is.
const PATIENCE: Duration = Duration::from_secs(15);
/// A part that hangs this many times in a row when the daemon is asked has been given up: systemd restarts the daemon.
const GIVEN_UP_LOOKS: u32 = 4;

const MAY_BE_DONE: &str = "what was asked may have been done, look before you repeat it";

/// A daemon's admin socket.
pub(super) struct AdminClient {
    socket: PathBuf,
}

impl AdminClient {
    /// The socket that the configuration names; the rest of it need not be readable.
    pub(super) fn find(config: &Path) -> Result<Self, Failure> {
        let socket = Config::admin_socket(config, &env).map_err(|findings| config_failure(&findings))?;
        Ok(AdminClient { socket })
    }

    /// Does a daemon answer?
    pub(super) fn is_open(&self) -> bool {
        std::os::unix::net::UnixStream::connect(&self.socket).is_ok()
    }

    /// One request; the answer's document, or why there is none.
    pub(super) fn call(&self, method: Method, path: &str, body: impl Into<Bytes>) -> Result<Value, Failure> {
        let bytes = self.fetch(method, path, body)?;
        let broken = |e| Failure::new(exit::INTERNAL, format!("the daemon answered something strange: {e}"), "");
        serde_json::from_slice(&bytes).map_err(broken)
    }

    /// One request; the answer's bytes, or why there are none.
    fn fetch(&self, method: Method, path: &str, body: impl Into<Bytes>) -> Result<Vec<u8>, Failure> {
        let mut bytes = Vec::new();
        self.read(method, path, body)?.read_to_end(&mut bytes).map_err(|error| broke_off(&error))?;
        Ok(bytes)
    }

    /// One request; the answer as it arrives, or why there is none.
    pub(super) fn read(&self, method: Method, path: &str, body: impl Into<Bytes>) -> Result<Arriving, Failure> {
        let runtime = small_runtime()?;
        let is_change = method != Method::GET;
        let asking = admin_client::ask(&self.socket, method, path, body);
        let asked = match is_change {
            false => runtime.block_on(within(PATIENCE, asking)).ok_or(Hang::Silent),
            true => runtime.block_on(while_it_works(&self.socket, asking)),
        };
        let asked = asked.map_err(|hang| match hang {
            Hang::Silent => hangs(&self.socket, runtime.block_on(listener_of(&self.socket)), is_change),
            Hang::Part(message) => part_hangs(&message),
        })?;
        let reply = asked.map_err(|error| match error {
            ClientError::NoDaemon(error) => not_running(&self.socket, &error),
            broken @ ClientError::Broken(_) => broke_off(&broken),
        })?;
        let status = reply.status;
        let mut arriving = Arriving { reply, piece: Bytes::new(), runtime };
        if status.is_success() {
            return Ok(arriving);
        }
        let mut bytes = Vec::new();
        // What is missing of it is missing in the message.
        let _ = arriving.read_to_end(&mut bytes);
        let value: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let message = value["error"]["message"].as_str().unwrap_or("the daemon refused without a reason").to_owned();
        Err(match status {
            StatusCode::SERVICE_UNAVAILABLE => Failure::new(exit::TRY_AGAIN, message, "try again in a moment"),
            s if s.is_client_error() => Failure::new(exit::USAGE, message, ""),
            s => Failure::new(exit::INTERNAL, format!("the daemon answered {s}: {message}"), "see the daemon's log"),
        })
    }
}

/// The body of an answer, as it arrives. An answer that breaks off is an error, never an end.
pub(super) struct Arriving {
    // Dropped before its runtime.
    reply: Reply,
    piece: Bytes,
    runtime: Runtime,
}

impl Read for Arriving {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            let piece = self.runtime.block_on(within(PATIENCE, self.reply.piece()));
            let Some(piece) = piece else {
                let what = format!("the daemon has not gone on with its answer for {PATIENCE:?}");
                return Err(io::Error::new(io::ErrorKind::TimedOut, what));
            };
            match piece.map_err(io::Error::other)? {
                Some(piece) => self.piece = piece,
                None => return Ok(0),
            }
        }
        let length = into.len().min(self.piece.len());
        into[..length].copy_from_slice(&self.piece.split_to(length));
        Ok(length)
    }
}

/// The outcome, or `None` when it takes longer than the limit.
async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    timeout(limit, work).await.ok()
}

/// Why an answer is not waited for any longer.
enum Hang {
    /// The daemon answers nothing.
    Silent,
    /// A part of it makes no progress; the sentence about it.
    Part(String),
}

/// The outcome of a change, however long it takes, while the daemon gives signs of life. What hinders it is shown to
/// the person who waits.
async fn while_it_works<T>(socket: &Path, work: impl Future<Output = T>) -> Result<T, Hang> {
    let mut work = pin!(work);
    let (mut shown, mut hung) = (None, 0);
    loop {
        if let Some(outcome) = within(PATIENCE, &mut work).await {
            return Ok(outcome);
        }
        let look = within(PATIENCE, admin_client::exchange(socket, Method::GET, "/v1/status", ""));
        let looked = tokio::select! {
            outcome = &mut work => return Ok(outcome),
            looked = look => looked.ok_or(Hang::Silent)?,
        };
        // A connection that broke ends the change as well.
        let problems = looked.map(|(_, status)| status["problems"].clone()).unwrap_or_default();
        let worst = problems.as_array().into_iter().flatten().find(|it| it["severity"] == "critical");
        let text = |key: &str| worst.and_then(|problem| problem[key].as_str()).map(str::to_owned);
        let (code, message) = (text("code"), text("message").unwrap_or_default());
        hung = if code.as_deref() == Some(Code::PartHangs.word()) { hung + 1 } else { 0 };
        if hung == GIVEN_UP_LOOKS {
            return Err(Hang::Part(message));
        }
        if code.is_some() && shown != code {
            note(format_args!("still waiting for the daemon: {message}"));
        }
        shown = code;
    }
}

/// The process that listens on a socket, as the kernel knows it.
async fn listener_of(socket: &Path) -> Option<i32> {
    let connected = timeout(Duration::from_secs(1), UnixStream::connect(socket)).await.ok()?.ok()?;
    connected.peer_cred().ok()?.pid()
}

/// A daemon that takes connections and does not answer.
fn hangs(socket: &Path, pid: Option<i32>, is_change: bool) -> Failure {
    let process = pid.map_or(String::new(), |pid| format!(" (process {pid})"));
    let what = format!("the daemon{process} at {} has not answered for {PATIENCE:?}: it hangs", socket.display());
    let way_out = "start it again, which loses nothing: `systemctl restart pagesyncd`, or end the process; report it \
                   with the log";
    let done = if is_change { format!("; {MAY_BE_DONE}") } else { String::new() };
    Failure::new(exit::UNAVAILABLE, what, format!("{way_out}{done}"))
}

/// A daemon of which a part does not get on with what was asked.
fn part_hangs(message: &str) -> Failure {
    let way_out = format!("systemd restarts the daemon; without systemd restart it; {MAY_BE_DONE}");
    Failure::new(exit::UNAVAILABLE, message, way_out)
}

/// The daemon did not answer to the end.
pub(super) fn broke_off(error: &impl Display) -> Failure {
    Failure::new(exit::UNAVAILABLE, error.to_string(), "is it stopping? see its log")
}

fn not_running(socket: &Path, error: &io::Error) -> Failure {
    let what = format!("no daemon answers at {}: {error}", socket.display());
    let way_out = match error.kind() {
        io::ErrorKind::PermissionDenied => "run this as root or as the daemon's user",
        _ => "start it (`systemctl start pagesyncd`), or name its configuration with --config",
    };
    Failure::new(exit::UNAVAILABLE, what, way_out)
}
