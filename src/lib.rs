//! pagesyncd keeps the public metadata of linked Facebook Pages true in DigitalOcean Spaces.

pub mod actors;
pub mod backoff;
pub mod cli;
pub mod client;
pub mod config;
pub mod exit;
#[doc(hidden)]
pub mod fuzzing;
pub mod graph;
pub mod health;
pub mod house;
pub mod http;
pub mod import;
pub mod ledger;
pub mod linking;
pub mod metrics;
pub mod model;
pub mod oauth;
pub mod page;
pub mod restart;
#[cfg(feature = "sandbox")]
pub mod sandbox;
pub mod signature;
pub mod spaces;
pub mod store;
pub mod systemd;
pub mod telemetry;
pub mod upload;
