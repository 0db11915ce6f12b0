//! The object of a shop: the shop, its policies and the pages of its online store.
//!
//! A part whose scope is missing is left out and named: a shop without pages is better than none. A policy or a page may
//! have half a megabyte, and an object has a limit, so the longest bodies are cut, which the object and the log say.

use serde_json::{Map, Value, json};
use tracing::warn;

use super::client::ShopifyClient;
use super::error::{ShopifyError, ShopifyErrorKind};
use super::ids;
use super::object::{Cuttable, Envelope, MAX_OBJECT, cut_to};
use super::queries::{SHOP_PAGES, SHOP_READ, SHOP_READ_WITHOUT_POLICIES};
use crate::core::fields::Fields;
use crate::core::ledger::Digest;
use crate::core::model::{Cause, LinkKey, Secret, ShopName, WallTime};
use crate::sources::api::{Document, Reading};
use crate::sources::canonical::{self, Omitted};

/// The object's `schema`.
pub const SCHEMA: &str = "pagesyncd/shop_data/1";
/// The parts that may be left out.
const POLICIES: &str = "policies";
const PAGES: &str = "pages";
/// Requests for pages of the online store, of 20 each.
const MAX_REQUESTS: usize = 10;
/// It moves whenever anything of the shop is saved, orders among it.
const OMITTED: &Omitted<'_> = &[&["updatedAt"]];

/// What was read of a shop.
#[derive(Debug, Default)]
pub(super) struct Parts {
    shop: Map<String, Value>,
    policies: Option<Vec<Value>>,
    pub(super) pages: Option<Vec<Value>>,
    truncated: Vec<String>,
    refused: Vec<String>,
}

impl ShopifyClient {
    /// Reads the shop of a link. Of its parts, `parts` names those that are wanted beside the shop itself.
    ///
    /// # Errors
    /// [`ShopifyError`] when not all of it could be read; a part that is refused is no error.
    pub async fn read_shop(
        &self,
        link: &LinkKey,
        shop: &ShopName,
        token: &Secret,
        parts: &[String],
        cause: Cause,
    ) -> Result<Reading, ShopifyError> {
        let wants = |part: &str| parts.iter().any(|wanted| wanted == part);
        let fetched_at = WallTime::now();
        let mut read = Parts::default();
        self.read_shop_itself(shop, token, wants(POLICIES), &mut read).await?;
        if wants(PAGES) {
            self.read_pages(shop, token, &mut read).await?;
        }
        let name = read.shop.get("name").and_then(Value::as_str).map(str::to_owned);
        let refused_fields = std::mem::take(&mut read.refused);
        let envelope = Envelope { user: link.user, shop, fetched_at, cause, api_version: self.version() };
        Ok(Reading { document: document(read, envelope), name, refused_fields })
    }

    async fn read_shop_itself(
        &self,
        shop: &ShopName,
        token: &Secret,
        with_policies: bool,
        read: &mut Parts,
    ) -> Result<(), ShopifyError> {
        let mut data = None;
        if with_policies {
            match self.call(shop, token, &SHOP_READ, json!({})).await {
                Ok(whole) => data = Some(whole),
                Err(error) if error.kind == ShopifyErrorKind::AccessDenied => read.refused.push(POLICIES.to_owned()),
                Err(error) => return Err(error),
            }
        }
        let data = match data {
            Some(data) => data,
            None => self.call(shop, token, &SHOP_READ_WITHOUT_POLICIES, json!({})).await?,
        };
        read.take_shop(data)
    }

    async fn read_pages(&self, shop: &ShopName, token: &Secret, read: &mut Parts) -> Result<(), ShopifyError> {
        let (mut pages, mut after, mut bytes) = (Vec::new(), Value::Null, 0);
        for request in 1.. {
            let mut data = match self.call(shop, token, &SHOP_PAGES, json!({"after": after})).await {
                Ok(data) => data,
                Err(error) if error.kind == ShopifyErrorKind::AccessDenied => {
                    read.refused.push(PAGES.to_owned());
                    return Ok(());
                }
                Err(error) => return Err(error),
            };
            let (list, next) = page_of(SHOP_PAGES.call, data.get_mut("pages"))?;
            bytes += list.iter().filter_map(|page| page["body"].as_str()).map(str::len).sum::<usize>();
            pages.extend(list);
            let Some(cursor) = next else { break };
            if request == MAX_REQUESTS || bytes > MAX_OBJECT {
                read.truncated.push(PAGES.to_owned());
                break;
            }
            after = Value::String(cursor);
        }
        read.pages = Some(pages);
        Ok(())
    }
}

impl Parts {
    /// The shop and, where they were asked for, its policies from the `data` of an answer.
    pub(super) fn take_shop(&mut self, mut data: Value) -> Result<(), ShopifyError> {
        let odd = || ShopifyError::odd(SHOP_READ.call, "the answer has no shop");
        let Some(Value::Object(mut found)) = data.get_mut("shop").map(Value::take) else { return Err(odd()) };
        if !found.get("id").is_some_and(Value::is_string) {
            return Err(odd());
        }
        if let Some(policies) = found.remove("shopPolicies") {
            let Value::Array(list) = policies else { return Err(odd()) };
            self.policies = Some(list);
        }
        // The owner's name and address are not asked for, and dropped all the same.
        for personal in ["email", "shopOwnerName", "accountOwner"] {
            found.remove(personal);
        }
        self.shop = found;
        Ok(())
    }
}

/// The nodes of a connection and the cursor of the next page, where there is one.
pub(super) fn page_of(
    call: &'static str,
    connection: Option<&mut Value>,
) -> Result<(Vec<Value>, Option<String>), ShopifyError> {
    let odd = || ShopifyError::odd(call, "the answer has no list");
    let page = connection.ok_or_else(odd)?;
    let Some(Value::Array(nodes)) = page.get_mut("nodes").map(Value::take) else { return Err(odd()) };
    let more = page["pageInfo"]["hasNextPage"].as_bool().ok_or_else(odd)?;
    let cursor = page["pageInfo"]["endCursor"].as_str().map(str::to_owned);
    match (more, cursor) {
        (false, _) => Ok((nodes, None)),
        (true, Some(cursor)) => Ok((nodes, Some(cursor))),
        (true, None) => Err(odd()),
    }
}

/// The object.
pub(super) fn document(mut read: Parts, envelope: Envelope<'_>) -> Document {
    let digest = digest(&read);
    let bodies = |list: &Option<Vec<Value>>| list.iter().flatten().filter_map(|one| one["body"].as_str()).count();
    let has_bodies = bodies(&read.policies) + bodies(&read.pages) > 0;
    let mut truncated = std::mem::take(&mut read.truncated);
    let whole = data_of(&read).to_string().len();
    let limit = MAX_OBJECT - 4096;
    if whole > limit && has_bodies {
        let named = |kind: &str, one: &Map<String, Value>| {
            let id = one.get("id").and_then(Value::as_str).and_then(ids::split);
            let name = one.get("type").and_then(Value::as_str).map(str::to_owned);
            format!("{kind}/{}", name.unwrap_or_else(|| id.map_or_else(String::new, |(_, id)| id.to_string())))
        };
        let lists = [(POLICIES, read.policies.as_mut()), (PAGES, read.pages.as_mut())];
        let members = lists.into_iter().flat_map(|(kind, list)| list.into_iter().flatten().map(move |one| (kind, one)));
        let mut texts: Vec<Cuttable<'_>> = members
            .filter_map(|(kind, one)| one.as_object_mut().map(|owner| (kind, owner)))
            .map(|(kind, owner)| Cuttable { name: named(kind, owner), owner, key: "body" })
            .collect();
        let of_bodies: usize = texts.iter().map(Cuttable::length).sum();
        let most = limit.saturating_sub(whole - of_bodies);
        truncated.extend(cut_to(&mut texts, most));
    }
    if !truncated.is_empty() {
        warn!(
            "shopify: the object of {} would be larger than {MAX_OBJECT} bytes or has too many pages, so {truncated:?} are \
             cut; shorten them in the shop's admin, or take the part out of shopify.shop_fields",
            envelope.shop
        );
    }
    envelope.document(SCHEMA, data_of(&read), &truncated, digest)
}

fn data_of(read: &Parts) -> Value {
    let mut data = json!({"shop": read.shop});
    for (name, list) in [(POLICIES, &read.policies), (PAGES, &read.pages)] {
        if let Some(list) = list {
            data[name] = json!(list);
        }
    }
    data
}

/// The data as one level of fields: the shop's own, its policies and its pages.
fn flat(data: &Value) -> Map<String, Value> {
    let mut flat = data["shop"].as_object().cloned().unwrap_or_default();
    for name in [POLICIES, PAGES] {
        if let Some(list) = data.get(name) {
            flat.insert(name.to_owned(), list.clone());
        }
    }
    flat
}

/// Of what was read, before anything is cut.
fn digest(read: &Parts) -> Digest {
    canonical::digest(&flat(&data_of(read)), OMITTED)
}

/// The fields of the shop in an object's bytes; none for bytes that are no object of a shop.
pub fn fields_of_object(object: &Value) -> Fields {
    canonical::fields(&flat(&object["data"]), OMITTED)
}

#[cfg(test)]
mod tests;
