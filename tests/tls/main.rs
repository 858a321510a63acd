//! Access over TLS: which clients are accepted, and how the others are refused: by TLS alerts, not
//! by HTTP responses.
//!
//! The numbers (`T04`) are those of the project's list of cases.
//!
//! Not here: RSA keys below 2048 bits. aws-lc-rs refuses to sign with them; OpenSSL does sign, so
//! the test is in `tests/real`.

mod access;
mod anchors;
mod broken;
mod client_certificates;
mod expiry;
mod hello;
mod renegotiation;
mod revocation;
mod server_side;
mod version1;

use std::{cell::Cell, net::SocketAddr, sync::Arc, thread};

use rustls::{AlertDescription, ClientConfig};
use scrapegate_harness::{
    body::Body,
    client::{Client, alert_in},
    exporter::{Exporter, Framing},
    metrics::{Samples, assert_moves},
    pki::{BOTH_VERSIONS, Pki},
    proxy::Proxy,
};

/// The log message of a handshake that does not lead to a connection.
const NO_CONNECTION: &str = "TLS handshake failed";

/// A proxy with one exporter, `e`, which answers with a hundred bytes.
///
/// When this is dropped, each failed handshake must have been logged once. No descriptor may be
/// left open.
struct Setup {
    proxy: Proxy,
    exporter: Exporter,
    /// Number of descriptors that the proxy has open without any connection.
    at_rest: usize,
    /// The client that reads the metrics: the CA as its own client, which no CRL revokes.
    reader: Arc<ClientConfig>,
    /// Additional header lines for the metrics request.
    credentials: String,
    /// The number of failed handshakes that [`Setup::assert_ends`] has counted.
    ended: Cell<u64>,
    /// The number of broken connections that [`Setup::assert_breaks`] has counted.
    broken: Cell<u64>,
}

impl Setup {
    /// With `proxy_keys` in `[proxy]`.
    fn new(pki: &Pki, proxy_keys: &str) -> Self {
        Self::with_config(pki, &pki.config_ini(proxy_keys))
    }

    fn with_config(pki: &Pki, config_ini: &str) -> Self {
        let exporter = Exporter::start(|conversation| {
            conversation.read_request()?;
            conversation.answer("", Framing::ContentLength, Body::text(100))
        });
        let proxy = Proxy::start(config_ini, &exporter.section("e"));
        let at_rest = proxy.open_fds();
        let reader = pki.client_with(BOTH_VERSIONS, vec![pki.ca().der().clone()], pki.ca().key());
        let (credentials, ended, broken) = Default::default();
        Self { proxy, exporter, at_rest, reader, credentials, ended, broken }
    }

    /// The present metrics, read over a new connection.
    #[track_caller]
    fn samples(&self) -> Samples {
        let reader = Arc::clone(&self.reader);
        let mut reader = Client::connect(self.address(), reader).expect("a handshake");
        Samples::with(&mut reader, &self.credentials)
    }

    fn address(&self) -> SocketAddr {
        self.proxy.address()
    }

    /// Asserts that a scrape succeeds.
    #[track_caller]
    fn assert_accepts(&self, config: Arc<ClientConfig>) {
        let mut client = Client::connect(self.address(), config).expect("a handshake");
        let response = client.get("/prometheus?exporter=e");
        assert_eq!(response.head.status, 200, "{response:?}");
        assert!(response.body.is_complete(), "{response:?}");
        assert_eq!(response.body.bytes, 100);
    }

    /// Asserts that a scrape succeeds, and waits until it is counted. Later events are then counted
    /// separately.
    #[track_caller]
    fn assert_accepts_and_counts(&self, config: Arc<ClientConfig>) {
        let series = "scrapegate_scrapes_total{exporter=\"e\",outcome=\"complete\"}";
        assert_moves(series, || self.samples(), || self.assert_accepts(config));
    }

    /// Asserts that the handshake fails with `alert` and without a byte of HTTP. See
    /// [`Setup::assert_ends`].
    #[track_caller]
    fn assert_refuses(&self, config: Arc<ClientConfig>, alert: AlertDescription) {
        let without_tls =
            [AlertDescription::ProtocolVersion, AlertDescription::NoApplicationProtocol];
        let result = if alert == AlertDescription::CertificateRequired {
            "no_certificate"
        } else if without_tls.contains(&alert) {
            "protocol"
        } else {
            "bad_certificate"
        };
        let said = self.assert_ends(result, || refusal(self.address(), config));
        assert_eq!(said, alert);
    }

    /// Runs `happen`, and asserts that one handshake fails. It must be counted once as `result` and
    /// logged once. The exporter must not be asked, and no descriptor may be left open.
    #[track_caller]
    fn assert_ends<T>(&self, result: &str, happen: impl FnOnce() -> T) -> T {
        let asked = self.exporter.connections();
        let series = format!("scrapegate_tls_handshakes_total{{result=\"{result}\"}}");
        let what = assert_moves(&series, || self.samples(), happen);
        self.ended.set(self.ended.get() + 1);
        self.proxy.assert_logged(NO_CONNECTION, self.ended.get());
        self.proxy.assert_at_rest(self.at_rest);
        assert_eq!(self.exporter.connections(), asked);
        what
    }

    /// Runs `happen`, and asserts that one connection ends because its client breaks TLS. This must
    /// be counted once, and logged once with this `reason`. No descriptor may be left open.
    #[track_caller]
    fn assert_breaks<T>(&self, reason: &str, happen: impl FnOnce() -> T) -> T {
        let series = "scrapegate_http_rejected_total{reason=\"broken_tls\"}";
        let what = assert_moves(series, || self.samples(), happen);
        self.broken.set(self.broken.get() + 1);
        self.proxy.assert_logged("request refused", self.broken.get());
        let lines = self.proxy.log_lines();
        let last = lines.iter().rfind(|line| line.contains("request refused")).expect("a record");
        assert!(last.contains(&format!("\"after the TLS handshake: {reason}")), "{last}");
        self.proxy.assert_at_rest(self.at_rest);
        what
    }
}

impl Drop for Setup {
    fn drop(&mut self) {
        if !thread::panicking() {
            self.proxy.assert_at_rest(self.at_rest);
            self.proxy.assert_logged(NO_CONNECTION, self.ended.get());
        }
    }
}

/// The alert that ends a connection before any response.
#[track_caller]
fn refusal(address: SocketAddr, config: Arc<ClientConfig>) -> AlertDescription {
    let error = match Client::connect(address, config) {
        Err(error) => error,
        // With TLS 1.3, a client may send its request before the proxy has verified its
        // certificate.
        Ok(mut client) => client
            .send_get("/prometheus?exporter=e")
            .and_then(|()| client.read_head().map(|head| panic!("answered with {head:?}")))
            .expect_err("panics else"),
    };
    alert_in(&error).unwrap_or_else(|| panic!("no alert: {error:?}"))
}
