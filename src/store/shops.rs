//! Shops in the store: their links, and the one token pair of each.
//!
//! # The refresh of a pair
//!
//! An access token lives an hour. Its refresh token works once, and the answer to its use has another pair. If that
//! answer is lost, the same refresh token brings the same answer again, within a short time and only until the new pair
//! is used. Therefore:
//!
//! * [`Store::begin_refresh`] makes the intent durable before Shopify is asked. A start that finds an intent repeats that
//!   refresh at once.
//! * [`Store::end_refresh`] makes both halves of the new pair durable before either is used.
//!
//! Each pair has a number. What is learned with a pair is not noted against another: a merchant may install the app
//! again while a refresh is under way, and the pair of that installation stays.

use std::sync::Arc;

use super::api::Unavailable;
pub use super::api::{NewShop, PairState, ShopStored};
use super::inner::Store;
pub use super::records::ShopPair;
use super::records::{ShopRecord, open_pair};
use super::seal::SealError;
use super::state::State;
use super::txn::Txn;
use crate::core::grant::Ticket;
use crate::core::health::ParkReason;
use crate::core::model::{Cause, ShopName, UserId};

impl Store {
    /// Links a shop to a user, with the pair of a new installation. Every link of the shop gets a new generation and is
    /// due, because the pair before it is dead. Left out when the link was removed after the ticket was taken. `None`, and
    /// nothing is changed, when the shop has another pair than the one with the number `replaced`, which was its pair before
    /// Shopify gave out the new one: nobody knows then which of the two is newer.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn put_shop(
        &self,
        ticket: Ticket,
        user: UserId,
        new: &NewShop,
        (cause, replaced): (Cause, Option<u64>),
    ) -> Result<Option<ShopStored>, Unavailable> {
        let put = |state: &mut State, txn: &mut Txn| {
            state.put_shop(txn, &self.inner.keyring(), ticket, user, new, (cause, replaced))
        };
        self.commit(put).await
    }

    /// Links a shop to a user with the pair that the shop has: that of an installation which came after this one and ended
    /// its pair. Left out when the link was removed after the ticket was taken. `None` when the shop has no pair.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn join_shop(
        &self,
        ticket: Ticket,
        user: UserId,
        (shop, name): (&ShopName, Option<String>),
        cause: Cause,
    ) -> Result<Option<ShopStored>, Unavailable> {
        self.commit(|state, txn| state.join_shop(txn, ticket, user, (shop, name), cause)).await
    }

    /// The number of a shop's pair; `None` when the shop is not linked.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn pair_number(&self, shop: &ShopName) -> Result<Option<u64>, Unavailable> {
        self.look(|state| state.shops.get(shop).map(|record| record.number)).await
    }

    /// So many shops, in the order of their names, from the one behind `after` on.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn shops_after(&self, after: Option<ShopName>, most: usize) -> Result<Vec<ShopName>, Unavailable> {
        self.look(|state| state.shops.after(after.as_ref()).take(most).cloned().collect()).await
    }

    /// The token pair of a shop, which is durable; `None` when the shop is not linked.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn shop_pair(&self, shop: &ShopName) -> Result<Option<PairState>, Unavailable> {
        let record = self.look(|state| state.shops.get(shop).cloned()).await?;
        // One that a refresh brought a moment ago may be on its way to disk still. Its use would end the refresh token that
        // a crash brings back.
        self.barrier().await?;
        Ok(record.map(|record| PairState { pair: self.opened_pair(shop, &record), record }))
    }

    fn opened_pair(&self, shop: &ShopName, record: &Arc<ShopRecord>) -> Result<ShopPair, SealError> {
        open_pair(&self.inner.keyring(), shop, &record.pair)
    }

    /// The pair with this number is about to be refreshed. Returns whether the shop still has it.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn begin_refresh(&self, shop: &ShopName, number: u64) -> Result<bool, Unavailable> {
        self.commit(|state, txn| state.begin_refresh(txn, shop, number)).await
    }

    /// Shopify answered with another pair. Returns its number; `None`, and nothing is changed, when the shop does not have
    /// the one with this number any more.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn end_refresh(&self, shop: &ShopName, number: u64, new: &NewShop) -> Result<Option<u64>, Unavailable> {
        self.commit(|state, txn| state.end_refresh(txn, &self.inner.keyring(), shop, number, new)).await
    }

    /// Removes every link of a shop, with their objects, for what was found out with the pair with this number. Returns how
    /// many these were; `None`, and nothing is changed, when the shop has another pair by now.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn unlink_shop(&self, shop: &ShopName, number: u64) -> Result<Option<usize>, Unavailable> {
        let unlink = |state: &mut State, txn: &mut Txn| state.unlink_shop(txn, &self.inner.keyring(), shop, number);
        Ok(self.commit(unlink).await?.map(|unlinked| unlinked.links.len()))
    }

    /// Parks every link of a shop for what was found out with the pair with this number. Returns whether that changed
    /// anything; nothing is changed when the shop has another pair.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn park_shop(&self, shop: &ShopName, number: u64, why: ParkReason) -> Result<bool, Unavailable> {
        self.commit(|state, txn| state.park_shop(txn, shop, number, why)).await
    }

    /// A check found that the pair with this number works: the links of the shop that are parked for a reason that passes
    /// by itself are active again, and due. Returns how many these are.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn revive_shop(&self, shop: &ShopName, number: u64) -> Result<usize, Unavailable> {
        self.commit(|state, txn| state.revive_shop(txn, shop, number)).await
    }
}
