//! The figures of a soak, and their bounds.

use std::{collections::BTreeMap, time::Duration};

use scrapegate_harness::trial::{
    table::{Line, Table, mebibytes, milliseconds, quantile},
    tally::Tally,
};

use crate::{
    Course,
    scrapers::{Counted, Scraper},
    site::{Holdings, REST, SETTLING},
};

/// How much higher memory may be in the last third of the time than in the first, in KiB.
const GROWTH_KIB: u64 = 2 * 1024;

/// The share of its planned rate that a scraper must reach. Below it, the soak proves nothing.
const SHARE: f64 = 0.9;

pub(crate) fn table(soak: &Course) -> Table {
    let mut lines = Vec::new();
    for scraper in &soak.scrapers {
        lines.extend(of_scraper(scraper, soak.length));
    }
    lines.push(all_as_explained(&soak.changes));
    lines.push(Line::tell(
        "slowest to take effect",
        milliseconds(quantile(&soak.changes.outcome().0, 1.0)),
    ));
    lines.extend(of_ledger(soak));
    lines.extend(of_holdings(soak));
    Table::new([("figure", lines)])
}

fn of_scraper(scraper: &Scraper, length: Duration) -> Vec<Line> {
    let tally = &scraper.tally;
    let (times, failures) = tally.outcome();
    let per_second = (times.len() + failures.len()) as f64 / length.as_secs_f64();
    let least = scraper.plan.rate * SHARE;
    let mut lines = vec![
        all_as_explained(tally),
        Line::bound(
            "a second",
            format!("{per_second:.2}"),
            format!("at least {least:.2}"),
            per_second >= least,
        ),
    ];
    if scraper.plan.is_scrape() {
        let quantiles = [0.5, 0.99, 1.0].map(|at| milliseconds(quantile(&times, at)));
        lines.push(Line::tell("median, 99th percentile, slowest", quantiles.join(", ")));
    }
    lines
}

/// Whether all attempts had the expected outcome.
fn all_as_explained(tally: &Tally) -> Line {
    let (times, failures) = tally.outcome();
    let all = times.len() + failures.len();
    let some: Vec<_> = failures.iter().take(3).map(String::as_str).collect();
    let figure = format!("{} of {all} {}", times.len(), some.join("; "));
    Line::bound(tally.name, figure, "all", failures.is_empty() && all > 0)
}

/// Compares the proxy's counters with what the scrapers saw.
fn of_ledger(soak: &Course) -> Vec<Line> {
    let (mut scrapes, mut handshakes) = (Ledger::new(), Ledger::new());
    for scraper in &soak.scrapers {
        let (times, failures) = scraper.tally.outcome();
        let (ledger, label) = match scraper.plan.counted() {
            Counted::Scrape(outcome) => (&mut scrapes, outcome),
            Counted::Handshake(result) => (&mut handshakes, result),
        };
        *ledger.entry(label.to_owned()).or_default() += times.len() + failures.len();
    }
    // From before the soak.
    *scrapes.entry("complete".to_owned()).or_default() += SETTLING;
    *handshakes.entry("bad_certificate".to_owned()).or_default() += soak.refusals;
    let counted = counted(soak, "scrapegate_scrapes_total{", "outcome");
    let mut refused = self::counted(soak, "scrapegate_tls_handshakes_total{", "result");
    refused.remove("ok");
    let in_flight = soak.counted.sum("scrapegate_scrapes_in_flight{");
    vec![
        agreement("scrapes counted by the proxy, by outcome", &counted, &scrapes),
        agreement("handshakes without a connection, by result", &refused, &handshakes),
        Line::bound("still in flight", in_flight.to_string(), "none", in_flight == 0.0),
    ]
}

/// Counts by label value.
type Ledger = BTreeMap<String, usize>;

/// Sums the series that begin with `series` by the value of `label`, which must be their last
/// label. Series with the value 0 are omitted.
fn counted(soak: &Course, series: &str, label: &str) -> Ledger {
    let mut ledger = Ledger::new();
    for (series, value) in soak.counted.starting_with(series).filter(|(_, value)| *value != 0.0) {
        let (_, value_of_label) = series.split_once(&format!("{label}=\"")).unwrap_or_default();
        let value_of_label = value_of_label.trim_end_matches("\"}").to_owned();
        *ledger.entry(value_of_label).or_default() += value as usize;
    }
    ledger
}

fn agreement(what: &str, counted: &Ledger, seen: &Ledger) -> Line {
    let agrees = counted == seen;
    let sum = seen.values().sum::<usize>();
    let figure = if agrees { sum.to_string() } else { format!("{counted:?}, not {seen:?}") };
    Line::bound(what, figure, "as seen", agrees)
}

fn of_holdings(soak: &Course) -> Vec<Line> {
    let Course { samples, before, after, .. } = soak;
    let memory = |it: &Holdings| it.rss_kib;
    let [first, last] = samples.ends(memory);
    let growth = last.saturating_sub(first);
    let scrapes = soak.counted.sum("scrapegate_scrapes_total{");
    let seen = GROWTH_KIB as f64 * 1024.0 / (scrapes * samples.distance());
    let cores = soak.cpu.as_secs_f64() / soak.length.as_secs_f64();
    let flat = |what: &str, of: fn(&Holdings) -> u64| {
        let [first, last] = samples.ends(of);
        Line::bound(
            format!("{what}: first and last third, most"),
            format!("{first}, {last}, {}", samples.most(of)),
            "at most one more in the last",
            last <= first + 1,
        )
    };
    vec![
        Line::bound(
            "resident memory: first and last third",
            [first, last].map(mebibytes).join(", "),
            format!("growth below {}, {seen:.0} bytes a scrape", mebibytes(GROWTH_KIB)),
            growth < GROWTH_KIB,
        ),
        Line::tell("its slope", format!("{:.1} KiB a minute", samples.slope(memory) * 60.0)),
        Line::tell("most", mebibytes(samples.most(memory))),
        flat("descriptors", |it| it.descriptors),
        flat("threads", |it| it.threads),
        Line::bound(
            "descriptors and threads before and after",
            [before, after].map(|it| format!("{} and {}", it.descriptors, it.threads)).join(", "),
            format!("as before within {} s", REST.as_secs()),
            after.is_at_rest(before),
        ),
        Line::tell("processor time of the proxy", format!("{:.0} % of a core", cores * 100.0)),
    ]
}
