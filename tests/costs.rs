//! What a delivery costs, in allocations: a measure that no machine and no neighbour changes. A delivery comes over a
//! socket and passes everything that a real one passes: the listener, HTTP, the signature, the parser, the store. Only
//! the disk is missing, since the store lies in memory.
//!
//! A limit is about a tenth above what was measured when it was set. A change that exceeds one should be argued; one
//! that goes far below should lower it.
//!
//! The client's side allocates nothing, and there is one test in this program, so that every allocation is the
//! daemon's.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::alloc::System;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use pagesyncd::config::Config;
use pagesyncd::context::{Context, Setup};
use pagesyncd::core::model::{Cause, PageId, Secret, UserId, WallTime};
use pagesyncd::http::routes::public;
use pagesyncd::http::server::{self, Socket, Terms};
use pagesyncd::metrics::Metrics;
use pagesyncd::sources::facebook::graph::Gate;
use pagesyncd::sources::facebook::signature::sign_sha256;
use pagesyncd::store::Store;
use pagesyncd::store::persons::NewLink;
use pagesyncd::store::seal::Keyring;
use pagesyncd::store::stepped::{Committer, poll_once};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const APP_SECRET: &str = "0123456789abcdef0123456789abcdef";
const PAGE: &str = "2210000000000201";
/// Deliveries that are counted; as many come before them.
const DELIVERIES: usize = 1000;

fn config() -> Config {
    let text = format!(
        "[http]\npublic_url = \"http://localhost:5000\"\n\
         [facebook]\napp_id = \"1234567890\"\napp_secret = \"{APP_SECRET}\"\nverify_token = \"sixteen-and-more-verify\"\n\
         [spaces]\nregion = \"nyc3\"\nbucket = \"pages\"\naccess_key = \"DO00ACCESS\"\nsecret_key = \"sixteen-and-more-spaces\"\n\
         [store]\npath = \"/nowhere\"\nkey = \"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\"\n\
         [session]\nstate_secret = \"thirty-two-characters-and-more-of-state\"\n"
    );
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    Config::load(file.path(), &|_| None).unwrap().config
}

/// Steps the committer until the operation ends.
fn finish<R>(committer: &mut Committer, operation: impl Future<Output = R>) -> R {
    let mut operation: Pin<&mut dyn Future<Output = R>> = pin!(operation);
    loop {
        if let Some(answer) = poll_once(operation.as_mut()) {
            return answer;
        }
        committer.step();
    }
}

/// A store with a page whose mark stands.
fn store() -> (Store, Committer) {
    let (store, mut committer) = Store::in_memory(Keyring::new([7; 32], Vec::new()), WallTime(1_795_341_600_000));
    let page: PageId = PAGE.parse().unwrap();
    let new = NewLink { page: page.clone(), token: Secret::new("EAAB-token"), name: None, facebook_user: None };
    let ticket = finish(&mut committer, store.ticket()).unwrap();
    finish(&mut committer, store.put_links(ticket, UserId::random(), None, vec![new], Cause::Link)).unwrap();
    finish(&mut committer, store.mark_pages(&[page], Cause::Webhook)).unwrap();
    (store, committer)
}

/// Serves the public listener on a thread of its own, as on a machine with one core, for as long as the test takes.
fn serve(store: Store) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    std::thread::spawn(move || {
        runtime.block_on(async {
            let (gate, metrics) = (Gate::new(1), Arc::new(Metrics::new()));
            let setup = Setup::build(config(), &gate, &metrics).unwrap();
            let context = Context::new(store, setup, gate, metrics, None);
            let service = move |request, conn| public::answer(context.clone(), request, conn);
            let terms = || Terms { max_connections: 8, header_timeout: Duration::from_secs(10), tls: None };
            let socket = Socket::Tcp(tokio::net::TcpListener::from_std(listener).unwrap());
            let (requests, stop) = (TaskTracker::new(), CancellationToken::new());
            server::serve(socket, terms, |_| {}, service, requests, stop, Duration::ZERO).await;
        });
    });
    address
}

/// A delivery as Meta sends it, with this signature.
fn delivery(sign: impl Fn(&[u8]) -> String) -> Vec<u8> {
    let body = format!(
        r#"{{"object":"page","entry":[{{"id":"{PAGE}","time":1763769600,"changes":[{{"field":"name","value":"N"}}]}}]}}"#
    );
    let (signature, length) = (sign(body.as_bytes()), body.len());
    format!(
        "POST /facebook/webhook HTTP/1.1\r\nHost: pages.example.com\r\nUser-Agent: facebookexternalua\r\nAccept: */*\r\n\
         Content-Type: application/json\r\nX-Hub-Signature-256: {signature}\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// Sends the delivery again and again and reads each answer, which has this status and ends with these bytes.
fn exchange(stream: &mut TcpStream, delivery: &[u8], status: &[u8], end: &[u8]) {
    let mut answer = [0; 1024];
    for _ in 0..DELIVERIES {
        stream.write_all(delivery).unwrap();
        let mut len = 0;
        while !answer[..len].ends_with(end) {
            let read = stream.read(&mut answer[len..]).unwrap();
            assert_ne!(read, 0, "{}", String::from_utf8_lossy(&answer[..len]));
            len += read;
        }
        assert!(answer.starts_with(status), "{}", String::from_utf8_lossy(&answer[..len]));
    }
}

/// A delivery, its answer, and the allocations that the two may cost.
struct Case {
    name: &'static str,
    delivery: Vec<u8>,
    status: &'static [u8],
    end: &'static [u8],
    limit: f64,
}

impl Case {
    /// The allocations of one delivery, and of the answer to it.
    fn allocations(&self, address: SocketAddr) -> f64 {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.set_nodelay(true).unwrap();
        exchange(&mut stream, &self.delivery, self.status, self.end);
        let region = Region::new(ALLOCATOR);
        exchange(&mut stream, &self.delivery, self.status, self.end);
        let change = region.change();
        (change.allocations + change.reallocations) as f64 / DELIVERIES as f64
    }
}

#[test]
fn a_delivery_keeps_within_its_allocations() {
    let (store, _committer) = store();
    let address = serve(store);
    let standing = Case {
        name: "whose mark stands",
        delivery: delivery(|body| sign_sha256(body, &Secret::new(APP_SECRET))),
        status: b"HTTP/1.1 200 ",
        end: b"success\"}",
        limit: 11.0,
    };
    let forged = Case {
        name: "with a forged signature",
        delivery: delivery(|_| format!("sha256={}", "5a".repeat(32))),
        status: b"HTTP/1.1 401 ",
        end: b"secret\"}}",
        limit: 8.8,
    };
    for case in [standing, forged] {
        let (name, limit, count) = (case.name, case.limit, case.allocations(address));
        println!("a delivery {name}: {count} allocations");
        assert!(count <= limit, "a delivery {name} allocates {count} times, at most {limit} are allowed");
    }
}
