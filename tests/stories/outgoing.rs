//! Requests to other hosts: no answer of Graph, Spaces or the receiver of events fills the memory, nothing leaves by a
//! proxy or follows a redirect, and a certificate of a private authority is trusted where it is named.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use pagesyncd::core::model::UserId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::harness::tls::Authority;
use crate::harness::{ADA, Harness, memory, until};

/// The size of an answer that is read to its end, and the most that sockets and buffers may hold of it.
const PLENTY: usize = 512 << 20;
const IN_BUFFERS: usize = 32 << 20;

/// A server whose every answer goes on and on. Counts the answers, and the bytes that the most patient reader took.
struct Endless {
    url: String,
    answers: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

impl Endless {
    async fn start(head: &'static str) -> Endless {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (answers, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let counts = (answers.clone(), most.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (answers, most) = counts.clone();
                tokio::spawn(async move {
                    let sent = go_on(stream, head).await;
                    most.fetch_max(sent, Ordering::SeqCst);
                    answers.fetch_add(1, Ordering::SeqCst);
                });
            }
        });
        Endless { url, answers, most }
    }
}

/// Answers one request until the client hangs up.
async fn go_on(mut stream: TcpStream, head: &str) -> usize {
    let mut request = [0; 64 << 10];
    if stream.read(&mut request).await.is_err() || stream.write_all(head.as_bytes()).await.is_err() {
        return 0;
    }
    let (piece, mut sent) = (vec![b'x'; 256 << 10], 0);
    while sent < PLENTY && stream.write_all(&piece).await.is_ok() {
        sent += piece.len();
    }
    sent
}

#[tokio::test(flavor = "multi_thread")]
async fn endless_answers_of_every_dependency_fill_no_memory() {
    for head in [
        "HTTP/1.1 503 Slow\r\n\r\n<Error><Code>SlowDown</Code><Message>",
        "HTTP/1.1 200 OK\r\netag: \"0123-2\"\r\n\r\n{\"data\":\"",
    ] {
        let mut harness = Harness::plan().start().await;
        let user = harness.linked().await;
        harness.complete().await;
        let [graph, spaces, receiver] =
            [Endless::start(head).await, Endless::start(head).await, Endless::start(head).await];
        harness.set("facebook.graph_url", graph.url.as_str());
        harness.set("spaces.endpoint", spaces.url.as_str());
        harness.set("notify.url", format!("{}/events", receiver.url));
        let before = memory(&harness);
        harness.reload("applied").await;
        // An unlinking owes Spaces a delete and the receiver an event; a wish to read owes Graph a call.
        let page = harness.nth(0);
        harness.sync(&page).await;
        let unlinked = harness.admin(http::Method::DELETE, &format!("/v1/pages/{}", harness.nth(1)), "").await;
        assert_eq!(unlinked.0, 200);
        for (what, server) in [("graph", &graph), ("spaces", &spaces), ("the receiver", &receiver)] {
            let cut = || server.answers.load(Ordering::SeqCst);
            until(&format!("an answer of {what} is over"), async || cut() >= 1).await;
            let most = server.most.load(Ordering::SeqCst);
            assert!(most < IN_BUFFERS, "{head:?}: {most} bytes of one answer of {what} were read");
        }
        let growth = memory(&harness) - before;
        assert!(growth < 64.0, "{head:?}: the daemon grew by {growth:.0} MiB");
        harness.set("facebook.graph_url", harness.server.graph_url.clone());
        harness.set("spaces.endpoint", harness.server.spaces_endpoint.clone());
        harness.set("notify.url", harness.server.notify_url.clone());
        harness.reload("applied").await;
        harness.until_true(user, &[page]).await;
        harness.complete().await;
        harness.finish().await;
    }
}

/// One rule for all three: a variable that the daemon inherited sends nothing elsewhere.
#[tokio::test(flavor = "multi_thread")]
async fn proxies_of_the_environment_are_not_used() {
    let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", proxy.local_addr().unwrap());
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    tokio::spawn(async move {
        while proxy.accept().await.is_ok() {
            counted.fetch_add(1, Ordering::SeqCst);
        }
    });
    let mut plan = Harness::plan();
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
        plan = plan.env(name, &address).env(&name.to_lowercase(), &address);
    }
    let harness = plan.env("NO_PROXY", "").env("no_proxy", "").start().await;
    let user = harness.linked().await;
    let pages = harness.pages();
    harness.until_true(user, &pages).await;
    until("the receiver was notified", async || harness.world().events_taken().len() >= pages.len()).await;
    assert_eq!(asked.load(Ordering::SeqCst), 0, "the proxy was asked");
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_redirect_takes_a_signature_elsewhere() {
    let elsewhere = Endless::start("HTTP/1.1 200 OK\r\n\r\n").await;
    let redirecting = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", redirecting.local_addr().unwrap());
    let target = elsewhere.url.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = redirecting.accept().await {
            let text =
                format!("HTTP/1.1 307 There\r\nlocation: {target}/\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
            let mut request = [0; 64 << 10];
            // A client that hangs up early is answered nothing.
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(text.as_bytes()).await;
        }
    });
    let mut harness = Harness::plan().build().await;
    let right = harness.setting("spaces.endpoint");
    harness.set("spaces.endpoint", endpoint.as_str());
    harness.daemon.start().await.unwrap();
    until("the redirect is reported as a wrong setting", async || {
        let spaces = harness.status().await["spaces"].clone();
        spaces["ok"] == false && spaces["error"].as_str().unwrap().contains("check spaces.region and spaces.endpoint")
    })
    .await;
    assert_eq!(harness.get("/readyz").await.status, 503);
    assert_eq!(elsewhere.answers.load(Ordering::SeqCst) + elsewhere.most.load(Ordering::SeqCst), 0);
    harness.set("spaces.endpoint", right);
    harness.reload("applied").await;
    let user = harness.linked().await;
    harness.until_true(user, &harness.pages()).await;
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_authority_is_named_by_the_refusal_and_trusted_once_it_is_configured() {
    let mut harness = Harness::plan().build().await;
    let authority = Authority::new();
    let endpoint = authority.front(&harness.server.spaces_endpoint).await;
    let notify_url = harness.server.notify_url.clone();
    let (receiver, path) = notify_url.split_at(notify_url.rfind('/').unwrap());
    let receiver = format!("{}{path}", authority.front(receiver).await);
    harness.set("spaces.endpoint", endpoint.as_str());
    harness.set("notify.url", receiver.as_str());

    let output = harness.run(&["check", "--online"]).await;
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(78), "{said}");
    assert!(said.contains("spaces.ca_file"), "{said}");

    harness.daemon.start().await.unwrap();
    let user = UserId::random();
    assert_eq!(harness.log_in(user, ADA, "all").await.status, 200);
    until("both refusals name the key", async || {
        let status = harness.status().await;
        let names = |section: &str, key: &str| status[section]["error"].as_str().is_some_and(|e| e.contains(key));
        names("spaces", "spaces.ca_file") && names("notify", "notify.ca_file")
    })
    .await;
    let ready = harness.get("/readyz").await;
    assert_eq!(ready.status, 503);
    assert!(ready.json()["spaces"]["error"].as_str().unwrap().contains("spaces.ca_file"), "{}", ready.text());
    let refused = "pagesyncd_spaces_requests_total{op=\"get\",outcome=\"misconfigured\"}";
    assert!(harness.metric(refused).await > 0.0, "{}", harness.metrics().await);

    // A file that is of no use is refused by its key, and nothing changes.
    let file = harness.scratch_dir().join("ca.pem");
    std::fs::write(&file, "no certificate\n").unwrap();
    harness.set("spaces.ca_file", file.to_str().unwrap());
    harness.set("notify.ca_file", file.to_str().unwrap());
    harness.expect_errors("it holds no certificate");
    harness.expect_errors("everybody may read");
    harness.expect_errors("the reload is refused");
    harness.reload("refused").await;
    assert!(harness.status().await["config"]["last_error"].as_str().unwrap().contains("spaces.ca_file"));

    std::fs::write(&file, authority.pem()).unwrap();
    harness.reload("applied").await;
    harness.until_true(user, &harness.pages()).await;
    until("the receiver was notified", async || harness.world().events_taken().len() >= harness.pages().len()).await;
    assert_eq!(harness.get("/readyz").await.status, 200);
    assert_eq!(harness.run(&["check", "--online"]).await.status.code(), Some(0));
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_systems_authorities_are_trusted_and_their_absence_is_a_warning() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("system.pem");
    let authority = Authority::new();
    std::fs::write(&file, authority.pem()).unwrap();
    let mut harness = Harness::plan().env("SSL_CERT_FILE", file.to_str().unwrap()).build().await;
    let endpoint = authority.front(&harness.server.spaces_endpoint).await;
    let graph = authority.front(&harness.server.graph_url).await;
    harness.set("spaces.endpoint", endpoint);
    harness.set("facebook.graph_url", graph);
    harness.daemon.start().await.unwrap();
    let user = harness.linked().await;
    harness.until_true(user, &harness.pages()).await;

    std::fs::remove_file(&file).unwrap();
    harness.set("spaces.endpoint", harness.server.spaces_endpoint.clone());
    harness.restart().await;
    assert!(harness.log().contains("tls: a certificate of the system cannot be read ("));
    until("the refusal of Graph's certificate names the remedy", async || {
        let graph = harness.status().await["graph"]["health"].clone();
        graph["error"].as_str().is_some_and(|e| e.contains("add that authority to the system's certificates"))
    })
    .await;
    harness.set("facebook.graph_url", harness.server.graph_url.clone());
    harness.reload("applied").await;
    until("the daemon is ready without the system's certificates", async || harness.get("/readyz").await.status == 200)
        .await;
    harness.finish().await;
}
