//! The record by which a wrong store key is found at start, and by which a rotation shows that it is complete: a known
//! text, sealed.

use super::codec::{self, Damaged};
use super::seal::{KeyId, Keyring, SealError, key_id};
use super::tree::{Tree, Write};

/// Its key in the tree `meta`.
pub(super) const KEY: &[u8] = b"check";
const TEXT: &[u8] = b"pagesyncd store key check";

/// The write that puts it there, sealed with the key in force.
pub(super) fn record(keyring: &Keyring) -> Write {
    Write { tree: Tree::Meta, key: KEY.to_vec(), value: Some(codec::wrap(&keyring.seal(TEXT, TEXT))) }
}

/// Does one of these keys open it?
///
/// # Errors
/// Those of [`Keyring::open`].
pub(super) fn open(keyring: &Keyring, sealed: &[u8]) -> Result<(), SealError> {
    keyring.open(TEXT, sealed).map(|_| ())
}

/// Does one of these keys open the record with this value?
pub(super) fn opens(keyring: &Keyring, value: &[u8]) -> bool {
    codec::unwrap(Tree::Meta.name(), value).is_ok_and(|sealed| open(keyring, sealed).is_ok())
}

/// The key that sealed it.
pub(super) fn key(value: &[u8]) -> Result<KeyId, String> {
    let sealed = codec::unwrap(Tree::Meta.name(), value).map_err(|damaged: Damaged| damaged.to_string())?;
    key_id(sealed).map_err(|error| error.to_string())
}
