//! The work of one link in the store: marked, claimed by a read, staged for Spaces, settled.

use super::feed::Change;
use super::state::State;
use super::{Store, Unavailable, codec, events};
use crate::core::ledger::{Claim, Digest, Entry, Found, ObjectOp, Stage, Staged};
use crate::core::model::{Cause, Generation, LinkKey, PageId, WallTime};
use crate::sources::facebook::page_data;

/// A reader's claim on a link; dropping it without staging gives the mark back.
#[must_use]
pub struct ReadClaim {
    store: Store,
    link: LinkKey,
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
            if let Some(cause) = state.entry(&self.link, |entry| entry.release(&claim)).flatten() {
                state.publish_now(Change::Due(self.link.clone(), cause));
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
            pages.iter().flat_map(|page| state.links_of(page)).collect()
        };
        self.mark_links(links, cause).await
    }

    /// Like [`Store::mark_pages`], for links.
    ///
    /// # Errors
    /// As there.
    pub async fn mark_links(&self, links: Vec<LinkKey>, cause: Cause) -> Result<Vec<LinkKey>, Unavailable> {
        if links.is_empty() {
            return Ok(links);
        }
        self.commit(|state| {
            for link in &links {
                state.mark_due(link, cause);
                if cause == Cause::Manual
                    && let Some(record) = state.record(link)
                {
                    // An operator wants to know the state of the page; after the read the check finds out the rest.
                    state.publish(Change::Recheck(link.clone(), record.generation));
                }
            }
        })
        .await?;
        Ok(links)
    }

    /// A read of this link with its token of this generation begins. `None` when it is not linked, or has another token.
    /// An earlier reader is fenced off.
    pub fn claim(&self, link: &LinkKey, generation: Generation) -> Option<ReadClaim> {
        let mut state = self.lock();
        let id = state.next_seq();
        state.record(link).filter(|record| record.generation == generation)?;
        let claim = state.entry(link, |entry| entry.claim(id))?;
        Some(ReadClaim { store: self.clone(), link: link.clone(), claim: Some(claim) })
    }

    /// The digest that Spaces has or is about to get, whether an outbox entry waits, and the settled ETag.
    pub fn expectation(&self, link: &LinkKey) -> Expectation {
        self.lock().entry(link, |entry| Expectation::of(entry)).unwrap_or_default()
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
        let link = claim.link.clone();
        let found = Found { digest, body_len: u32::try_from(body.len()).unwrap_or(u32::MAX) };
        self.commit(move |state| {
            // Taken here: where the decision is not reached, the claim is given back.
            let Some(held) = claim.claim.take() else { return StageOutcome::Superseded };
            let (now, seq) = (WallTime::now(), state.next_seq());
            match state.entry(&link, |entry| entry.stage(&held, &found, force, now, seq)) {
                Some(Stage::Unchanged(changes)) => {
                    state.apply(&link, changes, &[]);
                    state.publish(Change::Completed(link.clone()));
                    StageOutcome::Unchanged
                }
                Some(Stage::Staged(_, changes)) => {
                    state.apply(&link, changes, &body);
                    state.publish(Change::Outbox(link.clone()));
                    StageOutcome::Staged
                }
                Some(Stage::Superseded) | None => StageOutcome::Superseded,
            }
        })
        .await
    }

    /// The outbox entry of a link and its body; `None` when nothing is owed.
    ///
    /// # Errors
    /// [`Unavailable`] when the store is down or the body is damaged; a damaged body is dropped and its link marked
    /// due, so that it is read anew.
    pub async fn outbox_item(&self, link: &LinkKey) -> Result<Option<OutboxItem>, Unavailable> {
        let Some((staged, body)) = self.look_into_outbox(link)? else { return Ok(None) };
        let generation = self.generation(link);
        // An entry that was decided a moment ago is still on its way to disk, though its bytes can be read. It must not
        // reach Spaces before it is durable: a crash would bring back the entry before it, and that would be written
        // over it; or it would undo the unlink whose object was deleted. And only what is missing behind everything
        // that was queued by now is damaged.
        self.commit(State::wait_for_queue).await?;
        let before = self.before(link, generation)?;
        if let (ObjectOp::Put(_), Ok(body)) = (staged.op, body) {
            return Ok(Some(OutboxItem { staged, body, before }));
        }
        match self.look_into_outbox(link)? {
            None => Ok(None),
            Some((now, _)) if now.seq != staged.seq => {
                Err(Unavailable { reason: "the entry was replaced meanwhile".into() })
            }
            Some((staged, Ok(body))) => Ok(Some(OutboxItem { staged, body, before })),
            Some((staged, Err(damage))) => {
                tracing::error!(
                    %link,
                    %damage,
                    "store [{link}]: the staged object is damaged ({damage}), reading the page again"
                );
                self.commit(|state| state.drop_staged(link, staged.seq)).await?;
                Err(Unavailable { reason: "the staged object was damaged".into() })
            }
        }
    }

    fn look_into_outbox(&self, link: &LinkKey) -> Result<Option<Looked>, Unavailable> {
        let staged = self.lock().entry(link, |entry| entry.staged().cloned()).flatten();
        let Some(staged) = staged else { return Ok(None) };
        let body = self.read(|engine| engine.body(link, &staged))?;
        Ok(Some((staged, body)))
    }

    /// Spaces has carried out this item, and this is left of it. Returns whether a newer one waits.
    ///
    /// # Errors
    /// [`Unavailable`]; the entry then stays and is carried out again.
    pub async fn complete(
        &self,
        link: &LinkKey,
        item: &OutboxItem,
        etag: Option<String>,
        left: Left,
    ) -> Result<bool, Unavailable> {
        let done = &item.staged;
        let fields = matches!(done.op, ObjectOp::Put(_)).then(|| page_data::fields_of_object(&item.body));
        let more = self
            .commit(|state| {
                let changes = state.entry(link, |e| e.complete(done.seq, done.op, etag, WallTime::now()))?;
                state.apply(link, changes, &[]);
                if let Some(fields) = &fields {
                    state.note_fields(link, item, fields);
                }
                state.note_left(link, &done.person, left);
                state.forget_if_complete(link);
                state.publish(Change::Completed(link.clone()));
                state.entry(link, |entry| entry.staged().is_some())
            })
            .await?;
        Ok(more.unwrap_or(false))
    }
}

/// What a write or a delete in Spaces leaves behind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Left {
    /// An earlier write without an answer may still take effect until then.
    pub straggler_until: Option<WallTime>,
    /// The bucket would not say whether it keeps older versions of the object.
    pub versions_unknown: bool,
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
