//! The load generator: prepared HTTP/1.1 requests over keep-alive connections, one blocking thread a connection.
//!
//! A closed loop sends the next request of a connection when the answer to the previous one has arrived: it measures
//! throughput. An open loop sends request number n at its scheduled time, n divided by the pace, whatever the server
//! does. Its latency counts from the scheduled time. A server that stalls therefore pays for every request that was due
//! during the stall, also for those that could not be sent because all connections waited (no coordinated omission).
//!
//! Threads and plain sockets cost less CPU than an HTTP client library, and a thread sleeps more precisely than the
//! timer of an async runtime, whose grain is a millisecond.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

/// From the last open connection to the first request.
const LEAD: Duration = Duration::from_millis(20);
/// An answer that takes longer is a broken connection.
const PATIENCE: Duration = Duration::from_secs(30);
/// The longest latency that the histogram holds, in microseconds.
pub const LONGEST: u64 = 60_000_000;

/// Where the load goes.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    pub address: SocketAddr,
    pub connections: usize,
    /// The status that every answer should have.
    pub expected: u16,
}

/// When requests are sent.
#[derive(Debug, Clone, Copy)]
pub enum Plan {
    /// Closed loop: the requests again and again for this long.
    For(Duration),
    /// Closed loop: each request once.
    Each,
    /// Open loop: each request once, so many a second.
    Paced(u32),
}

/// The answers to a load.
#[derive(Debug)]
pub struct Outcome {
    /// Answers with the expected status.
    pub answered: u64,
    /// Answers with another status, and broken connections.
    pub unexpected: u64,
    /// From the first request to the last answer.
    pub took: Duration,
    /// Of all answers, in microseconds.
    pub latencies: Histogram<u64>,
}

impl Outcome {
    fn new() -> Outcome {
        Outcome { answered: 0, unexpected: 0, took: Duration::ZERO, latencies: histogram() }
    }

    fn add(&mut self, part: &Outcome) {
        self.answered += part.answered;
        self.unexpected += part.unexpected;
        self.took = self.took.max(part.took);
        self.latencies.add(&part.latencies).expect("both histograms have the same bounds");
    }
}

/// An empty histogram of latencies in microseconds.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST, 3).expect("the bounds are valid")
}

/// Sends the load and waits for the last answer.
///
/// # Errors
/// A connection that cannot be opened.
pub fn run(target: Target, requests: &[Vec<u8>], plan: Plan) -> io::Result<Outcome> {
    let open = |_| Connection::open(target.address);
    let connections = (0..target.connections).map(open).collect::<io::Result<Vec<_>>>()?;
    let schedule = Schedule { plan, count: requests.len(), began: Instant::now() + LEAD, next: AtomicUsize::new(0) };
    let mut whole = Outcome::new();
    thread::scope(|scope| {
        let work = |connection| scope.spawn(|| work(connection, target, requests, &schedule));
        let workers: Vec<_> = connections.into_iter().map(work).collect();
        for worker in workers {
            whole.add(&worker.join().expect("a connection's thread panicked")?);
        }
        Ok(whole)
    })
}

fn work(mut connection: Connection, target: Target, requests: &[Vec<u8>], schedule: &Schedule) -> io::Result<Outcome> {
    let mut outcome = Outcome::new();
    sleep_until(schedule.began);
    while let Some((number, since)) = schedule.next() {
        match connection.exchange(&requests[number]) {
            Ok(status) => {
                let latency = since.elapsed().as_micros() as u64;
                outcome.latencies.saturating_record(latency.max(1));
                outcome.answered += u64::from(status == target.expected);
                outcome.unexpected += u64::from(status != target.expected);
            }
            Err(_) => {
                outcome.unexpected += 1;
                connection = Connection::open(target.address)?;
            }
        }
    }
    outcome.took = schedule.began.elapsed();
    Ok(outcome)
}

/// The order and the times of the requests, shared by all connections.
struct Schedule {
    plan: Plan,
    /// Of the prepared requests.
    count: usize,
    began: Instant,
    next: AtomicUsize,
}

impl Schedule {
    /// The number of the next request and the moment from which its latency counts; waits for that moment. `None` at
    /// the end of the load.
    fn next(&self) -> Option<(usize, Instant)> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        match self.plan {
            Plan::For(time) => (self.began.elapsed() < time).then(|| (turn % self.count, Instant::now())),
            Plan::Each => (turn < self.count).then(|| (turn, Instant::now())),
            Plan::Paced(per_second) => {
                let due = self.began + Duration::from_secs_f64(turn as f64 / f64::from(per_second));
                (turn < self.count).then(|| {
                    sleep_until(due);
                    (turn, due)
                })
            }
        }
    }
}

fn sleep_until(moment: Instant) {
    let left = moment.saturating_duration_since(Instant::now());
    if !left.is_zero() {
        thread::sleep(left);
    }
}

/// A keep-alive connection.
pub struct Connection {
    stream: TcpStream,
    answer: Vec<u8>,
}

impl Connection {
    pub fn open(address: SocketAddr) -> io::Result<Connection> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Connection { stream, answer: Vec::new() })
    }

    /// Sends a request and reads its whole answer; the status.
    pub fn exchange(&mut self, request: &[u8]) -> io::Result<u16> {
        self.stream.write_all(request)?;
        self.answer.clear();
        let mut piece = [0; 4096];
        loop {
            let read = self.stream.read(&mut piece)?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.answer.extend_from_slice(&piece[..read]);
            if let Some((status, length)) = head(&self.answer)
                && self.answer.len() >= length
            {
                return Ok(status);
            }
        }
    }
}

/// Status and length of an answer, body included, when all of its headers are there.
pub fn head(answer: &[u8]) -> Option<(u16, usize)> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&answer[..end]).ok()?;
    let mut lines = text.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let length = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    Some((status, end + length.unwrap_or(0)))
}
