//! The verifier of client certificates, for rustls.

use rustls::{
    DigitallySignedStruct, DistinguishedName, Error, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms},
    pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};

use super::{
    subjects,
    verify::{Role, Trust, TrustError, verify_tls12_signature, verify_tls13_signature},
};
use crate::common::error::certificate::CertificateFault;

/// Verifies client certificates by the rules of [`super::verify`].
#[derive(Debug)]
pub struct ClientVerifier {
    trust: Trust,
    subjects: Vec<DistinguishedName>,
    algorithms: WebPkiSupportedAlgorithms,
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
        Ok(Self { trust: Trust::new(anchors, crls, algorithms)?, subjects, algorithms })
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
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
