//! The state of the local Shopify.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::catalogue::Catalogue;
use super::catalogue::json::Place;
pub use super::fault::ShopFault;
use super::selection::Selection;
use crate::core::model::{ShopName, WallTime};

/// A bulk operation that lists all products.
#[derive(Debug, Clone)]
pub struct Bulk {
    /// Its number.
    pub id: u64,
    /// When it was started.
    pub started_at: WallTime,
    /// The products as they were then.
    pub(super) snapshot: Arc<Catalogue>,
    /// The fields that its query asks for.
    pub(super) wanted: Selection,
    /// Lines in its file.
    pub(super) lines: u64,
    /// Without this text nobody gets its file.
    pub(super) signature: String,
}

/// A pair of tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pair {
    /// The access token.
    pub access: String,
    /// The refresh token.
    pub refresh: String,
    /// When the access token ends.
    pub expires_at: WallTime,
    /// How long it lives, as the answer says that brings it.
    pub life: Duration,
}

/// The app on one shop.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Installation {
    /// Is it installed?
    pub installed: bool,
    /// Codes that can be exchanged.
    pub codes: BTreeSet<String>,
    /// The newest pair.
    pub pair: Option<Pair>,
    /// Access tokens that are good, and when each ends.
    pub access: BTreeMap<String, WallTime>,
    /// The refresh token that was used last, and the pair that it brought, until that is used.
    pub retry: Option<(String, Pair)>,
    /// Access scopes that were granted.
    pub scopes: BTreeSet<String>,
    /// How often tokens were refreshed with success.
    pub refreshes: u64,
    /// Subscriptions made by API: topic and address.
    pub subscriptions: BTreeMap<String, String>,
}

/// A shop.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Shop {
    /// Its numeric id.
    pub id: u64,
    /// The app on it.
    pub app: Installation,
    /// The fields of `shop`, without policies.
    pub data: Value,
    /// Its policies.
    pub policies: Vec<Value>,
    /// The pages of its online store.
    pub pages: Vec<Value>,
    /// Points in its bucket, and when that was so.
    pub points: (f64, WallTime),
    /// Its products and collections.
    pub catalogue: Catalogue,
    /// Bulk operations, the oldest first.
    #[serde(skip)]
    pub bulks: Vec<Bulk>,
    /// Queries by operation.
    #[serde(skip)]
    pub queries: BTreeMap<String, u64>,
    /// Ways in which Shopify fails for this shop at the moment.
    #[serde(skip)]
    pub faults: BTreeSet<ShopFault>,
}

/// All of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ShopifyState {
    /// The app's client id.
    pub client_id: String,
    /// Its client secret.
    pub client_secret: String,
    /// The version that answers.
    pub version: String,
    /// Redirect addresses that the app allows.
    pub redirect_uris: BTreeSet<String>,
    /// Where webhooks of the app's configuration go.
    pub webhook_url: Option<String>,
    /// How long access tokens live.
    pub token_life: Duration,
    /// How long a bulk operation takes.
    pub bulk_time: Duration,
    /// Points that come back into the bucket of a shop in a second.
    pub restore: f64,
    /// The shops.
    pub shops: BTreeMap<ShopName, Shop>,
    /// Ways in which it fails for all shops at the moment.
    #[serde(skip)]
    pub faults: BTreeSet<ShopFault>,
    /// Requests for a file that brought a token, which belongs to no file.
    #[serde(skip)]
    pub tokens_at_files: u64,
    /// Secrets and tokens grow from it.
    seed: u64,
    minted: u64,
}

/// The products of a new shop.
const FIRST_PRODUCTS: u64 = 8;
/// Ids of shops are their numbers and this.
const FIRST_SHOP: u64 = 950_000_000;
/// The points of a full bucket.
pub(super) const FULL: f64 = 2000.0;
/// Points that come back in a second.
const RESTORE: f64 = 100.0;

impl Shop {
    /// Replaces all products and collections: so many generated products, each with so many variants (0: one to three).
    pub fn set_catalogue(&mut self, products: u64, variants: u64) {
        self.catalogue = Catalogue::new(self.id - FIRST_SHOP, products, variants);
    }

    /// What its products have from it.
    pub(super) fn place(&self) -> Place {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Place { host: text(&self.data["myshopifyDomain"]), currency: text(&self.data["currencyCode"]) }
    }
}

impl ShopifyState {
    pub(super) fn build(seed: u64, shops: usize) -> ShopifyState {
        let mut state = ShopifyState {
            client_id: hex::encode(&Sha256::digest(format!("client {seed}"))[..16]),
            client_secret: format!("shpss_{}", hex::encode(&Sha256::digest(format!("secret {seed}"))[..16])),
            version: "2026-10".to_owned(),
            redirect_uris: BTreeSet::new(),
            webhook_url: None,
            token_life: Duration::from_secs(3600),
            bulk_time: Duration::from_millis(300),
            restore: RESTORE,
            shops: BTreeMap::new(),
            faults: BTreeSet::new(),
            tokens_at_files: 0,
            seed,
            minted: 0,
        };
        for n in 1..=shops {
            let name = format!("sandbox-{n}.myshopify.com");
            if let Ok(name) = name.parse::<ShopName>() {
                let shop = build_shop(&name, n as u64);
                state.shops.insert(name, shop);
            }
        }
        state
    }

    /// Does the fault strike this shop?
    pub fn strikes(&self, shop: &ShopName, fault: ShopFault) -> bool {
        self.faults.contains(&fault) || self.shops.get(shop).is_some_and(|shop| shop.faults.contains(&fault))
    }

    /// A text that nobody guesses, the same for the same world and the same number of texts before it.
    pub(super) fn mint(&mut self, prefix: &str) -> String {
        self.minted += 1;
        format!("{prefix}{}", hex::encode(&Sha256::digest(format!("{} {} {prefix}", self.seed, self.minted))[..16]))
    }

    /// A new pair for a shop, which begins now.
    pub(super) fn mint_pair(&mut self) -> Pair {
        let expires_at = WallTime::now().plus(self.token_life);
        Pair { access: self.mint("shpat_"), refresh: self.mint("shprt_"), expires_at, life: self.token_life }
    }
}

fn moment() -> String {
    WallTime::now().rfc3339()
}

fn build_shop(name: &ShopName, n: u64) -> Shop {
    let id = FIRST_SHOP + n;
    let data = json!({
        "id": format!("gid://shopify/Shop/{id}"),
        "name": format!("Sandbox Shop {n}"),
        "description": "Things that nobody needs",
        "email": "owner@example.com",
        "contactEmail": "hello@example.com",
        "myshopifyDomain": name.as_str(),
        "url": format!("https://{name}"),
        "primaryDomain": {"host": name.as_str(), "url": format!("https://{name}"), "sslEnabled": true},
        "currencyCode": "EUR",
        "enabledPresentmentCurrencies": ["EUR", "USD"],
        "ianaTimezone": "Europe/Berlin",
        "unitSystem": "METRIC_SYSTEM",
        "weightUnit": "KILOGRAMS",
        "taxesIncluded": true,
        "taxShipping": false,
        "shipsToCountries": ["DE", "AT"],
        "updatedAt": moment(),
        "setupRequired": false,
        "plan": {"publicDisplayName": "Basic", "shopifyPlus": false, "partnerDevelopment": true},
        "shopAddress": {"address1": "Hauptstr. 1", "city": "Berlin", "zip": "10115", "countryCodeV2": "DE"},
        "currencyFormats": {"moneyFormat": "€{{amount_with_comma_separator}}"},
    });
    let policies = ["REFUND_POLICY", "SHIPPING_POLICY", "PRIVACY_POLICY"].iter().enumerate().map(|(at, kind)| {
        let kind_id = id * 10 + at as u64;
        json!({"id": format!("gid://shopify/ShopPolicy/{kind_id}"), "type": kind, "title": kind,
            "body": format!("<p>The {kind} of shop {n}.</p>"), "url": format!("https://{name}/policies/{kind_id}"),
            "updatedAt": moment()})
    });
    let pages = (1..=2).map(|page| {
        json!({"id": format!("gid://shopify/Page/{}", id * 10 + page), "title": format!("Page {page}"),
            "handle": format!("page-{page}"), "body": format!("<p>Page {page} of shop {n}.</p>"),
            "isPublished": true, "updatedAt": moment()})
    });
    Shop {
        id,
        app: Installation::default(),
        data,
        policies: policies.collect(),
        pages: pages.collect(),
        points: (FULL, WallTime::now()),
        catalogue: Catalogue::new(n, FIRST_PRODUCTS, 0),
        bulks: Vec::new(),
        queries: BTreeMap::new(),
        faults: BTreeSet::new(),
    }
}
