//! The real daemon with very many links, asked from outside.

use std::fs;
use std::io::{BufWriter, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use pagesyncd::core::model::UserId;
use pagesyncd::sandbox::{DaemonSetup, Options, WorldServer};
use serde_json::json;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::memory::memory;
use crate::process::{Pinning, cpu_time};
use crate::{Fallible, deliveries};

const PROGRAM: &str = env!("CARGO_BIN_EXE_pagesyncd");
/// For so many links, a start may take this long.
const PATIENCE: Duration = Duration::from_secs(300);
/// The daemon is idle when it uses less than this share of a core.
const IDLE: f64 = 0.03;

/// An answer that was read to its end.
pub struct Listed {
    /// From the request to the first byte of the answer.
    pub first: Duration,
    /// To the last one.
    pub whole: Duration,
    pub bytes: usize,
}

/// The daemon under test. Dropping it kills the daemon.
pub struct Subject {
    pub address: SocketAddr,
    pinning: Pinning,
    server: WorldServer,
    daemon: Option<Child>,
    pages: Vec<String>,
    dir: TempDir,
    socket_dir: TempDir,
    _runtime: Runtime,
}

impl Subject {
    /// A daemon that does not run yet, with an empty store in a new folder below `dir`.
    pub fn new(pinning: Pinning, dir: &Path) -> Fallible<Subject> {
        let runtime = Runtime::new()?;
        // The path of a socket is short, whatever `dir` is.
        let (dir, socket_dir) = (TempDir::new_in(dir)?, TempDir::new()?);
        let server = runtime.block_on(WorldServer::start(Options::new(dir.path().join("world")).pages(1)))?;
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let mut setup = DaemonSetup::new(address.to_string(), dir.path());
        setup.admin_socket = socket_dir.path().join("admin.sock");
        setup.debounce = Duration::from_secs(3600);
        setup.poll_interval = Duration::from_secs(7 * 24 * 3600);
        fs::write(dir.path().join("config.toml"), server.config_toml(&setup))?;
        let pages = Vec::new();
        Ok(Subject { address, pinning, server, daemon: None, pages, dir, socket_dir, _runtime: runtime })
    }

    fn config(&self) -> PathBuf {
        self.dir.path().join("config.toml")
    }

    pub fn pid(&self) -> Fallible<u32> {
        Ok(self.daemon.as_ref().ok_or("the daemon does not run")?.id())
    }

    /// Starts the daemon and returns when it reports READY.
    pub fn start(&mut self) -> Fallible<()> {
        let path = self.socket_dir.path().join("notify");
        let _ = fs::remove_file(&path);
        let notify = UnixDatagram::bind(&path)?;
        notify.set_read_timeout(Some(PATIENCE))?;
        let log = fs::File::create(self.dir.path().join("daemon.log"))?;
        let mut command = self.pinning.server(PROGRAM.as_ref());
        command.args(["run", "--config"]).arg(self.config()).env("NOTIFY_SOCKET", &path);
        self.daemon = Some(command.stdout(Stdio::null()).stderr(log).spawn()?);
        let mut text = [0; 4096];
        loop {
            let length = notify.recv(&mut text)?;
            if text[..length].windows(7).any(|word| word == b"READY=1") {
                return Ok(());
            }
        }
    }

    /// Stops it as a service manager does.
    pub fn stop(&mut self) -> Fallible<()> {
        let mut daemon = self.daemon.take().ok_or("the daemon does not run")?;
        Command::new("kill").arg(daemon.id().to_string()).status()?;
        let ended = daemon.wait()?;
        ended.success().then_some(()).ok_or_else(|| format!("the daemon ended with {ended}").into())
    }

    /// Waits until the daemon uses hardly any CPU.
    pub fn until_idle(&self) -> Fallible<()> {
        let (began, pause) = (Instant::now(), Duration::from_millis(250));
        while began.elapsed() < PATIENCE {
            let before = cpu_time(self.pid()?)?;
            std::thread::sleep(pause);
            if (cpu_time(self.pid()?)? - before).as_secs_f64() < IDLE * pause.as_secs_f64() {
                return Ok(());
            }
        }
        Err("the daemon does not become idle".into())
    }

    /// Writes a file of links to import, each of another user. Returns what there is to say of it.
    pub fn write_lines(&mut self, links: usize) -> Fallible<String> {
        let mut file = BufWriter::new(fs::File::create(self.dir.path().join("links"))?);
        for number in 0..links {
            let page = (100_000_000_000_000 + number).to_string();
            // As long as a page token is.
            let token = format!("EAAPbench{page}{}", "x".repeat(170));
            let line = json!({"user": UserId::random(), "page_id": page, "access_token": token,
                "facebook_user_id": (2_000_000_000_000 + number).to_string(), "name": format!("Page {number}")});
            writeln!(file, "{line}")?;
            self.pages.push(page);
        }
        file.flush()?;
        Ok(format!("{links} users"))
    }

    /// Runs a verb in the folder of the bench, and says how much memory it took at most.
    pub fn verb(&self, arguments: &[&str], note: String) -> Fallible<String> {
        let mut command = Command::new(PROGRAM);
        command.args(arguments).arg("--config").arg(self.config()).current_dir(self.dir.path());
        let errors = fs::File::create(self.dir.path().join("verb.log"))?;
        let mut child = command.stdout(Stdio::null()).stderr(errors).spawn()?;
        let mut peak = 0;
        let ended = loop {
            peak = memory(child.id()).map_or(peak, |memory| memory.peak.max(peak));
            match child.try_wait()? {
                Some(ended) => break ended,
                None => std::thread::sleep(Duration::from_millis(10)),
            }
        };
        if !ended.success() {
            let said = fs::read_to_string(self.dir.path().join("verb.log"))?;
            return Err(format!("{arguments:?} failed: {said}").into());
        }
        let gap = if note.is_empty() { "" } else { "; " };
        Ok(format!("{note}{gap}the verb's own peak {:.0} MB", peak as f64 / 1e6))
    }

    /// Asks the admin socket.
    pub fn get(&self, path: &str) -> Fallible<Listed> {
        let mut stream = UnixStream::connect(self.socket_dir.path().join("admin.sock"))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let began = Instant::now();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")?;
        let (mut bytes, mut first, mut piece) = (0, None, vec![0; 64 << 10]);
        let mut end = Vec::new();
        loop {
            let length = stream.read(&mut piece)?;
            if length == 0 {
                break;
            }
            if first.is_none() && !piece.starts_with(b"HTTP/1.1 200 ") {
                return Err(format!("{path} was not answered with 200").into());
            }
            first.get_or_insert_with(|| began.elapsed());
            bytes += length;
            end = piece[length.saturating_sub(16)..length].to_vec();
        }
        // A document that is whole ends with a brace, behind which an answer in pieces has its last chunk.
        let is_whole = end.ends_with(b"}") || end.ends_with(b"0\r\n\r\n");
        is_whole.then_some(()).ok_or_else(|| format!("the answer to {path} is not whole"))?;
        Ok(Listed { first: first.unwrap_or_default(), whole: began.elapsed(), bytes })
    }

    /// Deliveries, each about another page.
    pub fn deliveries(&self, count: usize) -> Vec<Vec<u8>> {
        let pages: Vec<String> = self.pages.iter().cycle().step_by(37).take(count).cloned().collect();
        deliveries::signed(|body| self.server.world.sign(body), self.address, &pages)
    }

    /// Bytes of the store's files.
    pub fn stored_bytes(&self) -> Fallible<u64> {
        let output = Command::new("du").arg("-sb").arg(self.dir.path().join("store")).output()?;
        let text = String::from_utf8(output.stdout)?;
        Ok(text.split_whitespace().next().unwrap_or_default().parse()?)
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        if let Some(daemon) = &mut self.daemon {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}
