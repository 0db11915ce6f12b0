//! pagesyncd keeps the public metadata of linked Facebook Pages true in DigitalOcean Spaces.

pub mod backoff;
pub mod metrics;
pub mod model;
pub mod restart;
pub mod spaces;
pub mod store;
