//! Signatures as Meta makes them.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use serde_json::Value;
use sha1::Sha1;
use sha2::Sha256;

/// Lower-case hex of the HMAC-SHA256.
pub(crate) fn hmac_sha256_hex(key: &str, message: &[u8]) -> String {
    hex::encode(hmac_sha256(key, message))
}

fn hmac_sha256(key: &str, message: &[u8]) -> Vec<u8> {
    // HMAC takes a key of any length.
    Hmac::<Sha256>::new_from_slice(key.as_bytes())
        .map(|mac| mac.chain_update(message).finalize().into_bytes().to_vec())
        .unwrap_or_default()
}

/// Lower-case hex of the HMAC-SHA1.
pub(crate) fn hmac_sha1_hex(key: &str, message: &[u8]) -> String {
    let mac = Hmac::<Sha1>::new_from_slice(key.as_bytes())
        .map(|mac| mac.chain_update(message).finalize().into_bytes().to_vec());
    hex::encode(mac.unwrap_or_default())
}

/// A `signed_request` for these claims, without padding.
pub(crate) fn signed_request(secret: &str, claims: &Value) -> String {
    let payload = URL_SAFE_NO_PAD.encode(claims.to_string());
    format!("{}.{payload}", URL_SAFE_NO_PAD.encode(hmac_sha256(secret, payload.as_bytes())))
}

/// JSON as Meta writes it: everything beyond ASCII as `\u00e4` with lower-case hex, and `/` as `\/`.
pub(crate) fn meta_json(value: &Value) -> String {
    let mut text = String::new();
    for c in value.to_string().chars() {
        match c {
            '/' => text.push_str("\\/"),
            c if c.is_ascii() => text.push(c),
            c => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    text.push_str(&format!("\\u{unit:04x}"));
                }
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn known_vectors_hold() {
        let secret = "0123456789abcdef0123456789abcdef";
        let body = br#"{"object":"page","entry":[{"id":"1234567890321","time":1763769600,"changes":[{"field":"name","value":"Caf\u00e9 \u0410\u0411"}]}]}"#;
        let sha256 = "cce0329dd587c1bb89f4028014e4b04b00d7f642841df3c25d98eb1d27db0478";
        assert_eq!(hmac_sha256_hex(secret, body), sha256);
        assert_eq!(hmac_sha1_hex(secret, body), "ece9de057cb2d75dbaa30ed4c3bff3bf51156120");
        let proof = "796ba0d8a6b339e476a7b166a9e8ac0a395f7de736dc37de5f2f4397f5854eb8";
        assert_eq!(hmac_sha256_hex("shhhhh!is.my.secret", b"foo_token"), proof);
    }

    #[test]
    fn json_is_written_in_metas_way() {
        let text = meta_json(&json!({"a/b": "Größe 😀 \"x\"\n"}));
        assert_eq!(text, r#"{"a\/b":"Gr\u00f6\u00dfe \ud83d\ude00 \"x\"\n"}"#);
    }
}
