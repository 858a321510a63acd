//! Things that may be found in place of a file.

use std::{
    fs::{self, File},
    os::unix::{fs::symlink, net::UnixListener},
    path::Path,
    process::Command,
};

/// What exists in place of a file, by an operator's mistake or by accident.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OddFile {
    /// No file.
    Missing,
    /// A directory.
    Directory,
    /// Opening a FIFO for reading waits for a writer.
    Fifo,
    /// A symbolic link to `/dev/zero`.
    EndlessDevice,
    /// A symbolic link to a file that does not exist.
    DanglingLink,
    /// A symbolic link to itself.
    LoopOfLinks,
    /// A Unix socket.
    Socket,
    /// A sparse file of 65 MiB, which is more than any file may have.
    TooLarge,
}

impl OddFile {
    /// All kinds of files.
    pub const ALL: [Self; 8] = [
        Self::Missing,
        Self::Directory,
        Self::Fifo,
        Self::EndlessDevice,
        Self::DanglingLink,
        Self::LoopOfLinks,
        Self::Socket,
        Self::TooLarge,
    ];

    /// Creates it at `path`, replacing what was there.
    pub fn put(self, path: &Path) {
        remove(path);
        match self {
            Self::Missing => {}
            Self::Directory => fs::create_dir(path).expect("a folder"),
            Self::Fifo => {
                let made = Command::new("mkfifo").arg(path).status();
                assert!(made.expect("mkfifo runs").success());
            }
            Self::EndlessDevice => symlink("/dev/zero", path).expect("a link"),
            Self::DanglingLink => symlink("nowhere", path).expect("a link"),
            Self::LoopOfLinks => symlink(path, path).expect("a link"),
            Self::Socket => drop(UnixListener::bind(path).expect("a socket")),
            Self::TooLarge => {
                File::create(path).and_then(|it| it.set_len(65 << 20)).expect("a sparse file");
            }
        }
    }

    /// The words for it in the proxy's findings.
    pub fn words(self) -> &'static str {
        match self {
            Self::Missing => "the file does not exist",
            Self::Directory => "a directory, not a file",
            Self::Fifo => "a FIFO, not a file",
            Self::EndlessDevice => "a device, not a file",
            Self::DanglingLink => "a broken symbolic link: its target does not exist",
            Self::LoopOfLinks => "cannot be read: ",
            Self::Socket => "a socket, not a file",
            Self::TooLarge => "larger than ",
        }
    }
}

fn remove(path: &Path) {
    if path.is_dir() {
        fs::remove_dir(path).expect("an empty folder");
    } else if path.symlink_metadata().is_ok() {
        fs::remove_file(path).expect("removed");
    }
}
