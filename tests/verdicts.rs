//! The verdict of `probe` on a body agrees with the table of verdicts by Prometheus and promtool.
//!
//! The table is `tests/data/verdicts.txt`. `tests/real/verdicts.rs` compares it with the real
//! Prometheus and promtool; this test needs neither.

use scrapegate::scrape::exposition::{Acceptance, Analyzer, ExpositionFormat, Statistics};
use scrapegate_harness::verdicts::{Row, rows};

fn read<'a>(row: &'a Row, pieces: impl Iterator<Item = &'a [u8]>) -> Statistics {
    let format =
        if row.is_openmetrics { ExpositionFormat::OpenMetrics } else { ExpositionFormat::Text };
    let mut analyzer = Analyzer::new(format);
    pieces.for_each(|piece| analyzer.push(piece));
    analyzer.finish()
}

/// Whether the target would be up in Prometheus 2.42 and in Prometheus 3.
fn ups(acceptance: Acceptance) -> (bool, bool) {
    match acceptance {
        Acceptance::Whole | Acceptance::InPart => (true, true),
        Acceptance::Since3 => (false, true),
        Acceptance::Refused => (false, false),
    }
}

#[test]
fn f25_the_verdict_agrees_with_prometheus_and_promtool_on_each_body_of_the_table() {
    let rows = rows();
    assert!(rows.len() >= 60, "{}", rows.len());
    let mut wrong = Vec::new();
    for row in &rows {
        let found = read(row, std::iter::once(&*row.body));
        let place = row.place();
        let ups = ups(found.acceptance());
        if ups != (row.up_in_2, row.up_in_3) {
            wrong.push(format!("{place}\n  up in 2.42 and 3: {ups:?}, {:?}", found.decisive));
        }
        if row.samples.is_some_and(|samples| samples != found.samples) {
            wrong.push(format!("{place}\n  {} samples", found.samples));
        }
        // Prometheus ignores everything after a NUL, and `probe` does not read it. Nothing to
        // compare.
        let is_compared = found.acceptance() != Acceptance::InPart;
        if row.promtool_reads.is_some_and(|reads| reads != found.promtool.is_none()) && is_compared
        {
            wrong.push(format!("{place}\n  promtool: {:?}", found.promtool));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
}

#[test]
fn f25_the_verdict_does_not_depend_on_how_a_body_is_split() {
    for row in &rows() {
        let whole = read(row, std::iter::once(&*row.body));
        for size in [1, 2, 3, 5] {
            assert_eq!(read(row, row.body.chunks(size)), whole, "{} by {size}", row.place());
        }
    }
}

#[test]
fn f25_the_table_contains_the_bodies_of_the_bug_reports() {
    let rows = rows();
    for (body, is_up) in [
        (&b"a{b=\"1\",b=\"2\"} 1\n"[..], false),
        (b"{\"a\0b\"} 1\n", false),
        (b"a{__name__=\"b\"} 1\n", false),
        (b"  a 1\n", false),
        (b"a -NaN\n", false),
        (b"a 1 -5\n", false),
        (b"# HELP\n", true),
        (b"# HELP foo-bar x\n", true),
        (b"a{b=\"x\ny\"} 1\n", true),
        (b"# \xff\na 1\n", true),
    ] {
        let found = rows.iter().find(|row| row.body == body && !row.is_openmetrics);
        assert_eq!(found.map(|row| row.up_in_2), Some(is_up), "{}", body.escape_ascii());
    }
}
