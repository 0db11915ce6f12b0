//! The daemons that share a database, as the last beat found them, for `status` and the metrics.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::core::model::MonoTime;

/// The daemons that share a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterView {
    /// Where the database is: host, port and name.
    pub database: String,
    /// The database answered the last beats of this daemon.
    pub answers: bool,
    /// In the order in which they joined, as the database said when it answered last.
    pub daemons: Vec<DaemonView>,
}

/// A daemon of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DaemonView {
    /// The number of this run; no other run of any daemon gets it.
    pub id: u64,
    /// Its name, for people.
    pub node: String,
    /// The version of its program.
    pub version: String,
    /// Leases that it holds.
    pub leases: usize,
    /// Since its last beat.
    pub last_seen: Duration,
    /// Its last beat is so long ago that the others take its leases.
    pub is_overdue: bool,
    /// It is the one that is asked.
    pub is_this: bool,
}

/// What a beat finds of a daemon.
pub(super) struct Seen {
    pub id: u64,
    pub node: String,
    pub version: String,
    pub is_overdue: bool,
    /// Since its own last beat.
    pub age: Duration,
}

/// What the last beat found, and when.
pub(super) struct Roster {
    found: Mutex<Option<(MonoTime, Vec<Seen>)>>,
    living: watch::Sender<usize>,
}

impl Default for Roster {
    fn default() -> Self {
        Roster { found: Mutex::default(), living: watch::Sender::new(1) }
    }
}

impl Roster {
    /// A beat has found these daemons.
    pub(super) fn note(&self, seen: Vec<Seen>) {
        let living = seen.iter().filter(|seen| !seen.is_overdue).count().max(1);
        *self.found.lock().unwrap_or_else(PoisonError::into_inner) = Some((MonoTime::now(), seen));
        self.living.send_if_modified(|known| std::mem::replace(known, living) != living);
    }

    /// How many daemons live, this one among them.
    pub(super) fn living(&self) -> watch::Receiver<usize> {
        self.living.subscribe()
    }

    /// The daemons, with the leases that each of them holds. `me` is the number of this one.
    pub(super) fn view(&self, me: u64, leases: &HashMap<u64, usize>) -> Vec<DaemonView> {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((read_at, seen)) = &*found else { return Vec::new() };
        let since = MonoTime::now().since(*read_at);
        let view = |seen: &Seen| DaemonView {
            id: seen.id,
            node: seen.node.clone(),
            version: seen.version.clone(),
            leases: leases.get(&seen.id).copied().unwrap_or_default(),
            last_seen: seen.age + since,
            is_overdue: seen.is_overdue,
            is_this: seen.id == me,
        };
        seen.iter().map(view).collect()
    }
}
