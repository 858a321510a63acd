//! A thousand authenticated clients that never complete their requests.

use std::{
    thread,
    time::{Duration, Instant},
};

use scrapegate_harness::client::Client;

use crate::{SLACK, Setup, assert_scrapes, is_open};

const MANY: usize = 1000;
const HEADER_TIMEOUT: Duration = Duration::from_secs(3);
const REQUEST: &[u8] = b"GET /prometheus?exporter=e HTTP/1.1\r\nHost: h\r\nX: ";

/// Connects all clients, and sends a byte of each request every 100 ms until the proxy closes the
/// connection. Asserts that it does so at `header-timeout`.
fn send_slowly(setup: &Setup, control: &mut Client) {
    let mut slow: Vec<(Client, Instant)> = Vec::new();
    while slow.len() < MANY {
        // The timeout of this connection starts between these two lines.
        let begun = Instant::now();
        slow.push((setup.connect(), begun));
    }
    for byte in REQUEST.iter().cycle() {
        slow.retain_mut(|(client, begun)| {
            let open = is_open(client.socket()) && client.send([*byte]).is_ok();
            let age = begun.elapsed();
            assert!(open || age >= HEADER_TIMEOUT, "closed after {age:?}");
            open
        });
        assert_scrapes(control);
        let Some((_, oldest)) = slow.first() else { return };
        let age = oldest.elapsed();
        assert!(age < HEADER_TIMEOUT + SLACK, "{} connections are still open, one for {age:?}", slow.len());
        thread::sleep(Duration::from_millis(100));
    }
}

/// H01: meanwhile other clients are served, and afterwards no memory or descriptor is left in use.
#[test]
fn a_thousand_slow_requests_end_at_header_timeout_and_delay_no_other_client() {
    let setup = Setup::new("header-timeout = 3\nmax-connections-per-ip = 2000\n");
    let mut control = setup.connect();
    assert_scrapes(&mut control);
    let descriptors = setup.proxy.open_fds();
    let at_rest = || {
        let limit = Instant::now() + Duration::from_secs(5);
        while setup.proxy.open_fds() > descriptors {
            assert!(Instant::now() < limit, "{} descriptors are open", setup.proxy.open_fds());
            thread::yield_now();
        }
        setup.proxy.rss_kib()
    };
    // The allocator keeps about 20 KiB for each closed connection. The test therefore checks that
    // the next connections reuse this memory.
    send_slowly(&setup, &mut control);
    let rss = at_rest();
    send_slowly(&setup, &mut control);
    let grown = at_rest().saturating_sub(rss);
    assert!(grown < 8 * 1024, "the memory grew by {grown} KiB");
}
