//! Links in the store: looking at them, and noting what was learned of one.

use super::records::{self, LinkRecord};
use super::{Counts, Link, LinkView, Store, Unavailable, seal};
use crate::health::{Event, Why};
use crate::model::{LinkKey, Millis, PageId};

impl Store {
    /// All links, in the order of their keys.
    pub fn links(&self) -> Vec<LinkKey> {
        self.lock().all_links()
    }

    /// The links of one page.
    pub fn links_of_page(&self, page: &PageId) -> Vec<LinkKey> {
        self.lock().links_of(page)
    }

    /// A link with its token opened; `None` when it is not linked.
    ///
    /// # Errors
    /// The token cannot be opened: sealed with a key that is not configured, or damaged.
    pub fn link(&self, key: &LinkKey) -> Result<Option<Link>, seal::SealError> {
        let record = self.lock().record(key);
        let Some(record) = record else { return Ok(None) };
        let token = records::open_token(&self.inner.keyring(), &records::link_context(key), &record.token)?;
        Ok(Some(Link { key: key.clone(), record, token }))
    }

    /// One link as lists show it.
    pub fn view(&self, key: &LinkKey) -> Option<LinkView> {
        self.lock().view(key)
    }

    /// Is there a link of which this holds?
    pub fn any_link(&self, holds: impl Fn(&LinkRecord) -> bool) -> bool {
        self.lock().any_record(holds)
    }

    /// Every link as lists show it, in the order of their keys.
    pub fn views(&self) -> Vec<LinkView> {
        let core = self.lock();
        core.all_links().iter().filter_map(|key| core.view(key)).collect()
    }

    /// Counts for `status` and metrics.
    pub fn counts(&self) -> Counts {
        self.lock().counts()
    }

    /// Changes a link's record; nothing happens when it is not linked.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn update_link(&self, key: &LinkKey, change: impl FnOnce(&mut LinkRecord)) -> Result<(), Unavailable> {
        self.commit(|core| core.update_record(key, change)).await
    }

    /// Parks a link for what was found out with the token of the linking at `linked_at`; a link that has a newer token,
    /// or that is parked already, is left as it is. Durable, because a parked link must not call Graph after a restart
    /// either.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn park_link(&self, key: &LinkKey, linked_at: Millis, why: Why) -> Result<(), Unavailable> {
        let park = |record: &mut LinkRecord| record.health = record.health.after(Event::Found(why), Millis::now());
        self.update_linking(key, linked_at, park).await?;
        self.note_progress();
        Ok(())
    }

    /// Like [`Store::update_link`], for what was learned of the token of the linking at `linked_at`; a link that has a
    /// newer token is left as it is.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn update_linking(
        &self,
        key: &LinkKey,
        linked_at: Millis,
        change: impl FnOnce(&mut LinkRecord),
    ) -> Result<(), Unavailable> {
        self.update_link(key, |record| {
            if record.linked_at == linked_at {
                change(record);
            }
        })
        .await
    }
}
