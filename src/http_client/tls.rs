//! The meaning of a failed TLS handshake for an operator.
//!
//! A certificate that is refused stays refused until a person acts, so it is a wrong setting and no passing trouble.

use std::error::Error;
use std::io;

use rustls::{CertificateError, InvalidMessage};

/// A fault of the other side's certificate, or of its TLS altogether.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsFault {
    /// No trusted authority signed it.
    Untrusted,
    /// It is over.
    Expired,
    /// Its time has not come.
    NotYetValid,
    /// It is for another host name.
    WrongName,
    /// It cannot be used for another reason.
    Refused,
    /// The other side does not speak TLS.
    NotTls,
}

impl TlsFault {
    /// The fault among the causes of a failed request; `None` when the request failed for another reason.
    pub fn of(error: &reqwest::Error) -> Option<TlsFault> {
        TlsFault::among_causes(error)
    }

    /// The fault among the causes of any error.
    pub fn among_causes(error: &dyn Error) -> Option<TlsFault> {
        let mut cause = error.source();
        while let Some(next) = cause {
            if let Some(fault) = within(next) {
                return Some(fault);
            }
            cause = next.source();
        }
        None
    }

    /// The fault and its remedy, as one sentence. `address` is the key that names the other side, `ca_file` the key
    /// that names an authority of one's own, where there is one.
    pub fn text(self, address: &str, ca_file: Option<&str>) -> String {
        match self {
            TlsFault::Untrusted => {
                let remedy = match ca_file {
                    Some(key) => format!("name the file with that authority's certificate in {key}"),
                    None => "add that authority to the system's certificates".to_owned(),
                };
                format!("no authority that is trusted here has signed the certificate at {address}; {remedy}")
            }
            TlsFault::Expired => {
                format!("the certificate at {address} has expired; renew it, or set this machine's clock")
            }
            TlsFault::NotYetValid => {
                format!("the certificate at {address} is not valid yet; set this machine's clock")
            }
            TlsFault::WrongName => {
                format!("the certificate at {address} is for another host name; correct {address} or the certificate")
            }
            TlsFault::Refused => {
                format!("the certificate at {address} cannot be used for a server; give that server another one")
            }
            TlsFault::NotTls => {
                format!("the server at {address} does not speak TLS; correct the scheme or the port of {address}")
            }
        }
    }
}

/// An I/O error holds its cause where `source` does not show it.
fn within(error: &(dyn Error + 'static)) -> Option<TlsFault> {
    if let Some(error) = error.downcast_ref::<io::Error>() {
        return error.get_ref().and_then(|inner| within(inner));
    }
    match error.downcast_ref::<rustls::Error>()? {
        rustls::Error::InvalidCertificate(wrong) => Some(match wrong {
            // A bad signature is that of a namesake of a trusted authority.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => TlsFault::Untrusted,
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => TlsFault::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => TlsFault::NotYetValid,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => TlsFault::WrongName,
            _ => TlsFault::Refused,
        }),
        rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => Some(TlsFault::NotTls),
        _ => None,
    }
}
