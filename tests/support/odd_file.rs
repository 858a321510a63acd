//! What may be found where a file should be.

use std::{
    fs::{self, File},
    os::unix::{fs::symlink, net::UnixListener},
    path::Path,
    process::Command,
};

/// What an operator, or a mishap, has put in a file's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OddFile {
    Missing,
    Directory,
    /// Whoever opens it waits for a writer.
    Fifo,
    /// By a link to `/dev/zero`.
    EndlessDevice,
    DanglingLink,
    LoopOfLinks,
    Socket,
    /// 65 MiB, more than any file may have; a sparse one.
    TooLarge,
}

impl OddFile {
    pub(crate) const ALL: [Self; 8] = [
        Self::Missing,
        Self::Directory,
        Self::Fifo,
        Self::EndlessDevice,
        Self::DanglingLink,
        Self::LoopOfLinks,
        Self::Socket,
        Self::TooLarge,
    ];

    /// Puts it at `path`, in place of what is there.
    pub(crate) fn put(self, path: &Path) {
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

    /// What the proxy calls it.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Missing => "the file does not exist",
            Self::Directory => "a directory, not a file",
            Self::Fifo => "a FIFO, not a file",
            Self::EndlessDevice => "a device, not a file",
            Self::DanglingLink => "a symbolic link that points to nothing",
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
