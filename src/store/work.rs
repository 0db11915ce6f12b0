//! The work of one part of a link in the store: marked, claimed by a read, staged for Spaces, completed. Where a link is
//! given instead of a part, its whole is meant.

use super::feed::Change;
use super::state::State;
use super::{Store, Unavailable, codec, events};
use crate::core::fields::Fields;
use crate::core::ledger::{Claim, Digest, Entry, Found, ObjectOp, Stage, Staged};
use crate::core::model::{Cause, Generation, LinkKey, PageId, PartKey, WallTime};

/// A reader's claim on a part of a link; dropping it without staging gives the mark back.
#[must_use]
pub struct ReadClaim {
    store: Store,
    part: PartKey,
    claim: Option<Claim>,
}

impl ReadClaim {
    /// What asked for this read: the mark's cause, if a mark stands.
    pub fn cause(&self) -> Option<Cause> {
        self.claim.as_ref().and_then(|c| c.mark.as_ref()).map(|m| m.cause)
    }
}

impl Drop for ReadClaim {
    fn drop(&mut self) {
        if let Some(claim) = self.claim.take() {
            let mut state = self.store.lock();
            if let Some(cause) = state.entry(&self.part, |entry| entry.release(&claim)).flatten() {
                state.publish_now(Change::Due(self.part.link.clone(), cause));
            }
        }
    }
}

/// What [`Store::stage`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StageOutcome {
    /// The object is to be written.
    Staged,
    /// Spaces has, or is about to get, the same data.
    Unchanged,
    /// A newer reader took over, or the link is gone.
    Superseded,
}

/// A staged object, ready for Spaces.
#[derive(Debug, Clone)]
pub struct OutboxItem {
    /// The entry.
    pub staged: Staged,
    /// The bytes; empty for a delete.
    pub body: bytes::Bytes,
    /// What Spaces holds before it is carried out; `None` for a link that is gone.
    pub(super) before: Option<events::Before>,
}

/// An outbox entry and what lies on disk for it.
type Looked = (Staged, Result<bytes::Bytes, codec::Damaged>);

impl Store {
    /// Notes durably that these pages may have changed, for every link of each, and returns those links. Pages that
    /// nobody linked are passed over. Costs no write where a mark stands that no read has claimed.
    ///
    /// # Errors
    /// [`Unavailable`] when it could not be made durable; some of the marks may stand all the same.
    pub async fn mark_pages(&self, pages: &[PageId], cause: Cause) -> Result<Vec<LinkKey>, Unavailable> {
        let links: Vec<LinkKey> = {
            let state = self.lock();
            state.writable()?;
            pages.iter().flat_map(|page| state.links_of(&page.clone().into())).collect()
        };
        self.mark_links(links, cause).await
    }

    /// Like [`Store::mark_pages`], for links.
    ///
    /// # Errors
    /// As there.
    pub async fn mark_links(&self, links: Vec<LinkKey>, cause: Cause) -> Result<Vec<LinkKey>, Unavailable> {
        self.mark_parts(links.iter().map(LinkKey::whole).collect(), cause).await?;
        Ok(links)
    }

    /// Like [`Store::mark_links`], for parts.
    ///
    /// # Errors
    /// As there.
    pub async fn mark_parts(&self, parts: Vec<PartKey>, cause: Cause) -> Result<(), Unavailable> {
        if parts.is_empty() {
            return Ok(());
        }
        self.commit(|state| {
            for part in parts {
                state.mark_due(&part, cause);
                if cause == Cause::Manual
                    && let Some(record) = state.record(&part.link)
                {
                    // An operator wants to know the state of the page; after the read the check finds out the rest.
                    state.publish(Change::Recheck(part.link.clone(), record.generation));
                }
            }
        })
        .await
    }

    /// A read of this part with the link's token of this generation begins. `None` when it is not linked, or has another token.
    /// An earlier reader is fenced off.
    pub fn claim(&self, part: impl Into<PartKey>, generation: Generation) -> Option<ReadClaim> {
        let part = part.into();
        let mut state = self.lock();
        let id = state.next_seq();
        state.record(&part.link).filter(|record| record.generation == generation)?;
        let claim = state.entry(&part, |entry| entry.claim(id))?;
        Some(ReadClaim { store: self.clone(), part, claim: Some(claim) })
    }

    /// The digest that Spaces has or is about to get, whether an outbox entry waits, and the settled ETag.
    pub fn expectation(&self, part: impl Into<PartKey>) -> Expectation {
        self.lock().entry(&part.into(), |entry| Expectation::of(entry)).unwrap_or_default()
    }

    /// A read ended with data: stages `body` for the uploader unless it is what Spaces has, and clears the mark that
    /// the claim answers for, in one transaction. `force` writes although nothing changed.
    ///
    /// # Errors
    /// [`Unavailable`] when it could not be made durable; the mark then stands.
    pub async fn stage(
        &self,
        mut claim: ReadClaim,
        digest: Digest,
        body: bytes::Bytes,
        force: bool,
    ) -> Result<StageOutcome, Unavailable> {
        let part = claim.part.clone();
        let found = Found { digest, body_len: u32::try_from(body.len()).unwrap_or(u32::MAX) };
        self.commit(move |state| {
            // Taken here: where the decision is not reached, the claim is given back.
            let Some(held) = claim.claim.take() else { return StageOutcome::Superseded };
            let (now, seq) = (WallTime::now(), state.next_seq());
            match state.entry(&part, |entry| entry.stage(&held, &found, force, now, seq)) {
                Some(Stage::Unchanged(changes)) => {
                    state.apply(&part, changes, &[]);
                    state.publish(Change::Completed(part.link.clone()));
                    StageOutcome::Unchanged
                }
                Some(Stage::Staged(_, changes)) => {
                    state.apply(&part, changes, &body);
                    state.publish(Change::Outbox(part.clone()));
                    StageOutcome::Staged
                }
                Some(Stage::Superseded) | None => StageOutcome::Superseded,
            }
        })
        .await
    }

    /// The outbox entry of a part and its body; `None` when nothing is owed.
    ///
    /// # Errors
    /// [`Unavailable`] when the store is down or the body is damaged; a damaged body is dropped and its part marked
    /// due, so that it is read anew.
    pub async fn outbox_item(&self, part: impl Into<PartKey>) -> Result<Option<OutboxItem>, Unavailable> {
        let part = &part.into();
        let Some((staged, body)) = self.look_into_outbox(part)? else { return Ok(None) };
        let generation = self.generation(&part.link);
        // An entry that was decided a moment ago is still on its way to disk, though its bytes can be read. It must not
        // reach Spaces before it is durable: a crash would bring back the entry before it, and that would be written
        // over it; or it would undo the unlink whose object was deleted. And only what is missing behind everything
        // that was queued by now is damaged.
        self.commit(State::wait_for_queue).await?;
        let before = self.before(part, generation)?;
        if let (ObjectOp::Put(_), Ok(body)) = (staged.op, body) {
            return Ok(Some(OutboxItem { staged, body, before }));
        }
        match self.look_into_outbox(part)? {
            None => Ok(None),
            Some((now, _)) if now.seq != staged.seq => {
                Err(Unavailable { reason: "the entry was replaced meanwhile".into() })
            }
            Some((staged, Ok(body))) => Ok(Some(OutboxItem { staged, body, before })),
            Some((staged, Err(damage))) => {
                tracing::error!(
                    link = %part.link,
                    %damage,
                    "store [{part}]: the staged object is damaged ({damage}), reading the page again"
                );
                self.commit(|state| state.drop_staged(part, staged.seq)).await?;
                Err(Unavailable { reason: "the staged object was damaged".into() })
            }
        }
    }

    fn look_into_outbox(&self, part: &PartKey) -> Result<Option<Looked>, Unavailable> {
        let staged = self.lock().entry(part, |entry| entry.staged().cloned()).flatten();
        let Some(staged) = staged else { return Ok(None) };
        let body = self.read(|engine| engine.body(part, &staged))?;
        Ok(Some((staged, body)))
    }

    /// Spaces has carried out this item, and this is left of it. Returns whether a newer one waits.
    ///
    /// # Errors
    /// [`Unavailable`]; the entry then stays and is carried out again.
    pub async fn complete(
        &self,
        part: impl Into<PartKey>,
        item: &OutboxItem,
        etag: Option<String>,
        left: Left,
    ) -> Result<bool, Unavailable> {
        let part = &part.into();
        let done = &item.staged;
        let fields = left.fields.as_ref().filter(|_| matches!(done.op, ObjectOp::Put(_)));
        let more = self
            .commit(|state| {
                let changes = state.entry(part, |e| e.complete(done.seq, done.op, etag, WallTime::now()))?;
                state.apply(part, changes, &[]);
                if let Some(fields) = fields {
                    state.note_fields(part, item, fields);
                }
                state.note_left(part, &done.person, &left);
                state.forget_if_complete(part);
                state.publish(Change::Completed(part.link.clone()));
                state.entry(part, |entry| entry.staged().is_some())
            })
            .await?;
        Ok(more.unwrap_or(false))
    }
}

/// What a write or a delete that Spaces has carried out leaves to note.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Left {
    /// An earlier write without an answer may still take effect until then.
    pub straggler_until: Option<WallTime>,
    /// The bucket would not say whether it keeps older versions of the object.
    pub versions_unknown: bool,
    /// The fields of the object that was written, where its source knows any.
    pub fields: Option<Fields>,
}

/// What Spaces is expected to hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expectation {
    /// Digest of the settled object.
    pub digest: Option<Digest>,
    /// Its ETag.
    pub etag: Option<String>,
    /// An entry waits in the outbox, so a look at Spaces says nothing.
    pub outbox: bool,
}

impl Expectation {
    fn of(entry: &Entry) -> Self {
        let synced = entry.synced();
        Expectation { digest: synced.digest, etag: synced.etag.clone(), outbox: entry.staged().is_some() }
    }
}
