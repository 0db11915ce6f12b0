//! The targets of what comes from Shopify.

use std::collections::BTreeSet;
use std::time::Duration;

use http::HeaderValue;
use serde::de::IgnoredAny;
use serde_json::Value;
use url::form_urlencoded;

use super::common::{CANARY, check_said, key, status_and_rest};
use crate::core::disposition::Disposition;
use crate::core::model::{Secret, WallTime};
use crate::sources::facebook::signature::sign_sha256;
use crate::sources::scrub::MAX_MESSAGE;
use crate::sources::shopify::delivery::{Action, DeliveryError, Headers};
use crate::sources::shopify::error::{Failure, Grant, ShopifyError, ShopifyErrorKind, parse, parse_grant};
use crate::sources::shopify::ids::ProductId;
use crate::sources::shopify::query_hmac::{CLOCK_SKEW, LIFETIME, Query};
use crate::sources::shopify::webhook_signature::{self, ClientKeys};
use crate::sources::shopify::webhooks::TOPICS;
use crate::sources::shopify::{bulk_lines, withstands};

/// The shop of the deliveries.
const SHOP: &str = "some-shop.myshopify.com";
/// Topics beside [`TOPICS`].
const MORE_TOPICS: [&str; 10] = [
    "variants/in_stock",
    "variants/out_of_stock",
    "product_publications/create",
    "bulk_operations/finish",
    "domains/update",
    "locations/update",
    "customers/data_request",
    "customers/redact",
    "shop/redact",
    "orders/create",
];

/// A delivery of Shopify: the body under every topic, its signature, and the bytes as the headers.
pub fn shopify_webhook(bytes: &[u8]) {
    let (key, other) = (key(), Secret::new("another"));
    let signature = webhook_signature::sign(bytes, &key);
    let is_json = std::str::from_utf8(bytes).is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok());
    for topic in TOPICS.iter().chain(&MORE_TOPICS) {
        let Some(headers) = shop_headers([topic.as_bytes(), SHOP.as_bytes(), signature.as_bytes(), b""]) else {
            panic!("the headers of {topic} are refused");
        };
        match headers.action(bytes) {
            Ok(action) => {
                assert!(is_json, "{topic}: no JSON is taken");
                check_action(&action, bytes);
            }
            Err(DeliveryError::NotJson) => assert!(!is_json, "{topic}: JSON is refused"),
            Err(error) => assert!(["app/uninstalled", "shop/redact"].contains(topic), "{topic}: {error}"),
        }
        assert!(verified(&headers, bytes, &[&other, &key]) && !verified(&headers, bytes, &[&other]));
        assert!(!verified(&headers, &[bytes, b" "].concat(), &[&key]));
    }
    let mut lines = bytes.split(|byte| *byte == b'\n');
    if let Some(headers) = shop_headers([(); 4].map(|()| lines.next().unwrap_or_default())) {
        check_said(&format!("{headers:?}"), 400);
        assert!(!verified(&headers, b"a body that nobody signed", &[&key]));
    }
}

/// Headers with these values: topic, shop, signature, moment.
fn shop_headers(values: [&[u8]; 4]) -> Option<Headers> {
    let names =
        ["x-shopify-topic", "x-shopify-shop-domain", "x-shopify-hmac-sha256", "x-shopify-triggered-at"].into_iter();
    let value = |(name, value): (&'static str, &[u8])| Some((name.parse().ok()?, HeaderValue::from_bytes(value).ok()?));
    Headers::read(&names.zip(values).filter_map(value).collect()).ok()
}

fn verified(headers: &Headers, body: &[u8], secrets: &[&Secret]) -> bool {
    ClientKeys::new(secrets.iter().copied()).made(&headers.signature, body)
}

/// What is asked for is well formed; what deletes was said by the body.
fn check_action(action: &Action, body: &[u8]) {
    match action {
        Action::Product(id) => {
            assert_eq!(ProductId::from_gid(&id.gid()), Some(*id));
            assert_eq!(ProductId::from_part(&id.part()), Some(*id));
        }
        Action::Uninstalled { shop } | Action::Redact { shop } => {
            assert_eq!(shop.as_str(), SHOP);
            // Numbers that JSON has and this reader has not are passed over in a delivery.
            let Ok(body) = serde_json::from_slice::<Value>(body) else { return };
            let names = |key: &str| body[key].as_str().is_some_and(|named| named.eq_ignore_ascii_case(SHOP));
            let is_redact = matches!(action, Action::Redact { .. });
            assert!(names(if is_redact { "shop_domain" } else { "myshopify_domain" }), "the body names no shop");
            assert!(!is_redact || body["customer"].is_null(), "the body of a customer deletes a shop");
        }
        Action::ShopChanged | Action::Collections | Action::ScopesChanged | Action::Customers | Action::Ignored => {}
    }
}

/// The query that a browser brings from Shopify: only what is signed by the secret is taken, in whatever order and
/// spelling it comes.
pub fn shopify_query(bytes: &[u8]) {
    let (key, text) = (key(), String::from_utf8_lossy(bytes));
    let keys = ClientKeys::new([&key]);
    match Query::parse(&text) {
        Ok(query) => {
            assert!(query.verify(&ClientKeys::new([&Secret::new("another")])).is_err(), "a forged query is taken");
            let _ = query.verify(&keys);
            if query.check_fresh(WallTime(1_763_769_600_000)).is_ok() {
                let at: u64 = query.param("timestamp").and_then(|at| at.parse().ok()).unwrap_or_default();
                assert!(at.abs_diff(1_763_769_600) <= (LIFETIME + CLOCK_SKEW).as_secs(), "a stale query is fresh");
            }
        }
        Err(error) => check_said(&error.to_string(), 100),
    }
    let pairs = form_urlencoded::parse(bytes).into_owned();
    let mut pairs: Vec<(String, String)> =
        pairs.filter(|(name, _)| !["hmac", "signature"].contains(&name.as_str())).collect();
    let mut tag = query_tag(&pairs, &key);
    let verdict = |pairs: &[(String, String)], tag: &str| {
        let mut text = form_urlencoded::Serializer::new(format!("hmac={tag}&signature=1&"));
        Query::parse(&text.extend_pairs(pairs).finish()).map(|query| query.verify(&keys).is_ok())
    };
    let Ok(is_taken) = verdict(&pairs, &tag) else { return };
    assert!(is_taken, "a query that is signed right is refused");
    if pairs.iter().map(|(name, _)| name).collect::<BTreeSet<_>>().len() == pairs.len() {
        pairs.reverse();
        assert_eq!(verdict(&pairs, &tag), Ok(true), "the order of a query counts");
    }
    let more = [&pairs[..], &[("more".to_owned(), String::new())]].concat();
    assert_ne!(verdict(&more, &tag), Ok(true), "a parameter that is not signed is taken");
    let last = if tag.ends_with('0') { "1" } else { "0" };
    tag.replace_range(63.., last);
    assert_eq!(verdict(&pairs, &tag), Ok(false), "a wrong signature is taken");
}

/// The `hmac` of these parameters, made in another way than the reader makes it.
fn query_tag(pairs: &[(String, String)], key: &Secret) -> String {
    let encoded = |text: &str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"*-._".contains(&byte);
        let one = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
        text.bytes().map(one).collect::<String>()
    };
    let mut sorted: Vec<_> = pairs.iter().collect();
    sorted.sort_by(|a, b| a.0.cmp(&b.0));
    let pairs: Vec<String> =
        sorted.iter().map(|(name, value)| format!("{}={}", encoded(name), encoded(value))).collect();
    sign_sha256(pairs.join("&").as_bytes(), key).split_off("sha256=".len())
}

/// An answer of Shopify, of the Admin API and of the token endpoint: a status (two bytes) and a body, and the body with a
/// good status.
pub fn shopify_answer(bytes: &[u8]) {
    let (status, body) = status_and_rest(bytes);
    let said = |text: &str| check_said(text, MAX_MESSAGE + 300);
    for status in [status, 200] {
        let parsed = parse(status, body);
        if let Some(cost) = parsed.cost {
            assert!(cost.wait() <= Duration::from_secs(86_400), "a shop waits for {:?}", cost.wait());
        }
        match parsed.result {
            Ok(data) => {
                assert!((200..300).contains(&status), "{status} passed for a success");
                withstands::withstands(&data, &said);
            }
            Err(failure) => check_failure(status, body, failure),
        }
        for grant in [Grant::Code, Grant::Refresh, Grant::Migration] {
            match parse_grant(grant, status, body) {
                Ok(answer) => {
                    assert!((200..300).contains(&status), "{status} passed for a grant");
                    withstands::grant_withstands(grant, &answer, &said);
                }
                Err(failure) => check_failure(status, body, failure),
            }
        }
    }
}

/// A link is parked on Shopify's own word alone, and what is said of a failure is fit for a log.
fn check_failure(status: u16, body: &[u8], failure: Failure) {
    let error = ShopifyError::from_failure("fuzz", status, failure, &[CANARY]);
    check_said(&error.text, MAX_MESSAGE + 1);
    check_said(&error.to_string(), MAX_MESSAGE + 300);
    match error.disposition() {
        Disposition::Park(_) => {
            let is_json = serde_json::from_slice::<IgnoredAny>(body).is_ok();
            assert!(is_json || [402, 423].contains(&status), "a shop is parked, and Shopify said nothing");
        }
        Disposition::RateLimited { retry_after } => {
            assert!(retry_after.is_none_or(|wait| wait <= Duration::from_secs(86_400)), "{retry_after:?}");
        }
        Disposition::Retry | Disposition::Misconfigured | Disposition::Rejected => {}
    }
    if let ShopifyErrorKind::UndefinedField { field: Some(field) } = error.kind {
        assert!(field.len() <= 64 && field.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'));
    }
}

/// The file of a bulk operation, and how it is cut into pieces.
pub fn shopify_bulk(bytes: &[u8]) {
    bulk_lines::withstands(bytes);
}
