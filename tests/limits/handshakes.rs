//! A flood of handshakes that begin correctly and then stop.

use std::{thread, time::Duration};

use scrapegate_harness::{
    flood,
    hello::{AES_128_GCM, ECDHE_ECDSA_AES_128_GCM, TLS_1_2, TLS_1_3, client_hello},
};

use crate::{Setup, assert_scrapes};

const A_SECOND: u32 = 500;
const LASTS: Duration = Duration::from_secs(4);

/// D14
#[test]
fn a_flood_of_handshakes_does_not_lock_out_clients() {
    let setup = Setup::new("");
    let mut client = setup.connect();
    assert_scrapes(&mut client);
    let fds = setup.proxy.open_fds();
    let hellos = [
        client_hello(TLS_1_2, &[ECDHE_ECDSA_AES_128_GCM], None),
        client_hello(TLS_1_3, &[AES_128_GCM], None),
    ];
    let address = setup.proxy.address();
    let (scrapes, sent) = thread::scope(|scope| {
        let flood = scope.spawn(|| flood::of_hellos(address, &hellos, A_SECOND, LASTS));
        let mut scrapes = 0;
        while !flood.is_finished() {
            assert_scrapes(&mut client);
            setup.assert_serves_a_new_client();
            scrapes += 1;
        }
        (scrapes, flood.join().expect("no panic"))
    });
    assert!(sent > 200, "{sent} handshakes in {LASTS:?} are not a flood");
    assert!(scrapes > 10, "only {scrapes} scrapes during {sent} handshakes");
    setup.proxy.assert_at_rest(fds);
    assert_scrapes(&mut client);
}
