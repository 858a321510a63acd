//! Caps on connections and handshakes, and what an idle connection costs.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpStream},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use socket2::{Domain, Socket, Type};

use crate::{
    Setup, assert_scrapes, is_open,
    support::{PATIENCE, client::Client, pki::BOTH_VERSIONS},
    wait_for_end,
};

/// How long something is watched that must not happen.
const WHILE: Duration = Duration::from_millis(500);

/// A connection to `address` from another address of this host.
fn connect_from(source: Ipv4Addr, address: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from((source, 0)).into()).expect("bound");
    socket.connect(&address.into()).expect("connected");
    socket.into()
}

/// T32
#[test]
fn the_oldest_unfinished_handshake_gives_way_to_a_new_client() {
    let setup = Setup::new("max-handshakes = 3\nhandshake-timeout = 60\n");
    let mut silent: Vec<_> = (0..6).map(|_| setup.connect_silently()).collect();
    // Three of six are too many, and the client is one more; afterwards two are left.
    setup.assert_serves_a_new_client();
    for stream in &mut silent[..4] {
        assert_eq!(wait_for_end(stream).0, b"");
    }
    for stream in &silent[4..] {
        assert!(is_open(stream));
    }
    // A finished handshake is none of those that count.
    setup.assert_serves_a_new_client();
    assert!(silent[4..].iter().all(is_open));
    setup.proxy.wait_for_log("an eviction", |record| {
        record["fields"]["reason"].as_str().is_some_and(|it| it.contains("max-handshakes"))
    });
}

#[test]
fn a_flood_of_silent_connections_keeps_nobody_out() {
    let setup = Setup::new("max-handshakes = 8\nhandshake-timeout = 60\n");
    let mut silent = Vec::new();
    for _ in 0..5 {
        silent.extend((0..50).map(|_| setup.connect_silently()));
        setup.assert_serves_a_new_client();
    }
    let left = silent.iter().filter(|stream| is_open(stream)).count();
    assert!(left <= 8, "{left} handshakes are pending");
}

/// D09
#[test]
fn one_connection_more_than_the_most_waits_for_another_to_leave() {
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
        // Those that are in are not disturbed.
        assert_scrapes(&mut second);
        assert_eq!(waiting.try_recv().ok(), None);
        drop(first);
        assert_eq!(waiting.recv_timeout(PATIENCE), Ok(()));
    });
    assert_scrapes(&mut second);
}

/// D10
#[test]
fn an_address_has_its_own_most_and_takes_no_place_of_another() {
    let setup = Setup::new("max-connections-per-ip = 2\n");
    let (first, mut second) = (setup.connect(), setup.connect());
    let mut refused: Vec<_> = (0..20).map(|_| setup.connect_silently()).collect();
    for stream in &mut refused {
        assert_eq!(wait_for_end(stream).0, b"");
    }
    assert_scrapes(&mut second);
    // All of 127.0.0.0/8 is this host.
    let stream = connect_from(Ipv4Addr::new(127, 0, 0, 2), setup.proxy.address());
    let config = setup.pki.client(BOTH_VERSIONS);
    let mut other = Client::over(stream, config.clone()).expect("a handshake");
    assert_scrapes(&mut other);
    setup.proxy.wait_for_log("a refusal", |record| {
        record["fields"]["message"].as_str().is_some_and(|it| it.contains("max-connections-per-ip"))
    });
    drop(first);
    // Its place is free when the proxy has seen the end.
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
fn an_idle_connection_costs_little_memory_and_gives_it_back() {
    const MANY: u64 = 200;
    const MOST_KIB: u64 = 40;
    let setup = Setup::new("idle-timeout = 60\n");
    let connect = || {
        let mut client = setup.connect();
        assert_scrapes(&mut client);
        client
    };
    // Brings the proxy to its working set.
    let warm: Vec<Client> = (0..10).map(|_| connect()).collect();
    let before = setup.proxy.rss_kib();
    let idle: Vec<Client> = (0..MANY).map(|_| connect()).collect();
    let grown = setup.proxy.rss_kib().saturating_sub(before);
    assert!(grown <= MANY * MOST_KIB, "{grown} KiB for {MANY} idle connections");
    let with_all = setup.proxy.open_fds();
    drop(idle);
    drop(warm);
    let gone = Instant::now();
    while setup.proxy.open_fds() as u64 > with_all as u64 - MANY {
        assert!(gone.elapsed() < Duration::from_secs(5), "{} descriptors", setup.proxy.open_fds());
        thread::sleep(Duration::from_millis(20));
    }
}
