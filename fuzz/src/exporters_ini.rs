//! Any contents of the exporters file:
//!
//! - Each diagnostic is one line about the file, and names an existing line. An error always names
//!   its line, unless the file is UTF-16.
//! - An accepted file that is written again is accepted without errors and has the same meaning.

use std::{fmt::Write as _, path::Path};

use scrapegate::{
    common::{
        deadline::Budget,
        exporter::{Integrity, ScrapeRules, Target},
        families::FamilyRules,
        file,
    },
    config::{self, Credentials, ExporterConfig, Sources, UpstreamTlsConfig},
};

use crate::files;

/// Asserts the property. `input` is the file.
///
/// # Panics
///
/// If the property does not hold.
pub fn check(input: &[u8]) {
    let Some(exporters) = read(input) else {
        return;
    };
    let text: String = exporters.iter().map(written).collect();
    let again = read(text.as_bytes()).unwrap_or_else(|| panic!("refused:\n{text}"));
    let meanings = |exporters: &[ExporterConfig]| exporters.iter().map(meaning).collect::<Vec<_>>();
    assert_eq!(meanings(&exporters), meanings(&again), "{text}");
}

/// The exporters of an accepted file; `None` if the file has errors.
fn read(contents: &[u8]) -> Option<Vec<ExporterConfig>> {
    let path = files::written("prometheus_exporters.ini", contents);
    let sources = Sources { exporters: Some(path.clone()), ..Sources::default() };
    let (exporters, diagnostics) = config::exporters(&sources);
    files::assert_sane(&diagnostics, &path, contents);
    for error in files::errors(&diagnostics) {
        // The encoding concerns the whole file.
        let has_place = error.location.line.is_some() || file::is_utf16(contents);
        assert!(has_place, "{error}");
    }
    (!diagnostics.has_errors()).then_some(exporters)
}

/// A section with every possible key, none of them left to its default.
fn written(exporter: &ExporterConfig) -> String {
    let ExporterConfig { name, enabled, tls, target, path, credentials, rules } = exporter;
    let mut section = Section(format!("[{}]\n", name.value));
    section.key("enabled", enabled);
    match target {
        Target::Tcp { host, port } => {
            section.key("host", host);
            section.key("port", port);
        }
        Target::Unix(socket) => section.path("socket", socket),
    }
    section.key("path", path.as_str());
    section.tls(tls.as_ref());
    match credentials {
        None => {}
        Some(Credentials::Basic { username, password }) => {
            section.key("username", username);
            section.path("password-file", &password.value);
        }
        Some(Credentials::Bearer(token)) => section.path("bearer-token-file", &token.value),
    }
    section.rules(rules);
    section.0
}

struct Section(String);

impl Section {
    fn key(&mut self, key: &str, value: impl ToString) {
        let value = value.to_string();
        // Whitespace around a value is only kept in quotes.
        let quote = if value.trim() == value { "" } else { "\"" };
        writeln!(self.0, "{key} = {quote}{value}{quote}").expect("a string grows");
    }

    fn path(&mut self, key: &str, path: &Path) {
        self.key(key, path.to_str().expect("UTF-8, as the file"));
    }

    fn budget(&mut self, key: &str, budget: Budget) {
        let length = budget.as_duration();
        self.key(key, format!("{}.{:09}", length.as_secs(), length.subsec_nanos()));
    }

    fn tls(&mut self, tls: Option<&UpstreamTlsConfig>) {
        let Some(UpstreamTlsConfig { ca, client_pair, server_name, skip_verify }) = tls else {
            return self.key("method", "http");
        };
        self.key("method", "https");
        if let Some(ca) = ca {
            self.path("ca-file", &ca.value);
        }
        if let Some((certificate, key)) = client_pair {
            self.path("cert-file", &certificate.value);
            self.path("key-file", &key.value);
        }
        self.key("server-name", server_name.to_str());
        self.key("insecure-skip-verify", skip_verify);
    }

    fn rules(&mut self, rules: &ScrapeRules) {
        let ScrapeRules {
            interval,
            timeout,
            connect_timeout,
            max_concurrent,
            max_body,
            forward_params,
            integrity,
            compression,
            families,
        } = rules;
        self.budget("interval", *interval);
        self.budget("timeout", *timeout);
        self.budget("connect-timeout", *connect_timeout);
        self.key("max-concurrent", max_concurrent);
        if let Some(max_body) = max_body {
            self.key("max-body", max_body);
        }
        self.key("forward-params", forward_params);
        self.key(
            "integrity",
            match integrity {
                Integrity::Strict => "strict",
                Integrity::Transport => "transport",
            },
        );
        self.key("compression", compression.compress_for.name());
        let names: Vec<_> = compression.algorithms.iter().map(|it| it.name()).collect();
        self.key("compression-algorithms", names.join(","));
        for (key, pattern) in [
            ("metrics-keep", families.as_ref().and_then(FamilyRules::keep)),
            ("metrics-drop", families.as_ref().and_then(FamilyRules::drop)),
        ] {
            if let Some(pattern) = pattern {
                self.key(key, pattern.as_str());
            }
        }
    }
}

/// Everything about an exporter, except its place in the file.
fn meaning(exporter: &ExporterConfig) -> String {
    let ExporterConfig { name, enabled, tls, target, path, credentials, rules } = exporter;
    let tls = tls.as_ref().map(|tls| {
        let UpstreamTlsConfig { ca, client_pair, server_name, skip_verify } = tls;
        let pair = client_pair.as_ref().map(|(certificate, key)| (&certificate.value, &key.value));
        (ca.as_ref().map(|ca| &ca.value), pair, server_name, skip_verify)
    });
    let credentials = credentials.as_ref().map(|credentials| match credentials {
        Credentials::Basic { username, password } => (Some(username), &password.value),
        Credentials::Bearer(token) => (None, &token.value),
    });
    format!("{:?}", (&name.value, enabled, tls, target, path, credentials, rules))
}
