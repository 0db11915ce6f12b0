//! The folder of a sandbox: marked as its own, locked while it is used, cleared at the end.
//!
//! The marker file [`MARKER`] is the first file that a sandbox writes and the last that it removes. A folder that is
//! not empty and has no marker belongs to somebody else and is refused. The marker also carries the lock. The daemon of
//! the sandbox gets the locked file as its standard input, so the folder counts as in use until both are gone: a
//! sandbox that was killed can leave a daemon behind which still writes there.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use crate::store::lock_within;

/// The name of the file that marks a folder as a sandbox's.
pub const MARKER: &str = ".pagesyncd-sandbox";

/// The entries that a sandbox makes in its folder, apart from the marker.
const FOLDERS: [&str; 11] = [
    "spaces", "store", "postgres", "daemon-1", "daemon-2", "daemon-3", "daemon-4", "daemon-5", "daemon-6", "daemon-7",
    "daemon-8",
];
const FILES: [&str; 7] =
    ["config.toml", "daemon.log", "world.json", "world.draft", "shopify.json", "shopify.draft", "admin.sock"];

/// Why a folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// It has files in it and no marker.
    #[error("{} is not empty and was not made by a sandbox", .0.display())]
    Foreign(PathBuf),
    /// Another sandbox, or the daemon of one, holds the lock.
    #[error("{} is in use by another sandbox{}", .dir.display(), by(.pid))]
    InUse {
        /// The folder.
        dir: PathBuf,
        /// The sandbox's process id, where the marker names one.
        pid: Option<u32>,
    },
    /// It cannot be made, read or written.
    #[error("{} cannot be used: {source}", .path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

fn by(pid: &Option<u32>) -> String {
    pid.map(|pid| format!(" (process {pid}, or the daemon that it left behind)")).unwrap_or_default()
}

/// The content of the marker file.
#[derive(Debug, Serialize, Deserialize)]
struct Marker {
    made_by: String,
    pid: u32,
    /// A sandbox was asked to keep the folder. Later ones keep it, too.
    kept: bool,
    /// The folder itself was made by a sandbox.
    made_folder: bool,
}

impl Marker {
    const MADE_BY: &str = "pagesyncd sandbox";
}

/// A folder that this process holds.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    file: File,
    marker: Marker,
    fresh: bool,
    temporary: Option<TempDir>,
}

/// How long a lock is waited for: a process that ends holds its lock a moment longer than its program runs.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);

impl Folder {
    /// Takes the folder at `dir`, and makes it where there is none.
    ///
    /// # Errors
    /// [`FolderError`]; nothing in the folder was changed then.
    pub fn open(dir: &Path) -> Result<Self, FolderError> {
        let failed = |source| FolderError::Io { path: dir.to_owned(), source };
        let existed = dir.exists();
        std::fs::create_dir_all(dir).map_err(failed)?;
        let path = std::fs::canonicalize(dir).map_err(failed)?;
        Self::take(path, !existed)
    }

    /// Takes a new folder below the system's folder for temporary files.
    ///
    /// # Errors
    /// [`FolderError::Io`].
    pub fn temporary() -> Result<Self, FolderError> {
        let made = tempfile::Builder::new().prefix("pagesyncd-sandbox-").tempdir();
        let made = made.map_err(|source| FolderError::Io { path: std::env::temp_dir(), source })?;
        let mut folder = Self::take(made.path().to_owned(), true)?;
        folder.temporary = Some(made);
        Ok(folder)
    }

    fn take(path: PathBuf, made_folder: bool) -> Result<Self, FolderError> {
        let name = path.join(MARKER);
        let failed = |source| FolderError::Io { path: name.clone(), source };
        loop {
            let entries = std::fs::read_dir(&path).map_err(|source| FolderError::Io { path: path.clone(), source })?;
            let entries: Vec<_> = entries.take(1000).filter_map(Result::ok).map(|entry| entry.file_name()).collect();
            let marked = name.exists();
            if !entries.is_empty() && !marked {
                return Err(FolderError::Foreign(path));
            }
            let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&name);
            let mut file = opened.map_err(failed)?;
            match lock_within(&file, LOCK_PATIENCE) {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    let pid = read(&mut file).map(|marker| marker.pid);
                    return Err(FolderError::InUse { dir: path, pid });
                }
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
            // Another sandbox may have removed the marker between the opening and the lock.
            if !is_at(&file, &name) {
                continue;
            }
            let earlier = read(&mut file);
            let fresh = !marked;
            let marker = Marker {
                made_by: Marker::MADE_BY.to_owned(),
                pid: std::process::id(),
                // A marker that was made by hand: the folder is kept.
                kept: !fresh && earlier.as_ref().is_none_or(|marker| marker.kept),
                made_folder: if fresh { made_folder } else { earlier.is_some_and(|marker| marker.made_folder) },
            };
            let mut folder = Folder { path, file, marker, fresh, temporary: None };
            folder.write().map_err(failed)?;
            return Ok(folder);
        }
    }

    fn write(&mut self) -> io::Result<()> {
        let text = serde_json::to_vec(&self.marker)?;
        self.file.set_len(0)?;
        self.file.rewind()?;
        self.file.write_all(&text)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Nothing was in it before.
    pub fn is_fresh(&self) -> bool {
        self.fresh
    }

    /// It is in the system's folder for temporary files.
    pub fn is_temporary(&self) -> bool {
        self.temporary.is_some()
    }

    /// An earlier sandbox was asked to keep it.
    pub fn is_kept(&self) -> bool {
        self.marker.kept
    }

    /// The locked file. A process that holds it keeps the folder in use.
    ///
    /// # Errors
    /// The system has no descriptor left.
    pub fn lock(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// Notes that this folder is to be kept from now on, and leaves it.
    ///
    /// # Errors
    /// The note cannot be written.
    pub fn keep(mut self) -> io::Result<PathBuf> {
        self.marker.kept = true;
        let noted = self.write();
        if let Some(temporary) = self.temporary.take() {
            let _ = temporary.keep();
        }
        noted.map(|()| self.path)
    }

    /// Removes the entries that sandboxes make, and the folder itself where a sandbox made it and it is empty then.
    ///
    /// # Errors
    /// An entry could not be removed; the marker stays then.
    pub fn clear(self) -> Result<(), FolderError> {
        let gone = |removed: io::Result<()>, path: PathBuf| match removed {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(FolderError::Io { path, source: error }),
            _ => Ok(()),
        };
        for name in FOLDERS {
            let path = self.path.join(name);
            gone(std::fs::remove_dir_all(&path), path)?;
        }
        for name in FILES.into_iter().chain([MARKER]) {
            let path = self.path.join(name);
            gone(std::fs::remove_file(&path), path)?;
        }
        if self.marker.made_folder {
            match std::fs::remove_dir(&self.path) {
                // Somebody else put files into it.
                Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => {}
                removed => gone(removed, self.path.clone())?,
            }
        }
        Ok(())
    }
}

/// The content of the marker; `None` where it was not written by a sandbox.
fn read(file: &mut File) -> Option<Marker> {
    let mut text = Vec::new();
    file.rewind().ok()?;
    file.take(4096).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

fn is_at(file: &File, name: &Path) -> bool {
    let (Ok(held), Ok(there)) = (file.metadata(), std::fs::metadata(name)) else { return false };
    (held.dev(), held.ino()) == (there.dev(), there.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_others_is_refused_and_an_empty_one_is_taken_once() {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("photo"), "x").unwrap();
        assert!(matches!(Folder::open(home.path()), Err(FolderError::Foreign(_))));
        assert!(matches!(Folder::open(&home.path().join("photo")), Err(FolderError::Io { .. })));
        let folder = Folder::open(&home.path().join("box")).unwrap();
        assert!(folder.is_fresh() && !folder.is_kept());
        let pid = std::process::id();
        let again = Folder::open(&home.path().join("box")).unwrap_err();
        assert!(matches!(again, FolderError::InUse { pid: Some(named), .. } if named == pid), "{again}");
        let held = folder.lock().unwrap();
        drop(folder);
        assert!(matches!(Folder::open(&home.path().join("box")), Err(FolderError::InUse { .. })));
        drop(held);
        let folder = Folder::open(&home.path().join("box")).unwrap();
        assert!(!folder.is_fresh() && !folder.is_kept());
        folder.clear().unwrap();
        assert!(!home.path().join("box").exists());
    }

    #[test]
    fn clearing_leaves_the_files_of_others_and_keeping_is_remembered() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("box");
        let folder = Folder::open(&dir).unwrap();
        std::fs::create_dir_all(dir.join("spaces/bucket")).unwrap();
        std::fs::write(dir.join("notes"), "mine").unwrap();
        assert_eq!(folder.keep().unwrap(), std::fs::canonicalize(&dir).unwrap());
        let folder = Folder::open(&dir).unwrap();
        assert!(folder.is_kept());
        folder.clear().unwrap();
        assert!(dir.join("notes").exists() && !dir.join("spaces").exists() && !dir.join(MARKER).exists());
        // A marker that was made by hand, as for the folder of an earlier version.
        std::fs::write(dir.join(MARKER), "").unwrap();
        assert!(Folder::open(&dir).unwrap().is_kept());
    }
}
