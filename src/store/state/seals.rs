//! How many sealed tokens there are under each key: a running count, so that nobody goes through all links to see how
//! far a rotation is.

use std::collections::HashMap;

use crate::store::records::Sealed;
use crate::store::seal::{KeyId, key_id};

/// The counts of one kind of record.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::store) struct Seals {
    /// By key; `None` for what is no seal at all.
    counts: HashMap<Option<KeyId>, usize>,
}

impl Seals {
    /// A sealed token was stored.
    pub(in crate::store) fn add(&mut self, sealed: &Sealed) {
        *self.counts.entry(key_id(&sealed.0).ok()).or_default() += 1;
    }

    /// A sealed token is gone.
    pub(in crate::store) fn remove(&mut self, sealed: &Sealed) {
        let key = key_id(&sealed.0).ok();
        if let Some(count) = self.counts.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&key);
            }
        }
    }

    /// How many are sealed with such a key.
    pub(in crate::store) fn count(&self, wanted: impl Fn(Option<KeyId>) -> bool) -> usize {
        self.counts.iter().filter(|(key, _)| wanted(**key)).map(|(_, count)| count).sum()
    }
}

#[cfg(test)]
impl<'a> FromIterator<&'a Sealed> for Seals {
    /// The counts that a scan finds.
    fn from_iter<I: IntoIterator<Item = &'a Sealed>>(tokens: I) -> Self {
        let mut seals = Seals::default();
        tokens.into_iter().for_each(|sealed| seals.add(sealed));
        seals
    }
}
