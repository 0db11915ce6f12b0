//! What stands in the way of a move. Each error names the way out after a semicolon.

use std::path::PathBuf;

use crate::store::handle::Fault;
use crate::store::open_error::OpenError;
use crate::store::shared::errors::ConnectError;

/// The reason that a store does not move, or not all the way.
#[derive(Debug, thiserror::Error)]
pub enum MoveError {
    /// The folder cannot be used.
    #[error(transparent)]
    Folder(#[from] OpenError),
    /// The database cannot be used.
    #[error(transparent)]
    Database(#[from] ConnectError),
    /// A daemon uses the database.
    #[error("the daemon {node} uses the database at {place}; stop all daemons that have it in store.url and try again")]
    DaemonAlive {
        /// Its name.
        node: String,
        /// Hosts, ports and database.
        place: String,
    },
    /// There is nothing to move out.
    #[error("there is no store in {path}; name the folder of the store in store.path")]
    NoStore {
        /// The folder.
        path: PathBuf,
    },
    /// There is nothing to move in.
    #[error("there is no store in the database at {place}; name the database of the store")]
    NothingThere {
        /// Hosts, ports and database.
        place: String,
    },
    /// Something else lies in the database.
    #[error(
        "the database at {place} holds another store; name an empty database, or if nobody needs that one, drop the tables changes, daemons, meta and records"
    )]
    DatabaseTaken {
        /// Hosts, ports and database.
        place: String,
    },
    /// Something else lies in the folder.
    #[error("{path} holds another store; move that folder away, or name an empty one in store.path")]
    FolderTaken {
        /// The folder.
        path: PathBuf,
    },
    /// A daemon worked on the source meanwhile.
    #[error(
        "a daemon worked on the database at {place} during the move; stop all daemons that have it in store.url and run the move again"
    )]
    Overtaken {
        /// Hosts, ports and database.
        place: String,
    },
    /// Not all records arrived.
    #[error("{found} of {expected} records are in the database; run the move again, it begins anew")]
    Incomplete {
        /// Records that are there.
        found: u64,
        /// Records that should be.
        expected: u64,
    },
    /// Reading or writing failed on the way.
    #[error("the move broke off ({detail}); run it again, it goes on from there")]
    Broken {
        /// The error.
        detail: String,
    },
    /// It was asked to end.
    #[error("the move was interrupted; run it again, it goes on from there")]
    Stopped,
}

impl From<Fault> for MoveError {
    fn from(fault: Fault) -> Self {
        MoveError::Broken { detail: fault.to_string() }
    }
}
