//! One handshake, bounded in time, counted by how it ended.

use std::io;
use std::time::Duration;

use rustls::{AlertDescription, CertificateError, InvalidMessage};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio_rustls::server::TlsStream;

use super::protocols::CHALLENGE;
use super::server::ServerTls;
use crate::core::certificate::CertificateFacts;
use crate::metrics::HandshakeResult;

/// A connection after its handshake.
pub struct Secured<S> {
    /// Its bytes in clear.
    pub stream: TlsStream<S>,
    /// The certificate that the client showed, which one of the authorities has signed.
    pub client: Option<CertificateFacts>,
}

/// A connection on which no request comes. The stream is to be closed, where it is still there.
pub struct Refused<S>(pub Option<S>);

impl ServerTls {
    /// Shakes hands, within this time.
    ///
    /// # Errors
    /// [`Refused`]: the handshake failed, or was not for HTTP.
    pub async fn handshake<S>(&self, stream: S, within: Duration) -> Result<Secured<S>, Refused<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let accepting = self.acceptor.accept(stream).into_fallible();
        let (result, refused) = match tokio::time::timeout(within, accepting).await {
            Err(_) => (HandshakeResult::TooSlow, None),
            Ok(Err((error, stream))) => (result_of(&error), Some(stream)),
            Ok(Ok(mut stream)) if stream.get_ref().1.alpn_protocol() == Some(CHALLENGE) => {
                // The handshake is the answer. The other side may have closed already.
                let _ = stream.shutdown().await;
                (HandshakeResult::Challenge, Some(stream.into_inner().0))
            }
            Ok(Ok(stream)) => {
                self.metrics.handshake(HandshakeResult::Completed);
                let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
                let client = shown.and_then(|certificate| CertificateFacts::read(certificate));
                return Ok(Secured { stream, client });
            }
        };
        self.metrics.handshake(result);
        Err(Refused(refused))
    }
}

/// Why a handshake failed.
fn result_of(error: &io::Error) -> HandshakeResult {
    let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else {
        return HandshakeResult::BrokenOff;
    };
    let result = match error {
        rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => HandshakeResult::PlainText,
        rustls::Error::InvalidCertificate(wrong) => {
            tracing::debug!("tls: a client certificate is refused ({}), the handshake ends", words(wrong));
            return HandshakeResult::ClientCertificate;
        }
        // The client does not trust the certificate that was shown.
        rustls::Error::AlertReceived(
            AlertDescription::UnknownCA
            // A namesake of an authority that it trusts.
            | AlertDescription::DecryptError
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown,
        ) => HandshakeResult::Distrusted,
        _ => HandshakeResult::Failed,
    };
    tracing::debug!("tls: a handshake failed ({error}), the connection is closed");
    result
}

/// rustls prints the whole certificate with some of these.
fn words(wrong: &CertificateError) -> &'static str {
    match wrong {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "none of the authorities in http.tls.client_ca_file has signed it"
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "it has expired",
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => "it is not valid yet",
        _ => "it cannot be used for a client",
    }
}
