//! The links in memory: their records, with indexes by id and by person, and counts of their healths.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::Hash;
use std::ops::Bound;
use std::sync::Arc;

use crate::core::health::{EXPIRING, Health, HealthInputs};
use crate::core::model::{AppUserId, Generation, GraphId, LinkKey, PageId, Source, SourceId, UserId, WallTime};
use crate::store::records::LinkRecord;
use crate::store::state::name_pool::NamePool;
use crate::store::state::seals::Seals;
use crate::store::state::small_set::SmallSet;
use crate::store::tree::Tree;
use crate::store::txn::Txn;

/// The links.
#[derive(Default)]
pub(in crate::store) struct Links {
    records: BTreeMap<LinkKey, Arc<LinkRecord>>,
    by_id: HashMap<SourceId, SmallSet<UserId>>,
    by_person: HashMap<AppUserId, SmallSet<LinkKey>>,
    /// Links owed a check that has not begun.
    hinted: HashSet<LinkKey>,
    healths: BTreeMap<Source, Healths>,
    seals: Seals,
    names: NamePool,
}

impl Links {
    /// As they lie on disk.
    pub(in crate::store) fn restored(records: impl IntoIterator<Item = (LinkKey, LinkRecord)>) -> Links {
        let mut links = Links::default();
        for (link, record) in records {
            let is_hinted = record.hint.is_some();
            links.insert(&link, record);
            if is_hinted {
                links.hinted.insert(link);
            }
        }
        links
    }

    /// Takes the place of these after the store was opened again. A check that began before answers for its hint still.
    pub(in crate::store) fn follow(&mut self, earlier: &Links) {
        let begun = |link: &LinkKey| {
            let number = |links: &Links| links.get(link).and_then(|record| record.hint);
            !earlier.hinted.contains(link) && number(earlier) == number(self)
        };
        let begun: Vec<LinkKey> = self.hinted.iter().filter(|link| begun(link)).cloned().collect();
        begun.iter().for_each(|link| self.unhint(link));
    }

    /// A link's record.
    pub(in crate::store) fn get(&self, link: &LinkKey) -> Option<&Arc<LinkRecord>> {
        self.records.get(link)
    }

    /// Is it linked?
    pub(in crate::store) fn contains(&self, link: &LinkKey) -> bool {
        self.records.contains_key(link)
    }

    pub(in crate::store) fn len(&self) -> usize {
        self.records.len()
    }

    #[cfg(test)]
    pub(in crate::store) fn keys(&self) -> impl Iterator<Item = &LinkKey> {
        self.records.keys()
    }

    /// The links behind this one, or all, in the order of their keys.
    pub(in crate::store) fn after(
        &self,
        link: Option<&LinkKey>,
    ) -> impl Iterator<Item = (&LinkKey, &Arc<LinkRecord>)> + use<'_> {
        let from = link.map_or(Bound::Unbounded, Bound::Excluded);
        self.records.range::<LinkKey, _>((from, Bound::Unbounded))
    }

    /// The links of a user, in the order of their keys.
    pub(in crate::store) fn of_user(&self, user: UserId) -> impl Iterator<Item = &LinkKey> + use<'_> {
        // No id is less, and Pages come before shops.
        let first = LinkKey::new(user, PageId::from(GraphId::from(0)));
        self.records.range(first..).map(|(key, _)| key).take_while(move |key| key.user == user)
    }

    /// The counts of the sealed page tokens.
    pub(in crate::store) fn seals(&self) -> &Seals {
        &self.seals
    }

    /// The links of this id, of every user.
    pub(in crate::store) fn of_id(&self, id: &SourceId) -> Vec<LinkKey> {
        let users = self.by_id.get(id).into_iter().flat_map(SmallSet::iter);
        users.map(|user| LinkKey { user: *user, id: id.clone() }).collect()
    }

    /// Links whose token is this person's.
    pub(in crate::store) fn of_person(&self, person: &AppUserId) -> Vec<LinkKey> {
        self.by_person.get(person).into_iter().flat_map(SmallSet::iter).cloned().collect()
    }

    /// How many these are.
    pub(in crate::store) fn count_of_person(&self, person: &AppUserId) -> usize {
        self.by_person.get(person).map_or(0, SmallSet::len)
    }

    /// Is one of the user's links this person's?
    pub(in crate::store) fn has_link_of(&self, user: UserId, person: &AppUserId) -> bool {
        self.by_person.get(person).is_some_and(|links| links.iter().any(|link| link.user == user))
    }

    /// The generation of the token that a link has; `None` when it is not linked.
    pub(in crate::store) fn generation(&self, link: &LinkKey) -> Option<Generation> {
        self.records.get(link).map(|record| record.generation)
    }

    /// These links, each with the generation of its token; links that are gone are left out.
    pub(in crate::store) fn with_generations(&self, links: Vec<LinkKey>) -> Vec<(LinkKey, Generation)> {
        links.into_iter().filter_map(|link| self.generation(&link).map(|generation| (link, generation))).collect()
    }

    /// Writes a link's record, new or changed.
    pub(in crate::store) fn put(&mut self, txn: &mut Txn, link: &LinkKey, record: LinkRecord) {
        txn.put(Tree::Links, link.to_bytes(), &record);
        let person = record.facebook_user.clone();
        let before = self.insert(link, record).and_then(|before| before.facebook_user.clone());
        if before.is_some() && before != person {
            txn.ask_for_erasure();
        }
    }

    /// Removes a link.
    pub(in crate::store) fn remove(&mut self, txn: &mut Txn, link: &LinkKey) -> Option<Arc<LinkRecord>> {
        let record = self.records.remove(link)?;
        self.not_of_health(link, &record);
        self.remove_seal(link, &record);
        self.not_of_person(link, &record);
        self.hinted.remove(link);
        remove_from(&mut self.by_id, &link.id, &link.user);
        txn.remove(Tree::Links, link.to_bytes());
        Some(record)
    }

    fn insert(&mut self, link: &LinkKey, mut record: LinkRecord) -> Option<Arc<LinkRecord>> {
        self.names.share(&mut record);
        let record = Arc::new(record);
        insert_into(&mut self.by_id, &link.id, link.user);
        self.healths.entry(link.id.source()).or_default().add(&record);
        if link.page().is_some() {
            self.seals.add(&record.token);
        }
        if record.hint.is_none() {
            self.hinted.remove(link);
        }
        let before = self.records.insert(link.clone(), record.clone());
        if let Some(before) = &before {
            self.not_of_health(link, before);
            self.remove_seal(link, before);
            self.not_of_person(link, before);
        }
        if let Some(person) = &record.facebook_user {
            insert_into(&mut self.by_person, person, link.clone());
        }
        before
    }

    fn not_of_health(&mut self, link: &LinkKey, record: &LinkRecord) {
        if let Some(healths) = self.healths.get_mut(&link.id.source()) {
            healths.remove(record);
        }
    }

    /// A shop's link has no token of its own.
    fn remove_seal(&mut self, link: &LinkKey, record: &LinkRecord) {
        if link.page().is_some() {
            self.seals.remove(&record.token);
        }
    }

    fn not_of_person(&mut self, link: &LinkKey, record: &LinkRecord) {
        if let Some(person) = &record.facebook_user {
            remove_from(&mut self.by_person, person, link);
        }
    }

    /// A check of this link is owed. Returns whether none was owed that has not begun.
    pub(in crate::store) fn hint(&mut self, link: &LinkKey) -> bool {
        self.hinted.insert(link.clone())
    }

    /// The check that is owed begins, or is void.
    pub(in crate::store) fn unhint(&mut self, link: &LinkKey) {
        self.hinted.remove(link);
    }

    /// How many links of each source have each health, by its word, as far as the store knows.
    pub(in crate::store) fn healths(&mut self, now: WallTime) -> BTreeMap<(Source, &'static str), u64> {
        let of = |(source, healths): (&Source, &mut Healths)| {
            let source = *source;
            healths.words(now).into_iter().map(move |(word, count)| ((source, word), count))
        };
        self.healths.iter_mut().flat_map(of).collect()
    }

    /// Compares indexes and counts with a scan.
    #[cfg(test)]
    pub(in crate::store) fn check(&self) {
        let empty = |healths: &Healths| Healths { horizon: healths.horizon, ..Healths::default() };
        let mut scanned: BTreeMap<Source, Healths> =
            self.healths.iter().map(|(source, healths)| (*source, empty(healths))).collect();
        let (mut ids, mut persons) = (0, 0);
        for (link, record) in &self.records {
            scanned.entry(link.id.source()).or_default().add(record);
            assert!(self.by_id[&link.id].iter().any(|user| *user == link.user));
            if let Some(person) = &record.facebook_user {
                assert!(self.by_person[person].iter().any(|known| known == link));
                persons += 1;
            }
            ids += 1;
        }
        assert_eq!(scanned, self.healths);
        let pages = self.records.iter().filter(|(link, _)| link.page().is_some());
        assert_eq!(pages.map(|(_, record)| &record.token).collect::<Seals>(), self.seals);
        assert_eq!(ids, self.by_id.values().map(SmallSet::len).sum::<usize>());
        assert_eq!(persons, self.by_person.values().map(SmallSet::len).sum::<usize>());
        assert!(self.hinted.iter().all(|link| self.get(link).is_some_and(|record| record.hint.is_some())));
    }
}

fn insert_into<K: Hash + Eq + Clone, T: Ord + Clone>(sets: &mut HashMap<K, SmallSet<T>>, key: &K, element: T) {
    match sets.entry(key.clone()) {
        Entry::Occupied(set) => set.into_mut().insert(element),
        Entry::Vacant(place) => drop(place.insert(SmallSet::One(element))),
    }
}

fn remove_from<K: Hash + Eq, T: Ord + Clone>(sets: &mut HashMap<K, SmallSet<T>>, key: &K, element: &T) {
    if sets.get_mut(key).is_some_and(|set| set.remove(element)) {
        sets.remove(key);
    }
}

/// How many links are in which health. Time makes active links expiring without any decision, so the ends of their
/// tokens are kept in order, and those up to a horizon are counted; the horizon moves when somebody looks.
#[derive(Debug, Default, PartialEq, Eq)]
struct Healths {
    parked: BTreeMap<&'static str, u64>,
    active: u64,
    /// When tokens of active links end, and how many do then.
    ends: BTreeMap<WallTime, u64>,
    horizon: WallTime,
    /// How many end up to the horizon.
    expiring: u64,
}

impl Healths {
    fn add(&mut self, record: &LinkRecord) {
        if let Health::Parked(parked) = &record.health {
            *self.parked.entry(parked.why.word()).or_default() += 1;
            return;
        }
        self.active += 1;
        if let Some(at) = record.checked.expires_at {
            *self.ends.entry(at).or_default() += 1;
            self.expiring += u64::from(at <= self.horizon);
        }
    }

    fn remove(&mut self, record: &LinkRecord) {
        if let Health::Parked(parked) = &record.health {
            return take_one(&mut self.parked, &parked.why.word());
        }
        self.active -= 1;
        if let Some(at) = record.checked.expires_at {
            take_one(&mut self.ends, &at);
            self.expiring -= u64::from(at <= self.horizon);
        }
    }

    fn words(&mut self, now: WallTime) -> BTreeMap<&'static str, u64> {
        let (before, horizon) = (self.horizon, now.plus(EXPIRING));
        let between = |from, to| (Bound::Excluded(from), Bound::Included(to));
        if horizon > before {
            self.expiring += self.ends.range(between(before, horizon)).map(|(_, count)| count).sum::<u64>();
        } else if horizon < before {
            self.expiring -= self.ends.range(between(horizon, before)).map(|(_, count)| count).sum::<u64>();
        }
        self.horizon = horizon;
        let word = |expires_at| Health::Active.shown(HealthInputs { expires_at, throttled_until: None }, now).word;
        let mut words = self.parked.clone();
        for (word, count) in [(word(None), self.active - self.expiring), (word(Some(now)), self.expiring)] {
            if count > 0 {
                words.insert(word, count);
            }
        }
        words
    }
}

fn take_one<K: Ord>(counts: &mut BTreeMap<K, u64>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::health::ParkReason;
    use proptest::prelude::*;

    fn record(kind: u8, at: u8) -> LinkRecord {
        let mut record = LinkRecord::default();
        match kind {
            0 => {}
            1 => record.health = Health::parked(ParkReason::Expired, WallTime(1)),
            2 => record.health = Health::parked(ParkReason::PageGone, WallTime(1)),
            _ => record.checked.expires_at = Some(WallTime(0).plus(EXPIRING * u32::from(at))),
        }
        record
    }

    proptest! {
        /// Whenever somebody looks, the counts say what a scan says, also after the clock was set back.
        #[test]
        fn the_counted_healths_are_those_of_a_scan(
            steps in prop::collection::vec((0u8..4, 0u8..4, 0u8..9, 0u8..9), 1..40)
        ) {
            let mut records: BTreeMap<u8, LinkRecord> = BTreeMap::new();
            let mut healths = Healths::default();
            for (link, kind, at, now) in steps {
                let next = record(kind, at);
                healths.add(&next);
                if let Some(before) = records.insert(link, next) {
                    healths.remove(&before);
                }
                let now = WallTime(0).plus(EXPIRING * u32::from(now));
                let mut scanned: BTreeMap<&'static str, u64> = BTreeMap::new();
                for record in records.values() {
                    let signs = HealthInputs { expires_at: record.checked.expires_at, throttled_until: None };
                    *scanned.entry(record.health.shown(signs, now).word).or_default() += 1;
                }
                prop_assert_eq!(healths.words(now), scanned);
            }
        }
    }
}
