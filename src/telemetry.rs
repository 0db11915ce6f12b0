//! The log: where lines go, how they look, which are written; and what a panic leaves behind.
//!
//! ```text
//! event ─ filter ─▶ record ─ repeats ─▶ text | json | journal
//!         levels    what it is about     the chosen format
//! ```
//!
//! Level, format and the interval of summaries can change while the daemon runs. An operator can set another level for
//! a while; a thread puts the configured one back, and writes the summaries that are due when no event comes.
//!
//! **What is never written.** The HTTP, TLS and object-store crates print headers, bodies and request lines when they
//! are asked for detail, and those carry tokens, signatures and secrets; the store's engine prints records. So these
//! crates are held to warnings, to `info` at level `trace`, and no setting opens them further: a log level must not be
//! a way to read tokens. `ractor` is merely talkative, and is held to warnings unless the level is `trace` or names it.
//!
//! Lines that other crates write through the `log` facade arrive here as well. Their level is set once, at start, to
//! `info`: nothing below it would pass the limits above, and a lower level would cost the store's engine time.

mod journal;
mod json;
mod levels;
mod lines;
mod record;
mod repeats;
mod text;

use std::any::Any;
use std::io::{IsTerminal, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::Duration;

use tracing::Subscriber;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::Registry;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;

use self::journal::Journal;
pub use self::levels::LevelStatus;
use self::levels::Levels;
use self::lines::{LineLayer, Lines};
use self::record::PANIC;
use crate::config::{Log, LogFormat, check_log_level};
use crate::core::model::MonoTime;

/// Why the log cannot be set up or changed.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The level is no level.
    #[error("the level {0}")]
    Level(String),
    /// Another part of the process has set up a log.
    #[error("the log is set up already")]
    Twice,
    /// The log that this handle belongs to is gone.
    #[error("the log cannot be changed any more")]
    Gone,
}

/// A handle on the running log.
#[derive(Clone)]
pub struct Telemetry {
    filter: reload::Handle<Targets, Registry>,
    lines: Arc<Lines>,
}

impl Telemetry {
    /// Sets up the log of the whole process, on standard error or in the journal, and the panic hook.
    pub fn init(log: &Log) -> Result<Telemetry, TelemetryError> {
        // A standard error that is gone must not become a panic on the attempt to say so.
        let sink = |line: &str| drop(std::io::stderr().lock().write_all(line.as_bytes()));
        let lines = Lines::new(Box::new(sink), std::io::stderr().is_terminal(), Journal::find());
        let (subscriber, telemetry) = build(lines);
        // Sets the limit of the `log` facade from the filter in force, which is `info`.
        subscriber.try_init().map_err(|_| TelemetryError::Twice)?;
        telemetry.apply(log)?;
        std::panic::set_hook(Box::new(|info| report_panic(info.location(), info.payload())));
        let keeper = telemetry.clone();
        // Without it, summaries are written with the next event, and a level ends with the next reload.
        if let Err(error) = std::thread::Builder::new().name("log".to_owned()).spawn(move || keeper.keep()) {
            tracing::warn!("log: its thread cannot be started ({error}), summaries come late");
        }
        Ok(telemetry)
    }

    /// Takes over level, format and interval. A level that was set for a while ends. On an error nothing changed.
    pub fn apply(&self, log: &Log) -> Result<(), TelemetryError> {
        self.set_level(&log.level)?;
        self.lines.state().levels = Levels::of(&log.level);
        self.set_format(log.format);
        let summaries = self.lines.state().repeats.set_interval(log.summarize, MonoTime::now());
        self.lines.write_summaries(summaries);
        Ok(())
    }

    /// The level in force.
    pub fn level(&self) -> LevelStatus {
        self.lines.state().levels.status()
    }

    /// Another level for a while: `info`, or `info,pagesyncd::store=debug`. The configured one comes back after this
    /// time, with a reload and with a restart. On an error the level is as it was.
    pub fn set_level_for(&self, level: &str, time: Duration) -> Result<LevelStatus, TelemetryError> {
        self.set_level(level)?;
        let status = {
            let mut state = self.lines.state();
            state.levels.set_temporary(level, MonoTime::now(), time);
            state.levels.status()
        };
        self.lines.wake();
        let time = humantime::format_duration(time);
        tracing::info!(level, "log: the level is {level} for {time}, then the configured one again");
        Ok(status)
    }

    /// The configured level again.
    pub fn reset_level(&self) -> Result<LevelStatus, TelemetryError> {
        let configured = self.lines.state().levels.configured().to_owned();
        self.set_level(&configured)?;
        let was_other = std::mem::replace(&mut self.lines.state().levels, Levels::of(&configured)).ends().is_some();
        if was_other {
            tracing::info!(level = configured, "log: the level is {configured} again, as configured");
        }
        Ok(self.level())
    }

    /// Writes what was counted and not yet summarised.
    pub fn finish(&self) {
        let summaries = self.lines.state().repeats.finish(MonoTime::now());
        self.lines.write_summaries(summaries);
    }

    fn set_level(&self, level: &str) -> Result<(), TelemetryError> {
        check_log_level(level).map_err(TelemetryError::Level)?;
        let filter = levels::filter(level).ok_or_else(|| TelemetryError::Level("is not understood".to_owned()))?;
        self.filter.reload(filter.clone()).map_err(|_| TelemetryError::Gone)?;
        self.lines.state().filter = filter;
        Ok(())
    }

    /// Changes the format. Where there is no journal, the journal's format is text.
    fn set_format(&self, format: LogFormat) {
        let format = match format {
            LogFormat::Auto if stderr_is_the_journal() => LogFormat::Journald,
            LogFormat::Auto => LogFormat::Text,
            given => given,
        };
        if !self.lines.set_format(format) {
            tracing::warn!("log: the systemd journal cannot be reached, logging as text on standard error");
        }
    }

    /// Does what is due, for ever.
    fn keep(&self) {
        loop {
            self.lines.wait();
            self.do_what_is_due(MonoTime::now());
        }
    }

    fn do_what_is_due(&self, now: MonoTime) {
        let (summaries, is_over) = {
            let mut state = self.lines.state();
            (state.repeats.due(now), state.levels.ends().is_some_and(|end| end <= now))
        };
        self.lines.write_summaries(summaries);
        if is_over {
            // Only a log that is gone refuses.
            let _ = self.reset_level();
        }
    }
}

fn build(lines: Lines) -> (impl Subscriber + Send + Sync, Telemetry) {
    let filter = Targets::new().with_default(tracing::level_filters::LevelFilter::INFO);
    let (filter, handle) = reload::Layer::new(filter);
    let lines = Arc::new(lines);
    let subscriber = tracing_subscriber::registry().with(filter).with(LineLayer(lines.clone()));
    (subscriber, Telemetry { filter: handle, lines })
}

/// Does standard error end in the systemd journal? systemd names the stream's device and inode.
fn stderr_is_the_journal() -> bool {
    let Ok(named) = std::env::var("JOURNAL_STREAM") else { return false };
    let Ok(stream) = std::io::stderr().as_fd().try_clone_to_owned() else { return false };
    let Ok(found) = std::fs::File::from(stream).metadata() else { return false };
    named == format!("{}:{}", found.dev(), found.ino())
}

/// Longest panic message written, in characters.
const MAX_PAYLOAD: usize = 500;

fn report_panic(location: Option<&std::panic::Location<'_>>, payload: &(dyn Any + Send)) {
    let location = location.map(ToString::to_string).unwrap_or_else(|| "an unknown place".to_owned());
    let thread = std::thread::current().name().unwrap_or("unnamed").to_owned();
    let payload = panic_text(payload);
    if tracing::dispatcher::has_been_set() {
        tracing::error!(
            target: PANIC,
            %location,
            %thread,
            %payload,
            "panic [{thread}]: panicked at {location}: {payload}"
        );
    } else {
        let _ = writeln!(std::io::stderr(), "panicked at {location} in thread {thread}: {payload}");
    }
}

/// What a panic carries, on one line and not too long.
pub fn panic_text(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("(no text)");
    let mut line = String::new();
    for c in text.chars().take(MAX_PAYLOAD) {
        match c.is_control() {
            true => line.extend(c.escape_default()),
            false => line.push(c),
        }
    }
    if text.chars().nth(MAX_PAYLOAD).is_some() {
        line.push_str("...");
    }
    line
}

#[cfg(test)]
mod tests;
