//! Checks of passwords against a bcrypt hash. Each takes a quarter of a second of CPU time. The
//! checks of strangers must not delay a scraper whose password was accepted before.

use std::{
    io,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use scrapegate_harness::{
    EndOnDrop,
    client::{Client, Response},
    metrics::Samples,
};

use crate::{Setup, report};

/// The usual cost of bcrypt.
const COST: u32 = 12;

/// Number of connections that guess passwords.
const GUESSERS: usize = 60;

/// Number of scrapes during the guesses.
const SCRAPES: usize = 30;

fn setup() -> Setup {
    let hash = bcrypt::hash("secret", COST).expect("a hash");
    Setup::with_auth(&format!("user:{hash}"))
}

fn request(target: &str, credentials: &str) -> String {
    let token = STANDARD.encode(credentials);
    format!("GET {target} HTTP/1.1\r\nHost: h\r\nAuthorization: Basic {token}\r\n\r\n")
}

fn ask(client: &mut Client, target: &str, credentials: &str) -> io::Result<Response> {
    client.send(request(target, credentials))?;
    client.read_response()
}

fn scrape(client: &mut Client, credentials: &str) -> io::Result<Response> {
    ask(client, "/prometheus?exporter=e", credentials)
}

#[track_caller]
fn assert_accepts(client: &mut Client) -> Duration {
    let begun = Instant::now();
    let response = scrape(client, "user:secret").expect("an answer");
    let took = begun.elapsed();
    let expected = (200, 100);
    assert_eq!((response.head.status, response.body.bytes), expected, "{took:?}: {response:?}");
    took
}

#[test]
fn f05_a_known_scraper_is_answered_at_once_while_sixty_connections_guess_passwords() {
    let setup = setup();
    let mut scraper = setup.connect();
    assert_accepts(&mut scraper);
    let over = AtomicBool::new(false);
    let [asked, wrong, full] = [const { AtomicUsize::new(0) }; 3];
    let (slowest, cores) = thread::scope(|scope| {
        let _end = EndOnDrop(&over);
        for guesser in 0..GUESSERS {
            let (setup, over) = (&setup, &over);
            let (asked, wrong, full) = (&asked, &wrong, &full);
            scope.spawn(move || {
                let mut client = setup.connect();
                let mut number = 0;
                while !over.load(Ordering::Relaxed) {
                    number += 1;
                    let guess = format!("user:{guesser}-{number}");
                    client.send(request("/prometheus?exporter=e", &guess)).expect("sent");
                    asked.fetch_add(1, Ordering::Relaxed);
                    let Response { head, .. } = client.read_response().expect("an answer");
                    if head.status == 401 {
                        wrong.fetch_add(1, Ordering::Relaxed);
                        continue;
                    }
                    assert_eq!(head.status, 503, "{head:?}");
                    assert!(head.reason.contains("password check"), "{head:?}");
                    assert_eq!(head.header("retry-after"), Some("1"));
                    full.fetch_add(1, Ordering::Relaxed);
                    // The pause of a client before it tries again.
                    thread::sleep(Duration::from_millis(200));
                }
            });
        }
        // The queue is full as soon as each of these connections has a request. Polls the counter.
        while asked.load(Ordering::Relaxed) < GUESSERS {
            thread::sleep(Duration::from_millis(10));
        }
        let (begun, cpu) = (Instant::now(), setup.proxy.cpu_time());
        let mut times = Vec::new();
        for number in 0..SCRAPES {
            // Some scrapes use a new connection.
            if number % 3 == 2 {
                scraper = setup.connect();
            }
            times.push(assert_accepts(&mut scraper));
            // Spreads the scrapes over several password checks.
            thread::sleep(Duration::from_millis(100));
        }
        let cores = (setup.proxy.cpu_time() - cpu).as_secs_f64() / begun.elapsed().as_secs_f64();
        (times.into_iter().max().unwrap_or_default(), cores)
    });
    report(&format!(
        "F05: slowest of {SCRAPES} scrapes {:.3} s, {cores:.2} cores, {} guesses refused and {} \
         turned away",
        slowest.as_secs_f64(),
        wrong.load(Ordering::Relaxed),
        full.load(Ordering::Relaxed),
    ));
    // A check takes at least a quarter of a second. If the scrape had to wait for 32 checks, it
    // would take at least 8 s.
    assert!(slowest < Duration::from_secs(3), "{slowest:?} for a scrape");
    // One core for the checks, and some time for requests and handshakes.
    assert!(cores < 1.6, "{cores:.2} cores");
    assert!(wrong.load(Ordering::Relaxed) > 0, "no guess was checked");
    assert!(full.load(Ordering::Relaxed) > 0, "the queue was never full");
    let lines = setup.proxy.log_lines();
    let blamed = lines.iter().filter(|line| line.contains("\"blame\":\"exporter\""));
    assert_eq!(blamed.count(), 0, "{lines:#?}");
}

/// The number of requests that were refused for this reason.
fn rejected(samples: &Samples, reason: &str) -> f64 {
    samples.value(&format!("scrapegate_http_rejected_total{{reason=\"{reason}\"}}"))
}

/// The CPU time of one check of a wrong password. Several, because other programs that run
/// meanwhile make a check more expensive.
fn checks_of_a_wrong_password(setup: &Setup, scraper: &mut Client) -> [Duration; 3] {
    std::array::from_fn(|number| {
        let begun = setup.proxy.cpu_time();
        let answer = ask(scraper, "/metrics", &format!("user:a guess, number {number}"));
        assert_eq!(answer.expect("an answer").head.status, 401);
        setup.proxy.cpu_time() - begun
    })
}

#[test]
fn f05_guesses_whose_clients_leave_are_counted_and_not_checked() {
    const GUESSES: u32 = 150;
    const BATCHES: u32 = 5;
    let setup = setup();
    let mut scraper = setup.connect();
    assert_accepts(&mut scraper);
    let before = Samples::parse(&page(&mut scraper));
    let begun = setup.proxy.cpu_time();
    let mut checks = checks_of_a_wrong_password(&setup, &mut scraper).to_vec();
    // No more at once than the queue holds, so that none is turned away.
    let mut stayed = Duration::ZERO;
    for batch in 0..BATCHES {
        let mut clients: Vec<_> = (0..GUESSES / BATCHES).map(|_| setup.connect()).collect();
        let sent = Instant::now();
        for (number, client) in clients.iter_mut().enumerate() {
            client.send(request("/metrics", &format!("user:{batch}-{number}"))).expect("sent");
        }
        Client::wait_until_all_read(&clients);
        drop(clients);
        stayed += sent.elapsed();
    }
    setup.proxy.assert_logged("request refused", u64::from(GUESSES) + checks.len() as u64);
    // Checks run in the order of arrival, so afterwards no check of a guess waits.
    checks.extend(checks_of_a_wrong_password(&setup, &mut scraper));
    let spent = setup.proxy.cpu_time() - begun;
    checks.sort();
    let samples = Samples::parse(&page(&mut scraper));
    let reasons = ["unauthorized", "left_unchecked", "password_queue_full", "password_too_late"];
    let [answered, left, full, late] =
        reasons.map(|reason| rejected(&samples, reason) - rejected(&before, reason));
    let wrong = answered - checks.len() as f64;
    report(&format!(
        "F05: of {GUESSES} guesses {left} left unchecked, {wrong} were wrong, {full} turned away, \
         {late} too late, {spent:?} of CPU, {stayed:?} for sending, {checks:?} for a check"
    ));
    assert_eq!(wrong + left + full + late, f64::from(GUESSES));
    let (cheapest, usual) = (checks[0], checks[checks.len() / 2]);
    // One check runs at a time, so a slow machine can do this many before the clients leave. The
    // check that has begun when they leave is finished.
    let most_answered = stayed.as_secs_f64() / cheapest.as_secs_f64() + 2.0 * f64::from(BATCHES);
    assert!(left > 0.0 && wrong + full <= most_answered, "{left} of {GUESSES} left");
    // If the guesses of clients that left were checked, each would cost a check. Half of that is
    // more than the handshakes of all guesses cost.
    let most_checks = checks.len() as f64 + wrong + late + f64::from(BATCHES) + left / 2.0;
    let most = usual.as_secs_f64() * most_checks;
    assert!(spent.as_secs_f64() < most, "{spent:?}, but at most {most_checks} checks");
}

/// The proxy's own metrics.
fn page(scraper: &mut Client) -> String {
    ask(scraper, "/metrics", "user:secret").expect("an answer").body.text()
}
