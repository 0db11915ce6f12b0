//! What Shopify sends, and the edits and events that make it do so.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use super::handle::Shopify;
use super::state::{Installation, Shop, ShopFault};
use crate::core::model::{ShopName, WallTime};

const ANSWER_WITHIN: Duration = Duration::from_secs(5);
const TRIES: u32 = 9;
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// What a delivery is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShopTopic {
    /// `shop/update`
    ShopUpdate,
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

    /// Sends a delivery as Shopify does: again until it is answered with 200, a limited number of times.
    fn tell(&self, shop: &ShopName, topic: ShopTopic, body: Value) {
        if self.has(ShopFault::WebhooksLost) {
            return;
        }
        let copies = if self.has(ShopFault::WebhooksDuplicated) { 2 } else { 1 };
        for _ in 0..copies {
            let (shopify, shop, body) = (self.clone(), shop.clone(), body.clone());
            tokio::spawn(async move {
                let mut pause = FIRST_PAUSE;
                for _ in 0..TRIES {
                    if shopify.send(&shop, topic, &body).await == Some(200) {
                        return;
                    }
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
            });
        }
    }

    fn edit<T>(&self, shop: &ShopName, edit: impl FnOnce(&mut Shop) -> T) -> Option<T> {
        self.change(|state| state.shops.get_mut(shop).map(edit))
    }

    /// Changes a field of the shop, and sends `shop/update`.
    pub fn edit_shop(&self, shop: &ShopName, field: &str, value: impl Into<Value>) {
        let payload = self.edit(shop, |it| {
            it.data[field] = value.into();
            it.data["updatedAt"] = WallTime::now().rfc3339().into();
            json!({"id": it.id, "myshopify_domain": shop, "updated_at": it.data["updatedAt"]})
        });
        if let Some(payload) = payload {
            self.tell(shop, ShopTopic::ShopUpdate, payload);
        }
    }

    /// The merchant uninstalls the app: every token is dead, and `app/uninstalled` is sent.
    pub fn uninstall(&self, shop: &ShopName) {
        let payload = self.edit(shop, |it| {
            it.app = Installation::default();
            json!({"id": it.id, "myshopify_domain": shop, "domain": shop, "name": it.data["name"]})
        });
        if let Some(payload) = payload {
            self.tell(shop, ShopTopic::Uninstalled, payload);
        }
    }

    /// 48 hours after an uninstall.
    pub fn redact(&self, shop: &ShopName) {
        if let Some(id) = self.look(|state| state.shops.get(shop).map(|it| it.id)) {
            self.tell(shop, ShopTopic::ShopRedact, json!({"shop_id": id, "shop_domain": shop}));
        }
    }
}
