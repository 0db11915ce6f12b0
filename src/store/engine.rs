//! Where the trees lie: in a database on disk, in one that several daemons share, or in ordered maps in memory for tests.

use bytes::Bytes;

use super::check;
use super::codec::{self, Damaged};
use super::database::Database;
use super::handle::{Fault, guarded};
use super::maps::Maps;
use super::seal::KeyId;
use super::shared::simulated;
use super::shared::trees::Trees;
use super::tree::{Record, Tree, body_keys};
use crate::core::ledger::Staged;
use crate::core::model::PartKey;

/// The trees.
pub(super) enum Engine {
    /// On disk.
    Database(Database),
    /// In memory: lost with the process.
    Maps(Box<Maps>),
    /// In a database that several daemons share.
    Shared(Trees),
    /// In one that is simulated in memory.
    Simulated(simulated::Trees),
}

impl Engine {
    /// The database, where it is one.
    pub(super) fn database(&self) -> Option<&Database> {
        match self {
            Engine::Database(database) => Some(database),
            Engine::Maps(_) | Engine::Shared(_) | Engine::Simulated(_) => None,
        }
    }

    /// One value.
    pub(super) fn get(&self, tree: Tree, key: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        match self {
            Engine::Database(database) => Ok(database.get(tree, key)?.map(|value| value.to_vec())),
            Engine::Maps(maps) => Ok(maps.get(tree, key)),
            Engine::Shared(trees) => trees.get(tree, key),
            Engine::Simulated(trees) => trees.get(tree, key),
        }
    }

    /// Every record of a tree. sled may panic over one: read them behind [`guarded`].
    pub(super) fn records(&self, tree: Tree) -> Box<dyn Iterator<Item = Result<Record, Fault>> + '_> {
        match self {
            Engine::Database(database) => {
                let records = database.records(tree);
                Box::new(records.map(|r| r.map(|(key, value)| (key.to_vec(), value.to_vec())).map_err(Fault::from)))
            }
            Engine::Maps(maps) => Box::new(maps.records(tree).map(Ok)),
            Engine::Shared(trees) => Box::new(trees.records_from(tree, &[])),
            Engine::Simulated(trees) => Box::new(trees.records_from(tree, &[])),
        }
    }

    /// The records of a tree whose keys begin with `prefix`, from `from` on. sled may panic over one: read them behind
    /// [`guarded`].
    pub(super) fn records_under<'a>(
        &'a self,
        tree: Tree,
        prefix: &'a [u8],
        from: &[u8],
    ) -> Box<dyn Iterator<Item = Result<Record, Fault>> + 'a> {
        let records: Box<dyn Iterator<Item = Result<Record, Fault>> + 'a> = match self {
            Engine::Database(database) => {
                let records = database.records_from(tree, from);
                Box::new(records.map(|r| r.map(|(key, value)| (key.to_vec(), value.to_vec())).map_err(Fault::from)))
            }
            Engine::Maps(maps) => Box::new(maps.records_from(tree, from).map(Ok)),
            Engine::Shared(trees) => Box::new(trees.records_from(tree, from)),
            Engine::Simulated(trees) => Box::new(trees.records_from(tree, from)),
        };
        Box::new(records.take_while(|record| record.as_ref().map_or(true, |(key, _)| key.starts_with(prefix))))
    }

    /// The key that sealed the record by which a wrong key is found.
    pub(super) fn check_key(&self) -> Result<KeyId, Fault> {
        check::key(&self.get(Tree::Meta, check::KEY)?.unwrap_or_default()).map_err(Fault::Suspect)
    }

    /// The body of a staged object of this part, put together and checked for its length.
    pub(super) fn body(&self, part: &PartKey, staged: &Staged) -> Result<Result<Bytes, Damaged>, Fault> {
        let damaged = Damaged::Bytes("bodies");
        let mut body = Vec::with_capacity(staged.body_len as usize);
        for key in body_keys(part, staged) {
            let Some(chunk) = guarded(|| self.get(Tree::Bodies, &key))? else { return Ok(Err(damaged)) };
            match codec::unwrap("bodies", &chunk) {
                Ok(piece) => body.extend_from_slice(piece),
                Err(damage) => return Ok(Err(damage)),
            }
        }
        Ok(if body.len() == staged.body_len as usize { Ok(body.into()) } else { Err(damaged) })
    }

    /// Bytes on disk.
    pub(super) fn size_on_disk(&self) -> u64 {
        match self {
            Engine::Database(database) => database.size_on_disk(),
            Engine::Maps(_) | Engine::Simulated(_) => 0,
            Engine::Shared(trees) => trees.size_on_disk().unwrap_or(0),
        }
    }
}
