//! A reload that changes the listen address.

use std::{
    fs,
    net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    thread,
    time::Instant,
};

use procfs::net::{TcpNetEntry, TcpState};
use scrapegate::{
    config::Sources,
    service::{
        reload::load,
        server::{ReloadError, Reloaded, Server},
    },
};
use scrapegate_harness::{
    PATIENCE,
    client::Client,
    pki::{BOTH_VERSIONS, Pki},
    plain::{self, Plain},
    privileges,
    proxy::Proxy,
};
use socket2::{Domain, Socket, Type};

use super::{DONE, EXPORTERS, REFUSED, assert_status, connect, exporter, halting, reload, write};
/// A reserved port: the kernel does not give it to another process that asks for any free port. A
/// process that asks for exactly this port can listen on it, because this socket does not listen.
struct Port {
    number: u16,
    _held: Socket,
}

impl Port {
    /// Reserves a port on all addresses of both families.
    fn reserve() -> Self {
        let held = Socket::new(Domain::IPV6, Type::STREAM, None).expect("a socket");
        held.set_only_v6(false).expect("both families");
        held.set_reuse_address(true).expect("shared with who listens");
        let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
        held.bind(&any.into()).expect("a free port");
        let bound = held.local_addr().expect("an address").as_socket().expect("of IPv6");
        Self { number: bound.port(), _held: held }
    }

    fn of(&self, address: &str) -> SocketAddr {
        SocketAddr::new(address.parse().expect("an address"), self.number)
    }

    /// Waits until exactly these addresses are listened on. The old listener is closed slightly
    /// after the reload has finished.
    fn wait_for_listeners(&self, wanted: &[SocketAddr]) {
        wait_for_listeners(|listeners| {
            let on_port = listeners.iter().map(|it| it.local_address);
            on_port.filter(|it| it.port() == self.number).collect::<Vec<_>>() == wanted
        });
    }
}

/// Polls the kernel's list of listeners until `wanted` accepts it.
fn wait_for_listeners(wanted: impl Fn(&[TcpNetEntry]) -> bool) {
    let begun = Instant::now();
    loop {
        let sockets = [procfs::net::tcp(), procfs::net::tcp6()];
        let sockets = sockets.into_iter().flat_map(|it| it.expect("the kernel lists sockets"));
        let listeners: Vec<_> = sockets.filter(|it| it.state == TcpState::Listen).collect();
        if wanted(&listeners) {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{listeners:#?}");
        thread::yield_now();
    }
}

fn listening_on(pki: &Pki, address: SocketAddr) -> String {
    let default = format!("[default]\naddress = {}\nport = {}\n", address.ip(), address.port());
    pki.config_ini("").replace("[default]\n", &default)
}

fn connect_to(pki: &Pki, address: SocketAddr) -> Client {
    Client::connect(address, pki.client(BOTH_VERSIONS)).expect("a handshake")
}

/// C26 on reload.
#[test]
fn a_privileged_port_is_refused_and_the_old_address_stays_in_use() {
    if !privileges::takes_port_1() {
        return;
    }
    let pki = Pki::new();
    let one = exporter(100);
    let port = Port::reserve();
    let config = listening_on(&pki, port.of("127.0.0.1"));
    let proxy = Proxy::start_through(privileges::without_ports(), &config, &one.section("e"), &[]);
    write(&proxy, EXPORTERS, &one.section("other"));
    write(&proxy, "config.ini", &listening_on(&pki, SocketAddr::from(([127, 0, 0, 1], 1))));
    reload(&proxy, REFUSED, 1);
    proxy.wait_for_line(&["cannot listen on 127.0.0.1:1", "Permission denied"]);
    assert_status(&mut connect(&pki, &proxy), "e", 200);
    write(&proxy, "config.ini", &config);
    reload(&proxy, DONE, 1);
    assert_status(&mut connect(&pki, &proxy), "other", 200);
}

/// C26 on reload.
#[test]
fn a_new_address_is_listened_on_before_the_old_one_is_closed() {
    let pki = Pki::new();
    let one = exporter(100);
    let (first_port, second_port) = (Port::reserve(), Port::reserve());
    let (first, second) = (first_port.of("127.0.0.1"), second_port.of("127.0.0.1"));
    let proxy = Proxy::start_where_told(&listening_on(&pki, first), &one.section("e"));
    assert_eq!(proxy.address(), first);
    let mut kept = connect(&pki, &proxy);
    assert_status(&mut kept, "e", 200);

    // The address is in use, or belongs to another host. Nothing changes.
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let is_taken = taken.local_addr().expect("an address");
    let is_elsewhere = SocketAddr::new([192, 0, 2, 1].into(), second.port());
    write(&proxy, EXPORTERS, &one.section("other"));
    for (count, address) in [is_taken, is_elsewhere].into_iter().enumerate() {
        write(&proxy, "config.ini", &listening_on(&pki, address));
        reload(&proxy, REFUSED, count + 1);
        assert_status(&mut connect(&pki, &proxy), "e", 200);
    }

    write(&proxy, "config.ini", &listening_on(&pki, second));
    reload(&proxy, DONE, 1);
    let mut client = connect_to(&pki, second);
    assert_status(&mut client, "other", 200);
    assert_status(&mut kept, "other", 200);
    first_port.wait_for_listeners(&[]);
}

/// C26 on reload.
#[test]
fn the_address_changes_between_all_and_one_on_the_same_port_in_both_families() {
    let pki = Pki::new();
    let one = exporter(100);
    let port = Port::reserve();
    let (all, own, other) = (port.of("0.0.0.0"), port.of("127.0.0.1"), port.of("127.0.0.2"));
    let (all_v6, own_v6) = (port.of("::"), port.of("::1"));
    let proxy = Proxy::start_where_told(&listening_on(&pki, all), &one.section("e0"));
    let mut kept = connect_to(&pki, own);
    let steps: [(SocketAddr, &[SocketAddr], &[SocketAddr]); 8] = [
        (own, &[own], &[other, own_v6]),
        (all, &[own, other], &[own_v6]),
        (all_v6, &[own, other, own_v6], &[]),
        (own_v6, &[own_v6], &[own, other]),
        (all_v6, &[own, other, own_v6], &[]),
        (own, &[own], &[other, own_v6]),
        (all_v6, &[own, other, own_v6], &[]),
        (all, &[own, other], &[own_v6]),
    ];
    for (round, (address, served, closed)) in (1..).zip(steps) {
        // The rest of the configuration is applied, too.
        let name = format!("e{round}");
        write(&proxy, EXPORTERS, &one.section(&name));
        write(&proxy, "config.ini", &listening_on(&pki, address));
        reload(&proxy, DONE, round);
        port.wait_for_listeners(&[address]);
        for served in served {
            assert_status(&mut connect_to(&pki, *served), &name, 200);
        }
        for closed in closed {
            assert!(TcpStream::connect(closed).is_err(), "{closed} after {address}");
        }
        assert_status(&mut kept, &name, 200);
    }
}

/// C26 on reload. Two processes listen on one port at different addresses. Neither can change to
/// all addresses while the other runs.
#[test]
fn a_port_of_another_process_is_refused_and_the_old_address_stays_in_use() {
    let pki = Pki::new();
    let one = exporter(100);
    let port = Port::reserve();
    let (all, own, other) = (port.of("0.0.0.0"), port.of("127.0.0.1"), port.of("127.0.0.2"));
    let proxy = Proxy::start_where_told(&listening_on(&pki, all), &one.section("e"));
    write(&proxy, "config.ini", &listening_on(&pki, own));
    reload(&proxy, DONE, 1);
    port.wait_for_listeners(&[own]);

    let neighbour = Proxy::start_where_told(&listening_on(&pki, other), &one.section("e"));
    for (count, address) in (1..).zip([all, port.of("::")]) {
        for (proxy, stays) in [(&proxy, own), (&neighbour, other)] {
            write(proxy, EXPORTERS, &one.section("new"));
            write(proxy, "config.ini", &listening_on(&pki, address));
            reload(proxy, REFUSED, count);
            assert_status(&mut connect_to(&pki, stays), "e", 200);
        }
    }
    drop(neighbour);
    reload(&proxy, DONE, 2);
    assert_status(&mut connect_to(&pki, port.of("::1")), "new", 200);
}

/// The server runs in the test's process, so that the shutdown can come immediately before or after
/// a reload.
#[test]
#[expect(clippy::disallowed_methods, reason = "a test may wait for its own work, and panic")]
fn f24_during_a_shutdown_no_new_address_is_opened() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = folder.path().join("config.ini");
    fs::write(&config, "[proxy]\ninsecure-plain-http = True\n").expect("written");
    let (exporter, gate) = halting();
    let exporters = exporter.section("e") + "interval = 300\ntimeout = 300\n";
    fs::write(folder.path().join(EXPORTERS), exporters).expect("written");
    let loaded = |listen: SocketAddr| {
        let sources =
            Sources { config: Some(config.clone()), exporters: None, listen: Some(listen) };
        load(&sources).state.expect("no mistake")
    };
    // The runtime runs only within `block_on`, so nothing happens between two steps outside.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let _entered = runtime.enter();
    // It is random which event the server handles first, the shutdown or the new listener.
    for round in 0..10 {
        let (config, assets) = loaded(SocketAddr::from(([127, 0, 0, 1], 0)));
        let server = Server::bind(&config, assets).expect("the server listens");
        let (address, handle) = (server.address(), server.handle());
        let running = runtime.spawn(server.run());
        // A scrape in flight keeps the drain from ending.
        let client = runtime.spawn_blocking(move || {
            let mut client = Plain::connect(address);
            let request = "GET /prometheus?exporter=e HTTP/1.1\r\nHost: h\r\n\r\n";
            client.send(request).expect("sent");
            client.read_until(b"\r\na ");
            client
        });
        let client = runtime.block_on(client).expect("no panic");

        let port = Port::reserve();
        let next = port.of("127.0.0.2");
        let (config, assets) = loaded(next);
        if round == 0 {
            handle.drain();
            let refused = runtime.block_on(handle.reload(&config, assets));
            let refused = refused.expect_err("a server that shuts down");
            assert!(matches!(refused, ReloadError::ShuttingDown), "{refused:?}");
        } else {
            runtime.block_on(handle.reload(&config, assets)).expect("reloaded");
            handle.drain();
        }
        let closed = runtime.spawn_blocking(move || {
            wait_for_listeners(|all| {
                all.iter().all(|it| it.local_address != next && it.local_address != address)
            });
        });
        runtime.block_on(closed).expect("both are closed");
        assert!(!running.is_finished(), "the listeners were closed only when the server ended");
        drop(client);
        runtime.block_on(running).expect("no panic");
    }
    gate.open();
}

/// The server runs in the test's process, so that the change can come before it accepts a
/// connection.
#[test]
fn connections_in_the_backlog_of_the_old_address_are_answered() {
    const WAITING: usize = 3;
    const HEALTHY: &str = "GET /-/healthy HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = folder.path().join("config.ini");
    let text = "[prometheus]\nenabled = False\n[proxy]\ninsecure-plain-http = True\n";
    fs::write(&config, text).expect("written");
    let loaded = |ip: [u8; 4]| {
        let listen = Some(SocketAddr::from((ip, 0)));
        let sources = Sources { config: Some(config.clone()), exporters: None, listen };
        load(&sources).state.expect("no mistake")
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let _entered = runtime.enter();
    // It is random which listener the server polls first, the old one or the new one.
    for _ in 0..10 {
        let (config, assets) = loaded([127, 0, 0, 1]);
        let server = Server::bind(&config, assets).expect("the server listens");
        let (address, handle) = (server.address(), server.handle());
        let mut clients: Vec<Plain> = (0..WAITING).map(|_| Plain::connect(address)).collect();
        for client in &mut clients {
            client.send(HEALTHY).expect("sent");
        }
        wait_for_listeners(|listeners| {
            let mut here = listeners.iter().filter(|it| it.local_address == address);
            here.any(|it| usize::try_from(it.rx_queue) == Ok(WAITING))
        });

        let (config, assets) = loaded([127, 0, 0, 2]);
        let reloaded = runtime.block_on(handle.reload(&config, assets));
        let Reloaded { new_address, .. } = reloaded.expect("reloaded");
        let running = runtime.spawn(server.run());
        for client in &mut clients {
            let answer = String::from_utf8(client.read_to_end()).expect("text");
            assert_eq!(plain::status(&answer), 200, "{answer}");
        }
        let answer = plain::exchange(new_address.expect("another address"), HEALTHY);
        assert_eq!(plain::status(&answer), 200, "{answer}");
        handle.drain();
        runtime.block_on(running).expect("no panic");
    }
}
