//! The handle on the local Shopify, and a request to it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::request::Parts;
use serde_json::Value;
use tokio::sync::watch;
use url::form_urlencoded;

use super::state::{ShopFault, ShopifyState};
use crate::core::model::ShopName;

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
    pub(super) status: u16,
    pub(super) content_type: &'static str,
    pub(super) location: Option<String>,
    pub(super) body: Bytes,
}

impl ShopAnswer {
    pub(super) fn json(status: u16, value: &Value) -> ShopAnswer {
        let (content_type, body) = ("application/json; charset=utf-8", value.to_string().into());
        ShopAnswer { status, content_type, location: None, body }
    }

    pub(super) fn html(status: u16, text: String) -> ShopAnswer {
        ShopAnswer { status, content_type: "text/html; charset=utf-8", location: None, body: text.into() }
    }

    pub(super) fn redirect(location: String) -> ShopAnswer {
        ShopAnswer { location: Some(location), ..ShopAnswer::html(302, String::new()) }
    }
}

/// A request to a shop.
pub(crate) struct ShopAsk<'a> {
    pub(super) shop: ShopName,
    pub(super) head: &'a Parts,
    pub(super) body: &'a [u8],
    /// What is behind the shop's name in the path.
    pub(super) path: &'a str,
}

impl ShopAsk<'_> {
    /// A parameter of the query, or of a form or a JSON document in the body.
    pub(super) fn param(&self, name: &str) -> Option<String> {
        let of = |text: &[u8]| {
            form_urlencoded::parse(text).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
        };
        let query = self.head.uri.query().unwrap_or_default();
        let document = || serde_json::from_slice::<Value>(self.body).ok()?.get(name)?.as_str().map(str::to_owned);
        of(query.as_bytes()).or_else(document).or_else(|| of(self.body))
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.head.headers.get(name)?.to_str().ok()
    }
}

impl Shopify {
    /// Shops as they are at first; the same seed makes the same shops.
    pub fn new(seed: u64, shops: usize) -> Shopify {
        Shopify::from_state(ShopifyState::build(seed, shops))
    }

    fn from_state(state: ShopifyState) -> Shopify {
        Shopify(Arc::new(Shared {
            state: Mutex::new(state),
            faults: watch::Sender::new(0),
            http: reqwest::Client::builder().no_proxy().build().unwrap_or_default(),
            addr: Mutex::default(),
        }))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, ShopifyState> {
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

    pub(super) fn has(&self, fault: ShopFault) -> bool {
        self.look(|state| state.faults.contains(&fault))
    }

    /// `shopify.api_url`.
    pub fn url(&self) -> String {
        let addr = *self.0.addr.lock().unwrap_or_else(PoisonError::into_inner);
        addr.map_or_else(String::new, |addr| format!("http://{addr}/{{shop}}"))
    }

    /// It listens there.
    pub(super) fn set_addr(&self, addr: SocketAddr) {
        *self.0.addr.lock().unwrap_or_else(PoisonError::into_inner) = Some(addr);
    }

    /// A change of the switches.
    pub(super) fn watch_faults(&self) -> watch::Receiver<u64> {
        self.0.faults.subscribe()
    }

    /// The client that sends webhooks.
    pub(super) fn http(&self) -> &reqwest::Client {
        &self.0.http
    }
}
