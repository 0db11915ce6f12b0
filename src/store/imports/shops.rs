//! Lines with links of shops. Which pair a shop has after a line is decided by
//! [`shop_pair`](crate::core::shop_pair).

use super::{AT_ONCE, Imported, LeftLine, Reason, Subject};
use crate::core::grant::{Better, Decision, Granted, Ticket};
use crate::core::model::{Cause, LinkKey, ShopName, UserId, WallTime};
use crate::core::shop_pair::{PairAge, StandingPair, decide, is_dead};
use crate::store::api::Unavailable;
use crate::store::inner::Store;
use crate::store::records::{LinkRecord, ShopPair, ShopRecord, open_pair, seal_pair};
use crate::store::seal::Keyring;
use crate::store::state::State;
use crate::store::state::linking::Origin;
use crate::store::txn::Txn;

/// An access token lives an hour. One that is said to live longer than this has an end that says nothing.
const LONGEST_LIFE: std::time::Duration = std::time::Duration::from_secs(24 * 60 * 60);

/// A line with the link of a shop.
#[derive(Debug, Clone)]
pub struct ShopLine {
    /// Counted from 1.
    pub line: usize,
    /// The user.
    pub user: UserId,
    /// The shop.
    pub shop: ShopName,
    /// The tokens of the shop. Without a refresh token it is an old token, which is exchanged for a pair before its use.
    pub pair: ShopPair,
    /// When the access token ends; `None` when the line does not say.
    pub expires_at: Option<WallTime>,
    /// The name of the shop, where known.
    pub name: Option<String>,
    /// When the app was installed, and when the shop was linked, as far as the line says.
    pub granted: Granted,
}

impl ShopLine {
    /// The link.
    pub fn key(&self) -> LinkKey {
        LinkKey::of_shop(self.user, self.shop.clone())
    }

    /// When the access token ends, unless that is said by a clock that was wrong.
    fn ends_at(&self, now: WallTime) -> Option<WallTime> {
        self.expires_at.filter(|at| *at <= now.plus(LONGEST_LIFE))
    }

    /// What the line says of times in the past.
    fn granted(&self, now: WallTime) -> Granted {
        let past = |at: &WallTime| *at <= now;
        Granted { at: self.granted.at.filter(past), by: self.granted.by.filter(past) }
    }

    fn age(&self, now: WallTime) -> PairAge {
        let granted_at = self.granted(now).at;
        PairAge { granted_at, ends_at: self.ends_at(now), renewable: !self.pair.refresh.is_empty() }
    }
}

impl Store {
    /// Makes links of lines, and marks each due. The shops keep pairs that are better, and what was ended after the
    /// ticket was taken stays ended. No two of the lines have the same link.
    ///
    /// # Errors
    /// [`Unavailable`]; the lines before the failure stay.
    pub async fn import_shops(
        &self,
        ticket: Ticket,
        lines: &[ShopLine],
        replace: bool,
    ) -> Result<Imported, Unavailable> {
        let mut imported = Imported::default();
        for lines in lines.chunks(AT_ONCE) {
            let import = |state: &mut State, txn: &mut Txn| {
                let (keyring, mut some) = (self.inner.keyring(), Imported::default());
                lines.iter().for_each(|line| state.import_shop(txn, &keyring, ticket, line, replace, &mut some));
                state.void_cleanups(txn, &some.links, None);
                some
            };
            imported.add(self.commit(import).await?);
        }
        Ok(imported)
    }
}

impl State {
    fn import_shop(
        &mut self,
        txn: &mut Txn,
        keyring: &Keyring,
        ticket: Ticket,
        line: &ShopLine,
        replace: bool,
        imported: &mut Imported,
    ) {
        let link = line.key();
        let named = |reason| LeftLine { line: line.line, subject: Subject::Link(link.clone()), reason };
        if let Some(ended) = self.endings.ended_since(ticket, None, Some(&link), txn.now()) {
            return imported.left.push(named(Reason::Ended(ended)));
        }
        let stands = self.links.contains(&link);
        match self.pair_decision(keyring, ticket, line, replace, txn.now()) {
            Decision::Put => self.put_imported_pair(txn, keyring, line),
            Decision::Same if stands => {
                self.complete_shop_link(txn, &link, line);
                return imported.same.push(link);
            }
            Decision::Same => self.put_imported_link(txn, &link, line),
            Decision::Leave(better) if stands => return imported.left.push(named(Reason::Better(better))),
            Decision::Leave(better) => {
                self.put_imported_link(txn, &link, line);
                imported.kept.push(named(Reason::Better(better)));
            }
            // No try tells which of two pairs is the newer.
            Decision::Try => return imported.left.push(named(Reason::Better(Better::OtherUnknown))),
        }
        imported.links.push(link);
    }

    /// Of several lines of one import with the same link the last one counts: a pair that an earlier line brought, and
    /// that was not refreshed since, is replaced.
    fn pair_decision(
        &self,
        keyring: &Keyring,
        ticket: Ticket,
        line: &ShopLine,
        replace: bool,
        now: WallTime,
    ) -> Decision {
        let Some(record) = self.shops.get(&line.shop) else { return Decision::Put };
        let standing = self.standing_pair(keyring, line, record, now);
        let of_this_import = record.login == 0 && record.number > ticket.number && record.paired_at == WallTime(0);
        let is_again = self.links.get(&line.key()).is_some_and(|link| link.generation.0 > ticket.number);
        match decide(standing, line.age(now)) {
            Decision::Leave(_) if replace || (of_this_import && is_again) => Decision::Put,
            decision => decision,
        }
    }

    fn standing_pair(&self, keyring: &Keyring, line: &ShopLine, record: &ShopRecord, now: WallTime) -> StandingPair {
        let links = self.links.of_id(&line.shop.clone().into());
        let is_held = links.iter().filter_map(|link| self.links.get(link)).any(|link| !is_dead(&link.health));
        let is_over = record.refresh_expires_at.is_some_and(|at| at <= now) && record.expires_at <= now;
        let pair = open_pair(keyring, &line.shop, &record.pair).ok();
        let known = |at: WallTime| Some(at).filter(|at| *at != WallTime(0));
        let age = PairAge {
            granted_at: known(record.granted_at),
            ends_at: known(record.expires_at),
            renewable: pair.as_ref().is_some_and(|pair| !pair.refresh.is_empty()),
        };
        StandingPair {
            works: is_held && !is_over && pair.is_some(),
            same: pair.is_some_and(|pair| pair.access == line.pair.access && pair.refresh == line.pair.refresh),
            age,
        }
    }

    /// The shop gets the pair of a line, and every link of it begins again with that pair.
    fn put_imported_pair(&mut self, txn: &mut Txn, keyring: &Keyring, line: &ShopLine) {
        let (link, now) = (line.key(), txn.now());
        let record = ShopRecord {
            pair: seal_pair(keyring, &line.shop, &line.pair),
            number: txn.next_seq(),
            // An access token of unknown age is exchanged before it is used.
            expires_at: line.ends_at(now).unwrap_or_default(),
            granted_at: line.granted(now).at.unwrap_or_default(),
            // Nobody knows how old it is: if it is refused it is exchanged before it counts as dead.
            paired_at: WallTime(0),
            ..ShopRecord::default()
        };
        if self.shops.get(&line.shop).is_some() {
            // The refresh token before it may live for months.
            txn.ask_for_erasure();
        }
        self.shops.put(txn, &line.shop, record);
        let mut others = self.links.of_id(&line.shop.clone().into());
        others.retain(|other| *other != link);
        let origin = Origin { login: 0, granted: Granted { by: None, ..line.granted(now) } };
        for other in others {
            self.restart_shop_link(txn, origin, &other, None, Cause::Link);
        }
        self.put_imported_link(txn, &link, line);
    }

    fn put_imported_link(&mut self, txn: &mut Txn, link: &LinkKey, line: &ShopLine) {
        let origin = Origin { login: 0, granted: line.granted(txn.now()) };
        self.restart_shop_link(txn, origin, link, line.name.clone(), Cause::Link);
    }

    /// A link has the pair of a line: what the line knows beside it is kept, and the shop is read again.
    fn complete_shop_link(&mut self, txn: &mut Txn, link: &LinkKey, line: &ShopLine) {
        let granted = line.granted(txn.now());
        self.update_link(txn, link, |record: &mut LinkRecord| {
            record.name = record.name.take().or(line.name.clone());
            record.granted_at = record.granted_at.or(granted.at);
        });
        self.mark_due(txn, &link.whole(), Cause::Link);
    }
}
