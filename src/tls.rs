//! TLS of the public listener: the handshake, the certificate that is shown, and the certificate that callers show.
//!
//! The certificate comes from files (`[http.tls]`) or from an authority that speaks ACME (`[http.acme]`). The settings
//! of a handshake are made anew by each reload and taken anew for each connection: a reload changes the next handshake
//! and no connection. Sessions are resumed within the settings that they began under, so a reload ends their
//! resumption, and no session outlives the authorities that its client certificate was verified against.
//!
//! A client certificate is asked for where `http.tls.client_ca_file` is set, and verified in the handshake, but a
//! client without one is let in: browsers log in at the same listener. [`CertificateFacts`](crate::core::certificate)
//! of the client go with the connection, and the route of the webhook decides.

pub mod acme;
mod acme_certificates;
mod acme_http;
mod acme_state;
mod handshake;
mod protocols;
mod server;

pub use acme_certificates::AcmeCertificates;
pub use handshake::{Refused, Secured};
pub use server::ServerTls;
