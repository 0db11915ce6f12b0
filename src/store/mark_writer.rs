//! The one thread that writes to the mark log: gathers the marks that wait, makes them durable with one write,
//! publishes what they changed, and answers.
//!
//! It holds the [`MarkLog`](super::mark_log::MarkLog) only while it writes. The committer takes the log away before it
//! opens the store anew, and puts a fresh one there; marks that were decided before that are refused. After a failed
//! write the thread itself takes the log away, so that no later mark is appended behind bytes of which nobody knows
//! whether they are durable, and asks the committer to open the store anew. A panic is a failed write, as in the
//! [committer](super::committer), and one that follows upon another of either thread ends the process unless this
//! thread made something durable between.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use super::handle::panic_text;
use super::inner::Inner;
use super::mark_log::GROWN;
use super::order::{MarkOrder, MarkRequest, Order, refuse};

/// Requests in one batch at most.
const MAX_BATCH: usize = 1024;

struct MarkWriter {
    inner: Arc<Inner>,
    queue: Receiver<MarkOrder>,
    /// Requests that are being made durable; refused when that fails.
    batch: Vec<MarkRequest>,
}

pub(super) fn spawn(inner: Arc<Inner>, queue: Receiver<MarkOrder>) -> io::Result<JoinHandle<()>> {
    let writer = MarkWriter { inner, queue, batch: Vec::new() };
    std::thread::Builder::new().name("store-marks".into()).spawn(move || writer.supervise())
}

impl MarkWriter {
    fn supervise(mut self) {
        while let Err(payload) = catch_unwind(AssertUnwindSafe(|| self.work())) {
            if self.inner.commits.is_second_panic_of_marks() {
                let reason = "its thread for marks died twice without a commit between";
                self.fail(&reason.into(), Order::GiveUp(reason.into()));
            } else {
                let reason: Arc<str> = format!("its thread for marks panicked: {}", panic_text(&*payload)).into();
                self.fail(&reason, Order::Suspect(reason.clone()));
            }
        }
    }

    /// Ends when the store is closed.
    fn work(&mut self) {
        while let Ok(first) = self.queue.recv() {
            self.inner.hang_for_drill();
            let mut next = Some(first);
            while let Some(order) = next {
                match order {
                    MarkOrder::Commit(request) => self.batch.push(request),
                    // The caller may have stopped waiting.
                    MarkOrder::Pulse(answer) => drop(answer.send(())),
                }
                next = if self.batch.len() < MAX_BATCH { self.queue.try_recv().ok() } else { None };
            }
            self.commit();
        }
    }

    fn commit(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        match self.write() {
            Ok(Some(bytes)) => {
                self.inner.answer_marks(&mut self.batch);
                if bytes > GROWN && !self.inner.cut_wanted.swap(true, Ordering::Relaxed) {
                    self.inner.lock().orders.send(Order::Cut);
                }
            }
            Ok(None) => refuse(self.batch.drain(..).map(|request| request.done), &"it is being reopened".into()),
            Err(error) => {
                let reason: Arc<str> = format!("the mark log cannot be written: {error}").into();
                self.fail(&reason, Order::Suspect(reason.clone()));
            }
        }
    }

    /// Makes the batch durable. Returns the bytes of the log; `None` while there is none.
    fn write(&mut self) -> io::Result<Option<u64>> {
        let mut guard = self.inner.mark_log.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(log) = guard.as_mut() else { return Ok(None) };
        let stale = |request: &mut MarkRequest| request.epoch != log.epoch;
        refuse(self.batch.extract_if(.., stale).map(|request| request.done), &"it was reopened".into());
        leave_out_erased(&self.inner, log.erased_up_to, &mut self.batch);
        let marks = self.batch.iter().flat_map(|request| &request.marks);
        if marks.clone().next().is_some() {
            if self.inner.takes_drill() {
                panic!("drill: the store's thread was asked to panic");
            }
            let began = Instant::now();
            if let Err(error) = log.append(marks) {
                *guard = None;
                return Err(error);
            }
            self.inner.commits.note_marks(began.elapsed());
        }
        Ok(Some(log.bytes()))
    }

    /// Nothing more is decided until the committer has opened the store anew.
    fn fail(&mut self, reason: &Arc<str>, order: Order) {
        drop(self.inner.take_mark_log());
        self.inner.take_down(reason);
        self.inner.lock().orders.send(order);
        refuse(self.batch.drain(..).map(|request| request.done), reason);
    }
}

/// Takes marks out of a batch whose links an erasure has removed; those who wait for them have nothing to wait for. An
/// unlink that is not durable may be undone by a power cut, and its marks stay.
///
/// The store's lock is taken under that of the mark log here. Elsewhere the order is the other way round only while
/// there is no mark log, when this is not reached.
fn leave_out_erased(inner: &Inner, up_to: u64, batch: &mut [MarkRequest]) {
    let is_before = |request: &MarkRequest| request.marks.iter().any(|(_, mark)| mark.seq <= up_to);
    if !batch.iter().any(is_before) {
        return;
    }
    let memory = inner.lock();
    if memory.orders.is_unlinking() {
        return;
    }
    for request in batch {
        request.marks.retain(|(part, _)| memory.state.links.contains(&part.link));
    }
}
