//! Certificate, key, CA and CRL files that cannot work, and the files that `certs` creates.

use std::{
    fs,
    time::{Duration, Instant},
};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair};
use scrapegate_harness::{
    client::Client,
    exporter::{Exporter, Framing},
    pki::{BOTH_VERSIONS, Pki},
    proxy::Proxy,
};
use time::OffsetDateTime;

use crate::{Files, line_of, run, set_mode};

/// Asserts that the files of `pki` are refused because of `key`, with the line of the key.
#[track_caller]
fn assert_mistake(pki: &Pki, key: &str, words: &str) {
    let config = pki.config_ini("");
    let place = format!("config.ini:{}: ", line_of(&config, key));
    Files::new(&config, "").assert_mistake(&[&place, key, words]);
}

/// C27.
#[test]
fn a_key_of_another_certificate_is_refused() {
    let pki = Pki::new();
    let other = KeyPair::generate().expect("a key");
    fs::write(pki.path("server.key"), other.serialize_pem()).expect("written");
    assert_mistake(&pki, "keyfile", "does not match the certificate");
}

/// C30.
#[test]
fn a_world_readable_key_is_refused_and_a_group_readable_one_is_not() {
    let pki = Pki::new();
    set_mode(&pki.path("server.key"), 0o644);
    assert_mistake(&pki, "keyfile", "can be read by everyone");
    set_mode(&pki.path("server.key"), 0o640);
    let files = Files::new(&pki.config_ini(""), "");
    assert_eq!(files.check().code, Some(0));
}

/// C28.
#[test]
fn an_expired_server_certificate_is_refused() {
    let pki = Pki::new();
    pki.replace_server(-10..-1);
    assert_mistake(&pki, "certfile", "expired on");
}

/// C28. The cause may be a wrong clock, so the exit code allows the service manager to try again.
#[test]
fn f14_the_start_waits_for_a_certificate_that_is_not_valid_yet_and_then_exits_with_71() {
    let pki = Pki::new();
    pki.replace_server(1..10);
    let files = Files::new(&pki.config_ini(""), "");
    let words = "certfile: error: is not valid before ";
    let has_line = |lines: &[String]| lines.iter().any(|line| line.contains(words));
    let checked = files.check();
    assert_eq!(checked.code, Some(1), "{:#?}", checked.out);
    assert!(has_line(&checked.out), "{:#?}", checked.out);
    let begun = Instant::now();
    let ran = files.run();
    assert_eq!(ran.code, Some(71), "{:#?}", ran.err);
    assert!(has_line(&ran.err), "{:#?}", ran.err);
    // With its default limits, systemd stops restarting a service that exits five times within ten
    // seconds.
    assert!(begun.elapsed() >= Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[test]
fn f14_the_start_succeeds_when_the_certificate_becomes_valid() {
    let pki = Pki::new();
    let begins = OffsetDateTime::now_utc() + time::Duration::seconds(4);
    pki.replace_server_between(begins, begins + time::Duration::DAY);
    let proxy = Proxy::start(&pki.config_ini(""), "");
    assert!(OffsetDateTime::now_utc() >= begins.replace_nanosecond(0).expect("in range"));
    drop(proxy);
}

#[test]
fn a_server_certificate_that_expires_soon_causes_a_warning() {
    let pki = Pki::new();
    pki.replace_server(-10..2);
    let ended = Files::new(&pki.config_ini(""), "").check();
    assert_eq!(ended.code, Some(0), "{:#?}", ended.out);
    let warned = ended.out.iter().any(|line| line.contains("certfile") && line.contains("soon"));
    assert!(warned, "{:#?}", ended.out);
}

/// C31.
#[test]
fn a_ca_bundle_needs_a_certificate_and_every_block_must_be_readable() {
    let pki = Pki::new();
    let good = fs::read_to_string(pki.path("ca.pem")).expect("readable");
    let lines = good.lines().count() + 1;
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for (bundle, words) in [
        ("", "contains no certificate"),
        ("nothing in PEM form\n", "contains no certificate"),
        (
            &format!("{good}{broken}{good}"),
            &format!("block 2 (CERTIFICATE, line {lines}) cannot be read as a certificate"),
        ),
        (
            &format!("{good}-----BEGIN CERTIFICATE-----\nAAAA\n"),
            &format!("block 2 (CERTIFICATE, line {lines}) has no END line"),
        ),
        (&fs::read_to_string(pki.path("server.key")).expect("readable"), "contains no certificate"),
    ] {
        fs::write(pki.path("ca.pem"), bundle).expect("written");
        assert_mistake(&pki, "client-ca", words);
    }
}

/// A new file or a corrected clock fixes this without a restart. It therefore does not prevent the
/// start.
#[test]
fn f11_an_expired_only_client_ca_is_a_warning_with_date_and_remedy() {
    for (days, words) in [
        (-10..-1, ["expired on 20", "put the CA's new"]),
        (1..10, ["is not valid before 20", "clock"]),
    ] {
        let pki = Pki::new();
        let mut params = CertificateParams::new([]).expect("valid names");
        params.distinguished_name.push(DnType::CommonName, "scrapegate test CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.not_before = OffsetDateTime::now_utc() + time::Duration::days(days.start);
        params.not_after = OffsetDateTime::now_utc() + time::Duration::days(days.end);
        let ca = params.self_signed(&KeyPair::generate().expect("a key")).expect("a certificate");
        fs::write(pki.path("ca.pem"), ca.pem()).expect("written");
        let ended = Files::new(&pki.config_ini(""), "").check();
        assert_eq!(ended.code, Some(0), "{:#?}", ended.out);
        let is_it = |line: &&String| {
            line.contains("client-ca: warning: ")
                && line.contains("every client that depends on it is refused")
                && words.iter().all(|word| line.contains(word))
        };
        assert_eq!(ended.out.iter().filter(is_it).count(), 1, "{words:?}: {:#?}", ended.out);
    }
}

#[test]
fn a_crl_file_needs_a_crl() {
    let pki = Pki::new();
    let config = pki.config_ini("client-crl = lists.pem\n");
    let files = Files::new(&config, "");
    let place = format!("config.ini:{}: ", line_of(&config, "client-crl"));
    for (text, words) in [
        ("", "contains no CRL"),
        (
            "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n",
            "block 1 (X509 CRL, line 1) cannot be read as a CRL",
        ),
    ] {
        files.write("lists.pem", text);
        files.assert_mistake(&[&place, "client-crl", words]);
    }
}

/// C31: the names of so many CAs do not fit into a handshake.
#[test]
fn a_bundle_of_ten_thousand_certificates_is_read_in_time_and_clients_are_accepted() {
    let pki = Pki::new();
    let own = fs::read_to_string(pki.path("ca.pem")).expect("readable");
    let key = KeyPair::generate().expect("a key");
    let mut bundle = String::new();
    for number in 1..10_000 {
        let mut params = CertificateParams::new([]).expect("valid names");
        params.distinguished_name.push(DnType::CommonName, format!("authority {number}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        bundle += &params.self_signed(&key).expect("a certificate").pem();
    }
    fs::write(pki.path("ca.pem"), bundle + &own).expect("written");
    let begun = Instant::now();
    let ended = Files::new(&pki.config_ini(""), "").check();
    assert_eq!(ended.code, Some(0), "{:#?}", ended.out);
    // Reading certificates is much slower without optimization.
    let most = Duration::from_secs(if cfg!(debug_assertions) { 20 } else { 1 });
    assert!(begun.elapsed() <= most, "{:?}", begun.elapsed());
    let proxy = Proxy::start(&pki.config_ini(""), "");
    for version in BOTH_VERSIONS {
        let config = pki.client(&[version]);
        let mut client = Client::connect(proxy.address(), config).expect("a handshake");
        assert_eq!(client.get("/-/healthy").head.status, 200, "{version:?}");
    }
}

#[test]
fn the_files_and_the_snippet_of_certs_are_a_working_configuration() {
    let exporter = Exporter::start(|conversation| {
        conversation.read_request()?;
        conversation.answer("", Framing::ContentLength, scrapegate_harness::body::Body::text(100))
    });
    let files = Files::new("", &exporter.section("e"));
    let out = files.path("pki").display().to_string();
    let made = run(["certs", "--out", &out, "--host", "localhost"]);
    assert_eq!(made.code, Some(0), "{:#?}", made.err);
    // The lines between the two headings, as a user would copy them.
    let snippet: String = made
        .out
        .iter()
        .skip_while(|line| line.trim() != "[default]")
        .take_while(|line| !line.starts_with("When"))
        .map(|line| format!("{}\n", line.trim_start()))
        .collect();
    files.write("config.ini", &snippet);
    let checked = files.check();
    assert_eq!(checked.code, Some(0), "{snippet}\n{:#?}", checked.out);

    let proxy = Proxy::start(&format!("{snippet}log-format = json\n"), &exporter.section("e"));
    let mut client = Client::connect(proxy.address(), client_of(&files)).expect("a handshake");
    let response = client.get("/prometheus?exporter=e");
    assert_eq!((response.head.status, response.body.bytes), (200, 100), "{response:?}");

    let again = run(["certs", "--out", &out, "--host", "localhost"]);
    assert_eq!(again.code, Some(1));
    assert!(again.errors().contains("--force"), "{:#?}", again.err);
    assert_eq!(files.check().code, Some(0), "nothing was overwritten");
}

/// A client with the certificate that `certs` created.
fn client_of(files: &Files) -> std::sync::Arc<rustls::ClientConfig> {
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
    let path = |name: &str| files.path("pki").join(name);
    let certificate = |name| CertificateDer::from_pem_file(path(name)).expect("a certificate");
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate("ca.crt")).expect("a CA certificate");
    let key = PrivateKeyDer::from_pem_file(path("client.key")).expect("a key");
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(BOTH_VERSIONS)
        .expect("supported versions")
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![certificate("client.crt")], key)
        .expect("the key belongs to the certificate");
    std::sync::Arc::new(config)
}
