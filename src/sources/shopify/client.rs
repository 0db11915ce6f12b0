//! The client of Shopify's Admin API.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::core::model::Secret;
use crate::http_client::Trust;
use crate::metrics::Metrics;

/// What the client needs.
#[derive(Clone)]
pub struct ShopifySettings {
    /// The app's client id.
    pub client_id: String,
    /// The app's client secret.
    pub client_secret: Secret,
    /// `YYYY-MM`
    pub api_version: String,
    /// Where the shops are, with `{shop}` for the name; `None` for `https://{shop}`.
    pub api_url: Option<String>,
    /// Access scopes that the app needs.
    pub scopes: Vec<String>,
    /// Parts of the shop's object.
    pub shop_fields: Vec<String>,
    /// One request, from start to last byte.
    pub request_timeout: Duration,
    /// Authorities that are trusted.
    pub trust: Trust,
}

struct Inner {
    settings: ShopifySettings,
    metrics: Arc<Metrics>,
}

/// A client. Cloning is cheap, and clones share connections.
#[derive(Clone)]
pub struct ShopifyClient(Arc<Inner>);

impl fmt::Debug for ShopifyClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ShopifyClient")
    }
}

impl ShopifyClient {
    /// A client with these settings.
    pub fn new(settings: ShopifySettings, metrics: Arc<Metrics>) -> Self {
        ShopifyClient(Arc::new(Inner { settings, metrics }))
    }
}
