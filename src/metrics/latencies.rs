//! A histogram of latencies without a lock. The library's own takes one for each observation.
//!
//! An observation is two additions. A reader may see one of two observations that end at the same time in the buckets and
//! not yet in the sum. The count is that of the buckets as the reader saw them, so that the two always agree.

use std::fmt;
use std::iter::once;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

/// The histogram; clones share it.
#[derive(Debug, Clone)]
pub(super) struct Latencies(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    bounds: &'static [Duration],
    /// One for each bound, and one for all that is above.
    buckets: Box<[AtomicU64]>,
    nanos: AtomicU64,
}

impl Latencies {
    /// Empty, with buckets up to and including these bounds, which ascend.
    pub(super) fn new(bounds: &'static [Duration]) -> Latencies {
        let buckets = (0..=bounds.len()).map(|_| AtomicU64::default()).collect();
        Latencies(Arc::new(Inner { bounds, buckets, nanos: AtomicU64::default() }))
    }

    /// Counts one more.
    pub(super) fn observe(&self, took: Duration) {
        let Inner { bounds, buckets, nanos } = &*self.0;
        // Nearly all are below the first bounds.
        let at = bounds.iter().position(|bound| took <= *bound).unwrap_or(bounds.len());
        buckets[at].fetch_add(1, Ordering::Relaxed);
        nanos.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

impl EncodeMetric for Latencies {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let Inner { bounds, buckets, nanos } = &*self.0;
        let bounds = bounds.iter().map(Duration::as_secs_f64).chain(once(f64::INFINITY));
        let buckets: Vec<(f64, u64)> =
            bounds.zip(buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed))).collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        let sum = Duration::from_nanos(nanos.load(Ordering::Relaxed)).as_secs_f64();
        encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;
    use prometheus_client::metrics::histogram::Histogram;
    use prometheus_client::registry::Registry;

    use super::*;

    const BOUNDS: [Duration; 3] = [Duration::from_micros(500), Duration::from_millis(1), Duration::from_secs(5)];

    #[test]
    fn it_reads_as_the_librarys_own() {
        let (ours, theirs) = (Latencies::new(&BOUNDS), Histogram::new(BOUNDS.map(|bound| bound.as_secs_f64())));
        for micros in [0, 250, 500, 501, 1000, 1500, 5_000_000, 9_000_000] {
            let took = Duration::from_micros(micros);
            ours.observe(took);
            theirs.observe(took.as_secs_f64());
        }
        let text = |register: &dyn Fn(&mut Registry)| {
            let (mut registry, mut text) = (Registry::default(), String::new());
            register(&mut registry);
            encode(&mut text, &registry).unwrap();
            text
        };
        let ours = text(&|registry| registry.register("a", "b", ours.clone()));
        let theirs = text(&|registry| registry.register("a", "b", theirs.clone()));
        let without_sum = |text: &str| text.lines().filter(|line| !line.starts_with("a_sum")).collect::<String>();
        assert_eq!(without_sum(&ours), without_sum(&theirs));
        assert!(ours.contains("a_sum 14.003751\n"), "{ours}");
    }
}
