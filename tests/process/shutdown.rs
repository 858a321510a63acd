//! `SIGTERM`: finish running requests and accept no new ones. A second signal, or the end of the
//! drain, aborts what still runs.

use std::{
    io::ErrorKind,
    net::TcpStream,
    sync::Arc,
    time::{Duration, Instant},
};

use rustls::ClientConfig;
use scrapegate_harness::{
    client::{Client, Cut, End, Head},
    exporter::{Exporter, Framing, Gate},
    pki::{BOTH_VERSIONS, Pki},
    proxy::Proxy,
};

const SCRAPES: usize = 50;

/// The longest time in which an idle proxy exits: 200 ms in a release build.
const AT_ONCE: Duration = Duration::from_millis(if cfg!(debug_assertions) { 1000 } else { 200 });

/// A proxy whose exporter stops in the middle of its body until the gate opens.
struct Setup {
    proxy: Proxy,
    client: Arc<ClientConfig>,
    gate: Gate,
    _exporter: Exporter,
}

impl Setup {
    fn new(proxy_keys: &str) -> Self {
        let pki = Pki::new();
        let gate = Gate::default();
        let waits = gate.clone();
        let exporter = Exporter::start(move |conversation| {
            let framing = if conversation.read_request()?.contains("chunked") {
                Framing::Chunked(10)
            } else {
                Framing::ContentLength
            };
            let header = framing.header(4);
            conversation.send(format!("HTTP/1.1 200 OK\r\n{header}\r\n"))?;
            let (first, second) = match framing {
                Framing::Chunked(_) => ("2\r\n1\n\r\n", "2\r\n2\n\r\n0\r\n\r\n"),
                Framing::ContentLength | Framing::UntilClose => ("1\n", "2\n"),
            };
            conversation.send(first)?;
            waits.wait();
            conversation.send(second)
        });
        let keys = format!("{}max-concurrent = 100\n", exporter.section("e"));
        let proxy = Proxy::start(&pki.config_ini(proxy_keys), &keys);
        Self { proxy, client: pki.client(BOTH_VERSIONS), gate, _exporter: exporter }
    }

    fn connect(&self) -> Client {
        Client::connect(self.proxy.address(), self.client.clone()).expect("a handshake")
    }

    /// Starts scrapes, and reads their heads. The first bytes of the bodies have arrived, too.
    fn begin_scrapes(&self) -> Vec<(Client, Head)> {
        (0..SCRAPES)
            .map(|number| {
                let framing = if number % 2 == 0 { "chunked" } else { "length" };
                let mut client = self.connect();
                client.send_get(&format!("/prometheus?exporter=e&{framing}")).expect("sent");
                let head = client.read_head().expect("a head");
                assert_eq!(head.status, 200, "{head:?}");
                (client, head)
            })
            .collect()
    }

    fn wait_until_draining(&self) {
        self.proxy.wait_for_log("the start of the drain", |record| {
            record["fields"]["message"] == "draining connections"
        });
    }

    /// Asserts that all scrapes were aborted, that the proxy exited with code 0, and that the log
    /// has their number.
    #[track_caller]
    fn assert_aborted(&mut self, scrapes: Vec<(Client, Head)>) {
        for (mut client, head) in scrapes {
            let received = client.read_body(&head);
            let cut = match received.end {
                End::Incomplete(cut) => cut,
                End::Complete => panic!("{received:?}"),
            };
            // A client that treats the end of the connection as the end of the body would take it
            // for complete.
            assert_ne!(cut, Cut::CloseNotify);
        }
        let record = self.proxy.wait_for_log("the end of the drain", |record| {
            record["fields"]["message"].as_str().is_some_and(|it| it.contains("aborting"))
        });
        assert_eq!(record["fields"]["connections"], SCRAPES);
        let code = self.proxy.wait_exit().code();
        assert_eq!(code, Some(0));
        let lines = self.proxy.log_lines();
        let aborted = lines.iter().filter(|line| line.contains("\"outcome\":\"shutdown\"")).count();
        assert_eq!(aborted, SCRAPES, "{lines:#?}");
    }
}

/// P01
#[test]
fn an_idle_proxy_exits_at_once_with_0() {
    for signal in ["TERM", "INT"] {
        let mut setup = Setup::new("");
        let mut idle = setup.connect();
        setup.gate.open();
        assert!(idle.get("/prometheus?exporter=e").body.is_complete());
        let mut without_request = setup.connect();
        let mut in_handshake = TcpStream::connect(setup.proxy.address()).expect("connected");
        let begun = Instant::now();
        setup.proxy.signal(signal);
        let code = setup.proxy.wait_exit().code();
        let lasted = begun.elapsed();
        assert_eq!(code, Some(0), "{signal}");
        assert!(lasted <= AT_ONCE, "SIG{signal}: {lasted:?}");
        assert_eq!(idle.read_to_end(), (Vec::new(), Cut::CloseNotify));
        assert_eq!(without_request.read_to_end().0, b"");
        let _ = std::io::Read::read_to_end(&mut in_handshake, &mut Vec::new());
    }
}

/// P02
#[test]
fn during_the_drain_running_scrapes_are_finished_and_new_connections_refused() {
    let mut setup = Setup::new("");
    let mut idle = setup.connect();
    assert_eq!(idle.get("/-/ready").head.status, 200);
    let scrapes = setup.begin_scrapes();
    setup.proxy.signal("TERM");
    setup.wait_until_draining();
    let refused = TcpStream::connect(setup.proxy.address()).expect_err("the listener is closed");
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    assert_eq!(idle.read_to_end(), (Vec::new(), Cut::CloseNotify));
    setup.gate.open();
    for (mut client, head) in scrapes {
        let received = client.read_body(&head);
        assert!(received.is_complete(), "{received:?}");
        assert_eq!(received.text(), "1\n2\n");
        assert_eq!(client.read_to_end(), (Vec::new(), Cut::CloseNotify));
    }
    let begun = Instant::now();
    let code = setup.proxy.wait_exit().code();
    assert_eq!(code, Some(0));
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
}

/// P03
#[test]
fn a_second_signal_aborts_running_scrapes() {
    for (first, second) in [("TERM", "TERM"), ("INT", "INT"), ("TERM", "INT"), ("INT", "TERM")] {
        let mut setup = Setup::new("");
        let scrapes = setup.begin_scrapes();
        setup.proxy.signal(first);
        setup.wait_until_draining();
        setup.proxy.signal(second);
        setup.assert_aborted(scrapes);
    }
}

/// P03
#[test]
fn the_end_of_the_drain_aborts_running_scrapes() {
    let mut setup = Setup::new("drain-timeout = 0.5\n");
    let scrapes = setup.begin_scrapes();
    let begun = Instant::now();
    setup.proxy.signal("TERM");
    setup.assert_aborted(scrapes);
    let lasted = begun.elapsed();
    assert!(lasted >= Duration::from_millis(500), "{lasted:?}");
    assert!(lasted < Duration::from_secs(3), "{lasted:?}");
}

#[test]
fn a_request_pipelined_after_a_running_scrape_does_not_begin_during_the_drain() {
    let mut setup = Setup::new("");
    let mut client = setup.connect();
    let request = "GET /prometheus?exporter=e HTTP/1.1\r\nHost: h\r\n\r\n";
    client.send(request).expect("sent");
    let head = client.read_head().expect("a head");
    setup.proxy.signal("TERM");
    setup.wait_until_draining();
    client.send(request).expect("sent");
    setup.gate.open();
    assert!(client.read_body(&head).is_complete());
    // The connection is closed, or the response is a 503 with `Retry-After`. A scrape never begins.
    if let Ok(response) = client.read_response() {
        assert_eq!(response.head.status, 503, "{response:?}");
    }
    assert_eq!(setup.proxy.wait_exit().code(), Some(0));
    let lines = setup.proxy.log_lines();
    let complete = lines.iter().filter(|line| line.contains("\"outcome\":\"complete\"")).count();
    assert_eq!(complete, 1, "{lines:#?}");
}

#[test]
fn a_request_whose_head_is_completed_during_the_drain_gets_503_with_retry_after() {
    for target in ["/prometheus?exporter=e", "/-/ready"] {
        let mut setup = Setup::new("");
        let mut client = setup.connect();
        client.send(format!("GET {target} HTTP/1.1\r\nHo")).expect("sent");
        // These scrapes keep the drain from ending before the rest is sent. They also show that the
        // start of the head was read.
        let running = setup.begin_scrapes();
        setup.proxy.signal("TERM");
        setup.wait_until_draining();
        client.send("st: h\r\n\r\n").expect("sent");
        let response = client.read_response().expect("a response");
        let said = (response.head.status, response.head.reason.as_str());
        assert_eq!(said, (503, "shutting down"), "{target}");
        assert_eq!(response.head.header("retry-after"), Some("1"));
        assert_eq!(response.head.header("connection"), Some("close"));
        setup.gate.open();
        for (mut client, head) in running {
            assert!(client.read_body(&head).is_complete());
        }
        assert_eq!(setup.proxy.wait_exit().code(), Some(0));
    }
}

#[test]
fn a_scrape_that_waits_for_its_exporter_is_aborted_with_outcome_shutdown() {
    let pki = Pki::new();
    let (asked, asks) = std::sync::mpsc::channel();
    let exporter = Exporter::start(move |conversation| {
        conversation.read_request()?;
        asked.send(()).expect("the test waits");
        conversation.wait_until_closed();
        Ok(())
    });
    let mut proxy = Proxy::start(&pki.config_ini(""), &exporter.section("silent"));
    let mut client =
        Client::connect(proxy.address(), pki.client(BOTH_VERSIONS)).expect("a handshake");
    client.send_get("/prometheus?exporter=silent").expect("sent");
    asks.recv().expect("the exporter is asked");
    proxy.signal("TERM");
    proxy.wait_for_log("the drain", |record| record["fields"]["message"] == "draining connections");
    proxy.signal("TERM");
    assert_eq!(proxy.wait_exit().code(), Some(0));
    let lines = proxy.log_lines();
    let records: Vec<_> =
        lines.iter().filter(|line| line.contains("\"message\":\"scrape\"")).collect();
    assert_eq!(records.len(), 1, "{lines:#?}");
    assert!(records[0].contains("\"outcome\":\"shutdown\""), "{records:?}");
}

#[test]
fn sighup_during_the_drain_changes_nothing() {
    let mut setup = Setup::new("");
    let scrapes = setup.begin_scrapes();
    setup.proxy.signal("TERM");
    setup.wait_until_draining();
    setup.proxy.signal("HUP");
    setup.proxy.wait_for_log("the reason", |record| {
        record["fields"]["message"] == "no reload: shutting down"
    });
    setup.gate.open();
    for (mut client, head) in scrapes {
        assert!(client.read_body(&head).is_complete());
    }
    assert_eq!(setup.proxy.wait_exit().code(), Some(0));
    let lines = setup.proxy.log_lines();
    assert!(!lines.iter().any(|line| line.contains("reloaded")), "{lines:#?}");
}

#[test]
fn sighup_does_not_end_the_process() {
    let setup = Setup::new("");
    setup.gate.open();
    setup.proxy.signal("HUP");
    let response = setup.connect().get("/prometheus?exporter=e");
    assert!(response.body.is_complete(), "{response:?}");
}
