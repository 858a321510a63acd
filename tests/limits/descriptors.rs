//! Out of file descriptors: neither spin nor exit.

use std::{
    net::TcpStream,
    time::{Duration, Instant},
};

use crate::{Setup, assert_scrapes};

/// Starts a command with few descriptors. Not by `exec`: the harness looks for a child.
const FEW: &[&str] = &["sh", "-c", r#"ulimit -n 40; "$@"; exit $?"#, "sh"];

/// More connections than there are descriptors for.
fn exhaust(setup: &Setup) -> Vec<TcpStream> {
    let silent = (0..60).map(|_| setup.connect_silently()).collect();
    setup.proxy.wait_for_log("a record that it cannot accept", |record| {
        record["fields"]["message"] == "cannot accept"
    });
    silent
}

#[test]
fn without_descriptors_it_waits_at_rest_and_goes_on_by_itself() {
    let setup = Setup::beneath(FEW, "handshake-timeout = 60\n");
    let silent = exhaust(&setup);
    let (before, begun) = (setup.proxy.cpu_time(), Instant::now());
    std::thread::sleep(Duration::from_secs(2));
    let (used, watched) = (setup.proxy.cpu_time() - before, begun.elapsed());
    // 5 %, and what the rounding of the kernel adds.
    assert!(used <= watched / 20 + Duration::from_millis(20), "{used:?} of CPU in {watched:?}");
    let complaints =
        setup.proxy.log_lines().iter().filter(|line| line.contains("cannot accept")).count();
    assert!(complaints <= 20, "{complaints} records");
    drop(silent);
    setup.assert_serves_a_new_client();
}

#[test]
fn silent_connections_that_took_all_descriptors_are_over_at_their_timeout() {
    let setup = Setup::beneath(FEW, "handshake-timeout = 0.5\n");
    let _silent = exhaust(&setup);
    // The client waits in the backlog until there is a descriptor for it.
    setup.assert_serves_a_new_client();
}

#[test]
#[ignore = "no descriptor is kept for exporters yet: the scrape is answered 502 (CASES D11, P14)"]
fn without_descriptors_who_is_in_is_still_served() {
    let setup = Setup::beneath(FEW, "handshake-timeout = 60\n");
    let mut client = setup.connect();
    assert_scrapes(&mut client);
    let _silent = exhaust(&setup);
    assert_scrapes(&mut client);
}
