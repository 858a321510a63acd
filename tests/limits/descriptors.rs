//! File descriptors: the proxy reserves enough for each accepted client, and without descriptors it
//! neither spins nor exits.

use std::{
    net::TcpStream,
    time::{Duration, Instant},
};

use scrapegate_harness::{
    body::Body,
    client::Client,
    exporter::{Conversation, Exporter, Framing, Gate},
    metrics::Samples,
    pki::{BOTH_VERSIONS, Pki},
    proxy::Proxy,
};
use serde_json::{Value, json};

use crate::{Setup, assert_scrapes};

/// Starts a command with this soft and hard limit on open files. The shell does not use `exec`,
/// because the harness looks for a child process.
fn limited(most: &str) -> [String; 4] {
    ["sh", "-c", &format!(r#"ulimit {most}; "$@"; exit $?"#), "sh"].map(String::from)
}

fn beneath(wrapper: &[String], proxy_keys: &str) -> Setup {
    Setup::beneath(&wrapper.iter().map(String::as_str).collect::<Vec<_>>(), proxy_keys)
}

/// The value to which the proxy lowered `max-connections`.
#[track_caller]
fn lowered_to(proxy: &Proxy) -> u64 {
    let record = proxy.wait_for_log("a warning about the limit", |record| {
        record["level"] == "WARN" && record["fields"]["lowered_to"].is_u64()
    });
    record["fields"]["lowered_to"].as_u64().expect("a number")
}

/// Limits the proxy to its open descriptors plus `more`, and opens more connections than that.
fn exhaust(setup: &Setup, more: usize) -> Vec<TcpStream> {
    let most = setup.proxy.open_fds() + more;
    setup.proxy.limit_open_files(most);
    let silent = (0..2 * most).map(|_| setup.connect_silently()).collect();
    setup.proxy.wait_for_log("a record that it cannot accept", |record| {
        record["fields"]["message"] == "cannot accept connections; retrying after a pause"
    });
    silent
}

/// D11
#[test]
fn without_descriptors_the_proxy_waits_without_spinning_and_recovers() {
    let setup = Setup::new("handshake-timeout = 60\n");
    let silent = exhaust(&setup, 20);
    let (before, begun) = (setup.proxy.cpu_time(), Instant::now());
    // The period over which the CPU time is measured.
    std::thread::sleep(Duration::from_secs(2));
    let (used, watched) = (setup.proxy.cpu_time() - before, begun.elapsed());
    assert!(used <= watched / 20, "{used:?} of CPU in {watched:?}");
    let complaints = setup
        .proxy
        .log_lines()
        .iter()
        .filter(|line| line.contains("cannot accept connections"))
        .count();
    assert!(complaints <= 20, "{complaints} records");
    drop(silent);
    setup.assert_serves_a_new_client();
}

/// D11
#[test]
fn without_a_descriptor_for_the_exporter_the_scrape_is_refused_and_the_proxy_is_blamed() {
    let pki = Pki::new();
    let script = |conversation: &mut Conversation| {
        conversation.read_request()?;
        conversation.answer("", Framing::ContentLength, Body::text(100))
    };
    let exporters = [
        ("tcp", Exporter::start(script)),
        ("unix", Exporter::start_on_unix_socket(script)),
        ("tls", Exporter::start_tls(&pki, script)),
    ];
    let mut sections: String = exporters.iter().map(|(name, it)| it.section(name)).collect();
    sections += "[named]\nenabled = yes\nhost = exporter.invalid\nport = 1\npath = /metrics\n";
    let proxy = Proxy::start(&pki.config_ini(""), &sections);
    let connect = || Client::connect(proxy.address(), pki.client(BOTH_VERSIONS));
    let mut client = connect().expect("a handshake");
    let before = Samples::of(&mut client);
    let usual = proxy.open_files_limit();

    proxy.limit_open_files(0);
    let names = exporters.iter().map(|(name, _)| *name).chain(["named"]);
    let mut refused = Vec::new();
    for name in names {
        let response = client.get(&format!("/prometheus?exporter={name}"));
        let reason = "proxy is out of file descriptors, threads or memory";
        let said = (response.head.status, response.head.reason.as_str());
        assert_eq!(said, (503, reason), "{name}: {response:?}");
        assert_eq!(response.body.text(), format!("{reason}\n"));
        let record = proxy.wait_for_scrape(name);
        let told = [&record["outcome"], &record["blame"], &record["status"]];
        assert_eq!(told, [&json!("no_resources"), &json!("proxy"), &json!(503)], "{record}");
        let series =
            format!("scrapegate_scrapes_total{{exporter=\"{name}\",outcome=\"no_resources\"}}");
        refused.push(series);
    }
    let is_complaint = |record: &Value| {
        record["fields"]["message"] == "cannot accept connections; retrying after a pause"
    };
    let waiting = TcpStream::connect(proxy.address()).expect("in the backlog");
    proxy.wait_for_log("a record that it cannot accept", is_complaint);
    proxy.limit_open_files(usual);
    drop(waiting);

    let mut later = connect().expect("a handshake");
    for (name, _) in &exporters {
        let response = later.get(&format!("/prometheus?exporter={name}"));
        assert_eq!((response.head.status, response.body.bytes), (200, 100), "{response:?}");
    }
    let after = Samples::of(&mut client);
    for series in &refused {
        assert_eq!(after.value(series), 1.0, "{series}");
    }
    let series = "scrapegate_accept_errors_total{kind=\"no_resources\"}";
    proxy.assert_logged(
        "cannot accept connections; retrying after a pause",
        after.events_since(&before)[series] as u64,
    );
}

/// D11
#[test]
fn silent_connections_that_use_all_descriptors_are_closed_at_handshake_timeout() {
    let setup = Setup::new("handshake-timeout = 0.5\n");
    let _silent = exhaust(&setup, 20);
    // The client waits in the backlog until a descriptor is free for its connection.
    setup.assert_serves_a_new_client();
}

/// D11
#[test]
fn with_few_descriptors_silent_connections_lock_out_neither_clients_nor_exporters() {
    let setup = beneath(&limited("-n 64"), "worker-threads = 1\nhandshake-timeout = 60\n");
    let most = lowered_to(&setup.proxy);
    assert!((4..32).contains(&most), "{most}");
    let mut client = setup.connect();
    assert_scrapes(&mut client);
    let _silent: Vec<_> = (0..200).map(|_| setup.connect_silently()).collect();
    assert_scrapes(&mut client);
    setup.assert_serves_a_new_client();
    let lines = setup.proxy.log_lines();
    assert!(!lines.iter().any(|line| line.contains("cannot accept connections")), "{lines:#?}");
}

/// D11, P14
#[test]
fn every_accepted_connection_has_a_descriptor_for_its_exporter() {
    let pki = Pki::new();
    let gate = Gate::default();
    let waits = gate.clone();
    let exporter = Exporter::start(move |conversation| {
        conversation.read_request()?;
        conversation.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\na ")?;
        waits.wait();
        conversation.send("1\n")
    });
    let proxy = Proxy::start_beneath(
        &limited("-n 64").map(Into::into),
        &pki.config_ini("worker-threads = 1\n"),
        &(exporter.section("e") + "max-concurrent = 100\n"),
    );
    let connect = || Client::connect(proxy.address(), pki.client(BOTH_VERSIONS));
    let scrapes: Vec<_> = (0..lowered_to(&proxy))
        .map(|_| {
            let mut client = connect().expect("a handshake");
            client.send_get("/prometheus?exporter=e").expect("sent");
            let head = client.read_head().expect("a head");
            assert_eq!(head.status, 200, "{head:?}");
            (client, head)
        })
        .collect();
    // Another connection waits in the backlog, and is served after one has been closed.
    std::thread::scope(|scope| {
        let late = scope.spawn(|| connect().expect("a handshake").get("/prometheus?exporter=e"));
        gate.open();
        for (mut client, head) in scrapes {
            let body = client.read_body(&head);
            assert!(body.is_complete(), "{body:?}");
        }
        let response = late.join().expect("no panic");
        assert!(response.body.is_complete(), "{response:?}");
    });
}

/// P14
#[test]
fn max_connections_is_lowered_to_what_the_limit_on_open_files_allows() {
    let setup = beneath(&limited("-n 1024"), "max-connections = 4096\n");
    let most = lowered_to(&setup.proxy);
    assert!((300..512).contains(&most), "{most}");
    assert_eq!(setup.proxy.open_files_limit(), 1024);
    setup.assert_serves_a_new_client();
}

/// P14
#[test]
fn the_soft_limit_on_open_files_is_raised_to_the_hard_limit() {
    let setup = beneath(&limited("-S -n 64; ulimit -H -n 4096"), "max-connections = 500\n");
    assert_eq!(setup.proxy.open_files_limit(), 4096);
    setup.assert_serves_a_new_client();
    let lines = setup.proxy.log_lines();
    assert!(!lines.iter().any(|line| line.contains("lowered")), "{lines:#?}");
}
