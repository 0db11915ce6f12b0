//! The configuration: one TOML file, a few environment variables that win over it, and secrets from wherever they
//! are kept. `run`, `check` and a reload all come through [`Config::load`], so that what `check` accepts is what runs.
//!
//! Loading promises to find *everything* in one go: syntax errors, unknown keys, wrong types, values out of range,
//! secrets that cannot be read, keys that contradict each other. Each [`Finding`] names its key and says what to do,
//! and none quotes a secret or a line of the file. Errors stop the program, warnings do not.
//!
//! `table` declares every key, in the form that `key` defines. `raw` parses the file and matches names, `read` turns it
//! into typed values, `secret` opens secrets, `rules` checks single values, `validate`, `listener_tls` and `fields`
//! check across keys, `diff` compares for a reload, and `load` calls them in turn. An environment variable that is set
//! to nothing counts as not set. Loading reads the file and the secrets' sources and nothing else; it is safe to call
//! at any time, and holds nothing open.

mod certificates;
mod database_url;
mod decode;
mod diff;
mod effective;
mod fields;
mod findings;
mod identity;
mod key;
mod listener_tls;
mod load;
mod log_format;
mod log_modules;
mod raw;
mod read;
mod rules;
mod secret;
mod spelling;
mod table;
#[cfg(test)]
mod tests;
mod validate;

use std::time::Duration;

pub use certificates::CaFile;
pub use database_url::DatabaseUrl;
pub use decode::{decode_notify_secret, decode_store_key};
pub use diff::{Changes, diff};
pub use effective::{Effective, SecretSource};
pub use findings::{Finding, Findings, Position, Severity};
pub use identity::Chain;
pub use key::Part;
pub use load::{Loaded, StoreSettings};
pub use log_format::LogFormat;
pub use log_modules::log_modules;
pub use secret::Env;
pub use table::{
    Admin, Backup, Config, Facebook, Http, HttpAcme, HttpTls, Log, Notify, Session, Shopify, Spaces, Store, Sync,
    Traces,
};

use key::{Absent, Kind};
pub use rules::MIN_PASSPHRASE;
use rules::span_text;
use table::TABLE;

/// A key as the reference for operators shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Documented {
    /// The dotted name.
    pub name: &'static str,
    /// The default: `required`, `none`, or the value as the file writes it, without quotes. `None` for a list of
    /// values.
    pub default: Option<String>,
    /// May it change in a running process?
    pub reloads: bool,
    /// The values that it takes, such as `a whole number from 1 to 256`.
    pub takes: String,
    /// The default where it is a list of values; empty otherwise.
    pub list: &'static [&'static str],
    /// The environment variable that wins over the file.
    pub env: Option<&'static str>,
}

/// Every key, in the order of the example.
pub fn documented() -> impl Iterator<Item = Documented> {
    TABLE.keys.iter().map(|key| {
        let default = match key.default {
            Absent::Required => Some("required".to_owned()),
            Absent::Text("") | Absent::List([]) => Some("none".to_owned()),
            _ => key.default_text(),
        };
        let list = if let Absent::List(texts) = key.default { texts } else { &[] };
        let reloads = !key.touches.is_empty();
        Documented { name: key.name, default, reloads, takes: takes(key.kind), list, env: key.env }
    })
}

/// The values that a kind of key takes.
fn takes(kind: Kind) -> String {
    let text = match kind {
        Kind::Count(least, most) => return format!("a whole number from {least} to {most}"),
        Kind::Span(least, most) => return format!("a duration from {} to {}", span_text(least), span_text(most)),
        Kind::Text(_) => "a string",
        Kind::Url => "an http or https URL",
        Kind::UrlOrNone | Kind::WayOrNone => "a URL, or \"\" for none",
        Kind::Flag => "true or false",
        Kind::Address => "an IP address and a port",
        Kind::LoopbackOrNone => "a loopback address and a port, or \"\" for none",
        Kind::Path(_) => "a path",
        Kind::Certificates => "the path of a PEM file, or \"\" for none",
        Kind::ChainOrNone => "the path of a PEM file, a table that names a file or a credential, or \"\" for none",
        Kind::PrivateKeyOrNone => "a secret in PEM, or \"\" for none",
        Kind::List => "a list of strings",
        Kind::Ips => "a list of IP addresses",
        Kind::LogFormat => "auto, text, json or journald",
        Kind::Secret => "a secret",
        Kind::SecretOrNone => "a secret, or \"\" for none",
        Kind::Secrets => "a list of secrets",
    };
    text.to_owned()
}

/// Every environment variable that has a say in the configuration.
pub fn environment() -> Vec<&'static str> {
    let directories = TABLE.keys.iter().filter_map(|key| match key.kind {
        Kind::Path(directory) => Some(directory.variable),
        _ => None,
    });
    let variables = TABLE.variables.iter().map(|variable| variable.name);
    TABLE.keys.iter().filter_map(|key| key.env).chain(variables).chain(directories).collect()
}

/// The default of a key as the file writes it; `None` for keys without a plain default.
pub fn default_of(name: &str) -> Option<String> {
    TABLE.find(name)?.default_text()
}

/// Checks that a browser session may live so long; the error names the range.
pub fn check_session_ttl(ttl: Duration) -> Result<(), String> {
    match Session::ttl.kind {
        Kind::Span(least, most) if !(least..=most).contains(&ttl) => {
            Err(format!("is out of range; choose from {} to {}", span_text(least), span_text(most)))
        }
        _ => Ok(()),
    }
}

/// Checks a level of the log, as `log.level` takes it; the error says what is wrong with it and what to write.
pub fn check_log_level(level: &str) -> Result<(), String> {
    rules::log_level(level).map_err(|(what, hint)| format!("{what}; {hint}"))
}

impl Config {
    /// Where the login dialog sends a person back to: `FACEBOOK_REDIRECT_URI` where set, otherwise under the public
    /// URL.
    pub fn redirect_uri(&self) -> String {
        let given = self.facebook.redirect_uri.clone();
        given.unwrap_or_else(|| format!("{}/facebook/callback", self.http.public_url))
    }

    /// Where Facebook delivers webhooks: `FACEBOOK_WEBHOOK_ADDRESS` where set, otherwise under the public URL.
    pub fn webhook_url(&self) -> String {
        let given = self.facebook.webhook_address.clone();
        given.unwrap_or_else(|| format!("{}/facebook/webhook", self.http.public_url))
    }

    /// Where a shop's authorize page sends a person back to: `SHOPIFY_REDIRECT_URI` where set, otherwise under the
    /// public URL.
    pub fn shopify_redirect_uri(&self) -> String {
        let given = self.shopify.redirect_uri.clone();
        given.unwrap_or_else(|| format!("{}/shopify/callback", self.http.public_url))
    }

    /// Where Shopify delivers webhooks: `SHOPIFY_WEBHOOK_ADDRESS` where set, otherwise under the public URL.
    pub fn shopify_webhook_url(&self) -> String {
        let given = self.shopify.webhook_address.clone();
        given.unwrap_or_else(|| format!("{}/shopify/webhook", self.http.public_url))
    }
}
