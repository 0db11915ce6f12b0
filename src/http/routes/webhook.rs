//! Webhooks from Meta: the handshake, and deliveries.
//!
//! The order is what makes it safe: the client certificate where one is asked for, limits, the signature over the raw
//! bytes, only then parsing; then the marks, and when they are durable, 200. A delivery without a usable signature
//! header is refused before its body is read.
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
//!
//! Most deliveries of a burst name a page whose mark stands already. Such a delivery is answered where it is: it waits
//! for nothing, arms no timer and takes no lock of the store ([`Store::absorbs`](crate::store::Store::absorbs)).

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, header};
use hyper::body::{Body, Incoming};
use subtle::ConstantTimeEq;
use url::form_urlencoded;

use crate::context::trail::Delivery;
use crate::context::{Context, Setup};
use crate::core::model::{Cause, LinkKey, PageId, Source};
use crate::http::body::{self, NoBody};
use crate::http::budget::Budget;
use crate::http::responses;
use crate::http::server::{Answer, Conn};
use crate::metrics::DeliveryResult;
use crate::sources::facebook::delivery::{Named, NotJson, named};
use crate::sources::facebook::webhook_signature::WebhookSignature;
use crate::store::Unavailable;
use crate::traces::{Kind, Span};

const MAX_CHALLENGE: usize = 256;
/// When Meta should come back after a 503.
const RETRY_AFTER_SECS: u32 = 5;
/// How long a delivery waits for the disk.
const DURABLE_WITHIN: Duration = Duration::from_secs(10);
pub(super) const ACCEPTED: &str = r#"{"status":"success"}"#;
const BAD_SIGNATURE: &str =
    r#"{"error":{"code":"bad_signature","message":"the delivery is not signed with the app secret"}}"#;

/// The answer to a delivery without the client certificate that is asked for.
pub(super) const NO_CLIENT_CERTIFICATE: &str =
    r#"{"error":{"code":"client_certificate","message":"the client certificate is missing or has another name"}}"#;

static SHA256: HeaderName = HeaderName::from_static("x-hub-signature-256");
static SHA1: HeaderName = HeaderName::from_static("x-hub-signature");

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
    let mut span = context.tracer.root("webhook", Kind::Server);
    let (result, answer) = match accept(context, request, conn, &mut span).await {
        Ok(()) => (DeliveryResult::Accepted, responses::fixed_json(StatusCode::OK, ACCEPTED)),
        Err(refusal) => refusal.answer(),
    };
    context.metrics.delivery(Source::Facebook, result, started.elapsed());
    end(span, Source::Facebook, result);
    answer
}

/// Ends the span of a delivery. Only the source makes spans, not everybody who can reach the address.
pub(super) fn end(mut span: Span, source: Source, result: DeliveryResult) {
    if matches!(result, DeliveryResult::BadSignature) {
        return span.discard();
    }
    span.text("pagesyncd.source", source.as_str());
    span.text("pagesyncd.result", result.word());
    if !matches!(result, DeliveryResult::Accepted) {
        span.fail(result.word());
    }
}

pub(super) enum Refusal {
    ClientCertificate,
    Signature,
    NoBody(NoBody),
    NotJson,
    NotDurable,
}

impl Refusal {
    pub(super) fn answer(self) -> (DeliveryResult, Answer) {
        match self {
            Refusal::ClientCertificate => {
                let mut answer = responses::fixed_json(StatusCode::FORBIDDEN, NO_CLIENT_CERTIFICATE);
                // A certificate is shown in a handshake: the next one may have it.
                answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
                (DeliveryResult::ClientCertificate, answer)
            }
            Refusal::Signature => {
                (DeliveryResult::BadSignature, responses::fixed_json(StatusCode::UNAUTHORIZED, BAD_SIGNATURE))
            }
            Refusal::NoBody(why) => {
                let result = match why {
                    NoBody::TooLarge => DeliveryResult::TooLarge,
                    NoBody::TooSlow => DeliveryResult::TooSlow,
                    NoBody::Broken => DeliveryResult::Malformed,
                    NoBody::Crowded => DeliveryResult::Unavailable,
                };
                (result, responses::no_body(why))
            }
            Refusal::NotJson => (
                DeliveryResult::Malformed,
                responses::error(StatusCode::BAD_REQUEST, "not_json", "the body is not JSON"),
            ),
            Refusal::NotDurable => {
                let text = "the delivery cannot be made durable at the moment; send it again";
                (DeliveryResult::Unavailable, responses::unavailable(text, RETRY_AFTER_SECS))
            }
        }
    }
}

async fn accept(
    context: &Arc<Context>,
    request: Request<Incoming>,
    conn: &Conn,
    span: &mut Span,
) -> Result<(), Refusal> {
    let setup = context.setup();
    let http = &setup.config.http;
    if !is_from_facebook(&setup, conn) {
        return Err(Refusal::ClientCertificate);
    }
    if request.body().size_hint().lower() > http.max_body_bytes as u64 {
        return Err(Refusal::NoBody(NoBody::TooLarge));
    }
    let signature = signature(request.headers(), &setup).ok_or(Refusal::Signature)?;
    let read = body::read(request.into_body(), http.max_body_bytes, http.body_timeout, Budget::Public, conn);
    let whole = read.await.map_err(Refusal::NoBody)?;
    if !setup.app_keys.made(&signature, &whole.bytes) {
        return Err(Refusal::Signature);
    }
    let named = named(&whole.bytes).map_err(|NotJson| Refusal::NotJson)?;
    // The disk may be slow; the body's memory is another delivery's from here on.
    drop(whole);
    if context.store.absorbs(&named.pages) {
        let pages = named.pages.len();
        tracing::debug!(pages, "webhook: a delivery names {pages} pages, all of them are due already");
        if span.is_recorded() {
            Box::pin(join(context, named, span)).await;
        }
        return Ok(());
    }
    // Seldom come by, and large.
    Box::pin(mark(context, named, span)).await
}

/// Has the caller the client certificate that is asked for, if one is? Its authority was verified in the handshake.
fn is_from_facebook(setup: &Setup, conn: &Conn) -> bool {
    let tls = &setup.config.http_tls;
    tls.client_ca_file.is_none() || conn.client().is_some_and(|client| client.is_named(&tls.client_name))
}

/// `None` when no header could ever fit: refused before the body is read.
fn signature(headers: &HeaderMap, setup: &Setup) -> Option<WebhookSignature> {
    let value = |name| Some(headers.get(name)?.as_bytes());
    WebhookSignature::read(value(&SHA256), value(&SHA1), setup.config.facebook.accept_sha1)
}

/// A delivery that is traced joins in the reads that are due already.
async fn join(context: &Context, named: Named, span: &mut Span) {
    let delivery = Delivery::now(span.context());
    span.text("pagesyncd.delivery", delivery.id);
    span.number("pagesyncd.pages", named.pages.len());
    for page in named.pages {
        let links = context.store.links_of_id(&PageId::from(page).into()).await.unwrap_or_default();
        context.pages.note_delivery(&links, delivery);
    }
}

/// Everything named is marked durably. The store publishes what became durable, also when the caller gave up before.
async fn mark(context: &Context, named: Named, span: &mut Span) -> Result<(), Refusal> {
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
    let delivery = Delivery::now(span.context());
    let pages: Vec<PageId> = pages.into_iter().map(PageId::from).collect();
    let commit = context.tracer.child("mark", Kind::Internal, span.context());
    let links = durable(context.store.mark_pages(&pages, Cause::Webhook)).await?;
    commit.end();
    context.pages.note_delivery(&links, delivery);
    span.text("pagesyncd.delivery", delivery.id);
    span.number("pagesyncd.pages", pages.len());
    span.number("pagesyncd.links", links.len());
    report_due(delivery, pages.len(), &links);
    Ok(())
}

/// One line for a delivery that made something due. It names the link where that is one; otherwise the line of each
/// read names the delivery.
fn report_due(delivery: Delivery, pages: usize, links: &[LinkKey]) {
    let (id, due) = (delivery.id, links.len());
    match links {
        [] => tracing::debug!(delivery = %id, pages, "webhook [{id}]: names {pages} pages, none of them is linked"),
        [link] => tracing::info!(delivery = %id, %link, "webhook [{id}]: {link} changed, its read is due"),
        _ => tracing::info!(
            delivery = %id,
            pages,
            links = due,
            "webhook [{id}]: {pages} pages changed, the reads of {due} links are due"
        ),
    }
}

/// A disk that hangs is answered like one that refuses; what becomes durable after all is read like any other.
pub(super) async fn durable<T>(noting: impl Future<Output = Result<T, Unavailable>>) -> Result<T, Refusal> {
    let noted = tokio::time::timeout(DURABLE_WITHIN, noting).await;
    noted.map_err(|_| Refusal::NotDurable)?.map_err(|_| Refusal::NotDurable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn fixed_documents_are_what_they_would_be_made_anew() {
        let text = "the delivery is not signed with the app secret";
        let refused = json!({"error": {"code": "bad_signature", "message": text}});
        assert_eq!(serde_json::from_str::<Value>(BAD_SIGNATURE).unwrap(), refused);
        assert!(serde_json::from_str::<Value>(NO_CLIENT_CERTIFICATE).unwrap()["error"]["message"].is_string());
        assert_eq!(serde_json::from_str::<Value>(ACCEPTED).unwrap(), json!({"status": "success"}));
    }
}
