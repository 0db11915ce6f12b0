//! Opening what lies in a store's folder: the database, mended where it is damaged, the mark log beside it, and the
//! memory that follows from both.

use std::path::Path;

use super::clock::Clock;
use super::load;
use super::mark_log::{LoggedMark, MarkLog};
use super::open_error::OpenError;
use super::rebuild;
use super::seal::Keyring;
use super::state::State;

/// What lies in a folder that is open.
pub(super) struct Whole {
    pub opened: rebuild::Opened,
    pub state: State,
    pub mark_log: MarkLog,
    /// The marks of the mark log that stand.
    pub standing: Vec<LoggedMark>,
}

/// Opens what lies in `dir`, whose lock is held, mends it where it is damaged, and reads it.
///
/// # Errors
/// Those of [`rebuild::open`].
pub(super) fn open(dir: &Path, keyring: &Keyring, clock: &Clock) -> Result<Whole, OpenError> {
    let mut opened = rebuild::open(dir, keyring)?;
    let fault = |fault| OpenError::of(dir, fault);
    let marks = std::mem::take(&mut opened.marks.marks);
    let (state, standing) = load::load(&opened.engine, marks, clock.now()).map_err(fault)?;
    let io = |source| OpenError::Io { path: dir.to_owned(), source };
    let mark_log = MarkLog::create(dir, &opened.marks, &standing).map_err(io)?;
    opened.note_mark_log().map_err(fault)?;
    Ok(Whole { opened, state, mark_log, standing })
}
