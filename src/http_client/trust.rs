//! The authorities that are trusted beside the built-in ones: the system's, and those of a `ca_file`.

use std::fmt;

use reqwest::Certificate;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;

/// Certificates of authorities. Every one of them can be used as a root.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Trust(Vec<CertificateDer<'static>>);

impl Trust {
    /// The system's authorities. A store that cannot be read, or a certificate in it that cannot be used, is a warning:
    /// the built-in roots are there in any case.
    pub fn of_the_system() -> Trust {
        let found = rustls_native_certs::load_native_certs();
        for error in found.errors {
            tracing::warn!("tls: a certificate of the system cannot be read ({error}), going on without it");
        }
        let count = found.certs.len();
        let usable: Vec<_> = found.certs.into_iter().filter(is_usable).collect();
        tracing::debug!(found = count, usable = usable.len(), "tls: read the system's certificates");
        Trust(usable)
    }

    /// These and the certificates of a `ca_file`.
    pub fn with(&self, certificates: &[CertificateDer<'static>]) -> Trust {
        let mut all = self.0.clone();
        all.extend(certificates.iter().filter(|certificate| is_usable(certificate)).cloned());
        Trust(all)
    }

    /// The built-in roots and these, for a client that is not one of HTTP.
    pub fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        roots.add_parsable_certificates(self.0.iter().cloned());
        roots
    }

    pub(super) fn certificates(&self) -> impl Iterator<Item = Certificate> {
        // Usable ones were kept alone, so none is lost here.
        self.0.iter().filter_map(|certificate| Certificate::from_der(certificate).ok())
    }
}

/// A count says enough in a log.
impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Trust({} certificates)", self.0.len())
    }
}

/// Can this certificate be used as a root? System stores hold ancient ones that cannot.
fn is_usable(certificate: &CertificateDer<'static>) -> bool {
    RootCertStore::empty().add(certificate.clone()).is_ok()
}
