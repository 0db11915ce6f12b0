//! A token bucket: `burst` reads in quick succession, after that one every `refill`. Pure.
//!
//! It keeps a page that changes all day inside Graph's budget for the page and Spaces' limits for one object. The
//! last change is always read: an empty bucket delays, it never drops.

use std::time::Duration;

use crate::core::model::MonoTime;

/// The bucket's state, kept as the moment at which it would be full: no timer, no drift.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket {
    burst: u32,
    refill: Duration,
    full_at: MonoTime,
}

impl Bucket {
    /// A full bucket of `burst` (at least 1) tokens, one of which comes back every `refill`.
    pub fn new(burst: u32, refill: Duration) -> Self {
        Bucket { burst: burst.max(1), refill, full_at: MonoTime(0) }
    }

    /// Takes over other settings; what was spent stays spent.
    pub fn reconfigure(&mut self, burst: u32, refill: Duration, now: MonoTime) {
        let spent = self.spent(now);
        *self = Bucket::new(burst, refill);
        self.full_at = now.plus(refill.saturating_mul(spent.min(self.burst)));
    }

    /// When a token is there: `now` or later.
    pub fn ready_at(&self, now: MonoTime) -> MonoTime {
        self.holds_at(1, now)
    }

    /// When so many tokens are there, or as many as the bucket can hold: `now` or later.
    pub fn holds_at(&self, tokens: u32, now: MonoTime) -> MonoTime {
        let span = self.refill.saturating_mul(self.burst.saturating_sub(tokens.max(1)));
        MonoTime(self.full_at.0.saturating_sub(MonoTime(0).plus(span).0)).max(now)
    }

    /// Takes a token, on credit where none is there.
    pub fn take(&mut self, now: MonoTime) {
        self.full_at = self.full_at.max(now).plus(self.refill);
    }

    /// Takes a token where one is there, and leaves the bucket empty otherwise: who takes on credit again and again owes
    /// no more than one refill.
    pub fn take_or_empty(&mut self, now: MonoTime) {
        let emptied_at = now.plus(self.refill.saturating_mul(self.burst));
        self.full_at = self.full_at.max(now).plus(self.refill).min(emptied_at);
    }

    /// When every token is back.
    pub fn full_at(&self) -> MonoTime {
        self.full_at
    }

    fn spent(&self, now: MonoTime) -> u32 {
        let missing = self.full_at.since(now).as_millis();
        match self.refill.as_millis() {
            0 => 0,
            refill => u32::try_from(missing.div_ceil(refill)).unwrap_or(u32::MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn three_at_once_then_one_a_minute() {
        let mut bucket = Bucket::new(3, Duration::from_secs(60));
        let start = MonoTime(1_000_000);
        for _ in 0..3 {
            assert_eq!(bucket.ready_at(start), start);
            bucket.take(start);
        }
        assert_eq!(bucket.ready_at(start), start.plus(Duration::from_secs(60)));
        assert_eq!(bucket.holds_at(2, start), start.plus(Duration::from_secs(120)));
        assert_eq!(bucket.holds_at(9, start), bucket.full_at());
        let mut other = bucket;
        (0..50).for_each(|_| other.take_or_empty(start));
        assert_eq!(other, bucket, "credit leaves it empty and no emptier");
        let full = start.plus(Duration::from_secs(180));
        assert_eq!(bucket.ready_at(full), full);
    }

    #[test]
    fn a_larger_burst_applies_at_once_and_keeps_what_was_spent() {
        let mut bucket = Bucket::new(1, Duration::from_secs(60));
        let now = MonoTime(1_000_000);
        bucket.take(now);
        bucket.reconfigure(2, Duration::from_secs(60), now);
        assert_eq!(bucket.ready_at(now), now);
        bucket.take(now);
        assert_eq!(bucket.ready_at(now), now.plus(Duration::from_secs(60)));
    }

    proptest! {
        #[test]
        fn never_more_than_the_budget(burst in 1u32..6, refill in 1u64..100, wants in proptest::collection::vec(0u64..200, 1..60)) {
            let mut bucket = Bucket::new(burst, Duration::from_millis(refill));
            let (mut now, mut taken) = (MonoTime(10_000), 0u64);
            let start = now;
            for wait in wants {
                now = bucket.ready_at(now.plus(Duration::from_millis(wait)));
                bucket.take(now);
                taken += 1;
                prop_assert!(taken <= u64::from(burst) + now.since(start).as_millis() as u64 / refill);
            }
        }
    }
}
