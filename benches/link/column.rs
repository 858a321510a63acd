//! The columns of the table: programs with one way to compress.

use std::{fs, path::PathBuf};

use scrapegate_harness::side_by_side::{
    Result,
    credentials::Credentials,
    network::Place,
    programs::{Compression, Program, Running, Site, free_address},
};

use crate::exporter::Exporter;

/// A program with one way to compress.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) program: Program,
    compression: Compression,
    /// More keys of scrapegate.
    exporter_keys: &'static str,
    pub(crate) version: String,
}

impl Column {
    /// All columns that this machine has. Names the missing programs and their Debian packages.
    pub(crate) fn all(also: &[String]) -> Result<Vec<Self>> {
        let ours = PathBuf::from(env!("CARGO_BIN_EXE_scrapegate"));
        let mut builds = vec![("scrapegate", ours)];
        for build in also {
            let (name, path) = build.split_once('=').ok_or("--also requires NAME=PATH")?;
            builds.push((name, path.into()));
        }
        let mut found = Vec::new();
        for (name, binary) in builds {
            let program = Program::Scrapegate { binary };
            let version = program.version().ok_or_else(|| format!("{name} does not run"))?;
            for (suffix, compression, exporter_keys) in [
                ("off", Compression::Unset, "compression = off\n"),
                ("gzip", Compression::Gzip, ""),
                ("zstd", Compression::Zstd, ""),
            ] {
                let (program, version) = (program.clone(), version.clone());
                let name = format!("{name} {suffix}");
                found.push(Self { name, program, compression, exporter_keys, version });
            }
        }
        for (name, program, compression) in [
            ("nginx gzip", Program::Nginx { upstream_keep_alive: true }, Compression::Gzip),
            ("haproxy gzip", Program::Haproxy, Compression::Gzip),
            ("caddy gzip", Program::Caddy, Compression::Gzip),
            ("caddy zstd", Program::Caddy, Compression::Zstd),
        ] {
            match program.version() {
                Some(version) => {
                    let name = name.to_owned();
                    found.push(Self { name, program, compression, exporter_keys: "", version });
                }
                None => eprintln!(
                    "MISSING: {name} is not compared; install the Debian package {}",
                    program.debian_package()
                ),
            }
        }
        Ok(found)
    }

    /// scrapegate without compression, and with these keys for its exporters.
    pub(crate) fn of_keys(name: &str, exporter_keys: &'static str) -> Self {
        Self {
            name: name.to_owned(),
            program: Program::Scrapegate { binary: env!("CARGO_BIN_EXE_scrapegate").into() },
            compression: Compression::Unset,
            exporter_keys,
            version: String::new(),
        }
    }

    /// What a scraper sends in `Accept-Encoding`, and the `Content-Encoding` that it must get.
    pub(crate) fn encoding(&self) -> (&'static str, &'static str) {
        match self.compression {
            // The scraper would accept it, as Prometheus does.
            Compression::Unset => ("gzip", ""),
            Compression::Gzip => ("gzip", "gzip"),
            Compression::Zstd => ("zstd", "zstd"),
        }
    }

    /// Whether the program is scrapegate. Its errors are errors of the bench.
    pub(crate) fn is_ours(&self) -> bool {
        matches!(self.program, Program::Scrapegate { .. })
    }

    /// Starts the program on the host.
    pub(crate) fn start(
        &self,
        place: &Place,
        exporter: &Exporter,
        credentials: &Credentials,
    ) -> Result<Running> {
        let folder = credentials.folder().join(self.name.replace(' ', "-"));
        fs::create_dir_all(&folder)?;
        place.on_host(|| {
            self.program.start(&Site {
                address: free_address(place.address())?,
                sources: &exporter.sources(),
                credentials: credentials.folder(),
                folder: &folder,
                compression: self.compression,
                exporter_keys: self.exporter_keys,
            })
        })
    }
}
