//! Every instrument of the daemon in one inventory: name, unit, meaning. They are prepared here once and handed
//! round as one `Arc<Metrics>`; nothing is registered anywhere else, and no global recorder exists.
//!
//! Gauges that describe the store (links, due, due parked, outbox, oldest owed, leases, daemons) and the dependencies
//! are set by the admin listener just before it prints, from what those say of themselves, so that they cannot drift
//! from the truth.

mod latencies;
mod optional_gauge;
mod parts;
mod process;
mod prometheus;
mod sourced_gauge;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabel, EncodeLabelSet, LabelSetEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use crate::core::ledger::OwedCounts;
use crate::core::model::{MonoTime, Source, WallTime};
use crate::core::restart::ActorKind;
use latencies::Latencies;
use optional_gauge::OptionalGauge;
pub use parts::{Part, Parts, Question};
use process::Process;
use sourced_gauge::SourcedGauge;

/// The content type of [`Metrics::encode`].
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Labels, and behind them the source of what is counted. Facebook is not named: its series are those that there were
/// before there was another source.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Sourced<L> {
    labels: L,
    source: Source,
}

impl<L: EncodeLabelSet> EncodeLabelSet for Sourced<L> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        self.labels.encode(encoder)?;
        match self.source {
            Source::Facebook => Ok(()),
            other => ("source", other.as_str()).encode(encoder.encode_label()),
        }
    }
}

/// `{health}`
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HealthLabel {
    health: String,
}

/// `{result}`
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

/// `{call,outcome}`
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabel {
    call: &'static str,
    outcome: &'static str,
}

/// `{source,call,outcome}`
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SourceCallLabel {
    source: &'static str,
    call: &'static str,
    outcome: &'static str,
}

/// `{op,outcome}`
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OpLabel {
    op: &'static str,
    outcome: &'static str,
}

/// `{actor}`
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ActorLabel {
    actor: &'static str,
}

/// `{dependency}`
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DependencyLabel {
    dependency: &'static str,
}

/// `{type,outcome}`
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EventLabel {
    r#type: &'static str,
    outcome: &'static str,
}

/// How a webhook delivery was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryResult {
    /// What it names is marked durably.
    Accepted,
    /// No app secret made its signature.
    BadSignature,
    /// Its body broke off, or is no JSON.
    Malformed,
    /// Its body is larger than allowed.
    TooLarge,
    /// Its body did not arrive in time.
    TooSlow,
    /// It could not be made durable, or there was no memory for it.
    Unavailable,
    /// Its client certificate is missing or has another name.
    ClientCertificate,
}

impl DeliveryResult {
    const ALL: [DeliveryResult; 7] = [
        DeliveryResult::Accepted,
        DeliveryResult::BadSignature,
        DeliveryResult::Malformed,
        DeliveryResult::TooLarge,
        DeliveryResult::TooSlow,
        DeliveryResult::Unavailable,
        DeliveryResult::ClientCertificate,
    ];

    /// The word in metrics and traces.
    pub fn word(self) -> &'static str {
        match self {
            DeliveryResult::Accepted => "accepted",
            DeliveryResult::BadSignature => "bad_signature",
            DeliveryResult::Malformed => "malformed",
            DeliveryResult::TooLarge => "too_large",
            DeliveryResult::TooSlow => "too_slow",
            DeliveryResult::Unavailable => "unavailable",
            DeliveryResult::ClientCertificate => "client_certificate",
        }
    }
}

/// How a TLS handshake at the public listener ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HandshakeResult {
    /// Requests may come.
    Completed,
    /// It was the answer to a challenge of ACME.
    Challenge,
    /// It took too long.
    TooSlow,
    /// The client does not speak TLS.
    PlainText,
    /// The client broke it off.
    BrokenOff,
    /// The client does not trust the daemon's certificate.
    Distrusted,
    /// The client's certificate is refused.
    ClientCertificate,
    /// Anything else, such as no version in common, or no certificate to show yet.
    Failed,
}

impl HandshakeResult {
    const ALL: [HandshakeResult; 8] = [
        HandshakeResult::Completed,
        HandshakeResult::Challenge,
        HandshakeResult::TooSlow,
        HandshakeResult::PlainText,
        HandshakeResult::BrokenOff,
        HandshakeResult::Distrusted,
        HandshakeResult::ClientCertificate,
        HandshakeResult::Failed,
    ];

    fn word(self) -> &'static str {
        match self {
            HandshakeResult::Completed => "completed",
            HandshakeResult::Challenge => "challenge",
            HandshakeResult::TooSlow => "too_slow",
            HandshakeResult::PlainText => "plain_text",
            HandshakeResult::BrokenOff => "broken_off",
            HandshakeResult::Distrusted => "distrusted",
            HandshakeResult::ClientCertificate => "client_certificate",
            HandshakeResult::Failed => "failed",
        }
    }
}

/// The bounds of the buckets of `webhook_ack_seconds`.
const ACK_BOUNDS: [Duration; 12] = [
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_micros(2500),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(5),
];

/// The bounds of the buckets of `store_commit_seconds`.
const COMMIT_BOUNDS: [Duration; 11] = [
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_micros(2500),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_secs(2),
    Duration::from_secs(10),
];

/// What only a store that can be read knows, for a scrape.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct StoreFigures {
    /// The age of the oldest deletion of personal data that is not finished.
    pub oldest_deletion: Duration,
    /// Events that wait.
    pub events: u64,
    /// The age of the oldest of them.
    pub oldest_event: Duration,
}

/// The instruments.
pub struct Metrics {
    registry: Registry,
    links: Family<Sourced<HealthLabel>, Gauge>,
    due: SourcedGauge,
    due_parked: SourcedGauge,
    outbox: SourcedGauge,
    oldest_owed: Gauge<f64, AtomicU64>,
    deliveries: Family<Sourced<ResultLabel>, Counter>,
    /// Those of Facebook by their results.
    facebook_deliveries: [Counter; DeliveryResult::ALL.len()],
    graph: Family<CallLabel, Counter>,
    source_requests: Family<SourceCallLabel, Counter>,
    spaces: Family<OpLabel, Counter>,
    unchanged: Counter,
    repaired: Counter,
    healed: Counter,
    restarts: Family<ActorLabel, Counter>,
    connections: Gauge,
    handshakes: Family<ResultLabel, Counter>,
    certificate_expiry: OptionalGauge,
    certificate_lifetime: OptionalGauge,
    reloads: Family<ResultLabel, Counter>,
    config_refused: Gauge,
    unclean_ends: Gauge,
    dependencies: Family<DependencyLabel, Gauge>,
    graph_blocked: Gauge,
    graph_usage: Gauge,
    parts: Parts,
    store_bytes: Gauge,
    store_free_bytes: OptionalGauge,
    commit: Latencies,
    oldest_deletion: Gauge<f64, AtomicU64>,
    oldest_event: Gauge<f64, AtomicU64>,
    events: Family<EventLabel, Counter>,
    events_waiting: Gauge,
    cleanups: Gauge,
    leases: Gauge,
    daemons: Gauge,
    trace_spans_dropped: Counter,
    ack: Latencies,
    mark_to_object: Histogram,
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics::new()
    }
}

impl Metrics {
    /// A fresh set, all at zero.
    pub fn new() -> Self {
        let mut metrics = Metrics {
            registry: Registry::default(),
            links: Family::default(),
            due: SourcedGauge::default(),
            due_parked: SourcedGauge::default(),
            outbox: SourcedGauge::default(),
            oldest_owed: Gauge::default(),
            deliveries: Family::default(),
            facebook_deliveries: Default::default(),
            graph: Family::default(),
            source_requests: Family::default(),
            spaces: Family::default(),
            unchanged: Counter::default(),
            repaired: Counter::default(),
            healed: Counter::default(),
            restarts: Family::default(),
            connections: Gauge::default(),
            handshakes: Family::default(),
            certificate_expiry: OptionalGauge::default(),
            certificate_lifetime: OptionalGauge::default(),
            reloads: Family::default(),
            config_refused: Gauge::default(),
            unclean_ends: Gauge::default(),
            dependencies: Family::default(),
            graph_blocked: Gauge::default(),
            graph_usage: Gauge::default(),
            parts: Parts::new(MonoTime::now()),
            store_bytes: Gauge::default(),
            store_free_bytes: OptionalGauge::default(),
            commit: Latencies::new(&COMMIT_BOUNDS),
            oldest_deletion: Gauge::default(),
            oldest_event: Gauge::default(),
            events: Family::default(),
            events_waiting: Gauge::default(),
            cleanups: Gauge::default(),
            leases: Gauge::default(),
            daemons: Gauge::default(),
            trace_spans_dropped: Counter::default(),
            ack: Latencies::new(&ACK_BOUNDS),
            mark_to_object: Histogram::new([0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 21600.0]),
        };
        metrics.register();
        metrics
    }

    fn register(&mut self) {
        for result in DeliveryResult::ALL {
            let label = Sourced { labels: ResultLabel { result: result.word() }, source: Source::Facebook };
            self.facebook_deliveries[result as usize] = self.deliveries.get_or_create_owned(&label);
        }
        // A counter that begins with its first restart would hide that one from `increase`.
        for kind in ActorKind::ALL {
            self.restarts.get_or_create(&ActorLabel { actor: kind.word() }).inc_by(0);
        }
        for result in HandshakeResult::ALL {
            self.handshakes.get_or_create(&ResultLabel { result: result.word() }).inc_by(0);
        }
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        self.registry.register_collector(Box::new(Process::new()));
        let r = self.registry.sub_registry_with_prefix("pagesyncd");
        r.register("build", "The version that runs", build);
        r.register("links", "Links by health and source", self.links.clone());
        r.register("due", "Links owed a read that the daemon can make, by source", self.due.clone());
        r.register("due_parked", "Links owed a read that waits for a person, by source", self.due_parked.clone());
        r.register("outbox", "Objects owed a write, by source", self.outbox.clone());
        r.register(
            "oldest_owed_seconds",
            "Age of the oldest read or write that the daemon can make",
            self.oldest_owed.clone(),
        );
        r.register(
            "webhook_deliveries",
            "Webhook deliveries by what was answered, and source",
            self.deliveries.clone(),
        );
        r.register("graph_requests", "Graph requests by call and outcome", self.graph.clone());
        r.register("source_requests", "Requests to sources by source, call and outcome", self.source_requests.clone());
        r.register("spaces_requests", "Spaces requests by operation and outcome", self.spaces.clone());
        r.register("objects_unchanged", "Reads that found the object as it was", self.unchanged.clone());
        r.register("objects_repaired", "Objects found missing or altered and staged again", self.repaired.clone());
        r.register(
            "subscriptions_healed",
            "Subscriptions that Meta had dropped and that were made again",
            self.healed.clone(),
        );
        r.register("actor_restarts", "Actors that died and were started again", self.restarts.clone());
        r.register("connections", "Open connections on the public listener", self.connections.clone());
        r.register("tls_handshakes", "TLS handshakes at the public listener by result", self.handshakes.clone());
        r.register(
            "certificate_expiry_timestamp_seconds",
            "Until when the certificate of the public listener is valid",
            self.certificate_expiry.clone(),
        );
        r.register(
            "certificate_lifetime_seconds",
            "How long the certificate of the public listener is valid in all",
            self.certificate_lifetime.clone(),
        );
        r.register("config_reloads", "Configuration reloads by result", self.reloads.clone());
        r.register(
            "config_refused",
            "1 while the configuration file was refused last and an earlier configuration is in force",
            self.config_refused.clone(),
        );
        r.register(
            "unclean_ends",
            "Of the last half hour, runs of the daemon before this one that did not end in order",
            self.unclean_ends.clone(),
        );
        r.register("events", "Attempts to deliver an event by type and outcome", self.events.clone());
        r.register("cleanups", "What is left to do after links are gone", self.cleanups.clone());
        r.register("leases", "Of 1024 leases of links, those that this daemon holds", self.leases.clone());
        r.register("daemons", "Daemons that share the store and are not overdue", self.daemons.clone());
        r.register(
            "trace_spans_dropped",
            "Spans of traces that the collector did not get",
            self.trace_spans_dropped.clone(),
        );
        r.register("events_waiting", "Events that the receiver did not take yet", self.events_waiting.clone());
        r.register(
            "oldest_event_seconds",
            "Age of the oldest event that the receiver did not take yet",
            self.oldest_event.clone(),
        );
        r.register(
            "oldest_deletion_seconds",
            "Age of the oldest deletion of personal data that is not finished",
            self.oldest_deletion.clone(),
        );
        r.register(
            "dependency_up",
            "1 if the dependency worked when it was last asked, 0 if it failed",
            self.dependencies.clone(),
        );
        r.register(
            "graph_blocked_seconds",
            "Until Graph may be called again, 0 while it may",
            self.graph_blocked.clone(),
        );
        r.register(
            "graph_usage_percent",
            "Usage of the app's budget at Graph from the mark on from which it matters",
            self.graph_usage.clone(),
        );
        r.register("part_silent_seconds", "Since the part last showed that it is at work", self.parts.clone());
        r.register("store_bytes", "Size of the store", self.store_bytes.clone());
        r.register("store_free_bytes", "Free space of the disk that holds the store", self.store_free_bytes.clone());
        r.register("store_commit_seconds", "To make a transaction or a batch of marks durable", self.commit.clone());
        r.register("webhook_ack_seconds", "From a delivery's headers to its answer", self.ack.clone());
        r.register("mark_to_object_seconds", "From a due mark to the object in Spaces", self.mark_to_object.clone());
    }

    /// Sets the gauge of links for exactly these sources and healths; one with no link left goes.
    pub fn set_links(&self, counts: impl IntoIterator<Item = (Source, String, u64)>) {
        self.links.clear();
        for (source, health, count) in counts {
            let label = Sourced { labels: HealthLabel { health }, source };
            self.links.get_or_create(&label).set(count as i64);
        }
    }

    /// Sets what is owed for exactly these sources, and the age of the oldest read or write that the daemon can make.
    pub fn set_owed(&self, owed: &BTreeMap<Source, OwedCounts>, oldest: Duration) {
        let counts = |of: fn(&OwedCounts) -> u64| owed.iter().map(move |(source, owed)| (*source, of(owed)));
        self.due.set(counts(|owed| owed.due));
        self.due_parked.set(counts(|owed| owed.due_parked));
        self.outbox.set(counts(|owed| owed.outbox));
        self.oldest_owed.set(oldest.as_secs_f64());
    }

    /// Sets how much is left to do after links are gone.
    pub fn set_cleanups(&self, count: u64) {
        self.cleanups.set(count as i64);
    }

    /// Sets how many leases this daemon holds, and how many daemons share them.
    pub fn set_cluster(&self, leases: usize, daemons: usize) {
        self.leases.set(leases as i64);
        self.daemons.set(daemons as i64);
    }

    /// One webhook delivery of this source was answered. For Facebook it takes no lock: the counter of each result was
    /// made with the inventory.
    pub fn delivery(&self, source: Source, result: DeliveryResult, took: Duration) {
        match source {
            Source::Facebook => self.facebook_deliveries[result as usize].inc(),
            other => {
                let label = Sourced { labels: ResultLabel { result: result.word() }, source: other };
                self.deliveries.get_or_create(&label).inc()
            }
        };
        self.ack.observe(took);
    }

    /// One request to this source ended; `outcome` is `ok` or the error kind's word. Those to Graph are counted under
    /// their own name as well.
    pub fn source_request(&self, source: Source, call: &'static str, outcome: &'static str) {
        if source == Source::Facebook {
            self.graph.get_or_create(&CallLabel { call, outcome }).inc();
        }
        let source = source.as_str();
        self.source_requests.get_or_create(&SourceCallLabel { source, call, outcome }).inc();
    }

    /// One Spaces request ended; `outcome` is `ok` or the error kind's word.
    pub fn spaces_request(&self, op: &'static str, outcome: &'static str) {
        self.spaces.get_or_create(&OpLabel { op, outcome }).inc();
    }

    /// So many spans did not get to the collector.
    pub fn trace_spans_dropped(&self, count: u64) {
        self.trace_spans_dropped.inc_by(count);
    }

    /// A read found the same data.
    pub fn object_unchanged(&self) {
        self.unchanged.inc();
    }

    /// A check found the object missing or altered.
    pub fn object_repaired(&self) {
        self.repaired.inc();
    }

    /// A subscription that Meta had dropped is made again.
    pub fn subscription_healed(&self) {
        self.healed.inc();
    }

    /// An actor died and is started again.
    pub fn actor_restarted(&self, actor: &'static str) {
        self.restarts.get_or_create(&ActorLabel { actor }).inc();
    }

    /// A reload was `applied` or `refused`.
    pub fn reloaded(&self, result: &'static str) {
        self.reloads.get_or_create(&ResultLabel { result }).inc();
    }

    /// Sets whether the configuration file was refused last.
    pub fn set_config_refused(&self, refused: bool) {
        self.config_refused.set(i64::from(refused));
    }

    /// Sets how many runs of the last half hour did not end in order.
    pub fn set_unclean_ends(&self, count: usize) {
        self.unclean_ends.set(count as i64);
    }

    /// One attempt to deliver an event of this type ended: `delivered`, `failed`, `refused`.
    pub fn event(&self, word: &'static str, outcome: &'static str) {
        self.events.get_or_create(&EventLabel { r#type: word, outcome }).inc();
    }

    /// Sets what only a store that can be read knows.
    pub fn set_store(&self, figures: &StoreFigures) {
        self.oldest_deletion.set(figures.oldest_deletion.as_secs_f64());
        self.events_waiting.set(figures.events as i64);
        self.oldest_event.set(figures.oldest_event.as_secs_f64());
    }

    /// Sets the size of the store, and what the disk of its folder has left; `None` for a shared store.
    pub fn set_disk(&self, bytes: u64, free: Option<u64>) {
        self.store_bytes.set(bytes as i64);
        self.store_free_bytes.set(free.map(|bytes| bytes as f64));
    }

    /// Sets whether each dependency worked when it was last asked; one that was not asked yet has no series.
    pub fn set_dependencies(&self, dependencies: impl IntoIterator<Item = (&'static str, Option<bool>)>) {
        for (dependency, is_up) in dependencies {
            let label = DependencyLabel { dependency };
            match is_up {
                Some(is_up) => drop(self.dependencies.get_or_create(&label).set(i64::from(is_up))),
                None => drop(self.dependencies.remove(&label)),
            }
        }
    }

    /// Sets for how long Graph may not be called, and how much of the app's budget is used.
    pub fn set_graph(&self, blocked_secs: u64, usage_percent: u32) {
        self.graph_blocked.set(blocked_secs as i64);
        self.graph_usage.set(i64::from(usage_percent));
    }

    /// The signs of life of the daemon's parts.
    pub fn parts(&self) -> &Parts {
        &self.parts
    }

    /// A transaction or a batch of marks became durable.
    pub fn committed(&self, took: Duration) {
        self.commit.observe(took);
    }

    /// Sets the number of open public connections.
    pub fn set_connections(&self, open: usize) {
        self.connections.set(open as i64);
    }

    /// A TLS handshake at the public listener ended.
    pub fn handshake(&self, result: HandshakeResult) {
        self.handshakes.get_or_create(&ResultLabel { result: result.word() }).inc();
    }

    /// Sets until when the certificate of the public listener is valid, and how long in all; `None` where it shows
    /// none.
    pub fn set_certificate(&self, validity: Option<(WallTime, Duration)>) {
        self.certificate_expiry.set(validity.map(|(until, _)| (until.0 / 1000) as f64));
        self.certificate_lifetime.set(validity.map(|(_, lifetime)| lifetime.as_secs() as f64));
    }

    /// A change reached Spaces `took` after it was marked.
    pub fn mark_to_object(&self, took: Duration) {
        self.mark_to_object.observe(took.as_secs_f64());
    }

    /// The whole inventory in the format that `accept` asks for, and its content type: OpenMetrics for those who prefer
    /// it, and Prometheus text otherwise.
    pub fn encode_for(&self, accept: &str) -> (&'static str, String) {
        let text = self.encode();
        match prometheus::prefers_openmetrics(accept) {
            true => (OPENMETRICS, text),
            false => (prometheus::CONTENT_TYPE, prometheus::from_openmetrics(&text)),
        }
    }

    /// The whole inventory as OpenMetrics text.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        // Writing into a String cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dashboards_find_their_names() {
        let metrics = Metrics::new();
        metrics.set_links([(Source::Facebook, "active".to_owned(), 2), (Source::Shopify, "active".to_owned(), 3)]);
        let owed = [(Source::Facebook, OwedCounts { due: 1, due_parked: 5, outbox: 2 })].into();
        metrics.set_owed(&owed, Duration::from_millis(1500));
        metrics.set_cleanups(3);
        metrics.set_cluster(512, 2);
        metrics.delivery(Source::Facebook, DeliveryResult::Accepted, Duration::from_millis(1));
        metrics.source_request(Source::Facebook, "read_page", "ok");
        metrics.spaces_request("put", "ok");
        metrics.object_unchanged();
        metrics.mark_to_object(Duration::from_secs(3));
        metrics.event("page.updated", "delivered");
        metrics.set_store(&StoreFigures {
            oldest_deletion: Duration::from_secs(60),
            events: 4,
            oldest_event: Duration::from_millis(2500),
        });
        metrics.set_disk(4096, None);
        metrics.set_dependencies([("store", Some(true)), ("graph", Some(false)), ("shopify", None)]);
        metrics.set_graph(30, 85);
        metrics.committed(Duration::from_millis(2));
        let text = metrics.encode();
        for line in [
            "pagesyncd_links{health=\"active\"} 2",
            "pagesyncd_due 1",
            "pagesyncd_due_parked 5",
            "pagesyncd_outbox 2",
            "pagesyncd_oldest_owed_seconds 1.5",
            "pagesyncd_webhook_deliveries_total{result=\"accepted\"} 1",
            "pagesyncd_graph_requests_total{call=\"read_page\",outcome=\"ok\"} 1",
            "pagesyncd_spaces_requests_total{op=\"put\",outcome=\"ok\"} 1",
            "pagesyncd_objects_unchanged_total 1",
            concat!("pagesyncd_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
            "pagesyncd_events_total{type=\"page.updated\",outcome=\"delivered\"} 1",
            "pagesyncd_events_waiting 4",
            "pagesyncd_oldest_event_seconds 2.5",
            "pagesyncd_oldest_deletion_seconds 60.0",
            "pagesyncd_store_bytes 4096",
            "pagesyncd_store_commit_seconds_count 1",
            "pagesyncd_dependency_up{dependency=\"store\"} 1",
            "pagesyncd_dependency_up{dependency=\"graph\"} 0",
            "pagesyncd_graph_blocked_seconds 30",
            "pagesyncd_graph_usage_percent 85",
            "pagesyncd_part_silent_seconds{part=\"dispatcher\"} ",
            "pagesyncd_actor_restarts_total{actor=\"uploader\"} 0",
            "process_resident_memory_bytes ",
            "process_cpu_seconds_total ",
            "process_start_time_seconds ",
            "pagesyncd_cleanups 3",
            "pagesyncd_leases 512",
            "pagesyncd_daemons 2",
            "pagesyncd_config_refused 0",
            "pagesyncd_unclean_ends 0",
            "pagesyncd_webhook_ack_seconds_count 1",
            "pagesyncd_mark_to_object_seconds_count 1",
        ] {
            assert!(text.contains(line), "{line} is missing in:\n{text}");
        }
        for absent in ["store_free_bytes", "dependency=\"shopify\""] {
            assert!(!text.contains(absent), "{absent} is not known, and is in:\n{text}");
        }
        metrics.set_disk(4096, Some(512));
        assert!(metrics.encode().contains("pagesyncd_store_free_bytes 512.0\n"));
    }

    #[test]
    fn a_dependency_that_is_not_configured_any_more_has_no_series() {
        let metrics = Metrics::new();
        let series = "pagesyncd_dependency_up{dependency=\"acme\"}";
        metrics.set_dependencies([("acme", Some(false))]);
        assert!(metrics.encode().contains(series));
        metrics.set_dependencies([("acme", None)]);
        assert!(!metrics.encode().contains(series));
    }

    #[test]
    fn another_source_is_named_and_facebook_is_not() {
        let metrics = Metrics::new();
        assert!(!metrics.encode().contains("source="), "a source that is not used is named");
        metrics.set_links([(Source::Facebook, "active".to_owned(), 2), (Source::Shopify, "active".to_owned(), 3)]);
        let of_shops = OwedCounts { due: 4, due_parked: 0, outbox: 6 };
        let owed =
            [(Source::Facebook, OwedCounts { due: 1, due_parked: 5, outbox: 2 }), (Source::Shopify, of_shops)].into();
        metrics.set_owed(&owed, Duration::ZERO);
        for (source, call) in [(Source::Facebook, "read_page"), (Source::Shopify, "shop_read")] {
            metrics.delivery(source, DeliveryResult::Accepted, Duration::from_millis(1));
            metrics.source_request(source, call, "ok");
        }
        let text = metrics.encode();
        let lines: Vec<&str> = text.lines().collect();
        for line in [
            "pagesyncd_links{health=\"active\"} 2",
            "pagesyncd_links{health=\"active\",source=\"shopify\"} 3",
            "pagesyncd_due 1",
            "pagesyncd_due{source=\"shopify\"} 4",
            "pagesyncd_due_parked 5",
            "pagesyncd_due_parked{source=\"shopify\"} 0",
            "pagesyncd_outbox 2",
            "pagesyncd_outbox{source=\"shopify\"} 6",
            "pagesyncd_webhook_deliveries_total{result=\"accepted\"} 1",
            "pagesyncd_webhook_deliveries_total{result=\"accepted\",source=\"shopify\"} 1",
            "pagesyncd_graph_requests_total{call=\"read_page\",outcome=\"ok\"} 1",
            "pagesyncd_source_requests_total{source=\"facebook\",call=\"read_page\",outcome=\"ok\"} 1",
            "pagesyncd_source_requests_total{source=\"shopify\",call=\"shop_read\",outcome=\"ok\"} 1",
            "pagesyncd_webhook_ack_seconds_count 2",
        ] {
            assert!(lines.contains(&line), "{line} is missing in:\n{text}");
        }
        assert_eq!(text.matches("pagesyncd_graph_requests_total").count(), 1, "{text}");
        metrics.set_owed(&BTreeMap::new(), Duration::ZERO);
        let text = metrics.encode();
        assert!(text.contains("pagesyncd_due 0\n") && !text.contains("pagesyncd_due{"), "{text}");
    }
}
