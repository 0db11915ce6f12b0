//! pagesyncd keeps the public metadata of linked Facebook Pages true in DigitalOcean Spaces.

pub mod backoff;
pub mod config;
pub mod health;
pub mod ledger;
pub mod metrics;
pub mod model;
pub mod page;
pub mod restart;
pub mod spaces;
pub mod store;
pub mod upload;
