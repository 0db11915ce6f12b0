//! Who shares the database: what a beat asks about the daemons, and what is known of them from memory.

use std::collections::HashMap;

use std::time::Duration;
use tokio::sync::watch;

use tokio_postgres::Row;

use super::trees::{number_in, said};
use crate::core::lease::LIFE;
use crate::store::inner::Store;
use crate::store::roster::{ClusterView, DatabaseChange, Seen};

/// A change of the database is shown for so long.
const CHANGE_SHOWN: Duration = Duration::from_secs(7 * 24 * 3600);

/// Every daemon that is not dead, and how long ago its life ended; that lies ahead where the number is negative.
pub(super) const ROSTER: &str = "select id, name, version, until < clock_timestamp(), \
                                 (extract(epoch from clock_timestamp() - until) * 1000)::bigint \
                                 from daemons where alive order by id";

/// The rows of [`ROSTER`].
pub(super) fn seen(rows: &[Row]) -> Result<Vec<Seen>, String> {
    rows.iter().map(one).collect()
}

fn one(row: &Row) -> Result<Seen, String> {
    let failed = |error| said(&error);
    let ended: i64 = row.try_get(4).map_err(failed)?;
    // A life ends so long after the beat that gave it.
    let age = ended.saturating_add(LIFE.as_millis() as i64);
    Ok(Seen {
        id: number_in(Some(row), 0)?,
        node: row.try_get(1).map_err(failed)?,
        version: row.try_get(2).map_err(failed)?,
        is_overdue: row.try_get(3).map_err(failed)?,
        age: Duration::from_millis(u64::try_from(age).unwrap_or_default()),
    })
}

impl Store {
    /// The daemons that share this store, from memory; `None` where it is this process's alone.
    pub fn cluster(&self) -> Option<ClusterView> {
        let (me, leases, changed) = {
            let memory = self.lock();
            let cluster = memory.state.cluster.as_ref()?;
            let mut leases: HashMap<u64, usize> = HashMap::new();
            cluster.leases().iter().filter_map(|lease| lease.owner).for_each(|id| *leases.entry(id).or_default() += 1);
            let is_news = |change: &&DatabaseChange| self.now().since(change.at) < CHANGE_SHOWN;
            (cluster.me(), leases, cluster.database_change().filter(is_news).cloned())
        };
        let daemons = self.inner.roster.view(me, &leases);
        Some(ClusterView {
            database: self.inner.dir.display().to_string(),
            answers: self.inner.leases.is_trusted(),
            warnings: self.inner.roster.warnings(&daemons),
            daemons,
            changed,
        })
    }

    /// How many daemons live that share the store, this one among them, now and from now on.
    pub fn living(&self) -> watch::Receiver<usize> {
        self.inner.roster.living()
    }
}
