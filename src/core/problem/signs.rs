//! What the daemon knows of itself, of which the list of problems is made.

use std::fmt;
use std::time::Duration;

use super::code::Code;
use crate::core::certificate::CertificateFacts;
use crate::core::model::WallTime;
use crate::core::part::Part;

/// How a run of the daemon ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunEnd {
    /// It stopped in order.
    Stopped,
    /// It ended by itself, with this reason.
    Failed(String),
    /// It was ended from outside after it had noted this.
    Noted(String),
    /// It was ended without a word while the machine ran on.
    Silent,
    /// It was ended without a word, and the machine was booted since.
    Booted,
}

impl RunEnd {
    /// Does it count for a crash loop?
    pub fn is_unclean(&self) -> bool {
        matches!(self, RunEnd::Failed(_) | RunEnd::Noted(_) | RunEnd::Silent)
    }
}

impl fmt::Display for RunEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RunEnd::Stopped => f.write_str("an orderly stop"),
            RunEnd::Failed(reason) => f.write_str(reason),
            RunEnd::Noted(reason) => write!(f, "ended from outside after {reason}"),
            RunEnd::Silent => f.write_str("killed without a word (SIGKILL, out of memory, or an abort)"),
            RunEnd::Booted => f.write_str("cut off with the whole machine"),
        }
    }
}

/// A run before this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PastRun {
    /// When the next run began, which is the closest that is known to its end.
    pub over_at: WallTime,
    /// How it ended.
    pub end: RunEnd,
}

/// An actor that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedActor {
    /// Its name in the log, such as `page user/1002`.
    pub name: String,
    /// When it failed, the latest last, as far back as failures count.
    pub times: Vec<WallTime>,
    /// Its last error.
    pub error: String,
}

/// A dependency that fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failing {
    /// Its code.
    pub code: Code,
    /// Since when.
    pub since: WallTime,
    /// Its last error.
    pub error: String,
}

/// Why the configuration file is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The mistake.
    pub error: String,
    /// The process was started on the kept configuration.
    pub is_kept: bool,
}

/// What the daemon knows of itself.
#[derive(Debug, Clone, Default)]
pub struct Signs {
    /// Parts that were asked and have not answered yet, and for how long.
    pub waiting: Vec<(Part, Duration)>,
    /// Why the store takes no writes.
    pub store_down: Option<String>,
    /// The folder of a local store.
    pub folder: Option<String>,
    /// What its disk has left.
    pub free_bytes: Option<u64>,
    /// The configuration file is refused.
    pub refused: Option<Refusal>,
    /// The runs before this one, the latest last.
    pub runs: Vec<PastRun>,
    /// Actors that failed.
    pub actors: Vec<FailedActor>,
    /// Dependencies that fail.
    pub failing: Vec<Failing>,
    /// The certificate that the public listener shows; `None` for plain HTTP, and while there is none.
    pub certificate: Option<CertificateFacts>,
    /// The certificate comes from an authority, by ACME.
    pub is_acme: bool,
    /// The age of the oldest read or write that the daemon can make.
    pub oldest_owed: Duration,
    /// The age of the oldest deletion that is not finished.
    pub oldest_deletion: Duration,
    /// Links that wait for a person.
    pub parked: u64,
    /// What the daemons of one database have to say of their settings.
    pub cluster: Vec<String>,
    /// The damage of the store that was mended.
    pub mended: Option<String>,
}
