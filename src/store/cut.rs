//! Cutting off the mark log: a new file replaces it, and what stands of the old one is written into the database.
//!
//! The marks go through the committer's own queue, as decisions that nobody waits for. So a stage or an unlink that was
//! decided later is committed later, and clears the mark that was written. Each piece is written when the one before it
//! is durable, so that a stage waits behind one piece at most.
//!
//! The old file goes when everything is durable that was decided before the last piece. A mark that a stage has taken
//! from memory is in the old file alone until the stage is on disk.
//!
//! An erasure needs more: a mark that waits for the mark writer when the erasure begins is appended to the new file. The
//! mark writer leaves it out where its link is gone ([`MarkLog::erased_up_to`]), so that no id stays behind.
//!
//! A cut writes only marks with a higher number than the newest one at the begin of the last cut: the others were written
//! then, or in a transaction of their own.

use std::io;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use super::inner::Inner;
use super::mark_log::MarkLog;
use super::order::Answer;
use crate::core::model::PartKey;

/// Parts that are looked at for one transaction, and marks in it.
const LOOKS: usize = 4096;
const WRITES: usize = 256;

/// The cuts of this process.
#[derive(Default)]
pub(super) struct Cuts {
    wanted: bool,
    /// An erasure waits for the cut that begins next.
    for_erasure: bool,
    /// Marks up to this number are not in the mark log alone.
    above: u64,
    under_way: Option<Cut>,
}

/// One that is under way.
struct Cut {
    /// The newest number when it began.
    newest: u64,
    /// The part that was looked at last.
    after: Option<PartKey>,
    /// The piece that is being made durable.
    piece: Option<Answer>,
    /// No part is left behind that piece.
    is_last: bool,
    for_erasure: bool,
}

impl Cuts {
    /// The mark log has grown.
    pub(super) fn want(&mut self) {
        self.wanted = true;
    }

    /// An erasure needs a new file.
    pub(super) fn want_for_erasure(&mut self) {
        (self.wanted, self.for_erasure) = (true, true);
    }

    /// Does an erasure wait?
    pub(super) fn hold_up_erasure(&self) -> bool {
        self.for_erasure || self.under_way.as_ref().is_some_and(|cut| cut.for_erasure)
    }

    /// Goes on with a cut, or begins one that is wanted. An error means that the store must be opened anew.
    pub(super) fn go_on(&mut self, inner: &Inner) -> Result<(), String> {
        // A store that closes leaves both files; the next start reads them.
        if inner.lock().orders.is_closed() {
            return Ok(());
        }
        if self.under_way.is_none() && self.wanted {
            self.begin(inner).map_err(|e| format!("a new mark log cannot be begun: {e}"))?;
        }
        while let Some(cut) = &mut self.under_way {
            match cut.piece.as_mut().map(Answer::look) {
                // It comes with the next commit.
                Some(None) => return Ok(()),
                Some(Some(false)) => return Err("marks cannot be brought into the database".into()),
                Some(Some(true)) | None => {}
            }
            if cut.is_last {
                return self.end(inner).map_err(|e| format!("the earlier mark log cannot be removed: {e}"));
            }
            let (above, mut after) = (self.above, cut.after.take());
            let decided = inner.lock().decide(inner.clock.now(), |state, txn| {
                after = state.ledger.write_marks(txn, after.as_ref(), above, LOOKS, WRITES);
                // A mark that is gone from memory may be needed until the stage that took it is durable.
                txn.wait_for_queue();
            });
            let ((), piece) = decided.map_err(|unavailable| unavailable.reason.to_string())?;
            (cut.is_last, cut.after, cut.piece) = (after.is_none(), after, piece);
        }
        Ok(())
    }

    fn begin(&mut self, inner: &Inner) -> io::Result<()> {
        let for_erasure = std::mem::take(&mut self.for_erasure);
        self.wanted = false;
        let decided = inner.lock().state.newest_seq();
        {
            let mut guard = inner.mark_log.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(log) = guard.as_mut() else { return Ok(()) };
            if for_erasure {
                log.erased_up_to = decided;
            }
            if log.is_blank() {
                return Ok(());
            }
            if let Err(error) = log.turn_over(&inner.dir) {
                *guard = None;
                return Err(error);
            }
        }
        inner.cut_wanted.store(false, Ordering::Relaxed);
        // Marks of the old file have numbers up to this one, and are in memory until they are answered for.
        let newest = inner.lock().state.newest_seq();
        self.under_way = Some(Cut { newest, after: None, piece: None, is_last: false, for_erasure });
        Ok(())
    }

    /// Every piece is durable.
    fn end(&mut self, inner: &Inner) -> io::Result<()> {
        if let Some(cut) = self.under_way.take() {
            self.above = cut.newest;
            MarkLog::remove_earlier(&inner.dir)?;
        }
        Ok(())
    }
}
