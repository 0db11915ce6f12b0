//! The file as written: TOML with positions, its sections and leaves matched against the list of keys.
//!
//! The parser recovers from a syntax error and goes on, so that one look shows every mistake. What follows a mistake
//! is judged with care: a key that a broken line swallowed is not reported as missing, and under a broken section
//! header nothing is reported but the header.

use std::collections::{BTreeMap, BTreeSet};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::findings::{Finding, Origin, Position, Report, Severity, shown};
use super::key::Table;
use super::spelling::nearest;

/// Values by dotted name.
pub(super) struct Raw<'a> {
    text: &'a str,
    values: BTreeMap<&'static str, &'a Spanned<DeValue<'a>>>,
}

impl<'a> Raw<'a> {
    /// Matches the document against the list of keys and reports every name that is not on it.
    pub(super) fn gather(table: &Table, text: &'a str, document: &'a DeTable<'a>, report: &mut Report) -> Raw<'a> {
        let mut raw = Raw { text, values: BTreeMap::new() };
        for (name, value) in document.iter() {
            let origin = raw.origin(name.span().start);
            let Some(section) = table.sections.iter().find(|section| **section == name.get_ref().as_ref()) else {
                unknown(table, name.get_ref(), origin, value.get_ref(), report);
                continue;
            };
            let DeValue::Table(keys) = value.get_ref() else {
                no_section(section, value.get_ref(), origin, report);
                continue;
            };
            raw.gather_section(table, section, keys, report);
        }
        raw
    }

    fn gather_section(&mut self, table: &Table, section: &str, keys: &'a DeTable<'a>, report: &mut Report) {
        for (name, value) in keys.iter() {
            let dotted = format!("{section}.{}", name.get_ref());
            let origin = self.origin(name.span().start);
            if let Some(inner) = table.sections.iter().find(|inner| **inner == dotted) {
                match value.get_ref() {
                    DeValue::Table(keys) => self.gather_section(table, inner, keys, report),
                    other => no_section(inner, other, origin, report),
                }
                continue;
            }
            match table.find(&dotted) {
                Some(key) => {
                    report.locate(key.name, origin);
                    self.values.insert(key.name, value);
                }
                None => unknown_key(table, &dotted, origin, report),
            }
        }
    }

    /// The value written for this key.
    pub(super) fn value(&self, name: &str) -> Option<&'a DeValue<'a>> {
        self.values.get(name).map(|value| value.get_ref())
    }

    fn origin(&self, offset: usize) -> Origin {
        Origin::in_file(position(self.text, offset))
    }
}

fn no_section(section: &str, value: &DeValue<'_>, origin: Origin, report: &mut Report) {
    report.locate(section, origin);
    let message = format!("is {}, expected a section", kind_of(value));
    report.error(section, message, format!("write it as a header of its own line: [{section}]"));
}

fn unknown(table: &Table, name: &str, origin: Origin, value: &DeValue<'_>, report: &mut Report) {
    if !matches!(value, DeValue::Table(_)) {
        return unknown_key(table, name, origin, report);
    }
    let near = nearest(name, table.sections.iter().copied()).unwrap_or("http");
    let name = shown(name);
    report.locate(&name, origin);
    report.error(&name, "is not a known section", format!("the nearest known section is [{near}]"));
}

fn unknown_key(table: &Table, dotted: &str, origin: Origin, report: &mut Report) {
    let near = table.nearest_key(dotted);
    let dotted = shown(dotted);
    report.locate(&dotted, origin);
    report.error(&dotted, "is not a known key", format!("the nearest known key is {near}"));
}

/// What a value is, with its article.
pub(super) fn kind_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

/// Syntax errors, and which of the other findings can still be believed.
pub(super) struct Faults {
    lines: BTreeSet<usize>,
    header: bool,
}

impl Faults {
    /// Reports each error by message, line and column; the line itself may hold a secret and is not shown.
    pub(super) fn gather(file: &str, text: &str, errors: &[toml::de::Error], report: &mut Report) -> Faults {
        let mut faults = Faults { lines: BTreeSet::new(), header: false };
        for error in errors {
            let at = position(text, error.span().map_or(0, |span| span.start));
            report.locate(file, Origin::exactly(at));
            let message = format!("is not valid TOML: {}", error.message().replace('\n', ", "));
            report.error(file, message, "mend the line; strings need quotes, tables a [name] line of their own");
            faults.lines.insert(at.line);
            let source = text.lines().nth(at.line - 1).unwrap_or_default();
            faults.header |= source.trim_start().starts_with('[');
        }
        faults
    }

    /// Was the file broken at all?
    pub(super) fn any(&self) -> bool {
        !self.lines.is_empty()
    }

    /// Drops the findings that may only echo a syntax error.
    pub(super) fn quiet_echoes(&self, file: &str, report: &mut Report) {
        if !self.any() {
            return;
        }
        let is_broken = |finding: &Finding| finding.position.is_some_and(|at| self.lines.contains(&at.line));
        report.retain(|finding| {
            let sound = !self.header && finding.severity == Severity::Error && !is_broken(finding);
            finding.key == file || sound
        });
    }
}

/// Line and column of a byte offset.
fn position(text: &str, offset: usize) -> Position {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |tail| tail.chars().count()) + 1;
    Position { line, column }
}

/// The names that a secret's table may hold.
pub(super) const SOURCES: &[&str] = &["credential", "file", "env"];

/// How the secret of this name may be written, for hints.
pub(super) fn example_of(name: &str) -> String {
    // An entry of a list goes by its full name.
    let leaf = name.rsplit_once('.').filter(|_| !name.ends_with(']')).map_or(name, |(_, leaf)| leaf);
    format!("{leaf} = {{ credential = \"...\" }}, {{ file = \"...\" }}, {{ env = \"...\" }} or a string")
}
