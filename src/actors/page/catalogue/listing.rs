//! Writes the index of a catalogue, after the products that it names and before the object of a product that is gone is
//! deleted.
//!
//! The rows are those of products that Spaces has. Each product that is written marks the index. Where products wait for
//! Spaces, the index waits for them a while, so that a hundred changes are one index and not a hundred.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::changes::stage;
use super::subject::{Catalogue, Retry};
use crate::core::catalogue::Piece;
use crate::core::model::{Cause, MonoTime, PartKey};
use crate::sources::shopify::ids::ProductId;
use crate::sources::shopify::index::{self, Entry};
use crate::sources::shopify::object::Envelope;

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

pub(super) async fn follow(catalogue: &Catalogue) {
    let part = PartKey::new(catalogue.link.clone(), Piece::Index.part());
    let (mut woken, mut failures, mut due_since) = (catalogue.woken(), 0, None);
    loop {
        let done = match next(catalogue, &part, &mut due_since).await {
            Ok(Next::Wait(most)) => {
                catalogue.wait(&mut woken, most).await;
                continue;
            }
            Ok(Next::Write) => write(catalogue, &part).await,
            Ok(Next::Retire) => retire(catalogue).await,
            Err(retry) => Err(retry),
        };
        match done {
            Ok(()) => (failures, due_since) = (0, None),
            Err(retry) => {
                let wait = retry.wait(failures);
                failures = failures.saturating_add(1);
                tokio::time::sleep(wait).await;
            }
        }
    }
}

async fn next(catalogue: &Catalogue, part: &PartKey, due_since: &mut Option<MonoTime>) -> Result<Next, Retry> {
    let store = &catalogue.context.store;
    let has_gone = !catalogue.gone.lock().unwrap_or_else(PoisonError::into_inner).is_empty();
    if store.mark(part).await?.is_none_or(|mark| mark.is_claimed) {
        *due_since = None;
        return Ok(match has_gone {
            // What is gone left the rows before it came here, and its mark of the index is answered for.
            true if store.is_complete(part).await? => Next::Retire,
            true => Next::Wait(LOOK),
            false => Next::Wait(IDLE),
        });
    }
    let now = MonoTime::now();
    let waited = now.since(*due_since.get_or_insert(now));
    let is_sweeping = catalogue.is_sweeping.load(Ordering::Relaxed);
    let patience = if is_sweeping { PATIENCE_IN_SWEEP } else { PATIENCE };
    let products_wait = is_sweeping || store.outbox_of(&catalogue.link).await? > 0;
    if waited < QUIET || (products_wait && waited < patience) {
        return Ok(Next::Wait(LOOK));
    }
    Ok(Next::Write)
}

async fn write(catalogue: &Catalogue, part: &PartKey) -> Result<(), Retry> {
    let store = &catalogue.context.store;
    let Some(claim) = store.claim(part, catalogue.generation).await? else { return Err(Retry::Soon) };
    let cause = claim.cause().unwrap_or(Cause::Poll);
    let version = catalogue.context.setup().config.shopify.api_version.clone();
    let (shop, Envelope { user, fetched_at, .. }) = (catalogue.shop.clone(), catalogue.envelope("", cause));
    let made = store.with_rows(&catalogue.link, move |rows| {
        let envelope = Envelope { user, shop: &shop, fetched_at, cause, api_version: &version };
        index::document(envelope, rows.map(|(id, row)| Entry { id: ProductId(id), row }))
    });
    stage(catalogue, claim, made.await?).await
}

async fn retire(catalogue: &Catalogue) -> Result<(), Retry> {
    let gone = std::mem::take(&mut *catalogue.gone.lock().unwrap_or_else(PoisonError::into_inner));
    for claim in gone {
        // A claim that is dropped gives its mark back, and its product is read again.
        catalogue.context.store.retire(claim).await?;
    }
    Ok(())
}
