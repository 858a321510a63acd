//! One CA, one server certificate and one client certificate (ECDSA P-256) for all peers.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, PKCS_RSA_SHA256,
    RsaKeySize,
};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use scrapegate::{
    common::file::{self, Existing, FileAccess},
    tls::pki::{Authority, Validity},
};

use super::Result;

/// The files that all proxies use, in one folder.
pub struct Credentials {
    folder: PathBuf,
}

impl Credentials {
    /// Writes `ca.pem`, `server.pem`, `server.key`, `server-both.pem` (haproxy requires certificate
    /// and key in one file), `client.pem` and `client.key`.
    pub fn generate(folder: &Path) -> Result<Self> {
        let authority = Authority::generate("scrapegate bench", Validity::OneDay)?;
        let server = authority.server_pair(&["localhost".into(), "127.0.0.1".into()])?;
        let client = authority.client_pair("scraper")?;
        let both = format!("{}{}", server.certificate_pem, server.key_pem);
        for (file, text, access) in [
            ("ca.pem", &authority.pair().certificate_pem, FileAccess::Public),
            ("server.pem", &server.certificate_pem, FileAccess::Public),
            ("server.key", &server.key_pem, FileAccess::Private),
            ("server-both.pem", &both, FileAccess::Private),
            ("client.pem", &client.certificate_pem, FileAccess::Public),
            ("client.key", &client.key_pem, FileAccess::Private),
        ] {
            file::write(&folder.join(file), text.as_bytes(), access, Existing::Keep)?;
        }
        Ok(Self { folder: folder.to_owned() })
    }

    /// The same credentials in a folder below, but the server has an RSA-4096 key, as enrollment
    /// generates it. A CA of its own signs the server's certificate: `server-ca.pem`.
    ///
    /// # Errors
    ///
    /// Fails if the files cannot be written.
    pub fn with_rsa_4096(&self) -> Result<Self> {
        let folder = self.folder.join("rsa-4096");
        if folder.exists() {
            return Ok(Self { folder });
        }
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_4096)?;
        let params = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()])?;
        let certificate = params.signed_by(&key, &authority)?.pem();
        let key = key.serialize_pem();
        fs::create_dir(&folder)?;
        for file in ["ca.pem", "client.pem", "client.key"] {
            fs::copy(self.folder.join(file), folder.join(file))?;
        }
        let both = format!("{certificate}{key}");
        for (file, text, access) in [
            ("server-ca.pem", &authority.pem(), FileAccess::Public),
            ("server.pem", &certificate, FileAccess::Public),
            ("server.key", &key, FileAccess::Private),
            ("server-both.pem", &both, FileAccess::Private),
        ] {
            file::write(&folder.join(file), text.as_bytes(), access, Existing::Keep)?;
        }
        Ok(Self { folder })
    }

    /// The files that [`Credentials::generate`] has written.
    pub fn read(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    /// The folder of the files.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A scraper with a client certificate. It offers only TLS 1.3 with AES-128-GCM and no
    /// resumption, so that every peer does the same work.
    pub fn scraper(&self) -> Result<Arc<ClientConfig>> {
        let mut config = ClientConfig::builder_with_provider(aes_128())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(self.server_roots()?)
            .with_client_auth_cert(self.chain("client.pem")?, self.key("client.key")?)?;
        config.resumption = rustls::client::Resumption::disabled();
        Ok(Arc::new(config))
    }

    /// The floor's TLS configuration: client certificates required, no resumption.
    pub fn floor(&self) -> Result<Arc<ServerConfig>> {
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(self.roots()?), aes_128())
                .build()?;
        let mut config = ServerConfig::builder_with_provider(aes_128())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(verifier)
            .with_single_cert(self.chain("server.pem")?, self.key("server.key")?)?;
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }

    /// The TLS configuration of an https exporter: no client certificates, any cipher that the
    /// proxy prefers.
    pub fn exporter(&self) -> Result<Arc<ServerConfig>> {
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(self.chain("server.pem")?, self.key("server.key")?)?;
        Ok(Arc::new(config))
    }

    /// The CA of the server's certificate.
    fn server_roots(&self) -> Result<RootCertStore> {
        let mut roots = self.roots()?;
        let path = self.folder.join("server-ca.pem");
        if path.exists() {
            roots.add(CertificateDer::from_pem_file(path)?)?;
        }
        Ok(roots)
    }

    fn roots(&self) -> Result<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.folder.join("ca.pem"))?)?;
        Ok(roots)
    }

    fn chain(&self, file: &str) -> Result<Vec<CertificateDer<'static>>> {
        Ok(vec![CertificateDer::from_pem_file(self.folder.join(file))?])
    }

    fn key(&self, file: &str) -> Result<PrivateKeyDer<'static>> {
        Ok(PrivateKeyDer::from_pem_file(self.folder.join(file))?)
    }
}

fn aes_128() -> Arc<CryptoProvider> {
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites = vec![aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256];
    Arc::new(provider)
}
