//! A flood of handshakes that begin well and go no further.

use std::{
    collections::VecDeque,
    io::{Read, Write},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use crate::{
    Setup, assert_scrapes,
    support::hello::{AES_128_GCM, ECDHE_ECDSA_AES_128_GCM, TLS_1_2, TLS_1_3, client_hello},
};

const A_SECOND: u32 = 500;
const LASTS: Duration = Duration::from_secs(4);

/// Connections that the flood holds, more than `max-handshakes`.
const HELD: usize = 300;

/// D14
#[test]
fn a_flood_of_handshakes_keeps_nobody_out() {
    let setup = Setup::new("");
    let mut client = setup.connect();
    assert_scrapes(&mut client);
    let fds = setup.proxy.open_fds();
    let hellos = [
        client_hello(TLS_1_2, &[ECDHE_ECDSA_AES_128_GCM], None),
        client_hello(TLS_1_3, &[AES_128_GCM], None),
    ];
    let (begun, sent, over) = (Instant::now(), AtomicUsize::new(0), AtomicBool::new(false));
    let scrapes = thread::scope(|scope| {
        scope.spawn(|| {
            let mut held = VecDeque::new();
            for (number, hello) in (0..).zip(hellos.iter().cycle()) {
                if begun.elapsed() >= LASTS {
                    break;
                }
                let mut stream = setup.connect_silently_from_elsewhere();
                stream.write_all(hello).expect("sent");
                sent.fetch_add(1, Ordering::Relaxed);
                held.push_back(stream);
                if held.len() > HELD {
                    held.pop_front();
                }
                let due = begun + Duration::from_secs(1) * number / A_SECOND;
                thread::sleep(due.saturating_duration_since(Instant::now()));
            }
            // The last ones were answered, as by a server that takes them for clients.
            for mut stream in held.into_iter().rev().take(10) {
                stream.read_exact(&mut [0; 5]).expect("the start of an answer");
            }
            over.store(true, Ordering::Relaxed);
        });
        let mut scrapes = 0;
        while !over.load(Ordering::Relaxed) {
            assert_scrapes(&mut client);
            setup.assert_serves_a_new_client();
            scrapes += 1;
        }
        scrapes
    });
    let sent = sent.into_inner();
    assert!(sent > 200, "{sent} handshakes in {LASTS:?} are no flood");
    assert!(scrapes > 10, "only {scrapes} scrapes beside {sent} handshakes");
    setup.proxy.assert_at_rest(fds);
    assert_scrapes(&mut client);
}
