//! Whatever `config.ini` has in it:
//!
//! - each finding is one line, about the file, with a line that there is;
//! - it is accepted if and only if no finding is an error;
//! - plain HTTP is only accepted on a loopback address, and neither it nor clients without
//!   certificates without being written out and warned about;
//! - no finding repeats the password of `auth`.

use scrapegate::config::{self, ClientAuth, Config, Findings, Security, Severity, Sources};

use crate::files;

const EXPORTERS: &[u8] = b"[node]\nenabled = yes\nport = 9100\npath = /metrics\n";

/// What a password begins with, so that it can be told from everything else.
const SECRET: &str = "S3cret";

/// Asserts the property. `input` is the file.
///
/// # Panics
/// When the property does not hold.
pub fn check(input: &[u8]) {
    let file = files::written("config.ini", input);
    let sources = Sources {
        config: Some(file.clone()),
        // Whatever the file names is not looked at.
        exporters: Some(files::written("exporters.ini", EXPORTERS)),
        listen: None,
    };
    let (config, findings) = config::load(&sources);
    files::assert_sane(&findings, &file, input);
    assert_eq!(config.is_some(), !findings.has_errors(), "{findings}");
    let text = String::from_utf8_lossy(input);
    if let Some(config) = config {
        assert_eq!(config.exporters.len(), usize::from(config.prometheus_enabled));
        assert_is_secured_as_written(&config, &findings, &text);
    }
    if secrets_are_passwords(&text) {
        assert!(!findings.to_string().contains(SECRET), "{findings}");
    }
}

fn assert_is_secured_as_written(config: &Config, findings: &Findings, text: &str) {
    let text = text.to_ascii_lowercase().replace('_', "-");
    let is_warned_about = |key: &str| {
        let about = |finding: &config::Finding| finding.origin.key.as_deref() == Some(key);
        findings.iter().any(|finding| about(finding) && finding.severity == Severity::Warning)
    };
    let key = match &config.security {
        Security::InsecurePlainHttp => {
            assert!(config.listen.ip().to_canonical().is_loopback(), "{}", config.listen);
            "insecure-plain-http"
        }
        Security::Tls(files) => match files.clients {
            ClientAuth::None => "client-auth",
            ClientAuth::Require { .. } => return,
        },
    };
    assert!(text.contains("[proxy]") && text.contains(key), "{key} is not written out");
    assert!(is_warned_about(key), "{key}: {findings}");
}

/// Whether what begins as a secret stands nowhere but behind the colon of an `auth`.
fn secrets_are_passwords(text: &str) -> bool {
    let in_passwords = text.lines().filter_map(|line| {
        let (key, value) = line.split_once('=')?;
        let is_auth = key.trim_matches([' ', '\t']).eq_ignore_ascii_case("auth");
        Some(value.split_once(':')?.1.matches(SECRET).count()).filter(|_| is_auth)
    });
    in_passwords.sum::<usize>() == text.matches(SECRET).count()
}
