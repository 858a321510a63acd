//! Decides whether a measurement differs from an earlier one, or whether the difference is noise.
//!
//! Two sets of times differ if their medians differ by more than the tolerance *and* by more than
//! the noise. The noise is 2 √(s₁² + s₂²), where s is the spread of a set, but at least [`FLOOR`].
//! The spread is 1.4826 times the median absolute deviation. For normally distributed times that is
//! the standard deviation, but a single outlier does not change it. With fewer than [`ENOUGH`]
//! times, the spread is half of their range. A single scrape has no spread: only the tolerance
//! decides, and the report says that the noise is unknown.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use serde::Serialize;

use super::measurement::{Family, Measurement, Runs};
use crate::cli::figures::Length;

/// The least noise in seconds. Smaller differences come from the scheduler.
const FLOOR: f64 = 0.000_5;

/// The least number of times for which the median absolute deviation is meaningful.
const ENOUGH: usize = 5;

/// Factor from the median absolute deviation to the standard deviation, for a normal distribution.
const TO_SIGMA: f64 = 1.482_6;

/// Median, extremes and spread of a set of times, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Summary {
    pub(super) runs: usize,
    #[serde(rename = "median_seconds")]
    pub(super) median: f64,
    #[serde(rename = "min_seconds")]
    pub(super) min: f64,
    #[serde(rename = "max_seconds")]
    pub(super) max: f64,
    /// See the documentation of the module. Zero for a single time.
    #[serde(rename = "spread_seconds")]
    pub(super) spread: f64,
}

impl Summary {
    /// Summarizes `times`. Everything is zero if `times` is empty.
    pub(super) fn of(times: &[f64]) -> Self {
        let middle = median(times);
        let deviations: Vec<f64> = times.iter().map(|time| (time - middle).abs()).collect();
        let min = times.iter().copied().reduce(f64::min).unwrap_or_default();
        let max = times.iter().copied().reduce(f64::max).unwrap_or_default();
        let spread =
            if times.len() < ENOUGH { (max - min) / 2.0 } else { TO_SIGMA * median(&deviations) };
        Self { runs: times.len(), median: middle, min, max, spread }
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => 0.0,
        length if length % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

/// The result of comparing two sets of times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    Slower,
    Faster,
    /// More than the noise, but not more than the tolerance.
    WithinTolerance,
    WithinNoise,
}

/// The comparison of two sets of times.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Change {
    pub(super) verdict: Verdict,
    /// Change of the median in percent. Positive is slower.
    pub(super) percent: f64,
    pub(super) before: Summary,
    pub(super) after: Summary,
    /// `None` if one of the sets has only one time.
    pub(super) noise_seconds: Option<f64>,
}

impl Change {
    fn between(before: &[f64], after: &[f64], tolerance: f64) -> Self {
        let (before, after) = (Summary::of(before), Summary::of(after));
        let difference = after.median - before.median;
        let noise = (before.runs.min(after.runs) > 1)
            .then(|| (2.0 * before.spread.hypot(after.spread)).max(FLOOR));
        let verdict = if difference.abs() <= noise.unwrap_or(FLOOR) {
            Verdict::WithinNoise
        } else if difference.abs() <= before.median * tolerance / 100.0 {
            Verdict::WithinTolerance
        } else if difference > 0.0 {
            Verdict::Slower
        } else {
            Verdict::Faster
        };
        let percent = percent(before.median, after.median);
        Self { verdict, percent, before, after, noise_seconds: noise }
    }
}

impl fmt::Display for Change {
    /// `slower by 14 % (median 12.1 ms → 13.8 ms)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = self.percent.abs();
        match self.verdict {
            Verdict::Slower => write!(f, "slower by {percent:.0} %")?,
            Verdict::Faster => write!(f, "faster by {percent:.0} %")?,
            Verdict::WithinTolerance => write!(f, "within the tolerance, {:+.1} %", self.percent)?,
            Verdict::WithinNoise => f.write_str("within the noise")?,
        }
        let (before, after) = (seconds(self.before.median), seconds(self.after.median));
        write!(f, " (median {before} → {after}")?;
        match self.noise_seconds {
            Some(noise) => write!(f, ", noise ± {})", seconds(noise)),
            None => write!(f, ", noise unknown: use --repeat {ENOUGH})"),
        }
    }
}

/// A duration in seconds, formatted for people.
pub(super) fn seconds(seconds: f64) -> Length {
    Length(Duration::try_from_secs_f64(seconds).unwrap_or_default())
}

fn percent(before: f64, after: f64) -> f64 {
    if before > 0.0 { (after - before) / before * 100.0 } else { 0.0 }
}

/// First byte and total of one kind of scrape.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Times {
    pub(super) first_byte: Change,
    pub(super) total: Change,
}

impl Times {
    fn between(before: &Runs, after: &Runs, tolerance: f64) -> Self {
        let change = |before: &[f64], after: &[f64]| Change::between(before, after, tolerance);
        Self {
            first_byte: change(&before.first_byte_seconds, &after.first_byte_seconds),
            total: change(&before.total_seconds, &after.total_seconds),
        }
    }
}

/// A number before and after.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Growth {
    pub(super) before: u64,
    pub(super) after: u64,
    pub(super) percent: f64,
}

impl Growth {
    fn between(before: u64, after: u64) -> Self {
        Self { before, after, percent: percent(before as f64, after as f64) }
    }

    /// `grew by 3.5 % (200 → 207)`, with both numbers formatted by `show`.
    pub(super) fn described<T: fmt::Display>(&self, show: impl Fn(u64) -> T) -> String {
        let Self { before, after, percent } = *self;
        let what = match after.cmp(&before) {
            std::cmp::Ordering::Equal => return format!("unchanged ({})", show(after)),
            std::cmp::Ordering::Greater => "grew",
            std::cmp::Ordering::Less => "shrank",
        };
        if before == 0 {
            return format!("{what} ({} → {})", show(before), show(after));
        }
        format!("{what} by {:.1} % ({} → {})", percent.abs(), show(before), show(after))
    }
}

/// A family whose number of series changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Moved {
    pub(super) name: String,
    pub(super) before: u64,
    pub(super) after: u64,
}

/// The comparison of a measurement with an earlier one, the baseline.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Comparison {
    /// When the baseline was taken, and by which version of scrapegate.
    pub(super) baseline_taken: String,
    pub(super) baseline_scrapegate: String,
    pub(super) tolerance_percent: f64,
    pub(super) direct: Times,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) through_proxy: Option<Times>,
    /// What the proxy adds to the total, in seconds: median before and after.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) overhead: Option<(f64, f64)>,
    pub(super) bytes: Option<Growth>,
    pub(super) series: Growth,
    pub(super) families: Growth,
    pub(super) new_families: Vec<String>,
    pub(super) gone_families: Vec<String>,
    /// Families whose number of series changed, the largest change first.
    pub(super) moved_families: Vec<Moved>,
    /// Reasons why the comparison may mislead.
    pub(super) remarks: Vec<&'static str>,
}

impl Comparison {
    /// Compares `after` with `before`. `tolerance` is in percent.
    pub(super) fn between(before: &Measurement, after: &Measurement, tolerance: f64) -> Self {
        let overhead = |measurement: &Measurement| {
            measurement.overheads().map(|overheads| Summary::of(&overheads).median)
        };
        let (old, new) = (by_name(before), by_name(after));
        let names = |these: &BTreeMap<&str, u64>, those: &BTreeMap<&str, u64>| {
            let these: BTreeSet<&str> = these.keys().copied().collect();
            let only = these.into_iter().filter(|name| !those.contains_key(name));
            only.map(str::to_owned).collect::<Vec<_>>()
        };
        let mut moved: Vec<Moved> = new
            .iter()
            .filter_map(|(&name, &after)| {
                let &before = old.get(name)?;
                (before != after).then(|| Moved { name: name.to_owned(), before, after })
            })
            .collect();
        moved.sort_by_key(|moved| std::cmp::Reverse(moved.after.abs_diff(moved.before)));
        Self {
            baseline_taken: before.taken.clone(),
            baseline_scrapegate: before.scrapegate.clone(),
            tolerance_percent: tolerance,
            direct: Times::between(&before.direct, &after.direct, tolerance),
            through_proxy: before
                .through_proxy
                .as_ref()
                .zip(after.through_proxy.as_ref())
                .map(|(before, after)| Times::between(before, after, tolerance)),
            overhead: overhead(before).zip(overhead(after)),
            bytes: before
                .answer
                .bytes
                .zip(after.answer.bytes)
                .map(|(before, after)| Growth::between(before, after)),
            series: Growth::between(before.answer.samples, after.answer.samples),
            families: Growth::between(before.answer.family_count, after.answer.family_count),
            new_families: names(&new, &old),
            gone_families: names(&old, &new),
            moved_families: moved,
            remarks: remarks(before, after),
        }
    }

    /// The totals that are slower, each with its name.
    pub(super) fn slower(&self) -> impl Iterator<Item = (&'static str, &Change)> {
        let direct = ("total", &self.direct.total);
        let proxied = self.through_proxy.as_ref().map(|times| ("through the proxy", &times.total));
        let all = [Some(direct), proxied].into_iter().flatten();
        all.filter(|(_, change)| change.verdict == Verdict::Slower)
    }
}

fn by_name(measurement: &Measurement) -> BTreeMap<&str, u64> {
    let families = measurement.answer.families.iter();
    families.map(|Family { name, series, .. }| (name.as_str(), *series)).collect()
}

fn remarks(before: &Measurement, after: &Measurement) -> Vec<&'static str> {
    let is_gzip = |measurement: &Measurement| measurement.answer.content_encoding.is_some();
    let is_bounded = |measurement: &Measurement| {
        measurement.answer.beyond_series.is_some() || measurement.answer.looked_at.is_some()
    };
    let all = [
        (before.exporter != after.exporter, "the baseline measured another exporter"),
        (before.target != after.target, "the exporter had another address in the baseline"),
        (is_gzip(before) != is_gzip(after), "only one of the two answers is compressed"),
        (
            before.through_proxy.is_some() != after.through_proxy.is_some(),
            "only one of the two was also measured through the proxy",
        ),
        (
            is_bounded(before) || is_bounded(after),
            "an answer was not analyzed completely, so the lists of new and removed families may be \
             wrong",
        ),
    ];
    all.into_iter().filter_map(|(holds, remark)| holds.then_some(remark)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(before: &[f64], after: &[f64]) -> Verdict {
        Change::between(before, after, 10.0).verdict
    }

    #[test]
    fn a_difference_counts_if_it_exceeds_tolerance_and_noise() {
        let calm = [0.0120, 0.0121, 0.0122, 0.0121, 0.0121];
        let wild = [0.0080, 0.0150, 0.0121, 0.0190, 0.0060];
        for (before, after, expected) in [
            (calm, calm.map(|time| time * 1.14), Verdict::Slower),
            (calm, calm.map(|time| time * 0.8), Verdict::Faster),
            (calm, calm.map(|time| time * 1.08), Verdict::WithinTolerance),
            (calm, calm.map(|time| time * 1.01), Verdict::WithinNoise),
            (wild, wild.map(|time| time * 1.14), Verdict::WithinNoise),
            (wild, wild.map(|time| time + 0.02), Verdict::Slower),
            // Differences up to half a millisecond do not count.
            (calm.map(|time| time / 100.0), calm.map(|time| time / 25.0), Verdict::WithinNoise),
        ] {
            assert_eq!(verdict(&before, &after), expected, "{before:?} {after:?}");
        }
    }

    #[test]
    fn one_outlier_makes_nothing_slower() {
        let before = [0.010, 0.011, 0.010, 0.011, 0.010];
        assert_eq!(verdict(&before, &[0.010, 0.011, 0.900, 0.011, 0.010]), Verdict::WithinNoise);
    }

    #[test]
    fn without_a_spread_the_tolerance_decides_and_the_report_says_so() {
        let change = Change::between(&[0.0121], &[0.0138], 10.0);
        assert_eq!(
            change.to_string(),
            "slower by 14 % (median 12.1 ms → 13.8 ms, noise unknown: use --repeat 5)"
        );
        assert_eq!(verdict(&[0.0121], &[0.0131]), Verdict::WithinTolerance);
    }

    #[test]
    fn the_median_and_the_spread_match_the_textbook() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(&[]), 0.0);
        let summary = Summary::of(&[1.0, 1.0, 2.0, 2.0, 4.0, 6.0, 9.0]);
        assert_eq!((summary.median, summary.min, summary.max), (2.0, 1.0, 9.0));
        assert!((summary.spread - 1.4826).abs() < 1e-9, "{summary:?}");
        assert_eq!(Summary::of(&[1.0, 2.0, 4.0]).spread, 1.5);
        assert_eq!(Summary::of(&[1.0]).spread, 0.0);
    }

    #[test]
    fn growth_is_in_percent_unless_the_old_number_is_zero() {
        let described = |before, after| Growth::between(before, after).described(|number| number);
        assert_eq!(described(200, 207), "grew by 3.5 % (200 → 207)");
        assert_eq!(described(200, 100), "shrank by 50.0 % (200 → 100)");
        assert_eq!(described(7, 7), "unchanged (7)");
        assert_eq!(described(0, 7), "grew (0 → 7)");
    }
}
