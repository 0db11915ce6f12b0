//! The roles of spans.

/// The role of a span, by its number in the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Work within the daemon.
    Internal = 1,
    /// A request that the daemon answers.
    Server = 2,
    /// A request that the daemon makes.
    Client = 3,
}
