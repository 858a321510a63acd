//! Request bodies: the proxy accepts none, whatever announces one.

use std::time::{Duration, Instant};

use scrapegate_harness::client::Cut;

use crate::{Setup, scrape_with};

/// H03, H05.
#[test]
fn a_body_is_refused_without_being_read() {
    let setup = Setup::new();
    for lines in [
        "Content-Length: 5\r\n\r\nhello",
        // The body never arrives. A proxy that waited for it would not answer.
        "Content-Length: 1000000000\r\n",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Transfer-Encoding: gzip\r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
    ] {
        let begun = Instant::now();
        setup.assert_refused(scrape_with(lines), 400, false);
        assert!(begun.elapsed() < Duration::from_secs(3), "{lines:?}: {:?}", begun.elapsed());
    }
}

/// H04. `lingering.rs` tests how little of the body is read.
#[test]
fn the_response_does_not_wait_for_a_slow_body() {
    let setup = Setup::new();
    let mut client = setup.connect();
    client.send(scrape_with("Content-Length: 1000000000\r\n")).expect("sent");
    client.send("a").expect("sent");
    let begun = Instant::now();
    let response = client.read_response().expect("a response");
    assert_eq!(response.head.status, 400);
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    assert_eq!(client.read_to_end(), (Vec::new(), Cut::CloseNotify));
    setup.refused(1);
}

/// H06.
#[test]
fn a_content_length_of_zero_means_no_body() {
    let setup = Setup::new();
    setup.assert_scraped(scrape_with("Content-Length: 0\r\n"), "/metrics");
}

/// H22.
#[test]
fn a_content_length_that_is_not_a_single_number_is_refused() {
    let setup = Setup::new();
    for value in [
        "+5",
        "-1",
        "+0",
        "-0",
        "0x5",
        "0x0",
        "5,5",
        "5, 6",
        "0,0",
        "0, 0",
        "1_0",
        "",
        " ",
        "00",
        "0 0",
        "0;",
        "5 ",
        "0.0",
        "1e1",
        "18446744073709551616",
        "99999999999999999999999999",
        "\"0\"",
        "\u{0660}",
    ] {
        setup.assert_refused(scrape_with(&format!("Content-Length: {value}\r\n")), 400, false);
    }
    let twice =
        |one, two| scrape_with(&format!("Content-Length: {one}\r\nContent-Length: {two}\r\n"));
    for (one, two) in [("0", "5"), ("5", "0"), ("5", "6"), ("5", "5")] {
        setup.assert_refused(twice(one, two), 400, false);
    }
    // Both headers announce an empty body. hyper accepts equal numbers as one (RFC 9112 section 6.3).
    for second in ["0", "00"] {
        setup.assert_scraped(twice("0", second), "/metrics");
    }
}

/// H19.
#[test]
fn content_length_together_with_chunked_is_refused_in_either_order() {
    let setup = Setup::new();
    let chunks = "0\r\n\r\n";
    for length in ["0", "5", "6"] {
        for lines in [
            format!("Content-Length: {length}\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}"),
            format!("Transfer-Encoding: chunked\r\nContent-Length: {length}\r\n\r\n{chunks}"),
        ] {
            setup.assert_refused(scrape_with(&lines), 400, false);
        }
    }
}

/// H29.
#[test]
fn expect_100_continue_never_gets_a_100() {
    let setup = Setup::new();
    for lines in [
        "Expect: 100-continue\r\n",
        "Expect: 100-continue\r\nContent-Length: 5\r\n",
        "Expect: 100-continue\r\nContent-Length: 0\r\n",
        "expect: 100-CONTINUE\r\nContent-Length: 5\r\n",
        "Expect: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n",
        "Expect: 100-continue, x\r\nTransfer-Encoding: chunked\r\n",
        "Expect:\t100-continue\r\nContent-Length: 5\r\n",
        "Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n",
        "Expect: y 100-continue\r\nContent-Length: 5\r\n",
        "Expect: 100-continue\r\nExpect: 100-continue\r\nContent-Length: 5\r\n",
        "Expect:\r\n 100-continue\r\nContent-Length: 5\r\n",
        "Expect : 100-continue\r\nContent-Length: 5\r\n",
        "Expect: 100-continue;q=1\r\n",
        "Expect: 200-ok\r\n",
        "Expect:\r\n",
    ] {
        // `assert_refused` reads the first response, so a 100 would fail it.
        setup.assert_refused(scrape_with(lines), 400, false);
    }
}

/// H24.
#[test]
fn malformed_chunks_are_not_parsed() {
    let setup = Setup::new();
    let extension = "x".repeat(20_000);
    for chunks in [
        "fffffffffffffffff\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "-1\r\n\r\n",
        "\r\n\r\n",
        "5\nhello\n0\n\n",
        &format!("5;{extension}\r\nhello\r\n0\r\n\r\n"),
    ] {
        let lines = format!("Transfer-Encoding: chunked\r\n\r\n{chunks}");
        setup.assert_refused(scrape_with(&lines), 400, false);
    }
}
