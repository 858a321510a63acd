//! Certificates as an openITCOCKPIT server makes them: by OpenSSL, with RSA-4096 keys and a CA
//! certificate that is also the client certificate.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use tempfile::TempDir;

/// The kind of certificate that the agent got for its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AgentCertificate {
    /// With `subjectAltName` for localhost and 127.0.0.1.
    WithNames,
    /// Without any extension, which makes it an X.509 version 1 certificate.
    WithoutExtensions,
}

/// The files of one agent, and those of the server that scrapes it.
pub(crate) struct OpensslPki {
    folder: TempDir,
}

impl OpensslPki {
    /// The files that tests share while one of them runs, because each RSA key takes about a
    /// second. The last user removes the folder. A plain static would never be dropped.
    pub(crate) fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<OpensslPki>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let new = Arc::new(Self::new());
            *shared = Arc::downgrade(&new);
            new
        })
    }

    fn new() -> Self {
        let folder = TempDir::with_prefix("scrapegate-openssl-").expect("a temporary folder");
        let at = folder.path();
        fs::write(at.join("names.cnf"), "subjectAltName=DNS:localhost,IP:127.0.0.1\n")
            .expect("names.cnf written");

        let new_key = "-newkey rsa:4096 -nodes -keyout";
        openssl(
            at,
            &format!(
                "req -x509 {new_key} server_ca.key -out server_ca.pem -days 3650 \
                 -subj /CN=openITCOCKPIT -addext basicConstraints=critical,CA:TRUE"
            ),
        );
        openssl(at, &format!("req -new {new_key} agent.key -out agent.csr -subj /CN=localhost"));
        let sign = "x509 -req -in agent.csr -CA server_ca.pem -CAkey server_ca.key -days 3650";
        openssl(at, &format!("{sign} -set_serial 1 -out without_extensions.crt"));
        openssl(at, &format!("{sign} -set_serial 2 -extfile names.cnf -out with_names.crt"));
        Self { folder }
    }

    /// The CA certificate, which is also the scraper's client certificate.
    pub(crate) fn ca(&self) -> PathBuf {
        self.folder.path().join("server_ca.pem")
    }

    /// The key of the CA.
    pub(crate) fn ca_key(&self) -> PathBuf {
        self.folder.path().join("server_ca.key")
    }

    /// The agent's `config.ini` after enrollment.
    pub(crate) fn config_ini(&self, certificate: AgentCertificate) -> String {
        let certificate = match certificate {
            AgentCertificate::WithNames => "with_names.crt",
            AgentCertificate::WithoutExtensions => "without_extensions.crt",
        };
        let folder = self.folder.path().display();
        format!(
            "[default]\n\
             try-autossl = True\n\
             autossl-folder = {folder}\n\
             autossl-csr-file = {folder}/agent.csr\n\
             autossl-crt-file = {folder}/{certificate}\n\
             autossl-key-file = {folder}/agent.key\n\
             autossl-ca-file = {folder}/server_ca.pem\n\
             \n\
             [proxy]\n\
             log-format = json\n"
        )
    }
}

/// Runs `openssl` in `folder` with these arguments, which are separated by blanks.
pub(crate) fn openssl(folder: &Path, words: &str) {
    let output = Command::new("openssl")
        .args(words.split_whitespace())
        .current_dir(folder)
        .output()
        .expect("openssl runs");
    assert!(
        output.status.success(),
        "openssl {words}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}
