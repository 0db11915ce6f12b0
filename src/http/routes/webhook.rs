//! Webhooks from Meta: the handshake, and deliveries.
//!
//! The order is what makes it safe: limits, the signature over the raw bytes, only then parsing; then the marks, and
//! when they are durable, 200. A delivery without a usable signature header is refused before its body is read.
//!
//! A delivery's content is a hint and is not applied: whatever an entry says, and in whatever shape (`changes` with or
//! without values, `changed_fields`, `messaging`), its page is marked and read. Meta repeats, reorders and batches
//! deliveries; marks make all of that harmless.
//!
//! A delivery about permissions is a hint as well: somebody gave or took back a permission, or ticked other pages. Each
//! link of that person is owed a check of its token, which is noted in the link before the 200. It is the daily check,
//! made soon, each link in a slot of its own, so that a flood of such deliveries is a trickle of checks. However many
//! come, a link that is owed a check is not owed another before that one began.
//!
//! What is durable is published by the store, also when the disk was so slow that the delivery was answered 503.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderMap, Request, StatusCode};
use hyper::body::{Body, Incoming};
use serde_json::json;
use subtle::ConstantTimeEq;
use url::form_urlencoded;

use crate::config::Config;
use crate::context::Context;
use crate::core::model::Cause;
use crate::http::body::{self, NoBody};
use crate::http::budget::Budget;
use crate::http::responses;
use crate::http::server::{Answer, Conn};
use crate::sources::facebook::delivery::{Named, NotJson, named};
use crate::sources::facebook::signature::verify_webhook;
use crate::store::Unavailable;

const MAX_CHALLENGE: usize = 256;
/// When Meta should come back after a 503.
const RETRY_AFTER_SECS: u32 = 5;
/// How long a delivery waits for the disk.
const DURABLE_WITHIN: Duration = Duration::from_secs(10);

/// The GET handshake: the bare challenge, or 403.
pub(in crate::http) fn handshake(context: &Context, query: &str) -> Answer {
    let setup = context.setup();
    let (mut mode, mut token, mut challenge) = (None, None, None);
    for (key, value) in form_urlencoded::parse(query.as_bytes()) {
        match key.as_ref() {
            "hub.mode" => mode = Some(value),
            "hub.verify_token" => token = Some(value),
            "hub.challenge" => challenge = Some(value),
            _ => {}
        }
    }
    let expected = setup.config.facebook.verify_token.expose();
    let known = token.is_some_and(|token| bool::from(token.as_bytes().ct_eq(expected.as_bytes())));
    let plain = |c: &str| !c.is_empty() && c.len() <= MAX_CHALLENGE && c.bytes().all(|b| b.is_ascii_graphic());
    match challenge {
        Some(challenge) if known && mode.as_deref() == Some("subscribe") && plain(&challenge) => {
            responses::text(StatusCode::OK, challenge.into_owned())
        }
        _ => responses::error(StatusCode::FORBIDDEN, "forbidden", "this is not the handshake of a known subscription"),
    }
}

/// A delivery.
pub(in crate::http) async fn deliver(context: &Arc<Context>, request: Request<Incoming>, conn: &Conn) -> Answer {
    let started = Instant::now();
    let (result, answer) = match accept(context, request, conn).await {
        Ok(()) => ("accepted", responses::json(StatusCode::OK, &json!({"status": "success"}))),
        Err(refusal) => refusal.answer(),
    };
    context.metrics.delivery(result, started.elapsed());
    answer
}

enum Refusal {
    Signature,
    NoBody(NoBody),
    NotJson,
    NotDurable,
}

impl Refusal {
    fn answer(self) -> (&'static str, Answer) {
        match self {
            Refusal::Signature => (
                "bad_signature",
                responses::error(
                    StatusCode::UNAUTHORIZED,
                    "bad_signature",
                    "the delivery is not signed with the app secret",
                ),
            ),
            Refusal::NoBody(why) => {
                let result = match why {
                    NoBody::TooLarge => "too_large",
                    NoBody::TooSlow => "too_slow",
                    NoBody::Broken => "malformed",
                    NoBody::Crowded => "unavailable",
                };
                (result, responses::no_body(why))
            }
            Refusal::NotJson => {
                ("malformed", responses::error(StatusCode::BAD_REQUEST, "not_json", "the body is not JSON"))
            }
            Refusal::NotDurable => {
                let text = "the delivery cannot be made durable at the moment; send it again";
                ("unavailable", responses::unavailable(text, RETRY_AFTER_SECS))
            }
        }
    }
}

async fn accept(context: &Arc<Context>, request: Request<Incoming>, conn: &Conn) -> Result<(), Refusal> {
    let setup = context.setup();
    let http = &setup.config.http;
    let (head, body) = request.into_parts();
    if body.size_hint().lower() > http.max_body_bytes as u64 {
        return Err(Refusal::NoBody(NoBody::TooLarge));
    }
    let signatures = Signatures::of(&head.headers, &setup.config).ok_or(Refusal::Signature)?;
    let read = body::read(body, http.max_body_bytes, http.body_timeout, Budget::Public, conn);
    let whole = read.await.map_err(Refusal::NoBody)?;
    if !signatures.cover(&whole.bytes, &setup.config) {
        return Err(Refusal::Signature);
    }
    let named = named(&whole.bytes).map_err(|NotJson| Refusal::NotJson)?;
    // The disk may be slow; the body's memory is another delivery's from here on.
    drop(whole);
    mark(context, named).await
}

/// Everything named is marked durably. The store publishes what became durable, also when the caller gave up before.
async fn mark(context: &Context, named: Named) -> Result<(), Refusal> {
    let Named { pages, persons } = named;
    if pages.is_empty() && persons.is_empty() {
        tracing::debug!("webhook: a delivery names no page and no person, nothing is due");
        return Ok(());
    }
    if !persons.is_empty() {
        let hinted = durable(context.store.hint_persons(&persons)).await?;
        let (persons, links) = (persons.len(), hinted.len());
        tracing::debug!(
            persons,
            links,
            "webhook: a delivery names {persons} persons, the tokens of {links} links are checked"
        );
        return Ok(());
    }
    let links = durable(context.store.mark_pages(&pages, Cause::Webhook)).await?;
    let (pages, due) = (pages.len(), links.len());
    tracing::debug!(pages, links = due, "webhook: a delivery names {pages} pages, {due} links are due");
    Ok(())
}

/// A disk that hangs is answered like one that refuses; what becomes durable after all is read like any other.
async fn durable<T>(noting: impl Future<Output = Result<T, Unavailable>>) -> Result<T, Refusal> {
    let noted = tokio::time::timeout(DURABLE_WITHIN, noting).await;
    noted.map_err(|_| Refusal::NotDurable)?.map_err(|_| Refusal::NotDurable)
}

/// The signature headers of a request, well formed.
struct Signatures {
    sha256: Option<String>,
    sha1: Option<String>,
}

impl Signatures {
    /// `None` when no header could ever fit: refused before the body is read.
    fn of(headers: &HeaderMap, config: &Config) -> Option<Self> {
        let header = |name: &str, prefix: &str, digits: usize| {
            let value = headers.get(name)?.to_str().ok()?;
            let hex = value.strip_prefix(prefix)?;
            let formed = hex.len() == digits && hex.bytes().all(|b| b.is_ascii_hexdigit());
            formed.then(|| value.to_owned())
        };
        let present = headers.contains_key("x-hub-signature-256");
        let sha256 = header("x-hub-signature-256", "sha256=", 64);
        let sha1 = header("x-hub-signature", "sha1=", 40).filter(|_| !present && config.facebook.accept_sha1);
        (sha256.is_some() || sha1.is_some()).then_some(Signatures { sha256, sha1 })
    }

    fn cover(&self, body: &[u8], config: &Config) -> bool {
        let f = &config.facebook;
        let secrets: Vec<_> = [Some(&f.app_secret), f.previous_app_secret.as_ref()].into_iter().flatten().collect();
        verify_webhook(self.sha256.as_deref(), self.sha1.as_deref(), body, &secrets, f.accept_sha1)
    }
}
