//! A failure before the first byte becomes a status of the proxy, whose reason phrase names the
//! cause. The scraper's connection is kept.

use std::time::Duration;

use scrapegate_harness::{
    exporter::{Conversation, Exporter},
    testbed::{
        Action, Case, Expected, Testbed, Then, assert_control, assert_on_time, assert_refused,
        by_case, drip, raw, run, target,
    },
};

const GARBAGE: Expected = Expected::Refused(502, "exporter sent no valid HTTP", "exporter_garbage");
const TOO_LARGE_A_HEAD: Expected =
    Expected::Refused(502, "exporter sent too large a head", "exporter_head_too_large");
const NO_ANSWER: Expected =
    Expected::Refused(502, "exporter closed the connection without an answer", "exporter_closed");
const TRANSFER_CODING: Expected = Expected::Refused(
    502,
    "exporter sent an unsupported transfer coding",
    "exporter_transfer_coding",
);
const NO_METRICS: Expected =
    Expected::Refused(502, "exporter answered without metrics", "exporter_no_metrics");
const REDIRECT: Expected =
    Expected::Refused(502, "exporter answered with a redirect", "exporter_redirect");
const LATE: Expected =
    Expected::Refused(504, "exporter sent no first byte in time", "exporter_first_byte_timeout");

fn all(expected: &Expected, answers: &[&'static str]) -> Vec<Case> {
    let case = |answer: &&'static str| (*answer, raw(*answer, Then::Fin), expected.clone());
    answers.iter().map(case).collect()
}

#[test]
fn u04_a_connection_closed_before_any_byte_is_502_and_not_retried() {
    run(
        "",
        vec![
            ("nothing", raw("", Then::Fin), NO_ANSWER),
            ("half a head", raw("HTTP/1.1 200 OK\r\nContent-Le", Then::Fin), NO_ANSWER),
            (
                "a reset",
                raw("", Then::Rst),
                Expected::Refused(502, "exporter reset the connection", "exporter_reset"),
            ),
        ],
    );
}

#[test]
fn u07_anything_that_is_not_http_is_502() {
    let mut cases = all(
        &GARBAGE,
        &[
            "garbage\r\n\r\n",
            "SSH-2.0-OpenSSH_9.2p1\r\n",
            "220 mail.example ESMTP\r\n\r\n",
            "HTTP/1.1 9999 OK\r\nContent-Length: 1\r\n\r\nx",
            "HTTP/1.1 099 OK\r\nContent-Length: 1\r\n\r\nx",
            "HTTP/1.1 20 OK\r\nContent-Length: 1\r\n\r\nx",
            "HTTP/1.1 -20 OK\r\nContent-Length: 1\r\n\r\nx",
            "HTTP/2 200 OK\r\nContent-Length: 1\r\n\r\nx",
            "HTTP/1.1 200OK\r\nContent-Length: 1\r\n\r\nx",
            "HTTP/1.1 200\tOK\r\nContent-Length: 1\r\n\r\nx",
            "HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 1\r\n\r\nx",
            "HTTP/1.1 20\r\nContent-Length: 1\r\n\r\nx",
            "HTTP/1.1\r\nContent-Length: 1\r\n\r\nx",
            "HTTP/1.1 \r\nContent-Length: 1\r\n\r\nx",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\x0b\r\n\r\n1\r\na\r\n0\r\n\r\n",
            "HTTP/1.1 200 O\0K\r\nContent-Length: 1\r\n\r\nx",
            "HTTP/1.1 200 OK\r\nX\x01: 1\r\nContent-Length: 1\r\n\r\nx",
            "HTTP/1.1 200 OK\r\nX : a\x01b\r\nContent-Length: 1\r\n\r\nx",
            "HTTP/1.1 200 OK\r\nX : a\rb\r\nContent-Length: 1\r\n\r\nx",
            "HTTP/1.1 200 OK\r\n X: 1\r\nContent-Length: 1\r\n\r\nx",
            "HTTP/1.1 200 OK\r\nno colon\r\nContent-Length: 1\r\n\r\nx",
            "HTTP/1.1 200 OK\r\n: no name\r\nContent-Length: 1\r\n\r\nx",
            "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nx",
            "HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\nx",
            "HTTP/1.1 200 OK\r\nContent-Length: 0x1\r\n\r\nx",
            "HTTP/1.1 200 OK\r\nContent-Length: 1_0\r\n\r\nx",
            "HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\nx",
            "HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551616\r\n\r\nx",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxy",
            "HTTP/1.1 200 OK\r\nContent-Length: 1, 2\r\n\r\nxy",
        ],
    );
    cases.push(("bytes of TLS", raw(b"\x15\x03\x01\x00\x02\x02\x46", Then::Stall), GARBAGE));
    run("timeout = 5\n", cases);
}

/// Receivers interpret the body length of these lines differently.
#[test]
fn f21_malformed_content_length_and_transfer_encoding_are_502_and_not_repaired() {
    run(
        "timeout = 5\n",
        all(
            &GARBAGE,
            &[
                "HTTP/1.1 200 OK\r\nContent-Length : 1\r\n\r\nx",
                "HTTP/1.1 200 OK\r\ncontent-length\t: 1\r\n\r\nx",
                "HTTP/1.1 200 OK\r\nContent-Length:\r\n 1\r\n\r\nx",
                "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n \r\n\r\nx",
                "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n 0\r\n\r\nx",
                "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent -Length: 2\r\n\r\nx",
                "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length y: 2\r\n\r\nx",
                "HTTP/1.1 200 OK\r\nX : 1\r\nTransfer-Encoding : chunked\r\n\r\n\
                 1\r\na\r\n0\r\n\r\n",
                "HTTP/1.1 200 OK\r\nTransfer-Encoding:\r\n chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\t\r\n\r\n\
                 1\r\na\r\n0\r\n\r\n",
            ],
        ),
    );
}

#[test]
fn u08_an_endless_head_is_502_at_16_kib() {
    let endless_line: Action = Box::new(|it| {
        it.send("HTTP/1.1 200 OK\r\nX: ")?;
        loop {
            it.send([b'a'; 1024])?;
        }
    });
    let endless_lines: Action = Box::new(|it| {
        it.send("HTTP/1.1 200 OK\r\n")?;
        loop {
            it.send(format!("X: {}\r\n", "a".repeat(1020)))?;
        }
    });
    run(
        "",
        vec![
            ("a line", endless_line, TOO_LARGE_A_HEAD),
            ("lines", endless_lines, TOO_LARGE_A_HEAD),
        ],
    );
}

#[test]
fn u25_a_transfer_coding_other_than_one_chunked_is_502() {
    run(
        "",
        all(
            &TRANSFER_CODING,
            &[
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n1\r\na\r\n0\r\n\r\n",
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\na\n",
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\n\r\n1\r\na\r\n0\r\n\r\n",
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n\
                 1\r\na\r\n0\r\n\r\n",
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\
                 Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\
                 Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\nContent-Length: 2\r\n\r\na\n",
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked;q=1\r\n\r\n1\r\na\r\n0\r\n\r\n",
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked,\r\n\r\n1\r\na\r\n0\r\n\r\n",
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: \"chunked\"\r\n\r\n1\r\na\r\n0\r\n\r\n",
                "HTTP/1.1 200 OK\r\nTransfer-Encoding:\r\n\r\na\n",
            ],
        ),
    );
}

#[test]
fn u25_a_transfer_coding_in_http_1_0_is_502() {
    let answer = "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n";
    let testbed = Testbed::new("", by_case(vec![raw(answer, Then::Fin)]));
    let mut client = testbed.client();
    assert_eq!(client.get(&target("x", 0)).head.status, 502);
    assert_control(&mut client, "x");
}

#[test]
fn u32_u33_a_status_that_cannot_carry_metrics_is_502() {
    run(
        "",
        all(
            &NO_METRICS,
            &[
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nraw",
                "HTTP/1.1 101 Switching Protocols\r\n\r\n",
                "HTTP/1.1 204 No Content\r\n\r\n",
                "HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n",
                "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n",
            ],
        ),
    );
}

#[test]
fn f17_an_unrequested_partial_response_is_502() {
    run(
        "",
        all(
            &NO_METRICS,
            &[
                "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-3/10\r\n\
                 Content-Length: 4\r\n\r\na 1\n",
                "HTTP/1.1 206 Partial Content\r\nTransfer-Encoding: chunked\r\n\r\n\
                 4\r\na 1\n\r\n0\r\n\r\n",
            ],
        ),
    );
}

#[test]
fn u33_interim_responses_are_skipped_and_do_not_count_as_a_response() {
    let hello = "HTTP/1.1 100 Continue\r\n\r\n";
    let hints = "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n";
    let real = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\na 1\n";
    run(
        "timeout = 0.5\n",
        vec![
            ("and an end", raw([hello, hints].concat(), Then::Fin), NO_ANSWER),
            (
                "and an answer",
                raw([hello, hints, real].concat(), Then::Fin),
                Expected::Whole(200, b"a 1\n".into()),
            ),
            ("and a stall", raw(hello, Then::Stall), LATE),
            (
                "without an end",
                Box::new(move |it| {
                    loop {
                        it.send(hello.repeat(1000))?;
                    }
                }),
                TOO_LARGE_A_HEAD,
            ),
        ],
    );
}

#[test]
fn u34_a_redirect_is_502_and_never_followed() {
    let inner = Exporter::start(|it: &mut Conversation| it.read_request().map(drop));
    let answers = [301, 302, 303, 307, 308].map(|status| {
        format!(
            "HTTP/1.1 {status} Moved\r\nLocation: http://{}/\r\nContent-Length: 2\r\n\r\na\n",
            inner.address()
        )
    });
    let cases: Vec<Case> =
        answers.into_iter().map(|it| ("redirect", raw(it, Then::Fin), REDIRECT)).collect();
    let testbed = run("", cases);
    assert_eq!(inner.connections(), 0);
    let response = testbed.client().get(&target("x", 0));
    assert_eq!(response.head.header("location"), None);
    assert!(!format!("{response:?}").contains(&inner.address().to_string()), "{response:?}");
}

#[test]
fn u06_u10_no_first_byte_before_the_deadline_is_504_on_time() {
    let pause = Duration::from_millis(50);
    let cases: Vec<(&str, Action)> = vec![
        ("nothing", raw("", Then::Stall)),
        ("half a head", raw("HTTP/1.1 200 OK\r\n", Then::Stall)),
        ("a head", raw("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", Then::Stall)),
        (
            "a head of chunks",
            raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", Then::Stall),
        ),
        (
            "half a chunk size",
            raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5", Then::Stall),
        ),
        ("a head in drops", drip("HTTP/1.1 200 OK\r\nX: ", "a", pause)),
        ("hints in drops", drip("", "HTTP/1.1 103 Early Hints\r\n\r\n", pause)),
    ];
    let due = Duration::from_millis(400);
    let (stories, actions): (Vec<_>, Vec<_>) = cases.into_iter().unzip();
    let testbed = Testbed::new("timeout = 0.4\n", by_case(actions));
    let mut client = testbed.client();
    for (case, story) in stories.iter().enumerate() {
        let sent = std::time::Instant::now();
        let response = client.get(&target("x", case));
        assert_on_time(story, sent.elapsed(), due);
        assert_refused(story, &response, 504, "exporter sent no first byte in time");
    }
    assert_control(&mut client, "x");
}
