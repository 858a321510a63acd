//! The known sections and keys, and the diagnostics about unknown ones.

use std::{path::PathBuf, sync::Arc};

use super::{
    diagnostics::{Diagnostic, Diagnostics, Location, Severity},
    ini::{Document, Section, SectionNames},
};

/// The keys of a section, in canonical form.
#[derive(Debug)]
pub(super) struct Table {
    file: File,
    pub(super) section: &'static str,
    /// The keys that scrapegate uses.
    pub(super) own: &'static [&'static str],
    /// The keys that only the openITCOCKPIT agent uses. They are ignored.
    agents: &'static [&'static str],
    /// The severity of an unknown key.
    severity: Severity,
}

impl Table {
    fn keys(&self) -> impl Iterator<Item = &'static str> {
        self.own.iter().chain(self.agents).copied()
    }
}

/// The file to which a section belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum File {
    ConfigIni,
    Exporters,
}

/// Keys that may be left blank. According to the agent's example file, a blank value turns them off
/// or means the default.
pub(super) const MAY_BE_BLANK: &[&str] = &[
    "auth",
    "autossl-ca-file",
    "autossl-crt-file",
    "autossl-csr-file",
    "autossl-folder",
    "autossl-key-file",
    "certfile",
    "exporters",
    "keyfile",
];

pub(super) static DEFAULT: Table = Table {
    file: File::ConfigIni,
    section: "default",
    own: &[
        "address",
        "auth",
        "autossl-ca-file",
        "autossl-crt-file",
        "autossl-csr-file",
        "autossl-folder",
        "autossl-key-file",
        "certfile",
        "keyfile",
        "port",
        "tls-security-level",
        "try-autossl",
    ],
    agents: &[
        "alfresco-javapath",
        "alfresco-jmxaddress",
        "alfresco-jmxpassword",
        "alfresco-jmxpath",
        "alfresco-jmxport",
        "alfresco-jmxquery",
        "alfresco-jmxuser",
        "alfrescostats",
        "config-update-mode",
        "cpustats",
        "customchecks",
        "diskio",
        "diskstats",
        "dockerstats",
        "enable-dev-pprof",
        "interval",
        "launchdservices",
        "libvirt",
        "load",
        "memory",
        "netio",
        "netstats",
        "ntp",
        "processstats",
        "processstats-including-child-ids",
        "qemustats",
        "sensors",
        "sensorstats",
        "stacktrace",
        "swap",
        "systemdservices",
        "temperature-fahrenheit",
        "user",
        "userstats",
        "verbose",
        "wineventlog",
        "wineventlog-age",
        "wineventlog-cache",
        "wineventlog-logtypes",
        "wineventlog-method",
        "winservices",
    ],
    severity: Severity::Warning,
};

static OITC: Table = Table {
    file: File::ConfigIni,
    section: "oitc",
    own: &[],
    agents: &[
        "apikey",
        "authfile",
        "enable-webserver",
        "enabled",
        "hostuuid",
        "interval",
        "proxy",
        "timeout",
        "url",
        "verify-server-certificate",
    ],
    severity: Severity::Warning,
};

static PACKAGEMANAGER: Table = Table {
    file: File::ConfigIni,
    section: "packagemanager",
    own: &[],
    agents: &["check-interval", "enable-update-check", "enabled", "limit-description-length"],
    severity: Severity::Warning,
};

pub(super) static PROMETHEUS: Table = Table {
    file: File::ConfigIni,
    section: "prometheus",
    own: &["enabled", "exporters"],
    agents: &[],
    severity: Severity::Warning,
};

pub(super) static PROXY: Table = Table {
    file: File::ConfigIni,
    section: "proxy",
    own: &[
        "advertise",
        "client-allow",
        "client-auth",
        "client-ca",
        "client-crl",
        "drain-timeout",
        "enrol-from",
        "enrol-key",
        "enrol-window",
        "handshake-timeout",
        "header-timeout",
        "http-reload",
        "idle-timeout",
        "insecure-plain-http",
        "log-format",
        "max-compressions",
        "max-connections",
        "max-connections-per-ip",
        "max-handshakes",
        "reload-interval",
        "scrape-timeout-offset",
        "stall-timeout",
        "status-page",
        "worker-threads",
    ],
    agents: &[],
    severity: Severity::Error,
};

/// Any section of the exporters file.
pub(super) static EXPORTER: Table = Table {
    file: File::Exporters,
    section: "default",
    own: &[
        "bearer-token-file",
        "ca-file",
        "cert-file",
        "compression",
        "compression-algorithms",
        "connect-timeout",
        "enabled",
        "forward-params",
        "host",
        "insecure-skip-verify",
        "integrity",
        "interval",
        "key-file",
        "max-body",
        "max-concurrent",
        "method",
        "metrics-drop",
        "metrics-keep",
        "password-file",
        "path",
        "port",
        "server-name",
        "socket",
        "timeout",
        "username",
    ],
    agents: &[],
    severity: Severity::Error,
};

static CONFIG_INI: [&Table; 5] = [&DEFAULT, &OITC, &PACKAGEMANAGER, &PROMETHEUS, &PROXY];

/// Reports unknown sections and keys of `config.ini`.
pub(super) fn check_config_ini(document: &mut Document, diagnostics: &mut Diagnostics) {
    let file = Arc::clone(&document.file);
    for section in &mut document.sections {
        let table = CONFIG_INI
            .into_iter()
            .find(|table| SectionNames::IgnoreCase.same(table.section, &section.name));
        match table {
            Some(table) => {
                check_keys(&file, section, table, diagnostics);
            }
            None if section.name_is_guessed => document.uncertain = true,
            None => {
                let diagnostic = unknown_section(&file, section);
                document.uncertain |= diagnostic.severity == Severity::Error;
                diagnostics.push(diagnostic);
            }
        }
    }
}

/// Reports unknown keys of the exporters file.
pub(super) fn check_exporters(document: &mut Document, diagnostics: &mut Diagnostics) {
    for section in &mut document.sections {
        check_keys(&document.file, section, &EXPORTER, diagnostics);
    }
}

fn check_keys(
    file: &Arc<PathBuf>,
    section: &mut Section,
    table: &Table,
    diagnostics: &mut Diagnostics,
) {
    for entry in &section.entries {
        if table.keys().any(|key| key == entry.canonical) {
            continue;
        }
        let (severity, message) = unknown_key(&entry.canonical, table);
        section.uncertain |= severity == Severity::Error;
        diagnostics.push(Diagnostic {
            severity,
            location: Location::at(file, entry.line, &section.name, Some(&entry.key)),
            message,
        });
    }
}

/// The diagnostic about a key that is not in `table`.
fn unknown_key(key: &str, table: &Table) -> (Severity, String) {
    let homes: Vec<_> = CONFIG_INI
        .into_iter()
        .filter(|_| table.file == File::ConfigIni)
        .filter(|home| home.keys().any(|known| known == key))
        .collect();
    if homes.is_empty() {
        let hint = hint(nearest(key, table.keys()));
        return (table.severity, format!("unknown key{hint}"));
    }
    // A key of `[proxy]` in another section is always an error, because it may be meant to keep
    // someone out.
    let severities = homes.iter().map(|home| home.severity);
    let severity = severities.fold(table.severity, Severity::max);
    let names: Vec<_> = homes.iter().map(|home| format!("[{}]", home.section)).collect();
    (severity, format!("the key belongs in {}", names.join(" or ")))
}

fn unknown_section(file: &Arc<PathBuf>, section: &Section) -> Diagnostic {
    let name = section.name.to_ascii_lowercase();
    let meant = nearest(&name, CONFIG_INI.into_iter().map(|table| table.section));
    // A mistyped `[proxy]` would disable all its keys.
    let severity = CONFIG_INI
        .into_iter()
        .find(|table| Some(table.section) == meant)
        .map_or(Severity::Warning, |table| table.severity);
    Diagnostic {
        severity,
        location: Location::at(file, section.line, &section.name, None),
        message: format!("unknown section{}", hint(meant.map(|name| format!("[{name}]")))),
    }
}

fn hint(meant: Option<impl std::fmt::Display>) -> String {
    meant.map_or_else(String::new, |meant| format!("; did you mean `{meant}`?"))
}

/// The known word that `word` was probably meant to be.
fn nearest(word: &str, known: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    known
        .map(|candidate| (strsim::osa_distance(word, candidate), candidate))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, candidate)| *distance <= (candidate.len() / 3).clamp(1, 3))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{config_ini, exporters, ini, sources::Sources};

    /// The keys of `table` without a diagnostic if they are left blank.
    fn without_diagnostic_when_blank(
        table: &Table,
        names: SectionNames,
        read: impl Fn(&Document, &mut Diagnostics),
    ) -> Vec<&'static str> {
        let has_no_diagnostic = |key: &&'static str| {
            let mut diagnostics = Diagnostics::default();
            let file = Arc::new(PathBuf::from("x.ini"));
            let text = format!("[{}]\n{key} =\n", table.section);
            let document = ini::parse(&file, &text, names, &mut diagnostics);
            read(&document, &mut diagnostics);
            !diagnostics.iter().any(|diagnostic| diagnostic.location.line == Some(2))
        };
        table.own.iter().copied().filter(has_no_diagnostic).collect()
    }

    #[test]
    fn every_key_is_read_and_only_the_agents_keys_may_be_blank() {
        let mut silent = Vec::new();
        for table in [&DEFAULT, &PROMETHEUS, &PROXY] {
            let read = |document: &Document, diagnostics: &mut Diagnostics| {
                config_ini::read(document, &Sources::default(), diagnostics);
            };
            silent.extend(without_diagnostic_when_blank(table, SectionNames::IgnoreCase, read));
        }
        silent.sort_unstable();
        assert_eq!(silent, MAY_BE_BLANK);
        let read = |document: &Document, diagnostics: &mut Diagnostics| {
            let _ = exporters::read(document, diagnostics);
        };
        let silent = without_diagnostic_when_blank(&EXPORTER, SectionNames::ByteForByte, read);
        assert_eq!(silent, [""; 0]);
    }

    #[test]
    fn a_mistyped_proxy_section_may_hide_keys_and_an_unrelated_section_may_not() {
        for (text, uncertain) in [("[proxi]\n", true), ("[foreign]\n", false)] {
            let mut diagnostics = Diagnostics::default();
            let file = Arc::new(PathBuf::from("x.ini"));
            let mut document = ini::parse(&file, text, SectionNames::IgnoreCase, &mut diagnostics);
            check_config_ini(&mut document, &mut diagnostics);
            assert_eq!(document.uncertain, uncertain, "{text}");
        }
    }

    #[test]
    fn a_mistyped_key_gets_a_hint_and_an_unrelated_key_does_not() {
        for (word, meant) in [
            ("prot", Some("port")),
            ("timout", Some("timeout")),
            ("max-concurent", Some("max-concurrent")),
            ("certfile", Some("cert-file")),
            ("insecur-skp-verfy", Some("insecure-skip-verify")),
            ("pxxt", None),
            ("x", None),
            ("scheme", None),
        ] {
            assert_eq!(nearest(word, EXPORTER.keys()), meant, "{word}");
        }
    }
}
