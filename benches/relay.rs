//! A body on its way through the proxy: each framing that exporters use, text and compressed, small
//! to large.
//!
//! `memory` runs everything from the first byte of the request to the last byte of the response on
//! one thread, over plain HTTP between streams in memory. It shows the cost of the proxy's own code
//! (parsing, coalescing, integrity checks) and of hyper's framing. `loopback` is the whole server
//! on real sockets with mutual TLS 1.3 and kept connections.
//!
//! Not shown: `memory` has no system calls, no encryption and no waiting, and the exporter's bytes
//! are always in the CPU cache. `loopback` times three programs on one machine: the exporter, the
//! proxy, and a scraper that decrypts. With few cores they take turns. The result is the duration
//! of a scrape, not its cost for the proxy. Many concurrent scrapes, a slow network and a slow
//! scraper are not covered. Wall-clock times of a shared machine vary by tens of percent; `gates`
//! counts what must not change.

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput};
use scrapegate::common::compression::ContentCoding;
use scrapegate_harness::{
    body::Kind,
    in_memory::{
        counted::Pace,
        rig::{FILTERED, Rig},
    },
    loopback,
    message::{Framing, Message},
    pki::{BOTH_VERSIONS, Pki},
};

const KINDS: [(Kind, &str); 2] = [(Kind::Text, "text"), (Kind::Opaque, "gzip")];
const FRAMINGS: [Framing; 4] =
    [Framing::Chunked(4096), Framing::Chunked(2048), Framing::Length, Framing::UntilClose];
const SIZES: [(usize, &str); 3] = [(20_000, "20 kB"), (1 << 20, "1 MiB"), (10 << 20, "10 MiB")];

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(2))
        .sample_size(20)
        .configure_from_args();
    over_memory(&mut criterion);
    compressed(&mut criterion);
    filtered(&mut criterion);
    over_loopback(&mut criterion);
    criterion.final_summary();
}

/// Each message with its name. The throughput is computed from the length of its body.
fn messages() -> impl Iterator<Item = (BenchmarkId, Message)> {
    KINDS.into_iter().flat_map(|(kind, kind_name)| {
        FRAMINGS.into_iter().flat_map(move |framing| {
            SIZES.into_iter().map(move |(size, size_name)| {
                let name = format!("{kind_name}, {}", framing.label());
                (BenchmarkId::new(name, size_name), Message::new(kind, framing, size))
            })
        })
    })
}

fn over_memory(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("relay, memory");
    for (id, message) in messages() {
        group.throughput(Throughput::Bytes(message.length as u64));
        let rig = Rig::new(message, Pace::AtOnce);
        group.bench_function(id, |bencher| bencher.iter(|| rig.scrape()));
    }
}

/// Text that the proxy compresses. The throughput is that of the exporter's bytes.
fn compressed(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("relay, memory, compressed");
    for coding in [ContentCoding::Zstd, ContentCoding::Gzip] {
        for (size, size_name) in SIZES {
            let message = Message::to_compress(Framing::Chunked(4096), size);
            group.throughput(Throughput::Bytes(message.length as u64));
            let rig = Rig::compressing(coding, message, Pace::AtOnce);
            let id = BenchmarkId::new(coding.name(), size_name);
            group.bench_function(id, |bencher| bencher.iter(|| rig.scrape()));
        }
    }
}

/// Families that the proxy filters. The throughput is that of the exporter's bytes.
fn filtered(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("relay, memory, filtered");
    for filter in FILTERED {
        for (size, size_name) in SIZES {
            group.throughput(Throughput::Bytes(size as u64));
            let rig = Rig::filtered(filter, size, Pace::AtOnce);
            let id = BenchmarkId::new(filter.0, size_name);
            group.bench_function(id, |bencher| bencher.iter(|| rig.scrape()));
        }
    }
}

fn over_loopback(criterion: &mut Criterion) {
    let pki = Pki::new();
    let client = pki.client(&BOTH_VERSIONS[..1]);
    let mut group = criterion.benchmark_group("relay, loopback, TLS 1.3");
    for (id, message) in messages() {
        let length = message.length;
        group.throughput(Throughput::Bytes(length as u64));
        let proxy = loopback::Proxy::start(&pki, loopback::exporter(message, Duration::ZERO));
        let mut scraper = loopback::Scraper::connect(proxy.address(), &client);
        group.bench_function(id, |bencher| bencher.iter(|| scraper.scrape(length)));
    }
}
