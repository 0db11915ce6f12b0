//! The public listener under attack: whatever comes, it is answered rightly or closed, the memory stays within bounds,
//! and signed webhooks get through.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::harness::leaks::{overhear, peer};
use crate::harness::{Harness, Plan, delivery, memory};

const HOOK: &str = "/facebook/webhook";
/// A signed webhook is answered within this while others misbehave.
const PROMPT: Duration = Duration::from_secs(5);
/// An answer or a close comes within this, to whatever is sent.
const PATIENCE: Duration = Duration::from_secs(20);

fn plan() -> Plan {
    // At the usual level every refused request has a line in the log, which is not what is looked at here.
    Harness::plan().daemon(|setup| setup.log_level = "info".into())
}

fn address(harness: &Harness) -> String {
    harness.base.strip_prefix("http://").unwrap().to_owned()
}

async fn connect(address: &str) -> TcpStream {
    TcpStream::connect(address).await.unwrap()
}

/// Everything that comes until the listener closes the connection. A reset is a close as well.
async fn all_of(stream: &mut TcpStream) -> Vec<u8> {
    let (mut said, from) = (Vec::new(), peer(stream));
    let _ = timeout(PATIENCE, stream.read_to_end(&mut said)).await.expect("the listener neither answers nor closes");
    overhear(from, &said);
    said
}

/// Sends the bytes and returns the statuses of all answers until the close.
async fn statuses(address: &str, bytes: &[u8]) -> Vec<u16> {
    statuses_of(connect(address).await, bytes).await
}

async fn statuses_of(mut stream: TcpStream, bytes: &[u8]) -> Vec<u16> {
    let _ = stream.write_all(bytes).await;
    let said = all_of(&mut stream).await;
    answers(&said).into_iter().map(|(status, _)| status).collect()
}

/// The answers in a stream: statuses and lower-case heads.
fn answers(mut said: &[u8]) -> Vec<(u16, String)> {
    let mut found = Vec::new();
    while !said.is_empty() {
        let end = said.windows(4).position(|w| w == b"\r\n\r\n").unwrap_or_else(|| panic!("no answer: {said:?}"));
        let head = String::from_utf8(said[..end].to_vec()).unwrap().to_lowercase();
        assert!(head.starts_with("http/1."), "no answer: {head}");
        let length =
            head.lines().find_map(|line| line.strip_prefix("content-length: ")).map_or(0, |n| n.parse().unwrap());
        found.push((head[9..12].parse().unwrap(), head));
        said = said.get(end + 4 + length..).unwrap_or_default();
    }
    found
}

/// The bytes of a signed webhook about no page that is linked.
fn signed(harness: &Harness, body: &str) -> String {
    let signature = harness.world().sign(body.as_bytes());
    harness.keep_secret(signature.trim_start_matches("sha256="));
    format!(
        "POST {HOOK} HTTP/1.1\r\nHost: x\r\nX-Hub-Signature-256: {signature}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

async fn webhooks_get_through(harness: &Harness) {
    for _ in 0..5 {
        let started = Instant::now();
        // A connection of its own each time, as from somebody who was not here before.
        let mut stream = connect(&address(harness)).await;
        let text = signed(harness, &delivery(&["123"])).replacen("Host: x", "Host: x\r\nConnection: close", 1);
        stream.write_all(text.as_bytes()).await.unwrap();
        let said = all_of(&mut stream).await;
        assert_eq!(answers(&said).first().map(|a| a.0), Some(200), "{}", String::from_utf8_lossy(&said));
        assert!(started.elapsed() < PROMPT, "a signed webhook took {:?}", started.elapsed());
    }
}

fn check_growth(harness: &Harness, before: f64, most: f64) {
    let growth = memory(harness) - before;
    assert!(growth < most, "the daemon grew by {growth:.0} MiB");
}

/// Each of these is sent on a connection of its own; behind it comes a second request, which must not be answered
/// where the end of the first is in doubt.
#[tokio::test(flavor = "multi_thread")]
async fn every_malformed_request_gets_its_answer_or_a_close() {
    let harness = plan().set("http.body_timeout", "2s").start().await;
    let get = "GET /healthz HTTP/1.1\r\nHost: x\r\n";
    let post = format!("POST {HOOK} HTTP/1.1\r\nHost: x\r\nX-Hub-Signature-256: sha256={}\r\n", "0".repeat(64));
    let many = |count: usize| format!("{get}{}\r\n", (0..count).map(|n| format!("X-{n}: y\r\n")).collect::<String>());
    let after = format!("{get}Connection: close\r\n\r\n");
    let chunked = |chunks: &str| format!("{post}Transfer-Encoding: chunked\r\n\r\n{chunks}");
    let cases: Vec<(&str, String, &[u16])> = vec![
        ("a plain request", format!("{get}\r\n"), &[200, 200]),
        ("empty lines before it", format!("\r\n\r\n{get}\r\n"), &[200, 200]),
        ("63 more headers", many(63), &[200, 200]),
        ("65 headers", many(64), &[431]),
        ("headers of 40 KiB", format!("{get}X: {}\r\n\r\n", "y".repeat(40 << 10)), &[431]),
        ("an address of 70 KiB", format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "y".repeat(70 << 10)), &[431]),
        // Who it is for.
        ("no host", "GET /healthz HTTP/1.1\r\n\r\n".into(), &[400]),
        ("no host in HTTP/1.0", "GET /healthz HTTP/1.0\r\n\r\n".into(), &[200]),
        ("two hosts", format!("{get}Host: y\r\n\r\n"), &[400]),
        ("a host that is none", "GET /healthz HTTP/1.1\r\nHost: a b/c\r\n\r\n".into(), &[400]),
        ("a host with a user", "GET /healthz HTTP/1.1\r\nHost: a@b\r\n\r\n".into(), &[400]),
        ("absolute form", "GET http://x/healthz HTTP/1.1\r\nHost: x\r\n\r\n".into(), &[200, 200]),
        ("another's absolute form", "GET http://other.example/secret HTTP/1.1\r\nHost: x\r\n\r\n".into(), &[404, 200]),
        // Methods and targets.
        ("OPTIONS *", "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n".into(), &[404, 200]),
        ("CONNECT", "CONNECT x:443 HTTP/1.1\r\nHost: x:443\r\n\r\n".into(), &[404, 200]),
        ("TRACE", "TRACE /healthz HTTP/1.1\r\nHost: x\r\nCookie: session_id=a\r\n\r\n".into(), &[405, 200]),
        ("a method of its own", "BREW /healthz HTTP/1.1\r\nHost: x\r\n\r\n".into(), &[405, 200]),
        ("a way up", "GET /facebook/../healthz HTTP/1.1\r\nHost: x\r\n\r\n".into(), &[404, 200]),
        ("a NUL in the address", "GET /\0 HTTP/1.1\r\nHost: x\r\n\r\n".into(), &[400]),
        // Other languages.
        ("HTTP/0.9", "GET /healthz\r\n".into(), &[400]),
        ("HTTP/1.2", "GET /healthz HTTP/1.2\r\nHost: x\r\n\r\n".into(), &[400]),
        ("HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".into(), &[]),
        ("a TLS hello", "\x16\x03\x01\x02\0\x01\0\x01\u{7f}\x03\x03".into(), &[400]),
        ("noise", "\x01\x02\x03\r\n\r\n".into(), &[400]),
        // Lines.
        ("a folded header", format!("{get}X: a\r\n b\r\n\r\n"), &[400]),
        ("a blank before the colon", format!("{get}X : a\r\n\r\n"), &[400]),
        ("a line without a colon", format!("{get}nonsense\r\n\r\n"), &[400]),
        ("a NUL in a value", format!("{get}X: a\0b\r\n\r\n"), &[400]),
        ("a bare CR", format!("{get}X: a\rY: b\r\n\r\n"), &[400]),
        // A bare LF ends a line, as RFC 9112 allows; the same for everything that looks at heads here.
        ("bare LF", "GET /healthz HTTP/1.1\nHost: x\n\n".into(), &[200, 200]),
        // Lengths.
        ("two lengths", format!("{post}Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx"), &[400]),
        ("a list of lengths", format!("{post}Content-Length: 1, 2\r\n\r\nxx"), &[400]),
        ("a signed length", format!("{post}Content-Length: +1\r\n\r\nx"), &[400]),
        ("a negative length", format!("{post}Content-Length: -1\r\n\r\nx"), &[400]),
        ("a length beyond all", format!("{post}Content-Length: 99999999999999999999999\r\n\r\nx"), &[400]),
        (
            "a length and chunks",
            format!("{post}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
            &[400],
        ),
        (
            "chunks and a length",
            format!("{post}Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"),
            &[400],
        ),
        (
            "both, in a second request",
            format!("{get}\r\n{post}Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n0\r\n\r\n"),
            &[200, 400],
        ),
        (
            "both, behind a length with many blanks",
            format!(
                "{get}Content-Length:{}9\r\n\r\nGET /\r\n\r\n{post}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                " ".repeat(70)
            ),
            &[200, 400],
        ),
        (
            "both, behind a length with many zeros",
            format!(
                "{get}Content-Length: {}9\r\n\r\nGET /\r\n\r\n{post}Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
                "0".repeat(70)
            ),
            &[200, 400],
        ),
        ("chunks that are not last", format!("{post}Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n"), &[400]),
        ("an unknown encoding", format!("{post}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"), &[400]),
        ("chunks in HTTP/1.0", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".into(), &[400]),
        // Chunks. These reach the signature, which is wrong, only when they are whole.
        ("a whole body in chunks", chunked("2\r\n{}\r\n0\r\n\r\n"), &[401]),
        ("an extension and a trailer", chunked("2;a=\"b\"\r\n{}\r\n0\r\nX-Hub-Signature: sha1=0\r\n\r\n"), &[401]),
        ("a bad size", chunked("zz\r\n{}\r\n0\r\n\r\n"), &[400]),
        ("a size beyond all", chunked("fffffffffffffffff\r\n{}\r\n0\r\n\r\n"), &[400]),
        ("a huge size", chunked("ffffffffffffff\r\n{}"), &[408]),
        ("a negative size", chunked("-2\r\n{}\r\n0\r\n\r\n"), &[400]),
        ("a chunk longer than it says", chunked("1\r\n{}\r\n0\r\n\r\n"), &[400]),
        ("an endless extension", chunked(&format!("2;{}\r\n{{}}\r\n0\r\n\r\n", "a".repeat(20 << 10))), &[400]),
        ("an endless trailer", chunked(&format!("2\r\n{{}}\r\n0\r\nX: {}\r\n\r\n", "a".repeat(40 << 10))), &[400]),
    ];
    let mut wrong = Vec::new();
    for (what, request, expected) in cases {
        let seen = statuses(&address(&harness), format!("{request}{after}").as_bytes()).await;
        if seen != expected {
            wrong.push(format!("{what}: {seen:?} and not {expected:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for (what, request) in [
        ("a chunk that never ends", chunked("ff\r\n{")),
        ("no last chunk", chunked("2\r\n{}\r\n")),
        ("a body that breaks off", format!("{post}Content-Length: 50\r\n\r\n{{")),
    ] {
        assert_eq!(statuses(&address(&harness), request.as_bytes()).await, [408], "{what}");
    }
    webhooks_get_through(&harness).await;
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_is_told_so_even_to_those_who_go_on_sending() {
    let harness = plan().set("http.max_body_bytes", 100_000).start().await;
    let head = format!("POST {HOOK} HTTP/1.1\r\nHost: x\r\nX-Hub-Signature-256: sha256={}\r\n", "0".repeat(64));
    let waste = vec![b'x'; 8 << 20];
    for _ in 0..10 {
        let declared = [format!("{head}Content-Length: {}\r\n\r\n", waste.len()).as_bytes(), &waste].concat();
        assert_eq!(statuses(&address(&harness), &declared).await, [413]);
        let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n", waste.len());
        assert_eq!(statuses(&address(&harness), &[chunked.as_bytes(), &waste].concat()).await, [413]);
    }
    // One who asks first gets an answer before anything is sent.
    let mut stream = connect(&address(&harness)).await;
    let asks = format!("{head}Expect: 100-continue\r\nContent-Length: 99999999\r\n\r\n");
    stream.write_all(asks.as_bytes()).await.unwrap();
    assert_eq!(answers(&all_of(&mut stream).await)[0].0, 413);
    // Without a signature that could be right nothing is read at all.
    let unsigned = format!("POST {HOOK} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 90000\r\n\r\n");
    let all = [unsigned.as_bytes(), &waste[..90_000]].concat();
    assert_eq!(statuses(&address(&harness), &all).await, [401]);
    webhooks_get_through(&harness).await;
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_requests_at_once_are_answered_in_their_order() {
    let harness = plan().start().await;
    let hook = signed(&harness, &delivery(&["123"]));
    let mut text = String::new();
    for n in 0..50 {
        text.push_str(match n % 3 {
            _ if n == 49 => "GET /nowhere HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
            0 => "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
            1 => &hook,
            _ => "GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n",
        });
    }
    let expected: Vec<u16> = (0..50).map(|n| if n % 3 == 2 || n == 49 { 404 } else { 200 }).collect();
    assert_eq!(statuses(&address(&harness), text.as_bytes()).await, expected);
    harness.finish().await;
}

/// Idle and half-sent connections, several times as many as there may be; each is pushed out by the next.
#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_of_silent_clients_keeps_no_webhook_out() {
    let harness = plan()
        .set("http.max_connections", 64)
        .set("http.header_timeout", "60s")
        .set("http.body_timeout", "60s")
        .start()
        .await;
    let head = format!("POST {HOOK} HTTP/1.1\r\nHost: x\r\nX-Hub-Signature-256: sha256={}\r\n", "0".repeat(64));
    let (before, mut crowd) = (memory(&harness), Vec::new());
    for n in 0..300 {
        let mut stream = connect(&address(&harness)).await;
        let part = match n % 4 {
            0 => String::new(),
            1 => "POST /facebook/web".to_owned(),
            2 => head.clone(),
            _ => format!("{head}Content-Length: 1000\r\n\r\n{{"),
        };
        stream.write_all(part.as_bytes()).await.unwrap();
        crowd.push(stream);
        if n % 60 == 59 {
            webhooks_get_through(&harness).await;
        }
    }
    let open = harness.metric("pagesyncd_connections").await;
    assert!(open <= 64.0, "{open} connections are open");
    check_growth(&harness, before, 60.0);
    drop(crowd);
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_drip_are_sent_away_in_time() {
    let harness = plan().set("http.header_timeout", "1s").set("http.body_timeout", "1s").start().await;
    let drip = async |start: String, drop: &'static str| {
        let (mut reader, mut writer) = connect(&address(&harness)).await.into_split();
        let dripping = tokio::spawn(async move {
            let _ = writer.write_all(start.as_bytes()).await;
            while writer.write_all(drop.as_bytes()).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        let (started, mut said) = (Instant::now(), Vec::new());
        let _ = timeout(PATIENCE, reader.read_to_end(&mut said)).await.expect("dripping is borne for ever");
        dripping.abort();
        assert!(started.elapsed() >= Duration::from_millis(900), "closed after {:?}", started.elapsed());
        answers(&said).into_iter().map(|a| a.0).collect::<Vec<_>>()
    };
    let head = format!("POST {HOOK} HTTP/1.1\r\nHost: x\r\nX-Hub-Signature-256: sha256={}\r\n", "0".repeat(64));
    let none: [u16; 0] = [];
    assert_eq!(drip(String::new(), "").await, none, "silence");
    assert_eq!(drip("GET /healthz HTTP/1.1\r\nX: ".into(), "y").await, none, "a header");
    assert_eq!(drip("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n".into(), "").await, [200], "a rest after an answer");
    assert_eq!(drip(format!("{head}Content-Length: 9999\r\n\r\n"), "x").await, [408], "a body");
    assert_eq!(drip(format!("{head}Transfer-Encoding: chunked\r\n\r\n"), "1\r\nx\r\n").await, [408], "chunks");
    webhooks_get_through(&harness).await;
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_unsigned_requests_leave_no_trace() {
    let harness = plan().start().await;
    webhooks_get_through(&harness).await;
    let before = memory(&harness);
    let one = format!("POST {HOOK} HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{{}}");
    let mut crowd = JoinSet::new();
    for _ in 0..20 {
        let (address, batch) = (address(&harness), one.repeat(50));
        crowd.spawn(async move {
            let mut refused = 0;
            let mut stream = connect(&address).await;
            for _ in 0..100 {
                stream.write_all(batch.as_bytes()).await.unwrap();
                let mut rest = Vec::new();
                let mut seen = 0;
                while seen < 50 {
                    let count = timeout(PATIENCE, stream.read_buf(&mut rest)).await.unwrap().unwrap();
                    assert!(count > 0, "closed after {refused}");
                    seen = rest.windows(13).filter(|w| *w == b"HTTP/1.1 401 ").count();
                }
                refused += seen;
            }
            refused
        });
    }
    let refused: usize = crowd.join_all().await.into_iter().sum();
    assert_eq!(refused, 100_000);
    check_growth(&harness, before, 60.0);
    let reply = harness.metric("pagesyncd_webhook_deliveries_total{result=\"bad_signature\"}").await;
    assert_eq!(reply, 100_000.0);
    let log = harness.log().len();
    assert!(log < 1 << 20, "the log has {log} bytes");
    webhooks_get_through(&harness).await;
    harness.finish().await;
}

/// Sixty-four bodies of the largest size, all sent but for their last byte: four times the budget for large bodies.
#[tokio::test(flavor = "multi_thread")]
async fn large_bodies_together_stay_within_the_budget() {
    let harness = plan().set("http.max_connections", 64).set("http.body_timeout", "4s").start().await;
    webhooks_get_through(&harness).await;
    let before = memory(&harness);
    let size = 4 << 20;
    let head = format!(
        "POST {HOOK} HTTP/1.1\r\nHost: x\r\nX-Hub-Signature-256: sha256={}\r\nContent-Length: {size}\r\n\r\n",
        "0".repeat(64)
    );
    let mut crowd = JoinSet::new();
    for whole in [false, true] {
        for _ in 0..60 {
            let (address, head) = (address(&harness), head.clone());
            crowd.spawn(async move {
                let mut stream = connect(&address).await;
                let _ = stream.write_all(head.as_bytes()).await;
                let _ = stream.write_all(&vec![b' '; if whole { size } else { size - 1 }]).await;
                let said = all_of_or_less(&mut stream).await;
                answers(&said).first().map(|a| a.0)
            });
        }
        let mut most: f64 = 0.0;
        while !crowd.is_empty() {
            most = most.max(memory(&harness));
            // Small signed ones are not charged to the budget.
            webhooks_get_through(&harness).await;
            while let Some(status) = crowd.try_join_next() {
                let status = status.unwrap();
                assert!(matches!(status, Some(401 | 408 | 503) | None), "{status:?}");
            }
        }
        assert!(most - before < 220.0, "the daemon grew by {:.0} MiB", most - before);
    }
    webhooks_get_through(&harness).await;
    harness.finish().await;
}

/// The first answer, or what came until the close.
async fn all_of_or_less(stream: &mut TcpStream) -> Vec<u8> {
    let (mut said, from) = (Vec::new(), peer(stream));
    let read = async {
        while !said.windows(4).any(|w| w == b"\r\n\r\n")
            && stream.read_buf(&mut said).await.is_ok_and(|count| count > 0)
        {}
    };
    timeout(PATIENCE, read).await.expect("a large body is neither answered nor closed");
    overhear(from, &said);
    said
}
