//! The figures of both sieges, and the bounds that they have to keep.

use std::{fmt, sync::atomic::Ordering, time::Duration};

use crate::{
    Course,
    besiegers::Force,
    fortress::{Allocator, REST},
};

/// The 99th percentile of a scrape's time.
const P99: Duration = Duration::from_millis(250);

/// Resident memory, in KiB.
const MOST_KIB: u64 = 256 * 1024;

/// Share of its rate below which a force was too slow for the siege to say anything.
const SHARE: f64 = 0.75;

/// All figures, each with its bound if it has one.
#[derive(Debug)]
pub(crate) struct Report {
    sieges: [Vec<Line>; 2],
}

#[derive(Debug)]
struct Line {
    what: String,
    figure: String,
    /// In words, and whether it is kept.
    bound: Option<(String, bool)>,
}

impl Report {
    pub(crate) fn new(sieges: &[Course; 2]) -> Self {
        Self { sieges: sieges.each_ref().map(lines) }
    }

    /// Whether all bounds are kept.
    pub(crate) fn is_kept(&self) -> bool {
        let bounds = self.sieges.iter().flatten().filter_map(|line| line.bound.as_ref());
        bounds.into_iter().all(|(_, is_kept)| *is_kept)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, second] = &self.sieges;
        writeln!(f, "| | as it is | exact allocator | bound | |\n|---|---|---|---|---|")?;
        for (first, second) in first.iter().zip(second) {
            let bounds: Vec<_> =
                [first, second].into_iter().filter_map(|it| it.bound.as_ref()).collect();
            let bound = bounds.first().map_or("", |(bound, _)| bound);
            let verdict = match bounds.iter().map(|(_, is_kept)| *is_kept).reduce(|a, b| a && b) {
                Some(true) => "kept",
                Some(false) => "**MISSED**",
                None => "",
            };
            let Line { what, figure, .. } = first;
            writeln!(f, "| {what} | {figure} | {} | {bound} | {verdict} |", second.figure)?;
        }
        Ok(())
    }
}

/// The same lines for each siege.
fn lines(siege: &Course) -> Vec<Line> {
    // Only the proxy as it is has to be fast. One that is slow loses scrapes too: when
    // `max-handshakes` others come while a handshake lasts, it is the oldest and gives way.
    let timed = |line: Line| match siege.allocator {
        Allocator::Usual => line,
        Allocator::Exact => Line { bound: None, ..line },
    };
    let mut lines = Vec::new();
    for force in &siege.forces {
        lines.push(timed(rate(force, siege.length)));
        lines.extend(deceived(force));
    }
    for scraper in &siege.scrapers {
        let (times, failures) = scraper.outcome();
        let (name, all) = (scraper.name, times.len() + failures.len());
        let some: Vec<_> = failures.iter().take(3).map(String::as_str).collect();
        let succeeded = format!("{} of {all} {}", times.len(), some.join("; "));
        let is_right = failures.is_empty() && all > 0;
        lines.push(timed(bound(format!("scrapes over {name}"), succeeded, "all", is_right)));
        lines.push(tell("their median", milliseconds(quantile(&times, 0.5))));
        let p99 = quantile(&times, 0.99);
        let most = format!("below {}", milliseconds(P99));
        lines.push(timed(bound("their 99th percentile", milliseconds(p99), most, p99 < P99)));
        lines.push(tell("the slowest", milliseconds(quantile(&times, 1.0))));
    }
    let lateness = milliseconds(quantile(&siege.glances.lateness, 0.99));
    lines.push(tell("lateness of the machine, 99th percentile", lateness));

    let (reloaded, refused) = siege.reloads;
    let figure = format!("{reloaded}, {refused}");
    let is_right = reloaded > 0 && refused > 0;
    lines.push(bound("reloads taken over, and refused", figure, "some of each", is_right));
    let cores = siege.cpu.as_secs_f64() / siege.length.as_secs_f64();
    lines.push(tell("processor time of the proxy", format!("{:.0} % of a core", cores * 100.0)));
    let per_second = siege.lines as f64 / siege.length.as_secs_f64();
    lines.push(tell("lines of log a second", format!("{per_second:.0}")));
    lines.extend(of_holdings(siege));
    lines
}

/// What the besiegers did: too little says nothing about the proxy.
fn rate(force: &Force, length: Duration) -> Line {
    let per_second = force.done.load(Ordering::Relaxed) as f64 / length.as_secs_f64();
    let least = force.rate * SHARE;
    bound(
        format!("{} a second", force.name),
        format!("{per_second:.1}"),
        format!("at least {least:.1}"),
        per_second >= least,
    )
}

fn deceived(force: &Force) -> Option<Line> {
    let deceived = force.deceived.as_ref()?.load(Ordering::Relaxed);
    Some(bound("of them whole", deceived.to_string(), "none", deceived == 0))
}

/// What the proxy held, and holds when all have left.
fn of_holdings(siege: &Course) -> Vec<Line> {
    let Course { before, glances, after, is_at_rest, rested, .. } = siege;
    let most = glances.rss_kib;
    let below = format!("below {}", mebibytes(MOST_KIB));
    let change = |before: u64, after: u64| format!("{before}, {after}");
    let memory = [before, after].map(|it| mebibytes(it.rss_kib)).join(", ");
    vec![
        bound("most resident memory", mebibytes(most), below, most < MOST_KIB),
        tell("before and after: descriptors", change(before.descriptors, after.descriptors)),
        tell("threads", change(before.threads, after.threads)),
        tell("resident memory", memory),
        bound(
            "as before",
            format!("after {:.1} s", rested.as_secs_f64()),
            format!("within {} s", REST.as_secs()),
            *is_at_rest,
        ),
    ]
}

fn tell(what: &str, figure: String) -> Line {
    Line { what: what.to_owned(), figure, bound: None }
}

fn bound(
    what: impl Into<String>,
    figure: impl Into<String>,
    bound: impl Into<String>,
    is_kept: bool,
) -> Line {
    Line { what: what.into(), figure: figure.into(), bound: Some((bound.into(), is_kept)) }
}

/// Of a sorted list; of none, forever.
fn quantile(sorted: &[Duration], at: f64) -> Duration {
    let place = (sorted.len() as f64 * at).ceil() as usize;
    sorted.get(place.saturating_sub(1)).copied().unwrap_or(Duration::MAX)
}

fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}

fn mebibytes(kib: u64) -> String {
    format!("{:.1} MiB", kib as f64 / 1024.0)
}
