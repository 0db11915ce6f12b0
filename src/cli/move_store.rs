//! `move-store`: takes the store of a stopped daemon from its folder into a shared database, or back.

use std::io::IsTerminal;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use signal_hook::consts::signal::{SIGINT, SIGTERM};

use super::common::{database_failure, folder_failure, load};
use super::output::{line, note, part};
use super::run::keyring_of;
use crate::config::Config;
use crate::core::model::Secret;
use crate::exit::{self, Failure};
use crate::store::OpenError;
use crate::store::moving::{MoveError, Moved, Progress, move_in, move_out};
use crate::store::shared::settings::Settings;

/// Between two lines about the progress, where nobody looks at a terminal, and where somebody does.
const LINES: Duration = Duration::from_secs(5);
const LOOKS: Duration = Duration::from_millis(200);

/// Which way.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub(super) struct Args {
    /// Into the database at this URL; without one, into that of `store.url`
    #[arg(long, value_name = "URL", num_args = 0..=1, default_missing_value = "")]
    to: Option<String>,
    /// From the database at this URL, or without one from that of `store.url`, into the empty folder `store.path`
    #[arg(long, value_name = "URL", num_args = 0..=1, default_missing_value = "")]
    from: Option<String>,
}

pub(super) fn move_store(path: &Path, args: &Args, as_json: bool) -> Result<(), Failure> {
    let config = load(path)?.config;
    let (outward, url) = match (&args.to, &args.from) {
        (Some(url), _) => (true, url.as_str()),
        (None, from) => (false, from.as_ref().map_or("", String::as_str)),
    };
    let settings = settings(&config, if outward { "--to" } else { "--from" }, url)?;
    let (dir, keyring) = (&config.store.path, keyring_of(&config)?);
    let stopped = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        let taken = signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, stopped.clone());
        let taken = taken.and_then(|_| signal_hook::flag::register(signal, stopped.clone()));
        taken.map_err(|e| Failure::new(exit::INTERNAL, format!("signals cannot be handled: {e}"), ""))?;
    }
    let mut meter = Meter::new();
    let mut watch = |progress| {
        meter.show(progress);
        if stopped.load(Ordering::SeqCst) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let moving = if outward { move_out } else { move_in };
    let outcome = moving(dir, &settings, &keyring, &mut watch);
    meter.end();
    let moved = outcome.map_err(|error| failure(&error))?;
    let (folder, database) = (dir.display().to_string(), settings.url().place().to_owned());
    let (from, to) = if outward { (folder, database) } else { (database, folder) };
    say(moved, &from, &to, outward, as_json)
}

/// The database of a URL on the command line, or of the configuration.
fn settings(config: &Config, option: &str, url: &str) -> Result<Settings, Failure> {
    let wrong = |code, error: String| {
        let (what, way_out) = error.split_once("; ").unwrap_or((&error, ""));
        Failure::new(code, what, way_out)
    };
    if !url.is_empty() {
        let settings = Settings::new(&Secret::new(url), config.store.ca_file.as_ref());
        return settings
            .map_err(|error| wrong(exit::USAGE, error.replacen("store.url", &format!("the URL of {option}"), 1)));
    }
    let none = || {
        let what = format!("{option} has no URL and store.url is not set, so there is no database");
        Failure::new(
            exit::USAGE,
            what,
            format!("say {option} postgres://user:password@host/database, or set store.url"),
        )
    };
    Settings::of(config).map_err(|error| wrong(exit::CONFIG, error))?.ok_or_else(none)
}

fn failure(error: &MoveError) -> Failure {
    let code = match error {
        MoveError::Folder(error @ OpenError::Locked { .. }) => {
            let text = error.to_string();
            let what = text.split_once("; ").map_or(text.as_str(), |(what, _)| what);
            return Failure::new(
                exit::TRY_AGAIN,
                what,
                "stop the daemon (`systemctl stop pagesyncd`) and run it again",
            );
        }
        MoveError::Folder(error) => return folder_failure(error),
        MoveError::Database(error) => return database_failure(error),
        MoveError::DaemonAlive { .. } | MoveError::Overtaken { .. } | MoveError::Stopped => exit::TRY_AGAIN,
        MoveError::NoStore { .. }
        | MoveError::NothingThere { .. }
        | MoveError::DatabaseTaken { .. }
        | MoveError::FolderTaken { .. }
        | MoveError::Incomplete { .. }
        | MoveError::Broken { .. } => exit::IO,
    };
    let text = error.to_string();
    let (what, way_out) = text.split_once("; ").unwrap_or((&text, ""));
    Failure::new(code, what, way_out)
}

fn say(Moved { records, already }: Moved, from: &str, to: &str, outward: bool, as_json: bool) -> Result<(), Failure> {
    if as_json {
        let moved = json!({"from": from, "to": to, "records": records, "already": already});
        return line(format_args!("{moved:#}"));
    }
    let done = if already { "was moved before" } else { "is moved" };
    let next = if outward { "set store.url and start the daemons" } else { "unset store.url and start the daemon" };
    line(format_args!("the store {done} from {from} to {to}, with {records} records; {next}"))?;
    line(format_args!("{from} keeps a backup, which holds what is deleted later; remove it when it is not needed"))
}

/// Shows the progress: on a terminal in one line that is written over, else in a line now and then.
struct Meter {
    terminal: bool,
    began: Instant,
    shown: Option<Instant>,
    /// Records that were there when it began.
    first: Option<u64>,
    is_open: bool,
}

impl Meter {
    fn new() -> Meter {
        let terminal = std::io::stderr().is_terminal();
        Meter { terminal, began: Instant::now(), shown: None, first: None, is_open: false }
    }

    fn show(&mut self, progress: Progress) {
        match progress {
            Progress::Records { done, of } => self.show_records(done, of),
            Progress::Quiet { seconds } => {
                self.end();
                note(format_args!(
                    "a daemon died without stopping; waiting {seconds} s until none of its writes can be under way"
                ));
            }
            Progress::Step => {}
        }
    }

    fn show_records(&mut self, done: u64, of: u64) {
        let first = *self.first.get_or_insert(done);
        let pause = if self.terminal { LOOKS } else { LINES };
        if done < of && self.shown.is_some_and(|shown| shown.elapsed() < pause) {
            return;
        }
        self.shown = Some(Instant::now());
        let rate = (done - first) as f64 / self.began.elapsed().as_secs_f64().max(0.001);
        let text = format!("{done} of {of} records, {rate:.0} a second");
        if self.terminal {
            part(format_args!("\r\x1b[K{text}"));
            self.is_open = true;
        } else {
            note(text);
        }
    }

    /// The line is over.
    fn end(&mut self) {
        if std::mem::take(&mut self.is_open) {
            note("");
        }
    }
}
