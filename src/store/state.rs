//! The store's memory: every record but sessions and bodies, and the ledger of each link.
//!
//! It is split by concern. Each concern keeps its records, indexes and counts to itself and turns each change of a
//! record into a write: [`links`], [`ledger`], [`accounts`], [`nonces`], [`deletions`], [`cleanups`], [`events`],
//! [`erasures`], [`shops`]. Decisions that concern more than one of them are functions of [`State`] and [`Txn`], in
//! [`work`] (marks and objects), [`catalogue`], [`linking`], [`pairs`], [`unlinking`], [`cleaning`] and [`deleting`].
//! No decision reads a disk or a clock.
//!
//! Where several daemons share a database, each has all of this in memory. [`following`] applies what the others
//! decided, [`cluster`] has the leases of all, and [`leasing`] decides which links are this daemon's to read and to
//! write.

pub(super) mod accounts;
pub(super) mod catalogue;
pub(super) mod cleaning;
pub(super) mod cleanups;
pub(super) mod cluster;
pub(super) mod deleting;
pub(super) mod deletions;
pub(super) mod erasures;
pub(super) mod events;
pub(super) mod following;
pub(super) mod leasing;
pub(super) mod ledger;
pub(super) mod linking;
pub(super) mod links;
pub(super) mod name_pool;
pub(super) mod nonces;
pub(super) mod pairs;
pub(super) mod seals;
pub(super) mod shops;
pub(super) mod small_set;
pub(super) mod unlinking;
pub(super) mod work;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::api::{Counts, LinkView, PendingView};
use super::feed::Change;
use super::mark_log::LoggedMark;
use super::records::{AccountRecord, CleanupRecord, DeletionRecord, LinkRecord, ShopRecord};
use super::seal::KeyId;
use super::txn::{Class, Numbers, Txn};
use crate::core::cleanup::Cleanup;
use crate::core::event::Event;
use crate::core::event::EventKind;
use crate::core::grant::Endings;
use crate::core::health::Health;
use crate::core::lease::bucket_of;
use crate::core::ledger::{Entry, Mark, OwedCounts, Staged, Synced};
use crate::core::model::{LinkKey, PartKey, ShopName, Source, WallTime};
use accounts::{AccountKey, Accounts};
use cleanups::Cleanups;
use cluster::Cluster;
use deletions::Deletions;
use erasures::Erasures;
use events::EventQueues;
use ledger::Ledger;
use links::Links;
use nonces::{Nonce, Nonces};
use shops::Shops;

/// The records on disk, decoded.
#[derive(Default)]
pub(super) struct Records {
    pub links: BTreeMap<LinkKey, LinkRecord>,
    pub marks: HashMap<PartKey, Mark>,
    pub outbox: HashMap<PartKey, Staged>,
    pub synced: HashMap<PartKey, Synced>,
    pub accounts: Vec<(AccountKey, AccountRecord)>,
    pub states: Vec<(Nonce, WallTime)>,
    pub deletions: Vec<(String, DeletionRecord)>,
    pub events: BTreeMap<u64, Event>,
    pub cleanups: BTreeMap<Cleanup, CleanupRecord>,
    pub shops: Vec<(ShopName, ShopRecord)>,
    /// The highest number in the mark log.
    pub highest_logged: u64,
    /// The highest number of a read that was staged, of parts that rest as well, and of a bulk operation.
    pub highest_answered: u64,
    /// Since when an erasure is owed.
    pub erasure_owed: Option<WallTime>,
    /// Those that could not be decoded.
    pub damaged: u64,
}

impl Records {
    /// Adds the marks of the mark log that stand, and returns them.
    pub(super) fn add_logged(&mut self, logged: HashMap<PartKey, Mark>) -> Vec<LoggedMark> {
        let mut standing = Vec::new();
        for (part, mark) in logged {
            self.highest_logged = self.highest_logged.max(mark.seq);
            let never = Synced::default();
            let synced = self.synced.get(&part).unwrap_or(&never);
            if self.links.contains_key(&part.link) && mark.stands_beside(self.marks.get(&part), synced) {
                self.marks.insert(part.clone(), mark.clone());
                standing.push((part, mark));
            }
        }
        standing
    }

    /// The highest number in any record.
    fn highest_seq(&self) -> u64 {
        let marks = self.marks.values().map(|mark| mark.seq);
        let outbox = self.outbox.values().map(|staged| staged.seq);
        let cleanups = self.cleanups.values().map(|cleanup| cleanup.seq);
        let links = self.links.values().flat_map(|link| [link.generation.0, link.login, link.hint.unwrap_or(0)]);
        let logins = self.accounts.iter().map(|(_, account)| account.login);
        let numbers = marks.chain(outbox).chain(cleanups).chain(links).chain(logins).chain(self.events.keys().copied());
        let shops = self.shops.iter().flat_map(|(_, shop)| [shop.number, shop.login]);
        numbers.chain(shops).fold(self.highest_logged.max(self.highest_answered), u64::max)
    }

    /// One entry for each link, one for each of its parts that owes something, and one for each object of a link that
    /// is gone that still owes Spaces a delete.
    fn entries(&mut self) -> Vec<(PartKey, Entry)> {
        let parts = self.marks.keys().filter(|part| self.links.contains_key(&part.link));
        // The links' own keys come last: of equal ones the last one stays, and shares its id with the link's record.
        let wholes = self.links.keys().map(LinkKey::whole);
        let keys: BTreeSet<PartKey> = parts.chain(self.outbox.keys()).cloned().chain(wholes).collect();
        let entry = |key: PartKey| {
            let (mark, staged) = (self.marks.remove(&key), self.outbox.remove(&key));
            let synced = self.synced.remove(&key).unwrap_or_default();
            (key, Entry::restored(mark, staged, synced))
        };
        keys.into_iter().map(entry).collect()
    }
}

/// The memory.
pub(super) struct State {
    pub links: Links,
    pub ledger: Ledger,
    pub accounts: Accounts,
    pub shops: Shops,
    /// The decisions of late that ended grants or links.
    pub endings: Endings,
    pub nonces: Nonces,
    pub deletions: Deletions,
    pub cleanups: Cleanups,
    pub events: EventQueues,
    pub erasures: Erasures,
    /// The key of whatever a rotation seals last.
    pub base_key: KeyId,
    numbers: Numbers,
    damaged: u64,
    /// How often the store was opened again.
    pub(super) reopened: u64,
    /// The part of this daemon in a cluster; `None` where it is alone.
    pub(super) cluster: Option<Cluster>,
}

impl State {
    /// What lies on disk.
    pub(super) fn restored(mut records: Records, base_key: KeyId) -> State {
        let numbers = Numbers::above(records.highest_seq(), Class::ALL);
        let mut ledger = Ledger::restored(records.entries());
        let parked = records.links.iter().filter(|(_, record)| !record.health.is_active());
        parked.for_each(|(link, _)| ledger.set_parked(link, true));
        let deletions = Deletions::restored(records.deletions);
        let erasure_owed = records.erasure_owed.or_else(|| deletions.cleared_since());
        State {
            links: Links::restored(records.links),
            ledger,
            accounts: records.accounts.into_iter().collect(),
            shops: records.shops.into_iter().collect(),
            endings: Endings::default(),
            nonces: Nonces::restored(records.states),
            deletions,
            cleanups: Cleanups::restored(records.cleanups),
            events: EventQueues::restored(records.events),
            erasures: Erasures::restored(erasure_owed),
            base_key,
            numbers,
            damaged: records.damaged,
            reopened: 0,
            cluster: None,
        }
    }

    /// The memory of a store that was opened again takes the place of this one; the numbers go on. Returns the earlier
    /// one, which takes a while to drop.
    #[must_use]
    pub(super) fn replace(&mut self, mut fresh: State) -> State {
        fresh.numbers = Numbers::above(fresh.numbers.newest().max(self.numbers.newest()), fresh.numbers.class());
        fresh.events.follow(&self.events);
        fresh.links.follow(&self.links);
        fresh.ledger.follow(&self.ledger);
        fresh.reopened = self.reopened + 1;
        // Logins under way go on, and so does what they must not undo.
        fresh.endings = std::mem::take(&mut self.endings);
        fresh.erasures.follow(&self.erasures);
        fresh.deletions.wait_for(fresh.erasures.wanted());
        std::mem::replace(self, fresh)
    }

    /// A decision begins.
    pub(super) fn begin(&self, now: WallTime) -> Txn {
        Txn::new(now, self.numbers.clone(), self.cluster.is_none())
    }

    /// The memory of this member of a cluster, whose daemons have used numbers up to this one.
    pub(super) fn join(&mut self, member: u64, used: u64) {
        self.numbers = Numbers::above(self.numbers.newest().max(used), Class::of_member(member));
        self.endings.share();
        self.events.share();
        self.cluster = Some(Cluster::new(member));
        self.ledger.pass_all(true);
    }

    /// Another daemon has used numbers up to this one.
    pub(super) fn rise(&self, used: u64) {
        self.numbers.rise(used);
    }

    /// A number for what needs no decision.
    pub(super) fn next_seq(&self) -> u64 {
        self.numbers.next()
    }

    /// The newest number.
    pub(super) fn newest_seq(&self) -> u64 {
        self.numbers.newest()
    }

    /// The decision is made. Returns the newest erasure that was requested with it or before it.
    pub(super) fn conclude(&mut self, txn: &mut Txn) -> u64 {
        self.erasures.conclude(txn);
        self.erasures.wanted()
    }

    /// Writes a link's record, new or changed.
    pub(super) fn put_link_record(&mut self, txn: &mut Txn, link: &LinkKey, record: LinkRecord) {
        self.ledger.set_parked(link, !record.health.is_active());
        self.ledger.absorbing().leave(&link.id);
        self.links.put(txn, link, record);
    }

    /// Changes a link's record.
    pub(super) fn update_link(&mut self, txn: &mut Txn, link: &LinkKey, change: impl FnOnce(&mut LinkRecord)) {
        let Some(standing) = self.links.get(link).cloned() else { return };
        let mut record = (*standing).clone();
        change(&mut record);
        if record == *standing {
            return;
        }
        self.emit_health(txn, link, &standing.health, &record.health);
        if standing.health.is_active() && !record.health.is_active() {
            txn.publish(Change::Parked(link.clone()));
        }
        self.put_link_record(txn, link, record);
    }

    /// A link's health changed: is that something to tell the platform?
    fn emit_health(&mut self, txn: &mut Txn, link: &LinkKey, before: &Health, now: &Health) {
        if let Health::Parked(parked) = now
            && !matches!(before, Health::Parked(earlier) if earlier.why == parked.why)
        {
            self.events.emit(txn, EventKind::NeedsRelink { link: link.clone(), parked: parked.clone() });
        }
    }

    /// How many tokens are sealed with such a key; `None` stands for what is no seal at all.
    pub(super) fn count_sealed(&self, wanted: impl Fn(Option<KeyId>) -> bool) -> usize {
        [self.links.seals(), self.accounts.seals(), self.cleanups.seals(), self.shops.seals()]
            .map(|seals| seals.count(&wanted))
            .iter()
            .sum()
    }

    /// One link as lists show it.
    pub(super) fn view(&self, link: &LinkKey) -> Option<LinkView> {
        Some(self.view_of((link, self.links.get(link)?)))
    }

    /// A link with this record as lists show it.
    pub(super) fn view_of(&self, (link, record): (&LinkKey, &Arc<LinkRecord>)) -> LinkView {
        let parked = !record.health.is_active();
        let (mut synced, mut owed, mut due, mut pending) = (None, false, false, None);
        for (part, entry) in self.ledger.of_link(link) {
            if part.part.is_whole() {
                synced = Some(entry.synced().clone());
            }
            owed |= entry.doable_since(parked).is_some();
            due |= entry.due().is_some();
            pending = PendingView::with(pending, entry);
        }
        let (key, record, synced) = (link.clone(), record.clone(), synced.unwrap_or_default());
        let daemon = self.cluster.as_ref().and_then(|cluster| cluster.leases()[usize::from(bucket_of(link))].owner);
        LinkView { key, record, synced, owed, owed_parked: parked && due, daemon, pending }
    }

    /// Counts for `status` and metrics.
    pub(super) fn counts(&mut self, now: WallTime) -> Counts {
        let health = self.links.healths(now);
        let is_used = |(source, owed): &(Source, OwedCounts)| {
            *owed != OwedCounts::default() || health.keys().any(|(linked, _)| linked == source)
        };
        let owed: BTreeMap<Source, OwedCounts> = self.ledger.owed().filter(is_used).collect();
        Counts {
            links: self.links.len() as u64,
            due: owed.values().map(|owed| owed.due).sum(),
            due_parked: owed.values().map(|owed| owed.due_parked).sum(),
            outbox: owed.values().map(|owed| owed.outbox).sum(),
            owed,
            health,
            oldest_owed: self.ledger.oldest(),
            cleanups: self.cleanups.words().clone(),
            damaged: self.damaged,
        }
    }

    /// Compares every index and count with a scan. Tests do so after each decision.
    #[cfg(test)]
    pub(super) fn check(&self) {
        self.links.check();
        self.accounts.check();
        self.shops.check();
        self.ledger.check();
        self.cleanups.check();
        self.deletions.check();
        self.events.check();
        let is_parked = |link: &&LinkKey| self.links.get(link).is_some_and(|record| !record.health.is_active());
        assert_eq!(
            self.links.keys().filter(is_parked).collect::<BTreeSet<_>>(),
            self.ledger.parked().iter().collect::<BTreeSet<_>>()
        );
        assert!(self.links.keys().all(|link| self.ledger.get(&link.whole()).is_some()), "a link without an entry");
        for page in self.ledger.absorbing().pages() {
            assert!(self.absorbs(&self.links.of_id(&page.clone().into())), "{page} does not absorb");
        }
    }
}
