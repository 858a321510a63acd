//! The scrapers, and clients that only disturb. Each acts at a steady rate on its own thread.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    sync::Arc,
    thread::Scope,
    time::Duration,
};

use rustls::{
    AlertDescription, ClientConfig, SupportedProtocolVersion,
    version::{TLS12, TLS13},
};
use scrapegate_harness::{
    PATIENCE,
    body::{Body, Kind},
    client::{Client, Response, alert_in},
    pki::BOTH_VERSIONS,
    trial::{span::Span, tally::Tally},
};

use crate::site::Site;

/// A participant: its plan and its results.
#[derive(Debug)]
pub(crate) struct Scraper {
    pub(crate) plan: &'static Plan,
    pub(crate) tally: Arc<Tally>,
}

/// What a participant does, how often, and what must come of it. See [`PLANS`].
#[derive(Debug)]
pub(crate) struct Plan {
    name: &'static str,
    /// Actions per second.
    pub(crate) rate: f64,
    act: Act,
}

#[derive(Debug)]
enum Act {
    /// Scrapes this number of bytes from a working exporter.
    Scrape { exporter: &'static str, bytes: u64, over: Over },
    /// Scrapes a faulty exporter. Expects the status, or 200 and an incomplete body.
    Fault { target: &'static str, status: u16, outcome: &'static str },
    /// Begins to read a body and leaves.
    Leave,
    /// Connects with the certificate of another CA.
    Stranger,
    /// Sends bytes that are not TLS.
    Noise,
}

/// The connection of a scrape.
#[derive(Debug)]
enum Over {
    /// One connection, as long as it lasts.
    Kept(&'static SupportedProtocolVersion),
    /// A new connection for each scrape.
    New(&'static SupportedProtocolVersion),
}

/// How the proxy must count an action: as a scrape with this outcome, or as a handshake with this
/// result.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Counted {
    Scrape(&'static str),
    Handshake(&'static str),
}

/// All plans: fifty scrapes a second, and two participants that do not scrape.
const PLANS: &[Plan] = &[
    scrape("20 kB, kept, TLS 1.3", 11.0, "chunked", 20_000, Over::Kept(&TLS13)),
    scrape("20 kB, new, TLS 1.3", 8.0, "chunked", 20_000, Over::New(&TLS13)),
    scrape("20 kB, new, TLS 1.2", 4.0, "chunked", 20_000, Over::New(&TLS12)),
    scrape("200 kB of a Unix socket, kept, TLS 1.2", 8.0, "plain", 200_000, Over::Kept(&TLS12)),
    scrape("200 kB over https, kept, TLS 1.3", 6.0, "encrypted", 200_000, Over::Kept(&TLS13)),
    scrape("4 MB, kept, TLS 1.3", 2.0, "chunked", 4_000_000, Over::Kept(&TLS13)),
    scrape("4 MB of a Unix socket, new, TLS 1.3", 1.0, "plain", 4_000_000, Over::New(&TLS13)),
    fault("exporter down", 2.0, "down", 502, "exporter_refused"),
    fault("exporter closes", 1.0, "faulty&fault=close", 502, "exporter_closed"),
    fault("exporter resets", 1.0, "faulty&fault=reset", 502, "exporter_reset"),
    fault("exporter speaks no HTTP", 1.0, "faulty&fault=garbage", 502, "exporter_garbage"),
    fault("exporter stalls", 0.5, "stalling&fault=stall", 504, "exporter_first_byte_timeout"),
    fault(
        "exporter closes in the body",
        1.0,
        "faulty&fault=close-in-body",
        502,
        "exporter_cut_short",
    ),
    fault("exporter resets in the body", 1.0, "faulty&fault=reset-in-body", 502, "exporter_reset"),
    fault(
        "exporter breaks the framing",
        1.0,
        "faulty&fault=garbage-in-body",
        502,
        "exporter_garbage",
    ),
    fault(
        "exporter stalls in the body",
        0.5,
        "stalling&fault=stall-in-body",
        504,
        "deadline_exporter",
    ),
    Plan { name: "scraper leaves in the body", rate: 1.0, act: Act::Leave },
    Plan { name: "stranger's certificate", rate: 2.0, act: Act::Stranger },
    Plan { name: "no TLS", rate: 1.0, act: Act::Noise },
];

const fn scrape(
    name: &'static str,
    rate: f64,
    exporter: &'static str,
    bytes: u64,
    over: Over,
) -> Plan {
    Plan { name, rate, act: Act::Scrape { exporter, bytes, over } }
}

const fn fault(
    name: &'static str,
    rate: f64,
    target: &'static str,
    status: u16,
    outcome: &'static str,
) -> Plan {
    Plan { name, rate, act: Act::Fault { target, status, outcome } }
}

impl Plan {
    /// How the proxy must count each action.
    pub(crate) fn counted(&self) -> Counted {
        match self.act {
            Act::Scrape { .. } => Counted::Scrape("complete"),
            Act::Fault { outcome, .. } => Counted::Scrape(outcome),
            Act::Leave => Counted::Scrape("scraper_gone"),
            Act::Stranger => Counted::Handshake("bad_certificate"),
            Act::Noise => Counted::Handshake("protocol"),
        }
    }

    /// Whether the duration of this action is meaningful.
    pub(crate) fn is_scrape(&self) -> bool {
        matches!(self.act, Act::Scrape { .. })
    }
}

/// Starts all participants.
pub(crate) fn send<'scope, 'env>(
    scope: &'scope Scope<'scope, 'env>,
    site: &'env Site,
    span: &'env Span,
) -> Vec<Arc<Scraper>> {
    let send = |plan: &'static Plan| {
        let scraper = Arc::new(Scraper { plan, tally: Tally::new(plan.name) });
        let counted = Arc::clone(&scraper.tally);
        scope.spawn(move || {
            let mut actor = Actor::of(plan, site);
            for due in span.beat(Duration::from_secs_f64(1.0 / plan.rate)) {
                counted.count(span, due, actor.act());
            }
        });
        scraper
    };
    PLANS.iter().map(send).collect()
}

/// A participant that follows its plan.
struct Actor<'a> {
    plan: &'static Plan,
    site: &'a Site,
    config: Arc<ClientConfig>,
    /// The digest of the expected body.
    sha256: String,
    connection: Option<Client>,
}

impl<'a> Actor<'a> {
    fn of(plan: &'static Plan, site: &'a Site) -> Self {
        let (config, bytes) = match &plan.act {
            Act::Scrape { bytes, over: Over::Kept(version) | Over::New(version), .. } => {
                (site.pki.client(&[version]), *bytes)
            }
            Act::Stranger => {
                let foreign = scrapegate_harness::forge::self_signed();
                (site.pki.client_with(BOTH_VERSIONS, foreign.chain, &foreign.key), 0)
            }
            Act::Fault { .. } | Act::Leave | Act::Noise => (site.pki.client(BOTH_VERSIONS), 0),
        };
        let sha256 = Body::sha256(Kind::Text, bytes);
        Self { plan, site, config, sha256, connection: None }
    }

    fn act(&mut self) -> io::Result<()> {
        match &self.plan.act {
            Act::Scrape { exporter, bytes, over } => {
                let mut client = self.connection.take().map_or_else(|| self.connect(), Ok)?;
                let response = ask(&mut client, &format!("{exporter}&bytes={bytes}"))?;
                let is_whole = response.body.is_complete() && response.body.sha256 == self.sha256;
                if response.head.status != 200 || !is_whole {
                    return Err(unexpected(&response));
                }
                if matches!(over, Over::Kept(_)) {
                    self.connection = Some(client);
                }
                Ok(())
            }
            Act::Fault { target, status, .. } => {
                // A response that was cut short has ended its connection.
                let mut client = self.connection.take().map_or_else(|| self.connect(), Ok)?;
                let response = ask(&mut client, target)?;
                match (response.head.status, response.body.is_complete()) {
                    (refused, true) if refused == *status => self.connection = Some(client),
                    (200, false) => {}
                    _ => return Err(unexpected(&response)),
                }
                Ok(())
            }
            Act::Leave => {
                let mut client = self.connect()?;
                client.send_get("/prometheus?exporter=endless")?;
                match client.read_head()?.status {
                    200 => Ok(()),
                    status => Err(io::Error::other(format!("{status}"))),
                }
            }
            // In TLS 1.3 the proxy's verdict arrives with the first read, in TLS 1.2 before.
            Act::Stranger => {
                match self.connect().and_then(|mut client| ask(&mut client, "chunked")) {
                    Ok(response) => Err(unexpected(&response)),
                    Err(error) if alert_in(&error) == Some(AlertDescription::UnknownCA) => Ok(()),
                    Err(error) => Err(error),
                }
            }
            Act::Noise => {
                let mut stream = TcpStream::connect(self.site.address())?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.write_all(b"GET /prometheus HTTP/1.1\r\nHost: h\r\n\r\n")?;
                let mut answer = Vec::new();
                match stream.read_to_end(&mut answer) {
                    // At most a TLS alert, which has seven bytes.
                    Ok(0..=7) => Ok(()),
                    Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(()),
                    Ok(_) | Err(_) => Err(io::Error::other("an answer to plain HTTP, or no end")),
                }
            }
        }
    }

    fn connect(&self) -> io::Result<Client> {
        Client::connect(self.site.address(), Arc::clone(&self.config))
    }
}

fn ask(client: &mut Client, exporter: &str) -> io::Result<Response> {
    client.send_get(&format!("/prometheus?exporter={exporter}"))?;
    client.read_response()
}

fn unexpected(response: &Response) -> io::Error {
    let Response { head, body } = response;
    io::Error::other(format!("{} {}, {:?}", head.status, head.reason, body.end))
}
