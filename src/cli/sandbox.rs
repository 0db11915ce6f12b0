//! `sandbox`: the world in a box with the real daemon in it, and a page in the browser to click through.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use signal_hook::consts::signal::{SIGINT, SIGTERM};
use signal_hook_tokio::Signals;

use crate::exit::{self, Failure};
use crate::sandbox::console;
use crate::sandbox::daemon::{Daemon, DaemonFiles};
use crate::sandbox::{DaemonSetup, Options, WorldServer};

/// The sandbox's flags.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where everything is kept; a temporary folder when not given
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// The daemon's public address
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:5000")]
    http: SocketAddr,
    /// The console's address
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:5080")]
    console: SocketAddr,
    /// How many pages the local Facebook has
    #[arg(long, value_name = "N", default_value_t = 12)]
    pages: usize,
    /// Keep everything at the end, to go on with `--dir` later
    #[arg(long)]
    keep: bool,
}

pub(super) fn sandbox(args: Args) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|e| Failure::new(exit::INTERNAL, format!("no runtime can be made: {e}"), ""))?;
    runtime.block_on(live(args))
}

/// The folder, and whether it goes at the end. What a person named is only cleared of what the sandbox put there.
struct Place {
    dir: PathBuf,
    temporary: Option<tempfile::TempDir>,
    keep: bool,
}

impl Place {
    fn choose(args: &Args) -> Result<Self, Failure> {
        let failed = |e: std::io::Error| {
            Failure::new(exit::IO, format!("the sandbox's folder cannot be made: {e}"), "name another with --dir")
        };
        match &args.dir {
            Some(dir) => {
                std::fs::create_dir_all(dir).map_err(failed)?;
                let dir = std::fs::canonicalize(dir).map_err(failed)?;
                Ok(Place { dir, temporary: None, keep: args.keep })
            }
            None => {
                let temporary = tempfile::Builder::new().prefix("pagesyncd-sandbox-").tempdir().map_err(failed)?;
                Ok(Place { dir: temporary.path().to_owned(), temporary: Some(temporary), keep: args.keep })
            }
        }
    }

    fn leave(self) {
        match (self.temporary, self.keep) {
            (Some(temporary), true) => {
                let dir = temporary.keep();
                println!("kept in {0}; go on with `pagesyncd sandbox --dir {0} --keep`", dir.display());
            }
            (None, true) => println!("kept in {}", self.dir.display()),
            (None, false) => {
                ["spaces", "store"].iter().for_each(|name| drop(std::fs::remove_dir_all(self.dir.join(name))));
                let files = ["config.toml", "daemon.log", "world.json", "admin.sock"];
                files.iter().for_each(|name| drop(std::fs::remove_file(self.dir.join(name))));
            }
            // Dropping it removes it.
            (Some(_), false) => {}
        }
    }
}

async fn live(args: Args) -> Result<(), Failure> {
    let signals = Signals::new([SIGINT, SIGTERM]);
    let mut signals =
        signals.map_err(|e| Failure::new(exit::INTERNAL, format!("signals cannot be handled: {e}"), ""))?;
    let place = Place::choose(&args)?;
    let world = WorldServer::start(Options::new(&place.dir).pages(args.pages)).await;
    let world = world.map_err(|e| {
        Failure::new(
            exit::IO,
            format!("the sandbox's world cannot start in {}: {e}", place.dir.display()),
            "name another folder with --dir",
        )
    })?;
    let daemon = Daemon::new(daemon_files(&place.dir, &world, &args)?);
    daemon.start().await.map_err(|e| not_started(&e, &place.dir, &args))?;
    let control: Arc<dyn console::DaemonControl> = daemon.clone();
    let served = console::serve(args.console, world.world.clone(), control).await;
    let served = served.map_err(|e| {
        let what = format!("the console cannot listen on {}: {e}", args.console);
        Failure::new(exit::TRY_AGAIN, what, "choose a free address with --console 127.0.0.1:PORT")
    })?;
    welcome(&args, &place.dir, &served.url(), &world);
    let _ = signals.next().await;
    println!("\nstopping");
    served.stop().await;
    daemon.stop().await;
    if place.keep
        && let Err(error) = world.keep()
    {
        eprintln!("the world could not be kept: {error}");
    }
    world.shutdown().await;
    place.leave();
    Ok(())
}

fn daemon_files(dir: &Path, world: &WorldServer, args: &Args) -> Result<DaemonFiles, Failure> {
    let mut setup = DaemonSetup::new(args.http.to_string(), dir);
    setup.poll_interval = Duration::from_secs(3600);
    setup.debounce = Duration::from_millis(500);
    let config = dir.join("config.toml");
    let write = write_private(&config, &world.config_toml(&setup));
    write.map_err(|e| {
        Failure::new(exit::IO, format!("{} cannot be written: {e}", config.display()), "name another folder with --dir")
    })?;
    let program = std::env::current_exe()
        .map_err(|e| Failure::new(exit::INTERNAL, format!("this program cannot find itself: {e}"), ""))?;
    Ok(DaemonFiles {
        program,
        config,
        socket: setup.admin_socket,
        log: Some(dir.join("daemon.log")),
        env: vec![("PAGESYNCD_DRILLS".into(), "1".into())],
    })
}

/// The file holds secrets, if only the sandbox's.
fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = std::fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}

fn not_started(error: &str, dir: &Path, args: &Args) -> Failure {
    let log = std::fs::read_to_string(dir.join("daemon.log")).unwrap_or_default();
    let last = log.lines().rfind(|line| line.starts_with("pagesyncd: ")).unwrap_or_default();
    let what =
        format!("the daemon did not start at {}: {}", args.http, last.strip_prefix("pagesyncd: ").unwrap_or(error));
    Failure::new(exit::TRY_AGAIN, what, "choose a free address with --http 127.0.0.1:PORT")
}

fn welcome(args: &Args, dir: &Path, console: &str, world: &WorldServer) {
    println!("pagesyncd sandbox: a local Facebook with {} pages, a local Spaces, and the real daemon\n", args.pages);
    println!("  console    {console}");
    println!("  daemon     http://{}", args.http);
    println!("  facebook   {}", world.graph_url);
    println!("  spaces     {}   objects in {}", world.spaces_endpoint, dir.join("spaces").display());
    println!("  notices    {}", world.notify_url);
    println!("  daemon log {}\n", dir.join("daemon.log").display());
    println!("Three things to do:");
    println!("  1. open {console} and press “Log in with Facebook”");
    println!("  2. edit a page's name there, and watch the webhook arrive and the object change");
    println!("  3. switch a fault on, edit again, switch it off, and watch it recover; kill the daemon in between\n");
    println!("Ask the daemon yourself: pagesyncd status --config {}", dir.join("config.toml").display());
    println!("Ctrl-C ends it.");
}
