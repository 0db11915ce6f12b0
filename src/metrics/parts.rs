//! The signs of life of the parts of which a daemon has one each: how long each of them has not answered.
//!
//! The supervisor asks them at a steady pace. A part answers when it takes the question from its mailbox, so a part that
//! hangs over a message grows silent, and its gauge grows. At most one question to a part is under way: the mailbox of a
//! part that hangs does not grow. A question that is dropped with the mailbox of a part that died counts as ended.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use prometheus_client::encoding::{EncodeLabelSet, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;

use crate::core::model::MonoTime;

/// A part that is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The threads that write the store.
    Store,
    /// The root of the actors.
    Supervisor,
    /// The reader of the store's feed.
    Dispatcher,
    /// The one writer to Spaces.
    Uploader,
    /// The sender of events.
    Notifier,
    /// What is left to do after links are gone.
    Cleanups,
    /// The keeper of the app-level webhook subscriptions.
    Subscriptions,
}

impl Part {
    /// All of them.
    pub const ALL: [Part; 7] = [
        Part::Store,
        Part::Supervisor,
        Part::Dispatcher,
        Part::Uploader,
        Part::Notifier,
        Part::Cleanups,
        Part::Subscriptions,
    ];

    fn word(self) -> &'static str {
        match self {
            Part::Store => "store",
            Part::Supervisor => "supervisor",
            Part::Dispatcher => "dispatcher",
            Part::Uploader => "uploader",
            Part::Notifier => "notifier",
            Part::Cleanups => "cleanups",
            Part::Subscriptions => "subscriptions",
        }
    }
}

/// `{part}`
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PartLabel {
    part: &'static str,
}

/// One part.
#[derive(Debug)]
struct Sign {
    /// The [`MonoTime`] of its last answer.
    answered: AtomicU64,
    /// A question is under way.
    asked: AtomicBool,
}

/// The parts; clones share them.
#[derive(Debug, Clone)]
pub struct Parts(Arc<[Sign; Part::ALL.len()]>);

impl Parts {
    /// All of them answered at this moment.
    pub(super) fn new(now: MonoTime) -> Parts {
        let sign = |_| Sign { answered: AtomicU64::new(now.0), asked: AtomicBool::new(false) };
        Parts(Arc::new(Part::ALL.map(sign)))
    }

    /// A question to a part; `None` while the one before is under way.
    pub fn ask(&self, part: Part) -> Option<Question> {
        let is_first = !self.0[part as usize].asked.swap(true, Ordering::AcqRel);
        is_first.then(|| Question { parts: self.clone(), part })
    }

    /// A part gave a sign of life.
    pub fn answered(&self, part: Part) {
        self.0[part as usize].answered.store(MonoTime::now().0, Ordering::Release);
    }

    fn silent_seconds(&self, part: Part, now: MonoTime) -> f64 {
        now.since(MonoTime(self.0[part as usize].answered.load(Ordering::Acquire))).as_secs_f64()
    }
}

impl EncodeMetric for Parts {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let now = MonoTime::now();
        for part in Part::ALL {
            let label = PartLabel { part: part.word() };
            encoder.encode_family(&label)?.encode_gauge(&self.silent_seconds(part, now))?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Gauge
    }
}

/// A question to a part. Dropping it lets the next one be asked.
#[derive(Debug)]
pub struct Question {
    parts: Parts,
    part: Part,
}

impl Question {
    /// The part is at work.
    pub fn answer(self) {
        self.parts.answered(self.part);
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        self.parts.0[self.part as usize].asked.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_part_that_does_not_answer_grows_silent_and_is_asked_no_second_time() {
        let long_ago = MonoTime(0);
        let parts = Parts::new(long_ago);
        let question = parts.ask(Part::Uploader).unwrap();
        assert!(parts.ask(Part::Uploader).is_none(), "the first question is under way");
        let later = long_ago.plus(Duration::from_secs(90));
        assert_eq!(parts.silent_seconds(Part::Uploader, later), 90.0);
        question.answer();
        assert_eq!(parts.silent_seconds(Part::Uploader, long_ago), 0.0);
        assert_eq!(parts.silent_seconds(Part::Notifier, later), 90.0, "another part has not answered");
        drop(parts.ask(Part::Uploader).expect("the answer ended the question"));
        assert!(parts.ask(Part::Uploader).is_some(), "a mailbox that is dropped ends the question");
    }
}
