//! A gauge with a series for each source. That of Facebook has no label and is always there: it is the series that there
//! was before there was another source. The library's own family would write it as `name{}`.

use std::fmt;

use prometheus_client::encoding::{EncodeLabelSet, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use crate::core::model::Source;

/// `{source}`
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SourceLabel {
    source: &'static str,
}

/// The gauge; clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct SourcedGauge {
    facebook: Gauge,
    others: Family<SourceLabel, Gauge>,
}

impl SourcedGauge {
    /// Sets it for exactly these sources: Facebook is at zero where it is missing, and another one has no series.
    pub(super) fn set(&self, counts: impl IntoIterator<Item = (Source, u64)>) {
        let mut facebook = 0;
        self.others.clear();
        for (source, count) in counts {
            match source {
                Source::Facebook => facebook = count,
                other => {
                    self.others.get_or_create(&SourceLabel { source: other.as_str() }).set(count as i64);
                }
            }
        }
        self.facebook.set(facebook as i64);
    }
}

impl EncodeMetric for SourcedGauge {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        encoder.encode_gauge(&self.facebook.get())?;
        self.others.encode(encoder)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Gauge
    }
}
