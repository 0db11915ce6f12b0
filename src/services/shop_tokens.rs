//! The access token of a shop: refreshed before it ends, by one caller at a time.
//!
//! An access token lives an hour. It is exchanged for another one when little of the hour is left, by whoever needs it
//! next; a shop that nobody asks for keeps its pair, since the refresh token lives for months. Two refreshes of one shop
//! at once would each end the token of the other, so that they wait for each other
//! ([`ShopTurns`](crate::context::shop_turns::ShopTurns)). The refresh goes on when its caller is gone: its answer must
//! not be lost.
//!
//! The store has the rules that make a lost answer harmless ([`shops`](crate::store::shops)).

use std::sync::Arc;
use std::time::Duration;

use crate::context::Context;
use crate::core::disposition::Disposition;
use crate::core::health::ParkReason;
use crate::core::model::{Secret, ShopName, WallTime};
use crate::sources::api::SourceError;
use crate::sources::shopify::{ShopifyClient, ShopifyError, TokenPair};
use crate::store::Unavailable;
use crate::store::shops::{NewShop, PairState, ShopPair};

/// An access token with less time than this is exchanged before it is used.
const REFRESH_BEFORE: Duration = Duration::from_secs(12 * 60);
/// An access token with less time than this is not used: a call may take so long.
const TOO_LATE: Duration = Duration::from_secs(60);
/// A token that was refused although it is younger than this is not exchanged: the app was uninstalled.
const FRESH: Duration = Duration::from_secs(5 * 60);

/// An access token, and the number of the pair that it is of.
#[derive(Debug, Clone)]
pub struct AccessToken {
    /// The token.
    pub token: Secret,
    /// The number of its pair.
    pub pair: u64,
}

/// What a pair means for a caller who needs a token now.
#[derive(Debug, PartialEq, Eq)]
enum Need {
    /// The token is good.
    None,
    /// It is good for a while, and should be exchanged.
    Soon,
    /// It is not to be used.
    Now,
}

fn need(state: &PairState, refused: Option<u64>, now: WallTime) -> Need {
    let record = &state.record;
    let left = record.expires_at.since(now);
    if refused == Some(record.number) || left < TOO_LATE {
        Need::Now
    } else if left < REFRESH_BEFORE || record.refreshing_since.is_some() {
        Need::Soon
    } else {
        Need::None
    }
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

/// Another token, after the one of this pair was refused. `None` when that token is so young that the app must have been
/// uninstalled.
///
/// # Errors
/// As for [`access_token`].
pub async fn after_refusal(
    context: &Arc<Context>,
    shop: &ShopName,
    pair: u64,
) -> Result<Option<AccessToken>, SourceError> {
    let state = held(context, shop).await?;
    if state.record.number == pair && is_fresh(state.record.paired_at, WallTime::now()) {
        return Ok(None);
    }
    token(context, shop, Some(pair)).await.map(Some)
}

/// Is a pair of this age so young that its token can have been refused for an uninstall alone? Not when it is from a moment
/// that lies ahead: the clock was set back, and nobody knows how old the pair is.
fn is_fresh(paired_at: WallTime, now: WallTime) -> bool {
    paired_at <= now && now.since(paired_at) < FRESH
}

async fn held(context: &Context, shop: &ShopName) -> Result<PairState, SourceError> {
    let state = context.store.shop_pair(shop).await.map_err(store_away)?;
    state.ok_or_else(|| failed(Disposition::Rejected, false, format!("{shop} is not linked")))
}

async fn token(context: &Arc<Context>, shop: &ShopName, refused: Option<u64>) -> Result<AccessToken, SourceError> {
    let state = held(context, shop).await?;
    if need(&state, refused, WallTime::now()) == Need::None {
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
    let need = need(&state, refused, WallTime::now());
    if need == Need::None {
        return opened(&state);
    }
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
    // An old token has no refresh token; it is exchanged for a pair once.
    let is_old = pair.refresh.is_empty();
    let answer =
        if is_old { client.migrate(shop, &pair.access).await } else { client.refresh(shop, &pair.refresh).await };
    let new = match answer {
        Ok(new) => new_shop(shop, new),
        Err(error) => {
            let is_refused = refused == Some(number);
            return Err(dead(context, shop, number, is_refused, error).await);
        }
    };
    let access = new.pair.access.clone();
    let Some(pair) = context.store.end_refresh(shop, number, &new).await.map_err(store_away)? else {
        return Err(SourceError::local("the app was installed on the shop again meanwhile"));
    };
    let ends = new.expires_at.rfc3339();
    tracing::debug!(%shop, ends, "shop [{shop}]: its token is refreshed and ends at {ends}");
    Ok(AccessToken { token: access, pair })
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

/// A pair that is dead parks every link of the shop. If the access token had been refused before (`is_refused`), neither
/// half is good: the app was uninstalled.
async fn dead(context: &Context, shop: &ShopName, number: u64, is_refused: bool, error: ShopifyError) -> SourceError {
    let mut error = SourceError::from(error);
    if let Disposition::Park(found) = error.disposition {
        let why = if is_refused && found == ParkReason::RefreshEnded { ParkReason::Uninstalled } else { found };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_from_a_moment_that_lies_ahead_is_not_fresh() {
        let at = WallTime(1_763_769_600_000);
        assert!(is_fresh(at, at) && is_fresh(at, at.plus(FRESH - Duration::from_millis(1))));
        assert!(!is_fresh(at, at.plus(FRESH)));
        assert!(!is_fresh(at.plus(Duration::from_secs(1)), at), "the clock was set back");
    }
}
