//! Links in the store: looking at them, and noting what was learned of one.

use super::api::{Counts, Link, LinkView, Unavailable};
use super::inner::Store;
use super::records::{self, LinkRecord};
use super::seal;
use crate::core::health::{Evidence, ParkReason};
use crate::core::model::{Generation, LinkKey, PageId};

impl Store {
    /// All links, in the order of their keys.
    pub fn links(&self) -> Vec<LinkKey> {
        self.lock().state.links.keys().cloned().collect()
    }

    /// The links of one page.
    pub fn links_of_page(&self, page: &PageId) -> Vec<LinkKey> {
        self.lock().state.links.of_id(&page.clone().into())
    }

    /// A link with its token opened; `None` when it is not linked.
    ///
    /// # Errors
    /// The token cannot be opened: sealed with a key that is not configured, or damaged.
    pub fn link(&self, key: &LinkKey) -> Result<Option<Link>, seal::SealError> {
        let record = self.lock().state.links.get(key).cloned();
        let Some(record) = record else { return Ok(None) };
        let token = records::open_token(&self.inner.keyring(), &records::link_context(key), &record.token)?;
        Ok(Some(Link { key: key.clone(), record, token }))
    }

    /// One link as lists show it.
    pub fn view(&self, key: &LinkKey) -> Option<LinkView> {
        self.lock().state.view(key)
    }

    /// Is there a link of which this holds?
    pub fn any_link(&self, holds: impl Fn(&LinkRecord) -> bool) -> bool {
        self.lock().state.links.records().any(|record| holds(record))
    }

    /// Every link as lists show it, in the order of their keys.
    pub fn views(&self) -> Vec<LinkView> {
        let state = &self.lock().state;
        state.links.keys().filter_map(|key| state.view(key)).collect()
    }

    /// Counts for `status` and metrics.
    pub fn counts(&self) -> Counts {
        self.lock().state.counts(self.now())
    }

    /// The generation of the token that a link has; `None` when it is not linked.
    pub fn generation(&self, key: &LinkKey) -> Option<Generation> {
        self.lock().state.links.generation(key)
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
