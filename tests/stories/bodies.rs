//! Memory for bodies: an operator's import and unsigned strangers take none from signed deliveries, and imports take
//! turns.

use std::time::{Duration, Instant};

use http::Method;
use pagesyncd::admin_client;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinSet;

use crate::harness::{Harness, LIMIT, delivery, memory, until};

/// A signed delivery is answered within this while others hold all the memory they can. A body may take 15 s.
const PROMPT: Duration = Duration::from_secs(8);

/// A signed delivery of about this size; sent again after a 503, as Facebook does.
async fn deliver(harness: &Harness, size: usize) -> Duration {
    let mut body = delivery(&["123"]);
    body.insert_str(body.len() - 1, &format!(",\"padding\":\"{}\"", "x".repeat(size)));
    let began = Instant::now();
    loop {
        let answer = harness.deliver(body.clone()).await;
        if answer.status == 503 && answer.header("retry-after") == "1" && began.elapsed() < PROMPT {
            tokio::time::sleep(Duration::from_secs(1)).await;
            continue;
        }
        assert_eq!(answer.status, 200, "{size} bytes: {}", answer.text());
        return began.elapsed();
    }
}

async fn deliveries_are_prompt(harness: &Harness, size: usize) {
    for _ in 0..5 {
        let took = deliver(harness, size).await;
        assert!(took < PROMPT, "a signed delivery of {size} bytes took {took:?}");
    }
}

/// Lines that are no links: read, counted, and forgotten. Few of them, so that the answer is short.
fn lines(bytes: usize) -> Vec<u8> {
    let line = format!("{{\"junk\":\"{}\"}}\n", "x".repeat(60 << 10));
    line.repeat(bytes / line.len() + 1).into_bytes()
}

fn import_head(length: usize) -> String {
    format!("POST /v1/import HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: {length}\r\n\r\n")
}

/// An import that the daemon has begun to read.
async fn begun(harness: &Harness, length: usize) -> UnixStream {
    let mut stream = UnixStream::connect(harness.daemon.socket()).await.unwrap();
    stream.write_all(import_head(length).as_bytes()).await.unwrap();
    let mut go_on = [0; 25];
    stream.read_exact(&mut go_on).await.unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_that_stalls_delays_no_delivery_and_no_other_request_of_an_operator() {
    let harness = Harness::plan().start().await;
    let size = 64 << 20;
    let mut stream = begun(&harness, size).await;
    stream.write_all(&lines(size)[..size - 1]).await.unwrap();
    deliveries_are_prompt(&harness, 1 << 20).await;
    let ids: Vec<String> = (0..9000).map(|n| format!("{n:020}")).collect();
    let body = serde_json::json!({"ids": ids, "dry_run": true}).to_string();
    assert!(body.len() > 100 << 10);
    assert_eq!(harness.admin(Method::POST, "/v1/purge", &body).await.0, 200);
    // It is sent away before its time for the whole body is over, and the next one has its turn.
    let mut answer = String::new();
    tokio::time::timeout(LIMIT / 2, stream.read_to_string(&mut answer)).await.expect("a stall is borne").unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    let socket = harness.daemon.socket();
    assert_eq!(admin_client::fetch(socket, Method::POST, "/v1/import", lines(1 << 20)).await.unwrap().0, 200);
    harness.finish().await;
}

/// Together they are more than twice the budget of imports, so that none is whole while all are read at once.
#[tokio::test(flavor = "multi_thread")]
async fn imports_at_the_same_time_take_turns() {
    let harness = Harness::plan().start().await;
    let before = memory(&harness);
    let body = bytes::Bytes::from(lines(40 << 20));
    let mut imports = JoinSet::new();
    for _ in 0..4 {
        let (socket, body) = (harness.daemon.socket().to_owned(), body.clone());
        imports.spawn(async move { admin_client::fetch(&socket, Method::POST, "/v1/import", body).await.unwrap().0 });
    }
    let mut most: f64 = 0.0;
    let began = Instant::now();
    while !imports.is_empty() {
        while let Some(status) = imports.try_join_next() {
            assert_eq!(status.unwrap(), 200);
        }
        most = most.max(memory(&harness) - before);
        assert!(began.elapsed() < 2 * LIMIT, "they wait for each other");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(most < 220.0, "the daemon grew by {most:.0} MiB");
    harness.finish().await;
}

/// How an unsigned stranger holds on.
#[derive(Clone, Copy)]
enum Manner {
    /// Sends most of a body and falls silent.
    Stalls,
    /// The same, then a byte now and then.
    Drips,
    /// The same in chunks, without a length.
    Chunks,
}

async fn stranger(address: String, manner: Manner, most: usize) {
    let signature = "0".repeat(64);
    let head = format!("POST /facebook/webhook HTTP/1.1\r\nhost: x\r\nx-hub-signature-256: sha256={signature}\r\n");
    let start = match manner {
        Manner::Chunks => format!("{head}transfer-encoding: chunked\r\n\r\n{most:x}\r\n"),
        Manner::Stalls | Manner::Drips => format!("{head}content-length: {most}\r\n\r\n"),
    };
    // One that is sent away comes again, slowly as it is.
    loop {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let Ok(mut stream) = TcpStream::connect(&address).await else { return };
        let sent = [start.as_bytes(), &vec![b'x'; most - 4096]].concat();
        if stream.write_all(&sent).await.is_err() {
            continue;
        }
        let (mut reader, mut writer) = stream.split();
        let mut waste = [0; 1024];
        loop {
            let pause = if matches!(manner, Manner::Drips) { 20 } else { 1000 };
            tokio::select! {
                read = reader.read(&mut waste) => if !matches!(read, Ok(count) if count > 0) { break },
                () = tokio::time::sleep(Duration::from_millis(pause)) => {
                    if matches!(manner, Manner::Drips) && writer.write_all(b"x").await.is_err() {
                        break;
                    }
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unsigned_strangers_hold_nothing_that_a_signed_delivery_needs() {
    let harness = Harness::plan().daemon(|setup| setup.log_level = "info".into()).start().await;
    deliver(&harness, 100 << 10).await;
    let before = memory(&harness);
    let address = harness.base.strip_prefix("http://").unwrap().to_owned();
    let mut strangers = JoinSet::new();
    for n in 0..120 {
        let manner = [Manner::Stalls, Manner::Drips, Manner::Chunks][n % 3];
        let most = if n < 30 { 3 << 20 } else { 700 << 10 };
        strangers.spawn(stranger(address.clone(), manner, most));
    }
    until("the strangers hold all they can", async || memory(&harness) - before > 50.0).await;
    let mut most: f64 = 0.0;
    for _ in 0..4 {
        deliveries_are_prompt(&harness, 100 << 10).await;
        deliveries_are_prompt(&harness, 1 << 20).await;
        most = most.max(memory(&harness) - before);
    }
    assert!(most < 220.0, "the daemon grew by {most:.0} MiB");
    strangers.shutdown().await;
    harness.finish().await;
}

/// A misspelt key must not cost the seal of an export, the life of a session or the records of a person.
#[tokio::test(flavor = "multi_thread")]
async fn an_operators_body_that_is_not_understood_is_refused_by_name() {
    let harness = Harness::plan().start().await;
    let user = harness.linked().await;
    for (path, body, said) in [
        (
            "/v1/export",
            "{\"passphrse\":\"a long passphrase\"}".to_owned(),
            "unknown key passphrse; is passphrase meant?",
        ),
        ("/v1/export", "{\"passphrase\":5}".to_owned(), "the body is not {\"passphrase\""),
        ("/v1/export", "passphrase=a+long+one".to_owned(), "the body is not {\"passphrase\""),
        ("/v1/sessions", format!("{{\"user\":\"{user}\",\"tll\":\"1h\"}}"), "unknown key tll; is ttl meant?"),
        ("/v1/purge", "{\"ids\":[\"1\"],\"dryrun\":true}".to_owned(), "unknown key dryrun; is dry_run meant?"),
    ] {
        let (status, answer) = harness.admin(Method::POST, path, &body).await;
        assert_eq!(status, 400, "{path} {body}: {answer}");
        assert_eq!(answer["error"]["code"], "bad_request");
        assert!(answer["error"]["message"].as_str().unwrap().contains(said), "{path} {body}: {answer}");
    }
    for body in ["", "{}", "{\"passphrase\":\"a long passphrase\"}"] {
        let answer = harness.operator(Method::POST, "/v1/export", body).await;
        assert_eq!(answer.status, 200, "{body}");
        let head: serde_json::Value = serde_json::from_str(answer.text().lines().next().unwrap()).unwrap();
        assert_eq!(head["sealed_with"], if body.len() > 2 { "passphrase" } else { "store-key" });
    }
    harness.finish().await;
}
