//! What every request of ours to another host has in common: how an error is put in words, and how long an answer asks
//! to wait.
//!
//! An error of reqwest prints the address with its query, where a proof or a secret may stand; so its own text is never
//! used, only that of its causes.

use std::time::Duration;

use reqwest::header::{HeaderMap, RETRY_AFTER};

use crate::backoff::LONGEST_HINT;

/// `what`, and what caused the error, without the address.
pub fn describe(what: &str, error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = what.to_owned();
    let mut cause = std::error::Error::source(&error);
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    text
}

/// The seconds of `Retry-After`, a day at most; a date in its place is passed over.
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds: u64 = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(LONGEST_HINT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_read_and_bounded() {
        let asked = |text: &str| retry_after(&HeaderMap::from_iter([(RETRY_AFTER, text.parse().unwrap())]));
        assert_eq!(asked(" 7 "), Some(Duration::from_secs(7)));
        assert_eq!(asked("99999999999"), Some(LONGEST_HINT));
        assert_eq!((asked("-1"), asked("Sun, 22 Nov 2026 10:00:00 GMT"), asked("")), (None, None, None));
        assert_eq!(retry_after(&HeaderMap::new()), None);
    }

    #[tokio::test]
    async fn the_address_is_left_out() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let error = client.get(format!("http://{free}/x?secret=hush")).send().await.unwrap_err();
        let text = describe("out of reach", error);
        assert!(text.starts_with("out of reach: ") && !text.contains("hush"), "{text}");
    }
}
