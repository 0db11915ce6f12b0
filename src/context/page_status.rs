//! What each page says of itself beside what the store knows: plain data, which the pages write and the routes read.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use crate::core::model::{LinkKey, MonoTime};

/// What a page says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PageStatus {
    /// The next poll, unless a person must act first.
    pub next_poll_at: Option<MonoTime>,
    /// A transient trouble: the last read's error, until one succeeds.
    pub trouble: Option<String>,
    /// A limit holds the page back until then.
    pub throttled_until: Option<MonoTime>,
    /// Reads that ended, with or without success.
    pub reads: u64,
}

type Slot = Arc<Mutex<PageStatus>>;

/// The status of every page. A page has one from its start to its end.
#[derive(Debug, Default)]
pub struct PageStatusMap {
    slots: RwLock<HashMap<LinkKey, Slot>>,
}

fn lock(slot: &Slot) -> MutexGuard<'_, PageStatus> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}

impl PageStatusMap {
    /// The page of this link starts, with nothing to say yet.
    pub fn begin(&self, link: LinkKey) {
        self.slots.write().unwrap_or_else(PoisonError::into_inner).insert(link, Slot::default());
    }

    /// The page of this link is gone.
    pub fn end(&self, link: &LinkKey) {
        self.slots.write().unwrap_or_else(PoisonError::into_inner).remove(link);
    }

    /// Changes the status of a page. A page that is gone has none.
    pub fn update(&self, link: &LinkKey, change: impl FnOnce(&mut PageStatus)) {
        if let Some(slot) = self.slot(link) {
            change(&mut lock(&slot));
        }
    }

    /// The status of a page; `None` while the link has no page.
    pub fn find(&self, link: &LinkKey) -> Option<PageStatus> {
        self.slot(link).map(|slot| lock(&slot).clone())
    }

    /// How many links have a page.
    pub fn count(&self) -> usize {
        self.slots.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// The links whose pages a limit holds back at this moment.
    pub fn throttled(&self, now: MonoTime) -> Vec<LinkKey> {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        let held = |slot: &Slot| lock(slot).throttled_until.is_some_and(|until| until > now);
        slots.iter().filter(|(_, slot)| held(slot)).map(|(link, _)| link.clone()).collect()
    }

    fn slot(&self, link: &LinkKey) -> Option<Slot> {
        self.slots.read().unwrap_or_else(PoisonError::into_inner).get(link).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::model::UserId;

    #[test]
    fn a_page_that_is_gone_leaves_no_status() {
        let (map, link) = (PageStatusMap::default(), LinkKey::new(UserId::random(), "7".parse().unwrap()));
        map.begin(link.clone());
        map.update(&link, |status| status.throttled_until = Some(MonoTime(20)));
        assert_eq!(map.throttled(MonoTime(10)), std::slice::from_ref(&link));
        assert!(map.throttled(MonoTime(20)).is_empty());
        map.end(&link);
        map.update(&link, |status| status.reads += 1);
        assert_eq!((map.find(&link), map.count()), (None, 0));
    }
}
