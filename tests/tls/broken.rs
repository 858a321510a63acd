//! A client that breaks TLS once its handshake is over.

use std::{io::Write, sync::Arc};

use rustls::{AlertDescription, ClientConfig, version::TLS13};

use crate::{
    Setup,
    support::{
        client::{Client, Cut, alert_in},
        pki::{BOTH_VERSIONS, Pki},
    },
};

/// Changes of keys in a row that are borne.
const CHANGES: usize = 32;

/// A connection over which something was answered: before, the proxy may be in the handshake still.
#[track_caller]
fn connect(setup: &Setup, config: Arc<ClientConfig>) -> Client {
    let mut client = Client::connect(setup.address(), config).expect("a handshake");
    assert_eq!(client.get("/-/healthy").head.status, 200);
    client
}

#[test]
fn a_record_that_is_none_ends_the_connection_with_its_alert() {
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
    setup.assert_lets_in(pki.client(BOTH_VERSIONS));
}

#[test]
fn keys_are_changed_as_often_as_is_useful_and_no_more() {
    let pki = Pki::new();
    let setup = Setup::new(&pki, "");
    let mut client = connect(&setup, pki.client(&[&TLS13]));
    for _ in 0..3 {
        client.change_keys(CHANGES).expect("sent");
        assert_eq!(client.get("/prometheus?exporter=e").head.status, 200);
    }
    drop(client);
    let before = setup.proxy.cpu_time();
    for times in [CHANGES + 1, 1000] {
        setup.assert_breaks("peer misbehaved: TooManyKeyUpdateRequests", || {
            let mut client = connect(&setup, pki.client(&[&TLS13]));
            // The proxy may have closed before all is sent.
            let _ = client.change_keys(times);
            // rustls has no alert for it, and says no more.
            assert_ne!(client.read_to_end(), (Vec::new(), Cut::CloseNotify));
        });
    }
    let used = setup.proxy.cpu_time() - before;
    assert!(used.as_millis() < 500, "{used:?} for records that lead to nothing");
    setup.assert_lets_in(pki.client(BOTH_VERSIONS));
}
