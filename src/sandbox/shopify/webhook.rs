//! Deliveries: their signatures, their retries, and the faults that lose, double or delay them.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use serde_json::Value;
use sha2::Sha256;

use super::handle::Shopify;
use super::state::ShopFault;
use crate::core::model::{ShopName, WallTime};
use crate::sandbox::activity::ActivityKind;

const ANSWER_WITHIN: Duration = Duration::from_secs(5);
const TRIES: u32 = 9;
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// What a delivery is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShopTopic {
    /// `shop/update`
    ShopUpdate,
    /// `products/create`
    ProductsCreate,
    /// `products/update`
    ProductsUpdate,
    /// `products/delete`
    ProductsDelete,
    /// `collections/create`
    CollectionsCreate,
    /// `collections/update`
    CollectionsUpdate,
    /// `collections/delete`
    CollectionsDelete,
    /// `app/uninstalled`
    Uninstalled,
    /// `customers/data_request`
    CustomersDataRequest,
    /// `customers/redact`
    CustomersRedact,
    /// `shop/redact`
    ShopRedact,
}

impl ShopTopic {
    /// The word in the header.
    pub fn as_str(self) -> &'static str {
        match self {
            ShopTopic::ShopUpdate => "shop/update",
            ShopTopic::ProductsCreate => "products/create",
            ShopTopic::ProductsUpdate => "products/update",
            ShopTopic::ProductsDelete => "products/delete",
            ShopTopic::CollectionsCreate => "collections/create",
            ShopTopic::CollectionsUpdate => "collections/update",
            ShopTopic::CollectionsDelete => "collections/delete",
            ShopTopic::Uninstalled => "app/uninstalled",
            ShopTopic::CustomersDataRequest => "customers/data_request",
            ShopTopic::CustomersRedact => "customers/redact",
            ShopTopic::ShopRedact => "shop/redact",
        }
    }

    /// Only the app's configuration subscribes to it.
    fn is_compliance(self) -> bool {
        matches!(self, ShopTopic::CustomersDataRequest | ShopTopic::CustomersRedact | ShopTopic::ShopRedact)
    }
}

impl Shopify {
    /// The `X-Shopify-Hmac-Sha256` that Shopify would put on this body.
    pub fn sign(&self, body: &[u8]) -> String {
        let secret = self.look(|state| state.client_secret.clone());
        let mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes());
        STANDARD.encode(mac.map(|mac| mac.chain_update(body).finalize().into_bytes().to_vec()).unwrap_or_default())
    }

    /// Posts a delivery once. Returns the status; `None` when nobody answered.
    pub async fn send(&self, shop: &ShopName, topic: ShopTopic, body: &Value) -> Option<u16> {
        let url = self.look(|state| {
            let of_shop =
                state.shops.get(shop)?.app.subscriptions.get(&topic.as_str().to_uppercase().replace('/', "_"));
            of_shop.filter(|_| !topic.is_compliance()).or(state.webhook_url.as_ref()).cloned()
        })?;
        let body = body.to_string();
        let request = self
            .http()
            .post(url)
            .timeout(ANSWER_WITHIN)
            .header("content-type", "application/json")
            .header("X-Shopify-Topic", topic.as_str())
            .header("X-Shopify-Shop-Domain", shop.as_str())
            .header("X-Shopify-API-Version", "2026-10")
            .header("X-Shopify-Webhook-Id", uuid::Uuid::new_v4().to_string())
            .header("X-Shopify-Triggered-At", WallTime::now().rfc3339())
            .header("X-Shopify-Hmac-Sha256", self.sign(body.as_bytes()))
            .body(body);
        request.send().await.ok().map(|answer| answer.status().as_u16())
    }

    /// Sends a delivery as Shopify does: again until it is answered with 200, a limited number of times. A shop without
    /// the app sends nothing but what follows from the end of the app.
    pub(super) fn deliver(&self, shop: &ShopName, topic: ShopTopic, body: Value) {
        let is_installed = self.look(|state| state.shops.get(shop).is_some_and(|shop| shop.app.installed));
        let is_of_the_end = topic == ShopTopic::Uninstalled || topic.is_compliance();
        if (!is_installed && !is_of_the_end) || self.strikes(shop, ShopFault::WebhooksLost) {
            return;
        }
        let copies = if self.strikes(shop, ShopFault::WebhooksDuplicated) { 2 } else { 1 };
        for _ in 0..copies {
            let (shopify, shop, body) = (self.clone(), shop.clone(), body.clone());
            tokio::spawn(async move { shopify.deliver_until_taken(&shop, topic, &body).await });
        }
    }

    async fn deliver_until_taken(&self, shop: &ShopName, topic: ShopTopic, body: &Value) {
        let mut faults = self.watch_faults();
        // The delivery goes as soon as the fault does.
        while self.strikes(shop, ShopFault::WebhooksLate) && faults.changed().await.is_ok() {}
        let mut pause = FIRST_PAUSE;
        for _ in 0..TRIES {
            let status = self.send(shop, topic, body).await;
            let ok = status == Some(200);
            let end = status.map_or_else(|| "not answered".to_owned(), |status| format!("answered {status}"));
            let end = if ok { "delivered".to_owned() } else { end };
            self.note(ActivityKind::Webhook, ok, format!("{shop}: webhook {} {end}", topic.as_str()));
            if ok {
                return;
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        self.note(ActivityKind::Webhook, false, format!("{shop}: webhook {} given up", topic.as_str()));
    }
}
