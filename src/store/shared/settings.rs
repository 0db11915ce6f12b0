//! Where the shared database is, and how this daemon connects to it.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::crypto::ring;
use tokio_postgres_rustls::MakeRustlsConnect;
use url::{Host, Url};

use crate::config::{CaFile, Config, DatabaseUrl, Spaces};
use crate::core::model::Secret;
use crate::http_client::Trust;
use crate::random;

/// The longest part of a host name that the name of a daemon begins with.
const MAX_HOST: usize = 40;

/// Where the shared database is, and how this daemon connects to it.
#[derive(Clone)]
pub struct Settings {
    url: DatabaseUrl,
    tls: MakeRustlsConnect,
    /// Connections that this daemon may have open at a time.
    pub max_connections: usize,
    /// The name of this daemon, for people.
    pub node: String,
    /// May the schema be brought forward at the start?
    pub migrate: bool,
    /// The folder in which this daemon keeps what it knows of the database; `None` where it keeps nothing.
    pub folder: Option<PathBuf>,
    /// The bucket of the objects, by its address; `None` where it does not matter.
    pub bucket: Option<String>,
}

impl Settings {
    /// The settings of a configuration; `None` when its store is local. A daemon without a name gets one, which differs
    /// from one call to the next.
    ///
    /// # Errors
    /// What is wrong with the URL; a section that was loaded has none of that.
    pub fn of(config: &Config) -> Result<Option<Settings>, String> {
        let section = &config.store;
        let Some(url) = &section.url else { return Ok(None) };
        let mut settings = Settings::new(url, section.ca_file.as_ref())?;
        settings.max_connections = section.max_connections;
        settings.migrate = section.migrate;
        settings.folder = Some(section.path.clone());
        settings.bucket = Some(address_of(&config.spaces));
        if let Some(node) = &section.node {
            settings.node.clone_from(node);
        }
        Ok(Some(settings))
    }

    /// The settings of a URL, and otherwise the defaults.
    ///
    /// # Errors
    /// What is wrong with the URL, without a part of it.
    pub fn new(url: &Secret, ca_file: Option<&CaFile>) -> Result<Settings, String> {
        let url = DatabaseUrl::parse(url).map_err(|(what, hint)| format!("store.url {what}; {hint}"))?;
        let trust = if url.is_encrypted() { Trust::of_the_system() } else { Trust::default() };
        let trust = trust.with(ca_file.map_or(&[], |file| &file.certificates));
        let tls = client_config(&trust).map_err(|error| format!("TLS cannot be set up: {error}"))?;
        let tls = MakeRustlsConnect::new(tls);
        let node = any_name();
        Ok(Settings { url, tls, max_connections: 8, node, migrate: true, folder: None, bucket: None })
    }

    /// The address of the database.
    pub fn url(&self) -> &DatabaseUrl {
        &self.url
    }

    /// Verifies the server's certificate.
    pub(super) fn tls(&self) -> MakeRustlsConnect {
        self.tls.clone()
    }
}

/// The password is not among what is shown.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Settings");
        shown.field("url", &self.url).field("max_connections", &self.max_connections);
        shown.field("node", &self.node).field("migrate", &self.migrate).finish_non_exhaustive()
    }
}

fn client_config(trust: &Trust) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(builder.with_root_certificates(trust.roots()).with_no_client_auth())
}

/// The address of a bucket. A service on this machine alone, as that of the sandbox, may have another port after each start.
fn address_of(spaces: &Spaces) -> String {
    let endpoint = match Url::parse(&spaces.endpoint) {
        Ok(mut url) => {
            let is_loopback = match url.host() {
                Some(Host::Ipv4(address)) => address.is_loopback(),
                Some(Host::Ipv6(address)) => address.is_loopback(),
                Some(Host::Domain(name)) => name == "localhost",
                None => false,
            };
            if is_loopback {
                // A URL with a host has a port.
                let _ = url.set_port(None);
            }
            url.to_string()
        }
        Err(_) => spaces.endpoint.clone(),
    };
    format!("{}/{}", endpoint.trim_end_matches('/'), spaces.bucket)
}

/// The name of this host and a random part: several daemons may run on one host.
fn any_name() -> String {
    let uname = rustix::system::uname();
    let plain = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let host: String = uname.nodename().to_string_lossy().chars().filter(plain).take(MAX_HOST).collect();
    let host = if host.is_empty() { "daemon" } else { &host };
    format!("{host}-{}", hex::encode(random::unique::<3>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_show_no_password_and_name_each_daemon_apart() {
        let make = || Settings::new(&Secret::new("postgres://u:hunter22@h/x"), None).unwrap();
        let settings = make();
        let shown = format!("{settings:?}");
        assert!(shown.contains("h:5432/x") && shown.contains(&settings.node) && !shown.contains("hunter22"), "{shown}");
        assert_ne!(settings.node, make().node);
        let error = Settings::new(&Secret::new("postgres://u:hunter22@h"), None).unwrap_err();
        assert!(error.starts_with("store.url ") && !error.contains("hunter22"), "{error}");
    }
    #[test]
    fn a_bucket_has_one_address_however_its_endpoint_is_written() {
        let config = |endpoint: &str, bucket: &str| Spaces {
            region: "nyc3".into(),
            bucket: bucket.into(),
            endpoint: endpoint.into(),
            access_key: Secret::new("id"),
            secret_key: Secret::new("key"),
            path_style: false,
            max_in_flight: 8,
            request_timeout: std::time::Duration::from_secs(30),
            ca_file: None,
        };
        let address = |endpoint, bucket| address_of(&config(endpoint, bucket));
        let spaces = "https://nyc3.digitaloceanspaces.com";
        assert_eq!(address(spaces, "pages"), "https://nyc3.digitaloceanspaces.com/pages");
        for same in ["https://NYC3.digitaloceanspaces.com", "https://nyc3.digitaloceanspaces.com:443/"] {
            assert_eq!(address(same, "pages"), address(spaces, "pages"));
        }
        for other in ["https://ams3.digitaloceanspaces.com", "https://nyc3.digitaloceanspaces.com:8443"] {
            assert_ne!(address(other, "pages"), address(spaces, "pages"));
        }
        assert_ne!(address(spaces, "others"), address(spaces, "pages"));
        assert_eq!(address("http://127.0.0.1:9000", "pages"), address("http://127.0.0.1:9001", "pages"));
    }
}
