//! The status page: one HTML document without scripts.
//!
//! Names come from the configuration and are untrusted text. maud escapes everything that is not
//! markup in this module.

mod format;
mod history;

use std::{
    sync::LazyLock,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use maud::{DOCTYPE, Markup, PreEscaped, html};

use self::format::{age, bytes, date, duration, plural};
use crate::{
    common::reload::ReloadState,
    http::metrics::Expiries,
    scrape::{
        exporters::ActiveExporter,
        ledger::{EXPORTER_STATUS, NOT_METRICS, ScrapeRecord},
    },
};

const STYLE: &str = include_str!("page/style.css");

/// The `Content-Security-Policy` of the page. It permits only the page's own style sheet.
pub static CONTENT_SECURITY_POLICY: LazyLock<String> = LazyLock::new(|| {
    let style = STANDARD.encode(digest(&SHA256, STYLE.as_bytes()));
    format!(
        "default-src 'none'; style-src 'sha256-{style}'; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'"
    )
});

/// The page highlights a certificate that expires within this time.
const EXPIRES_SOON: Duration = Duration::from_secs(14 * 24 * 3600);

/// The page highlights a revocation list whose `nextUpdate` is within this time. Many lists are
/// replaced daily.
const OUT_OF_DATE_SOON: Duration = Duration::from_secs(6 * 3600);

/// The time for which the page is generated, on both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// For durations.
    pub instant: Instant,
    /// For dates.
    pub time: SystemTime,
}

/// How an exporter's last scrape went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LastScrape {
    /// No scrape has ended yet.
    None,
    /// The last scrape succeeded.
    Succeeded,
    /// The last scrape failed, with this outcome.
    Failed(&'static str),
}

/// The state of an exporter. It can be failing and overdue at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ExporterStatus {
    last: LastScrape,
    /// Whether the exporter has not been scraped for three intervals.
    is_overdue: bool,
}

impl ExporterStatus {
    fn of(is_overdue: bool, last: Option<&ScrapeRecord>) -> Self {
        let last = match last {
            None => LastScrape::None,
            Some(last) if last.success => LastScrape::Succeeded,
            Some(last) => LastScrape::Failed(last.outcome),
        };
        Self { last, is_overdue }
    }

    /// The CSS class of the exporter, which is the class of its first state line.
    fn class(self) -> &'static str {
        match self {
            Self { last: LastScrape::Failed(_), .. } => "failing",
            Self { is_overdue: true, .. } => "overdue",
            Self { last: LastScrape::Succeeded, .. } => "up",
            Self { last: LastScrape::None, .. } => "never",
        }
    }

    /// The state lines: a failure first, then `overdue`; otherwise a single line. An overdue
    /// exporter is never `up`, because its last success is too old.
    fn lines(self, interval: Duration) -> Markup {
        let failure = match self.last {
            LastScrape::Failed(EXPORTER_STATUS) => {
                Some("failing: the exporter answers with an error".to_owned())
            }
            LastScrape::Failed(NOT_METRICS) => {
                Some("failing: the exporter's answer is not metrics".to_owned())
            }
            LastScrape::Failed(outcome) => Some(format!("failing: {}", outcome.replace('_', " "))),
            LastScrape::Succeeded | LastScrape::None => None,
        };
        html! {
            @if let Some(failure) = &failure {
                p class="state failing" { (failure) }
            }
            @if self.is_overdue {
                p class="state overdue" {
                    "overdue: expected every " (duration(interval)) ", but not scraped"
                }
            }
            @else if failure.is_none() {
                @match self.last {
                    LastScrape::Succeeded => p class="state up" { "up" },
                    LastScrape::None | LastScrape::Failed(_) => {
                        p class="state never" { "not scraped yet" }
                    },
                }
            }
        }
    }
}

/// Generates the page. `exporters` are the enabled exporters, in file order.
#[must_use]
pub fn status<'a>(
    exporters: impl Iterator<Item = &'a ActiveExporter>,
    expiries: &Expiries,
    reload: ReloadState,
    now: Now,
) -> String {
    let cards: Vec<Card<'_>> = exporters.map(|exporter| Card::of(exporter, now)).collect();
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "scrapegate: " (summary(&cards)) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    h1 { "scrapegate" }
                    p { (summary(&cards)) }
                }
                main {
                    (exporters_section(&cards, now))
                    (certificates(expiries, now))
                    (last_reload(reload, now))
                }
                footer {
                    p {
                        "Version " (env!("CARGO_PKG_VERSION")) ", as of " (date(now.time)) ". "
                        a href="/metrics" { "Metrics of this proxy" } ", "
                        a href="/prometheus" { "list of exporters" }
                    }
                }
            }
        }
    };
    page.into_string()
}

/// An exporter at the time of the page.
struct Card<'a> {
    exporter: &'a ActiveExporter,
    state: ExporterStatus,
    in_flight: u64,
    /// The last scrapes, oldest first.
    recent: Vec<ScrapeRecord>,
}

impl<'a> Card<'a> {
    fn of(exporter: &'a ActiveExporter, now: Now) -> Self {
        let (snapshot, recent) = exporter.state.ledger.overview();
        let interval = exporter.config.rules.interval.as_duration();
        let state = ExporterStatus::of(snapshot.is_overdue(interval, now.instant), recent.last());
        Self { exporter, state, in_flight: snapshot.in_flight, recent }
    }
}

/// The number of exporters in each state. An exporter that is failing and overdue counts as both.
fn summary(cards: &[Card<'_>]) -> String {
    let count = |class: &str| cards.iter().filter(|card| card.state.class() == class).count();
    let overdue = cards.iter().filter(|card| card.state.is_overdue).count();
    let counted = [
        (count("up"), "up"),
        (count("failing"), "failing"),
        (overdue, "overdue"),
        (count("never"), "not scraped yet"),
    ];
    let counted: Vec<_> = counted
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, word)| format!("{count} {word}"))
        .collect();
    let all = plural(cards.len(), "exporter");
    if counted.is_empty() { all } else { format!("{all}: {}", counted.join(", ")) }
}

fn exporters_section(cards: &[Card<'_>], now: Now) -> Markup {
    html! {
        h2 { "Exporters" }
        @if cards.is_empty() {
            p { "No exporter is enabled." }
        }
        @else {
            p class="legend" {
                "Each bar is one scrape, the newest on the right: "
                span class="exporter" { "■" } " waiting for the exporter, "
                span class="network" { "■" } " waiting for the scraper, "
                span class="failed" { "■" } " failed"
            }
        }
        ul class="exporters" {
            @for card in cards {
                li class=(card.state.class()) {
                    h3 { (card.exporter.config.name) }
                    div class="states" { (card.state.lines(card.exporter.config.rules.interval.as_duration())) }
                    dl {
                        (last_scrape(card.recent.last(), now))
                        dt { "In flight" }
                        dd { (card.in_flight) }
                    }
                    (history::chart(&card.recent))
                }
            }
        }
    }
}

fn last_scrape(last: Option<&ScrapeRecord>, now: Now) -> Markup {
    let Some(last) = last else {
        return html! { dt { "Last scrape" } dd { "none" } };
    };
    let (exporter, network) = (last.phases.exporter(), last.phases.network());
    html! {
        dt { "Last scrape" }
        dd { (age(last.ended, now.time)) }
        dt { "Took" }
        dd {
            (duration(last.took)) ": exporter " (duration(exporter)) ", network " (duration(network))
        }
        dt { "Size" }
        dd {
            (bytes(last.bytes))
            @if last.received != last.bytes {
                " of " (bytes(last.received)) " from the exporter"
            }
        }
        @if last.families_dropped > 0 {
            dt { "Left out" }
            dd {
                (last.families_dropped)
                @if last.families_dropped == 1 { " metric family" } @else { " metric families" }
            }
        }
    }
}

fn certificates(expiries: &Expiries, now: Now) -> Markup {
    html! {
        h2 { "Certificates" }
        @if expiries.certificates.is_empty() {
            p { "None. This port serves plain HTTP." }
        }
        dl class="files" {
            @for (file, &end) in &expiries.certificates {
                dt { (file) }
                dd { (end_of_validity(["expired on ", "expires on "], end, EXPIRES_SOON, now)) }
            }
            @for (file, &end) in &expiries.revocation_lists {
                @let words = ["revocation list expired on ", "revocation list valid until "];
                dt { (file) }
                dd { (end_of_validity(words, end, OUT_OF_DATE_SOON, now)) }
            }
        }
    }
}

/// The first words are for an end in the past, the second for an end in the future.
fn end_of_validity([past, to_come]: [&str; 2], end: i64, soon: Duration, now: Now) -> Markup {
    let end = UNIX_EPOCH + Duration::from_secs(u64::try_from(end).unwrap_or_default());
    html! {
        @match end.duration_since(now.time).ok() {
            None => span class="bad" { (past) (date(end)) },
            Some(left) if left < soon => {
                span class="late" { (to_come) (date(end)) ", in " (duration(left)) }
            },
            Some(left) => { (to_come) (date(end)) ", in " (duration(left)) },
        }
    }
}

fn last_reload(ReloadState { last_failed, applied_at }: ReloadState, now: Now) -> Markup {
    html! {
        h2 { "Configuration" }
        p {
            "In use since " (date(applied_at)) " ("
            (age(applied_at, now.time)) ")."
            @if last_failed {
                " "
                span class="bad" { "The last reload failed. The log has the reason." }
            }
        }
    }
}

#[cfg(test)]
mod tests;
