//! The workloads: what is scraped, and how.

use std::time::Duration;

/// How the exporter delimits its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// Chunks of this many bytes.
    Chunked(usize),
    /// `Content-Length`.
    Length,
}

/// How the exporter writes its bytes to the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Writes {
    /// One call for each chunk, as Go's net/http does.
    ByChunk,
    /// This number of bytes with each call: an exporter that is always ahead of the proxy.
    Bytes(usize),
    /// One call for each chunk, followed by a pause.
    Trickle(Duration),
}

/// A kind of body that the exporter serves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Source {
    /// The exporter's path without its slash, and the exporter's name in the proxies.
    pub(crate) name: &'static str,
    /// Length of the body in bytes, without framing.
    pub(crate) length: u64,
    pub(crate) framing: Framing,
    pub(crate) writes: Writes,
    /// With `Content-Encoding: gzip` and bytes that cannot be compressed.
    pub(crate) gzip: bool,
    /// Served over TLS.
    pub(crate) https: bool,
}

const MIB: u64 = 1024 * 1024;

const BASE: Source = Source {
    name: "",
    length: 10 * MIB,
    framing: Framing::Chunked(4096),
    writes: Writes::ByChunk,
    gzip: false,
    https: false,
};

/// All bodies.
pub(crate) const SOURCES: &[Source] = &[
    Source { name: "chunked-10m", ..BASE },
    Source { name: "chunked-100m", length: 100 * MIB, ..BASE },
    Source { name: "ahead-10m", writes: Writes::Bytes(256 * 1024), ..BASE },
    Source { name: "gzip-10m", framing: Framing::Chunked(2048), gzip: true, ..BASE },
    Source {
        name: "length-10m",
        framing: Framing::Length,
        writes: Writes::Bytes(64 * 1024),
        ..BASE
    },
    Source { name: "https-10m", https: true, ..BASE },
    Source { name: "small", length: 20_000, ..BASE },
    Source { name: "size-1k", length: 1_000, ..BASE },
    Source { name: "size-10k", length: 10_000, ..BASE },
    Source { name: "size-100k", length: 100_000, ..BASE },
    Source { name: "size-1m", length: 1_000_000, ..BASE },
    Source { name: "size-1g", length: 1000 * MIB, ..BASE },
    Source {
        name: "trickle",
        length: 400 * 1024,
        framing: Framing::Chunked(1024),
        writes: Writes::Trickle(Duration::from_micros(2500)),
        ..BASE
    },
    Source { name: "stalled-200m", length: 200 * MIB, ..BASE },
];

/// The source with this name.
///
/// # Panics
///
/// If no source has this name.
pub(crate) fn source(name: &str) -> &'static Source {
    SOURCES.iter().find(|source| source.name == name).expect("workloads name sources that exist")
}

/// Which figure matters for a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// CPU time per byte.
    PerGigabyte,
    /// CPU time per scrape.
    PerRequest,
    /// Only times, because the proxy also does something else.
    Times,
}

/// One row of the tables.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) source: &'static str,
    pub(crate) connections: usize,
    /// Number of scrapes in one round, over all connections.
    pub(crate) scrapes: usize,
    /// Whether each scrape uses a new connection with a full handshake.
    pub(crate) reconnect: bool,
    /// What else the proxy does.
    pub(crate) beside: Beside,
    /// The key of the proxy's certificate.
    pub(crate) key: Key,
    /// Whether it runs over each link, and not only over the first.
    pub(crate) on_each_link: bool,
    pub(crate) unit: Unit,
}

/// What the proxy does beside the measured scrapes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beside {
    Nothing,
    /// It holds this number of connections that have had a scrape.
    Idle(usize),
    /// One client makes one connection after another.
    Handshakes,
}

/// The kind of key in the proxy's certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    EcdsaP256,
    /// What enrollment generates by default.
    Rsa4096,
}

const BULK: Workload = Workload {
    name: "",
    title: "",
    source: "",
    connections: 1,
    scrapes: 40,
    reconnect: false,
    beside: Beside::Nothing,
    key: Key::EcdsaP256,
    on_each_link: false,
    unit: Unit::PerGigabyte,
};

const REQUESTS: Workload =
    Workload { source: "small", scrapes: 2000, unit: Unit::PerRequest, ..BULK };

impl Workload {
    /// A quarter of the scrapes, and at least one on each connection.
    pub(crate) fn warm_up(&self) -> Self {
        let each = (self.scrapes / self.connections / 4).max(1);
        Self { scrapes: each * self.connections, ..*self }
    }
}

/// All rows.
pub(crate) const WORKLOADS: &[Workload] = &[
    Workload {
        name: "chunked-1",
        on_each_link: true,
        title: "10 MiB in 4 KiB chunks, 1 connection",
        source: "chunked-10m",
        ..BULK
    },
    Workload {
        name: "chunked-2",
        title: "10 MiB in 4 KiB chunks, 2 connections",
        source: "chunked-10m",
        connections: 2,
        ..BULK
    },
    Workload {
        name: "chunked-8",
        on_each_link: true,
        title: "10 MiB in 4 KiB chunks, 8 connections",
        source: "chunked-10m",
        connections: 8,
        ..BULK
    },
    Workload {
        name: "large-1",
        title: "100 MiB in 4 KiB chunks, 1 connection",
        source: "chunked-100m",
        scrapes: 4,
        ..BULK
    },
    Workload {
        name: "large-8",
        title: "100 MiB in 4 KiB chunks, 8 connections",
        source: "chunked-100m",
        connections: 8,
        scrapes: 8,
        ..BULK
    },
    Workload {
        name: "ahead-1",
        title: "10 MiB in 4 KiB chunks, written 256 KiB at a time, 1 connection",
        source: "ahead-10m",
        ..BULK
    },
    Workload {
        name: "gzip-1",
        on_each_link: true,
        title: "10 MiB of gzip in 2 KiB chunks, 1 connection",
        source: "gzip-10m",
        ..BULK
    },
    Workload {
        name: "length-1",
        on_each_link: true,
        title: "10 MiB with Content-Length, 1 connection",
        source: "length-10m",
        ..BULK
    },
    Workload {
        name: "https-1",
        on_each_link: true,
        title: "10 MiB in 4 KiB chunks from an https exporter, 1 connection",
        source: "https-10m",
        ..BULK
    },
    Workload {
        name: "crowd",
        on_each_link: true,
        title: "1 MB in 4 KiB chunks, 64 connections",
        source: "size-1m",
        connections: 64,
        scrapes: 256,
        ..BULK
    },
    Workload {
        name: "idle-2000",
        title: "1 MB in 4 KiB chunks, 8 connections beside 2 000 idle ones",
        source: "size-1m",
        connections: 8,
        scrapes: 256,
        beside: Beside::Idle(2000),
        ..BULK
    },
    Workload {
        name: "small-kept",
        title: "20 kB on a kept connection",
        on_each_link: true,
        ..REQUESTS
    },
    Workload {
        name: "small-new",
        on_each_link: true,
        title: "20 kB on a new connection each",
        scrapes: 400,
        reconnect: true,
        ..REQUESTS
    },
    Workload {
        name: "rsa-new",
        title: "20 kB on a new connection each, RSA-4096",
        scrapes: 100,
        reconnect: true,
        key: Key::Rsa4096,
        ..REQUESTS
    },
    Workload {
        name: "rsa-beside",
        title: "20 kB on a kept connection, beside RSA-4096 handshakes",
        scrapes: 400,
        beside: Beside::Handshakes,
        key: Key::Rsa4096,
        unit: Unit::Times,
        ..REQUESTS
    },
    Workload {
        name: "trickle",
        title: "400 chunks of 1 KiB, 2.5 ms apart",
        source: "trickle",
        scrapes: 1,
        ..REQUESTS
    },
];
