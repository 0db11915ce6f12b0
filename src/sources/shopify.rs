//! Shopify shops: the client of the Admin API, tokens, what Shopify sends, and the data of objects.

pub mod client;
pub mod delivery;
pub mod ids;
pub mod queries;
pub mod query_hmac;
pub mod webhook_signature;

pub use client::{ShopifyClient, ShopifySettings};
