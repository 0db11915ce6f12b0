//! A certificate from an authority that speaks ACME: obtained over the public listener itself, kept over restarts,
//! renewed before it ends, and shown on while the authority refuses another one.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;

use pagesyncd::core::certificate::CertificateFacts;
use pagesyncd::core::model::WallTime;
use serde_json::Value;

use crate::alerts::fires;
use crate::clock::Clock;
use crate::harness::pebble::Pebble;
use crate::harness::tls::Authority;
use crate::harness::{Harness, Plan, delivery, eventually, until};

const HOST: &str = "pages.example.com";

struct Case {
    harness: Harness,
    pebble: Pebble,
    /// The certificate that the authority signs under.
    root: String,
    port: u16,
}

/// A client that trusts this root alone.
fn client(root: &str, port: u16) -> reqwest::Client {
    let root = reqwest::Certificate::from_pem(root.as_bytes()).unwrap();
    let builder = reqwest::Client::builder().no_proxy().tls_built_in_root_certs(false).add_root_certificate(root);
    builder.resolve(HOST, SocketAddr::from(([127, 0, 0, 1], port))).tls_info(true).build().unwrap()
}

/// A daemon that is about to ask an authority.
async fn case(plan: Plan) -> Option<Case> {
    let authority = Authority::new();
    let base = plan.base().replace("http://127.0.0.1", &format!("https://{HOST}"));
    let port = base.rsplit_once(':').unwrap().1.parse().unwrap();
    let mut harness = plan.daemon(|setup| setup.public_url = base).build().await;
    let folder = harness.scratch_dir();
    let Some(pebble) = Pebble::start(&folder, &authority, port).await else {
        harness.finish().await;
        return None;
    };
    let ca_file = folder.join("pebbles-own.pem");
    std::fs::write(&ca_file, authority.pem()).unwrap();
    harness.set("http.acme.domains", vec![HOST.to_owned()]);
    harness.set("http.acme.contact", "mailto:admin@example.com");
    harness.set("http.acme.terms_agreed", true);
    harness.set("http.acme.directory", pebble.directory.as_str());
    harness.set("http.acme.ca_file", ca_file.to_str().unwrap());
    let root = pebble.root().await;
    harness.http = client(&root, port);
    Some(Case { harness, pebble, root, port })
}

impl Case {
    async fn tls(&self) -> Value {
        self.harness.status().await["tls"].clone()
    }

    async fn until_certified(&self) {
        until("there is a certificate", async || {
            let tls = self.tls().await;
            tls["expires_at"].is_string() && tls["acme"]["ok"] == true
        })
        .await;
    }

    /// The certificate that a new client sees: one that resumes a session is shown none.
    async fn shown(&self) -> Vec<u8> {
        let answer = client(&self.root, self.port).get(format!("{}/healthz", self.harness.base)).send().await.unwrap();
        answer.extensions().get::<reqwest::tls::TlsInfo>().unwrap().peer_certificate().unwrap().to_vec()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_obtained_kept_and_shown_on_when_another_is_refused() {
    let Some(mut case) = case(Harness::plan().drills()).await else { return };
    case.harness.daemon.start().await.unwrap();
    case.until_certified().await;
    let tls = case.tls().await;
    assert_eq!((&tls["from"], &tls["names"][0], &tls["acme"]["ok"]), (&"acme".into(), &HOST.into(), &true.into()));
    assert_eq!(case.harness.deliver(delivery(&["123"])).await.status, 200);
    let first = case.shown().await;
    assert!(case.harness.metric("pagesyncd_tls_handshakes_total{result=\"challenge\"}").await >= 1.0);
    assert!(case.harness.metric("pagesyncd_certificate_expiry_timestamp_seconds").await > 1.7e9);
    assert_eq!(case.harness.metric("pagesyncd_dependency_up{dependency=\"acme\"}").await, 1.0);
    let file = case.harness.setup.store_path.join("acme.sealed");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let sealed = String::from_utf8_lossy(&std::fs::read(&file).unwrap()).into_owned();
    assert!(!sealed.contains("BEGIN") && !sealed.contains(HOST), "{sealed}");

    // A reload, a restart, a crash and a panic order no other.
    case.harness.reload("applied").await;
    assert_eq!(case.shown().await, first);
    case.harness.restart().await;
    case.until_certified().await;
    assert_eq!(case.shown().await, first);
    case.harness.crash().await;
    case.until_certified().await;
    case.harness.expect_panics("drill: the certificates actor was asked to panic");
    let restarts = "pagesyncd_actor_restarts_total{actor=\"certificates\"}";
    case.harness.drill("certificates").await;
    until("the actor is there again", async || case.harness.metric(restarts).await == 1.0).await;
    assert_eq!(case.shown().await, first);

    // Another name that the authority cannot validate.
    case.pebble.lead("away.example.com", "127.0.0.7").await;
    case.harness.set("http.acme.domains", vec![HOST.to_owned(), "away.example.com".to_owned()]);
    case.harness.reload("applied").await;
    until("the refusal names the host", async || {
        let acme = case.tls().await["acme"].clone();
        acme["ok"] == false && acme["error"].as_str().unwrap().contains("could not validate away.example.com")
    })
    .await;
    let said = String::from_utf8(case.harness.run(&["status"]).await.stdout).unwrap();
    assert!(said.contains("could not validate away.example.com") && said.contains("[acme_failing, since "), "{said}");
    assert_eq!(case.shown().await, first);
    // After a restart as well: it serves the name that it has.
    case.harness.restart().await;
    until("a certificate is shown", async || case.tls().await["expires_at"].is_string()).await;
    assert_eq!(case.shown().await, first);
    // It leads here at last, and a reload asks at once.
    case.pebble.lead("away.example.com", "127.0.0.1").await;
    case.harness.set("http.acme.domains", vec![HOST.to_owned(), "there.example.com".to_owned()]);
    case.harness.reload("applied").await;
    until("the certificate has both names", async || case.tls().await["names"][1] == "there.example.com").await;
    assert_ne!(case.shown().await, first);

    // An authority whose own certificate nobody trusts.
    case.harness.unset("http.acme.ca_file");
    case.harness.set("http.acme.domains", vec![HOST.to_owned()]);
    case.harness.reload("applied").await;
    until("the refusal names the key", async || {
        let acme = case.tls().await["acme"].clone();
        acme["error"].as_str().is_some_and(|error| error.contains("http.acme.ca_file"))
    })
    .await;
    assert_eq!(case.harness.deliver(delivery(&["123"])).await.status, 200);
    case.harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_without_a_first_certificate_is_a_problem_until_the_authority_issues_one() {
    let Some(mut case) = case(Harness::plan()).await else { return };
    case.pebble.lead(HOST, "127.0.0.7").await;
    case.harness.daemon.start().await.unwrap();
    let missing = eventually("the problem is listed", async || {
        let status = case.harness.status().await;
        status["problems"].as_array().unwrap().iter().find(|it| it["code"] == "certificate_missing").cloned()
    })
    .await;
    let message = missing["message"].as_str().unwrap();
    assert!(
        message.contains("nobody can connect") && message.contains("could not validate pages.example.com"),
        "{message}"
    );
    assert_eq!(case.harness.status().await["problems"].as_array().unwrap().len(), 1);
    let said = String::from_utf8(case.harness.run(&["status"]).await.stdout).unwrap();
    assert!(said.contains("critical: the public listener has no certificate to show"), "{said}");
    fires(&case.harness, &case.harness.metrics().await, &["PagesyncdCertificateMissing critical"]).await;
    case.pebble.lead(HOST, "127.0.0.1").await;
    case.harness.reload("applied").await;
    case.until_certified().await;
    assert_eq!(case.harness.status().await["problems"], serde_json::json!([]));
    fires(&case.harness, &case.harness.metrics().await, &[]).await;

    // An authority that was built anew knows the account of before no longer.
    case.pebble.restart().await;
    case.root = case.pebble.root().await;
    case.harness.set("http.acme.domains", vec![HOST.to_owned(), "another.example.com".to_owned()]);
    case.harness.reload("applied").await;
    until("the certificate has both names", async || case.tls().await["names"][1] == "another.example.com").await;
    assert!(case.harness.log().contains("the authority does not know the account any more"));
    case.harness.http = client(&case.root, case.port);
    assert_eq!(case.harness.deliver(delivery(&["123"])).await.status, 200);
    case.harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_renewed_before_it_ends() {
    let clock = match Clock::find() {
        Ok(clock) => clock,
        Err(reason) => {
            eprintln!("{reason}");
            return;
        }
    };
    let plan = clock.env().iter().fold(Harness::plan(), |plan, (name, value)| plan.env(name, value));
    let Some(case) = case(plan).await else { return };
    case.harness.daemon.start().await.unwrap();
    case.until_certified().await;
    let (first, file) = (case.shown().await, case.harness.setup.store_path.join("acme.sealed"));
    let facts = CertificateFacts::read(&first).unwrap();
    // A minute before and a minute after the moment at which two thirds of its life are over.
    let due = i64::try_from(facts.renewal().since(WallTime::now()).as_secs()).unwrap();
    clock.set(due - 60);
    let written = std::fs::metadata(&file).unwrap().modified().unwrap();
    case.harness.reload("applied").await;
    let answers = async || case.harness.metric("pagesyncd_tls_handshakes_total{result=\"challenge\"}").await;
    let before = answers().await;
    clock.set(due + 60);
    case.harness.reload("applied").await;
    until("another certificate is shown", async || case.shown().await != first).await;
    assert!(std::fs::metadata(&file).unwrap().modified().unwrap() > written);
    // The clock says that the new one is due as well. That is no reason to order one after the other.
    until("the authority looked once", async || answers().await > before).await;
    assert_eq!(case.harness.deliver(delivery(&["123"])).await.status, 200);
    case.harness.finish().await;
}
