//! Where the data of objects comes from: one module for each source, and [`SourceClient`], which is all that the rest
//! needs of one for its links.

pub mod api;
pub mod canonical;
mod client;
pub mod facebook;
pub mod oauth;
pub mod scrub;
pub mod shopify;

pub use client::{SourceClient, fields_of_object};
pub use shopify::row_of_object;
