//! Shopify shops: the client of the Admin API, tokens, what Shopify sends, and the data of objects.

pub mod app_toml;
mod budget;
pub mod client;
pub mod delivery;
pub mod error;
pub(in crate::sources) mod link;
pub mod oauth;
mod queries;
pub mod query_hmac;
pub mod shop_data;
pub mod webhook_signature;

pub use client::{ShopifyClient, ShopifySettings};
pub use delivery::WEBHOOK_TOPICS;
pub use error::{ShopifyError, ShopifyErrorKind};
