//! What is owed to one link, and when it stops being owed. Pure: no clock, no disk, no network.
//!
//! ```text
//! mark ──▶ claim ──▶ (Graph is read) ──▶ stage ──▶ (Spaces is written) ──▶ complete
//! ```
//!
//! * **mark**: "this page may have changed after the last staged read". Answered to Meta only when it is durable.
//! * **claim**: a read begins, and remembers the mark it will answer for.
//! * **stage**: the read's bytes go to the outbox and the mark goes, in one transaction.
//! * **complete**: Spaces has the bytes; the outbox entry goes and the digest is noted.
//!
//! [`Entry`] is the state of one link. Each function changes the state in memory and returns the [`Change`]s that
//! make it durable; the store puts them to disk as one transaction, in the order in which they were decided. A mark
//! that is made alone may come to lie on disk earlier or later than the changes around it; its number decides then
//! ([`Synced::answered`]). Dying anywhere loses the state in memory and keeps a prefix of the transactions and a prefix
//! of the marks, so every step must leave a state from which the work is done again rather than lost.
//!
//! # The races, and why each is harmless
//!
//! *A webhook during a read.* The read may have missed the change. A claimed mark therefore never absorbs a new
//! event: [`Entry::mark`] makes a new one with a new number, and [`Entry::stage`] clears a mark only if its number is
//! the one that was claimed. The page is read once more.
//!
//! *A webhook before a read.* The mark is durable and no read has claimed it, so the read that will come starts after
//! this event: nothing needs writing and the answer is immediate. This is what makes a burst cheap.
//!
//! *A webhook whose mark is still on its way to disk.* It may be answered only when that write is done
//! ([`Marked::Pending`]): the caller waits behind it.
//!
//! *Two readers of one link* (an actor died and its successor reads while the old read still hangs). Each claim has a
//! number of its own and the newest wins; what an older one brings is refused ([`Stage::Superseded`]), so old
//! data can never be staged over new. The same fence stops a read that outlived a store that was reopened, where the
//! claim is unknown and the mark it would clear may stand for a later event.
//!
//! *A write overtaken by a newer stage.* [`Entry::complete`] clears the outbox entry only if it is the one that was
//! written; the newer one stays owed. The digest noted is that of the bytes that went out.
//!
//! *Unchanged data.* A read is compared with what Spaces *will* hold: the outbox entry if there is one, what was
//! settled otherwise. Comparing with the settled digest alone would skip A in the sequence A, B (in flight), A.
//!
//! *Dying between the write to Spaces and the settle.* The entry is written again: same bytes, same key.

use serde::{Deserialize, Serialize};

use crate::core::model::{AppUserId, Cause, WallTime};

/// SHA-256 of the canonical page data.
pub type Digest = [u8; 32];

/// A durable note that a link is owed a read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Distinguishes it from every other mark of this link.
    pub seq: u64,
    /// What asked for the read.
    pub cause: Cause,
    /// When it was made.
    pub since: WallTime,
}

impl Mark {
    /// A mark lies in a file of its own: does it stand beside what the database holds of the part? It does if no read
    /// has answered for it, and no newer mark is there.
    pub fn stands_beside(&self, in_database: Option<&Mark>, synced: &Synced) -> bool {
        self.seq > synced.answered && in_database.is_none_or(|mark| mark.seq < self.seq)
    }
}

/// What is to be done to the link's object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ObjectOp {
    /// Write the staged body, whose page data has this digest.
    Put(Digest),
    /// Delete the object.
    Delete,
}

/// An outbox entry, without its body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Staged {
    /// Distinguishes it from every other entry of this link.
    pub seq: u64,
    /// Put or delete.
    #[serde(rename = "deed")]
    pub op: ObjectOp,
    /// When it was staged.
    pub since: WallTime,
    /// When the oldest mark it answers was made; equals `since` where no mark was.
    pub marked_at: WallTime,
    /// Bytes of the staged body; 0 for a delete. The store cuts the body by it.
    pub body_len: u32,
    /// Whose link it was, of a delete, where known: while it is owed, so is the deletion that this person asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub person: Option<AppUserId>,
}

/// What Spaces holds, as far as is known, and when the page was read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Synced {
    /// The page data in Spaces; `None` when nothing was written yet.
    pub digest: Option<Digest>,
    /// The ETag that Spaces answered, without quotes.
    pub etag: Option<String>,
    /// When the object last changed.
    pub changed_at: Option<WallTime>,
    /// When the page was last read with success.
    pub read_at: Option<WallTime>,
    /// The number of the newest read that was staged; 0 before the first. It has answered for every mark with a number up to
    /// it, and each read with a higher one began later, whatever the clock said. A mark that lies on disk
    /// in another file than this record is of no concern any more if its number is not above this one.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub answered: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// One durable step; the store turns each into writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Write the mark.
    PutMark(Mark),
    /// Remove the mark.
    ClearMark,
    /// Write the outbox entry (and its body).
    PutStaged(Staged),
    /// Remove this outbox entry and its body; comes before the entry that replaces it.
    ClearStaged(Staged),
    /// Write what is known of Spaces.
    PutSynced(Synced),
    /// Forget what is known of Spaces.
    ClearSynced,
}

/// The answer to [`Entry::mark`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Marked {
    /// Durable already: nothing to do.
    Standing,
    /// Made by somebody else a moment ago and not yet durable: wait behind that write.
    Pending,
    /// Made now: durable once this change is.
    New(Change),
}

/// A reader's right to stage: the fence, and the mark it answers for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Unique in this process.
    pub id: u64,
    /// The mark that stood when the read began.
    pub mark: Option<Mark>,
}

/// What a read brought: the page data's digest, and how long the object made of it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// Digest of the canonical page data.
    pub digest: Digest,
    /// Bytes of the object's body.
    pub body_len: u32,
}

/// The answer to [`Entry::stage`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    /// Spaces has, or is about to get, the same data.
    Unchanged(Vec<Change>),
    /// The body is to be written under this number.
    Staged(u64, Vec<Change>),
    /// A newer reader took over, or the link is gone; nothing was changed.
    Superseded,
}

/// A mark in memory: on disk or on its way, claimed by a read or not.
#[derive(Debug, Clone, PartialEq, Eq)]
struct LiveMark {
    mark: Mark,
    durable: bool,
    claimed: bool,
    /// It was made, or absorbed an event, since [`Entry::take_repeated`].
    repeated: bool,
    /// Somebody but the daemon itself asked for the read, and its page was woken for that. Until then the read may be
    /// one of many that are spread.
    heard: Option<Cause>,
}

/// How much is owed to several links.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OwedCounts {
    /// Reads that the daemon can make.
    pub due: u64,
    /// Reads that wait for a person.
    pub due_parked: u64,
    /// Objects owed a write or a delete.
    pub outbox: u64,
}

/// All that is owed to one link.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entry {
    mark: Option<LiveMark>,
    /// In a box, because few links have one at a time.
    staged: Option<Box<Staged>>,
    synced: Synced,
    reader: Option<u64>,
    /// What is known of Spaces lies on disk and was not looked at.
    is_unread: bool,
}

impl Entry {
    /// The state of a part that rests: nothing is owed, and what is known of Spaces lies on disk.
    pub fn unread() -> Self {
        Entry { is_unread: true, ..Entry::default() }
    }

    /// Is what is known of Spaces still to be taken from disk? No read can be staged before.
    pub fn is_unread(&self) -> bool {
        self.is_unread
    }

    /// What is known of Spaces was taken from disk for the reader with this number. Where another one took over, that one
    /// looks for itself: the part may have changed in between.
    pub fn learn(&mut self, reader: u64, synced: Synced) {
        if self.reader == Some(reader) && std::mem::take(&mut self.is_unread) {
            self.synced = synced;
        }
    }

    /// May it be forgotten, because the disk has all of it?
    pub fn rests(&self) -> bool {
        self.mark.is_none() && self.staged.is_none() && self.reader.is_none()
    }

    /// The state as it lies on disk after a start: what is there is durable and nobody reads.
    pub fn restored(mark: Option<Mark>, staged: Option<Staged>, synced: Synced) -> Self {
        let mark = mark.map(|mark| LiveMark { mark, durable: true, claimed: false, repeated: true, heard: None });
        Entry { mark, staged: staged.map(Box::new), synced, reader: None, is_unread: false }
    }

    /// Another daemon made this mark, or cleared the one that stood. `elsewhere` says that the reads of the link are
    /// another daemon's: nothing here tells whether one of them has claimed the mark, so it counts as claimed.
    pub fn follow_mark(&mut self, mark: Option<Mark>, elsewhere: bool) {
        self.mark = mark.map(|mark| {
            let heard = matches!(mark.cause, Cause::Webhook | Cause::Manual).then_some(mark.cause);
            LiveMark { mark, durable: true, claimed: elsewhere, repeated: true, heard }
        });
    }

    /// Another daemon staged this for Spaces, or completed what was staged.
    pub fn follow_staged(&mut self, staged: Option<Staged>) {
        self.staged = staged.map(Box::new);
    }

    /// Another daemon noted this of Spaces, which is all that is known.
    pub fn follow_synced(&mut self, synced: Synced) {
        (self.synced, self.is_unread) = (synced, false);
    }

    /// The reads of the link pass to another daemon, or come from one. Whoever reads is fenced off.
    pub fn pass(&mut self, elsewhere: bool) {
        self.reader = None;
        if let Some(mark) = &mut self.mark {
            mark.claimed = elsewhere;
        }
    }

    /// The mark that stands, durable or not.
    pub fn due(&self) -> Option<&Mark> {
        self.mark.as_ref().map(|m| &m.mark)
    }

    /// Is there a mark that no running read answers for?
    pub fn wants_reader(&self) -> bool {
        self.mark.as_ref().is_some_and(|m| !m.claimed)
    }

    /// Does the mark stand for an event of this moment, without any write, and without a note for the link's machine?
    /// [`Entry::mark`] would answer [`Marked::Standing`], and change nothing.
    pub fn absorbs(&self) -> bool {
        self.mark.as_ref().is_some_and(|m| m.durable && !m.claimed && m.repeated && m.heard.is_some())
    }

    /// Would this be the first to ask for a read that is owed already, and that may be spread over a long time? Its page
    /// must be woken then, although nothing is to be written.
    pub fn hastens(&self, cause: Cause) -> bool {
        cause != Cause::Poll && self.mark.as_ref().is_some_and(|m| !m.claimed && m.heard.is_none())
    }

    /// What has asked for a read that is owed for another cause.
    pub fn hastened(&self) -> Option<Cause> {
        self.mark.as_ref().and_then(|m| m.heard.filter(|heard| *heard != m.mark.cause))
    }

    /// Did an event come for which the mark stands, since this was asked last?
    pub fn take_repeated(&mut self) -> bool {
        self.mark.as_mut().is_some_and(|m| std::mem::take(&mut m.repeated))
    }

    /// The outbox entry.
    pub fn staged(&self) -> Option<&Staged> {
        self.staged.as_deref()
    }

    /// What is known of Spaces.
    pub fn synced(&self) -> &Synced {
        &self.synced
    }

    /// The oldest thing owed: a mark or an outbox entry.
    pub fn owed_since(&self) -> Option<WallTime> {
        let staged = self.staged.as_ref().map(|s| s.marked_at);
        let due = self.mark.as_ref().map(|m| m.mark.since);
        [staged, due].into_iter().flatten().min()
    }

    /// The oldest thing owed that the daemon can do. While the link is parked that is its outbox entry alone: a mark
    /// waits for a person then.
    pub fn doable_since(&self, parked: bool) -> Option<WallTime> {
        if parked { self.staged.as_ref().map(|s| s.marked_at) } else { self.owed_since() }
    }

    /// Somebody says that the page may have changed. `seq` must be new.
    pub fn mark(&mut self, cause: Cause, now: WallTime, seq: u64) -> Marked {
        match &mut self.mark {
            Some(standing) if !standing.claimed => {
                standing.repeated = true;
                standing.heard = standing.heard.or((cause != Cause::Poll).then_some(cause));
                if standing.durable { Marked::Standing } else { Marked::Pending }
            }
            earlier => {
                // What a read in flight may miss has been owed since now; the older mark is that read's to answer,
                // and if it fails this one stands for both.
                let since = earlier.as_ref().map_or(now, |e| e.mark.since.min(now));
                // The other daemon may never have begun the read that the older mark asks for, and its caller still waits.
                let awaited = earlier.as_ref().filter(|_| cause == Cause::Poll && self.reader.is_none());
                let (cause, heard) = awaited.map_or((cause, None), |e| (e.mark.cause, e.heard));
                let mark = Mark { seq, cause, since };
                // The pages of an import are spread.
                let heard = matches!(cause, Cause::Webhook | Cause::Manual).then_some(cause).or(heard);
                self.mark =
                    Some(LiveMark { mark: mark.clone(), durable: false, claimed: false, repeated: true, heard });
                Marked::New(Change::PutMark(mark))
            }
        }
    }

    /// The write of the mark with this number, or of one that replaced it, is done.
    pub fn mark_is_durable(&mut self, seq: u64) {
        if let Some(m) = self.mark.as_mut().filter(|m| m.mark.seq == seq) {
            m.durable = true;
        }
    }

    /// The number of the mark that stands.
    pub fn mark_seq(&self) -> Option<u64> {
        self.due().map(|m| m.seq)
    }

    /// A read begins. `id` must be new; an earlier reader that is still on its way is fenced off.
    pub fn claim(&mut self, id: u64) -> Claim {
        self.reader = Some(id);
        if let Some(m) = self.mark.as_mut() {
            m.claimed = true;
        }
        Claim { id, mark: self.due().cloned() }
    }

    /// The read ended without data: its mark waits for the next reader. Returns the cause of a durable mark that waits
    /// now.
    pub fn release(&mut self, claim: &Claim) -> Option<Cause> {
        if self.reader != Some(claim.id) {
            return None;
        }
        self.reader = None;
        let mark = self.mark.as_mut()?;
        mark.claimed = false;
        mark.durable.then_some(mark.mark.cause)
    }

    /// The read ended with data of this digest. `force` writes although it is the same, because the object was found
    /// missing or altered. `seq` must be new.
    pub fn stage(&mut self, claim: &Claim, found: &Found, force: bool, now: WallTime, seq: u64) -> Stage {
        let Some(mut changes) = self.answered(claim, now) else { return Stage::Superseded };
        let coming = match &self.staged {
            Some(staged) => Some(staged.op),
            None => self.synced.digest.map(ObjectOp::Put),
        };
        if coming == Some(ObjectOp::Put(found.digest)) && !force {
            return Stage::Unchanged(changes);
        }
        // An entry that never reached Spaces is owed since its own mark, which this one takes over.
        let marked = claim.mark.as_ref().map_or(now, |m| m.since);
        let marked_at = self.staged.as_ref().map_or(marked, |s| s.marked_at.min(marked));
        let (op, body_len) = (ObjectOp::Put(found.digest), found.body_len);
        let staged = Staged { seq, op, since: now, marked_at, body_len, person: None };
        changes.extend(self.staged.replace(Box::new(staged.clone())).map(|before| Change::ClearStaged(*before)));
        changes.push(Change::PutStaged(staged));
        Stage::Staged(seq, changes)
    }

    /// A read of this claim has ended: its mark goes. `None` when a newer reader took over.
    fn answered(&mut self, claim: &Claim, now: WallTime) -> Option<Vec<Change>> {
        self.reader.take_if(|reader| *reader == claim.id && !self.is_unread)?;
        let mut changes = Vec::new();
        if self.mark.as_ref().is_some_and(|m| Some(m.mark.seq) == claim.mark.as_ref().map(|c| c.seq)) {
            self.mark = None;
            changes.push(Change::ClearMark);
        }
        self.synced.read_at = Some(now);
        // Above the number of the mark, which was made before the read began.
        self.synced.answered = self.synced.answered.max(claim.id);
        changes.push(Change::PutSynced(self.synced.clone()));
        Some(changes)
    }

    /// The read ended without what it looked for: the source has it no more, and the object is to be deleted. `seq` must be
    /// new. `None` when a newer reader took over.
    pub fn retire(&mut self, claim: &Claim, now: WallTime, seq: u64) -> Option<Vec<Change>> {
        // The number of the read is kept after the delete, so that nothing older is written over it.
        let mut changes = self.answered(claim, now)?;
        let staged = Staged { seq, op: ObjectOp::Delete, since: now, marked_at: now, body_len: 0, person: None };
        changes.extend(self.staged.replace(Box::new(staged.clone())).map(|before| Change::ClearStaged(*before)));
        changes.push(Change::PutStaged(staged));
        Some(changes)
    }

    /// The read of this claim goes on without what it looked for: the source has it no more. What is staged is not written
    /// any more, and a read that finds it again is written whatever it brings. The mark stands until [`Entry::retire`].
    /// `None` when a newer reader took over.
    pub fn withdraw(&mut self, claim: &Claim) -> Option<Vec<Change>> {
        self.reader.filter(|reader| *reader == claim.id && !self.is_unread)?;
        let put = self.staged.take_if(|staged| matches!(staged.op, ObjectOp::Put(_)));
        let mut changes: Vec<Change> = put.map(|staged| Change::ClearStaged(*staged)).into_iter().collect();
        changes.extend(self.distrust());
        Some(changes)
    }

    /// Is all that is known of it that the source had it no more?
    pub fn is_gone(&self) -> bool {
        !self.is_unread && self.mark.is_none() && self.staged.is_none() && self.synced.digest.is_none()
    }

    /// What Spaces holds is not known any more, so that the next read is written whatever it brings. What lies on disk is
    /// of no use then, even to somebody who has just read it there.
    pub fn distrust(&mut self) -> Vec<Change> {
        if std::mem::take(&mut self.is_unread) {
            self.synced = Synced::default();
        }
        (self.synced.digest, self.synced.etag) = (None, None);
        vec![Change::PutSynced(self.synced.clone())]
    }

    /// Spaces has carried out the entry with this number, which was `op`.
    pub fn complete(&mut self, seq: u64, op: ObjectOp, etag: Option<String>, now: WallTime) -> Vec<Change> {
        let mut changes = Vec::new();
        changes.extend(self.staged.take_if(|s| s.seq == seq).map(|done| Change::ClearStaged(*done)));
        self.synced.digest = match op {
            ObjectOp::Put(digest) => Some(digest),
            ObjectOp::Delete => None,
        };
        self.synced.etag = etag;
        self.synced.changed_at = Some(now);
        changes.push(Change::PutSynced(self.synced.clone()));
        changes
    }

    /// The staged body cannot be read back: its entry goes, and where it was a put a read is owed in its place. `mark`
    /// must be a new number. What Spaces holds is not known any more: the lost bytes may have gone out unanswered, and
    /// a read that brings what was settled before them must not be taken for unchanged.
    pub fn discard(&mut self, seq: u64, now: WallTime, mark: u64) -> Vec<Change> {
        let Some(staged) = self.staged.take_if(|s| s.seq == seq) else { return Vec::new() };
        self.synced.digest = None;
        self.synced.etag = None;
        let mut changes = vec![Change::ClearStaged(*staged), Change::PutSynced(self.synced.clone())];
        match self.mark(Cause::Manual, now, mark) {
            Marked::New(change) => changes.push(change),
            // The entry must not go before the mark that stands for it is durable.
            Marked::Pending => changes.extend(self.due().cloned().map(Change::PutMark)),
            Marked::Standing => {}
        }
        changes
    }

    /// The link of this person is gone: no read is owed, whoever reads is fenced off, and the object is to be deleted
    /// or left. `seq` must be new.
    pub fn forget(&mut self, delete: bool, person: Option<AppUserId>, now: WallTime, seq: u64) -> Vec<Change> {
        let mut changes = Vec::new();
        changes.extend(self.mark.take().map(|_| Change::ClearMark));
        changes.extend(self.staged.take().map(|staged| Change::ClearStaged(*staged)));
        self.reader = None;
        (self.synced, self.is_unread) = (Synced::default(), false);
        changes.push(Change::ClearSynced);
        if delete {
            let staged = Staged { seq, op: ObjectOp::Delete, since: now, marked_at: now, body_len: 0, person };
            self.staged = Some(Box::new(staged.clone()));
            changes.push(Change::PutStaged(staged));
        }
        changes
    }
}

#[cfg(test)]
mod tests;
