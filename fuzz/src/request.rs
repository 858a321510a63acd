//! Any bytes of a scraper, in any pieces and with any pauses and end:
//!
//! - Each request that an exporter gets is exactly the request that docs/operations/security.md
//!   describes for one of the scraper's requests, as [`wire`] and [`Asked`] read them, in order.
//! - There are not more requests to exporters, and not more responses, than complete requests,
//!   except for one last response that reports what is wrong with the bytes after them.
//! - Requests without anything unusual are all answered, with the right status.

use std::{
    num::NonZeroU32,
    sync::{Arc, Mutex, PoisonError},
};

use scrapegate::{
    common::exporter::{Exporter, ExporterName, ExporterPath},
    upstream::{self, Connector},
};
use scrapegate_harness::in_memory::{
    Proxy, exporter_within,
    scripted::{Ending, Reader, Script, Stream, look},
};

use crate::{
    PATIENCE,
    query::{Asked, names_exporter},
    records, rig,
    script::{self, Settings},
    wire::{self, Head, Parsed},
};

/// The response of every exporter.
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\na 1\n";

/// Name, path, and whether parameters are forwarded.
const EXPORTERS: [(&str, &str, bool); 3] =
    [("n", "/metrics", true), ("a b", "/probe?x=1", true), ("ä", "/metrics", false)];

/// Asserts the property. `input` is a script (see [`crate::script`]) with one setting: how the
/// scraper ends.
///
/// # Panics
///
/// If the property does not hold.
pub fn check(input: &[u8]) {
    let (mut settings, sent) = Settings::of(input);
    let ending = script::ending(settings.next());
    let script = script::script(settings.steps(), sent, ending);
    let (play, _) = records::during(|| rig::in_paused_time(play(&script)));
    let sent = script.bytes();
    let requests = requests(&sent);
    let responses = responses(&play.output, &requests);
    assert_exporters_got_what_was_asked(&requests, &responses, &play.upstream, ending);
    if ending == Ending::Open && script.ends.is_zero() {
        assert_usual_ones_are_answered(&requests, &responses, &play.upstream);
    }
}

/// The results of a run.
struct Play {
    output: Vec<u8>,
    /// The requests that the exporters got.
    upstream: Vec<Vec<u8>>,
}

async fn play(script: &Script) -> Play {
    let logs = Arc::new(Mutex::new(Vec::new()));
    let connector = {
        let logs = Arc::clone(&logs);
        Connector::other(move |_| {
            let stream = Stream::new(Script::at_once(ANSWER, Ending::Open), Reader::Fast);
            logs.lock().unwrap_or_else(PoisonError::into_inner).push(stream.log());
            Ok(upstream::Stream::other(stream))
        })
    };
    let proxy = Proxy::of(EXPORTERS.map(exporter), connector);
    let scraper = Stream::new(script.clone(), Reader::Fast);
    let output = scraper.log();
    // Each request has at least one line, and the proxy waits for nothing within a request.
    let most = 64 + 4 * script.pieces.len() + script.bytes().len();
    rig::serve(&proxy, |state| scraper.report_to(state), most).await;
    assert!(proxy.has_free_slots(), "a permit was not released");

    let logs = std::mem::take(&mut *logs.lock().unwrap_or_else(PoisonError::into_inner));
    let taken = |log: Arc<Mutex<_>>| {
        assert_eq!(Arc::strong_count(&log), 1, "a connection to an exporter is open");
        std::mem::take(&mut look(&log).written)
    };
    let upstream = logs.into_iter().map(taken).collect();
    let output = std::mem::take(&mut look(&output).written);
    Play { output, upstream }
}

fn exporter((name, path, forward_params): (&str, &str, bool)) -> Exporter {
    let mut exporter = exporter_within(PATIENCE);
    exporter.name = ExporterName::new(name).expect("a name");
    exporter.path = ExporterPath::new(path).expect("a path");
    exporter.rules.forward_params = forward_params;
    exporter.rules.max_concurrent = NonZeroU32::MIN;
    exporter
}

/// The complete head of a request.
struct Request<'a> {
    head: Head<'a>,
    method: &'a [u8],
    target: &'a [u8],
    version: &'a [u8],
}

/// All complete requests, up to the first bytes that are not a request. Bodies are not parsed,
/// because the proxy reads nothing after a request with a body.
fn requests(mut sent: &[u8]) -> Vec<Request<'_>> {
    let mut requests = Vec::new();
    loop {
        // Empty lines before a request are skipped (RFC 9112 §2.2).
        while let Some(rest) = sent.strip_prefix(b"\r\n").or_else(|| sent.strip_prefix(b"\n")) {
            sent = rest;
        }
        let Parsed::Whole(head) = wire::head(sent) else {
            return requests;
        };
        sent = &sent[head.length..];
        let mut parts = head.first_line.splitn(3, |&byte| byte == b' ');
        let mut part = || parts.next().unwrap_or_default();
        let (method, target, version) = (part(), part(), part());
        requests.push(Request { head, method, target, version });
    }
}

/// All responses. Only the last one can be cut short.
fn responses<'a>(mut output: &'a [u8], requests: &[Request<'_>]) -> Vec<wire::Response<'a>> {
    let mut responses = Vec::new();
    while !output.is_empty() {
        let to_head = requests.get(responses.len()).is_some_and(|it| it.method == b"HEAD");
        let Some(response) = wire::response(output, to_head) else {
            break;
        };
        output = response.end.map_or(&[], |end| &output[end..]);
        responses.push(response);
    }
    responses
}

/// The meaning of a request.
enum Meant {
    /// The response has this status, and no exporter is asked.
    Status(u16),
    /// An exporter gets this request.
    Scrape(Vec<u8>),
}

impl Request<'_> {
    /// The meaning of the request, if the proxy accepts it.
    fn meant(&self) -> Meant {
        let whole = self.target;
        // A target that begins with a slash has no scheme, whatever its query contains.
        let scheme_end = whole.windows(3).position(|it| it == b"://" && !whole.starts_with(b"/"));
        let after_scheme = scheme_end.map_or(0, |at| at + 3);
        let from_path = &whole[after_scheme..];
        let path_start = from_path.iter().position(|&byte| byte == b'/');
        let from_path = path_start.map_or(&b""[..], |at| &from_path[at..]);
        let before_fragment = from_path.split(|&byte| byte == b'#').next().unwrap_or_default();
        let mut halves = before_fragment.splitn(2, |&byte| byte == b'?');
        let path = halves.next().unwrap_or_default();
        match path {
            b"/metrics" if names_exporter(halves.next().unwrap_or_default()) => {
                return Meant::Status(400);
            }
            b"/" | b"/metrics" | b"/-/healthy" | b"/-/ready" => return Meant::Status(200),
            b"/prometheus" => {}
            _ => return Meant::Status(404),
        }
        let (name, forwarded) = match Asked::by(halves.next().unwrap_or_default()) {
            Asked::Nothing => return Meant::Status(200),
            Asked::Refused(_) => return Meant::Status(400),
            Asked::Exporter { name, forwarded } => (name, forwarded),
        };
        let Some((_, path, forward_params)) = EXPORTERS.iter().find(|(it, ..)| *it == name) else {
            return Meant::Status(404);
        };
        let mut upstream = [self.method, b" ", path.as_bytes()].concat();
        if *forward_params && !forwarded.is_empty() {
            upstream.push(if path.contains('?') { b'&' } else { b'?' });
            upstream.extend_from_slice(&forwarded);
        }
        upstream.extend_from_slice(
            b" HTTP/1.1\r\nhost: nowhere.invalid:1\r\nconnection: close\r\n\
            x-prometheus-scrape-timeout-seconds: ",
        );
        // The header with the remaining time follows here.
        upstream.extend_from_slice(b"\r\n");
        for name in ["accept", "accept-encoding", "user-agent"] {
            for value in self.head.all(name) {
                upstream.extend_from_slice(&[name.as_bytes(), b": ", value, b"\r\n"].concat());
            }
        }
        upstream.extend_from_slice(b"\r\n");
        Meant::Scrape(upstream)
    }

    /// Whether the answer must depend only on path and query.
    fn is_usual(&self) -> bool {
        const FIELDS: [&str; 8] = [
            "host",
            "accept",
            "accept-encoding",
            "user-agent",
            "cookie",
            "authorization",
            "x-forwarded-for",
            "x-prometheus-scrape-timeout-seconds",
        ];
        let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/?&=%+._-[]".contains(byte);
        let hosts = self.head.all("host");
        let host_is_plain = hosts.len() == 1
            && !hosts[0].is_empty()
            && hosts[0].iter().all(|byte| byte.is_ascii_alphanumeric());
        [&b"GET"[..], b"HEAD"].contains(&self.method)
            && self.target.starts_with(b"/")
            && self.target.iter().all(is_plain)
            // These paths have their own rules and no exporter.
            && !["/autotls", "/prometheus/sd", "/-/reload"]
                .iter()
                .any(|path| self.target.starts_with(path.as_bytes()))
            && self.version == b"HTTP/1.1"
            && host_is_plain
            && self.head.fields.iter().all(|(name, _)| FIELDS.contains(&name.as_str()))
            && self.head.fields.len() < 50
            && self.head.length < 4096
    }
}

/// A request to an exporter, without the value of the header with the remaining time.
fn without_time(upstream: &[u8]) -> Vec<u8> {
    const NAME: &[u8] = b"x-prometheus-scrape-timeout-seconds: ";
    let start = upstream.windows(NAME.len()).position(|window| window == NAME);
    let start = start.expect("the time that is left") + NAME.len();
    let length = upstream[start..].iter().position(|&byte| byte == b'\r').expect("a line's end");
    let (time, rest) = upstream[start..].split_at(length);
    let time: f64 = std::str::from_utf8(time).expect("text").parse().expect("a number");
    assert!((0.0..=PATIENCE.as_secs_f64()).contains(&time), "{time} s are left");
    [&upstream[..start], rest].concat()
}

fn assert_exporters_got_what_was_asked(
    requests: &[Request<'_>],
    responses: &[wire::Response<'_>],
    upstream: &[Vec<u8>],
    ending: Ending,
) {
    let mut asked = requests.iter().filter_map(|request| match request.meant() {
        Meant::Scrape(upstream) => Some(upstream),
        Meant::Status(_) => None,
    });
    for got in upstream {
        let got = without_time(got);
        assert!(asked.any(|asked| asked == got), "no request asked for {}", got.escape_ascii());
    }
    let unanswered = usize::from(ending != Ending::Open);
    assert!(
        upstream.len() <= responses.len() + unanswered,
        "{} requests to exporters without a response",
        upstream.len()
    );
    if let Some(last) = responses.last().filter(|_| responses.len() > requests.len()) {
        assert!(responses.len() == requests.len() + 1, "{} too many", responses.len());
        assert!((400..500).contains(&last.status), "status {} without a request", last.status);
    }
}

fn assert_usual_ones_are_answered(
    requests: &[Request<'_>],
    responses: &[wire::Response<'_>],
    upstream: &[Vec<u8>],
) {
    let mut upstream = upstream.iter();
    for (number, request) in requests.iter().take_while(|request| request.is_usual()).enumerate() {
        let response = responses.get(number).unwrap_or_else(|| panic!("{number} has no answer"));
        assert!(response.end.is_some(), "the answer to {number} is cut short");
        let status = match request.meant() {
            Meant::Status(status) => status,
            Meant::Scrape(expected) => {
                let got = upstream.next().unwrap_or_else(|| panic!("{number} was not forwarded"));
                assert_eq!(without_time(got), expected);
                200
            }
        };
        assert_eq!(response.status, status, "the answer to {number}");
    }
}
