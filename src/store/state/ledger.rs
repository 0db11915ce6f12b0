//! What is owed to each part of a link, with the counts and indexes that follow from it.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::Bound;
use std::sync::Arc;

use crate::core::lease::{BUCKETS, bucket_of};
use crate::core::ledger::{Change, Entry, Mark, Marked, OwedCounts, Staged, Synced};
use crate::core::model::{AppUserId, Cause, LinkKey, PartKey, Source, WallTime};
use crate::store::absorbing::Absorbing;
use crate::store::tree::{Pieces, Tree, body_keys, body_writes};
use crate::store::txn::Txn;

/// The ledger. Each link has at least the entry of its whole. Another part has one while it owes something or is being
/// read; at rest it lies on disk alone, so that memory does not grow with the parts of a link. A part that is not linked any
/// more has an entry while it owes Spaces something.
#[derive(Default)]
pub(in crate::store) struct Ledger {
    entries: BTreeMap<PartKey, Entry>,
    /// Links that wait for a person.
    parked: HashSet<LinkKey>,
    totals: Totals,
    absorbing: Arc<Absorbing>,
    /// The buckets of links whose reads are another daemon's; `None` where all are this one's.
    elsewhere: Option<Box<Buckets>>,
}

/// Some of the buckets.
pub(in crate::store) type Buckets = [bool; BUCKETS as usize];

impl Ledger {
    /// As it lies on disk. Links that wait for a person are named afterwards.
    pub(in crate::store) fn restored(entries: impl IntoIterator<Item = (PartKey, Entry)>) -> Ledger {
        let mut ledger = Ledger { entries: entries.into_iter().collect(), ..Ledger::default() };
        ledger.entries.iter().for_each(|(part, entry)| ledger.totals.add(part, Owed::of(entry, false)));
        ledger
    }

    /// Takes the place of this one after the store was opened again.
    pub(in crate::store) fn follow(&mut self, earlier: &Ledger) {
        self.absorbing = earlier.absorbing.clone();
        // Whose reads are whose is decided anew.
        self.absorbing.clear();
    }

    /// The pages that absorb.
    pub(in crate::store) fn absorbing(&self) -> &Arc<Absorbing> {
        &self.absorbing
    }

    /// Are the reads of this link another daemon's?
    pub(in crate::store) fn is_elsewhere(&self, link: &LinkKey) -> bool {
        self.elsewhere.as_ref().is_some_and(|buckets| buckets[usize::from(bucket_of(link))])
    }

    /// The reads of all links are another daemon's, or none are.
    pub(in crate::store) fn pass_all(&mut self, elsewhere: bool) {
        self.pass(&[elsewhere; BUCKETS as usize]);
    }

    /// From here on the reads of the links in these buckets are another daemon's.
    pub(in crate::store) fn pass(&mut self, elsewhere: &Buckets) {
        let before = self.elsewhere.replace(Box::new(*elsewhere)).map_or([false; BUCKETS as usize], |before| *before);
        if before == *elsewhere {
            return;
        }
        self.absorbing.clear();
        let passes = |part: &PartKey| {
            let bucket = usize::from(bucket_of(&part.link));
            (before[bucket] != elsewhere[bucket]).then_some(elsewhere[bucket])
        };
        let parts: Vec<(PartKey, bool)> =
            self.entries.keys().filter_map(|part| Some((part.clone(), passes(part)?))).collect();
        for (part, elsewhere) in parts {
            self.change(&part, |entry| entry.pass(elsewhere));
            self.rest(&part);
        }
    }

    /// Another daemon made this mark, or cleared the one that stood.
    pub(in crate::store) fn follow_mark(&mut self, part: &PartKey, mark: Option<Mark>) {
        let elsewhere = self.is_elsewhere(&part.link);
        self.follow_part(part, mark.is_some(), |entry| entry.follow_mark(mark, elsewhere));
    }

    /// Another daemon staged this for Spaces, or completed what was staged.
    pub(in crate::store) fn follow_staged(&mut self, part: &PartKey, staged: Option<Staged>) {
        self.follow_part(part, staged.is_some(), |entry| entry.follow_staged(staged));
    }

    /// Another daemon noted this of Spaces, or forgot what was known.
    pub(in crate::store) fn follow_synced(&mut self, part: &PartKey, synced: Option<Synced>) {
        self.follow_part(part, synced.is_some(), |entry| entry.follow_synced(synced.unwrap_or_default()));
    }

    fn follow_part(&mut self, part: &PartKey, creates: bool, work: impl FnOnce(&mut Entry)) {
        if creates {
            self.create(part);
        }
        self.change(part, work);
    }

    /// All writes about this part are followed: what nobody needs in memory goes.
    pub(in crate::store) fn end_following(&mut self, part: &PartKey, is_linked: bool) {
        if !is_linked {
            self.forget_if_complete(part);
        }
        self.rest(part);
    }

    /// Another daemon removed the link: whoever reads it is fenced off. Returns its parts.
    pub(in crate::store) fn follow_unlink(&mut self, link: &LinkKey) -> Vec<PartKey> {
        self.set_parked(link, false);
        let elsewhere = self.is_elsewhere(link);
        let parts: Vec<PartKey> = self.of_link(link).map(|(part, _)| part.clone()).collect();
        for part in &parts {
            self.change(part, |entry| entry.pass(elsewhere));
        }
        parts
    }

    /// The entry of a part.
    pub(in crate::store) fn get(&self, part: &PartKey) -> Option<&Entry> {
        self.entries.get(part)
    }

    /// The entries of a link's parts.
    pub(in crate::store) fn of_link<'a>(&'a self, link: &'a LinkKey) -> impl Iterator<Item = (&'a PartKey, &'a Entry)> {
        self.entries.range(link.whole()..).take_while(move |(part, _)| part.link == *link)
    }

    /// Does this link owe Spaces something?
    pub(in crate::store) fn owes_spaces(&self, link: &LinkKey) -> bool {
        self.of_link(link).any(|(_, entry)| entry.staged().is_some())
    }

    /// Works on the entry of a part, where there is one.
    pub(in crate::store) fn change<R>(&mut self, part: &PartKey, work: impl FnOnce(&mut Entry) -> R) -> Option<R> {
        let entry = self.entries.get_mut(part)?;
        let parked = self.parked.contains(&part.link);
        let before = Owed::of(entry, parked);
        let answer = work(entry);
        let after = Owed::of(entry, parked);
        if !entry.absorbs() {
            self.absorbing.leave(&part.link.id);
        }
        if before != after {
            self.totals.remove(part, before);
            self.totals.add(part, after);
        }
        Some(answer)
    }

    /// Sees to it that a part has an entry.
    pub(in crate::store) fn create(&mut self, part: &PartKey) {
        if !self.entries.contains_key(part) {
            self.absorbing.leave(&part.link.id);
            let entry = if part.part.is_whole() { Entry::default() } else { Entry::unread() };
            self.entries.insert(part.clone(), entry);
        }
    }

    /// Removes the entry of a part, unless something is owed. Returns whether it was removed.
    pub(in crate::store) fn forget_if_complete(&mut self, part: &PartKey) -> bool {
        let is_complete = self.entries.get(part).is_some_and(|entry| entry.owed_since().is_none());
        is_complete && self.entries.remove(part).is_some()
    }

    /// Forgets a part that rests. What was decided about it must be on its way to disk.
    pub(in crate::store) fn rest(&mut self, part: &PartKey) {
        if !part.part.is_whole() && self.entries.get(part).is_some_and(Entry::rests) {
            self.entries.remove(part);
        }
    }

    /// Parts of a link, its whole left out, with a mark that no read answers for: so many of those that `is_ready` says are,
    /// each with what asked for its read. Those for which somebody but the daemon itself asked come first, the oldest in
    /// front; a quarter is left to the others, so that none waits for ever.
    pub(in crate::store) fn due_parts(
        &self,
        link: &LinkKey,
        most: usize,
        mut is_ready: impl FnMut(&PartKey, WallTime) -> bool,
    ) -> Vec<(PartKey, Cause)> {
        let (mut urgent, mut others) = (Vec::new(), Vec::new());
        for (part, entry) in self.of_link(link).filter(|(part, entry)| !part.part.is_whole() && entry.wants_reader()) {
            let Some(mark) = entry.due().filter(|mark| is_ready(part, mark.since)) else { continue };
            let cause = entry.hastened().unwrap_or(mark.cause);
            let list = if cause == Cause::Poll { &mut others } else { &mut urgent };
            list.push((mark.since, part, cause));
        }
        urgent.sort_unstable_by_key(|(since, part, _)| (*since, *part));
        others.sort_unstable_by_key(|(since, part, _)| (*since, *part));
        urgent.truncate(most - others.len().min(most / 4));
        urgent.into_iter().chain(others).take(most).map(|(_, part, cause)| (part.clone(), cause)).collect()
    }

    /// Does this link wait for a person?
    pub(in crate::store) fn set_parked(&mut self, link: &LinkKey, parked: bool) {
        let changed = if parked { self.parked.insert(link.clone()) } else { self.parked.remove(link) };
        if !changed {
            return;
        }
        for (part, entry) in self.entries.range(link.whole()..).take_while(|(part, _)| part.link == *link) {
            self.totals.remove(part, Owed::of(entry, !parked));
            self.totals.add(part, Owed::of(entry, parked));
        }
    }

    /// Marks a part.
    pub(in crate::store) fn mark(&mut self, txn: &mut Txn, part: &PartKey, cause: Cause) -> Marked {
        let (now, seq, elsewhere) = (txn.now(), txn.next_seq(), self.is_elsewhere(&part.link));
        let mark = |entry: &mut Entry| {
            let marked = entry.mark(cause, now, seq);
            if elsewhere {
                // The reader may claim it at any time, so it stands for no event that comes later.
                entry.pass(true);
            }
            marked
        };
        let marked = self.change(part, mark).or_else(|| {
            self.create(part);
            self.change(part, mark)
        });
        let marked = marked.unwrap_or(Marked::Standing);
        if let Marked::New(change) = &marked {
            write_changes(txn, part, [change.clone()], Pieces::default());
        }
        marked
    }

    /// The mark of a link's whole, as the machine of the link sees it. That it was asked for again is said once.
    pub(in crate::store) fn take_marks(&mut self, link: &LinkKey) -> LinkMarks {
        let mut marks = LinkMarks::default();
        let whole = self.entries.get_mut(&link.whole());
        if let Some((entry, cause)) =
            whole.and_then(|entry| entry.due().map(|mark| mark.cause).map(|cause| (entry, cause)))
        {
            marks.due = true;
            marks.hastened = entry.hastened();
            marks.unclaimed = entry.wants_reader().then_some(cause);
            // Counts and indexes do not tell marks that were asked for again from others.
            marks.repeated = entry.take_repeated();
        }
        if marks.repeated {
            self.absorbing.leave(&link.id);
        }
        marks
    }

    /// Marks a part, for a decision that writes to the database more than this mark. A mark that is on its way to disk
    /// goes there with the decision as well, because it might come later than the decision otherwise.
    pub(in crate::store) fn mark_with_writes(&mut self, txn: &mut Txn, part: &PartKey, cause: Cause) {
        if self.mark(txn, part, cause) == Marked::Pending
            && let Some(mark) = self.entries.get(part).and_then(Entry::due)
        {
            txn.put_mark_into_database(part, mark);
        }
    }

    /// The mark of this number is durable.
    pub(in crate::store) fn is_durable(&mut self, part: &PartKey, seq: u64) {
        // Counts and indexes do not tell marks that are durable from others.
        if let Some(entry) = self.entries.get_mut(part) {
            entry.mark_is_durable(seq);
        }
    }

    /// Writes marks that stand and have a higher number than `above` into the database: no more than `writes`, of no
    /// more than `looks` entries behind `after`. Returns the last of these entries; `None` when there is none.
    pub(in crate::store) fn write_marks(
        &self,
        txn: &mut Txn,
        after: Option<&PartKey>,
        above: u64,
        looks: usize,
        mut writes: usize,
    ) -> Option<PartKey> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut last = None;
        for (part, entry) in self.entries.range((start, Bound::Unbounded)).take(looks) {
            last = Some(part);
            if let Some(mark) = entry.due().filter(|mark| mark.seq > above) {
                txn.put_mark_into_database(part, mark);
                writes -= 1;
                if writes == 0 {
                    break;
                }
            }
        }
        last.cloned()
    }

    /// Parts that owe Spaces something.
    pub(in crate::store) fn outbox_parts(&self) -> Vec<PartKey> {
        self.totals.outbox.iter().cloned().collect()
    }

    /// Links with an object, once this person's, that is to be deleted.
    pub(in crate::store) fn deletes_of(&self, person: &AppUserId) -> impl Iterator<Item = &LinkKey> {
        self.totals.deletes.get(person).into_iter().flatten().map(|part| &part.link)
    }

    /// The numbers of what is owed, by source: marks that the daemon can answer, marks that wait for a person, and entries
    /// of the outbox.
    pub(in crate::store) fn owed(&self) -> impl Iterator<Item = (Source, OwedCounts)> {
        Source::ALL.into_iter().map(|source| (source, self.totals.owed[source as usize]))
    }

    /// Entries of the outbox.
    pub(in crate::store) fn outbox(&self) -> u64 {
        self.totals.outbox.len() as u64
    }

    /// Since when the oldest of what the daemon can do is owed.
    pub(in crate::store) fn oldest(&self) -> Option<WallTime> {
        self.totals.since.first().map(|(since, _)| *since)
    }

    /// Compares counts and indexes with a scan.
    #[cfg(test)]
    pub(in crate::store) fn check(&self) {
        let mut scanned = Totals::default();
        for (part, entry) in &self.entries {
            scanned.add(part, Owed::of(entry, self.parked.contains(&part.link)));
        }
        assert_eq!(scanned, self.totals);
    }

    /// The links that wait for a person, for a comparison.
    #[cfg(test)]
    pub(in crate::store) fn parked(&self) -> &HashSet<LinkKey> {
        &self.parked
    }
}

/// Turns the ledger's changes into writes; `body` belongs to a [`Change::PutStaged`] among them.
pub(in crate::store) fn write_changes(
    txn: &mut Txn,
    part: &PartKey,
    changes: impl IntoIterator<Item = Change>,
    body: Pieces,
) {
    let (key, mut body) = (|| part.to_bytes(), Some(body));
    for change in changes {
        match change {
            Change::PutMark(mark) => txn.put_mark(part, mark),
            Change::ClearMark => txn.remove(Tree::Marks, key()),
            Change::PutSynced(synced) => txn.put(Tree::Synced, key(), &synced),
            Change::ClearSynced => txn.remove(Tree::Synced, key()),
            Change::PutStaged(staged) => {
                txn.put(Tree::Outbox, key(), &staged);
                body_writes(part, &staged, body.take().unwrap_or_default()).for_each(|write| txn.write(write));
            }
            Change::ClearStaged(staged) => {
                if staged.person.is_some() {
                    txn.ask_for_erasure();
                }
                txn.remove(Tree::Outbox, key());
                body_keys(part, &staged).for_each(|piece| txn.remove(Tree::Bodies, piece));
            }
        }
    }
}

/// The mark of a link's whole.
#[derive(Debug, Default)]
pub(in crate::store) struct LinkMarks {
    /// Its cause, if no read answers for it.
    pub unclaimed: Option<Cause>,
    /// What asked for the read after the mark was made for another cause.
    pub hastened: Option<Cause>,
    /// There is one.
    pub due: bool,
    /// Something asked again for a read for which it stands, since it was taken last.
    pub repeated: bool,
}

/// What an entry adds to the totals.
#[derive(Debug, PartialEq, Eq)]
struct Owed {
    /// A read is owed.
    due: bool,
    /// It waits for a person.
    parked: bool,
    /// A write or a delete is owed.
    outbox: bool,
    /// Since when the oldest is owed that the daemon can do.
    since: Option<WallTime>,
    /// A delete is owed of an object that was this person's.
    delete_of: Option<AppUserId>,
}

impl Owed {
    fn of(entry: &Entry, parked: bool) -> Owed {
        Owed {
            due: entry.due().is_some(),
            parked,
            outbox: entry.staged().is_some(),
            since: entry.doable_since(parked),
            delete_of: entry.staged().and_then(|staged| staged.person.clone()),
        }
    }
}

/// Counts and indexes over all entries. A read that waits for a person does not mean that the daemon is behind, so it
/// has its own count.
#[derive(Debug, Default, PartialEq, Eq)]
struct Totals {
    /// By source, in the order of [`Source::ALL`].
    owed: [OwedCounts; Source::ALL.len()],
    outbox: BTreeSet<PartKey>,
    since: BTreeSet<(WallTime, PartKey)>,
    deletes: BTreeMap<AppUserId, BTreeSet<PartKey>>,
}

impl Totals {
    fn add(&mut self, part: &PartKey, owed: Owed) {
        self.count(part, &owed, |count, by| *count += by);
        if owed.outbox {
            self.outbox.insert(part.clone());
        }
        if let Some(since) = owed.since {
            self.since.insert((since, part.clone()));
        }
        if let Some(person) = owed.delete_of {
            self.deletes.entry(person).or_default().insert(part.clone());
        }
    }

    fn remove(&mut self, part: &PartKey, owed: Owed) {
        self.count(part, &owed, |count, by| *count -= by);
        if owed.outbox {
            self.outbox.remove(part);
        }
        if let Some(since) = owed.since {
            self.since.remove(&(since, part.clone()));
        }
        if let Some(person) = owed.delete_of
            && let Some(parts) = self.deletes.get_mut(&person)
        {
            parts.remove(part);
            if parts.is_empty() {
                self.deletes.remove(&person);
            }
        }
    }

    fn count(&mut self, part: &PartKey, owed: &Owed, change: impl Fn(&mut u64, u64)) {
        let counts = &mut self.owed[part.link.source() as usize];
        change(if owed.parked { &mut counts.due_parked } else { &mut counts.due }, owed.due.into());
        change(&mut counts.outbox, owed.outbox.into());
    }
}
