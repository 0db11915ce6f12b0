//! The loops over the catalogue of a link: `src/actors/page/catalogue` step by step, without HTTP and tokio. What they decide
//! with is the store's own, and the progress of walks is that of [`pagesyncd::core::catalogue`].

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join3;
use futures_util::stream::FuturesUnordered;
use pagesyncd::core::backoff::Backoff;
use pagesyncd::core::catalogue::{Bulk, Keep, Pace, Piece, Progress, Rest, Row, Walk, keep};
use pagesyncd::core::model::{Cause, Generation, LinkKey, PartKey, WallTime};
use pagesyncd::store::{ReadClaim, StageOutcome, Unavailable};
use tokio::sync::watch;

use super::bucket::Body;
use super::process::{Process, wait};
use super::shopify::{BulkState, Failed, Version};
use super::world::World;

const AT_ONCE: usize = 3;
const STAGED_AT_ONCE: usize = 3;
const IDLE: u64 = 5 * 60_000;
const QUIET: u64 = 500;
const PATIENCE: u64 = 15_000;
const PATIENCE_IN_SWEEP: u64 = 60_000;
const LISTING_LOOK: u64 = 200;
const FILES: u32 = 4;
const LATER: Duration = Duration::from_secs(60);
const RETRY: Backoff = Backoff { base: Duration::from_secs(2), cap: Duration::from_secs(5 * 60) };
const ASK: Backoff = Backoff { base: Duration::from_millis(500), cap: Duration::from_secs(15) };
const BUSY: Duration = Duration::from_secs(30);
const SWEEP_AGAIN: Backoff = Backoff { base: Duration::from_secs(30), cap: Duration::from_secs(6 * 60 * 60) };
/// Objects of one list of the bucket.
const LISTED: usize = 3;

/// The task that follows a catalogue.
pub struct Follower {
    pub generation: Generation,
    pub task: u64,
    wake: watch::Sender<u64>,
}

#[derive(Debug, Clone, Copy)]
enum Retry {
    Soon,
    After(Duration),
}

impl From<Unavailable> for Retry {
    fn from(_: Unavailable) -> Retry {
        Retry::After(Duration::from_secs(1))
    }
}

/// What the loops share.
struct Catalogue {
    world: Rc<World>,
    process: Rc<Process>,
    l: usize,
    link: LinkKey,
    generation: Generation,
    wake: watch::Sender<u64>,
    is_sweeping: Cell<bool>,
    gone: RefCell<Vec<ReadClaim>>,
}

impl Follower {
    pub fn begin(world: &Rc<World>, process: &Rc<Process>, l: usize, generation: Generation) -> Follower {
        let wake = watch::Sender::new(0);
        let catalogue = Catalogue {
            world: world.clone(),
            process: process.clone(),
            l,
            link: world.links[l].clone(),
            generation,
            wake: wake.clone(),
            is_sweeping: Cell::new(false),
            gone: RefCell::default(),
        };
        let task = world.executor.spawn(process.life, async move {
            join3(catalogue.changes(), catalogue.walks(), catalogue.listing()).await;
        });
        Follower { generation, task, wake }
    }

    pub fn wake(&self) {
        self.wake.send_modify(|times| *times += 1);
    }
}

impl Catalogue {
    fn wake(&self) {
        self.wake.send_modify(|times| *times += 1);
    }

    fn delay(&self, retry: Retry, failures: u32) -> u64 {
        let hint = match retry {
            Retry::Soon => None,
            Retry::After(wait) => Some(wait),
        };
        RETRY.delay(failures, self.world.unit(), hint).as_millis() as u64
    }

    fn part(&self, piece: Piece) -> PartKey {
        PartKey::new(self.link.clone(), piece.part())
    }

    /// Calls Shopify with the token of this moment.
    async fn call<T>(&self, what: impl AsyncFnOnce(usize, u64) -> Result<T, Failed>) -> Result<T, Retry> {
        let shop = self.world.shop_of(self.l);
        let access = match self.process.access_token(&self.world, shop).await {
            Ok(access) => access,
            Err(failed) => return Err(self.failed(failed)),
        };
        what(shop, access.token).await.map_err(|failed| self.failed(failed))
    }

    fn failed(&self, failed: Failed) -> Retry {
        match failed {
            Failed::Retry | Failed::Local => Retry::Soon,
            Failed::Throttled(ms) => Retry::After(Duration::from_millis(ms)),
            Failed::Refused | Failed::RefreshEnded => {
                let (world, process, l) = (self.world.clone(), self.process.clone(), self.l);
                let mut checks = self.process.checks.borrow_mut();
                if checks.get(&l).is_none_or(|check| !world.executor.is_alive(*check)) {
                    checks.insert(l, self.world.executor.spawn(self.process.life, process.check(world, l)));
                }
                Retry::After(LATER)
            }
        }
    }

    fn body(&self, version: Version, rows: BTreeMap<u64, u64>) -> Body {
        Body { id: self.world.executor.fresh(), version, rows }
    }

    async fn stage(&self, claim: ReadClaim, body: Body) -> Result<(), Retry> {
        let part = claim.part().clone();
        let outcome = self.process.store.stage(claim, body.digest(), body.to_bytes().into(), false).await?;
        self.world.note(|| format!("staged {part} {body:?}: {outcome:?}"));
        Ok(())
    }

    // Parts that are marked.

    async fn changes(&self) {
        let mut woken = self.wake.subscribe();
        let mut failed: BTreeMap<PartKey, (u32, u64)> = BTreeMap::new();
        let mut running = FuturesUnordered::new();
        let note = |failed: &mut BTreeMap<PartKey, (u32, u64)>, ended: Option<(PartKey, Result<(), Retry>)>| match ended
        {
            Some((part, Ok(()))) => drop(failed.remove(&part)),
            Some((part, Err(retry))) => {
                let entry = failed.entry(part).or_default();
                *entry = (entry.0 + 1, self.world.now() + self.delay(retry, entry.0));
            }
            None => {}
        };
        loop {
            let (ready, next) = self.due(&failed).await;
            if ready.is_empty() {
                wait(&self.world, &mut woken, next).await;
                continue;
            }
            for part in ready {
                running.push(async move {
                    let ended = self.answer(&part).await;
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

    async fn due(&self, failed: &BTreeMap<PartKey, (u32, u64)>) -> (Vec<PartKey>, u64) {
        let (mut next, now) = (IDLE, self.world.now());
        let is_ready = |part: &PartKey, since: WallTime| {
            if Piece::of(&part.part).is_none_or(|piece| piece == Piece::Index) {
                return false;
            }
            let held_back = failed.get(part).map_or(0, |(_, until)| until.saturating_sub(now));
            let debounce = (since.0 + self.world.plan.debounce).saturating_sub(now).min(self.world.plan.debounce);
            let wait = held_back.max(debounce);
            if wait > 0 {
                next = next.min(wait);
            }
            wait == 0
        };
        let Ok(marked) = self.process.store.due_parts(&self.link, 32, is_ready).await else {
            return (Vec::new(), 1_000);
        };
        (marked.into_iter().map(|(part, _)| part).collect(), next)
    }

    async fn answer(&self, part: &PartKey) -> Result<(), Retry> {
        let store = &self.process.store;
        let Some(claim) = store.claim(part, self.generation).await? else { return Err(Retry::Soon) };
        if claim.cause().is_none() {
            return Ok(());
        }
        let read = match Piece::of(&part.part) {
            Some(Piece::Collections) => {
                let read = async |shop, token| self.world.read_collections(shop, token).await;
                Some(self.call(read).await?)
            }
            Some(Piece::Product(id)) => {
                self.call(async |shop, token| self.world.read_product(shop, token, id).await).await?
            }
            Some(Piece::Index) | None => return Ok(()),
        };
        self.world.note(|| format!("read {part}: {read:?}"));
        match read {
            Some(version) => self.stage(claim, self.body(version, BTreeMap::new())).await,
            None => {
                if store.drop_row(&claim, self.generation).await? {
                    self.gone.borrow_mut().push(claim);
                    self.wake();
                }
                Ok(())
            }
        }
    }

    // The index.

    async fn listing(&self) {
        let part = self.part(Piece::Index);
        let (mut woken, mut failures, mut due_since) = (self.wake.subscribe(), 0, None);
        loop {
            let done = match self.next_listing(&part, &mut due_since).await {
                Ok(Some(most)) if most > 0 => {
                    wait(&self.world, &mut woken, most).await;
                    continue;
                }
                Ok(Some(_)) => self.write_index(&part).await,
                Ok(None) => self.retire().await,
                Err(retry) => Err(retry),
            };
            match done {
                Ok(()) => (failures, due_since) = (0, None),
                Err(retry) => {
                    let wait = self.delay(retry, failures);
                    failures += 1;
                    self.world.sleep(wait).await;
                }
            }
        }
    }

    /// How long to wait, 0 to write the index now, or `None` to retire what is gone.
    async fn next_listing(&self, part: &PartKey, due_since: &mut Option<u64>) -> Result<Option<u64>, Retry> {
        let store = &self.process.store;
        let has_gone = !self.gone.borrow().is_empty();
        if store.mark(part).await?.is_none_or(|mark| mark.is_claimed) {
            *due_since = None;
            return Ok(match has_gone {
                true if store.is_complete(part).await? => None,
                true => Some(LISTING_LOOK),
                false => Some(IDLE),
            });
        }
        let now = self.world.now();
        let waited = now - *due_since.get_or_insert(now);
        let is_sweeping = self.is_sweeping.get();
        let patience = if is_sweeping { PATIENCE_IN_SWEEP } else { PATIENCE };
        let products_wait = is_sweeping || store.outbox_of(&self.link).await? > 0;
        if waited < QUIET || (products_wait && waited < patience) {
            return Ok(Some(LISTING_LOOK));
        }
        Ok(Some(0))
    }

    async fn write_index(&self, part: &PartKey) -> Result<(), Retry> {
        let store = &self.process.store;
        let Some(claim) = store.claim(part, self.generation).await? else { return Err(Retry::Soon) };
        let content = |(id, row): (u64, Row)| (id, row.title.parse().expect("a number"));
        let rows = store.with_rows(&self.link, move |rows| rows.map(content).collect::<BTreeMap<u64, u64>>());
        let rows = rows.await?;
        self.world.figures.borrow_mut().indexes += 1;
        let version = Version { revision: self.generation.0, ..super::NOTHING };
        self.stage(claim, self.body(version, rows)).await
    }

    async fn retire(&self) -> Result<(), Retry> {
        let gone = std::mem::take(&mut *self.gone.borrow_mut());
        for claim in gone {
            let part = claim.part().clone();
            let outcome = self.process.store.retire(claim).await?;
            self.world.note(|| format!("retired {part}: {outcome:?}"));
            self.world.figures.borrow_mut().retired += u64::from(outcome == StageOutcome::Staged);
        }
        Ok(())
    }

    // Walks.

    async fn walks(&self) {
        let (mut woken, mut failures, mut not_before) = (self.wake.subscribe(), 0, 0);
        let plan = &self.world.plan;
        let pace =
            Pace { poll_interval: Duration::from_millis(plan.poll), sweep_interval: Duration::from_millis(plan.sweep) };
        loop {
            let now = self.world.now();
            let wait = match self.progress().await {
                Ok(progress) => {
                    let (walk, left) = progress.next(pace, Rest::default(), self.world.wall());
                    let wait = (left.as_millis() as u64).max(not_before - now.min(not_before));
                    if wait == 0 {
                        match self.walk(walk, progress).await {
                            Ok(()) => failures = 0,
                            Err(retry) => {
                                not_before = self.world.now() + self.delay(retry, failures);
                                failures += 1;
                            }
                        }
                        continue;
                    }
                    wait
                }
                Err(retry) => self.delay(retry, 0),
            };
            super::process::wait(&self.world, &mut woken, wait).await;
        }
    }

    async fn progress(&self) -> Result<Progress, Retry> {
        Ok(self.process.store.progress(&self.link).await?.of(self.generation))
    }

    async fn walk(&self, walk: Walk, progress: Progress) -> Result<(), Retry> {
        match walk {
            Walk::Poll => self.poll(progress).await,
            Walk::Sweep => {
                self.is_sweeping.set(true);
                let done = self.sweep(progress).await;
                self.is_sweeping.set(false);
                done
            }
        }
    }

    async fn note_progress(&self, progress: &Progress) -> Result<(), Retry> {
        self.process.store.note_progress(&self.link, self.generation, progress).await?;
        Ok(())
    }

    async fn mark(&self, pieces: impl IntoIterator<Item = Piece>) -> Result<(), Retry> {
        let parts = pieces.into_iter().map(|piece| self.part(piece)).collect();
        self.process.store.mark_parts(parts, Cause::Poll).await?;
        self.wake();
        Ok(())
    }

    async fn poll(&self, mut progress: Progress) -> Result<(), Retry> {
        let (began, since) = (self.world.wall(), progress.changed_since());
        let changed = self.call(async |shop, token| self.world.changed_products(shop, token, since).await).await?;
        let mut marks = Vec::new();
        for (id, version) in changed {
            let updated_at = version.at.rfc3339();
            progress.saw(&updated_at);
            let known = self.process.store.row(&self.link, id).await?;
            if known.is_none_or(|row| row.updated_at != updated_at) {
                marks.push(Piece::Product(id));
            }
        }
        self.mark(marks).await?;
        progress.polled_at = Some(began);
        self.note_progress(&progress).await
    }

    async fn sweep(&self, mut progress: Progress) -> Result<(), Retry> {
        self.mark([Piece::Collections]).await?;
        let bulk = match progress.bulk.clone() {
            Some(bulk) => bulk,
            None => self.begin_bulk(&mut progress).await?,
        };
        let mut swept = Err(Retry::Soon);
        for _ in 0..FILES {
            swept = match self.file_of(&bulk).await {
                Ok(Some(file)) => self.take_file(file, bulk.number, &mut progress).await.map(Some),
                Ok(None) => Ok(None),
                Err(retry) => Err(retry),
            };
            if swept.is_ok() {
                break;
            }
        }
        let swept = swept?;
        (progress.bulk, progress.polled_at) = (None, Some(bulk.started_at));
        if swept == Some(true) {
            self.compare().await?;
            (progress.swept_at, progress.failures) = (Some(bulk.started_at), 0);
            self.world.figures.borrow_mut().sweeps += 1;
            self.world.note(|| format!("link {}: swept as of {:?}", self.l, bulk.started_at));
            return self.over(&progress).await;
        }
        progress.failures += 1;
        self.over(&progress).await?;
        Err(Retry::After(SWEEP_AGAIN.ceiling(progress.failures - 1)))
    }

    async fn over(&self, progress: &Progress) -> Result<(), Retry> {
        self.note_progress(progress).await?;
        self.process.store.forget_gone(&self.link, self.generation).await?;
        Ok(())
    }

    async fn begin_bulk(&self, progress: &mut Progress) -> Result<Bulk, Retry> {
        let (started_at, number) = (self.world.wall(), self.process.store.number().await?);
        let begun = self.call(async |shop, token| self.world.start_bulk(shop, token).await).await?;
        let Some(operation) = begun else { return Err(Retry::After(BUSY)) };
        let bulk = Bulk { id: operation.to_string(), started_at, number };
        progress.bulk = Some(bulk.clone());
        self.note_progress(progress).await?;
        Ok(bulk)
    }

    /// What the operation brought; `None` when it brings nothing.
    async fn file_of(&self, bulk: &Bulk) -> Result<Option<Vec<(u64, Version)>>, Retry> {
        let number = bulk.id.parse().expect("a number");
        for asked in 0.. {
            let state = self.call(async |shop, token| self.world.bulk_state(shop, token, number).await).await?;
            match state {
                BulkState::Running => self.world.sleep(ASK.ceiling(asked).as_millis() as u64).await,
                BulkState::Done(file) => return Ok(Some(file)),
                BulkState::Failed => return Ok(None),
            }
        }
        Ok(None)
    }

    /// Returns whether nothing was missing from the file.
    async fn take_file(&self, file: Vec<(u64, Version)>, number: u64, progress: &mut Progress) -> Result<bool, Retry> {
        let is_first = progress.swept_at.is_none();
        let (mut seen, mut is_complete) = (BTreeSet::new(), true);
        let mut staging = FuturesUnordered::new();
        let faults = if self.world.is_quiet() { 0 } else { 2 };
        for (id, version) in file {
            let wait = self.world.below(30);
            self.world.sleep(wait).await;
            if self.world.percent(faults) {
                // The file breaks off within this product.
                self.mark([Piece::Product(id)]).await?;
                return Err(Retry::Soon);
            }
            if self.world.percent(faults) {
                // A line that cannot be used.
                is_complete = false;
                continue;
            }
            seen.insert(id);
            progress.saw(&version.at.rfc3339());
            staging.push(self.take_product(id, version, number, is_first));
            if staging.len() >= STAGED_AT_ONCE
                && let Some(staged) = staging.next().await
            {
                staged?;
            }
        }
        while let Some(staged) = staging.next().await {
            staged?;
        }
        let missing = move |rows: &mut dyn Iterator<Item = (u64, Row)>| {
            rows.map(|(id, _)| id).filter(|id| !seen.contains(id)).map(Piece::Product).collect::<Vec<_>>()
        };
        let missing = self.process.store.with_rows(&self.link, missing).await?;
        self.mark(missing).await?;
        Ok(is_complete)
    }

    /// Stages a product of the file, unless something newer is known of it or about to be.
    async fn take_product(&self, id: u64, version: Version, number: u64, is_first: bool) -> Result<(), Retry> {
        let (store, part) = (&self.process.store, self.part(Piece::Product(id)));
        if store.mark(&part).await?.is_some() {
            return Ok(());
        }
        let Some(claim) = store.claim(&part, self.generation).await? else { return Err(Retry::Soon) };
        if claim.cause().is_some() {
            return Ok(());
        }
        let known = store.expectation(&part).await?;
        match keep(known.answered, number, is_first) {
            Keep::Leave => return Ok(()),
            Keep::Read => return self.mark([Piece::Product(id)]).await,
            Keep::Stage => {}
        }
        let body = self.body(version, BTreeMap::new());
        if !known.outbox && known.digest == Some(body.digest()) {
            return Ok(());
        }
        self.world.note(|| format!("keeps {part} of the file, known {known:?}"));
        self.stage(claim, body).await
    }

    // The objects in Spaces.

    async fn compare(&self) -> Result<(), Retry> {
        let store = &self.process.store;
        let (mut seen, mut after): (BTreeSet<PartKey>, Option<PartKey>) = (BTreeSet::new(), None);
        loop {
            let Some(listed) = self.world.list(&self.link, after.as_ref()).await else { return Ok(()) };
            let Some((last, _)) = listed.last() else { break };
            after = Some(last.clone());
            let parts: Vec<PartKey> = listed.iter().map(|(part, _)| part.clone()).collect();
            seen.extend(parts.iter().cloned());
            let (mut altered, mut unknown) = (Vec::new(), Vec::new());
            for ((part, synced), (_, etag)) in store.synced_of(parts).await?.into_iter().zip(&listed) {
                match synced {
                    Some(synced) if synced.digest.is_none() => unknown.push(part),
                    Some(synced) if synced.etag.as_ref() == Some(etag) => {}
                    Some(_) => altered.push(part),
                    None => unknown.push(part),
                }
            }
            self.repair(altered).await?;
            store.mark_parts(unknown, Cause::Poll).await?;
        }
        let ids = |rows: &mut dyn Iterator<Item = (u64, Row)>| rows.map(|(id, _)| Piece::Product(id)).collect();
        let rows: Vec<Piece> = store.with_rows(&self.link, ids).await?;
        let pieces = rows.into_iter().chain([Piece::Collections, Piece::Index]);
        self.repair(pieces.map(|piece| self.part(piece)).filter(|part| !seen.contains(part)).collect()).await?;
        self.wake();
        Ok(())
    }

    async fn repair(&self, parts: Vec<PartKey>) -> Result<(), Retry> {
        let (store, mut wrong) = (&self.process.store, Vec::new());
        for part in parts {
            let expected = store.expectation(&part).await?;
            if expected.digest.is_none() || expected.outbox {
                continue;
            }
            let Some(head) = self.world.head(&part).await else { return Err(Retry::Soon) };
            if head != expected.etag && store.expectation(&part).await? == expected {
                wrong.push(part);
            }
        }
        self.world.note(|| format!("link {}: wrong in Spaces: {wrong:?}", self.l));
        if !wrong.is_empty() {
            store.distrust(&wrong).await?;
        }
        Ok(())
    }
}

impl World {
    /// Objects of a link behind one of them, with their tags; `None` when Spaces is away.
    async fn list(self: &Rc<Self>, link: &LinkKey, after: Option<&PartKey>) -> Option<Vec<(PartKey, String)>> {
        self.looks().await?;
        let objects = &self.bucket.borrow().objects;
        let of_link = objects.iter().filter(|(part, _)| part.link == *link && after.is_none_or(|after| *part > after));
        Some(of_link.take(LISTED).map(|(part, body)| (part.clone(), body.id.to_string())).collect())
    }

    /// The tag of an object.
    async fn head(self: &Rc<Self>, part: &PartKey) -> Option<Option<String>> {
        self.looks().await?;
        Some(self.bucket.borrow().objects.get(part).map(|body| body.id.to_string()))
    }

    async fn looks(self: &Rc<Self>) -> Option<()> {
        let took = self.between(5, 200);
        self.sleep(took).await;
        (self.wall() >= self.spaces.borrow().down_until).then_some(())
    }
}
