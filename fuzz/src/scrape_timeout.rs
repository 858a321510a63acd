//! Any value of `X-Prometheus-Scrape-Timeout-Seconds`: a scrape gets its `timeout` or the value
//! less the offset, whichever is smaller, but at least 0.1 s, or `timeout` if that is shorter. A
//! header that is not a finite positive number is ignored. The reference reads the number digit by
//! digit, and results are compared to the nanosecond.

use std::time::Duration;

use hyper::header::HeaderValue;
use scrapegate::common::deadline::{Budget, Deadline};
use tokio::time::Instant;

const NANOS: u128 = 1_000_000_000;

/// Asserts the property. `input` is 8 bytes of timeout and 8 bytes of offset, each in nanoseconds
/// and modulo one day, and then the header.
///
/// # Panics
///
/// If the property does not hold.
pub fn check(input: &[u8]) {
    let Some((timeout, rest)) = input.split_first_chunk() else {
        return;
    };
    let Some((offset, header)) = rest.split_first_chunk() else {
        return;
    };
    let within_a_day = |bytes: &[u8; 8]| {
        let day = u64::try_from(Budget::MAX.as_nanos()).expect("a day");
        Duration::from_nanos(u64::from_le_bytes(*bytes) % day)
    };
    let (timeout, offset) = (within_a_day(timeout), within_a_day(offset));
    let (Some(budget), Ok(value)) = (Budget::new(timeout), HeaderValue::from_bytes(header)) else {
        return;
    };
    let arrival = Instant::now();
    let deadline = Deadline::of_scrape(arrival, budget, Some(&value), offset);
    let granted = deadline.remaining(arrival);
    assert_eq!(deadline.instant(), arrival + granted, "the deadline is before the arrival");

    let shortest = Duration::from_millis(100).min(timeout);
    assert!((shortest..=timeout).contains(&granted), "{granted:?} of {timeout:?}");
    let expected = match nanoseconds(header) {
        Some(nanos) => {
            let nanos = nanos.saturating_sub(offset.as_nanos());
            nanos.clamp(shortest.as_nanos(), timeout.as_nanos())
        }
        None => timeout.as_nanos(),
    };
    let difference = granted.as_nanos().abs_diff(expected);
    // A double cannot represent a smaller difference.
    assert!(difference <= 1, "{granted:?}, expected {expected} ns");
}

/// A finite positive decimal number of seconds; saturates. `None` for anything else, and for a
/// number that is so close to 0 that a double rounds it to 0.
fn nanoseconds(text: &[u8]) -> Option<u128> {
    let text = std::str::from_utf8(text).ok()?.trim_matches([' ', '\t']);
    let text = text.strip_prefix('+').unwrap_or(text);
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, integer(exponent)?),
        None => (text, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits: Vec<u8> = whole.bytes().chain(fraction.bytes()).collect();
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let leading = digits.iter().position(|&digit| digit != b'0')?;
    // The value is 0.d₁d₂d₃… × 10^magnitude.
    let magnitude = whole.len() as i128 - leading as i128 + exponent;
    let digits = &digits[leading..];
    // Half of the smallest double, 2⁻¹⁰⁷⁵.
    let (smallest, least) = (-323, b"2470328229206232720");
    let is_below = digits < &least[..];
    if magnitude < smallest || magnitude == smallest && is_below {
        return None;
    }
    let mut nanos = 0_u128;
    for place in 0..(magnitude + 9).clamp(0, 40) {
        let digit = usize::try_from(place).ok().and_then(|place| digits.get(place));
        nanos = nanos
            .saturating_mul(10)
            .saturating_add(digit.map_or(0, |digit| u128::from(digit - b'0')));
    }
    Some(nanos.min(u128::MAX / NANOS))
}

/// An integer with a sign; saturates far beyond the relevant range.
fn integer(text: &str) -> Option<i128> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number = digits
        .bytes()
        .fold(0_i128, |number, digit| (number * 10 + i128::from(digit - b'0')).min(1_000_000_000));
    Some(sign * number)
}
