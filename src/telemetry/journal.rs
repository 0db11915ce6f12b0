//! The journal's own format: fields, in one datagram to its socket
//! ([the native protocol](https://systemd.io/JOURNAL_NATIVE_PROTOCOL/)).
//!
//! What an event is about has plain names: `LINK=facebook:123`, `USER_UUID=` and `DELIVERY=`, so that `journalctl
//! LINK=facebook:123` selects one link. The other fields of an event begin with `PAGESYNCD_`, so that none is taken for
//! a field that the journal knows.

use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

use serde_json::Value;
use tracing::Level;

use super::record::Record;

/// Where the journal listens.
const SOCKET: &str = "/run/systemd/journal/socket";

/// The longest value that is sent when the whole event is too long for a datagram.
const CUT: usize = 8 << 10;

/// The way to the journal.
pub(super) struct Journal {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Journal {
    /// The journal of this machine; `None` where there is none.
    pub(super) fn find() -> Option<Journal> {
        Journal::at(SOCKET).ok()
    }

    /// The journal that listens there.
    pub(super) fn at(path: impl Into<PathBuf>) -> io::Result<Journal> {
        let journal = Journal { socket: UnixDatagram::unbound()?, path: path.into() };
        // It drops an empty datagram, and an error says that nobody listens.
        journal.socket.send_to(&[], &journal.path)?;
        Ok(journal)
    }

    /// Sends an event. A journal that is away is no error of the program, and there is no place to report it.
    pub(super) fn send(&self, record: &Record) {
        let Err(error) = self.socket.send_to(&entry(record, usize::MAX), &self.path) else { return };
        if error.raw_os_error() == Some(rustix::io::Errno::MSGSIZE.raw_os_error()) {
            let _ = self.socket.send_to(&entry(record, CUT), &self.path);
        }
    }
}

/// The fields of an event, each value no longer than this.
fn entry(record: &Record, longest: usize) -> Vec<u8> {
    let mut entry = Vec::with_capacity(512);
    let mut put = |name: &str, value: &str| put(&mut entry, name, cut(value, longest));
    put("MESSAGE", &record.message);
    put("PRIORITY", priority(record.level));
    put("SYSLOG_IDENTIFIER", "pagesyncd");
    put("TARGET", &record.target);
    if let Some(file) = &record.file {
        put("CODE_FILE", file);
    }
    if let Some(line) = record.line {
        put("CODE_LINE", &line.to_string());
    }
    let about = &record.about;
    for (name, value) in [("LINK", &about.link), ("USER_UUID", &about.user), ("DELIVERY", &about.delivery)] {
        if let Some(value) = value {
            put(name, value);
        }
    }
    for (name, value) in &record.fields {
        let text = match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        put(&format!("PAGESYNCD_{}", name_of(name)), &text);
    }
    entry
}

/// `NAME`, the length and the bytes: a value may have line breaks.
fn put(entry: &mut Vec<u8>, name: &str, value: &str) {
    // Writing into a `Vec` does not fail.
    let _ = writeln!(entry, "{name}");
    entry.extend_from_slice(&(value.len() as u64).to_le_bytes());
    entry.extend_from_slice(value.as_bytes());
    entry.push(b'\n');
}

/// The name of a field as the journal allows it.
fn name_of(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect()
}

fn cut(value: &str, longest: usize) -> &str {
    let mut end = longest.min(value.len());
    while !value.is_char_boundary(end) {
        end -= 1;
    }
    &value[..end]
}

/// `info` is a notice, which `journalctl` shows brighter than what is for debugging.
fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "3",
        Level::WARN => "4",
        Level::INFO => "5",
        Level::DEBUG => "6",
        Level::TRACE => "7",
    }
}
