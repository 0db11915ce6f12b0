//! Decisions that make links and logins.

use super::State;
use crate::core::event::EventKind;
use crate::core::grant::{Granted, Ticket};
use crate::core::health::Health;
use crate::core::model::{AppUserId, Cause, Generation, LinkKey, UserId};
use crate::store::api::{LeftAlone, NewAccount, NewLink, Stored};
use crate::store::feed::Change;
use crate::store::records::{AccountRecord, LinkRecord, account_context, link_context, seal_token};
use crate::store::seal::Keyring;
use crate::store::txn::Txn;

/// Where a token comes from.
#[derive(Debug, Clone, Copy)]
pub(in crate::store) struct Origin {
    /// The number of the login, in the order in which logins begin; 0 for an import.
    pub login: u64,
    /// When the person granted it, as far as is known.
    pub granted: Granted,
}

/// What a login brought.
pub(in crate::store) struct NewLogin {
    pub ticket: Ticket,
    pub user: UserId,
    pub account: Option<NewAccount>,
    pub links: Vec<NewLink>,
    pub cause: Cause,
}

impl State {
    /// A login becomes links and an account, but for what was ended after its ticket was taken.
    pub(in crate::store) fn put_login(&mut self, txn: &mut Txn, keyring: &Keyring, login: NewLogin) -> Stored {
        let NewLogin { ticket, user, account, links, cause } = login;
        let origin = Origin { login: ticket.number, granted: Granted { at: Some(ticket.at), by: None } };
        let (came_with_links, mut stored) = (!links.is_empty(), Stored::default());
        for new in links {
            let link = LinkKey::new(user, new.page.clone());
            match self.left_alone(txn, ticket, &link, &new) {
                Some(why) => stored.left.push((link, why)),
                None => {
                    self.put_link(txn, keyring, origin, &link, new, cause);
                    stored.links.push(link);
                }
            }
        }
        let account = account.filter(|account| !came_with_links || self.links.has_link_of(user, &account.person));
        let account = account.filter(|account| self.may_store(txn, ticket, user, &account.person));
        let person = account.as_ref().map(|account| account.person.clone());
        if let Some(account) = account {
            self.put_account(txn, keyring, origin, user, account);
        }
        self.void_cleanups(txn, &stored.links, person.as_ref());
        stored
    }

    /// May this person's login be stored? Not when it was ended, nor over a newer one.
    fn may_store(&self, txn: &Txn, ticket: Ticket, user: UserId, person: &AppUserId) -> bool {
        let standing = self.accounts.get(&(user, person.clone()));
        let is_older = standing.is_some_and(|standing| standing.login > ticket.number);
        !is_older && self.endings.ended_since(ticket, Some(person), None, txn.now()).is_none()
    }

    fn left_alone(&self, txn: &Txn, ticket: Ticket, link: &LinkKey, new: &NewLink) -> Option<LeftAlone> {
        let standing = self.links.get(link);
        let person = new.facebook_user.as_ref().or(standing.and_then(|record| record.facebook_user.as_ref()));
        if let Some(ended) = self.endings.ended_since(ticket, person, Some(link), txn.now()) {
            return Some(LeftAlone::Ended(ended));
        }
        let newer = |record: &LinkRecord| record.login > ticket.number && record.health.is_active();
        standing.is_some_and(|record| newer(record)).then_some(LeftAlone::NewerLogin)
    }

    /// Stores a login, new or again.
    pub(in crate::store) fn put_account(
        &mut self,
        txn: &mut Txn,
        keyring: &Keyring,
        origin: Origin,
        user: UserId,
        account: NewAccount,
    ) {
        let record = AccountRecord {
            name: account.name,
            token: seal_token(keyring, &account_context(user, &account.person), &account.token),
            granted: account.granted,
            expires_at: account.expires_at,
            logged_in_at: origin.granted.at.unwrap_or(txn.now()),
            login: origin.login,
        };
        self.accounts.put(txn, (user, account.person), record);
    }

    /// A new token starts the link afresh: health, and what was refused with the old one, are forgotten.
    pub(in crate::store) fn put_link(
        &mut self,
        txn: &mut Txn,
        keyring: &Keyring,
        origin: Origin,
        link: &LinkKey,
        new: NewLink,
        cause: Cause,
    ) {
        let earlier = self.links.get(link).cloned();
        let record = LinkRecord {
            generation: Generation(txn.next_seq()),
            login: origin.login,
            granted_at: origin.granted.at,
            facebook_user: new.facebook_user.or_else(|| earlier.as_ref().and_then(|r| r.facebook_user.clone())),
            name: new.name.or_else(|| earlier.as_ref().and_then(|r| r.name.clone())),
            linked_at: origin.granted.by.unwrap_or(txn.now()),
            token: seal_token(keyring, &link_context(link), &new.token),
            health: Health::Active,
            ..LinkRecord::default()
        };
        self.begin_link(txn, link, record, cause);
    }

    /// Writes the record of a link that begins, or begins again with another token.
    pub(in crate::store) fn begin_link(&mut self, txn: &mut Txn, link: &LinkKey, record: LinkRecord, cause: Cause) {
        let anew = self.links.contains(link);
        self.put_link_record(txn, link, record);
        self.events.emit(txn, EventKind::Linked { link: link.clone(), anew });
        self.links.unhint(link);
        self.ledger.mark_with_writes(txn, &link.whole(), cause);
        // The page reads at once, or in its time where many are linked: this says that it is due, too.
        txn.publish(Change::Linked(link.clone()));
    }
}
