//! The feed: what the store publishes when a decision is durable, and the only way in which one part of the daemon
//! learns of another's decision.
//!
//! A decision collects its [`Change`]s beside its writes. The committer publishes them when the writes are durable,
//! before it answers the caller; a decision that needed no write publishes at once. So a caller that gave up meanwhile
//! (a delivery answered 503 after a slow disk) changes nothing: whoever is concerned is woken all the same. A commit
//! that fails publishes nothing, and [`Change::Reset`] follows when the store was opened again.
//!
//! A change names a link and carries no state of it. Its reader looks into the store, so that a change that comes late
//! cannot bring back an earlier state.
//!
//! Changes coalesce until they are read: one entry for each link, with the parts of it that wait for Spaces; one flag
//! for all cleanups; one entry for each event key. So the feed is bounded by links, however long its reader is away.
//! There is one reader, the dispatcher; [`Feed::changed`] is a counter beside it for those who wait until an object is
//! complete or a link is parked.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};

use crate::core::event::EventKey;
use crate::core::model::{Cause, Generation, LinkKey, Part, PartKey};

/// One thing that changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// A read of this link is owed, and no read answers for it.
    Due(LinkKey, Cause),
    /// A hint stands that the token of this link is to be checked.
    TokenCheck(LinkKey),
    /// The token of this generation and the page's subscription are to be checked now. Not durable: a restart checks
    /// in any case.
    Recheck(LinkKey, Generation),
    /// Spaces may not hold what was last written for this link.
    Verify(LinkKey),
    /// This link is new, or has a new token.
    Linked(LinkKey),
    /// This link is gone.
    Unlinked(LinkKey),
    /// This link waits for a person.
    Parked(LinkKey),
    /// The object of this part waits for Spaces.
    Outbox(PartKey),
    /// Nothing is owed to this link for what was read last. Only [`Feed::changed`] shows it.
    Completed(LinkKey),
    /// The cleanups are other ones than before.
    Cleanup,
    /// An event of this key waits.
    Event(EventKey),
    /// A daemon of the cluster says that Graph has blocked the app for so many milliseconds. Not durable: whoever starts
    /// later is refused by Graph itself.
    AppBlocked(u64),
    /// The store was opened again: everything may be different.
    Reset,
}

/// Does a link have a page?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// It was made, or got a new token.
    Linked,
    /// It was removed.
    Unlinked,
}

/// What changed about one link.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LinkChanges {
    /// Whether it was made or removed last.
    pub presence: Option<Presence>,
    /// The causes of reads that are owed.
    pub causes: Vec<Cause>,
    /// A hint stands.
    pub token_check: bool,
    /// The token of this generation is to be checked now.
    pub recheck: Option<Generation>,
    /// The object is to be compared.
    pub verify: bool,
    /// It waits for a person.
    pub parked: bool,
    /// The parts whose outbox entries are new.
    pub outbox: BTreeSet<Part>,
}

/// What changed since the reader looked last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// By link.
    pub links: BTreeMap<LinkKey, LinkChanges>,
    /// The cleanups are other ones.
    pub cleanup: bool,
    /// Keys in which events wait.
    pub events: BTreeSet<EventKey>,
    /// For how many milliseconds Graph has blocked the app, as another daemon says.
    pub app_blocked: Option<u64>,
    /// The store was opened again.
    pub reset: bool,
}

impl Batch {
    fn is_empty(&self) -> bool {
        *self == Batch::default()
    }

    fn add(&mut self, change: Change) {
        match change {
            Change::Due(link, cause) => {
                let causes = &mut self.link(link).causes;
                if !causes.contains(&cause) {
                    causes.push(cause);
                }
            }
            Change::TokenCheck(link) => self.link(link).token_check = true,
            Change::Recheck(link, generation) => {
                let recheck = &mut self.link(link).recheck;
                *recheck = (*recheck).max(Some(generation));
            }
            Change::Verify(link) => self.link(link).verify = true,
            Change::Linked(link) => self.link(link).presence = Some(Presence::Linked),
            Change::Unlinked(link) => {
                // The rest was about the link that is gone; its object still waits.
                let standing = self.link(link);
                let (presence, outbox) = (Some(Presence::Unlinked), std::mem::take(&mut standing.outbox));
                *standing = LinkChanges { presence, outbox, ..LinkChanges::default() };
            }
            Change::Parked(link) => self.link(link).parked = true,
            Change::Outbox(PartKey { link, part }) => drop(self.link(link).outbox.insert(part)),
            Change::Completed(_) => {}
            Change::Cleanup => self.cleanup = true,
            Change::Event(key) => drop(self.events.insert(key)),
            Change::AppBlocked(millis) => self.app_blocked = self.app_blocked.max(Some(millis)),
            Change::Reset => self.reset = true,
        }
    }

    fn link(&mut self, link: LinkKey) -> &mut LinkChanges {
        self.links.entry(link).or_default()
    }
}

/// The feed; clones share it.
#[derive(Clone, Default)]
pub struct Feed {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    pending: Mutex<Batch>,
    wake: Notify,
    changed: watch::Sender<u64>,
}

impl Feed {
    /// Publishes changes that are durable.
    pub(crate) fn publish(&self, changes: Vec<Change>) {
        if self.publish_quietly(changes) {
            self.wake();
        }
    }

    /// The reader finds what was published.
    pub(super) fn wake(&self) {
        self.inner.wake.notify_one();
    }

    /// The same as [`Feed::publish`], and leaves it to the caller to wake the reader. Returns whether there is something
    /// for it.
    #[must_use]
    pub(super) fn publish_quietly(&self, changes: Vec<Change>) -> bool {
        if changes.is_empty() {
            return false;
        }
        let awaited = |change: &Change| {
            matches!(change, Change::Completed(_) | Change::Parked(_) | Change::Unlinked(_) | Change::Reset)
        };
        let is_awaited = changes.iter().any(awaited);
        let has_work = {
            let mut pending = self.pending();
            changes.into_iter().for_each(|change| pending.add(change));
            !pending.is_empty()
        };
        if is_awaited {
            self.inner.changed.send_modify(|n| *n += 1);
        }
        has_work
    }

    /// Everything that changed since the last batch; waits while that is nothing. For one reader at a time: what a
    /// batch holds is not published again, so a reader that loses one looks into the store as after a reset.
    pub async fn next(&self) -> Batch {
        loop {
            let batch = std::mem::take(&mut *self.pending());
            if !batch.is_empty() {
                return batch;
            }
            self.inner.wake.notified().await;
        }
    }

    /// Changes whenever an object is complete, or a link is parked or removed.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.inner.changed.subscribe()
    }

    fn pending(&self) -> std::sync::MutexGuard<'_, Batch> {
        self.inner.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::model::UserId;

    fn link(n: u64) -> LinkKey {
        LinkKey::new(UserId(uuid::Uuid::nil()), n.to_string().parse().unwrap())
    }

    #[tokio::test]
    async fn changes_of_a_link_coalesce_until_they_are_read() {
        let feed = Feed::default();
        for _ in 0..1000 {
            feed.publish(vec![
                Change::Due(link(1), Cause::Webhook),
                Change::Due(link(1), Cause::Manual),
                Change::Recheck(link(1), Generation(7)),
                Change::Recheck(link(1), Generation(6)),
                Change::Cleanup,
                Change::Event(EventKey::Link(link(1))),
            ]);
        }
        let batch = feed.next().await;
        let causes = vec![Cause::Webhook, Cause::Manual];
        let expected = LinkChanges { causes, recheck: Some(Generation(7)), ..LinkChanges::default() };
        assert_eq!(batch.links, BTreeMap::from([(link(1), expected)]));
        assert!(batch.cleanup && batch.events.len() == 1 && !batch.reset);
        assert!(feed.pending().is_empty());
    }

    #[tokio::test]
    async fn what_was_said_of_a_link_that_is_gone_goes_and_its_object_stays() {
        let feed = Feed::default();
        feed.publish(vec![Change::Outbox(link(1).whole()), Change::Parked(link(1)), Change::Due(link(1), Cause::Poll)]);
        feed.publish(vec![Change::Unlinked(link(1))]);
        let gone = LinkChanges {
            presence: Some(Presence::Unlinked),
            outbox: BTreeSet::from([Part::whole()]),
            ..LinkChanges::default()
        };
        assert_eq!(feed.next().await.links[&link(1)], gone);
        feed.publish(vec![Change::Unlinked(link(1)), Change::Linked(link(1))]);
        assert_eq!(feed.next().await.links[&link(1)].presence, Some(Presence::Linked));
    }

    #[tokio::test]
    async fn a_reader_that_waits_is_woken_and_a_completion_shows_in_the_counter_alone() {
        let feed = Feed::default();
        let mut changed = feed.changed();
        feed.publish(vec![Change::Completed(link(1))]);
        assert!(changed.has_changed().unwrap() && feed.pending().is_empty());
        changed.mark_unchanged();
        let (reader, before) = (feed.clone(), feed.clone());
        let reading = tokio::spawn(async move { reader.next().await });
        tokio::task::yield_now().await;
        before.publish(vec![Change::Reset]);
        assert!(reading.await.unwrap().reset && changed.has_changed().unwrap());
    }
}
