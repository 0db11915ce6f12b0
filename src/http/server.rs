//! One listener: accepts connections, limits them, serves HTTP/1 on each, and closes gracefully. What is answered is
//! the business of whoever opens it.
//!
//! A request is handled in the task of its connection ([`super::handling`]); a client that hangs up does not end what
//! its request began. All requests are tracked in one place, together with what they begin and leave behind
//! ([`Conn::spawn`]), so that a stop can wait for them. A handler that panics is a 500, and touches no other request.
//!
//! The number of open connections is bounded. When the bound is reached and somebody knocks, the connection that has
//! been *idle* longest is closed to make room; idle means that no request is being answered on it, so a crowd of
//! silent or dripping clients cannot keep a webhook out. A client that is dripping a body may be closed too, after the
//! idle ones. Only when every connection is being answered does the newcomer wait in the kernel's backlog.
//!
//! What is ambiguous is refused and the connection closed: a request without one `Host`, or framed twice
//! ([`super::framing`]). After a chunked request the connection closes as well, since nobody who means well keeps one
//! for another.
//!
//! When the listener stops, a request may be on its way on an open connection: the client connected a moment ago, or
//! reuses its connection. Each connection therefore stays open for `LAST_REQUEST`, and the answer to a request that
//! comes in that time says `Connection: close`. So a restart behind a kept socket refuses nobody.
//!
//! TLS, where there is any, is shaken hands for in the connection's own task. Until that is done the connection counts
//! as idle, and it has as long for it as for the headers of a request. So a crowd that never ends its handshakes keeps
//! nobody out. A connection that fails its handshake is closed like one behind its last answer: the alert arrives.
//!
//! hyper bounds the header's size and the time until it is complete; body size and body time are bounded where the
//! body is read ([`super::body`]).

use std::cell::Cell;
use std::future::Future;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::{StatusCode, Version, header};
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connections::{Connections, Entered, Signal};
use super::framing::Wire;
use super::handling::Handling;
use super::head_timer::HeadTimer;
use super::responses;
use crate::tls::{Refused, Secured, ServerTls};

pub use super::connections::Conn;
pub use super::responses::Answer;

/// Headers that a request may have, and the bytes that they may take together.
const MAX_HEADERS: usize = 64;
const MAX_HEADER_BYTES: usize = 32 << 10;
/// After an accept error (no file descriptors left, say) the listener neither spins nor dies.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long a closing listener waits for a request that may be on its way, on a connection that has none.
const LAST_REQUEST: Duration = Duration::from_millis(300);

/// Limits and TLS of a listener; taken anew for each connection, so that a reload reaches the next one.
#[derive(Clone)]
pub struct Terms {
    /// Connections at a time.
    pub max_connections: usize,
    /// Until a request's header is complete; also how long a kept-alive connection may rest.
    pub header_timeout: Duration,
    /// `None` for plain HTTP.
    pub tls: Option<Arc<ServerTls>>,
}

/// A listening socket: TCP or Unix.
pub enum Socket {
    /// TCP.
    Tcp(TcpListener),
    /// A Unix socket.
    Unix(UnixListener),
}

/// Either kind of stream.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Socket {
    async fn accept(&self) -> std::io::Result<(Box<dyn Stream>, Option<IpAddr>)> {
        match self {
            Socket::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                // Answers are small and leave in one piece; a refusal to set this costs only latency.
                let _ = stream.set_nodelay(true);
                Ok((Box::new(stream), Some(peer.ip())))
            }
            Socket::Unix(listener) => Ok((Box::new(listener.accept().await?.0), None)),
        }
    }
}

/// Serves the listener until `stop`, then lets requests under way finish for at most `grace`. Dropped before that, it
/// leaves its connections as they are: each goes on in a task of its own.
pub async fn serve<S, F>(
    socket: Socket,
    terms: impl Fn() -> Terms,
    on_count: impl Fn(usize),
    service: S,
    requests: TaskTracker,
    stop: CancellationToken,
    grace: Duration,
) where
    S: Fn(Request<Incoming>, Conn) -> F + Clone + Send + 'static,
    F: Future<Output = Answer> + Send + 'static,
{
    let connections = Arc::new(Connections::new(requests));
    loop {
        on_count(connections.len());
        let (stream, peer) = tokio::select! {
            () = stop.cancelled() => break,
            accepted = socket.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(
                        %error,
                        "http: a connection cannot be accepted ({error}), next try in {ACCEPT_PAUSE:?}"
                    );
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
        };
        let terms = terms();
        while connections.len() >= terms.max_connections && !connections.evict() {
            tokio::select! {
                () = stop.cancelled() => break,
                () = connections.one_gone() => {}
            }
        }
        tokio::spawn(converse(stream, terms, connections.enter(peer), service.clone()));
    }
    drop(socket);
    connections.give_all(Signal::Stop);
    if tokio::time::timeout(grace, connections.all_gone()).await.is_err() {
        let open = connections.len();
        tracing::warn!(open, "http: {open} connections are cut off, their requests took longer than {grace:?}");
        connections.give_all(Signal::Close);
    }
    on_count(0);
}

const FRAMED_TWICE: &str = "the request has both Content-Length and Transfer-Encoding";

/// What makes a request one that nobody may answer, though it could be read.
fn fault<B>(request: &Request<B>) -> Option<&'static str> {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) if request.version() == Version::HTTP_11 => Some("the request has no Host"),
        (Some(_), Some(_)) => Some("the request has more than one Host"),
        (Some(host), None) if !is_host(host.as_bytes()) => Some("the request's Host is malformed"),
        _ => None,
    }
}

/// A name or an address and perhaps a port; or nothing, as those send who have no name to give.
fn is_host(host: &[u8]) -> bool {
    let is_authority = || http::uri::Authority::try_from(host).is_ok_and(|authority| !authority.as_str().contains('@'));
    host.is_empty() || is_plain_host(host) || is_authority()
}

/// Letters, digits, dots and hyphens, and perhaps a port: what nearly every client sends. It is an authority, and found
/// out without a copy.
fn is_plain_host(host: &[u8]) -> bool {
    let colon = host.iter().position(|byte| *byte == b':').unwrap_or(host.len());
    let (name, port) = host.split_at(colon);
    let is_name = !name.is_empty() && name.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-'));
    is_name && (port.is_empty() || (2..=6).contains(&port.len()) && port[1..].iter().all(u8::is_ascii_digit))
}

/// Shakes hands; `None` when the connection is over.
async fn secure(stream: Box<dyn Stream>, tls: &ServerTls, within: Duration, conn: &Conn) -> Option<Box<dyn Stream>> {
    let mut shaking = pin!(tls.handshake(stream, within));
    let shaken = match conn.until(Signal::Stop, shaking.as_mut()).await {
        Some(shaken) => shaken,
        // A request may be on its way behind the handshake.
        None => {
            let last = tokio::time::timeout(LAST_REQUEST, shaking);
            conn.until(Signal::Close, pin!(last)).await?.ok()?
        }
    };
    match shaken {
        Ok(Secured { stream, client }) => {
            client.into_iter().for_each(|client| conn.set_client(client));
            Some(Box::new(stream))
        }
        Err(Refused(stream)) => {
            if let Some(stream) = stream {
                let mut wire = Wire::new(stream);
                // The client may have closed already.
                conn.until(Signal::Close, pin!(wire.shutdown())).await;
            }
            None
        }
    }
}

async fn converse<S, F>(stream: Box<dyn Stream>, terms: Terms, entered: Entered, service: S)
where
    S: Fn(Request<Incoming>, Conn) -> F + Send + 'static,
    F: Future<Output = Answer> + Send + 'static,
{
    let (conn, for_requests) = (&entered.conn, entered.conn.clone());
    let stream = match &terms.tls {
        None => stream,
        Some(tls) => match Box::pin(secure(stream, tls, terms.header_timeout, conn)).await {
            Some(stream) => stream,
            None => return,
        },
    };
    let wire = Wire::new(stream);
    let framed_twice = wire.framed_twice();
    let requests = Cell::new(0);
    let answer = service_fn(move |request: Request<Incoming>| {
        let conn = for_requests.clone();
        conn.answers();
        requests.set(requests.get() + 1);
        let twice = framed_twice.load(Ordering::Acquire) == requests.get();
        match if twice { Some(FRAMED_TWICE) } else { fault(&request) } {
            Some(text) => Handling::refused(conn, responses::error(StatusCode::BAD_REQUEST, "bad_request", text)),
            None => {
                let is_last = request.headers().contains_key(header::TRANSFER_ENCODING);
                Handling::new(conn.clone(), service(request, conn), is_last)
            }
        }
    });
    let served = http1::Builder::new()
        .timer(HeadTimer::default())
        .header_read_timeout(terms.header_timeout)
        .max_headers(MAX_HEADERS)
        .max_header_size(MAX_HEADER_BYTES)
        .max_buf_size(MAX_HEADER_BYTES)
        .serve_connection(TokioIo::new(wire), answer);
    let mut served = pin!(served);
    // Clients that break off or talk nonsense are everyday events at a public listener.
    if conn.until(Signal::Stop, served.as_mut()).await.is_some() {
        return;
    }
    let last = async {
        // hyper closes a connection at once on which nothing came yet, and one that rests between two requests.
        if tokio::time::timeout(LAST_REQUEST, served.as_mut()).await.is_err() {
            served.as_mut().graceful_shutdown();
            let _ = served.await;
        }
    };
    conn.until(Signal::Close, pin!(last)).await;
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;
    use tokio::sync::{Notify, mpsc};

    use super::*;
    use crate::config::Config;

    const TERMS: Terms = Terms { max_connections: 100, header_timeout: Duration::from_secs(10), tls: None };

    async fn listening<S, F>(service: S) -> (std::net::SocketAddr, mpsc::UnboundedReceiver<usize>, CancellationToken)
    where
        S: Fn(Request<Incoming>, Conn) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Answer> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
        let (counts, counted) = mpsc::unbounded_channel();
        let on_count = move |open| {
            let _ = counts.send(open);
        };
        tokio::spawn(serve(
            Socket::Tcp(listener),
            || TERMS,
            on_count,
            service,
            TaskTracker::new(),
            stop.clone(),
            Duration::ZERO,
        ));
        (address, counted, stop)
    }

    #[tokio::test]
    async fn what_was_begun_is_finished_though_the_client_hangs_up() {
        let (steps, mut done) = mpsc::unbounded_channel();
        let go = Arc::new(Notify::new());
        let waits = go.clone();
        let (address, mut counted, _stop) = listening(move |_, _| {
            let (steps, waits) = (steps.clone(), waits.clone());
            async move {
                steps.send("begun").unwrap();
                waits.notified().await;
                steps.send("finished").unwrap();
                responses::not_found()
            }
        })
        .await;
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        assert_eq!(done.recv().await, Some("begun"));
        drop(client);
        // Each connection is counted once more; a count of one shows that the others have ended.
        assert_eq!((counted.recv().await, counted.recv().await), (Some(0), Some(1)));
        loop {
            drop(TcpStream::connect(address).await.unwrap());
            if counted.recv().await == Some(1) {
                break;
            }
        }
        go.notify_one();
        assert_eq!(tokio::time::timeout(Duration::from_secs(5), done.recv()).await, Ok(Some("finished")));
    }

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";

    /// A conversation over a stream in memory, so that time stands still while anybody is at work.
    fn talk() -> (tokio::io::DuplexStream, Arc<Connections>) {
        talk_on(TERMS)
    }

    fn talk_on(terms: Terms) -> (tokio::io::DuplexStream, Arc<Connections>) {
        let (client, stream) = tokio::io::duplex(4096);
        let connections = Arc::new(Connections::default());
        let service = |_, _| async { responses::json(StatusCode::OK, &serde_json::json!({})) };
        tokio::spawn(converse(Box::new(stream), terms, connections.enter(None), service));
        (client, connections)
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_comes_just_as_the_listener_closes_is_answered() {
        // The client is connected and its request on the way; and the same on a connection that was used before.
        for used in [false, true] {
            let (mut client, connections) = talk();
            if used {
                client.write_all(REQUEST).await.unwrap();
                let mut bytes = [0; 1024];
                let length = client.read(&mut bytes).await.unwrap();
                assert!(bytes[..length].starts_with(b"HTTP/1.1 200 ") && !bytes[..length].ends_with(b"close\r\n"));
            }
            connections.give_all(Signal::Stop);
            tokio::time::sleep(LAST_REQUEST / 2).await;
            client.write_all(REQUEST).await.unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("connection: close"), "{used}: {answer:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_is_silent_as_the_listener_closes_is_left_soon() {
        let (mut client, connections) = talk();
        let began = tokio::time::Instant::now();
        connections.give_all(Signal::Stop);
        assert_eq!(client.read(&mut [0; 16]).await.unwrap(), 0);
        assert!(began.elapsed() <= LAST_REQUEST * 2, "{:?}", began.elapsed());
    }

    /// A listener's TLS, and a client that trusts its certificate.
    fn tls() -> (Arc<ServerTls>, tokio_rustls::TlsConnector, tempfile::TempDir) {
        let (folder, key) = (tempfile::tempdir().unwrap(), rcgen::KeyPair::generate().unwrap());
        let certificate = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
        std::fs::write(folder.path().join("chain.pem"), certificate.pem()).unwrap();
        std::fs::write(folder.path().join("key.pem"), key.serialize_pem()).unwrap();
        let text = "[facebook]\napp_id = \"1\"\napp_secret = \"a\"\nverify_token = \"b\"\n[spaces]\nbucket = \"pages\"\n\
                    access_key = \"c\"\nsecret_key = \"d\"\n[store]\nkey = \"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\"\n\
                    [session]\nstate_secret = \"long-enough\"\n[http.tls]\ncertificate = \"chain.pem\"\n\
                    key = { file = \"key.pem\" }\n";
        let config = Config::load_text(&folder.path().join("config.toml"), text, &|_| None).unwrap().config;
        let tls = ServerTls::build(&config, &Arc::default(), &Arc::default()).unwrap().unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(certificate.der().clone()).unwrap();
        let client = rustls::ClientConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        (Arc::new(tls), Arc::new(client).into(), folder)
    }

    #[tokio::test(start_paused = true)]
    async fn a_handshake_and_a_request_that_come_just_as_the_listener_closes_are_answered() {
        let (tls, connector, _folder) = tls();
        let (client, connections) = talk_on(Terms { tls: Some(tls), ..TERMS });
        tokio::task::yield_now().await;
        connections.give_all(Signal::Stop);
        tokio::time::sleep(LAST_REQUEST / 2).await;
        let mut client = connector.connect("localhost".try_into().unwrap(), client).await.unwrap();
        client.write_all(REQUEST).await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("connection: close"), "{answer:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_handshake_that_does_not_begin_ends_in_time_and_at_once_when_the_listener_closes() {
        let (tls, _, _folder) = tls();
        for (signal, most) in
            [(None, TERMS.header_timeout), (Some(Signal::Stop), LAST_REQUEST), (Some(Signal::Close), Duration::ZERO)]
        {
            let (mut client, connections) = talk_on(Terms { tls: Some(tls.clone()), ..TERMS });
            let began = tokio::time::Instant::now();
            tokio::task::yield_now().await;
            signal.into_iter().for_each(|signal| connections.give_all(signal));
            assert_eq!(client.read(&mut [0; 16]).await.unwrap(), 0);
            assert!(began.elapsed() <= most + Duration::from_millis(5), "{signal:?}: {:?}", began.elapsed());
        }
    }

    #[tokio::test]
    async fn a_handler_that_panics_is_an_answer() {
        let (address, _counted, _stop) = listening(|_, _| async { panic!("a drill") }).await;
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
    }
}
