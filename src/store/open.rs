//! Opening and closing a store, and looking at it as a whole.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::{oneshot, watch};

use super::api::Condition;
use super::clock::Clock;
use super::committer;
use super::engine::Engine;
use super::feed::Feed;
use super::folder;
use super::inner::{Blocking, Inner, Parts, Store};
use super::leases::Leases;
use super::mark_log::MarkLog;
use super::mark_writer;
use super::move_note::{Note, Stage};
use super::open_error::OpenError;
use super::order::{MarkOrder, Order, Orders};
use super::rebuild;
use super::seal::Keyring;
use super::whole::{self, Whole};

/// Is the store of a folder there, as far as moves go?
fn is_here(dir: &Path) -> Result<(), OpenError> {
    let note = Note::read(dir).map_err(|source| OpenError::Io { path: dir.to_owned(), source })?;
    let path = dir.to_owned();
    match note {
        Some(Note { stage: Stage::Left, other, .. }) => Err(OpenError::Moved { path, to: other }),
        Some(Note { stage: Stage::Coming, .. }) => Err(OpenError::HalfMoved { path }),
        Some(Note { stage: Stage::Here, .. }) | None => Ok(()),
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
        let (keyring, clock, feed) = (Arc::new(keyring), Clock::Process, Feed::default());
        folder::prepare(dir)?;
        let lock = folder::lock(dir)?;
        is_here(dir)?;
        let Whole { opened, state, mark_log, .. } = whole::open(dir, &keyring, &clock)?;
        let rebuild::Opened { engine, backup_log, high_water_mark, batch, mended, .. } = opened;
        let (orders, queues) = Orders::new(feed.clone());
        let parts = Parts {
            dir: dir.to_owned(),
            state,
            orders,
            engine,
            mark_log: Some(mark_log),
            keyring,
            feed,
            leases: Leases::all(),
            mended,
            clock,
            blocking: Blocking::OnThreads,
        };
        let inner = Arc::new(Inner::new(parts));
        let files = committer::Files { backup_log, high_water_mark, batch, _lock: lock };
        let io = |source| OpenError::Io { path: dir.to_owned(), source };
        let mark_thread = mark_writer::spawn(inner.clone(), queues.marks).map_err(io)?;
        *inner.mark_thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(mark_thread);
        let thread = committer::spawn(inner.clone(), files, queues.database).map_err(io)?;
        *inner.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
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

    /// Do the two threads that write take orders from their queues within this time? They do so while the disk refuses,
    /// too. A thread that hangs or is gone does not.
    pub async fn has_pulse(&self, within: Duration) -> bool {
        let ((database, of_database), (marks, of_marks)) = (oneshot::channel(), oneshot::channel());
        let has_mark_writer = {
            let orders = &self.lock().orders;
            orders.send(Order::Pulse(database));
            orders.send_to_marks(MarkOrder::Pulse(marks));
            orders.has_mark_writer()
        };
        let both = async { of_database.await.is_ok() && (!has_mark_writer || of_marks.await.is_ok()) };
        tokio::time::timeout(within, both).await.unwrap_or(false)
    }

    /// Has an observer hear how long each transaction and each batch of marks took to become durable.
    pub fn observe_commits(&self, observer: impl Fn(Duration) + Send + Sync + 'static) {
        self.inner.commits.observe(Box::new(observer));
    }

    /// What the disk of the folder has left for this user; `None` where there is no folder, or it cannot be asked. It
    /// asks the disk, which may take time.
    pub fn free_bytes(&self) -> Option<u64> {
        if self.inner.is_shared() || self.inner.dir.as_os_str().is_empty() {
            return None;
        }
        // One caller at a time: a disk that hangs is to hold one thread.
        if self.inner.asks_disk.swap(true, Ordering::Relaxed) {
            return None;
        }
        let found = rustix::fs::statvfs(&self.inner.dir);
        self.inner.asks_disk.store(false, Ordering::Relaxed);
        found.ok().map(|found| found.f_bavail.saturating_mul(found.f_frsize))
    }

    /// Says why once the store cannot go on in this process: it must end then, and be started again.
    pub fn given_up(&self) -> watch::Receiver<Option<Arc<str>>> {
        self.inner.given_up.subscribe()
    }

    /// Lets the thread that writes next panic over its commit.
    #[cfg(any(test, feature = "sandbox"))]
    pub fn drill(&self) {
        self.inner.drills.fetch_add(1, Ordering::Relaxed);
    }

    /// Lets the threads that write hang.
    #[cfg(any(test, feature = "sandbox"))]
    pub fn hang(&self) {
        self.inner.hangs.store(true, Ordering::Relaxed);
    }

    /// What the store publishes when a decision is durable.
    pub fn feed(&self) -> &Feed {
        &self.inner.feed
    }

    /// Which links are worked on in this process.
    pub fn leases(&self) -> &Leases {
        &self.inner.leases
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

    /// Bytes that the store takes on disk; 0 while it is being opened again. While its files are replaced, the bytes
    /// that were seen last.
    pub fn size_on_disk(&self) -> u64 {
        let bytes = &self.inner.bytes;
        if self.inner.is_shared() {
            // Its committer asks now and then.
            return bytes.load(Ordering::Relaxed);
        }
        if let Ok(engine) = self.inner.engine.try_read() {
            let log = self.inner.mark_log.try_lock().ok().and_then(|log| log.as_ref().map(MarkLog::size_on_disk));
            let database = engine.as_ref().map(Engine::size_on_disk);
            match (database, log) {
                (Some(database), Some(log)) => bytes.store(database + log, Ordering::Relaxed),
                // The log is being written to.
                (Some(_), None) => {}
                (None, _) => bytes.store(0, Ordering::Relaxed),
            }
        }
        bytes.load(Ordering::Relaxed)
    }
}
