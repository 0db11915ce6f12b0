//! An operator's commands. They travel as data through one channel, whose sender the context holds and whose receiver
//! the supervisor reads: whoever sends one knows no actor.

use tokio::sync::oneshot;

use crate::config::{Changes, Config};
#[cfg(feature = "sandbox")]
use crate::core::model::LinkKey;

/// Commands that wait at a time; more senders wait.
pub(crate) const WAITING: usize = 16;

/// A command.
pub enum Command {
    /// Put another configuration in force; answers what changed, or why nothing did.
    Reload(Box<Config>, oneshot::Sender<Result<Changes, String>>),
    /// End everything in order; answers when only the store is left to close.
    Stop(oneshot::Sender<()>),
    /// Let this part panic.
    #[cfg(feature = "sandbox")]
    Drill(Target),
}

/// Nobody reads commands any more: the process is ending.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the supervisor is gone")]
pub struct Gone;

/// A part that a drill can reach.
#[cfg(feature = "sandbox")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// The page of a link.
    Page(LinkKey),
    /// The dispatcher.
    Dispatcher,
    /// The uploader.
    Uploader,
    /// The notifier.
    Notifier,
    /// The subscriptions actor.
    Subscriptions,
    /// The cleanups actor.
    Cleanups,
    /// The public listener.
    Listener,
    /// The listener on the admin socket.
    AdminListener,
    /// The listener on the admin address on loopback.
    AdminTcpListener,
}
