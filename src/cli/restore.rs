//! `restore`: a backup from the bucket, checked as a whole, and then imported as a file is.

use std::path::Path;
use std::sync::Arc;

use super::backup::{bucket, passphrase, spaces_failure};
use super::common::{load, small_runtime};
use super::import::{self, Into};
use super::output::note;
use crate::core::model::{BACKUPS, BackupName, Secret};
use crate::exit::{self, Failure};
use crate::services::backup::{self, Unopened};
use crate::services::export::Opener;
use crate::services::import as lines;
use crate::spaces::Backups;
use crate::store::seal::Keyring;

const LATEST: &str = "latest";

pub(super) fn restore(config: &Path, wanted: &str, merge: bool, as_json: bool) -> Result<(), Failure> {
    let loaded = load(config)?.config;
    let (backups, passphrase) = (bucket(&loaded)?, passphrase(&loaded)?);
    let (name, bytes) = small_runtime()?.block_on(fetch(&backups, wanted))?;
    let opened = backup::open(&name, &bytes, passphrase).map_err(|error| {
        let (code, way_out) = match error {
            Unopened::WrongPassphrase => (exit::CONFIG, "put the passphrase of that time into backup.passphrase"),
            Unopened::Damaged => (exit::DATA, "name another one; `pagesyncd backup --list` has them"),
            Unopened::Kdf => (exit::TRY_AGAIN, "try again"),
        };
        Failure::new(code, format!("the backup {name} {error}; nothing was changed"), way_out)
    })?;
    check_lines(&name, &opened, passphrase)?;
    note(format_args!("restoring {BACKUPS}{name}, written at {}", name.at().rfc3339()));
    let into = if merge { Into::Any { replace: false } } else { Into::Empty };
    let size = u64::try_from(opened.len()).ok();
    import::bring(config, (&mut opened.as_slice(), size), Some(passphrase), into, as_json)
}

async fn fetch(backups: &Backups, wanted: &str) -> Result<(BackupName, bytes::Bytes), Failure> {
    let named = (wanted != LATEST).then(|| wanted.parse::<BackupName>()).transpose();
    let hint = "`pagesyncd backup --list` prints the names";
    let named = named.map_err(|error| Failure::new(exit::USAGE, format!("{wanted:?} {error}"), hint))?;
    let name = match named {
        Some(name) => name,
        None => {
            let listed = backups.list().await.map_err(|e| spaces_failure(&e))?;
            let none = || {
                let what = format!("there are no backups under {BACKUPS} in the bucket");
                Failure::new(exit::USAGE, what, "is spaces.bucket the bucket of the daemon that was lost?")
            };
            listed.into_iter().next_back().ok_or_else(none)?.name
        }
    };
    let bytes = backups.get(&name).await.map_err(|e| spaces_failure(&e))?;
    let bytes = bytes.ok_or_else(|| Failure::new(exit::USAGE, format!("there is no backup {name}"), hint))?;
    Ok((name, bytes))
}

/// Reads every line as the import will, and changes nothing.
fn check_lines(name: &BackupName, export: &[u8], passphrase: &Secret) -> Result<(), Failure> {
    let head = export.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let no_key = || Arc::new(Keyring::new([0; 32], Vec::new()));
    let damaged = |what: String| {
        let what = format!("the backup {name} cannot be read: {what}; nothing was changed");
        Failure::new(exit::DATA, what, "name another one; `pagesyncd backup --list` has them")
    };
    let opener = Opener::from_head(head, no_key, Some(passphrase)).map_err(|error| damaged(error.to_string()))?;
    let parsed = lines::parse(export, 1, opener.as_ref());
    match parsed.bad.first() {
        Some(bad) => Err(damaged(format!("line {}: {}", bad.line, bad.error))),
        None => Ok(()),
    }
}
