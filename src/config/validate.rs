//! What a value must be to make sense: rules for one value at a time, and rules across keys.
//!
//! A rule for one value answers with what is wrong and what to do. The rules across keys look at a configuration
//! whose single values were read already; a value that was refused there is empty here and is passed over.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use url::{Host, Url};

use super::findings::{Report, shown};
use super::keys::{REDIRECT_URI, WEBHOOK_ADDRESS, nearest};
use super::secret::is_placeholder;
use super::{Config, LogFormat, decode_notify_secret, decode_store_key};

/// What is wrong, and what to do.
pub(super) type Wrong = (String, String);

fn wrong<T>(what: impl Into<String>, hint: impl Into<String>) -> Result<T, Wrong> {
    Err((what.into(), hint.into()))
}

/// Where a person gets the value of a key that has no default.
pub(super) fn where_to_find(name: &str) -> &'static str {
    match name {
        "facebook.app_id" => "copy the app id from the app dashboard, Settings > Basic",
        "facebook.app_secret" => "copy the app secret from the app dashboard, Settings > Basic",
        "facebook.verify_token" => "make up a long random text; the daemon gives it to Facebook itself",
        "spaces.bucket" => "give the name of the Spaces bucket",
        "spaces.access_key" | "spaces.secret_key" => "make a Spaces access key in the DigitalOcean control panel, API",
        "store.key" => "make one with `pagesyncd keygen`",
        "notify.secret" | "notify.previous_secret" => "make one with `pagesyncd keygen --notify`",
        "session.state_secret" => "make up a long random text, for example with `pagesyncd keygen`",
        _ => "give it a value, or take the line out to have the default",
    }
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

pub(super) fn address(text: &str) -> Result<SocketAddr, Wrong> {
    text.parse()
        .or_else(|_| wrong("is not an IP address with a port", "write 127.0.0.1:5000, 0.0.0.0:80 or [::1]:5000"))
}

pub(super) fn loopback(text: &str) -> Result<SocketAddr, Wrong> {
    let address = address(text)?;
    if is_loopback(address.ip()) {
        return Ok(address);
    }
    wrong("is not a loopback address", "write 127.0.0.1:9100 or \"\" for none; whoever reaches it sees every page")
}

fn is_loopback(ip: IpAddr) -> bool {
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
    wrong("is not an app id, which is digits alone", where_to_find("facebook.app_id"))
}

/// `vNN.N`
pub(super) fn graph_version(text: &str) -> Result<(), Wrong> {
    match version_number(text) {
        Some(_) => Ok(()),
        None => wrong("is not a Graph version", "write something like v26.0"),
    }
}

fn version_number(text: &str) -> Option<u32> {
    let (major, minor) = text.strip_prefix('v')?.split_once('.')?;
    let digits = |part: &str, most| (1..=most).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
    if !digits(major, 3) || !digits(minor, 1) {
        return None;
    }
    major.parse().ok()
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
        return wrong("is not a bucket name, which has 3 to 63 characters", where_to_find("spaces.bucket"));
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

/// Rules across keys.
pub(super) fn check(config: &Config, report: &mut Report) {
    check_addresses(config, report);
    check_secrets(config, report);
    check_store_keys(config, report);
    check_notify(config, report);
    check_spaces(config, report);
    check_paths(config, report);
    super::fields::check(&config.facebook, report);
    if version_number(&config.facebook.graph_version).is_some_and(|version| version < 21) {
        let hint = "write v26.0 or newer; Graph answers a dead version silently as the oldest one alive";
        report.warning("facebook.graph_version", "is a version that Graph has retired", hint);
    }
    if config.sync.poll_interval < Duration::from_secs(300) && !config.sync.poll_interval.is_zero() {
        let hint = "webhooks bring changes within seconds; 24h is enough for the rest";
        report.warning("sync.poll_interval", "spends the request budget of every page on polling", hint);
    }
}

fn check_addresses(config: &Config, report: &mut Report) {
    let http = &config.http;
    if let Some(admin) = config.admin.listen
        && admin == http.listen
        && admin.port() != 0
    {
        report.error("admin.listen", "is the same address as http.listen", "give it a port of its own");
    }
    clear_text("http.public_url", &http.public_url, "logins and webhooks travel in clear text", report);
    if let Some(way) = &http.return_url {
        clear_text("http.return_url", way, "users come back over a connection that others can read", report);
    }
    clear_text("facebook.graph_url", &config.facebook.graph_url, "tokens travel in clear text", report);
    clear_text("facebook.dialog_url", &config.facebook.dialog_url, "logins travel in clear text", report);
    clear_text("spaces.endpoint", &config.spaces.endpoint, "objects travel in clear text", report);
    for (name, given, path) in [
        (REDIRECT_URI, &config.facebook.redirect_uri, "/facebook/callback"),
        (WEBHOOK_ADDRESS, &config.facebook.webhook_address, "/facebook/webhook"),
    ] {
        let Some(given) = given else { continue };
        if is_placeholder(given) {
            report.error(name, "is a placeholder", "put the real address there, or unset it and set http.public_url");
            continue;
        }
        if let Err((what, hint)) = called_url(given) {
            report.error(name, what, hint);
            continue;
        }
        clear_text(name, given, "logins and webhooks travel in clear text", report);
        if !Url::parse(given).is_ok_and(|url| url.path().ends_with(path)) {
            let message = format!("does not end in {path}, where the daemon answers");
            report.warning(name, message, "make sure that a proxy maps the one to the other");
        }
    }
}

/// Warns of plain http to anywhere but this machine.
fn clear_text(key: &str, text: &str, harm: &str, report: &mut Report) {
    if is_clear_text(text) {
        report.warning(key, format!("is plain http to another host: {harm}"), "use https");
    }
}

/// Is this plain http to anywhere but this machine?
fn is_clear_text(text: &str) -> bool {
    let Ok(url) = Url::parse(text) else { return false };
    let local = match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(ip)) => is_loopback(ip.into()),
        Some(Host::Ipv6(ip)) => is_loopback(ip.into()),
        None => true,
    };
    url.scheme() == "http" && !local
}

fn check_secrets(config: &Config, report: &mut Report) {
    let facebook = &config.facebook;
    let weak = |text: &str| text.len() < 16 || text.bytes().all(|b| b.is_ascii_digit());
    if !facebook.verify_token.is_empty() && weak(facebook.verify_token.expose()) {
        let hint = "make up at least 16 random characters; who guesses it can pass for this app's webhook";
        report.warning("facebook.verify_token", "is easy to guess", hint);
    }
    let state = config.session.state_secret.expose().len();
    if (1..8).contains(&state) {
        report.error("session.state_secret", "is shorter than 8 characters", where_to_find("session.state_secret"));
    } else if (8..32).contains(&state) {
        report.warning("session.state_secret", "is shorter than 32 characters", where_to_find("session.state_secret"));
    }
    let all = [
        ("facebook.app_secret", &facebook.app_secret),
        ("facebook.verify_token", &facebook.verify_token),
        ("session.state_secret", &config.session.state_secret),
        ("spaces.secret_key", &config.spaces.secret_key),
        ("store.key", &config.store.key),
    ];
    for (n, (key, secret)) in all.iter().enumerate() {
        if let Some((twin, _)) = all[..n].iter().find(|(_, other)| other == secret && !secret.is_empty()) {
            report.warning(key, format!("is the same secret as {twin}"), "give each purpose a secret of its own");
        }
    }
    let session = &config.session;
    for (key, secret, previous) in [
        ("facebook.app_secret", &facebook.app_secret, &facebook.previous_app_secret),
        ("session.state_secret", &session.state_secret, &session.previous_state_secret),
    ] {
        if previous.as_ref() == Some(secret) && !secret.is_empty() {
            let (section, name) = key.split_once('.').unwrap_or_default();
            report.warning(
                &format!("{section}.previous_{name}"),
                format!("is the same secret as {key}"),
                "take it out",
            );
        }
    }
}

fn check_store_keys(config: &Config, report: &mut Report) {
    let current = decode_store_key(&config.store.key);
    if current.is_none() && !config.store.key.is_empty() {
        report.error("store.key", "is not 32 bytes in base64", where_to_find("store.key"));
    }
    if current.as_ref().is_some_and(|key| key.iter().all(|byte| *byte == key[0])) {
        report.warning("store.key", "is one byte repeated, which anybody can guess", where_to_find("store.key"));
    }
    for (n, previous) in config.store.previous_keys.iter().enumerate() {
        let at = format!("store.previous_keys[{n}]");
        match decode_store_key(previous) {
            None => report.error(&at, "is not 32 bytes in base64", "put back the key that the store was sealed with"),
            same if same == current => report.warning(&at, "is the same key as store.key", "take it out"),
            Some(_) => {}
        }
    }
}

fn check_notify(config: &Config, report: &mut Report) {
    let notify = &config.notify;
    if notify.url.as_deref().is_some_and(is_clear_text) {
        report.error("notify.url", "is plain http to another host", "use https");
    }
    if notify.url.is_some() && notify.secret.is_none() {
        report.error("notify.secret", "is missing, and notify.url is set", where_to_find("notify.secret"));
    }
    for (key, secret) in [("notify.secret", &notify.secret), ("notify.previous_secret", &notify.previous_secret)] {
        if secret.as_ref().is_some_and(|secret| decode_notify_secret(secret).is_none()) {
            report.error(key, "is not whsec_ and the base64 of 24 to 64 bytes", where_to_find(key));
        }
    }
    if notify.secret.is_some() && notify.secret == notify.previous_secret {
        report.warning("notify.previous_secret", "is the same secret as notify.secret", "take it out");
    }
}

fn check_spaces(config: &Config, report: &mut Report) {
    let spaces = &config.spaces;
    if spaces.bucket.contains('.') && !spaces.path_style {
        let hint = "use a bucket without dots, or set spaces.path_style = true";
        report.error("spaces.bucket", "has a dot, which no certificate covers as part of a host name", hint);
    }
    let Ok(url) = Url::parse(&spaces.endpoint) else { return };
    if !matches!(url.path(), "" | "/") {
        report.error("spaces.endpoint", "has a path", "end it after the host; the bucket has a key of its own");
    }
    let host = url.host_str().unwrap_or_default();
    let Some(place) = host.strip_suffix(".digitaloceanspaces.com") else { return };
    let expected = format!("https://{}.digitaloceanspaces.com", spaces.region);
    if place.contains('.') {
        report.error("spaces.endpoint", "has the bucket in its host", format!("write {expected}"));
    } else if place != spaces.region && !spaces.region.is_empty() {
        report.warning("spaces.endpoint", "is in another region than spaces.region", format!("write {expected}"));
    }
}

/// The longest path that a Unix socket's address holds, without its closing NUL.
const MAX_SOCKET_PATH: usize = 107;

fn check_paths(config: &Config, report: &mut Report) {
    relative("store.path", &config.store.path, report);
    socket(&config.admin.socket, report);
}

/// The rules for the admin socket's path.
pub(super) fn socket(path: &Path, report: &mut Report) {
    if path.as_os_str().len() > MAX_SOCKET_PATH {
        let message = format!("is longer than the {MAX_SOCKET_PATH} bytes that a socket's path may have");
        report.error("admin.socket", message, "choose a shorter path, such as /run/pagesyncd/admin.sock");
    }
    relative("admin.socket", path, report);
}

fn relative(key: &str, path: &Path, report: &mut Report) {
    if path.is_relative() && !path.as_os_str().is_empty() {
        report.warning(key, "is relative to wherever the daemon is started", "write an absolute path");
    }
}
