//! Which buckets of links this process holds, for those who begin work on them.
//!
//! The store's committer writes it: the table when the leases change, the deadline with each beat. Everybody else asks.
//! Where the store is this process's alone it holds all buckets for ever, and no answer depends on a clock.
//!
//! # How a bucket is given up
//!
//! Work on a bucket holds a [`Guard`]. A bucket that is to be given up lets no work begin any more. It is released when
//! it is idle, so that its next owner finds nothing under way and has not to wait.
//!
//! # What a lost deadline means
//!
//! The table stays, because the lease may still stand: the pages of its links go on, and what they decide is refused by
//! the store where it does not. What reaches others needs trust: no write of an object, no delivery of an event and no
//! exchange of a token begins behind the deadline.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use tokio::sync::watch;

use super::clock::Clock;
use crate::core::lease::{BUCKETS, Deadline, bucket_of};
use crate::core::model::{LinkKey, MonoTime};

/// A bucket that this process holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldBucket {
    /// Which.
    pub bucket: u16,
    /// The epoch of its lease.
    pub epoch: u64,
    /// No object is written before. The first value under one epoch counts.
    pub quiet_until: Option<MonoTime>,
    /// No work begins for it any more, because it is to be released.
    pub is_surplus: bool,
}

impl HeldBucket {
    fn is_quiet(&self, now: MonoTime) -> bool {
        self.quiet_until.is_some_and(|until| until > now)
    }
}

/// The buckets that were worked on here at one moment, each with the number of its [`Tenure`]; `None` for all of them, for
/// ever. The default holds nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holding(Option<BTreeMap<u16, u64>>);

impl Default for Holding {
    fn default() -> Holding {
        Holding(Some(BTreeMap::new()))
    }
}

impl Holding {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.as_ref().map_or(usize::from(BUCKETS), BTreeMap::len)
    }

    fn tenure(&self, bucket: u16) -> Option<u64> {
        self.0.as_ref().map_or(Some(0), |held| held.get(&bucket).copied())
    }

    /// The buckets that are worked on now and were not before, or not without a break.
    pub fn gained_since(&self, before: &Holding) -> BTreeSet<u16> {
        let is_new = |bucket: &u16| self.tenure(*bucket).is_some() && self.tenure(*bucket) != before.tenure(*bucket);
        (0..BUCKETS).filter(is_new).collect()
    }
}

/// The buckets that this process holds; clones share them.
#[derive(Clone)]
pub struct Leases {
    /// `None`: all of them, for ever.
    table: Option<Arc<Table>>,
}

struct Table {
    clock: Clock,
    state: Mutex<State>,
    changed: watch::Sender<u64>,
}

/// A time in which this process works on a bucket without a break.
struct Tenure {
    held: HeldBucket,
    /// No other tenure of any bucket has it.
    number: u64,
}

#[derive(Default)]
struct State {
    held: BTreeMap<u16, Tenure>,
    /// The newest number.
    tenures: u64,
    deadline: Deadline,
    /// Guards by bucket, where there are any.
    at_work: BTreeMap<u16, usize>,
}

impl State {
    fn tenure(&self, bucket: u16) -> Option<&Tenure> {
        self.held.get(&bucket).filter(|tenure| !tenure.held.is_surplus)
    }

    /// The tenure of a bucket, where work that no two processes may do at once may begin.
    fn exclusive(&self, bucket: u16, clock: &Clock) -> Option<u64> {
        let tenure = self.tenure(bucket).filter(|tenure| !tenure.held.is_quiet(clock.mono()))?;
        self.is_trusted(clock).then_some(tenure.number)
    }

    /// Returns whether that changes anything.
    fn set(&mut self, held: impl IntoIterator<Item = HeldBucket>) -> bool {
        let before = std::mem::take(&mut self.held);
        let mut is_other = false;
        for mut held in held {
            let lease = before.get(&held.bucket).filter(|tenure| tenure.held.epoch == held.epoch);
            // Reckoned anew from the clock of the database, it would be another moment each time.
            held.quiet_until = lease.map_or(held.quiet_until, |tenure| tenure.held.quiet_until);
            let goes_on = lease.filter(|tenure| !tenure.held.is_surplus);
            let number = goes_on.map_or(self.tenures + 1, |tenure| tenure.number);
            self.tenures = self.tenures.max(number);
            is_other |= lease.is_none_or(|tenure| tenure.held != held);
            self.held.insert(held.bucket, Tenure { held, number });
        }
        is_other || before.len() != self.held.len()
    }

    fn is_trusted(&self, clock: &Clock) -> bool {
        self.deadline.is_ahead(clock.mono(), clock.now())
    }
}

/// Work on a bucket goes on while this lives.
#[must_use]
pub struct Guard {
    /// The bucket, and the number of the tenure in which the work began.
    of: Option<(Arc<Table>, u16, u64)>,
}

impl Guard {
    /// A write of an object of this bucket may begin now. `None` while the bucket is to be given up or is quiet, behind
    /// the deadline, and where the bucket was somebody else's since the work began.
    pub fn may_write(&self) -> Option<WriteRight<'_>> {
        let Some((table, bucket, number)) = &self.of else { return Some(WriteRight { until: None, guard: self }) };
        let until = Deadline::of_write(table.clock.mono(), table.clock.now());
        let may_begin = table.lock().exclusive(*bucket, &table.clock) == Some(*number);
        may_begin.then_some(WriteRight { until: Some(until), guard: self })
    }

    /// Goes on for so long by itself, where somebody else may get the bucket: what was begun under it may still take
    /// effect.
    pub fn linger(self, time: Duration) {
        if self.of.is_some() {
            tokio::spawn(async move {
                tokio::time::sleep(time).await;
                drop(self);
            });
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let Some((table, bucket, _)) = &self.of else { return };
        let mut state = table.lock();
        if let Some(count) = state.at_work.get_mut(bucket) {
            *count -= 1;
            if *count == 0 {
                state.at_work.remove(bucket);
            }
        }
    }
}

/// The right to write an object: the write may begin now. What comes of it is in the store before the guard goes.
#[must_use]
pub struct WriteRight<'a> {
    /// It must have ended before; `None` where nobody else writes.
    pub until: Option<Deadline>,
    guard: &'a Guard,
}

impl WriteRight<'_> {
    /// Does the write. `None` when the right ended before; the write is cut off then, and may take effect all the same.
    pub async fn within<T>(&self, write: impl Future<Output = T>) -> Option<T> {
        let (Some(until), Some((table, ..))) = (self.until, &self.guard.of) else { return Some(write.await) };
        let end = tokio::time::sleep(until.left(table.clock.mono()));
        let (mut write, mut end) = (std::pin::pin!(write), std::pin::pin!(end));
        let step = std::future::poll_fn(move |task| {
            // After a pause of the process the timer may be later than the clock, and the monotonic clock may have slept.
            let is_ahead = until.is_ahead(table.clock.mono(), table.clock.now());
            if end.as_mut().poll(task).is_ready() || !is_ahead {
                return Poll::Ready(None);
            }
            write.as_mut().poll(task).map(Some)
        });
        step.await
    }
}

impl Table {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn guard(self: &Arc<Self>, state: &mut State, bucket: u16, tenure: u64) -> Guard {
        *state.at_work.entry(bucket).or_default() += 1;
        Guard { of: Some((self.clone(), bucket, tenure)) }
    }
}

impl Leases {
    /// All buckets, for ever.
    pub fn all() -> Leases {
        Leases { table: None }
    }

    /// None yet.
    pub fn none() -> Leases {
        Leases::none_by(Clock::Process)
    }

    /// None yet, and trusted by this clock.
    pub(super) fn none_by(clock: Clock) -> Leases {
        let (state, changed) = (Mutex::default(), watch::Sender::new(0));
        Leases { table: Some(Arc::new(Table { clock, state, changed })) }
    }

    /// Do several daemons share the links?
    pub fn are_shared(&self) -> bool {
        self.table.is_some()
    }

    /// Is this link worked on here?
    pub fn holds(&self, link: &LinkKey) -> bool {
        self.table.is_none() || self.holds_bucket(bucket_of(link))
    }

    /// Is this bucket worked on here? One that is to be given up is not.
    pub fn holds_bucket(&self, bucket: u16) -> bool {
        self.table.as_ref().is_none_or(|table| table.lock().tenure(bucket).is_some())
    }

    /// The buckets that are worked on here at this moment.
    pub fn held(&self) -> Holding {
        let Some(table) = &self.table else { return Holding(None) };
        let state = table.lock();
        let tenures = state.held.iter().filter(|(_, tenure)| !tenure.held.is_surplus);
        Holding(Some(tenures.map(|(bucket, tenure)| (*bucket, tenure.number)).collect()))
    }

    /// Has the database answered lately enough that nobody else can hold what this process holds?
    pub fn is_trusted(&self) -> bool {
        self.table.as_ref().is_none_or(|table| table.lock().is_trusted(&table.clock))
    }

    /// Work on this bucket may begin, and goes on while the guard lives. `None` while it is not held, or is to be given
    /// up.
    pub fn begin_work(&self, bucket: u16) -> Option<Guard> {
        let Some(table) = &self.table else { return Some(Guard { of: None }) };
        let mut state = table.lock();
        let tenure = state.tenure(bucket)?.number;
        Some(table.guard(&mut state, bucket, tenure))
    }

    /// The same for work that reaches others and that no two processes may do at once: `None` behind the deadline, and
    /// while the work of an earlier owner may still take effect.
    pub fn begin_exclusive_work(&self, bucket: u16) -> Option<Guard> {
        let Some(table) = &self.table else { return Some(Guard { of: None }) };
        let mut state = table.lock();
        let tenure = state.exclusive(bucket, &table.clock)?;
        Some(table.guard(&mut state, bucket, tenure))
    }

    /// The guard for work that ends with a write of an object of this link; [`Guard::may_write`] is asked once more
    /// right before the write. `None` while no write may begin.
    pub fn may_write(&self, link: &LinkKey) -> Option<Guard> {
        self.begin_exclusive_work(bucket_of(link))
    }

    /// Does no work on this bucket go on?
    pub fn is_idle(&self, bucket: u16) -> bool {
        self.table.as_ref().is_none_or(|table| !table.lock().at_work.contains_key(&bucket))
    }

    /// When the next quiet time of a bucket ends that is held.
    pub fn next_quiet_end(&self) -> Option<MonoTime> {
        let table = self.table.as_ref()?;
        let (state, now) = (table.lock(), table.clock.mono());
        state.held.values().filter_map(|tenure| tenure.held.quiet_until).filter(|until| *until > now).min()
    }

    /// Changes when other buckets are worked on here, or the same ones under other leases.
    pub fn changed(&self) -> watch::Receiver<u64> {
        match &self.table {
            Some(table) => table.changed.subscribe(),
            // It never changes. A receiver without a sender would say that at once, so that this one keeps it.
            None => NEVER.subscribe(),
        }
    }

    /// This process holds these buckets and no others. The store's memory is as new as they are.
    pub fn set(&self, held: impl IntoIterator<Item = HeldBucket>) {
        let Some(table) = &self.table else { return };
        if table.lock().set(held) {
            table.changed.send_modify(|times| *times += 1);
        }
    }

    /// A beat was answered: the leases are trusted until then.
    pub fn trust_until(&self, deadline: Deadline) {
        let Some(table) = &self.table else { return };
        let mut state = table.lock();
        state.deadline = state.deadline.latest(deadline);
    }

    /// This incarnation is dead: it holds nothing, and trusts nothing that it knew.
    pub fn lose_all(&self) {
        let Some(table) = &self.table else { return };
        table.lock().deadline = Deadline::default();
        self.set([]);
    }
}

/// The sender of what never changes.
static NEVER: std::sync::LazyLock<watch::Sender<u64>> = std::sync::LazyLock::new(|| watch::Sender::new(0));

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::lease::WRITE_BOUND;
    use crate::core::model::{UserId, WallTime};
    use crate::store::clock::SetClock;

    fn link() -> LinkKey {
        LinkKey::new(UserId::random(), "123456789".parse().unwrap())
    }

    fn held(bucket: u16) -> HeldBucket {
        HeldBucket { bucket, epoch: 1, quiet_until: None, is_surplus: false }
    }

    fn beat(leases: &Leases) {
        leases.trust_until(Deadline::of_beat(MonoTime::now(), WallTime::now()));
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_all_may_do_all_for_ever() {
        let (leases, link) = (Leases::all(), link());
        assert!(leases.holds(&link) && leases.is_trusted() && leases.is_idle(3));
        let guard = leases.may_write(&link).unwrap();
        assert_eq!((guard.may_write().unwrap().until, leases.held().count()), (None, 1024));
        assert!(leases.is_idle(bucket_of(&link)) && leases.begin_work(7).is_some());
        let mut changed = leases.changed();
        leases.set([]);
        leases.lose_all();
        assert!(leases.holds(&link));
        let waiting = tokio::time::timeout(Duration::from_secs(3600), changed.changed());
        assert!(waiting.await.is_err(), "nothing ever changes");
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_begins_before_the_deadline_and_ends_within_its_bound() {
        let (leases, link) = (Leases::none(), link());
        assert!(!leases.holds(&link) && leases.may_write(&link).is_none() && leases.begin_work(0).is_none());
        leases.set([held(bucket_of(&link))]);
        assert!(leases.holds(&link) && leases.begin_work(bucket_of(&link)).is_some());
        assert!(leases.may_write(&link).is_none(), "no beat was answered yet");
        beat(&leases);
        tokio::time::advance(Duration::from_millis(3_900)).await;
        let (began, guard) = (MonoTime::now(), leases.may_write(&link).unwrap());
        let right = guard.may_write().unwrap();
        assert_eq!(right.until.map(|until| until.left(began)), Some(WRITE_BOUND));
        tokio::time::advance(Duration::from_millis(200)).await;
        assert!(leases.may_write(&link).is_none() && guard.may_write().is_none() && !leases.is_trusted());
        assert!(leases.holds(&link) && leases.begin_work(bucket_of(&link)).is_some(), "its page goes on");
        beat(&leases);
        assert!(leases.may_write(&link).is_some());
        assert_eq!(right.within(async { 7 }).await, Some(7));
        assert_eq!(right.within(std::future::pending::<()>()).await, None);
        assert!(MonoTime::now() >= began.plus(WRITE_BOUND));
        assert_eq!(right.within(async { 7 }).await, None, "nothing begins behind its end");
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_goes_on_no_longer_after_the_machine_has_slept() {
        let (clock, link) = (Arc::<SetClock>::default(), link());
        let (leases, mono) = (Leases::none_by(Clock::Set(clock.clone())), MonoTime(1));
        clock.set(WallTime(1), mono);
        leases.set([held(bucket_of(&link))]);
        leases.trust_until(Deadline::of_beat(mono, WallTime(1)));
        let guard = leases.may_write(&link).unwrap();
        let right = guard.may_write().unwrap();
        clock.set(WallTime(1).plus(WRITE_BOUND), mono);
        assert_eq!(right.within(async { 7 }).await, None, "the wall clock shows that the time of the write is over");
        assert!(guard.may_write().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_written_in_a_quiet_time() {
        let (leases, link) = (Leases::none(), link());
        let until = MonoTime::now().plus(Duration::from_secs(35));
        let bucket = bucket_of(&link);
        leases.set([HeldBucket { quiet_until: Some(until), ..held(bucket) }]);
        beat(&leases);
        assert!(leases.may_write(&link).is_none() && leases.begin_exclusive_work(bucket).is_none());
        assert!(leases.begin_work(bucket).is_some());
        assert_eq!(leases.next_quiet_end(), Some(until));
        let changed = leases.changed();
        leases.set([HeldBucket { quiet_until: Some(until.plus(Duration::from_millis(2))), ..held(bucket) }]);
        assert!(
            !changed.has_changed().unwrap() && leases.next_quiet_end() == Some(until),
            "the clocks differ a little"
        );
        tokio::time::advance(Duration::from_secs(36)).await;
        beat(&leases);
        assert!(leases.may_write(&link).is_some());
        assert_eq!(leases.next_quiet_end(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_bucket_that_is_given_up_is_idle_when_its_work_has_ended() {
        let (leases, link) = (Leases::none(), link());
        let bucket = bucket_of(&link);
        leases.set([held(bucket)]);
        beat(&leases);
        let (right, work) = (leases.may_write(&link).unwrap(), leases.begin_work(bucket).unwrap());
        let before = leases.held();
        let mut changed = leases.changed();
        leases.set([HeldBucket { is_surplus: true, ..held(bucket) }]);
        assert!(changed.has_changed().unwrap());
        changed.mark_unchanged();
        assert!(!leases.holds(&link) && leases.may_write(&link).is_none() && leases.begin_work(bucket).is_none());
        assert!(right.may_write().is_none(), "the work that goes on begins no write");
        assert_eq!((leases.held().count(), leases.is_idle(bucket)), (0, false));
        drop(right);
        assert!(!leases.is_idle(bucket));
        drop(work);
        assert!(leases.is_idle(bucket));
        leases.set([HeldBucket { is_surplus: true, ..held(bucket) }]);
        assert!(!changed.has_changed().unwrap(), "the same table is no news");
        // It is not released after all: whoever ended its work meanwhile finds that it begins anew.
        leases.set([held(bucket)]);
        assert!(changed.has_changed().unwrap() && leases.may_write(&link).is_some());
        assert_eq!(leases.held().gained_since(&before).len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_dead_incarnation_holds_nothing_and_trusts_nothing() {
        let (leases, link) = (Leases::none(), link());
        leases.set([held(bucket_of(&link))]);
        beat(&leases);
        let work = leases.begin_work(bucket_of(&link)).unwrap();
        assert!(work.may_write().is_some());
        let before = leases.held();
        leases.lose_all();
        assert!(!leases.holds(&link) && !leases.is_trusted());
        leases.set([HeldBucket { epoch: 3, ..held(bucket_of(&link)) }]);
        assert!(leases.may_write(&link).is_none(), "the next incarnation has to beat first");
        beat(&leases);
        assert!(leases.may_write(&link).is_some() && work.may_write().is_none(), "the work is of another lease");
        let moved = BTreeSet::from([bucket_of(&link)]);
        let now = leases.held();
        assert_eq!(now.gained_since(&before), moved);
        assert_eq!(now.gained_since(&Holding::default()), moved);
        assert!(now.gained_since(&now).is_empty() && Holding::default().gained_since(&now).is_empty());
        assert_eq!(Leases::all().held().gained_since(&Holding::default()).len(), 1024);
        drop(work);
        assert!(leases.is_idle(bucket_of(&link)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_bucket_is_busy_while_a_lost_answer_lingers() {
        let leases = Leases::none();
        leases.set([held(7)]);
        leases.begin_work(7).unwrap().linger(Duration::from_secs(60));
        tokio::time::sleep(Duration::from_secs(59)).await;
        assert!(!leases.is_idle(7));
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(leases.is_idle(7));
    }
}
