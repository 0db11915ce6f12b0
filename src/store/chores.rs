//! Chores in the store: noted with the decision that needs them, made void by a linking, taken away when they are over.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::codec;
use super::core::Core;
use super::engine::Tree;
use super::records::{ChoreRecord, LinkRecord, Sealed, chore_context, link_context, open_token, seal_token};
use super::seal::Keyring;
use super::{Left, Store, Unavailable};
use crate::chore::{Chore, GIVE_UP, Standing};
use crate::grant::Reach;
use crate::model::{AppUserId, Generation, LinkKey, Millis, Secret};

/// A chore waits no longer than this for its first try, whatever the clock did meanwhile.
const LONGEST_WAIT: std::time::Duration = std::time::Duration::from_secs(60 * 60);

/// The token of a chore, its person, and when that person granted it.
pub(super) struct Needs {
    pub person: Option<AppUserId>,
    pub token: Secret,
    pub granted_at: Millis,
}

/// May a chore be tried now?
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ready {
    /// It may, with this token.
    Yes(Secret),
    /// It was overtaken, or waits for another.
    NotYet,
    /// Its token does not open.
    Never,
}

impl Core {
    fn put_chore(&mut self, chore: Chore, record: ChoreRecord) {
        self.write(Tree::Chores, chore.to_bytes(), Some(codec::encode(&record)));
        let token = record.token.clone();
        let before = self.chores.insert(chore, Arc::new(record));
        if before.is_some_and(|before| before.token != token && before.token != Sealed::default()) {
            self.ask_for_erasure();
        }
    }

    fn remove_chore(&mut self, chore: &Chore) {
        if self.chores.remove(chore).is_some() {
            self.write(Tree::Chores, chore.to_bytes(), None);
        }
    }

    /// Notes a chore that needs this token.
    pub(super) fn note_chore(&mut self, keyring: &Keyring, chore: Chore, needs: Needs) {
        let (now, seq) = (Millis::now(), self.next_seq());
        let Needs { person, token, granted_at } = needs;
        let token = seal_token(keyring, &chore_context(&chore), &token);
        let record = ChoreRecord { seq, asked_at: now, not_before: now, person, granted_at, token, void: false };
        self.put_chore(chore, record);
    }

    /// The last link of a page went, and this was its record: the page is to be unsubscribed. A token that cannot be
    /// opened is of no use for that.
    pub(super) fn note_unsubscribe(&mut self, keyring: &Keyring, link: &LinkKey, record: &LinkRecord) {
        if !self.links_of(&link.page).is_empty() {
            return;
        }
        match open_token(keyring, &link_context(link), &record.token) {
            Ok(token) => {
                let chore = Chore::Unsubscribe(link.page.clone());
                let (person, granted_at) = (record.facebook_user.clone(), record.grant_time());
                self.note_chore(keyring, chore, Needs { person, token, granted_at });
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
    pub(super) fn note_left(&mut self, link: &LinkKey, person: &Option<AppUserId>, left: Left) {
        if let Some(not_before) = left.straggler_until {
            let (asked_at, seq) = (Millis::now(), self.next_seq());
            let person = person.clone().or_else(|| self.record(link)?.facebook_user.clone());
            let record = ChoreRecord { seq, asked_at, not_before, person, ..ChoreRecord::default() };
            self.put_chore(Chore::DeleteAgain(link.clone()), record);
        }
        self.object_is_settled(link, left.versions_unknown);
    }

    /// These pages, and this person, are linked: what was left to do about them is void.
    pub(super) fn void_chores(&mut self, links: &[LinkKey], person: Option<&AppUserId>) {
        let pages = links.iter().map(|link| Chore::Unsubscribe(link.page.clone()));
        let people: BTreeSet<AppUserId> =
            links.iter().filter_map(|link| self.record(link)?.facebook_user.clone()).chain(person.cloned()).collect();
        for chore in pages.chain(people.into_iter().map(Chore::Revoke)) {
            let standing = self.chores.get(&chore).filter(|record| !record.void).cloned();
            if let Some(record) = standing {
                self.put_chore(chore, ChoreRecord { void: true, ..(*record).clone() });
            }
        }
    }

    /// Removes every token that this person granted within the reach, even one that would end a subscription. A call that
    /// was begun with it may still take effect on links that others make meanwhile, so the record stays and is void.
    pub(super) fn drop_chores_of(&mut self, person: &AppUserId, reach: Reach, now: Millis) {
        let theirs = |(_, record): &(&Chore, &Arc<ChoreRecord>)| {
            record.person.as_ref() == Some(person) && reach.covers(record.granted_at, now)
        };
        let theirs: Vec<(Chore, u64)> =
            self.chores.iter().filter(theirs).map(|(chore, record)| (chore.clone(), record.seq)).collect();
        for (chore, seq) in theirs {
            match chore {
                Chore::Unsubscribe(_) => self.put_chore(chore, ChoreRecord { seq, void: true, ..Default::default() }),
                Chore::Revoke(_) => self.remove_chore(&chore),
                // It needs no token, and a deletion waits for it.
                Chore::DeleteAgain(_) => {}
            }
        }
    }

    /// Is a token of this person kept for a chore?
    pub(super) fn has_token_of(&self, person: &AppUserId) -> bool {
        let theirs = |record: &Arc<ChoreRecord>| record.person.as_ref() == Some(person);
        self.chores.values().any(|record| theirs(record) && record.token != Sealed::default())
    }

    /// What is in Spaces of this link is to be left.
    pub(super) fn drop_delete_again(&mut self, link: &LinkKey) {
        self.remove_chore(&Chore::DeleteAgain(link.clone()));
        self.object_is_settled(link, false);
    }

    /// The links that a chore could have harmed, had they been there.
    fn concerned(&self, chore: &Chore) -> Vec<LinkKey> {
        match chore {
            Chore::Unsubscribe(page) => self.links_of(page),
            Chore::Revoke(person) => self.links_of_person(person),
            Chore::DeleteAgain(link) => self.record(link).map(|_| link.clone()).into_iter().collect(),
        }
    }

    fn finish_chore(&mut self, chore: &Chore, seq: u64) -> Vec<(LinkKey, Generation)> {
        if self.chores.get(chore).is_none_or(|record| record.seq != seq) {
            return Vec::new();
        }
        self.remove_chore(chore);
        let concerned = self.concerned(chore);
        if let Chore::Unsubscribe(_) = chore {
            concerned.iter().for_each(|link| self.update_record(link, |record| record.subscribed.clear()));
        }
        if let Chore::DeleteAgain(link) = chore {
            self.object_is_settled(link, false);
        }
        self.with_generations(concerned)
    }

    pub(super) fn reseal_chore(&mut self, keyring: &Keyring, chore: &Chore) -> bool {
        let Some(record) = self.chores.get(chore).cloned() else { return false };
        if record.token == Sealed::default() || keyring.is_current(&record.token.0) {
            return false;
        }
        let context = chore_context(chore);
        let Ok(token) = open_token(keyring, &context, &record.token) else { return false };
        let token = seal_token(keyring, &context, &token);
        self.put_chore(chore.clone(), ChoreRecord { token, ..(*record).clone() });
        true
    }
}

impl Store {
    /// Every chore.
    pub fn chores(&self) -> Vec<Standing> {
        let now = Millis::now();
        let core = self.lock();
        let standing = core.chores.iter().map(|(chore, record)| Standing {
            chore: chore.clone(),
            seq: record.seq,
            void: record.void,
            wait: record.not_before.since(now).min(LONGEST_WAIT),
            left: record.asked_at.plus(GIVE_UP).since(now),
        });
        standing.collect()
    }

    /// The token of the chore with this number, if it may be tried now. The app stays in a person's account until the
    /// pages of theirs are unsubscribed, because their tokens end with it.
    pub fn chore_token(&self, chore: &Chore, seq: u64) -> Ready {
        let record = {
            let core = self.lock();
            let Some(record) = core.chores.get(chore).filter(|r| r.seq == seq && !r.void).cloned() else {
                return Ready::NotYet;
            };
            let before = |(other, waiting): (&Chore, &Arc<ChoreRecord>)| {
                matches!(other, Chore::Unsubscribe(_)) && !waiting.void && waiting.person == record.person
            };
            let waits = matches!(chore, Chore::Revoke(_)) && core.chores.iter().any(before);
            if waits || !core.concerned(chore).is_empty() {
                return Ready::NotYet;
            }
            record
        };
        let opened = open_token(&self.inner.keyring(), &chore_context(chore), &record.token);
        opened.map_or(Ready::Never, Ready::Yes)
    }

    /// The chore with this number is over. What its page's links believe of their subscription goes with it, and the
    /// links that should look again are returned, each with the generation of its token: none in general.
    ///
    /// # Errors
    /// [`Unavailable`]; it then stands.
    pub async fn finish_chore(&self, chore: &Chore, seq: u64) -> Result<Vec<(LinkKey, Generation)>, Unavailable> {
        let concerned = self.commit(|core| core.finish_chore(chore, seq)).await?;
        self.note_progress();
        Ok(concerned)
    }

    /// May the object of this link be deleted once more for the chore with this number: that still stands, and the link
    /// is gone and owes Spaces nothing?
    pub fn is_left_over(&self, link: &LinkKey, seq: u64) -> bool {
        let mut core = self.lock();
        if core.chores.get(&Chore::DeleteAgain(link.clone())).is_none_or(|record| record.seq != seq) {
            return false;
        }
        let owes = core.entry(link, |entry| entry.staged().is_some()).unwrap_or(false);
        !owes && core.record(link).is_none()
    }
}
