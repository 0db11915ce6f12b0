//! What a webhook delivery of Shopify asks the daemon to do.
//!
//! A delivery is a hint: its content is never applied, and most of it is passed over without being kept. Read are ids,
//! and for what would delete something the name of the shop.
//!
//! # What the signature does not cover
//!
//! It covers the body alone. Whoever holds one signed body can send it again under another topic and for another shop.
//! For a hint that costs a needless read. A topic that deletes takes the shop from the body and refuses one that is not
//! the header's, and `shop/redact` refuses the body of another privacy topic, which names the shop in the same way. The
//! body of `app/uninstalled` is the one of `shop/update`, so a delivery of it proves nothing: a call with the shop's
//! token does. The time in the headers is not signed either.

use std::fmt;

use http::HeaderMap;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::ids::ProductId;
use super::webhook_signature::{TAG, read};
use crate::core::model::{ShopName, WallTime};

/// The longest name of a topic that is kept.
const MAX_TOPIC: usize = 64;

/// Why a delivery was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DeliveryError {
    /// A header that every delivery has is missing, or is not what it should be.
    #[error("the header {0} is missing or malformed")]
    Header(&'static str),
    /// The signature's header is missing, or no secret could ever have made it.
    #[error("the signature is missing or malformed")]
    Signature,
    /// The body is not JSON.
    #[error("the body is not JSON")]
    NotJson,
    /// A topic that deletes, with a body that names another shop than the header, or none.
    #[error("the body does not name the shop of the header")]
    OtherShop,
    /// A topic that deletes, with the body of another topic.
    #[error("the body belongs to another topic")]
    OtherTopic,
}

/// The topic of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Topic {
    /// `app/uninstalled`
    AppUninstalled,
    /// `app/scopes_update`
    AppScopesUpdate,
    /// `shop/update`
    ShopUpdate,
    /// `products/create`
    ProductsCreate,
    /// `products/update`
    ProductsUpdate,
    /// `products/delete`
    ProductsDelete,
    /// `collections/create`
    CollectionsCreate,
    /// `collections/update`
    CollectionsUpdate,
    /// `collections/delete`
    CollectionsDelete,
    /// `variants/in_stock`
    VariantsInStock,
    /// `variants/out_of_stock`
    VariantsOutOfStock,
    /// `product_publications/*`
    ProductPublications,
    /// `locations/*`
    Locations,
    /// `discounts/*`
    Discounts,
    /// `markets/*`
    Markets,
    /// `bulk_operations/finish`
    BulkOperationsFinish,
    /// `domains/*`
    Domains,
    /// `locales/*`
    Locales,
    /// `customers/data_request`
    CustomersDataRequest,
    /// `customers/redact`
    CustomersRedact,
    /// `shop/redact`
    ShopRedact,
    /// Any other one.
    Other(Box<str>),
}

impl Topic {
    fn of(text: &str) -> Topic {
        match text {
            "app/uninstalled" => Topic::AppUninstalled,
            "app/scopes_update" => Topic::AppScopesUpdate,
            "shop/update" => Topic::ShopUpdate,
            "products/create" => Topic::ProductsCreate,
            "products/update" => Topic::ProductsUpdate,
            "products/delete" => Topic::ProductsDelete,
            "collections/create" => Topic::CollectionsCreate,
            "collections/update" => Topic::CollectionsUpdate,
            "collections/delete" => Topic::CollectionsDelete,
            "variants/in_stock" => Topic::VariantsInStock,
            "variants/out_of_stock" => Topic::VariantsOutOfStock,
            "bulk_operations/finish" => Topic::BulkOperationsFinish,
            "customers/data_request" => Topic::CustomersDataRequest,
            "customers/redact" => Topic::CustomersRedact,
            "shop/redact" => Topic::ShopRedact,
            other => match other.split_once('/').map(|(family, _)| family) {
                Some("product_publications") => Topic::ProductPublications,
                Some("locations") => Topic::Locations,
                Some("discounts") => Topic::Discounts,
                Some("markets") => Topic::Markets,
                Some("domains") => Topic::Domains,
                Some("locales") => Topic::Locales,
                _ => Topic::Other(other.into()),
            },
        }
    }
}

/// The headers of a delivery. None of them is signed.
#[derive(Clone, PartialEq, Eq)]
pub struct Headers {
    /// The topic.
    pub topic: Topic,
    /// The shop.
    pub shop: ShopName,
    /// The signature of the body.
    pub signature: [u8; TAG],
    /// When it happened, where that is said.
    pub triggered_at: Option<WallTime>,
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Headers");
        shown.field("topic", &self.topic).field("shop", &self.shop).field("triggered_at", &self.triggered_at);
        shown.finish_non_exhaustive()
    }
}

impl Headers {
    /// Reads the headers in either spelling: `X-Shopify-Topic`, and `shopify-topic` of a newer kind of delivery.
    ///
    /// # Errors
    /// [`DeliveryError::Header`], [`DeliveryError::Signature`].
    pub fn read(headers: &HeaderMap) -> Result<Headers, DeliveryError> {
        let bytes =
            |name: &'static str| headers.get(name).or_else(|| headers.get(&name["x-".len()..])).map(|v| v.as_bytes());
        let text = |name| bytes(name).and_then(|value| std::str::from_utf8(value).ok()).map(str::trim);
        let signature = bytes("x-shopify-hmac-sha256").and_then(read).ok_or(DeliveryError::Signature)?;
        let plain = |text: &&str| {
            let is_plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_/-.".contains(&b);
            (1..=MAX_TOPIC).contains(&text.len()) && text.bytes().all(is_plain)
        };
        let topic = text("x-shopify-topic").filter(plain).ok_or(DeliveryError::Header("X-Shopify-Topic"))?;
        let shop = text("x-shopify-shop-domain").and_then(|shop| shop.parse().ok());
        let shop = shop.ok_or(DeliveryError::Header("X-Shopify-Shop-Domain"))?;
        let triggered_at = text("x-shopify-triggered-at").and_then(moment);
        Ok(Headers { topic: Topic::of(topic), shop, signature, triggered_at })
    }

    /// What is to be done. Call it once the signature of the body was verified.
    ///
    /// # Errors
    /// [`DeliveryError::NotJson`], and for topics that delete [`DeliveryError::OtherShop`] and
    /// [`DeliveryError::OtherTopic`].
    pub fn action(&self, body: &[u8]) -> Result<Action, DeliveryError> {
        let read = Body::read(body)?;
        Ok(match &self.topic {
            Topic::AppUninstalled => Action::Uninstalled { shop: self.confirmed(read.myshopify_domain)? },
            Topic::ShopRedact if read.customer.is_some() || read.orders_to_redact.is_some() => {
                return Err(DeliveryError::OtherTopic);
            }
            Topic::ShopRedact => Action::Redact { shop: self.confirmed(read.shop_domain)? },
            Topic::CustomersDataRequest | Topic::CustomersRedact => Action::Customers,
            Topic::AppScopesUpdate => Action::ScopesChanged,
            Topic::ShopUpdate | Topic::Domains => Action::ShopChanged,
            Topic::ProductsCreate | Topic::ProductsUpdate | Topic::ProductsDelete => {
                read.product().map_or(Action::Ignored, Action::Product)
            }
            Topic::VariantsInStock | Topic::VariantsOutOfStock | Topic::ProductPublications => {
                read.product_id.0.map_or(Action::Ignored, |number| Action::Product(ProductId(number)))
            }
            Topic::CollectionsCreate | Topic::CollectionsUpdate | Topic::CollectionsDelete => Action::Collections,
            Topic::Locations
            | Topic::Discounts
            | Topic::Markets
            | Topic::Locales
            | Topic::BulkOperationsFinish
            | Topic::Other(_) => Action::Ignored,
        })
    }

    /// The shop of the body, which must be the header's.
    fn confirmed(&self, of_body: Option<String>) -> Result<ShopName, DeliveryError> {
        let shop = of_body.and_then(|shop| shop.parse().ok());
        shop.filter(|shop| *shop == self.shop).ok_or(DeliveryError::OtherShop)
    }
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// The shop may have changed.
    ShopChanged,
    /// A product may be new, changed or gone. A delivery that comes late may be older than the product, so a read decides.
    Product(ProductId),
    /// A collection is new, changed or gone.
    Collections,
    /// The app may have been uninstalled from this shop. A call with its token decides.
    Uninstalled {
        /// From the body.
        shop: ShopName,
    },
    /// The granted scopes may have changed.
    ScopesChanged,
    /// The data of this shop is to be deleted.
    Redact {
        /// From the body.
        shop: ShopName,
    },
    /// It concerns a customer. Nothing of customers is kept, and neither is the body.
    Customers,
    /// Nothing.
    Ignored,
}

/// What is read of a body. A member of another type counts as missing.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Body {
    id: Number,
    product_id: Number,
    #[serde(deserialize_with = "text")]
    admin_graphql_api_id: Option<String>,
    #[serde(deserialize_with = "text")]
    myshopify_domain: Option<String>,
    #[serde(deserialize_with = "text")]
    shop_domain: Option<String>,
    customer: Option<IgnoredAny>,
    orders_to_redact: Option<IgnoredAny>,
}

impl Body {
    fn read(body: &[u8]) -> Result<Body, DeliveryError> {
        let text = std::str::from_utf8(body).map_err(|_| DeliveryError::NotJson)?;
        match serde_json::from_str(text) {
            Ok(body) if text.trim_ascii_start().starts_with('{') => Ok(body),
            // The reader of objects would take a list for the members in their order.
            Ok(_) => Ok(Body::default()),
            Err(_) if serde_json::from_str::<IgnoredAny>(text).is_ok() => Ok(Body::default()),
            Err(_) => Err(DeliveryError::NotJson),
        }
    }

    fn product(&self) -> Option<ProductId> {
        let of_gid = self.admin_graphql_api_id.as_deref().and_then(ProductId::from_gid);
        of_gid.or(self.id.0.map(ProductId))
    }
}

/// An id: a number, or a text of digits.
#[derive(Default)]
struct Number(Option<u64>);

#[derive(Deserialize)]
#[serde(untagged)]
enum Any {
    Number(u64),
    Text(String),
    Other(IgnoredAny),
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Number(match Any::deserialize(deserializer)? {
            Any::Number(number) => Some(number),
            Any::Text(text) => text.parse().ok(),
            Any::Other(IgnoredAny) => None,
        }))
    }
}

fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(match Any::deserialize(deserializer)? {
        Any::Text(text) => Some(text),
        Any::Number(_) | Any::Other(IgnoredAny) => None,
    })
}

fn moment(text: &str) -> Option<WallTime> {
    let at = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    u64::try_from(at.unix_timestamp_nanos() / 1_000_000).ok().map(WallTime)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SHOP: &str = "some-shop.myshopify.com";
    const SIGNATURE: &str = "jS8+OTom5FjuUvFBMJejtFTYUSIAoZ3P+ItuaCLUuu8=";

    fn map(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    fn headers(topic: &str) -> Headers {
        let map =
            map(&[("x-shopify-topic", topic), ("x-shopify-shop-domain", SHOP), ("x-shopify-hmac-sha256", SIGNATURE)]);
        Headers::read(&map).unwrap()
    }

    fn action(topic: &str, body: &str) -> Result<Action, DeliveryError> {
        headers(topic).action(body.as_bytes())
    }

    #[test]
    fn headers_are_read_in_both_spellings() {
        let old = map(&[
            ("X-Shopify-Topic", "products/update"),
            ("X-Shopify-Hmac-Sha256", SIGNATURE),
            ("X-Shopify-Shop-Domain", "Some-Shop.myshopify.com"),
            ("X-Shopify-Triggered-At", "2026-11-22T10:00:00.877041743Z"),
        ]);
        let new = map(&[
            ("shopify-topic", "products/update"),
            ("shopify-hmac-sha256", SIGNATURE),
            ("shopify-shop-domain", SHOP),
            ("shopify-triggered-at", "2026-11-22T11:00:00.877+01:00"),
        ]);
        for map in [old, new] {
            let read = Headers::read(&map).unwrap();
            assert_eq!((&read.topic, read.shop.as_str()), (&Topic::ProductsUpdate, SHOP));
            assert_eq!(read.triggered_at, Some(WallTime(1_795_341_600_877)));
            assert!(!format!("{read:?}").contains("signature"));
        }
    }

    #[test]
    fn three_headers_are_demanded_and_the_rest_may_be_missing_or_odd() {
        let all =
            [("x-shopify-topic", "shop/update"), ("x-shopify-shop-domain", SHOP), ("x-shopify-hmac-sha256", SIGNATURE)];
        for missing in 0..all.len() {
            let some: Vec<_> = all.iter().enumerate().filter(|(n, _)| *n != missing).map(|(_, pair)| *pair).collect();
            assert!(Headers::read(&map(&some)).is_err(), "without {}", all[missing].0);
        }
        for (name, value) in [
            ("x-shopify-topic", ""),
            ("x-shopify-topic", "products/update\u{e9}"),
            ("x-shopify-topic", &"x".repeat(65)),
            ("x-shopify-shop-domain", "some-shop.myshopify.com.evil.example"),
            ("x-shopify-hmac-sha256", "AAAA"),
        ] {
            let mut odd = map(&all);
            odd.insert(name, value.parse().unwrap());
            assert!(Headers::read(&odd).is_err(), "{name}: {value}");
        }
        for odd in ["", "yesterday", "0000-01-01T00:00:00Z", "2026-11-22"] {
            let mut map = map(&all);
            map.insert("x-shopify-triggered-at", odd.parse().unwrap());
            assert_eq!(Headers::read(&map).unwrap().triggered_at, None, "{odd}");
        }
    }

    #[test]
    fn every_topic_has_its_action() {
        let product =
            r#"{"id":9554194432293,"admin_graphql_api_id":"gid://shopify/Product/9554194432293","title":"Café"}"#;
        let id = ProductId(9_554_194_432_293);
        for (topic, body, wanted) in [
            ("products/create", product, Action::Product(id)),
            ("products/update", product, Action::Product(id)),
            ("products/update", r#"{"id":"9554194432293"}"#, Action::Product(id)),
            ("products/update", r#"{"id":-1}"#, Action::Ignored),
            ("products/update", "[]", Action::Ignored),
            ("products/delete", r#"{"id":9554194432293}"#, Action::Product(id)),
            ("variants/in_stock", r#"{"id":1,"product_id":9554194432293}"#, Action::Product(id)),
            ("variants/out_of_stock", r#"{"id":1}"#, Action::Ignored),
            ("product_publications/delete", r#"{"id":1,"product_id":9554194432293}"#, Action::Product(id)),
            ("collections/create", r#"{"id":1}"#, Action::Collections),
            ("collections/update", "7", Action::Collections),
            ("collections/delete", r#"{"id":1}"#, Action::Collections),
            ("shop/update", r#"{"id":1}"#, Action::ShopChanged),
            ("domains/update", "{}", Action::ShopChanged),
            ("app/scopes_update", "{}", Action::ScopesChanged),
            ("bulk_operations/finish", r#"{"admin_graphql_api_id":"gid://shopify/BulkOperation/7"}"#, Action::Ignored),
            (
                "customers/data_request",
                r#"{"shop_domain":"other.myshopify.com","customer":{"id":1}}"#,
                Action::Customers,
            ),
            ("customers/redact", "{}", Action::Customers),
            ("locations/create", "{}", Action::Ignored),
            ("discounts/update", "{}", Action::Ignored),
            ("markets/update", "{}", Action::Ignored),
            ("locales/create", "{}", Action::Ignored),
            ("orders/create", product, Action::Ignored),
        ] {
            assert_eq!(action(topic, body), Ok(wanted), "{topic}: {body}");
        }
        assert_eq!(headers("orders/create").topic, Topic::Other("orders/create".into()));
    }

    #[test]
    fn what_deletes_takes_the_shop_from_the_body_and_refuses_another() {
        let shop: ShopName = SHOP.parse().unwrap();
        let gone = format!(r#"{{"id":1,"domain":"shop.example","myshopify_domain":"{SHOP}"}}"#);
        assert_eq!(action("app/uninstalled", &gone), Ok(Action::Uninstalled { shop: shop.clone() }));
        let redact = format!(r#"{{"shop_id":954889,"shop_domain":"{SHOP}"}}"#);
        assert_eq!(action("shop/redact", &redact), Ok(Action::Redact { shop }));
        for (topic, body) in [
            ("app/uninstalled", r#"{"myshopify_domain":"other.myshopify.com"}"#),
            ("app/uninstalled", &redact),
            ("app/uninstalled", r#"{"id":1}"#),
            ("app/uninstalled", "[]"),
            ("shop/redact", r#"{"shop_domain":"other.myshopify.com"}"#),
            ("shop/redact", r#"{"shop_domain":["some-shop.myshopify.com"]}"#),
            ("shop/redact", &gone),
            ("shop/redact", "{}"),
            ("shop/redact", r#"[null,null,null,null,"some-shop.myshopify.com",null,null]"#),
        ] {
            assert_eq!(action(topic, body), Err(DeliveryError::OtherShop), "{topic}: {body}");
        }
        for customer in [r#""customer":{"id":1}"#, r#""orders_to_redact":[]"#] {
            let body = format!(r#"{{"shop_id":954889,"shop_domain":"{SHOP}",{customer}}}"#);
            assert_eq!(action("shop/redact", &body), Err(DeliveryError::OtherTopic));
        }
    }

    #[test]
    fn what_is_no_json_is_refused_for_every_topic() {
        for topic in ["products/update", "shop/redact", "customers/redact", "orders/create"] {
            for body in ["", "{", "{}x", "id=1"] {
                assert_eq!(action(topic, body), Err(DeliveryError::NotJson), "{topic}: {body}");
            }
            assert_eq!(headers(topic).action(b"\"\xff\""), Err(DeliveryError::NotJson));
        }
    }

    proptest! {
        #[test]
        fn no_body_panics(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            for topic in ["products/update", "shop/redact", "app/uninstalled"] {
                let _ = headers(topic).action(&body);
            }
        }
    }
}
