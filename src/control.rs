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
    /// Let this part fail.
    #[cfg(feature = "sandbox")]
    Drill(Target, Drill),
}

/// Nobody reads commands any more: the process is ending.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the supervisor is gone")]
pub struct Gone;

/// How a part fails in a drill.
#[cfg(feature = "sandbox")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drill {
    /// It panics.
    Panic,
    /// It makes no progress any more.
    Hang,
}

#[cfg(feature = "sandbox")]
impl Drill {
    /// Fails in this way over a message.
    pub async fn play(self, part: &str) {
        match self {
            Drill::Panic => panic!("drill: {part} was asked to panic"),
            Drill::Hang => std::future::pending().await,
        }
    }
}

/// A part that a drill can reach.
#[cfg(feature = "sandbox")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// The page of a link.
    Page(LinkKey),
    /// The supervisor. It hangs only: its panic would be the end of the process.
    Supervisor,
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
    /// The certificates actor.
    Certificates,
    /// The public listener.
    Listener,
    /// The listener on the admin socket.
    AdminListener,
    /// The listener on the admin address on loopback.
    AdminTcpListener,
}
