//! When a link is polled: in its slot of the interval. Pure.
//!
//! The slot is a hash of the link, spread over the interval. So a hundred thousand pages are an even trickle, also
//! after a restart. A link whose slot passed while no daemon ran catches up soon, spread by the same hash.

use std::time::Duration;

use sha2::{Digest as _, Sha256};

use crate::core::model::{LinkKey, MonoTime};

/// Reads a second that a catch-up may cause at most, where nobody asked for them.
const CATCH_UP_PER_SEC: u64 = 20;
/// The longest that a catch-up is spread over.
const LONGEST_CATCH_UP: Duration = Duration::from_secs(30 * 60);

/// So far a stamp may lie ahead of a clock that was put right since.
const CLOCKS_DIFFER: Duration = Duration::from_secs(5 * 60);

/// Within so long a new link's token is checked.
const SOON: Duration = Duration::from_secs(40);

/// The offset of a link within an interval, as a share of the interval: from 0 up to 1 and without 1. Offsets are even
/// over links, and a link keeps its own.
pub fn offset(link: &LinkKey) -> f64 {
    let hash = Sha256::digest(link.bound_bytes());
    let mut head = [0u8; 8];
    head.copy_from_slice(&hash[..8]);
    // 53 bits fill a float exactly, so that the quotient stays below 1.
    (u64::from_be_bytes(head) >> 11) as f64 / (1u64 << 53) as f64
}

/// The first slot after `now`.
pub fn next_slot(offset: f64, interval: Duration, now: MonoTime) -> MonoTime {
    let interval_ms = (interval.as_millis() as u64).max(1);
    let ahead = (offset * interval_ms as f64) as u64;
    let round = now.0 / interval_ms * interval_ms + ahead;
    if round > now.0 { MonoTime(round) } else { MonoTime(round.saturating_add(interval_ms)) }
}

/// The first poll of a link after a start: its next slot, or soon (within `spread`) when it was last read before the
/// slot that has passed. A read in times to come was stamped by a clock that was wrong, and says nothing of when it
/// was.
pub fn first_poll(
    offset: f64,
    interval: Duration,
    read_at: Option<MonoTime>,
    spread: Duration,
    now: MonoTime,
) -> MonoTime {
    let next = next_slot(offset, interval, now);
    let passed = MonoTime(next.0.saturating_sub(interval.as_millis() as u64));
    match read_at {
        Some(read_at) if read_at >= passed && read_at <= now.plus(CLOCKS_DIFFER) => next,
        _ => now.plus(spread.mul_f64(offset)).min(next),
    }
}

/// The first check of a link's token after a start or a linking. Checks have slots of their own, half a round away from
/// the polls; a link that was never checked gets one within the minute, unless there are so many that they would all
/// come at once. What was missed waits for its next slot: a check is never urgent.
pub fn first_check(offset: f64, interval: Duration, checked: bool, spread: Duration, now: MonoTime) -> MonoTime {
    if !checked && spread <= SOON {
        return now.plus(SOON / 2 + (SOON / 2).mul_f64(offset));
    }
    next_check(offset, interval, now)
}

/// The first check slot after `now`.
pub fn next_check(offset: f64, interval: Duration, now: MonoTime) -> MonoTime {
    next_slot((offset + 0.5).fract(), interval, now)
}

/// Over how long the reads of many links are spread that come due together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spread {
    /// Reads that nobody waits for: polls that were missed, and marks that the daemon made by itself.
    pub polls: Duration,
    /// Reads that a webhook, a login, an import or an operator asked for.
    pub asked: Duration,
}

impl Spread {
    /// For `links` that are found at a start, or when the store was opened again. What was asked for is late already, and
    /// is read as fast as the limit on calls allows.
    pub fn after_a_start(links: usize, interval: Duration) -> Spread {
        Spread { polls: spread(links, interval), asked: Duration::ZERO }
    }

    /// For `links` that were made together and are more than somebody watches.
    pub fn of_an_import(links: usize, interval: Duration) -> Spread {
        let spread = spread(links, interval);
        Spread { polls: spread, asked: spread }
    }
}

/// Over how long `links` reads are spread that all come due at once.
pub fn spread(links: usize, interval: Duration) -> Duration {
    let even = Duration::from_millis(links as u64 * 1000 / CATCH_UP_PER_SEC);
    even.min(LONGEST_CATCH_UP).min(interval / 4)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::model::UserId;
    use proptest::prelude::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    #[test]
    fn ten_thousand_links_are_an_even_trickle() {
        let user = UserId::random();
        let mut hours = [0u32; 24];
        for n in 0..10_000u32 {
            let link = LinkKey::new(user, n.to_string().parse().unwrap());
            let slot = next_slot(offset(&link), DAY, MonoTime(0));
            hours[(slot.0 / 3_600_000 % 24) as usize] += 1;
        }
        assert!(hours.iter().all(|n| (300..540).contains(n)), "{hours:?}");
    }

    #[test]
    fn a_slot_missed_during_downtime_is_caught_up_soon() {
        let now = MonoTime(1_795_341_600_000);
        let spread = Duration::from_secs(60);
        let late = first_poll(0.5, DAY, Some(MonoTime(now.0 - 2 * 86_400_000)), spread, now);
        assert_eq!(late, now.plus(Duration::from_secs(30)));
        let never = first_poll(0.0, DAY, None, spread, now);
        assert_eq!(never, now);
        let fresh = first_poll(0.5, DAY, Some(now), spread, now);
        assert_eq!(fresh, next_slot(0.5, DAY, now));
    }

    #[test]
    fn a_read_that_a_wrong_clock_put_into_the_future_is_not_relied_on() {
        let now = MonoTime(1_795_341_600_000);
        let spread = Duration::from_secs(60);
        let ahead = first_poll(0.5, DAY, Some(now.plus(2 * DAY)), spread, now);
        assert_eq!(ahead, now.plus(Duration::from_secs(30)));
        let a_little = first_poll(0.5, DAY, Some(now.plus(Duration::from_secs(60))), spread, now);
        assert_eq!(a_little, next_slot(0.5, DAY, now));
    }

    #[test]
    fn checks_are_half_a_round_away_from_polls_and_never_all_at_once() {
        let now = MonoTime(1_795_341_600_000);
        for offset in [0.0, 0.3, 0.5, 0.999] {
            let apart = next_check(offset, DAY, MonoTime(0)).0.abs_diff(next_slot(offset, DAY, MonoTime(0)).0);
            assert!(apart.abs_diff(DAY.as_millis() as u64 / 2) <= 1, "{offset}: {apart}");
            let new = first_check(offset, DAY, false, Duration::ZERO, now);
            assert!(new.since(now) <= SOON);
            let many = first_check(offset, DAY, false, LONGEST_CATCH_UP, now);
            assert_eq!(many, next_check(offset, DAY, now));
            assert_eq!(first_check(offset, DAY, true, Duration::ZERO, now), next_check(offset, DAY, now));
        }
    }

    #[test]
    fn many_are_spread_and_one_is_not() {
        assert_eq!(spread(1, DAY), Duration::from_millis(50));
        assert_eq!(spread(100_000, DAY), LONGEST_CATCH_UP);
        assert_eq!(spread(100_000, Duration::from_secs(8)), Duration::from_secs(2));
    }

    proptest! {
        #[test]
        fn a_slot_lies_ahead_and_within_one_interval(offset in 0.0f64..1.0, interval in 1u64..100_000_000, now in 0u64..4_000_000_000_000) {
            let interval = Duration::from_millis(interval);
            let slot = next_slot(offset, interval, MonoTime(now));
            prop_assert!(slot.0 > now && slot.0 - now <= interval.as_millis() as u64);
            let after = next_slot(offset, interval, slot);
            prop_assert_eq!(after.0 - slot.0, interval.as_millis() as u64);
        }
    }
}
