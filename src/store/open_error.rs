//! The reasons that a store cannot be opened.

use std::path::{Path, PathBuf};

use super::handle::Fault;

/// The layout of the trees that this program writes; see [`migration`](super::migration).
pub(super) const FORMAT: u32 = 2;

/// The reason that a store cannot be opened; each names the folder and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error(
        "the store in {path} is in use by another process; stop the other pagesyncd, or give this one a store.path of its own"
    )]
    Locked {
        /// The folder.
        path: PathBuf,
    },
    /// Sealed with a key that is not configured.
    #[error(
        "store.key does not open the store in {path}: it was sealed with another key; put that key into store.key or store.previous_keys, or move the folder away to start empty"
    )]
    WrongKey {
        /// The folder.
        path: PathBuf,
    },
    /// The folder is another user's.
    #[error(
        "the store in {path} belongs to the user with the id {owner} and this program runs as the one with the id {ours}; run it as that user (`/usr/libexec/pagesyncd/as-service VERB ...` does where systemd starts the daemon), or start the daemon, which answers most commands through its socket"
    )]
    Owner {
        /// The folder.
        path: PathBuf,
        /// Its owner's id.
        owner: u32,
        /// The id of the user that runs the program.
        ours: u32,
    },
    /// sled refuses it, or panicked over it.
    #[error(
        "the store in {path} is damaged ({detail}); move the folder {path}/sled away and link or import the pages again"
    )]
    Damaged {
        /// The folder.
        path: PathBuf,
        /// What was found.
        detail: String,
    },
    /// Written by a newer version.
    #[error("the store in {path} has format {found}, this program knows {FORMAT}; run the newer pagesyncd")]
    Newer {
        /// The folder.
        path: PathBuf,
        /// The format found.
        found: u32,
    },
    /// It was moved into a database, and a backup is left.
    #[error(
        "the store in {path} was moved to the database at {to}, and what is left is a backup; set store.url to use it there, or bring it back with `pagesyncd move-store --from`"
    )]
    Moved {
        /// The folder.
        path: PathBuf,
        /// Hosts, ports and database.
        to: String,
    },
    /// It is on its way into the folder.
    #[error("not all of the store is in {path} yet, its move was interrupted; run `pagesyncd move-store --from` again")]
    HalfMoved {
        /// The folder.
        path: PathBuf,
    },
    /// The disk refuses.
    #[error(
        "the store in {path} cannot be opened; check that the folder exists, belongs to the daemon's user and has space"
    )]
    Io {
        /// The folder.
        path: PathBuf,
        /// The error of the disk.
        source: std::io::Error,
    },
}

impl OpenError {
    /// Names the folder in which the database met a fault.
    pub(super) fn of(dir: &Path, fault: Fault) -> Self {
        let path = dir.to_owned();
        match fault {
            Fault::Locked => OpenError::Locked { path },
            Fault::Suspect(detail) => OpenError::Damaged { path, detail },
            Fault::Disk(detail) => OpenError::Io { path, source: std::io::Error::other(detail) },
        }
    }
}
