//! Traces of a build without the feature `otlp`: nothing.

use std::sync::Arc;
use std::time::Duration;

use super::kind::Kind;
use crate::config::Traces;
use crate::http_client::Trust;
use crate::metrics::Metrics;

/// A position in a trace. There is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TraceContext {}

/// Makes spans.
pub struct Tracer;

impl Tracer {
    /// One that makes none.
    pub fn new(_metrics: Arc<Metrics>) -> Self {
        Tracer
    }

    /// Takes over the settings.
    ///
    /// # Errors
    /// None.
    pub fn apply(&self, _settings: &Traces, _trust: &Trust) -> Result<(), String> {
        Ok(())
    }

    /// The first span of a trace.
    pub fn root(&self, _name: &'static str, _kind: Kind) -> Span {
        Span
    }

    /// A span within a trace.
    pub fn child(&self, _name: &'static str, _kind: Kind, _parent: Option<TraceContext>) -> Span {
        Span
    }

    /// A span within a trace that ends now, and began so long ago.
    pub fn past(&self, _name: &'static str, _parent: Option<TraceContext>, _took: Duration) {}

    /// Sends what waits.
    pub async fn finish(&self, _within: Duration) {}
}

/// A span for a request that the present work makes.
pub fn request(_system: &'static str, _call: &'static str) -> Span {
    Span
}

/// A span.
pub struct Span;

impl Span {
    /// Its place.
    pub fn context(&self) -> Option<TraceContext> {
        None
    }

    /// Is it recorded?
    pub fn is_recorded(&self) -> bool {
        false
    }

    /// Adds a text.
    pub fn text(&mut self, _key: &'static str, _value: impl std::fmt::Display) {}

    /// Adds a number.
    pub fn number(&mut self, _key: &'static str, _value: usize) {}

    /// Adds a link.
    pub fn link(&mut self, _to: TraceContext) {}

    /// It failed.
    pub fn fail(&mut self, _kind: &'static str) {}

    /// Ends it with the outcome of a request: `ok`, or the word of an error.
    pub fn end_with(self, _outcome: &'static str) {}

    /// Ends it.
    pub fn end(self) {}

    /// Ends it unrecorded.
    pub fn discard(self) {}

    /// Makes it the span around this work.
    pub async fn around<F: Future>(&self, work: F) -> F::Output {
        work.await
    }
}
