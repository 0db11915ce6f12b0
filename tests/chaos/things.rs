//! The kinds of things whose changes are announced: how each one is changed and announced, and what its object shows.
//!
//! A new kind is one more variant of [`Thing`], one more arm in each of its functions, and one line where the fixture makes
//! its links. All else (who announces, what was promised, what must be in the bucket) knows things alone.

use pagesyncd::core::model::{ShopName, UserId};
use pagesyncd::sandbox::World;
use pagesyncd::sandbox::shopify::Shopify;
use serde_json::{Value, json};

/// Something that has an object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Thing {
    Page(String),
    Shop(ShopName),
    /// A product that stays; those that come and go are on the [`Shelf`](crate::catalogue::Shelf).
    Product(ShopName, u64),
}

/// Where things live.
#[derive(Clone)]
pub struct Sources {
    pub world: World,
    pub shopify: Shopify,
}

/// A signed delivery.
pub struct Delivery {
    pub path: &'static str,
    pub headers: Vec<(&'static str, String)>,
    pub body: String,
    /// The places of the things that it names.
    pub names: Vec<usize>,
}

impl Thing {
    /// Changes it: from now on its object is to show this number. No delivery comes of it.
    pub fn edit(&self, sources: &Sources, number: u64) {
        let text = format!("Edit {number}");
        match self {
            Thing::Page(page) => drop(sources.world.edit_page(page, "description", text.into()).unwrap()),
            Thing::Shop(shop) => sources.shopify.edit_shop(shop, "description", text),
            Thing::Product(shop, id) => {
                assert!(sources.shopify.edit_product(shop, *id, |product| product.title = text));
            }
        }
    }

    /// Is it a link by itself, and no part of one?
    pub fn is_link(&self) -> bool {
        !matches!(self, Thing::Product(..))
    }

    /// The key of its object for a user.
    pub fn object_key(&self, user: UserId) -> String {
        match self {
            Thing::Page(page) => format!("users/{user}/facebook/{page}/page_data.json"),
            Thing::Shop(shop) => format!("users/{user}/shopify/{shop}/shop_data.json"),
            Thing::Product(shop, id) => format!("users/{user}/shopify/{shop}/products/{id}.json"),
        }
    }

    /// The number of the edit that its object shows.
    pub fn shown(&self, object: &Value) -> Option<u64> {
        let data = &object["data"];
        let text = match self {
            Thing::Page(_) => &data[0]["description"],
            Thing::Shop(_) => &data["shop"]["description"],
            Thing::Product(..) => &data["title"],
        };
        Some(text.as_str()?.strip_prefix("Edit ").map_or(0, |number| number.parse().unwrap()))
    }

    /// Does its object say what it is at this moment?
    pub fn is_true(&self, sources: &Sources, object: &Value) -> bool {
        match self {
            Thing::Page(page) => {
                let node = sources.world.look(|s| Value::Object(s.pages[page].node.clone()));
                // What the daemon does not ask for, and what differs each time.
                let left_out = ["picture", "is_verified", "has_transitioned_to_new_page_experience"];
                without(&object["data"][0], &left_out) == without(&node, &left_out)
            }
            Thing::Shop(shop) => {
                let (data, policies, pages) = sources.shopify.look(|state| {
                    let shop = &state.shops[shop];
                    (shop.data.clone(), json!(shop.policies), json!(shop.pages))
                });
                // The owner's address stays out, and the time alone is no change.
                let left_out = ["email", "updatedAt"];
                without(&object["data"]["shop"], &left_out) == without(&data, &left_out)
                    && (&object["data"]["policies"], &object["data"]["pages"]) == (&policies, &pages)
            }
            Thing::Product(shop, id) => sources.shopify.product(shop, *id).is_some_and(|product| {
                let variants = object["data"]["variants"].as_array().map(Vec::len);
                object["data"]["title"] == product.title.as_str() && variants == Some(product.variants.len())
            }),
        }
    }

    /// The topic and the body of Shopify's delivery; `None` for a thing of Facebook.
    fn topic(&self, sources: &Sources) -> Option<(&ShopName, &'static str, Value)> {
        match self {
            Thing::Page(_) => None,
            Thing::Shop(shop) => {
                let id = sources.shopify.look(|state| state.shops[shop].id);
                Some((shop, "shop/update", json!({"id": id, "myshopify_domain": shop})))
            }
            Thing::Product(shop, id) => Some((shop, "products/update", json!({"id": id}))),
        }
    }
}

fn without(value: &Value, left_out: &[&str]) -> Value {
    let mut value = value.clone();
    if let Some(object) = value.as_object_mut() {
        left_out.iter().for_each(|field| drop(object.remove(*field)));
    }
    value
}

/// Shopify's delivery.
pub fn signed(shopify: &Shopify, shop: &ShopName, topic: &str, body: &Value, names: Vec<usize>) -> Delivery {
    let body = body.to_string();
    let headers = vec![
        ("x-shopify-topic", topic.to_owned()),
        ("x-shopify-shop-domain", shop.to_string()),
        ("x-shopify-hmac-sha256", shopify.sign(body.as_bytes())),
    ];
    Delivery { path: "/shopify/webhook", headers, body, names }
}

/// The deliveries that announce these things: pages together, as Facebook does, and each thing of a shop by itself.
pub fn deliveries(sources: &Sources, things: &[Thing]) -> Vec<Delivery> {
    let mut deliveries = Vec::new();
    let (mut entries, mut names) = (Vec::new(), Vec::new());
    for (place, thing) in things.iter().enumerate() {
        if let Thing::Page(page) = thing {
            entries.push(json!({"id": page, "time": 1_763_769_600, "changed_fields": ["description"]}));
            names.push(place);
        }
        if let Some((shop, topic, body)) = thing.topic(sources) {
            deliveries.push(signed(&sources.shopify, shop, topic, &body, vec![place]));
        }
    }
    if !entries.is_empty() {
        let body = json!({"object": "page", "entry": entries}).to_string();
        let headers = vec![("x-hub-signature-256", sources.world.sign(body.as_bytes()))];
        deliveries.push(Delivery { path: "/facebook/webhook", headers, body, names });
    }
    deliveries
}
