//! Two readers that disagree about where a request ends: there is one reader here, so whatever is
//! hidden in a body never becomes a request.

use crate::{Setup, assert_canonical, support::client::Client};

/// Published ways to hide `Transfer-Encoding: chunked` from one of two readers.
const DISGUISES: &[&str] = &[
    "Transfer-Encoding: chunked",
    "transfer-encoding: chunked",
    "tRANSFER-eNCODING: cHUNKED",
    "Transfer-Encoding:chunked",
    "Transfer-Encoding:  chunked",
    "Transfer-Encoding: chunked ",
    "Transfer-Encoding: chunked, identity",
    "Transfer-Encoding: identity, chunked",
    "Transfer-Encoding: identity",
    "Transfer-Encoding: chunked, chunked",
    "Transfer-Encoding: gzip, chunked",
    "Transfer-Encoding: cow, chunked",
    "Transfer-Encoding: chunked, cow",
    "Transfer-Encoding: chunked,",
    "Transfer-Encoding: ,chunked",
    "Transfer-Encoding: chunked;x=y",
    "Transfer-Encoding: xchunked",
    "Transfer-Encoding: chunkedx",
    "Transfer-Encoding: chunk",
    "Transfer-Encoding: \"chunked\"",
    "Transfer-Encoding: 'chunked'",
    "Transfer-Encoding: (comment) chunked",
    "Transfer-Encoding: ch\u{fc}nked",
    "Transfer-Encoding: chun\u{212a}ed",
    "Transfer-Encoding:",
    "Transfer-Encoding",
    "Transfer-Encoding chunked",
    "Transfer-Encoding: \r\n chunked",
    "Transfer-Encoding:\r\n chunked",
    "Transfer-Encoding:\r\n\tchunked",
    "Transfer-Encoding\r\n: chunked",
    "Transfer-Encoding\r\n : chunked",
    "Transfer-Encoding: chunked\r\n , cow",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: cow",
    "Transfer-Encoding: cow\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding: chunked\r\nTE: trailers",
    "X: a\nTransfer-Encoding: chunked",
    "X: a\rTransfer-Encoding: chunked",
    "X: a\r\rTransfer-Encoding: chunked",
    "X: a\n\rTransfer-Encoding: chunked",
    "X: a\r\n Transfer-Encoding: chunked",
    "X: a\0Transfer-Encoding: chunked",
    "Transfer_Encoding: chunked",
    "Transfer Encoding: chunked",
    "TransferEncoding: chunked",
    "Transfer-Encoding-: chunked",
    "-Transfer-Encoding: chunked",
    "Transfer-%45ncoding: chunked",
    "Transfer\u{2010}Encoding: chunked",
    "HTTP_TRANSFER_ENCODING: chunked",
    "Content-Encoding: chunked",
    "TE: chunked",
    "Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked",
    "Foo: bar\r\n\rTransfer-Encoding: chunked",
];

/// Bytes that some reader trims, ends a line at or takes for part of a name.
const ODD_BYTES: &[u8] = &[
    0x00, 0x01, 0x07, 0x08, 0x09, 0x0a, 0x0b, 0x0c, 0x0d, 0x0e, 0x1b, 0x1c, 0x1d, 0x1e, 0x1f, 0x20,
    0x22, 0x27, 0x28, 0x2c, 0x2f, 0x3a, 0x3b, 0x5c, 0x5f, 0x7f, 0x80, 0x85, 0xa0, 0xad, 0xff,
];

/// An odd byte at every place where readers have differed.
fn with_odd_bytes() -> Vec<Vec<u8>> {
    let (name, value) = (&b"Transfer-Encoding"[..], &b"chunked"[..]);
    ODD_BYTES
        .iter()
        .flat_map(|&byte| {
            [
                [&[byte], name, b": ", value].concat(),
                [name, &[byte], b": ", value].concat(),
                [name, b":", &[byte], value].concat(),
                [name, b": ", &[byte], value].concat(),
                [name, b": ", value, &[byte]].concat(),
                [name, b": ", value, &[byte], b"cow"].concat(),
                [&name[..8], &[byte], &name[9..], b": ", value].concat(),
                [&name[..4], &[byte], &name[4..], b": ", value].concat(),
            ]
        })
        .collect()
}

/// A scrape that carries `lines` and, where its body would be, another scrape.
fn attack(before: &[u8], lines: &[u8]) -> Vec<u8> {
    [
        b"GET /prometheus?exporter=e&first HTTP/1.1\r\n",
        before,
        b"Host: h\r\n",
        lines,
        b"\r\n\r\n0\r\n\r\nGET /prometheus?exporter=e&smuggled HTTP/1.1\r\nHost: h\r\n\r\n",
    ]
    .concat()
}

/// The statuses of all that is answered until the proxy ends the connection.
fn statuses(client: &mut Client) -> Vec<u16> {
    let mut statuses = Vec::new();
    while let Ok(response) = client.read_response() {
        assert!(response.body.is_complete(), "{response:?}");
        statuses.push(response.head.status);
    }
    statuses
}

/// Sends it, and asserts that it is either refused as a whole, or is a request without a body and
/// what follows is not taken for one.
fn assert_one_request(setup: &Setup, attack: &[u8]) {
    let before = setup.exporter.requests().len();
    let mut client = setup.connect();
    client.send(attack).expect("sent");
    let statuses = statuses(&mut client);
    let upstream = setup.exporter.requests().split_off(before);
    let shown = String::from_utf8_lossy(attack).into_owned();
    match (&statuses[..], &upstream[..]) {
        ([400], []) => {}
        ([200, 400], [only]) => assert_canonical(&setup.exporter, only, "/metrics?first"),
        (..) => panic!("{shown:?}: {statuses:?}, {upstream:?}"),
    }
}

#[test]
fn no_disguise_of_a_transfer_coding_hides_a_request() {
    let setup = Setup::with("header-timeout = 2\n", "");
    for disguise in DISGUISES {
        for extra in
            ["", "\r\nContent-Length: 0", "\r\nContent-Length: 5", "\r\nContent-Length: 60"]
        {
            let lines = format!("{disguise}{extra}");
            assert_one_request(&setup, &attack(b"", lines.as_bytes()));
        }
        assert_one_request(&setup, &attack(b"Content-Length: 5\r\n", disguise.as_bytes()));
        // As the first header line, above `Host`.
        let first = format!("{disguise}\r\n");
        assert_one_request(&setup, &attack(first.as_bytes(), b"X: a"));
    }
}

#[test]
fn no_odd_byte_in_a_transfer_coding_hides_a_request() {
    let setup = Setup::with("header-timeout = 2\n", "");
    for lines in with_odd_bytes() {
        assert_one_request(&setup, &attack(b"", &lines));
        assert_one_request(&setup, &attack(b"Content-Length: 5\r\n", &lines));
    }
}

#[test]
fn no_odd_byte_in_a_content_length_hides_a_request() {
    let setup = Setup::with("header-timeout = 2\n", "");
    for odd in ODD_BYTES.chunks(1) {
        for lines in [
            [odd, b"Content-Length: 5"].concat(),
            [b"Content-Length", odd, b": 5"].concat(),
            [b"Content-Length:", odd, b"5"].concat(),
            [b"Content-Length: 5", odd].concat(),
            [b"Content-Length: 5", odd, b"0"].concat(),
            [b"Content-Length: 0", odd, b"5"].concat(),
            [b"Content", odd, b"Length: 5"].concat(),
        ] {
            assert_one_request(&setup, &attack(b"", &lines));
        }
    }
}
