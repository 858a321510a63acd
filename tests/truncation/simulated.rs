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

use scrapegate::{
    common::compression::ContentCoding,
    scrape::transform::TransformRules,
    upstream::{self, Connector},
};
use scrapegate_harness::{
    client::Response,
    decoder::Decoded,
    in_memory::{
        Proxy,
        scripted::{Log, Stream, look},
    },
    testbed::Then,
};
use tokio::runtime::Builder;

use crate::{
    answers::Answer,
    deaths::{Chain, Death, ENDS, Moment, Reader, Tally},
    streams,
};

/// The minimum number of deaths.
const LEAST: usize = 100_000;

/// The minimum number of deaths with each chain of transforms.
const LEAST_TRANSFORMED: usize = 4_000;

/// Number of positions at which a response is cut on its way to transforms.
const PLACES: usize = 12;

/// The minimum number of deaths after many compressed blocks, with each chain.
const LEAST_LATE: usize = 100;

/// Number of positions at which a response of many compressed blocks is cut.
const LATE_PLACES: usize = 2;

/// Some bodies are cut after at least this many compressed bytes: several blocks of the proxy, which
/// have 16 KiB.
const MANY_BLOCKS: u64 = 64 * 1024;

const REQUEST: &[u8] = b"GET /prometheus?exporter=n HTTP/1.1\r\nHost: h\r\n\r\n";

/// A scraper with [`Reader::Asleep`] cannot receive longer responses completely.
const LONG: usize = 16 * 1024;

/// All deaths with this response and these transforms.
fn deaths_of(answer: &Answer, chain: Chain) -> Vec<Death<'_>> {
    let mut deaths = Vec::new();
    let mut add = |places: &[usize], moments: &[Moment], readers: &[Reader]| {
        for &cut in places {
            for then in ENDS {
                for &moment in moments {
                    deaths.extend(readers.iter().map(|&reader| Death {
                        answer,
                        cut,
                        then,
                        moment,
                        reader,
                        chain,
                    }));
                }
            }
        }
    };
    let places = if chain == Chain::Empty { answer.places() } else { answer.some_places(PLACES) };
    add(&places, &[Moment::AtOnce, Moment::Later], &[Reader::Fast, Reader::Slow]);
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
    fn new(chain: Chain) -> Self {
        let next = Arc::new(Mutex::new(None));
        let slot = Arc::clone(&next);
        let connector = Connector::other(move |_| {
            let exporter: Option<Stream> =
                slot.lock().unwrap_or_else(PoisonError::into_inner).take();
            exporter
                .map(upstream::Stream::other)
                .ok_or_else(|| io::ErrorKind::ConnectionRefused.into())
        });
        let transforms = TransformRules::new(move |_| chain.transforms());
        Self { proxy: Proxy::transforming([chain.exporter()], connector, transforms), next }
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
    let delivered = death.output().len() as u64;
    if falls_silent && death.reader == Reader::Fast && delivered > 0 {
        let passed_on = received.map_or(0, |response| match death.chain.coding() {
            Some(coding) => Decoded::of(coding, &response.body.start).bytes.len() as u64,
            None => response.body.bytes,
        });
        assert_eq!(passed_on, delivered, "{}", death.story());
    }
}

/// Runs all deaths with these transforms.
fn run_all(chain: Chain) -> Tally {
    let answers = chain.answers();
    run(chain, &usable_deaths(&answers, chain))
}

/// All deaths with these responses, except those that would take too long.
fn usable_deaths(answers: &[Answer], chain: Chain) -> Vec<Death<'_>> {
    // Without optimization, doubling a long body takes longer than everything else.
    let is_usable = |answer: &&Answer| match chain {
        Chain::Doubling => answer.body.len() <= LONG,
        // Longer ones are cut at fewer places.
        Chain::Compressed(_) | Chain::FilterCompressed(_) => answer.body.len() <= 64 * 1024,
        Chain::Empty | Chain::Identity | Chain::Hoarding | Chain::Filter => true,
    };
    let usable = answers.iter().filter(is_usable);
    usable.flat_map(|answer| deaths_of(answer, chain)).collect()
}

/// Runs these deaths.
fn run(chain: Chain, deaths: &[Death<'_>]) -> Tally {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut builder = Builder::new_current_thread();
        let runtime = builder.enable_time().start_paused(true).build().expect("a runtime");
        runtime.block_on(async {
            let (simulation, mut tally) = (Simulation::new(chain), Tally::default());
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
    tally
}

/// U11, U12, U13, U21, U27.
#[test]
fn a_scraper_receives_a_complete_response_if_and_only_if_the_exporter_delivered_one_in_time() {
    run_all(Chain::Empty).conclude("in memory", LEAST);
}

/// U11, U12, U13, U21, U27.
#[test]
fn a_filter_never_makes_a_truncated_body_complete_nor_a_complete_one_truncated() {
    run_all(Chain::Filter).conclude("in memory, with a filter", LEAST_TRANSFORMED);
    for chain in [ContentCoding::Zstd, ContentCoding::Gzip].map(Chain::FilterCompressed) {
        run_all(chain).conclude(&format!("in memory, {chain:?}"), LEAST_TRANSFORMED);
    }
}

/// U11, U12, U13, U21, U27.
#[test]
fn a_transform_never_makes_a_truncated_body_complete_nor_a_complete_one_truncated() {
    let compressed = [ContentCoding::Zstd, ContentCoding::Gzip].map(Chain::Compressed);
    for chain in [Chain::Identity, Chain::Doubling, Chain::Hoarding].into_iter().chain(compressed) {
        run_all(chain).conclude(&format!("in memory, {chain:?}"), LEAST_TRANSFORMED);
    }
}

/// U11, U12, U13, U21.
#[test]
fn a_body_that_is_cut_after_many_compressed_blocks_is_never_complete() {
    let codings = [ContentCoding::Zstd, ContentCoding::Gzip];
    for chain in
        codings.into_iter().flat_map(|it| [Chain::Compressed(it), Chain::FilterCompressed(it)])
    {
        let answers = Answer::of_many_blocks(chain.filters());
        let mut deaths = Vec::new();
        for answer in &answers {
            for cut in answer.late_places(LATE_PLACES) {
                for then in ENDS {
                    let (moment, reader) = (Moment::AtOnce, Reader::Fast);
                    let at_once = Death { answer, cut, then, moment, reader, chain };
                    let later = Death { moment: Moment::Later, reader: Reader::Slow, ..at_once };
                    deaths.extend([at_once, later]);
                }
            }
        }
        let tally = run(chain, &deaths);
        tally.conclude(&format!("in memory, {chain:?}, many blocks"), LEAST_LATE);
        assert!(tally.longest_cut() >= MANY_BLOCKS, "{chain:?}: {}", tally.longest_cut());
    }
}
