//! One address must not disturb another. One address causes a flood; another makes new connections
//! for its scrapes, with a round trip of 50 ms and with both TLS versions.

use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    sync::atomic::AtomicBool,
    thread,
    time::{Duration, Instant},
};

use scrapegate_harness::{
    EndOnDrop,
    client::Client,
    flood,
    hello::{AES_128_GCM, ECDHE_RSA_AES_128_GCM, TLS_1_2, TLS_1_3, client_hello},
    link::Link,
    metrics::Samples,
    pki::BOTH_VERSIONS,
};
use socket2::{Domain, Socket, Type};

use crate::{Setup, report};

const ROUND_TRIP: Duration = Duration::from_millis(50);

/// The address of the scraper. The flood comes from 127.0.0.1 or 127.0.0.2.
const NEIGHBOUR: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);

/// Scrapes during a flood, each over a new connection.
const SCRAPES: usize = 40;

/// The results of the scrapes during a flood.
#[derive(Default)]
struct Outcome {
    failures: Vec<String>,
    /// The duration of each scrape.
    times: Vec<Duration>,
}

impl Outcome {
    /// Scrapes over a new connection from `connect`.
    fn scrape(
        &mut self,
        setup: &Setup,
        number: usize,
        connect: impl FnOnce() -> io::Result<TcpStream>,
    ) {
        let version = BOTH_VERSIONS[number % BOTH_VERSIONS.len()];
        let begun = Instant::now();
        let scraped = connect()
            .and_then(|it| Client::over(it, setup.pki.client(&[version])))
            .and_then(|mut client| {
                client.send_get("/prometheus?exporter=e")?;
                client.read_response()
            });
        self.times.push(begun.elapsed());
        match scraped {
            Ok(it) if it.head.status == 200 && it.body.is_complete() => {}
            Ok(it) => self.failures.push(format!("{version:?}: {it:?}")),
            Err(error) => self.failures.push(format!("{version:?}: {error}")),
        }
    }

    /// Asserts that at least 95 % of the scrapes succeeded. Prints the measurement.
    #[track_caller]
    fn assert_good(mut self, case: &str, sent: u32, lasted: Duration) {
        self.times.sort();
        report(&format!(
            "{case}: {} of {} fresh scrapes succeeded, median {:.3} s, slowest {:.3} s, beside {:.0} \
             connections a second",
            self.times.len() - self.failures.len(),
            self.times.len(),
            self.times[self.times.len() / 2].as_secs_f64(),
            self.times.last().copied().unwrap_or_default().as_secs_f64(),
            f64::from(sent) / lasted.as_secs_f64(),
        ));
        let (failed, all) = (self.failures.len(), self.times.len());
        assert!(failed * 20 <= all, "{failed} of {all}: {:#?}", self.failures);
    }
}

/// Scrapes over new connections with a long round trip while `flood` runs. Prints the results, and
/// returns how many connections the flood made.
#[track_caller]
fn scrape_during(setup: &Setup, case: &str, flood: impl FnOnce(&AtomicBool) -> u32 + Send) -> u32 {
    let link = Link::new(setup.proxy.address(), NEIGHBOUR, ROUND_TRIP);
    let (over, begun, mut outcome) = (AtomicBool::new(false), Instant::now(), Outcome::default());
    let sent = thread::scope(|scope| {
        let end = EndOnDrop(&over);
        let flood = scope.spawn(|| flood(&over));
        // The flood is at its height when the proxy has as many of its connections as it allows.
        setup.proxy.wait_for_line(&["TLS handshake failed"]);
        for number in 0..SCRAPES {
            outcome.scrape(setup, number, || TcpStream::connect(link.address()));
        }
        drop(end);
        flood.join().expect("no panic")
    });
    outcome.assert_good(case, sent, begun.elapsed());
    sent
}

#[test]
fn f07_silent_connections_of_one_address_do_not_evict_handshakes_of_another() {
    // A low limit, so that even a slow machine reaches it many times in one round trip.
    let setup = Setup::new("max-handshakes = 32\n");
    let address = setup.proxy.address();
    let sent = scrape_during(&setup, "F07 silence", |over| flood::of_silence(address, 6000, over));
    assert!(sent > 2000, "{sent} connections are not a flood");
}

#[test]
fn f07_expensive_handshakes_of_one_address_do_not_delay_handshakes_of_another() {
    let setup = Setup::with_rsa_4096("");
    let address = setup.proxy.address();
    let hellos = [
        client_hello(TLS_1_2, &[ECDHE_RSA_AES_128_GCM], None),
        client_hello(TLS_1_3, &[AES_128_GCM], None),
    ];
    let sent = scrape_during(&setup, "F07 hellos", |over| {
        flood::of_endless_hellos(address, &hellos, 800, over)
    });
    assert!(sent > 500, "{sent} handshakes are not a flood");
}

/// The longest duration of a scrape during a flood of closed connections: the default of
/// Prometheus' `scrape_timeout`.
const SCRAPE_TIMEOUT: Duration = Duration::from_secs(10);

/// Connects with the retransmissions that Prometheus gets: a lost packet is sent again, at first
/// after 1 s.
fn connect_in_time(source: Ipv4Addr, address: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((source, 0)).into())?;
    socket.connect_timeout(&address.into(), SCRAPE_TIMEOUT)?;
    socket.set_read_timeout(Some(SCRAPE_TIMEOUT))?;
    Ok(socket.into())
}

#[test]
fn f27_connections_closed_at_once_do_not_lock_out_new_connections_of_another_address() {
    /// Pause between scrapes, which spreads them over a longer part of the flood. The scrapes
    /// measure the flood while it runs; the pause waits for nothing.
    const PAUSE: Duration = Duration::from_millis(100);
    /// Fewer than in other floods: on a machine without idle cores each scrape can take seconds.
    const SCRAPES: usize = 20;
    let setup = Setup::new("");
    let address = setup.proxy.address();
    let mut observer = setup.connect();
    let before = Samples::of(&mut observer);
    let (over, mut outcome) = (AtomicBool::new(false), Outcome::default());
    let (begun, cpu) = (Instant::now(), setup.proxy.cpu_time());
    let sent = thread::scope(|scope| {
        let end = EndOnDrop(&over);
        let flood = scope.spawn(|| flood::of_ends(address, 25_000, &over));
        Samples::wait_for(&mut observer, "", "a flood", |samples| {
            samples.events_since(&before).values().sum::<f64>() > 2000.0
        });
        for number in 0..SCRAPES {
            outcome.scrape(&setup, number, || connect_in_time(NEIGHBOUR, address));
            thread::sleep(PAUSE);
        }
        drop(end);
        flood.join().expect("no panic")
    });
    let (lasted, cpu) = (begun.elapsed(), setup.proxy.cpu_time() - cpu);
    let accepted = Samples::of(&mut observer).events_since(&before).values().sum::<f64>();
    report(&format!(
        "F27: of {sent} connections {accepted} were accepted, each with {:.0} µs of CPU",
        cpu.as_secs_f64() * 1e6 / accepted
    ));
    outcome.assert_good("F27", sent, lasted);
    assert!(sent > 10_000, "{sent} connections are not a flood");
}

/// The proxy is stopped for a moment, as happens on a busy machine: at 25 000 connections a second,
/// 3 000 arrive in 120 ms.
#[test]
fn f27_closed_connections_in_the_backlog_leave_room_for_others_and_cost_no_handshake() {
    let setup = Setup::new("");
    let address = setup.proxy.address();
    let mut observer = setup.connect();
    let before = Samples::of(&mut observer);
    // The backlog cannot be longer than this limit, which Linux sets to 4096 since 5.4.
    let longest = fs::read_to_string("/proc/sys/net/core/somaxconn").expect("a limit");
    let longest: u32 = longest.trim().parse().expect("a number");
    let count = 3000.min(longest - longest / 8);
    setup.proxy.signal("STOP");
    for number in 0..count {
        if let Err(error) = connect_in_time(Ipv4Addr::new(127, 0, 0, 4), address) {
            panic!("no room in the backlog after {number} connections: {error}");
        }
    }
    let neighbour = connect_in_time(NEIGHBOUR, address).expect("room in the backlog");
    setup.proxy.signal("CONT");
    let mut outcome = Outcome::default();
    outcome.scrape(&setup, 0, || Ok(neighbour));
    assert!(outcome.failures.is_empty(), "{:#?}", outcome.failures);
    let scrape = "scrapegate_scrapes_total{exporter=\"e\",outcome=\"complete\"}";
    let lost = "scrapegate_tls_handshakes_total{result=\"connection_lost\"}";
    let accepted = "scrapegate_tls_handshakes_total{result=\"ok\"}";
    let expected = [(scrape, 1.0), (lost, f64::from(count)), (accepted, 1.0)].into();
    Samples::wait_for(&mut observer, "", "counted once", |samples| {
        samples.events_since(&before) == expected
    });
    let lines = setup.proxy.log_lines();
    assert!(!lines.iter().any(|line| line.contains("TLS handshake failed")), "{lines:#?}");
}
