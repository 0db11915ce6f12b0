//! The catalogue of a shop in the store: the parts of its link that are due, the rows of its index, how far the walks
//! over its products have come, and the end of all of them.
//!
//! A catalogue may have a hundred thousand parts. What is known of a part that rests lies on disk alone, and so do the
//! rows: what needs all of them goes through them piece by piece, on a thread for such work.

use serde::de::DeserializeOwned;

use super::api::{StageOutcome, Unavailable};
use super::codec;
use super::engine::Engine;
use super::handle::Fault;
use super::inner::Store;
use super::tree::Tree;
use super::work::ReadClaim;
use crate::core::catalogue::{Piece, Progress, Row};
use crate::core::ledger::Synced;
use crate::core::model::{Cause, Generation, LinkKey, PartKey, WallTime};

/// Between a link and the number of a product in the key of a row.
const SEPARATOR: u8 = 0;

/// The key of the row of a product. Rows lie in the order of the numbers.
pub(super) fn row_key(link: &LinkKey, id: u64) -> Vec<u8> {
    let mut key = link.to_bytes();
    key.push(SEPARATOR);
    key.extend_from_slice(&id.to_be_bytes());
    key
}

/// The number in the key of a row.
fn id_of(key: &[u8]) -> Option<u64> {
    key.last_chunk().copied().map(u64::from_be_bytes)
}

/// The product of a row.
pub(super) fn part_of_row(key: &[u8]) -> Option<PartKey> {
    let (link, id) = key.split_at_checked(key.len().checked_sub(9)?)?;
    let id = id_of(id).filter(|_| id[0] == SEPARATOR)?;
    Some(PartKey::new(LinkKey::from_bytes(link)?, Piece::Product(id).part()))
}

/// What stands in front of the keys of a link's rows and parts.
fn prefix(link: &LinkKey) -> Vec<u8> {
    let mut prefix = link.to_bytes();
    prefix.push(SEPARATOR);
    prefix
}

/// A record; one that is damaged counts as none, since a sweep makes it anew.
fn record<T: DeserializeOwned>(engine: &Engine, tree: Tree, key: &[u8]) -> Result<Option<T>, Fault> {
    Ok(engine.get(tree, key)?.and_then(|value| codec::decode(tree.name(), &value).ok()))
}

/// Parts of a link of which nothing is known but that the source had them no more.
fn gone(engine: &Engine, link: &LinkKey) -> Result<Vec<PartKey>, Fault> {
    let (prefix, mut gone) = (prefix(link), Vec::new());
    for record in engine.records_under(Tree::Synced, &prefix, &prefix) {
        let (key, value) = record?;
        let is_gone = codec::decode(Tree::Synced.name(), &value).is_ok_and(|synced: Synced| synced.digest.is_none());
        gone.extend(PartKey::from_bytes(&key).filter(|part| is_gone && part.link == *link && !part.part.is_whole()));
    }
    Ok(gone)
}

/// Records of a link that is gone. A part takes its row with it, so that a link that comes back has both or neither;
/// rows are listed by themselves when no part is left.
struct Leftovers {
    parts: Vec<PartKey>,
    rows: Vec<Vec<u8>>,
}

fn leftovers(engine: &Engine, link: &LinkKey, most: usize) -> Result<Leftovers, Fault> {
    let prefix = prefix(link);
    let mut left = Leftovers { parts: Vec::new(), rows: Vec::new() };
    for record in engine.records_under(Tree::Synced, &prefix, &prefix) {
        if left.parts.len() == most {
            break;
        }
        let part = PartKey::from_bytes(&record?.0);
        left.parts.extend(part.filter(|part| part.link == *link && !part.part.is_whole()));
    }
    if left.parts.is_empty() {
        for record in engine.records_under(Tree::Products, &prefix, &prefix).take(most) {
            left.rows.push(record?.0);
        }
    }
    Ok(left)
}

impl Store {
    /// What is known of Spaces for a part that is being read, from disk where it lies there alone.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub(super) async fn learn(&self, part: &PartKey, reader: u64) -> Result<(), Unavailable> {
        let is_unread = self.look(|state| state.ledger.get(part).is_some_and(|entry| entry.is_unread())).await?;
        if is_unread {
            let synced = self.synced_on_disk(part).await?;
            self.look(|state| state.ledger.change(part, |entry| entry.learn(reader, synced))).await?;
        }
        Ok(())
    }

    /// What the disk knows of Spaces, when everything that was decided by now is on it.
    pub(super) async fn synced_on_disk(&self, part: &PartKey) -> Result<Synced, Unavailable> {
        self.barrier().await?;
        let key = part.to_bytes();
        let synced = self.off_worker(move |store| store.read(|engine| record(engine, Tree::Synced, &key))).await??;
        Ok(synced.unwrap_or_default())
    }

    /// Parts of a link, its whole left out, with a mark that no read answers for: so many of those of which `is_ready`
    /// says that they are, by the time of the mark; each with what asked for its read. Those for which somebody but the
    /// daemon itself asked come first, and the oldest in front.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn due_parts(
        &self,
        link: &LinkKey,
        most: usize,
        is_ready: impl FnMut(&PartKey, WallTime) -> bool,
    ) -> Result<Vec<(PartKey, Cause)>, Unavailable> {
        self.look(|state| state.ledger.due_parts(link, most, is_ready)).await
    }

    /// Does this part of a link owe nothing?
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn is_complete(&self, part: &PartKey) -> Result<bool, Unavailable> {
        self.look(|state| state.ledger.get(part).is_none_or(|entry| entry.owed_since().is_none())).await
    }

    /// Parts of a link that owe Spaces something.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn outbox_of(&self, link: &LinkKey) -> Result<usize, Unavailable> {
        self.look(|state| state.ledger.of_link(link).filter(|(_, entry)| entry.staged().is_some()).count()).await
    }

    /// Parts of all links that owe Spaces something.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn outbox_len(&self) -> Result<u64, Unavailable> {
        self.look(|state| state.ledger.outbox()).await
    }

    /// A number: the reads that begin from here on have higher ones, and earlier ones lower ones.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn number(&self) -> Result<u64, Unavailable> {
        self.look(|state| state.next_seq()).await
    }

    /// How far the walks over the products of a link have come.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn progress(&self, link: &LinkKey) -> Result<Progress, Unavailable> {
        let key = link.to_bytes();
        let found = self.off_worker(move |store| store.read(|engine| record(engine, Tree::Catalogues, &key))).await??;
        Ok(found.unwrap_or_default())
    }

    /// Notes that durably. Returns whether the link still has a token of this generation.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn note_progress(
        &self,
        link: &LinkKey,
        generation: Generation,
        progress: &Progress,
    ) -> Result<bool, Unavailable> {
        self.commit(|state, txn| state.note_progress(txn, link, generation, progress)).await
    }

    /// The row of a product.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn row(&self, link: &LinkKey, id: u64) -> Result<Option<Row>, Unavailable> {
        let key = row_key(link, id);
        self.off_worker(move |store| store.read(|engine| record(engine, Tree::Products, &key))).await?
    }

    /// Goes through the rows of a link in the order of their numbers, away from the async workers. The work sees every
    /// row whose product was complete by now.
    ///
    /// # Errors
    /// [`Unavailable`], also when a row cannot be read. The work may have seen some rows then.
    pub async fn with_rows<T: Send + 'static>(
        &self,
        link: &LinkKey,
        work: impl FnOnce(&mut dyn Iterator<Item = (u64, Row)>) -> T + Send + 'static,
    ) -> Result<T, Unavailable> {
        self.barrier().await?;
        let prefix = prefix(link);
        let walk = move |engine: &Engine| {
            let mut fault = None;
            let rows = engine.records_under(Tree::Products, &prefix, &prefix).map_while(|record| {
                let (key, value) = record.map_err(|error| fault = Some(error)).ok()?;
                // A damaged row is left out; the next sweep finds its object without a row, and has both made anew.
                Some(id_of(&key).zip(codec::decode(Tree::Products.name(), &value).ok()))
            });
            let done = work(&mut rows.flatten());
            fault.map_or(Ok(done), Err)
        };
        self.off_worker(move |store| store.read(walk)).await?
    }

    /// The read of this claim found that the shop has the product no more: it leaves the index, and what is staged of
    /// it is written no more. Returns `false`, and nothing is changed, when a newer reader took over or the link has no
    /// token of this generation any more.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn drop_row(&self, claim: &ReadClaim, generation: Generation) -> Result<bool, Unavailable> {
        let part = claim.part();
        let (Some(Piece::Product(id)), Some(held)) = (Piece::of(&part.part), claim.held()) else { return Ok(false) };
        self.commit(|state, txn| state.drop_row(txn, part, id, (held, generation))).await
    }

    /// What the disk knows of Spaces for each of these parts; nothing for one that was never written.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn synced_of(&self, parts: Vec<PartKey>) -> Result<Vec<(PartKey, Option<Synced>)>, Unavailable> {
        self.barrier().await?;
        let look = move |engine: &Engine| {
            let known = |part: PartKey| Ok((record(engine, Tree::Synced, &part.to_bytes())?, part));
            parts.into_iter().map(known).map(|found| found.map(|(synced, part)| (part, synced))).collect()
        };
        self.off_worker(move |store| store.read(look)).await?
    }

    /// Spaces may not hold what was last written for these parts: they are read and written again.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn distrust(&self, parts: &[PartKey]) -> Result<(), Unavailable> {
        self.commit(|state, txn| parts.iter().for_each(|part| state.distrust(txn, part))).await
    }

    /// A read found that the source has this part no more: its object is to be deleted.
    ///
    /// # Errors
    /// [`Unavailable`]; the mark then stands.
    pub async fn retire(&self, mut claim: ReadClaim) -> Result<StageOutcome, Unavailable> {
        let part = claim.part().clone();
        self.commit(move |state, txn| match claim.take() {
            Some(held) => state.retire(txn, &part, &held),
            None => StageOutcome::Superseded,
        })
        .await
    }

    /// Forgets which parts the source has no more. Until then what was read of them earlier is known to be old, so no
    /// walk may go on that began before they went.
    ///
    /// # Errors
    /// [`Unavailable`]; the rest is forgotten next time.
    pub async fn forget_gone(&self, link: &LinkKey, generation: Generation) -> Result<(), Unavailable> {
        self.barrier().await?;
        let of_link = link.clone();
        let parts = self.off_worker(move |store| store.read(|engine| gone(engine, &of_link))).await??;
        for part in parts {
            let Some(claim) = self.claim(&part, generation).await? else { return Ok(()) };
            if claim.cause().is_none() {
                self.commit(|state, txn| state.forget_gone(txn, &part)).await?;
            }
        }
        Ok(())
    }

    /// Forgets some parts of a link that is gone, and stages the deletes of their objects, for the cleanup with this
    /// number. Returns whether more may be left.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn forget_parts(&self, link: &LinkKey, seq: u64, most: usize) -> Result<bool, Unavailable> {
        self.barrier().await?;
        let gone = link.clone();
        let look = move |store: &Store| store.read(|engine| leftovers(engine, &gone, most));
        let Leftovers { parts, rows } = self.off_worker(look).await??;
        if parts.is_empty() && rows.is_empty() {
            return Ok(false);
        }
        self.commit(|state, txn| state.forget_parts(txn, link, seq, &parts, rows)).await
    }

    /// Stages the deletes of these objects, which the bucket has of a link that is gone, for the cleanup with this
    /// number. Returns `false`, and nothing is changed, when that does not stand, leaves the objects, or the link is
    /// back.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn forget_found(&self, link: &LinkKey, seq: u64, parts: &[PartKey]) -> Result<bool, Unavailable> {
        self.commit(|state, txn| {
            !state.keeps_objects(link, seq) && state.forget_parts(txn, link, seq, parts, Vec::new())
        })
        .await
    }
}
