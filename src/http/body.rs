//! Reading a request's body: at most so many bytes, in at most so much time, before anything is done with it.
//!
//! A small body is always taken. What goes beyond that is charged to one budget for the whole process, so that a crowd
//! of large bodies, each within its own limit, cannot fill the memory: those over the budget wait, and time out.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::server::Conn;

/// A body up to this size is not charged.
const FREE_BYTES: usize = 64 << 10;
const UNIT: usize = 16 << 10;
/// 64 MiB for all large bodies together.
const UNITS: usize = (64 << 20) / UNIT;

static BUDGET: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(UNITS)));

/// Why there is no body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoBody {
    /// Longer than allowed, by its own account or in fact.
    TooLarge,
    /// Not complete in time.
    TooSlow,
    /// The client broke off, or framed it wrongly.
    Broken,
}

/// A body, and its share of the budget for as long as it is kept.
pub struct Whole {
    /// The bytes as they came.
    pub bytes: Bytes,
    _charged: Vec<OwnedSemaphorePermit>,
}

/// Reads the whole body.
///
/// # Errors
/// [`NoBody`].
pub async fn read(body: Incoming, max_bytes: usize, within: Duration, conn: &Conn) -> Result<Whole, NoBody> {
    // What says that it is too large is not waited for.
    if body.size_hint().lower() > max_bytes as u64 {
        return Err(NoBody::TooLarge);
    }
    conn.reads_body();
    let read = tokio::time::timeout(within, gather(body, max_bytes)).await;
    conn.answers();
    read.unwrap_or(Err(NoBody::TooSlow))
}

async fn gather(mut body: Incoming, max_bytes: usize) -> Result<Whole, NoBody> {
    let mut bytes = BytesMut::new();
    let mut charged = Vec::new();
    let mut paid = FREE_BYTES;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| NoBody::Broken)?.into_data() else { continue };
        if bytes.len() + data.len() > max_bytes {
            return Err(NoBody::TooLarge);
        }
        while bytes.len() + data.len() > paid {
            // The budget is never closed.
            charged.push(BUDGET.clone().acquire_owned().await.map_err(|_| NoBody::Broken)?);
            paid += UNIT;
        }
        bytes.extend_from_slice(&data);
    }
    Ok(Whole { bytes: bytes.freeze(), _charged: charged })
}
