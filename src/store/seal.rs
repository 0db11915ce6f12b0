//! Sealing: tokens rest encrypted, each bound to the record it belongs to.
//!
//! XChaCha20-Poly1305 with a fresh 24-byte nonce from the operating system for every seal, so that a nonce never needs
//! to be counted or kept. Layout, in bytes:
//!
//! ```text
//! 0       1            9              33
//! version | key id (8) | nonce (24)   | ciphertext, with the 16-byte tag at its end
//! ```
//!
//! The associated data is everything before the nonce and the context, which is the record's own key: a sealed token
//! copied under another user's record does not open there.
//!
//! **Key id.** The first 8 bytes of SHA-256 over a fixed text and the key: enough to tell which key is missing, of no
//! use in finding it. A store that was sealed with an unknown key is distinguished from a damaged one.
//!
//! **Rotation.** What is sealed is always sealed with the current key; what a previous key sealed still opens, and
//! [`Keyring::is_current`] tells which records are left to be sealed again.
//!
//! Keys and opened texts are wiped from memory when dropped. What a caller copied out of them is the caller's.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, Zeroizing};

use crate::random::{self, NoRandomness};

/// The length of a store key in bytes.
pub const KEY_BYTES: usize = 32;

const VERSION: u8 = 1;
const ID_BYTES: usize = 8;
const NONCE_BYTES: usize = 24;
const TAG_BYTES: usize = 16;
const HEAD_BYTES: usize = 1 + ID_BYTES;
const SHORTEST: usize = HEAD_BYTES + NONCE_BYTES + TAG_BYTES;
const ID_DOMAIN: &[u8] = b"pagesyncd store key id 1\0";

/// The public name of a key. It prints as 16 hexadecimal digits and gives nothing of the key away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyId([u8; ID_BYTES]);

impl KeyId {
    fn of(key: &[u8; KEY_BYTES]) -> Self {
        let digest = Sha256::new().chain_update(ID_DOMAIN).chain_update(key).finalize();
        let mut id = [0; ID_BYTES];
        id.copy_from_slice(&digest[..ID_BYTES]);
        KeyId(id)
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// Why something sealed does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// Shorter than anything that was ever sealed.
    #[error("sealed record is cut off")]
    Truncated,
    /// Written by a later version of the program.
    #[error("sealed record has version {0}, which this version cannot read")]
    UnknownVersion(u8),
    /// Sealed with a key that is not on the ring.
    #[error("sealed with key {0}, which is neither store.key nor one of store.previous_keys")]
    UnknownKey(KeyId),
    /// The key is known, but the bytes or the record they lie under are not the ones that were sealed.
    #[error("sealed record is damaged or belongs to another record")]
    Damaged,
}

/// Why a text is no store key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadKey {
    /// Not base64 with the usual alphabet and padding.
    #[error("store key is not base64 (`pagesyncd keygen` prints a good one)")]
    NotBase64,
    /// The wrong number of bytes.
    #[error("store key has {0} bytes where 32 are due (`pagesyncd keygen` prints a good one)")]
    Length(usize),
}

struct Key {
    id: KeyId,
    bytes: Zeroizing<[u8; KEY_BYTES]>,
}

impl Key {
    fn new(bytes: [u8; KEY_BYTES]) -> Self {
        Key { id: KeyId::of(&bytes), bytes: Zeroizing::new(bytes) }
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(self.bytes.as_ref().into())
    }
}

/// The key that seals, and those that still open.
pub struct Keyring {
    current: Key,
    previous: Vec<Key>,
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let previous: Vec<_> = self.previous.iter().map(|key| key.id.to_string()).collect();
        f.debug_struct("Keyring").field("current", &self.current.id.to_string()).field("previous", &previous).finish()
    }
}

impl Keyring {
    /// A ring that seals with `current` and also opens what any of `previous` sealed.
    pub fn new(mut current: [u8; KEY_BYTES], mut previous: Vec<[u8; KEY_BYTES]>) -> Self {
        let ring = Keyring { current: Key::new(current), previous: previous.iter().copied().map(Key::new).collect() };
        current.zeroize();
        previous.zeroize();
        ring
    }

    /// The id of the key that seals.
    pub fn current_id(&self) -> KeyId {
        self.current.id
    }

    /// Seals `plain` for the record named by `context`. The result is 49 bytes longer than `plain`.
    pub fn seal(&self, context: &[u8], plain: &[u8]) -> Vec<u8> {
        let nonce: [u8; NONCE_BYTES] = random::unique();
        let mut sealed = Vec::with_capacity(SHORTEST + plain.len());
        sealed.push(VERSION);
        sealed.extend_from_slice(&self.current.id.0);
        let aad = associated(&sealed, context);
        let payload = Payload { msg: plain, aad: &aad };
        let cipher = self.current.cipher();
        let ciphertext = cipher
            .encrypt(XNonce::from_slice(&nonce), payload)
            .expect("a text in memory is below the cipher's 256 GiB");
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(&ciphertext);
        sealed
    }

    /// Opens what was sealed for the record named by `context`.
    ///
    /// # Errors
    /// See [`SealError`]. Never a panic, whatever the bytes.
    pub fn open(&self, context: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let id = key_id(sealed)?;
        let key = self.keys().find(|key| key.id == id).ok_or(SealError::UnknownKey(id))?;
        let (head, rest) = sealed.split_at(HEAD_BYTES);
        let (nonce, ciphertext) = rest.split_at(NONCE_BYTES);
        let aad = associated(head, context);
        let payload = Payload { msg: ciphertext, aad: &aad };
        let plain = key.cipher().decrypt(XNonce::from_slice(nonce), payload).map_err(|_| SealError::Damaged)?;
        Ok(Zeroizing::new(plain))
    }

    /// Was it sealed with the current key? `false` for what is to be sealed again, and for what is no seal at all.
    pub fn is_current(&self, sealed: &[u8]) -> bool {
        key_id(sealed) == Ok(self.current.id)
    }

    /// The ids of its keys.
    pub fn ids(&self) -> Vec<KeyId> {
        self.keys().map(|key| key.id).collect()
    }

    fn keys(&self) -> impl Iterator<Item = &Key> {
        std::iter::once(&self.current).chain(&self.previous)
    }
}

/// The id of the key that sealed it, once the shape is right.
pub(super) fn key_id(sealed: &[u8]) -> Result<KeyId, SealError> {
    match sealed {
        [] => Err(SealError::Truncated),
        [version, ..] if *version != VERSION => Err(SealError::UnknownVersion(*version)),
        _ if sealed.len() < SHORTEST => Err(SealError::Truncated),
        _ => {
            let mut id = [0; ID_BYTES];
            id.copy_from_slice(&sealed[1..HEAD_BYTES]);
            Ok(KeyId(id))
        }
    }
}

/// The head has a fixed length, so it and the context cannot be confused.
fn associated(head: &[u8], context: &[u8]) -> Vec<u8> {
    [head, context].concat()
}

/// A fresh key as the configuration takes it: 32 random bytes from the operating system, in base64.
///
/// # Errors
/// [`NoRandomness`].
pub fn generate_key() -> Result<String, NoRandomness> {
    let key = Zeroizing::new(random::secret::<KEY_BYTES>()?);
    Ok(STANDARD.encode(key.as_ref()))
}

/// Reads a key as the configuration gives it: base64 of 32 bytes. White space around it is ignored, as keys kept in
/// files end in a newline.
///
/// # Errors
/// [`BadKey`], which does not repeat the text.
pub fn parse_key(text: &str) -> Result<Zeroizing<[u8; KEY_BYTES]>, BadKey> {
    let bytes = Zeroizing::new(STANDARD.decode(text.trim()).map_err(|_| BadKey::NotBase64)?);
    let key = <[u8; KEY_BYTES]>::try_from(bytes.as_slice()).map_err(|_| BadKey::Length(bytes.len()))?;
    Ok(Zeroizing::new(key))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CONTEXT: &[u8] = b"link/6f0a/123";
    const TOKEN: &[u8] = b"EAAB-page-token";

    fn ring(current: u8, previous: &[u8]) -> Keyring {
        Keyring::new([current; KEY_BYTES], previous.iter().map(|n| [*n; KEY_BYTES]).collect())
    }

    #[test]
    fn what_is_sealed_opens() {
        let ring = ring(1, &[]);
        for plain in [b"".as_slice(), TOKEN, &[7; 5000]] {
            let sealed = ring.seal(CONTEXT, plain);
            assert_eq!(sealed.len(), plain.len() + 49);
            assert_eq!(ring.open(CONTEXT, &sealed).unwrap().as_slice(), plain);
        }
        let sealed = ring.seal(CONTEXT, TOKEN);
        assert!(!sealed.windows(4).any(|window| TOKEN.windows(4).any(|plain| plain == window)));
    }

    #[test]
    fn another_record_does_not_open_it() {
        let ring = ring(1, &[]);
        let sealed = ring.seal(CONTEXT, TOKEN);
        for other in [b"link/6f0a/124".as_slice(), b"", b"link/6f0a/12", b"link/6f0a/1234"] {
            assert_eq!(ring.open(other, &sealed), Err(SealError::Damaged));
        }
    }

    #[test]
    fn another_key_is_named() {
        let sealed = ring(1, &[]).seal(CONTEXT, TOKEN);
        let other = ring(2, &[3]);
        let error = other.open(CONTEXT, &sealed).unwrap_err();
        assert_eq!(error, SealError::UnknownKey(ring(1, &[]).current_id()));
        assert!(error.to_string().contains(&ring(1, &[]).current_id().to_string()));
    }

    #[test]
    fn a_key_under_a_false_name_does_not_open() {
        let mut sealed = ring(1, &[]).seal(CONTEXT, TOKEN);
        sealed[1..HEAD_BYTES].copy_from_slice(&ring(2, &[]).current_id().0);
        assert_eq!(ring(2, &[1]).open(CONTEXT, &sealed), Err(SealError::Damaged));
    }

    #[test]
    fn rotation_opens_the_old_and_seals_with_the_new() {
        let old = ring(1, &[]).seal(CONTEXT, TOKEN);
        let rotated = ring(2, &[9, 1]);
        assert_eq!(rotated.open(CONTEXT, &old).unwrap().as_slice(), TOKEN);
        assert!(!rotated.is_current(&old));
        let new = rotated.seal(CONTEXT, TOKEN);
        assert!(rotated.is_current(&new));
        assert!(matches!(ring(1, &[]).open(CONTEXT, &new), Err(SealError::UnknownKey(_))));
    }

    #[test]
    fn cut_off_anywhere_it_does_not_open() {
        let ring = ring(1, &[]);
        let sealed = ring.seal(CONTEXT, TOKEN);
        for length in 0..sealed.len() {
            let expected = if length < SHORTEST { SealError::Truncated } else { SealError::Damaged };
            assert_eq!(ring.open(CONTEXT, &sealed[..length]), Err(expected), "cut to {length}");
        }
        let longer = [sealed.as_slice(), &[0]].concat();
        assert_eq!(ring.open(CONTEXT, &longer), Err(SealError::Damaged));
    }

    #[test]
    fn a_single_flipped_bit_anywhere_is_found() {
        let ring = ring(1, &[]);
        let sealed = ring.seal(CONTEXT, TOKEN);
        for bit in 0..sealed.len() * 8 {
            let mut flipped = sealed.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let error = ring.open(CONTEXT, &flipped).unwrap_err();
            let expected = match bit / 8 {
                0 => matches!(error, SealError::UnknownVersion(_)),
                1..HEAD_BYTES => matches!(error, SealError::UnknownKey(_)),
                _ => error == SealError::Damaged,
            };
            assert!(expected, "bit {bit}: {error}");
        }
    }

    #[test]
    fn no_two_seals_are_alike() {
        let ring = ring(1, &[]);
        let seals: std::collections::HashSet<Vec<u8>> =
            (0..100).map(|_| ring.seal(CONTEXT, TOKEN)[HEAD_BYTES..HEAD_BYTES + NONCE_BYTES].to_vec()).collect();
        assert_eq!(seals.len(), 100);
    }

    #[test]
    fn the_layout_on_disk_stays_readable() {
        let sealed = hex::decode(SEALED_BY_VERSION_1).unwrap();
        assert_eq!(ring(1, &[]).open(CONTEXT, &sealed).unwrap().as_slice(), TOKEN);
    }

    #[test]
    fn keys_are_read_as_they_are_printed() {
        let text = generate_key().unwrap();
        assert_ne!(text, generate_key().unwrap());
        assert_eq!(STANDARD.encode(parse_key(&format!(" {text}\n")).unwrap()), text);
        assert_eq!(parse_key("hunter2!"), Err(BadKey::NotBase64));
        assert_eq!(parse_key("aGVsbG8="), Err(BadKey::Length(5)));
        assert_eq!(parse_key(""), Err(BadKey::Length(0)));
    }

    #[test]
    fn a_ring_shows_names_only() {
        let shown = format!("{:?}", Keyring::new(*b"0123456789abcdef0123456789abcdef", vec![[b'z'; 32]]));
        assert!(shown.contains("current") && !shown.contains("zz") && !shown.contains("48, 49"), "{shown}");
    }

    proptest! {
        #[test]
        fn strange_bytes_never_open(context: Vec<u8>, mut bytes: Vec<u8>, shaped: bool) {
            let ring = ring(1, &[2]);
            if shaped {
                bytes.splice(..0, [&[VERSION][..], &ring.current_id().0].concat());
            }
            prop_assert!(ring.open(&context, &bytes).is_err());
        }

        #[test]
        fn every_text_in_every_record_comes_back(context: Vec<u8>, plain: Vec<u8>) {
            let ring = ring(1, &[]);
            prop_assert_eq!(&*ring.open(&context, &ring.seal(&context, &plain)).unwrap(), &plain);
        }
    }

    /// [`TOKEN`] in [`CONTEXT`] under a key of ones, as version 1 wrote it.
    const SEALED_BY_VERSION_1: &str = concat!(
        "01b0d17abafc4eb7d040e4136e037ebd8a13e56b4f63609a20ed71b144d9247a9e",
        "e37eb61c057d02e17be1d549c753d55fc03ffa6129d06956ec3fd578e0f8f4"
    );
}
