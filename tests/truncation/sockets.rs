//! Deaths on real sockets, with the real binary and with TLS towards the scraper.

use std::{
    io,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use rustls::version::{TLS12, TLS13};
use scrapegate::common::compression::ContentCoding;
use scrapegate_harness::{
    client::{Client, Response},
    exporter::{Conversation, Exporter, Framing, Gate},
    pki::Pki,
    testbed::{
        Action, Testbed, Then, assert_control, assert_truncated, by_case, outcome, raw, target,
    },
};

use crate::{
    answers::Answer,
    deaths::{Chain, DROP, Death, ENDS, Moment, Reader, Tally},
};

/// The minimum number of deaths.
const LEAST: usize = 5_000;

/// The minimum number of deaths with a filter.
const LEAST_FILTERED: usize = 2_000;

/// Number of positions at which a response is cut.
const PLACES: usize = 32;

/// The same for a response that is compressed.
const COMPRESSED_PLACES: usize = 12;

/// The minimum number of deaths after many compressed blocks, with and without a filter.
const LEAST_LATE: usize = 100;

/// Number of positions at which a response of many compressed blocks is cut.
const LATE_PLACES: usize = 2;

/// Some bodies are cut after at least this many compressed bytes: several blocks of the proxy, which
/// have 16 KiB.
const MANY_BLOCKS: u64 = 64 * 1024;

/// Number of concurrent clients. A stalled scrape mostly waits, so many can run at a time.
const CLIENTS: usize = 48;

/// How long a slow scraper waits before it reads the body, so that socket buffers fill up. The
/// kernel reports no event for full buffers here; if the time is too short, the case equals that of
/// a fast scraper.
const SLOW: Duration = Duration::from_millis(3);

/// The names of the exporter, with the allowed outcomes of their scrapes. Only scrapes that never
/// end by themselves have a short timeout.
const NAMES: [(&str, &str, &[&str]); 4] = [
    (
        "fin",
        UNHURRIED,
        &[
            "complete",
            "exporter_status",
            "exporter_closed",
            "exporter_cut_short",
            "exporter_integrity",
            "integrity",
        ],
    ),
    ("rst", UNHURRIED, &["complete", "exporter_status", "exporter_reset"]),
    ("stall", HURRIED, STALLED),
    ("rest", UNHURRIED, &["complete", "exporter_status"]),
];
/// The last two occur only with transforms: a filter that passes nothing, and an encoder that is not
/// done with a long body.
const STALLED: &[&str] = &[
    "exporter_first_byte_timeout",
    "deadline_exporter",
    "exporter_nothing_passed",
    "deadline_scraper",
];
const UNHURRIED: &str = "timeout = 60\ninterval = 60\nmax-concurrent = 64\ncompression = always\n";
const HURRIED: &str =
    "timeout = 0.5\nconnect-timeout = 0.5\nmax-concurrent = 64\ncompression = always\n";

/// All scrapes of [`CLIENTS`] may be compressed at a time.
const PROXY: &str = "max-compressions = 64\n";

/// A death, and the means by which its two ends synchronize.
struct Case<'a> {
    death: Death<'a>,
    /// The scraper opens this gate when it has the head. From then on, the proxy can no longer
    /// answer with a refusal.
    gate: Option<Gate>,
}

impl<'a> Case<'a> {
    /// All cases with this response.
    fn all(answer: &'a Answer, chain: Chain) -> Vec<Self> {
        let mut cases = Self::with(answer, chain, &answer.some_places(PLACES));
        // An error or an encoded body is not compressed. Longer bodies are cut at fewer places.
        let is_compressed =
            answer.status == 200 && answer.name != "gzip" && answer.body.len() <= 64 * 1024;
        if is_compressed {
            for chain in compressed(chain) {
                cases.extend(Self::with(answer, chain, &answer.some_places(COMPRESSED_PLACES)));
            }
        }
        cases
    }

    fn with(answer: &'a Answer, chain: Chain, places: &[usize]) -> Vec<Self> {
        let mut cases = Vec::new();
        for (number, &cut) in places.iter().enumerate() {
            for then in ENDS {
                // A reset discards the bytes that the proxy has not read yet.
                if then == Then::Rst && answer.is_whole(cut, then) && answer.bytes.len() > 16_384 {
                    continue;
                }
                let reader = if number % 2 == 0 { Reader::Fast } else { Reader::Slow };
                let moment = Moment::AtOnce;
                let at_once = Death { answer, cut, then, moment, reader, chain };
                cases.push(Self { death: at_once, gate: None });
                let death = Death { moment: Moment::Later, ..at_once };
                // Without a first byte, the proxy sends no head that could open the gate.
                if !death.output().is_empty() {
                    cases.push(Self { death, gate: Some(Gate::default()) });
                }
            }
        }
        cases
    }

    fn name(&self) -> &'static str {
        match self.death.then {
            Then::Fin => "fin",
            Then::Rst => "rst",
            Then::Stall if self.death.is_whole() => "rest",
            Then::Stall => "stall",
        }
    }

    fn action(&self) -> Action {
        let (bytes, gate) = (self.death.answer.bytes.slice(..self.death.cut), self.gate.clone());
        let then = self.death.then;
        let end = raw("", then);
        Box::new(move |it| {
            it.send(&bytes)?;
            if let Some(gate) = &gate {
                gate.wait();
            }
            end(it)?;
            if then == Then::Fin {
                // Short of memory, the kernel resets closed sockets that have much unsent data.
                it.wait_until_closed();
            }
            Ok(())
        })
    }

    fn send(&self, client: &mut Client, target: &str) {
        let accepts =
            self.death.chain.coding().map_or_else(String::new, |coding| {
                format!("Accept-Encoding: {}\r\n", coding.name())
            });
        client.send(format!("GET {target} HTTP/1.1\r\nHost: h\r\n{accepts}\r\n")).expect("sent");
    }

    /// Reads the response as the scraper of this case does.
    fn receive(&self, client: &mut Client) -> io::Result<Response> {
        let head = client.read_head();
        if let Some(gate) = &self.gate {
            gate.open();
        }
        let head = head?;
        if let (200, Some(coding)) = (head.status, self.death.chain.coding()) {
            assert_eq!(head.header("content-encoding"), Some(coding.name()), "{head:?}");
        }
        if self.death.reader == Reader::Slow {
            thread::sleep(SLOW);
        }
        let body = client.read_body(&head);
        Ok(Response { head, body })
    }
}

/// Runs all cases.
fn run_all(testbed: &Testbed, cases: &[Case<'_>]) -> Tally {
    let next = AtomicUsize::new(0);
    let client = |number: usize| {
        let version = if number % 2 == 0 { &TLS13 } else { &TLS12 };
        let mut tally = Tally::default();
        let mut client: Option<Client> = None;
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(case) = cases.get(number) else { return tally };
            let connection = client.get_or_insert_with(|| testbed.client_of(&[version]));
            case.send(connection, &target(case.name(), number));
            let received = case.receive(connection);
            if !received.as_ref().is_ok_and(|response| response.body.is_complete()) {
                client = None;
            }
            tally.count(&case.death, received);
        }
    };
    let mut tally = Tally::default();
    thread::scope(|scope| {
        let client = &client;
        let clients: Vec<_> = (0..CLIENTS).map(|it| scope.spawn(move || client(it))).collect();
        for client in clients {
            tally.add(client.join().expect("a client that did not panic"));
        }
    });
    tally
}

/// U11, U12, U13, U21, U27.
#[test]
fn over_tls_a_scraper_receives_a_complete_response_if_and_only_if_the_exporter_delivered_one() {
    assert_all(Chain::Empty, "over TLS", LEAST);
}

/// U11, U12, U13, U21, U27.
#[test]
fn over_tls_a_filter_never_makes_a_truncated_body_complete_nor_a_complete_one_truncated() {
    assert_all(Chain::Filter, "over TLS, with a filter", LEAST_FILTERED);
}

/// U11, U12, U13, U21.
#[test]
fn over_tls_a_body_that_is_cut_after_many_compressed_blocks_is_never_complete() {
    for chain in [Chain::Empty, Chain::Filter] {
        let answers = Answer::of_many_blocks(chain.filters());
        let mut cases = Vec::new();
        for answer in &answers {
            for chain in compressed(chain) {
                cases.extend(Case::with(answer, chain, &answer.late_places(LATE_PLACES)));
            }
        }
        let tally = run_cases(&cases, chain, "over TLS, many blocks", LEAST_LATE);
        assert!(tally.longest_cut() >= MANY_BLOCKS, "{chain:?}: {}", tally.longest_cut());
    }
}

/// Both codings after this chain.
fn compressed(chain: Chain) -> [Chain; 2] {
    let with = if chain.filters() { Chain::FilterCompressed } else { Chain::Compressed };
    [ContentCoding::Zstd, ContentCoding::Gzip].map(with)
}

/// Runs all cases with this chain.
fn assert_all(chain: Chain, place: &str, least: usize) {
    let answers = chain.answers();
    let cases: Vec<_> = answers.iter().flat_map(|answer| Case::all(answer, chain)).collect();
    run_cases(&cases, chain, place, least);
}

/// Runs these cases. The sections of the exporters have the filter of `chain`.
fn run_cases(cases: &[Case<'_>], chain: Chain, place: &str, least: usize) -> Tally {
    let keys = if chain.filters() { format!("metrics-drop = {DROP}\n") } else { String::new() };
    let all_keys = NAMES.map(|(_, own, _)| format!("{own}{keys}"));
    let sections: Vec<_> =
        NAMES.iter().zip(&all_keys).map(|((name, ..), keys)| (*name, keys.as_str())).collect();
    let script = by_case(cases.iter().map(Case::action).collect());
    let testbed = Testbed::before(Pki::new(), Exporter::start(script), PROXY, &sections);
    let mut control = testbed.client();
    assert_control(&mut control, "rest");
    let at_rest = testbed.proxy.open_fds();

    let tally = run_all(&testbed, cases);

    tally.conclude(place, least);
    assert_control(&mut control, "rest");
    let records = testbed.scrapes(cases.len() + 2);
    assert_eq!(records.len(), cases.len() + 2, "one record a scrape");
    let is_whole = |record: &&_| ["complete", "exporter_status"].contains(&outcome(record));
    let complete = records.iter().filter(is_whole);
    assert_eq!(complete.count(), tally.whole() + 2, "whole to the log and to scrapers");
    for record in &records {
        let words = NAMES.iter().find(|(name, ..)| record["exporter"] == *name);
        assert!(words.is_some_and(|(.., words)| words.contains(&outcome(record))), "{record}");
    }
    testbed.assert_at_rest(at_rest);
    tally
}

/// 300 kB of text.
fn long_answer(framing: Framing) -> Answer {
    let is_it = |answer: &Answer| answer.name == "300 kB" && answer.framing == framing;
    Answer::all().into_iter().find(is_it).expect("a response with this name and framing")
}

#[test]
fn u28_a_close_delimited_body_over_tls_is_complete_only_with_close_notify() {
    let answer = long_answer(Framing::UntilClose).bytes;
    let cases = [(&TLS12, 0), (&TLS12, 1), (&TLS13, 0), (&TLS13, 1)];
    for (version, case) in cases {
        let with_close_notify = case == 0;
        let pki = Pki::new();
        let (ends, cut) = (raw(&answer[..], Then::Fin), answer.clone());
        let is_cut: Action = Box::new(move |it| it.send(&cut).and_then(|()| it.cut()));
        let script = by_case(vec![ends, is_cut]);
        let exporter = Exporter::start_tls_with(&pki, pki.server(&[version]), script);
        let testbed = Testbed::before(pki, exporter, "", &[("x", "")]);
        let response = testbed.client().get(&target("x", case));
        assert_eq!(response.head.status, 200, "{response:?}");
        if with_close_notify {
            assert!(response.body.is_complete(), "{response:?}");
            assert_eq!(response.body.bytes, 300_000);
            assert_eq!(testbed.only_outcome(), "complete");
        } else {
            assert_truncated("no close_notify", &response.body.end);
            assert_eq!(testbed.only_outcome(), "exporter_cut_short");
        }
    }
}

#[test]
fn a_framed_body_over_tls_is_complete_without_close_notify() {
    let pki = Pki::new();
    let framings = [Framing::ContentLength, Framing::Chunked(10_000)];
    let actions = framings.map(|framing| {
        let answer = long_answer(framing).bytes;
        let action: Action = Box::new(move |it| it.send(&answer).and_then(|()| it.cut()));
        action
    });
    let exporter = Exporter::start_tls(&pki, by_case(actions.into()));
    let testbed = Testbed::before(pki, exporter, "", &[("x", "")]);
    let mut client = testbed.client();
    for case in 0..framings.len() {
        let response = client.get(&target("x", case));
        assert!(response.body.is_complete() && response.body.bytes == 300_000, "{response:?}");
    }
}

#[test]
fn u11_u12_u13_a_truncated_framed_body_over_tls_is_never_complete() {
    type End = fn(&mut Conversation) -> io::Result<()>;
    let ends: [(End, &str); 3] = [
        (Conversation::end, "exporter_cut_short"),
        (Conversation::cut, "exporter_cut_short"),
        (Conversation::reset_at_end, "exporter_reset"),
    ];
    for version in [&TLS12, &TLS13] {
        let (mut actions, mut words) = (Vec::<Action>::new(), Vec::new());
        // The scraper opens this gate when it has the head. From then on, the proxy can no longer
        // answer with a refusal.
        let mut gates = Vec::new();
        for framing in [Framing::ContentLength, Framing::Chunked(10_000)] {
            let answer = long_answer(framing).bytes;
            for (end, word) in ends {
                let most = answer[..answer.len() - 1].to_vec();
                let gate = Gate::default();
                gates.push(gate.clone());
                actions.push(Box::new(move |it| {
                    it.send(&most)?;
                    gate.wait();
                    end(it)
                }));
                words.push(word);
            }
        }
        let pki = Pki::new();
        let exporter = Exporter::start_tls_with(&pki, pki.server(&[version]), by_case(actions));
        let testbed = Testbed::before(pki, exporter, "", &[("x", "")]);
        for (case, gate) in gates.iter().enumerate() {
            let mut client = testbed.client_of(&[version]);
            client.send_get(&target("x", case)).expect("sent");
            let head = client.read_head().expect("a head");
            assert_eq!(head.status, 200, "{case}: {head:?}");
            gate.open();
            assert_truncated(&format!("case {case}, {version:?}"), &client.read_body(&head).end);
        }
        let records = testbed.scrapes(words.len());
        let outcomes: Vec<&str> = records.iter().map(outcome).collect();
        assert_eq!(outcomes, words, "{version:?}");
        assert_control(&mut testbed.client(), "x");
    }
}
