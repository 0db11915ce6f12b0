//! What this daemon knows of the database while it does not run, in a file of its own folder: which database it was, and
//! the newest version that the daemon has seen.
//!
//! The database cannot say that it is older than it was. A snapshot of its disk that is put back has the system
//! identifier, the timeline and the tables of before ([`identity`](super::identity)). Running daemons notice it by the
//! version that they have seen. This file does the same for a start.
//!
//! It is written every half a minute where something has changed, and at a stop in order. A daemon that is killed
//! remembers a version that is up to half a minute old. Without the file nothing is claimed. An error of the disk costs
//! the memory and nothing else.

use std::fs::{DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::identity::{Identity, Lineage};
use super::lineage::Known;

const FILE: &str = "database.seen";
const DRAFT: &str = "database.seen.new";
const FORMAT: u8 = 1;

/// The file's content.
#[derive(Debug, Serialize, Deserialize)]
struct SeenDatabase {
    format: u8,
    history: String,
    /// As in the columns of `meta`.
    system_id: String,
    timeline: String,
    seen: u64,
}

/// The file in the folder of this daemon.
pub(super) struct Memory {
    folder: PathBuf,
    written: Mutex<Written>,
}

#[derive(Default)]
struct Written {
    known: Option<Known>,
    has_failed: bool,
}

impl Memory {
    /// The one in this folder, which need not be there yet.
    pub(super) fn of(folder: &Path) -> Memory {
        Memory { folder: folder.to_owned(), written: Mutex::default() }
    }

    /// What the daemon knew at its last word; `None` for one that has never run here.
    ///
    /// # Errors
    /// The disk's, or [`io::ErrorKind::InvalidData`].
    pub(super) fn recall(&self) -> io::Result<Option<Known>> {
        let path = self.folder.join(FILE);
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        let text = match std::fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read.map_err(named)?,
        };
        let known = serde_json::from_slice::<SeenDatabase>(&text).ok().and_then(SeenDatabase::known);
        let damaged = || named(io::Error::new(io::ErrorKind::InvalidData, "it is damaged, or of a newer version"));
        known.map(Some).ok_or_else(damaged)
    }

    /// Writes this down, whole or not at all, unless it is there already. A failure is logged once.
    pub(super) fn keep(&self, known: &Known) {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if written.known.as_ref() == Some(known) {
            return;
        }
        match self.write(&SeenDatabase::of(known)) {
            Ok(()) => *written = Written { known: Some(known.clone()), has_failed: false },
            Err(error) => {
                if !std::mem::replace(&mut written.has_failed, true) {
                    tracing::warn!(
                        "store: cannot note in {} which version of the database was seen ({error}), trying again; until \
                         then a restart does not notice an older database",
                        self.folder.display()
                    );
                }
            }
        }
    }

    fn write(&self, record: &SeenDatabase) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        let draft = self.folder.join(DRAFT);
        let mut file = File::options().create(true).truncate(true).write(true).mode(0o600).open(&draft)?;
        serde_json::to_writer(&mut file, record)?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        std::fs::rename(&draft, self.folder.join(FILE))?;
        File::open(&self.folder)?.sync_all()
    }
}

impl SeenDatabase {
    fn of(known: &Known) -> SeenDatabase {
        let (system_id, timeline) = known.lineage.identity.columns();
        let (history, timeline) = (known.lineage.history.clone(), timeline.to_owned());
        SeenDatabase { format: FORMAT, history, system_id, timeline, seen: known.seen }
    }

    fn known(self) -> Option<Known> {
        let SeenDatabase { format, history, system_id, timeline, seen } = self;
        let identity = Identity::of(&format!("{system_id} {timeline}")).filter(|_| format == FORMAT)?;
        Some(Known { lineage: Lineage { history, identity }, seen })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(seen: u64) -> Known {
        let identity = Identity::of("7423/16384/16390 00000001").unwrap();
        Known { lineage: Lineage { history: "2-a".into(), identity }, seen }
    }

    #[test]
    fn a_database_is_recalled_as_it_was_noted() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("not there yet");
        let recall = || Memory::of(&folder).recall();
        assert_eq!(recall().unwrap(), None);
        let memory = Memory::of(&folder);
        for seen in [7, 8] {
            memory.keep(&known(seen));
            assert_eq!(recall().unwrap(), Some(known(seen)));
        }
        // It is written where it has changed.
        std::fs::remove_file(folder.join(FILE)).unwrap();
        memory.keep(&known(8));
        assert_eq!(recall().unwrap(), None);
    }

    #[test]
    fn a_file_that_cannot_be_used_is_named_and_one_that_cannot_be_written_does_no_harm() {
        let dir = tempfile::tempdir().unwrap();
        let memory = Memory::of(dir.path());
        for text in
            ["", "{", "{\"format\":9,\"history\":\"1-a\",\"system_id\":\"1/2/3\",\"timeline\":\"1\",\"seen\":1}"]
        {
            std::fs::write(dir.path().join(FILE), text).unwrap();
            let error = memory.recall().unwrap_err().to_string();
            assert!(error.contains(FILE) && error.contains("damaged"), "{error}");
        }
        // A folder is where the draft would be.
        std::fs::create_dir(dir.path().join(DRAFT)).unwrap();
        memory.keep(&known(1));
        std::fs::remove_dir(dir.path().join(DRAFT)).unwrap();
        memory.keep(&known(1));
        assert_eq!(memory.recall().unwrap(), Some(known(1)));
    }
}
