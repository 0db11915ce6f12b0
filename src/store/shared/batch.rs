//! What one transaction decided, in the bytes that its row in the table `changes` has for the other daemons.
//!
//! A batch is a head, the writes one after another, and a tail in JSON. Numbers are big-endian. The head has the version of
//! this form in one byte and the number of writes in four. A write has its tree in one byte, the length of its key in two
//! and the key, and the length of its value in four and the value. A length of `u32::MAX` removes the record. Values of
//! trees that no memory holds are left out, with the writes: they are read from the database on demand.

use serde::{Deserialize, Serialize};

use crate::core::grant::Ending;
use crate::store::feed::Change;
use crate::store::tree::{Tree, Write};

/// The form that is written.
const VERSION: u8 = 1;
/// In place of a value's length: the record is removed.
const REMOVED: u32 = u32::MAX;

/// What other daemons learn beside the writes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Tail {
    /// Grants and links that were ended.
    #[serde(default)]
    pub endings: Vec<Ending>,
    /// What the decisions published.
    #[serde(default)]
    pub changes: Vec<Change>,
}

/// A batch as it was read.
pub(super) struct Batch {
    pub writes: Vec<Write>,
    pub tail: Tail,
}

/// The bytes are not those of a batch that this version knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a row of the table changes cannot be read; run the same version of pagesyncd everywhere")]
pub(super) struct Unreadable;

/// Does the memory of each daemon hold the records of this tree, or part of them?
fn is_in_memory(tree: Tree) -> bool {
    !matches!(tree, Tree::Bodies | Tree::Sessions | Tree::Fields | Tree::Products | Tree::Catalogues)
}

/// The bytes of a batch.
pub(super) fn encode<'a>(writes: impl Iterator<Item = &'a Write> + Clone, tail: &Tail) -> Vec<u8> {
    let writes = writes.filter(|write| is_in_memory(write.tree));
    let mut bytes = vec![VERSION];
    bytes.extend((writes.clone().count() as u32).to_be_bytes());
    for Write { tree, key, value } in writes {
        bytes.push(*tree as u8);
        // Keys are made of checked ids, far shorter than this.
        bytes.extend((key.len() as u16).to_be_bytes());
        bytes.extend_from_slice(key);
        bytes.extend(value.as_ref().map_or(REMOVED, |value| value.len() as u32).to_be_bytes());
        bytes.extend_from_slice(value.as_deref().unwrap_or_default());
    }
    // Plain structs with string keys; serialising one of them cannot fail.
    bytes.extend(serde_json::to_vec(tail).unwrap_or_default());
    bytes
}

/// The batch of these bytes.
///
/// # Errors
/// [`Unreadable`].
pub(super) fn decode(bytes: &[u8]) -> Result<Batch, Unreadable> {
    let mut rest = bytes;
    if take(&mut rest, 1)? != [VERSION] {
        return Err(Unreadable);
    }
    let count = number(&mut rest)?;
    let mut writes = Vec::new();
    for _ in 0..count {
        let tree = Tree::of(take(&mut rest, 1)?[0]).ok_or(Unreadable)?;
        let len = take(&mut rest, 2)?;
        let key = take(&mut rest, usize::from(u16::from_be_bytes([len[0], len[1]])))?.to_vec();
        let value = match number(&mut rest)? {
            REMOVED => None,
            len => Some(take(&mut rest, len as usize)?.to_vec()),
        };
        writes.push(Write { tree, key, value });
    }
    let tail = serde_json::from_slice(rest).map_err(|_| Unreadable)?;
    Ok(Batch { writes, tail })
}

fn take<'a>(rest: &mut &'a [u8], len: usize) -> Result<&'a [u8], Unreadable> {
    let (taken, left) = rest.split_at_checked(len).ok_or(Unreadable)?;
    *rest = left;
    Ok(taken)
}

fn number(rest: &mut &[u8]) -> Result<u32, Unreadable> {
    take(rest, 4)?.try_into().map(u32::from_be_bytes).map_err(|_| Unreadable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes(most: usize) -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(any::<u8>(), 0..most)
    }

    proptest! {
        #[test]
        fn a_batch_is_read_as_it_was_written(
            writes in prop::collection::vec((0u8..Tree::COUNT as u8, bytes(20), prop::option::of(bytes(40))), 0..9)
        ) {
            let write = |(tree, key, value)| Write { tree: Tree::of(tree).unwrap(), key, value };
            let writes: Vec<Write> = writes.into_iter().map(write).collect();
            let tail = Tail { endings: Vec::new(), changes: vec![Change::Cleanup, Change::Reset] };
            let read = decode(&encode(writes.iter(), &tail)).unwrap();
            let plain = |writes: &[Write]| -> Vec<_> {
                let known = writes.iter().filter(|write| is_in_memory(write.tree));
                known.map(|write| (write.tree, write.key.clone(), write.value.clone())).collect()
            };
            prop_assert_eq!(plain(&read.writes), plain(&writes));
            prop_assert_eq!(read.tail, tail);
        }

        #[test]
        fn bytes_that_are_no_batch_are_refused(bytes in bytes(64)) {
            // No panic, and no memory beyond the bytes that are there.
            let _ = decode(&bytes);
        }
    }
}
