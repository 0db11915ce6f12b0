//! Webhooks from Shopify.
//!
//! The order is that of Meta's ([`webhook`](super::webhook)): limits, the signature over the raw bytes, only then
//! parsing, and 200 when what follows is durable. A delivery is a hint: what it says is read, not applied.
//!
//! The signature covers the body alone. The topic and the name of the shop are in headers, so that somebody who holds
//! one signed body of this app can send it again with others. For a hint that means a read in vain. Where something
//! would end or be deleted, the shop is taken from the body, and Shopify is asked:
//!
//! * `app/uninstalled` leads to a check of the token. A late one, after the app was installed again, finds a token that
//!   works and changes nothing.
//! * `shop/redact` deletes the links of a shop whose tokens are dead, with their objects. It deletes nothing of a shop
//!   whose token works. Where Shopify cannot say whether it works, the deletion is owed, durably, until it can
//!   ([`redaction`]).
//!
//! The topics about customers are answered. Nothing of a customer is stored here, and such a body is neither kept nor
//! logged.

use std::sync::Arc;
use std::time::Instant;

use http::{Request, StatusCode};
use hyper::body::{Body, Incoming};

use super::webhook::{ACCEPTED, Refusal, durable, end};
use crate::context::Context;
use crate::context::trail::Delivery;
use crate::core::catalogue::Piece;
use crate::core::model::{Cause, Part, ShopName, Source};
use crate::http::body::{self, NoBody};
use crate::http::budget::Budget;
use crate::http::responses;
use crate::http::server::{Answer, Conn};
use crate::metrics::DeliveryResult;
use crate::services::redaction;
use crate::sources::shopify::delivery::{Action, Headers};
use crate::traces::{Kind, Span};

/// `POST /shopify/webhook`.
pub(in crate::http) async fn deliver(context: &Arc<Context>, request: Request<Incoming>, conn: &Conn) -> Answer {
    if context.setup().shopify.is_none() {
        return responses::not_found();
    }
    let started = Instant::now();
    let mut span = context.tracer.root("webhook", Kind::Server);
    let (result, answer) = match accept(context, request, conn, &mut span).await {
        Ok(()) => (DeliveryResult::Accepted, responses::fixed_json(StatusCode::OK, ACCEPTED)),
        Err(refusal) => refusal.answer(),
    };
    context.metrics.delivery(Source::Shopify, result, started.elapsed());
    end(span, Source::Shopify, result);
    answer
}

async fn accept(
    context: &Arc<Context>,
    request: Request<Incoming>,
    conn: &Conn,
    span: &mut Span,
) -> Result<(), Refusal> {
    let setup = context.setup();
    let http = &setup.config.http;
    if request.body().size_hint().lower() > http.max_body_bytes as u64 {
        return Err(Refusal::NoBody(NoBody::TooLarge));
    }
    let headers = Headers::read(request.headers()).map_err(|_| Refusal::Signature)?;
    let read = body::read(request.into_body(), http.max_body_bytes, http.body_timeout, Budget::Public, conn);
    let whole = read.await.map_err(Refusal::NoBody)?;
    if !setup.shop_keys.made(&headers.signature, &whole.bytes) {
        return Err(Refusal::Signature);
    }
    let action = headers.action(&whole.bytes).map_err(|_| Refusal::NotJson)?;
    drop(whole);
    Box::pin(note(context, headers.shop, action, span)).await
}

/// What follows from a delivery is durable when this ends. `shop` is what the headers say.
async fn note(context: &Arc<Context>, shop: ShopName, action: Action, span: &mut Span) -> Result<(), Refusal> {
    match action {
        Action::ShopChanged => mark(context, &shop, None, span).await,
        Action::Uninstalled { shop } => check(context, &shop).await,
        Action::ScopesChanged => check(context, &shop).await,
        Action::Redact { shop } => durable(redaction::requested(context, &shop)).await,
        Action::Product(id) => mark(context, &shop, Some(Piece::Product(id.0)), span).await,
        Action::Collections => mark(context, &shop, Some(Piece::Collections), span).await,
        Action::Customers => {
            tracing::info!(%shop, "webhook: {shop} asks about a customer, of whom nothing is stored");
            Ok(())
        }
        Action::Ignored => {
            tracing::debug!(%shop, "webhook: a delivery of {shop} is about nothing that is kept");
            Ok(())
        }
    }
}

async fn check(context: &Context, shop: &ShopName) -> Result<(), Refusal> {
    let links = durable(context.store.hint_shop(shop)).await?.len();
    tracing::info!(%shop, links, "webhook: the app's access to {shop} changed, the tokens of {links} links are checked");
    Ok(())
}

/// The whole of each link of the shop, or this piece of its catalogue, is due.
async fn mark(context: &Context, shop: &ShopName, piece: Option<Piece>, span: &mut Span) -> Result<(), Refusal> {
    let delivery = Delivery::now(span.context());
    span.text("pagesyncd.delivery", delivery.id);
    let commit = context.tracer.child("mark", Kind::Internal, span.context());
    let part = piece.map_or_else(Part::whole, Piece::part);
    let due = durable(context.store.mark_part_of(&shop.clone().into(), &part, Cause::Webhook)).await?;
    commit.end();
    span.number("pagesyncd.links", due);
    let id = delivery.id;
    if due == 0 {
        tracing::debug!(delivery = %id, %shop, "webhook [{id}]: {shop} changed, and is not linked");
    } else {
        // A catalogue is read in walks, which many deliveries share.
        if part.is_whole() {
            let links = context.store.links_of_id(&shop.clone().into()).await.unwrap_or_default();
            context.pages.note_delivery(&links, delivery);
        }
        tracing::info!(delivery = %id, %shop, links = due, "webhook [{id}]: {shop} changed, {due} links are due");
    }
    Ok(())
}
