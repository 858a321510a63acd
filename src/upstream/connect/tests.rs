//! The order of addresses, and the causes of errors.

use super::*;
use crate::common::error::Refusal;

fn parsed<const N: usize>(addresses: [&str; N]) -> [SocketAddr; N] {
    addresses.map(|it| it.parse().expect("an address"))
}

#[test]
fn f03_a_scrape_that_waits_for_lookups_of_other_names_blames_the_proxy() {
    let word = |is_waiting| {
        let in_line = InLine::default();
        in_line.set(is_waiting);
        Refusal::from(too_late(&in_line, Duration::from_secs(1))).info().label
    };
    assert_eq!([true, false].map(word), ["no_resources", "exporter_connect_timeout"]);
}

#[tokio::test]
async fn f06_addresses_of_this_host_are_recognized() {
    let of_this_host = parsed(["127.0.0.1:9", "[::1]:9", "127.9.9.9:9", "0.0.0.0:9"]);
    assert_eq!(of_this_host.map(|it| is_of_this_host(&it)), [true; 4]);
    // Reserved for documentation (RFC 5737, RFC 3849). No host has them.
    let others = parsed(["192.0.2.1:9", "[2001:db8::1]:9"]);
    assert_eq!(others.map(|it| is_of_this_host(&it)), [false; 2]);
}

/// A socket that refuses connections, a listener, and their addresses.
fn refusing_and_listening() -> ([Socket; 2], [SocketAddr; 2]) {
    let bound = |address: &str| {
        let socket = nonblocking(Domain::IPV4).expect("a socket");
        let address: SocketAddr = address.parse().expect("an address");
        socket.bind(&address.into()).expect("free");
        socket
    };
    let sockets = [bound("127.0.0.1:0"), bound("127.0.0.2:0")];
    sockets[1].listen(1).expect("a listener");
    let at = |socket: &Socket| socket.local_addr().ok().and_then(|it| it.as_socket());
    let addresses = [at(&sockets[0]), at(&sockets[1])].map(|it| it.expect("bound"));
    (sockets, addresses)
}

#[tokio::test]
async fn f06_the_next_address_of_this_host_is_tried_only_if_the_previous_one_refuses() {
    let (_sockets, [dead, listening]) = refusing_and_listening();
    let stream = in_turn(&[dead, listening]).await.expect("the second accepts");
    assert_eq!(stream.peer_addr().ok(), Some(listening));
    // TCP has no broadcast, so the system returns an error that is no refusal.
    let [broadcast] = parsed(["255.255.255.255:9"]);
    let failed = in_turn(&[broadcast, listening]).await.map_err(|it| it.kind());
    assert_ne!(failed.err(), None);
    for addresses in [[dead, dead], [dead, broadcast]] {
        let refused = in_turn(&addresses).await.map_err(|it| it.kind());
        assert_eq!(refused.err(), Some(io::ErrorKind::ConnectionRefused));
    }
}

/// Within this host each attempt ends at once, so the paused clock moves only if nothing happens.
#[tokio::test(start_paused = true)]
async fn of_other_hosts_the_first_address_that_answers_is_used() {
    let (_sockets, [dead, listening]) = refusing_and_listening();
    let stream = race(&[dead, listening]).await.expect("the second accepts");
    assert_eq!(stream.peer_addr().ok(), Some(listening));
    let end = Instant::now() + Duration::from_secs(60);
    let refused = timeout_at(end, race(&[dead, dead])).await.expect("the attempts end");
    let refused = refused.map_err(|it| it.kind());
    assert_eq!(refused.err(), Some(io::ErrorKind::ConnectionRefused));
}

#[tokio::test]
async fn of_other_hosts_a_slow_address_is_waited_for_if_the_others_refuse() {
    let (sockets, [dead, full]) = refusing_and_listening();
    // A backlog of 1 has room for two connections. The kernel drops the third and tries it again
    // after a second.
    let _first = [(); 2].map(|()| std::net::TcpStream::connect(full).expect("connected"));
    let addresses = [full, dead];
    let mut racing = std::pin::pin!(race(&addresses));
    let early = timeout_at(Instant::now() + 2 * STAGGER, racing.as_mut()).await;
    assert!(early.is_err(), "{early:?}");
    for _ in 0..2 {
        sockets[1].accept().expect("a connection");
    }
    let stream = racing.await.expect("there is room now");
    assert_eq!(stream.peer_addr().ok(), Some(full));
}

/// A request that is not sent at once costs a wake-up. Without the socket, reads are not coalesced.
#[tokio::test]
async fn a_request_is_sent_over_a_new_tcp_connection_at_once() {
    let (_sockets, [_, listening]) = refusing_and_listening();
    let stream = Stream(StreamKind::Tcp(connect(listening).await.expect("connected")));
    assert_eq!(stream.send_at_once(b"GET"), 3);
    assert!(stream.tcp().is_some());
    assert_eq!(Stream::other(tokio::io::duplex(9).0).send_at_once(b"GET"), 0);
}

#[test]
fn a_refusal_says_more_than_another_error() {
    use io::ErrorKind::{ConnectionRefused, NetworkUnreachable, PermissionDenied};
    for (one, two, expected) in [
        (None, NetworkUnreachable, NetworkUnreachable),
        (Some(ConnectionRefused), NetworkUnreachable, ConnectionRefused),
        (Some(PermissionDenied), NetworkUnreachable, NetworkUnreachable),
    ] {
        assert_eq!(the_telling_one(one.map(Into::into), two.into()).kind(), expected);
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_unix_socket_with_a_full_backlog_is_tried_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("socket");
    let listener = Socket::new(Domain::UNIX, Type::STREAM, None).expect("a socket");
    listener.bind(&socket2::SockAddr::unix(&path).expect("a short path")).expect("free");
    listener.listen(0).expect("a listener");
    // The backlog has room for one connection.
    let _first = std::os::unix::net::UnixStream::connect(&path).expect("connected");
    let mut second = std::pin::pin!(unix(&path));
    let waits = poll_fn(|cx| Poll::Ready(second.as_mut().poll(cx).is_pending())).await;
    assert!(waits, "there is no room");
    listener.accept().expect("the first connection");
    second.await.expect("there is room now");
}

#[test]
fn each_connect_error_has_its_own_label() {
    let word =
        |number| Refusal::from(connect_error(io::Error::from_raw_os_error(number))).info().label;
    for (number, expected) in [
        (libc::EMFILE, "no_resources"),
        (libc::ENFILE, "no_resources"),
        (libc::ENOMEM, "no_resources"),
        (libc::ECONNREFUSED, "exporter_refused"),
        (libc::ECONNRESET, "exporter_reset"),
        (libc::ENOENT, "exporter_no_socket"),
        (libc::EHOSTUNREACH, "exporter_unreachable"),
        (libc::ENETUNREACH, "exporter_unreachable"),
        (libc::EACCES, "exporter_unreachable"),
    ] {
        assert_eq!(word(number), expected, "{number}");
    }
}
