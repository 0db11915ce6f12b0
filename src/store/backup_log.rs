//! The backup log: an append-only file beside the database with the records that must survive the loss of it: links,
//! logins, browser sessions, deletions, cleanups, waiting events, and the deletes still owed to Spaces. And the
//! high-water mark, a number by which a database that lost its end is found.
//!
//! The committer appends to the backup log with each commit: after the database is durable, before any caller is
//! answered. So no answer is ahead of it. Marks are not in it: when the database is lost every page is read again,
//! which answers for all of them.
//!
//! # Form
//!
//! `links.journal` is a row of records: a magic word, the length and the CRC-32 of what follows, and the payload, which
//! is sealed with the store key (number of the transaction, tree, key, value or nothing). A torn end is left out; a
//! damaged record in the middle is skipped by looking for the next magic word. The file is replaced by a new one
//! (aside, fsync, rename) at each start, when it has grown to some times its size, and when removed data must not stay
//! readable ([`renewal`](super::renewal)); so it is bounded by the live records.
//!
//! It begins with the removal of a session without a name, which says the number of the newest transaction and no more,
//! and with the removal of an event without a number, which says that events are in the file: one that an earlier
//! version wrote has none and is no witness of their absence.
//!
//! The high-water mark holds the number of the newest transaction, written over itself after each commit and not
//! fsynced: it survives a kill, and after a power cut it can only be *behind*, which says nothing. A database whose own
//! number is behind the high-water mark or the backup log has lost its end. A byte after the number says that the
//! process closed the store in order, so that nothing of the database is in the page cache alone.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::codec;
use super::earlier_keys::key_of_today;
use super::folder;
use super::seal::{Keyring, SealError};
use super::tree::{Tree, Write};
use crate::core::ledger::{ObjectOp, Staged};

const FILE: &str = "links.journal";
const UNFINISHED: &str = "links.journal.new";
const HIGH_WATER_MARK: &str = "tide";
const MAGIC: [u8; 4] = *b"PSJ1";
const HEAD: usize = 12;
const CONTEXT: &[u8] = b"journal";
/// No record of these trees comes near it; a larger length is damage.
const MAX_PAYLOAD: usize = 1 << 20;
/// Below this size a backup log has not grown.
const SMALL: u64 = 8 << 20;
const GROWTH: u64 = 3;

/// The place of a record in the backup log.
pub(super) type Place = (Tree, Vec<u8>);

/// What a backup log says.
#[derive(Debug, Default)]
pub(super) struct Replay {
    /// The newest value of every place that has one.
    pub live: BTreeMap<Place, Vec<u8>>,
    /// The newest transaction in it.
    pub batch: u64,
    /// Records that did not check.
    pub damaged: usize,
    /// Records sealed with a key that is not configured.
    pub foreign: usize,
    /// Events that wait are in it.
    pub has_events: bool,
}

/// The backup log, open for appending.
pub(super) struct BackupLog {
    file: File,
    bytes: u64,
    bytes_when_written: u64,
    /// Links whose owed delete is in the file, so that its end is noted too.
    deletes: HashSet<Vec<u8>>,
}

impl BackupLog {
    /// Its path.
    pub(super) fn path(dir: &Path) -> PathBuf {
        dir.join(FILE)
    }

    /// Reads the backup log in `dir`; an empty one where there is none.
    pub(super) fn read(dir: &Path, keyring: &Keyring) -> io::Result<Replay> {
        let bytes = match std::fs::read(dir.join(FILE)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Replay::default()),
            read => read?,
        };
        Ok(replay(&bytes, keyring))
    }

    /// Removes it and the high-water mark. The database has everything, or goes as well.
    pub(super) fn remove(dir: &Path) -> io::Result<()> {
        [FILE, UNFINISHED, HIGH_WATER_MARK].iter().try_for_each(|name| folder::remove_file(&dir.join(name)))
    }

    /// Puts a whole backup log where the one is that is there; durable and atomic.
    pub(super) fn create<'a>(
        dir: &Path,
        keyring: &Keyring,
        batch: u64,
        live: impl Iterator<Item = (&'a Place, &'a Vec<u8>)>,
    ) -> io::Result<BackupLog> {
        let mut draft = Draft::begin(dir, keyring)?;
        let mut deletes = HashSet::new();
        for ((tree, key), value) in live {
            draft.copy(keyring, batch, *tree, key, value)?;
            if *tree == Tree::Outbox {
                deletes.insert(key.clone());
            }
        }
        draft.seal(keyring, batch)?;
        draft.put_in_force(deletes)
    }

    /// The records to append for these writes.
    pub(super) fn choose(&mut self, keyring: &Keyring, batch: u64, writes: &[Write]) -> Vec<u8> {
        let mut records = Vec::new();
        for write in writes {
            if self.takes(write) {
                records.extend(record(keyring, batch, write.tree, &write.key, write.value.as_deref()));
            }
        }
        records
    }

    /// Appends records, durably.
    pub(super) fn append(&mut self, records: &[u8]) -> io::Result<()> {
        if records.is_empty() {
            return Ok(());
        }
        self.file.write_all(records)?;
        self.file.sync_data()?;
        self.bytes += records.len() as u64;
        Ok(())
    }

    /// Puts a draft with the same records in force instead of this one.
    pub(super) fn replace(&mut self, draft: Draft) -> io::Result<()> {
        *self = draft.put_in_force(self.deletes.clone())?;
        Ok(())
    }

    /// Is most of it out of date?
    pub(super) fn has_grown(&self) -> bool {
        self.bytes > SMALL && self.bytes > self.bytes_when_written * GROWTH
    }

    /// Everything of the trees that it answers for; of the outbox the deletes, and the end of one that is in here.
    fn takes(&mut self, write: &Write) -> bool {
        match (write.tree, &write.value) {
            (tree, _) if Tree::IN_BACKUP_LOG.contains(&tree) => true,
            (Tree::Outbox, Some(value)) if is_delete(value) => {
                self.deletes.insert(write.key.clone());
                true
            }
            (Tree::Outbox, _) => self.deletes.remove(&write.key),
            _ => false,
        }
    }
}

/// A backup log that is being written beside the one in force.
pub(super) struct Draft {
    dir: PathBuf,
    out: io::BufWriter<File>,
    bytes: u64,
}

impl Draft {
    /// Begins one, over the file of an interrupted one.
    pub(super) fn begin(dir: &Path, keyring: &Keyring) -> io::Result<Draft> {
        let mut options = File::options();
        options.create(true).truncate(true).write(true).mode(0o600);
        let out = io::BufWriter::new(options.open(dir.join(UNFINISHED))?);
        let mut draft = Draft { dir: dir.to_owned(), out, bytes: 0 };
        draft.add(&record(keyring, 0, Tree::Events, &[], None))?;
        Ok(draft)
    }

    /// Removes one that was left unfinished.
    pub(super) fn remove(dir: &Path) -> io::Result<()> {
        match std::fs::remove_file(dir.join(UNFINISHED)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Adds a record of the database, if the backup log answers for it.
    pub(super) fn copy(
        &mut self,
        keyring: &Keyring,
        batch: u64,
        tree: Tree,
        key: &[u8],
        value: &[u8],
    ) -> io::Result<()> {
        if Tree::IN_BACKUP_LOG.contains(&tree) || (tree == Tree::Outbox && is_delete(value)) {
            self.add(&record(keyring, batch, tree, key, Some(value)))?;
        }
        Ok(())
    }

    /// Adds records as they were appended to the one in force.
    pub(super) fn add(&mut self, records: &[u8]) -> io::Result<()> {
        self.bytes += records.len() as u64;
        self.out.write_all(records)
    }

    /// Makes it durable, with the number of the newest transaction.
    pub(super) fn seal(&mut self, keyring: &Keyring, batch: u64) -> io::Result<()> {
        self.add(&record(keyring, batch, Tree::Sessions, &[], None))?;
        self.out.flush()?;
        self.out.get_ref().sync_all()
    }

    /// Puts one that is sealed in force; these are the links whose owed deletes are in it.
    fn put_in_force(self, deletes: HashSet<Vec<u8>>) -> io::Result<BackupLog> {
        let Draft { dir, bytes, .. } = self;
        let path = dir.join(FILE);
        std::fs::rename(dir.join(UNFINISHED), &path)?;
        folder::sync(&dir)?;
        let file = File::options().append(true).open(&path)?;
        Ok(BackupLog { file, bytes, bytes_when_written: bytes, deletes })
    }
}

/// What the bytes of a backup log say; what is no sound record in them is passed over and counted.
fn replay(bytes: &[u8], keyring: &Keyring) -> Replay {
    let mut replay = Replay::default();
    let mut at = 0;
    while at < bytes.len() {
        match record_at(&bytes[at..]) {
            Some(payload) => {
                take(&mut replay, keyring, payload);
                at += HEAD + payload.len();
            }
            None => {
                replay.damaged += 1;
                at += 1 + next_magic(&bytes[at + 1..]);
            }
        }
    }
    replay
}

/// Reads bytes as a backup log behind a sound record, and, where they hold no magic word, before one; and reads them as
/// what is sealed inside a record. Panics when a sound record is lost.
pub(crate) fn withstands(bytes: &[u8]) {
    let keyring = Keyring::new([7; 32], Vec::new());
    let place = (Tree::Links, b"a link".to_vec());
    let sound = record(&keyring, 3, place.0, &place.1, Some(b"its record"));
    let mut streams = vec![[&sound, bytes].concat()];
    if next_magic(bytes) == bytes.len() {
        streams.push([bytes, &sound].concat());
    }
    for stream in streams {
        let replay = replay(&stream, &keyring);
        assert_eq!(replay.live.get(&place).map(Vec::as_slice), Some(b"its record".as_slice()));
        assert!(replay.batch == 3 && replay.damaged + replay.foreign <= bytes.len());
    }
    if let Some((batch, (tree, key), value)) = parse(bytes) {
        let again = replay(&record(&keyring, batch, tree, &key, value.as_deref()), &keyring);
        assert_eq!((again.batch, again.damaged, again.live.len()), (batch, 0, usize::from(value.is_some())));
    }
}

/// Is this value of the outbox a delete?
pub(super) fn is_delete(value: &[u8]) -> bool {
    codec::decode::<Staged>("outbox", value).is_ok_and(|staged| staged.op == ObjectOp::Delete)
}

fn record(keyring: &Keyring, batch: u64, tree: Tree, key: &[u8], value: Option<&[u8]>) -> Vec<u8> {
    let mut plain = batch.to_be_bytes().to_vec();
    plain.push(tree as u8);
    plain.extend_from_slice(&(key.len() as u32).to_be_bytes());
    plain.extend_from_slice(key);
    plain.push(u8::from(value.is_some()));
    plain.extend_from_slice(value.unwrap_or_default());
    let payload = keyring.seal(CONTEXT, &plain);
    let mut record = MAGIC.to_vec();
    record.extend_from_slice(&(payload.len() as u32).to_be_bytes());
    record.extend_from_slice(&crc32fast::hash(&payload).to_be_bytes());
    record.extend_from_slice(&payload);
    record
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes)
}

fn record_at(bytes: &[u8]) -> Option<&[u8]> {
    if !bytes.starts_with(&MAGIC) {
        return None;
    }
    let len = word(bytes, 4)? as usize;
    let payload = bytes.get(HEAD..HEAD + len.min(MAX_PAYLOAD + 1))?;
    let sound = len <= MAX_PAYLOAD && word(bytes, 8)? == crc32fast::hash(payload);
    sound.then_some(payload)
}

fn next_magic(bytes: &[u8]) -> usize {
    bytes.windows(MAGIC.len()).position(|window| window == MAGIC).unwrap_or(bytes.len())
}

fn take(replay: &mut Replay, keyring: &Keyring, payload: &[u8]) {
    let plain = match keyring.open(CONTEXT, payload) {
        Ok(plain) => plain,
        Err(SealError::UnknownKey(_)) => return replay.foreign += 1,
        Err(_) => return replay.damaged += 1,
    };
    match parse(&plain) {
        Some((batch, (tree, key), value)) => {
            let place = (tree, key_of_today(tree, &key));
            replay.batch = replay.batch.max(batch);
            replay.has_events |= place == (Tree::Events, Vec::new());
            match value {
                Some(value) => replay.live.insert(place, value),
                None => replay.live.remove(&place),
            };
        }
        None => replay.damaged += 1,
    }
}

/// Number, place, and the value or its removal.
type Parsed = (u64, Place, Option<Vec<u8>>);

fn parse(plain: &[u8]) -> Option<Parsed> {
    let batch = u64::from_be_bytes(plain.get(..8)?.try_into().ok()?);
    let tree = Tree::of(*plain.get(8)?)?;
    let len = word(plain, 9)? as usize;
    let (key, rest) = plain.get(13..)?.split_at_checked(len)?;
    let (has_value, value) = rest.split_first()?;
    Some((batch, (tree, key.to_vec()), (*has_value == 1).then(|| value.to_vec())))
}

/// The number of the newest transaction, beside the database.
pub(super) struct HighWaterMark {
    file: File,
}

/// The high-water mark's record of the process before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Last {
    /// Its newest transaction; 0 where nothing is said.
    pub batch: u64,
    /// It closed the store in order.
    pub closed: bool,
}

impl HighWaterMark {
    const NUMBER: usize = 12;

    /// Opens it, making it if need be, and reads it.
    pub(super) fn open(dir: &Path) -> io::Result<(HighWaterMark, Last)> {
        let mut options = File::options();
        let file =
            options.create(true).truncate(false).read(true).write(true).mode(0o600).open(dir.join(HIGH_WATER_MARK))?;
        let mut bytes = [0u8; Self::NUMBER + 1];
        let read = file.read_at(&mut bytes, 0)?;
        let number: [u8; 8] = bytes[..8].try_into().unwrap_or_default();
        let checks = read >= Self::NUMBER && word(&bytes, 8) == Some(crc32fast::hash(&number));
        let last = Last { batch: u64::from_be_bytes(number), closed: bytes[Self::NUMBER] == 1 };
        Ok((HighWaterMark { file }, if checks { last } else { Last::default() }))
    }

    /// Notes the number.
    pub(super) fn rise(&self, batch: u64) -> io::Result<()> {
        self.write(batch, false)
    }

    /// Notes that everything up to the number is on the disk itself.
    pub(super) fn close(&self, batch: u64) -> io::Result<()> {
        self.write(batch, true)
    }

    fn write(&self, batch: u64, closed: bool) -> io::Result<()> {
        let number = batch.to_be_bytes();
        let bytes = [number.as_slice(), &crc32fast::hash(&number).to_be_bytes(), &[u8::from(closed)]].concat();
        self.file.write_all_at(&bytes, 0)
    }
}

/// Writes the backup log anew as it was before events were in it.
#[cfg(test)]
pub(super) fn write_as_before_events(dir: &Path, keyring: &Keyring) {
    let replay = BackupLog::read(dir, keyring).expect("it can be read");
    let mut bytes = record(keyring, replay.batch, Tree::Sessions, &[], None);
    for ((tree, key), value) in replay.live.iter().filter(|((tree, _), _)| *tree != Tree::Events) {
        bytes.extend(record(keyring, replay.batch, *tree, key, Some(value)));
    }
    std::fs::write(dir.join(FILE), bytes).expect("it can be written");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn keyring() -> Keyring {
        Keyring::new([7; 32], Vec::new())
    }

    fn append(backup_log: &mut BackupLog, batch: u64, key: &[u8], value: Option<&[u8]>) {
        let write = Write { tree: Tree::Links, key: key.to_vec(), value: value.map(<[u8]>::to_vec) };
        let records = backup_log.choose(&keyring(), batch, &[write]);
        backup_log.append(&records).unwrap();
    }

    fn filled(dir: &Path, count: u8) {
        let none = BTreeMap::new();
        let mut backup_log = BackupLog::create(dir, &keyring(), 1, none.iter()).unwrap();
        for n in 0..count {
            append(&mut backup_log, 2 + u64::from(n), &[n], Some(&[n; 40]));
        }
    }

    #[test]
    fn what_is_appended_is_read_and_what_is_removed_is_not() {
        let dir = tempfile::tempdir().unwrap();
        filled(dir.path(), 3);
        let none: BTreeMap<Place, Vec<u8>> = BTreeMap::new();
        let replay = BackupLog::read(dir.path(), &keyring()).unwrap();
        assert_eq!((replay.live.len(), replay.batch, replay.damaged), (3, 4, 0));
        let mut backup_log = BackupLog::create(dir.path(), &keyring(), 9, replay.live.iter()).unwrap();
        append(&mut backup_log, 10, &[1], None);
        let replay = BackupLog::read(dir.path(), &keyring()).unwrap();
        assert_eq!((replay.live.len(), replay.batch), (2, 10));
        BackupLog::create(dir.path(), &keyring(), 11, none.iter()).unwrap();
        assert_eq!(BackupLog::read(dir.path(), &keyring()).unwrap().batch, 11);
    }

    #[test]
    fn tokens_do_not_stand_in_the_file_and_another_key_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let none = BTreeMap::new();
        let mut backup_log = BackupLog::create(dir.path(), &keyring(), 1, none.iter()).unwrap();
        append(&mut backup_log, 2, b"key-of-a-link", Some(b"EAAB-token"));
        let bytes = std::fs::read(dir.path().join(FILE)).unwrap();
        assert!(!bytes.windows(4).any(|w| w == b"EAAB") && !bytes.windows(6).any(|w| w == b"key-of"));
        let foreign = BackupLog::read(dir.path(), &Keyring::new([8; 32], Vec::new())).unwrap();
        assert!(foreign.foreign > 0 && foreign.live.is_empty());
    }

    #[test]
    fn a_high_water_mark_that_is_torn_says_nothing() {
        let dir = tempfile::tempdir().unwrap();
        HighWaterMark::open(dir.path()).unwrap().0.rise(77).unwrap();
        assert_eq!(HighWaterMark::open(dir.path()).unwrap().1, Last { batch: 77, closed: false });
        HighWaterMark::open(dir.path()).unwrap().0.close(78).unwrap();
        let bytes = std::fs::read(dir.path().join(HIGH_WATER_MARK)).unwrap();
        assert_eq!(HighWaterMark::open(dir.path()).unwrap().1, Last { batch: 78, closed: true });
        // As an earlier version wrote it.
        std::fs::write(dir.path().join(HIGH_WATER_MARK), &bytes[..12]).unwrap();
        assert_eq!(HighWaterMark::open(dir.path()).unwrap().1, Last { batch: 78, closed: false });
        std::fs::write(dir.path().join(HIGH_WATER_MARK), [1, 2, 3]).unwrap();
        assert_eq!(HighWaterMark::open(dir.path()).unwrap().1, Last::default());
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        /// A flipped bit or a torn end costs the record that it hits and no other.
        #[test]
        fn damage_costs_one_record(at: prop::sample::Index, bit in 0u8..8, tear: bool) {
            let dir = tempfile::tempdir().unwrap();
            filled(dir.path(), 8);
            let path = dir.path().join(FILE);
            let mut bytes = std::fs::read(&path).unwrap();
            let at = at.index(bytes.len());
            if tear { bytes.truncate(at) } else { bytes[at] ^= 1 << bit }
            std::fs::write(&path, &bytes).unwrap();
            let replay = BackupLog::read(dir.path(), &keyring()).unwrap();
            for ((_, key), value) in &replay.live {
                prop_assert_eq!(value, &vec![key[0]; 40]);
            }
            prop_assert!(tear || replay.live.len() >= 7, "{} of 8 are left", replay.live.len());
        }
    }
}
