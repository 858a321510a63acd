//! Reads all files that the configuration names.

use std::path::{Path, PathBuf};

use hyper::header::HeaderValue;
use rustls::pki_types::CertificateDer;
use time::OffsetDateTime;

use super::{
    pem_files::{Certificates, FileReader, FileUses, ders},
    upstream_tls,
    validity::{self, CertificateFile},
};
use crate::{
    common::{
        exporter::{Authorization, Exporter, UpstreamTls},
        file::{self, FileSet},
    },
    config::{
        ClientAuth, Config, Credentials, Diagnostic, Diagnostics, EnrolmentFiles, ExporterConfig,
        Located, TlsFiles, TlsLevel, Transport, UpstreamTlsConfig,
    },
    downstream::serving::ListenerMode,
    http::access::Access,
    scrape::exporters::Exporters,
    tls::{
        self, Clients, ServerTls, date,
        inspect::{self, Anchors, Own},
        pem::Purpose,
    },
};

/// Everything that a server needs besides the values of the configuration.
#[derive(Debug)]
pub struct Assets {
    /// How new connections are handled.
    pub mode: ListenerMode,
    /// The enabled exporters; `None` if `[prometheus] enabled = False`.
    pub exporters: Option<Exporters>,
    /// Which clients are authorized.
    pub access: Access,
    /// The certificates in use and their validity, for `check`, warnings and metrics.
    pub certificates: Vec<CertificateFile>,
    /// The revocation lists in use, with the time from which they are out of date.
    pub revocation_lists: Vec<CertificateFile>,
}

impl Assets {
    /// The validity of all certificates and revocation lists in use.
    #[must_use]
    pub fn validities(&self) -> Vec<CertificateFile> {
        self.certificates.iter().chain(&self.revocation_lists).cloned().collect()
    }
}

/// Reads all files, and adds them to `files`.
///
/// The first value is `None` if a diagnostic is an error. The second value has all diagnostics.
#[must_use]
pub fn load(config: &Config, files: &mut FileSet) -> (Option<Assets>, Diagnostics) {
    let mut loader = Loader::new(files);
    let mode = match &config.listener.transport {
        Transport::InsecurePlainHttp => Some(ListenerMode::PlainHttp),
        Transport::Tls(files) => loader.mode(config.listener.tls_level, files),
    };
    if let Some(auth) = &config.access.basic_auth {
        loader.reader.basic_auth(auth);
    }
    let exporters = config.scrapes.enabled.then(|| loader.exporters(&config.exporters));
    // The client that enrolls this host has no certificate that `client-allow` could match.
    let client_allow = match mode {
        Some(ListenerMode::NotEnrolled) => Vec::new(),
        Some(ListenerMode::Tls(_) | ListenerMode::PlainHttp) | None => {
            config.access.client_allow.clone()
        }
    };
    let access =
        Access::new(client_allow, config.access.basic_auth.as_ref().map(|auth| auth.value.clone()));
    let diagnostics = loader.reader.diagnostics;
    let assets = match mode {
        Some(mode) if !diagnostics.has_errors() => {
            let Loader { certificates, revocation_lists, .. } = loader;
            Some(Assets { mode, exporters, access, certificates, revocation_lists })
        }
        Some(_) | None => None,
    };
    (assets, diagnostics)
}

/// Reads the files of one exporter, even if the exporter is disabled.
///
/// The first value is `None` if a diagnostic is an error. The second value has all diagnostics.
#[must_use]
pub fn exporter(config: &ExporterConfig) -> (Option<Exporter>, Diagnostics) {
    let mut files = FileSet::default();
    let mut loader = Loader::new(&mut files);
    let exporter = loader.exporter(config);
    let diagnostics = loader.reader.diagnostics;
    (exporter.filter(|_| !diagnostics.has_errors()), diagnostics)
}

/// Reads the files of a TLS client. A problem that concerns none of the files is reported at
/// `owner`.
///
/// The first value is `None` if a diagnostic is an error. The second value has all diagnostics.
#[must_use]
pub fn client_tls<T>(
    tls: &UpstreamTlsConfig,
    owner: &Located<T>,
) -> (Option<UpstreamTls>, Diagnostics) {
    let mut files = FileSet::default();
    let mut reader = FileReader::new(&mut files);
    let tls = upstream_tls::load(&mut reader, owner, tls);
    let diagnostics = reader.diagnostics;
    (tls.filter(|_| !diagnostics.has_errors()), diagnostics)
}

/// The `Authorization` header for `user` with the password from a file. The file must satisfy the
/// same rules as every secret.
///
/// The first value is `None` if a diagnostic is an error. The second value has all diagnostics.
pub fn basic_authorization(
    user: &str,
    password: &Located<PathBuf>,
) -> (Option<HeaderValue>, Diagnostics) {
    let mut files = FileSet::default();
    let mut reader = FileReader::new(&mut files);
    let value = reader.secret(password).and_then(|secret| {
        let value = HeaderValue::from_str(&basic(user, &secret)).ok();
        if value.is_none() {
            reader.diagnostics.push(password.error(UNSENDABLE));
        }
        value
    });
    let diagnostics = reader.diagnostics;
    (value.filter(|_| !diagnostics.has_errors()), diagnostics)
}

/// The diagnostic about a secret that an HTTP header cannot contain.
const UNSENDABLE: &str = "contains a character that an HTTP header cannot contain";

fn basic(user: &str, password: &str) -> String {
    let pair = format!("{user}:{password}");
    let token = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, pair);
    format!("Basic {token}")
}

struct Loader<'a> {
    reader: FileReader<'a>,
    now: OffsetDateTime,
    certificates: Vec<CertificateFile>,
    revocation_lists: Vec<CertificateFile>,
}

impl<'a> Loader<'a> {
    fn new(files: &'a mut FileSet) -> Self {
        Self {
            reader: FileReader::new(files),
            now: OffsetDateTime::now_utc(),
            certificates: Vec::new(),
            revocation_lists: Vec::new(),
        }
    }

    fn report(&mut self, diagnostic: Diagnostic) {
        self.reader.diagnostics.push(diagnostic);
    }

    fn mode(&mut self, level: TlsLevel, files: &TlsFiles) -> Option<ListenerMode> {
        match &files.enrolment {
            Some(enrolment) if self.reader.is_missing(&files.certificate) => {
                self.before_enrolment(files, enrolment);
                Some(ListenerMode::NotEnrolled)
            }
            Some(_) | None => self.server(level, files).map(ListenerMode::Tls),
        }
    }

    /// Reports now what would fail once the host has its certificate.
    fn before_enrolment(&mut self, files: &TlsFiles, enrolment: &EnrolmentFiles) {
        self.report(files.certificate.warning(format!(
            "{} does not exist, so this host is not enrolled. Until enrollment, the port speaks \
             plain HTTP and serves only /autotls, where an openITCOCKPIT server can enroll this host",
            files.certificate.value.display()
        )));
        let uses = uses(files);
        if !self.reader.is_missing(&files.key) {
            self.reader.key(&files.key, &uses);
        }
        for file in [&files.certificate, &files.key, &enrolment.ca] {
            let folder = file.value.parent().unwrap_or(&file.value);
            if !folder.is_dir() {
                let path = file.value.display();
                self.report(file.error(format!("{path}: the folder does not exist")));
            } else if !file::is_writable(folder) {
                self.report(file.warning(format!(
                    "enrollment cannot write {}: this user may not create files in {}",
                    file.value.display(),
                    folder.display()
                )));
            }
        }
        match &files.clients {
            ClientAuth::Require { ca, .. } if ca.value != enrolment.ca.value => {
                self.clients(&files.clients, &uses);
            }
            ClientAuth::Require { crl: Some(crl), .. } => {
                self.reader.revocation_lists(crl, &uses, self.now);
            }
            ClientAuth::Require { crl: None, .. } | ClientAuth::None => {}
        }
    }

    fn server(&mut self, level: TlsLevel, files: &TlsFiles) -> Option<ServerTls> {
        let uses = uses(files);
        let chain = self.reader.certificates(&files.certificate, Purpose::Chain, &uses);
        let key = self.reader.key(&files.key, &uses);
        let clients = self.clients(&files.clients, &uses);
        let placed = chain?;
        let chain = ders(&placed);
        self.server_validity(files, &chain);
        let is_in_order = key.as_ref().is_none_or(|key| self.key_matches(files, &placed, key));
        if is_in_order {
            let own = match files.enrolment {
                Some(_) => Own::EnrolledServer,
                None => Own::Server,
            };
            let problems = inspect::chain(&placed, own, self.now);
            self.reader.problems(&files.certificate, problems);
        }
        let (key, clients) = (key?, clients?);
        match tls::server_tls(level, chain, &key, clients) {
            Ok(tls) => {
                self.note_lists(files, &tls);
                Some(tls)
            }
            Err(error) => {
                let culprit = match (&error, &files.clients) {
                    (tls::ServerConfigError::Key(_), _) => &files.key,
                    (
                        tls::ServerConfigError::Clients(tls::TrustError::Anchor(_)),
                        ClientAuth::Require { ca, .. },
                    ) => ca,
                    (tls::ServerConfigError::Clients(_), ClientAuth::Require { ca, crl }) => {
                        crl.as_ref().unwrap_or(ca)
                    }
                    (tls::ServerConfigError::Clients(_) | tls::ServerConfigError::Tls(_), _) => {
                        &files.certificate
                    }
                };
                let message = crate::common::error::Chain(&error).to_string();
                let diagnostic = culprit.error(message);
                self.report(diagnostic);
                None
            }
        }
    }

    fn clients(&mut self, clients: &ClientAuth, uses: FileUses<'_>) -> Option<Clients> {
        match clients {
            ClientAuth::None => Some(Clients::Anyone),
            ClientAuth::Require { ca, crl } => {
                let anchors = self.reader.certificates(ca, Purpose::ClientAuthorities, uses);
                let lists = match crl {
                    None => Some(Vec::new()),
                    Some(file) => self.reader.revocation_lists(file, uses, self.now),
                };
                let anchors = anchors?;
                self.note_expiry(ca, "clients' CA", &ders(&anchors));
                let problems = inspect::anchors(&anchors, Anchors::OfClients, self.now);
                let mut is_usable = self.reader.problems(ca, problems);
                let lists = lists?;
                if let Some(file) = crl {
                    let (of_anchors, of_lists) = inspect::lists(&anchors, &lists);
                    is_usable &= self.reader.problems(ca, of_anchors);
                    is_usable &= self.reader.problems(file, of_lists);
                }
                is_usable.then(|| Clients::Require {
                    anchors: ders(&anchors),
                    crls: lists.into_iter().map(|(_, der)| der.into()).collect(),
                })
            }
        }
    }

    /// Reports a server certificate that is expired or not valid yet. It would fail every scrape,
    /// so it is an error. With `try-autossl` it is only a warning, because openITCOCKPIT does not
    /// verify the certificate, and renews it over the same port.
    fn server_validity(&mut self, files: &TlsFiles, chain: &[CertificateDer<'static>]) {
        let file = &files.certificate;
        let Some((not_before, not_after)) = chain.first().and_then(tls::validity) else {
            return;
        };
        let now = self.now.unix_timestamp();
        let is_enrolled = files.enrolment.is_some();
        let still_used = "it is still used, so that an openITCOCKPIT server can renew it";
        if now < not_before {
            let message = format!("is not valid before {}", date(not_before));
            self.report(if is_enrolled {
                file.warning(format!("{message}: {still_used}. Check this host's clock"))
            } else {
                file.not_yet(format!("{message}: check this host's clock"))
            });
        } else if now > not_after {
            let message = format!("expired on {}", date(not_after));
            self.report(if is_enrolled {
                file.warning(format!("{message}: {still_used}"))
            } else {
                file.error(message)
            });
        }
        self.note_expiry(file, "server", chain.get(..1).unwrap_or_default());
    }

    /// The verifier knows when the lists are out of date, because only the newest list of each
    /// issuer counts.
    fn note_lists(&mut self, files: &TlsFiles, tls: &ServerTls) {
        let verifier = tls.clients.as_ref();
        let next_update = verifier.and_then(|verifier| verifier.trust().next_update());
        let expires = next_update.and_then(|at| OffsetDateTime::from_unix_timestamp(at).ok());
        if let (ClientAuth::Require { crl: Some(file), .. }, Some(expires)) =
            (&files.clients, expires)
        {
            self.revocation_lists.push(CertificateFile {
                path: file.value.clone(),
                role: validity::LISTS,
                begins: OffsetDateTime::UNIX_EPOCH,
                expires,
            });
        }
    }

    fn note_expiry(
        &mut self,
        file: &Located<PathBuf>,
        role: &'static str,
        certificates: &[CertificateDer<'static>],
    ) {
        let ends = certificates
            .iter()
            .filter_map(|certificate| tls::validity(certificate))
            .map(|(_, not_after)| not_after);
        let Some(first_end) = ends.min() else { return };
        let begins = certificates
            .iter()
            .filter_map(|certificate| tls::validity(certificate))
            .map(|(begins, _)| begins)
            .max();
        let (Ok(begins), Ok(expires)) = (
            OffsetDateTime::from_unix_timestamp(begins.unwrap_or_default()),
            OffsetDateTime::from_unix_timestamp(first_end),
        ) else {
            return;
        };
        if expires > self.now && expires < self.now + validity::EXPIRES_SOON {
            self.report(file.warning(format!(
                "the {role} certificate in {} expires soon, on {}",
                file.value.display(),
                date(first_end)
            )));
        }
        self.certificates.push(CertificateFile { path: file.value.clone(), role, begins, expires });
    }

    /// Whether the key belongs to the first certificate. True if that cannot be determined.
    fn key_matches(
        &mut self,
        files: &TlsFiles,
        chain: &Certificates,
        key: &rustls::pki_types::PrivateKeyDer<'static>,
    ) -> bool {
        // `tls::server_tls` reports a key that cannot be loaded.
        let Ok(key) = tls::provider().key_provider.load_private_key(key.clone_key()) else {
            return true;
        };
        let matches = |(_, certificate): &&(_, CertificateDer<'static>)| {
            tls::server_key_matches(certificate, key.as_ref())
        };
        if chain.first().and_then(|first| matches(&first)) != Some(false) {
            return true;
        }
        if let Some((place, _)) = chain.iter().find(|it| matches(it) == Some(true)) {
            self.report(files.certificate.error(format!(
                "{}: {place} is the certificate for the key, but it is not the first: put it first, \
                 then its issuer, then the CA",
                files.certificate.value.display()
            )));
        } else {
            self.report(files.key.error(format!(
                "does not match the certificate in {}",
                files.certificate.value.display()
            )));
        }
        false
    }

    fn exporters(&mut self, configs: &[ExporterConfig]) -> Exporters {
        configs
            .iter()
            .filter(|config| config.enabled)
            .filter_map(|config| self.exporter(config))
            .collect()
    }

    fn exporter(&mut self, config: &ExporterConfig) -> Option<Exporter> {
        // Both are read before the first `?`, so that an error in one does not hide errors in the
        // other.
        let authorization = match &config.credentials {
            None => Some(None),
            Some(credentials) => self.authorization(credentials).map(Some),
        };
        let tls = match &config.tls {
            None => Some(None),
            Some(tls) => upstream_tls::load(&mut self.reader, &config.name, tls).map(Some),
        };
        Some(Exporter {
            name: config.name.value.clone(),
            target: config.target.clone(),
            tls: tls?,
            path: config.path.clone(),
            authorization: authorization?,
            rules: config.rules.clone(),
        })
    }

    fn authorization(&mut self, credentials: &Credentials) -> Option<Authorization> {
        let (file, value) = match credentials {
            Credentials::Bearer(file) => (file, format!("Bearer {}", self.reader.secret(file)?)),
            Credentials::Basic { username, password } => {
                (password, basic(username, &self.reader.secret(password)?))
            }
        };
        match HeaderValue::from_str(&value) {
            Ok(value) => Some(Authorization::new(value)),
            Err(_) => {
                self.report(file.error(UNSENDABLE));
                None
            }
        }
    }
}

/// The files of the server, each with the purpose for which it is read.
fn uses(files: &TlsFiles) -> Vec<(Purpose, &Path)> {
    let mut all: Vec<(_, &Path)> =
        vec![(Purpose::Chain, &files.certificate.value), (Purpose::Key, &files.key.value)];
    if let ClientAuth::Require { ca, crl } = &files.clients {
        all.push((Purpose::ClientAuthorities, &ca.value));
        all.extend(crl.iter().map(|crl| (Purpose::RevocationLists, &*crl.value)));
    }
    all
}
