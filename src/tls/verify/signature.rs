//! Verifies signatures of handshakes, certificates and lists. The algorithms are those of the
//! provider, as in webpki: no SHA-1, no MD5, no RSA below 2048 bits.

use rustls::{
    CertificateError, DigitallySignedStruct, Error, PeerMisbehaved,
    client::danger::HandshakeSignatureValid,
    crypto::{self, WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key},
    pki_types::{CertificateDer, SignatureVerificationAlgorithm, SubjectPublicKeyInfoDer},
};
use webpki::RawPublicKeyEntity;
use x509_parser::{
    asn1_rs::{Any, FromDer as _, Tag},
    parse_x509_certificate,
};

use super::{refused, version1::Version1};
use crate::common::error::certificate::{CertificateFault, report};

/// Verifies the signature of a TLS 1.2 handshake (RFC 5246 §7.4.3 and §7.4.8).
pub(in crate::tls) fn verify_tls12_signature(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, Error> {
    let checked = match Version1::of(certificate)? {
        None => crypto::verify_tls12_signature(message, certificate, signed, algorithms),
        Some(version1) => tls12_with_raw_key(message, &version1.key(), signed, algorithms),
    };
    noted(certificate, checked)
}

/// Verifies the signature of a TLS 1.3 handshake (RFC 8446 §4.4.3).
pub(in crate::tls) fn verify_tls13_signature(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, Error> {
    let checked = match Version1::of(certificate)? {
        None => crypto::verify_tls13_signature(message, certificate, signed, algorithms),
        Some(version1) => {
            verify_tls13_signature_with_raw_key(message, &version1.key(), signed, algorithms)
        }
    };
    noted(certificate, checked)
}

/// Verifies the signature of a TLS 1.2 handshake, and ignores everything else in the certificate.
/// webpki would refuse to parse a certificate with an unknown critical extension.
pub(in crate::tls) fn verify_tls12_key(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, Error> {
    let key = key_of(certificate)?;
    noted(certificate, tls12_with_raw_key(message, &key, signed, algorithms))
}

/// Like [`verify_tls12_key`], for TLS 1.3.
pub(in crate::tls) fn verify_tls13_key(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, Error> {
    let key = key_of(certificate)?;
    noted(certificate, verify_tls13_signature_with_raw_key(message, &key, signed, algorithms))
}

fn key_of(
    certificate: &CertificateDer<'_>,
) -> Result<SubjectPublicKeyInfoDer<'static>, CertificateFault> {
    let (_, parsed) = parse_x509_certificate(certificate).map_err(|_| {
        report(refused(certificate, CertificateFault::Unreadable));
        CertificateFault::Unreadable
    })?;
    Ok(SubjectPublicKeyInfoDer::from(parsed.public_key().raw.to_vec()))
}

fn tls12_with_raw_key(
    message: &[u8],
    key: &SubjectPublicKeyInfoDer<'_>,
    signed: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, Error> {
    let candidates = algorithms.mapping.iter().find(|(scheme, _)| *scheme == signed.scheme);
    let (_, candidates) =
        candidates.ok_or(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme)?;
    // A signature scheme of TLS 1.2 does not determine the curve.
    let verifies = |algorithm: &&dyn SignatureVerificationAlgorithm| {
        RawPublicKeyEntity::try_from(key)
            .is_ok_and(|key| key.verify_signature(*algorithm, message, signed.signature()).is_ok())
    };
    if candidates.iter().any(verifies) {
        Ok(HandshakeSignatureValid::assertion())
    } else {
        Err(CertificateFault::HandshakeSignature.into())
    }
}

fn noted(
    certificate: &CertificateDer<'_>,
    checked: Result<HandshakeSignatureValid, Error>,
) -> Result<HandshakeSignatureValid, Error> {
    checked.map_err(|error| {
        let Error::InvalidCertificate(reason) = &error else { return error };
        let fault = if *reason == CertificateError::BadSignature {
            CertificateFault::HandshakeSignature
        } else if *reason == CertificateError::BadEncoding {
            CertificateFault::Unreadable
        } else if is_critical_extension(reason) {
            CertificateFault::CriticalExtension
        } else {
            return error;
        };
        report(refused(certificate, fault.clone()));
        fault.into()
    })
}

/// rustls has its own error for this, but passes on webpki's error.
fn is_critical_extension(reason: &CertificateError) -> bool {
    if let CertificateError::Other(other) = reason {
        let webpkis = other.0.downcast_ref::<webpki::Error>();
        return webpkis == Some(&webpki::Error::UnsupportedCriticalExtension);
    }
    *reason == CertificateError::UnhandledCriticalExtension
}

/// Something that an issuer has signed: a certificate (RFC 5280 §4.1.1) or a list (§5.1.1).
pub(super) struct Signed<'a> {
    content: &'a [u8],
    /// The contents of the `AlgorithmIdentifier`.
    algorithm: &'a [u8],
    signature: &'a [u8],
}

impl<'a> Signed<'a> {
    /// Parses `whole`. `content` is the signed part: the first element of `whole`.
    pub(super) fn new(whole: &'a [u8], content: &'a [u8]) -> Option<Self> {
        let behind = last(Tag::Sequence, whole)?.strip_prefix(content)?;
        let (behind, algorithm) = Any::from_der(behind).ok()?;
        algorithm.tag().assert_eq(Tag::Sequence).ok()?;
        // The first byte is the number of unused bits, which is 0.
        let signature = last(Tag::BitString, behind)?.strip_prefix(&[0])?;
        Some(Self { content, algorithm: algorithm.data, signature })
    }

    /// Whether the owner of the key `spki` made the signature (RFC 5280 §6.1.3 (a) (1)).
    pub(super) fn verify(
        &self,
        spki: &SubjectPublicKeyInfoDer<'_>,
        algorithms: &WebPkiSupportedAlgorithms,
    ) -> Result<(), BadSignature> {
        let key = RawPublicKeyEntity::try_from(spki).map_err(|_| BadSignature::Algorithm)?;
        // An ECDSA algorithm does not determine the curve, so several are tried.
        let named = |algorithm: &&&dyn SignatureVerificationAlgorithm| {
            algorithm.signature_alg_id().as_ref() == self.algorithm
        };
        let mut outcome = Err(BadSignature::Algorithm);
        for algorithm in algorithms.all.iter().filter(named) {
            outcome = match key.verify_signature(*algorithm, self.content, self.signature) {
                Ok(()) => return Ok(()),
                Err(webpki::Error::InvalidSignatureForPublicKey) => Err(BadSignature::OtherKey),
                Err(_) => outcome,
            };
        }
        outcome
    }
}

/// Why a signature is not valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadSignature {
    /// The algorithm is not supported, or does not fit the key.
    Algorithm,
    /// The signature was made with another key, or the key is too short.
    OtherKey,
}

/// The contents of `der`, which must be a single element with this tag.
fn last(tag: Tag, der: &[u8]) -> Option<&[u8]> {
    let (rest, element) = Any::from_der(der).ok()?;
    element.tag().assert_eq(tag).ok()?;
    rest.is_empty().then_some(element.data)
}
