//! A Graph and a Spaces that do little, take a set time for it, and count. Each read of a page brings other data, so
//! that a read too many shows as a write too many.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::Fallible;

pub const APP_ID: &str = "4242";
const NOT_THERE: &str = "<?xml version=\"1.0\"?><Error><Code>NoSuchKey</Code><Message>no</Message></Error>";

/// What happened, and how long it takes.
#[derive(Debug, Default)]
struct State {
    graph_takes: Duration,
    spaces_takes: Duration,
    /// When each read and write ended.
    reads: Vec<(String, Instant)>,
    writes: Vec<(String, Instant)>,
    /// Where each page was read last.
    readers: HashMap<String, SocketAddr>,
    tags: HashMap<String, String>,
    /// Of all reads: what the next one brings that none before did.
    version: usize,
}

/// Both servers, which live as long as the runtime.
#[derive(Clone)]
pub struct Outside {
    state: Arc<Mutex<State>>,
    pub graph: SocketAddr,
    pub spaces: SocketAddr,
}

impl Outside {
    pub async fn start() -> Fallible<Outside> {
        Outside::over(Arc::default()).await
    }

    /// The same at other addresses, so that the reads of another daemon can be distinguished from those of the first.
    pub async fn another(&self) -> Fallible<Outside> {
        Outside::over(self.state.clone()).await
    }

    async fn over(state: Arc<Mutex<State>>) -> Fallible<Outside> {
        let (graph, spaces) = (TcpListener::bind("127.0.0.1:0").await?, TcpListener::bind("127.0.0.1:0").await?);
        let outside = Outside { state, graph: graph.local_addr()?, spaces: spaces.local_addr()? };
        let (of_graph, of_spaces) = (outside.clone(), outside.clone());
        tokio::spawn(serve(graph, move |request| of_graph.clone().ask_graph(request)));
        tokio::spawn(serve(spaces, move |request| of_spaces.clone().ask_spaces(request)));
        Ok(outside)
    }

    fn look<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.state.lock().expect("no holder of this lock panics"))
    }

    /// How long each answer takes from now on.
    pub fn takes(&self, graph: Duration, spaces: Duration) {
        self.look(|state| (state.graph_takes, state.spaces_takes) = (graph, spaces));
    }

    /// Reads and writes since this was asked last.
    pub fn take(&self) -> Done {
        self.look(|state| Done { reads: std::mem::take(&mut state.reads), writes: std::mem::take(&mut state.writes) })
    }

    /// The address of Graph at which this page was read last.
    pub fn reader(&self, page: &str) -> Option<SocketAddr> {
        self.look(|state| state.readers.get(page).copied())
    }

    pub fn counts(&self) -> (usize, usize) {
        self.look(|state| (state.reads.len(), state.writes.len()))
    }

    async fn ask_graph(self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let is_get = request.method() == Method::GET;
        let path: Vec<String> = request.uri().path().split('/').skip(2).map(str::to_owned).collect();
        let _ = request.into_body().collect().await;
        tokio::time::sleep(self.look(|state| state.graph_takes)).await;
        let answer = match path.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            ["debug_token"] => json!({"data": {"app_id": APP_ID, "is_valid": true, "type": "PAGE"}}),
            [page] if is_get => self.look(|state| {
                state.reads.push((page.to_owned(), Instant::now()));
                state.readers.insert(page.to_owned(), self.graph);
                state.version += 1;
                page_data(page, state.version)
            }),
            [_, "subscribed_apps"] if is_get => {
                json!({"data": [{"id": APP_ID, "subscribed_fields": ["name", "description"]}]})
            }
            [_, "subscriptions"] if is_get => json!({"data": []}),
            _ => json!({"success": true}),
        };
        Response::builder()
            .header("content-type", "application/json")
            .body(Full::from(answer.to_string()))
            .unwrap_or_default()
    }

    async fn ask_spaces(self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (method, key) = (request.method().clone(), request.uri().path().to_owned());
        let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        tokio::time::sleep(self.look(|state| state.spaces_takes)).await;
        let answer = Response::builder();
        let answer = match method {
            Method::PUT => {
                let tag = format!("\"{:x}\"", md5::compute(&body));
                self.look(|state| {
                    let page = key.rsplit('/').nth(1).unwrap_or_default().to_owned();
                    state.writes.push((page, Instant::now()));
                    state.tags.insert(key, tag.clone());
                });
                answer.header("etag", tag).body(Full::default())
            }
            _ => match self.look(|state| state.tags.get(&key).cloned()) {
                Some(tag) => answer.header("etag", tag).body(Full::default()),
                None => answer.status(404).body(Full::from(NOT_THERE)),
            },
        };
        answer.unwrap_or_default()
    }
}

/// What was read and written, each with its page and the moment of its end.
pub struct Done {
    pub reads: Vec<(String, Instant)>,
    pub writes: Vec<(String, Instant)>,
}

/// About what a page with the usual fields has.
fn page_data(page: &str, version: usize) -> Value {
    let hours: HashMap<String, &str> =
        ["mon", "tue", "wed", "thu", "fri"].iter().map(|day| (format!("{day}_1_open"), "09:00")).collect();
    json!({
        "id": page, "name": format!("Page {page}"), "about": format!("Version {version}"), "category": "Bakery",
        "description": "A bakery at the corner, since 1893. ".repeat(12), "emails": ["mail@example.org"],
        "fan_count": 1234, "followers_count": version, "hours": hours, "is_published": true,
        "location": {"city": "Berlin", "country": "Germany", "latitude": 52.5, "longitude": 13.4, "street": "A 1"},
        "link": format!("https://www.facebook.com/{page}"), "phone": "+49 30 1234567", "website": "https://example.org",
        "picture": {"data": {"height": 50, "is_silhouette": false, "url": "https://scontent.example/x?oe=1", "width": 50}},
        "cover": {"id": "9", "source": "https://scontent.example/c?oe=1"},
    })
}

async fn serve<A>(listener: TcpListener, answer: impl Fn(Request<Incoming>) -> A + Clone + Send + 'static)
where
    A: Future<Output = Response<Full<Bytes>>> + Send + 'static,
{
    while let Ok((stream, _)) = listener.accept().await {
        let _ = stream.set_nodelay(true);
        let answer = answer.clone();
        let service = service_fn(move |request| {
            let answer = answer(request);
            async move { Ok::<_, Infallible>(answer.await) }
        });
        tokio::spawn(async move {
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}
