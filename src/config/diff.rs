//! The changes that a reload makes: the names of the keys, whether they may change in a running process, and the parts
//! concerned. Pure: two configurations in, a list out. Values are compared and never shown.

use std::collections::BTreeSet;

use super::key::Part;
use super::table::Config;

/// The differences between two configurations.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changes {
    /// The dotted names of all keys that differ, in the order of the example file; then those of variables.
    pub keys: Vec<&'static str>,
    /// Those among them that cannot change in a running process. Not empty: the reload is to be refused, by name.
    pub refused: Vec<&'static str>,
    /// The parts that the other keys concern.
    pub parts: BTreeSet<Part>,
}

impl Changes {
    /// Nothing differs.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Do the changes concern this part?
    pub fn touches(&self, part: Part) -> bool {
        self.parts.contains(&part)
    }

    fn note(&mut self, name: &'static str, touches: &[Part]) {
        self.keys.push(name);
        if touches.is_empty() {
            self.refused.push(name);
        }
        self.parts.extend(touches);
    }
}

/// The differences between `old` and `new`.
pub fn diff(old: &Config, new: &Config) -> Changes {
    let mut changes = Changes::default();
    for (name, touches) in old.differing(new) {
        changes.note(name, touches);
        // The database that several daemons share holds them to one bucket.
        if new.store.url.is_some() && matches!(name, "spaces.bucket" | "spaces.endpoint") {
            changes.refused.push(name);
        }
    }
    changes
}
