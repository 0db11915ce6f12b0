//! The one thread that writes: gathers what waits, makes it durable as one transaction and in the journal, answers;
//! and when the disk refuses, takes the store down and brings it back.

use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::core::Core;
use super::engine::Write;
use super::journal::{Journal, Tide};
use super::rebuild;
use super::{Condition, Inner, Unavailable};
use crate::model::LinkKey;

/// Requests in one transaction at most; keeps a transaction's bodies to some megabytes.
const MAX_BATCH: usize = 512;
/// How often a store that is down is tried again.
const REOPEN_EVERY: Duration = Duration::from_secs(2);

/// Writes that go together, and who waits for them. Without writes it is a barrier: answered when everything queued
/// before it is durable.
pub(super) struct Request {
    pub writes: Vec<Write>,
    pub notes: Vec<(LinkKey, u64)>,
    /// The journal is to be written anew once the writes are durable.
    pub rewrite_journal: bool,
    /// A read met damage: the store is to be opened again, and mended.
    pub suspect: bool,
    pub done: oneshot::Sender<Result<(), Unavailable>>,
}

/// What only the committer touches.
pub(super) struct Pen {
    pub journal: Journal,
    pub tide: Tide,
    /// The number of the newest transaction.
    pub batch: u64,
}

pub(super) fn spawn(
    inner: Arc<Inner>,
    mut pen: Pen,
    mut queue: mpsc::UnboundedReceiver<Request>,
) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name("store-commit".into()).spawn(move || {
        let mut batch = Vec::with_capacity(MAX_BATCH);
        while queue.blocking_recv_many(&mut batch, MAX_BATCH) > 0 {
            match commit(&inner, &mut pen, &mut batch) {
                Ok(()) => answer(&inner, &mut batch),
                Err(reason) => recover(&inner, &mut pen, reason.into(), &mut batch, &mut queue),
            }
        }
        drop_engine(&inner);
    })
}

/// The journal comes second: it is never ahead of the database, and both are before the answer.
fn commit(inner: &Inner, pen: &mut Pen, batch: &mut [Request]) -> Result<(), String> {
    if batch.iter().any(|request| request.suspect) {
        return Err("a read found it damaged".into());
    }
    let writes: Vec<Write> = batch.iter_mut().flat_map(|request| std::mem::take(&mut request.writes)).collect();
    if !writes.is_empty() {
        write(inner, pen, writes)?;
    }
    if batch.iter().any(|request| request.rewrite_journal) {
        let rewritten = pen.journal.rewrite(&inner.keyring(), pen.batch);
        rewritten.map_err(|e| format!("the journal cannot be written anew: {e}"))?;
    }
    Ok(())
}

fn write(inner: &Inner, pen: &mut Pen, writes: Vec<Write>) -> Result<(), String> {
    let engine = inner.engine.read().unwrap_or_else(PoisonError::into_inner);
    let Some(engine) = engine.as_ref() else { return Err("it is not open".into()) };
    pen.batch += 1;
    let keyring = inner.keyring();
    let journaled = pen.journal.choose(&keyring, pen.batch, &writes);
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| engine.commit(writes, pen.batch)))
        .unwrap_or_else(|_| Err("sled panicked while writing".into()))?;
    pen.journal.append(&keyring, pen.batch, journaled).map_err(|e| format!("the journal cannot be written: {e}"))?;
    pen.tide.rise(pen.batch).map_err(|e| format!("the tide cannot be written: {e}"))
}

fn answer(inner: &Inner, batch: &mut Vec<Request>) {
    let has_news = {
        let mut core = inner.lock();
        batch.iter().for_each(|request| core.are_durable(&request.notes));
        core.desk.has_news()
    };
    if has_news {
        inner.notices.send_modify(|n| *n += 1);
    }
    for request in batch.drain(..) {
        // Whoever stopped waiting does not mind.
        let _ = request.done.send(Ok(()));
    }
}

/// Nothing more is accepted, everything queued is refused, and the store is opened again until it can be.
fn recover(
    inner: &Inner,
    pen: &mut Pen,
    reason: Arc<str>,
    batch: &mut Vec<Request>,
    queue: &mut mpsc::UnboundedReceiver<Request>,
) {
    inner.lock().take_down(reason.clone());
    inner.condition.send_replace(Condition::Down(reason.clone()));
    tracing::error!(%reason, store = %inner.dir.display(), "the store cannot write; deliveries are answered 503 until it can");
    let refusal = Err(Unavailable { reason });
    while let Ok(request) = queue.try_recv() {
        batch.push(request);
    }
    for request in batch.drain(..) {
        let _ = request.done.send(refusal.clone());
    }
    drop_engine(inner);
    let mut said = String::new();
    loop {
        match reopen(inner) {
            Ok(fresh) => {
                *pen = fresh;
                break;
            }
            Err(error) => {
                let text = error.to_string();
                if said != text {
                    tracing::error!(error = %text, "the store does not open yet; trying again");
                    said = text;
                }
            }
        }
        if inner.lock().is_closed() {
            return;
        }
        std::thread::sleep(REOPEN_EVERY);
    }
    tracing::info!(store = %inner.dir.display(), "the store is back");
}

fn reopen(inner: &Inner) -> Result<Pen, super::OpenError> {
    let opened = rebuild::open(&inner.dir, &inner.keyring())?;
    let rebuild::Opened { engine, journal, tide, batch, mended } = opened;
    // The loader needs a queue only to hand it on; the one in use stays.
    let (unused, _) = mpsc::unbounded_channel();
    let fresh = Core::load(&engine, unused)?;
    engine.prove_writable(batch).map_err(|e| engine.cannot_write(e))?;
    *inner.engine.write().unwrap_or_else(PoisonError::into_inner) = Some(engine);
    inner.lock().replace(fresh);
    inner.note_mended(mended);
    inner.condition.send_replace(Condition::Up);
    inner.notices.send_modify(|n| *n += 1);
    Ok(Pen { journal, tide, batch })
}

/// Closing sled flushes; on a disk that refuses it may panic, which must not end the thread that will reopen it.
fn drop_engine(inner: &Inner) {
    let engine = inner.engine.write().unwrap_or_else(PoisonError::into_inner).take();
    let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || drop(engine)));
}
