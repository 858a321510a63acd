//! Certificates and revocation lists for the unit tests of this module.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer,
    DistinguishedName, DnType, IsCa, KeyIdMethod, KeyPair, SerialNumber, SigningKey as _,
};
use rustls::pki_types::CertificateDer;
use time::{Duration, OffsetDateTime};
use x509_parser::asn1_rs::{Any, FromDer as _};

/// A certificate with its key, which may sign others.
pub(super) type Authority = CertifiedIssuer<'static, KeyPair>;

/// The time at which the tests verify.
pub(super) fn now() -> OffsetDateTime {
    OffsetDateTime::UNIX_EPOCH + Duration::days(20_000)
}

/// Parameters with a validity from ten days ago to ten days from now.
pub(super) fn params(common_name: &str, names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().copied().map(String::from).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.not_before = now() - Duration::days(10);
    params.not_after = now() + Duration::days(10);
    params
}

/// A self-signed CA.
pub(super) fn authority(
    common_name: &str,
    change: impl FnOnce(&mut CertificateParams),
) -> Authority {
    let mut params = params(common_name, &[]);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    change(&mut params);
    Authority::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A certificate of `issuer`, which need not be a CA.
pub(super) fn issued(issuer: &Authority, params: CertificateParams) -> Authority {
    Authority::signed_by(params, KeyPair::generate().unwrap(), issuer).unwrap()
}

pub(super) fn self_signed(params: &CertificateParams) -> CertificateDer<'static> {
    params.self_signed(&KeyPair::generate().unwrap()).unwrap().into()
}

/// The same key again.
pub(super) fn copy(key: &KeyPair) -> KeyPair {
    KeyPair::from_pem(&key.serialize_pem()).unwrap()
}

/// A list of `issuer`, valid from yesterday until tomorrow.
pub(super) fn list(
    issuer: &Authority,
    change: impl FnOnce(&mut CertificateRevocationListParams),
) -> Vec<u8> {
    let mut params = CertificateRevocationListParams {
        this_update: now() - Duration::DAY,
        next_update: now() + Duration::DAY,
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: Vec::new(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    change(&mut params);
    params.signed_by(issuer).unwrap().der().to_vec()
}

/// A certificate or a list after `change` has modified the fields of its signed part, signed again
/// with `key`.
pub(super) fn changed(
    whole: &[u8],
    key: &KeyPair,
    change: impl FnOnce(&mut Vec<Vec<u8>>),
) -> Vec<u8> {
    let [content, algorithm, _] = &elements(whole)[..] else { panic!("not signed") };
    let mut fields = elements(content);
    change(&mut fields);
    let content = sequence(&fields.concat());
    let mut signature = key.sign(&content).unwrap();
    // The number of unused bits in the last byte.
    signature.insert(0, 0);
    sequence(&[content, algorithm.clone(), der(0x03, &signature)].concat())
}

/// The certificate as X.509 version 1: without version and extensions (RFC 5280 §4.1).
pub(super) fn version1(certificate: &[u8], issuer: &KeyPair) -> Vec<u8> {
    changed(certificate, issuer, |fields| fields.retain(|field| field[0] & 0xc0 == 0))
}

/// The encoded elements of a SEQUENCE.
pub(super) fn elements(sequence: &[u8]) -> Vec<Vec<u8>> {
    let (mut rest, mut all) = (Any::from_der(sequence).unwrap().1.data, Vec::new());
    while !rest.is_empty() {
        let (behind, _) = Any::from_der(rest).unwrap();
        all.push(rest[..rest.len() - behind.len()].to_vec());
        rest = behind;
    }
    all
}

/// An encoded SEQUENCE with these contents.
pub(super) fn sequence(contents: &[u8]) -> Vec<u8> {
    der(0x30, contents)
}

/// An encoded element of less than 64 KiB.
pub(super) fn der(tag: u8, contents: &[u8]) -> Vec<u8> {
    let [high, low] = u16::try_from(contents.len()).unwrap().to_be_bytes();
    let header = match (high, low) {
        (0, 0..0x80) => vec![tag, low],
        (0, _) => vec![tag, 0x81, low],
        _ => vec![tag, 0x82, high, low],
    };
    [&header, contents].concat()
}
