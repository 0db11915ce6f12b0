//! Orders to the committer's thread.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::Unavailable;
use super::engine::Write;
use super::feed::Change;
use crate::core::model::PartKey;

/// A request to the thread.
pub(super) enum Order {
    /// Make these writes durable.
    Commit(Request),
    /// Show that the thread is at work.
    Pulse(oneshot::Sender<()>),
    /// For this reason the store is opened anew, and mended where it is damaged.
    Suspect(Arc<str>),
    /// Panic over the next commit.
    #[cfg(any(test, feature = "sandbox"))]
    Drill,
}

/// Writes that go together, and the waiting caller. Without writes it is a barrier: answered when everything queued
/// before it is durable.
pub(super) struct Request {
    pub writes: Vec<Write>,
    pub notes: Vec<(PartKey, u64)>,
    /// Published when it is durable.
    pub changes: Vec<Change>,
    /// The newest erasure that was asked for with it or before it.
    pub erasure: u64,
    pub done: oneshot::Sender<Result<(), Unavailable>>,
}
