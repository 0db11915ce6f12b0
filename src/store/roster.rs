//! The daemons that share a database, as the last beat found them, for `status` and the metrics.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::core::model::{MonoTime, WallTime};

/// A daemon that was seen within this beats.
const LATELY: Duration = Duration::from_millis(2_500);

/// The daemons that share a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterView {
    /// Where the database is: host, port and name.
    pub database: String,
    /// The database answered the last beats of this daemon.
    pub answers: bool,
    /// In the order in which they joined, as the database said when it answered last.
    pub daemons: Vec<DaemonView>,
    /// What an operator should correct, a sentence each with the way out behind a semicolon.
    pub warnings: Vec<String>,
    /// The database became another one in the last days.
    pub changed: Option<DatabaseChange>,
}

/// The database became another one, by a failover or a restore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseChange {
    /// When a daemon noticed it, by the clock of the database.
    pub at: WallTime,
    /// By what it noticed it.
    pub reason: String,
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
#[derive(Debug)]
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
    is_deaf: AtomicBool,
}

/// No notification passes from one session of the database to another.
pub const DEAF: &str = "no notification passes from the database, as through a pooler in transaction mode: the \
                               daemons ask each other's news once a second; name the database itself in store.url";

impl Default for Roster {
    fn default() -> Self {
        Roster { found: Mutex::default(), living: watch::Sender::new(1), is_deaf: AtomicBool::new(false) }
    }
}

impl Roster {
    /// A beat has found these daemons.
    pub(super) fn note(&self, seen: Vec<Seen>) {
        let living = seen.iter().filter(|seen| !seen.is_overdue).count().max(1);
        *self.found.lock().unwrap_or_else(PoisonError::into_inner) = Some((MonoTime::now(), seen));
        self.living.send_if_modified(|known| std::mem::replace(known, living) != living);
    }

    /// Notifications pass, or do not. Returns whether that is news.
    pub(super) fn note_deafness(&self, is_deaf: bool) -> bool {
        self.is_deaf.swap(is_deaf, Ordering::Relaxed) != is_deaf
    }

    /// The warnings about these daemons.
    pub(super) fn warnings(&self, daemons: &[DaemonView]) -> Vec<String> {
        let mut names: BTreeMap<&str, usize> = BTreeMap::new();
        // A daemon that was killed a moment ago has its successor's name.
        for daemon in daemons.iter().filter(|daemon| daemon.last_seen < LATELY) {
            *names.entry(&daemon.node).or_default() += 1;
        }
        let of_names = names.into_iter().filter(|(_, count)| *count > 1);
        let mut warnings: Vec<String> = of_names
            .map(|(node, count)| format!("{count} daemons have the name {node}; give each a store.node of its own"))
            .collect();
        if self.is_deaf.load(Ordering::Relaxed) {
            warnings.push(DEAF.to_owned());
        }
        warnings
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_daemons_of_one_name_and_a_deaf_one_are_said() {
        let roster = Roster::default();
        let seen = |id, node: &str, age| Seen {
            id,
            node: node.into(),
            version: "1".into(),
            is_overdue: false,
            age: Duration::from_millis(age),
        };
        roster.note(vec![seen(1, "east", 100), seen(2, "west", 900), seen(3, "east", 4_000)]);
        let warnings = || roster.warnings(&roster.view(1, &HashMap::new()));
        assert_eq!(warnings(), Vec::<String>::new(), "the one before was killed");
        roster.note(vec![seen(1, "east", 100), seen(2, "west", 900), seen(3, "east", 1_000)]);
        assert_eq!(warnings(), ["2 daemons have the name east; give each a store.node of its own"]);
        roster.note(Vec::new());
        assert!(roster.note_deafness(true) && !roster.note_deafness(true));
        assert_eq!(warnings(), [DEAF]);
        assert!(roster.note_deafness(false) && warnings().is_empty());
    }
}
