//! The requests of the program's own verbs, compared with the document on their way to the admin socket.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use pagesyncd::admin_client;
use pagesyncd::core::model::UserId;
use tokio::net::UnixListener;

use crate::document::{Answered, DOCUMENT};
use crate::harness::Harness;
use crate::shops::{installed, shop};

/// The findings of a [`Proxy`].
#[derive(Default)]
struct Findings {
    operations: BTreeSet<String>,
    mistakes: Vec<String>,
}

/// Passes requests on to a daemon, and compares them and their answers with the document.
#[derive(Clone)]
struct Proxy {
    daemon: PathBuf,
    findings: Arc<Mutex<Findings>>,
}

impl Proxy {
    fn start(socket: &Path, daemon: &Path) -> Proxy {
        let listener = UnixListener::bind(socket).unwrap();
        let proxy = Proxy { daemon: daemon.to_owned(), findings: Arc::default() };
        let serving = proxy.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let proxy = serving.clone();
                let service = service_fn(move |request| {
                    let proxy = proxy.clone();
                    async move { proxy.pass(request).await }
                });
                let http = hyper::server::conn::http1::Builder::new();
                // A verb that only looks whether a daemon listens sends nothing.
                tokio::spawn(http.serve_connection(TokioIo::new(stream), service));
            }
        });
        proxy
    }

    async fn pass(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, String> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.map_err(|error| error.to_string())?.to_bytes();
        let path = head.uri.path_and_query().unwrap().as_str();
        let asked = admin_client::ask(&self.daemon, head.method.clone(), path, body.clone()).await;
        let mut reply = asked.map_err(|error| error.to_string())?;
        let bytes = reply.rest().await.map_err(|error| error.to_string())?;
        let (method, status, headers) = (&head.method, reply.status.as_u16(), &reply.headers);
        let checked = DOCUMENT.check(&Answered { method, path, status, headers, body: &bytes });
        let is_wrong = if status < 400 { DOCUMENT.check_request(method, path, Some(&body)).err() } else { None };
        let mut findings = self.findings.lock().unwrap();
        findings.mistakes.extend(is_wrong);
        match checked {
            Ok(exercised) => findings.operations.extend(exercised.map(|(operation, ..)| operation)),
            Err(mistake) => findings.mistakes.push(mistake),
        }
        Ok(Response::builder().status(status).body(Full::new(bytes)).unwrap())
    }
}

/// The configuration of the harness with another admin socket.
fn with_socket(harness: &Harness, socket: &Path) -> PathBuf {
    let mut table: toml::Table = std::fs::read_to_string(&harness.config).unwrap().parse().unwrap();
    table["admin"].as_table_mut().unwrap().insert("socket".into(), socket.to_str().unwrap().into());
    let config = harness.scratch_dir().join("config.toml");
    std::fs::write(&config, table.to_string()).unwrap();
    config
}

#[tokio::test(flavor = "multi_thread")]
async fn the_requests_of_the_verbs_are_those_of_the_document() {
    let harness = Harness::plan().pages(3).start().await;
    let user = harness.linked().await;
    let shop = shop(1);
    installed(&harness, &shop).await;
    let scratch = harness.scratch_dir();
    let (socket, export, list) = (scratch.join("proxy.sock"), scratch.join("all.export"), scratch.join("persons"));
    let config = with_socket(&harness, &socket);
    let proxy = Proxy::start(&socket, harness.daemon.socket());
    std::fs::write(&list, "77\n").unwrap();
    let (export, list) = (export.to_str().unwrap(), list.to_str().unwrap());
    let (page, other) = (harness.nth(0), harness.nth(1));
    let (user, stranger) = (user.to_string(), UserId::random().to_string());
    let verbs: &[(&[&str], i32)] = &[
        (&["status", "--json"], 0),
        (&["links"], 0),
        (&["links", "--source", "shopify", "--json"], 0),
        (&["pages"], 0),
        (&["sync", &page], 0),
        (&["sync", &page, "--user", &user], 0),
        (&["sync", shop.as_str(), "--source", "shopify"], 0),
        (&["sync", &page, "--user", &stranger], 64),
        (&["session", "--user", &stranger, "--ttl", "1h", "--label", "Ada"], 0),
        (&["export", export], 0),
        (&["import", export], 0),
        (&["import", export, "--replace"], 0),
        (&["purge", list, "--dry-run"], 0),
        (&["unlink", &page, "--yes", "--keep-object"], 0),
        (&["unlink", &other, "--yes", "--user", &user, "--revoke"], 0),
        (&["unlink", shop.as_str(), "--source", "shopify", "--yes", "--all", "--revoke"], 0),
    ];
    for (arguments, code) in verbs {
        let output = harness.run_with(arguments, Some(&config)).await;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(*code), "{arguments:?}: {said}");
    }
    {
        let findings = proxy.findings.lock().unwrap();
        assert!(findings.mistakes.is_empty(), "{}", findings.mistakes.join("\n"));
        let used = "createSession exportLinks getLink getStatus importLinks listLinks listPages purge sync unlink";
        assert_eq!(findings.operations.iter().map(String::as_str).collect::<Vec<_>>().join(" "), used);
    }
    harness.finish().await;
}
