//! The end of a shop's data, 48 hours after the app was uninstalled.
//!
//! The request may be late: the app may have been installed again since. So it is carried out only when Shopify refuses
//! the shop's tokens. Where Shopify cannot say, the request is owed: it lies in the store as a
//! [cleanup](crate::core::cleanup), and is carried out when Shopify can say. An installation meanwhile ends it.

use std::sync::Arc;
use std::time::Duration;

use super::shop_tokens::{self, AccessToken};
use crate::context::Context;
use crate::core::disposition::Disposition;
use crate::core::health::{Health, ParkReason};
use crate::core::lease::bucket_of_shop;
use crate::core::model::{LinkKey, ShopName, Source};
use crate::core::shop_pair::ends_pair;
use crate::sources::api::{SourceError, Target, TokenState};
use crate::store::Unavailable;

/// How long Shopify may take to say whether a token works. Shopify waits for five seconds in all.
const ASK_WITHIN: Duration = Duration::from_secs(3);

/// What became of the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Redacted {
    /// The token works: nothing was deleted.
    Kept,
    /// So many links went, with their objects. None, where the shop was not linked.
    Deleted(usize),
}

/// Shopify wants a shop to be deleted. That is done, or owed durably, when this ends.
///
/// # Errors
/// [`Unavailable`]: Shopify is to send the request again.
pub async fn requested(context: &Arc<Context>, shop: &ShopName) -> Result<(), Unavailable> {
    let login = context.store.shop_pair(shop).await?.map(|state| state.record.login);
    let error = if context.leases.holds_bucket(bucket_of_shop(shop)) {
        match tokio::time::timeout(ASK_WITHIN, carry_out(context, shop)).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => error,
            Err(_) => SourceError::local("Shopify does not answer"),
        }
    } else {
        SourceError::local("another daemon works on the shop and asks")
    };
    if let Some(login) = login {
        context.store.owe_redact(shop, login).await?;
        tracing::info!(
            %shop,
            %error,
            "shop [{shop}]: it is to be deleted, but whether its token works is not known ({error}); asking again later"
        );
    }
    Ok(())
}

/// Carries out the request that is owed under this number.
///
/// # Errors
/// [`SourceError`]: it is still owed.
pub async fn try_again(context: &Arc<Context>, shop: &ShopName, seq: u64) -> Result<(), SourceError> {
    if !context.store.is_redact_owed(shop, seq).await.map_err(store_away)? {
        return Err(SourceError::local("the app was installed on the shop again meanwhile"));
    }
    carry_out(context, shop).await
}

async fn carry_out(context: &Arc<Context>, shop: &ShopName) -> Result<(), SourceError> {
    match redact(context, shop).await? {
        Redacted::Kept => {
            tracing::info!(%shop, "shop [{shop}]: it is to be deleted, but its token works; nothing is deleted");
        }
        Redacted::Deleted(links) => {
            tracing::info!(%shop, links, "shop [{shop}]: it is deleted, with {links} links and their objects");
        }
    }
    Ok(())
}

/// Deletes what is stored of a shop, unless its token works. What was found out about one pair deletes nothing of a shop
/// that has another by then.
///
/// # Errors
/// [`SourceError`]: whether the token works is not known, or the store cannot be written. Nothing was deleted.
async fn redact(context: &Arc<Context>, shop: &ShopName) -> Result<Redacted, SourceError> {
    let links = context.store.links_of_id(&shop.clone().into()).await.map_err(store_away)?;
    let (Some(link), Some(pair)) = (links.first(), context.store.shop_pair(shop).await.map_err(store_away)?) else {
        return Ok(Redacted::Deleted(0));
    };
    let Some(dead) = dead_pair(context, shop, link, pair.record.number).await? else { return Ok(Redacted::Kept) };
    let deleted = context.store.unlink_shop(shop, dead).await.map_err(store_away)?;
    Ok(deleted.map_or(Redacted::Kept, Redacted::Deleted))
}

fn store_away(error: Unavailable) -> SourceError {
    SourceError::local(error.to_string())
}

/// The number of the shop's pair, which was `held` before anything was asked, if it is dead.
async fn dead_pair(
    context: &Arc<Context>,
    shop: &ShopName,
    link: &LinkKey,
    held: u64,
) -> Result<Option<u64>, SourceError> {
    let view = context.store.view(link).await.map_err(store_away)?;
    if view.is_some_and(|view| is_uninstalled(&view.record.health)) {
        return Ok(Some(held));
    }
    let access = match shop_tokens::access_token(context, shop).await {
        Ok(access) => access,
        Err(error) => return ended(error, held),
    };
    match check(context, link, &access).await {
        Ok(()) => Ok(None),
        Err(error) if error.disposition == Disposition::Park(ParkReason::Uninstalled) => {
            match shop_tokens::after_refusal(context, shop, access.pair).await {
                Ok(_) => Ok(None),
                Err(error) => ended(error, access.pair),
            }
        }
        Err(error) => ended(error, access.pair),
    }
}

fn is_uninstalled(health: &Health) -> bool {
    matches!(health, Health::Parked(parked) if matches!(parked.why, ParkReason::Uninstalled | ParkReason::ShopGone))
}

/// Is the shop there no more, for good or for now?
fn is_closed(why: ParkReason) -> bool {
    matches!(why, ParkReason::ShopGone | ParkReason::ShopInactive)
}

/// This pair, for an error which says that it is dead, or its shop.
fn ended(error: SourceError, pair: u64) -> Result<Option<u64>, SourceError> {
    match error.disposition {
        Disposition::Park(why) if ends_pair(why) || is_closed(why) => Ok(Some(pair)),
        _ => Err(error),
    }
}

async fn check(context: &Context, link: &LinkKey, access: &AccessToken) -> Result<(), SourceError> {
    let target = Target { link, token: &access.token, person: None };
    match context.setup().source(Source::Shopify).check_token(target).await? {
        TokenState::Works { .. } => Ok(()),
        TokenState::Dead(why) => {
            Err(SourceError { disposition: Disposition::Park(why), ..SourceError::local(why.reason()) })
        }
        TokenState::Unclear(text) => Err(SourceError::local(text)),
    }
}
