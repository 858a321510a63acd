//! The result in the form of a monitoring plugin: a state, one line, and performance data.

use std::fmt;

use super::{
    compare::{Comparison, Summary, seconds},
    escape::Escaped,
    measurement::{Measurement, Problem},
};
use crate::{
    cli::figures::{Grouped, Size},
    scrape::exposition::Acceptance,
};

/// A scrape is slow if it takes more than this part of the exporter's `timeout`.
const SLOW: f64 = 0.8;

/// The four states of a monitoring plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PluginState {
    Ok,
    Warning,
    Critical,
    Unknown,
}

impl PluginState {
    pub(super) fn exit_code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Warning => 1,
            Self::Critical => 2,
            Self::Unknown => 3,
        }
    }

    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Warning => "WARNING",
            Self::Critical => "CRITICAL",
            Self::Unknown => "UNKNOWN",
        }
    }
}

/// The exit code and the last line of `probe`.
#[derive(Clone, Debug)]
pub(super) struct PluginResult {
    pub(super) state: PluginState,
    pub(super) summary: String,
    perfdata: Vec<String>,
}

impl PluginResult {
    /// The result if the measurement failed.
    pub(super) fn without_measurement(
        state: PluginState,
        exporter: &str,
        why: impl fmt::Display,
    ) -> Self {
        // Each diagnostic is a line, but a plugin prints only one line.
        let why = why.to_string().replace('\n', "; ");
        let summary = format!("{}: {}", Escaped(exporter), Escaped(&why));
        Self { state, summary, perfdata: Vec::new() }
    }

    /// The result about a measurement.
    pub(super) fn of(measurement: &Measurement, comparison: Option<&Comparison>) -> Self {
        let total = Summary::of(&measurement.direct.total_seconds);
        let mut reasons: Vec<String> = comparison
            .iter()
            .flat_map(|comparison| comparison.slower())
            .map(|(what, change)| format!("{what} {change}"))
            .collect();
        if total.max > SLOW * measurement.timeout_seconds {
            let part = total.max / measurement.timeout_seconds * 100.0;
            reasons.push(format!("takes {part:.0} % of its timeout"));
        }
        reasons.extend(faults(measurement));
        let answer = &measurement.answer;
        let state = match (answer.acceptance, reasons.is_empty()) {
            // In Prometheus, the target would be down.
            (Acceptance::Refused, _) => PluginState::Critical,
            (_, true) => PluginState::Ok,
            (_, false) => PluginState::Warning,
        };
        let mut summary = format!("{}: ", Escaped(&measurement.exporter));
        for reason in reasons {
            summary.push_str(&reason);
            summary.push_str("; ");
        }
        let size = Size(answer.bytes.unwrap_or(answer.wire_bytes) as f64);
        let samples = Grouped(answer.samples);
        let time = seconds(total.median);
        summary.push_str(&match answer.looked_at {
            None if answer.samples == 1 => format!("1 sample, {size} in {time}"),
            None => format!("{samples} samples, {size} in {time}"),
            Some(looked_at) => {
                let (part, all) = (Size(looked_at as f64), Size(answer.wire_bytes as f64));
                format!("{all} in {time}, only the first {part} analyzed")
            }
        });
        Self { state, summary, perfdata: perfdata(measurement, comparison) }
    }
}

impl fmt::Display for PluginResult {
    /// `PROBE OK - NAME: … | 'time'=0.012s;4;5;0;5 …`, in one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Monitoring systems take everything after the first bar as performance data.
        let summary = self.summary.replace('|', "\u{a6}");
        write!(f, "PROBE {} - {summary}", self.state.label())?;
        if !self.perfdata.is_empty() {
            write!(f, " | {}", self.perfdata.join(" "))?;
        }
        Ok(())
    }
}

/// The problems of the answer itself.
pub(super) fn faults(measurement: &Measurement) -> Vec<String> {
    let answer = &measurement.answer;
    let mut faults = Vec::new();
    if answer.bytes.is_none() {
        let coding = answer.content_encoding.as_deref().unwrap_or_default();
        faults.push(format!("unrequested Content-Encoding `{}`", Escaped(coding)));
    }
    let media_type = answer.content_type.as_deref().map(|value| {
        let essence = value.split(';').next().unwrap_or_default();
        essence.trim().to_ascii_lowercase()
    });
    match media_type.as_deref() {
        Some("text/plain") => {}
        Some(_) if answer.openmetrics => {}
        Some(other) => {
            faults.push(format!("Content-Type `{}` is not a metrics format", Escaped(other)));
        }
        None => faults.push("no Content-Type".to_owned()),
    }
    if let Some(Problem { line, problem, .. }) = &answer.decisive {
        let count = match answer.problem_count {
            0 | 1 => String::new(),
            count => format!("{count} problems in the text; "),
        };
        let effect = match answer.acceptance {
            Acceptance::Refused => "Prometheus rejects the whole answer",
            Acceptance::Since3 => "Prometheus 2 rejects the whole answer, Prometheus 3 accepts it",
            Acceptance::InPart => "Prometheus ignores part of the answer",
            Acceptance::Whole => "Prometheus accepts the answer",
        };
        faults.push(format!("{count}{effect}: line {line}: {problem}"));
    }
    faults
}

/// Performance data `'label'=value[UOM];warn;crit;min;max`, as in the Monitoring Plugins
/// guidelines.
fn perfdata(measurement: &Measurement, comparison: Option<&Comparison>) -> Vec<String> {
    let answer = &measurement.answer;
    let timeout = measurement.timeout_seconds;
    let median = |times: &[f64]| Summary::of(times).median;
    let mut data = vec![
        format!(
            "'time'={:.6}s;{};{timeout};0;{timeout}",
            median(&measurement.direct.total_seconds),
            SLOW * timeout
        ),
        format!(
            "'first_byte'={:.6}s;;;0;{timeout}",
            median(&measurement.direct.first_byte_seconds)
        ),
        format!("'wire_size'={}B;;;0;", answer.wire_bytes),
    ];
    // Figures about only a part of the answer would look like a drop in graphs.
    if answer.looked_at.is_none() {
        let sizes = [("size", answer.bytes), ("gzip_size", answer.gzip_bytes)];
        for (label, bytes) in sizes {
            data.extend(bytes.map(|bytes| format!("'{label}'={bytes}B;;;0;")));
        }
        data.push(format!("'samples'={};;;0;", answer.samples));
        data.push(format!("'families'={};;;0;", answer.family_count));
    }
    data.push(format!("'problems'={};0;;0;", answer.problem_count));
    if let Some(proxied) = &measurement.through_proxy {
        data.push(format!("'proxy_time'={:.6}s;;;0;", median(&proxied.total_seconds)));
        data.push(format!("'proxy_first_byte'={:.6}s;;;0;", median(&proxied.first_byte_seconds)));
    }
    if let Some(overheads) = measurement.overheads() {
        data.push(format!("'proxy_overhead'={:.6}s;;;;", median(&overheads)));
    }
    if let Some(comparison) = comparison {
        let tolerance = comparison.tolerance_percent;
        data.push(format!("'slower'={:.1}%;{tolerance};;;", comparison.direct.total.percent));
        if let Some(proxied) = &comparison.through_proxy {
            data.push(format!("'proxy_slower'={:.1}%;{tolerance};;;", proxied.total.percent));
        }
    }
    data
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::probe::measurement::{ResponseAnalysis, Runs};

    fn measurement(total: f64) -> Measurement {
        let times = Runs { first_byte_seconds: vec![total / 2.0], total_seconds: vec![total] };
        Measurement {
            version: Measurement::VERSION,
            scrapegate: String::new(),
            taken: String::new(),
            exporter: "a|b".to_owned(),
            target: String::new(),
            enabled: true,
            interval_seconds: 15.0,
            timeout_seconds: 5.0,
            direct: times,
            through_proxy: None,
            answer: ResponseAnalysis {
                content_type: Some("Text/Plain; version=0.0.4".to_owned()),
                wire_bytes: 10,
                bytes: Some(10),
                ..ResponseAnalysis::default()
            },
        }
    }

    #[test]
    fn a_scrape_that_takes_most_of_its_timeout_is_a_warning() {
        for (total, state) in [(3.9, PluginState::Ok), (4.1, PluginState::Warning)] {
            let result = PluginResult::of(&measurement(total), None);
            assert_eq!(result.state, state, "{result}");
        }
    }

    #[test]
    fn the_text_before_the_performance_data_has_no_bar() {
        let line = PluginResult::of(&measurement(4.5), None).to_string();
        assert_eq!(
            line,
            "PROBE WARNING - a\u{a6}b: takes 90 % of its timeout; 0 samples, 10 bytes in 4.50 s | \
             'time'=4.500000s;4;5;0;5 'first_byte'=2.250000s;;;0;5 'wire_size'=10B;;;0; \
             'size'=10B;;;0; 'samples'=0;;;0; 'families'=0;;;0; 'problems'=0;0;;0;"
        );
        let why = "first\nsecond | third";
        let result = PluginResult::without_measurement(PluginState::Critical, "e", why).to_string();
        assert_eq!(result, "PROBE CRITICAL - e: first; second \u{a6} third");
    }

    #[test]
    fn one_sample_is_not_called_samples() {
        let mut measured = measurement(1.0);
        measured.answer.samples = 1;
        let line = PluginResult::of(&measured, None).to_string();
        assert!(line.contains(": 1 sample, 10 bytes in 1.00 s"), "{line}");
    }

    #[test]
    fn a_partly_analyzed_answer_has_only_its_size_as_performance_data() {
        let mut measured = measurement(1.0);
        measured.answer.wire_bytes = 4_000_000;
        measured.answer.looked_at = Some(500_000);
        let line = PluginResult::of(&measured, None).to_string();
        assert!(line.contains("4.0 MB in 1.00 s, only the first 500.0 kB analyzed"));
        assert!(line.contains("'wire_size'=4000000B") && !line.contains("'samples'"), "{line}");
    }
}
