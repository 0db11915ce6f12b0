//! Opening a store that may be damaged, stale or gone, and leaving with one that is whole.
//!
//! | what is found | how it is known | what is done |
//! |---|---|---|
//! | nothing is wrong | the numbers agree | the backup log is rewritten from the database |
//! | the disk refuses | an error of the operating system, from sled or from a look at the files | nothing: it is tried again |
//! | the database is gone or empty | no format record, and a backup log with records | it is filled from the backup log |
//! | sled refuses it, or panics | each time in a row, on a disk that reads and writes | it is moved aside, a new one is filled |
//! | it has lost its end | its number is behind the high-water mark or the backup log, the last time as well | the records of the backup log are restored |
//! | it has an earlier format | its format record | it is brought forward ([`migration`]) |
//! | a single record is damaged | its checksum | it is taken from the backup log, else passed over |
//! | the backup log is gone, torn or behind | its number | it is rewritten from the database |
//! | the mark log is damaged or gone | a sound frame behind one that is not; a record in the database | it is moved aside, every link is due |
//!
//! Whenever the database lost anything, every page is marked due: the reads that follow answer for whatever marks and
//! outbox entries are gone. And nothing is known of the fields that Spaces holds, so that the next event of each object
//! names all of them; `fields` is therefore not in the backup log, where every write of an object would add to it.
//! Events that wait are in there. Each of these cases is logged as an error, once.
//!
//! # An I/O error is not damage
//!
//! sled shows an I/O error in many forms: as itself, as corruption, as a bug to report, as a panic, or as a lock that
//! its own half-closed handle still holds. Only the first is certain. So a database that looks damaged is closed, every
//! byte is read, the disk is tested with a write, and the database is opened once more. It is moved aside only when it
//! looks damaged again and the disk passes the same test after that.
//!
//! sled also overwrites records that it could not read, without an error. A database that was not closed in order is
//! therefore copied before it is opened ([`before_image`]). Each of up to three openings begins with the same bytes. A
//! database that has lost its end counts as damaged until the last of them. A passing error would have to hit all three
//! openings and none of the tests between them.
//!
//! One damaged database is kept, the newest: it is the one that the log has just named, an older one was replaced by a
//! database that worked, and each holds data of persons who may have asked to be forgotten since. For that reason the
//! next erasure removes it ([`renewal`](super::renewal)).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::backup_log::{BackupLog, HighWaterMark, Place, Replay, is_delete};
use super::before_image;
use super::catalogue;
use super::codec;
use super::database::Database;
use super::engine::Engine;
use super::folder;
use super::handle::{Fault, guarded};
use super::mark_log::{self, MarkLog};
use super::migration;
use super::open_error::OpenError;
use super::seal::Keyring;
use super::state::erasures;
use super::tree::{Tree, Write};
use crate::core::ledger::{Mark, ObjectOp, Staged, Synced};
use crate::core::model::{Cause, LinkKey, PartKey, WallTime};

/// How often a database must look damaged, one time after the other, before it is taken for damaged.
const TRIES: u32 = 2;
/// The same where each time begins with the same bytes, whatever sled made of them.
const TRIES_WITH_A_COPY: u32 = 3;
/// Writes in one transaction of a rebuild.
const AT_ONCE: usize = 256;
/// The record in `meta` that says that a mark log was begun.
const HAS_MARK_LOG: &[u8] = b"marks";

/// A store that is open and whole.
pub(super) struct Opened {
    pub engine: Engine,
    pub backup_log: BackupLog,
    pub high_water_mark: HighWaterMark,
    /// The number of the newest transaction.
    pub batch: u64,
    /// A description of the damage that was mended.
    pub mended: Option<String>,
    /// What the mark log says.
    pub marks: mark_log::Replay,
}

impl Opened {
    /// Notes that there is a mark log from now on.
    pub(super) fn note_mark_log(&mut self) -> Result<(), Fault> {
        let Some(database) = self.engine.database() else { return Ok(()) };
        if database.get(Tree::Meta, HAS_MARK_LOG)?.is_some() {
            return Ok(());
        }
        let note = Write { tree: Tree::Meta, key: HAS_MARK_LOG.to_vec(), value: Some(codec::encode(&true)) };
        self.batch += 1;
        database.commit(&[note], self.batch)?;
        Ok(self.high_water_mark.rise(self.batch)?)
    }
}

/// Opens the store in `dir`, whose lock is held, and mends it where it is damaged.
///
/// # Errors
/// [`OpenError`] for a disk that refuses, another key, a newer format.
pub(super) fn open(dir: &Path, keyring: &Keyring) -> Result<Opened, OpenError> {
    let io = |source| OpenError::Io { path: dir.to_owned(), source };
    let fault = |fault| OpenError::of(dir, fault);
    folder::write_something(dir).map_err(io)?;
    if before_image::put_back(dir)? {
        tracing::debug!("store: an earlier opening did not end, the database is put back as that one has found it");
    }
    folder::clear(dir).map_err(io)?;
    MarkLog::remove_unfinished(dir).map_err(io)?;
    let replay = BackupLog::read(dir, keyring).map_err(io)?;
    let marks = MarkLog::read(dir).map_err(io)?;
    if replay.live.is_empty() && replay.foreign > 0 {
        return Err(OpenError::WrongKey { path: dir.to_owned() });
    }
    let (high_water_mark, last) = HighWaterMark::open(dir).map_err(io)?;
    if !last.closed {
        folder::write_back(dir)?;
    }
    let known = replay.batch.max(last.batch);
    let (database, aside) = open_or_set_aside(dir, keyring, known, last.closed)?;
    let own = database.batch().map_err(fault)?;
    let mut mended = match &aside {
        Some((detail, path)) => Some(format!("the database was damaged ({detail}) and is kept in {}", path.display())),
        None if own < known => Some(format!("the database had lost its end (transaction {own} of {known})")),
        None => None,
    };
    let mut batch = known.max(own);
    if let Some(text) = &mended {
        let links = guarded(|| restore(&database, &replay, &mut batch)).map_err(fault)?;
        if aside.is_none() {
            // Its log still holds records whose removal was in the end that it lost.
            commit(&database, vec![erasures::note_owed(WallTime::now())], &mut batch).map_err(fault)?;
        }
        let (dir, damaged) = (dir.display(), replay.damaged);
        tracing::error!(
            store = %dir,
            what = %text,
            links,
            damaged_backup_log_records = damaged,
            "store [{dir}]: is restored from the backup log ({text}), with {links} links and {damaged} damaged records \
             left out; every page is read again"
        );
    } else {
        guarded(|| heal_records(&database, &replay, &mut batch)).map_err(fault)?;
    }
    if let Some(detail) = damage_of_marks(&database, &marks).map_err(fault)? {
        guarded(|| all_due(&database, &mut batch)).map_err(fault)?;
        let kept = MarkLog::move_aside(dir, WallTime::now().0).map_err(io)?;
        report_damage(dir, "the mark log is damaged", &detail, kept.as_deref(), "every page is read again");
        let text = format!("the mark log was damaged ({detail})");
        mended = Some(mended.map_or(text.clone(), |before| format!("{before}; {text}")));
    }
    let live = guarded(|| backed_up(&database)).map_err(fault)?;
    let backup_log = BackupLog::create(dir, keyring, batch, live.iter()).map_err(io)?;
    high_water_mark.rise(batch).map_err(io)?;
    folder::tighten(dir).map_err(io)?;
    // The new one is durable by now.
    if let Err(error) = folder::remove_damaged(dir, true) {
        tracing::warn!(
            store = %dir.display(),
            "store: an older damaged database cannot be removed ({error}), next try at the next start"
        );
    }
    Ok(Opened { engine: Engine::Database(database), backup_log, high_water_mark, batch, mended, marks })
}

/// The database, whose newest transaction should have the number `known`; and if a damaged one was moved aside, the
/// damage and its new path.
fn open_or_set_aside(
    dir: &Path,
    keyring: &Keyring,
    known: u64,
    closed: bool,
) -> Result<(Database, Option<(String, PathBuf)>), OpenError> {
    let io = |source| OpenError::Io { path: dir.to_owned(), source };
    let create = || {
        let database = Database::create(dir, keyring)?;
        database.rename_into(dir)?;
        Ok(database)
    };
    let create = || create().map_err(|fault| OpenError::of(dir, fault));
    if !dir.join(folder::DATABASE).exists() {
        return Ok((create()?, None));
    }
    let works = || folder::read_all(&dir.join(folder::DATABASE)).and_then(|()| folder::write_something(dir));
    let mut tries = 0;
    let detail = loop {
        tries += 1;
        let has_copy = !closed && before_image::make(dir).map_err(io)?;
        let most = if has_copy { TRIES_WITH_A_COPY } else { TRIES };
        // Without a copy sled has overwritten the end by now, if there was one.
        let least = if has_copy && tries < most { known } else { 0 };
        let detail = match attempt(dir, keyring, least) {
            Ok(database) => return Ok((database, None)),
            Err(OpenError::Damaged { detail, .. }) => detail,
            Err(error) => {
                // The next opening does it if this fails.
                drop(before_image::put_back(dir));
                return Err(error);
            }
        };
        works().map_err(io)?;
        before_image::put_back(dir)?;
        if tries >= most {
            break detail;
        }
        tracing::warn!(
            store = %dir.display(),
            has_copy,
            "store: the database looks damaged ({detail}), the disk reads and writes, opening it again"
        );
    };
    let path = folder::move_aside(dir, WallTime::now().0).map_err(io)?;
    report_damage(dir, "is damaged", &detail, Some(&path), "rebuilt from the backup log");
    Ok((create()?, Some((detail, path))))
}

/// Opens the database and reads all of it. One whose newest transaction has a lower number than `least` counts as
/// damaged. The copy of one that is whole is removed.
fn attempt(dir: &Path, keyring: &Keyring, least: u64) -> Result<Database, OpenError> {
    let fault = |fault| OpenError::of(dir, fault);
    let database = Database::open(dir, keyring)?.read_through(dir)?;
    let own = database.batch().map_err(fault)?;
    if own < least {
        return Err(fault(Fault::Suspect(format!("it has transaction {own} of {least}"))));
    }
    before_image::remove(dir).map_err(|source| OpenError::Io { path: dir.to_owned(), source })?;
    migration::bring_forward(dir, database).map_err(fault)
}

/// `what` is damaged, as `detail` says. It is kept in a file of this name, unless nothing was left of it.
fn report_damage(dir: &Path, what: &str, detail: &str, kept: Option<&Path>, next: &str) {
    let (store, fate) = (dir.display(), fate(kept));
    let kept = kept.map(|kept| tracing::field::display(kept.display()));
    tracing::error!(%store, %detail, kept, "store [{store}]: {what} ({detail}), {fate} and {next}");
}

fn fate(kept: Option<&Path>) -> String {
    kept.map_or_else(|| "nothing is left to keep".to_owned(), |kept| format!("it is moved aside to {}", kept.display()))
}

/// Does this record say something about the folder, and nothing about the store?
pub(super) fn is_of_folder(tree: Tree, key: &[u8]) -> bool {
    Database::is_format(tree, key) || Database::is_number(tree, key) || (tree == Tree::Meta && key == HAS_MARK_LOG)
}

/// At least one transaction, so that the database's number is above every other afterwards.
fn commit(database: &Database, writes: Vec<Write>, batch: &mut u64) -> Result<(), Fault> {
    let mut writes = writes.into_iter();
    loop {
        *batch += 1;
        let some: Vec<Write> = writes.by_ref().take(AT_ONCE).collect();
        database.commit(&some, *batch)?;
        if writes.len() == 0 {
            return Ok(());
        }
    }
}

/// Restores the trees of the backup log; every link is due.
fn restore(database: &Database, replay: &Replay, batch: &mut u64) -> Result<usize, Fault> {
    let mut writes = Vec::new();
    for tree in Tree::IN_BACKUP_LOG.into_iter().filter(|tree| *tree != Tree::Events || replay.has_events) {
        for record in database.records(tree) {
            let (key, _) = record.map_err(Fault::from)?;
            if !replay.live.contains_key(&(tree, key.to_vec())) {
                writes.push(Write { tree, key: key.to_vec(), value: None });
            }
        }
    }
    let is_linked = |key: &[u8]| {
        PartKey::from_bytes(key).is_some_and(|part| replay.live.contains_key(&(Tree::Links, part.link.to_bytes())))
    };
    for record in database.records(Tree::Outbox) {
        let (key, value) = record.map_err(Fault::from)?;
        // A put for a link that is gone would bring its object back.
        if !is_linked(&key) && !is_delete(&value) {
            writes.push(Write { tree: Tree::Outbox, key: key.to_vec(), value: Some(codec::encode(&owed_delete())) });
        }
    }
    for record in database.records(Tree::Fields) {
        let (key, _) = record.map_err(Fault::from)?;
        writes.push(Write { tree: Tree::Fields, key: key.to_vec(), value: None });
    }
    // The parts of links are read again by a sweep, and each is written then, whatever was known of it.
    writes.extend(walks_begin_anew(database)?);
    for record in database.records(Tree::Synced) {
        let (key, _) = record.map_err(Fault::from)?;
        if PartKey::from_bytes(&key).is_some_and(|part| !part.part.is_whole()) {
            writes.push(Write {
                tree: Tree::Synced,
                key: key.to_vec(),
                value: Some(codec::encode(&Synced::default())),
            });
        }
    }
    for ((tree, key), value) in &replay.live {
        writes.push(Write { tree: *tree, key: key.clone(), value: Some(value.clone()) });
    }
    let links: Vec<LinkKey> = replay
        .live
        .keys()
        .filter(|(tree, _)| *tree == Tree::Links)
        .filter_map(|(_, key)| LinkKey::from_bytes(key))
        .collect();
    writes.extend(links.iter().map(|link| due(&link.whole())));
    commit(database, writes, batch)?;
    Ok(links.len())
}

/// Is the mark log damaged, or gone? Then nobody knows which marks are.
fn damage_of_marks(database: &Database, marks: &mark_log::Replay) -> Result<Option<String>, Fault> {
    let is_gone = !marks.exists && database.get(Tree::Meta, HAS_MARK_LOG)?.is_some();
    Ok(if is_gone { Some(format!("{} is not there", mark_log::FILE)) } else { marks.damage.clone() })
}

/// Nothing is known of the walks over the products of shops, so that each is swept.
fn walks_begin_anew(database: &Database) -> Result<Vec<Write>, Fault> {
    let removed = |record: sled::Result<(sled::IVec, sled::IVec)>| {
        let (key, _) = record.map_err(Fault::from)?;
        Ok(Write { tree: Tree::Catalogues, key: key.to_vec(), value: None })
    };
    database.records(Tree::Catalogues).map(removed).collect()
}

/// Every link is due.
fn all_due(database: &Database, batch: &mut u64) -> Result<(), Fault> {
    let mut writes = walks_begin_anew(database)?;
    for record in database.records(Tree::Links) {
        let (key, _) = record.map_err(Fault::from)?;
        writes.extend(LinkKey::from_bytes(&key).map(|link| due(&link.whole())));
    }
    commit(database, writes, batch)
}

/// Numbers only tell entries of one link apart, and what stood before is gone.
fn due(part: &PartKey) -> Write {
    let mark = Mark { seq: u64::from(u32::MAX), cause: Cause::Poll, since: WallTime::now() };
    Write { tree: Tree::Marks, key: part.to_bytes(), value: Some(codec::encode(&mark)) }
}

fn owed_delete() -> Staged {
    let now = WallTime::now();
    Staged { seq: u64::from(u32::MAX), op: ObjectOp::Delete, since: now, marked_at: now, body_len: 0, person: None }
}

/// A damaged record is taken from the backup log, or removed; a part that it touches is due.
fn heal_records(database: &Database, replay: &Replay, batch: &mut u64) -> Result<(), Fault> {
    let mut writes = Vec::new();
    const MORE: [Tree; 6] = [Tree::Marks, Tree::Outbox, Tree::Synced, Tree::Fields, Tree::Products, Tree::Catalogues];
    for tree in MORE.into_iter().chain(Tree::IN_BACKUP_LOG) {
        for record in database.records(tree) {
            let (key, value) = record.map_err(Fault::from)?;
            if !matches!(codec::unwrap(tree.name(), &value), Err(codec::Damaged::Bytes(_))) {
                continue;
            }
            let kept = replay.live.get(&(tree, key.to_vec())).cloned();
            let (name, from_backup_log) = (tree.name(), kept.is_some());
            let mended = if from_backup_log { "taken from the backup log" } else { "removed, the backup log has none" };
            tracing::error!(tree = name, from_backup_log, "store [{name}]: a record was damaged and is {mended}");
            writes.push(Write { tree, key: key.to_vec(), value: kept });
            let part = match tree {
                Tree::Links => LinkKey::from_bytes(&key).map(|link| link.whole()),
                Tree::Marks | Tree::Outbox | Tree::Synced => PartKey::from_bytes(&key),
                Tree::Products => catalogue::part_of_row(&key),
                _ => None,
            };
            if let Some(part) = part.as_ref().filter(|_| tree == Tree::Products) {
                // A row comes with a write, so that the product is written whatever its read brings.
                let value = Some(codec::encode(&Synced::default()));
                writes.push(Write { tree: Tree::Synced, key: part.to_bytes(), value });
            }
            writes.extend(part.as_ref().map(due));
        }
    }
    if writes.is_empty() { Ok(()) } else { commit(database, writes, batch) }
}

/// The records of the database that belong into the backup log.
fn backed_up(database: &Database) -> Result<BTreeMap<Place, Vec<u8>>, Fault> {
    let mut live = BTreeMap::new();
    for tree in Tree::IN_BACKUP_LOG.into_iter().chain([Tree::Outbox]) {
        for record in database.records(tree) {
            let (key, value) = record.map_err(Fault::from)?;
            if tree != Tree::Outbox || is_delete(&value) {
                live.insert((tree, key.to_vec()), value.to_vec());
            }
        }
    }
    Ok(live)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_gone_is_not_said_to_be_kept() {
        assert_eq!(
            fate(Some(Path::new("/store/marks.log.damaged-1"))),
            "it is moved aside to /store/marks.log.damaged-1"
        );
        assert_eq!(fate(None), "nothing is left to keep");
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(MarkLog::move_aside(dir.path(), 1).unwrap(), None);
    }
}
