//! Shopify's errors, and what follows from each.
//!
//! Admin API answers bring errors as an array (GraphQL, with a status of 200), or as a text or an object; the token
//! endpoint uses `error` and `error_description`; and the edge answers in HTML.

use std::fmt;
use std::time::Duration;

use serde_json::Value;

use crate::core::disposition::Disposition;
use crate::core::park_reason::ParkReason;
use crate::sources::api::SourceError;
use crate::sources::facebook::graph::scrub::scrub;

/// What a failure means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShopifyErrorKind {
    /// It passes: the network, the edge, an answer that cannot be read.
    Transient,
    /// The bucket of the shop is empty, or the endpoint limits how often it is called.
    Throttled {
        /// When to try again, where that is known.
        retry_after: Option<Duration>,
    },
    /// The access token is dead (401).
    TokenDead,
    /// The refresh token is spent or expired.
    RefreshDead,
    /// The code was used before, or is not one of this app.
    CodeSpent,
    /// An access scope is missing for something that was asked for.
    AccessDenied,
    /// The shop has not paid (402).
    Frozen,
    /// The shop is locked (423).
    Locked,
    /// There is no such shop, or it was closed (404, `SHOP_INACTIVE`).
    Gone,
    /// Shopify suspects an attack (430).
    SecurityRejection,
    /// The client id, the client secret or the kind of token is not the app's.
    Misconfigured,
    /// Shopify refuses this query, and would refuse it again.
    Rejected,
}

impl ShopifyErrorKind {
    /// The word in metrics.
    pub fn word(self) -> &'static str {
        match self {
            ShopifyErrorKind::Transient => "transient",
            ShopifyErrorKind::Throttled { .. } => "throttled",
            ShopifyErrorKind::TokenDead => "token_dead",
            ShopifyErrorKind::RefreshDead => "refresh_dead",
            ShopifyErrorKind::CodeSpent => "code_spent",
            ShopifyErrorKind::AccessDenied => "access_denied",
            ShopifyErrorKind::Frozen => "frozen",
            ShopifyErrorKind::Locked => "locked",
            ShopifyErrorKind::Gone => "gone",
            ShopifyErrorKind::SecurityRejection => "security_rejection",
            ShopifyErrorKind::Misconfigured => "misconfigured",
            ShopifyErrorKind::Rejected => "rejected",
        }
    }
}

/// A call that did not succeed. Safe to print.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShopifyError {
    /// What it means.
    pub kind: ShopifyErrorKind,
    /// The call.
    pub call: &'static str,
    /// The status, where an answer came.
    pub status: Option<u16>,
    /// What Shopify said, without secrets.
    pub message: String,
    /// Shopify's name for the request, for their support.
    pub request_id: Option<String>,
}

impl fmt::Display for ShopifyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.call, self.message)?;
        if let Some(status) = self.status {
            write!(f, " (status {status})")?;
        }
        if let Some(id) = &self.request_id {
            write!(f, " [request {id}]")?;
        }
        Ok(())
    }
}

impl std::error::Error for ShopifyError {}

/// A locked shop is looked at again after this time, and so is one that Shopify suspects.
const LONG: Duration = Duration::from_secs(60 * 60);

impl ShopifyError {
    /// An error that no answer speaks of.
    pub(super) fn local(call: &'static str, kind: ShopifyErrorKind, message: impl Into<String>) -> Self {
        ShopifyError { kind, call, status: None, message: message.into(), request_id: None }
    }

    /// What follows from it.
    pub fn disposition(&self) -> Disposition {
        match self.kind {
            ShopifyErrorKind::Transient => Disposition::Retry,
            ShopifyErrorKind::Throttled { retry_after } => Disposition::RateLimited { retry_after },
            ShopifyErrorKind::SecurityRejection => Disposition::RateLimited { retry_after: Some(LONG) },
            ShopifyErrorKind::TokenDead => Disposition::Park(ParkReason::Uninstalled),
            ShopifyErrorKind::RefreshDead => Disposition::Park(ParkReason::RefreshEnded),
            ShopifyErrorKind::AccessDenied => Disposition::Park(ParkReason::ScopeMissing),
            ShopifyErrorKind::Frozen => Disposition::Park(ParkReason::ShopFrozen),
            ShopifyErrorKind::Locked => Disposition::Park(ParkReason::ShopLocked),
            ShopifyErrorKind::Gone => Disposition::Park(ParkReason::ShopGone),
            ShopifyErrorKind::Misconfigured => Disposition::Misconfigured,
            ShopifyErrorKind::CodeSpent | ShopifyErrorKind::Rejected => Disposition::Rejected,
        }
    }

    /// Does it pass by itself?
    pub fn is_transient(&self) -> bool {
        matches!(self.disposition(), Disposition::Retry | Disposition::RateLimited { .. })
    }

    /// Does it speak of Shopify as a whole, and not of one shop?
    pub fn is_general(&self) -> bool {
        matches!(self.kind, ShopifyErrorKind::Transient | ShopifyErrorKind::Misconfigured)
    }
}

impl From<ShopifyError> for SourceError {
    fn from(error: ShopifyError) -> Self {
        SourceError {
            disposition: error.disposition(),
            answered: error.status.is_some(),
            is_general: error.is_general(),
            is_reached: false,
            text: error.to_string(),
        }
    }
}

/// What the text of a 403 says about tokens that do not expire.
const NOT_EXPIRING: &str = "Non-expiring access tokens";

/// The kind and the text of an answer of the Admin API that is not a good one; `None` for a good one.
pub(super) fn of_api(status: u16, body: &[u8], retry_after: Option<Duration>) -> Option<(ShopifyErrorKind, String)> {
    use ShopifyErrorKind as Kind;
    let value: Option<Value> = serde_json::from_slice(body).ok();
    let text = value.as_ref().and_then(text_of).unwrap_or_else(|| match body {
        [] => "the answer is empty".to_owned(),
        _ if value.is_none() => "the answer is not JSON".to_owned(),
        _ => "the answer has no data".to_owned(),
    });
    let kind = match status {
        200 => match &value {
            Some(value) if value["errors"].is_array() => of_graphql(value),
            Some(value) if value["data"].is_object() => return None,
            _ => Kind::Transient,
        },
        400 => Kind::Rejected,
        401 => Kind::TokenDead,
        402 => Kind::Frozen,
        403 if text.contains(NOT_EXPIRING) => Kind::Misconfigured,
        403 => Kind::AccessDenied,
        404 => Kind::Gone,
        423 => Kind::Locked,
        429 => Kind::Throttled { retry_after },
        430 => Kind::SecurityRejection,
        _ => Kind::Transient,
    };
    Some((kind, scrub(&text, &[])))
}

fn of_graphql(value: &Value) -> ShopifyErrorKind {
    use ShopifyErrorKind as Kind;
    let code = value["errors"][0]["extensions"]["code"].as_str().unwrap_or_default();
    match code {
        "THROTTLED" => Kind::Throttled { retry_after: time_to_fill(value) },
        "ACCESS_DENIED" => Kind::AccessDenied,
        "SHOP_INACTIVE" => Kind::Gone,
        "INTERNAL_SERVER_ERROR" => Kind::Transient,
        _ => Kind::Rejected,
    }
}

/// How long the bucket takes until the query that was refused can be paid. At least a second, as Shopify advises.
fn time_to_fill(value: &Value) -> Option<Duration> {
    let cost = &value["extensions"]["cost"];
    let needed = cost["requestedQueryCost"].as_f64()?;
    let left = cost["throttleStatus"]["currentlyAvailable"].as_f64()?;
    let rate = cost["throttleStatus"]["restoreRate"].as_f64().filter(|rate| *rate > 0.0)?;
    let seconds = ((needed - left) / rate).clamp(1.0, 3600.0);
    Duration::try_from_secs_f64(seconds).ok()
}

/// The kind and the text of an answer of the token endpoint that is not a good one.
pub(super) fn of_tokens(
    status: u16,
    body: &[u8],
    is_refresh: bool,
    retry_after: Option<Duration>,
) -> (ShopifyErrorKind, String) {
    use ShopifyErrorKind as Kind;
    let value: Option<Value> = serde_json::from_slice(body).ok();
    let word = value.as_ref().and_then(|value| value["error"].as_str()).unwrap_or_default().to_owned();
    let text = value.as_ref().and_then(text_of).unwrap_or_else(|| "the answer is not JSON".to_owned());
    let kind = match (status, word.as_str()) {
        (429, _) => Kind::Throttled { retry_after },
        (_, "invalid_client") => Kind::Misconfigured,
        // Seen for a refresh token that is spent: 400 `invalid_grant`, and 401 `invalid_request`.
        (400 | 401 | 403, "invalid_grant" | "invalid_request" | "invalid_subject_token") if is_refresh => {
            Kind::RefreshDead
        }
        (400, _) => Kind::CodeSpent,
        (402, _) => Kind::Frozen,
        (404, _) => Kind::Gone,
        (423, _) => Kind::Locked,
        (401 | 403, _) => Kind::Rejected,
        _ => Kind::Transient,
    };
    (kind, scrub(&text, &[]))
}

/// What an answer says in words, whatever its form.
fn text_of(value: &Value) -> Option<String> {
    if let Some(text) = value["error_description"].as_str().or(value["error"].as_str()) {
        return Some(text.to_owned());
    }
    match &value["errors"] {
        Value::String(text) => Some(text.clone()),
        Value::Array(errors) => {
            let messages: Vec<&str> = errors.iter().filter_map(|error| error["message"].as_str()).collect();
            (!messages.is_empty()).then(|| messages.join("; "))
        }
        Value::Object(object) => Some(Value::Object(object.clone()).to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ShopifyErrorKind as Kind;
    use serde_json::json;

    fn api(status: u16, body: &str) -> Option<Kind> {
        of_api(status, body.as_bytes(), Some(Duration::from_secs(2))).map(|(kind, _)| kind)
    }

    #[test]
    fn every_shape_of_an_answer_has_its_meaning() {
        let graphql = |code: &str| json!({"errors": [{"message": "m", "extensions": {"code": code}}]}).to_string();
        for (status, body, wanted) in [
            (200, r#"{"data":{"shop":{}}}"#.to_owned(), None),
            (200, graphql("ACCESS_DENIED"), Some(Kind::AccessDenied)),
            (200, graphql("SHOP_INACTIVE"), Some(Kind::Gone)),
            (200, graphql("INTERNAL_SERVER_ERROR"), Some(Kind::Transient)),
            (200, graphql("MAX_COST_EXCEEDED"), Some(Kind::Rejected)),
            (
                200,
                r#"{"errors":[{"message":"Field 'x' doesn't exist","path":["query"]}]}"#.to_owned(),
                Some(Kind::Rejected),
            ),
            (200, graphql("THROTTLED"), Some(Kind::Throttled { retry_after: None })),
            (200, String::new(), Some(Kind::Transient)),
            (200, "<html>".to_owned(), Some(Kind::Transient)),
            (200, r#"{"data":{"shop""#.to_owned(), Some(Kind::Transient)),
            (200, r#"{"data":null}"#.to_owned(), Some(Kind::Transient)),
            (200, "[]".to_owned(), Some(Kind::Transient)),
            (400, r#"{"errors":{"query":"Required"}}"#.to_owned(), Some(Kind::Rejected)),
            (401, r#"{"errors":"[API] Invalid API key or access token"}"#.to_owned(), Some(Kind::TokenDead)),
            (402, r#"{"errors":"Unavailable Shop"}"#.to_owned(), Some(Kind::Frozen)),
            (
                403,
                r#"{"errors":"[API] Non-expiring access tokens are no longer accepted"}"#.to_owned(),
                Some(Kind::Misconfigured),
            ),
            (403, r#"{"errors":"This action requires merchant approval"}"#.to_owned(), Some(Kind::AccessDenied)),
            (404, r#"{"errors":"Not Found"}"#.to_owned(), Some(Kind::Gone)),
            (423, "{}".to_owned(), Some(Kind::Locked)),
            (429, String::new(), Some(Kind::Throttled { retry_after: Some(Duration::from_secs(2)) })),
            (430, String::new(), Some(Kind::SecurityRejection)),
            (503, "<html>".to_owned(), Some(Kind::Transient)),
            (520, String::new(), Some(Kind::Transient)),
        ] {
            assert_eq!(api(status, &body), wanted, "{status} {body}");
        }
    }

    #[test]
    fn a_throttled_query_waits_until_it_can_be_paid() {
        let body = |needed: f64, left: f64| {
            let status = json!({"maximumAvailable": 2000.0, "currentlyAvailable": left, "restoreRate": 100.0});
            json!({"errors": [{"message": "Throttled", "extensions": {"code": "THROTTLED"}}],
                "extensions": {"cost": {"requestedQueryCost": needed, "throttleStatus": status}}})
            .to_string()
        };
        let wait = |needed, left| match api(200, &body(needed, left)) {
            Some(Kind::Throttled { retry_after }) => retry_after,
            other => panic!("{other:?}"),
        };
        assert_eq!(wait(700.0, 200.0), Some(Duration::from_secs(5)));
        assert_eq!(wait(10.0, 200.0), Some(Duration::from_secs(1)));
    }

    #[test]
    fn a_refresh_is_dead_only_when_shopify_says_so() {
        let refresh = |status, body: &str| of_tokens(status, body.as_bytes(), true, None).0;
        assert_eq!(refresh(400, r#"{"error":"invalid_grant"}"#), Kind::RefreshDead);
        let text = r#"{"error":"invalid_request","error_description":"This request requires an active refresh_token"}"#;
        assert_eq!(refresh(401, text), Kind::RefreshDead);
        for (status, body) in [(520, "<html>"), (500, "{}"), (200, ""), (503, r#"{"error":"invalid_grant"}"#)] {
            assert_eq!(refresh(status, body), Kind::Transient, "{status} {body}");
        }
        assert_eq!(refresh(401, r#"{"error":"invalid_client"}"#), Kind::Misconfigured);
        assert_eq!(of_tokens(400, br#"{"error":"invalid_request"}"#, false, None).0, Kind::CodeSpent);
    }

    #[test]
    fn no_text_shows_a_token() {
        let token = "shpat_0123456789abcdef0123456789abcdef";
        for body in [json!({"errors": token}), json!({"errors": [{"message": token}]}), json!({"errors": {"a": token}})]
        {
            let (_, text) = of_api(401, body.to_string().as_bytes(), None).unwrap();
            assert!(!text.contains("0123456789abcdef"), "{text}");
        }
    }
}
