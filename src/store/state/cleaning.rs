//! Decisions about cleanups: noted with the decision that needs them, made void by a linking, taken away when they are
//! over.

use std::collections::BTreeSet;

use super::State;
use crate::core::cleanup::Cleanup;
use crate::core::grant::Reach;
use crate::core::model::{AppUserId, LinkKey, Names, PartKey, Secret, ShopName, WallTime};
use crate::store::api::{Left, NewShop, Revoking};
use crate::store::feed::Change;
use crate::store::records::{
    CleanupRecord, LinkRecord, Sealed, ShopRecord, cleanup_context, link_context, open_pair, open_token, seal_pair_for,
    seal_token,
};
use crate::store::seal::Keyring;
use crate::store::txn::Txn;

/// The token of a cleanup, its person, and when that person granted it.
pub(in crate::store) struct Needs {
    pub person: Option<AppUserId>,
    pub token: Secret,
    pub granted_at: WallTime,
}

impl State {
    /// Notes a cleanup that needs this token.
    pub(in crate::store) fn note_cleanup(&mut self, txn: &mut Txn, keyring: &Keyring, cleanup: Cleanup, needs: Needs) {
        let (now, seq) = (txn.now(), txn.next_seq());
        let Needs { person, token, granted_at } = needs;
        let token = seal_token(keyring, &cleanup_context(&cleanup), &token);
        let record = CleanupRecord {
            seq,
            asked_at: now,
            not_before: now,
            person,
            granted_at,
            token,
            ..CleanupRecord::default()
        };
        self.cleanups.put(txn, cleanup, record);
    }

    /// A link of a shop went, with this record of the shop: the app is to be uninstalled, if that was the last one.
    pub(in crate::store) fn note_uninstall(
        &mut self,
        txn: &mut Txn,
        keyring: &Keyring,
        shop: &ShopName,
        record: &ShopRecord,
    ) -> Revoking {
        let left = self.links.of_id(&shop.clone().into()).len();
        if left > 0 {
            return Revoking::ShopStillLinked(shop.clone(), left);
        }
        let Ok(pair) = open_pair(keyring, shop, &record.pair) else { return Revoking::NoPair(shop.clone()) };
        let cleanup = Cleanup::Uninstall(shop.clone());
        let (now, seq, token) = (txn.now(), txn.next_seq(), seal_pair_for(keyring, &cleanup, &pair));
        let expires_at = record.expires_at;
        let record =
            CleanupRecord { seq, asked_at: now, not_before: now, token, expires_at, ..CleanupRecord::default() };
        self.cleanups.put(txn, cleanup, record);
        Revoking::Uninstalling(shop.clone())
    }

    /// The uninstall with this number has another pair. Returns whether it still stands.
    pub(in crate::store) fn renew_uninstall(
        &mut self,
        txn: &mut Txn,
        keyring: &Keyring,
        (shop, seq): (&ShopName, u64),
        new: &NewShop,
    ) -> bool {
        let cleanup = Cleanup::Uninstall(shop.clone());
        let Some(record) = self.cleanups.get(&cleanup).filter(|record| record.seq == seq).cloned() else {
            return false;
        };
        let token = seal_pair_for(keyring, &cleanup, &new.pair);
        self.cleanups.put(txn, cleanup, CleanupRecord { token, expires_at: new.expires_at, ..(*record).clone() });
        true
    }

    /// A shop is to be deleted, and Shopify could not say whether its token works. Nothing is owed where the shop is not
    /// linked, or where the app was installed again after the installation with this number.
    pub(in crate::store) fn owe_redact(&mut self, txn: &mut Txn, shop: &ShopName, login: u64) {
        let cleanup = Cleanup::Redact(shop.clone());
        let is_owed = self.cleanups.get(&cleanup).is_some_and(|record| !record.void);
        if is_owed {
            // By a delivery before this one, which may be on its way to disk still.
            return txn.wait_for_queue();
        }
        if self.shops.get(shop).is_some_and(|record| record.login == login) {
            let (now, seq) = (txn.now(), txn.next_seq());
            let record = CleanupRecord { seq, asked_at: now, not_before: now, ..CleanupRecord::default() };
            self.cleanups.put(txn, cleanup, record);
        }
    }

    /// The app was installed on a shop: what was owed to the installation before it is void.
    pub(in crate::store) fn end_owed_redact(&mut self, txn: &mut Txn, shop: &ShopName) {
        let cleanup = Cleanup::Redact(shop.clone());
        if let Some(record) = self.cleanups.get(&cleanup).filter(|record| !record.void).cloned() {
            self.cleanups.put(txn, cleanup, CleanupRecord { void: true, ..(*record).clone() });
        }
    }

    /// The last link of a page went, and this was its record: the page is to be unsubscribed. A token that cannot be
    /// opened is of no use for that.
    pub(in crate::store) fn note_unsubscribe(
        &mut self,
        txn: &mut Txn,
        keyring: &Keyring,
        link: &LinkKey,
        record: &LinkRecord,
    ) {
        let Some(page) = link.page().filter(|_| self.links.of_id(&link.id).is_empty()) else { return };
        match open_token(keyring, &link_context(link), &record.token) {
            Ok(token) => {
                let cleanup = Cleanup::Unsubscribe(page.clone());
                let (person, granted_at) = (record.facebook_user.clone(), record.grant_time());
                self.note_cleanup(txn, keyring, cleanup, Needs { person, token, granted_at });
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
    pub(in crate::store) fn note_left(
        &mut self,
        txn: &mut Txn,
        part: &PartKey,
        person: &Option<AppUserId>,
        left: &Left,
    ) {
        if let Some(not_before) = left.in_doubt_until {
            let (asked_at, seq) = (txn.now(), txn.next_seq());
            let person = person.clone().or_else(|| self.links.get(&part.link)?.facebook_user.clone());
            let record = CleanupRecord { seq, asked_at, not_before, person, ..CleanupRecord::default() };
            self.cleanups.put(txn, Cleanup::DeleteAgain(part.clone()), record);
        }
        self.object_is_settled(txn, &part.link, left.versions_unknown);
    }

    /// These pages and shops, and this person, are linked: what was left to do about them is void.
    pub(in crate::store) fn void_cleanups(&mut self, txn: &mut Txn, links: &[LinkKey], person: Option<&AppUserId>) {
        let pages = links.iter().filter_map(|link| link.page().cloned()).map(Cleanup::Unsubscribe);
        let shops = links.iter().filter_map(|link| link.shop().cloned()).map(Cleanup::Uninstall);
        let of_links = links.iter().filter_map(|link| self.links.get(link)?.facebook_user.clone());
        let persons: BTreeSet<AppUserId> = of_links.chain(person.cloned()).collect();
        for cleanup in pages.chain(shops).chain(persons.into_iter().map(Cleanup::Revoke)) {
            let standing = self.cleanups.get(&cleanup).filter(|record| !record.void).cloned();
            if let Some(record) = standing {
                self.cleanups.put(txn, cleanup, CleanupRecord { void: true, ..(*record).clone() });
            }
        }
    }

    /// Removes every token that this person granted within the reach, even one that would end a subscription. A call
    /// that was begun with it may still take effect on links that others make meanwhile, so the record stays and is
    /// void.
    pub(in crate::store) fn drop_cleanups_of(&mut self, txn: &mut Txn, person: &AppUserId, reach: Reach) {
        let theirs = self.cleanups.of_person(person);
        let theirs = theirs.filter(|(_, record)| reach.covers(record.granted_at, txn.now()));
        let theirs: Vec<(Cleanup, u64)> = theirs.map(|(cleanup, record)| (cleanup.clone(), record.seq)).collect();
        for (cleanup, seq) in theirs {
            match cleanup {
                Cleanup::Unsubscribe(_) => {
                    self.cleanups.put(txn, cleanup, CleanupRecord { seq, void: true, ..Default::default() });
                }
                Cleanup::Revoke(_) => self.cleanups.remove(txn, &cleanup),
                // They need no token, and a deletion waits for them.
                Cleanup::DeleteAgain(_) | Cleanup::ForgetParts(_) => {}
                // They are no person's.
                Cleanup::Uninstall(_) | Cleanup::Redact(_) => {}
            }
        }
    }

    /// What is in Spaces of this link is to be left.
    pub(in crate::store) fn drop_delete_again(&mut self, txn: &mut Txn, link: &LinkKey) {
        let again: Vec<Cleanup> = self.cleanups.deletes_again(link).cloned().collect();
        again.iter().for_each(|cleanup| self.cleanups.remove(txn, cleanup));
        self.object_is_settled(txn, link, false);
    }

    /// The links that a cleanup could have harmed, had they been there.
    fn concerned(&self, cleanup: &Cleanup) -> Vec<LinkKey> {
        match cleanup {
            Cleanup::Unsubscribe(page) => self.links.of_id(&page.clone().into()),
            Cleanup::Revoke(person) => self.links.of_person(person),
            Cleanup::DeleteAgain(part) => self.links.get(&part.link).map(|_| part.link.clone()).into_iter().collect(),
            Cleanup::Uninstall(shop) => self.links.of_id(&shop.clone().into()),
            // They ask before they delete.
            Cleanup::Redact(_) | Cleanup::ForgetParts(_) => Vec::new(),
        }
    }

    /// The sealed token of the cleanup with this number, if it may be tried now. The app stays in a person's account
    /// until the pages of theirs are unsubscribed, because their tokens end with it.
    pub(in crate::store) fn ready_cleanup(&self, cleanup: &Cleanup, seq: u64) -> Option<Sealed> {
        let record = self.cleanups.get(cleanup).filter(|record| record.seq == seq && !record.void)?;
        let waits = matches!(cleanup, Cleanup::Revoke(_))
            && record.person.as_ref().is_some_and(|person| self.cleanups.has_unsubscribe_of(person));
        (!waits && self.concerned(cleanup).is_empty()).then(|| record.token.clone())
    }

    /// May the object of this part be deleted once more for the cleanup with this number?
    pub(in crate::store) fn is_left_over(&self, part: &PartKey, seq: u64) -> bool {
        let stands = self.cleanups.get(&Cleanup::DeleteAgain(part.clone())).is_some_and(|record| record.seq == seq);
        let owes = self.ledger.get(part).is_some_and(|entry| entry.staged().is_some());
        stands && !owes && !self.links.contains(&part.link)
    }

    /// The cleanup with this number is over. Links that were made meanwhile are published, so that they look for
    /// themselves what the cleanup left of their subscription, token or object.
    pub(in crate::store) fn finish_cleanup(&mut self, txn: &mut Txn, cleanup: &Cleanup, seq: u64) {
        if self.cleanups.get(cleanup).is_none_or(|record| record.seq != seq) {
            return;
        }
        self.cleanups.remove(txn, cleanup);
        let concerned = self.concerned(cleanup);
        if let Cleanup::Unsubscribe(_) = cleanup {
            concerned
                .iter()
                .for_each(|link| self.update_link(txn, link, |record| record.subscribed = Names::default()));
        }
        if let Cleanup::DeleteAgain(part) = cleanup {
            self.object_is_settled(txn, &part.link, false);
            if !part.part.is_whole() {
                return self.distrust(txn, part);
            }
        }
        for (link, generation) in self.links.with_generations(concerned) {
            txn.publish(match cleanup {
                Cleanup::DeleteAgain(_) | Cleanup::ForgetParts(_) => Change::Verify(link),
                Cleanup::Unsubscribe(_) | Cleanup::Revoke(_) | Cleanup::Uninstall(_) | Cleanup::Redact(_) => {
                    Change::Recheck(link, generation)
                }
            });
        }
    }
}
