//! Rules across keys. They look at a configuration whose single values were read already; a value that was refused
//! there is empty here and is passed over.

use std::path::Path;
use std::time::Duration;

use url::{Host, Url};

use super::database_url::DatabaseUrl;
use super::decode::{decode_notify_secret, decode_store_key};
use super::fields;
use super::findings::{Report, shown};
use super::listener_tls;
use super::rules::{MIN_PASSPHRASE, SHOP, called_url, is_loopback, version_number};
use super::secret::is_placeholder;
use super::table::{Backup, Config, Facebook, Notify, Session, Shopify, Store};
use crate::core::model::Secret;

/// Rules across keys.
pub(super) fn check(config: &Config, report: &mut Report) {
    check_addresses(config, report);
    listener_tls::check(config, report);
    check_secrets(config, report);
    check_store_keys(config, report);
    check_database(config, report);
    check_notify(config, report);
    check_shopify(config, report);
    check_spaces(config, report);
    check_paths(config, report);
    check_traces(config, report);
    fields::check(&config.facebook, report);
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
        (Facebook::redirect_uri.name, &config.facebook.redirect_uri, "/facebook/callback"),
        (Facebook::webhook_address.name, &config.facebook.webhook_address, "/facebook/webhook"),
        (Shopify::redirect_uri.name, &config.shopify.redirect_uri, "/shopify/callback"),
        (Shopify::webhook_address.name, &config.shopify.webhook_address, "/shopify/webhook"),
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

fn check_traces(config: &Config, report: &mut Report) {
    let Some(endpoint) = &config.traces.endpoint else { return };
    if !cfg!(feature = "otlp") {
        let hint = "build with `cargo build --features otlp`, or take the key out";
        report.warning(
            "traces.endpoint",
            "has no effect, because this program is built without the feature otlp",
            hint,
        );
    }
    clear_text("traces.endpoint", endpoint, "traces travel in clear text", report);
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
        report.error("session.state_secret", "is shorter than 8 characters", Session::state_secret.advice());
    } else if (8..32).contains(&state) {
        report.warning("session.state_secret", "is shorter than 32 characters", Session::state_secret.advice());
    }
    let none = Secret::default();
    let passphrase = config.backup.passphrase.as_ref().unwrap_or(&none);
    if !passphrase.is_empty() && passphrase.expose().chars().count() < MIN_PASSPHRASE {
        let message = format!("is shorter than {MIN_PASSPHRASE} characters");
        report.error("backup.passphrase", message, Backup::passphrase.advice());
    }
    let all = [
        ("facebook.app_secret", &facebook.app_secret),
        ("facebook.verify_token", &facebook.verify_token),
        ("session.state_secret", &config.session.state_secret),
        ("spaces.secret_key", &config.spaces.secret_key),
        ("store.key", &config.store.key),
        ("backup.passphrase", passphrase),
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
        report.error("store.key", "is not 32 bytes in base64", Store::key.advice());
    }
    if current.as_ref().is_some_and(|key| key.iter().all(|byte| *byte == key[0])) {
        report.warning("store.key", "is one byte repeated, which anybody can guess", Store::key.advice());
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

fn check_database(config: &Config, report: &mut Report) {
    let Some(url) = &config.store.url else { return };
    if let Err((what, hint)) = DatabaseUrl::parse(url) {
        report.error("store.url", what, hint);
    }
}

/// The parts that a shop's object can have.
const SHOP_FIELDS: [&str; 3] = ["shop", "policies", "pages"];

fn check_shopify(config: &Config, report: &mut Report) {
    let shopify = &config.shopify;
    if shopify.client_id.is_some() && shopify.client_secret.is_none() {
        report.error("shopify.client_secret", "is missing", Shopify::client_secret.advice());
    }
    if shopify.client_id.is_none() && shopify.client_secret.is_some() {
        let hint = "give the client id as well, or take the secret out to leave Shopify off";
        report.error("shopify.client_id", "is missing", hint);
    }
    if shopify.previous_client_secret.is_some() && shopify.previous_client_secret == shopify.client_secret {
        report.warning("shopify.previous_client_secret", "is the same secret as shopify.client_secret", "take it out");
    }
    if let Some(template) = &shopify.api_url {
        let example = template.replace(SHOP, "some-shop.myshopify.com");
        clear_text("shopify.api_url", &example, "tokens travel in clear text", report);
    }
    if shopify.scopes.is_empty() {
        report.error("shopify.scopes", "is empty", "name at least read_products");
    }
    for (n, scope) in shopify.scopes.iter().enumerate() {
        if scope.is_empty() || !scope.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') {
            report.error(
                &format!("shopify.scopes[{n}]"),
                "is not the name of an access scope",
                "write it as in read_products",
            );
        }
    }
    for (n, field) in shopify.shop_fields.iter().enumerate() {
        if !SHOP_FIELDS.contains(&field.as_str()) {
            let hint = "choose from shop, policies and pages";
            report.error(
                &format!("shopify.shop_fields[{n}]"),
                format!("names {}, which is no part", shown(field)),
                hint,
            );
        }
    }
    if shopify.shop_fields.is_empty() {
        report.error("shopify.shop_fields", "is empty", "choose from shop, policies and pages");
    }
}

fn check_notify(config: &Config, report: &mut Report) {
    let notify = &config.notify;
    if notify.url.as_deref().is_some_and(is_clear_text) {
        report.error("notify.url", "is plain http to another host", "use https");
    }
    if notify.url.is_some() && notify.secret.is_none() {
        report.error("notify.secret", "is missing, and notify.url is set", Notify::secret.advice());
    }
    for (key, secret) in [(Notify::secret, &notify.secret), (Notify::previous_secret, &notify.previous_secret)] {
        if secret.as_ref().is_some_and(|secret| decode_notify_secret(secret).is_none()) {
            report.error(key.name, "is not whsec_ and the base64 of 24 to 64 bytes", key.advice());
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
