//! The messages to a page, apart from the page itself: the registry of pages lies below it.

use std::time::Duration;

use super::reading::JobDone;
use crate::core::link::schedule::Spread;
use crate::core::model::Generation;
use crate::turnstile::Turn;

/// Messages to a page.
pub enum PageMsg {
    /// Reasons wait in the page's handle: take them and step.
    Wake,
    /// Look into the store for a mark that nobody answers for; many may be looking at once, so spread over this.
    Look(Spread),
    /// The page's timer rang, at the setting of this number.
    Woke(u64),
    /// The turn of the job of this number has come.
    Turn(u64, Turn),
    /// The job of this number ended.
    Done(u64, Box<JobDone>),
    /// The job of this number panicked.
    Broke(u64),
    /// The task that follows the catalogue of this generation panicked.
    CatalogueBroke(Generation),
    /// The link has a new token: take it from the store, unless that was done already.
    Relinked,
    /// Other settings hold; the work this causes may be spread over so long.
    Reloaded(Duration),
    /// Spaces may not hold what was last written: compare after this long. This is about the object, whichever token
    /// the link has: a write that was begun under an earlier one may land on the object of a later one.
    Verify(Duration),
    /// The link was parked by a decision elsewhere: look whether that holds for the token of this page.
    Parked,
    /// Something says that the token of this generation may not be good any more: check it.
    Check(Generation),
    /// Fail, to show that nobody else minds.
    #[cfg(feature = "sandbox")]
    Drill(crate::control::Drill),
}
