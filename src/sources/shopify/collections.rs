//! The object of a shop's collections: each with the ids of its products.
//!
//! Which products belong to a collection may follow from rules. Shopify announces no change of that kind, so the object is
//! read now and then as a whole. The ids are in the order of their numbers: the order of a shop's shelf may follow from
//! sales, and would change with every order.

use serde_json::{Map, Value, json};

use super::client::ShopifyClient;
use super::error::ShopifyError;
use super::ids::{self, ProductId};
use super::object::{Cuttable, Envelope, MAX_OBJECT, cut_to};
use super::queries::{COLLECTION_PRODUCTS, COLLECTIONS_LIST};
use super::shop::page_of;
use crate::core::fields::Fields;
use crate::core::model::{Secret, ShopName};
use crate::sources::api::Document;
use crate::sources::canonical::{self, Omitted};

/// The object's `schema`.
pub const SCHEMA: &str = "pagesyncd/collections/1";
/// The name of the part.
pub const PART: &str = "collections";
/// Requests for collections, of 100 each.
const MAX_REQUESTS: usize = 100;
/// Requests for the products of one collection, of 250 each: Shopify's paging ends there.
const MAX_MEMBERS: usize = 100;
/// It moves with the products of the collection.
const OMITTED: &Omitted<'_> = &[&["updatedAt"]];

/// What one answer has of a list, and the cursor of the rest.
type Page<T> = (Vec<T>, Option<String>);
/// A collection with its id.
type Named = (String, Map<String, Value>);

/// The collections of a shop.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Collections {
    list: Vec<Map<String, Value>>,
    truncated: Vec<String>,
}

impl ShopifyClient {
    /// Reads all collections with their products.
    ///
    /// # Errors
    /// [`ShopifyError`] when not all could be read. One that is deleted meanwhile is left out.
    pub async fn read_collections(&self, shop: &ShopName, token: &Secret) -> Result<Collections, ShopifyError> {
        let (mut all, mut after) = (Collections::default(), Value::Null);
        for request in 1.. {
            let data = self.call(shop, token, &COLLECTIONS_LIST, json!({"after": after})).await?;
            let (listed, next) = listed(data)?;
            for (id, collection) in listed {
                let Some((members, is_cut)) = self.members(shop, token, &id).await? else { continue };
                all.push(&id, collection, &members, is_cut);
            }
            let Some(cursor) = next else { break };
            if request == MAX_REQUESTS {
                all.truncated.push(PART.to_owned());
                break;
            }
            after = Value::String(cursor);
        }
        Ok(all)
    }

    /// The numbers of a collection's products, and whether there are more; `None` when the collection is gone.
    async fn members(
        &self,
        shop: &ShopName,
        token: &Secret,
        id: &str,
    ) -> Result<Option<(Vec<u64>, bool)>, ShopifyError> {
        let (mut members, mut after, mut is_cut) = (Vec::new(), Value::Null, false);
        for request in 1.. {
            let variables = json!({"id": id, "after": after});
            let data = self.call(shop, token, &COLLECTION_PRODUCTS, variables).await?;
            let Some((more, next)) = products_in(data)? else { return Ok(None) };
            members.extend(more);
            let Some(cursor) = next else { break };
            if request == MAX_MEMBERS {
                is_cut = true;
                break;
            }
            after = Value::String(cursor);
        }
        members.sort_unstable();
        members.dedup();
        Ok(Some((members, is_cut)))
    }
}

/// The collections of an answer by their ids, and the cursor of more.
pub(super) fn listed(mut data: Value) -> Result<Page<Named>, ShopifyError> {
    let (nodes, next) = page_of(COLLECTIONS_LIST.call, data.get_mut("collections"))?;
    let odd = || ShopifyError::odd(COLLECTIONS_LIST.call, "the answer has a collection without an id");
    let named = |node: Value| match node {
        Value::Object(collection) => {
            let id = collection.get("id").and_then(Value::as_str).map(str::to_owned);
            Some(id.map(|id| (id, collection)).ok_or_else(odd))
        }
        _ => None,
    };
    Ok((nodes.into_iter().filter_map(named).collect::<Result<_, _>>()?, next))
}

/// The numbers of a collection's products in an answer, and the cursor of more; `None` when the collection is gone.
pub(super) fn products_in(mut data: Value) -> Result<Option<Page<u64>>, ShopifyError> {
    if data["collection"].is_null() {
        return Ok(None);
    }
    let (nodes, next) = page_of(COLLECTION_PRODUCTS.call, data.pointer_mut("/collection/products"))?;
    let ids = nodes.iter().filter_map(|node| node["id"].as_str().and_then(ProductId::from_gid));
    Ok(Some((ids.map(|id| id.0).collect(), next)))
}

impl Collections {
    /// One more, with the numbers of its products; `is_cut` when there are more of them.
    pub(super) fn push(&mut self, gid: &str, mut collection: Map<String, Value>, products: &[u64], is_cut: bool) {
        collection.insert("products".to_owned(), json!(products));
        self.list.push(collection);
        if is_cut {
            self.truncated.push(products_of(gid));
        }
    }

    /// The object. Descriptions, and then the longest lists of products, are cut until it is short enough.
    pub fn document(mut self, envelope: Envelope<'_>) -> Document {
        let digest = canonical::digest(&counted(&self.list), OMITTED);
        let limit = MAX_OBJECT - 64 * 1024;
        self.cut(limit);
        if !self.truncated.is_empty() {
            let count = self.truncated.len();
            tracing::warn!(
                "shopify: the collections of {} are too many for an object; {count} were cut",
                envelope.shop
            );
        }
        envelope.document(SCHEMA, json!(self.list), &self.truncated, digest)
    }

    fn cut(&mut self, limit: usize) {
        let length = |list: &[Map<String, Value>]| json!(list).to_string().len();
        for key in ["descriptionHtml", "description"] {
            let whole = length(&self.list);
            if whole <= limit {
                return;
            }
            let named = |owner: &Map<String, Value>| format!("{key}/{}", number_of(owner));
            let texts = self.list.iter_mut().map(|owner| Cuttable { name: named(owner), owner, key });
            let mut texts: Vec<Cuttable<'_>> = texts.collect();
            let of_texts: usize = texts.iter().map(Cuttable::length).sum();
            self.truncated.extend(cut_to(&mut texts, limit.saturating_sub(whole.saturating_sub(of_texts))));
        }
        let mut excess = length(&self.list).saturating_sub(limit);
        while excess > 0 {
            let lists = self.list.iter_mut();
            let longest = lists.max_by_key(|one| one.get("products").and_then(Value::as_array).map_or(0, Vec::len));
            let Some(longest) = longest else { return };
            let id = longest.get("id").and_then(Value::as_str).map(products_of).unwrap_or_default();
            match longest.get_mut("products") {
                Some(list) if list.as_array().is_some_and(|list| !list.is_empty()) => {
                    excess = excess.saturating_sub(list.to_string().len() - "[]".len());
                    *list = json!([]);
                }
                _ => return,
            }
            self.truncated.push(id);
        }
    }
}

fn number_of(collection: &Map<String, Value>) -> u64 {
    collection.get("id").and_then(Value::as_str).and_then(ids::split).map_or(0, |(_, number)| number)
}

fn products_of(gid: &str) -> String {
    format!("products/{}", ids::split(gid).map_or(0, |(_, number)| number))
}

/// The collections by their numbers, without what moves by itself.
fn counted(list: &[Map<String, Value>]) -> Map<String, Value> {
    let one = |collection: &Map<String, Value>| {
        let mut counted = collection.clone();
        counted.remove("updatedAt");
        (number_of(collection).to_string(), Value::Object(counted))
    };
    list.iter().map(one).collect()
}

/// The fields of the collections in their object: one for each.
pub fn fields_of_object(object: &Value) -> Fields {
    let list: Vec<Map<String, Value>> =
        object["data"].as_array().into_iter().flatten().filter_map(|one| one.as_object().cloned()).collect();
    canonical::fields(&counted(&list), &[])
}

#[cfg(test)]
mod tests {
    use super::super::fake::{Fake, Reply, shop};
    use super::*;
    use crate::core::fields::changed;
    use crate::core::model::{Cause, UserId, WallTime};

    fn page(nodes: Vec<Value>, next: Option<&str>) -> Value {
        json!({"nodes": nodes, "pageInfo": {"hasNextPage": next.is_some(), "endCursor": next}})
    }

    fn collection(id: u64, title: &str) -> Value {
        json!({"id": format!("gid://shopify/Collection/{id}"), "title": title, "descriptionHtml": "<p>", "updatedAt": "t"})
    }

    fn members(ids: &[u64], next: Option<&str>) -> Reply {
        let nodes = ids.iter().map(|id| json!({"id": ProductId(*id).gid()})).collect();
        Reply::data(json!({"collection": {"id": "gid", "products": page(nodes, next)}}))
    }

    fn object(all: Collections) -> (Document, Value) {
        let (shop, user) = (shop(), UserId::random());
        let document = all.document(Envelope {
            user,
            shop: &shop,
            fetched_at: WallTime(0),
            cause: Cause::Poll,
            api_version: "2026-10",
        });
        let object = serde_json::from_slice(&document.body).unwrap();
        (document, object)
    }

    async fn read(replies: Vec<Reply>) -> Result<Collections, ShopifyError> {
        Fake::script(replies).await.client().read_collections(&shop(), &Secret::new("t")).await
    }

    #[tokio::test]
    async fn every_collection_has_all_its_products() {
        let lists = |next: Option<&str>, ids: &[u64]| {
            Reply::data(json!({"collections": page(ids.iter().map(|id| collection(*id, "A")).collect(), next)}))
        };
        let replies = vec![
            lists(Some("c"), &[1, 2]),
            members(&[9, 7], Some("m")),
            members(&[8], None),
            members(&[], None),
            lists(None, &[3, 4]),
            Reply::data(json!({"collection": null})),
            members(&[5], None),
        ];
        let (_, object) = object(read(replies).await.unwrap());
        assert_eq!(object["schema"], SCHEMA);
        let list = object["data"].as_array().unwrap();
        let of = |n: usize| (list[n]["id"].as_str().unwrap(), &list[n]["products"]);
        assert_eq!(list.len(), 3, "one is gone meanwhile");
        assert_eq!(of(0), ("gid://shopify/Collection/1", &json!([7, 8, 9])));
        assert_eq!((of(1).1, of(2)), (&json!([]), ("gid://shopify/Collection/4", &json!([5]))));
    }

    #[tokio::test]
    async fn fewer_than_all_is_an_error() {
        let list = Reply::data(json!({"collections": page(vec![collection(1, "A")], None)}));
        assert!(read(vec![list.clone(), Reply::Reset]).await.is_err());
        assert!(read(vec![list, Reply::data(json!({"collection": {}}))]).await.is_err());
        assert!(read(vec![Reply::data(json!({"collections": page(vec![json!({})], None)}))]).await.is_err());
        assert!(read(vec![Reply::data(json!({}))]).await.is_err());
    }

    fn of(collections: &[(Value, &[u64])]) -> Collections {
        let one = |(collection, products): &(Value, &[u64])| {
            let mut collection = collection.as_object().unwrap().clone();
            collection.insert("products".to_owned(), json!(products));
            collection
        };
        Collections { list: collections.iter().map(one).collect(), truncated: Vec::new() }
    }

    #[test]
    fn membership_counts_and_the_time_of_a_change_does_not() {
        let (before, old) = object(of(&[(collection(1, "A"), &[1]), (collection(2, "B"), &[])]));
        let mut touched = collection(1, "A");
        touched["updatedAt"] = json!("later");
        let (same, _) = object(of(&[(touched, &[1]), (collection(2, "B"), &[])]));
        assert_eq!(same.digest, before.digest);
        let (other, new) = object(of(&[(collection(1, "A"), &[1, 2]), (collection(3, "C"), &[])]));
        assert_ne!(other.digest, before.digest);
        let names = changed(Some(&fields_of_object(&old)), &fields_of_object(&new));
        assert_eq!(names.into_iter().collect::<Vec<_>>(), ["1", "2", "3"]);
    }

    #[test]
    fn what_is_too_long_is_cut_and_said() {
        let mut long = collection(1, "A");
        long["descriptionHtml"] = json!("x".repeat(MAX_OBJECT));
        let many: Vec<u64> = (9_000_000_000_000..9_000_000_400_000).collect();
        let (document, object) = object(of(&[(long, &[1]), (collection(2, "B"), &many)]));
        assert!(document.body.len() <= MAX_OBJECT);
        assert_eq!(object["truncated"], json!(["descriptionHtml/1", "descriptionHtml/2", "products/2"]));
        assert_eq!(object["data"][0]["products"], json!([1]));
    }
}
