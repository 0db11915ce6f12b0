//! Files of certificates (`ca_file`): authorities of one's own, trusted beside the built-in roots and the system's.
//!
//! The content is read with the configuration, at the start and at each reload, so that a renewed file is a change like
//! any other. A file that is missing, or holds anything but certificates that can be trusted, is an error at its key.

use std::fmt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::findings::{Report, shown};
use super::secret::regular_file;

/// More than a bundle of all public authorities, and little enough to be kept with the configuration in force.
const LIMIT: u64 = 1 << 20;

/// A file of certificates, read.
#[derive(Clone, PartialEq, Eq)]
pub struct CaFile {
    /// Where it lies.
    pub path: PathBuf,
    /// The certificates, each usable as a root.
    pub certificates: Vec<CertificateDer<'static>>,
}

impl fmt::Debug for CaFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CaFile({}, {} certificates)", self.path.display(), self.certificates.len())
    }
}

impl CaFile {
    /// The path and the certificates as texts, for [`CaFile::from_noted`].
    pub(super) fn noted(&self) -> Vec<String> {
        let certificates = self.certificates.iter().map(|certificate| STANDARD.encode(certificate));
        std::iter::once(self.path.to_string_lossy().into_owned()).chain(certificates).collect()
    }

    /// The file again, from the values that were in force. The file itself may be gone.
    pub(super) fn from_noted(texts: &[&str]) -> Option<CaFile> {
        let (path, certificates) = texts.split_first()?;
        let certificates: Option<Vec<_>> =
            certificates.iter().map(|text| usable(STANDARD.decode(text).ok()?.into()).ok()).collect();
        Some(CaFile { path: path.into(), certificates: certificates.filter(|list| !list.is_empty())? })
    }

    /// Reads the file, or reports at the key why that cannot be done.
    pub(super) fn read(key: &str, path: &Path, report: &mut Report) -> Option<CaFile> {
        match certificates(path) {
            Ok(certificates) => Some(CaFile { path: path.to_owned(), certificates }),
            Err(why) => {
                let message = format!("cannot be used from {}: {why}", shown(&path.display().to_string()));
                let hint = "name a file that the user of the daemon may read, with the authority's certificate as PEM";
                report.error(key, message, hint);
                None
            }
        }
    }
}

/// The certificate, when it can be a root.
fn usable(certificate: CertificateDer<'_>) -> Result<CertificateDer<'static>, rustls::Error> {
    RootCertStore::empty().add(certificate.clone())?;
    Ok(certificate.into_owned())
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let (bytes, _) = regular_file(path, LIMIT)?;
    let mut found = Vec::new();
    for (n, certificate) in CertificateDer::pem_slice_iter(&bytes).enumerate() {
        // The parser's own words may quote the file.
        let certificate = certificate.map_err(|_| "it is not PEM".to_owned())?;
        found.push(usable(certificate).map_err(|_| format!("certificate {} in it cannot be read", n + 1))?);
    }
    if found.is_empty() { Err("it holds no certificate".to_owned()) } else { Ok(found) }
}
