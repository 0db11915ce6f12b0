//! The signature of a webhook, and the secrets that verify it and the signature of a query.
//!
//! A signature covers the *bytes received* and nothing else: neither the topic nor the shop in the headers is signed
//! ([`super::delivery`] says what follows). Verify first, parse afterwards. Comparison is constant in time, and a header
//! of the wrong length is refused before anything is hashed.
//!
//! As for Facebook's deliveries, the states behind an HMAC are made once. They forge signatures as the secret does: they
//! are not shown, and those that are kept are overwritten when the settings are replaced. An empty secret verifies
//! nothing.

use std::fmt;
use std::hint::black_box;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::core::model::Secret;

/// Bytes of a signature.
pub const TAG: usize = 32;
/// Characters of a signature in base64, padding included.
const TEXT: usize = 44;

/// The value of `X-Shopify-Hmac-Sha256` as bytes; `None` when no secret could ever have made it.
pub fn read(header: &[u8]) -> Option<[u8; TAG]> {
    if header.len() != TEXT {
        return None;
    }
    // The decoder wants a buffer for all that so much text may hold.
    let mut bytes = [0; TEXT / 4 * 3];
    let length = STANDARD.decode_slice(header, &mut bytes).ok()?;
    bytes[..length].try_into().ok()
}

/// The client secrets, ready to verify: the current one first, then the previous one. Shopify signs with the old one for
/// up to an hour after a rotation.
pub struct ClientKeys(Box<[ClientKey]>);

struct ClientKey(Hmac<Sha256>);

impl ClientKeys {
    /// Prepares these secrets.
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a Secret>) -> ClientKeys {
        let usable = secrets.into_iter().filter(|secret| !secret.is_empty());
        ClientKeys(usable.map(|secret| ClientKey(keyed(secret.expose()))).collect())
    }

    /// Did one of the secrets make this signature of these bytes?
    pub fn made(&self, tag: &[u8; TAG], bytes: &[u8]) -> bool {
        self.0.iter().any(|key| key.0.clone().chain_update(bytes).verify_slice(tag).is_ok())
    }
}

impl fmt::Debug for ClientKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl Drop for ClientKey {
    fn drop(&mut self) {
        self.0 = keyed("");
        // Somebody may look, as far as the compiler knows, so that the state is in fact overwritten.
        black_box(self);
    }
}

/// The value of `X-Shopify-Hmac-Sha256` for a body.
pub fn sign(body: &[u8], secret: &Secret) -> String {
    STANDARD.encode(keyed(secret.expose()).chain_update(body).finalize().into_bytes())
}

fn keyed(secret: &str) -> Hmac<Sha256> {
    <Hmac<Sha256> as Mac>::new_from_slice(secret.as_bytes()).expect("hmac takes a key of any length")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KEY: &str = "0123456789abcdef0123456789abcdef";
    const BODY: &str = r#"{"id":9554194432293,"title":"Café АБ","handle":"cafe","updated_at":"2026-11-22T10:00:00-05:00","variants":[{"id":123456789,"price":"29.99"}]}"#;
    const TAG_OF_BODY: &str = "jS8+OTom5FjuUvFBMJejtFTYUSIAoZ3P+ItuaCLUuu8=";

    fn verified(header: &str, body: &str, secrets: &[&str]) -> bool {
        let secrets: Vec<Secret> = secrets.iter().map(|secret| Secret::new(*secret)).collect();
        read(header.as_bytes()).is_some_and(|tag| ClientKeys::new(&secrets).made(&tag, body.as_bytes()))
    }

    #[test]
    fn the_vectors_hold() {
        assert_eq!(BODY.len(), 144);
        let escaped = BODY.replace('é', r"\u00e9").replace("АБ", r"\u0410\u0411");
        assert_eq!(escaped.len(), 156);
        let redact = r#"{"shop_id":954889,"shop_domain":"some-shop.myshopify.com"}"#;
        for (body, tag) in [
            (BODY, TAG_OF_BODY),
            (escaped.as_str(), "FGQ+fsJ+UCuAEtVqEIIxv+G5yMSWlFI6kKtp8aFM8Mg="),
            (redact, "Jchc36IC+2kvK8ZHIZz3vKsuquA8Ngq9+SXo0kulv60="),
        ] {
            assert!(verified(tag, body, &[KEY]), "{body}");
            assert_eq!(sign(body.as_bytes(), &Secret::new(KEY)), tag);
        }
        assert!(
            !verified(TAG_OF_BODY, &escaped, &[KEY])
                && !verified("FGQ+fsJ+UCuAEtVqEIIxv+G5yMSWlFI6kKtp8aFM8Mg=", BODY, &[KEY])
        );
    }

    #[test]
    fn the_previous_secret_still_counts_and_an_empty_one_never() {
        assert!(verified(TAG_OF_BODY, BODY, &["new", KEY]));
        assert!(!verified(TAG_OF_BODY, BODY, &["new"]));
        assert!(!verified(TAG_OF_BODY, BODY, &[]));
        let anyone = sign(BODY.as_bytes(), &Secret::new(""));
        assert!(!verified(&anyone, BODY, &[""]));
    }

    #[test]
    fn headers_of_the_wrong_shape_are_refused() {
        for header in [
            "",
            "8d2f3e393a26e458ee52f1413097a3b454d8512200a19dcff88b6e6822d4baef",
            "jS8+OTom5FjuUvFBMJejtFTYUSIAoZ3P+ItuaCLUuu8",
            "jS8+OTom5FjuUvFBMJejtFTYUSIAoZ3P+ItuaCLUuu9=",
            "jS8-OTom5FjuUvFBMJejtFTYUSIAoZ3P-ItuaCLUuu8=",
            " jS8+OTom5FjuUvFBMJejtFTYUSIAoZ3P+ItuaCLUuu8=",
            "jS8+OTom5FjuUvFBMJejtFTYUSIAoZ3P+ItuaCLUuu8=\n",
            &"A".repeat(44),
            &"é".repeat(22),
            &"A".repeat(1 << 20),
        ] {
            assert_eq!(read(header.as_bytes()), None, "{header:.60}");
        }
    }

    #[test]
    fn keys_do_not_show() {
        assert_eq!(format!("{:?}", ClientKeys::new([&Secret::new(KEY)])), "[redacted]");
    }

    proptest! {
        #[test]
        fn any_changed_byte_breaks_the_signature(at in 0..BODY.len(), bit in 0..8u8) {
            let mut body = BODY.as_bytes().to_vec();
            body[at] ^= 1 << bit;
            let tag = read(TAG_OF_BODY.as_bytes()).unwrap();
            prop_assert!(!ClientKeys::new([&Secret::new(KEY)]).made(&tag, &body));
        }
    }
}
