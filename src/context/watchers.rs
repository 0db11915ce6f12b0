//! The load that watchers of the status page may be to the daemon: how many streams are open, how many searches through
//! all links run at a time, and the state of the daemon that all streams share.

use std::sync::Arc;

use serde_json::Value;
use tokio::sync::{Mutex, Semaphore};

use crate::core::model::MonoTime;

/// Streams of events that are open at a time.
pub const STREAMS: usize = 16;
/// Searches through all links at a time. Each of them keeps a thread busy in slices; others wait for their turn.
const SEARCHES: usize = 2;

/// A state of the daemon, as the streams send it.
#[derive(Debug, Clone)]
pub struct Sample {
    /// When it was taken.
    pub at: MonoTime,
    /// Differs from that of the sample before when the state does.
    pub number: u64,
    /// The document.
    pub text: Arc<str>,
    /// The document without what changes by itself.
    pub compared: Arc<Value>,
}

/// What watchers share.
#[derive(Debug)]
pub struct Watchers {
    /// A permit for each stream.
    pub streams: Arc<Semaphore>,
    /// A permit for each search.
    pub searches: Semaphore,
    /// The last sample.
    pub sample: Mutex<Option<Sample>>,
}

impl Default for Watchers {
    fn default() -> Self {
        Watchers {
            streams: Arc::new(Semaphore::new(STREAMS)),
            searches: Semaphore::new(SEARCHES),
            sample: Mutex::default(),
        }
    }
}
