//! How long to wait before trying again. Pure: the attempt, the randomness and the server's hint are arguments, and
//! nothing here sleeps.
//!
//! The wait doubles with every attempt up to a cap. Jitter keeps those who failed together from coming back together.
//! A server that says when to return is believed, within a day: it knows better, and a wait that no one can see the
//! end of helps nobody.

use std::time::Duration;

/// The longest wait that a server's hint can ask for.
pub const LONGEST_HINT: Duration = Duration::from_secs(24 * 60 * 60);

/// Those who were held back together for some seconds come back over this time.
const SPREAD: Duration = Duration::from_secs(3);

/// An exponential backoff. The ceiling of attempt `n`, counted from 0, is `base` × 2ⁿ, at most `cap`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The ceiling of the first wait.
    pub base: Duration,
    /// The ceiling of every wait.
    pub cap: Duration,
}

impl Backoff {
    /// The wait with **equal jitter**: half of the ceiling, and up to the other half by `jitter`.
    ///
    /// `jitter` is a random number from 0 to 1; what lies outside is brought inside, and what is no number counts as 1.
    /// With a `hint` the wait is [`hinted`], whatever the cap says.
    pub fn delay(&self, attempt: u32, jitter: f64, hint: Option<Duration>) -> Duration {
        if let Some(hint) = hint {
            return hinted(hint, jitter);
        }
        let ceiling = self.ceiling(attempt);
        ceiling / 2 + (ceiling - ceiling / 2).mul_f64(within(jitter))
    }

    /// The wait with **full jitter**: anything from nothing to the ceiling. It spreads best where many wait for the
    /// same thing. `jitter` and `hint` are as for [`Backoff::delay`].
    pub fn delay_full(&self, attempt: u32, jitter: f64, hint: Option<Duration>) -> Duration {
        match hint {
            Some(hint) => hinted(hint, jitter),
            None => self.ceiling(attempt).mul_f64(within(jitter)),
        }
    }

    /// The most that attempt `attempt` waits without a hint.
    pub fn ceiling(&self, attempt: u32) -> Duration {
        let factor = 1u32.checked_shl(attempt).unwrap_or(u32::MAX);
        self.base.saturating_mul(factor).min(self.cap)
    }
}

/// The wait of one among many callers that a server asked to come back after `hint`: that, and up to a tenth more by
/// `jitter`; up to [`SPREAD`] more where a tenth is little, though never more than twice the hint.
pub fn hinted(hint: Duration, jitter: f64) -> Duration {
    let hint = hint.min(LONGEST_HINT);
    let spread = (hint / 10).max(SPREAD.min(hint));
    hint + spread.mul_f64(within(jitter))
}

fn within(jitter: f64) -> f64 {
    if jitter.is_nan() { 1.0 } else { jitter.clamp(0.0, 1.0) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BACKOFF: Backoff = Backoff { base: Duration::from_secs(1), cap: Duration::from_secs(300) };

    #[test]
    fn it_doubles_up_to_the_cap() {
        for (attempt, least_ms, most_ms) in [
            (0, 500, 1_000),
            (1, 1_000, 2_000),
            (2, 2_000, 4_000),
            (8, 128_000, 256_000),
            (9, 150_000, 300_000),
            (31, 150_000, 300_000),
            (32, 150_000, 300_000),
            (u32::MAX, 150_000, 300_000),
        ] {
            assert_eq!(BACKOFF.delay(attempt, 0.0, None), Duration::from_millis(least_ms), "attempt {attempt}");
            assert_eq!(BACKOFF.delay(attempt, 1.0, None), Duration::from_millis(most_ms), "attempt {attempt}");
            assert_eq!(BACKOFF.delay_full(attempt, 0.0, None), Duration::ZERO);
            assert_eq!(BACKOFF.delay_full(attempt, 1.0, None), Duration::from_millis(most_ms));
        }
    }

    #[test]
    fn a_hint_wins_over_attempt_and_cap() {
        for (hint_secs, jitter, expected_ms) in [
            (0, 1.0, 0),
            (1, 0.0, 1_000),
            (1, 1.0, 2_000),
            (10, 1.0, 13_000),
            (60, 1.0, 66_000),
            (3_600, 0.0, 3_600_000),
            (1_000_000, 0.0, 86_400_000),
        ] {
            let hint = Some(Duration::from_secs(hint_secs));
            assert_eq!(BACKOFF.delay(7, jitter, hint), Duration::from_millis(expected_ms));
            assert_eq!(BACKOFF.delay_full(7, jitter, hint), Duration::from_millis(expected_ms));
        }
        assert!(BACKOFF.delay(0, 1.0, Some(Duration::MAX)) < Duration::from_secs(27 * 60 * 60));
    }

    #[test]
    fn strange_settings_do_no_harm() {
        let huge = Backoff { base: Duration::MAX, cap: Duration::from_secs(5) };
        assert_eq!(huge.delay(40, 1.0, None), Duration::from_secs(5));
        let none = Backoff { base: Duration::ZERO, cap: Duration::from_secs(5) };
        assert_eq!(none.delay(40, 1.0, None), Duration::ZERO);
        for odd in [f64::NAN, f64::INFINITY, 7.0] {
            assert_eq!(BACKOFF.delay(0, odd, None), Duration::from_secs(1));
        }
        assert_eq!(BACKOFF.delay(0, -3.0, None), Duration::from_millis(500));
    }

    proptest! {
        #[test]
        fn a_wait_stays_between_half_and_all_of_its_ceiling(attempt: u32, jitter in 0.0..1.0f64) {
            let wait = BACKOFF.delay(attempt, jitter, None);
            prop_assert!(wait <= BACKOFF.ceiling(attempt) && wait >= BACKOFF.ceiling(attempt) / 2);
            prop_assert!(BACKOFF.delay_full(attempt, jitter, None) <= BACKOFF.ceiling(attempt));
        }
    }
}
