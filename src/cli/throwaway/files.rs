//! A private folder with all files of a proxy. `scrapegate run --config` can use it too.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use super::certificates::Certificates;
use crate::{
    cli::certs::{CA_CERTIFICATE, CLIENT_CERTIFICATE, CLIENT_KEY, SERVER_CERTIFICATE, SERVER_KEY},
    common::file::{self, Existing, FileAccess},
};

/// The port in `config.ini` if the system picks the port. Port 0 is valid only on the command line.
const ANY_PORT: u16 = 3333;

const CONFIG: &str = "config.ini";
const EXPORTERS: &str = "prometheus_exporters.ini";

/// Certificates and both INI files in a folder that only its owner can enter. Dropping it removes
/// the folder with its contents.
#[derive(Debug)]
pub(crate) struct TemporaryFiles {
    folder: TempDir,
}

impl TemporaryFiles {
    /// Writes everything to a new folder in `parent`.
    pub(crate) fn write(
        parent: &Path,
        certificates: &Certificates,
        listen: SocketAddr,
        exporters_ini: &str,
    ) -> io::Result<Self> {
        let mut builder = tempfile::Builder::new();
        builder.prefix("scrapegate-");
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700));
        // Absolute, because the `curl` lines must work in any folder.
        let files = Self { folder: builder.tempdir_in(std::path::absolute(parent)?)? };
        let write = |name: &str, contents: &str, access| {
            let path = files.folder().join(name);
            file::write(&path, contents.as_bytes(), access, Existing::Keep)
        };
        let Certificates { authority, server, client } = certificates;
        // The CA's key stays in memory, so that nobody can sign with it after the process ends.
        write(CA_CERTIFICATE, &authority.pair().certificate_pem, FileAccess::Public)?;
        write(SERVER_CERTIFICATE, &server.certificate_pem, FileAccess::Public)?;
        write(SERVER_KEY, &server.key_pem, FileAccess::Private)?;
        write(CLIENT_CERTIFICATE, &client.certificate_pem, FileAccess::Public)?;
        write(CLIENT_KEY, &client.key_pem, FileAccess::Private)?;
        write(EXPORTERS, exporters_ini, FileAccess::Public)?;
        write(CONFIG, &config_ini(listen), FileAccess::Public)?;
        Ok(files)
    }

    /// The absolute path of the folder.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The path of `config.ini`.
    pub(crate) fn config(&self) -> PathBuf {
        self.folder().join(CONFIG)
    }

    /// Removes the folder and its contents. Dropping the value does that too, but ignores errors.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub(crate) fn remove(self) -> io::Result<()> {
        self.folder.close()
    }
}

fn config_ini(listen: SocketAddr) -> String {
    format!(
        "\
# Created by scrapegate, which removes this file when it exits.

[default]
address = {address}
port = {port}
certfile = {SERVER_CERTIFICATE}
keyfile = {SERVER_KEY}

[prometheus]
exporters = {EXPORTERS}

[proxy]
client-ca = {CA_CERTIFICATE}
",
        address = listen.ip(),
        port = if listen.port() == 0 { ANY_PORT } else { listen.port() },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_is_private_and_has_no_ca_key() {
        let parent = tempfile::tempdir().expect("a temporary folder");
        let address = SocketAddr::from(([127, 0, 0, 1], 9100));
        let certificates = Certificates::generate("test", address.ip()).expect("certificates");
        let files =
            TemporaryFiles::write(parent.path(), &certificates, address, "").expect("written");
        let mut names: Vec<_> = std::fs::read_dir(files.folder())
            .expect("the folder")
            .map(|entry| entry.expect("an entry").file_name())
            .collect();
        names.sort();
        let expected = [
            "ca.crt",
            "client.crt",
            "client.key",
            "config.ini",
            "prometheus_exporters.ini",
            "server.crt",
            "server.key",
        ];
        assert_eq!(names, expected);
        #[cfg(unix)]
        for (path, mode) in [
            (files.folder().to_owned(), 0o700),
            (files.folder().join("server.key"), 0o600),
            (files.folder().join("client.key"), 0o600),
        ] {
            use std::os::unix::fs::PermissionsExt as _;
            let is = path.metadata().expect("there").permissions().mode() & 0o777;
            assert_eq!(is, mode, "{}", path.display());
        }
        files.remove().expect("removed");
        assert_eq!(std::fs::read_dir(parent.path()).expect("there").count(), 0);
    }
}
