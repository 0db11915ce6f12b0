//! Reading a request's body: at most so many bytes, in at most so much time, before anything is done with it.
//!
//! A small body is always taken. A larger one is charged to a [`Budget`], so that a crowd of large bodies, each within
//! its own limit, cannot fill the memory. The buffer grows with the bytes that arrive and never by an announced length.
//!
//! Most bodies are a few hundred bytes that arrive together with their head. Such a body is taken as it lies in hyper's
//! buffer: nothing is copied, no timer is armed, and the connection is not one that waits for its client. All of that
//! begins with the first wait.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming};

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
    mut body: Incoming,
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
    let is_small = budget == Budget::Public && most <= FREE_BYTES;
    let mut first = if is_small { at_hand(&mut body).await } else { None };
    if let Some(bytes) = first.take_if(|first| first.is_whole(&body, most)).and_then(Piece::data) {
        return Ok(Whole { bytes, _charge: Charge::Free });
    }
    conn.reads_body();
    let silence = if budget == Budget::Public { within } else { OPERATOR_SILENCE };
    let read = async {
        let charge = if is_small { Charge::Free } else { budget.enter(most).await? };
        let gathered = tokio::time::timeout(within, gather(body, first, most, silence, charge)).await;
        gathered.unwrap_or(Err(NoBody::TooSlow))
    };
    // Large, and not part of the requests that do not wait.
    let read = Box::pin(read).await;
    conn.answers();
    read
}

/// What hyper gives out of a body at a time; `None` is its end.
struct Piece(Option<Result<Frame<Bytes>, hyper::Error>>);

impl Piece {
    /// Is it all of the body, whose length is `len`?
    fn is_whole(&self, rest: &Incoming, len: usize) -> bool {
        let data = self.0.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref());
        rest.is_end_stream() && data.is_some_and(|data| data.len() == len)
    }

    fn data(self) -> Option<Bytes> {
        self.0?.ok()?.into_data().ok()
    }
}

/// The first piece of a body, unless the client has to be waited for.
async fn at_hand(body: &mut Incoming) -> Option<Piece> {
    poll_fn(|cx| match Pin::new(&mut *body).poll_frame(cx) {
        Poll::Ready(frame) => Poll::Ready(Some(Piece(frame))),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

async fn gather(
    mut body: Incoming,
    mut first: Option<Piece>,
    most: usize,
    silence: Duration,
    mut charge: Charge,
) -> Result<Whole, NoBody> {
    let mut bytes = Vec::with_capacity(most.min(FIRST_BYTES));
    loop {
        let frame = match first.take() {
            Some(Piece(frame)) => frame,
            None => tokio::select! {
                frame = tokio::time::timeout(silence, body.frame()) => frame.map_err(|_| NoBody::TooSlow)?,
                () = charge.cut() => return Err(NoBody::Crowded),
            },
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
