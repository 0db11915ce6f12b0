//! A store in memory whose committer is stepped by hand: for tests that choose when a commit succeeds, fails or is cut
//! off. It has the same decisions, queue and operations as a store on disk, and neither a thread nor a clock of its
//! own.
//!
//! An operation that waits for a commit is a future that is pending until the test steps the [`Committer`];
//! [`poll_once`] drives one without a runtime.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use serde::de::DeserializeOwned;

use super::api::Unavailable;
use super::check;
use super::codec;
use super::engine::Engine;
use super::feed::Feed;
use super::inner::{Blocking, Clock, Inner, Parts, Store};
use super::load;
use super::maps::Maps;
use super::order::{Order, Orders, Request, refuse};
use super::seal::Keyring;
use super::state::erasures;
use super::tree::{Tree, Write, body_keys};
use crate::core::ledger::{Mark, ObjectOp, Staged, Synced};
use crate::core::model::{PartKey, WallTime};

/// The committer of a store in memory.
pub struct Committer {
    inner: Arc<Inner>,
    queue: Receiver<Order>,
    /// Requests in hand.
    gathered: Vec<Request>,
    /// The store was asked to open anew.
    suspect: Option<Arc<str>>,
    /// The newest erasure whose removals are committed.
    removed: u64,
    /// The trees while the store is down.
    aside: Option<Engine>,
    clock: Arc<AtomicU64>,
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
        start(Engine::Maps(maps), Arc::new(keyring), Arc::new(AtomicU64::new(now.0)))
    }
}

/// A process begins with what lies in the trees.
fn start(engine: Engine, keyring: Arc<Keyring>, clock: Arc<AtomicU64>) -> (Store, Committer) {
    let feed = Feed::default();
    let (orders, queue) = Orders::new(feed.clone());
    let now = Clock::Set(clock.clone());
    let state = load::load(&engine, now.now()).unwrap_or_else(|fault| panic!("maps in memory cannot fail: {fault}"));
    let removed = state.erasures.wanted();
    let (dir, mended, blocking) = ("memory".into(), None, Blocking::AtOnce);
    let parts = Parts { dir, state, orders, engine, keyring, feed, mended, clock: now, blocking };
    let inner = Arc::new(Inner::new(parts));
    let (gathered, suspect, aside) = (Vec::new(), None, None);
    (Store { inner: inner.clone() }, Committer { inner, queue, gathered, suspect, removed, aside, clock })
}

impl Committer {
    /// The store's clock shows this time.
    pub fn set_time(&self, now: WallTime) {
        self.clock.store(now.0, Ordering::Relaxed);
    }

    /// From here on an operation is suspended at each piece of work that would block on a disk, and at each look that
    /// another engine would make somewhere else.
    pub fn suspend_behind_blocking_work(&self) {
        self.inner.interference.suspends.store(true, Ordering::Relaxed);
    }

    /// Takes what waits, up to so many requests in hand. Returns how many are in hand. A barrier counts as one.
    pub fn gather(&mut self, most: usize) -> usize {
        while self.gathered.len() < most
            && let Ok(order) = self.queue.try_recv()
        {
            match order {
                Order::Commit(request) => self.gathered.push(request),
                Order::Suspect(reason) => self.suspect = Some(reason),
                #[cfg(any(test, feature = "sandbox"))]
                Order::Drill => self.suspect = Some("drill: the store's thread was asked to panic".into()),
                Order::Pulse(answer) => drop(answer.send(())),
            }
        }
        self.gathered.len()
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
        if let Some(reason) = self.suspect.take() {
            self.fail(&reason, 0);
            return false;
        }
        if self.is_down() {
            refuse(self.gathered.drain(..), &"it is down".into());
            return false;
        }
        let count = self.gathered.len();
        self.keep(count);
        self.removed = self.gathered.iter().map(|request| request.erasure).fold(self.removed, u64::max);
        self.inner.answer(&mut self.gathered);
        true
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
        self.suspect = None;
        self.inner.take_down(&reason);
        refuse(self.gathered.drain(..), &reason);
        self.aside = self.aside.take().or_else(|| self.inner.take_engine());
    }

    /// A store that is down is opened again: its memory is what lies in the trees.
    pub fn reopen(&mut self) {
        self.gather(usize::MAX);
        refuse(self.gathered.drain(..), &"it is being reopened".into());
        self.suspect = None;
        let Some(engine) = self.aside.take() else { return };
        match load::load(&engine, self.inner.clock.now()) {
            Ok(fresh) => self.removed = self.inner.come_up(engine, fresh),
            Err(fault) => panic!("maps in memory cannot fail: {fault}"),
        }
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
            Some(Engine::Database(_)) | None => Box::default(),
        };
        start(Engine::Maps(maps), self.inner.keyring(), self.clock.clone()).0
    }

    /// What a power cut at this moment would leave of a part.
    pub fn part_on_disk(&self, part: &PartKey) -> OnDisk {
        let engine = self.inner.engine.read().unwrap_or_else(PoisonError::into_inner);
        let Some(engine) = self.aside.as_ref().or(engine.as_ref()) else { return OnDisk::default() };
        let key = part.to_bytes();
        let staged: Option<Staged> = record(engine, Tree::Outbox, &key);
        let put = staged.as_ref().filter(|staged| staged.op != ObjectOp::Delete);
        let body = put.and_then(|staged| engine.body(part, staged).ok()?.ok());
        OnDisk {
            is_linked: engine.get(Tree::Links, &part.link.to_bytes()).ok().flatten().is_some(),
            mark: record(engine, Tree::Marks, &key),
            staged,
            body,
            synced: record(engine, Tree::Synced, &key).unwrap_or_default(),
        }
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
        start(engine.unwrap_or_else(|| Engine::Maps(Box::default())), self.inner.keyring(), self.clock)
    }

    /// Applies the writes of the first requests in hand.
    fn keep(&mut self, count: usize) {
        let requests = self.gathered.iter_mut().take(count);
        let writes = requests.flat_map(|request| std::mem::take(&mut request.writes)).collect();
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
