//! The verifier of server certificates, for rustls: of exporters, and of the proxy that `get`
//! scrapes.

use rustls::{
    DigitallySignedStruct, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::WebPkiSupportedAlgorithms,
    pki_types::{CertificateDer, ServerName, UnixTime},
};

use super::verify::{
    Role, Trust, verify_tls12_key, verify_tls12_signature, verify_tls13_key, verify_tls13_signature,
};

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
    pub(super) servers: Servers,
    pub(super) algorithms: WebPkiSupportedAlgorithms,
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
        let verify = match self.servers {
            Servers::Of(_) => verify_tls12_signature,
            Servers::Any => verify_tls12_key,
        };
        verify(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let verify = match self.servers {
            Servers::Of(_) => verify_tls13_signature,
            Servers::Any => verify_tls13_key,
        };
        verify(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
