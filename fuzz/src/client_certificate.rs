//! Whatever a client shows as its certificates:
//!
//! - they are let in only when the first is a trust anchor itself, byte for byte, or when what is
//!   signed in it is what the CA signed: nobody else has the CA's key;
//! - what is read from a certificate has a name for the log without control characters, and the
//!   patterns of `client-allow` match just the names that are there.
//!
//! `fuzz/fixtures/README.md` says where the certificates come from.

use std::{sync::LazyLock, time::Duration};

use rustls::pki_types::{CertificateDer, UnixTime};
use scrapegate::{
    access::{Access, AddressRange, ClientPattern},
    peer::ClientIdentity,
    tls::{self, ClientVerifier},
};

const CA: &[u8] = include_bytes!("../fixtures/ca.der");
const RSA_CA: &[u8] = include_bytes!("../fixtures/rsa-ca.der");
const EXPIRED_CA: &[u8] = include_bytes!("../fixtures/expired-ca.der");
const CLIENT: &[u8] = include_bytes!("../fixtures/client.der");

/// 2027-01-01, when all but the expired CA's certificate are valid.
const NOW: UnixTime = UnixTime::since_unix_epoch(Duration::from_secs(1_798_761_600));

static VERIFIER: LazyLock<ClientVerifier> = LazyLock::new(|| {
    let anchors = [CA, RSA_CA, EXPIRED_CA].map(CertificateDer::from).into();
    ClientVerifier::new(anchors, Vec::new(), &tls::provider()).expect("three anchors")
});

/// Asserts the property. `input` is the certificates in DER, one behind the other.
///
/// # Panics
/// When the property does not hold.
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
    let is_let_in = VERIFIER.verify(first, others, NOW).is_ok();
    let is_anchor = [CA, RSA_CA].contains(&first.as_ref());
    if is_let_in {
        let is_signed = signed_part(first).is_some_and(|part| Some(part) == signed_part(CLIENT));
        assert!(is_anchor || is_signed, "let in: {}", first.escape_ascii());
    }
    if is_anchor || first.as_ref() == CLIENT {
        assert!(is_let_in, "{} is not let in", first.escape_ascii());
    }
    for certificate in &chain {
        if let Some(identity) = ClientIdentity::of(certificate) {
            assert_names_are_sane(&identity);
        }
    }
}

/// One element of DER (ITU-T X.690 §8.1) with a length of at most four bytes.
struct Element {
    /// Bytes before its contents.
    header: usize,
    /// Its bytes in all.
    length: usize,
}

impl Element {
    /// `None` when there is none that is whole.
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

/// The `tbsCertificate` (RFC 5280 §4.1).
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
    // A name matches itself: `*` and `?` match themselves too.
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
