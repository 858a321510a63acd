//! X.509 version 1 certificates, which rcgen cannot create: version 3 certificates without the
//! parts that version 1 lacks, signed again.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rcgen::{KeyPair, SigningKey as _};
use rustls::pki_types::CertificateDer;
use x509_parser::asn1_rs::{Any, Class, FromDer as _};

const SEQUENCE: u8 = 0x30;
const BIT_STRING: u8 = 0x03;

/// The certificate without version and extensions (RFC 5280 section 4.1), signed with the issuer's
/// key.
pub fn version1(certificate: &CertificateDer<'_>, issuer: &KeyPair) -> CertificateDer<'static> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).expect("a certificate");
    let (_, tbs) = Any::from_der(parsed.tbs_certificate.as_ref()).expect("DER");
    let (mut rest, mut fields) = (tbs.data, Vec::new());
    while !rest.is_empty() {
        let (behind, field) = Any::from_der(rest).expect("DER");
        if field.class() == Class::Universal {
            fields.push(&rest[..rest.len() - behind.len()]);
        }
        rest = behind;
    }
    let (algorithm, fields) = (fields[1].to_vec(), fields.concat());
    let signed = der(SEQUENCE, &fields);
    let signature = issuer.sign(&signed).expect("a signature");
    // The number of unused bits in the last byte: 0.
    let signature = der(BIT_STRING, &[&[0], signature.as_slice()].concat());
    CertificateDer::from(der(SEQUENCE, &[signed, algorithm, signature].concat()))
}

fn der(tag: u8, contents: &[u8]) -> Vec<u8> {
    let length = contents.len();
    let mut bytes = vec![tag];
    match length {
        0..0x80 => bytes.push(length as u8),
        0x80..0x100 => bytes.extend([0x81, length as u8]),
        _ => bytes.extend([0x82, (length >> 8) as u8, length as u8]),
    }
    bytes.extend_from_slice(contents);
    bytes
}

/// A certificate in PEM form.
pub fn pem(certificate: &CertificateDer<'_>) -> String {
    let text = STANDARD.encode(certificate);
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).expect("ASCII")).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}
