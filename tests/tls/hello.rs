//! First bytes of a connection that no TLS library would send.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use scrapegate_harness::{
    PATIENCE,
    hello::{
        AES_128_GCM, ALERT, ECDHE_ECDSA_AES_128_GCM, HANDSHAKE, KEY_EXCHANGE_MODES, PRE_SHARED_KEY,
        SESSION_TICKET, TLS_1_2, TLS_1_3, client_hello, hello_with, in_crumbs, record,
        with_length_2,
    },
    pki::{BOTH_VERSIONS, Pki},
};

use crate::Setup;

const HANDSHAKE_FAILURE: u8 = 40;
const ILLEGAL_PARAMETER: u8 = 47;
const DECODE_ERROR: u8 = 50;
const PROTOCOL_VERSION: u8 = 70;

/// The first record of the response, or nothing if the connection is closed.
#[track_caller]
fn first_answer(setup: &Setup, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(setup.address()).expect("connected");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.write_all(bytes).expect("sent");
    let mut header = [0; 5];
    if let Err(error) = stream.read_exact(&mut header) {
        let closed = [io::ErrorKind::UnexpectedEof, io::ErrorKind::ConnectionReset];
        assert!(closed.contains(&error.kind()), "neither answered nor closed: {error}");
        return Vec::new();
    }
    let mut rest = vec![0; usize::from(u16::from_be_bytes([header[3], header[4]]))];
    stream.read_exact(&mut rest).expect("a whole record");
    [&header, &rest[..]].concat()
}

/// The response to a hello that is refused. See [`Setup::assert_ends`].
#[track_caller]
fn refusal(setup: &Setup, bytes: &[u8]) -> Vec<u8> {
    setup.assert_ends("protocol", || first_answer(setup, bytes))
}

/// The response to a hello that is accepted. The client then leaves.
#[track_caller]
fn reply(setup: &Setup, bytes: &[u8]) -> Vec<u8> {
    setup.assert_ends("connection_lost", || first_answer(setup, bytes))
}

/// The description of a fatal alert.
fn fatal_alert(answer: &[u8]) -> Option<u8> {
    match answer {
        [ALERT, 3, _, 0, 2, 2, description] => Some(*description),
        _ => None,
    }
}

/// All bytes until the connection is closed, which must happen in order.
#[track_caller]
fn whole_answer(setup: &Setup, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(setup.address()).expect("connected");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.write_all(bytes).expect("sent");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("closed in order");
    answer
}

/// T30
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
        let answer = setup.assert_ends("protocol", || whole_answer(&setup, request));
        let shown = String::from_utf8_lossy(request);
        assert!(answer.len() <= 7, "{shown}: {answer:?}");
        assert!(answer.is_empty() || fatal_alert(&answer).is_some(), "{shown}: {answer:?}");
    }
    setup.assert_accepts(pki.client(BOTH_VERSIONS));
}

/// T22
#[test]
fn old_versions_get_the_alert_protocol_version() {
    let pki = Pki::new();
    let setup = Setup::new(&pki, "");
    for version in [0x0300, 0x0301, 0x0302] {
        let hello = client_hello(version, &[0xc009, 0xc013, 0x002f], None);
        let answer = refusal(&setup, &hello);
        assert_eq!(fatal_alert(&answer), Some(PROTOCOL_VERSION), "{version:#x}: {answer:?}");
    }
    // An SSL 2.0 hello, which is not a TLS record.
    let hello = [&[0x80, 0x1c, 1, 0, 2, 0, 3, 0, 0, 0, 16, 7, 0, 0xc0], &[1; 16][..]].concat();
    let answer = refusal(&setup, &hello);
    assert!(answer.is_empty() || fatal_alert(&answer).is_some(), "{answer:?}");
    setup.assert_accepts(pki.client(BOTH_VERSIONS));
}

/// T23
#[test]
fn a_hello_with_only_weak_suites_is_refused() {
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
        let answer = refusal(&setup, &client_hello(TLS_1_2, &[suite], None));
        assert_eq!(fatal_alert(&answer), Some(HANDSHAKE_FAILURE), "{name}: {answer:?}");
    }
    let good = client_hello(TLS_1_2, &[0xc009, ECDHE_ECDSA_AES_128_GCM], None);
    assert_eq!(reply(&setup, &good)[0], HANDSHAKE);
}

/// T27
#[test]
fn the_server_name_changes_nothing_and_is_not_logged() {
    let pki = Pki::new();
    let setup = Setup::new(&pki, "");
    for (version, suite) in [(TLS_1_2, ECDHE_ECDSA_AES_128_GCM), (TLS_1_3, AES_128_GCM)] {
        let hello = |name: Option<&[u8]>| client_hello(version, &[suite], name);
        let labels = [&[b'w'; 63][..]; 4].join(&b'.');
        for name in [
            None,
            Some(&b"localhost"[..]),
            Some(b"wrong-name.example"),
            Some(b"127.0.0.1"),
            // 253 bytes, the maximum length of a name.
            Some(&labels[2..]),
        ] {
            let answer = reply(&setup, &hello(name));
            assert_eq!(answer.first(), Some(&HANDSHAKE), "{version:#x} {name:?}: {answer:?}");
        }
        for name in [
            &b"marker\0.example"[..],
            b"marker\x1b[31m",
            b"marker:443",
            "märker".as_bytes(),
            b"",
            &[b'm'; 255],
            &[b"marker"[..].to_vec(), labels].concat(),
        ] {
            let answer = refusal(&setup, &hello(Some(name)));
            let alert = fatal_alert(&answer);
            let is_right = matches!(alert, Some(DECODE_ERROR | ILLEGAL_PARAMETER));
            assert!(is_right, "{version:#x} {name:?}: {answer:?}");
        }
    }
    setup.assert_accepts(pki.client(BOTH_VERSIONS));
    setup.proxy.wait_for_scrape("e");
    for line in setup.proxy.log_lines() {
        let names = ["marker", "märker", "mmmm", "wrong-name", "wwww"];
        assert!(!names.iter().any(|name| line.contains(name)), "{line}");
    }
}

/// T33
#[test]
fn a_hello_in_records_of_one_byte_is_answered() {
    let pki = Pki::new();
    let setup = Setup::new(&pki, "");
    for (version, suite) in [(TLS_1_2, ECDHE_ECDSA_AES_128_GCM), (TLS_1_3, AES_128_GCM)] {
        let answer = reply(&setup, &in_crumbs(&client_hello(version, &[suite], None)));
        assert_eq!(answer.first(), Some(&HANDSHAKE), "{version:#x}: {answer:?}");
    }
}

#[test]
fn an_endless_hello_is_refused_long_before_handshake_timeout() {
    let pki = Pki::new();
    let setup = Setup::new(&pki, "handshake-timeout = 60\n");
    // The message header announces 16 MiB.
    let start = record(&[1, 0xff, 0xff, 0xff, 3, 3]);
    let more = record(&[7; 16 * 1024]);
    let begun = Instant::now();
    let sent = setup.assert_ends("protocol", || {
        let mut stream = TcpStream::connect(setup.address()).expect("connected");
        stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
        let mut sent = 0;
        let mut flood = std::iter::once(start).chain(std::iter::repeat_n(more, 1024));
        // The write fails when the proxy has closed the connection.
        while let Some(record) = flood.next()
            && stream.write_all(&record).is_ok()
        {
            sent += record.len();
        }
        sent
    });
    assert!(sent < 8 * 1024 * 1024, "{sent} bytes were taken");
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    setup.assert_accepts(pki.client(BOTH_VERSIONS));
}

/// The session ID and the extension types of a ServerHello.
#[track_caller]
fn server_hello(answer: &[u8]) -> (&[u8], Vec<u16>) {
    // Skips the record header, message type and length, version and random.
    let (start, rest) = answer.split_at(5 + 4 + 2 + 32);
    assert_eq!((start[0], start[5]), (HANDSHAKE, 2), "{answer:?}");
    let message = usize::from(u16::from_be_bytes([start[7], start[8]]));
    let rest = &rest[..message - 2 - 32];
    let (session, rest) = rest[1..].split_at(usize::from(rest[0]));
    // Skips the suite, the compression method and the length of the extensions.
    let mut extensions = rest.get(2 + 1 + 2..).unwrap_or_default();
    let mut kinds = Vec::new();
    while let [a, b, c, d, rest @ ..] = extensions {
        kinds.push(u16::from_be_bytes([*a, *b]));
        extensions = &rest[usize::from(u16::from_be_bytes([*c, *d]))..];
    }
    (session, kinds)
}

/// T35
#[test]
fn a_session_offered_by_a_client_is_not_resumed() {
    let pki = Pki::new();
    let setup = Setup::new(&pki, "");
    let session = [9; 32];
    let ticket = vec![8; 200];
    for (name, more) in
        [("by its name", vec![]), ("by ticket", vec![(SESSION_TICKET, ticket.clone())])]
    {
        let hello = hello_with(TLS_1_2, &[ECDHE_ECDSA_AES_128_GCM], &session, &more);
        let answer = reply(&setup, &hello);
        let (taken_up, extensions) = server_hello(&answer);
        assert_ne!(taken_up, session, "{name}");
        assert!(!extensions.contains(&SESSION_TICKET), "{name}: {extensions:?}");
    }
    // An identity with its age, and a binder (RFC 8446 section 4.2.11).
    let identity = [&with_length_2(&ticket)[..], &[0; 4]].concat();
    let binder = [&[32][..], &[7; 32]].concat();
    let key = [with_length_2(&identity), with_length_2(&binder)].concat();
    let more = [(KEY_EXCHANGE_MODES, vec![1, 1]), (PRE_SHARED_KEY, key)];
    let answer = reply(&setup, &hello_with(TLS_1_3, &[AES_128_GCM], &session, &more));
    let (_, extensions) = server_hello(&answer);
    assert!(!extensions.contains(&PRE_SHARED_KEY), "{extensions:?}");
    setup.assert_accepts(pki.client(BOTH_VERSIONS));
}
