//! The form of every value on disk: a version byte, a CRC-32 of the payload, the payload.
//!
//! sled checks its own pages, but a record can still be damaged inside one that a rebuild or a torn write put
//! together. A record that does not check is an error that names its tree; it is never served.
//!
//! Payloads are JSON, which reads forward: a field that an older version does not know is passed over, one that an
//! older version did not write takes its default. The version byte changes only when that is not enough.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The version that is written.
const VERSION: u8 = 1;
const HEAD: usize = 5;

/// A value on disk is not what was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Damaged {
    /// Too short, or the checksum differs.
    #[error("a record in tree {0} is damaged")]
    Bytes(&'static str),
    /// A version that this program does not know.
    #[error("a record in tree {tree} has version {version}, which this program does not know")]
    Version {
        /// The tree.
        tree: &'static str,
        /// The version found.
        version: u8,
    },
}

/// Wraps raw bytes.
pub fn wrap(payload: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(HEAD + payload.len());
    value.push(VERSION);
    value.extend_from_slice(&crc32fast::hash(payload).to_be_bytes());
    value.extend_from_slice(payload);
    value
}

/// The inverse of [`wrap`].
///
/// # Errors
/// [`Damaged`], naming `tree`.
pub fn unwrap<'a>(tree: &'static str, value: &'a [u8]) -> Result<&'a [u8], Damaged> {
    let (head, payload) = value.split_at_checked(HEAD).ok_or(Damaged::Bytes(tree))?;
    if head[0] != VERSION {
        return Err(Damaged::Version { tree, version: head[0] });
    }
    if head[1..] != crc32fast::hash(payload).to_be_bytes() {
        return Err(Damaged::Bytes(tree));
    }
    Ok(payload)
}

/// A value as it goes to disk.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    // Records are plain structs with string keys; serialising one of them cannot fail.
    wrap(&serde_json::to_vec(value).unwrap_or_default())
}

/// A value from disk.
///
/// # Errors
/// [`Damaged`], naming `tree`.
pub fn decode<T: DeserializeOwned>(tree: &'static str, value: &[u8]) -> Result<T, Damaged> {
    serde_json::from_slice(unwrap(tree, value)?).map_err(|_| Damaged::Bytes(tree))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_version_from_the_future_is_named() {
        let mut value = encode(&"x");
        value[0] = 9;
        assert_eq!(decode::<String>("links", &value), Err(Damaged::Version { tree: "links", version: 9 }));
    }

    proptest! {
        #[test]
        fn any_flipped_bit_is_found(payload: Vec<u8>, at: prop::sample::Index, bit in 0u8..8) {
            let mut value = wrap(&payload);
            let at = at.index(value.len());
            value[at] ^= 1 << bit;
            prop_assert!(unwrap("t", &value).is_err());
        }

        #[test]
        fn any_cut_is_found(payload in proptest::collection::vec(any::<u8>(), 1..64), at: prop::sample::Index) {
            let value = wrap(&payload);
            prop_assert!(unwrap("t", &value[..at.index(value.len())]).is_err());
            prop_assert_eq!(unwrap("t", &value), Ok(payload.as_slice()));
        }

        #[test]
        fn junk_never_panics(value: Vec<u8>) {
            let _ = decode::<super::super::records::LinkRecord>("links", &value);
        }
    }
}
