//! The trees as ordered maps in memory: for tests that drive the store's decisions without a disk.

use std::collections::BTreeMap;

use super::tree::{Tree, Write};

/// One map for each tree.
#[derive(Clone, Default)]
pub(super) struct Maps {
    trees: [BTreeMap<Vec<u8>, Vec<u8>>; Tree::COUNT],
}

impl Maps {
    /// One value.
    pub(super) fn get(&self, tree: Tree, key: &[u8]) -> Option<Vec<u8>> {
        self.trees[tree as usize].get(key).cloned()
    }

    /// Every record of a tree, in the order of the keys.
    pub(super) fn records(&self, tree: Tree) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> {
        self.trees[tree as usize].iter().map(|(key, value)| (key.clone(), value.clone()))
    }

    /// The records of a tree from this key on.
    pub(super) fn records_from(&self, tree: Tree, key: &[u8]) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> + use<'_> {
        self.trees[tree as usize].range(key.to_vec()..).map(|(key, value)| (key.clone(), value.clone()))
    }

    /// Applies writes, all of them or none.
    pub(super) fn apply(&mut self, writes: Vec<Write>) {
        for Write { tree, key, value } in writes {
            let tree = &mut self.trees[tree as usize];
            match value {
                Some(value) => tree.insert(key, value),
                None => tree.remove(&key),
            };
        }
    }
}
