//! The query of a request that a browser brings from Shopify, and the `hmac` in it.
//!
//! The signature covers every other parameter, in the order of their names. Values are decoded and encoded again in one
//! way, so that a space may have come as `+` or as `%20`. Which parameters there are is not fixed: Shopify adds some.
//!
//! A parameter that decides something must not come twice: what is verified and what is used would be two texts.

use std::time::Duration;

use url::form_urlencoded;

use super::webhook_signature::{ClientKeys, TAG};
use crate::core::model::WallTime;

/// How far the `timestamp` may be from our clock, in both directions: what Shopify's own library takes.
pub const LIFETIME: Duration = Duration::from_secs(90);
/// What is added to that for clocks that disagree.
pub const CLOCK_SKEW: Duration = Duration::from_secs(5 * 60);
/// The longest query that is looked at, in bytes.
pub const MAX_QUERY: usize = 8 * 1024;
/// The most parameters.
const MAX_PARAMS: usize = 64;
/// Those that come once.
const SINGLE: [&str; 5] = ["code", "shop", "state", "hmac", "timestamp"];
/// Those that are not signed. `signature` belongs to an older scheme.
const UNSIGNED: [&str; 2] = ["hmac", "signature"];

/// Why a query was refused. No text of the query is part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// Longer than [`MAX_QUERY`], or with too many parameters.
    #[error("the query is too long")]
    TooLong,
    /// A parameter that decides something came more than once.
    #[error("the query has {0} more than once")]
    Repeated(&'static str),
    /// It is not signed.
    #[error("the query has no hmac")]
    Unsigned,
    /// None of the secrets made this signature.
    #[error("the query is not signed by this app's secret")]
    Forged,
    /// Signed right, but too long ago, or ahead of our clock.
    #[error("the query's timestamp is stale, or this machine's clock is wrong")]
    Stale,
}

/// The parameters of a query.
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads a query without its `?`.
    ///
    /// # Errors
    /// [`QueryError::TooLong`], [`QueryError::Repeated`].
    pub fn parse(query: &str) -> Result<Query, QueryError> {
        if query.len() > MAX_QUERY {
            return Err(QueryError::TooLong);
        }
        let mut params: Vec<_> = form_urlencoded::parse(query.as_bytes()).into_owned().take(MAX_PARAMS + 1).collect();
        if params.len() > MAX_PARAMS {
            return Err(QueryError::TooLong);
        }
        let is_repeated = |name: &&&str| params.iter().filter(|(key, _)| key == **name).count() > 1;
        if let Some(name) = SINGLE.iter().find(is_repeated) {
            return Err(QueryError::Repeated(name));
        }
        params.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(Query(params))
    }

    /// The value of a parameter. An empty one counts as missing.
    pub fn param(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// Does it claim to be signed?
    pub fn has_hmac(&self) -> bool {
        self.param("hmac").is_some()
    }

    /// Verifies the signature.
    ///
    /// # Errors
    /// [`QueryError::Unsigned`], [`QueryError::Forged`].
    pub fn verify(&self, keys: &ClientKeys) -> Result<(), QueryError> {
        let hmac = self.param("hmac").ok_or(QueryError::Unsigned)?;
        let mut tag = [0; TAG];
        hex::decode_to_slice(hmac, &mut tag).map_err(|_| QueryError::Forged)?;
        if keys.made(&tag, self.message().as_bytes()) { Ok(()) } else { Err(QueryError::Forged) }
    }

    /// Compares the `timestamp` with our clock.
    ///
    /// # Errors
    /// [`QueryError::Stale`], also without a timestamp.
    pub fn check_fresh(&self, now: WallTime) -> Result<(), QueryError> {
        let seconds = self.param("timestamp").and_then(|text| text.parse::<u64>().ok());
        let at = WallTime(seconds.and_then(|seconds| seconds.checked_mul(1000)).ok_or(QueryError::Stale)?);
        let off = at.since(now).max(now.since(at));
        if off <= LIFETIME + CLOCK_SKEW { Ok(()) } else { Err(QueryError::Stale) }
    }

    /// The text that is signed.
    fn message(&self) -> String {
        let encoded =
            |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>().replace('+', "%20");
        let signed = self.0.iter().filter(|(key, _)| !UNSIGNED.contains(&key.as_str()));
        let pairs: Vec<String> = signed.map(|(key, value)| format!("{}={}", encoded(key), encoded(value))).collect();
        pairs.join("&")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::model::Secret;
    use proptest::prelude::*;

    const KEY: &str = "0123456789abcdef0123456789abcdef";
    const CALLBACK: &str = "code=0907a61c0c8d55e99db179b68161bc00&host=YWRtaW4uc2hvcGlmeS5jb20vc3RvcmUvc29tZS1zaG9w&shop=some-shop.myshopify.com&state=n0nce-1&timestamp=1763769600";
    const HMAC: &str = "0273d79c5b03096649de0bc6b66650ba8dbd686cde2aebe6a9d7f6cf7d3236e2";

    fn verified(query: &str, secrets: &[&str]) -> Result<(), QueryError> {
        let secrets: Vec<Secret> = secrets.iter().map(|secret| Secret::new(*secret)).collect();
        Query::parse(query)?.verify(&ClientKeys::new(&secrets))
    }

    #[test]
    fn the_vectors_hold() {
        for (secret, message, hmac) in [
            (
                "hush",
                "code=a94a110d86d2452eb3e2af4cfb8a3828&shop=some-shop.myshopify.com&timestamp=1337178173",
                "2cb1a277650a659f1b11e92a4a64275b128e037f2c3390e3c8fd2d8721dac9e2",
            ),
            (
                "hush",
                "code=0907a61c0c8d55e99db179b68161bc00&shop=some-shop.myshopify.com&state=0.6784241404160823&timestamp=1337178173",
                "700e2dadb827fcc8609e9d5ce208b2e9cdaab9df07390d2cbca10d7c328fc4bf",
            ),
            (
                "hush",
                "code=0907a61c0c8d55e99db179b68161bc00&shop=some-shop.myshopify.com&timestamp=1337178173",
                "4712bf92ffc2917d15a2f5a273e39f0116667419aa4b6ac0b3baaf26fa3c4d20",
            ),
            (KEY, CALLBACK, HMAC),
            (
                KEY,
                "foo=a%20b&shop=some-shop.myshopify.com&timestamp=1763769600",
                "b79a37f096e0790d625ccd6f27e48aca8f40ffd6edaffb769a0d01a6af104c2e",
            ),
        ] {
            let queries = [
                format!("{message}&hmac={hmac}"),
                format!("hmac={hmac}&{message}"),
                format!("hmac={hmac}&signature=old&{}", message.split('&').rev().collect::<Vec<_>>().join("&")),
                format!("{message}&hmac={hmac}").replace("%20", "+"),
            ];
            for query in queries {
                assert_eq!(verified(&query, &[secret]), Ok(()), "{query}");
            }
        }
    }

    #[test]
    fn a_space_is_signed_as_percent_twenty() {
        let plus = "f02f8cda7c6503e3ef61dc540db4b7fcde914cf1593ba140ce4579f5d151573c";
        for space in ["+", "%20"] {
            let query = format!("foo=a{space}b&hmac={plus}&shop=some-shop.myshopify.com&timestamp=1763769600");
            assert_eq!(verified(&query, &[KEY]), Err(QueryError::Forged));
        }
    }

    #[test]
    fn the_previous_secret_still_counts_and_an_empty_one_never() {
        let query = format!("{CALLBACK}&hmac={HMAC}");
        assert_eq!(verified(&query, &["new", KEY]), Ok(()));
        for secrets in [&["new"][..], &[], &[""]] {
            assert_eq!(verified(&query, secrets), Err(QueryError::Forged));
        }
    }

    #[test]
    fn a_query_that_says_something_twice_is_refused() {
        for name in SINGLE {
            let query = format!("{CALLBACK}&hmac={HMAC}&{name}=x");
            assert_eq!(verified(&query, &[KEY]), Err(QueryError::Repeated(name)));
            let hidden = format!("{CALLBACK}&hmac={HMAC}&%{:02x}{}=x", name.as_bytes()[0], &name[1..]);
            assert_eq!(verified(&hidden, &[KEY]), Err(QueryError::Repeated(name)));
        }
    }

    #[test]
    fn what_is_no_signature_is_refused() {
        assert_eq!(verified(CALLBACK, &[KEY]), Err(QueryError::Unsigned));
        assert_eq!(verified(&format!("{CALLBACK}&hmac="), &[KEY]), Err(QueryError::Unsigned));
        for hmac in ["0", "zz", &HMAC[1..], &format!("{HMAC}00"), "JzzXnFsDCWZJ3gvGtmZQuo29aGze"] {
            assert_eq!(verified(&format!("{CALLBACK}&hmac={hmac}"), &[KEY]), Err(QueryError::Forged));
        }
        let more = format!("{CALLBACK}&hmac={HMAC}&embedded=1");
        assert_eq!(verified(&more, &[KEY]), Err(QueryError::Forged), "an added parameter is part of what is signed");
        assert_eq!(verified(&"a=1&".repeat(65), &[KEY]), Err(QueryError::TooLong));
        assert_eq!(verified(&"a".repeat(MAX_QUERY + 1), &[KEY]), Err(QueryError::TooLong));
    }

    #[test]
    fn a_timestamp_is_near_our_clock() {
        let at = |timestamp: &str| Query::parse(&format!("timestamp={timestamp}")).unwrap();
        let now = WallTime(1_763_769_600_000);
        let most = (LIFETIME + CLOCK_SKEW).as_secs();
        for (seconds, is_fresh) in [(0, true), (most, true), (most + 1, false), (86_400, false)] {
            let (early, late) = (now.0 / 1000 - seconds, now.0 / 1000 + seconds);
            assert_eq!(at(&early.to_string()).check_fresh(now).is_ok(), is_fresh, "{seconds} s ago");
            assert_eq!(at(&late.to_string()).check_fresh(now).is_ok(), is_fresh, "{seconds} s ahead");
        }
        for odd in ["", "now", "-1", "1763769600.5", "99999999999999999999", "18446744073709551615"] {
            assert_eq!(at(odd).check_fresh(now), Err(QueryError::Stale), "{odd}");
        }
    }

    proptest! {
        #[test]
        fn no_query_panics(query in ".{0,200}") {
            let _ = verified(&query, &[KEY]);
        }
    }
}
