//! What reaches an exporter: the configured path, the few headers that are passed on, and the
//! parameters.

use scrapegate_harness::{
    client::Client,
    exporter::{Conversation, Exporter},
    pki::{BOTH_VERSIONS, Pki, write_private},
    proxy::Proxy,
    testbed::{CONTROL, Testbed, by_case},
};

/// A request as the exporter received it.
struct Seen {
    line: String,
    /// Header lines with names in lower case, sorted.
    headers: Vec<(String, String)>,
}

impl Seen {
    fn last(exporter: &Exporter) -> Self {
        let requests = exporter.requests();
        let text = requests.last().expect("a request");
        let mut lines = text.strip_suffix("\r\n\r\n").expect("a whole head").split("\r\n");
        let line = lines.next().expect("a request line").to_owned();
        let mut headers: Vec<_> = lines
            .map(|line| {
                let (name, value) = line.split_once(": ").expect("a header");
                (name.to_ascii_lowercase(), value.to_owned())
            })
            .collect();
        headers.sort();
        Self { line, headers }
    }

    /// Removes the header with the remaining time; returns the time in seconds.
    fn take_time_left(&mut self) -> f64 {
        let name = "x-prometheus-scrape-timeout-seconds";
        let at = self.headers.iter().position(|(key, _)| key == name).expect("the time left");
        self.headers.remove(at).1.parse().expect("a number of seconds")
    }

    fn assert_headers(&self, expected: &[(&str, &str)]) {
        let seen: Vec<_> =
            self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(seen, expected);
    }
}

/// Each kind of header that a client may send and that must not reach the exporter.
const NOT_FOR_THE_EXPORTER: &str = "\
    Authorization: Basic c2NyYXBlcjpzZWNyZXQ=\r\n\
    Proxy-Authorization: Basic c2NyYXBlcjpzZWNyZXQ=\r\n\
    Cookie: session=secret\r\n\
    X-Forwarded-For: 192.0.2.1\r\n\
    X-Forwarded-Host: evil.example\r\n\
    Forwarded: for=192.0.2.1\r\n\
    X-Real-IP: 192.0.2.1\r\n\
    Range: bytes=0-1\r\n\
    If-None-Match: \"x\"\r\n\
    If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
    Connection: keep-alive, X-Own\r\n\
    Keep-Alive: timeout=5\r\n\
    TE: trailers\r\n\
    Upgrade: h2c\r\n\
    HTTP2-Settings: AAMAAABkAAQAAP__\r\n\
    Via: 1.1 other\r\n\
    Origin: https://evil.example\r\n\
    Referer: https://evil.example/\r\n\
    Transfer-Encodin: chunked\r\n\
    X-Own: 1\r\n";

/// H43, H44.
#[test]
fn only_the_listed_headers_reach_the_exporter() {
    let testbed = Testbed::new("timeout = 5\n", by_case(Vec::new()));
    let host = testbed.exporter.address().to_string();
    let mut client = testbed.client();
    client
        .send(format!(
            "GET /prometheus?exporter=x HTTP/1.1\r\n\
             Host: proxy.example:3333\r\n\
             accept: text/plain;q=0.5\r\n\
             Accept-Encoding: gzip\r\n\
             USER-AGENT: Prometheus/2.42.0\r\n\
             X-Prometheus-Scrape-Timeout-Seconds: 3\r\n\
             {NOT_FOR_THE_EXPORTER}\r\n"
        ))
        .expect("sent");
    assert_eq!(client.read_response().expect("an answer").body.text(), CONTROL);

    let mut seen = Seen::last(&testbed.exporter);
    assert_eq!(seen.line, "GET /metrics HTTP/1.1");
    // The remaining part of 3 s minus 0.25 s.
    let left = seen.take_time_left();
    assert!((1.75..=2.75).contains(&left), "{left}");
    seen.assert_headers(&[
        ("accept", "text/plain;q=0.5"),
        ("accept-encoding", "gzip"),
        ("connection", "close"),
        ("host", &host),
        ("user-agent", "Prometheus/2.42.0"),
    ]);
    assert_eq!(testbed.exporter.requests().len(), 1, "one request for one scrape");
}

#[test]
fn a_request_without_headers_adds_no_further_header() {
    let testbed = Testbed::new("timeout = 5\n", by_case(Vec::new()));
    let host = testbed.exporter.address().to_string();
    assert_eq!(testbed.client().get("/prometheus?exporter=x").body.text(), CONTROL);
    let mut seen = Seen::last(&testbed.exporter);
    let left = seen.take_time_left();
    assert!((4.0..=5.0).contains(&left), "{left}");
    seen.assert_headers(&[("connection", "close"), ("host", &host)]);
}

#[test]
fn the_hosts_of_request_and_target_do_not_reach_the_exporter() {
    let testbed = Testbed::new("", by_case(Vec::new()));
    let host = testbed.exporter.address().to_string();
    let mut client = testbed.client();
    client
        .send(
            "GET http://evil.example/prometheus?exporter=x HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        )
        .expect("sent");
    assert_eq!(client.read_response().expect("an answer").body.text(), CONTROL);
    let mut seen = Seen::last(&testbed.exporter);
    seen.take_time_left();
    assert_eq!(seen.line, "GET /metrics HTTP/1.1");
    seen.assert_headers(&[("connection", "close"), ("host", &host)]);
}

#[test]
fn other_parameters_are_passed_on_unchanged() {
    let exporter = Exporter::start(by_case(Vec::new()));
    let own_query = |name: &str, path: &str, keys: &str| {
        exporter.section(name).replace("path = /metrics", &format!("path = {path}")) + keys
    };
    let sections = [
        own_query("plain", "/metrics", ""),
        own_query("query", "/probe?module=icmp", ""),
        own_query("closed", "/probe?module=icmp", "forward-params = False\n"),
        own_query("closed-plain", "/metrics", "forward-params = no\n"),
    ]
    .concat();
    let pki = Pki::new();
    let proxy = Proxy::start(&pki.config_ini(""), &sections);
    let mut client =
        Client::connect(proxy.address(), pki.client(BOTH_VERSIONS)).expect("a handshake");
    for (asked, reached) in [
        ("exporter=plain", "/metrics"),
        (
            "exporter=plain&collect[]=cpu&collect[]=loadavg",
            "/metrics?collect[]=cpu&collect[]=loadavg",
        ),
        ("collect%5B%5D=cpu&exporter=plain&x", "/metrics?collect%5B%5D=cpu&x"),
        (
            "exporter=plain&target=http://192.0.2.1:80/a?b",
            "/metrics?target=http://192.0.2.1:80/a?b",
        ),
        // Decoded once to be checked, but passed on without decoding.
        ("exporter=plain&a=%2525&b=%0d%0aX:%201&c=+", "/metrics?a=%2525&b=%0d%0aX:%201&c=+"),
        ("exporter=query", "/probe?module=icmp"),
        ("exporter=query&target=a", "/probe?module=icmp&target=a"),
        ("exporter=query&module=other", "/probe?module=icmp&module=other"),
        ("exporter=closed&target=a", "/probe?module=icmp"),
        ("exporter=closed-plain&collect[]=cpu", "/metrics"),
    ] {
        let response = client.get(&format!("/prometheus?{asked}"));
        assert_eq!(response.body.text(), CONTROL, "{asked}: {response:?}");
        assert_eq!(Seen::last(&exporter).line, format!("GET {reached} HTTP/1.1"), "{asked}");
    }

    // 1000 parameters fit into the largest head.
    let many = "&collect[]=cpu".repeat(1000);
    let response = client.get(&format!("/prometheus?exporter=plain{many}"));
    assert_eq!(response.body.text(), CONTROL, "{response:?}");
    assert_eq!(Seen::last(&exporter).line, format!("GET /metrics?{} HTTP/1.1", &many[1..]));
}

#[test]
fn credentials_towards_the_exporter_come_from_the_configuration_alone() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (password, token) = (folder.path().join("password"), folder.path().join("token"));
    for (path, text) in [(&password, "open sesame\n"), (&token, "a-token_of.mine\n")] {
        write_private(path, text);
    }
    let basic = format!("username = aladdin\npassword-file = {}\n", password.display());
    let bearer = format!("bearer-token-file = {}\n", token.display());
    let exporter = Exporter::start(by_case(Vec::new()));
    let testbed = Testbed::before(
        Pki::new(),
        exporter,
        "",
        &[("basic", &basic), ("bearer", &bearer), ("none", "")],
    );
    let mut client = testbed.client();
    for (name, expected) in [
        // base64 of `aladdin:open sesame`
        ("basic", Some("Basic YWxhZGRpbjpvcGVuIHNlc2FtZQ==")),
        ("bearer", Some("Bearer a-token_of.mine")),
        ("none", None),
    ] {
        client
            .send(format!(
                "GET /prometheus?exporter={name} HTTP/1.1\r\nHost: h\r\n{NOT_FOR_THE_EXPORTER}\r\n"
            ))
            .expect("sent");
        assert_eq!(client.read_response().expect("an answer").body.text(), CONTROL);
        let seen = Seen::last(&testbed.exporter);
        let sent: Vec<_> = seen.headers.iter().filter(|(key, _)| key == "authorization").collect();
        assert_eq!(sent.len(), usize::from(expected.is_some()), "{name}");
        assert_eq!(sent.first().map(|(_, value)| value.as_str()), expected, "{name}");
    }
    testbed.scrapes(3);
    let log = testbed.proxy.log_lines().concat();
    for secret in ["sesame", "YWxhZGRpb", "a-token_of", "c2NyYXBlcjp"] {
        assert!(!log.contains(secret), "{secret} is in the log");
    }
}

#[test]
fn head_reaches_the_exporter_as_head_and_has_no_body() {
    let testbed = Testbed::with_names(
        &[("length", "integrity = strict\n"), ("chunked", ""), ("gone", "")],
        |it: &mut Conversation| {
            let request = it.read_request()?;
            let framing = match request.split(' ').nth(1) {
                Some("/metrics?by=chunks") => "Transfer-Encoding: chunked\r\n",
                Some("/metrics?by=close") => "",
                Some(_) | None => "Content-Length: 123456\r\n",
            };
            let kind = "Content-Type: application/openmetrics-text; version=1.0.0\r\n";
            it.send(format!("HTTP/1.1 200 OK\r\n{kind}{framing}\r\n"))
        },
    );
    let mut client = testbed.client();
    for (target, length) in [
        ("/prometheus?exporter=length", Some("123456")),
        ("/prometheus?exporter=chunked&by=chunks", None),
        ("/prometheus?exporter=gone&by=close", None),
        ("/prometheus?exporter=length", Some("123456")),
    ] {
        client.send(format!("HEAD {target} HTTP/1.1\r\nHost: h\r\n\r\n")).expect("sent");
        // A body would be read as the next head.
        let head = client.read_head().expect("a head");
        assert_eq!(head.status, 200, "{target}: {head:?}");
        assert_eq!(head.header("content-length"), length, "{target}: {head:?}");
        assert!(head.header("content-type").is_some(), "{target}: {head:?}");
        assert!(Seen::last(&testbed.exporter).line.starts_with("HEAD /metrics"));
    }
    for record in testbed.scrapes(4) {
        assert_eq!(record["outcome"], "complete", "{record}");
    }
}
