//! Formats numbers and times for people.

use std::time::{Duration, SystemTime};

use time::{OffsetDateTime, macros::format_description};

/// A duration in its largest unit, for example `1.5 s`, `340 ms`, `3.2 days`.
pub(super) fn duration(duration: Duration) -> String {
    if duration.is_zero() {
        return "0 s".to_owned();
    }
    let seconds = duration.as_secs_f64();
    let units = [(86_400.0, "days"), (3600.0, "h"), (60.0, "min"), (1.0, "s"), (0.001, "ms")];
    let (size, unit) =
        units.into_iter().find(|(size, _)| seconds >= *size).unwrap_or((0.000_001, "µs"));
    let value = seconds / size;
    if value < 10.0 { format!("{value:.1} {unit}") } else { format!("{value:.0} {unit}") }
}

/// How long ago `then` was. A time in the future is `just now`, as after the clock was set back.
pub(super) fn age(then: SystemTime, now: SystemTime) -> String {
    match now.duration_since(then) {
        Ok(age) if age >= Duration::from_secs(1) => format!("{} ago", duration(age)),
        Ok(_) | Err(_) => "just now".to_owned(),
    }
}

/// Bytes with a decimal unit, as for disks and networks.
pub(super) fn bytes(count: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB")];
    match UNITS.into_iter().find(|(size, _)| count >= *size) {
        // `f64` is precise enough for one decimal place.
        Some((size, unit)) => format!("{:.1} {unit}", count as f64 / size as f64),
        None => format!("{count} bytes"),
    }
}

/// Date and time to the minute, in UTC.
pub(super) fn date(time: SystemTime) -> String {
    let format = format_description!("[year]-[month]-[day] [hour]:[minute] UTC");
    OffsetDateTime::from(time).format(format).unwrap_or_else(|_| "an unknown date".to_owned())
}

/// A count with a noun in singular or plural.
pub(super) fn plural(count: usize, thing: &str) -> String {
    format!("{count} {thing}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn numbers_have_their_largest_unit() {
        for (micros, words) in [
            (0, "0 s"),
            (340_000, "340 ms"),
            (1_540_000, "1.5 s"),
            (59_000_000, "59 s"),
            (90_000_000, "1.5 min"),
            (7_200_000_000, "2.0 h"),
            (86_400_000_000 * 30, "30 days"),
        ] {
            assert_eq!(duration(Duration::from_micros(micros)), words);
        }
        let sizes = [(0, "0 bytes"), (999, "999 bytes"), (1_500, "1.5 kB"), (8_700_000, "8.7 MB")];
        for (count, words) in sizes {
            assert_eq!(bytes(count), words);
        }
    }

    #[test]
    fn a_time_in_the_future_is_just_now() {
        let now = UNIX_EPOCH + Duration::from_secs(100);
        assert_eq!(age(now - Duration::from_secs(12), now), "12 s ago");
        assert_eq!(age(now + Duration::from_secs(12), now), "just now");
        assert_eq!(date(now), "1970-01-01 00:01 UTC");
    }
}
