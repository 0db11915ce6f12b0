//! What the link's [`machine`](super::machine) asks for, and what comes of it.

use super::reads::Read;
use super::upkeep::{CheckEnd, SubscriptionEnd};
use crate::core::disposition::Disposition;
use crate::core::model::Cause;
use crate::core::park_reason::ParkReason;
use crate::core::priority::Priority;

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Job {
    /// Read the link.
    Read {
        /// How.
        read: Read,
        /// The cause where no mark names one.
        fallback: Cause,
        /// Put the subscription right first, so that a change between the two is not missed.
        subscribe: bool,
    },
    /// Put the subscription right.
    Subscribe,
    /// Check the token, and put the subscription right.
    CheckToken,
    /// Take the token from the store, at once; answered by [`Input::Took`](super::machine::Input::Took).
    TakeToken,
}

impl Job {
    /// Who waits for it.
    pub fn priority(&self) -> Priority {
        match self {
            Job::Read { read: Read { prompt: true, .. }, .. } => Priority::Prompt,
            _ => Priority::Background,
        }
    }

    /// Somebody waits for it from now on.
    pub fn raise(&mut self) {
        if let Job::Read { read, .. } = self {
            read.prompt = true;
        }
    }
}

/// How a read ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadEnd {
    /// What the source said is staged, or is what Spaces has.
    Stored,
    /// As [`ReadEnd::Stored`], except that Spaces could not be asked whether it still has what was written there.
    NotCompared,
    /// The source answered, and something of our own was in the way.
    NotStored,
    /// The source refused.
    Failed(Disposition),
}

/// How a job ended: what it was about, and what it did beside that.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct JobEnd {
    /// The read.
    pub read: Option<ReadEnd>,
    /// The subscription, where it was looked at.
    pub subscription: Option<SubscriptionEnd>,
    /// The check of the token.
    pub check: Option<CheckEnd>,
}

impl JobEnd {
    /// Why the link must be parked, where it must.
    pub fn park_reason(&self) -> Option<ParkReason> {
        match *self {
            JobEnd { read: Some(ReadEnd::Failed(Disposition::Park(why))), .. }
            | JobEnd { subscription: Some(SubscriptionEnd::Failed(Disposition::Park(why))), .. }
            | JobEnd { check: Some(CheckEnd::Dead(why)), .. } => Some(why),
            _ => None,
        }
    }
}
