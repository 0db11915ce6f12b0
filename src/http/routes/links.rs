//! Links as JSON: the list of all, which is streamed, the links of one page or shop, and the row of a link in each.
//!
//! The list is made a page of the store at a time, in the order of the keys. The store's lock is held for one page, and
//! nothing is held between two. A link that stands from the beginning to the end of the list is in it exactly once; one
//! that is made or removed meanwhile may be in it or not. Each link is written straight into the bytes of the answer.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use crate::config::Http;
use crate::context::Context;
use crate::context::page_status::PageStatus;
use crate::core::health::{Health, HealthInputs, HealthView, ParkReason};
use crate::core::model::{Cause, LinkKey, MonoTime, PageId, Source, SourceId, WallTime};
use crate::http::payload::{Cut, Pieces};
use crate::store::{LinkView, PendingView, Unavailable};

/// Links in one piece of a list. Some ten kilobytes, made in well below a millisecond: deliveries that come meanwhile
/// are answered between two pieces.
const AT_ONCE: usize = 64;
/// Bytes of a link without reason and remedy.
const LINK_BYTES: usize = 640;

/// Which links a list has, and how it shows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Those of Facebook Pages, under `pages`.
    Pages,
    /// Those of every source, or of one, under `links`, each with its source and its id there.
    Links(Option<Source>),
}

impl Shape {
    fn takes(self, source: Source) -> bool {
        match self {
            Shape::Pages => source == Source::Facebook,
            Shape::Links(wanted) => wanted.is_none_or(|wanted| wanted == source),
        }
    }

    fn begins(self) -> &'static [u8] {
        match self {
            Shape::Pages => b"{\"pages\":[",
            Shape::Links(_) => b"{\"links\":[",
        }
    }
}

/// Every link of this shape. The first ones are looked up at once: a store that cannot be read has no list.
///
/// # Errors
/// [`Unavailable`].
pub async fn all(context: Arc<Context>, shape: Shape) -> Result<Pieces, Unavailable> {
    let first = context.store.views_after(None, AT_ONCE).await?;
    let listing = Listing { context, shape, next: Next::Found(first), begun: false, listed: 0 };
    Ok(Box::pin(stream::try_unfold(listing, |mut listing| async move {
        let piece = listing.piece().await.map_err(|error| Cut(error.to_string()))?;
        Ok(piece.map(|piece| (piece, listing)))
    })))
}

/// A list that is being made.
struct Listing {
    context: Arc<Context>,
    shape: Shape,
    next: Next,
    /// Its first bytes are written.
    begun: bool,
    /// Links that were listed so far.
    listed: usize,
}

/// What the next piece holds.
enum Next {
    /// These, which were looked up.
    Found(Vec<LinkView>),
    /// Those behind this one.
    Behind(LinkKey),
    Nothing,
}

impl Listing {
    async fn piece(&mut self) -> Result<Option<Bytes>, Unavailable> {
        let views = match std::mem::replace(&mut self.next, Next::Nothing) {
            Next::Found(views) => views,
            Next::Behind(last) => {
                // A client that takes one piece after the other would otherwise keep this thread for itself.
                tokio::task::yield_now().await;
                self.context.store.views_after(Some(last), AT_ONCE).await?
            }
            Next::Nothing => return Ok(None),
        };
        if let Some(last) = views.last().filter(|_| views.len() == AT_ONCE) {
            self.next = Next::Behind(last.key.clone());
        }
        Ok(Some(self.write(&views)))
    }

    fn write(&mut self, views: &[LinkView]) -> Bytes {
        let mut text = Vec::with_capacity(views.len() * LINK_BYTES + 16);
        if !std::mem::replace(&mut self.begun, true) {
            text.extend_from_slice(self.shape.begins());
        }
        let now = WallTime::now();
        for view in views.iter().filter(|view| self.shape.takes(view.key.source())) {
            if self.listed > 0 {
                text.push(b',');
            }
            self.listed += 1;
            let status = self.context.pages.find(&view.key).unwrap_or_default();
            // Texts, numbers and lists of texts; writing them into memory cannot fail.
            let _ = serde_json::to_writer(&mut text, &Row::of(view, &status, now, self.shape));
        }
        if matches!(self.next, Next::Nothing) {
            text.extend_from_slice(b"]}");
        }
        text.into()
    }
}

/// The links of one page; `None` when it is not linked.
///
/// # Errors
/// [`Unavailable`].
pub async fn of_page(context: &Context, page: &PageId) -> Result<Option<Value>, Unavailable> {
    let mut rows = Vec::new();
    for link in context.store.links_of_page(page).await? {
        let view = context.store.view(&link).await?;
        rows.extend(view.map(|view| row(context, &view, Shape::Pages)));
    }
    Ok((!rows.is_empty()).then(|| json!({"pages": rows})))
}

/// The links of one id, of any source.
///
/// # Errors
/// [`Unavailable`].
pub async fn of_id(context: &Context, id: &SourceId) -> Result<Option<Value>, Unavailable> {
    let mut rows = Vec::new();
    for link in context.store.links_of_id(id).await? {
        let view = context.store.view(&link).await?;
        rows.extend(view.map(|view| {
            let status = context.pages.find(&view.key).unwrap_or_default();
            json!(full(&view, &status, WallTime::now(), &context.setup().config.http))
        }));
    }
    Ok((!rows.is_empty()).then(|| json!({"links": rows})))
}

fn row(context: &Context, view: &LinkView, shape: Shape) -> Value {
    let status = context.pages.find(&view.key).unwrap_or_default();
    json!(Row::of(view, &status, WallTime::now(), shape))
}

/// A link with what an operator needs beside its row: the address that the person opens, and what is owed and why.
#[derive(Serialize)]
pub(super) struct FullRow<'a> {
    #[serde(flatten)]
    row: Row<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    login_url: Option<String>,
    pending: Option<Pending>,
}

/// What is owed to a link.
#[derive(Serialize)]
struct Pending {
    read: Option<&'static str>,
    since: Moment,
    writes: usize,
}

/// A link with everything that is shown of it.
pub(super) fn full<'a>(view: &'a LinkView, status: &'a PageStatus, now: WallTime, http: &Http) -> FullRow<'a> {
    let row = Row::of(view, status, now, Shape::Links(None));
    let waits = !view.record.health.is_active() || row.health == "expiring";
    let pending = view.pending.map(|PendingView { read, writes, since }| Pending {
        read: read.map(Cause::as_str),
        since: Moment(Some(since)),
        writes,
    });
    FullRow { login_url: waits.then(|| login_url(view, http)), pending, row }
}

/// Where the person logs in, or the merchant installs the app.
fn login_url(view: &LinkView, http: &Http) -> String {
    let base = &http.public_url;
    match (&view.key.id, &view.record.health) {
        (SourceId::Shopify(shop), _) => format!("{base}/shopify/install?shop={shop}"),
        (SourceId::Facebook(_), Health::Parked(parked)) if parked.why == ParkReason::PermissionLost => {
            format!("{base}/facebook/login?rerequest=1")
        }
        (SourceId::Facebook(_), _) => format!("{base}/facebook/login"),
    }
}

/// A moment as RFC 3339 has it; `null` for none.
struct Moment(Option<WallTime>);

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.filter(|at| at.0 > 0) {
            Some(at) => at.with_rfc3339(|text| serializer.serialize_str(text)),
            None => serializer.serialize_none(),
        }
    }
}

impl Moment {
    fn is_none(&self) -> bool {
        self.0.is_none()
    }
}

/// A link as lists show it. The keys are in the order in which a document has them.
#[derive(Serialize)]
pub(super) struct Row<'a> {
    checked_at: Moment,
    #[serde(skip_serializing_if = "Option::is_none")]
    daemon: Option<u64>,
    data_access_expires_at: Moment,
    health: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    last_read_at: Moment,
    linked_at: Moment,
    name: Option<&'a str>,
    next_poll_at: Moment,
    object_changed_at: Moment,
    owed: bool,
    owed_parked: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    page_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    refused_webhook_fields: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<&'static str>,
    #[serde(skip_serializing_if = "Moment::is_none")]
    since: Moment,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<&'static str>,
    token_expires_at: Moment,
    #[serde(skip_serializing_if = "Moment::is_none")]
    until: Moment,
    user: uuid::Uuid,
    #[serde(skip_serializing_if = "Option::is_none")]
    warning: Option<String>,
    webhook_fields: &'a [String],
}

impl<'a> Row<'a> {
    fn of(view: &'a LinkView, status: &'a PageStatus, now: WallTime, shape: Shape) -> Row<'a> {
        let is_link = shape != Shape::Pages;
        let LinkView { key, record, synced, owed, owed_parked, daemon, pending: _ } = view;
        let checked = &record.checked;
        let throttled_until = status.throttled_until.filter(|until| *until > MonoTime::now()).map(MonoTime::to_wall);
        let signs = HealthInputs { expires_at: checked.expires_at, throttled_until };
        let HealthView { word, reason, remedy, since, until } = record.health.shown(signs, now);
        let ends = checked.data_access_ends(now).filter(|_| record.health.is_active());
        let warning =
            |at: WallTime| format!("access to the person's data ends at {}; a new login renews it", at.rfc3339());
        Row {
            checked_at: Moment(checked.at),
            daemon: *daemon,
            data_access_expires_at: Moment(checked.data_access_expires_at),
            health: word,
            id: is_link.then(|| key.id.as_str()),
            last_read_at: Moment(synced.read_at),
            linked_at: Moment(Some(record.linked_at)),
            name: record.name.as_deref(),
            next_poll_at: Moment(status.next_poll_at.map(MonoTime::to_wall)),
            object_changed_at: Moment(synced.changed_at),
            owed: *owed,
            owed_parked: *owed_parked,
            page_id: key.page().filter(|_| !is_link).map(PageId::as_str),
            // A passing trouble is worth a reason, and nobody has to do anything about it.
            reason: reason.or(status.trouble.as_deref()),
            refused_webhook_fields: &record.refused_webhook_fields,
            remedy,
            since: Moment(since),
            source: is_link.then(|| key.source().as_str()),
            token_expires_at: Moment(checked.expires_at),
            until: Moment(until),
            user: key.user.0,
            warning: ends.map(warning),
            webhook_fields: &record.subscribed,
        }
    }
}
