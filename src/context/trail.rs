//! Which delivery a read and a write follow from, for the log and for traces.
//!
//! A delivery gets a short random id when it is accepted. The page keeps the id of the delivery that made it due, until
//! a read answers for it. The id then goes with what was staged, until the object is written. Nothing of this is
//! durable: after a restart, or where another daemon works on the link, a read is as true and names no delivery.
//!
//! A delivery that is traced leaves its place in the trace as well. The read belongs to the trace of the first one, and
//! has links to further ones, of which a few are kept.

use std::fmt;

use crate::core::model::MonoTime;
use crate::traces::TraceContext;

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
    pub(super) due: Option<Delivery>,
    /// Traced ones that joined.
    pub(super) joined: Vec<Delivery>,
    /// What the staged object answers for.
    pub(super) staged: Staged,
}

impl Trail {
    /// The spans of the deliveries that a read answers for which began at this time, the first one first.
    pub(super) fn spans(&self, began: MonoTime) -> Vec<TraceContext> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_ten_digits() {
        let ids: std::collections::BTreeSet<String> = (0..100).map(|_| DeliveryId::random().to_string()).collect();
        assert!(ids.len() == 100 && ids.iter().all(|id| id.len() == 10 && id.bytes().all(|b| b.is_ascii_hexdigit())));
    }
}
