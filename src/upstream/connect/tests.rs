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
    // The last two are reserved for documentation (RFC 5737, RFC 3849). No host has them.
    let addresses =
        parsed(["127.0.0.1:9", "[::1]:9", "127.9.9.9:9", "192.0.2.1:9", "[2001:db8::1]:9"]);
    assert_eq!(addresses.map(|it| is_of_this_host(&it)), [true, true, true, false, false]);
}

#[tokio::test]
async fn f06_the_next_address_of_this_host_is_tried_only_if_the_previous_one_refuses() {
    let bound = |address: &str| {
        let socket = nonblocking(Domain::IPV4).expect("a socket");
        let address: SocketAddr = address.parse().expect("an address");
        socket.bind(&address.into()).expect("free");
        socket
    };
    let at = |socket: &Socket| socket.local_addr().ok().and_then(|it| it.as_socket());
    let (dead, listening) = (bound("127.0.0.1:0"), bound("127.0.0.2:0"));
    listening.listen(1).expect("a listener");
    let addresses = [&dead, &listening].map(|it| at(it).expect("bound"));
    let stream = in_turn(&addresses).await.expect("the second accepts");
    assert_eq!(stream.peer_addr().ok(), Some(addresses[1]));
    let [dead, _] = addresses;
    let refused = in_turn(&[dead, dead]).await.map_err(|it| it.kind());
    assert_eq!(refused.err(), Some(io::ErrorKind::ConnectionRefused));
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
