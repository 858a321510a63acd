//! A scraper has a whole message if and only if the exporter delivered one.

use std::{
    fmt::Write as _,
    io::{self, Read},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use rustls::version::{TLS12, TLS13};

use crate::{
    stage::{Action, Stage, Then, assert_control, assert_cut, by_case, outcome, raw, target},
    support::{
        body::Body,
        client::{Client, Cut, End, Response},
        exporter::{Exporter, Framing, Gate},
        pki::Pki,
    },
};

const FRAMINGS: [Framing; 3] = [Framing::ContentLength, Framing::Chunked(7), Framing::UntilClose];

/// Names of the exporter, one for each way of dying.
const NAMES: [(&str, Then); 3] = [("fin", Then::Fin), ("rst", Then::Rst), ("stall", Then::Stall)];

/// Clients at the same time: most of the time of a stalled scrape is waiting.
const CLIENTS: usize = 24;

/// An answer in one framing, as bytes.
struct Answer {
    framing: Framing,
    bytes: Vec<u8>,
    /// Where its body begins.
    head: usize,
    body: Vec<u8>,
}

impl Answer {
    fn new(framing: Framing, body: &[u8]) -> Self {
        let mut bytes = format!("HTTP/1.1 200 OK\r\n{}\r\n", framing.header(body.len() as u64));
        let head = bytes.len();
        let text = std::str::from_utf8(body).expect("text");
        match framing {
            Framing::ContentLength | Framing::UntilClose => bytes.push_str(text),
            Framing::Chunked(size) => {
                for chunk in body.chunks(size) {
                    let text = std::str::from_utf8(chunk).expect("ASCII");
                    write!(bytes, "{:x}\r\n{text}\r\n", chunk.len()).expect("a string takes all");
                }
                bytes.push_str("0\r\n\r\n");
            }
        }
        Self { framing, bytes: bytes.into_bytes(), head, body: body.to_vec() }
    }

    /// Whether its first `cut` bytes have a byte of the body among them.
    fn has_data_at(&self, cut: usize) -> bool {
        let chunk_size = if let Framing::Chunked(size) = self.framing {
            format!("{:x}\r\n", size.min(self.body.len())).len()
        } else {
            0
        };
        cut > self.head + chunk_size
    }

    /// Whether its first `cut` bytes and a FIN are a whole answer.
    fn is_whole_at(&self, cut: usize) -> bool {
        self.framing == Framing::UntilClose && cut > self.head && self.bytes[cut - 1] == b'\n'
    }
}

/// One way of dying at one place.
struct Death<'a> {
    answer: &'a Answer,
    cut: usize,
    name: &'static str,
    then: Then,
    /// Opened when the scraper has the head: then a clean refusal is no longer possible.
    gate: Option<Gate>,
}

impl<'a> Death<'a> {
    /// All there are at one place: at once, and after the scraper has the head.
    fn all(answer: &'a Answer, cut: usize) -> Vec<Self> {
        let at_once = NAMES.map(|(name, then)| Self { answer, cut, name, then, gate: None });
        let mut deaths = Vec::from(at_once);
        if answer.has_data_at(cut) {
            let later = NAMES.map(|(name, then)| {
                let gate = Some(Gate::default());
                Self { answer, cut, name, then, gate }
            });
            deaths.extend(later);
        }
        deaths
    }

    fn action(&self) -> Action {
        let (bytes, gate) = (self.answer.bytes[..self.cut].to_vec(), self.gate.clone());
        let end = raw("", self.then);
        Box::new(move |it| {
            it.send(&bytes)?;
            if let Some(gate) = &gate {
                gate.wait();
            }
            end(it)
        })
    }

    /// What the scraper has of it.
    fn suffer(&self, client: &mut Client) -> io::Result<Response> {
        let head = client.read_head()?;
        if let Some(gate) = &self.gate {
            gate.open();
        }
        let body = client.read_body(&head);
        Ok(Response { head, body })
    }

    fn story(&self) -> String {
        let Self { answer, cut, then, gate, .. } = self;
        let last = String::from_utf8_lossy(&answer.bytes[cut.saturating_sub(20)..*cut]);
        let when = if gate.is_some() { "after the head" } else { "at once" };
        format!("{:?} cut after {cut} bytes, at {last:?}, then {then:?} {when}", answer.framing)
    }

    fn judge(&self, received: io::Result<Response>) {
        let story = self.story();
        let response = match received {
            Ok(response) => response,
            Err(error) => return assert_cut(&story, &End::Incomplete(Cut::from(error))),
        };
        let Response { head, body } = &response;
        if self.then == Then::Fin && self.answer.is_whole_at(self.cut) {
            assert!(head.status == 200 && body.is_complete(), "{story}: {response:?}");
            assert_eq!(body.bytes, (self.cut - self.answer.head) as u64, "{story}");
            return;
        }
        let too_late = if self.then == Then::Stall { 504 } else { 502 };
        if head.status == too_late && self.gate.is_none() {
            // Nothing of the body had been passed on: a proper answer of the proxy's own.
            assert!(body.is_complete(), "{story}: {response:?}");
            return;
        }
        assert_eq!(head.status, 200, "{story}: {response:?}");
        assert_cut(&story, &body.end);
        let start = &self.answer.body[..body.start.len().min(self.answer.body.len())];
        assert!(body.start == start, "{story}: {response:?} is no prefix");
        if self.then == Then::Stall && !matches!(self.answer.framing, Framing::Chunked(_)) {
            let sent = (self.cut - self.answer.head) as u64;
            assert_eq!(body.bytes, sent, "{story}: what had come was held back");
        }
    }
}

/// Lets the exporter die in all these ways and compares what the scrapers have with what was sent.
fn assert_never_whole(deaths: &[Death<'_>], keys: &str) {
    let sections = NAMES.map(|(name, _)| (name, keys));
    let stage = Stage::with_names(&sections, by_case(deaths.iter().map(Death::action).collect()));
    let mut control = stage.client();
    assert_control(&mut control, "fin");
    let at_rest = stage.proxy.open_fds();

    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for number in 0..CLIENTS {
            let version = if number % 2 == 0 { &TLS13 } else { &TLS12 };
            let (stage, next) = (&stage, &next);
            scope.spawn(move || {
                let mut client: Option<Client> = None;
                loop {
                    let case = next.fetch_add(1, Ordering::Relaxed);
                    let Some(death) = deaths.get(case) else { return };
                    let connection = client.get_or_insert_with(|| stage.client_of(&[version]));
                    connection.send_get(&target(death.name, case)).expect("sent");
                    let received = death.suffer(connection);
                    if !received.as_ref().is_ok_and(|response| response.body.is_complete()) {
                        client = None;
                    }
                    death.judge(received);
                }
            });
        }
    });
    assert_control(&mut control, "fin");

    let records = stage.scrapes(deaths.len() + 2);
    assert_eq!(records.len(), deaths.len() + 2, "one record a scrape");
    let wholes = deaths.iter().filter(|it| it.then == Then::Fin && it.answer.is_whole_at(it.cut));
    let complete = records.iter().filter(|record| outcome(record) == "complete");
    assert_eq!(complete.count(), wholes.count() + 2, "no outcome is complete that was not");
    let has_head = records.iter().filter(|record| record["status"] == 200);
    let aborted = has_head.filter(|record| outcome(record) != "complete").count();
    let late = deaths.iter().filter(|death| death.gate.is_some()).count();
    assert!(late * 4 > deaths.len() && aborted >= late, "{aborted} aborts, {late} after the head");
    for record in &records {
        let words: &[&str] = match record["exporter"].as_str() {
            Some("fin") => &[
                "complete",
                "exporter_closed",
                "exporter_cut_short",
                "exporter_integrity",
                "integrity",
            ],
            Some("rst") => &["exporter_reset"],
            _ => &["exporter_first_byte_timeout", "deadline_exporter"],
        };
        assert!(words.contains(&outcome(record)), "{record}");
    }
    stage.assert_at_rest(at_rest);
}

/// U11, U12, U13, U27.
#[test]
fn a_small_answer_cut_at_any_byte_is_never_whole() {
    let answers = FRAMINGS.map(|it| Answer::new(it, b"a 1\nb 22\nc{d=\"e\"} 333\n"));
    let mut deaths = Vec::new();
    for answer in &answers {
        deaths.extend((0..answer.bytes.len()).flat_map(|cut| Death::all(answer, cut)));
    }
    assert!(deaths.len() > 500, "only {} cuts", deaths.len());
    assert_never_whole(&deaths, "timeout = 0.5\nconnect-timeout = 0.5\nmax-concurrent = 64\n");
}

/// U11, U12, U13, U27.
#[test]
fn a_body_of_300_kb_cut_anywhere_is_never_whole() {
    let body = body_of_300_kb();
    let framings = [Framing::ContentLength, Framing::Chunked(4096), Framing::UntilClose];
    let answers = framings.map(|framing| Answer::new(framing, &body));
    let places = [
        0, 1, 63, 4095, 4096, 4097, 4098, 4099, 16_383, 16_384, 65_537, 131_073, 163_830, 163_831,
        163_832, 200_001, 262_143, 299_999,
    ];
    let mut deaths = Vec::new();
    for answer in &answers {
        let from_the_end = (1..8).map(|before| answer.bytes.len() - before);
        let cuts = places.iter().map(|place| answer.head + place).chain(from_the_end);
        deaths.extend(cuts.flat_map(|cut| Death::all(answer, cut)));
    }
    assert_never_whole(&deaths, "timeout = 1\nmax-concurrent = 64\n");
}

#[test]
fn u28_a_body_that_ends_with_a_tls_connection_is_whole_only_with_close_notify() {
    let body = body_of_300_kb();
    let cases = [(&TLS12, 0), (&TLS12, 1), (&TLS13, 0), (&TLS13, 1)];
    for (version, case) in cases {
        let with_close_notify = case == 0;
        let pki = Pki::new();
        let answer = Answer::new(Framing::UntilClose, &body).bytes;
        let ends = raw(answer.clone(), Then::Fin);
        let is_cut: Action = Box::new(move |it| it.send(&answer).and_then(|()| it.cut()));
        let script = by_case(vec![ends, is_cut]);
        let exporter = Exporter::start_tls_with(&pki, pki.server(&[version]), script);
        let stage = Stage::before(pki, exporter, "", &[("x", "")]);
        let response = stage.client().get(&target("x", case));
        assert_eq!(response.head.status, 200, "{response:?}");
        if with_close_notify {
            assert!(response.body.is_complete(), "{response:?}");
            assert_eq!(response.body.bytes, 300_000);
            assert_eq!(stage.only_outcome(), "complete");
        } else {
            assert_cut("no close_notify", &response.body.end);
            assert_eq!(stage.only_outcome(), "exporter_cut_short");
        }
    }
}

#[test]
fn a_framed_body_over_tls_is_whole_without_close_notify() {
    let pki = Pki::new();
    let framings = [Framing::ContentLength, Framing::Chunked(4096)];
    let actions = framings.map(|framing| {
        let answer = Answer::new(framing, &body_of_300_kb()).bytes;
        let action: Action = Box::new(move |it| it.send(&answer).and_then(|()| it.cut()));
        action
    });
    let exporter = Exporter::start_tls(&pki, by_case(actions.into()));
    let stage = Stage::before(pki, exporter, "", &[("x", "")]);
    let mut client = stage.client();
    for case in 0..framings.len() {
        let response = client.get(&target("x", case));
        assert!(response.body.is_complete() && response.body.bytes == 300_000, "{response:?}");
    }
}

fn body_of_300_kb() -> Vec<u8> {
    let mut body = Vec::new();
    Body::text(300_000).read_to_end(&mut body).expect("a body never fails");
    body
}
