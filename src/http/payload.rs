//! The body of an answer: whole, as nearly all are, or in pieces that are made while it is sent.
//!
//! # Pieces
//!
//! A piece is made when hyper asks for it, and hyper asks when the connection takes more. So a client that reads slowly
//! slows the making down, at most one piece waits in memory beside hyper's buffer, and a client that hangs up ends the
//! making: hyper drops the body. No task and no queue is in between. While pieces are sent the client sets the pace,
//! and the connection may be closed in favour of another, after those whose body is being read.
//!
//! # Half an answer
//!
//! The status and the first piece are gone when a later piece cannot be made, because the store refuses, say. There is
//! no second status, and to end the body would let half a list pass for the whole. So the body fails, and hyper closes
//! the connection without the last, empty chunk. A client of HTTP/1.1 reports that as an answer that broke off. To a
//! client of HTTP/1.0 the end of the connection is the end of the answer; it gets the pieces gathered, with their
//! length, or 503 ([`super::responses::in_pieces`]).

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::{Stream, TryStreamExt};
use http_body_util::Full;
use hyper::body::{Body, Frame, SizeHint};

use super::connections::{Conn, Signal};

/// Why an answer is cut off.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Cut(pub String);

/// Pieces of a body, or the reason why there is no further one.
pub type Pieces = Pin<Box<dyn Stream<Item = Result<Bytes, Cut>> + Send>>;

/// The body of an answer.
pub enum Payload {
    /// All of it.
    Whole(Full<Bytes>),
    /// To be made while it is sent.
    InPieces(Pieces, Conn),
    /// The same without an end of its own. It ends when the listener stops, so that the stop does not wait for it.
    Endless(Pieces, Conn),
}

impl Payload {
    /// All of it, in memory.
    pub fn whole(bytes: impl Into<Bytes>) -> Payload {
        Payload::Whole(Full::new(bytes.into()))
    }

    /// The bytes of one that is whole.
    #[cfg(test)]
    pub fn into_bytes(self) -> Option<Bytes> {
        match self {
            Payload::Whole(whole) => Some(whole.into_inner().unwrap_or_default()),
            Payload::InPieces(..) | Payload::Endless(..) => None,
        }
    }
}

/// All pieces in one.
///
/// # Errors
/// [`Cut`].
pub async fn gather(pieces: Pieces) -> Result<Bytes, Cut> {
    let gathered = pieces.try_fold(Vec::new(), |mut all, piece| {
        all.extend_from_slice(&piece);
        std::future::ready(Ok(all))
    });
    Ok(gathered.await?.into())
}

impl Body for Payload {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        match self.get_mut() {
            Payload::Whole(whole) => {
                let polled = Pin::new(whole).poll_frame(cx);
                polled.map_err(|never: Infallible| match never {})
            }
            Payload::InPieces(pieces, conn) => {
                conn.is_read();
                let piece = ready!(pieces.as_mut().poll_next(cx));
                match &piece {
                    Some(Ok(_)) => {}
                    Some(Err(cut)) => {
                        tracing::warn!(%cut, "http: an answer is cut off ({cut}), the client has to ask again");
                    }
                    None => conn.rests(),
                }
                Poll::Ready(piece.map(|piece| piece.map(Frame::data)))
            }
            Payload::Endless(pieces, conn) => {
                // A signal wakes the connection's task, and that asks for the next piece.
                if conn.has(Signal::Stop) {
                    return Poll::Ready(None);
                }
                conn.is_read();
                let piece = ready!(pieces.as_mut().poll_next(cx));
                if piece.is_none() {
                    conn.rests();
                }
                Poll::Ready(piece.map(|piece| piece.map(Frame::data)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Payload::Whole(whole) => whole.is_end_stream(),
            Payload::InPieces(..) | Payload::Endless(..) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Payload::Whole(whole) => whole.size_hint(),
            Payload::InPieces(..) | Payload::Endless(..) => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use futures_util::stream;
    use http::{Request, Version};
    use hyper::body::Incoming;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{UnixListener, UnixStream};
    use tokio::sync::oneshot;
    use tokio_util::sync::CancellationToken;
    use tokio_util::task::TaskTracker;

    use super::*;
    use crate::admin_client::{self, ClientError};
    use crate::http::responses;
    use crate::http::server::{self, Socket, Terms};

    const PIECE: usize = 64 << 10;
    /// What hyper, the kernel and the two ends of a socket may hold, in pieces.
    const BETWEEN: usize = 16;

    /// Is sent when it is dropped.
    struct Dropped(Option<oneshot::Sender<()>>);

    impl Drop for Dropped {
        fn drop(&mut self) {
            let _ = self.0.take().map(|sender| sender.send(()));
        }
    }

    /// A client that has asked for pieces without end; how many were made, and when the making ends.
    async fn asked(dir: &std::path::Path) -> (UnixStream, Arc<AtomicUsize>, oneshot::Receiver<()>) {
        let path = dir.join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let made = Arc::new(AtomicUsize::new(0));
        let (sender, ended) = oneshot::channel();
        let dropped = Arc::new(std::sync::Mutex::new(Some(Dropped(Some(sender)))));
        let count = made.clone();
        let service = move |request: Request<Incoming>, conn: Conn| {
            let (count, dropped) = (count.clone(), dropped.lock().unwrap().take());
            let pieces = stream::unfold(dropped, move |dropped| {
                count.fetch_add(1, Ordering::SeqCst);
                std::future::ready(Some((Ok(Bytes::from(vec![b'x'; PIECE])), dropped)))
            });
            async move {
                assert_eq!(request.version(), Version::HTTP_11);
                responses::in_pieces(request.version(), "text/plain", Box::pin(pieces), &conn).await
            }
        };
        let terms = || Terms { max_connections: 4, header_timeout: Duration::from_secs(10), tls: None };
        let (requests, stop) = (TaskTracker::new(), CancellationToken::new());
        tokio::spawn(server::serve(Socket::Unix(listener), terms, |_| {}, service, requests, stop, Duration::ZERO));
        let mut client = UnixStream::connect(&path).await.unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        (client, made, ended)
    }

    #[tokio::test]
    async fn no_more_is_made_than_the_client_takes() {
        let dir = tempfile::tempdir().unwrap();
        let (mut client, made, _ended) = asked(dir.path()).await;
        let mut piece = vec![0; PIECE];
        for taken in 1..200 {
            client.read_exact(&mut piece).await.unwrap();
            let made = made.load(Ordering::SeqCst);
            assert!(made <= taken + BETWEEN, "{made} were made when {taken} were taken");
        }
    }

    #[tokio::test]
    async fn an_answer_that_is_cut_off_looks_whole_to_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let service = |request: Request<Incoming>, conn: Conn| async move {
            let pieces = [Ok(Bytes::from_static(b"half")), Err(Cut("a test refuses it".to_owned()))];
            let pieces = stream::iter(pieces);
            responses::in_pieces(request.version(), "text/plain", Box::pin(pieces), &conn).await
        };
        let terms = || Terms { max_connections: 4, header_timeout: Duration::from_secs(10), tls: None };
        let (requests, stop) = (TaskTracker::new(), CancellationToken::new());
        tokio::spawn(server::serve(Socket::Unix(listener), terms, |_| {}, service, requests, stop, Duration::ZERO));
        let fetched = admin_client::fetch(&path, http::Method::GET, "/", "").await;
        assert!(matches!(fetched, Err(ClientError::Broken(_))), "{fetched:?}");
        // One of HTTP/1.0 is refused instead.
        let mut client = UnixStream::connect(&path).await.unwrap();
        client.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.0 503 ") && !answer.contains("half"), "{answer}");
    }

    #[tokio::test]
    async fn nothing_more_is_made_for_a_client_that_hangs_up() {
        let dir = tempfile::tempdir().unwrap();
        let (mut client, _made, ended) = asked(dir.path()).await;
        client.read_exact(&mut [0; 100]).await.unwrap();
        drop(client);
        tokio::time::timeout(Duration::from_secs(20), ended).await.expect("the making goes on").unwrap();
    }
}
