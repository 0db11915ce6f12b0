//! The document of a backup: an export, sealed as a whole with a passphrase. An export seals its tokens alone; a bucket
//! that was stolen shows no name and no id of a person in this document. The seal also covers the length and the name, so
//! that a backup that was cut off, changed, or put under another name does not open.
//!
//! `{"schema":"pagesyncd/backup/1","kdf":{…},"check":"…","sealed":"…"}`: the parameters that make the key of the
//! passphrase, a text that tells a wrong passphrase from damage, and the export.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::export::{ExportError, Kdf, derive, fresh_kdf};
use crate::core::model::{BackupName, Secret, WallTime};

const SCHEMA: &str = "pagesyncd/backup/1";
const CHECK: &[u8] = b"pagesyncd backup check";

#[derive(Serialize, Deserialize)]
struct Document {
    schema: String,
    kdf: Kdf,
    check: String,
    sealed: String,
}

/// Why a backup does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unopened {
    /// Another passphrase sealed it.
    #[error("was sealed with another passphrase")]
    WrongPassphrase,
    /// It is cut off, changed, of another name, or no backup.
    #[error("is damaged: it is not what was written under this name")]
    Damaged,
    /// The key cannot be made.
    #[error("cannot be opened: the key cannot be made from the passphrase")]
    Kdf,
}

fn context(name: &BackupName) -> Vec<u8> {
    format!("pagesyncd backup\0{name}").into_bytes()
}

/// Seals an export as the backup of this name.
///
/// # Errors
/// The key cannot be made.
pub fn seal(name: &BackupName, export: &[u8], passphrase: &Secret) -> Result<Vec<u8>, ExportError> {
    let kdf = fresh_kdf()?;
    let keyring = derive(passphrase, &kdf)?;
    let seal = |context: &[u8], plain: &[u8]| STANDARD_NO_PAD.encode(keyring.seal(context, plain));
    let document =
        Document { schema: SCHEMA.to_owned(), check: seal(CHECK, CHECK), sealed: seal(&context(name), export), kdf };
    serde_json::to_vec(&document).map_err(|_| ExportError::BrokeOff)
}

/// The export in the backup of this name.
///
/// # Errors
/// [`Unopened`].
pub fn open(name: &BackupName, bytes: &[u8], passphrase: &Secret) -> Result<Zeroizing<Vec<u8>>, Unopened> {
    let document: Document = serde_json::from_slice(bytes).map_err(|_| Unopened::Damaged)?;
    if document.schema != SCHEMA {
        return Err(Unopened::Damaged);
    }
    let keyring = derive(passphrase, &document.kdf).map_err(|error| match error {
        ExportError::Head => Unopened::Damaged,
        _ => Unopened::Kdf,
    })?;
    let decoded = |text: &str| STANDARD_NO_PAD.decode(text).map_err(|_| Unopened::Damaged);
    keyring.open(CHECK, &decoded(&document.check)?).map_err(|_| Unopened::WrongPassphrase)?;
    keyring.open(&context(name), &decoded(&document.sealed)?).map_err(|_| Unopened::Damaged)
}

/// The backups that are older than `keep`, but never the newest of all.
pub fn expired(mut names: Vec<BackupName>, now: WallTime, keep: Duration) -> Vec<BackupName> {
    names.sort();
    names.pop();
    names.retain(|name| now.since(name.at()) > keep);
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(second: u64) -> BackupName {
        BackupName::new(WallTime(1_795_341_600_000 + second * 1000), "host")
    }

    #[test]
    fn only_the_whole_backup_of_this_name_opens_and_only_with_its_passphrase() {
        let passphrase = Secret::new("correct horse battery");
        let bytes = seal(&name(0), b"user and page and token", &passphrase).unwrap();
        assert_eq!(&**open(&name(0), &bytes, &passphrase).unwrap(), b"user and page and token");
        let other = Secret::new("something else entirely");
        assert_eq!(open(&name(0), &bytes, &other).unwrap_err(), Unopened::WrongPassphrase);
        assert_eq!(open(&name(1), &bytes, &passphrase).unwrap_err(), Unopened::Damaged);
        assert_eq!(open(&name(0), &bytes[..bytes.len() - 1], &passphrase).unwrap_err(), Unopened::Damaged);
        let mut document: Document = serde_json::from_slice(&bytes).unwrap();
        document.sealed.truncate(document.sealed.len() - 4);
        let cut = serde_json::to_vec(&document).unwrap();
        assert_eq!(open(&name(0), &cut, &passphrase).unwrap_err(), Unopened::Damaged);
    }

    #[test]
    fn old_backups_expire_but_never_the_newest() {
        let now = name(1000).at();
        let keep = Duration::from_secs(100);
        assert_eq!(expired(vec![name(950), name(1), name(899), name(900)], now, keep), [name(1), name(899)]);
        assert_eq!(expired(vec![name(2), name(1)], now, keep), [name(1)]);
        assert_eq!(expired(vec![name(1)], now, keep), []);
        assert_eq!(expired(Vec::new(), now, keep), []);
    }
}
