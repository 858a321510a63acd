//! The output for the body: standard output, a file, or a device.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use super::error::Error;
use crate::common::file::{Existing, FileAccess, Staged};

/// An open output. If it is dropped before [`Output::finish`], an existing file stays unchanged.
pub(super) struct Output {
    path: Option<PathBuf>,
    sink: Sink,
}

enum Sink {
    Stdout(io::Stdout),
    /// A file, under a temporary name until it is complete.
    Staged(Staged),
    /// A pipe or a device such as `/dev/null`, which must not be replaced by a file.
    Special(File),
}

impl Output {
    /// Opens the file at `path`, or standard output.
    pub(super) fn open(path: Option<&Path>) -> Result<Self, Error> {
        let sink = match path {
            None => Ok(Sink::Stdout(io::stdout())),
            Some(path) if fs::metadata(path).is_ok_and(|it| !it.is_file() && !it.is_dir()) => {
                File::options().write(true).open(path).map(Sink::Special)
            }
            Some(path) => Staged::begin(path, FileAccess::Public).map(Sink::Staged),
        };
        let path = path.map(Path::to_owned);
        match sink {
            Ok(sink) => Ok(Self { path, sink }),
            Err(source) => Err(Error::Output { path, source }),
        }
    }

    /// Writes the next piece.
    pub(super) fn write(&mut self, data: &[u8]) -> Result<(), Error> {
        let written = match &mut self.sink {
            Sink::Stdout(stdout) => stdout.write_all(data),
            Sink::Staged(file) => file.write_all(data),
            Sink::Special(file) => file.write_all(data),
        };
        written.map_err(|source| Error::Output { path: self.path.clone(), source })
    }

    /// Completes the output. A file gets its final name.
    pub(super) fn finish(self) -> Result<(), Error> {
        let Self { path, sink } = self;
        let finished = match sink {
            Sink::Stdout(mut stdout) => stdout.flush(),
            Sink::Staged(file) => file.sync().and_then(|()| file.commit(Existing::Replace)),
            Sink::Special(mut file) => file.flush(),
        };
        finished.map_err(|source| Error::Output { path, source })
    }
}
