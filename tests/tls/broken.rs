//! A client that breaks TLS after its handshake.

use std::{io::Write, sync::Arc};

use rustls::{AlertDescription, ClientConfig, version::TLS13};
use scrapegate_harness::{
    client::{Client, Cut, alert_in},
    metrics::assert_moves,
    pki::{BOTH_VERSIONS, Pki},
};

use crate::Setup;

/// The number of consecutive key updates that the proxy accepts.
const CHANGES: usize = 32;

/// A connection that has received a response. Before that, the proxy may still be in the handshake.
#[track_caller]
fn connect(setup: &Setup, config: Arc<ClientConfig>) -> Client {
    let mut client = Client::connect(setup.address(), config).expect("a handshake");
    assert_eq!(client.get("/-/healthy").head.status, 200);
    client
}

#[test]
fn an_invalid_record_closes_the_connection_with_an_alert() {
    let pki = Pki::new();
    let setup = Setup::new(&pki, "");
    let forged = [&[23, 3, 3, 0, 100][..], &[7; 100]].concat();
    let cases = [
        (&forged[..], "cannot decrypt peer's message", AlertDescription::BadRecordMac),
        (b"GET / HTTP/1.1\r\n\r\n", "received corrupt message", AlertDescription::DecodeError),
    ];
    for &version in BOTH_VERSIONS {
        for (bytes, reason, alert) in &cases {
            for begun in ["", "GET /prom"] {
                setup.assert_breaks(reason, || {
                    let mut client = connect(&setup, pki.client(&[version]));
                    client.send(begun).expect("sent");
                    client.socket().write_all(bytes).expect("sent");
                    let ended = client.read_head().expect_err("no answer");
                    assert_eq!(alert_in(&ended), Some(*alert), "{version:?}: {ended}");
                });
            }
        }
    }
    setup.assert_accepts(pki.client(BOTH_VERSIONS));
}

#[test]
fn only_a_limited_number_of_key_updates_is_accepted() {
    let pki = Pki::new();
    let setup = Setup::new(&pki, "");
    let mut client = connect(&setup, pki.client(&[&TLS13]));
    for _ in 0..3 {
        // Waits until the scrape is counted, so that it is not taken for an event of those below.
        let series = "scrapegate_scrapes_total{exporter=\"e\",outcome=\"complete\"}";
        let scrape = || {
            client.change_keys(CHANGES).expect("sent");
            assert_eq!(client.get("/prometheus?exporter=e").head.status, 200);
        };
        assert_moves(series, || setup.samples(), scrape);
    }
    drop(client);
    let before = setup.proxy.cpu_time();
    for times in [CHANGES + 1, 1000] {
        setup.assert_breaks("peer misbehaved: TooManyKeyUpdateRequests", || {
            let mut client = connect(&setup, pki.client(&[&TLS13]));
            // The proxy may close before everything is sent.
            let _ = client.change_keys(times);
            // rustls has no alert for this case, and sends nothing.
            assert_ne!(client.read_to_end(), (Vec::new(), Cut::CloseNotify));
        });
    }
    let used = setup.proxy.cpu_time() - before;
    assert!(used.as_millis() < 500, "{used:?} for useless records");
    setup.assert_accepts(pki.client(BOTH_VERSIONS));
}
