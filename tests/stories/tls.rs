//! TLS in the public listener: it serves all that plain HTTP does, a renewed certificate is shown without a refusal,
//! and handshakes that never end keep nobody out.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rcgen::CertificateParams;
use rustls::version::{TLS12, TLS13};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::harness::tls::{Authority, Pair};
use crate::harness::{Harness, Plan, delivery, memory, until};

const BOTH: &[&rustls::SupportedProtocolVersion] = &[&TLS12, &TLS13];
/// An answer or a close comes within this.
const PATIENCE: Duration = Duration::from_secs(20);
const HELLO: &[u8] = b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03";

async fn secured(authority: &Authority, plan: Plan) -> Harness {
    let harness = authority.harness(plan).await;
    harness.daemon.start().await.unwrap();
    harness
}

fn ended(result: &str) -> String {
    format!("pagesyncd_tls_handshakes_total{{result=\"{result}\"}}")
}

/// A whole exchange on a connection of its own.
async fn exchange(authority: &Authority, harness: &Harness, request: &str) -> String {
    let mut stream = authority.connect(&harness.tls_address(), BOTH, None).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // Without the closing alert this is an error.
    timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
    String::from_utf8(answer).unwrap()
}

async fn webhooks_get_through(authority: &Authority, harness: &Harness) {
    for _ in 0..3 {
        let body = delivery(&["123"]);
        let signature = harness.world().sign(body.as_bytes());
        let request = format!(
            "POST /facebook/webhook HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Hub-Signature-256: {signature}\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let answer = exchange(authority, harness, &request).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn logins_and_webhooks_travel_over_tls_from_end_to_end() {
    let authority = Authority::new();
    let trusted = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(trusted.path(), authority.pem()).unwrap();
    let plan = Harness::plan().env("SSL_CERT_FILE", trusted.path().to_str().unwrap());
    let harness = secured(&authority, plan).await;
    let user = harness.linked().await;
    let page = harness.nth(0);
    // Facebook delivers it, and the poll is a day away.
    harness.world().edit_page(&page, "name", "Over TLS".into()).unwrap();
    harness.until_true(user, &[page]).await;
    assert!(!harness.log().contains("the round trip to the own address failed"));

    for version in BOTH {
        let mut stream = authority.connect(&harness.tls_address(), &[version], None).await.unwrap();
        // Two requests on one connection, and the last of HTTP/1.0.
        for (request, status) in [
            ("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 200 "),
            ("GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 404 "),
            ("GET /healthz HTTP/1.0\r\n\r\n", "HTTP/1.0 200 "),
        ] {
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut bytes = [0; 4096];
            let count = timeout(PATIENCE, stream.read(&mut bytes)).await.unwrap().unwrap();
            assert!(bytes[..count].starts_with(status.as_bytes()), "{:?}", String::from_utf8_lossy(&bytes[..count]));
        }
        assert_eq!(timeout(PATIENCE, stream.read(&mut [0; 16])).await.unwrap().unwrap(), 0);
        assert_eq!(stream.get_ref().1.protocol_version(), Some(version.version));
    }
    let large = format!(
        "POST /facebook/webhook HTTP/1.1\r\nHost: x\r\nX-Hub-Signature-256: sha256={}\r\nContent-Length: 9999999\r\n\r\n{}",
        "0".repeat(64),
        "x".repeat(9_999_999)
    );
    assert!(exchange(&authority, &harness, &large).await.starts_with("HTTP/1.1 413 "));
    assert!(harness.metric(&ended("completed")).await > 5.0);
    let expiry = harness.metric("pagesyncd_certificate_expiry_timestamp_seconds").await;
    assert!(expiry > 1.7e9, "{expiry}");
    let tls = harness.status().await["tls"].clone();
    assert_eq!((&tls["from"], &tls["names"][0]), (&"files".into(), &"localhost".into()), "{tls}");
    let said = String::from_utf8(harness.run(&["status"]).await.stdout).unwrap();
    assert!(said.contains("\ntls      certificate for localhost, valid until "), "{said}");
    harness.finish().await;
}

/// Sends webhooks, each on a connection of its own, until it is stopped; it counts the answers 200 and keeps the
/// others.
struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    tasks: Vec<tokio::task::JoinHandle<Vec<String>>>,
}

impl Load {
    fn start(harness: &Harness, client: impl Fn() -> reqwest::Client) -> Load {
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let url = format!("{}/facebook/webhook", harness.base);
        let body = delivery(&["123"]);
        let signature = harness.world().sign(body.as_bytes());
        let one = |client: reqwest::Client| {
            let (stop, answered, url) = (stop.clone(), answered.clone(), url.clone());
            let (body, signature) = (body.clone(), signature.clone());
            tokio::spawn(async move {
                let mut wrong = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let request = client.post(&url).header("connection", "close");
                    let request = request.header("x-hub-signature-256", &signature).body(body.clone());
                    match request.send().await {
                        Ok(answer) if answer.status() == 200 => _ = answered.fetch_add(1, Ordering::Relaxed),
                        Ok(answer) => wrong.push(answer.status().to_string()),
                        Err(error) => wrong.push(format!("{error:?}")),
                    }
                }
                wrong
            })
        };
        Load { tasks: (0..4).map(|_| one(client())).collect(), stop, answered }
    }

    async fn goes_on(&self) {
        let before = self.answered.load(Ordering::Relaxed);
        until("requests are answered", async || self.answered.load(Ordering::Relaxed) >= before + 20).await;
    }

    async fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            assert_eq!(task.await.unwrap(), Vec::<String>::new());
        }
    }
}

async fn shown(authority: &Authority, harness: &Harness) -> rustls::pki_types::CertificateDer<'static> {
    let stream = authority.connect(&harness.tls_address(), BOTH, None).await.unwrap();
    stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_certificate_is_shown_under_load_and_a_wrong_one_never() {
    let authority = Authority::new();
    let mut harness = secured(&authority, Harness::plan().daemon(|setup| setup.log_level = "info".into())).await;
    harness.expect_errors("http.tls.key");
    harness.expect_errors("the reload is refused");
    harness.expect_errors("http.tls.certificate");
    let mut kept = authority.connect(&harness.tls_address(), BOTH, None).await.unwrap();
    let load = Load::start(&harness, || authority.http(None));
    load.goes_on().await;
    let mut current = shown(&authority, &harness).await;
    for _ in 0..3 {
        let renewed = authority.issue(&["localhost"]);
        harness.show(&renewed);
        harness.reload("applied").await;
        assert_eq!(shown(&authority, &harness).await, renewed.der());
        assert_ne!(renewed.der(), current);
        current = renewed.der();
        load.goes_on().await;

        let other = authority.issue(&["localhost"]);
        let good_key = std::fs::read_to_string(harness.scratch_dir().join("key.pem")).unwrap();
        for (pair, named) in [
            (Pair { chain: other.chain.clone(), key: good_key.clone() }, "http.tls.key"),
            (Pair { chain: "nothing\n".into(), key: good_key.clone() }, "http.tls.certificate"),
            (Pair { chain: other.chain, key: "nothing\n".into() }, "http.tls.key"),
        ] {
            harness.show(&pair);
            harness.reload("refused").await;
            let error = harness.status().await["config"]["last_error"].as_str().unwrap().to_owned();
            assert!(error.contains(named), "{error}");
            assert_eq!(shown(&authority, &harness).await, current);
        }
        load.goes_on().await;
    }
    load.end().await;
    // The connection of before goes on.
    kept.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut bytes = [0; 64];
    timeout(PATIENCE, kept.read_exact(&mut bytes)).await.unwrap().unwrap();
    assert!(bytes.starts_with(b"HTTP/1.1 200 "));
    an_expired_certificate_is_a_problem_until_it_is_renewed(&authority, &mut harness).await;
    harness.finish().await;
}

async fn an_expired_certificate_is_a_problem_until_it_is_renewed(authority: &Authority, harness: &mut Harness) {
    let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    (params.not_before, params.not_after) = (rcgen::date_time_ymd(2020, 1, 1), rcgen::date_time_ymd(2020, 4, 1));
    harness.show(&authority.sign(params));
    harness.reload("applied").await;
    let problems = harness.status().await["problems"].clone();
    assert_eq!((&problems[0]["code"], &problems[1]), (&"certificate_invalid".into(), &Value::Null), "{problems}");
    assert!(problems[0]["message"].as_str().unwrap().contains("expired on 2020-04-01T00:00:00Z"), "{problems}");
    assert_eq!(harness.metric("pagesyncd_certificate_expiry_timestamp_seconds").await, 1_585_699_200.0);
    assert_eq!(harness.metric("pagesyncd_certificate_lifetime_seconds").await, 91.0 * 24.0 * 60.0 * 60.0);
    harness.show(&authority.issue(&["localhost"]));
    harness.reload("applied").await;
    assert_eq!(harness.status().await["problems"], serde_json::json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_turns_tls_on_and_off() {
    let authority = Authority::new();
    let mut harness = Harness::plan().start().await;
    let plain = harness.base.clone();
    harness.show(&authority.issue(&["localhost"]));
    harness.reload("applied").await;
    harness.base = plain.replace("http://127.0.0.1", "https://localhost");
    harness.http = authority.http(None);
    assert_eq!(harness.get("/healthz").await.status, 200);
    assert!(harness.http.get(format!("{plain}/healthz")).send().await.is_err());
    harness.unset("http.tls.certificate");
    harness.unset("http.tls.key");
    harness.reload("applied").await;
    harness.base = plain;
    // Its connections of before are over TLS.
    harness.http = authority.http(None);
    assert_eq!(harness.get("/healthz").await.status, 200);
    assert!(!harness.metrics().await.contains("pagesyncd_certificate_expiry"));
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn handshakes_that_do_not_end_are_cut_off() {
    let authority = Authority::new();
    let harness = secured(&authority, Harness::plan().set("http.header_timeout", "1s")).await;
    for (sent, drips) in [(&b""[..], false), (HELLO, false), (HELLO, true)] {
        let (mut reader, mut writer) = TcpStream::connect(harness.tls_address()).await.unwrap().into_split();
        let dripping = tokio::spawn(async move {
            let _ = writer.write_all(sent).await;
            while writer.write_all(if drips { b"x" } else { b"" }).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        let (started, mut said) = (Instant::now(), Vec::new());
        let _ = timeout(PATIENCE, reader.read_to_end(&mut said)).await.expect("it is borne for ever");
        dripping.abort();
        assert!(started.elapsed() >= Duration::from_millis(900), "closed after {:?}", started.elapsed());
        assert!(said.is_empty(), "{said:?}");
    }
    assert_eq!(harness.metric(&ended("too_slow")).await, 3.0);
    // One that says nothing behind its handshake is closed as well.
    let mut stream = authority.connect(&harness.tls_address(), BOTH, None).await.unwrap();
    let read = timeout(PATIENCE, stream.read(&mut [0; 16])).await.unwrap();
    // It is dropped, as in clear text.
    assert_eq!(read.map_err(|error| error.kind()), Err(std::io::ErrorKind::UnexpectedEof));
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_of_silent_handshakes_keeps_no_webhook_out() {
    let authority = Authority::new();
    let plan = Harness::plan().set("http.max_connections", 64).set("http.header_timeout", "60s");
    let harness = secured(&authority, plan.daemon(|setup| setup.log_level = "info".into())).await;
    webhooks_get_through(&authority, &harness).await;
    let (before, mut raw, mut shaken) = (memory(&harness), Vec::new(), Vec::new());
    for n in 0..300 {
        match n % 3 {
            0 => shaken.push(authority.connect(&harness.tls_address(), BOTH, None).await.unwrap()),
            part => {
                let mut stream = TcpStream::connect(harness.tls_address()).await.unwrap();
                stream.write_all(if part == 1 { b"" } else { HELLO }).await.unwrap();
                raw.push(stream);
            }
        }
        if n % 60 == 59 {
            webhooks_get_through(&authority, &harness).await;
        }
    }
    let open = harness.metric("pagesyncd_connections").await;
    assert!(open <= 64.0, "{open} connections are open");
    let growth = memory(&harness) - before;
    assert!(growth < 60.0, "the daemon grew by {growth:.0} MiB");
    drop((raw, shaken));
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_http_gets_an_alert_and_a_close() {
    let authority = Authority::new();
    let harness = secured(&authority, Harness::plan()).await;
    for body in [0, 100_000] {
        let mut stream = TcpStream::connect(harness.tls_address()).await.unwrap();
        let request = format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {body}\r\n\r\n{}", "x".repeat(body));
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut said = Vec::new();
        // A reset would be an error.
        timeout(PATIENCE, stream.read_to_end(&mut said)).await.unwrap().unwrap();
        assert_eq!((said.first(), said.len()), (Some(&21), 7), "{said:?}");
    }
    assert_eq!(harness.metric(&ended("plain_text")).await, 2.0);
    // One that breaks off, and one that trusts another authority.
    let mut stream = TcpStream::connect(harness.tls_address()).await.unwrap();
    stream.write_all(HELLO).await.unwrap();
    drop(stream);
    assert!(Authority::new().connect(&harness.tls_address(), BOTH, None).await.is_err());
    until("both are counted", async || {
        harness.metric(&ended("broken_off")).await == 1.0 && harness.metric(&ended("distrusted")).await == 1.0
    })
    .await;
    webhooks_get_through(&authority, &harness).await;
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_under_load_ends_well_over_tls() {
    let authority = Authority::new();
    let harness = secured(&authority, Harness::plan()).await;
    let user = harness.linked().await;
    let pages = harness.pages();
    for round in 0..3 {
        for page in &pages {
            harness.world().edit_page(page, "name", format!("Round {round} of {page}").into()).unwrap();
        }
        let shaking = TcpStream::connect(harness.tls_address()).await.unwrap();
        let _rests = authority.connect(&harness.tls_address(), BOTH, None).await.unwrap();
        let started = Instant::now();
        harness.restart().await;
        assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
        drop(shaking);
    }
    harness.until_true(user, &pages).await;
    harness.finish().await;
}

const META: &str = "client.webhooks.fbclientcerts.com";

#[tokio::test(flavor = "multi_thread")]
async fn with_client_certificates_the_webhook_takes_facebooks_alone() {
    let (authority, metas, strange) = (Authority::new(), Authority::new(), Authority::new());
    let trusted = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(trusted.path(), authority.pem()).unwrap();
    let plan = Harness::plan().env("SSL_CERT_FILE", trusted.path().to_str().unwrap());
    let mut harness = authority.harness(plan).await;
    let file = harness.scratch_dir().join("meta.pem");
    std::fs::write(&file, metas.pem()).unwrap();
    harness.set("http.tls.client_ca_file", file.to_str().unwrap());
    harness.daemon.start().await.unwrap();
    let right = metas.issue_client(META, &[]);
    harness.world().call_with(authority.http(Some(&right)));
    // The login and the round trip to the own webhook come without a certificate.
    let user = harness.linked().await;
    assert!(!harness.log().contains("the round trip to the own address failed"));
    let page = harness.nth(0);
    harness.world().edit_page(&page, "name", "Shown a certificate".into()).unwrap();
    harness.until_true(user, &[page]).await;

    let refused = "pagesyncd_webhook_deliveries_total{result=\"client_certificate\"}";
    let refused_before = harness.metric(refused).await;
    for (what, pair, status) in [
        ("none", None, 403),
        ("the common name", Some(metas.issue_client(META, &[])), 200),
        ("the alternative name", Some(metas.issue_client("Meta", &["a.example.com", META])), 200),
        ("another name", Some(metas.issue_client("other.example.com", &[])), 403),
        ("another alternative name", Some(metas.issue_client(META, &["other.example.com"])), 403),
    ] {
        harness.http = authority.http(pair.as_ref());
        let answer = harness.deliver(delivery(&["123"])).await;
        assert_eq!(answer.status, status, "{what}: {}", answer.text());
        if status == 403 {
            assert_eq!((answer.code().as_str(), answer.header("connection")), ("client_certificate", "close"));
        }
        for (path, status) in [("/facebook/login", 400), ("/healthz", 200)] {
            assert_eq!(harness.get(path).await.status, status, "{what}: {path}");
        }
    }
    assert_eq!(harness.metric(refused).await, refused_before + 3.0);
    // A certificate of an authority that is not named ends the handshake, in both versions.
    for version in BOTH {
        let mut said = Vec::new();
        let read = async {
            let pair = strange.issue_client(META, &[]);
            let mut stream = authority.connect(&harness.tls_address(), &[version], Some(&pair)).await?;
            stream.read_to_end(&mut said).await
        };
        let error = timeout(PATIENCE, read).await.unwrap().unwrap_err().to_string();
        // The second for a namesake of an authority that is named.
        assert!(error.contains("UnknownCA") || error.contains("DecryptError"), "{error}");
    }
    // And so does one that is for servers.
    let server = metas.sign({
        let mut params = CertificateParams::new([META.to_owned()]).unwrap();
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
        params
    });
    assert!(authority.http(Some(&server)).get(format!("{}/healthz", harness.base)).send().await.is_err());
    assert_eq!(harness.metric(&ended("client_certificate")).await, 3.0);
    // Another name is asked for, and then none.
    harness.set("http.tls.client_name", "other.example.com");
    harness.reload("applied").await;
    harness.http = authority.http(Some(&right));
    assert_eq!(harness.deliver(delivery(&["123"])).await.status, 403);
    harness.unset("http.tls.client_ca_file");
    harness.reload("applied").await;
    harness.http = authority.http(None);
    assert_eq!(harness.deliver(delivery(&["123"])).await.status, 200);
    harness.finish().await;
}
