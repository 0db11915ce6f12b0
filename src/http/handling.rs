//! The handling of one request, in the task of its connection.
//!
//! A task for each request would be simple. It would also cost an allocation, two wake-ups and two turns of the scheduler
//! for an answer that is mostly known at once. So a handler runs where hyper waits for its answer.
//!
//! *A client that hangs up.* It ends the connection's task, and this future with it. A handler that has begun and has not
//! ended is moved into a task of its own then, as it is: what a request began is not left half-way.
//!
//! *One turn.* hyper passes on what it has read of a body before it asks for the answer. So a handler finds a body that came
//! with its head, and ends in its first turn, in most cases. It begins when hyper can send its answer and not before: no
//! request is begun that nothing would go on with.
//!
//! *A panic* of a handler is caught in the turn in which it happens, and is a 500.
//!
//! *A stop* waits for every request that is under way, wherever it runs: one that had to wait holds a token of the tracker
//! of all requests until it has ended.

use std::convert::Infallible;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

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
    /// The answer to a request that nobody handles.
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

    /// A request and its handler. The connection closes behind the answer if that `is_last`, or if the listener stops
    /// meanwhile.
    pub(super) fn new(conn: Conn, handler: F, is_last: bool) -> Self {
        Handling { conn, handler: Some(Box::pin(handler)), answer: None, is_last, tracked: None }
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
