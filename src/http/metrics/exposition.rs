//! The text of `/metrics`: the name, help, type, unit and labels of every metric. Encoded by
//! prometheus-client.

use std::{
    collections::BTreeMap,
    fmt,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, prometheus_text, text},
    registry::Registry,
};

use super::{
    expiries::Expiries,
    families::{Families, NO_LABELS, family},
    format::Format,
    process::Process,
};
use crate::{
    common::{exporter::ExporterName, reload::ReloadState},
    scrape::{
        encoding::Encoding,
        exporters::ActiveExporter,
        ledger::{ScrapeRecord, Snapshot},
        phase::Phase,
    },
};

/// All numbers at one moment.
#[derive(Debug)]
pub(super) struct Readings {
    /// In the order of the configuration file.
    pub(super) exporters: Vec<Row>,
    pub(super) unknown_exporter: u64,
    pub(super) connections: i64,
    pub(super) handshakes: BTreeMap<&'static str, u64>,
    pub(super) rejected: BTreeMap<&'static str, u64>,
    pub(super) accept_errors: BTreeMap<&'static str, u64>,
    pub(super) log_records_dropped: u64,
    pub(super) reload: ReloadState,
    pub(super) expiries: Expiries,
    pub(super) process: Process,
}

/// The numbers of one exporter.
#[derive(Debug)]
pub(super) struct Row {
    name: ExporterName,
    overdue: bool,
    snapshot: Snapshot,
}

impl Row {
    pub(super) fn of(exporter: &ActiveExporter, now: Instant) -> Self {
        let snapshot = exporter.state.ledger.snapshot();
        let interval = exporter.config.rules.interval.as_duration();
        Self {
            name: exporter.config.name.clone(),
            overdue: snapshot.is_overdue(interval, now),
            snapshot,
        }
    }

    fn label(&self) -> (&'static str, &str) {
        ("exporter", self.name.as_str())
    }
}

impl Readings {
    pub(super) fn write(self, format: Format) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Arc::new(self)));
        let mut written = String::new();
        let outcome = match format {
            Format::Text => prometheus_text::encode(&mut written, &registry),
            Format::OpenMetrics => text::encode(&mut written, &registry),
        };
        debug_assert!(outcome.is_ok(), "a String takes everything");
        written
    }

    fn scrapes(&self, out: &mut Families<'_>) -> fmt::Result {
        out.counters(
            &family("scrapegate_scrapes", "Finished scrapes, by outcome."),
            self.exporters
                .iter()
                .flat_map(|row| {
                    let count = |(&outcome, &count)| ([row.label(), ("outcome", outcome)], count);
                    row.snapshot.outcomes.iter().map(count)
                })
                // A configured exporter named `unknown` has no `unknown_exporter` outcome, so the
                // labels are unique.
                .chain([(
                    [("exporter", "unknown"), ("outcome", "unknown_exporter")],
                    self.unknown_exporter,
                )]),
        )?;
        out.counters(
            &family(
                "scrapegate_truncated",
                "Scrapes aborted after the response head, by cause. Included in \
                 scrapegate_scrapes_total.",
            ),
            self.exporters.iter().flat_map(|row| {
                let count = |(&cause, &count)| ([row.label(), ("cause", cause)], count);
                row.snapshot.truncated.iter().map(count)
            }),
        )?;
        out.counters(
            &family(
                "scrapegate_content_length_ignored",
                "Scrapes whose exporter sent both Content-Length and Transfer-Encoding: chunked.",
            ),
            self.exporters.iter().map(|row| ([row.label()], row.snapshot.lengths_ignored)),
        )?;
        out.counters(
            &family(
                "scrapegate_families_dropped",
                "Metric families left out of answers by metrics-drop and metrics-keep.",
            ),
            self.exporters.iter().map(|row| ([row.label()], row.snapshot.families_dropped)),
        )?;
        out.histograms(
            &family(
                "scrapegate_scrape_duration",
                "Duration of scrapes, from the arrival of the request to the end of the response.",
            )
            .in_seconds(),
            self.exporters.iter().map(|row| ([row.label()], &row.snapshot.durations)),
        )?;
        out.histograms(
            &family(
                "scrapegate_scrape_phase",
                "Time that scrapes spent in each phase. Phases connect, first_byte and read_wait \
                 wait for the exporter, write_wait for the scraper.",
            )
            .in_seconds(),
            self.exporters.iter().flat_map(|row| {
                let phases = Phase::ALL.into_iter().zip(&row.snapshot.phases);
                phases.map(|(phase, times)| ([row.label(), ("phase", phase.label())], times))
            }),
        )?;
        out.counters(
            &family(
                "scrapegate_response",
                "Body bytes sent to scrapers, added at the end of each scrape.",
            )
            .in_bytes(),
            self.exporters.iter().map(|row| ([row.label()], row.snapshot.bytes)),
        )?;
        out.counters(
            &family(
                "scrapegate_exporter",
                "Body bytes received from the exporter, added at the end of each scrape.",
            )
            .in_bytes(),
            self.exporters.iter().map(|row| ([row.label()], row.snapshot.received)),
        )?;
        out.counters(
            &family(
                "scrapegate_scrapes_by_encoding",
                "Finished scrapes that sent a response head of the exporter, by the encoding of \
                 the response.",
            ),
            self.exporters.iter().flat_map(|row| {
                let count = |(encoding, &count): (&Encoding, &u64)| {
                    ([row.label(), ("encoding", encoding.label())], count)
                };
                row.snapshot.encodings.iter().map(count)
            }),
        )?;
        out.gauges(
            &family("scrapegate_scrapes_in_flight", "Scrapes in progress."),
            self.exporters.iter().map(|row| ([row.label()], row.snapshot.in_flight)),
        )?;
        out.gauges(
            &family(
                "scrapegate_exporter_overdue",
                "Whether the exporter has not been scraped for three of its intervals.",
            ),
            self.exporters.iter().map(|row| ([row.label()], u64::from(row.overdue))),
        )
    }

    fn last_scrapes(&self, out: &mut Families<'_>) -> fmt::Result {
        let all = |value: fn(&ScrapeRecord) -> f64| {
            self.exporters.iter().filter_map(move |row| {
                row.snapshot.last.as_ref().map(|last| ([row.label()], value(last)))
            })
        };
        out.gauges(
            &family("scrapegate_last_scrape_timestamp", "Unix time when the last scrape ended.")
                .in_seconds(),
            all(|last| since_1970(last.ended)),
        )?;
        out.gauges(
            &family("scrapegate_last_scrape_duration", "Duration of the last scrape.").in_seconds(),
            all(|last| last.took.as_secs_f64()),
        )?;
        out.gauges(
            &family("scrapegate_last_scrape_response", "Body bytes sent by the last scrape.")
                .in_bytes(),
            // Exact up to 2^53.
            all(|last| last.bytes as f64),
        )?;
        out.gauges(
            &family(
                "scrapegate_last_scrape_success",
                "Whether the last scrape was complete and had a status and a Content-Type that \
                 Prometheus accepts.",
            ),
            all(|last| f64::from(u8::from(last.success))),
        )
    }

    fn connections(&self, out: &mut Families<'_>) -> fmt::Result {
        out.gauges(
            &family(
                "scrapegate_connections",
                "Open connections from scrapers, including those in the TLS handshake.",
            ),
            [(NO_LABELS, self.connections)],
        )?;
        for (name, help, label, counts) in [
            (
                "scrapegate_tls_handshakes",
                "Finished TLS handshakes, by result.",
                "result",
                &self.handshakes,
            ),
            (
                "scrapegate_http_rejected",
                "Requests rejected before they were assigned to an exporter, by reason.",
                "reason",
                &self.rejected,
            ),
            (
                "scrapegate_accept_errors",
                "Connections that could not be accepted or were closed at once, by kind.",
                "kind",
                &self.accept_errors,
            ),
        ] {
            let counts = counts.iter().map(|(&word, &count)| ([(label, word)], count));
            out.counters(&family(name, help), counts)?;
        }
        Ok(())
    }

    fn configuration(&self, out: &mut Families<'_>) -> fmt::Result {
        let ReloadState { last_failed, applied_at } = self.reload;
        let Expiries { certificates, revocation_lists } = &self.expiries;
        out.gauges(
            &family(
                "scrapegate_config_last_reload_successful",
                "Whether the last load or reload of the configuration succeeded.",
            ),
            [(NO_LABELS, u64::from(!last_failed))],
        )?;
        out.gauges(
            &family(
                "scrapegate_config_last_reload_success_timestamp",
                "Unix time of the last successful load or reload of the configuration.",
            )
            .in_seconds(),
            [(NO_LABELS, since_1970(applied_at))],
        )?;
        out.gauges(
            &family(
                "scrapegate_certificate_expiry_timestamp",
                "Unix time when the first certificate in the file expires.",
            )
            .in_seconds(),
            certificates.iter().map(|(file, &expires)| ([("file", file.as_str())], expires)),
        )?;
        out.gauges(
            &family(
                "scrapegate_crl_next_update_timestamp",
                "Unix time of the earliest nextUpdate of the certificate revocation lists (CRLs) \
                 in the file.",
            )
            .in_seconds(),
            revocation_lists.iter().map(|(file, &end)| ([("file", file.as_str())], end)),
        )?;
        let build = family("scrapegate_build", "Version of scrapegate.");
        out.info(&build, &[("version", env!("CARGO_PKG_VERSION"))])
    }

    fn log(&self, out: &mut Families<'_>) -> fmt::Result {
        out.counters(
            &family(
                "scrapegate_log_records_dropped",
                "Log records dropped because standard error was not read fast enough.",
            ),
            [(NO_LABELS, self.log_records_dropped)],
        )
    }

    fn process(&self, out: &mut Families<'_>) -> fmt::Result {
        let Process {
            cpu_seconds,
            open_fds,
            max_fds,
            resident_bytes,
            virtual_bytes,
            start_seconds,
        } = self.process;
        let alone = |value: Option<u64>| value.map(|value| (NO_LABELS, value));
        out.counters(
            &family("process_cpu", "Total user and system CPU time.").in_seconds(),
            cpu_seconds.map(|value| (NO_LABELS, value)),
        )?;
        out.gauges(&family("process_open_fds", "Open file descriptors."), alone(open_fds))?;
        out.gauges(
            &family("process_max_fds", "Maximum number of open file descriptors (soft limit)."),
            alone(max_fds),
        )?;
        out.gauges(
            &family("process_resident_memory", "Resident memory.").in_bytes(),
            alone(resident_bytes),
        )?;
        out.gauges(
            &family("process_virtual_memory", "Virtual memory.").in_bytes(),
            alone(virtual_bytes),
        )?;
        out.gauges(
            &family("process_start_time", "Unix time when the process started.").in_seconds(),
            start_seconds.map(|value| (NO_LABELS, value)),
        )
    }
}

impl Collector for Readings {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut out = Families(encoder);
        self.scrapes(&mut out)?;
        self.last_scrapes(&mut out)?;
        self.connections(&mut out)?;
        self.configuration(&mut out)?;
        self.log(&mut out)?;
        self.process(&mut out)
    }
}

fn since_1970(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs_f64()
}
