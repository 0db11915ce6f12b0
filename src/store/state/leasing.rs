//! Decisions about the leases of this daemon and of those that died. [`core::lease`](crate::core::lease) has the rule; the
//! database's clock says which members are overdue.

use std::time::Duration;

use super::State;
use super::cluster::Cluster;
use crate::core::lease::{Member, Rebalance, rebalance};
use crate::core::model::WallTime;
use crate::store::roster::DatabaseChange;
use crate::store::txn::Txn;

impl State {
    /// At this moment on the clock of the database the members are these. Takes over free buckets and those of the dead, up
    /// to this daemon's share.
    /// Returns buckets that it holds beyond its share.
    pub(in crate::store) fn rebalance(
        &mut self,
        txn: &mut Txn,
        members: &[Member],
        now: WallTime,
        write_bound: Duration,
    ) -> Vec<u16> {
        let Some(cluster) = &mut self.cluster else { return Vec::new() };
        let Rebalance { changes, surplus, .. } = rebalance(cluster.leases(), members, cluster.me(), now, write_bound);
        changes.into_iter().for_each(|(bucket, lease)| cluster.put(txn, bucket, lease));
        let elsewhere = cluster.elsewhere();
        self.ledger.pass(&elsewhere);
        surplus
    }

    /// Lets these buckets go, in which this daemon has no work under way.
    pub(in crate::store) fn release(&mut self, txn: &mut Txn, buckets: &[u16]) {
        let Some(cluster) = &mut self.cluster else { return };
        for bucket in buckets {
            let lease = cluster.leases()[usize::from(*bucket)];
            if lease.owner == Some(cluster.me()) {
                let free = lease.released();
                cluster.put(txn, *bucket, free);
            }
        }
        let elsewhere = cluster.elsewhere();
        self.ledger.pass(&elsewhere);
    }

    /// Leases were decided on by others.
    pub(in crate::store) fn follow_leases(&mut self) {
        if let Some(elsewhere) = self.cluster.as_ref().map(Cluster::elsewhere) {
            self.ledger.pass(&elsewhere);
        }
    }

    /// Takes over the lease records as they lie in the database.
    pub(in crate::store) fn restore_leases(&mut self, records: impl IntoIterator<Item = (Vec<u8>, Vec<u8>)>) {
        if let Some(cluster) = &mut self.cluster {
            records.into_iter().for_each(|(key, value)| cluster.follow(&key, &value));
        }
        self.follow_leases();
    }

    /// The database became another one, or never did.
    pub(in crate::store) fn restore_database_change(&mut self, change: Option<DatabaseChange>) {
        if let Some(cluster) = &mut self.cluster {
            cluster.note_database_change(change);
        }
    }
}
