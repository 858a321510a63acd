//! Deaths in memory, with a paused clock. Everything except sockets and TLS is the proxy's own
//! code.

use std::{
    io,
    num::NonZeroUsize,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use scrapegate::upstream::{self, Connector};
use scrapegate_harness::{
    client::Response,
    in_memory::{
        Proxy,
        scripted::{Log, Stream, look},
    },
    testbed::Then,
};
use tokio::runtime::Builder;

use crate::{
    answers::Answer,
    deaths::{Death, ENDS, Moment, Reader, Tally},
    streams,
};

/// The minimum number of deaths.
const LEAST: usize = 100_000;

const REQUEST: &[u8] = b"GET /prometheus?exporter=n HTTP/1.1\r\nHost: h\r\n\r\n";

/// A scraper with [`Reader::Asleep`] cannot receive longer responses completely.
const LONG: usize = 16 * 1024;

/// All deaths with this response.
fn deaths_of(answer: &Answer) -> Vec<Death<'_>> {
    let mut deaths = Vec::new();
    let mut add = |places: &[usize], moments: &[Moment], readers: &[Reader]| {
        for &cut in places {
            for then in ENDS {
                for &moment in moments {
                    let all =
                        readers.iter().map(|&reader| Death { answer, cut, then, moment, reader });
                    deaths.extend(all);
                }
            }
        }
    };
    add(&answer.places(), &[Moment::AtOnce, Moment::Later], &[Reader::Fast, Reader::Slow]);
    let some = answer.some_places(10);
    add(&some, &[Moment::JustInTime, Moment::TooLate], &[Reader::Fast]);
    if answer.body.len() > LONG {
        let end = [answer.bytes.len()];
        add(&end, &[Moment::AtOnce, Moment::Later], &[Reader::Asleep]);
    }
    deaths
}

/// One proxy. Its connector takes the exporter for the next connection out of `next`.
struct Simulation {
    proxy: Proxy,
    next: Arc<Mutex<Option<Stream>>>,
}

impl Simulation {
    fn new() -> Self {
        let next = Arc::new(Mutex::new(None));
        let slot = Arc::clone(&next);
        let connector = Connector::other(move |_| {
            let exporter: Option<Stream> =
                slot.lock().unwrap_or_else(PoisonError::into_inner).take();
            exporter
                .map(upstream::Stream::other)
                .ok_or_else(|| io::ErrorKind::ConnectionRefused.into())
        });
        Self { proxy: Proxy::new(connector), next }
    }

    async fn run(&self, death: &Death<'_>) -> io::Result<Response> {
        *self.next.lock().unwrap_or_else(PoisonError::into_inner) = Some(streams::exporter(death));
        let scraper = streams::scraper(REQUEST, death);
        let log = scraper.log();
        self.proxy.serve(scraper).await;
        read(&look(&log))
    }
}

/// Parses the received bytes. They end with the connection, either in order or by an abort.
fn read(log: &Log) -> io::Result<Response> {
    if log.shut_down {
        return Response::read(&mut &log.written[..]);
    }
    Response::read(&mut io::BufReader::new(io::Read::chain(&log.written[..], Torn)))
}

/// A connection that ends without close_notify.
struct Torn;

impl io::Read for Torn {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}

/// Asserts that the proxy passes on all bytes of an exporter that stalls.
fn assert_nothing_is_held_back(death: &Death<'_>, received: Option<&Response>) {
    let falls_silent = death.then == Then::Stall && death.moment == Moment::Later;
    let delivered = death.answer.delivered(death.cut).len() as u64;
    if falls_silent && death.reader == Reader::Fast && delivered > 0 {
        let passed_on = received.map_or(0, |response| response.body.bytes);
        assert_eq!(passed_on, delivered, "{}", death.story());
    }
}

/// U11, U12, U13, U21, U27.
#[test]
fn a_scraper_receives_a_complete_response_if_and_only_if_the_exporter_delivered_one_in_time() {
    let answers = Answer::all();
    let deaths: Vec<_> = answers.iter().flat_map(deaths_of).collect();
    let next = AtomicUsize::new(0);
    let work = || {
        let mut builder = Builder::new_current_thread();
        let runtime = builder.enable_time().start_paused(true).build().expect("a runtime");
        runtime.block_on(async {
            let (simulation, mut tally) = (Simulation::new(), Tally::default());
            while let Some(death) = deaths.get(next.fetch_add(1, Ordering::Relaxed)) {
                let received = simulation.run(death).await;
                assert_nothing_is_held_back(death, received.as_ref().ok());
                tally.count(death, received);
            }
            tally
        })
    };
    let mut tally = Tally::default();
    thread::scope(|scope| {
        let threads = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            tally.add(worker.join().expect("a worker that did not panic"));
        }
    });
    tally.conclude("in memory", LEAST);
}
