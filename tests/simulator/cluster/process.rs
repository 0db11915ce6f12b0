//! One life of a daemon: its store, and the tasks that read pages and write objects, as the dispatcher, the pages and the
//! uploader of the daemon do (`src/actors`). A task goes on where a step of this daemon lets it, and ends with the process.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};

use pagesyncd::core::model::{Cause, LinkKey, MonoTime, PageId, Secret, UserId, WallTime};
use pagesyncd::store::feed::Batch;
use pagesyncd::store::persons::NewLink;
use pagesyncd::store::shared::stepped::Daemon;
use pagesyncd::store::stepped::{poll_once, shown};
use pagesyncd::store::{Left, Store};
use tokio::sync::watch;

use super::outside::{Outside, P, Put};
use crate::chance::Chance;

/// A write without an answer may take effect for so long: nobody writes the object meanwhile.
const LINGERS: u64 = 40_000;
/// Until a write that could not be made is tried again.
const RETRY: u64 = 500;

/// A link of the world.
#[derive(Debug, Clone)]
pub struct Link {
    pub page: PageId,
    pub key: LinkKey,
}

/// What the tasks of a process share.
pub struct Env {
    pub outside: Rc<RefCell<Outside>>,
    pub chance: RefCell<Chance>,
    pub queued: u64,
    pub node: usize,
    pub process: u64,
    /// The incarnation, and the monotonic clock of the machine, at this step.
    pub member: Cell<u64>,
    pub mono: Cell<u64>,
    /// When a task wants to go on, by that clock.
    pub timers: RefCell<BTreeSet<u64>>,
}

impl Env {
    fn between(&self, low: u64, high: u64) -> u64 {
        self.chance.borrow_mut().between(low, high)
    }

    async fn wait(&self, ms: u64) {
        let until = self.mono.get() + ms;
        poll_fn(|_| {
            if self.mono.get() >= until {
                return Poll::Ready(());
            }
            self.timers.borrow_mut().insert(until);
            Poll::Pending
        })
        .await;
    }

    /// Puts an object. Returns whether Spaces has done it.
    async fn put(&self, page: P, version: usize) -> bool {
        let sent_at = self.outside.borrow().now;
        let (node, process, member) = (self.node, self.process, self.member.get());
        let number =
            self.outside.borrow_mut().send(Put { page, version, member, node, process, sent_at, rests: false });
        let request = Request { number, outside: self.outside.clone() };
        let answer = |_: &mut Context<'_>| self.outside.borrow_mut().answers.remove(&request.number);
        poll_fn(|task| answer(task).map_or(Poll::Pending, Poll::Ready)).await
    }
}

/// A request, as long as its task waits for the answer.
struct Request {
    number: u64,
    outside: Rc<RefCell<Outside>>,
}

impl Drop for Request {
    fn drop(&mut self) {
        let mut outside = self.outside.borrow_mut();
        if outside.flying.contains_key(&self.number) {
            outside.cut_off.push(self.number);
        }
    }
}

/// A task that ended.
#[derive(Debug)]
pub enum Done {
    Linked(bool),
    Delivered(u64, bool),
    Read(P, bool),
    Wrote(P, Wrote),
}

/// How a write ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrote {
    Settled { more: bool },
    Elsewhere,
    Later,
    Unanswered,
}

type Task = Pin<Box<dyn Future<Output = Done>>>;

/// A daemon that runs.
pub struct Process {
    pub number: u64,
    pub daemon: Daemon,
    pub store: Store,
    pub env: Rc<Env>,
    links: Rc<Vec<Link>>,
    tasks: Vec<Task>,
    moved: watch::Receiver<u64>,
    due: BTreeSet<P>,
    reading: BTreeSet<P>,
    outbox: BTreeSet<P>,
    writing: BTreeSet<P>,
    retry_at: BTreeMap<P, u64>,
    pub figures: Figures,
}

#[derive(Debug, Clone, Copy, Default)]
pub struct Figures {
    pub reads: u64,
    pub writes: u64,
    pub unanswered: u64,
}

impl Process {
    pub fn new(env: Env, links: Rc<Vec<Link>>, store: Store, daemon: Daemon) -> Process {
        let moved = store.leases().changed();
        let mut process = Process {
            number: env.process,
            daemon,
            store,
            env: Rc::new(env),
            links,
            tasks: Vec::new(),
            moved,
            due: BTreeSet::new(),
            reading: BTreeSet::new(),
            outbox: BTreeSet::new(),
            writing: BTreeSet::new(),
            retry_at: BTreeMap::new(),
            figures: Figures::default(),
        };
        process.look_at_all();
        process
    }

    /// Does what can be done at this moment. Returns what the outside waits for.
    pub fn go_on(&mut self) -> Vec<Done> {
        let mut answers = Vec::new();
        loop {
            let before = self.tasks.len();
            let ended = self.poll_tasks();
            let has_news = self.look_at_feed();
            let is_still = ended.is_empty() && !has_news;
            for done in ended {
                answers.extend(self.ended(done));
            }
            self.begin_reads();
            self.begin_writes();
            if is_still && self.tasks.len() == before {
                return answers;
            }
        }
    }

    fn poll_tasks(&mut self) -> Vec<Done> {
        self.env.timers.borrow_mut().clear();
        let mut ended = Vec::new();
        self.tasks.retain_mut(|task| match poll_once(task.as_mut()) {
            Some(done) => {
                ended.push(done);
                false
            }
            None => true,
        });
        ended
    }

    fn ended(&mut self, done: Done) -> Option<Done> {
        match done {
            Done::Linked(_) | Done::Delivered(..) => return Some(done),
            Done::Read(page, is_staged) => {
                self.reading.remove(&page);
                self.figures.reads += u64::from(is_staged);
                // A mark may have come meanwhile.
                self.due.insert(page);
            }
            Done::Wrote(page, how) => {
                self.writing.remove(&page);
                self.figures.writes += u64::from(matches!(how, Wrote::Settled { .. }));
                self.figures.unanswered += u64::from(how == Wrote::Unanswered);
                if !matches!(how, Wrote::Settled { more: false } | Wrote::Elsewhere) {
                    self.outbox.insert(page);
                }
                if matches!(how, Wrote::Later | Wrote::Unanswered) {
                    self.retry_at.insert(page, self.env.mono.get() + RETRY);
                }
            }
        }
        None
    }

    fn number_of(&self, key: &LinkKey) -> Option<P> {
        self.links.iter().position(|link| link.key == *key)
    }

    fn look_at_all(&mut self) {
        self.due.extend(0..self.links.len());
        let parts = shown(self.store.outbox_parts());
        let pages: Vec<P> = parts.iter().filter_map(|part| self.number_of(&part.link)).collect();
        self.outbox.extend(pages);
    }

    /// As the dispatcher does. Returns whether there was anything.
    fn look_at_feed(&mut self) -> bool {
        let feed = self.store.feed().clone();
        let batch = poll_once(pin!(feed.next()));
        let has_moved = self.moved.has_changed().is_ok_and(|changed| changed);
        self.moved.mark_unchanged();
        if has_moved || batch.as_ref().is_some_and(|batch| batch.reset) {
            self.look_at_all();
        }
        let Some(Batch { links, .. }) = batch else { return has_moved };
        for (key, changes) in links {
            let Some(page) = self.number_of(&key) else { continue };
            if !changes.causes.is_empty() || changes.presence.is_some() {
                self.due.insert(page);
            }
            if !changes.outbox.is_empty() {
                self.outbox.insert(page);
            }
        }
        true
    }

    fn begin_reads(&mut self) {
        for page in std::mem::take(&mut self.due) {
            let key = &self.links[page].key;
            if self.reading.contains(&page) {
                self.due.insert(page);
            } else if self.store.leases().holds(key)
                && shown(self.store.mark(key)).is_some_and(|standing| !standing.is_claimed)
            {
                self.reading.insert(page);
                let task = read(self.env.clone(), self.store.clone(), page, key.clone());
                self.tasks.push(Box::pin(task));
            }
        }
    }

    fn begin_writes(&mut self) {
        let now = self.env.mono.get();
        for page in std::mem::take(&mut self.outbox) {
            let waits = self.retry_at.get(&page).is_some_and(|at| *at > now);
            if waits || self.writing.contains(&page) {
                self.outbox.insert(page);
                continue;
            }
            self.retry_at.remove(&page);
            self.writing.insert(page);
            let task = carry_out(self.env.clone(), self.store.clone(), page, self.links[page].key.clone());
            self.tasks.push(Box::pin(task));
        }
    }

    /// A person links all pages.
    pub fn link(&mut self, user: UserId) {
        let (store, links) = (self.store.clone(), self.links.clone());
        self.tasks.push(Box::pin(async move {
            let Ok(ticket) = store.ticket().await else { return Done::Linked(false) };
            let new = |link: &Link| NewLink {
                page: link.page.clone(),
                token: Secret::new("token"),
                name: None,
                facebook_user: None,
            };
            let stored = store.put_links(ticket, user, None, links.iter().map(new).collect(), Cause::Link).await;
            Done::Linked(stored.is_ok())
        }));
    }

    /// A delivery says that a page changed.
    pub fn deliver(&mut self, delivery: u64, page: P) {
        let (store, page) = (self.store.clone(), self.links[page].page.clone());
        self.tasks.push(Box::pin(async move {
            let named = [page.as_str().parse().expect("a page of this world")];
            let ok = store.absorbs(&named) || store.mark_pages(&[page], Cause::Webhook).await.is_ok();
            Done::Delivered(delivery, ok)
        }));
    }

    /// The process is gone.
    pub fn kill(self) {
        self.daemon.kill();
    }

    /// The process stops in order, at this moment of its clocks. Writes that are under way go on.
    pub fn stop(self, (wall, mono): (WallTime, MonoTime)) {
        self.daemon.set_time(wall, mono);
        self.daemon.stop();
    }

    /// Nothing is read or written here, and nothing waits.
    pub fn owes(&self) -> Option<String> {
        let outbox = shown(self.store.outbox_parts());
        let marks: Vec<P> =
            (0..self.links.len()).filter(|p| shown(self.store.mark(&self.links[*p].key)).is_some()).collect();
        let is_idle = outbox.is_empty() && marks.is_empty();
        (!is_idle).then(|| format!("outbox {outbox:?}, marks of {marks:?}"))
    }
}

/// A page reads (`src/actors/page/reading.rs`).
async fn read(env: Rc<Env>, store: Store, page: P, key: LinkKey) -> Done {
    let Ok(Some(generation)) = store.generation(&key).await else { return Done::Read(page, false) };
    let Ok(Some(claim)) = store.claim(&key, generation).await else { return Done::Read(page, false) };
    let (asked, answered) = (env.between(5, 300), env.between(5, 300));
    env.wait(asked).await;
    let version = env.outside.borrow().versions[page];
    env.wait(answered).await;
    let (mut digest, body) = ([0; 32], version.to_string());
    digest[..8].copy_from_slice(&(version as u64 + 1).to_be_bytes());
    let staged = store.stage(claim, digest, body.into_bytes().into(), false).await;
    if staged.is_err() {
        env.wait(RETRY).await;
    }
    Done::Read(page, staged.is_ok())
}

/// The uploader carries out what is staged (`carry_out` in `src/actors/uploader.rs`).
async fn carry_out(env: Rc<Env>, store: Store, page: P, key: LinkKey) -> Done {
    let leases = store.leases().clone();
    let not_now = || Done::Wrote(page, if leases.holds(&key) { Wrote::Later } else { Wrote::Elsewhere });
    let Some(work) = leases.may_write(&key) else { return not_now() };
    let item = match store.outbox_item(&key).await {
        Ok(Some(item)) => item,
        Ok(None) => return Done::Wrote(page, Wrote::Settled { more: false }),
        Err(_) => return Done::Wrote(page, Wrote::Later),
    };
    let version =
        std::str::from_utf8(&item.body).ok().and_then(|text| text.parse().ok()).expect("a body of this world");
    // The turn of the request among others.
    let turn = if env.between(1, 100) <= env.queued { env.between(100, 8_000) } else { env.between(0, 40) };
    env.wait(turn).await;
    let Some(right) = work.may_write() else { return not_now() };
    match right.within(env.put(page, version)).await {
        Some(true) => {
            let more = store.complete(&key, &item, Some(version.to_string()), Left::default()).await;
            Done::Wrote(page, more.map_or(Wrote::Later, |more| Wrote::Settled { more }))
        }
        Some(false) => Done::Wrote(page, Wrote::Later),
        None => {
            // The bucket is not released before this write is through (`Guard::linger`).
            env.wait(LINGERS).await;
            Done::Wrote(page, Wrote::Unanswered)
        }
    }
}
