//! The setup that the cases share: one proxy before one exporter. The request chooses the
//! exporter's response.

use std::{cell::Cell, collections::BTreeMap, io, thread, time::Duration};

use rustls::SupportedProtocolVersion;
use serde_json::Value;

use crate::{
    client::{Client, Cut, End, Response},
    exporter::{Conversation, Exporter, Script},
    metrics::{ACCEPTED, Samples},
    pki::{BOTH_VERSIONS, Pki},
    proxy::Proxy,
};

/// The body of the control scrape.
pub const CONTROL: &str = "up 1\n";

/// The extra delay, on a busy machine, beyond the 100 ms by which a scrape may exceed its deadline.
pub const SLACK: Duration = Duration::from_millis(400);

/// The time by which a scrape may exceed its deadline.
pub const OVER_RUN: Duration = Duration::from_millis(100);

/// A proxy, and an exporter that it serves under one or more names.
///
/// When this is dropped, the proxy must have no descriptor left open.
pub struct Testbed {
    /// The certificates of proxy and clients.
    pub pki: Pki,
    /// The exporter.
    pub exporter: Exporter,
    /// The proxy.
    pub proxy: Proxy,
    /// Number of descriptors that the proxy has open without any connection.
    at_rest: usize,
}

impl Testbed {
    /// An exporter with the name `x` and these keys in its section.
    pub fn new(keys: &str, script: impl Script) -> Self {
        Self::with_names(&[("x", keys)], script)
    }

    /// One exporter with several names, each with its own keys.
    pub fn with_names(sections: &[(&str, &str)], script: impl Script) -> Self {
        Self::before(Pki::new(), Exporter::start(script), "", sections)
    }

    /// The proxy before an exporter that already runs.
    pub fn before(
        pki: Pki,
        exporter: Exporter,
        proxy_keys: &str,
        sections: &[(&str, &str)],
    ) -> Self {
        let exporters: String =
            sections.iter().map(|(name, keys)| exporter.section(name) + keys).collect();
        let proxy = Proxy::start(&pki.config_ini(proxy_keys), &exporters);
        let at_rest = proxy.open_fds();
        Self { pki, exporter, proxy, at_rest }
    }

    /// A new connection to the proxy.
    pub fn client(&self) -> Client {
        self.client_of(BOTH_VERSIONS)
    }

    /// A new connection that offers these versions of TLS.
    pub fn client_of(&self, versions: &[&'static SupportedProtocolVersion]) -> Client {
        Client::connect(self.proxy.address(), self.pki.client(versions)).expect("a handshake")
    }

    /// The records of scrapes in the order in which they ended. Waits until there are `count`.
    pub fn scrapes(&self, count: usize) -> Vec<Value> {
        scrapes(&self.proxy, count)
    }

    /// The outcome of the only scrape.
    pub fn only_outcome(&self) -> String {
        let scrapes = self.scrapes(1);
        assert_eq!(scrapes.len(), 1, "{scrapes:?}");
        outcome(&scrapes[0]).to_owned()
    }

    /// Waits until the proxy has at most `most` descriptors open.
    #[track_caller]
    pub fn assert_at_rest(&self, most: usize) {
        self.proxy.assert_at_rest(most);
    }
}

impl Drop for Testbed {
    fn drop(&mut self) {
        if !thread::panicking() {
            self.proxy.assert_at_rest(self.at_rest);
        }
    }
}

/// The records of scrapes in the order in which they ended. Waits until there are `count`.
pub fn scrapes(proxy: &Proxy, count: usize) -> Vec<Value> {
    let seen = Cell::new(0);
    proxy.wait_for_log(&format!("{count} scrapes"), |record| {
        seen.set(seen.get() + usize::from(is_scrape(record)));
        seen.get() == count
    });
    let lines = proxy.log_lines();
    let records = lines.iter().filter_map(|line| serde_json::from_str(line).ok());
    records.filter(is_scrape).map(|mut record: Value| record["fields"].take()).collect()
}

fn is_scrape(record: &Value) -> bool {
    record["fields"]["message"] == "scrape"
}

/// The outcome in the record of a scrape.
pub fn outcome(record: &Value) -> &str {
    record["outcome"].as_str().unwrap_or_else(|| panic!("no outcome in {record}"))
}

/// The behavior of an exporter after it has read the request.
pub type Action = Box<dyn Fn(&mut Conversation) -> io::Result<()> + Send + Sync>;

/// What the exporter does after the bytes of the response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// Closes the connection in order, as a program does when it is done.
    Fin,
    /// Resets the connection.
    Rst,
    /// Sends nothing more and waits until the proxy closes the connection.
    Stall,
}

/// Sends exactly these bytes, and then does `then`.
pub fn raw(bytes: impl Into<Vec<u8>>, then: Then) -> Action {
    let bytes = bytes.into();
    Box::new(move |it| {
        it.send(&bytes)?;
        match then {
            Then::Fin => it.end(),
            Then::Rst => it.reset_at_end(),
            Then::Stall => {
                it.wait_until_closed();
                Ok(())
            }
        }
    })
}

/// Sends `start`, and then `piece` again and again, with a pause of `pause` after each.
pub fn drip(start: &'static str, piece: &'static str, pause: Duration) -> Action {
    Box::new(move |it| {
        it.send(start)?;
        loop {
            it.send(piece)?;
            thread::sleep(pause);
        }
    })
}

/// Runs the action that the request's parameter `case` selects. Without the parameter, answers with
/// [`CONTROL`].
pub fn by_case(actions: Vec<Action>) -> impl Script {
    move |it: &mut Conversation| {
        let request = it.read_request()?;
        match case_of(&request) {
            Some(case) => actions[case](it),
            None => control(it),
        }
    }
}

fn control(it: &mut Conversation) -> io::Result<()> {
    it.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{CONTROL}", CONTROL.len()))
}

fn case_of(request: &str) -> Option<usize> {
    let (_, rest) = request.split_once("case=")?;
    rest.split(|it: char| !it.is_ascii_digit()).next()?.parse().ok()
}

/// The target of a scrape of `exporter` that selects the action `case`.
pub fn target(exporter: &str, case: usize) -> String {
    format!("/prometheus?exporter={exporter}&case={case}")
}

/// The expected result of a case.
#[derive(Clone, Debug)]
pub enum Expected {
    /// A status of the proxy with its reason phrase, and the label in the log.
    Refused(u16, &'static str, &'static str),
    /// A 200 response that is never completed, and the label in the log.
    Aborted(&'static str),
    /// The exporter's status and this complete body.
    Whole(u16, Vec<u8>),
    /// The same, with a head that Prometheus refuses, and the label in the log.
    Unusable(u16, Vec<u8>, &'static str),
}

impl Expected {
    fn outcome(&self) -> &'static str {
        match self {
            Self::Refused(_, _, word) | Self::Aborted(word) | Self::Unusable(.., word) => word,
            Self::Whole(200, _) => "complete",
            Self::Whole(..) => "exporter_status",
        }
    }
}

/// The name of a case, the behavior of the exporter, and the expected result.
pub type Case = (&'static str, Action, Expected);

/// Runs the cases in turn before one proxy, over one connection while the proxy keeps it open.
///
/// Each case must end as expected, and must be logged and counted once. A connection without an
/// abort must serve the next case. At the end a control scrape works, and no descriptors or memory
/// are left in use.
pub fn run(keys: &str, cases: Vec<Case>) -> Testbed {
    let mut actions = Vec::new();
    let mut stories = Vec::new();
    for (story, action, expected) in cases {
        actions.push(action);
        stories.push((story, expected));
    }
    let testbed = Testbed::new(keys, by_case(actions));
    let mut client = testbed.client();
    assert_control(&mut client, "x");
    let before = Samples::of(&mut client);
    let (at_rest, rss) = (testbed.proxy.open_fds(), testbed.proxy.rss_kib());
    let mut accepted = 0;

    for (case, (story, expected)) in stories.iter().enumerate() {
        client.send_get(&target("x", case)).expect("the connection is open");
        let response = client.read_response().unwrap_or_else(|error| panic!("{story}: {error}"));
        assert_expected(story, &response, expected);
        if matches!(expected, Expected::Aborted(_)) {
            client = testbed.client();
            accepted += 1;
        }
    }
    assert_control(&mut client, "x");

    let records = testbed.scrapes(stories.len() + 2);
    assert_eq!(records.len(), stories.len() + 2, "one record a scrape");
    for (record, (story, expected)) in records[1..].iter().zip(&stories) {
        assert_eq!(outcome(record), expected.outcome(), "{story}: {record}");
    }
    assert_counted(&mut client, &before, &records[1..], accepted);
    assert_eq!(testbed.exporter.connections(), stories.len() + 2, "one connection a scrape");
    testbed.assert_at_rest(at_rest);
    let grown = testbed.proxy.rss_kib().saturating_sub(rss);
    assert!(grown < 8 * 1024, "the memory grew by {grown} KiB");
    testbed
}

/// Asserts that since `before` the counters have moved by these scrapes and by `clients` accepted
/// clients, and that no other counter has moved. Waits until the scrapes are counted.
#[track_caller]
pub fn assert_counted(client: &mut Client, before: &Samples, records: &[Value], accepted: u32) {
    let series = records.iter().map(|record| {
        let (exporter, outcome) = (&record["exporter"], &record["outcome"]);
        format!("scrapegate_scrapes_total{{exporter={exporter},outcome={outcome}}}")
    });
    let mut expected = BTreeMap::new();
    for event in series.chain((0..accepted).map(|_| ACCEPTED.to_owned())) {
        *expected.entry(event).or_insert(0.0) += 1.0;
    }
    let samples = Samples::of(client);
    let events = samples.events_since(before);
    assert_eq!(events, expected.iter().map(|(event, moved)| (event.as_str(), *moved)).collect());
    assert_eq!(samples.sum("scrapegate_scrapes_in_flight{"), 0.0);
}

fn assert_expected(story: &str, response: &Response, expected: &Expected) {
    let Response { head, body } = response;
    match expected {
        Expected::Refused(status, reason, _) => {
            assert_refused(story, response, *status, reason);
        }
        Expected::Aborted(_) => {
            assert_eq!(head.status, 200, "{story}: {response:?}");
            assert_truncated(story, &body.end);
        }
        Expected::Whole(status, bytes) | Expected::Unusable(status, bytes, _) => {
            assert_eq!(head.status, *status, "{story}: {response:?}");
            assert!(body.is_complete(), "{story}: {response:?}");
            assert_eq!(body.bytes, bytes.len() as u64, "{story}");
            let kept = &bytes[..body.start.len()];
            assert!(body.start == kept, "{story}: {response:?}");
        }
    }
}

/// Asserts a refusal with this status and reason phrase, which is also the body, on a connection
/// that is kept.
pub fn assert_refused(story: &str, response: &Response, status: u16, reason: &str) {
    let Response { head, body } = response;
    assert_eq!((head.status, head.reason.as_str()), (status, reason), "{story}: {response:?}");
    assert!(body.is_complete(), "{story}: {response:?}");
    assert_eq!(body.text(), format!("{reason}\n"), "{story}");
    assert_eq!(head.header("content-type"), Some("text/plain; charset=utf-8"), "{story}");
    assert_eq!(head.header("connection"), None, "{story}");
}

/// Asserts that the message is incomplete, and that the end of the connection does not make it
/// complete.
pub fn assert_truncated(story: &str, end: &End) {
    assert!(
        matches!(end, End::Incomplete(Cut::Reset | Cut::NoCloseNotify)),
        "{story}: ended as {end:?}"
    );
}

/// Asserts a scrape without a fault over this connection.
pub fn assert_control(client: &mut Client, exporter: &str) {
    let response = client.get(&format!("/prometheus?exporter={exporter}"));
    assert_eq!(response.head.status, 200, "{response:?}");
    assert!(response.body.is_complete(), "{response:?}");
    assert_eq!(response.body.text(), CONTROL);
}

/// Asserts that the time is at least `due`, and at most slightly longer.
pub fn assert_on_time(story: &str, took: Duration, due: Duration) {
    assert!(took >= due, "{story}: after {took:?}, {due:?} had been granted");
    let latest = due + OVER_RUN + SLACK;
    assert!(took <= latest, "{story}: after {took:?}, at most {latest:?} is right");
}
