//! Reads the store's memory from disk. Records that are damaged are counted, logged and passed over.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::de::DeserializeOwned;

use super::accounts::{AccountKey, Accounts};
use super::engine::{Engine, Tree};
use super::handle::Fault;
use super::records::{AccountRecord, CleanupRecord, DeletionRecord, LinkRecord, account_of};
use super::{codec, events};
use crate::core::cleanup::Cleanup;
use crate::core::event::Event;
use crate::core::ledger::{Entry, Mark, Staged, Synced};
use crate::core::model::{LinkKey, PartKey, WallTime};

/// The records on disk, decoded.
#[derive(Default)]
pub(super) struct Loaded {
    pub(super) links: BTreeMap<LinkKey, LinkRecord>,
    pub(super) marks: HashMap<PartKey, Mark>,
    pub(super) outbox: HashMap<PartKey, Staged>,
    pub(super) synced: HashMap<PartKey, Synced>,
    pub(super) accounts: Accounts,
    pub(super) states: HashMap<[u8; 16], WallTime>,
    pub(super) deletions: BTreeMap<String, DeletionRecord>,
    pub(super) events: BTreeMap<u64, Event>,
    pub(super) cleanups: BTreeMap<Cleanup, CleanupRecord>,
    pub(super) damaged: u64,
}

impl Loaded {
    /// Reads every tree.
    pub(super) fn read(engine: &Engine) -> Result<Self, Fault> {
        let mut loaded = Loaded::default();
        loaded.links = loaded.tree(engine, Tree::Links, LinkKey::from_bytes)?.into_iter().collect();
        loaded.marks = loaded.tree(engine, Tree::Marks, PartKey::from_bytes)?.into_iter().collect();
        loaded.outbox = loaded.tree(engine, Tree::Outbox, PartKey::from_bytes)?.into_iter().collect();
        loaded.synced = loaded.tree(engine, Tree::Synced, PartKey::from_bytes)?.into_iter().collect();
        loaded.states = loaded.tree(engine, Tree::States, |key| key.try_into().ok())?.into_iter().collect();
        loaded.deletions =
            loaded.tree(engine, Tree::Deletions, |key| String::from_utf8(key.to_vec()).ok())?.into_iter().collect();
        loaded.events = loaded.tree(engine, Tree::Events, events::number_of)?.into_iter().collect();
        loaded.cleanups = loaded.tree(engine, Tree::Cleanups, Cleanup::from_bytes)?.into_iter().collect();
        let accounts: Vec<(AccountKey, AccountRecord)> = loaded.tree(engine, Tree::Accounts, account_of)?;
        loaded.accounts = accounts.into_iter().collect();
        Ok(loaded)
    }

    fn tree<K, V: DeserializeOwned>(
        &mut self,
        engine: &Engine,
        tree: Tree,
        key_of: impl Fn(&[u8]) -> Option<K>,
    ) -> Result<Vec<(K, V)>, Fault> {
        let mut found = Vec::new();
        for record in engine.records(tree) {
            let (key, value) = record.map_err(Fault::from)?;
            match (key_of(&key), codec::decode(tree.name(), &value)) {
                (Some(key), Ok(value)) => found.push((key, value)),
                (key, value) => {
                    self.damaged += 1;
                    let detail = value.err().map_or("its key is damaged".to_owned(), |d| d.to_string());
                    let known = key.is_some();
                    let name = tree.name();
                    tracing::error!(
                        tree = name,
                        known_key = known,
                        %detail,
                        "store [{name}]: a record is passed over ({detail}); if a link is missing, link it again"
                    );
                }
            }
        }
        Ok(found)
    }

    /// The highest number in any record.
    pub(super) fn highest_seq(&self) -> u64 {
        let marks = self.marks.values().map(|m| m.seq);
        let outbox = self.outbox.values().map(|s| s.seq);
        let cleanups = self.cleanups.values().map(|c| c.seq);
        let links = self.links.values().flat_map(|r| [r.generation.0, r.login, r.hint.unwrap_or(0)]);
        let logins = self.accounts.values().map(|account| account.login);
        marks
            .chain(outbox)
            .chain(cleanups)
            .chain(links)
            .chain(logins)
            .chain(self.events.keys().copied())
            .max()
            .unwrap_or(0)
    }

    /// One entry for each link, one for each of its parts, and one for each object of a link that is gone that still
    /// owes Spaces a delete.
    pub(super) fn ledger(&mut self) -> BTreeMap<PartKey, Entry> {
        let parts = self.marks.keys().chain(self.synced.keys()).filter(|part| self.links.contains_key(&part.link));
        let wholes = self.links.keys().map(LinkKey::whole);
        let keys: BTreeSet<PartKey> = wholes.chain(parts.chain(self.outbox.keys()).cloned()).collect();
        keys.into_iter()
            .map(|key| {
                let mark = self.marks.remove(&key);
                let staged = self.outbox.remove(&key);
                let synced = self.synced.remove(&key).unwrap_or_default();
                (key, Entry::restored(mark, staged, synced))
            })
            .collect()
    }
}
