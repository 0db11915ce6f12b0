//! Traces: a delivery followed from the webhook to its object, for an OpenTelemetry collector.
//!
//! ```text
//! webhook ─┬─ mark      the commit, before the delivery is answered
//!          ├─ wait      debounce, budget of the link, turn
//!          └─ read ─┬─ graph    each request, with its call and outcome
//!                   ├─ stage    the commit of what is new
//!                   └─ write ─┬─ spaces    the request
//!                             └─ complete  the commit: the object is true
//! ```
//!
//! One delivery of `traces.one_in` is traced, and one read of as many that no delivery caused. Many deliveries may join
//! in one read: it belongs to the trace of the first traced one and has links to the others.
//!
//! **What a span never holds:** an address with its query, a token, a user, a name or a body. It has the link
//! (`facebook:123`), the delivery's id, a call, an outcome and counts.
//!
//! A span that ends is put into a bounded queue. A task of its own sends the queue as OTLP/HTTP in JSON (`exporter`).
//! Whatever the collector does, nobody waits for it: a span that finds no place in the queue, or whose batch is
//! refused, is dropped and counted. Without the cargo feature `otlp` all of this is compiled out: contexts have no
//! size, and spans do nothing.
//!
//! The protocol is spoken here and not by the crates of OpenTelemetry. Its JSON form is specified and short, the HTTP
//! client is here anyway, and they would bring a second way of spans and a dozen crates for one kind of trace.

#[cfg(feature = "otlp")]
mod document;
#[cfg(feature = "otlp")]
mod exporter;
mod kind;
#[cfg(not(feature = "otlp"))]
mod off;
#[cfg(feature = "otlp")]
mod on;

pub use kind::Kind;
#[cfg(not(feature = "otlp"))]
pub use off::{Span, TraceContext, Tracer, request};
#[cfg(feature = "otlp")]
pub use on::{Span, TraceContext, Tracer, request};

/// Was this program built with the cargo feature `otlp`?
pub const IS_BUILT_IN: bool = cfg!(feature = "otlp");
