//! The one thread that writes to a shared database. It opens turns, lets the waiting callers decide, makes their
//! decisions durable in one transaction, and answers them. It follows the decisions of the other daemons. When the
//! database refuses, it takes the store down and brings it back.
//!
//! # A turn
//!
//! ```text
//! begin; lock meta; fence; read changes ─▶ follow ─▶ waiting callers decide ─▶ write; commit ─▶ answers
//! ```
//!
//! Each transaction locks the one row of `meta` first. So the transactions of all daemons come one after another, and
//! so do their decisions: a decision sees all that was committed before it, and nothing is committed between it and its
//! own commit. Many callers share one turn, so that the cost of a commit does not grow with them.
//!
//! *The fence.* Behind the lock this daemon looks at its own row in `daemons`. A daemon is declared dead in a
//! turn, too, so either its death comes before this turn, which ends then without a decision, or after it, and then the
//! heir sees the decisions that were made here. There is no moment between the two.
//!
//! *A daemon that is paused inside a turn* holds the lock. `idle_in_transaction_session_timeout` ends its session after
//! three seconds, and nothing of the turn remains.
//!
//! *Another database.* Behind the lock, and with each question for news, this daemon also asks whether the database is
//! the one that memory was read from ([`identity`](super::identity)). Where it is not, memory is thrown away.
//!
//! *An unknown outcome.* The answer to `commit` may be lost, with the transaction committed or not. Callers are
//! answered that the store is not available, as after a write that a disk refused. Memory is thrown away and read
//! again, so it shows the records that the database has.
//!
//! # Following
//!
//! A notification says that another daemon has committed; without one the newest version is asked for every second.
//! Rows of `changes` become visible in the order of their versions, since they are written under the lock, so none is
//! missed that has a lower version than one that was seen.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::batch::{self, Tail};
use super::database::{Database, Loaded, News, Opened, Sent};
use super::errors::ConnectError;
use super::life::Life;
use crate::core::lease::{BUCKETS, Lease, Member, Rebalance, SINGLETONS, WRITE_BOUND, rebalance};
use crate::core::model::{MonoTime, WallTime};
use crate::store::api::{Condition, Unavailable};
use crate::store::inner::Inner;
use crate::store::leases::HeldBucket;
use crate::store::order::{Order, Request, SharedOrder, refuse};
use crate::store::state::State;
use crate::store::state::erasures;
use crate::store::supervision::{End, pauses, supervise};
use crate::store::turn::{Turn, Turns};
use crate::store::txn::Txn;

/// Decisions in one transaction at most.
const MAX_BATCH: usize = 1024;
/// How often the database is asked for news where nobody notifies.
const POLL: Duration = Duration::from_secs(1);
/// How long callers may take to decide once it is their turn. They need microseconds, and a busy machine some more.
const DECIDING: Duration = Duration::from_millis(250);
/// Buckets that are let go in one turn, so that a newcomer does not empty the others at once.
const RELEASED_AT_ONCE: usize = 32;
/// How often the tables are measured, and rows removed that nobody needs.
const PRUNING: Duration = Duration::from_secs(20);
/// They are kept for so long in any case: one that is about to join reads for a while before it counts as a member.
const KEPT: Duration = Duration::from_secs(300);
/// How often a thread that reads everything is looked at.
const GLANCE: Duration = Duration::from_millis(20);

type Entrance = oneshot::Sender<Result<Turn, Unavailable>>;

/// What the committer is made of.
pub(super) struct Parts<D> {
    pub inner: Arc<Inner>,
    pub database: D,
    pub life: Arc<Life>,
    pub queue: Receiver<Order>,
    pub seen: u64,
}

/// The committer over this database.
pub(super) struct Committer<D> {
    inner: Arc<Inner>,
    database: D,
    life: Arc<Life>,
    queue: Receiver<Order>,
    /// The newest version that memory has.
    seen: u64,
    entering: Vec<Entrance>,
    /// Requests that are being made durable; refused when that fails.
    batch: Vec<Request>,
    follows: bool,
    rebalances: bool,
    /// The members, and the moment on the database's clock, of the last turn.
    members: Vec<Member>,
    turned_at: WallTime,
    /// Buckets beyond this daemon's share, whose work is to end.
    giving_up: Vec<u16>,
    /// The changes of leases, and the buckets to be given up, that are in force here.
    applied: Option<(u64, Vec<u16>)>,
    polled_at: MonoTime,
    pruned_at: MonoTime,
    /// Versions that memory had, and when: the newest one that is old enough comes first.
    versions: VecDeque<(MonoTime, u64)>,
    down: Option<Arc<str>>,
    /// How often the store was read again since the last commit.
    fruitless: usize,
    given_up: Option<Arc<str>>,
}

/// A turn in which callers decide.
pub(super) struct OpenTurn {
    opened: Opened,
    has_erased: bool,
    turns: Turns,
}

pub(super) fn spawn<D: Database + Send + 'static>(parts: Parts<D>) -> std::io::Result<JoinHandle<()>> {
    let committer = Committer::new(parts);
    std::thread::Builder::new().name("store-commit".into()).spawn(move || committer.supervise())
}

impl<D: Database + Send> Committer<D> {
    pub(super) fn new(parts: Parts<D>) -> Committer<D> {
        let Parts { inner, database, life, queue, seen } = parts;
        let now = inner.clock.mono();
        Committer {
            inner,
            database,
            life,
            queue,
            seen,
            entering: Vec::new(),
            batch: Vec::new(),
            follows: false,
            rebalances: true,
            members: Vec::new(),
            turned_at: WallTime(0),
            giving_up: Vec::new(),
            applied: None,
            polled_at: now,
            pruned_at: now,
            versions: VecDeque::new(),
            down: None,
            fruitless: 0,
            given_up: None,
        }
    }

    fn supervise(mut self) {
        let inner = self.inner.clone();
        match supervise(&mut self, &inner.commits, Committer::work, |this, reason| this.down = Some(reason)) {
            End::Closed => self.close(),
            End::GaveUp(reason) => self.give_up(&reason),
        }
    }

    fn work(&mut self) -> End {
        loop {
            if let Some(reason) = &self.given_up {
                return End::GaveUp(reason.to_string());
            }
            if let Some(reason) = self.down.take()
                && let Some(end) = self.recover(&reason)
            {
                return end;
            }
            if !self.wants_turn() && !self.follows {
                match self.queue.recv_timeout(POLL.saturating_sub(self.since(self.polled_at))) {
                    Ok(order) => self.take(order),
                    Err(RecvTimeoutError::Timeout) => self.follows = true,
                    Err(RecvTimeoutError::Disconnected) => return End::Closed,
                }
            }
            self.inner.hang_for_drill();
            self.gather();
            if self.down.is_none()
                && let Err(reason) = self.go_on()
            {
                self.down = Some(reason.into());
            }
        }
    }

    /// The newest version that memory has.
    pub(super) fn seen(&self) -> u64 {
        self.seen
    }

    /// The reason for which the store is to be opened anew, if there is one.
    pub(super) fn take_failure(&mut self) -> Option<Arc<str>> {
        self.down.take()
    }

    fn since(&self, earlier: MonoTime) -> Duration {
        self.inner.clock.mono().since(earlier)
    }

    /// Takes the orders that wait, with at most as many callers as one turn lets decide.
    pub(super) fn gather(&mut self) {
        while self.entering.len() < MAX_BATCH
            && let Ok(order) = self.queue.try_recv()
        {
            self.take(order);
        }
    }

    /// Does a caller wait for a turn, or may leases change in one?
    pub(super) fn wants_turn(&self) -> bool {
        !self.entering.is_empty() || self.rebalances
    }

    fn take(&mut self, order: Order) {
        match order {
            Order::Shared(SharedOrder::Enter(entrance)) => self.entering.push(entrance),
            Order::Shared(SharedOrder::Follow) => self.follows = true,
            Order::Shared(SharedOrder::Rebalance) => self.rebalances = true,
            Order::Commit(request) => self.batch.push(request),
            Order::Suspect(reason) => self.down = Some(reason),
            Order::GiveUp(reason) => self.given_up = Some(reason),
            // There is no mark log.
            Order::Cut => {}
            // The caller may have stopped waiting.
            Order::Pulse(answer) => drop(answer.send(())),
        }
    }

    /// A turn where a caller waits for one, otherwise a look at the decisions of the others.
    fn go_on(&mut self) -> Result<(), String> {
        if self.wants_turn() {
            self.turn()?;
        } else if self.follows {
            self.poll()?;
        }
        self.conclude();
        Ok(())
    }

    /// What follows a turn or a look.
    pub(super) fn conclude(&mut self) {
        if let Err(reason) = self.prune() {
            // Commits do not depend on it. A connection that is gone shows in the next turn.
            tracing::debug!("store: rows that nobody needs stay for now ({reason}), trying again in {PRUNING:?}");
        }
        self.rebalances |= self.is_unbalanced();
        // The next start does the rest.
        self.rebalances &= !self.inner.lock().orders.is_closed();
        self.life.note_progress(self.seen);
    }

    /// Would a turn change leases? Others may have released some since the last one, and work may have ended.
    fn is_unbalanced(&self) -> bool {
        let memory = self.inner.lock();
        let Some(cluster) = memory.state.cluster.as_ref().filter(|_| !self.life.is_visit()) else { return false };
        let Rebalance { changes, surplus, .. } =
            rebalance(cluster.leases(), &self.members, cluster.me(), self.turned_at, WRITE_BOUND);
        !changes.is_empty() || surplus.iter().any(|bucket| self.inner.leases.is_idle(*bucket))
    }

    /// A look at the decisions of the others.
    pub(super) fn poll(&mut self) -> Result<(), String> {
        self.follows = false;
        self.polled_at = self.inner.clock.mono();
        let news = self.database.news(&self.life, self.seen)?;
        self.follow(&news, None)
    }

    /// Rows of `changes` that every daemon has seen go, and daemons that are long dead. One daemon is enough for that.
    fn prune(&mut self) -> Result<(), String> {
        if self.since(self.pruned_at) < PRUNING {
            return Ok(());
        }
        self.pruned_at = self.inner.clock.mono();
        self.inner.bytes.store(self.database.size()?, Ordering::Relaxed);
        self.versions.push_back((self.pruned_at, self.seen));
        let is_old = |(at, _): &(MonoTime, u64)| self.pruned_at.since(*at) >= KEPT;
        while self.versions.get(1).is_some_and(is_old) {
            self.versions.pop_front();
        }
        let old = self.versions.front().filter(|version| is_old(version)).map(|(_, version)| *version);
        let Some(old) = old.filter(|_| self.inner.leases.holds_bucket(SINGLETONS)) else { return Ok(()) };
        let pruned = self.database.prune(old)?;
        tracing::debug!(pruned, "store: {pruned} rows of the table changes are gone, which every daemon has seen");
        Ok(())
    }

    fn turn(&mut self) -> Result<(), String> {
        match self.begin_turn()? {
            Some(turn) => self.end_turn(turn),
            None => Ok(()),
        }
    }

    /// Becomes the one that decides, and lets the waiting callers do so. `None` when another daemon's turn takes long.
    pub(super) fn begin_turn(&mut self) -> Result<Option<OpenTurn>, String> {
        let opened = self.open_turn()?;
        self.rebalances = opened.is_none();
        let Some(opened) = opened else { return Ok(None) };
        let has_erased = self.decide_on_leases(&opened)?;
        // Those that came while the turn was being opened decide in it as well, rather than in one more turn.
        self.gather();
        let turns = Turns::open();
        for entrance in self.entering.drain(..) {
            // The caller may have stopped waiting: its turn ends at once then.
            let _ = entrance.send(Ok(turns.give()));
        }
        Ok(Some(OpenTurn { opened, has_erased, turns }))
    }

    /// Makes durable what they have decided.
    pub(super) fn end_turn(&mut self, turn: OpenTurn) -> Result<(), String> {
        let OpenTurn { opened, has_erased, turns } = turn;
        let closing = turns.wait(DECIDING);
        {
            let _memory = self.inner.lock();
            closing.close();
        }
        while let Ok(order) = self.queue.try_recv() {
            self.take(order);
        }
        // A decision panicked, or a read failed.
        if let Some(reason) = self.down.take() {
            return Err(reason.to_string());
        }
        if self.inner.takes_drill() {
            panic!("drill: the store's thread was asked to panic");
        }
        self.commit(&opened, None)?;
        if has_erased {
            self.inner.erased.send_modify(|times| *times += 1);
        }
        self.apply_leases(&opened);
        (self.members, self.turned_at) = (opened.members, opened.now);
        Ok(())
    }

    /// Begins a transaction, becomes the one that decides, and brings memory up to it.
    /// `None` when another daemon's turn takes long.
    fn open_turn(&mut self) -> Result<Option<Opened>, String> {
        let is_visit = self.life.is_visit();
        let Some((opened, news)) = self.database.open_turn(&self.life, self.seen)? else { return Ok(None) };
        let is_alive = |member: &Member| member.id == self.life.member() && member.alive && !member.overdue;
        // A visit holds nothing that could have passed on.
        if !is_visit && !opened.members.iter().any(is_alive) {
            return Err("its lease has passed on".into());
        }
        self.follow(&news, Some(opened.number))?;
        if self.seen != opened.head {
            return Err("it was away for too long to follow the others".into());
        }
        self.polled_at = self.inner.clock.mono();
        self.follows = false;
        Ok(Some(opened))
    }

    /// Applies what other daemons decided.
    fn follow(&mut self, news: &[News], number: Option<u64>) -> Result<(), String> {
        let (mut batches, mut seen) = (Vec::new(), self.seen);
        for News { version, bytes } in news {
            if *version != seen + 1 {
                return Err("it was away for too long to follow the others".into());
            }
            batches.push(batch::decode(bytes).map_err(|error| error.to_string())?);
            seen = *version;
        }
        let now = self.inner.clock.now();
        {
            let state = &mut self.inner.lock().state;
            number.into_iter().for_each(|used| state.rise(used));
            for batch in &mut batches {
                state.follow(now, &batch.writes);
                std::mem::take(&mut batch.tail.endings).into_iter().for_each(|ending| state.endings.follow(ending));
            }
            if !batches.is_empty() {
                state.follow_leases();
            }
        }
        // Not before: after a failure on the way, a reload must see that endings of these batches are missing.
        self.seen = seen;
        batches.into_iter().for_each(|batch| self.inner.feed.publish(batch.tail.changes));
        Ok(())
    }

    /// Leases are decided first, so that every caller decides with those of this moment. Returns whether an erasure was
    /// carried out.
    fn decide_on_leases(&mut self, opened: &Opened) -> Result<bool, String> {
        let now = self.inner.clock.now();
        let mut memory = self.inner.lock();
        memory.orders.begin_turn();
        if memory.orders.is_closed() {
            return Ok(false);
        }
        let owed = memory.state.erasures.wanted();
        let (is_visit, earlier) = (self.life.is_visit(), std::mem::take(&mut self.giving_up));
        // Work on a bucket that was named before begins no more, so that one without work stays so.
        let is_free = |bucket: &u16| earlier.contains(bucket) && self.inner.leases.is_idle(*bucket);
        let decided = memory.decide(now, |state, txn| {
            let surplus = match is_visit {
                true => Vec::new(),
                false => state.rebalance(txn, &opened.members, opened.now, WRITE_BOUND),
            };
            let released: Vec<u16> = surplus.iter().copied().filter(is_free).take(RELEASED_AT_ONCE).collect();
            state.release(txn, &released);
            (surplus, carry_out_erasure(state, txn, owed))
        });
        // Its answer is that of the turn.
        let ((surplus, has_erased), _answer) = decided.map_err(|refused| refused.reason.to_string())?;
        self.giving_up = surplus;
        Ok(has_erased)
    }

    /// Makes everything durable that was decided, and answers.
    fn commit(&mut self, opened: &Opened, leaves: Option<u64>) -> Result<(), String> {
        let (endings, number) = {
            let state = &mut self.inner.lock().state;
            // Records that this turn removes count as erased in the next one.
            self.rebalances |= !state.erasures.is_done(state.erasures.wanted());
            (state.endings.take_unshared(), state.newest_seq())
        };
        let changes = self.batch.iter().flat_map(|request| &request.changes).cloned().collect();
        let tail = Tail { endings, changes };
        let writes = self.batch.iter().flat_map(|request| &request.writes);
        let is_news = writes.clone().next().is_some() || tail != Tail::default();
        if !is_news && number <= opened.number && !opened.has_executed && leaves.is_none() {
            self.database.roll_back()?;
        } else {
            let version = opened.head + u64::from(is_news);
            let bytes = if is_news { batch::encode(writes.clone(), &tail) } else { Vec::new() };
            let used = number.max(opened.number);
            let began = Instant::now();
            self.database.commit(writes, Sent { version, bytes, used, leaves })?;
            (self.seen, self.fruitless) = (version, 0);
            self.inner.commits.note_database(began.elapsed());
        }
        self.inner.answer(&mut self.batch);
        if is_news {
            self.life.notify();
        }
        Ok(())
    }

    /// The leases as they stand are in force, here as well.
    fn apply_leases(&mut self, opened: &Opened) {
        let now = self.inner.clock.mono();
        let held: Vec<HeldBucket> = {
            let memory = self.inner.lock();
            let Some(cluster) = &memory.state.cluster else { return };
            let now_in_force = Some((cluster.changes(), self.giving_up.clone()));
            if std::mem::replace(&mut self.applied, now_in_force.clone()) == now_in_force {
                return;
            }
            let mine = cluster.leases().iter().enumerate().filter(|(_, lease)| lease.owner == Some(cluster.me()));
            let held = |(bucket, lease): (usize, &Lease)| {
                let (bucket, quiet) = (bucket as u16, lease.quiet_until.map(|until| until.since(opened.now)));
                let quiet_until = quiet.filter(|left| !left.is_zero()).map(|left| now.plus(left));
                HeldBucket { bucket, epoch: lease.epoch, quiet_until, is_surplus: self.giving_up.contains(&bucket) }
            };
            mine.map(held).collect()
        };
        self.inner.leases.set(held);
    }

    /// Nothing more is accepted, everything queued is refused, and the store is read again until that works.
    fn recover(&mut self, reason: &Arc<str>) -> Option<End> {
        self.go_down(reason);
        let inner = self.inner.clone();
        let mut said = String::new();
        // A database that answers reads and takes no writes, such as one on a full disk, would be read over and over.
        if let Some(earlier) = self.fruitless.checked_sub(1) {
            pauses().nth(earlier).into_iter().for_each(std::thread::sleep);
        }
        self.fruitless += 1;
        for pause in pauses() {
            self.refuse_all(reason);
            if let Some(reason) = &self.given_up {
                return Some(End::GaveUp(reason.to_string()));
            }
            match self.load(reason) {
                Ok(loaded) => {
                    self.come_up(loaded);
                    tracing::info!("store: the database is back, accepting deliveries again");
                    return None;
                }
                Err(error) => {
                    let words = error.to_string();
                    if words != said {
                        tracing::warn!("store: the database is not back ({words}), trying again");
                        // The reason is public in /readyz, where nobody needs to know the address.
                        let place = format!(" at {}", inner.dir.display());
                        inner.take_down(&words.replace(&place, "").into());
                        said = words;
                    }
                }
            }
            if inner.lock().orders.is_closed() {
                return Some(End::Closed);
            }
            std::thread::sleep(pause);
        }
        None
    }

    /// Nothing more is accepted, and everything queued is refused.
    pub(super) fn go_down(&mut self, reason: &Arc<str>) {
        self.inner.leases.lose_all();
        self.applied = None;
        self.inner.take_down(reason);
        tracing::error!(
            %reason,
            "store: cannot commit to the database ({reason}), answering deliveries with 503 and connecting again"
        );
        self.database.disconnect();
        // The next step waits for reads under way. No caller is to wait with it.
        self.refuse_all(reason);
        drop(self.inner.take_engine());
    }

    /// Reads everything on this thread.
    pub(super) fn load_at_once(&mut self) -> Result<Loaded, ConnectError> {
        self.database.load(&self.life)
    }

    /// Reads everything on a thread of its own. Meanwhile this thread answers pulses and refuses callers.
    fn load(&mut self, reason: &Arc<str>) -> Result<Loaded, ConnectError> {
        let (database, life, queue) = (&mut self.database, &self.life, &self.queue);
        let (loaded, given_up) = std::thread::scope(|threads| {
            let loading = threads.spawn(|| database.load(life));
            let mut given_up = None;
            while !loading.is_finished() {
                while let Ok(order) = queue.try_recv() {
                    given_up = refuse_order(order, reason).or(given_up);
                }
                std::thread::sleep(GLANCE);
            }
            (loading.join(), given_up)
        });
        self.given_up = self.given_up.take().or(given_up);
        loaded.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked))
    }

    /// The database is back, with this in it.
    pub(super) fn come_up(&mut self, loaded: Loaded) {
        let Loaded { engine, state, seen } = loaded;
        if seen != self.seen {
            // Grants that the others ended meanwhile are not among the records.
            let memory = &mut self.inner.lock().state;
            let newest = memory.newest_seq().max(state.newest_seq());
            memory.endings.lose(newest + 1);
        }
        self.seen = seen;
        // All requests from before are refused by now.
        (self.down, self.follows, self.rebalances) = (None, false, true);
        self.inner.come_up(engine, None, state);
        self.life.note_progress(self.seen);
    }

    /// Those in the queue as well.
    pub(super) fn refuse_all(&mut self, reason: &Arc<str>) {
        while let Ok(order) = self.queue.try_recv() {
            self.take(order);
        }
        self.refuse(reason);
    }

    fn refuse(&mut self, reason: &Arc<str>) {
        refuse(self.batch.drain(..).map(|request| request.done), reason);
        for entrance in self.entering.drain(..) {
            // The caller may have stopped waiting.
            let _ = entrance.send(Err(Unavailable { reason: reason.clone() }));
        }
    }

    /// Lets everything go, so that the others need not wait until this daemon counts as dead.
    fn close(mut self) {
        self.refuse(&"it is closed".into());
        if let Err(reason) = self.sign_off() {
            tracing::warn!(
                "store: cannot sign off at the database ({reason}), the other daemons wait until it counts as dead"
            );
        }
        self.life.note_progress(self.seen);
        self.life.remember();
        self.end();
    }

    /// A last turn: releases the leases under which nothing is under way, and declares this daemon dead.
    pub(super) fn sign_off(&mut self) -> Result<(), String> {
        // Nothing begins any more.
        self.inner.leases.lose_all();
        let opened = self.open_turn()?.ok_or("the other daemons are busy")?;
        let writes = {
            let memory = &mut self.inner.lock();
            let mut txn = memory.state.begin(self.inner.clock.now());
            // Those of others stay as they are.
            let free: Vec<u16> = (0..BUCKETS).filter(|bucket| self.inner.leases.is_idle(*bucket)).collect();
            memory.state.release(&mut txn, &free);
            txn.collected().writes
        };
        // The queue is closed, and nobody waits for the answer.
        let (done, _) = oneshot::channel();
        let (notes, changes) = (Vec::new(), Vec::new());
        self.batch.push(Request { writes, notes, changes, erasure: 0, unlinks: false, done });
        self.commit(&opened, Some(self.life.member()))
    }

    fn give_up(mut self, reason: &str) {
        let reason: Arc<str> = reason.into();
        tracing::error!(%reason, "store: gives up ({reason}), the process ends and is started again");
        self.inner.take_down(&reason);
        self.refuse(&reason);
        self.inner.given_up.send_replace(Some(reason));
        self.end();
    }

    pub(super) fn end(&mut self) {
        self.life.end();
        self.inner.leases.lose_all();
        self.database.disconnect();
        drop(self.inner.take_engine());
        self.inner.condition.send_if_modified(|condition| {
            let is_up = *condition == Condition::Up;
            if is_up {
                *condition = Condition::Down("it is closed".into());
            }
            is_up
        });
    }
}

/// Removed records are gone with the transaction that removed them, so an erasure is carried out in the next turn. It
/// may have been requested here, or by a daemon that died in between.
fn carry_out_erasure(state: &mut State, txn: &mut Txn, owed: u64) -> bool {
    let is_owed = !state.erasures.is_done(owed);
    if is_owed || state.deletions.has_cleared() {
        state.erased(txn, owed);
    }
    if is_owed {
        txn.write(erasures::note_done());
    }
    is_owed
}

/// Refuses the caller that waits for this order. Returns the reason of an order to give up.
fn refuse_order(order: Order, reason: &Arc<str>) -> Option<Arc<str>> {
    match order {
        Order::Shared(SharedOrder::Enter(entrance)) => drop(entrance.send(Err(Unavailable { reason: reason.clone() }))),
        Order::Commit(request) => refuse([request.done], reason),
        Order::Pulse(answer) => drop(answer.send(())),
        Order::GiveUp(reason) => return Some(reason),
        Order::Shared(SharedOrder::Follow | SharedOrder::Rebalance) | Order::Suspect(_) | Order::Cut => {}
    }
    None
}
