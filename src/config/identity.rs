//! The daemon's own certificate and its private key (`http.tls.certificate`, `http.tls.key`).
//!
//! Both are read with the configuration, as a `ca_file` is, so that a renewed pair comes into force as a whole by a
//! reload and a pair that does not fit is refused.

use std::fmt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::findings::{Report, shown};
use super::secret::regular_file;
use crate::core::certificate::CertificateFacts;
use crate::core::model::Secret;

/// Some certificates of some kilobytes each.
const LIMIT: u64 = 256 << 10;

/// A certificate, and behind it those between it and its authority.
#[derive(Clone, PartialEq, Eq)]
pub struct Chain {
    /// Where it lies.
    pub path: PathBuf,
    /// The certificates, the daemon's own first.
    pub certificates: Vec<CertificateDer<'static>>,
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Chain({}, {} certificates)", self.path.display(), self.certificates.len())
    }
}

impl Chain {
    /// The facts of the daemon's own certificate.
    pub fn facts(&self) -> Option<CertificateFacts> {
        CertificateFacts::read(self.certificates.first()?)
    }

    /// The path and the certificates as texts, for [`Chain::from_noted`].
    pub(super) fn noted(&self) -> Vec<String> {
        let certificates = self.certificates.iter().map(|certificate| STANDARD.encode(certificate));
        std::iter::once(self.path.to_string_lossy().into_owned()).chain(certificates).collect()
    }

    /// The chain again, from the values that were in force.
    pub(super) fn from_noted(texts: &[&str]) -> Option<Chain> {
        let (path, certificates) = texts.split_first()?;
        let certificates: Option<Vec<CertificateDer<'static>>> =
            certificates.iter().map(|text| Some(STANDARD.decode(text).ok()?.into())).collect();
        let chain = Chain { path: path.into(), certificates: certificates? };
        chain.facts().is_some().then_some(chain)
    }

    /// Reads the file, or reports at the key why that cannot be done.
    pub(super) fn read(key: &str, path: &Path, report: &mut Report) -> Option<Chain> {
        match certificates(path) {
            Ok(certificates) => Some(Chain { path: path.to_owned(), certificates }),
            Err(why) => {
                let message = format!("cannot be used from {}: {why}", shown(&path.display().to_string()));
                let hint = "name a file that the user of the daemon may read, with the daemon's own certificate first and \
                            those of the authorities between behind it, as PEM";
                report.error(key, message, hint);
                None
            }
        }
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let (bytes, _) = regular_file(path, LIMIT)?;
    let mut found = Vec::new();
    for (n, certificate) in CertificateDer::pem_slice_iter(&bytes).enumerate() {
        // The parser's own words may quote the file.
        let certificate = certificate.map_err(|_| "it is not PEM".to_owned())?;
        if CertificateFacts::read(&certificate).is_none() {
            return Err(format!("certificate {} in it cannot be read", n + 1));
        }
        found.push(certificate);
    }
    if found.is_empty() { Err("it holds no certificate".to_owned()) } else { Ok(found) }
}

/// The text as a private key, or a report at the key. The text itself is in no message.
pub(super) fn private_key(key: &str, text: &str, report: &mut Report) -> Option<Secret> {
    let (message, hint) = match PrivateKeyDer::from_pem_slice(text.as_bytes()) {
        Ok(_) => return Some(Secret::new(text)),
        Err(PemError::NoItemsFound) if text.contains("ENCRYPTED PRIVATE KEY") => {
            ("is encrypted", "write it without a passphrase: openssl pkey -in FILE -out NEW; and guard the file")
        }
        Err(_) if !text.contains("-----BEGIN") => (
            "is not a private key in PEM",
            "a path is written as { file = \"...\" }, a credential as { credential = \"...\" }",
        ),
        Err(_) => ("holds no private key", "give the PEM file that begins with a line like BEGIN PRIVATE KEY"),
    };
    report.error(key, message, hint);
    None
}

/// The pair as rustls serves it, or why it cannot be served.
pub(super) fn pair(chain: &Chain, key: &Secret) -> Result<CertifiedKey, rustls::Error> {
    let key = PrivateKeyDer::from_pem_slice(key.expose().as_bytes())
        .map_err(|_| rustls::Error::General("the key is not PEM".to_owned()))?;
    CertifiedKey::from_der(chain.certificates.clone(), key, &default_provider())
}
