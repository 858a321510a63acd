//! The target of the attacks: the proxy, its files, and its exporters.

use std::{
    ffi::OsString,
    fs,
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use scrapegate_harness::{
    body::Body,
    client::Client,
    exporter::{Conversation, Exporter, Framing},
    pki::{BOTH_VERSIONS, Pki},
    proxy::Proxy,
};

use crate::Order;

/// Length of the body of a regular scrape, in bytes.
pub(crate) const CONTROL: u64 = 20_000;

/// Approximate size of the exporter's send buffer for each endless body, in bytes.
const SEND_BUFFER: usize = 64 * 1024;

/// The time within which everything must be as before.
pub(crate) const REST: Duration = Duration::from_secs(5);

/// How much resident memory may grow during the first wave, in KiB. The smallest allocations still
/// share pages with free ones, and more pages of the program itself are in use: 2 to 3 MiB of 110.
/// A leak of 500 readers would be 100 MiB.
const SPARE_KIB: u64 = 8 * 1024;

/// How much resident memory may grow during the second wave, in KiB: 1 000 pages. Each leaked
/// allocation of at least 160 bytes has its own page, and a wave has 7 000 connections.
const LEAK_KIB: u64 = 4 * 1024;

/// Deadline for the body that slow readers request, in seconds.
const SLOW_TIMEOUT: u64 = 3;

/// The names of the exporters: one that works, and three that do not.
pub(crate) const GOOD: &str = "good";
pub(crate) const ENDLESS: &str = "endless";
pub(crate) const STALLED: &str = "stalled";
pub(crate) const RESET: &str = "reset";

/// The resources that the proxy uses.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Holdings {
    pub(crate) descriptors: u64,
    pub(crate) threads: u64,
    pub(crate) rss_kib: u64,
}

impl Holdings {
    pub(crate) fn is_within(&self, most: &Self) -> bool {
        let Self { descriptors, threads, rss_kib } = *self;
        descriptors <= most.descriptors && threads <= most.threads && rss_kib <= most.rss_kib
    }
}

/// What the proxy did in a period of time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record {
    /// Reloads that were applied, and reloads that failed.
    pub(crate) reloaded: usize,
    pub(crate) refused: usize,
    /// CPU time.
    pub(crate) cpu: Duration,
    /// Number of log lines.
    pub(crate) lines: usize,
}

impl Record {
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        Self {
            reloaded: self.reloaded - earlier.reloaded,
            refused: self.refused - earlier.refused,
            cpu: self.cpu - earlier.cpu,
            lines: self.lines - earlier.lines,
        }
    }
}

/// The proxy, its files and its exporters.
pub(crate) struct Target {
    pub(crate) pki: Pki,
    pub(crate) proxy: Proxy,
    pub(crate) allocator: Allocator,
    sections: String,
    _exporters: [Exporter; 4],
}

/// How the proxy's allocator treats free memory.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Allocator {
    /// The default. glibc keeps memory that is free but lies below small allocations, which each
    /// thread caches.
    Usual,
    /// Caches nothing, and requests all but the smallest allocations from the system. Resident
    /// memory is then the memory in use.
    Exact,
}

impl Allocator {
    /// A command that runs another command as its child.
    fn wrapper(self) -> Vec<OsString> {
        const EXACT: &str = "export GLIBC_TUNABLES=\
            glibc.malloc.arena_max=1:glibc.malloc.tcache_count=0:glibc.malloc.mxfast=0:\
            glibc.malloc.mmap_threshold=160:glibc.malloc.trim_threshold=4096:\
            glibc.malloc.top_pad=1; \"$@\"; exit $?";
        match self {
            Self::Usual => Vec::new(),
            Self::Exact => ["sh", "-c", EXACT, "sh"].map(OsString::from).into(),
        }
    }
}

impl Target {
    pub(crate) fn start(allocator: Allocator) -> Self {
        let pki = Pki::new();
        let good = Exporter::start(|it| {
            it.read_request()?;
            it.answer("", Framing::Chunked(4096), Body::text(CONTROL))
        });
        let endless = Exporter::start(|it| {
            it.read_request()?;
            it.bound_send_buffer(SEND_BUFFER)?;
            begin_chunked(it)?;
            let chunk = chunk();
            loop {
                it.send(&chunk)?;
            }
        });
        let stalled = Exporter::start(|it| {
            it.read_request()?;
            begin_chunked(it)?;
            it.wait_until_closed();
            Ok(())
        });
        let reset = Exporter::start(|it| {
            it.read_request()?;
            begin_chunked(it)?;
            it.send(chunk())?;
            it.reset_at_end()
        });
        let sections = [
            good.section(GOOD),
            endless.section(ENDLESS)
                + &format!("timeout = {SLOW_TIMEOUT}\nmax-concurrent = 1000\n"),
            stalled.section(STALLED) + "timeout = 2\n",
            reset.section(RESET),
        ]
        .concat();
        let proxy = Proxy::start_beneath(&allocator.wrapper(), &pki.config_ini(""), &sections);
        Self { pki, proxy, allocator, sections, _exporters: [good, endless, stalled, reset] }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.proxy.address()
    }

    /// Changes the files and signals the proxy. Every third change is invalid.
    pub(crate) fn reload(&self, number: usize) {
        let change = match number % 3 {
            0 => "",
            1 => "\n[another]\nenabled = True\nport = 1\npath = /metrics\n",
            _ => "\n[broken]\nenabled = True\nprot = 1\n",
        };
        let folder = self.proxy.folder();
        let new = folder.join("new");
        // Replaces the file atomically, as editors and configuration management do.
        fs::write(&new, format!("{}{change}", self.sections))
            .and_then(|()| fs::rename(&new, folder.join("prometheus_exporters.ini")))
            .expect("the folder is ours");
        self.proxy.signal("HUP");
    }

    /// What the proxy has done so far.
    pub(crate) fn record(&self) -> Record {
        let lines = self.proxy.log_lines();
        let count = |message: &str| lines.iter().filter(|line| line.contains(message)).count();
        Record {
            reloaded: count("\"message\":\"reloaded\""),
            refused: count("\"message\":\"reload failed; keeping the current configuration"),
            cpu: self.proxy.cpu_time(),
            lines: lines.len(),
        }
    }

    /// The resources of the proxy after it has served and reloaded, without any connection.
    pub(crate) fn settled(&self) -> Holdings {
        for _ in 0..100 {
            let mut client = Client::connect(self.address(), self.pki.client(BOTH_VERSIONS))
                .expect("a handshake");
            assert!(client.get(&scrape_target(GOOD)).body.is_complete(), "a scrape in peace");
        }
        let earlier = self.record().reloaded;
        self.reload(0);
        let mut seen = 0;
        self.proxy.wait_for_log("one more reload", |record| {
            seen += usize::from(record["fields"]["message"] == "reloaded");
            seen > earlier
        });
        thread::sleep(Duration::from_secs(1));
        self.holdings()
    }

    fn holdings(&self) -> Holdings {
        Holdings {
            descriptors: self.proxy.open_fds() as u64,
            threads: self.proxy.threads(),
            rss_kib: self.proxy.rss_kib(),
        }
    }

    /// Limit for the proxy's resources after a wave, given those before the wave. Memory only
    /// counts if resident memory is the memory in use.
    pub(crate) fn most_at_rest(&self, order: Order, before: &Holdings) -> Holdings {
        let spare = match (self.allocator, order) {
            (Allocator::Usual, _) => u64::MAX,
            (Allocator::Exact, Order::First) => SPARE_KIB,
            (Allocator::Exact, Order::Second) => LEAK_KIB,
        };
        Holdings { rss_kib: before.rss_kib.saturating_add(spare), ..*before }
    }

    /// The resources of the proxy as soon as they are within `most`, or [`REST`] after `ended`.
    pub(crate) fn at_rest_again(&self, most: &Holdings, ended: Instant) -> Holdings {
        loop {
            let now = self.holdings();
            if now.is_within(most) || ended.elapsed() >= REST {
                return now;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// The target of a scrape of `exporter`.
pub(crate) fn scrape_target(exporter: &str) -> String {
    format!("/prometheus?exporter={exporter}")
}

fn begin_chunked(it: &mut Conversation) -> std::io::Result<()> {
    it.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nup 1\r\n1\r\n\n\r\n")
}

fn chunk() -> Vec<u8> {
    format!("10000\r\n{}\r\n", "a_line 1\n".repeat(8000).split_at(0x10000).0).into_bytes()
}
