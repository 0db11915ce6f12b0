//! The signature of a webhook: read from its headers, and verified with the app secrets.
//!
//! A signature covers the *bytes received*. Meta escapes what it signs (`\u00e9`, sometimes `\/`), so a body that was
//! parsed and written again no longer matches; verify first, parse afterwards. Comparison is constant in time, and a
//! header of the wrong length or prefix is refused before anything is hashed.
//!
//! An HMAC begins with two hashes over the key alone, and those of a delivery cost as much as the two over its body. So
//! [`AppKeys`] holds the states behind them, made when the settings come into force, and each delivery begins with a copy.
//! Nothing here allocates. The states forge signatures as the secret does, although they do not disclose it: they are not
//! shown, and those that are kept are overwritten when the settings are replaced.
//!
//! A secret that is empty verifies nothing: an HMAC with an empty key is one that anybody can make, and a missing setting
//! must refuse everything, not accept it.

use std::fmt;
use std::hint::black_box;

use hmac::{Hmac, Mac};
use sha1::Sha1;
use sha2::Sha256;

use super::signature::hmac;
use crate::core::model::Secret;

/// A signature of the right form.
#[derive(Clone, Copy)]
pub enum WebhookSignature {
    /// By HMAC-SHA256.
    Sha256([u8; 32]),
    /// By HMAC-SHA1.
    Sha1([u8; 20]),
}

impl WebhookSignature {
    /// Reads the values of `X-Hub-Signature-256` and `X-Hub-Signature`. The SHA-1 one counts only when the other header is
    /// absent and `accept_sha1` is set: a wrong SHA-256 is never saved by a right SHA-1. `None` when no secret could ever
    /// have made it.
    pub fn read(sha256: Option<&[u8]>, sha1: Option<&[u8]>, accept_sha1: bool) -> Option<WebhookSignature> {
        match sha256 {
            Some(header) => tag(header, b"sha256=").map(WebhookSignature::Sha256),
            None => tag(sha1.filter(|_| accept_sha1)?, b"sha1=").map(WebhookSignature::Sha1),
        }
    }
}

/// The 2 × `N` hex digits behind `prefix`, as bytes. Every digit is looked up before any is judged, so that the time does
/// not depend on them.
fn tag<const N: usize>(header: &[u8], prefix: &[u8]) -> Option<[u8; N]> {
    let (pairs, rest) = header.strip_prefix(prefix)?.as_chunks::<2>();
    if pairs.len() != N || !rest.is_empty() {
        return None;
    }
    let (mut bytes, mut seen) = ([0; N], 0);
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        let (high, low) = (HEX[usize::from(*high)], HEX[usize::from(*low)]);
        seen |= high | low;
        *byte = high << 4 | low & 0x0f;
    }
    (seen & NO_DIGIT == 0).then_some(bytes)
}

/// The value of each byte as a hex digit.
const HEX: [u8; 256] = {
    let (mut values, mut at) = ([NO_DIGIT; 256], 0);
    while at < values.len() {
        values[at] = match at as u8 {
            digit @ b'0'..=b'9' => digit - b'0',
            digit @ b'a'..=b'f' => digit - b'a' + 10,
            digit @ b'A'..=b'F' => digit - b'A' + 10,
            _ => NO_DIGIT,
        };
        at += 1;
    }
    values
};
/// No digit has this bit.
const NO_DIGIT: u8 = 0x80;

/// The app secrets, ready to verify: the current one first, then the previous one.
pub struct AppKeys(Box<[AppKey]>);

struct AppKey {
    sha256: Hmac<Sha256>,
    sha1: Hmac<Sha1>,
}

impl AppKeys {
    /// Prepares these secrets.
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a Secret>) -> AppKeys {
        let usable = secrets.into_iter().filter(|secret| !secret.is_empty());
        AppKeys(usable.map(|secret| AppKey { sha256: hmac(secret.expose()), sha1: hmac(secret.expose()) }).collect())
    }

    /// Did one of the secrets make this signature of this body?
    pub fn made(&self, signature: &WebhookSignature, body: &[u8]) -> bool {
        self.0.iter().any(|key| match signature {
            WebhookSignature::Sha256(tag) => key.sha256.clone().chain_update(body).verify_slice(tag).is_ok(),
            WebhookSignature::Sha1(tag) => key.sha1.clone().chain_update(body).verify_slice(tag).is_ok(),
        })
    }
}

impl fmt::Debug for AppKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl Drop for AppKey {
    fn drop(&mut self) {
        (self.sha256, self.sha1) = (hmac(""), hmac(""));
        // Somebody may look, as far as the compiler knows, so that the states are in fact overwritten.
        black_box(self);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::facebook::signature::sign_sha256;
    use proptest::prelude::*;

    const KEY: &str = "0123456789abcdef0123456789abcdef";
    const BODY: &str = r#"{"object":"page","entry":[{"id":"1234567890321","time":1763769600,"changes":[{"field":"name","value":"Caf\u00e9 \u0410\u0411"}]}]}"#;
    const SHA256: &str = "sha256=cce0329dd587c1bb89f4028014e4b04b00d7f642841df3c25d98eb1d27db0478";
    const SHA1: &str = "sha1=ece9de057cb2d75dbaa30ed4c3bff3bf51156120";

    fn secret(text: &str) -> Secret {
        Secret::new(text)
    }

    fn verify_webhook(
        sha256: Option<&str>,
        sha1: Option<&str>,
        body: &[u8],
        secrets: &[&Secret],
        accept_sha1: bool,
    ) -> bool {
        let signature = WebhookSignature::read(sha256.map(str::as_bytes), sha1.map(str::as_bytes), accept_sha1);
        signature.is_some_and(|signature| AppKeys::new(secrets.iter().copied()).made(&signature, body))
    }

    #[test]
    fn the_webhook_vectors_hold() {
        assert_eq!(BODY.len(), 130);
        let key = secret(KEY);
        assert!(verify_webhook(Some(SHA256), None, BODY.as_bytes(), &[&key], false));
        assert!(verify_webhook(None, Some(SHA1), BODY.as_bytes(), &[&key], true));
        assert_eq!(sign_sha256(BODY.as_bytes(), &key), SHA256);
    }

    #[test]
    fn json_written_again_does_not_match() {
        let key = secret(KEY);
        let utf8 = BODY.replace(r"\u00e9", "é").replace(r"\u0410\u0411", "АБ");
        let spaced = BODY.replace("\":", "\": ").replace(",\"", ", \"").replace(r"\ ", "\\");
        for (body, hash) in [
            (utf8, "b603a19f919010314cb05d63d4d2820cf63c5a5e584ca7ca61ad1a660ed3476e"),
            (spaced, "92c2602c05d5f2c64466b735cf1b56ddab28d9834457017883f2e588b5a0a393"),
        ] {
            assert_eq!(sign_sha256(body.as_bytes(), &key), format!("sha256={hash}"));
            assert!(!verify_webhook(Some(SHA256), None, body.as_bytes(), &[&key], true));
            assert!(!verify_webhook(Some(&format!("sha256={hash}")), None, BODY.as_bytes(), &[&key], true));
        }
    }

    #[test]
    fn the_previous_secret_still_counts_and_an_empty_one_never() {
        let (new, old, empty) = (secret("new"), secret(KEY), secret(""));
        assert!(verify_webhook(Some(SHA256), None, BODY.as_bytes(), &[&new, &old], false));
        assert!(!verify_webhook(Some(SHA256), None, BODY.as_bytes(), &[&new], false));
        assert!(!verify_webhook(Some(SHA256), None, BODY.as_bytes(), &[], false));
        let anyone = sign_sha256(BODY.as_bytes(), &empty);
        assert!(!verify_webhook(Some(&anyone), None, BODY.as_bytes(), &[&empty], false));
    }

    #[test]
    fn sha1_is_taken_only_alone_and_only_when_allowed() {
        let key = secret(KEY);
        let check = |sha256, allowed| verify_webhook(sha256, Some(SHA1), BODY.as_bytes(), &[&key], allowed);
        assert!(check(None, true));
        assert!(!check(None, false));
        for wrong in ["", "sha256=", "sha256=00", SHA1] {
            assert!(!check(Some(wrong), true), "{wrong:?} let the SHA-1 through");
        }
    }

    #[test]
    fn headers_of_the_wrong_shape_are_refused() {
        let key = secret(KEY);
        let digits = &SHA256[7..];
        for header in [
            digits.to_owned(),
            format!("sha1={digits}"),
            format!("sha256={}", &digits[..62]),
            format!("sha256={digits}00"),
            format!("sha256= {digits}"),
            format!("{SHA256} "),
            format!("sha256={}", "é".repeat(32)),
            "sha256=".to_owned() + &"0".repeat(1 << 20),
        ] {
            assert!(!verify_webhook(Some(&header), None, BODY.as_bytes(), &[&key], true));
        }
        assert!(!verify_webhook(None, None, BODY.as_bytes(), &[&key], true));
    }

    #[test]
    fn digits_are_read_as_anywhere() {
        for byte in 0..=u8::MAX {
            let digits = [b'a', byte];
            let expected: Option<[u8; 1]> = hex::decode(digits).ok().and_then(|bytes| bytes.try_into().ok());
            assert_eq!(tag(&digits, b""), expected, "{byte}");
        }
    }

    #[test]
    fn keys_do_not_show() {
        assert_eq!(format!("{:?}", AppKeys::new([&secret(KEY)])), "[redacted]");
    }

    proptest! {
        #[test]
        fn any_changed_byte_breaks_the_signature(at in 0..BODY.len(), bit in 0..8u8) {
            let mut body = BODY.as_bytes().to_vec();
            body[at] ^= 1 << bit;
            prop_assert!(!verify_webhook(Some(SHA256), None, &body, &[&secret(KEY)], false));
        }
    }
}
