//! Reads the parts of a catalogue that are marked. A part whose read fails waits by itself, so that it holds no other one up.
//! Where one read after the other fails it is the shop that does not answer: then it is asked for one part at a time.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use super::subject::{Catalogue, MUCH_LATER, Retry};
use crate::actors::jitter;
use crate::core::backoff::Backoff;
use crate::core::catalogue::Piece;
use crate::core::model::{Cause, MonoTime, PartKey, Source, WallTime};
use crate::core::priority::Priority;
use crate::sources::api::Document;
use crate::sources::shopify::ids::ProductId;
use crate::store::{ReadClaim, StageOutcome};

/// Reads of one shop at a time. Its budget allows for no more.
const AT_ONCE: usize = 3;
/// Parts that are taken up in one go. A webhook that comes meanwhile waits for no more than these.
const MOST: usize = 32;
/// Without a sign of anything due, marks are looked for this often.
const IDLE: Duration = Duration::from_secs(5 * 60);
/// After so many failures in a row, the shop seems to be what fails.
const MANY: u32 = 6;
/// Between two reads of a shop that fails.
const PAUSE: Backoff = Backoff { base: Duration::from_secs(2), cap: Duration::from_secs(60) };

/// A part whose read failed.
struct Failed {
    times: u32,
    until: MonoTime,
}

/// The reads that failed.
#[derive(Default)]
struct Failures {
    of_parts: HashMap<PartKey, Failed>,
    in_row: u32,
}

/// What is due of a link.
struct Due {
    /// Parts to be read now, with what asked for that.
    ready: Vec<(PartKey, Cause)>,
    /// When the next one is ready.
    next: Duration,
}

pub(super) async fn follow(catalogue: &Catalogue) {
    let mut woken = catalogue.woken();
    let mut failures = Failures::default();
    let mut running = FuturesUnordered::new();
    loop {
        if let Some(pause) = failures.pause() {
            tokio::time::sleep(pause).await;
        }
        let due = due(catalogue, &mut failures).await;
        if due.ready.is_empty() || catalogue.context.is_stopping() {
            catalogue.wait(&mut woken, due.next).await;
            continue;
        }
        let was_failing = failures.are_many();
        for (part, cause) in due.ready {
            if catalogue.context.is_stopping() || failures.are_many() != was_failing {
                break;
            }
            running.push(async move {
                let ended = answer(catalogue, &part, cause).await;
                (part, ended)
            });
            if running.len() >= AT_ONCE
                && let Some((part, ended)) = running.next().await
            {
                failures.note(part, ended);
            }
        }
        while let Some((part, ended)) = running.next().await {
            failures.note(part, ended);
        }
    }
}

impl Failures {
    fn note(&mut self, part: PartKey, ended: Result<(), Retry>) {
        let Err(retry) = ended else {
            self.of_parts.remove(&part);
            self.in_row = 0;
            return;
        };
        // Such an answer is about one part.
        if retry != Retry::After(MUCH_LATER) {
            self.in_row = self.in_row.saturating_add(1);
        }
        let entry = self.of_parts.entry(part).or_insert(Failed { times: 0, until: MonoTime(0) });
        entry.until = MonoTime::now().plus(retry.wait(entry.times));
        entry.times = entry.times.saturating_add(1);
    }

    fn are_many(&self) -> bool {
        self.in_row >= MANY
    }

    fn pause(&self) -> Option<Duration> {
        self.are_many().then(|| PAUSE.delay(self.in_row - MANY, jitter(), None))
    }
}

/// Marks count when the debounce is over: the events of a burst have one read.
async fn due(catalogue: &Catalogue, failures: &mut Failures) -> Due {
    let debounce = catalogue.context.setup().config.sync.debounce;
    let (now, mono) = (WallTime::now(), MonoTime::now());
    failures.of_parts.retain(|_, failed| failed.until.plus(IDLE) > mono);
    let most = if failures.are_many() { 1 } else { MOST };
    let mut next = IDLE;
    let is_ready = |part: &PartKey, since: WallTime| {
        if Piece::of(&part.part).is_none_or(|piece| piece == Piece::Index) {
            return false;
        }
        let held_back = failures.of_parts.get(part).map_or(Duration::ZERO, |failed| failed.until.since(mono));
        // A mark from a moment that lies ahead was made before the clock was set back. Nobody knows how long ago that was.
        let debouncing = if since > now { Duration::ZERO } else { since.plus(debounce).since(now) };
        let wait = held_back.max(debouncing);
        if !wait.is_zero() {
            next = next.min(wait);
        }
        wait.is_zero()
    };
    match catalogue.context.store.due_parts(&catalogue.link, most, is_ready).await {
        Ok(ready) => Due { ready, next },
        Err(_) => Due { ready: Vec::new(), next: crate::actors::STORE_RETRY },
    }
}

/// Reads a part, and stages what is new. A part that is not marked any more, or of another token, is left alone.
async fn answer(catalogue: &Catalogue, part: &PartKey, cause: Cause) -> Result<(), Retry> {
    let store = &catalogue.context.store;
    // Thousands of parts may be due that a walk has found, and other shops have webhooks.
    let priority = if cause == Cause::Poll { Priority::Background } else { Priority::Prompt };
    let turn = catalogue.context.work(Source::Shopify).enter(priority).await;
    let Some(claim) = store.claim(part, catalogue.generation).await? else { return Err(Retry::Soon) };
    let Some(cause) = claim.cause() else { return Ok(()) };
    let read = match Piece::of(&part.part) {
        Some(Piece::Collections) => collections(catalogue, cause).await,
        Some(Piece::Product(id)) => product(catalogue, ProductId(id), cause).await,
        Some(Piece::Index) | None => return Ok(()),
    };
    drop(turn);
    match read? {
        Some(document) => stage(catalogue, claim, document).await.map(drop),
        None => gone(catalogue, claim).await,
    }
}

/// Stages an object. A newer reader that took over has the word.
pub(super) async fn stage(catalogue: &Catalogue, claim: ReadClaim, document: Document) -> Result<StageOutcome, Retry> {
    let Document { digest, body } = document;
    let outcome = catalogue.context.store.stage(claim, digest, body, false).await?;
    if outcome == StageOutcome::Unchanged {
        catalogue.context.metrics.object_unchanged();
    }
    Ok(outcome)
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
    if catalogue.context.store.drop_row(&claim, catalogue.generation).await? {
        catalogue.gone.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(claim);
        catalogue.wake();
    }
    Ok(())
}
