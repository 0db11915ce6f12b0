//! The index of a shop's products: one line of facts for each, in the order of their ids.
//!
//! A shop may have fifty thousand products, so the index is written straight into its bytes from entries that come one
//! by one. Its digest leaves the times of last changes out, which orders move. It has no fields of its own: what changed
//! in a product is said of the product.

use bytes::Bytes;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::ids::ProductId;
use super::object::Envelope;
use crate::core::catalogue::Row;
use crate::sources::api::Document;
use crate::sources::canonical;

/// The object's `schema`.
pub const SCHEMA: &str = "pagesyncd/products/1";
/// The most bytes of an index: some 130,000 products.
const MAX_INDEX: usize = 32 * 1024 * 1024;
/// One product in the index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its number.
    pub id: ProductId,
    /// What is said of it.
    pub row: Row,
}

impl Entry {
    /// Reads a product as Shopify sends it.
    pub fn read(node: &Value) -> Option<Entry> {
        let text = |key: &str| node[key].as_str().map(str::to_owned);
        let row = Row {
            title: text("title").unwrap_or_default(),
            handle: text("handle").unwrap_or_default(),
            status: text("status").unwrap_or_default(),
            updated_at: text("updatedAt").unwrap_or_default(),
            url: text("onlineStoreUrl"),
        };
        Some(Entry { id: ProductId::from_gid(node["id"].as_str()?)?, row })
    }

    /// The entry in an object.
    fn json(&self) -> Map<String, Value> {
        let Row { title, handle, status, updated_at, url } = &self.row;
        let json = json!({"id": self.id.0, "title": title, "handle": handle, "status": status,
            "updatedAt": updated_at, "url": url});
        match json {
            Value::Object(entry) => entry,
            _ => Map::new(),
        }
    }
}

/// The index of these entries, which come in the order of their ids. When they do not fit into an object, the rest is
/// left out, which the object says.
pub fn document(envelope: Envelope<'_>, entries: impl IntoIterator<Item = Entry>) -> Document {
    limited(envelope, entries, MAX_INDEX)
}

fn limited(envelope: Envelope<'_>, entries: impl IntoIterator<Item = Entry>, most: usize) -> Document {
    let (mut list, mut hash, mut left_out) = (Vec::new(), Sha256::new(), 0u64);
    for entry in entries {
        let json = entry.json();
        hash.update(canonical::digest(&json, &[&["updatedAt"]]));
        let text = Value::Object(json).to_string();
        if left_out > 0 || list.len() + text.len() + 4096 > most {
            left_out += 1;
            continue;
        }
        list.push(if list.is_empty() { b'[' } else { b',' });
        list.extend_from_slice(text.as_bytes());
    }
    if list.is_empty() {
        list.push(b'[');
    }
    list.push(b']');
    let truncated: Vec<String> = (left_out > 0).then(|| format!("products/{left_out}")).into_iter().collect();
    if left_out > 0 {
        tracing::warn!(
            "shopify: the index of {} has no room for {left_out} products; their own objects are complete",
            envelope.shop
        );
    }
    let digest = hash.finalize().into();
    let empty = envelope.document(SCHEMA, Value::Null, &truncated, digest);
    Document { digest, body: spliced(&empty.body, &list) }
}

/// The object with the list in the place of its data, which is nothing so far.
fn spliced(object: &[u8], list: &[u8]) -> Bytes {
    const HOLE: &[u8] = b"\"data\":null";
    let at = object.windows(HOLE.len()).position(|window| window == HOLE).unwrap_or(object.len());
    let (before, after) = object.split_at((at + HOLE.len() - b"null".len()).min(object.len()));
    let after = after.strip_prefix(b"null").unwrap_or(after);
    [before, list, after].concat().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::model::{Cause, UserId, WallTime};

    fn entry(id: u64) -> Entry {
        let node = json!({"id": ProductId(id).gid(), "title": "\"data\":null é", "handle": "h", "status": "ACTIVE",
            "updatedAt": "2026-11-22T10:00:00Z", "onlineStoreUrl": null});
        Entry::read(&node).unwrap()
    }

    fn of(entries: Vec<Entry>) -> (Document, Value) {
        let shop = "some-shop.myshopify.com".parse().unwrap();
        let user = UserId::random();
        let envelope =
            Envelope { user, shop: &shop, fetched_at: WallTime(0), cause: Cause::Poll, api_version: "2026-10" };
        let document = limited(envelope, entries, 100_000);
        let object = serde_json::from_slice(&document.body).unwrap();
        (document, object)
    }

    #[test]
    fn an_index_names_each_product() {
        let (_, object) = of(vec![entry(1), entry(2)]);
        assert_eq!((&object["schema"], object.get("truncated")), (&json!(SCHEMA), None));
        let second = json!({"id": 2, "title": "\"data\":null é", "handle": "h", "status": "ACTIVE",
            "updatedAt": "2026-11-22T10:00:00Z", "url": null});
        assert_eq!((object["data"].as_array().unwrap().len(), &object["data"][1]), (2, &second));
        assert_eq!(of(vec![]).1["data"], json!([]));
    }

    #[test]
    fn the_time_of_a_change_does_not_count_and_all_else_does() {
        let (document, _) = of(vec![entry(1), entry(2)]);
        let with = |change: fn(&mut Row)| {
            let mut entry = entry(2);
            change(&mut entry.row);
            entry
        };
        let touched = with(|row| row.updated_at = "later".into());
        assert_eq!(of(vec![entry(1), touched]).0.digest, document.digest);
        for entries in [
            vec![entry(1)],
            vec![entry(1), with(|row| row.status = "DRAFT".into())],
            vec![entry(1), entry(2), entry(3)],
        ] {
            assert_ne!(of(entries).0.digest, document.digest);
        }
    }

    #[test]
    fn an_index_that_is_too_long_says_so() {
        let long = |id| Entry { row: Row { title: "x".repeat(3_000), ..entry(id).row }, id: ProductId(id) };
        let (document, object) = of((1..=50).map(long).collect());
        assert!(document.body.len() <= 100_000);
        let kept = object["data"].as_array().unwrap().len();
        assert_eq!(object["truncated"], json!([format!("products/{}", 50 - kept)]));
        // What is left out counts for the digest.
        assert_ne!(of((1..=51).map(long).collect()).0.digest, document.digest);
    }

    #[test]
    fn a_node_without_an_id_is_no_entry() {
        for id in [json!(null), json!(7), json!("gid://shopify/Collection/7")] {
            assert_eq!(Entry::read(&json!({"id": id})), None);
        }
    }
}
