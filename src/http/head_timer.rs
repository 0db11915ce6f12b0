//! The timer by which hyper closes a connection whose client sends no complete head in time.
//!
//! hyper asks for a new timer for each head, and drops it when the head is there. A timer of the runtime would be put into
//! the runtime's wheel and taken out of it again for each request, both under a lock, although it almost never fires. So a
//! connection has one timer of the runtime, which stays armed, and hyper's waits are notes of a deadline. The armed timer
//! never fires later than the deadline of the present wait, because deadlines of later waits are later. When it fires early,
//! the wait arms it again for its own deadline. So an idle connection is woken once more than it would need, and a busy one
//! once in a timeout.
//!
//! A connection has one wait at a time: hyper's for the next head.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use hyper::rt;
use tokio::time;

/// The timer of one connection.
#[derive(Clone, Default)]
pub(super) struct HeadTimer {
    armed: Arc<Mutex<Option<Pin<Box<time::Sleep>>>>>,
}

impl rt::Timer for HeadTimer {
    fn sleep(&self, duration: std::time::Duration) -> Pin<Box<dyn rt::Sleep>> {
        self.sleep_until(self.now() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn rt::Sleep>> {
        Box::pin(Wait { timer: self.clone(), deadline: deadline.into() })
    }

    fn now(&self) -> Instant {
        time::Instant::now().into_std()
    }
}

/// A wait for a deadline.
struct Wait {
    timer: HeadTimer,
    deadline: time::Instant,
}

impl rt::Sleep for Wait {}

impl Future for Wait {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut armed = self.timer.armed.lock().unwrap_or_else(PoisonError::into_inner);
        let sleep = armed.get_or_insert_with(|| Box::pin(time::sleep_until(self.deadline)));
        loop {
            if sleep.deadline() > self.deadline {
                sleep.as_mut().reset(self.deadline);
            }
            ready!(sleep.as_mut().poll(cx));
            if sleep.deadline() >= self.deadline {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(self.deadline);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hyper::rt::Timer;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_wait_ends_at_its_own_deadline() {
        let (timer, began) = (HeadTimer::default(), time::Instant::now());
        let second = Duration::from_secs(1);
        // Waits that are dropped before they end, as after each head.
        for _ in 0..5 {
            let wait = timer.sleep(10 * second);
            assert!(time::timeout(4 * second, wait).await.is_err());
        }
        assert_eq!(began.elapsed(), 20 * second);
        timer.sleep(10 * second).await;
        assert_eq!(began.elapsed(), 30 * second);
        // A shorter wait than the one before it.
        assert!(time::timeout(second, timer.sleep(10 * second)).await.is_err());
        timer.sleep(2 * second).await;
        assert_eq!(began.elapsed(), 33 * second);
    }
}
