//! The table: each case beside its yardstick, and the ratios.

use std::fmt::Write as _;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::load::Outcome;

/// Above this share of its core, the load generator limits the throughput and not the server.
const SATURATED: f64 = 0.95;

/// The figures of one server in one case.
#[derive(Debug, Clone)]
pub struct Measure {
    pub per_second: f64,
    /// CPU time of the server for each delivery, in microseconds.
    pub cpu: f64,
    /// The share of a core that the server used.
    pub busy: f64,
    /// The share of a core that the load generator used.
    pub load_busy: f64,
    pub latency: Latency,
    pub unexpected: u64,
}

/// In milliseconds.
#[derive(Debug, Clone, Copy)]
pub struct Latency {
    pub p50: f64,
    pub p99: f64,
    pub max: f64,
}

impl Latency {
    /// Of latencies in microseconds.
    pub fn of(latencies: &Histogram<u64>) -> Latency {
        let at = |quantile| latencies.value_at_quantile(quantile) as f64 / 1000.0;
        Latency { p50: at(0.50), p99: at(0.99), max: latencies.max() as f64 / 1000.0 }
    }
}

impl Measure {
    /// The figures of a load, and the CPU time that the server and the load generator used for it.
    pub fn of(outcome: &Outcome, server: Duration, load: Duration) -> Measure {
        let took = outcome.took.as_secs_f64();
        let deliveries = (outcome.answered + outcome.unexpected) as f64;
        Measure {
            per_second: deliveries / took,
            cpu: server.as_secs_f64() * 1e6 / deliveries,
            busy: server.as_secs_f64() / took,
            load_busy: load.as_secs_f64() / took,
            latency: Latency::of(&outcome.latencies),
            unexpected: outcome.unexpected,
        }
    }
}

/// A finished case.
#[derive(Debug, Clone)]
pub enum Row {
    Compared { case: &'static str, daemon: Measure, yardstick: (&'static str, Measure), target: &'static str },
    Absolute { case: &'static str, latency: Latency },
}

const HEADS: [&str; 12] = [
    "case",
    "server",
    "deliveries/s",
    "CPU µs",
    "core used",
    "p50 ms",
    "p99 ms",
    "max ms",
    "rate ratio",
    "CPU ratio",
    "p99 ratio",
    "target",
];

/// The table as Markdown with aligned columns, and notes below it.
pub fn table(rows: &[Row]) -> String {
    let mut lines: Vec<[String; 12]> = vec![HEADS.map(str::to_owned)];
    for row in rows {
        match row {
            Row::Compared { case, daemon, yardstick: (name, yardstick), target } => {
                lines.push(line(case, name, yardstick, None));
                lines.push(line("", "pagesyncd", daemon, Some((yardstick, target))));
            }
            Row::Absolute { case, latency } => {
                let [p50, p99, max] = shown(latency);
                let dash = || "-".to_owned();
                let (case, server) = ((*case).to_owned(), "pagesyncd".to_owned());
                lines.push([case, server, dash(), dash(), dash(), p50, p99, max, dash(), dash(), dash(), dash()]);
            }
        }
    }
    aligned(&lines) + &rows.iter().map(notes).collect::<String>()
}

fn shown(latency: &Latency) -> [String; 3] {
    [latency.p50, latency.p99, latency.max].map(|value| format!("{value:.2}"))
}

fn line(case: &str, server: &str, measure: &Measure, against: Option<(&Measure, &str)>) -> [String; 12] {
    let ratio = |of: fn(&Measure) -> f64| match against {
        Some((yardstick, _)) if of(yardstick) > 0.0 => format!("{:.2}", of(measure) / of(yardstick)),
        _ => "-".to_owned(),
    };
    let [p50, p99, max] = shown(&measure.latency);
    [
        case.to_owned(),
        server.to_owned(),
        format!("{:.0}", measure.per_second),
        format!("{:.1}", measure.cpu),
        format!("{:.0} %", measure.busy * 100.0),
        p50,
        p99,
        max,
        ratio(|measure| measure.per_second),
        ratio(|measure| measure.cpu),
        ratio(|measure| measure.latency.p99),
        against.map_or("-", |(_, target)| target).to_owned(),
    ]
}

fn aligned(lines: &[[String; 12]]) -> String {
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..12).map(width).collect();
    let mut text = String::new();
    for (number, line) in lines.iter().enumerate() {
        for (cell, width) in line.iter().zip(&widths) {
            // Writing into a string cannot fail.
            let _ = write!(text, "| {cell:<width$} ");
        }
        text.push_str("|\n");
        if number == 0 {
            widths.iter().for_each(|width| text.push_str(&format!("|{}", "-".repeat(width + 2))));
            text.push_str("|\n");
        }
    }
    text
}

/// What a reader must know before trusting a case.
fn notes(row: &Row) -> String {
    let Row::Compared { case, daemon, yardstick: (name, yardstick), .. } = row else { return String::new() };
    let mut text = String::new();
    for (server, measure) in [(*name, yardstick), ("pagesyncd", daemon)] {
        if measure.unexpected > 0 {
            let _ = writeln!(text, "{case}: {server} gave {} answers that are not expected", measure.unexpected);
        }
        if measure.load_busy > SATURATED {
            let share = measure.load_busy * 100.0;
            let _ = writeln!(text, "{case}: the load generator used {share:.0} % of a core and limits {server}");
        }
    }
    text
}
