//! The products and collections of one shop.
//!
//! A catalogue may have tens of thousands of products. So most are not held: each is generated from its number when it
//! is asked for. A product that was edited or created is held as it is.

mod generated;
pub(super) mod json;
mod model;
pub(super) mod payload;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use self::generated::Shape;
use self::model::handle_of;
pub use self::model::{Collection, Media, Members, Product, Variant};
pub(in crate::sandbox) use self::model::{hundredths, money};
use crate::core::model::WallTime;

/// Shopify writes moments to the second, so a change moves the time of a product by one at least.
const SECOND: Duration = Duration::from_secs(1);

/// The products and collections of one shop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Catalogue {
    shape: Shape,
    /// Products that were edited or created.
    held: BTreeMap<u64, Product>,
    /// Generated products that were deleted.
    deleted: BTreeSet<u64>,
    collections: BTreeMap<u64, Collection>,
    /// Products that were created, deleted ones among them.
    created: u64,
}

/// A moment in whole seconds, later than the one before it.
fn moved(before: WallTime) -> WallTime {
    whole(WallTime::now()).max(before.plus(SECOND))
}

fn whole(moment: WallTime) -> WallTime {
    WallTime(moment.0 / 1000 * 1000)
}

impl Catalogue {
    /// A catalogue of the shop with this number: so many generated products, each with so many variants (0: one to
    /// three), a collection by hand and some by rule.
    pub fn new(shop: u64, products: u64, variants: u64) -> Catalogue {
        let shape = Shape::new(shop, products, variants, whole(WallTime::now()));
        let collections = shape.collections().map(|collection| (collection.id, collection)).collect();
        Catalogue { shape, held: BTreeMap::new(), deleted: BTreeSet::new(), collections, created: 0 }
    }

    /// The numbers of all products, ascending.
    pub fn ids(&self) -> impl Iterator<Item = u64> + '_ {
        let generated = self.shape.ids().filter(|id| !self.deleted.contains(id));
        generated.chain(self.held.keys().copied().filter(|id| !self.shape.has(*id)))
    }

    /// How many products there are.
    pub fn count(&self) -> usize {
        let created = self.held.keys().filter(|id| !self.shape.has(**id)).count();
        self.shape.ids().count() - self.deleted.len() + created
    }

    /// Is there such a product?
    pub fn has(&self, id: u64) -> bool {
        self.held.contains_key(&id) || (self.shape.has(id) && !self.deleted.contains(&id))
    }

    /// One product.
    pub fn get(&self, id: u64) -> Option<Product> {
        let held = self.held.get(&id).cloned();
        held.or_else(|| self.has(id).then(|| self.shape.product(id)))
    }

    /// All products that changed at this moment or later, the longest unchanged first.
    pub fn changed_since(&self, since: Option<WallTime>) -> Vec<(WallTime, u64)> {
        let at = |id: u64| self.held.get(&id).map_or_else(|| self.shape.updated_at(id), |product| product.updated_at);
        let mut all: Vec<(WallTime, u64)> = self.ids().map(|id| (at(id), id)).collect();
        all.retain(|(at, _)| since.is_none_or(|since| *at >= since));
        all.sort_unstable();
        all
    }

    /// How many variants and images a product has.
    pub fn parts(&self, id: u64) -> (usize, usize) {
        let held = self.held.get(&id).map(|product| (product.variants.len(), product.media.len()));
        held.unwrap_or_else(|| self.shape.parts(id))
    }

    /// Adds a product with one variant. Returns its number.
    pub fn create(&mut self, title: &str) -> u64 {
        self.created += 1;
        let product = self.shape.created(self.created, title, whole(WallTime::now()));
        let id = product.id;
        self.held.insert(id, product);
        id
    }

    /// Edits a product; its time moves. Returns it as it is then.
    pub fn edit(&mut self, id: u64, edit: impl FnOnce(&mut Product)) -> Option<Product> {
        let mut product = self.get(id)?;
        let updated_at = moved(product.updated_at);
        edit(&mut product);
        (product.id, product.updated_at) = (id, updated_at);
        self.held.insert(id, product.clone());
        Some(product)
    }

    /// Sets the stock of each variant, by its position from 1; its time and that of the product move where that is
    /// another count.
    pub fn stock(&mut self, id: u64, count: impl Fn(&Variant) -> i64) -> Option<Product> {
        self.edit(id, |product| {
            for variant in &mut product.variants {
                let now = count(variant);
                if now != variant.stock {
                    (variant.stock, variant.updated_at) = (now, moved(variant.updated_at));
                }
            }
        })
    }

    /// Deletes a product, also from collections.
    pub fn delete(&mut self, id: u64) -> bool {
        let is_there = self.has(id);
        self.held.remove(&id);
        if is_there && self.shape.has(id) {
            self.deleted.insert(id);
        }
        for collection in self.collections.values_mut() {
            if let Members::Listed(listed) = &mut collection.members {
                listed.remove(&id);
            }
        }
        is_there
    }

    /// All collections, by their numbers.
    pub fn collections(&self) -> &BTreeMap<u64, Collection> {
        &self.collections
    }

    /// The collections that a product is in.
    pub fn collections_of(&self, id: u64) -> impl Iterator<Item = &Collection> + '_ {
        self.collections.values().filter(move |collection| collection.members.have(id))
    }

    /// The products of a collection, ascending.
    pub fn members<'a>(&'a self, collection: &'a Collection) -> Box<dyn Iterator<Item = u64> + 'a> {
        match &collection.members {
            Members::Listed(listed) => Box::new(listed.iter().copied().filter(|id| self.has(*id))),
            rule => Box::new(self.ids().filter(move |id| rule.have(*id))),
        }
    }

    /// Adds a collection. Returns its number.
    pub fn create_collection(&mut self, title: &str, members: Members) -> u64 {
        let id = self.collections.keys().last().map_or_else(|| self.shape.first_collection(), |last| last + 1);
        let (updated_at, handle) = (whole(WallTime::now()), format!("{}-{id}", handle_of(title)));
        let (title, description) = (title.to_owned(), format!("All that is {title}"));
        self.collections.insert(id, Collection { id, title, handle, description, members, updated_at });
        id
    }

    /// Edits a collection; its time moves. Returns it as it is then.
    pub fn edit_collection(&mut self, id: u64, edit: impl FnOnce(&mut Collection)) -> Option<Collection> {
        let collection = self.collections.get_mut(&id)?;
        let updated_at = moved(collection.updated_at);
        edit(collection);
        (collection.id, collection.updated_at) = (id, updated_at);
        Some(collection.clone())
    }

    /// Deletes a collection; its products stay.
    pub fn delete_collection(&mut self, id: u64) -> bool {
        self.collections.remove(&id).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_catalogue_is_generated_and_only_what_changed_is_held() {
        let mut catalogue = Catalogue::new(1, 50_000, 4);
        assert_eq!(catalogue.count(), 50_000);
        assert_eq!(catalogue.ids().map(|id| catalogue.parts(id).0).sum::<usize>(), 200_000);
        let ids: Vec<u64> = catalogue.ids().collect();
        assert!(ids.is_sorted());
        let some = catalogue.get(ids[40_000]).unwrap();
        assert_eq!(catalogue.get(ids[40_000]), Some(some.clone()));
        let counts = (some.variants.len(), some.media.len());
        assert_eq!((catalogue.parts(some.id), some.updated_at), (counts, catalogue.changed_since(None)[40_000].0));
        catalogue.edit(some.id, |product| product.title = "Other".into()).unwrap();
        let created = catalogue.create("Brand new");
        assert!(catalogue.delete(ids[0]) && !catalogue.delete(ids[0]));
        assert_eq!((catalogue.held.len(), catalogue.count(), catalogue.ids().last()), (2, 50_000, Some(created)));
        let variants: BTreeSet<u64> =
            catalogue.ids().take(100).flat_map(|id| catalogue.get(id).unwrap().variants).map(|one| one.id).collect();
        assert_eq!(variants.len(), 400);
    }

    #[test]
    fn every_change_moves_the_time_and_shows() {
        let mut catalogue = Catalogue::new(1, 8, 0);
        let id = catalogue.ids().next().unwrap();
        let mut last = catalogue.get(id).unwrap().updated_at;
        for stock in 100..103 {
            let product = catalogue.stock(id, |_| stock).unwrap();
            assert!(product.updated_at > last && product.variants[0].stock == stock);
            assert!(catalogue.changed_since(Some(product.updated_at)).contains(&(product.updated_at, id)));
            last = product.updated_at;
        }
        assert_eq!(catalogue.changed_since(None).len(), 8);
        let collection = *catalogue.collections().keys().next().unwrap();
        let before = catalogue.collections()[&collection].updated_at;
        assert!(catalogue.edit_collection(collection, |one| one.title = "x".into()).unwrap().updated_at > before);
    }

    #[test]
    fn members_are_products_that_there_are() {
        let mut catalogue = Catalogue::new(1, 8, 0);
        let ids: Vec<u64> = catalogue.ids().collect();
        let by_hand = catalogue.create_collection("Mine", Members::Listed(ids[2..5].iter().copied().collect()));
        catalogue.delete(ids[3]);
        let members =
            |catalogue: &Catalogue| -> Vec<u64> { catalogue.members(&catalogue.collections()[&by_hand]).collect() };
        assert_eq!(members(&catalogue), [ids[2], ids[4]]);
        assert!(catalogue.collections_of(ids[2]).any(|one| one.id == by_hand));
        let by_rule = catalogue.create_collection("Rule", Members::Every { step: 1, rest: 0 });
        assert_eq!(catalogue.members(&catalogue.collections()[&by_rule]).count(), 7);
        assert!(catalogue.delete_collection(by_hand) && catalogue.count() == 7);
    }
}
