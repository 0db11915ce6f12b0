//! The open connections of a listener: how many there are, what each is doing, and which one is closed to make room.

use std::collections::HashMap;
use std::future::Future;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What a connection is doing; it decides which connection is closed to make room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Doing {
    Idle = 0,
    ReadingBody = 1,
    ReadingAnswer = 2,
    Answering = 3,
}

/// A connection as the handler of its request sees it. The handler reports here what the connection is doing.
#[derive(Clone)]
pub struct Conn {
    doing: Arc<AtomicU8>,
    since: Arc<AtomicU64>,
    clock: Arc<AtomicU64>,
    peer: Option<IpAddr>,
    requests: TaskTracker,
}

impl Conn {
    /// The address at the other end; `None` for a Unix socket.
    pub fn peer(&self) -> Option<IpAddr> {
        self.peer
    }

    /// Begins something for a request that goes on when the request is answered. A stop waits for it as for requests.
    pub fn spawn<T: Send + 'static>(&self, task: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
        self.requests.spawn(task)
    }

    fn set(&self, doing: Doing) {
        self.doing.store(doing as u8, Ordering::Relaxed);
        self.since.store(self.clock.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
    }

    /// No request is under way.
    pub(super) fn rests(&self) {
        self.set(Doing::Idle);
    }

    /// The body is being read: the client sets the pace.
    pub fn reads_body(&self) {
        self.set(Doing::ReadingBody);
    }

    /// The answer is being read: the client sets the pace.
    pub(super) fn is_read(&self) {
        self.set(Doing::ReadingAnswer);
    }

    /// The body is here: the daemon sets the pace, and the connection is not closed for others.
    pub fn answers(&self) {
        self.set(Doing::Answering);
    }
}

struct Open {
    conn: Conn,
    cancel: CancellationToken,
}

/// The open connections of a listener.
#[derive(Default)]
pub(super) struct Connections {
    open: Mutex<HashMap<u64, Open>>,
    next: AtomicU64,
    clock: Arc<AtomicU64>,
    freed: Notify,
    requests: TaskTracker,
}

impl Connections {
    /// None is open yet. The requests on all of them run as tasks of `requests`.
    pub(super) fn new(requests: TaskTracker) -> Self {
        Connections { requests, ..Connections::default() }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many connections are open.
    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    /// Waits until a connection was closed.
    pub(super) async fn one_gone(&self) {
        self.freed.notified().await;
    }

    /// Waits until the last connection is closed.
    pub(super) async fn all_gone(&self) {
        loop {
            let freed = self.freed.notified();
            if self.len() == 0 {
                return;
            }
            freed.await;
        }
    }

    /// Registers a connection.
    pub(super) fn enter(self: &Arc<Self>, peer: Option<IpAddr>) -> Entered {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (doing, since, requests) = (Arc::default(), Arc::default(), self.requests.clone());
        let conn = Conn { doing, since, clock: self.clock.clone(), peer, requests };
        conn.rests();
        let cancel = CancellationToken::new();
        self.lock().insert(id, Open { conn: conn.clone(), cancel: cancel.clone() });
        Entered { connections: self.clone(), id, conn, cancel }
    }

    /// Closes the connection that waited longest for its client; `false` when all are being answered.
    pub(super) fn evict(&self) -> bool {
        let mut open = self.lock();
        let oldest = |doing: Doing| {
            let such = open.iter().filter(|(_, o)| o.conn.doing.load(Ordering::Relaxed) == doing as u8);
            such.min_by_key(|(_, o)| o.conn.since.load(Ordering::Relaxed)).map(|(id, _)| *id)
        };
        let by_need = [Doing::Idle, Doing::ReadingBody, Doing::ReadingAnswer];
        let Some(id) = by_need.into_iter().find_map(oldest) else { return false };
        if let Some(evicted) = open.remove(&id) {
            evicted.cancel.cancel();
        }
        true
    }

    /// Closes every connection, whatever it is doing.
    pub(super) fn cut(&self) {
        self.lock().values().for_each(|open| open.cancel.cancel());
    }
}

/// The registration of an open connection; it ends when this is dropped.
pub(super) struct Entered {
    connections: Arc<Connections>,
    id: u64,
    pub(super) conn: Conn,
    cancel: CancellationToken,
}

impl Entered {
    /// Waits until the connection is to be closed.
    pub(super) async fn closed(&self) {
        self.cancel.cancelled().await;
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.connections.lock().remove(&self.id);
        self.connections.freed.notify_one();
    }
}
