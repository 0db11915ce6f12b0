//! The local Facebook: the login dialog and the Graph API, on one address.
//!
//! A request passes these steps: its path and parameters become an `Ask`; the faults that are on may answer
//! instead; version and token are checked; the edge answers; the headers that Graph always sends are added. The
//! answers, wordings included, are those the real Graph gives.

pub mod answer;
mod ask;
pub(crate) mod dialog;
mod edges;
mod hooks;
mod oauth;

use std::sync::Arc;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::{Request, Response};

use self::answer::{Answer, GraphError};
use self::ask::Ask;
use super::fault::{Call, Fault, Side};
use super::wire::{Body, Broken, Handler, collect, full, half};
use super::world::World;

const BODY_LIMIT: usize = 4 << 20;

/// Graph's side of the world.
#[derive(Clone)]
pub(crate) struct Graph {
    pub(crate) world: World,
}

impl Graph {
    pub(crate) fn handler(self) -> Handler {
        let graph = Arc::new(self);
        Arc::new(move |request| {
            let graph = graph.clone();
            Box::pin(async move { graph.answer(request).await })
        })
    }

    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Body>, Broken> {
        let _inside = self.world.enter(Side::Graph);
        let (head, body) = request.into_parts();
        let host = head.headers.get("host").and_then(|h| h.to_str().ok()).unwrap_or("127.0.0.1").to_owned();
        let Some(body) = collect(body, BODY_LIMIT).await else { return Err(Broken) };
        let ask = Ask::new(&self.world, &head, &body, host);
        let call = ask.call;
        let struck = self.world.strike(call, ask.page());
        let trace = format!("A{:010x}", self.world.tick());
        if struck.contains(&Fault::GraphSlow) {
            let latency = self.world.lock().latency;
            tokio::time::sleep(latency).await;
        }
        let before = struck.iter().find_map(|fault| self.before(*fault, &trace));
        let answer = match before {
            Some(Stead::Answer(answer)) => answer,
            Some(Stead::Break(fault)) => {
                self.note(&ask, &fault.to_string());
                return Err(Broken);
            }
            Some(Stead::Hang(fault)) => {
                self.note(&ask, &fault.to_string());
                std::future::pending().await
            }
            None => self.dispatch(&ask, &trace).await,
        };
        if struck.contains(&Fault::GraphHeld) {
            self.world.hold(call, ask.page()).await;
        }
        self.finish(&ask, answer, &struck, &trace)
    }

    async fn dispatch(&self, ask: &Ask, trace: &str) -> Answer {
        let answer = match ask.call {
            Call::Dialog => Ok(dialog::answer(&self.world, ask)),
            Call::AppSubscribe => hooks::app_subscribe(&self.world, ask).await,
            _ => self.edge(ask),
        };
        answer.unwrap_or_else(|error| Answer::error(&error, trace))
    }

    fn edge(&self, ask: &Ask) -> Result<Answer, GraphError> {
        ask.refuse_removed()?;
        let world = &self.world;
        match ask.call {
            Call::ExchangeCode | Call::ExtendToken | Call::AppToken => oauth::access_token(world, ask),
            Call::DebugToken => oauth::debug_token(world, ask),
            Call::Me => edges::me(world, ask),
            Call::Permissions => edges::permissions(world, ask),
            Call::Revoke => edges::revoke(world, ask),
            Call::Accounts => edges::accounts(world, ask),
            Call::Businesses => edges::businesses(world, ask),
            Call::OwnedPages | Call::ClientPages => edges::business_pages(world, ask),
            Call::ReadPage => edges::read_page(world, ask),
            Call::ReadSubscribed => hooks::read_subscribed(world, ask),
            Call::Subscribe => hooks::subscribe(world, ask),
            Call::Unsubscribe => hooks::unsubscribe(world, ask),
            Call::ReadAppSubscriptions => hooks::read_app(world, ask),
            Call::AppUnsubscribe => hooks::app_unsubscribe(world, ask),
            _ => Err(edges::unknown(world, ask)),
        }
    }

    /// What a fault does before the edge is asked.
    fn before(&self, fault: Fault, trace: &str) -> Option<Stead> {
        let error = |code, subcode| Answer::error(&GraphError::row(code, subcode), trace);
        let mut answer = match fault {
            Fault::GraphReset => return Some(Stead::Break(fault)),
            Fault::GraphHang => return Some(Stead::Hang(fault)),
            Fault::GraphUnavailable => Answer::html(
                503,
                "<html><head><title>Error</title></head><body><h1>Sorry, something went wrong.</h1></body></html>",
            ),
            Fault::JunkHtml => Answer::html(200, "<!DOCTYPE html><html><body>Facebook</body></html>"),
            Fault::JunkEmpty => Answer { body: Vec::new(), ..Answer::json(&false.into()) },
            Fault::JunkFalse => Answer::json(&false.into()),
            Fault::JunkBareError => Answer::bare_error(&GraphError::row(190, 463), trace),
            Fault::ThrottleApp => error(4, 0),
            Fault::ThrottleUser => error(17, 0),
            Fault::ThrottlePage => error(32, 0),
            Fault::ThrottleBusiness => error(80001, 0),
            Fault::ThrottleCustom => error(613, 0),
            Fault::Code { code, subcode } => error(code, subcode),
            _ => return None,
        };
        answer.outcome = fault.to_string();
        Some(Stead::Answer(answer))
    }

    /// Adds what Graph always adds, and lets the faults that spoil a good answer do so.
    fn finish(&self, ask: &Ask, mut answer: Answer, struck: &[Fault], trace: &str) -> Result<Response<Body>, Broken> {
        let is = |fault| struck.contains(&fault);
        let mut broken = None;
        for fault in struck {
            match fault {
                Fault::GraphLostAnswer | Fault::GraphResetMidBody => broken = Some(*fault),
                Fault::JunkTruncated => answer.body.truncate(answer.body.len() / 2),
                Fault::JunkOtherPage => edges::other_id(&mut answer.body),
                _ => continue,
            }
            answer.outcome = fault.to_string();
        }
        self.note(ask, &answer.outcome);
        if broken == Some(Fault::GraphLostAnswer) {
            return Err(Broken);
        }
        let served = if is(Fault::VersionDrift) { self.world.look(|s| s.versions.0) } else { ask.served };
        let mut response = Response::builder()
            .status(answer.status)
            .header("content-type", answer.content_type)
            .header("facebook-api-version", format!("v{served}.0"))
            .header("x-fb-trace-id", trace)
            .header("x-fb-rev", "1031415926")
            .header("x-fb-debug", hex::encode(trace))
            .header("cache-control", "private, no-cache, no-store, must-revalidate");
        for (name, value) in self.usage(ask, struck).into_iter().chain(answer.headers) {
            response = response.header(name, value);
        }
        let bytes = Bytes::from(answer.body);
        let body = if broken.is_some() {
            response = response.header("content-length", bytes.len());
            half(bytes)
        } else {
            full(bytes)
        };
        response.body(body).map_err(|_| Broken)
    }

    /// The usage headers: present once there was some traffic, high when throttled or near it.
    fn usage(&self, ask: &Ask, struck: &[Fault]) -> Vec<(&'static str, String)> {
        let is = |fault: Fault| struck.contains(&fault);
        let code =
            |wanted: &[u32]| struck.iter().any(|f| matches!(f, Fault::Code { code, .. } if wanted.contains(code)));
        // A person's limit and custom limits are in no header.
        let app = is(Fault::ThrottleApp) || code(&[4]);
        let page = is(Fault::ThrottleBusiness) || is(Fault::ThrottlePage) || code(&[32, 80001]);
        let level = |full| {
            if full {
                100
            } else if is(Fault::UsageHigh) {
                97
            } else {
                3
            }
        };
        if ask.call == Call::Dialog || (self.world.tick() < 20 && level(app || page) == 3) {
            return Vec::new();
        }
        let percent = level(app);
        let flat = format!(r#"{{"call_count":{percent},"total_time":{},"total_cputime":1}}"#, percent / 2);
        let mut headers = vec![("x-app-usage", flat)];
        if let Some(id) = ask.page() {
            let (percent, wait) = (level(page), if page { self.world.lock().regain_minutes } else { 0 });
            headers.push((
                "x-business-use-case-usage",
                format!(
                    r#"{{"{id}":[{{"type":"pages","call_count":{percent},"total_cputime":1,"total_time":2,"estimated_time_to_regain_access":{wait}}}]}}"#
                ),
            ));
        }
        headers
    }

    fn note(&self, ask: &Ask, outcome: &str) {
        self.world.note(ask.call, &ask.method, &ask.path, ask.page(), outcome);
    }
}

/// What happens in the edge's stead.
enum Stead {
    Answer(Answer),
    Break(Fault),
    Hang(Fault),
}
