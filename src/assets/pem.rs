//! PEM files and secrets, with a finding for each that is wrong.

use std::path::PathBuf;

use rustls::pki_types::{
    CertificateDer, CertificateRevocationListDer, PrivateKeyDer,
    pem::{self, PemObject},
};
use time::OffsetDateTime;
use x509_parser::{parse_x509_certificate, parse_x509_crl};

use crate::{
    config::{Findings, Sourced},
    file::{self, Files},
};

/// Largest key or secret, in bytes.
const MAX_FILE: u64 = 1024 * 1024;

/// A bundle of 10 000 certificates is about 20 MB.
const MAX_BUNDLE: u64 = 64 * MAX_FILE;

/// Reads files and collects what is wrong with them.
pub(super) struct Reader<'a> {
    pub(super) findings: Findings,
    files: &'a mut Files,
}

impl<'a> Reader<'a> {
    pub(super) fn new(files: &'a mut Files) -> Self {
        Self { findings: Findings::default(), files }
    }

    /// Whether nothing has the file's name; that it appears is a change then.
    pub(super) fn is_missing(&mut self, file: &Sourced<PathBuf>) -> bool {
        matches!(self.files.read(&file.value, MAX_BUNDLE), Err(file::ReadError::Missing))
    }

    fn read(&mut self, file: &Sourced<PathBuf>, limit: u64) -> Option<Vec<u8>> {
        match self.files.read(&file.value, limit) {
            Ok(bytes) => Some(bytes),
            Err(error) => {
                self.findings.push(file.error(format!("{}: {error}", file.value.display())));
                None
            }
        }
    }

    /// All certificates of a file: at least one, and none that cannot be read.
    pub(super) fn certificates(
        &mut self,
        file: &Sourced<PathBuf>,
    ) -> Option<Vec<CertificateDer<'static>>> {
        let bytes = self.read(file, MAX_BUNDLE)?;
        self.all(file, "certificate", CertificateDer::pem_slice_iter(&bytes), |certificate| {
            parse_x509_certificate(certificate).is_ok_and(|(rest, _)| rest.is_empty())
        })
    }

    /// All CRLs of a file. One past its `nextUpdate` is warned about: it refuses every client.
    pub(super) fn revocation_lists(
        &mut self,
        file: &Sourced<PathBuf>,
        now: OffsetDateTime,
    ) -> Option<Vec<CertificateRevocationListDer<'static>>> {
        let bytes = self.read(file, MAX_BUNDLE)?;
        let items = CertificateRevocationListDer::pem_slice_iter(&bytes);
        let lists = self.all(file, "CRL", items, |list| parse_x509_crl(list).is_ok())?;
        let expired = lists.iter().any(|list| {
            parse_x509_crl(list).is_ok_and(|(_, list)| {
                list.next_update().is_some_and(|next| next.timestamp() < now.unix_timestamp())
            })
        });
        if expired {
            self.findings
                .push(file.warning("a CRL in it is past its nextUpdate: its clients are refused"));
        }
        Some(lists)
    }

    fn all<T>(
        &mut self,
        file: &Sourced<PathBuf>,
        what: &str,
        items: impl Iterator<Item = Result<T, pem::Error>>,
        is_sound: impl Fn(&T) -> bool,
    ) -> Option<Vec<T>> {
        let path = file.value.display();
        let mut all = Vec::new();
        for (index, item) in items.enumerate() {
            match item {
                Ok(item) if is_sound(&item) => all.push(item),
                Ok(_) | Err(_) => {
                    let number = index + 1;
                    let message = format!("{path}: {what} number {number} cannot be read");
                    self.findings.push(file.error(message));
                    return None;
                }
            }
        }
        if all.is_empty() {
            self.findings.push(file.error(format!("{path} holds no {what} in PEM form")));
            return None;
        }
        Some(all)
    }

    /// The one private key of a file that the world may not read.
    pub(super) fn key(&mut self, file: &Sourced<PathBuf>) -> Option<PrivateKeyDer<'static>> {
        let bytes = self.read(file, MAX_FILE)?;
        self.not_for_the_world(file);
        match PrivateKeyDer::from_pem_slice(&bytes) {
            Ok(key) => Some(key),
            Err(_) => {
                let path = file.value.display();
                self.findings.push(file.error(format!(
                    "{path} holds no private key in PEM form (an encrypted key cannot be used)"
                )));
                None
            }
        }
    }

    /// A password or token: the file's text without the line end.
    pub(super) fn secret(&mut self, file: &Sourced<PathBuf>) -> Option<String> {
        let bytes = self.read(file, MAX_FILE)?;
        self.not_for_the_world(file);
        let path = file.value.display();
        match String::from_utf8(bytes) {
            Ok(text) => {
                let secret = text.trim_end_matches(['\r', '\n']);
                if secret.is_empty() {
                    self.findings.push(file.error(format!("{path} is empty")));
                    return None;
                }
                Some(secret.to_owned())
            }
            Err(_) => {
                self.findings.push(file.error(format!("{path} is not UTF-8")));
                None
            }
        }
    }

    fn not_for_the_world(&mut self, file: &Sourced<PathBuf>) {
        if let Some(mode) = file::mode_if_open(&file.value) {
            self.findings.push(file.error(format!(
                "{path} can be read by everyone (mode {mode:04o}): chmod o-r {path}",
                path = file.value.display()
            )));
        }
    }
}
