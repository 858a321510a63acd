//! A small chart of an exporter's last scrapes. Each scrape is a bar whose height is its duration.

use std::time::Duration;

use maud::{Markup, html};

use super::format::{duration, plural};
use crate::scrape::ledger::{RECENT, ScrapeRecord};

// Sizes in units of the chart: its height, the width of a bar, and the width of a bar with its gap.
const HEIGHT: f64 = 40.0;
const BAR: f64 = 4.0;
const STEP: f64 = 5.0;

/// Minimum height of a bar, so that each scrape is visible.
const LOWEST: f64 = 1.5;

/// The chart. Empty if there was no scrape.
pub(super) fn chart(recent: &[ScrapeRecord]) -> Markup {
    let Some(longest) = recent.iter().map(|entry| entry.took).max() else {
        return html! {};
    };
    let failed = recent.iter().filter(|entry| !entry.success).count();
    let words = format!(
        "{}, {failed} failed, the longest took {}",
        plural(recent.len(), "scrape"),
        duration(longest)
    );
    // The newest is at the right edge.
    let first = RECENT - recent.len().min(RECENT);
    html! {
        svg role="img" aria-label=(words) viewBox=(format!("0 0 {} {HEIGHT}", STEP * RECENT as f64))
            preserveAspectRatio="none" {
            @for (place, entry) in (first..).zip(recent) {
                (bar(place, entry, longest))
            }
            line class="base" x1="0" x2="100%" y1=(HEIGHT) y2=(HEIGHT) {}
        }
        p class="legend" { (words) }
    }
}

/// A bar. A failed scrape is one piece. A successful scrape has two: the exporter below, the
/// network above.
fn bar(place: usize, entry: &ScrapeRecord, longest: Duration) -> Markup {
    let share = |part: Duration| part.as_secs_f64() / longest.as_secs_f64().max(f64::MIN_POSITIVE);
    let height = (share(entry.took) * HEIGHT).max(LOWEST);
    let x = place as f64 * STEP;
    let piece = |class: &str, below: f64, height: f64| {
        let number = |value: f64| format!("{value:.2}");
        html! {
            rect class=(class) x=(x) y=(number(HEIGHT - below - height)) width=(BAR)
                height=(number(height)) {}
        }
    };
    if !entry.success {
        return piece("failed", 0.0, height);
    }
    let network = (share(entry.phases.network()) * HEIGHT).min(height);
    html! {
        (piece("exporter", 0.0, height - network))
        (piece("network", height - network, network))
    }
}
