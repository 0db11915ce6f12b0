//! The store: its memory and the way to the two threads that write under one lock, the trees, the mark log, and how a
//! decision is made.

use std::panic::{self, AssertUnwindSafe};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::{Semaphore, oneshot, watch};

use super::absorbing::Absorbing;
use super::api::{Condition, Unavailable};
use super::clock::Clock;
use super::engine::Engine;
use super::feed::{Change, Feed};
use super::handle::{Fault, guarded, panic_text};
use super::leases::Leases;
use super::mark_log::MarkLog;
use super::order::{Answer, MarkRequest, Order, Orders, Request, SharedOrder};
use super::roster::Roster;
use super::seal::Keyring;
use super::state::State;
use super::turn::Turn;
use super::txn::Txn;
use crate::core::model::WallTime;

/// How many requests may wait for the committer; more callers wait for a slot.
const MAX_WAITING: usize = 4096;

/// What a decision is made with.
pub(super) struct Memory {
    pub state: State,
    pub orders: Orders,
}

impl Memory {
    /// Nothing more is decided until the store is back.
    pub(super) fn take_down(&mut self, reason: &Arc<str>) {
        self.orders.take_down(reason.clone());
        self.state.ledger.absorbing().clear();
    }

    /// Nothing more is decided.
    pub(super) fn close(&mut self, reason: &str) {
        self.orders.close(reason);
        self.state.ledger.absorbing().clear();
    }

    /// Makes a decision and hands it to the committer. One that panics leaves nothing behind: nothing of it is written
    /// or published, and the memory, which may hold half of it, is read from disk again.
    pub(super) fn decide<R>(
        &mut self,
        now: WallTime,
        decide: impl FnOnce(&mut State, &mut Txn) -> R,
    ) -> Result<(R, Option<Answer>), Unavailable> {
        let mut txn = self.state.begin(now);
        let decided = panic::catch_unwind(AssertUnwindSafe(|| decide(&mut self.state, &mut txn)));
        let answer = decided.map_err(|payload| {
            let reason: Arc<str> = format!("a decision panicked: {}", panic_text(&*payload)).into();
            self.take_down(&reason);
            self.orders.send(Order::Suspect(reason.clone()));
            Unavailable { reason }
        })?;
        #[cfg(test)]
        self.state.check();
        let erasure = self.state.conclude(&mut txn);
        Ok((answer, self.orders.submit(txn.collected(), erasure)))
    }
}

/// Where work that blocks is done.
pub(super) enum Blocking {
    /// On threads for it.
    OnThreads,
    /// At once, as suits a store that is stepped by hand.
    AtOnce,
}

/// What a test wants to happen at operations that do not wait for the committer. Nothing sets these but tests.
#[derive(Default)]
pub(super) struct Interference {
    /// The caller is suspended at each look, and behind each piece of work that would block.
    pub suspends: AtomicBool,
    /// Each is refused.
    pub refuses: AtomicBool,
}

impl Interference {
    async fn meet(&self) -> Result<(), Unavailable> {
        if self.suspends.load(Ordering::Relaxed) {
            tokio::task::yield_now().await;
        }
        if self.refuses.load(Ordering::Relaxed) { Err(Unavailable::because("a test refuses it")) } else { Ok(()) }
    }
}

/// What the store's two threads made durable, and how that stood when one of them panicked last.
#[derive(Default)]
pub(super) struct Commits {
    database: AtomicU64,
    marks: AtomicU64,
    at_last_panic: Mutex<Option<(u64, u64)>>,
    observer: OnceLock<Observer>,
}

/// Hears how long it took to make something durable.
pub(super) type Observer = Box<dyn Fn(Duration) + Send + Sync>;

impl Commits {
    /// Has an observer hear of each commit. The first one stays.
    pub(super) fn observe(&self, observer: Observer) {
        // A second observer is a mistake of the program, and harms nothing.
        let _ = self.observer.set(observer);
    }

    /// A transaction of the database is durable.
    pub(super) fn note_database(&self, took: Duration) {
        self.database.fetch_add(1, Ordering::Relaxed);
        self.note(took);
    }

    /// A batch of marks is durable.
    pub(super) fn note_marks(&self, took: Duration) {
        self.marks.fetch_add(1, Ordering::Relaxed);
        self.note(took);
    }

    fn note(&self, took: Duration) {
        if let Some(observer) = self.observer.get() {
            observer(took);
        }
    }

    /// The thread of the database panicked. Has it made nothing durable since one of the two panicked last?
    pub(super) fn is_second_panic_of_database(&self) -> bool {
        let (before, now) = self.panicked();
        before.is_some_and(|(database, _)| database == now.0)
    }

    /// The same, of the thread of the marks.
    pub(super) fn is_second_panic_of_marks(&self) -> bool {
        let (before, now) = self.panicked();
        before.is_some_and(|(_, marks)| marks == now.1)
    }

    fn panicked(&self) -> (Option<(u64, u64)>, (u64, u64)) {
        let now = (self.database.load(Ordering::Relaxed), self.marks.load(Ordering::Relaxed));
        let mut last = self.at_last_panic.lock().unwrap_or_else(PoisonError::into_inner);
        (last.replace(now), now)
    }
}

pub(super) struct Inner {
    pub dir: PathBuf,
    /// The newest number that lay on disk when the process opened the store.
    pub opened_at: u64,
    /// A random number that tells this process's numbers from those of another.
    pub life: u64,
    pub memory: Mutex<Memory>,
    pub absorbing: Arc<Absorbing>,
    /// `None` while the store is down.
    pub engine: RwLock<Option<Engine>>,
    pub keyring: RwLock<Arc<Keyring>>,
    pub slots: Semaphore,
    pub condition: watch::Sender<Condition>,
    pub feed: Feed,
    /// The buckets of links that this process works on.
    pub leases: Leases,
    /// Why the store cannot go on in this process.
    pub given_up: watch::Sender<Option<Arc<str>>>,
    /// Bumped when an erasure was carried out.
    pub erased: watch::Sender<u64>,
    /// The thread of the committer.
    pub thread: Mutex<Option<std::thread::JoinHandle<()>>>,
    /// The thread of the mark writer.
    pub mark_thread: Mutex<Option<std::thread::JoinHandle<()>>>,
    /// `None` while the store is down. Held while marks are written; no other lock is taken meanwhile.
    pub mark_log: Mutex<Option<MarkLog>>,
    /// The mark log has grown, and the committer was asked to cut it.
    pub cut_wanted: AtomicBool,
    /// Commits of both threads that succeeded.
    pub commits: Commits,
    /// Commits that are to panic.
    #[cfg(any(test, feature = "sandbox"))]
    pub drills: AtomicU64,
    /// The threads that write are to hang.
    #[cfg(any(test, feature = "sandbox"))]
    pub hangs: AtomicBool,
    /// The disk is being asked how much it has left.
    pub asks_disk: AtomicBool,
    pub mended: Mutex<Option<String>>,
    /// Bytes on disk, as they were seen last.
    pub bytes: AtomicU64,
    /// The daemons that share the store.
    pub roster: Roster,
    pub clock: Clock,
    pub blocking: Blocking,
    pub interference: Interference,
}

/// What a store is made of.
pub(super) struct Parts {
    pub dir: PathBuf,
    pub state: State,
    pub orders: Orders,
    pub engine: Engine,
    pub mark_log: Option<MarkLog>,
    pub keyring: Arc<Keyring>,
    pub feed: Feed,
    pub leases: Leases,
    pub mended: Option<String>,
    pub clock: Clock,
    pub blocking: Blocking,
}

impl Inner {
    pub(super) fn new(parts: Parts) -> Inner {
        let Parts { dir, state, orders, engine, mark_log, keyring, feed, leases, mended, clock, blocking } = parts;
        Inner {
            dir,
            opened_at: state.newest_seq(),
            life: crate::random::uuid().as_u64_pair().0,
            absorbing: state.ledger.absorbing().clone(),
            memory: Mutex::new(Memory { state, orders }),
            engine: RwLock::new(Some(engine)),
            keyring: RwLock::new(keyring),
            slots: Semaphore::new(MAX_WAITING),
            condition: watch::Sender::new(Condition::Up),
            feed,
            leases,
            given_up: watch::Sender::new(None),
            erased: watch::Sender::new(0),
            thread: Mutex::new(None),
            mark_thread: Mutex::new(None),
            mark_log: Mutex::new(mark_log),
            cut_wanted: AtomicBool::new(false),
            commits: Commits::default(),
            #[cfg(any(test, feature = "sandbox"))]
            drills: AtomicU64::new(0),
            #[cfg(any(test, feature = "sandbox"))]
            hangs: AtomicBool::new(false),
            asks_disk: AtomicBool::new(false),
            mended: Mutex::new(mended),
            bytes: AtomicU64::new(0),
            roster: Roster::default(),
            clock,
            blocking,
            interference: Interference::default(),
        }
    }

    /// Do several daemons share the store?
    pub(super) fn is_shared(&self) -> bool {
        self.leases.are_shared()
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Memory> {
        // A decision that panics is caught before it reaches the guard; all else under the lock is a total function.
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn keyring(&self) -> Arc<Keyring> {
        self.keyring.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The trees go; whoever reads them ends first.
    pub(super) fn take_engine(&self) -> Option<Engine> {
        self.engine.write().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The mark log goes; a write to it ends first.
    pub(super) fn take_mark_log(&self) -> Option<MarkLog> {
        self.mark_log.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Hangs where a drill asked for it: the end of the process ends it.
    pub(super) fn hang_for_drill(&self) {
        #[cfg(any(test, feature = "sandbox"))]
        while self.hangs.load(Ordering::Relaxed) {
            std::thread::park_timeout(Duration::from_secs(1));
        }
    }

    /// Is this commit to panic?
    pub(super) fn takes_drill(&self) -> bool {
        #[cfg(any(test, feature = "sandbox"))]
        {
            let fewer = |drills: u64| drills.checked_sub(1);
            self.drills.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fewer).is_ok()
        }
        #[cfg(not(any(test, feature = "sandbox")))]
        false
    }

    pub(super) fn note_mended(&self, what: Option<String>) {
        if what.is_some() {
            *self.mended.lock().unwrap_or_else(PoisonError::into_inner) = what;
        }
    }

    /// Nothing more is decided until the store is back.
    pub(super) fn take_down(&self, reason: &Arc<str>) {
        self.lock().take_down(reason);
        self.condition.send_replace(Condition::Down(reason.clone()));
    }

    /// The store was opened again, with this in it. Returns the newest erasure that is asked for.
    pub(super) fn come_up(&self, engine: Engine, mark_log: Option<MarkLog>, fresh: State) -> u64 {
        *self.engine.write().unwrap_or_else(PoisonError::into_inner) = Some(engine);
        let (erasure, earlier) = {
            let mut memory = self.lock();
            let earlier = memory.state.replace(fresh);
            let epoch = memory.orders.come_up();
            *self.mark_log.lock().unwrap_or_else(PoisonError::into_inner) = mark_log.map(|log| log.of_epoch(epoch));
            self.cut_wanted.store(false, Ordering::Relaxed);
            (memory.state.erasures.wanted(), earlier)
        };
        drop(earlier);
        self.condition.send_replace(Condition::Up);
        self.feed.publish(vec![Change::Reset]);
        erasure
    }

    /// These requests are durable: publishes what they changed, and answers them.
    pub(super) fn answer(&self, requests: &mut Vec<Request>) {
        {
            let Memory { state, orders } = &mut *self.lock();
            for request in requests.iter() {
                request.notes.iter().for_each(|(part, seq)| state.ledger.is_durable(part, *seq));
                orders.is_durable(request);
            }
        }
        for request in requests.drain(..) {
            self.feed.publish(request.changes);
            // The caller may have stopped waiting.
            let _ = request.done.send(Ok(()));
        }
    }

    /// These marks are durable: publishes what they changed, and answers the requests. The reader of the feed is woken
    /// last, because it begins work for each mark, and somebody waits for each answer.
    pub(super) fn answer_marks(&self, requests: &mut Vec<MarkRequest>) {
        {
            let ledger = &mut self.lock().state.ledger;
            let marks = requests.iter().flat_map(|request| &request.marks);
            marks.for_each(|(part, mark)| ledger.is_durable(part, mark.seq));
        }
        let changes = requests.iter_mut().flat_map(|request| std::mem::take(&mut request.changes));
        let has_work = self.feed.publish_quietly(changes.collect());
        for request in requests.drain(..) {
            // The caller may have stopped waiting.
            let _ = request.done.send(Ok(()));
        }
        if has_work {
            self.feed.wake();
        }
    }

    /// The erasures up to this one are carried out. What follows from it goes through the queue like all other writes,
    /// and no caller waits for it.
    pub(super) fn note_erased(&self, number: u64) {
        let decided = self.lock().decide(self.clock.now(), |state, txn| state.erased(txn, number));
        // One that panicked has taken the store down, which is opened again with the deletions as they were.
        drop(decided);
        self.erased.send_modify(|n| *n += 1);
    }
}

/// A handle on the store; clones share it.
#[derive(Clone)]
pub struct Store {
    pub(super) inner: Arc<Inner>,
}

impl Store {
    pub(super) fn lock(&self) -> MutexGuard<'_, Memory> {
        self.inner.lock()
    }

    /// This moment on the clock that dates decisions.
    pub(super) fn now(&self) -> WallTime {
        self.inner.clock.now()
    }

    /// Decides under the lock, in a turn where the store is shared, and waits until what was decided is durable.
    pub(super) async fn commit<R>(&self, decide: impl FnOnce(&mut State, &mut Txn) -> R) -> Result<R, Unavailable> {
        let _slot = self.inner.slots.acquire().await.map_err(|_| self.closed())?;
        let (answer, waiting) = loop {
            let turn = self.enter().await?;
            let mut memory = self.lock();
            memory.orders.writable()?;
            if turn.as_ref().is_none_or(|turn| turn.is_open() && memory.orders.takes_more()) {
                break memory.decide(self.now(), decide)?;
            }
        };
        if let Some(waiting) = waiting {
            waiting.wait().await?;
        }
        Ok(answer)
    }

    /// Waits for a turn; `None` where nobody else decides.
    async fn enter(&self) -> Result<Option<Turn>, Unavailable> {
        if !self.inner.is_shared() {
            return Ok(None);
        }
        let (entrance, turn) = oneshot::channel();
        {
            let orders = &self.lock().orders;
            orders.writable()?;
            orders.send(Order::Shared(SharedOrder::Enter(entrance)));
        }
        turn.await.unwrap_or_else(|_| Err(self.closed())).map(Some)
    }

    /// Looks at the memory, or changes what lies in memory alone.
    pub(super) async fn look<R>(&self, look: impl FnOnce(&mut State) -> R) -> Result<R, Unavailable> {
        self.inner.interference.meet().await?;
        Ok(look(&mut self.lock().state))
    }

    /// Waits until everything that was decided by now is durable, but for marks that were made alone.
    pub(super) async fn barrier(&self) -> Result<(), Unavailable> {
        self.commit(|_, txn| txn.wait_for_queue()).await
    }

    pub(super) fn closed(&self) -> Unavailable {
        Unavailable::because("it is closed")
    }

    /// Does work that blocks or takes long, away from the async workers.
    pub(super) async fn off_worker<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> T + Send + 'static,
    ) -> Result<T, Unavailable> {
        if matches!(self.inner.blocking, Blocking::AtOnce) {
            let done = work(self);
            self.inner.interference.meet().await?;
            return Ok(done);
        }
        let store = self.clone();
        let working = tokio::task::spawn_blocking(move || work(&store));
        // It panicked, or the runtime ends.
        working.await.map_err(|_| Unavailable::because("its work broke off"))
    }

    /// Reads from the trees, which blocks; they are gone while the store is being opened again. A read that the disk
    /// refuses is an error, never an absence. After any fault the store is opened again.
    pub(super) fn read<T>(&self, look: impl FnOnce(&Engine) -> Result<T, Fault>) -> Result<T, Unavailable> {
        let engine = self.inner.engine.read().unwrap_or_else(PoisonError::into_inner);
        let Some(engine) = engine.as_ref() else { return Err(Unavailable::because("it is being reopened")) };
        guarded(|| look(engine)).map_err(|fault| {
            self.lock().orders.suspect();
            Unavailable { reason: format!("it cannot be read ({fault}), it is being reopened").into() }
        })
    }
}
