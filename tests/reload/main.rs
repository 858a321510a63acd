//! A reload reads all files again, on request or after a change, and applies them completely or not
//! at all.

mod addresses;
mod clients;
mod files;
mod http;
mod load;
mod storms;
mod watching;

use std::{fs, path::Path};

use scrapegate_harness::{
    body::Body,
    client::Client,
    exporter::{Exporter, Framing, Gate},
    pki::{BOTH_VERSIONS, Pki},
    proxy::Proxy,
};

/// An exporter with `bytes` of metrics, by which tests distinguish it from others.
fn exporter(bytes: u64) -> Exporter {
    Exporter::start(move |conversation| {
        conversation.read_request()?;
        conversation.answer("", Framing::ContentLength, Body::text(bytes))
    })
}

/// An exporter that stops in the middle of its body until the gate opens.
fn halting() -> (Exporter, Gate) {
    let gate = Gate::default();
    let opened = gate.clone();
    let exporter = Exporter::start(move |conversation| {
        conversation.read_request()?;
        conversation.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\na ")?;
        opened.wait();
        conversation.send("1\n")
    });
    (exporter, gate)
}

fn write(proxy: &Proxy, file: &str, text: &str) {
    fs::write(proxy.folder().join(file), text).expect("written");
}

/// Replaces a file atomically, so that no partial file can be read.
fn replace(path: &Path, text: &str) {
    let next = path.with_extension("next");
    fs::write(&next, text).expect("written");
    fs::rename(next, path).expect("renamed");
}

/// Sends the signal and waits for this outcome of a reload, for the `count`th time.
fn reload(proxy: &Proxy, outcome: &str, count: usize) {
    proxy.signal("HUP");
    wait_for(proxy, outcome, count);
}

/// Waits for this outcome of a reload, for the `count`th time.
fn wait_for(proxy: &Proxy, outcome: &str, count: usize) {
    let mut left = count;
    proxy.wait_for_log(outcome, |record| {
        left -= usize::from(record["fields"]["message"] == outcome);
        left == 0
    });
}

const EXPORTERS: &str = "prometheus_exporters.ini";
const DONE: &str = "reloaded";
const REFUSED: &str = "reload failed; keeping the current configuration";

fn connect(pki: &Pki, proxy: &Proxy) -> Client {
    Client::connect(proxy.address(), pki.client(BOTH_VERSIONS)).expect("a handshake")
}

#[track_caller]
fn assert_status(client: &mut Client, exporter: &str, status: u16) {
    let response = client.get(&format!("/prometheus?exporter={exporter}"));
    assert_eq!(response.head.status, status, "{exporter}: {response:?}");
    assert!(response.body.is_complete(), "{response:?}");
}
