//! A store in memory whose committer is stepped by hand: for tests that choose when a commit succeeds, fails or is cut
//! off. It has the same decisions, queues and operations as a store on disk, and neither a thread nor a clock of its
//! own.
//!
//! The mark log is a list beside the maps. Requests are taken from both queues in turn, so that a decision of one queue
//! comes to lie on disk before or after one of the other, whichever was decided first. When the list has grown, its
//! marks are brought into the maps as on disk.
//!
//! An operation that waits for a commit is a future that is pending until the test steps the [`Committer`];
//! [`poll_once`] drives one without a runtime.

use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use serde::de::DeserializeOwned;

use super::api::Unavailable;
use super::check;
use super::clock::{Clock, SetClock};
use super::codec;
use super::engine::Engine;
use super::feed::Feed;
use super::inner::{Blocking, Inner, Parts, Store};
use super::leases::Leases;
use super::load;
use super::maps::Maps;
use super::mark_log::LoggedMark;
use super::order::{Answer, Done, MarkOrder, MarkRequest, Order, Orders, Queues, Request, refuse};
use super::seal::Keyring;
use super::state::{State, erasures};
use super::tree::{Tree, Write, body_keys};
use super::txn::Txn;
use crate::core::ledger::{Mark, ObjectOp, Staged, Synced};
use crate::core::model::{MonoTime, PartKey, WallTime};

/// Marks in the list before they are brought into the maps.
const GROWN: usize = 32;

/// A request in hand.
enum Gathered {
    Database(Request),
    Marks(MarkRequest),
}

impl Gathered {
    fn done(self) -> Done {
        match self {
            Gathered::Database(request) => request.done,
            Gathered::Marks(request) => request.done,
        }
    }
}

/// Marks that are being brought into the maps.
struct Cut {
    /// How many of the list are in the maps or answered for afterwards.
    count: usize,
    answer: Option<Answer>,
}

/// The committer of a store in memory.
pub struct Committer {
    inner: Arc<Inner>,
    queues: Queues,
    /// Requests in hand.
    gathered: Vec<Gathered>,
    /// The mark log.
    log: Vec<LoggedMark>,
    cut: Option<Cut>,
    /// It is the turn of the queue of marks.
    marks_next: bool,
    /// The store was asked to open anew.
    suspect: Option<Arc<str>>,
    /// The newest erasure whose removals are committed.
    removed: u64,
    /// The trees while the store is down.
    aside: Option<Engine>,
    clock: Arc<SetClock>,
}

impl Store {
    /// From here on, or no longer, each look into the store is refused, as another engine may refuse it.
    pub fn refuse_looks(&self, refuses: bool) {
        self.inner.interference.refuses.store(refuses, Ordering::Relaxed);
    }

    /// An empty store in memory, whose clock shows this time until [`Committer::set_time`].
    pub fn in_memory(keyring: Keyring, now: WallTime) -> (Store, Committer) {
        let mut maps = Box::<Maps>::default();
        maps.apply(vec![check::record(&keyring)]);
        let clock = Arc::<SetClock>::default();
        show(&clock, now);
        start(Engine::Maps(maps), &[], Arc::new(keyring), clock)
    }
}

/// No lease depends on the monotonic clock here.
fn show(clock: &SetClock, now: WallTime) {
    clock.set(now, MonoTime(now.0));
}

/// A process begins with what lies in the trees and in the mark log.
fn start(engine: Engine, log: &[LoggedMark], keyring: Arc<Keyring>, clock: Arc<SetClock>) -> (Store, Committer) {
    let feed = Feed::default();
    let (orders, queues) = Orders::new(feed.clone());
    let now = Clock::Set(clock.clone());
    let (state, log) = read(&engine, log, now.now());
    let removed = state.erasures.wanted();
    let (dir, mended, blocking) = ("memory".into(), None, Blocking::AtOnce);
    let leases = Leases::all();
    let parts =
        Parts { dir, state, orders, engine, mark_log: None, keyring, feed, leases, mended, clock: now, blocking };
    let inner = Arc::new(Inner::new(parts));
    let committer = Committer {
        inner: inner.clone(),
        queues,
        gathered: Vec::new(),
        log,
        cut: None,
        marks_next: false,
        suspect: None,
        removed,
        aside: None,
        clock,
    };
    (Store { inner }, committer)
}

/// What lies on disk, and the marks of the log that stand.
fn read(engine: &Engine, log: &[LoggedMark], now: WallTime) -> (State, Vec<LoggedMark>) {
    // The newest one of a part comes last.
    let marks = log.iter().cloned().collect();
    load::load(engine, marks, now).unwrap_or_else(|fault| panic!("maps in memory cannot fail: {fault}"))
}

impl Committer {
    /// The store's clock shows this time.
    pub fn set_time(&self, now: WallTime) {
        show(&self.clock, now);
    }

    /// From here on an operation is suspended at each piece of work that would block on a disk, and at each look that
    /// another engine would make somewhere else.
    pub fn suspend_behind_blocking_work(&self) {
        self.inner.interference.suspends.store(true, Ordering::Relaxed);
    }

    /// Takes what waits, up to so many requests in hand. Returns how many are in hand. A barrier counts as one.
    pub fn gather(&mut self, most: usize) -> usize {
        while self.gathered.len() < most {
            self.marks_next = !self.marks_next;
            if !(self.take_next() || {
                self.marks_next = !self.marks_next;
                self.take_next()
            }) {
                break;
            }
        }
        self.gathered.len()
    }

    /// Takes an order from the queue whose turn it is. Returns whether there was one.
    fn take_next(&mut self) -> bool {
        if self.marks_next {
            match self.queues.marks.try_recv() {
                Ok(MarkOrder::Commit(request)) => self.gathered.push(Gathered::Marks(request)),
                Ok(MarkOrder::Pulse(answer)) => drop(answer.send(())),
                Err(_) => return false,
            }
            return true;
        }
        match self.queues.database.try_recv() {
            Ok(Order::Commit(request)) => self.gathered.push(Gathered::Database(request)),
            Ok(Order::Suspect(reason) | Order::GiveUp(reason)) => self.suspect = Some(reason),
            Ok(Order::Pulse(answer)) => drop(answer.send(())),
            Ok(Order::Cut | Order::Shared(_)) => {}
            Err(_) => return false,
        }
        true
    }

    /// Is the store to be opened anew, because a decision panicked?
    pub fn is_suspect(&self) -> bool {
        self.suspect.is_some()
    }

    /// Is the store down?
    pub fn is_down(&self) -> bool {
        self.aside.is_some()
    }

    /// What is in hand becomes durable and is answered. Returns whether it did; where the store is to be opened anew it
    /// is refused instead, as by [`Committer::fail`].
    pub fn commit(&mut self) -> bool {
        if !self.gathered.is_empty() && self.inner.takes_drill() {
            self.suspect = Some("drill: the store's thread was asked to panic".into());
        }
        if let Some(reason) = self.suspect.take() {
            self.fail(&reason, 0);
            return false;
        }
        if self.is_down() {
            self.refuse(&"it is down".into());
            return false;
        }
        let count = self.gathered.len();
        self.keep(count);
        for gathered in std::mem::take(&mut self.gathered) {
            match gathered {
                Gathered::Database(request) => {
                    self.removed = self.removed.max(request.erasure);
                    self.inner.answer(&mut vec![request]);
                }
                Gathered::Marks(request) => self.inner.answer_marks(&mut vec![request]),
            }
        }
        self.go_on_cutting();
        true
    }

    /// Brings the marks of a list that has grown into the maps.
    fn go_on_cutting(&mut self) {
        let is_durable = |cut: &mut Cut| cut.answer.as_mut().is_none_or(|answer| answer.look() == Some(true));
        if let Some(cut) = self.cut.take_if(is_durable) {
            self.log.drain(..cut.count);
        }
        if self.cut.is_none() && self.log.len() >= GROWN {
            let write = |state: &mut State, txn: &mut Txn| {
                state.ledger.write_marks(txn, None, 0, usize::MAX, usize::MAX);
                txn.wait_for_queue();
            };
            let decided = self.inner.lock().decide(self.inner.clock.now(), write);
            let answer = decided.ok().and_then(|((), answer)| answer);
            self.cut = Some(Cut { count: self.log.len(), answer });
        }
    }

    fn refuse(&mut self, reason: &Arc<str>) {
        refuse(self.gathered.drain(..).map(Gathered::done), reason);
    }

    /// Takes everything that waits and makes it durable.
    pub fn step(&mut self) -> bool {
        self.gather(usize::MAX);
        self.commit()
    }

    /// The disk refuses: what is in hand and what waits is refused, and the store is down. The first `reached` requests
    /// in hand came to lie on the disk all the same.
    pub fn fail(&mut self, reason: &str, reached: usize) {
        let reason: Arc<str> = reason.into();
        self.keep(reached);
        self.gather(usize::MAX);
        (self.suspect, self.cut) = (None, None);
        self.inner.take_down(&reason);
        self.refuse(&reason);
        self.aside = self.aside.take().or_else(|| self.inner.take_engine());
    }

    /// A store that is down is opened again: its memory is what lies in the trees.
    pub fn reopen(&mut self) {
        self.gather(usize::MAX);
        self.refuse(&"it is being reopened".into());
        self.suspect = None;
        let Some(engine) = self.aside.take() else { return };
        let (fresh, log) = read(&engine, &self.log, self.inner.clock.now());
        self.log = log;
        self.removed = self.inner.come_up(engine, None, fresh);
    }

    /// Carries out the erasure that is owed. Returns whether one was.
    pub fn erase(&mut self) -> bool {
        let (is_owed, is_all) = {
            let erasures = &self.inner.lock().state.erasures;
            (!erasures.is_done(self.removed), erasures.wanted() == self.removed)
        };
        if self.is_down() || !is_owed {
            return false;
        }
        if is_all {
            self.apply(vec![erasures::note_done()]);
        }
        self.inner.note_erased(self.removed);
        true
    }

    /// A store of its own with what a power cut at this moment would leave.
    pub fn on_disk(&self) -> Store {
        let engine = self.inner.engine.read().unwrap_or_else(PoisonError::into_inner);
        let maps = match self.aside.as_ref().or(engine.as_ref()) {
            Some(Engine::Maps(maps)) => maps.clone(),
            Some(Engine::Database(_) | Engine::Shared(_) | Engine::Simulated(_)) | None => Box::default(),
        };
        start(Engine::Maps(maps), &self.log, self.inner.keyring(), self.clock.clone()).0
    }

    /// What a power cut at this moment would leave of a part.
    pub fn part_on_disk(&self, part: &PartKey) -> OnDisk {
        let engine = self.inner.engine.read().unwrap_or_else(PoisonError::into_inner);
        let Some(engine) = self.aside.as_ref().or(engine.as_ref()) else { return OnDisk::default() };
        let key = part.to_bytes();
        let staged: Option<Staged> = record(engine, Tree::Outbox, &key);
        let put = staged.as_ref().filter(|staged| staged.op != ObjectOp::Delete);
        let body = put.and_then(|staged| engine.body(part, staged).ok()?.ok());
        let is_linked = engine.get(Tree::Links, &part.link.to_bytes()).ok().flatten().is_some();
        let synced: Synced = record(engine, Tree::Synced, &key).unwrap_or_default();
        let mark: Option<Mark> = record(engine, Tree::Marks, &key);
        let logged = self.log.iter().rev().find(|(of, _)| of == part).map(|(_, mark)| mark);
        let stands = logged.filter(|logged| is_linked && logged.stands_beside(mark.as_ref(), &synced));
        OnDisk { is_linked, mark: stands.cloned().or(mark), staged, body, synced }
    }

    /// The staged body of a part is lost, as it is when the disk damages it. Returns whether there was one.
    pub fn lose_body(&mut self, part: &PartKey) -> bool {
        let OnDisk { staged: Some(staged), body: Some(_), .. } = self.part_on_disk(part) else { return false };
        let keys = body_keys(part, &staged);
        self.apply(keys.map(|key| Write { tree: Tree::Bodies, key, value: None }).collect());
        true
    }

    /// The process dies. Of what was not answered, the first `survivors` requests came to lie on the disk. Returns the
    /// next process.
    pub fn crash(mut self, survivors: usize) -> (Store, Committer) {
        self.gather(usize::MAX);
        self.keep(survivors);
        self.inner.lock().close("the process died");
        let engine = self.aside.take().or_else(|| self.inner.take_engine());
        let engine = engine.unwrap_or_else(|| Engine::Maps(Box::default()));
        start(engine, &self.log, self.inner.keyring(), self.clock)
    }

    /// Applies the writes of the first requests in hand.
    fn keep(&mut self, count: usize) {
        let mut writes = Vec::new();
        for gathered in self.gathered.iter_mut().take(count) {
            match gathered {
                Gathered::Database(request) => writes.append(&mut request.writes),
                Gathered::Marks(request) => self.log.extend(request.marks.iter().cloned()),
            }
        }
        self.apply(writes);
    }

    fn apply(&mut self, writes: Vec<Write>) {
        let mut engine = self.inner.engine.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(Engine::Maps(maps)) = self.aside.as_mut().or(engine.as_mut()) {
            maps.apply(writes);
        }
    }
}

/// What lies on the disk for a part.
#[derive(Debug, Clone, Default)]
pub struct OnDisk {
    /// Its link is there.
    pub is_linked: bool,
    /// The mark.
    pub mark: Option<Mark>,
    /// The outbox entry.
    pub staged: Option<Staged>,
    /// The body of the entry, whole; none for a delete.
    pub body: Option<Bytes>,
    /// What is known of Spaces.
    pub synced: Synced,
}

fn record<T: DeserializeOwned>(engine: &Engine, tree: Tree, key: &[u8]) -> Option<T> {
    let value = engine.get(tree, key).ok().flatten()?;
    codec::decode(tree.name(), &value).ok()
}

/// Polls a future once. `None` while it waits for the committer.
pub fn poll_once<F: Future + ?Sized>(future: Pin<&mut F>) -> Option<F::Output> {
    match future.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => Some(answer),
        Poll::Pending => None,
    }
}

/// The answer of a future that waits for nobody, as a look into a store in memory does: it is suspended once at most.
pub fn at_once<F: Future>(future: F) -> F::Output {
    let mut future = std::pin::pin!(future);
    let answer = poll_once(future.as_mut()).or_else(|| poll_once(future.as_mut()));
    answer.unwrap_or_else(|| panic!("it waits for the committer"))
}

/// What a look into a store in memory shows.
pub fn shown<T>(looking: impl Future<Output = Result<T, Unavailable>>) -> T {
    at_once(looking).unwrap_or_else(|error| panic!("{error}"))
}
