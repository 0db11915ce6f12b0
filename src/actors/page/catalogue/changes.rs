//! Reads the parts of a catalogue that are marked. A part whose read fails waits by itself, so that it holds no other one up.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use super::subject::{Catalogue, Retry};
use crate::core::catalogue::Piece;
use crate::core::model::{Cause, MonoTime, PartKey, Source, WallTime};
use crate::core::priority::Priority;
use crate::sources::api::Document;
use crate::sources::shopify::ids::ProductId;
use crate::store::{ReadClaim, StageOutcome};

/// Reads of one shop at a time. Its budget allows for no more.
const AT_ONCE: usize = 3;
/// Parts that are looked at in one go.
const MOST: usize = 4096;
/// Without a sign of anything due, marks are looked for this often.
const IDLE: Duration = Duration::from_secs(5 * 60);

/// A part whose read failed.
struct Failed {
    times: u32,
    until: MonoTime,
}

/// What is due of a link.
struct Due {
    /// Parts to be read now.
    ready: Vec<PartKey>,
    /// When the next one is ready.
    next: Duration,
}

pub(super) async fn follow(catalogue: &Catalogue) {
    let mut woken = catalogue.woken();
    let mut failed: HashMap<PartKey, Failed> = HashMap::new();
    let mut running = FuturesUnordered::new();
    loop {
        let due = due(catalogue, &mut failed).await;
        if due.ready.is_empty() {
            catalogue.wait(&mut woken, due.next).await;
            continue;
        }
        for part in due.ready {
            if catalogue.context.is_stopping() {
                break;
            }
            running.push(async move {
                let ended = answer(catalogue, &part).await;
                (part, ended)
            });
            if running.len() >= AT_ONCE {
                note(&mut failed, running.next().await);
            }
        }
        while let Some(ended) = running.next().await {
            note(&mut failed, Some(ended));
        }
    }
}

fn note(failed: &mut HashMap<PartKey, Failed>, ended: Option<(PartKey, Result<(), Retry>)>) {
    match ended {
        Some((part, Ok(()))) => {
            failed.remove(&part);
        }
        Some((part, Err(retry))) => {
            let entry = failed.entry(part).or_insert(Failed { times: 0, until: MonoTime(0) });
            entry.until = MonoTime::now().plus(retry.wait(entry.times));
            entry.times = entry.times.saturating_add(1);
        }
        None => {}
    }
}

/// Marks count when the debounce is over: the events of a burst have one read.
async fn due(catalogue: &Catalogue, failed: &mut HashMap<PartKey, Failed>) -> Due {
    let Ok(marked) = catalogue.context.store.due_parts(&catalogue.link, MOST).await else {
        return Due { ready: Vec::new(), next: crate::actors::STORE_RETRY };
    };
    let debounce = catalogue.context.setup().config.sync.debounce;
    let (now, mono) = (WallTime::now(), MonoTime::now());
    let mut due = Due { ready: Vec::new(), next: IDLE };
    failed.retain(|_, failed| failed.until.plus(IDLE) > mono);
    for (part, since) in marked {
        if Piece::of(&part.part).is_none_or(|piece| piece == Piece::Index) {
            continue;
        }
        let held_back = failed.get(&part).map_or(Duration::ZERO, |failed| failed.until.since(mono));
        // A mark from a moment that lies ahead was made before the clock was set back. Nobody knows how long ago that was.
        let debouncing = if since > now { Duration::ZERO } else { since.plus(debounce).since(now) };
        let wait = held_back.max(debouncing);
        if wait.is_zero() {
            due.ready.push(part);
        } else {
            due.next = due.next.min(wait);
        }
    }
    due
}

/// Reads a part, and stages what is new. A part that is not marked any more, or of another token, is left alone.
async fn answer(catalogue: &Catalogue, part: &PartKey) -> Result<(), Retry> {
    let store = &catalogue.context.store;
    let turn = catalogue.context.work(Source::Shopify).enter(Priority::Prompt).await;
    let Some(claim) = store.claim(part, catalogue.generation).await? else { return Err(Retry::Soon) };
    let Some(cause) = claim.cause() else { return Ok(()) };
    let read = match Piece::of(&part.part) {
        Some(Piece::Collections) => collections(catalogue, cause).await,
        Some(Piece::Product(id)) => product(catalogue, ProductId(id), cause).await,
        Some(Piece::Index) | None => return Ok(()),
    };
    drop(turn);
    match read? {
        Some(document) => stage(catalogue, claim, document).await,
        None => gone(catalogue, claim).await,
    }
}

/// Stages an object. A newer reader that took over has the word.
pub(super) async fn stage(catalogue: &Catalogue, claim: ReadClaim, document: Document) -> Result<(), Retry> {
    let Document { digest, body } = document;
    match catalogue.context.store.stage(claim, digest, body, false).await? {
        StageOutcome::Unchanged => catalogue.context.metrics.object_unchanged(),
        StageOutcome::Staged | StageOutcome::Superseded => {}
    }
    Ok(())
}

async fn collections(catalogue: &Catalogue, cause: Cause) -> Result<Option<Document>, Retry> {
    let setup = catalogue.context.setup();
    let read = catalogue.call(async |client, token| client.read_collections(&catalogue.shop, token).await).await?;
    Ok(Some(read.document(catalogue.envelope(&setup.config.shopify.api_version, cause))))
}

async fn product(catalogue: &Catalogue, id: ProductId, cause: Cause) -> Result<Option<Document>, Retry> {
    let setup = catalogue.context.setup();
    let read = catalogue.call(async |client, token| client.read_product(&catalogue.shop, token, id).await).await?;
    Ok(read.map(|product| product.document(catalogue.envelope(&setup.config.shopify.api_version, cause))))
}

/// The shop has this product no more. Its object is deleted when the index does not name it any more; until then its mark
/// stands.
async fn gone(catalogue: &Catalogue, claim: ReadClaim) -> Result<(), Retry> {
    if catalogue.context.store.drop_row(claim.part(), catalogue.generation).await? {
        catalogue.gone.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(claim);
        catalogue.wake();
    }
    Ok(())
}
