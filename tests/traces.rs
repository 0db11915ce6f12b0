//! Traces as a collector receives them: the real daemon, built with the feature `otlp`, sends to a collector in the
//! test.
#![allow(clippy::unwrap_used, reason = "in a story an unmet expectation is a failure")]
#![allow(dead_code, unused_imports, reason = "the harness has more than these stories use")]

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;

#[path = "openapi/document.rs"]
mod document;
#[path = "stories"]
mod stories {
    pub mod harness;
}
use stories::harness::{self, Harness, Plan, delivery, free_port, until};

/// What the collector does with a request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// Takes it.
    Takes,
    /// Never answers.
    Hangs,
}

/// A collector that keeps what it receives.
struct Collector {
    address: String,
    received: Arc<Mutex<Vec<Bytes>>>,
}

impl Collector {
    async fn start(answer: Answer) -> Collector {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let received = Arc::new(Mutex::new(Vec::new()));
        let kept = received.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let kept = kept.clone();
                let service = service_fn(move |request| take(kept.clone(), answer, request));
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        Collector { address, received }
    }

    fn endpoint(&self) -> String {
        format!("http://{}/v1/traces", self.address)
    }

    /// Everything that was received, as it came.
    fn bytes(&self) -> Vec<u8> {
        self.received.lock().unwrap().concat()
    }

    /// Every span that was received.
    fn spans(&self) -> Vec<Span> {
        let received = self.received.lock().unwrap();
        received.iter().flat_map(|bytes| spans(&serde_json::from_slice(bytes).unwrap())).collect()
    }

    /// The span of this name in the trace of another one.
    fn of_trace(&self, other: &Span, name: &str) -> Option<Span> {
        self.spans().into_iter().find(|span| span.trace == other.trace && span.name == name)
    }
}

async fn take(
    kept: Arc<Mutex<Vec<Bytes>>>,
    answer: Answer,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    assert_eq!((request.method().as_str(), request.uri().path()), ("POST", "/v1/traces"));
    assert_eq!(request.headers()["content-type"], "application/json");
    let body = request.into_body().collect().await.unwrap().to_bytes();
    kept.lock().unwrap().push(body);
    if answer == Answer::Hangs {
        std::future::pending::<()>().await;
    }
    Ok(Response::new(Full::from("{\"partialSuccess\":{}}")))
}

/// A span, as the protocol has it.
#[derive(Debug, Clone)]
struct Span {
    trace: String,
    id: String,
    parent: String,
    name: String,
    kind: u64,
    times: [u64; 2],
    attributes: BTreeMap<String, String>,
    /// The ids of the spans that it has links to.
    links: Vec<String>,
    failed: bool,
}

fn spans(document: &Value) -> Vec<Span> {
    let resource = &document["resourceSpans"][0];
    assert_eq!(attributes(&resource["resource"])["service.name"], "pagesyncd");
    let spans = resource["scopeSpans"][0]["spans"].as_array().unwrap();
    spans.iter().map(span).collect()
}

fn attributes(of: &Value) -> BTreeMap<String, String> {
    let pair = |attribute: &Value| {
        let value = attribute["value"].as_object().unwrap().values().next().unwrap();
        (attribute["key"].as_str().unwrap().to_owned(), value.as_str().unwrap().to_owned())
    };
    of["attributes"].as_array().unwrap().iter().map(pair).collect()
}

fn span(span: &Value) -> Span {
    let text = |key: &str| span[key].as_str().unwrap().to_owned();
    let time = |key: &str| text(key).parse::<u64>().unwrap();
    let links = span["links"].as_array().unwrap();
    let span = Span {
        trace: text("traceId"),
        id: text("spanId"),
        parent: text("parentSpanId"),
        name: text("name"),
        kind: span["kind"].as_u64().unwrap(),
        times: [time("startTimeUnixNano"), time("endTimeUnixNano")],
        attributes: attributes(span),
        links: links.iter().map(|link| link["spanId"].as_str().unwrap().to_owned()).collect(),
        failed: span["status"]["code"] == 2,
    };
    let is_id = |id: &str, digits: usize| id.len() == digits && id.bytes().all(|b| b.is_ascii_hexdigit());
    assert!(is_id(&span.trace, 32) && is_id(&span.id, 16) && span.times[0] <= span.times[1], "{span:?}");
    span
}

/// A daemon that traces every delivery.
fn plan(endpoint: String) -> Plan {
    Harness::plan().pages(2).set("traces.endpoint", endpoint).set("traces.one_in", 1)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_is_one_trace_from_the_webhook_to_the_object() {
    let collector = Collector::start(Answer::Takes).await;
    let harness = plan(collector.endpoint()).start().await;
    let user = harness.linked().await;
    let page = harness.nth(0);
    harness.until_true(user, &harness.pages()).await;
    harness.complete().await;
    harness.world().edit_page(&page, "name", "a-text-of-the-page".into()).unwrap();
    harness.until_true(user, std::slice::from_ref(&page)).await;
    let is_whole = |root: &Span| root.name == "webhook" && collector.of_trace(root, "complete").is_some();
    let root =
        harness::eventually("a delivery is a whole trace", async || collector.spans().into_iter().find(is_whole)).await;

    assert_eq!((root.parent.as_str(), root.kind), ("", 2));
    assert_eq!(
        (root.attributes["pagesyncd.result"].as_str(), root.attributes["pagesyncd.links"].as_str()),
        ("accepted", "1")
    );
    let id = &root.attributes["pagesyncd.delivery"];
    assert!(harness.log().contains(&format!(" webhook [{id}]: ")), "the log names {id}");
    let of = |name: &str| collector.of_trace(&root, name).unwrap_or_else(|| panic!("no span {name}"));
    let (read, write) = (of("read"), of("write"));
    for (child, parent) in [
        ("mark", &root),
        ("wait", &root),
        ("read", &root),
        ("graph", &read),
        ("stage", &read),
        ("write", &read),
        ("spaces", &write),
        ("complete", &write),
    ] {
        let child = of(child);
        assert_eq!(child.parent, parent.id, "{child:?}");
        assert!(!child.failed && child.times[0] >= root.times[0] - 1_000_000, "{child:?}");
    }
    assert_eq!(read.attributes["pagesyncd.link"], format!("facebook:{page}"));
    assert_eq!(read.attributes["pagesyncd.result"], "changed");
    let (graph, spaces) = (of("graph"), of("spaces"));
    assert_eq!((graph.kind, graph.attributes["pagesyncd.outcome"].as_str()), (3, "ok"));
    assert_eq!(spaces.attributes["pagesyncd.call"], "put");

    // Whoever can reach the address makes no trace.
    assert_eq!(harness.post_hook("{}", &[("x-hub-signature-256", &format!("sha256={:064}", 0))]).await.status, 401);
    harness.server.world.clear_faults();
    // Nothing that names a person, or opens anything, leaves with a span; the harness looks for secrets.
    let exported = collector.bytes();
    harness.hear("the collector", &exported);
    let exported = String::from_utf8(exported).unwrap();
    for hidden in [user.to_string(), "a-text-of-the-page".to_owned(), "access_token".to_owned(), "appsecret".to_owned()]
    {
        assert!(!exported.contains(&hidden), "{hidden}");
    }
    harness
        .finish_and(async || assert!(collector.spans().iter().all(|span| span.name != "webhook" || !span.failed)))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deliveries_that_join_in_one_read_are_its_links() {
    let collector = Collector::start(Answer::Takes).await;
    let harness = plan(collector.endpoint()).set("sync.debounce", "1h").start().await;
    let user = harness.linked().await;
    let page = harness.nth(0);
    harness.until_true(user, &harness.pages()).await;
    harness.complete().await;
    for _ in 0..12 {
        assert_eq!(harness.deliver(delivery(&[&page])).await.status, 200);
    }
    // The read that an operator asks for answers for all of them.
    harness.sync(&page).await;
    // The daemon's own test of its address names a page that is not linked.
    let is_of_page =
        |span: &Span| span.name == "webhook" && span.attributes.get("pagesyncd.links").is_none_or(|n| n != "0");
    let roots = || collector.spans().into_iter().filter(is_of_page).collect::<Vec<_>>();
    let read = harness::eventually("the read is exported", async || {
        collector.spans().into_iter().find(|span| span.name == "read" && !span.parent.is_empty())
    })
    .await;
    until("the deliveries are exported", async || roots().len() == 12).await;
    let roots: BTreeMap<String, Span> = roots().into_iter().map(|root| (root.id.clone(), root)).collect();
    let first = roots.values().min_by_key(|root| root.times[0]).unwrap();
    assert_eq!((&read.parent, &read.trace), (&first.id, &first.trace));
    assert_eq!(read.links.len(), 8);
    assert!(read.links.iter().all(|link| roots.contains_key(link) && *link != first.id), "{read:?}");
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_away_or_hangs_costs_spans_and_nothing_else() {
    let away = format!("http://127.0.0.1:{}/v1/traces", free_port());
    let hanging = Collector::start(Answer::Hangs).await;
    for endpoint in [away, hanging.endpoint()] {
        let harness = plan(endpoint).start().await;
        let user = harness.linked().await;
        let page = harness.nth(0);
        harness.world().edit_page(&page, "name", "Written all the same".into()).unwrap();
        harness.until_true(user, &harness.pages()).await;
        let said = || harness.log().matches("traces: the collector takes no spans (").count();
        until("that is said", async || said() == 1).await;
        assert!(harness.metric("pagesyncd_trace_spans_dropped_total").await > 0.0);
        harness.sync(&page).await;
        harness.complete().await;
        assert_eq!(said(), 1);
        harness.finish().await;
    }
}
