//! The signs of life of the parts of which a daemon has one each: how long each of them has not answered.
//!
//! The supervisor asks them at a steady pace. A part answers when it takes the question from its mailbox, so a part
//! that hangs over a message grows silent, and its gauge grows. At most one question to a part is under way: the
//! mailbox of a part that hangs does not grow. A question that is dropped with the mailbox of a part that died counts
//! as ended.
//!
//! A part that was asked and has not answered yet is *waiting*. That decides whether it hangs: a part that nobody asks,
//! because the supervisor hangs or the process was paused, grows silent without a fault of its own.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;

use crate::core::model::MonoTime;
pub use crate::core::part::Part;

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
    /// The [`MonoTime`] of the question that is under way; 0 for none.
    asked: AtomicU64,
}

/// The parts; clones share them.
#[derive(Debug, Clone)]
pub struct Parts(Arc<[Sign; Part::ALL.len()]>);

impl Parts {
    /// All of them answered at this moment.
    pub(super) fn new(now: MonoTime) -> Parts {
        let sign = |_| Sign { answered: AtomicU64::new(now.0), asked: AtomicU64::new(0) };
        Parts(Arc::new(Part::ALL.map(sign)))
    }

    /// A question to a part; `None` while the one before is under way.
    pub fn ask(&self, part: Part) -> Option<Question> {
        let now = MonoTime::now().0.max(1);
        let asked = self.0[part as usize].asked.compare_exchange(0, now, Ordering::AcqRel, Ordering::Acquire);
        asked.is_ok().then(|| Question { parts: self.clone(), part })
    }

    /// The parts that were asked and have not answered yet, and for how long.
    pub fn waiting(&self) -> Vec<(Part, Duration)> {
        let now = MonoTime::now();
        let time = |part: Part| match self.0[part as usize].asked.load(Ordering::Acquire) {
            0 => None,
            asked => Some((part, now.since(MonoTime(asked)))),
        };
        Part::ALL.into_iter().filter_map(time).collect()
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
        self.parts.0[self.part as usize].answered.store(MonoTime::now().0, Ordering::Release);
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        self.parts.0[self.part as usize].asked.store(0, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_that_does_not_answer_grows_silent_and_is_asked_no_second_time() {
        let long_ago = MonoTime(0);
        let parts = Parts::new(long_ago);
        let question = parts.ask(Part::Uploader).unwrap();
        assert!(parts.ask(Part::Uploader).is_none(), "the first question is under way");
        let waiting: Vec<Part> = parts.waiting().into_iter().map(|(part, _)| part).collect();
        assert_eq!(waiting, [Part::Uploader]);
        let later = long_ago.plus(Duration::from_secs(90));
        assert_eq!(parts.silent_seconds(Part::Uploader, later), 90.0);
        question.answer();
        assert_eq!(parts.waiting(), [], "an answer ends the waiting");
        assert_eq!(parts.silent_seconds(Part::Uploader, long_ago), 0.0);
        assert_eq!(parts.silent_seconds(Part::Notifier, later), 90.0, "another part has not answered");
        drop(parts.ask(Part::Uploader).expect("the answer ended the question"));
        assert!(parts.ask(Part::Uploader).is_some(), "a mailbox that is dropped ends the question");
    }
}
