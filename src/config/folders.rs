//! The default folders of `config.ini`.

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

const NAME: &str = "config.ini";

/// scrapegate's own folder. It is searched first.
#[must_use]
pub fn own_folder() -> PathBuf {
    if cfg!(windows) {
        let data = std::env::var_os("ProgramData").map(PathBuf::from);
        data.unwrap_or_else(|| PathBuf::from(r"C:\ProgramData")).join("scrapegate")
    } else if cfg!(target_os = "macos") {
        PathBuf::from("/usr/local/etc/scrapegate")
    } else {
        PathBuf::from("/etc/scrapegate")
    }
}

/// The folder of the openITCOCKPIT agent. It is searched second. It is also the default folder of
/// the `autossl-*` files.
#[must_use]
pub fn agent_folder() -> &'static Path {
    Path::new(if cfg!(windows) {
        r"C:\Program Files\it-novum\openitcockpit-agent"
    } else if cfg!(target_os = "macos") {
        "/Applications/openitcockpit-agent"
    } else {
        "/etc/openitcockpit-agent"
    })
}

/// The `config.ini` of the first folder that has one.
pub(super) fn find() -> Option<PathBuf> {
    first_with_config(&[&own_folder(), agent_folder()])
}

/// The paths that [`find`] tries, in order.
pub(super) fn candidates() -> [PathBuf; 2] {
    [own_folder().join(NAME), agent_folder().join(NAME)]
}

fn first_with_config(folders: &[&Path]) -> Option<PathBuf> {
    folders.iter().map(|folder| folder.join(NAME)).find(|file| {
        // A file that cannot be examined is not skipped, because another file would silently be
        // used instead.
        match fs::symlink_metadata(file) {
            Ok(_) => true,
            Err(error) => !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory),
        }
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn the_own_folder_comes_before_the_folder_of_the_agent() {
        let paths = ["/etc/scrapegate/config.ini", "/etc/openitcockpit-agent/config.ini"];
        assert_eq!(candidates(), paths.map(PathBuf::from));
    }

    #[test]
    fn the_first_folder_with_a_config_ini_is_used() {
        let root = tempfile::tempdir().unwrap();
        let [own, agent] = ["own", "agent"].map(|name| root.path().join(name));
        let folders: [&Path; 2] = [&own, &agent];
        assert_eq!(first_with_config(&folders), None);
        fs::create_dir(&agent).unwrap();
        assert_eq!(first_with_config(&folders), None);
        fs::write(agent.join(NAME), "").unwrap();
        assert_eq!(first_with_config(&folders), Some(agent.join(NAME)));
        fs::write(&own, "").unwrap();
        assert_eq!(first_with_config(&folders), Some(agent.join(NAME)), "a file, not a folder");
        fs::remove_file(&own).unwrap();
        fs::create_dir(&own).unwrap();
        assert_eq!(first_with_config(&folders), Some(agent.join(NAME)), "an empty folder");
        fs::write(own.join(NAME), "").unwrap();
        assert_eq!(first_with_config(&folders), Some(own.join(NAME)));
    }

    #[cfg(unix)]
    #[test]
    fn a_config_ini_that_cannot_be_examined_is_not_skipped() {
        let root = tempfile::tempdir().unwrap();
        let [own, agent] = ["own", "agent"].map(|name| root.path().join(name));
        for folder in [&own, &agent] {
            fs::create_dir(folder).unwrap();
            fs::write(folder.join(NAME), "").unwrap();
        }
        fs::remove_file(own.join(NAME)).unwrap();
        std::os::unix::fs::symlink("nowhere", own.join(NAME)).unwrap();
        assert_eq!(first_with_config(&[&own, &agent]), Some(own.join(NAME)), "a dangling link");
        let long = root.path().join("x".repeat(300));
        assert_eq!(first_with_config(&[&long, &agent]), Some(long.join(NAME)), "another error");
    }
}
