//! Files of certificates (`ca_file`): authorities of one's own, trusted beside the built-in roots and the system's.
//!
//! The content is read with the configuration, at the start and at each reload, so that a renewed file is a change like
//! any other. A file that is missing, or holds anything but certificates that can be trusted, is an error at its key.

use std::fmt;
use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::findings::{Report, shown};
use super::secret::regular_file;

/// Far more than a bundle of all public authorities.
const LIMIT: u64 = 4 << 20;

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

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let (bytes, _) = regular_file(path, LIMIT)?;
    let mut found = Vec::new();
    for (n, certificate) in CertificateDer::pem_slice_iter(&bytes).enumerate() {
        // The parser's own words may quote the file.
        let certificate = certificate.map_err(|_| "it is not PEM".to_owned())?;
        RootCertStore::empty()
            .add(certificate.clone())
            .map_err(|_| format!("certificate {} in it cannot be read", n + 1))?;
        found.push(certificate.into_owned());
    }
    if found.is_empty() { Err("it holds no certificate".to_owned()) } else { Ok(found) }
}
