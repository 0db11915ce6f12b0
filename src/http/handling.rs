//! The handling of one request, in the task of its connection.
//!
//! A task for each request would be simple. It would also cost an allocation, two wake-ups and two turns of the scheduler
//! for an answer that is mostly known at once. So a handler runs where hyper waits for its answer.
//!
//! *A client that hangs up.* It ends the connection's task, and this future with it. A handler that has begun and has not
//! ended is moved into a task of its own then, as it is: what a request began is not left half-way.
//!
//! *The early turn.* hyper reads a body only after a handler has asked for it, and looks for the answer after it has looked
//! for bytes. A handler that were polled for the first time when hyper looks for the answer would find no body yet, although
//! the body lies in hyper's buffer, and every delivery would take a second turn of its connection. So the handler gets one
//! turn already when hyper hands the request over. There is no task to wake at that moment, and the turn has a waker that
//! wakes nobody. No wake-up is lost by that: a service's future is polled at least once after it was handed back, and
//! whatever the handler waits for is asked again then. The handler then finds its body and ends, in most cases.
//! [`super::body`] arms no timer in an early turn, since that timer could wake nobody.
//!
//! *A panic* of a handler is caught in the turn in which it happens, and is a 500.
//!
//! *A stop* waits for every request that is under way, wherever it runs: one that had to wait holds a token of the tracker
//! of all requests until it has ended.

use std::convert::Infallible;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use http::{HeaderValue, StatusCode, header};
use tokio::runtime::Handle;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::connections::{Conn, Signal};
use super::responses::{self, Answer};

/// A request that is being handled; its output is the answer.
pub(super) struct Handling<F: Future<Output = Answer> + Send + 'static> {
    conn: Conn,
    /// `None` when it has ended. On the heap, since it may move to another task.
    handler: Option<Pin<Box<F>>>,
    /// The answer of the early turn.
    answer: Option<Answer>,
    /// The connection closes behind the answer.
    is_last: bool,
    /// Held from the first wait on.
    tracked: Option<TaskTrackerToken>,
}

impl<F: Future<Output = Answer> + Send + 'static> Handling<F> {
    /// A request that nobody may handle; the connection closes behind the answer.
    pub(super) fn refused(conn: Conn, answer: Answer) -> Self {
        Handling { conn, handler: None, answer: Some(answer), is_last: true, tracked: None }
    }

    /// Begins with a request, and gives its handler the early turn. The connection closes behind the answer if that
    /// `is_last`, or if the listener stops meanwhile.
    pub(super) fn begin(conn: Conn, handler: F, is_last: bool) -> Self {
        let mut handling = Handling { conn, handler: Some(Box::pin(handler)), answer: None, is_last, tracked: None };
        if let Poll::Ready(answer) = handling.turn(&mut Context::from_waker(Waker::noop())) {
            handling.answer = Some(answer);
        }
        handling
    }

    fn turn(&mut self, cx: &mut Context<'_>) -> Poll<Answer> {
        let Some(handler) = &mut self.handler else { return Poll::Pending };
        match catch_unwind(AssertUnwindSafe(|| handler.as_mut().poll(cx))) {
            Ok(Poll::Pending) => Poll::Pending,
            ended => {
                self.handler = None;
                ended.unwrap_or_else(|_| Poll::Ready(broke()))
            }
        }
    }
}

impl<F: Future<Output = Answer> + Send + 'static> Future for Handling<F> {
    type Output = Result<Answer, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = match self.answer.take() {
            Some(answer) => Poll::Ready(answer),
            None => self.turn(cx),
        };
        let Poll::Ready(mut answer) = answer else {
            self.tracked = self.tracked.take().or_else(|| Some(self.conn.track()));
            return Poll::Pending;
        };
        self.tracked = None;
        if self.is_last || self.conn.has(Signal::Stop) {
            answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        self.conn.rests();
        Poll::Ready(Ok(answer))
    }
}

impl<F: Future<Output = Answer> + Send + 'static> Drop for Handling<F> {
    fn drop(&mut self) {
        // Where the runtime itself ends, nothing goes on.
        if let Some(handler) = self.handler.take()
            && Handle::try_current().is_ok()
        {
            drop(self.conn.spawn(handler));
        }
    }
}

/// The handler panicked; the panic hook has said so.
fn broke() -> Answer {
    responses::error(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the request could not be answered")
}
