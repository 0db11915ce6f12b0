//! The `sandbox` verb as a person starts it: its folder, its daemon, its end.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use http::Method;
use pagesyncd::admin_client;
use serde_json::Value;
use signal_hook::consts::{SIGHUP, SIGINT, SIGKILL, SIGTERM};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::harness::{LIMIT, free_port, until};

const MARKER: &str = ".pagesyncd-sandbox";

/// A sandbox that was started.
pub(super) struct Sandbox {
    child: Child,
    stdout: BufReader<tokio::process::ChildStdout>,
    said: String,
    pub(super) console: u16,
    pub(super) http: u16,
}

/// How a sandbox ended.
pub(super) struct End {
    pub(super) code: Option<i32>,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

impl Sandbox {
    fn start(dir: &Path, more: &[&str]) -> Sandbox {
        let (http, console) = (free_port(), free_port());
        Sandbox::start_at(dir, http, console, more)
    }

    pub(super) fn start_at(dir: &Path, http: u16, console: u16, more: &[&str]) -> Sandbox {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pagesyncd"));
        command.arg("sandbox").arg("--dir").arg(dir).args(more);
        command.args(["--http", &format!("127.0.0.1:{http}"), "--console", &format!("127.0.0.1:{console}")]);
        // A process group of its own, as a shell makes one for each job.
        command.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Sandbox { child, stdout, said: String::new(), console, http }
    }

    /// Waits until it says that it is ready.
    pub(super) async fn ready(mut self) -> Sandbox {
        let greeted = async {
            while !self.said.contains("Ctrl-C ends it") {
                if self.stdout.read_line(&mut self.said).await.unwrap() == 0 {
                    let mut stderr = String::new();
                    self.child.stderr.take().unwrap().read_to_string(&mut stderr).await.unwrap();
                    panic!("the sandbox ended early: {}{stderr}", self.said);
                }
            }
        };
        tokio::time::timeout(LIMIT, greeted).await.unwrap();
        self
    }

    fn signal(&self, signal: i32) {
        kill(&self.child.id().unwrap().to_string(), signal);
    }

    /// Sends the signal as a terminal does it: to the whole process group.
    pub(super) fn signal_group(&self, signal: i32) {
        kill(&format!("-{}", self.child.id().unwrap()), signal);
    }

    pub(super) async fn end(mut self) -> End {
        let ended = async {
            let mut stderr = String::new();
            self.stdout.read_to_string(&mut self.said).await.unwrap();
            self.child.stderr.take().unwrap().read_to_string(&mut stderr).await.unwrap();
            End { code: self.child.wait().await.unwrap().code(), stdout: std::mem::take(&mut self.said), stderr }
        };
        tokio::time::timeout(LIMIT, ended).await.unwrap()
    }

    pub(super) async fn state(&self) -> Option<Value> {
        let answer = reqwest::get(format!("http://127.0.0.1:{}/api/state", self.console)).await.ok()?;
        answer.json().await.ok()
    }

    async fn daemon_pid(&self) -> Option<u64> {
        self.state().await?["daemon"]["pid"].as_u64()
    }
}

impl Drop for Sandbox {
    /// A test that failed leaves no daemon and no database behind, as a killed sandbox does.
    fn drop(&mut self) {
        let Some(pid) = self.child.id().filter(|_| std::thread::panicking()) else { return };
        let _ = std::process::Command::new("kill").args(["-TERM", &pid.to_string()]).status();
        let until = Instant::now() + Duration::from_secs(20);
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn kill(whom: &str, signal: i32) {
    let status = std::process::Command::new("kill").args([&format!("-{signal}"), "--", whom]).status().unwrap();
    assert!(status.success());
}

/// Every file below a folder, with its content.
fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(path.clone(), std::fs::read(&path).unwrap());
            }
        }
    }
    found
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_folder_with_files_of_others_is_refused_and_left_alone() {
    let home = TempDir::new().unwrap();
    for path in ["config.toml", "spaces/photo.jpg", "store/db", "daemon.log", "world.json", "notes.txt"] {
        let path = home.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "somebody's only copy").unwrap();
    }
    let before = contents(home.path());
    for more in [&[][..], &["--keep"]] {
        let sandbox = Sandbox::start(home.path(), more);
        let end = sandbox.end().await;
        assert_eq!(end.code, Some(64), "{}", end.stderr);
        assert!(end.stderr.contains(home.path().to_str().unwrap()) && end.stderr.contains(MARKER), "{}", end.stderr);
        assert_eq!(contents(home.path()), before);
    }
}

#[tokio::test]
async fn a_folder_in_use_is_refused_and_its_sandbox_goes_on() {
    let home = TempDir::new().unwrap();
    let dir = home.path().join("box");
    let first = Sandbox::start(&dir, &[]).ready().await;
    let config = std::fs::read(dir.join("config.toml")).unwrap();
    let end = Sandbox::start(&dir, &[]).end().await;
    assert_eq!(end.code, Some(75), "{}", end.stderr);
    assert!(end.stderr.contains("in use") && end.stderr.contains(&first.child.id().unwrap().to_string()));
    assert_eq!(std::fs::read(dir.join("config.toml")).unwrap(), config);
    assert!(first.daemon_pid().await.is_some());
    // A sandbox that is killed leaves its daemon behind, which still uses the folder.
    let daemon = first.daemon_pid().await.unwrap();
    first.signal(SIGKILL);
    assert_eq!(first.end().await.code, None);
    let end = Sandbox::start(&dir, &[]).end().await;
    assert_eq!((end.code, end.stderr.contains("in use")), (Some(75), true), "{}", end.stderr);
    kill(&daemon.to_string(), SIGKILL);
    until("the daemon is gone", async || !Path::new(&format!("/proc/{daemon}/exe")).exists()).await;
    let again = Sandbox::start(&dir, &[]).ready().await;
    again.signal(SIGTERM);
    assert_eq!(again.end().await.code, Some(0));
    assert!(!dir.exists(), "{:?}", names(&dir));
}

#[tokio::test]
async fn without_keep_goes_what_the_sandbox_made_and_nothing_else() {
    let home = TempDir::new().unwrap();
    let made = home.path().join("made/by/it");
    let given = home.path().join("given");
    std::fs::create_dir(&given).unwrap();
    for signal in [SIGTERM, SIGINT, SIGHUP] {
        for dir in [&made, &given] {
            let sandbox = Sandbox::start(dir, &[]).ready().await;
            assert!(names(dir).contains(&MARKER.to_owned()));
            if dir == &given {
                std::fs::write(dir.join("notes.txt"), "mine").unwrap();
            }
            sandbox.signal(signal);
            let end = sandbox.end().await;
            assert_eq!(end.code, Some(0), "{}", end.stderr);
        }
        assert!(!made.exists(), "{:?}", names(&made));
        assert_eq!(names(&given), ["notes.txt"]);
        std::fs::remove_file(given.join("notes.txt")).unwrap();
    }
}

#[tokio::test]
async fn a_kept_folder_goes_on_and_stays_kept() {
    let home = TempDir::new().unwrap();
    let dir = home.path().join("box");
    let sandbox = Sandbox::start(&dir, &["--keep", "--pages", "5"]).ready().await;
    sandbox.signal(SIGTERM);
    let end = sandbox.end().await;
    assert_eq!((end.code, end.stdout.contains("kept in")), (Some(0), true), "{}", end.stderr);
    // Forgetting --keep must not cost the kept world.
    for _ in 0..2 {
        let sandbox = Sandbox::start(&dir, &[]).ready().await;
        assert_eq!(sandbox.state().await.unwrap()["pages"], 5);
        assert!(!sandbox.said.contains(" 12 pages"), "{}", sandbox.said);
        let config = std::fs::canonicalize(&dir).unwrap().join("config.toml");
        let call = format!("{} status --config {}", env!("CARGO_BIN_EXE_pagesyncd"), config.display());
        assert!(sandbox.said.contains(&call), "{}", sandbox.said);
        sandbox.signal(SIGTERM);
        let end = sandbox.end().await;
        assert_eq!((end.code, end.stdout.contains("kept in")), (Some(0), true), "{}", end.stderr);
    }
    for name in ["config.toml", "daemon.log", "spaces", "store", "world.json", MARKER] {
        assert!(dir.join(name).exists(), "{name}");
    }
}

#[tokio::test]
async fn a_daemon_that_does_not_start_is_reported_with_its_exit_code() {
    let home = TempDir::new().unwrap();
    let dir = home.path().join("box");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let end = Sandbox::start_at(&dir, port, free_port(), &[]).end().await;
    assert_eq!(end.code, Some(75), "{}", end.stderr);
    for word in ["exit code 75", "http.listen", "--http"] {
        assert!(end.stderr.contains(word), "{word}: {}", end.stderr);
    }
    assert!(!dir.exists(), "what a failed start made is removed");
    // An address for the console that is taken, and the daemon runs by then.
    let end = Sandbox::start_at(&dir, free_port(), port, &[]).end().await;
    assert_eq!((end.code, end.stderr.contains("--console")), (Some(75), true), "{}", end.stderr);
    assert!(!dir.exists(), "what a failed start made is removed");
}

#[tokio::test]
async fn a_daemon_that_fails_ends_the_sandbox_with_its_exit_code() {
    let home = TempDir::new().unwrap();
    let sandbox = Sandbox::start(home.path(), &[]).ready().await;
    let socket = home.path().join("admin.sock");
    // The uploader that dies again and again ends the process.
    until("the daemon gives up", async || {
        admin_client::fetch(&socket, Method::POST, "/v1/drill/uploader", "").await.is_err()
    })
    .await;
    let end = sandbox.end().await;
    assert_eq!(end.code, Some(70), "{}", end.stderr);
    assert!(end.stderr.contains("exit code 70") && end.stderr.contains("uploader"), "{}", end.stderr);
    assert_eq!(names(home.path()), Vec::<String>::new());
}

#[tokio::test]
async fn a_daemon_that_was_killed_is_reported_and_can_be_started_again() {
    let home = TempDir::new().unwrap();
    let sandbox = Sandbox::start(home.path(), &[]).ready().await;
    let daemon = sandbox.daemon_pid().await.unwrap();
    kill(&daemon.to_string(), SIGKILL);
    until("the console shows it", async || sandbox.state().await.unwrap()["daemon"]["state"] == "stopped").await;
    let http = reqwest::Client::new();
    let start = http
        .post(format!("http://127.0.0.1:{}/api/daemon", sandbox.console))
        .header("content-type", "application/json")
        .body(r#"{"action":"start"}"#);
    assert_eq!(start.send().await.unwrap().status(), 200);
    assert_eq!(reqwest::get(format!("http://127.0.0.1:{}/healthz", sandbox.http)).await.unwrap().status(), 200);
    sandbox.signal(SIGTERM);
    let end = sandbox.end().await;
    assert_eq!((end.code, end.stderr.contains("killed by signal 9")), (Some(0), true), "{}", end.stderr);
    // And one that stays away is no success.
    let sandbox = Sandbox::start(home.path(), &[]).ready().await;
    kill(&sandbox.daemon_pid().await.unwrap().to_string(), SIGKILL);
    until("the console shows it", async || sandbox.state().await.unwrap()["daemon"]["state"] == "stopped").await;
    sandbox.signal(SIGTERM);
    let end = sandbox.end().await;
    assert_eq!((end.code, end.stderr.contains("killed by signal 9")), (Some(70), true), "{}", end.stderr);
}

#[tokio::test]
async fn an_interrupt_from_the_terminal_lets_the_daemon_drain() {
    let home = TempDir::new().unwrap();
    let sandbox = Sandbox::start(home.path(), &["--keep"]).ready().await;
    let address = ("127.0.0.1", sandbox.http);
    // A request that is half sent: the daemon waits for it, unless it is made to end at once.
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"POST /facebook/webhook HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{").await.unwrap();
    until("the request is under way", async || {
        // Answered on a connection of its own after the other was accepted.
        reqwest::get(format!("http://127.0.0.1:{}/healthz", sandbox.http)).await.is_ok_and(|a| a.status() == 200)
    })
    .await;
    sandbox.signal_group(SIGINT);
    until("the daemon listens no more", async || TcpStream::connect(address).await.is_err()).await;
    stream.write_all(b"}").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer:?}");
    let end = sandbox.end().await;
    assert_eq!((end.code, end.stderr.as_str()), (Some(0), ""));
    let log = std::fs::read_to_string(home.path().join("daemon.log")).unwrap();
    assert!(log.lines().last().unwrap().contains("stopped"), "{log}");
}

#[tokio::test]
async fn a_signal_is_heard_while_the_world_is_built() {
    for signal in [SIGTERM, SIGINT, SIGHUP] {
        let home = TempDir::new().unwrap();
        let dir = home.path().join("box");
        let sandbox = Sandbox::start(&dir, &["--pages", "20000"]);
        until("the folder is made", async || dir.exists()).await;
        sandbox.signal(signal);
        let end = sandbox.end().await;
        assert_eq!(end.code, Some(0), "{}", end.stderr);
        assert!(!end.stdout.contains("console"), "the world was finished first: {}", end.stdout);
        assert!(!dir.exists());
    }
}

#[tokio::test]
async fn more_pages_than_fit_are_refused_with_the_limit() {
    let home = TempDir::new().unwrap();
    let dir = home.path().join("box");
    for pages in ["10000000", "18446744073709551615", "99999999999999999999999"] {
        let end = Sandbox::start(&dir, &["--pages", pages]).end().await;
        assert_eq!((end.code, dir.exists()), (Some(64), false), "{}", end.stderr);
        assert!(end.stderr.contains("--pages"), "{}", end.stderr);
    }
    let end = Sandbox::start(&dir, &["--pages", "10000000"]).end().await;
    let limit = end.stderr.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse::<u64>().ok()).max();
    assert!(end.stderr.contains("at most") && limit.is_some(), "{}", end.stderr);
}
