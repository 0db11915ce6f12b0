//! pagesyncd keeps the public metadata of linked Facebook Pages true in DigitalOcean Spaces.

pub mod metrics;
pub mod model;
#[cfg(feature = "sandbox")]
pub mod sandbox;
