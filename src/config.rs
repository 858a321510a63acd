//! The two INI files as types: text → raw values with their line → values that cannot be wrong.
//!
//! Every mistake of both files is reported at once, each with file, line, section and key. Files
//! that the configuration names (certificates, keys, password files) are only named here;
//! [`crate::assets`] reads them and reports what is wrong with them the same way.

mod clients;
mod daemon;
mod exporters;
mod findings;
mod folders;
mod ini;
mod keys;
mod line;
mod read;
mod reader;
mod security;
mod values;

use std::{
    net::SocketAddr,
    num::{NonZeroU32, NonZeroUsize},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

pub use self::{
    findings::{Finding, Findings, Origin, Severity, Sourced},
    folders::{agent_folder, own_folder},
};
use self::{
    ini::{Document, SectionNames},
    reader::Reported,
};
pub use crate::{
    access::{AddressRange, BasicAuth, ClientPattern, Password},
    enrol::KeyKind,
    tls::TlsLevel,
};
use crate::{
    deadline::Budget,
    discovery::{Advertised, Scheme},
    exporter::{ExporterName, ExporterPath, ScrapeRules, Target},
    file::Files,
};

/// Which files to read, and what the command line overrides.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// `config.ini`; when absent, that of the first of [`own_folder`] and [`agent_folder`] that has
    /// one.
    pub config: Option<PathBuf>,
    /// The exporters file, in place of `[prometheus] exporters`.
    pub exporters: Option<PathBuf>,
    /// The listen address, in place of `[default] address` and `port`.
    pub listen: Option<SocketAddr>,
}

impl Sources {
    /// The same with the `config.ini` that there is now, so that a process keeps to the file that it
    /// began with. Still without one if no folder has it.
    #[must_use]
    pub fn settled(self) -> Self {
        Self { config: self.config.or_else(folders::find), ..self }
    }

    /// The `config.ini` that is read; scrapegate's own if no folder has one.
    #[must_use]
    pub fn config_file(&self) -> PathBuf {
        let [own, _] = folders::candidates();
        self.config.clone().or_else(folders::find).unwrap_or(own)
    }
}

/// Everything both files say.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen.
    pub listen: SocketAddr,
    /// How connections from scrapers are secured.
    pub security: Security,
    /// `[default] tls-security-level`.
    pub tls_level: TlsLevel,
    /// `[default] auth`: HTTP Basic in addition to the client certificate.
    pub basic_auth: Option<Sourced<BasicAuth>>,
    /// `[proxy] client-allow`: empty means every certificate that the CA signed.
    pub client_allow: Vec<ClientPattern>,
    /// `[prometheus] enabled`; when false `/prometheus` answers 404.
    pub prometheus_enabled: bool,
    /// Times and caps for whoever connects.
    pub limits: Limits,
    /// `[proxy] scrape-timeout-offset`: subtracted from what Prometheus says it will wait.
    pub scrape_timeout_offset: Duration,
    /// `[proxy] worker-threads`; the number of cores when absent.
    pub worker_threads: Option<NonZeroUsize>,
    /// `[proxy] log-format`.
    pub log_format: LogFormat,
    /// `[proxy] advertise`: where scrapers reach the proxy, for discovery.
    pub advertise: Option<Advertised>,
    /// `[proxy] status-page`.
    pub status_page: bool,
    /// `[proxy] http-reload`.
    pub http_reload: bool,
    /// `[proxy] reload-interval`.
    pub reload_interval: Budget,
    /// `[proxy] enrol-from`; empty means everyone.
    pub enrol_from: Vec<AddressRange>,
    /// `[proxy] enrol-window`.
    pub enrol_window: Option<Budget>,
    /// `[proxy] enrol-key`.
    pub enrol_key: KeyKind,
    /// All sections of the exporters file in file order, disabled ones too.
    pub exporters: Vec<ExporterConfig>,
}

/// How connections from scrapers are secured.
#[derive(Clone, Debug)]
pub enum Security {
    /// TLS; the usual case.
    Tls(Box<TlsFiles>),
    /// `[proxy] insecure-plain-http = True`, only on a loopback address.
    InsecurePlainHttp,
}

impl Security {
    /// How scrapers speak to the proxy.
    #[must_use]
    pub fn scheme(&self) -> Scheme {
        match self {
            Self::Tls(_) => Scheme::Https,
            Self::InsecurePlainHttp => Scheme::Http,
        }
    }
}

/// The files of the TLS server, not read yet.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The other `autossl-*` files, if enrolment is what writes these.
    pub enrolment: Option<EnrolmentFiles>,
    /// `certfile` or `autossl-crt-file`.
    pub certificate: Sourced<PathBuf>,
    /// `keyfile` or `autossl-key-file`.
    pub key: Sourced<PathBuf>,
    /// Whose certificates are let in.
    pub clients: ClientAuth,
}

/// What enrolment writes beside certificate and key.
#[derive(Clone, Debug)]
pub struct EnrolmentFiles {
    /// `autossl-csr-file`.
    pub signing_request: Sourced<PathBuf>,
    /// `autossl-ca-file`, whether or not `client-ca` takes its place for clients.
    pub ca: Sourced<PathBuf>,
}

/// `[proxy] client-auth`.
#[derive(Clone, Debug)]
pub enum ClientAuth {
    /// A client certificate is required.
    Require {
        /// `client-ca`, else `autossl-ca-file`.
        ca: Sourced<PathBuf>,
        /// `client-crl`.
        crl: Option<Sourced<PathBuf>>,
    },
    /// `client-auth = none`, written out.
    None,
}

/// `[proxy] log-format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// One line for people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Times and caps for whoever connects (`[proxy]`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// TLS handshake, from accept to its end. Default 5 s.
    pub handshake_timeout: Budget,
    /// A request's head, from its first byte (or from the end of the handshake) to its last.
    /// Default 5 s.
    pub header_timeout: Budget,
    /// Between two requests of a connection. Default 330 s.
    pub idle_timeout: Budget,
    /// A write of which the socket takes no byte, and a whole answer of the proxy's own. Default 10 s.
    pub stall_timeout: Budget,
    /// After `SIGTERM`, for scrapes in flight. Default 30 s.
    pub drain_timeout: Budget,
    /// Connections at the same time. Default 4096.
    pub max_connections: NonZeroU32,
    /// Unfinished handshakes at the same time. Default 256.
    pub max_handshakes: NonZeroU32,
    /// Connections of one address at the same time. Default 512.
    pub max_connections_per_ip: NonZeroU32,
}

/// One section of the exporters file.
#[derive(Clone, Debug)]
pub struct ExporterConfig {
    /// The section's name, and where it stands.
    pub name: Sourced<ExporterName>,
    /// A disabled exporter is as good as absent.
    pub enabled: bool,
    /// `http` (`None`) or `https` with its files.
    pub tls: Option<UpstreamTlsConfig>,
    /// `host` and `port`, or `socket`.
    pub target: Target,
    /// `path`.
    pub path: ExporterPath,
    /// `username` and `password-file`, or `bearer-token-file`.
    pub credentials: Option<Credentials>,
    /// `interval` to `integrity`.
    pub rules: ScrapeRules,
}

/// `method = https`: files and names, not read yet.
#[derive(Clone, Debug)]
pub struct UpstreamTlsConfig {
    /// `ca-file`; the system's trust store when absent.
    pub ca: Option<Sourced<PathBuf>>,
    /// `cert-file` and `key-file`.
    pub client_pair: Option<(Sourced<PathBuf>, Sourced<PathBuf>)>,
    /// `server-name`, else `host` (or `localhost` on a Unix socket).
    pub server_name: rustls::pki_types::ServerName<'static>,
    /// `insecure-skip-verify`.
    pub skip_verify: bool,
}

/// Credentials towards an exporter; the files are not read yet.
#[derive(Clone, Debug)]
pub enum Credentials {
    /// `username` and `password-file`.
    Basic {
        /// `username`.
        username: String,
        /// `password-file`.
        password: Sourced<PathBuf>,
    },
    /// `bearer-token-file`.
    Bearer(Sourced<PathBuf>),
}

/// The sections of an exporters file that is not written yet; findings name no real file.
#[must_use]
pub fn exporters_in(text: &str) -> (Vec<ExporterConfig>, Findings) {
    let file = Arc::new(PathBuf::from("prometheus_exporters.ini"));
    let mut findings = Findings::default();
    let mut document = ini::parse(&file, text, SectionNames::ByteForByte, &mut findings);
    keys::check_exporters(&mut document, &mut findings);
    let exporters = exporters::read(&document, &mut findings);
    findings.tidy();
    (exporters, findings)
}

/// What `[proxy] advertise = text` would mean.
#[must_use]
pub fn advertised(text: &str) -> Option<Advertised> {
    values::advertise(text).ok()
}

/// Reads both files and reports all that is wrong with them.
///
/// The second value has every finding; the first is there when none of them is an error.
#[must_use]
pub fn load(sources: &Sources) -> (Option<Config>, Findings) {
    let (config, findings) = survey(sources, &mut Files::default());
    (config.filter(|_| !findings.has_errors()), findings)
}

/// The same, but with what could be read although something else is wrong: for looking into the
/// files that it names, so that their mistakes are reported too. It is not fit to run on.
///
/// What was read is added to `files`.
#[must_use]
pub fn survey(sources: &Sources, files: &mut Files) -> (Option<Config>, Findings) {
    let mut all = Findings::default();
    let names = SectionNames::IgnoreCase;
    let daemon = config_file(sources, &mut all).and_then(|file| {
        with_document(&file, names, files, &mut all, |document, findings| {
            keys::check_daemon(document, findings);
            daemon::read(document, sources, findings)
        })
    });
    // Without a `config.ini` only the command line can say which exporters file is meant.
    let (config, file) = match daemon {
        Ok(daemon) => {
            let file = daemon.exporters;
            let file = file.map(|file| sources.exporters.clone().unwrap_or(file));
            (daemon.config, file)
        }
        Err(reported) => (Err(reported), sources.exporters.clone()),
    };
    let exporters = file.map_or(Ok(Vec::new()), |file| read_exporters(file, files, &mut all));
    let config =
        config.ok().map(|config| Config { exporters: exporters.unwrap_or_default(), ..config });
    debug_assert!(config.is_some() || all.has_errors(), "{all}");
    (config, all)
}

/// The sections of the exporters file, for looking at one exporter where nothing is served.
///
/// Only those that are right: the findings have what is wrong with the others. `config.ini` is read
/// only without [`Sources::exporters`], for the file's path; its own mistakes are reported where
/// they hide that.
#[must_use]
pub fn exporters(sources: &Sources) -> (Vec<ExporterConfig>, Findings) {
    let (mut all, mut files) = (Findings::default(), Files::default());
    let file = sources.exporters.clone().or_else(|| {
        let mut mistakes = Findings::default();
        let names = SectionNames::IgnoreCase;
        let read = |document: &mut Document, findings: &mut Findings| {
            daemon::read(document, sources, findings).exporters
        };
        let file = config_file(sources, &mut all).ok()?;
        match with_document(&file, names, &mut files, &mut mistakes, read) {
            Ok(Some(path)) => return Some(path),
            Ok(None) => {
                let message = "`[prometheus] enabled` is False, so no exporters are configured";
                all.push(Finding::error(Origin::of_file(&file), message));
            }
            Err(Reported) => all.extend(mistakes),
        }
        None
    });
    let exporters = file.and_then(|file| read_exporters(file, &mut files, &mut all).ok());
    (exporters.unwrap_or_default(), all)
}

/// The `config.ini` to read. If there is none, that is reported with every place that was looked at.
fn config_file(sources: &Sources, all: &mut Findings) -> Result<Arc<PathBuf>, Reported> {
    let file = Arc::new(sources.config_file());
    if sources.config.is_some() || folders::find().is_some() {
        return Ok(file);
    }
    let [_, agents] = folders::candidates();
    all.push(Finding::error(
        Origin::of_file(&file),
        format!(
            "the file does not exist, and {} does not exist either; name the file with --config",
            agents.display()
        ),
    ));
    Err(Reported)
}

fn read_exporters(
    file: PathBuf,
    files: &mut Files,
    all: &mut Findings,
) -> Result<Vec<ExporterConfig>, Reported> {
    with_document(&Arc::new(file), SectionNames::ByteForByte, files, all, |document, findings| {
        keys::check_exporters(document, findings);
        exporters::read(document, findings)
    })
}

/// Reads `file` and has `interpret` look at it; adds what was found, by line.
fn with_document<T>(
    file: &Arc<PathBuf>,
    names: SectionNames,
    files: &mut Files,
    all: &mut Findings,
    interpret: impl FnOnce(&mut Document, &mut Findings) -> T,
) -> Result<T, Reported> {
    let mut findings = Findings::default();
    let result = match read::text(file, files) {
        Ok(text) => {
            let mut document = ini::parse(file, &text, names, &mut findings);
            Ok(interpret(&mut document, &mut findings))
        }
        Err(error) => {
            let origin = Origin { line: error.line(), ..Origin::of_file(file) };
            findings.push(Finding::error(origin, error.to_string()));
            Err(Reported)
        }
    };
    findings.tidy();
    all.extend(findings);
    result
}
