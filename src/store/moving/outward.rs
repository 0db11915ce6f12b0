//! From a folder into a database. Records are written in the order of their keys, so that a move that was interrupted goes
//! on behind the last one that is there, unless the folder's store was used in between.

use std::path::Path;

use super::database::Database;
use super::errors::MoveError;
use super::progress::{Moved, Progress, Sizes, Watch, ask};
use crate::random;
use crate::store::clock::Clock;
use crate::store::codec;
use crate::store::database::Database as Sled;
use crate::store::engine::Engine;
use crate::store::folder;
use crate::store::handle::{Fault, guarded};
use crate::store::move_note::{Note, Stage};
use crate::store::open_error::OpenError;
use crate::store::rebuild;
use crate::store::seal::Keyring;
use crate::store::shared::errors::ConnectError;
use crate::store::shared::settings::Settings;
use crate::store::tree::{Tree, Write};
use crate::store::whole::{self, Whole};

/// Records in one transaction at most, and their bytes.
const AT_ONCE: usize = 1000;
const BYTES_AT_ONCE: usize = 2 << 20;

/// Moves the store in `dir`, which no daemon has open, into the database. What is left in the folder is a backup. Blocks.
///
/// # Errors
/// [`MoveError`] names what is in the way and the way out. Run again, it goes on where it broke off.
pub fn move_out(dir: &Path, settings: &Settings, keyring: &Keyring, watch: Watch<'_>) -> Result<Moved, MoveError> {
    if !dir.join(folder::DATABASE).exists() && !dir.join(folder::REPLACED).exists() {
        return Err(MoveError::NoStore { path: dir.to_owned() });
    }
    folder::prepare(dir)?;
    let _lock = folder::lock(dir)?;
    let io = |source| MoveError::Folder(OpenError::Io { path: dir.to_owned(), source });
    let ours = Note::read(dir).map_err(io)?;
    let stage = ours.as_ref().map_or(Stage::Here, |note| note.stage);
    if stage == Stage::Coming {
        return Err(OpenError::HalfMoved { path: dir.to_owned() }.into());
    }
    let to = Database::connect(settings)?;
    to.prepare()?;
    let store = ours.as_ref().map_or_else(|| random::uuid().to_string(), |note| note.store.clone());
    let note = |stage, other: String, batch| Note { store: store.clone(), stage, other, batch };
    if let Some(Note { stage: Stage::Left, other, .. }) = ours {
        match to.note()? {
            Some(theirs) if theirs.store == store && theirs.stage == Stage::Here => {
                return Ok(Moved { records: to.sizes()?.all(), already: true });
            }
            Some(theirs) if theirs.store == store && theirs.stage == Stage::Coming => {}
            _ => return Err(OpenError::Moved { path: dir.to_owned(), to: other }.into()),
        }
    }
    let source = Source::open(dir, keyring)?;
    if stage != Stage::Left {
        // From here on the move is known by its name.
        note(Stage::Here, to.place(), None).leave(dir).map_err(io)?;
    }
    ask(watch, Progress::Step)?;
    let coming = note(Stage::Coming, dir.display().to_string(), Some(source.batch));
    to.locked(|_| begin(&to, keyring, &coming))?;
    source.copy(&to, watch)?;
    ask(watch, Progress::Step)?;
    note(Stage::Left, to.place(), None).leave(dir).map_err(io)?;
    ask(watch, Progress::Step)?;
    let here = Note { stage: Stage::Here, ..coming };
    finish(&to, &source, &here)?;
    let records = source.sizes.all();
    source.close();
    Ok(Moved { records, already: false })
}

/// May the store come here? Leaves the note that it does. What is here of an earlier state of it goes.
fn begin(to: &Database, keyring: &Keyring, coming: &Note) -> Result<(), MoveError> {
    to.check_key(keyring)?;
    let begins_anew = match to.note()? {
        // An interrupted move, or what was left when the store went from here to the folder.
        Some(theirs) if theirs.store == coming.store && theirs.stage == Stage::Coming => theirs.batch != coming.batch,
        Some(theirs) if theirs.store == coming.store && theirs.stage == Stage::Left => true,
        Some(_) => return Err(MoveError::DatabaseTaken { place: to.place() }),
        // A daemon that worked here without a link has left leases.
        None if to.sizes()?.0.iter().skip(1).all(|count| *count == 0) => true,
        None => return Err(MoveError::DatabaseTaken { place: to.place() }),
    };
    if begins_anew {
        to.clear()?;
    }
    to.close(coming)
}

/// All is there: daemons may use it.
fn finish(to: &Database, source: &Source, here: &Note) -> Result<(), MoveError> {
    let sizes = to.locked(|_| {
        if to.note()?.is_none_or(|theirs| theirs.store != here.store) {
            return Err(ConnectError::HalfMoved { place: to.place() }.into());
        }
        let sizes = to.sizes()?;
        if sizes == source.sizes {
            to.rise(source.number)?;
            to.write(&[here.record()])?;
        } else {
            let anew = Note { stage: Stage::Coming, batch: None, ..here.clone() };
            to.write(&[anew.record()])?;
        }
        Ok(sizes)
    })?;
    if sizes == source.sizes {
        return Ok(());
    }
    Err(MoveError::Incomplete { found: sizes.all(), expected: source.sizes.all() })
}

/// The store of a folder, open, with the marks that stand in its database.
struct Source {
    opened: rebuild::Opened,
    /// The number of its newest transaction.
    batch: u64,
    /// The highest number handed out.
    number: u64,
    sizes: Sizes,
}

impl Source {
    fn open(dir: &Path, keyring: &Keyring) -> Result<Source, MoveError> {
        let Whole { mut opened, state, mark_log, standing } = whole::open(dir, keyring, &Clock::Process)?;
        let mut writes = standing.iter().map(|(part, mark)| Write {
            tree: Tree::Marks,
            key: part.to_bytes(),
            value: Some(codec::encode(mark)),
        });
        loop {
            let some: Vec<Write> = writes.by_ref().take(AT_ONCE).collect();
            if some.is_empty() {
                break;
            }
            opened.batch += 1;
            sled(&opened)?.commit(&some, opened.batch)?;
            opened.high_water_mark.rise(opened.batch).map_err(Fault::from)?;
        }
        // Without a last frame that says so it is whole all the same.
        let _ = mark_log.close();
        let mut source = Source { batch: opened.batch, number: state.newest_seq(), opened, sizes: Sizes::default() };
        for tree in Tree::ALL {
            source.sizes.0[tree as usize] =
                guarded(|| source.records(tree, None)?.try_fold(0, |n, one| one.map(|_| n + 1)))?;
        }
        Ok(source)
    }

    /// The records of a tree that move, behind this key.
    fn records(
        &self,
        tree: Tree,
        behind: Option<&[u8]>,
    ) -> Result<impl Iterator<Item = Result<Write, Fault>> + use<>, Fault> {
        let records = sled(&self.opened)?.records_after(tree, behind);
        let write = move |(key, value): (sled::IVec, sled::IVec)| Write {
            tree,
            key: key.to_vec(),
            value: Some(value.to_vec()),
        };
        let records = records.map(move |record| record.map(write).map_err(Fault::from));
        Ok(records.filter(move |record| record.as_ref().map_or(true, |write| !rebuild::is_of_folder(tree, &write.key))))
    }

    /// Writes what is not there yet.
    fn copy(&self, to: &Database, watch: Watch<'_>) -> Result<(), MoveError> {
        let (there, of) = (to.sizes()?, self.sizes.all());
        let mut done = there.all();
        for tree in Tree::ALL {
            // The few of `meta` may be there already, written by a daemon that did not find a store.
            let behind = if tree == Tree::Meta { None } else { to.last(tree)? };
            let mut records = self.records(tree, behind.as_deref())?;
            loop {
                let page = guarded(|| page(&mut records))?;
                if page.is_empty() {
                    break;
                }
                ask(watch, Progress::Records { done: done.min(of), of })?;
                to.write(&page)?;
                done += page.len() as u64;
            }
        }
        ask(watch, Progress::Records { done: of, of })
    }

    /// Closes it in order. What is not closed so is opened all the same.
    fn close(self) {
        let rebuild::Opened { engine, high_water_mark, batch, .. } = self.opened;
        if let Engine::Database(database) = engine
            && database.close()
            && let Err(error) = high_water_mark.close(batch)
        {
            tracing::debug!(%error, "store: moved, without a mark that it was closed ({error})");
        }
    }
}

/// The folder's database.
fn sled(opened: &rebuild::Opened) -> Result<&Sled, Fault> {
    opened.engine.database().ok_or_else(|| Fault::Suspect("the folder has no database".into()))
}

/// The next records, as many as go into one transaction.
fn page(records: &mut impl Iterator<Item = Result<Write, Fault>>) -> Result<Vec<Write>, Fault> {
    let (mut page, mut bytes) = (Vec::new(), 0);
    while page.len() < AT_ONCE && bytes < BYTES_AT_ONCE {
        let Some(write) = records.next().transpose()? else { break };
        bytes += write.key.len() + write.value.as_ref().map_or(0, Vec::len);
        page.push(write);
    }
    Ok(page)
}
