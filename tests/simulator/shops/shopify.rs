//! Shopify as seen from the daemon: shops with products and collections that change, token pairs with Shopify's rules, bulk
//! operations that go through the products one after the other, and calls that are slow, refused, lost or answered late.
//!
//! A refresh ends the refresh token that it used. The same refresh token brings the same pair again until that pair is used.
//! A grant ends every token before it. An access token is good for its hour.

use std::collections::BTreeMap;
use std::rc::Rc;

use pagesyncd::core::model::WallTime;

use super::world::World;

/// How long an access token lives.
pub const HOUR: u64 = 3_600_000;
/// How long the daemon waits for Shopify.
const TIMEOUT: u64 = 20_000;
/// Bulk operations that a shop allows at a time.
const BULKS: usize = 2;

/// The state of a product, or of all collections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version {
    /// Grows with each change of anything in the shop.
    pub revision: u64,
    /// What it shows: the same number is the same data.
    pub content: u64,
    /// When it changed.
    pub at: WallTime,
}

/// Both tokens, by number; the access token's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tokens {
    pub number: u64,
    pub ends_at: u64,
}

/// The app on a shop.
#[derive(Debug, Default)]
pub struct App {
    pub installed: bool,
    /// The pair whose refresh token is good.
    pub pair: Option<Tokens>,
    /// A refresh token that was used, by the number of its pair, and may bring the newest pair once more.
    pub retry: Option<u64>,
    /// Access tokens that are good, by number, with their ends.
    access: BTreeMap<u64, u64>,
    /// A grant was made that the daemon has not stored.
    pub orphaned: bool,
    /// Which pairs bring another one is not the same as when this was looked at last.
    pub is_changed: bool,
}

impl App {
    /// Does the refresh token of the pair with this number bring a pair?
    pub fn exchanges(&self, pair: u64) -> bool {
        self.installed && (self.retry == Some(pair) || self.pair.is_some_and(|held| held.number == pair))
    }

    /// A merchant installs the app: the pairs before are dead.
    pub fn grant(&mut self, tokens: Tokens) {
        *self = App { installed: true, pair: Some(tokens), orphaned: true, is_changed: true, ..App::default() };
        self.access.insert(tokens.number, tokens.ends_at);
    }

    pub fn uninstall(&mut self) {
        *self = App::default();
    }

    /// A refresh token is used.
    fn refresh(&mut self, pair: u64, new: Tokens) -> Option<Tokens> {
        if !self.exchanges(pair) {
            return None;
        }
        if self.retry == Some(pair) {
            return self.pair;
        }
        self.access.insert(new.number, new.ends_at);
        (self.retry, self.pair, self.is_changed) = (Some(pair), Some(new), true);
        Some(new)
    }

    /// An access token is used. Returns whether it is good.
    fn uses(&mut self, pair: u64, now: u64) -> bool {
        if self.pair.is_some_and(|held| held.number == pair) {
            self.is_changed |= self.retry.take().is_some();
        }
        self.installed && self.access.get(&pair).is_some_and(|ends_at| *ends_at > now)
    }
}

/// A bulk operation.
#[derive(Debug, Default)]
struct Bulk {
    found: BTreeMap<u64, Version>,
    is_over: bool,
    is_failed: bool,
}

/// One shop.
#[derive(Debug, Default)]
pub struct Shop {
    pub products: BTreeMap<u64, Version>,
    /// Products that were deleted, with the revision of that.
    pub gone: BTreeMap<u64, u64>,
    pub collections: Option<Version>,
    pub app: App,
    bulks: BTreeMap<u64, Bulk>,
    contents: u64,
    revision: u64,
}

impl Shop {
    fn version(&mut self, content: u64, now: u64) -> Version {
        self.revision += 1;
        Version { revision: self.revision, content, at: WallTime(now) }
    }

    fn content(&mut self, before: Option<u64>, is_back: bool) -> u64 {
        match before.filter(|_| is_back) {
            Some(before) => before.saturating_sub(1).max(1),
            None => {
                self.contents += 2;
                self.contents
            }
        }
    }

    /// A product changes, or is new; `is_back` to what it once was, as likely as not.
    pub fn change_product(&mut self, id: u64, is_back: bool, now: u64) {
        let before = self.products.get(&id).map(|version| version.content);
        let content = self.content(before, is_back);
        let version = self.version(content, now);
        self.products.insert(id, version);
    }

    pub fn delete_product(&mut self, id: u64) {
        if self.products.remove(&id).is_some() {
            self.revision += 1;
            self.gone.insert(id, self.revision);
        }
    }

    pub fn change_collections(&mut self, is_back: bool, now: u64) {
        let content = self.content(self.collections.map(|version| version.content), is_back);
        self.collections = Some(self.version(content, now));
    }
}

/// Why a call brought nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failed {
    /// It may be tried again.
    Retry,
    /// It may be tried again after this, in milliseconds.
    Throttled(u64),
    /// The access token is refused.
    Refused,
    /// The refresh token is refused.
    RefreshEnded,
    /// The shop has no pair, or another one by now, or the store is away.
    Local,
}

/// What goes wrong at Shopify.
#[derive(Debug, Default)]
pub struct Faults {
    pub down_until: u64,
    pub throttled_until: u64,
    pub slow_until: u64,
    /// Percent of calls whose answer is lost.
    pub lost: u64,
}

/// Where a bulk operation stands.
pub enum BulkState {
    Running,
    Done(Vec<(u64, Version)>),
    Failed,
}

impl World {
    /// A call to a shop: `work` is done when it arrives there, if it does.
    async fn call<T: 'static>(self: &Rc<Self>, work: impl FnOnce(&World) -> T + 'static) -> Result<T, Failed> {
        self.figures.borrow_mut().calls += 1;
        let (down, throttled, slow, lost) = {
            let (faults, now) = (self.faults.borrow(), self.now());
            (now < faults.down_until, now < faults.throttled_until, now < faults.slow_until, faults.lost)
        };
        let most = if slow { 15_000 } else { 300 };
        let took = self.between(5, most);
        if down {
            self.sleep(if self.percent(50) { TIMEOUT } else { took }).await;
            return Err(Failed::Retry);
        }
        if throttled {
            self.sleep(took).await;
            return Err(Failed::Throttled(self.between(500, 4_000)));
        }
        if self.percent(lost) {
            if self.percent(70) {
                // It arrives all the same, perhaps when nobody waits any more.
                let (world, after) = (self.clone(), self.below(2 * TIMEOUT));
                self.outside(async move {
                    world.sleep(after).await;
                    drop(work(&world));
                    world.check_pairs();
                });
            }
            self.sleep(if self.percent(50) { TIMEOUT } else { took }).await;
            return Err(Failed::Retry);
        }
        let arrives = self.below(took + 1);
        self.sleep(arrives).await;
        let answer = work(self);
        self.check_pairs();
        self.sleep(took - arrives).await;
        Ok(answer)
    }

    /// A call with an access token.
    async fn ask<T: 'static>(
        self: &Rc<Self>,
        shop: usize,
        token: u64,
        work: impl FnOnce(&World, &mut Shop) -> T + 'static,
    ) -> Result<T, Failed> {
        let answer = self.call(move |world| {
            let now = world.now();
            let shop = &mut world.shops.borrow_mut()[shop];
            shop.app.uses(token, now).then(|| work(world, shop))
        });
        answer.await?.ok_or(Failed::Refused)
    }

    pub async fn read_product(self: &Rc<Self>, shop: usize, token: u64, id: u64) -> Result<Option<Version>, Failed> {
        self.ask(shop, token, move |_, shop| shop.products.get(&id).copied()).await
    }

    pub async fn read_collections(self: &Rc<Self>, shop: usize, token: u64) -> Result<Version, Failed> {
        self.ask(shop, token, |_, shop| shop.collections.expect("a shop has collections")).await
    }

    /// Does the access token work?
    pub async fn ask_shop(self: &Rc<Self>, shop: usize, token: u64) -> Result<(), Failed> {
        self.ask(shop, token, |_, _| ()).await
    }

    /// Products that changed from this moment on.
    pub async fn changed_products(
        self: &Rc<Self>,
        shop: usize,
        token: u64,
        since: Option<String>,
    ) -> Result<Vec<(u64, Version)>, Failed> {
        let changed = move |version: &Version| since.as_ref().is_none_or(|since| version.at.rfc3339() >= *since);
        let list = move |_: &World, shop: &mut Shop| {
            shop.products.iter().filter(|(_, version)| changed(version)).map(|(id, v)| (*id, *v)).collect()
        };
        self.ask(shop, token, list).await
    }

    /// Begins a bulk operation, and returns its number; `None` while as many as are allowed go on.
    pub async fn start_bulk(self: &Rc<Self>, shop: usize, token: u64) -> Result<Option<u64>, Failed> {
        let world = self.clone();
        let start = move |_: &World, it: &mut Shop| {
            if it.bulks.values().filter(|bulk| !bulk.is_over).count() >= BULKS {
                return None;
            }
            let number = world.executor.fresh();
            it.bulks.insert(number, Bulk::default());
            world.outside(world.clone().go_through(shop, number));
            Some(number)
        };
        self.ask(shop, token, start).await
    }

    /// Each product is taken down as it is when its turn comes.
    async fn go_through(self: Rc<Self>, shop: usize, number: u64) {
        let mut after = None;
        let pause = self.between(1, self.plan.bulk_pause);
        loop {
            let wait = self.below(2 * pause);
            self.sleep(wait).await;
            let is_failed = self.percent(1) && !self.is_quiet();
            let shop = &mut self.shops.borrow_mut()[shop];
            let next = shop.products.iter().find(|(id, _)| after.is_none_or(|after| **id > after));
            let next = next.map(|(id, version)| (*id, *version));
            let Some(bulk) = shop.bulks.get_mut(&number) else { return };
            match next {
                Some((id, version)) => drop(bulk.found.insert(id, version)),
                None => bulk.is_over = true,
            }
            bulk.is_failed |= is_failed;
            bulk.is_over |= is_failed;
            if bulk.is_over {
                return;
            }
            after = next.map(|(id, _)| id);
        }
    }

    pub async fn bulk_state(self: &Rc<Self>, shop: usize, token: u64, number: u64) -> Result<BulkState, Failed> {
        let look = move |_: &World, shop: &mut Shop| match shop.bulks.get(&number) {
            None => BulkState::Failed,
            Some(bulk) if bulk.is_failed => BulkState::Failed,
            Some(bulk) if bulk.is_over => BulkState::Done(bulk.found.iter().map(|(id, v)| (*id, *v)).collect()),
            Some(_) => BulkState::Running,
        };
        self.ask(shop, token, look).await
    }

    /// Uses the refresh token of the pair with this number.
    pub async fn refresh(self: &Rc<Self>, shop: usize, pair: u64) -> Result<Tokens, Failed> {
        self.figures.borrow_mut().refreshes += 1;
        let answer = self.call(move |world| {
            let new = world.new_tokens();
            world.shops.borrow_mut()[shop].app.refresh(pair, new)
        });
        answer.await?.ok_or(Failed::RefreshEnded)
    }

    /// A merchant installs the app: its code is exchanged for a pair.
    pub async fn exchange_code(self: &Rc<Self>, shop: usize) -> Result<Tokens, Failed> {
        let grant = move |world: &World| {
            let tokens = world.new_tokens();
            world.shops.borrow_mut()[shop].app.grant(tokens);
            tokens
        };
        self.call(grant).await
    }

    pub fn new_tokens(&self) -> Tokens {
        Tokens { number: self.executor.fresh(), ends_at: self.now() + HOUR }
    }
}
