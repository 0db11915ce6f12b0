//! A webhook of Shopify's: its headers and what is to be done.
//!
//! The names of the headers come with and without `X-`: the successor of webhooks leaves it out. Only topic, signature and
//! shop must be there. The body is signed and the headers are not, so that what ends or deletes something takes the shop
//! from the body; a header that names another shop is refused then.

use http::HeaderMap;
use serde::Deserialize;

use super::webhook_signature::{self, Tag};
use crate::core::model::ShopName;

/// The topics that the daemon follows, as the API names them. Those of the app's life and those of privacy are not among
/// them: Shopify takes the latter from the app's configuration alone.
pub const WEBHOOK_TOPICS: [&str; 9] = [
    "APP_UNINSTALLED",
    "APP_SCOPES_UPDATE",
    "SHOP_UPDATE",
    "PRODUCTS_CREATE",
    "PRODUCTS_UPDATE",
    "PRODUCTS_DELETE",
    "COLLECTIONS_CREATE",
    "COLLECTIONS_UPDATE",
    "COLLECTIONS_DELETE",
];

/// The headers of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Headers {
    /// The signature of the body.
    pub signature: Tag,
    topic: String,
    shop: String,
}

/// A delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// The shop that it is about.
    pub shop: ShopName,
    /// What is to be done.
    pub what: What,
}

/// What is to be done about a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// The shop is to be read.
    ShopChanged,
    /// This product is to be read.
    Product(u64),
    /// This product may be gone.
    ProductGone(u64),
    /// The collections are to be read.
    Collections,
    /// The bulk operation with this global id ended.
    BulkFinished(String),
    /// The app may be uninstalled.
    Uninstalled,
    /// The access scopes may have changed.
    ScopesChanged,
    /// What is stored of the shop is to be deleted.
    Redact,
    /// It is about a customer, of whom nothing is stored.
    Customers,
    /// Nothing.
    Ignored,
}

/// Why a delivery was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the body is not what the topic says")]
pub struct BadDelivery;

impl Headers {
    /// Reads them. `None` when one that must be there is missing, or is of no use.
    pub fn read(headers: &HeaderMap) -> Option<Headers> {
        let value = |name: &str| {
            let prefixed = headers.get(format!("x-{name}"));
            prefixed.or_else(|| headers.get(name))?.to_str().ok()
        };
        Some(Headers {
            signature: webhook_signature::read(value("shopify-hmac-sha256")?.as_bytes())?,
            topic: value("shopify-topic")?.to_owned(),
            shop: value("shopify-shop-domain")?.to_owned(),
        })
    }
}

/// What is read of a body. Everything else stays where it is.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Body {
    id: Option<serde_json::Value>,
    admin_graphql_api_id: Option<String>,
    myshopify_domain: Option<String>,
    shop_domain: Option<String>,
}

impl Body {
    fn number(&self) -> Result<u64, BadDelivery> {
        let plain = self.id.as_ref().and_then(serde_json::Value::as_u64);
        let global = || self.admin_graphql_api_id.as_ref()?.rsplit('/').next()?.parse().ok();
        plain.or_else(global).ok_or(BadDelivery)
    }
}

/// Reads a delivery whose signature was verified.
///
/// # Errors
/// [`BadDelivery`]: the body is not JSON, names no shop, or names another one than the headers.
pub fn read(headers: &Headers, body: &[u8]) -> Result<Delivery, BadDelivery> {
    let shop: ShopName = headers.shop.parse().map_err(|_| BadDelivery)?;
    let topic = headers.topic.as_str();
    // Of a body about a customer nothing is looked at.
    let body: Body = if topic.starts_with("customers/") {
        serde_json::from_slice::<serde::de::IgnoredAny>(body).map_err(|_| BadDelivery)?;
        Body::default()
    } else {
        serde_json::from_slice(body).map_err(|_| BadDelivery)?
    };
    let what = match topic {
        "shop/update" => What::ShopChanged,
        "products/create" | "products/update" => What::Product(body.number()?),
        "products/delete" => What::ProductGone(body.number()?),
        "collections/create" | "collections/update" | "collections/delete" => What::Collections,
        "bulk_operations/finish" => What::BulkFinished(body.admin_graphql_api_id.clone().ok_or(BadDelivery)?),
        "app/scopes_update" => What::ScopesChanged,
        "app/uninstalled" => same(&shop, body.myshopify_domain.as_deref(), What::Uninstalled)?,
        "shop/redact" => same(&shop, body.shop_domain.as_deref(), What::Redact)?,
        "customers/data_request" | "customers/redact" => What::Customers,
        _ => What::Ignored,
    };
    Ok(Delivery { shop, what })
}

/// The signed body must name the shop that the headers name.
fn same(shop: &ShopName, in_body: Option<&str>, what: What) -> Result<What, BadDelivery> {
    let in_body: Option<ShopName> = in_body.and_then(|name| name.parse().ok());
    if in_body.as_ref() == Some(shop) { Ok(what) } else { Err(BadDelivery) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SHOP: &str = "some-shop.myshopify.com";

    fn headers(prefix: &str, topic: &str) -> Headers {
        let mut map = HeaderMap::new();
        let mut put = |name: &str, value: &str| {
            let name: http::HeaderName = format!("{prefix}shopify-{name}").parse().unwrap();
            map.insert(name, value.parse().unwrap());
        };
        put("topic", topic);
        put("shop-domain", SHOP);
        put("hmac-sha256", "jS8+OTom5FjuUvFBMJejtFTYUSIAoZ3P+ItuaCLUuu8=");
        Headers::read(&map).unwrap()
    }

    fn what(topic: &str, body: &str) -> Result<What, BadDelivery> {
        let one = read(&headers("X-", topic), body.as_bytes());
        assert_eq!(read(&headers("", topic), body.as_bytes()), one, "either spelling of the headers");
        one.map(|delivery| delivery.what)
    }

    #[test]
    fn every_topic_says_what_is_to_be_done() {
        let product = r#"{"id":9554194432293,"title":"x","variants":[{"id":1}]}"#;
        for (topic, body, wanted) in [
            ("shop/update", r#"{"id":1}"#, What::ShopChanged),
            ("products/create", product, What::Product(9_554_194_432_293)),
            ("products/update", product, What::Product(9_554_194_432_293)),
            ("products/update", r#"{"id":"x","admin_graphql_api_id":"gid://shopify/Product/7"}"#, What::Product(7)),
            ("products/delete", r#"{"id":18446744073709551615}"#, What::ProductGone(u64::MAX)),
            ("collections/update", r#"{"id":1}"#, What::Collections),
            (
                "bulk_operations/finish",
                r#"{"admin_graphql_api_id":"gid://shopify/BulkOperation/1","status":"completed"}"#,
                What::BulkFinished("gid://shopify/BulkOperation/1".to_owned()),
            ),
            ("app/scopes_update", r#"{"id":1}"#, What::ScopesChanged),
            ("app/uninstalled", r#"{"id":1,"myshopify_domain":"some-shop.myshopify.com"}"#, What::Uninstalled),
            ("shop/redact", r#"{"shop_id":1,"shop_domain":"some-shop.myshopify.com"}"#, What::Redact),
            ("customers/redact", r#"{"customer":{"email":"a@example.com"}}"#, What::Customers),
            ("orders/create", "{}", What::Ignored),
        ] {
            assert_eq!(what(topic, body), Ok(wanted), "{topic} {body}");
        }
    }

    #[test]
    fn the_shop_of_what_ends_something_is_the_signed_one() {
        for (topic, body) in [
            ("app/uninstalled", r#"{"myshopify_domain":"other-shop.myshopify.com"}"#),
            ("app/uninstalled", r#"{"id":1}"#),
            ("shop/redact", r#"{"shop_domain":"other-shop.myshopify.com"}"#),
            ("shop/redact", r#"{"myshopify_domain":"some-shop.myshopify.com"}"#),
            ("products/update", r#"{"title":"no id"}"#),
            ("products/update", "[]"),
            ("shop/update", "no json"),
            ("customers/redact", "{"),
        ] {
            assert_eq!(what(topic, body), Err(BadDelivery), "{topic} {body}");
        }
    }

    #[test]
    fn headers_that_must_be_there() {
        for missing in ["topic", "shop-domain", "hmac-sha256"] {
            let mut map = HeaderMap::new();
            for (name, value) in [
                ("topic", "shop/update"),
                ("shop-domain", SHOP),
                ("hmac-sha256", "jS8+OTom5FjuUvFBMJejtFTYUSIAoZ3P+ItuaCLUuu8="),
            ] {
                if name != missing {
                    map.insert(
                        format!("x-shopify-{name}").parse::<http::HeaderName>().unwrap(),
                        value.parse().unwrap(),
                    );
                }
            }
            assert_eq!(Headers::read(&map), None, "{missing}");
        }
    }

    proptest! {
        #[test]
        fn any_body_has_an_answer(body: Vec<u8>, topic in "(shop/update|products/update|app/uninstalled|x)") {
            let _ = read(&headers("X-", &topic), &body);
        }
    }
}
