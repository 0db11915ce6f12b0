//! The JSON format: one object a line, for programs that collect logs.
//!
//! `timestamp`, `level`, `message` and `target` stand in each; `link`, `user` and `delivery` where the event is about
//! such; then the event's own fields under their names.

use serde::Serializer;
use serde::ser::SerializeMap;

use super::record::Record;

/// The names that every event has, which a field of its own does not take.
const RESERVED: &[&str] = &["timestamp", "level", "message", "target", "link", "user", "delivery"];

/// Writes an event as a line.
pub(super) fn write(out: &mut String, time: &str, record: &Record) {
    let mut line = Vec::with_capacity(256);
    if written(&mut serde_json::Serializer::new(&mut line), time, record).is_ok()
        && let Ok(line) = String::from_utf8(line)
    {
        out.push_str(&line);
        out.push('\n');
    }
}

fn written<S: Serializer>(serializer: S, time: &str, record: &Record) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(None)?;
    map.serialize_entry("timestamp", time)?;
    map.serialize_entry("level", record.level.as_str())?;
    map.serialize_entry("message", &record.message)?;
    map.serialize_entry("target", &record.target)?;
    let about = &record.about;
    for (name, value) in [("link", &about.link), ("user", &about.user), ("delivery", &about.delivery)] {
        if let Some(value) = value {
            map.serialize_entry(name, value)?;
        }
    }
    for (name, value) in record.fields.iter().filter(|(name, _)| !RESERVED.contains(name)) {
        map.serialize_entry(name, value)?;
    }
    map.end()
}
