//! The text format: the time, the level and the message.
//!
//! A message of this program names its component, its subject, the cause and the next step by itself, because the
//! journal shows nothing else without further options. The fields repeat parts of it for programs, so that the text
//! leaves them out. An event of another crate may keep its point in a field: its target comes first, its fields last.
//!
//! An event is one line. Control characters, which a text from outside may bring along, are escaped.

use std::fmt::{self, Write};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// The targets of this crate begin with its name.
const OWN: &str = "pagesyncd";

/// The field in which the `log` facade hands over the target.
const LOG_TARGET: &str = "log.target";

/// Formats an event as time, level and message.
pub(super) struct MessageAlone;

impl<S, N> FormatEvent<S, N> for MessageAlone
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut parts = Parts::default();
        event.record(&mut parts);
        let (level, colours) = (*event.metadata().level(), writer.has_ansi_escapes());
        if colours {
            writer.write_str("\u{1b}[2m")?;
        }
        if SystemTime.format_time(&mut writer).is_err() {
            writer.write_str("<unknown time>")?;
        }
        match colours {
            true => write!(writer, "\u{1b}[0m \u{1b}[{}m{level:>5}\u{1b}[0m ", colour(level))?,
            false => write!(writer, " {level:>5} ")?,
        }
        let target = parts.log_target.as_deref().unwrap_or(event.metadata().target());
        let own = target.starts_with(OWN);
        if !own {
            write!(writer, "{target}: ")?;
        }
        write_on_one_line(&mut writer, &parts.message)?;
        if !own {
            write_on_one_line(&mut writer, &parts.fields)?;
        }
        writer.write_char('\n')
    }
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

fn write_on_one_line(writer: &mut Writer<'_>, text: &str) -> fmt::Result {
    for c in text.chars() {
        match c.is_control() {
            true => write!(writer, "{}", c.escape_default())?,
            false => writer.write_char(c)?,
        }
    }
    Ok(())
}

/// The parts of an event.
#[derive(Default)]
struct Parts {
    message: String,
    log_target: Option<String>,
    /// ` name=value` for each of the others.
    fields: String,
}

impl Visit for Parts {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.message = value.to_owned(),
            LOG_TARGET => self.log_target = Some(value.to_owned()),
            _ => self.record_debug(field, &value),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing into a `String` does not fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            // The file and the line of a crate's source.
            name if name.starts_with("log.") => Ok(()),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}
