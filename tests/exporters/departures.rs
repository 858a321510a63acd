//! If a scraper leaves, the proxy closes the exporter's connection within 100 ms.

use std::{
    io::{self, Write},
    net::Shutdown,
    sync::mpsc::{self, Receiver, Sender},
    time::{Duration, Instant},
};

use scrapegate_harness::{
    PATIENCE,
    body::Body,
    client::Client,
    exporter::{Conversation, Framing},
    metrics::Samples,
    pki::BOTH_VERSIONS,
    testbed::{
        Action, OVER_RUN, SLACK, Testbed, assert_control, assert_counted, by_case, outcome, target,
    },
};
use socket2::SockRef;

/// The limit for closing the exporter's connection: 100 ms in a release build.
const SOON: Duration =
    if cfg!(debug_assertions) { OVER_RUN.saturating_add(SLACK) } else { OVER_RUN };

/// How a scraper leaves.
#[derive(Clone, Copy, Debug)]
enum Leaves {
    /// With a reset (RST).
    Reset,
    /// By closing its socket.
    Close,
    /// With FIN; it could still read.
    HalfClose,
    /// With close_notify and FIN; it could still read.
    CloseNotify,
    /// With bytes that are not TLS; it could still read.
    BreaksTls,
}

const ALL: [Leaves; 5] =
    [Leaves::Reset, Leaves::Close, Leaves::HalfClose, Leaves::CloseNotify, Leaves::BreaksTls];

impl Leaves {
    /// Makes the scraper leave. Returns its connection if it is still open.
    fn act(self, mut client: Client) -> Option<Client> {
        match self {
            Self::Reset => {
                let socket = SockRef::from(client.socket());
                socket.set_linger(Some(Duration::ZERO)).expect("an option");
                None
            }
            Self::Close => None,
            Self::HalfClose => {
                client.socket().shutdown(Shutdown::Write).expect("an open socket");
                Some(client)
            }
            Self::BreaksTls => {
                client.socket().write_all(b"GET / HTTP/1.1\r\n\r\n").expect("an open socket");
                Some(client)
            }
            Self::CloseNotify => {
                client.send_close_notify().expect("an open socket");
                // The proxy may have closed the connection already.
                let _ = client.socket().shutdown(Shutdown::Write);
                Some(client)
            }
        }
    }
}

/// A script that reports the request, or the first bytes of the response, and then the end of the
/// connection.
struct Reports {
    begun: Receiver<()>,
    closed: Receiver<Instant>,
}

fn reporting(
    act: impl Fn(&mut Conversation, &Sender<()>) -> io::Result<()> + Send + Sync + 'static,
) -> (Action, Reports) {
    let (begin, begun) = mpsc::channel();
    let (close, closed) = mpsc::channel();
    let action: Action = Box::new(move |it| {
        // An error also means that the connection has ended.
        let _ = act(it, &begin);
        let at = it.wait_until_closed();
        // The test may have ended already.
        let _ = close.send(at);
        Ok(())
    });
    (action, Reports { begun, closed })
}

fn request(case: usize) -> String {
    format!("GET {} HTTP/1.1\r\nHost: h\r\n\r\n", target("x", case))
}

/// Bytes sent after a request while the request is being answered: none, one further request, or
/// more requests than hyper reads ahead. In the last case hyper leaves bytes unread and would not
/// notice the end of the connection.
fn pipelined() -> [String; 3] {
    [String::new(), request(0), request(0).repeat(200)]
}

fn assert_ended_soon(story: &str, left: Instant, reports: &Reports) {
    let closed = reports.closed.recv_timeout(PATIENCE).expect("the exporter's connection ends");
    let took = closed.saturating_duration_since(left);
    assert!(took <= SOON, "{story}: {took:?} after the scraper");
}

#[test]
fn d05_if_a_scraper_leaves_before_the_response_the_exporters_connection_is_closed() {
    for &version in BOTH_VERSIONS {
        let (action, reports) = reporting(|_, begin| {
            // The test may have ended already.
            let _ = begin.send(());
            Ok(())
        });
        let testbed = Testbed::new("timeout = 15\nmax-concurrent = 1\n", by_case(vec![action]));
        assert_control(&mut testbed.client(), "x");
        // Waits for the control scrape's record, so that it precedes those of other connections.
        testbed.scrapes(1);
        let fds = testbed.proxy.open_fds();
        let mut gone = 0;
        for pipelined in pipelined() {
            for leaves in ALL {
                let mut client = testbed.client_of(&[version]);
                client.send(request(0) + &pipelined).expect("sent");
                reports.begun.recv_timeout(PATIENCE).expect("a request");
                let left = Instant::now();
                let rest = leaves.act(client);
                assert_ended_soon(
                    &format!("{leaves:?}, {} bytes pipelined", pipelined.len()),
                    left,
                    &reports,
                );
                drop(rest);
                gone += 1;
                // A scrape releases its permit before it is logged.
                testbed.scrapes(gone + 1);
            }
        }
        // The only permit of `max-concurrent` is available again.
        assert_control(&mut testbed.client(), "x");
        let scrapes = testbed.scrapes(gone + 2);
        for record in &scrapes[1..=gone] {
            assert_eq!(outcome(record), "scraper_gone", "{record}");
        }
        assert_eq!(
            testbed.exporter.connections(),
            gone + 2,
            "no pipelined request reaches the exporter"
        );
        testbed.assert_at_rest(fds);
    }
}

/// F26: pipelined requests that the proxy reads ahead completely (40 kB), and more than it reads
/// ahead (120 kB).
#[test]
fn f26_a_scraper_that_leaves_after_many_pipelined_requests_is_noticed_and_none_reaches_the_exporter()
 {
    let (action, reports) = reporting(|_, begin| {
        // The test may have ended already.
        let _ = begin.send(());
        Ok(())
    });
    let testbed = Testbed::new("timeout = 15\n", by_case(vec![action]));
    assert_control(&mut testbed.client(), "x");
    testbed.scrapes(1);
    let mut gone = 0;
    for bytes in [40_000, 120_000] {
        let pipelined = request(0).repeat(bytes / request(0).len());
        // Bytes that are not TLS are not noticed beyond what the proxy reads ahead.
        let seen = ALL.iter().filter(|it| bytes < 64_000 || !matches!(it, Leaves::BreaksTls));
        for (leaves, &version) in
            seen.flat_map(|it| BOTH_VERSIONS.iter().map(move |version| (it, version)))
        {
            let mut client = testbed.client_of(&[version]);
            client.send(request(0) + &pipelined).expect("sent");
            reports.begun.recv_timeout(PATIENCE).expect("a request");
            let left = Instant::now();
            let rest = leaves.act(client);
            let story = format!("{leaves:?}, {version:?}, {bytes} bytes pipelined");
            assert_ended_soon(&story, left, &reports);
            drop(rest);
            gone += 1;
            testbed.scrapes(gone + 1);
        }
    }
    assert_eq!(
        testbed.exporter.connections(),
        gone + 1,
        "no pipelined request reaches the exporter"
    );
}

#[test]
fn d04_if_a_scraper_leaves_during_the_body_the_exporters_connection_is_closed() {
    let (slow, slow_reports) = reporting(|it, _| {
        it.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
    });
    let (fast, fast_reports) =
        reporting(|it, _| it.answer("", Framing::Chunked(4096), Body::text(u64::MAX)));
    let testbed = Testbed::new("timeout = 15\nmax-concurrent = 1\n", by_case(vec![slow, fast]));
    assert_control(&mut testbed.client(), "x");
    // Waits for the control scrape's record, so that it precedes those of other connections.
    testbed.scrapes(1);
    let fds = testbed.proxy.open_fds();
    let mut gone = 0;
    let fast_or_slow = [(0, &slow_reports), (1, &fast_reports)];
    for (pipelined, (case, reports)) in
        pipelined().iter().flat_map(|pipelined| fast_or_slow.map(|it| (pipelined, it)))
    {
        for (leaves, version) in
            ALL.iter().flat_map(|it| BOTH_VERSIONS.iter().map(move |&version| (it, version)))
        {
            let mut client = testbed.client_of(&[version]);
            client.send(request(case) + pipelined).expect("sent");
            client.read_head().expect("a head");
            let left = Instant::now();
            let rest = leaves.act(client);
            // A scraper that can still read consumes a fast body, as a program does that waits for
            // the end.
            let reader = rest.map(|mut client| std::thread::spawn(move || client.read_to_end()));
            let story = format!(
                "{leaves:?}, {version:?}, case {case}, {} bytes pipelined",
                pipelined.len()
            );
            assert_ended_soon(&story, left, reports);
            if let Some(reader) = reader {
                reader.join().expect("the reader ends");
            }
            gone += 1;
            // A scrape releases its permit before it is logged.
            testbed.scrapes(gone + 1);
        }
    }
    let mut client = testbed.client();
    assert_control(&mut client, "x");
    let scrapes = testbed.scrapes(gone + 2);
    for record in &scrapes[1..=gone] {
        assert_eq!(outcome(record), "scraper_gone", "{record}");
    }
    let accepted = u32::try_from(gone + 2).expect("fewer");
    assert_counted(&mut client, &Samples::default(), &scrapes, accepted);
    drop(client);
    testbed.assert_at_rest(fds);
}
