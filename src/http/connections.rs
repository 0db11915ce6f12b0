//! The open connections of a listener: how many there are, what each is doing, and which one is closed to make room.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Poll;

use futures_util::task::AtomicWaker;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::core::certificate::CertificateFacts;

/// What a connection is doing; it decides which connection is closed to make room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Doing {
    Idle = 0,
    ReadingBody = 1,
    ReadingAnswer = 2,
    Answering = 3,
}

/// What the listener wants of a connection. A later one stands for those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum Signal {
    /// The listener stops: the next answer is the last.
    Stop = 1,
    /// Close now.
    Close = 2,
}

/// A connection as the handler of its request sees it. The handler reports here what the connection is doing. A clone
/// costs one reference count, since each request has one.
#[derive(Clone)]
pub struct Conn(Arc<Shared>);

struct Shared {
    doing: AtomicU8,
    since: AtomicU64,
    clock: Arc<AtomicU64>,
    peer: Option<IpAddr>,
    /// Set behind the handshake.
    client: OnceLock<CertificateFacts>,
    requests: TaskTracker,
    /// The strongest [`Signal`]; 0 for none.
    signal: AtomicU8,
    /// The connection's task.
    task: AtomicWaker,
}

impl Conn {
    /// The address at the other end; `None` for a Unix socket.
    pub fn peer(&self) -> Option<IpAddr> {
        self.0.peer
    }

    /// The certificate that the client showed, verified.
    pub fn client(&self) -> Option<&CertificateFacts> {
        self.0.client.get()
    }

    pub(super) fn set_client(&self, client: CertificateFacts) {
        // A connection has one handshake.
        let _ = self.0.client.set(client);
    }

    /// Begins something for a request that goes on when the request is answered. A stop waits for it as for requests.
    pub fn spawn<T: Send + 'static>(&self, task: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
        self.0.requests.spawn(task)
    }

    /// While this is held, a stop waits for the request.
    pub(super) fn track(&self) -> TaskTrackerToken {
        self.0.requests.token()
    }

    /// Was the connection given this signal, or a stronger one?
    pub(super) fn has(&self, signal: Signal) -> bool {
        self.0.signal.load(Ordering::Acquire) >= signal as u8
    }

    fn give(&self, signal: Signal) {
        self.0.signal.fetch_max(signal as u8, Ordering::AcqRel);
        self.0.task.wake();
    }

    /// Goes on with the connection's work until it ends, or, with `None`, until the connection has this signal. A look
    /// costs one load where nothing was signalled: it is taken whenever the connection is polled.
    pub(super) async fn until<F: Future>(&self, signal: Signal, mut work: Pin<&mut F>) -> Option<F::Output> {
        poll_fn(|cx| {
            // Enlisted before the look, so that no signal falls between the two.
            self.0.task.register(cx.waker());
            if self.has(signal) {
                return Poll::Ready(None);
            }
            work.as_mut().poll(cx).map(Some)
        })
        .await
    }

    /// Closes the connection now, whatever is being sent on it.
    pub fn close(&self) {
        self.give(Signal::Close);
    }

    fn set(&self, doing: Doing) {
        self.0.doing.store(doing as u8, Ordering::Relaxed);
        self.0.since.store(self.0.clock.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
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

/// The open connections of a listener.
#[derive(Default)]
pub(super) struct Connections {
    open: Mutex<HashMap<u64, Conn>>,
    next: AtomicU64,
    clock: Arc<AtomicU64>,
    freed: Notify,
    requests: TaskTracker,
}

impl Connections {
    /// None is open yet. Requests that have to wait are tracked by `requests`.
    pub(super) fn new(requests: TaskTracker) -> Self {
        Connections { requests, ..Connections::default() }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Conn>> {
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
        let conn = Conn(Arc::new(Shared {
            doing: AtomicU8::new(Doing::Idle as u8),
            since: AtomicU64::default(),
            clock: self.clock.clone(),
            peer,
            client: OnceLock::new(),
            requests: self.requests.clone(),
            signal: AtomicU8::default(),
            task: AtomicWaker::new(),
        }));
        conn.rests();
        self.lock().insert(id, conn.clone());
        Entered { connections: self.clone(), id, conn }
    }

    /// Closes the connection that waited longest for its client; `false` when all are being answered.
    pub(super) fn evict(&self) -> bool {
        let mut open = self.lock();
        let oldest = |doing: Doing| {
            let such = open.iter().filter(|(_, conn)| conn.0.doing.load(Ordering::Relaxed) == doing as u8);
            such.min_by_key(|(_, conn)| conn.0.since.load(Ordering::Relaxed)).map(|(id, _)| *id)
        };
        let by_need = [Doing::Idle, Doing::ReadingBody, Doing::ReadingAnswer];
        let Some(id) = by_need.into_iter().find_map(oldest) else { return false };
        if let Some(evicted) = open.remove(&id) {
            evicted.give(Signal::Close);
        }
        true
    }

    /// Gives every connection this signal, whatever it is doing.
    pub(super) fn give_all(&self, signal: Signal) {
        self.lock().values().for_each(|conn| conn.give(signal));
    }
}

/// The registration of an open connection; it ends when this is dropped.
pub(super) struct Entered {
    connections: Arc<Connections>,
    id: u64,
    pub(super) conn: Conn,
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.connections.lock().remove(&self.id);
        self.connections.freed.notify_one();
    }
}
