//! What is wrong, or odd, about a configuration: each finding names its key and says what to do. A finding never
//! quotes the value of a key that may hold a secret, nor a line of the file.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Does the finding stop the program?
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The configuration cannot be used.
    Error,
    /// It can be used, and is probably not what was meant.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
        })
    }
}

/// Line and column in the file, both from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The column, in characters.
    pub column: usize,
}

/// Where a value comes from.
#[derive(Debug, Clone, Default)]
pub(super) struct Origin {
    /// In words.
    text: String,
    /// In the file.
    position: Option<Position>,
}

impl Origin {
    /// A key or a section of the file.
    pub(super) fn in_file(position: Position) -> Origin {
        Origin { text: format!("line {}", position.line), position: Some(position) }
    }

    /// A mistake that one finds by its column alone.
    pub(super) fn exactly(position: Position) -> Origin {
        let Position { line, column } = position;
        Origin { text: format!("line {line}, column {column}"), position: Some(position) }
    }

    /// An environment variable.
    pub(super) fn variable(name: &str) -> Origin {
        Origin { text: format!("{name} in the environment"), position: None }
    }
}

/// One thing to know about the configuration. Prints as two lines: what, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Error or warning.
    pub severity: Severity,
    /// The full dotted name of the key, or the path of the file when no key can be named.
    pub key: String,
    /// Where the value stands: `line 12`, or the environment variable that gave it. Empty when it stands nowhere.
    pub place: String,
    /// The same for a program, where it stands in the file.
    pub position: Option<Position>,
    /// What is wrong: lowercase, without a full stop, to be read after the key.
    pub message: String,
    /// What to do about it.
    pub hint: String,
}

impl Finding {
    /// An error that stands at no line.
    pub(super) fn error(key: &str, message: String, hint: &str) -> Finding {
        let (key, hint) = (key.to_owned(), hint.to_owned());
        Finding { severity: Severity::Error, key, place: String::new(), position: None, message, hint }
    }

    /// The first line alone, for a log or a status line.
    pub fn headline(&self) -> String {
        if self.place.is_empty() {
            return format!("{}: {}", self.key, self.message);
        }
        format!("{} ({}): {}", self.key, self.place, self.message)
    }

    /// The mistake and the remedy on one line, to be read after the key.
    pub fn advice(&self) -> String {
        let place = if self.place.is_empty() { String::new() } else { format!(" ({})", self.place) };
        let hint = if self.hint.is_empty() { String::new() } else { format!("; {}", self.hint) };
        format!("{}{place}{hint}", self.message)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}\n  hint: {}", self.severity, self.headline(), self.hint)
    }
}

/// Everything found in a configuration that cannot be used: at least one error, and the warnings as well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Findings(pub Vec<Finding>);

impl Findings {
    /// The findings that stop the program.
    pub fn errors(&self) -> impl Iterator<Item = &Finding> {
        self.0.iter().filter(|finding| finding.severity == Severity::Error)
    }

    /// All of it on one line, for `systemctl status` and the like: the first error, and how many more there are.
    pub fn summary(&self) -> String {
        let mut errors = self.errors();
        let first = errors.next().map(Finding::headline).unwrap_or_default();
        match errors.count() {
            0 => first,
            more => format!("{first} (and {more} more)"),
        }
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, finding) in self.0.iter().enumerate() {
            if n > 0 {
                f.write_str("\n")?;
            }
            finding.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Findings {}

/// Collects while the configuration is read, and knows where each key stands.
#[derive(Debug, Default)]
pub(super) struct Report {
    found: Vec<Finding>,
    origins: BTreeMap<String, Origin>,
    refused: BTreeSet<String>,
}

impl Report {
    /// Remembers where a key stands; findings about it, and about what lies under it, carry the place.
    pub(super) fn locate(&mut self, key: &str, origin: Origin) {
        self.origins.insert(key.to_owned(), origin);
    }

    pub(super) fn error(&mut self, key: &str, message: impl Into<String>, hint: impl Into<String>) {
        self.push(Severity::Error, key, message.into(), hint.into());
    }

    pub(super) fn warning(&mut self, key: &str, message: impl Into<String>, hint: impl Into<String>) {
        self.push(Severity::Warning, key, message.into(), hint.into());
    }

    /// Reading is over. What was refused stands in as something empty from here on, and nothing more is said of it.
    pub(super) fn reading_is_over(&mut self) {
        let errors = self.found.iter().filter(|finding| finding.severity == Severity::Error);
        self.refused = errors.filter_map(|finding| finding.key.split('[').next().map(str::to_owned)).collect();
    }

    fn push(&mut self, severity: Severity, key: &str, message: String, hint: String) {
        if key.split('[').next().is_some_and(|key| self.refused.contains(key)) {
            return;
        }
        let Origin { text: place, position } = self.origin(key).unwrap_or_default();
        self.found.push(Finding { severity, key: key.to_owned(), place, position, message, hint });
    }

    fn origin(&self, key: &str) -> Option<Origin> {
        let parents = key.rmatch_indices(['.', '[']).map(|(end, _)| end);
        [key.len()].into_iter().chain(parents).find_map(|end| self.origins.get(&key[..end])).cloned()
    }

    /// Drops what `keep` refuses.
    pub(super) fn retain(&mut self, keep: impl FnMut(&Finding) -> bool) {
        self.found.retain(keep);
    }

    /// Errors first, otherwise in the order of discovery.
    pub(super) fn finish(mut self) -> Result<Vec<Finding>, Findings> {
        self.found.sort_by_key(|finding| finding.severity);
        let sound = self.found.iter().all(|finding| finding.severity == Severity::Warning);
        if sound { Ok(self.found) } else { Err(Findings(self.found)) }
    }
}

/// Text from outside made fit for a message: control characters escaped, cut after 60 characters.
pub(super) fn shown(text: &str) -> String {
    let mut short: String = text.chars().take(60).flat_map(char::escape_debug).collect();
    if text.chars().count() > 60 {
        short.push_str("...");
    }
    short
}
