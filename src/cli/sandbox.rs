//! `sandbox`: a local world with the real daemon in it, or with several on one database, and the console in the browser.

mod several;
mod welcome;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::{join_all, select_all};
use signal_hook::consts::signal::{SIGHUP, SIGINT, SIGTERM};
use signal_hook_tokio::Signals;

use self::several::{Several, conflict, needs};
use self::welcome::Welcome;
use super::output::{line, note};
use super::program::Program;
use crate::exit::{self, Failure};
use crate::sandbox::console;
use crate::sandbox::daemon::{Daemon, DaemonFiles, Ended, Life};
use crate::sandbox::fleet::Member;
use crate::sandbox::folder::{Folder, FolderError, MARKER};
use crate::sandbox::limits::most_pages;
use crate::sandbox::{DaemonSetup, Options, WorldServer};

/// Worlds of at most so many pages are polled every few minutes.
const MOST_POLLED_SOON: usize = 500;
/// So many lines of the daemon's log are shown when it fails.
const LAST_WORDS: usize = 6;

/// The sandbox's flags.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where everything is kept; a temporary folder when not given. A folder with files in it that no sandbox made is
    /// refused
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// The daemon's public address
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:5000")]
    http: SocketAddr,
    /// The console's address
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:5080")]
    console: SocketAddr,
    /// How many pages the local Facebook has, at most as many as fit into memory; a kept world has those it had
    #[arg(long, value_name = "N", default_value_t = 12)]
    pages: usize,
    /// How many daemons there are, at most 8. Several share a PostgreSQL that the sandbox starts in its folder, for which
    /// PostgreSQL's programs must be installed
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=8))]
    daemons: u8,
    /// Keep everything at the end, to go on with `--dir` later; a kept folder stays until you delete it
    #[arg(long)]
    keep: bool,
}

pub(super) fn sandbox(args: Args, program: &Program) -> Result<(), Failure> {
    let most = most_pages();
    if args.pages > most {
        let what = format!("--pages {}: at most {most} pages fit into the memory of this machine", args.pages);
        return Err(Failure::new(exit::USAGE, what, format!("name {most} or fewer")));
    }
    if args.daemons > 1 {
        needs()?;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|e| Failure::new(exit::INTERNAL, format!("no runtime can be made: {e}"), ""))?;
    let outcome = runtime.block_on(live(&args, program));
    // A world that was still being built is left behind.
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}

/// A daemon, with what messages call it.
#[derive(Clone)]
struct Named {
    name: String,
    daemon: Arc<Daemon>,
}

/// The parts that were started, to be ended in order.
#[derive(Default)]
struct Started {
    world: Option<WorldServer>,
    daemons: Vec<Named>,
    several: Several,
    console: Option<console::Running>,
}

async fn live(args: &Args, program: &Program) -> Result<(), Failure> {
    let signals = Signals::new([SIGINT, SIGTERM, SIGHUP]);
    let mut signals =
        signals.map_err(|e| Failure::new(exit::INTERNAL, format!("signals cannot be handled: {e}"), ""))?;
    let folder = args.dir.as_deref().map_or_else(Folder::temporary, Folder::open).map_err(|e| refused(&e))?;
    conflict(folder.path(), args.daemons > 1)?;
    let keep = args.keep || folder.is_kept();
    let mut started = Started::default();
    let outcome = tokio::select! {
        biased;
        _ = signals.next() => Ok(()),
        failure = run(args, program, &folder, keep, &mut started) => Err(failure),
    };
    let was_up = started.console.is_some();
    let stopped = stop(&mut started, keep && was_up, outcome.is_ok() && was_up, &mut signals).await;
    let left = leave(folder, keep, was_up, program);
    outcome.and(stopped).and(left)
}

fn refused(error: &FolderError) -> Failure {
    match error {
        FolderError::Foreign(_) => {
            let way_out = format!(
                "name a new folder with --dir, or, if a sandbox of an earlier version kept it, make an empty file \
                 {MARKER} in it"
            );
            Failure::new(exit::USAGE, error.to_string(), way_out)
        }
        FolderError::InUse { .. } => {
            Failure::new(exit::TRY_AGAIN, error.to_string(), "end that sandbox, or name another folder with --dir")
        }
        FolderError::Io { .. } => Failure::new(exit::IO, error.to_string(), "name another folder with --dir"),
    }
}

/// Starts everything and goes on until a daemon fails.
async fn run(args: &Args, program: &Program, folder: &Folder, keep: bool, started: &mut Started) -> Failure {
    match boot(args, program, folder, keep, started).await {
        Ok(()) => {
            let watched = started.daemons.iter().map(|named| Box::pin(watch(named)));
            select_all(watched).await.0
        }
        Err(failure) => failure,
    }
}

async fn boot(
    args: &Args,
    program: &Program,
    folder: &Folder,
    keep: bool,
    started: &mut Started,
) -> Result<(), Failure> {
    let dir = folder.path();
    let world = WorldServer::start(Options::new(dir).pages(args.pages)).await;
    let world = world.map_err(|e| {
        Failure::new(
            exit::IO,
            format!("the sandbox's world cannot start in {}: {e}", dir.display()),
            "name another folder with --dir",
        )
    })?;
    let world = started.world.insert(world);
    let control: Arc<dyn console::DaemonControl> = if args.daemons == 1 {
        let daemon = one_daemon(folder, dir, world, DaemonSetup::new(args.http.to_string(), dir))?;
        started.daemons.push(Named { name: "the daemon".to_owned(), daemon: daemon.clone() });
        daemon
    } else {
        let setups = started.several.prepare(dir, args.http, args.daemons).await?;
        let mut members = Vec::new();
        for (name, setup) in setups {
            let (folder_of_it, address) = (dir.join(&name), setup.http_listen.parse());
            let address =
                address.map_err(|e| Failure::new(exit::INTERNAL, format!("{name} has no address: {e}"), ""))?;
            let daemon = one_daemon(folder, &folder_of_it, world, setup)?;
            started.daemons.push(Named { name: name.clone(), daemon: daemon.clone() });
            members.push(Member { name, address, daemon });
        }
        started.several.join(members)?
    };
    for named in &started.daemons {
        named.daemon.start().await.map_err(|error| not_started(named, &error, args))?;
    }
    let served = console::serve(args.console, world.world.clone(), control).await;
    let served = served.map_err(|e| {
        let what = format!("the console cannot listen on {}: {e}", args.console);
        Failure::new(exit::TRY_AGAIN, what, "choose a free address with --console 127.0.0.1:PORT")
    })?;
    let console = started.console.insert(served).url();
    let of_first = if args.daemons == 1 { dir.to_owned() } else { dir.join("daemon-1") };
    let status = program.with(&of_first.join("config.toml")).call("status");
    let (http, fleet) = (args.http.to_string(), started.several.fleet());
    line(Welcome { dir, console: &console, http: &http, world, fleet, keep, status: &status }.text())
}

/// Reports each end of the daemon that was not requested, and returns when one of them is a failure: a daemon that was
/// killed can be started again in the console, one that ended by itself would only end again.
async fn watch(named: &Named) -> Failure {
    let (name, mut life) = (&named.name, named.daemon.life());
    loop {
        let ended = match &*life.borrow_and_update() {
            Life::Ended(ended) if !ended.was_asked() => Some(ended.clone()),
            _ => None,
        };
        if let Some(ended) = ended {
            if ended.code().is_some_and(|code| code != 0) {
                return failed(&named.daemon, &ended, &format!("{name} ended by itself"));
            }
            note(format_args!("{name} ended: {ended}; the console can start it again"));
        }
        if life.changed().await.is_err() {
            return Failure::new(exit::INTERNAL, format!("{name} cannot be watched any more"), "");
        }
    }
}

/// The end of a daemon as a failure of the sandbox: its exit code, the last of its log.
fn failed(daemon: &Daemon, ended: &Ended, what: &str) -> Failure {
    daemon.last_words(LAST_WORDS).iter().for_each(|line| note(format_args!("  | {line}")));
    let code = ended.code().and_then(|code| u8::try_from(code).ok()).filter(|code| *code != exit::OK);
    Failure::new(code.unwrap_or(exit::INTERNAL), format!("{what}: {ended}"), "the lines above are the last of its log")
}

/// Ends the parts that were started. `whole`: the sandbox was up, and the daemons must have lived to this moment.
async fn stop(started: &mut Started, keep: bool, whole: bool, signals: &mut Signals) -> Result<(), Failure> {
    let mut outcome = if whole { line("\nstopping") } else { Ok(()) };
    if let Some(console) = &started.console {
        console.stop().await;
    }
    tokio::select! {
        _ = join_all(started.daemons.iter().map(|named| named.daemon.stop())) => {}
        // A second signal does not wait for the daemons to drain.
        _ = signals.next() => drop(join_all(started.daemons.iter().map(|named| named.daemon.kill_now())).await),
    }
    // Behind the daemons: they finish what came through it.
    started.several.stop_front().await;
    for Named { name, daemon } in &started.daemons {
        if let Life::Ended(ended) = &*daemon.life().borrow()
            && whole
            && !is_orderly(ended)
        {
            outcome = Err(failed(daemon, ended, &format!("{name} did not end in order")));
        }
    }
    started.several.stop_database().await;
    if let Some(world) = &started.world {
        if keep && let Err(error) = world.keep() {
            outcome = Err(Failure::new(exit::IO, format!("the world cannot be kept: {error}"), ""));
        }
        world.shutdown().await;
    }
    outcome
}

/// It was stopped in order, or killed on purpose in the console.
fn is_orderly(ended: &Ended) -> bool {
    ended.code() == Some(0) || (ended.was_asked() && ended.code().is_none())
}

/// Keeps or clears the folder. After a failed start the files of an earlier sandbox stay as they were.
fn leave(folder: Folder, keep: bool, was_up: bool, program: &Program) -> Result<(), Failure> {
    if !was_up && !folder.is_fresh() {
        return Ok(());
    }
    if !(keep && was_up) {
        return folder.clear().map_err(|e| Failure::new(exit::IO, format!("not everything is removed: {e}"), ""));
    }
    let (temporary, shown) = (folder.is_temporary(), folder.path().display().to_string());
    folder.keep().map_err(|e| Failure::new(exit::IO, format!("the folder cannot be kept: {e}"), ""))?;
    line(format_args!("kept in {shown}; it stays until you delete it"))?;
    if temporary { line(program.say(&format!("go on with `pagesyncd sandbox --dir {shown}`"))) } else { Ok(()) }
}

/// A daemon with its configuration and its log in `dir`. It holds the sandbox's folder while it runs.
fn one_daemon(
    folder: &Folder,
    dir: &Path,
    world: &WorldServer,
    mut setup: DaemonSetup,
) -> Result<Arc<Daemon>, Failure> {
    // Changes without a webhook show while a person watches; a large world is not read all the time.
    let polled_soon = world.world.look(|s| s.pages.len()) <= MOST_POLLED_SOON;
    setup.poll_interval = Duration::from_secs(if polled_soon { 300 } else { 3600 });
    setup.debounce = Duration::from_millis(500);
    let config = dir.join("config.toml");
    let write = std::fs::create_dir_all(dir).and_then(|()| write_private(&config, &world.config_toml(&setup)));
    write.map_err(|e| {
        Failure::new(exit::IO, format!("{} cannot be written: {e}", config.display()), "name another folder with --dir")
    })?;
    let program = std::env::current_exe()
        .map_err(|e| Failure::new(exit::INTERNAL, format!("this program cannot find itself: {e}"), ""))?;
    let files = DaemonFiles {
        program,
        config,
        socket: setup.admin_socket,
        log: Some(dir.join("daemon.log")),
        env: vec![("PAGESYNCD_DRILLS".into(), "1".into())],
    };
    let lock = folder.lock().map_err(|e| Failure::new(exit::IO, format!("the folder cannot be locked: {e}"), ""))?;
    Ok(Daemon::holding(files, lock))
}

/// The file holds secrets, if only the sandbox's.
fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = std::fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}

/// Why a daemon did not start: the end of its log, if there is one.
fn not_started(Named { name, daemon }: &Named, error: &str, args: &Args) -> Failure {
    let life = daemon.life().borrow().clone();
    let Life::Ended(ended) = life else { return Failure::new(exit::TRY_AGAIN, error, "see its log") };
    let last = daemon.last_words(LAST_WORDS);
    let Some(said) = last.iter().rev().find_map(|line| line.strip_prefix("pagesyncd: ")) else {
        return failed(daemon, &ended, &format!("{name} did not start"));
    };
    let code = ended.code().and_then(|code| u8::try_from(code).ok()).filter(|code| *code != exit::OK);
    let way_out = match said.starts_with("http.listen") {
        true => format!("choose a free address with --http instead of {}", args.http),
        false => last.last().map(|line| line.trim().to_owned()).filter(|line| !line.contains(said)).unwrap_or_default(),
    };
    Failure::new(code.unwrap_or(exit::INTERNAL), format!("{name} did not start ({ended}): {said}"), way_out)
}
