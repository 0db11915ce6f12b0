//! Speaks with a running daemon through its admin socket.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;

use super::{config_failure, env, small_runtime};
use crate::config::Config;
use crate::exit::{self, Failure};

/// A daemon's admin socket.
pub(super) struct Door {
    socket: PathBuf,
}

impl Door {
    /// The socket that the configuration names; the rest of it need not be readable.
    pub(super) fn find(config: &Path) -> Result<Self, Failure> {
        let socket = Config::admin_socket(config, &env).map_err(|findings| config_failure(&findings))?;
        Ok(Door { socket })
    }

    /// Is somebody there?
    pub(super) fn is_open(&self) -> bool {
        std::os::unix::net::UnixStream::connect(&self.socket).is_ok()
    }

    /// One request; the answer's document, or why there is none.
    pub(super) fn call(&self, method: Method, path: &str, body: impl Into<Bytes>) -> Result<Value, Failure> {
        let (status, value) = small_runtime()?.block_on(exchange(&self.socket, method, path, body.into()))?;
        if status.is_success() {
            return Ok(value);
        }
        let message = value["error"]["message"].as_str().unwrap_or("the daemon refused without a reason").to_owned();
        Err(match status {
            StatusCode::SERVICE_UNAVAILABLE => Failure::new(exit::TRY_AGAIN, message, "try again in a moment"),
            s if s.is_client_error() => Failure::new(exit::USAGE, message, ""),
            s => Failure::new(exit::INTERNAL, format!("the daemon answered {s}: {message}"), "see the daemon's log"),
        })
    }
}

async fn exchange(socket: &Path, method: Method, path: &str, body: Bytes) -> Result<(StatusCode, Value), Failure> {
    let stream = UnixStream::connect(socket).await.map_err(|error| not_running(socket, &error))?;
    let broken = |error: &dyn std::fmt::Display| {
        Failure::new(exit::UNAVAILABLE, format!("the daemon broke off: {error}"), "is it stopping? see its log")
    };
    let (mut sender, conn) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| broken(&e))?;
    tokio::spawn(conn);
    let request = Request::builder().method(method).uri(path).header("host", "pagesyncd").body(Full::new(body));
    let request = request.map_err(|e| Failure::new(exit::INTERNAL, format!("the request cannot be made: {e}"), ""))?;
    let answer = sender.send_request(request).await.map_err(|e| broken(&e))?;
    let status = answer.status();
    let body = answer.into_body().collect().await.map_err(|e| broken(&e))?.to_bytes();
    let value = serde_json::from_slice(&body).map_err(|e| broken(&e))?;
    Ok((status, value))
}

fn not_running(socket: &Path, error: &std::io::Error) -> Failure {
    let what = format!("no daemon answers at {}: {error}", socket.display());
    let way_out = match error.kind() {
        std::io::ErrorKind::PermissionDenied => "run this as root or as the daemon's user",
        _ => "start it (`systemctl start pagesyncd`), or name its configuration with --config",
    };
    Failure::new(exit::UNAVAILABLE, what, way_out)
}
