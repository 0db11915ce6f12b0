//! A daemon's store over a database in memory, stepped by hand: for tests that run several daemons, choose when each of them
//! gets on, and what it loses on the way to the database. Each daemon has clocks of its own.
//!
//! The committer is the daemon's own, with its turns, its fence and its following; so are the beats, the leases and the way
//! back after a failure. Not here are the thread on which the committer waits and what it tells the threads that wait for
//! it, the statements of SQL, and the tasks that send beats and notifications: the test decides when they are sent.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::committer::{Committer, OpenTurn, Parts as CommitterParts};
use super::database::{Database, Loaded, News, Opened, Sent};
use super::errors::ConnectError;
use super::life::{self, Beat, Life, Members};
use super::loading;
use super::simulated::{AWAY, Begun, Commit, Trees};
pub use super::simulated::{Committed, Server, Way};
use crate::core::lease::Lease;
use crate::core::model::{MonoTime, WallTime};
use crate::store::clock::{Clock, SetClock};
use crate::store::engine::Engine;
use crate::store::feed::Feed;
use crate::store::inner::{Blocking, Inner, Parts, Store};
use crate::store::leases::Leases;
use crate::store::order::Orders;
use crate::store::roster::Seen;
use crate::store::seal::Keyring;
use crate::store::state::State;
use crate::store::tree::Write;

/// A session with the database in memory.
struct Session {
    server: Server,
    way: Way,
    node: String,
    clock: Clock,
    number: Option<u64>,
    member: u64,
}

impl Session {
    fn reached(&self) -> Result<u64, String> {
        self.number.filter(|_| !self.way.is_cut()).ok_or_else(|| AWAY.into())
    }
}

impl Database for Session {
    fn open_turn(&mut self, life: &Life, seen: u64) -> Result<Option<(Opened, Vec<News>)>, String> {
        self.member = life.member();
        let Some(begun) = self.server.begin(self.reached()?, life.member(), seen) else { return Ok(None) };
        let Begun { head, number, members, has_executed, now, news } = begun;
        Ok(Some((Opened { head, number, members, has_executed, now }, of_rows(news))))
    }

    fn commit<'a>(&mut self, writes: impl Iterator<Item = &'a Write>, sent: Sent) -> Result<(), String> {
        let session = self.reached()?;
        let copy = |Write { tree, key, value }: &Write| Write { tree: *tree, key: key.clone(), value: value.clone() };
        let Sent { version, bytes, used, leaves } = sent;
        let commit = Commit { member: self.member, writes: writes.map(copy).collect(), version, bytes, used, leaves };
        let lost = self.way.take_lost();
        if lost == Some(false) {
            self.server.end(session);
        }
        let is_committed = self.server.commit(session, commit);
        if is_committed && lost.is_none() { Ok(()) } else { Err("the answer to a commit is lost".into()) }
    }

    fn roll_back(&mut self) -> Result<(), String> {
        let is_open = self.server.roll_back(self.reached()?);
        if is_open { Ok(()) } else { Err("the session has ended".into()) }
    }

    fn news(&mut self, _life: &Life, seen: u64) -> Result<Vec<News>, String> {
        self.reached()?;
        Ok(of_rows(self.server.news(seen)))
    }

    fn size(&mut self) -> Result<u64, String> {
        self.reached().map(|_| 0)
    }

    fn prune(&mut self, old: u64) -> Result<u64, String> {
        self.reached()?;
        Ok(self.server.prune(old))
    }

    fn disconnect(&mut self) {
        // One that is cut off leaves its transaction to the timeout of the database.
        if let Some(session) = self.number.take().filter(|_| !self.way.is_cut()) {
            self.server.end(session);
        }
    }

    fn load(&mut self, life: &Life) -> Result<Loaded, ConnectError> {
        let away = |detail: String| ConnectError::Away { place: "memory".into(), detail };
        if self.way.is_cut() {
            return Err(away(AWAY.into()));
        }
        self.number = Some(self.server.connect());
        let engine = Engine::Simulated(Trees::new(self.server.clone(), self.way.clone()));
        let (seen, used) = self.server.version();
        let memory = loading::memory(&engine, self.clock.now());
        let (mut state, leases) = memory.map_err(|fault| away(fault.to_string()))?;
        life.set_member(self.server.live(life.member(), &self.node));
        loading::join(&mut state, life, used, leases);
        Ok(Loaded { engine, state, seen })
    }
}

fn of_rows(rows: Vec<(u64, Vec<u8>)>) -> Vec<News> {
    rows.into_iter().map(|(version, bytes)| News { version, bytes }).collect()
}

/// A beat under way to the database, and back.
#[derive(Debug, Clone, Copy)]
pub struct Sending(Beat);

/// What the database has answered to a beat.
#[derive(Debug)]
pub struct Answered(Beat, bool, Vec<Seen>);

impl Sending {
    /// The beat arrives at the database. `None` when it is not answered in time.
    pub fn arrives(self, server: &Server) -> Option<Answered> {
        let (lives, seen) = server.beat(self.0.member, self.0.seen)?;
        Some(Answered(self.0, lives, seen))
    }
}

/// A daemon's store, and everything in it that works by itself.
pub struct Daemon {
    inner: Arc<Inner>,
    committer: Committer<Session>,
    life: Arc<Life>,
    clock: Arc<SetClock>,
    server: Server,
    turn: Option<OpenTurn>,
    members: Option<Members>,
    down: Option<Arc<str>>,
}

impl Daemon {
    /// A daemon of this name starts. Its clocks show these times until they are set.
    ///
    /// # Errors
    /// The database cannot be reached.
    pub fn start(
        server: &Server,
        way: &Way,
        node: &str,
        keyring: Keyring,
        (wall, mono): (WallTime, MonoTime),
    ) -> Result<(Store, Daemon), ConnectError> {
        let set = Arc::<SetClock>::default();
        set.set(wall, mono);
        let clock = Clock::Set(set.clone());
        let life = Arc::new(Life::new(false, clock.clone(), None));
        let (server, way, feed, node) = (server.clone(), way.clone(), Feed::default(), node.to_owned());
        let of = (server.clone(), clock.clone());
        let mut database = Session { server: of.0, way, node, clock: of.1, number: None, member: 0 };
        let Loaded { engine, state, seen } = database.load(&life)?;
        let (orders, queue) = Orders::without_mark_log(feed.clone());
        let inner = Arc::new(Inner::new(Parts {
            dir: "memory".into(),
            state,
            orders,
            engine,
            mark_log: None,
            keyring: Arc::new(keyring),
            feed,
            leases: Leases::none_by(clock.clone()),
            mended: None,
            clock,
            blocking: Blocking::AtOnce,
        }));
        let parts = CommitterParts { inner: inner.clone(), database, life: life.clone(), queue, seen };
        let committer = Committer::new(parts);
        let store = Store { inner: inner.clone() };
        let daemon = Daemon { inner, committer, life, clock: set, server, turn: None, members: None, down: None };
        Ok((store, daemon))
    }

    /// Its clocks show these times.
    pub fn set_time(&self, wall: WallTime, mono: MonoTime) {
        self.clock.set(wall, mono);
    }

    /// The number of this incarnation.
    pub fn member(&self) -> u64 {
        self.life.member()
    }

    /// Is the store down, so that [`Daemon::try_again`] is due?
    pub fn is_down(&self) -> bool {
        self.down.is_some()
    }

    /// Does it hold a turn?
    pub fn is_in_turn(&self) -> bool {
        self.turn.is_some()
    }

    /// Takes the orders that wait. Returns whether the committer has a reason for a turn.
    pub fn wants_turn(&mut self) -> bool {
        match self.down.clone() {
            Some(reason) => self.committer.refuse_all(&reason),
            None if self.turn.is_none() => self.committer.gather(),
            None => {}
        }
        self.fail_if_asked();
        self.down.is_none() && self.turn.is_none() && self.committer.wants_turn()
    }

    /// Begins a turn, in which the callers that wait may decide. `false` when there is none.
    pub fn begin_turn(&mut self) -> bool {
        match self.committer.begin_turn() {
            Ok(turn) => self.turn = turn,
            Err(reason) => self.fail(&reason.into()),
        }
        self.turn.is_some()
    }

    /// Makes durable what was decided in the turn.
    pub fn end_turn(&mut self) {
        let Some(turn) = self.turn.take() else { return };
        match self.committer.end_turn(turn) {
            Ok(()) => self.committer.conclude(),
            Err(reason) => self.fail(&reason.into()),
        }
        self.fail_if_asked();
    }

    /// The others may have decided something.
    pub fn follow(&mut self) {
        if self.down.is_some() || self.turn.is_some() {
            return;
        }
        match self.committer.poll() {
            Ok(()) => self.committer.conclude(),
            Err(reason) => self.fail(&reason.into()),
        }
    }

    /// Sends a beat; `None` while the committer is stuck.
    pub fn beat(&self) -> Option<Sending> {
        Beat::begin(&self.life).map(Sending)
    }

    /// The answer to a beat arrives.
    pub fn beat_answered(&mut self, answered: Answered) {
        let Answered(beat, lives, seen) = answered;
        beat.answered(&self.life, &self.inner, lives, seen, &mut self.members);
    }

    /// A notification arrives.
    pub fn notified(&self) {
        life::ask_to_follow(&self.life, &self.inner);
    }

    /// After a failure: connects and reads everything. Returns whether the store is back.
    pub fn try_again(&mut self) -> bool {
        let Some(reason) = self.down.clone() else { return true };
        self.committer.refuse_all(&reason);
        if let Ok(loaded) = self.committer.load_at_once() {
            self.committer.come_up(loaded);
            self.down = None;
        }
        self.down.is_none()
    }

    /// Stops in order. Returns whether the database knows of it.
    pub fn stop(mut self) -> bool {
        self.inner.lock().close("it stops");
        let is_signed_off = self.down.is_none() && self.turn.is_none() && self.committer.sign_off().is_ok();
        self.committer.end();
        is_signed_off
    }

    /// The process is gone, and its connections with it.
    pub fn kill(mut self) {
        self.inner.lock().close("the process died");
        self.committer.end();
    }

    /// Is memory what the database has at this moment? `None` where it is older, or a turn is open.
    ///
    /// # Errors
    /// A record that differs.
    pub fn compare(&self) -> Option<Result<(), String>> {
        if self.down.is_some() || self.turn.is_some() || self.committer.seen() != self.server.head() {
            return None;
        }
        let engine = Engine::Simulated(Trees::new(self.server.clone(), Way::default()));
        let (mut state, leases) = loading::memory(&engine, self.clock_now()).ok()?;
        loading::join(&mut state, &self.life, 0, leases);
        let (theirs, ours) = (picture(&state), picture(&self.inner.lock().state));
        let differs = theirs.iter().find(|(key, value)| ours.get(*key) != Some(value));
        let surplus = ours.keys().find(|key| !theirs.contains_key(*key));
        Some(match (differs, surplus) {
            (None, None) => Ok(()),
            (Some((key, value)), _) => Err(format!("{key} is {value}, and {:?} in memory", ours.get(key))),
            (None, Some(key)) => Err(format!("{key} is in memory alone")),
        })
    }

    /// How many leases each incarnation has, as this daemon knows them.
    pub fn leases(&self) -> BTreeMap<u64, usize> {
        let mut held = BTreeMap::new();
        if let Some(cluster) = &self.inner.lock().state.cluster {
            cluster.leases().iter().filter_map(|lease| lease.owner).for_each(|id| *held.entry(id).or_default() += 1);
        }
        held
    }

    fn clock_now(&self) -> WallTime {
        Clock::Set(self.clock.clone()).now()
    }

    /// A decision panicked, a read failed, or the others took this daemon for dead.
    fn fail_if_asked(&mut self) {
        if let Some(reason) = self.committer.take_failure() {
            self.fail(&reason);
        }
    }

    fn fail(&mut self, reason: &Arc<str>) {
        self.turn = None;
        self.members = None;
        if self.down.is_none() {
            self.committer.go_down(reason);
        }
        self.down = Some(reason.clone());
    }
}

/// The records of links and of what they owe, and the leases, as text.
fn picture(state: &State) -> BTreeMap<String, String> {
    let mut picture = BTreeMap::new();
    for (link, record) in state.links.after(None) {
        picture.insert(link.to_string(), format!("{record:?}"));
        for (part, entry) in state.ledger.of_link(link) {
            let owed = format!("mark {:?}, outbox {:?}, synced {:?}", entry.due(), entry.staged(), entry.synced());
            picture.insert(format!("part {part}"), owed);
        }
    }
    let leases: &[Lease] = state.cluster.as_ref().map_or(&[], |cluster| cluster.leases());
    leases.iter().enumerate().for_each(|(bucket, lease)| {
        picture.insert(format!("bucket {bucket}"), format!("{lease:?}"));
    });
    picture
}
