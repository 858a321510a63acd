//! Those for whom the proxy is there: one scrape each 100 ms, over a new and over a kept connection.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    thread::Scope,
    time::{Duration, Instant},
};

use crate::{
    fortress::{CONTROL, Fortress, GOOD, target},
    support::{
        body::{Body, Kind},
        client::{Client, Response},
        pki::BOTH_VERSIONS,
    },
    time::Siege,
};

const PERIOD: Duration = Duration::from_millis(100);

/// How the scrapes of one scraper went.
#[derive(Debug)]
pub(crate) struct Scraper {
    pub(crate) name: &'static str,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// From when a scrape was due to its last byte: one that is slow makes the next ones late.
    times: Vec<Duration>,
    failures: Vec<String>,
}

impl Scraper {
    fn new(name: &'static str) -> Arc<Self> {
        Arc::new(Self { name, state: Mutex::default() })
    }

    fn count(&self, siege: &Siege, due: Instant, scraped: io::Result<()>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match scraped {
            Ok(()) => state.times.push(due.elapsed()),
            Err(error) => {
                let at = siege.elapsed().as_secs_f64();
                state.failures.push(format!("after {at:.1} s: {error}"));
            }
        }
    }

    /// The times of those that succeeded, shortest first, and what went wrong with the others.
    pub(crate) fn outcome(&self) -> (Vec<Duration>, Vec<String>) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut times = state.times.clone();
        times.sort_unstable();
        (times, state.failures.clone())
    }
}

/// Sends both.
pub(crate) fn send<'scope, 'env>(
    scope: &'scope Scope<'scope, 'env>,
    fortress: &'env Fortress,
    siege: &'env Siege,
) -> [Arc<Scraper>; 2] {
    let (anew, kept) = (Scraper::new("a new connection"), Scraper::new("a kept connection"));
    let counted = Arc::clone(&anew);
    scope.spawn(move || {
        for due in siege.beat(PERIOD) {
            let scraped = connect(fortress).and_then(|mut client| scrape(&mut client));
            counted.count(siege, due, scraped);
        }
    });
    let counted = Arc::clone(&kept);
    scope.spawn(move || {
        let mut connection = None;
        for due in siege.beat(PERIOD) {
            let scraped = connection.take().map_or_else(|| connect(fortress), Ok).and_then(
                |mut client: Client| {
                    scrape(&mut client)?;
                    connection = Some(client);
                    Ok(())
                },
            );
            counted.count(siege, due, scraped);
        }
    });
    [anew, kept]
}

fn connect(fortress: &Fortress) -> io::Result<Client> {
    Client::connect(fortress.address(), fortress.pki.client(BOTH_VERSIONS))
}

fn scrape(client: &mut Client) -> io::Result<()> {
    client.send_get(&target(GOOD))?;
    let Response { head, body } = client.read_response()?;
    let is_right = body.is_complete() && body.sha256 == Body::sha256(Kind::Text, CONTROL);
    if head.status == 200 && is_right {
        return Ok(());
    }
    let (status, reason, end) = (head.status, head.reason, body.end);
    Err(io::Error::other(format!("{status} {reason}, {end:?}")))
}
