//! Persons in the store: their links and logins, and how they are forgotten.

use std::sync::Arc;

use super::engine::Tree;
use super::records::{AccountRecord, DeletionRecord, account_context, account_key, open_token};
use super::state::State;
use super::{Store, Unavailable};
use crate::core::grant::Reach;
use crate::core::model::{AppUserId, Generation, LinkKey, PageId, Secret, UserId, WallTime};

/// A page to link.
#[derive(Debug, Clone)]
pub struct NewLink {
    /// The page.
    pub page: PageId,
    /// Its token.
    pub token: Secret,
    /// Its name, where known.
    pub name: Option<String>,
    /// The person whose token it is, where known.
    pub facebook_user: Option<AppUserId>,
}

/// A login to note beside its links.
#[derive(Debug, Clone)]
pub struct NewAccount {
    /// The person.
    pub person: AppUserId,
    /// The person's name.
    pub name: Option<String>,
    /// The long-lived user token.
    pub token: Secret,
    /// Permissions granted.
    pub granted: Vec<String>,
    /// When the token ends.
    pub expires_at: Option<WallTime>,
}

/// A person who left: the links that this ended, and how many it did not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Departure {
    /// Each with the generation of the token that it had.
    pub links: Vec<(LinkKey, Generation)>,
    /// Links of theirs with a newer grant.
    pub kept: usize,
}

impl State {
    /// Which of a person's links a decision of this reach ends.
    pub(super) fn departure(&self, person: &AppUserId, reach: Reach, now: WallTime) -> Departure {
        let all = self.links_of_person(person);
        let covered = |link: &LinkKey| self.record(link).is_some_and(|record| reach.covers(record.grant_time(), now));
        let (links, kept): (Vec<_>, Vec<_>) = all.into_iter().partition(covered);
        Departure { links: self.with_generations(links), kept: kept.len() }
    }

    /// Forgets the logins of a person that a decision of this reach ends: how many, and whether one stays.
    pub(super) fn end_logins(&mut self, person: &AppUserId, reach: Reach, now: WallTime) -> (usize, bool) {
        let theirs = self.accounts.of_person(person);
        let theirs = theirs.map(|(user, record)| (user, reach.covers(record.logged_in_at, now)));
        let (ended, kept): (Vec<_>, Vec<_>) = theirs.partition(|(_, covered)| *covered);
        ended.iter().for_each(|(user, _)| remove_account(self, *user, person));
        (ended.len(), !kept.is_empty())
    }
}

impl Store {
    /// The links whose token is this person's, of every user, each with the generation of that token.
    pub fn links_of_person(&self, person: &AppUserId) -> Vec<(LinkKey, Generation)> {
        let state = self.lock();
        state.with_generations(state.links_of_person(person))
    }

    /// Forgets a person: every link with a token of theirs, with a delete owed for each object; every login, also one that
    /// is under way; and notes the deletion under this code. Of a request of Meta's, dated so, newer grants are no
    /// concern: see [`grant`](crate::core::grant). One transaction: after a crash either all of it holds or Meta got no answer.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn forget_person(
        &self,
        person: &AppUserId,
        code: &str,
        issued_at: Option<WallTime>,
    ) -> Result<Departure, Unavailable> {
        self.commit(|state| {
            let now = WallTime::now();
            let reach = Reach::of(issued_at, now);
            let departure = state.departure(person, reach, now);
            let links: Vec<LinkKey> = departure.links.iter().map(|(link, _)| link.clone()).collect();
            for link in &links {
                state.remove_link(link, true);
            }
            state.note_ended(person, &links, reach);
            let (logins, kept_login) = state.end_logins(person, reach, now);
            state.drop_cleanups_of(person, reach, now);
            let (ended, kept) = (links.len() + logins, departure.kept);
            state.note_deletion(
                code,
                person,
                DeletionRecord { issued_at, ended, kept, kept_login, ..Default::default() },
            );
            departure
        })
        .await
    }

    /// Every login: user and person.
    pub fn accounts(&self) -> Vec<(UserId, AppUserId)> {
        self.lock().accounts.keys().cloned().collect()
    }

    /// A login's record, with its user token opened where it can be.
    pub fn account(&self, user: UserId, person: &AppUserId) -> Option<(Arc<AccountRecord>, Option<Secret>)> {
        let record = self.lock().accounts.get(&(user, person.clone())).cloned()?;
        let token = open_token(&self.inner.keyring(), &account_context(user, person), &record.token).ok();
        Some((record, token))
    }
}

pub(super) fn remove_account(state: &mut State, user: UserId, person: &AppUserId) {
    state.write(Tree::Accounts, account_key(user, person), None);
    state.accounts.remove(&(user, person.clone()));
}

pub(super) fn forget_account_without_links(state: &mut State, user: UserId, person: &AppUserId) {
    if !state.has_link_of(user, person) {
        remove_account(state, user, person);
    }
}
