//! Limits on what a client can take up: time, connections, file descriptors, memory.
//!
//! The timeouts are short here, to keep the tests fast. Lower bounds are exact: no timeout may
//! expire early. Upper bounds leave room for a busy machine.

mod answers;
mod clocks;
mod connections;
mod descriptors;
mod floods;
mod handshakes;
mod neighbours;
mod passwords;

use std::{
    io::{self, Read},
    net::TcpStream,
    time::{Duration, Instant},
};

use scrapegate_harness::{
    PATIENCE,
    body::Body,
    client::Client,
    exporter::{Exporter, Framing},
    pki::{BOTH_VERSIONS, Pki},
    proxy::Proxy,
};

/// How much later than its timeout a connection may end on a busy machine.
const SLACK: Duration = Duration::from_secs(2);

/// A proxy with one exporter, `e`, which answers with a hundred bytes.
struct Setup {
    pki: Pki,
    proxy: Proxy,
    _exporter: Exporter,
}

impl Setup {
    /// With `proxy_keys` in `[proxy]`.
    fn new(proxy_keys: &str) -> Self {
        Self::beneath(&[], proxy_keys)
    }

    /// With an RSA-4096 server key, which makes handshakes as expensive as possible.
    fn with_rsa_4096(proxy_keys: &str) -> Self {
        let pki = Pki::new();
        pki.replace_server_by_rsa_4096();
        let config = pki.config_ini(proxy_keys);
        Self::start(pki, &[], &config)
    }

    /// With a user and a password.
    fn with_auth(auth: &str) -> Self {
        let pki = Pki::new();
        let config =
            pki.config_ini("").replacen("[default]\n", &format!("[default]\nauth = {auth}\n"), 1);
        Self::start(pki, &[], &config)
    }

    fn beneath(wrapper: &[&str], proxy_keys: &str) -> Self {
        let pki = Pki::new();
        let config = pki.config_ini(proxy_keys);
        Self::start(pki, wrapper, &config)
    }

    fn start(pki: Pki, wrapper: &[&str], config: &str) -> Self {
        let exporter = Exporter::start(|conversation| {
            conversation.read_request()?;
            conversation.answer("", Framing::ContentLength, Body::text(100))
        });
        let wrapper: Vec<_> = wrapper.iter().map(Into::into).collect();
        let proxy = Proxy::start_beneath(&wrapper, config, &exporter.section("e"));
        Self { pki, proxy, _exporter: exporter }
    }

    /// A connection after a successful handshake.
    #[track_caller]
    fn connect(&self) -> Client {
        Client::connect(self.proxy.address(), self.pki.client(BOTH_VERSIONS)).expect("a handshake")
    }

    /// A connection that sends nothing.
    #[track_caller]
    fn connect_silently(&self) -> TcpStream {
        let stream = TcpStream::connect(self.proxy.address()).expect("connected");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream
    }

    #[track_caller]
    fn assert_serves_a_new_client(&self) {
        assert_scrapes(&mut self.connect());
    }
}

#[track_caller]
fn assert_scrapes(client: &mut Client) {
    let response = client.get("/prometheus?exporter=e");
    assert_eq!((response.head.status, response.body.bytes), (200, 100), "{response:?}");
    assert!(response.body.is_complete(), "{response:?}");
}

/// Waits until the proxy ends a connection. Returns the bytes that it sent before, and when the
/// connection ended.
#[track_caller]
fn wait_for_end(stream: &mut TcpStream) -> (Vec<u8>, Instant) {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
        Err(error) => panic!("the connection is still open: {error}"),
    }
    (bytes, Instant::now())
}

/// Prints a measurement. `cargo test --test limits -- --show-output` shows it.
#[expect(clippy::print_stdout, reason = "the output of a test is its report")]
fn report(measured: &str) {
    println!("{measured}");
}

/// Whether a connection is still open, as far as this is known without waiting.
fn is_open(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).expect("set");
    let peeked = stream.peek(&mut [0]);
    stream.set_nonblocking(false).expect("set back");
    matches!(peeked, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}

/// Asserts that something lasted at least as long as its timeout, and hardly longer.
#[track_caller]
fn assert_lasted(lasted: Duration, clock: Duration) {
    assert!(lasted >= clock && lasted < clock + SLACK, "{lasted:?} instead of {clock:?}");
}
