//! What a client sends on after an answer that did not wait for it.
//!
//! It is not taken for a request, nor waited for; but a socket that is closed with unread bytes is
//! reset, and the reset can overtake the answer (RFC 9112 §9.6). So the proxy reads on a little,
//! and throws it away: [`MOST_BYTES`] and [`MOST_TIME`], whichever is over first.

use std::time::{Duration, Instant};

use crate::{
    Setup, scrape_with,
    support::client::{Client, Cut},
};

const MOST_BYTES: usize = 4 * 1024 * 1024;
const MOST_TIME: Duration = Duration::from_secs(1);

/// What one write has when a client sends as fast as it is read.
const PIECE: usize = 64 * 1024;

/// How much later than that a connection may be gone, on a busy machine.
const SLACK: Duration = Duration::from_secs(2);

/// Requests that are refused before they are whole.
fn unfinished() -> [(String, u16); 3] {
    let endless_head = format!("X: {}", "a".repeat(17 * 1024));
    [
        (scrape_with("Content-Length: 1000000000\r\n"), 400),
        (scrape_with("Transfer-Encoding: chunked\r\n"), 400),
        (scrape_with(&endless_head).trim_end().to_owned(), 431),
    ]
}

/// Runs `go_on` with each of their connections, once they are answered. Afterwards each has to
/// be gone, and counted once.
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
fn of_what_is_sent_after_a_refusal_no_more_than_4_mib_is_read() {
    each_refused(|client| {
        let mut sent = 0;
        while client.send([b'a'; PIECE]).is_ok() {
            sent += PIECE;
            // One piece that was on its way, and one that the kernel took before it knew.
            assert!(sent <= MOST_BYTES + 2 * PIECE, "{sent} bytes, and it reads on");
            client.wait_until_read();
        }
    });
}

/// H04, H05, H07.
#[test]
fn of_what_drips_in_after_a_refusal_no_more_than_a_second_is_read() {
    each_refused(|client| {
        let begun = Instant::now();
        while client.send("a").is_ok() {
            assert!(begun.elapsed() < MOST_TIME + SLACK, "it reads on");
            std::thread::sleep(Duration::from_millis(20));
        }
    });
}
