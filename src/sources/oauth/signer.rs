//! Signatures over data that a browser carries for the daemon: OAuth states, confirmations, a note of an earlier login.
//! One secret signs all of them, and a domain text keeps each use apart from every other.

use std::fmt;

use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::core::model::Secret;
use crate::random;

/// The length of a signature.
pub const TAG: usize = 32;

/// Signs with one secret, and verifies signatures of this one and of the one before.
#[derive(Clone)]
pub struct Signer {
    keyed: Hmac<Sha256>,
    previous: Option<Hmac<Sha256>>,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signer([redacted])")
    }
}

impl Signer {
    /// A signer with this secret. An empty secret is replaced by a random one that lasts as long as this signer.
    pub fn new(secret: &Secret) -> Self {
        let random: [u8; 32] = random::unique();
        let key = if secret.is_empty() { &random[..] } else { secret.expose().as_bytes() };
        Signer { keyed: keyed(key), previous: None }
    }

    /// The same signer, which also takes signatures of this secret.
    #[must_use]
    pub fn also_taking(self, previous: Option<&Secret>) -> Self {
        let previous = previous.filter(|secret| !secret.is_empty());
        Signer { previous: previous.map(|secret| keyed(secret.expose().as_bytes())), ..self }
    }

    /// The signature over a domain and bytes. A domain ends with a zero byte and holds no other.
    pub fn sign(&self, domain: &[u8], bytes: &[u8]) -> [u8; TAG] {
        self.keyed.clone().chain_update(domain).chain_update(bytes).finalize().into_bytes().into()
    }

    /// Is this a signature over these, in constant time?
    pub fn verifies(&self, domain: &[u8], bytes: &[u8], tag: &[u8]) -> bool {
        let mut keys = std::iter::once(&self.keyed).chain(&self.previous);
        keys.any(|key| key.clone().chain_update(domain).chain_update(bytes).verify_slice(tag).is_ok())
    }
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    Hmac::<Sha256>::new_from_slice(key).expect("hmac takes a key of any length")
}
