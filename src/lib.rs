//! pagesyncd keeps the public metadata of linked Facebook Pages true in DigitalOcean Spaces.

pub mod config;
pub mod metrics;
pub mod model;
pub mod systemd;
pub mod telemetry;
