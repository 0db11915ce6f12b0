//! Sends spans to the collector: a batch at a time, once each.
//!
//! A batch that is not taken is dropped and counted. While the collector is away, the exporter waits longer and longer
//! between batches, and the queue before it fills and drops. Two lines are logged for it: when it fails, and when it is
//! back.

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, Url};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::document::{self, Ended};
use crate::core::backoff::Backoff;
use crate::http_client::{self, Trust};
use crate::metrics::Metrics;
use crate::random;

/// Spans of one request.
const BATCH: usize = 256;
/// How long a batch is gathered.
const GATHER: Duration = Duration::from_secs(1);
/// One request, from connecting to the last byte.
const EXCHANGE: Duration = Duration::from_secs(5);
/// The longest answer that is read, in bytes.
const MOST_READ: usize = 16 << 10;
/// Between two batches while the collector is away.
const AWAY: Backoff = Backoff { base: Duration::from_secs(1), cap: Duration::from_secs(30) };

/// The way to the collector.
pub(super) struct Exporter {
    url: Url,
    http: Client,
    metrics: Arc<Metrics>,
    /// Distinguishes this process from others.
    instance: String,
    /// Batches in a row that were not taken.
    failures: u32,
}

impl Exporter {
    pub(super) fn new(endpoint: &str, trust: &Trust, metrics: Arc<Metrics>) -> Result<Exporter, String> {
        let url = Url::parse(endpoint).map_err(|_| "traces.endpoint is not an address".to_owned())?;
        let http = http_client::client(EXCHANGE, trust).build();
        let http = http.map_err(|e| http_client::describe("traces: the http client cannot be built", e))?;
        Ok(Exporter { url, http, metrics, instance: random::uuid().to_string(), failures: 0 })
    }

    /// Sends what comes until it is stopped, and then what waits.
    pub(super) async fn run(mut self, mut spans: mpsc::Receiver<Ended>, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let mut batch = Vec::new();
            // A receive that is cut short loses nothing.
            let gathering = async {
                spans.recv_many(&mut batch, BATCH).await;
                let until = Instant::now() + GATHER;
                while batch.len() < BATCH {
                    let left = BATCH - batch.len();
                    let more = tokio::time::timeout_at(until, spans.recv_many(&mut batch, left)).await;
                    if !matches!(more, Ok(1..)) {
                        break;
                    }
                }
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = gathering => {}
            }
            self.send(batch).await;
            if self.failures > 0 {
                let pause = AWAY.ceiling(self.failures - 1);
                let _ = tokio::time::timeout(pause, stop.cancelled()).await;
            }
        }
        spans.close();
        let mut batch = Vec::new();
        while let Ok(span) = spans.try_recv() {
            batch.push(span);
        }
        self.send(batch).await;
    }

    async fn send(&mut self, batch: Vec<Ended>) {
        if batch.is_empty() {
            return;
        }
        let document = document::of(&batch, &self.instance).to_string();
        match self.exchange(document).await {
            Ok(refused) => {
                self.metrics.trace_spans_dropped(refused.min(batch.len() as u64));
                if std::mem::take(&mut self.failures) > 0 {
                    tracing::info!("traces: the collector takes spans again");
                }
            }
            Err(error) => {
                self.metrics.trace_spans_dropped(batch.len() as u64);
                self.failures = self.failures.saturating_add(1);
                if self.failures == 1 {
                    tracing::warn!(%error, "traces: the collector takes no spans ({error}), they are dropped until it does");
                }
            }
        }
    }

    /// One request. Returns how many of the spans were refused.
    async fn exchange(&self, document: String) -> Result<u64, String> {
        let request = self.http.post(self.url.clone()).header(CONTENT_TYPE, "application/json").body(document);
        let mut answer = request.send().await.map_err(|e| http_client::describe("network error", e))?;
        let status = answer.status();
        let body = http_client::beginning(&mut answer, MOST_READ).await;
        if !status.is_success() {
            return Err(format!("status {}", status.as_u16()));
        }
        let answer: Value = serde_json::from_slice(&body).unwrap_or_default();
        let refused = &answer["partialSuccess"]["rejectedSpans"];
        // The protocol writes numbers of 64 bits as texts, and some collectors as numbers.
        let refused = refused.as_u64().or_else(|| refused.as_str().and_then(|text| text.parse().ok()));
        Ok(refused.unwrap_or_default())
    }
}
