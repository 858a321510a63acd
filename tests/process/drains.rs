//! `SIGTERM` during many scrapes: each scrape that has begun is finished.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use rustls::ClientConfig;
use scrapegate_harness::{
    body::Body,
    client::{Client, Cut},
    exporter::{Exporter, Framing},
    pki::{BOTH_VERSIONS, Pki},
    proxy::Proxy,
};

const SCRAPERS: usize = 8;
const BODY: u64 = 200_000;

/// Scrapes until the proxy accepts no more connections. A response that began with a head must end
/// complete.
fn scrape(address: SocketAddr, config: &Arc<ClientConfig>, whole: &AtomicUsize) {
    // The connection is refused, or was in the handshake when the drain began. Neither is a scrape.
    while let Ok(mut client) = Client::connect(address, Arc::clone(config)) {
        for number in 0..20 {
            let framing = if number % 2 == 0 { "chunked" } else { "length" };
            if client.send_get(&format!("/prometheus?exporter=e&{framing}")).is_err() {
                break;
            }
            match client.read_head() {
                Ok(head) if head.status == 200 => {
                    let body = client.read_body(&head);
                    assert!(body.is_complete(), "{body:?}");
                    assert_eq!(body.bytes, BODY);
                    whole.fetch_add(1, Ordering::Relaxed);
                }
                Ok(head) => {
                    assert_eq!((head.status, head.reason.as_str()), (503, "shutting down"));
                    assert!(client.read_body(&head).is_complete());
                    break;
                }
                // The connection was idle when the drain began.
                Err(error) => {
                    assert!(!matches!(Cut::from(error), Cut::BadFraming(_)));
                    break;
                }
            }
        }
    }
}

/// Starts and ends a proxy this many times during scrapes. Asserts that no scrape is truncated.
fn drain_under_load(times: usize) {
    let pki = Pki::new();
    let exporter = Exporter::start(|conversation| {
        let framing = match conversation.read_request()?.contains("chunked") {
            true => Framing::Chunked(1000),
            false => Framing::ContentLength,
        };
        conversation.answer("", framing, Body::text(BODY))
    });
    let section = exporter.section("e") + "max-concurrent = 100\ntimeout = 15\n";
    let config = pki.client(BOTH_VERSIONS);
    for _ in 0..times {
        let mut proxy = Proxy::start(&pki.config_ini(""), &section);
        let (whole, address) = (AtomicUsize::new(0), proxy.address());
        thread::scope(|scope| {
            let scrapers: Vec<_> =
                (0..SCRAPERS).map(|_| scope.spawn(|| scrape(address, &config, &whole))).collect();
            while whole.load(Ordering::Relaxed) < 2 * SCRAPERS {
                assert!(scrapers.iter().all(|it| !it.is_finished()), "a scraper has failed");
                thread::yield_now();
            }
            proxy.signal("TERM");
            assert_eq!(proxy.wait_exit().code(), Some(0));
        });
        let aborted: Vec<_> = proxy
            .log_lines()
            .into_iter()
            .filter(|line| line.contains("\"message\":\"scrape\"") && line.contains("\"WARN\""))
            .collect();
        assert!(aborted.iter().all(|line| line.contains("\"draining\"")), "{aborted:#?}");
    }
}

#[test]
fn no_scrape_is_truncated_by_drains_under_load() {
    drain_under_load(3);
}

#[test]
#[ignore = "takes a minute: the same with the number that docs/guide/reload.md gives"]
fn no_scrape_is_truncated_by_50_drains_under_load() {
    drain_under_load(50);
}
