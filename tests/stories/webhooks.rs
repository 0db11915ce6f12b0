//! Webhooks at the public listener: the handshake, every answer, every shape.

use std::io::Write as _;
use std::process::Command;
use std::time::{Duration, Instant};

use pagesyncd::core::model::UserId;
use pagesyncd::sandbox::fault::Fault;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::leaks::{overhear, peer};
use crate::harness::{ADA, Harness, delivery, eventually, sha1, sha256, until};

const HOOK: &str = "/facebook/webhook";

async fn connect(harness: &Harness) -> TcpStream {
    TcpStream::connect(harness.base.strip_prefix("http://").unwrap()).await.unwrap()
}

/// A whole signed request as bytes.
fn raw(harness: &Harness, body: &str) -> Vec<u8> {
    let signature = harness.world().sign(body.as_bytes());
    harness.keep_secret(signature.trim_start_matches("sha256="));
    let mut text = format!("POST {HOOK} HTTP/1.1\r\nhost: x\r\nx-hub-signature-256: {signature}\r\n").into_bytes();
    write!(text, "content-length: {}\r\n\r\n{body}", body.len()).unwrap();
    text
}

/// Reads one answer with a content length: its status and body.
async fn read_answer(stream: &mut TcpStream, rest: &mut Vec<u8>) -> (u16, String) {
    loop {
        if let Some(end) = rest.windows(4).position(|w| w == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&rest[..end]).to_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let length: usize = length.unwrap().trim().parse().unwrap();
            if rest.len() >= end + 4 + length {
                let body = String::from_utf8_lossy(&rest[end + 4..end + 4 + length]).into_owned();
                let status = head.split(' ').nth(1).unwrap().parse().unwrap();
                rest.drain(..end + 4 + length);
                return (status, body);
            }
        }
        let mut bytes = [0; 4096];
        let count = stream.read(&mut bytes).await.unwrap();
        overhear(peer(stream), &[rest, &bytes[..count]].concat());
        assert!(count > 0, "closed after {:?}", String::from_utf8_lossy(rest));
        rest.extend_from_slice(&bytes[..count]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_handshake_answers_the_bare_challenge_to_whoever_knows_the_token() {
    let harness = Harness::plan().start().await;
    let token = harness.setting("facebook.verify_token").as_str().unwrap().to_owned();
    let shake = async |query: &str| harness.get(&format!("{HOOK}?{query}")).await;
    let right = format!("hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token={token}");
    let answer = shake(&right).await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "1158201444"));
    assert!(answer.header("content-type").starts_with("text/plain"));
    let encoded = format!("hub%2Emode=subscribe&hub%2Everify_token={token}&hub%2Echallenge=a%2Db");
    assert_eq!(shake(&encoded).await.text(), "a-b");
    for wrong in [
        String::new(),
        right.replace(&token, "wrong"),
        right.replace(&token, ""),
        right.replace(&token, &token[..token.len() - 1]),
        right.replace("subscribe", "unsubscribe"),
        right.replace("1158201444", ""),
        right.replace("1158201444", "%3Cscript%3E%0A"),
        right.replace("1158201444", &"9".repeat(5000)),
        format!("hub.mode=subscribe&hub.verify_token={token}"),
    ] {
        let answer = shake(&wrong).await;
        assert_eq!(answer.status, 403, "{wrong}");
        assert!(!answer.text().contains("<script"));
    }
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_is_taken_with_the_right_signature_alone() {
    let mut harness = Harness::plan().start().await;
    let user = harness.linked().await;
    let page = harness.nth(0);
    let body = delivery(&[&page]);
    let secret = harness.server.app_secret.clone();
    let (good, old) = (sha256(&secret, body.as_bytes()), sha1(&secret, body.as_bytes()));
    harness.world().set_fault(Fault::WebhooksLost, true);
    let answer = harness.post_hook(body.clone(), &[("x-hub-signature-256", &good)]).await;
    assert_eq!((answer.status, answer.json()), (200, json!({"status": "success"})));
    assert_eq!(answer.header("content-type"), "application/json");
    let upper = format!("sha256={}", good[7..].to_uppercase());
    let forged = sha256("somebody else's secret", body.as_bytes());
    let spoiled = format!("{}{}", &good[..70], if good.ends_with('0') { "1" } else { "0" });
    let forged_old = sha1("somebody else's secret", body.as_bytes());
    let wrong: [&[(&str, &str)]; 10] = [
        &[],
        &[("x-hub-signature-256", "")],
        &[("x-hub-signature-256", "sha256=")],
        &[("x-hub-signature-256", &good[..70])],
        &[("x-hub-signature-256", &good[7..])],
        &[("x-hub-signature-256", &spoiled)],
        &[("x-hub-signature-256", &forged)],
        &[("x-hub-signature-256", &old)],
        &[("x-hub-signature", &forged_old)],
        // A wrong new one is not made good by a right old one.
        &[("x-hub-signature-256", &forged), ("x-hub-signature", &old)],
    ];
    for headers in wrong {
        let answer = harness.post_hook(body.clone(), headers).await;
        assert_eq!((answer.status, answer.code().as_str()), (401, "bad_signature"), "{headers:?}");
    }
    assert_eq!(harness.post_hook(body.clone(), &[("x-hub-signature-256", &upper)]).await.status, 200);
    // Another body under a good signature; a delivery that says the same in other bytes is another body.
    let same = body.replace("\":", "\": ");
    assert_eq!(harness.post_hook(same, &[("x-hub-signature-256", &good)]).await.status, 401);
    // SHA-1 alone, as long as it is accepted.
    assert_eq!(harness.post_hook(body.clone(), &[("x-hub-signature", &old)]).await.status, 200);
    harness.set("facebook.accept_sha1", false);
    harness.reload("applied").await;
    assert_eq!(harness.post_hook(body.clone(), &[("x-hub-signature", &old)]).await.status, 401);
    // While the secret is rotated both are good, and afterwards the new one alone.
    let fresh = "fedcba9876543210fedcba9876543210";
    harness.set("facebook.app_secret", fresh);
    harness.set("facebook.previous_app_secret", secret.as_str());
    harness.world().change(|s| s.app.secret = fresh.into());
    harness.reload("applied").await;
    let new = sha256(fresh, body.as_bytes());
    assert_eq!(harness.post_hook(body.clone(), &[("x-hub-signature-256", &good)]).await.status, 200);
    assert_eq!(harness.post_hook(body.clone(), &[("x-hub-signature-256", &new)]).await.status, 200);
    harness.set("facebook.previous_app_secret", "");
    harness.reload("applied").await;
    assert_eq!(harness.post_hook(body.clone(), &[("x-hub-signature-256", &good)]).await.status, 401);
    assert_eq!(harness.post_hook(body.clone(), &[("x-hub-signature-256", &new)]).await.status, 200);
    let refused = harness.metric("pagesyncd_webhook_deliveries_total{result=\"bad_signature\"}").await;
    assert_eq!(refused, 13.0);
    harness.until_true(user, &harness.pages()).await;
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_json_too_large_or_too_slow_is_refused_by_its_own_code() {
    let plan = Harness::plan().set("http.max_body_bytes", 100_000).set("http.body_timeout", "500ms");
    let harness = plan.set("http.header_timeout", "1s").start().await;
    for body in ["", "{", "not json", "{\"object\":\"page\"", "\u{feff}{}", "{}{}"] {
        let answer = harness.deliver(body).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "not_json"), "{body:?}");
    }
    assert_eq!(harness.deliver(vec![0xff, 0xfe, 0x00]).await.status, 400);
    let deep = format!("{}{}", "[".repeat(50_000), "]".repeat(50_000));
    assert!(matches!(harness.deliver(deep).await.status, 200 | 400));
    // Too large by its own account: answered before the body is sent.
    let mut stream = connect(&harness).await;
    let head = format!(
        "POST {HOOK} HTTP/1.1\r\nhost: x\r\nx-hub-signature-256: sha256={}\r\ncontent-length: 100001\r\n\r\n",
        "0".repeat(64)
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let (status, text) = read_answer(&mut stream, &mut Vec::new()).await;
    assert_eq!((status, text.contains("too_large")), (413, true));
    // Too large in fact, in chunks.
    let mut stream = connect(&harness).await;
    let head = head.replace("content-length: 100001", "transfer-encoding: chunked");
    stream.write_all(head.as_bytes()).await.unwrap();
    let chunk = format!("{:x}\r\n{}\r\n", 10_000, "x".repeat(10_000));
    for _ in 0..11 {
        // The listener may have closed already.
        let _ = stream.write_all(chunk.as_bytes()).await;
    }
    assert_eq!(read_answer(&mut stream, &mut Vec::new()).await.0, 413);
    // As large as allowed, in chunks and otherwise.
    let filler = "x".repeat(100_000 - r#"{"object":"page","x":""}"#.len());
    let body = format!(r#"{{"object":"page","x":"{filler}"}}"#);
    assert_eq!((body.len(), harness.deliver(body.clone()).await.status), (100_000, 200));
    assert_eq!(harness.deliver(format!("{body} ")).await.status, 413);
    let signature = harness.world().sign(body.as_bytes());
    let mut stream = connect(&harness).await;
    let head = format!(
        "POST {HOOK} HTTP/1.1\r\nhost: x\r\nx-hub-signature-256: {signature}\r\ntransfer-encoding: chunked\r\n\r\n"
    );
    stream.write_all(format!("{head}{:x}\r\n{body}\r\n0\r\n\r\n", body.len()).as_bytes()).await.unwrap();
    assert_eq!(read_answer(&mut stream, &mut Vec::new()).await.0, 200);
    // A body that does not come.
    let mut stream = connect(&harness).await;
    let whole = raw(&harness, &body);
    stream.write_all(&whole[..whole.len() - 1]).await.unwrap();
    let (status, text) = read_answer(&mut stream, &mut Vec::new()).await;
    assert_eq!((status, text.contains("too_slow")), (408, true));
    // A header that does not come ends the connection.
    let mut stream = connect(&harness).await;
    stream.write_all(b"POST /facebook/webhook HTTP/1.1\r\nhost: x\r\n").await.unwrap();
    let mut rest = Vec::new();
    tokio::time::timeout(Duration::from_secs(30), stream.read_to_end(&mut rest)).await.unwrap().unwrap();
    for (result, count) in [("malformed", 7.0), ("too_large", 3.0), ("too_slow", 1.0)] {
        let name = format!("pagesyncd_webhook_deliveries_total{{result=\"{result}\"}}");
        assert!(harness.metric(&name).await >= count, "{name}");
    }
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_and_methods_that_are_not_there_are_named() {
    let harness = Harness::plan().start().await;
    for path in ["/", "/facebook", "/facebook/webhook/", "/metrics", "/v1/status", "/facebook/data-deletion/a/b"] {
        let answer = harness.get(path).await;
        assert_eq!((answer.status, answer.code().as_str()), (404, "not_found"), "{path}");
    }
    for (method, path, allow) in [
        ("PUT", HOOK, "GET, POST"),
        ("POST", "/facebook/login", "GET"),
        ("POST", "/facebook/callback", "GET"),
        ("GET", "/facebook/deauthorize", "POST"),
        ("GET", "/facebook/data-deletion", "POST"),
        ("POST", "/facebook/data-deletion/abc", "GET"),
        ("DELETE", "/healthz", "GET, HEAD"),
        ("POST", "/readyz", "GET, HEAD"),
    ] {
        let request = harness.http.request(method.parse().unwrap(), format!("{}{path}", harness.base));
        let answer = harness.send(request).await;
        assert_eq!((answer.status, answer.header("allow")), (405, allow), "{method} {path}");
        assert_eq!(answer.code(), "method_not_allowed");
    }
    assert_eq!(harness.get("/healthz").await.status, 200);
    harness.linked().await;
    until("it is ready", async || harness.get("/readyz").await.status == 200).await;
    let ready = harness.get("/readyz").await.json();
    for dependency in ["store", "graph", "spaces"] {
        assert_eq!(ready[dependency]["ok"], true, "{ready}");
    }
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_shape_of_delivery_leads_to_a_read_of_its_page() {
    let harness = Harness::plan().pages(2).start().await;
    harness.linked().await;
    let page = harness.nth(0);
    let number: u64 = page.parse().unwrap();
    let time = 1_458_692_752;
    let shapes: Vec<Value> = vec![
        json!([{"id": page, "time": time, "changes": [{"field": "name", "value": "New name"}]}]),
        json!([{"id": page, "time": time, "changes": [{"field": "parking"}]}]),
        json!([{"id": page, "time": time, "changes": [{"field": "feed", "value": {"item": "like", "verb": "add"}}]}]),
        json!([{"id": page, "time": time, "changes": [{"field": "x", "value": ["a", 1, null]}]}]),
        json!([{"id": page, "time": time, "changed_fields": ["name", "phone"]}]),
        json!([{"id": number, "time": time, "changed_fields": ["name"]}]),
        json!([{"id": page, "time": 1_457_764_198_246u64, "messaging": [
            {"sender": {"id": "9"}, "recipient": {"id": page}, "timestamp": 1_457_764_197_627u64,
             "message": {"mid": "m_1", "text": "hi"}}]}]),
        json!([{"id": page, "time": time, "standby": [{"sender": {"id": "9"}}]}]),
        json!([{"id": page, "time": time}]),
        json!([{"id": page}, {"id": page, "changes": []}, {"id": "77"}]),
    ];
    for entry in shapes {
        let before = harness.world().graph_reads(&page);
        let body = json!({"object": "page", "entry": entry});
        assert_eq!(harness.deliver(body.to_string()).await.status, 200, "{body}");
        until(&format!("{body} is followed by a read"), async || harness.world().graph_reads(&page) > before).await;
        harness.complete().await;
    }
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_concerns_nobody_here_is_thanked_for_and_dropped() {
    let harness = Harness::plan().pages(2).start().await;
    harness.linked().await;
    let (page, reads) = (harness.nth(0), harness.world().graph_reads(&harness.nth(0)));
    for body in [
        json!({"object": "page", "entry": [{"id": "0", "time": 1, "changes": [{"field": "name", "value": "x"}]}]}),
        json!({"object": "page", "entry": [{"id": "4444444444", "time": 1, "changed_fields": ["name"]}]}),
        json!({"object": "page", "entry": [{"id": "../../etc", "time": 1}, {"id": null}, {"id": {"a": 1}}, {}]}),
        json!({"object": "page", "entry": []}),
        json!({"object": "page"}),
        json!({"object": "page", "entry": {"id": page}}),
        json!({"object": "instagram", "entry": [{"id": page, "time": 1}]}),
        json!({"object": "permissions", "entry": [{"uid": "9", "id": page, "changes": [
            {"field": "pages_show_list", "value": {"verb": "revoked", "target_ids": [page]}}]}]}),
        json!({"entry": [{"id": page}]}),
        json!([]),
        json!("page"),
        json!(null),
    ] {
        assert_eq!(harness.deliver(body.to_string()).await.status, 200, "{body}");
    }
    assert_eq!(harness.status().await["due"], 0);
    // A page that is concerned is read after all of them, and once.
    assert_eq!(harness.deliver(delivery(&[&page])).await.status, 200);
    until("the last delivery is followed by a read", async || harness.world().graph_reads(&page) > reads).await;
    harness.complete().await;
    assert_eq!(harness.world().graph_reads(&page), reads + 1);
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn doubled_and_reordered_deliveries_do_no_harm() {
    let harness = Harness::plan().start().await;
    let user = harness.linked().await;
    harness.world().set_fault(Fault::WebhooksDuplicated, true);
    harness.world().set_fault(Fault::WebhooksReordered, true);
    for round in 0..20 {
        for page in harness.pages() {
            harness.world().edit_page(&page, "name", format!("Round {round}").into()).unwrap();
            harness.world().edit_page(&page, "phone", format!("+1 555 01{round:02}").into()).unwrap();
        }
        if round % 5 == 0 {
            harness.until_true(user, &harness.pages()).await;
        }
    }
    harness.complete().await;
    harness.until_true(user, &harness.pages()).await;
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_delivery_may_name_a_thousand_entries() {
    let harness = Harness::plan().pages(100).start().await;
    let user = harness.linked().await;
    harness.world().set_fault(Fault::WebhooksLost, true);
    let pages = harness.pages();
    for page in &pages {
        harness.world().edit_page(page, "about", format!("New at {page}").into()).unwrap();
    }
    let strangers = (0..400).map(|n| format!("88{n:06}"));
    let entries: Vec<String> = pages.iter().cycle().take(600).cloned().chain(strangers).collect();
    assert_eq!(entries.len(), 1000);
    let reads: u64 = pages.iter().map(|page| harness.world().graph_reads(page)).sum();
    assert_eq!(harness.deliver(delivery(&entries)).await.status, 200);
    harness.until_true(user, &pages).await;
    harness.complete().await;
    let after: u64 = pages.iter().map(|page| harness.world().graph_reads(page)).sum();
    assert_eq!(after - reads, 100);
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_kept_and_requests_may_be_sent_ahead() {
    let harness = Harness::plan().pages(2).start().await;
    let mut stream = connect(&harness).await;
    let mut rest = Vec::new();
    for _ in 0..50 {
        stream.write_all(&raw(&harness, &delivery(&["1"]))).await.unwrap();
        assert_eq!(read_answer(&mut stream, &mut rest).await.0, 200);
    }
    // Forty requests in one breath, one of them forged: forty answers in order.
    let mut breath = Vec::new();
    for number in 0..40 {
        let mut one = raw(&harness, &delivery(&[number.to_string()]));
        if number == 20 {
            let at = one.len() - 2;
            one[at] ^= 1;
        }
        breath.extend_from_slice(&one);
    }
    stream.write_all(&breath).await.unwrap();
    for number in 0..40 {
        let (status, _) = read_answer(&mut stream, &mut rest).await;
        assert_eq!(status, if number == 20 { 401 } else { 200 }, "answer {number}");
    }
    // Nonsense costs its own connection and no other.
    let mut other = connect(&harness).await;
    other.write_all(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 hello\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = other.read_to_end(&mut answer).await;
    stream.write_all(&raw(&harness, "{}")).await.unwrap();
    assert_eq!(read_answer(&mut stream, &mut rest).await.0, 200);
    harness.finish().await;
}

/// A small disk of its own; `None`, with a printed reason, where this system gives none.
pub struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    pub fn mount(at: std::path::PathBuf, size: &str) -> Option<Self> {
        std::fs::create_dir_all(&at).unwrap();
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(&at).output();
        match mounted {
            Ok(output) if output.status.success() => Some(SmallDisk(at)),
            Ok(output) => {
                eprintln!("skipped: no small disk here: {}", String::from_utf8_lossy(&output.stderr).trim());
                None
            }
            Err(error) => {
                eprintln!("skipped: no small disk here: {error}");
                None
            }
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_disk_full_deliveries_are_put_off_and_with_room_again_they_are_taken() {
    let mut harness = Harness::plan().pages(4).build().await;
    let folder = harness.scratch_dir().join("disk");
    let Some(_disk) = SmallDisk::mount(folder.clone(), "24m") else {
        return harness.finish().await;
    };
    harness.set("store.path", folder.join("store").to_string_lossy().into_owned());
    for part in ["sled::", " ERROR store"] {
        harness.expect_errors(part);
    }
    harness.daemon.start().await.unwrap();
    let user = harness.linked().await;
    let filler = folder.join("filler");
    let fill = || {
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(&filler).unwrap();
        while file.write_all(&[7; 65536]).is_ok() {}
        while file.write_all(&[7; 512]).is_ok() {}
    };
    fill();
    // Marks that stand already need no write, so each delivery follows a read.
    let started = Instant::now();
    let answer = eventually("a delivery is put off", async || {
        fill();
        let answer = harness.deliver(delivery(&harness.pages())).await;
        assert!(matches!(answer.status, 200 | 503), "{}", answer.text());
        (answer.status == 503).then_some(answer)
    })
    .await;
    eprintln!("put off after {:?}", started.elapsed());
    assert_eq!((answer.code().as_str(), answer.header("retry-after").is_empty()), ("unavailable", false));
    assert_eq!(harness.get("/healthz").await.status, 200);
    until("it is not ready", async || harness.get("/readyz").await.status == 503).await;
    assert_eq!(harness.get("/readyz").await.json()["store"]["ok"], false);
    harness.world().edit_page(&harness.nth(1), "name", "Edited on a full disk".into()).unwrap();
    std::fs::remove_file(&filler).unwrap();
    until("deliveries are taken again", async || harness.deliver(delivery(&harness.pages())).await.status == 200).await;
    harness.until_true(user, &harness.pages()).await;
    harness.complete().await;
    harness.restart().await;
    assert_eq!(harness.status().await["links"], 4);
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_of_silent_connections_keeps_no_delivery_out() {
    let harness = Harness::plan().pages(2).set("http.max_connections", 16).start().await;
    let user = UserId::random();
    harness.log_in(user, ADA, "all").await;
    let mut crowd = Vec::new();
    for _ in 0..64 {
        let mut silent = connect(&harness).await;
        let _ = silent.write_all(b"POST /facebook/webhook HTTP/1.1\r\n").await;
        crowd.push(silent);
        assert_eq!(harness.deliver(delivery(&[harness.nth(0)])).await.status, 200);
    }
    harness.complete().await;
    drop(crowd);
    harness.finish().await;
}
