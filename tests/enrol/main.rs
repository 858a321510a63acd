//! Enrolment: the requests of an openITCOCKPIT server, and those of unauthorized clients.

mod bodies;
mod existing;
mod first;
mod posted;
mod renewal;

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use rcgen::{CertificateParams, KeyPair};
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use serde_json::{Value, json};
use tempfile::TempDir;

use scrapegate_harness::{
    body::Body,
    client::{Client, Response},
    exporter::{Exporter, Framing},
    forge::{self, Authority},
    plain,
    proxy::Proxy,
};

/// A host with one exporter, `e`, and a folder for the four enrollment files.
struct Host {
    proxy: Proxy,
    folder: TempDir,
    _exporter: Exporter,
}

impl Host {
    /// A host without enrollment files. The key will be ECDSA, which is fast to create.
    fn new() -> Self {
        Self::with("", "enrol-key = ecdsa\n", |_| ())
    }

    /// A host without enrollment files, with these keys at the end of `[default]` and `[proxy]`.
    /// `prepare` may create files in the folder.
    fn with(default: &str, proxy: &str, prepare: impl FnOnce(&TempDir)) -> Self {
        let folder = TempDir::with_prefix("scrapegate-enrol-").expect("a temporary folder");
        prepare(&folder);
        let exporter = Exporter::start(|conversation| {
            conversation.read_request()?;
            conversation.answer("", Framing::ContentLength, Body::text(100))
        });
        let config = format!(
            "[default]\ntry-autossl = True\nautossl-folder = {}\n{default}\n\
             [proxy]\nlog-format = json\n{proxy}",
            folder.path().display()
        );
        let proxy = Proxy::start(&config, &exporter.section("e"));
        Self { proxy, folder, _exporter: exporter }
    }

    /// A host that `ca` has enrolled.
    fn enrolled(ca: &Authority, proxy: &str) -> Self {
        let host = Self::with("", &format!("enrol-key = ecdsa\n{proxy}"), |_| ());
        host.signing_request("/autotls");
        let answer = host.post(&signed(&host.certificate(ca), &ca.pem()));
        assert_eq!(plain::status(&answer), 200, "{answer}");
        host.wait_for_reloads(1);
        host
    }

    fn address(&self) -> SocketAddr {
        self.proxy.address()
    }

    fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.path(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
    }

    /// The names and contents of all files in the folder.
    fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let entries = fs::read_dir(self.folder.path()).expect("the folder");
        entries
            .map(|entry| entry.expect("an entry"))
            .map(|entry| {
                let contents = fs::read(entry.path()).expect("a file");
                (entry.file_name().to_string_lossy().into_owned(), contents)
            })
            .collect()
    }

    /// The signing request in the response to a `GET` of `target` over plain HTTP.
    #[track_caller]
    fn signing_request(&self, target: &str) -> String {
        let answer = plain::get(self.address(), target);
        assert_eq!(plain::status(&answer), 200, "{answer}");
        assert!(answer.contains("\r\ncontent-type: application/json\r\n"), "{answer}");
        csr_of(plain::body(&answer))
    }

    /// Sends a `POST` over plain HTTP; returns the whole response.
    fn post(&self, body: &str) -> String {
        plain::post(self.address(), "/autotls", body)
    }

    fn key(&self) -> KeyPair {
        KeyPair::from_pem(&self.read("agent.key")).expect("a key")
    }

    /// A certificate that `ca` issues for this host's key.
    fn certificate(&self, ca: &Authority) -> String {
        certificate(ca, &self.key(), |_| ())
    }

    /// Waits until the proxy has reloaded this many times.
    fn wait_for_reloads(&self, count: usize) {
        let mut left = count;
        self.proxy.wait_for_log("a reload", |record| {
            left -= usize::from(record["fields"]["message"] == "reloaded");
            left == 0
        });
    }

    #[track_caller]
    fn connect(&self, config: Arc<ClientConfig>) -> Client {
        Client::connect(self.address(), config).expect("a handshake")
    }

    /// Asserts that a client with the certificate of `ca` can scrape the exporter.
    #[track_caller]
    fn assert_serves(&self, ca: &Authority) {
        let response = self.connect(as_ca(ca)).get("/prometheus?exporter=e");
        assert_eq!(response.head.status, 200, "{response:?}");
        assert!(response.body.is_complete(), "{response:?}");
    }

    /// Sends a `POST` over TLS.
    #[track_caller]
    fn renew(&self, config: Arc<ClientConfig>, body: &str) -> Response {
        let mut client = self.connect(config);
        client.send(plain::post_request("/autotls", body)).expect("sent");
        client.read_response().expect("an answer")
    }
}

/// The value of `csr` in a response body that has no other key.
#[track_caller]
fn csr_of(body: &str) -> String {
    let json: Value = serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {body}"));
    let csr = json["csr"].as_str().unwrap_or_else(|| panic!("no csr: {body}"));
    assert_eq!(json.as_object().map(serde_json::Map::len), Some(1), "{body}");
    csr.to_owned()
}

/// The body of a `POST` with a certificate and its CA.
fn signed(signed: &str, ca: &str) -> String {
    json!({ "signed": signed, "ca": ca }).to_string()
}

fn new_ca(name: &str) -> Authority {
    forge::authority(name, KeyPair::generate().expect("a key"), -1..100)
}

/// A server certificate that `ca` issues, as PEM, after `change` has modified its parameters.
fn certificate(
    ca: &Authority,
    key: &KeyPair,
    change: impl FnOnce(&mut CertificateParams),
) -> String {
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let mut params = CertificateParams::new(names).expect("valid names");
    params.not_before = forge::in_days(-2);
    params.not_after = forge::in_days(30);
    change(&mut params);
    params.signed_by(key, ca).expect("a certificate").pem()
}

/// A client that trusts `ca` and uses the CA certificate as its client certificate, as an
/// openITCOCKPIT server does.
fn as_ca(ca: &Authority) -> Arc<ClientConfig> {
    client(ca, vec![ca.der().clone()], ca.key())
}

/// A client that trusts `ca` and has a client certificate issued by it.
fn as_scraper(ca: &Authority) -> Arc<ClientConfig> {
    let shown = forge::credentials(ca, |_| (), &[]);
    client(ca, shown.chain, &shown.key)
}

fn client(
    ca: &Authority,
    chain: Vec<rustls::pki_types::CertificateDer<'static>>,
    key: &KeyPair,
) -> Arc<ClientConfig> {
    let key = key.serialize_der().try_into().expect("PKCS #8");
    let config = trusting(ca).with_client_auth_cert(chain, key);
    Arc::new(config.expect("the key belongs to the certificate"))
}

/// A client that trusts `ca` and has no client certificate.
fn stranger(ca: &Authority) -> Arc<ClientConfig> {
    Arc::new(trusting(ca).with_no_client_auth())
}

fn trusting(
    ca: &Authority,
) -> rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert> {
    let mut roots = RootCertStore::empty();
    roots.add(ca.der().clone()).expect("a CA certificate");
    ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("supported versions")
        .with_root_certificates(roots)
}

/// Asserts that `since` was less than a second ago.
#[track_caller]
fn assert_within_a_second(since: Instant) {
    let late = since.elapsed();
    assert!(late < Duration::from_secs(1), "{late:?}");
}
