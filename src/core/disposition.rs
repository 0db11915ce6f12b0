//! The meaning of a source's error, for everything that decides what comes next. Each source translates its own errors.

use std::time::Duration;

use super::park_reason::ParkReason;

/// What follows from an error of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// It passes by itself: try again, with backoff.
    Retry,
    /// A budget is spent: try again when it is there again.
    RateLimited {
        /// When, where the source said so.
        retry_after: Option<Duration>,
    },
    /// The operator's settings are wrong: try again, since they can be corrected at any time.
    Misconfigured,
    /// The link's token or permission is gone: a person must act first.
    Park(ParkReason),
    /// The source refused this request, and would refuse it again. Says nothing about the token.
    Rejected,
}

impl Disposition {
    /// The reason to park a link, where the error is one.
    pub fn park_reason(self) -> Option<ParkReason> {
        match self {
            Disposition::Park(reason) => Some(reason),
            _ => None,
        }
    }
}
