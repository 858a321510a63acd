//! Verifies signatures of handshakes. The algorithms are those of the provider: no SHA-1, no MD5, no
//! RSA below 2048 bits.

use rustls::{
    CertificateError, DigitallySignedStruct, Error, PeerMisbehaved, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{self, WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key},
    pki_types::{CertificateDer, SignatureVerificationAlgorithm, SubjectPublicKeyInfoDer},
};
use webpki::RawPublicKeyEntity;
use x509_parser::parse_x509_certificate;

use super::{fault::refused, version1::Version1};
use crate::common::error::certificate::{CertificateFault, report};

/// Verifies that the peer has the private key of its certificate.
#[derive(Debug)]
pub(crate) struct HandshakeSignatures {
    algorithms: WebPkiSupportedAlgorithms,
    reading: Reading,
}

/// How much of the peer's certificate is read.
#[derive(Clone, Copy, Debug)]
enum Reading {
    Certificate,
    /// Everything else in the certificate is ignored.
    Key,
}

impl HandshakeSignatures {
    /// For certificates whose chain is verified too. A certificate that webpki cannot parse is
    /// refused, unless it has X.509 version 1.
    pub(crate) fn of_certificates(algorithms: WebPkiSupportedAlgorithms) -> Self {
        Self { algorithms, reading: Reading::Certificate }
    }

    /// For any certificate with a key. webpki would refuse to parse a certificate with an unknown
    /// critical extension.
    pub(crate) fn of_keys(algorithms: WebPkiSupportedAlgorithms) -> Self {
        Self { algorithms, reading: Reading::Key }
    }

    /// The accepted signature schemes, most preferred first.
    pub(crate) fn schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }

    /// Verifies the signature of a TLS 1.2 handshake (RFC 5246 §7.4.3 and §7.4.8).
    pub(crate) fn verify_tls12(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let checked = match self.raw_key(certificate)? {
            None => crypto::verify_tls12_signature(message, certificate, signed, &self.algorithms),
            Some(key) => tls12_with_raw_key(message, &key, signed, &self.algorithms),
        };
        noted(certificate, checked)
    }

    /// Verifies the signature of a TLS 1.3 handshake (RFC 8446 §4.4.3).
    pub(crate) fn verify_tls13(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let checked = match self.raw_key(certificate)? {
            None => crypto::verify_tls13_signature(message, certificate, signed, &self.algorithms),
            Some(key) => {
                verify_tls13_signature_with_raw_key(message, &key, signed, &self.algorithms)
            }
        };
        noted(certificate, checked)
    }

    /// The peer's key. `None` if webpki reads the key from the certificate.
    fn raw_key(
        &self,
        certificate: &CertificateDer<'_>,
    ) -> Result<Option<SubjectPublicKeyInfoDer<'static>>, CertificateFault> {
        match self.reading {
            Reading::Certificate => {
                Ok(Version1::of(certificate)?.map(|version1| version1.key().into_owned()))
            }
            Reading::Key => key_of(certificate).map(Some),
        }
    }
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::OtherError;

    use super::*;
    use crate::{
        common::error::certificate::watch,
        tls::fixtures::{params, self_signed},
    };

    #[tokio::test]
    async fn only_faults_that_an_operator_can_correct_are_reported() {
        let of_webpki = |error: webpki::Error| CertificateError::Other(OtherError(Arc::new(error)));
        let certificate = self_signed(&params("client", &[]));
        for (reason, expected) in [
            (CertificateError::BadSignature, Some(CertificateFault::HandshakeSignature)),
            (CertificateError::BadEncoding, Some(CertificateFault::Unreadable)),
            (
                CertificateError::UnhandledCriticalExtension,
                Some(CertificateFault::CriticalExtension),
            ),
            (
                of_webpki(webpki::Error::UnsupportedCriticalExtension),
                Some(CertificateFault::CriticalExtension),
            ),
            (of_webpki(webpki::Error::UnsupportedCertVersion), None),
            (CertificateError::Expired, None),
        ] {
            let failed = Err(Error::InvalidCertificate(reason.clone()));
            let (outcome, refused) = watch(async { noted(&certificate, failed) }).await;
            assert!(outcome.is_err(), "{reason:?}");
            assert_eq!(refused.map(|refused| refused.fault), expected, "{reason:?}");
        }
    }
}
