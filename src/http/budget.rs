//! Memory for request bodies, one budget for each kind of sender, so that no kind can hold the memory of another.
//!
//! *Public.* A signature covers the whole body, so a body takes memory before anything is known of its sender. Allocated
//! bytes are charged, never an announced length: a sender that holds memory has sent as many bytes. A body never waits
//! for memory that another body is still filling. When the budget is spent, the costliest body is cut. The cost is the
//! memory times the time that this memory takes to arrive at the present pace: a sender that stalls or drips is cut
//! first, and a large body before a small one. A delivery that arrives in one go costs its own size, so no larger body
//! can displace it. To displace 1 MiB with smaller ones, unsigned senders must send the whole budget within a few
//! hundred milliseconds, over and over. The sender's address is no measure: behind a proxy all have the same one, and
//! an attacker has many.
//!
//! *Operator.* A client of the admin socket is trusted, and an import may be as large as its budget. An import reserves
//! once, before its body is read: the length that it announces, or the most that it may have when it announces none. So
//! two imports come one after the other, and neither holds a part while it waits for the rest. Imports have a budget of
//! their own, so that one that stalls delays no other request of an operator.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

/// Bytes for large public bodies together.
const PUBLIC: usize = 64 << 20;
/// Bytes for imports together: one of the largest.
const IMPORTS: usize = 64 << 20;
/// Bytes for other requests of operators together.
const OPERATOR: usize = 8 << 20;
/// Semaphores count units of this many bytes.
const UNIT: usize = 16 << 10;
/// How long a request of an operator waits for those before it.
const TURN: Duration = Duration::from_secs(90);
/// The pace of a body halves in this time without a byte.
const HALF_LIFE: Duration = Duration::from_millis(500);

static SHARED: LazyLock<Arc<Pool>> = LazyLock::new(|| Arc::new(Pool::new(PUBLIC)));
static IMPORT_UNITS: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(IMPORTS / UNIT)));
static OPERATOR_UNITS: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(OPERATOR / UNIT)));

/// Whose memory a body takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Budget {
    /// That of the public listener.
    Public,
    /// That of imports.
    Import,
    /// That of an operator's other requests.
    Operator,
}

/// There is no memory for this body at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Crowded;

impl Budget {
    /// The charge of a body of at most `most` bytes, before it is read.
    pub(super) async fn enter(self, most: usize) -> Result<Charge, Crowded> {
        let units = match self {
            Budget::Public => return Ok(Charge::Shared(Share::new(SHARED.clone()))),
            Budget::Import => &IMPORT_UNITS,
            Budget::Operator => &OPERATOR_UNITS,
        };
        let wanted = u32::try_from(most.div_ceil(UNIT)).map_err(|_| Crowded)?;
        let permit = tokio::time::timeout(TURN, Arc::clone(units).acquire_many_owned(wanted)).await;
        // The semaphores are never closed.
        permit.map_err(|_| Crowded)?.map(Charge::Reserved).map_err(|_| Crowded)
    }
}

/// A body's part of its budget; given back when dropped.
pub(super) enum Charge {
    /// None: the body is small.
    Free,
    /// All it may need, reserved at once.
    #[expect(dead_code, reason = "held for its drop")]
    Reserved(OwnedSemaphorePermit),
    /// The bytes that it has allocated so far.
    Shared(Share),
}

impl Charge {
    /// `bytes` more arrived.
    pub(super) fn received(&mut self, bytes: usize) {
        if let Charge::Shared(share) = self {
            share.received(bytes, Instant::now());
        }
    }

    /// The body is about to allocate `total` bytes beyond those that every body may have.
    pub(super) async fn grow(&mut self, total: usize) -> Result<(), Crowded> {
        match self {
            Charge::Free | Charge::Reserved(_) => Ok(()),
            Charge::Shared(share) => share.grow(total).await,
        }
    }

    /// Waits until the body is cut for others.
    pub(super) async fn cut(&self) {
        match self {
            Charge::Free | Charge::Reserved(_) => std::future::pending().await,
            Charge::Shared(share) => share.cut.cancelled().await,
        }
    }

    /// The body is whole and is cut no more.
    pub(super) fn complete(&mut self) -> Result<(), Crowded> {
        match self {
            Charge::Free | Charge::Reserved(_) => Ok(()),
            Charge::Shared(share) => share.complete(),
        }
    }
}

/// Bytes that came lately; older ones count for less.
#[derive(Debug, Clone, Copy)]
struct Pace {
    bytes: f64,
    at: Instant,
}

impl Pace {
    fn half_lives(self, now: Instant) -> f64 {
        now.saturating_duration_since(self.at).as_secs_f64() / HALF_LIFE.as_secs_f64()
    }

    fn add(&mut self, bytes: usize, now: Instant) {
        *self = Pace { bytes: self.bytes * (-self.half_lives(now)).exp2() + bytes as f64, at: now };
    }

    /// The logarithm, which tells a long silence from a longer one where the number itself would be zero for both.
    fn log2(self, now: Instant) -> f64 {
        self.bytes.max(1.0).log2() - self.half_lives(now)
    }
}

/// A body that is being read and has a charge.
struct Reading {
    charged: usize,
    pace: Pace,
    cut: CancellationToken,
}

impl Reading {
    /// Memory times the time that it takes to arrive, as a logarithm, when `charged` bytes are held.
    fn cost(&self, charged: usize, now: Instant) -> f64 {
        2.0 * (charged.max(1) as f64).log2() - self.pace.log2(now)
    }
}

#[derive(Default)]
struct Books {
    used: usize,
    reading: HashMap<u64, Reading>,
    next: u64,
}

impl Books {
    /// The costliest body, once body `id` holds `total` bytes.
    fn costliest(&self, id: u64, total: usize, now: Instant) -> Option<u64> {
        let costs = self.reading.iter().map(|(other, reading)| {
            let charged = if *other == id { total } else { reading.charged };
            (*other, reading.cost(charged, now))
        });
        costs.max_by(|a, b| a.1.total_cmp(&b.1)).map(|(id, _)| id)
    }

    fn cut(&mut self, id: u64) {
        if let Some(reading) = self.reading.remove(&id) {
            self.used -= reading.charged;
            reading.cut.cancel();
        }
    }
}

/// The outcome of a wish for memory.
enum Outcome {
    Granted,
    /// Bodies that are whole hold it; they will be through in a moment.
    Wait,
    Cut,
}

struct Pool {
    capacity: usize,
    books: Mutex<Books>,
    freed: Notify,
}

impl Pool {
    fn new(capacity: usize) -> Pool {
        Pool { capacity, books: Mutex::default(), freed: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Raises the charge of body `id` to `total`, and cuts others for it, or itself.
    fn charge(&self, id: u64, total: usize, now: Instant) -> Outcome {
        let mut books = self.lock();
        loop {
            let Some(charged) = books.reading.get(&id).map(|reading| reading.charged) else { return Outcome::Cut };
            let more = total.saturating_sub(charged);
            if books.used + more <= self.capacity {
                books.used += more;
                if let Some(reading) = books.reading.get_mut(&id) {
                    reading.charged += more;
                }
                return Outcome::Granted;
            }
            if books.reading.len() == 1 {
                return Outcome::Wait;
            }
            if let Some(costliest) = books.costliest(id, total, now) {
                books.cut(costliest);
            }
        }
    }
}

/// The charge of a public body.
pub(super) struct Share {
    pool: Arc<Pool>,
    id: u64,
    pace: Pace,
    cut: CancellationToken,
    /// Charged still when the body is whole.
    kept: usize,
}

impl Share {
    fn new(pool: Arc<Pool>) -> Share {
        let id = {
            let mut books = pool.lock();
            books.next += 1;
            books.next
        };
        let pace = Pace { bytes: 0.0, at: Instant::now() };
        Share { pool, id, pace, cut: CancellationToken::new(), kept: 0 }
    }

    fn received(&mut self, bytes: usize, now: Instant) {
        self.pace.add(bytes, now);
        if let Some(reading) = self.pool.lock().reading.get_mut(&self.id) {
            reading.pace = self.pace;
        }
    }

    async fn grow(&mut self, total: usize) -> Result<(), Crowded> {
        if self.cut.is_cancelled() {
            return Err(Crowded);
        }
        let (pace, cut) = (self.pace, self.cut.clone());
        self.pool.lock().reading.entry(self.id).or_insert(Reading { charged: 0, pace, cut });
        loop {
            // Enlisted before the look, so that no release falls between the two.
            let mut freed = std::pin::pin!(self.pool.freed.notified());
            freed.as_mut().enable();
            match self.pool.charge(self.id, total, Instant::now()) {
                Outcome::Granted => return Ok(()),
                Outcome::Cut => return Err(Crowded),
                Outcome::Wait => tokio::select! { () = freed => {}, () = self.cut.cancelled() => {} },
            }
        }
    }

    fn complete(&mut self) -> Result<(), Crowded> {
        let reading = self.pool.lock().reading.remove(&self.id);
        self.kept = reading.map_or(0, |reading| reading.charged);
        // A body that was cut at its last byte has given its memory to another.
        if self.cut.is_cancelled() { Err(Crowded) } else { Ok(()) }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut books = self.pool.lock();
        let charged = books.reading.remove(&self.id).map_or(self.kept, |reading| reading.charged);
        books.used -= charged;
        drop(books);
        self.pool.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests;
