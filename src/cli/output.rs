//! Where the verbs print. `println!` panics when standard output cannot be written, so no verb uses it.
//!
//! A reader that closes the pipe has seen enough: output from then on is dropped, and the verb ends as it would have.
//! Any other failure to write is an error of the verb, because its answer did not arrive. A failure to write to
//! standard error is dropped: there is nowhere left to report it.

use std::fmt::Display;
use std::io::{self, ErrorKind, IsTerminal, Write};

use crate::exit::{self, Failure};

/// How something is, for its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    /// As it should be.
    Good,
    /// It passes, or needs somebody some day.
    Warning,
    /// It needs somebody now.
    Bad,
}

/// Colours, for terminals alone.
#[derive(Debug, Clone, Copy)]
pub(super) struct Paint(bool);

impl Paint {
    /// Colours if standard output is a terminal that has them, and `NO_COLOR` is not set.
    pub(super) fn of_stdout() -> Paint {
        let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        Paint(io::stdout().is_terminal() && !is_set("NO_COLOR") && !is_dumb)
    }

    /// No colours.
    #[cfg(test)]
    pub(super) fn plain() -> Paint {
        Paint(false)
    }

    /// Colours in any case.
    #[cfg(test)]
    pub(super) fn colours() -> Paint {
        Paint(true)
    }

    /// The text in the colour of its tone.
    pub(super) fn text(self, tone: Tone, text: &str) -> String {
        let colour = match tone {
            Tone::Good => 32,
            Tone::Warning => 33,
            Tone::Bad => 31,
        };
        if self.0 { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// The columns of the terminal that standard output is. `None` for anything else, and for a terminal without a size.
pub(super) fn terminal_columns() -> Option<usize> {
    let out = io::stdout();
    let size = out.is_terminal().then(|| rustix::termios::tcgetwinsize(&out))?.ok()?;
    Some(usize::from(size.ws_col)).filter(|columns| *columns > 0)
}

/// Prints a text and the end of its line on standard output.
///
/// # Errors
/// Standard output cannot be written. A closed pipe is none.
pub(super) fn line(text: impl Display) -> Result<(), Failure> {
    all(format!("{text}\n").as_bytes())
}

/// Writes these bytes to standard output.
///
/// # Errors
/// As [`line()`].
pub(super) fn all(bytes: &[u8]) -> Result<(), Failure> {
    seen(write(bytes))
}

/// Writes these bytes to standard output; a closed pipe is an error too.
///
/// # Errors
/// The system's.
pub(super) fn write(bytes: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)?;
    out.flush()
}

/// The outcome of a verb whose output was written, or not.
pub(super) fn seen(written: io::Result<()>) -> Result<(), Failure> {
    match written {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            let what = format!("standard output cannot be written: {error}");
            Err(Failure::new(exit::IO, what, "send the output to where it can be written"))
        }
        _ => Ok(()),
    }
}

/// Prints a text and the end of its line on standard error.
pub(super) fn note(text: impl Display) {
    part(format_args!("{text}\n"));
}

/// Prints a text on standard error.
pub(super) fn part(text: impl Display) {
    let mut err = io::stderr().lock();
    let _ = err.write_all(text.to_string().as_bytes()).and_then(|()| err.flush());
}
