//! `SIGHUP`: all files are read again, and taken over wholly or not at all.

mod clients;
mod files;
mod storms;

#[path = "../tls/forge.rs"]
#[expect(dead_code, reason = "shared with the TLS tests, which need more of it")]
mod forge;

#[path = "../support/mod.rs"]
mod support;

use std::fs;

use support::{
    body::Body,
    client::Client,
    exporter::{Exporter, Framing},
    pki::{BOTH_VERSIONS, Pki},
    proxy::Proxy,
};

/// An exporter whose metrics tell it from others.
fn exporter(bytes: u64) -> Exporter {
    Exporter::start(move |conversation| {
        conversation.read_request()?;
        conversation.answer("", Framing::ContentLength, Body::text(bytes))
    })
}

fn write(proxy: &Proxy, file: &str, text: &str) {
    fs::write(proxy.folder().join(file), text).expect("written");
}

/// Sends the signal and waits for what comes of it, the `count`th of its kind.
fn reload(proxy: &Proxy, outcome: &str, count: usize) {
    proxy.signal("HUP");
    let mut left = count;
    proxy.wait_for_log(outcome, |record| {
        left -= usize::from(record["fields"]["message"] == outcome);
        left == 0
    });
}

const DONE: &str = "reloaded";
const REFUSED: &str = "reload refused, the configuration in use stays";

fn connect(pki: &Pki, proxy: &Proxy) -> Client {
    Client::connect(proxy.address(), pki.client(BOTH_VERSIONS)).expect("a handshake")
}

#[track_caller]
fn assert_status(client: &mut Client, exporter: &str, status: u16) {
    let response = client.get(&format!("/prometheus?exporter={exporter}"));
    assert_eq!(response.head.status, status, "{exporter}: {response:?}");
    assert!(response.body.is_complete(), "{response:?}");
}
