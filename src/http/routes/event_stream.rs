//! `GET /v1/events`: what happens, as server-sent events, for the status page.
//!
//! | event | data |
//! |---|---|
//! | `status` | the document of `/v1/status`, when it changed, at most once a second |
//! | `links` | `{"changes":N}`: links were completed, parked or removed since the event before |
//! | `event` | what happened ([`crate::context::recent`]), with an id from which a later stream goes on |
//!
//! Without any of them a comment is sent from time to time, so that a connection that is gone is found out.
//!
//! A stream holds no queue. It is asked for more when its client takes more, and looks then what is new; a client that
//! reads slowly gets fewer messages. One that reads nothing at all is dropped, because the number of streams is
//! bounded. All streams share one sample of the status, so that watchers add no load by their number.
//!
//! A stream ends at once when the daemon stops, or the listener does.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::Request;
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::status;
use crate::context::Context;
use crate::context::recent::Recent;
use crate::context::watchers::{STREAMS, Sample};
use crate::core::model::MonoTime;
use crate::http::responses::{self, Answer};
use crate::http::server::Conn;

/// How often a stream looks for another status.
const PULSE: Duration = Duration::from_secs(1);
/// A sample of the status serves all streams for so long.
const FRESH: Duration = Duration::from_millis(900);
/// After so much silence a comment is sent.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// A client that takes nothing for so long is dropped: several comments would have been sent.
const STALLED: Duration = Duration::from_secs(60);
/// How soon a browser connects again, in milliseconds.
const BEGINNING: &str = "retry: 2000\n\n";

/// Opens a stream.
pub(super) fn open(context: &Arc<Context>, request: &Request<Incoming>, conn: &Conn) -> Answer {
    let ended = context.recent.ended();
    if ended.is_cancelled() {
        return responses::unavailable("the daemon is stopping", 2);
    }
    let Ok(permit) = context.watchers.streams.clone().try_acquire_owned() else {
        return responses::unavailable(&format!("{STREAMS} streams of events are open, which is the most"), 5);
    };
    let after = request.headers().get("last-event-id").and_then(|id| id.to_str().ok());
    let after = after.and_then(|id| context.recent.number(id)).unwrap_or(0);
    let mut pulse = tokio::time::interval(PULSE);
    pulse.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let taken = Arc::new(AtomicU64::new(MonoTime::now().0));
    tokio::spawn(drop_stalled(conn.clone(), Arc::downgrade(&taken)));
    let follower = Follower {
        context: context.clone(),
        begun: false,
        after,
        last: context.recent.last(),
        completed: context.feed.changed(),
        shown: None,
        pulse,
        said_at: MonoTime::now(),
        ended,
        taken,
        _permit: permit,
    };
    let pieces = stream::unfold(follower, |mut follower| async move {
        let piece = follower.next().await?;
        Some((Ok(Bytes::from(piece)), follower))
    });
    responses::endless("text/event-stream", Box::pin(pieces), conn)
}

/// Closes the connection of a stream that is not asked for more any longer. Ends with the stream.
async fn drop_stalled(conn: Conn, taken: std::sync::Weak<AtomicU64>) {
    loop {
        tokio::time::sleep(HEARTBEAT).await;
        let Some(taken) = taken.upgrade() else { return };
        let last = MonoTime(taken.load(Ordering::Relaxed));
        if MonoTime::now().since(last) > STALLED {
            tracing::debug!("http: a stream of events is closed, its client read nothing for {STALLED:?}");
            conn.close();
            return;
        }
    }
}

/// A client that follows the events.
struct Follower {
    context: Arc<Context>,
    begun: bool,
    /// The number of the last event that was sent.
    after: u64,
    last: watch::Receiver<u64>,
    /// Counts links that were completed, parked or removed.
    completed: watch::Receiver<u64>,
    /// The number of the sample that was sent last.
    shown: Option<u64>,
    pulse: Interval,
    said_at: MonoTime,
    ended: CancellationToken,
    /// When the client took something last.
    taken: Arc<AtomicU64>,
    _permit: OwnedSemaphorePermit,
}

impl Follower {
    /// The next piece; `None` at the end.
    async fn next(&mut self) -> Option<String> {
        let ended = self.ended.clone();
        let piece = tokio::select! {
            biased;
            () = ended.cancelled() => None,
            piece = self.piece() => Some(piece),
        };
        self.said_at = MonoTime::now();
        self.taken.store(self.said_at.0, Ordering::Relaxed);
        piece
    }

    async fn piece(&mut self) -> String {
        loop {
            if !std::mem::replace(&mut self.begun, true) {
                return BEGINNING.to_owned() + &self.events();
            }
            let mut said = self.events();
            if !said.is_empty() {
                return said;
            }
            tokio::select! {
                Ok(()) = self.last.changed() => continue,
                _ = self.pulse.tick() => {}
            }
            if self.completed.has_changed().unwrap_or(false) {
                let changes = *self.completed.borrow_and_update();
                said += &message("links", None, &json!({"changes": changes}).to_string());
            }
            let sample = sample(&self.context).await;
            if self.shown.replace(sample.number) != Some(sample.number) {
                said += &message("status", None, &sample.text);
            }
            if said.is_empty() && MonoTime::now().since(self.said_at) >= HEARTBEAT {
                said = ": still here\n\n".to_owned();
            }
            if !said.is_empty() {
                return said;
            }
        }
    }

    /// The events that were not sent yet.
    fn events(&mut self) -> String {
        self.last.mark_unchanged();
        let recent = &self.context.recent;
        let fresh = recent.after(self.after);
        self.after = fresh.last().map_or(self.after, |event| event.number);
        fresh.iter().map(|event| message("event", Some(&recent.id(event.number)), &json(recent, event))).collect()
    }
}

fn message(event: &str, id: Option<&str>, data: &str) -> String {
    let id = id.map(|id| format!("id: {id}\n")).unwrap_or_default();
    // JSON in one line, as serde_json writes it.
    format!("event: {event}\n{id}data: {data}\n\n")
}

fn json(recent: &crate::context::recent::RecentEvents, event: &Recent) -> String {
    let link = event.link.as_ref().map(
        |link| json!({"source": link.source().as_str(), "id": link.id.as_str(), "user": link.user, "name": event.name}),
    );
    json!({
        "id": recent.id(event.number),
        "replaces": event.replaces.map(|number| recent.id(number)),
        "at": event.at.rfc3339(),
        "kind": event.kind.word(),
        "ok": event.ok,
        "link": link,
        "count": event.count,
        "text": event.text,
    })
    .to_string()
}

/// The present status: that of another stream where it is fresh.
async fn sample(context: &Context) -> Sample {
    let mut last = context.watchers.sample.lock().await;
    if let Some(sample) = last.as_ref().filter(|sample| MonoTime::now().since(sample.at) < FRESH) {
        return sample.clone();
    }
    let at = MonoTime::now();
    let status = status::status_json(context).await;
    let compared = compared(&status);
    let before = last.as_ref();
    let is_same = before.is_some_and(|before| *before.compared == compared);
    let number = before.map_or(1, |before| before.number + u64::from(!is_same));
    let sample = Sample { at, number, text: status.to_string().into(), compared: Arc::new(compared) };
    *last = Some(sample.clone());
    sample
}

/// The status without the figures that change while nothing happens.
fn compared(status: &Value) -> Value {
    let mut compared = status.clone();
    compared["uptime_seconds"].take();
    let daemons = compared.pointer_mut("/cluster/daemons").and_then(Value::as_array_mut);
    for daemon in daemons.into_iter().flatten() {
        // Each daemon is seen every second. One that is not seen any more is news each time.
        if daemon["last_seen_seconds"].as_u64().is_some_and(|seconds| seconds < 4) {
            daemon["last_seen_seconds"].take();
        }
    }
    compared
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::connections::{Connections, Signal};

    #[tokio::test(start_paused = true)]
    async fn a_stream_is_closed_when_its_client_reads_nothing_and_not_before() {
        let entered = Arc::new(Connections::default()).enter(None);
        let taken = Arc::new(AtomicU64::new(MonoTime::now().0));
        let watched = tokio::spawn(drop_stalled(entered.conn.clone(), Arc::downgrade(&taken)));
        for _ in 0..20 {
            tokio::time::sleep(HEARTBEAT).await;
            taken.store(MonoTime::now().0, Ordering::Relaxed);
        }
        assert!(!entered.conn.has(Signal::Close));
        let began = tokio::time::Instant::now();
        watched.await.unwrap();
        assert!(entered.conn.has(Signal::Close) && began.elapsed() <= STALLED + 2 * HEARTBEAT);
        // The watch over a stream that has ended ends too.
        let entered = Arc::new(Connections::default()).enter(None);
        drop_stalled(entered.conn.clone(), std::sync::Weak::new()).await;
        assert!(!entered.conn.has(Signal::Close));
    }

    #[test]
    fn figures_that_change_by_themselves_are_no_news() {
        let status = |uptime: u64, seen: u64, due: u64| {
            compared(&json!({"uptime_seconds": uptime, "due": due,
                             "cluster": {"daemons": [{"id": 1, "last_seen_seconds": seen}]}}))
        };
        assert_eq!(status(1, 0, 3), status(9, 3, 3));
        assert_ne!(status(1, 0, 3), status(1, 0, 4));
        assert_ne!(status(1, 5, 3), status(1, 6, 3));
        assert_eq!(compared(&json!({"due": 1, "cluster": null}))["due"], 1);
    }

    #[test]
    fn a_message_has_its_name_and_its_id() {
        assert_eq!(message("event", Some("7-1"), "{}"), "event: event\nid: 7-1\ndata: {}\n\n");
        assert_eq!(message("links", None, "{}"), "event: links\ndata: {}\n\n");
    }
}
