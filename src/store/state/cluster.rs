//! The part of this daemon in a cluster: the leases of all buckets as they were decided last, and those that it holds.
//!
//! Leases are records like all others, so that they change in the same order on every daemon. [`leasing`](super::leasing)
//! has the decisions.

use super::ledger::Buckets;
use crate::core::lease::{BUCKETS, Lease};
use crate::store::codec;
use crate::store::roster::DatabaseChange;
use crate::store::tree::{Tree, Write};
use crate::store::txn::Txn;

/// How the keys of leases in the tree `meta` begin; the number of the bucket follows, in two bytes.
pub(in crate::store) const PREFIX: &[u8] = b"lease/";

/// The key of the lease of this bucket.
pub(in crate::store) fn key(bucket: u16) -> Vec<u8> {
    [PREFIX, &bucket.to_be_bytes()].concat()
}

/// The bucket of the lease with this key.
pub(in crate::store) fn bucket(key: &[u8]) -> Option<u16> {
    key.strip_prefix(PREFIX).and_then(|rest| rest.try_into().ok()).map(u16::from_be_bytes)
}

/// Leases and members.
pub(in crate::store) struct Cluster {
    me: u64,
    leases: Vec<Lease>,
    /// How often a lease was decided on, here or elsewhere.
    changes: u64,
    /// When the database became another one.
    database_change: Option<DatabaseChange>,
}

impl Cluster {
    /// Nobody holds anything.
    pub(in crate::store) fn new(me: u64) -> Cluster {
        Cluster { me, leases: vec![Lease::default(); usize::from(BUCKETS)], changes: 0, database_change: None }
    }

    /// Another daemon decided on a lease; also one of the records at start. Other keys are none of its concern.
    pub(in crate::store) fn follow(&mut self, key: &[u8], value: &[u8]) {
        let Some(lease) = bucket(key).and_then(|bucket| self.leases.get_mut(usize::from(bucket))) else { return };
        self.changes += 1;
        // One that cannot be read is nobody's until it is decided on again.
        *lease = codec::decode(Tree::Meta.name(), value).unwrap_or_default();
    }

    /// The leases of all buckets.
    pub(in crate::store) fn leases(&self) -> &[Lease] {
        &self.leases
    }

    /// How often a lease was decided on, here or elsewhere.
    pub(in crate::store) fn changes(&self) -> u64 {
        self.changes
    }

    /// This daemon's own number.
    pub(in crate::store) fn me(&self) -> u64 {
        self.me
    }

    /// When the database became another one, as far as that is known.
    pub(in crate::store) fn database_change(&self) -> Option<&DatabaseChange> {
        self.database_change.as_ref()
    }

    /// The database became another one, or never did.
    pub(in crate::store) fn note_database_change(&mut self, change: Option<DatabaseChange>) {
        self.database_change = change;
    }

    /// The buckets that are not this daemon's.
    pub(in crate::store) fn elsewhere(&self) -> Buckets {
        std::array::from_fn(|bucket| self.leases[bucket].owner != Some(self.me))
    }

    /// Writes a lease.
    pub(in crate::store) fn put(&mut self, txn: &mut Txn, bucket: u16, lease: Lease) {
        txn.write(Write { tree: Tree::Meta, key: key(bucket), value: Some(codec::encode(&lease)) });
        if let Some(known) = self.leases.get_mut(usize::from(bucket)) {
            *known = lease;
            self.changes += 1;
        }
    }
}
