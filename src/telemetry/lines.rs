//! The way of an event to its line: taken in once, counted when it repeats, written in the chosen format.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use tracing::span::{Attributes, Id};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

use super::journal::Journal;
use super::levels::Levels;
use super::record::{About, PANIC, Record, about_span};
use super::repeats::{Repeats, Summary};
use super::{json, text};
use crate::config::LogFormat;
use crate::core::model::MonoTime;

/// Takes a line for standard error, with its end.
type Sink = Box<dyn Fn(&str) + Send + Sync>;

/// What events pass through.
pub(super) struct Lines {
    format: AtomicU8,
    sink: Sink,
    colours: bool,
    journal: Option<Journal>,
    state: Mutex<State>,
    /// Something is due earlier than before.
    earlier: Condvar,
}

/// What changes while events pass.
#[derive(Default)]
pub(super) struct State {
    pub(super) repeats: Repeats,
    pub(super) levels: Levels,
    /// The filter in force.
    pub(super) filter: Targets,
}

impl State {
    /// When an interval or a level ends.
    fn next(&self) -> Option<MonoTime> {
        self.repeats.next().into_iter().chain(self.levels.ends()).min()
    }
}

impl Lines {
    pub(super) fn new(sink: Sink, colours: bool, journal: Option<Journal>) -> Lines {
        let format = AtomicU8::new(number(LogFormat::Text));
        Lines { format, sink, colours, journal, state: Mutex::default(), earlier: Condvar::new() }
    }

    /// Changes the format. `false` where there is no journal for the journal's: that is text then.
    pub(super) fn set_format(&self, format: LogFormat) -> bool {
        let is_lost = format == LogFormat::Journald && self.journal.is_none();
        self.format.store(number(if is_lost { LogFormat::Text } else { format }), Ordering::Relaxed);
        !is_lost
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whoever waits looks again when something is due.
    pub(super) fn wake(&self) {
        self.earlier.notify_all();
    }

    /// Waits until something is due.
    pub(super) fn wait(&self) {
        let mut state = self.state();
        loop {
            let now = MonoTime::now();
            state = match state.next() {
                Some(next) if next <= now => return,
                Some(next) => {
                    let waited = self.earlier.wait_timeout(state, next.since(now));
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.earlier.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// Writes these summaries.
    pub(super) fn write_summaries(&self, summaries: Vec<Summary>) {
        summaries.into_iter().for_each(|summary| self.write(&record_of(summary)));
    }

    fn take(&self, record: Record) {
        if record.target == PANIC {
            return self.write(&record);
        }
        let now = MonoTime::now();
        let mut state = self.state();
        // Detail was asked for, and is given whole.
        if state.filter.would_enable(&record.target, &Level::DEBUG) {
            drop(state);
            return self.write(&record);
        }
        let before = state.next();
        let summaries = state.repeats.due(now);
        let record = state.repeats.take(record, now);
        let is_earlier = before.is_none_or(|before| state.next().is_some_and(|next| next < before));
        drop(state);
        if is_earlier {
            self.wake();
        }
        self.write_summaries(summaries);
        if let Some(record) = record {
            self.write(&record);
        }
    }

    fn write(&self, record: &Record) {
        let format = self.format.load(Ordering::Relaxed);
        if format == number(LogFormat::Journald) {
            if let Some(journal) = &self.journal {
                journal.send(record);
            }
            return;
        }
        let (mut line, mut time) = (String::with_capacity(256), String::new());
        if SystemTime.format_time(&mut Writer::new(&mut time)).is_err() {
            time.replace_range(.., "<unknown time>");
        }
        if format == number(LogFormat::Json) {
            json::write(&mut line, &time, record);
        } else {
            text::write(&mut line, &time, record, self.colours);
        }
        (self.sink)(&line);
    }
}

/// The line of a summary: about the last event, and with its fields.
fn record_of(summary: Summary) -> Record {
    let Summary { count, within, mut last } = summary;
    let message = &last.message;
    last.message = format!("log: {} more like this in {within:.0?}, the last of them: {message}", grouped(count));
    last.fields.push(("repeats", count.into()));
    last
}

/// `1204` as `1,204`.
fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn number(format: LogFormat) -> u8 {
    match format {
        LogFormat::Auto => 0,
        LogFormat::Text => 1,
        LogFormat::Json => 2,
        LogFormat::Journald => 3,
    }
}

/// The layer of the subscriber.
pub(super) struct LineLayer(pub(super) Arc<Lines>);

impl<S> Layer<S> for LineLayer
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let about = about_span(attributes);
        if about != About::default()
            && let Some(span) = context.span(id)
        {
            span.extensions_mut().insert(about);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        self.0.take(Record::of(event, &context));
    }
}
