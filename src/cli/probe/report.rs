//! The result of `probe`, as text and as JSON.

use std::io::{self, Write};

use serde_json::{Map, Value, json};

use super::{
    compare::{Comparison, Summary, Times, seconds},
    escape::Escaped,
    measurement::{Family, Filtered, Largest, Measurement, Problem, ResponseAnalysis, Runs},
    plugin::{PluginResult, faults},
};
use crate::{
    cli::figures::{Counted, Grouped, Noun, Size, table},
    scrape::exposition::{Acceptance, MAX_FAMILIES, MAX_LINE},
};

/// A suggested `timeout` is this many times the slowest scrape.
const HEADROOM: f64 = 3.0;

/// The suggested `timeout` in whole seconds: three times the slowest scrape, at least 1 s.
fn suggested_timeout(measurement: &Measurement) -> f64 {
    let all = [Some(&measurement.direct), measurement.through_proxy.as_ref()];
    let slowest = all.into_iter().flatten().map(|runs| Summary::of(&runs.total_seconds).max);
    (HEADROOM * slowest.fold(0.0, f64::max)).ceil().max(1.0)
}

pub(super) fn plain(
    measurement: &Measurement,
    comparison: Option<&Comparison>,
    top: usize,
    out: &mut dyn Write,
) -> io::Result<()> {
    let Measurement { exporter, target, timeout_seconds, interval_seconds, .. } = measurement;
    let disabled = if measurement.enabled { "" } else { " (not enabled)" };
    writeln!(out, "{} at {}{disabled}\n", Escaped(exporter), Escaped(target))?;
    times("", &measurement.direct, out)?;
    if let Some(proxied) = &measurement.through_proxy {
        times("proxied ", proxied, out)?;
    }
    if let Some(overheads) = measurement.overheads() {
        let overhead = Summary::of(&overheads).median;
        row("overhead", &signed(overhead), out)?;
    }
    let suggested = suggested_timeout(measurement);
    let beyond = if suggested > *interval_seconds {
        format!("; then also raise `interval`, now {interval_seconds} s")
    } else {
        String::new()
    };
    let timeout = format!("{timeout_seconds} s; suggested: {suggested} s{beyond}");
    row("timeout", &timeout, out)?;
    contents(&measurement.answer, out)?;
    acceptance(&measurement.answer, out)?;
    let faults = faults(measurement);
    if faults.is_empty() {
        row("problems", "none", out)?;
    }
    for (index, fault) in faults.iter().enumerate() {
        row(if index == 0 { "problems" } else { "" }, fault, out)?;
    }
    for problem in &measurement.answer.problems {
        let (line, what) = (problem.line, &problem.problem);
        writeln!(out, "    line {line}: {what}: {}", Escaped(&problem.excerpt))?;
    }
    families("LARGEST FAMILIES", Largest::Bytes, &measurement.answer, top, out)?;
    families("MOST SERIES", Largest::Series, &measurement.answer, top, out)?;
    if let Some(comparison) = comparison {
        compared(comparison, top, out)?;
    }
    writeln!(out)
}

fn row(label: &str, value: &str, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "  {label:<20}{value}")
}

fn times(prefix: &str, runs: &Runs, out: &mut dyn Write) -> io::Result<()> {
    row(&format!("{prefix}first byte"), &spread(&runs.first_byte_seconds), out)?;
    row(&format!("{prefix}total"), &spread(&runs.total_seconds), out)
}

fn spread(times: &[f64]) -> String {
    let Summary { runs, median, min, max, spread } = Summary::of(times);
    if runs == 1 {
        return seconds(median).to_string();
    }
    let (min, max, spread) = (seconds(min), seconds(max), seconds(spread));
    format!("{}, median of {runs} from {min} to {max}, spread {spread}", seconds(median))
}

fn signed(time: f64) -> String {
    let sign = if time < 0.0 { "-" } else { "+" };
    format!("{sign}{}", seconds(time.abs()))
}

/// Nouns for [`Counted`].
const SAMPLES: Noun = ("sample", "samples");
const FAMILIES: Noun = ("family", "families");

fn contents(answer: &ResponseAnalysis, out: &mut dyn Write) -> io::Result<()> {
    let mut size = Size(answer.bytes.unwrap_or(answer.wire_bytes) as f64).to_string();
    match (&answer.content_encoding, answer.gzip_bytes) {
        (Some(coding), _) => {
            size.push_str(&format!(
                ", {} on the wire with {}",
                Size(answer.wire_bytes as f64),
                Escaped(coding)
            ));
        }
        (None, Some(gzip)) => {
            size.push_str(&format!("; about {} with gzip", Size(gzip as f64)));
        }
        (None, None) => {}
    }
    row("size", &size, out)?;
    let families = Counted(answer.family_count, FAMILIES);
    row("samples", &format!("{} in {families}", Grouped(answer.samples)), out)?;
    if let Some(Filtered { bytes, samples, family_count, families_dropped }) = answer.filtered {
        let (samples, families) = (Counted(samples, SAMPLES), Counted(family_count, FAMILIES));
        let (size, dropped) = (Size(bytes as f64), Counted(families_dropped, FAMILIES));
        let left = format!("{size}, {samples} in {families}");
        row("after the filter", &format!("{left}; {dropped} left out"), out)?;
    }
    if let Some(longest) = answer.longest_line {
        let length = Size(longest.bytes as f64);
        row("longest line", &format!("{length}, line {}", longest.line), out)?;
    }
    let content_type = answer.content_type.as_deref().unwrap_or("no Content-Type");
    row("format", &Escaped(content_type).to_string(), out)?;
    row("ends", &answer.end, out)?;
    if let Some(looked_at) = answer.looked_at {
        let looked_at = Size(looked_at as f64);
        row("analyzed", &format!("only the first {looked_at}"), out)?;
    }
    if let Some(series) = answer.beyond_series {
        let series = Counted(series, SAMPLES);
        let text = format!("{series} in families after the first {MAX_FAMILIES}");
        row("not listed", &text, out)?;
    }
    if answer.cut_lines > 0 {
        let lines = Counted(answer.cut_lines, ("line", "lines"));
        row("not checked", &format!("{lines} over {MAX_LINE} bytes"), out)?;
    }
    Ok(())
}

/// Whether Prometheus accepts the answer, and what promtool says if that differs.
fn acceptance(answer: &ResponseAnalysis, out: &mut dyn Write) -> io::Result<()> {
    if answer.bytes.is_none() {
        return Ok(());
    }
    let verdict = match answer.acceptance {
        Acceptance::Whole if answer.looked_at.is_some() => "accepts the analyzed part",
        Acceptance::Whole => "accepts the answer",
        Acceptance::InPart => "reads the first part of the answer and ignores the rest",
        Acceptance::Since3 => "version 3 accepts the answer; version 2 rejects it (`up` is 0)",
        Acceptance::Refused => "rejects the whole answer (`up` is 0)",
    };
    row("Prometheus", verdict, out)?;
    let is_refused = answer.acceptance == Acceptance::Refused;
    match &answer.promtool {
        Some(Problem { line, problem, .. }) => {
            let differs = match answer.acceptance {
                Acceptance::Whole | Acceptance::InPart => "; Prometheus accepts this",
                Acceptance::Since3 | Acceptance::Refused => "",
            };
            row("promtool", &format!("rejects line {line}: {problem}{differs}"), out)
        }
        None if is_refused && !answer.openmetrics => {
            row("promtool", "finds no error; its rules differ from those of Prometheus", out)
        }
        None => Ok(()),
    }
}

fn families(
    heading: &str,
    by: Largest,
    answer: &ResponseAnalysis,
    top: usize,
    out: &mut dyn Write,
) -> io::Result<()> {
    let largest = answer.largest(by, top);
    if largest.is_empty() {
        return Ok(());
    }
    writeln!(out)?;
    let whole = answer.bytes.unwrap_or_default().max(1) as f64;
    let rows = largest.into_iter().map(|Family { name, kind, series, bytes }| {
        [
            shortened(name),
            Escaped(kind).to_string(),
            series.to_string(),
            bytes.to_string(),
            format!("{:.1} %", *bytes as f64 / whole * 100.0),
        ]
    });
    table([heading, "TYPE", "SERIES", "BYTES", "SHARE"], rows, out)
}

/// A name, shortened to leave room for the other columns.
fn shortened(name: &str) -> String {
    const MOST: usize = 80;
    let escaped = Escaped(name).to_string();
    if escaped.chars().count() <= MOST {
        return escaped;
    }
    let start: String = escaped.chars().take(MOST - 1).collect();
    start + "…"
}

fn compared(comparison: &Comparison, top: usize, out: &mut dyn Write) -> io::Result<()> {
    let taken = Escaped(&comparison.baseline_taken);
    let version = Escaped(&comparison.baseline_scrapegate);
    writeln!(out, "\nCOMPARED with {taken}, scrapegate {version}")?;
    compared_times("", &comparison.direct, out)?;
    if let Some(proxied) = &comparison.through_proxy {
        compared_times("proxied ", proxied, out)?;
    }
    if let Some((before, after)) = comparison.overhead {
        row("overhead", &format!("{} → {}", signed(before), signed(after)), out)?;
    }
    if let Some(bytes) = comparison.bytes {
        row("size", &bytes.described(|bytes| Size(bytes as f64)), out)?;
    }
    row("samples", &comparison.series.described(Grouped), out)?;
    row("families", &comparison.families.described(Grouped), out)?;
    names("new families", &comparison.new_families, top, out)?;
    names("removed families", &comparison.gone_families, top, out)?;
    for moved in comparison.moved_families.iter().take(top) {
        let (before, after) = (Grouped(moved.before), Grouped(moved.after));
        row("", &format!("{}: {before} → {after} series", shortened(&moved.name)), out)?;
    }
    for remark in &comparison.remarks {
        row("note", remark, out)?;
    }
    Ok(())
}

fn compared_times(prefix: &str, times: &Times, out: &mut dyn Write) -> io::Result<()> {
    row(&format!("{prefix}first byte"), &times.first_byte.to_string(), out)?;
    row(&format!("{prefix}total"), &times.total.to_string(), out)
}

fn names(label: &str, names: &[String], top: usize, out: &mut dyn Write) -> io::Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    let shown: Vec<_> = names.iter().take(top).map(|name| shortened(name)).collect();
    let left = names.len() - shown.len();
    let more = if left > 0 { format!(" and {left} more") } else { String::new() };
    row(label, &format!("{}{more}", shown.join(", ")), out)
}

/// Prints the result, the summaries, and the measurement with only its largest families.
pub(super) fn json(
    measurement: Option<&Measurement>,
    comparison: Option<&Comparison>,
    result: &PluginResult,
    top: usize,
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut document = Map::new();
    document.insert("state".to_owned(), result.state.label().into());
    document.insert("exit_code".to_owned(), result.state.exit_code().into());
    document.insert("summary".to_owned(), result.summary.clone().into());
    if let Some(measurement) = measurement {
        let mut measured = serde_json::to_value(measurement)?;
        let largest = |by| -> Result<Value, serde_json::Error> {
            serde_json::to_value(measurement.answer.largest(by, top))
        };
        if let Some(answer) = measured.get_mut("answer").and_then(Value::as_object_mut) {
            answer.remove("families");
            answer.insert("largest_families".to_owned(), largest(Largest::Bytes)?);
            answer.insert("families_with_most_series".to_owned(), largest(Largest::Series)?);
        }
        let summary = |runs: &Runs| {
            json!({
                "first_byte": Summary::of(&runs.first_byte_seconds),
                "total": Summary::of(&runs.total_seconds),
            })
        };
        document.insert("direct".to_owned(), summary(&measurement.direct));
        if let Some(proxied) = &measurement.through_proxy {
            document.insert("through_proxy".to_owned(), summary(proxied));
        }
        if let Some(overheads) = measurement.overheads() {
            document.insert("overhead".to_owned(), serde_json::to_value(Summary::of(&overheads))?);
        }
        let timeout = suggested_timeout(measurement);
        document.insert("suggested_timeout_seconds".to_owned(), timeout.into());
        document.insert("faults".to_owned(), faults(measurement).into());
        document.insert("measurement".to_owned(), measured);
    }
    if let Some(comparison) = comparison {
        document.insert("comparison".to_owned(), serde_json::to_value(comparison)?);
    }
    serde_json::to_writer_pretty(&mut *out, &Value::Object(document))?;
    writeln!(out)
}
