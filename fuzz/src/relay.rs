//! Any bytes of an exporter, in any pieces, with any pauses and end, and a scraper that reads in
//! any way:
//!
//! - The body that the scraper gets is a prefix of the exporter's body, as [`wire`] reads it.
//! - The scraper has a complete message if and only if the exporter's message was complete, passed
//!   the integrity rule, was within `max-body` and in time, and the scraper read fast enough.
//! - The scraper gets the exporter's status and only the headers that docs/reference/http-api.md
//!   lists, or the proxy's own 502 or 504.
//! - The scrape is logged exactly once and counted exactly once, with the same outcome. The outcome
//!   is `complete`, `exporter_status` or `not_metrics` if and only if the message was complete.
//! - Everything is over by the deadline, the connection to the exporter is closed, and its permit
//!   is free again.
//! - The proxy never has more than [`MOST_HELD`] of the body in memory, and its task does not run
//!   idly.

use std::{
    num::NonZeroU32,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use scrapegate::{
    common::exporter::{Exporter, Integrity},
    upstream::{self, Connector},
};
use scrapegate_harness::in_memory::{
    Proxy, exporter_within,
    scripted::{Ending, Reader, Script, Stream, look},
};

use crate::{
    PATIENCE,
    records::{self, Record},
    rig,
    script::{self, Settings},
    wire::{self, Body, End, Head, Parsed},
};

/// Limit for the bytes of a body between reading and writing: 0.3 MiB
/// (docs/operations/performance.md).
const MOST_HELD: usize = 3 * 1024 * 1024 / 10;

/// How long after the deadline a scrape may end (docs/development/cases.md, I8).
const LATE: Duration = Duration::from_millis(100);

/// Closer to the deadline than this, both outcomes are right.
const CLOSE_CALL: Duration = Duration::from_millis(2);

/// More bytes than any refusal has.
const LONGEST_REFUSAL: usize = 512;

/// The outcomes of a scrape that was relayed completely.
const WHOLE: [&str; 3] = ["complete", "exporter_status", "not_metrics"];

/// Limit for bodies with `max-body`, in bytes.
const MAX_BODY: u64 = 1000;

/// Asserts the property. `input` is a script (see [`crate::script`]) with five settings: how the
/// exporter ends, how the scraper reads, flags (1: `HEAD`, 2: `integrity = transport`, 4:
/// `max-body`), how many bytes the scraper reads before it pauses (a power of two), and how long it
/// pauses (a power of two, in milliseconds).
///
/// # Panics
///
/// If the property does not hold.
pub fn check(input: &[u8]) {
    let scene = Scene::of(input);
    let (play, records) = records::during(|| rig::in_paused_time(scene.play()));
    let scrapes: Vec<_> = records
        .iter()
        .filter(|record| record.get("message").is_some_and(|it| it == "scrape"))
        .collect();
    let [record] = scrapes[..] else {
        panic!("{} records of one scrape: {records:?}", scrapes.len());
    };
    scene.judge(&play, record);
}

struct Scene {
    exporter: Script,
    reader: Reader,
    to_head: bool,
    integrity: Integrity,
    max_body: Option<u64>,
}

/// The results of a run.
struct Play {
    output: Vec<u8>,
    /// After each read from the exporter: bytes read, and bytes written to the scraper.
    samples: Vec<(usize, usize)>,
    elapsed: Duration,
    /// The proxy's metrics.
    counts: String,
}

impl Scene {
    fn of(input: &[u8]) -> Self {
        let (mut settings, sent) = Settings::of(input);
        let ending = script::ending(settings.next());
        let (reader, flags) = (settings.next(), settings.next());
        let amount = 1 << (settings.next() % 20);
        let pause = Duration::from_millis(1 << (settings.next() % 12));
        Self {
            exporter: script::script(settings.steps(), sent, ending),
            reader: match reader % 4 {
                0 => Reader::Fast,
                1 => Reader::Slow { amount, pause },
                2 => Reader::Stops { after: amount },
                _ => Reader::Leaves { after: amount },
            },
            to_head: flags & 1 != 0,
            integrity: if flags & 2 == 0 { Integrity::Strict } else { Integrity::Transport },
            max_body: (flags & 4 != 0).then_some(MAX_BODY),
        }
    }

    async fn play(&self) -> Play {
        let samples = Arc::new(Mutex::new(Vec::new()));
        let method = if self.to_head { "HEAD" } else { "GET" };
        let request = format!(
            "{method} /prometheus?exporter=n HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
        );
        let scraper = Stream::new(Script::at_once(request.as_bytes(), Ending::Open), self.reader);
        let log = scraper.log();

        let exporters = Arc::new(Mutex::new(Vec::new()));
        let connector = {
            let (script, log) = (self.exporter.clone(), Arc::clone(&log));
            let (samples, exporters) = (Arc::clone(&samples), Arc::clone(&exporters));
            Connector::other(move |_| {
                let (log, samples) = (Arc::clone(&log), Arc::clone(&samples));
                let stream = Stream::new(script.clone(), Reader::Fast).observed(move |read| {
                    locked(&samples).push((read, look(&log).written.len()));
                });
                locked(&exporters).push(stream.log());
                Ok(upstream::Stream::other(stream))
            })
        };
        let proxy = Proxy::of([self.exporter()], connector);
        let elapsed = rig::serve(&proxy, |state| scraper.report_to(state), self.most_polls()).await;

        let exporters = locked(&exporters);
        assert_eq!(exporters.len(), 1, "one connection to the exporter");
        let is_closed = exporters.iter().all(|log| Arc::strong_count(log) == 1);
        assert!(is_closed, "the exporter's connection is open");
        assert!(proxy.has_free_slots(), "the exporter's permit was not released");
        let output = std::mem::take(&mut look(&log).written);
        let samples = std::mem::take(&mut *locked(&samples));
        Play { output, samples, elapsed, counts: proxy.page() }
    }

    fn exporter(&self) -> Exporter {
        let mut exporter = exporter_within(PATIENCE);
        exporter.rules.integrity = self.integrity;
        exporter.rules.max_body = self.max_body;
        exporter.rules.max_concurrent = NonZeroU32::MIN;
        exporter
    }

    /// More bytes than the scraper can get.
    fn most_written(&self) -> usize {
        let sent: usize = self.exporter.pieces.iter().map(|(_, piece)| piece.len()).sum();
        // Each piece may be relayed as a separate chunk.
        sent + 16 * self.exporter.pieces.len() + 2048
    }

    /// How often the connection's task may run: the number of events, doubled.
    fn most_polls(&self) -> usize {
        let pauses = match self.reader {
            Reader::Slow { amount, pause } => {
                let in_time = 2 * PATIENCE.as_millis() / pause.as_millis();
                (self.most_written() / amount).min(usize::try_from(in_time).unwrap_or(usize::MAX))
            }
            Reader::Fast | Reader::Stops { .. } | Reader::Leaves { .. } => 0,
        };
        2 * (pauses + self.exporter.pieces.len()) + 64
    }

    fn judge(&self, play: &Play, record: &Record) {
        let sent = self.exporter.bytes();
        let answer = self.answer(&sent);
        let response = wire::response(&play.output, self.to_head);
        let got_all = response.as_ref().is_some_and(|response| response.end.is_some());
        let outcome = record.get("outcome").map(String::as_str).unwrap_or_default();
        let counts = format!("{{exporter=\"n\",outcome=\"{outcome}\"}} 1");
        assert_eq!(nonzero(&play.counts, "scrapegate_scrapes_total"), [counts]);
        assert_eq!(nonzero(&play.counts, "scrapegate_scrapes_in_flight"), [""; 0]);
        // Only a scrape whose response head was relayed has a first byte.
        let is_relayed = record.contains_key("first_byte_seconds");
        let is_whole = WHOLE.contains(&outcome);
        let is_truncated = is_relayed && !is_whole;
        let truncated = nonzero(&play.counts, "scrapegate_truncated_total");
        assert_eq!(truncated.len(), usize::from(is_truncated), "{outcome}: {truncated:?}");
        let leaves = matches!(self.reader, Reader::Leaves { .. });

        let most = if is_relayed { PATIENCE } else { 2 * PATIENCE };
        assert!(play.elapsed <= most + LATE, "over after {:?}: {outcome}", play.elapsed);
        if is_whole {
            assert!(is_relayed && got_all, "recorded as {outcome}");
        }

        let Some(answer) = answer else {
            assert!(!is_relayed, "relayed an invalid answer: {outcome}");
            let has_time = self.time_for(LONGEST_REFUSAL).is_some_and(|it| it < PATIENCE);
            assert!(got_all || !has_time, "a refusal is cut short: {outcome}");
            if let Some(response) = response {
                assert_is_refusal(&response, self.to_head);
            }
            return;
        };
        assert_little_is_held(&answer.body, &play.samples);
        if let Some(response) = response {
            if is_relayed {
                answer.assert_is_source_of(&response, &sent);
            } else {
                assert_is_refusal(&response, self.to_head);
            }
        }
        let complete = answer.complete;
        if is_relayed && got_all {
            let at = complete.unwrap_or_else(|| panic!("complete without a reason: {outcome}"));
            assert!(at <= PATIENCE + CLOSE_CALL, "complete after the deadline, at {at:?}");
            assert!(leaves || is_whole, "complete, but recorded as {outcome}");
            assert!(!is_whole || outcome == answer.outcome(), "recorded as {outcome}");
        }
        let read = complete.zip(self.time_for(self.most_written())).map(|(at, time)| at + time);
        if read.is_some_and(|at| at + CLOSE_CALL < PATIENCE) {
            assert!(is_relayed && got_all, "complete and in time, but {outcome}");
        }
    }

    /// How long the scraper needs for at most this number of bytes. `None` if it may never get
    /// them.
    fn time_for(&self, bytes: usize) -> Option<Duration> {
        match self.reader {
            Reader::Fast => Some(Duration::ZERO),
            Reader::Slow { amount, pause } => {
                let pauses = u32::try_from(bytes / amount + 1).ok()?;
                pause.checked_mul(pauses)
            }
            Reader::Stops { after } | Reader::Leaves { after } => {
                (after >= bytes).then_some(Duration::ZERO)
            }
        }
    }
}

/// The meaning of an exporter's bytes, as far as they can be relayed.
struct Answer<'a> {
    status: u16,
    head: Head<'a>,
    body: Body,
    /// When the message was complete and known to pass the integrity rule.
    complete: Option<Duration>,
}

impl Scene {
    /// Parses `sent`. `None` if it does not begin with an answer that may be relayed.
    fn answer<'a>(&self, sent: &'a [u8]) -> Option<Answer<'a>> {
        let (mut start, mut skipped) = (0, 0);
        let (minor, status, head) = loop {
            let Parsed::Whole(head) = wire::exporter_head(&sent[start..]) else {
                return None;
            };
            let (minor, status) = wire::status_line(head.first_line)?;
            skipped += head.length;
            if skipped > wire::MAX_HEAD {
                return None;
            }
            start += head.length;
            match status {
                101 | 204 | 205 | 206 | 300..400 => return None,
                100..200 => {}
                _ => break (minor, status, head),
            }
        };
        let body = self.body(minor, &head, sent, start)?;
        let complete = self.complete(status, &head, &body, sent);
        Some(Answer { status, head, body, complete })
    }

    /// The body that begins at `start` (RFC 9112 §6.3). `None` if its framing is refused.
    fn body(&self, minor: u8, head: &Head<'_>, sent: &[u8], start: usize) -> Option<Body> {
        if self.to_head {
            return Some(wire::counted(sent, start, 0));
        }
        match head.all("transfer-encoding")[..] {
            [] => {}
            [coding] if minor == 1 && coding.eq_ignore_ascii_case(b"chunked") => {
                return Some(wire::chunked(sent, start));
            }
            _ => return None,
        }
        let lengths = head.all("content-length");
        if lengths.is_empty() {
            let all = start..sent.len();
            return Some(Body { ranges: vec![all], end: End::WithConnection });
        }
        let mut lengths = lengths
            .iter()
            .flat_map(|value| value.split(|&byte| byte == b','))
            .map(|length| number(wire::trimmed(length)));
        let length = lengths.next()??;
        if lengths.any(|other| other != Some(length))
            || self.max_body.is_some_and(|most| length > most)
        {
            return None;
        }
        Some(wire::counted(sent, start, length))
    }

    fn complete(&self, status: u16, head: &Head<'_>, body: &Body, sent: &[u8]) -> Option<Duration> {
        let at = match body.end {
            End::At(count) => self.exporter.arrival_of(count),
            End::WithConnection if self.exporter.ending == Ending::Fin => self.exporter.ends,
            End::WithConnection | End::Never => return None,
        };
        let contents = body.contents(sent);
        let fits = self.max_body.is_none_or(|most| contents.len() as u64 <= most);
        let is_judged = self.integrity == Integrity::Strict
            && !self.to_head
            && (200..300).contains(&status)
            && head.all("content-encoding").iter().all(|it| it.eq_ignore_ascii_case(b"identity"));
        let is_sound = if !is_judged {
            true
        } else if is_openmetrics(head) {
            // The last line, without the empty rest after a final line feed.
            let text = contents.strip_suffix(b"\n").unwrap_or(&contents);
            text.rsplit(|&byte| byte == b'\n').next() == Some(b"# EOF")
        } else {
            body.end != End::WithConnection || contents.ends_with(b"\n")
        };
        (fits && is_sound).then_some(at)
    }
}

fn is_openmetrics(head: &Head<'_>) -> bool {
    head.all("content-type").first().is_some_and(|value| {
        let essence = value.split(|&byte| byte == b';').next().unwrap_or_default();
        wire::trimmed(essence).eq_ignore_ascii_case(b"application/openmetrics-text")
    })
}

fn number(digits: &[u8]) -> Option<u64> {
    let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    is_number.then(|| std::str::from_utf8(digits).ok()?.parse().ok()).flatten()
}

impl Answer<'_> {
    /// The outcome of a completely relayed scrape, according to what Prometheus accepts.
    fn outcome(&self) -> &'static str {
        let types = self.head.all("content-type");
        let named = types.first().map(|value| {
            let end = value.iter().position(|&byte| byte == b';').unwrap_or(value.len());
            String::from_utf8_lossy(wire::trimmed(&value[..end])).to_ascii_lowercase()
        });
        let is_blank = types.first().is_none_or(|value| value.is_empty());
        match named.as_deref() {
            _ if self.status != 200 => "exporter_status",
            _ if is_blank => "complete",
            Some("text/plain" | "application/openmetrics-text") => "complete",
            Some("application/vnd.google.protobuf") => "complete",
            _ => "not_metrics",
        }
    }

    fn assert_is_source_of(&self, response: &wire::Response<'_>, sent: &[u8]) {
        assert_eq!(response.status, self.status);
        for name in
            ["content-type", "content-encoding", "last-modified", "etag", "vary", "retry-after"]
        {
            assert_eq!(response.head.all(name), self.head.all(name), "{name}");
        }
        assert_headers_are_known(&response.head, &[]);
        let body = self.body.contents(sent);
        assert!(
            body.starts_with(&response.body),
            "the relayed body is not a prefix of the exporter's body"
        );
        if response.end.is_some() {
            assert_eq!(body.len(), response.body.len(), "the body ends before the exporter's body");
        }
    }
}

/// Asserts that all headers are known. `own` are additional headers of the proxy's own responses.
fn assert_headers_are_known(head: &Head<'_>, own: &[&str]) {
    const KNOWN: [&str; 10] = [
        "content-type",
        "content-encoding",
        "last-modified",
        "etag",
        "vary",
        "retry-after",
        "content-length",
        "transfer-encoding",
        "connection",
        "date",
    ];
    for (name, _) in &head.fields {
        let is_known = KNOWN.contains(&name.as_str()) || own.contains(&name.as_str());
        assert!(is_known, "{name} was relayed");
    }
}

/// The samples of a metric that are not 0, without its name.
fn nonzero<'a>(page: &'a str, metric: &str) -> Vec<&'a str> {
    let samples = page.lines().filter_map(|line| line.strip_prefix(metric));
    samples.filter(|sample| sample.starts_with('{') && !sample.ends_with(" 0")).collect()
}

/// Asserts that the response is one of the proxy itself: one line of text.
fn assert_is_refusal(response: &wire::Response<'_>, to_head: bool) {
    assert!([502, 504].contains(&response.status), "{}", response.status);
    assert_headers_are_known(&response.head, &["server"]);
    if response.end.is_some() && !to_head {
        let lines = response.body.iter().filter(|&&byte| byte == b'\n').count();
        assert!(lines == 1 && response.body.ends_with(b"\n"), "{}", response.body.escape_ascii());
    }
}

fn assert_little_is_held(body: &Body, samples: &[(usize, usize)]) {
    let mut ranges = body.ranges.iter().peekable();
    let mut whole = 0;
    for &(read, written) in samples {
        while let Some(range) = ranges.next_if(|range| range.end <= read) {
            whole += range.len();
        }
        let part = ranges.peek().map_or(0, |range| read.saturating_sub(range.start));
        let held = (whole + part).saturating_sub(written);
        assert!(held <= MOST_HELD, "{held} bytes held");
    }
}

fn locked<T>(shared: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
