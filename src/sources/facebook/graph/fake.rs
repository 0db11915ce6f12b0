//! A Graph for the tests: a loopback server that answers by a script, wire faults included, and records the requests.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::HeaderMap;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::{Gate, GraphClient, GraphSettings};
use crate::core::model::Secret;
use crate::metrics::Metrics;

/// What the app's clients of the tests are called.
pub(crate) const APP_ID: &str = "4242";
/// And their secret.
pub(crate) const APP_SECRET: &str = "0123456789abcdef0123456789abcdef";

/// One answer.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    /// JSON with this status.
    Json(u16, Value),
    /// Text with this status.
    Text(u16, String),
    /// JSON with status 200 and these headers.
    Headers(Vec<(&'static str, String)>, Value),
    /// Half of the promised bytes, then the connection ends.
    Truncated(Value),
    /// The connection ends without an answer.
    Reset,
    /// No answer ever.
    Stall,
}

impl Reply {
    /// A Graph error.
    pub(crate) fn error(status: u16, code: i64, message: &str) -> Reply {
        Reply::Json(status, serde_json::json!({"error": {"message": message, "type": "OAuthException", "code": code}}))
    }
}

/// One request that came.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: String,
    /// Path and query as they stood on the wire.
    pub(crate) target: String,
    pub(crate) path: String,
    pub(crate) query: BTreeMap<String, String>,
    pub(crate) form: BTreeMap<String, String>,
    pub(crate) bearer: Option<String>,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Seen {
    /// The parameter, wherever it stood.
    pub(crate) fn param(&self, key: &str) -> &str {
        self.query.get(key).or_else(|| self.form.get(key)).map(String::as_str).unwrap_or_default()
    }
}

type Handler = dyn Fn(&Seen) -> Reply + Send + Sync;

/// The server. It ends when dropped.
pub(crate) struct Fake {
    addr: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    task: JoinHandle<()>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) gate: Arc<Gate>,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Fake {
    /// Answers by this function.
    pub(crate) async fn start(handler: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let handler: Arc<Handler> = Arc::new(handler);
        let task = tokio::spawn(accept(listener, seen.clone(), handler));
        Fake { addr, seen, task, metrics: Arc::new(Metrics::new()), gate: Gate::new(8) }
    }

    /// Plays these answers in order; what comes after the last is answered 599.
    pub(crate) async fn script(replies: impl IntoIterator<Item = Reply>) -> Fake {
        let replies: Mutex<VecDeque<Reply>> = Mutex::new(replies.into_iter().collect());
        let over = || Reply::Text(599, "the script is over".to_owned());
        Fake::start(move |_| replies.lock().unwrap().pop_front().unwrap_or_else(over)).await
    }

    /// The server's address.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/", self.addr)
    }

    /// A client of this server.
    pub(crate) fn client(&self) -> GraphClient {
        let settings = settings(&self.url());
        GraphClient::new(settings, self.metrics.clone(), self.gate.clone()).unwrap()
    }

    /// The requests so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// How many requests of this call ended with this outcome.
    pub(crate) fn counted(&self, call: &str, outcome: &str) -> usize {
        let start = format!("pagesyncd_graph_requests_total{{call=\"{call}\",outcome=\"{outcome}\"}} ");
        let text = self.metrics.encode();
        text.lines().find_map(|line| line.strip_prefix(&start)).map_or(0, |count| count.parse().unwrap())
    }
}

/// Settings for a client of `url`.
pub(crate) fn settings(url: &str) -> GraphSettings {
    GraphSettings {
        graph_url: url.to_owned(),
        version: "v26.0".to_owned(),
        app_id: APP_ID.to_owned(),
        app_secret: Secret::new(APP_SECRET),
        request_timeout: Duration::from_secs(5),
        max_in_flight: 8,
        trust: crate::http_client::Trust::default(),
    }
}

async fn accept(listener: TcpListener, seen: Arc<Mutex<Vec<Seen>>>, handler: Arc<Handler>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (seen, handler) = (seen.clone(), handler.clone());
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(request, seen.clone(), handler.clone()));
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

type Answer = Response<BoxBody<Bytes, std::io::Error>>;

async fn answer(
    request: Request<Incoming>,
    seen: Arc<Mutex<Vec<Seen>>>,
    handler: Arc<Handler>,
) -> std::io::Result<Answer> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
    let pairs = |bytes: &[u8]| url::form_urlencoded::parse(bytes).into_owned().collect();
    let bearer = parts.headers.get("authorization").and_then(|value| value.to_str().ok());
    let one = Seen {
        method: parts.method.to_string(),
        target: parts.uri.to_string(),
        path: parts.uri.path().to_owned(),
        query: pairs(parts.uri.query().unwrap_or_default().as_bytes()),
        form: pairs(&body),
        bearer: bearer.and_then(|value| value.strip_prefix("Bearer ")).map(str::to_owned),
        headers: parts.headers,
        body,
    };
    let reply = handler(&one);
    seen.lock().unwrap().push(one);
    let full = |status: u16, text: String| {
        let body = Full::new(Bytes::from(text)).map_err(|never: Infallible| match never {}).boxed();
        Response::builder().status(status).body(body).map_err(std::io::Error::other)
    };
    match reply {
        Reply::Json(status, value) => full(status, value.to_string()),
        Reply::Text(status, text) => full(status, text),
        Reply::Headers(headers, value) => {
            let mut response = full(200, value.to_string())?;
            for (name, value) in headers {
                response.headers_mut().insert(name, value.parse().unwrap());
            }
            Ok(response)
        }
        Reply::Truncated(value) => {
            let text = value.to_string();
            let half = Bytes::from(text[..text.len() / 2].to_owned());
            let frames = [Ok(Frame::data(half)), Err(std::io::Error::other("cut"))];
            let body = BodyExt::boxed(StreamBody::new(stream::iter(frames)));
            Ok(Response::builder().header("content-length", text.len()).body(body).unwrap())
        }
        Reply::Reset => Err(std::io::Error::other("reset")),
        Reply::Stall => std::future::pending().await,
    }
}
