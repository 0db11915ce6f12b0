//! How the program ends: sysexits codes, one meaning each, and errors as one line what and one line what to do.

use std::io::Write;
use std::process::ExitCode;

/// Success.
pub const OK: u8 = 0;
/// The command line, or something named on it, is wrong (EX_USAGE).
pub const USAGE: u8 = 64;
/// Some lines of an input are bad; the good ones are done (EX_DATAERR).
pub const DATA: u8 = 65;
/// The daemon is not running (EX_UNAVAILABLE).
pub const UNAVAILABLE: u8 = 69;
/// A bug (EX_SOFTWARE).
pub const INTERNAL: u8 = 70;
/// The store or a file cannot be read or written (EX_IOERR).
pub const IO: u8 = 74;
/// Something is busy; try again (EX_TEMPFAIL).
pub const TRY_AGAIN: u8 = 75;
/// The configuration is wrong (EX_CONFIG).
pub const CONFIG: u8 = 78;

/// A failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The exit code.
    pub code: u8,
    /// What and why, in one line.
    pub what: String,
    /// What to do, in one line; empty when the first line says it all.
    pub way_out: String,
}

impl Failure {
    /// With both lines.
    pub fn new(code: u8, what: impl Into<String>, way_out: impl Into<String>) -> Self {
        Failure { code, what: what.into(), way_out: way_out.into() }
    }

    /// Prints both lines to standard error, which may be full or gone.
    pub fn print(&self) {
        let way_out = if self.way_out.is_empty() { String::new() } else { format!("  {}\n", self.way_out) };
        let text = format!("pagesyncd: {}\n{way_out}", self.what);
        let _ = std::io::stderr().lock().write_all(text.as_bytes());
    }
}

/// Prints a failure and turns the outcome into the process's exit code.
pub fn finish(outcome: Result<(), Failure>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::from(OK),
        Err(failure) => {
            failure.print();
            ExitCode::from(failure.code)
        }
    }
}
