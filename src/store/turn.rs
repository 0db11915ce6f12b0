//! Turns: when a caller of a shared store may decide.
//!
//! Daemons that share a database decide one after another: a transaction of the database locks the row that all of them
//! lock, and applies the decisions of the others to memory before anything is decided here. The committer begins such a
//! transaction, lets the waiting callers decide, and writes their decisions. A [`Turn`] is the leave to decide
//! once in it. The committer waits until every turn that it gave was used or dropped. It does not wait for ever: a caller
//! that is not scheduled for long finds its turn closed, and asks for another.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Duration;

/// Leave to decide once, as long as it is open.
pub(super) struct Turn {
    is_open: Arc<AtomicBool>,
    _deciding: mpsc::Sender<Infallible>,
}

impl Turn {
    /// May its holder decide? To be asked under the store's lock, under which the committer closes turns.
    pub(super) fn is_open(&self) -> bool {
        self.is_open.load(Ordering::Relaxed)
    }
}

/// The turns of one transaction.
pub(super) struct Turns {
    is_open: Arc<AtomicBool>,
    deciding: mpsc::Sender<Infallible>,
    ended: Receiver<Infallible>,
}

impl Turns {
    /// Nobody has one yet.
    pub(super) fn open() -> Turns {
        let (deciding, ended) = mpsc::channel();
        Turns { is_open: Arc::new(AtomicBool::new(true)), deciding, ended }
    }

    /// One for a caller.
    pub(super) fn give(&self) -> Turn {
        Turn { is_open: self.is_open.clone(), _deciding: self.deciding.clone() }
    }

    /// Waits until all that were given have ended, but no longer than this. The rest is to be [closed](Closing::close).
    pub(super) fn wait(self, most: Duration) -> Closing {
        drop(self.deciding);
        // Nothing is ever sent: the channel ends with its senders.
        match self.ended.recv_timeout(most) {
            Ok(never) => match never {},
            Err(RecvTimeoutError::Disconnected | RecvTimeoutError::Timeout) => Closing { is_open: self.is_open },
        }
    }
}

/// Turns that may still be open.
pub(super) struct Closing {
    is_open: Arc<AtomicBool>,
}

impl Closing {
    /// Closes them. The caller holds the store's lock.
    pub(super) fn close(self) {
        self.is_open.store(false, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_turns_are_waited_for_and_a_late_one_is_closed() {
        let turns = Turns::open();
        let (prompt, late) = (turns.give(), turns.give());
        assert!(prompt.is_open());
        drop(prompt);
        let closing = turns.wait(Duration::from_millis(1));
        assert!(late.is_open(), "it may be used as long as nobody has closed it");
        closing.close();
        assert!(!late.is_open());
        let turns = Turns::open();
        let prompt = turns.give();
        let waiting = std::thread::spawn(move || turns.wait(Duration::from_secs(600)));
        drop(prompt);
        waiting.join().unwrap().close();
    }
}
