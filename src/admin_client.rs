//! The other end of the admin socket: one request, one answer.

use std::path::Path;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens, or this user may not connect.
    #[error("no daemon answers: {0}")]
    NoDaemon(std::io::Error),
    /// The daemon broke off, or answered something else than was agreed.
    #[error("the daemon broke off: {0}")]
    Broken(String),
}

fn broken(error: impl std::fmt::Display) -> ClientError {
    ClientError::Broken(error.to_string())
}

/// An answer that is being received.
pub struct Reply {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    body: Incoming,
    conn: JoinHandle<()>,
}

impl Reply {
    /// The next bytes; `None` at the end of the whole answer.
    ///
    /// # Errors
    /// [`ClientError::Broken`]: the answer broke off.
    pub async fn piece(&mut self) -> Result<Option<Bytes>, ClientError> {
        while let Some(frame) = self.body.frame().await {
            if let Ok(piece) = frame.map_err(broken)?.into_data() {
                return Ok(Some(piece));
            }
        }
        Ok(None)
    }

    /// The rest of it.
    ///
    /// # Errors
    /// [`ClientError::Broken`].
    pub async fn rest(&mut self) -> Result<Bytes, ClientError> {
        let mut rest = Vec::new();
        while let Some(piece) = self.piece().await? {
            rest.extend_from_slice(&piece);
        }
        Ok(rest.into())
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        self.conn.abort();
    }
}

/// One request to the admin socket, and the bytes that were answered.
///
/// # Errors
/// [`ClientError`].
pub async fn fetch(
    socket: &Path,
    method: Method,
    path: &str,
    body: impl Into<Bytes>,
) -> Result<(StatusCode, Bytes), ClientError> {
    let mut reply = ask(socket, method, path, body).await?;
    Ok((reply.status, reply.rest().await?))
}

/// One request to the admin socket, and the beginning of its answer.
///
/// # Errors
/// [`ClientError`].
pub async fn ask(socket: &Path, method: Method, path: &str, body: impl Into<Bytes>) -> Result<Reply, ClientError> {
    let stream = UnixStream::connect(socket).await.map_err(ClientError::NoDaemon)?;
    let (mut sender, conn) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    // Its outcome shows in the request's.
    let conn = tokio::spawn(async move {
        let _ = conn.await;
    });
    let request = Request::builder().method(method).uri(path).header("host", "pagesyncd").body(Full::new(body.into()));
    let answer = sender.send_request(request.map_err(broken)?).await.map_err(broken)?;
    let (head, body) = answer.into_parts();
    Ok(Reply { status: head.status, headers: head.headers, body, conn })
}

/// Like [`fetch`], for answers that are JSON documents.
///
/// # Errors
/// [`ClientError`].
pub async fn exchange(
    socket: &Path,
    method: Method,
    path: &str,
    body: impl Into<Bytes>,
) -> Result<(StatusCode, Value), ClientError> {
    let (status, bytes) = fetch(socket, method, path, body).await?;
    Ok((status, serde_json::from_slice(&bytes).map_err(broken)?))
}
