//! The figures of a soak, and the bounds that they have to keep.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    Course,
    scrapers::Scraper,
    site::{Holdings, REST},
    trial::{
        table::{Line, Table, mebibytes, milliseconds, quantile},
        tally::Tally,
    },
};

/// By how much the memory of the last third of the time may be above that of the first, in KiB.
const GROWTH_KIB: u64 = 2 * 1024;

/// Share of its rate below which a scraper was too slow for the soak to say anything.
const SHARE: f64 = 0.9;

pub(crate) fn table(soak: &Course) -> Table {
    let mut lines = Vec::new();
    for scraper in &soak.scrapers {
        lines.extend(of_scraper(scraper, soak.length));
    }
    lines.push(all_as_explained(&soak.changes));
    lines.push(Line::tell(
        "slowest to show",
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

/// Whether all went as they had to.
fn all_as_explained(tally: &Tally) -> Line {
    let (times, failures) = tally.outcome();
    let all = times.len() + failures.len();
    let some: Vec<_> = failures.iter().take(3).map(String::as_str).collect();
    let figure = format!("{} of {all} {}", times.len(), some.join("; "));
    Line::bound(tally.name, figure, "all", failures.is_empty() && all > 0)
}

/// What the proxy counted, against what the scrapers saw.
fn of_ledger(soak: &Course) -> Vec<Line> {
    let mut seen = BTreeMap::new();
    for scraper in &soak.scrapers {
        if let Some(outcome) = scraper.plan.outcome() {
            let (times, failures) = scraper.tally.outcome();
            *seen.entry(outcome).or_insert(0.0) += (times.len() + failures.len()) as f64;
        }
    }
    let made: f64 = seen.values().sum();
    let mut counted = BTreeMap::new();
    for (series, value) in soak.counted.starting_with("scrapegate_scrapes_total{") {
        let (_, outcome) = series.split_once("outcome=\"").unwrap_or_default();
        *counted.entry(outcome.trim_end_matches("\"}")).or_insert(0.0) += value;
    }
    // Before the soak began.
    if let Some(complete) = counted.get_mut("complete") {
        *complete -= crate::site::SETTLING as f64;
    }
    counted.retain(|_, value| *value != 0.0);
    let agrees = counted == seen;
    let figure = if agrees { format!("{made}") } else { format!("{counted:?}, not {seen:?}") };
    let in_flight = soak.counted.sum("scrapegate_scrapes_in_flight{");
    vec![
        Line::bound("scrapes counted by the proxy, by outcome", figure, "as seen", agrees),
        Line::bound("still in flight", in_flight.to_string(), "none", in_flight == 0.0),
    ]
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
