//! The configuration in force, kept in the store's folder for starts that no person asked for.
//!
//! A refused reload changes nothing, and leaves its file on disk. Without this copy, a crash hours later would end at
//! exit code 78, after which systemd starts nothing again, and nobody would be there to read why.
//!
//! # When it is used
//!
//! A start is *automatic* when the process before it did not end in order (a crash, a kill, a power cut), or when the
//! machine was booted since. Every other start follows an orderly stop, so a person or a script wants it.
//!
//! | the file | automatic start | start after an orderly stop |
//! |---|---|---|
//! | good | the file | the file |
//! | good, and just what the running process refused | the kept configuration | the file |
//! | bad | the kept configuration | exit code 78 |
//!
//! So `systemctl restart` with a bad file shows its mistake at once, and never runs on settings that the file does not
//! have. An automatic start takes the kept configuration and says so wherever an operator looks: an error in the log
//! for each finding, `systemctl status`, `config.last_error` and `config.source` of `status`, and the metric
//! `pagesyncd_config_refused`. A reload of the mended file ends it. A file that is good as such may still have been
//! refused, for a `store.path` that cannot change or a store key that would be missing: a crash is not the restart that
//! the refusal asked for, so the earlier settings stay in force over it.
//!
//! The second condition is there because machines are rebooted in order, at night, and by themselves. The monotonic
//! clock shows it: the clock begins anew with each boot, so a reading below the one that was noted at the stop is that
//! of a later boot.
//!
//! # What is in it
//!
//! Every value in force ([`Effective`]), secrets included, sealed with the store key. The values and not their sources:
//! the mistake may as well be in a secret's file, a credential or the environment, which systemd reads anew at each
//! start. The folder alone gives nothing away. The folder and the store key together gave the tokens away before; now
//! they also give the app secret and the Spaces key. Both lie on this machine within root's reach anyway, and backups
//! of the folder are to be kept apart from the store key.
//!
//! The store key opens the copy, so it must be had without it. The source of the key (a credential's name, say) is
//! noted in clear. A key that stands in the configuration file itself is read from there, as far as the broken file can
//! be read. Where neither gives the key, nothing can be started, and the start ends at 78 with that reason, too.
//!
//! The copy names its configuration file, so a daemon that is run by hand with another one does not take it.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::config::{Config, Effective, Env, Finding, Findings, Loaded, SecretSource, Severity, decode_store_key};
use crate::core::model::WallTime;
use crate::store::seal::Keyring;

const FILE: &str = "config.kept";
const DRAFT: &str = "config.kept.new";
const CONTEXT: &[u8] = b"config.kept";
const VERSION: u8 = 1;
/// The values are some kilobytes.
const LIMIT: u64 = 4 << 20;
/// Where the store lies when nothing else is known.
const FOLDER: &str = "/var/lib/pagesyncd";

/// The end of the process that wrote the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Process {
    /// It runs, or ended without a word.
    Running,
    /// It stopped in order, when the machine's monotonic clock stood here (microseconds).
    Stopped(u64),
}

impl Process {
    /// Did no person ask for a start that finds this?
    fn makes_automatic(self, clock: Option<u64>) -> bool {
        match self {
            Process::Running => true,
            Process::Stopped(at) => clock.is_some_and(|now| now < at),
        }
    }
}

/// What the running process refused last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Refused {
    /// The digest of a configuration that was good as such; `None` for a file that could not be used at all.
    digest: Option<String>,
    /// Why it was refused.
    error: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Record {
    version: u8,
    config: PathBuf,
    since: WallTime,
    key_source: Option<SecretSource>,
    sealed: String,
    process: Process,
    refused: Option<Refused>,
}

/// The configuration to start with.
#[derive(Debug)]
pub struct Chosen {
    /// The configuration.
    pub loaded: Loaded,
    /// Set when it is the kept one and not that of the file.
    pub instead: Option<Instead>,
}

/// The kept configuration, used instead of the file.
#[derive(Debug)]
pub struct Instead {
    /// When it came into force.
    pub since: WallTime,
    /// Why the file is refused, in one line.
    pub error: String,
    /// Every mistake of the file, a line each.
    pub mistakes: Vec<String>,
    record: Record,
}

/// Chooses between the file and the kept configuration. `clock` is the machine's monotonic clock in microseconds.
///
/// # Errors
/// The findings of the file, and why the kept configuration cannot be used instead where the start is automatic.
pub fn choose(path: &Path, env: Env<'_>, clock: Option<u64>) -> Result<Chosen, Findings> {
    let read = Config::load(path, env);
    let record = find(path, env).filter(|record| record.process.makes_automatic(clock));
    match (read, record) {
        (Ok(loaded), Some(record)) => match record.refusal_of(&loaded.effective) {
            None => Ok(Chosen { loaded, instead: None }),
            Some(error) => Ok(match record.open(path, env) {
                Ok(kept) => record.instead(kept, error.clone(), vec![error]),
                // The file is good as such, and better than nothing.
                Err(_) => Chosen { loaded, instead: None },
            }),
        },
        (Ok(loaded), None) => Ok(Chosen { loaded, instead: None }),
        (Err(findings), None) => Err(findings),
        (Err(mut findings), Some(record)) => match record.open(path, env) {
            Ok(kept) => {
                let mistakes = findings.errors().map(Finding::headline).collect();
                Ok(record.instead(kept, findings.summary(), mistakes))
            }
            Err(why) => {
                findings.0.push(Finding {
                    severity: Severity::Error,
                    key: path.display().to_string(),
                    place: String::new(),
                    position: None,
                    message: format!("is refused, and the kept configuration cannot be used instead: {why}"),
                    hint: "correct the file".to_owned(),
                });
                Err(findings)
            }
        },
    }
}

/// The record for this configuration file, from the first folder that has one. The file itself may be broken.
fn find(path: &Path, env: Env<'_>) -> Option<Record> {
    let given = Config::store_settings(path, None, env).path;
    let state = env("STATE_DIRECTORY").and_then(|list| list.split(':').next().map(PathBuf::from));
    let folders = given.into_iter().chain(state).chain([PathBuf::from(FOLDER)]);
    folders.filter_map(|folder| read(&folder.join(FILE))).find(|record| record.config == absolute(path))
}

fn read(path: &Path) -> Option<Record> {
    let mut text = String::new();
    File::open(path).ok()?.take(LIMIT).read_to_string(&mut text).ok()?;
    serde_json::from_str::<Record>(&text).ok().filter(|record| record.version == VERSION)
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

impl Record {
    /// Why the running process refused just this configuration, if it did.
    fn refusal_of(&self, effective: &Effective) -> Option<String> {
        let refused = self.refused.as_ref()?;
        (refused.digest.as_ref()? == &effective.digest()).then(|| refused.error.clone())
    }

    fn instead(self, loaded: Loaded, error: String, mistakes: Vec<String>) -> Chosen {
        Chosen { loaded, instead: Some(Instead { since: self.since, error, mistakes, record: self }) }
    }

    /// The configuration in it.
    fn open(&self, path: &Path, env: Env<'_>) -> Result<Loaded, String> {
        let keys = Config::store_settings(path, self.key_source.as_ref(), env).keys;
        let mut keys = keys.iter().filter_map(decode_store_key).map(|key| *key);
        let current = keys.next().ok_or("the store key cannot be read")?;
        let keyring = Keyring::new(current, keys.collect());
        let sealed = STANDARD.decode(&self.sealed).map_err(|_| "it is damaged")?;
        let bytes = keyring.open(CONTEXT, &sealed).map_err(|error| error.to_string())?;
        Config::restore(path, &bytes).map_err(|findings| findings.summary())
    }
}

/// Keeps the configuration in force up to date while the daemon runs.
pub struct Keeper {
    folder: PathBuf,
    record: Record,
}

impl Keeper {
    /// Keeps the configuration that was read from the file `path` just now.
    ///
    /// # Errors
    /// As the operating system says. The keeper of before is to be kept then.
    pub fn keep(path: &Path, loaded: &Loaded, keyring: &Keyring) -> io::Result<Keeper> {
        let sealed = keyring.seal(CONTEXT, &loaded.effective.to_bytes());
        let record = Record {
            version: VERSION,
            config: absolute(path),
            since: WallTime::now(),
            key_source: loaded.effective.key_source().cloned(),
            sealed: STANDARD.encode(sealed),
            process: Process::Running,
            refused: None,
        };
        let keeper = Keeper { folder: loaded.config.store.path.clone(), record };
        keeper.write()?;
        Ok(keeper)
    }

    /// Goes on with the kept configuration, which is in force again.
    ///
    /// # Errors
    /// As the operating system says.
    pub fn go_on(instead: Instead, config: &Config) -> io::Result<Keeper> {
        let record = Record { process: Process::Running, ..instead.record };
        let keeper = Keeper { folder: config.store.path.clone(), record };
        keeper.write()?;
        Ok(keeper)
    }

    /// A reload was refused. `effective` are the values of a file that was good as such.
    ///
    /// # Errors
    /// As the operating system says.
    pub fn refused(&mut self, effective: Option<&Effective>, error: &str) -> io::Result<()> {
        self.record.refused = Some(Refused { digest: effective.map(Effective::digest), error: error.to_owned() });
        self.write()
    }

    /// The process stops in order.
    ///
    /// # Errors
    /// As the operating system says; the next start is taken for an automatic one then.
    pub fn stopped(&mut self, clock: Option<u64>) -> io::Result<()> {
        self.record.process = Process::Stopped(clock.unwrap_or_default());
        self.write()
    }

    /// Whole or not at all. The folder is not there yet where the store is in a shared database.
    fn write(&self) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        let draft = self.folder.join(DRAFT);
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        file.write_all(&serde_json::to_vec(&self.record)?)?;
        file.sync_all()?;
        std::fs::rename(&draft, self.folder.join(FILE))?;
        File::open(&self.folder)?.sync_all()
    }
}

#[cfg(test)]
mod tests;
