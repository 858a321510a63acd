//! Tests of the test harness: the scripted exporter and the strict scraper, without a proxy between
//! them.
//!
//! Other tests rely on `End::Complete` and on the hash. Here the scraper sees each way in which an
//! exporter can truncate a response.

use std::{
    cell::Cell,
    io::{self, BufRead, BufReader, Write},
    net::TcpListener,
    thread,
    time::Duration,
};

use scrapegate_harness::{
    body::{Body, Kind},
    client::{Client, Cut, End, Received},
    exporter::{Conversation, Exporter, Framing, Gate},
    pki::{BOTH_VERSIONS, Pki},
    settled,
    side_by_side::{
        self, numbers,
        scraper::{Download, Scraper},
    },
};

const MIB: u64 = 1 << 20;

/// The response that a scraper receives from an exporter that reads the request and then runs
/// `script`.
fn receive(
    script: impl Fn(&mut Conversation) -> io::Result<()> + Send + Sync + 'static,
) -> Received {
    let pki = Pki::new();
    let exporter = Exporter::start_tls(&pki, move |conversation| {
        conversation.read_request()?;
        script(conversation)
    });
    let mut client =
        Client::connect(exporter.address(), pki.client(BOTH_VERSIONS)).expect("a handshake");
    client.get("/metrics").body
}

#[test]
fn a_complete_body_has_the_hash_of_the_sent_bytes() {
    for kind in [Kind::Text, Kind::Opaque] {
        for framing in [Framing::Chunked(4096), Framing::ContentLength] {
            let len = 3 * MIB + 17;
            let received = receive(move |it| it.answer("", framing, Body::new(kind, len)));
            assert_eq!(received.end, End::Complete, "{kind:?} {framing:?}");
            assert_eq!(received.bytes, len);
            assert_eq!(received.sha256, Body::sha256(kind, len));
        }
    }
}

#[test]
fn a_text_body_has_exactly_its_length_and_ends_in_a_newline() {
    for len in [1, 2, 63, 64, 65, 128, 1000] {
        let received = receive(move |it| it.answer("", Framing::ContentLength, Body::text(len)));
        assert_eq!(received.start.len() as u64, len);
        assert_eq!(received.start.last(), Some(&b'\n'));
    }
}

#[test]
fn all_blocks_of_a_body_differ() {
    let received = receive(|it| it.answer("", Framing::ContentLength, Body::text(64 * 1024)));
    let mut lines: Vec<&[u8]> = received.start.chunks(64).collect();
    lines.sort_unstable();
    lines.dedup();
    assert_eq!(lines.len(), 1024);
}

#[test]
fn a_body_shorter_than_its_content_length_is_incomplete() {
    let short = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n123456789";
    let received = receive(move |it| it.send(short).and_then(|()| it.end()));
    assert_eq!(received.end, End::Incomplete(Cut::CloseNotify));
    assert_eq!(received.start, b"123456789");
    let received = receive(move |it| it.send(short).and_then(|()| it.cut()));
    assert_eq!(received.end, End::Incomplete(Cut::NoCloseNotify));
    let received = receive(move |it| it.send(short).and_then(|()| it.reset_at_end()));
    assert_eq!(received.end, End::Incomplete(Cut::Reset));
}

#[test]
fn a_chunked_body_cut_anywhere_before_its_last_chunk_is_incomplete() {
    let whole = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    let head = whole.find("3\r\n").expect("a chunk");
    for cut in head..whole.len() {
        let received = receive(move |it| it.send(&whole[..cut]).and_then(|()| it.end()));
        assert_eq!(received.end, End::Incomplete(Cut::CloseNotify), "{:?}", &whole[..cut]);
    }
    let received = receive(move |it| it.send(whole));
    assert_eq!(received.end, End::Complete);
}

#[test]
fn a_close_delimited_body_is_never_complete_to_the_strict_scraper() {
    let received = receive(|it| it.answer("", Framing::UntilClose, Body::text(100)));
    assert!(matches!(received.end, End::Incomplete(Cut::BadFraming(_))), "{received:?}");
}

#[test]
fn an_exporter_can_stall_until_its_gate_opens() {
    let gate = Gate::default();
    let pki = Pki::new();
    let script_gate = gate.clone();
    let exporter = Exporter::start_tls(&pki, move |conversation| {
        conversation.read_request()?;
        conversation.send("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\na")?;
        script_gate.wait();
        conversation.send("b\n")
    });
    let mut client =
        Client::connect(exporter.address(), pki.client(BOTH_VERSIONS)).expect("a handshake");
    client.send_get("/metrics").expect("sent");
    let head = client.read_head().expect("a head before the stall");
    gate.open();
    let received = client.read_body(&head);
    assert!(received.is_complete(), "{received:?}");
    assert_eq!(received.text(), "ab\n");
    assert_eq!(exporter.requests().len(), 1);
    assert_eq!(exporter.connections(), 1);
}

/// What the scraper of the benchmarks makes of this answer, over plain HTTP.
fn download(answer: &'static str) -> side_by_side::Result<Download> {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    let exporter = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("the scraper");
        let request = BufReader::new(stream.try_clone().expect("a clone"));
        let head: Vec<_> = request
            .lines()
            .map(|line| line.expect("a line"))
            .take_while(|line| !line.is_empty())
            .collect();
        stream.write_all(answer.as_bytes()).expect("sent");
        head
    });
    let result = Scraper::connect(address, None).and_then(|mut it| it.download("/x", "zstd"));
    let head = exporter.join().expect("a request");
    assert!(head.contains(&"Accept-Encoding: zstd".to_owned()), "{head:?}");
    result
}

#[test]
fn the_scraper_of_benchmarks_keeps_a_body_without_its_framing() {
    let chunked = "HTTP/1.1 200 OK\r\ncontent-encoding: zstd\r\nTransfer-Encoding: chunked\r\n\r\n\
                   3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n";
    let received = download(chunked).expect("a whole body");
    assert_eq!(received.body, b"abcd");
    assert_eq!(received.scraped.bytes, 4);
    assert_eq!(received.encoding, "zstd");
    let received = download("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab").expect("whole");
    assert_eq!(received.body, b"ab");
    assert_eq!(received.encoding, "");
}

#[test]
fn the_scraper_of_benchmarks_reports_a_body_that_is_cut_or_refused() {
    for answer in [
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab",
        "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n",
    ] {
        assert!(download(answer).is_err(), "{answer:?}");
    }
}

#[test]
fn the_numbers_of_benchmarks_are_quantiles_with_three_digits() {
    assert_eq!(numbers::median(&[3.0, 1.0, 2.0]), Some(2.0));
    assert_eq!(numbers::median(&[4.0, 1.0]), Some(2.5));
    assert_eq!(numbers::quantile(&[0.0, 100.0], 0.99), Some(99.0));
    assert_eq!(numbers::median(&[]), None);
    for (value, text) in [(1234.5, "1234"), (12.345, "12.3"), (0.123_45, "0.123")] {
        assert_eq!(numbers::significant(value), text);
    }
}

#[test]
fn a_value_is_settled_when_it_has_not_changed_for_a_while() {
    let polls = Cell::new(0);
    let value = settled(Duration::from_millis(10), || {
        polls.set(polls.get() + 1);
        Some(polls.get().min(30)).filter(|count| *count > 15)
    });
    assert_eq!((value, polls.get()), (30, 40));
}
