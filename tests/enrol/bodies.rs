//! The body of a `POST` to `/autotls`: its framing, its size limit and its timeout.

use std::time::{Duration, Instant};

use scrapegate_harness::plain::{self, Plain};

use crate::Host;

/// The head of a `POST` with these header lines, without a body.
fn head(lines: &str) -> String {
    format!("POST /autotls HTTP/1.1\r\nHost: h\r\n{lines}\r\n")
}

#[test]
fn a_body_needs_exactly_one_content_length_within_the_limit() {
    let host = Host::new();
    for (lines, line) in [
        ("", "411 Length Required"),
        ("Content-Length: 65537\r\n", "413 request body too large"),
        ("Content-Length: 99999999999999999999\r\n", "400 "),
        ("Content-Length: 18446744073709551614\r\n", "4"),
        ("Content-Length: 2\r\nContent-Length: 3\r\n", "400 "),
        ("Content-Length: 2, 2\r\n", "400 "),
        ("Content-Length: +2\r\n", "400 "),
        ("Content-Length: 2\r\nTransfer-Encoding: chunked\r\n", "400 "),
        ("Transfer-Encoding: chunked\r\n", "400 "),
        ("Transfer-Encoding: gzip, chunked\r\n", "400 "),
        ("Content-Length: 2\r\nExpect: 101-else\r\n", "400 "),
        ("Content-Length: 2\r\nExpect: 100-continue\r\nExpect: 101-else\r\n", "400 "),
    ] {
        let answer = plain::exchange(host.address(), head(lines));
        assert!(answer.starts_with(&format!("HTTP/1.1 {line}")), "{lines:?}: {answer}");
        assert!(!answer.contains(" 100 "), "{lines:?}: {answer}");
    }
    let other = "POST /prometheus HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}";
    assert_eq!(plain::status(&plain::exchange(host.address(), other)), 403);
    let get = "GET /autotls HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}";
    let answer = plain::exchange(host.address(), get);
    assert!(answer.starts_with("HTTP/1.1 400 request body not allowed\r\n"), "{answer}");
    assert!(host.files().is_empty());
}

#[test]
fn a_client_that_expects_100_continue_gets_it() {
    let host = Host::new();
    let request = head("Content-Length: 2\r\nExpect: 100-continue\r\n") + "{}";
    let answer = plain::exchange(host.address(), request);
    let after = answer.strip_prefix("HTTP/1.1 100 Continue\r\n\r\n");
    assert!(after.is_some_and(|it| it.starts_with("HTTP/1.1 400 request body")), "{answer}");
}

#[test]
fn a_body_of_the_maximum_size_is_read_and_the_connection_is_then_closed() {
    let host = Host::new();
    let body = "x".repeat(64 * 1024);
    let request = head(&format!("Content-Length: {}\r\n", body.len())) + &body;
    let answer = plain::exchange(host.address(), request + &head("Content-Length: 0\r\n"));
    assert!(answer.starts_with("HTTP/1.1 400 request body is not signed and ca\r\n"), "{answer}");
    assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
    assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
}

#[test]
fn a_slow_body_is_bounded_by_header_timeout() {
    let host = Host::with("", "enrol-key = ecdsa\nheader-timeout = 1\n", |_| ());
    let mut slow = Plain::connect(host.address());
    let begun = Instant::now();
    slow.send(head("Content-Length: 1000\r\n") + "{").expect("sent");
    let answer = String::from_utf8(slow.read_to_end()).expect("text");
    let after = begun.elapsed();
    assert!(answer.starts_with("HTTP/1.1 408 request body came too slowly\r\n"), "{answer}");
    assert!(after >= Duration::from_secs(1), "{after:?}");
    assert!(after < Duration::from_secs(5), "{after:?}");
}

#[test]
fn a_truncated_body_changes_nothing() {
    let host = Host::new();
    host.signing_request("/autotls");
    let before = host.files();
    let mut broken = Plain::connect(host.address());
    broken.send(head("Content-Length: 1000\r\n") + "{\"signed\":").expect("sent");
    drop(broken);
    host.signing_request("/autotls");
    assert!(host.files() == before);
}
