//! Reads the two clocks: the wall clock, for what is written down, and the monotonic clock, for waiting.

use std::sync::LazyLock;
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use crate::core::model::{MonoTime, WallTime};

impl WallTime {
    /// This moment.
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        WallTime(since.map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX)))
    }

    /// The moment on the monotonic clock at which the wall clock shows this time, if nobody sets it.
    pub fn to_mono(self) -> MonoTime {
        let (wall, mono) = (WallTime::now(), MonoTime::now());
        if wall.0.abs_diff(mono.0) < 1000 {
            MonoTime(self.0)
        } else {
            MonoTime(mono.0.saturating_add(self.0).saturating_sub(wall.0))
        }
    }
}

impl MonoTime {
    /// This moment. The clock begins with the time of the wall clock at the process's start, so that a log of both can
    /// be read; it does not follow when the wall clock is set. It is the clock of the runtime's timers, so that a test
    /// that stops that clock stops this one, too.
    pub fn now() -> Self {
        static START: LazyLock<(Instant, u64)> =
            LazyLock::new(|| (Instant::from_std(std::time::Instant::now()), WallTime::now().0));
        MonoTime(START.1).plus(START.0.elapsed())
    }

    /// The time that the wall clock will show at this moment, if nobody sets it.
    pub fn to_wall(self) -> WallTime {
        let (wall, mono) = (WallTime::now(), MonoTime::now());
        // The two are read one after the other, so a difference of milliseconds is none.
        if wall.0.abs_diff(mono.0) < 1000 { WallTime(self.0) } else { wall.plus(self.since(mono)) }
    }
}
