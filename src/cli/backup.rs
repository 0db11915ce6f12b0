//! `backup`: an export, sealed as a whole, into the bucket; then backups that are too old are deleted. The
//! passphrase, the bucket and its failures, which `restore` needs too, are here as well.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::common::{load, small_runtime};
use super::export;
use super::output::{line, note};
use crate::config::Config;
use crate::context::spaces_settings;
use crate::core::model::{BACKUPS, BackupName, Secret, WallTime};
use crate::exit::{self, Failure};
use crate::metrics::Metrics;
use crate::services::backup;
use crate::spaces::{Backups, Erased, Listed, MAX_BACKUP_BYTES, SpacesError, SpacesErrorKind};

/// The value of `--keep`.
pub(super) fn keep(text: &str) -> Result<Duration, String> {
    let keep = humantime::parse_duration(text);
    keep.map_err(|_| "is not a duration; write a number and a unit, such as 30d".to_owned())
}

/// The backups of the configured bucket.
pub(super) fn bucket(config: &Config) -> Result<Backups, Failure> {
    Backups::new(spaces_settings(config), &Arc::new(Metrics::new())).map_err(|e| spaces_failure(&e))
}

/// The passphrase that seals the backups.
pub(super) fn passphrase(config: &Config) -> Result<&Secret, Failure> {
    let none = || {
        let way_out = "`pagesyncd keygen` prints a good one; keep a copy of it on another machine";
        Failure::new(exit::CONFIG, "backup.passphrase is missing: it seals the backups", way_out)
    };
    config.backup.passphrase.as_ref().ok_or_else(none)
}

/// The failure of a verb that a request to the bucket stands in the way of.
pub(super) fn spaces_failure(error: &SpacesError) -> Failure {
    let (code, way_out) = match error.kind {
        SpacesErrorKind::Busy | SpacesErrorKind::SlowDown => (exit::TRY_AGAIN, "try again in a moment"),
        SpacesErrorKind::Misconfigured { .. } | SpacesErrorKind::Clock => {
            (exit::CONFIG, "`pagesyncd check --online` tries the bucket")
        }
        SpacesErrorKind::Corrupt => (exit::IO, "try again; `pagesyncd check --online` tries the bucket"),
    };
    Failure::new(code, format!("spaces: {error}"), way_out)
}

pub(super) fn list(config: &Path, as_json: bool) -> Result<(), Failure> {
    let loaded = load(config)?;
    let backups = bucket(&loaded.config)?;
    let found = small_runtime()?.block_on(backups.list()).map_err(|e| spaces_failure(&e))?;
    if as_json {
        let all: Vec<Value> = found.iter().map(listed_json).collect();
        return line(format_args!("{:#}", json!({"backups": all})));
    }
    for Listed { name, bytes } in &found {
        let bytes = bytes.map_or_else(|| "?".to_owned(), |bytes| bytes.to_string());
        line(format_args!("{name}  {}  {bytes} bytes", name.at().rfc3339()))?;
    }
    Ok(())
}

fn listed_json(Listed { name, bytes }: &Listed) -> Value {
    json!({"name": name.to_string(), "at": name.at().rfc3339(), "bytes": bytes})
}

pub(super) fn backup(config: &Path, keep: Option<Duration>, as_json: bool) -> Result<(), Failure> {
    let loaded = load(config)?.config;
    let (backups, passphrase) = (bucket(&loaded)?, passphrase(&loaded)?);
    let runtime = small_runtime()?;
    // A bucket that is away is noticed before the export is made.
    let standing = runtime.block_on(backups.list()).map_err(|e| spaces_failure(&e))?;
    let mut names: Vec<BackupName> = standing.into_iter().map(|listed| listed.name).collect();
    let name = new_name(&loaded, &names);
    let (export, links) = export::in_memory(config, passphrase)?;
    let sealed = backup::seal(&name, &export, passphrase);
    let sealed = sealed.map_err(|e| Failure::new(exit::TRY_AGAIN, e.to_string(), "try again in a moment"))?;
    let bytes = sealed.len();
    if bytes > MAX_BACKUP_BYTES {
        let what = format!("the backup has {bytes} bytes, and {MAX_BACKUP_BYTES} is the most");
        return Err(Failure::new(exit::IO, what, "`pagesyncd export FILE` has no limit"));
    }
    runtime.block_on(backups.put(&name, sealed.into())).map_err(|e| spaces_failure(&e))?;
    names.push(name.clone());
    let expired = backup::expired(names, WallTime::now(), keep.unwrap_or(loaded.backup.keep));
    let (deleted, outcome) = runtime.block_on(erase(&backups, expired));
    report(&name, (links, bytes), &deleted, as_json)?;
    outcome.map_err(|error| {
        let Failure { code, what, way_out } = spaces_failure(&error);
        Failure::new(code, format!("the backup is written, but older ones could not be deleted: {what}"), way_out)
    })
}

/// A name that no backup has.
fn new_name(config: &Config, names: &[BackupName]) -> BackupName {
    let host = config.store.node.clone();
    let host = host.unwrap_or_else(|| rustix::system::uname().nodename().to_string_lossy().into_owned());
    let mut at = WallTime::now();
    loop {
        let name = BackupName::new(at, &host);
        if !names.contains(&name) {
            return name;
        }
        at = at.plus(Duration::from_secs(1));
    }
}

/// Removes backups, and returns those that went.
async fn erase(backups: &Backups, names: Vec<BackupName>) -> (Vec<BackupName>, Result<(), SpacesError>) {
    let mut deleted = Vec::new();
    for name in names {
        match backups.erase(&name).await {
            Ok(Erased::Whole) => {}
            Ok(Erased::PerhapsNotVersions) => {
                note("note: the bucket does not say whether it keeps older versions of a deleted backup");
            }
            Err(error) => return (deleted, Err(error)),
        }
        deleted.push(name);
    }
    (deleted, Ok(()))
}

fn report(
    name: &BackupName,
    (links, bytes): (usize, usize),
    deleted: &[BackupName],
    as_json: bool,
) -> Result<(), Failure> {
    if as_json {
        let deleted: Vec<String> = deleted.iter().map(ToString::to_string).collect();
        let written = json!({"name": name.to_string(), "links": links, "bytes": bytes, "deleted": deleted});
        return line(format_args!("{written:#}"));
    }
    let deleted = match deleted.len() {
        0 => String::new(),
        1 => "; 1 older backup deleted".to_owned(),
        count => format!("; {count} older backups deleted"),
    };
    line(format_args!("{links} links written to {BACKUPS}{name} ({bytes} bytes){deleted}"))
}
