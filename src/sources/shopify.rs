//! Shopify shops: the client of the Admin API, tokens, what Shopify sends, and the data of objects.

pub mod app_toml;
pub mod budget;
pub mod client;
pub mod delivery;
pub mod error;
#[cfg(test)]
pub(crate) mod fake;
pub mod ids;
pub(in crate::sources) mod link;
pub mod oauth;
pub mod object;
pub mod queries;
pub mod query_hmac;
mod settings;
pub mod shop;
mod transport;
pub mod webhook_signature;
pub mod webhooks;

pub use client::{ShopifyClient, ShopifySettings};
pub use error::{ShopifyError, ShopifyErrorKind};
pub use link::PRODUCTS_SCOPE;
pub use oauth::{TokenPair, missing_scopes};
