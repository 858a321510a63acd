#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use crate::scrape::exposition::{Acceptance, Beyond, MAX_FAMILIES, MAX_NAME, MetricType};

fn read<'a>(format: ExpositionFormat, pieces: impl IntoIterator<Item = &'a [u8]>) -> Statistics {
    let mut analyzer = Analyzer::new(format);
    for piece in pieces {
        analyzer.push(piece);
    }
    analyzer.finish()
}

fn text(text: &str) -> Statistics {
    read(ExpositionFormat::Text, [text.as_bytes()])
}

fn openmetrics(text: &str) -> Statistics {
    read(ExpositionFormat::OpenMetrics, [text.as_bytes()])
}

/// Name, kind, series and bytes of each family.
fn families(statistics: &Statistics) -> Vec<(&str, MetricType, u64, u64)> {
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
            ("http_seconds", MetricType::Histogram, 4),
            ("http_seconds_other", MetricType::Untyped, 1),
            ("jobs_total", MetricType::Counter, 1),
            ("spaced", MetricType::Untyped, 1),
            ("lonely", MetricType::Untyped, 1),
        ]
    );
    let words = "the comment, the empty line and their newlines belong to no family";
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
fn the_statistics_do_not_depend_on_how_the_text_is_split() {
    let hostile = "a{b=\"x\ny\"} 1\na{b=\"\\\"} 1\n\u{202e}x 1\n# TYPE jobs_total counter\n{\"u.v\",w=\"1\"} 2\ntail 1";
    for format in [ExpositionFormat::Text, ExpositionFormat::OpenMetrics] {
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

/// The fault at which promtool stops, and its line.
fn promtool(statistics: &Statistics) -> Option<(u64, Fault)> {
    statistics.promtool.as_ref().map(|problem| (problem.line, problem.fault))
}

#[test]
fn an_invalid_line_is_a_problem_with_its_number() {
    for (line, fault) in [
        ("1a 1", Fault::Name),
        ("{b=\"c\"} 1", Fault::Name),
        ("# TYPE 1a gauge", Fault::Name),
        ("# HELP ", Fault::Name),
        ("<html>", Fault::Name),
        ("a{b=\"c\" 1", Fault::Labels),
        ("a{b=c} 1", Fault::Labels),
        ("a{b} 1", Fault::Labels),
        ("a{b:c=\"d\"} 1", Fault::Labels),
        ("a{=\"d\"} 1", Fault::Labels),
        ("a{b=\"c\",,} 1", Fault::Labels),
        ("a{\"b\"} 1", Fault::Labels),
        ("a{b=\"c\\\"} 1", Fault::OpenQuote),
        ("a{b=\"c\\", Fault::OpenQuote),
        ("a{b=\"1\",b=\"2\"} 1", Fault::DuplicateLabel),
        ("a{\"b\\\\\"=\"1\",c=\"\",\"b\\\\\"=\"1\"} 1", Fault::DuplicateLabel),
        ("a{__name__=\"b\"} 1", Fault::ReservedLabel),
        ("a-b 1", Fault::Value),
        ("a", Fault::Value),
        ("a{b=\"c\"}", Fault::Value),
        ("a one", Fault::Value),
        ("a -NaN", Fault::Value),
        ("a 1e999", Fault::Value),
        ("a 1_000", Fault::Value),
        ("a 1\r", Fault::Value),
        ("a 1 2 3", Fault::Timestamp),
        ("a 1 2.5", Fault::Timestamp),
        ("a 1 -5", Fault::Timestamp),
        ("a 1 # {} 1", Fault::Timestamp),
        ("# TYPE a stateset", Fault::Type),
        ("# TYPE a", Fault::Type),
        ("# TYPE a gauge ", Fault::Type),
    ] {
        let found = text(&format!("ok 1\n{line}\nok 2\n"));
        assert_eq!(faults(&found), [(2, fault)], "{line}");
        assert_eq!((found.samples, found.acceptance()), (2, Acceptance::Refused), "{line}");
    }
    for body in [b"a{b=\"\xff\"} 1\n".as_slice(), b"# HELP a \xff\n"] {
        assert_eq!(faults(&read(ExpositionFormat::Text, [body])), [(1, Fault::NotUtf8)]);
    }
}

#[test]
fn a_line_that_prometheus_accepts_is_not_a_problem() {
    for line in [
        "a 1",
        "a\t1\t5 ",
        "a{} 1",
        "a{b=\"\"}1",
        "a{b=\"c\",} +Inf",
        "a{b=\"c\"d=\"e\"} 1",
        "a{b=\"\",b=\"c\"} 1",
        "a{b=\"c\0\"} 1",
        "a{b=\"x\ny\"} 1",
        ":a: 0",
        "a .5",
        "a-5",
        "a 5.",
        "a 1e-9 17",
        "#",
        "  #comment",
        "# HELP",
        "# TYPE",
        "# HELP a",
        "# HELP a \\n # \" {",
        "# HELP foo-bar x",
        "# EOF",
        "# UNIT a",
    ] {
        let found = text(&format!("{line}\n"));
        assert_eq!((faults(&found), found.acceptance()), (vec![], Acceptance::Whole), "{line}");
    }
    assert_eq!(faults(&read(ExpositionFormat::Text, [b"# \xff\na 1\n".as_slice()])), []);
}

#[test]
fn a_line_that_only_prometheus_3_accepts_is_counted_and_is_a_problem() {
    for (format, line, fault) in [
        (ExpositionFormat::Text, "{\"with.dots\"} 1", Fault::QuotedName),
        (ExpositionFormat::Text, "{\"with.dots\",\"l.l\"=\"v\"} 1", Fault::QuotedName),
        (ExpositionFormat::Text, "# TYPE \"u.v\" gauge", Fault::QuotedName),
        (ExpositionFormat::Text, "  a 1", Fault::Indented),
        (ExpositionFormat::OpenMetrics, "{\"u.v\"} 1", Fault::QuotedName),
        (ExpositionFormat::OpenMetrics, "a{b=\"c\",} 1", Fault::TrailingComma),
        (ExpositionFormat::OpenMetrics, "a_sum 1 # {} 1", Fault::ExemplarName),
    ] {
        let found = read(format, [format!("a 1\n{line}\n# EOF\n").as_bytes()]);
        assert_eq!(faults(&found), [(2, fault)], "{line}");
        assert_eq!(found.acceptance(), Acceptance::Since3, "{line}");
    }
    // A fault that every version rejects decides, even after another fault.
    let found = text("  a 1\nb\n");
    assert_eq!(found.decisive.as_ref().map(|problem| problem.line), Some(2));
    assert_eq!(found.acceptance(), Acceptance::Refused);
}

#[test]
fn prometheus_ignores_the_text_after_a_nul_at_the_start_of_a_line() {
    for end in ["\0", " \0", "#x\0", "# \0"] {
        let found = text(&format!("a 1\n{end}b 1\n?\n"));
        assert_eq!(faults(&found), [(2, Fault::Nul)], "{end:?}");
        assert_eq!((found.samples, found.acceptance()), (1, Acceptance::InPart), "{end:?}");
    }
    assert_eq!(faults(&text("a\0 1\n")), [(1, Fault::Value)]);
    assert_eq!(faults(&text("{\"a\0b\"} 1\n")), [(1, Fault::Labels)]);
}

#[test]
fn the_verdict_of_promtool_is_independent_of_that_of_prometheus() {
    for (body, expected) in [
        ("# HELP a x\n# TYPE a gauge\na 1\n# HELP a x\n", Some((4, Fault::SecondHelp))),
        ("# HELP a\n# HELP a x\n# HELP a \n", None),
        ("# TYPE a gauge\n# TYPE a gauge\n", Some((2, Fault::LateType))),
        ("# TYPE a histogram\n# TYPE a_count gauge\n", Some((2, Fault::LateType))),
        ("b 1\n# TYPE b gauge\n", Some((2, Fault::LateType))),
        ("# TYPE a histogram\na_bucket{le=\"x\"} 1\n", Some((2, Fault::Bound))),
        ("# TYPE a gauge\na_bucket{le=\"x\"} 1\n", None),
        ("# TYPE a summary\na{quantile=\"x\"} 1\n", Some((2, Fault::Bound))),
        ("a{b=\"x\ny\"} 1\n", Some((1, Fault::RawNewline))),
        ("a{b=\"\\q\"} 1\n", Some((1, Fault::Escape))),
        ("# HELP a \\q\n", Some((1, Fault::Escape))),
        ("# HELP foo-bar x\n", Some((1, Fault::Name))),
        ("a 1 \n", Some((1, Fault::Timestamp))),
        ("a 1\nb 12", Some((2, Fault::NoNewline))),
        ("", None),
        (MIXED, None),
    ] {
        let found = text(body);
        assert_eq!((promtool(&found), faults(&found)), (expected, vec![]), "{body}");
    }
    // The other way round: promtool accepts what Prometheus rejects.
    for body in ["a 1 -5\n", "  a 1\n", "# TYPE a  gauge\n", "# HELP \n", "# TYPE a Gauge\n"] {
        let found = text(body);
        assert_eq!((promtool(&found), found.problem_count), (None, 1), "{body}");
    }
}

#[test]
fn a_label_value_can_contain_newlines_if_it_has_an_end() {
    let found = text("a{b=\"x\n# y\n\nz\",c=\"\\\"\n\"} 1\nd 1\n");
    assert_eq!((faults(&found), found.samples, found.lines), (vec![], 2, 6));
    assert_eq!(found.families[0].bytes, 26);
    // One quote is missing: only that line has a problem, and all others are read.
    for rest in ["b{c=\"d\"} 1\n", "b 1\n", "b{c=\"d\"} 1", "b 1"] {
        let found = text(&format!("a 1\na{{b=\"c}} 1\n{}{rest}", "d{e=\"f\"} 1\n".repeat(3)));
        assert_eq!((faults(&found), found.samples), (vec![(2, Fault::OpenQuote)], 5), "{rest}");
        assert_eq!(found.lines, 6);
    }
    // A label value that exceeds the limit, split anywhere.
    let body = format!("a{{b=\"c}} 1\n{}", "d 1\n".repeat(MAX_LINE));
    for size in [1, 7, 1000, MAX_LINE - 11, MAX_LINE, body.len()] {
        let found = read(ExpositionFormat::Text, body.as_bytes().chunks(size));
        assert_eq!((found.problem_count, found.samples), (1, MAX_LINE as u64), "{size}");
        assert_eq!(found.lines, MAX_LINE as u64 + 1, "{size}");
    }
}

#[test]
fn openmetrics_has_its_own_rules() {
    let good = "# TYPE a_seconds counter\n# UNIT a_seconds seconds\na_total{b=\"c\"} 1 1.5 # {t=\"u\"} 2 3.5\n# TYPE i info\ni_info 1\n# TYPE g gaugehistogram\ng_gcount 1\n# EOF\n";
    let found = openmetrics(good);
    assert_eq!(faults(&found), []);
    assert_eq!(families(&found).len(), 4);
    assert_eq!(faults(&openmetrics("a 1\n# EOF")), []);
    for (body, expected) in [
        ("a 1\n", (1, Fault::NoEof)),
        ("a 1\n# EOF\nb 1\nc 1\n", (3, Fault::AfterEof)),
        ("a 1\n# EOF \n# EOF\n", (2, Fault::AfterEof)),
        ("a 1\n\n# EOF\n", (2, Fault::Blank)),
        ("# words\n# EOF\n", (1, Fault::Comment)),
        ("# TYPE a untyped\n# EOF\n", (1, Fault::Type)),
        ("# TYPE a  gauge\n# EOF\n", (1, Fault::Type)),
        ("# HELP a\n# EOF\n", (1, Fault::Metadata)),
        ("# HELP foo-bar x\n# EOF\n", (1, Fault::Metadata)),
        ("# UNIT a seconds\n# EOF\n", (1, Fault::Unit)),
        ("a_total 1 # {t=\"u\"}\n# EOF\n", (1, Fault::Exemplar)),
        ("a_total 1 # {t=\"u\"} 1 NaN\n# EOF\n", (1, Fault::Exemplar)),
        ("a{b=\"c\" d=\"e\"} 1\n# EOF\n", (1, Fault::Labels)),
        ("a{b=\"c\"d=\"e\"} 1\n# EOF\n", (1, Fault::Labels)),
        ("a  1\n# EOF\n", (1, Fault::Value)),
        ("a 1 \n# EOF\n", (1, Fault::Timestamp)),
        ("a 1 NaN\n# EOF\n", (1, Fault::Timestamp)),
        ("", (1, Fault::NoEof)),
    ] {
        assert_eq!(faults(&openmetrics(body)), [expected], "{body:?}");
    }
    let raw = faults(&openmetrics("a{b=\"x\ny\"} 1\n# EOF\n"));
    assert_eq!(raw.first(), Some(&(1, Fault::OpenQuote)));
}

#[test]
fn an_endless_line_is_not_kept() {
    let mut analyzer = Analyzer::new(ExpositionFormat::Text);
    analyzer.push(b"# TYPE long histogram\nlong_bucket{a=\"");
    for _ in 0..1000 {
        analyzer.push(&[b'x'; 4096]);
        assert!(analyzer.begun.capacity() <= 2 * MAX_LINE);
    }
    analyzer.push(b"\"} 1\nb 1\n");
    let found = analyzer.finish();
    assert_eq!(found.longest, Some(LineLength { line: 2, bytes: 4_096_019 }));
    assert_eq!((found.samples, found.cut_lines), (2, 1));
    assert_eq!(families(&found)[0], ("long", MetricType::Histogram, 1, 4_096_020 + 22));
    assert_eq!(faults(&found), []);
}

#[test]
fn the_longest_line_that_is_kept_is_checked_for_any_split() {
    for (length, cut_lines, problems) in [(MAX_LINE, 0, 1), (MAX_LINE + 1, 1, 0)] {
        // The value is missing, which only a complete check finds.
        let line = format!("a{{b=\"{}\"}}\n", "x".repeat(length - 7));
        assert_eq!(line.len(), length + 1);
        for size in [1, 1000, MAX_LINE, line.len()] {
            let found = read(ExpositionFormat::Text, line.as_bytes().chunks(size));
            assert_eq!((found.cut_lines, found.problem_count), (cut_lines, problems), "{size}");
        }
    }
}

#[test]
fn families_beyond_the_limit_are_summed_up() {
    let mut analyzer = Analyzer::new(ExpositionFormat::Text);
    for number in 0..MAX_FAMILIES + 5 {
        analyzer.push(format!("# TYPE f{number} gauge\nf{number} 1\n").as_bytes());
    }
    analyzer.push(format!("{} 1\n", "n".repeat(MAX_NAME + 1)).as_bytes());
    // Families within the limit still count their samples.
    analyzer.push(b"f7 1\n");
    let found = analyzer.finish();
    assert_eq!(found.families.len(), MAX_FAMILIES);
    let bytes = 5 * ("# TYPE f10000 gauge\nf10000 1\n".len() + 1) as u64 - 5 + MAX_NAME as u64 + 4;
    assert_eq!(found.beyond, Some(Beyond { series: 6, bytes }));
    assert_eq!(found.families[7].series, 2);
}

#[test]
fn problems_beyond_the_limit_are_counted() {
    let found = text(&"?\n".repeat(1000));
    assert_eq!((found.problems.len(), found.problem_count), (MAX_PROBLEMS, 1000));
    let long = text(&format!("?{}\n", "\u{1F980}".repeat(5000)));
    assert_eq!(long.problems[0].excerpt.chars().count(), EXCERPT);
    // Text after the end is one problem, regardless of earlier problems.
    let after = openmetrics(&format!("{}# EOF\n{}", "?\n".repeat(20), "a 1\n".repeat(20)));
    assert_eq!(after.problem_count, 21);
}

#[test]
fn the_end_of_an_unfinished_text_is_not_checked() {
    let mut analyzer = Analyzer::new(ExpositionFormat::OpenMetrics);
    analyzer.push(b"a 1\nb 1");
    let found = analyzer.stop();
    assert_eq!((found.bytes, found.samples, found.problem_count), (7, 1, 0));
}
