//! Facebook's reports about persons: that one removed the app, that the permissions of some changed.

use std::time::Duration;

use super::api::{Departure, Unavailable};
use super::feed::Change;
use super::inner::Store;
use super::state::State;
use super::txn::Txn;
use crate::core::health::ParkReason;
use crate::core::model::{AppUserId, Generation, LinkKey, ShopName, WallTime};

impl Store {
    /// Parks every link of a person for what Facebook reported, and forgets the person's logins, also one that is under
    /// way. Of a request of Meta's, dated so, newer grants are no concern: see [`grant`](crate::core::grant). One
    /// transaction.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn park_person(
        &self,
        person: &AppUserId,
        why: ParkReason,
        issued_at: Option<WallTime>,
    ) -> Result<Departure, Unavailable> {
        self.commit(|state, txn| state.park_person(txn, person, why, issued_at)).await
    }

    /// Facebook reported that these persons' permissions changed: each of their links is owed a check of its token,
    /// unless a person must act on it first. Costs no write where a check is owed that has not begun. Returns the
    /// links.
    ///
    /// # Errors
    /// [`Unavailable`] when it could not be made durable; some of it may be noted all the same.
    pub async fn hint_persons(&self, persons: &[AppUserId]) -> Result<Vec<LinkKey>, Unavailable> {
        self.commit(|state, txn| state.hint(txn, persons)).await
    }

    /// Shopify reported that the app was uninstalled from a shop, or that its access scopes changed: each link of the
    /// shop is owed a check of its token, as after [`Store::hint_persons`].
    ///
    /// # Errors
    /// As there.
    pub async fn hint_shop(&self, shop: &ShopName) -> Result<Vec<LinkKey>, Unavailable> {
        let hint = |state: &mut State, txn: &mut Txn| {
            let links = state.links.of_id(&shop.clone().into());
            state.hint_links(txn, links)
        };
        self.commit(hint).await
    }

    /// A doubt about the token of this generation that needs no durable note: the link is to check it now.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn doubt_token(&self, link: &LinkKey, generation: Generation) -> Result<(), Unavailable> {
        let recheck = Change::Recheck(link.clone(), generation);
        if self.inner.is_shared() {
            // The daemon that reads the link learns it with the writes of the turn.
            return self.commit(|_, txn| (txn.publish(recheck), txn.wait_for_queue()).0).await;
        }
        self.look(|_| self.feed().publish(vec![recheck])).await
    }

    /// A check of this link's token of this generation begins, and answers for the hint of this number: a hint that
    /// comes from here on is another. `None` when no hint stands, or when the link has another token.
    ///
    /// # Errors
    /// [`Unavailable`]; the hint then stands.
    pub async fn claim_hint(&self, link: &LinkKey, generation: Generation) -> Result<Option<u64>, Unavailable> {
        self.look(|state| {
            let hint = state.links.get(link).filter(|record| record.generation == generation)?.hint;
            state.links.unhint(link);
            hint
        })
        .await
    }

    /// Graph has blocked the app for this time: says so to the other daemons of a cluster.
    ///
    /// # Errors
    /// [`Unavailable`]; the others are refused by Graph themselves then.
    pub async fn share_app_block(&self, time: Duration) -> Result<(), Unavailable> {
        if !self.inner.is_shared() {
            return Ok(());
        }
        let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.commit(|_, txn| txn.publish(Change::AppBlocked(millis))).await
    }
}
