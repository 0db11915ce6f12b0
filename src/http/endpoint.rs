//! The addresses on which the daemon listens.

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// Meta's webhooks and the login.
    Public,
    /// The operator's Unix socket.
    Admin,
    /// The read-only admin address on loopback.
    AdminTcp,
}

impl Endpoint {
    /// The word in logs.
    pub fn word(self) -> &'static str {
        match self {
            Endpoint::Public => "public",
            Endpoint::Admin => "admin",
            Endpoint::AdminTcp => "admin-tcp",
        }
    }
}
