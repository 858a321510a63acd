//! Signals by the hundred while scrapes go on.

use std::{
    cell::Cell,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use super::{DONE, REFUSED, assert_status, connect, exporter, write};
use crate::support::{pki::Pki, proxy::Proxy};

const SIGNALS: usize = 100;

/// Scrapers, each with a connection that it keeps.
const SCRAPERS: usize = 8;

/// Over all connections together.
const SCRAPES_A_SECOND: u32 = 500;

/// Between two signals. One that comes while another waits is the same to the proxy.
const PAUSE: Duration = Duration::from_millis(20);

/// Ends the scrapers, also when the test fails.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Sends the signals while scrapers scrape and others connect; none of them may fail.
#[track_caller]
fn assert_undisturbed(pki: &Pki, proxy: &Proxy) {
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
        for _ in 0..SCRAPERS {
            scope.spawn(scrape);
        }
        let _ends = Ends(&over);
        for number in 0..SIGNALS {
            proxy.signal("HUP");
            thread::sleep(PAUSE);
            if number % 10 == 0 {
                assert_status(&mut connect(pki, proxy), "e", 200);
            }
        }
    });
    let scrapes = scrapes.into_inner();
    assert!(scrapes > 2 * SIGNALS, "only {scrapes} scrapes");
}

/// Waits until this was logged so often.
fn wait_for(proxy: &Proxy, message: &str, count: usize) {
    let seen = Cell::new(0);
    proxy.wait_for_log(&format!("{count} times {message:?}"), |record| {
        seen.set(seen.get() + usize::from(record["fields"]["message"] == message));
        seen.get() == count
    });
}

/// P04
#[test]
fn a_hundred_reloads_disturb_no_scrape_and_leave_nothing_open() {
    let pki = Pki::new();
    let one = exporter(100);
    let section = one.section("e") + "max-concurrent = 100\n";
    let proxy = Proxy::start(&pki.config_ini(""), &section);
    assert_status(&mut connect(&pki, &proxy), "e", 200);
    // The first brings the thread that reads files.
    proxy.signal("HUP");
    wait_for(&proxy, DONE, 1);
    let fds = proxy.open_fds();
    assert_undisturbed(&pki, &proxy);
    wait_for(&proxy, DONE, 10);
    proxy.assert_at_rest(fds);
    let lines = proxy.log_lines();
    let failed =
        lines.iter().find(|line| line.contains("\"outcome\"") && !line.contains("\"complete\""));
    assert_eq!(failed, None);
}

/// P05
#[test]
fn a_hundred_reloads_of_a_broken_file_leave_all_as_it_was() {
    let pki = Pki::new();
    let one = exporter(100);
    let section = one.section("e") + "max-concurrent = 100\n";
    let proxy = Proxy::start(&pki.config_ini(""), &section);
    assert_status(&mut connect(&pki, &proxy), "e", 200);
    write(&proxy, "prometheus_exporters.ini", "[e]\nenabled = True\nport = 0\n[half\n");
    proxy.signal("HUP");
    wait_for(&proxy, REFUSED, 1);
    let fds = proxy.open_fds();
    assert_undisturbed(&pki, &proxy);
    wait_for(&proxy, REFUSED, 10);
    proxy.assert_at_rest(fds);
    assert!(!proxy.log_lines().iter().any(|line| line.contains("\"message\":\"reloaded\"")));
}
