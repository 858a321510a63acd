//! Who is let in, and how the others are told: TLS towards scrapers, with alerts and not with
//! words of HTTP.
//!
//! The numbers (`T04`) are those of the list of hostile cases that the project keeps.
//!
//! Not here: RSA keys below 2048 bits, which aws-lc-rs does not sign with; OpenSSL does, in
//! `tests/real`.

mod access;
mod client_certificates;
mod expiry;
mod forge;
mod hello;
mod renegotiation;
mod revocation;
mod server_side;

#[path = "../support/mod.rs"]
mod support;

use std::{cell::Cell, net::SocketAddr, sync::Arc};

use rustls::{AlertDescription, ClientConfig};

use support::{
    body::Body,
    client::{Client, alert_in},
    exporter::{Exporter, Framing},
    pki::Pki,
    proxy::Proxy,
};

/// A proxy with one exporter, `e`, of a hundred bytes.
struct Setup {
    proxy: Proxy,
    exporter: Exporter,
    /// Descriptors that it has open when nobody is there.
    at_rest: usize,
    /// Handshakes that [`Setup::assert_refuses`] has seen refused.
    refused: Cell<usize>,
}

impl Setup {
    /// With `proxy_keys` in `[proxy]`.
    fn new(pki: &Pki, proxy_keys: &str) -> Self {
        Self::with_config(&pki.config_ini(proxy_keys))
    }

    fn with_config(config_ini: &str) -> Self {
        let exporter = Exporter::start(|conversation| {
            conversation.read_request()?;
            conversation.answer("", Framing::ContentLength, Body::text(100))
        });
        let proxy = Proxy::start(config_ini, &exporter.section("e"));
        let at_rest = proxy.open_fds();
        Self { proxy, exporter, at_rest, refused: Cell::default() }
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

    /// Asserts that the connection ends with `alert` and without a byte of HTTP, that this is
    /// logged once, and that nothing is left of it.
    #[track_caller]
    fn assert_refuses(&self, config: Arc<ClientConfig>, alert: AlertDescription) {
        let asked = self.exporter.connections();
        assert_eq!(refusal(self.address(), config), alert);
        assert_eq!(self.exporter.connections(), asked);
        self.refused.set(self.refused.get() + 1);
        let (seen, refused) = (Cell::new(0), self.refused.get());
        let is_refusal = |line: &str| line.contains("TLS handshake ended");
        self.proxy.wait_for_log(&format!("{refused} refused handshakes"), |record| {
            seen.set(seen.get() + usize::from(is_refusal(&record.to_string())));
            seen.get() == refused
        });
        self.proxy.assert_at_rest(self.at_rest);
        let lines = self.proxy.log_lines();
        let records = lines.iter().filter(|line| is_refusal(line)).count();
        assert_eq!(records, refused, "{lines:#?}");
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
