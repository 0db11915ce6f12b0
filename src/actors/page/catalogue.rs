//! The catalogue of a linked shop: products, collections and their index, each an object of its own. It is followed by a
//! task of the shop's page, beside the jobs that the page's machine decides on.
//!
//! | loop | what it does |
//! |---|---|
//! | [`changes`] | reads the parts that are marked, and stages what is new |
//! | [`walks`] | asks which products changed, and sweeps over all of them by bulk operation; marks what it finds |
//! | [`objects`] | at the end of a sweep, compares the objects in Spaces with what was written there |
//! | [`listing`] | writes the index when its products are written, and deletes the object of a product that is gone when the index does not name it any more |
//!
//! A mark is durable, and stands until a read has answered for it. So each loop may end at any moment and begin again: what
//! it had in hand is marked, or found by the next walk.
//!
//! The task holds no token. Each call takes the shop's token of that moment. Where the shop refuses it, the page is asked to
//! check the link, which parks it or finds a good token; a page that is parked has no such task.

mod changes;
mod listing;
mod objects;
mod walks;

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use ractor::ActorRef;
use tokio::sync::watch;

use super::message::PageMsg;
use crate::actors::{Owned, STORE_RETRY, jitter};
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
const MUCH_LATER: Duration = Duration::from_secs(60 * 60);

/// The task that follows a catalogue. It ends when this is dropped.
pub(super) struct Follower {
    /// The generation of the link's token for which it began.
    pub(super) generation: Generation,
    wake: watch::Sender<u64>,
    hurry: Arc<AtomicBool>,
    _task: Owned,
}

impl Follower {
    /// Follows the catalogue of this link; `None` for a link that is none of a shop. The page gets
    /// [`PageMsg::CatalogueBroke`] if the task panics.
    pub(super) fn begin(
        context: &Arc<Context>,
        link: &LinkKey,
        generation: Generation,
        page: &ActorRef<PageMsg>,
    ) -> Option<Follower> {
        let shop = link.shop()?.clone();
        let (wake, hurry) = (watch::Sender::new(0), Arc::new(AtomicBool::new(false)));
        let catalogue = Catalogue {
            context: context.clone(),
            link: link.clone(),
            shop,
            generation,
            page: page.clone(),
            wake: wake.clone(),
            hurry: hurry.clone(),
            is_sweeping: AtomicBool::new(false),
            gone: Mutex::default(),
        };
        let page = page.clone();
        let task = async move {
            if AssertUnwindSafe(catalogue.follow()).catch_unwind().await.is_err() {
                // A page that is gone needs no answer.
                let _ = page.cast(PageMsg::CatalogueBroke(generation));
            }
        };
        Some(Follower { generation, wake, hurry, _task: Owned(tokio::spawn(task)) })
    }

    /// Something may be due.
    pub(super) fn wake(&self) {
        self.wake.send_modify(|times| *times += 1);
    }

    /// Somebody waits for the newest state: what changed is asked for now.
    pub(super) fn hurry(&self) {
        self.hurry.store(true, Ordering::Relaxed);
        self.wake();
    }
}

/// What the loops share.
struct Catalogue {
    context: Arc<Context>,
    link: LinkKey,
    shop: ShopName,
    generation: Generation,
    page: ActorRef<PageMsg>,
    wake: watch::Sender<u64>,
    hurry: Arc<AtomicBool>,
    is_sweeping: AtomicBool,
    /// Products that the shop has no more, and which have left the rows of the index: each with its claim, whose mark stands
    /// until the delete is staged.
    gone: Mutex<Vec<ReadClaim>>,
}

/// Why something is to be tried again, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Retry {
    /// With a backoff.
    Soon,
    /// After this.
    After(Duration),
}

impl Retry {
    /// How long to wait after so many failures in a row.
    fn wait(self, failures: u32) -> Duration {
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
    async fn follow(&self) {
        tokio::join!(changes::follow(self), walks::follow(self), listing::follow(self));
    }

    /// Waits until something may be due, at most so long. Never ends while the daemon stops: nothing is begun any more.
    async fn wait(&self, woken: &mut watch::Receiver<u64>, most: Duration) {
        // It fails only if the sender is gone, which is in here.
        let _ = tokio::time::timeout(most, woken.changed()).await;
        if self.context.is_stopping() {
            std::future::pending::<()>().await;
        }
    }

    fn woken(&self) -> watch::Receiver<u64> {
        self.wake.subscribe()
    }

    fn wake(&self) {
        self.wake.send_modify(|times| *times += 1);
    }

    /// Calls Shopify with the token of this moment.
    async fn call<T>(
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

    fn failed(&self, error: &SourceError) -> Retry {
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
    fn envelope<'a>(&'a self, api_version: &'a str, cause: Cause) -> Envelope<'a> {
        Envelope { user: self.link.user, shop: &self.shop, fetched_at: WallTime::now(), cause, api_version }
    }
}
