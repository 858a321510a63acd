//! Time to the first byte: from sending the request to receiving the first bytes of the response,
//! over loopback with mutual TLS 1.3.
//!
//! `kept alive` sends all requests over one connection, as Prometheus does. `new connection` adds
//! the TCP connect and the handshake, as for a first scrape. `straight` asks the exporter without a
//! proxy and without TLS: the part of the time that does not belong to the proxy.
//!
//! Not shown: slow exporters (this one answers at once), a network, and a busy host. The scraper
//! and the exporter share the machine with the proxy. The proxy intentionally waits for the first
//! bytes of the body before it sends the head; this wait is part of the measurement.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use criterion::{BenchmarkId, Criterion};
use scrapegate_harness::{
    body::Kind,
    loopback,
    message::{Framing, Message},
    pki::{BOTH_VERSIONS, Pki},
};

const SIZES: [(usize, &str); 3] = [(500, "500 B"), (20_000, "20 kB"), (1 << 20, "1 MiB")];

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    let pki = Pki::new();
    let client = pki.client(&BOTH_VERSIONS[..1]);
    let mut group = criterion.benchmark_group("first byte");
    for (size, name) in SIZES {
        let message = Message::new(Kind::Text, Framing::Chunked(4096), size);
        let length = message.length;
        let exporter = loopback::exporter(message, Duration::ZERO);
        let proxy = loopback::Proxy::start(&pki, exporter);

        let mut scraper = loopback::Scraper::connect(proxy.address(), &client);
        group.bench_function(BenchmarkId::new("kept alive", name), |bencher| {
            bencher.iter_custom(|count| (0..count).map(|_| scraper.scrape(length).first_byte).sum())
        });
        drop(scraper);
        group.bench_function(BenchmarkId::new("new connection", name), |bencher| {
            bencher.iter_custom(|count| {
                (0..count)
                    .map(|_| {
                        let begun = Instant::now();
                        let mut scraper = loopback::Scraper::connect(proxy.address(), &client);
                        begun.elapsed() + scraper.scrape(length).first_byte
                    })
                    .sum()
            })
        });
        group.bench_function(BenchmarkId::new("straight", name), |bencher| {
            bencher.iter_custom(|count| (0..count).map(|_| straight(exporter)).sum())
        });
    }
    group.finish();
    criterion.final_summary();
}

/// The time to the first byte from the exporter itself.
fn straight(exporter: SocketAddr) -> Duration {
    let begun = Instant::now();
    let mut stream = TcpStream::connect(exporter).expect("a connection");
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("a request");
    let mut piece = vec![0; 64 * 1024];
    assert!(stream.read(&mut piece).expect("an answer") > 0, "no answer");
    let first_byte = begun.elapsed();
    while stream.read(&mut piece).expect("the rest") > 0 {}
    first_byte
}
