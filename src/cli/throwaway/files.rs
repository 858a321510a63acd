//! A private folder with all that a proxy needs, from which `scrapegate run -c` could run too.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use super::Certificates;
use crate::{
    cli::certs::{CA_CERTIFICATE, CLIENT_CERTIFICATE, CLIENT_KEY, SERVER_CERTIFICATE, SERVER_KEY},
    pki::{self, Access, Existing},
};

/// What stands in the file for a port that the system chooses, which is for the command line: in a
/// file, port 0 is a mistake.
const ANY_PORT: u16 = 3333;

const CONFIG: &str = "config.ini";
const EXPORTERS: &str = "prometheus_exporters.ini";

/// Certificates and both INI files in a folder that only its owner can enter. Dropped, it is
/// removed with all that is in it.
#[derive(Debug)]
pub(in crate::cli) struct Files {
    folder: TempDir,
}

impl Files {
    /// Writes everything to a new folder in `parent`.
    pub(in crate::cli) fn write(
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
            pki::write(&path, contents.as_bytes(), access, Existing::Keep)
        };
        let Certificates { authority, server, client } = certificates;
        // The CA's key stays in memory: nobody can sign with it once the demo is over.
        write(CA_CERTIFICATE, &authority.pair().certificate_pem, Access::Public)?;
        write(SERVER_CERTIFICATE, &server.certificate_pem, Access::Public)?;
        write(SERVER_KEY, &server.key_pem, Access::Private)?;
        write(CLIENT_CERTIFICATE, &client.certificate_pem, Access::Public)?;
        write(CLIENT_KEY, &client.key_pem, Access::Private)?;
        write(EXPORTERS, exporters_ini, Access::Public)?;
        write(CONFIG, &config_ini(listen), Access::Public)?;
        Ok(files)
    }

    /// Its absolute path.
    pub(in crate::cli) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The file for `scrapegate run -c`.
    pub(in crate::cli) fn config(&self) -> PathBuf {
        self.folder().join(CONFIG)
    }

    /// Removes it, and says so if that fails.
    pub(in crate::cli) fn remove(self) -> io::Result<()> {
        self.folder.close()
    }
}

fn config_ini(listen: SocketAddr) -> String {
    format!(
        "\
# Written by scrapegate, which removes it when it ends.

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
        let files = Files::write(parent.path(), &certificates, address, "").expect("written");
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
