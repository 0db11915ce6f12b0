//! Links in the store: looking at them, and noting what was learned of one.

use std::sync::Arc;

use super::api::{Counts, Link, LinkView, Unavailable};
use super::inner::Store;
use super::records::{self, LinkRecord, ShopRecord};
use super::seal::Keyring;
use super::state::State;
use crate::core::health::{Evidence, ParkReason};
use crate::core::model::{Generation, LinkKey, PageId, SourceId, UserId};

/// A link as it lies in memory, with the record of its shop where it is one of a shop.
type Found = (LinkKey, Arc<LinkRecord>, Option<Arc<ShopRecord>>);

fn found(state: &State, key: &LinkKey) -> Option<Found> {
    let record = state.links.get(key)?.clone();
    Some((key.clone(), record, key.shop().and_then(|shop| state.shops.get(shop).cloned())))
}

fn opened(keyring: &Keyring, (key, record, shop): Found) -> Link {
    let token = match (key.shop(), &shop) {
        (Some(name), Some(shop)) => records::open_pair(keyring, name, &shop.pair).map(|pair| pair.access),
        _ => records::open_token(keyring, &records::link_context(&key), &record.token),
    };
    Link { key, record, token }
}

/// Links that are looked at in one go.
const AT_ONCE: usize = 500;

impl Store {
    /// So many links, in the order of their keys, from the one behind `after` on. Fewer than `most` are the last ones.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn links_after(&self, after: Option<LinkKey>, most: usize) -> Result<Vec<LinkKey>, Unavailable> {
        self.look(|state| state.links.after(after.as_ref()).take(most).map(|(key, _)| key.clone()).collect()).await
    }

    /// Like [`Store::links_after`], with the tokens, which are opened away from the async workers.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn opened_after(&self, after: Option<LinkKey>, most: usize) -> Result<Vec<Link>, Unavailable> {
        self.off_worker(move |store| {
            let links: Vec<Found> = {
                let state = &store.lock().state;
                state.links.after(after.as_ref()).take(most).filter_map(|(key, _)| found(state, key)).collect()
            };
            let keyring = store.inner.keyring();
            links.into_iter().map(|link| opened(&keyring, link)).collect()
        })
        .await
    }

    /// All links, in the order of their keys: for tests and tools that have few.
    ///
    /// # Errors
    /// [`Unavailable`].
    #[doc(hidden)]
    pub async fn links(&self) -> Result<Vec<LinkKey>, Unavailable> {
        self.links_after(None, usize::MAX).await
    }

    /// The links of one page.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn links_of_page(&self, page: &PageId) -> Result<Vec<LinkKey>, Unavailable> {
        self.look(|state| state.links.of_id(&page.clone().into())).await
    }

    /// The links of one id, of every user.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn links_of_id(&self, id: &SourceId) -> Result<Vec<LinkKey>, Unavailable> {
        self.look(|state| state.links.of_id(id)).await
    }

    /// A link with its token; `None` when it is not linked.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn link(&self, key: &LinkKey) -> Result<Option<Link>, Unavailable> {
        let link = self.look(|state| found(state, key)).await?;
        Ok(link.map(|link| opened(&self.inner.keyring(), link)))
    }

    /// The links of a user, as lists show them.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn views_of_user(&self, user: UserId) -> Result<Vec<LinkView>, Unavailable> {
        self.look(|state| {
            let keys: Vec<LinkKey> = state.links.of_user(user).cloned().collect();
            keys.iter().filter_map(|key| state.view(key)).collect()
        })
        .await
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
        let earlier = |record: &LinkRecord| self.was_there(record.generation) && !record.subscribed.is_empty();
        let mut after = None;
        loop {
            let looked = self.look(|state| {
                let mut last = None;
                for (link, record) in state.links.after(after.as_ref()).take(AT_ONCE) {
                    if earlier(record) {
                        return Some(None);
                    }
                    last = Some(link.clone());
                }
                last.map(Some)
            });
            match looked.await? {
                None => return Ok(false),
                Some(None) => return Ok(true),
                Some(last) => after = last,
            }
            tokio::task::yield_now().await;
        }
    }

    /// So many links as lists show them, in the order of their keys, from the one behind `after` on. Fewer than `most`
    /// are the last ones.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn views_after(&self, after: Option<LinkKey>, most: usize) -> Result<Vec<LinkView>, Unavailable> {
        self.look(|state| state.links.after(after.as_ref()).take(most).map(|link| state.view_of(link)).collect()).await
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
