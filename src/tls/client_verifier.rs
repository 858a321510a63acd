//! Client certificates: chains to a trust anchor as usual, and the anchor itself.

use std::sync::Arc;

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore,
    SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime},
    server::{
        VerifierBuilderError, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};

use super::{certificate::validity, subjects};

/// Why there is no verifier.
#[derive(Debug, thiserror::Error)]
pub enum VerifierError {
    /// A certificate of the CA bundle cannot be a trust anchor.
    #[error("a certificate of the CA bundle cannot be used as a trust anchor")]
    Anchor(#[source] Error),
    /// No anchors, or a CRL that cannot be read.
    #[error("client certificates cannot be verified")]
    Verifier(#[from] VerifierBuilderError),
}

/// Verifies client certificates.
///
/// The openITCOCKPIT server presents its CA certificate itself as the client certificate. webpki
/// refuses a CA as an end entity, so the leaf is compared with the trust anchors first, byte for
/// byte; then its validity is checked here, and the handshake's signature proves that the client
/// has its key, as for any other. Everything else is webpki's.
#[derive(Debug)]
pub struct ClientVerifier {
    anchors: Vec<CertificateDer<'static>>,
    subjects: Vec<DistinguishedName>,
    webpki: Arc<dyn ClientCertVerifier>,
}

impl ClientVerifier {
    /// Trusts `anchors`. With `crls`, each certificate of a chain needs a list of its issuer that
    /// is not past its `nextUpdate` and does not name it.
    ///
    /// # Errors
    /// See [`VerifierError`].
    pub fn new(
        anchors: Vec<CertificateDer<'static>>,
        crls: Vec<CertificateRevocationListDer<'static>>,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, VerifierError> {
        let mut roots = RootCertStore::empty();
        for anchor in &anchors {
            roots.add(anchor.clone()).map_err(VerifierError::Anchor)?;
        }
        let with_crls = !crls.is_empty();
        let mut builder =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).with_crls(crls);
        if with_crls {
            // An expired list is no list; webpki takes it for one unless told otherwise.
            builder = builder.enforce_revocation_expiration();
        }
        Ok(Self { subjects: subjects(&anchors), anchors, webpki: builder.build()? })
    }

    /// Whether a client that shows these certificates would be let in at `now`.
    #[must_use]
    pub fn verifies(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> bool {
        self.verify_client_cert(end_entity, intermediates, now).is_ok()
    }

    fn is_anchor(&self, certificate: &CertificateDer<'_>) -> bool {
        self.anchors.iter().any(|anchor| anchor.as_ref() == certificate.as_ref())
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
        if !self.is_anchor(end_entity) {
            let verified = self.webpki.verify_client_cert(end_entity, intermediates, now);
            return verified.map_err(blame_the_client);
        }
        let (not_before, not_after) =
            validity(end_entity).ok_or(Error::InvalidCertificate(CertificateError::BadEncoding))?;
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        if now < not_before {
            Err(CertificateError::NotValidYet.into())
        } else if now > not_after {
            Err(CertificateError::Expired.into())
        } else {
            Ok(ClientCertVerified::assertion())
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.webpki.supported_verify_schemes()
    }
}

/// What webpki says of a certificate, in terms of the client who showed it.
fn blame_the_client(error: Error) -> Error {
    let blame = if error == CertificateError::BadSignature.into() {
        // Of a CA that has but the name of ours, as one has that was made anew.
        CertificateError::UnknownIssuer
    } else if matches!(error, Error::InvalidCertRevocationList(_)) {
        // A list that our CA did not sign is no list.
        CertificateError::UnknownRevocationStatus
    } else {
        return error;
    };
    blame.into()
}
