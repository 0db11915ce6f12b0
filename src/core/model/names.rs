//! A list of names that many links have alike: fields, permissions.

use std::collections::BTreeSet;
use std::ops::Deref;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The list. It takes the place of a pointer, and none beside that while it is empty. Links that have equal lists may
/// share one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "Vec<String>", into = "Vec<String>")]
pub struct Names(Option<Arc<Vec<String>>>);

impl Names {
    /// Adds names. The list is in order then, and has each name once.
    pub fn add<'a>(&mut self, more: impl IntoIterator<Item = &'a String>) {
        let known = self.iter().cloned();
        let all: BTreeSet<String> = known.chain(more.into_iter().cloned()).collect();
        *self = all.into_iter().collect();
    }

    /// Does another list share this one's memory?
    pub fn is_shared(&self) -> bool {
        self.0.as_ref().is_some_and(|names| Arc::strong_count(names) > 1)
    }
}

impl Deref for Names {
    type Target = [String];

    fn deref(&self) -> &[String] {
        self.0.as_deref().map_or(&[], Vec::as_slice)
    }
}

impl From<Vec<String>> for Names {
    fn from(mut names: Vec<String>) -> Names {
        names.shrink_to_fit();
        Names((!names.is_empty()).then(|| Arc::new(names)))
    }
}

impl From<Names> for Vec<String> {
    fn from(names: Names) -> Vec<String> {
        names.to_vec()
    }
}

impl FromIterator<String> for Names {
    fn from_iter<I: IntoIterator<Item = String>>(names: I) -> Names {
        names.into_iter().collect::<Vec<String>>().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_written_as_one_and_has_each_name_once() {
        let mut names = Names::from(vec!["b".to_owned(), "a".to_owned()]);
        assert_eq!(serde_json::to_string(&names).unwrap(), r#"["b","a"]"#);
        assert_eq!(serde_json::from_str::<Names>(r#"["b","a"]"#).unwrap(), names);
        names.add(&["c".to_owned(), "a".to_owned()]);
        assert_eq!(*names, ["a", "b", "c"]);
        assert!(!names.is_shared());
        let other = names.clone();
        assert!(names.is_shared() && other.is_shared());
        let empty: Names = serde_json::from_str("[]").unwrap();
        assert_eq!((&empty, empty.len()), (&Names::default(), 0));
    }
}
