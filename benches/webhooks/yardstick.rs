//! The yardsticks: the least that a server can do with a delivery, in a process of its own.
//!
//! `bare` checks the signature and stores nothing. `durable` also appends the delivery to a file as one line, and
//! answers when the line is on the disk; deliveries that wait at the same time share one `fdatasync`. Both are made of
//! the libraries that the daemon is made of, with the same runtime. A bench may bring another way to keep deliveries.

use std::convert::Infallible;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::pin::Pin;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use bytes::Bytes;
use hmac::{Hmac, Mac};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use sha2::Sha256;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::process::Pinning;

/// The first argument of a process that is a yardstick.
pub const ARGUMENT: &str = "yardstick";
const SECRET: &str = "PAGESYNCD_YARDSTICK_SECRET";

/// A kind of yardstick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Bare,
    Durable,
    /// As `bare`, and a row for each delivery in a database.
    Insert,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Bare => "bare",
            Kind::Durable => "durable",
            Kind::Insert => "insert",
        }
    }
}

/// A yardstick that runs. Dropping it ends it.
pub struct Yardstick {
    child: Child,
    pub address: SocketAddr,
}

impl Yardstick {
    /// Starts this program as a yardstick that expects signatures with `secret`. `place` is where it keeps deliveries: a
    /// file, or the address of a database.
    pub fn start(kind: Kind, pinning: &Pinning, secret: &str, place: &Path) -> io::Result<Yardstick> {
        let mut command = pinning.server(&std::env::current_exe()?);
        command.args([ARGUMENT, kind.name()]).arg(place).env(SECRET, secret);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("its output is piped")).read_line(&mut line)?;
        let address = line.trim().parse().map_err(|_| io::Error::other("the yardstick did not start"))?;
        Ok(Yardstick { child, address })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Yardstick {
    fn drop(&mut self) {
        // A yardstick that has ended cannot be killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Is a yardstick, with these arguments, until it is killed.
pub fn serve(arguments: &[String]) -> io::Result<()> {
    let keep = match arguments {
        [kind, file] if kind == Kind::Durable.name() => Some(append(committer(File::create(file)?))),
        [kind, _] if kind == Kind::Bare.name() => None,
        _ => return Err(io::Error::other("a yardstick is `bare FILE` or `durable FILE`")),
    };
    serve_with(async { Ok(keep) })
}

/// Is a yardstick that keeps deliveries in this way, until it is killed.
pub fn serve_with(keep: impl Future<Output = io::Result<Option<Keep>>>) -> io::Result<()> {
    let secret = std::env::var(SECRET).map_err(io::Error::other)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let server = Arc::new(Server { secret, keep: keep.await? });
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        println!("{}", listener.local_addr()?);
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let server = server.clone();
            tokio::spawn(async move {
                let service = service_fn(|request| answer(&server, request));
                // A connection that breaks concerns its client alone.
                let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            });
        }
    })
}

/// Keeps a delivery; `None` when it was lost.
pub type Keep = Box<dyn Fn(Bytes) -> Pin<Box<dyn Future<Output = Option<()>> + Send>> + Send + Sync>;

struct Server {
    secret: String,
    keep: Option<Keep>,
}

async fn answer(server: &Server, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (status, text) = match accept(server, request).await {
        Some(true) => (StatusCode::OK, r#"{"status":"success"}"#),
        Some(false) => (StatusCode::UNAUTHORIZED, r#"{"error":"bad_signature"}"#),
        None => (StatusCode::SERVICE_UNAVAILABLE, r#"{"error":"unavailable"}"#),
    };
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert("content-type", http::HeaderValue::from_static("application/json"));
    Ok(response)
}

/// Whether the signature is right; `None` when the body or the line was lost.
async fn accept(server: &Server, request: Request<Incoming>) -> Option<bool> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.ok()?.to_bytes();
    if !is_signed(&head.headers, &body, &server.secret) {
        return Some(false);
    }
    if let Some(keep) = &server.keep {
        keep(body).await?;
    }
    Some(true)
}

fn is_signed(headers: &HeaderMap, body: &[u8], secret: &str) -> bool {
    let signature = headers.get("x-hub-signature-256").and_then(|value| value.to_str().ok());
    let signature = signature.and_then(|text| text.strip_prefix("sha256=")).and_then(|text| hex::decode(text).ok());
    let Ok(mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else { return false };
    signature.is_some_and(|signature| mac.chain_update(body).verify_slice(&signature).is_ok())
}

/// A line to append.
struct Line {
    text: Bytes,
    durable: oneshot::Sender<()>,
}

/// Keeps deliveries with this committer.
fn append(lines: Sender<Line>) -> Keep {
    Box::new(move |text| {
        let (durable, became_durable) = oneshot::channel();
        let sent = lines.send(Line { text, durable });
        Box::pin(async move {
            sent.ok()?;
            became_durable.await.ok()
        })
    })
}

/// Starts the thread that appends lines to the file.
fn committer(file: File) -> Sender<Line> {
    let (sender, lines) = channel();
    std::thread::spawn(move || commit(file, &lines));
    sender
}

/// Takes all lines that wait, writes them in one piece, and confirms them when they are on the disk. After a failed
/// write it ends, and deliveries are answered 503.
fn commit(mut file: File, lines: &Receiver<Line>) -> io::Result<()> {
    while let Ok(first) = lines.recv() {
        let group: Vec<Line> = std::iter::once(first).chain(lines.try_iter()).collect();
        let piece: Vec<u8> = group.iter().flat_map(|line| line.text.iter().copied().chain([b'\n'])).collect();
        file.write_all(&piece)?;
        file.sync_data()?;
        for line in group {
            // The client may have gone away.
            let _ = line.durable.send(());
        }
    }
    Ok(())
}
