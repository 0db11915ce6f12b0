//! The common part of requests to other hosts: the client, bounded answers, and words for failures.
//!
//! One rule holds for Graph, Spaces and the receiver of events, because [`client`] makes the client of each:
//!
//! - No proxy. `HTTP_PROXY` and its relatives are not read: they reach a daemon by inheritance, and would send tokens
//!   and signed objects to a host that no key of the configuration names.
//! - No redirect is followed. A redirect would carry credentials to an address that is not configured.
//! - Connecting, each read and the whole exchange have a limit in time. Answers also have a limit in bytes: [`body`]
//!   and [`beginning`] stop reading at it.
//! - Certificates are checked against the built-in roots, the system's roots and `ca_file` ([`Trust`]).
//!
//! An error of reqwest prints the address with its query, where a proof or a secret may stand; so its own text is never
//! used, only that of its causes.

mod tls;
mod trust;

use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use reqwest::header::{DATE, HeaderMap, HeaderName, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Client, ClientBuilder, Response};

pub use self::tls::TlsFault;
pub use self::trust::Trust;
use crate::core::backoff::LONGEST_HINT;

/// Longest time for a connection to stand, TLS included.
const CONNECT: Duration = Duration::from_secs(5);
/// Longest silence within an exchange.
const SILENCE: Duration = Duration::from_secs(15);
/// A pooled connection is closed after this time without a request.
const IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE: Duration = Duration::from_secs(30);

/// A client under the rule above. `total` is the limit for one exchange, from connecting to the last byte.
pub fn client(total: Duration, trust: &Trust) -> ClientBuilder {
    let builder = Client::builder()
        .no_proxy()
        .redirect(Policy::none())
        .connect_timeout(total.min(CONNECT))
        .read_timeout(total.min(SILENCE))
        .timeout(total)
        .pool_idle_timeout(IDLE)
        .tcp_keepalive(KEEPALIVE)
        .user_agent(concat!("pagesyncd/", env!("CARGO_PKG_VERSION")));
    trust.certificates().fold(builder, ClientBuilder::add_root_certificate)
}

/// Why an answer's body was not read.
#[derive(Debug)]
pub enum Unread {
    /// It is longer than the limit.
    TooLarge,
    /// The connection failed.
    Broken(reqwest::Error),
}

/// The whole body of an answer, of at most `most` bytes. A longer one is not read further than that.
///
/// # Errors
/// [`Unread`].
pub async fn body(answer: &mut Response, most: usize) -> Result<Bytes, Unread> {
    if answer.content_length().is_some_and(|length| length > most as u64) {
        return Err(Unread::TooLarge);
    }
    // An answer that comes in one piece is not copied.
    let Some(first) = answer.chunk().await.map_err(Unread::Broken)? else { return Ok(Bytes::new()) };
    let mut next = Some(first);
    let (mut whole, mut bytes) = (Bytes::new(), BytesMut::new());
    while let Some(chunk) = next {
        if whole.len().max(bytes.len()) + chunk.len() > most {
            return Err(Unread::TooLarge);
        }
        if whole.is_empty() {
            whole = chunk;
        } else {
            if bytes.is_empty() {
                bytes.extend_from_slice(&whole);
            }
            bytes.extend_from_slice(&chunk);
        }
        next = answer.chunk().await.map_err(Unread::Broken)?;
    }
    Ok(if bytes.is_empty() { whole } else { bytes.freeze() })
}

/// The first `most` bytes of a body, or fewer when the connection fails: for answers whose status is enough. A body
/// that fits is read to its end, so that the connection can be used again.
pub async fn beginning(answer: &mut Response, most: usize) -> Bytes {
    let mut bytes = BytesMut::new();
    while let Ok(Some(chunk)) = answer.chunk().await {
        let left = most - bytes.len();
        bytes.extend_from_slice(&chunk[..chunk.len().min(left)]);
        if chunk.len() > left {
            break;
        }
    }
    bytes.freeze()
}

/// An address as a log may show it: its query may hold a key.
pub fn without_query(url: &str) -> &str {
    url.split(['?', '#']).next().unwrap_or_default()
}

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

/// The wait that `Retry-After` asks for, in seconds or as a date, a day at most.
///
/// A date is compared with the answer's own `Date`, so that a wrong clock on this machine changes nothing; only without
/// one does this machine's clock count. A wait of nothing is no hint: the caller's own backoff holds then, which a
/// server cannot turn into a loop without a pause.
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let until = httpdate::parse_http_date(text).ok()?;
            let now = date(headers, &DATE).unwrap_or_else(SystemTime::now);
            until.duration_since(now).ok()?
        }
    };
    Some(wait.min(LONGEST_HINT)).filter(|wait| !wait.is_zero())
}

/// How far this machine's clock is from the other side's, by the answer's `Date`: `2h 3m ahead of` or `5m behind`.
pub fn clock_difference(headers: &HeaderMap, now: SystemTime) -> Option<String> {
    let theirs = date(headers, &DATE)?;
    let (off, word) = match now.duration_since(theirs) {
        Ok(ahead) => (ahead, "ahead of"),
        Err(behind) => (behind.duration(), "behind"),
    };
    // Whole minutes: the text of a standing fault stays the same from one answer to the next.
    let minutes = Duration::from_secs(off.as_secs() / 60 * 60);
    Some(format!("{} {word}", humantime::format_duration(minutes)))
}

fn date(headers: &HeaderMap, name: &HeaderName) -> Option<SystemTime> {
    httpdate::parse_http_date(headers.get(name)?.to_str().ok()?.trim()).ok()
}

#[cfg(test)]
mod tests;
