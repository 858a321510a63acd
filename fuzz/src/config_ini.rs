//! Any contents of `config.ini`:
//!
//! - Each diagnostic is one line about the file, and names an existing line.
//! - The file is accepted if and only if no diagnostic is an error.
//! - Plain HTTP is accepted only on a loopback address. Plain HTTP and clients without certificates
//!   are accepted only if the file enables them, and with a warning.
//! - No diagnostic repeats the password of `auth`.

use scrapegate::config::{self, ClientAuth, Config, Diagnostics, Severity, Sources, Transport};

use crate::files;

const EXPORTERS: &[u8] = b"[node]\nenabled = yes\nport = 9100\npath = /metrics\n";

/// The beginning of every password, so that passwords can be recognized.
const SECRET: &str = "S3cret";

/// Asserts the property. `input` is the file.
///
/// # Panics
///
/// If the property does not hold.
pub fn check(input: &[u8]) {
    let file = files::written("config.ini", input);
    let sources = Sources {
        config: Some(file.clone()),
        // Files that the configuration names are not read.
        exporters: Some(files::written("exporters.ini", EXPORTERS)),
        listen: None,
    };
    let (config, diagnostics) = config::load(&sources);
    files::assert_sane(&diagnostics, &file, input);
    assert_eq!(config.is_some(), !diagnostics.has_errors(), "{diagnostics}");
    let text = String::from_utf8_lossy(input);
    if let Some(config) = config {
        assert_eq!(config.exporters.len(), usize::from(config.scrapes.enabled));
        assert_is_secured_as_written(&config, &diagnostics, &text);
    }
    if secrets_are_passwords(&text) {
        assert!(!diagnostics.to_string().contains(SECRET), "{diagnostics}");
    }
}

fn assert_is_secured_as_written(config: &Config, diagnostics: &Diagnostics, text: &str) {
    let text = text.to_ascii_lowercase().replace('_', "-");
    let is_warned_about = |key: &str| {
        let about =
            |diagnostic: &config::Diagnostic| diagnostic.location.key.as_deref() == Some(key);
        diagnostics
            .iter()
            .any(|diagnostic| about(diagnostic) && diagnostic.severity == Severity::Warning)
    };
    let key = match &config.listener.transport {
        Transport::InsecurePlainHttp => {
            assert!(
                config.listener.address.ip().to_canonical().is_loopback(),
                "{}",
                config.listener.address
            );
            "insecure-plain-http"
        }
        Transport::Tls(files) => match files.clients {
            ClientAuth::None => "client-auth",
            ClientAuth::Require { .. } => return,
        },
    };
    assert!(text.contains("[proxy]") && text.contains(key), "{key} is not written out");
    assert!(is_warned_about(key), "{key}: {diagnostics}");
}

/// Whether every occurrence of the secret is after the colon of an `auth` value.
fn secrets_are_passwords(text: &str) -> bool {
    let in_passwords = text.lines().filter_map(|line| {
        let (key, value) = line.split_once('=')?;
        let is_auth = key.trim_matches([' ', '\t']).eq_ignore_ascii_case("auth");
        Some(value.split_once(':')?.1.matches(SECRET).count()).filter(|_| is_auth)
    });
    in_passwords.sum::<usize>() == text.matches(SECRET).count()
}
