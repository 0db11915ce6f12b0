//! The client of Shopify's Admin API: every call that the daemon makes to a shop, and nothing else.
//!
//! - **No secret leaves by accident.** A token travels in its header, the client secret, codes and refresh tokens in form
//!   bodies. Errors print no address, and their texts are scrubbed.
//! - **An error says what to do** ([`super::error`]), and an answer that is not Shopify's parks no shop.
//! - **No retry inside.** What is repeated is only ever a different request: with a part less, or the next page.
//! - **Everything is bounded**: time, the size of an answer, pages followed, the wait for a budget.

use std::fmt;
use std::sync::Arc;

use serde_json::Value;

use super::error::ShopifyError;
use super::queries::Operation;
pub use super::settings::ShopifySettings;
use super::transport::Inner;
use crate::core::model::{Secret, ShopName};
use crate::metrics::Metrics;

/// A client. Cloning is cheap, and clones share connections and budgets.
#[derive(Clone)]
pub struct ShopifyClient {
    pub(super) inner: Arc<Inner>,
}

impl fmt::Debug for ShopifyClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShopifyClient").field("settings", &self.inner.settings).finish_non_exhaustive()
    }
}

impl ShopifyClient {
    /// A client with these settings.
    ///
    /// # Errors
    /// [`super::error::ShopifyErrorKind::Misconfigured`] when TLS cannot be set up.
    pub fn new(settings: ShopifySettings, metrics: Arc<Metrics>) -> Result<ShopifyClient, ShopifyError> {
        Ok(ShopifyClient { inner: Arc::new(Inner::new(settings, metrics)?) })
    }

    /// The version that is asked for.
    pub fn version(&self) -> &str {
        &self.inner.settings.api_version
    }

    /// Its settings.
    pub fn settings(&self) -> &ShopifySettings {
        &self.inner.settings
    }

    /// Makes one call; its `data`.
    pub(super) async fn call(
        &self,
        shop: &ShopName,
        token: &Secret,
        operation: &Operation,
        variables: Value,
    ) -> Result<Value, ShopifyError> {
        self.inner.send(shop, token, operation, variables).await
    }
}
