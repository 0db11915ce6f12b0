//! The access token of a shop: refreshed before it ends, by one caller at a time.
//!
//! An access token lives an hour. It is exchanged for another one when little of the hour is left, by whoever needs it
//! next; a shop that nobody asks for keeps its pair, since the refresh token lives for months. Two refreshes of one shop
//! at once would each end the token of the other, so that they wait for each other
//! ([`ShopTurns`](crate::context::shop_turns::ShopTurns)). Of several processes on one store, the one refreshes that holds
//! the shop's lease; it has all links of the shop. The refresh goes on when its caller is gone: its answer must
//! not be lost.
//!
//! The store has the rules that make a lost answer harmless ([`shops`](crate::store::shops)).
//!
//! When a token is exchanged, and what a refusal means, is decided in [`shop_refresh`](crate::core::shop_refresh).
//!
//! # Old tokens
//!
//! An import may bring an old token, which has no refresh token and does not expire. Shopify does not take such tokens
//! any more. Its first refresh is a *migration*: the token is exchanged for a pair. Shopify ends the old token at once,
//! and does not give its answer again. So the intent is durable before, and the pair is stored with patience: it is
//! nowhere else. If the answer is lost all the same, the next try is refused, and the intent of the earlier try tells
//! why: the links are parked with the reason [`ParkReason::OldTokenEnded`], whose remedy is that the merchant opens the
//! app.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::context::Context;
use crate::core::disposition::Disposition;
use crate::core::health::ParkReason;
use crate::core::lease::bucket_of_shop;
use crate::core::model::{Secret, ShopName, WallTime};
use crate::core::shop_refresh::{Need, Refused, end_of, need, why};
use crate::sources::api::SourceError;
use crate::sources::shopify::{ShopifyClient, ShopifyError, TokenPair};
use crate::store::Unavailable;
use crate::store::shops::{NewShop, PairState, ShopPair};

/// How long a pair is stored with patience that a migration brought, and how long it is between two tries.
const PATIENCE: Duration = Duration::from_secs(5 * 60);
const STORE_RETRY: Duration = Duration::from_secs(1);

/// An access token, and the number of the pair that it is of.
#[derive(Debug, Clone)]
pub struct AccessToken {
    /// The token.
    pub token: Secret,
    /// The number of its pair.
    pub pair: u64,
}

fn failed(disposition: Disposition, is_general: bool, text: impl Into<String>) -> SourceError {
    SourceError { disposition, answered: false, is_general, is_reached: false, text: text.into() }
}

fn store_away(error: Unavailable) -> SourceError {
    SourceError::local(error.to_string())
}

/// A token for a call to the shop.
///
/// # Errors
/// [`SourceError`]: the shop is not linked, or there is no good token and none could be had.
pub async fn access_token(context: &Arc<Context>, shop: &ShopName) -> Result<AccessToken, SourceError> {
    token(context, shop, None).await
}

/// Another token, after the one of this pair was refused. Whether the app was uninstalled is found out by that.
///
/// # Errors
/// As for [`access_token`].
pub async fn after_refusal(context: &Arc<Context>, shop: &ShopName, pair: u64) -> Result<AccessToken, SourceError> {
    token(context, shop, Some(pair)).await
}

async fn held(context: &Context, shop: &ShopName) -> Result<PairState, SourceError> {
    let state = context.store.shop_pair(shop).await.map_err(store_away)?;
    state.ok_or_else(|| failed(Disposition::Rejected, false, format!("{shop} is not linked")))
}

async fn token(context: &Arc<Context>, shop: &ShopName, refused: Option<u64>) -> Result<AccessToken, SourceError> {
    let state = held(context, shop).await?;
    if need(state.standing(), refused, WallTime::now()) == Need::None {
        return opened(&state);
    }
    // In a task of its own, which ends whether or not the caller still waits.
    let (context, shop) = (context.clone(), shop.clone());
    let refreshing = tokio::spawn(async move { refreshed(&context, &shop, refused).await });
    refreshing.await.unwrap_or_else(|_| Err(SourceError::local("the refresh of the token broke off")))
}

fn opened(state: &PairState) -> Result<AccessToken, SourceError> {
    match &state.pair {
        Ok(pair) => Ok(AccessToken { token: pair.access.clone(), pair: state.record.number }),
        Err(error) => {
            let text = format!("the tokens of the shop cannot be opened ({error}); install the app on it again");
            Err(failed(Disposition::Misconfigured, false, text))
        }
    }
}

async fn refreshed(context: &Arc<Context>, shop: &ShopName, refused: Option<u64>) -> Result<AccessToken, SourceError> {
    let _turn = context.shop_turns.enter(shop).await;
    // Somebody may have refreshed it meanwhile.
    let state = held(context, shop).await?;
    let need = need(state.standing(), refused, WallTime::now());
    if need == Need::None {
        return opened(&state);
    }
    let Some(_work) = context.leases.begin_exclusive_work(bucket_of_shop(shop)) else {
        let text = "the token cannot be refreshed here at the moment, another daemon may do it";
        return if need == Need::Soon { opened(&state) } else { Err(SourceError::local(text)) };
    };
    let Some(client) = context.setup().shopify.clone() else {
        return Err(failed(Disposition::Misconfigured, true, "shopify.client_id is not set"));
    };
    match exchange(context, &client, shop, &state, refused).await {
        Err(error) if need == Need::Soon && error.disposition.park_reason().is_none() => {
            tracing::info!(
                %shop,
                %error,
                "shop [{shop}]: the token cannot be refreshed at the moment ({error}), going on with the one that ends \
                 at {}",
                state.record.expires_at.rfc3339()
            );
            opened(&state)
        }
        answer => answer,
    }
}

/// Exchanges the pair for another one.
async fn exchange(
    context: &Arc<Context>,
    client: &ShopifyClient,
    shop: &ShopName,
    state: &PairState,
    refused: Option<u64>,
) -> Result<AccessToken, SourceError> {
    let (Ok(pair), number) = (&state.pair, state.record.number) else { return opened(state) };
    if !context.store.begin_refresh(shop, number).await.map_err(store_away)? {
        return Err(SourceError::local("the app was installed on the shop again meanwhile"));
    }
    let is_old = pair.refresh.is_empty();
    let new = match renewed(client, shop, pair).await {
        Ok(new) => {
            let new = new_shop(shop, new);
            NewShop { expires_at: end_of(new.expires_at, state.record.refreshing_since, WallTime::now()), ..new }
        }
        Err(error) => {
            // What `state` says of the intent is of an earlier try, whose answer never came.
            let is_lost = is_old && state.record.refreshing_since.is_some();
            let refused = Refused { access_too: refused == Some(number), is_lost };
            return Err(dead(context, shop, number, refused, error).await);
        }
    };
    let access = new.pair.access.clone();
    let patience = if is_old { PATIENCE } else { Duration::ZERO };
    let Some(pair) = stored(context, shop, number, &new, patience).await.map_err(store_away)? else {
        return Err(SourceError::local("the app was installed on the shop again meanwhile"));
    };
    let ends = new.expires_at.rfc3339();
    tracing::debug!(%shop, ends, "shop [{shop}]: its token is refreshed and ends at {ends}");
    Ok(AccessToken { token: access, pair })
}

/// Another pair in exchange for this one, by a refresh, or by a migration of an old token.
pub(super) async fn renewed(
    client: &ShopifyClient,
    shop: &ShopName,
    pair: &ShopPair,
) -> Result<TokenPair, ShopifyError> {
    if pair.refresh.is_empty() {
        client.migrate(shop, &pair.access).await
    } else {
        client.refresh(shop, &pair.refresh).await
    }
}

/// Makes the pair durable that a refresh brought, also where the store is away for a while.
async fn stored(
    context: &Context,
    shop: &ShopName,
    number: u64,
    new: &NewShop,
    patience: Duration,
) -> Result<Option<u64>, Unavailable> {
    let until = Instant::now() + patience;
    loop {
        match context.store.end_refresh(shop, number, new).await {
            Err(_) if Instant::now() < until && !context.is_stopping() => tokio::time::sleep(STORE_RETRY).await,
            ended => return ended,
        }
    }
}

/// What the refresh brought, for the store.
pub(super) fn new_shop(shop: &ShopName, pair: TokenPair) -> NewShop {
    NewShop {
        shop: shop.clone(),
        pair: ShopPair { access: pair.access, refresh: pair.refresh },
        expires_at: pair.expires_at,
        refresh_expires_at: pair.refresh_expires_at,
        scopes: pair.scopes.into_iter().collect(),
        name: None,
    }
}

/// A pair that is dead parks every link of the shop.
async fn dead(context: &Context, shop: &ShopName, number: u64, refused: Refused, error: ShopifyError) -> SourceError {
    let mut error = SourceError::from(error);
    if let Disposition::Park(found) = error.disposition {
        let why = why(found, refused);
        error.disposition = Disposition::Park(why);
        park(context, shop, number, why).await;
    }
    error
}

/// Parks every link of a shop for what was found out with this pair.
pub async fn park(context: &Context, shop: &ShopName, pair: u64, why: ParkReason) {
    match context.store.park_shop(shop, pair, why).await {
        Ok(true) => {
            let (health, reason, remedy) = (why.word(), why.reason(), why.remedy());
            tracing::warn!(
                %shop,
                health,
                reason,
                "shop [{shop}]: parked as {health} ({reason}); remedy: {remedy}"
            );
        }
        Ok(false) => {}
        Err(error) => tracing::warn!(
            %shop,
            %error,
            "shop [{shop}]: parked, but this cannot be persisted ({error}), trying the token once more later"
        ),
    }
}

/// A check found that the token of this pair works. Links of the shop that were parked for a reason that passed by itself
/// are active again.
pub async fn works(context: &Context, shop: &ShopName, pair: u64) {
    match context.store.revive_shop(shop, pair).await {
        Ok(0) => {}
        Ok(links) => tracing::info!(%shop, links, "shop [{shop}]: answers again, {links} links are active"),
        Err(error) => tracing::warn!(
            %shop,
            %error,
            "shop [{shop}]: answers again, but this cannot be persisted ({error}), asking again tomorrow"
        ),
    }
}
