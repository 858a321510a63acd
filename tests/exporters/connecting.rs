//! Connections to the exporter: addresses, sockets, TLS, and `max-concurrent`.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    sync::Barrier,
    time::{Duration, Instant},
};

use rustls::{
    SupportedProtocolVersion,
    version::{TLS12, TLS13},
};
use scrapegate_harness::{
    client::{Client, Response},
    exporter::{Conversation, Exporter, Gate},
    metrics::Samples,
    pki::{BOTH_VERSIONS, Pki},
    proxy::Proxy,
    testbed::{
        CONTROL, Testbed, Then, assert_control, assert_counted, assert_on_time, assert_refused,
        by_case, outcome, raw, scrapes, target,
    },
};
use socket2::{Domain, Socket, Type};

/// A port without a listener, reserved so that no other process can listen on it.
pub(crate) struct DeadPort(Socket);

impl DeadPort {
    pub(crate) fn new() -> Self {
        Self::at((Ipv4Addr::LOCALHOST, 0).into()).expect("a free port")
    }

    /// `None` if another process uses the port.
    fn at(address: SocketAddr) -> Option<Self> {
        let socket =
            Socket::new(Domain::for_address(address), Type::STREAM, None).expect("a socket");
        socket.bind(&address.into()).ok().map(|()| Self(socket))
    }

    fn address(&self) -> SocketAddr {
        self.0.local_addr().ok().and_then(|it| it.as_socket()).expect("bound")
    }

    pub(crate) fn port(&self) -> u16 {
        self.address().port()
    }
}

/// A port with a listener that does not accept and whose backlog is full.
pub(crate) struct FullPort(DeadPort, #[expect(dead_code, reason = "they wait")] Vec<TcpStream>);

impl FullPort {
    pub(crate) fn new() -> Self {
        let full = DeadPort::new();
        full.0.listen(0).expect("a listener");
        let waiting: Vec<TcpStream> = std::iter::from_fn(|| {
            TcpStream::connect_timeout(&full.address(), Duration::from_millis(100)).ok()
        })
        .take(100)
        .collect();
        assert!(waiting.len() < 100, "the backlog is never full");
        Self(full, waiting)
    }

    pub(crate) fn port(&self) -> u16 {
        self.0.port()
    }
}

pub(crate) fn section(name: &str, keys: &str) -> String {
    format!("\n[{name}]\nenabled = True\npath = /metrics\n{keys}")
}

/// Scrapes each section twice over one connection. Expects the same refusal, logged and counted
/// once for each scrape, and no descriptor left open.
fn assert_refusals(pki: &Pki, cases: &[(&str, String, u16, &str, &str)]) -> Vec<Duration> {
    let exporters: String = cases.iter().map(|(name, keys, ..)| section(name, keys)).collect();
    let proxy = Proxy::start(&pki.config_ini(""), &exporters);
    let mut client =
        Client::connect(proxy.address(), pki.client(BOTH_VERSIONS)).expect("a handshake");
    let before = Samples::of(&mut client);
    let at_rest = proxy.open_fds();
    let mut took = Vec::new();
    for (name, _, status, reason, _) in cases {
        for _ in 0..2 {
            let sent = Instant::now();
            let response = client.get(&format!("/prometheus?exporter={name}"));
            took.push(sent.elapsed());
            assert_refused(name, &response, *status, reason);
        }
    }
    let records = scrapes(&proxy, 2 * cases.len());
    assert_eq!(records.len(), 2 * cases.len(), "one record a scrape");
    for (pair, (name, .., word)) in records.chunks(2).zip(cases) {
        assert!(pair.iter().all(|it| it["exporter"] == *name && outcome(it) == *word), "{pair:?}");
    }
    assert_counted(&mut client, &before, &records, 0);
    proxy.assert_at_rest(at_rest);
    took
}

#[test]
fn u01_an_unreachable_exporter_is_502() {
    let dead = DeadPort::new();
    let port = dead.port();
    assert_refusals(
        &Pki::new(),
        &[
            (
                "refused",
                format!("host = 127.0.0.1\nport = {port}\n"),
                502,
                "exporter refused the connection",
                "exporter_refused",
            ),
            (
                "refused-as-localhost",
                format!("port = {port}\n"),
                502,
                "exporter refused the connection",
                "exporter_refused",
            ),
            (
                "no-socket",
                "socket = /nonexistent/exporter.sock\n".to_owned(),
                502,
                "exporter's socket does not exist",
                "exporter_no_socket",
            ),
            (
                "no-host",
                "host = no-such-host.invalid\nport = 9100\nconnect-timeout = 10\n\
                 timeout = 10\n"
                    .to_owned(),
                502,
                "exporter's host name was not found",
                "exporter_name_lookup",
            ),
        ],
    );
}

#[test]
fn u02_an_exporter_that_does_not_accept_connections_is_504_at_connect_timeout() {
    let full = FullPort::new();
    let took = assert_refusals(
        &Pki::new(),
        &[(
            "full",
            format!("host = 127.0.0.1\nport = {}\nconnect-timeout = 0.4\n", full.port()),
            504,
            "exporter did not take the connection in time",
            "exporter_connect_timeout",
        )],
    );
    assert_on_time("full", took[0], Duration::from_millis(400));
}

#[test]
fn u03_a_reset_on_accept_is_502() {
    let exporter = Exporter::start(|it: &mut Conversation| it.reset_at_end());
    let testbed = Testbed::before(Pki::new(), exporter, "", &[("x", "")]);
    let mut client = testbed.client();
    for _ in 0..10 {
        let response = client.get("/prometheus?exporter=x");
        assert_refused("reset", &response, 502, "exporter reset the connection");
    }
    assert_eq!(testbed.exporter.connections(), 10, "no retry");
}

/// An exporter on one loopback address. No other process can listen on its port on the other
/// loopback address.
fn on_one_loopback_address(is_ipv6: bool) -> (Exporter, DeadPort) {
    for _ in 0..100 {
        let script = by_case(Vec::new());
        let (exporter, other) = if is_ipv6 {
            (Exporter::start_on_ipv6(script), IpAddr::from(Ipv4Addr::LOCALHOST))
        } else {
            (Exporter::start(script), IpAddr::from(Ipv6Addr::LOCALHOST))
        };
        // A connection of another process may already use the port there.
        if let Some(dead) = DeadPort::at((other, exporter.address().port()).into()) {
            return (exporter, dead);
        }
    }
    panic!("no port is free on both addresses");
}

#[test]
fn localhost_means_both_loopback_addresses() {
    for is_ipv6 in [true, false] {
        let (_exporter, dead) = on_one_loopback_address(is_ipv6);
        let pki = Pki::new();
        let proxy = Proxy::start(
            &pki.config_ini(""),
            &(section("default-host", &format!("port = {}\n", dead.port()))
                + &section("named", &format!("host = LocalHost\nport = {}\n", dead.port()))),
        );
        let mut client =
            Client::connect(proxy.address(), pki.client(BOTH_VERSIONS)).expect("a handshake");
        assert_control(&mut client, "default-host");
        assert_control(&mut client, "named");
    }
}

/// A listener on ::1 at the port of `exporter`, as another local user could open one.
fn impostor(port: u16) -> Option<TcpListener> {
    let listener = TcpListener::bind((Ipv6Addr::LOCALHOST, port)).ok()?;
    listener.set_nonblocking(true).expect("a socket");
    Some(listener)
}

fn assert_was_not_asked(impostor: &TcpListener, story: &str) {
    let asked = impostor.accept();
    assert!(asked.is_err_and(|it| it.kind() == io::ErrorKind::WouldBlock), "{story}");
}

#[test]
fn f06_a_listener_on_the_other_loopback_address_is_not_asked_while_the_exporter_is_up() {
    let (exporter, impostor) = (0..100)
        .find_map(|_| {
            let exporter = Exporter::start(by_case(Vec::new()));
            impostor(exporter.address().port()).map(|impostor| (exporter, impostor))
        })
        .expect("a port that is free on both addresses");
    let pki = Pki::new();
    let secret = pki.path("secret");
    std::fs::write(&secret, "secret\n").expect("written");
    let keys =
        format!("port = {}\nbearer-token-file = {}\n", exporter.address().port(), secret.display());
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).expect("ours");
    let proxy = Proxy::start(
        &pki.config_ini(""),
        &(section("default-host", &keys)
            + &section("named", &(keys.clone() + "host = localhost\n"))),
    );
    let mut client =
        Client::connect(proxy.address(), pki.client(BOTH_VERSIONS)).expect("a handshake");
    for name in ["default-host", "named"] {
        for _ in 0..5 {
            assert_control(&mut client, name);
        }
    }
    assert_eq!(exporter.connections(), 10);
    assert_was_not_asked(&impostor, "no connection while the exporter is up");
}

#[test]
fn f06_a_listener_on_the_other_loopback_address_is_not_asked_while_the_exporter_is_slow() {
    let (full, impostor) = (0..100)
        .find_map(|_| {
            let full = FullPort::new();
            impostor(full.port()).map(|impostor| (full, impostor))
        })
        .expect("a port that is free on both addresses");
    let pki = Pki::new();
    let keys = format!("port = {}\nconnect-timeout = 0.6\n", full.port());
    let proxy = Proxy::start(&pki.config_ini(""), &section("slow", &keys));
    let mut client =
        Client::connect(proxy.address(), pki.client(BOTH_VERSIONS)).expect("a handshake");
    let response = client.get("/prometheus?exporter=slow");
    assert_refused("slow", &response, 504, "exporter did not take the connection in time");
    assert_was_not_asked(&impostor, "a slow connection is not a refusal");
}

#[test]
fn f22_twelve_concurrent_probes_of_one_exporter_are_all_answered() {
    const PROBES: usize = 12;
    // No probe is answered before the exporter has received all of them.
    let all_arrived = Barrier::new(PROBES);
    let testbed = Testbed::new(
        "timeout = 15\n",
        by_case(vec![Box::new(move |it| {
            all_arrived.wait();
            it.send(format!("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{CONTROL}"))
        })]),
    );
    let mut probes: Vec<Client> = (0..PROBES).map(|_| testbed.client()).collect();
    for probe in &mut probes {
        probe.send_get(&target("x", 0)).expect("sent");
    }
    for probe in &mut probes {
        let Response { head, body } = probe.read_response().expect("an answer");
        assert!(head.status == 200 && body.is_complete(), "{head:?}");
    }
}

#[test]
fn an_exporter_on_a_unix_socket_is_scraped() {
    let exporter = Exporter::start_on_unix_socket(by_case(Vec::new()));
    let testbed = Testbed::before(Pki::new(), exporter, "", &[("x", "")]);
    assert_control(&mut testbed.client(), "x");
    assert!(testbed.exporter.requests()[0].contains("\r\nhost: localhost\r\n"));
}

#[test]
fn an_exporter_that_requests_a_client_certificate_gets_the_configured_one() {
    for version in [&TLS12, &TLS13] {
        let (pki, exporters_ca) = (Pki::new(), Pki::new());
        let tls = exporters_ca.server_for_clients(&[version]);
        let exporter = Exporter::start_tls_with(&exporters_ca, tls, |it: &mut Conversation| {
            it.read_request()?;
            it.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\na 1\n")
        });
        let shows = |of: &Pki, name: &str| {
            format!(
                "{}cert-file = {}\nkey-file = {}\n",
                exporter.section(name),
                of.path("client.pem").display(),
                of.path("client.key").display()
            )
        };
        let sections = shows(&exporters_ca, "right")
            + &shows(&pki, "of-another-ca")
            + &exporter.section("none");
        let proxy = Proxy::start(&pki.config_ini(""), &sections);
        let mut client =
            Client::connect(proxy.address(), pki.client(BOTH_VERSIONS)).expect("a handshake");
        let response = client.get("/prometheus?exporter=right");
        assert_eq!((response.head.status, response.body.text().as_str()), (200, "a 1\n"));
        for name in ["of-another-ca", "none"] {
            let response = client.get(&format!("/prometheus?exporter={name}"));
            let said = (response.head.status, response.head.reason.as_str());
            assert_eq!(said, (502, "exporter failed the TLS handshake"), "{name}, {version:?}");
            assert_eq!(proxy.wait_for_scrape(name)["outcome"], "exporter_tls");
        }
        assert_eq!(exporter.requests().len(), 1);
    }
}

#[test]
fn u41_an_exporter_that_fails_the_tls_handshake_is_502() {
    for version in [&TLS12, &TLS13] {
        assert_u41(version);
    }
}

fn assert_u41(version: &'static SupportedProtocolVersion) {
    let pki = Pki::new();
    let (trusted, expired) = (Pki::new(), Pki::with_server_until(2020));
    let start = |of: &Pki| Exporter::start_tls_with(of, of.server(&[version]), by_case(Vec::new()));
    let (sound, late) = (start(&trusted), start(&expired));
    let own = Pki::self_signed_server(&[version]);
    let own = Exporter::start_tls_with(&trusted, own, by_case(Vec::new()));
    let plain = Exporter::start(|it: &mut Conversation| it.send("HTTP/1.1 400 no TLS\r\n\r\n"));
    let mute = Exporter::start(|it: &mut Conversation| {
        it.wait_until_closed();
        Ok(())
    });
    let closing = Exporter::start(|it: &mut Conversation| it.end());
    let keys = |exporter: &Exporter, ca: &Pki, name: &str| {
        format!(
            "method = https\nhost = 127.0.0.1\nport = {}\nca-file = {}\nserver-name = {name}\n\
             connect-timeout = 0.5\n",
            exporter.address().port(),
            ca.path("ca.pem").display()
        )
    };
    let failed =
        |name, keys| (name, keys, 502, "exporter failed the TLS handshake", "exporter_tls");
    let took = assert_refusals(
        &pki,
        &[
            (
                "mute",
                keys(&mute, &trusted, "localhost"),
                504,
                "exporter did not take the connection in time",
                "exporter_connect_timeout",
            ),
            failed("self-signed", keys(&own, &trusted, "localhost")),
            failed("another-ca", keys(&sound, &pki, "localhost")),
            failed("wrong-name", keys(&sound, &trusted, "exporter.example")),
            failed("expired", keys(&late, &expired, "localhost")),
            failed("plain", keys(&plain, &trusted, "localhost")),
            failed("closing", keys(&closing, &trusted, "localhost")),
        ],
    );
    assert_on_time("mute", took[0], Duration::from_millis(500));
    for exporter in [&sound, &late, &own] {
        assert!(exporter.requests().is_empty(), "nothing was asked");
    }

    // Control: the same exporters are scraped if verification is off.
    let exporters = section("sound", &keys(&sound, &trusted, "localhost"))
        + &section("named", &keys(&sound, &trusted, "127.0.0.1"))
        + &section(
            "skipped",
            &format!(
                "method = https\nhost = 127.0.0.1\nport = {}\ninsecure-skip-verify = True\n",
                late.address().port()
            ),
        );
    let proxy = Proxy::start(&pki.config_ini(""), &exporters);
    let mut client =
        Client::connect(proxy.address(), pki.client(BOTH_VERSIONS)).expect("a handshake");
    for name in ["sound", "named", "skipped"] {
        assert_control(&mut client, name);
    }
}

#[test]
fn one_scrape_more_than_max_concurrent_is_503() {
    let gate = Gate::default();
    let go_on = gate.clone();
    let testbed = Testbed::with_names(
        &[("x", "max-concurrent = 2\n"), ("other", "")],
        by_case(vec![
            Box::new(move |it| {
                go_on.wait();
                it.send(format!("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{CONTROL}"))
            }),
            raw("", Then::Stall),
        ]),
    );
    let mut running = [testbed.client(), testbed.client()];
    for (scrapes, client) in running.iter_mut().enumerate() {
        client.send_get(&target("x", 0)).expect("sent");
        // The permit is taken before the exporter is asked.
        let limit = Instant::now() + scrapegate_harness::PATIENCE;
        while testbed.exporter.requests().len() <= scrapes {
            assert!(Instant::now() < limit, "the exporter is not asked");
            std::thread::yield_now();
        }
    }
    let mut client = testbed.client();
    let response = client.get(&target("x", 0));
    assert_refused("one more", &response, 503, "too many scrapes of this exporter");
    assert_eq!(response.head.header("retry-after"), Some("1"));
    assert_eq!(testbed.exporter.connections(), 2);
    assert_control(&mut client, "other");

    gate.open();
    for client in &mut running {
        let Response { head, body } = client.read_response().expect("an answer");
        assert!(head.status == 200 && body.is_complete(), "{head:?}");
        // The permit is released with the last byte.
        assert_control(client, "x");
    }
    assert_control(&mut client, "x");
}

#[test]
fn a_permit_of_max_concurrent_is_released_before_the_scraper_has_the_last_byte() {
    let whole = |framing: &str| format!("HTTP/1.1 200 OK\r\n{framing}\r\n");
    let testbed = Testbed::new(
        "max-concurrent = 1\n",
        by_case(vec![
            raw(whole("Content-Length: 4\r\n") + "a 1\n", Then::Fin),
            raw(whole("Transfer-Encoding: chunked\r\n") + "4\r\na 1\n\r\n0\r\n\r\n", Then::Fin),
            raw(whole("") + "a 1\n", Then::Fin),
            raw("", Then::Fin),
        ]),
    );
    // The two connections belong to two worker threads. A permit that one releases must be visible
    // to the other.
    let mut clients = [testbed.client(), testbed.client()];
    for scrape in 0..400 {
        let case = scrape % 4;
        let response = clients[scrape / 4 % 2].get(&target("x", case));
        let status = if case == 3 { 502 } else { 200 };
        assert_eq!(response.head.status, status, "scrape {scrape}: {response:?}");
        let response = clients[1 - scrape / 4 % 2].get(&target("x", case));
        assert_eq!(response.head.status, status, "scrape {scrape}: {response:?}");
    }
}
