//! The whole log, from events to lines.

use std::collections::BTreeMap;
use std::os::unix::net::UnixDatagram;
use std::sync::Mutex;

use tracing::Level;

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

/// A log that writes to this page, and to this journal.
fn with_log_and(journal: Option<Journal>, work: impl FnOnce(&Telemetry, &Page)) {
    let page = Page::default();
    let mut writer = page.clone();
    let sink = Mutex::new(move |line: &str| writer.write_all(line.as_bytes()).unwrap());
    let lines = Lines::new(Box::new(move |line| (*sink.lock().unwrap())(line)), false, journal);
    let (subscriber, telemetry) = build(lines);
    tracing::subscriber::with_default(subscriber, || {
        telemetry.apply(&settings("info")).unwrap();
        work(&telemetry, &page);
    });
}

fn with_log(work: impl FnOnce(&Telemetry, &Page)) {
    with_log_and(None, work);
}

fn settings(level: &str) -> Log {
    Log { level: level.to_owned(), format: LogFormat::Text, summarize: Duration::from_secs(60) }
}

const USER: &str = "9f1c0f6e-2b1d-4e6b-8c52-0b6d4a3f7a10";

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
        assert!(matches!(telemetry.set_level("loud"), Err(TelemetryError::Level(_))));
        tracing::trace!("five");
        assert!(page.take().contains("five"));
    });
}

/// The fields of the next datagram, without those of the source.
fn received(socket: &UnixDatagram) -> BTreeMap<String, String> {
    let mut datagram = vec![0; 1 << 20];
    let length = socket.recv(&mut datagram).unwrap();
    let mut rest = &datagram[..length];
    let mut fields = BTreeMap::new();
    while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
        let name = String::from_utf8(rest[..end].to_vec()).unwrap();
        let value = &rest[end + 1..];
        let length = usize::try_from(u64::from_le_bytes(value[..8].try_into().unwrap())).unwrap();
        assert_eq!(value[8 + length], b'\n');
        assert!(fields.insert(name, String::from_utf8(value[8..8 + length].to_vec()).unwrap()).is_none());
        rest = &value[9 + length..];
    }
    fields.retain(|name, _| !name.starts_with("CODE_"));
    fields
}

#[test]
fn the_journal_gets_link_user_and_delivery_under_plain_names() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let socket = UnixDatagram::bind(&path).unwrap();
    let journal = Journal::at(&path).unwrap();
    assert_eq!(socket.recv(&mut [0; 8]).unwrap(), 0);
    with_log_and(Some(journal), |telemetry, page| {
        telemetry.set_format(LogFormat::Journald);
        let link = format!("{USER}/1002");
        tracing::warn!(%link, delivery = "5a2c", count = 7, error = "two\nlines", "page [{link}]: slow");
        let expected = [
            ("MESSAGE", &*format!("page [{link}]: slow")),
            ("PRIORITY", "4"),
            ("SYSLOG_IDENTIFIER", "pagesyncd"),
            ("TARGET", "pagesyncd::telemetry::tests"),
            ("LINK", "facebook:1002"),
            ("USER_UUID", USER),
            ("DELIVERY", "5a2c"),
            ("PAGESYNCD_COUNT", "7"),
            ("PAGESYNCD_ERROR", "two\nlines"),
        ];
        assert_eq!(received(&socket), expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
        // One that no datagram holds arrives all the same, cut.
        tracing::error!(link, "page: {}", "x".repeat(1 << 20));
        let long = received(&socket);
        assert_eq!((long["LINK"].as_str(), long["MESSAGE"].len()), ("facebook:1002", 8 << 10));
        assert_eq!(page.take(), "");
    });
}

#[test]
fn the_format_changes_within_a_span_that_says_what_its_events_are_about() {
    with_log(|telemetry, page| {
        let span = tracing::error_span!("job", link = %format!("{USER}/123"), delivery = "5a2c");
        let _inside = span.enter();
        tracing::info!("one");
        assert!(page.take().ends_with("  INFO one [facebook:123, delivery 5a2c]\n"));
        tracing::info!("page [{USER}/123]: read for 5a2c");
        assert!(page.take().ends_with("/123]: read for 5a2c\n"));
        telemetry.set_format(LogFormat::Json);
        tracing::info!(count = 2, level = 7, "two");
        let mut line: serde_json::Value = serde_json::from_str(&page.take()).unwrap();
        assert!(line["timestamp"].take().as_str().is_some_and(|time| time.ends_with('Z')));
        let expected = serde_json::json!({
            "timestamp": null, "level": "INFO", "message": "two", "target": "pagesyncd::telemetry::tests",
            "link": "facebook:123", "user": USER, "delivery": "5a2c", "count": 2,
        });
        assert_eq!(line, expected);
        telemetry.set_format(LogFormat::Journald);
        let shown = page.take();
        assert!(shown.contains("log: the systemd journal cannot be reached") && !shown.starts_with('{'), "{shown}");
    });
}

#[test]
fn a_storm_is_counted_exactly_unless_detail_is_asked_for() {
    with_log(|telemetry, page| {
        let storm = |target: u8| {
            for n in 0..1000 {
                let link = format!("{USER}/{n}");
                match target {
                    0 => tracing::warn!(target: "pagesyncd::spaces", %link, error = "503", "spaces [{link}]: failed"),
                    _ => tracing::error!(target: PANIC, "panic [main]: {n}"),
                }
            }
        };
        storm(0);
        assert_eq!(page.take().lines().count(), 10);
        // The interval ends without a further event.
        telemetry.do_what_is_due(MonoTime::now().plus(Duration::from_secs(61)));
        let line = page.take();
        let expected = format!("the last of them: spaces [{USER}/999]: failed\n");
        assert!(line.contains("  WARN log: 990 more like this in 61s, ") && line.ends_with(&expected), "{line}");
        // What was counted is written at the end.
        storm(0);
        assert_eq!(page.take(), "");
        telemetry.finish();
        assert!(page.take().contains(" log: 1,000 more like this in "));
        storm(1);
        assert_eq!(page.take().lines().count(), 1000);
        telemetry.set_level("info,pagesyncd::spaces=debug").unwrap();
        storm(0);
        assert_eq!(page.take().lines().count(), 1000);
        telemetry.apply(&Log { summarize: Duration::ZERO, ..settings("info") }).unwrap();
        storm(0);
        assert_eq!(page.take().lines().count(), 1000);
    });
}

#[test]
fn a_level_for_a_while_ends_by_itself_with_a_reload_and_on_demand() {
    with_log(|telemetry, page| {
        let hears = || {
            tracing::debug!(target: "pagesyncd::store", "detail");
            page.take().contains("detail")
        };
        let (set, minute) =
            (|| telemetry.set_level_for("warn,pagesyncd::store=debug", Duration::from_secs(60)).unwrap(), 60_000);
        let status = set();
        assert!(status.until.is_some_and(|until| until.0.abs_diff(crate::core::model::WallTime::now().0) <= minute));
        assert_eq!((status.level.as_str(), status.configured.as_str()), ("warn,pagesyncd::store=debug", "info"));
        assert!(hears());
        telemetry.do_what_is_due(MonoTime::now().plus(Duration::from_secs(61)));
        assert!(page.take().contains("log: the level is info again, as configured") && !hears());
        set();
        telemetry.apply(&settings("info")).unwrap();
        assert!(!hears() && telemetry.level().until.is_none());
        set();
        assert_eq!(telemetry.reset_level().unwrap().level, "info");
        assert!(!hears());
        let refused =
            telemetry.set_level_for("info,pagesyncd::stor=debug", Duration::from_secs(60)).unwrap_err().to_string();
        assert!(
            refused.contains("pagesyncd::stor,") && refused.ends_with("the nearest is pagesyncd::store"),
            "{refused}"
        );
        telemetry.set_level_for("info,reqwest=trace", Duration::from_secs(60)).unwrap();
        page.take();
        tracing::debug!(target: "reqwest::connect", "SECRET");
        assert_eq!(page.take(), "");
    });
}

#[test]
fn text_shows_the_message_and_no_field_twice() {
    with_log(|_, page| {
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
        assert!(line.ends_with("  WARN hyper::proto: cut off peer=7 from=x\n"), "{line}");
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
    let enables = |level, target, wanted| levels::filter(level).unwrap().would_enable(target, wanted);
    assert!(!enables("off", "hyper::proto", &Level::ERROR) && !enables("error", "ractor", &Level::WARN));
    assert!(enables("error", "ractor", &Level::ERROR) && levels::filter("loud").is_none());
}

#[test]
fn a_panic_is_one_line() {
    with_log(|_, page| {
        let payload: Box<dyn Any + Send> = Box::new(format!("broken\n{}", "x".repeat(600)));
        report_panic(Some(std::panic::Location::caller()), payload.as_ref());
        let line = page.take();
        assert_eq!(line.lines().count(), 1, "{line}");
        assert!(line.contains("ERROR panic [") && line.contains(": broken\\nx"), "{line}");
        assert!(line.contains("telemetry/tests.rs") && line.contains("a_panic_is_one_line") && line.contains("..."));
    });
    assert_eq!(panic_text(&17), "(no text)");
    assert_eq!(panic_text(&"plain, isn't it?"), "plain, isn't it?");
}
