//! The log: where lines go, how they look, which are written; and what a panic leaves behind.
//!
//! Level and format can change while the daemon runs. All formats are installed side by side, each behind a gate, and
//! only the gate of the chosen one lets events through. Spans pass every gate, because a format finds in a span only
//! what it put there itself: one that had not seen a span begin would have no fields to show for it.
//!
//! **What is never written.** The HTTP, TLS and object-store crates print headers, bodies and request lines when they
//! are asked for detail, and those carry tokens, signatures and secrets; the store's engine prints records. So these
//! crates are held to warnings, to `info` at level `trace`, and no setting opens them further: a log level must not be
//! a way to read tokens. `ractor` is merely talkative, and is held to warnings unless the level is `trace` or names it.
//!
//! Lines that other crates write through the `log` facade arrive here as well. Their level is set once, at start, to
//! `info`: nothing below it would pass the limits above, and a lower level would cost the store's engine time.

mod text;

use std::any::Any;
use std::io::{IsTerminal, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::{LookupSpan, Registry};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, reload};

use crate::config::{Log, LogFormat};

/// Crates whose detail holds secrets or records. A name covers every target that begins with it.
const CLOSED: &[&str] = &[
    "awscreds",
    "h2",
    "hyper",
    "reqwest",
    "rustls",
    "s3",
    "sled",
    "tokio_postgres",
    "tokio_rustls",
    "tower",
    "tungstenite",
];

/// Crates that talk too much to be heard below a warning.
const TALKATIVE: &[&str] = &["ractor"];

/// Why the log cannot be set up or changed.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The level is no level.
    #[error("log.level is not understood; write a level such as info, or info,pagesyncd::store=debug")]
    Level,
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
    filter: reload::Handle<EnvFilter, Registry>,
    chosen: Arc<AtomicU8>,
    journal: bool,
}

impl Telemetry {
    /// Sets up the log of the whole process, on standard error or in the journal, and the panic hook.
    pub fn init(log: &Log) -> Result<Telemetry, TelemetryError> {
        let journal = tracing_journald::layer().ok();
        let (subscriber, telemetry) = build(std::io::stderr, std::io::stderr().is_terminal(), journal);
        // Sets the limit of the `log` facade from the filter in force, which is `info`.
        subscriber.try_init().map_err(|_| TelemetryError::Twice)?;
        telemetry.apply(log)?;
        std::panic::set_hook(Box::new(|info| report_panic(info.location(), info.payload())));
        Ok(telemetry)
    }

    /// Takes over level and format. On an error nothing changed.
    pub fn apply(&self, log: &Log) -> Result<(), TelemetryError> {
        self.set_level(&log.level)?;
        self.set_format(log.format);
        Ok(())
    }

    /// Changes the level: `info`, or `info,pagesyncd::store=debug`. On an error the level is as it was.
    pub fn set_level(&self, level: &str) -> Result<(), TelemetryError> {
        let filter = EnvFilter::try_new(directives(level)?).map_err(|_| TelemetryError::Level)?;
        self.filter.reload(filter).map_err(|_| TelemetryError::Gone)
    }

    /// Changes the format. Where there is no journal, the journal's format is text.
    pub fn set_format(&self, format: LogFormat) {
        let format = match format {
            LogFormat::Auto if stderr_is_the_journal() => LogFormat::Journald,
            LogFormat::Auto => LogFormat::Text,
            given => given,
        };
        let lost = format == LogFormat::Journald && !self.journal;
        self.chosen.store(number(if lost { LogFormat::Text } else { format }), Ordering::Relaxed);
        if lost {
            tracing::warn!("log: the systemd journal cannot be reached, logging as text on standard error");
        }
    }
}

fn build<W>(
    writer: W,
    colours: bool,
    journal: Option<tracing_journald::Layer>,
) -> (impl Subscriber + Send + Sync, Telemetry)
where
    W: for<'w> MakeWriter<'w> + Clone + Send + Sync + 'static,
{
    let (filter, handle) = reload::Layer::new(EnvFilter::new("info"));
    let chosen = Arc::new(AtomicU8::new(number(LogFormat::Text)));
    let telemetry = Telemetry { filter: handle, chosen: chosen.clone(), journal: journal.is_some() };
    let gate = |format| (chosen.clone(), number(format));
    // A standard error that is gone must not become a panic on the attempt to say so.
    let text = tracing_subscriber::fmt::layer().with_ansi(colours).log_internal_errors(false);
    let text = text.event_format(text::MessageAlone);
    let json = tracing_subscriber::fmt::layer().json().flatten_event(true).log_internal_errors(false);
    let journal = journal.map(|layer| {
        let layer = layer.with_syslog_identifier("pagesyncd".to_owned());
        Gate::new(gate(LogFormat::Journald), layer.with_field_prefix(Some("PAGESYNCD".to_owned())))
    });
    let subscriber = tracing_subscriber::registry()
        .with(filter)
        .with(Gate::new(gate(LogFormat::Text), text.with_writer(writer.clone())))
        .with(Gate::new(gate(LogFormat::Json), json.with_writer(writer)))
        .with(journal);
    (subscriber, telemetry)
}

fn number(format: LogFormat) -> u8 {
    match format {
        LogFormat::Auto => 0,
        LogFormat::Text => 1,
        LogFormat::Json => 2,
        LogFormat::Journald => 3,
    }
}

/// One format. Spans pass always, events when the format is the chosen one.
struct Gate<L> {
    chosen: Arc<AtomicU8>,
    mine: u8,
    inner: L,
}

impl<L> Gate<L> {
    fn new((chosen, mine): (Arc<AtomicU8>, u8), inner: L) -> Self {
        Gate { chosen, mine, inner }
    }
}

impl<S, L> Layer<S> for Gate<L>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    L: Layer<S>,
{
    fn on_new_span(&self, attrs: &Attributes<'_>, id: &Id, ctx: Context<'_, S>) {
        self.inner.on_new_span(attrs, id, ctx);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, ctx: Context<'_, S>) {
        self.inner.on_record(id, values, ctx);
    }

    fn on_event(&self, event: &Event<'_>, ctx: Context<'_, S>) {
        if self.chosen.load(Ordering::Relaxed) == self.mine {
            self.inner.on_event(event, ctx);
        }
    }
}

/// The filter for a configured level: what was asked for, within the limits that the module head explains.
fn directives(level: &str) -> Result<String, TelemetryError> {
    let mut base = LevelFilter::INFO;
    let mut named = Vec::new();
    for part in level.split(',').map(str::trim) {
        let (target, word) = part.rsplit_once('=').map_or((None, part), |(target, word)| (Some(target), word));
        let wanted: LevelFilter = word.parse().map_err(|_| TelemetryError::Level)?;
        match target {
            Some(target) => named.push((target, wanted)),
            None => base = wanted,
        }
    }
    let everything = base == LevelFilter::TRACE;
    let limit = |most: LevelFilter| base.min(most);
    let closed = limit(if everything { LevelFilter::INFO } else { LevelFilter::WARN });
    let talkative = if everything { base } else { limit(LevelFilter::WARN) };
    let mut all = vec![base.to_string()];
    all.extend(CLOSED.iter().map(|target| format!("{target}={closed}")));
    all.extend(TALKATIVE.iter().map(|target| format!("{target}={talkative}")));
    // Behind the limits, so that a name given by hand replaces them; never beyond `info` for what is closed.
    all.extend(named.into_iter().map(|(target, wanted)| {
        let within = if is_closed(target) { wanted.min(LevelFilter::INFO) } else { wanted };
        format!("{target}={within}")
    }));
    Ok(all.join(","))
}

fn is_closed(target: &str) -> bool {
    CLOSED.iter().any(|name| target.starts_with(name))
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
            target: "pagesyncd::panic",
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
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// What was written.
    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl Page {
        fn take(&self) -> String {
            String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap()
        }
    }

    fn with_log(work: impl FnOnce(&Telemetry, &Page)) {
        let page = Page::default();
        let writer = page.clone();
        let (subscriber, telemetry) = build(move || writer.clone(), false, None);
        tracing::subscriber::with_default(subscriber, || work(&telemetry, &page));
    }

    #[test]
    fn the_level_changes_while_running() {
        with_log(|telemetry, page| {
            tracing::debug!("one");
            assert_eq!(page.take(), "");
            telemetry.set_level("debug").unwrap();
            tracing::debug!("two");
            assert!(page.take().contains("two"));
            telemetry.set_level("warn,pagesyncd::telemetry=trace").unwrap();
            tracing::trace!("three");
            tracing::info!(target: "pagesyncd::http", "four");
            let shown = page.take();
            assert!(shown.contains("three") && !shown.contains("four"), "{shown}");
            assert!(matches!(telemetry.set_level("loud"), Err(TelemetryError::Level)));
            tracing::trace!("five");
            assert!(page.take().contains("five"));
        });
    }

    #[test]
    fn the_format_changes_within_a_span() {
        with_log(|telemetry, page| {
            let span = tracing::info_span!("read", page = "123");
            let _inside = span.enter();
            tracing::info!("one");
            assert!(page.take().ends_with("  INFO one\n"));
            telemetry.set_format(LogFormat::Json);
            tracing::info!(count = 2, "two");
            let line: serde_json::Value = serde_json::from_str(&page.take()).unwrap();
            assert_eq!((&line["message"], &line["count"]), (&"two".into(), &2.into()));
            assert_eq!((&line["span"]["page"], &line["level"]), (&"123".into(), &"INFO".into()));
            telemetry.set_format(LogFormat::Journald);
            let shown = page.take();
            assert!(shown.contains("log: the systemd journal cannot be reached") && !shown.starts_with('{'), "{shown}");
        });
    }

    #[test]
    fn text_shows_the_message_and_no_field_twice() {
        with_log(|_, page| {
            let span = tracing::info_span!("read", page = "123");
            let _inside = span.enter();
            tracing::warn!(link = "u/123", error = "busy", "page [u/123]: the read failed (busy), retrying in 4s");
            let line = page.take();
            assert!(line.ends_with("  WARN page [u/123]: the read failed (busy), retrying in 4s\n"), "{line}");
            // A text from outside begins no event of its own.
            tracing::info!("login: refused ({})", "a\nb\u{1b}[0m");
            let line = page.take();
            assert!(line.ends_with("  INFO login: refused (a\\nb\\u{1b}[0m)\n"), "{line}");
        });
    }

    #[test]
    fn other_crates_keep_their_target_and_their_fields() {
        with_log(|_, page| {
            tracing::warn!(target: "hyper::proto", peer = 7, from = "x", "cut off");
            let line = page.take();
            assert!(line.ends_with("  WARN hyper::proto: cut off peer=7 from=\"x\"\n"), "{line}");
        });
    }

    #[test]
    fn no_level_opens_what_carries_tokens() {
        with_log(|telemetry, page| {
            for level in ["trace", "debug,hyper=trace", "info,reqwest::connect=debug,s3=trace,sled::pagecache=trace"] {
                telemetry.set_level(level).unwrap();
                tracing::debug!(target: "hyper::proto::h1", "SECRET");
                tracing::debug!(target: "hyper_util::client", "SECRET");
                tracing::debug!(target: "h2::codec", "SECRET");
                tracing::debug!(target: "reqwest::connect", "SECRET");
                tracing::debug!(target: "rustls::client::hs", "SECRET");
                tracing::debug!(target: "s3::request", "SECRET");
                tracing::debug!(target: "s3s::ops", "SECRET");
                tracing::debug!(target: "sled::pagecache", "SECRET");
                assert_eq!(page.take(), "", "{level}");
                tracing::warn!(target: "hyper::proto::h1", "plain");
                assert!(page.take().contains("plain"), "{level}");
            }
        });
    }

    #[test]
    fn talkative_crates_are_heard_on_request() {
        with_log(|telemetry, page| {
            for (level, heard) in [("info", false), ("debug", false), ("trace", true), ("info,ractor=debug", true)] {
                telemetry.set_level(level).unwrap();
                tracing::debug!(target: "ractor::actor", "spawned");
                assert_eq!(page.take().contains("spawned"), heard, "{level}");
            }
        });
        assert!(directives("off").unwrap().contains("hyper=off"));
        assert!(directives("error").unwrap().contains("ractor=error"));
    }

    #[test]
    fn a_panic_is_one_line() {
        with_log(|_, page| {
            let payload: Box<dyn Any + Send> = Box::new(format!("broken\n{}", "x".repeat(600)));
            report_panic(Some(std::panic::Location::caller()), payload.as_ref());
            let line = page.take();
            assert_eq!(line.lines().count(), 1, "{line}");
            assert!(line.contains("ERROR panic [") && line.contains(": broken\\nx"), "{line}");
            assert!(line.contains("telemetry.rs") && line.contains("a_panic_is_one_line") && line.contains("..."));
        });
        assert_eq!(panic_text(&17), "(no text)");
        assert_eq!(panic_text(&"plain, isn't it?"), "plain, isn't it?");
    }
}
