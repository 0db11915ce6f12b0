//! The end, in the order of the flow: listeners, reads, writes; then the supervisor itself, the store and the runtime.
//! Events end beside the writes and cost no time of their own. Each step has a limit, and a test holds their sum under
//! fifteen seconds with a margin for a busy machine. Work that is left over lies in the store.

use std::time::Duration;

use ractor::call_t;

use super::SupervisorState;
use crate::actors::listener::{GRACE, ListenerMsg};
use crate::actors::notifier::NotifierMsg;
use crate::actors::uploader::UploaderMsg;
use crate::http::endpoint::Endpoint;

/// A listener that has cut off its requests still has to say so.
const LISTENERS: Duration = GRACE.saturating_add(Duration::from_millis(500));
const READS: Duration = Duration::from_millis(2000);
const WRITES: Duration = Duration::from_millis(3000);
const NOTICES: Duration = Duration::from_millis(1000);

/// Listeners, reads and writes together, and a moment to answer.
pub const DRAIN: Duration =
    LISTENERS.saturating_add(READS).saturating_add(WRITES).saturating_add(Duration::from_millis(500));
/// The supervisor and whatever it still supervises.
pub const SUPERVISOR: Duration = Duration::from_millis(500);
/// The store's last commit.
pub const STORE: Duration = Duration::from_millis(2000);
/// The last spans of traces, beside the store.
pub const TRACES: Duration = Duration::from_millis(1000);
/// Tasks that still wait for a socket.
pub const RUNTIME: Duration = Duration::from_millis(500);

impl SupervisorState {
    /// Ends everything but the store and the admin socket, which stays to tell how it goes until the process ends.
    pub(super) async fn drain(&mut self) {
        self.stopping = true;
        // A stream of the status page would otherwise hold its connection until the listener's time is up.
        self.context.recent.end();
        if !self.sockets.from_systemd {
            // Without systemd newcomers are refused at once and try again, where they would wait in a backlog that
            // nobody serves any more. With it the duplicate stays open in systemd, and the next start serves it.
            self.sockets.public = None;
        }
        self.close_listeners().await;
        if let Some(dispatcher) = &self.dispatcher {
            // What is staged from here on lies in the store, where the uploader looks when it drains.
            dispatcher.stop(Some("draining".into()));
        }
        self.context.stop();
        self.shared.tasks.close();
        self.requests.close();
        // What requests left behind (a login), reads and writes: wait for all, but only so long for those that hang.
        let under_way = async { tokio::join!(self.requests.wait(), self.shared.tasks.wait()) };
        let _ = tokio::time::timeout(READS, under_way).await;
        for page in self.shared.pages.all() {
            page.actor.stop(Some("draining".into()));
        }
        tokio::join!(self.drain_uploader(), self.drain_notifier());
        let _ = std::fs::remove_file(&self.sockets.admin.1);
    }

    /// Both TCP listeners, at the same time.
    async fn close_listeners(&mut self) {
        let closing =
            [Endpoint::Public, Endpoint::AdminTcp].map(|endpoint| (endpoint, self.listeners.remove(&endpoint)));
        let closed = closing.map(|(endpoint, listener)| async move {
            let Some(listener) = listener else { return };
            if call_t!(listener, ListenerMsg::Close, LISTENERS.as_millis() as u64).is_err() {
                let endpoint = endpoint.word();
                tracing::warn!(
                    endpoint,
                    "http [{endpoint}]: the listener did not close in time, the stop goes on without it"
                );
            }
        });
        futures_util::future::join_all(closed).await;
    }

    async fn drain_uploader(&self) {
        let (sender, drained) = tokio::sync::oneshot::channel();
        self.peers.borrow().upload(UploaderMsg::Drain(sender.into()));
        if tokio::time::timeout(WRITES, drained).await.is_err() {
            tracing::warn!("spaces: pending writes did not end within {WRITES:?}, the next start resumes them");
        }
    }

    /// What is on its way may end; all else waits in the store, and so does what does not end in time.
    async fn drain_notifier(&self) {
        let (sender, drained) = tokio::sync::oneshot::channel();
        self.peers.borrow().notify(NotifierMsg::Drain(sender.into()));
        let _ = tokio::time::timeout(NOTICES, drained).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fifteen seconds are promised, and a busy machine takes some of them.
    const PROMISED: Duration = Duration::from_secs(15);
    const MARGIN: Duration = Duration::from_secs(2);

    #[test]
    fn the_steps_of_the_end_leave_a_margin() {
        assert!(NOTICES <= WRITES, "they end beside the writes");
        assert!(TRACES <= STORE, "they end beside the store");
        assert!(LISTENERS + READS + WRITES < DRAIN);
        let whole = DRAIN + SUPERVISOR + STORE + RUNTIME;
        assert!(whole + MARGIN <= PROMISED, "{whole:?}");
    }
}
