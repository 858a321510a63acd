//! The findings of TLS scanners: versions, cipher suites, renegotiation, compression, resumption,
//! early data.
//!
//! `SCRAPEGATE_SSLYZE` names the sslyze to use. The default is the one in `PATH`.

use std::{
    env,
    io::Write,
    process::{Command, Stdio},
    time::Duration,
};

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose};
use scrapegate_harness::{pki::Pki, proxy::Proxy};
use time::OffsetDateTime;

/// A proxy with this `tls-security-level` and a server certificate that is valid for 90 days, as
/// Mozilla recommends.
fn at_level(pki: &Pki, level: &str) -> Proxy {
    let mut params = CertificateParams::new(["localhost".to_owned()]).expect("a name");
    params.distinguished_name.push(DnType::CommonName, "localhost");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    params.not_before = OffsetDateTime::now_utc() - Duration::from_secs(24 * 3600);
    params.not_after = params.not_before + Duration::from_secs(90 * 24 * 3600);
    let key = KeyPair::generate().expect("a key");
    let certificate = params.signed_by(&key, pki.ca()).expect("a certificate");
    // Replaces the server pair. The key file keeps its mode.
    std::fs::write(pki.path("server.pem"), certificate.pem()).expect("written");
    std::fs::write(pki.path("server.key"), key.serialize_pem()).expect("written");
    let default = format!("[default]\ntls-security-level = {level}\n");
    Proxy::start(&pki.config_ini("").replacen("[default]\n", &default, 1), "")
}

/// The standard output of a command, whatever its exit code.
fn said(command: &mut Command) -> String {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{name} does not start: {error}"));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn sslscan_finds_exactly_the_versions_and_suites_of_the_level() {
    let pki = Pki::new();
    for (level, tls_1_2) in [("intermediate", "enabled"), ("modern", "disabled")] {
        let proxy = at_level(&pki, level);
        let port = proxy.address().port();
        let certificate = format!("--certs={}", pki.path("client.pem").display());
        let key = format!("--pk={}", pki.path("client.key").display());
        let report = said(
            Command::new("sslscan")
                .args(["--no-colour", "--ipv4", &certificate, &key])
                .arg(format!("localhost:{port}")),
        );
        let lines: Vec<String> =
            report.lines().map(|it| it.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        for (version, is) in [
            ("SSLv2", "disabled"),
            ("SSLv3", "disabled"),
            ("TLSv1.0", "disabled"),
            ("TLSv1.1", "disabled"),
            ("TLSv1.2", tls_1_2),
            ("TLSv1.3", "enabled"),
        ] {
            assert!(lines.contains(&format!("{version} {is}")), "{level} {version}: {report}");
        }
        assert!(report.contains("Session renegotiation not supported"), "{report}");
        let suites = lines
            .iter()
            .filter(|line| line.starts_with("Preferred") || line.starts_with("Accepted"))
            .map(|line| line.split(' ').nth(4).expect("a suite"))
            .collect::<Vec<_>>();
        assert!(suites.len() >= 3, "{report}");
        for suite in suites {
            let is_sound = suite.starts_with("TLS_") || suite.starts_with("ECDHE-");
            let is_sealed = suite.contains("GCM") || suite.contains("CHACHA20");
            assert!(is_sound && is_sealed, "{level} {suite}: {report}");
        }
    }
}

/// T35
#[test]
fn openssl_resumes_nothing_and_finds_neither_compression_nor_early_data() {
    let pki = Pki::new();
    let proxy = at_level(&pki, "intermediate");
    for version in ["-tls1_2", "-tls1_3"] {
        let mut child = Command::new("openssl")
            .args(["s_client", "-connect", &proxy.address().to_string(), version, "-reconnect"])
            .arg("-CAfile")
            .arg(pki.path("ca.pem"))
            .arg("-cert")
            .arg(pki.path("client.pem"))
            .arg("-key")
            .arg(pki.path("client.key"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl runs");
        // `s_client` reads its input only after its five reconnects.
        child.stdin.take().expect("piped").write_all(b"Q\n").expect("sent");
        let output = child.wait_with_output().expect("openssl ends");
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(text.matches("New, TLSv1.").count(), 6, "{version}: {text}");
        assert!(!text.contains("Reused, "), "{version}: {text}");
        assert_eq!(text.matches("Compression: NONE").count(), 6, "{version}: {text}");
        for word in ["session ticket", "Max Early Data", "Early data was accepted"] {
            assert!(!text.contains(word), "{version} {word}: {text}");
        }
    }
}

#[test]
fn sslyze_reports_compliance_with_mozillas_profiles() {
    let pki = Pki::new();
    for level in ["intermediate", "modern"] {
        let proxy = at_level(&pki, level);
        let sslyze = env::var_os("SCRAPEGATE_SSLYZE").unwrap_or_else(|| "sslyze".into());
        let report = said(
            Command::new(sslyze)
                .arg(format!("--mozilla_config={level}"))
                .arg("--certinfo_ca_file")
                .arg(pki.path("ca.pem"))
                .arg("--cert")
                .arg(pki.path("client.pem"))
                .arg("--key")
                .arg(pki.path("client.key"))
                .arg(format!("localhost:{}", proxy.address().port())),
        );
        assert!(report.contains(": OK - Compliant."), "{level}: {report}");
    }
}
