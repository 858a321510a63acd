//! Request smuggling needs two parsers that disagree about where a request ends. This proxy has
//! only one, so no hidden request in a body may ever be handled as a request.

use std::thread;

use scrapegate_harness::client::Client;

use crate::{Setup, assert_canonical, scrape_with};

/// Published ways to hide `Transfer-Encoding: chunked` from one of two parsers.
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
    "Transfer-Encoding: cow chunked bar",
    "Transfer-Encoding x: chunked",
    "Transfer-Encoding\n: chunked",
    "Transfer-Encoding:\n chunked",
    "Transfer-Encoding\r: chunked",
    "Transfer-Encoding:chunked\r\n\t",
    "Transfer-Encoding: \tchunked\t",
    "Transfer-Encoding:\u{b}chunked\u{c}",
    "Transfer-Encoding: chunked\r",
    "Transfer-Encoding: chunked\n",
    "Transfer-Encoding: chunked\u{feff}",
    "\u{feff}Transfer-Encoding: chunked",
    "Transf\u{e9}r-Encoding: chunked",
    "Tr\u{430}nsfer-Encoding: chunked",
    "=?iso-8859-1?B?VHJhbnNmZXItRW5jb2Rpbmc=?=: chunked",
    "Transfer-Encoding: =?iso-8859-1?B?Y2h1bmtlZA==?=",
    "Transfer-Encoding: %63hunked",
    "Transfer-Encoding: chunked%0d%0a",
    "Transfer-Encoding: chunked\\",
    "Transfer\\-Encoding: chunked",
    "Transfer-Encoding: [chunked]",
    "Transfer-Encoding: {chunked}",
    "Transfer-Encoding: chunked; q=0",
    "Transfer-Encoding: chunked;q=0, identity",
    "Transfer-Encoding: identity, identity",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding:",
    "Transfer-Encoding:\r\nTransfer-Encoding: chunked",
    "X-Transfer-Encoding: chunked",
    "Transfer-Encoding2: chunked",
    "Transfer--Encoding: chunked",
    "Transfer-Encoding;: chunked",
    "\tTransfer-Encoding: chunked",
    " Transfer-Encoding: chunked",
    "Trailer: Transfer-Encoding",
    "Upgrade: Transfer-Encoding\r\nConnection: upgrade\r\nTransfer-Encoding: chunked",
    "Connection: close, Content-Length\r\nTransfer-Encoding: chunked",
];

/// Published ways to hide a `Content-Length`, in addition to those with odd bytes.
const LENGTHS: &[&str] = &[
    "Content-Length: 0\r\nContent-Length: 60",
    "Content-Length: 60\r\nContent-Length: 0",
    "Content-Length: 0, 60",
    "Content-Length: 60, 0",
    "Content-Length: 0\r\n , 60",
    "Content-Length:\r\n 60",
    "Content-Length:\n60",
    "Content-Length\r\n: 60",
    "Content_Length: 60",
    "Content Length: 60",
    "ContentLength: 60",
    "Content-Length-: 60",
    "X: a\nContent-Length: 60",
    "X: a\rContent-Length: 60",
    "Content-Length: 0x3c",
    "Content-Length: 6e1",
    "Content-Length: 60.0",
    "Content-Length: +60",
    "Content-Length: -60",
    "Content-Length: 00060",
    "Content-Length: 6\u{660}",
    "Content-Length: \"60\"",
    "Content-Length: 60;",
    "Content-Length: 60 0",
    "Content-Length: 18446744073709551676",
    "Connection: Content-Length\r\nContent-Length: 60",
    "Expect: 100-continue\r\nContent-Length: 60",
    "Expect: y 100-continue\r\nContent-Length: 60",
    "Expect:\r\n 100-continue\r\nContent-Length: 60",
    "Expect:\n 100-continue\r\nContent-Length: 60",
    "Expect : 100-continue\r\nContent-Length: 60",
    "X: a\nExpect: 100-continue\r\nContent-Length: 60",
];

/// Bytes that some parsers trim, treat as the end of a line, or accept in a name.
const ODD_BYTES: &[u8] = &[
    0x00, 0x01, 0x07, 0x08, 0x09, 0x0a, 0x0b, 0x0c, 0x0d, 0x0e, 0x1b, 0x1c, 0x1d, 0x1e, 0x1f, 0x20,
    0x22, 0x27, 0x28, 0x2c, 0x2f, 0x3a, 0x3b, 0x5c, 0x5f, 0x7f, 0x80, 0x85, 0xa0, 0xad, 0xff,
];

/// Variants with an odd byte at each position where parsers have differed.
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

/// A proxy, and its memory before the attacks.
struct Target {
    setup: Setup,
    rss_kib: u64,
}

impl Target {
    fn new() -> Self {
        let setup = Setup::with("header-timeout = 2\n", "");
        for _ in 0..4 {
            assert_one_request(&setup, &attack(b"", b"X: a"));
        }
        let rss_kib = setup.proxy.rss_kib();
        Self { setup, rss_kib }
    }

    /// See [`assert_one_request`].
    fn attack_with(&self, attack: &[u8]) {
        assert_one_request(&self.setup, attack);
    }
}

impl Drop for Target {
    /// Asserts a control scrape, and that memory has not grown. Dropping the setup checks the rest.
    fn drop(&mut self) {
        if thread::panicking() {
            return;
        }
        self.setup.assert_scraped(scrape_with(""), "/metrics");
        let grown = self.setup.proxy.rss_kib().saturating_sub(self.rss_kib);
        assert!(grown < 8 * 1024, "the memory grew by {grown} KiB");
    }
}

/// A scrape with `lines` in its head, followed by another scrape in place of a body.
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

/// The statuses of all responses until the proxy closes the connection.
fn statuses(client: &mut Client) -> Vec<u16> {
    let mut statuses = Vec::new();
    while let Ok(response) = client.read_response() {
        assert!(response.body.is_complete(), "{response:?}");
        statuses.push(response.head.status);
    }
    statuses
}

/// Sends the attack. Asserts that the proxy refuses it, or handles it as a request without a body
/// and refuses the bytes that follow.
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
    // One 400 ended the connection: either for the request, or for the bytes after it.
    setup.refused(1);
}

/// H19, H20: each disguise by itself, together with a `Content-Length`, and at both ends of the
/// head.
#[test]
fn no_disguised_transfer_encoding_hides_a_request() {
    let target = Target::new();
    for disguise in DISGUISES {
        for extra in
            ["", "\r\nContent-Length: 0", "\r\nContent-Length: 5", "\r\nContent-Length: 60"]
        {
            let lines = format!("{disguise}{extra}");
            target.attack_with(&attack(b"", lines.as_bytes()));
        }
        target.attack_with(&attack(b"Content-Length: 5\r\n", disguise.as_bytes()));
        // As the first header line, before `Host`.
        let first = format!("{disguise}\r\n");
        target.attack_with(&attack(first.as_bytes(), b"X: a"));
    }
}

/// H20: also at places where some parsers see the end of a line.
#[test]
fn no_misplaced_transfer_encoding_hides_a_request() {
    let target = Target::new();
    let body = "\r\n\r\n0\r\n\r\nGET /prometheus?exporter=e&smuggled HTTP/1.1\r\nHost: h\r\n\r\n";
    let get = "GET /prometheus?exporter=e&first HTTP/1.1";
    for head in [
        format!("{get}\rTransfer-Encoding: chunked\r\nHost: h"),
        format!("{get}\nTransfer-Encoding: chunked\r\nHost: h"),
        format!("{get}\r\n\rTransfer-Encoding: chunked\r\nHost: h"),
        format!("{get}\r\n\tTransfer-Encoding: chunked\r\nHost: h"),
        format!("{get} Transfer-Encoding: chunked\r\nHost: h"),
        format!("{get}\r\nHost: h\rTransfer-Encoding: chunked"),
        format!("{get}\r\nHost: h\nTransfer-Encoding: chunked"),
        format!("{get}\r\nHost: h\n\rTransfer-Encoding: chunked"),
        format!("{get}\r\nHost: h\r\n Transfer-Encoding: chunked"),
        format!("\r\n{get}\r\nHost: h\r\nTransfer-Encoding: chunked"),
        format!("\n\n{get}\nHost: h\nTransfer-Encoding: chunked"),
    ] {
        target.attack_with(format!("{head}{body}").as_bytes());
    }
}

/// H20.
#[test]
fn no_odd_byte_in_a_transfer_encoding_hides_a_request() {
    let target = Target::new();
    for lines in with_odd_bytes() {
        target.attack_with(&attack(b"", &lines));
        target.attack_with(&attack(b"Content-Length: 5\r\n", &lines));
    }
}

/// H22, H29.
#[test]
fn no_disguised_content_length_hides_a_request() {
    let target = Target::new();
    for lines in LENGTHS {
        target.attack_with(&attack(b"", lines.as_bytes()));
        target.attack_with(&attack(b"Transfer-Encoding: chunked\r\n", lines.as_bytes()));
    }
}

/// H22.
#[test]
fn no_odd_byte_in_a_content_length_hides_a_request() {
    let target = Target::new();
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
            target.attack_with(&attack(b"", &lines));
        }
    }
}
