//! Writes the index of a catalogue, after the products that it names and before the object of a product that is gone is
//! deleted.
//!
//! The rows are those of products that Spaces has. Each product that is written marks the index. Where products wait for
//! Spaces, the index waits for them a while, so that a hundred changes are one index and not a hundred.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;

use super::changes::stage;
use super::subject::{Catalogue, Retry};
use crate::core::catalogue::Piece;
use crate::core::model::{MonoTime, PartKey};
use crate::services::shop_index;
use crate::sources::api::Document;
use crate::store::{ReadClaim, StageOutcome};

/// After a product was written, before the index is.
const QUIET: Duration = Duration::from_millis(500);
/// The index does not wait for products longer than this,
const PATIENCE: Duration = Duration::from_secs(15);
/// or than this during a sweep, which writes many.
const PATIENCE_IN_SWEEP: Duration = Duration::from_secs(60);
/// Between two looks while something is waited for.
const LOOK: Duration = Duration::from_millis(200);
/// Without a sign of anything due, marks are looked for this often.
const IDLE: Duration = Duration::from_secs(5 * 60);

/// What is to be done now.
enum Next {
    /// Nothing, for so long.
    Wait(Duration),
    /// The index is to be written.
    Write,
    /// Objects of products that are gone are to be deleted.
    Retire,
}

/// The index, and the products that are about to leave it.
struct List<'a> {
    catalogue: &'a Catalogue,
    part: PartKey,
    due_since: Option<MonoTime>,
    /// They left the rows.
    gone: Vec<ReadClaim>,
    /// Neither the index that was staged last names them, nor will a later one.
    unlisted: Vec<ReadClaim>,
}

pub(super) async fn follow(catalogue: &Catalogue) {
    let part = PartKey::new(catalogue.link.clone(), Piece::Index.part());
    let mut list = List { catalogue, part, due_since: None, gone: Vec::new(), unlisted: Vec::new() };
    let (mut woken, mut failures) = (catalogue.woken(), 0);
    loop {
        let done = match list.next().await {
            Ok(Next::Wait(most)) => {
                catalogue.wait(&mut woken, most).await;
                continue;
            }
            Ok(Next::Write) => list.write().await,
            Ok(Next::Retire) => list.retire().await,
            Err(retry) => Err(retry),
        };
        match done {
            Ok(()) => failures = 0,
            Err(retry) => {
                let wait = retry.wait(failures);
                failures = failures.saturating_add(1);
                tokio::time::sleep(wait).await;
            }
        }
    }
}

impl List<'_> {
    async fn next(&mut self) -> Result<Next, Retry> {
        let store = &self.catalogue.context.store;
        self.gone.append(&mut self.catalogue.gone.lock().unwrap_or_else(PoisonError::into_inner));
        let is_due = store.mark(&self.part).await?.map(|mark| !mark.is_claimed);
        if is_due.is_none() {
            // Each marked the index when it left the rows, and that mark is answered for.
            self.unlisted.append(&mut self.gone);
        }
        if !self.unlisted.is_empty() && !store.expectation(&self.part).await?.outbox {
            return Ok(Next::Retire);
        }
        if is_due != Some(true) {
            self.due_since = None;
            let is_awaited = !self.unlisted.is_empty() || !self.gone.is_empty();
            return Ok(Next::Wait(if is_awaited { LOOK } else { IDLE }));
        }
        let now = MonoTime::now();
        let waited = now.since(*self.due_since.get_or_insert(now));
        let is_sweeping = self.catalogue.is_sweeping.load(Ordering::Relaxed);
        let patience = if is_sweeping { PATIENCE_IN_SWEEP } else { PATIENCE };
        let products_wait = is_sweeping || store.outbox_of(&self.catalogue.link).await? > 0;
        if waited < QUIET || (products_wait && waited < patience) {
            return Ok(Next::Wait(LOOK));
        }
        Ok(Next::Write)
    }

    async fn write(&mut self) -> Result<(), Retry> {
        let catalogue = self.catalogue;
        let store = &catalogue.context.store;
        let Some(claim) = store.claim(&self.part, catalogue.generation).await? else { return Err(Retry::Soon) };
        let digest = shop_index::digest(&catalogue.context, &catalogue.link).await?;
        // The uploader makes the bytes.
        let made = Document { digest, body: Bytes::new() };
        if stage(catalogue, claim, made).await? != StageOutcome::Superseded {
            self.unlisted.append(&mut self.gone);
        }
        self.due_since = None;
        Ok(())
    }

    /// Every index that names them is written over.
    async fn retire(&mut self) -> Result<(), Retry> {
        for claim in self.unlisted.drain(..) {
            // A claim that is dropped gives its mark back, and its product is read again.
            self.catalogue.context.store.retire(claim).await?;
        }
        Ok(())
    }
}
