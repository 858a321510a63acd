//! What one address does is no other's trouble: floods from one address, and the fresh scrapes of
//! another with a round trip of 50 ms, in both versions of TLS.

use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    sync::atomic::AtomicBool,
    thread,
    time::{Duration, Instant},
};

use socket2::{Domain, Socket, Type};

use crate::{
    Setup, report,
    support::{
        EndOnDrop,
        client::Client,
        flood,
        hello::{AES_128_GCM, ECDHE_RSA_AES_128_GCM, TLS_1_2, TLS_1_3, client_hello},
        link::Link,
        metrics::Samples,
        pki::BOTH_VERSIONS,
    },
};

const ROUND_TRIP: Duration = Duration::from_millis(50);

/// The flood comes from 127.0.0.1 or 127.0.0.2.
const NEIGHBOUR: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);

/// Fresh scrapes during a flood.
const SCRAPES: usize = 40;

/// What became of the scrapes during a flood.
#[derive(Default)]
struct Outcome {
    failures: Vec<String>,
    /// How long each took.
    times: Vec<Duration>,
}

impl Outcome {
    /// Scrapes over a new connection that `connect` makes.
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

    /// At least 95 % succeeded. Says what was measured, too.
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

/// Scrapes over new connections of a long round trip while `flood` lasts, and says how that went.
/// Gives how often the flood did what it does.
#[track_caller]
fn scrape_beside(setup: &Setup, case: &str, flood: impl FnOnce(&AtomicBool) -> u32 + Send) -> u32 {
    let link = Link::new(setup.proxy.address(), NEIGHBOUR, ROUND_TRIP);
    let (over, begun, mut outcome) = (AtomicBool::new(false), Instant::now(), Outcome::default());
    let sent = thread::scope(|scope| {
        let end = EndOnDrop(&over);
        let flood = scope.spawn(|| flood(&over));
        // The flood is at its height when the proxy has as many of its connections as it lets be.
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
fn f07_silent_connections_of_one_address_evict_no_handshake_of_another() {
    // So few that also a slow machine fills it up many times in a round trip.
    let setup = Setup::new("max-handshakes = 32\n");
    let address = setup.proxy.address();
    let sent = scrape_beside(&setup, "F07 silence", |over| flood::of_silence(address, 6000, over));
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
    let sent = scrape_beside(&setup, "F07 hellos", |over| {
        flood::of_endless_hellos(address, &hellos, 800, over)
    });
    assert!(sent > 500, "{sent} handshakes are no flood");
}

/// How long a scrape beside connections that end at once may take: Prometheus' own `scrape_timeout`.
const SCRAPE_TIMEOUT: Duration = Duration::from_secs(10);

/// Connects as Prometheus does: a packet that is lost is sent again, after 1 s at first.
fn connect_in_time(source: Ipv4Addr, address: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((source, 0)).into())?;
    socket.connect_timeout(&address.into(), SCRAPE_TIMEOUT)?;
    socket.set_read_timeout(Some(SCRAPE_TIMEOUT))?;
    Ok(socket.into())
}

#[test]
fn f27_connections_that_end_at_once_keep_no_fresh_scrape_of_another_address_out() {
    /// Between scrapes, so that they meet a longer part of the flood.
    const PAUSE: Duration = Duration::from_millis(100);
    /// Fewer than elsewhere: on a machine without idle cores each can take seconds.
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
    assert!(sent > 10_000, "{sent} connections are no flood");
}

/// The proxy is kept from running, as a busy machine keeps it for a moment: 25 000 connections a
/// second are 3 000 in 120 ms.
#[test]
fn f27_a_backlog_of_ended_connections_has_room_for_others_and_costs_no_handshake() {
    let setup = Setup::new("");
    let address = setup.proxy.address();
    let mut observer = setup.connect();
    let before = Samples::of(&mut observer);
    // A backlog is never longer than this; Linux has had 4096 since 5.4.
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
    let let_in = "scrapegate_tls_handshakes_total{result=\"ok\"}";
    let expected = [(scrape, 1.0), (lost, f64::from(count)), (let_in, 1.0)].into();
    Samples::wait_for(&mut observer, "", "counted once", |samples| {
        samples.events_since(&before) == expected
    });
    let lines = setup.proxy.log_lines();
    assert!(!lines.iter().any(|line| line.contains("TLS handshake failed")), "{lines:#?}");
}
