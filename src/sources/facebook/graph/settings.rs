//! The settings of the Graph client. They lie below the client and its transport.

use std::time::Duration;

use crate::core::model::Secret;
use crate::http_client::Trust;

/// The settings of the client.
#[derive(Debug, Clone)]
pub struct GraphSettings {
    /// `https://graph.facebook.com`, with or without a closing slash.
    pub graph_url: String,
    /// `v26.0`. Always sent: an address without a version means whatever the dashboard says.
    pub version: String,
    /// Decimal digits.
    pub app_id: String,
    /// Signs proofs, and is half of the app token.
    pub app_secret: Secret,
    /// From the first byte out to the last byte in.
    pub request_timeout: Duration,
    /// Calls at a time. The gate gets it when these settings are put in force.
    pub max_in_flight: usize,
    /// Authorities that may sign Graph's certificate, beside the built-in ones.
    pub trust: Trust,
}
