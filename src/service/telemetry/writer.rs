//! A queue of formatted log records, and the thread that writes them.
//!
//! Standard error can be a pipe, a socket or a terminal that nobody reads. A write to it then
//! blocks forever. Therefore only one thread writes to it. A record that does not fit into the
//! queue is dropped and counted. `tracing-appender` has a similar writer, but it panics if the
//! system refuses a thread, does not limit the bytes in its queue, and does not log the number of
//! lost records.

use std::{
    collections::VecDeque,
    io::{self, Write},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use prometheus_client::metrics::counter::Counter;
use tracing_subscriber::fmt::MakeWriter;

/// Limit for the bytes in the queue. Enough for about 3000 scrapes.
const MAX_BYTES: usize = 1 << 20;

/// Limit for the records in the queue. Each record uses at least [`NOT_CACHED`] bytes of memory.
const MAX_RECORDS: usize = 4096;

/// Size of a block, in bytes, that glibc frees at once. The log's thread would cache smaller blocks
/// that a worker has allocated, and the heap of the worker could not shrink below them (see
/// `service::workers::at_rest`).
const NOT_CACHED: usize = 1040;

/// Pause before a write is repeated, if standard error is non-blocking and full. A process that
/// shares it may have made it non-blocking.
const RETRY: Duration = Duration::from_millis(10);

/// When the process ends, time limit for writing one record. The others are then lost.
const FLUSH_STALL: Duration = Duration::from_millis(100);

/// When the process ends, time limit for writing all records.
const FLUSH_LIMIT: Duration = Duration::from_secs(1);

/// Takes records without waiting. Clones share the queue.
#[derive(Clone, Debug, Default)]
pub(super) struct LogQueue(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    /// Tells the writer that a record arrived.
    arrived: Condvar,
    /// Tells `flush` that a record is done, or that the writer is idle.
    progress: Condvar,
    dropped: Counter,
}

#[derive(Debug, Default)]
struct Queue {
    records: VecDeque<Vec<u8>>,
    /// The sum of the lengths of `records`.
    bytes: usize,
    /// Number of records that the writer has written or failed to write.
    done: u64,
    /// Number of dropped records that have not been reported yet.
    unreported: u64,
    /// The writer is waiting for a record.
    is_idle: bool,
}

impl Queue {
    fn takes(&self, length: usize) -> bool {
        self.records.len() < MAX_RECORDS && self.bytes + length <= MAX_BYTES
    }

    /// Whether at most half of the queue is in use, so that standard error is being read again.
    fn has_room(&self) -> bool {
        self.records.len() <= MAX_RECORDS / 2 && self.bytes <= MAX_BYTES / 2
    }
}

impl LogQueue {
    /// Starts the thread that writes the queued records to standard error.
    ///
    /// # Errors
    /// If the system refuses the thread or, on Unix, a file descriptor.
    pub(super) fn start() -> io::Result<Self> {
        let queue = Self::default();
        // Not enlarged later, on a worker: the heap of the worker could not shrink below it.
        queue.lock().records.reserve_exact(MAX_RECORDS);
        let out = standard_error()?;
        let writer = queue.clone();
        thread::Builder::new().name("log".to_owned()).spawn(move || {
            writer.write_to(out, |dropped| {
                tracing::warn!(
                    dropped,
                    "log records dropped, because standard error was not read in time"
                );
            });
        })?;
        Ok(queue)
    }

    /// Number of dropped records.
    pub(super) fn dropped(&self) -> Counter {
        self.0.dropped.clone()
    }

    /// Waits until all records are written. Gives up if no record is written within
    /// [`FLUSH_STALL`], or after [`FLUSH_LIMIT`].
    pub(super) fn flush(&self) {
        let begun = Instant::now();
        let mut queue = self.lock();
        while !(queue.is_idle && queue.records.is_empty()) {
            let done = queue.done;
            let limit = FLUSH_STALL.min(FLUSH_LIMIT.saturating_sub(begun.elapsed()));
            let stuck = |queue: &mut Queue| queue.done == done && !queue.is_idle;
            let waited = self.0.progress.wait_timeout_while(queue, limit, stuck);
            let (now, outcome) = waited.unwrap_or_else(PoisonError::into_inner);
            if outcome.timed_out() {
                return;
            }
            queue = now;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, record: &[u8]) {
        let mut queue = self.lock();
        if queue.takes(record.len()) {
            queue.bytes += record.len();
            let mut copy = Vec::with_capacity(record.len().max(NOT_CACHED));
            copy.extend_from_slice(record);
            queue.records.push_back(copy);
            if std::mem::take(&mut queue.is_idle) {
                self.0.arrived.notify_one();
            }
        } else {
            queue.unreported += 1;
            drop(queue);
            self.0.dropped.inc();
        }
    }

    /// Writes records forever. `report` logs how many records were dropped.
    fn write_to(&self, out: impl Write, report: impl Fn(u64)) {
        let mut lines = Lines { out, is_broken: false };
        loop {
            let record = self.next();
            let written = lines.write(&record);
            if let Some(dropped) = self.finish(written.is_ok()) {
                report(dropped);
            }
        }
    }

    fn next(&self) -> Vec<u8> {
        let mut queue = self.lock();
        loop {
            if let Some(record) = queue.records.pop_front() {
                queue.bytes -= record.len();
                return record;
            }
            queue.is_idle = true;
            self.0.progress.notify_all();
            let waiting = |queue: &mut Queue| queue.records.is_empty();
            let woken = self.0.arrived.wait_while(queue, waiting);
            queue = woken.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Marks a record as done. Returns the number of dropped records to report, once standard error
    /// is being read again.
    fn finish(&self, written: bool) -> Option<u64> {
        let mut queue = self.lock();
        queue.done += 1;
        let dropped = if written && queue.has_room() {
            std::mem::take(&mut queue.unreported)
        } else {
            queue.unreported += u64::from(!written);
            0
        };
        drop(queue);
        self.0.progress.notify_all();
        if !written {
            self.0.dropped.inc();
        }
        (dropped > 0).then_some(dropped)
    }
}

/// Standard error without the lock of the standard library, because a blocked write would hold it.
#[cfg(unix)]
fn standard_error() -> io::Result<impl Write + Send + 'static> {
    use std::os::fd::AsFd as _;
    io::stderr().as_fd().try_clone_to_owned().map(std::fs::File::from)
}

#[cfg(not(unix))]
fn standard_error() -> io::Result<impl Write + Send + 'static> {
    Ok(io::stderr())
}

/// Writes complete records. Starts a new line after a record that was only partly written.
struct Lines<W> {
    out: W,
    is_broken: bool,
}

impl<W: Write> Lines<W> {
    fn write(&mut self, record: &[u8]) -> io::Result<()> {
        if self.is_broken {
            self.write_all(b"\n")?;
            self.is_broken = false;
        }
        self.write_all(record)
    }

    /// Unlike `Write::write_all`, waits if the other end is non-blocking and full.
    fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.out.write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    bytes = &bytes[written..];
                    self.is_broken = !bytes.is_empty();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(RETRY),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Puts a record into the queue. `tracing_subscriber` writes each record with one call.
pub(super) struct Record<'a>(&'a LogQueue);

impl Write for Record<'_> {
    fn write(&mut self, record: &[u8]) -> io::Result<usize> {
        self.0.push(record);
        Ok(record.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LogQueue {
    type Writer = Record<'a>;

    fn make_writer(&'a self) -> Self::Writer {
        Record(self)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::sync::mpsc::{self, Receiver, Sender, SyncSender};

    use super::*;

    /// The other end. Each write waits for its outcome from the test.
    struct End {
        asks: Receiver<io::Result<usize>>,
        took: Sender<Vec<u8>>,
    }

    impl Write for End {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let outcome = self.asks.recv().unwrap_or_else(|_| {
                loop {
                    // The test is over. The thread ends with the process.
                    thread::park();
                }
            });
            let length = outcome?.min(bytes.len());
            self.took.send(bytes[..length].to_vec()).unwrap();
            Ok(length)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Setup {
        queue: LogQueue,
        /// Lets one write through. Returns when the writer has arrived at it.
        let_through: SyncSender<io::Result<usize>>,
        took: Receiver<Vec<u8>>,
        reports: Receiver<u64>,
    }

    impl Setup {
        fn new() -> Self {
            let queue = LogQueue::default();
            let ((let_through, asks), (took, taken)) = (mpsc::sync_channel(0), mpsc::channel());
            let (reported, reports) = mpsc::channel();
            let writer = queue.clone();
            thread::spawn(move || {
                writer.write_to(End { asks, took }, |dropped| reported.send(dropped).unwrap());
            });
            Self { queue, let_through, took: taken, reports }
        }

        fn writes(&self, outcome: io::Result<usize>) {
            self.let_through.send(outcome).unwrap();
        }

        fn whole(&self) -> String {
            self.writes(Ok(usize::MAX));
            String::from_utf8(self.took.recv().unwrap()).unwrap()
        }
    }

    #[test]
    fn f01_records_are_written_whole_and_in_order() {
        let setup = Setup::new();
        for number in 0..100 {
            setup.queue.push(format!("{number}\n").as_bytes());
        }
        for number in 0..100 {
            assert_eq!(setup.whole(), format!("{number}\n"));
        }
        setup.queue.flush();
        assert_eq!(setup.queue.dropped().get(), 0);
    }

    #[test]
    fn f01_dropped_records_are_counted_and_reported_once_standard_error_is_read() {
        for (record, fits) in [(vec![b'a'; 1024], MAX_BYTES / 1024), (vec![b'a'; 1], MAX_RECORDS)] {
            let setup = Setup::new();
            // The writer has taken this record and waits.
            setup.queue.push(b"first\n");
            while setup.queue.lock().bytes > 0 {
                thread::yield_now();
            }
            for _ in 0..fits + 7 {
                setup.queue.push(&record);
            }
            assert_eq!(setup.queue.dropped().get(), 7);
            assert_eq!(setup.whole(), "first\n");
            for _ in 0..fits / 2 - 1 {
                setup.whole();
            }
            assert!(
                setup.reports.try_recv().is_err(),
                "too early, because the queue may fill up again"
            );
            for _ in 0..fits / 2 + 1 {
                setup.whole();
            }
            assert_eq!(setup.reports.recv().unwrap(), 7);
            setup.queue.flush();
            assert!(setup.reports.try_recv().is_err(), "reported only once");
        }
    }

    #[test]
    fn f01_a_failed_write_loses_one_record_and_no_other() {
        let setup = Setup::new();
        for record in ["one\n", "two\n", "three\n"] {
            setup.queue.push(record.as_bytes());
        }
        setup.writes(Err(io::ErrorKind::Interrupted.into()));
        setup.writes(Err(io::ErrorKind::WouldBlock.into()));
        setup.writes(Ok(2));
        assert_eq!(setup.took.recv().unwrap(), b"on");
        setup.writes(Err(io::ErrorKind::StorageFull.into()));
        assert_eq!(setup.whole(), "\n");
        assert_eq!(setup.whole(), "two\n");
        assert_eq!(setup.reports.recv().unwrap(), 1);
        assert_eq!(setup.whole(), "three\n");
        setup.queue.flush();
        assert_eq!(setup.queue.dropped().get(), 1);
    }

    #[test]
    fn f01_a_flush_gives_up_on_a_reader_that_never_reads() {
        let setup = Setup::new();
        setup.queue.push(b"one\n");
        // Must return, although nobody reads.
        setup.queue.flush();
        assert_eq!(setup.whole(), "one\n");
    }
}
