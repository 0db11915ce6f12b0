//! The end of a shop's data, 48 hours after the app was uninstalled.
//!
//! The request may be late: the app may have been installed again since. So it is carried out only when Shopify refuses
//! the shop's tokens.

use std::sync::Arc;

use super::shop_tokens::{self, AccessToken};
use crate::context::Context;
use crate::core::disposition::Disposition;
use crate::core::health::{Health, ParkReason};
use crate::core::model::{LinkKey, ShopName, Source};
use crate::sources::api::{SourceError, Target, TokenState};
use crate::store::unlink::Unlinking;

/// What became of the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Redacted {
    /// The token works: nothing was deleted.
    Kept,
    /// So many links went, with their objects. None, where the shop was not linked.
    Deleted(usize),
}

/// Deletes what is stored of a shop, unless its token works.
///
/// # Errors
/// [`SourceError`]: whether the token works is not known, or the store cannot be written. Nothing was deleted.
pub async fn redact(context: &Arc<Context>, shop: &ShopName) -> Result<Redacted, SourceError> {
    let links = context.store.links_of_shop(shop).await.map_err(|error| SourceError::local(error.to_string()))?;
    let Some(link) = links.first() else { return Ok(Redacted::Deleted(0)) };
    if works(context, shop, link).await? {
        return Ok(Redacted::Kept);
    }
    let unlinked = context.store.unlink(&links, Unlinking::default()).await;
    let unlinked = unlinked.map_err(|error| SourceError::local(error.to_string()))?;
    Ok(Redacted::Deleted(unlinked.links.len()))
}

/// Does the shop's token work?
async fn works(context: &Arc<Context>, shop: &ShopName, link: &LinkKey) -> Result<bool, SourceError> {
    let view = context.store.view(link).await.map_err(|error| SourceError::local(error.to_string()))?;
    if view.is_some_and(|view| is_uninstalled(&view.record.health)) {
        return Ok(false);
    }
    let access = match shop_tokens::access_token(context, shop).await {
        Ok(access) => access,
        Err(error) => return ended(error),
    };
    match check(context, link, &access).await {
        Ok(()) => Ok(true),
        Err(error) if error.disposition == Disposition::Park(ParkReason::Uninstalled) => {
            match shop_tokens::after_refusal(context, shop, access.pair).await {
                Ok(None) => Ok(false),
                Ok(Some(_)) => Ok(true),
                Err(error) => ended(error),
            }
        }
        Err(error) => ended(error),
    }
}

fn is_uninstalled(health: &Health) -> bool {
    matches!(health, Health::Parked(parked) if matches!(parked.why, ParkReason::Uninstalled | ParkReason::ShopGone))
}

/// `false` for an error which says that the token is dead.
fn ended(error: SourceError) -> Result<bool, SourceError> {
    match error.disposition {
        Disposition::Park(ParkReason::Uninstalled | ParkReason::RefreshEnded | ParkReason::ShopGone) => Ok(false),
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
