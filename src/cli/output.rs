//! Where the verbs print. `println!` panics when standard output cannot be written, so no verb uses it.
//!
//! A reader that closes the pipe has seen enough: output from then on is dropped, and the verb ends as it would have.
//! Any other failure to write is an error of the verb, because its answer did not arrive. A failure to write to
//! standard error is dropped: there is nowhere left to report it.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};

use crate::exit::{self, Failure};

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
