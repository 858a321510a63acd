//! Certificates for tests, as files and as rustls configurations.

use std::{
    fs,
    io::Write,
    ops::Range,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, PKCS_RSA_SHA256, RsaKeySize,
    date_time_ymd,
};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig, SignatureScheme, SupportedProtocolVersion,
    client::ResolvesClientCert,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer},
    server::{NoClientAuth, WebPkiClientVerifier, danger::ClientCertVerifier},
    sign::{CertifiedKey, SingleCertAndKey},
};
use tempfile::TempDir;
use time::{Duration, OffsetDateTime};

/// Both TLS versions that the proxy supports.
pub const BOTH_VERSIONS: &[&SupportedProtocolVersion] =
    &[&rustls::version::TLS13, &rustls::version::TLS12];

/// A CA, a server pair for `localhost`, `127.0.0.1` and `::1`, and a client pair; ECDSA P-256.
///
/// The files are in a temporary folder: `ca.pem`, `server.pem`, `server.key`, `client.pem` and
/// `client.key`.
pub struct Pki {
    folder: TempDir,
    ca: CertifiedIssuer<'static, KeyPair>,
    server: Pair,
    client: Pair,
}

/// A certificate and its key.
struct Pair {
    certificate: Certificate,
    key: KeyPair,
}

impl Default for Pki {
    fn default() -> Self {
        Self::new()
    }
}

impl Pki {
    /// Creates new keys and certificates.
    pub fn new() -> Self {
        Self::with_server_until(2100)
    }

    /// With a server certificate that expires on the first day of this year.
    pub fn with_server_until(year: i32) -> Self {
        let mut params = CertificateParams::new([]).expect("valid names");
        params.distinguished_name.push(DnType::CommonName, "scrapegate test CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let ca = CertifiedIssuer::self_signed(params, new_key()).expect("a CA certificate");

        let server_names = ["localhost", "127.0.0.1", "::1"].map(String::from);
        let server =
            issue(&ca, "localhost", server_names.into(), ExtendedKeyUsagePurpose::ServerAuth, year);
        let client = issue(
            &ca,
            "scraper",
            vec!["scraper.example".to_owned()],
            ExtendedKeyUsagePurpose::ClientAuth,
            2100,
        );

        let folder = TempDir::with_prefix("scrapegate-pki-").expect("a temporary folder");
        write_private(&folder.path().join("ca.pem"), &ca.pem());
        server.write(folder.path(), "server");
        client.write(folder.path(), "client");
        Self { folder, ca, server, client }
    }

    /// Replaces the server pair in the files by one with an RSA-4096 key, which makes handshakes as
    /// expensive as possible for the server.
    pub fn replace_server_by_rsa_4096(&self) {
        let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_4096).expect("a key");
        let params = CertificateParams::new(["localhost".to_owned()]).expect("a name");
        let certificate = params.signed_by(&key, &self.ca).expect("a certificate");
        // The key file keeps its mode.
        fs::write(self.path("server.pem"), certificate.pem()).expect("written");
        fs::write(self.path("server.key"), key.serialize_pem()).expect("written");
    }

    /// Replaces the server pair in the files by one that is valid on these days, counted from now.
    pub fn replace_server(&self, days: Range<i64>) {
        let in_days = |days| OffsetDateTime::now_utc() + Duration::days(days);
        self.replace_server_between(in_days(days.start), in_days(days.end));
    }

    /// Replaces the server pair in the files by one with this validity.
    pub fn replace_server_between(&self, begins: OffsetDateTime, ends: OffsetDateTime) {
        let names = ["localhost", "127.0.0.1"].map(String::from);
        let mut params = CertificateParams::new(names).expect("valid names");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.not_before = begins;
        params.not_after = ends;
        let key = new_key();
        let certificate = params.signed_by(&key, &self.ca).expect("a certificate");
        fs::write(self.path("server.pem"), certificate.pem()).expect("written");
        fs::write(self.path("server.key"), key.serialize_pem()).expect("written");
    }

    /// The path of one of the files.
    pub fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    /// A `config.ini` with these files, JSON logs, and `proxy_keys` at the end of `[proxy]`.
    pub fn config_ini(&self, proxy_keys: &str) -> String {
        format!(
            "[default]\ncertfile = {}\nkeyfile = {}\n\n[proxy]\nclient-ca = {}\nlog-format = json\n{proxy_keys}",
            self.path("server.pem").display(),
            self.path("server.key").display(),
            self.path("ca.pem").display(),
        )
    }

    /// The configuration of a scraper with the client certificate, which trusts this CA.
    pub fn client(&self, versions: &[&'static SupportedProtocolVersion]) -> Arc<ClientConfig> {
        let chain = vec![self.client.certificate.der().clone()];
        self.client_with(versions, chain, &self.client.key)
    }

    /// The CA, for further certificates.
    pub fn ca(&self) -> &CertifiedIssuer<'static, KeyPair> {
        &self.ca
    }

    /// The configuration of a scraper that trusts this CA and always sends `chain`. The key may
    /// belong to another certificate.
    pub fn client_with(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        chain: Vec<CertificateDer<'static>>,
        key: &KeyPair,
    ) -> Arc<ClientConfig> {
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("PKCS #8");
        let key = provider().key_provider.load_private_key(key).expect("a supported key");
        let config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)
            .expect("a supported version")
            .with_root_certificates(self.roots())
            .with_client_cert_resolver(Arc::new(Shown(Arc::new(CertifiedKey::new(chain, key)))));
        Arc::new(config)
    }

    /// The configuration of a scraper without a certificate, which trusts this CA.
    pub fn stranger(&self, versions: &[&'static SupportedProtocolVersion]) -> Arc<ClientConfig> {
        let config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)
            .expect("a supported version")
            .with_root_certificates(self.roots())
            .with_no_client_auth();
        Arc::new(config)
    }

    /// The server side of an `https` exporter, without client authentication.
    pub fn server(&self, versions: &[&'static SupportedProtocolVersion]) -> Arc<ServerConfig> {
        server_config(versions, Arc::new(NoClientAuth), &self.server)
    }

    /// The server side of an `https` exporter with a self-signed certificate.
    pub fn self_signed_server(versions: &[&'static SupportedProtocolVersion]) -> Arc<ServerConfig> {
        let params = CertificateParams::new(["localhost".to_owned()]).expect("a name");
        let key = new_key();
        let certificate = params.self_signed(&key).expect("a certificate");
        server_config(versions, Arc::new(NoClientAuth), &Pair { certificate, key })
    }

    /// The server side of an `https` exporter with any certificate, without client authentication.
    pub fn server_with(
        versions: &[&'static SupportedProtocolVersion],
        chain: Vec<CertificateDer<'static>>,
        key: &KeyPair,
    ) -> Arc<ServerConfig> {
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("PKCS #8");
        let key = provider().key_provider.load_private_key(key).expect("a supported key");
        let pair = SingleCertAndKey::from(CertifiedKey::new(chain, key));
        let config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)
            .expect("supported versions")
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(pair));
        Arc::new(config)
    }

    /// The server side of an `https` exporter that requires a client certificate of this CA.
    pub fn server_for_clients(
        &self,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Arc<ServerConfig> {
        let roots = Arc::new(self.roots());
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider()).build();
        server_config(versions, verifier.expect("a CA certificate"), &self.server)
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.ca.der().clone()).expect("a CA certificate");
        roots
    }
}

/// Sends one certificate to every server.
#[derive(Debug)]
struct Shown(Arc<CertifiedKey>);

impl ResolvesClientCert for Shown {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl Pair {
    fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::try_from(self.key.serialize_der()).expect("PKCS #8")
    }

    fn write(&self, folder: &Path, name: &str) {
        write_private(&folder.join(format!("{name}.pem")), &self.certificate.pem());
        write_private(&folder.join(format!("{name}.key")), &self.key.serialize_pem());
    }
}

fn issue(
    ca: &CertifiedIssuer<'static, KeyPair>,
    common_name: &str,
    names: Vec<String>,
    usage: ExtendedKeyUsagePurpose,
    until: i32,
) -> Pair {
    let mut params = CertificateParams::new(names).expect("valid names");
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    params.use_authority_key_identifier_extension = true;
    params.not_before = date_time_ymd(2000, 1, 1);
    params.not_after = date_time_ymd(until, 1, 1);
    let key = new_key();
    let certificate = params.signed_by(&key, ca).expect("a certificate");
    Pair { certificate, key }
}

fn server_config(
    versions: &[&'static SupportedProtocolVersion],
    clients: Arc<dyn ClientCertVerifier>,
    pair: &Pair,
) -> Arc<ServerConfig> {
    let config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .expect("supported versions")
        .with_client_cert_verifier(clients)
        .with_single_cert(vec![pair.certificate.der().clone()], pair.private_key())
        .expect("the key belongs to the certificate");
    Arc::new(config)
}

fn new_key() -> KeyPair {
    KeyPair::generate().expect("a key")
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// Writes a file that only its owner may read, as the proxy requires of secrets.
pub fn write_private(path: &Path, text: &str) {
    fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .unwrap_or_else(|error| panic!("{} not written: {error}", path.display()));
}
