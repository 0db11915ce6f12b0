//! The handle on the local Shopify, and a request to it.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;
use http::request::Parts;
use serde_json::Value;
use tokio::sync::{oneshot, watch};
use url::form_urlencoded;

use super::state::{ShopFault, ShopifyState};
use crate::core::model::ShopName;
use crate::sandbox::activity::ActivityKind;

/// A handle on the local Shopify.
#[derive(Clone)]
pub struct Shopify(Arc<Shared>);

/// Takes what happens, for the console: its kind, whether it succeeded, and the text.
pub(crate) type Watcher = Box<dyn Fn(ActivityKind, bool, String) + Send + Sync>;

/// Where it listens, once it does.
#[derive(Debug, Clone, Copy, Default)]
struct Addresses {
    api: Option<SocketAddr>,
    files: Option<SocketAddr>,
}

/// Where the exchange of a code is held up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeldUp {
    /// Before the tokens are given out.
    Before,
    /// The tokens are given out, and the answer is kept back.
    Behind,
}

/// An exchange of a code is held up until this is dropped.
pub struct Hold(#[expect(dead_code, reason = "its end is what counts")] oneshot::Sender<()>);

/// The exchange of a code that is to be held up, and the end of that.
pub(super) type ToHold = (HeldUp, oneshot::Receiver<()>);

struct Shared {
    state: Mutex<ShopifyState>,
    held: Mutex<VecDeque<ToHold>>,
    faults: watch::Sender<u64>,
    http: reqwest::Client,
    addresses: Mutex<Addresses>,
    watcher: OnceLock<Watcher>,
}

/// What one request answers.
pub(crate) struct ShopAnswer {
    pub(super) status: u16,
    pub(super) content_type: &'static str,
    pub(super) location: Option<String>,
    pub(super) body: Bytes,
    /// Says no, whatever the status.
    pub(super) is_refusal: bool,
}

impl ShopAnswer {
    pub(super) fn json(status: u16, value: &Value) -> ShopAnswer {
        let (content_type, body) = ("application/json; charset=utf-8", value.to_string().into());
        ShopAnswer { status, content_type, location: None, body, is_refusal: status >= 400 }
    }

    pub(super) fn html(status: u16, text: String) -> ShopAnswer {
        let content_type = "text/html; charset=utf-8";
        ShopAnswer { status, content_type, location: None, body: text.into(), is_refusal: true }
    }

    pub(super) fn redirect(location: String) -> ShopAnswer {
        ShopAnswer { location: Some(location), is_refusal: false, ..ShopAnswer::html(302, String::new()) }
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
            held: Mutex::default(),
            faults: watch::Sender::new(0),
            http: reqwest::Client::builder().no_proxy().build().unwrap_or_default(),
            addresses: Mutex::default(),
            watcher: OnceLock::new(),
        }))
    }

    /// Writes the state to a file, whole or not at all. Faults, counters and bulk operations are not part of it.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        let text = serde_json::to_vec(&*self.lock())?;
        let draft = path.with_extension("draft");
        std::fs::write(&draft, text)?;
        std::fs::rename(&draft, path)
    }

    /// The Shopify that [`Shopify::save`] wrote.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn load(path: &Path) -> io::Result<Shopify> {
        Ok(Shopify::from_state(serde_json::from_slice(&std::fs::read(path)?)?))
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

    /// Switches a fault on or off, for all shops.
    pub fn set_fault(&self, fault: ShopFault, on: bool) {
        self.change(|state| switch(&mut state.faults, fault, on));
        self.faults_changed(on, fault.title().to_owned());
    }

    /// Switches a fault on or off for one shop.
    pub fn set_shop_fault(&self, shop: &ShopName, fault: ShopFault, on: bool) {
        self.change(|state| {
            if let Some(shop) = state.shops.get_mut(shop) {
                switch(&mut shop.faults, fault, on);
            }
        });
        self.faults_changed(on, format!("{} ({shop})", fault.title()));
    }

    /// Switches all faults off, those of single shops too.
    pub fn clear_faults(&self) {
        self.change(|state| {
            state.faults.clear();
            state.shops.values_mut().for_each(|shop| shop.faults.clear());
        });
        self.0.faults.send_modify(|count| *count += 1);
    }

    fn faults_changed(&self, on: bool, title: String) {
        self.0.faults.send_modify(|count| *count += 1);
        self.note(ActivityKind::Fault, !on, format!("{}: {title}", if on { "on" } else { "off" }));
    }

    pub(super) fn has(&self, fault: ShopFault) -> bool {
        self.look(|state| state.faults.contains(&fault))
    }

    /// Holds up the next exchange of a code that no other hold has.
    pub fn hold_exchange(&self, at: HeldUp) -> Hold {
        let (hold, held) = oneshot::channel();
        self.0.held.lock().unwrap_or_else(PoisonError::into_inner).push_back((at, held));
        Hold(hold)
    }

    /// Holds that no exchange of a code has come to.
    pub fn exchanges_to_hold(&self) -> usize {
        self.0.held.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// What holds up this request.
    pub(super) fn hold_of(&self, head: &Parts, body: &[u8]) -> Option<ToHold> {
        let is_exchange =
            head.uri.path().ends_with("/access_token") && form_urlencoded::parse(body).any(|(name, _)| name == "code");
        let mut held = self.0.held.lock().unwrap_or_else(PoisonError::into_inner);
        is_exchange.then(|| held.pop_front()).flatten()
    }

    /// Does the fault strike this shop?
    pub(super) fn strikes(&self, shop: &ShopName, fault: ShopFault) -> bool {
        self.look(|state| state.strikes(shop, fault))
    }

    /// From here on the watcher takes what happens.
    pub(crate) fn watch(&self, watcher: Watcher) {
        // There is one console at most; the first watcher stays.
        let _ = self.0.watcher.set(watcher);
    }

    pub(super) fn note(&self, kind: ActivityKind, ok: bool, text: String) {
        if let Some(watcher) = self.0.watcher.get() {
            watcher(kind, ok, text);
        }
    }

    fn addresses(&self) -> MutexGuard<'_, Addresses> {
        self.0.addresses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `shopify.api_url`.
    pub fn url(&self) -> String {
        self.addresses().api.map_or_else(String::new, |addr| format!("http://{addr}/{{shop}}"))
    }

    /// The address of the files of bulk operations.
    pub fn files_url(&self) -> String {
        self.addresses().files.map_or_else(String::new, |addr| format!("http://{addr}"))
    }

    /// It listens there.
    pub(super) fn set_addrs(&self, api: SocketAddr, files: SocketAddr) {
        *self.addresses() = Addresses { api: Some(api), files: Some(files) };
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

fn switch(faults: &mut BTreeSet<ShopFault>, fault: ShopFault, on: bool) {
    if on {
        faults.insert(fault);
    } else {
        faults.remove(&fault);
    }
}
