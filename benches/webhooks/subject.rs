//! The real daemon beside the sandbox's Facebook and Spaces, with as many links as a case needs.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use http::Method;
use pagesyncd::core::model::UserId;
use pagesyncd::sandbox::daemon::{Daemon, DaemonFiles};
use pagesyncd::sandbox::fault::Fault;
use pagesyncd::sandbox::world::state::{PERMISSIONS, Token, TokenKind};
use pagesyncd::sandbox::{DaemonSetup, Options, World, WorldServer};
use serde_json::json;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::address::free_address;
use crate::process::{Pinning, cpu_time};
use crate::{Fallible, load};

const PROGRAM: &str = env!("CARGO_BIN_EXE_pagesyncd");
/// Manages all pages of the sandbox.
const PERSON: &str = "2210000000000101";
/// While links are made, and in the case that waits for objects.
pub const SHORT_DEBOUNCE: Duration = Duration::from_secs(1);
/// While marks must stand: no read begins before the case is over.
pub const LONG_DEBOUNCE: Duration = Duration::from_secs(3600);
/// For so many reads and writes, the sandbox may take this long.
const REST: Duration = Duration::from_secs(900);
/// The daemon is idle when it uses less than this share of a core.
const IDLE: f64 = 0.03;

/// The daemon under test. Dropping it kills the daemon.
pub struct Subject {
    pub address: SocketAddr,
    pub pages: Vec<String>,
    runtime: Runtime,
    server: WorldServer,
    daemon: Arc<Daemon>,
    setup: DaemonSetup,
    user: UserId,
    dir: TempDir,
    _socket_dir: TempDir,
}

impl Subject {
    /// A daemon with so many links, all read and stored, and idle. Its store is in a new folder below `dir`.
    pub fn start(links: usize, pinning: &Pinning, dir: &Path) -> Fallible<Subject> {
        let began = Instant::now();
        let runtime = Runtime::new()?;
        // The path of a socket is short, whatever `dir` is.
        let (dir, socket_dir) = (TempDir::new_in(dir)?, TempDir::new()?);
        let options = Options::new(dir.path().join("world")).pages(links);
        let server = runtime.block_on(WorldServer::start(options))?;
        // The cases send the webhooks.
        server.world.set_fault(Fault::WebhooksLost, true);
        let address = free_address()?;
        let mut setup = DaemonSetup::new(address.to_string(), dir.path());
        setup.admin_socket = socket_dir.path().join("admin.sock");
        setup.debounce = SHORT_DEBOUNCE;
        let daemon = Daemon::new(DaemonFiles {
            program: pinning.wrapper(PROGRAM.as_ref(), dir.path())?,
            config: dir.path().join("config.toml"),
            socket: setup.admin_socket.clone(),
            log: Some(dir.path().join("daemon.log")),
            env: Vec::new(),
        });
        let pages = server.world.look(|state| state.pages.keys().cloned().collect());
        let user = UserId::random();
        // The daemon spreads the first reads over a quarter of the interval where twenty a second would take longer.
        setup.poll_interval = Duration::from_secs((links as u64 / 50).max(60));
        let mut subject =
            Subject { address, pages, runtime, server, daemon, setup, user, dir, _socket_dir: socket_dir };
        subject.begin()?;
        subject.link()?;
        subject.until_stored()?;
        subject.setup.poll_interval = Duration::from_secs(24 * 3600);
        subject.restart(SHORT_DEBOUNCE)?;
        eprintln!("{links} links were made in {:.0} s", began.elapsed().as_secs_f64());
        Ok(subject)
    }

    pub fn world(&self) -> &World {
        &self.server.world
    }

    /// The app secret, which signs deliveries.
    pub fn secret(&self) -> &str {
        &self.server.app_secret
    }

    /// A folder on the disk of the store.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn pid(&self) -> Fallible<u32> {
        self.daemon.pid().ok_or_else(|| format!("the daemon ended: {}", self.daemon.how_it_ended()).into())
    }

    /// Starts the daemon again with another debounce, and waits until it is idle.
    pub fn restart(&mut self, debounce: Duration) -> Fallible<()> {
        self.runtime.block_on(self.daemon.stop());
        self.setup.debounce = debounce;
        self.begin()?;
        self.until_idle()
    }

    fn begin(&self) -> Fallible<()> {
        std::fs::write(self.dir.path().join("config.toml"), self.server.config_toml(&self.setup))?;
        Ok(self.runtime.block_on(self.daemon.start())?)
    }

    /// Imports a link for each page, as an operator does.
    fn link(&self) -> Fallible<()> {
        let lines: Vec<String> = self.pages.iter().map(|page| self.line(page)).collect();
        self.world().change(|state| {
            if let Some(person) = state.persons.get_mut(PERSON) {
                person.granted = PERMISSIONS.iter().map(|name| (*name).to_owned()).collect();
                person.ticked = self.pages.iter().cloned().collect();
            }
        });
        let file = self.dir.path().join("links");
        std::fs::write(&file, lines.join("\n"))?;
        let mut command = Command::new(PROGRAM);
        let output =
            command.arg("import").arg("--config").arg(self.dir.path().join("config.toml")).arg(file).output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        output.status.success().then_some(()).ok_or_else(|| format!("the links cannot be imported: {said}").into())
    }

    /// A line to import, with a token that the sandbox accepts.
    fn line(&self, page: &str) -> String {
        let text = format!("EAAPbench{page}");
        let token = Token {
            kind: TokenKind::Page,
            person: PERSON.to_owned(),
            page: Some(page.to_owned()),
            issued_at: 1_763_769_600,
            expires_at: 0,
            refused: None,
        };
        self.world().change(|state| state.tokens.insert(text.clone(), token));
        json!({"user": self.user, "page_id": page, "access_token": text, "facebook_user_id": PERSON}).to_string()
    }

    /// Waits until each link has its object.
    fn until_stored(&self) -> Fallible<()> {
        let key = |page: &String| format!("users/{}/facebook/{page}/page_data.json", self.user);
        let keys: Vec<String> = self.pages.iter().map(key).collect();
        let began = Instant::now();
        while began.elapsed() < REST {
            if keys.iter().all(|key| self.world().puts(key) > 0) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(500));
        }
        Err("not all objects are stored".into())
    }

    /// Waits until no read and no write is owed, and the daemon uses hardly any CPU.
    fn until_idle(&self) -> Fallible<()> {
        let (began, pause) = (Instant::now(), Duration::from_secs(1));
        let mut status = None;
        while began.elapsed() < REST {
            let before = cpu_time(self.pid()?)?;
            std::thread::sleep(pause);
            let used = (cpu_time(self.pid()?)? - before).as_secs_f64() / pause.as_secs_f64();
            status = self.runtime.block_on(self.daemon.ask(Method::GET, "/v1/status", ""));
            let rests = status.as_ref().is_some_and(|status| {
                status["due"] == 0 && status["outbox"] == 0 && status["links"] == self.pages.len()
            });
            if rests && used < IDLE {
                return Ok(());
            }
        }
        Err(format!("the daemon does not become idle: {status:?}").into())
    }

    /// Edits one page after the other, so many a second, delivers the change, and waits for its object. The times from
    /// the delivery to the stored object, less the debounce, in microseconds.
    pub fn objects(&self, count: usize, per_second: u32, deliveries: &[Vec<u8>]) -> Fallible<Histogram<u64>> {
        let mut latencies = load::histogram();
        let (mut due, mut open) = (Instant::now(), Vec::new());
        let key = |page: &str| format!("users/{}/facebook/{page}/page_data.json", self.user);
        let mut next = 0;
        let mut connection = load::Connection::open(self.address)?;
        while next < count || !open.is_empty() {
            if next < count && Instant::now() >= due {
                let page = &self.pages[next];
                let puts = self.world().puts(&key(page));
                self.world().edit_page(page, "description", format!("Edit {next}").into())?;
                let status = connection.exchange(&deliveries[next])?;
                if status != 200 {
                    return Err(format!("a delivery was answered {status}").into());
                }
                open.push((key(page), puts, due));
                (next, due) = (next + 1, due + Duration::from_secs(1) / per_second);
            }
            open.retain(|(key, puts, since)| {
                let is_stored = self.world().puts(key) > *puts;
                if is_stored {
                    let beyond = since.elapsed().saturating_sub(self.setup.debounce);
                    latencies.saturating_record(beyond.as_micros() as u64);
                }
                !is_stored
            });
            if due.elapsed() > Duration::from_secs(60) {
                return Err(format!("{} objects were not stored", open.len()).into());
            }
            std::thread::sleep(Duration::from_micros(500));
        }
        Ok(latencies)
    }
}
