//! Limits on logins: of one user, and of new users by client address and in total. Pure: time is an argument.
//!
//! The cost of a login begins with its callback: a write to disk, an exchange with Graph, perhaps a new user. So the
//! callback is counted and the way to the dialog is not. The memory is bounded by [`MAX_KEYS`]. Beyond that the key
//! that spent least is forgotten, which gives that key a few more attempts.

use core::net::IpAddr;
use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use crate::core::link::token_bucket::Bucket;
use crate::core::model::{MonoTime, UserId};

const HOUR: Duration = Duration::from_secs(60 * 60);
/// Logins that one user may bring to an end in quick succession, and after that one every [`USER_REFILL`].
const USER_BURST: u32 = 60;
const USER_REFILL: Duration = Duration::from_secs(10);
/// Addresses and users that are remembered at a time, each.
const MAX_KEYS: usize = 20_000;

/// How many new users an hour may bring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewUsers {
    /// In all.
    pub in_total: usize,
    /// From one address.
    pub per_address: usize,
}

/// A login is refused for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    /// When it may be tried again.
    pub retry_after: Duration,
    /// The limit.
    pub limit: Limit,
    /// The first refusal by this limit since the last login that it let pass: worth a log message.
    pub first: bool,
}

/// Which limit refused a login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// One user.
    User,
    /// New users of one client address.
    Address,
    /// New users in total.
    Total,
}

impl Limit {
    /// The limit in a log message.
    pub fn words(self) -> &'static str {
        match self {
            Limit::User => "the logins of one user",
            Limit::Address => "session.max_new_users_per_address",
            Limit::Total => "session.max_new_users",
        }
    }
}

/// The counts of all limits.
#[derive(Debug, Default)]
pub struct LoginLimits {
    users: Keyed<UserId>,
    addresses: Keyed<IpAddr>,
    total: Keyed<()>,
}

impl LoginLimits {
    /// A login of this user comes to its end.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn take_user(&mut self, user: UserId, now: MonoTime) -> Result<(), Refused> {
        self.users.configure(USER_BURST, USER_REFILL, now);
        self.users.check(user, now).map_err(|refusal| refusal.by(Limit::User))?;
        self.users.take(user, now);
        Ok(())
    }

    /// A login that may become a new user comes to its end. Without an address the total alone counts.
    ///
    /// # Errors
    /// [`Refused`]; nothing is counted then.
    pub fn take_newcomer(&mut self, address: Option<IpAddr>, caps: NewUsers, now: MonoTime) -> Result<(), Refused> {
        let hourly = |count: usize| {
            let burst = u32::try_from(count.max(1)).unwrap_or(u32::MAX);
            (burst, HOUR / burst)
        };
        let (burst, refill) = hourly(caps.per_address);
        self.addresses.configure(burst, refill, now);
        let (burst, refill) = hourly(caps.in_total);
        self.total.configure(burst, refill, now);
        let network = address.map(network);
        if let Some(network) = network {
            self.addresses.check(network, now).map_err(|refusal| refusal.by(Limit::Address))?;
        }
        self.total.check((), now).map_err(|refusal| refusal.by(Limit::Total))?;
        if let Some(network) = network {
            self.addresses.take(network, now);
        }
        self.total.take((), now);
        Ok(())
    }
}

/// One customer of a provider has a whole /64 of IPv6.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() & !u128::from(u64::MAX)).into()),
    }
}

/// A refusal without the limit's name.
struct Refusal {
    retry_after: Duration,
    first: bool,
}

impl Refusal {
    fn by(self, limit: Limit) -> Refused {
        Refused { retry_after: self.retry_after, limit, first: self.first }
    }
}

/// A token bucket for each key.
#[derive(Debug)]
struct Keyed<K> {
    buckets: HashMap<K, Bucket>,
    burst: u32,
    refill: Duration,
    refusing: bool,
}

impl<K> Default for Keyed<K> {
    fn default() -> Self {
        Keyed { buckets: HashMap::new(), burst: 0, refill: Duration::ZERO, refusing: false }
    }
}

impl<K: Hash + Eq + Copy> Keyed<K> {
    fn configure(&mut self, burst: u32, refill: Duration, now: MonoTime) {
        if (self.burst, self.refill) != (burst, refill) {
            (self.burst, self.refill) = (burst, refill);
            self.buckets.values_mut().for_each(|bucket| bucket.reconfigure(burst, refill, now));
        }
    }

    fn check(&mut self, key: K, now: MonoTime) -> Result<(), Refusal> {
        let ready_at = self.buckets.get(&key).map_or(now, |bucket| bucket.ready_at(now));
        let retry_after = ready_at.since(now);
        let refused = !retry_after.is_zero();
        let first = refused && !std::mem::replace(&mut self.refusing, refused);
        if refused { Err(Refusal { retry_after, first }) } else { Ok(()) }
    }

    fn take(&mut self, key: K, now: MonoTime) {
        if self.buckets.len() >= MAX_KEYS && !self.buckets.contains_key(&key) {
            self.buckets.retain(|_, bucket| bucket.full_at() > now);
            let least = self.buckets.iter().min_by_key(|(_, bucket)| bucket.full_at()).map(|(key, _)| *key);
            if let Some(least) = least.filter(|_| self.buckets.len() >= MAX_KEYS) {
                self.buckets.remove(&least);
            }
        }
        let (burst, refill) = (self.burst, self.refill);
        self.buckets.entry(key).or_insert_with(|| Bucket::new(burst, refill)).take(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: MonoTime = MonoTime(1_795_341_600_000);
    const CAPS: NewUsers = NewUsers { in_total: 6, per_address: 2 };

    fn address(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn an_address_and_all_together_have_their_hourly_share() {
        let mut limits = LoginLimits::default();
        let mut take = |from: Option<IpAddr>, now| limits.take_newcomer(from, CAPS, now);
        for _ in 0..2 {
            take(address("192.0.2.1"), START).unwrap();
            take(address("2001:db8:0:1::1"), START).unwrap();
        }
        let half_an_hour = HOUR / 2;
        let refused = Refused { retry_after: half_an_hour, limit: Limit::Address, first: true };
        assert_eq!(take(address("192.0.2.1"), START), Err(refused));
        // The same network, the same machine in another notation; and no second message in the log.
        let again = Err(Refused { first: false, ..refused });
        assert_eq!(take(address("2001:db8:0:1:2::9"), START), again);
        assert_eq!(take(address("::ffff:192.0.2.1"), START), again);
        take(None, START).unwrap();
        take(None, START).unwrap();
        let refused = take(address("2001:db8:0:2::1"), START).unwrap_err();
        assert_eq!((refused.limit, refused.retry_after, refused.first), (Limit::Total, HOUR / 6, true));
        take(address("192.0.2.1"), START.plus(half_an_hour)).unwrap();
    }

    #[test]
    fn a_change_of_the_limits_counts_at_once() {
        let mut limits = LoginLimits::default();
        for _ in 0..6 {
            limits.take_newcomer(None, CAPS, START).unwrap();
        }
        assert!(limits.take_newcomer(None, CAPS, START).is_err());
        limits.take_newcomer(None, NewUsers { in_total: 7, ..CAPS }, START).unwrap();
    }

    #[test]
    fn a_user_who_logs_in_without_end_is_slowed_down() {
        let mut limits = LoginLimits::default();
        let (user, other) = (UserId::random(), UserId::random());
        for _ in 0..USER_BURST {
            limits.take_user(user, START).unwrap();
        }
        let refused = limits.take_user(user, START).unwrap_err();
        assert_eq!((refused.limit, refused.retry_after), (Limit::User, USER_REFILL));
        limits.take_user(other, START).unwrap();
        limits.take_user(user, START.plus(USER_REFILL)).unwrap();
    }

    #[test]
    fn however_many_addresses_come_the_memory_is_bounded() {
        let mut limits = LoginLimits::default();
        let caps = NewUsers { in_total: 1_000_000, per_address: 2 };
        let busy = address("198.51.100.7");
        limits.take_newcomer(busy, caps, START).unwrap();
        limits.take_newcomer(busy, caps, START).unwrap();
        for n in 0..MAX_KEYS as u32 + 100 {
            let from = Some(IpAddr::from(n.to_be_bytes()));
            limits.take_newcomer(from, caps, START.plus(Duration::from_millis(n.into()))).unwrap();
        }
        assert_eq!(limits.addresses.buckets.len(), MAX_KEYS);
        assert!(limits.take_newcomer(busy, caps, START).is_err(), "the address that spent most is not forgotten first");
    }
}
