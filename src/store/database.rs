//! The database on disk, sled: its trees, and one durable transaction over them.
//!
//! It lies in `<store.path>/sled`, so that a damaged one can be moved aside while the folder that belongs to the daemon
//! stays. A new one is made under another name and renamed when it is whole.

use std::fs::File;
use std::ops::Bound;
use std::path::Path;

use sled::Transactional;
use sled::transaction::{ConflictableTransactionError, TransactionError};

use super::check;
use super::codec::{self, Damaged};
use super::folder;
use super::handle::{Fault, Handle, guarded};
use super::open_error::{FORMAT, OpenError};
use super::seal::{Keyring, SealError};
use super::tree::{Tree, Write};

const FIRST_FORMAT: u32 = 1;
const FORMAT_KEY: &[u8] = b"format";
const BATCH: &[u8] = b"batch";

/// An open database.
pub(super) struct Database {
    handle: Handle,
}

impl Database {
    /// Opens the database of a store and finds a newer layout and a wrong key by name before anything is read with it.
    pub(super) fn open(dir: &Path, keyring: &Keyring) -> Result<Self, OpenError> {
        let path = dir.join(folder::DATABASE);
        let fault = |fault| OpenError::of(dir, fault);
        let io = |error: std::io::Error| fault(Fault::from(error));
        folder::read_all(&path).map_err(io)?;
        let attempt = || Handle::open(&path, &Tree::NAMES);
        let opened = match attempt() {
            Err(Fault::Suspect(_)) if Self::drop_unfinished_snapshots(&path) => attempt(),
            opened => opened,
        };
        let database = Database { handle: opened.map_err(fault)? };
        for folder in [path.as_path(), dir, dir.parent().unwrap_or(dir)] {
            folder::sync(folder).map_err(io)?;
        }
        database.check(dir, keyring)?;
        Ok(database)
    }

    /// Makes a database that holds only its format and the check of its key. [`Database::rename_into`] puts it in
    /// force.
    pub(super) fn create(dir: &Path, keyring: &Keyring) -> Result<Self, Fault> {
        let database = Self::create_bare(dir)?;
        database.commit(&[Self::format_record(FORMAT), check::record(keyring)], 0)?;
        Ok(database)
    }

    /// Makes a database with nothing in it at all, for one that is to be filled from another.
    pub(super) fn create_bare(dir: &Path) -> Result<Self, Fault> {
        let path = dir.join(folder::UNFINISHED);
        folder::remove_folder(&path)?;
        let database = Database { handle: Handle::open(&path, &Tree::NAMES)? };
        folder::tighten(dir)?;
        // sled does not do this itself.
        File::open(path.join("conf"))?.sync_all()?;
        folder::sync(&path)?;
        Ok(database)
    }

    /// Gives a new database its name. sled goes by its open files from here on; names matter to it when it opens, and
    /// for files that it makes for items that are longer than any of these.
    pub(super) fn rename_into(&self, dir: &Path) -> Result<(), Fault> {
        std::fs::rename(dir.join(folder::UNFINISHED), dir.join(folder::DATABASE))?;
        Ok(folder::sync(dir)?)
    }

    /// A full disk, or a kill at the wrong moment, leaves a snapshot half written under a name that sled takes for a
    /// whole one ever after. A snapshot is only a shortcut: without it sled reads its log. Was there one?
    fn drop_unfinished_snapshots(path: &Path) -> bool {
        let entries = std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
        let unfinished = entries.filter(|path| path.extension().is_some_and(|e| e == "generating"));
        unfinished.filter(|path| std::fs::remove_file(path).is_ok()).count() > 0
    }

    /// Reads every record once, so that damage deep inside shows now and not in the middle of the work.
    pub(super) fn read_through(self, dir: &Path) -> Result<Self, OpenError> {
        let read =
            || self.handle.trees().iter().try_for_each(|tree| tree.iter().try_for_each(|record| record.map(|_| ())));
        guarded::<_, sled::Error>(read).map_err(|fault| OpenError::of(dir, fault))?;
        Ok(self)
    }

    fn check(&self, dir: &Path, keyring: &Keyring) -> Result<(), OpenError> {
        let fault = |fault| OpenError::of(dir, fault);
        let damaged = |d: Damaged| fault(Fault::Suspect(d.to_string()));
        if self.get(Tree::Meta, FORMAT_KEY).map_err(fault)?.is_none() {
            // Made by an earlier version that was interrupted, or it lost everything: its keys may have any form.
            let first = [Self::format_record(FIRST_FORMAT), check::record(keyring)];
            return self.commit(&first, 0).map_err(fault);
        }
        let found = self.format().map_err(fault)?;
        if found > FORMAT {
            return Err(OpenError::Newer { path: dir.to_owned(), found });
        }
        let check = self.get(Tree::Meta, check::KEY).map_err(fault)?.unwrap_or_default();
        let sealed = codec::unwrap("meta", &check).map_err(damaged)?;
        match check::open(keyring, sealed) {
            Ok(()) => Ok(()),
            Err(SealError::UnknownKey { .. }) => Err(OpenError::WrongKey { path: dir.to_owned() }),
            Err(other) => Err(fault(Fault::Suspect(other.to_string()))),
        }
    }

    /// The layout of the trees in here.
    pub(super) fn format(&self) -> Result<u32, Fault> {
        let value = self.get(Tree::Meta, FORMAT_KEY)?.unwrap_or_default();
        codec::decode("meta", &value).map_err(|damaged| Fault::Suspect(damaged.to_string()))
    }

    /// The record that says the layout.
    pub(super) fn format_record(format: u32) -> Write {
        Write { tree: Tree::Meta, key: FORMAT_KEY.to_vec(), value: Some(codec::encode(&format)) }
    }

    /// Is this that record?
    pub(super) fn is_format(tree: Tree, key: &[u8]) -> bool {
        tree == Tree::Meta && key == FORMAT_KEY
    }

    /// The number of the newest transaction in here; 0 for a new database.
    pub(super) fn batch(&self) -> Result<u64, Fault> {
        let number = self.get(Tree::Meta, BATCH)?;
        Ok(number.and_then(|value| codec::decode("meta", &value).ok()).unwrap_or(0))
    }

    /// Is this the record of that number, which every transaction writes?
    pub(super) fn is_number(tree: Tree, key: &[u8]) -> bool {
        tree == Tree::Meta && key == BATCH
    }

    /// Applies the writes as one transaction of this number and returns when they would survive a power cut.
    pub(super) fn commit(&self, writes: &[Write], batch: u64) -> Result<(), Fault> {
        self.apply(writes, batch)?;
        self.handle.flush()
    }

    /// Applies the writes as one transaction of this number, which is not durable yet.
    pub(super) fn apply(&self, writes: &[Write], batch: u64) -> Result<(), Fault> {
        let number = Write { tree: Tree::Meta, key: BATCH.to_vec(), value: Some(codec::encode(&batch)) };
        let apply = || {
            self.handle.trees().transaction(|trees| {
                for write in writes.iter().chain([&number]) {
                    let tree = &trees[write.tree as usize];
                    match &write.value {
                        Some(value) => tree.insert(write.key.as_slice(), value.as_slice())?,
                        None => tree.remove(write.key.as_slice())?,
                    };
                }
                Ok::<_, ConflictableTransactionError<()>>(())
            })
        };
        guarded(|| {
            apply().map_err(|e| match e {
                TransactionError::Storage(error) => Fault::from(error),
                TransactionError::Abort(()) => Fault::Suspect("the transaction was aborted".into()),
            })
        })
    }

    /// Writes one record outside of any transaction; it is not durable yet.
    pub(super) fn put(&self, tree: Tree, key: &[u8], value: &[u8]) -> Result<(), Fault> {
        guarded(|| self.handle.trees()[tree as usize].insert(key, value).map(|_| ()))
    }

    /// Every record of a tree.
    pub(super) fn records(&self, tree: Tree) -> impl Iterator<Item = sled::Result<(sled::IVec, sled::IVec)>> + use<> {
        self.handle.trees()[tree as usize].iter()
    }

    /// Every record of a tree behind this key.
    pub(super) fn records_after(
        &self,
        tree: Tree,
        key: Option<&[u8]>,
    ) -> impl Iterator<Item = sled::Result<(sled::IVec, sled::IVec)>> + use<> {
        let start = key.map_or(Bound::Unbounded, Bound::Excluded);
        self.handle.trees()[tree as usize].range::<&[u8], _>((start, Bound::Unbounded))
    }

    /// Every record of a tree from this key on.
    pub(super) fn records_from(
        &self,
        tree: Tree,
        key: &[u8],
    ) -> impl Iterator<Item = sled::Result<(sled::IVec, sled::IVec)>> + use<> {
        self.handle.trees()[tree as usize].range(key.to_vec()..)
    }

    /// One value.
    pub(super) fn get(&self, tree: Tree, key: &[u8]) -> Result<Option<sled::IVec>, Fault> {
        guarded(|| self.handle.trees()[tree as usize].get(key))
    }

    /// Writes and removes a record, so that a store is called back only when the disk really takes writes again.
    pub(super) fn prove_writable(&self, batch: u64) -> Result<(), Fault> {
        let probe = |value| [Write { tree: Tree::Meta, key: b"probe".to_vec(), value }];
        self.commit(&probe(Some(codec::wrap(&[0; 4096]))), batch)?;
        self.commit(&probe(None), batch)
    }

    /// Bytes on disk.
    pub(super) fn size_on_disk(&self) -> u64 {
        self.handle.size_on_disk()
    }

    /// Closes it; `false` when not everything could be written out.
    pub(super) fn close(self) -> bool {
        self.handle.close()
    }
}
