//! PEM files as they occur on real hosts (F10).

use std::fs;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use scrapegate_harness::{
    body::Body,
    client::Client,
    exporter::{Exporter, Framing},
    pki::{BOTH_VERSIONS, Pki},
    proxy::Proxy,
};

use crate::{Files, line_of, set_mode};

const BYTE_ORDER_MARK: &str = "\u{feff}";

/// OpenSSL's `X509_CERT_AUX`: trusted for TLS clients; trusted for code signing only; rejected for
/// TLS clients.
const TRUSTS_CLIENTS: &[u8] = b"\x30\x0c\x30\x0a\x06\x08\x2b\x06\x01\x05\x05\x07\x03\x02";
const TRUSTS_CODE: &[u8] = b"\x30\x0c\x30\x0a\x06\x08\x2b\x06\x01\x05\x05\x07\x03\x03";
const REJECTS_CLIENTS: &[u8] = b"\x30\x0c\xa0\x0a\x06\x08\x2b\x06\x01\x05\x05\x07\x03\x02";

fn pem(label: &str, der: &[u8]) -> String {
    let lines: Vec<String> = STANDARD
        .encode(der)
        .as_bytes()
        .chunks(64)
        .map(|line| String::from_utf8_lossy(line).into_owned())
        .collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

/// A CA that issued no client certificate.
fn other_authority() -> String {
    let mut params = CertificateParams::new([]).expect("valid names");
    params.distinguished_name.push(DnType::CommonName, "another CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    CertifiedIssuer::self_signed(params, key).expect("a CA certificate").pem()
}

#[test]
fn f10_clients_of_the_second_ca_in_a_bundle_are_accepted_in_every_format() {
    let pki = Pki::new();
    let plain = pki.ca().pem();
    let der = pki.ca().der();
    let indented: String = plain.lines().map(|line| format!("    {line}\n")).collect();
    for second in [
        pem("TRUSTED CERTIFICATE", der),
        pem("TRUSTED CERTIFICATE", &[der, TRUSTS_CLIENTS].concat()),
        format!("{BYTE_ORDER_MARK}{plain}"),
        pem("X509 CERTIFICATE", der),
        indented,
        format!("Bag Attributes\r\n    friendlyName: ca\r\n{}", plain.replace('\n', "\r\n")),
    ] {
        fs::write(pki.path("ca.pem"), format!("{}{second}", other_authority())).expect("written");
        let config = pki.config_ini("");
        let checked = Files::new(&config, "").check();
        let found = checked.out.iter().filter(|line| line.contains("client-ca")).count();
        assert_eq!((checked.code, found), (Some(0), 0), "{:#?}", checked.out);
        let proxy = Proxy::start(&config, "");
        let mut client =
            Client::connect(proxy.address(), pki.client(BOTH_VERSIONS)).expect("a handshake");
        assert_eq!(client.get("/-/healthy").head.status, 200, "{second}");
    }
}

#[test]
fn f10_an_unusable_block_of_a_bundle_is_an_error_with_number_label_and_reason() {
    let pki = Pki::new();
    let (first, der) = (other_authority(), pki.ca().der());
    let line = first.lines().count() + 1;
    let plain = pki.ca().pem();
    for (second, expected) in [
        (
            pem("TRUSTED CERTIFICATE", &[der, TRUSTS_CODE].concat()),
            "block 2 (TRUSTED CERTIFICATE, line {}) is marked as not trusted for this purpose",
        ),
        (
            pem("TRUSTED CERTIFICATE", &[der, REJECTS_CLIENTS].concat()),
            "block 2 (TRUSTED CERTIFICATE, line {}) is marked as not trusted for this purpose",
        ),
        (pem("X509 CRL", der), "block 2 (X509 CRL, line {}) is a CRL, which is not used here"),
        (pem("PKCS7", der), "block 2 (PKCS7, line {}) is a PKCS #7 file"),
        (pem("CERT", der), "block 2 (CERT, line {}) has an unknown label"),
        (
            plain.replace("-----BEGIN", "----BEGIN"),
            "block 2 (CERTIFICATE, line {}) has a malformed BEGIN or END line",
        ),
        (
            plain.replace("-----BEGIN", "ca: -----BEGIN"),
            "block 2 (CERTIFICATE, line {}) has text before BEGIN",
        ),
        (plain.replace('\n', " "), "block 2 (CERTIFICATE, line {}) is on one line"),
        (
            plain.replacen('M', "*", 1),
            "block 2 (CERTIFICATE, line {}) is damaged: its contents are not base64",
        ),
        (
            plain.lines().skip(1).collect::<Vec<_>>().join("\n"),
            "has no BEGIN line; the block is not complete",
        ),
        (
            plain.replace("-----", ""),
            "block 2 (CERTIFICATE, line {}) has a malformed BEGIN or END line",
        ),
        (
            plain.replace("-----BEGIN ", "-----BEGIN"),
            "block 2 (CERTIFICATE, line {}) has a malformed BEGIN or END line",
        ),
        (
            plain.lines().filter(|line| !line.contains("-----")).collect::<Vec<_>>().join("\n"),
            "block 2 (no label, line {}) is incomplete: lines {}-",
        ),
    ] {
        fs::write(pki.path("ca.pem"), format!("{first}{second}")).expect("written");
        let config = pki.config_ini("");
        let place = format!("config.ini:{}: ", line_of(&config, "client-ca"));
        let expected = expected.replace("{}", &line.to_string());
        let path = pki.path("ca.pem").display().to_string();
        Files::new(&config, "").assert_mistake(&[&place, "client-ca", &path, &expected]);
    }
}

#[test]
fn f10_a_harmless_unused_block_is_a_warning_and_one_file_may_hold_all() {
    let pki = Pki::new();
    let read = |name: &str| fs::read_to_string(pki.path(name)).expect("readable");
    let (server, key) = (read("server.pem"), read("server.key"));
    let parameters = pem("DH PARAMETERS", &[0x30, 0]);
    fs::write(pki.path("server.pem"), format!("{server}{key}{parameters}")).expect("written");
    let config = pki.config_ini("");
    let checked = Files::new(&config, "").check();
    assert_eq!(checked.code, Some(0), "{:#?}", checked.out);
    for words in [
        "block 2 (PRIVATE KEY, line 1",
        "is a private key, which is not used here",
        "block 3 (DH PARAMETERS, line ",
    ] {
        let has_it = |line: &&String| line.contains("warning") && line.contains(words);
        assert_eq!(checked.out.iter().filter(has_it).count(), 1, "{words}: {:#?}", checked.out);
    }
    // One file for both keys. Only the parameters are not used.
    let [certificate, key] =
        ["server.pem", "server.key"].map(|it| pki.path(it).display().to_string());
    let checked = Files::new(&config.replace(&key, &certificate), "").check();
    assert_eq!(checked.code, Some(0), "{:#?}", checked.out);
    let warnings: Vec<_> = checked.out.iter().filter(|line| line.contains("block")).collect();
    // One file as certificate and as key.
    assert_eq!(warnings.len(), 2, "{warnings:#?}");
    assert!(warnings.iter().all(|line| line.contains("DH PARAMETERS")), "{warnings:#?}");
}

#[test]
fn f10_a_certificate_and_a_key_with_a_byte_order_mark_work() {
    let pki = Pki::new();
    for name in ["server.pem", "server.key", "ca.pem"] {
        let text = fs::read_to_string(pki.path(name)).expect("readable");
        let text = format!("{BYTE_ORDER_MARK}{}", text.replace('\n', "\r\n"));
        fs::write(pki.path(name), text).expect("written");
    }
    let proxy = Proxy::start(&pki.config_ini(""), "");
    let mut client =
        Client::connect(proxy.address(), pki.client(BOTH_VERSIONS)).expect("a handshake");
    assert_eq!(client.get("/-/healthy").head.status, 200);
}

#[test]
fn f10_a_secret_is_used_without_the_bytes_that_editors_add() {
    let exporter = Exporter::start(|conversation| {
        conversation.read_request()?;
        conversation.answer("", Framing::ContentLength, Body::text(10))
    });
    let section = |name: &str, keys: &str| format!("{}{keys}", exporter.section(name));
    let exporters = [
        section("token", "bearer-token-file = token\n"),
        section("password", "username = u\npassword-file = password\n"),
    ]
    .concat();
    let pki = Pki::new();
    for (before, after, warnings) in
        [(BYTE_ORDER_MARK, "\r\n", 0), ("", " \n", 2), ("", "\n \n\n", 2), (" ", "\t", 2)]
    {
        let text = format!("{before}s3 cret{after}");
        for name in ["token", "password"] {
            fs::write(pki.path(name), &text).expect("written");
            set_mode(&pki.path(name), 0o600);
        }
        let absolute = |name: &str| format!("file = {}", pki.path(name).display());
        let exporters = exporters
            .replace("file = token", &absolute("token"))
            .replace("file = password", &absolute("password"));
        let config = pki.config_ini("");
        let checked = Files::new(&config, &exporters).check();
        let warned = checked.out.iter().filter(|line| line.contains("around the secret"));
        assert_eq!((checked.code, warned.count()), (Some(0), warnings), "{:#?}", checked.out);
        assert!(!checked.out.iter().any(|line| line.contains("s3 ")), "{:#?}", checked.out);
        let proxy = Proxy::start(&config, &exporters);
        let mut client =
            Client::connect(proxy.address(), pki.client(BOTH_VERSIONS)).expect("a handshake");
        for (name, expected) in [("token", "Bearer s3 cret"), ("password", "Basic dTpzMyBjcmV0")] {
            assert_eq!(client.get(&format!("/prometheus?exporter={name}")).head.status, 200);
            let requests = exporter.requests();
            let head = requests.last().expect("a request");
            assert!(head.contains(expected), "{text:?}: {head}");
        }
    }
}

#[test]
fn f10_utf_16_is_an_error_that_recommends_utf_8() {
    let utf16 = |text: &str, mark: bool| -> Vec<u8> {
        let mark = mark.then_some(0xfeff);
        mark.into_iter().chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect()
    };
    for mark in [true, false] {
        let pki = Pki::new();
        let config = pki.config_ini("");
        for name in ["config.ini", "prometheus_exporters.ini"] {
            let files = Files::new(&config, "");
            fs::write(files.path(name), utf16("[default]\n", mark)).expect("written");
            files.assert_mistake(&[name, "UTF-16", "save it as UTF-8"]);
        }
        for (name, key) in [("ca.pem", "client-ca"), ("server.key", "keyfile")] {
            let before = fs::read_to_string(pki.path(name)).expect("readable");
            fs::write(pki.path(name), utf16(&before, mark)).expect("written");
            Files::new(&config, "").assert_mistake(&[key, "UTF-16", "save it as UTF-8"]);
            fs::write(pki.path(name), before).expect("written");
        }
    }
}
