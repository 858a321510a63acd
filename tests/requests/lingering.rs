//! Bytes that a client sends after a response that did not wait for them.
//!
//! The proxy neither treats these bytes as a request nor waits for them. However, closing a socket
//! with unread bytes resets the connection, and the reset can overtake the response (RFC 9112
//! section 9.6). The proxy therefore reads and discards at most [`MOST_BYTES`] for at most
//! [`MOST_TIME`].

use std::time::{Duration, Instant};

use scrapegate_harness::client::{Client, Cut};

use crate::{Setup, scrape_with};

const MOST_BYTES: usize = 4 * 1024 * 1024;
const MOST_TIME: Duration = Duration::from_secs(1);

/// Size of one write of a client that sends as fast as the proxy reads.
const PIECE: usize = 64 * 1024;

/// The extra delay on a busy machine until the connection is closed.
const SLACK: Duration = Duration::from_secs(2);

/// Requests that are refused before they are complete.
fn unfinished() -> [(String, u16); 3] {
    let endless_head = format!("X: {}", "a".repeat(17 * 1024));
    [
        (scrape_with("Content-Length: 1000000000\r\n"), 400),
        (scrape_with("Transfer-Encoding: chunked\r\n"), 400),
        (scrape_with(&endless_head).trim_end().to_owned(), 431),
    ]
}

/// Sends each request and reads the refusal, then runs `go_on` with the connection. Afterwards the
/// connection must be closed and the refusal counted once.
fn each_refused(go_on: impl Fn(&mut Client)) {
    let setup = Setup::new();
    let at_rest = setup.proxy.open_fds();
    for (request, status) in unfinished() {
        let mut client = setup.connect();
        client.send(&request).expect("sent");
        let begun = Instant::now();
        let response = client.read_response().expect("a response");
        assert_eq!(response.head.status, status, "{response:?}");
        assert!(begun.elapsed() < MOST_TIME + SLACK, "{:?}", begun.elapsed());
        assert_eq!(client.read_to_end(), (Vec::new(), Cut::CloseNotify));
        go_on(&mut client);
        setup.proxy.assert_at_rest(at_rest);
        setup.refused(1);
        setup.assert_counted();
    }
    assert_eq!(setup.exporter.connections(), 0);
    setup.assert_scraped(scrape_with(""), "/metrics");
}

/// H04, H05, H07.
#[test]
fn at_most_4_mib_are_read_after_a_refusal() {
    each_refused(|client| {
        let mut sent = 0;
        while client.send([b'a'; PIECE]).is_ok() {
            sent += PIECE;
            // One piece in flight, and one that the kernel accepted before it saw the close.
            assert!(sent <= MOST_BYTES + 2 * PIECE, "{sent} bytes, and the proxy still reads");
            client.wait_until_read();
        }
    });
}

/// H04, H05, H07.
#[test]
fn slow_bytes_are_read_for_at_most_a_second_after_a_refusal() {
    each_refused(|client| {
        let begun = Instant::now();
        while client.send("a").is_ok() {
            assert!(begun.elapsed() < MOST_TIME + SLACK, "the proxy still reads");
            // The pace of a slow client.
            std::thread::sleep(Duration::from_millis(20));
        }
    });
}
