//! The catalogues and the tokens of shops under a simulated world: no disk, no network, no clock, one seed.
//!
//! The decisions are the daemon's own: the store with its ledger, its rows and its pairs, the upload queue, the queue of
//! cleanups, late writes, the progress of walks and the backoffs. The loops that perform them (`src/actors/page/catalogue`,
//! `src/services/shop_tokens.rs`, uploader, cleanups, dispatcher) are written here once more, step by step, because they
//! need HTTP and tokio; each may be ended wherever it waits. The link's machine has no part in it, and the object of a
//! link's whole is left unread: the simulator of pages has both.
//!
//! | module | what it does |
//! |---|---|
//! | [`executor`] | tasks in virtual time |
//! | [`world`] | what is there |
//! | [`shopify`] | shops, products, tokens, bulk operations |
//! | [`bucket`] | Spaces, and what must hold of the objects |
//! | [`process`] | dispatcher, uploader, cleanups, disk, crash |
//! | [`catalogue`] | reads, walks, index, comparison |
//! | [`tokens`] | access tokens, and what must hold of the pairs |
//!
//! What must hold:
//!
//! * At every write: no object is replaced by older data, and none of a product that is gone is written again. The index
//!   in the bucket names no product without an object, unless a write took effect late.
//! * At every call: the pair that is stored, and the one that a power cut would leave, can be exchanged at Shopify, unless
//!   an installation was never stored. A shop is parked only when its refresh token is dead.
//! * At rest: the bucket has what deliveries that were acknowledged said, and nothing of a link that is gone. After a
//!   sweep it has the shop as it is, and the index names exactly the products there.

mod bucket;
mod catalogue;
mod executor;
mod process;
mod shopify;
mod tokens;
mod world;

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::{Duration, Instant};

use pagesyncd::core::catalogue::Piece;
use pagesyncd::core::model::{Cause, PartKey, WallTime};
use pagesyncd::store::stepped::shown;
use pagesyncd::store::unlink::Unlinking;

use self::process::Process;
use self::shopify::Version;
use self::world::{Figures, Flavour, Plan, World};
use crate::chance::Chance;
use crate::number;
use crate::outside::SPACES_TIMEOUT;

/// The version of what has none.
const NOTHING: Version = Version { revision: 0, content: 0, at: WallTime(0) };
const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
/// Products that a shop has at most.
const PRODUCTS: usize = 5;

fn plan(seed: u64) -> Plan {
    let mut chance = Chance::new(!seed);
    let flavour = match chance.below(10) {
        0..=2 => Flavour::All,
        3..=5 => Flavour::Sweeping,
        6 | 7 => Flavour::Relinking,
        _ => Flavour::Tokens,
    };
    let hours = flavour == Flavour::Tokens;
    Plan {
        users: chance.between(1, 2) as usize,
        shops: if chance.percent(20) { 2 } else { 1 },
        flavour,
        debounce: chance.between(0, 2_000),
        poll: if hours { 30 * MINUTE } else { chance.between(5_000, 60_000) },
        sweep: if hours { 300 * MINUTE } else { chance.between(10_000, 90_000) },
        bulk_pause: chance.between(10, 4_000),
        faults: if hours { chance.between(2, 6) * 60 * MINUTE } else { chance.between(10, 90) * SECOND },
        pause: if hours { chance.between(1, 12) * MINUTE } else { chance.between(100, 3_000) },
        lost: if chance.percent(50) { 0 } else { chance.between(1, 40) },
        forgets: chance.between(1, 4) as usize,
    }
}

impl World {
    /// People, merchants, operators and misfortune act, until faults end.
    async fn chaos(self: Rc<Self>) {
        while !self.is_quiet() {
            let (l, shop) = (self.below(self.links.len() as u64) as usize, self.below(self.plan.shops as u64) as usize);
            match self.plan.flavour {
                Flavour::All => self.anything(l, shop),
                Flavour::Sweeping => self.sweeping(shop),
                Flavour::Relinking => self.relinking(l, shop),
                Flavour::Tokens => self.hours(l, shop),
            }
            let wait = self.below(2 * self.plan.pause) + 1;
            self.sleep(if self.percent(30) { wait % 60 } else { wait }).await;
        }
        self.heal();
    }

    fn anything(self: &Rc<Self>, l: usize, shop: usize) {
        match self.below(100) {
            0..=49 => self.change(shop),
            50..=54 => self.crash_soon(),
            55..=59 => self.install(l),
            60..=63 => self.unlink(l),
            64 => self.uninstall(shop),
            _ => self.trouble(),
        }
    }

    fn sweeping(self: &Rc<Self>, shop: usize) {
        match self.below(100) {
            0..=84 => self.change(shop),
            85..=87 => self.crash_soon(),
            88 => self.install(shop),
            _ => self.trouble(),
        }
    }

    fn relinking(self: &Rc<Self>, l: usize, shop: usize) {
        match self.below(100) {
            0..=29 => self.change(shop),
            30..=49 => self.install(l),
            50..=69 => self.unlink(l),
            70..=74 => self.crash_soon(),
            _ => self.trouble(),
        }
    }

    fn hours(self: &Rc<Self>, l: usize, shop: usize) {
        match self.below(100) {
            0..=29 => self.change(shop),
            30..=49 => self.crash_soon(),
            50..=54 => self.install(l),
            55 => self.unlink(l),
            56 => self.uninstall(shop),
            _ => self.trouble(),
        }
    }

    fn crash_soon(self: &Rc<Self>) {
        let longest = if self.plan.flavour == Flavour::Tokens && self.percent(30) { 150 * MINUTE } else { 20_000 };
        let (world, after, down) = (self.clone(), self.below(400), self.between(100, longest));
        self.outside(async move {
            world.sleep(after).await;
            world.crash(down);
        });
    }

    fn trouble(&self) {
        let long = if self.plan.flavour == Flavour::Tokens { 40 * MINUTE } else { 30 * SECOND };
        let until = self.now() + self.between(50, long);
        let (mut faults, mut spaces) = (self.faults.borrow_mut(), self.spaces.borrow_mut());
        match self.below(10) {
            0 => faults.down_until = until,
            1 => faults.throttled_until = until,
            2 => faults.slow_until = until,
            3 => faults.lost = self.below(self.plan.lost + 1),
            4 => spaces.down_until = WallTime(until),
            5 => spaces.slow_until = WallTime(until),
            6 => spaces.ambiguous = self.below(self.plan.lost + 1),
            7 => self.disk_bad_until.set(self.now() + self.between(20, 5_000)),
            8 => self.disk_slow_until.set(until),
            _ => spaces.misconfigured_until = WallTime(until),
        }
    }

    /// From here on nothing goes wrong any more.
    fn heal(&self) {
        *self.faults.borrow_mut() = Default::default();
        let mut spaces = self.spaces.borrow_mut();
        (spaces.down_until, spaces.misconfigured_until, spaces.slow_until) = (WallTime(0), WallTime(0), WallTime(0));
        spaces.ambiguous = 0;
        self.disk_bad_until.set(0);
        self.disk_slow_until.set(0);
    }

    /// A product comes, changes or goes, or the collections change; perhaps Shopify delivers it.
    fn change(self: &Rc<Self>, shop: usize) {
        let now = self.now();
        let ids: Vec<u64> = self.shops.borrow()[shop].products.keys().copied().collect();
        let is_back = self.percent(35);
        let one = ids.get(self.below(ids.len() as u64) as usize).copied();
        let (what, fresh) = (self.below(100), self.executor.fresh());
        let piece = {
            let it = &mut self.shops.borrow_mut()[shop];
            match (what, one) {
                (0..=9, _) => {
                    it.change_collections(is_back, now);
                    Piece::Collections
                }
                (10..=39, Some(id)) => {
                    it.delete_product(id);
                    Piece::Product(id)
                }
                (40..=74, Some(id)) => {
                    it.change_product(id, is_back, now);
                    Piece::Product(id)
                }
                _ if ids.len() < PRODUCTS => {
                    it.change_product(fresh, false, now);
                    Piece::Product(fresh)
                }
                _ => return,
            }
        };
        self.note(|| format!("shop {shop}: {piece:?} changed"));
        if self.percent(80) {
            let world = self.clone();
            self.outside(async move { world.deliver(shop, piece).await });
        }
    }

    fn revision(&self, shop: usize, piece: Piece) -> u64 {
        let shop = &self.shops.borrow()[shop];
        let living = match piece {
            Piece::Product(id) => shop.gone.get(&id).copied().or(shop.products.get(&id).map(|it| it.revision)),
            _ => shop.collections.map(|it| it.revision),
        };
        living.unwrap_or(0)
    }

    /// Shopify delivers a change; it tries again a few times when the answer is not 200.
    async fn deliver(self: Rc<Self>, shop: usize, piece: Piece) {
        for _ in 0..4 {
            let wait = self.below(2_000);
            self.sleep(wait).await;
            if !self.shops.borrow()[shop].app.installed {
                return;
            }
            if let Some(process) = self.process() {
                self.figures.borrow_mut().deliveries += 1;
                let (answer, answered) = tokio::sync::oneshot::channel();
                let revision = self.revision(shop, piece);
                self.executor.spawn(process.life, {
                    let (world, process) = (self.clone(), process.clone());
                    async move { drop(answer.send(world.marks(&process, shop, piece).await)) }
                });
                if let Ok(Some(links)) = answered.await {
                    for l in links {
                        let mut acknowledged = self.acknowledged.borrow_mut();
                        let known = acknowledged.entry((l, piece.part().as_str().to_owned())).or_default();
                        *known = revision.max(*known);
                    }
                    return;
                }
            }
            if self.percent(30) {
                return;
            }
            let wait = self.between(1_000, 15_000);
            self.sleep(wait).await;
        }
    }

    /// Marks the part for each link of a shop. `None` when that is not durable.
    async fn marks(&self, process: &Process, shop: usize, piece: Piece) -> Option<Vec<usize>> {
        let links = process.store.links_of_id(&self.names[shop].clone().into()).await.ok()?;
        let parts = links.iter().map(|link| PartKey::new(link.clone(), piece.part())).collect();
        process.store.mark_parts(parts, Cause::Webhook).await.ok()?;
        Some(links.iter().map(|link| self.number_of(link)).collect())
    }

    /// A merchant installs the app.
    fn install(self: &Rc<Self>, l: usize) {
        let Some(process) = self.process() else { return };
        self.figures.borrow_mut().installs += 1;
        let world = self.clone();
        self.executor.spawn(process.life, async move {
            let shop = world.shop_of(l);
            let turn = process.turn(shop);
            let _turn = turn.lock().await;
            let Ok(ticket) = process.store.ticket().await else { return };
            let Some(name) = world.links[l].shop().cloned() else { return };
            let Ok(before) = process.store.pair_number(&name).await else { return };
            let Ok(tokens) = world.exchange_code(shop).await else { return };
            world.note(|| format!("link {l}: installed, {tokens:?}"));
            let new = tokens::new_shop(&world, shop, tokens);
            let link = (Cause::Link, before);
            let stored = process.store.put_shop(ticket, world.links[l].user, &new, link).await;
            world.note(|| format!("link {l}: {stored:?}"));
            let app = &mut world.shops.borrow_mut()[shop].app;
            // One that was lost may have come between.
            if stored.is_ok_and(|stored| stored.is_some_and(|stored| stored.pair != 0)) && app.exchanges(tokens.number)
            {
                (app.orphaned, app.is_changed) = (false, true);
            }
        });
    }

    fn uninstall(&self, shop: usize) {
        self.shops.borrow_mut()[shop].app.uninstall();
    }

    fn unlink(self: &Rc<Self>, l: usize) {
        let Some(process) = self.process() else { return };
        let Some(generation) = shown(process.store.generation(&self.links[l])).filter(|_| !self.is_down()) else {
            return;
        };
        self.figures.borrow_mut().unlinks += 1;
        let keep_objects = self.percent(40);
        {
            let bucket = &mut *self.bucket.borrow_mut();
            bucket.kept.insert(l, keep_objects);
            bucket.ended.insert(l, generation.0);
            let objects = bucket.objects.keys().filter(|part| keep_objects && part.link == self.links[l]);
            bucket.left.extend(objects.cloned());
        }
        self.note(|| format!("link {l}: is unlinked, keep {keep_objects}"));
        let link = self.links[l].clone();
        self.executor.spawn(process.life, async move {
            drop(process.store.unlink(&[link], Unlinking { keep_objects, revoke: false }).await);
        });
    }

    /// Why the daemon does not rest.
    fn restless(&self) -> Option<String> {
        let Some(process) = self.process() else { return Some("it is down".into()) };
        if self.is_down() || self.committing.get() {
            return Some("its store is busy".into());
        }
        let (outbox, cleanups) = (shown(process.store.outbox_parts()), shown(process.store.cleanups()));
        if !outbox.is_empty() || !cleanups.is_empty() {
            return Some(format!("it owes Spaces {outbox:?}, and {cleanups:?}"));
        }
        (0..self.links.len()).filter(|l| !self.is_parked(*l)).find_map(|l| {
            let followed = process.followers.borrow().contains_key(&l);
            if followed != shown(process.store.generation(&self.links[l])).is_some() {
                return Some(format!("link {l}: followed {followed}"));
            }
            let pieces = self.pieces(self.shop_of(l)).into_iter().chain([Piece::Index, Piece::Collections]);
            let marked = pieces.map(|piece| PartKey::new(self.links[l].clone(), piece.part()));
            let mut marked = marked.filter(|part| shown(process.store.mark(part)).is_some());
            marked.next().map(|part| format!("{part} is owed a read"))
        })
    }

    fn pieces(&self, shop: usize) -> Vec<Piece> {
        let shop = &self.shops.borrow()[shop];
        shop.products.keys().chain(shop.gone.keys()).copied().map(Piece::Product).collect()
    }

    /// Has each link that is read been swept since this moment?
    fn is_swept(&self, since: u64) -> bool {
        let swept = |l: usize| {
            let progress = shown(self.store.borrow().progress(&self.links[l]));
            progress.bulk.is_none() && progress.swept_at.is_some_and(|at| at.0 > since)
        };
        let reads = |l: &usize| shown(self.store.borrow().generation(&self.links[*l])).is_some() && !self.is_parked(*l);
        (0..self.links.len()).filter(reads).all(swept)
    }

    /// Steps until `is_reached`, for so long at most.
    fn until(self: &Rc<Self>, most: u64, is_reached: impl Fn() -> Option<String>) -> bool {
        let until = self.now() + most;
        let mut next_look = 0;
        loop {
            if self.now() >= next_look {
                let Some(why) = is_reached() else { return true };
                next_look = self.now() + 100;
                if self.now() > until {
                    self.fail(format!("{} s after the last fault: {why}", most / SECOND));
                }
            }
            if self.violation.borrow().is_some() || !self.step(u64::MAX) {
                return false;
            }
        }
    }

    fn check_at_rest(&self, swept: bool) {
        for l in 0..self.links.len() {
            if let Some(wrong) = self.wrong_at_rest(l, swept) {
                self.fail(format!("link {l}, swept {swept}: {wrong}"));
            }
        }
        self.check_pairs();
    }

    fn play(self: &Rc<Self>) {
        for shop in 0..self.plan.shops {
            let now = self.now();
            self.shops.borrow_mut()[shop].change_collections(false, now);
            let count = self.below(PRODUCTS as u64);
            for _ in 0..count {
                let id = self.executor.fresh();
                self.shops.borrow_mut()[shop].change_product(id, false, now);
            }
        }
        Process::start(self);
        (0..self.links.len()).for_each(|l| self.install(l));
        self.outside(self.clone().chaos());
        // Deliveries are tried again, and writes take effect late, for a while after the last fault.
        let settled = self.faults_end.get() + MINUTE + 2 * SPACES_TIMEOUT;
        while self.now() < settled && self.step(settled) {}
        if self.violation.borrow().is_some() {
            return;
        }
        if !self.until(4 * 60 * MINUTE, || self.restless()) {
            return;
        }
        self.check_at_rest(false);
        let since = self.now();
        self.bucket.borrow_mut().late.clear();
        let swept = || if self.is_swept(since) { self.restless() } else { Some("a link was not swept".into()) };
        if self.until(3 * self.plan.sweep + 4 * 60 * MINUTE, swept) {
            self.check_at_rest(true);
        }
    }
}

/// One run. `Err` says what broke.
#[allow(clippy::result_large_err, reason = "it is made once a run")]
fn run(seed: u64, trace: &mut Option<VecDeque<String>>) -> Result<Figures, (String, Figures)> {
    let world = World::new(plan(seed), seed);
    *world.trace.borrow_mut() = trace.take();
    let start = world.now();
    let played = catch_unwind(AssertUnwindSafe(|| world.play()));
    *trace = world.trace.take();
    world.figures.borrow_mut().virtual_ms = world.now() - start;
    let (figures, violation) = (*world.figures.borrow(), world.violation.take());
    // What waits holds the world.
    let ended = catch_unwind(AssertUnwindSafe(|| world.executor.clear()));
    drop(world.process.take());
    match (played.and(ended), violation) {
        (Ok(()), None) => Ok(figures),
        (Ok(()), Some(what)) => Err((what, figures)),
        (Err(_), _) => Err(("it panicked".into(), figures)),
    }
}

fn report(seed: u64, what: &str, steps: u64) -> String {
    let mut trace = Some(VecDeque::new());
    let _ = run(seed, &mut trace);
    let last: Vec<String> = trace.into_iter().flatten().collect();
    format!(
        "seed {seed}, step {steps}: {what}\n{:?}\n{}\nreplay with PAGESYNCD_SIM_SEED={seed} cargo test --test simulator shops",
        plan(seed),
        last.join("\n")
    )
}

fn add(sum: &mut Figures, one: Figures) {
    sum.steps += one.steps;
    sum.crashes += one.crashes;
    sum.reopens += one.reopens;
    sum.deliveries += one.deliveries;
    sum.calls += one.calls;
    sum.refreshes += one.refreshes;
    sum.installs += one.installs;
    sum.unlinks += one.unlinks;
    sum.sweeps += one.sweeps;
    sum.retired += one.retired;
    sum.indexes += one.indexes;
    sum.writes += one.writes;
    sum.late += one.late;
    sum.parked += one.parked;
    sum.virtual_ms += one.virtual_ms;
}

#[test]
fn the_bucket_has_the_shop_and_its_token_lives_whatever_dies() {
    let replay = number("PAGESYNCD_SIM_SEED");
    let seconds = number("PAGESYNCD_SIM_SECONDS");
    let steps = number("PAGESYNCD_SIM_STEPS").unwrap_or(if seconds.is_some() { u64::MAX } else { 800_000 });
    let (began, first) = (Instant::now(), replay.unwrap_or(1));
    let (mut sum, mut seeds) = (Figures::default(), 0);
    for seed in first.. {
        match run(seed, &mut None) {
            Ok(figures) => add(&mut sum, figures),
            Err((what, figures)) => {
                panic!("{seeds} seeds, {} steps passed; {}", sum.steps, report(seed, &what, figures.steps))
            }
        }
        seeds += 1;
        let late = seconds.is_some_and(|s| began.elapsed() >= Duration::from_secs(s));
        if replay.is_some() || late || sum.steps >= steps {
            break;
        }
    }
    println!("shops: {seeds} seeds in {:?}, {sum:?}", began.elapsed());
}
