//! Parsers: both INI files, the target of a request, the header with Prometheus' timeout, and the
//! filter for an exporter's headers.
//!
//! The INI files are read from the page cache and checked completely. Certificates and other files
//! that they name are not opened. Parsing heads is part of `relay`.
//!
//! Not shown: files with mistakes, and building the server from the configuration. A loop over one
//! input is favorable for branch prediction and caches. These parsers run once for each start (INI)
//! or once for each scrape (all others). They are small compared to the relay, and this bench shows
//! whether they stay small.

use std::{hint::black_box, time::Duration};

use criterion::{Criterion, Throughput};
use hyper::header::HeaderValue;
use scrapegate_harness::inputs::{
    Files, LONG_TARGET, TARGET, deadline, find_exporter, find_route, request, rewrite,
    upstream_head,
};
use tokio::time::Instant;

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();

    let mut group = criterion.benchmark_group("INI files");
    for (name, exporters) in
        [("config.ini and one exporter", 1), ("config.ini and 1000 exporters", 1000)]
    {
        let files = Files::with_exporters(exporters);
        group.throughput(Throughput::Bytes(files.bytes()));
        group.bench_function(name, |bencher| bencher.iter(|| files.load()));
    }
    group.finish();

    let mut group = criterion.benchmark_group("request");
    for (name, target) in [("route, usual target", TARGET), ("route, long query", LONG_TARGET)] {
        let head = request(target);
        group.throughput(Throughput::Bytes(target.len() as u64));
        group.bench_function(name, |bencher| bencher.iter(|| find_route(black_box(&head))));
    }
    let uri = request(LONG_TARGET).uri;
    group.throughput(Throughput::Bytes(LONG_TARGET.len() as u64));
    group.bench_function("query alone, long", |bencher| {
        bencher.iter(|| find_exporter(black_box(&uri)));
    });
    let (arrival, header) = (Instant::now(), HeaderValue::from_static("10.000000"));
    group.throughput(Throughput::Bytes(header.len() as u64));
    group.bench_function("X-Prometheus-Scrape-Timeout-Seconds", |bencher| {
        bencher.iter(|| deadline(arrival, black_box(&header)));
    });
    group.finish();

    let head = upstream_head();
    let bytes: usize =
        head.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    let mut group = criterion.benchmark_group("response");
    group.throughput(Throughput::Bytes(bytes as u64));
    group.bench_function("header rewrite", |bencher| bencher.iter(|| rewrite(black_box(&head))));
    group.finish();
    criterion.final_summary();
}
