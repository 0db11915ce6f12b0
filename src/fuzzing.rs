//! Everything that reads bytes from outside, each as one function that takes any bytes and panics when a promise of
//! its reader is broken. The fuzz targets under `fuzz/` call these, and so does `tests/corpora.rs`, which replays the
//! kept corpora and mutates them. Not for use by anybody else.
//!
//! Beyond "does not panic", what is held is: what was accepted survives being written and read again, what goes into
//! keys is well formed, what is said about a refusal is bounded, on one line and without the input's secrets.
//! [`CANARY`] stands for those in the corpora.

mod common;
mod shopify;

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderValue, header};
use serde::Serialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use crate::config::Config;
use crate::core::cleanup::Cleanup;
use crate::core::event::Event;
use crate::core::fields::Fields;
use crate::core::ledger::{Mark, Staged, Synced};
use crate::core::model::{LinkKey, PageId, PartKey, Secret, UserId, WallTime};
use crate::http::cookies::session_ids;
use crate::sources::facebook::delivery::named;
use crate::sources::facebook::graph::error::{GraphError, GraphErrorKind, classify};
use crate::sources::facebook::graph::usage::Usage;
use crate::sources::facebook::oauth::{Callback, CallbackQuery};
use crate::sources::facebook::signature::{self, sign_sha256};
use crate::sources::facebook::webhook_signature::{AppKeys, WebhookSignature};
use crate::sources::oauth::StateSigner;
use crate::sources::scrub::MAX_MESSAGE;
use crate::spaces::error::SpacesError;
use crate::store::records::{AccountRecord, CleanupRecord, DeletionRecord, LinkRecord, LoginRecord, SessionRecord};
use crate::store::{backup_log, codec};

pub use self::common::CANARY;
use self::common::{check_said, key, status_and_rest};
pub use self::shopify::{shopify_answer, shopify_bulk, shopify_query, shopify_webhook};

/// A target: takes any bytes, panics on a broken promise.
pub type Target = fn(&[u8]);

/// All targets by the name of their corpus.
pub const TARGETS: &[(&str, Target)] = &[
    ("webhook_body", webhook_body),
    ("signed_request", signed_request),
    ("oauth_state", oauth_state),
    ("cookie_header", cookie_header),
    ("callback_query", callback_query),
    ("config_text", config_text),
    ("store_records", store_records),
    ("backup_log_bytes", backup_log_bytes),
    ("import_lines", import_lines),
    ("graph_error", graph_error),
    ("usage_headers", usage_headers),
    ("spaces_error", spaces_error),
    ("shopify_webhook", shopify_webhook),
    ("shopify_query", shopify_query),
    ("shopify_answer", shopify_answer),
    ("shopify_bulk", shopify_bulk),
];

fn check_page(page: &PageId) {
    let id = page.as_str();
    assert!((1..=32).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_digit()), "{id:?} is a page id");
    let link = LinkKey::new(UserId::random(), page.clone());
    assert_eq!(LinkKey::from_bytes(&link.to_bytes()).as_ref(), Some(&link));
    assert_eq!(link.object_key().part(), Some(link.whole()));
}

/// A webhook's body, and its signature.
pub fn webhook_body(bytes: &[u8]) {
    match named(bytes) {
        Ok(named) => {
            named.pages.iter().for_each(|page| check_page(&PageId::from(*page)));
            assert!(named.pages.is_sorted_by(|a, b| a < b), "a page is named twice");
            assert!(named.persons.is_sorted_by(|a, b| a < b), "a person is named twice");
            assert!(named.pages.is_empty() || named.persons.is_empty(), "a delivery is about pages or about persons");
            for person in &named.persons {
                assert!(
                    (1..=32).contains(&person.as_str().len()) && person.as_str().bytes().all(|b| b.is_ascii_digit())
                );
            }
        }
        Err(_) => {
            let text = std::str::from_utf8(bytes);
            assert!(!text.is_ok_and(|t| serde_json::from_str::<IgnoredAny>(t).is_ok()), "JSON is refused");
        }
    }
    let (key, other) = (key(), Secret::new("another"));
    let header = sign_sha256(bytes, &key);
    let verify = |sha256: &[u8], sha1, body: &[u8], secrets: &[&Secret], accept_sha1| {
        let signature = WebhookSignature::read(Some(sha256), sha1, accept_sha1);
        signature.is_some_and(|signature| AppKeys::new(secrets.iter().copied()).made(&signature, body))
    };
    assert!(verify(header.as_bytes(), None, bytes, &[&other, &key], false));
    assert!(!verify(header.as_bytes(), None, bytes, &[&other], true));
    assert!(!verify(header.as_bytes(), None, &[bytes, b" "].concat(), &[&key], true));
    // And the bytes as headers themselves.
    assert!(!verify(bytes, Some(bytes), b"body", &[&other], true));
}

/// A `signed_request` as it comes, and as the payload of one that is signed right.
pub fn signed_request(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let check = |text: &str| match signature::open_signed_request(text, &[&key()]) {
        Ok(request) => {
            let person = request.user_id.as_str();
            assert!((1..=32).contains(&person.len()) && person.bytes().all(|b| b.is_ascii_digit()));
            let fresh = signature::parse_signed_request(text, &[&key()], request.issued_at);
            let of_login = request.of_login;
            assert_eq!(fresh, if of_login { Err(signature::SignedRequestError::OfLogin) } else { Ok(request) });
            assert!(signature::open_signed_request(text, &[&Secret::new("another")]).is_err());
        }
        Err(error) => check_said(&error.to_string(), 100),
    };
    check(&text);
    let payload = URL_SAFE_NO_PAD.encode(bytes);
    let tag = hex::decode(sign_sha256(payload.as_bytes(), &key()).split_off(7)).unwrap_or_default();
    check(&format!("{}.{payload}", URL_SAFE_NO_PAD.encode(tag)));
}

/// An OAuth `state`: only what was minted is taken, in the browser and the time it was minted for.
pub fn oauth_state(bytes: &[u8]) {
    let signer = StateSigner::new(&key());
    let text = String::from_utf8_lossy(bytes);
    if let Err(error) = signer.verify(&text, [1; 32], WallTime(1000)) {
        check_said(&error.to_string(), 100);
    } else {
        panic!("a state that nobody minted is taken");
    }
    let mut seed = [0u8; 72];
    seed.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    let [mut nonce, mut user, mut browser] = [[0u8; 16], [0u8; 16], [0u8; 16]];
    nonce.copy_from_slice(&seed[..16]);
    user.copy_from_slice(&seed[16..32]);
    browser.copy_from_slice(&seed[32..48]);
    let browser: [u8; 32] = [browser, browser].concat().try_into().unwrap_or_default();
    let issued = WallTime(u64::from_be_bytes(seed[48..56].try_into().unwrap_or_default()));
    let state = signer.mint(UserId(uuid::Uuid::from_bytes(user)), browser, issued, nonce);
    let claims = signer.verify(&state, browser, issued).map(|claims| (claims.nonce, claims.user.0, claims.issued));
    assert_eq!(claims, Ok((nonce, uuid::Uuid::from_bytes(user), issued)));
    let mut stranger = browser;
    stranger[usize::from(seed[56]) % 32] ^= 1;
    assert!(signer.verify(&state, stranger, issued).is_err());
    let mut forged = state.into_bytes();
    let at = usize::from(seed[57]) % forged.len();
    forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
    let forged = String::from_utf8(forged).unwrap_or_default();
    assert!(signer.verify(&forged, browser, issued).is_err());
}

/// The lines of `Cookie` headers.
pub fn cookie_header(bytes: &[u8]) {
    let mut headers = HeaderMap::new();
    for line in bytes.split(|b| *b == b'\n').take(64) {
        if let Ok(value) = HeaderValue::from_bytes(line) {
            headers.append(header::COOKIE, value);
        }
    }
    let ids: Vec<&str> = session_ids(&headers).collect();
    assert!(ids.len() <= 8);
    for id in ids {
        assert!((1..=256).contains(&id.len()) && !id.contains(';') && id.is_ascii());
    }
}

/// The query that the dialog sends back.
pub fn callback_query(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let callback = CallbackQuery::parse(&text);
    let said = match &callback {
        Callback::Code { code, state } => {
            assert!(!code.is_empty() && !state.is_empty());
            assert!(code.expose().len() < 6 || !format!("{code:?}").contains(code.expose()));
            return;
        }
        Callback::Cancelled { state, reason } => {
            assert!(!state.is_empty());
            reason
        }
        Callback::Failed { state, message, .. } => {
            assert!(!state.is_empty());
            message
        }
        Callback::Malformed { what } => *what,
    };
    check_said(said, MAX_MESSAGE + 1);
}

/// The text of a configuration file. The environment is empty.
pub fn config_text(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match Config::load_text(Path::new("config.toml"), text, &|_| None) {
        Ok(loaded) => {
            let config = &loaded.config;
            assert!(config.http.max_connections > 0 && config.http.max_body_bytes > 0);
            let f = &config.facebook;
            let secrets = [&f.app_secret, &f.verify_token, &config.spaces.secret_key, &config.session.state_secret];
            let secrets: Vec<&Secret> = secrets.into_iter().chain(&config.notify.secret).collect();
            for finding in &loaded.warnings {
                let said = finding.to_string();
                assert!(
                    !secrets.iter().any(|s| s.expose().len() >= 16 && said.contains(s.expose())),
                    "a secret is said"
                );
            }
        }
        Err(findings) => {
            assert!(findings.errors().next().is_some(), "refused without a reason");
            check_line(&findings.summary());
            findings.0.iter().for_each(|finding| {
                check_line(&finding.headline());
                check_line(&finding.hint);
            });
        }
    }
}

fn check_line(text: &str) {
    assert!(text.chars().count() <= 1000 && !text.contains(char::is_control), "not fit for a line: {text:?}");
}

/// A value of the store, as every type of record; and a key.
pub fn store_records(bytes: &[u8]) {
    let wrapped = codec::wrap(bytes);
    assert_eq!(codec::unwrap("any", &wrapped), Ok(bytes));
    for value in [bytes, &wrapped] {
        record::<LinkRecord>("links", value);
        record::<Mark>("marks", value);
        record::<Staged>("outbox", value);
        record::<Synced>("synced", value);
        record::<AccountRecord>("accounts", value);
        record::<SessionRecord>("sessions", value);
        record::<LoginRecord>("logins", value);
        record::<WallTime>("states", value);
        record::<DeletionRecord>("deletions", value);
        record::<Fields>("fields", value);
        event(value);
        record::<CleanupRecord>("chores", value);
    }
    if let Some(cleanup) = Cleanup::from_bytes(bytes) {
        assert_eq!(cleanup.to_bytes(), bytes);
    }
    if let Some(link) = LinkKey::from_bytes(bytes) {
        assert_eq!(link.to_bytes(), bytes);
        if let Some(page) = link.page() {
            check_page(page);
        }
    }
    if let Some(part) = PartKey::from_bytes(bytes) {
        assert_eq!(part.to_bytes(), bytes);
        assert_eq!(part.object_key().part(), Some(part));
    }
}

fn record<T: Serialize + DeserializeOwned>(tree: &'static str, value: &[u8]) {
    match codec::decode::<T>(tree, value) {
        Ok(read) => {
            let once = codec::encode(&read);
            let again = codec::decode::<T>(tree, &once).map(|read| codec::encode(&read));
            assert_eq!(again.as_ref(), Ok(&once), "a record of {tree} does not survive");
        }
        Err(error) => check_said(&error.to_string(), 100),
    }
}

/// An event; and its body is JSON that names its type and no more than the link's names.
fn event(value: &[u8]) {
    record::<Event>("notices", value);
    if let Ok(event) = codec::decode::<Event>("notices", value) {
        let body: serde_json::Value = serde_json::from_slice(&event.body()).unwrap_or_default();
        assert_eq!(body["type"], event.kind.word());
        assert!(body["data"].is_object() && body["timestamp"].is_string());
    }
}

/// The bytes of a backup log.
pub fn backup_log_bytes(bytes: &[u8]) {
    backup_log::withstands(bytes);
}

/// The lines of an import.
pub fn import_lines(bytes: &[u8]) {
    let parsed = crate::services::import::parse(bytes, 1, None);
    let lines = bytes.split(|b| *b == b'\n').count();
    assert!(parsed.good.len() + parsed.bad.len() <= lines);
    assert!(parsed.bad.is_sorted_by(|a, b| a.line < b.line) && parsed.bad.iter().all(|bad| bad.line <= lines));
    parsed.bad.iter().for_each(|bad| check_said(&bad.error, 160));
    for link in parsed.good.iter().map(|line| &line.link) {
        check_page(&link.page);
        let token = link.token.expose();
        assert!((1..=4096).contains(&token.len()) && token.bytes().all(|b| b.is_ascii_graphic()));
        assert!(link.name.as_ref().is_none_or(|name| (1..=1024).contains(&name.len())));
    }
}

/// Graph's answer: a status (two bytes) and a body.
pub fn graph_error(bytes: &[u8]) {
    let (status, body) = status_and_rest(bytes);
    let failure = match classify(status, body) {
        Ok(_) => return assert!((200..300).contains(&status), "{status} passed for a success"),
        Err(failure) => failure,
    };
    check_said(&format!("{failure:?}"), 400);
    if matches!(
        failure.kind,
        GraphErrorKind::TokenDead { .. } | GraphErrorKind::PermissionMissing | GraphErrorKind::Gone
    ) {
        assert!(failure.code.is_some(), "a link is parked, and Graph gave no code");
    }
    let error = GraphError::from_failure("fuzz", status, failure, &[CANARY]);
    check_said(&error.message, MAX_MESSAGE + 1);
    check_said(&error.to_string(), MAX_MESSAGE + 300);
}

/// The three usage headers, one a line.
pub fn usage_headers(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.splitn(3, '\n');
    let usage = Usage::read(lines.next(), lines.next(), lines.next());
    assert!(usage.app.is_none_or(|percent| percent <= 1000));
    assert!(usage.page.is_none_or(|page| page.percent <= 1000 && page.regain.as_secs() <= 86_400));
}

/// The answer of Spaces: a status (two bytes) and a body.
pub fn spaces_error(bytes: &[u8]) {
    let (status, body) = status_and_rest(bytes);
    let error = SpacesError::answered("put", status, &String::from_utf8_lossy(body));
    let code = error.code.as_deref().unwrap_or("None");
    assert!(code.len() <= 64 && code.bytes().all(|b| b.is_ascii_alphanumeric()));
    assert_eq!(error.message, error.kind.text());
    assert!(error.to_string().len() <= 400);
}
