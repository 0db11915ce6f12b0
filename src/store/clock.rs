//! The clocks that the store asks: those of the process, or clocks that a test sets. The wall clock dates decisions, the
//! monotonic one says until when leases are trusted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::core::model::{MonoTime, WallTime};

/// A wall clock and a monotonic one.
#[derive(Clone, Default)]
pub(super) enum Clock {
    /// Those of the process.
    #[default]
    Process,
    /// Those that a test sets.
    Set(Arc<SetClock>),
}

impl Clock {
    /// This moment on the wall clock.
    pub(super) fn now(&self) -> WallTime {
        match self {
            Clock::Process => WallTime::now(),
            Clock::Set(set) => WallTime(set.wall.load(Ordering::Relaxed)),
        }
    }

    /// This moment on the monotonic clock.
    pub(super) fn mono(&self) -> MonoTime {
        match self {
            Clock::Process => MonoTime::now(),
            Clock::Set(set) => MonoTime(set.mono.load(Ordering::Relaxed)),
        }
    }
}

/// Clocks that stand still until they are set.
#[derive(Debug, Default)]
pub(super) struct SetClock {
    wall: AtomicU64,
    mono: AtomicU64,
}

impl SetClock {
    /// They show these times from here on.
    pub(super) fn set(&self, wall: WallTime, mono: MonoTime) {
        self.wall.store(wall.0, Ordering::Relaxed);
        self.mono.store(mono.0, Ordering::Relaxed);
    }
}
