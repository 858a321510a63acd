//! The resources of the proxy, sampled each second, and their growth.

use std::time::Duration;

use scrapegate_harness::trial::span::Span;

use crate::site::{Holdings, Site};

const PERIOD: Duration = Duration::from_secs(1);

/// The share of the time that is ignored, until caches, arenas and connections have settled.
const WARM_UP: f64 = 1.0 / 6.0;

/// One sample a second, including the warm-up.
pub(crate) struct Samples(Vec<Holdings>);

impl Samples {
    pub(crate) fn until_over(site: &Site, span: &Span) -> Self {
        Self(span.beat(PERIOD).map(|_| site.holdings()).collect())
    }

    /// The medians of the first and of the last third after the warm-up. A median ignores short
    /// peaks of large scrapes.
    pub(crate) fn ends(&self, of: impl Fn(&Holdings) -> u64) -> [u64; 2] {
        let (first, last) = self.thirds();
        [first, last].map(|third| median(third.iter().map(&of).collect()))
    }

    /// The distance between the middles of the two thirds, as a share of the whole time.
    pub(crate) fn distance(&self) -> f64 {
        (1.0 - WARM_UP) * 2.0 / 3.0
    }

    /// The largest sample, including the warm-up.
    pub(crate) fn most(&self, of: impl Fn(&Holdings) -> u64) -> u64 {
        self.0.iter().map(of).max().unwrap_or_default()
    }

    /// The growth per second, by linear regression of all samples after the warm-up.
    pub(crate) fn slope(&self, of: impl Fn(&Holdings) -> u64) -> f64 {
        let values: Vec<f64> = self.warm().iter().map(|it| of(it) as f64).collect();
        let (count, middle) = (values.len() as f64, (values.len() as f64 - 1.0) / 2.0);
        let mean = values.iter().sum::<f64>() / count;
        let moments = values.iter().enumerate().map(|(at, value)| {
            let at = at as f64 - middle;
            (at * (value - mean), at * at)
        });
        let (covariance, variance) = moments
            .fold((0.0, 0.0), |(sum, squares), (moment, square)| (sum + moment, squares + square));
        covariance / variance / PERIOD.as_secs_f64()
    }

    fn warm(&self) -> &[Holdings] {
        let warm_up = (self.0.len() as f64 * WARM_UP) as usize;
        &self.0[warm_up..]
    }

    fn thirds(&self) -> (&[Holdings], &[Holdings]) {
        let warm = self.warm();
        let third = warm.len() / 3;
        (&warm[..third], &warm[warm.len() - third..])
    }
}

fn median(mut values: Vec<u64>) -> u64 {
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or_default()
}
