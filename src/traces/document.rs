//! Spans as the protocol has them: OTLP in JSON (<https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding>).
//! Ids are hexadecimal, and numbers of 64 bits are texts.

use std::time::Duration;

use serde_json::{Value as Json, json};

use super::kind::Kind;

/// A place in a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    pub(super) trace: [u8; 16],
    pub(super) span: [u8; 8],
}

/// The value of an attribute.
#[derive(Debug)]
pub(super) enum Value {
    Text(String),
    Number(usize),
}

/// A span that ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) context: TraceContext,
    pub(super) parent: Option<[u8; 8]>,
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// Its beginning, since 1970.
    pub(super) since: Duration,
    pub(super) took: Duration,
    pub(super) attributes: Vec<(&'static str, Value)>,
    pub(super) links: Vec<TraceContext>,
    pub(super) links_left_out: u32,
    pub(super) failed: bool,
}

/// The request for these spans, from this instance of the program.
pub(super) fn of(spans: &[Ended], instance: &str) -> Json {
    let version = env!("CARGO_PKG_VERSION");
    let resource = [("service.name", "pagesyncd"), ("service.version", version), ("service.instance.id", instance)];
    let resource: Vec<Json> =
        resource.into_iter().map(|(key, text)| attribute(key, json!({"stringValue": text}))).collect();
    json!({"resourceSpans": [{
        "resource": {"attributes": resource},
        "scopeSpans": [{
            "scope": {"name": "pagesyncd", "version": version},
            "spans": spans.iter().map(span).collect::<Vec<_>>(),
        }],
    }]})
}

fn span(span: &Ended) -> Json {
    let values = span.attributes.iter().map(|(key, value)| match value {
        Value::Text(text) => attribute(key, json!({"stringValue": text})),
        Value::Number(number) => attribute(key, json!({"intValue": number.to_string()})),
    });
    let links = span.links.iter();
    let links = links.map(|to| json!({"traceId": hex::encode(to.trace), "spanId": hex::encode(to.span)}));
    json!({
        "traceId": hex::encode(span.context.trace),
        "spanId": hex::encode(span.context.span),
        "parentSpanId": span.parent.map(hex::encode).unwrap_or_default(),
        "name": span.name,
        "kind": span.kind as u8,
        "startTimeUnixNano": span.since.as_nanos().to_string(),
        "endTimeUnixNano": (span.since + span.took).as_nanos().to_string(),
        "attributes": values.collect::<Vec<_>>(),
        "links": links.collect::<Vec<_>>(),
        "droppedLinksCount": span.links_left_out,
        "status": if span.failed { json!({"code": 2}) } else { json!({}) },
    })
}

fn attribute(key: &str, value: Json) -> Json {
    json!({"key": key, "value": value})
}
