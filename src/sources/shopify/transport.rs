//! One request to a shop: its budget, the call, the answer and its classification. Retries are the caller's.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Request, Response};
use serde_json::{Value, json};
use tracing::warn;

use super::budget::{Budgets, Cost, Reserved};
use super::error::{Failure, Grant, ShopifyError, ShopifyErrorKind, parse, parse_grant, request_id};
use super::queries::Operation;
use super::settings::ShopifySettings;
use crate::core::backoff::LONGEST_HINT;
use crate::core::model::{MonoTime, Secret, ShopName, Source};
use crate::http_client::{self, TlsFault, Unread};
use crate::metrics::Metrics;
use crate::sources::scrub::scrub;
use crate::traces;

/// The largest answer that is read, in bytes. Eight policies of 512 KB, escaped, stay below it.
pub(super) const MAX_ANSWER: usize = 16 * 1024 * 1024;
/// The largest answer of the token endpoint.
const MAX_GRANT: usize = 64 * 1024;
/// The longest wait for a shop's budget inside a call. A longer one is the caller's to make.
const MAX_WAIT: Duration = Duration::from_secs(30);
/// Versions and deprecations that are remembered as warned about.
const MAX_NOTED: usize = 64;
const TOKEN: &str = "x-shopify-access-token";

/// What all clones of a client share.
pub(super) struct Inner {
    pub(super) settings: ShopifySettings,
    pub(super) http: Client,
    metrics: Arc<Metrics>,
    budgets: Mutex<Budgets>,
    noted: Mutex<HashSet<String>>,
}

/// A call under way. Dropping it gives back its budget as spent, so that a caller who is gone leaves nothing reserved.
struct UnderWay<'a> {
    inner: &'a Inner,
    shop: &'a ShopName,
    reserved: Option<Reserved>,
}

impl UnderWay<'_> {
    fn settle(mut self, cost: Option<&Cost>) {
        if let Some(reserved) = self.reserved.take() {
            self.inner.budgets().settle(self.shop, reserved, cost, MonoTime::now());
        }
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        if let Some(reserved) = self.reserved.take() {
            self.inner.budgets().settle(self.shop, reserved, None, MonoTime::now());
        }
    }
}

/// An answer that came.
struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Bytes,
}

impl Inner {
    pub(super) fn new(settings: ShopifySettings, metrics: Arc<Metrics>) -> Result<Inner, ShopifyError> {
        let http = http_client::client(settings.request_timeout, &settings.trust).build().map_err(|e| {
            let text = http_client::describe("the http client cannot be built", e);
            ShopifyError::local("new", ShopifyErrorKind::Misconfigured, text)
        })?;
        Ok(Inner { settings, http, metrics, budgets: Mutex::default(), noted: Mutex::default() })
    }

    /// Makes the call once, as soon as the shop's budget allows it. A good answer is the `data` without an error beside
    /// it; its shape is the caller's to judge.
    pub(super) async fn send(
        &self,
        shop: &ShopName,
        token: &Secret,
        operation: &Operation,
        variables: Value,
    ) -> Result<Value, ShopifyError> {
        let call = operation.call;
        let result = match self.enter(shop, operation).await {
            Ok(under_way) => {
                let span = traces::request("shopify", call);
                let result = self.exchange(shop, token, operation, variables, under_way).await;
                span.end_with(result.as_ref().err().map_or("ok", |error| error.kind.word()));
                result
            }
            Err(wait) => {
                let kind = ShopifyErrorKind::Throttled { retry_after: Some(wait) };
                let text = format!("not called, the shop's budget is spent for {} s", wait.as_secs().max(1));
                return Err(ShopifyError::local(call, kind, text));
            }
        };
        self.count(call, result.as_ref().err());
        result
    }

    async fn enter<'a>(&'a self, shop: &'a ShopName, operation: &Operation) -> Result<UnderWay<'a>, Duration> {
        let until = MonoTime::now().plus(MAX_WAIT);
        loop {
            let now = MonoTime::now();
            let reserved = self.budgets().reserve(shop, operation, now);
            match reserved {
                Ok(reserved) => return Ok(UnderWay { inner: self, shop, reserved: Some(reserved) }),
                Err(wait) if now.plus(wait) > until => return Err(wait),
                Err(wait) => tokio::time::sleep(wait).await,
            }
        }
    }

    async fn exchange(
        &self,
        shop: &ShopName,
        token: &Secret,
        operation: &Operation,
        variables: Value,
        under_way: UnderWay<'_>,
    ) -> Result<Value, ShopifyError> {
        let call = operation.call;
        let url = format!("{}/admin/api/{}/graphql.json", self.settings.shop_url(shop), self.settings.api_version);
        let body = json!({"query": operation.text, "operationName": operation.name, "variables": variables});
        let request = self.http.post(url).header(TOKEN, header_of(call, token)?);
        let request = request.header(CONTENT_TYPE, "application/json").body(body.to_string());
        let secrets = [token.expose(), self.settings.client_secret.expose()];
        let answer = self.answer(call, request.build(), MAX_ANSWER, &secrets).await?;
        self.note_version(&answer.headers);
        let parsed = parse(answer.status, &answer.body);
        under_way.settle(parsed.cost.as_ref());
        parsed.result.map_err(|failure| failed(call, &answer, failure, &secrets))
    }

    /// Asks the shop's token endpoint once. `form` holds what proves the caller; `secrets` are shown in no error.
    pub(super) async fn grant(
        &self,
        shop: &ShopName,
        call: &'static str,
        grant: Grant,
        form: &[(&str, &str)],
        secrets: &[&str],
    ) -> Result<Value, ShopifyError> {
        let url = format!("{}/admin/oauth/access_token", self.settings.shop_url(shop));
        let request = self.http.post(url).form(form).build();
        let result = match self.answer(call, request, MAX_GRANT, secrets).await {
            Ok(answer) => parse_grant(grant, answer.status, &answer.body)
                .map_err(|failure| failed(call, &answer, failure, secrets)),
            Err(error) => Err(error),
        };
        self.count(call, result.as_ref().err());
        result
    }

    async fn answer(
        &self,
        call: &'static str,
        request: reqwest::Result<Request>,
        most: usize,
        secrets: &[&str],
    ) -> Result<Answer, ShopifyError> {
        let request = request.map_err(|e| {
            let text = http_client::describe("the address cannot be made", e);
            ShopifyError::local(call, ShopifyErrorKind::Misconfigured, text)
        })?;
        let mut response = self.http.execute(request).await.map_err(|e| network(call, e, secrets))?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = read(call, &mut response, most, secrets).await?;
        Ok(Answer { status, headers, body })
    }

    pub(super) fn count(&self, call: &'static str, error: Option<&ShopifyError>) {
        self.metrics.source_request(Source::Shopify, call, error.map_or("ok", |error| error.kind.word()));
    }

    fn budgets(&self) -> MutexGuard<'_, Budgets> {
        self.budgets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(super) fn budgets_kept(&self) -> usize {
        self.budgets().len()
    }

    /// A retired version is not refused but answered by another one, and a deprecation stands in a header. Each is
    /// logged once.
    fn note_version(&self, headers: &HeaderMap) {
        let asked = self.settings.api_version.as_str();
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let is_version = |v: &&str| v.len() <= 16 && v.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if let Some(answered) = text("x-shopify-api-version").filter(is_version)
            && answered != asked
            && self.is_new(answered)
        {
            warn!(
                asked,
                answered,
                "shopify: asked for version {asked}, answered with {answered}; set shopify.api_version to a live one"
            );
        }
        if let Some(reason) = text("x-shopify-api-deprecated-reason") {
            let reason = scrub(reason, &[]);
            if self.is_new(&reason) {
                warn!("shopify: an answer calls what was asked for deprecated: {reason}; a newer release is needed");
            }
        }
    }

    fn is_new(&self, text: &str) -> bool {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        noted.len() < MAX_NOTED && noted.insert(text.to_owned())
    }

    /// What was warned about.
    #[cfg(test)]
    pub(super) fn noted(&self) -> HashSet<String> {
        self.noted.lock().unwrap().clone()
    }
}

/// Shopify's error, with what its headers add: the request's name, and how long to wait.
fn failed(call: &'static str, answer: &Answer, failure: Failure, secrets: &[&str]) -> ShopifyError {
    let mut error = ShopifyError::from_failure(call, answer.status, failure, secrets);
    let text = |name: &str| answer.headers.get(name).and_then(|value| value.to_str().ok());
    error.request_id = error.request_id.or_else(|| text("x-request-id").and_then(request_id));
    if let ShopifyErrorKind::Throttled { retry_after: retry_after @ None } = &mut error.kind {
        // Shopify writes seconds as `2.0` as well.
        let seconds = text(RETRY_AFTER.as_str()).and_then(|text| text.trim().parse::<f64>().ok());
        let seconds = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        let hint = seconds.map(|wait| wait.min(LONGEST_HINT)).filter(|wait| !wait.is_zero());
        *retry_after = hint.or_else(|| http_client::retry_after(&answer.headers));
    }
    error
}

async fn read(
    call: &'static str,
    response: &mut Response,
    most: usize,
    secrets: &[&str],
) -> Result<Bytes, ShopifyError> {
    http_client::body(response, most).await.map_err(|unread| match unread {
        Unread::Broken(e) => network(call, e, secrets),
        Unread::TooLarge => ShopifyError::odd(call, &format!("the answer is larger than {} KiB", most / 1024)),
    })
}

pub(super) fn network(call: &'static str, error: reqwest::Error, secrets: &[&str]) -> ShopifyError {
    if let Some(fault) = TlsFault::of(&error) {
        let text = fault.text("shopify.api_url", None);
        return ShopifyError::local(call, ShopifyErrorKind::Misconfigured, text);
    }
    let what = if error.is_timeout() { "timed out" } else { "network error" };
    let text = scrub(&http_client::describe(what, error), secrets);
    ShopifyError::local(call, ShopifyErrorKind::Transient, text)
}

fn header_of(call: &'static str, token: &Secret) -> Result<HeaderValue, ShopifyError> {
    let no_token = || {
        let text = "the token is empty or holds characters that no token has";
        ShopifyError::local(call, ShopifyErrorKind::TokenRefused, text)
    };
    if token.is_empty() || !token.expose().bytes().all(|b| b.is_ascii_graphic()) {
        return Err(no_token());
    }
    let mut value = HeaderValue::from_str(token.expose()).map_err(|_| no_token())?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests;
