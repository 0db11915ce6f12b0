//! The signature of Shopify's webhooks: base64 of an HMAC-SHA256 over the raw body, keyed with the client secret.
//!
//! As with Meta's, the bytes received are verified before they are parsed, the comparison is constant in time, and the
//! states of the HMAC are prepared with the settings. After a rotation of the secret Shopify signs with the one before
//! for up to an hour, so that both are tried.

use std::fmt;
use std::hint::black_box;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::core::model::Secret;

/// A signature of the right form.
pub type Tag = [u8; 32];

/// Reads the value of the header. `None` when no secret could ever have made it.
pub fn read(header: &[u8]) -> Option<Tag> {
    let mut tag = [0; 33];
    let read = STANDARD.decode_slice(header, &mut tag).ok()?;
    tag.first_chunk().filter(|_| read == 32).copied()
}

/// The client secrets, ready to verify.
pub struct ShopKeys(Box<[Key]>);

struct Key(Hmac<Sha256>);

impl ShopKeys {
    /// Prepares these secrets. An empty one is none.
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a Secret>) -> ShopKeys {
        let usable = secrets.into_iter().filter(|secret| !secret.is_empty());
        ShopKeys(usable.map(|secret| Key(keyed(secret.expose()))).collect())
    }

    /// Did one of the secrets make this signature of this body?
    pub fn made(&self, tag: &Tag, body: &[u8]) -> bool {
        self.0.iter().any(|key| key.0.clone().chain_update(body).verify_slice(tag).is_ok())
    }
}

/// The header of a body.
pub fn sign(body: &[u8], secret: &Secret) -> String {
    STANDARD.encode(keyed(secret.expose()).chain_update(body).finalize().into_bytes())
}

fn keyed(secret: &str) -> Hmac<Sha256> {
    Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("hmac takes a key of any length")
}

impl fmt::Debug for ShopKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        self.0 = keyed("");
        // Somebody may look, as far as the compiler knows, so that the state is in fact overwritten.
        black_box(self);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";
    const PRODUCT: &str = r#"{"id":9554194432293,"title":"Café АБ","handle":"cafe","updated_at":"2026-11-22T10:00:00-05:00","variants":[{"id":123456789,"price":"29.99"}]}"#;
    const ESCAPED: &str = r#"{"id":9554194432293,"title":"Caf\u00e9 \u0410\u0411","handle":"cafe","updated_at":"2026-11-22T10:00:00-05:00","variants":[{"id":123456789,"price":"29.99"}]}"#;
    const REDACT: &str = r#"{"shop_id":954889,"shop_domain":"some-shop.myshopify.com"}"#;

    fn verify(header: &str, body: &str, secrets: &[&str]) -> bool {
        let secrets: Vec<Secret> = secrets.iter().map(|secret| Secret::new(*secret)).collect();
        read(header.as_bytes()).is_some_and(|tag| ShopKeys::new(&secrets).made(&tag, body.as_bytes()))
    }

    #[test]
    fn the_vectors_hold() {
        assert_eq!((PRODUCT.len(), ESCAPED.len()), (144, 156));
        let vectors = [
            (PRODUCT, "jS8+OTom5FjuUvFBMJejtFTYUSIAoZ3P+ItuaCLUuu8="),
            (ESCAPED, "FGQ+fsJ+UCuAEtVqEIIxv+G5yMSWlFI6kKtp8aFM8Mg="),
            (REDACT, "Jchc36IC+2kvK8ZHIZz3vKsuquA8Ngq9+SXo0kulv60="),
        ];
        for (body, header) in vectors {
            assert_eq!(sign(body.as_bytes(), &Secret::new(SECRET)), header);
            assert!(verify(header, body, &[SECRET]) && verify(header, body, &["new", SECRET]));
            assert!(!verify(header, body, &["new"]) && !verify(header, body, &[""]) && !verify(header, body, &[]));
            for (other, _) in vectors.iter().filter(|(other, _)| *other != body) {
                assert!(!verify(header, other, &[SECRET]));
            }
        }
    }

    #[test]
    fn headers_of_another_form_are_refused_before_anything_is_hashed() {
        let hex = "8d2f3e393a26e458ee52f1413097a3b454d8512200a19dcff88b6e6822d4baef";
        for bad in [
            hex,
            "",
            "jS8+",
            "jS8+OTom5FjuUvFBMJejtFTYUSIAoZ3P+ItuaCLUuu8",
            "jS8+OTom5FjuUvFBMJejtFTYUSIAoZ3P+ItuaCLUuu8AAA==",
        ] {
            assert_eq!(read(bad.as_bytes()), None, "{bad}");
        }
    }
}
