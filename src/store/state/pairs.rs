//! Decisions about shops: their links, and the token pair that these share.

use super::State;
use super::linking::Origin;
use crate::core::grant::{Granted, Ticket};
use crate::core::health::{Evidence, Health, ParkReason};
use crate::core::model::{Cause, Generation, LinkKey, ShopName, UserId, WallTime};
use crate::store::api::{LeftAlone, NewShop, ShopStored, Unlinked, Unlinking};
use crate::store::records::{LinkRecord, ShopRecord, seal_pair};
use crate::store::seal::Keyring;
use crate::store::txn::Txn;

impl State {
    /// An installation becomes a link, and the pair of its shop. `None` when the shop has another pair than the one with
    /// the number `replaced`.
    pub(in crate::store) fn put_shop(
        &mut self,
        txn: &mut Txn,
        keyring: &Keyring,
        ticket: Ticket,
        user: UserId,
        new: &NewShop,
        (cause, replaced): (Cause, Option<u64>),
    ) -> Option<ShopStored> {
        let standing = self.shops.get(&new.shop).map(|standing| (standing.number, standing.login)).unzip();
        if standing.0 != replaced {
            return None;
        }
        let link = LinkKey::of_shop(user, new.shop.clone());
        let mut others = self.links.of_id(&new.shop.clone().into());
        others.retain(|other| *other != link);
        let ended = self.endings.ended_since(ticket, None, Some(&link), txn.now());
        if let Some(ended) = ended.filter(|_| others.is_empty()) {
            return Some(ShopStored { link, pair: 0, left: Some(LeftAlone::Ended(ended)), others });
        }
        let number = txn.next_seq();
        let record = ShopRecord {
            pair: seal_pair(keyring, &new.shop, &new.pair),
            number,
            expires_at: new.expires_at,
            refresh_expires_at: new.refresh_expires_at,
            scopes: new.scopes.clone(),
            login: standing.1.map_or(ticket.number, |login| login.max(ticket.number)),
            granted_at: ticket.at,
            paired_at: txn.now(),
            refreshing_since: None,
        };
        self.shops.put(txn, &new.shop, record);
        // The pair before it is dead at Shopify, so that the links of others get this one, even if the link that was meant
        // was removed meanwhile.
        let origin = Origin { login: ticket.number, granted: Granted { at: Some(ticket.at), by: None } };
        for each in others.iter().chain(ended.is_none().then_some(&link)) {
            self.restart_shop_link(txn, origin, each, new.name.clone(), cause);
        }
        self.void_cleanups(txn, std::slice::from_ref(&link), None);
        self.end_owed_redact(txn, &new.shop);
        Some(ShopStored { link, pair: number, left: ended.map(LeftAlone::Ended), others })
    }

    /// A user's installation, whose own pair is dead because another installation came after it, becomes a link with the
    /// pair that the shop has. `None` when it has none.
    pub(in crate::store) fn join_shop(
        &mut self,
        txn: &mut Txn,
        ticket: Ticket,
        user: UserId,
        (shop, name): (&ShopName, Option<String>),
        cause: Cause,
    ) -> Option<ShopStored> {
        let pair = self.shops.get(shop)?.number;
        let link = LinkKey::of_shop(user, shop.clone());
        let ended = self.endings.ended_since(ticket, None, Some(&link), txn.now());
        if ended.is_none() {
            let origin = Origin { login: ticket.number, granted: Granted { at: Some(ticket.at), by: None } };
            self.restart_shop_link(txn, origin, &link, name, cause);
            self.void_cleanups(txn, std::slice::from_ref(&link), None);
        }
        Some(ShopStored { link, pair, left: ended.map(LeftAlone::Ended), others: Vec::new() })
    }

    /// A new pair starts the link afresh.
    pub(in crate::store) fn restart_shop_link(
        &mut self,
        txn: &mut Txn,
        origin: Origin,
        link: &LinkKey,
        name: Option<String>,
        cause: Cause,
    ) {
        let earlier = self.links.get(link).cloned();
        let record = LinkRecord {
            generation: Generation(txn.next_seq()),
            login: origin.login,
            granted_at: origin.granted.at,
            name: name.or_else(|| earlier.as_ref().and_then(|record| record.name.clone())),
            linked_at: origin.granted.by.or(earlier.map(|record| record.linked_at)).unwrap_or(txn.now()),
            health: Health::Active,
            ..LinkRecord::default()
        };
        self.begin_link(txn, link, record, cause);
    }

    /// The intent of a refresh.
    pub(in crate::store) fn begin_refresh(&mut self, txn: &mut Txn, shop: &ShopName, number: u64) -> bool {
        let Some(record) = self.shops.get(shop).filter(|record| record.number == number).cloned() else { return false };
        if record.refreshing_since.is_none() {
            let refreshing_since = Some(txn.now());
            self.shops.put(txn, shop, ShopRecord { refreshing_since, ..(*record).clone() });
        } else {
            // Somebody else's write, which may be on its way still.
            txn.wait_for_queue();
        }
        true
    }

    /// Both halves of the pair that a refresh brought. Returns its number.
    pub(in crate::store) fn end_refresh(
        &mut self,
        txn: &mut Txn,
        keyring: &Keyring,
        shop: &ShopName,
        number: u64,
        new: &NewShop,
    ) -> Option<u64> {
        let record = self.shops.get(shop).filter(|record| record.number == number).cloned()?;
        let next = txn.next_seq();
        let record = ShopRecord {
            pair: seal_pair(keyring, shop, &new.pair),
            number: next,
            expires_at: new.expires_at,
            refresh_expires_at: new.refresh_expires_at,
            scopes: new.scopes.clone(),
            paired_at: txn.now(),
            refreshing_since: None,
            ..(*record).clone()
        };
        self.shops.put(txn, shop, record);
        Some(next)
    }

    /// Every link of the shop waits for the merchant. Returns whether that is news.
    pub(in crate::store) fn park_shop(&mut self, txn: &mut Txn, shop: &ShopName, number: u64, why: ParkReason) -> bool {
        if self.shops.get(shop).is_none_or(|record| record.number != number) {
            return false;
        }
        let (now, mut is_news) = (txn.now(), false);
        for link in self.links.of_id(&shop.clone().into()) {
            self.update_link(txn, &link, |record| {
                let health = record.health.after(Evidence::Reported(why), now);
                is_news |= health != record.health;
                record.health = health;
            });
        }
        txn.wait_for_queue();
        is_news
    }

    /// The pair with this number works: links that wait for a reason that passed by itself begin again. Returns how many
    /// these are.
    pub(in crate::store) fn revive_shop(&mut self, txn: &mut Txn, shop: &ShopName, number: u64) -> usize {
        let Some(record) = self.shops.get(shop).filter(|record| record.number == number).cloned() else { return 0 };
        let passed = |health: &Health| matches!(health, Health::Parked(parked) if parked.why.may_pass());
        let mut links = self.links.of_id(&shop.clone().into());
        links.retain(|link| self.links.get(link).is_some_and(|link| passed(&link.health)));
        let granted_at = Some(record.granted_at).filter(|at| *at != WallTime(0));
        let origin = Origin { login: record.login, granted: Granted { at: granted_at, by: None } };
        links.iter().for_each(|link| self.restart_shop_link(txn, origin, link, None, Cause::Poll));
        links.len()
    }

    /// Removes every link of a shop whose pair with this number is dead. `None` when the shop has another one by now.
    pub(in crate::store) fn unlink_shop(
        &mut self,
        txn: &mut Txn,
        keyring: &Keyring,
        shop: &ShopName,
        number: u64,
    ) -> Option<Unlinked> {
        self.shops.get(shop).filter(|record| record.number == number)?;
        let links = self.links.of_id(&shop.clone().into());
        Some(self.unlink(txn, keyring, &links, Unlinking::default()))
    }

    /// The last link of a shop went: its tokens go with it.
    pub(in crate::store) fn forget_shop_without_link(&mut self, txn: &mut Txn, link: &LinkKey) {
        if let Some(shop) = link.shop().filter(|_| self.links.of_id(&link.id).is_empty()) {
            self.shops.remove(txn, shop);
        }
    }
}
