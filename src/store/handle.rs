//! An open sled, behind a guard: the only module that opens, flushes and drops one.
//!
//! sled answers some I/O errors with a panic, its destructor among them, and forgets to wake a flush when the write
//! that it waits for fails on another thread. So every call goes through [`guarded`], which turns panics into a
//! [`Fault`]; a watching thread wakes flushes that nothing else wakes; and closing happens on a thread of its own,
//! where a panic cannot meet another one that is already unwinding, which would end the process.
//!
//! No part of sled is of use after an error: the handle is dropped, the disk is checked, and the database is opened
//! anew.

use std::any::Any;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Items are cut far below a quarter of this, above which sled puts a node into a file that it never fsyncs.
const SEGMENT: usize = 2 << 20;
/// sled counts the bytes of records. What it holds of them in memory is three to four times as much.
const CACHE_BYTES: u64 = 16 << 20;
/// How long a flush may wait for a write that has failed.
const WAKE_EVERY: Duration = Duration::from_millis(500);
/// How long sled may take to close. A handle that is still open then keeps its lock until the process ends.
const CLOSE: Duration = Duration::from_secs(20);

/// The reason why a call to sled failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// The operating system refused a read or a write; it may do it the next time.
    Disk(String),
    /// sled reports that its files do not hold the bytes that it wrote. An I/O error may still be the cause.
    Suspect(String),
    /// Another handle has the files locked.
    Locked,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Fault::Disk(detail) | Fault::Suspect(detail) => f.write_str(detail),
            Fault::Locked => f.write_str("the database is locked by another handle"),
        }
    }
}

impl From<std::io::Error> for Fault {
    fn from(error: std::io::Error) -> Self {
        Fault::Disk(error.to_string())
    }
}

impl From<sled::Error> for Fault {
    fn from(error: sled::Error) -> Self {
        use std::io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
        match &error {
            sled::Error::Io(e) if e.to_string().contains("could not acquire lock") => Fault::Locked,
            // sled's own errors about bytes that it read. An error of the operating system has a number, or, where sled
            // has copied it, the text of one.
            sled::Error::Io(e)
                if matches!(e.kind(), UnexpectedEof | InvalidData | InvalidInput) && !is_of_system(e) =>
            {
                Fault::Suspect(e.to_string())
            }
            sled::Error::Io(e) => Fault::Disk(e.to_string()),
            _ => Fault::Suspect(error.to_string()),
        }
    }
}

fn is_of_system(error: &std::io::Error) -> bool {
    error.raw_os_error().is_some() || names_system_error(&error.to_string())
}

/// Does a text show an error of the operating system, as `unwrap` prints it?
fn names_system_error(text: &str) -> bool {
    text.contains("Os { code: ")
}

/// Carries out a call to sled; a panic of sled becomes a fault. Its words may show records, so that they stay with the
/// panic hook.
pub(super) fn guarded<T, E: Into<Fault>>(call: impl FnOnce() -> Result<T, E>) -> Result<T, Fault> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => result.map_err(Into::into),
        Err(payload) if names_system_error(panic_text(&*payload)) => {
            Err(Fault::Disk("sled panicked over an I/O error".into()))
        }
        Err(_) => Err(Fault::Suspect("sled panicked".into())),
    }
}

/// The text of a panic.
pub(super) fn panic_text(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or_default()
}

/// An open database, its trees and the file that must be fsynced.
pub(super) struct Handle {
    open: Option<Open>,
}

/// Dropped in this order.
struct Open {
    watch: Watch,
    trees: Vec<sled::Tree>,
    db: sled::Db,
    log: File,
}

impl Handle {
    /// Opens the database in `path` with these trees, or makes it.
    pub(super) fn open(path: &Path, names: &[&str]) -> Result<Self, Fault> {
        let config = sled::Config::new().path(path).cache_capacity(CACHE_BYTES).segment_size(SEGMENT);
        let db = guarded(|| config.open())?;
        let mut handle = Handle::new(db, path)?;
        handle.open_trees(names)?;
        handle.flush()?;
        Ok(handle)
    }

    /// The database is dropped behind the guard from here on, also when the next step fails.
    fn new(db: sled::Db, path: &Path) -> Result<Self, Fault> {
        let opened = File::open(path.join("db")).and_then(|log| Ok((log, Watch::start(db.clone())?)));
        match opened {
            Ok((log, watch)) => Ok(Handle { open: Some(Open { watch, trees: Vec::new(), db, log }) }),
            Err(error) => {
                close(db);
                Err(error.into())
            }
        }
    }

    fn open_trees(&mut self, names: &[&str]) -> Result<(), Fault> {
        let Some(open) = &mut self.open else { return Err(closed()) };
        let db = open.db.clone();
        open.trees = guarded(|| names.iter().map(|name| db.open_tree(name)).collect::<sled::Result<_>>())?;
        Ok(())
    }

    /// The trees, in the order of their names.
    pub(super) fn trees(&self) -> &[sled::Tree] {
        self.open.as_ref().map_or(&[], |open| &open.trees)
    }

    /// Returns when everything that was written would survive a power cut.
    pub(super) fn flush(&self) -> Result<(), Fault> {
        let Some(open) = &self.open else { return Err(closed()) };
        guarded(|| open.db.flush())?;
        Ok(open.log.sync_all()?)
    }

    /// Bytes on disk.
    pub(super) fn size_on_disk(&self) -> u64 {
        // sled would look for its folder under the name that it was opened with.
        self.open.as_ref().and_then(|open| open.log.metadata().ok()).map_or(0, |found| found.len())
    }

    /// Closes it; `false` when sled could not write everything out, or does not end.
    pub(super) fn close(mut self) -> bool {
        self.let_go()
    }

    fn let_go(&mut self) -> bool {
        let Some(Open { watch, trees, db, log }) = self.open.take() else { return true };
        // While the flush is watched: afterwards there is nothing left to write that could be waited for.
        let flushed = guarded(|| db.flush()).is_ok();
        watch.end();
        close((trees, db, log)) && flushed
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.let_go();
    }
}

fn closed() -> Fault {
    Fault::Disk("it is closed".into())
}

/// Drops the parts of a database on a thread of their own, and waits for that thread.
fn close<T: Send + 'static>(parts: T) -> bool {
    let (done, ended) = mpsc::channel::<()>();
    let dropping = move || {
        drop(parts);
        // The waiting thread may have given up.
        let _ = done.send(());
    };
    // Where no thread can be had, the closure is dropped right here, and a panic with it is caught.
    let spawned = catch_unwind(AssertUnwindSafe(|| thread::Builder::new().name("store-close".into()).spawn(dropping)));
    match ended.recv_timeout(CLOSE) {
        Ok(()) => true,
        Err(RecvTimeoutError::Disconnected) => matches!(spawned, Ok(Err(_))),
        Err(RecvTimeoutError::Timeout) => {
            tracing::error!("store: sled does not close; its lock is held until the process ends");
            false
        }
    }
}

/// A thread that wakes waiting flushes after an error in sled. Its own flush never waits: sled looks for the error
/// first.
struct Watch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Watch {
    fn start(db: sled::Db) -> std::io::Result<Watch> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let watch = move || {
            while !stopped.load(Ordering::Acquire) {
                thread::park_timeout(WAKE_EVERY);
                if db.context.global_error().is_err() {
                    // The waiting flushes return the error.
                    let _ = guarded(|| db.flush());
                }
            }
        };
        let thread = thread::Builder::new().name("store-watch".into()).spawn(watch)?;
        Ok(Watch { stop, thread })
    }

    fn end(self) {
        self.stop.store(true, Ordering::Release);
        self.thread.thread().unpark();
        // One that panicked has ended too.
        let _ = self.thread.join();
    }
}
