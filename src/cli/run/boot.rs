//! The time before READY: systemd is asked for more time while there is progress.
//!
//! The time to open the store grows with its size. It may exceed the unit's `TimeoutStartSec=`, and then systemd would
//! end a daemon that is about to be ready, again and again. A start without progress for [`STALL`] ends with an error,
//! without READY.

use std::pin::pin;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::systemd;

/// Between two looks at the progress.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// A boot without progress for so long has failed.
const STALL: Duration = Duration::from_secs(60);
/// Asked for at each look: more than it takes to see that there is no progress, so that the daemon itself reports it.
const EXTENSION: Duration = Duration::from_secs(90);
/// The most that the store may take to open. Its progress cannot be seen from outside.
const OPENING: Duration = Duration::from_secs(15 * 60);

/// Opens the store on this thread, while another asks systemd for time.
pub(super) fn opening<T>(open: impl FnOnce() -> T) -> T {
    let asking = Asking(tokio::spawn(async {
        let mut left = OPENING;
        while !left.is_zero() {
            systemd::extend_start(EXTENSION);
            sleep(LOOK_EVERY).await;
            left = left.saturating_sub(LOOK_EVERY);
        }
    }));
    let opened = tokio::task::block_in_place(open);
    drop(asking);
    opened
}

struct Asking(JoinHandle<()>);

impl Drop for Asking {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Waits until the boot has ended. `None` when `progress` stood still for [`STALL`] before that.
pub(super) async fn ended<T>(
    boot: impl Future<Output = T>,
    progress: impl Fn() -> usize,
    extend: impl Fn(Duration),
) -> Option<T> {
    let mut boot = pin!(boot);
    let (mut seen, mut still) = (progress(), Duration::ZERO);
    extend(EXTENSION);
    loop {
        tokio::select! {
            ended = boot.as_mut() => return Some(ended),
            () = sleep(LOOK_EVERY) => {}
        }
        let now = progress();
        if now == seen {
            still += LOOK_EVERY;
            if still >= STALL {
                return None;
            }
        } else {
            (seen, still) = (now, Duration::ZERO);
            extend(EXTENSION);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::pending;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[tokio::test(start_paused = true)]
    async fn a_boot_that_makes_progress_has_all_the_time_it_needs() {
        let (looks, asked) = (Cell::new(0), Cell::new(Duration::ZERO));
        let started = tokio::time::Instant::now();
        let progress = || {
            looks.set(looks.get() + 1);
            // A step in each half minute.
            looks.get() / 6
        };
        let extend = |by| {
            assert!(by > STALL + LOOK_EVERY);
            let until = started.elapsed() + by;
            assert!(asked.get().is_zero() || started.elapsed() < asked.get(), "systemd has ended it");
            asked.set(until);
        };
        let boot = async {
            sleep(HOUR).await;
            "ready"
        };
        assert_eq!(ended(boot, progress, extend).await, Some("ready"));
        assert!(asked.get() > HOUR);
    }

    #[tokio::test(start_paused = true)]
    async fn a_boot_that_stands_still_fails_before_systemd_ends_it() {
        let (asked, started) = (Cell::new(Duration::ZERO), tokio::time::Instant::now());
        let extend = |by| asked.set(started.elapsed() + by);
        // It moves for ten minutes.
        let progress = || (started.elapsed().as_secs() as usize).min(600);
        assert_eq!(ended(pending::<()>(), progress, extend).await, None);
        let took = started.elapsed();
        assert!(took >= Duration::from_secs(600) + STALL && took < asked.get(), "{took:?}");
    }
}
