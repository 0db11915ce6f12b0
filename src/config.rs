//! The configuration: one TOML file, a few environment variables that win over it, and secrets from wherever they
//! are kept. `run`, `check` and a reload all come through [`Config::load`], so that what `check` accepts is what runs.
//!
//! Loading promises to find *everything* in one go: syntax errors, unknown keys, wrong types, values out of range,
//! secrets that cannot be read, keys that contradict each other. Each [`Finding`] names its key and says what to do, and
//! none quotes a secret or a line of the file. Errors stop the program, warnings do not.
//!
//! `keys` holds the one list of keys, with kinds, limits and defaults. `raw` parses the file and matches names, `read`
//! turns it into typed values, `secret` opens secrets, `validate` and `fields` hold the rules, `diff` compares for a
//! reload. An environment variable that is set to nothing counts as not set. Loading reads the file and the secrets'
//! sources and nothing else; it is safe to call at any time, and holds nothing open.

mod certificates;
mod diff;
mod effective;
mod fields;
mod findings;
mod keys;
mod raw;
mod read;
mod secret;
#[cfg(test)]
mod tests;
mod validate;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use toml::de::DeTable;
use zeroize::Zeroizing;

pub use certificates::CaFile;
pub use diff::{Changes, Part, diff};
pub use effective::{Effective, SecretSource};
pub use findings::{Finding, Findings, Severity};

use crate::core::model::Secret;
use findings::Report;
use raw::{Faults, Raw};
use read::Reader;
use secret::Vault;

/// The default of a key in the words of the file; `None` for keys without a plain default.
pub fn default_of(name: &str) -> Option<String> {
    keys::default_text(name)
}

/// Checks that a browser session may live so long; the error names the range.
pub fn check_session_ttl(ttl: Duration) -> Result<(), String> {
    let (least, most) = keys::SESSION_TTL;
    if (least..=most).contains(&ttl) {
        return Ok(());
    }
    Err(format!("is out of range; choose from {} to {}", validate::span_text(least), validate::span_text(most)))
}

/// How the environment is asked: the process's own in production, a closure in tests.
pub type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// A configuration that passed every rule.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The public listener.
    pub http: Http,
    /// The app, Graph and the login dialog.
    pub facebook: Facebook,
    /// When pages are read.
    pub sync: Sync,
    /// Where objects go.
    pub spaces: Spaces,
    /// The daemon's own state.
    pub store: Store,
    /// Browser sessions.
    pub session: Session,
    /// The receiver of events.
    pub notify: Notify,
    /// The door for operators.
    pub admin: Admin,
    /// The log.
    pub log: Log,
}

/// `[http]`
#[derive(Debug, Clone, PartialEq)]
pub struct Http {
    /// Where to listen, unless systemd passes a socket.
    pub listen: SocketAddr,
    /// How the world reaches the listener; without a trailing slash.
    pub public_url: String,
    /// Where HTML pages lead back to, exactly as it was written.
    pub return_url: Option<String>,
    /// The name of the platform on HTML pages.
    pub platform_name: Option<String>,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpAddr>,
    /// Largest request body taken, in bytes.
    pub max_body_bytes: usize,
    /// Connections open at a time.
    pub max_connections: usize,
    /// From a connection's first byte to the end of its headers.
    pub header_timeout: Duration,
    /// From the end of the headers to the end of the body.
    pub body_timeout: Duration,
}

/// `[facebook]`
#[derive(Debug, Clone, PartialEq)]
pub struct Facebook {
    /// Decimal digits.
    pub app_id: String,
    /// HealthInputs webhooks and proves Graph calls.
    pub app_secret: Secret,
    /// Still accepted on signatures while the secret is rotated.
    pub previous_app_secret: Option<Secret>,
    /// What Facebook repeats in the webhook handshake.
    pub verify_token: Secret,
    /// `vNN.N`
    pub graph_version: String,
    /// Without a trailing slash and without a version.
    pub graph_url: String,
    /// Without a trailing slash and without a version.
    pub dialog_url: String,
    /// Permissions asked for in the dialog.
    pub scopes: Vec<String>,
    /// Fields read of a page; never a token.
    pub page_fields: Vec<String>,
    /// Webhook fields subscribed, for the app and for each page.
    pub webhook_fields: Vec<String>,
    /// Take `X-Hub-Signature` when `X-Hub-Signature-256` is absent.
    pub accept_sha1: bool,
    /// Graph requests at a time.
    pub max_in_flight: usize,
    /// One Graph request, from start to last byte.
    pub request_timeout: Duration,
    /// `FACEBOOK_REDIRECT_URI`, as it was written; see [`Config::redirect_uri`].
    pub redirect_uri: Option<String>,
    /// `FACEBOOK_WEBHOOK_ADDRESS`, as it was written; see [`Config::webhook_url`].
    pub webhook_address: Option<String>,
}

/// `[sync]`
#[derive(Debug, Clone, PartialEq)]
pub struct Sync {
    /// Each page is read at least this often.
    pub poll_interval: Duration,
    /// From the first mark to the read.
    pub debounce: Duration,
    /// Reads of one page in quick succession.
    pub burst: usize,
    /// After a burst, one read in this time.
    pub refill: Duration,
}

/// `[spaces]`
#[derive(Debug, Clone, PartialEq)]
pub struct Spaces {
    /// Goes into the signature, and into the default endpoint.
    pub region: String,
    /// The bucket.
    pub bucket: String,
    /// Scheme and host, without a path or a trailing slash.
    pub endpoint: String,
    /// The access key's id.
    pub access_key: Secret,
    /// The access key's secret.
    pub secret_key: Secret,
    /// The bucket in the path rather than in the host name.
    pub path_style: bool,
    /// Objects written at a time.
    pub max_in_flight: usize,
    /// One request, from start to last byte.
    pub request_timeout: Duration,
    /// Authorities trusted beside the built-in and the system's.
    pub ca_file: Option<CaFile>,
}

/// `[store]`
#[derive(Debug, Clone, PartialEq)]
pub struct Store {
    /// The store's folder.
    pub path: PathBuf,
    /// Seals what is written; see [`decode_store_key`], which accepts it.
    pub key: Secret,
    /// Still open what was sealed with them; each is accepted by [`decode_store_key`].
    pub previous_keys: Vec<Secret>,
}

/// `[session]`
#[derive(Debug, Clone, PartialEq)]
pub struct Session {
    /// HealthInputs the login state.
    pub state_secret: Secret,
    /// Still accepted on the states of logins that are under way.
    pub previous_state_secret: Option<Secret>,
    /// How long a browser session lasts.
    pub ttl: Duration,
    /// A login without a session starts a new user.
    pub allow_new: bool,
    /// New users that may be tried in an hour.
    pub max_new_users: usize,
    /// Those of one client address.
    pub max_new_users_per_address: usize,
}

/// `[notify]`
#[derive(Debug, Clone, PartialEq)]
pub struct Notify {
    /// Where events are posted; `None` when they are off.
    pub url: Option<String>,
    /// HealthInputs them; see [`decode_notify_secret`], which accepts it. There is one where there is a URL.
    pub secret: Option<Secret>,
    /// HealthInputs them too, while the secret is rotated.
    pub previous_secret: Option<Secret>,
    /// Events sent at a time.
    pub max_in_flight: usize,
    /// One request, from start to last byte.
    pub request_timeout: Duration,
    /// Authorities trusted beside the built-in and the system's.
    pub ca_file: Option<CaFile>,
}

/// `[admin]`
#[derive(Debug, Clone, PartialEq)]
pub struct Admin {
    /// The Unix socket.
    pub socket: PathBuf,
    /// A loopback address for what only reads.
    pub listen: Option<SocketAddr>,
}

/// `[log]`
#[derive(Debug, Clone, PartialEq)]
pub struct Log {
    /// A level, or levels by target separated by commas.
    pub level: String,
    /// How lines are written.
    pub format: LogFormat,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LogFormat {
    /// To the journal when standard error is the journal, as text otherwise.
    Auto,
    /// Lines for people, on standard error.
    Text,
    /// A JSON object a line, on standard error.
    Json,
    /// Structured, to the systemd journal.
    Journald,
}

impl LogFormat {
    /// Every format.
    pub const ALL: [LogFormat; 4] = [LogFormat::Auto, LogFormat::Text, LogFormat::Json, LogFormat::Journald];

    /// The word in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            LogFormat::Auto => "auto",
            LogFormat::Text => "text",
            LogFormat::Json => "json",
            LogFormat::Journald => "journald",
        }
    }
}

/// A configuration and what is odd about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Findings that do not stop the program.
    pub warnings: Vec<Finding>,
    /// The values that the configuration was made of.
    pub effective: Effective,
}

/// What can be read of the store's settings from a file that may be broken.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StoreSettings {
    /// The store's folder, where one is given or has a default.
    pub path: Option<PathBuf>,
    /// The store key and the previous ones, as far as they can be had.
    pub keys: Vec<Secret>,
}

/// A configuration file larger than this is a mistake.
const MAX_FILE_BYTES: u64 = 1 << 20;

impl Config {
    /// Reads the file, the environment and the secrets, and applies every rule.
    ///
    /// Blocks on the disk for a moment. The error holds every finding, warnings too, errors first.
    pub fn load(path: &Path, env: Env<'_>) -> Result<Loaded, Findings> {
        Config::judge(&Source::open(path)?, env)
    }

    /// As [`Config::load`] does with a file of this text.
    pub(crate) fn load_text(path: &Path, text: &str, env: Env<'_>) -> Result<Loaded, Findings> {
        let name = path.display().to_string();
        Config::judge(&Source { path, name, text: Zeroizing::new(text.to_owned()), open_to_all: true }, env)
    }

    fn judge(source: &Source<'_>, env: Env<'_>) -> Result<Loaded, Findings> {
        let mut report = Report::default();
        let ((config, effective), faults) = source.read(env, &mut report, |r| (Config::read(r), r.effective()));
        report.reading_is_over();
        validate::check(&config, &mut report);
        faults.quiet_echoes(&source.name, &mut report);
        report.finish().map(|warnings| Loaded { config, warnings, effective })
    }

    /// The store's folder and keys, from a file that may be broken elsewhere, and from the source that the store key had
    /// before. What cannot be read is left out.
    pub fn store_settings(path: &Path, key_source: Option<&SecretSource>, env: Env<'_>) -> StoreSettings {
        let mut settings = Source::open(path).map_or_else(
            |_| StoreSettings::default(),
            |source| {
                let read = |r: &mut Reader<'_>| {
                    let folder = r.path("store.path", "STATE_DIRECTORY", "");
                    let mut keys: Vec<Secret> = r.secret_or_none("store.key").into_iter().collect();
                    keys.extend(r.secrets("store.previous_keys"));
                    StoreSettings { path: Some(folder).filter(|path| !path.as_os_str().is_empty()), keys }
                };
                source.read(env, &mut Report::default(), read).0
            },
        );
        if let Some(from) = key_source {
            let base = path.parent().unwrap_or(Path::new(""));
            settings.keys.extend(Vault::new(env, base).open_source("store.key", from, &mut Report::default()));
        }
        settings
    }

    /// The admin socket alone, for the verbs that only talk to a running daemon. They are typed into a shell, where
    /// the daemon's credentials are out of reach, so nothing but that key and the file's syntax is judged.
    pub fn admin_socket(path: &Path, env: Env<'_>) -> Result<PathBuf, Findings> {
        let source = Source::open(path)?;
        let mut report = Report::default();
        let (socket, faults) = source.read(env, &mut report, Admin::read_socket);
        validate::socket(&socket, &mut report);
        faults.quiet_echoes(&source.name, &mut report);
        report.retain(|finding| finding.key == source.name || matches!(finding.key.as_str(), "admin" | "admin.socket"));
        report.finish().map(|_| socket)
    }

    fn read(r: &mut Reader<'_>) -> Config {
        Config {
            http: Http {
                listen: r.address("http.listen"),
                public_url: r.url("http.public_url"),
                return_url: r.way_or_none("http.return_url"),
                platform_name: Some(r.text_by("http.platform_name", validate::platform_name)).filter(|n| !n.is_empty()),
                trusted_proxies: r.ips("http.trusted_proxies"),
                max_body_bytes: r.count("http.max_body_bytes"),
                max_connections: r.count("http.max_connections"),
                header_timeout: r.span("http.header_timeout"),
                body_timeout: r.span("http.body_timeout"),
            },
            facebook: Facebook::read(r),
            sync: Sync {
                poll_interval: r.span("sync.poll_interval"),
                debounce: r.span("sync.debounce"),
                burst: r.count("sync.burst"),
                refill: r.span("sync.refill"),
            },
            spaces: Spaces::read(r),
            store: Store {
                path: r.path("store.path", "STATE_DIRECTORY", ""),
                key: r.secret("store.key"),
                previous_keys: r.secrets("store.previous_keys"),
            },
            session: Session {
                state_secret: r.secret("session.state_secret"),
                previous_state_secret: r.secret_or_none("session.previous_state_secret"),
                ttl: r.span("session.ttl"),
                allow_new: r.flag("session.allow_new"),
                max_new_users: r.count("session.max_new_users"),
                max_new_users_per_address: r.count("session.max_new_users_per_address"),
            },
            notify: Notify {
                url: r.url_or_none("notify.url"),
                secret: r.secret_or_none("notify.secret"),
                previous_secret: r.secret_or_none("notify.previous_secret"),
                max_in_flight: r.count("notify.max_in_flight"),
                request_timeout: r.span("notify.request_timeout"),
                ca_file: r.certificates("notify.ca_file"),
            },
            admin: Admin { socket: Admin::read_socket(r), listen: r.address_or_none("admin.listen") },
            log: Log {
                level: r.text_by("log.level", validate::log_level),
                format: r.word("log.format", validate::log_format).unwrap_or(LogFormat::Auto),
            },
        }
    }

    /// Where the login dialog sends people back to: `FACEBOOK_REDIRECT_URI` where set, otherwise under the public URL.
    pub fn redirect_uri(&self) -> String {
        let given = self.facebook.redirect_uri.clone();
        given.unwrap_or_else(|| format!("{}/facebook/callback", self.http.public_url))
    }

    /// Where Facebook delivers webhooks: `FACEBOOK_WEBHOOK_ADDRESS` where set, otherwise under the public URL.
    pub fn webhook_url(&self) -> String {
        let given = self.facebook.webhook_address.clone();
        given.unwrap_or_else(|| format!("{}/facebook/webhook", self.http.public_url))
    }
}

impl Admin {
    fn read_socket(r: &mut Reader<'_>) -> PathBuf {
        r.path("admin.socket", "RUNTIME_DIRECTORY", "admin.sock")
    }
}

impl Facebook {
    fn read(r: &mut Reader<'_>) -> Facebook {
        Facebook {
            app_id: r.text_by("facebook.app_id", validate::app_id),
            app_secret: r.secret("facebook.app_secret"),
            previous_app_secret: r.secret_or_none("facebook.previous_app_secret"),
            verify_token: r.secret("facebook.verify_token"),
            graph_version: r.text_by("facebook.graph_version", validate::graph_version),
            graph_url: r.url("facebook.graph_url"),
            dialog_url: r.url("facebook.dialog_url"),
            scopes: r.list("facebook.scopes"),
            page_fields: r.list("facebook.page_fields"),
            webhook_fields: r.list("facebook.webhook_fields"),
            accept_sha1: r.flag("facebook.accept_sha1"),
            max_in_flight: r.count("facebook.max_in_flight"),
            request_timeout: r.span("facebook.request_timeout"),
            redirect_uri: r.setting_variable(keys::REDIRECT_URI),
            webhook_address: r.setting_variable(keys::WEBHOOK_ADDRESS),
        }
    }
}

impl Spaces {
    fn read(r: &mut Reader<'_>) -> Spaces {
        let region = r.text_by("spaces.region", validate::region);
        let endpoint = if r.is_given("spaces.endpoint") || region.is_empty() {
            r.url("spaces.endpoint")
        } else {
            format!("https://{region}.digitaloceanspaces.com")
        };
        Spaces {
            region,
            bucket: r.text_by("spaces.bucket", validate::bucket),
            endpoint,
            access_key: r.secret("spaces.access_key"),
            secret_key: r.secret("spaces.secret_key"),
            path_style: r.flag("spaces.path_style"),
            max_in_flight: r.count("spaces.max_in_flight"),
            request_timeout: r.span("spaces.request_timeout"),
            ca_file: r.certificates("spaces.ca_file"),
        }
    }
}

/// The file as it lies on the disk.
struct Source<'a> {
    path: &'a Path,
    /// The path, for messages.
    name: String,
    text: Zeroizing<String>,
    /// Everybody may read it.
    open_to_all: bool,
}

impl<'a> Source<'a> {
    fn open(path: &'a Path) -> Result<Source<'a>, Findings> {
        let name = path.display().to_string();
        let refuse = |message: String, hint: &str| Findings(vec![Finding::error(&name, message, hint)]);
        let (bytes, mode) = secret::regular_file(path, MAX_FILE_BYTES).map_err(|why| {
            refuse(format!("cannot be read: {why}"), "give the path with --config, or copy config.toml.example there")
        })?;
        let text = std::str::from_utf8(&bytes).map(|text| Zeroizing::new(text.to_owned()));
        let text = text.map_err(|_| refuse("is not UTF-8 text".to_owned(), "save it as UTF-8"))?;
        Ok(Source { path, name, text, open_to_all: mode & 0o004 != 0 })
    }

    /// Parses the file, and has `read` pick what it wants. Everything else about the names in it is reported, too.
    fn read<T>(&self, env: Env<'_>, report: &mut Report, read: impl FnOnce(&mut Reader<'_>) -> T) -> (T, Faults) {
        let (document, errors) = DeTable::parse_recoverable(&self.text);
        let faults = Faults::gather(&self.name, &self.text, &errors, report);
        let raw = Raw::gather(&self.text, document.get_ref(), report);
        let base = self.path.parent().unwrap_or(Path::new(""));
        let value = read(&mut Reader::new(raw, env, base, report).torn(faults.any()).exposed(self.open_to_all));
        (value, faults)
    }
}

/// The bytes of a secret that signs events: `whsec_` and the base64 of 24 to 64 bytes, as Standard Webhooks has it.
/// `None` for anything else.
pub fn decode_notify_secret(secret: &Secret) -> Option<Zeroizing<Vec<u8>>> {
    let text = secret.expose().strip_prefix("whsec_")?.trim_end_matches('=');
    let bytes = Zeroizing::new(STANDARD_NO_PAD.decode(text).ok()?);
    (24..=64).contains(&bytes.len()).then_some(bytes)
}

/// The 32 bytes of a store key, from standard or URL-safe base64, padded or not. `None` for anything else.
pub fn decode_store_key(secret: &Secret) -> Option<Zeroizing<[u8; 32]>> {
    let text = secret.expose().trim_end_matches('=');
    let bytes = STANDARD_NO_PAD.decode(text).or_else(|_| URL_SAFE_NO_PAD.decode(text)).ok().map(Zeroizing::new)?;
    let mut key = Zeroizing::new([0; 32]);
    if bytes.len() != key.len() {
        return None;
    }
    key.copy_from_slice(&bytes);
    Some(key)
}
