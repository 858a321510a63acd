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
    encoding::{
        DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, EncodeLabelSet, MetricEncoder,
        NoLabelSet, prometheus_text, text,
    },
    metrics::MetricType,
    registry::{Registry, Unit},
};

use super::{expiries::Expiries, format::Format, process::Process};
use crate::{
    common::{error::Abort, exporter::ExporterName, reload::ReloadState},
    scrape::{
        exporters::ActiveExporter,
        ledger::{Distribution, Phase, ScrapeRecord, Snapshot},
    },
};

const NO_LABELS: [(&str, &str); 0] = [];

/// All numbers at one moment.
#[derive(Debug)]
pub(super) struct Page {
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
    figures: Snapshot,
}

impl Row {
    pub(super) fn of(exporter: &ActiveExporter, now: Instant) -> Self {
        let mut figures = exporter.state.ledger.figures();
        // Every cause exists from the start, so that the first truncation is visible as an
        // increase.
        for cause in Abort::infos() {
            figures.truncated.entry(cause.label).or_default();
        }
        let interval = exporter.config.rules.interval.as_duration();
        Self {
            name: exporter.config.name.clone(),
            overdue: figures.is_overdue(interval, now),
            figures,
        }
    }

    fn label(&self) -> (&'static str, &str) {
        ("exporter", self.name.as_str())
    }
}

impl Page {
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
            "scrapegate_scrapes",
            "Finished scrapes, by outcome.",
            None,
            self.exporters
                .iter()
                .flat_map(|row| {
                    let count = |(&outcome, &count)| ([row.label(), ("outcome", outcome)], count);
                    row.figures.outcomes.iter().map(count)
                })
                // A configured exporter named `unknown` has no `unknown_exporter` outcome, so the
                // labels are unique.
                .chain([(
                    [("exporter", "unknown"), ("outcome", "unknown_exporter")],
                    self.unknown_exporter,
                )]),
        )?;
        out.counters(
            "scrapegate_truncated",
            "Scrapes aborted after the response head, by cause. Included in scrapegate_scrapes_total.",
            None,
            self.exporters.iter().flat_map(|row| {
                let count = |(&cause, &count)| ([row.label(), ("cause", cause)], count);
                row.figures.truncated.iter().map(count)
            }),
        )?;
        out.counters(
            "scrapegate_content_length_ignored",
            "Scrapes whose exporter sent both Content-Length and Transfer-Encoding: chunked.",
            None,
            self.exporters.iter().map(|row| ([row.label()], row.figures.lengths_ignored)),
        )?;
        out.histograms(
            "scrapegate_scrape_duration",
            "Duration of scrapes, from the arrival of the request to the end of the response.",
            self.exporters.iter().map(|row| ([row.label()], &row.figures.durations)),
        )?;
        out.histograms(
            "scrapegate_scrape_phase",
            "Time that scrapes spent in each phase. Phases connect, first_byte and read_wait wait for the exporter, write_wait for the scraper.",
            self.exporters.iter().flat_map(|row| {
                let phases = Phase::ALL.into_iter().zip(&row.figures.phases);
                phases.map(|(phase, times)| ([row.label(), ("phase", phase.label())], times))
            }),
        )?;
        out.counters(
            "scrapegate_response",
            "Body bytes relayed to scrapers, added at the end of each scrape.",
            Some(&Unit::Bytes),
            self.exporters.iter().map(|row| ([row.label()], row.figures.bytes)),
        )?;
        out.gauges(
            "scrapegate_scrapes_in_flight",
            "Scrapes in progress.",
            None,
            self.exporters.iter().map(|row| ([row.label()], row.figures.in_flight)),
        )?;
        out.gauges(
            "scrapegate_exporter_overdue",
            "Whether the exporter has not been scraped for three of its intervals.",
            None,
            self.exporters.iter().map(|row| ([row.label()], u64::from(row.overdue))),
        )
    }

    fn last_scrapes(&self, out: &mut Families<'_>) -> fmt::Result {
        let all = |value: fn(&ScrapeRecord) -> f64| {
            self.exporters.iter().filter_map(move |row| {
                row.figures.last.as_ref().map(|last| ([row.label()], value(last)))
            })
        };
        out.gauges(
            "scrapegate_last_scrape_timestamp",
            "Unix time when the last scrape ended.",
            Some(&Unit::Seconds),
            all(|last| since_1970(last.ended)),
        )?;
        out.gauges(
            "scrapegate_last_scrape_duration",
            "Duration of the last scrape.",
            Some(&Unit::Seconds),
            all(|last| last.took.as_secs_f64()),
        )?;
        out.gauges(
            "scrapegate_last_scrape_response",
            "Body bytes relayed by the last scrape.",
            Some(&Unit::Bytes),
            // Exact up to 2^53.
            all(|last| last.bytes as f64),
        )?;
        out.gauges(
            "scrapegate_last_scrape_success",
            "Whether the last scrape was complete and had a status and a Content-Type that Prometheus accepts.",
            None,
            all(|last| f64::from(u8::from(last.success))),
        )
    }

    fn connections(&self, out: &mut Families<'_>) -> fmt::Result {
        out.gauges(
            "scrapegate_connections",
            "Open connections from scrapers, including those in the TLS handshake.",
            None,
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
            out.counters(name, help, None, counts)?;
        }
        Ok(())
    }

    fn configuration(&self, out: &mut Families<'_>) -> fmt::Result {
        let ReloadState { last_failed, applied_at } = self.reload;
        let Expiries { certificates, revocation_lists } = &self.expiries;
        out.gauges(
            "scrapegate_config_last_reload_successful",
            "Whether the last load or reload of the configuration succeeded.",
            None,
            [(NO_LABELS, u64::from(!last_failed))],
        )?;
        out.gauges(
            "scrapegate_config_last_reload_success_timestamp",
            "Unix time of the last successful load or reload of the configuration.",
            Some(&Unit::Seconds),
            [(NO_LABELS, since_1970(applied_at))],
        )?;
        out.gauges(
            "scrapegate_certificate_expiry_timestamp",
            "Unix time when the first certificate in the file expires.",
            Some(&Unit::Seconds),
            certificates.iter().map(|(file, &expires)| ([("file", file.as_str())], expires)),
        )?;
        out.gauges(
            "scrapegate_crl_next_update_timestamp",
            "Unix time of the earliest nextUpdate of the certificate revocation lists (CRLs) in the file.",
            Some(&Unit::Seconds),
            revocation_lists.iter().map(|(file, &end)| ([("file", file.as_str())], end)),
        )?;
        let mut build = out.0.encode_descriptor(
            "scrapegate_build",
            "Version of scrapegate.",
            None,
            MetricType::Info,
        )?;
        build.encode_info(&[("version", env!("CARGO_PKG_VERSION"))])
    }

    fn log(&self, out: &mut Families<'_>) -> fmt::Result {
        out.counters(
            "scrapegate_log_records_dropped",
            "Log records dropped because standard error was not read fast enough.",
            None,
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
            "process_cpu",
            "Total user and system CPU time.",
            Some(&Unit::Seconds),
            cpu_seconds.map(|value| (NO_LABELS, value)),
        )?;
        out.gauges("process_open_fds", "Open file descriptors.", None, alone(open_fds))?;
        out.gauges(
            "process_max_fds",
            "Maximum number of open file descriptors (soft limit).",
            None,
            alone(max_fds),
        )?;
        out.gauges(
            "process_resident_memory",
            "Resident memory.",
            Some(&Unit::Bytes),
            alone(resident_bytes),
        )?;
        out.gauges(
            "process_virtual_memory",
            "Virtual memory.",
            Some(&Unit::Bytes),
            alone(virtual_bytes),
        )?;
        out.gauges(
            "process_start_time",
            "Unix time when the process started.",
            Some(&Unit::Seconds),
            start_seconds.map(|value| (NO_LABELS, value)),
        )
    }
}

impl Collector for Page {
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

/// Writes metric families one after another. Omits a family without samples.
struct Families<'a>(DescriptorEncoder<'a>);

impl Families<'_> {
    fn counters<L: EncodeLabelSet, V: EncodeCounterValue>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        samples: impl IntoIterator<Item = (L, V)>,
    ) -> fmt::Result {
        self.family(name, help, unit, MetricType::Counter, samples, |mut sample, value| {
            sample.encode_counter::<NoLabelSet, V, f64>(&value, None)
        })
    }

    fn gauges<L: EncodeLabelSet, V: EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        samples: impl IntoIterator<Item = (L, V)>,
    ) -> fmt::Result {
        self.family(name, help, unit, MetricType::Gauge, samples, |mut sample, value| {
            sample.encode_gauge(&value)
        })
    }

    /// Durations in seconds.
    fn histograms<'a, L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (L, &'a Distribution)>,
    ) -> fmt::Result {
        let unit = Some(&Unit::Seconds);
        self.family(name, help, unit, MetricType::Histogram, samples, |mut sample, value| {
            let Distribution { buckets, count, sum } = value;
            sample.encode_histogram::<NoLabelSet>(*sum, *count, buckets, None)
        })
    }

    fn family<L: EncodeLabelSet, V>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        kind: MetricType,
        samples: impl IntoIterator<Item = (L, V)>,
        encode: impl Fn(MetricEncoder<'_>, V) -> fmt::Result,
    ) -> fmt::Result {
        let mut samples = samples.into_iter().peekable();
        if samples.peek().is_none() {
            return Ok(());
        }
        let mut family = self.0.encode_descriptor(name, help, unit, kind)?;
        samples.try_for_each(|(labels, value)| encode(family.encode_family(&labels)?, value))
    }
}

fn since_1970(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs_f64()
}
