//! The protocols that the public listener offers within TLS.

/// HTTP, as the daemon speaks it.
pub(super) const HTTP: &[u8] = b"http/1.1";
/// ACME's challenge tls-alpn-01 (RFC 8737).
pub(super) const CHALLENGE: &[u8] = b"acme-tls/1";
