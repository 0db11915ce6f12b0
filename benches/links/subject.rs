//! The real daemon as a process, in front of the counting outside.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hmac::{Hmac, Mac};
use pagesyncd::core::model::UserId;
use serde_json::json;
use sha2::Sha256;
use tempfile::TempDir;

use crate::Fallible;
use crate::address::free_address;
use crate::outside::{APP_ID, Outside};
use crate::process::{Pinning, cpu_time};

const PROGRAM: &str = env!("CARGO_BIN_EXE_pagesyncd");
/// Signs deliveries.
pub const APP_SECRET: &str = "0123456789abcdef0123456789abcdef";
/// Pages in one delivery.
const AT_ONCE: usize = 500;
const PATIENCE: Duration = Duration::from_secs(60);

/// Further lines of sections of the configuration.
#[derive(Debug, Clone, Default)]
pub struct Lines {
    pub facebook: String,
    pub sync: String,
    pub spaces: String,
    pub store: String,
}

/// The daemon under test. Dropping it kills the daemon.
pub struct Subject {
    pub pages: Vec<String>,
    pub outside: Outside,
    pub address: SocketAddr,
    /// In force from the next start on.
    pub lines: Lines,
    dir: TempDir,
    program: PathBuf,
    child: Option<Child>,
    client: reqwest::Client,
}

impl Drop for Subject {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Subject {
    /// A daemon without a link, in a new folder below `dir`. It has not been started.
    pub fn new(links: usize, outside: Outside, pinning: &Pinning, dir: &Path) -> Fallible<Subject> {
        let dir = TempDir::new_in(dir)?;
        let (address, lines) = (free_address()?, Lines::default());
        let program = pinning.wrapper(PROGRAM.as_ref(), dir.path())?;
        let pages = (0..links).map(|n| (1_000_000 + n).to_string()).collect();
        let client = reqwest::Client::builder().no_proxy().build()?;
        Ok(Subject { pages, outside, address, lines, dir, program, child: None, client })
    }

    fn config(&self, debounce: &str) -> String {
        let (graph, spaces, dir) = (self.outside.graph, self.outside.spaces, self.dir.path().display());
        let Lines { facebook, sync, spaces: more_spaces, store } = &self.lines;
        format!(
            "[http]\nlisten = \"{listen}\"\npublic_url = \"http://localhost:5000\"\n\
             [facebook]\napp_id = \"{APP_ID}\"\napp_secret = \"{APP_SECRET}\"\nverify_token = \"sixteen-and-more-verify\"\n\
             graph_url = \"http://{graph}\"\nwebhook_fields = [\"name\", \"description\"]\n{facebook}\n\
             [sync]\ndebounce = \"{debounce}\"\n{sync}\n\
             [spaces]\nregion = \"nyc3\"\nbucket = \"pages\"\nendpoint = \"http://{spaces}\"\npath_style = true\n\
             access_key = \"DO00ACCESS\"\nsecret_key = \"sixteen-and-more-spaces\"\n{more_spaces}\n\
             [store]\npath = \"{dir}/store\"\nkey = \"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\"\n{store}\n\
             [session]\nstate_secret = \"thirty-two-characters-and-more-of-state\"\n\
             [admin]\nsocket = \"{dir}/admin.sock\"\n[log]\nlevel = \"warn\"\n",
            listen = self.address,
        )
    }

    fn config_file(&self) -> PathBuf {
        self.dir.path().join("config.toml")
    }

    /// The socket for the operator.
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("admin.sock")
    }

    /// Starts the daemon with this debounce, and waits until it serves.
    pub async fn start(&mut self, debounce: &str) -> Fallible<()> {
        std::fs::write(self.config_file(), self.config(debounce))?;
        let log = std::fs::File::create(self.dir.path().join("daemon.log"))?;
        let mut command = Command::new(&self.program);
        command.arg("run").arg("--config").arg(self.config_file()).stdin(Stdio::null()).stderr(log);
        self.child = Some(command.spawn()?);
        let (url, began) = (format!("http://{}/healthz", self.address), Instant::now());
        while self.client.get(&url).send().await.is_err() {
            if began.elapsed() > PATIENCE {
                return Err(std::fs::read_to_string(self.dir.path().join("daemon.log"))?.into());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Stops the daemon as a service manager does.
    pub fn stop(&mut self) -> Fallible<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        Command::new("kill").arg(child.id().to_string()).status()?;
        let ended = child.wait()?;
        ended.success().then_some(()).ok_or_else(|| format!("the daemon ended with {ended}").into())
    }

    pub fn is_running(&self) -> bool {
        self.child.is_some()
    }

    /// Ends the daemon as a power cut does.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    pub fn pid(&self) -> Fallible<u32> {
        self.child.as_ref().map(Child::id).ok_or_else(|| "no daemon runs".into())
    }

    pub fn cpu(&self) -> Fallible<Duration> {
        Ok(cpu_time(self.pid()?)?)
    }

    /// Resident memory, in bytes.
    pub fn memory(&self) -> Fallible<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()?))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
    }

    /// Imports a link for each page, as an operator does.
    pub fn import(&self) -> Fallible<()> {
        let (path, user) = (self.dir.path().join("links"), UserId::random());
        let mut file = std::io::BufWriter::new(std::fs::File::create(&path)?);
        for page in &self.pages {
            writeln!(file, "{}", json!({"user": user, "page_id": page, "access_token": format!("EAAP{page}")}))?;
        }
        file.flush()?;
        let output = Command::new(PROGRAM).arg("import").arg("--config").arg(self.config_file()).arg(path).output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        output.status.success().then_some(()).ok_or_else(|| format!("the import failed: {said}").into())
    }

    /// Delivers a change of each of these pages.
    pub async fn deliver(&self, pages: &[String]) -> Fallible<()> {
        for pages in pages.chunks(AT_ONCE) {
            let entry = |page| json!({"id": page, "time": 1_763_769_600, "changed_fields": ["description"]});
            let entries: Vec<_> = pages.iter().map(entry).collect();
            let body = json!({"object": "page", "entry": entries}).to_string();
            let url = format!("http://{}/facebook/webhook", self.address);
            let request = self.client.post(url).header("x-hub-signature-256", signature(body.as_bytes()));
            let sent = request.body(body).send().await?;
            if sent.status() != 200 {
                return Err(format!("a delivery was answered {}", sent.status()).into());
            }
        }
        Ok(())
    }
}

/// What Meta sends with this body.
pub fn signature(body: &[u8]) -> String {
    let mac = Hmac::<Sha256>::new_from_slice(APP_SECRET.as_bytes()).expect("a key of any length is valid");
    format!("sha256={}", hex::encode(mac.chain_update(body).finalize().into_bytes()))
}
