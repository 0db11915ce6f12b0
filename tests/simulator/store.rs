//! The store in small: the daemon's ledger entries in memory, a queue of transactions in the order of the decisions,
//! a disk that holds a prefix of them. Mirrors `src/store.rs`, `src/store/core.rs` and `src/store/committer.rs`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use pagesyncd::core::grant::Endings;
use pagesyncd::core::ledger::{Change, Entry, Mark, Marked, Staged, Synced};
use pagesyncd::core::model::{Cause, WallTime};

use super::logins::P;

/// A link by its number.
pub type L = usize;

/// What a link's record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// Stands for the generation, too: no token is given twice.
    pub token: usize,
    pub parked: bool,
    pub person: P,
    pub granted_at: WallTime,
    pub login: u64,
    /// The newest hint that no check has answered for.
    pub hint: Option<u64>,
    /// The wanted webhook fields that are confirmed: the first so many.
    pub confirmed: u32,
    /// Its token was checked.
    pub checked: bool,
    /// Not of the daemon: the position of the login in the order of everything.
    pub begun: u64,
}

/// An object's bytes: whose, and which version of the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Body {
    pub id: u64,
    pub link: L,
    pub version: usize,
}

#[derive(Debug, Clone)]
pub enum Write {
    Mark(L, Option<Mark>),
    Staged(L, Option<Staged>),
    Body(L, u64, Option<Body>),
    Synced(L, Option<Synced>),
    Link(L, Option<Record>),
    /// Not of the daemon: whether the object of a link that is gone was to be kept.
    Kept(L, bool),
}

/// What the disk would show after a power cut.
#[derive(Debug, Clone, Default)]
pub struct Disk {
    pub links: BTreeMap<L, Record>,
    pub marks: BTreeMap<L, Mark>,
    pub outbox: BTreeMap<L, Staged>,
    pub bodies: BTreeMap<(L, u64), Body>,
    pub synced: BTreeMap<L, Synced>,
    pub kept: BTreeMap<L, bool>,
}

fn put<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, value: Option<V>) {
    match value {
        Some(value) => map.insert(key, value),
        None => map.remove(&key),
    };
}

impl Disk {
    pub fn apply(&mut self, write: Write) {
        match write {
            Write::Mark(l, mark) => put(&mut self.marks, l, mark),
            Write::Staged(l, staged) => put(&mut self.outbox, l, staged),
            Write::Body(l, seq, body) => put(&mut self.bodies, (l, seq), body),
            Write::Synced(l, synced) => put(&mut self.synced, l, synced),
            Write::Link(l, record) => put(&mut self.links, l, record),
            Write::Kept(l, kept) => put(&mut self.kept, l, Some(kept)),
        }
    }
}

/// Writes that go together, the marks that they make durable, and who waits.
#[derive(Debug)]
pub struct Request<W> {
    pub writes: Vec<Write>,
    pub notes: Vec<(L, u64)>,
    pub waiter: W,
}

/// Writes to make durable, and the marks that are durable with them.
pub type Durable = (Vec<Write>, Vec<(L, u64)>);

/// Memory.
#[derive(Debug, Default)]
pub struct Core {
    pub records: BTreeMap<L, Record>,
    pub ledger: BTreeMap<L, Entry>,
    pub endings: Endings,
    pub down: bool,
    /// Links owed a check that has not begun.
    hinted: BTreeSet<L>,
    writes: Vec<Write>,
    must_wait: bool,
    notes: Vec<(L, u64)>,
    seq: u64,
}

impl Core {
    pub fn load(disk: &Disk) -> Self {
        let marks = disk.marks.values().map(|m| m.seq);
        let logins = disk.links.values().map(|r| r.login);
        let highest = marks.chain(disk.outbox.values().map(|s| s.seq)).chain(logins).max();
        let keys: Vec<L> = disk.links.keys().chain(disk.outbox.keys()).copied().collect();
        let entry = |l: &L| {
            let synced = disk.synced.get(l).cloned().unwrap_or_default();
            Entry::restored(disk.marks.get(l).cloned(), disk.outbox.get(l).cloned(), synced)
        };
        Core {
            records: disk.links.clone(),
            ledger: keys.iter().map(|l| (*l, entry(l))).collect(),
            hinted: disk.links.iter().filter(|(_, record)| record.hint.is_some()).map(|(l, _)| *l).collect(),
            seq: highest.unwrap_or(0),
            ..Core::default()
        }
    }

    /// The store was opened again: memory from disk, numbers go on.
    pub fn replace(&mut self, disk: &Disk) {
        let mut fresh = Core::load(disk);
        fresh.seq = fresh.seq.max(self.seq);
        fresh.endings = std::mem::take(&mut self.endings);
        *self = fresh;
    }

    pub fn next_seq(&mut self) -> u64 {
        self.seq += 1;
        self.seq
    }

    pub fn wait_for_queue(&mut self) {
        self.must_wait = true;
    }

    /// The writes of what was decided; `None` when nothing needs waiting for.
    fn submit(&mut self) -> Option<Durable> {
        let notes = std::mem::take(&mut self.notes);
        let must_wait = std::mem::take(&mut self.must_wait);
        if self.writes.is_empty() && !must_wait {
            return None;
        }
        Some((std::mem::take(&mut self.writes), notes))
    }

    pub fn mark(&mut self, l: L, cause: Cause, now: WallTime) {
        if !self.records.contains_key(&l) {
            return;
        }
        let seq = self.next_seq();
        match self.ledger.entry(l).or_default().mark(cause, now, seq) {
            Marked::New(change) => self.apply(l, vec![change], None),
            Marked::Pending => self.wait_for_queue(),
            Marked::Standing => {}
        }
        self.notes.extend(self.ledger.get(&l).and_then(Entry::mark_seq).map(|seq| (l, seq)));
    }

    pub fn apply(&mut self, l: L, changes: Vec<Change>, body: Option<Body>) {
        for change in changes {
            match change {
                Change::PutMark(mark) => self.writes.push(Write::Mark(l, Some(mark))),
                Change::ClearMark => self.writes.push(Write::Mark(l, None)),
                Change::PutSynced(synced) => self.writes.push(Write::Synced(l, Some(synced))),
                Change::ClearSynced => self.writes.push(Write::Synced(l, None)),
                Change::PutStaged(staged) => {
                    self.writes.push(Write::Body(l, staged.seq, body));
                    self.writes.push(Write::Staged(l, Some(staged)));
                }
                Change::ClearStaged(staged) => {
                    self.writes.push(Write::Staged(l, None));
                    self.writes.push(Write::Body(l, staged.seq, None));
                }
            }
        }
    }

    pub fn put_link(&mut self, l: L, record: Record, now: WallTime) {
        self.records.insert(l, record);
        self.hinted.remove(&l);
        self.writes.push(Write::Link(l, Some(record)));
        self.mark(l, Cause::Link, now);
    }

    /// This token was refused; a link that has another is left as it is. Returns whether it has this one.
    pub fn park(&mut self, l: L, token: Option<usize>) -> bool {
        let Some(record) = self.records.get_mut(&l).filter(|r| Some(r.token) == token) else { return false };
        if !record.parked {
            record.parked = true;
            self.writes.push(Write::Link(l, Some(*record)));
        }
        true
    }

    /// Changes a link's record.
    pub fn update(&mut self, l: L, change: impl FnOnce(&mut Record)) {
        let Some(record) = self.records.get_mut(&l) else { return };
        let before = *record;
        change(record);
        if *record != before {
            self.writes.push(Write::Link(l, Some(*record)));
        }
    }

    /// The permissions of a person changed. Returns the links that are owed a check.
    pub fn hint(&mut self, person: P) -> Vec<L> {
        let theirs = self.records.iter().filter(|(_, record)| record.person == person && !record.parked);
        let theirs: Vec<L> = theirs.map(|(l, _)| *l).collect();
        for l in &theirs {
            if self.hinted.insert(*l) {
                let number = self.next_seq();
                self.update(*l, |record| record.hint = Some(number));
            } else {
                self.wait_for_queue();
            }
        }
        theirs
    }

    /// A check of this token begins: the hint that it answers for.
    pub fn claim_hint(&mut self, l: L, token: usize) -> Option<u64> {
        let record = self.records.get(&l).filter(|record| record.token == token)?;
        self.hinted.remove(&l);
        record.hint
    }

    pub fn remove_link(&mut self, l: L, keep: bool, now: WallTime) -> bool {
        if self.records.remove(&l).is_none() {
            return false;
        }
        self.hinted.remove(&l);
        self.writes.push(Write::Link(l, None));
        self.writes.push(Write::Kept(l, keep));
        let seq = self.next_seq();
        let changes = self.ledger.entry(l).or_default().forget(!keep, None, now, seq);
        self.apply(l, changes, None);
        self.forget_if_complete(l);
        true
    }

    pub fn drop_staged(&mut self, l: L, seq: u64, now: WallTime) {
        let mark = self.next_seq();
        if let Some(entry) = self.ledger.get_mut(&l) {
            let changes = entry.discard(seq, now, mark);
            self.apply(l, changes, None);
        }
        self.forget_if_complete(l);
    }

    pub fn forget_if_complete(&mut self, l: L) {
        let owed = self.ledger.get(&l).is_some_and(|e| e.owed_since().is_some());
        if !owed && !self.records.contains_key(&l) && self.ledger.remove(&l).is_some() {
            self.writes.push(Write::Synced(l, None));
        }
    }

    pub fn unclaimed_mark(&self, l: L) -> Option<Mark> {
        self.ledger.get(&l).filter(|e| e.wants_reader()).and_then(|e| e.due().cloned())
    }

    pub fn due_mark(&self, l: L) -> Option<Mark> {
        self.ledger.get(&l).and_then(|e| e.due().cloned())
    }

    pub fn staged(&self, l: L) -> Option<&Staged> {
        self.ledger.get(&l).and_then(Entry::staged)
    }
}

/// Memory, queue and disk.
#[derive(Debug)]
pub struct Store<W> {
    pub core: Core,
    pub disk: Disk,
    pub queue: VecDeque<Request<W>>,
    /// What the committer has in hand.
    pub batch: Vec<Request<W>>,
}

impl<W> Store<W> {
    pub fn new() -> Self {
        Store { core: Core::default(), disk: Disk::default(), queue: VecDeque::new(), batch: Vec::new() }
    }

    /// Decides; `Err` when the store is down. With `Some`, whoever asked must wait until that is durable.
    pub fn decide<R>(&mut self, work: impl FnOnce(&mut Core) -> R) -> Result<(R, Option<Durable>), ()> {
        if self.core.down {
            return Err(());
        }
        let answer = work(&mut self.core);
        Ok((answer, self.core.submit()))
    }

    /// The batch is on disk: its marks are durable. Returns who waits.
    pub fn committed(&mut self) -> Vec<W> {
        let batch = std::mem::take(&mut self.batch);
        for (l, seq) in batch.iter().flat_map(|r| &r.notes) {
            if let Some(entry) = self.core.ledger.get_mut(l) {
                entry.mark_is_durable(*seq);
            }
        }
        batch.into_iter().map(|r| self.keep(r)).collect()
    }

    fn keep(&mut self, request: Request<W>) -> W {
        request.writes.into_iter().for_each(|w| self.disk.apply(w));
        request.waiter
    }

    /// A commit failed; `reached` when its bytes came to lie on disk all the same. Returns who is refused.
    pub fn refused(&mut self, reached: bool) -> Vec<W> {
        self.core.down = true;
        let batch = std::mem::take(&mut self.batch);
        let mut refused: Vec<W> = Vec::new();
        for request in batch {
            let waiter = if reached { self.keep(request) } else { request.waiter };
            refused.push(waiter);
        }
        refused.extend(self.queue.drain(..).map(|r| r.waiter));
        refused
    }

    /// The power goes: so many of the unanswered requests reached the disk.
    pub fn power_cut(&mut self, survivors: usize) {
        let batch = std::mem::take(&mut self.batch);
        let all: Vec<Request<W>> = batch.into_iter().chain(self.queue.drain(..)).collect();
        for request in all.into_iter().take(survivors) {
            let _ = self.keep(request);
        }
        self.core = Core::default();
    }
}
