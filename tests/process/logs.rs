//! The contents of the log in both formats, and what must never be in the log.

use std::{collections::BTreeSet, fs, sync::Arc};

use rcgen::{DnType, ExtendedKeyUsagePurpose, SanType};
use rustls::{ServerConfig, crypto::aws_lc_rs, pki_types::PrivateKeyDer};
use scrapegate_harness::{
    body::Body,
    client::Client,
    exporter::{Conversation, Exporter, Framing},
    forge::credentials,
    pki::{BOTH_VERSIONS, Pki, write_private},
    proxy::Proxy,
};
use serde_json::Value;

/// `user:the-password`, the credentials that the proxy requires.
const AUTHORIZATION: &str = "dXNlcjp0aGUtcGFzc3dvcmQ=";

/// Reverses the direction of the following text, clears a terminal, and begins a new line.
const HOSTILE: &str = "a\u{202e}b\u{1b}[2Jc\n2030-01-01T00:00:00.000000Z  INFO forged";

fn short(it: &mut Conversation) -> std::io::Result<()> {
    it.read_request()?;
    it.answer("", Framing::ContentLength, Body::text(100))
}

/// TLS for an exporter whose certificate is valid for another name, which is hostile to logs.
fn misnamed(pki: &Pki) -> Arc<ServerConfig> {
    let forged = credentials(
        pki.ca(),
        |params| {
            let name = HOSTILE.replace('\u{202e}', "");
            params.subject_alt_names = vec![SanType::DnsName(name.try_into().expect("ASCII"))];
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        },
        &[],
    );
    let key = PrivateKeyDer::try_from(forged.key.serialize_der()).expect("PKCS #8");
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("supported versions")
        .with_no_client_auth()
        .with_single_cert(forged.chain, key)
        .expect("the key belongs to the certificate");
    Arc::new(config)
}

/// A proxy with the most verbose log, before exporters that require credentials.
struct Setup {
    pki: Pki,
    proxy: Proxy,
    _exporter: Exporter,
    _tls: Exporter,
}

impl Setup {
    fn new(format: &str) -> Self {
        let pki = Pki::new();
        write_private(&pki.path("password"), "exporter-password\n");
        write_private(&pki.path("token"), "exporter-token\n");
        let exporter = Exporter::start(short);
        let tls = Exporter::start_tls_with(&pki, misnamed(&pki), short);
        let file = |name: &str| pki.path(name).display().to_string();
        let exporters = exporter.section("a \"quoted\" {name}=\\n")
            + &format!("username = exporter-user\npassword-file = {}\n", file("password"))
            + &exporter.section("bearer")
            + &format!("bearer-token-file = {}\n", file("token"))
            + &tls.section("misnamed");
        let config = pki.config_ini("").replace("= json", &format!("= {format}"));
        let config = config.replacen("[default]\n", "[default]\nauth = user:the-password\n", 1);
        let proxy = Proxy::start_with_debug_log(&config, &exporters);
        Self { pki, proxy, _exporter: exporter, _tls: tls }
    }

    /// A client whose certificate contains a hostile name.
    fn connect(&self) -> Client {
        let forged = credentials(
            self.pki.ca(),
            |params| {
                params.distinguished_name.push(DnType::CommonName, HOSTILE);
                params.subject_alt_names = vec![SanType::URI("urn:x".try_into().expect("a URI"))];
            },
            &[],
        );
        let config = self.pki.client_with(BOTH_VERSIONS, forged.chain, &forged.key);
        Client::connect(self.proxy.address(), config).expect("a handshake")
    }

    /// Sends requests with everything that a log could repeat. Returns the number of requests. Each
    /// leaves a record.
    fn provoke(&self) -> usize {
        let exporters =
            ["a+%22quoted%22+%7bname%7d%3d%5cn", "bearer", "misnamed", "nobody%e2%80%ae%22"];
        let mut targets: Vec<String> =
            exporters.iter().map(|name| format!("/prometheus?exporter={name}")).collect();
        targets.extend(
            ["/prometheus?exporter=x%0aforged", "/%1b%5b2J%0aforged", "/prometheus?exporter=%ff"]
                .map(str::to_owned),
        );
        for target in &targets {
            for authorization in [AUTHORIZATION, "dXNlcjp3cm9uZy1wYXNzd29yZA=="] {
                let request = format!(
                    "GET {target} HTTP/1.1\r\nHost: h\r\nUser-Agent: \u{202e}\r\n\
                     Cookie: cookie\r\nAuthorization: Basic {authorization}\r\n\r\n"
                );
                let mut client = self.connect();
                client.send(request).expect("sent");
                client.read_response().expect("a response");
            }
        }
        2 * targets.len()
    }

    /// All lines of the log, after the proxy has exited.
    fn lines(mut self) -> Vec<String> {
        self.proxy.signal("TERM");
        self.proxy.wait_exit();
        let lines = self.proxy.log_lines();
        for secret in [
            "the-password",
            "wrong-password",
            AUTHORIZATION,
            "exporter-password",
            "exporter-token",
            "cookie",
            "PRIVATE KEY",
        ] {
            assert!(!lines.iter().any(|line| line.contains(secret)), "{secret}: {lines:#?}");
        }
        let key = fs::read_to_string(self.pki.path("server.key")).expect("a key");
        let key = key.lines().nth(1).expect("a line of it");
        assert!(!lines.iter().any(|line| line.contains(key)), "the key: {lines:#?}");
        lines
    }
}

#[test]
fn no_peer_can_break_a_line_of_the_text_log() {
    let setup = Setup::new("text");
    let requests = setup.provoke();
    let lines = setup.lines();
    let mut records = 0;
    for line in &lines {
        let shown = line.chars().all(|c| !c.is_control() && !"\u{202e}\u{2028}".contains(c));
        assert!(shown, "{line:?}");
        let mut words = line.split_whitespace();
        let time = words.next().unwrap_or_default();
        assert!(time.starts_with("20") && !time.starts_with("2030"), "{line:?} is not a record");
        let level = words.next().unwrap_or_default();
        assert!(["ERROR", "WARN", "INFO", "DEBUG", "TRACE"].contains(&level), "{line:?}");
        let message: Vec<&str> = words.take(2).collect();
        records += usize::from(message[0] == "scrape" || message == ["request", "refused"]);
    }
    assert_eq!(records, requests, "one record a request: {lines:#?}");
}

#[test]
fn no_peer_can_break_a_line_of_the_json_log() {
    let setup = Setup::new("json");
    let requests = setup.provoke();
    let lines = setup.lines();
    let records: Vec<Value> = lines
        .iter()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .filter(|record: &Value| {
            let message = &record["fields"]["message"];
            message == "scrape" || message == "request refused"
        })
        .collect();
    assert_eq!(records.len(), requests, "one record a request: {lines:#?}");
    assert!(lines.iter().all(|line| !line.contains(['\u{1b}', '\u{202e}'])), "{lines:#?}");
    let escaped = HOSTILE.escape_debug().to_string();
    assert!(records.iter().all(|record| record["fields"]["client"] == escaped.as_str()));
}

#[test]
fn the_record_of_a_scrape_has_all_fields() {
    let setup = Setup::new("json");
    setup.provoke();
    let record = setup.proxy.wait_for_scrape("bearer");
    let fields: BTreeSet<&str> =
        record.as_object().expect("fields").keys().map(String::as_str).collect();
    let wanted = [
        "bytes",
        "client",
        "connect_seconds",
        "encoding",
        "exporter",
        "exporter_seconds",
        "first_byte_seconds",
        "message",
        "network_seconds",
        "outcome",
        "peer",
        "received_bytes",
        "seconds",
        "status",
    ];
    assert_eq!(fields, BTreeSet::from(wanted), "{record}");
    let seconds = |field: &str| record[field].as_f64().expect("a number");
    assert!(seconds("connect_seconds") <= seconds("first_byte_seconds"), "{record}");
    assert!(seconds("first_byte_seconds") <= seconds("seconds"), "{record}");
    let both = seconds("exporter_seconds") + seconds("network_seconds");
    // Each duration is rounded to a tenth of a millisecond.
    assert!(both <= seconds("seconds") + 0.0002, "{record}");

    let failed = setup.proxy.wait_for_scrape("misnamed");
    assert_eq!((&failed["blame"], &failed["status"]), (&"exporter".into(), &502.into()));
    assert!(failed["cause"].as_str().is_some_and(|cause| cause.contains("TLS")), "{failed}");
    assert_eq!(failed.get("connect_seconds"), None, "{failed}");
}

#[test]
fn the_records_of_start_and_reload_list_what_is_served() {
    let setup = Setup::new("text");
    let start = setup.proxy.wait_for_line(&[" listening address="]);
    for field in [
        "exporters=3",
        "names=\"a \\\"quoted\\\" {name}=\\\\n, bearer, misnamed\"",
        "first_certificate_expires=\"2100-01-01\"",
        "version=\"",
    ] {
        assert!(start.contains(field), "{field}: {start}");
    }
    let file = setup.proxy.folder().join("prometheus_exporters.ini");
    let exporters = fs::read_to_string(&file).expect("the file");
    fs::write(&file, exporters.replace("[bearer]", "[other]")).expect("written");
    setup.proxy.signal("HUP");
    let reloaded = setup.proxy.wait_for_line(&[" reloaded "]);
    for field in ["exporters=3", "added=\"other\"", "removed=\"bearer\"", "dismissed=0"] {
        assert!(reloaded.contains(field), "{field}: {reloaded}");
    }
}
