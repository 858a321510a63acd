//! The proxy's own pages, for clients that send requests and do not read.

use std::{fmt::Write, net::Ipv4Addr};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use scrapegate_harness::{
    client::{Client, connect_from},
    pki::{BOTH_VERSIONS, Pki},
    proxy::Proxy,
};

const EXPORTERS: usize = 200;
const CLIENTS: usize = 1000;
/// Number of addresses. Each may have 512 connections.
const ADDRESSES: usize = 3;

/// Limit for the additional memory of their responses, in KiB.
const MOST_KIB: u64 = 64 * 1024;

#[test]
fn f23_a_thousand_clients_that_do_not_read_pages_cost_bounded_memory() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("raised");
    let mut exporters = String::new();
    for number in 0..EXPORTERS {
        write!(
            exporters,
            "[exporter_{number}]\nenabled = True\nport = {}\npath = /metrics\n",
            number + 1
        )
        .expect("into memory");
    }
    let pki = Pki::new();
    let keys = "header-timeout = 60\nidle-timeout = 120\nstall-timeout = 600\n";
    let proxy = Proxy::start(&pki.config_ini(keys), &exporters);
    let connect = |number: usize| {
        let last = u8::try_from(2 + number % ADDRESSES).expect("few");
        let stream = connect_from(Ipv4Addr::new(127, 0, 0, last), proxy.address());
        Client::over(stream.expect("connected"), pki.client(BOTH_VERSIONS)).expect("a handshake")
    };
    let mut clients: Vec<_> = (0..CLIENTS).map(connect).collect();
    // All connections are idle, and one page has been made.
    for client in &mut clients {
        assert_eq!(client.get("/-/healthy").head.status, 200);
    }
    let page = clients[0].get("/metrics").body.bytes;
    assert!(
        page * CLIENTS as u64 > 4 * MOST_KIB * 1024,
        "a page of {page} bytes is too small for this test"
    );
    let before = proxy.rss_kib();
    let targets = ["/metrics", "/", "/metrics", "/prometheus/sd", "/prometheus"];
    for (client, target) in clients.iter_mut().zip(targets.into_iter().cycle()) {
        client.send_get(target).expect("sent");
    }
    for client in &clients {
        client.wait_until_read();
    }
    // A client of another address is answered meanwhile.
    let response = Client::connect(proxy.address(), pki.client(BOTH_VERSIONS))
        .expect("a handshake")
        .get("/metrics");
    assert!(response.head.status == 200 && response.body.is_complete(), "{response:?}");
    let more = proxy.rss_kib().saturating_sub(before);
    assert!(more <= MOST_KIB, "{more} KiB more, {page} bytes a page");
    let mut refused = 0;
    for mut client in clients {
        let response = client.read_response().expect("an answer");
        if response.head.status == 503 {
            assert_eq!(response.head.reason, "too many answers wait to be read");
            assert_eq!(response.head.header("retry-after"), Some("1"));
            refused += 1;
        } else {
            assert_eq!(response.head.status, 200, "{response:?}");
        }
    }
    assert!(refused > 0, "all were answered");
    // The memory of their responses is available again.
    let response = connect(0).get("/metrics");
    assert_eq!(response.head.status, 200);
}
