//! From a database into a folder. The folder's database is filled under another name from one snapshot, and gets its own
//! name when it is whole; a move that was interrupted before that fills it anew.

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio_postgres::types::Type;

use super::database::{Database, Head};
use super::errors::MoveError;
use super::progress::{Moved, Progress, Watch, ask};
use crate::core::lease::{Lease, QUIET_MARGIN, WRITE_BOUND};
use crate::random;
use crate::store::backup_log::BackupLog;
use crate::store::before_image;
use crate::store::codec;
use crate::store::database::Database as Sled;
use crate::store::folder;
use crate::store::handle::Fault;
use crate::store::mark_log::{self, MarkLog};
use crate::store::move_note::{KEY, Note, Stage};
use crate::store::open_error::{FORMAT, OpenError};
use crate::store::seal::Keyring;
use crate::store::shared::errors::ConnectError;
use crate::store::shared::settings::Settings;
use crate::store::shared::trees;
use crate::store::state::cluster;
use crate::store::tree::Tree;

/// Records between two looks at whether to go on.
const AT_ONCE: u64 = 1000;

const SNAPSHOT: &str = "begin isolation level repeatable read read only; set local statement_timeout = '300s'; \
                        set local idle_in_transaction_session_timeout = '300s'";
const HEAD: &str = "select head from meta";
/// Until when the last writes of these members, and of those that nobody has declared dead, can take effect.
const QUIET: &str = "select coalesce(max(extract(epoch from until - clock_timestamp()) * 1000), -1000000)::bigint, \
                     (extract(epoch from clock_timestamp()) * 1000)::bigint from daemons where alive or id = any($1)";

/// Moves the store in the database, which no daemon uses, into `dir`. What is left in the database is a backup. Blocks.
///
/// # Errors
/// [`MoveError`] names what is in the way and the way out. Run again, it goes on where it broke off.
pub fn move_in(dir: &Path, settings: &Settings, keyring: &Keyring, watch: Watch<'_>) -> Result<Moved, MoveError> {
    let from = Database::connect(settings)?;
    if !from.has_tables()? {
        return Err(MoveError::NothingThere { place: from.place() });
    }
    from.prepare()?;
    folder::prepare(dir)?;
    let _lock = folder::lock(dir)?;
    let io = |source| MoveError::Folder(OpenError::Io { path: dir.to_owned(), source });
    let ours = Note::read(dir).map_err(io)?;
    let (theirs, head) = from.locked(|head| Ok((begin(&from, keyring)?, head)))?;
    let is_the_same = ours.as_ref().is_some_and(|ours| ours.store == theirs.store);
    let stage = ours.as_ref().map(|note| note.stage);
    let note = |stage| Note { store: theirs.store.clone(), stage, other: from.place(), batch: None };
    let is_whole = is_the_same && dir.join(folder::DATABASE).exists();
    if theirs.stage == Stage::Left {
        match stage {
            Some(Stage::Here) if is_whole => return Ok(Moved { records: moving(&from)?, already: true }),
            Some(Stage::Coming) if is_whole => {}
            _ => return Err(ConnectError::Moved { place: from.place(), to: theirs.other }.into()),
        }
    } else {
        if has_store(dir) && !(is_the_same && stage != Some(Stage::Here)) {
            return Err(MoveError::FolderTaken { path: dir.to_owned() });
        }
        ask(watch, Progress::Step)?;
        note(Stage::Coming).leave(dir).map_err(io)?;
        ask(watch, Progress::Step)?;
        clear(dir).map_err(io)?;
        fill(dir, &from, head, watch)?;
        ask(watch, Progress::Step)?;
        let left = Note { stage: Stage::Left, other: dir.display().to_string(), ..theirs.clone() };
        from.locked(|now| leave(&from, head, now, &left))?;
        ask(watch, Progress::Step)?;
    }
    let quiet = quiet(&from)?;
    if !quiet.is_zero() {
        ask(watch, Progress::Quiet { seconds: quiet.as_secs() + 1 })?;
        std::thread::sleep(quiet);
    }
    note(Stage::Here).leave(dir).map_err(io)?;
    Ok(Moved { records: moving(&from)?, already: false })
}

/// May the store leave the database? Gives it a name, if it has none.
fn begin(from: &Database, keyring: &Keyring) -> Result<Note, MoveError> {
    if from.check_key(keyring)?.is_none() {
        return Err(MoveError::NothingThere { place: from.place() });
    }
    match from.note()? {
        Some(Note { stage: Stage::Coming, .. }) => Err(ConnectError::HalfMoved { place: from.place() }.into()),
        Some(note) => Ok(note),
        None => {
            let store = random::uuid().to_string();
            let note = Note { store, stage: Stage::Here, other: String::new(), batch: None };
            from.write(&[note.record()])?;
            Ok(note)
        }
    }
}

/// The store is in the folder: no daemon uses the database any more. Refused when one has used it since `copied`.
fn leave(from: &Database, copied: Head, now: Head, left: &Note) -> Result<(), MoveError> {
    if now.version != copied.version {
        return Err(MoveError::Overtaken { place: from.place() });
    }
    from.close(left)
}

/// Does a folder hold a store, or a part of one?
fn has_store(dir: &Path) -> bool {
    let folders = [folder::DATABASE, folder::REPLACED, before_image::BEFORE].map(|name| dir.join(name));
    let files = [BackupLog::path(dir), dir.join(mark_log::FILE)];
    folders.iter().chain(&files).any(|part| part.exists())
}

/// Removes an earlier state of the store.
fn clear(dir: &Path) -> io::Result<()> {
    // A database without its backup log is still whole; a backup log without its database would be restored from.
    BackupLog::remove(dir)?;
    MarkLog::remove(dir)?;
    let copies = [before_image::BEFORE, before_image::UNFINISHED];
    for name in copies.into_iter().chain([folder::DATABASE, folder::REPLACED, folder::UNFINISHED]) {
        folder::remove_folder(&dir.join(name))?;
    }
    Ok(())
}

/// Fills the folder from a snapshot that has this head.
fn fill(dir: &Path, from: &Database, head: Head, watch: Watch<'_>) -> Result<(), MoveError> {
    let fresh = Sled::create_bare(dir)?;
    from.execute(SNAPSHOT)?;
    let copied = copy(from, head, &fresh, watch);
    from.execute("rollback")?;
    copied?;
    fresh.commit(&[Sled::format_record(FORMAT)], 1)?;
    ask(watch, Progress::Step)?;
    fresh.rename_into(dir)?;
    fresh.close();
    Ok(folder::tighten(dir).map_err(Fault::from)?)
}

fn copy(from: &Database, head: Head, fresh: &Sled, watch: Watch<'_>) -> Result<(), MoveError> {
    let rows = from.ask(HEAD, &[])?;
    if trees::number_in(rows.first(), 0) != Ok(head.version) {
        return Err(MoveError::Overtaken { place: from.place() });
    }
    let (engine, of, mut done) = (from.engine(), moving(from)?, 0);
    for tree in Tree::ALL {
        for record in engine.records(tree) {
            let (key, value) = record?;
            if stays(tree, &key) {
                continue;
            }
            if done % AT_ONCE == 0 {
                ask(watch, Progress::Records { done, of })?;
            }
            fresh.put(tree, &key, &value)?;
            done += 1;
        }
    }
    ask(watch, Progress::Records { done, of })
}

/// Does this record concern the database alone?
fn stays(tree: Tree, key: &[u8]) -> bool {
    tree == Tree::Meta && (key == KEY || key.starts_with(cluster::PREFIX))
}

/// How many records move.
fn moving(from: &Database) -> Result<u64, MoveError> {
    let engine = from.engine();
    let meta = engine
        .records(Tree::Meta)
        .try_fold(0, |count, record| record.map(|(key, _)| count + u64::from(!stays(Tree::Meta, &key))))?;
    Ok(meta + from.sizes()?.0.iter().skip(1).sum::<u64>())
}

/// How long the last writes of daemons that died can still take effect. Those that stopped in order have none.
fn quiet(from: &Database) -> Result<Duration, MoveError> {
    let (engine, mut owners, mut latest) = (from.engine(), Vec::new(), 0);
    for record in engine.records_under(Tree::Meta, cluster::PREFIX, cluster::PREFIX) {
        // One that is damaged is free, and was written long ago.
        let lease: Lease = codec::decode(Tree::Meta.name(), &record?.1).unwrap_or_default();
        owners.extend(lease.owner.map(|owner| owner as i64));
        latest = latest.max(lease.quiet_until.map_or(0, |until| until.0));
    }
    let rows = from.ask(QUIET, &[(&owners, Type::INT8_ARRAY)])?;
    let row = rows.first().ok_or_else(|| MoveError::NothingThere { place: from.place() })?;
    let (left, now) = (from.value::<i64>(row, 0)?, from.value::<i64>(row, 1)?);
    let bound = (WRITE_BOUND + QUIET_MARGIN).as_millis() as i64;
    let left = (left + bound).max(latest as i64 - now);
    Ok(Duration::from_millis(u64::try_from(left).unwrap_or(0)))
}
