//! The settings of the Shopify client. They lie below the client and its transport.

use std::fmt;
use std::time::Duration;

use crate::core::model::{Secret, ShopName};
use crate::http_client::Trust;

/// In `api_url`, stands for the shop.
const SHOP: &str = "{shop}";

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
    /// The address of the webhook, where the daemon makes the subscriptions itself, for each shop; `None` where they
    /// stand in the app's configuration.
    pub subscribe_at: Option<String>,
    /// One request, from start to last byte.
    pub request_timeout: Duration,
    /// Authorities that are trusted.
    pub trust: Trust,
}

impl ShopifySettings {
    /// The address of a shop, without a closing slash.
    pub fn shop_url(&self, shop: &ShopName) -> String {
        match &self.api_url {
            Some(template) => template.replace(SHOP, shop.as_str()),
            None => format!("https://{shop}"),
        }
    }
}

impl fmt::Debug for ShopifySettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("ShopifySettings");
        shown.field("client_id", &self.client_id).field("api_version", &self.api_version);
        shown.field("api_url", &self.api_url).field("scopes", &self.scopes).finish_non_exhaustive()
    }
}
