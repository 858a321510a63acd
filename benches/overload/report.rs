//! The figures of both runs, and their bounds.

use std::{sync::atomic::Ordering, time::Duration};

use scrapegate_harness::trial::table::{Line, Table, mebibytes, milliseconds, quantile};

use crate::{
    Order, Wave,
    attackers::Attack,
    target::{Allocator, REST, Record},
};

/// Bound for the 99th percentile of a scrape's duration.
const P99: Duration = Duration::from_millis(250);

/// Bound for resident memory, in KiB.
const MOST_KIB: u64 = 256 * 1024;

/// The share of its planned rate that an attack must reach. Below it, the test proves nothing.
const SHARE: f64 = 0.75;

/// All waves side by side.
pub(crate) fn table(waves: &[Wave]) -> Table {
    let name = |wave: &Wave| match (wave.allocator, wave.order) {
        (Allocator::Usual, Order::First) => "usual allocator",
        (Allocator::Exact, Order::First) => "exact allocator",
        (_, Order::Second) => "second wave",
    };
    Table::new(waves.iter().map(|wave| (name(wave), lines(wave))))
}

/// The lines of one wave. All waves have the same lines.
fn lines(wave: &Wave) -> Vec<Line> {
    // Only the proxy with the usual allocator has to be fast.
    let timed = |line: Line| match wave.allocator {
        Allocator::Usual => line,
        Allocator::Exact => Line::tell(line.what, line.figure),
    };
    let mut lines = Vec::new();
    for attack in &wave.attacks {
        lines.push(timed(rate(attack, wave.length)));
        lines.extend(deceived(attack));
    }
    for scraper in &wave.scrapers {
        let (times, failures) = scraper.outcome();
        let (name, all) = (scraper.name, times.len() + failures.len());
        let some: Vec<_> = failures.iter().take(3).map(String::as_str).collect();
        let succeeded = format!("{} of {all} {}", times.len(), some.join("; "));
        let is_right = failures.is_empty() && all > 0;
        lines.push(timed(Line::bound(format!("scrapes over {name}"), succeeded, "all", is_right)));
        lines.push(Line::tell("their median", milliseconds(quantile(&times, 0.5))));
        let p99 = quantile(&times, 0.99);
        let most = format!("below {}", milliseconds(P99));
        lines.push(timed(Line::bound("their 99th percentile", milliseconds(p99), most, p99 < P99)));
        lines.push(Line::tell("the slowest", milliseconds(quantile(&times, 1.0))));
    }
    let lateness = milliseconds(quantile(&wave.glances.lateness, 0.99));
    lines.push(Line::tell("lateness of the machine, 99th percentile", lateness));

    let Record { reloaded, refused, cpu, lines: logged } = wave.record;
    let figure = format!("{reloaded}, {refused}");
    let is_right = reloaded > 0 && refused > 0;
    lines.push(Line::bound("reloads applied, and failed", figure, "some of each", is_right));
    let cores = cpu.as_secs_f64() / wave.length.as_secs_f64();
    lines.push(Line::tell(
        "processor time of the proxy",
        format!("{:.0} % of a core", cores * 100.0),
    ));
    let per_second = logged as f64 / wave.length.as_secs_f64();
    lines.push(Line::tell("lines of log a second", format!("{per_second:.0}")));
    lines.extend(of_holdings(wave));
    lines
}

/// The rate of the attackers. If they were too slow, the test proves nothing about the proxy.
fn rate(attack: &Attack, length: Duration) -> Line {
    let time = length.saturating_sub(attack.first);
    let per_second = attack.done.load(Ordering::Relaxed) as f64 / time.as_secs_f64();
    let least = attack.rate * SHARE;
    Line::bound(
        format!("{} a second", attack.name),
        format!("{per_second:.1}"),
        format!("at least {least:.1}"),
        per_second >= least,
    )
}

fn deceived(attack: &Attack) -> Option<Line> {
    let deceived = attack.deceived.as_ref()?.load(Ordering::Relaxed);
    Some(Line::bound("deceptively complete answers", deceived.to_string(), "none", deceived == 0))
}

/// The resources of the proxy during and after the wave.
fn of_holdings(wave: &Wave) -> Vec<Line> {
    let Wave { before, glances, most, after, rested, .. } = wave;
    let peak = glances.rss_kib;
    let below = format!("below {}", mebibytes(MOST_KIB));
    let change = |before: u64, after: u64| format!("{before}, {after}");
    let memory = [before, after].map(|it| mebibytes(it.rss_kib)).join(", ");
    vec![
        Line::bound("most resident memory", mebibytes(peak), below, peak < MOST_KIB),
        Line::tell("before and after: descriptors", change(before.descriptors, after.descriptors)),
        Line::tell("threads", change(before.threads, after.threads)),
        Line::tell("resident memory", memory),
        Line::bound(
            "as before",
            format!("after {:.1} s", rested.as_secs_f64()),
            format!("within {} s", REST.as_secs()),
            after.is_within(most),
        ),
    ]
}
