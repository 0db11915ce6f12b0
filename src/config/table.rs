//! Every key of the configuration, declared once. The declaration makes the field, the reading of its value with every
//! check and hint, the comparison of a reload and the row that tests look for in `config.toml.example` and in the
//! reference for operators. A new key is one line here, one sentence in each of these two, and nothing else.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::certificates::CaFile;
use super::identity::Chain;
use super::key::Absent::{Required, Text};
use super::key::{Directory, Key, Part, Table, Variable, settings};
use super::log_format::LogFormat;
use super::read::Reader;
use super::rules;
use crate::core::model::Secret;

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

const DAY: u64 = 24 * 60 * 60;

const STATE: Directory = Directory { variable: "STATE_DIRECTORY", leaf: "" };
const SOCKET: Directory = Directory { variable: "RUNTIME_DIRECTORY", leaf: "admin.sock" };

const TRUSTED_PROXIES: &[&str] = &["127.0.0.1", "::1"];

const SCOPES: &[&str] = &["pages_show_list", "pages_manage_metadata", "pages_read_engagement", "business_management"];

// Graph leaves out what `location`, `cover` and the like lack; fields that newer pages no longer have (`parking`,
// `current_location`, `genre`, ...) would cost every read a refused request.
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

const SHOPIFY_SCOPES: &[&str] = &["read_products", "read_legal_policies", "read_content"];

const SHOP_FIELDS: &[&str] = &["shop", "policies", "pages"];

/// The name of a section by that of its field. A section within another one has a dotted name.
macro_rules! section_name {
    (http_tls) => {
        "http.tls"
    };
    (http_acme) => {
        "http.acme"
    };
    ($section:ident) => {
        stringify!($section)
    };
}

settings! {
    /// The public listener.
    http: Http {
        /// Where to listen, unless systemd passes a socket.
        listen: SocketAddr = address("127.0.0.1:5000") => [Address];
        /// How the world reaches the listener; without a trailing slash.
        public_url: String = url("http://localhost:5000") => [Routes, Subscription];
        /// Where HTML pages lead back to, exactly as it was written.
        return_url: Option<String> = way_or_none() => [Routes];
        /// The name of the platform on HTML pages.
        platform_name: Option<String> = text_or_none(rules::platform_name) => [Routes];
        /// The platform's colour on HTML pages, `#rrggbb`.
        accent_color: Option<String> = text_or_none(rules::color) => [Routes];
        /// Proxies whose `X-Forwarded-For` is believed.
        trusted_proxies: Vec<IpAddr> = ips(TRUSTED_PROXIES) => [Routes];
        /// Largest request body taken, in bytes.
        max_body_bytes: usize = count(256, 64 << 20, 4 << 20) => [Limits];
        /// Connections open at a time.
        max_connections: usize = count(1, 65_536, 1024) => [Limits];
        /// From a connection's first byte to the end of its headers.
        header_timeout: Duration = span(ms(100), secs(300), "10s") => [Limits];
        /// From the end of the headers to the end of the body.
        body_timeout: Duration = span(ms(100), secs(600), "15s") => [Limits];
    }

    /// The certificate of the public listener, and those of its callers.
    http_tls: HttpTls {
        /// The daemon's own certificate, and those between it and its authority; `None` for plain HTTP or ACME.
        certificate: Option<Chain> = chain_or_none() => [Tls];
        /// The private key of that certificate, as PEM. There is one where there is a certificate.
        key: Option<Secret> = private_key_or_none()
            advice "give the private key of http.tls.certificate, such as key = { file = \"...\" }" => [Tls];
        /// Authorities of client certificates; with them Facebook's webhook takes deliveries with such a one alone.
        client_ca_file: Option<CaFile> = certificates() => [Tls, Routes];
        /// The name that the client certificate must have.
        client_name: String = text(Text("client.webhooks.fbclientcerts.com"), rules::host_name) => [Routes];
    }

    /// A certificate from an authority that speaks ACME.
    http_acme: HttpAcme {
        /// The host names that the certificate is for; none where ACME is off.
        domains: Vec<String> = list(&[]) => [Tls];
        /// An address at which the authority reaches the operator.
        contact: Option<String> = text_or_none(rules::contact) => [Tls];
        /// The operator agrees to the authority's terms of service.
        terms_agreed: bool = flag(false) => [Tls];
        /// The authority's directory.
        directory: String = url("https://acme-v02.api.letsencrypt.org/directory") => [Tls];
        /// Authorities trusted for the directory beside the built-in and the system's.
        ca_file: Option<CaFile> = certificates() => [Tls];
    }

    /// The app, Graph and the login dialog.
    facebook: Facebook {
        /// Decimal digits.
        app_id: String = text(Required, rules::app_id)
            env "FACEBOOK_APP_ID" advice "copy the app id from the app dashboard, Settings > Basic"
            => [Routes, Graph, Subscription];
        /// Signs webhooks and proves Graph calls.
        app_secret: Secret = secret()
            env "FACEBOOK_APP_SECRET" advice "copy the app secret from the app dashboard, Settings > Basic"
            => [Routes, Graph, Subscription];
        /// Still accepted on signatures while the secret is rotated.
        previous_app_secret: Option<Secret> = secret_or_none() => [Routes];
        /// The token that Facebook repeats in the webhook handshake.
        verify_token: Secret = secret()
            env "FACEBOOK_VERIFY_TOKEN" advice "make up a long random text; the daemon gives it to Facebook itself"
            => [Routes, Subscription];
        /// `vNN.N`
        graph_version: String = text(Text("v26.0"), rules::graph_version) => [Routes, Graph, Subscription, Pages];
        /// Without a trailing slash and without a version.
        graph_url: String = url("https://graph.facebook.com") => [Graph, Subscription];
        /// Without a trailing slash and without a version.
        dialog_url: String = url("https://www.facebook.com") => [Routes];
        /// Permissions asked for in the dialog.
        scopes: Vec<String> = list(SCOPES) => [Routes];
        /// Fields read of a page; never a token.
        page_fields: Vec<String> = list(PAGE_FIELDS) => [Pages];
        /// Webhook fields subscribed, for the app and for each page.
        webhook_fields: Vec<String> = list(WEBHOOK_FIELDS) => [Pages, Subscription];
        /// Take `X-Hub-Signature` when `X-Hub-Signature-256` is absent.
        accept_sha1: bool = flag(true) => [Routes];
        /// Graph requests at a time.
        max_in_flight: usize = count(1, 1024, 32) => [Graph];
        /// One Graph request, from start to last byte.
        request_timeout: Duration = span(ms(100), secs(600), "20s") => [Graph];
    }
    @variables {
        /// The redirect address as it was written; see [`Config::redirect_uri`].
        redirect_uri = "FACEBOOK_REDIRECT_URI" => [Routes];
        /// The address of the webhook as it was written; see [`Config::webhook_url`].
        webhook_address = "FACEBOOK_WEBHOOK_ADDRESS" => [Subscription];
    }

    /// When pages are read.
    sync: Sync {
        /// Each page is read at least this often.
        poll_interval: Duration = span(secs(1), secs(365 * DAY), "24h") => [Pages];
        /// From the first mark to the read.
        debounce: Duration = span(ms(0), secs(3600), "2s") => [Pages];
        /// Reads of one page in quick succession.
        burst: usize = count(1, 1000, 3) => [Pages];
        /// After a burst, one read in this time.
        refill: Duration = span(ms(10), secs(DAY), "1m") => [Pages];
    }

    /// The Shopify app, and what is read of shops.
    shopify: Shopify {
        /// The client id of the app; `None` when Shopify is off.
        client_id: Option<String> = text_or_none(rules::client_id)
            env "SHOPIFY_API_KEY" advice "copy the client id from the app's settings in the Dev Dashboard"
            => [Routes, Shopify];
        /// Signs webhooks and queries, and exchanges codes. There is one where there is a client id.
        client_secret: Option<Secret> = secret_or_none()
            env "SHOPIFY_API_SECRET" advice "copy the client secret from the app's settings in the Dev Dashboard"
            => [Routes, Shopify];
        /// Still accepted on signatures while the secret is rotated.
        previous_client_secret: Option<Secret> = secret_or_none() => [Routes];
        /// `YYYY-MM`
        api_version: String = text(Text("2026-10"), rules::shopify_version) => [Shopify];
        /// Access scopes that the app needs.
        scopes: Vec<String> = list(SHOPIFY_SCOPES) => [Routes, Shopify];
        /// Who makes the webhook subscriptions: `app` or `shop`.
        subscribe: String = text(Text("app"), rules::subscribe) => [Shopify];
        /// Parts of the shop's object: `shop`, `policies`, `pages`.
        shop_fields: Vec<String> = list(SHOP_FIELDS) => [Shopify];
        /// Products that changed are asked for at least this often.
        poll_interval: Duration = span(secs(1), secs(365 * DAY), "1h") => [Shopify];
        /// All of a shop is read at least this often.
        sweep_interval: Duration = span(secs(1), secs(365 * DAY), "24h") => [Shopify];
        /// Requests at a time, to all shops together.
        max_in_flight: usize = count(1, 1024, 8) => [Shopify];
        /// One request, from start to last byte.
        request_timeout: Duration = span(ms(100), secs(600), "20s") => [Shopify];
        /// Where the shops are, with `{shop}` for the name; `None` for `https://{shop}`. For tests.
        api_url: Option<String> = text_or_none(rules::shop_template) => [Shopify];
    }
    @variables {
        /// The redirect address as it was written; see [`Config::shopify_redirect_uri`].
        redirect_uri = "SHOPIFY_REDIRECT_URI" => [Routes];
        /// The address of the webhook as it was written; see [`Config::shopify_webhook_url`].
        webhook_address = "SHOPIFY_WEBHOOK_ADDRESS" => [Shopify];
    }

    /// Where objects go.
    spaces: Spaces {
        /// Part of the signature, and of the default endpoint.
        region: String = text(Text("nyc3"), rules::region) env "SPACES_REGION" => [Uploader];
        /// The bucket.
        bucket: String = text(Required, rules::bucket)
            env "SPACES_BUCKET" advice "give the name of the Spaces bucket" => [Uploader];
        /// Scheme and host, without a path or a trailing slash. It follows the region when it is not given.
        endpoint: String = url("https://nyc3.digitaloceanspaces.com") env "SPACES_ENDPOINT" => [Uploader];
        /// The access key's id.
        access_key: Secret = secret()
            env "SPACES_KEY" advice "make a Spaces access key in the DigitalOcean control panel, API" => [Uploader];
        /// The access key's secret.
        secret_key: Secret = secret()
            env "SPACES_SECRET" advice "make a Spaces access key in the DigitalOcean control panel, API" => [Uploader];
        /// The bucket in the path rather than in the host name.
        path_style: bool = flag(false) => [Uploader];
        /// Objects written at a time.
        max_in_flight: usize = count(1, 256, 8) => [Uploader];
        /// One request, from start to last byte.
        request_timeout: Duration = span(ms(100), secs(600), "30s") => [Uploader];
        /// Authorities trusted beside the built-in and the system's.
        ca_file: Option<CaFile> = certificates() => [Uploader];
    }

    /// The daemon's own state.
    store: Store {
        /// The store's folder.
        path: PathBuf = path("/var/lib/pagesyncd", STATE) => [];
        /// Seals the records; see [`decode_store_key`](super::decode_store_key), which accepts it.
        key: Secret = secret() advice "make one with `pagesyncd keygen`" => [StoreKeys];
        /// Still open what was sealed with them; each is accepted by [`decode_store_key`](super::decode_store_key).
        previous_keys: Vec<Secret> = secrets() => [StoreKeys];
        /// A database that several daemons share, in the place of the folder; [`DatabaseUrl`](super::DatabaseUrl)
        /// accepts it.
        url: Option<Secret> = secret_or_none() => [];
        /// Connections to that database.
        max_connections: usize = count(4, 100, 8) => [];
        /// Authorities trusted for that database beside the built-in and the system's.
        ca_file: Option<CaFile> = certificates() => [];
        /// The name of this daemon among those that share the database; `None` for one of its own making.
        node: Option<String> = text_or_none(rules::node) => [];
        /// The schema of that database is brought forward at the start.
        migrate: bool = flag(true) => [];
    }

    /// Browser sessions.
    session: Session {
        /// Signs the login state.
        state_secret: Secret = secret()
            env "STATE_TOKEN_SECRET" advice "make up a long random text, for example with `pagesyncd keygen`"
            => [Sessions];
        /// Still accepted on the states of logins that are under way.
        previous_state_secret: Option<Secret> = secret_or_none() => [Sessions];
        /// How long a browser session lasts. Browsers keep no cookie for longer than 400 days.
        ttl: Duration = span(secs(1), secs(400 * DAY), "30d") => [Sessions];
        /// A login without a session starts a new user.
        allow_new: bool = flag(false) => [Sessions];
        /// New users that may be tried in an hour.
        max_new_users: usize = count(1, 1_000_000, 600) => [Sessions];
        /// Those of one client address.
        max_new_users_per_address: usize = count(1, 1_000_000, 20) => [Sessions];
    }

    /// The receiver of events.
    notify: Notify {
        /// Where events are posted; `None` when they are off.
        url: Option<String> = url_or_none() => [Notify];
        /// Signs events; see [`decode_notify_secret`](super::decode_notify_secret), which accepts it. There is one
        /// where there is a URL.
        secret: Option<Secret> = secret_or_none() advice "make one with `pagesyncd keygen --notify`" => [Notify];
        /// Signs events as well, while the secret is rotated.
        previous_secret: Option<Secret> = secret_or_none()
            advice "make one with `pagesyncd keygen --notify`" => [Notify];
        /// Events sent at a time.
        max_in_flight: usize = count(1, 64, 4) => [Notify];
        /// One request, from start to last byte.
        request_timeout: Duration = span(ms(100), secs(600), "10s") => [Notify];
        /// Authorities trusted beside the built-in and the system's.
        ca_file: Option<CaFile> = certificates() => [Notify];
    }

    /// Backups in the bucket.
    backup: Backup {
        /// Seals the backups; `None` when there are to be none.
        passphrase: Option<Secret> = secret_or_none()
            advice "make one with `pagesyncd keygen`, and keep a copy on another machine" => [Backup];
        /// Older backups are deleted after a new one is written.
        keep: Duration = span(secs(60), secs(3650 * DAY), "30d") => [Backup];
    }

    /// The listeners for operators.
    admin: Admin {
        /// The Unix socket.
        socket: PathBuf = path("/run/pagesyncd/admin.sock", SOCKET) => [];
        /// A loopback address for what only reads.
        listen: Option<SocketAddr> = loopback_or_none() => [Admin];
    }

    /// Traces of deliveries, in a build with the feature `otlp`.
    traces: Traces {
        /// Where a collector takes OTLP over HTTP; `None` when there are no traces.
        endpoint: Option<String> = url_or_none() => [Traces];
        /// Of so many deliveries one is traced.
        one_in: usize = count(1, 1_000_000, 100) => [Traces];
    }

    /// The log.
    log: Log {
        /// A level, or levels by target separated by commas.
        level: String = text(Text("info"), rules::log_level) => [Log];
        /// How messages are written.
        format: LogFormat = log_format("auto") => [Log];
        /// How often events that repeat are summarised; zero writes each of them.
        summarize: Duration = span(ms(0), secs(3600), "1m") => [Log];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_keys_are_unique() {
        for (n, key) in TABLE.keys.iter().enumerate() {
            assert!(TABLE.keys[..n].iter().all(|other| other.name != key.name), "{} stands twice", key.name);
            assert!(TABLE.sections.contains(&key.section()) && !key.leaf().contains('.'), "{}", key.name);
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
            assert_eq!(TABLE.nearest_key(slip), meant, "{slip}");
        }
    }
}
