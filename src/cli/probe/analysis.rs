//! Analyzes an answer. The analysis takes time, so this scrape is not timed.

use std::{
    io::{self, Write},
    time::{Duration, Instant},
};

use flate2::{
    Compression,
    write::{GzEncoder, MultiGzDecoder},
};
use hyper::{
    header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderName},
    http::request::Parts,
};

use super::{
    escape::Escaped,
    filtered::FilteredText,
    measurement::{Family, Longest, Problem, ResponseAnalysis},
    scrape::{Answer, Failure},
};
use crate::{
    common::exporter::Exporter,
    scrape::{
        exposition::{self, Analyzer, ExpositionFormat, Statistics},
        is_openmetrics,
    },
    upstream::{Framing, UpstreamHead},
};

/// Compression level for estimating the size with gzip: Go's default, as exporters use it.
const LEVEL: Compression = Compression::new(6);

/// Which part of a text is compressed to estimate its size, in bytes.
#[derive(Clone, Copy, Debug)]
struct Sampling {
    /// The first bytes are compressed completely.
    exact: u64,
    /// After them, the text is divided into windows of this size …
    window: u64,
    /// … and only the first bytes of each window are compressed, as a sample of the window.
    sample: u64,
}

/// Sampling limits the cost: gzip at this level is many times slower than the rest of the analysis.
const SAMPLING: Sampling = Sampling { exact: 32 << 20, window: 16 << 20, sample: 1 << 20 };

/// Limit for the time of the analysis, as a multiple of the exporter's `timeout`.
///
/// The analysis keeps the exporter waiting, so it extends the deadline. Without a limit, an
/// exporter that never stops sending would never be given up. After the limit, bytes are only
/// counted.
const MOST_EFFORT: u32 = 10;

/// Scrapes once and analyzes the answer.
///
/// # Errors
/// If the scrape is not complete, or if its gzip data is broken.
pub(super) async fn analyze(
    exporter: &Exporter,
    request: &Parts,
) -> Result<ResponseAnalysis, Failure> {
    let mut answer = Answer::open(exporter, request).await?;
    let format = if is_openmetrics(&answer.head.headers) {
        ExpositionFormat::OpenMetrics
    } else {
        ExpositionFormat::Text
    };
    let encoding = header(&answer.head, &CONTENT_ENCODING);
    let mut filtered = FilteredText::of(exporter, &answer.head)?;
    let mut analyzer = BodyAnalyzer::new(encoding.as_deref(), format);
    let most = exporter.rules.timeout.as_duration() * MOST_EFFORT;
    let (mut effort, mut wire_bytes, mut looked_at) = (Duration::ZERO, 0, 0);
    while let Some(data) = answer.next().await? {
        wire_bytes += data.len() as u64;
        if effort < most {
            looked_at += data.len() as u64;
            let begun = Instant::now();
            analyzer.push(&data).map_err(Failure::Gzip)?;
            if let Some(filtered) = &mut filtered {
                filtered.push(&data).map_err(|cause| answer.incomplete(cause))?;
            }
            let spent = begun.elapsed();
            effort += spent;
            answer.grant(spent);
        }
    }
    let whole = looked_at == wire_bytes;
    let found = analyzer.finish(whole).map_err(Failure::Gzip)?;
    let filtered = filtered.map(|filtered| filtered.finish(whole)).transpose();
    let mut response = ResponseAnalysis {
        content_type: header(&answer.head, &CONTENT_TYPE),
        content_encoding: encoding,
        openmetrics: format == ExpositionFormat::OpenMetrics,
        end: described(answer.head.framing).to_owned(),
        wire_bytes,
        looked_at: (!whole).then_some(looked_at),
        filtered: filtered.map_err(|cause| answer.incomplete(cause))?,
        ..ResponseAnalysis::default()
    };
    if let Some((statistics, gzip_bytes)) = found {
        fill(&mut response, statistics);
        response.gzip_bytes = gzip_bytes.or(Some(wire_bytes)).filter(|_| whole);
    }
    Ok(response)
}

/// Stores names and excerpts escaped, so that any program can print them safely.
fn fill(response: &mut ResponseAnalysis, statistics: Statistics) {
    response.acceptance = statistics.acceptance();
    let Statistics { bytes, lines, samples, families, beyond, longest, .. } = statistics;
    response.bytes = Some(bytes);
    response.lines = lines;
    response.samples = samples;
    response.longest_line =
        longest.map(|longest| Longest { line: longest.line, bytes: longest.bytes });
    response.cut_lines = statistics.cut_lines;
    response.family_count = families.len() as u64;
    response.beyond_series = beyond.map(|beyond| beyond.series);
    response.problem_count = statistics.problem_count;
    response.problems = statistics.problems.iter().map(Problem::from).collect();
    response.decisive = statistics.decisive.as_ref().map(Problem::from);
    response.promtool = statistics.promtool.as_ref().map(Problem::from);
    response.families = families
        .into_iter()
        .map(|family| Family {
            name: Escaped(&family.name).to_string(),
            kind: family.kind.label().to_owned(),
            series: family.series,
            bytes: family.bytes,
        })
        .collect();
}

impl From<&exposition::Problem> for Problem {
    fn from(problem: &exposition::Problem) -> Self {
        Self {
            line: problem.line,
            problem: problem.fault.to_string(),
            excerpt: Escaped(&problem.excerpt).to_string(),
        }
    }
}

fn header(head: &UpstreamHead, name: &HeaderName) -> Option<String> {
    let value = head.headers.get(name)?;
    Some(Escaped(String::from_utf8_lossy(value.as_bytes()).trim()).to_string())
}

fn described(framing: Framing) -> &'static str {
    match framing {
        Framing::Bodiless => "no body",
        Framing::Chunked => "by its last chunk",
        Framing::Length(_) => "by its Content-Length",
        Framing::UntilClose => "with the connection",
    }
}

/// Analyzes a body: its text, and gzip in one direction.
enum BodyAnalyzer {
    /// Uncompressed. The estimator finds the size with gzip.
    Plain(Analyzer, GzipEstimator),
    /// Compressed with gzip.
    Gzip(MultiGzDecoder<Text>),
    /// In a content coding that was not requested.
    Unknown,
}

impl BodyAnalyzer {
    fn new(encoding: Option<&str>, format: ExpositionFormat) -> Self {
        let text = Analyzer::new(format);
        match encoding {
            None => Self::Plain(text, GzipEstimator::new(SAMPLING)),
            Some(coding) if coding.eq_ignore_ascii_case("identity") => {
                Self::Plain(text, GzipEstimator::new(SAMPLING))
            }
            Some(coding) if coding.eq_ignore_ascii_case("gzip") => {
                Self::Gzip(MultiGzDecoder::new(Text(text)))
            }
            Some(_) => Self::Unknown,
        }
    }

    fn push(&mut self, data: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(text, estimator) => {
                text.push(data);
                estimator.push(data)
            }
            Self::Gzip(decoder) => decoder.write_all(data),
            Self::Unknown => Ok(()),
        }
    }

    /// The statistics, and the size with gzip if the estimator found it.
    fn finish(self, whole: bool) -> io::Result<Option<(Statistics, Option<u64>)>> {
        match self {
            Self::Plain(text, estimator) => {
                let bytes = estimator.finish()?;
                Ok(Some((end(text, whole), Some(bytes))))
            }
            Self::Gzip(mut decoder) => {
                if whole {
                    // Also checks the length and the checksum.
                    decoder.try_finish()?;
                }
                let nothing = Text(Analyzer::new(ExpositionFormat::Text));
                let Text(text) = std::mem::replace(decoder.get_mut(), nothing);
                Ok(Some((end(text, whole), None)))
            }
            Self::Unknown => Ok(None),
        }
    }
}

fn end(text: Analyzer, whole: bool) -> Statistics {
    if whole { text.finish() } else { text.stop() }
}

/// Finds the size of a text with gzip. An estimate for huge texts.
struct GzipEstimator {
    sampling: Sampling,
    encoder: GzEncoder<Count>,
    seen: u64,
    packed: u64,
}

impl GzipEstimator {
    fn new(sampling: Sampling) -> Self {
        Self { sampling, encoder: GzEncoder::new(Count(0), LEVEL), seen: 0, packed: 0 }
    }

    fn push(&mut self, data: &[u8]) -> io::Result<()> {
        let length = data.len() as u64;
        let Sampling { exact, window, sample } = self.sampling;
        let is_sampled = self.seen < exact || self.seen % window < sample;
        self.seen += length;
        if !is_sampled {
            return Ok(());
        }
        self.packed += length;
        self.encoder.write_all(data)
    }

    fn finish(self) -> io::Result<u64> {
        let Count(left) = self.encoder.finish()?;
        if self.packed == self.seen {
            return Ok(left);
        }
        Ok((left as f64 * self.seen as f64 / self.packed.max(1) as f64) as u64)
    }
}

/// A writer that only counts bytes.
struct Count(u64);

impl Write for Count {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.0 += data.len() as u64;
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A writer that passes the text to the analyzer.
struct Text(Analyzer);

impl Write for Text {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.0.push(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn the_size_with_gzip_is_exact_for_usual_answers_and_estimated_for_huge_ones() {
        let piece: Vec<u8> = (0..2000_u32)
            .flat_map(|number| {
                format!("a{{b=\"{}\"}} 1\n", number.wrapping_mul(2_654_435_761)).into_bytes()
            })
            .collect();
        let length = piece.len() as u64;
        let sampling = Sampling { exact: 20 * length, window: 10 * length, sample: length };
        let left = |pieces: u64| {
            let mut estimator = GzipEstimator::new(sampling);
            for _ in 0..pieces {
                estimator.push(&piece).unwrap();
            }
            assert_eq!(estimator.seen, pieces * length);
            (estimator.packed / length, estimator.finish().unwrap())
        };
        let (packed, exact) = left(20);
        assert_eq!(packed, 20);
        let (packed, estimate) = left(60);
        assert_eq!(packed, 24);
        let expected = 3 * exact;
        assert!(estimate.abs_diff(expected) < expected / 20, "{estimate}, {expected}");
    }
}
