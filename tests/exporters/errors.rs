//! Every refusal has constant words, the same for each client, and one log record. The record
//! repeats nothing that either side sent and contains no secret (invariants I5 and I7).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::mpsc,
    time::Duration,
};

use scrapegate::common::error::{EnrolError, Refusal, Unchecked};
use scrapegate_harness::{
    PATIENCE,
    client::Client,
    exporter::{Conversation, Exporter},
    metrics::{ACCEPTED, Samples},
    pki::{BOTH_VERSIONS, Pki, write_private},
    proxy::Proxy,
    testbed::{Action, Then, by_case, drip, raw, target},
};
use serde_json::Value;

use crate::connecting::{DeadPort, FullPort, section};

/// `prometheus:hunter2`, the credentials that the proxy accepts.
const PASSWORD: &str = "Authorization: Basic cHJvbWV0aGV1czpodW50ZXIy\r\n";

const SECRETS: [&str; 3] = ["hunter2", "cHJvbWV0aGV1czpodW50ZXIy", "open-sesame"];

/// The refusals that other tests provoke: responses in HTTP/1.0 (`tests/requests/heads.rs`), a lack
/// of descriptors (`tests/limits/descriptors.rs`), another configuration (`tests/tls/access.rs`), a
/// reload (`tests/reload/files.rs`, `tests/reload/http.rs`), and pages that clients do not read
/// (`tests/limits/answers.rs`).
const ELSEWHERE: [&str; 7] = [
    "http_version",
    "no_resources",
    "not_allowed",
    "dismissed",
    "broken_configuration",
    "reload_refused",
    "too_many_answers",
];

/// The label in the log, the status and reason phrase of the response, and a request that causes
/// this refusal. `MARKER` in the request is replaced by another word each time.
type Provoked = (&'static str, u16, &'static str, String);

/// Refusals that the request itself causes.
fn by_request() -> Vec<Provoked> {
    let get = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: h\r\n{PASSWORD}");
    vec![
        (
            "bad_host",
            400,
            "bad Host header",
            format!("GET /prometheus HTTP/1.1\r\nHost: MARKER/\r\n{PASSWORD}"),
        ),
        (
            "request_body",
            400,
            "request body not allowed",
            get("/MARKER") + "Content-Length: 6\r\nExpect: MARKER\r\n",
        ),
        (
            "method",
            405,
            "Method Not Allowed",
            format!("MARKER /prometheus HTTP/1.1\r\nHost: h\r\n{PASSWORD}"),
        ),
        ("unknown_path", 404, "Not Found", get("/MARKER?MARKER")),
        (
            "encoded_query",
            404,
            "query is percent-encoded in the path",
            get("/prometheus%3Fexporter=MARKER"),
        ),
        ("exporter_parameter", 400, "bad exporter parameter", get("/prometheus?exporter=%MARKER")),
        (
            "query",
            400,
            "bad percent-escape in the query",
            get("/prometheus?exporter=x&MARKER=%MARKER"),
        ),
        ("unknown_exporter", 404, "Unknown exporter", get("/prometheus?exporter=MARKER")),
        (
            "unauthorized",
            401,
            "Unauthorized",
            "GET /MARKER HTTP/1.1\r\nHost: h\r\nAuthorization: Basic MARKER\r\n".to_owned(),
        ),
    ]
}

/// Refusals that the answer of the exporter `x` causes, each with the action of the exporter.
fn by_answer() -> Vec<(&'static str, u16, &'static str, Action)> {
    let ok = |rest: &str| format!("HTTP/1.1 200 OK\r\n{rest}");
    let refused = |label, reason, answer: String| {
        (label, 502, reason, raw(answer.replace("MARKER", "marker"), Then::Fin))
    };
    vec![
        ("exporter_reset", 502, "exporter reset the connection", raw("", Then::Rst)),
        (
            "exporter_closed",
            502,
            "exporter closed the connection without an answer",
            raw(ok("X: marker\r\n"), Then::Fin),
        ),
        refused("exporter_garbage", "exporter sent no valid HTTP", "MARKER MARKER\r\n\r\n".into()),
        (
            "exporter_head_too_large",
            502,
            "exporter sent too large a head",
            raw(ok(&format!("X: {}", "marker".repeat(4000))), Then::Fin),
        ),
        refused(
            "exporter_transfer_coding",
            "exporter sent an unsupported transfer coding",
            ok("Transfer-Encoding: MARKER\r\n\r\n"),
        ),
        refused(
            "exporter_redirect",
            "exporter answered with a redirect",
            "HTTP/1.1 302 MARKER\r\nLocation: http://MARKER/\r\n\r\n".into(),
        ),
        refused(
            "exporter_no_metrics",
            "exporter answered without metrics",
            "HTTP/1.1 204 MARKER\r\n\r\n".into(),
        ),
        refused("exporter_integrity", "exporter's answer lacks the final newline", ok("\r\n")),
        refused(
            "exporter_integrity",
            "exporter's answer lacks the final # EOF",
            ok("Content-Type: application/openmetrics-text\r\nContent-Length: 6\r\n\r\nMARKER"),
        ),
        refused(
            "exporter_cut_short",
            "exporter cut its answer short",
            ok("Content-Length: 6\r\n\r\n"),
        ),
        refused(
            "exporter_not_filterable",
            "exporter's answer cannot be filtered",
            ok("Content-Type: text/MARKER\r\nContent-Length: 6\r\n\r\nMARKER"),
        ),
        refused(
            "exporter_too_large",
            "exporter's answer is larger than max-body",
            ok("Content-Length: 1001\r\n\r\nMARKER"),
        ),
        (
            "exporter_first_byte_timeout",
            504,
            "exporter sent no first byte in time",
            drip("HTTP/1.1 200 OK\r\nX: ", "marker", Duration::from_millis(50)),
        ),
        (
            "exporter_nothing_passed",
            504,
            "nothing of the exporter's answer passed in time",
            drip("HTTP/1.1 200 OK\r\n\r\n", "up{a=\"marker\"} 1\n", Duration::from_millis(50)),
        ),
    ]
}

/// Exporters that cannot be reached while this value lives.
struct Unreachable {
    dead: DeadPort,
    full: FullPort,
    plain: Exporter,
}

impl Unreachable {
    fn new() -> Self {
        let plain = |it: &mut Conversation| it.send("HTTP/1.1 400 marker\r\n\r\n");
        Self { dead: DeadPort::new(), full: FullPort::new(), plain: Exporter::start(plain) }
    }

    /// The name of each exporter is its label in the log.
    fn all(&self) -> Vec<(&'static str, u16, &'static str, String)> {
        let on = |port: u16| format!("host = 127.0.0.1\nport = {port}\n");
        vec![
            ("exporter_refused", 502, "exporter refused the connection", on(self.dead.port())),
            (
                "exporter_no_socket",
                502,
                "exporter's socket does not exist",
                "socket = /nonexistent/marker.sock\n".to_owned(),
            ),
            (
                "exporter_name_lookup",
                502,
                "exporter's host name was not found",
                "host = marker.invalid\nport = 1\nconnect-timeout = 10\ntimeout = 10\n".to_owned(),
            ),
            (
                "exporter_unreachable",
                502,
                "exporter is unreachable",
                // The kernel refuses a TCP connection to a broadcast address.
                "host = 255.255.255.255\nport = 1\n".to_owned(),
            ),
            (
                "exporter_connect_timeout",
                504,
                "exporter did not take the connection in time",
                on(self.full.port()) + "connect-timeout = 0.2\n",
            ),
            (
                "exporter_tls",
                502,
                "exporter failed the TLS handshake",
                on(self.plain.address().port()) + "method = https\ninsecure-skip-verify = True\n",
            ),
        ]
    }
}

/// Whether the record is about a scrape or a refused request.
fn is_about_a_request(record: &Value) -> bool {
    let message = &record["fields"]["message"];
    message == "scrape" || message == "request refused"
}

/// The fields of all records about scrapes and refused requests.
fn records(proxy: &Proxy) -> Vec<Value> {
    let lines = proxy.log_lines();
    let all = lines.iter().map(|line| serde_json::from_str::<Value>(line).expect("a record"));
    all.filter(is_about_a_request).map(|mut record| record["fields"].take()).collect()
}

fn wait_for_records(proxy: &Proxy, count: usize) {
    let mut seen = 0;
    proxy.wait_for_log(&format!("{count} records of requests"), |record| {
        seen += usize::from(is_about_a_request(record));
        seen == count
    });
}

/// The word for what happened.
fn word(record: &Value) -> &str {
    record["outcome"].as_str().or_else(|| record["reason"].as_str()).unwrap_or_default()
}

/// The counter that the event of this record increments.
fn series(record: &Value) -> String {
    match (&record["outcome"], word(record)) {
        (Value::Null, "unknown_exporter") => {
            "scrapegate_scrapes_total{exporter=\"unknown\",outcome=\"unknown_exporter\"}".to_owned()
        }
        (Value::Null, reason) => format!("scrapegate_http_rejected_total{{reason=\"{reason}\"}}"),
        (outcome, _) => {
            let exporter = &record["exporter"];
            format!("scrapegate_scrapes_total{{exporter={exporter},outcome={outcome}}}")
        }
    }
}

/// Asserts that the counters have moved since the start exactly as the records say.
#[track_caller]
fn assert_counted(proxy: &Proxy, pki: &Pki) {
    let mut expected = BTreeMap::new();
    for record in records(proxy) {
        *expected.entry(series(&record)).or_insert(0.0) += 1.0;
    }
    let samples = Samples::with(&mut connect(proxy, pki, 0), PASSWORD);
    let mut events = samples.events_since(&Samples::default());
    events.remove(ACCEPTED);
    assert_eq!(events, expected.iter().map(|(event, moved)| (event.as_str(), *moved)).collect());
}

/// Sends the request of `refusal` from each client. Asserts that all responses are equal, except
/// for the date, and that each adds one record with the label.
#[track_caller]
fn assert_constant(proxy: &Proxy, clients: &mut Clients, pki: &Pki, refusal: &Provoked) {
    let (label, status, reason, request) = refusal;
    let mut first = None;
    for (round, client) in clients.iter_mut().enumerate() {
        let before = records(proxy).len();
        let marker = format!("marker{round}");
        let request = format!("{request}X-MARKER: MARKER\r\n\r\n").replace("MARKER", &marker);
        let open = client.get_or_insert_with(|| connect(proxy, pki, round));
        open.send(request).expect("sent");
        let mut response = open.read_response().expect("a response");
        assert!(response.body.is_complete(), "{label}: {response:?}");
        let body = response.body.text();
        let expected =
            if *reason == "Unknown exporter" { (*reason).into() } else { format!("{reason}\n") };
        let said = (response.head.status, response.head.reason.as_str(), body.as_str());
        assert_eq!(said, (*status, *reason, expected.as_str()), "{label}");
        response.head.headers.retain(|(name, _)| name != "date");
        let headers = response.head.headers.clone();
        assert!(headers.iter().all(|(_, value)| !value.contains("marker")), "{headers:?}");
        if headers.iter().any(|(name, _)| name == "connection") {
            *client = None;
        }
        assert_eq!(first.get_or_insert_with(|| headers.clone()), &headers, "{label}");

        wait_for_records(proxy, before + 1);
        let mut record = records(proxy).pop().expect("at least one record");
        assert_eq!(word(&record), *label, "{record}");
        record["exporter"].take();
        assert!(!record.to_string().contains("marker"), "{record}");
        assert_eq!(records(proxy).len(), before + 1, "{label}: one record each");
    }
}

/// Two scrapers, each with its connection while the proxy keeps it open.
type Clients = [Option<Client>; 2];

/// The first scraper uses TLS 1.3, the second TLS 1.2.
fn connect(proxy: &Proxy, pki: &Pki, round: usize) -> Client {
    Client::connect(proxy.address(), pki.client(&[BOTH_VERSIONS[round]])).expect("a handshake")
}

/// The labels of all refusals, except those of enrollment and of password checks, which have their
/// own tests.
fn labels() -> BTreeSet<&'static str> {
    let elsewhere: Vec<_> = EnrolError::infos().chain(Unchecked::infos()).collect();
    let refusals = Refusal::infos().filter(|info| !elsewhere.contains(info));
    refusals.map(|info| info.label).collect()
}

#[test]
fn every_refusal_has_constant_words_and_one_record_without_secrets() {
    let pki = Pki::new();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let token = folder.path().join("token");
    write_private(&token, "open-sesame\n");
    let token = format!("bearer-token-file = {}\n", token.display());

    let (unreachable, answers) = (Unreachable::new(), by_answer());
    let mut refusals = by_request();
    let mut actions = Vec::new();
    let get = |target: &str| format!("GET {target}&MARKER HTTP/1.1\r\nHost: h\r\n{PASSWORD}");
    for (case, (label, status, reason, action)) in answers.into_iter().enumerate() {
        let is_by_filter = ["exporter_not_filterable", "exporter_nothing_passed"].contains(&label);
        let name = if is_by_filter { "filtered" } else { "x" };
        refusals.push((label, status, reason, get(&target(name, case))));
        actions.push(action);
    }
    let (begin, begun) = mpsc::channel();
    let stall = actions.len();
    actions.push(Box::new(move |it| {
        // The test may have ended already.
        let _ = begin.send(());
        it.wait_until_closed();
        Ok(())
    }));
    let exporter = Exporter::start(by_case(actions));
    let mut exporters = exporter.section("x") + &token + "max-body = 1000\ntimeout = 0.5\n";
    exporters += &(exporter.section("busy") + "max-concurrent = 1\n");
    exporters += &(exporter.section("filtered") + "metrics-drop = up\ntimeout = 0.5\n");
    for (name, status, reason, keys) in unreachable.all() {
        exporters += &(section(name, &keys) + &token);
        refusals.push((name, status, reason, get(&format!("/prometheus?exporter={name}"))));
    }
    let config =
        pki.config_ini("").replace("[default]\n", "[default]\nauth = prometheus:hunter2\n");
    let proxy = Proxy::start(&config, &exporters);
    let mut clients = Clients::default();
    for refusal in &refusals {
        assert_constant(&proxy, &mut clients, &pki, refusal);
    }
    assert_counted(&proxy, &pki);

    // While another scrape has the only permit.
    let mut busy = connect(&proxy, &pki, 0);
    busy.send(get(&target("busy", stall)) + "\r\n").expect("sent");
    begun.recv_timeout(PATIENCE).expect("the exporter is asked");
    let reason = "too many scrapes of this exporter";
    let refusal = ("too_many_scrapes", 503, reason, get("/prometheus?exporter=busy"));
    assert_constant(&proxy, &mut clients, &pki, &refusal);
    refusals.push(refusal);

    // The rest of an incomplete head arrives after the proxy has begun to shut down.
    for (round, client) in clients.iter_mut().enumerate() {
        let fresh = client.insert(connect(&proxy, &pki, round));
        fresh.send("GET /prometheus?exporter=x HTTP/1.1\r\nHo").expect("sent");
        fresh.wait_until_read();
    }
    proxy.signal("TERM");
    proxy.wait_for_log("the drain", |record| record["fields"]["message"] == "draining connections");
    let refusal = ("draining", 503, "shutting down", format!("st: h\r\n{PASSWORD}"));
    assert_constant(&proxy, &mut clients, &pki, &refusal);
    refusals.push(refusal);

    let provoked: BTreeSet<_> =
        refusals.iter().map(|(label, ..)| *label).chain(ELSEWHERE).collect();
    assert_eq!(provoked, labels(), "each refusal is provoked here or in another test");
    let log = proxy.log_lines().concat();
    for secret in SECRETS {
        assert!(!log.contains(secret), "{secret} is in the log");
    }
}
