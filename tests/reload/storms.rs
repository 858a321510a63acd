//! Hundreds of signals during scrapes.

use std::{
    process::Command,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use scrapegate_harness::{
    EndOnDrop,
    pki::Pki,
    proxy::{ANYWHERE, Proxy},
};

use super::{DONE, REFUSED, assert_status, connect, exporter, reload, write};
const SIGNALS: usize = 100;

/// Number of scrapers, each with a connection that it keeps.
const SCRAPERS: usize = 8;

/// The rate over all connections together.
const SCRAPES_A_SECOND: u32 = 500;

/// Number of scrapes for each reload: the rate of scrapes, divided by a hundred reloads a second.
const SCRAPES_A_RELOAD: usize = 5;

/// Without the records of complete scrapes, which would slow down the search for those of the
/// reloads.
fn start(pki: &Pki, section: &str) -> Proxy {
    let mut quiet = Command::new("env");
    quiet.arg("SCRAPEGATE_LOG=warn,scrapegate::cli=info,scrapegate::service::reload=info");
    Proxy::start_through(quiet, &pki.config_ini(""), section, ANYWHERE)
}

/// Sends the signals, each after the previous one had this outcome (one already had), while
/// scrapers scrape and others connect. No scrape or connection may fail.
#[track_caller]
fn assert_undisturbed(pki: &Pki, proxy: &Proxy, outcome: &str) {
    let (over, scrapes) = (AtomicBool::new(false), AtomicUsize::new(0));
    let scrape = || {
        let pause =
            Duration::from_secs(1) * u32::try_from(SCRAPERS).expect("few") / SCRAPES_A_SECOND;
        let mut client = connect(pki, proxy);
        while !over.load(Ordering::Relaxed) {
            let due = Instant::now() + pause;
            assert_status(&mut client, "e", 200);
            scrapes.fetch_add(1, Ordering::Relaxed);
            thread::sleep(due.saturating_duration_since(Instant::now()));
        }
    };
    thread::scope(|scope| {
        let _end = EndOnDrop(&over);
        let scrapers: Vec<_> = (0..SCRAPERS).map(|_| scope.spawn(scrape)).collect();
        for round in 1..=SIGNALS {
            reload(proxy, outcome, round + 1);
            while scrapes.load(Ordering::Relaxed) < SCRAPES_A_RELOAD * round {
                assert!(scrapers.iter().all(|it| !it.is_finished()), "a scraper has failed");
                thread::yield_now();
            }
            if round % 10 == 0 {
                assert_status(&mut connect(pki, proxy), "e", 200);
            }
        }
    });
    let lines = proxy.log_lines();
    let outcomes = lines.iter().filter(|line| line.contains(&format!("\"{outcome}\""))).count();
    assert_eq!(outcomes, SIGNALS + 1, "{lines:#?}");
    let failed = lines.iter().find(|line| line.contains("\"outcome\""));
    assert_eq!(failed, None);
}

/// P04
#[test]
fn a_hundred_reloads_disturb_no_scrape_and_leak_no_descriptor() {
    let pki = Pki::new();
    let one = exporter(100);
    let section = one.section("e") + "max-concurrent = 100\n";
    let proxy = start(&pki, &section);
    assert_status(&mut connect(&pki, &proxy), "e", 200);
    // The first reload starts the thread that reads files.
    reload(&proxy, DONE, 1);
    let fds = proxy.open_fds();
    assert_undisturbed(&pki, &proxy, DONE);
    proxy.assert_at_rest(fds);
}

/// P05
#[test]
fn a_hundred_reloads_of_a_broken_file_change_nothing() {
    let pki = Pki::new();
    let one = exporter(100);
    let section = one.section("e") + "max-concurrent = 100\n";
    let proxy = start(&pki, &section);
    assert_status(&mut connect(&pki, &proxy), "e", 200);
    write(&proxy, "prometheus_exporters.ini", "[e]\nenabled = True\nport = 0\n[half\n");
    reload(&proxy, REFUSED, 1);
    let fds = proxy.open_fds();
    assert_undisturbed(&pki, &proxy, REFUSED);
    proxy.assert_at_rest(fds);
    assert!(!proxy.log_lines().iter().any(|line| line.contains("\"message\":\"reloaded\"")));
}
