//! The life of this daemon in the cluster: its beat, by which the others see that it lives, and the notifications, by which
//! they learn that it has decided something.
//!
//! The beat has a connection of its own, so that no slow statement holds it up. It says until when the daemon lives by the
//! clock of the database; the daemon itself trusts its leases for less long, counted from before the beat was sent. A daemon
//! whose committer makes no progress does not beat: it would keep its links from those who could read them. A beat counts
//! only in the history that memory was read under ([`identity`](super::identity)).

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{MissedTickBehavior, interval, sleep, sleep_until, timeout};
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::connect::{Connected, Role, connect};
use super::identity::Lineage;
use super::lineage::Known;
use super::memory::Memory;
use super::roster::{self, ROSTER};
use super::settings::Settings;
use super::trees::{Value, said};
use crate::core::lease::{Deadline, LIFE};
use crate::core::model::{MonoTime, WallTime};
use crate::store::clock::Clock;
use crate::store::inner::Inner;
use crate::store::order::{Order, SharedOrder};
use crate::store::roster::Seen;

/// Between two beats.
const BEAT: Duration = Duration::from_secs(1);
/// A beat that is not answered within this is sent again on another connection.
const ANSWER: Duration = Duration::from_secs(1);
/// A committer that has made no progress for so long is stuck.
const STUCK: Duration = Duration::from_secs(10);
/// Between two attempts to connect.
const RECONNECT: Duration = Duration::from_millis(250);
/// Notifications are no more frequent than this: each takes a lock of the whole server.
const NOTIFY: Duration = Duration::from_millis(20);

/// A listener that hears nothing of a beat for so long hears nothing at all.
const DEAF: Duration = Duration::from_secs(5);
/// A notification that a beat sends, so that the listener learns whether it hears. It is sent by another session: one that
/// a session sends itself may arrive where no other does.
const HEARING_TEST: &str = "notify pagesyncd, 'beat'";

/// Between two looks at whether there is something new to remember.
const REMEMBER: Duration = Duration::from_secs(30);

const LIVE: &str = "update daemons set until = clock_timestamp() + $2 * interval '1 millisecond', seen = $3 \
                    where id = $1 and alive and (select history from meta) = $4 returning ";

/// What the committer and the tasks beside it share.
pub(super) struct Life {
    member: AtomicU64,
    /// That of the memory; `None` before the first.
    lineage: Mutex<Option<Arc<Lineage>>>,
    /// The newest version that memory has.
    seen: AtomicU64,
    clock: Clock,
    progressed: Mutex<MonoTime>,
    decided: Notify,
    follow_asked: AtomicBool,
    /// The next beat is to test whether the listener hears.
    tests_hearing: AtomicBool,
    ended: watch::Sender<bool>,
    is_visit: bool,
    /// Where a daemon notes what it knows, and what an earlier process has noted there.
    memory: Option<Memory>,
    remembered: Option<Known>,
}

impl Life {
    /// Not a member yet. A visit never becomes one: it decides as the daemons do, holds no lease and counts for nobody. It
    /// remembers what the daemon has noted, and notes nothing.
    pub(super) fn new(is_visit: bool, clock: Clock, memory: Option<Memory>) -> Life {
        let recalled = memory.as_ref().map_or(Ok(None), Memory::recall).unwrap_or_else(|error| {
            tracing::warn!(
                "store: cannot read which version of the database was seen before ({error}), an older database is not noticed"
            );
            None
        });
        Life {
            member: AtomicU64::new(0),
            lineage: Mutex::new(None),
            seen: AtomicU64::new(0),
            progressed: Mutex::new(clock.mono()),
            clock,
            decided: Notify::new(),
            follow_asked: AtomicBool::new(false),
            tests_hearing: AtomicBool::new(false),
            ended: watch::Sender::new(false),
            memory: memory.filter(|_| !is_visit),
            remembered: recalled,
            is_visit,
        }
    }

    /// The number of this incarnation.
    pub(super) fn member(&self) -> u64 {
        self.member.load(Ordering::Relaxed)
    }

    /// Is it a session of an operator's verb, rather than a daemon?
    pub(super) fn is_visit(&self) -> bool {
        self.is_visit
    }

    /// It was born again.
    pub(super) fn set_member(&self, member: u64) {
        self.member.store(member, Ordering::Relaxed);
    }

    /// The history that memory was read under, and the database.
    pub(super) fn lineage(&self) -> Option<Arc<Lineage>> {
        self.lineage.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The same, with the newest version that memory has; before the first, what an earlier process knew.
    pub(super) fn known(&self) -> Option<Known> {
        self.known_here().or_else(|| self.remembered.clone())
    }

    fn known_here(&self) -> Option<Known> {
        let lineage = (*self.lineage()?).clone();
        Some(Known { lineage, seen: self.seen.load(Ordering::Relaxed) })
    }

    /// Notes what the next process is to know. Blocks.
    pub(super) fn remember(&self) {
        if let Some((memory, known)) = self.memory.as_ref().zip(self.known_here()) {
            memory.keep(&known);
        }
    }

    /// Memory was read under this one. No incarnation of an earlier history goes on.
    pub(super) fn set_lineage(&self, lineage: Lineage) {
        let mut known = self.lineage.lock().unwrap_or_else(PoisonError::into_inner);
        if known.as_ref().is_some_and(|known| known.history != lineage.history) {
            self.set_member(0);
        }
        *known = Some(Arc::new(lineage));
    }

    /// Is a row of the history that memory was read under? It has the columns of [`Lineage::check`] from this one on.
    ///
    /// # Errors
    /// Why memory is not to be used any more.
    pub(super) fn check(&self, row: Option<&Row>, column: usize) -> Result<(), String> {
        self.lineage().ok_or("nothing was read yet")?.check(row, column)
    }

    /// The committer works, and memory has this version.
    pub(super) fn note_progress(&self, seen: u64) {
        self.seen.store(seen, Ordering::Relaxed);
        self.follow_asked.store(false, Ordering::Relaxed);
        *self.progressed.lock().unwrap_or_else(PoisonError::into_inner) = self.clock.mono();
    }

    fn is_stuck(&self) -> bool {
        let progressed = *self.progressed.lock().unwrap_or_else(PoisonError::into_inner);
        self.clock.mono().since(progressed) > STUCK
    }

    /// Something was decided that the others should learn.
    pub(super) fn notify(&self) {
        self.decided.notify_one();
    }

    /// The daemon beats no more.
    pub(super) fn end(&self) {
        self.ended.send_replace(true);
    }
}

/// Begins the beat and the notifications, on the runtime of the store.
pub(super) fn begin(runtime: &tokio::runtime::Handle, life: &Arc<Life>, settings: &Arc<Settings>, inner: &Arc<Inner>) {
    if !life.is_visit() {
        keep(runtime, life, "beat", (life.clone(), settings.clone(), inner.clone()), |(life, settings, inner)| {
            beat(life, settings, inner)
        });
    }
    if life.memory.is_some() {
        keep(runtime, life, "memory", (life.clone(), settings.clone(), inner.clone()), |(life, ..)| remember(life));
    }
    keep(runtime, life, "notifier", (life.clone(), settings.clone(), inner.clone()), |(life, settings, inner)| {
        notify(life, settings, inner)
    });
}

type Parts = (Arc<Life>, Arc<Settings>, Arc<Inner>);

/// Runs a task until the life ends. One that panics is begun again.
fn keep<F: Future<Output = ()> + Send + 'static>(
    runtime: &tokio::runtime::Handle,
    life: &Arc<Life>,
    name: &'static str,
    parts: Parts,
    begin: impl Fn(Parts) -> F + Send + 'static,
) {
    let mut ended = life.ended.subscribe();
    runtime.spawn(async move {
        loop {
            let mut task = tokio::spawn(begin(parts.clone()));
            tokio::select! {
                _ = ended.wait_for(|ended| *ended) => return task.abort(),
                outcome = &mut task => match outcome {
                    Ok(()) => {}
                    Err(error) if error.is_panic() => {
                        tracing::error!("store: the {name} of the database panicked, it begins again");
                    }
                    // The runtime ends, and has ended this task first.
                    Err(_) => return,
                },
            }
            sleep(RECONNECT).await;
        }
    });
}

async fn beat(life: Arc<Life>, settings: Arc<Settings>, inner: Arc<Inner>) {
    let mut members = None;
    loop {
        if let Ok(connected) = connect(&settings, Role::Beat).await {
            let mut ticks = interval(BEAT);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                let Some(beat) = Beat::begin(&life) else { continue };
                match timeout(ANSWER, send(&connected, &life, beat)).await {
                    Ok(Ok((lives, seen))) => beat.answered(&life, &inner, lives, seen, &mut members),
                    Ok(Err(_)) | Err(_) => break,
                }
            }
        }
        sleep(RECONNECT).await;
    }
}

/// Notes what this daemon knows, on a thread that a slow disk may hold up.
async fn remember(life: Arc<Life>) {
    let mut ticks = interval(REMEMBER);
    loop {
        ticks.tick().await;
        let life = life.clone();
        // One that panicked is begun again at the next tick.
        let _ = tokio::task::spawn_blocking(move || life.remember()).await;
    }
}

/// The members, each with whether it is overdue.
pub(super) type Members = Vec<(u64, bool)>;

/// A beat under way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Beat {
    /// The number of this incarnation, and the newest version that its memory has.
    pub member: u64,
    pub seen: u64,
    sent: MonoTime,
    sent_wall: WallTime,
}

impl Beat {
    /// One is sent now; `None` while the committer is stuck.
    pub(super) fn begin(life: &Life) -> Option<Beat> {
        let (sent, sent_wall) = (life.clock.mono(), life.clock.now());
        let seen = life.seen.load(Ordering::Relaxed);
        (!life.is_stuck()).then(|| Beat { member: life.member(), seen, sent, sent_wall })
    }

    /// The database has answered it, with whether this incarnation lives, and with all daemons. `members` are those of the
    /// answer before.
    pub(super) fn answered(
        self,
        life: &Life,
        inner: &Inner,
        lives: bool,
        seen: Vec<Seen>,
        members: &mut Option<Members>,
    ) {
        if self.member != life.member() {
            // It was born again meanwhile.
        } else if !lives {
            let reason = "the other daemons took this one for dead, or the database is another one";
            inner.lock().orders.send(Order::Suspect(reason.into()));
        } else {
            inner.leases.trust_until(Deadline::of_beat(self.sent, self.sent_wall));
        }
        let now = Some(seen.iter().map(|seen| (seen.id, seen.is_overdue)).collect());
        inner.roster.note(seen);
        if *members != now {
            *members = now;
            inner.lock().orders.send(Order::Shared(SharedOrder::Rebalance));
        }
    }
}

/// Sends a beat. Returns whether this incarnation lives in the history of its memory, and all daemons.
async fn send(connected: &Connected, life: &Life, beat: Beat) -> Result<(bool, Vec<Seen>), String> {
    let client = &connected.client;
    let (me, life_ms, seen) = (beat.member as i64, LIFE.as_millis() as i64, beat.seen as i64);
    let lineage = life.lineage().ok_or("nothing was read yet")?;
    let beat: [Value<'_>; 4] =
        [(&me, Type::INT8), (&life_ms, Type::INT8), (&seen, Type::INT8), (&lineage.history, Type::TEXT)];
    let live = [LIVE, connected.naming.expression()].concat();
    let (lives, members) = tokio::join!(client.query_typed(&live, &beat), client.query_typed(ROSTER, &[]),);
    let (lives, members) = (lives.map_err(|error| said(&error))?, members.map_err(|error| said(&error))?);
    if life.tests_hearing.swap(false, Ordering::Relaxed) {
        client.batch_execute(HEARING_TEST).await.map_err(|error| said(&error))?;
    }
    let is_same = |row: &Row| row.try_get(0).is_ok_and(|identity| lineage.is_of(identity));
    Ok((lives.first().is_some_and(is_same), roster::seen(&members)?))
}

/// Notifies the others, and listens to them.
async fn notify(life: Arc<Life>, settings: Arc<Settings>, inner: Arc<Inner>) {
    loop {
        if let Ok(mut connected) = connect(&settings, Role::Listener).await
            && connected.client.batch_execute("listen pagesyncd").await.is_ok()
        {
            // Whatever was decided while nobody listened.
            ask_to_follow(&life, &inner);
            listen(&mut connected, &life, &inner).await;
        }
        sleep(RECONNECT).await;
    }
}

/// Until the connection ends.
async fn listen(connected: &mut Connected, life: &Life, inner: &Inner) {
    let Connected { client, notifications, .. } = connected;
    // A visit has no beat that would test it.
    let mut tests_until = (!life.is_visit()).then(|| tokio::time::Instant::now() + DEAF);
    life.tests_hearing.store(true, Ordering::Relaxed);
    loop {
        let tested = async { sleep_until(tests_until.unwrap_or_else(tokio::time::Instant::now)).await };
        tokio::select! {
            () = life.decided.notified() => {
                if client.batch_execute("notify pagesyncd").await.is_err() {
                    return;
                }
                sleep(NOTIFY).await;
            }
            heard = notifications.recv() => {
                let Some(heard) = heard else { return };
                if !heard.payload().is_empty() {
                    tests_until = None;
                    note_deafness(inner, false);
                }
                ask_to_follow(life, inner);
            }
            () = tested, if tests_until.is_some() => {
                tests_until = None;
                note_deafness(inner, true);
            }
        }
    }
}

fn note_deafness(inner: &Inner, is_deaf: bool) {
    if inner.roster.note_deafness(is_deaf) {
        match is_deaf {
            true => tracing::warn!("store: {}", crate::store::roster::DEAF),
            false => tracing::info!("store: notifications of the database pass again"),
        }
    }
}

pub(super) fn ask_to_follow(life: &Life, inner: &Inner) {
    if !life.follow_asked.swap(true, Ordering::Relaxed) {
        inner.lock().orders.send(Order::Shared(SharedOrder::Follow));
    }
}
