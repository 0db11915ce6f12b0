//! Reads the store's memory from its trees and from the marks of the mark log. Records that are damaged are counted,
//! logged and passed over.

use std::collections::HashMap;

use serde::de::DeserializeOwned;

use super::codec;
use super::engine::Engine;
use super::handle::{Fault, guarded};
use super::mark_log::LoggedMark;
use super::records::account_of;
use super::state::erasures;
use super::state::{Records, State};
use super::tree::{Record, Tree};
use crate::core::catalogue::Progress;
use crate::core::cleanup::Cleanup;
use crate::core::ledger::{Mark, Synced};
use crate::core::model::{LinkKey, PartKey, ShopName, WallTime};

/// Reads everything. Returns the marks of the mark log that stand beside it.
///
/// # Errors
/// [`Fault`] when the disk refuses or the database looks damaged.
pub(super) fn load(
    engine: &Engine,
    marks: HashMap<PartKey, Mark>,
    now: WallTime,
) -> Result<(State, Vec<LoggedMark>), Fault> {
    let mut records = guarded(|| read(engine, &marks, now))?;
    let standing = records.add_logged(marks);
    Ok((State::restored(records, engine.check_key()?), standing))
}

fn read(engine: &Engine, marks: &HashMap<PartKey, Mark>, now: WallTime) -> Result<Records, Fault> {
    let mut records = Records::default();
    let damaged = &mut records.damaged;
    records.links = tree(engine, Tree::Links, LinkKey::from_bytes, damaged)?.into_iter().collect();
    records.marks = tree(engine, Tree::Marks, PartKey::from_bytes, damaged)?.into_iter().collect();
    records.outbox = tree(engine, Tree::Outbox, PartKey::from_bytes, damaged)?.into_iter().collect();
    for record in engine.records(Tree::Synced) {
        read_synced(&mut records, &record?, marks);
    }
    for record in engine.records(Tree::Catalogues) {
        // One that is damaged counts as none when it is asked for.
        let progress: Progress = codec::decode(Tree::Catalogues.name(), &record?.1).unwrap_or_default();
        let number = progress.bulk.map_or(0, |bulk| bulk.number);
        records.highest_answered = records.highest_answered.max(number);
    }
    let damaged = &mut records.damaged;
    records.states = tree(engine, Tree::States, |key| key.try_into().ok(), damaged)?;
    records.deletions = tree(engine, Tree::Deletions, |key| String::from_utf8(key.to_vec()).ok(), damaged)?;
    records.events = tree(engine, Tree::Events, number_of, damaged)?.into_iter().collect();
    records.cleanups = tree(engine, Tree::Cleanups, Cleanup::from_bytes, damaged)?.into_iter().collect();
    let shop_of = |key: &[u8]| std::str::from_utf8(key).ok()?.parse::<ShopName>().ok();
    records.shops = tree(engine, Tree::Shops, shop_of, damaged)?;
    records.accounts = tree(engine, Tree::Accounts, account_of, damaged)?;
    records.erasure_owed = erasures::owed_since(engine.get(Tree::Meta, erasures::key())?.as_deref(), now);
    Ok(records)
}

/// The number in the key of an event.
fn number_of(key: &[u8]) -> Option<u64> {
    key.try_into().ok().map(u64::from_be_bytes)
}

/// Takes over what is known of Spaces for one part, unless the part rests.
fn read_synced(records: &mut Records, (key, value): &Record, marks: &HashMap<PartKey, Mark>) {
    match (PartKey::from_bytes(key), codec::decode::<Synced>(Tree::Synced.name(), value)) {
        (Some(part), Ok(synced)) => {
            records.highest_answered = records.highest_answered.max(synced.answered);
            let is_wanted = part.part.is_whole()
                || marks.contains_key(&part)
                || records.marks.contains_key(&part)
                || records.outbox.contains_key(&part);
            if is_wanted {
                records.synced.insert(part, synced);
            }
        }
        (key, value) => passed_over(Tree::Synced, key.is_some(), value.err(), &mut records.damaged),
    }
}

/// Counts and logs a damaged record.
fn passed_over(tree: Tree, known_key: bool, damage: Option<codec::Damaged>, damaged: &mut u64) {
    *damaged += 1;
    let (name, detail) = (tree.name(), damage.map_or("its key is damaged".to_owned(), |damage| damage.to_string()));
    tracing::error!(
        tree = name,
        known_key,
        %detail,
        "store [{name}]: a record is passed over ({detail}); if a link is missing, link it again"
    );
}

fn tree<K, V: DeserializeOwned>(
    engine: &Engine,
    tree: Tree,
    key_of: impl Fn(&[u8]) -> Option<K>,
    damaged: &mut u64,
) -> Result<Vec<(K, V)>, Fault> {
    let mut found = Vec::new();
    for record in engine.records(tree) {
        let (key, value) = record?;
        match (key_of(&key), codec::decode(tree.name(), &value)) {
            (Some(key), Ok(value)) => found.push((key, value)),
            (key, value) => passed_over(tree, key.is_some(), value.err(), damaged),
        }
    }
    Ok(found)
}
