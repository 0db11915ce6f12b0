//! A browser for stories: headless Chromium, driven over the WebDriver protocol through a chromedriver of its own on a
//! port that the system picks.
//!
//! Where `chromedriver` or a Chromium is missing from the PATH, [`Browser::start`] prints what is missing and gives
//! `None`, and the story is skipped; with `PAGESYNCD_BROWSER_TESTS=require` that is a failure instead.
//!
//! Pages change under a test's hands, so every step that needs an element waits for it, and takes it up again when it
//! went stale or something still covers it. A step that does not succeed within [`LIMIT`] fails the story and says
//! what it waited for. Dropping the browser ends the session first, because a chromedriver that is killed leaves its
//! Chromium behind.

use std::fmt;
use std::future::Future;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// The most that one step may take. Generous: a loaded machine is no reason to fail.
const LIMIT: Duration = Duration::from_secs(60);
/// How often a condition is looked at.
const GLANCE: Duration = Duration::from_millis(40);
/// Control and A, and let go of both; WebDriver's letters for keys that are none.
const SELECT_ALL: &str = "\u{e009}a\u{e000}";
const DELETE: &str = "\u{e017}";
/// WebDriver's letter for the key.
pub const ENTER: &str = "\u{e007}";
/// The space bar.
pub const SPACE: &str = " ";
/// The property under which WebDriver answers an element's id.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";
/// Starting without these, Chromium looks for hosts of its maker that a test machine does not reach.
const ARGUMENTS: [&str; 10] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1280,960",
];

/// A browser window with a profile of its own.
pub struct Browser {
    client: reqwest::Client,
    /// `http://127.0.0.1:PORT/session/ID`
    session: String,
    port: u16,
    driver: Child,
    _profile: TempDir,
}

/// A cookie as the browser keeps it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cookie {
    /// The name.
    pub name: String,
    /// The value.
    pub value: String,
    /// Hidden from scripts?
    pub http_only: bool,
    /// `Strict`, `Lax` or `None`.
    #[serde(default)]
    pub same_site: Option<String>,
}

/// What WebDriver answers instead of a result.
#[derive(Debug)]
struct Refusal {
    error: String,
    message: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.error, self.message.lines().next().unwrap_or_default())
    }
}

impl Refusal {
    /// May the same step succeed a moment later?
    fn passes(&self) -> bool {
        matches!(
            self.error.as_str(),
            "no such element"
                | "stale element reference"
                | "element not interactable"
                | "element click intercepted"
                | "detached shadow root"
        ) || self.message.contains("does not belong to the document")
    }
}

impl Browser {
    /// Starts one, or says why not.
    pub async fn start() -> Option<Browser> {
        let programs = found("chromedriver", &["chromedriver"])
            .and_then(|driver| Ok((driver, found("Chromium", &["chromium", "chromium-browser", "google-chrome"])?)));
        match programs {
            Ok((driver, chromium)) => Some(Browser::with(&driver, &chromium).await),
            Err(missing) if std::env::var("PAGESYNCD_BROWSER_TESTS").is_ok_and(|v| v == "require") => {
                panic!("{missing}, and PAGESYNCD_BROWSER_TESTS=require")
            }
            Err(missing) => {
                eprintln!("skipped: {missing}");
                None
            }
        }
    }

    async fn with(driver: &Path, chromium: &Path) -> Browser {
        let profile = TempDir::new().expect("a folder for the profile");
        let (driver, port) = started(driver).await;
        let client = reqwest::Client::builder().no_proxy().timeout(2 * LIMIT).build().expect("a client");
        let at = format!("http://127.0.0.1:{port}/session");
        let mut arguments: Vec<String> = ARGUMENTS.map(str::to_owned).into();
        arguments.push(format!("--user-data-dir={}", profile.path().display()));
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": {"binary": chromium, "args": arguments},
            "goog:loggingPrefs": {"browser": "ALL"},
        }}});
        let begun = ask(client.post(&at).json(&wanted)).await.unwrap_or_else(|refusal| panic!("no session: {refusal}"));
        let id = begun["sessionId"].as_str().expect("a session has an id");
        Browser { session: format!("{at}/{id}"), client, port, driver, _profile: profile }
    }

    /// Opens a page and waits until it is loaded.
    pub async fn goto(&self, url: &str) {
        self.must("goto", self.post("url", json!({"url": url})).await);
    }

    /// The address of the page.
    pub async fn url(&self) -> String {
        string(self.must("url", self.get("url").await))
    }

    /// Waits for an element and gives its id.
    pub async fn find(&self, css: &str) -> String {
        self.step(&format!("find {css}"), async || self.look(css).await).await
    }

    /// Is there such an element at this moment?
    pub async fn has(&self, css: &str) -> bool {
        match self.look(css).await {
            Ok(_) => true,
            Err(refusal) if refusal.passes() => false,
            Err(refusal) => panic!("has {css}: {refusal}"),
        }
    }

    /// Clicks an element as soon as it can be clicked.
    pub async fn click(&self, css: &str) {
        let click = async || {
            let element = self.look(css).await?;
            // In view is not enough: what sticks to the window's edge may cover it there.
            let centre = "arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})";
            self.post("execute/sync", json!({"script": centre, "args": [{ELEMENT: element}]})).await?;
            self.post(&format!("element/{element}/click"), json!({})).await
        };
        self.step(&format!("click {css}"), click).await;
    }

    /// The text of an element as a reader sees it.
    pub async fn text(&self, css: &str) -> String {
        let read = async || {
            let element = self.look(css).await?;
            self.get(&format!("element/{element}/text")).await
        };
        string(self.step(&format!("text of {css}"), read).await)
    }

    /// Types into an element, in place of what stood there.
    pub async fn type_into(&self, css: &str, text: &str) {
        let enter = async || {
            let element = self.look(css).await?;
            // As a person does it, in one go: a page may fill in a field that was cleared and left.
            let keys = format!("{SELECT_ALL}{DELETE}{text}");
            self.post(&format!("element/{element}/value"), json!({"text": keys})).await
        };
        self.step(&format!("type into {css}"), enter).await;
    }

    /// Gives the focus to an element and presses a key there: a character, or one of WebDriver's letters for keys.
    pub async fn press(&self, css: &str, key: &str) {
        let enter = async || {
            let element = self.look(css).await?;
            self.post("execute/sync", json!({"script": "arguments[0].focus()", "args": [{ELEMENT: element}]})).await?;
            let down = json!([{"type": "keyDown", "value": key}, {"type": "keyUp", "value": key}]);
            self.post("actions", json!({"actions": [{"type": "key", "id": "keys", "actions": down}]})).await
        };
        self.step(&format!("press {key:?} on {css}"), enter).await;
    }

    /// Presses a key where the focus is.
    pub async fn type_key(&self, key: &str) {
        let down = json!([{"type": "keyDown", "value": key}, {"type": "keyUp", "value": key}]);
        let keys = json!({"actions": [{"type": "key", "id": "keys", "actions": down}]});
        self.must(&format!("key {key:?}"), self.post("actions", keys).await);
    }

    /// Loads the page again.
    pub async fn reload(&self) {
        self.must("reload", self.post("refresh", json!({})).await);
    }

    /// Shows pages in a window of this size, and in the dark scheme or the light one.
    pub async fn look_as(&self, width: u32, height: u32, dark: bool) {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.emulate("setDeviceMetricsOverride", size).await;
        let scheme = json!({"name": "prefers-color-scheme", "value": if dark { "dark" } else { "light" }});
        self.emulate("setEmulatedMedia", json!({"features": [scheme]})).await;
    }

    /// The open windows and tabs, the first opened first.
    pub async fn windows(&self) -> Vec<String> {
        let windows = self.must("windows", self.get("window/handles").await);
        serde_json::from_value(windows).expect("windows have names")
    }

    /// Goes on in another window or tab.
    pub async fn switch_to(&self, window: &str) {
        self.must("switch", self.post("window", json!({"handle": window})).await);
    }

    /// Runs a script in the page and gives what it returns.
    pub async fn run(&self, script: &str) -> Value {
        self.must("run", self.post("execute/sync", json!({"script": script, "args": []})).await)
    }

    /// Looks again and again until the condition holds; `what` names it when it never does.
    pub async fn wait_until<F, Fut>(&self, what: &str, mut condition: F)
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = bool>,
    {
        let began = Instant::now();
        while !condition().await {
            assert!(began.elapsed() < LIMIT, "waited {LIMIT:?} in vain for: {what}");
            tokio::time::sleep(GLANCE).await;
        }
    }

    /// The cookies that the present page would send.
    pub async fn cookies(&self) -> Vec<Cookie> {
        let cookies = self.must("cookies", self.get("cookie").await);
        serde_json::from_value(cookies).expect("cookies have names and values")
    }

    /// What the page's scripts and resources complained of since the last time this was asked.
    pub async fn complaints(&self) -> Vec<String> {
        let entries = self.must("log", self.post("se/log", json!({"type": "browser"})).await);
        let entries = entries.as_array().cloned().unwrap_or_default();
        entries
            .into_iter()
            .filter(|entry| matches!(entry["level"].as_str(), Some("SEVERE" | "WARNING")))
            .map(|entry| string(entry["message"].clone()))
            .collect()
    }

    /// Has the browser do something that only its debugging protocol can ask for.
    pub async fn emulate(&self, command: &str, parameters: Value) {
        let wish = json!({"cmd": format!("Emulation.{command}"), "params": parameters});
        self.must(command, self.post("goog/cdp/execute", wish).await);
    }

    /// Shows pages as on a screen of this width, in CSS pixels.
    pub async fn narrow_to(&self, width: u32) {
        let screen = json!({"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": false});
        self.emulate("setDeviceMetricsOverride", screen).await;
    }

    /// Writes what the window shows as a PNG file.
    pub async fn screenshot(&self, path: &Path) {
        let picture = string(self.must("screenshot", self.get("screenshot").await));
        let picture = STANDARD.decode(picture).expect("a screenshot is base64");
        std::fs::write(path, picture).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }

    async fn look(&self, css: &str) -> Result<String, Refusal> {
        let found = self.post("element", json!({"using": "css selector", "value": css})).await?;
        Ok(string(found[ELEMENT].clone()))
    }

    /// Tries until it succeeds, as long as what stands against it may pass.
    async fn step<T>(&self, what: &str, mut attempt: impl AsyncFnMut() -> Result<T, Refusal>) -> T {
        let began = Instant::now();
        loop {
            match attempt().await {
                Err(refusal) if refusal.passes() && began.elapsed() < LIMIT => tokio::time::sleep(GLANCE).await,
                outcome => return self.must(what, outcome),
            }
        }
    }

    fn must<T>(&self, what: &str, outcome: Result<T, Refusal>) -> T {
        outcome.unwrap_or_else(|refusal| panic!("{what}: {refusal}"))
    }

    async fn get(&self, path: &str) -> Result<Value, Refusal> {
        ask(self.client.get(format!("{}/{path}", self.session))).await
    }

    async fn post(&self, path: &str, body: Value) -> Result<Value, Refusal> {
        ask(self.client.post(format!("{}/{path}", self.session)).json(&body)).await
    }

    /// Ends the session with a request written by hand, which works where nothing can be awaited.
    fn end_session(&self) -> std::io::Result<()> {
        let id = self.session.rsplit('/').next().unwrap_or_default();
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        write!(stream, "DELETE /session/{id} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")?;
        let mut status = [0; 12];
        stream.read_exact(&mut status)
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if let Err(error) = self.end_session() {
            eprintln!("the browser's session did not end cleanly: {error}");
        }
        if let Err(error) = self.driver.start_kill() {
            eprintln!("chromedriver could not be stopped: {error}");
        }
    }
}

/// The answer's value, or WebDriver's refusal.
async fn ask(request: reqwest::RequestBuilder) -> Result<Value, Refusal> {
    let answer = request.send().await.expect("chromedriver answers");
    let succeeded = answer.status().is_success();
    let mut answer: Value = answer.json().await.expect("chromedriver answers in JSON");
    let value = answer["value"].take();
    if succeeded {
        return Ok(value);
    }
    Err(Refusal { error: string(value["error"].clone()), message: string(value["message"].clone()) })
}

fn string(value: Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}

/// A driver and its port. It picks a free port before it listens, so another process may take the port in between; then
/// it ends, and another one is started.
async fn started(program: &Path) -> (Child, u16) {
    for _ in 0..5 {
        let mut command = Command::new(program);
        command.arg("--port=0").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
        let mut driver = command.spawn().expect("chromedriver starts");
        if let Some(port) = announced_port(&mut driver).await {
            return (driver, port);
        }
    }
    panic!("chromedriver names no port");
}

/// The port in "ChromeDriver was started successfully on port 12345."
async fn announced_port(driver: &mut Child) -> Option<u16> {
    let mut lines = BufReader::new(driver.stdout.take().expect("stdout is piped")).lines();
    let announced = async {
        while let Ok(Some(line)) = lines.next_line().await {
            let port = line.rsplit_once(" on port ").and_then(|(_, port)| port.trim_end_matches('.').parse().ok());
            if line.contains("started successfully") && port.is_some() {
                return port;
            }
        }
        None
    };
    let port = tokio::time::timeout(LIMIT, announced).await.ok().flatten()?;
    // A driver whose output no one reads stops when the pipe is full.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    Some(port)
}

fn found(what: &str, names: &[&str]) -> Result<PathBuf, String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let mut candidates = names.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    candidates.find(|candidate| candidate.is_file()).ok_or_else(|| format!("{what} is not on the PATH"))
}

mod tests {
    use http_body_util::Full;
    use hyper::body::{Bytes, Incoming};
    use hyper::service::service_fn;
    use hyper::{Request, Response};
    use hyper_util::rt::TokioIo;
    use tokio::net::TcpListener;

    use super::*;

    const PAGE: &str = r#"<!doctype html><title>Door</title><link rel="icon" href="data:,">
        <label>Name <input id="name" value="nobody"></label>
        <button id="greet" disabled>Greet</button> <p id="said"></p>
        <script>
          const greet = document.getElementById("greet");
          setTimeout(() => { greet.disabled = false; greet.classList.add("ready"); }, 150);
          greet.onclick = () => setTimeout(() => {
            document.getElementById("said").innerHTML =
              "<b class=late>Hello, " + document.getElementById("name").value + "</b>";
          }, 150);
        </script>"#;

    async fn page(_: Request<Incoming>) -> Result<Response<Full<Bytes>>, http::Error> {
        Response::builder()
            .header("content-type", "text/html; charset=utf-8")
            .header("set-cookie", "session_id=abc; HttpOnly; SameSite=Lax; Path=/")
            .body(Full::from(PAGE))
    }

    async fn serve() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let connection =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(page));
                tokio::spawn(connection);
            }
        });
        format!("http://{address}/")
    }

    #[tokio::test]
    async fn a_browser_reads_clicks_and_types() {
        let at = serve().await;
        let Some(browser) = Browser::start().await else { return };
        browser.goto(&at).await;
        assert_eq!(browser.url().await, at);
        assert!(!browser.find("#name").await.is_empty());
        assert!(!browser.has(".late").await, "it appears after a click only");

        browser.type_into("#name", "Ada Lovelace").await;
        browser.click("#greet.ready").await;
        assert_eq!(browser.text(".late").await, "Hello, Ada Lovelace");

        let cookie = Cookie {
            name: "session_id".to_owned(),
            value: "abc".to_owned(),
            http_only: true,
            same_site: Some("Lax".to_owned()),
        };
        assert_eq!(browser.cookies().await, [cookie]);
        assert_eq!(browser.run("return document.cookie").await, json!(""), "a script does not see it");
        assert_eq!(browser.complaints().await, Vec::<String>::new());
        browser.run("setTimeout(() => { throw new Error('on purpose') })").await;
        let heard = || async { browser.complaints().await.iter().any(|complaint| complaint.contains("on purpose")) };
        browser.wait_until("the page's error to be heard", heard).await;

        let folder = TempDir::new().unwrap();
        let picture = folder.path().join("listener.png");
        browser.screenshot(&picture).await;
        assert!(std::fs::read(&picture).unwrap().starts_with(b"\x89PNG"));

        browser.run("setTimeout(() => { document.title = 'Open' }, 100)").await;
        browser
            .wait_until("the title to change", || async { browser.run("return document.title").await == "Open" })
            .await;
    }
}
