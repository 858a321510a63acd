//! The two INI files as types: text, then raw values with their line, then values that cannot be
//! wrong.
//!
//! All errors of both files are reported at once, each with file, line, section and key. The
//! configuration only names other files, such as certificates, keys and password files.
//! `service::assets` reads them, and reports their problems the same way.

mod basic_auth;
mod clients;
mod daemon;
mod diagnostics;
mod endpoint;
mod exporters;
mod folders;
mod ini;
mod keys;
mod line;
mod section_reader;
mod security;
mod text;
mod values;

use std::{
    net::SocketAddr,
    num::{NonZeroU32, NonZeroUsize},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

pub use self::{
    basic_auth::{BasicAuth, Password},
    clients::{AddressRange, ClientPattern},
    diagnostics::{Diagnostic, Diagnostics, Located, Location, Severity},
    endpoint::{Advertised, Scheme},
    folders::{agent_folder, own_folder},
    security::{KeyKind, TlsLevel},
};
use self::{
    ini::{Document, SectionNames},
    section_reader::Reported,
};
use crate::common::{
    deadline::Budget,
    exporter::{ExporterName, ExporterPath, ScrapeRules, Target},
    file::FileSet,
};

/// Which files to read, and what the command line overrides.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The path of `config.ini`. If absent, the first of [`own_folder`] and [`agent_folder`] that
    /// contains one.
    pub config: Option<PathBuf>,
    /// The exporters file, instead of `[prometheus] exporters`.
    pub exporters: Option<PathBuf>,
    /// The listen address, instead of `[default] address` and `port`.
    pub listen: Option<SocketAddr>,
}

impl Sources {
    /// Fixes the path of `config.ini` that is found now, so that a process keeps the file with
    /// which it started. The path stays absent if no folder has the file.
    #[must_use]
    pub fn settled(self) -> Self {
        Self { config: self.config.or_else(folders::find), ..self }
    }

    /// The `config.ini` that is read. If no folder has one, the path in scrapegate's own folder.
    #[must_use]
    pub fn config_file(&self) -> PathBuf {
        let [own, _] = folders::candidates();
        self.config.clone().or_else(folders::find).unwrap_or(own)
    }
}

/// The contents of both files.
#[derive(Clone, Debug)]
pub struct Config {
    /// The listen address: `[default] address` and `port`. Default 0.0.0.0:3333.
    pub listen: SocketAddr,
    /// How connections from scrapers are secured.
    pub security: Security,
    /// `[default] tls-security-level`. Default `intermediate`.
    pub tls_level: TlsLevel,
    /// `[default] auth`: HTTP Basic in addition to the client certificate.
    pub basic_auth: Option<Located<BasicAuth>>,
    /// `[proxy] client-allow`. If empty, every certificate that the CA signed is accepted.
    pub client_allow: Vec<ClientPattern>,
    /// `[prometheus] enabled`. Default true. If false, `/prometheus` answers 404.
    pub prometheus_enabled: bool,
    /// Timeouts and limits for connections.
    pub limits: Limits,
    /// `[proxy] scrape-timeout-offset`: subtracted from the scrape timeout that Prometheus
    /// announces. Default 0.25 s.
    pub scrape_timeout_offset: Duration,
    /// `[proxy] worker-threads`. If absent, the number of cores.
    pub worker_threads: Option<NonZeroUsize>,
    /// `[proxy] log-format`. Default `text`.
    pub log_format: LogFormat,
    /// `[proxy] advertise`: where scrapers reach the proxy, for discovery. If absent, discovery
    /// uses the request's `Host`.
    pub advertise: Option<Advertised>,
    /// `[proxy] status-page`. Default true.
    pub status_page: bool,
    /// `[proxy] http-reload`: whether `POST /-/reload` is allowed. Default false.
    pub http_reload: bool,
    /// `[proxy] reload-interval`: how often the files are checked for changes. Default 30 s.
    pub reload_interval: Budget,
    /// `[proxy] enrol-from`: the addresses that may enroll the host. If empty, all addresses.
    pub enrol_from: Vec<AddressRange>,
    /// `[proxy] enrol-window`, counted from the start of the process. If absent, enrollment is never
    /// closed.
    pub enrol_window: Option<Budget>,
    /// `[proxy] enrol-key`: the kind of the key that enrollment generates. Default RSA-4096.
    pub enrol_key: KeyKind,
    /// All sections of the exporters file in file order, including disabled exporters.
    pub exporters: Vec<ExporterConfig>,
}

/// How connections from scrapers are secured.
#[derive(Clone, Debug)]
pub enum Security {
    /// TLS, the usual case.
    Tls(Box<TlsFiles>),
    /// `[proxy] insecure-plain-http = True`, allowed only on a loopback address.
    InsecurePlainHttp,
}

impl Security {
    /// The scheme of the URLs that scrapers use.
    #[must_use]
    pub fn scheme(&self) -> Scheme {
        match self {
            Self::Tls(_) => Scheme::Https,
            Self::InsecurePlainHttp => Scheme::Http,
        }
    }
}

/// The paths of the TLS server's files. The files are not read yet.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The other `autossl-*` files, if enrollment writes the certificate.
    pub enrolment: Option<EnrolmentFiles>,
    /// `certfile` or `autossl-crt-file`.
    pub certificate: Located<PathBuf>,
    /// `keyfile` or `autossl-key-file`.
    pub key: Located<PathBuf>,
    /// Which client certificates are accepted.
    pub clients: ClientAuth,
}

/// The files that enrollment writes in addition to the certificate and the key.
#[derive(Clone, Debug)]
pub struct EnrolmentFiles {
    /// `autossl-csr-file`.
    pub signing_request: Located<PathBuf>,
    /// `autossl-ca-file`, even if `client-ca` replaces it for verifying clients.
    pub ca: Located<PathBuf>,
}

/// `[proxy] client-auth`.
#[derive(Clone, Debug)]
pub enum ClientAuth {
    /// A client certificate is required.
    Require {
        /// `client-ca`, else `autossl-ca-file`.
        ca: Located<PathBuf>,
        /// `client-crl`.
        crl: Option<Located<PathBuf>>,
    },
    /// No client certificate is requested (`client-auth = none`).
    None,
}

/// `[proxy] log-format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// Lines of text.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// Timeouts and limits for connections (`[proxy]`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The limit of a TLS handshake, from accept to its end. Default 5 s.
    pub handshake_timeout: Budget,
    /// The limit of a request's head, from its first byte (or from the end of the handshake) to its
    /// last byte. Default 5 s.
    pub header_timeout: Budget,
    /// How long a connection may be idle between two requests. Default 330 s.
    pub idle_timeout: Budget,
    /// How long a write may wait for the socket to accept a byte. It is also the limit of a whole
    /// response of the proxy itself. Default 10 s.
    pub stall_timeout: Budget,
    /// How long scrapes in flight may continue after `SIGTERM`. Default 30 s.
    pub drain_timeout: Budget,
    /// The largest number of concurrent connections. Default 4096.
    pub max_connections: NonZeroU32,
    /// The largest number of unfinished handshakes. Default 256.
    pub max_handshakes: NonZeroU32,
    /// The largest number of concurrent connections from one address. Default 512.
    pub max_connections_per_ip: NonZeroU32,
}

/// One section of the exporters file.
#[derive(Clone, Debug)]
pub struct ExporterConfig {
    /// The section's name, and its place in the file.
    pub name: Located<ExporterName>,
    /// Whether the exporter is enabled. Default false. A disabled exporter is treated as absent.
    pub enabled: bool,
    /// The TLS settings of `method = https`. `None` for `http`, the default.
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

/// The TLS settings of `method = https`. The files are not read yet.
#[derive(Clone, Debug)]
pub struct UpstreamTlsConfig {
    /// `ca-file`. If absent, the system's trust store.
    pub ca: Option<Located<PathBuf>>,
    /// `cert-file` and `key-file`.
    pub client_pair: Option<(Located<PathBuf>, Located<PathBuf>)>,
    /// `server-name`. If absent, `host` (or `localhost` for a Unix socket).
    pub server_name: rustls::pki_types::ServerName<'static>,
    /// `insecure-skip-verify`. Default false.
    pub skip_verify: bool,
}

/// Credentials for an exporter. The files are not read yet.
#[derive(Clone, Debug)]
pub enum Credentials {
    /// `username` and `password-file`.
    Basic {
        /// `username`.
        username: String,
        /// `password-file`.
        password: Located<PathBuf>,
    },
    /// `bearer-token-file`.
    Bearer(Located<PathBuf>),
}

/// Reads the text of an exporters file that does not exist yet. The diagnostics name
/// `prometheus_exporters.ini` as the file.
#[must_use]
pub fn exporters_in(text: &str) -> (Vec<ExporterConfig>, Diagnostics) {
    let file = Arc::new(PathBuf::from("prometheus_exporters.ini"));
    let mut diagnostics = Diagnostics::default();
    let mut document = ini::parse(&file, text, SectionNames::ByteForByte, &mut diagnostics);
    keys::check_exporters(&mut document, &mut diagnostics);
    let exporters = exporters::read(&document, &mut diagnostics);
    diagnostics.tidy();
    (exporters, diagnostics)
}

/// Parses `text` as a value of `[proxy] advertise`; `None` if it is not valid.
#[must_use]
pub fn advertised(text: &str) -> Option<Advertised> {
    endpoint::advertised(text).ok()
}

/// Reads both files and reports all problems.
///
/// The first value is `None` if a diagnostic is an error. The second value has all diagnostics.
#[must_use]
pub fn load(sources: &Sources) -> (Option<Config>, Diagnostics) {
    let (config, diagnostics) = survey(sources, &mut FileSet::default());
    (config.filter(|_| !diagnostics.has_errors()), diagnostics)
}

/// Like [`load`], but returns what could be read even if other parts have errors. The caller can
/// then check the files that the configuration names, and report their errors too. A configuration
/// with errors is not fit for use.
///
/// The files that were read are added to `files`.
#[must_use]
pub fn survey(sources: &Sources, files: &mut FileSet) -> (Option<Config>, Diagnostics) {
    let mut all = Diagnostics::default();
    let names = SectionNames::IgnoreCase;
    let daemon = config_file(sources, &mut all).and_then(|file| {
        with_document(&file, names, files, &mut all, |document, diagnostics| {
            keys::check_daemon(document, diagnostics);
            daemon::read(document, sources, diagnostics)
        })
    });
    // Without a `config.ini`, only the command line can name the exporters file.
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

/// The valid sections of the exporters file, for commands that look at one exporter and serve
/// nothing. The diagnostics describe the other sections.
///
/// If [`Sources::exporters`] is absent, `config.ini` is read for the path of the exporters file.
/// Errors in `config.ini` are reported only if they hide that path.
#[must_use]
pub fn exporters(sources: &Sources) -> (Vec<ExporterConfig>, Diagnostics) {
    let (mut all, mut files) = (Diagnostics::default(), FileSet::default());
    let file = sources.exporters.clone().or_else(|| {
        let mut mistakes = Diagnostics::default();
        let names = SectionNames::IgnoreCase;
        let read = |document: &mut Document, diagnostics: &mut Diagnostics| {
            daemon::read(document, sources, diagnostics).exporters
        };
        let file = config_file(sources, &mut all).ok()?;
        match with_document(&file, names, &mut files, &mut mistakes, read) {
            Ok(Some(path)) => return Some(path),
            Ok(None) => {
                let message = "`[prometheus] enabled` is False, so no exporters are configured";
                all.push(Diagnostic::error(Location::of_file(&file), message));
            }
            Err(Reported) => all.extend(mistakes),
        }
        None
    });
    let exporters = file.and_then(|file| read_exporters(file, &mut files, &mut all).ok());
    (exporters.unwrap_or_default(), all)
}

/// The `config.ini` to read. If no folder has one, the diagnostic names all places that were
/// searched.
fn config_file(sources: &Sources, all: &mut Diagnostics) -> Result<Arc<PathBuf>, Reported> {
    let file = Arc::new(sources.config_file());
    if sources.config.is_some() || folders::find().is_some() {
        return Ok(file);
    }
    let [_, agents] = folders::candidates();
    all.push(Diagnostic::error(
        Location::of_file(&file),
        format!(
            "the file does not exist, and {} does not exist either; name the file with --config",
            agents.display()
        ),
    ));
    Err(Reported)
}

fn read_exporters(
    file: PathBuf,
    files: &mut FileSet,
    all: &mut Diagnostics,
) -> Result<Vec<ExporterConfig>, Reported> {
    with_document(
        &Arc::new(file),
        SectionNames::ByteForByte,
        files,
        all,
        |document, diagnostics| {
            keys::check_exporters(document, diagnostics);
            exporters::read(document, diagnostics)
        },
    )
}

/// Reads `file` and passes it to `interpret`. Adds the diagnostics, ordered by line.
fn with_document<T>(
    file: &Arc<PathBuf>,
    names: SectionNames,
    files: &mut FileSet,
    all: &mut Diagnostics,
    interpret: impl FnOnce(&mut Document, &mut Diagnostics) -> T,
) -> Result<T, Reported> {
    let mut diagnostics = Diagnostics::default();
    let result = match text::read(file, files) {
        Ok(text) => {
            let mut document = ini::parse(file, &text, names, &mut diagnostics);
            Ok(interpret(&mut document, &mut diagnostics))
        }
        Err(error) => {
            let location = Location { line: error.line(), ..Location::of_file(file) };
            diagnostics.push(Diagnostic::error(location, error.to_string()));
            Err(Reported)
        }
    };
    diagnostics.tidy();
    all.extend(diagnostics);
    result
}
