//! An installation of the app on a shop, from the code to the link.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::shop_tokens::{self, new_shop};
use crate::context::Context;
use crate::core::backoff::Backoff;
use crate::core::disposition::Disposition;
use crate::core::grant::Ticket;
use crate::core::health::ParkReason;
use crate::core::model::{Cause, LinkKey, Secret, ShopName, UserId};
use crate::sources::shopify::{PRODUCTS_SCOPE, ShopifyClient, ShopifyError, ShopifyErrorKind, missing_scopes};
use crate::store::Unavailable;
use crate::store::shops::{NewShop, ShopStored};

/// Installations of one shop that may come in between.
const RIVALS: usize = 8;
/// After an answer that does not say whether a pair is good, and so many times.
const ASK: Backoff = Backoff { base: Duration::from_millis(500), cap: Duration::from_secs(2) };
const ASKED_AGAIN: u32 = 4;

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
    let before = context.store.pair_number(shop).await?;
    let answer = client.exchange_code(shop, code).await;
    context.note_shopify(&answer);
    let new = new_shop(shop, answer?);
    let scopes: BTreeSet<String> = new.scopes.iter().cloned().collect();
    let missing = missing_scopes(&setup.config.shopify.scopes, &scopes);
    let stored = stored(context, client, (ticket, user), &new, before).await?;
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

/// Stores what an installation brought. `before` is the number of the pair that the shop had before the exchange. Where it
/// has another one by now, another daemon has had an exchange at the same time. Shopify takes the newest pair alone.
async fn stored(
    context: &Context,
    client: &ShopifyClient,
    (ticket, user): (Ticket, UserId),
    new: &NewShop,
    mut before: Option<u64>,
) -> Result<ShopStored, InstallError> {
    let (store, shop) = (&context.store, &new.shop);
    for _ in 0..RIVALS {
        if let Some(stored) = store.put_shop(ticket, user, new, (Cause::Link, before)).await? {
            return Ok(stored);
        }
        // Before the question, so that a pair which is stored after it is met again.
        before = store.pair_number(shop).await?;
        if !is_good(client, new).await? {
            let joined = store.join_shop(ticket, user, (shop, new.name.clone()), Cause::Link).await?;
            return joined.ok_or(InstallError::Ended);
        }
    }
    Err(InstallError::BrokeOff)
}

/// Does Shopify take this pair? Asked again for a while, because a pair that was exchanged for a code cannot be had again.
async fn is_good(client: &ShopifyClient, new: &NewShop) -> Result<bool, ShopifyError> {
    let mut failures = 0;
    loop {
        match client.granted_scopes(&new.shop, &new.pair.access).await {
            Ok(_) => return Ok(true),
            Err(error) if error.kind == ShopifyErrorKind::TokenRefused => return Ok(false),
            Err(error) if failures == ASKED_AGAIN || error.disposition().park_reason().is_some() => return Err(error),
            Err(_) => tokio::time::sleep(ASK.delay(failures, crate::random::fraction(), None)).await,
        }
        failures += 1;
    }
}
