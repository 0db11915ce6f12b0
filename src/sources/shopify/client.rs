//! The client of Shopify: the Admin API of each shop, and its token endpoint.
//!
//! One request goes out once; what follows from a failure is its caller's business. A query that the bucket of its shop
//! cannot pay is not sent: it is answered as Shopify would answer it.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::HeaderMap;
use reqwest::{Client, RequestBuilder, Response};
use serde_json::{Value, json};

use super::budget::Budget;
use super::error::{self, ShopifyError, ShopifyErrorKind};
use crate::core::model::{MonoTime, Secret, ShopName};
use crate::http_client::{self, TlsFault, Trust, Unread};
use crate::metrics::Metrics;
use crate::sources::facebook::graph::scrub::scrub;

/// The largest answer that is read, in bytes: eight policies of 512 KiB each fit.
const MAX_ANSWER: usize = 8 << 20;
/// The largest answer of the token endpoint.
const MAX_TOKENS: usize = 64 << 10;
/// Drifts and reasons that are remembered as warned about.
const MAX_WARNED: usize = 64;
/// What stands for the name of a shop in `shopify.api_url`.
const SHOP: &str = "{shop}";

/// What the client needs.
#[derive(Clone)]
pub struct ShopifySettings {
    /// The app's client id.
    pub client_id: String,
    /// The app's client secret.
    pub client_secret: Secret,
    /// `YYYY-MM`
    pub api_version: String,
    /// Where the shops are, with `{shop}` for the name; `None` for `https://{shop}`.
    pub api_url: Option<String>,
    /// Access scopes that the app needs.
    pub scopes: Vec<String>,
    /// One request, from start to last byte.
    pub request_timeout: Duration,
    /// Requests at a time.
    pub max_in_flight: usize,
    /// Authorities that are trusted.
    pub trust: Trust,
}

struct Inner {
    settings: ShopifySettings,
    metrics: Arc<Metrics>,
    http: Client,
    /// Of each shop that was asked of late.
    budgets: Mutex<HashMap<ShopName, Budget>>,
    warned: Mutex<BTreeSet<String>>,
}

/// A client. Cloning is cheap, and clones share connections.
#[derive(Clone)]
pub struct ShopifyClient(Arc<Inner>);

impl fmt::Debug for ShopifyClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ShopifyClient")
    }
}

/// The address of a shop, without a slash at the end.
pub(super) fn base_of(api_url: Option<&str>, shop: &ShopName) -> String {
    api_url.unwrap_or("https://{shop}").replace(SHOP, shop.as_str())
}

fn header<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

/// Causes of a failure, without the address.
fn describe(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(inner) = cause {
        text = inner.to_string();
        cause = inner.source();
    }
    text
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is behind the lock is plain counting that no panic leaves half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ShopifyClient {
    /// A client with these settings.
    ///
    /// # Errors
    /// One line that says what cannot be made.
    pub fn new(settings: ShopifySettings, metrics: Arc<Metrics>) -> Result<Self, String> {
        let http = http_client::client(settings.request_timeout, &settings.trust)
            .pool_max_idle_per_host(settings.max_in_flight)
            .build()
            .map_err(|e| format!("the http client cannot be built: {}", describe(e)))?;
        let (budgets, warned) = (Mutex::default(), Mutex::default());
        Ok(ShopifyClient(Arc::new(Inner { settings, metrics, http, budgets, warned })))
    }

    /// The version asked for.
    pub fn version(&self) -> &str {
        &self.0.settings.api_version
    }

    /// Access scopes that the app needs.
    pub(super) fn scopes(&self) -> &[String] {
        &self.0.settings.scopes
    }

    fn base(&self, shop: &ShopName) -> String {
        base_of(self.0.settings.api_url.as_deref(), shop)
    }

    /// Makes a query and returns its `data`.
    pub(super) async fn query(
        &self,
        operation: &'static str,
        shop: &ShopName,
        token: &Secret,
        text: &str,
        variables: Value,
    ) -> Result<Value, ShopifyError> {
        if let Some(wait) = self.wait(shop, operation) {
            let kind = ShopifyErrorKind::Throttled { retry_after: Some(wait) };
            return Err(ShopifyError::local(operation, kind, "the shop's budget for queries is spent"));
        }
        let url = format!("{}/admin/api/{}/graphql.json", self.base(shop), self.version());
        let body = json!({"operationName": operation, "query": text, "variables": variables});
        let request = self.0.http.post(url).header("x-shopify-access-token", token.expose()).json(&body);
        let answer = self.exchange(operation, request, MAX_ANSWER, &[token.expose()]).await;
        let result = answer.and_then(|answer| {
            self.note_headers(&answer.headers);
            let value = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
            self.note_cost(shop, operation, &value);
            let refused = error::of_api(answer.status, &answer.body, http_client::retry_after(&answer.headers));
            match refused {
                None => Ok(value),
                Some((kind, message)) => Err(answer.refused(operation, kind, message)),
            }
        });
        self.count(operation, &result);
        Ok(result?["data"].take())
    }

    /// Posts a form to the token endpoint and returns the body of a good answer.
    pub(super) async fn post_token(
        &self,
        call: &'static str,
        shop: &ShopName,
        form: &[(&str, &str)],
        is_refresh: bool,
    ) -> Result<Bytes, ShopifyError> {
        let settings = &self.0.settings;
        let app = [("client_id", settings.client_id.as_str()), ("client_secret", settings.client_secret.expose())];
        let whole: Vec<(&str, &str)> = app.into_iter().chain(form.iter().copied()).collect();
        let url = format!("{}/admin/oauth/access_token", self.base(shop));
        let request = self.0.http.post(url).header("accept", "application/json").form(&whole);
        let hidden: Vec<&str> = whole.iter().map(|(_, value)| *value).collect();
        let result = self.exchange(call, request, MAX_TOKENS, &hidden).await.and_then(|answer| {
            if answer.status == 200 {
                return Ok(answer.body);
            }
            let retry_after = http_client::retry_after(&answer.headers);
            let (kind, message) = error::of_tokens(answer.status, &answer.body, is_refresh, retry_after);
            Err(answer.refused(call, kind, scrub(&message, &hidden)))
        });
        self.count(call, &result);
        result
    }

    fn count<T>(&self, call: &'static str, result: &Result<T, ShopifyError>) {
        let outcome = match result {
            Ok(_) => "ok",
            Err(error) => error.kind.word(),
        };
        self.0.metrics.shopify_request(call, outcome);
    }

    async fn exchange(
        &self,
        call: &'static str,
        request: RequestBuilder,
        most: usize,
        hidden: &[&str],
    ) -> Result<Answer, ShopifyError> {
        let network = |error: reqwest::Error| {
            let (kind, message) = match TlsFault::of(&error) {
                Some(fault) => (ShopifyErrorKind::Misconfigured, fault.text("shopify.api_url", None)),
                None => (ShopifyErrorKind::Transient, scrub(&describe(error), hidden)),
            };
            ShopifyError::local(call, kind, message)
        };
        let mut response: Response = request.send().await.map_err(network)?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = http_client::body(&mut response, most).await.map_err(|unread| match unread {
            Unread::TooLarge => {
                let text = format!("the answer is larger than {} KiB", most >> 10);
                ShopifyError::local(call, ShopifyErrorKind::Transient, text)
            }
            Unread::Broken(error) => network(error),
        })?;
        Ok(Answer { status, headers, body })
    }

    /// How long the query has to wait, where it has to.
    fn wait(&self, shop: &ShopName, operation: &'static str) -> Option<Duration> {
        lock(&self.0.budgets).get(shop)?.wait(operation, MonoTime::now())
    }

    fn note_cost(&self, shop: &ShopName, operation: &'static str, value: &Value) {
        let cost = &value["extensions"]["cost"];
        if cost.is_object() {
            let now = MonoTime::now();
            let mut budgets = lock(&self.0.budgets);
            budgets.retain(|_, budget| !budget.is_full(now));
            budgets.entry(shop.clone()).or_default().note(operation, cost, now);
        }
    }

    /// Says once that Shopify served another version, or that something is deprecated.
    fn note_headers(&self, headers: &HeaderMap) {
        let wanted = self.version();
        if let Some(served) = header(headers, "x-shopify-api-version").filter(|served| *served != wanted)
            && self.is_new(format!("version {served}"))
        {
            tracing::warn!(
                wanted,
                served,
                "shopify: version {wanted} of the Admin API was asked for and {served} was served; set \
                 shopify.api_version to one that is supported"
            );
        }
        if let Some(reason) = header(headers, "x-shopify-api-deprecated-reason").map(|reason| scrub(reason, &[]))
            && self.is_new(reason.clone())
        {
            tracing::warn!(reason, "shopify: something that is used is deprecated ({reason}); update this program");
        }
    }

    fn is_new(&self, words: String) -> bool {
        let mut warned = lock(&self.0.warned);
        warned.len() < MAX_WARNED && warned.insert(words)
    }
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    fn refused(&self, call: &'static str, kind: ShopifyErrorKind, message: String) -> ShopifyError {
        let id = header(&self.headers, "x-request-id");
        let id = id.filter(|id| id.len() <= 64 && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'));
        ShopifyError { kind, call, status: Some(self.status), message, request_id: id.map(str::to_owned) }
    }
}
