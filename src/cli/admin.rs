//! Calls to a running daemon through its admin socket.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::Value;

use super::common::{config_failure, env, small_runtime};
use crate::admin_client::{self, ClientError};
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
    pub(super) fn fetch(&self, method: Method, path: &str, body: impl Into<Bytes>) -> Result<Bytes, Failure> {
        let asked = small_runtime()?.block_on(admin_client::fetch(&self.socket, method, path, body));
        let (status, bytes) = asked.map_err(|error| match error {
            ClientError::NoDaemon(error) => not_running(&self.socket, &error),
            broken @ ClientError::Broken(_) => {
                Failure::new(exit::UNAVAILABLE, broken.to_string(), "is it stopping? see its log")
            }
        })?;
        if status.is_success() {
            return Ok(bytes);
        }
        let value: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let message = value["error"]["message"].as_str().unwrap_or("the daemon refused without a reason").to_owned();
        Err(match status {
            StatusCode::SERVICE_UNAVAILABLE => Failure::new(exit::TRY_AGAIN, message, "try again in a moment"),
            s if s.is_client_error() => Failure::new(exit::USAGE, message, ""),
            s => Failure::new(exit::INTERNAL, format!("the daemon answered {s}: {message}"), "see the daemon's log"),
        })
    }
}

fn not_running(socket: &Path, error: &std::io::Error) -> Failure {
    let what = format!("no daemon answers at {}: {error}", socket.display());
    let way_out = match error.kind() {
        std::io::ErrorKind::PermissionDenied => "run this as root or as the daemon's user",
        _ => "start it (`systemctl start pagesyncd`), or name its configuration with --config",
    };
    Failure::new(exit::UNAVAILABLE, what, way_out)
}
