//! `scrapegate check`.

use scrapegate_harness::pki::Pki;

use crate::Files;

/// A configuration with a mistake in each of the lines that the test lists.
const TEN_MISTAKES: &str = "\
[one]
enabled = perhaps
port = 99999
path = metrics
timeout = 0
interval = -5
[two]
enabled = yes
prot = 9100
path = /metrics
port = 9100
method = ftp
max-body = many
[three]
enabled = yes
port = 9100
path = /metrics
interval = 10
timeout = 20
integrity = perhaps
";

#[test]
fn ten_mistakes_are_ten_findings_each_with_its_line() {
    let pki = Pki::new();
    let files = Files::new(&pki.config_ini(""), TEN_MISTAKES);
    let ended = files.check();
    assert_eq!(ended.code, Some(1), "{:#?}", ended.out);
    let findings = ended.out.iter().filter(|line| line.contains(": error: ")).count();
    assert_eq!(findings, 10, "{:#?}", ended.out);
    for (line, section, key) in [
        (2, "one", "enabled"),
        (3, "one", "port"),
        (4, "one", "path"),
        (5, "one", "timeout"),
        (6, "one", "interval"),
        (9, "two", "prot"),
        (12, "two", "method"),
        (13, "two", "max-body"),
        (19, "three", "timeout"),
        (20, "three", "integrity"),
    ] {
        let place = format!(
            "{}:{line}: [{section}] {key}",
            files.path("prometheus_exporters.ini").display()
        );
        let found = ended.out.iter().filter(|it| it.contains(&place)).count();
        assert_eq!(found, 1, "{place} in {:#?}", ended.out);
    }
}

#[test]
fn mistakes_in_both_files_and_in_the_certificates_are_reported_together() {
    let pki = Pki::new();
    let config = pki.config_ini("client-crl = missing.pem\n");
    let files = Files::new(&config, "[e]\nenabled = yes\nport = 1\npath = /m\nca-file = x\n");
    files.assert_mistake(&["prometheus_exporters.ini:5", "ca-file"]);
    files.assert_mistake(&["config.ini", "client-crl", "missing.pem"]);
    // A mistake in one section does not hide the findings about files that other keys name.
    let secret =
        "[e]\nenabled = yes\nport = 1\npath = /m\nbearer-token-file = absent\n[f]\nport = 0\n";
    files.write("prometheus_exporters.ini", secret);
    files.assert_mistake(&["config.ini", "client-crl", "missing.pem"]);
    files.assert_mistake(&["prometheus_exporters.ini:5", "bearer-token-file", "absent"]);
    files.assert_mistake(&["prometheus_exporters.ini:7", "port"]);
}

#[test]
fn without_mistakes_check_lists_exporters_and_certificate_expiry() {
    let pki = Pki::new();
    let exporters = "\
[node]
enabled = yes
port = 9100
path = /metrics
interval = 15
timeout = 5
[mysql]
enabled = no
socket = /run/mysql.sock
path = /metrics?collect=all
";
    let files = Files::new(&pki.config_ini(""), exporters);
    let ended = files.check();
    assert_eq!((ended.code, ended.err.len()), (Some(0), 0), "{:#?}", ended.err);
    let row = |start: &str| {
        let mut rows = ended.out.iter().filter(|line| line.starts_with(start));
        let row = rows.next().unwrap_or_else(|| panic!("no {start} in {:#?}", ended.out));
        assert_eq!(rows.next(), None);
        row.split_whitespace().collect::<Vec<_>>()
    };
    assert_eq!(
        row("EXPORTER"),
        ["EXPORTER", "ENABLED", "TARGET", "INTERVAL", "TIMEOUT", "COMPRESSION"]
    );
    let [name, enabled, target, ..] = row("node")[..] else { panic!("{:#?}", ended.out) };
    assert_eq!((name, enabled), ("node", "yes"));
    assert!(target.starts_with("http://") && target.ends_with(":9100/metrics"), "{target}");
    assert_eq!(row("mysql")[..2], ["mysql", "no"]);
    let server = row("server");
    assert_eq!(server.last(), Some(&&*pki.path("server.pem").display().to_string()));
    assert!(server.contains(&"days"), "{server:?}");
    assert!(row("clients' CA").contains(&&*pki.path("ca.pem").display().to_string()));
}

#[test]
fn check_shows_the_filters_of_exporters() {
    let pki = Pki::new();
    let exporters = "\
[default]
path = /metrics
port = 1
metrics-drop = go_.*
[plain node]
enabled = yes
metrics-keep = node_\\d.*
[other]
";
    let ended = Files::new(&pki.config_ini(""), exporters).check();
    assert_eq!(ended.code, Some(0), "{:#?}", ended.err);
    let at = ended.out.iter().position(|line| line.starts_with("FILTERED EXPORTER"));
    let rows = &ended.out[at.expect("a table of filters")..][..3];
    assert_eq!(
        rows,
        [
            "FILTERED EXPORTER  KEEPS      DROPS",
            "plain node         node_\\d.*  go_.*",
            "other              -          go_.*",
        ]
    );
    let ended =
        Files::new(&pki.config_ini(""), &exporters.replace("drop = go_.*", "drop = (go")).check();
    assert_eq!(ended.code, Some(1));
    let error = "prometheus_exporters.ini:4: [default] metrics-drop: error: `(go` is not a regular \
                 expression: unclosed group";
    assert!(ended.out.iter().any(|line| line.ends_with(error)), "{:#?}", ended.out);
}

#[test]
fn check_starts_nothing_and_needs_no_free_port() {
    let pki = Pki::new();
    let files = Files::new(&pki.config_ini(""), "");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("bound").to_string();
    let ended = crate::run(["check", "--config", &files.config(), "--listen", &address]);
    assert_eq!(ended.code, Some(0), "{:#?}", ended.out);
    taken.set_nonblocking(true).expect("set");
    assert!(taken.accept().is_err(), "`check` connected to the exporter");
}
