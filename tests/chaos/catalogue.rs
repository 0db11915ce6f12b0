//! Products that come and go while the fire burns, and what the bucket must have of a shop's catalogue.
//!
//! An acknowledged creation promises an object for as long as the product is there, an acknowledged deletion promises
//! that there is none. Who was not acknowledged is announced again, like an edit.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard};

use pagesyncd::core::model::{ShopName, UserId};
use pagesyncd::sandbox::shopify::Shopify;
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use serde_json::{Value, json};

use crate::fixture::{Fixture, Link};
use crate::things::{Delivery, Thing, signed};

/// Of these a shop has no more at a time.
const MOST: usize = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    Came,
    Went,
}

#[derive(Debug, Clone)]
struct Passing {
    shop: ShopName,
    product: u64,
    latest: Event,
    acknowledged: bool,
}

/// The products that come and go.
pub struct Shelf {
    shopify: Shopify,
    shops: Vec<ShopName>,
    all: Mutex<Vec<Passing>>,
}

impl Shelf {
    pub fn of(fixture: &Fixture) -> Shelf {
        Shelf { shopify: fixture.shopify().clone(), shops: fixture.shops.clone(), all: Mutex::default() }
    }

    fn all(&self) -> MutexGuard<'_, Vec<Passing>> {
        self.all.lock().unwrap()
    }

    /// A product comes or goes; its place. `None` without a shop.
    pub fn turn(&self, dice: &mut StdRng) -> Option<usize> {
        let shop = self.shops.choose(dice)?;
        let mut all = self.all();
        let is_there = |passing: &&Passing| passing.shop == *shop && passing.latest == Event::Came;
        let there = all.iter().filter(is_there).count();
        if there == MOST || (there > 0 && dice.random_bool(0.5)) {
            let place = all.iter().position(|passing| is_there(&passing))?;
            assert!(self.shopify.delete_product(shop, all[place].product));
            all[place] = Passing { latest: Event::Went, acknowledged: false, ..all[place].clone() };
            return Some(place);
        }
        let product = self.shopify.create_product(shop, &format!("Number {}", all.len()))?;
        all.push(Passing { shop: shop.clone(), product, latest: Event::Came, acknowledged: false });
        Some(all.len() - 1)
    }

    /// The delivery that announces what happened last, and what it is an announcement of.
    pub fn delivery(&self, place: usize) -> (Delivery, impl Fn(&Shelf) + use<>) {
        let Passing { shop, product, latest, .. } = self.all()[place].clone();
        let topic = if latest == Event::Came { "products/create" } else { "products/delete" };
        let taken = move |shelf: &Shelf| {
            let passing = &mut shelf.all()[place];
            passing.acknowledged |= passing.latest == latest;
        };
        (signed(&self.shopify, &shop, topic, &json!({"id": product}), Vec::new()), taken)
    }

    /// The places of those whose latest event nobody acknowledged.
    pub fn unacknowledged(&self) -> Vec<usize> {
        self.all().iter().enumerate().filter(|(_, passing)| !passing.acknowledged).map(|(place, _)| place).collect()
    }

    /// What was acknowledged and is not so in the bucket.
    pub fn missing(&self, fixture: &Fixture) -> Vec<String> {
        let mut missing = Vec::new();
        for passing in self.all().iter().filter(|passing| passing.acknowledged) {
            for user in fixture.users_of(&passing.shop) {
                let thing = Thing::Product(passing.shop.clone(), passing.product);
                let is_there = fixture.server.objects.get(&thing.object_key(user)).is_some();
                if is_there != (passing.latest == Event::Came) {
                    missing.push(format!("{thing:?} of {user}: {:?}, object there: {is_there}", passing.latest));
                }
            }
        }
        missing
    }
}

/// What is wrong in the bucket with the catalogue of a shop's link.
pub fn wrongs(fixture: &Fixture, link: &Link) -> Vec<String> {
    let Thing::Shop(shop) = &link.thing else { return Vec::new() };
    let (user, mut wrongs) = (link.user, Vec::new());
    let products: BTreeSet<u64> = fixture.shopify().products(shop).into_iter().collect();
    let shows = |id: &u64| {
        let thing = Thing::Product(shop.clone(), *id);
        let object = fixture.object(&Link { user, thing: thing.clone() });
        object.is_some_and(|object| thing.is_true(&fixture.sources(), &object))
    };
    wrongs.extend(products.iter().filter(|id| !shows(id)).map(|id| format!("product {id} of {shop} of {user}")));
    let listed = index(fixture, user, shop);
    let title = |id: &u64| fixture.shopify().product(shop, *id).map(|product| product.title).unwrap_or_default();
    if !listed.iter().map(|(id, title)| (*id, title.clone())).eq(products.iter().map(|id| (*id, title(id)))) {
        wrongs.push(format!("the index of {shop} of {user}: {listed:?}"));
    }
    let left = stored(fixture, user, shop).into_iter().filter(|id| !products.contains(id));
    wrongs.extend(left.map(|id| format!("the object of product {id} of {shop} of {user}, which is gone")));
    wrongs
}

/// The entries of the index.
fn index(fixture: &Fixture, user: UserId, shop: &ShopName) -> Vec<(u64, String)> {
    let bytes = fixture.server.objects.get(&format!("users/{user}/shopify/{shop}/products/index.json"));
    let index: Value = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
    let entry = |entry: &Value| Some((entry["id"].as_u64()?, entry["title"].as_str()?.to_owned()));
    index["data"].as_array().into_iter().flatten().filter_map(entry).collect()
}

/// The numbers of the products that have objects.
fn stored(fixture: &Fixture, user: UserId, shop: &ShopName) -> Vec<u64> {
    let folder = format!("users/{user}/shopify/{shop}/products/");
    let id = |key: &String| key.strip_prefix(&folder)?.strip_suffix(".json")?.parse().ok();
    fixture.server.objects.list().iter().filter_map(id).collect()
}
