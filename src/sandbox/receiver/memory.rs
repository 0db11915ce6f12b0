//! The memory of the receiver: the events as they came.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;

use crate::core::model::WallTime;

/// An event that was accepted, or refused by a fault.
#[derive(Debug, Clone, Serialize)]
pub struct Received {
    /// When.
    pub at: WallTime,
    /// `webhook-id`.
    pub id: String,
    /// `webhook-timestamp`.
    pub timestamp: u64,
    /// `webhook-signature`.
    #[serde(skip)]
    pub signature: String,
    /// The bytes of the body.
    #[serde(skip)]
    pub bytes: Bytes,
    /// The same as JSON.
    pub body: Value,
    /// Answered 204? Otherwise a fault stood in the way.
    pub taken: bool,
}

impl Received {
    /// `type`.
    pub fn word(&self) -> &str {
        self.body["type"].as_str().unwrap_or_default()
    }

    /// `data.page_id`.
    pub fn page(&self) -> Option<&str> {
        self.body["data"]["page_id"].as_str()
    }
}

/// What the receiver remembers.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    pub(super) secrets: Vec<String>,
    pub(super) received: VecDeque<Received>,
    /// The body that each id came with.
    pub(super) bodies: BTreeMap<String, Bytes>,
}
