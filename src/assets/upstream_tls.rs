//! TLS towards an exporter with `method = https`.

use std::sync::Arc;

use rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};

use super::pem_files::{Beside, Reader};
use crate::{
    config::{Sourced, UpstreamTlsConfig},
    exporter::UpstreamTls,
    pem::Purpose,
    tls::provider,
};

/// Reads the files. What is wrong with none of them is said of `owner`.
pub(super) fn load<T>(
    reader: &mut Reader<'_>,
    owner: &Sourced<T>,
    tls: &UpstreamTlsConfig,
) -> Option<UpstreamTls> {
    // All files, so that a mistake in one does not hide that in another.
    let roots = (!tls.skip_verify).then(|| roots(reader, owner, tls));
    let client_pair = tls.client_pair.as_ref().map(|(certificate, key)| {
        let beside: Beside<'_> =
            &[(Purpose::Chain, &certificate.value), (Purpose::Key, &key.value)];
        let chain = reader.certificates(certificate, Purpose::Chain, beside);
        (chain, reader.key(key, beside), key)
    });
    let provider = provider();
    let builder = match ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
    {
        Ok(builder) => builder,
        Err(error) => {
            reader.findings.push(owner.error(format!("TLS cannot be set up: {error}")));
            return None;
        }
    };
    let builder = match roots {
        Some(roots) => builder.with_root_certificates(roots?),
        None => {
            let any = Arc::new(AnyCertificate(provider));
            builder.dangerous().with_custom_certificate_verifier(any)
        }
    };
    let mut config = match client_pair {
        None => builder.with_no_client_auth(),
        Some((chain, private_key, key)) => {
            match builder.with_client_auth_cert(chain?, private_key?) {
                Ok(config) => config,
                Err(error) => {
                    reader.findings.push(key.error(format!("cannot be used: {error}")));
                    return None;
                }
            }
        }
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Some(UpstreamTls { config: Arc::new(config), server_name: tls.server_name.clone() })
}

fn roots<T>(
    reader: &mut Reader<'_>,
    owner: &Sourced<T>,
    tls: &UpstreamTlsConfig,
) -> Option<RootCertStore> {
    let mut roots = RootCertStore::empty();
    match &tls.ca {
        Some(file) => {
            for anchor in reader.certificates(file, Purpose::ServerAuthorities, &[])? {
                if let Err(error) = roots.add(anchor) {
                    let message = format!("{} is no trust anchor: {error}", file.value.display());
                    reader.findings.push(file.error(message));
                    return None;
                }
            }
        }
        None => {
            // The system's store may hold a certificate that cannot be read; the others count.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                let message = "the system has no trusted CAs to verify it with: name one";
                reader.findings.push(owner.error(message));
                return None;
            }
        }
    }
    Some(roots)
}

/// `insecure-skip-verify`: any certificate will do, but its key must be there.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
