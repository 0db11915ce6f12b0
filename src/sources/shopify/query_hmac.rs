//! The `hmac` with which Shopify signs query strings: those of the entry and of the callback.
//!
//! It is the hex of an HMAC-SHA256, keyed with the client secret, over all other parameters but `signature`: sorted by
//! name, as `name=value`, joined with `&`. The values are decoded once and encoded as Shopify's JavaScript library does:
//! everything but letters, digits and `*-._` is percent-encoded, a blank as `%20`. Which parameters come is not fixed, so
//! that all of them are taken. One that is repeated is refused where it matters, because two readers could each take
//! another value.
//!
//! Source: Shopify's page on the authorization code grant, and `hmac-validator.ts` of shopify-app-js.

use std::time::Duration;

use hmac::{Hmac, Mac};
use sha2::Sha256;
use url::form_urlencoded;

use crate::core::model::{Secret, WallTime};

/// The longest query that is looked at, in bytes.
pub const MAX_QUERY: usize = 16 * 1024;
/// A query may be so old, or so far ahead of this machine's clock: 90 s, as Shopify's library allows, and as much again
/// for clocks that disagree.
pub const FRESH: Duration = Duration::from_secs(180);
/// Parameters of which there must not be two.
const SINGLE: [&str; 5] = ["code", "hmac", "shop", "state", "timestamp"];

/// What a signed query says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// The shop, unchecked.
    pub shop: String,
    /// To be exchanged once.
    pub code: Option<String>,
    /// Ours, unchecked.
    pub state: Option<String>,
}

/// Why a query was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// It is not what Shopify sends.
    #[error("{0}")]
    Malformed(&'static str),
    /// None of the secrets signed it.
    #[error("the hmac does not fit")]
    Forged,
    /// It is too old, or from the future.
    #[error("the timestamp is too old")]
    Stale,
}

/// Verifies a query string, without its `?`, with the present client secret and the one before.
///
/// # Errors
/// [`QueryError`].
pub fn verify<'a>(
    query: &str,
    secrets: impl IntoIterator<Item = &'a Secret>,
    now: WallTime,
) -> Result<Signed, QueryError> {
    if query.len() > MAX_QUERY {
        return Err(QueryError::Malformed("the query is too long"));
    }
    let pairs: Vec<(String, String)> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    for name in SINGLE {
        if pairs.iter().filter(|(key, _)| key == name).count() > 1 {
            return Err(QueryError::Malformed("a parameter is given twice"));
        }
    }
    let value = |name: &str| pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
    let hmac = value("hmac").ok_or(QueryError::Malformed("hmac is missing"))?;
    let message = message(&pairs);
    let mut tag = [0; 32];
    hex::decode_to_slice(&hmac, &mut tag).map_err(|_| QueryError::Forged)?;
    let made = |secret: &Secret| {
        !secret.is_empty() && keyed(secret).chain_update(message.as_bytes()).verify_slice(&tag).is_ok()
    };
    if !secrets.into_iter().any(made) {
        return Err(QueryError::Forged);
    }
    let at = value("timestamp").ok_or(QueryError::Malformed("timestamp is missing"))?;
    let at: u64 = at.parse().map_err(|_| QueryError::Malformed("timestamp is no number of seconds"))?;
    let at = WallTime(at.checked_mul(1000).ok_or(QueryError::Stale)?);
    if now.since(at) > FRESH || at.since(now) > FRESH {
        return Err(QueryError::Stale);
    }
    let shop = value("shop").ok_or(QueryError::Malformed("shop is missing"))?;
    Ok(Signed { shop, code: value("code"), state: value("state") })
}

fn keyed(secret: &Secret) -> Hmac<Sha256> {
    Hmac::<Sha256>::new_from_slice(secret.expose().as_bytes()).expect("hmac takes a key of any length")
}

/// What is signed.
fn message(pairs: &[(String, String)]) -> String {
    let signed = pairs.iter().filter(|(name, _)| !matches!(name.as_str(), "hmac" | "signature"));
    let mut signed: Vec<&(String, String)> = signed.collect();
    signed.sort_by(|a, b| a.0.cmp(&b.0));
    let encoded = signed.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value)));
    encoded.collect::<Vec<_>>().join("&")
}

fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'*' | b'-' | b'.' | b'_' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KEY: &str = "0123456789abcdef0123456789abcdef";

    /// The query without `hmac`, the secret, and the `hmac` that Shopify's libraries make of them.
    const VECTORS: [(&str, &str, u64, &str); 5] = [
        (
            "code=a94a110d86d2452eb3e2af4cfb8a3828&shop=some-shop.myshopify.com&timestamp=1337178173",
            "hush",
            1_337_178_173,
            "2cb1a277650a659f1b11e92a4a64275b128e037f2c3390e3c8fd2d8721dac9e2",
        ),
        (
            "shop=some-shop.myshopify.com&code=0907a61c0c8d55e99db179b68161bc00&timestamp=1337178173&state=0.6784241404160823",
            "hush",
            1_337_178_173,
            "700e2dadb827fcc8609e9d5ce208b2e9cdaab9df07390d2cbca10d7c328fc4bf",
        ),
        (
            "code=0907a61c0c8d55e99db179b68161bc00&shop=some-shop.myshopify.com&timestamp=1337178173",
            "hush",
            1_337_178_173,
            "4712bf92ffc2917d15a2f5a273e39f0116667419aa4b6ac0b3baaf26fa3c4d20",
        ),
        (
            "code=0907a61c0c8d55e99db179b68161bc00&host=YWRtaW4uc2hvcGlmeS5jb20vc3RvcmUvc29tZS1zaG9w&shop=some-shop.myshopify.com&state=n0nce-1&timestamp=1763769600",
            KEY,
            1_763_769_600,
            "0273d79c5b03096649de0bc6b66650ba8dbd686cde2aebe6a9d7f6cf7d3236e2",
        ),
        (
            "foo=a%20b&shop=some-shop.myshopify.com&timestamp=1763769600",
            KEY,
            1_763_769_600,
            "b79a37f096e0790d625ccd6f27e48aca8f40ffd6edaffb769a0d01a6af104c2e",
        ),
    ];

    fn check(query: &str, secret: &str, seconds: u64) -> Result<Signed, QueryError> {
        verify(query, [&Secret::new(secret)], WallTime(seconds * 1000))
    }

    #[test]
    fn the_vectors_hold() {
        for (query, secret, at, hmac) in VECTORS {
            let signed = check(&format!("{query}&hmac={hmac}"), secret, at).unwrap();
            assert_eq!(signed.shop, "some-shop.myshopify.com");
            assert_eq!(check(&format!("hmac={hmac}&{query}&signature=x"), secret, at), Ok(signed));
            assert_eq!(check(&format!("{query}&hmac={hmac}"), "other", at), Err(QueryError::Forged));
            assert_eq!(check(&format!("{query}&hmac={hmac}&more=1"), secret, at), Err(QueryError::Forged));
            assert_eq!(check(&format!("{query}&hmac={}", &hmac[..62]), secret, at), Err(QueryError::Forged));
        }
        // A blank may be spelled in two ways in a query; it is signed in one.
        let query = "foo=a+b&shop=some-shop.myshopify.com&timestamp=1763769600";
        assert!(check(&format!("{query}&hmac={}", VECTORS[4].3), KEY, VECTORS[4].2).is_ok());
        let form = "f02f8cda7c6503e3ef61dc540db4b7fcde914cf1593ba140ce4579f5d151573c";
        assert_eq!(check(&format!("{query}&hmac={form}"), KEY, VECTORS[4].2), Err(QueryError::Forged));
    }

    #[test]
    fn either_secret_signs_while_it_is_rotated_and_an_empty_one_never() {
        let (query, secret, at, hmac) = VECTORS[3];
        let (query, now) = (format!("{query}&hmac={hmac}"), WallTime(at * 1000));
        let (old, new, none) = (Secret::new(secret), Secret::new("new"), Secret::default());
        assert!(verify(&query, [&new, &old], now).is_ok());
        assert_eq!(verify(&query, [&new, &none], now), Err(QueryError::Forged));
        let unkeyed = hex::encode(keyed(&none).chain_update("shop=a&timestamp=1").finalize().into_bytes());
        assert_eq!(check(&format!("shop=a&timestamp=1&hmac={unkeyed}"), "", 1), Err(QueryError::Forged));
    }

    #[test]
    fn repeats_gaps_and_old_queries_are_refused() {
        let (query, secret, at, hmac) = VECTORS[3];
        let signed = format!("{query}&hmac={hmac}");
        for name in SINGLE {
            let twice = format!("{signed}&{name}=x");
            assert_eq!(check(&twice, secret, at), Err(QueryError::Malformed("a parameter is given twice")), "{name}");
        }
        assert!(matches!(check(query, secret, at), Err(QueryError::Malformed(_))));
        assert!(check(&signed, secret, at + FRESH.as_secs()).is_ok());
        assert_eq!(check(&signed, secret, at + FRESH.as_secs() + 1), Err(QueryError::Stale));
        assert_eq!(check(&signed, secret, at - FRESH.as_secs() - 1), Err(QueryError::Stale));
        let long = format!("shop={}", "a".repeat(MAX_QUERY));
        assert!(matches!(check(&long, secret, at), Err(QueryError::Malformed(_))));
    }

    proptest! {
        #[test]
        fn any_query_has_an_answer(query in ".{0,300}") {
            prop_assert!(check(&query, KEY, 1).is_err());
        }
    }
}
