//! One caller at a time for each shop.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::OwnedMutexGuard;

use crate::core::model::ShopName;

type Turn = Arc<tokio::sync::Mutex<()>>;

/// The shops that somebody has the turn of, or waits for.
#[derive(Debug, Default)]
pub struct ShopTurns {
    turns: Mutex<HashMap<ShopName, Turn>>,
}

/// The turn of a shop; it ends when this is dropped.
#[derive(Debug)]
pub struct ShopTurn<'a> {
    turns: &'a ShopTurns,
    shop: ShopName,
    guard: Option<OwnedMutexGuard<()>>,
}

impl ShopTurns {
    /// Waits for the turn of this shop.
    pub async fn enter(&self, shop: &ShopName) -> ShopTurn<'_> {
        // Made before the wait, so that a caller who gives up leaves nothing behind.
        let mut turn = ShopTurn { turns: self, shop: shop.clone(), guard: None };
        let of_shop = self.lock().entry(shop.clone()).or_default().clone();
        turn.guard = Some(of_shop.lock_owned().await);
        turn
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ShopName, Turn>> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ShopTurn<'_> {
    fn drop(&mut self) {
        self.guard = None;
        let mut turns = self.turns.lock();
        // Those who wait hold a clone each.
        if turns.get(&self.shop).is_some_and(|turn| Arc::strong_count(turn) == 1) {
            turns.remove(&self.shop);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[tokio::test]
    async fn one_at_a_time_for_each_shop_and_nothing_stays() {
        let turns = ShopTurns::default();
        let (one, two) = ("one.myshopify.com".parse().unwrap(), "two.myshopify.com".parse().unwrap());
        let first = turns.enter(&one).await;
        let other = turns.enter(&two).await;
        let mut second = Box::pin(turns.enter(&one));
        assert!(second.as_mut().now_or_never().is_none());
        let mut gives_up = Box::pin(turns.enter(&one));
        assert!(gives_up.as_mut().now_or_never().is_none());
        drop(gives_up);
        drop(first);
        let second = second.await;
        assert!(turns.enter(&one).now_or_never().is_none());
        drop((second, other));
        assert!(turns.lock().is_empty());
    }
}
