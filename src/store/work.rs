//! The work of one part of a link in the store: marked, claimed by a read, staged for Spaces, completed. Where a link
//! is given instead of a part, its whole is meant.

use super::api::{Before, Expectation, Left, OutboxItem, StageOutcome, Unavailable};
use super::codec;
use super::feed::Change;
use super::inner::Store;
use super::state::State;
use super::state::ledger::LinkMarks;
use super::tree::{Pieces, Tree};
use super::txn::Txn;
use crate::core::health::Health;
use crate::core::ledger::{Claim, Digest, Entry, Found, Mark, Staged, Synced};
use crate::core::link::machine::Facts;
use crate::core::model::{Cause, Generation, GraphId, LinkKey, PageId, Part, PartKey, SourceId};

/// A reader's claim on a part of a link; dropping it without staging gives the mark back.
#[must_use]
pub struct ReadClaim {
    store: Store,
    part: PartKey,
    claim: Option<Claim>,
}

impl ReadClaim {
    /// The part that is read.
    pub fn part(&self) -> &PartKey {
        &self.part
    }

    /// The claim itself.
    pub(super) fn held(&self) -> Option<&Claim> {
        self.claim.as_ref()
    }

    /// The claim itself, which is then not given back.
    pub(super) fn take(&mut self) -> Option<Claim> {
        self.claim.take()
    }

    /// What asked for this read: the mark's cause, if a mark stands.
    pub fn cause(&self) -> Option<Cause> {
        self.claim.as_ref().and_then(|c| c.mark.as_ref()).map(|m| m.cause)
    }
}

impl Drop for ReadClaim {
    fn drop(&mut self) {
        if let Some(claim) = self.claim.take() {
            let released = {
                let ledger = &mut self.store.lock().state.ledger;
                let released = ledger.change(&self.part, |entry| entry.release(&claim));
                ledger.rest(&self.part);
                released
            };
            if let Some(cause) = released.flatten() {
                self.store.feed().publish(vec![Change::Due(self.part.link.clone(), cause)]);
            }
        }
    }
}

/// A mark that stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StandingMark {
    /// The mark.
    pub mark: Mark,
    /// A read answers for it already.
    pub is_claimed: bool,
}

/// A body up to this size is cut and checksummed where it is: that takes less than the way to another thread.
const CUT_IN_PLACE: usize = 64 << 10;

/// The body of an outbox entry as it lies on disk, and the fields that Spaces holds of its object.
type Looked = (Result<bytes::Bytes, codec::Damaged>, Option<Before>);

impl State {
    fn facts(&mut self, link: &LinkKey) -> Facts {
        let LinkMarks { unclaimed, hastened, due, repeated } = self.ledger.take_marks(link);
        let Some(record) = self.links.get(link) else { return Facts::default() };
        let parked = match &record.health {
            Health::Parked(parked) => Some(parked.why),
            Health::Active => None,
        };
        Facts {
            generation: Some(record.generation),
            parked,
            hinted: record.hint.is_some(),
            unclaimed,
            hastened,
            due,
            repeated,
            stopping: false,
        }
    }
}

impl Store {
    /// Is a delivery about these pages durable already, whatever it reports? `false` may only mean that nobody has looked
    /// yet; [`Store::mark_pages`] looks. Takes no lock of the store.
    pub fn absorbs(&self, pages: &[GraphId]) -> bool {
        !pages.is_empty() && self.inner.absorbing.has(pages) && self.inner.leases.is_trusted()
    }

    /// Notes durably that these pages may have changed, for every link of each, and returns those links. Pages that
    /// nobody linked are passed over. Costs no write where a mark stands that no read has claimed. Waits for unlinks that
    /// are on their way to disk: a power cut would bring the link back, and nothing would say that its page changed.
    ///
    /// # Errors
    /// [`Unavailable`] when it could not be made durable; some of the marks may stand all the same.
    pub async fn mark_pages(&self, pages: &[PageId], cause: Cause) -> Result<Vec<LinkKey>, Unavailable> {
        if self.inner.is_shared() {
            return self.mark_pages_in_turn(pages, cause).await;
        }
        let (mut links, mut is_durable) = (Vec::new(), !cause.is_urgent());
        // Where the committer has as much to do as it may have, the marks are decided on when it has less.
        let slot = self.inner.slots.try_acquire().ok();
        let (is_unlinking, decided) = {
            let mut memory = self.lock();
            memory.orders.writable()?;
            let is_unlinking = memory.orders.is_unlinking();
            for page in pages {
                let id = SourceId::from(page.clone());
                let of_page = memory.state.links.of_id(&id);
                if is_unlinking {
                    is_durable = false;
                } else if memory.state.absorbs(&of_page) {
                    memory.state.ledger.absorbing().enter(&id);
                } else {
                    is_durable &= of_page.is_empty();
                }
                links.extend(of_page);
            }
            if is_durable {
                return Ok(links);
            }
            let mark = |state: &mut State, txn: &mut Txn| {
                links.iter().for_each(|link| state.mark_due(txn, &link.whole(), cause));
            };
            let decided = slot.is_some().then(|| memory.decide(self.now(), mark)).transpose()?;
            (is_unlinking, decided)
        };
        match decided {
            Some(((), Some(answer))) => answer.wait().await?,
            Some(((), None)) => {}
            None => links = self.mark_links(links, cause).await?,
        }
        drop(slot);
        if is_unlinking {
            self.barrier().await?;
        }
        Ok(links)
    }

    /// The same where other daemons may have linked a page or unlinked it a moment ago: memory alone answers for pages whose
    /// marks are claimed here and nowhere else.
    async fn mark_pages_in_turn(&self, pages: &[PageId], cause: Cause) -> Result<Vec<LinkKey>, Unavailable> {
        let ids: Vec<SourceId> = pages.iter().cloned().map(SourceId::from).collect();
        if !cause.is_urgent() {
            let memory = self.lock();
            memory.orders.writable()?;
            let of_pages: Vec<Vec<LinkKey>> = ids.iter().map(|id| memory.state.links.of_id(id)).collect();
            let absorbs = of_pages.iter().all(|links| memory.state.absorbs(links));
            if absorbs && !memory.orders.is_unlinking() && self.inner.leases.is_trusted() {
                ids.iter().for_each(|id| memory.state.ledger.absorbing().enter(id));
                return Ok(of_pages.concat());
            }
        }
        self.commit(|state, txn| {
            let links: Vec<LinkKey> = ids.iter().flat_map(|id| state.links.of_id(id)).collect();
            links.iter().for_each(|link| state.mark_due(txn, &link.whole(), cause));
            links
        })
        .await
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
        self.commit(|state, txn| parts.iter().for_each(|part| state.mark_due(txn, part, cause))).await
    }

    /// Like [`Store::mark_pages`], for a part of each link of one id. Returns how many links these are.
    ///
    /// # Errors
    /// As there.
    pub async fn mark_part_of(&self, id: &SourceId, part: &Part, cause: Cause) -> Result<usize, Unavailable> {
        let mark = |state: &mut State, txn: &mut Txn| {
            let links = state.links.of_id(id);
            links.iter().for_each(|link| state.mark_due(txn, &PartKey::new(link.clone(), part.clone()), cause));
            links.len()
        };
        let was_unlinking = self.lock().orders.is_unlinking();
        let links = self.commit(mark).await?;
        // An unlink that was decided earlier, and is not durable, leaves no link to mark.
        let is_unlinking = self.lock().orders.is_unlinking();
        if was_unlinking || is_unlinking {
            self.barrier().await?;
        }
        Ok(links)
    }

    /// A read of this part with the link's token of this generation begins. `None` when it is not linked, or has
    /// another token. An earlier reader is fenced off.
    ///
    /// # Errors
    /// [`Unavailable`]; no read may begin then.
    pub async fn claim(
        &self,
        part: impl Into<PartKey>,
        generation: Generation,
    ) -> Result<Option<ReadClaim>, Unavailable> {
        let part = part.into();
        let claim = self.look(|state| {
            let id = state.next_seq();
            if state.ledger.is_elsewhere(&part.link) {
                return None;
            }
            state.links.generation(&part.link).filter(|held| *held == generation)?;
            state.ledger.create(&part);
            state.ledger.change(&part, |entry| entry.claim(id))
        });
        let Some(claim) = claim.await? else { return Ok(None) };
        let reader = claim.id;
        let claim = ReadClaim { store: self.clone(), part, claim: Some(claim) };
        if !claim.part.part.is_whole() {
            // It does not rest while the claim is held.
            self.learn(&claim.part, reader).await?;
        }
        Ok(Some(claim))
    }

    /// The digest that Spaces has or is about to get, whether an outbox entry waits, and the settled ETag.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn expectation(&self, part: impl Into<PartKey>) -> Result<Expectation, Unavailable> {
        let part = part.into();
        let known = |state: &mut State| state.ledger.get(&part).filter(|entry| !entry.is_unread()).map(Expectation::of);
        if let Some(known) = self.look(known).await? {
            return Ok(known);
        }
        let synced = if part.part.is_whole() { Synced::default() } else { self.synced_on_disk(&part).await? };
        Ok(Expectation { answered: synced.answered, digest: synced.digest, etag: synced.etag, outbox: false })
    }

    /// Parts that owe Spaces something.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn outbox_parts(&self) -> Result<Vec<PartKey>, Unavailable> {
        self.look(|state| state.ledger.outbox_parts()).await
    }

    /// The mark of a part, and whether a read answers for it.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn mark(&self, part: impl Into<PartKey>) -> Result<Option<StandingMark>, Unavailable> {
        let part = part.into();
        let standing = |entry: &Entry| {
            entry.due().map(|mark| StandingMark { mark: mark.clone(), is_claimed: !entry.wants_reader() })
        };
        self.look(|state| state.ledger.get(&part).and_then(standing)).await
    }

    /// What a link's machine decides on, all of one moment: the token, the health and the marks of its parts. That a
    /// mark was asked for again is said once, so the link's machine alone may ask.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn facts(&self, link: &LinkKey) -> Result<Facts, Unavailable> {
        self.look(|state| state.facts(link)).await
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
        let pieces = if body.len() <= CUT_IN_PLACE {
            Pieces::of(&body)
        } else {
            self.off_worker(move |_| Pieces::of(&body)).await?
        };
        self.commit(move |state, txn| match claim.claim.take() {
            // Taken here: where the decision is not reached, the claim is given back.
            Some(held) => state.stage(txn, &part, &held, &found, pieces, force),
            None => StageOutcome::Superseded,
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
        let Some(staged) = self.staged(part) else { return Ok(None) };
        let generation = self.generation(&part.link).await?;
        // An entry that was decided a moment ago is still on its way to disk, though its bytes can be read. It must not
        // reach Spaces before it is durable: a crash would bring back the entry before it, and that would be written
        // over it; or it would undo the unlink whose object was deleted. And only what is missing behind everything
        // that was queued by now is damaged.
        self.barrier().await?;
        let (body, before) = self.look_into_outbox(part, &staged, generation).await?;
        if self.staged(part).is_none_or(|now| now.seq != staged.seq) {
            return Err(Unavailable::because("the entry was replaced meanwhile"));
        }
        match body {
            Ok(body) => Ok(Some(OutboxItem { staged, body, before })),
            Err(damage) => {
                tracing::error!(
                    link = %part.link,
                    %damage,
                    "store [{part}]: the staged object is damaged ({damage}), reading the page again"
                );
                self.commit(|state, txn| state.drop_staged(txn, part, staged.seq)).await?;
                Err(Unavailable { reason: "the staged object was damaged".into() })
            }
        }
    }

    /// The outbox entry of a part, without its body.
    fn staged(&self, part: &PartKey) -> Option<Staged> {
        self.lock().state.ledger.get(part).and_then(|entry| entry.staged().cloned())
    }

    /// The body of an entry, and the fields that Spaces holds of the object. Everything decided before must be durable.
    async fn look_into_outbox(
        &self,
        part: &PartKey,
        staged: &Staged,
        generation: Option<Generation>,
    ) -> Result<Looked, Unavailable> {
        let (part, staged) = (part.clone(), staged.clone());
        let look = move |store: &Store| {
            let body = store.read(|engine| engine.body(&part, &staged))?;
            let Some(generation) = generation else { return Ok((body, None)) };
            let fields = store.read(|engine| engine.get(Tree::Fields, &part.to_bytes()))?;
            let fields = fields.and_then(|value| codec::decode(Tree::Fields.name(), &value).ok());
            Ok((body, Some(Before { generation, fields })))
        };
        self.off_worker(look).await?
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
        self.commit(|state, txn| state.complete(txn, part, item, etag, &left)).await
    }
}
