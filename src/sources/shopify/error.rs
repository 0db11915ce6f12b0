//! What went wrong with a call of Shopify, as a *kind* that decides what to do about it. Pure.
//!
//! The Admin API answers 200 to most failures: what counts is `errors[].extensions.code`. The body of another status has
//! `errors` as a text, an object or a list, and the token endpoint has `error` and `error_description` instead.
//!
//! An answer that is not Shopify's (HTML of something in between, an empty or cut body) is *transient*, whatever its
//! status: a shop is parked only on Shopify's own word. Two statuses are that word by themselves, 402 and 423, because
//! nothing else on the way answers with them.

use std::fmt;
use std::time::Duration;

use serde_json::Value;

use super::budget::Cost;
use crate::core::disposition::Disposition;
use crate::core::park_reason::ParkReason;
use crate::sources::api::SourceError;
use crate::sources::scrub::scrub;

/// After Shopify's "security rejection".
const REJECTED_FOR: Duration = Duration::from_secs(60 * 60);
/// The most errors of one answer whose texts are kept.
const MAX_TEXTS: usize = 3;

/// What to do about an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShopifyErrorKind {
    /// Network, timeout, 5xx, or an answer that is not Shopify's: try again later, with backoff.
    Transient,
    /// The shop's budget is spent (`THROTTLED`, 429).
    Throttled {
        /// When it is there again, where that is known.
        retry_after: Option<Duration>,
    },
    /// 430: Shopify takes the calls for an attack.
    SecurityRejection,
    /// The query asks for more than 1000 points.
    TooCostly,
    /// A scope is missing, or protected data is not approved (`ACCESS_DENIED`, 403).
    AccessDenied,
    /// The shop is closed or flagged (`SHOP_INACTIVE`, 403).
    ShopInactive,
    /// The version does not have a field that was asked for.
    UndefinedField {
        /// Which, where Shopify says it.
        field: Option<Box<str>>,
    },
    /// The token is dead (401). When its hour is over that is no surprise; a fresh one was revoked by an uninstall.
    TokenRefused,
    /// The token is of the old kind, which does not expire and is not taken any more (403).
    NonExpiringToken,
    /// The refresh token is spent or expired.
    RefreshEnded,
    /// The code of a login was used before, or is none of ours.
    CodeSpent,
    /// The shop has not paid (402).
    Frozen,
    /// The shop is locked (423).
    Locked,
    /// No such shop (404).
    NotFound,
    /// The app's own settings are wrong.
    Misconfigured,
    /// Shopify refused what was sent, and would refuse it again.
    BadRequest,
}

impl ShopifyErrorKind {
    /// What follows for the link whose call failed with this kind.
    pub fn disposition(&self) -> Disposition {
        match self {
            ShopifyErrorKind::Transient => Disposition::Retry,
            ShopifyErrorKind::Throttled { retry_after } => Disposition::RateLimited { retry_after: *retry_after },
            ShopifyErrorKind::SecurityRejection => Disposition::RateLimited { retry_after: Some(REJECTED_FOR) },
            ShopifyErrorKind::Misconfigured => Disposition::Misconfigured,
            ShopifyErrorKind::AccessDenied => Disposition::Park(ParkReason::ScopeMissing),
            ShopifyErrorKind::ShopInactive => Disposition::Park(ParkReason::ShopInactive),
            ShopifyErrorKind::NotFound => Disposition::Park(ParkReason::ShopGone),
            ShopifyErrorKind::TokenRefused => Disposition::Park(ParkReason::Uninstalled),
            ShopifyErrorKind::NonExpiringToken | ShopifyErrorKind::RefreshEnded => {
                Disposition::Park(ParkReason::RefreshEnded)
            }
            ShopifyErrorKind::Frozen => Disposition::Park(ParkReason::ShopFrozen),
            ShopifyErrorKind::Locked => Disposition::Park(ParkReason::ShopLocked),
            ShopifyErrorKind::TooCostly
            | ShopifyErrorKind::UndefinedField { .. }
            | ShopifyErrorKind::CodeSpent
            | ShopifyErrorKind::BadRequest => Disposition::Rejected,
        }
    }

    /// Does it speak of Shopify as a whole? Budgets are each shop's own, so a spent one does not.
    pub fn is_general(&self) -> bool {
        matches!(
            self,
            ShopifyErrorKind::Transient | ShopifyErrorKind::Misconfigured | ShopifyErrorKind::SecurityRejection
        )
    }

    /// Its name in metrics and logs.
    pub fn word(&self) -> &'static str {
        match self {
            ShopifyErrorKind::Transient => "transient",
            ShopifyErrorKind::Throttled { .. } => "throttled",
            ShopifyErrorKind::SecurityRejection => "security_rejection",
            ShopifyErrorKind::TooCostly => "too_costly",
            ShopifyErrorKind::AccessDenied => "access_denied",
            ShopifyErrorKind::ShopInactive => "shop_inactive",
            ShopifyErrorKind::UndefinedField { .. } => "undefined_field",
            ShopifyErrorKind::TokenRefused => "token_refused",
            ShopifyErrorKind::NonExpiringToken => "non_expiring_token",
            ShopifyErrorKind::RefreshEnded => "refresh_ended",
            ShopifyErrorKind::CodeSpent => "code_spent",
            ShopifyErrorKind::Frozen => "frozen",
            ShopifyErrorKind::Locked => "locked",
            ShopifyErrorKind::NotFound => "not_found",
            ShopifyErrorKind::Misconfigured => "misconfigured",
            ShopifyErrorKind::BadRequest => "bad_request",
        }
    }
}

/// A call that did not succeed. Safe to print: its text holds no token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShopifyError {
    /// What to do about it.
    pub kind: ShopifyErrorKind,
    /// Which call.
    pub call: &'static str,
    /// The HTTP status, when there was an answer.
    pub status: Option<u16>,
    /// Shopify's name for the answer, to quote to their support.
    pub request_id: Option<Box<str>>,
    /// Shopify's words, scrubbed and bounded.
    pub text: String,
}

impl ShopifyError {
    /// An error without an answer of Shopify. The text must hold nothing secret.
    pub(super) fn local(call: &'static str, kind: ShopifyErrorKind, text: impl Into<String>) -> ShopifyError {
        ShopifyError { kind, call, status: None, request_id: None, text: text.into() }
    }

    /// An answer that has not the shape that was promised.
    pub(super) fn odd(call: &'static str, what: &str) -> ShopifyError {
        ShopifyError { status: Some(200), ..ShopifyError::local(call, ShopifyErrorKind::Transient, what) }
    }

    /// Shopify's error in answer to `call`, without `secrets`.
    pub fn from_failure(call: &'static str, status: u16, failure: Failure, secrets: &[&str]) -> ShopifyError {
        ShopifyError {
            kind: failure.kind,
            call,
            status: Some(status),
            request_id: failure.request_id.and_then(|id| request_id(&id)),
            text: scrub(&failure.text, secrets),
        }
    }

    /// What follows for the link.
    pub fn disposition(&self) -> Disposition {
        self.kind.disposition()
    }
}

impl fmt::Display for ShopifyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "shopify call {} failed ({})", self.call, self.kind.word())?;
        if !self.text.is_empty() {
            write!(f, ": {}", self.text)?;
        }
        if let Some(status) = self.status {
            write!(f, " [http {status}]")?;
        }
        match &self.request_id {
            Some(id) => write!(f, " [request {id}]"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ShopifyError {}

impl From<ShopifyError> for SourceError {
    fn from(error: ShopifyError) -> Self {
        SourceError {
            disposition: error.disposition(),
            answered: error.status.is_some(),
            is_general: error.kind.is_general(),
            is_reached: false,
            text: error.to_string(),
        }
    }
}

/// A request id, if it looks like one: a UUID, often with a moment behind it. It is checked instead of scrubbed, since it
/// is as long and random as a token.
pub fn request_id(id: &str) -> Option<Box<str>> {
    let is_sound = |b: u8| b.is_ascii_hexdigit() || b == b'-';
    ((16..=64).contains(&id.len()) && id.bytes().all(is_sound)).then(|| id.into())
}

/// What was found in an answer. The text is as Shopify wrote it and may hold a token: it goes through [`scrub`] first.
#[derive(Clone, PartialEq, Eq)]
pub struct Failure {
    /// What to do about it.
    pub kind: ShopifyErrorKind,
    text: String,
    request_id: Option<String>,
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Failure({:?})", self.kind)
    }
}

fn failure(kind: ShopifyErrorKind, text: impl Into<String>) -> Failure {
    Failure { kind, text: text.into(), request_id: None }
}

/// An answer of the Admin API: what it brought, and what it cost.
#[derive(Debug)]
pub struct Parsed {
    /// `data`, without any error beside it.
    pub result: Result<Value, Failure>,
    /// What the answer says of the budget, whether the call succeeded or not.
    pub cost: Option<Cost>,
}

/// Reads an answer of the Admin API. Data beside errors is no success: a part of a shop must not pass for all of it.
pub fn parse(status: u16, body: &[u8]) -> Parsed {
    let Ok(mut value) = serde_json::from_slice::<Value>(body) else {
        return Parsed { result: Err(not_json(status, body)), cost: None };
    };
    let cost = Cost::read(&value);
    let errors = value.get("errors").filter(|errors| !is_nothing(errors));
    let result = match errors {
        Some(errors) => Err(read_errors(status, errors, cost.as_ref())),
        None if !(200..300).contains(&status) => Err(failure(by_status(status, None), "the answer has no errors")),
        None => match value.get_mut("data").map(Value::take) {
            Some(data) if data.is_object() => Ok(data),
            _ => Err(failure(ShopifyErrorKind::Transient, "the answer has no data")),
        },
    };
    Parsed { result, cost }
}

fn is_nothing(errors: &Value) -> bool {
    errors.is_null() || errors.as_array().is_some_and(Vec::is_empty)
}

fn not_json(status: u16, body: &[u8]) -> Failure {
    let what = if body.is_empty() { "the answer is empty" } else { "the answer is not JSON" };
    failure(by_status(status, None), what)
}

fn read_errors(status: u16, errors: &Value, cost: Option<&Cost>) -> Failure {
    let list = match errors {
        Value::Array(list) => list.as_slice(),
        other => {
            let text = texts(std::slice::from_ref(other));
            return failure(by_status(status, Some(&text)), text);
        }
    };
    let kinds: Vec<ShopifyErrorKind> = list.iter().filter_map(|error| by_code(error, cost)).collect();
    // A budget that is spent says nothing of the rest, and of the rest the first one decides.
    let throttled = kinds.iter().find(|kind| matches!(kind, ShopifyErrorKind::Throttled { .. }));
    let text = texts(list);
    let kind = throttled.or(kinds.first()).cloned();
    let kind = kind.unwrap_or_else(|| match status {
        200..300 => ShopifyErrorKind::BadRequest,
        _ => by_status(status, Some(&text)),
    });
    let request_id = list.iter().find_map(|error| {
        let id = error.get("extensions").and_then(|e| e.get("requestId")).or_else(|| error.get("requestId"));
        id.and_then(Value::as_str).map(str::to_owned)
    });
    Failure { kind, text, request_id }
}

/// The kind of one error of GraphQL; `None` for one that says too little.
fn by_code(error: &Value, cost: Option<&Cost>) -> Option<ShopifyErrorKind> {
    let extensions = error.get("extensions");
    let of = |key: &str| extensions.and_then(|e| e.get(key)).and_then(Value::as_str);
    Some(match of("code") {
        Some("THROTTLED") => ShopifyErrorKind::Throttled { retry_after: cost.map(Cost::wait) },
        Some("MAX_COST_EXCEEDED") => ShopifyErrorKind::TooCostly,
        Some("ACCESS_DENIED") => ShopifyErrorKind::AccessDenied,
        Some("SHOP_INACTIVE") => ShopifyErrorKind::ShopInactive,
        Some("INTERNAL_SERVER_ERROR" | "TIMEOUT" | "SERVICE_UNAVAILABLE") => ShopifyErrorKind::Transient,
        Some("undefinedField") => ShopifyErrorKind::UndefinedField { field: of("fieldName").and_then(field_name) },
        Some(_) => ShopifyErrorKind::BadRequest,
        None => {
            let message = error.get("message").and_then(Value::as_str).unwrap_or_default();
            let named = message.split_once("Field '").and_then(|(_, rest)| rest.split_once('\''));
            match named {
                Some((name, rest)) if rest.contains("doesn't exist") => {
                    ShopifyErrorKind::UndefinedField { field: field_name(name) }
                }
                _ if message == "Throttled" => ShopifyErrorKind::Throttled { retry_after: cost.map(Cost::wait) },
                _ if message.starts_with("Internal error") => ShopifyErrorKind::Transient,
                _ => return None,
            }
        }
    })
}

fn field_name(name: &str) -> Option<Box<str>> {
    let is_sound = (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    is_sound.then(|| name.into())
}

/// What a status means; `text` when Shopify's own words came with it.
fn by_status(status: u16, text: Option<&str>) -> ShopifyErrorKind {
    match (status, text) {
        (402, _) => ShopifyErrorKind::Frozen,
        (423, _) => ShopifyErrorKind::Locked,
        (429, _) => ShopifyErrorKind::Throttled { retry_after: None },
        (430, _) => ShopifyErrorKind::SecurityRejection,
        (401, Some(_)) => ShopifyErrorKind::TokenRefused,
        (403, Some(text)) => forbidden(&text.to_lowercase()),
        (404, Some(_)) => ShopifyErrorKind::NotFound,
        (400 | 405 | 406 | 413 | 414 | 415 | 422, Some(_)) => ShopifyErrorKind::BadRequest,
        _ => ShopifyErrorKind::Transient,
    }
}

/// The text alone says what a 403 means.
fn forbidden(text: &str) -> ShopifyErrorKind {
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if says(&["non-expiring access token"]) {
        ShopifyErrorKind::NonExpiringToken
    } else if says(&["scope", "access denied", "approval", "permission", "not approved"]) {
        ShopifyErrorKind::AccessDenied
    } else if says(&["shop is", "store is", "inactive", "flagged", "unavailable"]) {
        ShopifyErrorKind::ShopInactive
    } else {
        ShopifyErrorKind::Transient
    }
}

/// The words of errors, whatever their shape.
fn texts(errors: &[Value]) -> String {
    let mut found = Vec::new();
    errors.iter().for_each(|error| collect(error, &mut found));
    found.truncate(MAX_TEXTS);
    found.join("; ")
}

fn collect(error: &Value, found: &mut Vec<String>) {
    match error {
        _ if found.len() > MAX_TEXTS => {}
        Value::String(text) => found.push(text.clone()),
        Value::Array(list) => list.iter().for_each(|error| collect(error, found)),
        Value::Object(object) => match object.get("message") {
            Some(message) => collect(message, found),
            None => object.iter().for_each(|(name, what)| {
                let before = found.len();
                collect(what, found);
                found[before..].iter_mut().for_each(|text| *text = format!("{name}: {text}"));
            }),
        },
        _ => {}
    }
}

/// What is asked of the token endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grant {
    /// A code for a pair of tokens.
    Code,
    /// A refresh token for a new pair.
    Refresh,
    /// A token of the old kind for a pair.
    Migration,
}

/// The JSON of a good answer of the token endpoint, or what a bad one means.
///
/// A refresh that fails in any other way than by Shopify saying that the refresh token is dead is to be repeated with the
/// same token: its answer may have been lost.
///
/// # Errors
/// A [`Failure`] for everything but a 2xx answer in JSON without `error`.
pub fn parse_grant(grant: Grant, status: u16, body: &[u8]) -> Result<Value, Failure> {
    let Ok(value) = serde_json::from_slice::<Value>(body) else { return Err(not_json(status, body)) };
    let Some(error) = value.get("error").and_then(Value::as_str) else {
        return match value.get("errors").filter(|errors| !is_nothing(errors)) {
            Some(errors) => {
                let text = texts(std::slice::from_ref(errors));
                Err(failure(grant_by_status(grant, status, &text), text))
            }
            None if (200..300).contains(&status) => Ok(value),
            None => Err(failure(by_status(status, None), "the answer has no error")),
        };
    };
    let more = value.get("error_description").and_then(Value::as_str).unwrap_or_default();
    let text = if more.is_empty() { error.to_owned() } else { format!("{error}: {more}") };
    let is_dead = error == "invalid_grant" || more.contains("active refresh_token");
    let kind = match (error, grant) {
        ("invalid_client" | "unauthorized_client" | "application_cannot_be_found", _) => {
            ShopifyErrorKind::Misconfigured
        }
        (_, Grant::Refresh) if is_dead && (400..500).contains(&status) => ShopifyErrorKind::RefreshEnded,
        _ => grant_by_status(grant, status, &text),
    };
    Err(failure(kind, text))
}

fn grant_by_status(grant: Grant, status: u16, text: &str) -> ShopifyErrorKind {
    match (grant, status) {
        (Grant::Code, 400 | 401 | 403) => ShopifyErrorKind::CodeSpent,
        (Grant::Migration, 400 | 401 | 403) => ShopifyErrorKind::TokenRefused,
        (Grant::Refresh, 400 | 401 | 403) => ShopifyErrorKind::Transient,
        _ => by_status(status, Some(text)),
    }
}

#[cfg(test)]
mod tests;
