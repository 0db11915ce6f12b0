//! The uninstall of the app from a shop whose last link is gone.
//!
//! The links took the record of the shop with them, so that the cleanup holds the pair of the shop. Its access token is
//! good for an hour, and the cleanup is tried for days: where the hour is over the pair is exchanged first, with the rules
//! of [`shop_tokens`](super::shop_tokens). The new pair is durable in the cleanup before it is used.

use std::sync::Arc;

use super::shop_tokens::{new_shop, renewed};
use crate::context::Context;
use crate::core::disposition::Disposition;
use crate::core::model::{Secret, ShopName, WallTime};
use crate::core::shop_refresh::is_over;
use crate::sources::api::SourceError;
use crate::sources::shopify::ShopifyClient;
use crate::store::cleanups::ReadyPair;
use crate::store::shops::ShopPair;

/// Why the app is not uninstalled.
#[derive(Debug)]
pub enum Undone {
    /// The shop is linked again, or the store is away.
    NotYet,
    /// The pair cannot be opened.
    Unreadable,
    /// Shopify did not do it.
    Failed(SourceError),
}

/// Uninstalls the app from a shop, for the cleanup with this number.
///
/// # Errors
/// [`Undone`].
pub async fn uninstall(context: &Arc<Context>, shop: &ShopName, seq: u64) -> Result<(), Undone> {
    let _turn = context.shop_turns.enter(shop).await;
    let (pair, expires_at) = match context.store.uninstall_pair(shop, seq).await {
        Ok(ReadyPair::Yes(pair, expires_at)) => (pair, expires_at),
        Ok(ReadyPair::NotYet) | Err(_) => return Err(Undone::NotYet),
        Ok(ReadyPair::Never) => return Err(Undone::Unreadable),
    };
    let Some(client) = context.setup().shopify.clone() else {
        let disposition = Disposition::Misconfigured;
        let error = SourceError { disposition, ..SourceError::local("shopify.client_id is not set") };
        return Err(Undone::Failed(error));
    };
    let access = if is_over(expires_at, WallTime::now()) {
        exchanged(context, &client, (shop, seq), &pair).await?
    } else {
        pair.access
    };
    let answer = client.uninstall(shop, &access).await;
    if answer.is_ok() {
        context.shopify.answered();
    }
    answer.map_err(|error| Undone::Failed(error.into()))
}

/// The access token of another pair, in exchange for this one.
async fn exchanged(
    context: &Context,
    client: &ShopifyClient,
    (shop, seq): (&ShopName, u64),
    pair: &ShopPair,
) -> Result<Secret, Undone> {
    let new = renewed(client, shop, pair).await.map_err(|error| Undone::Failed(error.into()))?;
    let new = new_shop(shop, new);
    match context.store.renew_uninstall(shop, seq, &new).await {
        Ok(true) => Ok(new.pair.access),
        Ok(false) | Err(_) => Err(Undone::NotYet),
    }
}
