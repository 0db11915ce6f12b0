//! The local Shopify: shops with their authorize pages, token endpoints, Admin APIs and webhooks.
//!
//! It stands beside the local Facebook and has its own state. A request's path begins with the name of the shop, so that
//! `shopify.api_url` is `http://127.0.0.1:PORT/{shop}`. Files of bulk operations are served under another host name
//! (`localhost`), as Shopify serves them from Google's. GraphQL is answered by the name of the operation; there is no
//! GraphQL engine here.
//!
//! Tokens behave as Shopify's do: an access token lives an hour, a refresh token works once and brings the same answer
//! again for a short time, and a new grant ends the pair before it.

mod authorize;
mod graphql;
pub mod state;
mod tokens;
mod webhook;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::request::Parts;
use hyper::body::Incoming;
use hyper::{Request, Response};
use serde_json::{Value, json};
use tokio::sync::watch;
use url::form_urlencoded;

use self::state::{ShopFault, ShopifyState};
use super::wire::{self, Body, Broken, Face, Handler, collect, full};
use crate::core::model::{ShopName, WallTime};

pub use self::webhook::ShopTopic;

const BODY_LIMIT: usize = 4 << 20;

/// A handle on the local Shopify.
#[derive(Clone)]
pub struct Shopify(Arc<Shared>);

struct Shared {
    state: Mutex<ShopifyState>,
    faults: watch::Sender<u64>,
    http: reqwest::Client,
    /// Where it listens, once it does.
    addr: Mutex<Option<SocketAddr>>,
}

/// What one request answers.
pub(crate) struct ShopAnswer {
    status: u16,
    content_type: &'static str,
    location: Option<String>,
    body: Bytes,
}

impl ShopAnswer {
    fn json(status: u16, value: &Value) -> ShopAnswer {
        let (content_type, body) = ("application/json; charset=utf-8", value.to_string().into());
        ShopAnswer { status, content_type, location: None, body }
    }

    fn html(status: u16, text: String) -> ShopAnswer {
        ShopAnswer { status, content_type: "text/html; charset=utf-8", location: None, body: text.into() }
    }

    fn redirect(location: String) -> ShopAnswer {
        ShopAnswer { location: Some(location), ..ShopAnswer::html(302, String::new()) }
    }
}

/// A request to a shop.
pub(crate) struct ShopAsk<'a> {
    shop: ShopName,
    head: &'a Parts,
    body: &'a [u8],
    /// What is behind the shop's name in the path.
    path: &'a str,
}

impl ShopAsk<'_> {
    /// A parameter of the query, or of a form or a JSON document in the body.
    fn param(&self, name: &str) -> Option<String> {
        let of = |text: &[u8]| {
            form_urlencoded::parse(text).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
        };
        let query = self.head.uri.query().unwrap_or_default();
        let document = || serde_json::from_slice::<Value>(self.body).ok()?.get(name)?.as_str().map(str::to_owned);
        of(query.as_bytes()).or_else(document).or_else(|| of(self.body))
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.head.headers.get(name)?.to_str().ok()
    }
}

impl Shopify {
    /// Shops as they are at first; the same seed makes the same shops.
    pub fn new(seed: u64, shops: usize) -> Shopify {
        Shopify::from_state(ShopifyState::build(seed, shops))
    }

    pub(crate) fn from_state(state: ShopifyState) -> Shopify {
        Shopify(Arc::new(Shared {
            state: Mutex::new(state),
            faults: watch::Sender::new(0),
            http: reqwest::Client::builder().no_proxy().build().unwrap_or_default(),
            addr: Mutex::default(),
        }))
    }

    fn lock(&self) -> MutexGuard<'_, ShopifyState> {
        // A test that panicked while it held the lock leaves a state that is still whole.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A look at the state.
    pub fn look<T>(&self, look: impl FnOnce(&ShopifyState) -> T) -> T {
        look(&self.lock())
    }

    /// A change of the state. No webhook comes of it.
    pub fn change<T>(&self, change: impl FnOnce(&mut ShopifyState) -> T) -> T {
        change(&mut self.lock())
    }

    /// Switches a fault on or off.
    pub fn set_fault(&self, fault: ShopFault, on: bool) {
        self.change(|state| if on { state.faults.insert(fault) } else { state.faults.remove(&fault) });
        self.0.faults.send_modify(|count| *count += 1);
    }

    fn has(&self, fault: ShopFault) -> bool {
        self.look(|state| state.faults.contains(&fault))
    }

    /// `shopify.api_url`.
    pub fn url(&self) -> String {
        let addr = *self.0.addr.lock().unwrap_or_else(PoisonError::into_inner);
        addr.map_or_else(String::new, |addr| format!("http://{addr}/{{shop}}"))
    }

    /// Listens.
    pub(crate) async fn listen(&self, at: SocketAddr) -> io::Result<Face> {
        let watched = self.clone();
        let gate: wire::Gate = Arc::new(move || !watched.has(ShopFault::Refused));
        let face = Face::start(at, self.clone().handler(), gate, self.0.faults.subscribe()).await?;
        *self.0.addr.lock().unwrap_or_else(PoisonError::into_inner) = Some(face.addr);
        Ok(face)
    }

    fn handler(self) -> Handler {
        Arc::new(move |request| {
            let shopify = self.clone();
            Box::pin(async move { shopify.answer(request).await })
        })
    }

    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Body>, Broken> {
        let (head, body) = request.into_parts();
        let Some(body) = collect(body, BODY_LIMIT).await else { return Err(Broken) };
        let answer = match self.route(&head, &body) {
            Some(answer) => answer?,
            None => ShopAnswer::json(404, &json!({"errors": "Not Found"})),
        };
        let version = self.look(|state| state.version.clone());
        let mut response = Response::builder()
            .status(answer.status)
            .header("content-type", answer.content_type)
            .header("x-request-id", format!("{:032x}", WallTime::now().0))
            .header("x-shopify-api-version", version);
        if let Some(location) = answer.location {
            response = response.header("location", location);
        }
        response.body(full(answer.body)).map_err(|_| Broken)
    }

    fn route(&self, head: &Parts, body: &[u8]) -> Option<Result<ShopAnswer, Broken>> {
        let path = head.uri.path().trim_start_matches('/');
        if let Some(file) = path.strip_prefix("bulk/") {
            return Some(Ok(graphql::bulk_file(self, head, file)));
        }
        let (shop, path) = path.split_once('/')?;
        let ask = ShopAsk { shop: shop.parse().ok()?, head, body, path };
        if !self.look(|state| state.shops.contains_key(&ask.shop)) {
            return Some(Ok(ShopAnswer::json(404, &json!({"errors": "Not Found"}))));
        }
        match ask.path {
            "admin/oauth/authorize" => Some(Ok(authorize::answer(self, &ask))),
            "admin/oauth/access_token" => Some(tokens::answer(self, &ask)),
            path if path.starts_with("admin/api/") && path.ends_with("/graphql.json") => {
                Some(graphql::answer(self, &ask))
            }
            _ => None,
        }
    }
}
