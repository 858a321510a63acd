//! Successful and refused starts.

use std::net::TcpListener;

use scrapegate_harness::{pki::Pki, privileges, proxy::Proxy};

use crate::{Files, PLAIN_HTTP, line_of, run};

/// C26.
#[test]
fn an_address_in_use_is_an_error_that_names_the_address() {
    let pki = Pki::new();
    let files = Files::new(&pki.config_ini(""), "");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("bound").to_string();
    let ended = run(["run", "--config", &files.config(), "--listen", &address]);
    assert_eq!(ended.code, Some(71), "{:#?}", ended.err);
    let errors = ended.errors();
    assert!(errors.contains(&format!("cannot listen on {address}")), "{errors}");
    assert!(errors.contains("in use"), "{errors}");
}

/// C26.
#[test]
fn an_address_of_another_host_is_an_error() {
    let pki = Pki::new();
    let files = Files::new(&pki.config_ini(""), "");
    let ended = run(["run", "--config", &files.config(), "--listen", "192.0.2.1:3333"]);
    assert_eq!(ended.code, Some(71), "{:#?}", ended.err);
    assert!(ended.errors().contains("cannot listen on 192.0.2.1:3333"), "{:#?}", ended.err);
}

/// C26.
#[test]
fn a_privileged_port_without_privileges_is_an_error() {
    if !privileges::takes_port_1() {
        return;
    }
    let files = Files::new(PLAIN_HTTP, "");
    let ended = files.run_as_nobody(&["run", "--listen", "127.0.0.1:1"]);
    assert_eq!(ended.code, Some(71), "{:#?}", ended.err);
    let errors = ended.errors();
    assert!(errors.contains("cannot listen on 127.0.0.1:1"), "{errors}");
    assert!(errors.contains("Permission denied"), "{errors}");
}

#[test]
fn a_wrong_configuration_starts_nothing_and_reports_all_mistakes() {
    let pki = Pki::new();
    let config = pki.config_ini("idel-timeout = 5\nmax-connections = 0\n");
    let files = Files::new(&config, "[e]\nenabled = yes\nport = 0\npath = metrics\n");
    let ended = files.run();
    assert_eq!(ended.code, Some(78));
    let typo = line_of(&config, "idel");
    for (file, line, key) in [
        ("config.ini", typo, "idel-timeout"),
        ("config.ini", typo + 1, "max-connections"),
        ("prometheus_exporters.ini", 3, "port"),
        ("prometheus_exporters.ini", 4, "path"),
    ] {
        let place = format!("{file}:{line}: ");
        let found = ended.err.iter().any(|it| it.contains(&place) && it.contains(key));
        assert!(found, "{place}{key} not in {:#?}", ended.err);
    }
}

/// C03.
#[test]
fn without_an_enabled_exporter_the_start_succeeds_with_a_warning_and_the_list_is_empty() {
    let disabled = "[off]\nenabled = no\nport = 1\npath = /metrics\n";
    for exporters in ["", "# nothing\n; yet\n\n", disabled] {
        let proxy = Proxy::start(PLAIN_HTTP, exporters);
        proxy.wait_for_log("a warning", |record| {
            record["level"] == "WARN" && record["fields"]["message"] == "no exporter is enabled"
        });
        let answer = plain_get(&proxy, "/prometheus");
        assert!(answer.ends_with("\r\n\r\n[]"), "{answer}");
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    }
}

/// C01.
#[test]
fn a_missing_configuration_is_named() {
    let ended = run(["run", "--config", "/nonexistent/config.ini"]);
    assert_eq!(ended.code, Some(78));
    assert!(ended.errors().contains("/nonexistent/config.ini"), "{:#?}", ended.err);
}

#[test]
fn an_invalid_command_line_exits_with_2() {
    for arguments in [
        &["serve"][..],
        &["run", "--no-such-flag"],
        &["check", "--listen", "nonsense"],
        &["run", "--config"],
        &["certs"],
    ] {
        let ended = run(arguments.iter().copied());
        assert_eq!(ended.code, Some(2), "{arguments:?}: {:#?}", ended.err);
        assert!(!ended.err.is_empty() && ended.out.is_empty(), "{arguments:?}");
    }
    for flag in ["--help", "--version"] {
        let ended = run([flag]);
        assert_eq!((ended.code, ended.err.len()), (Some(0), 0), "{flag}");
    }
}

#[test]
fn plain_http_requires_a_loopback_address() {
    let files = Files::new(PLAIN_HTTP, "");
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
        let ended = run(["run", "--config", &files.config(), "--listen", address]);
        assert_eq!(ended.code, Some(78), "{address}: {:#?}", ended.err);
        let errors = ended.errors();
        assert!(errors.contains("insecure-plain-http") && errors.contains("loopback"), "{errors}");
    }
    let proxy = Proxy::start(PLAIN_HTTP, "");
    assert!(proxy.address().ip().is_loopback());
    let answer = plain_get(&proxy, "/-/healthy");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
}

#[test]
fn without_a_certificate_nothing_is_served_unless_plain_http_is_configured() {
    for config in ["", "[default]\n", "[proxy]\ninsecure-plain-http = False\n"] {
        let files = Files::new(config, "");
        let ended = files.run();
        assert_eq!(ended.code, Some(78), "{config:?}: {:#?}", ended.err);
        assert!(ended.errors().contains("certfile"), "{:#?}", ended.err);
    }
}

#[test]
fn missing_enrolment_is_explained() {
    let files = Files::new("[default]\ntry-autossl = True\nautossl-folder = .\n", "");
    let checked = files.check();
    assert_eq!(checked.code, Some(0), "{:#?}", checked.out);
    let words = ["autossl-crt-file: warning: ", "agent.crt", "not enrolled", "/autotls"];
    let is_explained = |line: &String| words.iter().all(|word| line.contains(word));
    assert!(checked.out.iter().any(is_explained), "{words:?} not in {:#?}", checked.out);
}

#[test]
fn a_file_that_would_fail_after_enrolment_is_an_error_before_it() {
    let config = "[default]\ntry-autossl = True\nautossl-folder = .\n";
    let files = Files::new(config, "");
    files.write("agent.key", "no key");
    files.assert_mistake(&["agent.key contains no private key"]);
    let files = Files::new(&config.replace("= .", "= nowhere"), "");
    files.assert_mistake(&["nowhere/agent.key", "the folder does not exist"]);
    let files = Files::new(&format!("{config}[proxy]\nclient-ca = missing.pem\n"), "");
    files.assert_mistake(&["missing.pem", "does not exist"]);
    let files = Files::new(&format!("{config}[proxy]\nclient-crl = list.pem\n"), "");
    files.assert_mistake(&["list.pem", "does not exist"]);
}

#[test]
fn an_incomplete_set_of_enrolment_files_is_a_mistake() {
    let pki = Pki::new();
    let config = "[default]\ntry-autossl = True\nautossl-folder = .\n";
    let files = Files::new(config, "");
    let copy = |from: &str, to: &str| {
        std::fs::copy(pki.path(from), files.path(to)).expect("copied");
    };
    copy("server.pem", "agent.crt");
    files.assert_mistake(&["agent.key", "does not exist"]);
    copy("server.key", "agent.key");
    files.assert_mistake(&["server_ca.crt", "does not exist"]);
}

#[test]
fn the_files_of_an_enrolled_agent_are_used() {
    let pki = Pki::new();
    let files = Files::new("[default]\ntry-autossl = True\nautossl-folder = .\n", "");
    for (from, to) in
        [("server.pem", "agent.crt"), ("server.key", "agent.key"), ("ca.pem", "server_ca.crt")]
    {
        std::fs::copy(pki.path(from), files.path(to)).expect("copied");
    }
    let ended = files.check();
    assert_eq!(ended.code, Some(0), "{:#?}", ended.out);
}

fn plain_get(proxy: &Proxy, target: &str) -> String {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(proxy.address()).expect("connected");
    stream.set_read_timeout(Some(scrapegate_harness::PATIENCE)).expect("a timeout");
    write!(stream, "GET {target} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}
