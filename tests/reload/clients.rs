//! A reload closes the connections of clients that are no longer authorized.

use std::{
    fs,
    sync::Arc,
    time::{Duration, Instant},
};

use rustls::{ClientConfig, HandshakeKind, SupportedProtocolVersion};
use scrapegate_harness::{
    client::{Client, Cut},
    exporter::{Exporter, Gate},
    forge,
    pki::{BOTH_VERSIONS, Pki},
    proxy::Proxy,
};

use super::{DONE, assert_status, exporter, halting, reload, write};
const REVOKED: u64 = 0x2001;
const GOOD: u64 = 0x2002;

fn client(pki: &Pki, serial: u64) -> Arc<ClientConfig> {
    client_of(pki, serial, BOTH_VERSIONS)
}

fn client_of(
    pki: &Pki,
    serial: u64,
    versions: &[&'static SupportedProtocolVersion],
) -> Arc<ClientConfig> {
    let change = |params: &mut rcgen::CertificateParams| {
        params.serial_number = Some(serial.into());
        params.distinguished_name.push(rcgen::DnType::CommonName, format!("client-{serial:x}"));
    };
    let shown = forge::credentials(pki.ca(), change, &[]);
    pki.client_with(versions, shown.chain, &shown.key)
}

fn connect(proxy: &Proxy, config: Arc<ClientConfig>) -> Client {
    Client::connect(proxy.address(), config).expect("a handshake")
}

/// Asserts that the proxy closes the connection in order, within a second of `since`.
#[track_caller]
fn assert_ends(client: &mut Client, since: Instant) {
    let (bytes, cut) = client.read_to_end();
    assert!(bytes.is_empty(), "{}", bytes.escape_ascii());
    assert!(matches!(cut, Cut::CloseNotify), "{cut:?}");
    let late = since.elapsed();
    assert!(late < Duration::from_secs(1), "{late:?} after the reload");
}

fn list(pki: &Pki, serials: &[u64]) {
    let list = forge::revocation_list(pki.ca(), serials, -1..100);
    fs::write(pki.path("list.pem"), list).expect("written");
}

/// T36
#[test]
fn the_idle_connection_of_a_revoked_client_is_closed_and_others_stay() {
    let pki = Pki::new();
    list(&pki, &[]);
    let config = pki.config_ini(&format!("client-crl = {}\n", pki.path("list.pem").display()));
    let proxy = Proxy::start(&config, &exporter(100).section("e"));
    let with_both = |serial| {
        let of = |&version| connect(&proxy, client_of(&pki, serial, &[version]));
        BOTH_VERSIONS.iter().map(of).collect::<Vec<_>>()
    };
    let (mut revoked, mut good) = (with_both(REVOKED), with_both(GOOD));
    for client in revoked.iter_mut().chain(&mut good) {
        assert_status(client, "e", 502);
    }
    list(&pki, &[REVOKED]);
    let since = Instant::now();
    reload(&proxy, DONE, 1);
    for client in &mut revoked {
        assert_ends(client, since);
    }
    for client in &mut good {
        assert_status(client, "e", 502);
    }
}

/// T36
#[test]
fn a_revoked_client_completes_its_scrape_in_flight_and_no_further_one() {
    let pki = Pki::new();
    list(&pki, &[]);
    let (slow, gate) = halting();
    let config = pki.config_ini(&format!("client-crl = {}\n", pki.path("list.pem").display()));
    let proxy = Proxy::start(&config, &slow.section("slow"));
    let mut revoked = connect(&proxy, client(&pki, REVOKED));
    revoked.send_get("/prometheus?exporter=slow").expect("the request is sent");
    let head = revoked.read_head().expect("a head");
    list(&pki, &[REVOKED]);
    reload(&proxy, DONE, 1);
    gate.open();
    let body = revoked.read_body(&head);
    assert!(body.is_complete(), "{body:?}");
    assert_ends(&mut revoked, Instant::now());
}

/// T36
#[test]
fn a_revoked_client_gets_connection_close_with_its_pending_response() {
    let pki = Pki::new();
    for &version in BOTH_VERSIONS {
        list(&pki, &[]);
        let gate = Gate::default();
        let opened = gate.clone();
        let (asked, asks) = std::sync::mpsc::channel();
        let slow = Exporter::start(move |conversation| {
            conversation.read_request()?;
            asked.send(()).expect("the test waits");
            opened.wait();
            conversation.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\na 1\n")
        });
        let config = pki.config_ini(&format!("client-crl = {}\n", pki.path("list.pem").display()));
        let proxy = Proxy::start(&config, &slow.section("slow"));
        let mut revoked = connect(&proxy, client_of(&pki, REVOKED, &[version]));
        // The second request waits for the first, and never begins.
        let request = "GET /prometheus?exporter=slow HTTP/1.1\r\nHost: h\r\n\r\n";
        revoked.send(request.repeat(2)).expect("the requests are sent");
        asks.recv().expect("the exporter is asked");
        list(&pki, &[REVOKED]);
        reload(&proxy, DONE, 1);
        gate.open();
        let response = revoked.read_response().expect("a response");
        assert_eq!(response.head.header("connection"), Some("close"), "{version:?}");
        assert!(response.body.is_complete(), "{response:?}");
        assert_ends(&mut revoked, Instant::now());
        assert_eq!(slow.connections(), 1);
    }
}

/// T36
#[test]
fn no_exporter_is_asked_for_a_client_that_is_revoked_while_its_head_arrives() {
    let pki = Pki::new();
    list(&pki, &[]);
    let config = pki.config_ini(&format!("client-crl = {}\n", pki.path("list.pem").display()));
    let counted = exporter(100);
    let proxy = Proxy::start(&config, &counted.section("e"));
    let mut revoked = connect(&proxy, client(&pki, REVOKED));
    assert_status(&mut revoked, "e", 200);
    let mut fresh = connect(&proxy, client(&pki, REVOKED));
    for client in [&mut revoked, &mut fresh] {
        client.send("GET /prometheus?exporter=e HTTP/1.1\r\n").expect("half a head is sent");
    }
    // The proxy has usually read the halves by now. This test does not guarantee it;
    // `tests/in_memory.rs` does.
    let mut good = connect(&proxy, client(&pki, GOOD));
    assert_status(&mut good, "e", 200);
    list(&pki, &[REVOKED]);
    reload(&proxy, DONE, 1);
    for client in [&mut revoked, &mut fresh] {
        // If the proxy had not read the half yet, it has closed the connection in order.
        if client.send("Host: h\r\n\r\n").is_ok()
            && let Ok(response) = client.read_response()
        {
            assert_eq!(response.head.status, 403, "{response:?}");
            assert_eq!(response.head.header("connection"), Some("close"));
        }
    }
    assert_eq!(counted.connections(), 2, "the one before, and the good client's");
}

/// T35
#[test]
fn a_client_that_reconnects_after_a_reload_or_restart_makes_a_full_handshake() {
    let pki = Pki::new();
    let exporter = exporter(100);
    let config = pki.config_ini(&format!("client-crl = {}\n", pki.path("list.pem").display()));
    for version in BOTH_VERSIONS {
        // Session tickets and the like are stored here, between the connections.
        let with_memory = client_of(&pki, GOOD, &[version]);
        let come = |proxy: &Proxy| {
            let mut client = connect(proxy, with_memory.clone());
            assert_status(&mut client, "e", 200);
            assert_eq!(client.tls().handshake_kind(), Some(HandshakeKind::Full), "{version:?}");
        };
        list(&pki, &[]);
        let proxy = Proxy::start(&config, &exporter.section("e"));
        come(&proxy);
        list(&pki, &[REVOKED]);
        reload(&proxy, DONE, 1);
        come(&proxy);
        drop(proxy);
        let proxy = Proxy::start(&config, &exporter.section("e"));
        come(&proxy);
        list(&pki, &[GOOD]);
        reload(&proxy, DONE, 1);
        let mut refused = Client::connect(proxy.address(), with_memory.clone());
        let answered = refused.as_mut().is_ok_and(|client| {
            client.send_get("/prometheus").and_then(|()| client.read_head()).is_ok()
        });
        assert!(!answered, "{version:?}");
    }
}

#[test]
fn a_client_that_is_removed_from_client_allow_is_disconnected() {
    let pki = Pki::new();
    let proxy = Proxy::start(&pki.config_ini(""), &exporter(100).section("e"));
    let mut one = connect(&proxy, client(&pki, REVOKED));
    let mut two = connect(&proxy, client(&pki, GOOD));
    for client in [&mut one, &mut two] {
        assert_status(client, "e", 502);
    }
    write(&proxy, "config.ini", &pki.config_ini(&format!("client-allow = CN=client-{GOOD:x}\n")));
    let since = Instant::now();
    reload(&proxy, DONE, 1);
    assert_ends(&mut one, since);
    assert_status(&mut two, "e", 502);
}

#[test]
fn a_client_of_a_ca_that_is_no_longer_trusted_is_disconnected() {
    let (old, new) = (Pki::new(), Pki::new());
    let proxy = Proxy::start(&old.config_ini(""), &exporter(100).section("e"));
    let mut client = connect(&proxy, client(&old, GOOD));
    assert_status(&mut client, "e", 502);
    write(&proxy, "config.ini", &new.config_ini(""));
    let since = Instant::now();
    reload(&proxy, DONE, 1);
    assert_ends(&mut client, since);
}
