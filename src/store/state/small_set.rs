//! A set that has one element nearly always: the links of a page, the links of a person. One element lies in the set
//! itself, and a tree is made for a second one.

use std::collections::BTreeSet;

/// The set. It is never empty: where the last element goes, the set goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::store) enum SmallSet<T> {
    /// One element.
    One(T),
    /// Two or more.
    #[expect(clippy::box_collection, reason = "a tree's own head would make every set larger")]
    Many(Box<BTreeSet<T>>),
}

impl<T: Ord + Clone> SmallSet<T> {
    /// Adds an element.
    pub(in crate::store) fn insert(&mut self, element: T) {
        match self {
            SmallSet::One(one) if *one == element => {}
            SmallSet::One(one) => *self = SmallSet::Many(Box::new([one.clone(), element].into())),
            SmallSet::Many(many) => drop(many.insert(element)),
        }
    }

    /// Removes an element. Returns whether nothing would be left, in which case the set goes.
    #[must_use]
    pub(in crate::store) fn remove(&mut self, element: &T) -> bool {
        match self {
            SmallSet::One(one) => one == element,
            SmallSet::Many(many) => {
                many.remove(element);
                if let (1, Some(last)) = (many.len(), many.first()) {
                    *self = SmallSet::One(last.clone());
                }
                false
            }
        }
    }

    /// Its elements, in their order.
    pub(in crate::store) fn iter(&self) -> impl Iterator<Item = &T> {
        let (one, many) = match self {
            SmallSet::One(one) => (Some(one), None),
            SmallSet::Many(many) => (None, Some(many.iter())),
        };
        one.into_iter().chain(many.into_iter().flatten())
    }

    /// How many.
    pub(in crate::store) fn len(&self) -> usize {
        match self {
            SmallSet::One(_) => 1,
            SmallSet::Many(many) => many.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// It holds what a tree holds, and goes when that is empty.
        #[test]
        fn it_is_a_set(steps in prop::collection::vec((any::<bool>(), 0u8..4), 1..40)) {
            let (mut set, mut tree) = (None::<SmallSet<u8>>, BTreeSet::new());
            for (inserts, element) in steps {
                if inserts {
                    tree.insert(element);
                    match &mut set {
                        None => set = Some(SmallSet::One(element)),
                        Some(set) => set.insert(element),
                    }
                } else {
                    tree.remove(&element);
                    set.take_if(|set| set.remove(&element));
                }
                let held: Vec<u8> = set.iter().flat_map(SmallSet::iter).copied().collect();
                prop_assert_eq!(&held, &tree.iter().copied().collect::<Vec<_>>());
                prop_assert_eq!(set.as_ref().map_or(0, SmallSet::len), tree.len());
                prop_assert!(!matches!(&set, Some(SmallSet::Many(many)) if many.len() < 2));
            }
        }
    }
}
