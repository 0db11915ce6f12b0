//! Reading a request's body: at most so many bytes, in at most so much time, before anything is done with it.
//!
//! A small body is always taken. A larger one is charged to a [`Budget`], so that a crowd of large bodies, each within
//! its own limit, cannot fill the memory. The buffer grows with the bytes that arrive and never by an announced length.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};

use super::budget::{Budget, Charge, Crowded};
use super::connections::Conn;

/// A body up to this size is not charged.
const FREE_BYTES: usize = 64 << 10;
/// The first allocation of a body that announces as much or more.
const FIRST_BYTES: usize = 8 << 10;
/// A client on this machine that sends nothing for so long has stalled.
const OPERATOR_SILENCE: Duration = Duration::from_secs(10);

/// Why there is no body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoBody {
    /// Longer than allowed, by its own account or in fact.
    TooLarge,
    /// Not complete in time.
    TooSlow,
    /// The client broke off, or framed it wrongly.
    Broken,
    /// There is no memory for it at the moment.
    Crowded,
}

impl From<Crowded> for NoBody {
    fn from(_: Crowded) -> NoBody {
        NoBody::Crowded
    }
}

/// A body, and its share of the budget. Drop it when the bytes are parsed.
pub struct Whole {
    /// The bytes as they came.
    pub bytes: Bytes,
    _charge: Charge,
}

/// Reads the whole body. The time `within` begins when its turn for memory has come.
///
/// # Errors
/// [`NoBody`].
pub async fn read(
    body: Incoming,
    max_bytes: usize,
    within: Duration,
    budget: Budget,
    conn: &Conn,
) -> Result<Whole, NoBody> {
    // A body that says itself that it is too large is refused before it is read.
    let announced = body.size_hint();
    if announced.lower() > max_bytes as u64 {
        return Err(NoBody::TooLarge);
    }
    let most = announced.exact().and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(max_bytes);
    conn.reads_body();
    let silence = if budget == Budget::Public { within } else { OPERATOR_SILENCE };
    let read = async {
        let charge = budget.enter(most).await?;
        let gathered = tokio::time::timeout(within, gather(body, most, silence, charge)).await;
        gathered.unwrap_or(Err(NoBody::TooSlow))
    };
    let read = read.await;
    conn.answers();
    read
}

async fn gather(mut body: Incoming, most: usize, silence: Duration, mut charge: Charge) -> Result<Whole, NoBody> {
    let mut bytes = Vec::with_capacity(most.min(FIRST_BYTES));
    loop {
        let frame = tokio::select! {
            frame = tokio::time::timeout(silence, body.frame()) => frame.map_err(|_| NoBody::TooSlow)?,
            () = charge.cut() => return Err(NoBody::Crowded),
        };
        let Some(frame) = frame else { break };
        let Ok(data) = frame.map_err(|_| NoBody::Broken)?.into_data() else { continue };
        let len = bytes.len() + data.len();
        if len > most {
            return Err(NoBody::TooLarge);
        }
        charge.received(data.len());
        if len > bytes.capacity() {
            let capacity = len.max(2 * bytes.capacity()).min(most);
            if capacity > FREE_BYTES {
                charge.grow(capacity - FREE_BYTES).await?;
            }
            bytes.reserve_exact(capacity - bytes.len());
        }
        bytes.extend_from_slice(&data);
    }
    charge.complete()?;
    Ok(Whole { bytes: Bytes::from(bytes), _charge: charge })
}
