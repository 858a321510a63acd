//! `scrapegate probe`: what it reports about an exporter, and its exit codes.

use std::{
    fs,
    io::Write as _,
    net::TcpListener,
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use flate2::{Compression, write::GzEncoder};
use scrapegate_harness::{
    exporter::{Conversation, Exporter, Gate, Script},
    proxy::binary,
};
use serde_json::Value;
use tempfile::TempDir;

use crate::{Ended, run};

pub(crate) const TEXT: &str = "Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n";
const OPENMETRICS: &str = "Content-Type: application/openmetrics-text; version=1.0.0\r\n";

/// Two families with five samples, 186 bytes.
pub(crate) const SOUND: &str = "\
# HELP wait_seconds How long.
# TYPE wait_seconds histogram
wait_seconds_bucket{le=\"1\"} 1
wait_seconds_bucket{le=\"+Inf\"} 2
wait_seconds_sum 1.5
wait_seconds_count 2
# TYPE up gauge
up 1
";

/// A script that always sends the same response, with a Content-Length.
pub(crate) fn answering(headers: &'static str, body: impl Into<Vec<u8>>) -> impl Script {
    let body = body.into();
    move |conversation: &mut Conversation| {
        conversation.read_request()?;
        let length = body.len();
        conversation
            .send(format!("HTTP/1.1 200 OK\r\n{headers}Content-Length: {length}\r\n\r\n"))?;
        conversation.send(&body)
    }
}

/// A folder with an exporters file and no `config.ini`.
pub(crate) struct Probed {
    folder: TempDir,
}

impl Probed {
    pub(crate) fn new(exporters: &str) -> Self {
        let folder = TempDir::with_prefix("scrapegate-probe-").expect("a temporary folder");
        fs::write(folder.path().join("exporters.ini"), exporters).expect("written");
        Self { folder }
    }

    pub(crate) fn of(exporter: &Exporter, keys: &str) -> Self {
        Self::new(&format!("{}{keys}", exporter.section("e")))
    }

    pub(crate) fn path(&self, file: &str) -> String {
        self.folder.path().join(file).display().to_string()
    }

    #[track_caller]
    pub(crate) fn probe(&self, arguments: &[&str]) -> Ended {
        let file = self.path("exporters.ini");
        run(["probe", "e", "--exporters", &file].into_iter().chain(arguments.iter().copied()))
    }

    /// Probes with `--json` and parses the output.
    #[track_caller]
    pub(crate) fn json(&self, code: i32, arguments: &[&str]) -> Value {
        let ended = self.probe(&[&["--json"], arguments].concat());
        let text = ended.out.join("\n");
        assert_eq!(ended.code, Some(code), "{text}\n{}", ended.errors());
        let value: Value =
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        assert_eq!(value["exit_code"], code);
        value
    }

    /// Probes, and asserts the exit code and that the last line contains all of `words`.
    #[track_caller]
    fn assert_ends(&self, code: i32, words: &[&str]) -> Ended {
        let ended = self.probe(&[]);
        assert_eq!(ended.code, Some(code), "{:#?} {}", ended.out, ended.errors());
        let last = ended.out.last().expect("a line");
        for word in words {
            assert!(last.contains(word), "{word:?} not in {last}");
        }
        ended
    }
}

/// The value of a label. Also asserts the format of all performance data.
#[track_caller]
pub(crate) fn perfdata(line: &str, label: &str) -> f64 {
    let (_, data) = line.split_once(" | ").unwrap_or_else(|| panic!("no data in {line}"));
    let mut found = None;
    for datum in data.split(' ') {
        let (name, fields) = datum
            .strip_prefix('\'')
            .and_then(|rest| rest.split_once("'="))
            .unwrap_or_else(|| panic!("{datum}"));
        let fields: Vec<_> = fields.split(';').collect();
        assert_eq!(fields.len(), 5, "value;warn;crit;min;max: {datum}");
        let value = fields[0].trim_end_matches(|c: char| "sB%".contains(c));
        let value: f64 = value.parse().unwrap_or_else(|_| panic!("{datum}"));
        for bound in &fields[1..] {
            assert!(bound.is_empty() || bound.parse::<f64>().is_ok(), "{datum}");
        }
        if name == label {
            found = Some(value);
        }
    }
    found.unwrap_or_else(|| panic!("no {label} in {line}"))
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text.as_bytes()).expect("into memory");
    encoder.finish().expect("into memory")
}

#[test]
fn figures_and_performance_data_are_printed_for_an_exporter_that_is_up() {
    let exporter = Exporter::start(answering(TEXT, SOUND));
    let ended =
        Probed::of(&exporter, "").assert_ends(0, &["PROBE OK - e: 5 samples, 186 bytes in "]);
    let line = ended.out.last().expect("a line");
    assert!(perfdata(line, "time") >= perfdata(line, "first_byte"));
    for (label, value) in
        [("size", 186.0), ("wire_size", 186.0), ("samples", 5.0), ("families", 2.0)]
    {
        assert_eq!(perfdata(line, label), value, "{label}");
    }
    let has = |words: &str| ended.out.iter().any(|line| line.contains(words));
    for words in ["first byte", "total", "suggested: 1 s", " with gzip", "by its Content-Length"] {
        assert!(has(words), "{words} in {:#?}", ended.out);
    }
    assert!(has("wait_seconds      histogram  4"), "{:#?}", ended.out);
    // One request to inspect the response, one to measure.
    let requests = exporter.requests();
    assert_eq!(requests.len(), 2);
    for header in
        ["accept-encoding: gzip", "application/openmetrics-text", "user-agent: scrapegate/"]
    {
        assert!(requests[0].to_lowercase().contains(header), "{requests:?}");
    }
}

#[test]
fn with_plugin_only_the_line_for_monitoring_is_printed() {
    let exporter = Exporter::start(answering(TEXT, SOUND));
    let ended = Probed::of(&exporter, "").probe(&["--plugin"]);
    assert_eq!((ended.code, ended.out.len()), (Some(0), 1), "{:#?}", ended.out);
    perfdata(&ended.out[0], "time");
}

#[test]
fn json_has_the_figures_and_the_largest_families() {
    let exporter = Exporter::start(answering(TEXT, SOUND));
    let probed = Probed::of(&exporter, "timeout = 4\n");
    let said = probed.json(0, &["--repeat", "3", "--top", "1"]);
    assert_eq!(said["state"], "OK");
    assert_eq!(said["direct"]["total"]["runs"], 3);
    assert_eq!(said["suggested_timeout_seconds"], 1.0);
    let answer = &said["measurement"]["answer"];
    assert_eq!((&answer["bytes"], &answer["samples"]), (&186.into(), &5.into()));
    assert!(answer["gzip_bytes"].as_u64().is_some_and(|bytes| bytes < 186), "{answer}");
    let largest = answer["largest_families"].as_array().expect("a list");
    assert_eq!(largest.len(), 1);
    assert_eq!(largest[0]["name"], "wait_seconds");
    assert_eq!(answer["longest_line"], serde_json::json!({"line": 4, "bytes": 32}));
}

#[test]
fn a_filter_is_applied_and_both_sizes_are_reported() {
    let body =
        "# TYPE a histogram\na_bucket{le=\"1\"} 1\na_sum 1\na_count 1\nb 1\nb{c=\"d\"} 2\nc 3\n";
    let exporter = Exporter::start(answering(TEXT, body));
    let files = Probed::of(&exporter, "metrics-drop = a|c\n");
    let result = files.json(0, &[]);
    let answer = &result["measurement"]["answer"];
    let left = serde_json::json!({
        "bytes": "b 1\nb{c=\"d\"} 2\n".len(), "samples": 2, "family_count": 1, "families_dropped": 2,
    });
    assert_eq!(answer["filtered"], left);
    assert_eq!((&answer["samples"], &answer["family_count"]), (&6.into(), &3.into()));
    let request = exporter.requests().pop().expect("a request");
    assert!(request.contains("\r\naccept-encoding: identity\r\n"), "{request}");
    let line = "  after the filter    15 bytes, 2 samples in 1 family; 2 families left out";
    assert!(files.probe(&[]).out.iter().any(|it| it == line));

    let gzipped = Exporter::start(answering("Content-Encoding: gzip\r\n", gzip(body)));
    let files = Probed::of(&gzipped, "metrics-drop = a\n");
    files.assert_ends(2, &["exporter's answer cannot be filtered: it has a content coding"]);
}

#[test]
fn an_exporter_that_is_down_is_critical() {
    let closed = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = closed.local_addr().expect("bound").port();
    drop(closed);
    let section = format!("[e]\nenabled = True\nhost = 127.0.0.1\nport = {port}\npath = /m\n");
    let probed = Probed::new(&section);
    probed.assert_ends(2, &["PROBE CRITICAL - e: ", "refused the connection"]);
    assert_eq!(probed.json(2, &[])["state"], "CRITICAL");
}

#[test]
fn an_exporter_that_does_not_answer_in_time_is_critical() {
    let silent = Exporter::start(|conversation: &mut Conversation| {
        conversation.read_request()?;
        conversation.wait_until_closed();
        Ok(())
    });
    Probed::of(&silent, "timeout = 0.2\n").assert_ends(2, &["no first byte in time"]);
    let stalls = Exporter::start(|conversation: &mut Conversation| {
        conversation.read_request()?;
        conversation.send(format!("HTTP/1.1 200 OK\r\n{TEXT}Content-Length: 99\r\n\r\na 1\n"))?;
        conversation.wait_until_closed();
        Ok(())
    });
    Probed::of(&stalls, "timeout = 0.2\n").assert_ends(2, &["after 4 bytes", "deadline exceeded"]);
}

#[test]
fn a_truncated_response_is_critical_and_the_message_says_so() {
    for framing in ["Content-Length: 999", "Transfer-Encoding: chunked"] {
        let exporter = Exporter::start(move |conversation: &mut Conversation| {
            conversation.read_request()?;
            conversation.send(format!("HTTP/1.1 200 OK\r\n{TEXT}{framing}\r\n\r\n4\r\na 1\n"))?;
            conversation.cut()
        });
        let words = ["PROBE CRITICAL", "incomplete answer", "cut its answer short"];
        Probed::of(&exporter, "").assert_ends(2, &words);
    }
    let unended = Exporter::start(|conversation: &mut Conversation| {
        conversation.read_request()?;
        conversation.send(format!("HTTP/1.1 200 OK\r\n{TEXT}\r\nfoo 12"))?;
        conversation.end()
    });
    Probed::of(&unended, "").assert_ends(2, &["incomplete answer", "without a final newline"]);
}

#[test]
fn f16_a_status_other_than_200_is_critical() {
    for status in ["500", "201", "401"] {
        let exporter = Exporter::start(move |conversation: &mut Conversation| {
            conversation.read_request()?;
            conversation.send(format!("HTTP/1.1 {status} Oh\r\nContent-Length: 0\r\n\r\n"))
        });
        Probed::of(&exporter, "").assert_ends(2, &[&format!("the answer has status {status}")]);
    }
}

#[test]
fn openmetrics_without_its_eof_marker_is_critical_with_either_integrity() {
    let exporter = Exporter::start(answering(OPENMETRICS, "# TYPE a gauge\na 1\n"));
    Probed::of(&exporter, "").assert_ends(2, &["OpenMetrics without a final `# EOF`"]);
    let lenient = Probed::of(&exporter, "integrity = transport\n");
    let words = ["PROBE CRITICAL", "Prometheus rejects the whole answer: line 2: missing # EOF"];
    lenient.assert_ends(2, &words);
    let whole = Exporter::start(answering(OPENMETRICS, "# TYPE a counter\na_total 1\n# EOF\n"));
    Probed::of(&whole, "").assert_ends(0, &["1 sample,"]);
}

#[test]
fn f25_a_response_that_prometheus_refuses_is_critical_with_its_line_and_safe_to_print() {
    let body = "up 1\nup{a=\"\u{1b}[2J\u{202e}|\" 1\n?\n";
    let exporter = Exporter::start(answering(TEXT, body));
    let words =
        ["PROBE CRITICAL", "2 problems in the text; Prometheus rejects the whole answer: line 2: "];
    let ended = Probed::of(&exporter, "").assert_ends(2, &words);
    let shown = ended.out.join("\n");
    assert!(shown.contains("line 2: malformed labels: up{a=\"\\u{1b}[2J\\u{202e}|\" 1"), "{shown}");
    assert!(!shown.contains(['\u{1b}', '\u{202e}']), "{shown}");
    assert!(shown.contains("line 3: missing or invalid metric name: ?"), "{shown}");
    assert!(shown.contains("Prometheus          rejects the whole answer (`up` is 0)"), "{shown}");
}

#[test]
fn f25_differences_between_promtool_and_prometheus_are_reported() {
    let ends = |body: &'static str, code: i32, words: &[&str]| {
        let exporter = Exporter::start(answering(TEXT, body));
        let shown = Probed::of(&exporter, "").assert_ends(code, &[]).out.join("\n");
        for word in words {
            assert!(shown.contains(word), "{word} in {shown}");
        }
    };
    // Only the verdict of Prometheus determines the exit code.
    ends(
        "up 1\n# TYPE up gauge\n",
        0,
        &[
            "Prometheus          accepts the answer",
            "promtool            rejects line 2: second # TYPE for this family, or # TYPE after its \
             samples; Prometheus accepts this",
        ],
    );
    ends("up 1 -5\n", 2, &["promtool            finds no error", "line 1: malformed timestamp"]);
    ends(
        "{\"with.dots\"} 1\n",
        1,
        &[
            "version 3 accepts the answer; version 2 rejects it (`up` is 0)",
            "Prometheus 2 rejects the whole answer, Prometheus 3 accepts it: line 1: quoted name",
        ],
    );
}

#[test]
fn a_response_without_a_content_type_of_metrics_is_a_warning() {
    let page = Exporter::start(answering("Content-Type: text/html\r\n", "up 1\n"));
    Probed::of(&page, "").assert_ends(1, &["Content-Type `text/html` is not a metrics format"]);
    let none = Exporter::start(answering("", "up 1\n"));
    Probed::of(&none, "").assert_ends(1, &["no Content-Type"]);
}

#[test]
fn a_compressed_response_is_inspected_and_both_sizes_are_reported() {
    let text = SOUND.replacen("# TYPE up gauge\n", "# TYPE up gauge\nup{again=\"1\"} 1\n", 1)
        + &"# padding\n".repeat(1000);
    let (plain, packed) = (text.len(), gzip(&text));
    let wire = packed.len();
    let headers = "Content-Type: text/plain; version=0.0.4\r\nContent-Encoding: gzip\r\n";
    let exporter = Exporter::start(answering(headers, packed.clone()));
    let answer = Probed::of(&exporter, "").json(0, &[])["measurement"]["answer"].take();
    assert_eq!((&answer["bytes"], &answer["wire_bytes"]), (&plain.into(), &wire.into()));
    assert_eq!((&answer["samples"], &answer["content_encoding"]), (&6.into(), &"gzip".into()));

    // The framing is complete, the compressed data is not.
    for broken in [&packed[..wire - 9], &packed[..wire / 2], b"no gzip at all"] {
        let exporter = Exporter::start(answering(headers, broken));
        Probed::of(&exporter, "").assert_ends(2, &["cannot decompress the answer"]);
    }
    let brotli = Exporter::start(answering("Content-Encoding: br\r\n", "?"));
    Probed::of(&brotli, "").assert_ends(1, &["unrequested Content-Encoding `br`"]);
}

#[test]
fn an_unknown_or_misconfigured_exporter_is_unknown_and_no_request_is_sent() {
    let exporter = Exporter::start(answering(TEXT, SOUND));
    let probed = Probed::new(&format!("{}[f]\nport = many\n", exporter.section("x")));
    probed.assert_ends(3, &["PROBE UNKNOWN - e: no section [e]"]);
    let mistaken = Probed::new("[e]\nenabled = True\nport = many\npath = /m\n");
    mistaken.assert_ends(3, &["exporters.ini:3: [e] port"]);
    let missing = run(["probe", "e", "--config", &probed.path("none.ini"), "--plugin"]);
    assert_eq!(missing.code, Some(3), "{:#?}", missing.out);
    assert_eq!(exporter.connections(), 0);
}

#[test]
fn a_disabled_exporter_and_mistakes_in_other_sections_do_not_prevent_a_probe() {
    let exporter = Exporter::start(answering(TEXT, SOUND));
    let section = exporter.section("e").replace("enabled = True", "enabled = False");
    // The path comes from a `config.ini` whose certificates the user of `probe` cannot read.
    let probed = Probed::new(&format!("{section}[f]\nenabled = True\nport = many\npath = /m\n"));
    let config = "[default]\ncertfile = none.pem\nkeyfile = none.key\n[prometheus]\nexporters = exporters.ini\n";
    fs::write(probed.path("config.ini"), config).expect("written");
    let ended = run(["probe", "e", "--config", &probed.path("config.ini")]);
    assert_eq!(ended.code, Some(0), "{:#?}", ended.out);
    assert!(ended.out[0].ends_with(" (not enabled)"), "{:#?}", ended.out);
}

/// A body of 300 MB. One line has 280 MB, and its end is held back until `go_on` opens.
fn large_body(conversation: &mut Conversation, sent: &Gate, go_on: &Gate) -> std::io::Result<()> {
    const PIECE: usize = 1_000_000;
    conversation.read_request()?;
    conversation
        .send(format!("HTTP/1.1 200 OK\r\n{TEXT}Content-Length: {}\r\n\r\n", 300 * PIECE))?;
    for number in 0..20 {
        // 40 bytes in each line, and 25 different families in each piece.
        let lines = (0..PIECE / 40)
            .map(|line| format!("f{number:03}_{:03}{{id=\"{line:019}\"}} 1.25\n", line / 1000));
        conversation.send(lines.collect::<String>())?;
    }
    conversation.send("long{a=\"")?;
    let piece = vec![b'x'; PIECE];
    for _ in 0..279 {
        conversation.send(&piece)?;
    }
    conversation.send(&piece[..PIECE - 8 - 5])?;
    sent.open();
    go_on.wait();
    conversation.send("\"} 1\n")
}

#[test]
fn a_large_response_and_an_endless_line_are_inspected_in_constant_memory() {
    let (sent, go_on) = (Gate::default(), Gate::default());
    let (script_sent, script_go_on) = (sent.clone(), go_on.clone());
    let exporter = Exporter::start(move |conversation: &mut Conversation| {
        large_body(conversation, &script_sent, &script_go_on)
    });
    let probed = Probed::of(&exporter, "interval = 300\ntimeout = 300\n");
    let child = Command::new(binary())
        .args(["probe", "e", "--json", "--no-gzip", "--exporters", &probed.path("exporters.ini")])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    sent.wait();
    let status = fs::read_to_string(Path::new("/proc").join(child.id().to_string()).join("status"));
    go_on.open();
    let ended = child.wait_with_output().expect("the child is ours");
    let said: Value = serde_json::from_slice(&ended.stdout).expect("JSON");
    let answer = &said["measurement"]["answer"];
    assert_eq!(answer["bytes"], 300_000_000, "{said}");
    assert_eq!((&answer["samples"], &answer["family_count"]), (&500_001.into(), &501.into()));
    assert_eq!(
        (&answer["cut_lines"], &answer["problem_count"]),
        (&1.into(), &0.into()),
        "{answer}"
    );
    let status = status.expect("the probe runs");
    let peak =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
    let peak: u64 = peak.and_then(|number| number.parse().ok()).expect("a peak");
    assert!(peak < 40 * 1024, "the peak of the resident memory is {peak} KiB");
}

#[test]
fn with_through_proxy_every_scrape_is_made_twice_and_the_difference_is_reported() {
    let exporter = Exporter::start(answering(TEXT, SOUND));
    let section = exporter.section("a name/with ?&%");
    let probed = Probed::new(&section);
    let file = probed.path("exporters.ini");
    let arguments = ["--through-proxy", "--repeat", "3", "--exporters", &file];
    let ended = run(["probe", "a name/with ?&%"].into_iter().chain(arguments));
    assert_eq!(ended.code, Some(0), "{:#?}", ended.out);
    let line = ended.out.last().expect("a line");
    let overhead = perfdata(line, "proxy_overhead");
    assert!(overhead < perfdata(line, "proxy_time"), "{line}");
    assert!(ended.out.iter().any(|line| line.trim_start().starts_with("proxied total")));
    // One request to inspect, one warm-up, and three for each way.
    assert_eq!(exporter.requests().len(), 8);
}

#[test]
fn a_scrape_that_fails_only_through_the_proxy_is_critical() {
    let count = Arc::new(AtomicU32::new(0));
    let exporter = Exporter::start(move |conversation: &mut Conversation| {
        conversation.read_request()?;
        // The first request inspects the response. The next one comes through the proxy.
        if count.fetch_add(1, Ordering::SeqCst) > 0 {
            return conversation.cut();
        }
        conversation.send(format!("HTTP/1.1 200 OK\r\n{TEXT}Content-Length: 5\r\n\r\nup 1\n"))
    });
    let ended = Probed::of(&exporter, "").probe(&["--through-proxy", "--plugin"]);
    assert_eq!(ended.code, Some(2), "{:#?}", ended.out);
    assert!(
        ended.out[0].contains("through the proxy: the answer has status 502"),
        "{:#?}",
        ended.out
    );
}
