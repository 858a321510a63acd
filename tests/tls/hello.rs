//! First bytes that no TLS library would send.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use crate::{
    Setup,
    support::{
        PATIENCE,
        pki::{BOTH_VERSIONS, Pki},
    },
};

const TLS_1_2: u16 = 0x0303;
const ECDHE_ECDSA_AES_128_GCM: u16 = 0xc02b;

const HANDSHAKE: u8 = 22;
const ALERT: u8 = 21;

const HANDSHAKE_FAILURE: u8 = 40;
const PROTOCOL_VERSION: u8 = 70;

/// A ClientHello in one record, of `version`, with these suites and, if any, this server name.
fn client_hello(version: u16, suites: &[u16], server_name: Option<&[u8]>) -> Vec<u8> {
    let mut extensions = Vec::new();
    let mut extension = |kind: u16, value: &[u8]| {
        extensions.extend(kind.to_be_bytes());
        extensions.extend(with_length_2(value));
    };
    if let Some(name) = server_name {
        let entry = [&[0], &with_length_2(name)[..]].concat();
        extension(0, &with_length_2(&entry));
    }
    // x25519 and P-256.
    extension(10, &with_length_2(&[0x00, 0x1d, 0x00, 0x17]));
    // Uncompressed points.
    extension(11, &[1, 0]);
    // ECDSA P-256 with SHA-256, RSA-PSS and PKCS #1.
    extension(13, &with_length_2(&[0x04, 0x03, 0x08, 0x04, 0x04, 0x01]));
    // Extended master secret.
    extension(23, &[]);

    let suites: Vec<u8> = suites.iter().flat_map(|suite| suite.to_be_bytes()).collect();
    let mut body = version.to_be_bytes().to_vec();
    body.extend([7; 32]);
    // No session; one compression method, none.
    body.push(0);
    body.extend(with_length_2(&suites));
    body.extend([1, 0]);
    body.extend(with_length_2(&extensions));

    let length = u16::try_from(body.len()).expect("short").to_be_bytes();
    record(&[&[1, 0], &length[..], &body].concat())
}

fn record(payload: &[u8]) -> Vec<u8> {
    [&[HANDSHAKE, 3, 1], &with_length_2(payload)[..]].concat()
}

fn with_length_2(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).expect("short").to_be_bytes();
    [&length, bytes].concat()
}

/// What comes back, to the first record's end or the connection's.
fn first_answer(setup: &Setup, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(setup.address()).expect("connected");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.write_all(bytes).expect("sent");
    let mut header = [0; 5];
    if stream.read_exact(&mut header).is_err() {
        return Vec::new();
    }
    let mut rest = vec![0; usize::from(u16::from_be_bytes([header[3], header[4]]))];
    stream.read_exact(&mut rest).expect("a whole record");
    [&header, &rest[..]].concat()
}

/// The description of a fatal alert.
fn fatal_alert(answer: &[u8]) -> Option<u8> {
    match answer {
        [ALERT, 3, _, 0, 2, 2, description] => Some(*description),
        _ => None,
    }
}

#[test]
fn plain_http_gets_at_most_an_alert_and_no_page() {
    let pki = Pki::new();
    let setup = Setup::new(&pki, "");
    for request in [
        &b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"[..],
        b"GET /prometheus?exporter=e HTTP/1.0\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.9\r\n",
        b"\0\0\0\0\0\0\0\0",
        &[0xff; 4096],
    ] {
        let mut stream = TcpStream::connect(setup.address()).expect("connected");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.write_all(request).expect("sent");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("closed in order");
        let shown = String::from_utf8_lossy(request);
        assert!(answer.len() <= 7, "{shown}: {answer:?}");
        assert!(answer.is_empty() || fatal_alert(&answer).is_some(), "{shown}: {answer:?}");
    }
    assert_eq!(setup.exporter.connections(), 0);
    setup.assert_lets_in(pki.client(BOTH_VERSIONS));
}

#[test]
fn old_versions_are_refused_by_name() {
    let pki = Pki::new();
    let setup = Setup::new(&pki, "");
    for version in [0x0300, 0x0301, 0x0302] {
        let hello = client_hello(version, &[0xc009, 0xc013, 0x002f], None);
        let answer = first_answer(&setup, &hello);
        assert_eq!(fatal_alert(&answer), Some(PROTOCOL_VERSION), "{version:#x}: {answer:?}");
    }
    // SSL 2.0: no record of ours.
    let hello = [&[0x80, 0x1c, 1, 0, 2, 0, 3, 0, 0, 0, 16, 7, 0, 0xc0], &[1; 16][..]].concat();
    let answer = first_answer(&setup, &hello);
    assert!(answer.is_empty() || fatal_alert(&answer).is_some(), "{answer:?}");
    setup.assert_lets_in(pki.client(BOTH_VERSIONS));
}

#[test]
fn weak_suites_alone_are_refused() {
    let pki = Pki::new();
    let setup = Setup::new(&pki, "");
    for (suite, name) in [
        (0xc009, "ECDHE with CBC"),
        (0xc023, "ECDHE with CBC and SHA-256"),
        (0xc007, "RC4"),
        (0xc008, "3DES"),
        (0x0003, "export"),
        (0xc006, "NULL"),
        (0xc018, "anonymous"),
        (0x009c, "RSA key exchange"),
        (0x009e, "DHE"),
    ] {
        let answer = first_answer(&setup, &client_hello(TLS_1_2, &[suite], None));
        assert_eq!(fatal_alert(&answer), Some(HANDSHAKE_FAILURE), "{name}: {answer:?}");
    }
    let good = client_hello(TLS_1_2, &[0xc009, ECDHE_ECDSA_AES_128_GCM], None);
    assert_eq!(first_answer(&setup, &good)[0], HANDSHAKE);
}

#[test]
fn the_name_a_client_asks_for_changes_nothing_and_is_not_logged() {
    let pki = Pki::new();
    let setup = Setup::new(&pki, "");
    let ask = |name: &[u8]| {
        first_answer(&setup, &client_hello(TLS_1_2, &[ECDHE_ECDSA_AES_128_GCM], Some(name)))
    };
    for name in [&b"localhost"[..], b"wrong-name.example", b"127.0.0.1"] {
        let answer = ask(name);
        assert_eq!(answer.first(), Some(&HANDSHAKE), "{name:?}: {answer:?}");
    }
    for name in
        [&b"marker\0.example"[..], b"marker\x1b[31m", "märker".as_bytes(), b"", &[b'm'; 255]]
    {
        let answer = ask(name);
        assert!(fatal_alert(&answer).is_some(), "{name:?}: {answer:?}");
    }
    setup.assert_lets_in(pki.client(BOTH_VERSIONS));
    setup.proxy.wait_for_scrape("e");
    for line in setup.proxy.log_lines() {
        assert!(!["marker", "märker", "mmmm"].iter().any(|name| line.contains(name)), "{line}");
    }
}

#[test]
fn a_hello_in_records_of_one_byte_is_answered() {
    let pki = Pki::new();
    let setup = Setup::new(&pki, "");
    let hello = client_hello(TLS_1_2, &[ECDHE_ECDSA_AES_128_GCM], None);
    let crumbs: Vec<u8> = hello[5..].iter().flat_map(|&byte| record(&[byte])).collect();
    let answer = first_answer(&setup, &crumbs);
    assert_eq!(answer.first(), Some(&HANDSHAKE), "{answer:?}");
}

#[test]
fn a_hello_without_an_end_is_refused_long_before_its_time_is_over() {
    let pki = Pki::new();
    let setup = Setup::new(&pki, "handshake-timeout = 60\n");
    // It says that 16 MiB follow.
    let start = record(&[1, 0xff, 0xff, 0xff, 3, 3]);
    let more = record(&[7; 16 * 1024]);
    let mut stream = TcpStream::connect(setup.address()).expect("connected");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let begun = Instant::now();
    let mut sent = 0;
    let mut flood = std::iter::once(start).chain(std::iter::repeat_n(more, 1024));
    // Ends when the proxy takes no more: it has closed.
    while let Some(record) = flood.next()
        && stream.write_all(&record).is_ok()
    {
        sent += record.len();
    }
    assert!(sent < 8 * 1024 * 1024, "{sent} bytes were taken");
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    setup.assert_lets_in(pki.client(BOTH_VERSIONS));
}
