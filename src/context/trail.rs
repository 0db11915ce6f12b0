//! Which delivery a read and a write follow from, for the log and for traces.
//!
//! A delivery gets a short random id when it is accepted. The page keeps the id of the delivery that made it due, until a
//! read answers for it. The id then goes with what was staged, until the object is written. Nothing of this is durable:
//! after a restart, or where another daemon works on the link, a read is as true and names no delivery.
//!
//! A delivery that is traced leaves its place in the trace as well. The read belongs to the trace of the first one, and
//! has links to further ones, of which a few are kept.

use std::fmt;

use super::Context;
use crate::core::model::{LinkKey, MonoTime, PartKey};
use crate::traces::TraceContext;

/// Traced deliveries of one read that are kept beside the first.
const MOST_JOINED: usize = 8;

/// The id of a delivery: ten hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeliveryId(u64);

impl DeliveryId {
    /// A new one.
    pub fn random() -> Self {
        DeliveryId(u64::from_le_bytes(crate::random::unique()) >> 24)
    }
}

impl fmt::Display for DeliveryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:010x}", self.0)
    }
}

/// A delivery that was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivery {
    /// Its id.
    pub id: DeliveryId,
    /// When it came.
    pub at: MonoTime,
    /// Its span, where it is traced.
    pub span: Option<TraceContext>,
}

impl Delivery {
    /// One that comes now.
    pub fn now(span: Option<TraceContext>) -> Self {
        Delivery { id: DeliveryId::random(), at: MonoTime::now(), span }
    }
}

/// What a link's next read and next write follow from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trail {
    /// The delivery that made the link due.
    due: Option<Delivery>,
    /// Traced ones that joined.
    joined: Vec<Delivery>,
    /// What the staged object answers for.
    staged: Staged,
}

impl Trail {
    /// The spans of the deliveries that a read answers for which began at this time, the first one first.
    fn spans(&self, began: MonoTime) -> Vec<TraceContext> {
        let deliveries = self.due.iter().chain(&self.joined).filter(|delivery| delivery.at <= began);
        deliveries.filter_map(|delivery| delivery.span).collect()
    }
}

/// What a staged object follows from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Staged {
    /// The delivery that its read answers for.
    pub delivery: Option<Delivery>,
    /// The span that its write belongs to.
    pub span: Option<TraceContext>,
}

impl Context {
    /// A delivery made these links due, or joined in a read that is due.
    pub fn note_delivery<'a>(&self, links: impl IntoIterator<Item = &'a LinkKey>, delivery: Delivery) {
        for link in links {
            self.change_trail(link, |trail| match &trail.due {
                None => trail.due = Some(delivery),
                Some(_) if delivery.span.is_some() && trail.joined.len() < MOST_JOINED => trail.joined.push(delivery),
                Some(_) => {}
            });
        }
    }

    /// The spans of the deliveries that a read will answer for which began at this time.
    pub fn spans_of_read(&self, link: &LinkKey, began: MonoTime) -> Vec<TraceContext> {
        self.pages.find(link).and_then(|status| Some(status.trail?.spans(began))).unwrap_or_default()
    }

    /// When the first traced delivery came that such a read will answer for.
    pub fn heard_since(&self, link: &LinkKey, began: MonoTime) -> Option<MonoTime> {
        let trail = self.pages.find(link)?.trail?;
        let mut traced = trail.due.iter().chain(&trail.joined).filter(|d| d.at <= began && d.span.is_some());
        traced.next().map(|delivery| delivery.at)
    }

    /// The delivery that a read has answered for which began at this time. One that came later is answered by the next
    /// read.
    pub fn delivery_of_read(&self, link: &LinkKey, began: MonoTime) -> Option<Delivery> {
        let mut found = None;
        self.change_trail(link, |trail| {
            found = trail.due.take_if(|delivery| delivery.at <= began);
            trail.joined.retain(|delivery| delivery.at > began);
        });
        found
    }

    /// What a read staged follows from this.
    pub fn note_staged(&self, link: &LinkKey, staged: Staged) {
        self.change_trail(link, |trail| trail.staged = staged);
    }

    /// What a write of the link's whole follows from.
    pub fn staged(&self, part: &PartKey) -> Staged {
        let status = if part.part.is_whole() { self.pages.find(&part.link) } else { None };
        status.and_then(|status| Some(status.trail?.staged)).unwrap_or_default()
    }

    /// The object is written: nothing more follows.
    pub fn forget_staged(&self, part: &PartKey, staged: Staged) {
        if staged != Staged::default() {
            let clear = |trail: &mut Trail| {
                if trail.staged == staged {
                    trail.staged = Staged::default();
                }
            };
            self.change_trail(&part.link, clear);
        }
    }

    /// A page at rest keeps none.
    fn change_trail(&self, link: &LinkKey, change: impl FnOnce(&mut Trail)) {
        self.pages.update(link, |status| {
            let mut trail = status.trail.take().unwrap_or_default();
            change(&mut trail);
            status.trail = Some(trail).filter(|trail| **trail != Trail::default());
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_ten_digits() {
        let ids: std::collections::BTreeSet<String> = (0..100).map(|_| DeliveryId::random().to_string()).collect();
        assert!(ids.len() == 100 && ids.iter().all(|id| id.len() == 10 && id.bytes().all(|b| b.is_ascii_hexdigit())));
    }
}
