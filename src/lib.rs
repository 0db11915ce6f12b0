//! pagesyncd keeps the public metadata of linked Facebook Pages true in DigitalOcean Spaces.

pub mod graph;
pub mod metrics;
pub mod model;
pub mod oauth;
pub mod signature;
