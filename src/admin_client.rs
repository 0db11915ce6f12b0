//! The other end of the admin socket: one request, one answer.

use std::path::Path;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;

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
    let stream = UnixStream::connect(socket).await.map_err(ClientError::NoDaemon)?;
    let (mut sender, conn) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    // Its outcome shows in the request's.
    let conn = tokio::spawn(conn);
    let request = Request::builder().method(method).uri(path).header("host", "pagesyncd").body(Full::new(body.into()));
    let answer = sender.send_request(request.map_err(broken)?).await.map_err(broken)?;
    let status = answer.status();
    let bytes = answer.into_body().collect().await.map_err(broken)?.to_bytes();
    conn.abort();
    Ok((status, bytes))
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
