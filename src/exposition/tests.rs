#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;

fn read<'a>(format: Format, pieces: impl IntoIterator<Item = &'a [u8]>) -> Statistics {
    let mut reader = Reader::new(format);
    for piece in pieces {
        reader.push(piece);
    }
    reader.finish()
}

fn text(text: &str) -> Statistics {
    read(Format::Text, [text.as_bytes()])
}

fn openmetrics(text: &str) -> Statistics {
    read(Format::OpenMetrics, [text.as_bytes()])
}

/// Name, kind, series and bytes of each family.
fn families(statistics: &Statistics) -> Vec<(&str, Kind, u64, u64)> {
    let all = statistics.families.iter();
    all.map(|family| (&*family.name, family.kind, family.series, family.bytes)).collect()
}

fn faults(statistics: &Statistics) -> Vec<(u64, Fault)> {
    assert_eq!(statistics.problems.len() as u64, statistics.problem_count);
    statistics.problems.iter().map(|problem| (problem.line, problem.fault)).collect()
}

const MIXED: &str = "\
# HELP http_seconds How long.
# TYPE http_seconds histogram
http_seconds_bucket{le=\"0.1\"} 1
http_seconds_bucket{le=\"+Inf\"} 2
http_seconds_sum 0.5
http_seconds_count 2
http_seconds_other 3

# free words
# TYPE jobs_total counter
jobs_total{queue=\"a \\\" # } , \\\\\"} 1.5e3 1700000000000
  spaced { a = \"b\" , } NaN
lonely -Inf
";

#[test]
fn suffixes_belong_to_the_family_that_type_declared() {
    let found = text(MIXED);
    assert_eq!(faults(&found), []);
    let names: Vec<_> =
        families(&found).into_iter().map(|(name, kind, series, _)| (name, kind, series)).collect();
    assert_eq!(
        names,
        [
            ("http_seconds", Kind::Histogram, 4),
            ("http_seconds_other", Kind::Untyped, 1),
            ("jobs_total", Kind::Counter, 1),
            ("spaced", Kind::Untyped, 1),
            ("lonely", Kind::Untyped, 1),
        ]
    );
    let words = "free words, the empty line and their newlines belong to nobody";
    let of_families: u64 = found.families.iter().map(|family| family.bytes).sum();
    assert_eq!(found.bytes - of_families, "# free words\n\n".len() as u64, "{words}");
    assert_eq!((found.bytes, found.lines, found.samples), (MIXED.len() as u64, 13, 8));
}

#[test]
fn a_suffix_without_a_declaration_is_a_family_of_its_own() {
    for (declared, sample, owner) in [
        ("# TYPE a gauge\n", "a_sum 1\n", "a_sum"),
        ("# TYPE a summary\n", "a_bucket 1\n", "a_bucket"),
        ("# TYPE a summary\n# TYPE a_count gauge\n", "a_count 1\n", "a_count"),
        ("# TYPE a summary\n# TYPE b gauge\nb 1\n", "a_count 1\n", "a"),
        ("# TYPE a counter\n", "a_total 1\n", "a"),
        ("# TYPE a histogram\n", "a_created 1\n", "a"),
        ("", "a_total 1\n", "a_total"),
    ] {
        let found = text(&format!("{declared}{sample}"));
        let family = found.families.iter().find(|family| family.name == owner);
        assert_eq!(family.unwrap().series, 1, "{declared}{sample}");
    }
}

#[test]
fn what_is_found_does_not_depend_on_where_the_text_is_cut() {
    let hostile =
        "a{b=\"\\\"} 1\n\u{202e}x 1\n# TYPE jobs_total counter\n{\"u.v\",w=\"1\"} 2\ntail 1";
    for format in [Format::Text, Format::OpenMetrics] {
        let body = format!("{MIXED}{hostile}");
        let body = body.as_bytes();
        let whole = read(format, [body]);
        for first in 0..=body.len() {
            for second in (first..=body.len()).step_by(7) {
                let pieces = [&body[..first], &body[first..second], &body[second..]];
                assert_eq!(read(format, pieces), whole, "cut at {first} and {second}");
            }
        }
        for size in 1..40 {
            assert_eq!(read(format, body.chunks(size)), whole, "in pieces of {size}");
        }
    }
}

#[test]
fn a_line_that_no_scraper_can_read_is_a_problem_with_its_number() {
    for (line, fault) in [
        ("1a 1", Fault::Name),
        ("a-b 1", Fault::Name),
        ("{b=\"c\"} 1", Fault::Name),
        ("# TYPE 1a gauge", Fault::Name),
        ("# HELP", Fault::Name),
        ("a{b=\"c\" 1", Fault::Labels),
        ("a{b=c} 1", Fault::Labels),
        ("a{b} 1", Fault::Labels),
        ("a{b:c=\"d\"} 1", Fault::Labels),
        ("a{=\"d\"} 1", Fault::Labels),
        ("a{b=\"c\"d=\"e\"} 1", Fault::Labels),
        ("a{b=\"c\\\"} 1", Fault::Labels),
        ("a{b=\"c\\", Fault::Labels),
        ("a", Fault::Value),
        ("a{b=\"c\"}", Fault::Value),
        ("a one", Fault::Value),
        ("a 1\r", Fault::Value),
        ("a 1 2 3", Fault::Timestamp),
        ("a 1 2.5", Fault::Timestamp),
        ("a 1 # {} 1", Fault::Timestamp),
        ("# TYPE a stateset", Fault::Type),
        ("# TYPE a", Fault::Type),
        ("<html>", Fault::Name),
    ] {
        let found = text(&format!("ok 1\n{line}\nok 2\n"));
        assert_eq!(faults(&found), [(2, fault)], "{line}");
        assert_eq!(found.samples, 2, "{line}");
    }
    let found = read(Format::Text, [b"a{b=\"\xff\"} 1\n".as_slice()]);
    assert_eq!(faults(&found), [(1, Fault::NotUtf8)]);
}

#[test]
fn what_prometheus_takes_is_no_problem() {
    for line in [
        "a 1",
        "a\t1\t-5 ",
        "a{} 1",
        "a{b=\"\"}1",
        "a{b=\"c\",} +Inf",
        ":a: 0",
        "{\"with.dots\"} 1",
        "{\"with.dots\",\"l.l\"=\"v\"} 1",
        "a .5",
        "a 5.",
        "a 1e-9 17",
        "#",
        "#comment",
        "# HELP a",
        "# HELP a \\n # \" {",
        "# EOF",
        "# UNIT a",
        "# TYPE \"u.v\" gauge",
    ] {
        assert_eq!(faults(&text(&format!("{line}\n"))), [], "{line}");
    }
}

#[test]
fn a_family_is_declared_once_and_before_its_samples() {
    let found =
        text("# HELP a x\n# TYPE a gauge\na 1\n# HELP a x\n# TYPE a gauge\nb 1\n# TYPE b gauge\n");
    assert_eq!(
        faults(&found),
        [(4, Fault::SecondHelp), (5, Fault::SecondType), (7, Fault::LateType)]
    );
}

#[test]
fn openmetrics_has_its_own_rules() {
    let good = "# TYPE a counter\n# UNIT a seconds\na_total{b=\"c\"} 1 1.5 # {t=\"u\"} 2 3.5\n# TYPE i info\ni_info 1\n# TYPE g gaugehistogram\ng_gcount 1\n# EOF\n";
    let found = openmetrics(good);
    assert_eq!(faults(&found), []);
    assert_eq!(families(&found).len(), 3);
    for (body, expected) in [
        ("a 1\n", (1, Fault::NoEof)),
        ("a 1\n# EOF\nb 1\nc 1\n", (3, Fault::BehindEof)),
        ("a 1\n\n# EOF\n", (2, Fault::Blank)),
        ("# words\n# EOF\n", (1, Fault::Comment)),
        ("# TYPE a untyped\n# EOF\n", (1, Fault::Type)),
        ("a 1 # {t=\"u\"}\n# EOF\n", (1, Fault::Exemplar)),
        ("a 1\n# EOF", (2, Fault::NoNewline)),
        ("", (1, Fault::NoEof)),
    ] {
        assert_eq!(faults(&openmetrics(body)), [expected], "{body:?}");
    }
}

#[test]
fn a_text_that_ends_in_a_line_says_so() {
    let found = text("a 1\nb 12");
    assert_eq!(faults(&found), [(2, Fault::NoNewline)]);
    assert_eq!(found.samples, 2);
    assert_eq!(faults(&text("")), []);
}

#[test]
fn a_line_without_an_end_is_not_kept() {
    let mut reader = Reader::new(Format::Text);
    reader.push(b"# TYPE long histogram\nlong_bucket{a=\"");
    for _ in 0..1000 {
        reader.push(&[b'x'; 4096]);
        assert!(reader.begun.capacity() <= 2 * MAX_LINE);
    }
    reader.push(b"\"} 1\nb 1\n");
    let found = reader.finish();
    assert_eq!(found.longest, Some(LineLength { line: 2, bytes: 4_096_019 }));
    assert_eq!((found.samples, found.cut_lines), (2, 1));
    assert_eq!(families(&found)[0], ("long", Kind::Histogram, 1, 4_096_020 + 22));
    assert_eq!(faults(&found), []);
}

#[test]
fn the_longest_line_that_is_kept_is_judged_however_it_is_cut() {
    for (length, cut_lines, problems) in [(MAX_LINE, 0, 1), (MAX_LINE + 1, 1, 0)] {
        // Its value is missing, which shows only when it is looked at.
        let line = format!("a{{b=\"{}\"}}\n", "x".repeat(length - 7));
        assert_eq!(line.len(), length + 1);
        for size in [1, 1000, MAX_LINE, line.len()] {
            let found = read(Format::Text, line.as_bytes().chunks(size));
            assert_eq!((found.cut_lines, found.problem_count), (cut_lines, problems), "{size}");
        }
    }
}

#[test]
fn families_beyond_the_bound_are_added_up() {
    let mut reader = Reader::new(Format::Text);
    for number in 0..MAX_FAMILIES + 5 {
        reader.push(format!("# TYPE f{number} gauge\nf{number} 1\n").as_bytes());
    }
    reader.push(format!("{} 1\n", "n".repeat(MAX_NAME + 1)).as_bytes());
    // The ones that have been seen are still known.
    reader.push(b"f7 1\n");
    let found = reader.finish();
    assert_eq!(found.families.len(), MAX_FAMILIES);
    let bytes = 5 * ("# TYPE f10000 gauge\nf10000 1\n".len() + 1) as u64 - 5 + MAX_NAME as u64 + 4;
    assert_eq!(found.beyond, Some(Beyond { series: 6, bytes }));
    assert_eq!(found.families[7].series, 2);
}

#[test]
fn problems_are_counted_when_they_are_too_many_to_keep() {
    let found = text(&"?\n".repeat(1000));
    assert_eq!((found.problems.len(), found.problem_count), (MAX_PROBLEMS, 1000));
    let long = text(&format!("?{}\n", "\u{1F980}".repeat(5000)));
    assert_eq!(long.problems[0].excerpt.chars().count(), EXCERPT);
    // Text behind the end is one problem, whatever came before.
    let behind = openmetrics(&format!("{}# EOF\n{}", "?\n".repeat(20), "a 1\n".repeat(20)));
    assert_eq!(behind.problem_count, 21);
}

#[test]
fn of_a_text_that_goes_on_the_end_is_not_judged() {
    let mut reader = Reader::new(Format::OpenMetrics);
    reader.push(b"a 1\nb 1");
    let found = reader.stop();
    assert_eq!((found.bytes, found.samples, found.problem_count), (7, 1, 0));
}
