//! A client that requests renegotiation with TLS 1.2.
//!
//! The client libraries available here do not support this. The test therefore encrypts the records
//! itself, with the keys of the handshake.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    sync::Arc,
};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use rustls::{
    ClientConnection, ConnectionTrafficSecrets, ExtractedSecrets, crypto::cipher,
    pki_types::ServerName, version::TLS12,
};
use scrapegate_harness::{
    PATIENCE,
    hello::{ALERT, ECDHE_ECDSA_AES_128_GCM, HANDSHAKE, TLS_1_2, client_hello},
    pki::{BOTH_VERSIONS, Pki},
};

use crate::Setup;

const APPLICATION_DATA: u8 = 23;

const WARNING_NO_RENEGOTIATION: [u8; 2] = [1, 100];

/// A TLS 1.2 connection with AES-256-GCM (RFC 5288) after its handshake, as single records.
struct Records {
    socket: TcpStream,
    sends: Direction,
    receives: Direction,
}

struct Direction {
    key: LessSafeKey,
    iv: cipher::Iv,
    sequence: u64,
}

impl Direction {
    fn new((sequence, secrets): (u64, ConnectionTrafficSecrets)) -> Self {
        let ConnectionTrafficSecrets::Aes256Gcm { key, iv } = secrets else {
            panic!("another suite was chosen");
        };
        let key = UnboundKey::new(&AES_256_GCM, key.as_ref()).expect("a key of its length");
        Self { key: LessSafeKey::new(key), iv, sequence }
    }

    /// The additional authenticated data of the next record (RFC 5246 section 6.2.3.3).
    fn authenticated(&mut self, kind: u8, length: usize) -> Aad<[u8; 13]> {
        let length = u16::try_from(length).expect("a record's length").to_be_bytes();
        let mut all = [0; 13];
        all[..8].copy_from_slice(&self.sequence.to_be_bytes());
        all[8..11].copy_from_slice(&[kind, 3, 3]);
        all[11..].copy_from_slice(&length);
        self.sequence += 1;
        Aad::from(all)
    }
}

impl Records {
    fn open(setup: &Setup, pki: &Pki) -> Self {
        let mut config = Arc::unwrap_or_clone(pki.client(&[&TLS12]));
        config.enable_secret_extraction = true;
        let name = ServerName::try_from("localhost").expect("a name");
        let mut tls = ClientConnection::new(Arc::new(config), name).expect("a client");
        let mut socket = TcpStream::connect(setup.address()).expect("connected");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        while tls.is_handshaking() {
            tls.complete_io(&mut socket).expect("a handshake");
        }
        let ExtractedSecrets { tx, rx } = tls.dangerous_extract_secrets().expect("secrets");
        Self { socket, sends: Direction::new(tx), receives: Direction::new(rx) }
    }

    /// An encrypted record with this payload.
    fn sealed(&mut self, kind: u8, payload: &[u8]) -> Vec<u8> {
        let nonce = cipher::Nonce::new(&self.sends.iv, self.sends.sequence).0;
        let aad = self.sends.authenticated(kind, payload.len());
        let mut bytes = payload.to_vec();
        let nonce_of_key = Nonce::assume_unique_for_key(nonce);
        self.sends.key.seal_in_place_append_tag(nonce_of_key, aad, &mut bytes).expect("sealed");
        // The explicit part of the nonce comes first.
        let fragment = [&nonce[4..], &bytes].concat();
        let length = u16::try_from(fragment.len()).expect("a record's length").to_be_bytes();
        [&[kind, 3, 3][..], &length, &fragment].concat()
    }

    /// The payload of the next record, decrypted. An error if the connection ends.
    fn receive(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let mut header = [0; 5];
        self.socket.read_exact(&mut header)?;
        let mut bytes = vec![0; usize::from(u16::from_be_bytes([header[3], header[4]]))];
        self.socket.read_exact(&mut bytes)?;
        let mut nonce = [0; 12];
        nonce[..4].copy_from_slice(&self.receives.iv.as_ref()[..4]);
        nonce[4..].copy_from_slice(&bytes[..8]);
        let length = bytes.len() - 8 - AES_256_GCM.tag_len();
        let aad = self.receives.authenticated(header[0], length);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let opened =
            self.receives.key.open_within(nonce, aad, &mut bytes, 8..).expect("a valid record");
        Ok((header[0], opened.to_vec()))
    }

    /// Requests this many new handshakes at once.
    fn request_renegotiation(&mut self, times: usize) -> io::Result<()> {
        let hello = client_hello(TLS_1_2, &[ECDHE_ECDSA_AES_128_GCM], None);
        let message = &hello[5..];
        let all: Vec<u8> = (0..times).flat_map(|_| self.sealed(HANDSHAKE, message)).collect();
        self.socket.write_all(&all)
    }

    /// Asserts that the connection serves a request.
    fn assert_scrapes(&mut self) {
        let request = b"GET /prometheus?exporter=e HTTP/1.1\r\nHost: h\r\n\r\n";
        let record = self.sealed(APPLICATION_DATA, request);
        self.socket.write_all(&record).expect("sent");
        let mut answer = Vec::new();
        while !answer.ends_with(b"\n") || answer.ends_with(b"\r\n") {
            let (kind, payload) = self.receive().expect("an answer");
            assert_eq!(kind, APPLICATION_DATA, "{payload:?}");
            answer.extend(payload);
        }
        assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"), "{}", answer.escape_ascii());
    }
}

/// T25
#[test]
fn a_single_renegotiation_request_is_refused_and_the_connection_continues() {
    let pki = Pki::new();
    let setup = Setup::new(&pki, "");
    let mut records = Records::open(&setup, &pki);
    records.assert_scrapes();
    records.request_renegotiation(1).expect("sent");
    assert_eq!(records.receive().expect("an alert"), (ALERT, WARNING_NO_RENEGOTIATION.to_vec()));
    records.assert_scrapes();
}

/// T25
#[test]
fn repeated_renegotiation_requests_close_the_connection() {
    let pki = Pki::new();
    let setup = Setup::new(&pki, "");
    let before = setup.proxy.cpu_time();
    for times in [2, 1000] {
        setup.assert_breaks("peer misbehaved: TooManyRenegotiationRequests", || {
            let mut records = Records::open(&setup, &pki);
            // The proxy may close before everything is sent.
            let _ = records.request_renegotiation(times);
            let warning = (ALERT, WARNING_NO_RENEGOTIATION.to_vec());
            assert_eq!(records.receive().expect("an alert"), warning);
            // rustls has no alert for the second request, and sends nothing.
            let ended = records.receive().expect_err("the end").kind();
            let ends = [io::ErrorKind::UnexpectedEof, io::ErrorKind::ConnectionReset];
            assert!(ends.contains(&ended), "{ended}");
        });
    }
    let used = setup.proxy.cpu_time() - before;
    assert!(used.as_millis() < 500, "{used:?} for useless records");
    setup.assert_accepts(pki.client(BOTH_VERSIONS));
}
