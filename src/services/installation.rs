//! An installation of the app on a shop, from the code to the link.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::shop_tokens::{self, new_shop};
use crate::context::Context;
use crate::core::disposition::Disposition;
use crate::core::health::ParkReason;
use crate::core::model::{Cause, LinkKey, Secret, ShopName, UserId};
use crate::sources::shopify::{PRODUCTS_SCOPE, ShopifyError, missing_scopes};
use crate::store::Unavailable;

/// A shop that is linked.
#[derive(Debug, Clone)]
pub struct Installed {
    /// The link.
    pub link: LinkKey,
    /// Access scopes that were granted.
    pub scopes: BTreeSet<String>,
    /// Access scopes that the app needs and that were not granted.
    pub missing_scopes: Vec<String>,
}

/// Why a shop was not linked. Safe to print.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// Shopify refused, or could not be asked.
    #[error("{0}")]
    Shopify(#[from] ShopifyError),
    /// The store cannot keep the link.
    #[error("{0}")]
    Store(#[from] Unavailable),
    /// The shop was unlinked while the installation was under way.
    #[error("the shop was unlinked meanwhile")]
    Ended,
    /// It broke off.
    #[error("the installation broke off")]
    BrokeOff,
    /// Shopify is off.
    #[error("shopify.client_id is not set")]
    Off,
}

impl InstallError {
    /// Does it pass by itself?
    pub fn is_transient(&self) -> bool {
        match self {
            InstallError::Shopify(error) => {
                matches!(error.disposition(), Disposition::Retry | Disposition::RateLimited { .. })
            }
            InstallError::Store(_) | InstallError::BrokeOff => true,
            InstallError::Ended | InstallError::Off => false,
        }
    }
}

/// The user whose shop it is, where exactly one user has linked it.
///
/// # Errors
/// [`Unavailable`].
pub async fn sole_user(context: &Context, shop: &ShopName) -> Result<Option<UserId>, Unavailable> {
    let links = context.store.links_of_id(&shop.clone().into()).await?;
    Ok(match links.as_slice() {
        [only] => Some(only.user),
        _ => None,
    })
}

/// Exchanges the code and links the shop to the user.
///
/// # Errors
/// [`InstallError`]; nothing was linked.
pub async fn install(
    context: &Arc<Context>,
    user: UserId,
    shop: &ShopName,
    code: &Secret,
) -> Result<Installed, InstallError> {
    let setup = context.setup();
    let client = setup.shopify.as_ref().ok_or(InstallError::Off)?;
    // Nothing may come between the exchange, which ends the pair before it, and the store; so installations on one shop
    // are stored in the order in which Shopify had them.
    let _turn = context.shop_turns.enter(shop).await;
    let ticket = context.store.ticket().await?;
    let answer = client.exchange_code(shop, code).await;
    context.note_shopify(&answer);
    let pair = answer?;
    let scopes = pair.scopes.clone();
    let missing = missing_scopes(&setup.config.shopify.scopes, &scopes);
    let stored = context.store.put_shop(ticket, user, new_shop(shop, pair), Cause::Link).await?;
    if stored.left.is_some() {
        return Err(InstallError::Ended);
    }
    let others = stored.others.len();
    tracing::info!(%user, %shop, others, "shop [{shop}]: linked for user {user}");
    if missing.iter().any(|scope| scope == PRODUCTS_SCOPE) {
        shop_tokens::park(context, shop, stored.pair, ParkReason::ScopeMissing).await;
    }
    Ok(Installed { link: stored.link, scopes, missing_scopes: missing })
}
