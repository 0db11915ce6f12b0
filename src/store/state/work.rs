//! Decisions about the work of a part of a link: marked, staged for Spaces, completed.

use super::State;
use super::catalogue::Done;
use super::ledger::write_changes;
use crate::core::event::EventKind;
use crate::core::fields::{self, Fields};
use crate::core::ledger::{Claim, Entry, Found, Marked, ObjectOp, Stage};
use crate::core::model::{AppUserId, Cause, LinkKey, PartKey};
use crate::store::api::{Left, OutboxItem, StageOutcome};
use crate::store::feed::Change;
use crate::store::tree::{Pieces, Tree};
use crate::store::txn::Txn;

impl State {
    /// Marks a part, for somebody who waits until the mark is durable and whose read is not known to come by other
    /// ways.
    ///
    /// Nothing is published where a mark stands that no read has claimed: that was published when the mark became
    /// durable. An urgent cause is, because it makes the read come sooner.
    pub(in crate::store) fn mark_due(&mut self, txn: &mut Txn, part: &PartKey, cause: Cause) {
        if !self.links.contains(&part.link) {
            // Its unlink may be on its way to disk, and a power cut would bring the link back without this mark.
            return txn.wait_for_queue();
        }
        let hastens = self.ledger.get(part).is_some_and(|entry| entry.hastens(cause));
        let marked = self.ledger.mark(txn, part, cause);
        if marked == Marked::Pending {
            txn.wait_for_marks();
        }
        if matches!(marked, Marked::New(_)) || cause.is_urgent() || hastens {
            txn.publish(Change::Due(part.link.clone(), cause));
        }
        if cause == Cause::Manual {
            self.recheck(txn, &part.link);
        }
    }

    /// Do these links, which are all of a page, have marks that absorb an event of this moment?
    pub(in crate::store) fn absorbs(&self, links: &[LinkKey]) -> bool {
        let mut entries = links.iter().map(|link| self.ledger.get(&link.whole()));
        !links.is_empty() && entries.all(|entry| entry.is_some_and(Entry::absorbs))
    }

    /// An operator wants to know the state of the page: after the read, the check finds out the rest.
    fn recheck(&self, txn: &mut Txn, link: &LinkKey) {
        if let Some(generation) = self.links.generation(link) {
            txn.publish(Change::Recheck(link.clone(), generation));
        }
    }

    /// These persons' permissions changed: a check is owed to each of their links, unless a person must act on it
    /// first. Returns the links.
    pub(in crate::store) fn hint(&mut self, txn: &mut Txn, persons: &[AppUserId]) -> Vec<LinkKey> {
        let links = persons.iter().flat_map(|person| self.links.of_person(person)).collect();
        self.hint_links(txn, links)
    }

    /// The same for these links.
    pub(in crate::store) fn hint_links(&mut self, txn: &mut Txn, mut links: Vec<LinkKey>) -> Vec<LinkKey> {
        links.retain(|link| self.links.get(link).is_some_and(|record| record.health.is_active()));
        for link in &links {
            // Another daemon may have begun the check of a link that it reads, which nothing here shows.
            if self.links.hint(link) || self.ledger.is_elsewhere(link) {
                let number = txn.next_seq();
                self.update_link(txn, link, |record| record.hint = Some(number));
                txn.publish(Change::TokenCheck(link.clone()));
            } else {
                // Somebody else's write, which may be on its way still.
                txn.wait_for_queue();
            }
        }
        links
    }

    /// A read ended with data.
    pub(in crate::store) fn stage(
        &mut self,
        txn: &mut Txn,
        part: &PartKey,
        claim: &Claim,
        found: &Found,
        body: Pieces,
        force: bool,
    ) -> StageOutcome {
        let (now, seq) = (txn.now(), txn.next_seq());
        match self.ledger.change(part, |entry| entry.stage(claim, found, force, now, seq)) {
            Some(Stage::Unchanged(changes)) => {
                write_changes(txn, part, changes, Pieces::default());
                self.ledger.rest(part);
                txn.publish(Change::Completed(part.link.clone()));
                StageOutcome::Unchanged
            }
            Some(Stage::Staged(_, changes)) => {
                write_changes(txn, part, changes, body);
                txn.publish(Change::Outbox(part.clone()));
                StageOutcome::Staged
            }
            Some(Stage::Superseded) | None => StageOutcome::Superseded,
        }
    }

    /// Spaces has carried out this item, and this is left to note. Returns whether a newer one waits.
    pub(in crate::store) fn complete(
        &mut self,
        txn: &mut Txn,
        part: &PartKey,
        item: &OutboxItem,
        etag: Option<String>,
        left: &Left,
    ) -> bool {
        if self.ledger.is_elsewhere(&part.link) {
            // Its writer now carries it out again.
            return false;
        }
        let (done, now) = (&item.staged, txn.now());
        let entry = self.ledger.get(part);
        let before = entry.and_then(|entry| entry.synced().digest).map(ObjectOp::Put);
        let is_newest = entry.and_then(Entry::staged).is_some_and(|staged| staged.seq == done.seq);
        let Some(changes) = self.ledger.change(part, |entry| entry.complete(done.seq, done.op, etag, now)) else {
            return false;
        };
        write_changes(txn, part, changes, Pieces::default());
        if !part.part.is_whole() {
            self.note_piece(txn, part, item, left, Done { changed: before != Some(done.op), is_newest });
        } else if let Some(fields) = left.fields.as_ref().filter(|_| matches!(done.op, ObjectOp::Put(_))) {
            self.note_fields(txn, part, item, fields);
        }
        self.note_left(txn, part, &done.person, left);
        self.forget_if_complete(txn, part);
        self.ledger.rest(part);
        txn.publish(Change::Completed(part.link.clone()));
        self.ledger.get(part).is_some_and(|entry| entry.staged().is_some())
    }

    /// Spaces has the object of this item: notes its fields, and tells the platform of those that changed. A link that
    /// is gone has none; one that has another token than when the write began may have been gone in between.
    fn note_fields(&mut self, txn: &mut Txn, part: &PartKey, item: &OutboxItem, now: &Fields) {
        let Some(generation) = self.links.generation(&part.link) else { return };
        let before = item.before.as_ref().filter(|before| before.generation == generation);
        let before = before.and_then(|before| before.fields.as_ref());
        let changed = fields::changed(before, now);
        if before != Some(now) {
            txn.put(Tree::Fields, part.to_bytes(), now);
        }
        if !changed.is_empty() {
            self.events.emit(txn, EventKind::Updated { link: part.link.clone(), changed });
        }
    }

    /// A staged body cannot be read back: the entry goes and the page is read anew.
    pub(in crate::store) fn drop_staged(&mut self, txn: &mut Txn, part: &PartKey, seq: u64) {
        let (now, mark) = (txn.now(), txn.next_seq());
        if let Some(changes) = self.ledger.change(part, |entry| entry.discard(seq, now, mark)) {
            write_changes(txn, part, changes, Pieces::default());
        }
        let due = self.ledger.get(part).and_then(|entry| entry.due()).filter(|due| due.seq == mark);
        if let Some(cause) = due.map(|due| due.cause) {
            txn.publish(Change::Due(part.link.clone(), cause));
        }
        self.forget_if_complete(txn, part);
    }

    /// The ledger entry of a link that is gone goes when nothing is owed to it.
    pub(in crate::store) fn forget_if_complete(&mut self, txn: &mut Txn, part: &PartKey) {
        if !self.links.contains(&part.link) && self.ledger.forget_if_complete(part) {
            txn.remove(Tree::Synced, part.to_bytes());
        }
    }
}
