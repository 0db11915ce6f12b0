//! A database in memory that several daemons share, for tests. One transaction decides at a time, as in PostgreSQL, and the
//! clock is one of its own, which the test sets. Nothing here knows which daemon is paused or cut off from it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::core::lease::{LIFE, Member};
use crate::core::model::WallTime;
use crate::store::check;
use crate::store::handle::Fault;
use crate::store::maps::Maps;
use crate::store::roster::Seen;
use crate::store::seal::Keyring;
use crate::store::tree::{Record, Tree, Write};

/// A session that is silent inside a transaction for so long is ended, as `idle_in_transaction_session_timeout` does.
const IDLE: Duration = Duration::from_secs(3);
/// Dead daemons are forgotten after so long.
const FORGOTTEN: Duration = Duration::from_secs(7 * 24 * 3600);
/// Rows of `changes` that one statement removes at most.
const PRUNED_AT_ONCE: u64 = 5000;

/// The answer of a database that cannot be reached.
pub(in crate::store) const AWAY: &str = "the database does not answer";

/// The database; clones share it.
#[derive(Clone, Default)]
pub struct Server {
    tables: Arc<Mutex<Tables>>,
}

#[derive(Default)]
struct Tables {
    now: WallTime,
    records: Maps,
    /// The newest version, and the highest number that was handed out.
    head: u64,
    number: u64,
    changes: BTreeMap<u64, Vec<u8>>,
    daemons: BTreeMap<u64, Row>,
    sessions: u64,
    /// The transaction that has the lock.
    open: Option<Transaction>,
    committed: Vec<Committed>,
}

/// A row of the table `daemons`.
struct Row {
    name: String,
    alive: bool,
    until: WallTime,
    seen: u64,
}

struct Transaction {
    session: u64,
    /// Those that it declares dead.
    executed: Vec<u64>,
    since: WallTime,
}

/// What a transaction sees when it has the lock.
pub(super) struct Begun {
    pub head: u64,
    pub number: u64,
    pub members: Vec<Member>,
    pub has_executed: bool,
    pub now: WallTime,
    pub news: Vec<(u64, Vec<u8>)>,
}

/// What a transaction commits.
pub(super) struct Commit {
    pub member: u64,
    pub writes: Vec<Write>,
    pub version: u64,
    pub bytes: Vec<u8>,
    pub used: u64,
    pub leaves: Option<u64>,
}

/// A transaction that was committed, for those that judge what the daemons do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// The incarnation whose decisions these are.
    pub member: u64,
    /// Was it declared dead before?
    pub was_dead: bool,
    /// The newest version from then on.
    pub version: u64,
}

impl Server {
    /// An empty store, sealed with these keys.
    pub fn new(keyring: &Keyring) -> Server {
        let server = Server::default();
        server.lock().records.apply(vec![check::record(keyring)]);
        server
    }

    fn lock(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its clock shows this time. A transaction that has been silent for too long is rolled back.
    pub fn set_time(&self, now: WallTime) {
        let mut tables = self.lock();
        tables.now = now;
        tables.open.take_if(|open| now.since(open.since) > IDLE);
    }

    /// The newest version.
    pub fn head(&self) -> u64 {
        self.lock().head
    }

    /// The numbers of the incarnations that are not declared dead.
    pub fn living(&self) -> Vec<u64> {
        self.lock().daemons.iter().filter(|(_, row)| row.alive).map(|(id, _)| *id).collect()
    }

    /// The transactions that were committed since this was asked last.
    pub fn take_committed(&self) -> Vec<Committed> {
        std::mem::take(&mut self.lock().committed)
    }

    pub(super) fn connect(&self) -> u64 {
        let mut tables = self.lock();
        tables.sessions += 1;
        tables.sessions
    }

    /// A session ends, and with it its transaction.
    pub(super) fn end(&self, session: u64) {
        self.lock().open.take_if(|open| open.session == session);
    }

    /// The newest version, and the highest number that was handed out.
    pub(super) fn version(&self) -> (u64, u64) {
        let tables = self.lock();
        (tables.head, tables.number)
    }

    /// The number of a living incarnation: this one, or a new one.
    pub(super) fn live(&self, member: u64, name: &str) -> u64 {
        let mut tables = self.lock();
        let now = tables.now;
        if tables.daemons.get(&member).is_some_and(|row| row.alive && row.until > now && row.name == name) {
            return member;
        }
        let id = tables.daemons.keys().next_back().map_or(1, |id| id + 1);
        let row = Row { name: name.to_owned(), alive: true, until: now.plus(LIFE), seen: 0 };
        tables.daemons.insert(id, row);
        id
    }

    /// `None` while another transaction has the lock.
    pub(super) fn begin(&self, session: u64, me: u64, seen: u64) -> Option<Begun> {
        let mut tables = self.lock();
        if tables.open.is_some() {
            return None;
        }
        let now = tables.now;
        let is_overdue = |row: &Row| row.until < now;
        let overdue = tables.daemons.iter().filter(|(id, row)| row.alive && **id != me && is_overdue(row));
        let executed: Vec<u64> = overdue.map(|(id, _)| *id).collect();
        let lives = |(id, row): &(&u64, &Row)| **id == me || (row.alive && !executed.contains(*id));
        let member = |(id, row): (&u64, &Row)| Member { id: *id, alive: row.alive, overdue: is_overdue(row) };
        let members = tables.daemons.iter().filter(lives).map(member).collect();
        let (has_executed, head, number) = (!executed.is_empty(), tables.head, tables.number);
        let news = tables.news(seen);
        tables.open = Some(Transaction { session, executed, since: now });
        Some(Begun { head, number, members, has_executed, now, news })
    }

    /// What was decided since this version.
    pub(super) fn news(&self, seen: u64) -> Vec<(u64, Vec<u8>)> {
        self.lock().news(seen)
    }

    /// Commits the transaction of this session. `false` where it has none any more.
    pub(super) fn commit(&self, session: u64, commit: Commit) -> bool {
        let mut tables = self.lock();
        let Some(open) = tables.open.take_if(|open| open.session == session) else { return false };
        let Commit { member, writes, version, bytes, used, leaves } = commit;
        let was_dead = tables.daemons.get(&member).is_none_or(|row| !row.alive);
        tables.committed.push(Committed { member, was_dead, version });
        for id in open.executed.into_iter().chain(leaves) {
            tables.daemons.entry(id).and_modify(|row| row.alive = false);
        }
        tables.records.apply(writes);
        if !bytes.is_empty() {
            tables.changes.insert(version, bytes);
        }
        (tables.head, tables.number) = (version, used);
        true
    }

    pub(super) fn roll_back(&self, session: u64) -> bool {
        self.lock().open.take_if(|open| open.session == session).is_some()
    }

    /// Removes the rows that everybody has seen. Returns how many.
    pub(super) fn prune(&self, old: u64) -> u64 {
        let mut tables = self.lock();
        let now = tables.now;
        let seen = tables.daemons.values().filter(|row| row.alive).map(|row| row.seen).min();
        let first = tables.changes.keys().next().copied();
        let last = [seen, first.map(|first| first + PRUNED_AT_ONCE)].into_iter().flatten().fold(old, u64::min);
        let kept = tables.changes.split_off(&(last + 1));
        let pruned = std::mem::replace(&mut tables.changes, kept).len() as u64;
        tables.daemons.retain(|_, row| row.alive || now.since(row.until) < FORGOTTEN);
        pruned
    }

    /// A beat arrives. Returns whether this incarnation lives, and all daemons; `None` while a transaction decides whether
    /// it does.
    pub(super) fn beat(&self, member: u64, seen: u64) -> Option<(bool, Vec<Seen>)> {
        let mut tables = self.lock();
        if tables.open.as_ref().is_some_and(|open| open.executed.contains(&member)) {
            return None;
        }
        let now = tables.now;
        let row = tables.daemons.get_mut(&member).filter(|row| row.alive);
        let lives = row.map(|row| (row.until, row.seen) = (now.plus(LIFE), seen)).is_some();
        let view = |(id, row): (&u64, &Row)| Seen {
            id: *id,
            node: row.name.clone(),
            version: String::new(),
            is_overdue: row.until < now,
            age: now.plus(LIFE).since(row.until),
        };
        Some((lives, tables.daemons.iter().filter(|(_, row)| row.alive).map(view).collect()))
    }
}

impl Tables {
    fn news(&self, seen: u64) -> Vec<(u64, Vec<u8>)> {
        self.changes.range(seen + 1..).map(|(version, bytes)| (*version, bytes.clone())).collect()
    }
}

/// The way from one daemon to the database; clones are the same way.
#[derive(Clone, Default)]
pub struct Way {
    is_cut: Arc<AtomicBool>,
    lost: Arc<Mutex<Option<bool>>>,
}

impl Way {
    /// From here on, or no longer, nothing passes.
    pub fn set_cut(&self, is_cut: bool) {
        self.is_cut.store(is_cut, Ordering::Relaxed);
    }

    /// Does nothing pass?
    pub fn is_cut(&self) -> bool {
        self.is_cut.load(Ordering::Relaxed)
    }

    /// The answer to the next commit is lost, with the transaction committed or not.
    pub fn lose_answer(&self, committed: bool) {
        *self.lost.lock().unwrap_or_else(PoisonError::into_inner) = Some(committed);
    }

    /// It is not lost after all.
    pub fn lose_nothing(&self) {
        self.take_lost();
    }

    pub(super) fn take_lost(&self) -> Option<bool> {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The trees of a [`Server`], as one daemon reaches them.
pub(in crate::store) struct Trees {
    server: Server,
    way: Way,
}

impl Trees {
    /// Over this way.
    pub(super) fn new(server: Server, way: Way) -> Trees {
        Trees { server, way }
    }

    fn reached(&self) -> Result<MutexGuard<'_, Tables>, Fault> {
        if self.way.is_cut() { Err(Fault::Disk(AWAY.into())) } else { Ok(self.server.lock()) }
    }

    /// One value.
    pub(in crate::store) fn get(&self, tree: Tree, key: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        Ok(self.reached()?.records.get(tree, key))
    }

    /// The records of a tree from this key on, in the order of the keys.
    pub(in crate::store) fn records_from(&self, tree: Tree, key: &[u8]) -> std::vec::IntoIter<Result<Record, Fault>> {
        let records = match self.reached() {
            Ok(tables) => tables.records.records_from(tree, key).map(Ok).collect(),
            Err(fault) => vec![Err(fault)],
        };
        records.into_iter()
    }
}
