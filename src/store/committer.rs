//! The one thread that writes to the database: gathers waiting requests, makes them durable as one transaction and in
//! the backup log, answers them; and when the disk refuses, takes the store down and brings it back. Marks that are
//! made alone do not come here but to the [mark writer](super::mark_writer).
//!
//! # Supervision
//!
//! The thread's whole work runs behind a guard. A panic that reaches it counts as a failed commit: waiting requests are
//! refused, the store is opened anew. A second one without a successful commit between them is a bug that repeats
//! itself, and a database whose lock an earlier handle does not let go is one that this process cannot open again: then
//! the store gives up ([`Store::given_up`](super::Store::given_up)), which ends the process with a code on which the
//! service manager starts it. A disk that refuses is neither, however long it does.
//!
//! The thread answers a [pulse](Order::Pulse) as soon as it takes it from its queue, also while the store is down and
//! waits to be opened. The feeder of the systemd watchdog requests one: no answer means that the thread hangs.

use std::fs::File;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::api::Condition;
use super::backup_log::{BackupLog, Draft, HighWaterMark};
use super::clock::Clock;
use super::cut::Cuts;
use super::database::Database;
use super::engine::Engine;
use super::handle::{Fault, panic_text};
use super::inner::Inner;
use super::mark_log::MarkLog;
use super::open_error::OpenError;
use super::order::{Order, Request, refuse};
use super::renewal::{Renewal, Schedule};
use super::seal::Keyring;
use super::supervision::{End, pauses, supervise};
use super::tree::Write;
use super::whole::{self, Whole};
use super::{folder, rebuild};

/// Requests in one transaction at most; keeps a transaction's bodies to some megabytes.
const MAX_BATCH: usize = 512;
/// How long a handle that this process has dropped may keep its lock.
const LOCKED: Duration = Duration::from_secs(60);
/// How long the database may take to open, which grows with its size, before it counts as hanging.
const OPENING: Duration = Duration::from_secs(300);
/// How often a thread that opens the database is looked at.
const GLANCE: Duration = Duration::from_millis(20);
/// How long an order is waited for between two steps of a renewal.
const BREATH: Duration = Duration::from_millis(2);

/// Files that only the committer touches.
pub(super) struct Files {
    pub backup_log: BackupLog,
    pub high_water_mark: HighWaterMark,
    /// The number of the newest transaction.
    pub batch: u64,
    /// Keeps other processes out.
    pub _lock: File,
}

struct Committer {
    inner: Arc<Inner>,
    files: Files,
    queue: Receiver<Order>,
    /// Requests that are being made durable; refused when that fails.
    batch: Vec<Request>,
    /// Why the store is down.
    down: Option<Arc<str>>,
    /// Why the store cannot go on.
    given_up: Option<Arc<str>>,
    /// The newest erasure whose removals are committed. A renewal that begins now answers for it; one whose decision
    /// still waits in the queue needs another renewal.
    removed: u64,
    renewal: Option<Renewal>,
    schedule: Schedule,
    cuts: Cuts,
}

pub(super) fn spawn(inner: Arc<Inner>, files: Files, queue: Receiver<Order>) -> std::io::Result<JoinHandle<()>> {
    let removed = inner.lock().state.erasures.wanted();
    let committer = Committer {
        inner,
        files,
        queue,
        batch: Vec::new(),
        down: None,
        given_up: None,
        removed,
        renewal: None,
        schedule: Schedule::default(),
        cuts: Cuts::default(),
    };
    std::thread::Builder::new().name("store-commit".into()).spawn(move || committer.supervise())
}

impl Committer {
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
            if let Some(reason) = self.down.clone() {
                if let Some(end) = self.recover(&reason) {
                    return end;
                }
                self.down = None;
            }
            let order = self.next_order();
            self.inner.hang_for_drill();
            match order {
                Ok(order) => self.carry_out(order),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return End::Closed,
            }
            if self.down.is_none()
                && let Err(reason) = self.renew().and_then(|()| self.cuts.go_on(&self.inner))
            {
                self.down = Some(reason.into());
            }
        }
    }

    /// Waits for an order, no longer than until there is something to do for a renewal.
    fn next_order(&self) -> Result<Order, RecvTimeoutError> {
        if self.renewal.is_some() {
            self.queue.recv_timeout(BREATH)
        } else if self.is_renewal_due() {
            self.queue.recv_timeout(self.schedule.wait())
        } else {
            self.queue.recv().map_err(|_| RecvTimeoutError::Disconnected)
        }
    }

    fn carry_out(&mut self, order: Order) {
        self.gather(order);
        match self.down.is_none().then(|| self.commit()) {
            Some(Ok(())) => self.inner.answer(&mut self.batch),
            Some(Err(reason)) => self.down = Some(reason.into()),
            None => {}
        }
    }

    /// Takes the waiting orders, up to a limit.
    fn gather(&mut self, first: Order) {
        let mut next = Some(first);
        while let Some(order) = next {
            self.take(order);
            next = if self.batch.len() < MAX_BATCH { self.queue.try_recv().ok() } else { None };
        }
    }

    fn take(&mut self, order: Order) {
        match order {
            Order::Commit(request) => self.batch.push(request),
            Order::Suspect(reason) => self.down = Some(reason),
            Order::GiveUp(reason) => self.given_up = Some(reason),
            Order::Cut => self.cuts.want(),
            // Nobody waits for a turn here.
            Order::Shared(_) => {}
            // The caller may have stopped waiting.
            Order::Pulse(answer) => drop(answer.send(())),
        }
    }

    fn commit(&mut self) -> Result<(), String> {
        let writes: Vec<Write> =
            self.batch.iter_mut().flat_map(|request| std::mem::take(&mut request.writes)).collect();
        if !writes.is_empty() {
            if self.inner.takes_drill() {
                panic!("drill: the store's thread was asked to panic");
            }
            let began = Instant::now();
            self.write(&writes)?;
            self.inner.commits.note_database(began.elapsed());
        }
        self.removed = self.batch.iter().map(|request| request.erasure).fold(self.removed, u64::max);
        Ok(())
    }

    /// The backup log comes second: it is never ahead of the database, and both are before the answer.
    fn write(&mut self, writes: &[Write]) -> Result<(), String> {
        let also = {
            let engine = self.inner.engine.read().unwrap_or_else(PoisonError::into_inner);
            let Some(database) = opened(&engine) else { return Err("it is not open".into()) };
            let files = &mut self.files;
            files.batch += 1;
            let records = files.backup_log.choose(&self.inner.keyring(), files.batch, writes);
            database.commit(writes, files.batch).map_err(|fault| fault.to_string())?;
            files.backup_log.append(&records).map_err(|e| format!("the backup log cannot be written: {e}"))?;
            files
                .high_water_mark
                .rise(files.batch)
                .map_err(|e| format!("the high-water mark cannot be written: {e}"))?;
            self.renewal.as_mut().map(|renewal| renewal.also(writes, files.batch, &records))
        };
        if let Some(Err(fault)) = also {
            self.abandon_renewal(&fault);
        }
        Ok(())
    }

    /// The erasure that a renewal would answer for.
    fn owed(&self) -> Option<u64> {
        (!self.inner.lock().state.erasures.is_done(self.removed)).then_some(self.removed)
    }

    fn is_renewal_due(&self) -> bool {
        self.owed().is_some() || self.files.backup_log.has_grown()
    }

    /// Goes on with a renewal, or begins one that is due. One that fails is tried again later; an error means that the
    /// store must be opened anew.
    fn renew(&mut self) -> Result<(), String> {
        let due = self.renewal.is_none() && self.is_renewal_due() && self.schedule.wait().is_zero();
        let copied = match &mut self.renewal {
            Some(renewal) => {
                let engine = self.inner.engine.read().unwrap_or_else(PoisonError::into_inner);
                let Some(database) = opened(&engine) else { return Err("it is not open".into()) };
                renewal.step(database, &self.inner.keyring(), self.files.batch)
            }
            None if due => Renewal::begin(&self.inner.dir, &self.inner.keyring(), self.owed()).map(|renewal| {
                if renewal.covers.is_some() {
                    self.cuts.want_for_erasure();
                }
                self.renewal = Some(renewal);
                false
            }),
            None => return Ok(()),
        };
        match copied {
            Ok(false) => Ok(()),
            // The marks of links that are gone go as well.
            Ok(true) if self.cuts.hold_up_erasure() => Ok(()),
            Ok(true) => self.finish_renewal(),
            // Damage is mended when the store is opened.
            Err(Fault::Suspect(detail)) => Err(format!("it cannot be copied: {detail}")),
            Err(fault) => {
                self.abandon_renewal(&fault);
                Ok(())
            }
        }
    }

    /// Everything is copied: the fresh files replace the old ones.
    fn finish_renewal(&mut self) -> Result<(), String> {
        let Some(mut renewal) = self.renewal.take() else { return Ok(()) };
        let (covers, last) = (renewal.covers, self.files.batch);
        let erases_all = covers.is_none_or(|number| number == self.inner.lock().state.erasures.wanted());
        if let Err(fault) = renewal.seal(&self.inner.keyring(), last, erases_all) {
            drop(renewal);
            self.abandon_renewal(&fault);
            return Ok(());
        }
        let took = renewal.took();
        let database =
            renewal.replace(&mut self.files.backup_log).map_err(|f| format!("its new files have no names: {f}"))?;
        self.files.batch = last + 1;
        self.files
            .high_water_mark
            .rise(self.files.batch)
            .map_err(|e| format!("the high-water mark cannot be written: {e}"))?;
        let fresh = Engine::Database(database);
        let old = self.inner.engine.write().unwrap_or_else(PoisonError::into_inner).replace(fresh);
        drop(old);
        if let Err(error) = folder::remove_folder(&self.inner.dir.join(folder::REPLACED)) {
            self.abandon_renewal(&error.into());
            return Ok(());
        }
        self.schedule.succeeded(took);
        tracing::debug!(?took, "store: the database and the backup log are renewed in {took:?}");
        if let Some(number) = covers {
            self.inner.note_erased(number);
        }
        Ok(())
    }

    fn abandon_renewal(&mut self, fault: &Fault) {
        self.renewal = None;
        // The unfinished files fill a disk that may be full already. The next renewal removes them if this fails.
        let removed = folder::remove_folder(&self.inner.dir.join(folder::UNFINISHED));
        let removed = removed.and_then(|()| Draft::remove(&self.inner.dir));
        let pause = self.schedule.failed();
        tracing::warn!(
            store = %self.inner.dir.display(),
            "store: removed data cannot be erased yet ({fault}), next try in {pause:?}"
        );
        if let Err(error) = removed {
            tracing::debug!(
                %error,
                "store: the unfinished files stay for now ({error}), the next renewal removes them"
            );
        }
    }

    /// Nothing more is accepted, everything queued is refused, and the store is opened again until it can be.
    fn recover(&mut self, reason: &Arc<str>) -> Option<End> {
        let inner = self.inner.clone();
        inner.take_down(reason);
        let dir = inner.dir.display();
        tracing::error!(
            %reason,
            store = %dir,
            "store [{dir}]: cannot write ({reason}), answering deliveries with 503 and opening it again"
        );
        while let Ok(order) = self.queue.try_recv() {
            self.take(order);
        }
        self.refuse(reason);
        self.cuts = Cuts::default();
        if self.renewal.take().is_some() {
            // It may have taken the space that the commit lacked.
            self.schedule.failed();
        }
        drop(inner.take_mark_log());
        drop(inner.take_engine());
        let (mut said, mut locked_since) = (String::new(), None);
        for pause in pauses() {
            match self.reopen(reason) {
                None => return Some(End::GaveUp("its database does not open and does not fail to".into())),
                Some(Ok(())) => {
                    let dir = inner.dir.display();
                    tracing::info!(store = %dir, "store [{dir}]: is back, accepting deliveries again");
                    return None;
                }
                Some(Err(error)) => {
                    let since = *locked_since.get_or_insert_with(Instant::now);
                    match error {
                        OpenError::Locked { .. } if since.elapsed() > LOCKED => {
                            return Some(End::GaveUp("an earlier handle on its database does not close".into()));
                        }
                        OpenError::Locked { .. } => {}
                        _ => locked_since = None,
                    }
                    let text = with_cause(&error);
                    if said != text {
                        tracing::error!(error = %text, "store: does not open yet ({text}), next try in {pause:?}");
                        said = text;
                    }
                }
            }
            if inner.lock().orders.is_closed() {
                return Some(End::Closed);
            }
            if let Some(reason) = self.given_up.take() {
                return Some(End::GaveUp(reason.to_string()));
            }
            self.wait(pause, reason);
        }
        None
    }

    /// Lets time pass while the store is down, and refuses requests that still arrive.
    fn wait(&mut self, pause: Duration, reason: &Arc<str>) {
        let until = Instant::now() + pause;
        loop {
            match self.queue.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(order) => self.take(order),
                Err(RecvTimeoutError::Timeout) => break,
                // Closed meanwhile, which is looked for before each pause.
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.refuse(reason);
        }
    }

    fn refuse(&mut self, reason: &Arc<str>) {
        refuse(self.batch.drain(..).map(|request| request.done), reason);
    }

    /// Opens the store on a thread of its own, so that pulses are answered however long it takes; `None` when it hangs.
    fn reopen(&mut self, reason: &Arc<str>) -> Option<Result<(), OpenError>> {
        let (inner, keyring) = (self.inner.clone(), self.inner.keyring());
        let began = Instant::now();
        let open = move || open_again(&inner.dir, &keyring, &inner.clock);
        let opening = std::thread::Builder::new().name("store-open".into()).spawn(open);
        let opening = match opening {
            Ok(opening) => opening,
            Err(source) => return Some(Err(OpenError::Io { path: self.inner.dir.clone(), source })),
        };
        while !opening.is_finished() {
            if began.elapsed() > OPENING {
                return None;
            }
            self.wait(GLANCE, reason);
        }
        let opened = opening.join().unwrap_or_else(|payload| {
            let fault = Fault::Suspect(format!("opening it panicked: {}", panic_text(&*payload)));
            Err(OpenError::of(&self.inner.dir, fault))
        });
        Some(opened.map(|whole| self.put_in_force(whole)))
    }

    fn put_in_force(&mut self, whole: Whole) {
        let Whole { opened, state, mark_log, .. } = whole;
        let rebuild::Opened { engine, backup_log, high_water_mark, batch, mended, .. } = opened;
        (self.files.backup_log, self.files.high_water_mark, self.files.batch) = (backup_log, high_water_mark, batch);
        self.inner.note_mended(mended);
        self.removed = self.inner.come_up(engine, Some(mark_log), state);
    }

    fn close(mut self) {
        self.renewal = None;
        let mark_thread = self.inner.mark_thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = mark_thread {
            // It has written its last marks. A panic of it has been reported.
            let _ = thread.join();
        }
        if let Some(Err(error)) = self.inner.take_mark_log().map(MarkLog::close) {
            tracing::debug!(%error, "store: the mark log is closed, without a note that it was ({error})");
        }
        if let Some(Engine::Database(database)) = self.inner.take_engine()
            && database.close()
            && let Err(error) = self.files.high_water_mark.close(self.files.batch)
        {
            tracing::debug!(%error, "store: closed, without a mark that it was ({error}); the next start takes longer");
        }
    }

    fn give_up(mut self, reason: &str) {
        let reason: Arc<str> = reason.into();
        tracing::error!(store = %self.inner.dir.display(), "store: {reason}, the process ends");
        self.inner.lock().close(&reason);
        self.inner.condition.send_replace(Condition::Down(reason.clone()));
        while let Ok(order) = self.queue.try_recv() {
            self.take(order);
        }
        self.refuse(&reason);
        self.renewal = None;
        drop(self.inner.take_engine());
        self.inner.given_up.send_replace(Some(reason));
    }
}

fn open_again(dir: &Path, keyring: &Keyring, clock: &Clock) -> Result<Whole, OpenError> {
    let whole = whole::open(dir, keyring, clock)?;
    if let Some(database) = whole.opened.engine.database() {
        database.prove_writable(whole.opened.batch).map_err(|fault| OpenError::of(dir, fault))?;
    }
    Ok(whole)
}

fn opened(engine: &Option<Engine>) -> Option<&Database> {
    engine.as_ref().and_then(Engine::database)
}

fn with_cause(error: &OpenError) -> String {
    let cause = std::error::Error::source(error);
    cause.map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
}
