//! Reads one answer of the Admin API in every way in which the client reads answers, and panics when a promise is broken:
//! for the fuzz target of answers ([`fuzzing`](crate::fuzzing)).
//!
//! What is held: an answer of another shape is an error and no panic, what is said of it is fit for a log, objects have
//! their schema and nothing that must not leave the shop, and a product is the same from an answer and from a bulk file.

use serde_json::{Map, Value};

use super::bulk::{started, state_of};
use super::bulk_lines::{Found, Reader};
use super::collections::{self, Collections, listed, products_in};
use super::error::{Grant, ShopifyError};
use super::ids::{self, ProductId};
use super::index;
use super::link::scopes_in;
use super::oauth::read_pair;
use super::object::{Envelope, MAX_OBJECT};
use super::products::{self, Begun, ChangedSince};
use super::shop::{self, Parts, page_of};
use super::webhooks::standing;
use crate::core::model::{Cause, ShopName, UserId, WallTime};
use crate::sources::api::Document;

/// Reads `data` of a good answer; what is said of it goes to `said`.
pub(crate) fn withstands(data: &Value, said: &dyn Fn(&str)) {
    let Ok(shop) = "some-shop.myshopify.com".parse::<ShopName>() else { return };
    let user = UserId(uuid::Uuid::nil());
    let envelope = Envelope { user, shop: &shop, fetched_at: WallTime(0), cause: Cause::Poll, api_version: "2026-10" };
    let answers = [
        the_shop(data, envelope),
        the_product(data, envelope),
        the_collections(data, envelope),
        the_walk(data, envelope),
        standing(data.clone()).map(drop),
        scopes_in(data).map(drop),
        started(data).map(drop),
        state_of(data).map(|bulk| said(&format!("{bulk:?}"))),
    ];
    for error in answers.into_iter().filter_map(Result::err) {
        said(&error.to_string());
    }
}

/// Reads a good answer of the token endpoint.
pub(crate) fn grant_withstands(grant: Grant, answer: &Value, said: &dyn Fn(&str)) {
    match read_pair("fuzz", grant, answer, WallTime(1000)) {
        Ok(pair) => {
            assert!(!pair.access.is_empty() && !pair.refresh.is_empty(), "a pair without a half");
            assert!(pair.expires_at >= WallTime(1000), "a pair ends before it began");
        }
        Err(error) => said(&error.to_string()),
    }
}

fn the_shop(data: &Value, envelope: Envelope<'_>) -> Result<(), ShopifyError> {
    let mut parts = Parts::default();
    parts.take_shop(data.clone())?;
    parts.pages = page_of("fuzz", data.clone().get_mut("pages")).ok().map(|(pages, _)| pages);
    let object = checked(&shop::document(parts, envelope), shop::SCHEMA);
    for personal in ["email", "shopOwnerName", "accountOwner"] {
        assert!(object["data"]["shop"].get(personal).is_none(), "the owner is in the object");
    }
    Ok(())
}

fn the_product(data: &Value, envelope: Envelope<'_>) -> Result<(), ShopifyError> {
    let id = data["product"]["id"].as_str().and_then(ProductId::from_gid).unwrap_or(ProductId(1));
    // As if the product went on in the same answer.
    if let Some(mut begun) = Begun::read(data.clone())? {
        begun.read_on(data.clone())?;
        // It is complete only without a cursor.
        let _ = begun.end(id);
    }
    let Some(begun) = Begun::read(data.clone())? else { return Ok(()) };
    let product = begun.end(id)?;
    assert_eq!(product.id, id, "another product than was asked for");
    if let Some(lines) = lines_of(&data["product"]) {
        let (mut reader, mut found) = (Reader::default(), Vec::new());
        reader.feed(lines.as_bytes(), &mut found);
        reader.finish(&mut found);
        assert_eq!(found, [Found::Product(Box::new(product.clone()))], "a product differs by the way that it came");
    }
    let object = checked(&product.document(envelope), products::SCHEMA);
    assert_eq!(object["data"]["id"], id.gid().as_str());
    assert!(products::row_of_object(object.to_string().as_bytes()).is_some(), "a product without a row");
    assert!(object["data"].get("totalInventory").is_none(), "stock is counted in an object");
    let variants = object["data"]["variants"].as_array().map(Vec::as_slice).unwrap_or_default();
    assert!(variants.iter().all(|one| one.get("inventoryQuantity").is_none()), "stock is counted in an object");
    Ok(())
}

/// The product as the lines of a bulk file; `None` when a file would have it in another way.
fn lines_of(product: &Value) -> Option<String> {
    let Value::Object(mut fields) = product.clone() else { return None };
    let gid = fields.get("id")?.as_str()?.to_owned();
    let mut lines = Vec::new();
    for (list, kinds) in
        [("variants", &["ProductVariant"][..]), ("media", &["MediaImage", "Video"]), ("collections", &["Collection"])]
    {
        for node in fields.remove(list)?["nodes"].as_array()? {
            let Value::Object(mut child) = node.clone() else { return None };
            let kind = child.get("id").and_then(Value::as_str).and_then(ids::split).map(|(kind, _)| kind.to_owned())?;
            if !kinds.contains(&kind.as_str()) || child.insert("__parentId".to_owned(), gid.as_str().into()).is_some() {
                return None;
            }
            lines.push(child);
        }
    }
    if fields.contains_key("__parentId") {
        return None;
    }
    lines.insert(0, fields);
    let text = |line: Map<String, Value>| format!("{}\n", Value::Object(line));
    Some(lines.into_iter().map(text).collect())
}

fn the_collections(data: &Value, envelope: Envelope<'_>) -> Result<(), ShopifyError> {
    let (list, _) = listed(data.clone())?;
    let members = products_in(data.clone());
    let products = members.as_ref().ok().and_then(|found| found.as_ref()).map(|(ids, _)| ids.as_slice());
    let mut all = Collections::default();
    list.into_iter().for_each(|(gid, one)| all.push(&gid, one, products.unwrap_or_default(), false));
    checked(&all.document(envelope), collections::SCHEMA);
    members.map(drop)
}

fn the_walk(data: &Value, envelope: Envelope<'_>) -> Result<(), ShopifyError> {
    let step = ChangedSince::new(None);
    let (mut entries, rest) = step.read(data.clone())?;
    assert_ne!(rest, Some(step), "a walk begins again");
    entries.sort_by_key(|entry| entry.id);
    let count = entries.len();
    let object = checked(&index::document(envelope, entries), index::SCHEMA);
    assert_eq!(object["data"].as_array().map(Vec::len), Some(count), "the index leaves products out");
    Ok(())
}

/// An object that may be written, as JSON.
fn checked(document: &Document, schema: &str) -> Value {
    assert!(document.body.len() <= MAX_OBJECT, "an object of {} bytes", document.body.len());
    let object: Value = serde_json::from_slice(&document.body).unwrap_or_default();
    assert_eq!(object["schema"], schema);
    assert_eq!(object["shop"], "some-shop.myshopify.com");
    super::fields_of_object(&document.body);
    object
}
