//! How the body of a `POST` is framed, and how long it may take.

use std::time::{Duration, Instant};

use crate::{
    Host,
    support::{plain, plain::Plain},
};

/// A `POST` with these header lines, and nothing behind its head.
fn head(lines: &str) -> String {
    format!("POST /autotls HTTP/1.1\r\nHost: h\r\n{lines}\r\n")
}

#[test]
fn a_body_has_one_length_and_it_is_small() {
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
fn a_client_that_waits_to_be_told_to_go_on_is_told() {
    let host = Host::new();
    let request = head("Content-Length: 2\r\nExpect: 100-continue\r\n") + "{}";
    let answer = plain::exchange(host.address(), request);
    let after = answer.strip_prefix("HTTP/1.1 100 Continue\r\n\r\n");
    assert!(after.is_some_and(|it| it.starts_with("HTTP/1.1 400 request body")), "{answer}");
}

#[test]
fn a_whole_body_of_the_largest_size_is_read_and_the_connection_ends_behind_it() {
    let host = Host::new();
    let body = "x".repeat(64 * 1024);
    let request = head(&format!("Content-Length: {}\r\n", body.len())) + &body;
    let answer = plain::exchange(host.address(), request + &head("Content-Length: 0\r\n"));
    assert!(answer.starts_with("HTTP/1.1 400 request body is not signed and ca\r\n"), "{answer}");
    assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
    assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
}

#[test]
fn a_slow_body_has_as_long_as_a_head_has() {
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
fn a_body_that_breaks_off_changes_nothing() {
    let host = Host::new();
    host.signing_request("/autotls");
    let before = host.files();
    let mut broken = Plain::connect(host.address());
    broken.send(head("Content-Length: 1000\r\n") + "{\"signed\":").expect("sent");
    drop(broken);
    host.signing_request("/autotls");
    assert!(host.files() == before);
}
