//! Opening a store that may be damaged, stale or gone, and leaving with one that is whole.
//!
//! | what is found | how it is known | what is done |
//! |---|---|---|
//! | all is well | the numbers agree | the journal is rewritten from the database |
//! | the database is gone or empty | no format record, and a journal with records | it is filled from the journal |
//! | sled refuses it, or panics | at opening, or while everything is read | it is moved aside, a new one is filled |
//! | it has lost its end | its number is behind the tide or the journal | what the journal holds is put right |
//! | a single record is damaged | its checksum | it is taken from the journal, else passed over |
//! | the journal is gone, torn or behind | its number | it is rewritten from the database |
//!
//! Whenever the database lost anything, every page is marked due: the reads that follow answer for whatever marks and
//! outbox entries are gone. And nothing is known of the fields that Spaces holds, so that the next write of each object
//! tells of all of them, whatever was told before. Each of these cases is said loudly, once.

use std::collections::BTreeMap;
use std::path::Path;

use super::codec;
use super::engine::{Engine, OpenError, Tree, Write};
use super::journal::{Journal, Place, Replay, Tide, is_delete};
use super::seal::Keyring;
use crate::ledger::{Deed, Mark, Staged};
use crate::model::{Cause, LinkKey, Millis};

/// Writes in one transaction of a rebuild.
const AT_ONCE: usize = 256;
/// What the journal answers for as a whole; of the outbox it holds only the deletes.
const JOURNALED: [Tree; 5] = [Tree::Links, Tree::Accounts, Tree::Sessions, Tree::Deletions, Tree::Chores];

/// A store that is open and whole.
pub(super) struct Opened {
    pub engine: Engine,
    pub journal: Journal,
    pub tide: Tide,
    /// The number of the newest transaction.
    pub batch: u64,
    /// What had to be mended, in words; `None` when all was well.
    pub mended: Option<String>,
}

/// Opens the store in `dir`, mending what can be mended.
///
/// # Errors
/// [`OpenError`] for what a person must decide: locked, another key, a newer format, a disk that refuses.
pub(super) fn open(dir: &Path, keyring: &Keyring) -> Result<Opened, OpenError> {
    let io = |source| OpenError::Io { path: dir.to_owned(), source };
    Engine::make_dir(dir)?;
    let replay = Journal::read(dir, keyring).map_err(io)?;
    if replay.live.is_empty() && replay.foreign > 0 {
        return Err(OpenError::WrongKey { path: dir.to_owned() });
    }
    let (tide, high) = Tide::open(dir).map_err(io)?;
    let mut moved = None;
    let engine = match Engine::open(dir, keyring).and_then(Engine::read_through) {
        Err(OpenError::Damaged { detail, .. }) => {
            let aside = Engine::move_aside(dir).map_err(io)?;
            tracing::error!(store = %dir.display(), %detail, kept = %aside.display(), "the store is damaged; it is moved aside and rebuilt from the journal");
            moved = Some(format!("the database was damaged ({detail}) and is kept in {}", aside.display()));
            Engine::open(dir, keyring)?
        }
        opened => opened?,
    };
    let known = replay.batch.max(high);
    let own = engine.batch();
    let mended = match moved {
        Some(text) => Some(text),
        None if own < known => Some(format!("the database had lost its end (transaction {own} of {known})")),
        None => None,
    };
    let mut batch = known.max(own);
    if let Some(text) = &mended {
        let links = restore(&engine, &replay, &mut batch).map_err(|detail| engine.damaged(detail))?;
        tracing::error!(store = %dir.display(), what = %text, links, damaged_journal_records = replay.damaged, "the store is restored; every page is read again");
    } else {
        heal_records(&engine, &replay, &mut batch).map_err(|detail| engine.damaged(detail))?;
    }
    let live = journaled(&engine).map_err(|detail| engine.damaged(detail))?;
    let journal = Journal::create(dir, keyring, batch, live.iter()).map_err(io)?;
    Ok(Opened { engine, journal, tide, batch, mended })
}

/// At least one transaction, so that the database's number is above every other afterwards.
fn commit(engine: &Engine, writes: Vec<Write>, batch: &mut u64) -> Result<(), String> {
    let mut writes = writes.into_iter();
    loop {
        *batch += 1;
        engine.commit(writes.by_ref().take(AT_ONCE).collect(), *batch)?;
        if writes.len() == 0 {
            return Ok(());
        }
    }
}

/// Everything that the journal answers for becomes what the journal says; every link is due.
fn restore(engine: &Engine, replay: &Replay, batch: &mut u64) -> Result<usize, String> {
    let mut writes = Vec::new();
    for tree in JOURNALED {
        for record in engine.records(tree) {
            let (key, _) = record.map_err(|e| e.to_string())?;
            if !replay.live.contains_key(&(tree, key.to_vec())) {
                writes.push(Write { tree, key: key.to_vec(), value: None });
            }
        }
    }
    let is_linked = |key: &[u8]| replay.live.contains_key(&(Tree::Links, key.to_vec()));
    for record in engine.records(Tree::Outbox) {
        let (key, value) = record.map_err(|e| e.to_string())?;
        // A put for a link that is gone would bring its object back.
        if !is_linked(&key) && !is_delete(&value) {
            writes.push(Write { tree: Tree::Outbox, key: key.to_vec(), value: Some(codec::encode(&owed_delete())) });
        }
    }
    for record in engine.records(Tree::Fields) {
        let (key, _) = record.map_err(|e| e.to_string())?;
        writes.push(Write { tree: Tree::Fields, key: key.to_vec(), value: None });
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
    writes.extend(links.iter().map(due));
    commit(engine, writes, batch)?;
    Ok(links.len())
}

/// Numbers only tell entries of one link apart, and what stood before is gone.
fn due(link: &LinkKey) -> Write {
    let mark = Mark { seq: u64::from(u32::MAX), cause: Cause::Poll, since: Millis::now() };
    Write { tree: Tree::Marks, key: link.to_bytes(), value: Some(codec::encode(&mark)) }
}

fn owed_delete() -> Staged {
    let now = Millis::now();
    Staged { seq: u64::from(u32::MAX), deed: Deed::Delete, since: now, marked_at: now, body_len: 0, person: None }
}

/// A damaged record is taken from the journal, or removed; a link that it touches is due.
fn heal_records(engine: &Engine, replay: &Replay, batch: &mut u64) -> Result<(), String> {
    let mut writes = Vec::new();
    const MORE: [Tree; 5] = [Tree::Marks, Tree::Outbox, Tree::Synced, Tree::Notices, Tree::Fields];
    for tree in MORE.into_iter().chain(JOURNALED) {
        for record in engine.records(tree) {
            let (key, value) = record.map_err(|e| e.to_string())?;
            if !matches!(codec::unwrap(tree.name(), &value), Err(codec::Damaged::Bytes(_))) {
                continue;
            }
            let kept = replay.live.get(&(tree, key.to_vec())).cloned();
            tracing::error!(tree = tree.name(), from_journal = kept.is_some(), "a record was damaged; it is mended");
            writes.push(Write { tree, key: key.to_vec(), value: kept });
            let of_link = matches!(tree, Tree::Links | Tree::Marks | Tree::Outbox | Tree::Synced);
            writes.extend(LinkKey::from_bytes(&key).filter(|_| of_link).map(|link| due(&link)));
        }
    }
    if writes.is_empty() { Ok(()) } else { commit(engine, writes, batch) }
}

/// What the database holds that belongs into the journal.
fn journaled(engine: &Engine) -> Result<BTreeMap<Place, Vec<u8>>, String> {
    let mut live = BTreeMap::new();
    for tree in JOURNALED.into_iter().chain([Tree::Outbox]) {
        for record in engine.records(tree) {
            let (key, value) = record.map_err(|e| e.to_string())?;
            if tree != Tree::Outbox || is_delete(&value) {
                live.insert((tree, key.to_vec()), value.to_vec());
            }
        }
    }
    Ok(live)
}
