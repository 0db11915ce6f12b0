//! Spans, from their beginning to the queue.

use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use super::document::TraceContext;
use super::document::{Ended, Value};
use super::exporter::Exporter;
use super::kind::Kind;
use crate::config::Traces;
use crate::http_client::Trust;
use crate::metrics::Metrics;
use crate::random;

/// The most links of one span.
const MAX_LINKS: usize = 8;
/// Spans that wait for the exporter.
const QUEUE: usize = 2048;

tokio::task_local! {
    /// The span around the present work.
    static AROUND: (Queue, TraceContext);
}

/// Where ended spans go. What finds no place is counted.
#[derive(Clone)]
struct Queue {
    sender: mpsc::Sender<Ended>,
    metrics: Arc<Metrics>,
}

impl Queue {
    fn put(&self, span: Ended) {
        if self.sender.try_send(span).is_err() {
            self.metrics.trace_spans_dropped(1);
        }
    }
}

/// An exporter at work.
struct Running {
    settings: Traces,
    queue: Queue,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// Makes spans, as many as the settings ask for.
pub struct Tracer {
    metrics: Arc<Metrics>,
    /// The queue, and how many deliveries there are for one that is traced.
    queue: RwLock<Option<(Queue, u64)>>,
    running: Mutex<Option<Running>>,
}

impl Tracer {
    /// One that makes none until it has settings.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Tracer { metrics, queue: RwLock::default(), running: Mutex::default() }
    }

    /// Takes over the settings. An exporter that is not wanted any more sends what waits, and ends.
    ///
    /// # Errors
    /// One line that names what cannot be made.
    pub fn apply(&self, settings: &Traces, trust: &Trust) -> Result<(), String> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if running.as_ref().is_some_and(|running| running.settings == *settings) {
            return Ok(());
        }
        let next = match &settings.endpoint {
            Some(endpoint) => Some(self.begin(endpoint, settings, trust)?),
            None => None,
        };
        let queue = next.as_ref().map(|next| (next.queue.clone(), settings.one_in as u64));
        *self.queue.write().unwrap_or_else(PoisonError::into_inner) = queue;
        if let Some(before) = std::mem::replace(&mut *running, next) {
            before.stop.cancel();
        }
        Ok(())
    }

    fn begin(&self, endpoint: &str, settings: &Traces, trust: &Trust) -> Result<Running, String> {
        let (sender, spans) = mpsc::channel(QUEUE);
        let stop = CancellationToken::new();
        let exporter = Exporter::new(endpoint, trust, self.metrics.clone())?;
        let task = tokio::spawn(exporter.run(spans, stop.clone()));
        let queue = Queue { sender, metrics: self.metrics.clone() };
        Ok(Running { settings: settings.clone(), queue, stop, task })
    }

    /// The first span of a trace, for one of so many.
    pub fn root(&self, name: &'static str, kind: Kind) -> Span {
        let queue = self.queue.read().unwrap_or_else(PoisonError::into_inner);
        let Some((queue, one_in)) = queue.as_ref() else { return Span(None) };
        if *one_in > 1 && random::fraction() * *one_in as f64 >= 1.0 {
            return Span(None);
        }
        Span::begin(queue.clone(), name, kind, random::unique(), None)
    }

    /// A span of the trace that the parent is in; none without a parent.
    pub fn child(&self, name: &'static str, kind: Kind, parent: Option<TraceContext>) -> Span {
        let Some(parent) = parent else { return Span(None) };
        let queue = self.queue.read().unwrap_or_else(PoisonError::into_inner);
        let Some((queue, _)) = queue.as_ref() else { return Span(None) };
        Span::begin(queue.clone(), name, kind, parent.trace, Some(parent.span))
    }

    /// A span within a trace that ends now, and began so long ago.
    pub fn past(&self, name: &'static str, parent: Option<TraceContext>, took: Duration) {
        let mut span = self.child(name, Kind::Internal, parent);
        if let Some(live) = &mut span.0 {
            live.began = live.began.checked_sub(took).unwrap_or(live.began);
            if let Some(span) = &mut live.span {
                span.since = span.since.saturating_sub(took);
            }
        }
    }

    /// Sends what waits, for at most this long. No span is made afterwards.
    pub async fn finish(&self, within: Duration) {
        *self.queue.write().unwrap_or_else(PoisonError::into_inner) = None;
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(running) = running {
            running.stop.cancel();
            let mut task = running.task;
            if tokio::time::timeout(within, &mut task).await.is_err() {
                task.abort();
            }
        }
    }
}

/// A span for a request that the present work makes; none where the work is not traced.
pub fn request(system: &'static str, call: &'static str) -> Span {
    let around = AROUND.try_with(Clone::clone).ok();
    let Some((queue, parent)) = around else { return Span(None) };
    let mut span = Span::begin(queue, system, Kind::Client, parent.trace, Some(parent.span));
    span.text("pagesyncd.call", call);
    span
}

/// A span that goes on; it ends when it is dropped. `None` is one that is not recorded.
pub struct Span(Option<Box<Live>>);

struct Live {
    queue: Queue,
    began: Instant,
    span: Option<Ended>,
}

impl Drop for Live {
    fn drop(&mut self) {
        if let Some(mut span) = self.span.take() {
            span.took = self.began.elapsed();
            self.queue.put(span);
        }
    }
}

impl Span {
    fn begin(queue: Queue, name: &'static str, kind: Kind, trace: [u8; 16], parent: Option<[u8; 8]>) -> Span {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let context = TraceContext { trace, span: random::unique() };
        let span = Ended {
            context,
            parent,
            name,
            kind,
            since,
            took: Duration::ZERO,
            attributes: Vec::new(),
            links: Vec::new(),
            links_left_out: 0,
            failed: false,
        };
        Span(Some(Box::new(Live { queue, began: Instant::now(), span: Some(span) })))
    }

    fn change(&mut self, change: impl FnOnce(&mut Ended)) {
        if let Some(span) = self.0.as_mut().and_then(|live| live.span.as_mut()) {
            change(span);
        }
    }

    /// Its place, for spans and links.
    pub fn context(&self) -> Option<TraceContext> {
        Some(self.0.as_ref()?.span.as_ref()?.context)
    }

    /// Is it recorded?
    pub fn is_recorded(&self) -> bool {
        self.0.is_some()
    }

    /// Adds a text.
    pub fn text(&mut self, key: &'static str, value: impl std::fmt::Display) {
        self.change(|span| span.attributes.push((key, Value::Text(value.to_string()))));
    }

    /// Adds a number.
    pub fn number(&mut self, key: &'static str, value: usize) {
        self.change(|span| span.attributes.push((key, Value::Number(value))));
    }

    /// Adds a link to another span. Those beyond [`MAX_LINKS`] are counted.
    pub fn link(&mut self, to: TraceContext) {
        self.change(|span| match span.links.len() < MAX_LINKS {
            true => span.links.push(to),
            false => span.links_left_out += 1,
        });
    }

    /// It failed, with an error of this kind.
    pub fn fail(&mut self, kind: &'static str) {
        self.text("error.type", kind);
        self.change(|span| span.failed = true);
    }

    /// Ends it with the outcome of a request: `ok`, or the word of an error.
    pub fn end_with(mut self, outcome: &'static str) {
        self.text("pagesyncd.outcome", outcome);
        if outcome != "ok" {
            self.fail(outcome);
        }
    }

    /// Ends it. A span whose work is cut short ends as well.
    pub fn end(self) {}

    /// Ends it unrecorded.
    pub fn discard(mut self) {
        self.0 = self.0.take().and_then(|mut live| {
            live.span = None;
            None
        });
    }

    /// Makes it the span around this work, so that the requests of it are its children.
    pub async fn around<F: Future>(&self, work: F) -> F::Output {
        let place = self.0.as_ref().and_then(|live| Some((live.queue.clone(), live.span.as_ref()?.context)));
        match place {
            Some(place) => AROUND.scope(place, work).await,
            None => work.await,
        }
    }
}
