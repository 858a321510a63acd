//! What an answer is made of. Its time is not measured: looking costs some.

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
    measurement::{Anatomy, Family, Longest, Problem},
    scrape::{Answer, Failure},
};
use crate::{
    exporter::Exporter,
    exposition::{self, Format, Reader, Statistics},
    relay::is_openmetrics,
    upstream::{Framing, UpstreamHead},
};

/// How hard gzip tries when it is only asked how many bytes it would leave: as Go's exporters do.
const LEVEL: Compression = Compression::new(6);

/// Which part of a text is put through gzip, in bytes.
#[derive(Clone, Copy, Debug)]
struct Sampling {
    /// All of it up to here.
    exact: u64,
    /// Behind that, of each so many bytes …
    window: u64,
    /// … the first so many. The others are taken to be like them.
    sample: u64,
}

/// gzip at this level is many times as slow as all else that is done here.
const SAMPLING: Sampling = Sampling { exact: 32 << 20, window: 16 << 20, sample: 1 << 20 };

/// How much longer than the exporter's `timeout` an answer may be looked at, as its multiple.
///
/// While we look, the exporter is kept waiting, and its deadline moves. Without an end to this, one
/// that never stops sending would be looked at for ever. What comes later is only counted.
const MOST_EFFORT: u32 = 10;

/// Scrapes once and looks into the answer.
///
/// # Errors
/// When the scrape is not complete, or its gzip is broken.
pub(super) async fn survey(exporter: &Exporter, request: &Parts) -> Result<Anatomy, Failure> {
    let mut answer = Answer::open(exporter, request).await?;
    let format =
        if is_openmetrics(&answer.head.headers) { Format::OpenMetrics } else { Format::Text };
    let encoding = header(&answer.head, &CONTENT_ENCODING);
    let mut look = Look::new(encoding.as_deref(), format);
    let most = exporter.rules.timeout.as_duration() * MOST_EFFORT;
    let (mut effort, mut wire_bytes, mut looked_at) = (Duration::ZERO, 0, 0);
    while let Some(data) = answer.next().await? {
        wire_bytes += data.len() as u64;
        if effort < most {
            looked_at += data.len() as u64;
            let begun = Instant::now();
            look.push(&data).map_err(Failure::Gzip)?;
            let spent = begun.elapsed();
            effort += spent;
            answer.grant(spent);
        }
    }
    let whole = looked_at == wire_bytes;
    let found = look.finish(whole).map_err(Failure::Gzip)?;
    let mut anatomy = Anatomy {
        content_type: header(&answer.head, &CONTENT_TYPE),
        content_encoding: encoding,
        openmetrics: format == Format::OpenMetrics,
        end: told(answer.head.framing).to_owned(),
        wire_bytes,
        looked_at: (!whole).then_some(looked_at),
        ..Anatomy::default()
    };
    if let Some((statistics, gzip_bytes)) = found {
        fill(&mut anatomy, statistics);
        anatomy.gzip_bytes = gzip_bytes.or(Some(wire_bytes)).filter(|_| whole);
    }
    Ok(anatomy)
}

/// Names and excerpts are kept escaped, so that no program that prints them can be hurt.
fn fill(anatomy: &mut Anatomy, statistics: Statistics) {
    anatomy.acceptance = statistics.acceptance();
    let Statistics { bytes, lines, samples, families, beyond, longest, .. } = statistics;
    anatomy.bytes = Some(bytes);
    anatomy.lines = lines;
    anatomy.samples = samples;
    anatomy.longest_line =
        longest.map(|longest| Longest { line: longest.line, bytes: longest.bytes });
    anatomy.cut_lines = statistics.cut_lines;
    anatomy.family_count = families.len() as u64;
    anatomy.beyond_series = beyond.map(|beyond| beyond.series);
    anatomy.problem_count = statistics.problem_count;
    anatomy.problems = statistics.problems.iter().map(Problem::from).collect();
    anatomy.decisive = statistics.decisive.as_ref().map(Problem::from);
    anatomy.promtool = statistics.promtool.as_ref().map(Problem::from);
    anatomy.families = families
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

fn told(framing: Framing) -> &'static str {
    match framing {
        Framing::Bodiless => "no body",
        Framing::Chunked => "by its last chunk",
        Framing::Length(_) => "by its Content-Length",
        Framing::UntilClose => "with the connection",
    }
}

/// A body on its way through gzip, one way or the other, and the reader of its text.
enum Look {
    /// As it is; how many bytes gzip would leave is found by doing it.
    Plain(Reader, Packer),
    /// Compressed.
    Gzip(MultiGzDecoder<Text>),
    /// In a coding that was not asked for.
    Unknown,
}

impl Look {
    fn new(encoding: Option<&str>, format: Format) -> Self {
        let reader = Reader::new(format);
        match encoding {
            None => Self::Plain(reader, Packer::new(SAMPLING)),
            Some(coding) if coding.eq_ignore_ascii_case("identity") => {
                Self::Plain(reader, Packer::new(SAMPLING))
            }
            Some(coding) if coding.eq_ignore_ascii_case("gzip") => {
                Self::Gzip(MultiGzDecoder::new(Text(reader)))
            }
            Some(_) => Self::Unknown,
        }
    }

    fn push(&mut self, data: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(reader, packer) => {
                reader.push(data);
                packer.push(data)
            }
            Self::Gzip(decoder) => decoder.write_all(data),
            Self::Unknown => Ok(()),
        }
    }

    /// The statistics, and how many bytes gzip left, if it was for us to find out.
    fn finish(self, whole: bool) -> io::Result<Option<(Statistics, Option<u64>)>> {
        match self {
            Self::Plain(reader, packer) => {
                let bytes = packer.finish()?;
                Ok(Some((end(reader, whole), Some(bytes))))
            }
            Self::Gzip(mut decoder) => {
                if whole {
                    // Checks length and sum, too.
                    decoder.try_finish()?;
                }
                let nothing = Text(Reader::new(Format::Text));
                let Text(reader) = std::mem::replace(decoder.get_mut(), nothing);
                Ok(Some((end(reader, whole), None)))
            }
            Self::Unknown => Ok(None),
        }
    }
}

fn end(reader: Reader, whole: bool) -> Statistics {
    if whole { reader.finish() } else { reader.stop() }
}

/// Finds out how many bytes gzip would leave.
struct Packer {
    sampling: Sampling,
    encoder: GzEncoder<Count>,
    seen: u64,
    packed: u64,
}

impl Packer {
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

/// Counts bytes.
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

/// Reads text.
struct Text(Reader);

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
    fn what_gzip_would_leave_is_exact_for_usual_answers_and_near_for_huge_ones() {
        let piece: Vec<u8> = (0..2000_u32)
            .flat_map(|number| {
                format!("a{{b=\"{}\"}} 1\n", number.wrapping_mul(2_654_435_761)).into_bytes()
            })
            .collect();
        let length = piece.len() as u64;
        let sampling = Sampling { exact: 20 * length, window: 10 * length, sample: length };
        let left = |pieces: u64| {
            let mut packer = Packer::new(sampling);
            for _ in 0..pieces {
                packer.push(&piece).unwrap();
            }
            assert_eq!(packer.seen, pieces * length);
            (packer.packed / length, packer.finish().unwrap())
        };
        let (packed, exact) = left(20);
        assert_eq!(packed, 20);
        let (packed, estimate) = left(60);
        assert_eq!(packed, 24);
        let expected = 3 * exact;
        assert!(estimate.abs_diff(expected) < expected / 20, "{estimate}, {expected}");
    }
}
