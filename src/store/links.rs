//! Links in the store: looking at them, and noting what was learned of one.

use std::sync::Arc;

use super::api::{Counts, Link, LinkView, Unavailable};
use super::inner::Store;
use super::records::{self, LinkRecord};
use crate::core::health::{Evidence, ParkReason};
use crate::core::model::{Generation, LinkKey, PageId};

impl Store {
    /// All links, in the order of their keys.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn links(&self) -> Result<Vec<LinkKey>, Unavailable> {
        self.look(|state| state.links.keys().cloned().collect()).await
    }

    /// The links of one page.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn links_of_page(&self, page: &PageId) -> Result<Vec<LinkKey>, Unavailable> {
        self.look(|state| state.links.of_id(&page.clone().into())).await
    }

    /// A link with its token; `None` when it is not linked.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn link(&self, key: &LinkKey) -> Result<Option<Link>, Unavailable> {
        let record = self.look(|state| state.links.get(key).cloned()).await?;
        Ok(record.map(|record| {
            let token = records::open_token(&self.inner.keyring(), &records::link_context(key), &record.token);
            Link { key: key.clone(), record, token }
        }))
    }

    /// One link as lists show it; `None` when it is not linked.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn view(&self, key: &LinkKey) -> Result<Option<LinkView>, Unavailable> {
        self.look(|state| state.view(key)).await
    }

    /// Is there a link whose token was there when the process started, and whose page was subscribed?
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn was_subscribed(&self) -> Result<bool, Unavailable> {
        let earlier = |link: &Arc<LinkRecord>| self.was_there(link.generation) && !link.subscribed.is_empty();
        self.look(|state| state.links.records().any(earlier)).await
    }

    /// Every link as lists show it, in the order of their keys.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn views(&self) -> Result<Vec<LinkView>, Unavailable> {
        self.look(|state| state.links.keys().filter_map(|key| state.view(key)).collect()).await
    }

    /// Counts for `status` and metrics.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn counts(&self) -> Result<Counts, Unavailable> {
        let now = self.now();
        self.look(|state| state.counts(now)).await
    }

    /// The generation of the token that a link has; `None` when it is not linked.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn generation(&self, key: &LinkKey) -> Result<Option<Generation>, Unavailable> {
        self.look(|state| state.links.generation(key)).await
    }

    /// Was a token of this generation there when the process started?
    pub fn was_there(&self, generation: Generation) -> bool {
        generation.0 <= self.inner.opened_at
    }

    /// Changes a link's record for something that was learned with the token of this generation. Returns whether the
    /// link still has that token; with another, or when it is not linked, nothing is changed.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn update_link(
        &self,
        key: &LinkKey,
        generation: Generation,
        change: impl FnOnce(&mut LinkRecord),
    ) -> Result<bool, Unavailable> {
        self.commit(|state, txn| {
            let holds = state.links.generation(key) == Some(generation);
            if holds {
                state.update_link(txn, key, change);
            }
            holds
        })
        .await
    }

    /// Parks a link for something that was found out with the token of this generation; a link that is parked already
    /// keeps its reason. Durable, because a parked link must not call Graph after a restart either. Returns whether the
    /// link still has that token; with another it is left as it is.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn park_link(&self, key: &LinkKey, generation: Generation, why: ParkReason) -> Result<bool, Unavailable> {
        let now = self.now();
        let park = |record: &mut LinkRecord| record.health = record.health.after(Evidence::Found(why), now);
        self.update_link(key, generation, park).await
    }
}
