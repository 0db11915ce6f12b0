//! How far a long verb is: on a terminal in one line of standard error that is written over, else nowhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use super::output::{note, part};

/// Between two looks of a person.
const LOOKS: Duration = Duration::from_millis(200);

/// The line about the progress.
pub(super) struct Progress {
    terminal: bool,
    began: Instant,
    shown: Option<Instant>,
    is_open: bool,
}

impl Progress {
    pub(super) fn new() -> Progress {
        Progress { terminal: std::io::stderr().is_terminal(), began: Instant::now(), shown: None, is_open: false }
    }

    /// Shows nothing, because the terminal is needed for something else.
    pub(super) fn hidden() -> Progress {
        Progress { terminal: false, ..Progress::new() }
    }

    /// Shows a text if a terminal is there and the last one has stood for a moment.
    pub(super) fn show(&mut self, text: impl FnOnce(&Progress) -> String) {
        if self.terminal && self.shown.is_none_or(|shown| shown.elapsed() >= LOOKS) {
            self.write(text);
        }
    }

    /// Shows the last text, and ends the line.
    pub(super) fn finish(&mut self, text: impl FnOnce(&Progress) -> String) {
        if self.terminal {
            self.write(text);
        }
        self.end();
    }

    /// Ends the line, where there is one.
    pub(super) fn end(&mut self) {
        if std::mem::take(&mut self.is_open) {
            note("");
        }
    }

    /// So many of something in the time since the beginning, as a person writes it.
    pub(super) fn rate(&self, done: u64) -> String {
        format!("{:.0} a second", done as f64 / self.began.elapsed().as_secs_f64().max(0.001))
    }

    fn write(&mut self, text: impl FnOnce(&Progress) -> String) {
        part(format_args!("\r\x1b[K{}", text(self)));
        (self.shown, self.is_open) = (Some(Instant::now()), true);
    }
}

/// How much of a whole is done, in whole percents.
pub(super) fn percent(done: u64, of: u64) -> u64 {
    done.min(of).saturating_mul(100).checked_div(of).unwrap_or(100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_nothing_is_all_of_it() {
        assert_eq!((percent(0, 0), percent(1, 3), percent(4, 3), percent(3, 3)), (100, 33, 100, 100));
    }
}
