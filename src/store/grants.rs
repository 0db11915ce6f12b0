//! Grants in the store: a login, or lines of an import, become links and accounts. [`grant`](crate::core::grant) decides which
//! of them may still be stored when a newer decision came between.

use super::feed::Change;
use super::persons::{NewAccount, NewLink};
use super::records::{AccountRecord, LinkRecord, account_context, link_context, seal_token};
use super::seal::Keyring;
use super::state::State;
use super::{Store, Unavailable};
use crate::core::event::EventKind;
use crate::core::grant::{Ended, Granted, Reach, Ticket};
use crate::core::health::Health;
use crate::core::model::{AppUserId, Cause, Generation, LinkKey, UserId, WallTime};

/// The outcome of storing a login.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stored {
    /// The links that were made, or that got the token of this login.
    pub links: Vec<LinkKey>,
    /// Those that were left as they are, and why.
    pub left: Vec<(LinkKey, LeftAlone)>,
}

/// Why a link was left as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeftAlone {
    /// The grant or the link was ended after this login began.
    Ended(Ended),
    /// A login that began after this one gave the link its token.
    NewerLogin,
}

/// Where a token comes from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Origin {
    /// The number of the login, in the order in which logins begin; 0 for an import.
    pub login: u64,
    /// When the person granted it, as far as is known.
    pub granted: Granted,
}

impl State {
    /// A person is to be forgotten, or removed the app, and these links went with it.
    pub(super) fn note_ended(&mut self, person: &AppUserId, links: &[LinkKey], reach: Reach) {
        let (number, now) = (self.next_seq(), WallTime::now());
        self.endings.note_person(number, person, links, reach, now);
    }

    /// Is one of the user's links this person's?
    pub(super) fn has_link_of(&self, user: UserId, person: &AppUserId) -> bool {
        self.links_of_person(person).iter().any(|link| link.user == user)
    }

    /// An operator removes a link.
    pub(super) fn note_unlinked(&mut self, link: &LinkKey) {
        let (number, now) = (self.next_seq(), WallTime::now());
        self.endings.note_link(number, link, now);
    }
}

impl Store {
    /// A login or an import begins. To be taken before Facebook is asked for anything, or before lines are read.
    pub fn ticket(&self) -> Ticket {
        Ticket { number: self.lock().next_seq(), at: WallTime::now() }
    }

    /// A ticket in words, for an import that comes in several requests: all of them are one import. It is good in this
    /// process alone.
    pub fn name_of(&self, ticket: Ticket) -> String {
        format!("{:x}-{:x}-{:x}", self.inner.life, ticket.number, ticket.at.0)
    }

    /// The ticket of this name; `None` for one of another process, whose endings are not known any more.
    pub fn ticket_named(&self, name: &str) -> Option<Ticket> {
        let mut words = name.split('-').map(|word| u64::from_str_radix(word, 16).ok());
        let (life, number, at) = (words.next()??, words.next()??, words.next()??);
        let known = life == self.inner.life && words.next().is_none();
        known.then_some(Ticket { number, at: WallTime(at) })
    }

    /// Ends the logins and imports under way of a person of whom nothing is stored yet.
    pub fn end_grants_under_way(&self, person: &AppUserId) {
        self.lock().note_ended(person, &[], Reach::All);
    }

    /// Links pages to a user, or gives links a new token; notes the login; marks every one of them due. One
    /// transaction: after a crash either all of it is there or nothing. Grants and links that were ended after the ticket
    /// was taken are left out; without any link of the person's an account that came with links is not stored either.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn put_links(
        &self,
        ticket: Ticket,
        user: UserId,
        account: Option<NewAccount>,
        links: Vec<NewLink>,
        cause: Cause,
    ) -> Result<Stored, Unavailable> {
        self.commit(|state| {
            let (keyring, now) = (self.inner.keyring(), WallTime::now());
            let granted = Granted { at: Some(ticket.at), by: None };
            let origin = Origin { login: ticket.number, granted };
            let (came_with_links, mut stored) = (!links.is_empty(), Stored::default());
            for new in links {
                let link = LinkKey::new(user, new.page.clone());
                match state.left_alone(ticket, &link, &new, now) {
                    Some(why) => stored.left.push((link, why)),
                    None => {
                        put_link(state, &keyring, origin, &link, new, cause);
                        stored.links.push(link);
                    }
                }
            }
            let account = account.filter(|account| !came_with_links || state.has_link_of(user, &account.person));
            let account = account.filter(|account| state.may_store(ticket, user, &account.person, now));
            let person = account.as_ref().map(|account| account.person.clone());
            if let Some(account) = account {
                put_account(state, &keyring, origin, user, account);
            }
            state.void_cleanups(&stored.links, person.as_ref());
            stored
        })
        .await
    }
}

impl State {
    /// May this person's login be stored? Not when it was ended, nor over a newer one.
    fn may_store(&self, ticket: Ticket, user: UserId, person: &AppUserId, now: WallTime) -> bool {
        let standing = self.accounts.get(&(user, person.clone()));
        let is_older = standing.is_some_and(|standing| standing.login > ticket.number);
        !is_older && self.endings.ended_since(ticket, Some(person), None, now).is_none()
    }

    fn left_alone(&self, ticket: Ticket, link: &LinkKey, new: &NewLink, now: WallTime) -> Option<LeftAlone> {
        let standing = self.record(link);
        let person = new.facebook_user.as_ref().or(standing.as_ref().and_then(|r| r.facebook_user.as_ref()));
        if let Some(ended) = self.endings.ended_since(ticket, person, Some(link), now) {
            return Some(LeftAlone::Ended(ended));
        }
        let newer = |record: &LinkRecord| record.login > ticket.number && record.health.is_active();
        standing.is_some_and(|record| newer(&record)).then_some(LeftAlone::NewerLogin)
    }
}

/// Stores a login, new or again.
pub(super) fn put_account(state: &mut State, keyring: &Keyring, origin: Origin, user: UserId, account: NewAccount) {
    let record = AccountRecord {
        name: account.name,
        token: seal_token(keyring, &account_context(user, &account.person), &account.token),
        granted: account.granted,
        expires_at: account.expires_at,
        logged_in_at: origin.granted.at.unwrap_or(WallTime::now()),
        login: origin.login,
    };
    state.put_account((user, account.person), record);
}

/// A new token starts the link afresh: health, and what was refused with the old one, are forgotten.
pub(super) fn put_link(
    state: &mut State,
    keyring: &Keyring,
    origin: Origin,
    link: &LinkKey,
    new: NewLink,
    cause: Cause,
) {
    let earlier = state.record(link);
    let record = LinkRecord {
        generation: Generation(state.next_seq()),
        login: origin.login,
        granted_at: origin.granted.at,
        facebook_user: new.facebook_user.or_else(|| earlier.as_ref().and_then(|r| r.facebook_user.clone())),
        name: new.name.or_else(|| earlier.as_ref().and_then(|r| r.name.clone())),
        linked_at: origin.granted.by.unwrap_or(WallTime::now()),
        token: seal_token(keyring, &link_context(link), &new.token),
        health: Health::Active,
        ..LinkRecord::default()
    };
    state.put_record(link, record);
    state.emit(EventKind::Linked { link: link.clone(), anew: earlier.is_some() });
    state.hinted.remove(link);
    state.mark(link, cause);
    if let Some(seq) = state.mark_seq(link) {
        state.note_when_durable(link.clone(), seq);
    }
    // The page reads at once, or in its time where many are linked: this says that it is due, too.
    state.publish(Change::Linked(link.clone()));
}
