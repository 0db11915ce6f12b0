//! The rules for the TLS of the public listener (`[http.tls]`, `[http.acme]`).
//!
//! A certificate that callers would refuse (expired, for another name) can still be served, so it is a warning: a start
//! after a crash must not fail for it.

use rustls::client::verify_server_name;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use url::Url;

use super::findings::{Report, shown};
use super::identity::{Chain, pair};
use super::rules::host_name;
use super::table::{Config, HttpAcme, HttpTls};
use crate::core::model::{Secret, WallTime};

const RENEW: &str = "renew it, then reload, or restart where it is a systemd credential";

impl HttpTls {
    /// The certificate with its key; `None` where none is configured.
    ///
    /// # Errors
    /// What rustls says. A configuration that was accepted has none.
    pub fn identity(&self) -> Result<Option<CertifiedKey>, rustls::Error> {
        match (&self.certificate, &self.key) {
            (Some(chain), Some(key)) => pair(chain, key).map(Some),
            _ => Ok(None),
        }
    }
}

impl HttpAcme {
    /// Is the certificate to come from an authority that speaks ACME?
    pub fn is_on(&self) -> bool {
        !self.domains.is_empty()
    }
}

impl Config {
    /// Does the public listener speak TLS?
    pub fn listener_speaks_tls(&self) -> bool {
        self.http_tls.certificate.is_some() || self.http_acme.is_on()
    }
}

/// The rules for the listener's TLS.
pub(super) fn check(config: &Config, report: &mut Report) {
    let HttpTls { certificate, key, client_ca_file, .. } = &config.http_tls;
    match (certificate, key) {
        (Some(chain), Some(key)) => check_pair(config, chain, key, report),
        (Some(_), None) => {
            let hint = "give the private key of http.tls.certificate, such as key = { file = \"...\" }";
            report.error("http.tls.key", "is missing, and http.tls.certificate is set", hint);
        }
        (None, Some(_)) => {
            let hint = "name the file of the certificate, or take the key out to have no TLS";
            report.error("http.tls.certificate", "is missing, and http.tls.key is set", hint);
        }
        (None, None) => {}
    }
    check_acme(config, report);
    if !config.listener_speaks_tls() {
        if client_ca_file.is_some() {
            let hint = "set http.tls.certificate or http.acme.domains; behind a proxy the proxy has to ask for it";
            report.error("http.tls.client_ca_file", "is set, and the listener has no TLS", hint);
        }
    } else if config.http.public_url.starts_with("http://") {
        let hint = "write it with https, unless http.tls is meant for a proxy in between";
        report.warning("http.public_url", "is plain http, and the listener speaks TLS alone", hint);
    }
}

fn check_pair(config: &Config, chain: &Chain, key: &Secret, report: &mut Report) {
    const KEY: &str = "http.tls.certificate";
    match pair(chain, key) {
        Ok(_) => {}
        Err(rustls::Error::InconsistentKeys(_)) => {
            let hint = "give the key that this certificate was made with; in the file the daemon's own certificate comes first";
            report.error("http.tls.key", "is not the key of the certificate in http.tls.certificate", hint);
            return;
        }
        Err(error) => {
            let hint = "use a key of a common kind: ECDSA P-256 or P-384, RSA of at least 2048 bits, or Ed25519";
            report.error("http.tls.key", format!("cannot be used: {error}"), hint);
            return;
        }
    }
    let Some(facts) = chain.facts() else { return };
    let (now, until) = (WallTime::now(), facts.not_after.rfc3339());
    if facts.not_after <= now {
        report.warning(KEY, format!("expired on {until}: callers refuse it"), RENEW);
    } else if facts.expires_soon(now) {
        report.warning(KEY, format!("expires on {until}"), RENEW);
    } else if facts.not_before > now {
        let from = facts.not_before.rfc3339();
        report.warning(KEY, format!("is not valid before {from}: callers refuse it"), "set this machine's clock");
    }
    let Some(host) = host_of(&config.http.public_url) else { return };
    if !serves(&chain.certificates[0], &host) {
        let hint = "get a certificate for the host of http.public_url, or correct http.public_url";
        report.warning(KEY, format!("is not for {}, the host of http.public_url", shown(&host)), hint);
    }
}

fn host_of(url: &str) -> Option<String> {
    Some(Url::parse(url).ok()?.host_str()?.trim_matches(['[', ']']).to_owned())
}

fn serves(certificate: &CertificateDer<'_>, host: &str) -> bool {
    let Ok(name) = ServerName::try_from(host) else { return false };
    ParsedCertificate::try_from(certificate).is_ok_and(|parsed| verify_server_name(&parsed, &name).is_ok())
}

fn check_acme(config: &Config, report: &mut Report) {
    const KEY: &str = "http.acme.domains";
    let acme = &config.http_acme;
    for (n, domain) in acme.domains.iter().enumerate() {
        let hint = "write a host name such as \"pages.example.com\"; the challenge tls-alpn-01 gives no wildcard";
        if host_name(domain).is_err() {
            report.error(&format!("{KEY}[{n}]"), "is not a host name", hint);
        }
    }
    if !acme.is_on() {
        return;
    }
    if config.http_tls.certificate.is_some() {
        report.warning(KEY, "is not used, because http.tls.certificate is set", "take one of the two out");
        return;
    }
    if !acme.terms_agreed {
        let hint = "read the terms of service of the authority, and set http.acme.terms_agreed = true";
        report.error("http.acme.terms_agreed", "is false, and http.acme.domains is set", hint);
    }
    if acme.directory.starts_with("http://") {
        report.error("http.acme.directory", "is plain http", "use https; http.acme.ca_file names a private authority");
    }
    let host = host_of(&config.http.public_url).unwrap_or_default();
    if !acme.domains.iter().any(|domain| domain.eq_ignore_ascii_case(&host)) {
        report.warning(KEY, format!("lacks {}, the host of http.public_url", shown(&host)), "add it");
    }
    if config.store.url.is_some() {
        let hint =
            "where several daemons answer for one name, get the certificate outside and set http.tls.certificate";
        report.warning(KEY, "is answered by this daemon alone, and store.url shares the store", hint);
    }
}
