//! What the loops over one catalogue share: whose it is, how they wait, and how they call the shop.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ractor::ActorRef;
use tokio::sync::watch;

use crate::actors::page::message::PageMsg;
use crate::actors::{STORE_RETRY, jitter};
use crate::context::Context;
use crate::core::backoff::Backoff;
use crate::core::disposition::Disposition;
use crate::core::model::{Cause, Generation, LinkKey, Secret, ShopName, Source, WallTime};
use crate::services::shop_tokens;
use crate::sources::api::SourceError;
use crate::sources::shopify::object::Envelope;
use crate::sources::shopify::{ShopifyClient, ShopifyError};
use crate::store::{ReadClaim, Unavailable};

/// After a call that failed.
const RETRY: Backoff = Backoff { base: Duration::from_secs(2), cap: Duration::from_secs(5 * 60) };
/// After an answer that will be the same for a while: a token that is being checked, a setting that a person must mend.
const LATER: Duration = Duration::from_secs(60);
/// After an answer that concerns one part and will not change soon.
pub(super) const MUCH_LATER: Duration = Duration::from_secs(60 * 60);

/// What the loops share.
pub(super) struct Catalogue {
    pub(super) context: Arc<Context>,
    pub(super) link: LinkKey,
    pub(super) shop: ShopName,
    pub(super) generation: Generation,
    pub(super) page: ActorRef<PageMsg>,
    pub(super) wake: watch::Sender<u64>,
    pub(super) hurry: Arc<AtomicBool>,
    /// Products are taken from the file of a bulk operation.
    pub(super) is_sweeping: AtomicBool,
    /// Products that the shop has no more, and which have left the rows of the index: each with its claim, whose mark stands
    /// until the delete is staged.
    pub(super) gone: Mutex<Vec<ReadClaim>>,
}

/// Why something is to be tried again, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Retry {
    /// With a backoff.
    Soon,
    /// After this.
    After(Duration),
}

impl Retry {
    /// How long to wait after so many failures in a row.
    pub(super) fn wait(self, failures: u32) -> Duration {
        match self {
            Retry::Soon => RETRY.delay(failures, jitter(), None),
            Retry::After(wait) => RETRY.delay(failures, jitter(), Some(wait)),
        }
    }
}

impl From<Unavailable> for Retry {
    fn from(_: Unavailable) -> Retry {
        Retry::After(STORE_RETRY)
    }
}

impl Catalogue {
    /// Waits until something may be due, at most so long. Never ends while the daemon stops: nothing is begun any more.
    pub(super) async fn wait(&self, woken: &mut watch::Receiver<u64>, most: Duration) {
        // It fails only if the sender is gone, which is in here.
        let _ = tokio::time::timeout(most, woken.changed()).await;
        if self.context.is_stopping() {
            std::future::pending::<()>().await;
        }
    }

    pub(super) fn woken(&self) -> watch::Receiver<u64> {
        self.wake.subscribe()
    }

    pub(super) fn wake(&self) {
        self.wake.send_modify(|times| *times += 1);
    }

    /// Calls Shopify with the token of this moment.
    pub(super) async fn call<T>(
        &self,
        what: impl AsyncFnOnce(&ShopifyClient, &Secret) -> Result<T, ShopifyError>,
    ) -> Result<T, Retry> {
        let Some(client) = self.context.setup().shopify.clone() else { return Err(Retry::After(LATER)) };
        let token = match shop_tokens::access_token(&self.context, &self.shop).await {
            Ok(access) => access.token,
            Err(error) => return Err(self.failed(&error)),
        };
        let answer = what(&client, &token).await.map_err(SourceError::from);
        self.context.note_source(Source::Shopify, &answer);
        answer.map_err(|error| self.failed(&error))
    }

    pub(super) fn failed(&self, error: &SourceError) -> Retry {
        let (link, shop) = (&self.link, &self.shop);
        match error.disposition {
            Disposition::Retry => {
                tracing::debug!(%link, %error, "shop [{shop}]: the catalogue cannot be read ({error}), retrying later");
                Retry::Soon
            }
            Disposition::RateLimited { retry_after } => {
                tracing::debug!(%link, %error, "shop [{shop}]: the catalogue must wait ({error})");
                retry_after.map_or(Retry::Soon, Retry::After)
            }
            // The page finds out whether the token is dead, and parks the link.
            Disposition::Park(_) => {
                tracing::debug!(%link, %error, "shop [{shop}]: the catalogue is refused ({error}), the token is checked");
                let _ = self.page.cast(PageMsg::Check(self.generation));
                Retry::After(LATER)
            }
            Disposition::Misconfigured => Retry::After(LATER),
            Disposition::Rejected => {
                tracing::warn!(%link, %error, "shop [{shop}]: Shopify refuses to show a part of the catalogue ({error})");
                Retry::After(MUCH_LATER)
            }
        }
    }

    /// What the envelope of an object read now says.
    pub(super) fn envelope<'a>(&'a self, api_version: &'a str, cause: Cause) -> Envelope<'a> {
        Envelope { user: self.link.user, shop: &self.shop, fetched_at: WallTime::now(), cause, api_version }
    }
}
