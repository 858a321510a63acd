//! The verifier of client certificates, for rustls.

use rustls::{
    DigitallySignedStruct, DistinguishedName, Error, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};

use super::verify::{HandshakeSignatures, Role, Trust, TrustError};
use crate::common::error::certificate::CertificateFault;

/// Verifies client certificates by the rules of [`super::verify`].
#[derive(Debug)]
pub struct ClientVerifier {
    trust: Trust,
    subjects: Vec<DistinguishedName>,
    signatures: HandshakeSignatures,
}

impl ClientVerifier {
    /// Trusts `anchors`. If `crls` is not empty, each certificate of a chain needs a list from its
    /// issuer that is not past its `nextUpdate` and does not name the certificate.
    ///
    /// # Errors
    /// See [`TrustError`].
    pub fn new(
        anchors: Vec<CertificateDer<'static>>,
        crls: Vec<CertificateRevocationListDer<'static>>,
        provider: &CryptoProvider,
    ) -> Result<Self, TrustError> {
        let algorithms = provider.signature_verification_algorithms;
        let subjects = subjects(&anchors);
        let signatures = HandshakeSignatures::of_certificates(algorithms);
        Ok(Self { trust: Trust::new(anchors, crls, algorithms)?, subjects, signatures })
    }

    /// Verifies the certificates that a client presents, at `now`.
    ///
    /// # Errors
    /// See [`CertificateFault`].
    pub fn verify(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), CertificateFault> {
        self.trust.verify(Role::Client, end_entity, intermediates, now)
    }

    /// The trust anchors and revocation lists.
    #[must_use]
    pub fn trust(&self) -> &Trust {
        &self.trust
    }
}

impl ClientCertVerifier for ClientVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.subjects
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.verify(end_entity, intermediates, now)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signatures.verify_tls12(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signatures.verify_tls13(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.signatures.schemes()
    }
}

/// The most bytes of CA names that a handshake carries. A handshake message is limited to 64 KiB.
const MAX_SUBJECTS: usize = 16 * 1024;

/// The names of `anchors`, which the server sends to clients as a hint. If they are too many, none
/// is sent. A client that receives no names presents the certificate that it has (RFC 8446 §4.2.4,
/// RFC 5246 §7.4.4), but a client that does not find its CA in the list presents none.
pub(super) fn subjects(anchors: &[CertificateDer<'static>]) -> Vec<DistinguishedName> {
    let names: Vec<DistinguishedName> = anchors
        .iter()
        .filter_map(|anchor| {
            let (_, certificate) = x509_parser::parse_x509_certificate(anchor).ok()?;
            Some(DistinguishedName::from(certificate.subject().as_raw().to_vec()))
        })
        .collect();
    // Two bytes before each name hold its length.
    let length: usize = names.iter().map(|name| name.as_ref().len() + 2).sum();
    if length > MAX_SUBJECTS { Vec::new() } else { names }
}
