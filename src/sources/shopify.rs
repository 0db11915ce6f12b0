//! Shopify shops: the client of the Admin API, tokens, what Shopify sends, and the data of objects.

pub mod app_toml;
pub mod budget;
pub mod bulk;
pub mod bulk_lines;
pub mod client;
pub mod collections;
pub mod delivery;
pub mod error;
#[cfg(test)]
pub(crate) mod fake;
pub mod ids;
pub mod index;
pub(in crate::sources) mod link;
pub mod oauth;
pub mod object;
pub mod products;
pub mod queries;
pub mod query_hmac;
mod settings;
pub mod shop;
mod transport;
pub mod webhook_signature;
pub mod webhooks;
pub(crate) mod withstands;

use serde::Deserialize;

pub use client::{ShopifyClient, ShopifySettings};
pub use error::{ShopifyError, ShopifyErrorKind};
pub use link::PRODUCTS_SCOPE;
pub use oauth::{TokenPair, missing_scopes};
pub use products::row_of_object;

use crate::core::fields::Fields;

/// The fields of an object of a shop, by its schema; none for bytes that are no such object, and for an index.
pub fn fields_of_object(body: &[u8]) -> Fields {
    /// Read before the rest, since an index may be large.
    #[derive(Default, Deserialize)]
    struct Head {
        schema: String,
    }

    let head: Head = serde_json::from_slice(body).unwrap_or_default();
    let fields = match head.schema.as_str() {
        shop::SCHEMA => shop::fields_of_object,
        products::SCHEMA => products::fields_of_object,
        collections::SCHEMA => collections::fields_of_object,
        _ => return Fields::new(),
    };
    serde_json::from_slice(body).map(|object| fields(&object)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn fields_are_those_of_the_objects_schema() {
        let of = |schema: &str| {
            let data = json!({"shop": {"name": "A"}, "title": "B"});
            let object = json!({"schema": schema, "data": data}).to_string();
            fields_of_object(object.as_bytes()).into_keys().collect::<Vec<_>>()
        };
        assert_eq!(of(shop::SCHEMA), ["name"]);
        assert_eq!(of(products::SCHEMA), ["shop", "title"]);
        for other in [collections::SCHEMA, index::SCHEMA, "pagesyncd/page_data/1"] {
            assert!(of(other).is_empty(), "{other}");
        }
        for junk in [b"".as_slice(), b"[]", b"{\"schema\":7}", b"{\"schema\":\"pagesyncd/product/1\",\"data\":7}"] {
            assert_eq!(fields_of_object(junk), Fields::new());
        }
    }
}
