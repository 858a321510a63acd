//! Which files are read.

use std::{net::SocketAddr, path::PathBuf};

use super::folders;

/// Which files to read, and what the command line overrides.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The path of `config.ini`. If absent, the first of [`own_folder`](folders::own_folder) and
    /// [`agent_folder`](folders::agent_folder) that contains one.
    pub config: Option<PathBuf>,
    /// The exporters file, instead of `[prometheus] exporters`.
    pub exporters: Option<PathBuf>,
    /// The listen address, instead of `[default] address` and `port`.
    pub listen: Option<SocketAddr>,
}

impl Sources {
    /// Fixes the path of `config.ini` that is found now, so that a process keeps the file with
    /// which it started. The path stays absent if no folder has the file.
    #[must_use]
    pub fn settled(self) -> Self {
        Self { config: self.config.or_else(folders::find), ..self }
    }

    /// The `config.ini` that is read. If no folder has one, the path in scrapegate's own folder.
    #[must_use]
    pub fn config_file(&self) -> PathBuf {
        let [own, _] = folders::candidates();
        self.config.clone().or_else(folders::find).unwrap_or(own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_given_file_stays() {
        let given = PathBuf::from("given.ini");
        let settled = Sources { config: Some(given.clone()), ..Sources::default() }.settled();
        assert_eq!(settled.config.as_ref(), Some(&given));
        assert_eq!(settled.config_file(), given);
    }
}
