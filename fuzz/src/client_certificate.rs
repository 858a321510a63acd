//! Any certificates of a peer, as a client and as the server `localhost`:
//!
//! - The peer is trusted only if the first certificate is a valid trust anchor itself, byte for
//!   byte, or if its signed part is one that a valid CA signed: nobody else has the keys of the
//!   CAs. A server must also have the name.
//! - For X.509 version 1, whose signatures the proxy checks without webpki, x509-parser's check of
//!   the signature agrees.
//! - An identity that is read from a certificate has a name for the log without control characters,
//!   and the patterns of `client-allow` match exactly the names in the certificate.
//!
//! `fuzz/fixtures/README.md` describes the certificates.

use std::{sync::LazyLock, time::Duration};

use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use scrapegate::{
    common::peer::ClientIdentity,
    config::{AddressRange, ClientPattern},
    http::access::Access,
    tls::{self, Trust, verify::Role},
};
use x509_parser::{parse_x509_certificate, x509::X509Version};

const CA: &[u8] = include_bytes!("../fixtures/ca.der");
const RSA_CA: &[u8] = include_bytes!("../fixtures/rsa-ca.der");
const LATER_CA: &[u8] = include_bytes!("../fixtures/later-ca.der");
const EXPIRED_CA: &[u8] = include_bytes!("../fixtures/expired-ca.der");
const PAST_CA: &[u8] = include_bytes!("../fixtures/past-ca.der");
const CLIENT: &[u8] = include_bytes!("../fixtures/client.der");
const OLD_CLIENT: &[u8] = include_bytes!("../fixtures/old-client.der");
const SERVER: &[u8] = include_bytes!("../fixtures/server.der");
const OLD_SERVER: &[u8] = include_bytes!("../fixtures/old-server.der");
const OWN_SERVER: &[u8] = include_bytes!("../fixtures/own-server.der");

/// The trust anchors that are valid.
const VALID_ANCHORS: [&[u8]; 4] = [CA, RSA_CA, LATER_CA, OWN_SERVER];

/// The client certificates that they signed. A version 1 certificate cannot be limited to servers.
const CLIENTS: [&[u8]; 3] = [CLIENT, OLD_CLIENT, OLD_SERVER];

/// The signed and valid certificates for `localhost`.
const SERVERS: [&[u8]; 3] = [SERVER, OLD_SERVER, OWN_SERVER];

/// 2027-01-01, when all certificates are valid except those of the expired CAs.
const NOW: UnixTime = UnixTime::since_unix_epoch(Duration::from_secs(1_798_761_600));

static TRUST: LazyLock<Trust> = LazyLock::new(|| {
    let all = [CA, RSA_CA, LATER_CA, OWN_SERVER, EXPIRED_CA, PAST_CA];
    let algorithms = tls::provider().signature_verification_algorithms;
    Trust::new(all.map(CertificateDer::from).into(), Vec::new(), algorithms).expect("anchors")
});

/// Asserts the property. `input` is the DER certificates, one after another.
///
/// # Panics
///
/// If the property does not hold.
pub fn check(input: &[u8]) {
    let mut rest = input;
    let mut chain: Vec<CertificateDer<'_>> = Vec::new();
    while let Some(length) = Element::at_start_of(rest).map(|element| element.length) {
        let (certificate, behind) = rest.split_at(length);
        chain.push(certificate.into());
        rest = behind;
    }
    if chain.is_empty() || !rest.is_empty() {
        chain.push(rest.into());
    }
    let (first, others) = chain.split_first().expect("at least one");
    let is_trusted = |role| TRUST.verify(role, first, others, NOW).is_ok();
    let is_anchor = VALID_ANCHORS.contains(&first.as_ref());
    let is_client = is_trusted(Role::Client);
    if is_client {
        assert!(is_anchor || is_of(first, &CLIENTS), "trusted: {}", first.escape_ascii());
    }
    if is_anchor || CLIENTS.contains(&first.as_ref()) {
        assert!(is_client, "{} is not trusted", first.escape_ascii());
    }
    if is_client && !is_anchor && is_version1(first) {
        assert!(is_signed(first), "trusted: {}", first.escape_ascii());
    }
    let [localhost, other] =
        ["localhost", "other.example"].map(|name| ServerName::try_from(name).expect("a name"));
    if is_trusted(Role::Server(&localhost)) {
        assert!(is_of(first, &SERVERS), "trusted: {}", first.escape_ascii());
    }
    if SERVERS.contains(&first.as_ref()) {
        assert!(is_trusted(Role::Server(&localhost)), "{} not trusted", first.escape_ascii());
    }
    assert!(!is_trusted(Role::Server(&other)), "trusted: {}", first.escape_ascii());
    for certificate in &chain {
        if let Some(identity) = ClientIdentity::of(certificate) {
            assert_names_are_sane(&identity);
        }
    }
}

/// Whether the signed part of the certificate is that of one in `signed`.
fn is_of(certificate: &[u8], signed: &[&[u8]]) -> bool {
    signed_part(certificate)
        .is_some_and(|part| signed.iter().any(|other| signed_part(other) == Some(part)))
}

fn is_version1(certificate: &[u8]) -> bool {
    parse_x509_certificate(certificate).is_ok_and(|(_, it)| it.version() == X509Version::V1)
}

/// Whether one of the valid anchors signed the certificate, according to x509-parser.
fn is_signed(certificate: &[u8]) -> bool {
    let Ok((_, parsed)) = parse_x509_certificate(certificate) else { return false };
    VALID_ANCHORS.iter().any(|anchor| {
        parse_x509_certificate(anchor).is_ok_and(|(_, anchor)| {
            anchor.subject().as_raw() == parsed.issuer().as_raw()
                && parsed.verify_signature(Some(anchor.public_key())).is_ok()
        })
    })
}

/// One element of DER (ITU-T X.690 §8.1) with a length of at most four bytes.
struct Element {
    /// Number of bytes before the contents.
    header: usize,
    /// Number of bytes of the whole element.
    length: usize,
}

impl Element {
    /// Parses the element at the start of `bytes`. `None` if it is not complete.
    fn at_start_of(bytes: &[u8]) -> Option<Self> {
        let (&[_, length], rest) = bytes.split_first_chunk()?;
        let (header, contents) = match length {
            0..0x80 => (2, usize::from(length)),
            0x81..=0x84 => {
                let digits = rest.get(..usize::from(length & 0x7f))?;
                let contents = digits.iter().fold(0, |sum, &digit| sum << 8 | usize::from(digit));
                (2 + digits.len(), contents)
            }
            0x80 | 0x85.. => return None,
        };
        let length = header + contents;
        (length <= bytes.len()).then_some(Self { header, length })
    }
}

/// The signed part, `tbsCertificate` (RFC 5280 §4.1).
fn signed_part(certificate: &[u8]) -> Option<&[u8]> {
    let contents = certificate.get(Element::at_start_of(certificate)?.header..)?;
    contents.get(..Element::at_start_of(contents)?.length)
}

fn assert_names_are_sane(identity: &ClientIdentity) {
    let label = identity.label();
    assert!(!label.chars().any(char::is_control), "{}", label.escape_debug());
    assert!(!label.is_empty() || identity.common_name.as_deref() == Some(""), "no label");

    let is_allowed = |pattern| Access::new(vec![pattern], None).allows(Some(identity));
    let any = || "*".to_owned();
    assert_eq!(is_allowed(ClientPattern::CommonName(any())), identity.common_name.is_some());
    assert_eq!(is_allowed(ClientPattern::Dns(any())), !identity.dns.is_empty());
    assert_eq!(is_allowed(ClientPattern::Uri(any())), !identity.uris.is_empty());
    assert!(is_allowed(ClientPattern::SpkiSha256(identity.spki_sha256)));
    assert!(!is_allowed(ClientPattern::SpkiSha256([0; 32])));
    // A name used as a pattern matches itself, even with `*` and `?`.
    if let Some(name) = &identity.common_name {
        assert!(is_allowed(ClientPattern::CommonName(name.clone())), "{}", name.escape_debug());
    }
    for name in &identity.dns {
        assert!(
            is_allowed(ClientPattern::Dns(name.to_ascii_uppercase())),
            "{}",
            name.escape_debug()
        );
    }
    for name in &identity.uris {
        assert!(is_allowed(ClientPattern::Uri(name.clone())), "{}", name.escape_debug());
    }
    for &address in &identity.ips {
        let canonical = address.to_canonical();
        let prefix = if canonical.is_ipv4() { 32 } else { 128 };
        let range = AddressRange { network: canonical, prefix };
        assert!(is_allowed(ClientPattern::Ip(range)), "{address}");
    }
}
