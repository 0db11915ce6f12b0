//! Decisions about the catalogue of a shop: a product that was written has a row in the index, one that is gone loses
//! it, and parts that rest go with their link.

use std::collections::BTreeSet;

use super::State;
use super::ledger::write_changes;
use crate::core::catalogue::{Piece, Progress};
use crate::core::cleanup::Cleanup;
use crate::core::event::EventKind;
use crate::core::ledger::{Claim, Entry, ObjectOp};
use crate::core::model::{Cause, Generation, LinkKey, PartKey};
use crate::store::api::{Left, OutboxItem, StageOutcome};
use crate::store::catalogue::row_key;
use crate::store::feed::Change;
use crate::store::records::CleanupRecord;
use crate::store::tree::{Pieces, Tree};
use crate::store::txn::Txn;

/// What is known of an item that Spaces has carried out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Done {
    /// The object is another one than before.
    pub changed: bool,
    /// Nothing was staged after it, and it was not withdrawn.
    pub is_newest: bool,
}

impl State {
    /// Spaces has carried out this item of a part that is not a whole.
    pub(super) fn note_piece(&mut self, txn: &mut Txn, part: &PartKey, item: &OutboxItem, left: &Left, done: Done) {
        let Some(piece) = Piece::of(&part.part).filter(|_| self.links.contains(&part.link)) else { return };
        let is_put = matches!(item.staged.op, ObjectOp::Put(_));
        if let (Piece::Product(id), true, Some(row)) = (piece, is_put, &left.row) {
            if done.is_newest {
                txn.put(Tree::Products, row_key(&part.link, id), row);
                self.mark_index(txn, &part.link);
            } else {
                // Its row is that of a later write, or of none where the product is gone. A read that finds the same
                // product again is written, so that it has a row.
                let changes = self.ledger.change(part, Entry::distrust).unwrap_or_default();
                write_changes(txn, part, changes, Pieces::default());
            }
        }
        if let Some(field) = piece.field().filter(|_| done.changed) {
            let changed = BTreeSet::from([field.to_owned()]);
            self.events.emit(txn, EventKind::Updated { link: part.link.clone(), changed });
        }
    }

    /// Forgets that the source had this part no more, unless something else is known of it by now.
    /// A mark of it that still lies in a file of marks stands again after the next opening, and costs one read.
    pub(in crate::store) fn forget_gone(&self, txn: &mut Txn, part: &PartKey) {
        if self.ledger.get(part).is_some_and(Entry::is_gone) {
            txn.remove(Tree::Synced, part.to_bytes());
        }
    }

    /// The index is to be written.
    fn mark_index(&mut self, txn: &mut Txn, link: &LinkKey) {
        self.ledger.mark_with_writes(txn, &PartKey::new(link.clone(), Piece::Index.part()), Cause::Poll);
        txn.publish(Change::Due(link.clone(), Cause::Poll));
    }

    /// The read of this claim, with a token of this generation, found that the shop has the product no more: it leaves
    /// the index, and nothing that was staged of it comes back there.
    pub(in crate::store) fn drop_row(
        &mut self,
        txn: &mut Txn,
        part: &PartKey,
        id: u64,
        (claim, generation): (&Claim, Generation),
    ) -> bool {
        if self.links.generation(&part.link) != Some(generation) {
            return false;
        }
        let Some(changes) = self.ledger.change(part, |entry| entry.withdraw(claim)).flatten() else { return false };
        write_changes(txn, part, changes, Pieces::default());
        txn.remove(Tree::Products, row_key(&part.link, id));
        self.mark_index(txn, &part.link);
        true
    }

    /// A part of a link that goes takes its row with it. The link may come back before the cleanup of the other rows,
    /// and its index must not name a product whose object was deleted.
    pub(super) fn forget_row(txn: &mut Txn, part: &PartKey) {
        if let Some(Piece::Product(id)) = Piece::of(&part.part) {
            txn.remove(Tree::Products, row_key(&part.link, id));
        }
    }

    /// A read found that the source has this part no more: its object is to be deleted.
    pub(in crate::store) fn retire(&mut self, txn: &mut Txn, part: &PartKey, claim: &Claim) -> StageOutcome {
        let (now, seq) = (txn.now(), txn.next_seq());
        let Some(changes) = self.ledger.change(part, |entry| entry.retire(claim, now, seq)).flatten() else {
            return StageOutcome::Superseded;
        };
        write_changes(txn, part, changes, Pieces::default());
        txn.publish(Change::Outbox(part.clone()));
        StageOutcome::Staged
    }

    /// Spaces may not hold what was last written for this part of a link: it is read and written again.
    pub(in crate::store) fn distrust(&mut self, txn: &mut Txn, part: &PartKey) {
        if !self.links.contains(&part.link) {
            return;
        }
        self.ledger.create(part);
        let changes = self.ledger.change(part, |entry| entry.distrust()).unwrap_or_default();
        write_changes(txn, part, changes, Pieces::default());
        self.ledger.mark_with_writes(txn, part, Cause::Poll);
        txn.publish(Change::Due(part.link.clone(), Cause::Poll));
    }

    /// Notes how far the walks have come. Returns whether the link still has a token of this generation.
    pub(in crate::store) fn note_progress(
        &mut self,
        txn: &mut Txn,
        link: &LinkKey,
        generation: Generation,
        progress: &Progress,
    ) -> bool {
        let stands = self.links.generation(link) == Some(generation);
        if stands {
            txn.put(Tree::Catalogues, link.to_bytes(), progress);
        }
        stands
    }

    /// A link goes, whose parts may rest on disk: they are left to a cleanup.
    pub(super) fn note_parts_left(&mut self, txn: &mut Txn, link: &LinkKey, keep_objects: bool) {
        if link.shop().is_none() {
            return;
        }
        txn.remove(Tree::Catalogues, link.to_bytes());
        let (seq, now) = (txn.next_seq(), txn.now());
        let record = CleanupRecord { seq, asked_at: now, not_before: now, keep_objects, ..CleanupRecord::default() };
        self.cleanups.put(txn, Cleanup::ForgetParts(link.clone()), record);
    }

    /// Does the cleanup with this number leave the objects where they are?
    pub(in crate::store) fn keeps_objects(&self, link: &LinkKey, seq: u64) -> bool {
        let record = self.cleanups.get(&Cleanup::ForgetParts(link.clone())).filter(|record| record.seq == seq);
        record.is_some_and(|record| record.keep_objects)
    }

    /// These parts of a link that is gone, and the rows of these keys, are forgotten for the cleanup with this number;
    /// the objects are deleted or left. Returns whether the cleanup still stands, and the link is still gone.
    pub(in crate::store) fn forget_parts(
        &mut self,
        txn: &mut Txn,
        link: &LinkKey,
        seq: u64,
        parts: &[PartKey],
        rows: Vec<Vec<u8>>,
    ) -> bool {
        let record = self.cleanups.get(&Cleanup::ForgetParts(link.clone())).filter(|record| record.seq == seq);
        let Some(keep_objects) = record.map(|record| record.keep_objects).filter(|_| !self.links.contains(link)) else {
            return false;
        };
        rows.into_iter().for_each(|row| txn.remove(Tree::Products, row));
        for part in parts {
            self.ledger.create(part);
            let (now, seq) = (txn.now(), txn.next_seq());
            let changes = self.ledger.change(part, |entry| entry.forget(!keep_objects, None, now, seq));
            write_changes(txn, part, changes.unwrap_or_default(), Pieces::default());
            Self::forget_row(txn, part);
            self.forget_if_complete(txn, part);
            if !keep_objects {
                txn.publish(Change::Outbox(part.clone()));
            }
        }
        true
    }
}
