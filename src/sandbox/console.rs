//! The console: a page in the browser that shows the system at work.
//!
//! It is the status page of the daemon ([`status_page`]) and the world around it: it shows the two side by side, live
//! by server-sent events, and offers the actions of persons, the faults, and killing and starting the daemon, or each
//! of several and their database. What the status page asks the daemon is passed on ([`relay`]). It needs no password,
//! so it serves loopback only: a request must name a loopback host (else a web page elsewhere could point its own name
//! here), and a change must come as JSON from the console's own origin (else any page in the same browser could make
//! it).
//!
//! The server holds everything that is shown, recent events included. The address holds the open tab, the selected page
//! and the scroll position. So a reload changes nothing.
//!
//! Routes: `GET /`, `/console.css`, the scripts, and `/assets/` and `/v1/` as the daemon has them; `GET /api/state`,
//! `/api/feed`, `/api/pages`, `/api/pages/{id}`, `/api/shops/{shop}`, `/api/events`; `POST
//! /api/{edit,shuffle,fault,calm,person,page,shop,product,shop_fault,daemon,database,login}`.

mod actions;
mod acts;
mod control;
mod daemons;
mod relay;
mod shops;
mod view;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::StatusCode;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::{Request, Response};
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast, watch};

use super::activity::{ActivityKind, WorldEvent};
use super::fault::{Fault, Side};
use super::wire::{Body, BodyError, Broken, Face, Gate, Handler, collect, full};
use super::world::World;
use crate::core::model::WallTime;
use crate::http::loopback::is_loopback;
use crate::http::status_page;
pub use control::{DaemonControl, DaemonState, DatabaseView, FleetControl, MemberAction, MemberView};

/// The document, with the tabs and sections of the status page in it.
static HTML: LazyLock<String> = LazyLock::new(|| status_page::with_sections(include_str!("console/console.html")));
const CSS: &str = include_str!("console/console.css");
/// The scripts, by their paths.
const SCRIPTS: [(&str, &str); 7] = [
    ("/console.js", include_str!("console/console.js")),
    ("/base.js", include_str!("console/base.js")),
    ("/daemons.js", include_str!("console/daemons.js")),
    ("/feed.js", include_str!("console/feed.js")),
    ("/pages.js", include_str!("console/pages.js")),
    ("/panels.js", include_str!("console/panels.js")),
    ("/shops.js", include_str!("console/shops.js")),
];

const BODY_LIMIT: usize = 1 << 20;
const WATCHERS: usize = 32;
const EVENTS_AT_ONCE: usize = 200;
/// How often the daemon is asked how it is.
const PULSE: Duration = Duration::from_millis(700);

/// The daemon's last answers about its state.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Pulse {
    daemon: Value,
    /// Where there are several: each of them, and their database.
    daemons: Value,
    status: Value,
    /// Its links. One that does not answer keeps those that it had.
    pages: Value,
    /// Its links of shops, likewise.
    shops: Value,
    /// When it was asked for the pages.
    asked_at: WallTime,
}

impl Pulse {
    /// Is this the same but for the moment?
    fn is_like(&self, other: &Pulse) -> bool {
        let Pulse { daemon, daemons, status, pages, shops, asked_at: _ } = self;
        (daemon, daemons, status, pages, shops)
            == (&other.daemon, &other.daemons, &other.status, &other.pages, &other.shops)
    }
}

/// The daemon's dependencies: the pointer into its status, the name, and the side whose faults make it fail.
const NEEDS: [(&str, &str, Option<Side>); 4] = [
    ("/store", "its store", None),
    ("/graph/health", "Graph", Some(Side::Graph)),
    ("/spaces", "Spaces", Some(Side::Spaces)),
    ("/notify", "the receiver of events", Some(Side::Events)),
];

struct Console {
    world: World,
    control: Arc<dyn DaemonControl>,
    pulse: watch::Sender<Arc<Pulse>>,
    watchers: Arc<Semaphore>,
}

/// A console that serves.
pub struct Running {
    /// Where.
    pub addr: SocketAddr,
    face: Face,
    pulse: Mutex<Option<tokio::task::JoinHandle<()>>>,
}

impl Running {
    /// The page's address.
    pub fn url(&self) -> String {
        format!("http://{}/", self.addr)
    }

    /// Closes it, open event streams included.
    pub async fn stop(&self) {
        let pulse = self.pulse.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(pulse) = pulse {
            pulse.abort();
        }
        self.face.stop().await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(pulse) = self.pulse.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            pulse.abort();
        }
    }
}

/// Serves the console of this world at `addr`, which must be a loopback address.
///
/// # Errors
/// The address is not loopback or is taken.
pub async fn serve(addr: SocketAddr, world: World, control: Arc<dyn DaemonControl>) -> io::Result<Running> {
    if !addr.ip().is_loopback() {
        let text = "the console has no password and serves loopback addresses alone";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    let console = Arc::new(Console {
        world: world.clone(),
        control,
        pulse: watch::Sender::new(Arc::default()),
        watchers: Arc::new(Semaphore::new(WATCHERS)),
    });
    let open: Gate = Arc::new(|| true);
    let served = console.clone();
    let handler: Handler = Arc::new(move |request| {
        let console = served.clone();
        Box::pin(async move { Ok::<_, Broken>(console.answer(request).await) })
    });
    let face = Face::start(addr, handler, open, world.watch_faults()).await?;
    let pulse = tokio::spawn(async move { console.feel_pulse().await });
    Ok(Running { addr: face.addr, face, pulse: Mutex::new(Some(pulse)) })
}

/// The answer of a route: JSON, or a text for a person with a status.
type Answer = Result<Value, (StatusCode, String)>;

fn bad(words: impl ToString) -> (StatusCode, String) {
    (StatusCode::BAD_REQUEST, words.to_string())
}

impl Console {
    async fn feel_pulse(&self) {
        loop {
            let asked_at = WallTime::now();
            let status = self.control.status_json().await.unwrap_or_default();
            let last = self.pulse.borrow().clone();
            let (pages, asked_at) = match self.control.pages_json().await {
                Some(pages) => (pages, asked_at),
                None => (last.pages.clone(), last.asked_at),
            };
            let shops = self.control.shops_json().await.unwrap_or_else(|| last.shops.clone());
            let daemon = serde_json::to_value(self.control.state()).unwrap_or_default();
            self.report_needs(&last.status, &status);
            let mut pulse = Pulse { daemon, daemons: Value::Null, status, pages, shops, asked_at };
            pulse.daemons = self.daemons(&pulse);
            self.report_daemons(&last.daemons, &pulse.daemons);
            self.pulse.send_if_modified(|last| {
                let changed = !last.is_like(&pulse);
                *last = Arc::new(pulse);
                changed
            });
            tokio::time::sleep(PULSE).await;
        }
    }

    /// Puts a dependency that began to fail into the feed, with the daemon's own cause, and one that answers again. A
    /// refused connection never reaches the world, so only the daemon can report it.
    fn report_needs(&self, before: &Value, now: &Value) {
        for (pointer, name, side) in NEEDS {
            let ok = |status: &Value| status.pointer(pointer).and_then(|need| need["ok"].as_bool());
            match (ok(before), ok(now)) {
                (was, Some(false)) if was != Some(false) => {
                    let error =
                        now.pointer(pointer).and_then(|need| need["error"].as_str()).unwrap_or("no cause given");
                    let text = format!("pagesyncd: {name} fails, it tries again by itself: {error}");
                    self.world.tell(ActivityKind::Daemon, None, false, text + &self.faults_of(side));
                }
                (Some(false), Some(true)) => {
                    self.world.tell(ActivityKind::Daemon, None, true, format!("pagesyncd: {name} answers again"));
                }
                _ => {}
            }
        }
    }

    /// The faults of this side that are on, as text to append to a cause.
    fn faults_of(&self, side: Option<Side>) -> String {
        let on = self.world.faults().into_iter().map(|(fault, _)| fault);
        let titles: Vec<String> = on.filter(|fault| Some(fault.side()) == side).map(Fault::title).collect();
        if titles.is_empty() { String::new() } else { format!(" (switched on: {})", titles.join("; ")) }
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        if let Err(words) = guard(&request) {
            return error(StatusCode::FORBIDDEN, words);
        }
        let (method, path) = (request.method().as_str().to_owned(), request.uri().path().to_owned());
        let query = request.uri().query().unwrap_or_default().to_owned();
        let whole = request.uri().path_and_query().map(|whole| whole.as_str().to_owned()).unwrap_or_default();
        match (method.as_str(), path.as_str()) {
            ("GET", "/") => page("text/html; charset=utf-8", HTML.as_str()),
            ("GET", "/console.css") => page("text/css; charset=utf-8", CSS),
            ("GET", "/api/events") => self.events(),
            ("GET", "/api/feed") => answered(Ok(named(&self.world, &self.world.recent()))),
            ("GET", "/api/state") => answered(Ok(self.state())),
            ("GET", "/api/pages") => answered(Ok(self.pages(&query))),
            ("GET", path) if path.starts_with("/api/pages/") => answered(self.page(&path["/api/pages/".len()..])),
            ("GET", path) if path.starts_with("/api/shops/") => {
                answered(self.shop(&path["/api/shops/".len()..], &query))
            }
            ("POST", path) if path.starts_with("/api/") => {
                let body = collect(request.into_body(), BODY_LIMIT).await;
                let body = body.and_then(|bytes| serde_json::from_slice(&bytes).ok());
                match body {
                    Some(body) => answered(self.action(&path["/api/".len()..], body).await),
                    None => error(StatusCode::BAD_REQUEST, "the body is not JSON, or too long"),
                }
            }
            ("GET", path) if path.starts_with("/v1/") => self.relay(&whole).await,
            ("GET", path) if path.starts_with("/assets/") => match status_page::asset(&path["/assets/".len()..]) {
                Some((content_type, text)) => page(content_type, text),
                None => error(StatusCode::NOT_FOUND, "nothing here"),
            },
            ("GET", path) => match SCRIPTS.iter().find(|(name, _)| *name == path) {
                Some((_, script)) => page("text/javascript; charset=utf-8", *script),
                None => error(StatusCode::NOT_FOUND, "nothing here"),
            },
            _ => error(StatusCode::METHOD_NOT_ALLOWED, "not that way"),
        }
    }

    /// World events as they come, several in one message when they come fast, and the daemon's pulse.
    fn events(&self) -> Response<Body> {
        let Ok(permit) = self.watchers.clone().try_acquire_owned() else {
            return error(StatusCode::SERVICE_UNAVAILABLE, "too many consoles are open");
        };
        let mut pulse = self.pulse.subscribe();
        pulse.mark_changed();
        let watcher = Watcher { world: self.world.clone(), events: self.world.events(), pulse, _permit: permit };
        let messages = stream::unfold(watcher, |mut watcher| async move {
            let message = watcher.next().await?;
            Some((Ok::<_, BodyError>(Frame::data(Bytes::from(message))), watcher))
        });
        let mut answer = page("text/event-stream", "");
        *answer.body_mut() = StreamBody::new(messages).boxed_unsync();
        answer
    }
}

struct Watcher {
    world: World,
    events: broadcast::Receiver<WorldEvent>,
    pulse: watch::Receiver<Arc<Pulse>>,
    _permit: OwnedSemaphorePermit,
}

/// The events, each with the name of its page.
fn named(world: &World, batch: &[WorldEvent]) -> Value {
    let mut events = json!(batch);
    world.look(|s| {
        for event in events.as_array_mut().into_iter().flatten() {
            let page = event["page"].as_str().and_then(|id| s.pages.get(id));
            event["name"] = page.map(|p| p.name().to_owned()).into();
        }
    });
    events
}

impl Watcher {
    async fn next(&mut self) -> Option<String> {
        tokio::select! {
            event = self.events.recv() => match event {
                Ok(first) => {
                    // Events that arrive within this time become one message.
                    tokio::time::sleep(Duration::from_millis(40)).await;
                    let mut batch = vec![first];
                    while batch.len() < EVENTS_AT_ONCE && let Ok(event) = self.events.try_recv() {
                        batch.push(event);
                    }
                    Some(format!("event: world\ndata: {}\n\n", named(&self.world, &batch)))
                }
                // The page reads everything afresh.
                Err(broadcast::error::RecvError::Lagged(_)) => Some("event: lagged\ndata: 0\n\n".into()),
                Err(broadcast::error::RecvError::Closed) => None,
            },
            changed = self.pulse.changed() => {
                changed.ok()?;
                let pulse = self.pulse.borrow_and_update().clone();
                let data = json!({"daemon": pulse.daemon, "daemons": pulse.daemons, "status": pulse.status});
                Some(format!("event: daemon\ndata: {data}\n\n"))
            }
            () = tokio::time::sleep(Duration::from_secs(15)) => Some(": still here\n\n".into()),
        }
    }
}

/// Only a browser or a program on this machine, and changes only from the console's own page.
fn guard(request: &Request<Incoming>) -> Result<(), &'static str> {
    let header = |name: &str| request.headers().get(name).and_then(|v| v.to_str().ok());
    let host = header("host").unwrap_or_default();
    if !is_loopback(host) {
        return Err("the console answers to loopback names alone");
    }
    if request.method() == "GET" {
        return Ok(());
    }
    if header("origin").is_some_and(|origin| origin != format!("http://{host}")) {
        return Err("changes come from the console's own page alone");
    }
    if !header("content-type").is_some_and(|kind| kind.starts_with("application/json")) {
        return Err("changes come as application/json");
    }
    Ok(())
}

fn page(content_type: &'static str, text: impl Into<Bytes>) -> Response<Body> {
    let mut answer = Response::new(full(text));
    for (name, value) in [
        ("content-type", content_type),
        ("cache-control", "no-store"),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("content-security-policy", status_page::POLICY),
    ] {
        answer.headers_mut().insert(name, http::HeaderValue::from_static(value));
    }
    answer
}

fn answered(answer: Answer) -> Response<Body> {
    match answer {
        Ok(value) => page("application/json", value.to_string()),
        Err((status, words)) => error(status, &words),
    }
}

fn error(status: StatusCode, words: &str) -> Response<Body> {
    let mut answer = page("application/json", json!({"error": words}).to_string());
    *answer.status_mut() = status;
    answer
}
