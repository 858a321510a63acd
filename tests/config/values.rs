//! The meaning of the values that were read.

use std::{
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use scrapegate::{
    common::{
        compression::{CompressFor, CompressionRules, ContentCoding},
        exporter::{Integrity, Target},
        families::FamilyPattern,
    },
    config::{
        self, ClientAuth, Config, Credentials, LogFormat, Password, Sources, TlsFiles, TlsLevel,
        Transport, agent_folder,
    },
};

use crate::{GOOD_CONFIG, GOOD_EXPORTERS, fixtures_folder, good, load, load_files, rendered};

fn fixture(config: &str, exporters: &str) -> Config {
    let folder = fixtures_folder();
    let config = folder.join("daemon").join(config);
    let (config, diagnostics) =
        load_files(&config, Some(&folder.join("exporters").join(exporters)));
    config.unwrap_or_else(|| panic!("{diagnostics}"))
}

fn tls(config: &Config) -> &TlsFiles {
    match &config.listener.transport {
        Transport::Tls(files) => files,
        Transport::InsecurePlainHttp => panic!("TLS was configured"),
    }
}

fn in_fixtures(path: &str) -> PathBuf {
    fixtures_folder().join(path)
}

#[test]
fn the_defaults_match_the_manual() {
    let config = good(GOOD_CONFIG, GOOD_EXPORTERS);
    assert_eq!(config.listener.address, SocketAddr::from(([0, 0, 0, 0], 3333)));
    assert_eq!(config.listener.tls_level, TlsLevel::Intermediate);
    assert!(config.access.basic_auth.is_none() && config.access.client_allow.is_empty());
    assert!(config.scrapes.enabled && config.pages.status_page && !config.reload.over_http);
    let limits = &config.limits;
    let times = [
        (limits.handshake_timeout, 5),
        (limits.header_timeout, 5),
        (limits.idle_timeout, 330),
        (limits.stall_timeout, 10),
        (limits.drain_timeout, 30),
        (config.reload.interval, 30),
    ];
    for (budget, seconds) in times {
        assert_eq!(budget.as_duration(), Duration::from_secs(seconds));
    }
    let caps = [limits.max_connections, limits.max_handshakes, limits.max_connections_per_ip];
    assert_eq!(caps.map(u32::from), [4096, 256, 512]);
    assert_eq!(config.scrapes.timeout_offset, Duration::from_millis(250));
    assert_eq!(config.scrapes.max_compressions.get(), 32);
    assert_eq!((config.process.worker_threads, config.process.log_format), (None, LogFormat::Text));
    assert!(config.pages.advertise.is_none() && config.enrolment.window.is_none());

    let [exporter] = &config.exporters[..] else {
        panic!("one exporter was configured");
    };
    assert_eq!(exporter.target.to_string(), "localhost:9100");
    assert!(exporter.enabled && exporter.tls.is_none() && exporter.credentials.is_none());
    let times = [exporter.rules.interval, exporter.rules.timeout, exporter.rules.connect_timeout];
    let seconds = times.map(|budget| budget.as_duration().as_secs());
    assert_eq!(seconds, [15, 15, 1]);
    assert_eq!((exporter.rules.max_concurrent.get(), exporter.rules.max_body), (16, None));
    assert!(exporter.rules.forward_params && exporter.rules.integrity == Integrity::Strict);
}

#[test]
fn every_key_of_config_ini_takes_effect() {
    let config = fixture("every-proxy-key.good.ini", "minimal.good.ini");
    assert_eq!(config.listener.address.to_string(), "[::1]:9443");
    assert_eq!(config.listener.tls_level, TlsLevel::Modern);
    let auth = config.access.basic_auth.as_ref().expect("auth was configured");
    assert_eq!((auth.value.user.as_str(), auth.location.line), ("prometheus", Some(7)));
    assert!(matches!(auth.value.password, Password::Bcrypt(_)));
    let files = tls(&config);
    assert!(files.enrolment.is_none());
    assert_eq!(files.certificate.value, in_fixtures("daemon/server.crt"));
    assert_eq!(files.key.value, in_fixtures("daemon/server.key"));
    let ClientAuth::Require { ca, crl } = &files.clients else {
        panic!("client certificates are required");
    };
    assert_eq!(ca.value, in_fixtures("daemon/ca.crt"));
    assert_eq!(crl.as_ref().map(|crl| crl.location.line), Some(Some(14)));
    assert_eq!(config.access.client_allow.len(), 3);
    assert_eq!(config.scrapes.timeout_offset, Duration::ZERO);
    assert_eq!(config.scrapes.max_compressions.get(), 7);
    assert_eq!(config.process.worker_threads.map(usize::from), Some(2));
    assert_eq!(config.process.log_format, LogFormat::Json);
    let advertised = config.pages.advertise.map(|advertised| advertised.target(3333));
    assert_eq!(advertised.as_deref(), Some("[2001:db8::1]:9443"));
    assert!(!config.pages.status_page && config.reload.over_http);
    assert_eq!(config.limits.header_timeout.as_duration(), Duration::from_millis(2500));
}

#[test]
fn enrolment_uses_the_agents_files() {
    let config = fixture("agent-3.5.config.good.ini", "minimal.good.ini");
    let files = tls(&config);
    let enrolment = files.enrolment.as_ref().expect("try-autossl is on");
    assert_eq!(files.certificate.value, agent_folder().join("agent.crt"));
    assert_eq!(files.key.value, agent_folder().join("agent.key"));
    let csr = &enrolment.signing_request;
    assert_eq!(csr.value, agent_folder().join("agent.csr"));
    assert_eq!(
        csr.location.to_string().rsplit('/').next(),
        Some("agent-3.5.config.good.ini: [default] autossl-csr-file")
    );
    let ClientAuth::Require { ca, crl: None } = &files.clients else {
        panic!("client certificates are required");
    };
    assert_eq!(ca.value, agent_folder().join("server_ca.crt"));
    assert_eq!(ca.value, enrolment.ca.value);
}

#[test]
fn relative_autossl_files_resolve_from_config_ini_and_defaults_from_the_autossl_folder() {
    let text = "[default]\ntry-autossl = 1\nautossl-folder = ssl\nautossl-key-file = own.key\n\
         [prometheus]\nenabled = off\n";
    let config = good(text, "");
    let files = tls(&config);
    let folder = files.key.value.parent().expect("a file is in a folder");
    assert_eq!(files.key.value, folder.join("own.key"));
    assert_eq!(files.certificate.value, folder.join("ssl/agent.crt"));
}

#[test]
fn enrolment_can_be_restricted() {
    let config = fixture("enrolment-narrowed.good.ini", "minimal.good.ini");
    let allowed = |address: &str| {
        let address: IpAddr = address.parse().expect("an address");
        config.enrolment.from.iter().any(|range| range.contains(address))
    };
    assert!(allowed("10.0.0.5") && allowed("192.168.9.9") && allowed("::ffff:10.0.0.5"));
    assert!(!allowed("10.0.0.6") && !allowed("fe80::1"));
    let ClientAuth::Require { ca, .. } = &tls(&config).clients else {
        panic!("client certificates are required");
    };
    assert_eq!(ca.value, in_fixtures("daemon/other-ca.crt"));
}

#[test]
fn every_key_of_the_exporters_file_takes_effect() {
    let config = fixture("minimal.good.ini", "every-key.good.ini");
    let [node, plain, disabled] = &config.exporters[..] else {
        panic!("three exporters were configured");
    };
    assert_eq!(node.name.value.as_str(), "Node Exporter/1 ü");
    assert_eq!(node.name.location.line, Some(8));
    assert_eq!(node.target.to_string(), "[::1]:9100");
    let times = [node.rules.interval, node.rules.timeout, node.rules.connect_timeout];
    let millis = times.map(|budget| budget.as_duration().as_millis());
    assert_eq!(millis, [30_000, 29_500, 500]);
    assert_eq!((node.rules.max_concurrent.get(), node.rules.max_body), (2, Some(64 << 20)));
    assert!(!node.rules.forward_params && node.rules.integrity == Integrity::Transport);
    let compression =
        CompressionRules { compress_for: CompressFor::All, algorithms: vec![ContentCoding::Gzip] };
    assert_eq!(node.rules.compression, compression);
    assert_eq!(plain.rules.compression, CompressionRules::default());
    let families = node.rules.families.as_ref().expect("a filter was configured");
    let patterns = [families.keep(), families.drop()].map(|it| it.map(FamilyPattern::as_str));
    assert_eq!(patterns, [Some("node_.*"), Some(r"node_[0-9]+\.(x|y)")]);
    let tls = node.tls.as_ref().expect("https was configured");
    assert_eq!(tls.ca.as_ref().map(|ca| &ca.value), Some(&in_fixtures("exporters/tls/ca.crt")));
    assert_eq!(tls.server_name.to_str(), "node.example");
    assert!(tls.client_pair.is_some() && !tls.skip_verify);
    let Some(Credentials::Basic { username, password }) = &node.credentials else {
        panic!("a password was configured");
    };
    assert_eq!(username, "prometheus");
    assert_eq!(password.value, in_fixtures("exporters/secrets/password"));

    assert!(plain.tls.is_none() && plain.rules.families.is_none());
    assert_eq!(plain.target, Target::Unix(Path::new("/run/exporter.sock").to_owned()));
    assert_eq!(plain.path.as_str(), r"/m\x000d\x000aX:y");
    assert!(matches!(&plain.credentials, Some(Credentials::Bearer(_))));
    assert!(!disabled.enabled && disabled.tls.is_some());
}

#[test]
fn a_key_of_a_section_overrides_its_alternative_in_default() {
    let config =
        fixture("minimal.good.ini", "a-section-key-overrides-its-alternative-in-default.good.ini");
    let [socket, token] = &config.exporters[..] else {
        panic!("two exporters were configured");
    };
    assert!(matches!(socket.target, Target::Unix(_)));
    assert!(matches!(socket.credentials, Some(Credentials::Basic { .. })));
    assert_eq!(token.target.to_string(), "db.example:1");
    assert!(matches!(token.credentials, Some(Credentials::Bearer(_))));
}

#[test]
fn the_command_line_overrides_the_files() {
    let sources = |config: &str, listen: &str| Sources {
        config: Some(in_fixtures("daemon").join(config)),
        exporters: Some(in_fixtures("exporters/minimal.good.ini")),
        listen: Some(listen.parse().expect("an address")),
    };
    let (config, diagnostics) = config::load(&sources("minimal.good.ini", "127.0.0.2:0"));
    let config = config.unwrap_or_else(|| panic!("{diagnostics}"));
    assert_eq!(config.listener.address.to_string(), "127.0.0.2:0");

    // The rule for plain HTTP applies to the address that is really used.
    let (config, _) = config::load(&sources("plain-http-on-loopback.good.ini", "10.0.0.1:1"));
    assert!(config.is_none());
    let (config, _) = config::load(&sources("plain-http-on-loopback.good.ini", "[::1]:1"));
    assert!(config.is_some());
}

#[test]
fn booleans_have_four_spellings_in_any_case() {
    for (text, value) in [
        ("True", true),
        ("yes", true),
        ("ON", true),
        ("1", true),
        ("FALSE", false),
        ("No", false),
        ("off", false),
        ("0", false),
    ] {
        let exporters = GOOD_EXPORTERS.replace("yes", text);
        assert_eq!(good(GOOD_CONFIG, &exporters).exporters[0].enabled, value, "{text}");
    }
}

#[test]
fn a_key_may_be_written_in_any_case_and_with_underscores() {
    let (_, diagnostics) =
        load(GOOD_CONFIG, format!("{GOOD_EXPORTERS}Max_Concurrent = 2\nmax-concurrent = 3\n"));
    let expected =
        "exporters.ini:6: [node] max-concurrent: error: duplicate key, first defined on line 5\n";
    assert_eq!(rendered(&diagnostics), expected);
}

#[test]
fn debug_output_shows_no_secrets() {
    let config = GOOD_CONFIG.replace("[default]\n", "[default]\nauth = user:hunter2\n");
    let config = good(&config, GOOD_EXPORTERS);
    assert!(config.access.basic_auth.is_some());
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[test]
fn ten_mistakes_give_ten_findings() {
    let folder = fixtures_folder();
    let (config, diagnostics) = load_files(
        &folder.join("daemon/minimal.good.ini"),
        Some(&folder.join("exporters/ten-mistakes.bad.ini")),
    );
    assert!(config.is_none());
    let lines: Vec<_> =
        diagnostics.iter().filter_map(|diagnostic| diagnostic.location.line).collect();
    assert_eq!(lines.len(), 10, "{diagnostics}");
    assert!(lines.is_sorted_by(|a, b| a < b), "{lines:?}");
}

/// C19.
#[test]
fn backslashes_are_kept_literally() {
    for path in [r"/m\x000d\x000aX:y", r"/\0", r"/C:\new", r"/\n\r\t", r"/\u{0}", r"/a\\b", r"/\"] {
        let exporters = GOOD_EXPORTERS.replace("/metrics", path);
        let config = good(GOOD_CONFIG, &exporters);
        assert_eq!(config.exporters[0].path.as_str(), path);
    }
    let socket = GOOD_EXPORTERS.replace("port = 9100", r"socket = /C:\new\0\x0041");
    let target = &good(GOOD_CONFIG, &socket).exporters[0].target;
    assert_eq!(*target, Target::Unix(Path::new(r"/C:\new\0\x0041").to_owned()));
}

/// C21.
#[test]
fn every_duration_key_refuses_values_that_are_not_durations() {
    for key in ["interval", "timeout", "connect-timeout"] {
        for value in [
            "0",
            "0.0",
            "-5",
            "-0",
            "+5",
            "1e9",
            "5 parsecs",
            "5s",
            "NaN",
            "nan",
            "inf",
            "infinity",
            "99999999999999999999",
            "86401",
            "0x5",
            "1_0",
            "1,5",
            ".",
            "5 .",
            "\u{661}",
            "True",
        ] {
            let (config, diagnostics) =
                load(GOOD_CONFIG, format!("{GOOD_EXPORTERS}{key} = {value}\n"));
            let place = format!("exporters.ini:5: [node] {key}: error: ");
            let found = rendered(&diagnostics);
            assert!(config.is_none() && found.starts_with(&place), "{key} = {value}: {found}");
        }
    }
}
