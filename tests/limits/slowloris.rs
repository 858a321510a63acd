//! A thousand authenticated clients that never finish their requests.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::{SLACK, Setup, assert_scrapes, is_open, support::client::Client};

const MANY: usize = 1000;
const HEADER_TIMEOUT: Duration = Duration::from_secs(3);
const REQUEST: &[u8] = b"GET /prometheus?exporter=e HTTP/1.1\r\nHost: h\r\nX: ";

/// Connects them all and lets each send a byte now and then until it is closed, which must be at
/// its own header-timeout.
fn drip_all(setup: &Setup, control: &mut Client) {
    let mut slow: Vec<(Client, Instant)> = Vec::new();
    while slow.len() < MANY {
        // Its clock starts between these two.
        let begun = Instant::now();
        slow.push((setup.connect(), begun));
    }
    for byte in REQUEST.iter().cycle() {
        slow.retain_mut(|(client, begun)| {
            let open = is_open(client.socket()) && client.send([*byte]).is_ok();
            let age = begun.elapsed();
            assert!(open || age >= HEADER_TIMEOUT, "over after {age:?}");
            open
        });
        assert_scrapes(control);
        let Some((_, oldest)) = slow.first() else { return };
        let age = oldest.elapsed();
        assert!(age < HEADER_TIMEOUT + SLACK, "{} go on, one for {age:?}", slow.len());
        thread::sleep(Duration::from_millis(100));
    }
}

/// H01: who asks in earnest is served meanwhile, and nothing is left over.
#[test]
fn a_thousand_requests_in_drops_end_at_their_timeout_and_keep_nobody_waiting() {
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
    // The allocator keeps about 20 KiB of each for the next ones: what counts is that the next
    // ones find it.
    drip_all(&setup, &mut control);
    let rss = at_rest();
    drip_all(&setup, &mut control);
    let grown = at_rest().saturating_sub(rss);
    assert!(grown < 8 * 1024, "the memory grew by {grown} KiB");
}
