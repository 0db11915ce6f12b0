//! One request to Graph: the gate, the call, the answer and its classification.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::{Client, Method, Request, Url};
use serde_json::Value;
use tracing::{debug, warn};

use super::error::{DeadReason, GraphError, GraphErrorKind, ThrottleScope, classify, trace_id};
use super::gate::Gate;
use super::settings::GraphSettings;
use super::throttle::Held;
use super::usage::Usage;
use crate::core::model::{AppUserId, PageId, Secret, Source};
use crate::core::priority::Priority;
use crate::http_client::{self, TlsFault, Unread};
use crate::metrics::Metrics;
use crate::sources::facebook::signature::appsecret_proof;
use crate::sources::scrub::scrub;
use crate::traces;

/// The largest answer that is read, in bytes.
pub(super) const MAX_ANSWER: usize = 4 * 1024 * 1024;
/// Pairs of versions that are remembered as warned about.
const MAX_DRIFTS: usize = 64;

/// What all clones of a client share.
pub(super) struct Inner {
    pub(super) settings: GraphSettings,
    pub(super) gate: Arc<Gate>,
    metrics: Arc<Metrics>,
    http: Client,
    base: Url,
    app_token: Secret,
    drifts: Mutex<HashSet<String>>,
}

/// Whose token a call carries.
#[derive(Clone, Copy)]
pub(super) enum Bearer<'a> {
    /// None: the form holds what proves the caller.
    None,
    /// The app's own.
    App,
    /// A person's or a page's.
    Token(&'a Secret),
}

/// A call that is to be made.
pub(super) struct Call<'a> {
    pub(super) name: &'static str,
    method: Method,
    path: Vec<&'a str>,
    params: Vec<(&'static str, Cow<'a, str>)>,
    bearer: Bearer<'a>,
    page: Option<&'a PageId>,
    person: Option<&'a AppUserId>,
    priority: Priority,
    hidden: Vec<&'a str>,
}

impl<'a> Call<'a> {
    /// A call to `/{version}/{path}`; each part of the path is one segment, whatever it holds.
    pub(super) fn new(name: &'static str, method: Method, path: &[&'a str], bearer: Bearer<'a>) -> Self {
        Call {
            name,
            method,
            path: path.to_vec(),
            params: Vec::new(),
            bearer,
            page: None,
            person: None,
            priority: Priority::Prompt,
            hidden: Vec::new(),
        }
    }

    /// Adds a parameter: to the query of a GET or DELETE, to the form of a POST.
    pub(super) fn param(mut self, key: &'static str, value: impl Into<Cow<'a, str>>) -> Self {
        self.params.push((key, value.into()));
        self
    }

    /// Adds a parameter that no error may show.
    pub(super) fn secret(mut self, key: &'static str, value: &'a Secret) -> Self {
        self.hidden.push(value.expose());
        self.param(key, value.expose())
    }

    /// Adds a parameter that is an address, whose query no error may show.
    pub(super) fn address(mut self, key: &'static str, url: &'a str) -> Self {
        self.hidden.extend(url.split_once('?').map(|(_, query)| query));
        self.param(key, url)
    }

    /// Charges the call to this page.
    pub(super) fn charged_to(mut self, page: &'a PageId) -> Self {
        self.page = Some(page);
        self
    }

    /// Makes the call in the name of this person, where it is known: their limit holds for it.
    pub(super) fn in_name_of(mut self, person: Option<&'a AppUserId>) -> Self {
        self.person = person;
        self
    }

    /// Sets who goes first.
    pub(super) fn priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }
}

/// A failed call. `unsent` when no connection was made, so that Graph cannot have seen it.
pub(super) struct Failed {
    pub(super) error: GraphError,
    pub(super) unsent: bool,
}

impl From<GraphError> for Failed {
    fn from(error: GraphError) -> Self {
        Failed { error, unsent: false }
    }
}

impl Inner {
    pub(super) fn new(settings: GraphSettings, metrics: Arc<Metrics>, gate: Arc<Gate>) -> Result<Inner, GraphError> {
        let wrong = |what: &str| GraphError::local("new", GraphErrorKind::Misconfigured, what);
        let base = Url::parse(&settings.graph_url).map_err(|_| wrong("graph_url is not an address"))?;
        if !matches!(base.scheme(), "https" | "http") || base.cannot_be_a_base() {
            return Err(wrong("graph_url is not an http address"));
        }
        let http = http_client::client(settings.request_timeout, &settings.trust)
            .pool_max_idle_per_host(settings.max_in_flight)
            .build()
            .map_err(|e| wrong(&format!("the http client cannot be built: {}", describe(e))))?;
        let app_token = Secret::new(format!("{}|{}", settings.app_id, settings.app_secret.expose()));
        Ok(Inner { settings, gate, metrics, http, base, app_token, drifts: Mutex::default() })
    }

    /// Makes the call once. A good answer is JSON without an error; its shape is the caller's to judge.
    pub(super) async fn send(&self, call: Call<'_>) -> Result<Value, GraphError> {
        self.try_send(&call).await.map_err(|failed| failed.error)
    }

    /// As [`Inner::send`], for callers who must know whether anything was sent.
    pub(super) async fn try_send(&self, call: &Call<'_>) -> Result<Value, Failed> {
        let permit = self.gate.enter_for(call.page, call.person, call.priority).await;
        let _permit = permit.map_err(|held| held_back(call.name, held))?;
        let span = traces::request("graph", call.name);
        let result = self.exchange(call).await;
        let outcome = result.as_ref().map_or_else(|failed| failed.error.kind.word(), |_| "ok");
        span.end_with(outcome);
        self.metrics.source_request(Source::Facebook, call.name, outcome);
        result
    }

    async fn exchange(&self, call: &Call<'_>) -> Result<Value, Failed> {
        let request = self.request(call)?;
        let network = |e: reqwest::Error| {
            let unsent = e.is_connect();
            let (kind, message) = match TlsFault::of(&e) {
                Some(fault) => (GraphErrorKind::Misconfigured, fault.text("facebook.graph_url", None)),
                None => (GraphErrorKind::Transient, scrub(&describe(e), &self.hidden(call))),
            };
            Failed { error: GraphError::local(call.name, kind, message), unsent }
        };
        let mut response = self.http.execute(request).await.map_err(network)?;
        self.note_version(response.headers());
        let usage = read_usage(response.headers());
        let status = response.status().as_u16();
        let hint = http_client::retry_after(response.headers());
        let trace = header(response.headers(), "x-fb-trace-id").map(str::to_owned);
        let body = match http_client::body(&mut response, MAX_ANSWER).await {
            Ok(body) => body,
            Err(Unread::Broken(e)) => return Err(Failed { unsent: false, ..network(e) }),
            Err(Unread::TooLarge) => {
                return Err(GraphError::odd(call.name, "the answer is larger than 4 MiB").into());
            }
        };
        let verdict = classify(status, &body);
        let mut failure = match verdict {
            Ok(value) => {
                self.gate.observe(call.page, &usage, true);
                return Ok(value);
            }
            Err(failure) => failure,
        };
        // The refusal first: the gate counts one only while it does not block already.
        self.adjust(call, &mut failure.kind, hint, &usage);
        self.gate.observe(call.page, &usage, false);
        let mut error = GraphError::from_failure(call.name, status, failure, &self.hidden(call));
        if error.fbtrace_id.is_none() {
            error.fbtrace_id = trace.and_then(trace_id);
        }
        debug!(rev = header(response.headers(), "x-fb-rev"), "graph: {error}");
        Err(error.into())
    }

    /// What the answer's text cannot know: how long a refusal lasts, and that a bad *app* token is a bad setting.
    fn adjust(&self, call: &Call<'_>, kind: &mut GraphErrorKind, hint: Option<Duration>, usage: &Usage) {
        match kind {
            GraphErrorKind::Throttled { scope, retry_after } => {
                let regain = usage.page.map(|page| page.regain).filter(|regain| !regain.is_zero());
                let hint = hint.or(regain);
                *retry_after = Some(match (*scope, call.person) {
                    (ThrottleScope::Person, Some(person)) => self.gate.refused_person(person, hint),
                    (scope, _) => self.gate.refused(scope, call.page, hint),
                });
            }
            GraphErrorKind::TokenDead { .. } if matches!(call.bearer, Bearer::App) => {
                *kind = GraphErrorKind::Misconfigured;
            }
            _ => {}
        }
    }

    fn request(&self, call: &Call<'_>) -> Result<Request, GraphError> {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push(&self.settings.version).extend(&call.path);
        }
        let token = match call.bearer {
            Bearer::None => None,
            Bearer::App => Some(&self.app_token),
            Bearer::Token(token) => Some(token),
        };
        let proof = token.map(|token| appsecret_proof(token, &self.settings.app_secret));
        let proof = proof.as_deref().map(|proof| ("appsecret_proof", proof));
        let params = call.params.iter().map(|(key, value)| (*key, value.as_ref())).chain(proof);
        let mut builder = if call.method == Method::POST {
            let form: Vec<(&str, &str)> = params.collect();
            self.http.post(url).form(&form)
        } else {
            url.query_pairs_mut().extend_pairs(params);
            self.http.request(call.method.clone(), url)
        };
        if let Some(token) = token {
            builder = builder.header(AUTHORIZATION, bearer(call.name, token)?);
        }
        builder.build().map_err(|e| GraphError::local(call.name, GraphErrorKind::BadRequest, describe(e)))
    }

    /// Everything in the call that must not be shown.
    fn hidden<'a>(&'a self, call: &Call<'a>) -> Vec<&'a str> {
        let mut hidden = call.hidden.clone();
        hidden.push(self.app_token.expose());
        hidden.push(self.settings.app_secret.expose());
        if let Bearer::Token(token) = call.bearer {
            hidden.push(token.expose());
        }
        // The longest first, so that a secret inside another leaves no rest of it.
        hidden.sort_unstable_by_key(|secret| std::cmp::Reverse(secret.len()));
        hidden
    }

    /// An expired version is not refused but answered by another one. It is logged once per pair.
    fn note_version(&self, headers: &HeaderMap) {
        let asked = &self.settings.version;
        let Some(answered) = header(headers, "facebook-api-version") else { return };
        let sound = answered.len() <= 16 && answered.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.');
        if answered == asked || !sound {
            return;
        }
        let mut drifts = self.drifts.lock().unwrap_or_else(PoisonError::into_inner);
        if drifts.len() < MAX_DRIFTS && drifts.insert(answered.to_owned()) {
            warn!(
                asked,
                answered,
                "graph: asked for version {asked}, answered with {answered}; set facebook.graph_version to a live one"
            );
        }
    }

    /// Versions that answered in place of the one asked for.
    #[cfg(test)]
    pub(super) fn drifts(&self) -> Vec<String> {
        self.drifts.lock().unwrap().iter().cloned().collect()
    }
}

fn bearer(call: &'static str, token: &Secret) -> Result<HeaderValue, GraphError> {
    let dead = GraphErrorKind::TokenDead { reason: DeadReason::Invalid };
    let no_token = || GraphError::local(call, dead, "the token is empty or holds characters that no token has");
    if token.is_empty() || !token.expose().bytes().all(|b| b.is_ascii_graphic()) {
        return Err(no_token());
    }
    let text = zeroize::Zeroizing::new(format!("Bearer {}", token.expose()));
    let mut value = HeaderValue::from_str(&text).map_err(|_| no_token())?;
    value.set_sensitive(true);
    Ok(value)
}

fn held_back(call: &'static str, held: Held) -> GraphError {
    let kind = GraphErrorKind::Throttled { scope: held.scope, retry_after: Some(held.retry_after) };
    GraphError::local(
        call,
        kind,
        format!("not called, the budget is spent for {} s", held.retry_after.as_secs().max(1)),
    )
}

/// The error and what caused it, without the address.
fn describe(error: reqwest::Error) -> String {
    let what = if error.is_timeout() { "timed out" } else { "network error" };
    http_client::describe(what, error)
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn read_usage(headers: &HeaderMap) -> Usage {
    let of = |name| header(headers, name);
    Usage::read(of("x-app-usage"), of("x-business-use-case-usage"), of("x-page-usage"))
}
