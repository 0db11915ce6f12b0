//! The life of the thread that commits, which is the same over a folder and over a shared database: its work runs behind a
//! guard, and a panic of it counts as a failed commit.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use super::handle::panic_text;
use super::inner::Commits;

/// When a store that is down is tried again: soon at first, then less often.
const PAUSES: [Duration; 5] = [
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
];

/// The pauses between attempts to open a store that is down, without an end.
pub(super) fn pauses() -> impl Iterator<Item = Duration> {
    PAUSES.into_iter().chain(std::iter::repeat(PAUSES[PAUSES.len() - 1]))
}

/// How the work ended.
pub(super) enum End {
    /// The store was closed.
    Closed,
    /// It cannot go on in this process.
    GaveUp(String),
}

/// Carries out the work of a thread until it ends. After a panic the store is to be opened anew; a second one without a
/// commit between them ends the work.
pub(super) fn supervise<T>(
    thread: &mut T,
    commits: &Commits,
    work: impl Fn(&mut T) -> End,
    take_down: impl Fn(&mut T, Arc<str>),
) -> End {
    loop {
        match catch_unwind(AssertUnwindSafe(|| work(thread))) {
            Ok(end) => return end,
            Err(_) if commits.is_second_panic_of_database() => {
                return End::GaveUp("its thread died twice without a commit between".into());
            }
            Err(payload) => {
                let reason = format!("its thread panicked: {}", panic_text(&*payload));
                tracing::error!("store: {reason}, the store is opened anew");
                take_down(thread, reason.into());
            }
        }
    }
}
