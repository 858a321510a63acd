//! What one address does is no other's trouble: floods from one address, and the fresh scrapes of
//! another with a round trip of 50 ms, in both versions of TLS.

use std::{net::Ipv4Addr, sync::atomic::AtomicBool, thread, time::Duration};

use crate::{
    Setup,
    support::{
        EndOnDrop,
        client::Client,
        flood,
        hello::{AES_128_GCM, ECDHE_RSA_AES_128_GCM, TLS_1_2, TLS_1_3, client_hello},
        link::Link,
        pki::BOTH_VERSIONS,
    },
};

const ROUND_TRIP: Duration = Duration::from_millis(50);

/// The flood comes from 127.0.0.1 or 127.0.0.2.
const NEIGHBOUR: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);

/// Fresh scrapes during a flood.
const SCRAPES: usize = 40;

/// Scrapes over new connections while `flood` lasts; gives the errors of those that failed, and how
/// often the flood did what it does.
fn scrape_beside(
    setup: &Setup,
    flood: impl FnOnce(&AtomicBool) -> u32 + Send,
) -> (Vec<String>, u32) {
    let link = Link::new(setup.proxy.address(), NEIGHBOUR, ROUND_TRIP);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let end = EndOnDrop(&over);
        let flood = scope.spawn(|| flood(&over));
        // The flood is at its height when the proxy has as many of its connections as it lets be.
        setup.proxy.wait_for_line(&["TLS handshake ended"]);
        let failures = (0..SCRAPES)
            .filter_map(|number| {
                let version = BOTH_VERSIONS[number % BOTH_VERSIONS.len()];
                let config = setup.pki.client(&[version]);
                let scraped = Client::connect(link.address(), config).and_then(|mut client| {
                    client.send_get("/prometheus?exporter=e")?;
                    client.read_response()
                });
                match scraped {
                    Ok(it) if it.head.status == 200 && it.body.is_complete() => None,
                    Ok(it) => Some(format!("{version:?}: {it:?}")),
                    Err(error) => Some(format!("{version:?}: {error}")),
                }
            })
            .collect();
        drop(end);
        (failures, flood.join().expect("no panic"))
    })
}

/// At least 95 % succeeded.
#[track_caller]
fn assert_hardly_any(failures: &[String]) {
    assert!(failures.len() * 20 <= SCRAPES, "{} of {SCRAPES}: {failures:#?}", failures.len());
}

#[test]
fn f07_silent_connections_of_one_address_evict_no_handshake_of_another() {
    // So few that also a slow machine fills it up many times in a round trip.
    let setup = Setup::new("max-handshakes = 32\n");
    let address = setup.proxy.address();
    let (failures, sent) = scrape_beside(&setup, |over| flood::of_silence(address, 6000, over));
    assert_hardly_any(&failures);
    assert!(sent > 2000, "{sent} connections are no flood");
}

#[test]
fn f07_dear_handshakes_of_one_address_keep_no_handshake_of_another_waiting() {
    let setup = Setup::with_rsa_4096("");
    let address = setup.proxy.address();
    let hellos = [
        client_hello(TLS_1_2, &[ECDHE_RSA_AES_128_GCM], None),
        client_hello(TLS_1_3, &[AES_128_GCM], None),
    ];
    let (failures, sent) =
        scrape_beside(&setup, |over| flood::of_endless_hellos(address, &hellos, 800, over));
    assert_hardly_any(&failures);
    assert!(sent > 500, "{sent} handshakes are no flood");
}
