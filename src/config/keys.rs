//! The one list of keys: what each is called, what it holds, what it is when absent, and who is touched when it
//! changes. Reading, range checks, nearest-name hints, the reload comparison and the test that holds
//! `config.toml.example` to the code all go by this list, so a key is added here or not at all.

use std::time::Duration;

use super::diff::Part;

/// What a key holds, with the limits of what is taken.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Kind {
    /// A line of text.
    Text,
    /// An `http://` or `https://` address, kept without a trailing slash.
    Url,
    /// An address that is called as it stands, or `""` for none.
    UrlOrNone,
    /// An address for a browser, kept as it stands, or `""` for none.
    WayOrNone,
    /// `true` or `false`.
    Flag,
    /// A whole number, both ends allowed.
    Count(u64, u64),
    /// A duration such as `"10s"`, both ends allowed.
    Span(Duration, Duration),
    /// An IP address and port.
    Address,
    /// An IP address and port, or `""` for none.
    AddressOrNone,
    /// A path.
    Path,
    /// A list of texts.
    List,
    /// A secret from any source.
    Secret,
    /// A secret from any source, or `""` for none.
    SecretOrNone,
    /// A list of secrets, each from any source.
    Secrets,
}

/// What a key is when neither file nor environment names it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Absent {
    /// It must be given.
    Required,
    /// This text (also durations, addresses, paths and URLs, in the words of the file; `""` is none).
    Text(&'static str),
    /// This number.
    Number(u64),
    /// This flag.
    Flag(bool),
    /// These texts.
    List(&'static [&'static str]),
}

/// One key.
#[derive(Debug, Clone, Copy)]
pub(super) struct Key {
    /// The dotted name: section, dot, leaf.
    pub name: &'static str,
    pub kind: Kind,
    pub default: Absent,
    /// The environment variable that wins over the file.
    pub env: Option<&'static str>,
    /// Who is touched by a change; empty for what cannot change in a running process.
    pub touches: &'static [Part],
}

impl Key {
    const fn new(name: &'static str, kind: Kind, default: Absent, touches: &'static [Part]) -> Key {
        Key { name, kind, default, env: None, touches }
    }

    const fn or_env(self, name: &'static str) -> Key {
        Key { env: Some(name), ..self }
    }

    /// The part before the dot.
    pub(super) fn section(&self) -> &'static str {
        self.name.split_once('.').map_or(self.name, |(section, _)| section)
    }

    /// The part after the dot.
    pub(super) fn leaf(&self) -> &'static str {
        self.name.split_once('.').map_or(self.name, |(_, leaf)| leaf)
    }
}

/// The section names, in the order of the example.
pub(super) const SECTIONS: &[&str] =
    &["http", "facebook", "sync", "spaces", "store", "session", "notify", "admin", "log"];

/// Environment variables that stand for a whole address and have no key in the file.
pub(super) const REDIRECT_URI: &str = "FACEBOOK_REDIRECT_URI";
/// See [`REDIRECT_URI`].
pub(super) const WEBHOOK_ADDRESS: &str = "FACEBOOK_WEBHOOK_ADDRESS";

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

const DAY: u64 = 24 * 60 * 60;
/// How short and how long a browser session may live. Browsers keep no cookie for longer.
pub(super) const SESSION_TTL: (Duration, Duration) = (secs(1), secs(400 * DAY));

const TRUSTED_PROXIES: &[&str] = &["127.0.0.1", "::1"];

const SCOPES: &[&str] = &["pages_show_list", "pages_manage_metadata", "pages_read_engagement", "business_management"];

// What `location`, `cover` and the like lack is left out by Graph rather than refused; fields that newer pages no
// longer have (`parking`, `current_location`, `genre`, ...) would cost every read a refused request.
const PAGE_FIELDS: &[&str] = &[
    "id",
    "name",
    "username",
    "category",
    "category_list",
    "about",
    "description",
    "bio",
    "website",
    "link",
    "phone",
    "emails",
    "location",
    "single_line_address",
    "hours",
    "fan_count",
    "followers_count",
    "verification_status",
    "is_published",
    "picture",
    "cover",
];

const WEBHOOK_FIELDS: &[&str] =
    &["name", "category", "description", "email", "phone", "website", "location", "hours", "picture"];

use Absent::{Flag, List, Number, Required, Text};
use Part::{Address, Admin, Door, Graph, Limits, Log, Notify, Pages, Sessions, StoreKeys, Subscription, Uploader};

/// Every key.
#[rustfmt::skip]
pub(super) const KEYS: &[Key] = &[
    Key::new("http.listen", Kind::Address, Text("127.0.0.1:5000"), &[Address]),
    Key::new("http.public_url", Kind::Url, Text("http://localhost:5000"), &[Door, Subscription]),
    Key::new("http.return_url", Kind::WayOrNone, Text(""), &[Door]),
    Key::new("http.platform_name", Kind::Text, Text(""), &[Door]),
    Key::new("http.trusted_proxies", Kind::List, List(TRUSTED_PROXIES), &[Door]),
    Key::new("http.max_body_bytes", Kind::Count(256, 64 << 20), Number(4 << 20), &[Limits]),
    Key::new("http.max_connections", Kind::Count(1, 65_536), Number(1024), &[Limits]),
    Key::new("http.header_timeout", Kind::Span(ms(100), secs(300)), Text("10s"), &[Limits]),
    Key::new("http.body_timeout", Kind::Span(ms(100), secs(600)), Text("15s"), &[Limits]),

    Key::new("facebook.app_id", Kind::Text, Required, &[Door, Graph, Subscription]).or_env("FACEBOOK_APP_ID"),
    Key::new("facebook.app_secret", Kind::Secret, Required, &[Door, Graph, Subscription]).or_env("FACEBOOK_APP_SECRET"),
    Key::new("facebook.previous_app_secret", Kind::SecretOrNone, Text(""), &[Door]),
    Key::new("facebook.verify_token", Kind::Secret, Required, &[Door, Subscription]).or_env("FACEBOOK_VERIFY_TOKEN"),
    Key::new("facebook.graph_version", Kind::Text, Text("v26.0"), &[Door, Graph, Subscription, Pages]),
    Key::new("facebook.graph_url", Kind::Url, Text("https://graph.facebook.com"), &[Graph, Subscription]),
    Key::new("facebook.dialog_url", Kind::Url, Text("https://www.facebook.com"), &[Door]),
    Key::new("facebook.scopes", Kind::List, List(SCOPES), &[Door]),
    Key::new("facebook.page_fields", Kind::List, List(PAGE_FIELDS), &[Pages]),
    Key::new("facebook.webhook_fields", Kind::List, List(WEBHOOK_FIELDS), &[Pages, Subscription]),
    Key::new("facebook.accept_sha1", Kind::Flag, Flag(true), &[Door]),
    Key::new("facebook.max_in_flight", Kind::Count(1, 1024), Number(32), &[Graph]),
    Key::new("facebook.request_timeout", Kind::Span(ms(100), secs(600)), Text("20s"), &[Graph]),

    Key::new("sync.poll_interval", Kind::Span(secs(1), secs(365 * DAY)), Text("24h"), &[Pages]),
    Key::new("sync.debounce", Kind::Span(ms(0), secs(3600)), Text("2s"), &[Pages]),
    Key::new("sync.burst", Kind::Count(1, 1000), Number(3), &[Pages]),
    Key::new("sync.refill", Kind::Span(ms(10), secs(DAY)), Text("1m"), &[Pages]),

    Key::new("spaces.region", Kind::Text, Text("nyc3"), &[Uploader]).or_env("SPACES_REGION"),
    Key::new("spaces.bucket", Kind::Text, Required, &[Uploader]).or_env("SPACES_BUCKET"),
    // Follows the region when absent: see `spaces_endpoint` in the reader.
    Key::new("spaces.endpoint", Kind::Url, Text("https://nyc3.digitaloceanspaces.com"), &[Uploader]).or_env("SPACES_ENDPOINT"),
    Key::new("spaces.access_key", Kind::Secret, Required, &[Uploader]).or_env("SPACES_KEY"),
    Key::new("spaces.secret_key", Kind::Secret, Required, &[Uploader]).or_env("SPACES_SECRET"),
    Key::new("spaces.path_style", Kind::Flag, Flag(false), &[Uploader]),
    Key::new("spaces.max_in_flight", Kind::Count(1, 256), Number(8), &[Uploader]),
    Key::new("spaces.request_timeout", Kind::Span(ms(100), secs(600)), Text("30s"), &[Uploader]),

    Key::new("store.path", Kind::Path, Text("/var/lib/pagesyncd"), &[]),
    Key::new("store.key", Kind::Secret, Required, &[StoreKeys]),
    Key::new("store.previous_keys", Kind::Secrets, List(&[]), &[StoreKeys]),

    Key::new("session.state_secret", Kind::Secret, Required, &[Sessions]).or_env("STATE_TOKEN_SECRET"),
    Key::new("session.previous_state_secret", Kind::SecretOrNone, Text(""), &[Sessions]),
    Key::new("session.ttl", Kind::Span(SESSION_TTL.0, SESSION_TTL.1), Text("30d"), &[Sessions]),
    Key::new("session.allow_new", Kind::Flag, Flag(false), &[Sessions]),
    Key::new("session.max_new_users", Kind::Count(1, 1_000_000), Number(600), &[Sessions]),
    Key::new("session.max_new_users_per_address", Kind::Count(1, 1_000_000), Number(20), &[Sessions]),

    Key::new("notify.url", Kind::UrlOrNone, Text(""), &[Notify]),
    Key::new("notify.secret", Kind::SecretOrNone, Text(""), &[Notify]),
    Key::new("notify.previous_secret", Kind::SecretOrNone, Text(""), &[Notify]),
    Key::new("notify.max_in_flight", Kind::Count(1, 64), Number(4), &[Notify]),
    Key::new("notify.request_timeout", Kind::Span(ms(100), secs(600)), Text("10s"), &[Notify]),

    Key::new("admin.socket", Kind::Path, Text("/run/pagesyncd/admin.sock"), &[]),
    Key::new("admin.listen", Kind::AddressOrNone, Text(""), &[Admin]),

    Key::new("log.level", Kind::Text, Text("info"), &[Log]),
    Key::new("log.format", Kind::Text, Text("auto"), &[Log]),
];

/// The key of this dotted name.
pub(super) fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// The known key that `unknown` most likely means: the one of its own section that begins so, then the same leaf in
/// another section (a key under the wrong header), then the closest leaf in its own section, then the closest whole name.
pub(super) fn nearest_key(unknown: &str) -> &'static str {
    let (section, leaf) = unknown.rsplit_once('.').unwrap_or(("", unknown));
    let begins = |key: &&Key| key.section() == section && leaf.len() > 3 && key.leaf().starts_with(leaf);
    if let Some(longer) = KEYS.iter().find(begins) {
        return longer.name;
    }
    if let Some(moved) = KEYS.iter().find(|key| key.leaf() == leaf) {
        return moved.name;
    }
    let mates = KEYS.iter().filter(|key| key.section() == section);
    let close = mates.map(|key| (strsim::jaro_winkler(leaf, key.leaf()), key.name)).max_by(|a, b| a.0.total_cmp(&b.0));
    if let Some((likeness, name)) = close
        && likeness > 0.7
    {
        return name;
    }
    nearest(unknown, KEYS.iter().map(|key| key.name)).unwrap_or("http.listen")
}

/// A key's default in the words of the file.
pub(super) fn default_text(name: &str) -> Option<String> {
    match KEYS.iter().find(|key| key.name == name)?.default {
        Text(text) => Some(text.to_owned()),
        Number(number) => Some(number.to_string()),
        Flag(flag) => Some(flag.to_string()),
        Required | List(_) => None,
    }
}

/// The candidate most like `word`.
pub(super) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let scored = candidates.into_iter().map(|c| (strsim::jaro_winkler(word, c), c));
    scored.max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, c)| c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_sound() {
        for (n, key) in KEYS.iter().enumerate() {
            assert!(KEYS[..n].iter().all(|other| other.name != key.name), "{} stands twice", key.name);
            assert!(SECTIONS.contains(&key.section()), "{} has a strange section", key.name);
            assert!(!key.leaf().contains('.'), "{}", key.name);
        }
    }

    #[test]
    fn slips_find_their_key() {
        for (slip, meant) in [
            ("http.lisen", "http.listen"),
            ("facebook.poll_interval", "sync.poll_interval"),
            ("bucket", "spaces.bucket"),
            ("facebook.app_sercet", "facebook.app_secret"),
            ("facebook.appid", "facebook.app_id"),
            ("store.previous_key", "store.previous_keys"),
            ("spaces.secret", "spaces.secret_key"),
            ("log.fromat", "log.format"),
        ] {
            assert_eq!(nearest_key(slip), meant, "{slip}");
        }
    }
}
