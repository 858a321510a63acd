//! The status page: one HTML document without script, and all that it shows.
//!
//! Names come from the configuration and are hostile text: maud escapes whatever is not markup of
//! this module.

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
    exporter::Exporter,
    ledger::{Entry, Wait},
    metrics::Configured,
};

const STYLE: &str = include_str!("page/style.css");

/// What a browser may do with the page: use its own style, and nothing else.
pub static CONTENT_SECURITY_POLICY: LazyLock<String> = LazyLock::new(|| {
    let style = STANDARD.encode(digest(&SHA256, STYLE.as_bytes()));
    format!(
        "default-src 'none'; style-src 'sha256-{style}'; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'"
    )
});

/// A certificate this close to its end is pointed out.
const EXPIRES_SOON: Duration = Duration::from_secs(14 * 24 * 3600);

/// The moment that a page shows.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// For what has lasted since.
    pub instant: Instant,
    /// For what has a date.
    pub time: SystemTime,
}

/// What an exporter is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nobody has asked for it yet.
    NeverScraped,
    /// The last scrape went well.
    Up,
    /// The last scrape did not; in one word.
    Failing(&'static str),
    /// For three intervals nobody has asked for it.
    Overdue,
}

impl State {
    fn of(is_overdue: bool, last: Option<&Entry>) -> Self {
        match last {
            _ if is_overdue => Self::Overdue,
            None => Self::NeverScraped,
            Some(last) if last.success => Self::Up,
            Some(last) => Self::Failing(last.outcome),
        }
    }

    /// The name of its style.
    fn class(self) -> &'static str {
        match self {
            Self::NeverScraped => "never",
            Self::Up => "up",
            Self::Failing(_) => "failing",
            Self::Overdue => "overdue",
        }
    }

    /// In words, because colours are not for everyone.
    fn words(self, interval: Duration) -> String {
        match self {
            Self::NeverScraped => "not scraped yet".to_owned(),
            Self::Up => "up".to_owned(),
            // Complete, but not a 2xx.
            Self::Failing(crate::ledger::COMPLETE) => {
                "failing: the exporter answers with an error".to_owned()
            }
            Self::Failing(outcome) => format!("failing: {}", outcome.replace('_', " ")),
            Self::Overdue => {
                format!("overdue: expected every {}, nobody asks", duration(interval))
            }
        }
    }
}

/// Writes the page. `exporters` are the enabled ones, in the order of the file.
#[must_use]
pub fn status<'a>(
    exporters: impl Iterator<Item = &'a Exporter>,
    configured: &Configured,
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
                    (certificates(configured, now))
                    (last_reload(configured, now))
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

/// An exporter at one moment.
struct Card<'a> {
    exporter: &'a Exporter,
    state: State,
    in_flight: u64,
    /// The last scrapes, oldest first.
    recent: Vec<Entry>,
}

impl<'a> Card<'a> {
    fn of(exporter: &'a Exporter, now: Now) -> Self {
        let (figures, recent) = exporter.ledger.overview();
        let interval = exporter.rules.interval.as_duration();
        let state = State::of(figures.is_overdue(interval, now.instant), recent.last());
        Self { exporter, state, in_flight: figures.in_flight, recent }
    }
}

/// As many as there are of each state.
fn summary(cards: &[Card<'_>]) -> String {
    let count = |class: &str| cards.iter().filter(|card| card.state.class() == class).count();
    let states = [("up", "up"), ("failing", "failing"), ("overdue", "overdue")];
    let counted = states.map(|(class, word)| (count(class), word));
    let counted: Vec<_> = counted
        .into_iter()
        .chain([(count("never"), "not scraped yet")])
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
            p { "None is enabled." }
        }
        @else {
            p class="legend" {
                "Bars are scrapes, the newest to the right: "
                span class="exporter" { "■" } " waiting for the exporter, "
                span class="network" { "■" } " waiting for the scraper, "
                span class="failed" { "■" } " failed"
            }
        }
        ul class="exporters" {
            @for card in cards {
                li class=(card.state.class()) {
                    h3 { (card.exporter.name) }
                    p class="state" { (card.state.words(card.exporter.rules.interval.as_duration())) }
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

fn last_scrape(last: Option<&Entry>, now: Now) -> Markup {
    let Some(last) = last else {
        return html! { dt { "Last scrape" } dd { "none" } };
    };
    let (exporter, network) = split(last);
    html! {
        dt { "Last scrape" }
        dd { (age(last.ended, now.time)) }
        dt { "Took" }
        dd {
            (duration(last.took)) ": exporter " (duration(exporter)) ", network " (duration(network))
        }
        dt { "Size" }
        dd { (bytes(last.bytes)) }
    }
}

/// How long a scrape waited for the exporter, and for the scraper.
fn split(entry: &Entry) -> (Duration, Duration) {
    let waited = |wait| entry.phases.of(wait).unwrap_or_default();
    let exporter = [Wait::Connect, Wait::FirstByte, Wait::ReadWait].map(waited).iter().sum();
    (exporter, waited(Wait::WriteWait))
}

fn certificates(configured: &Configured, now: Now) -> Markup {
    html! {
        h2 { "Certificates" }
        @if configured.certificates.is_empty() {
            p { "None: this port speaks plain HTTP." }
        }
        dl {
            @for (file, &expires) in &configured.certificates {
                @let end = UNIX_EPOCH + Duration::from_secs(u64::try_from(expires).unwrap_or_default());
                @let left = end.duration_since(now.time).ok();
                dt { (file) }
                dd {
                    @match left {
                        None => span class="bad" { "expired on " (date(end)) },
                        Some(left) if left < EXPIRES_SOON => {
                            span class="late" { "expires on " (date(end)) ", in " (duration(left)) }
                        },
                        Some(left) => { "expires on " (date(end)) ", in " (duration(left)) },
                    }
                }
            }
        }
    }
}

fn last_reload(configured: &Configured, now: Now) -> Markup {
    html! {
        h2 { "Configuration" }
        p {
            "In use since " (date(configured.last_success)) " ("
            (age(configured.last_success, now.time)) ")."
            @if !configured.last_successful {
                " "
                span class="bad" { "The last reload was refused: the log says why." }
            }
        }
    }
}

#[cfg(test)]
mod tests;
