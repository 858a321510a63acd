//! Statistics of measured values, and their text form.

use std::time::Duration;

/// Milliseconds, with fractions.
pub fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// The median of values in any order.
pub fn median(values: &[f64]) -> Option<f64> {
    quantile(values, 0.5)
}

/// The quantile of values in any order, such as 0.99. Values between two elements are
/// interpolated. No values have no quantile.
pub fn quantile(values: &[f64], at: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let position = sorted.len().checked_sub(1)? as f64 * at;
    let (below, above) = (position.floor() as usize, position.ceil() as usize);
    Some(sorted[below] + (sorted[above] - sorted[below]) * (position - position.floor()))
}

/// Three significant digits.
pub fn significant(value: f64) -> String {
    let digits = 2 - value.abs().max(0.01).log10().floor() as i32;
    format!("{value:.*}", usize::try_from(digits).unwrap_or(0))
}
