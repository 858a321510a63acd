//! The attackers. Each attack runs on its own threads until the time is over.

use std::{
    io::{self, Write},
    net::{Ipv4Addr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::Scope,
    time::Duration,
};

use rustls::{ClientConfig, ClientConnection, pki_types::ServerName};
use scrapegate_harness::{
    client::{Client, connect_from},
    forge,
    pki::{BOTH_VERSIONS, Pki},
    trial::span::Span,
};

use crate::target::{ENDLESS, GOOD, RESET, STALLED, Target, scrape_target};

const STALLED_HANDSHAKES: usize = 2000;
/// The proxy's `handshake-timeout`.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Each address has 250 connections, half of the limit for one address.
const STALLED_SOURCES: usize = 8;

const BAD_HANDSHAKES: f64 = 300.0;
/// For each of three kinds of bad handshakes.
const BAD_THREADS: usize = 2;

const SLOW_READERS: usize = 500;
const SLOW_THREADS: usize = 4;
const SLOW_PAUSE: Duration = Duration::from_secs(2);
const SLOW_BYTES: usize = 4096;
/// The second pause ends after the deadline of their exporter.
const SLOW_LIFE: Duration = Duration::from_secs(4);

const SLOWLORISES: usize = 200;
/// The `header-timeout` of the proxy, and up to two rounds until the thread notices the end.
const SLOWLORIS_LIFE: Duration = Duration::from_secs(7);

const RELOAD: Duration = Duration::from_secs(1);

/// What an attack has done so far.
#[derive(Debug)]
pub(crate) struct Attack {
    pub(crate) name: &'static str,
    /// Planned actions per second, from `first` on.
    pub(crate) rate: f64,
    pub(crate) first: Duration,
    /// Number of actions so far.
    pub(crate) done: AtomicUsize,
    /// Only for attacks that scrape: incomplete answers that looked complete.
    pub(crate) deceived: Option<AtomicUsize>,
}

impl Attack {
    fn new(name: &'static str, rate: f64) -> Self {
        Self { name, rate, first: Duration::ZERO, done: AtomicUsize::new(0), deceived: None }
    }

    /// `count` connections at a time. The proxy ends each after `life`, and each is then opened
    /// again.
    fn renewed(name: &'static str, count: usize, life: Duration) -> Self {
        Self { first: life, ..Self::new(name, count as f64 / life.as_secs_f64()) }
    }

    fn count(&self) {
        self.done.fetch_add(1, Ordering::Relaxed);
    }
}

/// A number of connections that one thread keeps open.
struct Keeping<'a> {
    span: &'a Span,
    attack: &'a Attack,
    count: usize,
    /// The time in which each of them is visited once.
    round: Duration,
}

impl Keeping<'_> {
    /// Opens `count` of them, and opens those again for which `hold` fails. Each reopening counts.
    fn keep<T>(
        &self,
        make: impl Fn(usize) -> io::Result<T>,
        hold: impl Fn(&mut T) -> io::Result<()>,
    ) {
        let mut all: Vec<Option<T>> = (0..self.count).map(|_| None).collect();
        let each = self.round.div_f64(self.count as f64);
        for (number, _) in self.span.beat(each).enumerate() {
            let place = &mut all[number % self.count];
            if place.as_mut().is_none_or(|it| hold(it).is_err()) {
                // If the proxy refuses it or has no room, the next round tries again.
                let ended = std::mem::replace(place, make(number).ok());
                if ended.is_some() && place.is_some() {
                    self.attack.count();
                }
            }
        }
    }
}

/// For connections that are opened again in every round.
fn give_up<T>(_: &mut T) -> io::Result<()> {
    Err(io::ErrorKind::TimedOut.into())
}

/// Starts all attacks.
pub(crate) fn start<'scope, 'env>(
    scope: &'scope Scope<'scope, 'env>,
    target: &'env Target,
    span: &'env Span,
) -> Vec<Arc<Attack>> {
    vec![
        stalled_handshakes(scope, target, span),
        bad_handshakes(scope, target, span),
        slow_readers(scope, target, span),
        slowlorises(scope, target, span),
        broken_exporters(scope, target, span),
        reloads(scope, target, span),
    ]
}

fn stalled_handshakes<'scope, 'env>(
    scope: &'scope Scope<'scope, 'env>,
    target: &'env Target,
    span: &'env Span,
) -> Arc<Attack> {
    let attack = Arc::new(Attack::renewed("stalled handshakes", STALLED_HANDSHAKES, HANDSHAKE));
    let counted = Arc::clone(&attack);
    let hello = client_hello(target.pki.client(BOTH_VERSIONS));
    scope.spawn(move || {
        let (count, round) = (STALLED_HANDSHAKES, HANDSHAKE);
        let make = |number: usize| {
            let mut stream = connect_from(source(1, number % STALLED_SOURCES), target.address())?;
            if number % 2 == 0 {
                stream.write_all(&hello[..hello.len() / 2])?;
            }
            Ok(stream)
        };
        Keeping { span, attack: &counted, count, round }.keep(make, give_up::<TcpStream>);
    });
    attack
}

fn bad_handshakes<'scope, 'env>(
    scope: &'scope Scope<'scope, 'env>,
    target: &'env Target,
    span: &'env Span,
) -> Arc<Attack> {
    let attack = Arc::new(Attack::new("bad handshakes", BAD_HANDSHAKES));
    let stranger = target.pki.stranger(BOTH_VERSIONS);
    let foreign = forge::credentials(Pki::new().ca(), |_| (), &[]);
    let foreign = target.pki.client_with(BOTH_VERSIONS, foreign.chain, &foreign.key);
    let round = Duration::from_secs_f64(3.0 * BAD_THREADS as f64 / BAD_HANDSHAKES);
    for thread in 0..BAD_THREADS {
        for config in [Some(&stranger), Some(&foreign), None] {
            let (config, attack) = (config.cloned(), Arc::clone(&attack));
            scope.spawn(move || {
                let make = |_| {
                    let mut stream = connect_from(source(2, thread), target.address())?;
                    match &config {
                        // In TLS 1.3 the proxy's verdict arrives with the first read, in TLS 1.2
                        // before.
                        Some(config) => {
                            if let Ok(mut client) = Client::over(stream, Arc::clone(config)) {
                                client.read_to_end();
                            }
                        }
                        None => stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n")?,
                    }
                    Ok(())
                };
                Keeping { span, attack: &attack, count: 1, round }.keep(make, give_up::<()>);
            });
        }
    }
    attack
}

fn slow_readers<'scope, 'env>(
    scope: &'scope Scope<'scope, 'env>,
    target: &'env Target,
    span: &'env Span,
) -> Arc<Attack> {
    let attack = Arc::new(Attack::renewed("slow readers", SLOW_READERS, SLOW_LIFE));
    for thread in 0..SLOW_THREADS {
        let attack = Arc::clone(&attack);
        scope.spawn(move || {
            let (count, round) = (SLOW_READERS / SLOW_THREADS, SLOW_PAUSE);
            let make = |_| {
                let mut client = authenticated(target, source(3, thread))?;
                client.send_get(&scrape_target(ENDLESS))?;
                client.read_head()?;
                Ok(client)
            };
            let hold = |client: &mut Client| {
                // The bytes that arrived before a reset could still be read for a long time.
                client.socket().take_error()?.map_or(Ok(()), Err)?;
                client.read_some(SLOW_BYTES).map(drop)
            };
            Keeping { span, attack: &attack, count, round }.keep(make, hold);
        });
    }
    attack
}

fn slowlorises<'scope, 'env>(
    scope: &'scope Scope<'scope, 'env>,
    target: &'env Target,
    span: &'env Span,
) -> Arc<Attack> {
    let attack = Arc::new(Attack::renewed("slowlorises", SLOWLORISES, SLOWLORIS_LIFE));
    let counted = Arc::clone(&attack);
    scope.spawn(move || {
        let (count, round) = (SLOWLORISES, Duration::from_secs(1));
        let make = |_| {
            let mut client = authenticated(target, source(4, 0))?;
            client.send(format!("GET {} HTTP/1.1\r\nX-Slow: ", scrape_target(GOOD)))?;
            Ok(client)
        };
        let hold = |client: &mut Client| client.send("x");
        Keeping { span, attack: &counted, count, round }.keep(make, hold);
    });
    attack
}

fn broken_exporters<'scope, 'env>(
    scope: &'scope Scope<'scope, 'env>,
    target: &'env Target,
    span: &'env Span,
) -> Arc<Attack> {
    // The stalled one takes its timeout of two seconds.
    let attack = Attack::new("scrapes of broken exporters", 0.5 + 5.0);
    let attack = Arc::new(Attack { deceived: Some(AtomicUsize::new(0)), ..attack });
    for (exporter, period) in [(STALLED, 2.0), (RESET, 0.2)] {
        let attack = Arc::clone(&attack);
        scope.spawn(move || {
            for _ in span.beat(Duration::from_secs_f64(period)) {
                let response = authenticated(target, source(5, 0)).and_then(|mut client| {
                    client.send_get(&scrape_target(exporter))?;
                    client.read_response()
                });
                // Without an answer, no scraper can be deceived.
                let Ok(response) = response else { continue };
                attack.count();
                let is_whole = response.head.status == 200 && response.body.is_complete();
                if let Some(deceived) = attack.deceived.as_ref().filter(|_| is_whole) {
                    deceived.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
    }
    attack
}

fn reloads<'scope, 'env>(
    scope: &'scope Scope<'scope, 'env>,
    target: &'env Target,
    span: &'env Span,
) -> Arc<Attack> {
    let attack = Arc::new(Attack::new("reloads", 1.0));
    let counted = Arc::clone(&attack);
    scope.spawn(move || {
        for (number, _) in span.beat(RELOAD).enumerate() {
            target.reload(number);
            counted.count();
        }
    });
    attack
}

/// A client with a valid certificate.
fn authenticated(target: &Target, source: Ipv4Addr) -> io::Result<Client> {
    let stream = connect_from(source, target.address())?;
    Client::over(stream, target.pki.client(BOTH_VERSIONS))
}

/// A loopback address for one attack. 127.0.0.1 belongs to the regular scrapers.
fn source(attack: u8, number: usize) -> Ipv4Addr {
    let number = u8::try_from(number).expect("few addresses an attack");
    Ipv4Addr::new(127, 0, attack, number + 1)
}

/// The first flight of a TLS handshake.
fn client_hello(config: Arc<ClientConfig>) -> Vec<u8> {
    let name = ServerName::try_from("localhost").expect("a name");
    let mut tls = ClientConnection::new(config, name).expect("a configuration that works");
    let mut hello = Vec::new();
    tls.write_tls(&mut hello).expect("into memory");
    hello
}
