//! A small HTTP/1 server for the world, which can also misbehave: refuse connections, reset them, and break off in the
//! middle of an answer.
//!
//! A handler that returns [`Broken`] makes the connection end with a TCP reset, not with a clean close: that is what a
//! dead peer looks like, and clients treat the two differently.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What can go wrong in a body.
pub(crate) type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// The body of every answer.
pub(crate) type Body = UnsyncBoxBody<Bytes, BodyError>;

/// The connection is to end with a reset, and without an answer.
#[derive(Debug, thiserror::Error)]
#[error("the sandbox broke the connection on purpose")]
pub(crate) struct Broken;

/// How a server handles a request.
pub(crate) type Handler =
    Arc<dyn Fn(Request<Incoming>) -> BoxFuture<'static, Result<Response<Body>, Broken>> + Send + Sync>;

/// May connections come in at this moment? Asked again whenever faults change.
pub(crate) type Gate = Arc<dyn Fn() -> bool + Send + Sync>;

/// The address that a request came from, among its extensions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) IpAddr);

/// A body that is all there.
pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never: Infallible| match never {}).boxed_unsync()
}

/// A body that breaks off after its first half.
pub(crate) fn half(bytes: impl Into<Bytes>) -> Body {
    let bytes = bytes.into();
    let first = futures_util::future::ready(Ok(Frame::data(bytes.slice(..bytes.len() / 2))));
    let end = async {
        // Long enough that the first half is on its way before the break.
        tokio::time::sleep(Duration::from_millis(20)).await;
        Err(BodyError::from(Broken))
    };
    StreamBody::new(futures_util::stream::once(first).chain(futures_util::stream::once(end))).boxed_unsync()
}

/// The whole body of a request, if it is no longer than `limit` bytes and comes within 30 seconds.
pub(crate) async fn collect(body: Incoming, limit: usize) -> Option<Bytes> {
    let whole = tokio::time::timeout(Duration::from_secs(30), Limited::new(body, limit).collect()).await;
    Some(whole.ok()?.ok()?.to_bytes())
}

/// A listening server. Stops when [`Face::stop`] is called or it is dropped.
#[derive(Debug)]
pub(crate) struct Face {
    pub(crate) addr: SocketAddr,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Face {
    /// Binds and serves. `changes` wakes the gate.
    pub(crate) async fn start(
        addr: SocketAddr,
        handler: Handler,
        gate: Gate,
        changes: tokio::sync::watch::Receiver<u64>,
    ) -> io::Result<Face> {
        let listener = TcpListener::bind(addr).await?;
        let addr = listener.local_addr()?;
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let accepting = accept(listener, addr, handler, gate, changes, stop.clone(), tasks.clone());
        tasks.spawn(accepting);
        Ok(Face { addr, stop, tasks })
    }

    /// Ends all connections and waits until they are gone.
    pub(crate) async fn stop(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for Face {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn accept(
    listener: TcpListener,
    addr: SocketAddr,
    handler: Handler,
    gate: Gate,
    mut changes: tokio::sync::watch::Receiver<u64>,
    stop: CancellationToken,
    tasks: TaskTracker,
) {
    let mut listener = Some(listener);
    let mut open = stop.child_token();
    loop {
        if gate() && listener.is_none() {
            listener = TcpListener::bind(addr).await.ok();
        } else if !gate() && listener.take().is_some() {
            // Whoever is connected already is cut off too.
            open.cancel();
            open = stop.child_token();
        }
        let Some(accepting) = &listener else {
            let pause = tokio::time::sleep(Duration::from_millis(200));
            tokio::select! { () = stop.cancelled() => return, () = changed(&mut changes) => {}, () = pause => {} }
            continue;
        };
        let (stream, peer) = tokio::select! {
            () = stop.cancelled() => return,
            () = changed(&mut changes) => continue,
            accepted = accepting.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(_) => { tokio::time::sleep(Duration::from_millis(50)).await; continue }
            },
        };
        tasks.spawn(serve(stream, Peer(peer.ip()), handler.clone(), open.clone()));
    }
}

/// The next change; pending for ever once the sender is gone.
async fn changed(changes: &mut tokio::sync::watch::Receiver<u64>) {
    if changes.changed().await.is_err() {
        std::future::pending().await
    }
}

async fn serve(stream: TcpStream, peer: Peer, handler: Handler, closed: CancellationToken) {
    let rude = Arc::new(AtomicBool::new(false));
    let wire = Wire { stream, rude: rude.clone() };
    let marked = rude.clone();
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer);
        let (answer, rude) = (handler(request), marked.clone());
        async move { answer.await.inspect_err(|_| rude.store(true, Ordering::Relaxed)) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(60))
        .serve_connection(TokioIo::new(wire), service);
    tokio::select! {
        // A client that went away, or a connection broken on purpose: there is no one to report it to.
        _ = connection => {}
        () = closed.cancelled() => rude.store(true, Ordering::Relaxed),
    }
}

/// A TCP stream that is reset when it is dropped after a rudeness.
struct Wire {
    stream: TcpStream,
    rude: Arc<AtomicBool>,
}

impl Drop for Wire {
    fn drop(&mut self) {
        if self.rude.load(Ordering::Relaxed) {
            // Without it the peer sees a clean close: still an end.
            let _ = self.stream.set_zero_linger();
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
