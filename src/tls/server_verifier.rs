//! The verifier of server certificates, for rustls: of exporters, and of the proxy that `get`
//! scrapes.

use rustls::{
    DigitallySignedStruct, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName, UnixTime},
};

use super::verify::{HandshakeSignatures, Role, Trust};

/// Which servers are trusted.
#[derive(Debug)]
pub enum Servers {
    /// Servers whose certificate chains to one of these anchors, by the rules of [`super::verify`].
    Of(Trust),
    /// Any server that has the private key of the certificate that it presents.
    Any,
}

/// Verifies server certificates.
#[derive(Debug)]
pub(super) struct ServerVerifier {
    servers: Servers,
    signatures: HandshakeSignatures,
}

impl ServerVerifier {
    pub(super) fn new(servers: Servers, provider: &CryptoProvider) -> Self {
        let algorithms = provider.signature_verification_algorithms;
        let signatures = match servers {
            Servers::Of(_) => HandshakeSignatures::of_certificates(algorithms),
            Servers::Any => HandshakeSignatures::of_keys(algorithms),
        };
        Self { servers, signatures }
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Servers::Of(trust) = &self.servers {
            trust.verify(Role::Server(server_name), end_entity, intermediates, now)?;
        }
        Ok(ServerCertVerified::assertion())
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
