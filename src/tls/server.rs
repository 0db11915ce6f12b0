//! The settings of handshakes at the public listener, made from a configuration.

use std::sync::Arc;

use rustls::crypto::ring::default_provider;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::SingleCertAndKey;
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

use super::acme_certificates::AcmeCertificates;
use super::protocols::{CHALLENGE, HTTP};
use crate::config::{CaFile, Config};
use crate::core::certificate::CertificateFacts;
use crate::metrics::Metrics;

/// What handshakes at the public listener go by.
pub struct ServerTls {
    pub(super) acceptor: TlsAcceptor,
    pub(super) metrics: Arc<Metrics>,
    shown: Shown,
}

/// Where the certificate comes from.
enum Shown {
    /// From files.
    Files(Option<CertificateFacts>),
    /// From an authority.
    Acme(Arc<AcmeCertificates>),
}

impl ServerTls {
    /// What the configuration asks for; `None` for plain HTTP.
    ///
    /// # Errors
    /// One line that names the key.
    pub fn build(
        config: &Config,
        acme: &Arc<AcmeCertificates>,
        metrics: &Arc<Metrics>,
    ) -> Result<Option<ServerTls>, String> {
        if !config.listener_speaks_tls() {
            return Ok(None);
        }
        let clients = clients(config.http_tls.client_ca_file.as_ref())?;
        let builder = ServerConfig::builder_with_provider(default_provider().into())
            .with_safe_default_protocol_versions()
            .map_err(|e| format!("http.tls: {e}"))?
            .with_client_cert_verifier(clients);
        let identity = config.http_tls.identity().map_err(|e| format!("http.tls.key: {e}"))?;
        let (mut settings, shown, protocols) = match identity {
            Some(identity) => {
                let facts = config.http_tls.certificate.as_ref().and_then(|chain| chain.facts());
                let settings = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(identity)));
                (settings, Shown::Files(facts), vec![HTTP])
            }
            None => {
                let settings = builder.with_cert_resolver(acme.clone());
                (settings, Shown::Acme(acme.clone()), vec![HTTP, CHALLENGE])
            }
        };
        settings.alpn_protocols = protocols.into_iter().map(<[u8]>::to_vec).collect();
        let acceptor = TlsAcceptor::from(Arc::new(settings));
        Ok(Some(ServerTls { acceptor, metrics: metrics.clone(), shown }))
    }

    /// The facts of the certificate that is shown; `None` while there is none yet.
    pub fn certificate(&self) -> Option<CertificateFacts> {
        match &self.shown {
            Shown::Files(facts) => facts.clone(),
            Shown::Acme(certificates) => certificates.facts(),
        }
    }

    /// Does the certificate come from an authority by ACME?
    pub fn is_acme(&self) -> bool {
        matches!(self.shown, Shown::Acme(_))
    }
}

/// Asks for a certificate of these authorities, and accepts a client without one.
fn clients(authorities: Option<&CaFile>) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let Some(file) = authorities else { return Ok(WebPkiClientVerifier::no_client_auth()) };
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(file.certificates.iter().cloned());
    let builder = WebPkiClientVerifier::builder_with_provider(roots.into(), default_provider().into());
    builder.allow_unauthenticated().build().map_err(|e| format!("http.tls.client_ca_file: {e}"))
}
