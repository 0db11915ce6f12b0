//! The top-level fields of an object, each as a short hash: enough to tell which of them changed. Each source decides
//! what counts as a field of its data.

use std::collections::{BTreeMap, BTreeSet};

/// A short hash of each field, by name.
pub type Fields = BTreeMap<String, String>;

/// Which fields differ, those that came and those that went among them; all where nothing is known of before.
pub fn changed(before: Option<&Fields>, now: &Fields) -> BTreeSet<String> {
    let Some(before) = before else { return now.keys().cloned().collect() };
    let names: BTreeSet<&String> = before.keys().chain(now.keys()).collect();
    names.into_iter().filter(|name| before.get(*name) != now.get(*name)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(pairs: &[(&str, &str)]) -> Fields {
        pairs.iter().map(|(name, hash)| ((*name).to_owned(), (*hash).to_owned())).collect()
    }

    #[test]
    fn a_field_that_came_went_or_differs_changed() {
        let (before, now) =
            (fields(&[("a", "1"), ("b", "1"), ("c", "1")]), fields(&[("a", "1"), ("b", "2"), ("d", "1")]));
        assert_eq!(changed(Some(&before), &now), ["b", "c", "d"].map(str::to_owned).into());
        assert_eq!(changed(Some(&now), &now), BTreeSet::new());
        assert_eq!(changed(None, &now), ["a", "b", "d"].map(str::to_owned).into());
    }
}
