//! The certificate that an authority issued, and the answers to its challenges, as handshakes ask for them.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::protocols::CHALLENGE;
use crate::core::certificate::CertificateFacts;

/// They outlive a reload.
#[derive(Default)]
pub struct AcmeCertificates(RwLock<Held>);

#[derive(Default)]
struct Held {
    current: Option<(Arc<CertifiedKey>, CertificateFacts)>,
    /// By host name.
    challenges: HashMap<String, Arc<CertifiedKey>>,
}

impl fmt::Debug for AcmeCertificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AcmeCertificates({:?})", self.facts())
    }
}

impl AcmeCertificates {
    fn read(&self) -> RwLockReadGuard<'_, Held> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Held> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The facts of the certificate that is shown.
    pub fn facts(&self) -> Option<CertificateFacts> {
        self.read().current.as_ref().map(|(_, facts)| facts.clone())
    }

    /// Shows this certificate from the next handshake on.
    pub(super) fn show(&self, certificate: CertifiedKey, facts: CertificateFacts) {
        self.write().current = Some((Arc::new(certificate), facts));
    }

    /// Answers the challenge of this host until the answer is dropped.
    pub(super) fn answer(&self, host: &str, certificate: CertifiedKey) -> ChallengeAnswer<'_> {
        self.write().challenges.insert(host.to_ascii_lowercase(), Arc::new(certificate));
        ChallengeAnswer { certificates: self, host: host.to_ascii_lowercase() }
    }
}

/// While it is held, a challenge is answered.
pub(super) struct ChallengeAnswer<'a> {
    certificates: &'a AcmeCertificates,
    host: String,
}

impl Drop for ChallengeAnswer<'_> {
    fn drop(&mut self) {
        self.certificates.write().challenges.remove(&self.host);
    }
}

impl ResolvesServerCert for AcmeCertificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let held = self.read();
        // A validation offers this protocol alone, and nobody else does.
        if hello.alpn().is_some_and(|mut offered| offered.any(|protocol| protocol == CHALLENGE)) {
            return held.challenges.get(&hello.server_name()?.to_ascii_lowercase()).cloned();
        }
        held.current.as_ref().map(|(certificate, _)| certificate.clone())
    }
}
