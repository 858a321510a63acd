//! Reads the exporters file: one [`ExporterConfig`] for each section.

use std::{
    num::{NonZeroU16, NonZeroU32},
    path::PathBuf,
    time::Duration,
};

use rustls::pki_types::ServerName;

use super::{
    compression,
    diagnostics::{Diagnostic, Diagnostics, Located, Location},
    family_keys::{FamilyKeys, PatternCache},
    ini::{Document, Section, SectionNames},
    keys,
    section_reader::{Read, Reported, SectionReader},
    values,
};
use crate::common::{
    compression::CompressionRules,
    deadline::Budget,
    exporter::{ExporterName, ExporterPath, Integrity, ScrapeRules, Target},
};

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
    /// `interval` to `compression-algorithms`.
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
    pub server_name: ServerName<'static>,
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

/// The section whose keys are the defaults of all other sections.
const DEFAULTS: &str = "default";

/// Reads all sections. Problems are added to `diagnostics`.
pub(super) fn read(document: &Document, diagnostics: &mut Diagnostics) -> Vec<ExporterConfig> {
    let defaults = document.section(DEFAULTS, SectionNames::ByteForByte);
    let mut cache = PatternCache::default();
    if let Some(defaults) = defaults {
        let mut reader =
            SectionReader::of_section(document, &keys::EXPORTER, defaults, None, diagnostics);
        // Reports wrong defaults even if no section uses them. Missing keys are fine here.
        let values = Values::read(&mut reader, &mut cache);
        let _reported = values.families.rules(&mut reader, &mut cache);
    }
    let exporters: Vec<_> = document
        .sections
        .iter()
        .filter(|section| section.name != DEFAULTS)
        .map(|section| exporter(document, section, (defaults, &mut cache), diagnostics))
        .collect();
    let all = exporters.len();
    let exporters: Vec<_> = exporters.into_iter().flatten().collect();
    if exporters.len() == all
        && !exporters.iter().any(|exporter| exporter.enabled)
        && !document.uncertain
    {
        let location = Location::of_file(&document.file);
        diagnostics.push(Diagnostic::warning(location, "no exporter is enabled"));
    }
    exporters
}

fn exporter(
    document: &Document,
    section: &Section,
    (defaults, cache): (Option<&Section>, &mut PatternCache),
    diagnostics: &mut Diagnostics,
) -> Result<ExporterConfig, Reported> {
    let mut reader =
        SectionReader::of_section(document, &keys::EXPORTER, section, defaults, diagnostics);
    let location = Location::at(&document.file, section.line, &section.name, None);
    let name = match ExporterName::new(&section.name) {
        Ok(value) => Ok(Located { value, location }),
        Err(_) if section.name_is_guessed => Err(Reported),
        Err(error) => Err(reader.error(location, error.to_string())),
    };
    let values = Values::read(&mut reader, cache);
    let target = target(&values, &mut reader);
    let times = times(&values, &mut reader);
    let tls = tls(&values, target.as_ref().map_err(|reported| *reported), &mut reader);
    let credentials = credentials(&values, &mut reader);
    let families = values.families.rules(&mut reader, cache);
    let path = match &values.path {
        Ok(Some(path)) => Ok(path.value.clone()),
        Ok(None) => Err(reader.missing("path", "missing; most exporters use `/metrics`")),
        Err(Reported) => Err(Reported),
    };
    let times = times?;
    Ok(ExporterConfig {
        name: name?,
        enabled: values.enabled?,
        tls: tls?,
        target: target?,
        path: path?,
        credentials: credentials?,
        rules: ScrapeRules {
            interval: times.interval,
            timeout: times.timeout,
            connect_timeout: times.connect_timeout,
            max_concurrent: values.max_concurrent?,
            max_body: values.max_body?.map(|located| located.value),
            forward_params: values.forward_params?,
            integrity: values.integrity?,
            compression: values.compression?,
            families: families?,
        },
    })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    Http,
    Https,
}

const METHODS: &[(&str, Method)] = &[("http", Method::Http), ("https", Method::Https)];
const INTEGRITIES: &[(&str, Integrity)] =
    &[("strict", Integrity::Strict), ("transport", Integrity::Transport)];

/// The values of a section, each parsed by itself.
struct Values {
    enabled: Result<bool, Reported>,
    method: Result<Method, Reported>,
    host: Read<String>,
    port: Read<NonZeroU16>,
    socket: Read<PathBuf>,
    path: Read<ExporterPath>,
    interval: Result<Budget, Reported>,
    timeout: Read<Budget>,
    connect_timeout: Read<Budget>,
    max_concurrent: Result<NonZeroU32, Reported>,
    max_body: Read<u64>,
    forward_params: Result<bool, Reported>,
    integrity: Result<Integrity, Reported>,
    compression: Result<CompressionRules, Reported>,
    families: FamilyKeys,
    ca_file: Read<PathBuf>,
    cert_file: Read<PathBuf>,
    key_file: Read<PathBuf>,
    server_name: Read<ServerName<'static>>,
    skip_verify: Read<bool>,
    username: Read<String>,
    password_file: Read<PathBuf>,
    bearer_token_file: Read<PathBuf>,
}

impl Values {
    fn read(reader: &mut SectionReader<'_>, cache: &mut PatternCache) -> Self {
        let path = |value: &str| ExporterPath::new(value).map_err(str::to_owned);
        Self {
            enabled: reader.read_or("enabled", values::boolean, "False"),
            method: reader.read_or("method", values::one_of(METHODS), "http"),
            host: reader.read("host", values::host),
            port: reader.read("port", values::port),
            socket: reader.path("socket"),
            path: reader.read("path", path),
            interval: reader.read_or("interval", values::seconds, "15"),
            timeout: reader.read("timeout", values::seconds),
            connect_timeout: reader.read("connect-timeout", values::seconds),
            max_concurrent: reader.read_or("max-concurrent", values::count, "16"),
            max_body: reader.read("max-body", values::size),
            forward_params: reader.read_or("forward-params", values::boolean, "True"),
            integrity: reader.read_or("integrity", values::one_of(INTEGRITIES), "strict"),
            compression: compression::read(reader),
            families: FamilyKeys::read(reader, cache),
            ca_file: reader.path("ca-file"),
            cert_file: reader.path("cert-file"),
            key_file: reader.path("key-file"),
            server_name: reader.read("server-name", values::server_name),
            skip_verify: reader.read("insecure-skip-verify", values::boolean),
            username: reader.read("username", values::username),
            password_file: reader.path("password-file"),
            bearer_token_file: reader.path("bearer-token-file"),
        }
    }
}

/// The set of keys that applies.
enum Alternative {
    First,
    Second,
}

/// Chooses between two sets of keys that cannot be combined. Keys in the section itself override
/// those in `[default]`.
fn choose(
    first: &[&str],
    second: &[&str],
    reader: &mut SectionReader<'_>,
) -> Result<Option<Alternative>, Reported> {
    let own = |keys: &[&str]| keys.iter().any(|key| reader.is_own(key));
    let any = |keys: &[&str]| keys.iter().any(|key| reader.location_of(key).is_some());
    let there = match (own(first), own(second)) {
        (false, false) => (any(first), any(second)),
        own => own,
    };
    match there {
        (true, true) => {
            let first = first.iter().map(|key| format!("`{key}`"));
            let first = first.collect::<Vec<_>>().join(" or ");
            let message = format!("cannot be combined with {first}");
            let location = culprit(second, reader);
            Err(reader.error(location, message))
        }
        (true, false) => Ok(Some(Alternative::First)),
        (false, true) => Ok(Some(Alternative::Second)),
        (false, false) => Ok(None),
    }
}

/// Where a conflict between `keys` is reported: at the first key in the section itself, else at the
/// first key in `[default]`.
fn culprit(keys: &[&str], reader: &SectionReader<'_>) -> Location {
    let own = keys.iter().find(|key| reader.is_own(key));
    own.into_iter()
        .chain(keys)
        .find_map(|key| reader.location_of(key))
        .unwrap_or_else(|| reader.location_of_default(keys.first().copied().unwrap_or_default()))
}

fn target(values: &Values, reader: &mut SectionReader<'_>) -> Result<Target, Reported> {
    match choose(&["host", "port"], &["socket"], reader)? {
        Some(Alternative::Second) => {
            let socket = values.socket.clone()?.ok_or(Reported)?;
            if !cfg!(unix) {
                return Err(
                    reader.error(socket.location, "Unix sockets are not supported on this system")
                );
            }
            Ok(Target::Unix(socket.value))
        }
        Some(Alternative::First) | None => {
            let port = match &values.port {
                Ok(Some(port)) => Ok(port.value),
                Ok(None) => Err(reader.missing("port", "missing; set `port` or `socket`")),
                Err(Reported) => Err(Reported),
            };
            let host = values.host.clone()?;
            Ok(Target::Tcp {
                host: host.map_or_else(|| "localhost".to_owned(), |host| host.value),
                port: port?,
            })
        }
    }
}

struct Times {
    interval: Budget,
    timeout: Budget,
    connect_timeout: Budget,
}

fn times(values: &Values, reader: &mut SectionReader<'_>) -> Result<Times, Reported> {
    let interval = values.interval?;
    let timeout = values.timeout.clone()?;
    let connect_timeout = values.connect_timeout.clone()?;
    let timeout = timeout.map_or_else(|| at_most(15, interval), |timeout| timeout.value);
    let connect_timeout =
        connect_timeout.map_or_else(|| at_most(1, timeout), |timeout| timeout.value);
    let within_interval = not_longer(("timeout", timeout), ("interval", interval), reader);
    not_longer(("connect-timeout", connect_timeout), ("timeout", timeout), reader)?;
    within_interval?;
    Ok(Times { interval, timeout, connect_timeout })
}

/// A default of `seconds`, or `most` if that is less.
fn at_most(seconds: u64, most: Budget) -> Budget {
    Budget::new(Duration::from_secs(seconds)).map_or(most, |default| default.min(most))
}

fn not_longer(
    (inner, length): (&str, Budget),
    (outer, most): (&str, Budget),
    reader: &mut SectionReader<'_>,
) -> Result<(), Reported> {
    if length <= most {
        return Ok(());
    }
    let location = culprit(&[inner, outer], reader);
    let message = format!("`{inner}` ({length}) is longer than `{outer}` ({most})");
    Err(reader.error(location, message))
}

/// The keys that are only valid with `method = https`.
const HTTPS_ONLY: [&str; 5] =
    ["ca-file", "cert-file", "key-file", "server-name", "insecure-skip-verify"];

fn tls(
    values: &Values,
    target: Result<&Target, Reported>,
    reader: &mut SectionReader<'_>,
) -> Result<Option<UpstreamTlsConfig>, Reported> {
    match values.method? {
        Method::Http => {
            // In `[default]` they apply to the exporters with `https`.
            let misplaced = HTTPS_ONLY.into_iter().filter(|key| reader.is_own(key));
            let misplaced: Vec<_> = misplaced.filter_map(|key| reader.location_of(key)).collect();
            let mut result = Ok(None);
            for location in misplaced {
                result = Err(reader.error(location, "only valid with `method = https`"));
            }
            result
        }
        Method::Https => {
            let client_pair = client_pair(values, reader);
            let server_name = server_name(values, target, reader);
            let (ca, skip_verify) = verification(values, reader)?;
            Ok(Some(UpstreamTlsConfig {
                ca,
                client_pair: client_pair?,
                server_name: server_name?,
                skip_verify,
            }))
        }
    }
}

/// The certificate and its key.
type ClientPair = (Located<PathBuf>, Located<PathBuf>);

fn client_pair(
    values: &Values,
    reader: &mut SectionReader<'_>,
) -> Result<Option<ClientPair>, Reported> {
    match (values.cert_file.clone()?, values.key_file.clone()?) {
        (Some(certificate), Some(key)) => Ok(Some((certificate, key))),
        (None, None) => Ok(None),
        (Some(_), None) => Err(reader.missing("key-file", "missing; `cert-file` requires it")),
        (None, Some(_)) => Err(reader.missing("cert-file", "missing; `key-file` requires it")),
    }
}

fn server_name(
    values: &Values,
    target: Result<&Target, Reported>,
    reader: &mut SectionReader<'_>,
) -> Result<ServerName<'static>, Reported> {
    if let Some(name) = values.server_name.clone()? {
        return Ok(name.value);
    }
    let host = match target? {
        Target::Tcp { host, .. } => host,
        Target::Unix(_) => "localhost",
    };
    values::server_name(host).map_err(|message| {
        let location = culprit(&["host"], reader);
        reader.error(location, format!("{message}; set `server-name`"))
    })
}

/// The CA that verifies the exporter's certificate, and whether verification is skipped.
fn verification(
    values: &Values,
    reader: &mut SectionReader<'_>,
) -> Result<(Option<Located<PathBuf>>, bool), Reported> {
    let ca = values.ca_file.clone()?;
    match values.skip_verify.clone()?.filter(|skip| skip.value) {
        None => Ok((ca, false)),
        Some(skip) if ca.is_some() => {
            Err(reader.error(skip.location, "cannot be combined with `ca-file`"))
        }
        Some(skip) => {
            let warning = "the exporter's certificate is not verified; any server is accepted";
            reader.warning(skip.location, warning);
            Ok((None, true))
        }
    }
}

fn credentials(
    values: &Values,
    reader: &mut SectionReader<'_>,
) -> Result<Option<Credentials>, Reported> {
    match choose(&["username", "password-file"], &["bearer-token-file"], reader)? {
        None => Ok(None),
        Some(Alternative::Second) => {
            let token = values.bearer_token_file.clone()?.ok_or(Reported)?;
            Ok(Some(Credentials::Bearer(token)))
        }
        Some(Alternative::First) => {
            match (values.username.clone()?, values.password_file.clone()?) {
                (Some(Located { value, .. }), Some(password)) => {
                    Ok(Some(Credentials::Basic { username: value, password }))
                }
                (Some(_), None) => {
                    Err(reader.missing("password-file", "missing; `username` requires it"))
                }
                (None, _) => {
                    Err(reader.missing("username", "missing; `password-file` requires it"))
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::ini;

    const WHOLE: &str = include_str!("../../tests/config/exporters/every-key.good.ini");

    /// Characters that some INI parser treats specially.
    const TROUBLE: [char; 12] =
        ['\\', '[', ']', '=', ':', '"', ';', '#', ' ', '\n', '\u{a0}', '\u{feff}'];

    #[test]
    fn a_damaged_file_is_read_without_ambiguity_or_refused_with_a_reason() {
        let file = Arc::new(PathBuf::from("x.ini"));
        for (at, character) in WHOLE.char_indices() {
            let (before, after) = (&WHOLE[..at], &WHOLE[at + character.len_utf8()..]);
            let replaced = TROUBLE.map(|trouble| format!("{before}{trouble}{after}"));
            let cut = [before.to_owned(), format!("{before}{after}")];
            for damaged in cut.iter().chain(&replaced) {
                let mut diagnostics = Diagnostics::default();
                let names = SectionNames::ByteForByte;
                let mut document = ini::parse(&file, damaged, names, &mut diagnostics);
                keys::check_exporters(&mut document, &mut diagnostics);
                let exporters = read(&document, &mut diagnostics);
                let sections =
                    document.sections.iter().filter(|section| section.name != DEFAULTS).count();
                assert!(exporters.len() == sections || diagnostics.has_errors(), "{damaged}");
                // A line that rust-ini would parse differently is refused before that, for its own
                // error.
                assert!(!diagnostics.to_string().contains("in two ways"), "{damaged}");
            }
        }
    }
}
