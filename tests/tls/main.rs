//! Who is let in, and how the others are told: TLS towards scrapers, with alerts and not with
//! words of HTTP.
//!
//! The numbers (`T04`) are those of the list of hostile cases that the project keeps.
//!
//! Not here: RSA keys below 2048 bits, which aws-lc-rs does not sign with; OpenSSL does, in
//! `tests/real`.

mod access;
mod anchors;
mod broken;
mod client_certificates;
mod expiry;
mod forge;
mod hello;
mod renegotiation;
mod revocation;
mod server_side;
mod version1;

#[path = "../support/mod.rs"]
mod support;

use std::{cell::Cell, net::SocketAddr, sync::Arc, thread};

use rustls::{AlertDescription, ClientConfig};

use support::{
    body::Body,
    client::{Client, alert_in},
    exporter::{Exporter, Framing},
    metrics::{Samples, assert_moves},
    pki::{BOTH_VERSIONS, Pki},
    proxy::Proxy,
};

/// The message of the record of a handshake that leads to no connection.
const NO_CONNECTION: &str = "TLS handshake failed";

/// A proxy with one exporter, `e`, of a hundred bytes.
///
/// When it is dropped, each handshake that failed has to be logged once, and nothing be left over of
/// any.
struct Setup {
    proxy: Proxy,
    exporter: Exporter,
    /// Descriptors that it has open when nobody is there.
    at_rest: usize,
    /// Who reads the metrics: the CA as its own client, whom no list revokes.
    reader: Arc<ClientConfig>,
    /// Header lines that the reader needs.
    credentials: String,
    /// Handshakes that [`Setup::assert_ends`] has seen end.
    ended: Cell<u64>,
    /// Connections that [`Setup::assert_breaks`] has seen end.
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

    /// The metrics at this moment, over a connection of their own.
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
    fn assert_lets_in(&self, config: Arc<ClientConfig>) {
        let mut client = Client::connect(self.address(), config).expect("a handshake");
        let response = client.get("/prometheus?exporter=e");
        assert_eq!(response.head.status, 200, "{response:?}");
        assert!(response.body.is_complete(), "{response:?}");
        assert_eq!(response.body.bytes, 100);
    }

    /// The same, and waits until the scrape is counted: behind it other events may be counted again.
    #[track_caller]
    fn assert_lets_in_and_counts(&self, config: Arc<ClientConfig>) {
        let series = "scrapegate_scrapes_total{exporter=\"e\",outcome=\"complete\"}";
        assert_moves(series, || self.samples(), || self.assert_lets_in(config));
    }

    /// Asserts that the connection ends with `alert` and without a byte of HTTP, see
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

    /// Asserts that one handshake ends in what happens, that it is counted as `result` and logged,
    /// each once, that the exporter hears nothing of it, and that nothing is left of it.
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

    /// Asserts that one connection ends in what happens because TLS is broken on it, that this is
    /// counted once and logged once with this `reason`, and that nothing is left of it.
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

/// The alert with which a connection ends before anything is answered.
#[track_caller]
fn refusal(address: SocketAddr, config: Arc<ClientConfig>) -> AlertDescription {
    let error = match Client::connect(address, config) {
        Err(error) => error,
        // In TLS 1.3 the client is done before it is judged, and may have sent its request.
        Ok(mut client) => client
            .send_get("/prometheus?exporter=e")
            .and_then(|()| client.read_head().map(|head| panic!("answered with {head:?}")))
            .expect_err("panics else"),
    };
    alert_in(&error).unwrap_or_else(|| panic!("no alert: {error:?}"))
}
