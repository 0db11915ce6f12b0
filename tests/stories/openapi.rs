//! `docs/openapi.json` against a daemon: each operation with each status and error code, the requests of the program's
//! own verbs, and a client that is generated from the document. Every other story compares the answers that it gets
//! with the document as well ([`crate::harness::operator`]).

mod client;
mod proxy;

use std::collections::BTreeSet;
use std::sync::Mutex;

use futures_util::future::join_all;
use http::Method;
use pagesyncd::core::model::UserId;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::document::{DOCUMENT, Exercised};
use crate::harness::{ADA, Answer, BRUNO, Harness, free_port, operator, until};

/// Reads are refused while no thread of the store can look at it, which a test inside of the crate arranges
/// (`src/actors/tests/refusals.rs`).
const LOOKS: &str = "no daemon can be brought to refuse a look at a local store";
/// A daemon without a mistake does not answer so.
const BUG: &str = "a thread of the daemon panics";
/// The stream has no end, and a request of this story waits for the end of its answer
/// (`tests/stories/status_routes.rs`).
const ENDLESS: &str = "another story reads the stream";

/// The parts of the document that the walk leaves out, and why.
const NOT_EXERCISED: &[(&str, u16, &str, &str)] = &[
    ("exportLinks", 500, "internal", BUG),
    ("exportLinks", 503, "unavailable", LOOKS),
    ("getEvents", 200, "text/event-stream", ENDLESS),
    ("getEvents", 503, "unavailable", ENDLESS),
    ("getLink", 503, "unavailable", LOOKS),
    ("getPage", 503, "unavailable", LOOKS),
    ("importLinks", 500, "internal", BUG),
    ("listLinks", 503, "unavailable", LOOKS),
    ("listPages", 503, "unavailable", LOOKS),
];

/// A harness whose answers are counted.
struct Walk {
    harness: Harness,
    seen: Mutex<BTreeSet<Exercised>>,
}

impl Walk {
    fn note(&self, method: &Method, path: &str, answer: &Answer) {
        self.seen.lock().unwrap().extend(operator::check(method, path, answer));
    }

    /// A request to the socket; its status.
    async fn ask(&self, method: Method, path: &str, body: &str) -> u16 {
        let answer = self.harness.operator(method.clone(), path, body).await;
        self.note(&method, path, &answer);
        answer.status
    }

    /// A request to the loopback address; its status.
    async fn ask_listener(&self, method: Method, path: &str, accept: &str) -> u16 {
        let url = format!("http://{}{path}", self.harness.setup.admin_listen);
        let request = self.harness.http.request(method.clone(), url).header("accept", accept);
        let answer = self.harness.send(request).await;
        self.note(&method, path, &answer);
        answer.status
    }

    /// A request to the loopback address under another name; its status.
    async fn ask_as(&self, host: &str, path: &str) -> u16 {
        let url = format!("http://{}{path}", self.harness.setup.admin_listen);
        let answer = self.harness.send(self.harness.http.get(url).header("host", host)).await;
        self.note(&Method::GET, path, &answer);
        answer.status
    }

    /// A request to the socket whose framing is in `rest`; its status.
    async fn ask_with_bytes(&self, method: Method, path: &str, rest: &str) -> u16 {
        let mut stream = UnixStream::connect(self.harness.daemon.socket()).await.unwrap();
        let head = format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{rest}");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.unwrap();
        let answer = parsed(&String::from_utf8(bytes).unwrap());
        self.note(&method, path, &answer);
        answer.status
    }

    /// Waits until the daemon has nothing to write, so that the next commit is that of a request.
    async fn quiet(&self) {
        self.harness.complete().await;
        until("no cleanup is left", async || self.harness.status().await["cleanups"] == json!({})).await;
    }

    /// Asks until the commit of the request is the one over which the store panics. A commit of the daemon's own may
    /// have been before it, so each attempt has another request.
    async fn refused_by_the_store(&self, request: impl Fn(usize) -> (Method, String, String)) {
        let session = json!({"user": UserId::random()}).to_string();
        let mut attempt = 0;
        until("the store refuses the request", async || {
            self.quiet().await;
            self.harness.drill("store").await;
            let (method, path, body) = request(attempt);
            attempt += 1;
            let status = self.ask(method, &path, &body).await;
            until("the store takes commits again", async || {
                self.harness.operator(Method::POST, "/v1/sessions", &session).await.status == 200
            })
            .await;
            status == 503
        })
        .await;
    }

    async fn finish(self) -> BTreeSet<Exercised> {
        self.harness.finish().await;
        self.seen.into_inner().unwrap()
    }
}

/// An answer as it came over the wire, with a length.
fn parsed(text: &str) -> Answer {
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text}"));
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let fields = lines.map(|line| line.split_once(": ").unwrap());
    let headers = fields.map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
    Answer { status, headers, body: body.into() }
}

/// The two addresses of the links of a page.
fn of_page(page: &str) -> [String; 2] {
    [format!("/v1/pages/{page}"), format!("/v1/links/facebook/{page}")]
}

async fn reads(walk: &Walk, page: &str) {
    for accept in ["text/plain", "application/openmetrics-text"] {
        assert_eq!(walk.ask_listener(Method::GET, "/metrics", accept).await, 200);
    }
    for path in [
        "/",
        "/assets/page.css",
        "/assets/page.js",
        "/healthz",
        "/v1/openapi.json",
        "/v1/status",
        "/v1/pages",
        "/v1/links",
        "/v1/links?source=shopify",
        "/v1/links?limit=2&sort=name&reverse=true&search=a&health=active&waiting=false&pending=false",
    ] {
        assert_eq!(walk.ask(Method::GET, path, "").await, 200, "{path}");
        assert_eq!(walk.ask_listener(Method::GET, path, "*/*").await, 200, "{path}");
        assert_eq!(walk.ask(Method::PUT, path.split('?').next().unwrap(), "").await, 405, "{path}");
    }
    assert_eq!(walk.ask(Method::GET, "/v1/links?source=elsewhere", "").await, 400);
    assert_eq!(walk.ask(Method::GET, "/v1/elsewhere", "").await, 404);
    assert_eq!(walk.ask(Method::GET, "/assets/elsewhere", "").await, 404);
    assert_eq!(walk.ask_as("elsewhere.example", "/v1/status").await, 421);
    for path in of_page(page) {
        assert_eq!(walk.ask(Method::GET, &path, "").await, 200);
    }
    for path in of_page("no-id") {
        assert_eq!(walk.ask(Method::GET, &path, "").await, 400);
    }
    for path in of_page("4711") {
        assert_eq!(walk.ask(Method::GET, &path, "").await, 404);
    }
}

async fn syncs(walk: &Walk, page: &str) {
    for path in of_page(page).map(|path| path + "/sync") {
        assert_eq!(walk.ask(Method::POST, &path, "").await, 202);
        assert_eq!(walk.ask(Method::POST, &format!("{path}?usr=1"), "").await, 400);
        assert_eq!(walk.ask_listener(Method::POST, &path, "*/*").await, 403);
        walk.refused_by_the_store(|_| (Method::POST, path.clone(), String::new())).await;
    }
    for path in of_page("4711").map(|path| path + "/sync") {
        assert_eq!(walk.ask(Method::POST, &path, "").await, 404);
    }
}

/// The bodies that are taken, and those that are not.
async fn bodies(walk: &Walk) {
    let user = UserId::random();
    let (page, token) = page_and_token(&walk.harness);
    let line = json!({"user": user, "page_id": page, "access_token": token}).to_string();
    for (method, path, good, bad) in [
        (Method::POST, "/v1/sessions", json!({"user": user, "ttl": "1h", "label": "Ada"}).to_string(), "{}"),
        (
            Method::POST,
            "/v1/import",
            line,
            "{\"schema\":\"pagesyncd/export/1\",\"sealed_with\":\"store-key\",\"check\":\"\"}",
        ),
        (Method::POST, "/v1/purge", json!({"ids": ["77", 78], "dry_run": true}).to_string(), "{}"),
        (Method::POST, "/v1/export", json!({"passphrase": "correct horse battery staple"}).to_string(), "[]"),
        (Method::PUT, "/v1/log", json!({"level": "info,pagesyncd::store=debug", "for": "1m"}).to_string(), "{}"),
    ] {
        let (broken, large) = ("transfer-encoding: chunked\r\n\r\nno-length\r\n", "content-length: 99999999\r\n\r\n");
        DOCUMENT.check_request(&method, path, Some(good.as_bytes())).unwrap();
        assert_eq!(walk.ask(method.clone(), path, &good).await, 200, "{path}");
        assert_eq!(walk.ask(method.clone(), path, bad).await, 400, "{path}");
        assert_eq!(walk.ask_with_bytes(method.clone(), path, broken).await, 400, "{path}");
        assert_eq!(walk.ask_with_bytes(method.clone(), path, large).await, 413, "{path}");
        if method == Method::POST {
            assert_eq!(walk.ask_listener(Method::POST, path, "*/*").await, 403, "{path}");
            assert_eq!(walk.ask_listener(Method::GET, path, "*/*").await, 403, "{path}");
            assert_eq!(walk.ask(Method::GET, path, "").await, 405, "{path}");
        }
    }
    log_level(walk).await;
    // They wait for the same ten seconds.
    let begun = "content-length: 10\r\n\r\n{";
    let posts = ["/v1/sessions", "/v1/import", "/v1/purge", "/v1/export"].map(|path| (Method::POST, path));
    let stalled = posts.into_iter().chain([(Method::PUT, "/v1/log")]);
    let stalled = join_all(stalled.map(|(method, path)| walk.ask_with_bytes(method, path, begun))).await;
    assert_eq!(stalled, [408; 5]);
    let session = json!({"user": user}).to_string();
    walk.refused_by_the_store(|_| (Method::POST, "/v1/sessions".into(), session.clone())).await;
    walk.refused_by_the_store(|_| {
        let line = json!({"user": UserId::random(), "page_id": page, "access_token": token});
        (Method::POST, "/v1/import?replace=true".into(), line.to_string())
    })
    .await;
}

/// The level of the log is shown everywhere, and changed on the socket.
async fn log_level(walk: &Walk) {
    assert_eq!(walk.ask_listener(Method::GET, "/v1/log", "*/*").await, 200);
    for method in [Method::PUT, Method::DELETE] {
        assert_eq!(walk.ask_listener(method, "/v1/log", "*/*").await, 405);
    }
    for method in [Method::GET, Method::DELETE] {
        assert_eq!(walk.ask(method, "/v1/log", "").await, 200);
    }
}

/// A page, and its token that works.
fn page_and_token(harness: &Harness) -> (String, String) {
    let page = harness.nth(0);
    let token = harness.world().look(|state| {
        let mut tokens = state.tokens.iter().filter(|(_, token)| token.page.as_deref() == Some(&page));
        tokens.find(|(_, token)| token.refused.is_none()).unwrap().0.clone()
    });
    (page, token)
}

/// Pages that two users link, and pages that one user links.
async fn unlinks(walk: &Walk, both: &[String], one: &[String]) {
    for path in of_page(&both[0]) {
        assert_eq!(walk.ask(Method::DELETE, &path, "").await, 409);
        assert_eq!(walk.ask(Method::DELETE, &format!("{path}?al=true"), "").await, 400);
        assert_eq!(walk.ask_listener(Method::DELETE, &path, "*/*").await, 405);
    }
    for path in of_page("4711") {
        assert_eq!(walk.ask(Method::DELETE, &path, "").await, 404);
    }
    for (nth, page) in both[..2].iter().enumerate() {
        let path = format!("{}?all=true&keep_object=true&revoke=true", of_page(page)[nth]);
        assert_eq!(walk.ask(Method::DELETE, &path, "").await, 200);
    }
    for nth in 0..2 {
        let request = |attempt: usize| (Method::DELETE, of_page(&one[3 * nth + attempt])[nth].clone(), String::new());
        walk.refused_by_the_store(request).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_operation_answers_every_status_as_the_document_says() {
    let listen = format!("127.0.0.1:{}", free_port());
    let plan = Harness::plan().pages(12).daemon(|setup| setup.admin_listen = listen).drills();
    let mut harness = plan.start().await;
    harness.expect_panics("drill:");
    harness.expect_errors("store: its thread");
    harness.expect_errors("]: cannot write (");
    harness.linked().await;
    assert_eq!(harness.log_in(UserId::random(), BRUNO, "all").await.status, 200);
    let pages = harness.pages();
    let walk = Walk { harness, seen: Mutex::default() };
    reads(&walk, &pages[0]).await;
    syncs(&walk, &pages[3]).await;
    unlinks(&walk, &pages[1..3], &pages[4..]).await;
    bodies(&walk).await;
    // The last, because it takes everything.
    let persons = [BRUNO, ADA];
    walk.refused_by_the_store(|attempt| {
        (Method::POST, "/v1/purge".into(), json!({"ids": [persons[attempt]]}).to_string())
    })
    .await;
    let seen = walk.finish().await;
    let left_out = NOT_EXERCISED.iter().map(|(id, status, word, _)| ((*id).to_owned(), *status, (*word).to_owned()));
    let left_out: BTreeSet<Exercised> = left_out.collect();
    let strays: Vec<_> = seen.intersection(&left_out).collect();
    assert!(strays.is_empty(), "exercised in spite of the reason: {strays:?}");
    let parts = DOCUMENT.parts();
    let lacking: Vec<_> = parts.iter().filter(|part| !seen.contains(*part) && !left_out.contains(*part)).collect();
    assert!(lacking.is_empty(), "neither exercised nor left out for a reason: {lacking:?}");
    let gone: Vec<_> = left_out.difference(&parts).collect();
    assert!(gone.is_empty(), "left out, and not in the document: {gone:?}");
}
