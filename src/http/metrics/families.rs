//! Writes metric families one after another.

use std::fmt;

use prometheus_client::{
    encoding::{
        DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, EncodeLabelSet, MetricEncoder,
        NoLabelSet,
    },
    metrics::MetricType,
    registry::Unit,
};

use crate::scrape::ledger::Distribution;

/// The labels of a metric without labels.
pub(super) const NO_LABELS: [(&str, &str); 0] = [];

/// The name, help and unit of a metric family. The encoder adds the unit and `_total` to the name.
#[derive(Debug)]
pub(super) struct Family {
    name: &'static str,
    help: &'static str,
    unit: Option<Unit>,
}

/// A family whose values have no unit.
pub(super) fn family(name: &'static str, help: &'static str) -> Family {
    Family { name, help, unit: None }
}

impl Family {
    /// The same family, with values in bytes.
    pub(super) fn in_bytes(self) -> Self {
        Self { unit: Some(Unit::Bytes), ..self }
    }

    /// The same family, with values in seconds.
    pub(super) fn in_seconds(self) -> Self {
        Self { unit: Some(Unit::Seconds), ..self }
    }
}

/// Writes the families. Omits a family without samples.
pub(super) struct Families<'a>(pub(super) DescriptorEncoder<'a>);

impl Families<'_> {
    pub(super) fn counters<L: EncodeLabelSet, V: EncodeCounterValue>(
        &mut self,
        family: &Family,
        samples: impl IntoIterator<Item = (L, V)>,
    ) -> fmt::Result {
        self.write(family, MetricType::Counter, samples, |mut sample, value| {
            sample.encode_counter::<NoLabelSet, V, f64>(&value, None)
        })
    }

    pub(super) fn gauges<L: EncodeLabelSet, V: EncodeGaugeValue>(
        &mut self,
        family: &Family,
        samples: impl IntoIterator<Item = (L, V)>,
    ) -> fmt::Result {
        self.write(family, MetricType::Gauge, samples, |mut sample, value| {
            sample.encode_gauge(&value)
        })
    }

    pub(super) fn histograms<'a, L: EncodeLabelSet>(
        &mut self,
        family: &Family,
        samples: impl IntoIterator<Item = (L, &'a Distribution)>,
    ) -> fmt::Result {
        self.write(family, MetricType::Histogram, samples, |mut sample, value| {
            let Distribution { buckets, count, sum } = value;
            sample.encode_histogram::<NoLabelSet>(*sum, *count, buckets, None)
        })
    }

    /// Writes a family with one sample, whose value is 1.
    pub(super) fn info(&mut self, family: &Family, labels: &impl EncodeLabelSet) -> fmt::Result {
        let Family { name, help, unit } = family;
        self.0.encode_descriptor(name, help, unit.as_ref(), MetricType::Info)?.encode_info(labels)
    }

    fn write<L: EncodeLabelSet, V>(
        &mut self,
        Family { name, help, unit }: &Family,
        kind: MetricType,
        samples: impl IntoIterator<Item = (L, V)>,
        encode: impl Fn(MetricEncoder<'_>, V) -> fmt::Result,
    ) -> fmt::Result {
        let mut samples = samples.into_iter().peekable();
        if samples.peek().is_none() {
            return Ok(());
        }
        let mut family = self.0.encode_descriptor(name, help, unit.as_ref(), kind)?;
        samples.try_for_each(|(labels, value)| encode(family.encode_family(&labels)?, value))
    }
}
