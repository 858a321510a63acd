//! Thousands of requests with every possible end, several at a time. Each is counted once, and the
//! counters agree with what both peers saw.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::TcpStream,
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use rustls::ClientConfig;
use scrapegate_harness::{
    body::Body,
    client::{Client, Head},
    exporter::{Conversation, Exporter, Framing, Gate},
    forge::credentials,
    metrics::Samples,
    pki::{BOTH_VERSIONS, Pki},
    proxy::Proxy,
    testbed::{Action, CONTROL, Then, by_case, raw},
};

/// Number of concurrent scrapers.
const SCRAPERS: usize = 4;

/// How often each scraper sends each kind of request.
const ROUNDS: usize = 20;

/// `user:password`, the credentials that the proxy requires.
const AUTHORIZATION: &str = "Authorization: Basic dXNlcjpwYXNzd29yZA==\r\n";

/// Sets a scrape timeout that leaves 150 ms for the scrape.
const SHORT: &str = "X-Prometheus-Scrape-Timeout-Seconds: 0.4\r\n";

/// More bytes than the proxy checks before it sends the head.
const LONG: u64 = 1 << 20;

/// What a scraper does with a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reads {
    All,
    /// Closes the connection after the head.
    Head,
}

/// A kind of request.
struct Kind {
    request: String,
    reads: Reads,
    counted: Counted,
}

/// Where a request is counted.
enum Counted {
    /// As a scrape of this exporter. The reason phrase of a refusal determines the outcome; an
    /// aborted scrape has this outcome.
    Scrape(&'static str, &'static str),
    /// As an event of this series.
    Event(String),
}

fn get(target: &str, headers: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: h\r\n{AUTHORIZATION}{headers}\r\n")
}

fn outcome(exporter: &str, outcome: &str) -> String {
    format!("scrapegate_scrapes_total{{exporter=\"{exporter}\",outcome=\"{outcome}\"}}")
}

fn answer(rest: &str, then: Then) -> Action {
    raw(format!("HTTP/1.1 200 OK\r\n{rest}"), then)
}

/// A long body that is announced as longer, or sent in chunks, followed by `rest`.
fn long(framing: Framing, rest: &'static str, then: Then) -> Action {
    let end = raw(rest, then);
    Box::new(move |it: &mut Conversation| {
        it.send(format!("HTTP/1.1 200 OK\r\n{}\r\n", framing.header(2 * LONG)))?;
        let mut body = Vec::new();
        Body::text(LONG).read_to_end(&mut body)?;
        if matches!(framing, Framing::Chunked(_)) {
            it.send(format!("{LONG:x}\r\n"))?;
            it.send(&body)?;
            it.send("\r\n")?;
        } else {
            it.send(&body)?;
        }
        end(it)
    })
}

/// The actions of the exporter, each with the outcome of a scrape that it truncates.
fn actions() -> Vec<(&'static str, Action, &'static str, &'static str)> {
    let small = format!("Content-Length: {}\r\n\r\n{CONTROL}", CONTROL.len());
    let stalls = answer("Content-Length: 9\r\n\r\nup 1\n", Then::Stall);
    let lingers = answer("Content-Length: 9\r\n\r\nup 1\n", Then::Stall);
    let (chunked, length) = (Framing::Chunked(0), Framing::ContentLength);
    vec![
        ("x", answer(&small, Then::Fin), "", ""),
        (
            "x",
            answer("Transfer-Encoding: chunked\r\n\r\n5\r\nup 1\n\r\n0\r\n\r\n", Then::Fin),
            "",
            "",
        ),
        ("x", answer("\r\nup 1\n", Then::Fin), "", ""),
        ("x", raw("HTTP/1.1 500 x\r\nContent-Length: 2\r\n\r\nx\n", Then::Fin), "", ""),
        ("x", long(chunked, "0\r\n\r\n", Then::Fin), "", ""),
        ("x", raw("SSH-2.0-x\r\n", Then::Fin), "", ""),
        ("x", raw("", Then::Fin), "", ""),
        ("x", raw("", Then::Rst), "", ""),
        ("x", raw("HTTP/1.1 302 x\r\nLocation: /\r\n\r\n", Then::Fin), "", ""),
        ("x", raw("HTTP/1.1 204 x\r\n\r\n", Then::Fin), "", ""),
        ("x", answer("Content-Length: 9\r\n\r\n", Then::Fin), "", ""),
        ("x", answer("", Then::Stall), SHORT, "deadline_exporter"),
        ("x", stalls, SHORT, "deadline_exporter"),
        ("x", long(length, "", Then::Fin), "", "exporter_cut_short"),
        ("x", long(length, "", Then::Rst), "", "exporter_reset"),
        ("x", long(chunked, "zz\r\n", Then::Fin), "", "exporter_garbage"),
        ("bounded", long(length, "", Then::Fin), "", ""),
        ("bounded", long(chunked, "0\r\n\r\n", Then::Fin), "", "too_large"),
        ("x", lingers, "", "scraper_gone"),
    ]
}

fn kinds(actions: &[(&'static str, Action, &'static str, &'static str)]) -> Vec<Kind> {
    let scrape = |exporter: &'static str, rest: &str, headers: &str, cut: &'static str| Kind {
        request: get(&format!("/prometheus?exporter={exporter}{rest}"), headers),
        reads: if cut == "scraper_gone" { Reads::Head } else { Reads::All },
        counted: Counted::Scrape(exporter, cut),
    };
    let rejected = |reason: &str, request: String| Kind {
        request,
        reads: Reads::All,
        counted: Counted::Event(format!("scrapegate_http_rejected_total{{reason=\"{reason}\"}}")),
    };
    let mut kinds: Vec<Kind> = actions
        .iter()
        .enumerate()
        .map(|(case, (exporter, _, headers, cut))| {
            scrape(exporter, &format!("&case={case}"), headers, cut)
        })
        .collect();
    kinds.push(scrape("nothing_listens", "", "", ""));
    kinds.push(scrape("no_socket", "", "", ""));
    kinds.push(scrape("busy", "", "", ""));
    kinds.push(Kind {
        request: get("/prometheus?exporter=%22%7d%5cnobody", ""),
        reads: Reads::All,
        counted: Counted::Event(outcome("unknown", "unknown_exporter")),
    });
    let list = get("/prometheus", "");
    kinds.extend([
        rejected("unknown_path", get("/nothing", "")),
        rejected("exporter_parameter", get("/prometheus?exporter=", "")),
        rejected("query", get("/prometheus?exporter=x&y=%", "")),
        rejected("unauthorized", list.replace(AUTHORIZATION, "")),
        rejected("method", list.replacen("GET", "POST", 1)),
        rejected("request_body", get("/prometheus", "Content-Length: 1\r\n")),
        rejected("bad_host", list.replace("Host: h\r\n", "")),
        rejected("malformed", "GET / SSH\r\n\r\n".to_owned()),
        rejected("head_too_large", get("/", &format!("X: {}\r\n", "x".repeat(20_000)))),
    ]);
    kinds
}

/// What the peers saw, in the form of the counters.
#[derive(Debug, Default)]
struct Seen {
    events: BTreeMap<String, f64>,
    truncated: BTreeMap<String, f64>,
    /// Bytes of complete bodies, and bytes of incomplete ones.
    whole_bytes: u64,
    cut_bytes: u64,
}

impl Seen {
    fn event(&mut self, series: String) {
        *self.events.entry(series).or_default() += 1.0;
    }
}

/// Makes one request and records its result. Returns the client unless its connection has ended.
fn request(kind: &Kind, mut client: Client, seen: &Mutex<Seen>) -> Option<Client> {
    client.send(&kind.request).expect("sent");
    let head = client.read_head().unwrap_or_else(|error| panic!("{}: {error}", kind.request));
    if kind.reads == Reads::Head {
        drop(client);
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        count(&mut seen, kind, &head, true);
        return None;
    }
    let body = client.read_body(&head);
    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    let cut = !body.is_complete();
    count(&mut seen, kind, &head, cut);
    if matches!(kind.counted, Counted::Scrape("x", _)) {
        if cut {
            seen.cut_bytes += body.bytes;
        } else if ["complete", "exporter_status"].contains(&outcome_of(&head)) {
            seen.whole_bytes += body.bytes;
        }
    }
    (!cut && head.header("connection") != Some("close")).then_some(client)
}

fn count(seen: &mut Seen, kind: &Kind, head: &Head, cut: bool) {
    match &kind.counted {
        Counted::Event(series) => seen.event(series.clone()),
        Counted::Scrape(exporter, word) if cut => {
            assert!(!word.is_empty(), "{} was cut off", kind.request);
            seen.event(outcome(exporter, word));
            let series =
                format!("scrapegate_truncated_total{{exporter=\"{exporter}\",cause=\"{word}\"}}");
            *seen.truncated.entry(series).or_default() += 1.0;
        }
        Counted::Scrape(exporter, _) => seen.event(outcome(exporter, outcome_of(head))),
    }
}

/// The outcome of a scrape with a complete response, as determined by the proxy's reason phrases.
fn outcome_of(head: &Head) -> &'static str {
    match head.reason.as_str() {
        "exporter refused the connection" => "exporter_refused",
        "exporter's socket does not exist" => "exporter_no_socket",
        "exporter reset the connection" => "exporter_reset",
        "exporter closed the connection without an answer" => "exporter_closed",
        "exporter sent no valid HTTP" => "exporter_garbage",
        "exporter answered with a redirect" => "exporter_redirect",
        "exporter answered without metrics" => "exporter_no_metrics",
        "exporter cut its answer short" => "exporter_cut_short",
        "exporter's answer cannot be filtered" => "exporter_not_filterable",
        "exporter's answer is larger than max-body" => "exporter_too_large",
        "exporter sent no first byte in time" => "exporter_first_byte_timeout",
        "nothing of the exporter's answer passed in time" => "exporter_nothing_passed",
        "exporter did not take the connection in time" => "exporter_connect_timeout",
        "too many scrapes of this exporter" => "too_many_scrapes",
        // A status of the exporter.
        "OK" => "complete",
        "Internal Server Error" => "exporter_status",
        reason => panic!("{reason:?}"),
    }
}

#[test]
fn every_request_is_counted_once_and_as_its_peers_saw_it() {
    let pki = Pki::new();
    let actions = actions();
    let kinds = kinds(&actions);
    let exporter = Exporter::start(by_case(actions.into_iter().map(|it| it.1).collect()));
    let (held, gate) = (Gate::default(), Gate::default());
    let busy = Exporter::start({
        let (held, gate) = (held.clone(), gate.clone());
        move |it: &mut Conversation| {
            it.read_request()?;
            held.open();
            gate.wait();
            it.answer("", Framing::ContentLength, Body::text(100))
        }
    });
    let exporters = exporter.section("x")
        + "max-concurrent = 64\n"
        + &exporter.section("bounded")
        + "max-concurrent = 64\nmax-body = 500000\n"
        + &busy.section("busy")
        + "interval = 300\ntimeout = 300\nmax-concurrent = 1\n"
        + "[nothing_listens]\nenabled = True\nhost = 127.0.0.1\nport = 1\npath = /\n"
        + "[no_socket]\nenabled = True\nsocket = /nowhere/s\npath = /\n";
    let config = pki.config_ini("client-allow = CN=scraper\n");
    let config = config.replacen("[default]\n", "[default]\nauth = user:password\n", 1);
    let proxy = Proxy::start(&config, &exporters);
    let allowed = pki.client(BOTH_VERSIONS);
    let seen = Mutex::new(Seen::default());
    let connect = |config: &Arc<ClientConfig>| {
        let client = Client::connect(proxy.address(), Arc::clone(config)).expect("a handshake");
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.event("scrapegate_tls_handshakes_total{result=\"ok\"}".to_owned());
        client
    };

    let mut holder = connect(&allowed);
    holder.send(get("/prometheus?exporter=busy", "")).expect("sent");
    held.wait();
    thread::scope(|scope| {
        for scraper in 0..SCRAPERS {
            let (kinds, connect, allowed, seen) = (&kinds, &connect, &allowed, &seen);
            scope.spawn(move || {
                let mut client = None;
                for round in 0..ROUNDS {
                    for at in 0..kinds.len() {
                        // Each scraper sends the kinds in a different order.
                        let kind = &kinds[(at * 7 + scraper * 5 + round) % kinds.len()];
                        let open = client.take().unwrap_or_else(|| connect(allowed));
                        client = request(kind, open, seen);
                    }
                }
            });
        }
        scope.spawn(|| refused_by_tls(&pki, &proxy, &seen, &connect));
    });
    gate.open();
    let head = holder.read_head().expect("a head");
    assert!(holder.read_body(&head).is_complete());

    let mut reader = connect(&allowed);
    let mut seen = seen.into_inner().unwrap_or_else(PoisonError::into_inner);
    seen.event(outcome("busy", "complete"));
    assert_agrees(&mut reader, &seen, kinds.len());
}

/// Clients that TLS or the allow-list refuses.
fn refused_by_tls(
    pki: &Pki,
    proxy: &Proxy,
    seen: &Mutex<Seen>,
    connect: &impl Fn(&Arc<ClientConfig>) -> Client,
) {
    let other = credentials(pki.ca(), |_| {}, &[]);
    let other = pki.client_with(BOTH_VERSIONS, other.chain, &other.key);
    let event = |series: &str| {
        seen.lock().unwrap_or_else(PoisonError::into_inner).event(series.to_owned());
    };
    for _ in 0..ROUNDS {
        let response = connect(&other).get("/prometheus?exporter=x");
        assert_eq!(response.head.status, 403, "{response:?}");
        event("scrapegate_http_rejected_total{reason=\"not_allowed\"}");

        let config = pki.stranger(&[&rustls::version::TLS12]);
        assert!(Client::connect(proxy.address(), config).is_err(), "accepted");
        event("scrapegate_tls_handshakes_total{result=\"no_certificate\"}");

        let mut plain = TcpStream::connect(proxy.address()).expect("connected");
        plain.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("sent");
        // An alert, or nothing at all.
        let _ = plain.read_to_end(&mut Vec::new());
        event("scrapegate_tls_handshakes_total{result=\"protocol\"}");
    }
}

fn assert_agrees(reader: &mut Client, seen: &Seen, kinds: usize) {
    let total: f64 = seen.events.values().sum();
    assert!(seen.events.len() >= 30, "{seen:#?}");
    assert!(total > (SCRAPERS * ROUNDS * kinds) as f64, "{total}");
    let nothing = Samples::parse("");
    // A scrape whose scraper left is counted slightly later.
    let samples = Samples::wait_for(reader, AUTHORIZATION, "all requests", |samples| {
        samples.events_since(&nothing).values().sum::<f64>() >= total
    });
    let counted = samples.events_since(&nothing);
    let expected = seen.events.iter().map(|(series, count)| (series.as_str(), *count)).collect();
    assert_eq!(counted, expected);

    let truncated = samples.starting_with("scrapegate_truncated_total{");
    let truncated: BTreeMap<_, _> = truncated.filter(|(_, count)| *count > 0.0).collect();
    let expected = seen.truncated.iter().map(|(series, count)| (series.as_str(), *count)).collect();
    assert_eq!(truncated, expected);
    assert!(truncated.len() > 4, "{truncated:?}");

    for exporter in ["x", "bounded", "busy", "nothing_listens", "no_socket"] {
        let labels = format!("{{exporter=\"{exporter}\"}}");
        let of = |name: &str| samples.value(&format!("scrapegate_{name}{labels}"));
        let scrapes = samples.sum(&format!("scrapegate_scrapes_total{{exporter=\"{exporter}\","));
        assert_eq!(of("scrape_duration_seconds_count"), scrapes, "{exporter}");
        assert_eq!(of("scrapes_in_flight"), 0.0, "{exporter}");
        assert_eq!(of("exporter_overdue"), 0.0, "{exporter}");
    }
    let bytes = samples.value("scrapegate_response_bytes_total{exporter=\"x\"}");
    let least = (seen.whole_bytes + seen.cut_bytes) as f64;
    assert!(bytes >= least, "{bytes} bytes, {least} were read");
    let busy = samples.value("scrapegate_response_bytes_total{exporter=\"busy\"}");
    assert_eq!(busy, 100.0, "bytes of refused scrapes are not counted");
}
