//! The daemon's memory on disk: links, what is owed, people's tokens, browser sessions. sled 0.34 underneath, and
//! nothing outside this module knows.
//!
//! # Trees
//!
//! | tree | key | value |
//! |---|---|---|
//! | `meta` | `format`, `check`, `batch`, `erase` | layout version; a sealed known text that finds a wrong store key; the number of the newest transaction; since when an erasure is owed |
//! | `links` | link | [`LinkRecord`]: names, health, subscription, the sealed page token |
//! | `marks` | part | [`Mark`]: a read is owed |
//! | `outbox` | part | [`Staged`](crate::core::ledger::Staged): a write or a delete is owed |
//! | `bodies` | part, `0`, number, chunk | the bytes of a staged object, 16 KiB a piece |
//! | `synced` | part | [`Synced`]: digest and ETag of the object in Spaces, last read |
//! | `accounts` | user, app-scoped person | [`AccountRecord`]: the sealed user token |
//! | `sessions`, `logins` | SHA-256 of the secret half | browser sessions; one-time login links |
//! | `states` | nonce | OAuth states that were used, until they expire anyway |
//! | `deletions` | confirmation code | data deletions and how far they are |
//! | `notices` | number | [`Event`](crate::core::event::Event): an event that waits for its delivery |
//! | `fields` | part | a short hash of each page field that Spaces holds |
//! | `chores` | kind; page, person or part | a cleanup that is left after an unlink, with the sealed token for it |
//!
//! The bytes of links and parts stand in [`core::model`](crate::core::model::LinkKey); [`migration`] brings the keys of
//! an earlier format forward. Every value is a version byte, a CRC-32 and the
//! payload ([`codec`]), so that a damaged record is found and named, never served.
//!
//! # How a write becomes durable
//!
//! Decisions are made in memory under one lock, and the writes that follow from each are queued under the same lock;
//! so the queue has them in the order of the decisions. One committer thread takes what waits, applies it as one
//! transaction over all trees, flushes, and fsyncs sled's log, and only then answers. sled's own `flush` is not a
//! durability barrier on Linux, and concurrent asynchronous flushes deadlock it: hence the one thread and the fsync.
//! Items stay small (bodies are cut) and segments are 2 MiB, because sled puts larger nodes into files that it never
//! fsyncs.
//!
//! # How others learn of it
//!
//! A decision collects what it changes for others beside its writes. The committer publishes that in the [`feed`] when
//! the writes are durable, whether or not the caller still waits.
//!
//! # When the disk refuses
//!
//! sled's I/O errors stick until it is opened again. The first failed commit therefore takes the store *down*: what
//! waits is refused (deliveries are answered 503), memory is thrown away, and the committer opens the store again, at first
//! soon and then every few seconds, until it can. Memory is then read from disk as at start, so what was decided and
//! not made durable is forgotten, exactly as after a crash; readers that were under way are fenced off by the ledger.
//!
//! [`handle`] is the only module that touches sled's life: its panics are caught there, its destructor's too.
//! [`folder`] locks the store for this process and asks the disk whether it works; [`committer`] says when the process
//! must end.
//!
//! # What a half-done step looks like at start
//!
//! Nothing is half done: each transaction holds all the writes of the decisions in it. A mark without a read is read,
//! an outbox entry without a settle is written again. A body without its entry cannot be, as both go in one
//! transaction.
//!
//! # When the database itself is damaged or gone
//!
//! [`backup_log`] keeps what cannot be had again (links, logins, sessions, deletions, cleanups, events that wait) in a
//! second file, in step with the database; [`rebuild`] opens whatever is there, mends it, and says so.
//!
//! # When something is to be gone
//!
//! Both files append. A decision that removes data about a person requests an [`erasure`]: a [`renewal`] writes both
//! files anew beside the ones in force, between the commits, and replaces them. A deletion is done only after that.

mod accounts;
pub(crate) mod backup_log;
pub mod cleanups;
pub mod codec;
mod committer;
pub mod deletions;
mod engine;
mod erasure;
pub mod events;
pub mod feed;
mod folder;
pub mod grants;
mod handle;
pub mod imports;
mod links;
mod load;
mod migration;
mod open_error;
mod order;
mod permissions;
pub mod persons;
mod rebuild;
pub mod records;
mod renewal;
pub mod rotation;
pub mod seal;
pub mod sessions;
mod state;
pub mod unlink;
mod work;

use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::{Semaphore, oneshot, watch};

use crate::core::ledger::{Mark, Synced};
use crate::core::model::{LinkKey, PartKey, WallTime};
use engine::Engine;
use feed::Feed;
#[cfg(feature = "sandbox")]
pub(crate) use folder::lock_within;
pub use open_error::OpenError;
pub use records::{AccountRecord, LinkRecord};
use seal::Keyring;
use state::State;
pub use work::{Expectation, Left, OutboxItem, ReadClaim, StageOutcome};

/// How many requests may wait for the committer; more callers wait for a slot.
const MAX_WAITING: usize = 4096;

/// The store cannot make anything durable at the moment; it recovers by itself.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the store is not available: {reason}")]
pub struct Unavailable {
    /// What the disk or sled said.
    pub reason: Arc<str>,
}

/// Whether the store can be written to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// It can.
    Up,
    /// It cannot, and this is why; it is being opened again.
    Down(Arc<str>),
}

/// A link with its token opened.
#[derive(Debug, Clone)]
pub struct Link {
    /// Which.
    pub key: LinkKey,
    /// The record.
    pub record: Arc<LinkRecord>,
    /// The page token.
    pub token: crate::core::model::Secret,
}

/// Counts for `status`, metrics and readiness.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Links.
    pub links: u64,
    /// Links by the word of their health, as far as the store knows: of throttling it does not.
    pub health: std::collections::BTreeMap<&'static str, u64>,
    /// Links owed a read that the daemon can make, now or when a limit or a backoff ends.
    pub due: u64,
    /// Links owed a read that waits for a person.
    pub due_parked: u64,
    /// Objects owed a write or a delete.
    pub outbox: u64,
    /// Since when the oldest of `due` and `outbox` is owed.
    pub oldest_owed: Option<WallTime>,
    /// What is left to do after unlinks, by the word of its kind.
    pub cleanups: std::collections::BTreeMap<&'static str, u64>,
    /// Records that could not be decoded when the store was opened.
    pub damaged: u64,
}

/// A link as lists show it.
#[derive(Debug, Clone)]
pub struct LinkView {
    /// Which.
    pub key: LinkKey,
    /// The record.
    pub record: Arc<LinkRecord>,
    /// What Spaces has.
    pub synced: Synced,
    /// Is a read or a write owed that the daemon can make?
    pub owed: bool,
    /// Is a read owed that waits for a person?
    pub owed_parked: bool,
}

/// A handle on the store; clones share it.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    dir: PathBuf,
    /// The newest number that lay on disk when the process opened the store.
    opened_at: u64,
    /// A random number that tells this process's numbers from those of another.
    life: u64,
    state: Mutex<State>,
    engine: RwLock<Option<Engine>>,
    keyring: RwLock<Arc<Keyring>>,
    slots: Semaphore,
    condition: watch::Sender<Condition>,
    feed: Feed,
    /// Why the store cannot go on in this process.
    given_up: watch::Sender<Option<Arc<str>>>,
    /// Bumped when an erasure was carried out.
    erased: watch::Sender<u64>,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
    mended: Mutex<Option<String>>,
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds this lock in a way that leaves the state torn: decisions are total functions.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note_mended(&self, what: Option<String>) {
        if what.is_some() {
            *self.mended.lock().unwrap_or_else(PoisonError::into_inner) = what;
        }
    }

    fn keyring(&self) -> Arc<Keyring> {
        self.keyring.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Store {
    /// Opens the store in `dir`, making it if need be, and reads it into memory. Blocks; call it before the runtime
    /// is busy or on a blocking thread.
    ///
    /// # Errors
    /// [`OpenError`] names the file and the way out: locked by another process, sealed with another key, damaged,
    /// unreadable, or written by a newer version.
    pub fn open(dir: &Path, keyring: Keyring) -> Result<Self, OpenError> {
        let keyring = Arc::new(keyring);
        folder::prepare(dir)?;
        let lock = folder::lock(dir)?;
        let rebuild::Opened { engine, backup_log, high_water_mark, batch, mended } = rebuild::open(dir, &keyring)?;
        let (sender, receiver) = std::sync::mpsc::channel();
        let feed = Feed::default();
        let state = State::load(dir, &engine, sender, feed.clone())?;
        let inner = Arc::new(Inner {
            dir: dir.to_owned(),
            opened_at: state.seq(),
            life: crate::random::uuid().as_u64_pair().0,
            state: Mutex::new(state),
            engine: RwLock::new(Some(engine)),
            keyring: RwLock::new(keyring),
            slots: Semaphore::new(MAX_WAITING),
            condition: watch::Sender::new(Condition::Up),
            feed,
            given_up: watch::Sender::new(None),
            erased: watch::Sender::new(0),
            thread: Mutex::new(None),
            mended: Mutex::new(mended),
        });
        let committer = committer::spawn(
            inner.clone(),
            committer::Files { backup_log, high_water_mark, batch, _lock: lock },
            receiver,
        )
        .map_err(|source| OpenError::Io { path: dir.to_owned(), source })?;
        *inner.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(committer);
        Ok(Store { inner })
    }

    /// Makes everything durable that was decided, and lets go of the files. Further writes are refused.
    pub async fn close(&self) {
        self.lock().close("it is closed");
        let thread = self.inner.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // A committer that panicked has said so through the panic hook, and nothing is left to wait for.
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }

    /// Does the committer take orders from its queue within this time? It does so while the disk refuses, too. A thread
    /// that hangs or is gone does not.
    pub async fn has_pulse(&self, within: Duration) -> bool {
        let (answer, answered) = oneshot::channel();
        self.lock().send(order::Order::Pulse(answer));
        matches!(tokio::time::timeout(within, answered).await, Ok(Ok(())))
    }

    /// Says why once the store cannot go on in this process: it must end then, and be started again.
    pub fn given_up(&self) -> watch::Receiver<Option<Arc<str>>> {
        self.inner.given_up.subscribe()
    }

    /// Lets the thread that writes panic over its next commit.
    #[cfg(any(test, feature = "sandbox"))]
    pub fn drill(&self) {
        self.lock().send(order::Order::Drill);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.inner.lock()
    }

    /// Decides under the lock and waits until what was decided is durable. A decision that panics leaves nothing behind.
    async fn commit<R>(&self, decide: impl FnOnce(&mut State) -> R) -> Result<R, Unavailable> {
        let _slot = self.inner.slots.acquire().await.map_err(|_| self.closed())?;
        let (answer, waiting) = {
            let mut state = self.lock();
            state.writable()?;
            let decided = panic::catch_unwind(AssertUnwindSafe(|| decide(&mut state)));
            let answer = decided.map_err(|payload| {
                let reason: Arc<str> = format!("a decision panicked: {}", handle::panic_text(&*payload)).into();
                state.abandon_decision(&reason);
                Unavailable { reason }
            })?;
            (answer, state.submit())
        };
        if let Some(waiting) = waiting {
            self.settled(waiting).await?;
        }
        Ok(answer)
    }

    async fn settled(&self, waiting: oneshot::Receiver<Result<(), Unavailable>>) -> Result<(), Unavailable> {
        waiting.await.unwrap_or_else(|_| Err(self.closed()))
    }

    fn closed(&self) -> Unavailable {
        Unavailable { reason: "it is closed".into() }
    }

    /// The parts that owe Spaces something.
    pub fn outbox_parts(&self) -> Vec<PartKey> {
        self.lock().parts_where(|entry| entry.staged().is_some())
    }

    /// The mark of a part that no read answers for yet.
    pub fn unclaimed_mark(&self, part: impl Into<PartKey>) -> Option<Mark> {
        self.lock().entry(&part.into(), |e| e.due().filter(|_| e.wants_reader()).cloned()).flatten()
    }

    /// The mark of a part, whether or not a read answers for it.
    pub fn due_mark(&self, part: impl Into<PartKey>) -> Option<Mark> {
        self.lock().entry(&part.into(), |e| e.due().cloned()).flatten()
    }

    /// What the store publishes when a decision is durable.
    pub fn feed(&self) -> &Feed {
        &self.inner.feed
    }

    /// Whether the store can be written to, now and from now on.
    pub fn condition(&self) -> watch::Receiver<Condition> {
        self.inner.condition.subscribe()
    }

    /// The keys in force.
    pub fn keyring(&self) -> Arc<Keyring> {
        self.inner.keyring()
    }

    /// What had to be mended since the process started, in words.
    pub fn mended(&self) -> Option<String> {
        self.inner.mended.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Bytes that the store takes on disk; 0 while it is being opened again.
    pub fn size_on_disk(&self) -> u64 {
        self.read(|engine| Ok(engine.size_on_disk())).unwrap_or(0)
    }

    /// The folder it lies in.
    pub fn dir(&self) -> &Path {
        &self.inner.dir
    }

    /// Reads from the trees; the engine is gone while the store is being opened again. A read that the disk refuses is
    /// an error, never an absence. After any fault the store is opened again.
    fn read<T>(&self, look: impl FnOnce(&Engine) -> Result<T, handle::Fault>) -> Result<T, Unavailable> {
        let engine = self.inner.engine.read().unwrap_or_else(PoisonError::into_inner);
        let Some(engine) = engine.as_ref() else { return Err(Unavailable { reason: "it is being reopened".into() }) };
        handle::guarded(|| look(engine)).map_err(|fault| {
            self.lock().suspect();
            Unavailable { reason: format!("it cannot be read ({fault}), it is being reopened").into() }
        })
    }
}

#[cfg(test)]
mod tests;
