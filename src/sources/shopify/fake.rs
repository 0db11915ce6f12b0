//! A Shopify for the tests: a loopback server that answers by a script, wire faults included, and records the requests.

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
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::client::ShopifyClient;
use super::settings::ShopifySettings;
use crate::core::model::{Secret, ShopName};
use crate::metrics::Metrics;

/// The client secret of the tests.
pub(crate) const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// The shop of the tests.
pub(crate) fn shop() -> ShopName {
    "some-shop.myshopify.com".parse().unwrap()
}

/// One answer.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    /// JSON with this status.
    Json(u16, Value),
    /// Text with this status.
    Text(u16, String),
    /// JSON with this status and these headers.
    Headers(u16, Vec<(&'static str, String)>, Value),
    /// Half of the promised bytes, then the connection ends.
    Truncated(Value),
    /// The connection ends without an answer.
    Reset,
    /// No answer ever.
    Stall,
}

impl Reply {
    /// An answer of the Admin API with this data, for which nobody has to wait.
    pub(crate) fn data(data: Value) -> Reply {
        let status = json!({"maximumAvailable": 10_000.0, "currentlyAvailable": 9_999, "restoreRate": 1000.0});
        let cost = json!({"requestedQueryCost": 10, "actualQueryCost": 1, "throttleStatus": status});
        Reply::Json(200, json!({"data": data, "extensions": {"cost": cost}}))
    }

    /// An error of the Admin API with this code.
    pub(crate) fn error(code: &str) -> Reply {
        Reply::Json(200, json!({"errors": [{"message": "m", "extensions": {"code": code}}]}))
    }
}

/// One request that came.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) path: String,
    pub(crate) form: BTreeMap<String, String>,
    pub(crate) json: Value,
    pub(crate) token: Option<String>,
    pub(crate) headers: HeaderMap,
}

impl Seen {
    /// The name of the operation.
    pub(crate) fn operation(&self) -> &str {
        self.json["operationName"].as_str().unwrap_or_default()
    }
}

type Handler = dyn Fn(&Seen) -> Reply + Send + Sync;

/// The server. It ends when dropped.
pub(crate) struct Fake {
    addr: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    task: JoinHandle<()>,
    pub(crate) metrics: Arc<Metrics>,
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
        Fake { addr, seen, task, metrics: Arc::new(Metrics::new()) }
    }

    /// Plays these answers in order; what comes after the last is answered 599.
    pub(crate) async fn script(replies: impl IntoIterator<Item = Reply>) -> Fake {
        let replies: Mutex<VecDeque<Reply>> = Mutex::new(replies.into_iter().collect());
        let over = || Reply::Text(599, "the script is over".to_owned());
        Fake::start(move |_| replies.lock().unwrap().pop_front().unwrap_or_else(over)).await
    }

    /// The server's address, without a closing slash.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Settings for a client of this server.
    pub(crate) fn settings(&self) -> ShopifySettings {
        let texts = |texts: [&str; 3]| texts.map(str::to_owned).to_vec();
        ShopifySettings {
            client_id: "app-id".to_owned(),
            client_secret: Secret::new(SECRET),
            api_version: "2026-10".to_owned(),
            api_url: Some(format!("{}/{{shop}}", self.url())),
            scopes: texts(["read_products", "read_legal_policies", "read_content"]),
            shop_fields: texts(["shop", "policies", "pages"]),
            subscribe_at: None,
            request_timeout: Duration::from_secs(5),
            trust: crate::http_client::Trust::default(),
        }
    }

    /// A client of this server.
    pub(crate) fn client(&self) -> ShopifyClient {
        ShopifyClient::new(self.settings(), self.metrics.clone()).unwrap()
    }

    /// The requests so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
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
    let token = parts.headers.get("x-shopify-access-token").and_then(|value| value.to_str().ok());
    let one = Seen {
        path: parts.uri.path().to_owned(),
        form: url::form_urlencoded::parse(&body).into_owned().collect(),
        json: serde_json::from_slice(&body).unwrap_or_default(),
        token: token.map(str::to_owned),
        headers: parts.headers,
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
        Reply::Headers(status, headers, value) => {
            let mut response = full(status, value.to_string())?;
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
