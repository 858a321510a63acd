//! A progress bar for a terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::cli::figures::Length;

/// How often the bar is redrawn, even if no data arrives.
const TICK: Duration = Duration::from_millis(100);

/// With a known length, a bar and figures. Otherwise only figures.
const KNOWN: &str = "{wide_bar} {decimal_bytes} of {decimal_total_bytes}, \
     {decimal_bytes_per_sec}, {elapsed}, first byte {msg}";
const UNKNOWN: &str =
    "{spinner} {decimal_bytes}, {decimal_bytes_per_sec}, {elapsed}, first byte {msg}";
const WAITING: &str = "{spinner} waiting for the first byte, {elapsed}";

/// A line on standard error. Dropping it clears the line.
pub(super) struct Progress {
    bar: ProgressBar,
    has_begun: bool,
}

impl Progress {
    /// Starts with "waiting for the first byte". If not `shown`, does nothing.
    pub(super) fn new(shown: bool) -> Self {
        let target =
            if shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target).with_style(style(WAITING));
        if shown {
            bar.enable_steady_tick(TICK);
        }
        Self { bar, has_begun: false }
    }

    /// Adds `bytes` to the progress. `length` is the length of the body, if known.
    pub(super) fn advance(&mut self, bytes: usize, length: Option<u64>, first_byte: Duration) {
        if !self.has_begun {
            self.has_begun = true;
            self.bar.set_message(Length(first_byte).to_string());
            self.bar.set_style(style(if length.is_some() { KNOWN } else { UNKNOWN }));
            if let Some(length) = length {
                self.bar.set_length(length);
            }
        }
        self.bar.inc(bytes as u64);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_templates_are_valid() {
        for template in [KNOWN, UNKNOWN, WAITING] {
            assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
        }
    }
}
