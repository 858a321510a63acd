//! Scrapes that do not end before their deadline.

use std::{
    sync::mpsc::{self, Sender},
    thread,
    time::{Duration, Instant},
};

use scrapegate_harness::{
    PATIENCE,
    body::{Body, Kind},
    client::Client,
    exporter::{Conversation, Exporter, Framing},
    pki::Pki,
    testbed::{
        Action, SLACK, Testbed, Then, assert_on_time, assert_refused, assert_truncated, by_case,
        drip, outcome, raw, target,
    },
};

use crate::chains;

const CHUNKED: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n";
/// A chunk with a line that no filter of `left_.*` passes.
const DROPPED: &str = "9\r\nleft_a 1\n\r\n";
const TEXT: &str = "Content-Type: text/plain\r\n";

type MakeAction = fn() -> Action;

/// The deadline.
const DUE: Duration = Duration::from_millis(600);

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn endless(framing: Framing) -> Action {
    Box::new(move |it: &mut Conversation| {
        it.answer(TEXT, framing, Body::new(Kind::Families, 1 << 50))
    })
}

#[test]
fn a_deadline_in_a_transformed_body_aborts_instead_of_ending() {
    let cases: Vec<(&str, MakeAction)> = vec![
        ("a stall", || raw(format!("{CHUNKED}4\r\na 1\n\r\n"), Then::Stall)),
        ("a stall before the end", || {
            raw(format!("HTTP/1.1 200 OK\r\n{TEXT}\r\na 1\n"), Then::Stall)
        }),
        ("a drip of lines", || drip(CHUNKED, "11\r\na 1\nleft_a 1\nb 2\n\r\n", ms(20))),
        ("a drip inside a line", || {
            Box::new(|it: &mut Conversation| {
                it.send(format!("{CHUNKED}5\r\na{{b=\"\r\n"))?;
                drip("", "1\r\nx\r\n", ms(20))(it)
            })
        }),
        ("endless and fast, in chunks", || endless(Framing::Chunked(4096))),
        ("endless and fast, until close", || endless(Framing::UntilClose)),
        ("endless and fast, by length", || endless(Framing::ContentLength)),
    ];
    for chain in chains() {
        let actions = cases.iter().map(|(_, action)| action()).collect();
        let keys = format!("timeout = {}\n{}", DUE.as_secs_f64(), chain.keys());
        let testbed = Testbed::new(&keys, by_case(actions));
        let before = testbed.proxy.peak_rss_kib();
        for (case, (story, _)) in cases.iter().enumerate() {
            let story = format!("{chain:?}, {story}");
            let mut client = testbed.client();
            let sent = Instant::now();
            chain.ask(&mut client, &target("x", case));
            let response = client.read_response().expect("an answer");
            assert_on_time(&story, sent.elapsed(), DUE);
            assert_eq!(response.head.status, 200, "{story}: {response:?}");
            assert_truncated(&story, &response.body.end);
            let (bytes, is_clean) = chain.decoded(&response.body);
            assert!(bytes.len() >= 4, "{story}: {response:?}");
            assert_ne!(is_clean, Some(true), "{story}: {response:?}");
        }
        let grown = testbed.proxy.peak_rss_kib() - before;
        assert!(grown < 8 * 1024, "{chain:?}: the peak memory grew by {grown} KiB");
        for record in testbed.scrapes(cases.len()) {
            // With a fast exporter, the side that the scrape waits for at the deadline is random.
            assert!(outcome(&record).starts_with("deadline_"), "{chain:?}: {record}");
        }
    }
}

#[test]
fn a_scrape_whose_lines_are_all_left_out_until_the_deadline_is_refused_with_the_true_reason() {
    let actions: [MakeAction; 3] = [
        || drip(CHUNKED, DROPPED, ms(20)),
        || raw(format!("{CHUNKED}{DROPPED}"), Then::Stall),
        // As fast as possible.
        || {
            Box::new(|it: &mut Conversation| {
                it.send(CHUNKED)?;
                loop {
                    it.send(DROPPED.repeat(1000))?;
                }
            })
        },
    ];
    for chain in chains().into_iter().filter(|chain| chain.drops == Some("left_.*")) {
        let mut all: Vec<_> = actions.iter().map(|action| action()).collect();
        let silent = all.len();
        all.push(raw(CHUNKED, Then::Stall));
        let keys = format!("timeout = {}\n{}", DUE.as_secs_f64(), chain.keys());
        let testbed = Testbed::new(&keys, by_case(all));
        let mut client = testbed.client();
        for case in 0..=silent {
            let sent = Instant::now();
            chain.ask(&mut client, &target("x", case));
            let response = client.read_response().expect("an answer");
            let story = format!("{chain:?}, case {case}");
            assert_on_time(&story, sent.elapsed(), DUE);
            let reason = if case == silent {
                "exporter sent no first byte in time"
            } else {
                "nothing of the exporter's answer passed in time"
            };
            assert_refused(&story, &response, 504, reason);
        }
        let records = testbed.scrapes(silent + 1);
        for (case, record) in records.iter().enumerate() {
            let is_silent = case == silent;
            let label =
                if is_silent { "exporter_first_byte_timeout" } else { "exporter_nothing_passed" };
            assert_eq!(outcome(record), label, "{record}");
            assert_eq!(record["families_dropped"], u64::from(!is_silent), "{record}");
            assert_eq!(record["received_bytes"] == 0, is_silent, "{record}");
            let cause = record["cause"].as_str().unwrap_or_default();
            assert_eq!(cause.contains("no data passed the filter"), !is_silent, "{record}");
        }
    }
}

/// Sends without end, and reports when the proxy closed the connection.
fn until_closed(closed: Sender<Instant>) -> Action {
    Box::new(move |it| {
        // Blocks until the proxy closes the connection, then fails.
        let _ = it.answer(TEXT, Framing::Chunked(4096), Body::new(Kind::Families, 1 << 50));
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
        assert!(Instant::now() < limit, "the proxy keeps the connection");
        thread::sleep(ms(2));
    }
}

#[test]
fn a_scraper_that_does_not_read_a_transformed_body_is_disconnected_in_time() {
    for chain in chains() {
        for (stall_timeout, timeout, due, label) in
            [("10", "1", ms(1000), "deadline_scraper"), ("0.8", "15", ms(800), "scraper_stalled")]
        {
            let (sender, closed) = mpsc::channel();
            let testbed = Testbed::before(
                Pki::new(),
                Exporter::start(by_case(vec![until_closed(sender)])),
                &format!("stall-timeout = {stall_timeout}\n"),
                &[("x", &format!("timeout = {timeout}\n{}", chain.keys()))],
            );
            let story = format!("{chain:?}, {label}");
            let mut client = testbed.client();
            let sent = Instant::now();
            chain.ask(&mut client, &target("x", 0));
            let head = client.read_head().expect("a head");
            assert_eq!(head.status, 200, "{story}: {head:?}");
            let reset = wait_for_reset(&client);
            let upstream = closed.recv_timeout(PATIENCE).expect("the connection is closed");
            if label == "deadline_scraper" {
                assert_on_time(&story, reset - sent, due);
                assert_on_time(&format!("{story}, exporter"), upstream - sent, due);
            } else {
                // The buffers fill up first, which takes an encoder some time.
                assert!(reset - sent >= due && upstream - reset < SLACK, "{story}");
            }
            let body = client.read_body(&head);
            assert_truncated(&story, &body.end);
            let record = &testbed.scrapes(1)[0];
            assert_eq!(outcome(record), label, "{story}: {record}");
        }
    }
}
