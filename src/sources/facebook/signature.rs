//! What is proved with the app secret: `signed_request` texts, `appsecret_proof`, and the signature of a webhook of our
//! own. Those of Meta's webhooks are verified in [`super::webhook_signature`].
//!
//! A signature covers the *bytes received*: verify first, parse afterwards. Comparison is constant in time. Nothing here
//! allocates before the signature has been found right.
//!
//! A secret that is empty signs nothing and verifies nothing: an HMAC with an empty key is one that anybody can make,
//! and a missing setting must refuse everything, not accept it.

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use hmac::{Hmac, Mac};
use serde_json::Value;
use sha2::Sha256;
use std::time::Duration;

use crate::core::model::{AppUserId, Secret, WallTime};

/// The oldest `signed_request` that is taken.
pub const SIGNED_REQUEST_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);
/// How far ahead of our clock Meta's may be.
pub const CLOCK_SKEW: Duration = Duration::from_secs(5 * 60);
/// The longest `signed_request` text that is looked at, in bytes. Real ones have a few hundred.
pub const MAX_SIGNED_REQUEST: usize = 8 * 1024;

/// Meta sends base64url with and without padding.
const BASE64URL: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Who a verified `signed_request` speaks of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedRequest {
    /// The person, as this app sees them.
    pub user_id: AppUserId,
    /// When Meta wrote it.
    pub issued_at: WallTime,
    /// It carries a code or a token, as those do that come with a login or with a page inside of facebook.com. Meta
    /// signs them in the same way, and anybody who logs in gets one in their browser.
    pub of_login: bool,
}

/// Why a `signed_request` was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignedRequestError {
    /// Longer than [`MAX_SIGNED_REQUEST`].
    #[error("signed_request is too long")]
    TooLong,
    /// Not `signature.payload` in base64url, or the payload is not the JSON that was promised.
    #[error("signed_request is malformed")]
    Malformed,
    /// None of the app secrets made this signature.
    #[error("signed_request is not signed by this app's secret")]
    Forged,
    /// Signed right, but names another algorithm than HMAC-SHA256.
    #[error("signed_request does not name HMAC-SHA256 as its algorithm")]
    Algorithm,
    /// Signed right, but names no person.
    #[error("signed_request names no app-scoped user id")]
    NoUser,
    /// Signed right, but of a login: no wish to leave.
    #[error("signed_request is that of a login, and neither a deauthorization nor a deletion")]
    OfLogin,
    /// Issued longer ago than [`SIGNED_REQUEST_LIFETIME`], or further ahead than [`CLOCK_SKEW`].
    #[error("signed_request is stale, or this machine's clock is wrong")]
    Stale,
}

pub(super) fn hmac<D>(secret: &str) -> D
where
    D: Mac + hmac::digest::KeyInit,
{
    <D as Mac>::new_from_slice(secret.as_bytes()).expect("hmac takes a key of any length")
}

/// Is `tag` the MAC of `bytes` under one of the secrets?
fn made_by_one_of<D>(tag: &[u8], bytes: &[u8], secrets: &[&Secret]) -> bool
where
    D: Mac + hmac::digest::KeyInit,
{
    let mut usable = secrets.iter().filter(|secret| !secret.is_empty());
    usable.any(|secret| hmac::<D>(secret.expose()).chain_update(bytes).verify_slice(tag).is_ok())
}

/// The value of `X-Hub-Signature-256` for a body: `sha256=` and 64 hex digits.
pub fn sign_sha256(body: &[u8], secret: &Secret) -> String {
    let digest = hmac::<Hmac<Sha256>>(secret.expose()).chain_update(body).finalize().into_bytes();
    format!("sha256={}", hex::encode(digest))
}

/// The proof that goes beside `token` in a Graph call: it shows that the caller knows the app secret.
pub fn appsecret_proof(token: &Secret, app_secret: &Secret) -> String {
    let digest = hmac::<Hmac<Sha256>>(app_secret.expose()).chain_update(token.expose()).finalize().into_bytes();
    hex::encode(digest)
}

/// Opens a `signed_request` by which a person leaves, and refuses one that is not fresh or that is of a login.
///
/// # Errors
/// One [`SignedRequestError`] per reason; the text itself is never part of it.
pub fn parse_signed_request(
    text: &str,
    secrets: &[&Secret],
    now: WallTime,
) -> Result<SignedRequest, SignedRequestError> {
    let request = open_signed_request(text, secrets)?;
    if request.of_login {
        return Err(SignedRequestError::OfLogin);
    }
    if is_fresh(request.issued_at, now) { Ok(request) } else { Err(SignedRequestError::Stale) }
}

/// Opens a `signed_request` of any age. Whoever acts on it calls [`parse_signed_request`] instead.
///
/// # Errors
/// As [`parse_signed_request`], [`SignedRequestError::Stale`] and [`SignedRequestError::OfLogin`] excepted.
pub fn open_signed_request(text: &str, secrets: &[&Secret]) -> Result<SignedRequest, SignedRequestError> {
    use SignedRequestError::{Algorithm, Forged, Malformed, NoUser, TooLong};
    if text.len() > MAX_SIGNED_REQUEST {
        return Err(TooLong);
    }
    let (signature, payload) = text.split_once('.').ok_or(Malformed)?;
    // 43 digits, or 44 with the padding; the buffer holds what either decodes to.
    let mut buffer = [0; 48];
    let decoded = BASE64URL.decode_slice(signature, &mut buffer).map_err(|_| Malformed)?;
    if decoded != 32 {
        return Err(Malformed);
    }
    if !made_by_one_of::<Hmac<Sha256>>(&buffer[..32], payload.as_bytes(), secrets) {
        return Err(Forged);
    }
    let json = BASE64URL.decode(payload).map_err(|_| Malformed)?;
    let json: Value = serde_json::from_slice(&json).map_err(|_| Malformed)?;
    if json["algorithm"] != "HMAC-SHA256" {
        return Err(Algorithm);
    }
    let user_id = match &json["user_id"] {
        Value::String(id) => id.parse().map_err(|_| NoUser)?,
        Value::Number(id) => id.as_u64().ok_or(NoUser)?.to_string().parse().map_err(|_| NoUser)?,
        _ => return Err(NoUser),
    };
    let issued_at = json["issued_at"].as_u64().ok_or(Malformed)?;
    let of_login = ["code", "oauth_token"].iter().any(|key| json.get(key).is_some());
    Ok(SignedRequest { user_id, issued_at: WallTime(issued_at.saturating_mul(1000)), of_login })
}

/// Is something issued then still good now?
pub fn is_fresh(issued_at: WallTime, now: WallTime) -> bool {
    issued_at <= now.plus(CLOCK_SKEW) && now.since(issued_at) <= SIGNED_REQUEST_LIFETIME
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KEY: &str = "0123456789abcdef0123456789abcdef";
    const PADDED: &str = "U0_O1MqqNKUt32633zAkdd2Ce-jGVgRgJeRauyx_zC8=.eyJvYXV0aF90b2tlbiI6ImZvb190b2tlbiIsImFsZ29yaXRobSI6IkhNQUMtU0hBMjU2IiwiaXNzdWVkX2F0IjozMjEsImNvZGUiOiJmb29fY29kZSIsInN0YXRlIjoiZm9vX3N0YXRlIiwidXNlcl9pZCI6MTIzLCJmb28iOiJiYXIifQ==";
    const DELETION: &str = "MHdo0Jew_becV_adp9g0KkhIq9Sv8AjxL8u3zKkYiVc.eyJ1c2VyX2lkIjoiMjE4NDcxIiwiYWxnb3JpdGhtIjoiSE1BQy1TSEEyNTYiLCJpc3N1ZWRfYXQiOjEyOTE4MzY4MDAsImV4cGlyZXMiOjEyOTE4NDA0MDB9";

    fn secret(text: &str) -> Secret {
        Secret::new(text)
    }

    fn signed(payload: &str, key: &str) -> String {
        let payload = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(payload);
        let mac = hmac::<Hmac<Sha256>>(key).chain_update(&payload).finalize().into_bytes();
        format!("{}.{payload}", base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(mac))
    }

    #[test]
    fn the_proof_vectors_hold() {
        for (key, token, proof) in [
            ("shhhhh!is.my.secret", "foo_token", "796ba0d8a6b339e476a7b166a9e8ac0a395f7de736dc37de5f2f4397f5854eb8"),
            ("foo_secret", "123|foo_secret", "de753c58fd58b03afca2340bbaeb4ecf987b5de4c09e39a63c944dd25efbc234"),
        ] {
            assert_eq!(appsecret_proof(&secret(token), &secret(key)), proof);
        }
    }

    #[test]
    fn the_signed_request_vectors_hold() {
        let padded = open_signed_request(PADDED, &[&secret("foo_app_secret")]).unwrap();
        assert_eq!((padded.user_id.as_str(), padded.issued_at, padded.of_login), ("123", WallTime(321_000), true));
        let now = padded.issued_at;
        let left = parse_signed_request(PADDED, &[&secret("foo_app_secret")], now);
        assert_eq!(left, Err(SignedRequestError::OfLogin), "a login's is no wish to leave");
        for kind in ["code", "oauth_token"] {
            let payload = format!(r#"{{"user_id":"1","algorithm":"HMAC-SHA256","issued_at":321,"{kind}":null}}"#);
            let text = signed(&payload, KEY);
            assert_eq!(parse_signed_request(&text, &[&secret(KEY)], now), Err(SignedRequestError::OfLogin), "{kind}");
        }
        let deletion = open_signed_request(DELETION, &[&secret("new"), &secret(KEY)]).unwrap();
        assert_eq!((deletion.user_id.as_str(), deletion.issued_at), ("218471", WallTime(1_291_836_800_000)));
        assert_eq!(open_signed_request(DELETION, &[&secret("foo_app_secret")]), Err(SignedRequestError::Forged));
    }

    #[test]
    fn a_signed_request_ages() {
        let key = secret(KEY);
        let issued = WallTime(1_291_836_800_000);
        let at = |now| parse_signed_request(DELETION, &[&key], now).map(|r| r.issued_at);
        assert_eq!(at(issued), Ok(issued));
        assert_eq!(at(issued.plus(SIGNED_REQUEST_LIFETIME)), Ok(issued));
        assert_eq!(at(WallTime(issued.0 + 86_400_001)), Err(SignedRequestError::Stale));
        assert_eq!(at(WallTime(issued.0 - 300_000)), Ok(issued));
        assert_eq!(at(WallTime(issued.0 - 300_001)), Err(SignedRequestError::Stale));
    }

    #[test]
    fn a_right_signature_does_not_excuse_a_wrong_payload() {
        use SignedRequestError::*;
        let key = secret(KEY);
        for (payload, error) in [
            (r#"{"user_id":"1","algorithm":"HMAC-SHA1","issued_at":1}"#, Algorithm),
            (r#"{"user_id":"1","issued_at":1}"#, Algorithm),
            (r#"{"algorithm":"HMAC-SHA256","issued_at":1}"#, NoUser),
            (r#"{"user_id":"../1","algorithm":"HMAC-SHA256","issued_at":1}"#, NoUser),
            (r#"{"user_id":-1,"algorithm":"HMAC-SHA256","issued_at":1}"#, NoUser),
            (r#"{"user_id":1.5,"algorithm":"HMAC-SHA256","issued_at":1}"#, NoUser),
            (r#"{"user_id":"1","algorithm":"HMAC-SHA256"}"#, Malformed),
            (r#"{"user_id":"1","algorithm":"HMAC-SHA256","issued_at":-1}"#, Malformed),
            ("not json", Malformed),
            ("[]", Algorithm),
        ] {
            assert_eq!(open_signed_request(&signed(payload, KEY), &[&key]), Err(error), "{payload}");
        }
        let far = signed(r#"{"user_id":"1","algorithm":"HMAC-SHA256","issued_at":18446744073709551615}"#, KEY);
        assert_eq!(parse_signed_request(&far, &[&key], WallTime(0)), Err(Stale));
    }

    #[test]
    fn texts_that_are_no_signed_request_are_refused_before_hashing() {
        use SignedRequestError::*;
        let key = secret(KEY);
        let payload = DELETION.split_once('.').unwrap().1;
        for (text, error) in [
            (String::new(), Malformed),
            (".".to_owned(), Malformed),
            ("no dot".to_owned(), Malformed),
            (format!("AAAA.{payload}"), Malformed),
            (format!("{}.{payload}", "A".repeat(1000)), Malformed),
            (format!("{}.{payload}", "A".repeat(43)), Forged),
            ("A".repeat(MAX_SIGNED_REQUEST + 1), TooLong),
        ] {
            assert_eq!(open_signed_request(&text, &[&key]), Err(error), "{:.60}", text);
        }
    }

    proptest! {
        #[test]
        fn noise_is_never_a_signed_request(text in ".{0,200}") {
            prop_assert!(open_signed_request(&text, &[&secret(KEY)]).is_err());
        }
    }
}
