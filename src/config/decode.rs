//! The bytes behind the secrets that are keys.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

use crate::core::model::Secret;

/// The bytes of a secret that signs events: `whsec_` and the base64 of 24 to 64 bytes, as Standard Webhooks has it.
/// `None` for anything else.
pub fn decode_notify_secret(secret: &Secret) -> Option<Zeroizing<Vec<u8>>> {
    let text = secret.expose().strip_prefix("whsec_")?.trim_end_matches('=');
    let bytes = Zeroizing::new(STANDARD_NO_PAD.decode(text).ok()?);
    (24..=64).contains(&bytes.len()).then_some(bytes)
}

/// The 32 bytes of a store key, from standard or URL-safe base64, padded or not. `None` for anything else.
pub fn decode_store_key(secret: &Secret) -> Option<Zeroizing<[u8; 32]>> {
    let text = secret.expose().trim_end_matches('=');
    let bytes = STANDARD_NO_PAD.decode(text).or_else(|_| URL_SAFE_NO_PAD.decode(text)).ok().map(Zeroizing::new)?;
    let mut key = Zeroizing::new([0; 32]);
    if bytes.len() != key.len() {
        return None;
    }
    key.copy_from_slice(&bytes);
    Some(key)
}
