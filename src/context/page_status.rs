//! What each page says of itself beside what the store knows: plain data, which the pages write and the routes read.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use super::trail::Trail;
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
    /// The deliveries that its next read and its next write follow from.
    pub trail: Option<Box<Trail>>,
}

type Slot = Arc<Mutex<PageStatus>>;

/// The status of every page. A page has one from its start to its end.
#[derive(Debug, Default)]
pub struct PageStatusMap {
    slots: RwLock<HashMap<LinkKey, Slot>>,
    /// The pages that a limit holds back, by the end of that; so that nobody goes through all pages to find them.
    /// Changed under the lock of the slots.
    held: Mutex<BTreeSet<(MonoTime, LinkKey)>>,
}

fn lock(slot: &Slot) -> MutexGuard<'_, PageStatus> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}

impl PageStatusMap {
    /// The page of this link starts, with nothing to say yet.
    pub fn begin(&self, link: LinkKey) {
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        let before = slots.insert(link.clone(), Slot::default());
        self.note_held(&link, before.and_then(|slot| lock(&slot).throttled_until), None);
    }

    /// The page of this link is gone.
    pub fn end(&self, link: &LinkKey) {
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        let before = slots.remove(link);
        self.note_held(link, before.and_then(|slot| lock(&slot).throttled_until), None);
    }

    fn note_held(&self, link: &LinkKey, before: Option<MonoTime>, after: Option<MonoTime>) {
        if before == after {
            return;
        }
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = before {
            held.remove(&(before, link.clone()));
        }
        held.extend(after.map(|after| (after, link.clone())));
    }

    /// Changes the status of a page. A page that is gone has none.
    pub fn update(&self, link: &LinkKey, change: impl FnOnce(&mut PageStatus)) {
        // Held until the end: a page that goes meanwhile would leave an entry behind.
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        let Some(slot) = slots.get(link) else { return };
        let mut status = lock(slot);
        let before = status.throttled_until;
        change(&mut status);
        self.note_held(link, before, status.throttled_until);
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
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        // The latest ends come first; a limit that is over stays behind them until the page has looked.
        held.iter().rev().take_while(|(until, _)| *until > now).map(|(_, link)| link.clone()).collect()
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
        map.update(&link, |status| status.throttled_until = Some(MonoTime(30)));
        assert_eq!((map.find(&link), map.count()), (None, 0));
        assert!(map.throttled(MonoTime(10)).is_empty() && map.held.lock().unwrap().is_empty());
    }

    #[test]
    fn the_pages_that_a_limit_holds_back_are_those_of_a_scan() {
        let map = PageStatusMap::default();
        let links: Vec<LinkKey> =
            (1..6u64).map(|n| LinkKey::new(UserId::random(), n.to_string().parse().unwrap())).collect();
        links.iter().for_each(|link| map.begin(link.clone()));
        for (step, until) in [3u64, 0, 9, 5, 5, 0, 7, 2, 9, 0, 4, 8].into_iter().enumerate() {
            let link = &links[step % links.len()];
            match step {
                7 => map.end(link),
                8 => map.begin(link.clone()),
                _ => map.update(link, |status| status.throttled_until = (until > 0).then_some(MonoTime(until))),
            }
            for now in (0..10).map(MonoTime) {
                let is_held = |link: &&LinkKey| {
                    map.find(link).and_then(|status| status.throttled_until).is_some_and(|until| until > now)
                };
                let scanned: BTreeSet<&LinkKey> = links.iter().filter(is_held).collect();
                assert_eq!(map.throttled(now).iter().collect::<BTreeSet<_>>(), scanned, "{step}");
            }
        }
    }
}
