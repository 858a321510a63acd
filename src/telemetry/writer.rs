//! A queue of finished records, and the thread that writes them.
//!
//! Standard error can be a pipe, a socket or a terminal that nobody reads, and a write to it then
//! waits for ever. So no other thread writes there: a record that does not fit into the queue is
//! dropped and counted. `tracing-appender`, which has such a writer, panics where the system
//! refuses a thread, does not bound the bytes of its queue, and does not log how much was lost.

use std::{
    collections::VecDeque,
    io::{self, Write},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use prometheus_client::metrics::counter::Counter;
use tracing_subscriber::fmt::MakeWriter;

/// Bytes of records that wait, at most: some 3000 scrapes.
const MAX_BYTES: usize = 1 << 20;

/// Records that wait, at most: each costs some bytes besides its own.
const MAX_RECORDS: usize = 8192;

/// Pause before a write is repeated that a non-blocking standard error refused. Whoever shares it
/// may have made it so.
const RETRY: Duration = Duration::from_millis(10);

/// At the end, how long the writer may take for one record before the rest is given up.
const FLUSH_STALL: Duration = Duration::from_millis(100);

/// At the end, how long the writer may take for all of them.
const FLUSH_LIMIT: Duration = Duration::from_secs(1);

/// Takes records without waiting. Clones are of the same queue.
#[derive(Clone, Debug, Default)]
pub(super) struct LogQueue(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    /// For the writer: there is a record.
    arrived: Condvar,
    /// For who flushes: a record is done with, or the writer waits for the next one.
    progress: Condvar,
    dropped: Counter,
}

#[derive(Debug, Default)]
struct Queue {
    records: VecDeque<Vec<u8>>,
    /// The sum of their lengths.
    bytes: usize,
    /// Records that the writer is done with, one way or the other.
    done: u64,
    /// Records that were dropped since it was last logged how many.
    unreported: u64,
    /// The writer waits for a record, and for nothing else.
    is_idle: bool,
}

impl Queue {
    fn takes(&self, length: usize) -> bool {
        self.records.len() < MAX_RECORDS && self.bytes + length <= MAX_BYTES
    }

    /// Much of it has been written, so somebody reads again.
    fn has_room(&self) -> bool {
        self.records.len() <= MAX_RECORDS / 2 && self.bytes <= MAX_BYTES / 2
    }
}

impl LogQueue {
    /// Starts the thread that writes what is queued to standard error.
    ///
    /// # Errors
    /// The system refuses the thread or, on Unix, a descriptor.
    pub(super) fn start() -> io::Result<Self> {
        let queue = Self::default();
        let out = standard_error()?;
        let writer = queue.clone();
        thread::Builder::new().name("log".to_owned()).spawn(move || {
            writer.write_to(out, |dropped| {
                tracing::warn!(
                    dropped,
                    "log records were dropped: nobody read standard error in time"
                );
            });
        })?;
        Ok(queue)
    }

    /// How many records were dropped.
    pub(super) fn dropped(&self) -> Counter {
        self.0.dropped.clone()
    }

    /// Waits until all records are written: as long as one is every [`FLUSH_STALL`], and for
    /// [`FLUSH_LIMIT`] in all.
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
            queue.records.push_back(record.to_vec());
            if std::mem::take(&mut queue.is_idle) {
                self.0.arrived.notify_one();
            }
        } else {
            queue.unreported += 1;
            drop(queue);
            self.0.dropped.inc();
        }
    }

    /// Writes for ever. `report` logs how many records were dropped: a record like any other.
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

    /// Gives the number of records that were dropped, once standard error is read again.
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

/// Standard error past the lock of the standard library, which a write that waits would hold.
#[cfg(unix)]
fn standard_error() -> io::Result<impl Write + Send + 'static> {
    use std::os::fd::AsFd as _;
    io::stderr().as_fd().try_clone_to_owned().map(std::fs::File::from)
}

#[cfg(not(unix))]
fn standard_error() -> io::Result<impl Write + Send + 'static> {
    Ok(io::stderr())
}

/// Writes records whole, or begins a new line after one that broke off.
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

    /// Unlike `Write::write_all` it waits where the other end is full and non-blocking.
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

/// Takes each record whole: that is how `tracing_subscriber` writes it.
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

    /// The other end: takes a write when it is told how it ends.
    struct End {
        asks: Receiver<io::Result<usize>>,
        took: Sender<Vec<u8>>,
    }

    impl Write for End {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let outcome = self.asks.recv().unwrap_or_else(|_| {
                loop {
                    // The test is over; the thread ends with its process.
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
        /// Lets a write through; returns once the writer has come for it.
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
    fn f01_what_does_not_fit_is_dropped_counted_and_reported_once_somebody_reads() {
        for (record, fits) in [(vec![b'a'; 1024], MAX_BYTES / 1024), (vec![b'a'; 1], MAX_RECORDS)] {
            let setup = Setup::new();
            // The writer holds this one, and waits.
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
            assert!(setup.reports.try_recv().is_err(), "too early: it may fill up again");
            for _ in 0..fits / 2 + 1 {
                setup.whole();
            }
            assert_eq!(setup.reports.recv().unwrap(), 7);
            setup.queue.flush();
            assert!(setup.reports.try_recv().is_err(), "once");
        }
    }

    #[test]
    fn f01_a_write_that_fails_loses_one_record_and_spoils_no_other() {
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
        // Would wait for ever.
        setup.queue.flush();
        assert_eq!(setup.whole(), "one\n");
    }
}
