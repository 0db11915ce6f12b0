//! The text format: the time, the level and the message.
//!
//! A message of this program names its component, its subject, the cause and the next step by itself, because the
//! journal shows nothing else without further options. The fields repeat parts of it for programs, so that the text
//! leaves them out. The link and the delivery follow in brackets only where the message does not name them. An event of
//! another crate may keep its point in a field: its target comes first, its fields last.
//!
//! An event is one line. Control characters, which a text from outside may bring along, are escaped.

use std::fmt::{self, Write};

use serde_json::Value;
use tracing::Level;

use super::record::Record;

/// Writes an event as a line.
pub(super) fn write(out: &mut String, time: &str, record: &Record, colours: bool) {
    // Writing into a `String` does not fail.
    let _ = written(out, time, record, colours);
}

fn written(out: &mut String, time: &str, record: &Record, colours: bool) -> fmt::Result {
    let level = record.level;
    match colours {
        true => write!(out, "\u{1b}[2m{time}\u{1b}[0m \u{1b}[{}m{level:>5}\u{1b}[0m ", colour(level))?,
        false => write!(out, "{time} {level:>5} ")?,
    }
    if record.is_own() {
        on_one_line(out, &record.message)?;
        unnamed(out, record)?;
    } else {
        write!(out, "{}: ", record.target)?;
        on_one_line(out, &record.message)?;
        for (name, value) in &record.fields {
            on_one_line(out, &format!(" {name}={}", shown(value)))?;
        }
    }
    out.write_char('\n')
}

/// What the event is about and its message does not say.
fn unnamed(out: &mut String, record: &Record) -> fmt::Result {
    let is_named = |text: &str| record.message.contains(text);
    let link = record.about.link.as_deref();
    let link = link.filter(|link| !is_named(link.split_once(':').map_or(*link, |(_, id)| id)));
    let delivery = record.about.delivery.as_deref().filter(|delivery| !is_named(delivery));
    match (link, delivery) {
        (None, None) => Ok(()),
        (Some(link), None) => write!(out, " [{link}]"),
        (None, Some(delivery)) => write!(out, " [delivery {delivery}]"),
        (Some(link), Some(delivery)) => write!(out, " [{link}, delivery {delivery}]"),
    }
}

/// A field of another crate. A text that was one already is shown as it is.
fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn colour(level: Level) -> u8 {
    match level {
        Level::ERROR => 31,
        Level::WARN => 33,
        Level::INFO => 32,
        Level::DEBUG => 34,
        Level::TRACE => 35,
    }
}

fn on_one_line(out: &mut String, text: &str) -> fmt::Result {
    for c in text.chars() {
        match c.is_control() {
            true => write!(out, "{}", c.escape_default())?,
            false => out.write_char(c)?,
        }
    }
    Ok(())
}
