//! Who works on which links, where several daemons share one database. Pure: members, leases and the time are arguments.
//!
//! The links are divided into [`BUCKETS`] by a fixed hash, and each bucket has one owner: an *incarnation* of a daemon, a
//! number that no other start of any daemon gets. Each daemon runs [`rebalance`] in each of its beats, in a transaction
//! that all daemons make one after the other. It frees the buckets of the dead, takes free ones up to an equal share, and
//! names those that it has too many of.
//!
//! # Why no two daemons write one object
//!
//! A daemon begins a write only while it trusts its lease ([`Deadline`]), and cuts it off after [`WRITE_BOUND`]. It is
//! executed at the earliest when its life has ended by the clock of the database, which is later than the deadline. A
//! bucket that was freed so is *quiet* for [`WRITE_BOUND`] and [`QUIET_MARGIN`] more: its heir reads and stages at once
//! and begins no write before. A bucket that was released is not quiet, because it is released when nothing is under
//! way.
//!
//! # What a bucket holds
//!
//! The hash is over the id at the source and leaves the user out. So the links of one shop lie in one bucket: they share
//! the shop's token pair, its budget of calls and its bulk operation. So do the links of one page, whose subscription is
//! one. Cleanups and events of a link, page or shop lie in the same bucket as its links. What belongs to no link lies in
//! the bucket [`SINGLETONS`].

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::core::cleanup::Cleanup;
use crate::core::event::EventKey;
use crate::core::model::{AppUserId, LinkKey, MonoTime, PageId, ShopName, Source, WallTime};

/// Into so many buckets the links are divided.
pub const BUCKETS: u16 = 1024;
/// The bucket of what belongs to no link: the app's subscriptions, expired sessions.
pub const SINGLETONS: u16 = 0;
/// A daemon lives so long after a beat, by the clock of the database.
pub const LIFE: Duration = Duration::from_secs(5);
/// A daemon trusts its lease for so much less than its life.
pub const TRUST_MARGIN: Duration = Duration::from_secs(1);
/// A write to Spaces is cut off after so long.
pub const WRITE_BOUND: Duration = Duration::from_secs(30);
/// The heir of a dead daemon waits for so much longer than its last write can take.
pub const QUIET_MARGIN: Duration = Duration::from_secs(5);
/// A daemon gives up so many buckets at a time, so that a newcomer does not empty the others at once.
const SURPLUS_AT_ONCE: usize = 32;

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0100_0000_01b3;

/// The 64-bit FNV-1a hash of these texts with a zero byte between them, folded. It decides who owns a bucket that is on
/// disk, so it never changes.
fn bucket(kind: &str, id: &str) -> u16 {
    let bytes = kind.bytes().chain([0]).chain(id.bytes());
    let hash = bytes.fold(FNV_OFFSET, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME));
    ((hash ^ (hash >> 32)) % u64::from(BUCKETS)) as u16
}

/// The bucket of a link.
pub fn bucket_of(link: &LinkKey) -> u16 {
    bucket(link.source().as_str(), link.id.as_str())
}

/// The bucket of the links of a page.
pub fn bucket_of_page(page: &PageId) -> u16 {
    bucket(Source::Facebook.as_str(), page.as_str())
}

/// The bucket of the links of a shop, and of its tokens.
pub fn bucket_of_shop(shop: &ShopName) -> u16 {
    bucket(Source::Shopify.as_str(), shop.as_str())
}

/// The bucket of a person's account.
pub fn bucket_of_person(person: &AppUserId) -> u16 {
    bucket("person", person.as_str())
}

/// The bucket of a cleanup.
pub fn bucket_of_cleanup(cleanup: &Cleanup) -> u16 {
    match cleanup {
        Cleanup::Unsubscribe(page) => bucket_of_page(page),
        Cleanup::Revoke(person) => bucket_of_person(person),
        Cleanup::DeleteAgain(part) => bucket_of(&part.link),
        Cleanup::ForgetParts(link) => bucket_of(link),
        Cleanup::Uninstall(shop) | Cleanup::Redact(shop) => bucket_of_shop(shop),
    }
}

/// The bucket of the events of a key.
pub fn bucket_of_event(key: &EventKey) -> u16 {
    match key {
        EventKey::Link(link) => bucket_of(link),
        EventKey::Deletion(code) => bucket("deletion", code),
    }
}

/// Who owns a bucket; a record of the shared state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Lease {
    /// The incarnation that owns it; `None` while it is free.
    pub owner: Option<u64>,
    /// Rises with each execution and with each taking.
    pub epoch: u64,
    /// No object of the bucket is written before this moment of the database's clock.
    pub quiet_until: Option<WallTime>,
}

impl Lease {
    /// Its owner gave it up, when nothing was under way for it. A quiet time that its owner inherited stays.
    #[must_use]
    pub fn released(self) -> Lease {
        Lease { owner: None, ..self }
    }

    /// Its owner is dead, or stops with writes under way that may still take effect.
    #[must_use]
    pub fn freed(self, now: WallTime, write_bound: Duration) -> Lease {
        let quiet_until = self.quiet_until.max(Some(now.plus(write_bound + QUIET_MARGIN)));
        Lease { owner: None, epoch: self.epoch + 1, quiet_until }
    }

    fn taken(self, me: u64) -> Lease {
        Lease { owner: Some(me), epoch: self.epoch + 1, ..self }
    }
}

/// An incarnation of a daemon, as the database knows it in one transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// Its number.
    pub id: u64,
    /// It was neither executed nor stopped.
    pub alive: bool,
    /// Its life ended by the clock of the database.
    pub overdue: bool,
}

impl Member {
    fn lives(&self) -> bool {
        self.alive && !self.overdue
    }
}

/// What a beat changes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rebalance {
    /// Buckets with their new leases, each once.
    pub changes: Vec<(u16, Lease)>,
    /// Members that are alive no more: each was overdue.
    pub executed: Vec<u64>,
    /// Buckets of `me` beyond its share. Their work is to end; then they are released. The same ones are named until
    /// then.
    pub surplus: Vec<u16>,
}

/// What `me` does in a beat: executes the overdue, frees the buckets of the dead, and takes free ones up to its share. A
/// daemon that is itself dead or overdue does nothing. A bucket that `leases` does not reach was never owned.
pub fn rebalance(leases: &[Lease], members: &[Member], me: u64, now: WallTime, write_bound: Duration) -> Rebalance {
    let living: BTreeSet<u64> = members.iter().filter(|member| member.lives()).map(|member| member.id).collect();
    if !living.contains(&me) {
        return Rebalance::default();
    }
    let executed = members.iter().filter(|member| member.alive && member.overdue).map(|member| member.id).collect();
    let share = usize::from(BUCKETS).div_ceil(living.len());
    let lease_of = |bucket: u16| leases.get(usize::from(bucket)).copied().unwrap_or_default();
    let mine: Vec<u16> = (0..BUCKETS).filter(|bucket| lease_of(*bucket).owner == Some(me)).collect();
    let mut wanted = share.saturating_sub(mine.len());
    let mut changes = Vec::new();
    for bucket in 0..BUCKETS {
        let before = lease_of(bucket);
        let is_dead = before.owner.is_some_and(|owner| !living.contains(&owner));
        let mut after = if is_dead { before.freed(now, write_bound) } else { before };
        if after.owner.is_none() && wanted > 0 {
            wanted -= 1;
            after = after.taken(me);
        }
        if after != before {
            changes.push((bucket, after));
        }
    }
    let surplus = mine.into_iter().skip(share).rev().take(SURPLUS_AT_ONCE).collect();
    Rebalance { changes, executed, surplus }
}

/// Until when a daemon trusts its lease, or may do a write, by its own two clocks.
///
/// The monotonic clock decides. The wall clock is asked as well because the monotonic one may stand still while the
/// machine sleeps; where the wall clock is set forwards, the next beat brings the trust back, and a write that is cut off is
/// made again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Deadline {
    mono: MonoTime,
    wall: WallTime,
}

impl Deadline {
    /// A beat was answered that was sent at this moment. The moment before it was sent counts, not that of the answer.
    pub fn of_beat(sent: MonoTime, sent_wall: WallTime) -> Deadline {
        let trust = LIFE.saturating_sub(TRUST_MARGIN);
        Deadline { mono: sent.plus(trust), wall: sent_wall.plus(trust) }
    }

    /// A write begins at this moment, and is cut off when its time is over.
    pub fn of_write(begun: MonoTime, begun_wall: WallTime) -> Deadline {
        Deadline { mono: begun.plus(WRITE_BOUND), wall: begun_wall.plus(WRITE_BOUND) }
    }

    /// How long the monotonic clock still has to it.
    pub fn left(&self, now: MonoTime) -> Duration {
        self.mono.since(now)
    }

    /// Has it not passed?
    pub fn is_ahead(&self, now: MonoTime, now_wall: WallTime) -> bool {
        now < self.mono && now_wall < self.wall
    }

    /// The later of two, since beats may be answered out of order.
    #[must_use]
    pub fn latest(self, other: Deadline) -> Deadline {
        if other.mono > self.mono { other } else { self }
    }
}

#[cfg(test)]
mod tests;
