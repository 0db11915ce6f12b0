//! The configuration from outside: a file and an environment in, findings or values out.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::prelude::*;
use tempfile::TempDir;

use super::key::{Absent, Key, Kind};
use super::table::TABLE;
use super::*;
use crate::core::model::Secret;

const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
const OTHER_KEY: &str = "ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA=";

/// What has no default, and nothing else.
const LEAST: &[(&str, &str)] = &[
    ("facebook.app_id", "\"123456789\""),
    ("facebook.app_secret", "\"sixteen-and-more-app\""),
    ("facebook.verify_token", "\"sixteen-and-more-verify\""),
    ("spaces.bucket", "\"pages\""),
    ("spaces.access_key", "\"DO00ACCESS\""),
    ("spaces.secret_key", "\"sixteen-and-more-spaces\""),
    ("store.key", "\"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\""),
    ("session.state_secret", "\"thirty-two-characters-and-more-of-state\""),
];

struct Case {
    dir: TempDir,
    values: BTreeMap<String, String>,
    env: BTreeMap<String, String>,
}

impl Case {
    fn least() -> Case {
        let values = LEAST.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Case { dir: TempDir::new().unwrap(), values, env: BTreeMap::new() }
    }

    /// Sets a key to a TOML value.
    fn with(mut self, key: &str, value: &str) -> Case {
        self.values.insert(key.to_owned(), value.to_owned());
        self
    }

    fn without(mut self, key: &str) -> Case {
        self.values.remove(key);
        self
    }

    fn env(mut self, name: &str, value: &str) -> Case {
        self.env.insert(name.to_owned(), value.to_owned());
        self
    }

    fn file(self, name: &str, text: impl AsRef<[u8]>, mode: u32) -> Case {
        write(&self.dir.path().join(name), text, mode);
        self
    }

    /// A certificate for these names with its key.
    fn tls(self, names: &[&str], key: &rcgen::KeyPair) -> Case {
        let case = self.file("chain.pem", of_key(names, key), 0o644).file("key.pem", key.serialize_pem(), 0o600);
        case.with("http.tls.certificate", "\"chain.pem\"").with("http.tls.key", "{ file = \"key.pem\" }")
    }

    /// A certificate with its key, the same file each time. Each of the two is there once more in another form.
    fn same_tls(self) -> Case {
        static MADE: std::sync::LazyLock<(TempDir, [String; 3])> = std::sync::LazyLock::new(|| {
            let (folder, key) = (tempfile::tempdir().unwrap(), rcgen::KeyPair::generate().unwrap());
            let texts = [of_key(&["localhost"], &key), of_key(&["localhost"], &key), key.serialize_pem()];
            write(&folder.path().join("chain.pem"), &texts[0], 0o644);
            (folder, texts)
        });
        let (folder, [_, other, key]) = &*MADE;
        let case = self.file("other-chain.pem", other, 0o644).file("key.pem", key, 0o600);
        let case = case.file("other-key.pem", format!("As it was.\n{key}"), 0o600);
        let chain = format!("\"{}\"", folder.path().join("chain.pem").display());
        case.with("http.tls.certificate", &chain).with("http.tls.key", "{ file = \"key.pem\" }")
    }

    fn text(&self) -> String {
        self.values.iter().map(|(key, value)| format!("{key} = {value}\n")).collect()
    }

    fn load(&self) -> Result<Loaded, Findings> {
        self.load_text(&self.text())
    }

    fn load_text(&self, text: &str) -> Result<Loaded, Findings> {
        let path = self.dir.path().join("config.toml");
        write(&path, text, 0o600);
        Config::load(&path, &|name| self.env.get(name).cloned())
    }

    fn config(&self) -> Config {
        self.load().unwrap().config
    }

    /// Every finding, warnings too, as text.
    fn findings(&self) -> Vec<Finding> {
        findings(self.load())
    }
}

/// A certificate of this key.
fn of_key(names: &[&str], key: &rcgen::KeyPair) -> String {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    rcgen::CertificateParams::new(names).unwrap().self_signed(key).unwrap().pem()
}

fn write(path: &Path, text: impl AsRef<[u8]>, mode: u32) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn findings(loaded: Result<Loaded, Findings>) -> Vec<Finding> {
    match loaded {
        Ok(loaded) => loaded.warnings,
        Err(Findings(all)) => all,
    }
}

#[test]
fn what_is_required_is_enough() {
    let loaded = Case::least().load().unwrap();
    assert_eq!(loaded.warnings, []);
    let config = loaded.config;
    assert_eq!(config.http.listen.to_string(), "127.0.0.1:5000");
    assert_eq!(config.sync.poll_interval, Duration::from_secs(86_400));
    assert_eq!(config.redirect_uri(), "http://localhost:5000/facebook/callback");
    assert_eq!(config.webhook_url(), "http://localhost:5000/facebook/webhook");
    assert_eq!(config.admin.listen, None);
    assert_eq!(config.facebook.previous_app_secret, None);
}

#[test]
fn an_empty_file_names_every_required_key_at_once() {
    let required: Vec<_> =
        TABLE.keys.iter().filter(|key| key.default == Absent::Required).map(|key| key.name).collect();
    let found = findings(Case::least().load_text(""));
    let missing: Vec<_> = found.iter().filter(|f| f.message == "is missing").map(|f| f.key.as_str()).collect();
    assert_eq!(missing, required);
    assert_eq!(required, LEAST.iter().map(|(key, _)| *key).collect::<Vec<_>>());
}

#[test]
fn the_example_and_the_list_of_keys_are_one() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/config.toml.example")).unwrap();
    let mut case = Case::least().env("CREDENTIALS_DIRECTORY", "");
    let credentials = case.dir.path().join("credentials");
    std::fs::create_dir(&credentials).unwrap();
    case.env.insert("CREDENTIALS_DIRECTORY".to_owned(), credentials.display().to_string());
    for (name, secret) in [
        ("facebook-app-secret", "an-app-secret-of-some-length"),
        ("facebook-verify-token", "a-verify-token-of-some-length"),
        ("spaces-access-key", "DO00ACCESS"),
        ("spaces-secret-key", "a-spaces-secret-of-some-length"),
        ("store-key", KEY),
        ("state-secret", "a-state-secret-that-is-long-enough-to-sign"),
    ] {
        write(&credentials.join(name), format!("{secret}\n"), 0o400);
    }
    // What a person has to fill in is an error until it is filled in, and the only one.
    let found = findings(case.load_text(&text));
    let left: Vec<_> = found.iter().map(|f| (f.key.as_str(), f.message.as_str())).collect();
    assert_eq!(left, [("facebook.app_id", "is a placeholder"), ("spaces.bucket", "is a placeholder")]);

    let loaded = case.env("FACEBOOK_APP_ID", "42").env("SPACES_BUCKET", "pages-of-ours").load_text(&text).unwrap();
    assert_eq!(loaded.warnings, []);
    assert_eq!(loaded.config.store.key.expose(), KEY);

    let table: toml::Table = text.parse().unwrap();
    let whole = toml::Value::from(table);
    for key in TABLE.keys {
        let section = key.section().split('.').try_fold(&whole, |table, name| table.get(name));
        let value = section.and_then(|section| section.get(key.leaf()));
        let value = value.unwrap_or_else(|| panic!("{} is missing in the example", key.name));
        let default = match key.default {
            Absent::Required => continue,
            Absent::Text(text) => toml::Value::from(text),
            Absent::Number(number) => toml::Value::from(i64::try_from(number).unwrap()),
            Absent::Flag(flag) => toml::Value::from(flag),
            Absent::List(texts) => toml::Value::from(texts.to_vec()),
        };
        assert_eq!(*value, default, "{}", key.name);
    }
    assert_eq!(written(&whole), TABLE.keys.len());

    // The defaults of the list are those of an empty file, too: only what is required differs.
    let bare = Case::least().config();
    for name in diff(&bare, &loaded.config).keys {
        assert_eq!(TABLE.find(name).unwrap().default, Absent::Required, "{name}");
    }
}

/// The keys that stand in a document. A table in a section is a section or the source of a secret.
fn written(value: &toml::Value) -> usize {
    match value {
        toml::Value::Table(table) if !table.keys().all(|name| raw::SOURCES.contains(&name.as_str())) => {
            table.values().map(written).sum()
        }
        _ => 1,
    }
}

/// For each key, a sound value that is not its default nor the one of [`LEAST`].
fn another(key: &Key) -> String {
    match (key.name, key.kind) {
        ("http.tls.certificate", _) => "\"other-chain.pem\"".to_owned(),
        ("http.tls.key", _) => "{ file = \"other-key.pem\" }".to_owned(),
        ("http.acme.contact", _) => "\"mailto:admin@example.com\"".to_owned(),
        ("http.accent_color", _) => "\"#0a5c36\"".to_owned(),
        ("facebook.app_id", _) => "\"987654321\"".to_owned(),
        ("facebook.graph_version", _) => "\"v27.0\"".to_owned(),
        ("shopify.api_version", _) => "\"2027-01\"".to_owned(),
        ("shopify.subscribe", _) => "\"shop\"".to_owned(),
        ("shopify.api_url", _) => "\"http://127.0.0.1:9/{shop}\"".to_owned(),
        ("shopify.shop_fields", _) => "[\"shop\"]".to_owned(),
        ("spaces.region", _) => "\"fra1\"".to_owned(),
        ("log.level", _) => "\"debug\"".to_owned(),
        (_, Kind::LogFormat) => "\"json\"".to_owned(),
        ("store.key", _) => format!("{OTHER_KEY:?}"),
        ("store.url", _) => "\"postgres://user:password@db.example.com/pagesyncd\"".to_owned(),
        ("notify.secret" | "notify.previous_secret", _) => format!("\"whsec_{OTHER_KEY}\""),
        (_, Kind::Text(_)) => "\"another\"".to_owned(),
        (_, Kind::Ips) => "[\"10.0.0.2\"]".to_owned(),
        (_, Kind::Url | Kind::UrlOrNone | Kind::WayOrNone) => "\"https://another.example.com\"".to_owned(),
        (_, Kind::Flag) => (key.default != Absent::Flag(true)).to_string(),
        (_, Kind::Count(least, _)) => (least + 1).to_string(),
        (_, Kind::Span(..)) => "\"4m\"".to_owned(),
        (_, Kind::Address | Kind::LoopbackOrNone) => "\"127.0.0.1:7777\"".to_owned(),
        (_, Kind::Path(_)) => "\"/somewhere/else\"".to_owned(),
        (_, Kind::Certificates | Kind::ChainOrNone | Kind::PrivateKeyOrNone) => "\"another.pem\"".to_owned(),
        (_, Kind::List) => "[\"name\"]".to_owned(),
        (_, Kind::Secret | Kind::SecretOrNone) => "\"another-secret-that-is-long-enough-for-all\"".to_owned(),
        (_, Kind::Secrets) => format!("[{OTHER_KEY:?}]"),
    }
}

#[test]
fn each_key_of_the_list_is_read_and_compared() {
    // The endpoint stands, so that a change of region is one change.
    let base = || {
        let base = Case::least().with("spaces.endpoint", "\"https://nyc3.digitaloceanspaces.com\"");
        let base = base.with("shopify.client_id", "\"aclient\"").with("shopify.client_secret", "\"a-client-secret\"");
        let base = base.with("notify.secret", &format!("\"whsec_{KEY}\"")).file("another.pem", certificate(), 0o644);
        base.same_tls()
    };
    let old = base().config();
    assert!(diff(&old, &old).is_empty());
    for key in TABLE.keys {
        let new = base().with(key.name, &another(key)).config();
        let changes = diff(&old, &new);
        assert_eq!(changes.keys, [key.name]);
        let of_the_database = key.section() == "store" && !matches!(key.leaf(), "key" | "previous_keys");
        assert_eq!(changes.refused.is_empty(), !of_the_database && key.name != "admin.socket", "{}", key.name);
        assert_eq!(changes.parts, key.touches.iter().copied().collect(), "{}", key.name);
    }
}

#[test]
fn the_url_of_a_database_comes_from_any_source_and_is_never_shown() {
    let url = "postgres://user:hunter22@db.example.com/pagesyncd";
    let case = Case::least().with("store.url", "{ file = \"url\" }").file("url", format!("{url}\n"), 0o600);
    let config = case.config();
    assert_eq!(config.store.url.as_ref().map(Secret::expose), Some(url));
    assert!(!format!("{config:?}").contains("hunter22"));
    let case = case.with("store.url", "{ env = \"DATABASE_URL\" }").env("DATABASE_URL", "mysql://user:hunter22@h/x");
    let found = case.findings();
    assert_eq!((found.len(), found[0].key.as_str(), found[0].severity), (1, "store.url", Severity::Error));
    assert!(!found[0].to_string().contains("hunter22"), "{}", found[0]);
    let found = Case::least().with("store.node", "\"not a name\"").findings();
    assert_eq!((found.len(), found[0].key.as_str()), (1, "store.node"), "{found:?}");
    assert_eq!(TABLE.nearest_key("store.urll"), "store.url");
}

/// A certificate as PEM.
fn certificate() -> String {
    rcgen::generate_simple_self_signed(["ca.example".to_owned()]).unwrap().cert.pem()
}

#[test]
fn authorities_are_read_from_their_file_and_a_renewed_file_is_a_change() {
    let (one, two) = (certificate(), certificate());
    let case = Case::least().with("spaces.ca_file", "\"ca.pem\"").file("ca.pem", format!("# ours\n{one}{two}"), 0o644);
    let old = case.config();
    let file = old.spaces.ca_file.as_ref().unwrap();
    assert_eq!((file.path.clone(), file.certificates.len()), (case.dir.path().join("ca.pem"), 2));
    assert_eq!(format!("{file:?}"), format!("CaFile({}, 2 certificates)", file.path.display()));
    let renewed = case.file("ca.pem", &two, 0o644).config();
    let changes = diff(&old, &renewed);
    assert_eq!((changes.keys.as_slice(), changes.touches(Part::Uploader)), (&["spaces.ca_file"][..], true));
}

#[test]
fn a_file_of_authorities_that_is_of_no_use_is_an_error_at_its_key() {
    let torn = certificate().replace("BEGIN CERTIFICATE-----\nM", "BEGIN CERTIFICATE-----\nN");
    let key = rcgen::KeyPair::generate().unwrap().serialize_pem();
    for (text, why) in [
        (None, "there is no such file"),
        (Some(String::new()), "it holds no certificate"),
        (Some("not PEM at all".to_owned()), "it holds no certificate"),
        (Some(key.clone()), "it holds no certificate"),
        (Some("-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n".to_owned()), "it is not PEM"),
        (Some(format!("{}{torn}", certificate())), "certificate 2 in it cannot be read"),
    ] {
        for name in ["spaces.ca_file", "notify.ca_file"] {
            let case = Case::least().with(name, "\"ca.pem\"");
            let case = if let Some(text) = &text { case.file("ca.pem", text, 0o644) } else { case };
            let found = case.findings();
            assert_eq!(found.len(), 1, "{found:?}");
            assert_eq!((found[0].severity, found[0].key.as_str()), (Severity::Error, name));
            assert!(found[0].message.ends_with(why), "{}", found[0].message);
            assert!(!found[0].to_string().contains(key.lines().nth(1).unwrap()), "{}", found[0]);
        }
    }
}

#[test]
fn each_configuration_can_be_made_again_from_its_values_alone() {
    let again = |case: Case| {
        let loaded = case.load().unwrap();
        let path = case.dir.path().join("config.toml");
        // Neither the file nor the environment is there any more.
        std::fs::remove_dir_all(case.dir.path()).unwrap();
        let restored = Config::restore(&path, &loaded.effective.to_bytes()).unwrap();
        assert_eq!(restored.config, loaded.config);
        assert_eq!(restored.effective.digest(), loaded.effective.digest());
        assert_eq!(format!("{:?}", loaded.effective).matches("sixteen").count(), 0);
        loaded.effective.digest()
    };
    let mut digests = vec![again(Case::least())];
    for key in TABLE.keys {
        let case = Case::least().with("notify.secret", &format!("\"whsec_{KEY}\""));
        let case = case.with("shopify.client_id", "\"aclient\"").with("shopify.client_secret", "\"a-client-secret\"");
        let case = case.file("another.pem", certificate(), 0o644).same_tls();
        digests.push(again(case.with(key.name, &another(key))));
    }
    let quoted = r#"a "secret" with \ and ü, long enough"#;
    let case = Case::least().with("facebook.app_secret", "{ file = \"app\" }").file("app", quoted, 0o600);
    let case =
        case.with("session.state_secret", "{ env = \"STATE\" }").env("STATE", "a-state-secret-of-thirty-two-and-more");
    let case = case.with("store.key", "{ credential = \"key\" }").file("key", KEY, 0o600);
    let folder = case.dir.path().display().to_string();
    digests.push(again(
        case.env("CREDENTIALS_DIRECTORY", &folder).env("FACEBOOK_APP_ID", "4242").env("SPACES_REGION", "ams3"),
    ));
    let case = Case::least().env("STATE_DIRECTORY", "/a/state:/b").env("RUNTIME_DIRECTORY", "/run/x");
    let case = case.env("FACEBOOK_REDIRECT_URI", "https://a.example/facebook/callback");
    digests.push(again(case.env("FACEBOOK_WEBHOOK_ADDRESS", "https://a.example/facebook/webhook")));
    let all = digests.len();
    digests.sort();
    digests.dedup();
    assert_eq!(digests.len(), all, "two configurations have one digest");
}

#[test]
fn events_want_a_secret_and_keep_their_address_as_it_is() {
    let without = Case::least().with("notify.url", "\"https://bot.example.com/events/\"");
    let found = without.findings();
    let said: Vec<_> = found.iter().map(|f| (f.key.as_str(), f.message.as_str())).collect();
    assert_eq!(said, [("notify.secret", "is missing, and notify.url is set")]);
    assert!(found[0].hint.contains("keygen --notify"));
    let case = without.with("notify.secret", "\"whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD\"");
    assert_eq!(case.config().notify.url.as_deref(), Some("https://bot.example.com/events/"));
    let case = case.with("notify.url", "\"http://bot.example.com/events\"");
    let found = case.findings();
    let said: Vec<_> = found.iter().map(|f| (f.key.as_str(), f.message.as_str())).collect();
    assert_eq!(said, [("notify.url", "is plain http to another host")]);
    assert!(case.load().is_err(), "it is no mere warning");
    let query = case.with("notify.url", "\"https://bot.example.com/n?key=a%20b&tenant=7\"");
    assert_eq!(query.config().notify.url.as_deref(), Some("https://bot.example.com/n?key=a%20b&tenant=7"));
    let case = query.with("notify.url", "\"https://bot.example.com/n?a=b#top\"");
    assert_eq!(
        (&*case.findings()[0].key, &*case.findings()[0].message),
        ("notify.url", "has a fragment, which is never sent")
    );
    let local = case.with("notify.url", "\"http://127.0.0.1:8000/n\"");
    assert_eq!(local.load().unwrap().warnings, []);
    assert_eq!(Case::least().config().notify.url, None);
}

#[test]
fn the_way_back_is_kept_as_it_stands_and_proxies_are_addresses() {
    let way = "https://fern.example/settings?tab=pages#facebook";
    let case = Case::least().with("http.return_url", &format!("{way:?}")).with("http.platform_name", "\" Fern \"");
    let config =
        case.with("http.accent_color", "\"#0A5c36\"").with("http.trusted_proxies", "[\"::ffff:10.0.0.2\"]").config();
    assert_eq!(config.http.accent_color.as_deref(), Some("#0A5c36"));
    assert_eq!((config.http.return_url.as_deref(), config.http.platform_name.as_deref()), (Some(way), Some("Fern")));
    assert_eq!(config.http.trusted_proxies, ["10.0.0.2".parse::<IpAddr>().unwrap()]);
    let bare = Case::least().config().http;
    assert_eq!((bare.return_url, bare.platform_name, bare.accent_color), (None, None, None));
    for (key, value, message) in [
        ("http.return_url", "\"javascript://fern.example/%0aalert(1)\"", "has a scheme other than http and https"),
        ("http.return_url", "\"https://ada:secret@fern.example/\"", "holds a user name or password"),
        ("http.return_url", "\"/settings\"", "has no scheme"),
        (
            "http.return_url",
            "\"http://fern.example/\"",
            "is plain http to another host: users come back over a \
          connection that others can read",
        ),
        ("http.platform_name", &format!("{:?}", "F".repeat(61)), "is longer than 60 characters"),
        ("http.accent_color", "\"green\"", "is not a colour"),
        ("http.accent_color", "\"#0a5\"", "is not a colour"),
        ("http.accent_color", "\"#0a5c36;}*{x:y\"", "is not a colour"),
        ("http.trusted_proxies[0]", "[\"proxy.example\"]", "is not an IP address"),
    ] {
        let found = Case::least().with(key.trim_end_matches("[0]"), value).findings();
        let said: Vec<_> = found.iter().map(|f| (f.key.as_str(), f.message.as_str())).collect();
        assert_eq!(said, [(key, message)], "{value}");
    }
}

#[test]
fn addresses_from_the_environment_are_compared() {
    let old = Case::least().config();
    let case = Case::least().env("FACEBOOK_REDIRECT_URI", "https://a.example/facebook/callback");
    let new = case.env("FACEBOOK_WEBHOOK_ADDRESS", "https://a.example/facebook/webhook").config();
    assert_eq!(new.redirect_uri(), "https://a.example/facebook/callback");
    assert_eq!(new.webhook_url(), "https://a.example/facebook/webhook");
    let changes = diff(&old, &new);
    assert_eq!(changes.keys, ["FACEBOOK_REDIRECT_URI", "FACEBOOK_WEBHOOK_ADDRESS"]);
    assert!(changes.touches(Part::Routes) && changes.touches(Part::Subscription) && changes.refused.is_empty());
    let case = Case::least().env("FACEBOOK_REDIRECT_URI", "https://a.example/facebook/callback?tenant=7");
    let loaded = case.env("FACEBOOK_WEBHOOK_ADDRESS", "https://a.example/facebook/webhook?key=k").load().unwrap();
    assert_eq!(loaded.warnings, []);
    assert_eq!(loaded.config.redirect_uri(), "https://a.example/facebook/callback?tenant=7");
    assert_eq!(loaded.config.webhook_url(), "https://a.example/facebook/webhook?key=k");
    let elsewhere = Case::least().env("FACEBOOK_WEBHOOK_ADDRESS", "https://a.example/hook?x=/facebook/webhook");
    assert!(elsewhere.findings()[0].message.starts_with("does not end in /facebook/webhook"));
}

#[test]
fn the_environment_wins_over_the_file() {
    let names: Vec<_> = TABLE.keys.iter().filter_map(|key| key.env).collect();
    assert_eq!(names.len(), 11);
    let mut case = Case::least().with("spaces.secret_key", "{ file = \"not there\" }");
    for (name, value) in [
        ("FACEBOOK_APP_ID", "42"),
        ("FACEBOOK_APP_SECRET", "env-app-secret"),
        ("FACEBOOK_VERIFY_TOKEN", "env-verify-token-of-length"),
        ("SPACES_KEY", "env-access"),
        ("SPACES_SECRET", "env-secret-key\n"),
        ("SPACES_REGION", "ams3"),
        ("SPACES_BUCKET", "env-bucket"),
        ("STATE_TOKEN_SECRET", "env-state-token-secret-of-some-length"),
        ("SHOPIFY_API_KEY", "envclientid"),
        ("SHOPIFY_API_SECRET", "env-client-secret"),
    ] {
        case = case.env(name, value);
    }
    let loaded = case.load().unwrap();
    let config = loaded.config;
    assert_eq!(loaded.warnings, []);
    assert_eq!((config.facebook.app_id.as_str(), config.spaces.bucket.as_str()), ("42", "env-bucket"));
    assert_eq!(config.facebook.app_secret.expose(), "env-app-secret");
    assert_eq!(config.shopify.client_id.as_deref(), Some("envclientid"));
    assert_eq!(config.shopify.client_secret.as_ref().map(Secret::expose), Some("env-client-secret"));
    assert_eq!(config.facebook.verify_token.expose(), "env-verify-token-of-length");
    assert_eq!(
        (config.spaces.access_key.expose(), config.spaces.secret_key.expose()),
        ("env-access", "env-secret-key")
    );
    assert_eq!(config.session.state_secret.expose(), "env-state-token-secret-of-some-length");
    assert_eq!(config.spaces.endpoint, "https://ams3.digitaloceanspaces.com");
    let own = Case::least().env("SPACES_ENDPOINT", "http://127.0.0.1:9000/").env("SPACES_BUCKET", "").config();
    assert_eq!((own.spaces.endpoint.as_str(), own.spaces.bucket.as_str()), ("http://127.0.0.1:9000", "pages"));
}

#[test]
fn a_wrong_variable_is_named() {
    let found = Case::least().env("FACEBOOK_APP_ID", "your_facebook_app_id").findings();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].headline(), "facebook.app_id (FACEBOOK_APP_ID in the environment): is a placeholder");
}

#[test]
fn systemd_directories_replace_defaults_and_not_the_file() {
    let case = Case::least().env("STATE_DIRECTORY", "/a/state:/b").env("RUNTIME_DIRECTORY", "/run/x:/run/y");
    let config = case.config();
    assert_eq!(config.store.path, Path::new("/a/state"));
    assert_eq!(config.admin.socket, Path::new("/run/x/admin.sock"));
    let config = case.with("store.path", "\"/mine\"").with("admin.socket", "\"/mine/sock\"").config();
    assert_eq!((config.store.path, config.admin.socket), ("/mine".into(), "/mine/sock".into()));
}

#[test]
fn a_value_that_makes_no_sense_is_refused_at_its_key() {
    for (key, value, message) in [
        ("http.listen", "\"localhost:5000\"", "is not an IP address with a port"),
        ("http.listen", "5000", "is an integer, expected a string"),
        ("http.public_url", "\"pages.example.com\"", "has no scheme"),
        ("http.public_url", "\"localhost:5000\"", "has no scheme"),
        ("http.public_url", "\"ftp://example.com\"", "has a scheme other than http and https"),
        ("http.public_url", "\"https://u:p@example.com\"", "holds a user name or password"),
        ("http.public_url", "\"https://example.com/?a=b\"", "has a query or a fragment"),
        ("http.public_url", "\"https://\"", "is not a valid URL"),
        ("http.max_body_bytes", "0", "is out of range"),
        ("http.max_body_bytes", "-1", "is out of range"),
        ("http.max_body_bytes", "9223372036854775807", "is out of range"),
        ("http.max_connections", "1.5", "is a float, expected an integer"),
        ("http.max_connections", "\"1024\"", "is a string, expected an integer"),
        ("http.header_timeout", "10", "is an integer, expected a duration in quotes"),
        ("http.header_timeout", "\"10\"", "is not a duration"),
        ("http.header_timeout", "\"0s\"", "is out of range"),
        ("http.body_timeout", "\"\"", "is empty"),
        ("facebook.app_id", "\"12a\"", "is not an app id"),
        ("facebook.app_id", "123", "is an integer, expected a string"),
        ("facebook.app_id", "\"…\"", "is a placeholder"),
        ("facebook.app_secret", "\"your_facebook_app_secret\"", "is a placeholder"),
        ("facebook.app_secret", "\"<secret>\"", "is a placeholder"),
        ("facebook.app_secret", "\"\"", "is empty"),
        ("facebook.app_secret", "\"two\\nlines\"", "holds a line break"),
        ("facebook.app_secret", "\" spaced\"", "begins or ends with a space"),
        ("facebook.app_secret", "17", "is an integer, expected a secret"),
        ("facebook.app_secret", "{}", "is an empty table"),
        ("facebook.app_secret", "{ file = \"a\", env = \"B\" }", "has 2 sources"),
        ("facebook.app_secret", "{ file = \"\" }", "has an empty file name"),
        ("facebook.app_secret", "{ file = \"absent\" }", "there is no such file"),
        ("facebook.app_secret", "{ file = \".\" }", "it is not a regular file"),
        ("facebook.app_secret", "{ env = \"ABSENT\" }", "needs the environment variable ABSENT"),
        ("facebook.app_secret", "{ credential = \"x\" }", "$CREDENTIALS_DIRECTORY is not set"),
        ("facebook.app_secret", "{ credential = \"../x\" }", "which is not a plain name"),
        ("facebook.graph_version", "\"26.0\"", "is not a Graph version"),
        ("facebook.graph_version", "\"v26\"", "is not a Graph version"),
        ("facebook.graph_version", "\"v+6.0\"", "is not a Graph version"),
        ("facebook.page_fields", "[]", "is empty"),
        ("facebook.page_fields", "[\"name\", \"email\"]", "names email, which a page does not have"),
        ("facebook.page_fields", "[\"created_time\"]", "names created_time, which a page does not have"),
        ("facebook.page_fields", "[\"access_token\"]", "which would put tokens where page data belongs"),
        ("facebook.page_fields", "[\"location{access_token}\"]", "which would put tokens where page data belongs"),
        ("facebook.page_fields", "[\"name,about\"]", "which is not the name of a field"),
        ("facebook.page_fields", "[\"location{city\"]", "which is not the name of a field"),
        ("facebook.page_fields", "\"name\"", "is a string, expected a list of strings"),
        ("facebook.accept_sha1", "\"yes\"", "is a string, expected true or false"),
        ("facebook.max_in_flight", "0", "is out of range"),
        ("sync.poll_interval", "\"0s\"", "is out of range"),
        ("sync.burst", "0", "is out of range"),
        ("sync.refill", "\"0s\"", "is out of range"),
        ("spaces.region", "\"NYC3\"", "is not a region name"),
        ("spaces.bucket", "\"My_Bucket\"", "is not a bucket name"),
        ("spaces.bucket", "\"ab\"", "is not a bucket name"),
        ("spaces.bucket", "\"-ab\"", "is not a bucket name"),
        ("spaces.bucket", "\"10.0.0.1\"", "is not a bucket name"),
        ("spaces.bucket", "\"a.bucket\"", "has a dot"),
        ("spaces.endpoint", "\"https://nyc3.digitaloceanspaces.com/pages\"", "has a path"),
        ("spaces.endpoint", "\"https://pages.nyc3.digitaloceanspaces.com\"", "has the bucket in its host"),
        ("store.key", "\"c2hvcnQ=\"", "is not 32 bytes in base64"),
        ("notify.url", "\"bot.example.com\"", "has no scheme"),
        ("notify.url", "\"https://u:p@bot.example.com/\"", "holds a user name or password"),
        ("notify.url", "\"https://bot.example.com/#key\"", "has a fragment, which is never sent"),
        ("notify.secret", "\"a-long-secret-without-its-prefix-and-base64\"", "is not whsec_ and the base64 of 24"),
        ("notify.secret", "\"whsec_c2hvcnQ=\"", "is not whsec_ and the base64 of 24"),
        ("notify.previous_secret", "\"whsec_%%%%\"", "is not whsec_ and the base64 of 24"),
        ("notify.max_in_flight", "0", "is out of range"),
        ("backup.passphrase", "\"elevenchars\"", "is shorter than 12 characters"),
        ("backup.keep", "\"0s\"", "is out of range"),
        ("store.path", "\"\"", "is empty"),
        ("session.state_secret", "\"short\"", "is shorter than 8"),
        ("session.ttl", "\"0s\"", "is out of range"),
        ("admin.listen", "\"0.0.0.0:9100\"", "is not a loopback address"),
        ("admin.listen", "\"127.0.0.1:5000\"", "is the same address as http.listen"),
        ("log.level", "\"inof\"", "has the unknown level inof"),
        ("log.level", "\"info,=debug\"", "names a target that is no module path"),
        ("log.format", "\"jsn\"", "has the unknown format jsn"),
    ] {
        let found = Case::least().with(key, value).findings();
        assert_eq!(found.len(), 1, "{key} = {value}: {found:#?}");
        assert_eq!((found[0].severity, found[0].key.as_str()), (Severity::Error, key), "{value}");
        assert!(found[0].message.contains(message), "{key} = {value}: {}", found[0].message);
        assert!(found[0].place.starts_with("line ") && !found[0].hint.is_empty(), "{key} = {value}: {found:?}");
    }
}

#[test]
fn the_bounds_of_a_duration_are_shown_as_a_person_writes_them() {
    for (key, bounds) in [("session.ttl", "choose from 1s to 400d"), ("sync.refill", "choose from 10ms to 1d")] {
        let found = Case::least().with(key, "\"400001d\"").findings();
        assert_eq!(found[0].hint, bounds);
    }
    assert_eq!(
        check_session_ttl(Duration::from_secs(401 * 86_400)).unwrap_err(),
        "is out of range; choose from 1s to 400d"
    );
}

#[test]
fn a_value_that_is_merely_odd_is_a_warning_at_its_key() {
    for (key, value, message) in [
        ("http.public_url", "\"http://example.com\"", "is plain http to another host"),
        ("spaces.endpoint", "\"http://storage.example.com\"", "is plain http to another host"),
        ("spaces.endpoint", "\"https://ams3.digitaloceanspaces.com\"", "is in another region"),
        ("facebook.verify_token", "\"guess\"", "is easy to guess"),
        ("facebook.graph_version", "\"v19.0\"", "is a version that Graph has retired"),
        ("facebook.scopes", "[\"pages_show_list\", \"pages_manage_metadata\", \"pages_read_engagement\"]", "portfolio"),
        ("facebook.page_fields", "[\"name\", \"parking\"]", "which newer pages do not have"),
        ("facebook.page_fields[1]", "", "repeats name"),
        ("facebook.webhook_fields", "[\"emails\"]", "names emails, which is not known"),
        ("facebook.webhook_fields", "[\"messages\"]", "need the permission pages_messaging"),
        ("facebook.webhook_fields", "[]", "changes are found by polling alone"),
        ("session.state_secret", "\"only-sixteen-ch\"", "is shorter than 32"),
        ("store.path", "\"state\"", "is relative"),
        ("store.previous_keys[0]", "", "is the same key as store.key"),
        ("sync.poll_interval", "\"1m\"", "spends the request budget"),
    ] {
        let (set, value) = match key {
            "facebook.page_fields[1]" => ("facebook.page_fields", "[\"name\", \"name\"]".to_owned()),
            "store.previous_keys[0]" => ("store.previous_keys", format!("[{KEY:?}]")),
            _ => (key, value.to_owned()),
        };
        let loaded = Case::least().with(set, &value).load().unwrap();
        let [warning] = loaded.warnings.as_slice() else { panic!("{key} = {value}: {:#?}", loaded.warnings) };
        assert_eq!((warning.severity, warning.key.as_str()), (Severity::Warning, key));
        assert!(warning.message.contains(message), "{key} = {value}: {}", warning.message);
    }
}

#[test]
fn unknown_names_point_to_the_nearest() {
    for (key, value, message) in [
        ("http.lisen", "\"x\"", "the nearest known key is http.listen"),
        ("spcaes.bucket", "\"x\"", "the nearest known section is [spaces]"),
        ("poll_interval", "\"24h\"", "the nearest known key is sync.poll_interval"),
        ("facebook.app_secret.credental", "\"x\"", "the nearest known one is credential"),
    ] {
        let found = Case::least().without("facebook.app_secret").with(key, value).findings();
        let named = found.iter().find(|f| f.hint == message).unwrap_or_else(|| panic!("{key}: {found:#?}"));
        assert!(named.key == key || key.starts_with(&format!("{}.", named.key)), "{named:?}");
        assert!(named.place.starts_with("line "), "{named:?}");
        let at = named.position.unwrap_or_else(|| panic!("{named:?}"));
        assert!(named.place == format!("line {}", at.line) && at.column > 0, "{named:?}");
    }
}

#[test]
fn everything_is_found_at_once() {
    let case = Case::least().with("http.listen", "\"x\"").with("http.max_connections", "0").with("log.leval", "1");
    let case = case.without("store.key").with("facebook.verify_token", "\"guess\"");
    let found = case.findings();
    let keys: Vec<_> = found.iter().map(|f| f.key.as_str()).collect();
    assert_eq!(keys, ["log.leval", "http.listen", "http.max_connections", "store.key", "facebook.verify_token"]);
    let Err(all) = case.load() else { panic!() };
    assert_eq!(all.errors().count(), 4);
    assert!(all.summary().ends_with("is not a known key (and 3 more)"), "{}", all.summary());
    assert_eq!(all.to_string().lines().count(), 10);
}

#[test]
fn syntax_errors_show_position_and_no_source() {
    let text = "[http]\nlisten = \"127.0.0.1:1\nmax_connections = 0\n[facebook]\napp_secret = EAABsecret\nappid = 1\n";
    let found = findings(Case::least().load_text(text));
    let printed: String = found.iter().map(|f| format!("{f}\n")).collect();
    assert!(!printed.contains("EAAB") && !printed.contains("127.0.0.1:1"), "{printed}");
    assert!(printed.contains("(line 2, column 22)") && printed.contains("(line 5, column 14)"), "{printed}");
    assert!(printed.contains("http.max_connections (line 3)") && printed.contains("facebook.appid"), "{printed}");
    assert!(!printed.contains("is missing"), "{printed}");

    let found = findings(Case::least().load_text("[http\nlisten = \"127.0.0.1:1\"\n"));
    assert!(found.iter().all(|f| f.message.contains("not valid TOML")), "{found:#?}");
    let found = findings(Case::least().load_text("http = 3\n"));
    assert_eq!((found[0].key.as_str(), found[0].message.as_str()), ("http", "is an integer, expected a section"));
}

#[test]
fn secrets_come_from_each_source_and_lose_the_newline() {
    let case = Case::least().file("secret", "from-file\r\n", 0o600).env("MINE", "from-env");
    let directory = case.dir.path().display().to_string();
    let case = case.env("CREDENTIALS_DIRECTORY", &format!("/elsewhere:{directory}"));
    let case = case.with("facebook.app_secret", "{ credential = \"secret\" }");
    let case = case.with("facebook.previous_app_secret", "{ env = \"MINE\" }");
    let case = case.with("spaces.secret_key", "{ file = \"secret\" }");
    let case = case.with("store.previous_keys", &format!("[{OTHER_KEY:?}, {{ env = \"OLD\" }}]")).env("OLD", OTHER_KEY);
    let loaded = case.load().unwrap();
    let config = loaded.config;
    assert_eq!(config.facebook.app_secret.expose(), "from-file");
    assert_eq!(config.spaces.secret_key.expose(), "from-file");
    assert_eq!(config.facebook.previous_app_secret.as_ref().unwrap().expose(), "from-env");
    assert_eq!(config.store.previous_keys.len(), 2);
    assert_eq!(loaded.warnings.len(), 1, "{:?}", loaded.warnings);
    assert_eq!(loaded.warnings[0].message, "is the same secret as facebook.app_secret");
}

#[test]
fn files_that_cannot_hold_a_secret_are_refused() {
    for (content, message) in [
        (b"\n".to_vec(), "is empty"),
        (vec![0xff, 0xfe], "it is not text"),
        (vec![b'x'; 20_000], "it is larger than"),
        (b"two\nlines".to_vec(), "holds a line break"),
    ] {
        let case = Case::least().file("secret", content, 0o600);
        let found = case.with("facebook.app_secret", "{ file = \"secret\" }").findings();
        assert_eq!((found.len(), found[0].key.as_str()), (1, "facebook.app_secret"), "{found:?}");
        assert!(found[0].message.contains(message), "{found:?}");
    }
}

#[test]
fn files_that_everybody_may_read_are_warned_of() {
    let case = Case::least().file("open", "a-sound-secret", 0o644);
    let found = case.with("facebook.app_secret", "{ file = \"open\" }").findings();
    assert_eq!(found.len(), 1);
    assert!(found[0].severity == Severity::Warning && found[0].message.contains("everybody may read"));

    let case = Case::least();
    let path = case.dir.path().join("open.toml");
    write(&path, case.text(), 0o644);
    let loaded = Config::load(&path, &|_| None).unwrap();
    assert_eq!(loaded.warnings.len(), 1);
    assert_eq!(loaded.warnings[0].key, "facebook.app_secret");
}

#[test]
fn the_admin_socket_is_found_without_the_rest() {
    let socket = |text: &str| {
        let case = Case::least();
        let path = case.dir.path().join("config.toml");
        write(&path, text, 0o644);
        Config::admin_socket(&path, &|_| None)
    };
    let text = "[admin]\nsocket = \"/mine\"\nlisten = 3\n[facebook]\napp_secret = { credential = \"x\" }\n";
    assert_eq!(socket(text).unwrap(), Path::new("/mine"));
    assert_eq!(socket("").unwrap(), Path::new("/run/pagesyncd/admin.sock"));
    assert_eq!(socket("[admin]\nsocket = 3\n").unwrap_err().0.len(), 1);
    assert_eq!(socket("admin = 3\n").unwrap_err().0.len(), 1);
    assert!(socket("[admin\n").unwrap_err().summary().contains("not valid TOML"));
    let long = format!("[admin]\nsocket = \"/{}\"\n", "x".repeat(107));
    assert!(socket(&long).unwrap_err().summary().contains("longer than the 107 bytes"));
}

#[test]
fn a_file_that_is_no_file_is_named() {
    let dir = TempDir::new().unwrap();
    for (name, message) in [("absent.toml", "there is no such file"), (".", "it is not a regular file")] {
        let Err(found) = Config::load(&dir.path().join(name), &|_| None) else { panic!("{name} was loaded") };
        assert_eq!(found.0.len(), 1);
        assert!(found.summary().contains(message) && found.0[0].key.contains(dir.path().to_str().unwrap()));
    }
    let found = Case::least().file("latin.toml", [0x23, 0xe9], 0o600);
    let Err(found) = Config::load(&found.dir.path().join("latin.toml"), &|_| None) else { panic!() };
    assert!(found.summary().contains("is not UTF-8"));
}

#[test]
fn store_keys_come_in_both_alphabets() {
    let bytes = [0xfb; 32];
    let padded = base64::engine::general_purpose::STANDARD.encode(bytes);
    let plain = URL_SAFE_NO_PAD.encode(bytes);
    for text in [&padded, &plain] {
        assert_eq!(*decode_store_key(&Secret::new(text.as_str())).unwrap(), bytes, "{text}");
    }
    assert!(decode_store_key(&Secret::new(&plain[..40])).is_none());
    assert!(decode_store_key(&Secret::new("")).is_none());
}

#[test]
fn a_secret_written_where_its_source_belongs_is_not_shown() {
    for source in ["env", "file", "credential"] {
        for secret in ["0123456789abcdef0123456789abcdef", "kJ8s/9dKxPq2Lw7Zr5TnV4bY1cHg", "EAABsbCS1iHgBO0A1zZB"] {
            let case = Case::least().with("facebook.app_secret", &format!("{{ {source} = {secret:?} }}"));
            let found = case.env("CREDENTIALS_DIRECTORY", "/nowhere").findings();
            let last = secret.rsplit('/').next().unwrap();
            assert_eq!(found.len(), 1);
            assert!(!format!("{found:?}").contains(last), "{found:?}");
        }
    }
    let found = Case::least().with("facebook.app_secret", "{ file = \"/etc/pagesyncd/app-secret\" }").findings();
    assert!(found[0].message.contains("/etc/pagesyncd/app-secret"));
}

#[test]
fn what_looks_like_an_example_is_not_taken_for_one() {
    let case = Case::least().with("spaces.bucket", "\"your-brand-pages\"");
    assert_eq!(case.config().spaces.bucket, "your-brand-pages");
    let found = Case::least().env("FACEBOOK_WEBHOOK_ADDRESS", "https://your-app.com/facebook/webhook").findings();
    assert_eq!((found[0].key.as_str(), found[0].message.as_str()), ("FACEBOOK_WEBHOOK_ADDRESS", "is a placeholder"));
}

#[test]
fn nothing_shown_holds_a_secret() {
    let case = Case::least().with("store.previous_keys", "[\"SHOWNOT-c2hvcnQ\"]").with("http.max_connections", "0");
    let case = case.with("facebook.app_id", "\"SHOWNOT\"").with("spaces.bucket", "\"SHOWNOT\"");
    let case = case.with("http.public_url", "\"https://u:SHOWNOT@example.com\"").with("store.key", "\"SHOWNOT\"");
    let Err(found) = case.load() else { panic!() };
    assert!(found.0.len() >= 5 && !format!("{found} {found:?}").contains("SHOWNOT"), "{found}");
    let shown = format!("{:?}", Case::least().config());
    assert!(!shown.contains("sixteen-and-more") && shown.contains("[redacted]"));
}

proptest! {
    #[test]
    fn no_text_panics_and_every_refusal_says_why(text in "([a-z\\[\\]{}=\"#. \n0-9]|http|app_secret|…){0,80}") {
        let Err(found) = Case::least().load_text(&text) else { panic!("{text:?} was taken") };
        prop_assert!(found.errors().next().is_some());
        for finding in &found.0 {
            prop_assert!(!finding.key.is_empty() && !finding.message.is_empty() && !finding.hint.is_empty());
            prop_assert_eq!(finding.to_string().lines().count(), 2, "{:?}", finding);
        }
    }
}

/// The findings about the listener's TLS: whether each is an error, its key and its words.
fn about_tls(case: &Case) -> Vec<(bool, String, String)> {
    let about = |finding: &Finding| finding.key.starts_with("http.");
    let found = case.findings().into_iter().filter(about);
    found.map(|f| (f.severity == Severity::Error, f.key.clone(), f.to_string())).collect()
}

#[test]
fn a_certificate_and_its_key_are_judged_together() {
    let key = rcgen::KeyPair::generate().unwrap();
    let https = || Case::least().with("http.public_url", "\"https://pages.example.com\"");
    let good = https().tls(&["*.example.com"], &key);
    assert_eq!(about_tls(&good), []);
    let config = good.config();
    assert!(config.listener_speaks_tls() && config.http_tls.identity().unwrap().is_some());
    assert!(!format!("{config:?}").contains(&key.serialize_pem()[40..60]));
    // The same from credentials, and with the key in the file itself.
    let folder = good.dir.path().to_str().unwrap().to_owned();
    let inline = format!("{:?}", key.serialize_pem());
    let same = good.with("http.tls.certificate", "{ credential = \"chain.pem\" }").with("http.tls.key", &inline);
    let same = same.env("CREDENTIALS_DIRECTORY", &folder);
    assert_eq!(about_tls(&same), []);
    assert_eq!(same.config().http_tls, config.http_tls);
    // The values that were in force make the same configuration, though the files are gone.
    let kept = same.load().unwrap().effective.to_bytes();
    std::fs::remove_file(same.dir.path().join("chain.pem")).unwrap();
    let path = same.dir.path().join("config.toml");
    assert_eq!(Config::restore(&path, &kept).unwrap().config.http_tls, config.http_tls);
}

#[test]
fn what_is_wrong_with_a_certificate_is_named_with_the_way_out() {
    let (key, other) = (rcgen::KeyPair::generate().unwrap(), rcgen::KeyPair::generate().unwrap());
    let good = || {
        let case = Case::least().with("http.public_url", "\"https://pages.example.com\"");
        case.tls(&["pages.example.com"], &key).file("strange.pem", other.serialize_pem(), 0o600)
    };
    let lasting = |from: (i32, u8, u8), until: time::OffsetDateTime| {
        let mut params = rcgen::CertificateParams::new(["pages.example.com".to_owned()]).unwrap();
        (params.not_before, params.not_after) = (rcgen::date_time_ymd(from.0, from.1, from.2), until);
        params.self_signed(&key).unwrap().pem()
    };
    let now = time::OffsetDateTime::now_utc();
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let (certificate, private) = ("http.tls.certificate", "http.tls.key");
    for (case, is_error, named, words) in [
        (good().without(private), true, private, "is missing"),
        (good().without(certificate), true, certificate, "is missing"),
        (good().with(private, "{ file = \"strange.pem\" }"), true, private, "is not the key of the certificate"),
        (good().with(private, "\"/etc/ssl/key.pem\""), true, private, "{ file = "),
        (good().file("key.pem", encrypted, 0o600), true, private, "is encrypted"),
        (good().file("key.pem", key.serialize_pem(), 0o644), false, private, "everybody may read"),
        (good().with(certificate, "\"nowhere.pem\""), true, certificate, "no such file"),
        (good().with(certificate, "\"key.pem\""), true, certificate, "holds no certificate"),
        (good().with(certificate, "{ env = \"X\" }"), true, certificate, "names no file"),
        (
            good().file("chain.pem", lasting((2020, 1, 1), rcgen::date_time_ymd(2021, 1, 1)), 0o644),
            false,
            certificate,
            "expired on 2021",
        ),
        (
            good().file("chain.pem", lasting((2020, 1, 1), now + time::Duration::days(6)), 0o644),
            false,
            certificate,
            "expires on",
        ),
        (
            good().file("chain.pem", lasting((3000, 1, 1), rcgen::date_time_ymd(3001, 1, 1)), 0o644),
            false,
            certificate,
            "not valid before",
        ),
        (
            good().with("http.public_url", "\"https://other.example.com\""),
            false,
            certificate,
            "is not for other.example.com",
        ),
        (good().with("http.public_url", "\"http://pages.example.com\""), false, "http.public_url", "plain http"),
        (good().with("http.tls.client_name", "\"*.example.com\""), true, "http.tls.client_name", "not a host name"),
        (good().with("http.acme.domains", "[\"pages.example.com\"]"), false, "http.acme.domains", "is not used"),
        (
            good().without(certificate).without(private).with("http.tls.client_ca_file", "\"chain.pem\""),
            true,
            "http.tls.client_ca_file",
            "the listener has no TLS",
        ),
    ] {
        let found = about_tls(&case);
        let hit = found.iter().any(|(error, key, text)| *error == is_error && key == named && text.contains(words));
        assert!(hit, "{named} {words}: {found:?}");
        assert!(is_error || case.load().is_ok(), "{named} {words}: {found:?}");
        assert!(found.iter().all(|(.., text)| !text.contains("PRIVATE KEY-----")), "{found:?}");
    }
}

#[test]
fn acme_needs_an_agreement_a_host_and_https() {
    let good = || {
        let case = Case::least().with("http.public_url", "\"https://pages.example.com\"");
        case.with("http.acme.domains", "[\"pages.example.com\"]").with("http.acme.terms_agreed", "true")
    };
    assert_eq!(about_tls(&good()), []);
    assert!(good().config().listener_speaks_tls());
    for (case, is_error, named, words) in [
        (good().without("http.acme.terms_agreed"), true, "http.acme.terms_agreed", "terms of service"),
        (good().with("http.acme.domains", "[\"*.example.com\"]"), true, "http.acme.domains[0]", "no wildcard"),
        (good().with("http.acme.domains", "[\"example.com\"]"), false, "http.acme.domains", "lacks pages.example.com"),
        (good().with("http.acme.directory", "\"http://ca.example.com\""), true, "http.acme.directory", "https"),
        (good().with("http.acme.contact", "\"admin@example.com\""), true, "http.acme.contact", "mailto:"),
        (good().with("store.url", "\"postgres://u:password@db/p\""), false, "http.acme.domains", "this daemon alone"),
    ] {
        let found = about_tls(&case);
        let hit = found.iter().any(|(error, key, text)| *error == is_error && key == named && text.contains(words));
        assert!(hit, "{named} {words}: {found:?}");
    }
}

#[test]
fn a_section_within_a_section_is_one() {
    let text = Case::least().text();
    let case = Case::least();
    let found = findings(case.load_text(&format!("http.tls = 1\n{text}")));
    assert_eq!((found[0].key.as_str(), found[0].message.as_str()), ("http.tls", "is an integer, expected a section"));
    let found = findings(case.load_text(&format!("{text}\n[http.tls]\ncertificat = \"x\"\n")));
    assert_eq!(found[0].key, "http.tls.certificat");
    assert!(found[0].hint.ends_with("http.tls.certificate"), "{}", found[0].hint);
    let found = findings(case.load_text(&format!("{text}\n[http.tls]\nkey = {{ file = 7 }}\n")));
    assert!(found[0].hint.starts_with("write key = "), "{}", found[0].hint);
}
