//! Calls to a running daemon through its admin socket.

use std::fmt::Display;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::Value;
use tokio::runtime::Runtime;

use super::common::{config_failure, env, small_runtime};
use crate::admin_client::{self, ClientError, Reply};
use crate::config::Config;
use crate::exit::{self, Failure};

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
        let asked = runtime.block_on(admin_client::ask(&self.socket, method, path, body));
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
            match self.runtime.block_on(self.reply.piece()).map_err(io::Error::other)? {
                Some(piece) => self.piece = piece,
                None => return Ok(0),
            }
        }
        let length = into.len().min(self.piece.len());
        into[..length].copy_from_slice(&self.piece.split_to(length));
        Ok(length)
    }
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
