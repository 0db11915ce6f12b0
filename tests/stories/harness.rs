//! A harness for one story: a world, the real daemon that lives in it, and a client that remembers every answer it got.
//!
//! Nothing here waits by the clock: a story asks for a condition and [`eventually`] looks until it holds. That
//! something does *not* happen is shown by something later that does.
//!
//! [`Harness::finish`] ends each story. It stops the daemon, wants it to end well, and fails the story for what must
//! never be: a violation seen by the world, a panic or an error in the log that the story did not announce, and any
//! secret of the harness in anything the daemon wrote or said ([`leaks`]).

pub mod leaks;
mod login;
pub mod operator;
pub mod pebble;
pub mod promtool;
pub mod systemd;
pub mod tls;

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hmac::{Hmac, Mac};
use http::Method;
use pagesyncd::core::model::UserId;
use pagesyncd::sandbox::daemon::{Daemon, DaemonFiles};
use pagesyncd::sandbox::{DaemonSetup, Options, World, WorldServer};
use serde_json::Value;
use tempfile::TempDir;

pub use login::Browser;

/// The person who runs all pages.
pub const ADA: &str = "2210000000000101";
/// Runs the first three pages, too.
pub const BRUNO: &str = "2210000000000102";
/// May only look at the figures of the first page.
pub const CHIDI: &str = "2210000000000103";

/// The most that a condition may take to hold. Generous: a loaded machine is no reason to fail.
pub const LIMIT: Duration = Duration::from_secs(60);
const GLANCE: Duration = Duration::from_millis(15);
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_pagesyncd");

/// Looks until there is something to see, and returns it.
pub async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(seen) = look().await {
            return seen;
        }
        assert!(started.elapsed() < LIMIT, "this did not come to hold: {what}");
        tokio::time::sleep(GLANCE).await;
    }
}

/// Looks until the condition holds.
pub async fn until(what: &str, mut look: impl AsyncFnMut() -> bool) {
    eventually(what, async || look().await.then_some(())).await;
}

/// A port below those that the system gives to outgoing connections, so that it is still free after a restart.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = (std::process::id() % 9000) as u16;
    loop {
        let port = 20_000 + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % 12_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// `sha256=…` as Meta signs.
pub fn sha256(secret: &str, body: &[u8]) -> String {
    let mac = Hmac::<sha2::Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    format!("sha256={}", hex::encode(mac.chain_update(body).finalize().into_bytes()))
}

/// `sha1=…` as Meta signed before.
pub fn sha1(secret: &str, body: &[u8]) -> String {
    let mac = Hmac::<sha1::Sha1>::new_from_slice(secret.as_bytes()).unwrap();
    format!("sha1={}", hex::encode(mac.chain_update(body).finalize().into_bytes()))
}

/// A delivery that names these pages, one entry each.
pub fn delivery(pages: &[impl AsRef<str>]) -> String {
    let entries: Vec<Value> = pages
        .iter()
        .map(|page| serde_json::json!({"id": page.as_ref(), "time": 1_763_769_600, "changed_fields": ["name"]}))
        .collect();
    serde_json::json!({"object": "page", "entry": entries}).to_string()
}

/// The daemon's memory, in MiB.
pub fn memory(harness: &Harness) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", harness.daemon.pid().unwrap())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<f64>().unwrap() / 1024.0
}

/// Where a page's object lies.
pub fn object_key(user: UserId, page: &str) -> String {
    format!("users/{user}/facebook/{page}/page_data.json")
}

/// What the daemon answered.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: http::HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {} {}", self.status, self.text()))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// `error.code` of an error.
    pub fn code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap_or_default().to_owned()
    }
}

/// How a harness is to be.
pub struct Plan {
    options: Options,
    dir: TempDir,
    setup: DaemonSetup,
    settings: Vec<(String, toml::Value)>,
    env: Vec<(String, String)>,
}

impl Plan {
    pub fn pages(mut self, pages: usize) -> Self {
        self.options.world.pages = pages;
        self
    }

    /// Listings come in parts of this size.
    pub fn listing(mut self, size: usize) -> Self {
        self.options.world.listing_size = size;
        self
    }

    /// Changes what the daemon is set up with.
    pub fn daemon(mut self, change: impl FnOnce(&mut DaemonSetup)) -> Self {
        change(&mut self.setup);
        self
    }

    /// Gives a key of the configuration, by its dotted name.
    pub fn set(mut self, key: &str, value: impl Into<toml::Value>) -> Self {
        self.settings.push((key.to_owned(), value.into()));
        self
    }

    /// Where the public listener will be.
    pub fn base(&self) -> String {
        self.setup.public_url.clone()
    }

    /// The log tells everything.
    pub fn trace(self) -> Self {
        self.daemon(|setup| setup.log_level = "trace".into())
    }

    /// The fault drills of the admin socket are open.
    pub fn drills(mut self) -> Self {
        self.env.push(("PAGESYNCD_DRILLS".into(), "1".into()));
        self
    }

    /// Gives the daemon a variable in its environment.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// The world and the configuration, and no daemon yet.
    pub async fn build(self) -> Harness {
        let Plan { options, dir, setup, settings, env } = self;
        let server = WorldServer::start(options).await.unwrap();
        let config = dir.path().join("config.toml");
        let files = DaemonFiles {
            program: PROGRAM.into(),
            config: config.clone(),
            socket: setup.admin_socket.clone(),
            log: Some(dir.path().join("daemon.log")),
            env,
        };
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(Duration::from_secs(60))
            .build()
            .unwrap();
        let table = server.config_toml(&setup).parse().unwrap();
        let mut harness = Harness {
            base: setup.public_url.clone(),
            setup,
            server,
            daemon: Daemon::new(files),
            http,
            config,
            table,
            dir,
            heard: Mutex::default(),
            secrets: Mutex::default(),
            panics: None,
            errors: BTreeSet::new(),
            finished: false,
        };
        harness.write_config();
        settings.into_iter().for_each(|(key, value)| harness.set(&key, value));
        harness
    }

    /// The harness, with the daemon running.
    pub async fn start(self) -> Harness {
        let harness = self.build().await;
        harness.daemon.start().await.unwrap();
        harness
    }
}

/// A world, and the daemon in it.
pub struct Harness {
    pub server: WorldServer,
    pub daemon: Arc<Daemon>,
    pub setup: DaemonSetup,
    pub http: reqwest::Client,
    /// Where the daemon's public listener is.
    pub base: String,
    pub config: PathBuf,
    table: toml::Table,
    dir: TempDir,
    heard: Mutex<Vec<(String, Vec<u8>)>>,
    secrets: Mutex<BTreeSet<String>>,
    panics: Option<&'static str>,
    errors: BTreeSet<&'static str>,
    finished: bool,
}

impl Harness {
    /// A harness of six pages.
    pub fn plan() -> Plan {
        let dir = tempfile::tempdir().unwrap();
        let options = Options::new(dir.path().join("world"));
        let mut setup = DaemonSetup::new(format!("127.0.0.1:{}", free_port()), dir.path());
        // What the daemon says at this level is what a fault is found by.
        setup.log_level = "debug".into();
        Plan { options, dir, setup, settings: Vec::new(), env: Vec::new() }
    }

    pub fn world(&self) -> &World {
        &self.server.world
    }

    /// A folder for what a story makes itself; it is not searched for leaks.
    pub fn scratch_dir(&self) -> PathBuf {
        let scratch = self.dir.path().join("scratch");
        std::fs::create_dir_all(&scratch).unwrap();
        scratch
    }

    pub fn log(&self) -> String {
        let bytes = std::fs::read(self.dir.path().join("daemon.log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    // The configuration.

    /// Gives a key by its dotted name and writes the file; the daemon reads it when it starts or reloads.
    pub fn set(&mut self, key: &str, value: impl Into<toml::Value>) {
        let (section, leaf) = key.rsplit_once('.').unwrap();
        self.section(section).insert(leaf.to_owned(), value.into());
        self.write_config();
    }

    /// A section of the file, or one within another.
    fn section(&mut self, name: &str) -> &mut toml::Table {
        name.split('.').fold(&mut self.table, |table, part| {
            table.entry(part).or_insert_with(|| toml::Table::new().into()).as_table_mut().unwrap()
        })
    }

    /// Takes a key out of the file again.
    pub fn unset(&mut self, key: &str) {
        let (section, leaf) = key.rsplit_once('.').unwrap();
        self.section(section).remove(leaf);
        self.write_config();
    }

    /// The value of a key.
    pub fn setting(&self, key: &str) -> toml::Value {
        let (section, leaf) = key.split_once('.').unwrap();
        self.table[section][leaf].clone()
    }

    /// Writes the file as the keys say.
    pub fn write_config(&self) {
        for (section, leaf) in [
            ("facebook", "app_secret"),
            ("facebook", "previous_app_secret"),
            ("facebook", "verify_token"),
            ("spaces", "secret_key"),
            ("store", "key"),
            ("session", "state_secret"),
            ("session", "previous_state_secret"),
            ("notify", "secret"),
            ("notify", "previous_secret"),
        ] {
            if let Some(secret) = self.table[section].get(leaf).and_then(toml::Value::as_str) {
                self.keep_secret(secret);
            }
        }
        std::fs::write(&self.config, self.table.to_string()).unwrap();
    }

    /// Lets the daemon read its configuration anew, and waits until it was `applied` or `refused`.
    pub async fn reload(&self, outcome: &str) {
        let name = format!("pagesyncd_config_reloads_total{{result=\"{outcome}\"}}");
        let before = self.metric(&name).await;
        self.daemon.signal(signal_hook::consts::SIGHUP).unwrap();
        until(&format!("the reload is {outcome}"), async || self.metric(&name).await > before).await;
    }

    // The daemon's life.

    /// Stops it in order and starts it again.
    pub async fn restart(&self) {
        assert_eq!(self.daemon.stop().await, Some(0), "the daemon did not end well");
        self.daemon.start().await.unwrap();
    }

    /// Ends it without a word and starts it again.
    pub async fn crash(&self) {
        self.daemon.kill_now().await;
        self.daemon.start().await.unwrap();
    }

    /// Panics with this text are part of the story, and so are the errors that tell of them.
    pub fn expect_panics(&mut self, text: &'static str) {
        self.panics = Some(text);
        self.errors.insert(" ERROR actor [");
    }

    /// Errors with this text in the log are part of the story.
    pub fn expect_errors(&mut self, text: &'static str) {
        self.errors.insert(text);
    }

    // Speaking with it.

    /// What was said must hold no secret.
    pub fn hear(&self, from: &str, said: &[u8]) {
        self.heard.lock().unwrap().push((from.to_owned(), said.to_vec()));
    }

    /// This text must appear nowhere.
    pub fn keep_secret(&self, secret: &str) {
        if !secret.is_empty() {
            self.secrets.lock().unwrap().insert(secret.to_owned());
        }
    }

    /// Sends a request and remembers the answer.
    pub async fn send(&self, request: reqwest::RequestBuilder) -> Answer {
        self.try_send(request).await.unwrap()
    }

    pub async fn try_send(&self, request: reqwest::RequestBuilder) -> reqwest::Result<Answer> {
        let (client, request) = request.build_split();
        let request = request?;
        let (method, url) = (request.method().clone(), request.url().clone());
        let answer = client.execute(request).await?;
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let body = answer.bytes().await?.to_vec();
        let answer = Answer { status, headers, body };
        if url.authority() == self.setup.admin_listen {
            operator::check(&method, &url[url::Position::BeforePath..], &answer);
        }
        self.hear("an answer", &answer.body);
        for (name, value) in answer.headers.iter().filter(|(name, _)| *name != http::header::SET_COOKIE) {
            self.hear(&format!("the header {name}"), value.as_bytes());
        }
        Ok(answer)
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(self.http.get(format!("{}{path}", self.base))).await
    }

    /// Posts a webhook with these headers.
    pub async fn post_hook(&self, body: impl Into<Vec<u8>>, headers: &[(&str, &str)]) -> Answer {
        let mut request = self.http.post(format!("{}/facebook/webhook", self.base)).body(body.into());
        for (name, value) in headers {
            request = request.header(*name, *value);
            if let Some((_, digits)) = value.split_once('=') {
                self.keep_secret(digits);
            }
        }
        self.send(request).await
    }

    /// Posts a webhook, signed as it should be.
    pub async fn deliver(&self, body: impl Into<Vec<u8>>) -> Answer {
        let body = body.into();
        let signature = self.world().sign(&body);
        self.post_hook(body, &[("x-hub-signature-256", &signature)]).await
    }

    /// A request to the admin socket.
    pub async fn admin(&self, method: Method, path: &str, body: &str) -> (u16, Value) {
        let answer = self.operator(method, path, body).await;
        (answer.status, answer.json())
    }

    pub async fn status(&self) -> Value {
        self.admin(Method::GET, "/v1/status", "").await.1
    }

    pub async fn metrics(&self) -> String {
        self.operator(Method::GET, "/metrics", "").await.text()
    }

    /// A sample by its whole name, labels included; zero where there is none.
    pub async fn metric(&self, name: &str) -> f64 {
        let text = self.metrics().await;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.map_or(0.0, |value| value.parse().unwrap())
    }

    /// What the daemon says of each link of a page.
    pub async fn page(&self, page: &str) -> Option<Value> {
        let (status, value) = self.admin(Method::GET, &format!("/v1/pages/{page}"), "").await;
        (status == 200).then(|| value["pages"][0].clone())
    }

    /// `health` of a page.
    pub async fn health(&self, page: &str) -> String {
        let page = self.page(page).await.unwrap_or_default();
        page["health"].as_str().unwrap_or("not linked").to_owned()
    }

    pub async fn sync(&self, page: &str) {
        assert_eq!(self.admin(Method::POST, &format!("/v1/pages/{page}/sync"), "").await.0, 202);
    }

    pub async fn drill(&self, which: &str) {
        assert_eq!(self.admin(Method::POST, &format!("/v1/drill/{which}"), "").await.0, 202);
    }

    /// Runs a verb of the program with the harness's configuration.
    pub async fn run(&self, arguments: &[&str]) -> Output {
        self.run_with(arguments, None).await
    }

    pub async fn run_with(&self, arguments: &[&str], config: Option<&Path>) -> Output {
        let mut command = tokio::process::Command::new(PROGRAM);
        command.args(arguments).arg("--config").arg(config.unwrap_or(&self.config)).stdin(std::process::Stdio::null());
        // A verb that waits for a daemon of which a part hangs takes more than a minute.
        let output = tokio::time::timeout(LIMIT * 4, command.output()).await.unwrap().unwrap();
        if arguments[0] != "session" && arguments[0] != "keygen" {
            self.hear(&arguments.join(" "), &output.stdout);
        }
        self.hear(&arguments.join(" "), &output.stderr);
        output
    }

    /// The same with the configuration as the keys say, wherever the daemon's own file is.
    pub async fn run_in_place(&self, arguments: &[&str]) -> Output {
        let copy = self.scratch_dir().join("config.toml");
        std::fs::write(&copy, self.table.to_string()).unwrap();
        self.run_with(arguments, Some(&copy)).await
    }

    // What is there.

    /// The ids of all pages, in order.
    pub fn pages(&self) -> Vec<String> {
        self.world().look(|s| s.pages.keys().cloned().collect())
    }

    /// The ids of the pages that are linked.
    pub async fn pages_linked(&self) -> Vec<String> {
        let (_, listed) = self.admin(Method::GET, "/v1/pages", "").await;
        let listed = listed["pages"].as_array().unwrap();
        listed.iter().map(|link| link["page_id"].as_str().unwrap().to_owned()).collect()
    }

    /// The id of a page by its number.
    pub fn nth(&self, number: usize) -> String {
        self.pages()[number].clone()
    }

    /// The object of a user's page.
    pub fn object(&self, user: UserId, page: &str) -> Option<Value> {
        serde_json::from_slice(&self.server.objects.get(&object_key(user, page))?).ok()
    }

    /// Does the object say what the page is at this moment?
    pub fn is_true(&self, user: UserId, page: &str) -> bool {
        let Some(object) = self.object(user, page) else { return false };
        let mut data = object["data"][0].as_object().cloned().unwrap_or_default();
        let mut node = self.world().look(|s| s.pages[page].node.clone());
        // What the daemon does not ask for, and what differs each time.
        for field in ["picture", "is_verified", "has_transitioned_to_new_page_experience"] {
            data.remove(field);
            node.remove(field);
        }
        data == node
    }

    /// How many times the object was written.
    pub fn puts(&self, user: UserId, page: &str) -> u64 {
        self.world().puts(&object_key(user, page))
    }

    /// Waits until nothing is on its way: webhooks, reads, writes.
    pub async fn complete(&self) {
        until("nothing is owed any more", async || {
            let delivered = self.world().undelivered() == 0;
            let status = self.status().await;
            delivered && status["due"] == 0 && status["outbox"] == 0
        })
        .await;
    }

    /// Waits until the objects of these pages are true.
    pub async fn until_true(&self, user: UserId, pages: &[String]) {
        let what = format!("the objects of {} pages are true", pages.len());
        until(&what, async || pages.iter().all(|page| self.is_true(user, page))).await;
    }

    // The end.

    /// Stops the daemon and looks for what must not be left behind.
    pub async fn finish(self) {
        self.finish_and(async || ()).await;
    }

    /// The same, with a last look at what is left behind.
    pub async fn finish_and<T>(mut self, look: impl AsyncFnOnce() -> T) -> T {
        if self.daemon.pid().is_some() {
            self.metrics().await;
            self.status().await;
            self.admin(Method::GET, "/v1/pages", "").await;
            assert_eq!(self.daemon.stop().await, Some(0), "the daemon did not end well");
        }
        for event in self.world().event_attempts() {
            self.hear("an event", &event.bytes);
            event.signature.split(' ').filter_map(|one| one.strip_prefix("v1,")).for_each(|one| self.keep_secret(one));
        }
        self.look_for_leaks();
        assert_eq!(self.world().violations(), Vec::<String>::new());
        self.look_for_accidents();
        self.server.shutdown().await;
        self.finished = true;
        look().await
    }

    fn look_for_accidents(&self) {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        for (at, line) in lines.iter().enumerate() {
            if line.contains("panicked") {
                let reply = self.panics.is_some_and(|text| lines[at..].iter().take(2).any(|l| l.contains(text)));
                assert!(
                    reply,
                    "the daemon panicked: {}",
                    lines[at..].join("\n").chars().take(2000).collect::<String>()
                );
            } else if line.contains(" ERROR ") {
                assert!(self.errors.iter().any(|text| line.contains(text)), "an error nobody expected: {line}");
            }
        }
    }
}

impl Drop for Harness {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("the daemon's last words:\n{}", lines[lines.len().saturating_sub(60)..].join("\n"));
        } else {
            assert!(self.finished, "a story ends with finish()");
        }
    }
}
