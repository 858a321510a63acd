//! The compared proxies, and the floor.

use std::{fs, net::IpAddr, path::PathBuf};

use scrapegate_harness::side_by_side::{
    credentials::Credentials,
    network::Place,
    programs::{Compression, Program, Running, Site, free_address},
};

use crate::{
    Result,
    exporter::Exporter,
    floor::{Floor, READ_SIZES},
    workload::{Source, Unit, Workload, source},
};

/// The column of the floor program.
pub(crate) const FLOOR: &str = "floor";

/// What a peer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Program(Program),
    Floor { read_size: usize },
}

/// One column of the table.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    name: String,
    pub(crate) kind: Kind,
    /// The version that the program reports.
    pub(crate) version: String,
}

impl Peer {
    /// All peers that this machine has. Names the missing ones and their Debian packages.
    pub(crate) fn all(also: &[String]) -> Result<Vec<Self>> {
        let ours = PathBuf::from(env!("CARGO_BIN_EXE_scrapegate"));
        let mut wanted = vec![("scrapegate".to_owned(), Program::Scrapegate { binary: ours })];
        for build in also {
            let (name, path) = build.split_once('=').ok_or("--also requires NAME=PATH")?;
            wanted.push((name.to_owned(), Program::Scrapegate { binary: path.into() }));
        }
        wanted.extend([
            ("nginx".to_owned(), Program::Nginx { upstream_keep_alive: true }),
            ("nginx-reconnect".to_owned(), Program::Nginx { upstream_keep_alive: false }),
            ("haproxy".to_owned(), Program::Haproxy),
            ("caddy".to_owned(), Program::Caddy),
            ("exporter_exporter".to_owned(), Program::ExporterExporter),
        ]);
        let programs = wanted.into_iter().map(|(name, program)| (name, Kind::Program(program)));
        let floors = READ_SIZES
            .map(|read_size| (format!("{FLOOR}-{}k", read_size >> 10), Kind::Floor { read_size }));
        let mut found = Vec::new();
        for (name, kind) in programs.chain(floors) {
            match kind.version() {
                Some(version) => found.push(Self { name, kind, version }),
                None => eprintln!(
                    "MISSING: {name} is not compared; install the Debian package {}",
                    kind.debian_package()
                ),
            }
        }
        Ok(found)
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The column of the tables: its name, or the one column of the floor's read sizes.
    pub(crate) fn column(&self) -> &str {
        if self.floor_read_size().is_some() { FLOOR } else { &self.name }
    }

    /// Size of one read in bytes, if this is the floor program.
    pub(crate) fn floor_read_size(&self) -> Option<usize> {
        match self.kind {
            Kind::Floor { read_size } => Some(read_size),
            Kind::Program(_) => None,
        }
    }

    /// The path at which the peer serves a source.
    pub(crate) fn path(&self, source: &Source) -> String {
        match &self.kind {
            Kind::Program(program) => program.path(source.name),
            Kind::Floor { .. } => format!("/{}", source.name),
        }
    }

    /// Whether the peer supports the workload, and whether the result is meaningful. For example,
    /// how nginx connects to the exporter does not matter for large bodies.
    pub(crate) fn takes_part_in(&self, workload: &Workload) -> bool {
        match self.kind {
            Kind::Floor { .. } => !source(workload.source).https,
            Kind::Program(Program::Nginx { upstream_keep_alive: false }) => {
                workload.unit == Unit::PerRequest
            }
            Kind::Program(_) => true,
        }
    }

    /// Whether the peer is scrapegate. Its errors are errors of the bench.
    pub(crate) fn is_ours(&self) -> bool {
        matches!(self.kind, Kind::Program(Program::Scrapegate { .. }))
    }

    /// Starts the peer in front of the exporter, on the host.
    pub(crate) fn start(
        &self,
        place: &Place,
        exporter: &Exporter,
        credentials: &Credentials,
    ) -> Result<Running> {
        place.on_host(|| self.start_here(place.address(), exporter, credentials))
    }

    fn start_here(
        &self,
        address: IpAddr,
        exporter: &Exporter,
        credentials: &Credentials,
    ) -> Result<Running> {
        let address = free_address(address)?;
        let folder = credentials.folder().join(&self.name);
        fs::create_dir_all(&folder)?;
        match &self.kind {
            Kind::Program(program) => program.start(&Site {
                address,
                sources: &exporter.sources(),
                credentials: credentials.folder(),
                folder: &folder,
                compression: Compression::Unset,
                exporter_keys: "",
            }),
            Kind::Floor { read_size } => {
                let floor = Floor::new(credentials.folder(), address, exporter.http, *read_size);
                Running::start(floor.command()?, address, &folder)
            }
        }
    }
}

impl Kind {
    fn version(&self) -> Option<String> {
        match self {
            Self::Program(program) => program.version(),
            Self::Floor { .. } => Some("read, encrypt, write".to_owned()),
        }
    }

    fn debian_package(&self) -> &'static str {
        match self {
            Self::Program(program) => program.debian_package(),
            Self::Floor { .. } => "none",
        }
    }
}
