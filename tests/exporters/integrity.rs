//! `integrity`: the last bytes show that a well-framed body is incomplete.

use scrapegate_harness::{
    exporter::Framing,
    testbed::{Action, Case, Expected, Testbed, Then, assert_truncated, by_case, raw, run, target},
};

const OPENMETRICS: &str = "Content-Type: application/openmetrics-text; version=1.0.0\r\n";

/// A 200 response with these header lines.
fn answer(headers: &str, framing: Framing, body: &str) -> Action {
    let head = format!("HTTP/1.1 200 OK\r\n{headers}{}\r\n", framing.header(body.len() as u64));
    let body = match framing {
        Framing::Chunked(_) => format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len()),
        Framing::ContentLength | Framing::UntilClose => body.to_owned(),
    };
    raw(head + &body, Then::Fin)
}

/// A text that fills several batches.
fn long(end: &str) -> String {
    "a_long_name_of_a_series 1234567\n".repeat(12_000) + end
}

const NO_MARKER: Expected =
    Expected::Refused(502, "exporter's answer lacks the final # EOF", "exporter_integrity");

const NO_NEWLINE: Expected =
    Expected::Refused(502, "exporter's answer lacks the final newline", "exporter_integrity");

fn whole(body: &str) -> Expected {
    Expected::Whole(200, body.into())
}

#[test]
fn openmetrics_without_its_eof_marker_is_refused_or_aborted() {
    let (length, chunked, close) =
        (Framing::ContentLength, Framing::Chunked(0), Framing::UntilClose);
    let ends = ["", "# EO", "x# EOF", "b{c=\"# EOF\n", "# EOF\n\n", "# eof\n", "# EOF\r\n"];
    let mut cases: Vec<Case> = Vec::new();
    for end in ends {
        let (short, long) = (format!("a 1\n{end}"), long(end));
        cases.extend([
            ("short, length", answer(OPENMETRICS, length, &short), NO_MARKER),
            ("long, length", answer(OPENMETRICS, length, &long), Expected::Aborted("integrity")),
            ("long, chunked", answer(OPENMETRICS, chunked, &long), Expected::Aborted("integrity")),
            ("long, close", answer(OPENMETRICS, close, &long), Expected::Aborted("integrity")),
        ]);
    }
    for framing in [length, chunked, close] {
        let (short, long) = ("a 1\n# EOF\n", long("# EOF\n"));
        cases.push(("short and whole", answer(OPENMETRICS, framing, short), whole(short)));
        cases.push(("long and whole", answer(OPENMETRICS, framing, &long), whole(&long)));
    }
    run("", cases);
}

#[test]
fn a_short_chunked_openmetrics_body_without_its_eof_marker_is_incomplete() {
    // The head and the data may leave before the last chunk arrives. The result is then an abort,
    // otherwise a 502.
    let body = "7\r\na 1\nb 2\r\n0\r\n\r\n";
    let head = format!("HTTP/1.1 200 OK\r\n{OPENMETRICS}Transfer-Encoding: chunked\r\n\r\n");
    let testbed = Testbed::new("", by_case(vec![raw(head + body, Then::Fin)]));
    let response = testbed.client().get(&target("x", 0));
    if response.head.status == 200 {
        assert_truncated("chunked", &response.body.end);
    } else {
        assert_eq!(response.head.status, 502, "{response:?}");
    }
    assert_ne!(testbed.only_outcome(), "complete");
}

#[test]
fn the_last_byte_of_a_content_length_is_held_back_until_it_is_checked() {
    let body = long("");
    let length = body.len() as u64;
    let testbed =
        Testbed::new("", by_case(vec![answer(OPENMETRICS, Framing::ContentLength, &body)]));
    let response = testbed.client().get(&target("x", 0));
    assert_eq!(response.head.header("content-length"), Some(length.to_string().as_str()));
    assert!(response.body.bytes < length, "{response:?}");
    assert_truncated("length", &response.body.end);
}

/// The grammar of OpenMetrics ends with `eof [ LF ]`.
#[test]
fn f19_openmetrics_without_a_final_line_feed_is_complete() {
    let mut cases: Vec<Case> = Vec::new();
    let long = long("# EOF");
    for framing in [Framing::ContentLength, Framing::Chunked(0), Framing::UntilClose] {
        for body in ["a 1\n# EOF", "# EOF", &long] {
            cases.push(("no line feed", answer(OPENMETRICS, framing, body), whole(body)));
        }
    }
    run("", cases);
}

/// U27.
#[test]
fn a_close_delimited_body_must_end_with_a_newline() {
    let close = Framing::UntilClose;
    let (cut, sound) = (long("a_long_na"), long(""));
    run(
        "",
        vec![
            ("sound", answer("", close, "a 1\n"), whole("a 1\n")),
            ("sound and long", answer("", close, &sound), whole(&sound)),
            ("nothing at all", answer("", close, ""), NO_NEWLINE),
            ("cut", answer("", close, &cut), Expected::Aborted("integrity")),
        ],
    );
}

#[test]
fn an_error_page_of_the_exporter_is_passed_on_whatever_its_last_bytes() {
    let page = |headers: &str, body: &str| {
        raw(format!("HTTP/1.1 500 Oops\r\n{headers}\r\n{body}"), Then::Fin)
    };
    let whole = |body: &str| Expected::Whole(500, body.into());
    run(
        "",
        vec![
            ("no newline", page("", "out of order"), whole("out of order")),
            ("no marker", page(OPENMETRICS, "a 1\n"), whole("a 1\n")),
            ("empty", page("", ""), whole("")),
        ],
    );
}

#[test]
fn other_bodies_are_judged_by_their_framing_only() {
    let gzip = "Content-Encoding: gzip\r\n";
    let encoded = format!("{gzip}{OPENMETRICS}");
    let mut cases: Vec<Case> = Vec::new();
    for framing in [Framing::ContentLength, Framing::Chunked(0), Framing::UntilClose] {
        cases.push(("gzip", answer(gzip, framing, "\x1f no text"), whole("\x1f no text")));
        cases.push(("gzip of OpenMetrics", answer(&encoded, framing, "\x1f"), whole("\x1f")));
    }
    for framing in [Framing::ContentLength, Framing::Chunked(0)] {
        cases.push(("text without a newline", answer("", framing, "a 1"), whole("a 1")));
    }
    run("", cases);
}

#[test]
fn with_integrity_transport_the_last_bytes_are_not_checked() {
    let body = long("a_long_na");
    let mut cases: Vec<Case> = Vec::new();
    for framing in [Framing::ContentLength, Framing::Chunked(0), Framing::UntilClose] {
        for headers in ["", OPENMETRICS] {
            cases.push(("short", answer(headers, framing, "a 12"), whole("a 12")));
            cases.push(("long", answer(headers, framing, &body), whole(&body)));
        }
    }
    run("integrity = transport\n", cases);
}
