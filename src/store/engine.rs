//! sled itself: opening it without trusting it, the trees, one durable transaction, reading bodies back.
//!
//! The database lies in `<store.path>/sled`, so that a damaged one can be moved aside while the folder that belongs
//! to the daemon stays.

use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use sled::Transactional;
use sled::transaction::{ConflictableTransactionError, TransactionError};

use super::codec::{self, Damaged};
use super::seal::{KeyId, Keyring, SealError, key_id};
use crate::ledger::Staged;
use crate::model::{LinkKey, Millis};

/// Small enough that sixteen of them in a leaf stay far below a quarter of a segment, above which sled would put the
/// node into a file that it never fsyncs.
const CHUNK: usize = 16 << 10;
const SEGMENT: usize = 2 << 20;
const CACHE_BYTES: u64 = 64 << 20;
const FORMAT: u32 = 1;
const BATCH: &[u8] = b"batch";
const CHECK: &[u8] = b"pagesyncd store key check";

/// The trees; the numbers index [`NAMES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Tree {
    Meta,
    Links,
    Marks,
    Outbox,
    Bodies,
    Synced,
    Accounts,
    Sessions,
    Logins,
    States,
    Deletions,
    Notices,
    Fields,
    Chores,
}

const NAMES: [&str; 14] = [
    "meta",
    "links",
    "marks",
    "outbox",
    "bodies",
    "synced",
    "accounts",
    "sessions",
    "logins",
    "states",
    "deletions",
    "notices",
    "fields",
    "chores",
];

impl Tree {
    pub(super) fn name(self) -> &'static str {
        NAMES[self as usize]
    }

    /// The tree of a number in the journal; the numbers never change their meaning.
    pub(super) fn of(number: u8) -> Option<Tree> {
        use Tree::*;
        let all = [
            Meta, Links, Marks, Outbox, Bodies, Synced, Accounts, Sessions, Logins, States, Deletions, Notices, Fields,
            Chores,
        ];
        all.get(usize::from(number)).copied()
    }
}

/// One write of a transaction: a value, or `None` to remove the key.
#[derive(Debug)]
pub(super) struct Write {
    pub tree: Tree,
    pub key: Vec<u8>,
    pub value: Option<Vec<u8>>,
}

/// Why a store cannot be opened; each names the place and the way out.
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
    /// The disk says no.
    #[error(
        "the store in {path} cannot be opened; check that the folder exists, belongs to the daemon's user and has room"
    )]
    Io {
        /// The folder.
        path: PathBuf,
        /// What the disk said.
        source: std::io::Error,
    },
}

/// I/O errors by which sled says that its files are not what it wrote, rather than that the disk refuses.
fn is_damage(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
    matches!(error.kind(), UnexpectedEof | InvalidData | InvalidInput)
}

/// An open sled, its trees and the file that must be fsynced.
pub(super) struct Engine {
    path: PathBuf,
    db: sled::Db,
    trees: Vec<sled::Tree>,
    log: File,
}

impl Engine {
    /// Makes the folder, for its owner alone.
    pub(super) fn make_dir(dir: &Path) -> Result<(), OpenError> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
        made.map_err(|source| OpenError::Io { path: dir.to_owned(), source })
    }

    pub(super) fn open(dir: &Path, keyring: &Keyring) -> Result<Self, OpenError> {
        let io = |source| OpenError::Io { path: dir.to_owned(), source };
        let path = dir.join("sled");
        let attempt = || catch_unwind(AssertUnwindSafe(|| Self::open_sled(&path)));
        let mut opened = attempt();
        // Behind the lock, so that nobody else's is taken away.
        if matches!(opened, Ok(Err(sled::Error::Corruption { .. }))) && Self::drop_unfinished_snapshots(&path) {
            opened = attempt();
        }
        let engine = match opened {
            Ok(Ok((db, trees, log))) => Engine { path: dir.to_owned(), db, trees, log },
            Ok(Err(error)) => return Err(Self::explain(dir, error)),
            Err(_) => return Err(OpenError::Damaged { path: dir.to_owned(), detail: "sled panicked".into() }),
        };
        for folder in [path.as_path(), dir, dir.parent().unwrap_or(dir)] {
            File::open(folder).and_then(|f| f.sync_all()).map_err(io)?;
        }
        engine.check(keyring)?;
        Ok(engine)
    }

    /// A full disk, or a kill at the wrong moment, leaves a snapshot half written under a name that sled takes for a
    /// whole one ever after. A snapshot is only a shortcut: without it sled reads its log. Was there one?
    fn drop_unfinished_snapshots(path: &Path) -> bool {
        let entries = std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
        let unfinished = entries.filter(|path| path.extension().is_some_and(|e| e == "generating"));
        unfinished.filter(|path| std::fs::remove_file(path).is_ok()).count() > 0
    }

    /// Reads every record once, so that damage deep inside shows now and not in the middle of the work.
    pub(super) fn read_through(self) -> Result<Self, OpenError> {
        let read = catch_unwind(AssertUnwindSafe(|| {
            self.trees.iter().try_for_each(|tree| tree.iter().try_for_each(|record| record.map(|_| ())))
        }));
        match read {
            Ok(Ok(())) => Ok(self),
            Ok(Err(error)) => Err(self.damaged(error.to_string())),
            Err(_) => Err(self.damaged("sled panicked while reading".into())),
        }
    }

    /// Moves the database out of the way, under a name that says when; and where to.
    pub(super) fn move_aside(dir: &Path) -> std::io::Result<PathBuf> {
        let stamp = Millis::now().0;
        let aside = dir.join(format!("sled.damaged-{stamp}"));
        std::fs::rename(dir.join("sled"), &aside)?;
        File::open(dir)?.sync_all()?;
        Ok(aside)
    }

    fn open_sled(path: &Path) -> sled::Result<(sled::Db, Vec<sled::Tree>, File)> {
        let config = sled::Config::new().path(path).cache_capacity(CACHE_BYTES).segment_size(SEGMENT);
        let db = config.open()?;
        let log = File::open(path.join("db"))?;
        let trees = NAMES.iter().map(|name| db.open_tree(name)).collect::<sled::Result<Vec<_>>>()?;
        db.flush()?;
        log.sync_all()?;
        Ok((db, trees, log))
    }

    fn explain(dir: &Path, error: sled::Error) -> OpenError {
        let path = dir.to_owned();
        match error {
            sled::Error::Io(e) if e.kind() == std::io::ErrorKind::WouldBlock => OpenError::Locked { path },
            sled::Error::Io(e) if e.to_string().contains("could not acquire lock") => OpenError::Locked { path },
            sled::Error::Io(e) if is_damage(&e) => OpenError::Damaged { path, detail: e.to_string() },
            sled::Error::Io(source) => OpenError::Io { path, source },
            other => OpenError::Damaged { path, detail: other.to_string() },
        }
    }

    /// Finds a newer layout and a wrong key by name before anything is read with it.
    fn check(&self, keyring: &Keyring) -> Result<(), OpenError> {
        let damaged = |d: Damaged| OpenError::Damaged { path: self.path.clone(), detail: d.to_string() };
        let meta = &self.trees[Tree::Meta as usize];
        let format = meta.get("format").map_err(|e| Self::explain(&self.path, e))?;
        let Some(format) = format else { return self.initialise(keyring) };
        let found: u32 = codec::decode("meta", &format).map_err(damaged)?;
        if found > FORMAT {
            return Err(OpenError::Newer { path: self.path.clone(), found });
        }
        let check = meta.get("check").map_err(|e| Self::explain(&self.path, e))?.unwrap_or_default();
        let sealed = codec::unwrap("meta", &check).map_err(damaged)?;
        match keyring.open(CHECK, sealed) {
            Ok(_) => Ok(()),
            Err(SealError::UnknownKey { .. }) => Err(OpenError::WrongKey { path: self.path.clone() }),
            Err(other) => Err(OpenError::Damaged { path: self.path.clone(), detail: other.to_string() }),
        }
    }

    fn initialise(&self, keyring: &Keyring) -> Result<(), OpenError> {
        let writes = vec![
            Write { tree: Tree::Meta, key: b"format".to_vec(), value: Some(codec::encode(&FORMAT)) },
            Self::check_record(keyring),
        ];
        self.commit(writes, 0).map_err(|detail| OpenError::Damaged { path: self.path.clone(), detail })
    }

    /// The key that sealed the record by which a wrong key is found.
    pub(super) fn check_key(&self) -> Result<KeyId, String> {
        let check = self.get(Tree::Meta, b"check")?.unwrap_or_default();
        let sealed = codec::unwrap("meta", &check).map_err(|d| d.to_string())?;
        key_id(sealed).map_err(|e| e.to_string())
    }

    /// The record by which a wrong key is found.
    pub(super) fn check_record(keyring: &Keyring) -> Write {
        let value = codec::wrap(&keyring.seal(CHECK, CHECK));
        Write { tree: Tree::Meta, key: b"check".to_vec(), value: Some(value) }
    }

    /// The number of the newest transaction in here; 0 for a new database.
    pub(super) fn batch(&self) -> u64 {
        let number = self.get(Tree::Meta, BATCH).ok().flatten();
        number.and_then(|value| codec::decode("meta", &value).ok()).unwrap_or(0)
    }

    /// Applies the writes as one transaction of this number and returns when they would survive a power cut.
    pub(super) fn commit(&self, mut writes: Vec<Write>, batch: u64) -> Result<(), String> {
        writes.push(Write { tree: Tree::Meta, key: BATCH.to_vec(), value: Some(codec::encode(&batch)) });
        let applied: Result<(), TransactionError<()>> = self.trees.as_slice().transaction(|trees| {
            for write in &writes {
                let tree = &trees[write.tree as usize];
                match &write.value {
                    Some(value) => tree.insert(write.key.as_slice(), value.as_slice())?,
                    None => tree.remove(write.key.as_slice())?,
                };
            }
            Ok::<_, ConflictableTransactionError<()>>(())
        });
        applied.map_err(|e| format!("{e:?}"))?;
        self.db.flush().map_err(|e| e.to_string())?;
        self.log.sync_all().map_err(|e| e.to_string())
    }

    /// Every record of a tree.
    pub(super) fn records(&self, tree: Tree) -> impl Iterator<Item = sled::Result<(sled::IVec, sled::IVec)>> + use<> {
        self.trees[tree as usize].iter()
    }

    /// One value.
    pub(super) fn get(&self, tree: Tree, key: &[u8]) -> Result<Option<sled::IVec>, String> {
        self.trees[tree as usize].get(key).map_err(|e| e.to_string())
    }

    /// The body of a staged object, put together and checked for its length.
    pub(super) fn body(&self, link: &LinkKey, staged: &Staged) -> Result<Bytes, Damaged> {
        let damaged = Damaged::Bytes("bodies");
        let mut body = Vec::with_capacity(staged.body_len as usize);
        for key in body_keys(link, staged) {
            let chunk = self.get(Tree::Bodies, &key).ok().flatten().ok_or(damaged)?;
            body.extend_from_slice(codec::unwrap("bodies", &chunk)?);
        }
        if body.len() == staged.body_len as usize { Ok(body.into()) } else { Err(damaged) }
    }

    /// Writes and removes a record, so that a store is called back only when the disk really takes writes again.
    pub(super) fn prove_writable(&self, batch: u64) -> Result<(), String> {
        let probe = |value| Write { tree: Tree::Meta, key: b"probe".to_vec(), value };
        self.commit(vec![probe(Some(codec::wrap(&[0; 4096])))], batch)?;
        self.commit(vec![probe(None)], batch)
    }

    /// The disk does not take writes yet.
    pub(super) fn cannot_write(&self, detail: String) -> OpenError {
        OpenError::Io { path: self.path.clone(), source: std::io::Error::other(detail) }
    }

    /// The store reads as damaged.
    pub(super) fn damaged(&self, detail: String) -> OpenError {
        OpenError::Damaged { path: self.path.clone(), detail }
    }

    /// Bytes on disk.
    pub(super) fn size_on_disk(&self) -> u64 {
        self.db.size_on_disk().unwrap_or(0)
    }
}

/// The keys under which a body's pieces lie.
pub(super) fn body_keys(link: &LinkKey, staged: &Staged) -> impl Iterator<Item = Vec<u8>> {
    let chunks = (staged.body_len as usize).div_ceil(CHUNK);
    let mut prefix = link.to_bytes();
    prefix.push(0);
    prefix.extend_from_slice(&staged.seq.to_be_bytes());
    (0..chunks as u32).map(move |n| [prefix.as_slice(), &n.to_be_bytes()].concat())
}

/// The writes that put a body there.
pub(super) fn body_writes(link: &LinkKey, staged: &Staged, body: &[u8]) -> Vec<Write> {
    let pieces = body_keys(link, staged).zip(body.chunks(CHUNK));
    pieces.map(|(key, piece)| Write { tree: Tree::Bodies, key, value: Some(codec::wrap(piece)) }).collect()
}
