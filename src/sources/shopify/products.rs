//! The object of one product with all its variants, made from one product of the Admin API or of a bulk file. The digest
//! is the same whichever way the product came.
//!
//! An order moves the stock of a variant and the time of its product's last change. So counts become in or out of stock,
//! and the time does not count for the digest: a day of orders that empties no shelf writes nothing. Money stays the text
//! that Shopify wrote.

use serde_json::{Map, Value, json};

use super::client::ShopifyClient;
use super::error::ShopifyError;
use super::ids::{self, ProductId};
use super::index::Entry;
use super::object::{Cuttable, Envelope, MAX_OBJECT, cut_to};
use super::queries::{COLLECTIONS, MEDIA, PRODUCT_READ, PRODUCT_VARIANTS, PRODUCTS_CHANGED};
use super::shop::page_of;
use crate::core::catalogue::Row;
use crate::core::fields::Fields;
use crate::core::model::{Secret, ShopName};
use crate::sources::api::Document;
use crate::sources::canonical::{self, Omitted};

/// The object's `schema`.
pub const SCHEMA: &str = "pagesyncd/product/1";
/// Requests for the variants of one product, of 250 each: a product has 2,048 at most.
const MAX_REQUESTS: usize = 12;
/// Beyond so many products of one query Shopify's paging ends, at 25,000; a later query goes on from there.
const MAX_PAGED: usize = 20_000;
const OMITTED: &Omitted<'_> = &[&["updatedAt"]];
/// What counts stock, and what becomes of it.
const IN_STOCK: &str = "inStock";

/// A product in the form of its object.
#[derive(Debug, Clone, PartialEq)]
pub struct Product {
    /// Its number.
    pub id: ProductId,
    data: Map<String, Value>,
    truncated: Vec<String>,
}

impl Product {
    /// A product from its fields and the lists that belong to it; `None` without an id.
    pub fn new(
        mut fields: Map<String, Value>,
        mut variants: Vec<Value>,
        mut media: Vec<Value>,
        mut collections: Vec<Value>,
    ) -> Option<Product> {
        let id = fields.get("id").and_then(Value::as_str).and_then(ProductId::from_gid)?;
        for list in ["variants", "media", "collections"] {
            fields.remove(list);
        }
        let is_tracked = fields.get("tracksInventory").and_then(Value::as_bool).unwrap_or(false);
        if let Some(total) = fields.remove("totalInventory") {
            let stands = !is_tracked || total.as_i64().is_some_and(|count| count > 0);
            fields.insert(IN_STOCK.to_owned(), Value::Bool(stands));
        }
        variants.iter_mut().filter_map(Value::as_object_mut).for_each(|variant| {
            // Without a count of its own, what may be sold is in stock.
            let count = variant.remove("inventoryQuantity").and_then(|count| count.as_i64());
            let is_sold = variant.get("availableForSale").and_then(Value::as_bool).unwrap_or(false);
            let stands = count.filter(|_| is_tracked).map_or(is_sold, |count| count > 0);
            variant.insert(IN_STOCK.to_owned(), Value::Bool(stands));
            variant.remove("updatedAt");
        });
        let number = |value: &Value| value["id"].as_str().and_then(ids::split).map_or(u64::MAX, |(_, number)| number);
        variants.sort_by_key(|variant| (variant["position"].as_u64().unwrap_or(u64::MAX), number(variant)));
        collections.sort_by_key(number);
        let mut truncated = Vec::new();
        for (name, list, most) in [("media", &mut media, MEDIA), ("collections", &mut collections, COLLECTIONS)] {
            if list.len() > most {
                list.truncate(most);
            }
            // A list that is as long as the document asks for may have been longer.
            if list.len() == most {
                truncated.push(name.to_owned());
            }
        }
        fields.insert("variants".to_owned(), Value::Array(variants));
        fields.insert("media".to_owned(), Value::Array(media));
        fields.insert("collections".to_owned(), Value::Array(collections));
        Some(Product { id, data: fields, truncated })
    }

    /// When it last changed, as Shopify writes it.
    pub fn updated_at(&self) -> &str {
        self.data.get("updatedAt").and_then(Value::as_str).unwrap_or_default()
    }

    /// Its object. Descriptions that are too long for one are cut.
    pub fn document(mut self, envelope: Envelope<'_>) -> Document {
        let digest = canonical::digest(&self.data, OMITTED);
        let whole = serde_json::to_string(&self.data).map_or(0, |text| text.len());
        let limit = MAX_OBJECT - 4096;
        if whole > limit {
            for key in ["descriptionHtml", "description"] {
                let mut text = [Cuttable { name: key.to_owned(), owner: &mut self.data, key }];
                let length = text[0].length();
                let now = serde_json::to_string(&*text[0].owner).map_or(0, |text| text.len());
                let most = length.saturating_sub(now.saturating_sub(limit));
                self.truncated.extend(cut_to(&mut text, most));
            }
            tracing::warn!("shopify: product {} of {} is too long for an object and was cut", self.id, envelope.shop);
        }
        envelope.document(SCHEMA, Value::Object(self.data), &self.truncated, digest)
    }
}

/// The fields of a product in its object.
pub fn fields_of_object(object: &Value) -> Fields {
    object["data"].as_object().map(|data| canonical::fields(data, OMITTED)).unwrap_or_default()
}

/// The row in the index of the product that this object holds; `None` for bytes that are no such object.
pub fn row_of_object(body: &[u8]) -> Option<Row> {
    let object: Value = serde_json::from_slice(body).ok()?;
    (object["schema"] == SCHEMA).then(|| Entry::read(&object["data"])).flatten().map(|entry| entry.row)
}

/// Where a walk over changed products stands. It is not stored: a new walk begins at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangedSince {
    since: Option<String>,
    after: Option<String>,
    paged: usize,
}

impl ChangedSince {
    /// All products that changed at or after this moment (RFC 3339); all products without one. Deletions do not show, and
    /// a change that is being saved may show late: let the moments of two walks overlap by some minutes.
    pub fn new(since: Option<String>) -> ChangedSince {
        ChangedSince { since, after: None, paged: 0 }
    }
}

impl ShopifyClient {
    /// Reads one product with all its variants; `None` when the shop has no such product.
    ///
    /// # Errors
    /// [`ShopifyError`] when not all of it could be read.
    pub async fn read_product(
        &self,
        shop: &ShopName,
        token: &Secret,
        id: ProductId,
    ) -> Result<Option<Product>, ShopifyError> {
        let data = self.call(shop, token, &PRODUCT_READ, json!({"id": id.gid()})).await?;
        let Some(mut begun) = Begun::read(data)? else { return Ok(None) };
        for _ in 0..MAX_REQUESTS {
            let Some(after) = begun.next.take() else { break };
            let variables = json!({"id": id.gid(), "after": after});
            let data = self.call(shop, token, &PRODUCT_VARIANTS, variables).await?;
            if !begun.read_on(data)? {
                return Ok(None);
            }
        }
        begun.end(id).map(Some)
    }

    /// The next page of products that changed, those that changed first in front, and the rest of the walk where there is
    /// one. A product that changes during the walk comes again.
    ///
    /// # Errors
    /// [`ShopifyError`]; the same step may be repeated.
    pub async fn changed_products(
        &self,
        shop: &ShopName,
        token: &Secret,
        step: &ChangedSince,
    ) -> Result<(Vec<Entry>, Option<ChangedSince>), ShopifyError> {
        let query = step.since.as_ref().map(|since| format!("updated_at:>='{since}'"));
        let variables = json!({"query": query, "after": step.after});
        step.read(self.call(shop, token, &PRODUCTS_CHANGED, variables).await?)
    }
}

/// A product whose variants are being read.
pub(super) struct Begun {
    fields: Map<String, Value>,
    variants: Vec<Value>,
    /// The cursor of more variants, where there are more.
    next: Option<String>,
}

impl Begun {
    /// From the first answer; `None` when the shop has no such product.
    pub(super) fn read(mut data: Value) -> Result<Option<Begun>, ShopifyError> {
        let mut fields = match data.get_mut("product").map(Value::take) {
            Some(Value::Object(fields)) => fields,
            Some(Value::Null) => return Ok(None),
            _ => return Err(ShopifyError::odd(PRODUCT_READ.call, "the answer has no product")),
        };
        let mut first = fields.remove("variants");
        let (variants, next) = page_of(PRODUCT_READ.call, first.as_mut())?;
        Ok(Some(Begun { fields, variants, next }))
    }

    /// Goes on with an answer that has more variants; `false` when the product is gone.
    pub(super) fn read_on(&mut self, mut data: Value) -> Result<bool, ShopifyError> {
        if data["product"].is_null() {
            return Ok(false);
        }
        let (more, next) = page_of(PRODUCT_VARIANTS.call, data.pointer_mut("/product/variants"))?;
        self.variants.extend(more);
        self.next = next;
        Ok(true)
    }

    /// The product, which must be this one and complete.
    pub(super) fn end(mut self, id: ProductId) -> Result<Product, ShopifyError> {
        let odd = |what| ShopifyError::odd(PRODUCT_READ.call, what);
        if self.next.is_some() {
            return Err(odd("the product has more variants than Shopify allows"));
        }
        let mut nodes = |key: &str| match self.fields.remove(key).as_mut().and_then(|list| list.get_mut("nodes")) {
            Some(Value::Array(nodes)) => Ok(std::mem::take(nodes)),
            _ => Err(odd("the answer has no list")),
        };
        let (media, collections) = (nodes("media")?, nodes("collections")?);
        let product = Product::new(self.fields, self.variants, media, collections);
        product.filter(|product| product.id == id).ok_or_else(|| odd("the answer is another product"))
    }
}

impl ChangedSince {
    /// The products of the answer to this step, and the rest of the walk where there is one.
    pub(super) fn read(&self, mut data: Value) -> Result<(Vec<Entry>, Option<ChangedSince>), ShopifyError> {
        let (nodes, next) = page_of(PRODUCTS_CHANGED.call, data.get_mut("products"))?;
        let odd = || ShopifyError::odd(PRODUCTS_CHANGED.call, "the answer has a product without an id");
        let entries: Option<Vec<Entry>> = nodes.iter().map(Entry::read).collect();
        let entries = entries.ok_or_else(odd)?;
        let paged = self.paged + entries.len();
        let rest = next.map(|after| {
            let last = entries.last().map(|entry| entry.row.updated_at.clone()).filter(|last| !last.is_empty());
            match last {
                Some(last) if paged >= MAX_PAGED && self.since.as_ref() != Some(&last) => ChangedSince::new(Some(last)),
                _ => ChangedSince { since: self.since.clone(), after: Some(after), paged },
            }
        });
        Ok((entries, rest))
    }
}

#[cfg(test)]
mod tests;
