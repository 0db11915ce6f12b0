//! The note that a move between a folder and a database leaves on either side, so that a store that is half there, or
//! that is somewhere else by now, is not used by mistake.
//!
//! In a folder it is the file `move.json`; in a database it is a record of the tree `meta`, which does not move itself.
//! Both have the same name for the store, by which a move that was interrupted is known again. A side without a note
//! has never been part of a move, and is used.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::codec::{self, Damaged};
use super::folder;
use super::tree::{Tree, Write};

/// The file in a folder.
const FILE: &str = "move.json";
const DRAFT: &str = "move.json.new";
/// Its key in the tree `meta` of a database.
pub(super) const KEY: &[u8] = b"move";

/// What a side is to the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Stage {
    /// The store is here and is used.
    Here,
    /// It is on its way here: not all of it is.
    Coming,
    /// It is elsewhere: what lies here is a backup.
    Left,
}

/// The note.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Note {
    /// The name of the store, the same on both sides.
    pub store: String,
    pub stage: Stage,
    /// The other side: a folder, or the address of a database.
    pub other: String,
    /// The number of the newest transaction of the store that is coming.
    #[serde(default)]
    pub batch: Option<u64>,
}

impl Note {
    /// Reads the one of a folder; `None` where there is none.
    ///
    /// # Errors
    /// The disk's, or [`io::ErrorKind::InvalidData`] for a file that is no note.
    pub(super) fn read(dir: &Path) -> io::Result<Option<Note>> {
        match std::fs::read(dir.join(FILE)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            read => {
                let note = serde_json::from_slice(&read?);
                note.map(Some).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, format!("{FILE}: {error}")))
            }
        }
    }

    /// Puts it into a folder, durably and in place of any other.
    ///
    /// # Errors
    /// The disk's.
    pub(super) fn leave(&self, dir: &Path) -> io::Result<()> {
        let mut options = File::options();
        let mut file = options.create(true).truncate(true).write(true).mode(0o600).open(dir.join(DRAFT))?;
        serde_json::to_writer(&mut file, self)?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        std::fs::rename(dir.join(DRAFT), dir.join(FILE))?;
        folder::sync(dir)
    }

    /// The one of a database, by the value of its record.
    ///
    /// # Errors
    /// [`Damaged`].
    pub(super) fn of_record(value: &[u8]) -> Result<Note, Damaged> {
        codec::decode(Tree::Meta.name(), value)
    }

    /// The write that puts it into a database.
    pub(super) fn record(&self) -> Write {
        Write { tree: Tree::Meta, key: KEY.to_vec(), value: Some(codec::encode(self)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_read_as_it_was_left() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Note::read(dir.path()).unwrap(), None);
        let note = Note { store: "s".into(), stage: Stage::Left, other: "db:5432/x".into(), batch: Some(7) };
        note.leave(dir.path()).unwrap();
        assert_eq!(Note::read(dir.path()).unwrap().as_ref(), Some(&note));
        assert_eq!(Note::of_record(note.record().value.as_deref().unwrap()), Ok(note));
        std::fs::write(dir.path().join(FILE), "{").unwrap();
        assert!(Note::read(dir.path()).is_err());
    }
}
