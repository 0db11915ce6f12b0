//! `sandbox --daemons N`: several daemons on a database that the sandbox runs itself, behind one address, and the console
//! that shows which of them holds what.

use std::path::Path;
use std::sync::atomic::{AtomicU16, Ordering};

use http::Method;
use pagesyncd::admin_client;
use pagesyncd::sandbox::postgres::Postgres;
use serde_json::{Value, json};
use signal_hook::consts::SIGINT;
use tempfile::TempDir;

use super::browser::{appears, link_all, picture, show};
use super::console::is_readable;
use super::sandbox::Sandbox;
use super::webdriver::{Browser, SPACE};
use crate::harness::until;

/// A sandbox of several daemons takes the ports behind its own.
const PORTS: u16 = 24;

/// The ports of a sandbox, below those that other stories take: its front's and its console's.
fn ports() -> (u16, u16) {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let free = |port: &u16| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok();
    let start = (std::process::id() % 300) as u16;
    loop {
        let port = 12_000 + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % 300 * PORTS;
        if (port..port + PORTS).all(|port| free(&port)) {
            return (port, port + PORTS - 1);
        }
    }
}

/// A sandbox of so many daemons; `None` without PostgreSQL.
async fn started(dir: &Path, daemons: usize, more: &[&str]) -> Option<Sandbox> {
    Postgres::for_test(Postgres::installed())?;
    let (http, console) = ports();
    let count = daemons.to_string();
    let arguments = [&["--daemons", &count], more].concat();
    Some(Sandbox::start_at(dir, http, console, &arguments).ready().await)
}

impl Sandbox {
    /// Presses a button of the console.
    async fn press(&self, button: &str, body: Value) -> Value {
        let url = format!("http://127.0.0.1:{}/api/{button}", self.console);
        let answer = reqwest::Client::new().post(url).json(&body).send().await.unwrap();
        let (status, value) = (answer.status().as_u16(), answer.json().await.unwrap());
        assert_eq!(status, 200, "{button} {body}: {value}");
        value
    }

    async fn see(&self, what: &str) -> Value {
        let url = format!("http://127.0.0.1:{}/api/{what}", self.console);
        reqwest::get(url).await.unwrap().json().await.unwrap()
    }

    /// The leases that each daemon holds, those that run alone.
    async fn leases(&self) -> Vec<(String, u64)> {
        let state = self.state().await.unwrap();
        let members = state["daemons"]["members"].as_array().unwrap();
        let running = members.iter().filter(|member| member["state"] == "running");
        let text = |member: &Value| member["name"].as_str().unwrap().to_owned();
        running.map(|member| (text(member), member["leases"].as_u64().unwrap_or_default())).collect()
    }

    /// Waits until so many daemons hold all leases between them, each a fair part.
    async fn until_shared(&self, daemons: usize) {
        until("the leases are divided among the daemons that run", async || {
            let held = self.leases().await;
            let fair = 1024 / daemons as u64 - 8;
            held.len() == daemons
                && held.iter().map(|(_, leases)| leases).sum::<u64>() == 1024
                && held.iter().all(|(_, leases)| *leases >= fair)
        })
        .await;
    }

    /// The pages in the console's table, all of them.
    async fn rows(&self) -> Vec<Value> {
        self.see("pages?limit=100").await["rows"].as_array().unwrap().clone()
    }

    /// Waits until every page's object is as the page.
    async fn until_true(&self) {
        until("the objects are true", async || self.rows().await.iter().all(|row| row["standing"] == "equal")).await;
        assert_eq!(self.state().await.unwrap()["violations"], json!([]));
    }

    /// Links all pages, through the front and the dialog.
    async fn link_all(&self) {
        let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        let user = self.state().await.unwrap()["users"][0].clone();
        let login = self.press("login", json!({"user": user})).await["url"].as_str().unwrap().to_owned();
        assert!(login.starts_with(&format!("http://127.0.0.1:{}/", self.http)), "{login}");
        let (mut cookies, mut at) = (Vec::<String>::new(), login);
        // The link gives the browser its session, and leads on to the dialog.
        while !at.contains("dialog") {
            let answer = client.get(&at).header("cookie", cookies.join("; ")).send().await.unwrap();
            assert!(answer.status().is_redirection(), "{at}: {}", answer.status());
            let set = answer.headers().get_all("set-cookie").iter();
            cookies.extend(set.map(|cookie| cookie.to_str().unwrap().split(';').next().unwrap().to_owned()));
            let to = answer.headers()["location"].to_str().unwrap();
            at = if to.starts_with('/') { format!("http://127.0.0.1:{}{to}", self.http) } else { to.to_owned() };
        }
        assert!(cookies.iter().any(|cookie| cookie.starts_with("pagesyncd_daemon=daemon-")), "{cookies:?}");
        let form = [("pages", "all"), ("decision", "continue")];
        let decided = client.post(&at).form(&form).send().await.unwrap();
        let back = decided.headers()["location"].to_str().unwrap().replace("#_=_", "");
        let linked = client.get(&back).header("cookie", cookies.join("; ")).send().await.unwrap();
        assert_eq!(linked.status(), 200, "{}", linked.text().await.unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_others_take_over_from_a_daemon_that_is_killed_in_the_console() {
    let home = TempDir::new().unwrap();
    let Some(sandbox) = started(home.path(), 3, &["--pages", "8", "--keep"]).await else { return };
    sandbox.until_shared(3).await;
    sandbox.link_all().await;
    sandbox.until_true().await;
    until("the table names the daemon of each page", async || {
        sandbox.rows().await.iter().all(|row| row["daemon"].as_str().is_some_and(|name| name.starts_with("daemon-")))
    })
    .await;

    sandbox.press("daemon", json!({"daemon": "daemon-2", "action": "kill"})).await;
    sandbox.until_shared(2).await;
    assert!(sandbox.leases().await.iter().all(|(name, _)| name != "daemon-2"));
    // Facebook sends each change to the front.
    for row in sandbox.rows().await {
        sandbox.press("edit", json!({"page": row["id"], "field": "description", "value": "While one is dead."})).await;
    }
    sandbox.until_true().await;
    assert!(sandbox.rows().await.iter().all(|row| row["daemon"] != "daemon-2"));
    sandbox.press("daemon", json!({"daemon": "daemon-2", "action": "start"})).await;
    sandbox.until_shared(3).await;
    sandbox.signal_group(SIGINT);
    let end = sandbox.end().await;
    assert_eq!((end.code, end.stderr.as_str(), end.stdout.contains("kept in")), (Some(0), "", true), "{}", end.stdout);

    // The folder goes on with several daemons, another number of them too, and with nothing else.
    let (http, console) = ports();
    let refused = Sandbox::start_at(home.path(), http, console, &[]).end().await;
    assert_eq!((refused.code, refused.stderr.contains("--daemons")), (Some(64), true), "{}", refused.stderr);
    let sandbox = started(home.path(), 2, &[]).await.unwrap();
    sandbox.until_shared(2).await;
    until("the links are there", async || sandbox.state().await.unwrap()["status"]["links"] == 8).await;
    sandbox.until_true().await;
    sandbox.signal_group(SIGINT);
    let end = sandbox.end().await;
    assert_eq!((end.code, end.stderr.as_str()), (Some(0), ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_of_several_that_fails_ends_the_sandbox_with_its_exit_code() {
    let home = TempDir::new().unwrap();
    let dir = home.path().join("box");
    let Some(sandbox) = started(&dir, 2, &[]).await else { return };
    // The uploader that dies again and again ends the process.
    let socket = dir.join("daemon-2/admin.sock");
    until("the daemon gives up", async || {
        admin_client::fetch(&socket, Method::POST, "/v1/drill/uploader", "").await.is_err()
    })
    .await;
    let end = sandbox.end().await;
    assert_eq!(end.code, Some(70), "{}", end.stderr);
    assert!(end.stderr.contains("daemon-2 ended by itself: exit code 70"), "{}", end.stderr);
    assert!(!dir.exists(), "what the sandbox made is removed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_kills_one_of_several_daemons_and_sees_the_others_take_its_leases() {
    let home = TempDir::new().unwrap();
    let Some(browser) = Browser::start().await else { return };
    // As many as the table shows. With 25 links a daemon holds none of them in one run of 25,000.
    let Some(sandbox) = started(home.path(), 3, &["--pages", "25"]).await else { return };
    browser.goto(&format!("http://127.0.0.1:{}/", sandbox.console)).await;
    browser.wait_until("all run", || async { browser.text("#daemon-state").await == "3 of 3 daemons run" }).await;
    sandbox.until_shared(3).await;
    link_all(&browser, 25).await;
    show(&browser, "daemon").await;
    for name in ["daemon-1", "daemon-2", "daemon-3"] {
        appears(&browser, &format!("#daemons li[data-daemon='{name}'][data-state='running'][data-leases^='34']")).await;
    }
    appears(&browser, "#page-rows [data-holder='daemon-2']").await;
    in_all_looks(&browser, "daemons-1-all").await;

    browser.click("#daemons [data-key='daemon-2-kill']").await;
    appears(&browser, "#daemons li[data-daemon='daemon-2'][data-state='stopped'][data-leases='0']").await;
    picture(&browser, "daemons-2-killed").await;
    for name in ["daemon-1", "daemon-3"] {
        appears(&browser, &format!("#daemons li[data-daemon='{name}'][data-leases='512']")).await;
    }
    let holders = "return [...document.querySelectorAll('#page-rows [data-holder]')].map(one => one.dataset.holder)";
    browser
        .wait_until("the others hold all pages", || async {
            let held: Vec<String> = serde_json::from_value(browser.run(holders).await).unwrap();
            held.len() == 25 && held.iter().all(|name| name != "daemon-2")
        })
        .await;
    assert!(browser.text("#daemons li[data-daemon='daemon-2']").await.contains("killed by signal 9"));
    assert_eq!(browser.text("#daemon-state").await, "2 of 3 daemons run");
    in_all_looks(&browser, "daemons-3-taken-over").await;

    // By the keyboard: paused, continued, started again.
    browser.press("#daemons [data-key='daemon-1-pause']", SPACE).await;
    appears(&browser, "#daemons li[data-daemon='daemon-1'][data-state='paused']").await;
    assert_eq!(browser.run("return document.activeElement.dataset.key").await, "daemon-1-pause");
    in_all_looks(&browser, "daemons-4-paused").await;
    browser.press("#daemons [data-key='daemon-1-pause']", SPACE).await;
    browser.press("#daemons [data-key='daemon-2-turn']", SPACE).await;
    browser.wait_until("all run", || async { browser.text("#daemon-state").await == "3 of 3 daemons run" }).await;
    browser.press("#database-turn", SPACE).await;
    appears(&browser, "#database-state[data-state='stopped']").await;
    picture(&browser, "daemons-5-no-database").await;
    browser.press("#database-turn", SPACE).await;
    appears(&browser, "#database-state[data-state='running']").await;
    sandbox.until_shared(3).await;
    assert_eq!(browser.complaints().await, Vec::<String>::new());
    sandbox.signal_group(SIGINT);
    let end = sandbox.end().await;
    assert_eq!((end.code, end.stderr.as_str()), (Some(0), ""), "{}", end.stdout);
}

/// Readable in both schemes, on wide and narrow windows, and nothing lies beyond the edge.
async fn in_all_looks(browser: &Browser, scene: &str) {
    for (width, height, dark) in [(390, 844, true), (390, 844, false), (1280, 900, true), (1280, 900, false)] {
        browser.look_as(width, height, dark).await;
        show(browser, "daemon").await;
        is_readable(browser, &format!("{scene}-{width}-{dark}")).await;
        let fits = "return document.documentElement.scrollWidth <= innerWidth";
        assert_eq!(browser.run(fits).await, true, "{scene}: nothing lies beyond the edge at {width}");
    }
}
