//! How far a move is, and how it ended.

use std::ops::ControlFlow;

use super::errors::MoveError;
use crate::store::tree::Tree;

/// How far a move is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Records that are there, and how many there will be.
    Records {
        /// There by now.
        done: u64,
        /// In all.
        of: u64,
    },
    /// The next step is about to be taken.
    Step,
    /// The last writes of daemons that died end within so many seconds, which are waited for.
    Quiet {
        /// Seconds.
        seconds: u64,
    },
}

/// Is called before each step of a move, and may end it there. A later move goes on.
pub type Watch<'a> = &'a mut dyn FnMut(Progress) -> ControlFlow<()>;

/// How a move ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moved {
    /// Records that the target has.
    pub records: u64,
    /// It had ended before: nothing was to be done.
    pub already: bool,
}

/// Asks whether to go on.
pub(super) fn ask(watch: &mut dyn FnMut(Progress) -> ControlFlow<()>, progress: Progress) -> Result<(), MoveError> {
    match watch(progress) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(MoveError::Stopped),
    }
}

/// The records of each tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Sizes(pub [u64; Tree::COUNT]);

impl Sizes {
    pub(super) fn all(&self) -> u64 {
        self.0.iter().sum()
    }
}
