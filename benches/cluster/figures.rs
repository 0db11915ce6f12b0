//! Figures of many measurements, and their tables.

use std::time::Duration;

/// The median and the largest of these times; zero where there is none.
pub fn median_and_worst(times: &[Duration]) -> (Duration, Duration) {
    let mut sorted = times.to_vec();
    sorted.sort();
    (sorted.get(sorted.len() / 2).copied().unwrap_or_default(), sorted.last().copied().unwrap_or_default())
}

/// The median of these numbers; zero where there is none.
pub fn median(numbers: &[f64]) -> f64 {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

/// The messages with statements in a server's log, of sessions whose name begins with this. The log has the name before
/// each message, with a bar behind it. A message with several statements counts once: it is one round trip.
pub fn statements_of(log: &str, name: &str) -> usize {
    let is_statement = |line: &&str| {
        let Some((session, message)) = line.split_once('|') else { return false };
        session.starts_with(name) && (message.starts_with("LOG:  statement:") || message.starts_with("LOG:  execute "))
    };
    log.lines().filter(is_statement).count()
}

/// A table as Markdown.
pub fn table(heads: &[&str], rows: &[Vec<String>]) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let heads: Vec<String> = heads.iter().map(|head| (*head).to_owned()).collect();
    let rule = format!("|{}\n", "---|".repeat(heads.len()));
    line(&heads) + &rule + &rows.iter().map(|row| line(row)).collect::<String>()
}
