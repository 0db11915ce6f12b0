//! What the supervisor is sent, and what it supervises.

use std::fmt;

use ractor::RpcReplyPort;

use crate::control::Command;
use crate::core::link::schedule::Spread;
use crate::core::model::LinkKey;
use crate::core::restart::ActorKind;
use crate::http::endpoint::Endpoint;
use crate::store::Unavailable;

/// Messages to the supervisor.
pub enum SupervisorMsg {
    /// Fit the pages of these links to the store and to the leases: start those that are missing, stop those of links
    /// that are gone or worked on elsewhere.
    Fit {
        /// Which.
        links: Vec<LinkKey>,
        /// Over how long the pages may take to catch up.
        spread: Spread,
        /// Pages that stand look into the store, rather than for a new token alone.
        look: bool,
        /// Answered when it is done, or when the store cannot be read.
        done: RpcReplyPort<Result<(), Unavailable>>,
    },
    /// An operator commands something.
    Command(Command),
    /// Start this child again.
    Respawn(Child),
    /// Sweep the store.
    Sweep,
    /// Answer: a sign of life.
    Ping(RpcReplyPort<()>),
}

/// Something that is supervised.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Child {
    /// The page of a link.
    Page(LinkKey),
    /// The dispatcher.
    Dispatcher,
    /// The uploader.
    Uploader,
    /// The subscriptions actor.
    Subscriptions,
    /// The notifier.
    Notifier,
    /// The cleanups actor.
    Cleanups,
    /// The certificates actor.
    Certificates,
    /// A listener.
    Listener(Endpoint),
}

impl Child {
    pub(super) fn kind(&self) -> ActorKind {
        match self {
            Child::Page(_) => ActorKind::Page,
            Child::Dispatcher => ActorKind::Dispatcher,
            Child::Uploader => ActorKind::Uploader,
            Child::Subscriptions => ActorKind::Subscriptions,
            Child::Notifier => ActorKind::Notifier,
            Child::Cleanups => ActorKind::Cleanups,
            Child::Certificates => ActorKind::Certificates,
            Child::Listener(_) => ActorKind::Listener,
        }
    }
}

/// For the log.
impl fmt::Display for Child {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Child::Page(link) => write!(f, "page {link}"),
            Child::Listener(endpoint) => write!(f, "listener {}", endpoint.word()),
            single => f.write_str(single.kind().word()),
        }
    }
}
