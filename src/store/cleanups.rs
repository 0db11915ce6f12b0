//! Cleanups in the store: noted with the decision that needs them, made void by a linking, taken away when they are over.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::codec;
use super::engine::Tree;
use super::feed::Change;
use super::records::{CleanupRecord, LinkRecord, Sealed, cleanup_context, link_context, open_token, seal_token};
use super::seal::Keyring;
use super::state::State;
use super::{Left, Store, Unavailable};
use crate::core::cleanup::{Cleanup, GIVE_UP, StandingCleanup};
use crate::core::grant::Reach;
use crate::core::model::{AppUserId, LinkKey, PartKey, Secret, WallTime};

/// A cleanup waits no longer than this for its first try, whatever the clock did meanwhile.
const LONGEST_WAIT: std::time::Duration = std::time::Duration::from_secs(60 * 60);

/// The token of a cleanup, its person, and when that person granted it.
pub(super) struct Needs {
    pub person: Option<AppUserId>,
    pub token: Secret,
    pub granted_at: WallTime,
}

/// May a cleanup be tried now?
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ready {
    /// It may, with this token.
    Yes(Secret),
    /// It was overtaken, or waits for another.
    NotYet,
    /// Its token does not open.
    Never,
}

impl State {
    fn put_cleanup(&mut self, cleanup: Cleanup, record: CleanupRecord) {
        self.write(Tree::Cleanups, cleanup.to_bytes(), Some(codec::encode(&record)));
        let token = record.token.clone();
        self.publish(Change::Cleanup);
        let before = self.cleanups.insert(cleanup, Arc::new(record));
        if before.is_some_and(|before| before.token != token && before.token != Sealed::default()) {
            self.ask_for_erasure();
        }
    }

    fn remove_cleanup(&mut self, cleanup: &Cleanup) {
        if self.cleanups.remove(cleanup).is_some() {
            self.write(Tree::Cleanups, cleanup.to_bytes(), None);
            self.publish(Change::Cleanup);
        }
    }

    /// Notes a cleanup that needs this token.
    pub(super) fn note_cleanup(&mut self, keyring: &Keyring, cleanup: Cleanup, needs: Needs) {
        let (now, seq) = (WallTime::now(), self.next_seq());
        let Needs { person, token, granted_at } = needs;
        let token = seal_token(keyring, &cleanup_context(&cleanup), &token);
        let record = CleanupRecord { seq, asked_at: now, not_before: now, person, granted_at, token, void: false };
        self.put_cleanup(cleanup, record);
    }

    /// The last link of a page went, and this was its record: the page is to be unsubscribed. A token that cannot be
    /// opened is of no use for that.
    pub(super) fn note_unsubscribe(&mut self, keyring: &Keyring, link: &LinkKey, record: &LinkRecord) {
        if !self.links_of(&link.id).is_empty() {
            return;
        }
        match open_token(keyring, &link_context(link), &record.token) {
            Ok(token) => {
                let cleanup = Cleanup::Unsubscribe(link.page().clone());
                let (person, granted_at) = (record.facebook_user.clone(), record.grant_time());
                self.note_cleanup(keyring, cleanup, Needs { person, token, granted_at });
            }
            Err(error) => tracing::warn!(
                %link,
                %error,
                "cleanup [{link}]: the token cannot be opened ({error}), the page stays subscribed at Meta; its \
                 deliveries are dropped"
            ),
        }
    }

    /// What a write or a delete left behind; a delete was of an object that was this person's.
    pub(super) fn note_left(&mut self, part: &PartKey, person: &Option<AppUserId>, left: &Left) {
        if let Some(not_before) = left.straggler_until {
            let (asked_at, seq) = (WallTime::now(), self.next_seq());
            let person = person.clone().or_else(|| self.record(&part.link)?.facebook_user.clone());
            let record = CleanupRecord { seq, asked_at, not_before, person, ..CleanupRecord::default() };
            self.put_cleanup(Cleanup::DeleteAgain(part.clone()), record);
        }
        self.object_is_settled(&part.link, left.versions_unknown);
    }

    /// These pages, and this person, are linked: what was left to do about them is void.
    pub(super) fn void_cleanups(&mut self, links: &[LinkKey], person: Option<&AppUserId>) {
        let pages = links.iter().map(|link| Cleanup::Unsubscribe(link.page().clone()));
        let people: BTreeSet<AppUserId> =
            links.iter().filter_map(|link| self.record(link)?.facebook_user.clone()).chain(person.cloned()).collect();
        for cleanup in pages.chain(people.into_iter().map(Cleanup::Revoke)) {
            let standing = self.cleanups.get(&cleanup).filter(|record| !record.void).cloned();
            if let Some(record) = standing {
                self.put_cleanup(cleanup, CleanupRecord { void: true, ..(*record).clone() });
            }
        }
    }

    /// Removes every token that this person granted within the reach, even one that would end a subscription. A call that
    /// was begun with it may still take effect on links that others make meanwhile, so the record stays and is void.
    pub(super) fn drop_cleanups_of(&mut self, person: &AppUserId, reach: Reach, now: WallTime) {
        let theirs = |(_, record): &(&Cleanup, &Arc<CleanupRecord>)| {
            record.person.as_ref() == Some(person) && reach.covers(record.granted_at, now)
        };
        let theirs: Vec<(Cleanup, u64)> =
            self.cleanups.iter().filter(theirs).map(|(cleanup, record)| (cleanup.clone(), record.seq)).collect();
        for (cleanup, seq) in theirs {
            match cleanup {
                Cleanup::Unsubscribe(_) => {
                    self.put_cleanup(cleanup, CleanupRecord { seq, void: true, ..Default::default() })
                }
                Cleanup::Revoke(_) => self.remove_cleanup(&cleanup),
                // It needs no token, and a deletion waits for it.
                Cleanup::DeleteAgain(_) => {}
            }
        }
    }

    /// Is a token of this person kept for a cleanup?
    pub(super) fn has_token_of(&self, person: &AppUserId) -> bool {
        let theirs = |record: &Arc<CleanupRecord>| record.person.as_ref() == Some(person);
        self.cleanups.values().any(|record| theirs(record) && record.token != Sealed::default())
    }

    /// What is in Spaces of this link is to be left.
    pub(super) fn drop_delete_again(&mut self, link: &LinkKey) {
        let again: Vec<Cleanup> = self.deletes_again(link).cloned().collect();
        again.iter().for_each(|cleanup| self.remove_cleanup(cleanup));
        self.object_is_settled(link, false);
    }

    /// The deletes of this link's objects that are to be repeated.
    pub(super) fn deletes_again<'a>(&'a self, link: &'a LinkKey) -> impl Iterator<Item = &'a Cleanup> {
        let from = self.cleanups.range(Cleanup::DeleteAgain(link.whole())..).map(|(cleanup, _)| cleanup);
        from.take_while(move |cleanup| matches!(cleanup, Cleanup::DeleteAgain(part) if part.link == *link))
    }

    /// The links that a cleanup could have harmed, had they been there.
    fn concerned(&self, cleanup: &Cleanup) -> Vec<LinkKey> {
        match cleanup {
            Cleanup::Unsubscribe(page) => self.links_of(&page.clone().into()),
            Cleanup::Revoke(person) => self.links_of_person(person),
            Cleanup::DeleteAgain(part) => self.record(&part.link).map(|_| part.link.clone()).into_iter().collect(),
        }
    }

    /// Links that were made meanwhile are published, so that they look for themselves what the cleanup left of their
    /// subscription, token or object.
    fn finish_cleanup(&mut self, cleanup: &Cleanup, seq: u64) {
        if self.cleanups.get(cleanup).is_none_or(|record| record.seq != seq) {
            return;
        }
        self.remove_cleanup(cleanup);
        let concerned = self.concerned(cleanup);
        if let Cleanup::Unsubscribe(_) = cleanup {
            concerned.iter().for_each(|link| self.update_record(link, |record| record.subscribed.clear()));
        }
        if let Cleanup::DeleteAgain(part) = cleanup {
            self.object_is_settled(&part.link, false);
        }
        for (link, generation) in self.with_generations(concerned) {
            self.publish(match cleanup {
                Cleanup::Unsubscribe(_) | Cleanup::Revoke(_) => Change::Recheck(link, generation),
                Cleanup::DeleteAgain(_) => Change::Verify(link),
            });
        }
    }

    pub(super) fn reseal_cleanup(&mut self, keyring: &Keyring, cleanup: &Cleanup) -> bool {
        let Some(record) = self.cleanups.get(cleanup).cloned() else { return false };
        if record.token == Sealed::default() || keyring.is_current(&record.token.0) {
            return false;
        }
        let context = cleanup_context(cleanup);
        let Ok(token) = open_token(keyring, &context, &record.token) else { return false };
        let token = seal_token(keyring, &context, &token);
        self.put_cleanup(cleanup.clone(), CleanupRecord { token, ..(*record).clone() });
        true
    }
}

impl Store {
    /// Every cleanup.
    pub fn cleanups(&self) -> Vec<StandingCleanup> {
        let now = WallTime::now();
        let state = self.lock();
        let standing = state.cleanups.iter().map(|(cleanup, record)| StandingCleanup {
            cleanup: cleanup.clone(),
            seq: record.seq,
            void: record.void,
            wait: record.not_before.since(now).min(LONGEST_WAIT),
            left: record.asked_at.plus(GIVE_UP).since(now),
        });
        standing.collect()
    }

    /// The token of the cleanup with this number, if it may be tried now. The app stays in a person's account until the
    /// pages of theirs are unsubscribed, because their tokens end with it.
    pub fn cleanup_token(&self, cleanup: &Cleanup, seq: u64) -> Ready {
        let record = {
            let state = self.lock();
            let Some(record) = state.cleanups.get(cleanup).filter(|r| r.seq == seq && !r.void).cloned() else {
                return Ready::NotYet;
            };
            let before = |(other, waiting): (&Cleanup, &Arc<CleanupRecord>)| {
                matches!(other, Cleanup::Unsubscribe(_)) && !waiting.void && waiting.person == record.person
            };
            let waits = matches!(cleanup, Cleanup::Revoke(_)) && state.cleanups.iter().any(before);
            if waits || !state.concerned(cleanup).is_empty() {
                return Ready::NotYet;
            }
            record
        };
        let opened = open_token(&self.inner.keyring(), &cleanup_context(cleanup), &record.token);
        opened.map_or(Ready::Never, Ready::Yes)
    }

    /// The cleanup with this number is over. What its page's links believe of their subscription goes with it.
    ///
    /// # Errors
    /// [`Unavailable`]; it then stands.
    pub async fn finish_cleanup(&self, cleanup: &Cleanup, seq: u64) -> Result<(), Unavailable> {
        self.commit(|state| state.finish_cleanup(cleanup, seq)).await
    }

    /// May the object of this part be deleted once more for the cleanup with this number: the cleanup still stands, the
    /// link is gone, and the part owes Spaces nothing?
    pub fn is_left_over(&self, part: &PartKey, seq: u64) -> bool {
        let mut state = self.lock();
        if state.cleanups.get(&Cleanup::DeleteAgain(part.clone())).is_none_or(|record| record.seq != seq) {
            return false;
        }
        let owes = state.entry(part, |entry| entry.staged().is_some()).unwrap_or(false);
        !owes && state.record(&part.link).is_none()
    }
}
