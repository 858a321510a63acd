//! Responses as bytes, which curl and Prometheus get from the exporter directly and through the
//! proxy.
//!
//! What both accept from the exporter, both accept through the proxy, except for the listed
//! exceptions. A truncated response is never complete through the proxy.

use std::collections::BTreeMap;

use scrapegate_harness::{
    exporter::{Conversation, Exporter},
    pki::Pki,
    proxy::Proxy,
};

use crate::daemons::{Daemon, curl, wait_for};

/// The expectation for a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    /// Complete through the proxy if curl and Prometheus accept it from the exporter.
    AsDirect,
    /// Complete from the exporter and through the proxy.
    Whole,
    /// Refused or aborted by the proxy, whatever curl and Prometheus accept.
    Exception,
    /// Truncated by the exporter: never complete through the proxy.
    Cut,
}
use Wanted::{AsDirect, Cut, Exception, Whole};

struct Case {
    name: String,
    answer: Vec<u8>,
    wanted: Wanted,
}

const OK: &str = "HTTP/1.1 200 OK\r\n";
const TEXT: &str = "Content-Type: text/plain; version=0.0.4\r\n";
const OPENMETRICS: &str = "Content-Type: application/openmetrics-text; version=1.0.0\r\n";

/// Status lines, each followed by a valid response.
const STATUS_LINES: [(Wanted, &str); 24] = [
    (Whole, "HTTP/1.1 200 OK\r\n"),
    (Whole, "HTTP/1.1 200 \r\n"),
    (Whole, "HTTP/1.1 200\r\n"),
    (Whole, "HTTP/1.1 200\n"),
    (Whole, "HTTP/1.0 200\r\n"),
    (Whole, "HTTP/1.1  200 OK\r\n"),
    (Whole, "HTTP/1.1 200  OK\r\n"),
    (Whole, "HTTP/1.1 200 \u{e9}t\u{e9}\r\n"),
    (Whole, "HTTP/1.1 200 O\tK\r\n"),
    (Whole, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n"),
    (Whole, "HTTP/1.1 100\r\n\r\nHTTP/1.1 200\r\n"),
    (Whole, "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n"),
    (AsDirect, "HTTP/1.1 200OK\r\n"),
    (AsDirect, "HTTP/1.1 200\tOK\r\n"),
    (AsDirect, "HTTP/1.1\t200 OK\r\n"),
    (AsDirect, "HTTP/1.1 20\r\n"),
    (AsDirect, "HTTP/1.1 2000\r\n"),
    (AsDirect, "HTTP/1.2 200 OK\r\n"),
    (AsDirect, "http/1.1 200 OK\r\n"),
    (AsDirect, "HTTP/2 200 OK\r\n"),
    (AsDirect, "\r\nHTTP/1.1 200 OK\r\n"),
    // A version that this connection cannot use.
    (Exception, "HTTP/2.0 200 OK\r\n"),
    // Control characters.
    (Exception, "HTTP/1.1 200 O\u{1}K\r\n"),
    (Exception, "HTTP/1.1 200 O\rK\r\n"),
];

/// Header lines, followed by a valid `Content-Length`.
const HEADERS: [(Wanted, &str); 31] = [
    (Whole, "Content-Type: text/plain\r\nX:y\r\nY:\r\n"),
    (Whole, "Content-Type : text/plain\r\n"),
    (Whole, "X : y\r\n"),
    (Whole, "X: y\r\n z\r\n"),
    (Whole, "X: y\r\n\tz\r\n"),
    (Whole, "X:\r\n y\r\n"),
    (Whole, "X: y\r\n \r\n"),
    (Whole, "X: y\n z\n"),
    (Whole, "Content-Type: text/plain;\r\n version=0.0.4\r\n"),
    (Whole, "X: y\r\n Content-Length: 2\r\n"),
    (Whole, "X y: z\r\n"),
    (Whole, "X: \u{e9}\r\n"),
    (Whole, "Content-Type: text/plain\r\nContent-Type: text/html\r\n"),
    (Whole, "Content-Length: 4\r\n"),
    (Whole, "Content-Encoding: identity\r\n"),
    (AsDirect, " X: y\r\n"),
    (AsDirect, "no colon\r\n"),
    (AsDirect, "X: a\0b\r\n"),
    (AsDirect, "Content-Length: 3\r\n"),
    (AsDirect, "Transfer-Encoding: identity\r\n"),
    (AsDirect, "Transfer-Encoding:\r\n"),
    (AsDirect, "Content-Encoding: gzip\r\n"),
    // Receivers interpret the body length differently.
    (Exception, "Content-Length : 4\r\n"),
    (Exception, "Content-Length: 4\r\n \r\n"),
    (Exception, "Content -Length: 3\r\n"),
    (Exception, "Content-Length y: 3\r\n"),
    // Control characters.
    (Exception, "X: a\u{1}b\r\n"),
    (Exception, "X: a\rb\r\n"),
    // Invalid names.
    (Exception, ": y\r\n"),
    (Exception, "X(y): 1\r\n"),
    (Exception, "X\u{e9}: y\r\n"),
];

/// Framing headers, each with the body that follows the head.
const FRAMED: [(Wanted, &str, &str); 36] = [
    (Whole, "Content-Length: 04\r\n", "a 1\n"),
    (Whole, "Content-Length:\t 4 \r\n", "a 1\n"),
    (Whole, "", "a 1\n"),
    (Whole, "Transfer-Encoding: Chunked\r\n", "4\r\na 1\n\r\n0\r\n\r\n"),
    (Whole, CHUNKED, "4;a=b\r\na 1\n\r\n0;x\r\n\r\n"),
    (Whole, CHUNKED, "4  \r\na 1\n\r\n0\r\n\r\n"),
    (Whole, CHUNKED, "0004\r\na 1\n\r\n000\r\n\r\n"),
    (Whole, CHUNKED, "4\r\na 1\n\r\n0\r\nX: y\r\n\r\n"),
    (Whole, CHUNKED, "4\r\na 1\n\r\n0\r\nX : y\r\n\r\n"),
    (Whole, CHUNKED, "4\r\na 1\n\r\n0\r\nX: y\r\n z\r\n\r\n"),
    (Whole, CHUNKED, "4\r\na 1\n\r\n0\r\nX y: z\r\n\r\n"),
    (Whole, "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", "4\r\na 1\n\r\n0\r\n\r\n"),
    (AsDirect, "Content-Length: +4\r\n", "a 1\n"),
    (AsDirect, "Content-Length: 4a\r\n", "a 1\n"),
    (AsDirect, "Content-Length: -4\r\n", "a 1\n"),
    (AsDirect, "Content-Length:\r\n", "a 1\n"),
    (AsDirect, "Content-Length: 4\r\n 5\r\n", "a 1\n"),
    (AsDirect, "Transfer-Encoding: chunked,\r\n", "4\r\na 1\n\r\n0\r\n\r\n"),
    (AsDirect, "Transfer-Encoding: gzip, chunked\r\n", "4\r\na 1\n\r\n0\r\n\r\n"),
    (AsDirect, "Transfer-Encoding : chunked\r\n", "4\r\na 1\n\r\n0\r\n\r\n"),
    // curl treats the framing as the body; Prometheus does not.
    (Exception, "Transfer-Encoding:\r\n chunked\r\n", "4\r\na 1\n\r\n0\r\n\r\n"),
    (AsDirect, CHUNKED, "4\r\na 1\n\n0\r\n\r\n"),
    (AsDirect, CHUNKED, "4\r\na 1\n\r\n0\r\n\n"),
    (AsDirect, CHUNKED, " 4\r\na 1\n\r\n0\r\n\r\n"),
    (AsDirect, CHUNKED, "0x4\r\na 1\n\r\n0\r\n\r\n"),
    (AsDirect, CHUNKED, "00000000000000004\r\na 1\n\r\n0\r\n\r\n"),
    (AsDirect, CHUNKED, "4\r\na 1\n\r\n0\r\nno colon\r\n\r\n"),
    (Cut, "Content-Length: 5\r\n", "a 1\n"),
    (Cut, CHUNKED, "4\r\na 1\n\r\n0\r\n"),
    (Cut, CHUNKED, "4\r\na 1\n\r\n"),
    (Cut, CHUNKED, "4\r\na 1\n"),
    (Cut, CHUNKED, "4;a=b"),
    // The value may be `a 12`: see `integrity`.
    (Cut, "", "a 1"),
    // Newer versions of Prometheus refuse these two responses as well.
    (Exception, CHUNKED, "4\na 1\n\r\n0\r\n\r\n"),
    (Exception, CHUNKED, "4;a\rb\r\na 1\n\r\n0\r\n\r\n"),
    // A control character.
    (Exception, CHUNKED, "4\r\na 1\n\r\n0\r\nX: a\u{1}b\r\n\r\n"),
];
const CHUNKED: &str = "Transfer-Encoding: chunked\r\n";

/// OpenMetrics bodies, each sent with three kinds of framing.
const ENDINGS: [(Wanted, &str); 10] = [
    (Whole, "a 1\n# EOF\n"),
    (Whole, "a 1\n# EOF"),
    (Whole, "# EOF"),
    (Cut, ""),
    (Cut, "a 1\n"),
    (Cut, "a 1\n# EO"),
    (Cut, "foo{a=\"# EOF"),
    (Cut, "foo{a=\"x# EOF\n"),
    (AsDirect, "a 1\n# EOF\n\n"),
    (AsDirect, "a 1\n# EOF\r\n"),
];

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |wanted, name: &str, answer: String| {
        // Latin-1, so that each character is one byte.
        let answer = answer.chars().map(|it| it as u8).collect();
        cases.push(Case { name: name.escape_debug().to_string(), answer, wanted });
    };
    for (wanted, line) in STATUS_LINES {
        add(wanted, line, format!("{line}{TEXT}Content-Length: 4\r\n\r\na 1\n"));
    }
    for (wanted, lines) in HEADERS {
        let kind = if lines.contains("Content-Type") { "" } else { TEXT };
        add(wanted, lines, format!("{OK}{kind}{lines}Content-Length: 4\r\n\r\na 1\n"));
    }
    for (wanted, headers, body) in FRAMED {
        add(wanted, &format!("{headers}{body}"), format!("{OK}{TEXT}{headers}\r\n{body}"));
    }
    for (wanted, body) in ENDINGS {
        let length = body.len();
        let head = format!("{OK}{OPENMETRICS}");
        let chunk = if length == 0 { String::new() } else { format!("{length:x}\r\n{body}\r\n") };
        add(
            wanted,
            &format!("length {body}"),
            format!("{head}Content-Length: {length}\r\n\r\n{body}"),
        );
        add(wanted, &format!("chunked {body}"), format!("{head}{CHUNKED}\r\n{chunk}0\r\n\r\n"));
        add(wanted, &format!("close {body}"), format!("{head}\r\n{body}"));
    }
    let data = "#".repeat(4095) + "\n";
    let chunks = format!("1000;thirteen=byte\r\n{data}\r\n").repeat(300);
    let with = |body: &str| format!("{OK}{TEXT}{CHUNKED}\r\n{body}0\r\n\r\n");
    add(Whole, "an extension a chunk", with(&chunks));
    add(Whole, "LF alone", format!("{OK}{TEXT}Content-Length: 4\n\na 1\n").replace('\r', ""));
    let many = "X: y\r\n".repeat(150);
    add(Exception, "150 headers", format!("{OK}{TEXT}{many}Content-Length: 4\r\n\r\na 1\n"));
    let long = format!("X: {}\r\n", "y".repeat(20_000));
    add(Exception, "20 kB of head", format!("{OK}{TEXT}{long}Content-Length: 4\r\n\r\na 1\n"));
    for status in [201, 202, 206, 404, 500] {
        let answer = format!("HTTP/1.1 {status} x\r\n{TEXT}Content-Length: 4\r\n\r\na 1\n");
        add(AsDirect, &status.to_string(), answer);
    }
    cases
}

/// The body that curl received, if the transfer was complete and the status was 200.
fn curled(arguments: &[String]) -> Option<Vec<u8>> {
    let flags = ["--http1.1", "--write-out", "%{stderr}status %{http_code}"].map(str::to_owned);
    let output = curl(flags.iter().chain(arguments));
    let is_200 = String::from_utf8_lossy(&output.stderr).contains("status 200");
    (output.status.success() && is_200).then_some(output.stdout)
}

/// The health of each case in Prometheus, after all of them have been scraped.
fn healths(prometheus: &Daemon, job: &str, count: usize) -> BTreeMap<usize, bool> {
    let mut healths = BTreeMap::new();
    wait_for("all cases", || {
        let targets = prometheus.api("targets", &["--data-urlencode", "state=active"]);
        for target in targets["activeTargets"].as_array().into_iter().flatten() {
            let case = target["labels"]["case"].as_str().and_then(|it| it.parse().ok());
            if let (Some(case), true) = (case, target["labels"]["job"] == job)
                && target["health"] != "unknown"
            {
                healths.insert(case, target["health"] == "up");
            }
        }
        if healths.len() == count { Ok(()) } else { Err(targets) }
    });
    healths
}

fn job(name: &str, settings: &str, target: &str, cases: usize) -> String {
    let targets = (0..cases).map(|case| {
        format!("      - targets: ['{target}']\n        labels: {{__param_case: '{case}', case: '{case}'}}\n")
    });
    let targets: String = targets.collect();
    format!("  - job_name: {name}\n{settings}    static_configs:\n{targets}")
}

#[test]
fn f21_responses_that_curl_and_prometheus_accept_are_complete_through_the_proxy_and_truncated_ones_never()
 {
    let cases = cases();
    let answers: Vec<_> = cases.iter().map(|case| case.answer.clone()).collect();
    let exporter = Exporter::start(move |it: &mut Conversation| {
        let request = it.read_request()?;
        let case = request.split_once("case=").map_or("", |(_, rest)| rest);
        let digits = case.split(|it: char| !it.is_ascii_digit()).next().unwrap_or_default();
        let case: usize = digits.parse().map_err(std::io::Error::other)?;
        it.send(&answers[case])?;
        it.end()
    });
    let pki = Pki::new();
    let section = exporter.section("x") + "max-concurrent = 1000\n";
    let proxy = Proxy::start(&pki.config_ini(""), &section);
    let pem = |name: &str| pki.path(name).display().to_string();
    let (ca, cert, key) = (pem("ca.pem"), pem("client.pem"), pem("client.key"));
    let tls = format!(
        "    scheme: https\n    metrics_path: /prometheus\n    params: {{exporter: [x]}}\n    \
         tls_config: {{ca_file: {ca}, cert_file: {cert}, key_file: {key}, server_name: localhost}}\n"
    );
    let prometheus = Daemon::prometheus(&format!(
        "global:\n  scrape_interval: 3s\n  scrape_timeout: 3s\nscrape_configs:\n{}{}",
        job("direct", "    metrics_path: /metrics\n", &exporter.address().to_string(), cases.len()),
        job("proxied", &tls, &proxy.address().to_string(), cases.len()),
    ));
    let direct_ups = healths(&prometheus, "direct", cases.len());
    let proxied_ups = healths(&prometheus, "proxied", cases.len());

    let mut wrong = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        let direct = curled(&[format!("http://{}/metrics?case={number}", exporter.address())]);
        let through = format!("https://{}/prometheus?exporter=x&case={number}", proxy.address());
        let options = ["--cacert", &ca, "--cert", &cert, "--key", &key, &through];
        let proxied = curled(&options.map(str::to_owned));
        let is_whole_directly = direct.is_some() && direct_ups[&number];
        let is_whole = proxied.is_some() && proxied_ups[&number];
        let is_right = match case.wanted {
            Whole => is_whole_directly && is_whole,
            AsDirect => !is_whole_directly || is_whole,
            Cut | Exception => proxied.is_none() && !proxied_ups[&number],
        };
        // If the proxy passes a response on as complete, curl gets the same bytes from the
        // exporter.
        if !is_right || proxied.is_some() && proxied != direct {
            wrong.push(format!(
                "{:?} {}: direct {} {}, through the proxy {} {}",
                case.wanted,
                case.name,
                direct.is_some(),
                direct_ups[&number],
                proxied.is_some(),
                proxied_ups[&number],
            ));
        }
    }
    assert!(wrong.is_empty(), "curl, Prometheus:\n{}", wrong.join("\n"));
}
