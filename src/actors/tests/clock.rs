//! The clock of these tests. It is paused, and it does not move on by itself while the runtime waits for a socket, for
//! the disk or for the store's thread.

use std::sync::mpsc;
use std::time::Duration;

use tokio::time::Instant;

use crate::core::model::MonoTime;

/// How long a test waits for a condition, on the machine's own clock.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a test lets time pass until a condition holds.
const LONGEST: Duration = Duration::from_secs(3600);
const STEP: Duration = Duration::from_millis(25);
const LONGEST_STEP: Duration = Duration::from_millis(500);

/// While this lives, the clock stands still.
pub(super) struct Stopped {
    _release: mpsc::Sender<()>,
}

/// Stops the clock. tokio moves a paused clock on when the runtime is idle, but not during a blocking task.
pub(super) fn stop() -> Stopped {
    // The first look fixes where the count begins, and must come before the pause.
    MonoTime::now();
    tokio::time::pause();
    let (release, released) = mpsc::channel::<()>();
    tokio::task::spawn_blocking(move || released.recv());
    Stopped { _release: release }
}

/// Lets everything that waits for sockets, disk and threads go on for a moment, while the clock stands.
pub(super) async fn moment() {
    let pause = tokio::task::spawn_blocking(|| std::thread::sleep(Duration::from_millis(1)));
    pause.await.expect("a moment");
}

/// Lets time pass, in steps.
pub(super) async fn pass(time: Duration) {
    let (until, step) = (Instant::now() + time, STEP.max(time / 40));
    while Instant::now() < until {
        tokio::time::advance(step.min(until - Instant::now())).await;
        moment().await;
    }
}

/// Lets time pass while this goes on.
pub(super) async fn passing<T>(work: impl Future<Output = T>) -> T {
    let time = async {
        let began = std::time::Instant::now();
        while began.elapsed() < PATIENCE {
            moment().await;
            tokio::time::advance(STEP).await;
        }
    };
    tokio::select! {
        done = work => done,
        () = time => panic!("it has no end"),
    }
}

/// Waits until the condition holds, while the clock stands.
#[track_caller]
pub(super) fn until(what: &str, condition: impl FnMut() -> bool) -> impl Future<Output = ()> {
    wait(what.to_owned(), condition, false, std::panic::Location::caller())
}

/// Waits until the condition holds, and lets time pass meanwhile.
#[track_caller]
pub(super) fn until_passing(what: &str, condition: impl FnMut() -> bool) -> impl Future<Output = ()> {
    wait(what.to_owned(), condition, true, std::panic::Location::caller())
}

async fn wait(
    what: String,
    mut condition: impl FnMut() -> bool,
    pass: bool,
    at: &'static std::panic::Location<'static>,
) {
    let (began, clock) = (std::time::Instant::now(), Instant::now());
    loop {
        // What is on its way within this process arrives before time passes.
        for _ in 0..3 {
            if condition() {
                return;
            }
            moment().await;
        }
        assert!(began.elapsed() < PATIENCE && clock.elapsed() < LONGEST, "{at}: waited in vain until {what}");
        if pass {
            // Steps grow with the time that passed, and stay far below any limit of a request.
            tokio::time::advance((STEP + clock.elapsed() / 50).min(LONGEST_STEP)).await;
        }
    }
}
