//! The store's memory: every record but sessions, and the ledger of each link. Decisions are made here, under the
//! store's one lock; the writes they cause are gathered and handed to the committer in the same order.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, mpsc};

use tokio::sync::oneshot;

use super::accounts::{AccountKey, Accounts};
use super::codec;

use super::deletions::{awaited, cleared, open_deletions, waits_for_erasure};
use super::engine::{Engine, Tree, Write, body_keys, body_writes};
use super::erasure::{self, Erasures};
use super::events::EventQueues;
use super::feed::{self, Feed};
use super::handle::guarded;
use super::load::Loaded;
use super::open_error::OpenError;
use super::order::{Order, Request};
use super::records::{AccountRecord, CleanupRecord, DeletionRecord, LinkRecord, Sealed, account_key};
use super::seal::KeyId;
use super::{Counts, LinkView, Unavailable};
use crate::core::cleanup::Cleanup;
use crate::core::event::EventKind;
use crate::core::grant::Endings;
use crate::core::health::HealthInputs;
use crate::core::ledger::{Change, Entry, Marked};
use crate::core::model::{AppUserId, Cause, LinkKey, PartKey, SourceId, UserId, WallTime};

pub(super) struct State {
    records: BTreeMap<LinkKey, Arc<LinkRecord>>,
    by_id: HashMap<SourceId, BTreeSet<UserId>>,
    by_person: HashMap<AppUserId, BTreeSet<LinkKey>>,
    /// Links owed a check that has not begun.
    pub(super) hinted: HashSet<LinkKey>,
    /// Each link has at least the entry of its whole.
    ledger: BTreeMap<PartKey, Entry>,
    pub(super) accounts: Accounts,
    pub(super) deletions: BTreeMap<String, DeletionRecord>,
    /// Codes of the deletions that are not done.
    pub(super) open_deletions: BTreeSet<String>,
    /// Those of them that wait for the object of a link.
    pub(super) awaited: HashMap<LinkKey, BTreeSet<String>>,
    /// Those whose objects are gone, and the erasure that each waits for.
    pub(super) cleared: BTreeMap<String, u64>,
    pub(super) cleanups: BTreeMap<Cleanup, Arc<CleanupRecord>>,
    pub(super) used_states: HashMap<[u8; 16], WallTime>,
    pub(super) taken_logins: HashMap<[u8; 32], WallTime>,
    pub(super) event_queues: EventQueues,
    /// The decisions of late that ended grants or links.
    pub(super) endings: Endings,
    writes: Vec<Write>,
    must_wait: bool,
    durable_notes: Vec<(PartKey, u64)>,
    /// What the decision that is being made changes for others.
    changes: Vec<feed::Change>,
    feed: Feed,
    queue: Option<mpsc::Sender<Order>>,
    down: Option<Arc<str>>,
    seq: u64,
    damaged: u64,
    pub(super) erasures: Erasures,
    /// The key of whatever a rotation seals last.
    pub(super) base_key: KeyId,
}

impl State {
    /// Reads everything from disk.
    pub(super) fn load(dir: &Path, engine: &Engine, queue: mpsc::Sender<Order>, feed: Feed) -> Result<Self, OpenError> {
        let fault = |fault| OpenError::of(dir, fault);
        let mut loaded = guarded(|| Loaded::read(engine)).map_err(fault)?;
        let owed = engine.get(Tree::Meta, erasure::key()).map_err(fault)?;
        let erasure_owed = erasure::owed_since(owed.as_deref()).or_else(|| waits_for_erasure(&loaded.deletions));
        let mut by_id: HashMap<SourceId, BTreeSet<UserId>> = HashMap::new();
        let mut by_person: HashMap<AppUserId, BTreeSet<LinkKey>> = HashMap::new();
        for (link, record) in &loaded.links {
            by_id.entry(link.id.clone()).or_default().insert(link.user);
            if let Some(person) = &record.facebook_user {
                by_person.entry(person.clone()).or_default().insert(link.clone());
            }
        }
        let hinted = loaded.links.iter().filter(|(_, r)| r.hint.is_some()).map(|(k, _)| k.clone()).collect();
        let seq = loaded.highest_seq();
        let ledger = loaded.ledger();
        Ok(State {
            records: loaded.links.into_iter().map(|(k, v)| (k, Arc::new(v))).collect(),
            by_id,
            by_person,
            hinted,
            ledger,
            accounts: loaded.accounts,
            open_deletions: open_deletions(&loaded.deletions),
            awaited: awaited(&loaded.deletions),
            cleared: cleared(&loaded.deletions, 1),
            deletions: loaded.deletions,
            cleanups: loaded.cleanups.into_iter().map(|(k, v)| (k, Arc::new(v))).collect(),
            used_states: loaded.states,
            taken_logins: HashMap::new(),
            event_queues: EventQueues::restored(loaded.events),
            endings: Endings::default(),
            writes: Vec::new(),
            must_wait: false,
            durable_notes: Vec::new(),
            changes: Vec::new(),
            feed,
            queue: Some(queue),
            down: None,
            seq,
            damaged: loaded.damaged,
            erasures: Erasures::restored(erasure_owed),
            base_key: engine.check_key().map_err(fault)?,
        })
    }

    /// Numbers for marks, entries, claims, generations and hints: unique as long as this process lives, and above all that lie on disk.
    pub(super) fn next_seq(&mut self) -> u64 {
        self.seq += 1;
        self.seq
    }

    pub(super) fn seq(&self) -> u64 {
        self.seq
    }

    pub(super) fn writable(&self) -> Result<(), Unavailable> {
        match &self.down {
            None => Ok(()),
            Some(reason) => Err(Unavailable { reason: reason.clone() }),
        }
    }

    /// Refuses writes from here on; what is queued is still carried out.
    pub(super) fn close(&mut self, reason: &str) {
        self.down = Some(reason.into());
        self.queue = None;
    }

    /// Refuses writes until the store is back.
    pub(super) fn take_down(&mut self, reason: Arc<str>) {
        self.down = Some(reason);
    }

    /// The memory of a store that was opened again takes the place of this one; the queue and the numbers go on.
    pub(super) fn replace(&mut self, mut fresh: State) {
        fresh.seq = fresh.seq.max(self.seq);
        fresh.queue = self.queue.take();
        fresh.event_queues.follow(&self.event_queues);
        // Logins under way go on, and so does what they must not undo.
        fresh.endings = std::mem::take(&mut self.endings);
        fresh.erasures.follow(&self.erasures);
        let next = fresh.erasures.wanted();
        fresh.cleared.values_mut().for_each(|number| *number = next);
        if fresh.queue.is_none() {
            fresh.down = self.down.take();
        }
        *self = fresh;
    }

    pub(super) fn is_closed(&self) -> bool {
        self.queue.is_none()
    }

    /// Queues one write of the decision that is being made.
    pub(super) fn write(&mut self, tree: Tree, key: Vec<u8>, value: Option<Vec<u8>>) {
        self.ask_if_removed(tree, value.as_deref());
        self.writes.push(Write { tree, key, value });
    }

    /// Somebody else's write must be waited for.
    pub(super) fn wait_for_queue(&mut self) {
        self.must_wait = true;
    }

    /// When what is being decided is durable, this mark is.
    pub(super) fn note_when_durable(&mut self, part: PartKey, seq: u64) {
        self.durable_notes.push((part, seq));
    }

    /// Publishes this when the decision that is being made is durable.
    pub(super) fn publish(&mut self, change: feed::Change) {
        self.changes.push(change);
    }

    /// Publishes this at once: it follows from no write.
    pub(super) fn publish_now(&self, change: feed::Change) {
        self.feed.publish(vec![change]);
    }

    /// Hands the decision's writes to the committer, and what it publishes with them; `None` when nothing needs waiting
    /// for.
    pub(super) fn submit(&mut self) -> Option<oneshot::Receiver<Result<(), Unavailable>>> {
        let (notes, changes) = (std::mem::take(&mut self.durable_notes), std::mem::take(&mut self.changes));
        let erasure = self.erasure_write();
        self.writes.extend(erasure);
        if self.writes.is_empty() && !std::mem::take(&mut self.must_wait) {
            self.feed.publish(changes);
            return None;
        }
        self.must_wait = false;
        let (done, waiting) = oneshot::channel();
        let writes = std::mem::take(&mut self.writes);
        let erasure = self.erasures.wanted();
        self.send(Order::Commit(Request { writes, notes, changes, erasure, done }));
        Some(waiting)
    }

    /// A read failed: the committer opens the store again.
    pub(super) fn suspect(&self) {
        self.send(Order::Suspect("a read found what may be damage".into()));
    }

    /// A decision panicked half-way. Nothing of it is written or published, and the memory, which may hold half of it, is
    /// read from disk again.
    pub(super) fn abandon_decision(&mut self, reason: &Arc<str>) {
        self.writes.clear();
        self.durable_notes.clear();
        self.changes.clear();
        self.must_wait = false;
        self.erasure_write();
        self.take_down(reason.clone());
        self.send(Order::Suspect(reason.clone()));
    }

    /// Hands something to the committer.
    pub(super) fn send(&self, order: Order) {
        if let Some(queue) = &self.queue {
            // A committer that is gone drops the order, and with it the sender that its caller waits for.
            let _ = queue.send(order);
        }
    }

    /// The committer made these marks durable.
    pub(super) fn are_durable(&mut self, notes: &[(PartKey, u64)]) {
        for (part, seq) in notes {
            if let Some(entry) = self.ledger.get_mut(part) {
                entry.mark_is_durable(*seq);
            }
        }
    }

    /// Works on the ledger entry of a part. It exists while something is owed or, while the link does, from its first
    /// mark on.
    pub(super) fn entry<R>(&mut self, part: &PartKey, work: impl FnOnce(&mut Entry) -> R) -> Option<R> {
        self.ledger.get_mut(part).map(work)
    }

    /// The entries of a link's parts.
    pub(super) fn entries_of<'a>(&'a self, link: &'a LinkKey) -> impl Iterator<Item = (&'a PartKey, &'a Entry)> {
        self.ledger.range(link.whole()..).take_while(move |(part, _)| part.link == *link)
    }

    /// Does this link owe Spaces something?
    pub(super) fn owes_spaces(&self, link: &LinkKey) -> bool {
        self.entries_of(link).any(|(_, entry)| entry.staged().is_some())
    }

    /// Marks a part of a link; `None` when it is not linked.
    pub(super) fn mark(&mut self, part: &PartKey, cause: Cause) -> Option<Marked> {
        if !self.records.contains_key(&part.link) {
            return None;
        }
        let seq = self.next_seq();
        let marked = self.ledger.entry(part.clone()).or_default().mark(cause, WallTime::now(), seq);
        if let Marked::New(change) = &marked {
            self.apply(part, vec![change.clone()], &[]);
        }
        Some(marked)
    }

    /// Marks a part, for somebody who waits until the mark is durable and whose read is not known to come by other ways.
    ///
    /// Nothing is published where a mark stands that no read has claimed: that was published when the mark became
    /// durable. An urgent cause is, because it makes the read come sooner.
    pub(super) fn mark_due(&mut self, part: &PartKey, cause: Cause) {
        let Some(marked) = self.mark(part, cause) else { return };
        if marked == Marked::Pending {
            self.wait_for_queue();
        }
        if let Some(seq) = self.mark_seq(part) {
            self.note_when_durable(part.clone(), seq);
        }
        if matches!(marked, Marked::New(_)) || matches!(cause, Cause::Link | Cause::Manual) {
            self.publish(feed::Change::Due(part.link.clone(), cause));
        }
    }

    pub(super) fn mark_seq(&self, part: &PartKey) -> Option<u64> {
        self.ledger.get(part).and_then(Entry::mark_seq)
    }

    /// Turns the ledger's changes into writes; `body` belongs to a [`Change::PutStaged`] among them.
    pub(super) fn apply(&mut self, part: &PartKey, changes: Vec<Change>, body: &[u8]) {
        let key = || part.to_bytes();
        for change in changes {
            match change {
                Change::PutMark(mark) => self.write(Tree::Marks, key(), Some(codec::encode(&mark))),
                Change::ClearMark => self.write(Tree::Marks, key(), None),
                Change::PutSynced(synced) => self.write(Tree::Synced, key(), Some(codec::encode(&synced))),
                Change::ClearSynced => self.write(Tree::Synced, key(), None),
                Change::PutStaged(staged) => {
                    self.write(Tree::Outbox, key(), Some(codec::encode(&staged)));
                    self.writes.extend(body_writes(part, &staged, body));
                }
                Change::ClearStaged(staged) => {
                    if staged.person.is_some() {
                        self.ask_for_erasure();
                    }
                    self.write(Tree::Outbox, key(), None);
                    body_keys(part, &staged).for_each(|piece| self.write(Tree::Bodies, piece, None));
                }
            }
        }
    }

    /// A staged body cannot be read back: the entry goes and the page is read anew.
    pub(super) fn drop_staged(&mut self, part: &PartKey, seq: u64) {
        let (now, mark) = (WallTime::now(), self.next_seq());
        if let Some(changes) = self.entry(part, |entry| entry.discard(seq, now, mark)) {
            self.apply(part, changes, &[]);
        }
        if let Some(due) = self.entry(part, |entry| entry.due().cloned()).flatten().filter(|due| due.seq == mark) {
            self.note_when_durable(part.clone(), mark);
            self.publish(feed::Change::Due(part.link.clone(), due.cause));
        }
        self.forget_if_complete(part);
    }

    /// The ledger entry of a link that is gone goes when nothing is owed to it.
    pub(super) fn forget_if_complete(&mut self, part: &PartKey) {
        let owed = self.ledger.get(part).is_some_and(|e| e.owed_since().is_some());
        if !owed && !self.records.contains_key(&part.link) && self.ledger.remove(part).is_some() {
            self.write(Tree::Synced, part.to_bytes(), None);
        }
    }

    pub(super) fn record(&self, link: &LinkKey) -> Option<Arc<LinkRecord>> {
        self.records.get(link).cloned()
    }

    /// Writes a link's record, new or changed.
    pub(super) fn put_record(&mut self, link: &LinkKey, record: LinkRecord) {
        self.write(Tree::Links, link.to_bytes(), Some(codec::encode(&record)));
        self.by_id.entry(link.id.clone()).or_default().insert(link.user);
        let person = record.facebook_user.clone();
        let before = self.records.insert(link.clone(), Arc::new(record)).and_then(|r| r.facebook_user.clone());
        if person != before {
            if before.is_some() {
                self.ask_for_erasure();
            }
            self.not_of_person(link, before.as_ref());
            if let Some(person) = person {
                self.by_person.entry(person).or_default().insert(link.clone());
            }
        }
    }

    fn not_of_person(&mut self, link: &LinkKey, person: Option<&AppUserId>) {
        let Some(person) = person else { return };
        if let Some(links) = self.by_person.get_mut(person) {
            links.remove(link);
            if links.is_empty() {
                self.by_person.remove(person);
            }
        }
    }

    pub(super) fn update_record(&mut self, link: &LinkKey, change: impl FnOnce(&mut LinkRecord)) {
        let Some(standing) = self.record(link) else { return };
        let mut record = (*standing).clone();
        change(&mut record);
        if record != *standing {
            self.emit_health(link, &standing.health, &record.health);
            if standing.health.is_active() && !record.health.is_active() {
                self.publish(feed::Change::Parked(link.clone()));
            }
            self.put_record(link, record);
        }
    }

    /// Removes a link; its object is deleted or left.
    pub(super) fn remove_link(&mut self, link: &LinkKey, delete_object: bool) -> Option<Arc<LinkRecord>> {
        let record = self.records.remove(link)?;
        self.not_of_person(link, record.facebook_user.as_ref());
        self.hinted.remove(link);
        if let Some(users) = self.by_id.get_mut(&link.id) {
            users.remove(&link.user);
            if users.is_empty() {
                self.by_id.remove(&link.id);
            }
        }
        self.write(Tree::Links, link.to_bytes(), None);
        self.ledger.entry(link.whole()).or_default();
        let parts: Vec<PartKey> = self.entries_of(link).map(|(part, _)| part.clone()).collect();
        for part in &parts {
            let (now, seq, person) = (WallTime::now(), self.next_seq(), record.facebook_user.clone());
            let changes = self.entry(part, |entry| entry.forget(delete_object, person, now, seq)).unwrap_or_default();
            self.apply(part, changes, &[]);
            self.write(Tree::Fields, part.to_bytes(), None);
        }
        if !delete_object {
            self.drop_delete_again(link);
        }
        parts.iter().for_each(|part| self.forget_if_complete(part));
        self.publish(feed::Change::Unlinked(link.clone()));
        if delete_object {
            parts.into_iter().for_each(|part| self.publish(feed::Change::Outbox(part)));
        }
        self.emit(EventKind::Unlinked { link: link.clone(), kept: !delete_object });
        Some(record)
    }

    /// The links of this id, of every user.
    pub(super) fn links_of(&self, id: &SourceId) -> Vec<LinkKey> {
        let users = self.by_id.get(id).into_iter().flatten();
        users.map(|user| LinkKey { user: *user, id: id.clone() }).collect()
    }

    /// Every sealed token.
    pub(super) fn sealed_tokens(&self) -> impl Iterator<Item = &Sealed> {
        let links = self.records.values().map(|record| &record.token);
        let cleanups = self.cleanups.values().map(|record| &record.token).filter(|token| **token != Sealed::default());
        links.chain(self.accounts.values().map(|record| &record.token)).chain(cleanups)
    }

    /// Writes a login's record, new or changed.
    pub(super) fn put_account(&mut self, key: AccountKey, record: AccountRecord) {
        self.write(Tree::Accounts, account_key(key.0, &key.1), Some(codec::encode(&record)));
        self.accounts.insert(key, Arc::new(record));
    }

    /// Links whose token is this person's.
    pub(super) fn links_of_person(&self, person: &AppUserId) -> Vec<LinkKey> {
        self.by_person.get(person).into_iter().flatten().cloned().collect()
    }

    pub(super) fn all_links(&self) -> Vec<LinkKey> {
        self.records.keys().cloned().collect()
    }

    pub(super) fn any_record(&self, holds: impl Fn(&LinkRecord) -> bool) -> bool {
        self.records.values().any(|record| holds(record))
    }

    /// Links that are gone, and whose objects, once this person's, are still to be deleted.
    pub(super) fn deletes_owed_to(&self, person: &AppUserId) -> Vec<LinkKey> {
        let theirs = |entry: &Entry| entry.staged().is_some_and(|staged| staged.person.as_ref() == Some(person));
        let again = |(cleanup, record): (&Cleanup, &Arc<CleanupRecord>)| match cleanup {
            Cleanup::DeleteAgain(part) if record.person.as_ref() == Some(person) => Some(part.link.clone()),
            _ => None,
        };
        let is_gone = |link: &LinkKey| !self.records.contains_key(link);
        let mut links: BTreeSet<LinkKey> = self.parts_where(theirs).into_iter().map(|part| part.link).collect();
        links.extend(self.cleanups.iter().filter_map(again).filter(is_gone));
        links.into_iter().collect()
    }

    /// Parts of which this holds.
    pub(super) fn parts_where(&self, wanted: impl Fn(&Entry) -> bool) -> Vec<PartKey> {
        self.ledger.iter().filter(|(_, entry)| wanted(entry)).map(|(part, _)| part.clone()).collect()
    }

    pub(super) fn view(&self, link: &LinkKey) -> Option<LinkView> {
        let record = self.record(link)?;
        let parked = !record.health.is_active();
        Some(LinkView {
            key: link.clone(),
            record,
            synced: self.ledger.get(&link.whole()).map(|e| e.synced().clone()).unwrap_or_default(),
            owed: self.entries_of(link).any(|(_, e)| e.doable_since(parked).is_some()),
            owed_parked: parked && self.entries_of(link).any(|(_, e)| e.due().is_some()),
        })
    }

    pub(super) fn counts(&self) -> Counts {
        let mut counts = Counts { links: self.records.len() as u64, damaged: self.damaged, ..Counts::default() };
        self.cleanups.keys().for_each(|cleanup| *counts.cleanups.entry(cleanup.word()).or_default() += 1);
        let now = WallTime::now();
        for record in self.records.values() {
            let signs = HealthInputs { expires_at: record.checked.expires_at, throttled_until: None };
            *counts.health.entry(record.health.shown(signs, now).word).or_default() += 1;
        }
        for (part, entry) in &self.ledger {
            // A read that waits for a person does not mean that the daemon is behind, so it has its own count.
            let parked = self.records.get(&part.link).is_some_and(|record| !record.health.is_active());
            let due = u64::from(entry.due().is_some());
            *(if parked { &mut counts.due_parked } else { &mut counts.due }) += due;
            counts.outbox += u64::from(entry.staged().is_some());
            counts.oldest_owed = [counts.oldest_owed, entry.doable_since(parked)].into_iter().flatten().min();
        }
        counts
    }
}
