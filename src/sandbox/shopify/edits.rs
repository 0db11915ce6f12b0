//! The edits and events of a shop, and the webhooks that Shopify sends of them.

use serde_json::{Value, json};

use super::catalogue::{Collection, Members, Product, Variant, payload};
use super::handle::Shopify;
use super::state::{Installation, Shop};
use super::webhook::ShopTopic;
use crate::core::model::{ShopName, WallTime};
use crate::sandbox::activity::ActivityKind;

impl Shopify {
    fn edit<T>(&self, shop: &ShopName, edit: impl FnOnce(&mut Shop) -> T) -> Option<T> {
        self.change(|state| state.shops.get_mut(shop).map(edit))
    }

    fn happened(&self, shop: &ShopName, text: String, topic: ShopTopic, body: Value) {
        self.note(ActivityKind::Edit, true, format!("{shop}: {text}"));
        self.deliver(shop, topic, body);
    }

    /// Changes a field of the shop, and sends `shop/update`.
    pub fn edit_shop(&self, shop: &ShopName, field: &str, value: impl Into<Value>) {
        let payload = self.edit(shop, |it| {
            it.data[field] = value.into();
            it.data["updatedAt"] = WallTime::now().rfc3339().into();
            json!({"id": it.id, "myshopify_domain": shop, "updated_at": it.data["updatedAt"]})
        });
        if let Some(payload) = payload {
            self.happened(shop, format!("{field} was changed"), ShopTopic::ShopUpdate, payload);
        }
    }

    /// The merchant uninstalls the app: every token is dead, and `app/uninstalled` is sent.
    pub fn uninstall(&self, shop: &ShopName) {
        let payload = self.edit(shop, |it| {
            it.app = Installation::default();
            json!({"id": it.id, "myshopify_domain": shop, "domain": shop, "name": it.data["name"]})
        });
        if let Some(payload) = payload {
            self.happened(shop, "the app was uninstalled".to_owned(), ShopTopic::Uninstalled, payload);
        }
    }

    /// 48 hours after an uninstall.
    pub fn redact(&self, shop: &ShopName) {
        if let Some(id) = self.look(|state| state.shops.get(shop).map(|it| it.id)) {
            self.deliver(shop, ShopTopic::ShopRedact, json!({"shop_id": id, "shop_domain": shop}));
        }
    }

    /// Replaces all products and collections of a shop: so many generated products, each with so many variants (0: one
    /// to three). No webhook comes of it.
    pub fn set_catalogue(&self, shop: &ShopName, products: u64, variants: u64) {
        self.edit(shop, |it| it.set_catalogue(products, variants));
    }

    /// The numbers of the products of a shop, ascending.
    pub fn products(&self, shop: &ShopName) -> Vec<u64> {
        self.look(|state| state.shops.get(shop).map(|it| it.catalogue.ids().collect())).unwrap_or_default()
    }

    /// A product of a shop.
    pub fn product(&self, shop: &ShopName, product: u64) -> Option<Product> {
        self.look(|state| state.shops.get(shop)?.catalogue.get(product))
    }

    /// The numbers of the collections of a shop, ascending.
    pub fn collections(&self, shop: &ShopName) -> Vec<u64> {
        let ids = |it: &Shop| it.catalogue.collections().keys().copied().collect();
        self.look(|state| state.shops.get(shop).map(ids)).unwrap_or_default()
    }

    /// How many times an operation was sent for a shop, whatever the answer.
    pub fn calls(&self, shop: &ShopName, operation: &str) -> u64 {
        self.look(|state| state.shops.get(shop)?.queries.get(operation).copied()).unwrap_or(0)
    }

    /// Adds a product, and sends `products/create`. Returns its number; `None` without such a shop.
    pub fn create_product(&self, shop: &ShopName, title: &str) -> Option<u64> {
        let created = |it: &mut Shop| {
            let id = it.catalogue.create(title);
            it.catalogue.get(id)
        };
        let product = self.edit(shop, created)??;
        self.happened(shop, format!("{title} was added"), ShopTopic::ProductsCreate, payload::product(&product));
        Some(product.id)
    }

    /// Edits a product, and sends `products/update`. False where there is none.
    pub fn edit_product(&self, shop: &ShopName, product: u64, edit: impl FnOnce(&mut Product)) -> bool {
        let edited = self.edit(shop, |it| it.catalogue.edit(product, edit)).flatten();
        self.updated(shop, "was edited", edited)
    }

    /// Sets the stock of every variant, which changes nothing else but times, and sends `products/update`. False where
    /// there is no such product.
    pub fn set_stock(&self, shop: &ShopName, product: u64, count: i64) -> bool {
        let edited = self.edit(shop, |it| it.catalogue.stock(product, |_| count)).flatten();
        self.updated(shop, &format!("has {count} in stock"), edited)
    }

    /// An order takes so many of the first variant, which changes nothing else but times, and sends `products/update`.
    /// False where there is no such product.
    pub fn sell(&self, shop: &ShopName, product: u64, count: i64) -> bool {
        let left = |variant: &Variant| if variant.position == 1 { variant.stock - count } else { variant.stock };
        let edited = self.edit(shop, |it| it.catalogue.stock(product, left)).flatten();
        self.updated(shop, "was ordered", edited)
    }

    fn updated(&self, shop: &ShopName, what: &str, product: Option<Product>) -> bool {
        let Some(product) = product else { return false };
        let text = format!("{} {what}", product.title);
        self.happened(shop, text, ShopTopic::ProductsUpdate, payload::product(&product));
        true
    }

    /// Deletes a product, and sends `products/delete`. False where there is none.
    pub fn delete_product(&self, shop: &ShopName, product: u64) -> bool {
        let Some(title) = self.product(shop, product).map(|product| product.title) else { return false };
        self.edit(shop, |it| it.catalogue.delete(product));
        self.happened(
            shop,
            format!("{title} was deleted"),
            ShopTopic::ProductsDelete,
            payload::deleted_product(product),
        );
        true
    }

    /// Adds a collection of these products, and sends `collections/create`. Returns its number; `None` without such a
    /// shop.
    pub fn create_collection(&self, shop: &ShopName, title: &str, products: &[u64]) -> Option<u64> {
        let members = Members::Listed(products.iter().copied().collect());
        let created = |it: &mut Shop| {
            let id = it.catalogue.create_collection(title, members);
            it.catalogue.collections().get(&id).cloned()
        };
        let collection = self.edit(shop, created)??;
        let body = payload::collection(&collection);
        self.happened(shop, format!("collection {title} was added"), ShopTopic::CollectionsCreate, body);
        Some(collection.id)
    }

    /// Edits a collection, its members too, and sends `collections/update`. False where there is none.
    pub fn edit_collection(&self, shop: &ShopName, collection: u64, edit: impl FnOnce(&mut Collection)) -> bool {
        let edited = self.edit(shop, |it| it.catalogue.edit_collection(collection, edit)).flatten();
        let Some(edited) = edited else { return false };
        let text = format!("collection {} was edited", edited.title);
        self.happened(shop, text, ShopTopic::CollectionsUpdate, payload::collection(&edited));
        true
    }

    /// Deletes a collection, and sends `collections/delete`. False where there is none.
    pub fn delete_collection(&self, shop: &ShopName, collection: u64) -> bool {
        let is_deleted = self.edit(shop, |it| it.catalogue.delete_collection(collection)).unwrap_or(false);
        if is_deleted {
            let body = payload::deleted_collection(collection);
            self.happened(shop, "a collection was deleted".to_owned(), ShopTopic::CollectionsDelete, body);
        }
        is_deleted
    }
}
