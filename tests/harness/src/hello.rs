//! First bytes of a TLS connection that no library would send.

// Versions and suites.
/// Version 1.2.
pub const TLS_1_2: u16 = 0x0303;
/// Version 1.3.
pub const TLS_1_3: u16 = 0x0304;
/// `TLS_AES_128_GCM_SHA256`, for TLS 1.3.
pub const AES_128_GCM: u16 = 0x1301;
/// `TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256`, for TLS 1.2.
pub const ECDHE_ECDSA_AES_128_GCM: u16 = 0xc02b;
/// `TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256`, for TLS 1.2.
pub const ECDHE_RSA_AES_128_GCM: u16 = 0xc02f;

// Types of records.
/// A record with an alert.
pub const ALERT: u8 = 21;
/// A record with handshake messages.
pub const HANDSHAKE: u8 = 22;

// Extensions.
const SERVER_NAME: u16 = 0;
/// `session_ticket`, RFC 5077.
pub const SESSION_TICKET: u16 = 35;
/// `pre_shared_key`, RFC 8446.
pub const PRE_SHARED_KEY: u16 = 41;
/// `psk_key_exchange_modes`, RFC 8446.
pub const KEY_EXCHANGE_MODES: u16 = 45;

/// A ClientHello in one record with this `version`, these cipher suites and, optionally, this
/// server name.
pub fn client_hello(version: u16, suites: &[u16], server_name: Option<&[u8]>) -> Vec<u8> {
    let names: Vec<_> = server_name
        .map(|name| {
            let entry = [&[0], &with_length_2(name)[..]].concat();
            (SERVER_NAME, with_length_2(&entry))
        })
        .into_iter()
        .collect();
    hello_with(version, suites, &[], &names)
}

/// A ClientHello with this session ID, and with these extensions at the end.
pub fn hello_with(
    version: u16,
    suites: &[u16],
    session: &[u8],
    more: &[(u16, Vec<u8>)],
) -> Vec<u8> {
    let mut extensions = Vec::new();
    let mut extension = |kind: u16, value: &[u8]| {
        extensions.extend(kind.to_be_bytes());
        extensions.extend(with_length_2(value));
    };
    // x25519 and P-256.
    extension(10, &with_length_2(&[0x00, 0x1d, 0x00, 0x17]));
    // Uncompressed points.
    extension(11, &[1, 0]);
    // ECDSA P-256 with SHA-256, RSA-PSS and PKCS #1.
    extension(13, &with_length_2(&[0x04, 0x03, 0x08, 0x04, 0x04, 0x01]));
    // Extended master secret.
    extension(23, &[]);
    if version == TLS_1_3 {
        extension(43, &[2, 3, 4]);
        let share = [&[0x00, 0x1d], &with_length_2(&[7; 32])[..]].concat();
        extension(51, &with_length_2(&share));
    }
    for (kind, value) in more {
        extension(*kind, value);
    }

    let suites: Vec<u8> = suites.iter().flat_map(|suite| suite.to_be_bytes()).collect();
    // With TLS 1.3, this field says 1.2 (RFC 8446 section 4.1.2).
    let mut body = version.min(TLS_1_2).to_be_bytes().to_vec();
    body.extend([7; 32]);
    body.push(u8::try_from(session.len()).expect("short"));
    body.extend(session);
    body.extend(with_length_2(&suites));
    // One compression method: null.
    body.extend([1, 0]);
    body.extend(with_length_2(&extensions));

    let length = u16::try_from(body.len()).expect("short").to_be_bytes();
    record(&[&[1, 0], &length[..], &body].concat())
}

/// The message of this record, split into records with one byte of payload, which are six bytes
/// long.
pub fn in_crumbs(hello: &[u8]) -> Vec<u8> {
    hello[5..].iter().flat_map(|&byte| record(&[byte])).collect()
}

/// A handshake record with this message.
pub fn record(payload: &[u8]) -> Vec<u8> {
    [&[HANDSHAKE, 3, 1], &with_length_2(payload)[..]].concat()
}

/// These bytes, preceded by their length in two bytes.
pub fn with_length_2(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).expect("short").to_be_bytes();
    [&length, bytes].concat()
}
