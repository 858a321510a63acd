//! Reads all sections of `config.ini`.

use std::{net::SocketAddr, num::NonZeroUsize, path::PathBuf, time::Duration};

use super::{
    Config, Limits, Located, LogFormat, Sources,
    basic_auth::{self, BasicAuth},
    diagnostics::Diagnostics,
    endpoint::{self, Advertised},
    ini::Document,
    keys,
    section_reader::{Reported, SectionReader},
    security::{self, TlsLevel},
    values,
};
use crate::common::deadline::Budget;

/// The contents of `config.ini`.
pub(super) struct Daemon {
    /// The configuration without the exporters.
    pub(super) config: Result<Config, Reported>,
    /// The path of the exporters file; `None` if `[prometheus] enabled = False`.
    pub(super) exporters: Option<PathBuf>,
}

/// Reads all sections. Problems are added to `diagnostics`.
pub(super) fn read(
    document: &Document,
    sources: &Sources,
    diagnostics: &mut Diagnostics,
) -> Daemon {
    let listen = listen(document, sources, diagnostics);
    let default = Default::read(document, diagnostics);
    let proxy = Proxy::read(document, diagnostics);
    let prometheus = Prometheus::read(document, diagnostics);
    let security = security::read(document, listen, diagnostics);
    let exporters = match &prometheus {
        Ok(prometheus) if !prometheus.enabled => None,
        Ok(prometheus) => Some(prometheus.exporters.clone()),
        Err(Reported) => Some(Prometheus::default_path(document)),
    };
    Daemon { config: config(listen, default, proxy, prometheus, security), exporters }
}

fn config(
    listen: Result<SocketAddr, Reported>,
    default: Result<Default, Reported>,
    proxy: Result<Proxy, Reported>,
    prometheus: Result<Prometheus, Reported>,
    security: Result<security::Decided, Reported>,
) -> Result<Config, Reported> {
    let (default, proxy, security) = (default?, proxy?, security?);
    Ok(Config {
        listen: listen?,
        security: security.security,
        tls_level: default.tls_level,
        basic_auth: default.basic_auth,
        client_allow: security.client_allow,
        prometheus_enabled: prometheus?.enabled,
        limits: proxy.limits,
        scrape_timeout_offset: proxy.scrape_timeout_offset,
        worker_threads: proxy.worker_threads,
        log_format: proxy.log_format,
        advertise: proxy.advertise,
        status_page: proxy.status_page,
        http_reload: proxy.http_reload,
        reload_interval: proxy.reload_interval,
        enrol_from: security.enrol_from,
        enrol_window: security.enrol_window,
        enrol_key: security.enrol_key,
        exporters: Vec::new(),
    })
}

/// The command line's address, else `[default] address` and `port`.
fn listen(
    document: &Document,
    sources: &Sources,
    diagnostics: &mut Diagnostics,
) -> Result<SocketAddr, Reported> {
    // Here and below, every key is read before the first `?`, so that all errors are found.
    let mut reader = SectionReader::of_table(document, &keys::DEFAULT, diagnostics);
    let address = reader.read_or("address", values::address, "0.0.0.0");
    let port = reader.read_or("port", values::port, "3333");
    let written = SocketAddr::new(address?, port?.get());
    Ok(sources.listen.unwrap_or(written))
}

const TLS_LEVELS: &[(&str, TlsLevel)] = &[
    ("lax", TlsLevel::Lax),
    ("intermediate", TlsLevel::Intermediate),
    ("modern", TlsLevel::Modern),
];

/// The keys of `[default]` that neither [`listen`] nor [`security`] reads.
struct Default {
    tls_level: TlsLevel,
    basic_auth: Option<Located<BasicAuth>>,
}

impl Default {
    fn read(document: &Document, diagnostics: &mut Diagnostics) -> Result<Self, Reported> {
        let mut reader = SectionReader::of_table(document, &keys::DEFAULT, diagnostics);
        let tls_level =
            reader.read_or("tls-security-level", values::one_of(TLS_LEVELS), "intermediate");
        let basic_auth = reader.read("auth", basic_auth::parse);
        Ok(Self { tls_level: tls_level?, basic_auth: basic_auth? })
    }
}

/// `[prometheus]`.
struct Prometheus {
    enabled: bool,
    exporters: PathBuf,
}

impl Prometheus {
    fn read(document: &Document, diagnostics: &mut Diagnostics) -> Result<Self, Reported> {
        let mut reader = SectionReader::of_table(document, &keys::PROMETHEUS, diagnostics);
        let enabled = reader.read_or("enabled", values::boolean, "True");
        let exporters = reader.path("exporters")?;
        Ok(Self {
            enabled: enabled?,
            exporters: exporters
                .map_or_else(|| Self::default_path(document), |located| located.value),
        })
    }

    fn default_path(document: &Document) -> PathBuf {
        document.folder().join("prometheus_exporters.ini")
    }
}

const LOG_FORMATS: &[(&str, LogFormat)] = &[("text", LogFormat::Text), ("json", LogFormat::Json)];

/// The keys of `[proxy]` that [`security`] does not read.
struct Proxy {
    limits: Limits,
    scrape_timeout_offset: Duration,
    worker_threads: Option<NonZeroUsize>,
    log_format: LogFormat,
    advertise: Option<Advertised>,
    status_page: bool,
    http_reload: bool,
    reload_interval: Budget,
}

impl Proxy {
    fn read(document: &Document, diagnostics: &mut Diagnostics) -> Result<Self, Reported> {
        let mut reader = SectionReader::of_table(document, &keys::PROXY, diagnostics);
        let limits = limits(&mut reader);
        let offset = reader.read_or("scrape-timeout-offset", values::seconds_or_none, "0.25");
        let worker_threads = reader.read("worker-threads", values::threads);
        let log_format = reader.read_or("log-format", values::one_of(LOG_FORMATS), "text");
        let advertise = reader.read("advertise", endpoint::advertised);
        let status_page = reader.read_or("status-page", values::boolean, "True");
        let http_reload = reader.read_or("http-reload", values::boolean, "False");
        let reload_interval = reader.read_or("reload-interval", values::seconds, "30");
        Ok(Self {
            limits: limits?,
            scrape_timeout_offset: offset?,
            worker_threads: worker_threads?.map(|located| located.value),
            log_format: log_format?,
            advertise: advertise?.map(|located| located.value),
            status_page: status_page?,
            http_reload: http_reload?,
            reload_interval: reload_interval?,
        })
    }
}

fn limits(reader: &mut SectionReader<'_>) -> Result<Limits, Reported> {
    let handshake_timeout = reader.read_or("handshake-timeout", values::seconds, "5");
    let header_timeout = reader.read_or("header-timeout", values::seconds, "5");
    let idle_timeout = reader.read_or("idle-timeout", values::seconds, "330");
    let stall_timeout = reader.read_or("stall-timeout", values::seconds, "10");
    let drain_timeout = reader.read_or("drain-timeout", values::seconds, "30");
    let max_connections = reader.read_or("max-connections", values::count, "4096");
    let max_handshakes = reader.read_or("max-handshakes", values::count, "256");
    let max_connections_per_ip = reader.read_or("max-connections-per-ip", values::count, "512");
    Ok(Limits {
        handshake_timeout: handshake_timeout?,
        header_timeout: header_timeout?,
        idle_timeout: idle_timeout?,
        stall_timeout: stall_timeout?,
        drain_timeout: drain_timeout?,
        max_connections: max_connections?,
        max_handshakes: max_handshakes?,
        max_connections_per_ip: max_connections_per_ip?,
    })
}
