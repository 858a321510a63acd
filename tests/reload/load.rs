//! Many reloads during many scrapes.

use std::{
    process::Command,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
};

use scrapegate_harness::{
    EndOnDrop,
    body::Body,
    exporter::{Exporter, Framing},
    pki::Pki,
    proxy::{ANYWHERE, Proxy},
};

use super::{DONE, EXPORTERS, connect, replace, wait_for};
const SCRAPERS: usize = 8;

/// Number of scrapes over one connection. A limit keeps new connections coming.
const SCRAPES_PER_CONNECTION: usize = 20;

/// Scrapes from [`SCRAPERS`] threads until this many scrapes and this many reloads are done. Every
/// other reload is requested by signal; the rest only change the files. Asserts that each scrape is
/// complete.
fn scrape_across_reloads(scrapes: usize, reloads: usize) -> usize {
    let pki = Pki::new();
    let exporter = Exporter::start(|conversation| {
        let framing = match conversation.read_request()?.contains("chunked") {
            true => Framing::Chunked(1000),
            false => Framing::ContentLength,
        };
        conversation.answer("", framing, Body::text(20_000))
    });
    let section = |round: usize| {
        let limit = "max-concurrent = 100\ntimeout = 15\n";
        format!("{}{limit}{}", exporter.section("e"), exporter.section(&format!("other-{round}")))
    };
    // Without the records of scrapes, which would slow down the search for those of the reloads.
    let mut quiet = Command::new("env");
    quiet.arg("SCRAPEGATE_LOG=warn,scrapegate::cli=info,scrapegate::service::reload=info");
    let config = pki.config_ini("reload-interval = 0.05\n");
    let proxy = Proxy::start_through(quiet, &config, &section(0), ANYWHERE);
    let (done, enough) = (AtomicUsize::new(0), AtomicBool::new(false));
    let scraper = || {
        while !enough.load(Ordering::Relaxed) {
            let mut client = connect(&pki, &proxy);
            for number in 0..SCRAPES_PER_CONNECTION {
                let framing = if number % 2 == 0 { "chunked" } else { "length" };
                let response = client.get(&format!("/prometheus?exporter=e&{framing}"));
                assert_eq!(response.head.status, 200, "{response:?}");
                assert!(response.body.is_complete(), "{response:?}");
                assert_eq!(response.body.bytes, 20_000);
                done.fetch_add(1, Ordering::Relaxed);
            }
        }
    };
    let (at_first, at_last) = thread::scope(|scope| {
        let _end = EndOnDrop(&enough);
        let scrapers: Vec<_> = (0..SCRAPERS).map(|_| scope.spawn(scraper)).collect();
        let exporters = proxy.folder().join(EXPORTERS);
        let mut at_first = 0;
        for round in 1..=reloads {
            replace(&exporters, &section(round));
            if round % 2 == 0 {
                proxy.signal("HUP");
            }
            wait_for(&proxy, DONE, round);
            while done.load(Ordering::Relaxed) < scrapes * round / reloads {
                assert!(scrapers.iter().all(|it| !it.is_finished()), "a scraper has failed");
                thread::yield_now();
            }
            if round == 1 {
                at_first = proxy.open_fds();
            }
        }
        (at_first, proxy.open_fds())
    });
    assert!(at_last <= at_first + 4 * SCRAPERS, "descriptors: {at_first}, then {at_last}");
    done.load(Ordering::Relaxed)
}

#[test]
fn no_scrape_fails_across_reloads() {
    assert!(scrape_across_reloads(1000, 20) >= 1000);
}

#[test]
#[ignore = "takes minutes: the same with the numbers that docs/guide/reload.md gives"]
fn no_scrape_of_100_000_fails_across_200_reloads() {
    assert!(scrape_across_reloads(100_000, 200) >= 100_000);
}
