//! What a browser carries for the daemon through the OAuth of any source: signed states, and other signed data.

pub mod signer;
pub mod state;

pub use signer::Signer;
pub use state::{STATE_LIFETIME, StateClaims, StateError, StateSigner};
