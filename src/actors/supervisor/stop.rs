//! The end, in the order of the flow: doors, reads, writes. Notices end beside the writes and cost no time of their own.
//! Each step has a limit; the whole stays under fifteen seconds with the closing of the store that follows. What is left
//! over lies in the store.

use std::time::Duration;

use ractor::call_t;

use super::SupervisorState;
use crate::actors::listener::{Door, GRACE, ListenerMsg};
use crate::actors::notifier::NotifierMsg;
use crate::actors::uploader::UploaderMsg;

const READS: Duration = Duration::from_millis(2500);
const WRITES: Duration = Duration::from_millis(3500);
const NOTICES: Duration = Duration::from_millis(1000);

impl SupervisorState {
    /// Ends everything but the store and the admin door, which stays to tell how it goes until the process ends.
    pub(super) async fn drain(&mut self) {
        self.stopping = true;
        if !self.sockets.from_systemd {
            // Without systemd newcomers are refused at once and try again, where they would wait in a backlog that
            // nobody serves any more. With it the duplicate stays open in systemd, and the next start serves it.
            self.sockets.public = None;
        }
        self.close_doors().await;
        self.house.stop();
        self.house.tasks.close();
        // Reads and writes share one tracker: wait for all, but only so long for reads that hang.
        let _ = tokio::time::timeout(READS, self.house.tasks.wait()).await;
        for place in self.house.directory.all() {
            place.actor.stop(Some("draining".into()));
        }
        tokio::join!(self.drain_uploader(), self.drain_notifier());
        let _ = std::fs::remove_file(&self.sockets.admin.1);
    }

    /// Both doors that others come to, at the same time.
    async fn close_doors(&mut self) {
        let closing = [Door::Public, Door::AdminTcp].map(|door| (door, self.listeners.remove(&door)));
        let closed = closing.map(|(door, listener)| async move {
            let Some(listener) = listener else { return };
            let limit = GRACE + Duration::from_millis(500);
            if call_t!(listener, ListenerMsg::Close, limit.as_millis() as u64).is_err() {
                tracing::warn!(door = door.word(), "the door did not close in time");
            }
        });
        futures_util::future::join_all(closed).await;
    }

    async fn drain_uploader(&self) {
        let (sender, drained) = tokio::sync::oneshot::channel();
        self.house.tell_uploader(UploaderMsg::Drain(sender.into()));
        if tokio::time::timeout(WRITES, drained).await.is_err() {
            tracing::warn!("writes to Spaces are left for the next start");
        }
    }

    /// What is on its way may end; all else waits in the store, and so does what does not end in time.
    async fn drain_notifier(&self) {
        let (sender, drained) = tokio::sync::oneshot::channel();
        self.house.tell_notifier(NotifierMsg::Drain(sender.into()));
        let _ = tokio::time::timeout(NOTICES, drained).await;
    }
}
