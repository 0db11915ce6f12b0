//! Walks over the products of a shop. A poll asks for those that changed since the last walk. A sweep takes all of them
//! from a bulk operation; it is the first load, and it finds what no webhook and no poll has shown, deletions above all.
//!
//! Polls go on while Shopify prepares a file, and while sweeps fail.
//!
//! A walk ends before its marks are answered: the marks are durable, and so is how far it came. A sweep stages the products
//! that it finds in the file; one that was read by itself since the operation began, or is marked, is passed over, because
//! the file may be older. The store remembers a product that was deleted for as long as a sweep goes on, for the same
//! reason. One of which nothing is known is marked, unless the sweep is the first load: it may be gone by now. A product that
//! Spaces has and the file has not is marked as well, so that its own read decides: a file
//! that is wrong deletes nothing.
//!
//! A bulk operation goes on at Shopify when the daemon ends. Its id is noted when it is known. One that was begun and not
//! noted makes Shopify refuse another one until it is over.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use super::changes::stage;
use super::objects;
use super::subject::{Catalogue, MUCH_LATER, Retry};
use crate::core::backoff::Backoff;
use crate::core::catalogue::{Bulk, Keep, Pace, Piece, Progress, Rest, Row, Walk, keep};
use crate::core::model::{Cause, MonoTime, PartKey, Source, WallTime};
use crate::core::priority::Priority;
use crate::sources::api::SourceError;
use crate::sources::shopify::bulk::{self, BulkFile, Start};
use crate::sources::shopify::bulk_lines::Found;
use crate::sources::shopify::products::{ChangedSince, Product};

/// Between two looks at the settings.
const LOOK: Duration = Duration::from_secs(60);
/// Between two questions after a bulk operation: soon at first, since most are over soon.
const ASK: Backoff = Backoff { base: Duration::from_millis(500), cap: Duration::from_secs(15) };
/// While as many operations as the shop allows go on.
const BUSY: Duration = Duration::from_secs(30);
/// After a sweep that was not complete.
const SWEEP_AGAIN: Backoff = Backoff { base: Duration::from_secs(30), cap: Duration::from_secs(6 * 60 * 60) };
/// How often the address of a file is asked for once more after the file broke off.
const FILES: u32 = 4;
/// Products of a file that are staged at the same time.
const STAGED_AT_ONCE: usize = 16;
/// No more are staged while so many wait for Spaces.
const MOST_WAITING: usize = 256;
/// Parts that are marked in one go.
const MARKED_AT_ONCE: usize = 256;

/// How the tries of a walk went of late.
#[derive(Default)]
struct Tries {
    failures: u32,
    not_before: MonoTime,
}

impl Tries {
    fn rest(&self) -> Duration {
        self.not_before.since(MonoTime::now())
    }

    fn ended(&mut self, ended: Result<(), Retry>) {
        let Err(retry) = ended else {
            *self = Tries::default();
            return;
        };
        self.not_before = MonoTime::now().plus(retry.wait(self.failures));
        self.failures = self.failures.saturating_add(1);
    }
}

pub(super) async fn follow(catalogue: &Catalogue) {
    let (mut woken, mut polls, mut sweeps) = (catalogue.woken(), Tries::default(), Tries::default());
    let mut operation = Operation::default();
    loop {
        let wait = match progress(catalogue).await {
            Ok(progress) => {
                let is_hurried = catalogue.hurry.swap(false, Ordering::Relaxed);
                if is_hurried {
                    // Whatever comes of the mark: the walk finds the rest.
                    let _ = mark(catalogue, [Piece::Collections]).await;
                }
                let rest = Rest { poll: polls.rest(), sweep: sweeps.rest() };
                let next = progress.next(pace(catalogue), rest, WallTime::now());
                let polls_now = is_hurried && progress.has_polls() && !next.1.is_zero();
                let (walk, wait) = if polls_now { (Walk::Poll, rest.poll) } else { next };
                if wait.is_zero() && !catalogue.context.is_stopping() {
                    match walk {
                        Walk::Poll => polls.ended(poll(catalogue, progress).await),
                        Walk::Sweep => sweeps.ended(sweep(catalogue, progress, &mut operation).await),
                    }
                    continue;
                }
                wait
            }
            Err(retry) => retry.wait(0),
        };
        catalogue.wait(&mut woken, wait.min(LOOK)).await;
    }
}

fn pace(catalogue: &Catalogue) -> Pace {
    let setup = catalogue.context.setup();
    let config = &setup.config.shopify;
    Pace { poll_interval: config.poll_interval, sweep_interval: config.sweep_interval }
}

async fn progress(catalogue: &Catalogue) -> Result<Progress, Retry> {
    Ok(catalogue.context.store.progress(&catalogue.link).await?.of(catalogue.generation))
}

/// Notes how far a walk has come. A link that has another token by now is about to be followed anew.
async fn note(catalogue: &Catalogue, progress: &Progress) -> Result<(), Retry> {
    catalogue.context.store.note_progress(&catalogue.link, catalogue.generation, progress).await?;
    Ok(())
}

async fn mark(catalogue: &Catalogue, pieces: impl IntoIterator<Item = Piece>) -> Result<(), Retry> {
    let parts: Vec<PartKey> =
        pieces.into_iter().map(|piece| PartKey::new(catalogue.link.clone(), piece.part())).collect();
    for parts in parts.chunks(MARKED_AT_ONCE) {
        catalogue.context.store.mark_parts(parts.to_vec(), Cause::Poll).await?;
    }
    catalogue.wake();
    Ok(())
}

/// Marks the products that changed.
async fn poll(catalogue: &Catalogue, mut progress: Progress) -> Result<(), Retry> {
    let began = WallTime::now();
    let mut step = Some(ChangedSince::new(progress.changed_since()));
    while let Some(this) = step {
        let turn = catalogue.context.work(Source::Shopify).enter(Priority::Background).await;
        let shop = &catalogue.shop;
        let page = catalogue.call(async |client, token| client.changed_products(shop, token, &this).await).await;
        drop(turn);
        let (entries, rest) = page?;
        let mut changed = Vec::new();
        for entry in entries {
            progress.saw(&entry.row.updated_at);
            let known = catalogue.context.store.row(&catalogue.link, entry.id.0).await?;
            if known.is_none_or(|row| row.updated_at != entry.row.updated_at) {
                changed.push(Piece::Product(entry.id.0));
            }
        }
        mark(catalogue, changed).await?;
        step = rest;
    }
    progress.polled_at = Some(began);
    note(catalogue, &progress).await
}

/// Takes all products from a bulk operation. While it goes on this ends, to be called again. So it does when the file was
/// taken and what follows fails, which is then tried again without the file.
async fn sweep(catalogue: &Catalogue, mut progress: Progress, operation: &mut Operation) -> Result<(), Retry> {
    let bulk = match progress.bulk.clone() {
        Some(bulk) => bulk,
        None => begin(catalogue, &mut progress).await?,
    };
    if operation.bulk.as_ref() != Some(&bulk) {
        *operation = Operation { bulk: Some(bulk.clone()), ..Operation::default() };
    }
    if operation.swept.is_none() {
        operation.swept = through_file(catalogue, &bulk, &mut operation.asked, progress.swept_at.is_none()).await?;
    }
    end(catalogue, progress, &bulk, operation.swept.as_ref()).await
}

/// What the file of an operation brings; `None` if there is none to be had. Counts in `asked` how often the operation was
/// going on.
async fn through_file(
    catalogue: &Catalogue,
    bulk: &Bulk,
    asked: &mut u32,
    is_first: bool,
) -> Result<Option<Swept>, Retry> {
    let mut files = 0;
    loop {
        files += 1;
        let swept = match file_of(catalogue, bulk).await? {
            State::Running => {
                let wait = ASK.ceiling(*asked);
                *asked = asked.saturating_add(1);
                return Err(Retry::After(wait));
            }
            State::Lost => return Ok(None),
            State::Done(file) => take_file(catalogue, file, bulk, is_first).await,
        };
        match swept {
            Err(_) if files < FILES => {}
            swept => return swept.map(Some),
        }
    }
}

/// The operation is over: what its file brought, where there was one.
async fn end(catalogue: &Catalogue, mut progress: Progress, bulk: &Bulk, swept: Option<&Swept>) -> Result<(), Retry> {
    progress.bulk = None;
    if let Some(swept) = swept {
        progress.polled_at = progress.polled_at.max(Some(bulk.started_at));
        // A product that was written to the file early may have changed before one that was written late.
        let began = bulk.started_at.rfc3339();
        swept.newest.iter().for_each(|newest| progress.saw(newest.min(&began)));
        if swept.is_complete {
            objects::compare(catalogue).await?;
            (progress.swept_at, progress.failures) = (Some(bulk.started_at), 0);
            let (link, shop, products) = (&catalogue.link, &catalogue.shop, swept.products);
            tracing::info!(%link, products, "shop [{shop}]: swept, {products} products");
            return over(catalogue, &progress).await;
        }
    }
    progress.failures = progress.failures.saturating_add(1);
    over(catalogue, &progress).await?;
    Err(Retry::After(SWEEP_AGAIN.ceiling(progress.failures - 1)))
}

/// Notes that no bulk operation goes on. The next one has no product that was gone before.
async fn over(catalogue: &Catalogue, progress: &Progress) -> Result<(), Retry> {
    note(catalogue, progress).await?;
    catalogue.context.store.forget_gone(&catalogue.link, catalogue.generation).await?;
    Ok(())
}

/// How a bulk operation is.
enum State {
    /// It goes on.
    Running,
    /// It is complete; `None` when there is nothing in it.
    Done(Option<Box<BulkFile>>),
    /// It will have no file that can be had: another one is needed.
    Lost,
}

/// What a file brought.
#[derive(Default)]
struct Swept {
    products: usize,
    newest: Option<String>,
    /// Nothing was missing from it.
    is_complete: bool,
}

/// The bulk operation that goes on. Only the memory has this: after a restart the file is taken again.
#[derive(Default)]
struct Operation {
    /// `None` before the first one.
    bulk: Option<Bulk>,
    /// So many times it was asked about and was going on.
    asked: u32,
    /// What its file brought, once that was taken.
    swept: Option<Swept>,
}

async fn begin(catalogue: &Catalogue, progress: &mut Progress) -> Result<Bulk, Retry> {
    mark(catalogue, [Piece::Collections]).await?;
    let (started_at, number) = (WallTime::now(), catalogue.context.store.number().await?);
    let shop = &catalogue.shop;
    match catalogue.call(async |client, token| client.start_bulk(shop, token).await).await? {
        Start::Started(id) => {
            let bulk = Bulk { id, started_at, number };
            progress.bulk = Some(bulk.clone());
            note(catalogue, progress).await?;
            Ok(bulk)
        }
        Start::Busy => Err(Retry::After(BUSY)),
    }
}

/// Asks how the operation is, and opens its file.
async fn file_of(catalogue: &Catalogue, bulk: &Bulk) -> Result<State, Retry> {
    let (link, shop) = (&catalogue.link, &catalogue.shop);
    match catalogue.call(async |client, token| client.bulk_status(shop, token, &bulk.id).await).await? {
        bulk::Bulk::Running { .. } => Ok(State::Running),
        bulk::Bulk::Done { url: None, .. } => Ok(State::Done(None)),
        bulk::Bulk::Done { url: Some(url), objects } => {
            let Some(client) = catalogue.context.setup().shopify.clone() else {
                return Err(Retry::After(MUCH_LATER));
            };
            match client.open_bulk(&url, objects).await.map_err(SourceError::from) {
                Ok(file) => Ok(State::Done(Some(Box::new(file)))),
                Err(error) => match catalogue.failed(&error) {
                    // The same address comes with each answer.
                    Retry::After(MUCH_LATER) => Ok(State::Lost),
                    retry => Err(retry),
                },
            }
        }
        bulk::Bulk::Failed { why, is_denied } => {
            let next = if is_denied { "grant the scope read_products" } else { "it is begun anew" };
            tracing::warn!(%link, "shop [{shop}]: the bulk operation for the sweep failed ({why}); {next}");
            Ok(State::Lost)
        }
        bulk::Bulk::Unknown => Ok(State::Lost),
    }
}

async fn take_file(
    catalogue: &Catalogue,
    file: Option<Box<BulkFile>>,
    bulk: &Bulk,
    is_first: bool,
) -> Result<Swept, Retry> {
    catalogue.is_sweeping.store(true, Ordering::Relaxed);
    let walk = FileWalk { catalogue, number: bulk.number, is_first, seen: Vec::new(), swept: Swept::default() };
    let taken = walk_through(catalogue, walk, file).await;
    catalogue.is_sweeping.store(false, Ordering::Relaxed);
    taken
}

async fn walk_through(
    catalogue: &Catalogue,
    mut walk: FileWalk<'_>,
    file: Option<Box<BulkFile>>,
) -> Result<Swept, Retry> {
    walk.swept.is_complete = true;
    if let Some(mut file) = file
        && let Err(retry) = walk.through(&mut file).await
    {
        // The product that was being read has no line that says so.
        mark(catalogue, file.unfinished().map(|id| Piece::Product(id.0))).await?;
        return Err(retry);
    }
    walk.swept.products = walk.seen.len();
    walk.mark_missing().await?;
    Ok(walk.swept)
}

/// A walk through one file.
struct FileWalk<'a> {
    catalogue: &'a Catalogue,
    /// That of the bulk operation.
    number: u64,
    /// The shop was never swept before.
    is_first: bool,
    /// The numbers of the products in it: eight bytes each, for as long as the sweep goes on.
    seen: Vec<u64>,
    swept: Swept,
}

impl FileWalk<'_> {
    async fn through(&mut self, file: &mut BulkFile) -> Result<(), Retry> {
        let catalogue = self.catalogue;
        let mut staging = FuturesUnordered::new();
        loop {
            let found = file.next().await.map_err(SourceError::from).map_err(|error| catalogue.failed(&error))?;
            match found {
                Some(Found::Product(product)) => {
                    self.saw(&product);
                    staging.push(take_product(catalogue, *product, self.number, self.is_first));
                }
                Some(Found::Incomplete(id)) => {
                    self.seen.push(id.0);
                    mark(catalogue, [Piece::Product(id.0)]).await?;
                }
                Some(Found::Broken { line, why }) => {
                    self.swept.is_complete = false;
                    let (link, shop) = (&catalogue.link, &catalogue.shop);
                    tracing::warn!(
                        %link,
                        line,
                        "shop [{shop}]: line {line} of the file of the sweep cannot be used ({why}); the others are kept, and \
                         the sweep is repeated"
                    );
                }
                None => break,
            }
            if staging.len() >= STAGED_AT_ONCE
                && let Some(staged) = staging.next().await
            {
                staged?;
            }
            if self.seen.len().is_multiple_of(MOST_WAITING) {
                self.let_spaces_catch_up().await?;
            }
        }
        while let Some(staged) = staging.next().await {
            staged?;
        }
        Ok(())
    }

    fn saw(&mut self, product: &Product) {
        self.seen.push(product.id.0);
        let newest = self.swept.newest.get_or_insert_default();
        if newest.as_str() < product.updated_at() {
            *newest = product.updated_at().to_owned();
        }
    }

    async fn let_spaces_catch_up(&self) -> Result<(), Retry> {
        while self.catalogue.context.store.outbox_of(&self.catalogue.link).await? > MOST_WAITING {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// Products that Spaces has and the file has not.
    async fn mark_missing(&mut self) -> Result<(), Retry> {
        self.seen.sort_unstable();
        let seen = std::mem::take(&mut self.seen);
        let missing = move |rows: &mut dyn Iterator<Item = (u64, Row)>| {
            rows.map(|(id, _)| id).filter(|id| seen.binary_search(id).is_err()).map(Piece::Product).collect::<Vec<_>>()
        };
        let missing = self.catalogue.context.store.with_rows(&self.catalogue.link, missing).await?;
        mark(self.catalogue, missing).await
    }
}

/// Stages a product of the file, unless something newer is known of it or about to be.
async fn take_product(catalogue: &Catalogue, product: Product, number: u64, is_first: bool) -> Result<(), Retry> {
    let store = &catalogue.context.store;
    let part = PartKey::new(catalogue.link.clone(), product.id.part());
    if store.mark(&part).await?.is_some() {
        return Ok(());
    }
    let Some(claim) = store.claim(&part, catalogue.generation).await? else { return Err(Retry::Soon) };
    if claim.cause().is_some() {
        return Ok(());
    }
    let known = store.expectation(&part).await?;
    match keep(known.answered, number, is_first) {
        Keep::Leave => return Ok(()),
        Keep::Read => return mark(catalogue, [Piece::Product(product.id.0)]).await,
        Keep::Stage => {}
    }
    let version = catalogue.context.setup().config.shopify.api_version.clone();
    let document = product.document(catalogue.envelope(&version, Cause::Poll));
    if !known.outbox && known.digest == Some(document.digest) {
        return Ok(());
    }
    stage(catalogue, claim, document).await.map(drop)
}
