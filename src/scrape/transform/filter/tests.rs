#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::atomic::Ordering;

use super::*;
use crate::common::families::FamilyPattern;

fn rules(keep: &str, drop: &str) -> FamilyRules {
    let pattern = |source: &str| (!source.is_empty()).then(|| FamilyPattern::new(source).unwrap());
    FamilyRules::new(pattern(keep), pattern(drop)).unwrap()
}

/// The output for a body in these pieces, and the number of families that were left out.
fn filtered<'a>(
    rules: &FamilyRules,
    format: ExpositionFormat,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> (Vec<u8>, u64) {
    let dropped = Arc::new(AtomicU64::new(0));
    let mut filter = Filter::new(rules.clone(), format, Arc::clone(&dropped));
    let mut out = Out::default();
    for piece in pieces {
        filter.push(Bytes::copy_from_slice(piece), &mut out).unwrap();
        filter.flush(&mut out).unwrap();
    }
    filter.finish(&mut out).unwrap();
    drop(filter);
    (out.0.iter().flatten().copied().collect(), dropped.load(Ordering::Relaxed))
}

/// Asserts the output for the whole body, for every split into two and three pieces, and for single
/// bytes.
fn assert_filtered(rules: &FamilyRules, format: ExpositionFormat, body: &str, expected: &str) {
    let show = |(text, dropped): (Vec<u8>, u64)| (String::from_utf8(text).unwrap(), dropped);
    let body = body.as_bytes();
    let whole = show(filtered(rules, format, [body]));
    assert_eq!(whole.0, expected, "{format:?} {rules:?}");
    assert_eq!(show(filtered(rules, format, body.chunks(1))), whole, "single bytes");
    for first in 0..=body.len() {
        for second in (first..=body.len()).step_by(if body.len() > 300 { 7 } else { 1 }) {
            let pieces = [&body[..first], &body[first..second], &body[second..]];
            assert_eq!(show(filtered(rules, format, pieces)), whole, "at {first} and {second}");
        }
    }
}

const BOTH: [ExpositionFormat; 2] = [ExpositionFormat::Text, ExpositionFormat::OpenMetrics];

/// Asserts that the lines marked with `-` are dropped, and those marked with `+` pass.
fn assert_marked(keep: &str, drop: &str, formats: &[ExpositionFormat], marked: &[&str]) {
    let line = |line: &&str| format!("{}\n", &line[1..]);
    let body: String = marked.iter().map(line).collect();
    let expected: String =
        marked.iter().filter(|marked| marked.starts_with('+')).map(line).collect();
    for &format in formats {
        assert_filtered(&rules(keep, drop), format, &body, &expected);
    }
}

#[test]
fn a_family_passes_or_is_dropped_with_all_its_lines() {
    let marked = [
        "+# HELP up Up.",
        "+# TYPE up gauge",
        "+up 1",
        "-# HELP go_info About.",
        "-# TYPE go_info gauge",
        "-go_info{version=\"1.2\"} 1",
        "-go_info{version=\"\"} 1 1700000000000",
        "+other 2",
        "+other{a=\"b\"} 2",
        "-go_threads 2",
        "-# UNIT go_seconds seconds",
        "+# EOF",
    ];
    assert_marked("", "go_.*", &BOTH, &marked);
    assert_marked("up|other", "", &BOTH, &marked);
    assert_marked("up|other|go_info", "go_info", &BOTH, &marked);
}

#[test]
fn samples_with_the_suffixes_of_their_type_belong_to_the_family() {
    for (kind, suffixes) in [
        ("histogram", &["_bucket", "_sum", "_count", "_created"][..]),
        ("gaugehistogram", &["_bucket", "_gsum", "_gcount"]),
        ("summary", &["", "_sum", "_count", "_created"]),
        ("counter", &["", "_total", "_created"]),
        ("info", &["_info"]),
        ("stateset", &[""]),
        ("gauge", &[""]),
    ] {
        for suffix in
            ["", "_bucket", "_sum", "_count", "_created", "_total", "_info", "_gsum", "_gcount"]
        {
            let belongs = suffixes.contains(&suffix) || suffix.is_empty();
            let mark = if belongs { '-' } else { '+' };
            let kind = format!("-# TYPE a {kind}");
            let sample = format!("{mark}a{suffix}{{le=\"1\"}} 1");
            // Also after the samples of another family.
            assert_marked("", "a", &BOTH, &[&kind, &sample, "+b 1", &sample, &sample]);
            // With the rest of the families, the other way round.
            let (kind, sample) = (kind.replacen('-', "+", 1), sample.replacen(mark, "+", 1));
            let other = if belongs { "-b 1" } else { "+b 1" };
            let keep = if belongs { "a".to_owned() } else { format!("a|b|a{suffix}") };
            assert_marked(&keep, "", &BOTH, &[&kind, &sample, other, &sample]);
        }
    }
}

#[test]
fn a_sample_with_a_suffix_and_without_a_type_is_a_family_of_its_own() {
    assert_marked("", "a", &BOTH, &["-a 1", "+a_sum 1", "+a_count 1", "+a_bucket{le=\"1\"} 1"]);
    assert_marked("", "a_sum", &BOTH, &["+a 1", "-a_sum 1", "+a_count 1"]);
    assert_marked("", "a_.*", &BOTH, &["+# TYPE a histogram", "+a_sum 1", "+a_bucket 2"]);
    // A family with exactly this name is declared, before or after the one with the suffix.
    let of_python = [
        "-# TYPE a summary",
        "-a_sum 1",
        "+# HELP a_created x",
        "+# TYPE a_created gauge",
        "+a_created 3",
        "-a_sum 2",
        "+a_created 4",
    ];
    assert_marked("", "a", &BOTH, &of_python);
    assert_marked("", "a", &BOTH, &["+# TYPE a_sum gauge", "-# TYPE a summary", "+a_sum 1"]);
    assert_marked(
        "",
        "a_sum",
        &BOTH,
        &["+# TYPE a summary", "+a_sum 1", "-# TYPE a_sum gauge", "-a_sum 1"],
    );
}

#[test]
fn an_empty_name_is_compared_like_any_other() {
    assert_marked("a", "", &BOTH, &["-{\"\"} 1", "-# TYPE \"\" gauge", "+a 1", "-_sum 1"]);
}

#[test]
fn comments_and_empty_lines_stay() {
    let marked = [
        "+",
        "+ ",
        "+\t \t",
        "+\r",
        "+#",
        "+# ",
        "+#\t",
        "+# a",
        "+#a",
        "+#HELP a text",
        "+# HELPa",
        "+# HELP",
        "+# TYPE",
        "+# TYPE ",
        "+# HELP ",
        "+# HEL a",
        "+# help a",
        "+# EOF",
        "+##",
        "-a 1",
        "+# HELP\r",
    ];
    assert_marked("b", "", &BOTH, &marked);
    assert_marked("", "a", &BOTH, &marked);
}

#[test]
fn names_are_found_behind_blanks_and_before_braces_and_line_ends() {
    let marked = [
        "-a 1",
        "-a\t1",
        "- a 1",
        "-\t \ta{b=\"c\"} 1",
        "-a {b=\"c\"} 1",
        "-a{} 1",
        "-a{ b = \"c\" , } 1",
        "-a",
        "-a\r",
        "-a{b=\"c\"} 1\r",
        "-#  HELP \t a   text",
        "-# TYPE a gauge\r",
        "-# TYPE\ta\tgauge",
        "-# HELP a",
        "-# TYPE a",
        "-\t# TYPE a nonsense",
        "-# UNIT a",
        "+ab 1",
        "+a.b 1",
        "+ba 1",
        "+A 1",
        "+# HELP ab a",
    ];
    assert_marked("", "a", &BOTH, &marked);
}

#[test]
fn quoted_names_are_compared_without_quotes_and_escapes() {
    let marked = [
        "-# HELP \"my.metric\" Text.",
        "-# TYPE \"my.metric\" histogram",
        "-{\"my.metric_bucket\",le=\"1\"} 1",
        "-{\"my.metric_sum\"} 1",
        "-{ \"my.metric_count\" } 1",
        "-{le=\"1\",\"my.metric_bucket\"} 1",
        "-{\"quoted\"=\"1\",\"my.metric_bucket\"} 1",
        "+{\"my.metric.b\",le=\"1\"} 1",
        "+{\"my\\\\.metric\",le=\"1\"} 1",
        "+{a=\"my.metric\",\"b\"} 1",
        "-{\"with\\\"quote\"} 1",
        "-{\"with\\nfeed\",a=\"b\"} 1",
        "-{\"with\\nfeed\",a=\"c\"} 1",
        "-{\"back\\\\slash\"} 1",
        "-# TYPE \"back\\\\slash\" gauge",
        "-{\"größe\"} 1",
        "+{\"a\" \"b\"} 1",
        "+{a=\"b\"} 1",
        "+{} 1",
    ];
    assert_marked("", "my.metric|with\"quote|with\\nfeed|back\\\\slash|größe", &BOTH, &marked);
}

#[test]
fn a_sample_of_the_text_format_includes_line_feeds_inside_quotes() {
    let text = [ExpositionFormat::Text];
    let raw = "a{b=\"x\ny\"} 1\nc{b=\"\na 1\n\\\"}\na 2\",d=\"}\n\"} 2\na{b=\"\n\n\"} 3\ne 1\n";
    assert_filtered(&rules("", "a"), text[0], raw, "c{b=\"\na 1\n\\\"}\na 2\",d=\"}\n\"} 2\ne 1\n");
    assert_filtered(&rules("", "c"), text[0], raw, "a{b=\"x\ny\"} 1\na{b=\"\n\n\"} 3\ne 1\n");
    assert_filtered(&rules("", "x\ny"), text[0], "{\"x\ny\",a=\"\n\"} 1\nz 1\n", "z 1\n");
    // In OpenMetrics, a line feed always ends a line.
    let format = ExpositionFormat::OpenMetrics;
    assert_filtered(&rules("", "a"), format, "a{b=\"x\ny\"} 1\nb 1\n", "y\"} 1\nb 1\n");
}

#[test]
fn lines_that_look_complete_and_are_not_do_not_confuse_the_filter() {
    for open in ["a{b=\"} 5\n", "a{b=\"x\\\"} 5\n", "a{b=\"c\",d=\"\"e=\"} 5\n", "a{b=\" \"\"} 5\n"]
    {
        let body = format!("a 1\n{open}c 1\"}} 1\nc 2\n");
        assert_filtered(&rules("", "c"), ExpositionFormat::Text, &body, &body.replace("c 2\n", ""));
    }
    for closed in ["a{b=\"\"} 5\n", "a{b=\"x\\\\\"} 5\n", "a{b=\"=\"} 5\n", "a{b=\"}\n\"} 1 2\n"] {
        let body = format!("a 1\n{closed}c 1\n");
        assert_filtered(&rules("", "c"), ExpositionFormat::Text, &body, &body.replace("c 1\n", ""));
    }
}

/// The name is not the end of labels, although it looks like that.
#[test]
fn names_with_quotes_and_braces_do_not_confuse_the_filter() {
    let body = "x\"} 1\nx\"} {b=\"\na 1\n\"} 1\n";
    assert_filtered(&rules("", "a"), ExpositionFormat::Text, body, body);
    let begin = "x".repeat(MAX_HEAD + 2);
    let pieces = [begin.as_str(), "xx\"} {b=\"\na 1\n\"} 1\n"];
    for pieces in [&pieces[..], &[&pieces.concat()]] {
        let pieces = pieces.iter().map(|piece| piece.as_bytes());
        assert_eq!(filtered(&rules("", "a"), ExpositionFormat::Text, pieces).0, b"");
    }
}

#[test]
fn the_end_of_a_long_record_in_short_pieces_is_found() {
    for value in ["x".repeat(MAX_UNREAD / 2), "x".repeat(2 * MAX_UNREAD)] {
        let record = format!("a{{b=\"{value}\nc 1\n\"}} 1\n");
        let body = format!("{record}c 2\n");
        for size in [1, 7, MAX_UNREAD] {
            let left = |drop| {
                let pieces = body.as_bytes().chunks(size);
                filtered(&rules("", drop), ExpositionFormat::Text, pieces).0
            };
            assert_eq!(left("a").escape_ascii().to_string(), "c 2\\n");
            assert_eq!(left("c"), record.as_bytes());
        }
    }
}

#[test]
fn exemplars_of_openmetrics_do_not_matter() {
    let marked = [
        "+# TYPE a counter",
        "+a_total 1 # {trace=\"}\"} 1 2",
        "-b{c=\"d\"} 1 # {trace=\"x\"} 0.5",
        "+a_total{c=\"d\"} 1 # {trace=\"x\"} 0.5",
        "+# EOF",
    ];
    assert_marked("a", "", &[ExpositionFormat::OpenMetrics], &marked);
}

#[test]
fn the_last_line_needs_no_line_feed() {
    for format in BOTH {
        for (body, expected) in [
            ("a 1\nb 1", "a 1\n"),
            ("b 1\na 1", "a 1"),
            ("b", ""),
            ("a", "a"),
            ("# EOF", "# EOF"),
            ("# TYPE b", ""),
            ("# TYPE a gau", "# TYPE a gau"),
            (" ", " "),
            ("{\"b\"", "{\"b\""),
            ("", ""),
        ] {
            assert_filtered(&rules("", "b"), format, body, expected);
        }
    }
}

#[test]
fn a_name_that_does_not_end_within_the_limit_is_dropped() {
    let name = |length: usize| "a".repeat(length);
    for format in BOTH {
        for (head, passes) in [
            (name(MAX_HEAD - 1), true),
            (name(MAX_HEAD), false),
            (name(3 * MAX_HEAD), false),
            (" ".repeat(MAX_HEAD - 2) + "a", true),
            (format!("# HELP {}", name(MAX_HEAD)), false),
            (format!("{{\"{}\"}}", name(MAX_HEAD)), false),
            (format!("{{x=\"{}\",\"a\"}}", name(MAX_HEAD)), false),
        ] {
            let line = format!("{head} 1\n");
            let body = format!("b 1\n{line}b 2\n");
            let expected = if passes { body.clone() } else { "b 1\nb 2\n".to_owned() };
            for rules in [rules(".*", ""), rules("", "c")] {
                for size in [1, 7, 100, MAX_HEAD, body.len()] {
                    let (text, dropped) = filtered(&rules, format, body.as_bytes().chunks(size));
                    assert!(text == expected.as_bytes(), "{head:.20} {size}");
                    assert_eq!(dropped, u64::from(!passes));
                }
            }
        }
    }
}

#[test]
fn blank_lines_and_comments_with_any_number_of_blanks_stay() {
    let rules = rules("", "a");
    for blanks in [MAX_HEAD - 2, MAX_HEAD - 1, MAX_HEAD, MAX_HEAD + 1, 3 * MAX_HEAD] {
        let blanks = " \t".repeat(blanks / 2) + &" "[blanks % 2..];
        for (body, expected) in [
            (format!("b 1\n{blanks}\nb 2\na 1\n"), format!("b 1\n{blanks}\nb 2\n")),
            (format!("#{blanks}\na 1\n"), format!("#{blanks}\n")),
            (format!("#{blanks}text\na 1\n"), format!("#{blanks}text\n")),
            (format!("{blanks}# text\na 1\n"), format!("{blanks}# text\n")),
            (format!("{blanks}\nb 1\na 1\n"), format!("{blanks}\nb 1\n")),
            (blanks.clone(), blanks.clone()),
        ] {
            for format in BOTH {
                for size in [1, 7, MAX_HEAD - 1, MAX_HEAD, body.len()] {
                    let (text, _) = filtered(&rules, format, body.as_bytes().chunks(size));
                    assert_eq!(String::from_utf8(text).unwrap(), expected, "{size}");
                }
            }
        }
        // A family is left out, however many blanks precede its name.
        let body = format!("b 1\n{blanks}a 1\nb 2\n");
        for size in [1, 7, MAX_HEAD, body.len()] {
            let (text, dropped) =
                filtered(&rules, ExpositionFormat::Text, body.as_bytes().chunks(size));
            let text = String::from_utf8(text).unwrap();
            assert!(!text.contains('a') && text.ends_with("b 2\n"), "{size}: {text}");
            assert_eq!(dropped, 1);
        }
    }
}

#[test]
fn all_names_that_are_too_long_count_as_one_family() {
    let long = "a".repeat(MAX_HEAD) + " 1\n";
    let body = long.repeat(3) + "b 1\n" + &long + "c 1\n";
    let (text, dropped) = filtered(&rules("", "c"), ExpositionFormat::Text, [body.as_bytes()]);
    assert_eq!((text.as_slice(), dropped), (&b"b 1\n"[..], 2));
}

#[test]
fn a_long_line_passes_while_it_arrives_and_little_is_held() {
    for (rules, passes) in [(rules("", "b"), true), (rules("", "a"), false)] {
        for begin in ["a{b=\"", "a 1", "# HELP a ", "{\"a\",b=\""] {
            let dropped = Arc::default();
            let mut filter = Filter::new(rules.clone(), ExpositionFormat::Text, dropped);
            let mut out = Out::default();
            filter.push(Bytes::copy_from_slice(begin.as_bytes()), &mut out).unwrap();
            filter.push(Bytes::from_static(b"x"), &mut out).unwrap();
            out.0.clear();
            for length in [1, 100, 64 * 1024] {
                let piece = Bytes::from(vec![b'x'; length]);
                for _ in 0..2 * MAX_UNREAD {
                    filter.push(piece.clone(), &mut out).unwrap();
                    let sent = out.0.pop_front();
                    assert_eq!(sent.is_some(), passes, "{begin}");
                    let is_copied = sent.is_some_and(|sent| sent.as_ptr() != piece.as_ptr());
                    assert!(!is_copied || length < SHARED);
                    assert!(out.0.is_empty() && matches!(filter.state, State::Record { .. }));
                    assert!(filter.held.len() <= MAX_UNREAD);
                }
            }
        }
    }
}

#[test]
fn complete_lines_pass_before_the_next_piece() {
    let mut filter = Filter::new(rules("", "b"), ExpositionFormat::Text, Arc::default());
    for (piece, expected) in [
        ("a 1\n", "a 1\n"),
        ("a 2\na", "a 2\n"),
        (" 3\nb", "a 3\n"),
        (" 4\nb 5", ""),
        ("\n# HE", ""),
        ("LP c\n", "# HELP c\n"),
    ] {
        let mut out = Out::default();
        filter.push(Bytes::from(piece), &mut out).unwrap();
        filter.flush(&mut out).unwrap();
        let text: Vec<u8> = out.0.iter().flatten().copied().collect();
        assert_eq!(String::from_utf8(text).unwrap(), expected, "{piece:?}");
    }
}

#[test]
fn what_stays_is_not_copied_where_it_is_large() {
    let line = format!("a{{b=\"{}\"}} 1\n", "x".repeat(2000));
    let data = Bytes::from(format!("{line}{line}c 1\n{line}"));
    let mut filter = Filter::new(rules("", "c"), ExpositionFormat::Text, Arc::default());
    let mut out = Out::default();
    filter.push(data.clone(), &mut out).unwrap();
    let pieces: Vec<_> = out.0.iter().map(|piece| piece.as_ptr()).collect();
    assert_eq!(pieces, [&data[0], &data[2 * line.len() + 4]].map(std::ptr::from_ref));
}

#[test]
fn each_dropped_family_is_counted_once() {
    let body = "# TYPE a summary\na_sum 1\nb 1\na_count 1\nc 1\na 1\nc 2\n# HELP a x\n";
    for (drop, count) in [("a", 1), ("a|c", 2), ("a.*|b|c", 3), ("d", 0)] {
        let (_, dropped) = filtered(&rules("", drop), ExpositionFormat::Text, [body.as_bytes()]);
        assert_eq!(dropped, count, "{drop}");
    }
}

#[test]
fn more_families_than_are_remembered_are_judged_all_the_same() {
    let names = 0..families::MAX_FAMILIES + 500;
    let (mut body, mut expected) = (String::new(), String::new());
    for name in names.clone() {
        let lines = format!("# TYPE f{name} summary\nf{name}{{quantile=\"1\"}} 1\nf{name}_sum 1\n");
        body += &lines;
        if name % 10 != 0 {
            expected += &lines;
        }
    }
    let (text, dropped) =
        filtered(&rules("", ".*0"), ExpositionFormat::Text, body.as_bytes().chunks(1000));
    assert!(text == expected.as_bytes());
    assert_eq!(dropped, names.step_by(10).count() as u64);
}

#[test]
fn short_kept_parts_leave_in_one_piece_and_long_ones_without_a_copy() {
    let short = Bytes::from("a 1\nb 1\n".repeat(1000));
    let long = Bytes::from(format!("b 1\na{{x=\"{}\"}} 1\nb 1\na 1\n", "y".repeat(SHARED)));
    let mut filter =
        Filter::new(rules("", "b"), ExpositionFormat::Text, Arc::new(AtomicU64::new(0)));
    let mut out = Out::default();
    filter.push(short, &mut out).unwrap();
    assert_eq!(out.0.len(), 1);
    assert_eq!(out.0[0], "a 1\n".repeat(1000));
    filter.push(long.clone(), &mut out).unwrap();
    assert_eq!(out.0.len(), 3);
    assert_eq!(out.0[1].as_ptr(), long[4..].as_ptr());
    assert_eq!(out.0[2], "a 1\n");
}
