//! Limits on connections and handshakes, and the cost of an idle connection.

use std::{
    collections::VecDeque,
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use scrapegate_harness::{
    PATIENCE,
    client::{Client, Cut},
    flood::connect_from_elsewhere,
    pki::BOTH_VERSIONS,
};

use crate::{Setup, assert_lasted, assert_scrapes, is_open, wait_for_end};

/// How long the tests watch for an event that must not happen.
const WHILE: Duration = Duration::from_millis(500);

/// T32
#[test]
fn the_oldest_unfinished_handshake_is_evicted_for_a_new_client() {
    let setup = Setup::new("max-handshakes = 3\nhandshake-timeout = 60\n");
    let mut silent: Vec<_> = (0..6).map(|_| setup.connect_silently()).collect();
    // Six handshakes are three more than the limit, and the client adds one. Two unfinished
    // handshakes remain.
    setup.assert_serves_a_new_client();
    for stream in &mut silent[..4] {
        assert_eq!(wait_for_end(stream).0, b"");
    }
    for stream in &silent[4..] {
        assert!(is_open(stream));
    }
    // A finished handshake does not count towards the limit.
    setup.assert_serves_a_new_client();
    assert!(silent[4..].iter().all(is_open));
    setup.proxy.wait_for_log("an eviction", |record| {
        record["fields"]["reason"].as_str().is_some_and(|it| it.contains("max-handshakes"))
    });
}

#[test]
fn a_flood_of_silent_connections_does_not_lock_out_clients() {
    let setup = Setup::new("max-handshakes = 8\nhandshake-timeout = 60\n");
    let mut silent = Vec::new();
    for _ in 0..5 {
        silent.extend((0..50).map(|_| setup.connect_silently()));
        setup.assert_serves_a_new_client();
    }
    let left = silent.iter().filter(|stream| is_open(stream)).count();
    assert!(left <= 8, "{left} handshakes are pending");
}

/// T32
#[test]
fn ten_thousand_silent_connections_do_not_disturb_clients() {
    /// More than the number of unfinished handshakes, and more than one address may have.
    const KEPT: usize = 600;
    let setup = Setup::new("handshake-timeout = 60\n");
    let mut client = setup.connect();
    assert_scrapes(&mut client);
    let fds = setup.proxy.open_fds();
    // The proxy allocates what it needs for any connection.
    drop((0..KEPT).map(|_| connect_from_elsewhere(setup.proxy.address())).collect::<Vec<_>>());
    setup.proxy.assert_at_rest(fds);
    let rss = setup.proxy.rss_kib();
    let mut silent = VecDeque::new();
    for number in 1..=10_000 {
        silent.push_back(connect_from_elsewhere(setup.proxy.address()));
        if silent.len() > KEPT {
            silent.pop_front();
        }
        if number % 500 == 0 {
            assert_scrapes(&mut client);
            setup.assert_serves_a_new_client();
        }
    }
    // The unfinished handshakes. All others were evicted.
    setup.proxy.assert_at_rest(fds + 256);
    drop(silent);
    setup.proxy.assert_at_rest(fds);
    let grown = setup.proxy.rss_kib().saturating_sub(rss);
    assert!(grown < 8 * 1024, "{grown} KiB more than before");
    assert_scrapes(&mut client);
}

/// D10
#[test]
fn five_thousand_connections_of_one_address_are_limited_to_its_share() {
    const MOST: usize = 100;
    let setup =
        Setup::new("handshake-timeout = 60\nmax-handshakes = 2000\nmax-connections-per-ip = 100\n");
    let mut client = setup.connect();
    assert_scrapes(&mut client);
    let fds = setup.proxy.open_fds();
    let mut silent: Vec<_> = (1..MOST).map(|_| setup.connect_silently()).collect();
    for _ in 0..49 {
        let mut refused: Vec<_> = (0..100).map(|_| setup.connect_silently()).collect();
        for stream in &mut refused {
            assert_eq!(wait_for_end(stream).0, b"");
        }
        assert_scrapes(&mut client);
    }
    assert!(silent.iter().all(is_open));
    assert!(setup.proxy.open_fds() <= fds + MOST);
    // The next connection takes the place of one that is closed.
    drop(silent.pop());
    setup.proxy.assert_at_rest(fds + MOST - 2);
    // The proxy releases the place slightly later than the descriptor.
    let limit = Instant::now() + PATIENCE;
    let config = setup.pki.client(BOTH_VERSIONS);
    let mut next = loop {
        match Client::connect(setup.proxy.address(), config.clone()) {
            Ok(client) => break client,
            Err(error) => assert!(Instant::now() < limit, "the place is not released: {error}"),
        }
    };
    assert_scrapes(&mut next);
    drop((silent, next));
    setup.proxy.assert_at_rest(fds);
}

/// D09
#[test]
fn a_connection_above_max_connections_waits_until_another_is_closed() {
    let setup = Setup::new("max-connections = 2\n");
    let (first, mut second) = (setup.connect(), setup.connect());
    assert_scrapes(&mut second);
    let (served, waiting) = mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut third = setup.connect();
            assert_scrapes(&mut third);
            served.send(()).expect("the test waits");
        });
        assert_eq!(waiting.recv_timeout(WHILE), Err(RecvTimeoutError::Timeout));
        // The accepted connections still work.
        assert_scrapes(&mut second);
        assert_eq!(waiting.try_recv().ok(), None);
        drop(first);
        assert_eq!(waiting.recv_timeout(PATIENCE), Ok(()));
    });
    assert_scrapes(&mut second);
}

/// D10
#[test]
fn max_connections_per_ip_limits_one_address_and_no_other() {
    let setup = Setup::new("max-connections-per-ip = 2\n");
    let (first, mut second) = (setup.connect(), setup.connect());
    let mut refused: Vec<_> = (0..20).map(|_| setup.connect_silently()).collect();
    for stream in &mut refused {
        assert_eq!(wait_for_end(stream).0, b"");
    }
    assert_scrapes(&mut second);
    let stream = connect_from_elsewhere(setup.proxy.address());
    let config = setup.pki.client(BOTH_VERSIONS);
    let mut other = Client::over(stream, config.clone()).expect("a handshake");
    assert_scrapes(&mut other);
    setup.proxy.wait_for_log("a refusal", |record| {
        record["fields"]["message"].as_str().is_some_and(|it| it.contains("max-connections-per-ip"))
    });
    drop(first);
    // The place is free after the proxy has seen the end of the connection.
    let begun = Instant::now();
    let mut again = loop {
        match Client::connect(setup.proxy.address(), config.clone()) {
            Ok(client) => break client,
            Err(error) => assert!(begun.elapsed() < PATIENCE, "still refused: {error}"),
        }
    };
    assert_scrapes(&mut again);
}

/// D08
#[test]
fn max_connections_idle_connections_are_closed_at_idle_timeout_and_make_room() {
    const MOST: usize = 100;
    const IDLE: Duration = Duration::from_secs(3);
    let setup = Setup::new("max-connections = 100\nidle-timeout = 3\n");
    let at_rest = setup.proxy.open_fds();
    let mut idle: Vec<Client> = (0..MOST).map(|_| setup.connect()).collect();
    let begun: Vec<_> = idle
        .iter_mut()
        .map(|client| {
            let begun = Instant::now();
            assert_scrapes(client);
            begun
        })
        .collect();
    assert!(setup.proxy.open_fds() >= at_rest + MOST, "some connections were not accepted");
    // Another connection waits in the backlog until the first one is closed.
    setup.assert_serves_a_new_client();
    assert!(begun[0].elapsed() >= IDLE, "more connections were accepted: {:?}", begun[0].elapsed());
    for (client, begun) in idle.iter_mut().zip(&begun) {
        assert_eq!(client.read_to_end(), (Vec::new(), Cut::CloseNotify));
        assert!(begun.elapsed() >= IDLE, "closed after {:?}", begun.elapsed());
    }
    assert_lasted(begun[MOST - 1].elapsed(), IDLE);
    setup.proxy.assert_at_rest(at_rest);
}

/// D08
#[test]
fn an_idle_connection_uses_little_memory_and_releases_it() {
    const MANY: u64 = 200;
    const MOST_KIB: u64 = 40;
    let setup = Setup::new("idle-timeout = 60\n");
    let connect = || {
        let mut client = setup.connect();
        assert_scrapes(&mut client);
        client
    };
    // The proxy allocates what it needs for any connection.
    let warm: Vec<Client> = (0..10).map(|_| connect()).collect();
    let before = setup.proxy.rss_kib();
    let idle: Vec<Client> = (0..MANY).map(|_| connect()).collect();
    let grown = setup.proxy.rss_kib().saturating_sub(before);
    assert!(grown <= MANY * MOST_KIB, "{grown} KiB for {MANY} idle connections");
    let with_all = setup.proxy.open_fds();
    drop(idle);
    drop(warm);
    setup.proxy.assert_at_rest(with_all - usize::try_from(MANY).expect("few"));
}
