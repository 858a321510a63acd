//! How far a scrape is, on a terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::cli::figures::Length;

/// How often the bar shows that it lives, also while nothing comes.
const TICK: Duration = Duration::from_millis(100);

/// With a known length there is a bar, else only figures.
const KNOWN: &str = "{wide_bar} {decimal_bytes} of {decimal_total_bytes}, \
     {decimal_bytes_per_sec}, {elapsed}, first byte {msg}";
const UNKNOWN: &str =
    "{spinner} {decimal_bytes}, {decimal_bytes_per_sec}, {elapsed}, first byte {msg}";
const WAITING: &str = "{spinner} waiting for the first byte, {elapsed}";

/// A line on standard error. Dropped, it is gone.
pub(super) struct Progress {
    bar: ProgressBar,
    has_begun: bool,
}

impl Progress {
    /// Waits for the first byte. Without being `shown` it does nothing.
    pub(super) fn new(shown: bool) -> Self {
        let target =
            if shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target).with_style(style(WAITING));
        if shown {
            bar.enable_steady_tick(TICK);
        }
        Self { bar, has_begun: false }
    }

    /// So many bytes more came, of a body of this `length`.
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
    fn the_templates_are_ones_that_can_be_read() {
        for template in [KNOWN, UNKNOWN, WAITING] {
            assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
        }
    }
}
