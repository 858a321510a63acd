//! The deadline of a scrape in three situations: before the head, in the body, and with a scraper
//! that does not read. The time counts from the request, and the scrape ends on time no matter
//! which side stalls.

use std::{
    io::Read,
    sync::mpsc::{self, Receiver, Sender},
    thread,
    time::{Duration, Instant},
};

use scrapegate_harness::{
    PATIENCE,
    body::Body,
    client::{Client, Head},
    exporter::{Conversation, Exporter, Framing},
    pki::{BOTH_VERSIONS, Pki},
    testbed::{
        Action, SLACK, Testbed, Then, assert_control, assert_on_time, assert_refused,
        assert_truncated, by_case, drip, outcome, raw, target,
    },
};

const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
const MIB: u64 = 1 << 20;

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// Sends a request with the header in which Prometheus announces its scrape timeout.
fn send_with_scrape_timeout(client: &mut Client, target: &str, seconds: &str) {
    let name = "X-Prometheus-Scrape-Timeout-Seconds";
    client
        .send(format!("GET {target} HTTP/1.1\r\nHost: proxy\r\n{name}: {seconds}\r\n\r\n"))
        .expect("sent");
}

/// H42.
#[test]
fn the_scrapers_timeout_minus_the_offset_shortens_the_deadline() {
    let stall = || raw("", Then::Stall);
    let testbed = Testbed::new("timeout = 1\n", by_case(vec![stall()]));
    let mut client = testbed.client();
    // The offset is 0.25 s.
    for (header, due) in [("0.75", 500), ("0.3", 100), ("30", 1000), ("-1", 1000)] {
        let sent = Instant::now();
        send_with_scrape_timeout(&mut client, &target("x", 0), header);
        let response = client.read_response().expect("an answer");
        assert_on_time(header, sent.elapsed(), ms(due));
        assert_refused(header, &response, 504, "exporter sent no first byte in time");
    }
    assert_control(&mut client, "x");
}

#[test]
fn scrape_timeout_offset_is_subtracted_from_the_scrapers_timeout() {
    let exporter = Exporter::start(by_case(vec![raw("", Then::Stall)]));
    let pki = Pki::new();
    let testbed = Testbed::before(pki, exporter, "scrape-timeout-offset = 0.6\n", &[("x", "")]);
    let mut client = testbed.client();
    let sent = Instant::now();
    send_with_scrape_timeout(&mut client, &target("x", 0), "1");
    let response = client.read_response().expect("an answer");
    assert_on_time("offset", sent.elapsed(), ms(400));
    assert_eq!(response.head.status, 504, "{response:?}");
}

#[test]
fn u19_u20_u21_a_deadline_in_the_body_aborts_instead_of_ending() {
    let after_a_mib: Action = Box::new(|it| {
        it.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", 2 * MIB))?;
        let mut half = Body::text(MIB);
        let mut bytes = Vec::new();
        half.read_to_end(&mut bytes)?;
        it.send(bytes)?;
        it.wait_until_closed();
        Ok(())
    });
    let endless = |framing| -> Action {
        Box::new(move |it: &mut Conversation| it.answer("", framing, Body::text(1 << 50)))
    };
    let cases: Vec<(&str, Action, &str)> = vec![
        ("a stall", raw(format!("{CHUNKED}4\r\na 1\n\r\n"), Then::Stall), "deadline_exporter"),
        (
            "a stall with one byte missing",
            raw("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\na 1\n", Then::Stall),
            "deadline_exporter",
        ),
        (
            "a stall before the end",
            raw("HTTP/1.1 200 OK\r\n\r\na 1\n", Then::Stall),
            "deadline_exporter",
        ),
        ("a stall after 1 MiB", after_a_mib, "deadline_exporter"),
        ("a drip", drip(CHUNKED, "1\r\n\n\r\n", ms(20)), "deadline_exporter"),
        ("endless and fast, in chunks", endless(Framing::Chunked(4096)), ""),
        ("endless and fast, until close", endless(Framing::UntilClose), ""),
        ("endless and fast, by length", endless(Framing::ContentLength), ""),
    ];
    let due = ms(500);
    let mut stories = Vec::new();
    let mut actions = Vec::new();
    for (story, action, word) in cases {
        stories.push((story, word));
        actions.push(action);
    }
    let testbed = Testbed::new("timeout = 0.5\n", by_case(actions));
    assert_control(&mut testbed.client(), "x");
    let before = testbed.proxy.peak_rss_kib();
    for (case, (story, _)) in stories.iter().enumerate() {
        let mut client = testbed.client();
        let sent = Instant::now();
        let response = client.get(&target("x", case));
        assert_on_time(story, sent.elapsed(), due);
        assert_eq!(response.head.status, 200, "{story}: {response:?}");
        assert_truncated(story, &response.body.end);
        assert!(response.body.bytes >= 4, "{story}: {response:?}");
    }
    // This also holds for endless bodies, which had sent much data by then.
    let grown = testbed.proxy.peak_rss_kib() - before;
    assert!(grown < 8 * 1024, "the peak memory grew by {grown} KiB");
    let scrapes = testbed.scrapes(stories.len() + 1);
    for (record, (story, word)) in scrapes[1..].iter().zip(&stories) {
        let word_in_log = outcome(record);
        // With a fast exporter, the side that the scrape waits for at the deadline is random.
        let is_right = if word.is_empty() {
            word_in_log.starts_with("deadline_")
        } else {
            word_in_log == *word
        };
        assert!(is_right, "{story}: {record}");
        let seconds = record["seconds"].as_f64().expect("a number");
        assert!(seconds >= due.as_secs_f64() - 0.001, "{story}: {record}");
    }
    assert_control(&mut testbed.client(), "x");
}

/// Sends a large body and reports when the proxy closed the connection.
fn until_closed(framing: Framing, closed: Sender<Instant>) -> Action {
    Box::new(move |it| {
        // Blocks until the proxy closes the connection, then fails.
        let _ = it.answer("", framing, Body::text(64 * MIB));
        let at = it.wait_until_closed();
        // The test may have ended already.
        let _ = closed.send(at);
        Ok(())
    })
}

/// Waits for the reset without reading, because reading would make room for more data. Polls the
/// socket's error, since a wait without reading has no event.
fn wait_for_reset(client: &Client) -> Instant {
    let limit = Instant::now() + PATIENCE;
    loop {
        if client.socket().take_error().expect("a socket").is_some() {
            return Instant::now();
        }
        assert!(
            Instant::now() < limit,
            "the proxy keeps the connection of a scraper that does not read"
        );
        thread::sleep(ms(2));
    }
}

fn recv(closed: &Receiver<Instant>) -> Instant {
    closed.recv_timeout(PATIENCE).expect("the exporter's connection is closed")
}

/// Starts a scrape with each TLS version and reads the heads. Also returns the time at which the
/// requests were sent.
fn begin_scrapes(testbed: &Testbed) -> (Vec<(Client, Head)>, Instant) {
    let mut clients: Vec<_> =
        BOTH_VERSIONS.iter().map(|&version| testbed.client_of(&[version])).collect();
    let sent = Instant::now();
    for client in &mut clients {
        client.send_get(&target("x", 0)).expect("sent");
    }
    let with_head = |mut client: Client| {
        let head = client.read_head().expect("a head");
        assert_eq!(head.status, 200, "{head:?}");
        (client, head)
    };
    (clients.into_iter().map(with_head).collect(), sent)
}

/// Scrapers read the head and nothing more. Asserts that the proxy ends both connections of each
/// scrape when `due` has passed.
fn assert_ended_without_a_reader(stall_timeout: &str, timeout: &str, due: Duration, word: &str) {
    for framing in [Framing::Chunked(4096), Framing::ContentLength, Framing::UntilClose] {
        let (sender, closed) = mpsc::channel();
        let testbed = Testbed::before(
            Pki::new(),
            Exporter::start(by_case(vec![until_closed(framing, sender)])),
            &format!("stall-timeout = {stall_timeout}\n"),
            &[("x", &format!("timeout = {timeout}\n"))],
        );
        assert_control(&mut testbed.client(), "x");
        let (fds, rss) = (testbed.proxy.open_fds(), testbed.proxy.peak_rss_kib());

        let (scrapers, sent) = begin_scrapes(&testbed);
        for (mut client, head) in scrapers {
            let reset = wait_for_reset(&client);
            let upstream = recv(&closed);
            let story = format!("{framing:?}, {:?}, not read", client.tls().protocol_version());
            assert_on_time(&story, reset - sent, due);
            assert_on_time(&format!("{story}, exporter"), upstream - sent, due);
            // The bytes left in the scraper's kernel are not a complete message either.
            assert_truncated(&story, &client.read_body(&head).end);
        }
        let scrapes = testbed.scrapes(1 + BOTH_VERSIONS.len());
        assert!(scrapes[1..].iter().all(|it| outcome(it) == word), "{scrapes:#?}");
        let grown = testbed.proxy.peak_rss_kib() - rss;
        assert!(grown < 8 * 1024, "{framing:?}: the peak memory grew by {grown} KiB");
        assert_control(&mut testbed.client(), "x");
        testbed.assert_at_rest(fds);
    }
}

#[test]
fn d01_a_scraper_that_does_not_read_is_disconnected_at_the_deadline() {
    assert_ended_without_a_reader("10", "1", ms(1000), "deadline_scraper");
}

#[test]
fn d01_a_scraper_that_does_not_read_is_disconnected_at_the_stall_timeout_if_that_is_earlier() {
    assert_ended_without_a_reader("0.8", "15", ms(800), "scraper_stalled");
}

#[test]
fn d02_a_scraper_that_reads_slowly_is_disconnected_at_the_deadline() {
    let (sender, closed) = mpsc::channel();
    let action = until_closed(Framing::Chunked(4096), sender);
    let testbed = Testbed::new("timeout = 1\n", by_case(vec![action]));
    let (scrapers, sent) = begin_scrapes(&testbed);
    let mut ended = 0;
    while ended < scrapers.len() {
        assert!(
            sent.elapsed() < PATIENCE,
            "the proxy keeps the connection of a scraper that reads slowly"
        );
        for (client, _) in &scrapers {
            // Reads below TLS: only the few bytes that each read frees in the socket matter.
            let _ = client.socket().read(&mut [0; 512]);
        }
        if let Ok(upstream) = closed.recv_timeout(ms(20)) {
            assert_on_time("drops", upstream - sent, ms(1000));
            ended += 1;
        }
    }
    for record in testbed.scrapes(BOTH_VERSIONS.len()) {
        assert_eq!(outcome(&record), "deadline_scraper");
    }
}

#[test]
fn other_scrapes_continue_while_one_scraper_does_not_read() {
    let (sender, closed) = mpsc::channel();
    let action = until_closed(Framing::Chunked(4096), sender);
    let testbed = Testbed::new("timeout = 1.5\n", by_case(vec![action]));
    let mut lazy = testbed.client();
    lazy.send_get(&target("x", 0)).expect("sent");
    lazy.read_head().expect("a head");
    let mut client = testbed.client();
    let mut scrapes = 0;
    while closed.try_recv().is_err() {
        let sent = Instant::now();
        assert_control(&mut client, "x");
        assert!(sent.elapsed() < SLACK, "a control scrape took {:?}", sent.elapsed());
        scrapes += 1;
    }
    assert!(scrapes > 10, "only {scrapes} scrapes");
}
