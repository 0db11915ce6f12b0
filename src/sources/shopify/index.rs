//! The index of a shop's products: one line of facts for each, in the order of their ids.
//!
//! A shop may have fifty thousand products, so the index is written straight into its bytes from entries that come one
//! by one, and its digest can be had without it. Its digest leaves the times of last changes out, which orders move. It has no fields of its own: what changed
//! in a product is said of the product.

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::ids::ProductId;
use super::object::Envelope;
use crate::core::catalogue::Row;
use crate::core::ledger::Digest;
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

/// The digest of the index of these entries, which come in the order of their ids.
pub fn digest(entries: impl IntoIterator<Item = Entry>) -> Digest {
    let mut hash = Sha256::new();
    entries.into_iter().for_each(|entry| count(&mut hash, &entry.json()));
    hash.finalize().into()
}

fn count(hash: &mut Sha256, entry: &Map<String, Value>) {
    hash.update(canonical::digest(entry, &[&["updatedAt"]]));
}

/// The index of these entries, which come in the order of their ids. When they do not fit into an object, the rest is
/// left out, which the object says.
pub fn document(envelope: Envelope<'_>, entries: impl IntoIterator<Item = Entry>) -> Document {
    limited(envelope, entries, MAX_INDEX)
}

fn limited(envelope: Envelope<'_>, entries: impl IntoIterator<Item = Entry>, most: usize) -> Document {
    let (mut hash, mut left_out) = (Sha256::new(), 0u64);
    let mut body = around(envelope, &[]).0;
    let begins_at = body.len();
    for entry in entries {
        let json = entry.json();
        count(&mut hash, &json);
        let text = Value::Object(json).to_string();
        if left_out > 0 || body.len() + text.len() + 4096 > most {
            left_out += 1;
            continue;
        }
        body.push(if body.len() == begins_at { b'[' } else { b',' });
        body.extend_from_slice(text.as_bytes());
    }
    if body.len() == begins_at {
        body.push(b'[');
    }
    body.push(b']');
    let truncated: Vec<String> = (left_out > 0).then(|| format!("products/{left_out}")).into_iter().collect();
    if left_out > 0 {
        tracing::warn!(
            "shopify: the index of {} is at its limit, and {left_out} products are left out; their own objects are complete",
            envelope.shop
        );
    }
    body.extend_from_slice(&around(envelope, &truncated).1);
    Document { digest: hash.finalize().into(), body: body.into() }
}

/// What stands in front of the list in an object, and what behind it. The list is written between the two where it lies, since
/// it may have megabytes.
fn around(envelope: Envelope<'_>, truncated: &[String]) -> (Vec<u8>, Vec<u8>) {
    const HOLE: &[u8] = b"\"data\":null";
    let object = envelope.document(SCHEMA, Value::Null, truncated, Digest::default()).body;
    let at = object.windows(HOLE.len()).position(|window| window == HOLE).unwrap_or(object.len());
    let before = (at + HOLE.len() - b"null".len()).min(object.len());
    (object[..before].to_vec(), object[(at + HOLE.len()).min(object.len())..].to_vec())
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
    fn a_digest_needs_no_document() {
        for entries in [vec![], vec![entry(1), entry(2)]] {
            assert_eq!(digest(entries.clone()), of(entries).0.digest);
        }
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
