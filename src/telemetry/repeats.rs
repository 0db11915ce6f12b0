//! Repeats: an event of the same kind is written a few times and then counted, and one summary at intervals says how
//! many there were and which was the last.
//!
//! When Spaces is away, ten thousand links fail for one reason. The first lines of a kind are written as they come. The
//! rest of the interval is counted, and its end writes the count. While the storm lasts, each further interval is one
//! summary. An interval without any such event ends it, and the next event is written again. So nothing is lost without
//! a count, and the log is bounded by kinds of events, not by links or by traffic.
//!
//! A *kind* is the call site together with the error or the reason that the event gives, without the numbers
//! and ids in it. Time is an argument here.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use tracing::Level;

use super::record::Record;
use crate::core::model::MonoTime;

/// Warnings and errors of a kind that are written in an interval.
const FEW: u32 = 10;
/// The same of lines that report normal work, each of which is about another thing.
const MANY: u32 = 300;
/// Kinds that are distinguished by their errors. Further ones are distinguished by their call site alone.
const MAX_KINDS: usize = 256;

/// What is to be written in place of events that were only counted.
#[derive(Debug)]
pub(super) struct Summary {
    /// How many there were.
    pub(super) count: u64,
    /// In how much time.
    pub(super) within: Duration,
    /// The last of them.
    pub(super) last: Record,
}

struct Kind {
    since: MonoTime,
    /// How many of this interval are written.
    limit: u32,
    written: u32,
    counted: u64,
    last: Option<Record>,
}

/// The kinds of events that were seen within an interval.
#[derive(Default)]
pub(super) struct Repeats {
    /// Zero: every event is written.
    every: Duration,
    kinds: HashMap<u64, Kind>,
    /// No interval ends before.
    next: Option<MonoTime>,
}

impl Repeats {
    /// Changes the interval. What was counted until now is summarised.
    pub(super) fn set_interval(&mut self, every: Duration, now: MonoTime) -> Vec<Summary> {
        let left = if self.every == every { Vec::new() } else { self.finish(now) };
        self.every = every;
        left
    }

    /// Takes an event. Returns it when it is to be written.
    pub(super) fn take(&mut self, record: Record, now: MonoTime) -> Option<Record> {
        if self.every.is_zero() {
            return Some(record);
        }
        let mut key = key_of(&record, true);
        if self.kinds.len() >= MAX_KINDS && !self.kinds.contains_key(&key) {
            key = key_of(&record, false);
        }
        let limit = if record.level <= Level::WARN { FEW } else { MANY };
        let kind = self.kinds.entry(key).or_insert(Kind { since: now, limit, written: 0, counted: 0, last: None });
        let end = kind.since.plus(self.every);
        self.next = Some(self.next.map_or(end, |next| next.min(end)));
        if kind.written < kind.limit {
            kind.written += 1;
            return Some(record);
        }
        kind.counted += 1;
        kind.last = Some(record);
        None
    }

    /// When the next interval ends.
    pub(super) fn next(&self) -> Option<MonoTime> {
        self.next
    }

    /// The summaries of the intervals that are over.
    pub(super) fn due(&mut self, now: MonoTime) -> Vec<Summary> {
        if self.next.is_none_or(|next| next > now) {
            return Vec::new();
        }
        let mut summaries = Vec::new();
        let every = self.every;
        self.kinds.retain(|_, kind| {
            if kind.since.plus(every) > now {
                return true;
            }
            let summary = summary_of(kind, now);
            // Of the next interval nothing is written but its summary.
            (kind.since, kind.limit) = (now, 0);
            let goes_on = summary.is_some();
            summaries.extend(summary);
            goes_on
        });
        self.next = self.kinds.values().map(|kind| kind.since.plus(every)).min();
        summaries
    }

    /// The summaries of all that was counted: the log ends, or begins anew.
    pub(super) fn finish(&mut self, now: MonoTime) -> Vec<Summary> {
        self.next = None;
        self.kinds.drain().filter_map(|(_, mut kind)| summary_of(&mut kind, now)).collect()
    }
}

fn summary_of(kind: &mut Kind, now: MonoTime) -> Option<Summary> {
    let last = kind.last.take()?;
    Some(Summary { count: std::mem::take(&mut kind.counted), within: now.since(kind.since), last })
}

/// The kind of an event. A collision would cost a line that is counted instead of written.
fn key_of(record: &Record, with_error: bool) -> u64 {
    let mut hasher = DefaultHasher::new();
    (record.level.as_str(), &record.target, &record.file, record.line).hash(&mut hasher);
    if with_error {
        let error = record.text("error").or_else(|| record.text("reason"));
        // An event without either, or of another crate, may have its point in the message.
        let text = error.or_else(|| (!record.is_own()).then_some(record.message.as_str())).unwrap_or_default();
        let words = text.split(|c: char| !c.is_alphanumeric());
        words.filter(|word| !word.bytes().any(|b| b.is_ascii_digit())).for_each(|word| word.hash(&mut hasher));
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::super::record::About;
    use super::*;

    const EVERY: Duration = Duration::from_secs(60);

    fn at(secs: u64) -> MonoTime {
        MonoTime(secs * 1000)
    }

    fn event(level: Level, line: u32, error: &str, link: &str) -> Record {
        Record {
            level,
            target: "pagesyncd::spaces".to_owned(),
            file: Some("src/spaces.rs".to_owned()),
            line: Some(line),
            message: format!("spaces [{link}]: the write failed ({error}), retrying later"),
            about: About { link: Some(link.to_owned()), ..About::default() },
            fields: vec![("error", error.into())],
        }
    }

    fn repeats() -> Repeats {
        let mut repeats = Repeats::default();
        assert!(repeats.set_interval(EVERY, at(0)).is_empty());
        repeats
    }

    /// How many of these are written at once.
    fn written(repeats: &mut Repeats, now: MonoTime, events: impl IntoIterator<Item = Record>) -> usize {
        events.into_iter().filter_map(|event| repeats.take(event, now)).count()
    }

    #[test]
    fn an_outage_of_ten_thousand_links_is_ten_lines_and_one_summary_an_interval_with_exact_counts() {
        let mut repeats = repeats();
        let outage =
            || (0..10_000).map(|n| event(Level::WARN, 7, &format!("503 for key {n:x}f0"), &format!("facebook:{n}")));
        assert_eq!(written(&mut repeats, at(1), outage()), FEW as usize);
        assert!(repeats.due(at(60)).is_empty());
        let summaries = repeats.due(at(61));
        assert_eq!((summaries.len(), summaries[0].count, summaries[0].within), (1, 9_990, EVERY));
        assert_eq!(summaries[0].last.about.link.as_deref(), Some("facebook:9999"));
        // It lasts: the further intervals have their summary alone.
        assert_eq!(written(&mut repeats, at(70), outage()), 0);
        assert_eq!(repeats.due(at(121))[0].count, 10_000);
        // It is over: an interval passes without it, and the next one is written again.
        assert!(repeats.due(at(181)).is_empty() && repeats.next().is_none());
        assert_eq!(written(&mut repeats, at(182), outage().take(1)), 1);
    }

    #[test]
    fn other_places_errors_and_levels_are_kinds_of_their_own() {
        let mut repeats = repeats();
        let storm = |line, error: &str| {
            (0..50).map(move |n| event(Level::ERROR, line, error, &format!("facebook:{n}"))).collect::<Vec<_>>()
        };
        for (line, error) in [(1, "timed out"), (2, "timed out"), (1, "connection refused")] {
            assert_eq!(written(&mut repeats, at(1), storm(line, error)), FEW as usize, "{line} {error}");
        }
        let work = (0..1000).map(|n| event(Level::INFO, 9, "", &format!("facebook:{n}")));
        assert_eq!(written(&mut repeats, at(1), work), MANY as usize);
        let mut counts: Vec<u64> = repeats.finish(at(2)).iter().map(|summary| summary.count).collect();
        counts.sort_unstable();
        assert_eq!(counts, [40, 40, 40, 700]);
        assert!(repeats.finish(at(2)).is_empty());
    }

    #[test]
    fn memory_is_bounded_however_many_errors_differ_and_a_first_event_of_a_place_is_written() {
        let mut repeats = repeats();
        let word = |n: usize| [n / 676 % 26, n / 26 % 26, n % 26].map(|n| char::from(b'a' + u8::try_from(n).unwrap()));
        let errors = (0..5000).map(|n| event(Level::WARN, 1, &String::from_iter(word(n)), "facebook:1"));
        let lines = written(&mut repeats, at(1), errors);
        assert!(repeats.kinds.len() <= MAX_KINDS + 1);
        assert_eq!(written(&mut repeats, at(1), [event(Level::ERROR, 2, "new", "facebook:1")]), 1);
        let counted: u64 = repeats.finish(at(2)).iter().map(|summary| summary.count).sum();
        assert_eq!(lines as u64 + counted, 5000);
    }

    #[test]
    fn an_interval_of_zero_writes_all_and_a_change_summarises_what_was_counted() {
        let mut repeats = repeats();
        let storm = || (0..50).map(|_| event(Level::WARN, 1, "away", "facebook:1"));
        assert_eq!(written(&mut repeats, at(1), storm()), FEW as usize);
        assert_eq!(repeats.set_interval(Duration::ZERO, at(3))[0].count, 40);
        assert_eq!(written(&mut repeats, at(4), storm()), 50);
    }
}
