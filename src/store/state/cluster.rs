//! The part of this daemon in a cluster: the leases of all buckets as they were decided last, and those that it holds.
//!
//! Leases are records like all others, so that they change in the same order on every daemon. They are decided by
//! [`core::lease`](crate::core::lease); the database's clock says which members are overdue.

use std::time::Duration;

use super::State;
use super::ledger::Buckets;
use crate::core::lease::{BUCKETS, Lease, Member, Rebalance, rebalance};
use crate::core::model::WallTime;
use crate::store::codec;
use crate::store::tree::{Tree, Write};
use crate::store::txn::Txn;

/// How the keys of leases in the tree `meta` begin; the number of the bucket follows, in two bytes.
pub(in crate::store) const PREFIX: &[u8] = b"lease/";

/// Leases and members.
pub(in crate::store) struct Cluster {
    me: u64,
    leases: Vec<Lease>,
}

impl Cluster {
    /// Nobody holds anything.
    pub(in crate::store) fn new(me: u64) -> Cluster {
        Cluster { me, leases: vec![Lease::default(); usize::from(BUCKETS)] }
    }

    /// Another daemon decided on a lease; also one of the records at start. Other keys are none of its concern.
    pub(in crate::store) fn follow(&mut self, key: &[u8], value: &[u8]) {
        let bucket = key.strip_prefix(PREFIX).and_then(|rest| rest.try_into().ok()).map(u16::from_be_bytes);
        let Some(lease) = bucket.and_then(|bucket| self.leases.get_mut(usize::from(bucket))) else { return };
        // One that cannot be read is nobody's until it is decided on again.
        *lease = codec::decode(Tree::Meta.name(), value).unwrap_or_default();
    }

    /// The leases of all buckets.
    pub(in crate::store) fn leases(&self) -> &[Lease] {
        &self.leases
    }

    /// This daemon's own number.
    pub(in crate::store) fn me(&self) -> u64 {
        self.me
    }

    /// The buckets that are not this daemon's.
    pub(in crate::store) fn elsewhere(&self) -> Buckets {
        std::array::from_fn(|bucket| self.leases[bucket].owner != Some(self.me))
    }

    fn put(&mut self, txn: &mut Txn, bucket: u16, lease: Lease) {
        let key = [PREFIX, &bucket.to_be_bytes()].concat();
        txn.write(Write { tree: Tree::Meta, key, value: Some(codec::encode(&lease)) });
        if let Some(known) = self.leases.get_mut(usize::from(bucket)) {
            *known = lease;
        }
    }
}

impl State {
    /// At this moment on the clock of the database the members are these: takes over what is free or was held by one that is dead, as far as it is this daemon's share.
    /// Returns the members that are dead from here on, and buckets that it holds beyond its share.
    pub(in crate::store) fn rebalance(
        &mut self,
        txn: &mut Txn,
        members: &[Member],
        now: WallTime,
        write_bound: Duration,
    ) -> (Vec<u64>, Vec<u16>) {
        let Some(cluster) = &mut self.cluster else { return Default::default() };
        let Rebalance { changes, executed, surplus } =
            rebalance(&cluster.leases, members, cluster.me, now, write_bound);
        changes.into_iter().for_each(|(bucket, lease)| cluster.put(txn, bucket, lease));
        let elsewhere = cluster.elsewhere();
        self.ledger.pass(&elsewhere);
        (executed, surplus)
    }

    /// Lets these buckets go, in which this daemon has no work under way.
    pub(in crate::store) fn release(&mut self, txn: &mut Txn, buckets: &[u16]) {
        let Some(cluster) = &mut self.cluster else { return };
        for bucket in buckets {
            let lease = &cluster.leases[usize::from(*bucket)];
            if lease.owner == Some(cluster.me) {
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
}
