//! Several daemons on one PostgreSQL, in front of the Graph and the Spaces of the bench of links, each at addresses of its
//! own.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pagesyncd::core::lease::BUCKETS;
use pagesyncd::sandbox::postgres::{Options, Postgres};
use serde_json::Value;
use tempfile::TempDir;
use tokio::task::block_in_place;
use tokio::time::sleep;

use crate::outside::Outside;
use crate::process::{Pinning, cpu_time};
use crate::subject::{Lines, Subject};
use crate::usage::{Session, database_cpu};
use crate::{Choices, Fallible};

/// For very many links, a step may take this long.
const PATIENCE: Duration = Duration::from_secs(3600);
/// Daemons are idle when all of them together use less than this share of a core.
const IDLE: f64 = 0.05;
const GLANCE: Duration = Duration::from_millis(50);
/// Links are made with this debounce.
const SHORT: &str = "100ms";

/// Daemons that share a database. Those that run are killed when this is dropped.
pub struct Cluster {
    pub daemons: Vec<Subject>,
    pub outside: Outside,
    pub postgres: Postgres,
    links: usize,
    // Of the database and of the daemons, so that it goes last.
    dir: TempDir,
}

/// What a case needs.
pub struct Plan {
    pub daemons: usize,
    pub links: usize,
    /// How long Graph and Spaces take.
    pub takes: (Duration, Duration),
    pub lines: Lines,
    pub postgres: Options,
}

impl Cluster {
    /// A database that runs, and daemons that do not run yet.
    pub async fn new(choices: &Choices, plan: Plan) -> Fallible<Cluster> {
        let dir = TempDir::new_in(&choices.dir)?;
        // PostgreSQL may run as another user, who has to pass.
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o711))?;
        let postgres = block_in_place(|| Postgres::start_with(&dir.path().join("postgres"), plan.postgres))?;
        let outside = Outside::start().await?;
        outside.takes(plan.takes.0, plan.takes.1);
        let shared = Pinning::Unpinned("daemons, database and load share all cores".to_owned());
        let mut daemons = Vec::new();
        for number in 0..plan.daemons {
            let mut daemon = Subject::new(plan.links, outside.another().await?, &shared, dir.path())?;
            daemon.lines = plan.lines.clone();
            daemon.lines.store += &format!("\nurl = \"{}\"\nnode = \"{}\"", postgres.url(), node(number));
            daemons.push(daemon);
        }
        Ok(Cluster { daemons, outside, postgres, links: plan.links, dir })
    }

    /// Starts the daemons that do not run, with this debounce, and waits until each has its share of the leases.
    pub async fn start(&mut self, debounce: &str, poll: Duration) -> Fallible<()> {
        for daemon in self.daemons.iter_mut().filter(|daemon| !daemon.is_running()) {
            daemon.lines.sync = format!("poll_interval = \"{}s\"\nburst = 1000\nrefill = \"10ms\"", poll.as_secs());
            daemon.start(debounce).await?;
        }
        self.until("each daemon has its share", || self.is_balanced()).await
    }

    pub fn stop(&mut self) -> Fallible<()> {
        block_in_place(|| self.daemons.iter_mut().try_for_each(Subject::stop))
    }

    /// Makes the links, waits until each is read and written, and starts the daemons again with this debounce.
    pub async fn make_links(&mut self, debounce: &str) -> Fallible<()> {
        let began = Instant::now();
        // First reads are spread over a quarter of it.
        let poll = Duration::from_secs((self.links as u64 / 50).max(60));
        self.start(SHORT, poll).await?;
        block_in_place(|| self.daemons[0].import())?;
        self.until("each link is written", || self.outside.counts().1 >= self.links && self.is_settled()).await?;
        self.stop()?;
        self.start(debounce, Duration::from_secs(24 * 3600)).await?;
        self.until_idle().await?;
        self.outside.take();
        eprintln!("{} links were made in {:.0} s", self.links, began.elapsed().as_secs_f64());
        Ok(())
    }

    /// What a daemon says of itself; `None` when it does not answer.
    pub fn status(&self, number: usize) -> Option<Value> {
        block_in_place(|| ask(&self.daemons[number].socket())).ok()
    }

    /// The leases of each daemon by its name, as the daemon with this number has them.
    pub fn leases(&self, number: usize) -> Vec<(String, u64)> {
        let status = self.status(number).unwrap_or_default();
        let daemons = status["cluster"]["daemons"].as_array().cloned().unwrap_or_default();
        let one = |daemon: &Value| Some((daemon["node"].as_str()?.to_owned(), daemon["leases"].as_u64()?));
        daemons.iter().filter_map(one).collect()
    }

    /// Has each daemon that runs its share, in the eyes of all?
    fn is_balanced(&self) -> bool {
        let running = || self.daemons.iter().enumerate().filter(|(_, daemon)| daemon.is_running());
        let (count, share) = (running().count(), u64::from(BUCKETS).div_ceil(running().count().max(1) as u64));
        running().all(|(number, _)| {
            let leases = self.leases(number);
            leases.len() == count
                && leases.iter().all(|(_, held)| *held <= share)
                && leases.iter().map(|(_, held)| held).sum::<u64>() == u64::from(BUCKETS)
        })
    }

    /// Is nothing owed?
    pub fn is_settled(&self) -> bool {
        self.status(0).is_some_and(|status| {
            status["due"] == 0 && status["outbox"] == 0 && status["links"].as_u64() == Some(self.links as u64)
        })
    }

    /// Waits until the daemons use hardly any CPU.
    pub async fn until_idle(&self) -> Fallible<()> {
        let (began, pause) = (Instant::now(), Duration::from_secs(1));
        while began.elapsed() < PATIENCE {
            let before = self.cpu()?;
            sleep(pause).await;
            let most = IDLE * pause.as_secs_f64();
            if (self.cpu()? - before).as_secs_f64() < most {
                return Ok(());
            }
        }
        Err("the daemons do not become idle".into())
    }

    /// CPU time of all daemons that run.
    pub fn cpu(&self) -> Fallible<Duration> {
        let running = self.daemons.iter().filter(|daemon| daemon.is_running());
        running.map(|daemon| Ok(cpu_time(daemon.pid()?)?)).sum()
    }

    /// CPU time of the database.
    pub fn database_cpu(&self) -> Fallible<Duration> {
        Ok(database_cpu(&self.database_folder())?)
    }

    pub fn database_folder(&self) -> PathBuf {
        self.dir.path().join("postgres")
    }

    pub async fn session(&self) -> Fallible<Session> {
        Session::open(&self.postgres.url()).await
    }

    /// Waits for a condition.
    pub async fn until(&self, what: &str, is_met: impl Fn() -> bool) -> Fallible<()> {
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            if is_met() {
                return Ok(());
            }
            sleep(GLANCE).await;
        }
        Err(format!("waited in vain: {what}").into())
    }
}

/// The name of the daemon with this number.
pub fn node(number: usize) -> String {
    format!("daemon-{number}")
}

/// The status over the operator's socket.
fn ask(socket: &Path) -> Fallible<Value> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"GET /v1/status HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let (_, body) = text.split_once("\r\n\r\n").ok_or("the answer has no body")?;
    Ok(serde_json::from_str(body)?)
}
