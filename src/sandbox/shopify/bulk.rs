//! Bulk operations: start, state, and the file with all products.
//!
//! The file is served on another host than the Admin API. A request for it that brings a token is refused and counted.
//! The file is written while it is sent, so that it takes no memory.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::request::Parts;
use http_body_util::{BodyExt, StreamBody};
use hyper::Response;
use hyper::body::Frame;
use serde_json::{Value, json};

use super::catalogue::Catalogue;
use super::catalogue::json::{self as write, Place, gid};
use super::catalogue_queries::{collections_of, denied, unknown};
use super::handle::Shopify;
use super::operation::Operation;
use super::selection::Selection;
use super::state::{Bulk, ShopFault, ShopifyState};
use crate::core::model::{ShopName, WallTime};
use crate::sandbox::wire::{Body, BodyError, Broken, full};

/// The lists of a product that make lines of their own, and the types of their nodes.
const LISTS: [&str; 3] = ["media", "collections", "variants"];
/// Products in one piece of the file.
const AT_ONCE: usize = 20;
/// A host that belongs neither to Shopify nor to this machine.
const FOREIGN: &str = "http://files.example";
/// Long enough that what was sent is on its way before the break.
const BEFORE_THE_BREAK: Duration = Duration::from_millis(20);
/// Operations that are remembered for each shop.
const KEPT: usize = 16;

/// The data of an operation about bulk operations; `None` for another one. `files` is the address of the files.
pub(super) fn answer(
    state: &mut ShopifyState,
    shop: &ShopName,
    operation: &Operation,
    files: &str,
) -> Option<Result<Value, Value>> {
    match operation.name.as_str() {
        "BulkStart" => Some(start(state, shop, operation)),
        "BulkStatus" => Some(Ok(status(state, shop, operation, files))),
        _ => None,
    }
}

fn start(state: &mut ShopifyState, name: &ShopName, operation: &Operation) -> Result<Value, Value> {
    let refused = |code: &str, message: &str| {
        let errors = json!([{"code": code, "field": ["query"], "message": message}]);
        Ok(json!({"bulkOperationRunQuery": {"bulkOperation": null, "userErrors": errors}}))
    };
    let (signature, is_busy) = (state.mint("sig"), state.strikes(name, ShopFault::BulkBusy));
    let bulk_time = state.bulk_time;
    let Some(shop) = state.shops.get_mut(name) else { return Ok(Value::Null) };
    if let Some(denied) = denied(shop, "products") {
        return Err(denied);
    }
    let wanted = operation.text_of("query").and_then(Selection::parse);
    let Some(wanted) = wanted.and_then(|query| query.below(&["products", "edges", "node"]).cloned()) else {
        return refused("INVALID", "Invalid bulk query");
    };
    if is_busy || shop.bulks.last().is_some_and(|last| is_running(last, bulk_time)) {
        return refused("OPERATION_IN_PROGRESS", "A bulk query operation for this app and shop is already in progress");
    }
    let snapshot = Arc::new(shop.catalogue.clone());
    if let Some(first) = snapshot.ids().next() {
        let tried = lines(&snapshot, &shop.place(), &Wanted::new(wanted.clone()), first);
        tried.map_err(|field| unknown(&field))?;
    }
    let lines = count(&snapshot, &wanted);
    let id = shop.bulks.last().map_or(shop.id * 100, |last| last.id) + 1;
    if shop.bulks.len() == KEPT {
        shop.bulks.remove(0);
    }
    shop.bulks.push(Bulk { id, started_at: WallTime::now(), snapshot, wanted, lines, signature });
    let started = json!({"id": gid("BulkOperation", id), "status": "CREATED"});
    Ok(json!({"bulkOperationRunQuery": {"bulkOperation": started, "userErrors": []}}))
}

fn is_running(bulk: &Bulk, bulk_time: Duration) -> bool {
    WallTime::now().since(bulk.started_at) < bulk_time
}

fn status(state: &ShopifyState, name: &ShopName, operation: &Operation, files: &str) -> Value {
    let wanted = operation.text_of("id").unwrap_or_default();
    let bulks = state.shops.get(name).map(|shop| shop.bulks.as_slice()).unwrap_or_default();
    let Some(bulk) = bulks.iter().find(|bulk| gid("BulkOperation", bulk.id) == wanted) else {
        return json!({"bulkOperation": null});
    };
    let mut whole = json!({"id": wanted, "status": "RUNNING", "errorCode": null,
        "createdAt": bulk.started_at.rfc3339(), "completedAt": null, "objectCount": (bulk.lines / 2).to_string(),
        "fileSize": null, "url": null, "partialDataUrl": null});
    if is_running(bulk, state.bulk_time) {
        return json!({"bulkOperation": whole});
    }
    whole["completedAt"] = bulk.started_at.plus(state.bulk_time).rfc3339().into();
    if state.strikes(name, ShopFault::BulkFailed) {
        whole["status"] = "FAILED".into();
        whole["errorCode"] = "INTERNAL_SERVER_ERROR".into();
        return json!({"bulkOperation": whole});
    }
    whole["status"] = "COMPLETED".into();
    // Large numbers come as text.
    whole["objectCount"] = bulk.lines.to_string().into();
    if bulk.lines > 0 {
        let host = if state.strikes(name, ShopFault::BulkForeignHost) { FOREIGN } else { files };
        whole["url"] = format!("{host}/{name}/{}.jsonl?Signature={}", bulk.id, bulk.signature).into();
    }
    json!({"bulkOperation": whole})
}

/// The lines of a file.
fn count(catalogue: &Catalogue, wanted: &Selection) -> u64 {
    let has = |list: &str| usize::from(wanted.below(&[list, "edges", "node"]).is_some());
    let (of_media, of_collections, of_variants) = (has(LISTS[0]), has(LISTS[1]), has(LISTS[2]));
    let lines = catalogue.ids().map(|id| {
        let (variants, media) = catalogue.parts(id);
        1 + of_variants * variants + of_media * media + of_collections * catalogue.collections_of(id).count()
    });
    lines.sum::<usize>() as u64
}

/// One product and its children, a line each.
///
/// # Errors
/// The name of a wanted field that the local shop does not have.
fn lines(catalogue: &Catalogue, place: &Place, wanted: &Wanted, id: u64) -> Result<String, String> {
    let Some(product) = catalogue.get(id) else { return Ok(String::new()) };
    let mut text = wanted.own.pick(write::product(place, &product))?.to_string();
    text.push('\n');
    let mut children = |list: &str, nodes: Vec<Value>| -> Result<(), String> {
        let Some(fields) = wanted.all.below(&[list, "edges", "node"]) else { return Ok(()) };
        for node in nodes {
            let mut line = fields.pick(node)?;
            line["__parentId"] = gid("Product", id).into();
            text.push_str(&line.to_string());
            text.push('\n');
        }
        Ok(())
    };
    children(LISTS[0], product.media.iter().map(|one| write::media(place, one)).collect())?;
    children(LISTS[1], collections_of(catalogue, id).collect())?;
    children(LISTS[2], product.variants.iter().map(|one| write::variant(&product, one)).collect())?;
    Ok(text)
}

/// The fields of a product in a file.
struct Wanted {
    all: Selection,
    /// Those of its own line.
    own: Selection,
}

impl Wanted {
    fn new(all: Selection) -> Wanted {
        Wanted { own: all.clone().without(&LISTS), all }
    }
}

/// A file that is being sent.
struct Sending {
    snapshot: Arc<Catalogue>,
    place: Place,
    wanted: Wanted,
    ids: Vec<u64>,
    at: usize,
    /// Behind so many products the file ends.
    end: usize,
    /// It ends with a break of the connection.
    breaks: bool,
    /// The product whose line is broken.
    broken: Option<u64>,
}

impl Sending {
    fn piece(&mut self) -> Result<Bytes, BodyError> {
        let to = (self.at + AT_ONCE).min(self.end);
        let mut text = String::new();
        for id in &self.ids[self.at..to] {
            let mut lines = lines(&self.snapshot, &self.place, &self.wanted, *id)?;
            if self.broken == Some(*id) {
                let first = lines.find('\n').unwrap_or(0);
                lines.replace_range(first / 2..first, "");
            }
            text.push_str(&lines);
        }
        self.at = to;
        Ok(text.into())
    }
}

impl Shopify {
    /// Answers a request to the host of the files.
    pub(super) fn file(&self, head: &Parts) -> Result<Response<Body>, Broken> {
        let answer = |status: u16, text: &str| {
            Response::builder().status(status).body(full(text.to_owned())).map_err(|_| Broken)
        };
        if head.headers.contains_key("x-shopify-access-token") || head.headers.contains_key("authorization") {
            self.change(|state| state.tokens_at_files += 1);
            return answer(400, "<Error><Code>InvalidArgument</Code></Error>");
        }
        let Some(sending) = self.look(|state| found(state, head)) else {
            return answer(403, "<Error><Code>AccessDenied</Code></Error>");
        };
        let pieces = stream::unfold(Some(sending), |sending| async {
            let mut sending = sending?;
            if sending.at == sending.end {
                if !sending.breaks {
                    return None;
                }
                tokio::time::sleep(BEFORE_THE_BREAK).await;
                return Some((Err(Broken.into()), None));
            }
            let piece = sending.piece().map(Frame::data);
            Some((piece, Some(sending)))
        });
        let answer = Response::builder().header("content-type", "application/jsonl");
        answer.body(StreamBody::new(pieces).boxed_unsync()).map_err(|_| Broken)
    }
}

/// The file of this address.
fn found(state: &ShopifyState, head: &Parts) -> Option<Sending> {
    let (shop, file) = head.uri.path().strip_prefix('/')?.split_once('/')?;
    let (name, id): (ShopName, u64) = (shop.parse().ok()?, file.strip_suffix(".jsonl")?.parse().ok()?);
    let shop = state.shops.get(&name)?;
    let signature = head.uri.query()?.strip_prefix("Signature=")?;
    let bulk = shop.bulks.iter().find(|bulk| bulk.id == id && bulk.signature == signature)?;
    let ids: Vec<u64> = bulk.snapshot.ids().collect();
    let middle = ids.len() / 2;
    let breaks = state.strikes(&name, ShopFault::BulkCutOff);
    let is_short = breaks || state.strikes(&name, ShopFault::BulkShort);
    let broken = state.strikes(&name, ShopFault::BulkBrokenLine).then(|| ids.get(middle).copied()).flatten();
    Some(Sending {
        snapshot: bulk.snapshot.clone(),
        place: shop.place(),
        wanted: Wanted::new(bulk.wanted.clone()),
        at: 0,
        end: if is_short { middle } else { ids.len() },
        ids,
        breaks,
        broken,
    })
}
