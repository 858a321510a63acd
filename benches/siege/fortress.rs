//! What is besieged: the proxy, its files, and the exporters behind it.

use std::{
    ffi::OsString,
    fs,
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use crate::{
    Order,
    support::{
        body::Body,
        client::Client,
        exporter::{Conversation, Exporter, Framing},
        pki::{BOTH_VERSIONS, Pki},
        proxy::Proxy,
    },
};

/// Length of the body that the scrapers ask for, in bytes.
pub(crate) const CONTROL: u64 = 20_000;

/// What the kernel holds of each endless body on the exporter's side, about, in bytes.
const SEND_BUFFER: usize = 64 * 1024;

/// Time in which everything has to be as before.
pub(crate) const REST: Duration = Duration::from_secs(5);

/// How much more memory may be resident after the first wave than before, in KiB. The smallest pieces
/// still keep pages that they share, and more of the program's own pages are in use: 2 to 3 MiB of
/// 110. What 500 readers held would be 100 MiB.
const SPARE_KIB: u64 = 8 * 1024;

/// How much more after the second wave than after the first, in KiB: 1 000 pages. Each piece of 160
/// bytes and more that leaks is alone in its page, and a wave has 7 000 connections.
const LEAK_KIB: u64 = 4 * 1024;

/// Deadline of the body that slow readers ask for, in seconds.
const SLOW_TIMEOUT: u64 = 3;

/// The names of the exporters: one that works, and three that do not.
pub(crate) const GOOD: &str = "good";
pub(crate) const ENDLESS: &str = "endless";
pub(crate) const STALLED: &str = "stalled";
pub(crate) const RESET: &str = "reset";

/// What the proxy holds.
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

/// What the proxy did in some time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record {
    /// Reloads that were taken over, and those that were refused.
    pub(crate) reloaded: usize,
    pub(crate) refused: usize,
    /// Processor time.
    pub(crate) cpu: Duration,
    /// Lines of its log.
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

/// The proxy and all behind it.
pub(crate) struct Fortress {
    pub(crate) pki: Pki,
    pub(crate) proxy: Proxy,
    pub(crate) allocator: Allocator,
    sections: String,
    _exporters: [Exporter; 4],
}

/// How the allocator of the proxy goes about memory that is free.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Allocator {
    /// As it always does: glibc keeps what small pieces, that each thread holds back, lie behind.
    Usual,
    /// It holds nothing back and has all but the smallest pieces from the system, so that what is
    /// resident is what is in use.
    Exact,
}

impl Allocator {
    /// A command that runs another as its child.
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

impl Fortress {
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

    /// Changes the files, one time in three to what cannot be used, and says so to the proxy.
    pub(crate) fn reload(&self, number: usize) {
        let change = match number % 3 {
            0 => "",
            1 => "\n[another]\nenabled = True\nport = 1\npath = /metrics\n",
            _ => "\n[broken]\nenabled = True\nprot = 1\n",
        };
        let folder = self.proxy.folder();
        let new = folder.join("new");
        // Whole or not at all, as editors and configuration management do it.
        fs::write(&new, format!("{}{change}", self.sections))
            .and_then(|()| fs::rename(&new, folder.join("prometheus_exporters.ini")))
            .expect("the folder is ours");
        self.proxy.signal("HUP");
    }

    /// What the proxy did by now.
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

    /// What the proxy holds once it has served and reloaded, and nobody is connected.
    pub(crate) fn settled(&self) -> Holdings {
        for _ in 0..100 {
            let mut client = Client::connect(self.address(), self.pki.client(BOTH_VERSIONS))
                .expect("a handshake");
            assert!(client.get(&target(GOOD)).body.is_complete(), "a scrape in peace");
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

    /// What the proxy may hold when a wave is over, at most, that held this before. Memory counts
    /// where it tells what is in use.
    pub(crate) fn most_at_rest(&self, order: Order, before: &Holdings) -> Holdings {
        let spare = match (self.allocator, order) {
            (Allocator::Usual, _) => u64::MAX,
            (Allocator::Exact, Order::First) => SPARE_KIB,
            (Allocator::Exact, Order::Second) => LEAK_KIB,
        };
        Holdings { rss_kib: before.rss_kib.saturating_add(spare), ..*before }
    }

    /// What it holds as soon as that is within `most`, or [`REST`] after `ended`.
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

/// Where the proxy has an exporter.
pub(crate) fn target(exporter: &str) -> String {
    format!("/prometheus?exporter={exporter}")
}

fn begin_chunked(it: &mut Conversation) -> std::io::Result<()> {
    it.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nup 1\r\n1\r\n\n\r\n")
}

fn chunk() -> Vec<u8> {
    format!("10000\r\n{}\r\n", "a_line 1\n".repeat(8000).split_at(0x10000).0).into_bytes()
}
