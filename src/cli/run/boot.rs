//! The time before READY: systemd is asked for the time that the start takes.
//!
//! The time to open the store grows with its size. It may exceed the unit's `TimeoutStartSec=`, and then systemd would
//! end a daemon that is about to be ready, again and again. What follows the opening does not grow: a start that is not
//! ready [`LONGEST`] after it ends with an error, without READY.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::systemd;

/// Between two requests for more time.
const ASK_EVERY: Duration = Duration::from_secs(5);
/// A boot that takes longer has failed.
const LONGEST: Duration = Duration::from_secs(60);
/// Asked for each time: more than a boot may take, so that the daemon itself reports that it takes longer.
const EXTENSION: Duration = Duration::from_secs(90);
/// The most that the store may take to open. Its progress cannot be seen from outside.
const OPENING: Duration = Duration::from_secs(15 * 60);

/// Opens the store on this thread, while another asks systemd for time.
pub(super) fn opening<T>(open: impl FnOnce() -> T) -> T {
    let asking = Asking(tokio::spawn(async {
        let mut left = OPENING;
        while !left.is_zero() {
            systemd::extend_start(EXTENSION);
            sleep(ASK_EVERY).await;
            left = left.saturating_sub(ASK_EVERY);
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

/// Waits until the boot has ended, while systemd is asked for the time that this takes at most. `None` when it has not
/// ended after [`LONGEST`].
pub(super) async fn ended<T>(boot: impl Future<Output = T>, extend: impl Fn(Duration)) -> Option<T> {
    extend(EXTENSION);
    timeout(LONGEST, boot).await.ok()
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::{pending, ready};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_boot_that_does_not_end_fails_before_systemd_ends_it() {
        let (asked, started) = (Cell::new(Duration::ZERO), tokio::time::Instant::now());
        let extend = |by| asked.set(started.elapsed() + by);
        assert_eq!(ended(ready("ready"), extend).await, Some("ready"));
        assert_eq!(ended(pending::<()>(), extend).await, None);
        assert!(started.elapsed() >= LONGEST && started.elapsed() < asked.get());
    }
}
