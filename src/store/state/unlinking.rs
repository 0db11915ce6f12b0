//! Decisions that end links and logins.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::State;
use super::cleaning::Needs;
use super::ledger::write_changes;
use crate::core::cleanup::Cleanup;
use crate::core::event::EventKind;
use crate::core::grant::Reach;
use crate::core::health::{Evidence, ParkReason};
use crate::core::model::{AppUserId, LinkKey, PartKey, Secret, UserId, WallTime};
use crate::store::api::{Departure, Revoking, Unlinked, Unlinking};
use crate::store::feed::Change;
use crate::store::records::{DeletionRecord, LinkRecord, account_context, open_token};
use crate::store::seal::Keyring;
use crate::store::tree::{Pieces, Tree};
use crate::store::txn::Txn;

impl State {
    /// Removes a link; its object is deleted or left.
    pub(in crate::store) fn remove_link(
        &mut self,
        txn: &mut Txn,
        link: &LinkKey,
        delete_object: bool,
    ) -> Option<Arc<LinkRecord>> {
        let record = self.links.remove(txn, link)?;
        self.forget_shop_without_link(txn, link);
        self.note_parts_left(txn, link, !delete_object);
        self.ledger.set_parked(link, false);
        self.ledger.create(&link.whole());
        let parts: Vec<PartKey> = self.ledger.of_link(link).map(|(part, _)| part.clone()).collect();
        for part in &parts {
            let (now, seq, person) = (txn.now(), txn.next_seq(), record.facebook_user.clone());
            let changes = self.ledger.change(part, |entry| entry.forget(delete_object, person, now, seq));
            write_changes(txn, part, changes.unwrap_or_default(), Pieces::default());
            txn.remove(Tree::Fields, part.to_bytes());
            Self::forget_row(txn, part);
        }
        if !delete_object {
            self.drop_delete_again(txn, link);
        }
        parts.iter().for_each(|part| self.forget_if_complete(txn, part));
        txn.publish(Change::Unlinked(link.clone()));
        if delete_object {
            parts.into_iter().for_each(|part| txn.publish(Change::Outbox(part)));
        }
        self.events.emit(txn, EventKind::Unlinked { link: link.clone(), kept: !delete_object });
        Some(record)
    }

    /// Removes links, with what is left to do at Facebook.
    pub(in crate::store) fn unlink(
        &mut self,
        txn: &mut Txn,
        keyring: &Keyring,
        links: &[LinkKey],
        how: Unlinking,
    ) -> Unlinked {
        let mut persons: BTreeMap<Option<AppUserId>, Option<(Secret, WallTime)>> = BTreeMap::new();
        let (mut unlinked, mut shops) = (Unlinked::default(), BTreeMap::new());
        // They may be gone by a decision before this one, which is still on its way to disk.
        txn.wait_for_queue();
        for link in links {
            self.endings.note_link(txn.next_seq(), link, txn.now());
            let of_shop = link.shop().and_then(|shop| Some((shop.clone(), self.shops.get(shop)?.clone())));
            let Some(record) = self.remove_link(txn, link, !how.keep_objects) else { continue };
            unlinked.links.push(link.clone());
            if link.shop().is_some() {
                shops.extend(of_shop);
                continue;
            }
            self.note_unsubscribe(txn, keyring, link, &record);
            let person = record.facebook_user.clone();
            let token = person.as_ref().and_then(|person| self.newest_token(keyring, person));
            persons.entry(person.clone()).or_insert(token);
            if let Some(person) = person.filter(|person| !self.links.has_link_of(link.user, person)) {
                self.accounts.forget(txn, link.user, &person);
            }
        }
        for (shop, record) in shops.into_iter().filter(|_| how.revoke) {
            unlinked.revoking.push(self.note_uninstall(txn, keyring, &shop, &record));
        }
        for (person, token) in persons.into_iter().filter(|_| how.revoke) {
            unlinked.revoking.push(self.revoke(txn, keyring, person, token));
        }
        unlinked
    }

    /// The person's newest user token, of whichever user of the platform, and when it was granted.
    fn newest_token(&self, keyring: &Keyring, person: &AppUserId) -> Option<(Secret, WallTime)> {
        let theirs = self.accounts.of_person(person);
        let (user, record) = theirs.max_by_key(|(_, record)| record.logged_in_at)?;
        let token = open_token(keyring, &account_context(user, person), &record.token).ok()?;
        Some((token, record.logged_in_at))
    }

    /// The app is taken out of the person's account as a whole, so only when no link of theirs is left.
    fn revoke(
        &mut self,
        txn: &mut Txn,
        keyring: &Keyring,
        person: Option<AppUserId>,
        token: Option<(Secret, WallTime)>,
    ) -> Revoking {
        let Some(person) = person else { return Revoking::NobodyKnown };
        let left = self.links.count_of_person(&person);
        if left > 0 {
            return Revoking::StillLinked(person, left);
        }
        let Some((token, granted_at)) = token else { return Revoking::NoToken(person) };
        let needs = Needs { person: Some(person.clone()), token, granted_at };
        self.note_cleanup(txn, keyring, Cleanup::Revoke(person.clone()), needs);
        // Logins without a link end with it, and so does one that is under way.
        self.note_ended(txn, &person, &[], Reach::All);
        let users: Vec<UserId> = self.accounts.of_person(&person).map(|(user, _)| user).collect();
        users.into_iter().for_each(|user| self.accounts.forget(txn, user, &person));
        Revoking::Asked(person)
    }

    /// A person is to be forgotten, or removed the app, and these links went with it.
    fn note_ended(&mut self, txn: &Txn, person: &AppUserId, links: &[LinkKey], reach: Reach) {
        self.endings.note_person(txn.next_seq(), person, links, reach, txn.now());
    }

    /// Which of a person's links a decision of this reach ends.
    fn departure(&self, person: &AppUserId, reach: Reach, now: WallTime) -> Departure {
        let covered =
            |link: &LinkKey| self.links.get(link).is_some_and(|record| reach.covers(record.grant_time(), now));
        let (links, kept): (Vec<_>, Vec<_>) = self.links.of_person(person).into_iter().partition(covered);
        Departure { links: self.links.with_generations(links), kept: kept.len() }
    }

    /// Forgets the logins of a person that a decision of this reach ends: how many, and whether one stays.
    fn end_logins(&mut self, txn: &mut Txn, person: &AppUserId, reach: Reach) -> (usize, bool) {
        let now = txn.now();
        let theirs = self.accounts.of_person(person);
        let theirs = theirs.map(|(user, record)| (user, reach.covers(record.logged_in_at, now)));
        let (ended, kept): (Vec<_>, Vec<_>) = theirs.partition(|(_, covered)| *covered);
        ended.iter().for_each(|(user, _)| self.accounts.forget(txn, *user, person));
        (ended.len(), !kept.is_empty())
    }

    /// Forgets a person, and notes the deletion under this code.
    pub(in crate::store) fn forget_person(
        &mut self,
        txn: &mut Txn,
        person: &AppUserId,
        code: &str,
        issued_at: Option<WallTime>,
    ) -> Departure {
        let reach = Reach::of(issued_at, txn.now());
        let departure = self.departure(person, reach, txn.now());
        let links: Vec<LinkKey> = departure.links.iter().map(|(link, _)| link.clone()).collect();
        links.iter().for_each(|link| drop(self.remove_link(txn, link, true)));
        self.note_ended(txn, person, &links, reach);
        let (logins, kept_login) = self.end_logins(txn, person, reach);
        self.drop_cleanups_of(txn, person, reach);
        let (ended, kept) = (links.len() + logins, departure.kept);
        let record = DeletionRecord { issued_at, ended, kept, kept_login, ..Default::default() };
        self.note_deletion(txn, code, person, record);
        departure
    }

    /// Parks the links of a person for what Facebook reported, and forgets the person's logins.
    pub(in crate::store) fn park_person(
        &mut self,
        txn: &mut Txn,
        person: &AppUserId,
        why: ParkReason,
        issued_at: Option<WallTime>,
    ) -> Departure {
        let now = txn.now();
        let reach = Reach::of(issued_at, now);
        let departure = self.departure(person, reach, now);
        for (link, _) in &departure.links {
            self.update_link(txn, link, |record| record.health = record.health.after(Evidence::Reported(why), now));
        }
        self.end_logins(txn, person, reach);
        self.drop_cleanups_of(txn, person, reach);
        self.note_ended(txn, person, &[], reach);
        // They may be parked by a request before this one, which is still on its way to disk.
        txn.wait_for_queue();
        departure
    }
}
