//! A question to a part that reads no mailbox: it lies here until the part takes it, between two steps of its work.

use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

use crate::metrics::Question;

/// One question at most.
#[derive(Debug, Default)]
pub struct Inquiry {
    question: Mutex<Option<Question>>,
    came: Notify,
}

impl Inquiry {
    /// Leaves a question for the part.
    pub(super) fn ask(&self, question: Question) {
        *self.question.lock().unwrap_or_else(PoisonError::into_inner) = Some(question);
        self.came.notify_one();
    }

    /// Waits for a question.
    pub(super) async fn came(&self) {
        self.came.notified().await;
    }

    /// The part is at work: answers the question that waits, if there is one.
    pub(super) fn answer(&self) {
        if let Some(question) = self.question.lock().unwrap_or_else(PoisonError::into_inner).take() {
            question.answer();
        }
    }
}
