//! Rules for one value at a time: each answers with what is wrong and what to do.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use url::Url;

use super::findings::shown;
use super::log_format::LogFormat;
use super::log_modules;
use super::spelling::nearest;

/// What is wrong, and what to do. Where the latter is empty, the key's own advice stands for it.
pub(super) type Wrong = (String, String);

/// The fewest characters of a passphrase that seals an export or a backup.
pub const MIN_PASSPHRASE: usize = 12;

/// A rule for one text.
pub(super) type Rule = fn(&str) -> Result<(), Wrong>;

fn wrong<T>(what: impl Into<String>, hint: impl Into<String>) -> Result<T, Wrong> {
    Err((what.into(), hint.into()))
}

/// An `http` or `https` address without credentials, query or fragment; the trailing slash is taken off.
pub(super) fn url(text: &str) -> Result<String, Wrong> {
    let url = web_address(text)?;
    if url.query().is_some() || url.fragment().is_some() {
        return wrong("has a query or a fragment", "end the URL before ? and #");
    }
    Ok(text.trim_end_matches('/').to_owned())
}

/// Like [`url()`], kept as it is written: it is called, and nothing is appended to it, so it may have a query.
pub(super) fn called_url(text: &str) -> Result<String, Wrong> {
    match web_address(text)?.fragment() {
        Some(_) => wrong("has a fragment, which is never sent", "end the URL before #"),
        None => Ok(text.to_owned()),
    }
}

fn web_address(text: &str) -> Result<Url, Wrong> {
    const LIKE: &str = "write something like https://pages.example.com";
    if !text.contains("://") {
        return wrong("has no scheme", LIKE);
    }
    let Ok(url) = Url::parse(text) else { return wrong("is not a valid URL", LIKE) };
    if !matches!(url.scheme(), "http" | "https") {
        return wrong("has a scheme other than http and https", LIKE);
    }
    if url.host().is_none() {
        return wrong("names no host", LIKE);
    }
    if !url.username().is_empty() || url.password().is_some() {
        return wrong("holds a user name or password", "take it out of the URL");
    }
    Ok(url)
}

/// An address that a browser is sent to: kept as it is written, query and fragment included.
pub(super) fn way(text: &str) -> Result<String, Wrong> {
    let bare = text.split(['?', '#']).next().unwrap_or_default();
    url(bare)?;
    match Url::parse(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => wrong("is not a valid URL", "write something like https://example.com/settings?tab=pages"),
    }
}

/// The longest name of the platform, in characters.
const MAX_PLATFORM_NAME: usize = 60;

pub(super) fn platform_name(text: &str) -> Result<(), Wrong> {
    if text.chars().count() <= MAX_PLATFORM_NAME {
        return Ok(());
    }
    wrong(format!("is longer than {MAX_PLATFORM_NAME} characters"), "write the name as users know it")
}

/// `#rrggbb`, or nothing.
pub(super) fn color(text: &str) -> Result<(), Wrong> {
    let digits = text.strip_prefix('#').unwrap_or_default();
    if text.is_empty() || (digits.len() == 6 && digits.bytes().all(|b| b.is_ascii_hexdigit())) {
        return Ok(());
    }
    wrong("is not a colour", "write # and six digits, two each for red, green and blue, such as \"#0a5c36\"")
}

pub(super) fn address(text: &str) -> Result<SocketAddr, Wrong> {
    text.parse()
        .or_else(|_| wrong("is not an IP address with a port", "write 127.0.0.1:5000, 0.0.0.0:80 or [::1]:5000"))
}

pub(super) fn loopback(text: &str) -> Result<SocketAddr, Wrong> {
    let address = address(text)?;
    if is_loopback(address.ip()) {
        return Ok(address);
    }
    wrong("is not a loopback address", "write 127.0.0.1:9464 or \"\" for none; whoever reaches it sees every page")
}

pub(super) fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

pub(super) fn duration(text: &str) -> Result<Duration, Wrong> {
    const LIKE: &str = "write a number and a unit, such as 500ms, 10s, 5m, 24h or 30d";
    humantime::parse_duration(text).or_else(|_| wrong("is not a duration", LIKE))
}

/// A span in its largest whole unit, as a person would write it: 400 days are `400d`, and no year and some months.
pub(super) fn span_text(span: Duration) -> String {
    let millis = span.as_millis();
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s")];
    let whole = units.into_iter().find(|(unit, _)| millis >= *unit && millis.is_multiple_of(*unit));
    whole.map_or_else(|| format!("{millis}ms"), |(unit, name)| format!("{}{name}", millis / unit))
}

pub(super) fn app_id(text: &str) -> Result<(), Wrong> {
    if (1..=32).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(());
    }
    wrong("is not an app id, which is digits alone", "")
}

/// `vNN.N`
pub(super) fn graph_version(text: &str) -> Result<(), Wrong> {
    match version_number(text) {
        Some(_) => Ok(()),
        None => wrong("is not a Graph version", "write something like v26.0"),
    }
}

pub(super) fn version_number(text: &str) -> Option<u32> {
    let (major, minor) = text.strip_prefix('v')?.split_once('.')?;
    let digits = |part: &str, most| (1..=most).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
    if !digits(major, 3) || !digits(minor, 1) {
        return None;
    }
    major.parse().ok()
}

pub(super) fn client_id(text: &str) -> Result<(), Wrong> {
    if text.len() <= 64 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        return Ok(());
    }
    wrong("is not a client id, which is letters and digits", "")
}

/// `YYYY-MM` of a quarter.
pub(super) fn shopify_version(text: &str) -> Result<(), Wrong> {
    let sound = text.split_once('-').is_some_and(|(year, month)| {
        year.len() == 4 && year.bytes().all(|b| b.is_ascii_digit()) && matches!(month, "01" | "04" | "07" | "10")
    });
    if sound { Ok(()) } else { wrong("is not a version of Shopify's Admin API", "write something like 2026-10") }
}

pub(super) fn subscribe(text: &str) -> Result<(), Wrong> {
    if matches!(text, "app" | "shop") {
        return Ok(());
    }
    wrong(
        "is neither app nor shop",
        "write app when the subscriptions stand in the app's TOML, or shop when the daemon is to make them for each shop",
    )
}

/// What stands for a shop's name in [`shop_template`].
pub(super) const SHOP: &str = "{shop}";

/// An address that becomes one of a shop when the name takes the place of `{shop}`, or nothing.
pub(super) fn shop_template(text: &str) -> Result<(), Wrong> {
    if text.is_empty() {
        return Ok(());
    }
    if !text.contains(SHOP) {
        return wrong("does not contain {shop}", "write something like http://127.0.0.1:9000/{shop}, or leave it out");
    }
    let example = url(&text.replace(SHOP, "some-shop.myshopify.com"))?;
    if example.len() == text.replace(SHOP, "some-shop.myshopify.com").len() {
        return Ok(());
    }
    wrong("ends with a slash", "take the slash off")
}

/// The longest name of a daemon. The database shows 63 bytes, with the program's name in front.
const MAX_NODE: usize = 50;

pub(super) fn node(text: &str) -> Result<(), Wrong> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
    if text.len() <= MAX_NODE && text.bytes().all(plain) {
        return Ok(());
    }
    let hint = format!("use at most {MAX_NODE} letters, digits, dots, hyphens and underscores, as in a host name");
    wrong("is not the name of a daemon", hint)
}

/// A host name in letters, digits, hyphens and dots.
pub(super) fn host_name(text: &str) -> Result<(), Wrong> {
    let is_label = |label: &str| {
        let plain = label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        (1..=63).contains(&label.len()) && plain && !label.starts_with('-') && !label.ends_with('-')
    };
    if text.len() <= 253 && text.split('.').all(is_label) {
        return Ok(());
    }
    wrong("is not a host name", "write something like client.example.com; other letters as punycode (xn--)")
}

/// An address of electronic mail as ACME takes it, or nothing.
pub(super) fn contact(text: &str) -> Result<(), Wrong> {
    let address = text.strip_prefix("mailto:").unwrap_or_default();
    let is_address = address.split_once('@').is_some_and(|(user, host)| !user.is_empty() && host_name(host).is_ok());
    if text.is_empty() || (is_address && !address.contains([' ', ',', '?'])) {
        return Ok(());
    }
    wrong("is not an address of electronic mail", "write something like mailto:admin@example.com")
}

pub(super) fn region(text: &str) -> Result<(), Wrong> {
    let sound = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if text.len() <= 32 && text.bytes().all(sound) && !text.starts_with('-') && !text.ends_with('-') {
        return Ok(());
    }
    wrong("is not a region name", "write it in lower case as in the control panel, such as nyc3, fra1 or sgp1")
}

/// The naming rules of buckets; dots are left to path style, because a certificate's `*` does not cover them.
pub(super) fn bucket(text: &str) -> Result<(), Wrong> {
    if !(3..=63).contains(&text.len()) {
        return wrong("is not a bucket name, which has 3 to 63 characters", "");
    }
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let inner = text.bytes().all(|b| plain(b) || b == b'-' || b == b'.');
    let ends = text.bytes().next().is_some_and(plain) && text.bytes().next_back().is_some_and(plain);
    if !inner || !ends || text.contains("..") || text.parse::<std::net::Ipv4Addr>().is_ok() {
        let hint = "use lower-case letters, digits and hyphens, with a letter or digit at both ends";
        return wrong("is not a bucket name", hint);
    }
    Ok(())
}

const LEVELS: &[&str] = &["error", "warn", "info", "debug", "trace", "off"];

/// A level, or levels by target: `info`, or `info,pagesyncd::store=debug`.
pub(super) fn log_level(text: &str) -> Result<(), Wrong> {
    for part in text.split(',').map(str::trim) {
        let (target, level) = part.rsplit_once('=').map_or((None, part), |(target, level)| (Some(target), level));
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b':' | b'-');
        if target.is_some_and(|target| target.is_empty() || !target.bytes().all(plain)) {
            return wrong("names a target that is no module path", "write something like info,pagesyncd::store=debug");
        }
        if let Some(target) = target {
            log_modules::check(target)?;
        }
        if !LEVELS.contains(&level) {
            let near = nearest(level, LEVELS.iter().copied()).unwrap_or("info");
            let hint = format!("choose from {}; the nearest is {near}", LEVELS.join(", "));
            return wrong(format!("has the unknown level {}", shown(level)), hint);
        }
    }
    Ok(())
}

pub(super) fn log_format(text: &str) -> Result<LogFormat, Wrong> {
    let known = LogFormat::ALL.iter().find(|format| format.as_str() == text);
    let words: Vec<_> = LogFormat::ALL.iter().map(|format| format.as_str()).collect();
    match known {
        Some(format) => Ok(*format),
        None => wrong(format!("has the unknown format {}", shown(text)), format!("choose from {}", words.join(", "))),
    }
}
