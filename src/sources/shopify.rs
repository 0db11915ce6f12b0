//! Shopify shops: the client of the Admin API, tokens, what Shopify sends, and the data of objects.

pub mod client;
pub mod queries;

pub use client::{ShopifyClient, ShopifySettings};
