//! A scraper that goes away ends the exporter's connection within 100 ms.

use std::{
    io::{self, Write},
    net::Shutdown,
    sync::mpsc::{self, Receiver, Sender},
    time::{Duration, Instant},
};

use socket2::SockRef;

use crate::{
    stage::{
        Action, OVER_RUN, SLACK, Stage, assert_control, assert_counted, by_case, outcome, target,
    },
    support::{
        PATIENCE,
        body::Body,
        client::Client,
        exporter::{Conversation, Framing},
        metrics::Samples,
        pki::BOTH_VERSIONS,
    },
};

/// How late the exporter's connection may end: 100 ms in a release build.
const SOON: Duration =
    if cfg!(debug_assertions) { OVER_RUN.saturating_add(SLACK) } else { OVER_RUN };

/// How a scraper goes.
#[derive(Clone, Copy, Debug)]
enum Leaves {
    /// RST.
    Reset,
    /// Its socket is closed.
    Close,
    /// FIN, and it would still read.
    HalfClose,
    /// close_notify and FIN, and it would still read.
    CloseNotify,
    /// With bytes that are no TLS, and it would still read.
    BreaksTls,
}

const ALL: [Leaves; 5] =
    [Leaves::Reset, Leaves::Close, Leaves::HalfClose, Leaves::CloseNotify, Leaves::BreaksTls];

impl Leaves {
    /// Does it; what is left of the scraper's side comes back.
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
                // The proxy may have ended the connection by now.
                let _ = client.socket().shutdown(Shutdown::Write);
                Some(client)
            }
        }
    }
}

/// Reports the request, or the first bytes of the answer; then the end.
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
        // An error is the end that is waited for.
        let _ = act(it, &begin);
        let at = it.wait_until_closed();
        // The test may be over.
        let _ = close.send(at);
        Ok(())
    });
    (action, Reports { begun, closed })
}

fn request(case: usize) -> String {
    format!("GET {} HTTP/1.1\r\nHost: h\r\n\r\n", target("x", case))
}

/// What has come behind a request while it is answered: nothing, a further one, and more of them
/// than hyper reads at once. It holds those unread, and would not see the end of the connection.
fn behind() -> [String; 3] {
    [String::new(), request(0), request(0).repeat(200)]
}

fn assert_ended_soon(story: &str, left: Instant, reports: &Reports) {
    let closed = reports.closed.recv_timeout(PATIENCE).expect("the exporter's connection ends");
    let took = closed.saturating_duration_since(left);
    assert!(took <= SOON, "{story}: {took:?} after the scraper");
}

#[test]
fn d05_a_scraper_that_leaves_before_the_answer_ends_the_exporters_connection() {
    for &version in BOTH_VERSIONS {
        let (action, reports) = reporting(|_, begin| {
            // The test may be over.
            let _ = begin.send(());
            Ok(())
        });
        let stage = Stage::new("timeout = 15\nmax-concurrent = 1\n", by_case(vec![action]));
        assert_control(&mut stage.client(), "x");
        // Its record is there before those of other connections.
        stage.scrapes(1);
        let fds = stage.proxy.open_fds();
        let mut gone = 0;
        for behind in behind() {
            for leaves in ALL {
                let mut client = stage.client_of(&[version]);
                client.send(request(0) + &behind).expect("sent");
                reports.begun.recv_timeout(PATIENCE).expect("a request");
                let left = Instant::now();
                let rest = leaves.act(client);
                assert_ended_soon(
                    &format!("{leaves:?}, {} bytes behind it", behind.len()),
                    left,
                    &reports,
                );
                drop(rest);
                gone += 1;
                // A scrape that is logged has given its slot back.
                stage.scrapes(gone + 1);
            }
        }
        // The only slot of `max-concurrent` is free again.
        assert_control(&mut stage.client(), "x");
        let scrapes = stage.scrapes(gone + 2);
        for record in &scrapes[1..=gone] {
            assert_eq!(outcome(record), "scraper_gone", "{record}");
        }
        assert_eq!(stage.exporter.connections(), gone + 2, "what was behind is never asked");
        stage.assert_at_rest(fds);
    }
}

/// F26: more than the proxy reads ahead, and as much as it does.
#[test]
fn f26_a_scraper_that_leaves_behind_many_pipelined_requests_is_noticed_and_none_of_them_asked() {
    let (action, reports) = reporting(|_, begin| {
        // The test may be over.
        let _ = begin.send(());
        Ok(())
    });
    let stage = Stage::new("timeout = 15\n", by_case(vec![action]));
    assert_control(&mut stage.client(), "x");
    stage.scrapes(1);
    let mut gone = 0;
    for bytes in [40_000, 120_000] {
        let behind = request(0).repeat(bytes / request(0).len());
        // Bytes that are no TLS are read no further than the others.
        let seen = ALL.iter().filter(|it| bytes < 64_000 || !matches!(it, Leaves::BreaksTls));
        for (leaves, &version) in
            seen.flat_map(|it| BOTH_VERSIONS.iter().map(move |version| (it, version)))
        {
            let mut client = stage.client_of(&[version]);
            client.send(request(0) + &behind).expect("sent");
            reports.begun.recv_timeout(PATIENCE).expect("a request");
            let left = Instant::now();
            let rest = leaves.act(client);
            let story = format!("{leaves:?}, {version:?}, {bytes} bytes behind it");
            assert_ended_soon(&story, left, &reports);
            drop(rest);
            gone += 1;
            stage.scrapes(gone + 1);
        }
    }
    assert_eq!(stage.exporter.connections(), gone + 1, "what was behind is never asked");
}

#[test]
fn d04_a_scraper_that_leaves_in_the_body_ends_the_exporters_connection() {
    let (slow, slow_reports) = reporting(|it, _| {
        it.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
    });
    let (fast, fast_reports) =
        reporting(|it, _| it.answer("", Framing::Chunked(4096), Body::text(u64::MAX)));
    let stage = Stage::new("timeout = 15\nmax-concurrent = 1\n", by_case(vec![slow, fast]));
    assert_control(&mut stage.client(), "x");
    // Its record is there before those of other connections.
    stage.scrapes(1);
    let fds = stage.proxy.open_fds();
    let mut gone = 0;
    let fast_or_slow = [(0, &slow_reports), (1, &fast_reports)];
    for (behind, (case, reports)) in
        behind().iter().flat_map(|behind| fast_or_slow.map(|it| (behind, it)))
    {
        for (leaves, version) in
            ALL.iter().flat_map(|it| BOTH_VERSIONS.iter().map(move |&version| (it, version)))
        {
            let mut client = stage.client_of(&[version]);
            client.send(request(case) + behind).expect("sent");
            client.read_head().expect("a head");
            let left = Instant::now();
            let rest = leaves.act(client);
            // One that still reads takes a fast body in, as a program does that waits for its end.
            let reader = rest.map(|mut client| std::thread::spawn(move || client.read_to_end()));
            let story =
                format!("{leaves:?}, {version:?}, case {case}, {} bytes behind it", behind.len());
            assert_ended_soon(&story, left, reports);
            if let Some(reader) = reader {
                reader.join().expect("it reads to the end");
            }
            gone += 1;
            // A scrape that is logged has given its slot back.
            stage.scrapes(gone + 1);
        }
    }
    let mut client = stage.client();
    assert_control(&mut client, "x");
    let scrapes = stage.scrapes(gone + 2);
    for record in &scrapes[1..=gone] {
        assert_eq!(outcome(record), "scraper_gone", "{record}");
    }
    let let_in = u32::try_from(gone + 2).expect("fewer");
    assert_counted(&mut client, &Samples::default(), &scrapes, let_in);
    drop(client);
    stage.assert_at_rest(fds);
}
