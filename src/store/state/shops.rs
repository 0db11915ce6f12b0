//! The shops in memory: the token pair of each. A pair belongs to its shop and not to a link, because Shopify keeps one
//! pair for each app and shop, however many users link it.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use crate::core::model::ShopName;
use crate::store::records::ShopRecord;
use crate::store::state::seals::Seals;
use crate::store::tree::Tree;
use crate::store::txn::Txn;

/// The shops.
#[derive(Default)]
pub(in crate::store) struct Shops {
    records: BTreeMap<ShopName, Arc<ShopRecord>>,
    seals: Seals,
}

impl Shops {
    pub(in crate::store) fn get(&self, shop: &ShopName) -> Option<&Arc<ShopRecord>> {
        self.records.get(shop)
    }

    /// Writes a shop's record, new or changed.
    pub(in crate::store) fn put(&mut self, txn: &mut Txn, shop: &ShopName, record: ShopRecord) {
        txn.put(Tree::Shops, shop.as_str().as_bytes().to_vec(), &record);
        // The pair before it needs no erasure: its halves die within the hour.
        self.insert(shop.clone(), Arc::new(record));
    }

    /// Forgets a shop and its tokens.
    pub(in crate::store) fn remove(&mut self, txn: &mut Txn, shop: &ShopName) {
        if let Some(record) = self.records.remove(shop) {
            self.seals.remove(&record.pair);
            txn.remove(Tree::Shops, shop.as_str().as_bytes().to_vec());
        }
    }

    fn insert(&mut self, shop: ShopName, record: Arc<ShopRecord>) {
        self.seals.add(&record.pair);
        if let Some(before) = self.records.insert(shop, record) {
            self.seals.remove(&before.pair);
        }
    }

    /// The shops behind this one, or all, in their order.
    pub(in crate::store) fn after(&self, shop: Option<&ShopName>) -> impl Iterator<Item = &ShopName> + use<'_> {
        let from = shop.map_or(Bound::Unbounded, Bound::Excluded);
        self.records.range::<ShopName, _>((from, Bound::Unbounded)).map(|(shop, _)| shop)
    }

    /// The counts of the sealed pairs.
    pub(in crate::store) fn seals(&self) -> &Seals {
        &self.seals
    }

    /// Compares the counts with a scan.
    #[cfg(test)]
    pub(in crate::store) fn check(&self) {
        assert_eq!(self.records.values().map(|record| &record.pair).collect::<Seals>(), self.seals);
    }
}

impl FromIterator<(ShopName, ShopRecord)> for Shops {
    fn from_iter<I: IntoIterator<Item = (ShopName, ShopRecord)>>(records: I) -> Self {
        let mut shops = Shops::default();
        for (shop, record) in records {
            shops.insert(shop, Arc::new(record));
        }
        shops
    }
}
