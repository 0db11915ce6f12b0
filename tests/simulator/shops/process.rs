//! The daemon's process: dispatcher, uploader and cleanups without ractor, tokio, HTTP and disk, around the store, the upload
//! queue, the queue of cleanups and the late writes, which are the daemon's own.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::select;
use pagesyncd::core::catalogue::Piece;
use pagesyncd::core::cleanup::{Cleanup, CleanupQueue, CleanupStep, TryEnd};
use pagesyncd::core::late_writes::{InDoubt, LateWrites, WriteEnd};
use pagesyncd::core::ledger::ObjectOp;
use pagesyncd::core::model::{LinkKey, MonoTime, PartKey, WallTime};
use pagesyncd::core::upload_queue::{Outcome, Queue};
use pagesyncd::store::feed::{Batch, LinkChanges};
use pagesyncd::store::stepped::shown;
use pagesyncd::store::{Left, OutboxItem, Store};
use tokio::sync::watch;

use super::bucket::Body;
use super::catalogue::Follower;
use super::world::World;
use crate::outside::{Answer, SPACES_TIMEOUT};

/// When nothing is due.
const IDLE: u64 = 300_000;
/// No more parts are forgotten while so many wait for Spaces.
const PARTS_WAITING: usize = 6;
const SOON: Duration = Duration::from_secs(1);

struct Uploads {
    queue: Queue,
    late_writes: LateWrites,
}

/// What a process has in memory.
pub struct Process {
    pub life: u64,
    pub store: Store,
    writing: RefCell<BTreeSet<PartKey>>,
    uploads: RefCell<Uploads>,
    uploads_wake: watch::Sender<u64>,
    cleanups: RefCell<CleanupQueue>,
    cleanups_wake: watch::Sender<u64>,
    pub followers: RefCell<BTreeMap<usize, Follower>>,
    turns: RefCell<BTreeMap<usize, Rc<tokio::sync::Mutex<()>>>>,
    pub checks: RefCell<BTreeMap<usize, u64>>,
}

/// The right to write the object of a part; given back when dropped.
struct Permit(Rc<Process>, PartKey);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.writing.borrow_mut().remove(&self.1);
    }
}

fn wake(signal: &watch::Sender<u64>) {
    signal.send_modify(|times| *times += 1);
}

/// Waits for a signal, at most so long.
pub async fn wait(world: &Rc<World>, woken: &mut watch::Receiver<u64>, most: u64) {
    select(pin!(woken.changed()), pin!(world.sleep(most.max(1)))).await;
}

impl Process {
    /// A process starts with what lies on disk.
    pub fn start(world: &Rc<World>) {
        let life = world.executor.fresh();
        world.life.set(life);
        let store = world.store.borrow().clone();
        let parts = shown(store.outbox_parts());
        let uploads = Uploads { queue: Queue::new(4), late_writes: LateWrites::after_a_start(parts, in_doubt(world)) };
        let process = Rc::new(Process {
            life,
            store,
            writing: RefCell::default(),
            uploads: RefCell::new(uploads),
            uploads_wake: watch::Sender::new(0),
            cleanups: RefCell::default(),
            cleanups_wake: watch::Sender::new(0),
            followers: RefCell::default(),
            turns: RefCell::default(),
            checks: RefCell::default(),
        });
        *world.process.borrow_mut() = Some(process.clone());
        process.refill(world);
        process.look_for_cleanups(world, Duration::from_millis(2 * SPACES_TIMEOUT));
        (0..world.links.len()).for_each(|l| process.fit(world, l));
        world.executor.spawn(life, process.clone().upload(world.clone()));
        world.executor.spawn(life, process.clone().clean_up(world.clone()));
        world.executor.spawn(life, process.clone().dispatch(world.clone()));
    }

    pub fn turn(&self, shop: usize) -> Rc<tokio::sync::Mutex<()>> {
        self.turns.borrow_mut().entry(shop).or_default().clone()
    }

    // The dispatcher.

    async fn dispatch(self: Rc<Self>, world: Rc<World>) {
        let feed = self.store.feed().clone();
        loop {
            let batch = feed.next().await;
            let took = world.below(3);
            world.sleep(took).await;
            self.pass_on(&world, batch);
        }
    }

    fn pass_on(self: &Rc<Self>, world: &Rc<World>, batch: Batch) {
        if batch.reset {
            self.refill(world);
            (0..world.links.len()).for_each(|l| self.fit(world, l));
        }
        for (link, changes) in &batch.links {
            self.pass_on_link(world, link, changes);
        }
        if batch.cleanup || batch.reset {
            self.look_for_cleanups(world, Duration::ZERO);
        }
    }

    fn pass_on_link(self: &Rc<Self>, world: &Rc<World>, link: &LinkKey, changes: &LinkChanges) {
        let l = world.number_of(link);
        if changes.presence.is_some() || changes.parked {
            self.fit(world, l);
        }
        if !changes.causes.is_empty()
            && let Some(follower) = self.followers.borrow().get(&l)
        {
            follower.wake();
        }
        for part in &changes.outbox {
            self.uploads.borrow_mut().queue.add(PartKey::new(link.clone(), part.clone()), world.mono());
            wake(&self.uploads_wake);
        }
    }

    /// A link is followed while it has a token that may be used.
    pub fn fit(self: &Rc<Self>, world: &Rc<World>, l: usize) {
        let view = shown(self.store.view(&world.links[l])).filter(|view| view.record.health.is_active());
        let wanted = view.map(|view| view.record.generation);
        if self.followers.borrow().get(&l).map(|follower| follower.generation) == wanted {
            return;
        }
        let before = self.followers.borrow_mut().remove(&l);
        before.into_iter().for_each(|before| world.executor.end(before.task));
        if let Some(generation) = wanted {
            let follower = Follower::begin(world, self, l, generation);
            self.followers.borrow_mut().insert(l, follower);
        }
    }

    // The uploader.

    fn refill(&self, world: &World) {
        let parts = shown(self.store.outbox_parts());
        parts.into_iter().for_each(|part| self.uploads.borrow_mut().queue.add(part, world.mono()));
        wake(&self.uploads_wake);
    }

    async fn upload(self: Rc<Self>, world: Rc<World>) {
        let mut woken = self.uploads_wake.subscribe();
        loop {
            let next = self.uploads.borrow_mut().queue.next(world.mono());
            if let Some(part) = next {
                let in_doubt = self.uploads.borrow().late_writes.get(&part);
                world.executor.spawn(self.life, self.clone().write(world.clone(), part, in_doubt));
                continue;
            }
            let wake_at = self.uploads.borrow().queue.wake_at();
            wait(&world, &mut woken, wake_at.map_or(IDLE, |at| millis(at, world.mono()))).await;
        }
    }

    async fn write(self: Rc<Self>, world: Rc<World>, part: PartKey, in_doubt: Option<InDoubt>) {
        let ended = match self.permit(&part) {
            Some(permit) => {
                let ended = self.carry_out(&world, &part, in_doubt).await;
                drop(permit);
                ended
            }
            None => WriteEnd::of(Outcome::Local),
        };
        let until = self::in_doubt(&world);
        let mut uploads = self.uploads.borrow_mut();
        uploads.queue.done(&part, ended.outcome, world.mono(), world.unit());
        uploads.late_writes.ended(&part, &ended, until);
        wake(&self.uploads_wake);
    }

    fn permit(self: &Rc<Self>, part: &PartKey) -> Option<Permit> {
        self.writing.borrow_mut().insert(part.clone()).then(|| Permit(self.clone(), part.clone()))
    }

    async fn carry_out(self: &Rc<Self>, world: &Rc<World>, part: &PartKey, in_doubt: Option<InDoubt>) -> WriteEnd {
        let item = match self.store.outbox_item(part).await {
            Ok(Some(item)) => item,
            Ok(None) => return WriteEnd::of(Outcome::Settled { more: false }),
            Err(_) => return WriteEnd::of(Outcome::Local),
        };
        let op = item.staged.op;
        let put = matches!(op, ObjectOp::Put(_)).then(|| Body::of(&item.body));
        let none = Body { id: 0, version: super::NOTHING, rows: BTreeMap::new() };
        let writing = world.write_begins(part, op, put.as_ref().unwrap_or(&none));
        let answer = world.clone().send(part.clone(), put.clone()).await;
        drop(writing);
        let failed = |outcome, unanswered| WriteEnd { unanswered, ..WriteEnd::of(outcome) };
        match answer {
            Answer::Busy => failed(Outcome::Busy { hint: None }, false),
            Answer::Misconfigured => failed(Outcome::Misconfigured, false),
            Answer::Unanswered => failed(Outcome::Busy { hint: None }, true),
            Answer::Done => self.complete(world, part, &item, put, in_doubt).await,
        }
    }

    async fn complete(
        &self,
        world: &World,
        part: &PartKey,
        item: &OutboxItem,
        put: Option<Body>,
        in_doubt: Option<InDoubt>,
    ) -> WriteEnd {
        let landing = in_doubt.and_then(|write| write.cleanup_after(item.staged.op, world.mono()));
        let is_product = matches!(Piece::of(&part.part), Some(Piece::Product(_)));
        let row = put.as_ref().filter(|_| is_product).map(Body::row);
        let left = Left { in_doubt_until: landing.map(|at| WallTime(at.0)), row, ..Left::default() };
        let etag = put.map(|body| body.id.to_string());
        match self.store.complete(part, item, etag, left).await {
            Ok(more) => WriteEnd { cleanup: landing.is_some(), ..WriteEnd::of(Outcome::Settled { more }) },
            Err(_) => WriteEnd::of(Outcome::Local),
        }
    }

    // The cleanups.

    fn look_for_cleanups(&self, world: &World, earlier: Duration) {
        let standing = shown(self.store.cleanups());
        self.cleanups.borrow_mut().take_over(standing, earlier, world.mono());
        wake(&self.cleanups_wake);
    }

    async fn clean_up(self: Rc<Self>, world: Rc<World>) {
        let mut woken = self.cleanups_wake.subscribe();
        loop {
            let step = self.cleanups.borrow_mut().next(world.mono());
            match step {
                Some(step) => drop(world.executor.spawn(self.life, self.clone().clean_up_one(world.clone(), step))),
                None => {
                    let wake_at = self.cleanups.borrow().wake_at();
                    wait(&world, &mut woken, wake_at.map_or(IDLE, |at| millis(at, world.mono()))).await;
                }
            }
        }
    }

    async fn clean_up_one(self: Rc<Self>, world: Rc<World>, step: CleanupStep) {
        match step {
            CleanupStep::Try(cleanup, seq) => {
                let ended = match &cleanup {
                    Cleanup::DeleteAgain(part) => self.delete_again(&world, part, seq).await,
                    Cleanup::ForgetParts(link) => self.forget_parts(&world, link, seq).await,
                    _ => TryEnd::Never,
                };
                world.note(|| format!("cleanup {cleanup:?} ended {ended:?}"));
                let (in_doubt, jitter) = (Duration::from_millis(2 * SPACES_TIMEOUT), world.unit());
                self.cleanups.borrow_mut().ended(&cleanup, seq, ended, in_doubt, world.mono(), jitter);
                self.look_for_cleanups(&world, Duration::ZERO);
            }
            CleanupStep::Close(cleanup, seq, _) => {
                let closed = self.store.finish_cleanup(&cleanup, seq).await.is_ok();
                self.cleanups.borrow_mut().closed(&cleanup, seq, closed, world.mono());
            }
        }
        wake(&self.cleanups_wake);
    }

    async fn forget_parts(&self, world: &Rc<World>, link: &LinkKey, seq: u64) -> TryEnd {
        let later = TryEnd::Later { hint: Some(SOON), unanswered: false };
        loop {
            match self.store.outbox_of(link).await {
                Ok(waiting) if waiting < PARTS_WAITING => {}
                Ok(_) => {
                    world.sleep(1_000).await;
                    continue;
                }
                Err(_) => return later,
            }
            match self.store.forget_parts(link, seq, world.plan.forgets).await {
                Ok(true) => {}
                Ok(false) => return TryEnd::Done,
                Err(_) => return later,
            }
        }
    }

    async fn delete_again(self: &Rc<Self>, world: &Rc<World>, part: &PartKey, seq: u64) -> TryEnd {
        let soon = TryEnd::Later { hint: Some(SOON), unanswered: false };
        let Some(_permit) = self.permit(part) else { return soon };
        match self.store.is_left_over(part, seq).await {
            Ok(true) => {}
            Ok(false) => return TryEnd::Done,
            Err(_) => return soon,
        }
        match world.clone().send(part.clone(), None).await {
            Answer::Done => TryEnd::Done,
            Answer::Busy | Answer::Misconfigured => TryEnd::Later { hint: None, unanswered: false },
            Answer::Unanswered => TryEnd::Later { hint: None, unanswered: true },
        }
    }
}

/// When a write whose answer is lost now must be through.
fn in_doubt(world: &World) -> MonoTime {
    world.mono().plus(Duration::from_millis(2 * SPACES_TIMEOUT))
}

fn millis(at: MonoTime, now: MonoTime) -> u64 {
    at.since(now).as_millis() as u64
}

/// Somebody waits for the answer, until this is dropped.
struct Heard(Rc<std::cell::Cell<bool>>);

impl Drop for Heard {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

impl World {
    /// A write goes to Spaces. It may take effect when nobody waits any more.
    async fn send(self: Rc<Self>, part: PartKey, put: Option<Body>) -> Answer {
        let fate = self.spaces.borrow().fate(self.wall(), &mut self.chance.borrow_mut());
        let is_heard = Rc::new(std::cell::Cell::new(true));
        let heard = Heard(is_heard.clone());
        if let Some(after) = fate.applied_after {
            let world = self.clone();
            self.outside(async move {
                world.sleep(after).await;
                world.lands(&part, put, !is_heard.get());
            });
        }
        self.sleep(fate.answered_after).await;
        drop(heard);
        fate.answer
    }

    // The disk.

    pub fn is_down(&self) -> bool {
        self.committer.borrow().as_ref().is_none_or(|committer| committer.is_down())
    }

    /// The committer takes what waits, unless it is at work.
    pub fn commit_next(self: &Rc<Self>) {
        if self.committing.get() || self.is_down() {
            return;
        }
        let most = 1 + self.below(12) as usize;
        if self.committer.borrow_mut().as_mut().is_none_or(|committer| committer.gather(most) == 0) {
            return;
        }
        self.committing.set(true);
        let (bad, slow) = (self.now() < self.disk_bad_until.get(), self.now() < self.disk_slow_until.get());
        let took = if slow { self.between(300, 4_000) } else { self.between(1, 25) };
        let (world, life) = (self.clone(), self.life.get());
        self.outside(async move {
            world.sleep(took).await;
            if world.life.get() == life && world.committing.replace(false) {
                world.commits(bad);
            }
        });
    }

    fn commits(self: &Rc<Self>, is_bad: bool) {
        let (erases, reaches) = (self.percent(50), self.percent(40));
        let mut committer = self.committer.borrow_mut();
        let Some(committer) = committer.as_mut() else { return };
        if !is_bad {
            if committer.is_suspect() || !committer.commit() {
                self.fail("a decision of the store panicked".into());
            }
            if erases {
                committer.erase();
            }
            return;
        }
        let in_hand = committer.gather(0) as u64;
        let reached = if reaches { self.between(0, in_hand) } else { 0 };
        committer.fail("the disk refuses", reached as usize);
        let (world, life) = (self.clone(), self.life.get());
        self.outside(async move {
            while world.life.get() == life {
                world.sleep(500).await;
                if world.now() >= world.disk_bad_until.get() {
                    return world.reopen(life);
                }
            }
        });
    }

    fn reopen(&self, life: u64) {
        if let Some(committer) = self.committer.borrow_mut().as_mut().filter(|_| self.life.get() == life) {
            self.figures.borrow_mut().reopens += 1;
            committer.reopen();
        }
    }

    /// The process is gone, and with it all memory; of what was not answered, some reached the disk.
    pub fn crash(self: &Rc<Self>, down: u64) {
        if self.process.borrow_mut().take().is_none() {
            return;
        }
        self.figures.borrow_mut().crashes += 1;
        self.note(|| "the process dies".into());
        let mut committer = self.committer.borrow_mut().take().expect("there is a committer");
        let unanswered = committer.gather(usize::MAX) as u64;
        let survivors = self.below(unanswered + 1) as usize;
        let (store, committer) = committer.crash(survivors);
        self.executor.end_life(self.life.get());
        (*self.store.borrow_mut(), *self.committer.borrow_mut()) = (store, Some(committer));
        self.committing.set(false);
        self.life.set(self.executor.fresh());
        let (world, life) = (self.clone(), self.life.get());
        self.outside(async move {
            world.sleep(down).await;
            if world.life.get() == life {
                Process::start(&world);
            }
        });
    }

    pub fn is_parked(&self, l: usize) -> bool {
        let view = shown(self.store.borrow().view(&self.links[l]));
        view.is_some_and(|view| !view.record.health.is_active())
    }
}
