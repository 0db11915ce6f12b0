//! The one thread that writes to a shared database: opens turns, lets those decide who wait, makes what they decided
//! durable in one transaction, answers them; follows what the other daemons decide; and when the database refuses, takes
//! the store down and brings it back.
//!
//! # A turn
//!
//! ```text
//! begin; lock meta; am I alive?; what is new? ─▶ follow ─▶ everybody decides who waits ─▶ write; commit ─▶ answers
//! ```
//!
//! Each transaction locks the one row of `meta` first. So the transactions of all daemons come one after another, and so do
//! their decisions: a decision sees all that was committed before it, and nothing is committed between it and its own
//! commit. Many callers share one turn, so that the cost of a commit does not grow with them.
//!
//! *The fence.* Behind the lock this daemon looks at its own row in `daemons`. Whoever declares a daemon dead does so in a
//! turn, too, so either its death comes before this turn, which ends then without a decision, or after it, and then the
//! heir sees what was decided here. There is no moment between the two.
//!
//! *A daemon that is paused inside a turn* holds the lock. `idle_in_transaction_session_timeout` ends its session after three
//! seconds, and nothing of the turn remains.
//!
//! *An unknown outcome.* The answer to `commit` may be lost, with the transaction committed or not. Callers are answered that
//! the store is not available, as after a write that a disk refused. Memory is thrown away and read again, so it shows what
//! the database has.
//!
//! # Following
//!
//! A notification says that another daemon has committed; without one the newest version is asked for every second. Rows of
//! `changes` become visible in the order of their versions, since they are written under the lock, so none is missed that
//! has a lower version than one that was seen.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Row};

use super::batch::{self, Tail};
use super::connect::{Connected, Role, begin};
use super::life::Life;
use super::loading::{Loaded, Loader};
use super::trees::{self, ANSWER, Value};
use crate::core::lease::{BUCKETS, Lease, Member, Rebalance, SINGLETONS, WRITE_BOUND, rebalance};
use crate::core::model::{MonoTime, WallTime};
use crate::store::api::{Condition, Unavailable};
use crate::store::handle::panic_text;
use crate::store::inner::Inner;
use crate::store::leases::HeldBucket;
use crate::store::order::{Order, Request, SharedOrder, refuse};
use crate::store::state::erasures;
use crate::store::turn::{Turn, Turns};
use crate::store::txn::Collected;

/// Decisions in one transaction at most.
const MAX_BATCH: usize = 1024;
/// How often the database is asked for news where nobody notifies.
const POLL: Duration = Duration::from_secs(1);
/// How long callers may take to decide once it is their turn. They need microseconds, and a busy machine some more.
const DECIDING: Duration = Duration::from_millis(250);
/// When a database that is away is tried again.
const RECONNECT: [Duration; 5] = [
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
];
/// Buckets that are let go in one turn, so that a newcomer does not empty the others at once.
const RELEASED_AT_ONCE: usize = 32;
/// How often the tables are measured, and rows removed that nobody needs.
const PRUNING: Duration = Duration::from_secs(20);

const LOCK: &str = "select head, number from meta for update";
const MEMBERS: &str = "select id, alive, until < clock_timestamp(), \
                       (extract(epoch from clock_timestamp()) * 1000)::bigint \
                       from daemons where alive or id = $1";
const NEWS: &str = "select version, writes from changes where version > $1 order by version";
const HEAD: &str = "select head from meta";
const ADVANCE: &str = "update meta set head = $1, number = $2";
const PUBLISH: &str = "insert into changes (version, writes) values ($1, $2)";
const BURY: &str = "update daemons set alive = false where id = any($1)";
const PRUNE: &str = "delete from changes where version <= (select min(seen) from daemons where alive)";
const FORGET: &str = "delete from daemons where not alive and until < clock_timestamp() - interval '7 days'";

type Entrance = oneshot::Sender<Result<Turn, Unavailable>>;

/// What the committer is made of.
pub(super) struct Parts {
    pub inner: Arc<Inner>,
    pub loader: Loader,
    pub life: Arc<Life>,
    pub queue: Receiver<Order>,
    pub connected: Connected,
    pub seen: u64,
}

struct Committer {
    inner: Arc<Inner>,
    loader: Loader,
    life: Arc<Life>,
    queue: Receiver<Order>,
    connected: Option<Connected>,
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
    polled_at: Instant,
    pruned_at: Instant,
    down: Option<Arc<str>>,
    given_up: Option<Arc<str>>,
}

/// How the work ended.
enum End {
    Closed,
    GaveUp(String),
}

/// What a turn began with.
struct Opened {
    /// The newest version, and the highest number that was handed out.
    head: u64,
    number: u64,
    members: Vec<Member>,
    /// This moment on the database's clock.
    now: WallTime,
}

pub(super) fn spawn(parts: Parts) -> std::io::Result<JoinHandle<()>> {
    let Parts { inner, loader, life, queue, connected, seen } = parts;
    let committer = Committer {
        inner,
        loader,
        life,
        queue,
        connected: Some(connected),
        seen,
        entering: Vec::new(),
        batch: Vec::new(),
        follows: false,
        rebalances: true,
        members: Vec::new(),
        turned_at: WallTime(0),
        giving_up: Vec::new(),
        polled_at: Instant::now(),
        pruned_at: Instant::now(),
        down: None,
        given_up: None,
    };
    std::thread::Builder::new().name("store-commit".into()).spawn(move || committer.supervise())
}

impl Committer {
    fn supervise(mut self) {
        loop {
            match catch_unwind(AssertUnwindSafe(|| self.work())) {
                Ok(End::Closed) => return self.close(),
                Ok(End::GaveUp(reason)) => return self.give_up(&reason),
                Err(_) if self.inner.commits.is_second_panic_of_database() => {
                    return self.give_up("its thread died twice without a commit between");
                }
                Err(payload) => {
                    let reason = format!("its thread panicked: {}", panic_text(&*payload));
                    tracing::error!("store: {reason}, the store is opened anew");
                    self.down = Some(reason.into());
                }
            }
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
            if self.entering.is_empty() && !self.follows && !self.rebalances {
                match self.queue.recv_timeout(POLL.saturating_sub(self.polled_at.elapsed())) {
                    Ok(order) => self.take(order),
                    Err(RecvTimeoutError::Timeout) => self.follows = true,
                    Err(RecvTimeoutError::Disconnected) => return End::Closed,
                }
            }
            while self.entering.len() < MAX_BATCH
                && let Ok(order) = self.queue.try_recv()
            {
                self.take(order);
            }
            if self.down.is_none()
                && let Err(reason) = self.go_on()
            {
                self.down = Some(reason.into());
            }
        }
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

    /// A turn where somebody waits for one, or a look at what the others did.
    fn go_on(&mut self) -> Result<(), String> {
        if !self.entering.is_empty() || std::mem::take(&mut self.rebalances) {
            self.turn()?;
        } else if std::mem::take(&mut self.follows) {
            self.poll()?;
        }
        self.rebalances |= self.is_unbalanced();
        self.life.note_progress(self.seen);
        Ok(())
    }

    /// Would a turn change leases? Others may have released some since the last one, and work may have ended.
    fn is_unbalanced(&self) -> bool {
        let memory = self.inner.lock();
        let Some(cluster) = memory.state.cluster.as_ref().filter(|_| !self.life.is_visit()) else { return false };
        let Rebalance { changes, surplus, .. } =
            rebalance(cluster.leases(), &self.members, cluster.me(), self.turned_at, WRITE_BOUND);
        !changes.is_empty() || surplus.iter().any(|bucket| self.inner.leases.is_idle(*bucket))
    }

    fn client(&self) -> Result<&Client, String> {
        self.connected.as_ref().map(|connected| &connected.client).ok_or_else(|| "it is not connected".into())
    }

    /// Waits for the database, but not for ever.
    fn wait<T>(&self, answer: impl Future<Output = Result<T, tokio_postgres::Error>>) -> Result<T, String> {
        let answer = async { tokio::time::timeout(ANSWER, answer).await };
        match self.loader.runtime().block_on(answer) {
            Ok(answer) => answer.map_err(|error| trees::said(&error)),
            Err(_) => Err("the database does not answer".into()),
        }
    }

    fn poll(&mut self) -> Result<(), String> {
        self.polled_at = Instant::now();
        let client = self.client()?;
        let head = self.wait(client.query_typed(HEAD, &[]))?;
        if trees::number_in(head.first(), 0)? > self.seen {
            let seen = self.seen as i64;
            let news = self.wait(client.query_typed(NEWS, &[(&seen, Type::INT8)]))?;
            self.follow(&news, None)?;
        }
        self.prune()
    }

    /// Rows of `changes` that every daemon has seen go, and daemons that are long dead. One daemon is enough for that.
    fn prune(&mut self) -> Result<(), String> {
        if self.pruned_at.elapsed() < PRUNING {
            return Ok(());
        }
        self.pruned_at = Instant::now();
        let size = self.wait(self.client()?.query_typed(trees::SIZE, &[]))?;
        self.inner.bytes.store(trees::number_in(size.first(), 0)?, Ordering::Relaxed);
        if !self.inner.leases.holds_bucket(SINGLETONS) {
            return Ok(());
        }
        let pruned = self.wait(self.client()?.execute_typed(PRUNE, &[]))?;
        self.wait(self.client()?.execute_typed(FORGET, &[]))?;
        tracing::debug!(pruned, "store: {pruned} rows of the table changes are gone, which every daemon has seen");
        Ok(())
    }

    fn turn(&mut self) -> Result<(), String> {
        let opened = self.open_turn()?;
        let decided_on_leases = self.decide_on_leases(&opened)?;
        let turns = Turns::open();
        for entrance in self.entering.drain(..) {
            // The caller may have stopped waiting: its turn ends at once then.
            let _ = entrance.send(Ok(turns.give()));
        }
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
        self.commit(&opened, &decided_on_leases)?;
        self.apply_leases(&opened);
        (self.members, self.turned_at) = (opened.members, opened.now);
        Ok(())
    }

    /// Begins a transaction, becomes the one that decides, and brings memory up to it.
    fn open_turn(&mut self) -> Result<Opened, String> {
        let (client, me, seen) = (self.client()?, self.life.member() as i64, self.seen as i64);
        let (i_am, since): ([Value<'_>; 1], [Value<'_>; 1]) = ([(&me, Type::INT8)], [(&seen, Type::INT8)]);
        let opening = async {
            let (begun, locked, members, news) = tokio::join!(
                client.batch_execute(begin(Role::Committer)),
                client.query_typed(LOCK, &[]),
                client.query_typed(MEMBERS, &i_am),
                client.query_typed(NEWS, &since),
            );
            begun?;
            Ok((locked?, members?, news?))
        };
        let (locked, members, news) = self.wait(opening)?;
        let (head, number) = (trees::number_in(locked.first(), 0)?, trees::number_in(locked.first(), 1)?);
        let now = WallTime(trees::number_in(members.first(), 3)?);
        let members = members.iter().map(member).collect::<Result<Vec<Member>, String>>()?;
        let is_alive = |member: &Member| member.id == self.life.member() && member.alive && !member.overdue;
        // A visit holds nothing that could have passed on.
        if !self.life.is_visit() && !members.iter().any(is_alive) {
            return Err("its lease has passed on".into());
        }
        self.follow(&news, Some(number))?;
        if self.seen != head {
            return Err("it was away for too long to follow the others".into());
        }
        self.polled_at = Instant::now();
        self.follows = false;
        Ok(Opened { head, number, members, now })
    }

    /// Applies what other daemons decided.
    fn follow(&mut self, news: &[Row], number: Option<u64>) -> Result<(), String> {
        let mut batches = Vec::new();
        for row in news {
            let version = trees::number_in(Some(row), 0)?;
            if version != self.seen + 1 {
                return Err("it was away for too long to follow the others".into());
            }
            let bytes: &[u8] = row.try_get(1).map_err(|error| trees::said(&error))?;
            batches.push(batch::decode(bytes).map_err(|error| error.to_string())?);
            self.seen = version;
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
        batches.into_iter().for_each(|batch| self.inner.feed.publish(batch.tail.changes));
        Ok(())
    }

    /// Who holds what is decided first, so that every caller decides with the leases of this moment.
    fn decide_on_leases(&mut self, opened: &Opened) -> Result<Vec<u64>, String> {
        let now = self.inner.clock.now();
        let mut memory = self.inner.lock();
        let (owed, mut giving_up) = (memory.state.erasures.wanted(), Vec::new());
        let is_visit = self.life.is_visit();
        let idle = |bucket: &u16| self.inner.leases.is_idle(*bucket);
        let decided = memory.decide(now, |state, txn| {
            let (executed, surplus) = match is_visit {
                true => Default::default(),
                false => state.rebalance(txn, &opened.members, opened.now, WRITE_BOUND),
            };
            let released: Vec<u16> = surplus.iter().copied().filter(idle).take(RELEASED_AT_ONCE).collect();
            state.release(txn, &released);
            giving_up = surplus;
            // What was removed is gone with the transaction that removed it.
            if !state.erasures.is_done(owed) {
                state.erased(txn, owed);
                txn.write(erasures::note_done());
            }
            executed
        });
        // Its answer is that of the turn.
        let (executed, _answer) = decided.map_err(|refused| refused.reason.to_string())?;
        self.giving_up = giving_up;
        Ok(executed)
    }

    /// Makes everything durable that was decided, and answers.
    fn commit(&mut self, opened: &Opened, executed: &[u64]) -> Result<(), String> {
        let (endings, number) = {
            let state = &mut self.inner.lock().state;
            // What was removed in this turn counts as erased in the next one.
            self.rebalances |= !state.erasures.is_done(state.erasures.wanted());
            (state.endings.take_unshared(), state.newest_seq())
        };
        let changes = self.batch.iter().flat_map(|request| &request.changes).cloned().collect();
        let tail = Tail { endings, changes };
        let writes = self.batch.iter().flat_map(|request| &request.writes);
        let is_news = writes.clone().next().is_some() || tail != Tail::default();
        let client = self.client()?;
        if !is_news && number <= opened.number && executed.is_empty() {
            self.wait(client.batch_execute("rollback"))?;
        } else {
            let head = opened.head + u64::from(is_news);
            let (version, bytes) =
                (head as i64, if is_news { batch::encode(writes.clone(), &tail) } else { Vec::new() });
            let (used, executed) = (number.max(opened.number) as i64, executed.iter().map(|id| *id as i64).collect());
            self.wait(send(client, writes, Sent { version, bytes, used, executed }))?;
            self.seen = head;
            self.inner.commits.note_database();
        }
        self.inner.answer(&mut self.batch);
        if is_news {
            self.life.notify();
        }
        Ok(())
    }

    /// The leases as they stand are in force, here as well.
    fn apply_leases(&mut self, opened: &Opened) {
        let now = MonoTime::now();
        let held: Vec<HeldBucket> = {
            let memory = self.inner.lock();
            let Some(cluster) = &memory.state.cluster else { return };
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
        let inner = self.inner.clone();
        inner.leases.lose_all();
        inner.take_down(reason);
        tracing::error!(
            %reason,
            "store: cannot commit to the database ({reason}), answering deliveries with 503 and connecting again"
        );
        self.connected = None;
        // Whoever still reads is waited for; nobody else is to wait meanwhile.
        self.refuse_all(reason);
        drop(inner.take_engine());
        let mut said = String::new();
        for pause in RECONNECT.iter().chain(std::iter::repeat(&RECONNECT[RECONNECT.len() - 1])) {
            self.refuse_all(reason);
            if let Some(reason) = &self.given_up {
                return Some(End::GaveUp(reason.to_string()));
            }
            match self.loader.load(&self.life) {
                Ok(loaded) => {
                    self.come_up(loaded);
                    tracing::info!("store: the database is back, accepting deliveries again");
                    return None;
                }
                Err(error) => {
                    let words = error.to_string();
                    if words != said {
                        tracing::warn!("store: the database is not back ({words}), trying again");
                        said = words;
                    }
                }
            }
            if inner.lock().orders.is_closed() {
                return Some(End::Closed);
            }
            std::thread::sleep(*pause);
        }
        None
    }

    fn come_up(&mut self, loaded: Loaded) {
        let Loaded { connected, engine, state, seen } = loaded;
        (self.connected, self.seen) = (Some(connected), seen);
        // What stood for the time before is refused already.
        (self.down, self.follows, self.rebalances) = (None, false, true);
        self.inner.come_up(engine, None, state);
        self.life.note_progress(self.seen);
    }

    /// Those in the queue as well.
    fn refuse_all(&mut self, reason: &Arc<str>) {
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
        self.end();
    }

    /// A last turn: releases the leases under which nothing is under way, and declares this daemon dead.
    fn sign_off(&mut self) -> Result<(), String> {
        let opened = self.open_turn()?;
        let (collected, erasure) = {
            let state = &mut self.inner.lock().state;
            let mut txn = state.begin(self.inner.clock.now());
            let elsewhere = state.cluster.as_ref().map(|cluster| cluster.elsewhere());
            let is_free = |bucket: &u16| {
                elsewhere.as_ref().is_some_and(|elsewhere| !elsewhere[usize::from(*bucket)])
                    && self.inner.leases.is_idle(*bucket)
            };
            let free: Vec<u16> = (0..BUCKETS).filter(is_free).collect();
            state.release(&mut txn, &free);
            let erasure = state.conclude(&mut txn);
            (txn.collected(), erasure)
        };
        // The way to the queue is closed by now, and nobody waits for this.
        let (Collected { writes, notes, changes, .. }, (done, _)) = (collected, oneshot::channel());
        self.batch.push(Request { writes, notes, changes, erasure, unlinks: false, done });
        while let Ok(order) = self.queue.try_recv() {
            self.take(order);
        }
        self.commit(&opened, &[self.life.member()])
    }

    fn give_up(mut self, reason: &str) {
        let reason: Arc<str> = reason.into();
        tracing::error!(%reason, "store: gives up ({reason}), the process ends and is started again");
        self.inner.take_down(&reason);
        self.refuse(&reason);
        self.inner.given_up.send_replace(Some(reason));
        self.end();
    }

    fn end(&mut self) {
        self.life.end();
        self.inner.leases.lose_all();
        self.connected = None;
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

/// What goes to the database with the writes of a transaction.
struct Sent {
    version: i64,
    bytes: Vec<u8>,
    used: i64,
    executed: Vec<i64>,
}

/// Sends everything at once; the database works on it in this order.
async fn send<'a>(
    client: &Client,
    writes: impl Iterator<Item = &'a crate::store::tree::Write>,
    sent: Sent,
) -> Result<(), tokio_postgres::Error> {
    let Sent { version, bytes, used, executed } = sent;
    let publish = async {
        if bytes.is_empty() {
            return Ok(0);
        }
        client.execute_typed(PUBLISH, &[(&version, Type::INT8), (&bytes, Type::BYTEA)]).await
    };
    let bury = async {
        if executed.is_empty() {
            return Ok(0);
        }
        client.execute_typed(BURY, &[(&executed, Type::INT8_ARRAY)]).await
    };
    let advance: [Value<'_>; 2] = [(&version, Type::INT8), (&used, Type::INT8)];
    let (written, published, buried, advanced, committed) = tokio::join!(
        trees::write(client, writes),
        publish,
        bury,
        client.execute_typed(ADVANCE, &advance),
        client.batch_execute("commit"),
    );
    // A statement that failed has made the transaction void, whatever `commit` says.
    written?;
    published?;
    buried?;
    advanced?;
    committed
}

fn member(row: &Row) -> Result<Member, String> {
    let said = |error| trees::said(&error);
    let alive = row.try_get(1).map_err(said)?;
    let overdue = row.try_get(2).map_err(said)?;
    Ok(Member { id: trees::number_in(Some(row), 0)?, alive, overdue })
}
